//! The Sparkplug host: births, deaths, order, losses, and when a node is asked to be born again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a test may panic"
)]

use device_profiles::{
    Measurement, Profile, Value, decode,
    shipped::shipped,
    sparkplug::{
        Content, HISTORY, Host, METRICS, Metric, Payload, STATE, Topic,
        host::{
            DEVICES_MAX, MISSING_MAX, NODES_MAX, OVERTAKEN_MS, REBIRTH_MS, REBIRTH_MS_MAX,
            REORDER_MS, Told, Why,
        },
    },
};
use proptest::prelude::*;

fn metric(name: &str, alias: Option<u64>, content: Content) -> Metric {
    let name = (!name.is_empty()).then(|| name.to_owned());
    Metric { name, alias, content, ..Metric::default() }
}

fn payload(seq: Option<u64>, metrics: Vec<Metric>) -> Vec<u8> {
    Payload { timestamp_ms: Some(1_000), seq, metrics }.encode()
}

fn birth(bd_seq: u64) -> Vec<u8> {
    let temperature = metric("Temperature", Some(1), Content::Double(21.5));
    payload(Some(0), vec![metric("bdSeq", None, Content::Long(bd_seq)), temperature])
}

fn death(bd_seq: u64) -> Vec<u8> {
    payload(None, vec![metric("bdSeq", None, Content::Long(bd_seq))])
}

fn data(seq: u64) -> Vec<u8> {
    payload(Some(seq), vec![metric("", Some(1), Content::Double(seq as f64))])
}

struct Plant {
    host: Host,
    now_ms: i64,
}

impl Plant {
    fn new() -> Self {
        Self { host: Host::default(), now_ms: 0 }
    }

    fn born() -> Self {
        let mut plant = Self::new();
        let told = plant.send("NBIRTH", "", &birth(7));
        assert_eq!(
            shown(&told),
            ["state NBIRTH online=true", "metrics NBIRTH Temperature=21.5 bdSeq=7"]
        );
        plant
    }

    fn send(&mut self, kind: &str, device: &str, raw: &[u8]) -> Told {
        let device = if device.is_empty() { String::new() } else { format!("/{device}") };
        let topic = format!("spBv1.0/G/{kind}/E{device}");
        self.host.message(self.now_ms, &Topic::parse(&topic).unwrap(), raw, true).0
    }

    /// Lets time pass; what follows from it.
    fn wait(&mut self, ms: i64) -> Vec<Told> {
        self.now_ms += ms;
        self.host.tick(self.now_ms).into_iter().map(|(_, told)| told).collect()
    }
}

/// Frames in short, decoded by the shipped profile.
fn shown(told: &Told) -> Vec<String> {
    let profile = Profile::parse(shipped("sparkplug").unwrap()).unwrap();
    told.frames
        .iter()
        .map(|frame| {
            let object: serde_json::Value = serde_json::from_slice(&frame.raw).unwrap();
            let reading = decode(&profile, frame.stream, &frame.raw).unwrap();
            let values: Vec<String> = reading
                .measurements
                .iter()
                .map(|measurement| match measurement {
                    Measurement::Value { name, value: Value::Number(n) } => {
                        format!("{}={n}", name.split_once('.').unwrap().1)
                    }
                    Measurement::Value { name, value: Value::Bool(b) } => {
                        format!("{}={b}", name.split_once('.').unwrap().1)
                    }
                    other => format!("{other:?}"),
                })
                .collect();
            let device = frame.device.as_deref().map_or(String::new(), |d| format!("{d}: "));
            let kind = object["type"].as_str().unwrap();
            format!("{device}{} {kind} {}", frame.stream, values.join(" "))
        })
        .collect()
}

