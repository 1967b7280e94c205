//! Bad input without sockets, each by name, and fuzzed sessions: refused with its reason, never a panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test may panic"
)]

mod mqtt_support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use hub::mqtt::{Counter, Limits, cause::Cause, codec::Bad, session::Progress};
use mqtt_support::*;

const STREAM: &str = "stockfold/v1/a/stock";
const LOCAL: &str = "stockfold/v1/a/local/x";

/// The bytes end a connected session with this reason, told to MQTT 5 and silent in 3.1.1.
fn cut(level: u8, bytes: &[u8], bad: Bad) {
    let ingress = TestIngress::at_once();
    let (core, now) = core(Limits::default(), &ingress);
    let mut a = Peer::connected(&core, now, &hi(level));
    let progress = a.send(bytes);
    assert_eq!(progress, Progress::Over(Cause::Bad(bad)), "{bytes:x?}");
    let said = a.received();
    if level == V5 {
        assert_eq!((said[0].0, said[0].1[0]), (0xE0, bad.reason()));
    } else {
        assert!(said.is_empty());
    }
    assert!(ingress.payloads().is_empty());
    assert_eq!(core.registry.connected(), 0);
}

fn cut_both(make: impl Fn(u8) -> Vec<u8>, bad: Bad) {
    for level in [V3, V5] {
        cut(level, &make(level), bad);
    }
}

#[test]
fn packet_id_zero() {
    cut_both(|v| publish(v, 1, STREAM, 0, "x"), Bad::Malformed);
    cut_both(|v| publish(v, 2, STREAM, 0, "x"), Bad::Malformed);
    cut_both(|v| subscribe(v, 0, "stockfold/v1/a/cmd/#", 0), Bad::Malformed);
    cut_both(|_| ack(0x40, 0), Bad::Malformed);
    cut_both(|_| ack(0x62, 0), Bad::Malformed);
}

#[test]
fn qos_three() {
    cut_both(|v| publish_with(v, 0x36, STREAM, 1, &[], b"x"), Bad::Malformed);
    cut_both(|v| subscribe(v, 1, "stockfold/v1/a/cmd/#", 3), Bad::Malformed);
}

#[test]
fn dup_with_qos_zero() {
    cut_both(|v| publish_with(v, 0x38, STREAM, 1, &[], b"x"), Bad::Malformed);
}

#[test]
fn bad_utf8_and_nul_in_texts() {
    for bytes in [&b"stockfold/v1/a/\xFF"[..], b"stockfold/v1/a/\0", b"stockfold/v1/a/\xED\xA0\x80"]
    {
        for level in [V3, V5] {
            let mut b = (bytes.len() as u16).to_be_bytes().to_vec();
            b.extend(bytes);
            if level == V5 {
                b.push(0);
            }
            cut(level, &packet(0x30, &b), Bad::Malformed);
        }
    }
}

#[test]
fn malformed_length() {
    cut_both(|_| vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], Bad::Malformed);
}

#[test]
fn lengths_that_lie() {
    // The topic claims more than the packet holds.
    cut_both(|_| packet(0x30, &[0, 200, b'a']), Bad::Malformed);
    // No room for the packet id.
    cut_both(|_| packet(0x32, &[0, 1, b'a', 0]), Bad::Malformed);
    // An acknowledgement that is too short.
    cut_both(|_| packet(0x40, &[0]), Bad::Malformed);
    // Properties longer than the packet.
    cut(V5, &packet(0x30, &[0, 1, b'a', 100, 1]), Bad::Malformed);
    // A filter without its options.
    cut_both(
        |v| {
            if v == V5 {
                packet(0x82, &[0, 1, 0, 0, 1, b'a'])
            } else {
                packet(0x82, &[0, 1, 0, 1, b'a'])
            }
        },
        Bad::Malformed,
    );
}

#[test]
fn oversized() {
    // Only the header is there: refused before a byte of the body is stored.
    cut_both(|_| vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F], Bad::TooLarge);
    let limit = Limits::default().packet_bytes_max as usize;
    let body = vec![0; limit];
    cut_both(|_| packet(0x30, &body), Bad::TooLarge);
}

#[test]
fn the_largest_packet_is_accepted() {
    let ingress = TestIngress::at_once();
    let (core, now) = core(Limits::default(), &ingress);
    let mut a = Peer::connected(&core, now, &hi(V3));
    let payload = "x".repeat(Limits::default().packet_bytes_max as usize - 4 - 2 - STREAM.len());
    assert_eq!(a.send(&publish(V3, 0, STREAM, 0, &payload)), Progress::NeedMore);
    assert_eq!(ingress.payloads()[0].len(), payload.len());
}

