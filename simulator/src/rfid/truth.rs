//! Where every tag really was, at every moment.
//!
//! A tag's journey is a list of intervals without gaps, from 0 to the end: at a place, carried, or outside. What is asked of
//! it is derived: [`Stay`]s in a zone, [`Passage`]s through portals.

use std::sync::Arc;

use device_profiles::Tag;

use super::scenario::{Personality, Side};
use super::world::Site;

/// Where a tag is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// At a place: the antenna listens to it.
    Place(usize),
    /// Carried: within a zone when it begins and ends there, else between zones.
    Moving(Option<usize>),
    /// Not in the facility.
    Outside,
}

/// A part of a journey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Where.
    pub spot: Spot,
    /// From when, virtual microseconds.
    pub from_us: i64,
    /// Until when; not included.
    pub to_us: i64,
}

/// A tag's time in a zone, from coming to going, moves within the zone included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// The tag, by its number in the world.
    pub item: usize,
    /// The zone.
    pub zone: usize,
    /// When it came.
    pub from_us: i64,
    /// When it went; the end of the run if it was still there.
    pub to_us: i64,
    /// From when on it may be told as gone, although it is still there: in a portal from the moment it crosses the line on its
    /// way out, at a point of sale from the beginning if it leaves the facility from there. `to_us` elsewhere.
    pub gone_us: i64,
    /// It went before the run ended.
    pub ended: bool,
}

/// Which way something passed a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the facility.
    In,
    /// Out of it.
    Out,
}

/// A passage through a portal: both antennas could hear it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// The tag.
    pub item: usize,
    /// The portal.
    pub zone: usize,
    /// Which way.
    pub direction: Direction,
    /// When it came into the first antenna's place.
    pub from_us: i64,
    /// When it crossed the line.
    pub line_us: i64,
    /// When it left the second antenna's place.
    pub to_us: i64,
}

/// The whole truth of a run.
#[derive(Debug, Clone)]
pub struct Truth {
    /// The site.
    pub site: Arc<Site>,
    /// The tags, by their numbers.
    pub tags: Vec<Tag>,
    /// The journey of each.
    pub journeys: Vec<Vec<Interval>>,
    /// When the run ended.
    pub end_us: i64,
}

impl Truth {
    /// Where a tag was at a moment; outside when there is no such tag or moment.
    #[must_use]
    pub fn at(&self, item: usize, at_us: i64) -> Spot {
        let journey = self.journeys.get(item).map_or(&[][..], |journey| journey);
        let next = journey.partition_point(|interval| interval.to_us <= at_us);
        match journey.get(next) {
            Some(interval) if interval.from_us <= at_us => interval.spot,
            Some(_) | None => Spot::Outside,
        }
    }

    /// The stays of a tag, in order.
    #[must_use]
    pub fn stays(&self, item: usize) -> Vec<Stay> {
        let journey = self.journey(item);
        let mut stays: Vec<Stay> = Vec::new();
        for interval in journey {
            let Some(zone) = self.site.zone_of(interval.spot) else { continue };
            let (from_us, to_us) = (interval.from_us, interval.to_us);
            match stays.last_mut() {
                Some(stay) if stay.zone == zone && stay.to_us == from_us => stay.to_us = to_us,
                Some(_) | None => {
                    stays.push(Stay { item, zone, from_us, to_us, gone_us: to_us, ended: true });
                }
            }
        }
        let passages = self.passages(item);
        for stay in &mut stays {
            stay.ended = stay.to_us < self.end_us;
            stay.gone_us = match self.site.zones[stay.zone].personality {
                Personality::PointOfSale if stay.ended && self.goes_out(item, stay.to_us) => {
                    stay.from_us
                }
                Personality::Portal => {
                    let mut out = passages.iter().filter(|p| p.direction == Direction::Out);
                    out.find(|p| p.to_us == stay.to_us).map_or(stay.to_us, |p| p.line_us)
                }
                Personality::Shelf | Personality::FittingRoom | Personality::PointOfSale => {
                    stay.to_us
                }
            };
        }
        stays
    }

    /// The passages of a tag, in order: from one side of a portal straight to the other, coming from outside or going there.
    /// Who turns round in the portal has not passed it.
    #[must_use]
    pub fn passages(&self, item: usize) -> Vec<Passage> {
        let journey = self.journey(item);
        let side = |interval: &Interval| match interval.spot {
            Spot::Place(place) => {
                let place = &self.site.places[place];
                place.side.map(|side| (place.zone, side))
            }
            Spot::Moving(_) | Spot::Outside => None,
        };
        let still = |interval: &&Interval| !matches!(interval.spot, Spot::Moving(_));
        let is_outside = |i: Option<&Interval>| i.is_none_or(|i| i.spot == Spot::Outside);
        let mut passages = Vec::new();
        for (i, pair) in journey.windows(2).enumerate() {
            let [first, second] = pair else { continue };
            let (Some((zone, from)), Some((other, to))) = (side(first), side(second)) else {
                continue;
            };
            let direction = match (from, to) {
                (Side::Inside, Side::Outside)
                    if is_outside(journey[i + 2..].iter().find(still)) =>
                {
                    Direction::Out
                }
                (Side::Outside, Side::Inside)
                    if is_outside(journey[..i].iter().rev().find(still)) =>
                {
                    Direction::In
                }
                (Side::Inside | Side::Outside, Side::Inside | Side::Outside) => continue,
            };
            if zone == other {
                let (from_us, line_us, to_us) = (first.from_us, second.from_us, second.to_us);
                passages.push(Passage { item, zone, direction, from_us, line_us, to_us });
            }
        }
        passages
    }