#[test]
fn births_give_names_to_aliases() {
    let mut plant = Plant::born();
    assert_eq!(shown(&plant.send("NDATA", "", &data(1))), ["metrics NDATA Temperature=1"]);
    let device = payload(Some(2), vec![metric("Gross", Some(9), Content::Float(1.5))]);
    assert_eq!(
        shown(&plant.send("DBIRTH", "S", &device)),
        ["S: state DBIRTH online=true", "S: metrics DBIRTH Gross=1.5"]
    );
    let changed = payload(Some(3), vec![metric("", Some(9), Content::Float(2.5))]);
    let told = plant.send("DDATA", "S", &changed);
    assert_eq!(shown(&told), ["S: metrics DDATA Gross=2.5"]);
    assert!(!told.rebirth);
    // An alias of the node is none of the device.
    let foreign = payload(Some(4), vec![metric("", Some(1), Content::Float(2.5))]);
    let told = plant.send("DDATA", "S", &foreign);
    assert!(
        told.rebirth && String::from_utf8_lossy(&told.frames[0].raw).contains("\"unknown\":[1]")
    );
    assert_eq!(
        shown(&plant.send("DDEATH", "S", &payload(Some(5), vec![]))),
        ["S: state DDEATH online=false"]
    );
    let told = plant.send("DDATA", "S", &payload(Some(6), vec![]));
    assert_eq!(told.why, Some(Why::BeforeBirth));
}

#[test]
fn data_before_birth_is_kept_as_it_came_and_a_birth_is_asked_for() {
    let mut plant = Plant::new();
    let raw = data(5);
    let told = plant.send("NDATA", "", &raw);
    assert_eq!((told.rebirth, told.why), (true, Some(Why::BeforeBirth)));
    assert_eq!((told.frames[0].stream, &told.frames[0].raw), (METRICS, &raw));
    let profile = Profile::parse(shipped("sparkplug").unwrap()).unwrap();
    assert_eq!(decode(&profile, METRICS, &raw).unwrap_err().code(), "not_json");
    // Asked once in the cool-down, however much comes; then once more when it is over.
    for _ in 0..50 {
        assert!(!plant.send("DDATA", "S", &raw).rebirth);
    }
    assert_eq!(plant.host.deadline(), Some(REBIRTH_MS));
    assert_eq!(plant.wait(REBIRTH_MS - 1).len(), 0);
    let asked = plant.wait(1);
    assert!(asked.len() == 1 && asked[0].rebirth && asked[0].frames.is_empty());
    // Nothing more comes, so nothing more is asked.
    assert_eq!(plant.host.deadline(), None);
    // One that never answers is asked ever more rarely.
    let (mut asked, mut last) = (Vec::new(), plant.now_ms);
    for _ in 0..300 {
        plant.now_ms += 1_000;
        if plant.send("NDATA", "", &raw).rebirth {
            asked.push(plant.now_ms - last);
            last = plant.now_ms;
        }
        let _ = plant.host.tick(plant.now_ms);
    }
    assert!(asked.windows(2).all(|pair| pair[0] <= pair[1]), "{asked:?}");
    assert_eq!(asked.last(), Some(&REBIRTH_MS_MAX));
    plant.send("NBIRTH", "", &birth(8));
    assert_eq!(plant.host.deadline(), None, "it is born, so it is asked no more");
}

#[test]
fn a_death_ends_only_its_own_session() {
    let mut plant = Plant::born();
    plant.send("DBIRTH", "S", &payload(Some(1), vec![metric("x", Some(2), Content::Bool(true))]));
    let told = plant.send("NDEATH", "", &death(6));
    assert_eq!((told.why, told.frames.len()), (Some(Why::StaleDeath), 0));
    assert_eq!(shown(&plant.send("NDATA", "", &data(2))), ["metrics NDATA Temperature=2"]);
    assert_eq!(
        shown(&plant.send("NDEATH", "", &death(7))),
        ["state NDEATH online=false", "S: state NDEATH online=false"]
    );
    assert_eq!(plant.host.count(), (0, 1));
    let told = plant.send("NDATA", "", &data(3));
    assert_eq!(told.why, Some(Why::BeforeBirth));
    // Where there is a next session, this one is over; and its birth, however soon, is one.
    let mut plant = Plant::born();
    assert_eq!(shown(&plant.send("NDEATH", "", &death(8))), ["state NDEATH online=false"]);
    assert_eq!(plant.send("NBIRTH", "", &birth(8)).why, None);
}

