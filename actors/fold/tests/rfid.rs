//! What tags do to stock, and what readers may get wrong: frames of one reader straight into the fold.
//!
//! How well presence is judged is measured elsewhere, on simulated readers; here reads are strong and in every round, so that
//! what follows from a decision can be told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a test may panic"
)]

mod common;

use bytes::Bytes;
use common::{Pen, slot};
use device_profiles::{
    DeviceId, FacilityId, Milligrams, Profile, ProfileHash, ShelfId, Sku, SlotId, Tag, Units,
    ZoneId,
    epc::{Epc, Form, Written},
    llrp::{Message, Parameter, Value, message},
    shipped::shipped,
};
use fold::{
    AntennaSpec, Body, Command, Confidence, CycleCount, DeviceSpec, Effects, Event, EventKind,
    Frame, How, HubTime, LineSpec, Master, MasterEntry, Outcome, Personality, Principal, Reason,
    SkuSpec, SlotSpec, Source, State, TagChange, TagTold, Why, ZoneSpec,
    discrepancy::Kind as Doubt,
};

/// Reports come this often, in microseconds.
const ROUND_US: i64 = 250_000;
const GTIN: &str = "80614141123458";

fn zone(name: &str) -> ZoneId {
    ZoneId::parse(name).unwrap()
}
fn reader() -> DeviceId {
    DeviceId::parse("reader").unwrap()
}
fn cola() -> Sku {
    Sku::parse("cola").unwrap()
}

/// An item of the GTIN.
fn item(serial: u64) -> Tag {
    let epc = Epc::sgtin(GTIN, 7, &serial.to_string()).unwrap();
    Tag::of_bytes(&Written { epc, filter: 1, form: Form::Sgtin96 }.encode().unwrap()).unwrap()
}

/// A shop with a reader: antenna 1 looks at slot 0, 2 at the fitting room, 3 at the shop at large, 4 at slot 1.
struct Shop {
    pen: Pen,
    state: State,
    revision: u64,
    profile: ProfileHash,
    /// Whose frames come.
    reader: DeviceId,
    told: Vec<Event>,
    movements: Vec<fold::Movement>,
}

impl Shop {
    fn new(source: Source) -> Self {
        Self::with(source, Some(GTIN))
    }

    fn with(source: Source, gtin: Option<&str>) -> Self {
        Self::of(shipped("llrp-reader").unwrap(), source, gtin)
    }

    /// With a reader that shows no signs of life.
    fn without_patience() -> Self {
        let text = shipped("llrp-reader").unwrap();
        let other = text.replace("{ patience_ms: 5000 }", "{}");
        assert_ne!(text, other);
        Self::of(&other, Source::Rfid, Some(GTIN))
    }

    fn of(text: &str, source: Source, gtin: Option<&str>) -> Self {
        let mut pen = Pen::new();
        let profile = Profile::parse(text).unwrap().hash;
        let mut state = State::new(pen.write(Principal::Hub, Body::Tick).facility);
        state.apply(&pen.write(Principal::Hub, Body::Profile(text.to_owned())));
        let mut shop = Self {
            pen,
            state,
            revision: 0,
            profile,
            reader: reader(),
            told: Vec::new(),
            movements: Vec::new(),
        };
        let spec = |id: &str, personality| ZoneSpec { id: zone(id), personality, mobility: None };
        let place = |i: usize| SlotSpec {
            id: slot(i),
            shelf: ShelfId::parse("shelf").unwrap(),
            zone: Some(zone("shelf")),
            receiving: false,
        };
        let line = LineSpec { sku: cola(), source, capacity: None, min: None };
        shop.publish(vec![
            Master::Zone(spec("shelf", Personality::Shelf)),
            Master::Zone(spec("fitting", Personality::Fitting)),
            Master::Zone(spec("floor", Personality::Shelf)),
            Master::Slot(place(0)),
            Master::Slot(place(1)),
            sku(gtin),
            Master::Lines { slot: slot(0), lines: vec![line] },
            Master::Device(DeviceSpec { id: reader(), slot: None, channels: Vec::new() }),
            Master::Antennas {
                device: reader(),
                antennas: vec![
                    antenna(1, "shelf", Some(slot(0))),
                    antenna(2, "fitting", None),
                    antenna(3, "floor", None),
                    antenna(4, "shelf", Some(slot(1))),
                ],
            },
        ]);
        shop
    }

