//! Payloads as JSON that says everything by itself.
//!
//! ```text
//!  {"type":"DDATA","timestamp":ms,"metrics":{"name":value,…},"unknown":[alias,…]}
//! ```
//! One object tells of one time and has no name twice: a payload with metrics of several times, as a node sends that was
//! offline, becomes several. `timestamp` is that of the metrics, else that of the payload. Values are numbers, bools and texts of
//! the type the birth declared; what is null, not finite, or no plain value is `null`. `unknown` are the aliases no birth named.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::payload::{Content, Metric, Payload, datatype};
use crate::limits::MEASUREMENTS_MAX;

/// Most bytes of names and texts in one object; a metric more begins the next. Written as JSON they may become six times as many.
pub const EXPANDED_BYTES_MAX: usize = 16 * 1024;

/// What a known metric takes beside its name, about.
const KNOWN_BYTES: usize = 64;

/// What a birth says of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its type.
    pub datatype: Option<u32>,
}

/// The metrics of a birth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    by_alias: BTreeMap<u64, Known>,
    types: BTreeMap<String, u32>,
    bytes: usize,
}

impl Names {
    /// What a birth declares.
    pub fn of(birth: &Payload) -> Self {
        let mut names = Self::default();
        for metric in &birth.metrics {
            let Some(name) = &metric.name else { continue };
            if let Some(alias) = metric.alias {
                names.bytes += KNOWN_BYTES + name.len();
                let known = Known { name: name.clone(), datatype: metric.datatype };
                names.by_alias.insert(alias, known);
            }
            if let Some(datatype) = metric.datatype {
                names.bytes += KNOWN_BYTES + name.len();
                names.types.insert(name.clone(), datatype);
            }
        }
        names
    }

    /// What they take in memory, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Name and type of a metric; `None` when no birth named it.
    fn find<'a>(&'a self, metric: &'a Metric) -> Option<(&'a str, Option<u32>)> {
        let (name, declared) = match (&metric.name, metric.alias) {
            (Some(name), _) if !name.is_empty() => {
                (name.as_str(), self.types.get(name.as_str()).copied())
            }
            (_, Some(alias)) => {
                let known = self.by_alias.get(&alias)?;
                (known.name.as_str(), known.datatype)
            }
            (Some(_) | None, None) => return None,
        };
        Some((name, metric.datatype.or(declared)))
    }
}

/// A payload, expanded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expanded {
    /// Objects that tell of now.
    pub now: Vec<String>,
    /// Objects that tell of earlier times.
    pub earlier: Vec<String>,
    /// A metric had an alias that no birth named.
    pub has_unknown: bool,
}

/// One object as it is gathered.
struct Object {
    timestamp_ms: Option<u64>,
    is_historical: bool,
    metrics: Map<String, Value>,
    unknown: Vec<u64>,
    bytes: usize,
}

impl Object {
    fn write(self, kind: &str) -> String {
        let mut object = Map::new();
        object.insert("type".into(), kind.into());
        object.insert("metrics".into(), self.metrics.into());
        if let Some(ms) = self.timestamp_ms {
            object.insert("timestamp".into(), ms.into());
        }
        if !self.unknown.is_empty() {
            object.insert("unknown".into(), self.unknown.into());
        }
        Value::Object(object).to_string()
    }
}

/// Expands a payload of this kind (`NBIRTH`, `DDATA` …).
pub fn expand(kind: &str, payload: &Payload, names: &Names) -> Expanded {
    let mut expanded = Expanded::default();
    let mut open: Option<Object> = None;
    let close = |object: Object, into: &mut Expanded| {
        let list = if object.is_historical { &mut into.earlier } else { &mut into.now };
        list.push(object.write(kind));
    };
    for metric in &payload.metrics {
        let found = names.find(metric);
        let at = metric.timestamp_ms.or(payload.timestamp_ms);
        let fits = open.as_ref().is_some_and(|object| {
            object.is_historical == metric.is_historical
                // Metrics of now may have been taken within the same report at slightly different times.
                && (!metric.is_historical || object.timestamp_ms == at)
                && object.metrics.len() + object.unknown.len() < MEASUREMENTS_MAX
                && object.bytes < EXPANDED_BYTES_MAX
                && found.is_none_or(|(name, _)| !object.metrics.contains_key(name))
        });
        if !fits && let Some(full) = open.take() {
            close(full, &mut expanded);
        }
        let object = open.get_or_insert_with(|| Object {
            timestamp_ms: at,
            is_historical: metric.is_historical,
            metrics: Map::new(),
            unknown: Vec::new(),
            bytes: 0,
        });
        object.timestamp_ms = object.timestamp_ms.max(at);
        match found {
            Some((name, datatype)) => {
                let value = value(metric, datatype);
                object.bytes += name.len() + value.as_str().map_or(16, str::len);
                object.metrics.insert(name.to_owned(), value);
            }
            None => {
                expanded.has_unknown = true;
                object.unknown.extend(metric.alias);
            }
        }
    }
    if let Some(last) = open {
        close(last, &mut expanded);
    }
    expanded
}

