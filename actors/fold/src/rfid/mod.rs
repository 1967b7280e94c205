//! Tags: who is here, where, and since when. What readers hear becomes arrivals, moves and departures.
//!
//! ```text
//!  read ─► antenna (reader.rs: does it listen, what is usual) ─┬─► presence (presence.rs: a filter for each zone)
//!                                                              └─► place (tag.rs: antennas compete)
//!  time ─► tags that are due (table.rs) ────────────────────────► silence is weighed, doors are asked (door.rs)
//!                        both ─► Change ─► told as an event, and booked where tags count (judge.rs)
//! ```
//!
//! Invariants:
//! - A tag is present in one zone of its facility at most.
//! - Nothing departs while its reader does not listen.
//! - An idle tag costs nothing: no timer runs for it but the one that foretells its departure.
//! - What is told depends on the entries and on nothing else; a snapshot and what follows it give the same.
//!
//! `docs/specs/rfid.md` has the model, the knobs and the figures.

mod door;
mod judge;
mod presence;
mod reader;
mod source;
mod table;
mod tag;
mod zone;

use std::sync::Arc;

use device_profiles::{DeviceId, Sku, SlotId, Tag, TagRead, ZoneId};
use serde::{Deserialize, Serialize};

pub(crate) use judge::Batch;
pub use judge::{Confusion, TagNow};
pub use presence::EPOCH_US;
pub use reader::AntennaSpec;
pub(crate) use reader::{AntennaNo, NOWHERE, Readers};
pub(crate) use table::{TAG_BUCKETS, Tags};
pub(crate) use tag::{Key, Status, TagState};
pub use zone::{Mobility, OutOfRange, Personality, ZoneSpec};

use crate::{
    entry::HubTime,
    limits::{TAGS_MAX, ZONES_MAX},
};
use door::PASSED_ODDS;
use presence::{RuleBook, Rules};
use tag::Track;

/// A tag is settled, and teaches its antennas, after so long at a place, in microseconds.
const SETTLED_US: i64 = 30_000_000;
/// An unknown tag that stays unlikely is forgotten after so long, in microseconds.
const STRAY_US: i64 = 60_000_000;
/// A departed tag is known again for so long, in microseconds: 14 days.
const REMEMBER_US: i64 = 14 * 86_400 * 1_000_000;
/// A tag whose reader does not listen is looked at again after so long, in microseconds.
const DEAF_US: i64 = 60_000_000;
/// A home antenna that heard the tag within so many epochs vouches for it.
const VOUCHES_EPOCHS: u32 = 4;
/// What is heard within so many epochs is compared when a tag arrives.
const RECENT_EPOCHS: u32 = 10;
/// A read rate that is assumed where only a ratio of rates is known.
const USUAL_RATE: f64 = 0.5;

/// How a tag departed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It fell silent.
    Silence,
    /// It went through a door.
    Exit,
    /// It passed a point of sale.
    Sale,
    /// Another facility has it.
    Elsewhere,
    /// Somebody says so.
    Declared,
}

impl How {
    /// Its name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Exit => "exit",
            Self::Sale => "sale",
            Self::Elsewhere => "elsewhere",
            Self::Declared => "declared",
        }
    }
}

/// Where a tag is: the antenna that has it, and what that one looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// The zone.
    pub zone: ZoneId,
    /// The reader.
    pub device: DeviceId,
    /// The port of its antenna.
    pub antenna: u16,
    /// The slot, when the antenna looks at one.
    pub slot: Option<SlotId>,
}

/// What changed for a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Arrived,
    Returned,
    Moved,
    Departed(How),
}

/// A tag changed: what, from where, to where, how sure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub turn: Turn,
    pub from: Option<Whereabouts>,
    pub to: Option<Whereabouts>,
    pub probability: f64,
}

/// A read, and what is known of its entry.
pub(crate) struct Heard<'a> {
    pub key: &'a Key,
    pub antenna: AntennaNo,
    pub read: &'a TagRead,
    /// The facility's time, and how long before it the tag was read.
    pub now: HubTime,
    pub ago_us: i64,
    pub offset: u64,
}

/// More tags than a facility can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

