//! Foreign clients at the hub's own endpoint: bridges, plugs that speak their own topics, and commands down to devices.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

use serde_json::{Value, json};
use simulator::mqtt::packet::{Incoming, Version};
use stockfold_tests::{Device, Hub, Login, Shop, WAIT_MAX, hub, until};

fn enrol(hub: &Hub, body: &Value) {
    hub.api().post("/devices", body).good();
}

fn credential(hub: &Hub, device: &str) -> Login {
    let made = hub.api().post(&format!("/devices/{device}/credentials"), &json!({})).good();
    let password = made["password"].as_str().unwrap().to_owned();
    Login { device: device.into(), password }
}

fn value(hub: &Hub, device: &str, name: &str, wanted: f64) {
    until(&format!("{device} {name} {wanted}"), || {
        let told = hub.api().all(&format!("/devices/{device}/readings"));
        told.iter().any(|r| r["name"] == name && r["value"] == wanted).then_some(())
    });
}

fn seen(hub: &Hub, name: &str, why: &str) {
    until(&format!("{name} is listed as seen: {why}"), || {
        let seen = hub.api().all("/devices/seen");
        seen.iter()
            .any(|s| s["name"] == name && s["reason"].as_str().unwrap().contains(why))
            .then_some(())
    });
}

/// As Zigbee2MQTT does: it subscribes to its whole tree, publishes much that is no reading, and readings of many devices.
#[test]
fn a_bridge_speaks_for_the_devices_behind_it_and_is_never_cut() {
    let hub = hub();
    let shop = Shop::open(hub.api(), "bridged", 1, 1);
    enrol(&hub, &json!({ "id": "bridge", "facility": "bridged", "profile": "zigbee2mqtt" }));
    enrol(&hub, &json!({ "id": "elsewhere", "facility": "bridged", "profile": "zigbee2mqtt" }));
    let login = credential(&hub, "bridge");
    let facility = shop.facility.clone();
    let hall = |gateway: &str| json!({ "id": "bridged-hall", "facility": facility, "profile": "zigbee2mqtt", "gateway": gateway });
    for (version, unread) in [(Version::V3, 0), (Version::V5, 0x10)] {
        let mut bridge = Device::connected(hub.mqtt(), version, &login);
        assert_eq!(bridge.publish("zigbee2mqtt/bridge/state", b"online"), Ok(unread));
        assert_eq!(bridge.publish("homeassistant/sensor/x/config", b"{}"), Ok(unread));
        // Another device's word is not its to say.
        assert_eq!(bridge.publish("zigbee2mqtt/elsewhere", b"{\"temperature\":66}"), Ok(unread));
        seen(&hub, "elsewhere", "not its gateway");
    }
    let mut bridge = Device::connected(hub.mqtt(), Version::V3, &login);
    assert_eq!(bridge.publish("zigbee2mqtt/bridged-hall", b"{\"temperature\":1}"), Ok(0));
    seen(&hub, "bridged-hall", "the device is not enrolled");
    enrol(&hub, &hall("bridge"));
    until("the hall is heard, without a new connection", || {
        assert_eq!(bridge.publish("zigbee2mqtt/bridged-hall", b"{\"temperature\":2}"), Ok(0));
        let told = hub.api().all("/devices/bridged-hall/readings");
        (!told.is_empty()).then_some(())
    });
    value(&hub, "bridged-hall", "state.temperature", 2.0);
    // In the hub's own tree too.
    let own = json!({ "id": "bridged-own", "facility": "bridged", "gateway": "bridge" });
    enrol(&hub, &own);
    let reading = br#"{"seq":1,"boot":"b","values":{"sku":"sku-0","slot":"slot-0","delta":3}}"#;
    until("it may speak for it", || {
        (bridge.publish("stockfold/v1/bridged-own/stock", reading) == Ok(0)).then_some(())
    });
    until("it is booked", || (shop.quantity("slot-0", "sku-0") == 3).then_some(()));
    // What is said to it, its bridge hears.
    let mut hearer = Hearer::connect_to(&hub, &login, "bridged-own");
    let told = hub.api().post("/devices/bridged-own/commands/blink", &json!({}));
    assert_eq!(told.status, 202);
    let (id, topic, _) = hearer.hears();
    assert_eq!(topic, "stockfold/v1/bridged-own/cmd/blink");
    hearer.acknowledges(id);
    is(&hub, "bridged-own", told.body["id"].as_str().unwrap(), "acked");
    // Taken from it, it is cut, and hears and says nothing for it from then on.
    let own =
        json!({ "devices": [{ "id": "bridged-own", "facility": "bridged", "gateway": null }] });
    hub.api().post("/import", &own).good();
    assert!(hearer.0.closes_within(WAIT_MAX), "its subscription ended");
    let mut bridge = Device::connected(hub.mqtt(), Version::V5, &login);
    assert_eq!(bridge.publish("stockfold/v1/bridged-own/stock", reading), Ok(0x87));
    drop(bridge);
    let mut bridge = Device::connected(hub.mqtt(), Version::V3, &login);
    // Revoked, it is let go; the bridge stays.
    hub.api().post("/devices/bridged-hall/revoke", &json!({})).good();
    assert_eq!(bridge.publish("zigbee2mqtt/bridged-hall", b"{\"temperature\":3}"), Ok(0));
    seen(&hub, "bridged-hall", "the device is disabled");
    let shown = hub.api().get("/ledger?device=bridge&limit=1").good();
    assert!(shown["now"][0]["refused"]["unread"].as_u64().unwrap() >= 8, "{shown:#}");
    assert!(hub.api().all("/devices/elsewhere/readings").is_empty());
}

