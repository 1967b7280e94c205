//! Physics by geometry: distances, powers and bodies. It resembles no filter: nothing in it is a rate, and nothing is
//! independent from one half second to the next.
//!
//! ```text
//!  power at the tag = transmit power + antenna gain (angle) − path loss (distance) − polarisation, orientation
//!                     + shadowing − what stands in the way + interference of a reflection on the channel of the moment
//!  read in a round  : Φ((power at the tag − sensitivity) / spread), if the round has room for all tags
//!  RSSI             = power at the tag twice, less the transmit power, less what modulation takes
//! ```
//! A reader hops to another channel every [`HOP_US`] and gives each antenna a round every [`ROUND_US`], in turn. Tags at rest
//! have their geometry worked out once for a stay; tags in motion in every round. Reflections carry tags into zones where they
//! are not, for a moment in which they are read several times. Readers are deaf now and then, and do not say so.

use std::f64::consts::TAU;
use std::sync::Arc;

use super::budget::{answers, power_at, rssi_dbm};
use super::micros;
use super::obstacle::{NowAndThen, Traffic, exponential_us};
use super::path::{self, Point, Segment};
use super::physics::{Physics, Read, Ready};
use super::scenario::{Carrier, GeometrySpec, PositionSpec};
use super::truth::Spot;
use super::world::World;
use crate::random::Stream;

/// From one channel to the next, microseconds.
pub const HOP_US: i64 = 400_000;
/// From one round of an antenna to its next, microseconds.
pub const ROUND_US: i64 = 50_000;
const ROUNDS: i64 = HOP_US / ROUND_US;
/// Channels of the American band: 902.75 MHz and so on.
const CHANNELS: usize = 50;
const FIRST_CHANNEL_HZ: f64 = 902.75e6;
const CHANNEL_HZ: f64 = 0.5e6;
const LIGHT_M_S: f64 = 299_792_458.0;
/// A reflection goes a way so much longer, metres.
const REFLECTION_M: [f64; 2] = [0.5, 6.0];
/// Spread of what a tag's orientation takes, dB.
const ORIENTATION_SIGMA_DB: f64 = 0.7;
/// What is carried is shadowed anew with each round, this much of it remains.
const CARRIED_MEMORY: f64 = 0.8;
/// Share of a zone's tags that something driven by hides.
const TRAFFIC_SHARE: f64 = 0.6;
/// Links weaker than this many spreads below the sensitivity are let go.
const SPREADS_MAX: f64 = 4.5;

/// The physics by geometry of a world.
#[derive(Debug)]
pub struct Geometry {
    world: Arc<World>,
    hop: i64,
    antennas: Vec<Antenna>,
    readers: Vec<ReaderState>,
    traffic: Vec<Traffic>,
    tags: Vec<TagState>,
    ready: Ready,
}

#[derive(Debug)]
struct Antenna {
    position: PositionSpec,
    reader: usize,
    zone: usize,
    /// Its rounds begin so long after those of the reader's first antenna, and take so long.
    turn_us: [i64; 2],
    body: NowAndThen,
    body_there: bool,
    /// Tags at rest there in the last hop, and so far in this one.
    tags: [usize; 2],
}

#[derive(Debug)]
struct ReaderState {
    channel: Stream,
    frequency_hz: f64,
    deaf: NowAndThen,
    is_deaf: bool,
}

#[derive(Debug)]
struct TagState {
    draw: Stream,
    at: usize,
    /// The interval that `way` and `links` are about.
    worked_out: Option<usize>,
    way: Option<Segment>,
    links: Vec<Link>,
    /// What its orientation and the goods around it take, dB.
    loss_db: f64,
    carried_db: f64,
    ghost: Ghost,
}

/// How an antenna reaches a tag at rest.
#[derive(Debug, Clone, Copy)]
struct Link {
    antenna: usize,
    power_dbm: f64,
    reflection: f64,
    longer_m: f64,
}

#[derive(Debug)]
struct Ghost {
    from_us: i64,
    to_us: i64,
    antenna: usize,
}

