//! How often tags at rest are really read, whatever physics: what scenarios are calibrated by.

use std::sync::Arc;

use serde::Serialize;

use super::epoch::EPOCH_US;
use super::physics::Model;
use super::scenario::Personality;
use super::truth::Spot;
use super::world::World;

/// Reads are drawn from the physics in steps of so many epochs.
const STEP: i64 = 100;

/// Share of half seconds in which a tag at rest on a shelf was read by the antenna of its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ReadRates {
    /// Over all tags.
    pub mean: f64,
    /// Of the tag that one in ten is below.
    pub p10: f64,
    /// Of the tag that one in ten is above.
    pub p90: f64,
    /// Reads in all, of whatever tag by whatever antenna.
    pub reads: u64,
}

/// The read rates of a world. Only whole half seconds at rest count, and tags with at least 20 of them.
#[must_use]
pub fn read_rates(world: &Arc<World>, model: Model) -> ReadRates {
    let mut physics = model.of(world);
    let (mut reads, mut all) = (Vec::new(), 0);
    let mut tags = vec![Tag::default(); world.items.len()];
    let epochs = world.truth.end_us / EPOCH_US;
    for first in (0..epochs).step_by(STEP as usize) {
        physics.reads((first + STEP).min(epochs) * EPOCH_US, &mut reads);
        for read in reads.drain(..) {
            all += 1;
            let tag = &mut tags[read.item];
            let epoch = read.at_us / EPOCH_US;
            let own = world.site.place_of(read.reader, read.antenna);
            if own.is_some() && own == resting(world, read.item, epoch) && tag.last != Some(epoch) {
                tag.last = Some(epoch);
                tag.heard += 1;
            }
        }
    }
    for (item, tag) in tags.iter_mut().enumerate() {
        let journey = world.truth.journeys[item].iter();
        tag.there =
            journey.filter_map(|i| shelf(world, i.spot).map(|_| whole(i.from_us, i.to_us))).sum();
    }
    let mut each: Vec<f64> =
        tags.iter().filter(|t| t.there >= 20).map(|t| t.heard as f64 / t.there as f64).collect();
    each.sort_by(f64::total_cmp);
    let of = |share: f64| {
        let at = (share * each.len().saturating_sub(1) as f64).round() as usize;
        each.get(at).copied().unwrap_or(0.0)
    };
    let (there, heard) = tags.iter().fold((0, 0), |(t, h), tag| (t + tag.there, h + tag.heard));
    let mean = heard as f64 / (there as f64).max(1.0);
    ReadRates { mean, p10: of(0.1), p90: of(0.9), reads: all }
}

#[derive(Debug, Clone, Default)]
struct Tag {
    last: Option<i64>,
    heard: i64,
    there: i64,
}

/// Whole epochs within an interval.
fn whole(from_us: i64, to_us: i64) -> i64 {
    (to_us / EPOCH_US - (from_us + EPOCH_US - 1) / EPOCH_US).max(0)
}

/// The place, if it is one of a shelf.
fn shelf(world: &World, spot: Spot) -> Option<usize> {
    match spot {
        Spot::Place(place) => {
            let zone = &world.site.zones[world.site.places[place].zone];
            (zone.personality == Personality::Shelf).then_some(place)
        }
        Spot::Moving(_) | Spot::Outside => None,
    }
}

/// The shelf on which a tag rests for a whole epoch.
fn resting(world: &World, item: usize, epoch: i64) -> Option<usize> {
    let at = |at_us| shelf(world, world.truth.at(item, at_us));
    let first = at(epoch * EPOCH_US)?;
    (at((epoch + 1) * EPOCH_US - 1) == Some(first)).then_some(first)
}
