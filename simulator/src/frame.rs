//! Readings and the payload bytes that carry them, exactly as `docs/specs/api.md` writes them.
//!
//! A device makes a [`Reading`]; its link numbers it and turns it into a [`TimedFrame`]. The bytes are written by hand,
//! integer digit by digit: an accuracy run encodes tens of millions of them.

use crate::clock::Micros;
use std::sync::Arc;

/// Topic of `stream` of device `device`.
#[must_use]
pub fn topic(device: &str, stream: &str) -> String {
    format!("stockfold/v1/{device}/{stream}")
}

/// What a scan means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanMode {
    /// Goods come in.
    Receive,
    /// Goods go out.
    Pick,
}

/// What a device measured or was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// Gross weight of one cell.
    Weight {
        /// Channel of the cell.
        channel: usize,
        /// Indicated gross weight, mg.
        mg: i64,
        /// The transmitter's stable bit.
        stable: Option<bool>,
    },
    /// A movement entered on a handheld.
    Stock {
        /// SKU id.
        sku: Arc<str>,
        /// Slot id.
        slot: Arc<str>,
        /// Units; negative = taken.
        delta: i64,
    },
    /// A barcode scan.
    Scan {
        /// The code: GTIN, or the SKU's id.
        code: Arc<str>,
        /// Slot id.
        slot: Arc<str>,
        /// What the scan means.
        mode: ScanMode,
        /// Units.
        quantity: i64,
    },
    /// Values of a sensor.
    Values(Vec<(Arc<str>, f64)>),
}

/// A frame on its way to the hub.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedFrame {
    /// When it reaches the hub (for the player: when the device sends it).
    pub at: Micros,
    /// When it was measured.
    pub measured_at: Micros,
    /// Index of its device in [`crate::World::devices`].
    pub device: usize,
    /// Stream name, the topic's last level.
    pub stream: Arc<str>,
    /// Boot id, when the link sends one.
    pub boot: Option<Arc<str>>,
    /// Number in this boot, from 1.
    pub seq: u64,
    /// Sent once more with the same number.
    pub repeated: bool,
    /// Payload bytes.
    pub payload: Vec<u8>,
}

/// The numbering around a reading.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// Number in this boot.
    pub seq: u64,
    /// Boot id.
    pub boot: Option<&'a str>,
    /// Device time, unix milliseconds.
    pub ts_ms: Option<i64>,
}

/// The payload of `reading`.
#[must_use]
pub fn payload(envelope: Envelope<'_>, reading: &Reading) -> Vec<u8> {
    let mut out = Vec::with_capacity(112);
    out.extend_from_slice(b"{\"seq\":");
    integer(&mut out, envelope.seq as i64);
    if let Some(boot) = envelope.boot {
        out.extend_from_slice(b",\"boot\":");
        string(&mut out, boot);
    }
    if let Some(ts_ms) = envelope.ts_ms {
        out.extend_from_slice(b",\"ts\":");
        integer(&mut out, ts_ms);
    }
    out.extend_from_slice(b",\"values\":{");
    match reading {
        Reading::Weight { channel, mg, stable } => {
            out.extend_from_slice(b"\"g\":");
            grams(&mut out, *mg);
            match stable {
                Some(true) => out.extend_from_slice(b",\"stable\":true"),
                Some(false) => out.extend_from_slice(b",\"stable\":false"),
                None => {}
            }
            out.extend_from_slice(b",\"ch\":\"");
            integer(&mut out, *channel as i64);
            out.push(b'"');
        }
        Reading::Stock { sku, slot, delta } => {
            out.extend_from_slice(b"\"sku\":");
            string(&mut out, sku);
            out.extend_from_slice(b",\"delta\":");
            integer(&mut out, *delta);
            out.extend_from_slice(b",\"slot\":");
            string(&mut out, slot);
        }
        Reading::Scan { code, slot, mode, quantity } => {
            out.extend_from_slice(b"\"code\":");
            string(&mut out, code);
            out.extend_from_slice(match mode {
                ScanMode::Receive => b",\"mode\":\"receive\",\"quantity\":".as_slice(),
                ScanMode::Pick => b",\"mode\":\"pick\",\"quantity\":".as_slice(),
            });
            integer(&mut out, *quantity);
            out.extend_from_slice(b",\"slot\":");
            string(&mut out, slot);
        }
        Reading::Values(values) => {
            for (i, (name, value)) in values.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                string(&mut out, name);
                out.push(b':');
                out.extend_from_slice(value.to_string().as_bytes());
            }
        }
    }
    out.extend_from_slice(b"}}");
    out
}

