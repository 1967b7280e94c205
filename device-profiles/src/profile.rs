//! The profile schema: a YAML text that says how a device's frames become readings.
//!
//! A profile names its codec, where the envelope fields (sequence number, boot id, clock) are, and for each stream what kind
//! of measurement it carries, how duplicates are told, and its durability class. Unknown keys are errors. Text is parsed once
//! and compiled: pointers are split, so that decoding does no parsing of its own.
//!
//! Codecs: `json`, one JSON value a frame; `modbus`, the registers a bus actor read (see [`crate::modbus`]). Both give the same
//! measurements, so nothing behind the codec knows where a mass came from.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    codec::json::Pointer,
    ids::{Channel, ProfileId},
    limits::{POLL_MS_MAX, POLL_MS_MIN, PROFILE_BYTES_MAX, STREAMS_MAX},
    modbus::{MapText, ModbusMap, Request, Test, TestText, plan},
    reading::CellFault,
};

/// The text of the profile every device has unless it names another.
pub const DEFAULT_PROFILE: &str = include_str!("../profiles/default.yaml");

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
        let bad = || ProfileError::Invalid("a profile hash has 64 hex digits".into());
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

/// Why a text is not a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not YAML, an unknown key, a wrong type. The text names line and column.
    #[error("the profile does not parse: {0}")]
    Syntax(String),
    /// Well-formed but impossible.
    #[error("the profile is invalid: {0}")]
    Invalid(String),
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
    /// The register map, for codec `modbus`.
    pub modbus: Option<ModbusMap>,
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
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// One JSON value a frame.
    Json,
    /// The registers of a Modbus device.
    Modbus,
}

/// Where the envelope fields are.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Frame counter, an unsigned integer.
    #[serde(default)]
    pub seq: Option<Pointer>,
    /// Boot id, a string or integer.
    #[serde(default)]
    pub boot: Option<Pointer>,
    /// Device clock: Unix milliseconds or RFC 3339.
    #[serde(default)]
    pub ts: Option<Pointer>,
}

/// One stream of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Durability class.
    pub class: Class,
    /// How repeats are told.
    pub dedupe: Dedupe,
    /// What it carries.
    pub kind: Kind,
    /// How it is polled, for codec `modbus`.
    pub poll: Option<Poll>,
}

/// How a stream is polled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// Period, milliseconds.
    pub every_ms: u32,
    /// What is read, in this order.
    pub requests: Vec<Request>,
}

/// What a stream carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Declared stock changes.
    Stock(StockMap),
    /// Load cells.
    Weight(WeightMap),
    /// Barcode scans.
    Scan(ScanMap),
    /// Plain values.
    Values(ValuesMap),
    /// Fields of a register map as plain values.
    Registers(RegisterMap),
}

/// Fields of a register map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterMap {
    /// Their names; each is a series.
    pub fields: Vec<String>,
}

/// Field map of a stock stream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StockMap {
    /// SKU, a string.
    pub sku: Pointer,
    /// Units added (or, negative, taken), a whole number other than 0.
    pub delta: Pointer,
    /// Slot, a string.
    #[serde(default)]
    pub slot: Option<Pointer>,
}

/// Cells and stability rule of a weight stream.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightMap {
    /// The cells in a frame.
    pub cells: WeightCells,
    /// How long a mass must hold still to be a plateau, milliseconds.
    pub settle_ms: u32,
    /// How many samples a plateau needs.
    pub settle_samples: u16,
    /// Series points of a cell are at least this far apart, milliseconds; raw frames stay in the journal.
    pub series_every_ms: u32,
}

/// Where the cells of a frame are.
#[derive(Debug, Clone, PartialEq)]
pub enum WeightCells {
    /// In members of a JSON value.
    Json(Vec<CellMap>),
    /// In registers.
    Registers(Vec<ScaleMap>),
}

/// One scale of a Modbus device.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleMap {
    /// The channel's name.
    pub channel: Channel,
    /// Field of the gross mass.
    pub mass: String,
    /// Its unit.
    pub unit: MassUnit,
    /// When the device says that the mass holds still.
    pub stable: Option<Test>,
    /// When the device says that something is wrong; the first that holds counts.
    pub faults: Vec<(Test, CellFault)>,
}

