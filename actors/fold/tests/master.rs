//! Master data that goes: nothing is left of it, unless goods came in the meantime. And what is said of a cell: calibrations,
//! and that it is empty.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod common;

use common::{Layout, Pen, count, device, facility, sku, slot};
use device_profiles::{Channel, DeviceId, Milligrams, Units};
use fold::{
    Body, ChannelSpec, Command, DeviceSpec, Effects, Entry, Event, EventKind, LineSpec, Master,
    MasterEntry, Outcome, Principal, Reason, Source, State,
};

/// A facility without plan and cells, and the pen to go on with.
fn bare() -> (Pen, State) {
    let mut pen = Pen::new();
    let (mut state, _) = facility(&mut pen, &Layout::default());
    let mut values = Vec::new();
    for i in 0..4 {
        values.push(Master::Lines { slot: slot(i), lines: Vec::new() });
        values.push(Master::Device(DeviceSpec { id: device(i), slot: None, channels: Vec::new() }));
    }
    publish(&mut pen, &mut state, values);
    (pen, state)
}

fn publish(pen: &mut Pen, state: &mut State, values: Vec<Master>) -> Effects {
    let revision = state.revision() + 1;
    state.apply(&pen.write(Principal::Hub, Body::Master(MasterEntry { revision, values })))
}

fn receive(pen: &mut Pen, state: &mut State, at: Option<usize>) -> Effects {
    let receipt =
        Command::Receipt { slot: at.map(slot), sku: sku(0), quantity: Units(1), reference: None };
    state.apply(&pen.command(None, receipt))
}

fn reading(pen: &mut Pen, device: DeviceId, seq: u64) -> Entry {
    let raw = format!(
        r#"{{"seq":{seq},"boot":"b","values":{{"sku":"sku-0","delta":1,"slot":"slot-1"}}}}"#
    );
    pen.frame(device, "stock", &raw)
}

#[test]
fn an_empty_slot_goes_with_its_lines() {
    let (mut pen, mut state) = bare();
    count(&mut pen, &mut state, 1, 0, 0);
    let gone = publish(&mut pen, &mut state, vec![Master::SlotGone(slot(1))]);
    assert!(state.slot("slot-1").is_none());
    assert!(state.level("slot-1", &sku(0)).is_none());
    assert!(gone.levels.contains(&(slot(1), sku(0))), "its line is told as gone");
    assert!(gone.movements.is_empty());
    let refused = receive(&mut pen, &mut state, Some(1));
    assert_eq!(refused.outcome, Outcome::Rejected(Reason::UnknownSlot));
    let placed = reading(&mut pen, device(0), 1);
    assert_eq!(state.apply(&placed).outcome, Outcome::Quarantined(Reason::UnknownSlot));
}