/// A metric's value by its type.
fn value(metric: &Metric, kind: Option<u32>) -> Value {
    if metric.is_null {
        return Value::Null;
    }
    match (&metric.content, kind) {
        // Some writers extend the sign to 32 bits and some do not.
        (Content::Int(bits), Some(datatype::INT8)) => (*bits as u8).cast_signed().into(),
        (Content::Int(bits), Some(datatype::INT16)) => (*bits as u16).cast_signed().into(),
        (Content::Int(bits), Some(datatype::INT32 | datatype::INT64)) => bits.cast_signed().into(),
        (Content::Int(bits), _) => (*bits).into(),
        (Content::Long(bits), Some(datatype::INT8..=datatype::INT64)) => bits.cast_signed().into(),
        (Content::Long(bits), _) => (*bits).into(),
        // The decimal a single is shown as, not the double next to it: 0.1 stays 0.1.
        (Content::Float(single), _) => {
            single.to_string().parse::<f64>().ok().filter(|f| f.is_finite()).into()
        }
        (Content::Double(double), _) => Some(*double).filter(|double| double.is_finite()).into(),
        (Content::Bool(on), _) => (*on).into(),
        (Content::Text(text), _) => text.as_str().into(),
        (Content::None | Content::Other, _) => Value::Null,
    }
}

/// An object about a node or device itself.
pub fn state(kind: &str, timestamp_ms: Option<u64>, name: &str, value: Value) -> String {
    let mut metrics = Map::new();
    metrics.insert(name.to_owned(), value);
    Object { timestamp_ms, is_historical: false, metrics, unknown: Vec::new(), bytes: 0 }
        .write(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(alias: u64, content: Content) -> Metric {
        Metric { alias: Some(alias), content, ..Metric::default() }
    }

    fn names() -> Names {
        let declared = |name: &str, alias, datatype| Metric {
            name: Some(name.to_owned()),
            alias: Some(alias),
            datatype: Some(datatype),
            ..Metric::default()
        };
        Names::of(&Payload {
            metrics: vec![
                declared("small", 1, datatype::INT8),
                declared("big", 2, datatype::UINT64),
                declared("level", 3, datatype::DOUBLE),
                declared("signed", 4, datatype::INT64),
            ],
            ..Payload::default()
        })
    }

    #[test]
    fn aliases_become_names_and_types_are_those_of_the_birth() {
        let payload = Payload {
            timestamp_ms: Some(5),
            seq: Some(1),
            metrics: vec![
                metric(1, Content::Int(0xFF)),
                metric(2, Content::Long(u64::MAX)),
                metric(3, Content::Float(0.1)),
                metric(4, Content::Long(u64::MAX)),
                metric(9, Content::Bool(true)),
            ],
        };
        let expanded = expand("DDATA", &payload, &names());
        assert!(expanded.has_unknown && expanded.earlier.is_empty());
        assert_eq!(
            expanded.now,
            [
                r#"{"metrics":{"big":18446744073709551615,"level":0.1,"signed":-1,"small":-1},"timestamp":5,"type":"DDATA","unknown":[9]}"#
            ]
        );
    }

    #[test]
    fn times_are_told_apart() {
        let at = |ms, is_historical, content| Metric {
            timestamp_ms: Some(ms),
            is_historical,
            ..metric(3, content)
        };
        let payload = Payload {
            timestamp_ms: Some(9),
            metrics: vec![
                at(1, true, Content::Double(1.0)),
                at(2, true, Content::Double(2.0)),
                at(9, false, Content::Double(f64::NAN)),
                at(9, false, Content::Double(3.0)),
            ],
            ..Payload::default()
        };
        let expanded = expand("NDATA", &payload, &names());
        assert_eq!(expanded.earlier.len(), 2);
        assert!(expanded.earlier[0].contains(r#""level":1.0},"timestamp":1"#));
        assert_eq!(expanded.now.len(), 2, "a name stands once in an object");
        assert!(expanded.now[0].contains(r#""level":null"#));
    }

    #[test]
    fn no_object_is_larger_than_a_frame() {
        let name = "\u{2}".repeat(250);
        let metrics = (0..4_000).map(|i| Metric {
            name: Some(format!("{name}{i}")),
            content: Content::Text("\u{1}".repeat(200)),
            ..Metric::default()
        });
        let payload = Payload { metrics: metrics.collect(), ..Payload::default() };
        let expanded = expand("NBIRTH", &payload, &Names::default());
        assert!(expanded.now.len() >= 16);
        assert!(expanded.now.iter().all(|frame| frame.len() < crate::limits::FRAME_BYTES_MAX));
    }
}
