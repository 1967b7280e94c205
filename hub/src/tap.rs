//! The lossy tap: what sensors show now, for eyes. Never stock, never durable.
//!
//! Values are coalesced by key: only the newest of each is kept. While nobody looks, nothing is kept.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use device_profiles::{FacilityId, Measurement, Reading, Value};

use crate::desk::LiveValue;

/// Keys kept; values of further ones are not shown.
pub const KEYS_MAX: usize = 50_000;
/// The tap runs on for so long after the last look, in microseconds.
const LOOK_US: i64 = 5_000_000;

/// Newest values of a facility by device and name, each with its time in microseconds.
type Site = BTreeMap<(String, String), (f64, i64)>;

/// Newest values by facility.
#[derive(Default)]
pub struct Tap {
    looked_us: AtomicI64,
    values: Mutex<HashMap<FacilityId, Site>>,
}

impl Tap {
    /// Takes what a reading shows, if somebody looks.
    pub fn take(&self, facility: &FacilityId, device: &str, reading: &Reading, now_us: i64) {
        if now_us.saturating_sub(self.looked_us.load(Relaxed)) > LOOK_US {
            return;
        }
        for measurement in &reading.measurements {
            let shown = match measurement {
                // The mass of a broken cell is not shown: it would look like one.
                Measurement::Weight { fault: Some(_), .. } => None,
                Measurement::Weight { channel, mass, .. } => {
                    Some((format!("weight.{channel}"), mass.0 as f64 / 1_000.0))
                }
                Measurement::Value { name, value: Value::Number(number) } => {
                    Some((name.clone(), *number))
                }
                Measurement::Value { name, value: Value::Bool(on) } => {
                    Some((name.clone(), if *on { 1.0 } else { 0.0 }))
                }
                Measurement::Value { value: Value::Text(_), .. }
                | Measurement::Stock { .. }
                | Measurement::Scan { .. }
                | Measurement::Tag(_)
                | Measurement::Reader(_)
                | Measurement::Numbers { .. } => None,
            };
            let Some((name, value)) = shown else { continue };
            let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
            let site = values.entry(facility.clone()).or_default();
            let key = (device.to_owned(), name);
            if site.len() < KEYS_MAX || site.contains_key(&key) {
                site.insert(key, (value, now_us));
            }
        }
    }

    /// Values of a facility that came after `since_us`.
    pub fn since(&self, facility: &FacilityId, since_us: i64, now_us: i64) -> Vec<LiveValue> {
        self.looked_us.store(now_us, Relaxed);
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(site) = values.get(facility) else { return Vec::new() };
        site.iter()
            .filter(|(_, (_, at))| *at > since_us)
            .map(|((device, name), (value, at))| LiveValue {
                facility: facility.clone(),
                device: device.clone(),
                name: name.clone(),
                value: *value,
                at_us: *at,
            })
            .collect()
    }
}
