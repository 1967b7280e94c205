//! The crash ring's cruel half: the real binary whose system calls fail or kill it, and a disk that is full.
//!
//! `strace` is attached to the one thread that writes the journal, so that a fault hits exactly the call that is meant. The
//! oracle is the device: it counts the readings whose PUBACK it saw, and sends again what was not acknowledged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test may panic, print and measure real time"
)]

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stockfold_tests::{Device, Hub, Incoming, Log, Login, Setup, Shop, Version, foreign, until};

/// A process that finds its journal broken ends within this.
const ABORT_MAX: Duration = Duration::from_secs(2);
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
/// Readings until a fault must have come.
const READINGS_MAX: u64 = 1_000;

/// A hub, its shop, and a device that remembers what it was promised.
struct Scene {
    hub: Hub,
    shop: Shop,
    login: Login,
    /// Readings acknowledged; each is one unit.
    acknowledged: u64,
}

impl Scene {
    fn new(hub: Hub) -> Self {
        let shop = Shop::open(hub.api(), "faults", 1, 1);
        let login = shop.enrol("faulty");
        Self { hub, shop, login, acknowledged: 0 }
    }

    fn device(&self) -> Device {
        Device::connected(self.hub.mqtt(), Version::V5, &self.login)
    }

    fn reading(&self) -> (String, Vec<u8>) {
        let seq = self.acknowledged + 1;
        let reading = json!({ "seq": seq, "boot": "b", "values": { "sku": "sku-0", "delta": 1 } });
        (format!("stockfold/v1/{}/stock", self.login.device), reading.to_string().into_bytes())
    }

    /// Sends readings one by one until the hub is gone; how many were acknowledged.
    fn until_it_ends(&mut self) -> u64 {
        let mut device = self.device();
        for acknowledged in 0..READINGS_MAX {
            let (topic, payload) = self.reading();
            match device.publish(&topic, &payload) {
                Ok(code) => assert_eq!(code, 0),
                Err(_) => return acknowledged,
            }
            self.acknowledged += 1;
        }
        panic!("{READINGS_MAX} readings, and the fault did not come");
    }

    /// Sends some readings, each acknowledged; the first may be one that the hub has already.
    fn tells(&mut self, readings: u64) {
        let mut device = self.device();
        for _ in 0..readings {
            let (topic, payload) = self.reading();
            assert_eq!(device.publish(&topic, &payload), Ok(0));
            self.acknowledged += 1;
        }
    }

    /// It starts again, has everything that was acknowledged exactly once, takes more, and replays equal.
    fn recovers(&mut self) {
        self.hub.again();
        let found = until("all that was acknowledged is in stock", || {
            let quantity = self.shop.quantity("slot-0", "sku-0").unsigned_abs();
            (quantity >= self.acknowledged).then_some(quantity)
        });
        // The one under way may have been written; it was not promised, and is sent again.
        assert!(found <= self.acknowledged + 1, "{found} of {}", self.acknowledged);
        self.tells(3);
        until("the new readings are in stock", || {
            (self.shop.quantity("slot-0", "sku-0").unsigned_abs() == self.acknowledged)
                .then_some(())
        });
        self.hub.replays_equal();
        println!("{} acknowledged, all there once", self.acknowledged);
    }
}

/// The thread of a process that writes the journal.
fn journal_writer(pid: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let writer = tasks.map(|task| task.unwrap().path()).find(|task| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "journal-write")
    });
    writer.expect("a thread writes the journal").file_name().unwrap().to_string_lossy().into_owned()
}

/// `strace` on the journal's writer.
struct Strace(Child);