#[test]
fn a_birth_that_its_death_overtook_is_no_life() {
    let mut plant = Plant::born();
    plant.send("NDEATH", "", &death(7));
    plant.now_ms += OVERTAKEN_MS;
    let told = plant.send("NBIRTH", "", &birth(7));
    assert_eq!((told.why, told.rebirth, told.frames.len()), (Some(Why::Overtaken), false, 0));
    let asked = plant.wait(2_000);
    assert!(asked.len() == 1 && asked[0].rebirth);
    // Later, or with a number of its own, it is one: some writers begin with the same number after each start.
    assert_eq!(plant.send("NBIRTH", "", &birth(7)).frames.len(), 2);
    plant.send("NDEATH", "", &death(7));
    assert_eq!(plant.send("NBIRTH", "", &birth(8)).frames.len(), 2);
}

#[test]
fn what_fills_a_gap_is_history_and_what_does_not_come_is_lost() {
    let mut plant = Plant::born();
    assert_eq!(shown(&plant.send("NDATA", "", &data(3))), ["metrics NDATA Temperature=3"]);
    assert_eq!(shown(&plant.send("NDATA", "", &data(1))), ["history NDATA Temperature=1"]);
    assert_eq!(plant.host.deadline(), Some(REORDER_MS));
    assert_eq!(shown(&plant.send("NDATA", "", &data(2))), ["history NDATA Temperature=2"]);
    assert_eq!(plant.host.deadline(), None, "nothing is missing");
    plant.send("NDATA", "", &data(6));
    assert!(plant.wait(REORDER_MS - 1).is_empty());
    let told = plant.wait(1);
    assert_eq!(shown(&told[0]), ["state LOSS lost=2"]);
    assert!(told[0].rebirth && told[0].frames[0].stream == STATE);
    // A jump that is larger than any order can explain is a loss at once.
    let mut plant = Plant::born();
    let told = plant.send("NDATA", "", &data(1 + MISSING_MAX as u64 + 1));
    assert_eq!(shown(&told), ["state LOSS lost=33", "metrics NDATA Temperature=34"]);
    assert!(told.rebirth);
}

#[test]
fn numbers_go_around() {
    let mut plant = Plant::born();
    for seq in 1..1_000_u64 {
        let told = plant.send("NDATA", "", &data(seq % 256));
        assert!(!told.rebirth && told.frames.len() == 1, "{seq}");
    }
    assert_eq!(plant.host.deadline(), None);
}

#[test]
fn metrics_of_an_earlier_time_are_history() {
    let mut plant = Plant::born();
    let old = |ms, value| Metric {
        timestamp_ms: Some(ms),
        is_historical: true,
        ..metric("", Some(1), Content::Double(value))
    };
    let raw = payload(
        Some(1),
        vec![old(10, 1.0), old(20, 2.0), metric("", Some(1), Content::Double(3.0))],
    );
    let told = plant.send("NDATA", "", &raw);
    assert_eq!(
        shown(&told),
        [
            "history NDATA Temperature=1",
            "history NDATA Temperature=2",
            "metrics NDATA Temperature=3"
        ]
    );
    let profile = Profile::parse(shipped("sparkplug").unwrap()).unwrap();
    let reading = decode(&profile, HISTORY, &told.frames[1].raw).unwrap();
    assert_eq!(reading.device_us, Some(20_000));
}

