//! Readers that publish their makers' JSON, by MQTT and webhook, before the real hub.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

#[path = "flow/live.rs"]
mod live;

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use device_profiles::{
    Tag,
    epc::{Epc, Form, Written},
};
use live::Live;
use serde_json::{Value, json};
use simulator::{
    clock::WallClock,
    llrp,
    mqtt::packet::Version,
    publish::{Format, Impinj, Zebra},
};
use stockfold_tests::{Api, Device, Hub, Login, Shop, hub, stockfold_sim, until};

/// GTINs of the goods of each test: a GTIN is one SKU's in the whole hub.
const IMPINJ: &str = "04006381333931";
const ZEBRA: &str = "04006381333948";
const WEBHOOK: &str = "04006381333955";
/// Between two messages of a reader that is told at once, in microseconds: an epoch of most readers.
const STEP_US: i64 = 500_000;
/// Longest wait for an answer to a pushed frame.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A facility with a line that tags count, and a reader of a profile whose only antenna looks at its slot.
fn store(hub: &Hub, facility: &str, profile: &str, gtin: &str) -> (Shop, Login) {
    let shop = Shop::open(hub.api(), facility, 1, 0);
    let (sku, reader) = (format!("{facility}-pen"), format!("{facility}-reader"));
    let data = json!({
        "zones": [{ "facility": facility, "id": "floor", "name": "Floor", "personality": "shelf" }],
        "skus": [{ "id": sku, "name": "Pen", "gtin": gtin }],
        "planogram": [{ "facility": facility, "slot": "slot-0", "sku": sku, "source": "rfid" }],
        "devices": [{ "facility": facility, "id": reader, "profile": profile,
                      "antennas": [{ "port": 1, "zone": "floor", "slot": "slot-0", "outside": false }] }],
    });
    let made = hub.api().post("/import?credentials=true", &data).good();
    let password = made["credentials"][0]["password"].as_str().unwrap().to_owned();
    (shop, Login { device: reader, password })
}

/// A unit of the GTIN.
fn pen(gtin: &str, serial: u32) -> Tag {
    let epc = Epc::sgtin(gtin, 7, &serial.to_string()).unwrap();
    Tag::of_bytes(&Written { epc, filter: 1, form: Form::Sgtin96 }.encode().unwrap()).unwrap()
}

fn read(tag: Tag, at_us: i64) -> llrp::Read {
    llrp::Read { at_us, antenna: 1, tag, rssi_cdbm: -5_206 }
}

/// The only message of some reads.
fn message(format: &mut Format, reads: &[llrp::Read], now_us: i64) -> Vec<u8> {
    let mut messages = format.messages(reads, now_us);
    assert_eq!(messages.len(), 1);
    messages.remove(0)
}

/// Waits until as many units were booked into the slot as there are tags, each by a movement of its own.
fn booked(shop: &Shop, units: i64) -> Vec<Value> {
    let path = format!("/movements?facility={}", shop.facility);
    until(&format!("{units} units are booked in {}", shop.facility), || {
        let movements = shop.api().all(&path);
        let sum: i64 = movements.iter().map(|m| m["delta"].as_i64().unwrap()).sum();
        (sum == units).then_some(movements)
    })
}

