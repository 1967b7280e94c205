//! Shelves: slots that stand on the cells of Modbus transmitters, and what the hub says of them.

use serde_json::{Value, json};

use crate::{Hub, wait::until};

/// Unit weight of every SKU, grams.
const UNIT_G: u32 = 100;

/// A facility whose slots stand on the cells of Modbus devices.
pub struct Shelves<'a> {
    hub: &'a Hub,
    facility: String,
}

impl<'a> Shelves<'a> {
    /// Makes the facility with one shelf.
    pub fn open(hub: &'a Hub, facility: &str) -> Self {
        let data = json!({
            "facilities": [{ "id": facility, "name": facility }],
            "shelves": [{ "facility": facility, "id": "shelf", "name": "Shelf" }],
        });
        hub.api().post("/import", &data).good();
        Self { hub, facility: facility.to_owned() }
    }

    /// Enrols a transmitter; each channel gets a slot and a SKU of its own, known to be empty at zero.
    pub fn enrol(&self, device: &str, profile: &str, channels: &[&str]) {
        let facility = &self.facility;
        let slot = |c: &&str| format!("{device}-{c}");
        let data = json!({
            "slots": channels.iter().map(|c| json!({ "facility": facility, "id": slot(c), "shelf": "shelf" })).collect::<Vec<_>>(),
            "skus": channels.iter().map(|c| json!({ "id": format!("{facility}-{}", slot(c)), "name": slot(c), "unit_weight_mg": UNIT_G * 1_000, "unit_sigma_mg": 500 })).collect::<Vec<_>>(),
            "planogram": channels.iter().map(|c| json!({ "facility": facility, "slot": slot(c), "sku": format!("{facility}-{}", slot(c)), "source": "weight" })).collect::<Vec<_>>(),
            "devices": [{
                "facility": facility, "id": device, "name": device, "profile": profile,
                "channels": channels.iter().map(|c| json!({ "channel": c, "slot": slot(c), "division_mg": 1_000, "noise_mg": 500, "zero_mg": 0 })).collect::<Vec<_>>(),
            }],
        });
        let made = self.hub.api().post("/import", &data);
        assert!(made.status < 300, "{:#}", made.body);
    }

    /// Adds a bus.
    pub fn bus(&self, id: &str, address: &str) {
        let new = json!({ "id": id, "facility": self.facility, "address": address });
        self.hub.api().post("/buses", &new).good();
    }

    /// Puts a transmitter on a bus.
    pub fn place(&self, device: &str, bus: &str, unit: u8) {
        let path = format!("/devices/{device}/bus");
        self.hub.api().put(&path, &json!({ "bus": bus, "unit": unit })).good();
    }

    /// The quantity in a slot; `None` while nothing is known of it.
    pub fn quantity(&self, slot: &str) -> Option<i64> {
        let facility = &self.facility;
        let lines = self.hub.api().all(&format!("/stock?facility={facility}&slot={slot}"));
        lines.first().and_then(|line| line["quantity"].as_i64())
    }

    /// Waits until a slot shows a quantity.
    pub fn shows(&self, slot: &str, quantity: i64) {
        until(&format!("{slot} shows {quantity}"), || {
            (self.quantity(slot) == Some(quantity)).then_some(())
        });
    }

    /// What the hub says of a unit.
    pub fn unit(&self, bus: &str, device: &str) -> Value {
        let bus = self.hub.api().get(&format!("/buses/{bus}")).good();
        let units = bus["units"].as_array().unwrap();
        units.iter().find(|unit| unit["device"] == device).cloned().unwrap_or_default()
    }

    /// What was booked, oldest first: slot and delta.
    pub fn movements(&self) -> Vec<(String, i64)> {
        let all = self.hub.api().all(&format!("/movements?facility={}", self.facility));
        let one =
            |m: &Value| (m["slot"].as_str().unwrap().to_owned(), m["delta"].as_i64().unwrap());
        all.iter().map(one).collect()
    }

    /// Whether a discrepancy of this kind is open.
    pub fn open_discrepancy(&self, kind: &str) -> bool {
        let facility = &self.facility;
        let all = self.hub.api().all(&format!("/discrepancies?facility={facility}"));
        all.iter().any(|d| d["kind"] == kind && d["closed_at"].is_null())
    }
}

/// A Laumas at rest with so many units on it.
pub fn laumas(units: u32) -> [u16; 3] {
    let grams = units * UNIT_G;
    [0x0800, (grams >> 16) as u16, grams as u16]
}
