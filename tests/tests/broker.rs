//! The external broker: Mosquitto and RabbitMQ for what should happen, a scripted one for what should not.
//!
//! What is known to be dangerous about rumqttc, and what shows that it cannot happen here:
//!
//! | danger | shown by |
//! |---|---|
//! | an acknowledgement of an old connection acknowledges another message | `an_acknowledgement_never_reaches_another_connection` |
//! | a lost session takes the subscription along | `what_a_broker_loses_by_itself_shows_as_gaps` |
//! | a client in a bad state (collision, unsolicited packets) loops | `a_broker_that_talks_nonsense_is_left_and_tried_again` |
//! | reconnects without a pause | `a_broker_that_cuts_every_connection_is_not_hammered` |
//! | a packet beyond its limit comes again for ever; QoS 2 | `what_is_no_reading_of_a_known_device_is_counted_and_let_go` |
//! | acknowledgements out of order | `acknowledgements_keep_the_order_of_the_messages` |
//! | a full channel between poller and link stops both | `when_the_disk_is_full_the_broker_queues` |
//! | its own TLS defaults | `mosquitto_with_tls_certificates_and_the_hub_s_access_list`, `a_broker_of_a_foreign_authority_is_not_believed` |
//!
//! Those of publishes, which the hub makes for commands to devices, are in `broker/commands.rs`:
//!
//! | danger | shown by |
//! |---|---|
//! | pending publishes vanish with a lost session | `a_command_without_an_acknowledgement_goes_by_the_next_connection` |
//! | packet ids that collide when acknowledgements come out of order stop everything | `acknowledgements_out_of_order_stop_nothing`, and `hub/src/broker/sent.rs` |
//! | a broker that never acknowledges: collision for ever | `a_broker_that_acknowledges_nothing_is_left` |
//! | a full window of publishes delays the acknowledgements of readings | `commands_do_not_delay_readings` |
//! | silence | `a_broker_that_falls_silent_is_left` |
//! | a cancelled poll begins anew | `a_slow_handshake_is_one_handshake` |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test may panic, print and measure real time"
)]

#[path = "broker/commands.rs"]
mod commands;
#[path = "tls/pki.rs"]
#[allow(dead_code, reason = "shared with the tests of TLS")]
mod pki;
#[path = "broker/scripted.rs"]
mod scripted;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    process::Command,
    time::{Duration, Instant},
};

use pki::{Authority, now_s, written};
use scripted::Scripted;
use serde_json::json;
use simulator::mqtt::packet::{self, Connect};
use stockfold_tests::{Broker, Device, Hub, Login, Ran, Setup, Shop, Version, foreign, until};

/// A broker that lets everybody in and keeps everything in memory.
const OPEN: &str = "allow_anonymous true\nmax_inflight_messages 1000\nmax_queued_messages 100000";

fn behind(broker: SocketAddr) -> Setup {
    Setup::default().set("MQTT__BROKER_URL", format!("mqtt://{broker}"))
}

fn connected(hub: &Hub) {
    until("the hub is connected to the broker", || {
        (hub.api().metric("stockfold_broker_connected") == 1.0).then_some(())
    });
}

fn counted(hub: &Hub, event: &str) -> f64 {
    hub.api().metric(&format!("stockfold_broker_events_total{{event=\"{event}\"}}"))
}

fn counts(hub: &Hub, event: &str, wanted: f64) {
    until(&format!("{event} is {wanted}"), || (counted(hub, event) == wanted).then_some(()));
}

/// What `/readyz` says of the broker.
fn told(hub: &Hub) -> String {
    let ready = hub.api().get_any("/readyz").body;
    let checks = ready["checks"].as_array().unwrap().clone();
    let check = checks.into_iter().find(|check| check["name"] == "broker").unwrap();
    check["detail"].as_str().unwrap().to_owned()
}

fn reading(seq: u64, boot: &str) -> Vec<u8> {
    let values = json!({ "sku": "sku-0", "delta": 1 });
    json!({ "seq": seq, "boot": boot, "values": values }).to_string().into_bytes()
}

