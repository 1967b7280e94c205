//! Where in the room a tag is, metre by metre.
//!
//! At rest a tag lies at a point of its own among the goods of its place. Carried, it goes straight from where it was to where
//! it will be. Through a portal it goes on without stopping: the field of either side is as long as the two sides' goods are
//! apart, and the line is half-way. Whoever stays longer than [`PASS_S_MAX`] in a portal stands there.

use super::scenario::PositionSpec;
use super::truth::{Interval, Spot};
use super::world::World;
use super::{SECOND_US, micros};
use crate::random::Stream;

/// Longest time a passage takes on one side, seconds.
pub const PASS_S_MAX: f64 = 6.0;

/// A point, metres.
pub(super) type Point = [f64; 3];

/// Where a tag is in an interval: at rest when both ends are one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Segment {
    pub(super) from: Point,
    pub(super) to: Point,
}

impl Segment {
    /// Where it is at a moment of its interval.
    pub(super) fn at(&self, interval: &Interval, at_us: i64) -> Point {
        let length_us = (interval.to_us - interval.from_us).max(1) as f64;
        let share = ((at_us - interval.from_us) as f64 / length_us).clamp(0.0, 1.0);
        between(self.from, self.to, share)
    }
}

/// The way of a tag in the interval number `i` of its journey; `None` outside.
pub(super) fn segment(world: &World, item: usize, i: usize) -> Option<Segment> {
    let journey = &world.truth.journeys[item];
    match journey.get(i)?.spot {
        Spot::Outside => None,
        Spot::Place(place) => Some(passing(world, journey, i).unwrap_or_else(|| {
            let at = resting(world, item, place);
            Segment { from: at, to: at }
        })),
        Spot::Moving(_) => {
            let gate = world.scenario.geometry.gate;
            // No two walks follow each other, so this goes no deeper.
            let end = |at: Option<usize>, first: bool| {
                let at = at.filter(|at| {
                    journey.get(*at).is_some_and(|near| matches!(near.spot, Spot::Place(_)))
                });
                let near = at.and_then(|at| segment(world, item, at));
                near.map_or(gate, |near| if first { near.from } else { near.to })
            };
            Some(Segment { from: end(i.checked_sub(1), false), to: end(i.checked_add(1), true) })
        }
    }
}

/// Where in the room an antenna and its goods are.
pub(super) fn position(world: &World, place: usize) -> PositionSpec {
    let origin = PositionSpec { at: [0.0, 0.0, 2.5], goods: [0.0, 0.0, 1.0], spread: [0.0; 3] };
    // A scenario of this physics has one for every place.
    world.site.places[place].position.unwrap_or(origin)
}

/// Where a tag lies at a place: always the same.
fn resting(world: &World, item: usize, place: usize) -> Point {
    let index = (item * world.site.places.len() + place) as u64;
    let mut draw = Stream::new(world.scenario.seed, "resting", index);
    let PositionSpec { goods, spread, .. } = position(world, place);
    let mut at = goods;
    for (x, spread) in at.iter_mut().zip(spread) {
        *x += draw.uniform(-spread, spread);
    }
    at
}

/// The way through one side of a portal.
fn passing(world: &World, journey: &[Interval], i: usize) -> Option<Segment> {
    let here = journey.get(i)?;
    if here.to_us - here.from_us > micros(PASS_S_MAX).max(SECOND_US) {
        return None;
    }
    let side = |interval: Option<&Interval>| match interval?.spot {
        Spot::Place(place) => {
            world.site.places[place].side.map(|side| (place, world.site.places[place].zone, side))
        }
        Spot::Moving(_) | Spot::Outside => None,
    };
    let (place, zone, mine) = side(Some(here))?;
    let other = |at: Option<usize>| {
        let (place, of, side) = side(journey.get(at?))?;
        (of == zone && side != mine).then_some(place)
    };
    let line_to = |other: usize| {
        let (near, far) = (position(world, place).goods, position(world, other).goods);
        let line = between(near, far, 0.5);
        // The far end of this side's field.
        (between(line, near, 2.0), line)
    };
    match (other(i.checked_sub(1)), other(i.checked_add(1))) {
        // Turning round at the line.
        (Some(_), Some(next)) => {
            let (_, line) = line_to(next);
            Some(Segment { from: line, to: line })
        }
        (None, Some(next)) => {
            let (end, line) = line_to(next);
            Some(Segment { from: end, to: line })
        }
        (Some(before), None) => {
            let (end, line) = line_to(before);
            Some(Segment { from: line, to: end })
        }
        (None, None) => None,
    }
}

/// A share of the way from one point to another.
pub(super) fn between(from: Point, to: Point, share: f64) -> Point {
    let mut at = from;
    for (x, to) in at.iter_mut().zip(to) {
        *x += (to - *x) * share;
    }
    at
}

/// How far two points are apart, metres.
pub(super) fn distance(a: Point, b: Point) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfid::Scenario;

    #[test]
    fn paths_have_no_jumps_but_into_the_world() {
        for name in ["portal", "dock-door"] {
            let world = World::new(&Scenario::builtin(name).unwrap()).unwrap();
            let mut moving = 0;
            for (item, journey) in world.truth.journeys.iter().enumerate() {
                for i in 1..journey.len() {
                    let ways = [segment(&world, item, i - 1), segment(&world, item, i)];
                    let [Some(before), Some(after)] = ways else { continue };
                    let jump = distance(before.to, after.from);
                    assert!(jump < 1e-9, "{name} {item} {i} {journey:?} {before:?} {after:?}");
                    moving += usize::from(after.from != after.to);
                }
            }
            assert!(moving > 100, "{name}: {moving}");
        }
    }

    #[test]
    fn portals_are_passed_at_the_speed_of_the_carrier() {
        for (name, speeds) in [("portal", 0.9..2.1), ("dock-door", 1.8..4.2)] {
            let world = World::new(&Scenario::builtin(name).unwrap()).unwrap();
            let mut seen = 0;
            for item in 0..world.items.len() {
                for passage in world.truth.passages(item) {
                    let journey = &world.truth.journeys[item];
                    let i = journey.iter().position(|i| i.from_us == passage.from_us).unwrap();
                    let way = segment(&world, item, i).unwrap();
                    let seconds = (passage.line_us - passage.from_us) as f64 / 1e6;
                    let speed = distance(way.from, way.to) / seconds;
                    assert!(speeds.contains(&speed), "{name}: {speed}");
                    seen += 1;
                }
            }
            assert!(seen > 50, "{name}: {seen}");
        }
    }
}