impl Geometry {
    /// The physics of a world whose places have positions.
    #[must_use]
    pub fn new(world: &Arc<World>) -> Self {
        let (seed, spec, site) = (world.scenario.seed, &world.scenario.geometry, &world.site);
        let antenna = |(index, place): (usize, &super::world::Place)| {
            let of_reader =
                site.places.iter().enumerate().filter(|(_, p)| p.reader == place.reader);
            let turn = of_reader.clone().filter(|(i, _)| *i < index).count() as i64;
            let turn_us = ROUND_US / of_reader.count().max(1) as i64;
            let draw = Stream::new(seed, "geometry-body", index as u64);
            Antenna {
                position: path::position(world, index),
                reader: place.reader,
                zone: place.zone,
                turn_us: [turn * turn_us, turn_us.max(1)],
                body: NowAndThen::new(draw, spec.blocks_per_hour, |d| {
                    exponential_us(d, spec.block_s)
                }),
                body_there: false,
                tags: [0; 2],
            }
        };
        let reader = |index: usize| ReaderState {
            channel: Stream::new(seed, "geometry-channel", index as u64),
            frequency_hz: FIRST_CHANNEL_HZ,
            deaf: NowAndThen::new(
                Stream::new(seed, "geometry-deaf", index as u64),
                spec.gaps_per_hour,
                |d| micros(d.uniform(spec.gap_s[0], spec.gap_s[1])),
            ),
            is_deaf: false,
        };
        let tag = |item: usize| {
            let mut draw = Stream::new(seed, "geometry-tag", item as u64);
            let pallet = draw.uniform(spec.pallet_loss_db[0], spec.pallet_loss_db[1]);
            let around = match world.items[item].carrier {
                Carrier::Hand => 0.0,
                Carrier::Cart => pallet / 2.0,
                Carrier::Forklift => pallet,
            };
            let loss_db = draw.normal(ORIENTATION_SIGMA_DB).abs() + around;
            let ghost = Ghost::next(&mut draw, spec, site.zones.len(), 0);
            TagState {
                draw,
                at: 0,
                worked_out: None,
                way: None,
                links: Vec::new(),
                loss_db,
                carried_db: 0.0,
                ghost,
            }
        };
        Self {
            hop: 0,
            antennas: site.places.iter().enumerate().map(antenna).collect(),
            readers: (0..site.readers.len()).map(reader).collect(),
            traffic: Traffic::of(world),
            tags: (0..world.items.len()).map(tag).collect(),
            ready: Ready::default(),
            world: Arc::clone(world),
        }
    }

    fn step(&mut self) {
        let spec = &self.world.scenario.geometry;
        let from_us = self.hop * HOP_US;
        for reader in &mut self.readers {
            let channel = reader.channel.below(CHANNELS);
            reader.frequency_hz = FIRST_CHANNEL_HZ + CHANNEL_HZ * channel as f64;
            reader.is_deaf =
                reader.deaf.is_there(from_us, |d| micros(d.uniform(spec.gap_s[0], spec.gap_s[1])));
        }
        for antenna in &mut self.antennas {
            antenna.body_there =
                antenna.body.is_there(from_us, |d| exponential_us(d, spec.block_s));
            antenna.tags = [antenna.tags[1], 0];
        }
        let busy: Vec<bool> = self.traffic.iter_mut().map(|t| t.is_there(from_us)).collect();
        let Self { world, antennas, readers, tags, ready, .. } = self;
        let spec = &world.scenario.geometry;
        for (item, state) in tags.iter_mut().enumerate() {
            let journey = &world.truth.journeys[item];
            while journey.get(state.at).is_some_and(|i| i.to_us <= from_us) {
                state.at += 1;
            }
            let mut hop =
                Hop { world, antennas, readers, busy: &busy, item, from_us, out: &mut ready.0 };
            for (at, interval) in journey.iter().enumerate().skip(state.at) {
                if interval.from_us >= from_us + HOP_US {
                    break;
                }
                if interval.spot == Spot::Outside {
                    continue;
                }
                if state.worked_out != Some(at) {
                    state.worked_out = Some(at);
                    state.way = path::segment(world, item, at);
                    state.links.clear();
                    if let Some(way) = state.way.filter(|way| way.from == way.to) {
                        hop.reach(state, way.from, interval.spot);
                    }
                }
                match state.way {
                    Some(way) if way.from == way.to => hop.at_rest(state, at),
                    Some(way) => hop.in_motion(state, at, way),
                    None => {}
                }
            }
            hop.ghost(state, spec);
        }
        self.ready.0.sort_by_key(|read| read.at_us);
        self.hop += 1;
    }
}

impl Physics for Geometry {
    fn reads(&mut self, to_us: i64, out: &mut Vec<Read>) {
        loop {
            self.ready.hand_over(to_us, out);
            if self.hop * HOP_US >= to_us {
                return;
            }
            self.step();
        }
    }
}

