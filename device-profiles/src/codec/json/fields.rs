//! Field maps applied to a JSON tree.

use std::borrow::Cow;

use crate::{
    ids::{Channel, IdError, Sku, SlotId, check_id},
    limits::{
        CODE_BYTES_MAX, DELTA_UNITS_MAX, ID_BYTES_MAX, JSON_NODES_MAX, MASS_MG_MAX,
        MEASUREMENTS_MAX, TAG_NODES_MAX, TEXT_BYTES_MAX,
    },
    profile::{
        CellMap, Codec, Dedupe, Kind, Profile, ScanMap, ScanPaths, StockMap, TagsMap, ValuesMap,
        WeightCells, WeightMap,
    },
    reading::{DecodeReject, Measurement, Reading, ScanMode, Value},
    time::parse_rfc3339_us,
    units::{Milligrams, Units},
};

use super::{Node, Pointer, tags::tags};

/// Decodes one JSON frame of a stream.
pub fn decode(profile: &Profile, stream: &str, raw: &[u8]) -> Result<Reading, DecodeReject> {
    let spec =
        profile.stream(stream).ok_or_else(|| DecodeReject::UnknownStream(stream.to_owned()))?;
    let is_tags = matches!(spec.kind, Kind::Tags(_));
    let root = Node::parse_within(raw, if is_tags { TAG_NODES_MAX } else { JSON_NODES_MAX })?;
    let envelope = &profile.envelope;
    let told = envelope.seq.as_ref().map(|p| seq(&root, p)).transpose()?.flatten();
    // Only where frames are told apart by it: elsewhere every frame would claim to be the same one.
    let default = envelope.seq_default.filter(|_| spec.dedupe == Dedupe::Seq);
    let seq = told.or(default);
    if let (Dedupe::Seq, None, Some(pointer)) = (spec.dedupe, seq, &envelope.seq) {
        return Err(DecodeReject::Missing(pointer.as_str().to_owned()));
    }
    let boot = envelope.boot.as_ref().map(|p| boot(&root, p)).transpose()?.flatten();
    let device_us = envelope.ts.as_ref().map(|p| clock(&root, p)).transpose()?.flatten();
    let measurements = match &spec.kind {
        Kind::Stock(map) => stock(&root, map).map(|one| vec![one]),
        Kind::Weight(WeightMap { cells: WeightCells::Json(cells), .. }) => weight(&root, cells),
        Kind::Scan(ScanMap::Paths(map)) => scan(&root, map).map(|one| vec![one]),
        Kind::Values(map) => values(&root, map, stream),
        Kind::Tags(TagsMap { fields: Some(fields), .. }) => {
            // An empty list says that the reader listens and heard nothing.
            let found = tags(&root, fields)?;
            // Whether a frame is of now is judged by the device's clock: without a time of its own it is as old as its newest tag.
            let device_us = device_us.or(found.newest());
            return Ok(Reading { seq, boot, device_us, measurements: found.finish() });
        }
        // Parsing a profile lets no stream of another codec into a JSON profile.
        Kind::Weight(_) | Kind::Scan(_) | Kind::Plain(_) | Kind::Registers(_) | Kind::Tags(_) => {
            Err(DecodeReject::UnknownStream(stream.to_owned()))
        }
    };
    let measurements = match measurements {
        // A node reports what changed: a frame without a field says that the field did not.
        Err(DecodeReject::Missing(_)) if profile.codec == Codec::Sparkplug => {
            return Ok(Reading { seq, boot, device_us, measurements: Vec::new() });
        }
        measurements => measurements?,
    };
    if measurements.is_empty() && profile.codec != Codec::Sparkplug {
        return Err(DecodeReject::Empty);
    }
    if measurements.len() > MEASUREMENTS_MAX {
        return Err(DecodeReject::TooLarge("measurements"));
    }
    Ok(Reading { seq, boot, device_us, measurements })
}

pub(super) fn wrong(pointer: &Pointer, expected: &'static str) -> DecodeReject {
    DecodeReject::WrongType { path: pointer.as_str().to_owned(), expected }
}

pub(super) fn range(pointer: &Pointer) -> DecodeReject {
    DecodeReject::OutOfRange(pointer.as_str().to_owned())
}

