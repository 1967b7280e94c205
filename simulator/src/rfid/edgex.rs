//! The rule of EdgeX's app-rfid-llrp-inventory, from its published description and source (commit 52f6610).
//!
//! For every tag and location (reader and antenna) the last 20 RSSI are kept. On a read at r while the tag is at c ≠ r: if
//! nothing is kept of c, it moves; else if r was read twice or more, it moves when
//!
//! ```text
//!  mean(r) > mean(c) + min(threshold, slope · age + threshold − slope · holdoff)        age: of the last read at c, ms
//! ```
//! The first read of a tag that is not there is its arrival. Every `check` those not read for `depart` are told as departed, and
//! what was kept of them is forgotten. A tag that departed weeks ago is forgotten, too, which no event shows.

use std::collections::VecDeque;
use std::sync::Arc;

use super::SECOND_US;
use super::baseline::{Teller, event};
use super::physics::Read;
use super::scoring::{Told, ToldKind};
use super::world::{Site, World};

/// RSSI kept of a tag and location.
const KEPT_MAX: usize = 20;
/// Reads at a new location before it counts.
const READS_MIN: usize = 2;

/// Its parameters.
#[derive(Debug, Clone, Copy)]
struct Profile {
    /// dB for each millisecond of age; negative: the longer ago, the easier it moves.
    slope: f64,
    /// dB that a new location must be stronger, at most.
    threshold: f64,
    /// Milliseconds for which that holds.
    holdoff: f64,
    depart_us: i64,
    check_us: i64,
}

impl Profile {
    fn offset(&self, age_us: i64) -> f64 {
        let age_ms = age_us as f64 / 1e3;
        let decayed = self.slope * age_ms + self.threshold - self.slope * self.holdoff;
        self.threshold.min(decayed)
    }
}

/// EdgeX's rule over the tags of a world.
#[derive(Debug)]
pub struct EdgeX {
    site: Arc<Site>,
    profile: Profile,
    tags: Vec<Tag>,
    next_check_us: i64,
}

#[derive(Debug, Clone, Default)]
struct Tag {
    /// Its place, and its last read there or elsewhere, while it is there.
    present: Option<(usize, Read)>,
    /// What is kept of each place where it was read.
    kept: Vec<(usize, Kept)>,
}

#[derive(Debug, Clone, Default)]
struct Kept {
    rssi_cdbm: VecDeque<i16>,
    last_us: i64,
}

impl Kept {
    fn mean_db(&self) -> f64 {
        let sum: i64 = self.rssi_cdbm.iter().map(|rssi| i64::from(*rssi)).sum();
        sum as f64 / 100.0 / self.rssi_cdbm.len().max(1) as f64
    }
}

impl EdgeX {
    /// Its defaults, "asset tracking".
    #[must_use]
    pub fn asset_tracking(world: &World) -> Self {
        Self::new(world, -0.008, 500.0)
    }

    /// Its preset "retail garment".
    #[must_use]
    pub fn retail_garment(world: &World) -> Self {
        Self::new(world, -0.0005, 60_000.0)
    }

    fn new(world: &World, slope: f64, holdoff: f64) -> Self {
        let (depart_us, check_us) = (600 * SECOND_US, 30 * SECOND_US);
        Self {
            site: Arc::clone(&world.site),
            profile: Profile { slope, threshold: 6.0, holdoff, depart_us, check_us },
            tags: vec![Tag::default(); world.items.len()],
            next_check_us: check_us,
        }
    }
}

impl Teller for EdgeX {
    fn until(&mut self, at_us: i64, told: &mut Vec<Told>) {
        while self.next_check_us <= at_us {
            let now_us = self.next_check_us;
            self.next_check_us += self.profile.check_us;
            for tag in &mut self.tags {
                if let Some((place, read)) = tag.present
                    && now_us - read.at_us > self.profile.depart_us
                {
                    told.push(event(&self.site, &read, now_us, ToldKind::Departed, place));
                    *tag = Tag::default();
                }
            }
        }
    }

