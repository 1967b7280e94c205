//! Accuracy on the virtual clock: the simulator's raw frames straight into the fold, judged by the simulator.
//!
//! The simulator knows what really lies on the shelves and shares no code with the fold. Its import body is read here as a
//! hub would read it, its frames become journal entries at their moment of arrival, and ticks come as late as a hub's
//! housekeeping may send them. `STOCKFOLD_SLOTS` sets the number of weighed slots of the two published figures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use device_profiles::{
    Channel, DeviceId, FacilityId, Milligrams, ProfileHash, ShardId, ShelfId, Sku, SlotId, Units,
    profile::DEFAULT_PROFILE,
};
use fold::{
    Body, Cause, ChannelSpec, Command, CommandEntry, Counts, DeviceSpec, Entry, EventKind, Frame,
    HubTime, LineSpec, Master, MasterEntry, Position, Principal, SkuSpec, SlotSpec, Source, State,
};
use serde_json::Value;
use simulator::{
    Scenario, TimedFrame, World, builtin,
    clock::TimeBase,
    score::{Score, Seen, SeenDiscrepancy, SeenMovement, Window, score},
};

/// A hub looks for due deadlines this often, in microseconds; ticks come that late here.
const TICK_LATE_US: i64 = 250_000;
/// Weighed slots of the published figures in a usual run.
const SLOTS: usize = 2_000;

/// A fold fed by a world.
struct Folded {
    state: State,
    offset: u64,
    profile: ProfileHash,
    base: TimeBase,
    boots: BTreeSet<(usize, Option<String>)>,
    seen: Seen,
    causes: BTreeMap<&'static str, usize>,
    /// Slot by the offset and ordinal of the event that opened its discrepancy.
    open: BTreeMap<(u64, u16), usize>,
    ledger: BTreeMap<String, Counts>,
    refused: Vec<(String, &'static str)>,
    frames: u64,
}

impl Folded {
    /// A fold that knows the world's layout and first counts.
    fn new(world: &World) -> Self {
        let layout = world.layout();
        let facility = FacilityId::parse(text(&layout["facilities"][0]["id"])).unwrap();
        let mut folded = Self {
            state: State::new(facility),
            offset: 0,
            profile: ProfileHash::of(DEFAULT_PROFILE),
            base: TimeBase::fixed(),
            boots: BTreeSet::new(),
            seen: Seen::default(),
            causes: BTreeMap::new(),
            open: BTreeMap::new(),
            ledger: BTreeMap::new(),
            refused: Vec::new(),
            frames: 0,
        };
        let at = HubTime(folded.base.wall_us(0));
        folded.apply(at, Principal::Hub, Body::Profile(DEFAULT_PROFILE.into()));
        let values = master(&layout);
        folded.apply(at, Principal::Hub, Body::Master(MasterEntry { revision: 1, values }));
        for (n, call) in world.initial_counts().into_iter().enumerate() {
            let (slot, sku, quantity) = call.counted;
            let command = Command::Count {
                slot: SlotId::parse(&slot).unwrap(),
                sku: Sku::parse(&sku).unwrap(),
                quantity: Units(quantity),
                counted_at: None,
            };
            let entry = CommandEntry { key: Some(format!("count-{n}")), command };
            folded.apply(at, Principal::Person("installer".into()), Body::Command(entry));
        }
        folded
    }

    /// Everything a world sends.
    fn all_of(world: &mut World) -> Self {
        let mut folded = Self::new(world);
        while let Some(frames) = world.next_frames() {
            for frame in frames {
                folded.frame(world, frame);
            }
        }
        let end = HubTime(folded.base.wall_us(world.end()) + 60_000_000);
        folded.ticks(end);
        for (device, hour) in
            folded.state.ledgers().map(|(id, h)| (id.to_string(), h)).collect::<Vec<_>>()
        {
            folded.account(device, hour.counts);
        }
        let levels = folded.state.levels();
        folded.seen.levels =
            levels.map(|l| ((l.slot.to_string(), l.sku.to_string()), l.quantity.0)).collect();
        folded
    }

    fn frame(&mut self, world: &World, frame: TimedFrame) {
        let at = HubTime(self.base.wall_us(frame.at));
        self.ticks(at);
        let boot = frame.boot.map(|boot| boot.to_string());
        let body = Frame {
            device: DeviceId::parse(&world.devices()[frame.device].id).unwrap(),
            stream: frame.stream.to_string(),
            fresh_session: self.boots.insert((frame.device, boot.clone())),
            boot,
            seq: Some(frame.seq),
            profile: self.profile,
            raw: Bytes::from(frame.payload),
        };
        self.frames += 1;
        self.apply(at, Principal::Device, Body::Frame(body));
    }

