//! Raw frames to readings: one plain value, one scanned code, or one line of a scale.
//!
//! Much of the field speaks without a format: `21.5` on a topic, `ON`, a barcode and a line end, `ST,GS,+  12.50 kg`. A frame
//! is UTF-8 text; white space and control characters at its ends (line ends, STX and ETX of serial devices) do not count.
//! Reading is one pass that never goes back. Numbers are decimal, correctly rounded and finite, so they are the same on every
//! platform. A scale that tells a fault still gives a measurement, though its digits may be dashes: that it is broken is what
//! counts.

use crate::{
    limits::{CODE_BYTES_MAX, MASS_MG_MAX, PLAIN_BYTES_MAX, TEXT_BYTES_MAX},
    profile::{
        Kind, LineMap, LinePart, MassUnit, PlainType, PlainValue, Profile, ScaleState, ScanMap,
        WeightCells, WeightMap,
    },
    reading::{BadText, CellFault, DecodeReject, Measurement, Reading, Value},
    units::{Milligrams, Units},
};

/// Decodes one raw frame of a stream.
pub fn decode(profile: &Profile, name: &str, raw: &[u8]) -> Result<Reading, DecodeReject> {
    let unknown = || DecodeReject::UnknownStream(name.to_owned());
    let stream = profile.stream(name).ok_or_else(unknown)?;
    if raw.len() > PLAIN_BYTES_MAX {
        return Err(DecodeReject::TooLarge("raw frame"));
    }
    let text = str::from_utf8(raw).map_err(|_| DecodeReject::NotText(BadText::NotUtf8))?;
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c.is_ascii_control());
    if text.is_empty() {
        return Err(DecodeReject::Empty);
    }
    let measurement = match &stream.kind {
        Kind::Plain(value) => plain(name, value, text)?,
        Kind::Scan(ScanMap::Whole(_)) if text.len() > CODE_BYTES_MAX => {
            return Err(DecodeReject::OutOfRange("the code".into()));
        }
        Kind::Scan(ScanMap::Whole(code)) => Measurement::Scan {
            code: text.to_owned(),
            mode: code.mode,
            quantity: Units(1),
            slot: None,
        },
        Kind::Weight(WeightMap { cells: WeightCells::Line(line), .. }) => weigh(line, text)?,
        // Parsing a profile lets no stream of another codec into a raw profile.
        Kind::Stock(_)
        | Kind::Weight(_)
        | Kind::Scan(_)
        | Kind::Values(_)
        | Kind::Registers(_)
        | Kind::Tags(_) => return Err(unknown()),
    };
    Ok(Reading { seq: None, boot: None, device_us: None, measurements: vec![measurement] })
}

fn plain(stream: &str, value: &PlainValue, text: &str) -> Result<Measurement, DecodeReject> {
    let wrong = |expected| DecodeReject::WrongType { path: value.name.clone(), expected };
    let is = |words: &[String]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    let found = match &value.kind {
        PlainType::Number { scale, offset, decimal_comma } => {
            let number = number(text, *decimal_comma).ok_or_else(|| wrong("a number"))?;
            let scaled = number * scale + offset;
            if !scaled.is_finite() {
                return Err(DecodeReject::OutOfRange(value.name.clone()));
            }
            Value::Number(scaled)
        }
        PlainType::Bool { on, off } => match (is(on), is(off)) {
            (true, _) => Value::Bool(true),
            (false, true) => Value::Bool(false),
            (false, false) => return Err(wrong("one of its words for on and off")),
        },
        PlainType::Text if text.len() > TEXT_BYTES_MAX => {
            return Err(DecodeReject::TooLarge("text value"));
        }
        PlainType::Text => Value::Text(text.to_owned()),
    };
    Ok(Measurement::Value { name: format!("{stream}.{}", value.name), value: found })
}

/// A decimal number: sign, digits with at most one decimal mark, exponent. `inf`, `nan` and hexadecimal are none.
fn number(text: &str, decimal_comma: bool) -> Option<f64> {
    let mark = if decimal_comma { b',' } else { b'.' };
    let plain = |b: u8| b.is_ascii_digit() || b == mark || matches!(b, b'+' | b'-' | b'e' | b'E');
    if !text.bytes().all(plain) {
        return None;
    }
    let parsed = if decimal_comma { text.replace(',', ".").parse() } else { text.parse::<f64>() };
    parsed.ok().filter(|number| number.is_finite())
}

fn weigh(map: &LineMap, text: &str) -> Result<Measurement, DecodeReject> {
    let mut line = Reader { text, at: 0, mass: None, unit: map.unit, state: None };
    let read = line.read(map);
    let (stable, fault) = match line.state {
        None => (None, None),
        Some(ScaleState::Stable) => (Some(true), None),
        Some(ScaleState::Moving) => (Some(false), None),
        Some(ScaleState::Fault(fault)) => (Some(false), Some(fault)),
    };
    let mass = match (read, fault) {
        (Ok(()), _) => line.milligrams(fault)?,
        (Err(_), Some(_)) => Milligrams::ZERO,
        (Err(reject), None) => return Err(reject),
    };
    Ok(Measurement::Weight { channel: map.channel.clone(), mass, stable, fault })
}

