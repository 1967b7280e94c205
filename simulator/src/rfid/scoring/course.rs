//! Where a tag was told to be through time, and which arrivals, departures and moves that makes (rule 1).

use crate::rfid::scoring::{Told, ToldKind};
use crate::rfid::world::Site;

/// A zone that no site has.
const NOWHERE: usize = usize::MAX;

/// Where a tag is told to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) zone: usize,
    pub(super) place: Option<usize>,
}

/// Something told that is to be matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It came into a zone.
    Arrival { zone: usize },
    /// It is told to be where it was told to be.
    Again,
    /// It left a zone in which it was told to be since a moment.
    Departure { zone: usize, since_us: i64 },
    /// It left, but was nowhere.
    Nothing,
    /// It moved to a place of its zone.
    Move { zone: usize, place: Option<usize> },
}

/// What was told of one tag.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// Where it is from a moment on; before the first it is nowhere.
    pub(super) steps: Vec<(i64, Option<At>)>,
    /// What is to be matched, in order.
    pub(super) claims: Vec<(i64, Claim)>,
}

impl Course {
    /// From the events of one tag, in order.
    pub(super) fn of(site: &Site, told: &[&Told]) -> Self {
        let mut course = Self::default();
        let (mut now, mut since_us) = (None::<At>, 0);
        for event in told {
            let at_us = event.at_us;
            let zone = site.zone_named(&event.zone).unwrap_or(NOWHERE);
            let place = event.place.and_then(|(reader, antenna)| site.place_of(reader, antenna));
            let mut claim = |claim| course.claims.push((at_us, claim));
            let next = match (event.kind, now) {
                (ToldKind::Departed, None) => {
                    claim(Claim::Nothing);
                    None
                }
                (ToldKind::Departed, Some(from)) => {
                    claim(Claim::Departure { zone: from.zone, since_us });
                    None
                }
                (ToldKind::Arrived | ToldKind::Returned, Some(from)) if from.zone == zone => {
                    claim(Claim::Again);
                    Some(At { zone, place: place.or(from.place) })
                }
                (ToldKind::Moved, Some(from)) if from.zone == zone => {
                    // To where it is told to be is no move.
                    let place = place.filter(|place| from.place != Some(*place));
                    claim(Claim::Move { zone, place });
                    Some(At { zone, place: place.or(from.place) })
                }
                (ToldKind::Arrived | ToldKind::Returned | ToldKind::Moved, from) => {
                    if let Some(from) = from {
                        claim(Claim::Departure { zone: from.zone, since_us });
                    }
                    claim(Claim::Arrival { zone });
                    since_us = at_us;
                    Some(At { zone, place })
                }
            };
            if next != now {
                course.steps.push((at_us, next));
                now = next;
            }
        }
        course
    }

    /// Where it was told to be at a moment, before anything told at that very moment.
    pub(super) fn at(&self, at_us: i64) -> Option<At> {
        let next = self.steps.partition_point(|(from, _)| *from < at_us);
        next.checked_sub(1).and_then(|i| self.steps[i].1)
    }
}
