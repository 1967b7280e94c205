//! The profile schema: a YAML text that says how a device's frames become readings.
//!
//! A profile names its codec, where the envelope fields (sequence number, boot id, clock) are, which foreign topics it reads,
//! and for each stream what kind of measurement it carries, how duplicates are told, and its durability class. Unknown keys
//! are errors, and every error has its line and column. Text is parsed once and compiled: pointers, topics and line forms are
//! split, so that decoding does no parsing of its own. `docs/specs/profile.md` is the schema for people.
//!
//! Codecs: `json`, one JSON value a frame; `raw`, one plain number, word, line or code a frame; `modbus`, the registers a bus
//! actor read (see [`crate::modbus`]); `llrp`, `impinj`, `zebra` and `serial-rfid`, what readers of tags say; `scanner`, a line
//! of a serial scanner and what its operator was doing; `sparkplug`, the metrics of a Sparkplug node (see
//! [`crate::sparkplug`]). All give the same measurements, so nothing behind the codec knows where a mass came from.

mod error;
mod llrp;
mod plain;
mod stream;
mod tags;
mod weight;

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;
use sha2::{Digest, Sha256};

use crate::{
    codec::json::Pointer,
    ids::ProfileId,
    limits::{PROFILE_BYTES_MAX, STREAMS_MAX, TOPICS_MAX},
    modbus::{MapText, ModbusMap},
    topic::{TopicPattern, TopicText},
};

pub use error::{Place, ProfileError};
pub(crate) use error::{invalid, place, read};
pub use llrp::{
    ANTENNAS_MAX, INVENTORY_MS_MAX, KEEPALIVE_MS_MAX, KEEPALIVE_MS_MIN, LlrpSettings,
    POWER_CDBM_MAX, REPORT_TAGS_MAX, Search, Strength,
};
pub use plain::{CodeMap, Line, LinePart, PlainType, PlainValue, ScaleState};
pub use stream::{
    Kind, Poll, RegisterMap, ScanMap, ScanPaths, StockMap, Stream, ValueField, ValuesMap,
};
pub use tags::{PATIENCE_MS_MAX, RSSI_SCALE_MAX, TagEncoding, TagFields, TagsMap};
pub use weight::{CellMap, LineMap, MassUnit, ScaleMap, WeightCells, WeightMap};

/// The text of the profile every device has unless it names another.
pub const DEFAULT_PROFILE: &str = include_str!("../../profiles/default.yaml");

/// Names a profile's content: SHA-256 of its text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProfileHash(pub [u8; 32]);

impl ProfileHash {
    /// The hash of a profile text.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

impl fmt::Display for ProfileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for ProfileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for ProfileHash {
    type Err = ProfileError;
    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let bad = || invalid("a profile hash has 64 hex digits");
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut hash = [0u8; 32];
        for (i, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(hash))
    }
}

/// Durability class of a stream: what the hub refuses first when its disk fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Changes stock.
    Stock,
    /// Informs, and may be refused at the 85 % watermark.
    Telemetry,
}

impl Class {
    /// As written in a profile.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Telemetry => "telemetry",
        }
    }
}

/// How repeats of a frame are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dedupe {
    /// By (device, boot, seq); a frame without `seq` is rejected.
    Seq,
    /// The same payload within 5 s is the same frame.
    Payload,
    /// Repeats are harmless because the stream tells levels.
    Level,
}

impl Dedupe {
    /// As written in a profile.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seq => "seq",
            Self::Payload => "payload",
            Self::Level => "level",
        }
    }
}