    /// Whether goods are paid in a zone.
    pub(super) fn is_till(&self, zone: usize) -> bool {
        let zone = self.site.zones.get(zone);
        zone.is_some_and(|zone| zone.personality == Personality::PointOfSale)
    }

    fn journey(&self, item: usize) -> &[Interval] {
        self.journeys.get(item).map_or(&[], |journey| journey)
    }

    /// Whether a tag comes by nothing but portals on its way out after a moment.
    fn goes_out(&self, item: usize, after_us: i64) -> bool {
        let later = self.journey(item).iter().filter(|i| i.from_us >= after_us);
        let mut rests = later.filter(|i| match i.spot {
            Spot::Place(place) => {
                let zone = self.site.places[place].zone;
                self.site.zones[zone].personality != Personality::Portal
            }
            Spot::Moving(_) => false,
            Spot::Outside => true,
        });
        rests.next().is_none_or(|i| i.spot == Spot::Outside)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rfid::scenario::Scenario;
    use crate::rfid::world::World;

    /// A shop of a floor (places 0 and 4), a till (1) and a door (2 inside, 3 outside), and one tag with this journey of
    /// whole seconds.
    pub(in crate::rfid) fn truth(journey: &[(Spot, i64)]) -> Truth {
        let text = r#"
            seed = 1
            duration_s = 1000
            models = ["epochs"]
            zone = [
              { name = "floor", personality = "shelf" }, { name = "till", personality = "point_of_sale" },
              { name = "door", personality = "portal" } ]
            place = [
              { name = "a", zone = "floor", reader = "r", antenna = 1 },
              { name = "t", zone = "till", reader = "r", antenna = 2 },
              { name = "i", zone = "door", side = "inside", reader = "r", antenna = 3 },
              { name = "o", zone = "door", side = "outside", reader = "r", antenna = 4 },
              { name = "b", zone = "floor", reader = "r", antenna = 5 } ]
            group = [{ tags = 1, home = ["a"], dwell_s = 10 }]
        "#;
        let mut truth = World::new(&Scenario::parse("shop", text).unwrap()).unwrap().truth;
        let mut from_us = 0;
        truth.journeys = vec![Vec::new()];
        for (spot, seconds) in journey {
            let to_us = from_us + seconds * 1_000_000;
            truth.journeys[0].push(Interval { spot: *spot, from_us, to_us });
            from_us = to_us;
        }
        truth.end_us = from_us;
        truth
    }

    const S: i64 = 1_000_000;

    #[test]
    fn a_walk_within_a_zone_is_part_of_the_stay() {
        use Spot::{Moving, Outside, Place};
        let t = truth(&[
            (Place(0), 5),
            (Moving(Some(0)), 2),
            (Place(0), 3),
            (Moving(None), 1),
            (Outside, 9),
        ]);
        let stays = t.stays(0);
        assert_eq!(stays.len(), 1);
        assert_eq!((stays[0].from_us, stays[0].to_us, stays[0].gone_us), (0, 10 * S, 10 * S));
        assert!(stays[0].ended);
        assert_eq!(t.at(0, 6 * S), Moving(Some(0)));
        assert_eq!(t.at(0, 5 * S - 1), Place(0));
        assert_eq!(t.at(0, 99 * S), Outside);
        assert_eq!(t.at(7, 0), Outside);
    }

    #[test]
    fn a_portal_is_passed_from_side_to_side_and_from_or_to_the_world() {
        use Spot::{Moving, Outside, Place};
        let t = truth(&[
            (Place(0), 5),
            (Moving(None), 1),
            (Place(2), 2),
            (Place(3), 3),
            (Outside, 10),
            (Place(3), 2),
            (Place(2), 2),
            (Moving(None), 1),
            (Place(0), 5),
            // To the line and back.
            (Moving(None), 1),
            (Place(2), 2),
            (Place(3), 1),
            (Place(2), 1),
            (Moving(None), 1),
            (Place(0), 5),
        ]);
        let passages = t.passages(0);
        let told: Vec<_> =
            passages.iter().map(|p| (p.direction, p.line_us / S, p.to_us / S)).collect();
        assert_eq!(told, [(Direction::Out, 8, 11), (Direction::In, 23, 25)]);
        let door: Vec<_> = t.stays(0).into_iter().filter(|s| s.zone == 2).collect();
        // Going out, it may be told as gone from the line on.
        assert_eq!((door[0].gone_us, door[0].to_us), (8 * S, 11 * S));
        assert!(door[1..].iter().all(|s| s.gone_us == s.to_us));
        assert_eq!(door.len(), 3);
    }

    #[test]
    fn what_is_paid_and_leaves_may_be_told_as_gone_at_the_till() {
        use Spot::{Moving, Outside, Place};
        let till = |t: &Truth| *t.stays(0).iter().find(|s| s.zone == 1).unwrap();
        let sold = truth(&[
            (Place(0), 5),
            (Place(1), 4),
            (Moving(None), 1),
            (Place(2), 2),
            (Place(3), 2),
            (Outside, 9),
        ]);
        assert_eq!(till(&sold).gone_us, 5 * S);
        let put_back =
            truth(&[(Place(0), 5), (Place(1), 4), (Moving(None), 1), (Place(0), 5), (Outside, 1)]);
        assert_eq!(till(&put_back).gone_us, 9 * S);
        // Still there when the run ends: nothing is gone.
        let waits = truth(&[(Place(0), 5), (Place(1), 4)]);
        assert!(!till(&waits).ended && till(&waits).gone_us == 9 * S);
    }
}
