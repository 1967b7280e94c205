//! What becomes of a tag's change: it is told, and booked where tags count.
//!
//! A tag whose EPC names a GTIN of a SKU is one unit of the slot its antenna looks at. Where the line is counted by tags (or
//! there is none), the unit is booked; where another source counts, the tag is a witness: it announces a change, and what the
//! counting source never shows becomes a discrepancy. In a fitting room goods stay units of the slot they came from.

use std::collections::BTreeMap;

use device_profiles::{
    DeviceId, FacilityId, Sku, SlotId, Tag, TagRead, Units, ZoneId,
    epc::{Epc, Written},
};

use super::{Change, Heard, How, Key, Personality, Status, TooMany, Turn, Whereabouts};
use crate::{
    book::{self, Origin, book},
    effects::{
        Cause, Confidence, CycleCount, Effects, Event, EventKind, Outcome, Reason, TagChange,
        TagTold, Why,
    },
    entry::{Entry, HubTime, Source},
    limits::{CYCLE_SKUS_MAX, LOOKS_MAX, TAGS_MAX},
    slot::Line,
    state::{State, Timer},
    witness,
};

/// When a frame's reads were taken.
pub(crate) struct Batch {
    /// How long before now the newest of them was.
    pub late_us: i64,
}

impl Batch {
    /// A frame that was taken at a time, as far as is known.
    pub fn of(now: HubTime, taken: HubTime) -> Self {
        Self { late_us: now.since_us(taken).max(0) }
    }

    /// How long before now a read was, by the reader's clock: the frame's newest and its own time.
    pub fn ago_us(&self, newest: Option<i64>, own: Option<i64>) -> i64 {
        let behind = newest.zip(own).map_or(0, |(newest, own)| newest.saturating_sub(own));
        self.late_us.saturating_add(behind.max(0))
    }
}

/// A tag as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct TagNow {
    /// The tag.
    pub tag: Tag,
    /// It is present; otherwise it departed.
    pub present: bool,
    /// Since when.
    pub since: HubTime,
    /// When it was read last.
    pub last_read: HubTime,
    /// Where it is.
    pub at: Option<Whereabouts>,
    /// The SKU of which it is a unit.
    pub sku: Option<Sku>,
    /// How likely it is present, by what was known when it was looked at last.
    pub probability: f64,
}

/// How often and how strongly one antenna hears the tags of another, as learned.
#[derive(Debug, Clone, PartialEq)]
pub struct Confusion {
    /// Reader and port of the antenna at which the tags are.
    pub home: (DeviceId, u16),
    /// Reader and port of the antenna that hears them, too.
    pub other: (DeviceId, u16),
    /// Reads by the first for each read by the second.
    pub ratio: f64,
    /// How much weaker the second hears them, in 1/100 dB.
    pub weaker_cdb: f64,
    /// Signals that are usual for the two, in 1/100 dBm.
    pub usual_cdbm: (f64, f64),
}

/// GTIN of the goods a tag is on.
fn gtin(tag: &Tag) -> Option<String> {
    let Written { epc, .. } = Written::decode(tag.bytes()).ok()?;
    matches!(epc, Epc::Sgtin { .. }).then(|| epc.key())
}

impl State {
    fn sku_of_tag(&self, tag: &Tag) -> Option<Sku> {
        self.gtins.get(&gtin(tag)?).cloned()
    }