    /// The ticks a hub appends before `until`.
    fn ticks(&mut self, until: HubTime) {
        while let Some(due) = self.state.deadline().map(|due| due.plus_us(TICK_LATE_US))
            && due < until
        {
            self.apply(due, Principal::Hub, Body::Tick);
        }
    }

    fn apply(&mut self, received_at: HubTime, principal: Principal, body: Body) {
        self.offset += 1;
        let effects = self.state.apply(&Entry {
            position: Position { epoch: 1, shard: ShardId(0), offset: self.offset },
            received_at,
            facility: self.state.facility().clone(),
            principal,
            body,
        });
        for m in effects.movements {
            *self.causes.entry(m.cause.as_str()).or_default() += 1;
            self.seen.movements.push(SeenMovement {
                slot: m.slot.to_string(),
                sku: m.sku.to_string(),
                delta: m.delta.0,
                level_after: Some(m.level_after.0),
                cause: m.cause.as_str().to_owned(),
                at: self.base.virtual_us(m.at.0),
            });
        }
        for event in effects.events {
            match event.kind {
                EventKind::DiscrepancyOpened(o) => {
                    eprintln!("DEBUG open {:?} {} {:?} {:?} {:?} {}", event.slot, self.base.virtual_us(event.at.0), o.kind, o.mass, o.units, o.advice);
                    self.open
                        .insert((self.offset, event.ordinal), self.seen.discrepancies.len());
                    self.seen.discrepancies.push(SeenDiscrepancy {
                        slot: event.slot.unwrap().to_string(),
                        at: self.base.virtual_us(event.at.0),
                        open: true,
                    });
                }
                EventKind::DiscrepancyClosed(closed) => {
                    eprintln!("DEBUG close {:?} {} {:?} {}", event.slot, self.base.virtual_us(event.at.0), closed.kind, closed.by);
                    let opened = self.open.remove(&(closed.offset, closed.ordinal));
                    let opened = opened.expect("only an open discrepancy closes");
                    self.seen.discrepancies[opened].open = false;
                }
                EventKind::Refused { reason, detail, .. } => {
                    eprintln!("DEBUG {:?} {reason:?} {detail}", event.device);
                    self.refused.push((event.device.map_or(String::new(), |d| d.to_string()), reason.code()));
                }
                EventKind::DeviceRebooted { .. }
                | EventKind::SourceLoss { .. }
                | EventKind::EntryQuarantined { .. }
                | EventKind::FoldUpgraded { .. } => {}
            }
        }
        if let Some((device, hour)) = effects.ledger_closed {
            self.account(device.to_string(), hour.counts);
        }
    }

    fn account(&mut self, device: String, counts: Counts) {
        let sum = self.ledger.entry(device).or_default();
        sum.journaled += counts.journaled;
        sum.applied += counts.applied;
        sum.duplicate += counts.duplicate;
        sum.quarantined += counts.quarantined;
        sum.rejected += counts.rejected;
        sum.source_lost += counts.source_lost;
    }

