//! Physics by epochs: independent chances in every half second.
//!
//! A tag at a place is read with its read rate, in rounds spread over the epoch; a fade, or a shadow over the whole zone, lets
//! hardly anything through for a while; neighbours hear it more weakly; zones where it is not hear it now and then, once and
//! weakly. This is the generator most filters are tuned on, and it resembles them: see `geometry.rs` for one that does not.
//!
//! A tag's chances come from streams of its own. What happens rarely (fades, ghosts) is drawn as the epoch when it happens
//! next, so that tags that are nowhere cost a comparison.

use std::sync::Arc;

use super::physics::{Physics, Read, Ready};
use super::scenario::EpochSpec;
use super::truth::{Interval, Spot};
use super::world::World;
use super::{SECOND_US, micros};
use crate::random::Stream;

/// Length of an epoch.
pub const EPOCH_US: i64 = SECOND_US / 2;
/// Most reads of a tag by an antenna in an epoch.
pub const EPOCH_READS_MAX: u32 = 8;
/// A ghost is heard again in the same epoch so often.
const GHOST_AGAIN: f64 = 0.1;
/// Spread of an antenna's signal between tags, between places of a tag, and between reads, dB.
const TAG_SIGMA_DB: f64 = 3.0;
const PLACE_SIGMA_DB: f64 = 1.5;
const READ_SIGMA_DB: f64 = 2.0;

/// The physics by epochs of a world.
#[derive(Debug)]
pub struct Epochs {
    world: Arc<World>,
    /// The next epoch.
    epoch: i64,
    tags: Vec<TagState>,
    shadows: Vec<Shadow>,
    /// For each place the neighbours that hear its tags.
    neighbours: Vec<Vec<Neighbour>>,
    /// Places of each zone.
    places: Vec<Vec<usize>>,
    /// Reads of the last epoch that were not asked for yet, in order of time.
    ready: Ready,
}

#[derive(Debug, Clone, Copy)]
struct Neighbour {
    place: usize,
    rate: f64,
    loss_db: [f64; 2],
}

#[derive(Debug)]
struct TagState {
    draw: Stream,
    /// The interval of its journey that it is in.
    at: usize,
    /// Epochs of its fade, and of its next ghost.
    fade: [i64; 2],
    ghost: i64,
    signal_db: f64,
    /// The place that `link` is about.
    place: Option<usize>,
    link: Link,
}

/// How a place's antenna, and its neighbours, hear a tag there.
#[derive(Debug, Default)]
struct Link {
    rate: f64,
    signal_dbm: f64,
    /// For each neighbour of the place: how much weaker.
    loss_db: Vec<f64>,
}

#[derive(Debug)]
struct Shadow {
    draw: Stream,
    from_us: i64,
    to_us: i64,
}

impl Epochs {
    /// The physics of a world, by the parameters of its scenario.
    #[must_use]
    pub fn new(world: &Arc<World>) -> Self {
        let (seed, spec) = (world.scenario.seed, &world.scenario.epoch);
        let site = &world.site;
        let mut places = vec![Vec::new(); site.zones.len()];
        for (place, of) in site.places.iter().enumerate() {
            places[of.zone].push(place);
        }
        let mut neighbours = vec![Vec::new(); site.places.len()];
        for n in &spec.neighbour {
            if let (Some(of), Some(place)) =
                (site.place_named(&n.of), site.place_named(&n.heard_by))
            {
                neighbours[of].push(Neighbour { place, rate: n.rate, loss_db: n.loss_db });
            }
        }
        let zones = site.zones.len();
        let tag = |item: usize| {
            let mut draw = Stream::new(seed, "epoch-tag", item as u64);
            let fade = next_fade(&mut draw, spec, 0);
            let ghost = next_ghost(&mut draw, spec, zones, 0);
            let signal_db = draw.normal(TAG_SIGMA_DB);
            TagState { draw, at: 0, fade, ghost, signal_db, place: None, link: Link::default() }
        };
        let shadow = |zone: usize| {
            let mut shadow = Shadow {
                draw: Stream::new(seed, "epoch-shadow", zone as u64),
                from_us: 0,
                to_us: 0,
            };
            shadow.next(spec);
            shadow
        };
        Self {
            epoch: 0,
            tags: (0..world.items.len()).map(tag).collect(),
            shadows: (0..zones).map(shadow).collect(),
            neighbours,
            places,
            ready: Ready::default(),
            world: Arc::clone(world),
        }
    }