    /// Takes a read.
    pub(crate) fn tag_read(
        &mut self,
        origin: &Origin,
        effects: &mut Effects,
        read: &TagRead,
        ago_us: i64,
    ) -> Result<(), (Outcome, String)> {
        let Some(device) = &origin.device else { return Ok(()) };
        let Some(antenna) = self.rfid.readers.bound(device, read.antenna) else {
            let detail = format!("antenna {} of {device} looks at no zone", read.antenna);
            return Err((Outcome::Quarantined(Reason::UnboundAntenna), detail));
        };
        let key = Key::of(&read.tag);
        let is_new = self.rfid.tags.get(&key).is_none();
        let sku = if is_new { self.sku_of_tag(&read.tag) } else { None };
        if is_new
            && self.rfid.tags.len() >= TAGS_MAX
            && let Some(gone) = self.rfid.tags.make_room()
        {
            effects.tags.extend(gone.tag());
        }
        let heard =
            Heard { key: &key, antenna, read, now: self.now, ago_us, offset: origin.offset };
        match self.rfid.read(&heard, || sku) {
            Ok(Some(change)) => self.tag_told(&key, change, None, origin, effects),
            Ok(None) => self.tag_fresh(&key, effects),
            Err(TooMany) => {
                let detail = format!("the facility knows {} tags already", self.rfid.tags.len());
                return Err((Outcome::Quarantined(Reason::TooManyTags), detail));
            }
        }
        Ok(())
    }

    /// A unit was heard again: its line is fresh.
    fn tag_fresh(&mut self, key: &Key, effects: &mut Effects) {
        let Some(tag) = self.rfid.tags.get(key) else { return };
        let (Some(slot), Some(sku)) = (&tag.unit_of, &tag.sku) else { return };
        let Some(place) = self.slots.get_mut(slot.as_str()) else { return };
        if let Some(line) = place.line_mut(sku)
            && line.source == Source::Rfid
        {
            book::freshen(line, slot, self.now, effects);
        }
    }

    /// Looks at the tags that are due.
    pub(crate) fn tags_due(&mut self, entry: &Entry, effects: &mut Effects) {
        for _ in 0..LOOKS_MAX {
            let Some(key) = self.rfid.tags.pop_due(self.now) else { return };
            let origin = self.own_origin(entry.position.offset);
            self.tag_renamed(&key, &origin, effects);
            let was_told =
                self.rfid.tags.get(&key).is_some_and(|tag| tag.status != Status::Unknown);
            match self.rfid.look(&key, self.now) {
                Some(change) => self.tag_told(&key, change, None, &origin, effects),
                // Its row goes, too.
                None if was_told && self.rfid.tags.get(&key).is_none() => {
                    effects.tags.extend(key.tag());
                }
                None => {}
            }
        }
    }

    /// Tells a change, and books what it does to stock.
    fn tag_told(
        &mut self,
        key: &Key,
        change: Change,
        elsewhere: Option<FacilityId>,
        origin: &Origin,
        effects: &mut Effects,
    ) {
        let (Some(state), Some(tag)) = (self.rfid.tags.get(key), key.tag()) else { return };
        let (what, how) = match change.turn {
            Turn::Arrived => (TagChange::Arrived, None),
            Turn::Returned => (TagChange::Returned, None),
            Turn::Moved => (TagChange::Moved, None),
            Turn::Departed(how) => (TagChange::Departed, Some(how)),
        };
        let told = TagTold {
            change: what,
            tag,
            from: change.from,
            to: change.to,
            how,
            elsewhere,
            probability: (change.probability * 10_000.0).round() / 10_000.0,
            last_read_us: state.last_read.0,
            reads: state.reads().collect(),
        };
        let sku = state.sku.clone();
        let slot = told.to.as_ref().and_then(|at| at.slot.clone());
        let device = told.to.as_ref().or(told.from.as_ref()).map(|at| at.device.clone());
        effects.tags.push(tag);
        effects.events.push(Event {
            ordinal: effects.next_ordinal(),
            kind: EventKind::Tag(Box::new(told.clone())),
            at: self.now,
            device,
            slot,
            sku,
        });
        self.tag_booked(key, &told, origin, effects);
    }

    /// The slot of which a tag is a unit, after a change.
    fn unit_slot(&self, was: Option<&SlotId>, told: &TagTold) -> Option<SlotId> {
        let at = told.to.as_ref()?;
        let fitting = |zone: &ZoneId| {
            let spec = self.rfid.zones().find(|spec| spec.id == *zone);
            spec.is_some_and(|spec| spec.personality == Personality::Fitting)
        };
        match &at.slot {
            Some(slot) => Some(slot.clone()),
            None if fitting(&at.zone) => was.cloned(),
            None => None,
        }
    }