/// A weight stream as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightText {
    #[serde(default)]
    cells: Vec<CellMap>,
    #[serde(default)]
    scales: Vec<ScaleText>,
    /// How long a mass must hold still to be a plateau, milliseconds.
    #[serde(default = "settle_ms_default")]
    settle_ms: u32,
    /// How many samples a plateau needs.
    #[serde(default = "settle_samples_default")]
    settle_samples: u16,
    /// Series points of a cell are at least this far apart, milliseconds; raw frames stay in the journal.
    #[serde(default = "series_every_ms_default")]
    series_every_ms: u32,
}

/// A scale as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScaleText {
    #[serde(default = "channel_default")]
    channel: String,
    mass: String,
    #[serde(default)]
    unit: MassUnit,
    #[serde(default)]
    stable: Option<TestText>,
    #[serde(default)]
    faults: Vec<FaultText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultText {
    is: CellFault,
    when: TestText,
}

fn settle_ms_default() -> u32 {
    300
}
fn settle_samples_default() -> u16 {
    3
}
fn series_every_ms_default() -> u32 {
    1_000
}

/// One cell of a weight frame.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellMap {
    /// The mass, a number.
    pub mass: Pointer,
    /// Its unit.
    #[serde(default)]
    pub unit: MassUnit,
    /// Where the channel's name is; a frame without it speaks of `channel`.
    #[serde(default)]
    pub channel_at: Option<Pointer>,
    /// The channel's name.
    #[serde(default = "channel_default")]
    pub channel: String,
    /// The device's stability flag, a bool.
    #[serde(default)]
    pub stable: Option<Pointer>,
}

fn channel_default() -> String {
    "0".into()
}

/// Unit of a mass field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum MassUnit {
    /// Milligrams.
    #[serde(rename = "mg")]
    Milligram,
    /// Grams.
    #[default]
    #[serde(rename = "g")]
    Gram,
    /// Kilograms.
    #[serde(rename = "kg")]
    Kilogram,
    /// Avoirdupois pounds, exactly 453.59237 g.
    #[serde(rename = "lb")]
    Pound,
}

impl MassUnit {
    /// Milligrams in one unit.
    pub fn milligrams(self) -> f64 {
        match self {
            Self::Milligram => 1.0,
            Self::Gram => 1_000.0,
            Self::Kilogram => 1_000_000.0,
            Self::Pound => 453_592.37,
        }
    }
}

/// Field map of a scan stream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanMap {
    /// The scanned code, a string.
    pub code: Pointer,
    /// `receive`, `pick` or `count`.
    #[serde(default)]
    pub mode: Option<Pointer>,
    /// Units, a whole number.
    #[serde(default)]
    pub quantity: Option<Pointer>,
    /// Slot, a string.
    #[serde(default)]
    pub slot: Option<Pointer>,
}

/// Field map of a values stream: every member of one object, or named fields.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValuesMap {
    /// Every number, bool or string of the object here.
    #[serde(default)]
    pub all: Option<Pointer>,
    /// Single fields.
    #[serde(default)]
    pub fields: Vec<ValueField>,
}

/// One named value.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueField {
    /// Series name after the stream's.
    pub name: String,
    /// Where it is.
    pub path: Pointer,
    /// Multiplies a number.
    #[serde(default = "one")]
    pub scale: f64,
    /// Added to a number after `scale`.
    #[serde(default)]
    pub offset: f64,
}