#[test]
fn an_announced_length_reserves_no_memory() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let mut a = Peer::connected(&core, now, &hi(V5));
    a.input = bytes::BytesMut::new();
    assert_eq!(a.send(&[0x30, 0xFF, 0xFF, 0x06]), Progress::NeedMore);
    assert!(a.input.capacity() < 4096, "{}", a.input.capacity());
}

#[test]
fn reserved_flags_and_types() {
    for first in [0x00, 0x41, 0x60, 0x80, 0xA0, 0xC1] {
        cut_both(|_| packet(first, &[0, 1]), Bad::Malformed);
    }
}

#[test]
fn packets_of_a_server() {
    cut_both(|_| vec![0xD0, 0], Bad::Protocol);
    cut_both(
        |v| if v == V5 { packet(0x20, &[0, 0, 0]) } else { packet(0x20, &[0, 0]) },
        Bad::Protocol,
    );
    cut_both(
        |v| if v == V5 { packet(0x90, &[0, 1, 0, 0]) } else { packet(0x90, &[0, 1, 0]) },
        Bad::Protocol,
    );
    cut(V5, &packet(0xF0, &[0x18, 0]), Bad::Protocol);
    cut(V3, &packet(0xF0, &[]), Bad::Malformed);
}

#[test]
fn second_connect() {
    cut_both(|v| hi(v).bytes(), Bad::Protocol);
}

#[test]
fn empty_subscribe_and_unsubscribe() {
    for first in [0x82, 0xA2] {
        cut_both(
            |v| if v == V5 { packet(first, &[0, 1, 0]) } else { packet(first, &[0, 1]) },
            Bad::Protocol,
        );
    }
}

#[test]
fn subscription_identifier_in_a_publish() {
    cut(V5, &publish_with(V5, 0x30, STREAM, 0, &[0x0B, 1], b"x"), Bad::Protocol);
}

#[test]
fn too_many_user_properties() {
    let property = [0x26, 0, 0, 0, 0];
    let n = Limits::default().user_properties_max + 1;
    let mut b = text(STREAM);
    b.extend([0x80 | (n * 5 % 128) as u8, (n * 5 / 128) as u8]);
    b.extend(property.repeat(n));
    cut(V5, &packet(0x30, &b), Bad::Protocol);
}

#[test]
fn wildcards_in_a_topic_name() {
    for topic in ["stockfold/v1/a/+", "#", "stockfold/v1/a/x#"] {
        let (core, now) = core(Limits::default(), &TestIngress::at_once());
        let mut a = Peer::connected(&core, now, &hi(V5));
        assert_eq!(a.send(&publish(V5, 1, topic, 1, "x")), Progress::Over(Cause::TopicInvalid));
        assert_eq!(a.received()[0].1[0], 0x90);
    }
}

#[test]
fn publish_before_connect() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    for level in [V3, V5] {
        let mut a = Peer::new(&core, now);
        let over = a.send(&publish(level, 1, STREAM, 1, "x"));
        assert_eq!(over, Progress::Over(Cause::Bad(Bad::Protocol)));
        assert!(a.raw().is_empty(), "nobody to talk to");
    }
    assert_eq!(core.stats.get(Counter::RefusedProtocolError), 2);
}

#[test]
fn unknown_protocol_versions() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    for (name, level) in [("MQTT", 6), ("MQTT", 0), ("HTTP", 4), ("MQIsdp", 9)] {
        let mut b = text(name);
        b.extend([level, 2, 0, 60, 0, 1, b'a']);
        let mut a = Peer::new(&core, now);
        assert_eq!(a.send(&packet(0x10, &b)), Progress::Over(Cause::Bad(Bad::Version)));
        assert_eq!(a.raw(), [0x20, 2, 0, 1]);
    }
}

#[test]
fn connects_that_contradict_themselves() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let with_flags = |flags: u8| {
        let mut b = text("MQTT");
        b.extend([4, flags, 0, 60]);
        b.extend(text("a"));
        b.extend(text("x"));
        b.extend(text("y"));
        b.extend(text("z"));
        packet(0x10, &b)
    };
    // Reserved bit; will QoS 3; will retain without will; password without user name.
    for flags in [0b0000_0011, 0b0001_1110, 0b0010_0010, 0b0100_0010] {
        let mut a = Peer::new(&core, now);
        let over = a.send(&with_flags(flags));
        assert_eq!(over, Progress::Over(Cause::Bad(Bad::Malformed)), "{flags:#b}");
    }
    let mut a = Peer::new(&core, now);
    let long = [0x10, 0xFF, 0xFF, 0x03];
    assert_eq!(a.send(&long), Progress::Over(Cause::Bad(Bad::TooLarge)), "before CONNECT 8 KiB");
}

