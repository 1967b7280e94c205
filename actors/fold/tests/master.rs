//! Master data that goes: nothing is left of it, unless goods came in the meantime.
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
