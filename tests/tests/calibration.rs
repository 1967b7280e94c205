//! Calibration of cells through the real hub: scales that speak MQTT frame by frame, and transmitters on Modbus; and zeroing a
//! slot.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};
use simulator::modbus::{Bank, Faults, Framing, Line, Make, Scale, fault::FaultSpec};
use stockfold_tests::{Api, Device, Hub, Login, Transmitters, Version, hub, until};

/// A facility with one weighed slot and the device whose cell carries it. A unit has 100 g.
struct Bench {
    api: Api,
    facility: String,
    device: String,
    password: String,
}

impl Bench {
    fn open(api: &Api, facility: &str, profile: &str, cell: &Value) -> Self {
        let device = format!("{facility}-scale");
        let mut channel =
            json!({ "channel": "0", "slot": "slot", "division_mg": 1_000, "noise_mg": 500 });
        for (key, value) in cell.as_object().unwrap() {
            channel[key] = value.clone();
        }
        let sku = format!("{facility}-sku");
        let data = json!({
            "facilities": [{ "id": facility, "name": facility }],
            "shelves": [{ "facility": facility, "id": "shelf", "name": "Shelf" }],
            "slots": [{ "facility": facility, "id": "slot", "shelf": "shelf" }],
            "skus": [
                { "id": sku, "name": sku, "unit_weight_mg": 100_000, "unit_sigma_mg": 500 },
                { "id": format!("{sku}-scanned"), "name": "Counted by scans" },
            ],
            "planogram": [{ "facility": facility, "slot": "slot", "sku": sku, "source": "weight" }],
            "devices": [{ "facility": facility, "id": device, "profile": profile, "channels": [channel] }],
        });
        let made = api.post("/import?credentials=true", &data).good();
        let password = made["credentials"][0]["password"].as_str().unwrap().to_owned();
        Self { api: api.clone(), facility: facility.to_owned(), device, password }
    }

    fn connect(&self, hub: &Hub) -> Weigher {
        let login = Login { device: self.device.clone(), password: self.password.clone() };
        Weigher { device: Device::connected(hub.mqtt(), Version::V5, &login), seq: 0 }
    }

    fn path(&self, rest: &str) -> String {
        format!("/devices/{}/cells/0/calibration{rest}", self.device)
    }

    fn begin(&self) -> Value {
        self.api.post(&self.path(""), &json!({})).good()
    }

    fn step(&self, step: &str, body: &Value) -> Value {
        let done = self.api.post(&self.path(&format!("/{step}")), body);
        assert_eq!(done.status, 200, "{step}: {:#}", done.body);
        done.body
    }

    /// A step that is refused with this code and these words.
    fn refuses(&self, step: &str, body: &Value, status: u16, code: &str, words: &str) {
        let refused = self.api.post(&self.path(&format!("/{step}")), body);
        assert_eq!((refused.status, refused.code()), (status, code), "{step}: {:#}", refused.body);
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{step}: {detail}");
    }

    fn live(&self) -> Value {
        self.api.get(&self.path("")).good()["live"].clone()
    }

    /// Waits until the cell stands still at a raw reading.
    fn ready(&self, raw_mg: i64) {
        until(&format!("{} stands still at {raw_mg}", self.device), || {
            let live = self.live();
            (live["ready"] == true && live["raw_mg"] == raw_mg).then_some(())
        });
    }

    fn trouble(&self, name: &str) {
        until(&format!("{} is {name}", self.device), || {
            (self.live()["trouble"] == name).then_some(())
        });
    }

    fn quantity(&self) -> i64 {
        let (facility, sku) = (&self.facility, format!("{}-sku", self.facility));
        let lines = self.api.all(&format!("/stock?facility={facility}&sku={sku}"));
        lines.first().and_then(|line| line["quantity"].as_i64()).unwrap_or(0)
    }

    fn shows(&self, quantity: i64) {
        until(&format!("{} holds {quantity}", self.facility), || {
            (self.quantity() == quantity).then_some(())
        });
    }

    fn newest_explained(&self) -> Value {
        let path = format!("/movements?facility={}&order=desc&limit=1", self.facility);
        let newest = self.api.get(&path).good();
        let id = newest["items"][0]["id"].as_str().unwrap().to_owned();
        self.api.get(&format!("/movements/{id}/explain")).good()
    }
}

/// A scale on MQTT.
struct Weigher {
    device: Device,
    seq: u64,
}