#[test]
fn extended_authentication_is_refused() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let mut a = Peer::new(&core, now);
    a.send(&Hi { properties: &[0x15, 0, 1, b'x'], ..hi(V5) }.bytes());
    assert_eq!(a.raw()[3], 0x8C);
}

/// A small generator of its own, so that a failure names the seed that repeats it.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

fn fuzzed_packet(r: &mut Xorshift, level: u8) -> Vec<u8> {
    // What is wrong is rare, or few sessions would live to do anything.
    let odd = r.below(10) == 0;
    let id = if odd { 0 } else { 1 + r.below(5) as u16 };
    let topic = match r.below(20) {
        0..=9 => STREAM,
        10..=17 => LOCAL,
        18 => ["stockfold/v1/b/x", "", "a/+"][r.below(3)],
        _ => "$share/g/#",
    };
    let mut bytes = match if odd { r.below(12) } else { [1, 2, 3, 4, 5, 7, 9][r.below(7)] } {
        0 => hi(level).bytes(),
        1..=3 => publish(level, r.below(4) as u8, topic, id, ["x", "invalid", "quota"][r.below(3)]),
        4 => subscribe(level, id, topic, r.below(256) as u8),
        5 => packet(0xA2, &[vec![0, id as u8], text(topic)].concat()),
        6 => ack([0x40, 0x50, 0x62, 0x70][r.below(4)], id),
        7 => PING.to_vec(),
        8 => packet(0xE0, &[r.below(256) as u8]),
        9 => {
            let alias = r.below(20) as u8;
            publish_with(level, 0x32, topic, id, &[0x23, 0, alias, 2, 0, 0, 0, 1], b"x")
        }
        10 => (0..r.below(40)).map(|_| r.next() as u8).collect(),
        _ => packet(r.next() as u8, &(0..r.below(30)).map(|_| r.next() as u8).collect::<Vec<_>>()),
    };
    // One in eight is damaged: a flipped byte, a cut, an insertion.
    if r.below(8) == 0 && !bytes.is_empty() {
        let at = r.below(bytes.len());
        match r.below(3) {
            0 => bytes[at] = r.next() as u8,
            1 => bytes.truncate(at),
            _ => bytes.insert(at, r.next() as u8),
        }
    }
    bytes
}

#[test]
fn twenty_thousand_fuzzed_sessions_do_not_panic() {
    let ingress = TestIngress::at_once();
    let limits = Limits {
        connects_burst_per_device_max: u32::MAX,
        connects_per_minute_per_device_max: u32::MAX,
        publishes_burst_per_device_max: u32::MAX,
        publish_bytes_burst_per_device_max: u32::MAX,
        ..Limits::default()
    };
    let (core, now) = core(limits, &ingress);
    let mut opened = 0;
    for seed in 1..=20_000u64 {
        let run = || {
            let mut r = Xorshift(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let level = [V3, V5][r.below(2)];
            let mut peer = Peer::new(&core, now);
            if r.below(10) > 0 {
                let ids = ["a", "a/1", "a/2"];
                let properties: &[u8] = if r.below(2) == 0 {
                    &[0x11, 0, 0, 0, 9, 0x21, 0, 1, 0x27, 0, 0, 0, 5]
                } else {
                    &[]
                };
                let clean = r.below(2) == 0;
                peer.send(&Hi { id: ids[r.below(3)], clean, properties, ..hi(level) }.bytes());
            }
            let open = peer.session.is_open();
            for _ in 0..r.below(12) {
                let bytes = fuzzed_packet(&mut r, level);
                let split = r.below(bytes.len() + 1);
                for part in [&bytes[..split], &bytes[split..]] {
                    if matches!(peer.send(part), Progress::Over(_)) {
                        return open;
                    }
                }
            }
            peer.lose();
            open
        };
        opened += u32::from(
            catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| panic!("seed {seed}")),
        );
    }
    println!("{:?}", core.stats.snapshot().filter(|(_, n)| *n > 0).collect::<Vec<_>>());
    assert!(opened > 15_000, "the fuzzer gets past CONNECT: {opened}");
    assert!(core.stats.get(Counter::Journaled) > 1_000, "and reaches the journal");
    assert!(core.stats.get(Counter::Delivered) > 100, "and the outbox");
    core.sweep(now + std::time::Duration::from_secs(1_000_000));
    assert_eq!((core.registry.connected(), core.registry.away()), (0, 0));
    // What is left queued belongs to nobody but retained messages.
    assert_eq!(core.registry.queued_bytes(), 0);
}
