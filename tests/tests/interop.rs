//! Peers that were not written here: Mosquitto's clients and Eclipse Paho against the hub's own MQTT endpoint, in 3.1.1 and 5.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use stockfold_tests::{Hub, Log, Login, Ran, Shop, WAIT_MAX, foreign, hub, python};

fn reading(seq: u64, boot: &str, delta: i64) -> String {
    json!({ "seq": seq, "boot": boot, "values": { "sku": "sku-0", "delta": delta } }).to_string()
}

/// Mosquitto's client for a device: version, address and credentials are set.
fn mosquitto(program: &Path, hub: &Hub, version: &str, login: &Login) -> Command {
    let mut command = Command::new(program);
    command.args(["-V", version, "-h", "127.0.0.1", "-p", &hub.mqtt().port().to_string()]).args([
        "-i",
        &login.device,
        "-u",
        &login.device,
        "-P",
        &login.password,
    ]);
    command
}

#[test]
fn mosquitto_publishes_at_every_qos_in_both_versions() {
    let Some(publish) = foreign("mosquitto-publish", "mosquitto_pub") else { return };
    let hub = hub();
    let shop = Shop::open(hub.api(), "mosquitto", 1, 1);
    for version in ["mqttv311", "mqttv5"] {
        let login = shop.enrol(&format!("mosquitto-{version}"));
        let topic = format!("stockfold/v1/{}/stock", login.device);
        let before = shop.quantity("slot-0", "sku-0");
        for (qos, seq) in [("0", 1), ("1", 2), ("2", 3)] {
            let mut command = mosquitto(&publish, &hub, version, &login);
            Ran::of(command.args(["-t", &topic, "-q", qos, "-m", &reading(seq, "b", 1)])).good();
        }
        // Ten more on one connection, one a line.
        let lines: String = (4..14).map(|seq| reading(seq, "b", 1) + "\n").collect();
        let mut command = mosquitto(&publish, &hub, version, &login);
        Ran::with_input(command.args(["-t", &topic, "-q", "1", "-l"]), lines.as_bytes()).good();
        // A frame that comes again, and one after a reboot.
        for (seq, boot) in [(2, "b"), (1, "c")] {
            let mut command = mosquitto(&publish, &hub, version, &login);
            Ran::of(command.args(["-t", &topic, "-q", "1", "-m", &reading(seq, boot, 1)])).good();
        }
        let exits = shop.ledger(&login, 15);
        assert_eq!((exits.applied, exits.duplicate), (14, 1), "{version}");
        assert_eq!(shop.quantity("slot-0", "sku-0"), before + 14, "{version}");
    }
    hub.replays_equal();
}

#[test]
fn mosquitto_is_told_why_it_is_refused() {
    let Some(publish) = foreign("mosquitto-refused", "mosquitto_pub") else { return };
    let hub = hub();
    let shop = Shop::open(hub.api(), "refused", 1, 1);
    let (login, other) = (shop.enrol("refused-device"), shop.enrol("refused-other"));
    let wrong = Login { password: "wrong".into(), ..login.clone() };
    let stranger = Login { device: "refused-stranger".into(), password: "x".into() };
    let own = "stockfold/v1/refused-device/stock";
    for (version, login, words) in [
        ("mqttv311", &wrong, "bad user name or password"),
        ("mqttv5", &wrong, "bad user name or password"),
        ("mqttv311", &stranger, "not authorised"),
        ("mqttv5", &stranger, "not authorized"),
    ] {
        let mut command = mosquitto(&publish, &hub, version, login);
        let ran = Ran::of(command.args(["-t", own, "-q", "1", "-m", &reading(1, "b", 1)]));
        let said = ran.err + &ran.out;
        assert_ne!(ran.code, 0, "{version} {}", login.device);
        assert!(said.to_lowercase().contains(words), "{version} {}: {said}", login.device);
    }
    let topic = format!("stockfold/v1/{}/stock", other.device);
    let mut command = mosquitto(&publish, &hub, "mqttv5", &login);
    let ran = Ran::of(command.args(["-t", &topic, "-q", "1", "-m", &reading(1, "b", 1)]));
    assert!((ran.err + &ran.out).contains("Not authorized"), "another device's topic");
    assert_eq!(shop.quantity("slot-0", "sku-0"), 0);
}