    fn take(&mut self, effects: Effects) -> Outcome {
        self.told.extend(effects.events);
        self.movements.extend(effects.movements);
        effects.outcome
    }

    fn publish(&mut self, values: Vec<Master>) -> Outcome {
        self.revision += 1;
        let master = MasterEntry { revision: self.revision, values };
        let entry = self.pen.write(Principal::Hub, Body::Master(master));
        let effects = self.state.apply(&entry);
        self.take(effects)
    }

    fn command(&mut self, command: Command) -> Outcome {
        let entry = self.pen.command(None, command);
        let effects = self.state.apply(&entry);
        self.take(effects)
    }

    fn frame(&mut self, raw: Vec<u8>) -> Outcome {
        let frame = Frame {
            device: self.reader.clone(),
            stream: "reads".to_owned(),
            boot: None,
            seq: None,
            profile: self.profile,
            fresh_session: false,
            raw: Bytes::from(raw),
        };
        let entry = self.pen.write(Principal::Device, Body::Frame(frame));
        let effects = self.state.apply(&entry);
        self.take(effects)
    }

    /// A report of tags at an antenna, each read three times; without tags it says that the reader listens.
    fn report(&mut self, antenna: u16, tags: &[Tag]) -> Outcome {
        let reads = tags.iter().map(|tag| read(*tag, antenna, None)).collect();
        self.frame(message_of(message::REPORT, reads))
    }

    /// Reads of tags, each at its time by the reader's clock.
    fn reads(&mut self, antenna: u16, tags: &[Tag], at_us: i64) -> Outcome {
        let reads = tags.iter().map(|tag| read(*tag, antenna, Some(at_us))).collect();
        self.frame(message_of(message::REPORT, reads))
    }

    /// Reports for so many seconds.
    fn hears(&mut self, seconds: i64, antenna: u16, tags: &[Tag]) {
        for _ in 0..seconds * 1_000_000 / ROUND_US {
            self.pen.now += ROUND_US;
            assert_eq!(self.report(antenna, tags), Outcome::Applied);
        }
    }

    /// The reader shows signs of life for so many seconds, whatever becomes of them.
    fn hears_nothing(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.pen.now += 1_000_000;
            self.report(1, &[]);
        }
    }

    /// Time passes without a frame; the fold is asked as often as it wants to be.
    fn passes(&mut self, seconds: i64) {
        let end = self.pen.now + seconds * 1_000_000;
        while let Some(due) = self.state.deadline().filter(|due| due.0 <= end) {
            self.pen.now = self.pen.now.max(due.0);
            let entry = self.pen.write(Principal::Hub, Body::Tick);
            let effects = self.state.apply(&entry);
            self.take(effects);
        }
        self.pen.now = end;
    }

    /// What was told of tags since the last look.
    fn changes(&mut self) -> Vec<TagTold> {
        let told = std::mem::take(&mut self.told).into_iter();
        told.filter_map(|event| match event.kind {
            EventKind::Tag(told) => Some(*told),
            _ => None,
        })
        .collect()
    }

    fn kinds(&mut self) -> Vec<TagChange> {
        self.changes().iter().map(|told| told.change).collect()
    }

    fn units(&self, at: usize) -> i64 {
        self.state.level(slot(at).as_str(), &cola()).map_or(0, |level| level.quantity.0)
    }

    fn opened(&self) -> Vec<Doubt> {
        let opened = |event: &Event| match &event.kind {
            EventKind::DiscrepancyOpened(opened) => Some(opened.kind),
            _ => None,
        };
        self.told.iter().filter_map(opened).collect()
    }

    fn refusals(&self) -> Vec<Reason> {
        let refused = |event: &Event| match &event.kind {
            EventKind::Refused { reason, .. } => Some(*reason),
            _ => None,
        };
        self.told.iter().filter_map(refused).collect()
    }
}

fn sku(gtin: Option<&str>) -> Master {
    Master::Sku(SkuSpec {
        id: cola(),
        unit_weight: None,
        unit_sigma: Milligrams(0),
        gtin: gtin.map(str::to_owned),
    })
}

fn antenna(port: u16, at: &str, slot: Option<SlotId>) -> AntennaSpec {
    AntennaSpec { port, zone: zone(at), slot, outside: false }
}

fn message_of(number: u16, parameters: Vec<Parameter>) -> Vec<u8> {
    Message::new(number, 1, Vec::new(), parameters).encode().unwrap()
}

