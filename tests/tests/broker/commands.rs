//! Commands to devices through a broker, and what is known to be dangerous about publishing by rumqttc.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use stockfold_tests::{Broker, Hub, Log, Ran, Shop, WAIT_MAX, foreign, until};

use super::{OPEN, behind, connected, counted, reading, scripted::Scripted, told};

fn give(hub: &Hub, device: &str, key: &str) {
    let path = format!("/devices/{device}/commands/blink");
    let answer = hub.api().change(&path, key, &json!({ "args": { "times": 3 } }));
    assert_eq!(answer.status, 202, "{:#}", answer.body);
}

fn states(hub: &Hub, device: &str) -> Vec<String> {
    let told = hub.api().all(&format!("/devices/{device}/commands"));
    told.iter().rev().map(|c| c["state"].as_str().unwrap().to_owned()).collect()
}

fn all_are(hub: &Hub, device: &str, state: &str) {
    until(&format!("the commands of {device} are {state}"), || {
        states(hub, device).iter().all(|s| s == state).then_some(())
    });
}

#[test]
fn commands_reach_devices_through_mosquitto_and_wait_for_it() {
    let Some(mut broker) = Broker::mosquitto("broker-commands", OPEN) else { return };
    let Some(subscribe) = foreign("broker-commands", "mosquitto_sub") else { return };
    let Some(publish) = foreign("broker-commands", "mosquitto_pub") else { return };
    let port = broker.address().port().to_string();
    // What it keeps is the first that a subscriber hears: then the subscription stands.
    let greeting = ["-r", "-q", "1", "-t", "stockfold/v1/told-1/cmd/hello", "-m", "{}"];
    Ran::of(Command::new(publish).args(["-p", &port]).args(greeting)).good();
    let hub = Hub::with(behind(broker.address()));
    connected(&hub);
    Shop::open(hub.api(), "told", 1, 1).enrol("told-1");
    let wait = WAIT_MAX.as_secs().to_string();
    let mut child = Command::new(&subscribe)
        .args(["-p", &port, "-q", "1", "-C", "4", "-W", &wait, "-v"])
        .args(["-t", "stockfold/v1/told-1/cmd/#"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let heard = Log::default();
    heard.follow(child.stdout.take().unwrap());
    assert!(heard.wait_for(0, WAIT_MAX, |l| l.contains("cmd/hello")).is_some());
    for key in ["a", "b", "c"] {
        give(&hub, "told-1", key);
    }
    assert!(heard.wait_for(0, WAIT_MAX, |l| l.contains("\"id\":\"c\"")).is_some());
    assert!(child.wait().unwrap().success());
    let came: Vec<Value> = heard
        .text(0)
        .lines()
        .filter_map(|l| l.strip_prefix("stockfold/v1/told-1/cmd/blink "))
        .map(|json| serde_json::from_str(json).unwrap())
        .collect();
    let ids: Vec<&str> = came.iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b", "c"], "in their order");
    assert_eq!(came[0]["args"], json!({ "times": 3 }));
    all_are(&hub, "told-1", "acked");
    // Given while the broker is away, they go when it is back.
    broker.kill();
    until("the hub notices", || {
        (hub.api().metric("stockfold_broker_connected") == 0.0).then_some(())
    });
    give(&hub, "told-1", "d");
    assert_eq!(states(&hub, "told-1").last().unwrap(), "queued");
    broker.again();
    all_are(&hub, "told-1", "acked");
}

#[test]
fn a_command_without_an_acknowledgement_goes_by_the_next_connection() {
    let broker = Scripted::new();
    let mut hub = Hub::with(behind(broker.address()));
    let mut link = broker.serve(false);
    connected(&hub);
    Shop::open(hub.api(), "again", 1, 1).enrol("again-1");
    give(&hub, "again-1", "k");
    let (topic, _, first) = link.published();
    assert_eq!(topic, "stockfold/v1/again-1/cmd/blink");
    // Twice the broker forgets the session and the command with it.
    for _ in 0..2 {
        drop(link);
        link = broker.serve(false);
        let (_, _, payload) = link.published();
        assert_eq!(payload, first, "the same command, with the same id");
    }
    // A hub that dies has not forgotten either.
    hub.kill();
    drop(link);
    let serving = std::thread::spawn(move || {
        let mut link = broker.serve(false);
        let (_, packet_id, payload) = link.published();
        link.acknowledge(packet_id);
        (payload, link)
    });
    hub.again();
    let (payload, _link) = serving.join().unwrap();
    assert_eq!(payload, first);
    all_are(&hub, "again-1", "acked");
}

#[test]
fn acknowledgements_out_of_order_stop_nothing() {
    let broker = Scripted::new();
    let hub = Hub::with(behind(broker.address()));
    let mut link = broker.serve(false);
    connected(&hub);
    let shop = Shop::open(hub.api(), "disorder", 1, 1);
    let devices: Vec<String> = (0..100).map(|n| format!("disorder-{n}")).collect();
    shop.enrol_all(&devices);
    let mut ids = BTreeSet::new();
    for round in 0..3 {
        for device in &devices {
            give(&hub, device, &format!("{device}-{round}"));
        }
        // As many as the window holds, answered from the last to the first.
        let mut left = devices.len();
        while left > 0 {
            let window: Vec<u16> = (0..left.min(50)).map(|_| link.published().1).collect();
            left -= window.len();
            for packet_id in window.iter().rev() {
                ids.insert(*packet_id);
                link.acknowledge(*packet_id);
            }
        }
        // Readings go on meanwhile.
        link.publish("stockfold/v1/disorder-0/stock", 9, &reading(round + 1, "b"));
        assert_eq!(link.acknowledged(), 9);
    }
    assert!(ids.len() >= 300, "no packet id came twice");
    for device in &devices {
        all_are(&hub, device, "acked");
    }
    assert_eq!(counted(&hub, "failures"), 0.0);
}

#[test]
fn a_broker_that_acknowledges_nothing_is_left() {
    let broker = Scripted::new();
    let hub = Hub::with(behind(broker.address()));
    let mut link = broker.serve(false);
    connected(&hub);
    Shop::open(hub.api(), "mute", 1, 1).enrol("mute-1");
    give(&hub, "mute-1", "k");
    let (_, _, first) = link.published();
    // The hub hangs up by itself and tries with a new connection, which gets the command again.
    assert_eq!(link.packet(), None);
    until("it is named", || {
        told(&hub).contains("does not acknowledge what the hub sends").then_some(())
    });
    let mut link = broker.serve(true);
    let (_, packet_id, payload) = link.published();
    assert_eq!(payload, first);
    link.acknowledge(packet_id);
    all_are(&hub, "mute-1", "acked");
}

#[test]
fn commands_do_not_delay_readings() {
    let broker = Scripted::new();
    let hub = Hub::with(behind(broker.address()));
    let mut link = broker.serve(false);
    connected(&hub);
    let shop = Shop::open(hub.api(), "window", 1, 1);
    let devices: Vec<String> = (0..80).map(|n| format!("window-{n}")).collect();
    shop.enrol_all(&devices);
    for device in &devices {
        give(&hub, device, device);
    }
    // The window fills and none is acknowledged: the acknowledgements of readings still come at once.
    let open: Vec<u16> = (0..64).map(|_| link.published().1).collect();
    for seq in 1..=20 {
        link.publish("stockfold/v1/window-0/stock", 100 + seq, &reading(seq.into(), "b"));
        assert_eq!(link.acknowledged(), 100 + seq);
    }
    for packet_id in open {
        link.acknowledge(packet_id);
    }
    for _ in 64..80 {
        let (_, packet_id, _) = link.published();
        link.acknowledge(packet_id);
    }
    for device in &devices {
        all_are(&hub, device, "acked");
    }
}

#[test]
fn a_broker_that_falls_silent_is_left() {
    let broker = Scripted::new();
    let hub = Hub::with(behind(broker.address()).set("MQTT__BROKER_KEEP_ALIVE_S", "2"));
    let mut link = broker.serve(false);
    connected(&hub);
    let (first, _) = link.packet().expect("PINGREQ");
    assert_eq!(first, 0xC0);
    // No PINGRESP: the hub hangs up and connects anew.
    assert_eq!(link.packet(), None);
    until("it is named", || told(&hub).contains("fell silent").then_some(()));
    let _link = broker.serve(true);
    connected(&hub);
}

#[test]
fn a_slow_handshake_is_one_handshake() {
    let broker = Scripted::new();
    let hub = Hub::with(behind(broker.address()));
    let mut link = broker.accept();
    // The link has much to do meanwhile: signs of life, devices that are enrolled, filters that change.
    let shop = Shop::open(hub.api(), "slow", 1, 1);
    for n in 0..20 {
        let profile = if n % 2 == 0 { "tasmota" } else { "zigbee2mqtt" };
        let body = json!({ "id": format!("slow-{n}"), "facility": "slow", "profile": profile });
        shop.api().post("/devices", &body).good();
    }
    assert!(!broker.is_called_within(Duration::from_secs(2)), "it is still the same handshake");
    link.send(&[0x20, 2, 0, 0]);
    let (first, body) = link.packet().unwrap();
    assert_eq!(first, 0x82);
    link.send(&[0x90, 3, body[0], body[1], 1]);
    connected(&hub);
    let mut filters = String::new();
    while !(filters.contains("zigbee2mqtt/+") && filters.contains("tele/+/SENSOR")) {
        let (first, body) = link.packet().expect("the foreign filters");
        assert_eq!(first, 0x82);
        filters.push_str(&String::from_utf8_lossy(&body));
    }
    assert_eq!(counted(&hub, "connects"), 1.0);
}
