//! What the codecs of tag readers share: an EPC memory as text, and the gathering of what a frame says.

use crate::{
    limits::TAGS_MAX,
    profile::TagEncoding,
    reading::{DecodeReject, Measurement, ReaderEvent, TagRead},
    tag::{TAG_BYTES_MAX, Tag},
};

/// The tag that a text names; `None` when it names none.
pub(super) fn read_tag(text: &str, encoding: TagEncoding) -> Option<Tag> {
    match encoding {
        TagEncoding::Hex => text.parse().ok(),
        TagEncoding::Base64 => base64(text).and_then(|bytes| Tag::of_bytes(&bytes).ok()),
    }
}

/// Base 64 (RFC 4648 §4 and §5), padded or not, as far as a tag can go.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if digits.len() > TAG_BYTES_MAX.div_ceil(3) * 4 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - group.len());
        let whole = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bytes.extend(bits.to_be_bytes().into_iter().skip(1).take(whole));
    }
    Some(bytes)
}

/// What a frame says, as it is gathered; bounded by [`TAGS_MAX`].
#[derive(Default)]
pub(super) struct Gathered {
    measurements: Vec<Measurement>,
    unnamed: u64,
    newest: Option<i64>,
}

impl Gathered {
    /// Something was heard at a time of the device's clock.
    pub(super) fn heard(&mut self, device_us: Option<i64>) {
        self.newest = self.newest.max(device_us);
    }

    /// Adds a read.
    pub(super) fn tag(&mut self, read: TagRead) -> Result<(), DecodeReject> {
        self.heard(read.device_us);
        self.add(Measurement::Tag(read))
    }

    /// Adds anything else.
    pub(super) fn add(&mut self, measurement: Measurement) -> Result<(), DecodeReject> {
        if self.measurements.len() >= TAGS_MAX {
            return Err(DecodeReject::TooLarge("tags"));
        }
        self.measurements.push(measurement);
        Ok(())
    }

    /// Adds an event of the reader.
    pub(super) fn event(&mut self, event: ReaderEvent) -> Result<(), DecodeReject> {
        self.add(Measurement::Reader(event))
    }

    /// Counts a read that names no tag.
    #[allow(clippy::unnecessary_wraps, reason = "the twin of `tag`")]
    pub(super) fn no_tag(&mut self) -> Result<(), DecodeReject> {
        self.unnamed += 1;
        Ok(())
    }

    /// When the newest was heard.
    pub(super) fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// Everything, with one line about the reads that named no tag.
    pub(super) fn finish(mut self) -> Vec<Measurement> {
        if self.unnamed > 0 {
            let text = format!("{} tags with an empty or an impossible EPC memory", self.unnamed);
            self.measurements.push(Measurement::Reader(ReaderEvent::Trouble { text }));
        }
        self.measurements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alphabets_with_and_without_padding() {
        let hex = "7EDA9038051002710002C0AE";
        for text in ["ftqQOAUQAnEAAsCu", "ftqQOAUQAnEAAsCu===="] {
            assert_eq!(read_tag(text, TagEncoding::Base64).unwrap().to_string(), hex);
        }
        for (text, hex) in [("_-8", "FFEF"), ("/+8=", "FFEF"), ("AA==", "00"), ("AAE", "0001")] {
            assert_eq!(read_tag(text, TagEncoding::Base64).unwrap().to_string(), hex, "{text}");
        }
        for text in ["", "=", "A", "AB*C", "ftqQO", &"A".repeat(100)] {
            assert_eq!(read_tag(text, TagEncoding::Base64), None, "{text}");
        }
        assert_eq!(read_tag("7eda", TagEncoding::Hex).unwrap().bits(), 16);
        assert_eq!(read_tag("7ed", TagEncoding::Hex), None);
    }
}