/// What a reader says of itself.
fn event(name: &str, fields: Vec<Value>) -> Vec<u8> {
    let event = Parameter::new(name, fields, Vec::new());
    let clock = Parameter::new("UTCTimestamp", vec![Value::Unsigned(0)], Vec::new());
    let data = Parameter::new("ReaderEventNotificationData", Vec::new(), vec![clock, event]);
    message_of(message::EVENT, vec![data])
}

fn one(number: u16, value: Value) -> Parameter {
    Parameter { number, fields: vec![value], parameters: Vec::new() }
}

/// A tag in a report, as strong as usual.
fn read(tag: Tag, antenna: u16, at_us: Option<i64>) -> Parameter {
    let mut parameters = vec![
        one(13, Value::Bytes(tag.bytes().to_vec())),
        one(1, Value::Unsigned(antenna.into())),
        one(6, Value::Signed(-55)),
    ];
    parameters.extend(at_us.map(|us| one(4, Value::Unsigned(us.cast_unsigned()))));
    parameters.push(one(8, Value::Unsigned(3)));
    Parameter { number: 240, fields: Vec::new(), parameters }
}

#[test]
fn tags_are_booked_as_units_and_out_again() {
    let mut shop = Shop::new(Source::Rfid);
    shop.hears(3, 1, &[item(1), item(2)]);
    assert_eq!(shop.units(0), 2);
    assert_eq!(shop.kinds(), [TagChange::Arrived, TagChange::Arrived]);
    // Every unit says which reads it rests on, and by which rule.
    for movement in &shop.movements {
        assert_eq!((movement.delta, movement.cause), (Units(1), fold::Cause::Rfid));
        assert!(movement.confidence > Confidence(9_000) && movement.device == Some(reader()));
        let Why::Tag(told) = &movement.why else { panic!("{:?}", movement.why) };
        assert!(!told.reads.is_empty() && told.to.as_ref().unwrap().slot == Some(slot(0)));
    }
    shop.hears(60, 1, &[item(1)]);
    assert_eq!(shop.units(0), 1);
    let changes = shop.changes();
    assert_eq!((changes.len(), changes[0].how), (1, Some(How::Silence)));
    // Who comes back within two weeks returns.
    shop.hears(3, 1, &[item(1), item(2)]);
    assert_eq!((shop.kinds().as_slice(), shop.units(0)), (&[TagChange::Returned][..], 2));
    let sum: i64 = shop.movements.iter().map(|movement| movement.delta.0).sum();
    assert_eq!(sum, 2);
}

#[test]
fn a_tag_that_changes_its_slot_takes_its_unit_along() {
    let mut shop = Shop::new(Source::Rfid);
    shop.hears(40, 1, &[item(1)]);
    shop.hears(40, 4, &[item(1)]);
    assert_eq!((shop.units(0), shop.units(1)), (0, 1));
    assert_eq!(shop.kinds(), [TagChange::Arrived, TagChange::Moved]);
}

#[test]
fn where_scans_count_a_tag_is_a_witness() {
    let mut shop = Shop::new(Source::Scan);
    shop.hears(3, 1, &[item(1)]);
    assert_eq!((shop.units(0), shop.movements.len()), (0, 0));
    assert!(shop.opened().is_empty());
    shop.hears(70, 1, &[item(1)]);
    assert_eq!(shop.opened(), [Doubt::Unconfirmed]);
    assert_eq!(shop.units(0), 0, "a witness never adds");
}

#[test]
fn what_is_tried_on_stays_a_unit_of_its_slot() {
    let mut shop = Shop::new(Source::Rfid);
    shop.hears(40, 1, &[item(1)]);
    shop.hears(60, 2, &[item(1)]);
    let changes = shop.changes();
    assert_eq!(changes.last().unwrap().to.as_ref().unwrap().zone, zone("fitting"));
    assert_eq!(shop.units(0), 1, "it is being tried on");
    shop.hears(60, 3, &[item(1)]);
    assert_eq!(shop.units(0), 0, "it was carried off to the floor");
}

#[test]
fn a_gtin_that_is_published_later_makes_units_of_the_tags() {
    let mut shop = Shop::with(Source::Rfid, None);
    shop.hears(3, 1, &[item(1), item(2)]);
    assert_eq!((shop.kinds().len(), shop.units(0)), (2, 0));
    shop.publish(vec![sku(Some(GTIN))]);
    shop.hears(1, 1, &[item(1), item(2)]);
    assert_eq!(shop.units(0), 2);
    assert_eq!(shop.state.tag(&item(1)).unwrap().sku, Some(cola()));
    shop.publish(vec![sku(None)]);
    shop.hears(1, 1, &[item(1), item(2)]);
    assert_eq!(shop.units(0), 0, "and no units when it is taken away");
}