impl Weigher {
    fn show(&mut self, grams: f64) {
        self.seq += 1;
        let raw = json!({ "seq": self.seq, "boot": "b", "values": { "g": grams, "ch": "0" } });
        self.device.reading("weight", raw.to_string().as_bytes());
    }

    /// Shows the same until the cell stands still.
    fn rest(&mut self, bench: &Bench, grams: f64) {
        let raw_mg = (grams * 1_000.0) as i64;
        until(&format!("{} stands still", bench.device), || {
            self.show(grams);
            let live = bench.live();
            (live["ready"] == true && live["raw_mg"] == raw_mg).then_some(())
        });
    }

    /// Shows the same until the stock is so.
    fn until_stock(&mut self, bench: &Bench, grams: f64, quantity: i64) {
        until(&format!("{} holds {quantity}", bench.facility), || {
            self.show(grams);
            (bench.quantity() == quantity).then_some(())
        });
    }
}

#[test]
fn empty_weight_verify_apply_on_a_scale_that_speaks_mqtt() {
    let hub = hub();
    // Nobody said what the empty slot shows: it is 1000 g, and half a gram for each gram.
    let bench = Bench::open(hub.api(), "wizard", "default", &json!({}));
    let mut scale = bench.connect(&hub);
    bench.refuses("empty", &json!({}), 404, "no_calibration", "none was begun");
    let begun = bench.begin();
    assert_eq!((&begun["step"], &begun["live"]["trouble"]), (&json!("empty"), &json!("silent")));
    bench.refuses("empty", &json!({}), 409, "cell_not_ready", "no reading came");
    // A second one has to wait, and is told for whom.
    let second = bench.api.post(&bench.path(""), &json!({}));
    assert_eq!((second.status, second.code()), (409, "calibration_taken"), "{:#}", second.body);
    for i in 0..6 {
        scale.show(1_000.0 + f64::from(i) * 40.0);
    }
    bench.refuses("empty", &json!({}), 409, "cell_not_ready", "mg apart");
    bench.refuses("weight", &json!({ "mass_mg": 500_000 }), 409, "calibration_step", "`empty`");
    scale.rest(&bench, 1_000.0);
    let empty = bench.step("empty", &json!({}));
    assert_eq!((&empty["step"], &empty["zero_mg"]), (&json!("weight"), &json!(1_000_000)));
    bench.refuses("verify", &json!({}), 409, "calibration_step", "`weight`");
    bench.refuses("apply", &json!({}), 409, "calibration_step", "`weight`");
    // Nothing was put on, too little was, and no mass at all.
    bench.refuses("weight", &json!({ "mass_mg": 500_000 }), 422, "weight_unfit", "heavier");
    scale.rest(&bench, 1_010.0);
    bench.refuses("weight", &json!({ "mass_mg": 20_000 }), 422, "weight_unfit", "heavier");
    bench.refuses("weight", &json!({ "mass_mg": 0 }), 422, "invalid", "not possible");
    scale.rest(&bench, 900.0);
    bench.refuses("weight", &json!({ "mass_mg": 500_000 }), 422, "weight_unfit", "fell by");
    scale.rest(&bench, 1_250.0);
    let weighed = bench.step("weight", &json!({ "mass_mg": 500_000 }));
    assert_eq!((&weighed["step"], &weighed["scale_ppm"]), (&json!("verify"), &json!(2_000_000)));
    assert_eq!(weighed["live"]["net_mg"], 500_000);
    // Another weight shows that it is off; it is not applied.
    scale.rest(&bench, 1_140.0);
    let off = bench.step("verify", &json!({ "mass_mg": 300_000 }));
    let verified = &off["verified"];
    assert_eq!((&verified["ok"], &verified["error_mg"]), (&json!(false), &json!(-20_000)));
    assert!((verified["error_percent"].as_f64().unwrap() + 6.667).abs() < 0.001, "{off:#}");
    bench.refuses("apply", &json!({}), 409, "calibration_off", "Nothing was applied");
    scale.rest(&bench, 1_250.0);
    assert_eq!(bench.step("verify", &json!({}))["verified"]["ok"], true);
    assert_eq!(bench.quantity(), 0, "nothing changes before it is applied");
    let applied = bench.api.post(&bench.path("/apply"), &json!({}));
    assert_eq!(applied.status, 201, "{:#}", applied.body);
    assert_eq!(
        (&applied.body["zero_mg"], &applied.body["slot"]),
        (&json!(1_000_000), &json!("slot"))
    );
    assert_eq!(bench.api.get(&bench.path("")).code(), "no_calibration", "it is over");
    // The weight is five units, and what is taken is counted right.
    scale.until_stock(&bench, 1_250.0, 5);
    scale.until_stock(&bench, 1_100.0, 2);
    let why = bench.newest_explained();
    let calibration = &why["calibration"];
    assert_eq!(
        (&calibration["zero_mg"], &calibration["scale_ppm"]),
        (&json!(1_000_000), &json!(2_000_000)),
        "{why:#}"
    );
    assert_eq!(calibration["set_by"], applied.body["principal"], "{why:#}");
    assert!(calibration["position"].is_string() && calibration["set_at"].is_string(), "{why:#}");
    assert!(why["narrative"].to_string().contains("less its zero of 1000 g, times 2"), "{why:#}");
    let kept = bench.api.all(&format!("/devices/{}/cells/0/calibrations", bench.device));
    assert_eq!(kept, [applied.body]);
    hub.is_sound();
}