impl Strace {
    /// Attaches; `None`, and a line that says so, when this user or machine may not.
    fn attach(test: &str, hub: &Hub, inject: &str) -> Option<Self> {
        let strace = foreign(test, "strace")?;
        let mut child = Command::new(strace)
            .args(["-o", "/dev/null", "-p", &journal_writer(hub.pid()), "-e"])
            .arg(format!("inject={inject}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::default();
        log.follow(child.stderr.take().unwrap());
        let attached = log.wait_for(0, Duration::from_secs(10), |line| line.contains("attached"));
        if attached.is_none() {
            println!("SKIP {test}: strace cannot attach here: {}", log.text(0));
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        Some(Self(child))
    }
}

impl Drop for Strace {
    /// It ends with its thread; a test that failed before ends it here.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_failed_sync_aborts_and_nothing_is_acknowledged_after_it() {
    let mut scene = Scene::new(Hub::start());
    scene.tells(5);
    for nth in [1, 4, 11] {
        let inject = format!("fdatasync:error=EIO:when={nth}");
        let test = "a_failed_sync_aborts_and_nothing_is_acknowledged_after_it";
        let Some(strace) = Strace::attach(test, &scene.hub, &inject) else { return };
        let acknowledged = scene.until_it_ends();
        let noticed = Instant::now();
        let status = scene.hub.wait();
        println!(
            "EIO at sync {nth}: {acknowledged} acknowledged, ended {} ms later by signal {:?}",
            noticed.elapsed().as_millis(),
            status.signal()
        );
        drop(strace);
        assert_eq!(status.signal(), Some(SIGABRT));
        assert!(noticed.elapsed() < ABORT_MAX);
        assert_eq!(
            acknowledged,
            nth - 1,
            "one sync a reading; the failed one acknowledges nothing"
        );
        let told = scene.hub.log().text(0);
        assert!(told.contains("the journal cannot be written"), "it says why");
        scene.recovers();
    }
}

#[test]
fn a_kill_at_any_write_or_sync_loses_nothing_acknowledged() {
    let mut scene = Scene::new(Hub::start());
    scene.tells(5);
    for (call, nth) in
        [("pwrite64", 1), ("fdatasync", 1), ("pwrite64", 7), ("fdatasync", 7), ("fdatasync", 30)]
    {
        let inject = format!("{call}:signal=KILL:when={nth}");
        let test = "a_kill_at_any_write_or_sync_loses_nothing_acknowledged";
        let Some(strace) = Strace::attach(test, &scene.hub, &inject) else { return };
        let acknowledged = scene.until_it_ends();
        let status = scene.hub.wait();
        drop(strace);
        println!("KILL at {call} {nth}: {acknowledged} acknowledged");
        assert_eq!(status.signal(), Some(SIGKILL));
        assert_eq!(acknowledged, nth - 1);
        scene.recovers();
    }
}

/// A small file system over a directory, gone with the test.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, bytes: u64) -> Option<Self> {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }

    fn resize(&self, bytes: u64) {
        let remount = format!("remount,size={bytes}");
        let status = Command::new("mount").args(["-o", &remount]).arg(&self.0).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: after a failure the hub may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

const SEGMENT_BYTES: u64 = 64 << 20;
/// "Quota exceeded": what MQTT 5 says when there is no room.
const QUOTA: u8 = 0x97;
/// Segments that found no space.
const NO_SPACE: &str = "stockfold_journal_no_space_total";
/// Below the endpoint's limit of a packet.
const PAD_BYTES: usize = 100_000;

fn check(ready: &Value, name: &str) -> Value {
    let checks = ready["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap().clone()
}

#[test]
fn a_full_disk_waits_reads_stay_up_and_nothing_acknowledged_is_lost() {
    let test = "a_full_disk_waits_reads_stay_up_and_nothing_acknowledged_is_lost";
    // Only space is meant to refuse here, not the watermarks before it.
    let setup = ["ALERT", "REFUSE_TELEMETRY", "REFUSE"]
        .iter()
        .fold(Setup::default(), |setup, key| setup.set(&format!("JOURNAL__{key}_PERCENT"), 100));
    let mut scene = Scene::new(Hub::with(setup));
    scene.tells(5);
    assert!(scene.hub.stop().success());
    // The journal moves to a disk with room for the segment in use and a half.
    let dir = scene.hub.journal_dir();
    let first = dir.join("000000000000.segment");
    let segment = fs::read(&first).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    let Some(disk) = Mounted::tmpfs(&dir, SEGMENT_BYTES * 3 / 2) else {
        println!("SKIP {test}: only root may mount a small disk");
        return;
    };
    fs::write(&first, segment).unwrap();
    scene.hub.again();

    // The same long reading again and again: it costs space and nothing else.
    let login = scene.shop.enrol("filler");
    let mut filler = Device::connected(scene.hub.mqtt(), Version::V5, &login);
    let reading = json!({ "seq": 1, "boot": "filler", "values": { "t": 1 } }).to_string();
    let padded = format!("{reading}{}", " ".repeat(PAD_BYTES));
    let topic = "stockfold/v1/filler/climate";
    let (filled, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let (mut device, id) = std::thread::scope(|scope| {
        let filling = scope.spawn(|| {
            while !enough.load(Relaxed) {
                taken(&mut filler, topic, padded.as_bytes());
                filled.fetch_add(1, Relaxed);
            }
        });
        let full = until("the hub says that its journal has no space", || {
            let ready = scene.hub.api().get_any("/readyz");
            (check(&ready.body, "journal")["ok"] == false).then_some(ready)
        });
        let before = filled.load(Relaxed);
        println!("the disk was full after {before} readings of {PAD_BYTES} bytes");
        assert!(before > 500, "{before} are no segment");
        assert_eq!(full.status, 503, "{:#}", full.body);
        let detail = check(&full.body, "journal")["detail"].to_string();
        assert!(detail.contains("free some disk space"), "{detail}");
        // Reads go on; a reading that comes now waits.
        assert_eq!(scene.hub.api().get_any("/healthz").status, 200);
        let quantity = scene.shop.quantity("slot-0", "sku-0").unsigned_abs();
        assert_eq!(quantity, scene.acknowledged);
        let mut device = scene.device();
        let (topic, payload) = scene.reading();
        let id = device.publish_only(&topic, &payload);
        let tries = scene.hub.api().metric(NO_SPACE);
        until("the hub looks for space again and again", || {
            (scene.hub.api().metric(NO_SPACE) >= tries + 3.0).then_some(())
        });
        assert_eq!(filled.load(Relaxed), before, "nothing is acknowledged without space");

        // Room again, and everything that waited is answered, without a restart.
        let began = Instant::now();
        disk.resize(SEGMENT_BYTES * 8);
        until("what waited is acknowledged", || (filled.load(Relaxed) > before).then_some(()));
        println!("it went on {} ms after there was room", began.elapsed().as_millis());
        enough.store(true, Relaxed);
        filling.join().unwrap();
        (device, id)
    });
    // Whether it waited or was refused for want of space, now it is taken.
    if answer(&mut device, id) == QUOTA {
        let (topic, payload) = scene.reading();
        taken(&mut device, &topic, &payload);
    }
    scene.acknowledged += 1;
    until("the hub is ready again", || {
        (scene.hub.api().get_any("/readyz").status == 200).then_some(())
    });
    scene.hub.kill();
    scene.recovers();
    // The mount can go once nobody uses it, and must before its directory.
    assert!(scene.hub.stop().success());
    drop(disk);
}

/// What a publish is answered with.
fn answer(device: &mut Device, wanted: u16) -> u8 {
    loop {
        match device.receive() {
            Some(Incoming::PubAck { id, code }) if id == wanted => return code,
            Some(_) => {}
            None => panic!("the hub closed the connection"),
        }
    }
}

/// Publishes as a device does that is told to come back when there is room.
fn taken(device: &mut Device, topic: &str, payload: &[u8]) {
    until("there is room for a reading", || match device.publish(topic, payload) {
        Ok(0) => Some(()),
        Ok(QUOTA) => None,
        other => panic!("answered with {other:?}"),
    });
}
