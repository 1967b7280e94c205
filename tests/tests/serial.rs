//! What hangs on a serial line before the real hub: the simulated R200 module and the simulated barcode scanner, on ports that
//! are pulled and plugged in again, through noise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use device_profiles::{
    Tag,
    epc::{Epc, Form, Written},
};
use serde_json::{Value, json};
use simulator::{
    clock::WallClock,
    llrp::{Read, Source},
    serial::{Faults, Module, Port, Served},
};
use stockfold_tests::{
    Hub, Log, Login, SerialLine, Shop, WAIT_MAX, foreign, hub, stockfold_sim, until,
};

/// GTINs of the goods of each test: a GTIN is one SKU's in the whole hub.
const TAGGED: &str = "04006381333931";
const SCANNED: &str = "04006381333948";

/// A device of a facility on a port, and what the hub says of both.
struct OnLine<'a> {
    hub: &'a Hub,
    shop: Shop,
    login: Login,
}

impl<'a> OnLine<'a> {
    /// Makes a facility whose `slot-0` has goods of this GTIN, counted by `source`, and puts a device on a port.
    fn open(
        hub: &'a Hub,
        facility: &str,
        profile: &str,
        (gtin, source): (&str, &str),
        port: &Path,
    ) -> Self {
        let shop = Shop::open(hub.api(), facility, 2, 0);
        let (sku, device) = (format!("{facility}-pen"), format!("{facility}-1"));
        let line = |slot: &str| json!({ "facility": facility, "slot": slot, "sku": sku, "source": source });
        let mut enrolled =
            json!({ "facility": facility, "id": device, "profile": profile, "slot": "slot-0" });
        if source == "rfid" {
            enrolled = json!({
                "facility": facility, "id": device, "profile": profile,
                "antennas": [{ "port": 1, "zone": "floor", "slot": "slot-0", "outside": false }],
            });
        }
        let data = json!({
            "zones": [{ "facility": facility, "id": "floor", "name": "Floor", "personality": "shelf" }],
            "skus": [{ "id": sku, "name": "Pen", "gtin": gtin }],
            "planogram": [line("slot-0"), line("slot-1")],
            "devices": [enrolled],
        });
        hub.api().post("/import", &data).good();
        let address = format!("serial://{}?baud=115200", port.display());
        let bus = json!({ "id": facility, "facility": facility, "address": address });
        hub.api().post("/buses", &bus).good();
        let place = json!({ "bus": facility, "unit": 1 });
        hub.api().put(&format!("/devices/{device}/bus"), &place).good();
        Self { hub, shop, login: Login { device, password: String::new() } }
    }

    fn state(&self) -> Value {
        self.hub.api().get(&format!("/buses/{}", self.shop.facility)).good()
    }

    fn is_up(&self, up: bool) {
        until(&format!("the port of {} is up: {up}", self.shop.facility), || {
            (self.state()["up"] == up).then_some(())
        });
    }

    fn figure(&self, name: &str) -> u64 {
        self.state()["units"][0][name].as_u64().unwrap()
    }

    /// Everything that was handed to the journal left the fold by one exit, and was applied.
    fn is_accounted_for(&self) {
        let delivered = self.figure("delivered");
        let exits = self.shop.ledger(&self.login, delivered);
        assert_eq!(exits.applied, delivered, "{exits:?} {:#?}", self.shop.refused(&self.login));
    }
}

/// Units of a GTIN, each heard in every round.
fn pens(gtin: &str, serials: &[u64]) -> (Vec<String>, Source) {
    let pen = |serial: &u64| {
        let epc = Epc::sgtin(gtin, 7, &serial.to_string()).unwrap();
        Tag::of_bytes(&Written { epc, filter: 1, form: Form::Sgtin96 }.encode().unwrap()).unwrap()
    };
    let tags: Vec<Tag> = serials.iter().map(pen).collect();
    let names = tags.iter().map(ToString::to_string).collect();
    let source = move |_, at_us| {
        let read = |tag: &Tag| Read { at_us, antenna: 1, tag: *tag, rssi_cdbm: -5_200 };
        tags.iter().map(read).collect()
    };
    (names, Box::new(source))
}