#[test]
fn a_cell_that_cannot_be_believed_is_told_so() {
    let hub = hub();
    let cell = json!({ "capacity_mg": 2_000_000 });
    let bench = Bench::open(hub.api(), "capacity", "default", &cell);
    let mut scale = bench.connect(&hub);
    bench.begin();
    for _ in 0..8 {
        scale.show(2_500.0);
    }
    bench.refuses("empty", &json!({}), 409, "cell_not_ready", "more than its capacity");
    assert_eq!(bench.live()["trouble"], "overload");
    assert_eq!(bench.api.delete(&bench.path("")).status, 204);
    assert_eq!(bench.api.delete(&bench.path("")).code(), "no_calibration");
    let nowhere = bench.api.post("/devices/capacity-scale/cells/7/calibration", &json!({}));
    assert_eq!((nowhere.status, nowhere.code()), (404, "not_found"), "{:#}", nowhere.body);
    let nobody = bench.api.post("/devices/nobody/cells/0/calibration", &json!({}));
    assert_eq!(nobody.status, 404);
    for (body, field) in
        [(json!({ "idle_s": 0 }), "idle_s"), (json!({ "tolerance_mg": -1 }), "tolerance_mg")]
    {
        let wrong = bench.api.post(&bench.path(""), &body);
        assert_eq!((wrong.status, &wrong.body["field"]), (422, &json!(field)), "{:#}", wrong.body);
    }
}

#[test]
fn a_wizard_that_rests_too_long_is_dropped() {
    let hub = hub();
    let bench = Bench::open(hub.api(), "expired", "default", &json!({}));
    bench.api.post(&bench.path(""), &json!({ "idle_s": 1 })).good();
    until("the wizard is over", || {
        (bench.api.get(&bench.path("")).code() == "no_calibration").then_some(())
    });
    bench.refuses("empty", &json!({}), 404, "no_calibration", "rested too long");
    bench.begin();
}

/// A bank with this on its scale, changed while it is served.
fn put(line: &Line, scale: Scale) {
    let mut units = line.lock().unwrap_or_else(PoisonError::into_inner);
    units.get_mut(&1).unwrap().scales.fill(Some(scale));
}

fn still(grams: i64) -> Scale {
    Scale { mg: grams * 1_000, stable: true, ..Scale::default() }
}

fn on_bus(hub: &Hub, bench: &Bench, line: &Line) -> Transmitters {
    let served = Transmitters::serve(Framing::Tcp, Arc::clone(line));
    let address = format!("tcp://{}", served.address);
    let bus = json!({ "id": bench.facility, "facility": bench.facility, "address": address });
    hub.api().post("/buses", &bus).good();
    let place = json!({ "bus": bench.facility, "unit": 1 });
    hub.api().put(&format!("/devices/{}/bus", bench.device), &place).good();
    served
}

