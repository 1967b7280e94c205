//! End to end, with the real binary: from a device's bytes to figures, their explanation and the live feed; and what a stop
//! or a kill under load leaves behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test may panic, print and measure real time"
)]

#[path = "flow/live.rs"]
mod live;
#[path = "flow/load.rs"]
mod load;

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use live::Live;
use serde_json::{Value, json};
use stockfold_tests::{Device, Hub, Login, Ran, Shop, Version, stockfold, stockfold_sim, until};

/// From a device's PUBACK to the movement in the feed.
const FEED_MAX: Duration = Duration::from_secs(1);

/// The simulator plays a small shop for a while and then judges the hub.
#[test]
fn a_played_shop_is_right() {
    let hub = Hub::start();
    let token = fs::read_to_string(hub.data_dir().join("admin-token")).unwrap();
    let played = Ran::of(
        Command::new(stockfold_sim())
            .args([
                "play", "demo", "--for", "22", "--speed", "2", "--verify", "--json", "--seed", "7",
            ])
            .args(["--hub", hub.api().origin(), "--mqtt", &hub.mqtt().to_string()])
            .env("STOCKFOLD_TOKEN", token.trim()),
    );
    println!("{}", played.out);
    let verdict: Value = serde_json::from_str(&played.good().out).unwrap();
    assert!(verdict["acknowledged"].as_u64().unwrap() > 100, "something was played");
    assert_eq!([&verdict["lost"], &verdict["counted_twice"], &verdict["unbooked"]], [0, 0, 0]);
    hub.replays_equal();
}