#[test]
fn a_tag_is_gone_when_somebody_says_so() {
    let mut shop = Shop::new(Source::Rfid);
    let gone = |tag, since| Command::TagGone { tag, elsewhere: None, unless_read_since: since };
    let unknown = shop.command(gone(item(1), None));
    assert_eq!(unknown, Outcome::Rejected(Reason::UnknownTag));
    shop.hears(3, 1, &[item(1)]);
    let read_since = shop.command(gone(item(1), Some(HubTime(shop.pen.now - 2_000_000))));
    assert_eq!(read_since, Outcome::Rejected(Reason::TagReadSince));
    assert_eq!(shop.units(0), 1);
    shop.changes();
    assert_eq!(shop.command(gone(item(1), None)), Outcome::Applied);
    let changes = shop.changes();
    assert_eq!((changes[0].change, changes[0].how), (TagChange::Departed, Some(How::Declared)));
    assert_eq!((shop.units(0), shop.movements.last().unwrap().delta), (0, Units(-1)));
    assert_eq!(shop.movements.last().unwrap().principal, Principal::Person("ann".into()));
}

#[test]
fn a_tag_that_another_facility_has_is_not_here() {
    let mut shop = Shop::new(Source::Rfid);
    shop.hears(3, 1, &[item(1)]);
    shop.changes();
    let elsewhere = FacilityId::parse("f2").unwrap();
    let now = Some(HubTime(shop.pen.now));
    let gone = Command::TagGone {
        tag: item(1),
        elsewhere: Some(elsewhere.clone()),
        unless_read_since: now,
    };
    assert_eq!(shop.command(gone), Outcome::Applied);
    let changes = shop.changes();
    assert_eq!((changes[0].how, &changes[0].elsewhere), (Some(How::Elsewhere), &Some(elsewhere)));
}

#[test]
fn a_cycle_count_tells_what_is_there() {
    let mut shop = Shop::new(Source::Rfid);
    let raw: Tag = "E20034120000000000000001".parse().unwrap();
    shop.hears(3, 1, &[item(1), item(2), raw]);
    shop.hears(1, 3, &[]);
    let count = |shop: &mut Shop, zone| {
        let outcome = shop.command(Command::CycleCount { zone });
        let last = shop.told.pop();
        match last.map(|event| event.kind) {
            Some(EventKind::CycleCount(count)) => Ok(*count),
            _ => Err(outcome),
        }
    };
    let all =
        CycleCount { zone: None, present: 3, doubtful: 0, unknown: 1, skus: vec![(cola(), 2)] };
    assert_eq!(count(&mut shop, None).unwrap(), all);
    let shelf = Some(zone("shelf"));
    assert_eq!(count(&mut shop, shelf.clone()).unwrap(), CycleCount { zone: shelf, ..all });
    assert_eq!(count(&mut shop, Some(zone("floor"))).unwrap().present, 0);
    let nowhere = count(&mut shop, Some(zone("nowhere")));
    assert_eq!(nowhere, Err(Outcome::Rejected(Reason::UnknownZone)));
}

#[test]
fn reads_of_an_antenna_that_looks_nowhere_are_quarantined() {
    let mut shop = Shop::new(Source::Rfid);
    let outcome = shop.report(9, &[item(1)]);
    assert_eq!(outcome, Outcome::Quarantined(Reason::UnboundAntenna));
    assert_eq!(shop.state.tags_known(), 0);
    // Where others of the frame are sound they count, and the rest is kept all the same.
    let reads = vec![read(item(1), 1, None), read(item(2), 9, None)];
    assert_eq!(shop.frame(message_of(message::REPORT, reads)), Outcome::Applied);
    assert_eq!(shop.refusals(), [Reason::UnboundAntenna, Reason::UnboundAntenna]);
    assert_eq!(shop.state.tags_known(), 1);
}

#[test]
fn bytes_that_are_no_message_are_rejected() {
    let mut shop = Shop::new(Source::Rfid);
    for raw in [Vec::new(), b"no message at all".to_vec(), vec![0x04, 61, 0, 0, 0, 11, 0, 0, 0, 0]]
    {
        assert_eq!(shop.frame(raw), Outcome::Rejected(Reason::NotMessage));
    }
}

