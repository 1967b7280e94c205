//! The load's facility: device `load-0000` … each with a slot of its own.

use crate::load::template::{Kind, UNIT_G};
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
    let each =
        |body: &dyn Fn(usize) -> Value, count: usize| -> Value { (0..count).map(body).collect() };
    let device = |i: usize| {
        let mut body = json!({"id": device_id(i), "facility": FACILITY, "slot": slot_id(i)});
        if kind == Kind::Weight {
            body["channels"] = json!([{
                "channel": "0", "slot": slot_id(i), "division_mg": 1_000, "noise_mg": 500, "zero_mg": 0,
            }]);
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
        "slots": each(&|i| {
            json!({"facility": FACILITY, "id": slot_id(i), "shelf": shelf(i)})
        }, devices),
        "skus": each(&|i| json!({
            "id": sku_id(i), "name": format!("Load test item {i}"), "unit_weight_mg": UNIT_G * 1_000, "unit_sigma_mg": 0,
        }), SKUS.min(devices)),
        "planogram": each(&|i| {
            json!({"facility": FACILITY, "slot": slot_id(i), "sku": sku_id(i), "source": source})
        }, devices),
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
        assert_eq!((count("devices"), count("slots"), count("planogram")), (120, 120, 120));
        assert_eq!((count("shelves"), count("skus")), (3, 20));
        assert_eq!(l["devices"][119]["id"], "load-0119");
        assert_eq!(l["devices"][119]["channels"][0]["slot"], "slot-0119");
        assert_eq!(l["planogram"][119]["source"], "weight");
        assert_eq!(l["slots"][119]["shelf"], "shelf-002");
        assert!(layout(1, Kind::Stock)["devices"][0].get("channels").is_none());
    }
}
