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
    Channel, DeviceId, FacilityId, Milligrams, Profile, ProfileHash, ShardId, ShelfId, Sku, SlotId,
    Units, modbus::ImageWriter, profile::DEFAULT_PROFILE, shipped::SHIPPED,
};
use fold::{
    Body, Cause, ChannelSpec, Command, CommandEntry, Counts, DeviceSpec, Entry, EventKind, Frame,
    HubTime, LineSpec, Master, MasterEntry, Position, Principal, SkuSpec, SlotSpec, Source, State,
};
use serde_json::Value;
use simulator::{
    Scenario, TimedFrame, World, builtin,
    clock::{Micros, SECOND_US, TimeBase},
    modbus::{Bank, Faults, Make, pdu},
    scenario::{BusFraming, ModbusSpec},
    score::{Score, Seen, SeenDiscrepancy, SeenMovement, Window, score},
    truth::TrueMovement,
};

/// A hub looks for due deadlines this often, in microseconds; ticks come that late here.
const TICK_LATE_US: i64 = 250_000;
/// Weighed slots of the published figures in a usual run.
const SLOTS: usize = 1_000;
/// Numbers of a boot that are told apart; an older one is quarantined, because it might be a repetition.
const WINDOW_FRAMES: u64 = 1_024;

/// A fold fed by a world.
struct Folded {
    state: State,
    offset: u64,
    profile: ProfileHash,
    base: TimeBase,
    boots: BTreeSet<(usize, Option<String>)>,
    seen: Seen,
    causes: BTreeMap<&'static str, usize>,
    /// Discrepancies that are open, by offset and ordinal of the event that opened them.
    open: BTreeMap<(u64, u16), usize>,
    /// When each discrepancy was closed.
    closed: Vec<Option<Micros>>,
    /// The registers of devices on buses, and the profile they are read by.
    banks: BTreeMap<usize, (Bank, Profile)>,
    ledger: BTreeMap<String, Counts>,
    refused: BTreeMap<&'static str, u64>,
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
            closed: Vec::new(),
            banks: world
                .devices()
                .iter()
                .enumerate()
                .filter_map(|(i, d)| {
                    Some((i, (Bank::new(d.modbus?.make, Faults::none()), profile(d.modbus?.make))))
                })
                .collect(),
            ledger: BTreeMap::new(),
            refused: BTreeMap::new(),
            frames: 0,
        };
        let at = HubTime(folded.base.wall_us(0));
        for (_, text) in SHIPPED {
            folded.apply(at, Principal::Hub, Body::Profile((*text).into()));
        }
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
            for shown in world.take_shown() {
                let (bank, _) = folded.banks.get_mut(&shown.device).unwrap();
                bank.scales[shown.channel] = Some(shown.scale);
                folded.poll(world, shown.device, shown.at);
            }
        }
        folded.finish(world);
        folded
    }

    /// A bus reads a device: the simulator's registers, asked for as the profile plans it.
    fn poll(&mut self, world: &World, device: usize, at: Micros) {
        let (bank, profile) = self.banks.get_mut(&device).unwrap();
        let mut image = ImageWriter::default();
        for request in &profile.stream("weight").unwrap().poll.as_ref().unwrap().requests {
            let (start, count) = (request.start, request.count);
            let ask = pdu::Ask::Read { function: request.table.function(), start, count };
            let (pdu::Answer::Words(words), _) = bank.answer(&ask, at / 1_000) else {
                // It starts up.
                return;
            };
            image.words(request.table, start, &words);
        }
        let hash = profile.hash;
        let at = HubTime(self.base.wall_us(at));
        self.ticks(at);
        let body = Frame {
            device: DeviceId::parse(&world.devices()[device].id).unwrap(),
            stream: "weight".into(),
            fresh_session: false,
            boot: None,
            seq: None,
            profile: hash,
            raw: Bytes::from(image.finish()),
        };
        self.frames += 1;
        self.apply(at, Principal::Device, Body::Frame(body));
    }

    /// A minute of silence, then levels and accounts.
    fn finish(&mut self, world: &World) {
        self.ticks(HubTime(self.base.wall_us(world.end() + 60 * SECOND_US)));
        let hours: Vec<_> =
            self.state.ledgers().map(|(id, hour)| (id.to_string(), hour.counts)).collect();
        for (device, counts) in hours {
            self.account(device, counts);
        }
        let levels = self.state.levels();
        self.seen.levels =
            levels.map(|l| ((l.slot.to_string(), l.sku.to_string()), l.quantity.0)).collect();
    }

    /// A discrepancy of the slot stood open at some moment of `from..=to`.
    fn is_disputed(&self, slot: &str, from: Micros, to: Micros) -> bool {
        let mut spans = self.seen.discrepancies.iter().zip(&self.closed);
        spans.any(|(d, closed)| d.slot == slot && d.at <= to && closed.is_none_or(|at| at >= from))
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
            let at = self.base.virtual_us(event.at.0);
            if let EventKind::DiscrepancyOpened(_) = &event.kind {
                let slot = event.slot.as_ref().unwrap().to_string();
                self.open.insert((self.offset, event.ordinal), self.seen.discrepancies.len());
                self.seen.discrepancies.push(SeenDiscrepancy { slot, at, open: true });
                self.closed.push(None);
            }
            if let EventKind::DiscrepancyClosed(closed) = &event.kind {
                let opened = self.open.remove(&(closed.offset, closed.ordinal));
                let opened = opened.expect("only an open discrepancy closes");
                self.seen.discrepancies[opened].open = false;
                self.closed[opened] = Some(at);
            }
            if let EventKind::Refused { reason, .. } = &event.kind {
                *self.refused.entry(reason.code()).or_default() += 1;
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

/// The shipped profile of a make.
fn profile(make: Make) -> Profile {
    let (_, text) = SHIPPED.iter().find(|(name, _)| *name == make.profile()).unwrap();
    Profile::parse(text).unwrap()
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

/// The same through real Modbus registers: every make's map by the simulator, read back by the shipped profiles.
#[test]
fn counts_are_right_through_the_registers_of_every_make() {
    let mut scenario = builtin::load("accuracy-010").unwrap();
    let bus = |n: usize| ModbusSpec {
        id: format!("bus-{n}"),
        makes: Make::ALL.to_vec(),
        framing: BusFraming::Tcp,
        baud: 0,
        faults: simulator::modbus::fault::FaultSpec::default(),
        trouble: Vec::new(),
    };
    let slots = SLOTS / 2;
    scenario.modbus = (0..slots.div_ceil(bus(0).slots())).map(bus).collect();
    scenario.facility.shelves = slots.div_ceil(scenario.facility.slots_per_shelf);
    // The displays of these transmitters step by a gram.
    scenario.cells.division_mg = 1_000;
    scenario.cells.report = simulator::scenario::Report::Every;
    let mut world = World::new(scenario);
    assert!(world.devices().iter().filter(|d| d.modbus.is_some()).count() > 200);
    let folded = Folded::all_of(&mut world);
    let score = folded.score(&world);
    tell("registers", &folded, &score);
    assert!(folded.refused.is_empty(), "{:?}", folded.refused);
    assert!(share_right(&score) >= 0.999, "{:#?}", score.levels_wrong);
    assert!(score.f1 >= 0.999, "F1 {}", score.f1);
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

/// Four hours in which goods wander between weighed shelves, and somebody brings them home.
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

/// Goods on a scale where they do not belong are told as a discrepancy and never counted as a movement; a level that is
/// wrong because of them is disputed.
#[test]
fn misplaced_goods_are_told_and_not_counted() {
    let mut world = World::new(Scenario::parse("misplaced", MISPLACED).unwrap());
    let folded = Folded::all_of(&mut world);
    let score = folded.score(&world);
    tell("misplaced", &folded, &score);
    let truth = world.truth();
    let late = Window::default().late_us;
    let came: Vec<_> = truth.movements.iter().filter(|m| m.foreign && m.delta > 0).collect();
    let told =
        |m: &&&TrueMovement| folded.is_disputed(&truth.lines[m.line].slot, m.from, m.at + late);
    let noticed = came.iter().filter(told).count();
    println!(
        "misplaced: {} times, {noticed} told; disputed at the end {}",
        came.len(),
        folded.open.len()
    );
    assert!(came.len() >= 40, "{}", came.len());
    assert_eq!(noticed, came.len(), "goods came unnoticed");
    assert_eq!(score.seen_matched, score.seen_movements, "a movement was invented");
    assert_eq!(score.levels_unexplained(), 0, "{:#?}", score.levels_wrong);
    for wrong in &score.levels_wrong {
        let disputed = folded.is_disputed(&wrong.slot, world.end(), Micros::MAX);
        assert!(disputed, "a wrong level that nobody was told of: {wrong:?}");
    }
}

/// What each frame must become, by the plain rule: how many of a device's frames repeat a number of its boot, and how many
/// lie too far back to say.
#[derive(Default)]
struct Numbers {
    seen: BTreeMap<(usize, Option<String>), (u64, BTreeSet<u64>)>,
    frames: BTreeMap<usize, [u64; 3]>,
}

impl Numbers {
    fn note(&mut self, frame: &TimedFrame) {
        let boot = frame.boot.as_ref().map(ToString::to_string);
        let (high, seen) = self.seen.entry((frame.device, boot)).or_default();
        let [all, repeated, too_old] = self.frames.entry(frame.device).or_default();
        *all += 1;
        if *high >= frame.seq + WINDOW_FRAMES {
            *too_old += 1;
        } else if !seen.insert(frame.seq) {
            *repeated += 1;
        }
        *high = frame.seq.max(*high);
    }
}

/// Lost, repeated, late and interrupted frames and reboots: levels are right, and every repetition is recognised.
#[test]
fn a_rough_link_counts_nothing_twice() {
    let mut scenario = builtin::load("rough").unwrap();
    // Goods that wander are judged above.
    scenario.people[0].misplace_per_hour = 0.0;
    println!("rough: seed {}", scenario.seed);
    let mut world = World::new(scenario);
    let mut folded = Folded::new(&world);
    let mut numbers = Numbers::default();
    while let Some(frames) = world.next_frames() {
        for frame in frames {
            numbers.note(&frame);
            folded.frame(&world, frame);
        }
    }
    folded.finish(&world);
    let score = folded.score(&world);
    tell("rough", &folded, &score);
    let repeated: u64 = numbers.frames.values().map(|[_, repeated, _]| repeated).sum();
    println!(
        "rough: {repeated} repetitions, refused {:?}, causes {:?}",
        folded.refused, folded.causes
    );
    assert!(repeated > 100, "{repeated}");
    assert!(numbers.seen.len() > numbers.frames.len(), "somebody rebooted");
    for (device, [all, repeated, too_old]) in &numbers.frames {
        let id = &world.devices()[*device].id;
        let c = folded.ledger[&**id];
        let account = [c.journaled, c.duplicate, c.quarantined, c.rejected];
        assert_eq!(account, [*all, *repeated, *too_old, 0], "{id}: {c:?}");
        assert_eq!(c.applied + c.duplicate + c.quarantined, c.journaled, "{id}: {c:?}");
    }
    assert_eq!(score.levels_unexplained(), 0, "{:#?}", score.levels_wrong);
    assert!(folded.causes.contains_key(Cause::Scan.as_str()));
}