fn one() -> f64 {
    1.0
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
    envelope: Envelope,
    #[serde(default)]
    modbus: Option<MapText>,
    streams: BTreeMap<String, StreamText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamText {
    class: Class,
    dedupe: Dedupe,
    #[serde(default)]
    stock: Option<StockMap>,
    #[serde(default)]
    weight: Option<WeightText>,
    #[serde(default)]
    scan: Option<ScanMap>,
    #[serde(default)]
    values: Option<ValuesMap>,
    #[serde(default)]
    registers: Option<Vec<String>>,
    #[serde(default)]
    poll_ms: Option<u32>,
}

impl Profile {
    /// Parses and checks a profile text.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        if text.len() > PROFILE_BYTES_MAX {
            return Err(invalid(format!(
                "{} bytes; at most {PROFILE_BYTES_MAX} are allowed",
                text.len()
            )));
        }
        let raw: Text = serde_saphyr::from_str(text)
            .map_err(|error| ProfileError::Syntax(error.to_string()))?;
        if raw.streams.is_empty() {
            return Err(invalid("it has no stream"));
        }
        if raw.streams.len() > STREAMS_MAX {
            return Err(invalid(format!("more than {STREAMS_MAX} streams")));
        }
        let modbus = raw.modbus.map(MapText::compile).transpose()?;
        if (raw.codec == Codec::Modbus) != modbus.is_some() {
            return Err(invalid(
                "codec: modbus needs a section modbus, and no other codec has one",
            ));
        }
        let mut streams = BTreeMap::new();
        let mut other = None;
        for (name, stream) in raw.streams {
            let stream = stream.check(&name, &raw.envelope, modbus.as_ref())?;
            if name == "*" && modbus.is_some() {
                return Err(invalid("a stream that is polled needs a name"));
            } else if name == "*" {
                other = Some(stream);
            } else {
                crate::ids::check_id(&name)
                    .map_err(|error| invalid(format!("stream {name:?}: {error}")))?;
                streams.insert(name, stream);
            }
        }
        Ok(Self {
            name: raw.name,
            description: raw.description,
            codec: raw.codec,
            envelope: raw.envelope,
            modbus,
            streams,
            other,
            hash: ProfileHash::of(text),
            text: text.to_owned(),
        })
    }

    /// The stream of this name, or the catch-all.
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.get(name).or(self.other.as_ref())
    }
}

fn invalid(message: impl Into<String>) -> ProfileError {
    ProfileError::Invalid(message.into())
}

impl StreamText {
    fn check(
        self,
        name: &str,
        envelope: &Envelope,
        modbus: Option<&ModbusMap>,
    ) -> Result<Stream, ProfileError> {
        let bad = |what: &str| Err(invalid(format!("stream {name:?}: {what}")));
        let mut kinds = Vec::new();
        if let Some(map) = self.stock {
            kinds.push(Kind::Stock(map));
        }
        if let Some(text) = self.weight {
            kinds.push(Kind::Weight(text.check(name, modbus)?));
        }
        if let Some(fields) = self.registers {
            if fields.is_empty() {
                return bad("registers need at least one field");
            }
            kinds.push(Kind::Registers(RegisterMap { fields }));
        }
        if let Some(map) = self.scan {
            kinds.push(Kind::Scan(map));
        }
        if let Some(map) = self.values {
            if map.all.is_none() && map.fields.is_empty() {
                return bad("values need `all` or `fields`");
            }
            if map.fields.iter().any(|f| !f.scale.is_finite() || !f.offset.is_finite()) {
                return bad("scale and offset must be finite numbers");
            }
            kinds.push(Kind::Values(map));
        }
        let (Some(kind), None) = (kinds.pop(), kinds.pop()) else {
            return bad("exactly one of stock, weight, scan, values and registers is needed");
        };
        if self.dedupe == Dedupe::Seq && envelope.seq.is_none() {
            return bad("dedupe: seq needs envelope.seq");
        }
        let event_like = matches!(kind, Kind::Stock(_) | Kind::Scan(_));
        if event_like && self.dedupe == Dedupe::Level {
            return bad("each frame changes stock, so dedupe must be seq or payload");
        }
        let tells_levels = matches!(kind, Kind::Weight(_) | Kind::Registers(_));
        if modbus.is_some() && !tells_levels {
            return bad("a Modbus device has streams of weight or registers");
        }
        if modbus.is_none() && matches!(kind, Kind::Registers(_)) {
            return bad("registers need codec: modbus");
        }
        if modbus.is_some() && self.dedupe != Dedupe::Level {
            return bad("what is polled has dedupe: level");
        }
        let poll = match (modbus, self.poll_ms) {
            (None, None) => None,
            (None, Some(_)) => return bad("poll_ms needs codec: modbus"),
            (Some(_), None) => return bad("what is polled needs poll_ms"),
            (Some(_), Some(ms)) if !(POLL_MS_MIN..=POLL_MS_MAX).contains(&ms) => {
                return bad(&format!("poll_ms must be {POLL_MS_MIN} to {POLL_MS_MAX}"));
            }
            (Some(map), Some(every_ms)) => {
                let requests = plan(map, &groups(&kind, map))
                    .map_err(|error| invalid(format!("stream {name:?}: {error}")))?;
                Some(Poll { every_ms, requests })
            }
        };
        if !matches!(kind, Kind::Values(_) | Kind::Registers(_)) && self.class == Class::Telemetry {
            return bad("a stream that changes stock has class: stock");
        }
        Ok(Stream { class: self.class, dedupe: self.dedupe, kind, poll })
    }
}