/// Writes `n` in decimal.
fn integer(out: &mut Vec<u8>, n: i64) {
    if n < 0 {
        out.push(b'-');
    }
    let mut digits = [0_u8; 20];
    let (mut rest, mut at) = (n.unsigned_abs(), digits.len());
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes milligrams as grams, without trailing zeros.
fn grams(out: &mut Vec<u8>, mg: i64) {
    if mg < 0 {
        out.push(b'-');
    }
    let (whole, mut part) = (mg.unsigned_abs() / 1_000, mg.unsigned_abs() % 1_000);
    integer(out, whole as i64);
    if part > 0 {
        out.push(b'.');
        let mut unit = 100;
        while part > 0 {
            out.push(b'0' + (part / unit) as u8);
            part %= unit;
            unit /= 10;
        }
    }
}

/// Writes a JSON string; escapes what JSON must have escaped.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            0x20..=0xff => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(envelope: Envelope<'_>, reading: &Reading) -> String {
        String::from_utf8(payload(envelope, reading)).unwrap()
    }

    #[test]
    fn payloads_are_those_of_the_specification() {
        let full = Envelope { seq: 7, boot: Some("b1"), ts_ms: Some(1_767_225_600_123) };
        let bare = Envelope { seq: 1, boot: None, ts_ms: None };
        let weight = Reading::Weight { channel: 3, mg: 1_234_500, stable: Some(true) };
        assert_eq!(
            text(full, &weight),
            r#"{"seq":7,"boot":"b1","ts":1767225600123,"values":{"g":1234.5,"stable":true,"ch":"3"}}"#
        );
        let silent = Reading::Weight { channel: 0, mg: -50, stable: None };
        assert_eq!(text(bare, &silent), r#"{"seq":1,"values":{"g":-0.05,"ch":"0"}}"#);
        let stock = Reading::Stock { sku: "TEA".into(), slot: "A-01".into(), delta: -2 };
        assert_eq!(
            text(bare, &stock),
            r#"{"seq":1,"values":{"sku":"TEA","delta":-2,"slot":"A-01"}}"#
        );
        let scan = Reading::Scan {
            code: "4006381333931".into(),
            slot: "A-01".into(),
            mode: ScanMode::Receive,
            quantity: 3,
        };
        assert_eq!(
            text(bare, &scan),
            r#"{"seq":1,"values":{"code":"4006381333931","mode":"receive","quantity":3,"slot":"A-01"}}"#
        );
        let air = Reading::Values(vec![("temperature".into(), 4.25), ("humidity".into(), 60.0)]);
        assert_eq!(text(bare, &air), r#"{"seq":1,"values":{"temperature":4.25,"humidity":60}}"#);
        assert_eq!(topic("scale-001", "weight"), "stockfold/v1/scale-001/weight");
    }

    #[test]
    fn every_payload_is_json_with_the_same_numbers() {
        for mg in [0, 1, -1, 10, 999, 1_000, 1_001, 1_234_567, -1_000_100, i64::from(i32::MAX)] {
            let reading = Reading::Weight { channel: 0, mg, stable: Some(false) };
            let bytes = payload(Envelope { seq: 1, boot: Some("a\"\\\n"), ts_ms: None }, &reading);
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let g = value["values"]["g"].as_f64().unwrap();
            assert_eq!((g * 1_000.0).round() as i64, mg);
            assert_eq!(value["boot"], "a\"\\\n");
        }
    }
}
