//! The load's facility: device `load-0000` … each with a slot of its own.

use crate::load::template::{CELLS, Kind, UNIT_G};
use serde_json::{Value, json};

/// Facility id.
pub const FACILITY: &str = "load";
/// SKUs, spread over the slots.
const SKUS: usize = 20;
/// Slots on a shelf.
const SLOTS_PER_SHELF: usize = 50;

/// Id of device number `index`.
#[must_use]
pub fn device_id(index: usize) -> String {
    format!("load-{index:04}")
}

/// Id of the slot of device number `index`.
#[must_use]
pub fn slot_id(index: usize) -> String {
    format!("slot-{index:04}")
}

/// Id of the slot on cell `cell` of device number `index`.
fn cell_slot_id(index: usize, cell: u64) -> String {
    format!("{}-{cell}", slot_id(index))
}

/// Id of the SKU of device number `index`.
pub(super) fn sku_id(index: usize) -> String {
    format!("LOAD-{:02}", index % SKUS)
}

/// Body of `POST /api/v1/import` for `devices` devices that send `kind`.
#[must_use]
pub fn layout(devices: usize, kind: Kind) -> Value {
    let shelf = |slot: usize| format!("shelf-{:03}", slot / SLOTS_PER_SHELF);
    let source = match kind {
        Kind::Stock => "scan",
        Kind::Weight => "weight",
    };
    let slots: Vec<(usize, String)> = match kind {
        Kind::Stock => (0..devices).map(|i| (i, slot_id(i))).collect(),
        Kind::Weight => (0..devices)
            .flat_map(|i| (0..CELLS).map(move |cell| (i, cell_slot_id(i, cell))))
            .collect(),
    };
    let each =
        |body: &dyn Fn(usize) -> Value, count: usize| -> Value { (0..count).map(body).collect() };
    let device = |i: usize| {
        let mut body = json!({"id": device_id(i), "facility": FACILITY});
        match kind {
            Kind::Stock => body["slot"] = slot_id(i).into(),
            Kind::Weight => {
                let channel = |cell: u64| {
                    json!({
                        "channel": cell.to_string(), "slot": cell_slot_id(i, cell),
                        "division_mg": 1_000, "noise_mg": 500, "zero_mg": 0,
                    })
                };
                body["channels"] = (0..CELLS).map(channel).collect();
            }
        }
        body
    };
    json!({
        "facilities": [{"id": FACILITY, "name": "Load test"}],
        "zones": [{"facility": FACILITY, "id": "zone-1", "name": "Zone 1"}],
        "shelves": each(&|s| {
            let id = shelf(s * SLOTS_PER_SHELF);
            json!({"facility": FACILITY, "id": id, "name": id, "zone": "zone-1"})
        }, devices.div_ceil(SLOTS_PER_SHELF)),
        "slots": slots.iter().map(|(i, id)| {
            json!({"facility": FACILITY, "id": id, "shelf": shelf(*i)})
        }).collect::<Value>(),
        "skus": each(&|i| json!({
            "id": sku_id(i), "name": format!("Load test item {i}"), "unit_weight_mg": UNIT_G * 1_000, "unit_sigma_mg": 0,
        }), SKUS.min(devices)),
        "planogram": slots.iter().map(|(i, id)| {
            json!({"facility": FACILITY, "slot": id, "sku": sku_id(*i), "source": source})
        }).collect::<Value>(),
        "devices": each(&device, devices),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_has_its_slot_line_and_channel() {
        let l = layout(120, Kind::Weight);
        let count = |key: &str| l[key].as_array().unwrap().len();
        assert_eq!((count("devices"), count("slots"), count("planogram")), (120, 720, 720));
        assert_eq!((count("shelves"), count("skus")), (3, 20));
        assert_eq!(l["devices"][119]["id"], "load-0119");
        assert_eq!(l["devices"][119]["channels"][5]["slot"], "slot-0119-5");
        assert_eq!(l["planogram"][719]["source"], "weight");
        assert_eq!(l["slots"][719]["shelf"], "shelf-002");
        assert!(layout(1, Kind::Stock)["devices"][0].get("channels").is_none());
    }
}