#[test]
fn open_doubts_close_with_the_slot() {
    let (mut pen, mut state) = bare();
    // A cell without a zero does not know how many stand on it.
    let cell = ChannelSpec {
        channel: Channel::parse("0").unwrap(),
        slot: slot(2),
        division: Milligrams(1_000),
        noise: Milligrams(1_000),
        capacity: None,
        zero: None,
    };
    let spec = DeviceSpec { id: device(2), slot: None, channels: vec![cell] };
    let line = LineSpec { sku: sku(2), source: Source::Weight, capacity: None, min: None };
    let planned = Master::Lines { slot: slot(2), lines: vec![line] };
    publish(&mut pen, &mut state, vec![planned, Master::Device(spec)]);
    let mut opened = 0;
    for seq in 1..=8 {
        pen.now += 1_000_000;
        let raw = format!(r#"{{"seq":{seq},"boot":"b","values":{{"g":500}}}}"#);
        let effects = state.apply(&pen.frame(device(2), "weight", &raw));
        let is_open = |e: &&Event| matches!(e.kind, EventKind::DiscrepancyOpened(_));
        opened += effects.events.iter().filter(is_open).count();
    }
    assert_eq!(opened, 1);
    let unbound = Master::Device(DeviceSpec { id: device(2), slot: None, channels: Vec::new() });
    let unplanned = Master::Lines { slot: slot(2), lines: Vec::new() };
    let gone = publish(&mut pen, &mut state, vec![unbound, unplanned, Master::SlotGone(slot(2))]);
    let is_closed = |e: &&Event| matches!(e.kind, EventKind::DiscrepancyClosed(_));
    assert_eq!(gone.events.iter().filter(is_closed).count(), 1, "{gone:?}");
    assert!(state.slot("slot-2").is_none());
}

#[test]
fn a_slot_that_goods_came_to_stays() {
    let (mut pen, mut state) = bare();
    receive(&mut pen, &mut state, Some(0));
    publish(&mut pen, &mut state, vec![Master::SlotGone(slot(0))]);
    assert_eq!(state.level("slot-0", &sku(0)).unwrap().quantity, Units(1));
    // It is no receiving slot any more, but its goods can be booked out.
    let lost = receive(&mut pen, &mut state, None);
    assert_eq!(lost.outcome, Outcome::Rejected(Reason::NoReceivingSlot));
    count(&mut pen, &mut state, 0, 0, 0);
    publish(&mut pen, &mut state, vec![Master::SlotGone(slot(0))]);
    assert!(state.slot("slot-0").is_none());
}

#[test]
fn a_sku_goes_from_every_slot_unless_goods_came() {
    let (mut pen, mut state) = bare();
    count(&mut pen, &mut state, 0, 0, 0);
    receive(&mut pen, &mut state, Some(1));
    publish(&mut pen, &mut state, vec![Master::SkuGone(sku(0))]);
    assert!(state.level("slot-1", &sku(0)).is_some(), "a unit is in slot 1");
    assert_eq!(receive(&mut pen, &mut state, Some(1)).outcome, Outcome::Applied);

    count(&mut pen, &mut state, 1, 0, 0);
    let gone = publish(&mut pen, &mut state, vec![Master::SkuGone(sku(0))]);
    assert!(gone.levels.contains(&(slot(0), sku(0))) && gone.levels.contains(&(slot(1), sku(0))));
    assert!(state.levels().all(|level| level.sku != sku(0)));
    assert_eq!(
        receive(&mut pen, &mut state, Some(1)).outcome,
        Outcome::Rejected(Reason::UnknownSku)
    );
    let scan = r#"{"seq":1,"boot":"b","values":{"code":"4006381330000","mode":"receive","slot":"slot-1"}}"#;
    let scanned = state.apply(&pen.frame(device(1), "scan", scan));
    assert_eq!(scanned.outcome, Outcome::Quarantined(Reason::UnknownCode));
    assert_eq!(state.total("sku-0"), Some(Units(0)), "totals still say what moved");
}

#[test]
fn a_device_that_comes_back_is_not_believed_twice() {
    let (mut pen, mut state) = bare();
    let (first, second) = (reading(&mut pen, device(0), 1), reading(&mut pen, device(0), 2));
    assert_eq!(state.apply(&first).movements.len(), 1);
    publish(&mut pen, &mut state, vec![Master::DeviceRevoked(device(0))]);
    let again = |pen: &mut Pen, entry: &Entry| pen.write(Principal::Device, entry.body.clone());
    let revoked = again(&mut pen, &second);
    assert_eq!(state.apply(&revoked).outcome, Outcome::Quarantined(Reason::DeviceRevoked));

    let spec = DeviceSpec { id: device(0), slot: None, channels: Vec::new() };
    publish(&mut pen, &mut state, vec![Master::Device(spec)]);
    let repeat = again(&mut pen, &first);
    assert_eq!(state.apply(&repeat).outcome, Outcome::Duplicate);
    let new = again(&mut pen, &second);
    assert_eq!(state.apply(&new).movements.len(), 1);
    assert!(state.ledger("dev-0").unwrap().counts.balances());
}

#[test]
fn what_is_gone_is_gone_from_a_snapshot_too() {
    let (mut pen, mut state) = bare();
    let gone = vec![Master::SlotGone(slot(3)), Master::SkuGone(sku(3))];
    publish(&mut pen, &mut state, gone);
    let slices: Vec<Vec<u8>> = state.slices().collect();
    let restored = State::restore(&slices).unwrap();
    assert_eq!(restored.digest(), state.digest());
    assert!(restored.slot("slot-3").is_none());
}

fn weigh(pen: &mut Pen, state: &mut State, seq: &mut u64, grams: f64) -> Vec<Effects> {
    (0..8)
        .map(|_| {
            *seq += 1;
            pen.now += 150_000;
            let raw = format!(
                r#"{{"seq":{seq},"boot":"b","values":{{"g":{grams},"stable":true,"ch":"0"}}}}"#
            );
            state.apply(&pen.frame(device(0), "weight", &raw))
        })
        .collect()
}

/// A cell that shows 1000 g when it is empty and half a gram for each gram.
fn crooked(pen: &mut Pen, state: &mut State, zero: Option<i64>) {
    let cell = ChannelSpec {
        channel: Channel::parse("0").unwrap(),
        slot: slot(0),
        division: Milligrams(1_000),
        noise: Milligrams(500),
        capacity: None,
        zero: zero.map(Milligrams),
    };
    let spec = DeviceSpec { id: device(0), slot: None, channels: vec![cell] };
    let line = LineSpec { sku: sku(0), source: Source::Weight, capacity: None, min: None };
    let lines = Master::Lines { slot: slot(0), lines: vec![line] };
    publish(pen, state, vec![lines, Master::Device(spec)]);
}

fn calibration(on: usize) -> Master {
    Master::Calibration {
        device: device(0),
        channel: Channel::parse("0").unwrap(),
        slot: slot(on),
        zero: Milligrams(1_000_000),
        scale_ppm: 2_000_000,
    }
}

#[test]
fn a_calibration_makes_masses_right_and_names_itself() {
    let (mut pen, mut state) = bare();
    crooked(&mut pen, &mut state, None);
    let mut seq = 0;
    // A unit has 100 g.
    let shown = |units: f64| 1_000.0 + units * 50.0;
    weigh(&mut pen, &mut state, &mut seq, shown(4.0));
    assert_eq!(state.level("slot-0", &sku(0)).map_or(0, |l| l.quantity.0), 0, "no reference");
    publish(&mut pen, &mut state, vec![calibration(1)]);
    weigh(&mut pen, &mut state, &mut seq, shown(4.0));
    assert_eq!(state.level("slot-0", &sku(0)).map_or(0, |l| l.quantity.0), 0, "another slot's");
    let effects = publish(&mut pen, &mut state, vec![calibration(0)]);
    assert_eq!(effects.levels.len(), 1, "that the count is doubted is told at once: {effects:?}");
    let set_at = pen.offset;
    weigh(&mut pen, &mut state, &mut seq, shown(4.0));
    assert_eq!(state.level("slot-0", &sku(0)).unwrap().quantity, Units(4));
    let effects = weigh(&mut pen, &mut state, &mut seq, shown(1.0));
    assert_eq!(state.level("slot-0", &sku(0)).unwrap().quantity, Units(1));
    let movement = effects.iter().flat_map(|e| &e.movements).next().unwrap();
    let why = format!("{:?}", movement.why);
    assert!(why.contains(&format!("calibration: {set_at}")), "{why}");
}

#[test]
fn after_a_calibration_the_mass_says_what_is_there() {
    let (mut pen, mut state) = bare();
    crooked(&mut pen, &mut state, None);
    let mut seq = 0;
    // Counted as empty, a calibration weight of 400 g on it.
    count(&mut pen, &mut state, 0, 0, 0);
    weigh(&mut pen, &mut state, &mut seq, 1_000.0);
    weigh(&mut pen, &mut state, &mut seq, 1_200.0);
    publish(&mut pen, &mut state, vec![calibration(0)]);
    weigh(&mut pen, &mut state, &mut seq, 1_200.0);
    assert_eq!(state.level("slot-0", &sku(0)).unwrap().quantity, Units(4));
    weigh(&mut pen, &mut state, &mut seq, 1_000.0);
    assert_eq!(state.level("slot-0", &sku(0)).unwrap().quantity, Units(0), "it was taken off");
}

#[test]
fn a_slot_is_zeroed_unless_another_source_says_that_it_is_not_empty() {
    let (mut pen, mut state) = bare();
    crooked(&mut pen, &mut state, Some(0));
    let mut seq = 0;
    let zero = |force| Command::Zero { slot: slot(0), force };
    let moving = state.apply(&pen.command(None, zero(false)));
    assert_eq!(moving.outcome, Outcome::Rejected(Reason::CellNotSettled));
    // The platform alone; the hub takes it for goods until it is zeroed.
    weigh(&mut pen, &mut state, &mut seq, 1_000.0);
    assert!(state.level("slot-0", &sku(0)).unwrap().quantity.0 > 0);
    // A line that is counted by scans says that something is there.
    let receipt =
        Command::Receipt { slot: Some(slot(0)), sku: sku(1), quantity: Units(3), reference: None };
    assert_eq!(state.apply(&pen.command(None, receipt)).outcome, Outcome::Applied);
    let refused = state.apply(&pen.command(None, zero(false)));
    assert_eq!(refused.outcome, Outcome::Rejected(Reason::SlotNotEmpty));
    let done = state.apply(&pen.command(None, zero(true)));
    assert_eq!(done.outcome, Outcome::Applied);
    assert_eq!(state.level("slot-0", &sku(0)).unwrap().quantity, Units(0));
    assert_eq!(state.level("slot-0", &sku(1)).unwrap().quantity, Units(3), "not the cell's to say");
    let nowhere = Command::Zero { slot: slot(9), force: true };
    let nowhere = state.apply(&pen.command(None, nowhere));
    assert_eq!(nowhere.outcome, Outcome::Rejected(Reason::UnknownSlot));
    let cellless = Command::Zero { slot: slot(1), force: true };
    let cellless = state.apply(&pen.command(None, cellless));
    assert_eq!(cellless.outcome, Outcome::Rejected(Reason::UnknownChannel));
}
