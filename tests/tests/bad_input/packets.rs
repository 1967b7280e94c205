//! Bytes that are no packets, packets that are too large, and peers that say nothing or very little.

use std::time::{Duration, Instant};

use stockfold_tests::{Device, Version, hub};

use crate::common::Bystander;

/// From accept to a complete CONNECT, as `docs/limits.md` has it, and what a loaded machine may add.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(20);

/// First bytes of a connection that are no CONNECT.
const NO_CONNECT: &[(&str, &[u8])] = &[
    ("noise", b"\xde\xad\xbe\xef\x00\x00\x00\x00"),
    ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ("packet type 0", b"\x00\x00"),
    ("packet type 15 (AUTH) first", b"\xf0\x00"),
    ("PUBLISH first", b"\x32\x09\x00\x03a/b\x00\x01{}"),
    ("PINGREQ first", b"\xc0\x00"),
    ("a length of five bytes", b"\x10\xff\xff\xff\xff\x01"),
    ("CONNECT with flags", b"\x13\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"),
    ("another protocol's name", b"\x10\x0c\x00\x04MQTX\x04\x02\x00\x00\x00\x00"),
    ("protocol level 9", b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x00\x00\x00"),
    ("the reserved connect flag", b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x00\x00\x00"),
    ("a client id longer than the packet", b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x7f\xff"),
    ("a CONNECT of 1 MB", b"\x10\x80\x80\x40"),
];

/// Bytes on an open connection that end it.
const NO_PACKET: &[(&str, &[u8])] = &[
    ("QoS 3", b"\x36\x09\x00\x03a/b\x00\x01{}"),
    ("packet id 0", b"\x32\x09\x00\x03a/b\x00\x00{}"),
    ("a topic longer than the packet", b"\x32\x05\x7f\xff\x00\x01x"),
    ("a topic that is not UTF-8", b"\x32\x09\x00\x03\xff\xfe\xfd\x00\x01{}"),
    ("a wildcard in a topic name", b"\x32\x09\x00\x03a/#\x00\x01{}"),
    ("a second CONNECT", b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"),
    ("a CONNACK", b"\x20\x02\x00\x00"),
    ("SUBSCRIBE without a filter", b"\x82\x02\x00\x01"),
    ("a packet of 256 MB", b"\x32\xff\xff\xff\x7f"),
];

#[test]
fn bytes_that_are_no_packets_end_their_connection_only() {
    let hub = hub();
    let shop = hub.shop("noise");
    let mut bystander = Bystander::of(&hub, &shop);
    for (name, bytes) in NO_CONNECT {
        let mut device = Device::dial(hub.mqtt(), Version::V3);
        device.send(bytes);
        // Not the deadline: the bytes themselves are the reason.
        assert!(device.closes_within(CONNECT_DEADLINE / 2), "{name} was not cut");
    }
    for version in [Version::V3, Version::V5] {
        for (index, (name, bytes)) in NO_PACKET.iter().enumerate() {
            let login = shop.enrol(&format!("noise-{version:?}-{index}"));
            let mut device = Device::connected(hub.mqtt(), version, &login);
            device.stock(1, "b", "sku-0", 1);
            device.send(bytes);
            assert!(
                device.closes_within(CONNECT_DEADLINE / 2),
                "{name} was not cut in {version:?}"
            );
            shop.ledger(&login, 1);
        }
        bystander.works();
    }
    assert_eq!(shop.quantity("slot-0", "sku-0"), 2 * NO_PACKET.len() as i64);
    bystander.lost_nothing();
    hub.is_sound();
}

#[test]
fn packets_beyond_the_limit_are_refused_with_their_reason() {
    let hub = hub();
    let shop = hub.shop("large");
    let bystander = Bystander::of(&hub, &shop);
    let login = shop.enrol("large-device");
    let topic = "stockfold/v1/large-device/stock";
    let padded = |bytes: usize| {
        let mut payload = br#"{"seq":1,"boot":"b","values":{"sku":"sku-0","delta":1}}"#.to_vec();
        payload.resize(bytes, b' ');
        payload
    };
    let mut device = Device::connected(hub.mqtt(), Version::V5, &login);
    assert_eq!(device.publish(topic, &padded(128 * 1024 - topic.len() - 16)), Ok(0), "just fits");
    assert_eq!(device.publish(topic, &padded(128 * 1024 + 1)), Err(Some(0x95)));
    let mut device = Device::connected(hub.mqtt(), Version::V3, &login);
    assert_eq!(device.publish(topic, &padded(128 * 1024 + 1)), Err(None));
    shop.settles(&login, 1, "slot-0", "sku-0", 1);
    bystander.lost_nothing();
    hub.is_sound();
}

#[test]
fn silent_and_slow_peers_are_cut_at_the_deadline_and_hold_nobody_up() {
    let hub = hub();
    let shop = hub.shop("slow");
    let mut bystander = Bystander::of(&hub, &shop);
    let login = shop.enrol("slow-device");
    let began = Instant::now();
    let connect = stockfold_tests::connect_bytes(Version::V3, "slow-device", &login);
    let mut half_open: Vec<Device> = (0..200)
        .map(|n| {
            let mut device = Device::dial(hub.mqtt(), Version::V3);
            // Nothing, a byte, half a CONNECT, all but its last byte.
            let said = [0, 1, connect.len() / 2, connect.len() - 1][n % 4];
            device.send(&connect[..said]);
            device
        })
        .collect();
    // A CONNECT that comes in single bytes, but in time, is a CONNECT.
    let mut slow = Device::dial(hub.mqtt(), Version::V3);
    for byte in &connect {
        slow.send(&[*byte]);
    }
    assert!(matches!(slow.receive(), Some(stockfold_tests::Incoming::ConnAck { code: 0, .. })));
    slow.id = "slow-device".into();
    slow.stock(1, "b", "sku-0", 1);
    for device in &mut half_open {
        bystander.works();
        assert!(device.closes_within(CONNECT_DEADLINE + SLACK), "a silent peer was not cut");
    }
    assert!(began.elapsed() >= CONNECT_DEADLINE, "cut before the deadline");
    shop.settles(&login, 1, "slot-0", "sku-0", 1);
    bystander.lost_nothing();
    hub.is_sound();
}