/// A zone with the knobs in force.
#[derive(Debug, Clone, PartialEq)]
struct Zone {
    spec: ZoneSpec,
    mobility: Mobility,
    rules: Arc<RuleBook>,
}

impl Zone {
    fn quiet_us(&self) -> i64 {
        i64::from(self.mobility.quiet_ms) * 1_000
    }

    /// Probability from which a tag is present here.
    fn arrive(&self) -> f64 {
        f64::from(self.mobility.arrive_permille) / 1_000.0
    }
}

/// The rules for a tag that an antenna hears in a zone.
fn rules_at<'z>(
    zones: &'z [Zone],
    readers: &Readers,
    zone: u16,
    antenna: AntennaNo,
) -> Option<&'z Rules> {
    let rate = readers.antenna(antenna).and_then(reader::Antenna::rate);
    Some(zones.get(usize::from(zone))?.rules.at(rate))
}

/// Zones, readers and tags of a facility.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Rfid {
    zones: Vec<Zone>,
    pub readers: Readers,
    pub tags: Tags,
}

impl Rfid {
    /// From what a snapshot has.
    pub fn restore(zones: Vec<ZoneSpec>, readers: Readers, tags: Tags) -> Self {
        let mut rfid = Self { zones: Vec::new(), readers, tags };
        zones.into_iter().for_each(|zone| rfid.zone(zone));
        rfid
    }

    /// Every zone, in the order of their numbers.
    pub fn zones(&self) -> impl Iterator<Item = &ZoneSpec> {
        self.zones.iter().map(|zone| &zone.spec)
    }

    /// A zone is such from now on.
    pub fn zone(&mut self, spec: ZoneSpec) {
        let mobility = spec.mobility();
        let rules = match self.zones.iter().find(|zone| zone.mobility == mobility) {
            Some(twin) => Arc::clone(&twin.rules),
            None => Arc::new(RuleBook::of(&mobility)),
        };
        let new = Zone { spec, mobility, rules };
        let room = self.zones.len() < ZONES_MAX;
        match self.zones.iter_mut().find(|zone| zone.spec.id == new.spec.id) {
            Some(zone) => *zone = new,
            None if room => self.zones.push(new),
            None => {}
        }
    }

    /// Knobs of a zone are others until it is published again. False when there is no such zone.
    pub fn retune(&mut self, zone: &ZoneId, knobs: impl Fn(Mobility) -> Mobility) -> bool {
        let Some(spec) = self.zones().find(|spec| spec.id == *zone).cloned() else { return false };
        let mobility = Some(knobs(spec.mobility()));
        self.zone(ZoneSpec { mobility, ..spec });
        true
    }

    /// A reader's antennas are these from now on.
    pub fn antennas(&mut self, device: &DeviceId, specs: &[AntennaSpec], now: HubTime) {
        for spec in specs {
            if !self.zones.iter().any(|zone| zone.spec.id == spec.zone) {
                let (id, personality) = (spec.zone.clone(), Personality::Shelf);
                self.zone(ZoneSpec { id, personality, mobility: None });
            }
        }
        // Without room for its zone an antenna looks nowhere, and its reads are told so.
        let number = |spec: &AntennaSpec| self.zones.iter().position(|z| z.spec.id == spec.zone);
        let specs: Vec<_> = specs.iter().filter(|spec| number(spec).is_some()).cloned().collect();
        self.readers.specify(device, &specs, now);
        for antenna in self.readers.antennas_mut() {
            if let Some(zone) = number(&antenna.spec) {
                antenna.zone = zone as u16;
            }
        }
    }

    fn zone_of(&self, antenna: AntennaNo) -> u16 {
        self.readers.antenna(antenna).map_or(0, |antenna| antenna.zone)
    }

    fn at(&self, zone: u16) -> Option<&Zone> {
        self.zones.get(usize::from(zone))
    }

    /// Where an antenna's tags are.
    pub fn whereabouts(&self, antenna: AntennaNo) -> Option<Whereabouts> {
        let antenna = self.readers.antenna(antenna)?;
        Some(Whereabouts {
            zone: antenna.spec.zone.clone(),
            device: antenna.device.clone(),
            antenna: antenna.spec.port,
            slot: antenna.spec.slot.clone(),
        })
    }

