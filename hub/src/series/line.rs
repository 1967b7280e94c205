//! InfluxDB's line protocol, written so that no byte of a device can become syntax.
//!
//! `reading,device=D,facility=F,name=N value=21.5 1795438013000000001`
//!
//! One measurement; device, facility and name are tags, in this order, which is the sorted one. A number is the float field `value`,
//! a text the field `text`: a series never changes a field's type, which InfluxDB would refuse. Integers are floats too, for
//! the same reason. The time is in nanoseconds, with the point's tie below the microsecond.
//!
//! Escaping, after the server's parser rather than its manual: in a tag `,` `=` and space take a backslash; a backslash stands
//! for itself there, but one at the end would swallow the separator. In a string `"` and `\` take a backslash. Nothing escapes a
//! line break, and some servers split lines before they look at quotes, so control characters are replaced everywhere. An empty
//! tag is left out, because the server refuses it. NaN and infinities are no field values: such a point is not encoded.

use std::{fmt::Write, io};

use flate2::{Compression, write::GzEncoder};

use super::{Point, Reading};

/// The measurement that all points belong to.
pub const MEASUREMENT: &str = "reading";
/// The field of numbers.
pub const NUMBER_FIELD: &str = "value";
/// The field of texts.
pub const TEXT_FIELD: &str = "text";

/// Whether a character can stand in no line: it becomes U+FFFD.
pub fn is_unfit(c: char) -> bool {
    c.is_control()
}

/// Why a point cannot be a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// Line protocol has no such number.
    #[error("the value is not a finite number")]
    NotFinite,
}

/// Appends a point as one line with its line break.
pub fn encode(point: &Point, out: &mut String) -> Result<(), Unwritable> {
    if matches!(point.value, Reading::Number(number) if !number.is_finite()) {
        return Err(Unwritable::NotFinite);
    }
    out.push_str(MEASUREMENT);
    tag("device", &point.device, out);
    tag("facility", &point.facility, out);
    tag("name", &point.name, out);
    out.push(' ');
    match &point.value {
        Reading::Number(value) => {
            out.push_str(NUMBER_FIELD);
            out.push('=');
            number(*value, out);
        }
        Reading::Text(text) => {
            out.push_str(TEXT_FIELD);
            out.push_str("=\"");
            string(text, out);
            out.push('"');
        }
    }
    out.push(' ');
    let _ = writeln!(out, "{}", time_ns(point.at_us, point.tie));
    Ok(())
}

/// A point's time for InfluxDB, in nanoseconds since the Unix epoch.
pub fn time_ns(at_us: i64, tie: u16) -> i64 {
    at_us.saturating_mul(1_000).saturating_add(i64::from(tie))
}

fn tag(key: &str, value: &str, out: &mut String) {
    if value.is_empty() {
        return;
    }
    out.push(',');
    out.push_str(key);
    out.push('=');
    for c in value.chars() {
        match c {
            ',' | '=' | ' ' => out.extend(['\\', c]),
            c if is_unfit(c) => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    if value.ends_with('\\') {
        out.pop();
        out.push(char::REPLACEMENT_CHARACTER);
    }
}

fn string(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_unfit(c) => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
}

/// The shortest text that reads back as the same number.
fn number(value: f64, out: &mut String) {
    let size = value.abs();
    // Without an exponent 1e300 has 301 digits.
    let _ = if size != 0.0 && !(1e-5..1e16).contains(&size) {
        write!(out, "{value:e}")
    } else {
        write!(out, "{value}")
    };
}

/// A body, packed. The fastest level is a tenth of the size already, and time is what is scarce.
pub fn gzip(body: &str) -> io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::with_capacity(body.len() / 6), Compression::fast());
    io::Write::write_all(&mut packer, body.as_bytes())?;
    packer.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn point(name: &str, value: Reading) -> Point {
        Point {
            at_us: 1_795_438_013_000_000,
            tie: 7,
            facility: Arc::from("f1"),
            device: Arc::from("d:1"),
            name: name.to_owned(),
            value,
        }
    }

    fn line(name: &str, value: Reading) -> String {
        let mut out = String::new();
        encode(&point(name, value), &mut out).unwrap();
        out
    }

    #[test]
    fn a_plain_point_is_a_plain_line() {
        assert_eq!(
            line("climate.t", Reading::Number(21.5)),
            "reading,device=d:1,facility=f1,name=climate.t value=21.5 1795438013000000007\n"
        );
    }

    #[test]
    fn nothing_in_a_name_or_text_becomes_syntax() {
        for (name, tag) in [
            ("a b", r"a\ b"),
            ("a,b=c", r"a\,b\=c"),
            (r"a\b", r"a\b"),
            (r"a\,b", r"a\\,b"),
            (r"end\", "end\u{fffd}"),
            ("a\nreading x=1 1", "a\u{fffd}reading\\ x\\=1\\ 1"),
            ("tab\tcr\rnul\0", "tab\u{fffd}cr\u{fffd}nul\u{fffd}"),
            ("\"quoted\"", "\"quoted\""),
            ("Größe→", "Größe→"),
        ] {
            let line = line(name, Reading::Number(1.0));
            assert_eq!(line.matches('\n').count(), 1, "{name:?}");
            assert!(line.contains(&format!(",name={tag} value=1 ")), "{name:?}: {line}");
        }
        assert!(
            line("", Reading::Number(1.0)).starts_with("reading,device=d:1,facility=f1 value=")
        );
        for (text, field) in [
            (r#"say "no""#, r#"say \"no\""#),
            (r"back\", r"back\\"),
            ("two\nlines", "two\u{fffd}lines"),
            ("a b,c=d", "a b,c=d"),
            ("", ""),
        ] {
            let line = line("n", Reading::Text(text.to_owned()));
            assert!(line.contains(&format!(" text=\"{field}\" 17")), "{text:?}: {line}");
        }
    }

    #[test]
    fn numbers_read_back_as_they_were() {
        for value in [
            0.0,
            -0.0,
            3.0,
            0.1,
            -21.456,
            1e15,
            1e16,
            1e300,
            5e-324,
            1e-7,
            f64::MAX,
            f64::MIN_POSITIVE,
            u64::MAX as f64,
            i64::MIN as f64,
        ] {
            let mut text = String::new();
            number(value, &mut text);
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
            assert!(text.len() < 26, "{text}");
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut out = String::new();
            let told = encode(&point("n", Reading::Number(value)), &mut out);
            assert_eq!((told, out.as_str()), (Err(Unwritable::NotFinite), ""));
        }
    }
}
