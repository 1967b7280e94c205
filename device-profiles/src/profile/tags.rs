//! Tag streams: what a reader of tags says, and how long its silence says that nothing is there.
//!
//! No read is evidence of absence only while the reader listens. A reader that gives signs of life is believed to listen from
//! one frame to the next, as long as they are not further apart than `patience_ms`; one that gives none is always believed.
//!
//! A codec of a vendor knows where its fields are. For codec `json` the profile says it: `each` names the list of the tags (the
//! whole frame is one tag without it), and the other pointers lead on from one of them. Only `at` is looked for in the frame,
//! too, when the tag has none of its own.
//!
//! A handheld reads barcodes as well. `scans` says what they mean; without it they are passed over. A repeated read of a tag is
//! harmless, a repeated scan is not: `scans` needs a `dedupe` that tells repeats.

use serde::Deserialize;

use super::{Codec, Dedupe, ProfileError, invalid, plain::ModeText};
use crate::{codec::json::Pointer, reading::ScanMode};

/// Longest patience, in milliseconds.
pub const PATIENCE_MS_MAX: u32 = 3_600_000;
/// Largest factor of a signal's figure; 100 makes 1/100 dBm of dBm.
pub const RSSI_SCALE_MAX: f64 = 1_000.0;

/// What a stream of tags is like.
#[derive(Debug, Clone, PartialEq)]
pub struct TagsMap {
    /// Longest time between two frames in which the reader is believed to have listened, in milliseconds; `None` = it always
    /// listens, and its silence says that it hears nothing.
    pub patience_ms: Option<u32>,
    /// What a barcode means that comes among the tags (codec `zebra`); `None` = nothing.
    pub scans: Option<ScanMode>,
    /// Where the fields of a tag are, for codec `json`.
    pub fields: Option<TagFields>,
}

/// Where the fields of a tag are.
#[derive(Debug, Clone, PartialEq)]
pub struct TagFields {
    /// The list of tags in the frame; `None` = the frame is one tag.
    pub each: Option<Pointer>,
    /// The EPC memory, a string.
    pub epc: Pointer,
    /// How it is written.
    pub encoding: TagEncoding,
    /// The antenna, a whole number from 1.
    pub antenna: Option<Pointer>,
    /// The signal, a number.
    pub rssi: Option<Pointer>,
    /// Makes 1/100 dBm of it.
    pub rssi_scale: f64,
    /// When it was heard: Unix milliseconds or RFC 3339.
    pub at: Option<Pointer>,
    /// How often it was heard, a whole number.
    pub reads: Option<Pointer>,
}

/// How an EPC memory is written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagEncoding {
    /// Pairs of hexadecimal digits.
    #[default]
    Hex,
    /// Base 64, of either alphabet, with or without padding.
    Base64,
}

/// The same as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TagsText {
    #[serde(default)]
    patience_ms: Option<u32>,
    #[serde(default)]
    scans: Option<ModeText>,
    #[serde(default)]
    each: Option<Pointer>,
    #[serde(default)]
    epc: Option<Pointer>,
    #[serde(default)]
    encoding: Option<TagEncoding>,
    #[serde(default)]
    antenna: Option<Pointer>,
    #[serde(default)]
    rssi: Option<RssiText>,
    #[serde(default)]
    at: Option<Pointer>,
    #[serde(default)]
    reads: Option<Pointer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RssiText {
    path: Pointer,
    #[serde(default = "dbm")]
    scale: f64,
}

/// The factor of a figure in dBm.
fn dbm() -> f64 {
    100.0
}

impl TagsText {
    /// Checks it.
    pub(super) fn check(self, codec: Codec, dedupe: Dedupe) -> Result<TagsMap, ProfileError> {
        match self.patience_ms {
            Some(0) => {
                return Err(invalid(
                    "patience_ms must be 1 or more; without it the reader always listens",
                ));
            }
            Some(ms) if ms > PATIENCE_MS_MAX => {
                return Err(invalid(format!("patience_ms must be {PATIENCE_MS_MAX} or less")));
            }
            Some(_) | None => {}
        }
        if self.scans.is_some() && codec != Codec::Zebra {
            return Err(invalid("scans need codec: zebra"));
        }
        if self.scans.is_some() && dedupe == Dedupe::Level {
            return Err(invalid("each scan changes stock, so dedupe must be payload"));
        }
        let (patience_ms, scans) = (self.patience_ms, self.scans.map(ModeText::mode));
        Ok(TagsMap { patience_ms, scans, fields: self.fields(codec)? })
    }

    fn fields(self, codec: Codec) -> Result<Option<TagFields>, ProfileError> {
        let mapped = self.each.is_some()
            || self.encoding.is_some()
            || self.antenna.is_some()
            || self.rssi.is_some()
            || self.at.is_some()
            || self.reads.is_some();
        match (codec.reads_json(), self.epc) {
            (true, None) => Err(invalid("tags need epc, the place of the EPC memory")),
            (false, None) if !mapped => Ok(None),
            (false, _) => Err(invalid(format!(
                "codec: {} knows where the fields of a tag are",
                codec.as_str()
            ))),
            (true, Some(epc)) => {
                let (rssi, rssi_scale) =
                    self.rssi.map_or((None, dbm()), |text| (Some(text.path), text.scale));
                if !rssi_scale.is_finite() || rssi_scale.abs() > RSSI_SCALE_MAX {
                    return Err(invalid(format!(
                        "the scale of rssi must be between -{RSSI_SCALE_MAX} and {RSSI_SCALE_MAX}"
                    )));
                }
                Ok(Some(TagFields {
                    each: self.each,
                    epc,
                    encoding: self.encoding.unwrap_or_default(),
                    antenna: self.antenna,
                    rssi,
                    rssi_scale,
                    at: self.at,
                    reads: self.reads,
                }))
            }
        }
    }
}
