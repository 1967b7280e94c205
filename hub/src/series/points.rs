//! From records to points; pure but for what it remembers of profiles and of the last weight of each cell.
//!
//! Names and texts come from devices and may hold anything. What no store can keep alike is replaced here, once for both:
//! control characters, and a backslash at the end of a name, which would swallow what follows it in line protocol, become
//! U+FFFD. The raw frame is in the journal.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use actors::journal::Record;
use device_profiles::{Measurement, Profile, ProfileHash, Value, decode, profile::Kind};
use fold::{Body, HubTime, Position, wire};

use super::{Point, Reading, TIES_MAX, line::is_unfit};

/// Cells whose last point is remembered.
pub const CELLS_MAX: usize = 100_000;
/// At most one weight of a cell in this time, in microseconds.
pub const WEIGHT_EVERY_US: i64 = 1_000_000;
/// A device clock may be off by so much and still stamp its points, in microseconds; else the time of reception does.
pub const CLOCK_OFF_US_MAX: i64 = 86_400_000_000;

/// What turns records into points.
#[derive(Default)]
pub struct Points {
    profiles: HashMap<ProfileHash, Arc<Profile>>,
    weighed: BTreeMap<(Arc<str>, String), i64>,
}

impl Points {
    /// Learns a profile.
    pub fn learn(&mut self, profile: Profile) {
        self.profiles.insert(profile.hash, Arc::new(profile));
    }

    /// The points of a record.
    pub fn of(&mut self, record: &Record, out: &mut Vec<Point>) {
        // Most frames change stock and are no series; telling so must cost next to nothing.
        if record.kind == wire::KIND_FRAME
            && let Some((hash, stream)) = wire::frame_stream(&record.payload)
            && let Some(stream) =
                self.profiles.get(&hash).and_then(|profile| profile.stream(stream))
            && matches!(stream.kind, Kind::Stock(_) | Kind::Scan(_))
        {
            return;
        }
        let position = Position::default();
        let unknown = actors::stock::start::unknown_facility();
        let entry =
            wire::decode(position, HubTime(record.at_us), record.kind, &record.payload, &unknown);
        match &entry.body {
            Body::Profile(text) => {
                if let Ok(profile) = Profile::parse(text) {
                    self.learn(profile);
                }
            }
            Body::Frame(frame) => {
                let Some(profile) = self.profiles.get(&frame.profile).cloned() else { return };
                let Ok(reading) = decode(&profile, &frame.stream, &frame.raw) else { return };
                let at_us = reading
                    .device_us
                    .filter(|us| {
                        us.saturating_sub(record.at_us).saturating_abs() <= CLOCK_OFF_US_MAX
                    })
                    .unwrap_or(record.at_us);
                let seq = frame.seq.unwrap_or(record.seq);
                let stamp = Stamp {
                    at_us,
                    tie: u16::try_from(seq % TIES_MAX).unwrap_or(0),
                    facility: Arc::from(entry.facility.as_str()),
                    device: Arc::from(frame.device.as_str()),
                };
                for measurement in reading.measurements {
                    self.point(&stamp, measurement, out);
                }
            }
            Body::Tick
            | Body::Master(_)
            | Body::Command(_)
            | Body::Quarantined { .. }
            | Body::FoldUpgraded { .. }
            | Body::Restated { .. }
            | Body::Unreadable { .. } => {}
        }
    }

    fn point(&mut self, stamp: &Stamp, measurement: Measurement, out: &mut Vec<Point>) {
        let (name, value) = match measurement {
            Measurement::Weight { fault: Some(_), .. } => return,
            Measurement::Weight { channel, mass, .. } => {
                if !self.is_due(stamp, channel.to_string()) {
                    return;
                }
                (format!("weight.{channel}"), Reading::Number(mass.0 as f64 / 1_000.0))
            }
            Measurement::Value { name, value: Value::Number(number) } => {
                (name, Reading::Number(number))
            }
            Measurement::Value { name, value: Value::Bool(on) } => {
                (name, Reading::Number(if on { 1.0 } else { 0.0 }))
            }
            Measurement::Value { name, value: Value::Text(text) } => {
                (name, Reading::Text(fit(text)))
            }
            Measurement::Stock { .. }
            | Measurement::Scan { .. }
            | Measurement::Tag(_)
            | Measurement::Reader(_)
            | Measurement::Numbers { .. } => return,
        };
        let mut name = fit(name);
        if name.ends_with('\\') {
            name.pop();
            name.push(char::REPLACEMENT_CHARACTER);
        }
        let Stamp { at_us, tie, facility, device } = stamp.clone();
        out.push(Point { at_us, tie, facility, device, name, value });
    }

    /// Whether a cell's weight is to be kept; then it is the last one.
    fn is_due(&mut self, stamp: &Stamp, channel: String) -> bool {
        let key = (Arc::clone(&stamp.device), channel);
        if self.weighed.len() >= CELLS_MAX && !self.weighed.contains_key(&key) {
            // Somebody makes channels up; a second's worth of extra points is the price of starting over.
            self.weighed.clear();
        }
        let last = self.weighed.entry(key).or_insert(i64::MIN);
        if stamp.at_us.saturating_sub(*last) < WEIGHT_EVERY_US && *last <= stamp.at_us {
            return false;
        }
        *last = stamp.at_us;
        true
    }
}

/// What the points of one frame share.
#[derive(Clone)]
struct Stamp {
    at_us: i64,
    tie: u16,
    facility: Arc<str>,
    device: Arc<str>,
}

/// The text as every store can keep it.
fn fit(text: String) -> String {
    if text.contains(is_unfit) {
        return text.replace(is_unfit, "\u{fffd}");
    }
    text
}
