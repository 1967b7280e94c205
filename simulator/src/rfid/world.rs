//! The site, its tags, and where each goes.
//!
//! A place is what one antenna listens to: antenna and place are one, and belong to one zone. Tags carry SGTIN-96 of the
//! scenario's SKUs. Tags of a batch travel together; every batch has its own random stream, so that another group leaves its
//! journey as it was.

use std::sync::Arc;

use device_profiles::{
    Tag, TagError,
    epc::{Epc, EpcError, Form, Written, check_digit},
};

use super::journey;
use super::scenario::{Carrier, Personality, PositionSpec, Scenario, Side, TAGS_MAX, ZoneSpec};
use super::truth::{Spot, Truth};
use crate::random::Stream;

/// GS1 company prefix of every SKU here: the one of the standards' examples.
const COMPANY: &str = "0614141";

/// Seeds whose tags have serial numbers of their own, so that worlds beside each other do not share tags.
const SEEDS: u64 = 100_000;

/// A zone.
#[derive(Debug, Clone)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub personality: Personality,
}

/// A place, and the antenna that listens to it.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: usize,
    /// Its reader.
    pub reader: usize,
    /// The reader's port, from 1.
    pub antenna: u16,
    /// Which side of a portal it looks at.
    pub side: Option<Side>,
    /// The slot it stands for.
    pub slot: Option<String>,
    /// Where it is in the room.
    pub position: Option<PositionSpec>,
}

/// Why a world cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// An EPC that cannot be.
    #[error("a tag cannot be written: {0}")]
    Epc(#[from] EpcError),
    /// Bytes that are no tag.
    #[error("a tag cannot be written: {0}")]
    Tag(#[from] TagError),
}

/// What stands there.
#[derive(Debug, Clone)]
pub struct Site {
    /// The zones.
    pub zones: Vec<Zone>,
    /// The readers' names.
    pub readers: Vec<String>,
    /// The places, in the order of the scenario.
    pub places: Vec<Place>,
}

/// A tagged thing.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its tag.
    pub tag: Tag,
    /// What it is: a GTIN of 14 digits.
    pub gtin: String,
    /// Its SKU's id.
    pub sku: String,
    /// The group it belongs to.
    pub group: usize,
    /// Those that travel together have the same number.
    pub batch: usize,
    /// How it travels.
    pub carrier: Carrier,
}

/// A scenario come to life.
#[derive(Debug, Clone)]
pub struct World {
    /// What stands there.
    pub site: Arc<Site>,
    /// What is tagged.
    pub items: Vec<Item>,
    /// Where everything is, for the whole run.
    pub truth: Truth,
    /// What it was made of.
    pub scenario: Scenario,
}

impl Site {
    fn new(scenario: &Scenario) -> Self {
        let zone = |z: &ZoneSpec| Zone { name: z.name.clone(), personality: z.personality };
        let mut site = Self {
            zones: scenario.zone.iter().map(zone).collect(),
            readers: Vec::new(),
            places: Vec::new(),
        };
        for place in &scenario.place {
            let known = site.readers.iter().position(|reader| *reader == place.reader);
            let reader = known.unwrap_or_else(|| {
                site.readers.push(place.reader.clone());
                site.readers.len() - 1
            });
            let zone = site.zones.iter().position(|zone| zone.name == place.zone).unwrap_or(0);
            site.places.push(Place {
                name: place.name.clone(),
                zone,
                reader,
                antenna: place.antenna,
                side: place.side,
                slot: place.slot.clone(),
                position: place.position,
            });
        }
        site
    }

    /// The place that an antenna listens to.
    #[must_use]
    pub fn place_of(&self, reader: usize, antenna: u16) -> Option<usize> {
        self.places.iter().position(|p| p.reader == reader && p.antenna == antenna)
    }

    /// The place of a name.
    #[must_use]
    pub fn place_named(&self, name: &str) -> Option<usize> {
        self.places.iter().position(|place| place.name == name)
    }

    /// The zone of a name.
    #[must_use]
    pub fn zone_named(&self, name: &str) -> Option<usize> {
        self.zones.iter().position(|zone| zone.name == name)
    }

    /// The zone in which a slot is.
    #[must_use]
    pub fn zone_of_slot(&self, slot: &str) -> Option<usize> {
        self.places.iter().find(|place| place.slot.as_deref() == Some(slot)).map(|place| place.zone)
    }

