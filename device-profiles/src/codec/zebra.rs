//! Events of Zebra readers: fixed ones with the IoT Connector (FX7500, FX9600, FXR90, ATR7000), and the RFD40 and RFD90 sleds.
//!
//! A frame is an event, a list of events, or events glued together `}{`. Those are read that have `data`:
//!
//! ```text
//!  data.idHex                 a tag, with antenna, peakRssi (dBm), reads; data.eventNum counts the events of the reader
//!  data.tagData[]             tags of a sled; idHex, epcId or id
//!  data.barcodeData[]         codes of a sled's imager; read only where the profile says what a scan means
//! ```
//! The reader keeps events while it has no connection and sends them later, a flood of old ones: each read has the time of its
//! event. `eventNum` tells what it gave up: gaps within a frame are counted here, gaps between frames by whoever has seen the
//! frame before. Management events (heartbeats, GPI, errors) are signs of life and nothing more.

use crate::{
    codec::{
        json::Node,
        tags::{Gathered, read_tag},
    },
    limits::CODE_BYTES_MAX,
    profile::{Kind, Profile, TagEncoding},
    reading::{DecodeReject, Measurement, Reading, ScanMode, TagRead},
    time::parse_rfc3339_us,
    units::Units,
};

/// Largest gap of event numbers within a frame that is counted as loss, in events. A larger one is of a source that began anew,
/// as between frames.
pub const GAP_EVENTS_MAX: u64 = 1_000_000;

/// Decodes one frame.
pub fn decode(profile: &Profile, name: &str, raw: &[u8]) -> Result<Reading, DecodeReject> {
    let scans = match profile.stream(name).map(|stream| &stream.kind) {
        Some(Kind::Tags(map)) => map.scans,
        Some(_) | None => return Err(DecodeReject::UnknownStream(name.to_owned())),
    };
    let values = Node::parse_all(raw)?;
    if values.is_empty() {
        return Err(DecodeReject::Empty);
    }
    let mut frame = Frame { scans, found: Gathered::default(), numbers: Vec::new() };
    for value in &values {
        match value {
            Node::Array(events) => events.iter().try_for_each(|one| frame.event(one))?,
            one @ (Node::Null
            | Node::Bool(_)
            | Node::Int(_)
            | Node::Big(_)
            | Node::Float(_)
            | Node::Str(_)
            | Node::Object(_)) => frame.event(one)?,
        }
    }
    frame.number()?;
    let device_us = frame.found.newest();
    Ok(Reading { seq: None, boot: None, device_us, measurements: frame.found.finish() })
}

/// The time of an event: RFC 3339, or with an offset without a colon, `+0000`.
fn time(text: &str) -> Option<i64> {
    parse_rfc3339_us(text).or_else(|| {
        let (date, offset) = text.split_at_checked(text.len().checked_sub(5)?)?;
        let (sign_hours, minutes) = offset.split_at_checked(3)?;
        parse_rfc3339_us(&format!("{date}{sign_hours}:{minutes}"))
    })
}

struct Frame {
    scans: Option<ScanMode>,
    found: Gathered,
    numbers: Vec<u64>,
}

impl Frame {
    fn event(&mut self, event: &Node<'_>) -> Result<(), DecodeReject> {
        if !matches!(event, Node::Object(_)) {
            return Err(DecodeReject::WrongType { path: "event".into(), expected: "an object" });
        }
        let data = event.member("data").ok_or_else(|| DecodeReject::Missing("/data".into()))?;
        let at = event.member("timestamp").and_then(Node::as_text).and_then(time);
        if let Some(number) = data.member("eventNum").and_then(Node::as_count) {
            self.numbers.push(number);
        }
        if data.member("idHex").is_some() {
            self.tag(data, at)?;
        }
        if let Some(Node::Array(tags)) = data.member("tagData") {
            tags.iter().try_for_each(|tag| self.tag(tag, at))?;
        }
        if let (Some(mode), Some(Node::Array(codes))) = (self.scans, data.member("barcodeData")) {
            self.found.heard(at);
            codes.iter().try_for_each(|code| self.scan(code, mode))?;
        }
        Ok(())
    }

