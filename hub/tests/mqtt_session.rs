//! The protocol without sockets: acknowledgements, QoS 2, sessions, subscriptions, wills, limits.
//! Packets are made and read by hand in `mqtt_support`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test may panic"
)]

mod mqtt_support;

use std::{
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::Duration,
};

use hub::mqtt::{
    Core, Counter, Limits, PublishError, Qos, Receipt, cause::Cause, inbound::Wait,
    session::Progress,
};
use mqtt_support::*;

const STREAM: &str = "stockfold/v1/a/stock";
const LOCAL: &str = "stockfold/v1/a/local/x";

fn as_id(level: u8, id: &'static str) -> Hi<'static> {
    Hi { id, ..hi(level) }
}

fn kept(level: u8, id: &'static str) -> Hi<'static> {
    // Session expiry 100 s in MQTT 5; clean session 0 in 3.1.1.
    let properties: &[u8] = if level == V5 { &[0x11, 0, 0, 0, 100] } else { &[] };
    Hi { id, clean: false, properties, ..hi(level) }
}

#[test]
fn puback_comes_only_after_the_commit_and_in_order() {
    for level in [V3, V5] {
        let ingress = TestIngress::by_hand();
        let (core, now) = core(Limits::default(), &ingress);
        let mut a = Peer::connected(&core, now, &hi(level));
        for id in 1..=100 {
            assert_eq!(a.send(&publish(level, 1, STREAM, id, "x")), Progress::NeedMore);
        }
        a.send(&PING);
        assert_eq!(a.raw(), PONG, "nothing is acknowledged before it is durable");
        ingress.commit(40);
        a.go_on();
        let expected: Vec<u8> = (1..=40).flat_map(|id| ack(0x40, id)).collect();
        assert_eq!(a.raw(), expected);
        ingress.commit(60);
        a.go_on();
        assert_eq!(a.received().len(), 60);
        assert!(a.session.is_settled());
        assert_eq!(core.stats.get(Counter::Acknowledged), 100);
    }
}

#[test]
fn a_refused_publish_is_answered_in_its_turn_with_its_reason() {
    let ingress = TestIngress::by_hand();
    let (core, now) = core(Limits::default(), &ingress);
    let mut a = Peer::connected(&core, now, &hi(V5));
    a.send(&publish(V5, 1, STREAM, 1, "x"));
    a.send(&publish(V5, 1, "stockfold/v1/b/stock", 2, "x"));
    a.send(&publish(V5, 1, "elsewhere", 3, "x"));
    a.send(&publish(V5, 1, STREAM, 4, "invalid"));
    a.send(&publish(V5, 1, STREAM, 5, "quota"));
    a.send(&publish_with(V5, 0x32, STREAM, 6, &[1, 1], &[0xFF]));
    a.send(&publish(V5, 2, "stockfold/v1/b/stock", 7, "x"));
    assert!(a.raw().is_empty());
    ingress.commit(1);
    a.go_on();
    let mut expected = ack(0x40, 1);
    for (id, code) in [(2, 0x87), (3, 0x90), (4, 0x99), (5, 0x97), (6, 0x99)] {
        expected.extend([0x40, 3, 0, id, code]);
    }
    expected.extend([0x50, 3, 0, 7, 0x87]);
    assert_eq!(a.raw(), expected);
    assert_eq!(ingress.payloads(), ["x"]);
}

#[test]
fn a_refused_publish_disconnects_3_1_1() {
    for (topic, payload, cause) in [
        ("stockfold/v1/b/stock", "x", Cause::TopicAcl),
        ("elsewhere", "x", Cause::TopicInvalid),
        (STREAM, "quota", Cause::Quota),
    ] {
        let ingress = TestIngress::at_once();
        let (core, now) = core(Limits::default(), &ingress);
        let mut a = Peer::connected(&core, now, &hi(V3));
        assert_eq!(a.send(&publish(V3, 1, topic, 1, payload)), Progress::Over(cause));
        assert!(a.raw().is_empty(), "3.1.1 has no DISCONNECT from the server");
        assert!(!core.registry.is_connected("a"));
    }
}

#[test]
fn a_settled_invalid_payload_is_acknowledged_to_3_1_1() {
    let (core, now) = core(Limits::default(), &TestIngress::by_hand());
    let mut a = Peer::connected(&core, now, &hi(V3));
    a.send(&publish(V3, 1, STREAM, 9, "invalid"));
    assert_eq!(a.raw(), ack(0x40, 9));
}

#[test]
fn qos2_is_appended_once_and_recorded_after_the_commit() {
    for level in [V3, V5] {
        let ingress = TestIngress::by_hand();
        let (core, now) = core(Limits::default(), &ingress);
        let mut a = Peer::connected(&core, now, &hi(level));
        a.send(&publish(level, 2, STREAM, 5, "x"));
        a.send(&publish_with(level, 0x3C, STREAM, 5, &[], b"x"));
        assert!(a.raw().is_empty());
        ingress.commit(9);
        a.go_on();
        assert_eq!(a.raw(), [ack(0x50, 5), ack(0x50, 5)].concat());
        a.send(&publish_with(level, 0x3C, STREAM, 5, &[], b"x"));
        assert_eq!(a.raw(), ack(0x50, 5));
        a.send(&ack(0x62, 5));
        assert_eq!(a.raw(), ack(0x70, 5));
        assert_eq!(ingress.payloads(), ["x"]);
        a.send(&publish(level, 2, STREAM, 5, "y"));
        assert_eq!(ingress.payloads(), ["x", "y"], "after PUBREL the id is free");
        assert_eq!(core.stats.get(Counter::DuplicateQos2), 2);
    }
}

#[test]
fn qos2_sent_again_after_a_reconnect_still_waits_for_the_first_append() {
    let ingress = TestIngress::by_hand();
    let (core, now) = core(Limits::default(), &ingress);
    let mut old = Peer::connected(&core, now, &kept(V5, "a"));
    old.send(&publish(V5, 2, STREAM, 5, "x"));
    let mut new = Peer::connected(&core, now, &kept(V5, "a"));
    new.send(&publish_with(V5, 0x3C, STREAM, 5, &[], b"x"));
    assert!(new.raw().is_empty());
    ingress.commit(1);
    new.go_on();
    assert_eq!(new.raw(), ack(0x50, 5));
    assert_eq!(ingress.payloads(), ["x"]);
}

#[test]
fn unknown_pubrel_is_answered() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let mut a = Peer::connected(&core, now, &hi(V5));
    a.send(&ack(0x62, 7));
    assert_eq!(a.raw(), [0x70, 3, 0, 7, 0x92]);
    let mut a = Peer::connected(&core, now, &hi(V3));
    a.send(&ack(0x62, 7));
    assert_eq!(a.raw(), ack(0x70, 7));
}

#[test]
fn more_than_the_receive_maximum_is_cut() {
    let ingress = TestIngress::by_hand();
    let limits = Limits { receive_max: 4, ..Limits::default() };
    let (core, now) = core(limits, &ingress);
    let mut a = Peer::connected(&core, now, &hi(V5));
    for id in 1..=2 {
        a.send(&publish(V5, 1, STREAM, id, "x"));
        a.send(&publish(V5, 2, STREAM, 10 + id, "x"));
    }
    ingress.commit(1);
    a.go_on();
    assert_eq!(a.send(&publish(V5, 1, STREAM, 3, "x")), Progress::NeedMore, "one was released");
    a.raw();
    assert_eq!(a.send(&publish(V5, 1, STREAM, 4, "x")), Progress::Over(Cause::ReceiveMaximum));
    let said = a.received().pop().unwrap();
    assert_eq!((said.0, said.1[0]), (0xE0, 0x93));
}

#[test]
fn a_full_journal_stops_reading_and_loses_nothing() {
    let ingress = TestIngress::by_hand();
    ingress.capacity.store(2, SeqCst);
    let (core, now) = core(Limits::default(), &ingress);
    let mut a = Peer::connected(&core, now, &hi(V3));
    let all: Vec<u8> = (1..=5)
        .flat_map(|id| publish(V3, u8::from(id % 2 == 0), STREAM, id, &id.to_string()))
        .collect();
    assert_eq!(a.send(&all), Progress::Blocked(Wait::Timer(Duration::from_millis(5))));
    assert_eq!(a.go_on(), Progress::Blocked(Wait::Timer(Duration::from_millis(5))));
    assert_eq!(ingress.payloads(), ["1", "2"]);
    assert_eq!(a.session.silent_at(), None, "silence while the hub does not listen is not counted");
    ingress.commit(2);
    a.go_on();
    ingress.commit(2);
    assert_eq!(a.go_on(), Progress::NeedMore);
    ingress.commit(2);
    a.go_on();
    assert_eq!(ingress.payloads(), ["1", "2", "3", "4", "5"]);
    assert_eq!(a.raw(), [ack(0x40, 2), ack(0x40, 4)].concat());
}

#[test]
fn too_many_pending_bytes_stop_reading() {
    let ingress = TestIngress::by_hand();
    let limits = Limits { pending_bytes_max: 10, ..Limits::default() };
    let (core, now) = core(limits, &ingress);
    let mut a = Peer::connected(&core, now, &hi(V3));
    let one = publish(V3, 0, STREAM, 0, "12345678");
    assert_eq!(a.send(&one.repeat(3)), Progress::Blocked(Wait::Durable));
    assert_eq!(ingress.payloads().len(), 2);
    assert!(!a.session.has_room());
    ingress.commit(1);
    assert_eq!(a.go_on(), Progress::Blocked(Wait::Durable));
    assert!(a.session.has_room());
    assert_eq!(a.go_on(), Progress::NeedMore);
    assert_eq!(ingress.payloads().len(), 3);
}

#[test]
fn a_device_that_is_too_fast_waits() {
    let limits = Limits {
        publishes_per_second_per_device_max: 10,
        publishes_burst_per_device_max: 3,
        ..Limits::default()
    };
    let ingress = TestIngress::at_once();
    let (core, now) = core(limits, &ingress);
    let mut a = Peer::connected(&core, now, &hi(V3));
    let mut a2 = Peer::connected(&core, now, &as_id(V3, "a/2"));
    let wait = Progress::Blocked(Wait::Timer(Duration::from_millis(100)));
    assert_eq!(a.send(&publish(V3, 0, STREAM, 0, "x").repeat(4)), wait);
    assert_eq!(a2.send(&publish(V3, 0, STREAM, 0, "y")), wait, "the rate is the device's");
    a.now += Duration::from_millis(100);
    assert_eq!(a.go_on(), Progress::NeedMore);
    assert_eq!(ingress.payloads().len(), 4);
}

#[test]
fn topic_aliases_stand_for_topics() {
    let ingress = TestIngress::at_once();
    let (core, now) = core(Limits::default(), &ingress);
    let mut a = Peer::connected(&core, now, &hi(V5));
    a.send(&publish_with(V5, 0x30, STREAM, 0, &[0x23, 0, 1], b"1"));
    a.send(&publish_with(V5, 0x30, "", 0, &[0x23, 0, 1], b"2"));
    assert_eq!(ingress.appended.lock().unwrap()[1], (STREAM.to_owned(), b"2".to_vec()));
    let over = a.send(&publish_with(V5, 0x30, "", 0, &[0x23, 0, 2], b"3"));
    assert_eq!(over, Progress::Over(Cause::TopicAlias));
    assert_eq!(a.raw()[2], 0x94);
    let mut a = Peer::connected(&core, now, &hi(V5));
    let over = a.send(&publish_with(V5, 0x30, STREAM, 0, &[0x23, 0, 17], b"3"));
    assert_eq!(over, Progress::Over(Cause::TopicAlias));
}

#[test]
fn client_ids_belong_to_their_device() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    for level in [V3, V5] {
        for good in ["a", "a/x", "a/x/y"] {
            Peer::connected(&core, now, &Hi { id: good, ..hi(level) });
        }
        for bad in ["b", "ab", "a/", "/a", "b/a"] {
            let mut peer = Peer::new(&core, now);
            peer.send(&Hi { id: bad, ..hi(level) }.bytes());
            let raw = peer.raw();
            assert_eq!(raw[0], 0x20);
            assert_eq!(raw[3], if level == V5 { 0x85 } else { 2 }, "{bad}");
        }
    }
}