    fn tag_booked(&mut self, key: &Key, told: &TagTold, origin: &Origin, effects: &mut Effects) {
        let Some(state) = self.rfid.tags.get(key) else { return };
        let Some(sku) = state.sku.clone() else { return };
        let was = state.unit_of.clone();
        let is = self.unit_slot(was.as_ref(), told);
        if was == is {
            return;
        }
        let device = told.to.as_ref().or(told.from.as_ref()).map(|at| at.device.clone());
        let origin = Origin { device, ..origin.clone() };
        if let Some(slot) = &was {
            self.unit(slot, &sku, Units(-1), told, &origin, effects);
        }
        let booked = match &is {
            Some(slot) => self.unit(slot, &sku, Units(1), told, &origin, effects),
            None => false,
        };
        if let Some(state) = self.rfid.tags.get_mut(key) {
            state.unit_of = is.filter(|_| booked);
        }
    }

    /// One unit more or less in a slot. False when it could not be placed there.
    fn unit(
        &mut self,
        id: &SlotId,
        sku: &Sku,
        delta: Units,
        told: &TagTold,
        origin: &Origin,
        effects: &mut Effects,
    ) -> bool {
        let Some(slot) = self.slots.get_mut(id.as_str()) else { return false };
        let source = slot.line(sku).map(|line| line.source);
        match source {
            Some(Source::Weight | Source::Scan) => {
                let until = witness::announce(slot, sku, delta, origin.at, origin.offset);
                if let Some(until) = until {
                    self.arm(until, Timer::Witness(id.clone()));
                }
                return true;
            }
            Some(Source::Rfid) => {}
            None if slot.lines.len() < crate::limits::LINES_MAX => {
                slot.lines.push(Line::new(sku.clone(), Source::Rfid, false));
            }
            None => {}
        }
        let change = book::Change {
            sku,
            delta,
            cause: Cause::Rfid,
            confidence: Confidence::from_probability(told.probability),
            evidence: told.reads.iter().copied().filter(|o| *o != origin.offset).collect(),
            why: Why::Tag(Box::new(told.clone())),
        };
        let booked = book(slot, &mut self.totals, effects, origin, change);
        if let Err(reason) = booked {
            effects.events.push(Event {
                ordinal: effects.next_ordinal(),
                kind: EventKind::Refused {
                    quarantined: true,
                    reason,
                    detail: format!("tag {} could not be booked in {id}", told.tag),
                },
                at: self.now,
                device: origin.device.clone(),
                slot: Some(id.clone()),
                sku: Some(sku.clone()),
            });
        }
        booked.is_ok()
    }

    /// GTINs got a SKU, or lost it: the tags concerned are looked at soon, some with each entry.
    pub(crate) fn tags_renamed(&mut self) {
        let now = self.now;
        let concerned: Vec<Key> = self
            .rfid
            .tags
            .iter()
            .filter(|(key, state)| key.tag().is_some_and(|tag| self.sku_of_tag(&tag) != state.sku))
            .map(|(key, _)| key.clone())
            .collect();
        for key in concerned {
            self.rfid.tags.hasten(&key, now);
        }
    }

    /// A tag whose GTIN has another SKU now goes as what it was, and comes as what it is.
    fn tag_renamed(&mut self, key: &Key, origin: &Origin, effects: &mut Effects) {
        let (Some(state), Some(tag)) = (self.rfid.tags.get(key), key.tag()) else { return };
        let sku = self.sku_of_tag(&tag);
        if sku == state.sku {
            return;
        }
        let at = self.rfid.whereabouts(state.place);
        let mut told = TagTold {
            change: TagChange::Moved,
            tag,
            from: at.clone(),
            to: None,
            how: None,
            elsewhere: None,
            probability: state.track.presence.probability(),
            last_read_us: state.last_read.0,
            reads: state.reads().collect(),
        };
        self.tag_booked(key, &told, origin, effects);
        if let Some(state) = self.rfid.tags.get_mut(key) {
            state.sku = sku;
        }
        told.to = at;
        self.tag_booked(key, &told, origin, effects);
        effects.tags.push(tag);
    }