    /// Takes a read. `sku` is asked once, of a tag that was never heard before.
    pub fn read(
        &mut self,
        heard: &Heard<'_>,
        sku: impl FnOnce() -> Option<Sku>,
    ) -> Result<Option<Change>, TooMany> {
        let Heard { key, antenna, now, ago_us, .. } = *heard;
        let zone = self.zone_of(antenna);
        self.readers.hears(antenna, HubTime(now.0.saturating_sub(ago_us.max(0))));
        let epoch = self.readers.epoch(antenna, now, ago_us);
        if self.tags.get(key).is_none() {
            if self.tags.len() >= TAGS_MAX {
                return Err(TooMany);
            }
            let mut tag = TagState::new(Track::new(zone, antenna, epoch), now, sku());
            tag.due = Tags::grain(now.plus_us(STRAY_US));
            self.tags.insert(key.clone(), tag);
        }
        let is_outside = self.is_outside(antenna);
        let Some(rules) = rules_at(&self.zones, &self.readers, zone, antenna) else {
            return Ok(None);
        };
        let ghost = rules.ghost;
        let is_through =
            !is_outside && self.tags.get(key).is_some_and(|tag| self.is_through(tag, heard));
        let Some(tag) = self.tags.get_mut(key) else { return Ok(None) };
        let readers = &mut self.readers;
        let above =
            heard.read.rssi_cdbm.and_then(|rssi| Some(readers.antenna(antenna)?.above_cdb(rssi)));
        let is_home = tag.status == Status::Present && tag.track.zone == zone;
        let rarity = if tag.status == Status::Present && !is_home {
            let (ratio, _) = readers.pair(tag.place, antenna);
            (ghost * ratio / USUAL_RATE).clamp(0.005, 1.0)
        } else {
            1.0
        };
        let home = tag.hear(antenna).and_then(tag::Hear::home_cdb);
        let track = tag.track_of(zone, antenna, epoch);
        let before = readers.epoch(track.antenna, now, ago_us);
        let silent = before.saturating_sub(track.heard);
        let reads = u32::from(heard.read.reads);
        // A tag that was at home here before is known by its own signal.
        let own = above.zip(home).map_or(above, |(above, home)| Some(above - home));
        track.read(rules, (antenna, epoch), before, (own, reads), rarity);
        let likely = track.presence.probability();
        let home_epoch = readers.epoch(tag.place, now, ago_us);
        let weaker = tag
            .hear_at(antenna, (epoch, home_epoch), above, |home, other| readers.pair(home, other));
        let taken = HubTime(now.0.saturating_sub(ago_us.max(0)));
        tag.last_read = tag.last_read.max(taken);
        if is_outside {
            tag.hold_odds(antenna, PASSED_ODDS);
        } else if !is_through {
            tag.last_inside = tag.last_inside.max(taken);
        }
        tag.evident(heard.offset);
        if tag.status == Status::Present && now.since_us(tag.placed) >= SETTLED_US {
            if antenna == tag.place && likely > 0.99 {
                if let Some(antenna) = readers.antenna_mut(antenna) {
                    antenna.learn(heard.read.rssi_cdbm);
                    if silent > 0 {
                        antenna.learn_rate(silent);
                    }
                }
            } else if antenna != tag.place {
                let place = tag.place;
                let newest = readers.epoch(place, now, ago_us);
                let vouches =
                    |hear: &tag::Hear| newest.saturating_sub(hear.epoch) <= VOUCHES_EPOCHS;
                if tag.hear(place).is_some_and(vouches) {
                    readers.learn_pair(place, antenna, weaker);
                }
            }
        }
        Ok(self.decide(heard, zone, is_outside, likely))
    }