#[test]
fn a_cell_on_modbus_is_calibrated_and_its_faults_are_told() {
    let hub = hub();
    let bench = Bench::open(hub.api(), "modbus", "laumas-tlb", &json!({}));
    let line: Line =
        Arc::new(Mutex::new(BTreeMap::from([(1, Bank::new(Make::LaumasTlb, Faults::none()))])));
    put(&line, still(400));
    let _served = on_bus(&hub, &bench, &line);
    bench.begin();
    put(&line, Scale { overload: true, ..still(400) });
    bench.trouble("overload");
    bench.refuses("empty", &json!({}), 409, "cell_not_ready", "says overload");
    put(&line, Scale { broken: true, ..still(400) });
    bench.trouble("cell");
    put(&line, Scale { stable: false, ..still(400) });
    bench.trouble("moving");
    bench.refuses("empty", &json!({}), 409, "cell_not_ready", "does not stand still");
    put(&line, still(400));
    bench.ready(400_000);
    bench.step("empty", &json!({}));
    // 700 g show as 750.
    put(&line, still(1_150));
    bench.ready(1_150_000);
    bench.step("weight", &json!({ "mass_mg": 700_000 }));
    assert_eq!(bench.step("verify", &json!({}))["verified"]["ok"], true);
    assert_eq!(bench.api.post(&bench.path("/apply"), &json!({})).status, 201);
    bench.shows(7);
    hub.replays_equal();
}

#[test]
fn a_frozen_transmitter_cannot_be_calibrated() {
    let hub = hub();
    let bench = Bench::open(hub.api(), "icy", "flintec-ft-112", &json!({}));
    let stuck = FaultSpec { stuck: 1.0, ..FaultSpec::default() };
    let bank = Bank::new(Make::FlintecFt112, Faults::new(stuck, 1, 1));
    let line: Line = Arc::new(Mutex::new(BTreeMap::from([(1, bank)])));
    put(&line, still(400));
    let _served = on_bus(&hub, &bench, &line);
    bench.begin();
    bench.trouble("frozen");
    bench.refuses("empty", &json!({}), 409, "cell_not_ready", "repeats an old measurement");
}

#[test]
fn a_restart_keeps_what_was_applied_and_nothing_else() {
    let mut hub = Hub::start();
    let bench = Bench::open(hub.api(), "restart", "default", &json!({}));
    let mut scale = bench.connect(&hub);
    bench.begin();
    scale.rest(&bench, 0.0);
    bench.step("empty", &json!({}));
    scale.rest(&bench, 1_000.0);
    bench.step("weight", &json!({ "mass_mg": 500_000 }));
    bench.step("verify", &json!({}));
    assert_eq!(bench.api.post(&bench.path("/apply"), &json!({})).status, 201);
    scale.until_stock(&bench, 1_000.0, 5);
    bench.begin();
    let seq = scale.seq;
    drop(scale);
    hub.kill();
    hub.again();
    let bench = Bench { api: hub.api().clone(), ..bench };
    assert_eq!(bench.api.get(&bench.path("")).code(), "no_calibration");
    let kept = bench.api.all(&format!("/devices/{}/cells/0/calibrations", bench.device));
    assert_eq!(kept.len(), 1, "{kept:#?}");
    let mut scale = bench.connect(&hub);
    scale.seq = seq;
    // 200 show for each unit of 100 g.
    scale.until_stock(&bench, 600.0, 3);
    assert_eq!(bench.newest_explained()["calibration"]["scale_ppm"], 500_000);
    hub.replays_equal();
}

#[test]
fn a_slot_is_zeroed_unless_another_source_says_that_something_is_in_it() {
    let hub = hub();
    let bench = Bench::open(hub.api(), "zero", "default", &json!({ "zero_mg": 0 }));
    let mut scale = bench.connect(&hub);
    let zero = |key: &str, slot: &str, body: &Value| {
        bench.api.change(&format!("/facilities/zero/slots/{slot}/zero"), key, body)
    };
    let moving = zero("z-0", "slot", &json!({}));
    assert_eq!((moving.status, moving.code()), (422, "cell_not_settled"), "{:#}", moving.body);
    assert_eq!(zero("z-1", "nowhere", &json!({})).code(), "unknown_slot");
    // A new mat lies on the shelf and is taken for three units.
    scale.until_stock(&bench, 300.0, 3);
    let receipt = json!({ "slot": "slot", "sku": "zero-sku-scanned", "quantity": 2 });
    bench.api.change("/facilities/zero/receipts", "r-1", &receipt).good();
    let refused = zero("z-2", "slot", &json!({}));
    assert_eq!((refused.status, refused.code()), (422, "slot_not_empty"), "{:#}", refused.body);
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("2 of zero-sku-scanned are in slot, as counted by scan"), "{detail}");
    assert_eq!(bench.quantity(), 3);
    let done = zero("z-3", "slot", &json!({ "force": true }));
    assert_eq!(done.status, 201, "{:#}", done.body);
    assert_eq!(done.body["movements"][0]["delta"], -3, "{:#}", done.body);
    assert_eq!(zero("z-3", "slot", &json!({ "force": true })).body, done.body, "the same key");
    bench.shows(0);
    // What it shows when it next stands still is nothing; a wizard sees that too.
    bench.begin();
    scale.rest(&bench, 300.0);
    scale.until_stock(&bench, 500.0, 2);
    hub.is_sound();
}