#[test]
fn mosquitto_hears_what_its_device_keeps() {
    let Some(publish) = foreign("mosquitto-subscribe", "mosquitto_pub") else { return };
    let Some(subscribe) = foreign("mosquitto-subscribe", "mosquitto_sub") else { return };
    let hub = hub();
    let shop = Shop::open(hub.api(), "kept", 1, 1);
    for version in ["mqttv311", "mqttv5"] {
        let login = shop.enrol(&format!("kept-{version}"));
        let topic = format!("stockfold/v1/{}/state/door", login.device);
        let mut command = mosquitto(&publish, &hub, version, &login);
        Ran::of(command.args(["-t", &topic, "-q", "1", "-r", "-m", "open"])).good();
        // Who comes later gets the retained message, then what is published while it listens.
        let mut command = mosquitto(&subscribe, &hub, version, &login);
        let wait = WAIT_MAX.as_secs().to_string();
        command.args(["-i", &format!("{}/panel", login.device), "-q", "1", "-C", "2", "-W", &wait]);
        command.args(["-v", "-t", &format!("stockfold/v1/{}/#", login.device)]);
        let mut panel = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let heard = Log::default();
        heard.follow(panel.stdout.take().unwrap());
        let hears = |from, words: String| {
            assert!(
                heard.wait_for(from, WAIT_MAX, |l| l == words).is_some(),
                "no {words:?}: {}",
                heard.text(0)
            );
        };
        hears(0, format!("{topic} open"));
        let mut command = mosquitto(&publish, &hub, version, &login);
        Ran::of(command.args(["-t", &topic, "-q", "2", "-m", "closed"])).good();
        hears(1, format!("{topic} closed"));
        assert!(panel.wait().unwrap().success());
        // Others' topics are not for it.
        let mut command = mosquitto(&subscribe, &hub, version, &login);
        let ran = Ran::of(command.args(["-C", "1", "-W", "5", "-t", "stockfold/v1/+/#"]));
        let said = ran.err + &ran.out;
        assert!(said.contains("All subscription requests were denied."), "{version}: {said}");
    }
}

/// Has Paho do something; what it tells.
fn paho(
    python: &PathBuf,
    hub: &Hub,
    version: &str,
    login: &Login,
    task: &str,
    mut job: Value,
) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/paho_device.py");
    for (key, value) in [
        ("task", json!(task)),
        ("host", json!("127.0.0.1")),
        ("port", json!(hub.mqtt().port())),
        ("version", json!(version)),
        ("device", json!(login.device)),
        ("password", json!(login.password)),
    ] {
        job[key] = value;
    }
    let ran = Ran::with_input(Command::new(python).arg(script), job.to_string().as_bytes()).good();
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.err))
}

#[test]
fn paho_publishes_and_is_acknowledged_once_durable() {
    let Some(python) = python("paho-publish") else { return };
    let hub = hub();
    let shop = Shop::open(hub.api(), "paho", 1, 1);
    for version in ["3", "5"] {
        let login = shop.enrol(&format!("paho-{version}"));
        let topic = format!("stockfold/v1/{}/stock", login.device);
        let before = shop.quantity("slot-0", "sku-0");
        let one = |seq, boot, qos| json!({ "topic": topic, "payload": reading(seq, boot, 1), "qos": qos });
        let mut readings: Vec<Value> = (1..=50).map(|seq| one(seq, "b", seq % 3)).collect();
        readings.extend([one(50, "b", 1), one(49, "b", 2), one(1, "c", 1)]);
        let told =
            paho(&python, &hub, version, &login, "readings", json!({ "readings": readings }));
        assert_eq!(told["connect"], 0);
        assert_eq!(told["codes"], json!(vec![0; 53]), "{version}");
        let exits = shop.ledger(&login, 53);
        assert_eq!((exits.applied, exits.duplicate), (51, 2), "{version}");
        assert_eq!(shop.quantity("slot-0", "sku-0"), before + 51, "{version}");
    }
    hub.replays_equal();
}