/// Reads a line part by part; what it has found so far counts even when a later part does not fit.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    mass: Option<f64>,
    unit: MassUnit,
    state: Option<ScaleState>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// Takes what a test holds for, and goes on behind it.
    fn take(&mut self, holds: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !holds(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or("")
    }

    fn bad(&self, at: usize, expected: &'static str) -> DecodeReject {
        DecodeReject::NotText(BadText::Form { at: at.min(self.text.len()), expected })
    }

    fn read(&mut self, map: &LineMap) -> Result<(), DecodeReject> {
        for (i, part) in map.line.parts.iter().enumerate() {
            let at = self.at;
            // A word ends before the byte with which the form goes on.
            let stop = match map.line.parts.get(i + 1) {
                Some(LinePart::Literal(literal)) => literal.chars().next(),
                _ => None,
            };
            let in_word = |c: char| !is_blank(c) && Some(c) != stop;
            match part {
                LinePart::Literal(literal) => {
                    if !self.rest().starts_with(literal.as_str()) {
                        return Err(self.bad(at, "a character of the form"));
                    }
                    self.at += literal.len();
                }
                LinePart::Blanks => {
                    self.take(is_blank);
                }
                LinePart::Rest => self.at = self.text.len(),
                LinePart::Skip => {
                    self.take(in_word);
                }
                LinePart::State => {
                    let word = self.take(in_word);
                    let known = map.states.iter().find(|(known, _)| known == word);
                    let (_, state) = known.ok_or_else(|| self.bad(at, "one of the states"))?;
                    self.state = Some(*state);
                }
                LinePart::Unit => {
                    let word = self.take(|c| c.is_ascii_alphabetic());
                    if !word.is_empty() {
                        let unit = MassUnit::of(word);
                        self.unit = unit.ok_or_else(|| self.bad(at, "mg, g, kg or lb"))?;
                    }
                }
                LinePart::Mass => self.mass(map.decimal_comma)?,
            }
        }
        if self.at < self.text.len() { Err(self.bad(self.at, "the end")) } else { Ok(()) }
    }

    fn mass(&mut self, decimal_comma: bool) -> Result<(), DecodeReject> {
        self.take(is_blank);
        let at = self.at;
        let negative = self.rest().starts_with('-');
        if negative || self.rest().starts_with('+') {
            self.at += 1;
        }
        self.take(is_blank);
        let mark = if decimal_comma { ',' } else { '.' };
        let digits = self.take(|c| c.is_ascii_digit() || c == mark);
        let value = number(digits, decimal_comma).ok_or_else(|| self.bad(at, "a mass"))?;
        self.mass = Some(if negative { -value } else { value });
        Ok(())
    }

    fn milligrams(&self, fault: Option<CellFault>) -> Result<Milligrams, DecodeReject> {
        // The product of two f64 rounded to a whole number is the same on every IEEE platform.
        let mg = (self.mass.unwrap_or(0.0) * self.unit.milligrams()).round();
        if mg.abs() > MASS_MG_MAX as f64 && fault.is_none() {
            return Err(DecodeReject::OutOfRange("the mass".into()));
        }
        Ok(Milligrams(mg.clamp(-(MASS_MG_MAX as f64), MASS_MG_MAX as f64) as i64))
    }
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::ScanMode;

    const PROFILE: &str = r#"
name: plain
codec: raw
streams:
  temperature: { class: telemetry, dedupe: level, value: { type: number, scale: 0.1, offset: -40 } }
  lux: { class: telemetry, dedupe: level, value: { type: number, name: lx, decimal_comma: true } }
  door: { class: telemetry, dedupe: level, value: { type: bool, on: [open], off: [close, shut] } }
  relay: { class: telemetry, dedupe: level, value: { type: bool } }
  note: { class: telemetry, dedupe: payload, value: { type: text } }
  scanner: { class: stock, dedupe: payload, code: { mode: receive } }
  bare: { class: stock, dedupe: level, weight: {} }
  scale:
    class: stock
    dedupe: level
    weight:
      line:
        form: "{state},{skip},{mass} {unit}"
        unit: kg
        channel: left
        states: { ST: stable, US: moving, OL: overload }
"#;

    fn read(stream: &str, raw: &[u8]) -> Result<Measurement, DecodeReject> {
        let profile = Profile::parse(PROFILE).unwrap();
        decode(&profile, stream, raw).map(|mut reading| reading.measurements.remove(0))
    }

    fn value(stream: &str, raw: &str) -> Result<Value, &'static str> {
        match read(stream, raw.as_bytes()) {
            Ok(Measurement::Value { value, .. }) => Ok(value),
            Ok(other) => panic!("{other:?}"),
            Err(reject) => Err(reject.code()),
        }
    }

    fn mass(stream: &str, raw: &str) -> Result<(i64, Option<bool>, Option<CellFault>), String> {
        match read(stream, raw.as_bytes()) {
            Ok(Measurement::Weight { mass, stable, fault, .. }) => Ok((mass.0, stable, fault)),
            Ok(other) => panic!("{other:?}"),
            Err(reject) => Err(format!("{}: {reject}", reject.code())),
        }
    }

    #[test]
    fn plain_values() {
        assert_eq!(value("temperature", "615\r\n"), Ok(Value::Number(21.5)));
        assert_eq!(value("temperature", " +6.15e2 "), Ok(Value::Number(21.5)));
        assert_eq!(value("lux", "12,5"), Ok(Value::Number(12.5)));
        assert_eq!(value("door", "OPEN"), Ok(Value::Bool(true)));
        assert_eq!(value("door", "shut"), Ok(Value::Bool(false)));
        assert_eq!(value("relay", "0"), Ok(Value::Bool(false)));
        assert_eq!(value("relay", "ON"), Ok(Value::Bool(true)));
        assert_eq!(value("note", "{not json"), Ok(Value::Text("{not json".into())));
        let Ok(Measurement::Value { name, .. }) = read("lux", b"1") else { panic!() };
        assert_eq!(name, "lux.lx");
    }

    #[test]
    fn what_is_no_value_is_named() {
        for (stream, raw, code) in [
            ("temperature", "", "empty"),
            ("temperature", " \r\n", "empty"),
            ("temperature", "warm", "wrong_type"),
            ("temperature", "inf", "wrong_type"),
            ("temperature", "NaN", "wrong_type"),
            ("temperature", "0x10", "wrong_type"),
            ("temperature", "1e999", "wrong_type"),
            ("temperature", "1,5", "wrong_type"),
            ("lux", "1.5", "wrong_type"),
            ("lux", "1,5,5", "wrong_type"),
            ("door", "ajar", "wrong_type"),
            ("cellar", "1", "unknown_stream"),
        ] {
            assert_eq!(value(stream, raw), Err(code), "{stream} {raw:?}");
        }
        assert_eq!(value("note", &"x".repeat(300)), Err("too_large"));
        assert_eq!(value("note", &"x".repeat(2_000)), Err("too_large"));
        assert_eq!(read("note", b"\xff\xfe").unwrap_err().code(), "not_text");
    }

    #[test]
    fn a_scanner_tells_its_code() {
        assert_eq!(
            read("scanner", b"\x024006381333931\r\n"),
            Ok(Measurement::Scan {
                code: "4006381333931".into(),
                mode: ScanMode::Receive,
                quantity: Units(1),
                slot: None
            })
        );
        assert_eq!(read("scanner", &[b'9'; 300]).unwrap_err().code(), "out_of_range");
    }

    #[test]
    fn a_mass_and_perhaps_its_unit() {
        assert_eq!(mass("bare", "12.5 kg"), Ok((12_500_000, None, None)));
        assert_eq!(mass("bare", "-0.5KG"), Ok((-500_000, None, None)));
        assert_eq!(mass("bare", "17"), Ok((17_000, None, None)));
        assert_eq!(mass("bare", "1 lb"), Ok((453_592, None, None)));
        assert!(mass("bare", "12.5 stone").unwrap_err().contains("mg, g, kg or lb"));
        assert!(mass("bare", "12.5 kg net").unwrap_err().contains("the end"));
        assert!(mass("bare", "99999999 kg").unwrap_err().starts_with("out_of_range"));
        assert!(mass("bare", "").unwrap_err().starts_with("empty"));
    }

    #[test]
    fn a_line_of_a_scale() {
        assert_eq!(mass("scale", "ST,GS,+  12.50 kg\r\n"), Ok((12_500_000, Some(true), None)));
        assert_eq!(mass("scale", "US,NT,-   0.05kg"), Ok((-50_000, Some(false), None)));
        assert_eq!(mass("scale", "US,,3"), Ok((3_000_000, Some(false), None)));
        // Overload: there are no digits to read, and the fault is told all the same.
        let overload = Some(CellFault::Overload);
        assert_eq!(mass("scale", "OL,GS,+------- kg"), Ok((0, Some(false), overload)));
        assert_eq!(mass("scale", "OL,GS,99999999 kg").unwrap().2, overload);
        for (raw, why) in [
            ("XX,GS,1 kg", "at byte 0 of the line one of the states"),
            ("ST;GS;1 kg", "one of the states"),
            ("ST,GS", "at byte 5 of the line a character of the form"),
            ("ST,GS,- -1 kg", "a mass"),
            ("ST,GS,1.2.3 kg", "a mass"),
            ("ST,GS,. kg", "a mass"),
        ] {
            let error = mass("scale", raw).unwrap_err();
            assert!(error.starts_with("not_text") && error.contains(why), "{raw}: {error}");
        }
    }
}