/// An optional field: absent and `null` are the same.
pub(super) fn field<'n, 'a>(root: &'n Node<'a>, pointer: &Pointer) -> Option<&'n Node<'a>> {
    root.at(pointer).filter(|node| !matches!(node, Node::Null))
}

pub(super) fn need<'n, 'a>(
    root: &'n Node<'a>,
    pointer: &Pointer,
) -> Result<&'n Node<'a>, DecodeReject> {
    field(root, pointer).ok_or_else(|| DecodeReject::Missing(pointer.as_str().to_owned()))
}

pub(super) fn text<'n>(node: &'n Node<'_>, pointer: &Pointer) -> Result<&'n str, DecodeReject> {
    if let Node::Str(text) = node { Ok(text) } else { Err(wrong(pointer, "a string")) }
}

/// A whole number; `3.0` is one, `3.5` is not.
pub(super) fn whole(node: &Node<'_>, pointer: &Pointer) -> Result<i64, DecodeReject> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match node {
        Node::Int(value) => Ok(*value),
        Node::Big(_) => Err(range(pointer)),
        Node::Float(value) if value.fract() == 0.0 => {
            if value.abs() <= EXACT {
                Ok(*value as i64)
            } else {
                Err(range(pointer))
            }
        }
        Node::Float(_)
        | Node::Null
        | Node::Bool(_)
        | Node::Str(_)
        | Node::Array(_)
        | Node::Object(_) => Err(wrong(pointer, "a whole number")),
    }
}

pub(super) fn number(node: &Node<'_>, pointer: &Pointer) -> Result<f64, DecodeReject> {
    match node {
        Node::Int(value) => Ok(*value as f64),
        Node::Big(value) => Ok(*value as f64),
        Node::Float(value) => Ok(*value),
        Node::Null | Node::Bool(_) | Node::Str(_) | Node::Array(_) | Node::Object(_) => {
            Err(wrong(pointer, "a number"))
        }
    }
}

fn id<T>(
    node: &Node<'_>,
    pointer: &Pointer,
    parse: fn(&str) -> Result<T, IdError>,
) -> Result<T, DecodeReject> {
    parse(text(node, pointer)?)
        .map_err(|reason| DecodeReject::BadId { path: pointer.as_str().to_owned(), reason })
}

fn seq(root: &Node<'_>, pointer: &Pointer) -> Result<Option<u64>, DecodeReject> {
    match field(root, pointer) {
        None => Ok(None),
        Some(Node::Big(value)) => Ok(Some(*value)),
        Some(node) => {
            let value = whole(node, pointer)?;
            u64::try_from(value).map(Some).map_err(|_| range(pointer))
        }
    }
}

fn boot(root: &Node<'_>, pointer: &Pointer) -> Result<Option<String>, DecodeReject> {
    let text = match field(root, pointer) {
        None => return Ok(None),
        Some(Node::Str(text)) => text.as_ref().to_owned(),
        Some(Node::Int(value)) => value.to_string(),
        Some(_) => return Err(wrong(pointer, "a string or a whole number")),
    };
    check_id(&text)
        .map_err(|reason| DecodeReject::BadId { path: pointer.as_str().to_owned(), reason })?;
    Ok(Some(text))
}

/// Device clock; a value that is no time at all is an error, a time far off is not.
pub(super) fn clock(root: &Node<'_>, pointer: &Pointer) -> Result<Option<i64>, DecodeReject> {
    match field(root, pointer) {
        None => Ok(None),
        Some(Node::Str(text)) => {
            parse_rfc3339_us(text).map(Some).ok_or_else(|| wrong(pointer, "a time"))
        }
        Some(node) => {
            let ms = number(node, pointer)?;
            let us = ms * 1_000.0;
            if us.abs() < 9.0e18 { Ok(Some(us as i64)) } else { Err(range(pointer)) }
        }
    }
}

fn stock(root: &Node<'_>, map: &StockMap) -> Result<Measurement, DecodeReject> {
    let sku = id(need(root, &map.sku)?, &map.sku, Sku::parse)?;
    let delta = whole(need(root, &map.delta)?, &map.delta)?;
    if delta == 0 || delta.unsigned_abs() > DELTA_UNITS_MAX.unsigned_abs() {
        return Err(range(&map.delta));
    }
    let slot = slot(root, map.slot.as_ref())?;
    Ok(Measurement::Stock { sku, delta: Units(delta), slot })
}