impl Ghost {
    fn next(draw: &mut Stream, spec: &GeometrySpec, zones: usize, after_us: i64) -> Self {
        let wait = draw.wait_us(spec.ghosts_per_hour * zones as f64).unwrap_or(u64::MAX / 4);
        let from_us = after_us.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX / 4));
        let to_us = from_us.saturating_add(exponential_us(draw, spec.ghost_s).max(ROUND_US));
        Self { from_us, to_us, antenna: usize::MAX }
    }
}

/// One tag in one hop.
struct Hop<'a> {
    world: &'a World,
    antennas: &'a mut [Antenna],
    readers: &'a [ReaderState],
    busy: &'a [bool],
    item: usize,
    from_us: i64,
    out: &'a mut Vec<Read>,
}

impl Hop<'_> {
    /// Which antennas reach a tag at rest, and how.
    fn reach(&self, state: &mut TagState, at: Point, spot: Spot) {
        let spec = &self.world.scenario.geometry;
        let weakest = spec.sensitivity_dbm - SPREADS_MAX * spec.round_sigma_db;
        let place = if let Spot::Place(place) = spot { place } else { 0 };
        for (antenna, of) in self.antennas.iter().enumerate() {
            // The same whenever the tag lies there again.
            let index = (self.item * self.antennas.len() + place) * self.antennas.len() + antenna;
            let mut draw = Stream::new(self.world.scenario.seed, "geometry-link", index as u64);
            let shadow = draw.normal(spec.shadow_sigma_db);
            let power_dbm = power_at(spec, &of.position, at) - state.loss_db + shadow;
            let reflection = draw.uniform(spec.reflection[0], spec.reflection[1]);
            let longer_m = draw.uniform(REFLECTION_M[0], REFLECTION_M[1]);
            // A reflection adds 6 dB at most.
            if power_dbm + 6.0 > weakest {
                state.links.push(Link { antenna, power_dbm, reflection, longer_m });
            }
        }
    }

    fn at_rest(&mut self, state: &mut TagState, at: usize) {
        let interval = self.world.truth.journeys[self.item][at];
        let spec = &self.world.scenario.geometry;
        if let Spot::Place(place) = interval.spot {
            self.antennas[place].tags[1] += 1;
        }
        for link in &state.links {
            let antenna = &self.antennas[link.antenna];
            let reader = &self.readers[antenna.reader];
            if reader.is_deaf {
                continue;
            }
            let phase = TAU * reader.frequency_hz * link.longer_m / LIGHT_M_S;
            let a = link.reflection;
            let interference = 10.0 * (1.0 + a * a + 2.0 * a * phase.cos()).log10();
            let power = link.power_dbm + interference - self.in_the_way(antenna, link.antenna);
            let p = answers(spec, power) * room(spec, antenna);
            let mut round = rounds_until(&mut state.draw, p);
            while round < ROUNDS {
                let at_us = self.round_us(antenna, round, &mut state.draw);
                if (interval.from_us..interval.to_us).contains(&at_us) {
                    self.out.push(self.read(link.antenna, at_us, power, &mut state.draw));
                }
                round += 1 + rounds_until(&mut state.draw, p);
            }
        }
    }

    fn in_motion(&mut self, state: &mut TagState, at: usize, way: Segment) {
        let interval = self.world.truth.journeys[self.item][at];
        let spec = &self.world.scenario.geometry;
        for round in 0..ROUNDS {
            let now_us = self.from_us + round * ROUND_US;
            if !(interval.from_us..interval.to_us).contains(&now_us) {
                continue;
            }
            let fresh = (1.0 - CARRIED_MEMORY * CARRIED_MEMORY).sqrt() * 2.0 * spec.shadow_sigma_db;
            state.carried_db = state.carried_db * CARRIED_MEMORY + state.draw.normal(fresh);
            let point = way.at(&interval, now_us);
            for index in 0..self.antennas.len() {
                let antenna = &self.antennas[index];
                if self.readers[antenna.reader].is_deaf {
                    continue;
                }
                let power =
                    power_at(spec, &antenna.position, point) - state.loss_db + state.carried_db;
                if state.draw.chance(answers(spec, power) * room(spec, antenna)) {
                    let at_us = self.round_us(antenna, round, &mut state.draw);
                    if (interval.from_us..interval.to_us).contains(&at_us) {
                        self.out.push(self.read(index, at_us, power, &mut state.draw));
                    }
                }
            }
        }
    }

    /// A tag that reflections carry into a zone where it is not.
    fn ghost(&mut self, state: &mut TagState, spec: &GeometrySpec) {
        let end_us = self.from_us + HOP_US;
        while state.ghost.from_us < end_us {
            if state.ghost.to_us <= self.from_us {
                let zones = self.world.site.zones.len();
                state.ghost = Ghost::next(&mut state.draw, spec, zones, state.ghost.to_us);
                continue;
            }
            if state.ghost.antenna == usize::MAX {
                state.ghost.antenna = state.draw.below(self.antennas.len());
            }
            let Some(antenna) = self.antennas.get(state.ghost.antenna) else { return };
            let here = self.world.truth.at(self.item, self.from_us);
            if self.world.site.zone_of(here) != Some(antenna.zone)
                && !self.readers[antenna.reader].is_deaf
            {
                for round in 0..ROUNDS {
                    let at_us = self.round_us(antenna, round, &mut state.draw);
                    let there = (state.ghost.from_us..state.ghost.to_us).contains(&at_us);
                    if there && state.draw.chance(spec.ghost_rate) {
                        let [least, most] = spec.ghost_loss_db;
                        // RSSI takes the power twice.
                        let loss = state.draw.uniform(least, most) / 2.0;
                        let power = spec.sensitivity_dbm - loss;
                        let read = self.read(state.ghost.antenna, at_us, power, &mut state.draw);
                        self.out.push(read);
                    }
                }
            }
            if state.ghost.to_us > end_us {
                return;
            }
            let zones = self.world.site.zones.len();
            state.ghost = Ghost::next(&mut state.draw, spec, zones, state.ghost.to_us);
        }
    }

    /// What bodies and traffic take from an antenna's signal to this tag, dB.
    fn in_the_way(&self, antenna: &Antenna, index: usize) -> f64 {
        let spec = &self.world.scenario.geometry;
        // Which tags a body hides is drawn anew with each.
        let hides = |what: u64, share: f64| {
            let mut x = (self.item as u64) << 32 | (index as u64) << 20 | (what & 0xF_FFFF);
            x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((x ^ x >> 31) >> 11) as f64 / (1_u64 << 53) as f64 <= share
        };
        let body = antenna.body_there && hides(antenna.body.count, spec.block_share);
        let traffic = self.busy[antenna.zone] && hides(0xF_FFFF, TRAFFIC_SHARE);
        if body || traffic { spec.block_db } else { 0.0 }
    }

    fn round_us(&self, antenna: &Antenna, round: i64, draw: &mut Stream) -> i64 {
        let [turn, length] = antenna.turn_us;
        self.from_us + round * ROUND_US + turn + draw.between(0, length - 1)
    }

    /// A read of a tag with this power on average.
    fn read(&self, antenna: usize, at_us: i64, power_dbm: f64, draw: &mut Stream) -> Read {
        let spec = &self.world.scenario.geometry;
        let rssi = rssi_dbm(spec, power_dbm, draw);
        let place = &self.world.site.places[antenna];
        Read {
            at_us,
            reader: place.reader,
            antenna: place.antenna,
            tag: self.world.items[self.item].tag,
            item: self.item,
            rssi_cdbm: (rssi * 100.0).round() as i16,
        }
    }
}