    /// The zone that a spot is in.
    #[must_use]
    pub fn zone_of(&self, spot: Spot) -> Option<usize> {
        match spot {
            Spot::Place(place) => self.places.get(place).map(|place| place.zone),
            Spot::Moving(zone) => zone,
            Spot::Outside => None,
        }
    }
}

impl World {
    /// The world of a checked scenario.
    ///
    /// # Errors
    /// [`WorldError`] when a tag cannot be written; a checked scenario has none.
    pub fn new(scenario: &Scenario) -> Result<Self, WorldError> {
        let site = Arc::new(Site::new(scenario));
        let end_us = super::micros(scenario.duration_s);
        let (mut items, mut journeys) = (Vec::new(), Vec::new());
        let (mut skus, mut batches) = (0, 0);
        for (group, spec) in scenario.group.iter().enumerate() {
            for first in (0..spec.tags).step_by(spec.batch) {
                let index = (group as u64) << 32 | first as u64;
                let mut draw = Stream::new(scenario.seed, "journey", index);
                let journey = journey::of(spec, &site, &mut draw, end_us);
                for nth in first..spec.tags.min(first + spec.batch) {
                    let serial = scenario.seed % SEEDS * TAGS_MAX as u64 + items.len() as u64;
                    let (gtin, sku, tag) = tagged(skus + nth % spec.skus, serial)?;
                    let carrier = spec.carrier;
                    items.push(Item { tag, gtin, sku, group, batch: batches, carrier });
                    journeys.push(journey::unloaded(&journey, &site, spec.unload_s, &mut draw));
                }
                batches += 1;
            }
            skus += spec.skus;
        }
        let tags = items.iter().map(|item| item.tag).collect();
        let truth = Truth { site: Arc::clone(&site), tags, journeys, end_us };
        Ok(Self { site, items, truth, scenario: scenario.clone() })
    }
}

/// GTIN, SKU and tag of serial number `serial` of an SKU.
fn tagged(sku: usize, serial: u64) -> Result<(String, String, Tag), WorldError> {
    let digits = format!("0{COMPANY}{sku:05}");
    let gtin = format!("{digits}{}", check_digit(&digits));
    let epc = Epc::sgtin(&gtin, COMPANY.len() as u8, &(serial + 1).to_string())?;
    let bytes = Written { epc, filter: 1, form: Form::Sgtin96 }.encode()?;
    Ok((gtin, format!("SKU-{sku:05}"), Tag::of_bytes(&bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfid::scenario::SKUS_MAX;

    #[test]
    fn tags_are_sgtins_of_their_gtins_to_the_last() {
        for (sku, serial) in [(0, 0), (7, 11), (SKUS_MAX - 1, SEEDS * TAGS_MAX as u64 - 1)] {
            let (gtin, _, tag) = tagged(sku, serial).unwrap();
            let read = Written::decode(tag.bytes()).unwrap();
            assert_eq!(read.form, Form::Sgtin96);
            assert_eq!(read.epc.key(), gtin);
        }
    }

    #[test]
    fn another_group_leaves_the_journeys_of_the_first_alone() {
        let one = Scenario::builtin("shelf-0.6").unwrap();
        let mut two = one.clone();
        two.group.push(one.group[0].clone());
        let (a, b) = (World::new(&one).unwrap(), World::new(&two).unwrap());
        assert_eq!(a.truth.journeys[..], b.truth.journeys[..a.items.len()]);
        assert_ne!(a.truth.journeys[0], b.truth.journeys[a.items.len()]);
        let tags: std::collections::BTreeSet<_> = b.items.iter().map(|item| item.tag).collect();
        assert_eq!(tags.len(), b.items.len());
    }

    #[test]
    fn journeys_have_no_gaps() {
        let world = World::new(&Scenario::builtin("shelf-0.6").unwrap()).unwrap();
        for journey in &world.truth.journeys {
            assert_eq!(journey[0].from_us, 0);
            assert_eq!(journey[journey.len() - 1].to_us, world.truth.end_us);
            assert!(
                journey.windows(2).all(|w| w[0].to_us == w[1].from_us && w[0].spot != w[1].spot)
            );
            assert!(journey.iter().all(|i| i.from_us < i.to_us));
        }
    }
}