fn slot(root: &Node<'_>, pointer: Option<&Pointer>) -> Result<Option<SlotId>, DecodeReject> {
    let Some(pointer) = pointer else { return Ok(None) };
    field(root, pointer).map(|node| id(node, pointer, SlotId::parse)).transpose()
}

fn weight(root: &Node<'_>, cells: &[CellMap]) -> Result<Vec<Measurement>, DecodeReject> {
    cells
        .iter()
        .map(|cell| {
            let milligrams = number(need(root, &cell.mass)?, &cell.mass)? * cell.unit.milligrams();
            if milligrams.abs() > MASS_MG_MAX as f64 {
                return Err(range(&cell.mass));
            }
            let named = cell.channel_at.as_ref().and_then(|p| field(root, p).map(|n| (n, p)));
            let channel =
                match named {
                    Some((Node::Int(value), p)) => {
                        Channel::parse(&value.to_string()).map_err(|reason| {
                            DecodeReject::BadId { path: p.as_str().to_owned(), reason }
                        })?
                    }
                    Some((node, p)) => id(node, p, Channel::parse)?,
                    None => Channel::parse(&cell.channel).map_err(|reason| {
                        DecodeReject::BadId { path: cell.mass.as_str().to_owned(), reason }
                    })?,
                };
            let stable = match cell.stable.as_ref().and_then(|p| field(root, p).map(|n| (n, p))) {
                None => None,
                Some((Node::Bool(stable), _)) => Some(*stable),
                Some((_, p)) => return Err(wrong(p, "a bool")),
            };
            // The product of two f64 rounded to a whole number is the same on every IEEE platform.
            let mass = Milligrams(milligrams.round() as i64);
            Ok(Measurement::Weight { channel, mass, stable, fault: None })
        })
        .collect()
}

fn scan(root: &Node<'_>, map: &ScanPaths) -> Result<Measurement, DecodeReject> {
    let code = text(need(root, &map.code)?, &map.code)?.to_owned();
    if code.is_empty() || code.len() > CODE_BYTES_MAX {
        return Err(range(&map.code));
    }
    let mode = match map.mode.as_ref().and_then(|p| field(root, p).map(|n| (n, p))) {
        None => ScanMode::Pick,
        Some((node, p)) => match text(node, p)? {
            "receive" => ScanMode::Receive,
            "pick" => ScanMode::Pick,
            "count" => ScanMode::Count,
            _ => return Err(wrong(p, "receive, pick or count")),
        },
    };
    let quantity = match map.quantity.as_ref().and_then(|p| field(root, p).map(|n| (n, p))) {
        None => 1,
        Some((node, p)) => {
            let quantity = whole(node, p)?;
            let low = if mode == ScanMode::Count { 0 } else { 1 };
            if !(low..=DELTA_UNITS_MAX).contains(&quantity) {
                return Err(range(p));
            }
            quantity
        }
    };
    Ok(Measurement::Scan {
        code,
        mode,
        quantity: Units(quantity),
        slot: slot(root, map.slot.as_ref())?,
    })
}

fn values(
    root: &Node<'_>,
    map: &ValuesMap,
    stream: &str,
) -> Result<Vec<Measurement>, DecodeReject> {
    let mut found = Vec::new();
    if let Some(pointer) = &map.all {
        let Node::Object(members) = need(root, pointer)? else {
            return Err(wrong(pointer, "an object"));
        };
        if members.len() > MEASUREMENTS_MAX {
            return Err(DecodeReject::TooLarge("measurements"));
        }
        let all = All { pointer, stream, except: &map.except };
        all.walk(members, "", map.depth, &mut found)?;
    }
    for spec in &map.fields {
        if let Some(node) = field(root, &spec.path)
            && let Some(value) = value(node, &spec.path, spec.scale, spec.offset)?
        {
            found.push(named(stream, &spec.name, value)?);
        }
    }
    Ok(found)
}

/// The walk of `all` through an object and, as far down as the profile says, the objects in it.
struct All<'p> {
    pointer: &'p Pointer,
    stream: &'p str,
    except: &'p [String],
}