#[test]
fn an_empty_client_id_is_assigned() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let mut peer = Peer::new(&core, now);
    peer.send(&Hi { id: "", ..hi(V5) }.bytes());
    let raw = peer.raw();
    let at = raw.windows(10).position(|w| w == b"\x00\x08a/auto-1").expect("assigned id");
    assert_eq!(raw[at - 1], 0x12);
    Peer::connected(&core, now, &Hi { id: "", ..hi(V3) });
    let mut peer = Peer::new(&core, now);
    peer.send(&Hi { id: "", clean: false, ..hi(V3) }.bytes());
    assert_eq!(peer.raw(), [0x20, 2, 0, 2]);
}

#[test]
fn connack_states_the_limits() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let mut peer = Peer::new(&core, now);
    peer.send(&Hi { keep_alive: 0, ..hi(V5) }.bytes());
    let raw = peer.raw();
    for property in
        [&[0x21, 0x04, 0x00][..], &[0x27, 0, 2, 0, 0], &[0x22, 0, 16], &[0x13, 0x04, 0xB0]]
    {
        assert!(raw.windows(property.len()).any(|w| w == property), "{property:x?} in {raw:x?}");
    }
}

#[test]
fn credentials_are_refused_with_their_reason() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    for (user, password, v3, v5) in
        [("a", "wrong", 4, 0x86), ("nobody", "x", 5, 0x87), ("off", "pw-off", 5, 0x8A)]
    {
        for (level, code) in [(V3, v3), (V5, v5)] {
            let mut peer = Peer::new(&core, now);
            let progress = peer.send(&Hi { user, password, ..hi(level) }.bytes());
            assert!(matches!(progress, Progress::Over(Cause::Refused(_))));
            assert_eq!(peer.raw()[3], code, "{user}");
        }
    }
    assert_eq!(core.registry.connected(), 0);
    assert_eq!(core.stats.get(Counter::RefusedCredentials), 2);
    assert_eq!(core.stats.get(Counter::RefusedNotEnrolled), 2);
    assert_eq!(core.stats.get(Counter::RefusedDisabled), 2);
}