#[test]
fn every_route_asks_who_calls_and_names_its_permission() {
    let hub = hub();
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json"));
    let openapi: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let nobody = hub.api().with_token("0000000000000000");
    let cell = "/devices/{device}/cells/{channel}/calibration";
    for (method, path, permission) in [
        ("post", String::new(), "devices:write"),
        ("get", String::new(), "devices:read"),
        ("delete", String::new(), "devices:write"),
        ("post", "/empty".into(), "devices:write"),
        ("post", "/weight".into(), "devices:write"),
        ("post", "/verify".into(), "devices:write"),
        ("post", "/apply".into(), "devices:write"),
        ("get", "s".into(), "devices:read"),
    ] {
        let operation = &openapi["paths"][format!("/api/v1{cell}{path}")][method];
        assert_eq!(operation["x-permission"], permission, "{method} {path}");
        let path = format!("/devices/d/cells/0/calibration{path}");
        let answer = match method {
            "get" => nobody.get(&path),
            "delete" => nobody.delete(&path),
            _ => nobody.post(&path, &json!({})),
        };
        assert_eq!(answer.status, 401, "{method} {path}");
    }
    let zero = &openapi["paths"]["/api/v1/facilities/{facility}/slots/{slot}/zero"]["post"];
    assert_eq!(zero["x-permission"], "stock:change");
    let zero = nobody.change("/facilities/f/slots/s/zero", "k", &json!({}));
    assert_eq!(zero.status, 401);
}

/// After it is applied the count is doubted until the cell has spoken, and the hub and its replay say so alike.
#[test]
fn a_calibration_that_nothing_follows_replays_equal() {
    let hub = Hub::start();
    let bench = Bench::open(hub.api(), "quiet", "default", &json!({ "zero_mg": 0 }));
    let mut scale = bench.connect(&hub);
    scale.until_stock(&bench, 800.0, 8);
    bench.begin();
    scale.rest(&bench, 0.0);
    bench.step("empty", &json!({}));
    scale.rest(&bench, 800.0);
    bench.step("weight", &json!({ "mass_mg": 800_000 }));
    bench.step("verify", &json!({}));
    assert_eq!(bench.api.post(&bench.path("/apply"), &json!({})).status, 201);
    hub.replays_equal();
    let lines = bench.api.all("/stock?facility=quiet");
    assert!(lines[0]["confidence"].as_f64().unwrap() < 0.5, "{lines:#?}");
}

/// Whoever calibrates a cell has its device before him: another one under its name is another.
#[test]
fn a_device_that_was_replaced_or_revoked_meanwhile_is_not_calibrated() {
    let hub = hub();
    let bench = Bench::open(hub.api(), "swapped", "default", &json!({}));
    let mut scale = bench.connect(&hub);
    bench.begin();
    scale.rest(&bench, 0.0);
    bench.step("empty", &json!({}));
    scale.rest(&bench, 500.0);
    bench.step("weight", &json!({ "mass_mg": 500_000 }));
    hub.api().post(&format!("/devices/{}/revoke", bench.device), &json!({})).good();
    bench.refuses("verify", &json!({}), 409, "cell_not_ready", "revoked");
    hub.api().post(&format!("/devices/{}/enable", bench.device), &json!({})).good();
    let mut scale = bench.connect(&hub);
    scale.rest(&bench, 500.0);
    bench.step("verify", &json!({}));
    // Read in another way from now on.
    let device = hub.api().get(&format!("/devices/{}", bench.device)).good();
    let changed = json!({ "devices": [{
        "id": device["id"], "facility": device["facility"], "profile": "generic-json",
        "channels": device["channels"],
    }] });
    hub.api().post("/import", &changed).good();
    bench.refuses("apply", &json!({}), 409, "calibration_step", "otherwise since");
}
