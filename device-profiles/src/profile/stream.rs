//! Streams: what one kind of frame of a device carries.
//!
//! A stream is exactly one kind. Which kinds there are depends on the codec: JSON frames are read by pointers, raw frames are
//! one thing, registers are fields of the register map. A stream that changes stock by declaration must tell its repeats; one
//! that is polled tells levels, and comes with the requests that read it.

use serde::Deserialize;

use super::{
    Class, CodeMap, Codec, Dedupe, Envelope, PlainValue, ProfileError, WeightCells, WeightMap,
    invalid,
    plain::{CodeText, PlainText},
    tags::{TagsMap, TagsText},
    weight::WeightText,
};
use crate::{
    codec::json::Pointer,
    limits::{POLL_MS_MAX, POLL_MS_MIN, VALUES_DEPTH_MAX},
    modbus::{ModbusMap, Plan, Request, plan},
};

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
    /// What the requests were merged of; see [`Request::parts`].
    pub blocks: Vec<Request>,
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
    /// The one value that a raw frame is.
    Plain(PlainValue),
    /// Fields of a register map as plain values.
    Registers(RegisterMap),
    /// Tags that a reader hears, and what happens at it.
    Tags(TagsMap),
}

impl Kind {
    /// Its name, as the key in a profile.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stock(_) => "stock",
            Self::Weight(_) => "weight",
            Self::Scan(ScanMap::Paths(_)) => "scan",
            Self::Scan(ScanMap::Whole(_)) => "code",
            Self::Values(_) => "values",
            Self::Plain(_) => "value",
            Self::Registers(_) => "registers",
            Self::Tags(_) => "tags",
        }
    }
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

/// Where a scan is in a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum ScanMap {
    /// In members of a JSON value.
    Paths(ScanPaths),
    /// The whole raw frame is the code.
    Whole(CodeMap),
}

/// Field map of a scan stream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanPaths {
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
    /// Down to which level `all` looks into objects; 1 is the object itself. Names of deeper levels are joined by dots.
    #[serde(default = "one_level")]
    pub depth: u8,
    /// Names that `all` passes over, with everything below them.
    #[serde(default)]
    pub except: Vec<String>,
    /// Single fields.
    #[serde(default)]
    pub fields: Vec<ValueField>,
}

fn one_level() -> u8 {
    1
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

/// A stream as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamText {
    class: Class,
    dedupe: Dedupe,
    #[serde(default)]
    stock: Option<StockMap>,
    #[serde(default)]
    weight: Option<WeightText>,
    #[serde(default)]
    scan: Option<ScanPaths>,
    #[serde(default)]
    values: Option<ValuesMap>,
    #[serde(default)]
    value: Option<PlainText>,
    #[serde(default)]
    code: Option<CodeText>,
    #[serde(default)]
    registers: Option<Vec<String>>,
    #[serde(default)]
    tags: Option<TagsText>,
    #[serde(default)]
    poll_ms: Option<u32>,
}

/// What a stream is checked against.
pub(super) struct Scope<'a> {
    /// The profile's codec.
    pub codec: Codec,
    /// Its envelope.
    pub envelope: &'a Envelope,
    /// Its register map.
    pub map: Option<&'a ModbusMap>,
}

impl StreamText {
    /// Checks and compiles it. What is wrong is told without the stream's name.
    pub(super) fn check(self, scope: &Scope<'_>) -> Result<Stream, ProfileError> {
        let (class, dedupe, poll_ms) = (self.class, self.dedupe, self.poll_ms);
        let kind = self.kind(scope)?;
        if scope.codec == Codec::Scanner && dedupe != Dedupe::Seq {
            return Err(invalid("the hub numbers the scans of a scanner, so dedupe must be seq"));
        }
        if dedupe == Dedupe::Seq && scope.envelope.seq.is_none() && scope.codec != Codec::Scanner {
            return Err(invalid("dedupe: seq needs envelope.seq"));
        }
        let event_like = matches!(kind, Kind::Stock(_) | Kind::Scan(_));
        if event_like && dedupe == Dedupe::Level {
            return Err(invalid("each frame changes stock, so dedupe must be seq or payload"));
        }
        if scope.map.is_some() && dedupe != Dedupe::Level {
            return Err(invalid("what is polled has dedupe: level"));
        }
        if class == Class::Telemetry
            && (event_like || matches!(kind, Kind::Weight(_) | Kind::Tags(_)))
        {
            return Err(invalid("a stream that changes stock has class: stock"));
        }
        let poll = match (scope.map, poll_ms) {
            (None, None) => None,
            (None, Some(_)) => return Err(invalid("poll_ms needs codec: modbus")),
            (Some(_), None) => return Err(invalid("what is polled needs poll_ms")),
            (Some(_), Some(ms)) if !(POLL_MS_MIN..=POLL_MS_MAX).contains(&ms) => {
                return Err(invalid(format!("poll_ms must be {POLL_MS_MIN} to {POLL_MS_MAX}")));
            }
            (Some(map), Some(every_ms)) => {
                let Plan { requests, blocks } = plan(map, &groups(&kind, map))?;
                Some(Poll { every_ms, requests, blocks })
            }
        };
        Ok(Stream { class, dedupe, kind, poll })
    }