/// A compiled profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its name.
    pub name: ProfileId,
    /// What it is for.
    pub description: String,
    /// The byte format.
    pub codec: Codec,
    /// Envelope fields.
    pub envelope: Envelope,
    /// Foreign topics it reads; the first that matches a topic counts.
    pub topics: Vec<TopicPattern>,
    /// The register map, for codec `modbus`.
    pub modbus: Option<ModbusMap>,
    /// How the reader is set, for codec `llrp`.
    pub llrp: Option<LlrpSettings>,
    /// Streams by name.
    pub streams: BTreeMap<String, Stream>,
    /// The stream that takes every name not listed, written `"*"`.
    pub other: Option<Stream>,
    /// The hash of its text.
    pub hash: ProfileHash,
    /// Its text as written; what the journal keeps.
    pub text: String,
}

/// Byte format of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// One JSON value a frame.
    Json,
    /// One plain number, word, line or code a frame.
    Raw,
    /// The registers of a Modbus device.
    Modbus,
    /// Messages of an RFID reader that speaks LLRP.
    Llrp,
    /// Events of an Impinj reader with the IoT device interface.
    Impinj,
    /// Events of a Zebra reader with the IoT Connector, or of an RFD40 or RFD90.
    Zebra,
    /// Frames of an RFID module on a serial line.
    SerialRfid,
    /// A line of a serial scanner and what its operator was doing.
    Scanner,
    /// Metrics of a Sparkplug B node or of a device behind it, written as JSON by the host.
    Sparkplug,
}

impl Codec {
    /// As written in a profile.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Raw => "raw",
            Self::Modbus => "modbus",
            Self::Llrp => "llrp",
            Self::Impinj => "impinj",
            Self::Zebra => "zebra",
            Self::SerialRfid => "serial-rfid",
            Self::Scanner => "scanner",
            Self::Sparkplug => "sparkplug",
        }
    }

    /// Its frames are JSON that the field maps of a profile are applied to.
    pub fn reads_json(self) -> bool {
        match self {
            Self::Json | Self::Sparkplug => true,
            Self::Raw
            | Self::Modbus
            | Self::Llrp
            | Self::Impinj
            | Self::Zebra
            | Self::SerialRfid
            | Self::Scanner => false,
        }
    }

    /// Why a device of it can have no foreign topics; `None` = it can.
    fn no_topics(self) -> Option<&'static str> {
        match self {
            Self::Json | Self::Raw | Self::Impinj | Self::Zebra => None,
            Self::Modbus | Self::Llrp | Self::SerialRfid | Self::Scanner => {
                Some("the hub connects to such a device itself, so it has no topics")
            }
            Self::Sparkplug => {
                Some("the topics of Sparkplug are those of its specification; leave topics out")
            }
        }
    }
}

/// Where the envelope fields are, for codecs `json` and `sparkplug`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Frame counter, an unsigned integer.
    #[serde(default)]
    pub seq: Option<Pointer>,
    /// What `seq` is when a frame leaves it out. Writers of Protocol Buffers as JSON leave out a counter that is 0.
    #[serde(default)]
    pub seq_default: Option<u64>,
    /// Boot id, a string or integer.
    #[serde(default)]
    pub boot: Option<Pointer>,
    /// Device clock: Unix milliseconds or RFC 3339.
    #[serde(default)]
    pub ts: Option<Pointer>,
}

/// The YAML as written, before the checks that a schema cannot express.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: ProfileId,
    #[serde(default)]
    description: String,
    codec: Codec,
    #[serde(default)]
    envelope: Option<Spanned<Envelope>>,
    #[serde(default)]
    topics: Vec<Spanned<TopicText>>,
    #[serde(default)]
    modbus: Option<Spanned<MapText>>,
    #[serde(default)]
    llrp: Option<Spanned<llrp::LlrpText>>,
    streams: Spanned<BTreeMap<String, Spanned<stream::StreamText>>>,
}