impl All<'_> {
    fn walk(
        &self,
        members: &[(Cow<'_, str>, Node<'_>)],
        above: &str,
        depth: u8,
        found: &mut Vec<Measurement>,
    ) -> Result<(), DecodeReject> {
        for (key, node) in members {
            let name = if above.is_empty() {
                Cow::Borrowed(&**key)
            } else {
                format!("{above}.{key}").into()
            };
            if self.except.iter().any(|except| *except == name) {
                continue;
            }
            if let Node::Object(inner) = node
                && depth > 1
            {
                self.walk(inner, &name, depth - 1, found)?;
            } else if let Some(value) = value(node, self.pointer, 1.0, 0.0)? {
                found.push(named(self.stream, &name, value)?);
                if found.len() > MEASUREMENTS_MAX {
                    return Err(DecodeReject::TooLarge("measurements"));
                }
            }
        }
        Ok(())
    }
}

fn named(stream: &str, name: &str, value: Value) -> Result<Measurement, DecodeReject> {
    if name.is_empty() || name.len() > ID_BYTES_MAX {
        return Err(DecodeReject::TooLarge("value name"));
    }
    Ok(Measurement::Value { name: format!("{stream}.{name}"), value })
}

fn value(
    node: &Node<'_>,
    pointer: &Pointer,
    scale: f64,
    offset: f64,
) -> Result<Option<Value>, DecodeReject> {
    Ok(Some(match node {
        Node::Null | Node::Array(_) | Node::Object(_) => return Ok(None),
        Node::Bool(value) => Value::Bool(*value),
        Node::Str(text) if text.len() > TEXT_BYTES_MAX => {
            return Err(DecodeReject::TooLarge("text value"));
        }
        Node::Str(text) => Value::Text(text.as_ref().to_owned()),
        Node::Int(_) | Node::Big(_) | Node::Float(_) => {
            let scaled = number(node, pointer)? * scale + offset;
            if !scaled.is_finite() {
                return Err(range(pointer));
            }
            Value::Number(scaled)
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::DEFAULT_PROFILE;

    fn default(stream: &str, raw: &str) -> Result<Reading, DecodeReject> {
        decode(&Profile::parse(DEFAULT_PROFILE).unwrap(), stream, raw.as_bytes())
    }

    #[test]
    fn a_stock_reading() {
        let reading = default(
            "stock",
            r#"{"seq":7,"boot":"b1","ts":1500,"values":{"sku":"S-1","delta":-2,"slot":"A1"}}"#,
        )
        .unwrap();
        assert_eq!((reading.seq, reading.boot.as_deref()), (Some(7), Some("b1")));
        assert_eq!(reading.device_us, Some(1_500_000));
        assert_eq!(
            reading.measurements,
            [Measurement::Stock {
                sku: Sku::parse("S-1").unwrap(),
                delta: Units(-2),
                slot: Some(SlotId::parse("A1").unwrap())
            }]
        );
    }

    #[test]
    fn a_weight_reading_in_grams() {
        let reading =
            default("weight", r#"{"seq":1,"values":{"g":1234.5678,"ch":2,"stable":true}}"#)
                .unwrap();
        assert_eq!(
            reading.measurements,
            [Measurement::Weight {
                channel: Channel::parse("2").unwrap(),
                mass: Milligrams(1_234_568),
                stable: Some(true),
                fault: None
            }]
        );
    }

    #[test]
    fn each_fault_has_its_code() {
        let stock = |values: &str| format!(r#"{{"seq":1,"values":{values}}}"#);
        for (stream, raw, code) in [
            ("stock", "not json".to_owned(), "not_json"),
            ("stock", r#"{"values":{"sku":"a","delta":1}}"#.to_owned(), "missing_field"),
            ("stock", stock(r#"{"delta":1}"#), "missing_field"),
            ("stock", stock(r#"{"sku":5,"delta":1}"#), "wrong_type"),
            ("stock", stock(r#"{"sku":"a b","delta":1}"#), "bad_id"),
            ("stock", stock(r#"{"sku":"a","delta":1.5}"#), "wrong_type"),
            ("stock", stock(r#"{"sku":"a","delta":0}"#), "out_of_range"),
            ("stock", stock(r#"{"sku":"a","delta":9223372036854775808}"#), "out_of_range"),
            ("stock", stock(r#"{"sku":"a","delta":NaN}"#), "not_json"),
            ("stock", r#"{"seq":-1,"values":{"sku":"a","delta":1}}"#.to_owned(), "out_of_range"),
            ("weight", stock(r#"{"g":1e30}"#), "out_of_range"),
            ("weight", stock(r#"{"g":"12"}"#), "wrong_type"),
            ("scan", stock(r#"{"code":"4006381333931","mode":"eat"}"#), "wrong_type"),
            ("climate", stock("{}"), "empty"),
            ("climate", stock("[1]"), "wrong_type"),
        ] {
            assert_eq!(default(stream, &raw).unwrap_err().code(), code, "{stream} {raw}");
        }
    }

    #[test]
    fn values_below_values_are_named_by_their_way() {
        let profile = Profile::parse(
            "name: x\ncodec: json\nstreams:\n  s: {class: telemetry, dedupe: level, values: {all: \"\", depth: 2, except: [Time, a.z]}}\n",
        )
        .unwrap();
        let frame = br#"{"Time":"now","a":{"x":1,"z":2,"deep":{"y":3}},"b":true,"list":[1]}"#;
        let shown: Vec<_> = decode(&profile, "s", frame)
            .unwrap()
            .measurements
            .into_iter()
            .map(|m| format!("{m:?}"))
            .collect();
        assert_eq!(
            shown,
            [
                r#"Value { name: "s.a.x", value: Number(1.0) }"#,
                r#"Value { name: "s.b", value: Bool(true) }"#
            ]
        );
        let many: Vec<String> = (0..20)
            .map(|i| {
                let inner: Vec<String> = (0..20).map(|j| format!("\"k{j}\":1")).collect();
                format!("\"o{i}\":{{{}}}", inner.join(","))
            })
            .collect();
        let wide = format!("{{{}}}", many.join(","));
        assert_eq!(
            decode(&profile, "s", wide.as_bytes()),
            Err(DecodeReject::TooLarge("measurements"))
        );
    }

    #[test]
    fn a_frame_of_tags_is_as_old_as_its_newest_tag_unless_it_says_its_time() {
        let profile = |envelope: &str| {
            Profile::parse(&format!(
                "name: x\ncodec: json\n{envelope}streams:\n  s: {{class: stock, dedupe: level, tags: {{each: /tags, epc: /id, at: /time}}}}\n"
            ))
            .unwrap()
        };
        let frame = br#"{"ts":9,"tags":[{"id":"AABB","time":5},{"id":"AACC","time":7},{"id":"AADD","time":6}]}"#;
        let device_us = |envelope: &str, frame: &[u8]| {
            decode(&profile(envelope), "s", frame).unwrap().device_us
        };
        assert_eq!(device_us("", frame), Some(7_000));
        assert_eq!(device_us("envelope: {ts: /ts}\n", frame), Some(9_000));
        assert_eq!(device_us("envelope: {ts: /none}\n", frame), Some(7_000));
        assert_eq!(device_us("", br#"{"tags":[]}"#), None);
    }

    #[test]
    fn a_counter_that_is_left_out_may_have_a_default() {
        let profile = Profile::parse(
            "name: x\ncodec: json\nenvelope: {seq: /n, seq_default: 0}\nstreams:\n  s: {class: telemetry, dedupe: seq, values: {all: \"\"}}\n  l: {class: telemetry, dedupe: level, values: {all: \"\"}}\n",
        )
        .unwrap();
        assert_eq!(decode(&profile, "s", br#"{"a":1}"#).unwrap().seq, Some(0));
        assert_eq!(decode(&profile, "s", br#"{"a":1,"n":7}"#).unwrap().seq, Some(7));
        assert_eq!(decode(&profile, "l", br#"{"a":1}"#).unwrap().seq, None);
    }

    #[test]
    fn values_become_series_points() {
        let reading = default(
            "climate",
            r#"{"seq":1,"values":{"temp":21.5,"door":false,"note":"ok","x":null}}"#,
        )
        .unwrap();
        let names: Vec<_> = reading
            .measurements
            .iter()
            .filter_map(|m| {
                if let Measurement::Value { name, .. } = m { Some(name.as_str()) } else { None }
            })
            .collect();
        assert_eq!(names, ["climate.temp", "climate.door", "climate.note"]);
    }
}