#[test]
fn a_flapping_device_is_refused_and_let_in_later() {
    let limits = Limits { connects_burst_per_device_max: 3, ..Limits::default() };
    let (core, now) = core(limits, &TestIngress::at_once());
    for _ in 0..3 {
        Peer::connected(&core, now, &hi(V5)).lose();
    }
    let mut peer = Peer::new(&core, now);
    peer.send(&hi(V5).bytes());
    assert_eq!(peer.raw()[3], 0x9F);
    let mut other = Peer::new(&core, now);
    other.send(&Hi { id: "b", user: "b", password: "pw-b", ..hi(V5) }.bytes());
    assert_eq!(other.raw()[3], 0, "others are not affected");
    Peer::connected(&core, now + Duration::from_secs(1), &hi(V5));
}

#[test]
fn keep_alive_and_a_half() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let mut a = Peer::connected(&core, now, &Hi { keep_alive: 10, ..hi(V3) });
    assert_eq!(a.session.silent_at(), Some(now + Duration::from_secs(15)));
    a.now += Duration::from_secs(9);
    a.send(&PING);
    assert_eq!(a.session.silent_at(), Some(now + Duration::from_secs(24)));
    let a = Peer::connected(&core, now, &Hi { keep_alive: 0, ..hi(V3) });
    assert_eq!(a.session.silent_at(), None);
}