#[test]
fn a_module_s_tags_arrive_through_noise_and_a_pulled_port() {
    let hub = hub();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("by-id");
    // In the second the bytes that begin and end a frame, 7E BB 7E; in the third those of the other marks, DD AA DD.
    let (names, source) = pens(TAGGED, &[1, 0x7E_BB7E, 0xDD_AADD]);
    assert!(names[1].ends_with("7EBB7E") && names[2].ends_with("DDAADD"), "{names:?}");
    let mut module = Module::new(source, 7, WallClock::start().unix_us());
    module.faults = Faults { noise: 0.3, wrong_sum: 0.3, mute: false };
    let served = Served::start(module, Port::open(&path).unwrap()).unwrap();
    let line = OnLine::open(&hub, "module", "r200", (TAGGED, "rfid"), &path);

    let events = || hub.api().all("/facilities/module/tag-events");
    until("every tag arrives", || {
        let arrived = events();
        names
            .iter()
            .all(|name| arrived.iter().any(|e| e["tag"] == name.as_str() && e["kind"] == "arrived"))
            .then_some(())
    });
    until("each is a unit of the slot", || {
        (line.shop.quantity("slot-0", "module-pen") == 3).then_some(())
    });
    let garbled = line.figure("garbled");
    assert!(garbled > 0 && served.with(|module| module.spoiled) > 0);

    for connects in [2, 3] {
        served.pull();
        line.is_up(false);
        assert_ne!(line.state()["last_error"], "");
        let delivered = line.figure("delivered");
        served.plug().unwrap();
        line.is_up(true);
        // It has forgotten what it was doing, and is told again.
        until("it is heard again", || (line.figure("delivered") > delivered).then_some(()));
        assert_eq!(line.state()["connects"], connects);
    }
    assert!(line.figure("garbled") >= garbled, "what was counted stays counted");
    // Nothing but what is there came of all the noise: no other tag, no other unit.
    drop(served);
    line.is_up(false);
    line.is_accounted_for();
    for event in events() {
        assert!(names.contains(&event["tag"].as_str().unwrap().to_owned()), "{event:#}");
    }
    assert_eq!(line.shop.quantity("slot-0", "module-pen"), 3);
    hub.is_sound();
}

