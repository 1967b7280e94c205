//! The fold's promises, over arbitrary histories.
//!
//! A history is a list of moves a hub can make: good frames, repeats, late frames, garbage, commands, ticks, time that stands
//! or jumps. Each property runs many thousand of them; together well over 100,000 entries are judged a run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{Layout, Pen, default_hash, device, facility, sku, slot};
use device_profiles::{Channel, Milligrams, Units};
use fold::{
    Body, Command, Effects, Entry, Frame, Master, MasterEntry, Outcome, Principal, Source, State,
    wire,
};
use proptest::prelude::*;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Move {
    Stock { device: usize, delta: i64, slot: Option<usize>, sku: usize },
    Weight { device: usize, grams: i32, stable: Option<bool> },
    Scan { device: usize, mode: &'static str, quantity: i64 },
    Value { device: usize },
    Repeat { back: usize },
    Reboot { device: usize },
    Garbage { device: usize, stream: &'static str, raw: Vec<u8> },
    Command(Command, Option<u8>),
    Calibrate { device: usize, slot: usize, zero: i64, scale_ppm: i64 },
    Tick,
    Wait(i64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let place = 0usize..5; // 4 exist: one in five names a slot, SKU or device that does not
    let command = prop_oneof![
        (place.clone(), place.clone(), -3i64..20).prop_map(|(s, k, q)| Command::Receipt {
            slot: (s < 4).then(|| slot(s)),
            sku: sku(k),
            quantity: Units(q),
            reference: None
        }),
        (place.clone(), place.clone(), 0i64..20).prop_map(|(s, k, q)| Command::Pick {
            slot: slot(s),
            sku: sku(k),
            quantity: Units(q),
            reference: None
        }),
        (place.clone(), place.clone(), place.clone(), 1i64..9).prop_map(|(a, b, k, q)| {
            Command::Move { from: slot(a), to: slot(b), sku: sku(k), quantity: Units(q) }
        }),
        (place.clone(), place.clone(), -1i64..50).prop_map(|(s, k, q)| Command::Count {
            slot: slot(s),
            sku: sku(k),
            quantity: Units(q),
            counted_at: None
        }),
        (place.clone(), place.clone(), any::<i64>()).prop_map(|(s, k, d)| Command::Adjust {
            slot: slot(s),
            sku: sku(k),
            delta: Units(d),
            reason: "x".into()
        }),
        place.clone().prop_map(|d| Command::Tare {
            device: device(d),
            channel: Channel::parse("0").unwrap()
        }),
        (place.clone(), any::<bool>())
            .prop_map(|(s, force)| Command::Zero { slot: slot(s), force }),
    ];
    let one = prop_oneof![
        4 => (place.clone(), -5i64..6, proptest::option::of(place.clone()), place.clone())
            .prop_map(|(device, delta, slot, sku)| Move::Stock { device, delta, slot, sku }),
        8 => (place.clone(), -50i32..1_000, proptest::option::of(any::<bool>()))
            .prop_map(|(device, grams, stable)| Move::Weight { device, grams: grams / 100 * 100, stable }),
        2 => (place.clone(), prop_oneof![Just("receive"), Just("pick"), Just("count")], 1i64..5)
            .prop_map(|(device, mode, quantity)| Move::Scan { device, mode, quantity }),
        1 => place.clone().prop_map(|device| Move::Value { device }),
        2 => (0usize..30).prop_map(|back| Move::Repeat { back }),
        1 => place.clone().prop_map(|device| Move::Reboot { device }),
        2 => (place.clone(), prop_oneof![Just("stock"), Just("weight"), Just("x"), Just("scan")],
              proptest::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(device, stream, raw)| Move::Garbage { device, stream, raw }),
        2 => (command, proptest::option::of(0u8..3)).prop_map(|(c, k)| Move::Command(c, k)),
        1 => (place.clone(), place, prop_oneof![-100_000i64..100_000, any::<i64>()],
              prop_oneof![500_000i64..2_000_000, any::<i64>()])
            .prop_map(|(device, slot, zero, scale_ppm)| Move::Calibrate { device, slot, zero, scale_ppm }),
        1 => Just(Move::Tick),
        3 => (0i64..40_000_000).prop_map(Move::Wait),
    ];
    proptest::collection::vec(one, 1..120)
}

/// Writes a history down as entries.
fn write(pen: &mut Pen, moves: &[Move]) -> Vec<Entry> {
    let mut seqs = [0u64; 5];
    let mut boots = [0u32; 5];
    let mut entries: Vec<Entry> = Vec::new();
    for one in moves {
        pen.now += 50_000;
        let mut frame = |pen: &mut Pen, device_index: usize, stream: &str, values: String| {
            seqs[device_index] += 1;
            let raw = format!(
                r#"{{"seq":{},"boot":"b{}","values":{values}}}"#,
                seqs[device_index], boots[device_index]
            );
            pen.frame(device(device_index), stream, &raw)
        };
        let entry = match one {
            Move::Stock { device, delta, slot, sku } => {
                let slot = slot.map_or(String::new(), |s| format!(r#","slot":"slot-{s}""#));
                frame(
                    pen,
                    *device,
                    "stock",
                    format!(r#"{{"sku":"sku-{sku}","delta":{delta}{slot}}}"#),
                )
            }
            Move::Weight { device, grams, stable } => {
                let stable = stable.map_or(String::new(), |s| format!(r#","stable":{s}"#));
                frame(pen, *device, "weight", format!(r#"{{"g":{grams}{stable}}}"#))
            }
            Move::Scan { device, mode, quantity } => frame(
                pen,
                *device,
                "scan",
                format!(r#"{{"code":"4006381330001","mode":"{mode}","quantity":{quantity}}}"#),
            ),
            Move::Value { device } => frame(pen, *device, "climate", r#"{"t":21.5}"#.into()),
            Move::Repeat { back } => match entries.iter().rev().nth(*back) {
                Some(old) => {
                    let mut again = pen.write(old.principal.clone(), old.body.clone());
                    again.principal = old.principal.clone();
                    again
                }
                None => continue,
            },
            Move::Reboot { device } => {
                boots[*device] += 1;
                seqs[*device] = 0;
                continue;
            }
            Move::Garbage { device: d, stream, raw } => {
                let frame = Frame {
                    device: device(*d),
                    stream: (*stream).into(),
                    boot: None,
                    seq: None,
                    profile: default_hash(),
                    fresh_session: true,
                    raw: Bytes::copy_from_slice(raw),
                };
                pen.write(Principal::Device, Body::Frame(frame))
            }
            Move::Command(command, key) => {
                pen.command(key.map(|k| format!("key-{k}")).as_deref(), command.clone())
            }
            Move::Calibrate { device: at, slot: on, zero, scale_ppm } => {
                let calibration = Master::Calibration {
                    device: device(*at),
                    channel: Channel::parse("0").unwrap(),
                    slot: slot(*on),
                    zero: Milligrams(*zero),
                    scale_ppm: *scale_ppm,
                };
                // Offsets increase, and so do revisions.
                let revision = pen.offset + 1_000;
                let values = vec![calibration];
                pen.write(Principal::Hub, Body::Master(MasterEntry { revision, values }))
            }
            Move::Tick => pen.write(Principal::Hub, Body::Tick),
            Move::Wait(us) => {
                pen.now += us;
                continue;
            }
        };
        entries.push(entry);
    }
    entries
}

fn layout(weighed: bool) -> Layout {
    Layout { source: if weighed { Source::Weight } else { Source::Scan }, ..Layout::default() }
}

fn run(state: &mut State, entries: &[Entry]) -> Vec<Effects> {
    entries.iter().map(|entry| state.apply(entry)).collect()
}

/// Cases of each property; CI asks for more.
fn cases() -> u32 {
    std::env::var("STOCKFOLD_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(700)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// Same entries, same effects; and where a batch ends, or a snapshot is taken and restored, changes nothing.
    #[test]
    fn deterministic_and_restorable(moves in moves(), weighed: bool, cut in 0.0f64..1.0) {
        let mut pen = Pen::new();
        let (state, _) = facility(&mut pen, &layout(weighed));
        let entries = write(&mut pen, &moves);
        let (mut a, mut b) = (state.clone(), state);
        let effects_a = run(&mut a, &entries);
        let at = (entries.len() as f64 * cut) as usize;
        let mut effects_b = run(&mut b, &entries[..at]);
        let slices: Vec<Vec<u8>> = b.slices().collect();
        let mut restored = State::restore(&slices).unwrap();
        prop_assert_eq!(restored.digest(), b.digest());
        effects_b.extend(run(&mut restored, &entries[at..]));
        prop_assert_eq!(effects_a, effects_b);
        prop_assert_eq!(a.digest(), restored.digest());
    }

    /// A line's quantity is the sum of its movements; a SKU's total is the sum of its lines; each movement says its level.
    #[test]
    fn conserves(moves in moves(), weighed: bool) {
        let mut pen = Pen::new();
        let (mut state, _) = facility(&mut pen, &layout(weighed));
        let mut sums: BTreeMap<_, i64> = BTreeMap::new();
        for effects in run(&mut state, &write(&mut pen, &moves)) {
            for movement in &effects.movements {
                let sum = sums.entry((movement.slot.clone(), movement.sku.clone())).or_default();
                *sum += movement.delta.0;
                prop_assert_eq!(*sum, movement.level_after.0);
            }
            let told = effects.movements.iter().map(|m| m.ordinal).chain(effects.events.iter().map(|e| e.ordinal));
            let mut ordinals: Vec<u16> = told.collect();
            let all = ordinals.len();
            ordinals.sort_unstable();
            ordinals.dedup();
            prop_assert_eq!(ordinals.len(), all, "ordinals are unique in an entry");
        }
        let mut totals: BTreeMap<_, i64> = BTreeMap::new();
        for level in state.levels() {
            let sum = sums.get(&(level.slot.clone(), level.sku.clone())).copied().unwrap_or(0);
            prop_assert_eq!(sum, level.quantity.0);
            *totals.entry(level.sku.clone()).or_default() += level.quantity.0;
        }
        for (sku, total) in state.totals() {
            prop_assert_eq!(totals.get(sku).copied().unwrap_or(0), total.0);
        }
    }

    /// Sending every frame twice, the second time later, changes neither movements nor levels.
    #[test]
    fn duplicates_do_nothing(moves in moves(), weighed: bool, lag in 1usize..20) {
        let mut pen = Pen::new();
        let (state, _) = facility(&mut pen, &layout(weighed));
        // Commands without a key are not repeatable by design; frames and keyed commands are.
        let moves: Vec<Move> = moves.into_iter()
            .filter(|m| !matches!(m, Move::Command(_, None) | Move::Repeat { .. } | Move::Garbage { .. }))
            .collect();
        let entries = write(&mut pen, &moves);
        let mut doubled: Vec<(Entry, bool)> = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            doubled.push((entry.clone(), false));
            if let Some(old) = i.checked_sub(lag).map(|at| &entries[at]) {
                // The repeat is journaled right after, at the same hub time, under an offset of its own.
                let mut again = old.clone();
                again.position.offset = entry.position.offset + 1;
                again.received_at = entry.received_at;
                doubled.push((again, true));
            }
        }
        let (mut once, mut twice) = (state.clone(), state);
        let single = run(&mut once, &entries);
        let mut of_first = Vec::new();
        for (entry, repeat) in &doubled {
            let effects = twice.apply(entry);
            if *repeat {
                prop_assert!(effects.movements.is_empty(), "{:?}", effects);
                prop_assert!(!matches!(effects.outcome, Outcome::Applied) || matches!(entry.body, Body::Tick));
            } else {
                of_first.push(effects.movements);
            }
        }
        let single: Vec<_> = single.into_iter().map(|e| e.movements).collect();
        prop_assert_eq!(single, of_first);
        prop_assert!(once.levels().eq(twice.levels()));
    }

    /// Journaled = applied + duplicate + quarantined + rejected, for every device and hour, at every moment.
    #[test]
    fn every_frame_is_accounted_for(moves in moves()) {
        let mut pen = Pen::new();
        let (mut state, _) = facility(&mut pen, &layout(true));
        let mut closed = 0u64;
        let mut written = 0u64;
        for entry in write(&mut pen, &moves) {
            let known = matches!(&entry.body, Body::Frame(f) if f.device != device(4));
            let effects = state.apply(&entry);
            if let Some((_, hour)) = &effects.ledger_closed {
                prop_assert!(hour.counts.balances());
                closed += hour.counts.journaled;
            }
            written += u64::from(known);
            let open: u64 = state.ledgers().map(|(_, l)| l.counts.journaled).sum();
            prop_assert!(state.ledgers().all(|(_, l)| l.counts.balances()));
            prop_assert_eq!(closed + open, written);
        }
    }

    /// Whatever entry a movement rests on was announced by the state before, so that trimming the journal can keep it.
    #[test]
    fn evidence_is_announced(moves in moves()) {
        let mut pen = Pen::new();
        let (mut state, _) = facility(&mut pen, &layout(true));
        for entry in write(&mut pen, &moves) {
            let announced: Vec<u64> = state.evidence().collect();
            for movement in state.apply(&entry).movements {
                for offset in &movement.evidence {
                    prop_assert!(announced.contains(offset), "{offset} of {movement:?} not in {announced:?}");
                }
            }
        }
    }

    /// Any bytes under any kind are an entry, and any entry can be applied.
    #[test]
    fn total_on_any_bytes(records in proptest::collection::vec((0u8..4, proptest::collection::vec(any::<u8>(), 0..200)), 1..40)) {
        let mut pen = Pen::new();
        let (mut state, _) = facility(&mut pen, &Layout::default());
        let fallback = state.facility().clone();
        for (kind, bytes) in records {
            let blank = pen.write(Principal::Hub, Body::Tick);
            let bytes = Bytes::from(bytes);
            let entry = wire::decode(blank.position, blank.received_at, kind, &bytes, &fallback);
            state.apply(&entry);
            let _ = wire::facility_of(kind, &bytes);
        }
    }

    /// What is written to the journal reads back equal.
    #[test]
    fn wire_round_trip(moves in moves()) {
        let mut pen = Pen::new();
        let (_, setup) = facility(&mut pen, &Layout::default());
        for entry in setup.into_iter().chain(write(&mut pen, &moves)) {
            let (kind, bytes) = wire::encode(&entry.facility, &entry.principal, &entry.body);
            let bytes = Bytes::from(bytes);
            prop_assert_eq!(wire::facility_of(kind, &bytes), Some(entry.facility.as_str()));
            let read = wire::decode(entry.position, entry.received_at, kind, &bytes, &entry.facility);
            prop_assert_eq!(read, entry);
        }
    }
}