#[test]
fn messages_are_routed_within_a_device() {
    for level in [V3, V5] {
        let ingress = TestIngress::at_once();
        let (core, now) = core(Limits::default(), &ingress);
        let mut one = Peer::connected(&core, now, &as_id(level, "a/1"));
        let mut two = Peer::connected(&core, now, &as_id(level, "a/2"));
        for (i, filter) in ["stockfold/v1/a/local/+", "stockfold/v1/a/local/#"].iter().enumerate() {
            two.send(&subscribe(level, 1 + i as u16, filter, 1));
        }
        two.raw();
        one.send(&publish(level, 2, LOCAL, 1, "hello"));
        assert_eq!(one.raw(), ack(0x50, 1));
        let got = two.messages(level);
        assert_eq!(got.len(), 1, "overlapping filters deliver once");
        assert_eq!((got[0].0, &*got[0].1, &*got[0].4), (0x32, LOCAL, "hello"));
        assert!(ingress.payloads().is_empty(), "not a reading");
        let unsubscribe: Vec<u8> = {
            let mut b = vec![0, 9];
            if level == V5 {
                b.push(0);
            }
            b.extend(text("stockfold/v1/a/local/#"));
            b.extend(text("stockfold/v1/a/local/none"));
            packet(0xA2, &b)
        };
        two.send(&ack(0x40, got[0].2));
        two.send(&unsubscribe);
        let expected: &[u8] =
            if level == V5 { &[0xB0, 5, 0, 9, 0, 0, 0x11] } else { &[0xB0, 2, 0, 9] };
        assert_eq!(two.raw(), expected);
    }
}

#[test]
fn subscriptions_are_refused_with_their_reason() {
    let (core, now) = core(
        Limits { subscriptions_per_client_max: 1, ..Limits::default() },
        &TestIngress::at_once(),
    );
    for (level, codes) in [(V5, [1, 0x87, 0x8F, 0x8F, 0x97]), (V3, [1, 0x80, 0x80, 0x80, 0x80])] {
        let mut a = Peer::connected(&core, now, &hi(level));
        a.send(&subscribe_with(
            level,
            1,
            &[],
            &[
                ("stockfold/v1/a/cmd/#", 1),
                ("stockfold/v1/b/cmd/#", 1),
                ("elsewhere", 1),
                ("stockfold/v1/a/cmd/#/x", 1),
                (LOCAL, 1),
            ],
        ));
        let body = &a.received()[0].1;
        assert_eq!(body[body.len() - 5..], codes);
    }
}

