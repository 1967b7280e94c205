//! What the hub must know before the first frame: the body of `POST /api/v1/import`, and the first counts.

use crate::cell::{plateau_sigma, zero_mg};
use crate::scenario::{Scenario, Source};
use crate::stock::Stock;
use crate::world::{Device, DeviceKind};
use serde_json::{Value, json};

/// A call that tells the hub a quantity.
#[derive(Debug, Clone, PartialEq)]
pub struct CountCall {
    /// Path below `/api/v1`.
    pub path: String,
    /// JSON body.
    pub body: Value,
    /// What the call counts: slot, SKU, units.
    pub counted: (String, String, i64),
}

/// The zone of shelf `shelf`: shelves are spread over the zones in order.
fn zone(scenario: &Scenario, shelf: usize) -> String {
    let f = &scenario.facility;
    format!("zone-{}", shelf * f.zones / f.shelves + 1)
}

/// The import body of a world.
pub(crate) fn import(scenario: &Scenario, stock: &Stock, devices: &[Device]) -> Value {
    let f = &scenario.facility;
    let facility = f.id.as_str();
    let zones: Vec<Value> = (1..=f.zones)
        .map(|z| json!({"facility": facility, "id": format!("zone-{z}"), "name": format!("Zone {z}")}))
        .collect();
    let shelves: Vec<Value> = (0..f.shelves)
        .map(|s| {
            let id = Scenario::shelf_id(s);
            let name = format!("Shelf {id}");
            json!({"facility": facility, "id": id, "name": name, "zone": zone(scenario, s)})
        })
        .collect();
    let slots: Vec<Value> = (0..stock.len())
        .map(|s| {
            let shelf = Scenario::shelf_id(s / f.slots_per_shelf);
            json!({"facility": facility, "id": stock.line(s).slot, "shelf": shelf})
        })
        .collect();
    let skus: Vec<Value> = scenario
        .sku
        .iter()
        .map(|s| {
            let mut sku = json!({
                "id": s.id,
                "name": s.name.as_ref().unwrap_or(&s.id),
                "unit_weight_mg": s.unit_weight_mg,
                "unit_sigma_mg": s.unit_sigma_mg,
            });
            if let Some(gtin) = &s.gtin {
                sku["gtin"] = json!(gtin);
            }
            sku
        })
        .collect();
    let planogram: Vec<Value> = (0..stock.len())
        .map(|s| {
            let line = stock.line(s);
            let mut body = json!({
                "facility": facility,
                "slot": line.slot,
                "sku": line.sku,
                "source": line.source,
                "capacity": stock.slot(s).capacity,
            });
            if scenario.planogram.reorder_at > 0 {
                body["min"] = json!(scenario.planogram.reorder_at);
            }
            body
        })
        .collect();
    let devices: Vec<Value> = devices.iter().map(|d| device(scenario, stock, d)).collect();
    json!({
        "facilities": [{"id": facility, "name": f.name.as_ref().unwrap_or(&f.id)}],
        "zones": zones,
        "shelves": shelves,
        "slots": slots,
        "skus": skus,
        "planogram": planogram,
        "devices": devices,
    })
}

fn device(scenario: &Scenario, stock: &Stock, device: &Device) -> Value {
    let what = match device.kind {
        DeviceKind::Scale => "Scale",
        DeviceKind::Handheld => "Handheld",
        DeviceKind::Scanner => "Scanner",
        DeviceKind::Sensor => "Sensor",
    };
    let name = format!("{what} {}", device.id);
    let mut body = json!({"id": device.id, "facility": scenario.facility.id, "name": name});
    if device.kind == DeviceKind::Scale {
        let spec = &scenario.cells;
        let channel = |(channel, slot): (usize, &usize)| {
            let sku = stock.sku(*slot);
            let (unit, sigma) = (sku.unit_weight_mg as f64, sku.unit_sigma_mg as f64);
            // What an installer would find for a settled reading: a few averaged samples, laid down anew each time.
            let settled = spec.noise_mg.powi(2) / 4.0 + plateau_sigma(spec, unit, sigma, 1).powi(2);
            json!({
                "channel": match device.modbus {
                    Some(on) => on.make.channels()[channel].to_owned(),
                    None => channel.to_string(),
                },
                "slot": stock.line(*slot).slot,
                "division_mg": spec.division_mg,
                "noise_mg": settled.sqrt().ceil().max(1.0) as i64,
                "zero_mg": zero_mg(spec),
            })
        };
        if let Some(on) = device.modbus {
            body["profile"] = json!(on.make.profile());
        }
        body["channels"] = device.slots.iter().enumerate().map(channel).collect();
    }
    body
}

/// The counts of a world's scanned lines.
pub(crate) fn counts(scenario: &Scenario, stock: &Stock) -> Vec<CountCall> {
    let path = format!("/facilities/{}/counts", scenario.facility.id);
    (0..stock.len())
        .map(|s| stock.line(s))
        .filter(|line| line.source == Source::Scan)
        .map(|line| CountCall {
            path: path.clone(),
            body: json!({"slot": line.slot, "sku": line.sku, "quantity": line.initial}),
            counted: (line.slot.to_string(), line.sku.to_string(), line.initial),
        })
        .collect()
}