impl Profile {
    /// Parses and checks a profile text. Errors say what is wrong, and at which line and column.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        if text.len() > PROFILE_BYTES_MAX {
            return Err(invalid(format!(
                "{} bytes; at most {PROFILE_BYTES_MAX} are allowed",
                text.len()
            )));
        }
        let raw: Text = read(text)?;
        let modbus = match raw.modbus {
            Some(map) => {
                let at = place(&map);
                Some(map.value.compile().map_err(|error| error.at(at))?)
            }
            None => None,
        };
        if (raw.codec == Codec::Modbus) != modbus.is_some() {
            return Err(invalid(
                "codec: modbus needs a section modbus, and no other codec has one",
            ));
        }
        let llrp = match (raw.codec, raw.llrp) {
            (Codec::Llrp, None) => Some(LlrpSettings::default()),
            (Codec::Llrp, Some(section)) => {
                let at = place(&section);
                Some(section.value.check().map_err(|error| error.at(at))?)
            }
            (_, None) => None,
            (_, Some(section)) => {
                return Err(invalid("a section llrp needs codec: llrp").at(place(&section)));
            }
        };
        let envelope = match raw.envelope {
            Some(envelope) => {
                check_envelope(raw.codec, &envelope.value)
                    .map_err(|error| error.at(place(&envelope)))?;
                envelope.value
            }
            None => Envelope::default(),
        };
        if raw.streams.value.is_empty() || raw.streams.value.len() > STREAMS_MAX {
            return Err(
                invalid(format!("it must have 1 to {STREAMS_MAX} streams")).at(place(&raw.streams))
            );
        }
        let scope = stream::Scope { codec: raw.codec, envelope: &envelope, map: modbus.as_ref() };
        let (mut streams, mut other) = (BTreeMap::new(), None);
        for (name, stream) in raw.streams.value {
            let at = place(&stream);
            let stream = stream.value.check(&scope).map_err(|error| named(&name, error).at(at))?;
            if name == "*" && modbus.is_some() {
                return Err(invalid("a stream that is polled needs a name").at(at));
            } else if name == "*" {
                other = Some(stream);
            } else {
                crate::ids::check_id(&name)
                    .map_err(|error| invalid(format!("stream {name:?}: {error}")).at(at))?;
                streams.insert(name, stream);
            }
        }
        let mut profile = Self {
            name: raw.name,
            description: raw.description,
            codec: raw.codec,
            envelope,
            topics: Vec::with_capacity(raw.topics.len()),
            modbus,
            llrp,
            streams,
            other,
            hash: ProfileHash::of(text),
            text: text.to_owned(),
        };
        for topic in raw.topics {
            let at = place(&topic);
            let pattern = profile.check_topic(topic.value).map_err(|error| error.at(at))?;
            profile.topics.push(pattern);
        }
        Ok(profile)
    }

    fn check_topic(&self, text: TopicText) -> Result<TopicPattern, ProfileError> {
        if let Some(why) = self.codec.no_topics() {
            return Err(invalid(why));
        }
        if self.topics.len() == TOPICS_MAX {
            return Err(invalid(format!("more than {TOPICS_MAX} topics")));
        }
        let pattern = text.compile().map_err(invalid)?;
        if let Some(name) = pattern.fixed_stream()
            && self.stream(name).is_none()
        {
            return Err(invalid(format!(
                "topic {:?} leads to stream {name:?}, which is not there",
                pattern.as_str()
            )));
        }
        if self.topics.iter().any(|other| other.as_str() == pattern.as_str()) {
            return Err(invalid(format!("topic {:?} is there twice", pattern.as_str())));
        }
        Ok(pattern)
    }

    /// The stream of this name, or the catch-all.
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.get(name).or(self.other.as_ref())
    }

    /// A stream of it is one of tags.
    pub fn reads_tags(&self) -> bool {
        self.streams.values().chain(&self.other).any(|s| matches!(s.kind, Kind::Tags(_)))
    }
}

fn check_envelope(codec: Codec, envelope: &Envelope) -> Result<(), ProfileError> {
    if !codec.reads_json() {
        return Err(invalid("only codec: json and codec: sparkplug have an envelope"));
    }
    if envelope.seq_default.is_some() && envelope.seq.is_none() {
        return Err(invalid("seq_default needs seq"));
    }
    Ok(())
}

