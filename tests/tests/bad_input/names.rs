//! Names that try to be something else: syntax of a query, of a metric, of a path, of a terminal.

use serde_json::json;
use stockfold_tests::{Device, Login, Version, hub, until};

use crate::common::Bystander;

/// Syntax of line protocol, Flux, SQL, Prometheus, paths, HTML and terminals.
const HOSTILE: [&str; 9] = [
    "t,device=other value=1",
    "t\\",
    "t\") |> drop()",
    "t'; DROP TABLE movement; --",
    "t{x=\"y\"} 1",
    "../../../etc/passwd",
    "<img src=x onerror=alert(1)>",
    "__proto__",
    "größe 💥",
];

/// Metrics are lines of a name, labels and a number, or comments.
fn metrics_are_whole(text: &str) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_default();
        assert!(name.starts_with("stockfold_") && value.parse::<f64>().is_ok(), "{line:?}");
    }
}

#[test]
fn hostile_names_of_values_stay_names() {
    let hub = hub();
    let shop = hub.shop("hostile");
    let mut bystander = Bystander::of(&hub, &shop);
    let login = shop.enrol("hostile-device");
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    for (seq, name) in (1..).zip(HOSTILE) {
        let reading = json!({ "seq": seq, "boot": "b", "values": { name: seq } });
        device.reading("climate", reading.to_string().as_bytes());
    }
    bystander.works();
    let points = until("every value is in the series", || {
        let points = hub.api().all("/devices/hostile-device/readings");
        (points.len() == HOSTILE.len()).then_some(points)
    });
    for (seq, name) in (1..).zip(HOSTILE) {
        // A backslash at the end would swallow what follows it in line protocol, so no store keeps it.
        let kept = match name.strip_suffix('\\') {
            Some(rest) => format!("climate.{rest}\u{fffd}"),
            None => format!("climate.{name}"),
        };
        let of_name = |p: &&serde_json::Value| p["name"] == kept;
        let told: Vec<f64> =
            points.iter().filter(of_name).filter_map(|p| p["value"].as_f64()).collect();
        assert_eq!(told, [f64::from(seq)], "{name:?} in {points:#?}");
    }
    metrics_are_whole(hub.api().get_any("/metrics").good().as_str().unwrap());
    bystander.lost_nothing();
    hub.is_sound();
}

#[test]
fn hostile_names_of_devices_are_refused_everywhere() {
    let hub = hub();
    let shop = hub.shop("strangers");
    let mut bystander = Bystander::of(&hub, &shop);
    let long = "x".repeat(65);
    // This one is an id like any other, and only a name here.
    let hostile = HOSTILE.into_iter().filter(|name| *name != "__proto__");
    for name in hostile.chain(["", ".", "..", "a/b", "a\tb", "\u{1b}[2J", &long]) {
        let device = json!({ "devices": [{ "id": name, "facility": "strangers" }] });
        let refused = hub.api().post("/import", &device);
        assert_eq!((refused.status, refused.code()), (422, "invalid"), "{name:?} {refused:?}");
        let stranger = Login { device: name.to_owned(), password: "x".into() };
        let refused = Device::connect(hub.mqtt(), Version::V5, &stranger).err();
        assert!(refused.is_some_and(|code| code >= 0x80), "{name:?}: {refused:?}");
        bystander.works();
    }
    // What is listed of them is data, whole and bounded.
    for seen in hub.api().all("/devices/seen") {
        let name = seen["name"].as_str().unwrap();
        assert!(name.len() <= 64 && !name.contains(char::is_control), "{seen:#}");
    }
    metrics_are_whole(hub.api().get_any("/metrics").good().as_str().unwrap());
    bystander.lost_nothing();
    hub.is_sound();
}