#[test]
fn subscription_options_of_mqtt_5() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let mut one = Peer::connected(&core, now, &as_id(V5, "a/1"));
    // No Local for oneself; identifier 7.
    one.send(&subscribe_with(V5, 1, &[0x0B, 7], &[(LOCAL, 0b0000_0101)]));
    one.raw();
    one.send(&publish(V5, 0, LOCAL, 0, "mine"));
    assert!(one.messages(V5).is_empty(), "no local");
    let mut two = Peer::connected(&core, now, &as_id(V5, "a/2"));
    two.send(&publish_with(V5, 0x31, LOCAL, 0, &[0x26, 0, 1, b'k', 0, 1, b'v'], b"kept"));
    let got = one.messages(V5);
    assert_eq!(got[0].0, 0x30, "retain cleared without Retain As Published");
    assert_eq!(got[0].3, [0x0B, 7, 0x26, 0, 1, b'k', 0, 1, b'v']);
    // Retain handling: 2 = never, 1 = when new, 0 = always; 8 = Retain As Published.
    let mut three = Peer::connected(&core, now, &as_id(V5, "a/3"));
    for (options, expected) in [(0x20, 0), (0x10, 0), (0x00, 1), (0x18, 0)] {
        three.send(&subscribe_with(V5, 2, &[], &[(LOCAL, options)]));
        let messages = three.received();
        let n = messages.iter().filter(|p| p.0 >> 4 == 3).count();
        assert_eq!(n, expected, "options {options:#x}");
    }
    two.send(&publish_with(V5, 0x31, LOCAL, 0, &[], b"again"));
    assert_eq!(three.messages(V5)[0].0, 0x31, "Retain As Published");
}

#[test]
fn retained_messages_are_kept_replaced_and_removed() {
    let limits = Limits { retained_messages_max: 2, ..Limits::default() };
    let (core, now) = core(limits, &TestIngress::at_once());
    let mut a = Peer::connected(&core, now, &hi(V3));
    for (topic, payload) in [("1", "x"), ("2", "x"), ("3", "x"), ("1", "y"), ("2", "")] {
        let topic = format!("stockfold/v1/a/local/{topic}");
        a.send(&publish_with(V3, 0x31, &topic, 0, &[], payload.as_bytes()));
    }
    assert_eq!(core.stats.get(Counter::RetainedFull), 1);
    let mut b = Peer::connected(&core, now, &as_id(V3, "a/b"));
    b.send(&subscribe(V3, 1, "stockfold/v1/a/local/#", 0));
    let got = b.received();
    assert_eq!(got.len(), 2, "SUBACK, then what is retained");
    assert_eq!(got[0].0, 0x90);
    let (first, topic, _, _, payload) = published(V3, &got[1]);
    assert_eq!((first, &*topic, &*payload), (0x31, "stockfold/v1/a/local/1", "y"));
}

#[test]
fn messages_expire() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let mut a = Peer::connected(&core, now, &hi(V5));
    a.send(&publish_with(V5, 0x31, LOCAL, 0, &[2, 0, 0, 0, 10], b"x"));
    let later = now + Duration::from_secs(4);
    let mut b = Peer::connected(&core, later, &as_id(V5, "a/b"));
    b.send(&subscribe(V5, 1, LOCAL, 0));
    assert_eq!(published(V5, &b.received()[1]).3, [2, 0, 0, 0, 6], "the remaining lifetime");
    core.sweep(now + Duration::from_secs(10));
    assert_eq!(core.registry.retained(), (0, 0));
}

#[test]
fn shared_subscriptions_take_turns() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let mut sender = Peer::connected(&core, now, &hi(V5));
    let mut members: Vec<_> = ["a/1", "a/2"]
        .map(|id| {
            let mut m = Peer::connected(&core, now, &as_id(V5, id));
            m.send(&subscribe(V5, 1, &format!("$share/g/{LOCAL}"), 0));
            m.raw();
            m
        })
        .into();
    for _ in 0..10 {
        sender.send(&publish(V5, 0, LOCAL, 0, "x"));
    }
    assert_eq!(members.iter_mut().map(|m| m.messages(V5).len()).collect::<Vec<_>>(), [5, 5]);
    members[0].lose();
    sender.send(&publish(V5, 0, LOCAL, 0, "x").repeat(2));
    assert_eq!(members[1].messages(V5).len(), 2);
}

/// A message of the hub's to a device, for whoever hears it.
fn command(core: &Core, device: &str, name: &str, payload: &[u8]) -> Result<usize, PublishError> {
    let topic = format!("stockfold/v1/{device}/cmd/{name}");
    core.registry.publish(&topic, payload, Qos::AtLeastOnce, false)
}