/// Share of the rounds that a tag gets where there are many.
fn room(spec: &GeometrySpec, antenna: &Antenna) -> f64 {
    (spec.round_tags / antenna.tags[0].max(1) as f64).min(1.0)
}

/// Rounds in which something of probability `p` does not happen before it does.
fn rounds_until(draw: &mut Stream, p: f64) -> i64 {
    if p < 1e-9 {
        return ROUNDS;
    }
    let u = 1.0 - draw.uniform(0.0, 1.0);
    (u.ln() / (1.0 - p.min(1.0 - 1e-12)).ln()).min(ROUNDS as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_drawn_by_their_probability() {
        let mut draw = Stream::new(1, "test", 0);
        for p in [0.05, 0.3, 0.9] {
            // Rounds with an answer of eight, many times.
            let mut answered = 0;
            for _ in 0..20_000 {
                let mut round = rounds_until(&mut draw, p);
                while round < ROUNDS {
                    answered += 1;
                    round += 1 + rounds_until(&mut draw, p);
                }
            }
            let share = f64::from(answered) / (20_000.0 * ROUNDS as f64);
            assert!((share - p).abs() < 0.01, "{p}: {share}");
        }
        assert_eq!(rounds_until(&mut draw, 0.0), ROUNDS);
        assert_eq!(rounds_until(&mut draw, 1.0), 0);
    }
}
