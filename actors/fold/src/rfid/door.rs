//! Doors, and other places that goods pass: who has left, and who is only heard through it.
//!
//! An antenna that looks outside competes for a tag as any other antenna does (tag.rs), and its odds say how likely the tag is
//! outside. Two things make it an exit: odds that are high by themselves once inside is silent, and lower ones together with
//! the odds that the tag is gone altogether, because what is carried past quickly is heard outside once or twice only. What
//! waits inside is heard through the door as well; the antennas learn how often, and each read inside divides the odds.
//!
//! Where a zone has no antenna that looks outside, and at a point of sale, goods have passed when they fall silent.

use super::{
    Heard, How, NOWHERE, Personality, Rfid, VOUCHES_EPOCHS,
    reader::AntennaNo,
    tag::{Hear, TagState},
};
use crate::entry::HubTime;

/// A tag has passed a door when the odds that it is outside reach this.
pub(super) const PASSED_ODDS: f64 = 1_000.0;
/// Or when they reach this together with the odds that it is gone.
const GONE_ODDS: f64 = 5.0;
/// What is gone went through the door when the odds that it was outside are this at least.
const DOOR_ODDS: f32 = 3.0;
/// A read inside that is so much weaker than one outside came through the door, in 1/100 dB.
const THROUGH_CDB: f32 = 350.0;

impl Rfid {
    pub(super) fn is_outside(&self, antenna: AntennaNo) -> bool {
        self.readers.antenna(antenna).is_some_and(|antenna| antenna.spec.outside)
    }

    /// Whether goods pass a zone, and are gone when they fall silent.
    pub(super) fn passes(&self, zone: u16) -> bool {
        self.at(zone).is_some_and(|zone| match zone.spec.personality {
            Personality::Sale => true,
            Personality::Exit => !self.readers.looks_outside(&zone.spec.id),
            Personality::Shelf | Personality::Fitting => false,
        })
    }

    /// Whether an antenna that looks inside heard a tag through its door: those of the other side hear it better.
    pub(super) fn is_through(&self, tag: &TagState, heard: &Heard<'_>) -> bool {
        let Heard { antenna, now, ago_us, read, .. } = *heard;
        let Some((own, rssi)) = self.readers.antenna(antenna).zip(read.rssi_cdbm) else {
            return false;
        };
        let outside =
            self.best_of_side(tag, own.zone, true, (now, ago_us), |hear| hear.last_cdb.into());
        outside.is_some_and(|outside| outside > own.above_cdb(rssi) + THROUGH_CDB)
    }

    /// The strongest signal among a door's antennas of one side that heard a tag lately, in 1/100 dB above the usual.
    fn best_of_side(
        &self,
        tag: &TagState,
        zone: u16,
        is_outside: bool,
        (now, ago_us): (HubTime, i64),
        signal: impl Fn(&Hear) -> f32,
    ) -> Option<f32> {
        tag.hears
            .iter()
            .filter(|hear| hear.antenna != NOWHERE && self.zone_of(hear.antenna) == zone)
            .filter(|hear| self.is_outside(hear.antenna) == is_outside)
            .filter(|hear| {
                let newest = self.readers.epoch(hear.antenna, now, ago_us);
                newest.saturating_sub(hear.epoch) <= VOUCHES_EPOCHS
            })
            .map(signal)
            .reduce(f32::max)
    }

    /// At a door: it was heard inside after it was heard outside, and not weaker.
    pub(super) fn is_inside(&self, tag: &TagState, zone: u16, at: (HubTime, i64)) -> bool {
        if self.at(zone).is_none_or(|zone| zone.spec.personality != Personality::Exit) {
            return true;
        }
        let best = |is_outside| self.best_of_side(tag, zone, is_outside, at, |hear| hear.mean_cdb);
        match (best(false), best(true)) {
            (Some(inside), Some(outside)) => inside >= outside,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// How a tag has left, if it passed a door or a point of sale.
    pub(super) fn passed(&self, tag: &TagState, now: HubTime) -> Option<How> {
        let home = self.at(tag.track.zone)?;
        if self.passes(tag.track.zone)
            && self.readers.listens(tag.track.antenna, now)
            && now.since_us(tag.last_read) >= home.quiet_us()
        {
            let is_sale = home.spec.personality == Personality::Sale;
            return Some(if is_sale { How::Sale } else { How::Exit });
        }
        self.crossed_at(tag, now).filter(|at| *at <= now).map(|_| How::Exit)
    }

    /// How the antenna hears a tag that looks outside and is the likeliest to have it.
    fn outside<'t>(&self, tag: &'t TagState) -> Option<&'t Hear> {
        let outside = tag.hears.iter().filter(|hear| self.is_outside(hear.antenna));
        outside.max_by(|a, b| a.odds.total_cmp(&b.odds)).filter(|hear| hear.odds > 1.0)
    }

    /// How likely a tag is outside, by its reads.
    pub(super) fn outside_probability(&self, tag: &TagState) -> f64 {
        let odds = self.outside(tag).map_or(0.0, |outside| f64::from(outside.odds));
        odds / (odds + 1.0)
    }

    /// When a tag that is heard no more inside has passed a door; `None` when its reads are not enough, or its place is deaf.
    pub(super) fn crossed_at(&self, tag: &TagState, now: HubTime) -> Option<HubTime> {
        let outside = self.outside(tag)?;
        let door = self.at(self.zone_of(outside.antenna))?;
        let has_passed = f64::from(outside.odds) >= PASSED_ODDS;
        let is_told = has_passed && self.readers.listens(tag.place, now);
        is_told.then(|| tag.last_inside.plus_us(door.quiet_us()))
    }

    /// How a tag that is gone went.
    pub(super) fn gone_how(&self, tag: &TagState) -> How {
        let is_outside = self.outside(tag).is_some_and(|hear| hear.odds >= DOOR_ODDS);
        if is_outside { How::Exit } else { How::Silence }
    }

    /// Probability of presence below which a tag is gone: the likelier it is outside, the less silence it takes.
    pub(super) fn gone_below(&self, tag: &TagState, depart: f64) -> f64 {
        let odds = self.outside(tag).map_or(0.0, |outside| f64::from(outside.odds));
        depart.max(odds / (odds + GONE_ODDS))
    }
}
