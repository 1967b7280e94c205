//! A world of tags as master data: what a hub is told of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    scenario::{Personality, Side},
    truth::Spot,
    world::World,
};

/// What the first SKUs are called; further ones by their ids.
const GOODS: [&str; 6] =
    ["Shirt, white", "Shirt, blue", "Jeans", "Dress, linen", "Jacket, wool", "Scarf, silk"];

fn personality(of: Personality) -> &'static str {
    match of {
        Personality::Shelf => "shelf",
        Personality::Portal => "exit",
        Personality::PointOfSale => "sale",
        Personality::FittingRoom => "fitting",
    }
}

/// The body of an import: facility, zones with a shelf each, slots, SKUs, the lines that tags count, and the readers of a
/// profile with their antennas.
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
    // What ever lies somewhere is planned there.
    let lines: BTreeSet<(&str, &str)> = world
        .items
        .iter()
        .zip(&world.truth.journeys)
        .flat_map(|(item, journey)| {
            journey.iter().filter_map(|interval| match interval.spot {
                Spot::Place(place) => Some((site.places.get(place)?.slot.as_deref()?, &*item.sku)),
                Spot::Moving(_) | Spot::Outside => None,
            })
        })
        .collect();
    let lines = lines.iter().map(
        |(slot, sku)| json!({ "facility": facility, "slot": slot, "sku": sku, "source": "rfid" }),
    );
    let home = |slot: &str| site.zone_of_slot(slot).map_or("", |index| zone(index));
    let shelves: BTreeSet<&str> = slots.iter().map(|slot| home(slot)).collect();
    let readers = site.readers.iter().enumerate().map(|(index, id)| {
        let antennas = site.places.iter().filter(|place| place.reader == index).map(|place| {
            json!({ "port": place.antenna, "zone": zone(place.zone), "slot": place.slot,
                    "outside": place.side == Some(Side::Outside) })
        });
        json!({ "facility": facility, "id": id, "profile": profile,
                "antennas": antennas.collect::<Vec<_>>() })
    });
    json!({
        "facilities": [{ "id": facility, "name": format!("RFID {facility}") }],
        "zones": zones.collect::<Vec<_>>(),
        "shelves": shelves.iter()
            .map(|zone| json!({ "facility": facility, "id": zone, "name": zone, "zone": zone }))
            .collect::<Vec<_>>(),
        "slots": slots.iter()
            .map(|slot| json!({ "facility": facility, "id": slot, "shelf": home(slot) }))
            .collect::<Vec<_>>(),
        "skus": skus.iter().enumerate()
            .map(|(nth, (sku, gtin))| {
                json!({ "id": sku, "name": GOODS.get(nth).unwrap_or(sku), "gtin": gtin })
            })
            .collect::<Vec<_>>(),
        "planogram": lines.collect::<Vec<_>>(),
        "devices": readers.collect::<Vec<_>>(),
    })
}