#[test]
fn tags_of_an_impinj_reader_are_units_of_their_slot() {
    let hub = hub();
    let (shop, login) = store(&hub, "impinj", "impinj-iot", IMPINJ);
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    let mut format = Format::Impinj(Impinj::new("r700-sim"));
    let (status, text) = format.greeting(&login.device).unwrap();
    assert_eq!(device.publish(&status, text), Ok(0));
    let (topic, now_us) = (format.topic(&login.device), WallClock::start().unix_us());
    let token = std::fs::read_to_string(hub.data_dir().join("admin-token")).unwrap();
    let mut live = Live::open(hub.http(), "/api/v1/live?facility=impinj", token.trim());
    const ROUNDS: i64 = 20;
    for round in 0..ROUNDS {
        let at_us = now_us - (ROUNDS - round) * STEP_US;
        let reads = [1, 2, 3].map(|serial| read(pen(IMPINJ, serial), at_us));
        assert_eq!(device.publish(&topic, &message(&mut format, &reads, now_us)), Ok(0));
    }
    let exits = shop.ledger(&login, ROUNDS as u64 + 1);
    assert_eq!((exits.applied, exits.source_lost), (ROUNDS as u64 + 1, 0), "{exits:?}");
    let movements = booked(&shop, 3);
    assert!(
        movements.iter().all(|m| m["sku"] == "impinj-pen" && m["slot"] == "slot-0"),
        "{movements:#?}"
    );
    // The feed names the tags that came, and where to.
    let mut came = Vec::new();
    while came.len() < 3 {
        let message = live.message();
        let events = message["events"].as_array().cloned().unwrap_or_default();
        came.extend(events.into_iter().filter(|event| event["kind"] == "arrived"));
    }
    let wanted =
        json!({ "tag": pen(IMPINJ, 1).to_string(), "from": null, "to": "floor", "how": null });
    assert!(came.iter().any(|event| event["tag"] == wanted), "{came:#?}");
    // What the reader gave up is counted, once.
    format.give_up();
    let reads = [read(pen(IMPINJ, 1), now_us)];
    for _ in 0..2 {
        assert_eq!(device.publish(&topic, &message(&mut format, &reads, now_us)), Ok(0));
    }
    assert_eq!(shop.ledger(&login, ROUNDS as u64 + 3).source_lost, 1);
}

#[test]
fn numbers_that_a_zebra_reader_left_out_are_counted_as_lost() {
    let hub = hub();
    let (shop, login) = store(&hub, "zebra", "zebra-iotc", ZEBRA);
    let mut device = Device::connected(hub.mqtt(), Version::V3, &login);
    let mut reader = Zebra::default();
    let now_us = WallClock::start().unix_us();
    let topic = Format::Zebra(reader.clone()).topic(&login.device);
    for (frame, skipped) in [0, 0, 4, 0, 7].into_iter().enumerate() {
        reader.skip(skipped);
        reader.glued = frame % 2 == 1;
        let mut payload = Vec::new();
        if frame == 3 {
            // And three within a message.
            payload = reader.message(&[read(pen(ZEBRA, 1), now_us)]);
            reader.skip(3);
        }
        payload.extend(reader.message(&[read(pen(ZEBRA, 1), now_us), read(pen(ZEBRA, 2), now_us)]));
        assert_eq!(device.publish(&topic, &payload), Ok(0));
    }
    let exits = shop.ledger(&login, 5);
    assert_eq!((exits.applied, exits.source_lost), (5, 14), "{exits:?}");
}

