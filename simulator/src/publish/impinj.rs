//! Events of an Impinj reader (R700 family) with the IoT device interface: a list of them in each message, one of each read.

use crate::{clock::rfc3339, llrp::Read};
use serde_json::{Value, json};

/// An Impinj reader's writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impinj {
    /// The name that the reader gives itself.
    pub hostname: String,
    /// `epcHex` is switched on beside `epc`.
    pub hex: bool,
    /// Events were given up; the next message says so, once.
    pub overflowed: bool,
}

impl Impinj {
    /// A reader of this name, with base 64 and nothing else switched on.
    #[must_use]
    pub fn new(hostname: &str) -> Self {
        Self { hostname: hostname.to_owned(), hex: false, overflowed: false }
    }

    /// A message of some reads, queued at a moment, Unix microseconds.
    pub fn message(&mut self, reads: &[Read], now_us: i64) -> Vec<u8> {
        let mut events = Vec::with_capacity(reads.len() + 1);
        if std::mem::take(&mut self.overflowed) {
            events.push(self.event(now_us, "overflow", "overflowEvent", json!({})));
        }
        for read in reads {
            let mut tag = json!({
                "epc": base64url(read.tag.bytes()),
                "antennaPort": read.antenna,
                "peakRssiCdbm": read.rssi_cdbm,
                "lastSeenTime": rfc3339(read.at_us),
            });
            if self.hex {
                tag["epcHex"] = read.tag.to_string().into();
            }
            events.push(self.event(now_us, "tagInventory", "tagInventoryEvent", tag));
        }
        Value::Array(events).to_string().into_bytes()
    }

    fn event(&self, now_us: i64, kind: &str, name: &str, said: Value) -> Value {
        json!({ "timestamp": rfc3339(now_us), "hostname": self.hostname, "eventType": kind, name: said })
    }
}

/// Base 64 with the alphabet of URLs (RFC 4648 §5), filled up with `=`.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * n) & 63) as usize);
            let is_there = n <= group.len() as u32;
            text.push(if is_there { digit.map_or('=', |d| (*d).into()) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_profiles::Tag;

    #[test]
    fn base64_as_in_the_rfc() {
        // RFC 4648 §10, and the two digits in which the alphabets differ.
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (&[0xFF, 0xEF], "_-8="),
        ] {
            assert_eq!(base64url(bytes), text);
        }
    }

    #[test]
    fn an_event_of_each_read_behind_a_loss() {
        let tag: Tag = "3034257BF7194E4000001A85".parse().unwrap();
        let read = Read { at_us: 1_500_000, antenna: 2, tag, rssi_cdbm: -5_206 };
        let mut reader = Impinj { overflowed: true, hex: true, ..Impinj::new("r700") };
        let said: Value = serde_json::from_slice(&reader.message(&[read], 2_000_000)).unwrap();
        let head = |kind: &str| json!({ "timestamp": "1970-01-01T00:00:02.000Z", "hostname": "r700", "eventType": kind });
        let (mut loss, mut event) = (head("overflow"), head("tagInventory"));
        loss["overflowEvent"] = json!({});
        event["tagInventoryEvent"] = json!({
            "epc": "MDQle_cZTkAAABqF", "epcHex": "3034257BF7194E4000001A85", "antennaPort": 2,
            "peakRssiCdbm": -5_206, "lastSeenTime": "1970-01-01T00:00:01.500Z",
        });
        assert_eq!(said, json!([loss, event]));
        let again: Value = serde_json::from_slice(&reader.message(&[read], 2_000_000)).unwrap();
        assert_eq!(again, json!([event]), "a loss is told once");
    }
}