#[test]
fn paho_reads_the_reason_codes() {
    let Some(python) = python("paho-reasons") else { return };
    let hub = hub();
    let shop = Shop::open(hub.api(), "reasons", 1, 1);
    let login = shop.enrol("reasons-device");
    let wrong = Login { password: "wrong".into(), ..login.clone() };
    let stranger = Login { device: "reasons-stranger".into(), password: "x".into() };
    let refused =
        |login: &Login, job| paho(&python, &hub, "5", login, "refused", job)["connect"].clone();
    assert_eq!(refused(&wrong, json!({})), 0x86);
    assert_eq!(refused(&stranger, json!({})), 0x87);
    assert_eq!(refused(&login, json!({ "client_id": "somebody-else" })), 0x85);
    let at = |topic: &str, payload: String| json!({ "topic": topic, "payload": payload, "qos": 1 });
    let readings = json!([
        at("stockfold/v1/reasons-other/stock", reading(1, "b", 1)),
        at("somewhere/else", reading(2, "b", 1)),
        at("stockfold/v1/reasons-device/stock", "this is no JSON".into()),
        at("stockfold/v1/reasons-device/stock", reading(3, "b", 1)),
    ]);
    let told = paho(&python, &hub, "5", &login, "readings", json!({ "readings": readings }));
    // What cannot be read is acknowledged all the same: it is in the journal, and rejected there by name.
    assert_eq!(told["codes"], json!([0x87, 0x90, 0, 0]));
    let exits = shop.ledger(&login, 2);
    assert_eq!((exits.applied, exits.rejected), (1, 1));
    hub.replays_equal();
}

#[test]
fn paho_is_taken_over_by_itself() {
    let Some(python) = python("paho-takeover") else { return };
    let hub = hub();
    let shop = Shop::open(hub.api(), "takeover", 1, 1);
    for (version, heard) in [("5", Some(0x8E)), ("3", None)] {
        let login = shop.enrol(&format!("takeover-{version}"));
        let topic = format!("stockfold/v1/{}/stock", login.device);
        let job = json!({ "topic": topic, "payload": reading(1, "b", 1) });
        let told = paho(&python, &hub, version, &login, "takeover", job);
        assert_eq!(told["second"], 0);
        if let Some(code) = heard {
            assert_eq!(told["first"], code);
        }
        shop.ledger(&login, 1);
    }
    assert_eq!(shop.quantity("slot-0", "sku-0"), 2);
}

#[test]
fn paho_s_will_is_published_when_its_device_dies() {
    let Some(python) = python("paho-will") else { return };
    let hub = hub();
    let shop = Shop::open(hub.api(), "wills", 1, 1);
    for version in ["3", "5"] {
        let login = shop.enrol(&format!("wills-{version}"));
        let topic = format!("stockfold/v1/{}/state/online", login.device);
        let job = json!({ "will": { "topic": topic, "payload": "gone" } });
        let told = paho(&python, &hub, version, &login, "will", job);
        assert_eq!(told, json!({ "granted": [1], "topic": topic, "payload": "gone" }));
    }
}

#[test]
fn paho_uses_what_mqtt_5_offers() {
    let Some(python) = python("paho-properties") else { return };
    let hub = hub();
    let shop = Shop::open(hub.api(), "properties", 1, 1);
    let login = shop.enrol("properties-device");
    let job = json!({
        "topic": "stockfold/v1/properties-device/stock",
        "payloads": [reading(1, "b", 1), reading(2, "b", 1)],
    });
    let told = paho(&python, &hub, "5", &login, "properties", job);
    assert_eq!(told["codes"], json!([0, 0]));
    assert_eq!(told["told"]["MaximumPacketSize"], 128 * 1024, "{told:#}");
    assert_eq!(told["told"]["TopicAliasMaximum"], 16, "{told:#}");
    assert!(told["told"]["ReceiveMaximum"].as_u64().unwrap() >= 1, "{told:#}");
    shop.settles(&login, 2, "slot-0", "sku-0", 2);
    hub.replays_equal();
}