    fn hear(&mut self, read: &Read, told: &mut Vec<Told>) {
        let Some(place) = self.site.place_of(read.reader, read.antenna) else { return };
        let tag = &mut self.tags[read.item];
        let at = tag.kept.iter().position(|(of, _)| *of == place).unwrap_or_else(|| {
            tag.kept.push((place, Kept::default()));
            tag.kept.len() - 1
        });
        let (_, here) = &mut tag.kept[at];
        if here.rssi_cdbm.len() == KEPT_MAX {
            here.rssi_cdbm.pop_front();
        }
        here.rssi_cdbm.push_back(read.rssi_cdbm);
        here.last_us = read.at_us;
        let moves = |from: usize| {
            let (_, here) = &tag.kept[at];
            match tag.kept.iter().find(|(of, _)| *of == from) {
                None => true,
                Some((_, there)) => {
                    let offset = self.profile.offset(read.at_us - there.last_us);
                    here.rssi_cdbm.len() >= READS_MIN && here.mean_db() > there.mean_db() + offset
                }
            }
        };
        let kind = match tag.present {
            None => Some(ToldKind::Arrived),
            Some((from, _)) if from != place && moves(from) => Some(ToldKind::Moved),
            Some(_) => None,
        };
        let place = match (kind, tag.present) {
            (None, Some((stays, _))) => stays,
            (_, _) => place,
        };
        tag.present = Some((place, *read));
        told.extend(kind.map(|kind| event(&self.site, read, read.at_us, kind, place)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfid::Scenario;

    fn world() -> World {
        World::new(&Scenario::builtin("neighbours").unwrap()).unwrap()
    }

    fn hear(edgex: &mut EdgeX, world: &World, at_ms: i64, antenna: u16, dbm: i16) -> Vec<Told> {
        let (at_us, tag, rssi_cdbm) = (at_ms * 1_000, world.items[0].tag, dbm * 100);
        let mut told = Vec::new();
        edgex.until(at_us, &mut told);
        edgex.hear(&Read { at_us, reader: 0, antenna, tag, item: 0, rssi_cdbm }, &mut told);
        told
    }

    #[test]
    fn the_bonus_of_the_last_location_decays() {
        let world = world();
        let offset = |edgex: &EdgeX, ms: i64| edgex.profile.offset(ms * 1_000);
        let tracking = EdgeX::asset_tracking(&world);
        let at = [0, 500, 750, 1_250].map(|ms| offset(&tracking, ms));
        for (offset, expected) in at.into_iter().zip([6.0, 6.0, 4.0, 0.0]) {
            assert!((offset - expected).abs() < 1e-9, "{at:?}");
        }
        let garment = EdgeX::retail_garment(&world);
        assert!((offset(&garment, 60_000) - 6.0).abs() < 1e-9);
        assert!((offset(&garment, 72_000) - 0.0).abs() < 1e-9);
    }

    #[test]
    fn one_read_is_an_arrival_and_two_stronger_ones_a_move() {
        let world = world();
        let mut edgex = EdgeX::asset_tracking(&world);
        let arrived = hear(&mut edgex, &world, 1_000, 1, -60);
        assert_eq!(
            (arrived.len(), arrived[0].kind, arrived[0].place),
            (1, ToldKind::Arrived, Some((0, 1)))
        );
        assert!(hear(&mut edgex, &world, 1_100, 2, -50).is_empty(), "one read is not enough");
        let moved = hear(&mut edgex, &world, 1_200, 2, -50);
        assert_eq!(
            (moved.len(), moved[0].kind, moved[0].place),
            (1, ToldKind::Moved, Some((0, 2)))
        );
        // 5 dB stronger is not enough within the hold-off, and is once the bonus has decayed.
        let mut edgex = EdgeX::asset_tracking(&world);
        hear(&mut edgex, &world, 1_000, 1, -60);
        hear(&mut edgex, &world, 1_100, 2, -55);
        assert!(hear(&mut edgex, &world, 1_400, 2, -55).is_empty());
        assert_eq!(hear(&mut edgex, &world, 1_700, 2, -55).len(), 1);
    }

    #[test]
    fn silence_of_ten_minutes_is_a_departure_at_the_next_check() {
        let world = world();
        let mut edgex = EdgeX::asset_tracking(&world);
        hear(&mut edgex, &world, 1_000, 1, -60);
        let mut told = Vec::new();
        edgex.until(629 * SECOND_US, &mut told);
        assert!(told.is_empty());
        edgex.until(700 * SECOND_US, &mut told);
        assert_eq!(
            (told.len(), told[0].kind, told[0].at_us),
            (1, ToldKind::Departed, 630 * SECOND_US)
        );
        assert_eq!(hear(&mut edgex, &world, 700_000, 1, -60)[0].kind, ToldKind::Arrived);
    }

    #[test]
    fn a_window_ends_so_long_after_the_last_read() {
        use crate::rfid::baseline::Window;
        let world = world();
        let mut window = Window::new(&world, 5 * SECOND_US);
        let read = |at_s: i64, antenna| Read {
            at_us: at_s * SECOND_US,
            reader: 0,
            antenna,
            tag: world.items[0].tag,
            item: 0,
            rssi_cdbm: -6_000,
        };
        let mut told = Vec::new();
        for read in [read(1, 1), read(4, 1), read(5, 2), read(11, 2)] {
            window.until(read.at_us, &mut told);
            window.hear(&read, &mut told);
        }
        window.until(15 * SECOND_US, &mut told);
        let what: Vec<_> = told.iter().map(|t| (t.at_us / SECOND_US, t.kind)).collect();
        use ToldKind::{Arrived, Departed, Moved};
        assert_eq!(what, [(1, Arrived), (5, Moved), (10, Departed), (11, Arrived)]);
    }
}