#[test]
fn a_receipt_tells_once_what_became_of_a_command() {
    for level in [V3, V5] {
        let (core, now) = core(Limits::default(), &TestIngress::at_once());
        let told: Arc<Mutex<Vec<bool>>> = Arc::default();
        let send = || {
            let told = Arc::clone(&told);
            let receipt = Receipt::new(move |taken| told.lock().unwrap().push(taken));
            let until = now + Duration::from_secs(9);
            core.registry.send_command("a", "x", b"1", until, receipt).unwrap()
        };
        let drained = || std::mem::take(&mut *told.lock().unwrap());
        assert_eq!((send(), drained()), (0, vec![false]), "nobody is there");
        let mut a = Peer::connected(&core, now, &hi(level));
        a.send(&subscribe(level, 1, "stockfold/v1/a/cmd/#", 1));
        a.raw();
        send();
        let id = a.messages(level)[0].2;
        assert!(drained().is_empty(), "sent is not acknowledged");
        a.send(&ack(0x40, id));
        assert_eq!(drained(), [true]);
        send();
        a.lose();
        drop(a);
        assert_eq!(drained(), [false], "the session went, and the command with it");
        // One whose session is kept is not waited for either.
        let mut kept_one = Peer::connected(&core, now, &Hi { id: "a/kept", ..kept(level, "a") });
        kept_one.send(&subscribe(level, 1, "stockfold/v1/a/cmd/#", 1));
        kept_one.raw();
        kept_one.lose();
        assert_eq!((send(), drained()), (0, vec![false]), "it is away");
        let mut a = Peer::connected(&core, now, &hi(level));
        a.send(&subscribe(level, 1, "stockfold/v1/a/cmd/#", 0));
        a.raw();
        send();
        assert_eq!(a.messages(level).len(), 1);
        assert_eq!(drained(), [true], "QoS 0 acknowledges nothing");
    }
}

#[test]
fn commands_wait_for_a_client_that_is_away_and_come_again_until_acknowledged() {
    for level in [V3, V5] {
        let (core, now) = core(Limits::default(), &TestIngress::at_once());
        let mut a = Peer::connected(&core, now, &kept(level, "a"));
        a.send(&subscribe(level, 1, "stockfold/v1/a/cmd/#", 2));
        a.lose();
        assert_eq!((core.registry.connected(), core.registry.away()), (0, 1));
        assert_eq!(command(&core, "a", "tare", b"1"), Ok(1));
        assert_eq!(
            core.registry.publish("stockfold/v1/a/cmd/led", b"2", Qos::ExactlyOnce, false),
            Ok(1)
        );
        assert_eq!(
            core.registry.publish("stockfold/v1/a/cmd/led", b"3", Qos::AtMostOnce, false),
            Ok(0)
        );

        let mut a = Peer::new(&core, now);
        a.send(&kept(level, "a").bytes());
        let got = a.received();
        assert_eq!(got[0].1[0], 1, "session present");
        let first: Vec<_> = got[1..].iter().map(|p| published(level, p)).collect();
        assert_eq!(first[0].0, 0x32);
        assert_eq!(&*first[0].1, "stockfold/v1/a/cmd/tare");
        assert_eq!(first[1].0, 0x34);

        let mut a = Peer::new(&core, now);
        a.send(&kept(level, "a").bytes());
        let again: Vec<_> = a.received()[1..].iter().map(|p| published(level, p)).collect();
        assert_eq!([again[0].0, again[1].0], [0x3A, 0x3C], "sent again with DUP");
        assert_eq!([again[0].2, again[1].2], [first[0].2, first[1].2], "same ids, same order");
        a.send(&ack(0x40, again[0].2));
        a.send(&ack(0x50, again[1].2));
        assert_eq!(a.raw(), ack(0x62, again[1].2));

        let mut a = Peer::new(&core, now);
        a.send(&kept(level, "a").bytes());
        let third = a.received();
        assert_eq!(third.len(), 2);
        assert_eq!(packet(third[1].0, &third[1].1), ack(0x62, again[1].2), "PUBREL again");
        a.send(&ack(0x70, again[1].2));
        assert_eq!(core.registry.queued_bytes(), 0);
        a.send(&Hi { clean: true, ..kept(level, "a") }.bytes());
    }
}

#[test]
fn a_clean_start_forgets_the_session() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let mut a = Peer::connected(&core, now, &kept(V5, "a"));
    a.send(&subscribe(V5, 1, "stockfold/v1/a/cmd/#", 1));
    a.lose();
    command(&core, "a", "tare", b"1").unwrap();
    let mut a = Peer::connected(&core, now, &hi(V5));
    assert!(a.messages(V5).is_empty());
    assert_eq!(command(&core, "a", "tare", b"1"), Ok(0));
    assert_eq!(core.registry.queued_bytes(), 0);
    a.lose();
    assert_eq!((core.registry.connected(), core.registry.away()), (0, 0));
}

