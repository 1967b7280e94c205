//! RFID readers beside a hub: those of the simulator, llrpkit's emulator, and what of them is in the journal.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::MutexGuard,
};

use device_profiles::llrp::{TagReads, frame_length};
use serde_json::{Value, json};
use simulator::llrp::{Config, Device, Served, Source, serve};

use crate::{Hub, Log, aside::Aside, journal, wait::WAIT_MAX, wait::until};

/// A simulated reader.
pub struct SimReader {
    /// Where it listens.
    pub address: SocketAddr,
    // Dropped before its thread ends.
    served: Served,
    _aside: Aside,
}

impl SimReader {
    /// Serves a reader.
    pub fn serve(config: Config, source: Source) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (served, aside) = Aside::start(move || serve(listener, config, source).unwrap());
        Self { address: served.address, served, _aside: aside }
    }

    /// The reader, to be looked at or spoiled.
    pub fn device(&self) -> MutexGuard<'_, Device> {
        self.served.device()
    }

    /// Drops its client.
    pub fn cut(&self) {
        self.served.cut();
    }

    /// Its address as a bus has it.
    pub fn url(&self) -> String {
        format!("llrp://{}", self.address)
    }
}

/// llrpkit's emulator: a reader that was not written here.
pub struct Llrpkit {
    child: Child,
    log: Log,
}

impl Llrpkit {
    /// Starts it with twelve tags that are read fifty times a second before four antennas.
    pub fn start(python: &Path, port: u16) -> Self {
        let program = python.with_file_name("llrpkit");
        let mut child = Command::new(program)
            .args(["emulate", "--tags", "12", "--rate", "50", "--antennas", "4", "--seed", "1"])
            .args(["--port", &port.to_string()])
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        let ready = log.wait_for(0, WAIT_MAX, |line| line.contains(&port.to_string()));
        assert!(ready.is_some(), "the emulator did not start: {}", log.text(0));
        Self { child, log }
    }

    /// What it printed.
    pub fn said(&self) -> String {
        self.log.text(0)
    }
}

impl Drop for Llrpkit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A facility whose devices are readers, each on a bus of its own name.
pub struct Portals<'a> {
    hub: &'a Hub,
    facility: String,
}

impl<'a> Portals<'a> {
    /// Makes the facility.
    pub fn open(hub: &'a Hub, facility: &str) -> Self {
        let data = json!({ "facilities": [{ "id": facility, "name": facility }] });
        hub.api().post("/import", &data).good();
        Self { hub, facility: facility.to_owned() }
    }

    /// Enrols a reader with a profile and gives it its address.
    pub fn add(&self, device: &str, profile: &str, address: &str) {
        self.add_looking(device, profile, address, 0);
    }

    /// The same, and so many of its antennas look at a zone.
    pub fn add_looking(&self, device: &str, profile: &str, address: &str, antennas: u16) {
        let (api, facility) = (self.hub.api(), &self.facility);
        let zone =
            json!({ "facility": facility, "id": "floor", "name": "Floor", "personality": "shelf" });
        let antenna = |port| json!({ "port": port, "zone": "floor", "outside": false });
        let data = json!({
            "zones": [zone],
            "devices": [{
                "facility": facility, "id": device, "name": device, "profile": profile,
                "antennas": (1..=antennas).map(antenna).collect::<Vec<_>>(),
            }],
        });
        let made = api.post("/import", &data);
        assert!(made.status < 300, "{:#}", made.body);
        let bus = json!({ "id": device, "facility": facility, "address": address });
        api.post("/buses", &bus).good();
        api.put(&format!("/devices/{device}/bus"), &json!({ "bus": device, "unit": 1 })).good();
    }

    /// A profile with a section `llrp`.
    pub fn profile(&self, name: &str, section: &str) {
        let text = format!(
            "name: {name}\ncodec: llrp\nllrp: {section}\nstreams:\n  reads: {{class: stock, dedupe: level, tags: {{patience_ms: 5000}}}}\n"
        );
        let made = self.hub.api().post_bytes("/profiles", text.as_bytes(), None);
        assert!(made.status < 300, "{:#}", made.body);
    }

    /// What the hub says of a reader.
    pub fn state(&self, device: &str) -> Value {
        self.hub.api().get(&format!("/buses/{device}")).good()
    }

    /// A figure of a reader.
    pub fn figure(&self, device: &str, name: &str) -> u64 {
        self.state(device)["reader"][name].as_u64().unwrap_or(0)
    }

    /// Waits until a reader is connected and set.
    pub fn is_up(&self, device: &str) {
        until(&format!("{device} is up"), || (self.state(device)["up"] == true).then_some(()));
    }

    /// Waits until the reader was heard to have read so many tags more.
    pub fn reads_more(&self, device: &str, more: u64) {
        let before = self.figure(device, "reads");
        until(&format!("{device} reads {more} tags more"), || {
            (self.figure(device, "reads") >= before + more).then_some(())
        });
    }

    /// Waits until the last error has these words.
    pub fn fails(&self, device: &str, words: &str) {
        until(&format!("{device} fails: {words}"), || {
            let told = self.state(device)["last_error"].as_str().unwrap_or_default().to_owned();
            told.contains(words).then_some(())
        });
    }

    /// Tags that are there.
    pub fn present(&self) -> Vec<Value> {
        self.hub.api().all(&format!("/facilities/{}/tags?present=true", self.facility))
    }

    /// Every message of a device in the journal, in order.
    pub fn journaled(&self, device: &str) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for file in journal::segments(&self.hub.journal_dir()) {
            for record in journal::records(&file).into_iter().filter(|record| record.is_frame) {
                if !record.payload.windows(device.len()).any(|w| w == device.as_bytes()) {
                    continue;
                }
                // The raw frame is the last of the payload, and says how long it is.
                let raw = (0..record.payload.len()).find_map(|at| {
                    let rest = &record.payload[at..];
                    let head = matches!(rest, [0x04, 61..=63, ..]);
                    (head && frame_length(rest) == Ok(Some(rest.len()))).then(|| rest.to_vec())
                });
                found.extend(raw);
            }
        }
        found
    }

    /// EPC and last time of every tag of a device in the journal.
    pub fn tags(&self, device: &str) -> Vec<(Vec<u8>, Option<u64>)> {
        let mut found = Vec::new();
        for frame in self.journaled(device).iter().filter(|frame| frame[1] == 61) {
            for read in TagReads::of(frame).unwrap().map_while(Result::ok) {
                let (device_profiles::llrp::Stamp::Utc(us)
                | device_profiles::llrp::Stamp::Uptime(us)) =
                    read.last_seen.unwrap_or(device_profiles::llrp::Stamp::Utc(0));
                found.push((read.epc.to_vec(), (us > 0).then_some(us)));
            }
        }
        found
    }
}