    fn tag(&mut self, data: &Node<'_>, at: Option<i64>) -> Result<(), DecodeReject> {
        let id = ["idHex", "epcId", "id"].iter().find_map(|name| data.member(name)?.as_text());
        let Some(tag) = id.and_then(|id| read_tag(id, TagEncoding::Hex)) else {
            return self.found.no_tag();
        };
        let count = |name: &str| {
            data.member(name).and_then(Node::as_count).and_then(|n| u16::try_from(n).ok())
        };
        let rssi = data.member("peakRssi").or(data.member("rssi")).and_then(Node::as_number);
        let cdbm = rssi.map(|dbm| (dbm * 100.0).round());
        let seen = data.member("timestamp").and_then(Node::as_text).and_then(time);
        self.found.tag(TagRead {
            tag,
            antenna: count("antenna").filter(|port| *port > 0).unwrap_or(1),
            rssi_cdbm: cdbm.filter(|c| c.abs() <= f64::from(i16::MAX)).map(|c| c as i16),
            reads: count("reads").or(count("seenCount")).unwrap_or(1).max(1),
            device_us: seen.or(at),
        })
    }

    fn scan(&mut self, code: &Node<'_>, mode: ScanMode) -> Result<(), DecodeReject> {
        let path = || "/data/barcodeData/decodedBarcode".to_owned();
        let text = code.member("decodedBarcode").and_then(Node::as_text);
        let text = text.ok_or_else(|| DecodeReject::Missing(path()))?;
        if text.is_empty() || text.len() > CODE_BYTES_MAX {
            return Err(DecodeReject::OutOfRange(path()));
        }
        let code = super::scanner::name_of(text)?;
        self.found.add(Measurement::Scan { code, mode, quantity: Units(1), slot: None })
    }

    /// Tells the numbers of the events, and how many are missing between them.
    fn number(&mut self) -> Result<(), DecodeReject> {
        self.numbers.sort_unstable();
        self.numbers.dedup();
        let (Some(first), Some(last)) =
            (self.numbers.first().copied(), self.numbers.last().copied())
        else {
            return Ok(());
        };
        let gaps = self.numbers.iter().zip(self.numbers.iter().skip(1)).map(|(a, b)| b - a);
        let missing = gaps.filter(|gap| *gap <= GAP_EVENTS_MAX).map(|gap| gap - 1).sum();
        self.found.add(Measurement::Numbers { first, last, missing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_too_far_apart_to_be_a_gap_are_no_loss() {
        let far = 1 + GAP_EVENTS_MAX;
        for (numbers, missing) in [
            (&[1, 2, 5][..], 2),
            (&[1, far], GAP_EVENTS_MAX - 1),
            (&[1, far + 1], 0),
            (&[1, 2, 4, 1 << 63, (1 << 63) + 2], 2),
            (&[0, u64::MAX], 0),
            (&[7, 7], 0),
        ] {
            let found = Gathered::default();
            let mut frame = Frame { scans: None, found, numbers: numbers.to_vec() };
            frame.number().unwrap();
            let told = frame.found.finish();
            let [Measurement::Numbers { missing: told, .. }] = told[..] else { panic!("{told:?}") };
            assert_eq!(told, missing, "{numbers:?}");
        }
    }

    #[test]
    fn offsets_without_a_colon() {
        let at = parse_rfc3339_us("2026-11-24T05:00:00.5Z");
        for text in ["2026-11-24T05:00:00.500+0000", "2026-11-24T07:00:00.5+0200"] {
            assert_eq!(time(text), at, "{text}");
        }
        for text in ["", "+0000", "2026-11-24T05:00:00", "né+00é0", "2026-11-24T05:00:00+00é"] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