/// As Tasmota does: a will and retained words on topics of its own, readings below `tele`.
#[test]
fn a_plug_speaks_its_own_topics() {
    let hub = hub();
    Shop::open(hub.api(), "plugs", 1, 1);
    enrol(&hub, &json!({ "id": "plug-1", "facility": "plugs", "profile": "tasmota" }));
    enrol(&hub, &json!({ "id": "plug-2", "facility": "plugs", "profile": "tasmota" }));
    let login = credential(&hub, "plug-1");
    // CONNECT by hand, with a will on tele/plug-1/LWT.
    let text = |text: &str| {
        let mut out = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
        out.extend_from_slice(text.as_bytes());
        out
    };
    let mut body = b"\x00\x04MQTT\x04\xE6\x00\x00".to_vec();
    for part in ["plug-1", "tele/plug-1/LWT", "Offline", "plug-1", &login.password] {
        body.extend(text(part));
    }
    let mut connect = vec![0x10, u8::try_from(body.len()).unwrap()];
    connect.extend(body);
    let mut plug = Device::dial(hub.mqtt(), Version::V3).hello(&connect).ok().unwrap();
    assert_eq!(plug.publish("tele/plug-1/LWT", b"Online"), Ok(0));
    let sensor = br#"{"Time":"2026-01-01T00:00:00","AM2301":{"Temperature":24.5}}"#;
    assert_eq!(plug.publish("tele/plug-1/SENSOR", sensor), Ok(0));
    value(&hub, "plug-1", "sensor.AM2301.Temperature", 24.5);
    assert_eq!(plug.publish("tele/plug-2/SENSOR", sensor), Ok(0), "let go");
    assert!(hub.api().all("/devices/plug-2/readings").is_empty());
    drop(plug);
    // A device of the default profile has no foreign topics.
    enrol(&hub, &json!({ "id": "plain", "facility": "plugs" }));
    let mut plain = Device::connected(hub.mqtt(), Version::V5, &credential(&hub, "plain"));
    assert_eq!(plain.publish("tele/plain/SENSOR", sensor), Ok(0x90));
}

/// A device that hears its commands.
struct Hearer(Device);

impl Hearer {
    fn connect(hub: &Hub, login: &Login) -> Self {
        Self::connect_to(hub, login, &login.device)
    }

    /// Connects and hears the commands of a device.
    fn connect_to(hub: &Hub, login: &Login, device_heard: &str) -> Self {
        let client_id = format!("{}/hearer", login.device);
        let mut device =
            Device::connect_as(hub.mqtt(), Version::V3, &client_id, login).ok().unwrap();
        let filter = format!("stockfold/v1/{device_heard}/cmd/#");
        let mut subscribe = vec![0x82, u8::try_from(filter.len() + 5).unwrap(), 0, 1, 0];
        subscribe.push(u8::try_from(filter.len()).unwrap());
        subscribe.extend_from_slice(filter.as_bytes());
        subscribe.push(1);
        device.send(&subscribe);
        Self(device)
    }

    /// The next command: its packet id, topic and payload.
    fn hears(&mut self) -> (u16, String, Value) {
        loop {
            let packet = self.0.receive().expect("the hub keeps the connection");
            if let Incoming::Publish { id, topic, payload, .. } = packet {
                return (id.unwrap(), topic, serde_json::from_slice(&payload).unwrap());
            }
        }
    }

    fn acknowledges(&mut self, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.0.send(&[0x40, 2, high, low]);
    }
}

fn commands(hub: &Hub, device: &str) -> Vec<(String, String)> {
    let told = hub.api().all(&format!("/devices/{device}/commands"));
    let of = |c: &Value, key: &str| c[key].as_str().unwrap().to_owned();
    told.iter().rev().map(|c| (of(c, "id"), of(c, "state"))).collect()
}

fn is(hub: &Hub, device: &str, id: &str, state: &str) {
    until(&format!("command {id} is {state}"), || {
        commands(hub, device).iter().any(|c| *c == (id.into(), state.into())).then_some(())
    });
}