/// A device at the broker, which lets everybody in who names nobody.
fn device_at(broker: &Broker, login: &Login) -> Device {
    let mut connect = Vec::new();
    let hello = Connect {
        version: Version::V3,
        client_id: &login.device,
        clean: true,
        keep_alive_s: 0,
        session_expiry_s: 0,
        login: None,
    };
    packet::connect(&mut connect, &hello);
    let mut device = Device::dial(broker.address(), Version::V3).hello(&connect).ok().unwrap();
    device.id.clone_from(&login.device);
    device
}

/// What every broker must carry: readings, repeats, garbage, and what comes while the hub is away.
fn carries(broker: &Broker, facility: &str) {
    let mut hub = Hub::with(behind(broker.address()));
    connected(&hub);
    let shop = Shop::open(hub.api(), facility, 1, 1);
    let login = shop.enrol(&format!("{facility}-1"));
    let mut device = device_at(broker, &login);
    for seq in 1..=200 {
        device.stock(seq, "b", "sku-0", 1);
    }
    device.stock(200, "b", "sku-0", 1);
    device.reading("stock", b"garbage");
    let exits = shop.ledger(&login, 202);
    assert_eq!((exits.applied, exits.duplicate, exits.rejected), (200, 1, 1));
    // A PUBACK goes back for each, in time.
    until("everything is acknowledged", || {
        (hub.api().metric("stockfold_broker_open") == 0.0).then_some(())
    });
    assert_eq!(counted(&hub, "acknowledged"), 202.0);

    // The broker keeps what comes while the hub is away, stopped or killed.
    for (boot, killed) in [("stopped", false), ("killed", true)] {
        if killed {
            hub.kill();
        } else {
            assert!(hub.stop().success());
        }
        for seq in 1..=50 {
            device.stock(seq, boot, "sku-0", 1);
        }
        hub.again();
    }
    let shop = Shop::open(hub.api(), facility, 1, 1);
    // An acknowledgement may be on its way when the hub is killed: the broker repeats what it was for, and it counts once.
    shop.applies(&login, 300);
    assert_eq!(shop.quantity("slot-0", "sku-0"), 300);
    hub.replays_equal();
}

#[test]
fn mosquitto_carries_readings_and_keeps_them_while_the_hub_is_away() {
    let Some(broker) = Broker::mosquitto("broker-mosquitto", OPEN) else { return };
    carries(&broker, "mosquitto");
}

#[test]
fn rabbitmq_carries_readings_and_keeps_them_while_the_hub_is_away() {
    let Some(broker) = Broker::rabbit("broker-rabbitmq") else { return };
    carries(&broker, "rabbit");
}

#[test]
fn what_is_no_reading_of_a_known_device_is_counted_and_let_go() {
    let Some(broker) = Broker::mosquitto("broker-strangers", OPEN) else { return };
    let Some(publish) = foreign("broker-strangers", "mosquitto_pub") else { return };
    let send = |topic: &str, payload: &[u8], more: &[&str]| {
        let mut command = Command::new(&publish);
        command.args(["-p", &broker.address().port().to_string(), "-t", topic, "-q", "1", "-s"]);
        Ran::with_input(command.args(more), payload).good();
    };
    let hub = Hub::with(behind(broker.address()));
    connected(&hub);
    let shop = Shop::open(hub.api(), "strangers", 1, 1);
    let login = shop.enrol("strangers-1");
    let own = "stockfold/v1/strangers-1/stock";

    send("stockfold/v1/nobody/stock", &reading(1, "b"), &[]);
    counts(&hub, "unknown_device", 1.0);
    until("it is listed as seen", || {
        shop.api().all("/devices/seen").iter().any(|s| s["name"] == "nobody").then_some(())
    });
    for topic in ["stockfold/v1/strangers-1/cmd", "stockfold/v1/a b/stock", "stockfold/v1//stock"] {
        send(topic, &reading(1, "b"), &[]);
    }
    counts(&hub, "unknown_topic", 3.0);
    // Deeper topics are not subscribed to.
    send("stockfold/v1/strangers-1/state/door", b"open", &[]);
    // Larger than any frame, and than rumqttc's own limit many times: let go once, without a lost connection.
    send(own, &vec![b'x'; 3 << 20], &[]);
    counts(&hub, "too_large", 1.0);
    // QoS 2 comes as QoS 1: there is no PUBREL to go wrong.
    send(own, &reading(1, "b"), &["-q", "2"]);
    send(own, &reading(2, "b"), &["-q", "0"]);
    let exits = shop.ledger(&login, 2);
    assert_eq!(exits.applied, 2);
    assert_eq!((counted(&hub, "connects"), counted(&hub, "failures")), (1.0, 0.0));
    assert_eq!(counted(&hub, "received"), 7.0);
    until("all are acknowledged", || {
        (hub.api().metric("stockfold_broker_open") == 0.0).then_some(())
    });
}