#[test]
fn nothing_departs_while_its_reader_is_silent() {
    let mut shop = Shop::new(Source::Rfid);
    shop.hears(3, 1, &[item(1)]);
    shop.changes();
    shop.passes(6 * 3_600);
    assert!(shop.changes().is_empty(), "no frame, no knowledge");
    assert_eq!(shop.units(0), 1);
    // As soon as it listens again, silence tells something.
    shop.hears(60, 3, &[]);
    assert_eq!(shop.kinds(), [TagChange::Departed]);
}

#[test]
fn an_antenna_that_is_unplugged_tells_nothing() {
    let mut shop = Shop::new(Source::Rfid);
    let plug =
        |on: bool| event("AntennaEvent", vec![Value::Unsigned(u64::from(on)), Value::Unsigned(1)]);
    shop.hears(3, 1, &[item(1)]);
    shop.changes();
    assert_eq!(shop.frame(plug(false)), Outcome::Applied);
    let deaf = shop.told.last().unwrap().kind.clone();
    assert_eq!(deaf, EventKind::Listening { antenna: Some(1), on: false });
    shop.hears(120, 3, &[]);
    assert!(shop.kinds().is_empty(), "its antenna is away");
    shop.frame(plug(true));
    shop.hears(60, 3, &[]);
    assert_eq!(shop.kinds(), [TagChange::Departed]);
    // A read says that it is there again, whether the reader told so or not.
    shop.frame(plug(false));
    shop.hears(10, 3, &[]);
    shop.hears(3, 1, &[item(1)]);
    shop.hears(60, 3, &[]);
    assert_eq!(shop.kinds(), [TagChange::Returned, TagChange::Departed]);
}

#[test]
fn while_the_hub_is_away_nothing_is_silent() {
    let mut shop = Shop::without_patience();
    shop.hears(3, 1, &[item(1), item(2)]);
    shop.changes();
    // No tick comes for what is due.
    shop.pen.now += 3_600_000_000;
    shop.hears(60, 1, &[item(1)]);
    let changes = shop.changes();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!((changes[0].tag, changes[0].how), (item(2), Some(How::Silence)));
    assert_eq!(shop.units(0), 1);
}

#[test]
fn what_a_reader_does_not_hear_while_it_is_stopped_is_no_silence() {
    for mut shop in [Shop::new(Source::Rfid), Shop::without_patience()] {
        let rospec = |kind: u64| {
            let fields = vec![Value::Unsigned(kind), Value::Unsigned(1), Value::Unsigned(0)];
            event("ROSpecEvent", fields)
        };
        shop.hears(3, 1, &[item(1)]);
        shop.changes();
        shop.frame(rospec(1));
        shop.passes(3_600);
        shop.frame(rospec(0));
        shop.hears(60, 1, &[item(1)]);
        assert!(shop.changes().is_empty());
        shop.passes(60);
        shop.hears(60, 3, &[]);
        assert_eq!(shop.kinds(), [TagChange::Departed]);
    }
}

#[test]
fn a_clock_that_is_behind_or_slow_makes_nothing_absent() {
    for mut shop in [Shop::new(Source::Rfid), Shop::without_patience()] {
        shop.reads(1, &[item(9)], shop.pen.now);
        let begin = shop.pen.now;
        // Set back little by little by 8 s, then 10 s slow in 100.
        for round in 1..=1_200 {
            shop.pen.now += ROUND_US;
            let gone = shop.pen.now - begin;
            let behind = (round * 500_000).min(8_000_000) + gone / 10;
            shop.reads(1, &[item(1), item(2)], begin.max(shop.pen.now - behind));
        }
        let mut changes = shop.changes();
        changes.retain(|told| told.tag != item(9));
        assert!(changes.iter().all(|told| told.change == TagChange::Arrived), "{changes:?}");
        assert_eq!(changes.len(), 2);
        shop.hears(90, 1, &[item(1)]);
        assert_eq!(shop.kinds(), [TagChange::Departed]);
    }
}