/// The simulator's program with something on a port; it ends with this.
struct Simulated {
    child: Child,
    keys: ChildStdin,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Simulated {
    fn start(what: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device");
        let mut child = Command::new(stockfold_sim())
            .args(["serial", what, "--port"])
            .arg(&path)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        let address = format!("serial://{}?baud=", path.display());
        let told = log.wait_for(0, WAIT_MAX, |line| line.starts_with(&address));
        assert!(told.is_some(), "{}", log.text(0));
        let keys = child.stdin.take().unwrap();
        Self { child, keys, path, _dir: dir }
    }

    fn scan(&mut self, code: &str) {
        writeln!(self.keys, "{code}").unwrap();
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_scanner_receives_picks_and_counts_for_its_operator() {
    let Some(socat) = foreign("scanner", "socat") else { return };
    let hub = hub();
    let mut scanner = Simulated::start("scanner", &["--ending", "cr"]);
    let mut adapter = SerialLine::onto(&socat, &scanner.path);
    let line =
        OnLine::open(&hub, "scanner", "scanner-line", (SCANNED, "scan"), &adapter.end("master"));
    line.is_up(true);
    let shows = |slot: &str, quantity: i64| {
        until(&format!("{slot} has {quantity}"), || {
            (line.shop.quantity(slot, "scanner-pen") == quantity).then_some(())
        });
    };
    let movements = || hub.api().all("/movements?facility=scanner");
    // The same item in three writings, since a scan that comes again at once is a bounce.
    let [plain, aim, elements] =
        [&SCANNED[1..], &format!("]E0{}", &SCANNED[1..]), &format!("]C101{SCANNED}21abc")];

    // A person at a desk says that Ann receives.
    let told = json!({ "mode": "receive", "operator": "ann" });
    hub.api().put("/devices/scanner-1/scanner", &told).good();
    for code in [plain, aim, elements, plain] {
        scanner.scan(code);
    }
    shows("slot-0", 4);
    // Bo takes the scanner, and picks from the other slot.
    for code in ["STOCKFOLD:WHO:bo", "STOCKFOLD:SLOT:slot-1", "STOCKFOLD:RECEIVE", plain, aim] {
        scanner.scan(code);
    }
    shows("slot-1", 2);
    for code in ["STOCKFOLD:PICK", plain] {
        scanner.scan(code);
    }
    shows("slot-1", 1);
    let whys: Vec<Value> = movements()
        .iter()
        .map(|m| hub.api().get(&format!("/movements/{}/explain", m["id"].as_str().unwrap())).good())
        .collect();
    let mut operated: Vec<(u64, &str, u64)> = whys
        .iter()
        .map(|why| {
            let (evidence, seq) = (&why["evidence"][0], why["movement"]["seq"].as_u64().unwrap());
            let operator = &evidence["operator"];
            let (who, since) = (operator["who"].as_str().unwrap(), operator["since_seq"].as_u64());
            let told = why["narrative"].to_string();
            assert!(told.contains(&format!("Operator {who} had the scanner")), "{told}");
            (seq, who, since.unwrap())
        })
        .collect();
    operated.sort_unstable();
    let (ann, bo) = (|seq| (seq, "ann", 1), |seq| (seq, "bo", 5));
    assert_eq!(operated, [ann(1), ann(2), ann(3), ann(4), bo(5), bo(6), bo(7)]);

    // A count goes item by item. What is scanned while the adapter is pulled is nobody's; what was scanned before is not lost.
    for code in ["STOCKFOLD:COUNT", plain, aim, elements] {
        scanner.scan(code);
    }
    shows("slot-1", 3);
    adapter.pull();
    line.is_up(false);
    assert_ne!(line.state()["last_error"], "");
    adapter.plug();
    line.is_up(true);
    assert_eq!(line.state()["connects"], 2);
    scanner.scan(plain);
    shows("slot-1", 4);
    // Who does not say it right is not believed.
    scanner.scan("]C10104006381333949");
    until("it is refused", || {
        line.shop
            .refused(&line.login)
            .first()
            .is_some_and(|r| r["reason"] == "not_message")
            .then_some(())
    });
    let delivered = line.figure("delivered");
    let exits = line.shop.ledger(&line.login, delivered);
    assert_eq!((delivered, exits.applied, exits.rejected), (12, 11, 1), "{exits:?}");
    hub.is_sound();
}

#[test]
fn a_killed_hub_goes_on_with_what_its_scanner_was_told_and_counts_nothing_twice() {
    let Some(socat) = foreign("scanner-killed", "socat") else { return };
    let mut hub = Hub::start();
    let mut scanner = Simulated::start("scanner", &[]);
    let adapter = SerialLine::onto(&socat, &scanner.path);
    let goods = (SCANNED, "scan");
    let line = OnLine::open(&hub, "killed", "scanner-line", goods, &adapter.end("master"));
    line.is_up(true);
    let shows = |hub: &Hub, quantity: i64| {
        until(&format!("the slot has {quantity}"), || {
            let lines = hub.api().all("/stock?facility=killed&slot=slot-0");
            let told = lines.first().and_then(|line| line["quantity"].as_i64());
            (told == Some(quantity)).then_some(())
        });
    };
    let codes = [&SCANNED[1..], &format!("]E0{}", &SCANNED[1..])];
    let tell = |hub: &Hub, mode: &str| {
        let told = json!({ "mode": mode, "slot": null, "operator": "ann" });
        assert_eq!(hub.api().put("/devices/killed-1/scanner", &told).good(), told);
        told
    };
    let told = tell(&hub, "receive");
    codes.into_iter().for_each(|code| scanner.scan(code));
    shows(&hub, 2);
    hub.kill();
    // Its line holds what is scanned while nobody reads.
    codes.into_iter().for_each(|code| scanner.scan(code));
    hub.again();
    shows(&hub, 4);
    assert_eq!(hub.api().get("/devices/killed-1/scanner").good(), told);
    // A command that was scanned is written down at once: what follows it would be booked the wrong way.
    let from = hub.log().len();
    scanner.scan("STOCKFOLD:PICK");
    let written = |line: &str| line.contains("what its operator does") && line.contains("pick");
    assert!(hub.log().wait_for(from, WAIT_MAX, written).is_some());
    hub.kill();
    hub.again();
    // Another writing, lest the count's first be its bounce.
    scanner.scan(&format!("]C101{SCANNED}21abc"));
    shows(&hub, 3);
    // A count that was under way is over: it would say that one is there where three are.
    tell(&hub, "count");
    codes.into_iter().for_each(|code| scanner.scan(code));
    shows(&hub, 2);
    hub.kill();
    hub.again();
    scanner.scan(codes[0]);
    let refused = until("it is refused", || {
        let rows = hub.api().all("/quarantine?facility=killed");
        (!rows.is_empty()).then_some(rows)
    });
    assert_eq!((refused.len(), &refused[0]["reason"]), (1, &json!("missing_field")));
    shows(&hub, 2);
    hub.replays_equal();
}

#[test]
fn the_simulated_module_is_served_on_a_port_of_its_own() {
    let hub = hub();
    let args = ["--tags", "5", "--rate", "100", "--noise", "0.2", "--wrong-sum", "0.2"];
    let module = Simulated::start("r200", &args);
    let line = OnLine::open(&hub, "crowd", "r200", ("04006381333955", "rfid"), &module.path);
    until("its tags arrive", || {
        (hub.api().all("/facilities/crowd/tags?present=true").len() == 5).then_some(())
    });
    drop(module);
    line.is_up(false);
    line.is_accounted_for();
}
