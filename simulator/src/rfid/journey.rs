//! The journey of a batch, drawn from its group's habits.
//!
//! At home for an exponential time, then a trip: legs of walking and staying, and home again or away for good. Walking between
//! two places of one zone is within the zone, any other between zones.

use super::micros;
use super::scenario::{GroupSpec, LegSpec, TripSpec};
use super::truth::{Interval, Spot};
use super::world::Site;
use crate::random::Stream;

/// The journey of a batch from 0 to `end_us`.
pub(super) fn of(group: &GroupSpec, site: &Site, draw: &mut Stream, end_us: i64) -> Vec<Interval> {
    let mut way = Way { site, end_us, at_us: 0, intervals: Vec::new() };
    let weights: Vec<f64> = group.trip.iter().map(|trip| trip.weight).collect();
    let mut home = one_of(&group.home, site, draw);
    if draw.chance(group.away) {
        way.rest(Spot::Outside, exponential(draw, group.dwell_s));
        way.walk_then(home, uniform(draw, group.walk_s), 0);
    }
    while way.at_us < end_us {
        way.rest(home, exponential(draw, group.dwell_s));
        let Some(trip) = draw.weighted(&weights).and_then(|i| group.trip.get(i)) else {
            way.rest(home, end_us);
            break;
        };
        way.trip(trip, draw);
        if trip.gone {
            way.rest(Spot::Outside, end_us);
            break;
        }
        home = one_of(&group.home, site, draw);
        way.walk_then(home, uniform(draw, group.walk_s), 0);
    }
    way.intervals
}

/// A batch's journey as one of its tags makes it: put down a little later than the first, within `within_s`, wherever it comes
/// to rest for at least twice as long.
pub(super) fn unloaded(
    journey: &[Interval],
    site: &Site,
    within_s: f64,
    draw: &mut Stream,
) -> Vec<Interval> {
    let mut mine = journey.to_vec();
    let latest = micros(within_s);
    if latest == 0 {
        return mine;
    }
    for i in 1..mine.len() {
        let (before, here) = (mine[i - 1], mine[i]);
        let portal = matches!(here.spot, Spot::Place(place) if site.places[place].side.is_some());
        let rests = here.to_us - here.from_us >= 2 * latest && !portal;
        if rests && matches!((before.spot, here.spot), (Spot::Moving(_), Spot::Place(_))) {
            let at = here.from_us + draw.between(0, latest);
            mine[i - 1].to_us = at;
            mine[i].from_us = at;
        }
    }
    mine
}

struct Way<'a> {
    site: &'a Site,
    end_us: i64,
    at_us: i64,
    intervals: Vec<Interval>,
}

impl Way<'_> {
    /// Is somewhere for a while; the same spot as before goes on.
    fn rest(&mut self, spot: Spot, for_us: i64) {
        let (from_us, to_us) = (self.at_us, self.at_us.saturating_add(for_us).min(self.end_us));
        if to_us <= from_us {
            return;
        }
        self.at_us = to_us;
        match self.intervals.last_mut() {
            Some(last) if last.spot == spot => last.to_us = to_us,
            Some(_) | None => self.intervals.push(Interval { spot, from_us, to_us }),
        }
    }

    /// Walks somewhere and stays there for a while.
    fn walk_then(&mut self, to: Spot, walk_us: i64, stay_us: i64) {
        let from = self.intervals.last().map_or(Spot::Outside, |last| last.spot);
        let zone = self.site.zone_of(from).filter(|zone| self.site.zone_of(to) == Some(*zone));
        self.rest(Spot::Moving(zone), walk_us);
        self.rest(to, stay_us);
    }

    fn trip(&mut self, trip: &TripSpec, draw: &mut Stream) {
        for LegSpec { to, walk_s, stay_s, mean_s } in &trip.legs {
            let to = if to.is_empty() { Spot::Outside } else { one_of(to, self.site, draw) };
            let walk = uniform(draw, *walk_s);
            let stay = uniform(draw, *stay_s).saturating_add(exponential(draw, *mean_s));
            self.walk_then(to, walk, stay);
        }
    }
}

fn one_of(names: &[String], site: &Site, draw: &mut Stream) -> Spot {
    let name = names.get(draw.below(names.len()));
    name.and_then(|name| site.place_named(name)).map_or(Spot::Outside, Spot::Place)
}

fn uniform(draw: &mut Stream, [from, to]: [f64; 2]) -> i64 {
    micros(draw.uniform(from, to))
}

fn exponential(draw: &mut Stream, mean_s: f64) -> i64 {
    if mean_s <= 0.0 {
        return 0;
    }
    draw.wait_us(3_600.0 / mean_s).map_or(0, |us| i64::try_from(us).unwrap_or(i64::MAX))
}