#[test]
fn a_late_read_by_another_reader_leaves_the_clock_that_counts() {
    let mut shop = Shop::new(Source::Rfid);
    let other = DeviceId::parse("other").unwrap();
    shop.hears(90, 1, &[item(1), item(2)]);
    shop.publish(vec![
        Master::Device(DeviceSpec { id: other.clone(), slot: None, channels: Vec::new() }),
        Master::Antennas { device: other.clone(), antennas: vec![antenna(1, "shelf", None)] },
    ]);
    shop.changes();
    let own = std::mem::replace(&mut shop.reader, other);
    shop.pen.now += ROUND_US;
    let late = read(item(1), 1, Some(shop.pen.now - 1_200_000));
    shop.frame(message_of(message::REPORT, vec![read(item(3), 1, Some(shop.pen.now)), late]));
    shop.reader = own;
    shop.hears(90, 3, &[]);
    let gone: Vec<Tag> = shop
        .changes()
        .iter()
        .filter(|told| told.change == TagChange::Departed)
        .map(|told| told.tag)
        .collect();
    assert!(gone.contains(&item(1)) && gone.contains(&item(2)), "{gone:?}");
}

#[test]
fn tags_of_an_antenna_that_looks_elsewhere_move_by_its_reads() {
    let mut shop = Shop::new(Source::Rfid);
    shop.hears(3, 1, &[item(1), item(2)]);
    assert_eq!((shop.units(0), shop.units(1)), (2, 0));
    shop.changes();
    let looks = |at, to| Master::Antennas {
        device: reader(),
        antennas: vec![antenna(1, at, to), antenna(3, "floor", None)],
    };
    shop.publish(vec![looks("shelf", Some(slot(1)))]);
    shop.hears(60, 1, &[item(1)]);
    assert_eq!((shop.units(0), shop.units(1)), (0, 1));
    let changes = shop.changes();
    let slots = |told: &TagTold| {
        let slot = |at: &Option<fold::Whereabouts>| at.as_ref().and_then(|at| at.slot.clone());
        (told.tag, told.change, slot(&told.from), slot(&told.to))
    };
    let told: Vec<_> = changes.iter().map(slots).collect();
    assert!(told.contains(&(item(1), TagChange::Moved, Some(slot(0)), Some(slot(1)))), "{told:?}");
    assert!(told.contains(&(item(2), TagChange::Departed, Some(slot(0)), None)), "{told:?}");
    // To another zone, and to none at all.
    shop.publish(vec![looks("fitting", None)]);
    shop.hears(60, 1, &[item(1)]);
    let changes = shop.changes();
    let zones = |at: &Option<fold::Whereabouts>| at.as_ref().map(|at| at.zone.clone());
    let told: Vec<_> = changes.iter().map(|told| (zones(&told.from), zones(&told.to))).collect();
    assert_eq!(told, [(Some(zone("shelf")), Some(zone("fitting")))]);
    shop.publish(vec![Master::Antennas { device: reader(), antennas: Vec::new() }]);
    shop.hears_nothing(1_200);
    let changes = shop.changes();
    assert_eq!((changes.len(), zones(&changes[0].from)), (1, Some(zone("fitting"))), "{changes:?}");
}

#[test]
fn without_room_for_its_zone_an_antenna_looks_nowhere() {
    let mut shop = Shop::new(Source::Rfid);
    for n in 0..1_100 {
        let id = zone(&format!("z{n}"));
        let personality = Personality::Sale;
        shop.publish(vec![Master::Zone(ZoneSpec { id, personality, mobility: None })]);
    }
    let antennas = vec![antenna(1, "z1099", None)];
    shop.publish(vec![Master::Antennas { device: reader(), antennas }]);
    shop.told.clear();
    let outcome = shop.report(1, &[item(1)]);
    assert_eq!(outcome, Outcome::Quarantined(Reason::UnboundAntenna));
}

