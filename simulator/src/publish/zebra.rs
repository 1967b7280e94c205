//! Events of a Zebra reader with the IoT Connector, mode SIMPLE: numbered through, in a list or glued together.

use crate::{clock::rfc3339, llrp::Read};
use serde_json::{Value, json};

/// A Zebra reader's writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zebra {
    /// The number of the next event.
    pub next: u64,
    /// Events follow each other without a list around them, `}{`.
    pub glued: bool,
}

impl Default for Zebra {
    fn default() -> Self {
        Self { next: 1, glued: false }
    }
}

impl Zebra {
    /// Gives up so many events: their numbers are missing.
    pub fn skip(&mut self, events: u64) {
        self.next = self.next.saturating_add(events);
    }

    /// A message of some reads.
    pub fn message(&mut self, reads: &[Read]) -> Vec<u8> {
        let events: Vec<Value> = reads.iter().map(|read| self.event(read)).collect();
        if self.glued {
            return events.iter().map(Value::to_string).collect::<String>().into_bytes();
        }
        Value::Array(events).to_string().into_bytes()
    }

    fn event(&mut self, read: &Read) -> Value {
        let number = self.next;
        self.skip(1);
        json!({
            "type": "SIMPLE",
            // An offset without a colon, as the reader writes it.
            "timestamp": rfc3339(read.at_us).replace('Z', "+0000"),
            "data": {
                "eventNum": number,
                "format": "epc",
                "idHex": read.tag.to_string().to_lowercase(),
                "antenna": read.antenna,
                "peakRssi": (f64::from(read.rssi_cdbm) / 100.0).round() as i64,
                "reads": 1,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_and_skip_in_lists_and_glued() {
        let tag = "3034257BF7194E4000001A85".parse().unwrap();
        let read = Read { at_us: 1_500_000, antenna: 2, tag, rssi_cdbm: -5_206 };
        let mut reader = Zebra::default();
        let list: Value = serde_json::from_slice(&reader.message(&[read, read])).unwrap();
        let event = |number: u64| {
            json!({ "type": "SIMPLE", "timestamp": "1970-01-01T00:00:01.500+0000", "data": {
                "eventNum": number, "format": "epc", "idHex": "3034257bf7194e4000001a85",
                "antenna": 2, "peakRssi": -52, "reads": 1 } })
        };
        assert_eq!(list, json!([event(1), event(2)]));
        reader.skip(3);
        reader.glued = true;
        let glued = reader.message(&[read, read]);
        assert!(glued.windows(2).any(|two| two == b"}{"));
        let events = serde_json::Deserializer::from_slice(&glued).into_iter::<Value>();
        assert_eq!(events.map(Result::unwrap).collect::<Vec<_>>(), [event(6), event(7)]);
    }
}