/// Posts a body as a device; the status.
fn push(hub: &Hub, login: &Login, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(hub.http()).unwrap();
    stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
    stream.set_write_timeout(Some(ANSWER_MAX)).unwrap();
    let head = format!(
        "POST /api/v1/devices/{}/readings/reads HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        login.device,
        login.password,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    for piece in body.chunks(64 * 1024) {
        // A hub that has refused reads no more.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap()
}

#[test]
fn a_webhook_s_events_are_read_and_ten_megabytes_are_not() {
    let hub = hub();
    let (shop, login) = store(&hub, "webhook", "impinj-iot", WEBHOOK);
    let now_us = WallClock::start().unix_us();
    let mut format = Format::Impinj(Impinj { hex: true, ..Impinj::new("r700-hook") });
    let body = message(
        &mut format,
        &[read(pen(WEBHOOK, 1), now_us), read(pen(WEBHOOK, 2), now_us)],
        now_us,
    );
    assert_eq!(push(&hub, &login, &body), 204);
    let wrong = Login { password: "wrong".into(), ..login.clone() };
    assert_eq!(push(&hub, &wrong, &body), 401);
    let long = [br#"[{"eventType":""#.to_vec(), vec![b'x'; 10_000_000]].concat();
    assert_eq!(push(&hub, &login, &long), 413);
    let exits = shop.ledger(&login, 1);
    assert_eq!((exits.applied, exits.rejected), (1, 0), "{exits:?}");
}

#[test]
fn garbage_of_either_make_is_kept_by_name_and_harms_nobody() {
    const GTINS: [&str; 2] = ["04006381333962", "04006381333979"];
    let hub = hub();
    for (profile, gtin, mut format) in [
        ("impinj-iot", GTINS[0], Format::Impinj(Impinj::new("garbage"))),
        ("zebra-iotc", GTINS[1], Format::Zebra(Zebra::default())),
    ] {
        let facility = format!("garbage-{profile}");
        let (shop, login) = store(&hub, &facility, profile, gtin);
        let topic = format.topic(&login.device);
        let now_us = WallClock::start().unix_us();
        let sound = message(&mut format, &[read(pen(gtin, 1), now_us)], now_us);
        let cut = &sound[..sound.len() / 2];
        let cases: [(&[u8], &str); 7] = [
            (b"", "empty"),
            (b"\xff\xfe", "not_json"),
            (cut, "not_json"),
            (b"7", "wrong_type"),
            (b"{}", "missing_field"),
            (b"[[]]", "wrong_type"),
            (&[b'['; 100_000], "too_deep"),
        ];
        let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
        for (garbage, _) in cases {
            device.publish(&topic, garbage).unwrap_or_else(|code| panic!("cut with {code:?}"));
        }
        assert_eq!(device.publish(&topic, &sound), Ok(0), "the connection is still good");
        let exits = shop.ledger(&login, cases.len() as u64 + 1);
        assert_eq!((exits.applied, exits.rejected), (1, cases.len() as u64), "{exits:?}");
        for (row, (garbage, reason)) in shop.refused(&login).iter().zip(cases) {
            let text = String::from_utf8_lossy(garbage);
            assert_eq!(row["reason"], reason, "{text:.80}");
            let hex: String = garbage.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(row["raw_hex"].as_str(), Some(hex.as_str()), "{text:.80}");
        }
        // Ten megabytes end the connection that brings them, and are nowhere.
        let long = [&sound[..], &vec![b' '; 10_000_000]].concat();
        assert_eq!(device.publish(&topic, &long), Err(Some(0x95)));
        let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
        assert_eq!(device.publish(&topic, &sound), Ok(0));
        assert_eq!(shop.ledger(&login, cases.len() as u64 + 2).applied, 2);
    }
    hub.is_sound();
}

/// The simulator's program; it ends with this.
struct Simulated(Child);

impl Drop for Simulated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn applied(api: &Api, facility: &str) -> u64 {
    let rows = api.all(&format!("/ledger?facility={facility}"));
    rows.iter().map(|row| row["applied"].as_u64().unwrap()).sum()
}

#[test]
fn the_simulated_store_publishes_as_either_make() {
    // Their readers have the same names, so each has a hub of its own.
    for via in ["impinj", "zebra"] {
        let hub = Hub::start();
        // It is asked for before the simulator has made it.
        Shop::open(hub.api(), via, 1, 0);
        let mut command = Command::new(stockfold_sim());
        command
            .args(["tags", "portal", "--via", via, "--facility", via, "--hours", "1"])
            .args(["--hub", &format!("http://{}", hub.http())])
            .args(["--mqtt", &hub.mqtt().to_string(), "--token-file"])
            .arg(hub.data_dir().join("admin-token"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let _simulated = Simulated(command.spawn().unwrap());
        until("its reads are applied", || (applied(hub.api(), via) >= 10).then_some(()));
        let refused = hub.api().all(&format!("/quarantine?facility={via}"));
        assert_eq!(refused, Vec::<Value>::new());
    }
}