#[test]
fn held_reports_count_at_the_time_they_were_read() {
    // The connection is away for five minutes; what was read meanwhile comes at once when it is back.
    for (held, kinds, left) in [
        (item(1), [].as_slice(), 1),
        (item(2), [TagChange::Arrived, TagChange::Departed].as_slice(), 1),
    ] {
        let mut shop = Shop::new(Source::Rfid);
        let report = |tag, at_us: i64| message_of(message::REPORT, vec![read(tag, 1, Some(at_us))]);
        for _ in 0..12 {
            shop.pen.now += ROUND_US;
            let now = shop.pen.now;
            shop.frame(report(item(1), now));
        }
        assert_eq!(shop.kinds(), [TagChange::Arrived]);
        let away = shop.pen.now;
        shop.passes(300);
        assert!(shop.kinds().is_empty());
        // It greets with its clock as it is now.
        let attempt =
            Parameter::new("ConnectionAttemptEvent", vec![Value::Unsigned(0)], Vec::new());
        let now = Value::Unsigned(shop.pen.now.cast_unsigned());
        let clock = Parameter::new("UTCTimestamp", vec![now], Vec::new());
        let greeting =
            Parameter::new("ReaderEventNotificationData", Vec::new(), vec![clock, attempt]);
        shop.frame(message_of(message::EVENT, vec![greeting]));
        for round in 1..=300 {
            shop.frame(report(held, away + round * 1_000_000));
        }
        // The reader listened all the time: who was heard is here, who was not is gone. A tag that was due while nobody
        // listened is looked at again within a minute.
        shop.passes(61);
        assert_eq!(shop.kinds(), kinds, "{held}");
        assert_eq!(shop.units(0), left);
        assert_eq!(shop.state.tag(&held).unwrap().at.unwrap().slot, Some(slot(0)));
    }
}

#[test]
fn what_a_reader_could_not_keep_is_counted_as_loss() {
    let mut shop = Shop::new(Source::Rfid);
    shop.hears(3, 1, &[item(1)]);
    assert_eq!(shop.state.ledger("reader").unwrap().counts.source_lost, 0);
    let overflow = Parameter::new("ReportBufferOverflowErrorEvent", Vec::new(), Vec::new());
    let clock = Parameter::new("UTCTimestamp", vec![Value::Unsigned(0)], Vec::new());
    let data = Parameter::new("ReaderEventNotificationData", Vec::new(), vec![clock, overflow]);
    shop.told.clear();
    shop.frame(message_of(message::EVENT, vec![data]));
    assert_eq!(shop.state.ledger("reader").unwrap().counts.source_lost, 1);
    assert_eq!(shop.told.last().unwrap().kind, EventKind::SourceLoss { frames: 1 });
}

#[test]
fn a_snapshot_goes_on_as_if_nothing_had_been() {
    let mut shop = Shop::new(Source::Rfid);
    shop.hears(3, 1, &[item(1), item(2)]);
    let slices: Vec<Vec<u8>> = shop.state.slices().collect();
    let restored = State::restore(&slices).unwrap();
    assert_eq!(restored.digest(), shop.state.digest());
    assert_eq!(restored.deadline(), shop.state.deadline());
    assert_eq!(restored.tags().count(), 2);
    // Both hear the same from then on, and tell the same.
    let (pen, mut told) = (shop.pen.clone(), Vec::new());
    for state in [restored, shop.state.clone()] {
        (shop.pen, shop.state) = (pen.clone(), state);
        shop.told.clear();
        shop.hears(60, 1, &[item(1)]);
        told.push((std::mem::take(&mut shop.told), shop.state.digest()));
    }
    assert_eq!(told[0], told[1]);
    assert!(!told[0].0.is_empty());
}

#[test]
fn a_snapshot_from_before_tags_is_read() {
    let mut shop = Shop::new(Source::Rfid);
    shop.command(Command::Adjust {
        slot: slot(0),
        sku: cola(),
        delta: Units(3),
        reason: "found".into(),
    });
    // The first layout ends where tags begin, and its number is the first of the head.
    let whole: Vec<Vec<u8>> = shop.state.slices().collect();
    let (lines, with_tags) = (shop.state.levels().count(), whole.len());
    let old_length = with_tags - 1 - 4_096;
    let mut old: Vec<Vec<u8>> = whole.into_iter().take(old_length).collect();
    assert_eq!(old[0][0], 2);
    old[0][0] = 1;
    let mut restored = State::restore(&old).unwrap();
    assert_eq!((restored.levels().count(), restored.tags_known()), (lines, 0));
    // It goes on with what comes, tags included, once zones are published.
    std::mem::swap(&mut shop.state, &mut restored);
    shop.publish(vec![
        Master::Zone(ZoneSpec {
            id: zone("shelf"),
            personality: Personality::Shelf,
            mobility: None,
        }),
        Master::Antennas { device: reader(), antennas: vec![antenna(1, "shelf", Some(slot(0)))] },
    ]);
    shop.hears(3, 1, &[item(1)]);
    assert_eq!(shop.units(0), 4);
    old[0][0] = 9;
    assert!(State::restore(&old).is_err(), "a layout of nobody's");
    assert!(State::restore(&old[..3]).is_err());
}