#[test]
fn foreign_topics_are_readings_as_soon_as_their_devices_are_enrolled() {
    let Some(broker) = Broker::mosquitto("broker-foreign", OPEN) else { return };
    let Some(publish) = foreign("broker-foreign", "mosquitto_pub") else { return };
    let send = |topic: &str, payload: &str| {
        let mut command = Command::new(&publish);
        command.args(["-p", &broker.address().port().to_string(), "-t", topic, "-q", "1", "-s"]);
        Ran::with_input(&mut command, payload.as_bytes()).good();
    };
    let hub = Hub::with(behind(broker.address()));
    connected(&hub);
    let shop = Shop::open(hub.api(), "foreign", 1, 1);
    let enrol = |device: &str, profile: &str| {
        let body = json!({ "id": device, "facility": "foreign", "profile": profile });
        hub.api().post("/devices", &body).good();
    };
    let value = |device: &str, name: &str, wanted: f64| {
        until(&format!("{device} {name} {wanted}"), || {
            let told = hub.api().all(&format!("/devices/{device}/readings"));
            told.iter().any(|r| r["name"] == name && r["value"] == wanted).then_some(())
        });
    };
    // Nobody asked for it yet.
    send("zigbee2mqtt/hall", r#"{"temperature":20.5}"#);
    enrol("hall", "zigbee2mqtt");
    // The subscription is made while the connection stands.
    until("the hub hears the hall", || {
        send("zigbee2mqtt/hall", r#"{"temperature":21.5}"#);
        (counted(&hub, "journaled") > 0.0).then_some(())
    });
    value("hall", "state.temperature", 21.5);
    // Neighbours are told, and listed.
    send("zigbee2mqtt/cellar", r#"{"temperature":9.0}"#);
    counts(&hub, "unknown_device", 1.0);
    until("the cellar is listed as seen", || {
        shop.api().all("/devices/seen").iter().any(|s| s["name"] == "cellar").then_some(())
    });
    enrol("plug", "tasmota");
    until("the hub hears the plug", || {
        send("tele/plug/SENSOR", r#"{"AM2301":{"Temperature":24.5}}"#);
        let told = hub.api().all("/devices/plug/readings");
        told.iter().any(|r| r["name"] == "sensor.AM2301.Temperature").then_some(())
    });
    // An id that names a device of another profile is not that device's word.
    let before = counted(&hub, "unknown_topic");
    send("tele/hall/SENSOR", r#"{"AM2301":{"Temperature":99}}"#);
    counts(&hub, "unknown_topic", before + 1.0);
    assert_eq!((counted(&hub, "connects"), counted(&hub, "failures")), (1.0, 0.0));
}

#[test]
fn what_the_broker_retained_before_is_no_reading() {
    let Some(broker) = Broker::mosquitto("broker-retained", OPEN) else { return };
    let Some(publish) = foreign("broker-retained", "mosquitto_pub") else { return };
    let port = broker.address().port().to_string();
    let mut command = Command::new(publish);
    command.args(["-p", &port, "-r", "-t", "stockfold/v1/retained-1/stock", "-q", "1", "-s"]);
    Ran::with_input(&mut command, &reading(1, "b")).good();
    let hub = Hub::with(behind(broker.address()));
    counts(&hub, "retained", 1.0);
    assert_eq!(counted(&hub, "journaled"), 0.0);
}

#[test]
fn a_broker_that_is_away_is_waited_for_and_named() {
    let Some(mut broker) = Broker::mosquitto_away("broker-away", OPEN) else { return };
    let mut hub = Hub::with(behind(broker.address()));
    until("it is named", || told(&hub).contains("cannot be reached").then_some(()));
    assert_eq!(hub.api().get_any("/readyz").status, 503);
    let began = Instant::now();
    assert!(hub.stop().success());
    assert!(began.elapsed() < Duration::from_secs(5));
    hub.again();
    broker.again();
    connected(&hub);
    assert!(told(&hub).starts_with("connected to mqtt://"));
}

#[test]
fn what_a_broker_loses_by_itself_shows_as_gaps() {
    let Some(mut broker) = Broker::mosquitto("broker-loses", OPEN) else { return };
    let mut hub = Hub::with(behind(broker.address()));
    connected(&hub);
    let shop = Shop::open(hub.api(), "loses", 1, 1);
    let login = shop.enrol("loses-1");
    let send = |broker: &Broker, seqs: std::ops::RangeInclusive<u64>| {
        let mut device = device_at(broker, &login);
        seqs.for_each(|seq| device.stock(seq, "b", "sku-0", 1));
    };
    send(&broker, 1..=10);
    shop.ledger(&login, 10);
    // It forgets its session while the hub is there: the hub notices, subscribes again and goes on.
    broker.kill();
    broker.again();
    counts(&hub, "sessions_lost", 1.0);
    connected(&hub);
    send(&broker, 11..=20);
    shop.ledger(&login, 20);
    // It forgets ten readings that it had acknowledged while the hub was away.
    hub.stop();
    send(&broker, 21..=30);
    broker.kill();
    broker.again();
    hub.again();
    connected(&hub);
    let shop = Shop::open(hub.api(), "loses", 1, 1);
    send(&broker, 31..=40);
    let exits = shop.ledger(&login, 30);
    assert_eq!((exits.applied, exits.source_lost), (30, 10));
}

#[test]
fn when_the_disk_is_full_the_broker_queues() {
    let Some(broker) = Broker::mosquitto("broker-full", OPEN) else { return };
    let mut hub = Hub::with(behind(broker.address()));
    connected(&hub);
    let shop = Shop::open(hub.api(), "full", 1, 1);
    let login = shop.enrol("full-1");
    hub.stop();
    // A disk that is used at all counts as full.
    let keys = ["ALERT", "REFUSE_TELEMETRY", "REFUSE"];
    let before = hub.setup().clone();
    for key in keys {
        *hub.setup() = hub.setup().clone().set(&format!("JOURNAL__{key}_PERCENT"), 0);
    }
    hub.again();
    connected(&hub);
    let mut device = device_at(&broker, &login);
    for seq in 1..=500 {
        device.stock(seq, "b", "sku-0", 1);
    }
    until("the link holds", || told(&hub).starts_with("holds").then_some(()));
    assert_eq!((counted(&hub, "journaled"), counted(&hub, "acknowledged")), (0.0, 0.0));
    hub.stop();
    *hub.setup() = before;
    hub.again();
    let shop = Shop::open(hub.api(), "full", 1, 1);
    assert_eq!(shop.ledger(&login, 500).applied, 500);
}

/// Connections that are cut. Each is waited for longer.
const ROUNDS: u64 = 6;

#[test]
fn an_acknowledgement_never_reaches_another_connection() {
    let broker = Scripted::new();
    let hub = Hub::with(behind(broker.address()));
    let mut link = broker.serve(false);
    // A session to be kept: no clean session, and a client id of its own.
    let flags = link.connect[7];
    assert_eq!(flags & 0b10, 0, "clean session");
    connected(&hub);
    let shop = Shop::open(hub.api(), "stale", 1, 1);
    shop.enrol("stale-1");
    let topic = "stockfold/v1/stale-1/stock";
    for round in 0..ROUNDS {
        // Cut as soon as the message is sent: the acknowledgement is on its way, or not even thought of.
        link.publish(topic, 7, &reading(round * 2 + 1, "b"));
        drop(link);
        link = broker.serve(round % 2 == 0);
        // Packet id 7 is another message's now, or nobody's. Nothing may come for it before it is sent.
        link.is_silent(Duration::from_millis(150));
        link.publish(topic, 7, &reading(round * 2 + 2, "b"));
        assert_eq!(link.acknowledged(), 7);
        link.is_silent(Duration::from_millis(20));
    }
    // The second of each round was acknowledged, so it is journaled; the first may be.
    let rows = || shop.api().all("/ledger?facility=stale&device=stale-1");
    until("all acknowledged readings are in the ledger", || {
        let applied: u64 = rows().iter().map(|row| row["applied"].as_u64().unwrap()).sum();
        (applied >= ROUNDS).then_some(())
    });
    drop(link);
    hub.replays_equal();
}

#[test]
fn acknowledgements_keep_the_order_of_the_messages() {
    let broker = Scripted::new();
    let hub = Hub::with(behind(broker.address()));
    let mut link = broker.serve(false);
    connected(&hub);
    let shop = Shop::open(hub.api(), "ordered", 1, 1);
    shop.enrol("ordered-1");
    // Some need the journal, some do not; packet ids go up, down and around.
    let ids: Vec<u16> = (0..300).map(|n: u16| n.wrapping_mul(211) % 60_000 + 1).collect();
    for (seq, id) in (1..).zip(&ids) {
        let device = if seq % 3 == 0 { "nobody" } else { "ordered-1" };
        link.publish(&format!("stockfold/v1/{device}/stock"), *id, &reading(seq, "b"));
    }
    let came: Vec<u16> = ids.iter().map(|_| link.acknowledged()).collect();
    assert_eq!(came, ids);
    assert_eq!((counted(&hub, "journaled"), counted(&hub, "unknown_device")), (200.0, 100.0));
}

#[test]
fn a_broker_that_cuts_every_connection_is_not_hammered() {
    let broker = Scripted::new();
    let hub = Hub::with(behind(broker.address()));
    let mut connections = 0;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        if broker.is_called_within(Duration::from_millis(500)) {
            connections += 1;
        }
    }
    assert!((2..=15).contains(&connections), "{connections} connections in 4 s");
    // And when it comes to its senses, all is well.
    let link = broker.serve(false);
    connected(&hub);
    drop(link);
}

#[test]
fn a_broker_that_talks_nonsense_is_left_and_tried_again() {
    let broker = Scripted::new();
    let hub = Hub::with(behind(broker.address()));
    // Not MQTT; an unsolicited PUBACK, PUBREL and PUBREC; a refused login; a refused subscription.
    broker.accept().send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    for packet in [[0x40, 2, 0, 9], [0x62, 2, 0, 9], [0x50, 2, 0, 9]] {
        broker.serve(false).send(&packet);
    }
    let mut refusing = broker.accept();
    refusing.send(&[0x20, 2, 0, 5]);
    until("it is named", || told(&hub).contains("refuses the hub's credentials").then_some(()));
    let mut refusing = broker.accept();
    refusing.send(&[0x20, 2, 0, 0]);
    let (_, body) = refusing.packet().unwrap();
    refusing.send(&[0x90, 3, body[0], body[1], 0x80]);
    until("it is named", || told(&hub).contains("access list").then_some(()));
    let mut link = broker.serve(true);
    connected(&hub);
    link.publish("stockfold/v1/nobody/stock", 1, b"x");
    assert_eq!(link.acknowledged(), 1);
    assert_eq!(hub.api().metric("stockfold_child_well{child=\"broker-link\"}"), 1.0);
}

#[test]
fn mosquitto_with_tls_certificates_and_the_hub_s_access_list() {
    let own = Authority::new("The broker's");
    let files = tempfile::tempdir().unwrap();
    let server = own.server("broker");
    let client = own.client("stockfold", now_s() - 100, now_s() + 100_000);
    let file = |name: &str, text: &str| written(files.path(), name, text).display().to_string();
    let (ca, certificate, key) = (
        file("ca.pem", &own.pem),
        file("broker.pem", &server.certificate),
        file("broker-key.pem", &server.key),
    );
    let lines = format!(
        "cafile {ca}\ncertfile {certificate}\nkeyfile {key}\nrequire_certificate true\n\
         allow_anonymous false\npassword_file DIR/acl/passwords\nacl_file DIR/acl/acl"
    );
    let Some(mut broker) = Broker::mosquitto_away("broker-tls", &lines) else { return };
    let Some(publish) = foreign("broker-tls", "mosquitto_pub") else { return };
    let acl = broker.dir().join("acl");
    let url = format!("mqtts://localhost:{}", broker.address().port());
    let setup = Setup::default()
        .set("MQTT__BROKER_URL", &url)
        .set("MQTT__BROKER_USERNAME", "stockfold")
        .set("MQTT__BROKER_PASSWORD_FILE", acl.join("hub-password").display())
        .set("MQTT__BROKER_CA_FILE", &ca)
        .set("MQTT__BROKER_CERT_FILE", file("hub.pem", &client.certificate))
        .set("MQTT__BROKER_KEY_FILE", file("hub-key.pem", &client.key));
    let hub = Hub::with(setup);
    until("the missing file is named", || told(&hub).contains("hub-password").then_some(()));
    let shop = Shop::open(hub.api(), "acl", 1, 1);
    let login = shop.enrol("acl-1");
    shop.enrol("acl-2");
    let write = || hub.command(&["device", "acl", "--out", &acl.display().to_string()]);
    write().good();
    let passwords = || {
        let text = fs::read_to_string(acl.join("new-passwords.csv")).unwrap();
        let lines = text.lines().map(|line| line.split_once(',').unwrap());
        lines.map(|(d, p)| (d.to_owned(), p.to_owned())).collect::<Vec<_>>()
    };
    let first = passwords();
    assert_eq!(first.iter().map(|(d, _)| d.as_str()).collect::<Vec<_>>(), ["acl-1", "acl-2"]);
    let mode = fs::metadata(acl.join("new-passwords.csv")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    broker.again();
    connected(&hub);

    let port = broker.address().port().to_string();
    let send = |device: &str, password: &str, topic: &str, seq: u64| {
        let mut command = Command::new(&publish);
        command.args(["-h", "localhost", "-p", &port, "-V", "mqttv5", "-q", "1", "-i", device]);
        command.args(["--cafile", &ca, "--cert", &certificate_of(files.path(), &own), "--key"]);
        command.arg(files.path().join("device-key.pem"));
        Ran::with_input(
            command.args(["-u", device, "-P", password, "-t", topic, "-s"]),
            &reading(seq, "b"),
        )
    };
    send("acl-1", &first[0].1, "stockfold/v1/acl-1/stock", 1).good();
    assert_ne!(
        send("acl-1", &first[1].1, "stockfold/v1/acl-1/stock", 2).code,
        0,
        "another's password"
    );
    // Another's topic: Mosquitto answers the client, and keeps the message from the hub.
    send("acl-2", &first[1].1, "stockfold/v1/acl-1/stock", 3);
    assert_eq!(shop.ledger(&login, 1).applied, 1);

    // Another device: it alone gets a password, and the earlier ones still work.
    shop.enrol("acl-3");
    let again = write();
    assert!(again.code == 1 && again.err.contains("new-passwords.csv"), "{}", again.err);
    fs::remove_file(acl.join("new-passwords.csv")).unwrap();
    assert!(write().good().out.contains("3 kept"), "two devices and the hub");
    let second = passwords();
    assert_eq!(second.len(), 1);
    broker.reload();
    until("the new device is let in", || {
        (send("acl-3", &second[0].1, "stockfold/v1/acl-3/stock", 1).code == 0).then_some(())
    });
    send("acl-1", &first[0].1, "stockfold/v1/acl-1/stock", 4).good();
    assert_eq!(shop.ledger(&login, 2).applied, 2);

    // A plug with topics of its own, and a bridge with a device behind it, which has no password.
    for body in [
        json!({ "id": "acl-plug", "facility": "acl", "profile": "tasmota" }),
        json!({ "id": "acl-bridge", "facility": "acl", "profile": "zigbee2mqtt" }),
        json!({ "id": "acl-behind", "facility": "acl", "profile": "zigbee2mqtt", "gateway": "acl-bridge" }),
        json!({ "id": "acl-alone", "facility": "acl", "profile": "zigbee2mqtt" }),
    ] {
        hub.api().post("/devices", &body).good();
    }
    fs::remove_file(acl.join("new-passwords.csv")).unwrap();
    write().good();
    let third = passwords();
    assert_eq!(
        third.iter().map(|(d, _)| d.as_str()).collect::<Vec<_>>(),
        ["acl-alone", "acl-bridge", "acl-plug"]
    );
    broker.reload();
    let readings = |device: &str| hub.api().all(&format!("/devices/{device}/readings")).len();
    let (bridge, plug) = (&third[1].1, &third[2].1);
    until("the plug is heard", || {
        send("acl-plug", plug, "tele/acl-plug/SENSOR", 1);
        (readings("acl-plug") > 0).then_some(())
    });
    // What is another's to say Mosquitto keeps from the hub.
    send("acl-plug", plug, "zigbee2mqtt/acl-behind", 1);
    send("acl-1", &first[0].1, "zigbee2mqtt/acl-behind", 1);
    let before = counted(&hub, "received");
    send("acl-plug", plug, "tele/acl-plug/SENSOR", 2).good();
    counts(&hub, "received", before + 1.0);
    assert_eq!(readings("acl-behind"), 0);
    until("the device behind the bridge is heard", || {
        send("acl-bridge", bridge, "zigbee2mqtt/acl-behind", 1);
        (readings("acl-behind") > 0).then_some(())
    });
    // For a device that is not behind it, the bridge says nothing, in no tree.
    let before = counted(&hub, "received");
    send("acl-bridge", bridge, "zigbee2mqtt/acl-alone", 1);
    send("acl-bridge", bridge, "stockfold/v1/acl-1/stock", 9);
    send("acl-bridge", bridge, "zigbee2mqtt/acl-behind", 2).good();
    counts(&hub, "received", before + 1.0);
    assert_eq!(readings("acl-alone"), 0);
}

/// A client certificate for a device, written beside its key.
fn certificate_of(dir: &std::path::Path, authority: &Authority) -> String {
    let leaf = authority.client("device", now_s() - 100, now_s() + 10_000);
    written(dir, "device-key.pem", &leaf.key);
    written(dir, "device.pem", &leaf.certificate).display().to_string()
}

#[test]
fn a_broker_of_a_foreign_authority_is_not_believed() {
    let files = tempfile::tempdir().unwrap();
    let (own, other) = (Authority::new("Own"), Authority::new("Other"));
    let server = own.server("broker");
    let file = |name: &str, text: &str| written(files.path(), name, text).display().to_string();
    let lines = format!(
        "cafile {}\ncertfile {}\nkeyfile {}\nallow_anonymous true",
        file("ca.pem", &own.pem),
        file("broker.pem", &server.certificate),
        file("broker-key.pem", &server.key)
    );
    let Some(broker) = Broker::mosquitto("broker-foreign", &lines) else { return };
    let trusted = written(files.path(), "trusted.pem", &other.pem);
    let setup = Setup::default()
        .set("MQTT__BROKER_URL", format!("mqtts://localhost:{}", broker.address().port()))
        .set("MQTT__BROKER_CA_FILE", trusted.display());
    let hub = Hub::with(setup);
    until("it is named", || told(&hub).contains("no TLS connection to the broker").then_some(()));
    // The file is read for each connection: put right, it is used.
    fs::write(&trusted, &own.pem).unwrap();
    connected(&hub);
}