    /// All reads of the next epoch, into `ready`.
    fn step(&mut self) {
        let Self { world, epoch, tags, shadows, neighbours, places, ready } = self;
        let spec = &world.scenario.epoch;
        let (from_us, to_us) = (*epoch * EPOCH_US, (*epoch + 1) * EPOCH_US);
        for shadow in shadows.iter_mut() {
            while shadow.to_us <= from_us {
                shadow.next(spec);
            }
        }
        for (item, state) in tags.iter_mut().enumerate() {
            let journey = &world.truth.journeys[item];
            while journey.get(state.at).is_some_and(|i| i.to_us <= from_us) {
                state.at += 1;
            }
            if state.fade[1] <= *epoch {
                state.fade = next_fade(&mut state.draw, spec, *epoch);
            }
            let mut ear = Ear { world, item, from_us, to_us, out: &mut ready.0 };
            for at in state.at..journey.len() {
                let interval = journey[at];
                if interval.from_us >= to_us {
                    break;
                }
                let Some((place, moving)) = heard_at(world, journey, at, from_us) else { continue };
                if state.place != Some(place) {
                    state.link = link(world, item, place, &neighbours[place], state.signal_db);
                    state.place = Some(place);
                }
                let shadow = &shadows[world.site.places[place].zone];
                let dark = (state.fade[0]..state.fade[1]).contains(epoch)
                    || (shadow.from_us < to_us && shadow.to_us > from_us);
                let factor = if moving { spec.moving_factor } else { 1.0 };
                let share = if dark { spec.faded_rate } else { factor };
                // In the dark the read rate is what little is left, whatever it was.
                let rate = if dark { spec.faded_rate } else { state.link.rate * factor };
                let bounds = [interval.from_us, interval.to_us];
                let draw = &mut state.draw;
                ear.hear(draw, place, rate, state.link.rate, state.link.signal_dbm, bounds);
                for (n, loss) in neighbours[place].iter().zip(&state.link.loss_db) {
                    let signal = state.link.signal_dbm - loss;
                    ear.hear(draw, n.place, n.rate * share, n.rate, signal, bounds);
                }
            }
            if state.ghost <= *epoch {
                state.ghost = next_ghost(&mut state.draw, spec, places.len(), *epoch);
                let zone = state.draw.below(places.len());
                let here = journey.get(state.at).and_then(|i| world.site.zone_of(i.spot));
                if let (false, Some(&place)) =
                    (here == Some(zone), places[zone].get(state.draw.below(places[zone].len())))
                {
                    let [least, most] = spec.ghost_loss_db;
                    let signal =
                        spec.signal_dbm + state.signal_db - state.draw.uniform(least, most);
                    ear.hear(&mut state.draw, place, 1.0, GHOST_AGAIN, signal, [from_us, to_us]);
                }
            }
        }
        ready.0.sort_by_key(|read| read.at_us);
        *epoch += 1;
    }
}

impl Physics for Epochs {
    fn reads(&mut self, to_us: i64, out: &mut Vec<Read>) {
        loop {
            self.ready.hand_over(to_us, out);
            if self.epoch * EPOCH_US >= to_us {
                return;
            }
            self.step();
        }
    }
}

/// Where reads of one tag in one epoch are put.
struct Ear<'a> {
    world: &'a World,
    item: usize,
    from_us: i64,
    to_us: i64,
    out: &'a mut Vec<Read>,
}