#[test]
fn sessions_expire() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let mut a = Peer::connected(&core, now, &kept(V5, "a"));
    a.send(&subscribe(V5, 1, "stockfold/v1/a/cmd/#", 1));
    a.lose();
    core.sweep(now + Duration::from_secs(99));
    assert_eq!(core.registry.away(), 1);
    core.sweep(now + Duration::from_secs(100));
    assert_eq!(core.registry.away(), 0);
    assert_eq!(command(&core, "a", "tare", b"1"), Ok(0));
}

#[test]
fn the_outbox_is_bounded() {
    let limits = Limits { outbox_messages_max: 3, ..Limits::default() };
    let (core, now) = core(limits, &TestIngress::at_once());
    let mut a = Peer::connected(&core, now, &kept(V5, "a"));
    a.send(&subscribe(V5, 1, "stockfold/v1/a/cmd/#", 1));
    a.lose();
    let taken: usize = (0..9).map(|_| command(&core, "a", "x", b"1").unwrap()).sum();
    assert_eq!(taken, 3);
    assert_eq!(core.stats.get(Counter::OutboxFull), 6);
}

#[test]
fn the_clients_receive_maximum_and_packet_size_are_respected() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    // Receive Maximum 2, Maximum Packet Size 64.
    let small = Hi { properties: &[0x21, 0, 2, 0x27, 0, 0, 0, 64], ..hi(V5) };
    let mut a = Peer::connected(&core, now, &small);
    a.send(&subscribe(V5, 1, "stockfold/v1/a/cmd/#", 1));
    a.raw();
    command(&core, "a", "x", &[b'x'; 100]).unwrap();
    for i in 0..5 {
        command(&core, "a", "x", i.to_string().as_bytes()).unwrap();
    }
    let mut seen = Vec::new();
    loop {
        let got = a.messages(V5);
        assert!(got.len() <= 2);
        if got.is_empty() {
            break;
        }
        for message in got {
            seen.push(message.4);
            a.input.extend_from_slice(&ack(0x40, message.2));
        }
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4"]);
    assert_eq!(core.stats.get(Counter::OutboxTooLarge), 1);
}

#[test]
fn unsolicited_acknowledgements_do_no_harm() {
    for level in [V3, V5] {
        let (core, now) = core(Limits::default(), &TestIngress::at_once());
        let mut a = Peer::connected(&core, now, &hi(level));
        for first in [0x40, 0x70] {
            assert_eq!(a.send(&ack(first, 77)), Progress::NeedMore);
        }
        assert!(a.raw().is_empty());
        a.send(&ack(0x50, 77));
        assert_eq!(a.raw()[0], 0x62);
        a.send(&PING);
        assert_eq!(a.raw(), PONG);
    }
}

#[test]
fn a_will_is_published_when_the_connection_is_lost_but_not_after_disconnect() {
    for level in [V3, V5] {
        let (core, now) = core(Limits::default(), &TestIngress::at_once());
        let will = Will { topic: LOCAL, payload: "gone", qos: 1, retain: true, delay: 0 };
        let mut watcher = Peer::connected(&core, now, &as_id(level, "a/w"));
        watcher.send(&subscribe(level, 1, LOCAL, 1));
        watcher.raw();
        let with_will = Hi { will: Some(will), ..as_id(level, "a/1") };
        let mut one = Peer::connected(&core, now, &with_will);
        one.send(&packet(0xE0, &[]));
        assert!(watcher.messages(level).is_empty());
        Peer::connected(&core, now, &with_will).lose();
        assert_eq!(watcher.messages(level)[0].4, "gone");
        assert_eq!(core.registry.retained().0, 1);
        if level == V5 {
            let mut one = Peer::connected(&core, now, &with_will);
            one.send(&packet(0xE0, &[4]));
            assert_eq!(watcher.messages(level)[0].4, "gone", "DISCONNECT with will");
        }
    }
}

#[test]
fn a_will_may_be_a_reading() {
    let ingress = TestIngress::at_once();
    let (core, now) = core(Limits::default(), &ingress);
    let will = Will { topic: STREAM, payload: "last", qos: 1, retain: false, delay: 0 };
    Peer::connected(&core, now, &Hi { will: Some(will), ..hi(V3) }).lose();
    assert_eq!(ingress.payloads(), ["last"]);
    let panicking = Will { topic: STREAM, payload: "panic", qos: 1, retain: false, delay: 0 };
    Peer::connected(&core, now, &Hi { will: Some(panicking), ..hi(V3) }).lose();
    assert_eq!(core.stats.get(Counter::WillsRefused), 1);
}