/// Puts the stream's name before what is wrong with it.
fn named(name: &str, error: ProfileError) -> ProfileError {
    match error {
        ProfileError::Invalid { what, at } => {
            ProfileError::Invalid { what: format!("stream {name:?}: {what}"), at }
        }
        ProfileError::Syntax { .. } => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_is_valid() {
        let profile = Profile::parse(DEFAULT_PROFILE).unwrap();
        assert_eq!(profile.name.as_str(), "default");
        assert!(matches!(profile.stream("stock").unwrap().kind, Kind::Stock(_)));
        assert!(matches!(profile.stream("climate").unwrap().kind, Kind::Values(_)));
        assert_eq!(profile.hash.to_string().parse::<ProfileHash>().unwrap(), profile.hash);
    }

    #[test]
    fn errors_say_where() {
        for (text, line, column, word) in [
            ("name: x\ncodec: json\ncolour: blue\nstreams: {}\n", 3, 1, "colour"),
            ("name: x\ncodec: xml\nstreams: {}\n", 2, 8, "xml"),
            ("name: a b\ncodec: json\nstreams: {}\n", 1, 7, "' '"),
            ("name: x\ncodec: json\nstreams: {}\n", 3, 10, "1 to 64 streams"),
            ("name: x\nname: y\n", 2, 1, "duplicate"),
            (
                "name: x\ncodec: json\nstreams:\n  a:\n    class: stock\n    dedupe: seq\n",
                5,
                5,
                "stream \"a\"",
            ),
            ("name: x\ncodec: raw\nenvelope: {seq: /n}\nstreams: {}\n", 3, 11, "envelope"),
            (
                "name: x\ncodec: json\nstreams: {a: {class: telemetry, dedupe: level, values: {all: \"\"}}}\ntopics:\n  - {pattern: \"t/{device}\", stream: b}\n",
                5,
                5,
                "stream \"b\"",
            ),
        ] {
            let error = Profile::parse(text).unwrap_err();
            assert_eq!(error.place(), Some(Place { line, column }), "{text}{error}");
            assert!(error.what().contains(word), "{error}");
            assert!(error.to_string().contains(&format!("at line {line}, column {column}: ")));
        }
    }

    #[test]
    fn impossible_streams_are_refused() {
        let with = |stream: &str| {
            Profile::parse(&format!(
                "name: x\ncodec: json\nenvelope: {{seq: /seq}}\nstreams:\n  s: {stream}\n"
            ))
        };
        for (stream, word) in [
            ("{class: stock, dedupe: level, stock: {sku: /s, delta: /d}}", "dedupe must be"),
            ("{class: telemetry, dedupe: seq, stock: {sku: /s, delta: /d}}", "class: stock"),
            ("{class: stock, dedupe: seq}", "exactly one"),
            ("{class: stock, dedupe: seq, weight: {cells: []}}", "at least one cell"),
            ("{class: telemetry, dedupe: seq, values: {}}", "`all` or `fields`"),
            ("{class: telemetry, dedupe: seq, values: {all: \"\", depth: 9}}", "depth must be"),
            (
                "{class: telemetry, dedupe: seq, values: {fields: [{name: a, path: /a, scale: .nan}]}}",
                "finite",
            ),
            ("{class: telemetry, dedupe: level, value: {type: number}}", "codec: raw"),
            ("{class: stock, dedupe: payload, code: {mode: pick}}", "codec: raw"),
            ("{class: stock, dedupe: seq, weight: {line: {form: \"{mass}\"}}}", "needs cells"),
            ("{class: stock, dedupe: seq, stock: {sku: s, delta: /d}}", "pointer"),
        ] {
            let error = with(stream).unwrap_err().to_string();
            assert!(error.contains(word), "{stream}: {error}");
        }
    }
}