#[test]
fn a_node_that_weighs_is_weighed() {
    let profile = Profile::parse(
        "name: x\ncodec: sparkplug\nstreams:\n  weight: {class: stock, dedupe: level, weight: {cells: [{mass: \"/metrics/Gross\", unit: kg, stable: \"/metrics/Still\"}]}}\n",
    )
    .unwrap();
    let reading = decode(&profile, "weight", br#"{"metrics":{"Gross":1.5,"Still":true}}"#).unwrap();
    let [Measurement::Weight { mass, stable, .. }] = &reading.measurements[..] else { panic!() };
    assert_eq!((mass.0, *stable), (1_500_000, Some(true)));
    // Reports are by exception: another metric changed, and the mass did not.
    let reading = decode(&profile, "weight", br#"{"metrics":{"Temperature":21}}"#).unwrap();
    assert!(reading.measurements.is_empty());
}

#[test]
fn a_message_that_could_not_be_kept_comes_again() {
    let mut plant = Plant::born();
    let topic = Topic::parse("spBv1.0/G/NDATA/E").unwrap();
    let (first, before) = plant.host.message(1, &topic, &data(1), true);
    plant.host.undo(before);
    let (again, _) = plant.host.message(1, &topic, &data(1), true);
    assert_eq!(first, again);
    let mut fresh = Host::default();
    let (_, before) = fresh.message(0, &topic, &data(1), true);
    fresh.undo(before);
    assert_eq!(fresh.count(), (0, 0));
}

#[test]
fn a_host_remembers_so_many_nodes_and_no_more() {
    let mut host = Host::default();
    for n in 0..NODES_MAX + 10 {
        let topic = format!("spBv1.0/G/NBIRTH/E{n}");
        host.message(n as i64, &Topic::parse(&topic).unwrap(), &birth(0), true);
    }
    assert_eq!(host.count().1, NODES_MAX);
    let topic = Topic::parse("spBv1.0/G/NDATA/E0").unwrap();
    let (told, _) = host.message(99_999, &topic, &data(1), true);
    assert_eq!(told.why, Some(Why::BeforeBirth), "the one heard least lately is forgotten");
}

#[test]
fn what_is_repeated_is_history_and_changes_nothing() {
    let mut plant = Plant::born();
    let device = |seq| payload(Some(seq), vec![metric("Gross", Some(9), Content::Float(1.5))]);
    plant.send("NDATA", "", &data(1));
    plant.send("DBIRTH", "S", &device(2));
    plant.send("DDEATH", "S", &payload(Some(3), vec![]));
    plant.send("DBIRTH", "S", &device(4));
    for _ in 0..3 {
        assert_eq!(shown(&plant.send("NDATA", "", &data(1))), ["history NDATA Temperature=1"]);
        assert!(shown(&plant.send("DDEATH", "S", &payload(Some(3), vec![]))).is_empty());
        let told = plant.send("DBIRTH", "S", &device(2));
        assert_eq!(shown(&told), ["S: history DBIRTH Gross=1.5"]);
        assert!(!told.rebirth && plant.host.deadline().is_none());
    }
    let told = plant.send("DDATA", "S", &payload(Some(5), vec![]));
    assert_eq!((told.why, told.rebirth), (None, false), "the device lives, and nothing is missing");
}

#[test]
fn of_devices_that_nobody_enrolled_nothing_is_kept_but_their_place() {
    let mut plant = Plant::born();
    let mut foreign = |kind: &str, device: &str, raw: &[u8]| {
        let topic = format!("spBv1.0/G/{kind}/E/{device}");
        plant.host.message(0, &Topic::parse(&topic).unwrap(), raw, false).0
    };
    for n in 1..=2 * DEVICES_MAX as u64 {
        let raw = payload(Some(n % 256), vec![metric("x", Some(1), Content::Bool(true))]);
        let told = foreign(if n % 2 == 0 { "DBIRTH" } else { "DDATA" }, &format!("D{n}"), &raw);
        assert_eq!((told.frames.len(), told.rebirth, told.why), (0, false, None));
    }
    assert_eq!(shown(&plant.send("NDATA", "", &data(1))), ["metrics NDATA Temperature=1"]);
    assert_eq!(plant.send("NDEATH", "", &death(7)).frames.len(), 1, "only the node has died");
}

#[test]
fn names_of_births_take_so_much_together_and_no_more() {
    let mut plant = Plant::born();
    let name = |n: usize| format!("{n:0>200}");
    let metrics =
        |_| (0..4_000).map(|n| metric(&name(n), Some(n as u64), Content::Bool(true))).collect();
    let big = |seq: u64| payload(Some(seq), metrics(seq));
    let full = (1..256)
        .find(|seq| plant.send("DBIRTH", &format!("D{seq}"), &big(*seq)).why.is_some())
        .unwrap();
    assert!(full > 16, "{full} births fill what there is");
    // One in place of another has the other's room, and what dies leaves room.
    assert_eq!(plant.send("DBIRTH", "D1", &big(full + 1)).why, None);
    assert_eq!(plant.send("DBIRTH", "new", &big(full + 2)).why, Some(Why::TooManyNames));
    plant.send("DDEATH", "D1", &payload(Some(full + 3), vec![]));
    assert_eq!(plant.send("DBIRTH", "new", &big(full + 4)).why, None);
}

#[test]
fn what_a_message_did_to_many_devices_is_undone() {
    let mut plant = Plant::born();
    for seq in 1..=20 {
        let raw = payload(Some(seq), vec![metric("x", Some(1), Content::Bool(true))]);
        plant.send("DBIRTH", &format!("D{seq}"), &raw);
    }
    for (kind, raw) in [("NDEATH", death(7)), ("NBIRTH", birth(8))] {
        let topic = format!("spBv1.0/G/{kind}/E");
        let (_, before) = plant.host.message(0, &Topic::parse(&topic).unwrap(), &raw, true);
        plant.host.undo(before);
    }
    let told = plant.send("NDEATH", "", &death(7));
    assert_eq!(told.frames.len(), 21, "every device was alive again");
}

#[test]
fn garbage_is_kept_and_changes_nothing() {
    let mut plant = Plant::born();
    for raw in [&b"\xff\xff\xff"[..], b"{\"json\":1}", &[0x12, 0xFF]] {
        let told = plant.send("NDATA", "", raw);
        assert!(matches!(told.why, Some(Why::Payload(_))), "{told:?}");
        assert_eq!(told.frames[0].raw, raw);
    }
    let no_number = plant.send("NDATA", "", &payload(None, vec![]));
    assert_eq!((no_number.why, no_number.rebirth), (Some(Why::NoNumber), true));
    assert_eq!(shown(&plant.send("NDATA", "", &data(1))), ["metrics NDATA Temperature=1"]);
    assert_eq!(plant.send("NCMD", "", &birth(1)).why, Some(Why::Command));
}

proptest! {
    /// However a session is shuffled within the window, nothing is lost and everything is told once.
    #[test]
    fn order_within_the_window_loses_nothing(swaps in proptest::collection::vec(0_usize..8, 60)) {
        let mut order: Vec<u64> = (1..=60).collect();
        for (at, by) in swaps.iter().enumerate() {
            let other = (at + by).min(order.len() - 1);
            order.swap(at, other);
        }
        let mut plant = Plant::born();
        let mut seen = Vec::new();
        for seq in &order {
            let told = plant.send("NDATA", "", &data(*seq));
            prop_assert!(!told.rebirth, "{order:?}");
            prop_assert_eq!(told.frames.len(), 1);
            seen.push(*seq);
        }
        prop_assert_eq!(plant.host.deadline(), None);
        seen.sort_unstable();
        prop_assert_eq!(seen, (1..=60).collect::<Vec<_>>());
    }
}