    /// Somebody says that a tag is not here.
    pub(crate) fn tag_gone(
        &mut self,
        origin: &Origin,
        effects: &mut Effects,
        tag: &Tag,
        elsewhere: Option<&FacilityId>,
        unless_read_since: Option<HubTime>,
    ) -> Result<(), (Reason, String)> {
        let key = Key::of(tag);
        let Some(state) = self.rfid.tags.get(&key).filter(|s| s.status == Status::Present) else {
            return Err((Reason::UnknownTag, format!("tag {tag} is not present")));
        };
        if unless_read_since.is_some_and(|since| state.last_read > since) {
            return Err((Reason::TagReadSince, format!("tag {tag} was read here since")));
        }
        let how = if elsewhere.is_some() { How::Elsewhere } else { How::Declared };
        if let Some(change) = self.rfid.depart(&key, how, self.now) {
            self.tag_told(&key, change, elsewhere.cloned(), origin, effects);
        }
        Ok(())
    }

    /// Counts the tags of a zone.
    pub(crate) fn cycle_count(
        &mut self,
        effects: &mut Effects,
        zone: Option<&ZoneId>,
    ) -> Result<(), (Reason, String)> {
        if let Some(zone) = zone
            && !self.rfid.zones().any(|spec| spec.id == *zone)
        {
            return Err((Reason::UnknownZone, format!("no reader looks at zone {zone}")));
        }
        let mut count = CycleCount {
            zone: zone.cloned(),
            present: 0,
            doubtful: 0,
            unknown: 0,
            skus: Vec::new(),
        };
        let mut skus: BTreeMap<Sku, u64> = BTreeMap::new();
        for now in self.tags().filter(|now| now.present) {
            if zone.is_some() && now.at.as_ref().map(|at| &at.zone) != zone {
                continue;
            }
            count.present += 1;
            count.doubtful += u64::from(now.probability < 0.9);
            match now.sku {
                Some(sku) => *skus.entry(sku).or_default() += 1,
                None => count.unknown += 1,
            }
        }
        count.skus = skus.into_iter().take(CYCLE_SKUS_MAX).collect();
        self.tell(effects, EventKind::CycleCount(Box::new(count)));
        Ok(())
    }

    /// Offsets of reads that a coming event may name.
    pub(crate) fn tag_evidence(&self) -> impl Iterator<Item = u64> {
        let tags = self.rfid.tags.iter().map(|(_, tag)| tag);
        tags.filter(|tag| tag.status == Status::Present).flat_map(super::TagState::reads)
    }

    fn tag_now(&self, key: &Key, state: &super::TagState) -> Option<TagNow> {
        let present = match state.status {
            Status::Present => true,
            Status::Departed => false,
            Status::Unknown => return None,
        };
        Some(TagNow {
            tag: key.tag()?,
            present,
            since: state.since,
            last_read: state.last_read,
            at: self.rfid.whereabouts(state.place),
            sku: state.sku.clone(),
            probability: state.track.presence.probability(),
        })
    }

    /// A tag that is or was here.
    pub fn tag(&self, tag: &Tag) -> Option<TagNow> {
        self.tag_now(&Key::of(tag), self.rfid.tag(tag)?)
    }

    /// Every tag that is or was here of late, in a fixed order.
    pub fn tags(&self) -> impl Iterator<Item = TagNow> {
        self.rfid.tags.iter().filter_map(|(key, state)| self.tag_now(key, state))
    }

    /// Pairs of antennas that hear each other's tags: what a manager may set apart.
    pub fn confusions(&self) -> impl Iterator<Item = Confusion> {
        self.rfid.readers.pairs().map(|(home, other, ratio, weaker)| Confusion {
            home: (home.device.clone(), home.spec.port),
            other: (other.device.clone(), other.spec.port),
            ratio,
            weaker_cdb: f64::from(weaker),
            usual_cdbm: (f64::from(home.usual_cdbm()), f64::from(other.usual_cdbm())),
        })
    }

    /// How many tags are known, strays included.
    pub fn tags_known(&self) -> usize {
        self.rfid.tags.len()
    }
}