    /// What a read decides.
    fn decide(
        &mut self,
        heard: &Heard<'_>,
        zone: u16,
        is_outside: bool,
        likely: f64,
    ) -> Option<Change> {
        let Heard { key, antenna, now, ago_us, .. } = *heard;
        let here = self.at(zone)?;
        let mobility = here.mobility;
        let quiet = now.plus_us(here.quiet_us());
        let arrives = likely >= here.arrive();
        let tag = self.tags.get(key)?;
        if tag.status != Status::Present {
            let comes = arrives && !is_outside && self.is_inside(tag, zone, (now, ago_us));
            return if comes { self.arrive(key, now, ago_us) } else { None };
        }
        if is_outside {
            self.foresee(key, now);
            return None;
        }
        let home = tag.track.zone;
        if zone != home && arrives && self.is_gone_from_home(key, now) {
            return self.put(key, antenna, now, likely);
        }
        let tag = self.tags.get(key)?;
        let dwelt = now.since_us(tag.placed) >= i64::from(mobility.dwell_ms) * 1_000;
        if antenna != tag.place
            && dwelt
            && (zone == home || arrives)
            && (tag.is_drawn_to(antenna, mobility.move_odds) || tag.is_better(antenna))
        {
            return self.put(key, antenna, now, likely);
        }
        if zone == home && self.passes(zone) {
            self.tags.hasten(key, quiet);
        }
        None
    }

    /// Whether a tag is more likely gone from its home than there.
    fn is_gone_from_home(&mut self, key: &Key, now: HubTime) -> bool {
        self.advance(key, now);
        self.tags.get(key).is_some_and(|tag| tag.track.presence.probability() < 0.5)
    }

    /// A tag arrives, at the antenna that hears it best.
    fn arrive(&mut self, key: &Key, now: HubTime, ago_us: i64) -> Option<Change> {
        let tag = self.tags.get(key)?;
        let likely = |zone: u16| {
            let track = tag.tracks().find(|track| track.zone == zone);
            track.map_or(0.0, |track| track.presence.probability())
        };
        let best = tag
            .hears
            .iter()
            .filter(|hear| hear.antenna != NOWHERE && !self.is_outside(hear.antenna))
            .filter(|hear| {
                let newest = self.readers.epoch(hear.antenna, now, ago_us);
                newest.saturating_sub(hear.epoch) <= RECENT_EPOCHS
                    && likely(self.zone_of(hear.antenna)) >= 0.5
            })
            .max_by(|a, b| a.mean_cdb.total_cmp(&b.mean_cdb))?
            .antenna;
        let zone = self.zone_of(best);
        let probability = likely(zone);
        let to = self.whereabouts(best);
        let tag = self.tags.get_mut(key)?;
        let turn = if tag.status == Status::Departed { Turn::Returned } else { Turn::Arrived };
        (tag.status, tag.since) = (Status::Present, now);
        tag.settle(zone);
        tag.put(best, now);
        self.foresee(key, now);
        Some(Change { turn, from: None, to, probability })
    }

    /// A present tag is at another antenna.
    fn put(&mut self, key: &Key, antenna: AntennaNo, now: HubTime, likely: f64) -> Option<Change> {
        let zone = self.zone_of(antenna);
        let to = self.whereabouts(antenna);
        let from = self.whereabouts(self.tags.get(key)?.place);
        let tag = self.tags.get_mut(key)?;
        tag.settle(zone);
        if tag.track.zone != zone {
            // An old read, of which nothing is left: no place to be at.
            return None;
        }
        tag.put(antenna, now);
        self.foresee(key, now);
        // Antennas that look at one slot are one place.
        let same = |(a, b): (&Whereabouts, &Whereabouts)| {
            a.zone == b.zone && a.slot.is_some() && a.slot == b.slot
        };
        if from.as_ref().zip(to.as_ref()).is_some_and(same) {
            return None;
        }
        Some(Change { turn: Turn::Moved, from, to, probability: likely })
    }

    /// A present tag is gone.
    pub fn depart(&mut self, key: &Key, how: How, now: HubTime) -> Option<Change> {
        let tag = self.tags.get(key)?;
        let (from, outside) = (self.whereabouts(tag.place), self.outside_probability(tag));
        let tag = self.tags.get_mut(key)?;
        if tag.status != Status::Present {
            return None;
        }
        let gone = 1.0 - tag.track.presence.probability();
        let probability = match how {
            How::Silence => gone,
            How::Exit => gone.max(outside),
            // That it was there to be sold, or to be elsewhere.
            How::Sale | How::Elsewhere | How::Declared => {
                tag.tracks().map(|track| track.presence.probability()).fold(0.5, f64::max)
            }
        };
        (tag.status, tag.since) = (Status::Departed, now);
        tag.leave();
        tag.track.presence = presence::Presence::absent();
        tag.more = Vec::new();
        self.tags.schedule(key, now.plus_us(REMEMBER_US));
        Some(Change { turn: Turn::Departed(how), from, to: None, probability })
    }