#[test]
fn commands_wait_come_in_order_and_again_until_acknowledged() {
    let mut hub = Hub::start();
    let shop = Shop::open(hub.api(), "commands", 1, 1);
    let login = shop.enrol("commands-1");
    let path = "/devices/commands-1/commands/blink";
    let give = |hub: &Hub, key: &str, body: Value| hub.api().change(path, key, &body);
    assert_eq!(give(&hub, "a", json!({ "args": { "times": 3 } })).status, 202);
    assert_eq!(give(&hub, "b", json!({})).status, 202);
    assert_eq!(give(&hub, "short", json!({ "expires_in_s": 1 })).status, 202);
    // Repeated it is one command; another under the same key is none.
    assert_eq!(give(&hub, "a", json!({ "args": { "times": 3 } })).status, 200);
    let other = give(&hub, "a", json!({ "args": 1 }));
    assert_eq!((other.status, other.code()), (422, "idempotency_key_reused"));
    is(&hub, "commands-1", "short", "expired");
    let mut device = Hearer::connect(&hub, &login);
    let (_, topic, first) = device.hears();
    assert_eq!(topic, "stockfold/v1/commands-1/cmd/blink");
    assert_eq!((&first["id"], &first["args"]), (&json!("a"), &json!({ "times": 3 })));
    assert!(first["expires_at"].as_str().unwrap().ends_with('Z'), "{first}");
    is(&hub, "commands-1", "a", "sent");
    // It goes away without a word: the command comes again, before any other, to the next connection.
    drop(device);
    let mut device = Hearer::connect(&hub, &login);
    let (id, _, again) = device.hears();
    assert_eq!(again, first);
    // The hub dies before the acknowledgement: again.
    hub.kill();
    drop(device);
    hub.again();
    let mut device = Hearer::connect(&hub, &login);
    let (_, _, third) = device.hears();
    assert_eq!(third, first);
    device.acknowledges(id);
    let (id, _, second) = device.hears();
    assert_eq!(second["id"], "b");
    is(&hub, "commands-1", "a", "acked");
    device.acknowledges(id);
    is(&hub, "commands-1", "b", "acked");
    assert_eq!(commands(&hub, "commands-1").len(), 3);
    // What waits for a device that is removed is not for whoever has its id next.
    drop(device);
    assert_eq!(give(&hub, "left", json!({})).status, 202);
    hub.api().delete("/devices/commands-1").good();
    let shop = Shop::open(hub.api(), "commands", 1, 1);
    let login = shop.enrol("commands-1");
    is(&hub, "commands-1", "left", "expired");
    assert_eq!(give(&hub, "new", json!({ "args": { "big": 1e16 } })).status, 202);
    assert_eq!(
        give(&hub, "new", json!({ "args": { "big": 1e16 } })).status,
        200,
        "numbers compare"
    );
    let mut device = Hearer::connect(&hub, &login);
    assert_eq!(device.hears().2["id"], "new");
}

/// Devices that never acknowledge hold up their own commands only.
#[test]
fn devices_that_never_acknowledge_hold_up_nobody() {
    let hub = hub();
    let shop = Shop::open(hub.api(), "mutes", 1, 1);
    let mutes: Vec<String> = (0..300).map(|n| format!("mutes-{n}")).collect();
    let logins = shop.enrol_all(&mutes);
    let good = shop.enrol("mutes-good");
    let _silent: Vec<Hearer> = logins.iter().map(|login| Hearer::connect(&hub, login)).collect();
    for device in &mutes {
        let answer = hub.api().post(&format!("/devices/{device}/commands/x"), &json!({}));
        assert_eq!(answer.status, 202);
    }
    let mut hearer = Hearer::connect(&hub, &good);
    let told = hub.api().change("/devices/mutes-good/commands/x", "mutes-key", &json!({}));
    assert_eq!(told.status, 202);
    let (id, _, command) = hearer.hears();
    assert_eq!(command["id"], "mutes-key");
    hearer.acknowledges(id);
    is(&hub, "mutes-good", "mutes-key", "acked");
}

#[test]
fn commands_that_make_no_sense_are_refused_by_name() {
    let hub = hub();
    let shop = Shop::open(hub.api(), "senseless", 1, 1);
    shop.enrol("senseless-1");
    let give = |device: &str, command: &str, body: Value| {
        hub.api().post(&format!("/devices/{device}/commands/{command}"), &body)
    };
    assert_eq!(give("nobody", "x", json!({})).status, 404);
    assert_eq!(give("senseless-1", "a%20b", json!({})).status, 422);
    assert_eq!(give("senseless-1", "x", json!({ "expires_in_s": 0 })).status, 422);
    assert_eq!(give("senseless-1", "x", json!({ "expires_in_s": 604_801 })).status, 422);
    assert_eq!(give("senseless-1", "x", json!({ "args": "x".repeat(17_000) })).status, 413);
    assert_eq!(give("senseless-1", "x", json!({ "args": [{ "a": "\0" }] })).status, 422);
    for _ in 0..32 {
        assert_eq!(give("senseless-1", "x", json!({})).status, 202);
    }
    let full = give("senseless-1", "x", json!({}));
    assert_eq!((full.status, full.code()), (429, "commands_waiting"));
    assert_eq!(hub.api().get_any("/api/v1/devices/nobody/commands").status, 404);
}
