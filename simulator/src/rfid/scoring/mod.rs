//! How well somebody told where tags are: what was told against what was so.
//!
//! ```text
//!  Told ─► for each tag: where it was told to be through time (Course), arrivals, departures and moves told
//!  Truth ─► for each tag: stays, passages, moves between places                    ── matched one to one ─► Score
//! ```
//! The rules, which `docs/specs/rfid-simulation.md` explains with reasons:
//!
//! 1. A tag is told to be in one zone at a time. A told arrival, return or move to another zone ends the zone before it: that is
//!    a told departure and a told arrival. Arriving where it is told to be already is a false arrival. A departure ends the
//!    zone it was told to be in, whichever it names; without one it is false.
//! 2. A told arrival matches the last stay of tag and zone that began before it (or up to `early_us` after it), unless that
//!    stay is matched already, has been over for more than `grace_us`, or needed no telling because the tag was told to be
//!    there when it began and `arrival_us` later. Nothing older is tried: flapping does not find the stays that were missed.
//! 3. A told departure matches the last end of a stay of tag and zone before it, if that end came while the tag was told to be
//!    there (or belongs to the stay that was told too late), is not matched yet, and the tag has not been back for more than
//!    `early_us`. In a portal and at a point of sale a stay may be told as over from [`super::Stay::gone_us`] on.
//! 4. A told move within a zone matches the last true move of the tag in that zone under the conditions of rule 2, if it names
//!    the right place. A move that only corrects a wrong place is false.
//! 5. What was told and matches nothing is false. What was so and was not matched is excused if nobody could or need tell it:
//!    a stay shorter than `arrival_us`, an absence shorter than `departure_us`, an arrival where the tag was told to be
//!    already, an end of what was not told. The rest is missed.
//! 6. A passage out of a portal is matched by the first departure told of the tag from crossing the line until `grace_us` after
//!    leaving the antennas; one into the facility by the first arrival or return.
//!    One out that was told at the till before is excused.
//! 7. Tag-time in the right zone leaves out walks between zones; tag-time in the right place counts stays at places.

mod course;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use device_profiles::Tag;
use serde::Serialize;

use super::scenario::{JudgeSpec, Scenario};
use super::truth::Truth;
use super::{SECOND_US, micros};
use tally::Judge;

/// What was told of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToldKind {
    /// It came, for the first time as far as the teller knows.
    Arrived,
    /// It is somewhere else than before.
    Moved,
    /// It went.
    Departed,
    /// It came back.
    Returned,
}

/// An event that somebody told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When it was told, virtual microseconds: the latency of a judgement is part of it.
    pub at_us: i64,
    /// Of which tag.
    pub tag: Tag,
    /// What.
    pub kind: ToldKind,
    /// The zone's name: where it is now, or where it left.
    pub zone: String,
    /// Reader and antenna of the place where it is now, if told.
    pub place: Option<(usize, u16)>,
}

/// What counts as told in time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Stays in a zone or at a place shorter than this need not be told, microseconds.
    pub arrival_us: i64,
    /// Absences shorter than this need not be told, microseconds.
    pub departure_us: i64,
    /// Something may be told so long after it was over, microseconds.
    pub grace_us: i64,
    /// An arrival may be told so long before the tag is put down, and a departure so long after it is back, microseconds.
    pub early_us: i64,
}

impl Limits {
    /// Those of a scenario.
    #[must_use]
    pub fn of(scenario: &Scenario) -> Self {
        Self::new(&scenario.judge)
    }

    fn new(judge: &JudgeSpec) -> Self {
        Self {
            arrival_us: micros(judge.arrival_s),
            departure_us: micros(judge.departure_s),
            grace_us: 30 * SECOND_US,
            early_us: 2 * SECOND_US,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(&JudgeSpec::default())
    }
}

/// Things of one kind that happened, and were told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How often it happened.
    pub happened: usize,
    /// How often it was told.
    pub told: usize,
    /// Pairs of the two.
    pub matched: usize,
    /// It happened and was not told, though it should have been.
    pub missed: usize,
    /// It happened and was not told, and need not have been.
    pub excused: usize,
}

impl Tally {
    /// It was told and did not happen.
    #[must_use]
    pub fn wrong(&self) -> usize {
        self.told - self.matched
    }
}

/// How long after it happened something was told, seconds; 0 when there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50_s: f64,
    /// 95th percentile.
    pub p95_s: f64,
    /// 99th percentile.
    pub p99_s: f64,
}

/// The judgement.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Score {
    /// Stays in zones that began.
    pub arrivals: Tally,
    /// From coming to being told.
    pub arrival: Latency,
    /// Stays in zones that ended.
    pub departures: Tally,
    /// From going to being told.
    pub departure: Latency,
    /// Moves between places of a zone.
    pub moves: Tally,
    /// From being put down to being told.
    pub moving: Latency,
    /// Passages out of a portal. Departures that match none are judged as departures, not here.
    pub exits: Tally,
    /// From leaving the outside antenna; 0 when told before that.
    pub exit: Latency,
    /// Passages into the facility.
    pub entries: Tally,
    /// From crossing the line; 0 when told before that.
    pub entry: Latency,
    /// Matched over told, arrivals, departures and moves, 0..=1.
    pub precision: f64,
    /// Matched over matched and missed, of the same.
    pub recall: f64,
    /// False over true: what was told wrongly for each arrival, departure and move that happened.
    pub false_per_true: f64,
    /// Share of the stays that were long enough to be told, and were not.
    pub missed_stays: f64,
    /// Share of the tag-time in which zone, or absence, was told rightly.
    pub right_zone: f64,
    /// Share of the tag-time at places in which the place was told rightly.
    pub right_place: f64,
    /// The same, of the time in which the zone was told rightly.
    pub right_place_in_zone: f64,
}

/// Judges what was told. The order of `told` is that of telling; what has the same time is taken in that order.
#[must_use]
pub fn score(truth: &Truth, told: &[Told], limits: &Limits) -> Score {
    let items: HashMap<Tag, usize> =
        truth.tags.iter().enumerate().map(|(i, tag)| (*tag, i)).collect();
    let mut of_item: Vec<Vec<&Told>> = vec![Vec::new(); truth.tags.len()];
    let mut judge = Judge::new(truth, limits);
    for event in told {
        match items.get(&event.tag) {
            Some(item) => of_item[*item].push(event),
            None => judge.stranger(event.kind),
        }
    }
    for (item, mut events) in of_item.into_iter().enumerate() {
        events.sort_by_key(|event| event.at_us);
        judge.item(item, &events);
    }
    judge.score()
}