    fn score(&self, world: &World) -> Score {
        score(world.truth(), &self.seen, Window::default())
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn milligrams(value: &Value) -> Milligrams {
    Milligrams(value.as_i64().unwrap())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// An import body as values of master data, as a hub publishes them to its fold.
fn master(layout: &Value) -> Vec<Master> {
    let mut values = Vec::new();
    for sku in list(&layout["skus"]) {
        values.push(Master::Sku(SkuSpec {
            id: Sku::parse(text(&sku["id"])).unwrap(),
            unit_weight: Some(milligrams(&sku["unit_weight_mg"])),
            unit_sigma: milligrams(&sku["unit_sigma_mg"]),
            gtin: sku["gtin"].as_str().map(str::to_owned),
        }));
    }
    for slot in list(&layout["slots"]) {
        values.push(Master::Slot(SlotSpec {
            id: SlotId::parse(text(&slot["id"])).unwrap(),
            shelf: ShelfId::parse(text(&slot["shelf"])).unwrap(),
            zone: None,
            receiving: false,
        }));
    }
    for line in list(&layout["planogram"]) {
        values.push(Master::Lines {
            slot: SlotId::parse(text(&line["slot"])).unwrap(),
            lines: vec![LineSpec {
                sku: Sku::parse(text(&line["sku"])).unwrap(),
                source: serde_json::from_value::<Source>(line["source"].clone()).unwrap(),
                capacity: line["capacity"].as_i64().map(Units),
                min: None,
            }],
        });
    }
    for device in list(&layout["devices"]) {
        let channel = |c: &Value| ChannelSpec {
            channel: Channel::parse(text(&c["channel"])).unwrap(),
            slot: SlotId::parse(text(&c["slot"])).unwrap(),
            division: milligrams(&c["division_mg"]),
            noise: milligrams(&c["noise_mg"]),
            capacity: None,
            zero: Some(milligrams(&c["zero_mg"])),
        };
        values.push(Master::Device(DeviceSpec {
            id: DeviceId::parse(text(&device["id"])).unwrap(),
            slot: None,
            channels: device["channels"].as_array().into_iter().flatten().map(channel).collect(),
        }));
    }
    values
}

fn share_right(score: &Score) -> f64 {
    score.levels_right as f64 / score.lines as f64
}

fn tell(name: &str, folded: &Folded, score: &Score) {
    println!(
        "{name}: {} lines, {} frames, levels right {:.4} %, {} movements, precision {:.5}, recall {:.5}, F1 {:.5}, \
         delay p50 {:.0} ms p95 {:.0} ms, misplaced {} noticed {}, discrepancies {} open {}",
        score.lines,
        folded.frames,
        share_right(score) * 100.0,
        score.true_movements,
        score.precision,
        score.recall,
        score.f1,
        score.delay_p50_ms,
        score.delay_p95_ms,
        score.misplaced,
        score.misplaced_noticed,
        score.discrepancies,
        score.discrepancies_open,
    );
}

/// A published figure: ten events on each of so many weighed slots.
fn published(name: &str) -> Score {
    let slots = std::env::var("STOCKFOLD_SLOTS")
        .map_or(SLOTS, |text| text.parse().expect("STOCKFOLD_SLOTS is a number"));
    let mut scenario = builtin::load(name).unwrap();
    scenario.facility.shelves = slots.div_ceil(scenario.facility.slots_per_shelf);
    println!("{name}: seed {}", scenario.seed);
    let mut world = World::new(scenario);
    let folded = Folded::all_of(&mut world);
    let score = folded.score(&world);
    tell(name, &folded, &score);
    assert_eq!(
        world.truth().movements.len(),
        10 * score.lines,
        "the schedule gave every slot its events"
    );
    score
}

#[test]
fn counts_are_right_at_a_tenth() {
    let score = published("accuracy-010");
    assert!(share_right(&score) >= 0.999, "{:#?}", score.levels_wrong);
    assert!(score.f1 >= 0.999, "F1 {}", score.f1);
}

#[test]
fn counts_are_right_at_fifteen_hundredths() {
    let score = published("accuracy-015");
    assert!(share_right(&score) >= 0.995, "{:#?}", score.levels_wrong);
}

/// A day of drift, creep and warmth with a few picks: nothing slow is a movement, nothing quick is missed.
#[test]
fn a_drifting_day_invents_nothing() {
    let mut world = World::new(builtin::load("creep").unwrap());
    let folded = Folded::all_of(&mut world);
    let score = folded.score(&world);
    tell("creep", &folded, &score);
    assert!(score.true_movements > 100, "{}", score.true_movements);
    assert_eq!(score.seen_matched, score.seen_movements, "a movement was invented");
    assert_eq!(score.levels_right, score.lines, "{:#?}", score.levels_wrong);
}

/// Twenty grams a day for thirty days, nobody near: after each line's first quantity, no movement at all.
#[test]
fn a_month_of_creep_is_no_movement() {
    let mut scenario = builtin::load("creep").unwrap();
    scenario.people.clear();
    scenario.duration_s = 30.0 * 86_400.0;
    scenario.cells.creep_mg_per_day = 20_000.0;
    scenario.cells.rate_hz = 0.1;
    let mut world = World::new(scenario);
    let folded = Folded::all_of(&mut world);
    let score = folded.score(&world);
    tell("creep, 30 days", &folded, &score);
    assert!(world.truth().movements.is_empty());
    assert_eq!(folded.seen.movements.len(), score.lines, "one first quantity a line, no more");
    assert_eq!((score.seen_movements, score.levels_right), (0, score.lines));
    // 600 g away from where it was is more than drift explains in silence: somebody is told.
    let told: BTreeSet<&str> = folded.seen.discrepancies.iter().map(|d| &*d.slot).collect();
    assert_eq!(told.len(), score.lines, "every cell's drift is told: {told:?}");
}

/// Two hours in which goods wander between weighed shelves, and somebody brings them home.
const MISPLACED: &str = r#"
seed = 17
duration_s = 14_400
quiet_tail_s = 30
facility = { id = "misplaced", shelves = 4, slots_per_shelf = 6 }
cells = { per_device = 6, division_mg = 1_000, noise_mg = 600, plateau_noise_mg = 2_000, rate_hz = 5 }
[[people]]
pick_per_hour = 60
restock_per_hour = 20
misplace_per_hour = 12
[[people]]
tidy_per_hour = 40
[[sku]]
id = "CAN-350"
unit_weight_mg = 350_000
unit_sigma_mg = 1_500
[[sku]]
id = "JAR-600"
unit_weight_mg = 600_000
unit_sigma_mg = 3_000
[[sku]]
id = "BAG-1000"
unit_weight_mg = 1_000_000
unit_sigma_mg = 4_000
"#;

/// Goods on a shelf where they do not belong open a discrepancy; the lines themselves stay right.
#[test]
fn misplaced_goods_are_told_and_not_counted() {
    let scenario = Scenario::parse("misplaced", MISPLACED).unwrap();
    let mut world = World::new(scenario);
    let folded = Folded::all_of(&mut world);
    let score = folded.score(&world);
    tell("demo with misplacements", &folded, &score);
    assert!(score.misplaced >= 20, "{}", score.misplaced);
    assert!(score.misplaced_noticed * 10 >= score.misplaced * 9, "{score:#?}");
    assert_eq!(score.levels_unexplained(), 0, "{:#?}", score.levels_wrong);
}

/// Lost, repeated, late and interrupted frames: levels are right, and every repetition is recognised.
#[test]
fn a_rough_link_counts_nothing_twice() {
    let mut world = World::new(builtin::load("rough").unwrap());
    let mut folded = Folded::new(&world);
    // The repetitions, counted beside the fold: a number that a boot of a device has used before.
    let mut sent: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut numbers = BTreeSet::new();
    while let Some(frames) = world.next_frames() {
        for frame in frames {
            let device = world.devices()[frame.device].id.to_string();
            let new = numbers.insert((device.clone(), frame.boot.clone(), frame.seq));
            let sum = sent.entry(device).or_default();
            sum.0 += 1;
            sum.1 += u64::from(!new);
            folded.frame(&world, frame);
        }
    }
    let rest = folded.state.ledgers().map(|(id, h)| (id.to_string(), h.counts)).collect::<Vec<_>>();
    for (device, counts) in rest {
        folded.account(device, counts);
    }
    let levels = folded.state.levels();
    folded.seen.levels =
        levels.map(|l| ((l.slot.to_string(), l.sku.to_string()), l.quantity.0)).collect();
    let score = folded.score(&world);
    tell("rough", &folded, &score);
    let repeated: u64 = sent.values().map(|(_, repeated)| repeated).sum();
    for m in &world.truth().movements { let l=&world.truth().lines[m.line]; if &*l.slot=="B-03" || &*l.slot=="B-04" || &*l.slot=="A-01" { println!("TRUE {} {} {} {} foreign {} {:?}", l.slot, m.from, m.at, m.delta, m.foreign, m.kind); } }
    for m in &folded.seen.movements { if m.slot=="B-03" || m.slot=="B-04" || m.slot=="A-01" { println!("SEEN {} {} {} {:?}", m.slot, m.at, m.delta, m.level_after); } }
    println!("rough: {repeated} repetitions, causes {:?}", folded.causes);
    assert!(repeated > 100, "{repeated}");
    for (device, (frames, repeated)) in &sent {
        let c = folded.ledger[device];
        assert_eq!(c.journaled, *frames, "{device}");
        assert_eq!(c.duplicate, *repeated, "{device}: {c:?}");
        assert_eq!(c.applied + c.duplicate + c.quarantined + c.rejected, c.journaled, "{device}");
        assert_eq!((c.quarantined, c.rejected), (0, 0), "{device}: every frame was sound");
    }
    assert_eq!(score.levels_unexplained(), 0, "{:#?}", score.levels_wrong);
    assert!(folded.causes.contains_key(Cause::Scan.as_str()));
}