impl Ear<'_> {
    /// An antenna hears the tag with probability `rate`, and each further time in the epoch with probability `again`; what it
    /// hears while the tag is not within `bounds` is nothing.
    fn hear(
        &mut self,
        draw: &mut Stream,
        place: usize,
        rate: f64,
        again: f64,
        signal_dbm: f64,
        bounds: [i64; 2],
    ) {
        if !draw.chance(rate) {
            return;
        }
        let at = &self.world.site.places[place];
        for _ in 0..EPOCH_READS_MAX {
            let at_us = draw.between(self.from_us, self.to_us - 1);
            let dbm = signal_dbm + draw.normal(READ_SIGMA_DB);
            if (bounds[0]..bounds[1]).contains(&at_us) {
                self.out.push(Read {
                    at_us,
                    reader: at.reader,
                    antenna: at.antenna,
                    tag: self.world.items[self.item].tag,
                    item: self.item,
                    rssi_cdbm: (dbm * 100.0).round() as i16,
                });
            }
            if !draw.chance(again) {
                break;
            }
        }
    }
}

/// The place whose antenna hears a tag in an interval of its journey, and whether it moves. A tag that is carried through its
/// zone is heard first where it comes from, then where it goes.
fn heard_at(world: &World, journey: &[Interval], at: usize, now_us: i64) -> Option<(usize, bool)> {
    let interval = journey.get(at)?;
    match interval.spot {
        Spot::Place(place) => Some((place, false)),
        Spot::Moving(zone) => {
            let zone = zone?;
            let halfway = interval.from_us + (interval.to_us - interval.from_us) / 2;
            let near = if now_us < halfway { at.checked_sub(1)? } else { at + 1 };
            match journey.get(near)?.spot {
                Spot::Place(place) if world.site.places[place].zone == zone => Some((place, true)),
                Spot::Place(_) | Spot::Moving(_) | Spot::Outside => None,
            }
        }
        Spot::Outside => None,
    }
}

/// How a tag is heard at a place: drawn once for both, so that it is the same whenever the tag comes back.
fn link(world: &World, item: usize, place: usize, neighbours: &[Neighbour], tag_db: f64) -> Link {
    let spec = &world.scenario.epoch;
    let index = (item * world.site.places.len() + place) as u64;
    let mut draw = Stream::new(world.scenario.seed, "epoch-link", index);
    Link {
        rate: draw.uniform(spec.read_rate[0], spec.read_rate[1]),
        signal_dbm: spec.signal_dbm + tag_db + draw.normal(PLACE_SIGMA_DB),
        loss_db: neighbours.iter().map(|n| draw.uniform(n.loss_db[0], n.loss_db[1])).collect(),
    }
}

/// Epochs until something of probability `p` in each happens, itself included; at least 1.
fn epochs_until(draw: &mut Stream, p: f64) -> i64 {
    if p <= 0.0 {
        return i64::MAX / 4;
    }
    let u = 1.0 - draw.uniform(0.0, 1.0);
    1 + (u.ln() / (1.0 - p.min(1.0 - 1e-12)).ln()).min(1e15) as i64
}

fn next_fade(draw: &mut Stream, spec: &EpochSpec, epoch: i64) -> [i64; 2] {
    let from = epoch.saturating_add(epochs_until(draw, spec.fade_start));
    [from, from.saturating_add(draw.between(spec.fade_epochs[0], spec.fade_epochs[1]))]
}

/// The next ghost in any of so many zones: each hears them at the same rate.
fn next_ghost(draw: &mut Stream, spec: &EpochSpec, zones: usize, epoch: i64) -> i64 {
    let none = (1.0 - spec.ghost_rate).powi(i32::try_from(zones).unwrap_or(i32::MAX));
    epoch.saturating_add(epochs_until(draw, 1.0 - none))
}

impl Shadow {
    fn next(&mut self, spec: &EpochSpec) {
        let wait = self.draw.wait_us(spec.shadow_per_hour);
        let wait = wait.map_or(i64::MAX / 4, |us| i64::try_from(us).unwrap_or(i64::MAX / 4));
        self.from_us = self.to_us.saturating_add(wait);
        let lasts = micros(self.draw.uniform(spec.shadow_s[0], spec.shadow_s[1]));
        self.to_us = self.from_us.saturating_add(lasts.max(1));
    }
}