/// A scale over one slot, ten packs of 100 g each to a kilogram.
fn scale(hub: &Hub) -> (Shop, Login) {
    let shop = Shop::open(hub.api(), "flow", 1, 1);
    let channel = json!({
        "channel": "0", "slot": "slot-0", "division_mg": 1_000, "noise_mg": 1_000, "zero_mg": 0,
    });
    let data = json!({
        "planogram": [{ "facility": "flow", "slot": "slot-0", "sku": "sku-0", "source": "weight" }],
        "devices": [{ "id": "scale", "facility": "flow", "channels": [channel] }],
    });
    let made = hub.api().post("/import?credentials=true", &data).good();
    let password = made["credentials"][0]["password"].as_str().unwrap().to_owned();
    (shop, Login { device: "scale".into(), password })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_weighed_movement_explains_itself_down_to_the_bytes() {
    let hub = Hub::start();
    let (_, login) = scale(&hub);
    let mut device = Device::connected(hub.mqtt(), Version::V3, &login);
    let mut sent = Vec::new();
    for (seq, grams, moved) in [(1, 1_000, 10), (2, 700, -3)] {
        // As this device happens to write it: the bytes are kept as they are.
        let raw =
            format!(r#"{{ "values":{{"stable" :true,"g": {grams}.0}},"seq":{seq},  "boot":"b"}}"#);
        device.reading("weight", raw.as_bytes());
        sent.push(raw);
        // It speaks on change only; the hub finds by silence that the cell has settled.
        let movement = until("the cell settles", || {
            let told = hub.api().all("/movements?facility=flow&order=asc");
            told.into_iter().nth(seq - 1)
        });
        assert_eq!((&movement["delta"], &movement["cause"]), (&json!(moved), &json!("weight")));
        let id = movement["id"].as_str().unwrap();
        let explained = hub.api().get(&format!("/movements/{id}/explain")).good();
        let evidence = explained["evidence"].as_array().unwrap();
        let frames: Vec<&Value> = evidence.iter().filter(|e| e["kind"] == "frame").collect();
        let told: Vec<&str> = frames.iter().map(|e| e["raw_hex"].as_str().unwrap()).collect();
        // The plateau after, and from the second one on the plateau before.
        let wanted: Vec<String> = sent.iter().map(|raw| hex(raw.as_bytes())).collect();
        for raw in &wanted {
            assert!(told.contains(&raw.as_str()), "{raw} is no evidence: {explained:#}");
        }
        assert!(told.iter().all(|raw| wanted.iter().any(|w| w == raw)), "{explained:#}");
        for frame in frames {
            assert_eq!(frame["device"], "scale");
            assert_eq!(frame["profile_hash"].as_str().unwrap().len(), 64);
            assert!(frame["decoded"].is_object() || frame["decoded"].is_array(), "{frame:#}");
        }
        assert_eq!(explained["sku_now"]["id"], "sku-0");
        assert_eq!(explained["unit_weight_used_mg"], explained["sku_now"]["unit_weight_mg"]);
        assert!(!explained["narrative"].as_array().unwrap().is_empty());
        assert!(!explained["calibration"].is_null(), "{explained:#}");
        assert_eq!(explained["fold_version"], movement["fold_version"]);
    }
}

#[test]
fn readings_of_a_sensor_are_a_series() {
    let hub = Hub::start();
    let shop = Shop::open(hub.api(), "flow", 1, 1);
    let login = shop.enrol("air");
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    let values: Vec<f64> = (0..50).map(|n| 18.0 + f64::from(n) / 4.0).collect();
    for (seq, value) in values.iter().enumerate() {
        let reading =
            json!({ "seq": seq + 1, "boot": "b", "values": { "t": value, "open": true } });
        device.reading("climate", reading.to_string().as_bytes());
    }
    let series = until("every reading is in the series", || {
        let found = hub.api().all("/devices/air/readings?name=climate.t");
        (found.len() >= values.len()).then_some(found)
    });
    let mut told: Vec<f64> = series.iter().map(|point| point["value"].as_f64().unwrap()).collect();
    told.sort_by(f64::total_cmp);
    assert_eq!(told, values, "each once, as it was measured");
    assert!(series.iter().all(|p| p["device"] == "air" && p["name"] == "climate.t"));
    let doors = hub.api().all("/devices/air/readings?name=climate.open");
    assert!(doors.iter().all(|point| point["value"] == 1.0) && !doors.is_empty());
}

#[test]
fn the_feed_tells_a_snapshot_and_then_each_change_within_a_second() {
    let hub = Hub::start();
    let shop = Shop::open(hub.api(), "flow", 1, 2);
    let login = shop.enrol("handheld");
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    device.stock(1, "b", "sku-0", 7);
    until("the first reading is in stock", || {
        (shop.quantity("slot-0", "sku-0") == 7).then_some(())
    });
    let token = fs::read_to_string(hub.data_dir().join("admin-token")).unwrap();
    let mut live = Live::open(hub.http(), "/api/v1/live?facility=flow", token.trim());
    let first = live.message();
    assert_eq!(first["type"], "snapshot", "{first:#}");
    let mut lines: BTreeMap<String, i64> = BTreeMap::new();
    let mut take = |message: &Value| {
        for line in message["stock"].as_array().into_iter().flatten() {
            let sku = line["sku"].as_str().unwrap().to_owned();
            lines.insert(sku, line["quantity"].as_i64().unwrap());
        }
        lines.clone()
    };
    assert_eq!(take(&first), BTreeMap::from([("sku-0".to_owned(), 7)]));
    let mut slowest = Duration::ZERO;
    let mut told = Vec::new();
    for seq in 2..=30u64 {
        let sku = format!("sku-{}", seq % 2);
        device.stock(seq, "b", &sku, 1);
        let acknowledged = std::time::Instant::now();
        while told.last() != Some(&seq) {
            let message = live.message();
            assert_ne!(message["type"], "snapshot", "nothing was lost, so no new snapshot");
            take(&message);
            let movements = message["movements"].as_array().into_iter().flatten();
            told.extend(movements.map(|m| m["seq"].as_u64().unwrap()));
        }
        slowest = slowest.max(acknowledged.elapsed());
        assert!(acknowledged.elapsed() < FEED_MAX, "{:?}", acknowledged.elapsed());
    }
    println!("slowest from PUBACK to the feed: {} ms", slowest.as_millis());
    assert_eq!(told, (2..=30).collect::<Vec<u64>>(), "each movement once and in order");
    let lines = take(&Value::Null);
    for sku in ["sku-0", "sku-1"] {
        assert_eq!(lines[sku], shop.quantity("slot-0", sku), "the feed's lines are the stock");
    }
}

#[test]
fn a_printed_configuration_is_sound_and_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let print = |file: Option<&std::path::Path>| {
        let mut command = Command::new(stockfold());
        command.args(["config", "print"]);
        if let Some(file) = file {
            command.arg("--config").arg(file);
        } else {
            command.env("STOCKFOLD__HTTP__BIND", "127.0.0.1:18080");
            command.env("STOCKFOLD__JOURNAL__KEEP_DAYS", "3").env("STOCKFOLD__LOG__FORMAT", "json");
        }
        Ran::of(&mut command).good().out
    };
    let printed = print(None);
    let file = dir.path().join("stockfold.toml");
    fs::write(&file, &printed).unwrap();
    let check = |file: &std::path::Path| {
        Ran::of(Command::new(stockfold()).args(["config", "check", "--config"]).arg(file))
    };
    check(&file).good();
    assert_eq!(print(Some(&file)), printed);
    assert!(printed.contains("127.0.0.1:18080") && printed.contains("json"), "{printed}");
    // A key that does not exist is named, with its line.
    fs::write(&file, printed.replace("keep_days = 3", "keep_dayz = 3")).unwrap();
    let refused = check(&file);
    assert_eq!(refused.code, 1, "{}{}", refused.out, refused.err);
    assert!(refused.err.contains("keep_dayz"), "{}", refused.err);
}