    /// The one kind it is, of those its codec knows.
    fn kind(self, scope: &Scope<'_>) -> Result<Kind, ProfileError> {
        let mut kinds = Vec::new();
        if let Some(map) = self.stock {
            kinds.push(Kind::Stock(map));
        }
        if let Some(text) = self.weight {
            kinds.push(Kind::Weight(text.check(scope.codec, scope.map)?));
        }
        if let Some(map) = self.scan {
            kinds.push(Kind::Scan(ScanMap::Paths(map)));
        }
        if let Some(map) = self.values {
            map.check()?;
            kinds.push(Kind::Values(map));
        }
        if let Some(text) = self.value {
            kinds.push(Kind::Plain(text.check()?));
        }
        if let Some(text) = self.code {
            kinds.push(Kind::Scan(ScanMap::Whole(text.check())));
        }
        if let Some(fields) = self.registers {
            if fields.is_empty() {
                return Err(invalid("registers need at least one field"));
            }
            kinds.push(Kind::Registers(RegisterMap { fields }));
        }
        if let Some(text) = self.tags {
            kinds.push(Kind::Tags(text.check(scope.codec, self.dedupe)?));
        }
        let (Some(kind), None) = (kinds.pop(), kinds.pop()) else {
            return Err(invalid(
                "exactly one of stock, weight, scan, values, value, code, registers and tags is needed",
            ));
        };
        let codecs: &[Codec] = match kind {
            Kind::Weight(_) => &[Codec::Json, Codec::Raw, Codec::Modbus, Codec::Sparkplug],
            Kind::Stock(_) | Kind::Values(_) | Kind::Scan(ScanMap::Paths(_)) => {
                &[Codec::Json, Codec::Sparkplug]
            }
            Kind::Plain(_) => &[Codec::Raw],
            Kind::Scan(ScanMap::Whole(_)) => &[Codec::Raw, Codec::Scanner],
            Kind::Registers(_) => &[Codec::Modbus],
            Kind::Tags(_) => &[
                Codec::Llrp,
                Codec::Json,
                Codec::Impinj,
                Codec::Zebra,
                Codec::SerialRfid,
                Codec::Sparkplug,
            ],
        };
        if codecs.contains(&scope.codec) {
            return Ok(kind);
        }
        let needed = codecs.first().map_or("", |codec| codec.as_str());
        Err(invalid(format!(
            "{} needs codec: {needed}, this profile has codec: {}",
            kind.as_str(),
            scope.codec.as_str()
        )))
    }
}

impl ValuesMap {
    fn check(&self) -> Result<(), ProfileError> {
        if self.all.is_none() && self.fields.is_empty() {
            return Err(invalid("values need `all` or `fields`"));
        }
        if self.depth == 0 || usize::from(self.depth) > VALUES_DEPTH_MAX {
            return Err(invalid(format!("depth must be 1 to {VALUES_DEPTH_MAX}")));
        }
        if self.all.is_none() && (self.depth != 1 || !self.except.is_empty()) {
            return Err(invalid("depth and except need `all`"));
        }
        for field in &self.fields {
            if !field.scale.is_finite() || !field.offset.is_finite() {
                return Err(invalid("scale and offset must be finite numbers"));
            }
        }
        Ok(())
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
        Kind::Weight(_)
        | Kind::Stock(_)
        | Kind::Scan(_)
        | Kind::Values(_)
        | Kind::Plain(_)
        | Kind::Tags(_) => Vec::new(),
    };
    // The heartbeat is read along; it vouches for the device and not for one mass.
    groups.extend(map.heartbeat.iter().map(|heartbeat| vec![heartbeat.field.as_str()]));
    groups
}
