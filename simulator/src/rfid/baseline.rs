//! What others do with reads, to compare with: a fixed window here, EdgeX's rule in `edgex.rs`.
//!
//! Both are given every single read at its moment, without any delay by reporting: they are not made to look worse.

use std::sync::Arc;

use super::physics::{Model, Read};
use super::scoring::{Told, ToldKind};
use super::world::{Site, World};
use super::{EdgeX, SECOND_US};

/// Reads are drawn from the physics in steps of this length, microseconds.
const STEP_US: i64 = 10 * SECOND_US;

/// Something that tells events from reads.
pub trait Teller {
    /// Time goes on until a moment at which nothing was read yet.
    fn until(&mut self, at_us: i64, told: &mut Vec<Told>);
    /// A read.
    fn hear(&mut self, read: &Read, told: &mut Vec<Told>);
}

/// What a teller tells of a world.
#[must_use]
pub fn tell(world: &Arc<World>, model: Model, teller: &mut dyn Teller) -> Vec<Told> {
    let (mut physics, mut reads, mut told) = (model.of(world), Vec::new(), Vec::new());
    let (mut at_us, end_us) = (0, world.truth.end_us);
    while at_us < end_us {
        at_us = (at_us + STEP_US).min(end_us);
        physics.reads(at_us, &mut reads);
        for read in reads.drain(..) {
            teller.until(read.at_us, &mut told);
            teller.hear(&read, &mut told);
        }
        teller.until(at_us, &mut told);
    }
    told
}

/// The baselines that comparisons show: name and teller.
#[must_use]
pub fn baselines(world: &World) -> Vec<(&'static str, Box<dyn Teller>)> {
    let window = |seconds| Box::new(Window::new(world, seconds * SECOND_US));
    vec![
        ("window 7.5 s", Box::new(Window::new(world, 7_500_000))),
        ("window 30 s", window(30)),
        ("EdgeX", Box::new(EdgeX::asset_tracking(world))),
        ("EdgeX garment", Box::new(EdgeX::retail_garment(world))),
    ]
}

/// An event of a place.
pub(super) fn event(site: &Site, read: &Read, at_us: i64, kind: ToldKind, place: usize) -> Told {
    let of = &site.places[place];
    let zone = site.zones[of.zone].name.clone();
    Told { at_us, tag: read.tag, kind, zone, place: Some((of.reader, of.antenna)) }
}

/// The plain window: a tag is there while its last read is younger than so long, where it was read last.
#[derive(Debug)]
pub struct Window {
    site: Arc<Site>,
    length_us: i64,
    /// For each tag its last read, if it is there.
    last: Vec<Option<Read>>,
    /// Nothing can end before.
    next_us: i64,
}

impl Window {
    /// A window of so many microseconds.
    #[must_use]
    pub fn new(world: &World, length_us: i64) -> Self {
        let last = vec![None; world.items.len()];
        Self { site: Arc::clone(&world.site), length_us, last, next_us: i64::MAX }
    }
}

impl Teller for Window {
    fn until(&mut self, at_us: i64, told: &mut Vec<Told>) {
        if at_us < self.next_us {
            return;
        }
        self.next_us = i64::MAX;
        for last in &mut self.last {
            let Some(read) = *last else { continue };
            let ends_us = read.at_us + self.length_us;
            if ends_us > at_us {
                self.next_us = self.next_us.min(ends_us);
            } else if let Some(place) = self.site.place_of(read.reader, read.antenna) {
                told.push(event(&self.site, &read, ends_us, ToldKind::Departed, place));
                *last = None;
            }
        }
    }

    fn hear(&mut self, read: &Read, told: &mut Vec<Told>) {
        let Some(place) = self.site.place_of(read.reader, read.antenna) else { return };
        let kind = match self.last[read.item].replace(*read) {
            None => Some(ToldKind::Arrived),
            Some(last) if (last.reader, last.antenna) != (read.reader, read.antenna) => {
                Some(ToldKind::Moved)
            }
            Some(_) => None,
        };
        self.next_us = self.next_us.min(read.at_us + self.length_us);
        told.extend(kind.map(|kind| event(&self.site, read, read.at_us, kind, place)));
    }
}
