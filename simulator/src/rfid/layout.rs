//! A world of tags as master data: what a hub is told of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    scenario::{Personality, Side},
    world::World,
};

/// Shelf on which all slots of such a world are.
const SHELF: &str = "rfid";

fn personality(of: Personality) -> &'static str {
    match of {
        Personality::Shelf => "shelf",
        Personality::Portal => "exit",
        Personality::PointOfSale => "sale",
        Personality::FittingRoom => "fitting",
    }
}

/// The body of an import: facility, zones, slots, SKUs, the lines that tags count, and the readers of a profile with their
/// antennas.
#[must_use]
pub fn layout(world: &World, facility: &str, profile: &str) -> Value {
    let site = &world.site;
    let zone = |index: usize| &site.zones[index].name;
    let zones = site.zones.iter().map(|zone| {
        json!({ "facility": facility, "id": zone.name, "name": zone.name,
                "personality": personality(zone.personality) })
    });
    let slots: BTreeSet<&str> = site.places.iter().filter_map(|p| p.slot.as_deref()).collect();
    let skus: BTreeSet<(&str, &str)> =
        world.items.iter().map(|item| (item.sku.as_str(), item.gtin.as_str())).collect();
    let lines = slots.iter().flat_map(|slot| {
        skus.iter().map(move |(sku, _)| {
            json!({ "facility": facility, "slot": slot, "sku": sku, "source": "rfid" })
        })
    });
    let readers = site.readers.iter().enumerate().map(|(index, id)| {
        let antennas = site.places.iter().filter(|place| place.reader == index).map(|place| {
            json!({ "port": place.antenna, "zone": zone(place.zone), "slot": place.slot,
                    "outside": place.side == Some(Side::Outside) })
        });
        json!({ "facility": facility, "id": id, "profile": profile,
                "antennas": antennas.collect::<Vec<_>>() })
    });
    json!({
        "facilities": [{ "id": facility, "name": facility }],
        "zones": zones.collect::<Vec<_>>(),
        "shelves": [{ "facility": facility, "id": SHELF, "name": "Antennas" }],
        "slots": slots.iter().map(|slot| json!({ "facility": facility, "id": slot, "shelf": SHELF }))
            .collect::<Vec<_>>(),
        "skus": skus.iter().map(|(sku, gtin)| json!({ "id": sku, "name": sku, "gtin": gtin }))
            .collect::<Vec<_>>(),
        "planogram": lines.collect::<Vec<_>>(),
        "devices": readers.collect::<Vec<_>>(),
    })
}