impl WeightText {
    fn check(self, name: &str, modbus: Option<&ModbusMap>) -> Result<WeightMap, ProfileError> {
        let bad = |what: String| invalid(format!("stream {name:?}: {what}"));
        if self.settle_samples == 0 {
            return Err(bad("settle_samples must be at least 1".into()));
        }
        let cells = match (modbus, self.cells.is_empty(), self.scales.is_empty()) {
            (None, false, true) => {
                for cell in &self.cells {
                    crate::ids::check_id(&cell.channel)
                        .map_err(|e| bad(format!("channel: {e}")))?;
                }
                WeightCells::Json(self.cells)
            }
            (Some(map), true, false) => {
                let mut scales: Vec<ScaleMap> = Vec::with_capacity(self.scales.len());
                for text in self.scales {
                    let scale = text.check(map).map_err(bad)?;
                    if scales.iter().any(|other| other.channel == scale.channel) {
                        return Err(bad(format!("channel {} is there twice", scale.channel)));
                    }
                    scales.push(scale);
                }
                WeightCells::Registers(scales)
            }
            (None, _, _) => return Err(bad("a weight stream needs at least one cell".into())),
            (Some(_), _, _) => {
                return Err(bad(
                    "a weight stream of a Modbus device needs scales, not cells".into()
                ));
            }
        };
        Ok(WeightMap {
            cells,
            settle_ms: self.settle_ms,
            settle_samples: self.settle_samples,
            series_every_ms: self.series_every_ms,
        })
    }
}

impl ScaleText {
    fn check(self, map: &ModbusMap) -> Result<ScaleMap, String> {
        let compile = |text: TestText| -> Result<Test, String> {
            let test = text.compile()?;
            test.check(&map.fields)?;
            Ok(test)
        };
        let channel = Channel::parse(&self.channel).map_err(|e| format!("channel: {e}"))?;
        let field = map.fields.get(&self.mass);
        if field.is_none_or(|field| field.table.is_bits()) {
            return Err(format!("mass asks for field {:?}, which is not a number", self.mass));
        }
        let stable = self.stable.map(compile).transpose()?;
        let faults = self
            .faults
            .into_iter()
            .map(|fault| Ok((compile(fault.when)?, fault.is)))
            .collect::<Result<_, String>>()?;
        Ok(ScaleMap { channel, mass: self.mass, unit: self.unit, stable, faults })
    }
}

/// The fields that must come in one response: each mass with everything that vouches for it.
fn groups<'a>(kind: &'a Kind, map: &'a ModbusMap) -> Vec<Vec<&'a str>> {
    let with_references = |name: &'a str| {
        let field = map.fields.get(name);
        std::iter::once(name).chain(field.into_iter().flat_map(|f| f.references()))
    };
    let mut groups: Vec<Vec<&str>> = match kind {
        Kind::Weight(WeightMap { cells: WeightCells::Registers(scales), .. }) => scales
            .iter()
            .map(|scale| {
                let tests = scale.stable.iter().chain(scale.faults.iter().map(|(test, _)| test));
                with_references(&scale.mass).chain(tests.map(|test| test.field.as_str())).collect()
            })
            .collect(),
        Kind::Registers(registers) => {
            registers.fields.iter().map(|name| with_references(name).collect()).collect()
        }
        Kind::Weight(_) | Kind::Stock(_) | Kind::Scan(_) | Kind::Values(_) => Vec::new(),
    };
    // The heartbeat is read along; it vouches for the device and not for one mass.
    groups.extend(map.heartbeat.iter().map(|heartbeat| vec![heartbeat.field.as_str()]));
    groups
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
        let unknown = DEFAULT_PROFILE.replace("codec: json", "codec: json\ncolour: blue");
        let error = Profile::parse(&unknown).unwrap_err().to_string();
        assert!(error.contains("colour") && error.contains("line"), "{error}");
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
            ("{class: stock, dedupe: seq, stock: {sku: s, delta: /d}}", "pointer"),
        ] {
            let error = with(stream).unwrap_err().to_string();
            assert!(error.contains(word), "{stream}: {error}");
        }
    }
}