#[test]
fn a_will_on_another_devices_topic_is_refused() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    for (topic, v5) in [("stockfold/v1/b/stock", 0x87), ("elsewhere", 0x90), ("a/#", 0x90)] {
        let will = Will { topic, payload: "x", qos: 0, retain: false, delay: 0 };
        let mut peer = Peer::new(&core, now);
        peer.send(&Hi { will: Some(will), ..hi(V5) }.bytes());
        assert_eq!(peer.raw()[3], v5);
    }
}

#[test]
fn a_delayed_will_waits_for_the_client() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let mut watcher = Peer::connected(&core, now, &as_id(V5, "a/w"));
    watcher.send(&subscribe(V5, 1, LOCAL, 0));
    watcher.raw();
    let will = Will { topic: LOCAL, payload: "gone", qos: 0, retain: false, delay: 10 };
    let with_will = Hi { will: Some(will), ..kept(V5, "a/1") };
    Peer::connected(&core, now, &with_will).lose();
    core.sweep(now + Duration::from_secs(9));
    assert!(watcher.messages(V5).is_empty());
    let mut back = Peer::connected(&core, now + Duration::from_secs(9), &with_will);
    core.sweep(now + Duration::from_secs(20));
    assert!(watcher.messages(V5).is_empty(), "it came back in time");
    back.lose();
    core.sweep(now + Duration::from_secs(20));
    assert_eq!(watcher.messages(V5)[0].4, "gone");
    // A will does not outlive its session.
    let short = Hi { properties: &[0x11, 0, 0, 0, 2], ..with_will };
    Peer::connected(&core, now, &short).lose();
    core.sweep(now + Duration::from_secs(2));
    assert_eq!(watcher.messages(V5)[0].4, "gone");
}

#[test]
fn the_same_client_id_takes_over() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    for level in [V3, V5] {
        let mut old = Peer::connected(&core, now, &hi(level));
        let mut new = Peer::connected(&core, now, &hi(level));
        let over = old.go_on();
        assert_eq!(over, Progress::Over(Cause::TakenOver { session_ends: true }));
        let said = old.raw();
        if level == V5 {
            assert_eq!((said[0], said[2]), (0xE0, 0x8E));
        } else {
            assert!(said.is_empty());
        }
        new.send(&PING);
        assert_eq!(new.raw(), PONG);
        assert_eq!(core.registry.connected(), 1);
        new.lose();
    }
    assert_eq!(core.registry.connected(), 0);
}

#[test]
fn the_old_connection_cannot_touch_a_session_taken_over() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let mut old = Peer::connected(&core, now, &kept(V5, "a"));
    old.send(&subscribe(V5, 1, "stockfold/v1/a/cmd/#", 1));
    old.raw();
    let mut new = Peer::connected(&core, now, &kept(V5, "a"));
    command(&core, "a", "tare", b"1").unwrap();
    // The old one has not looked into its mailbox yet.
    let mut out = bytes::BytesMut::new();
    old.session.deliver(now, &mut out);
    assert!(out.is_empty());
    let got = new.messages(V5);
    assert_eq!(got.len(), 1);
    old.lose();
    assert_eq!(core.registry.connected(), 1, "the client is still the new connection's");
}

#[test]
fn a_revoked_device_is_told_and_stays_out() {
    let ingress = TestIngress::at_once();
    let (core, now) = core(Limits::default(), &ingress);
    let mut a = Peer::connected(&core, now, &kept(V5, "a"));
    Peer::connected(&core, now, &kept(V5, "a/away")).lose();
    assert_eq!(core.registry.revoke("a", 1), 2);
    assert_eq!(a.go_on(), Progress::Over(Cause::Revoked));
    let said = a.raw();
    assert_eq!((said[0], said[2]), (0xE0, 0x98));
    assert_eq!((core.registry.connected(), core.registry.away()), (0, 0));
    let mut again = Peer::new(&core, now);
    again.send(&hi(V5).bytes());
    assert_eq!(again.raw()[3], 0x8A, "a grant of the old generation");
    ingress.generation.store(1, SeqCst);
    Peer::connected(&core, now, &hi(V5));
}

#[test]
fn hub_publishes_are_checked() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    for (device, name) in [("", "x"), ("a", ""), ("a/b", "x"), ("a", "x/y"), ("+", "x"), ("a", "#")]
    {
        let sent = core.registry.send_command(device, name, b"", now, Receipt::new(|_| {}));
        assert!(sent.is_err(), "{device} {name}");
    }
    assert!(core.registry.publish("x", &vec![0; 200_000], Qos::AtMostOnce, false).is_err());
}