    /// Foretells when a present tag is to be looked at: when silence would make it gone.
    fn foresee(&mut self, key: &Key, now: HubTime) {
        let Some(tag) = self.tags.get(key) else { return };
        let zone = tag.track.zone;
        let Some(here) = self.at(zone) else { return };
        let Some(rules) = rules_at(&self.zones, &self.readers, zone, tag.track.antenna) else {
            return;
        };
        let gone = self.gone_below(tag, rules.depart);
        let epochs = tag.track.presence.epochs_until(rules, gone).unwrap_or(u32::MAX);
        let silent = now.plus_us(i64::from(epochs.min(7_200)) * EPOCH_US);
        let at = if !self.readers.listens(tag.track.antenna, now) {
            silent.max(now.plus_us(DEAF_US))
        } else if self.passes(zone) {
            silent.min(now.plus_us(here.quiet_us()))
        } else {
            silent
        };
        let at = self.crossed_at(tag, now).map_or(at, |crossed| at.min(crossed.max(now)));
        self.tags.schedule(key, at);
    }

    /// Looks at a tag that is due.
    pub fn look(&mut self, key: &Key, now: HubTime) -> Option<Change> {
        let tag = self.tags.get(key)?;
        match tag.status {
            Status::Departed => {
                let until = tag.since.plus_us(REMEMBER_US);
                if until <= now {
                    self.tags.remove(key);
                } else {
                    self.tags.schedule(key, until);
                }
                return None;
            }
            Status::Unknown => {
                self.advance(key, now)?;
                let tag = self.tags.get(key)?;
                let likely = tag.tracks().any(|track| track.presence.probability() >= 0.02);
                if likely || now.since_us(tag.last_read) < STRAY_US {
                    self.tags.schedule(key, now.plus_us(STRAY_US));
                } else {
                    self.tags.remove(key);
                }
                return None;
            }
            Status::Present => {}
        }
        self.advance(key, now)?;
        let tag = self.tags.get(key)?;
        let home = tag.track.zone;
        if let Some(how) = self.passed(tag, now) {
            return self.depart(key, how, now);
        }
        let depart = f64::from(self.at(home)?.mobility.depart_permille) / 1_000.0;
        let depart = self.gone_below(tag, depart);
        if tag.track.presence.probability() > depart {
            self.foresee(key, now);
            return None;
        }
        // Silent at home, and heard elsewhere: it is there, whatever the antennas' odds were.
        let other = tag.more.iter().find(|track| {
            let arrive = self.at(track.zone).map_or(1.0, Zone::arrive);
            track.presence.probability() >= arrive && !self.is_outside(track.antenna)
        });
        if let Some((antenna, likely)) = other.map(|t| (t.antenna, t.presence.probability())) {
            return self.put(key, antenna, now, likely);
        }
        if tag.more.iter().any(|track| track.presence.probability() > depart) {
            // Not sure yet, but not gone either.
            self.tags.schedule(key, now.plus_us(2 * EPOCH_US));
            return None;
        }
        self.depart(key, self.gone_how(tag), now)
    }

    /// Brings a tag's filters to now, and forgets those that say nothing any more.
    fn advance(&mut self, key: &Key, now: HubTime) -> Option<()> {
        let tag = self.tags.get_mut(key)?;
        let (readers, zones) = (&self.readers, &self.zones);
        for track in std::iter::once(&mut tag.track).chain(&mut tag.more) {
            let epoch = readers.epoch(track.antenna, now, 0);
            track.advance(rules_at(zones, readers, track.zone, track.antenna)?, epoch);
        }
        tag.more.retain(|track| track.presence.probability() > 0.002);
        Some(())
    }

    /// A tag by what its memory holds.
    pub fn tag(&self, tag: &Tag) -> Option<&TagState> {
        self.tags.get(&Key::of(tag))
    }
}
