//! Line protocol read strictly, after InfluxDB's own parser and not after our encoder: what this refuses, the server would.

use std::collections::BTreeMap;

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    Number(f64),
    Text(String),
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub measurement: String,
    pub tags: BTreeMap<String, String>,
    pub fields: BTreeMap<String, Field>,
    pub ns: i64,
}

/// Reads one line.
pub fn parse(line: &str) -> Result<Line, String> {
    let bytes = line.as_bytes();
    let mut at = 0;
    let measurement = token(bytes, &mut at, b", ")?;
    if measurement.is_empty() {
        return Err("missing measurement".into());
    }
    let (mut tags, mut last_key) = (BTreeMap::new(), String::new());
    while bytes.get(at) == Some(&b',') {
        at += 1;
        let key = token(bytes, &mut at, b"=, ")?;
        if bytes.get(at) != Some(&b'=') {
            return Err("missing tag value".into());
        }
        at += 1;
        let value = token(bytes, &mut at, b",= ")?;
        if bytes.get(at) == Some(&b'=') {
            return Err("invalid tag format".into());
        }
        if key.is_empty() || value.is_empty() {
            return Err("missing tag key or value".into());
        }
        if key <= last_key {
            return Err(format!("tag {key} is not in order or twice"));
        }
        last_key.clone_from(&key);
        tags.insert(key, value);
    }
    space(bytes, &mut at)?;
    let mut fields = BTreeMap::new();
    loop {
        let key = token(bytes, &mut at, b"=, ")?;
        if bytes.get(at) != Some(&b'=') {
            return Err("missing field value".into());
        }
        at += 1;
        let value = field(line, &mut at)?;
        fields.insert(key, value);
        if bytes.get(at) != Some(&b',') {
            break;
        }
        at += 1;
    }
    space(bytes, &mut at)?;
    let ns = line[at..].parse().map_err(|_| format!("bad timestamp {:?}", &line[at..]))?;
    Ok(Line { measurement, tags, fields, ns })
}

fn space(bytes: &[u8], at: &mut usize) -> Result<(), String> {
    if bytes.get(*at) != Some(&b' ') {
        return Err(format!("a space is missing at byte {at}"));
    }
    *at += 1;
    Ok(())
}

/// A token up to an end that no backslash stands before; `\` before one of `,= ` goes away.
fn token(bytes: &[u8], at: &mut usize, ends: &[u8]) -> Result<String, String> {
    let mut out = Vec::new();
    while let Some(&byte) = bytes.get(*at) {
        if byte == b'\\' && bytes.get(*at + 1).is_some_and(|next| b",= ".contains(next)) {
            out.push(bytes[*at + 1]);
            *at += 2;
            continue;
        }
        if ends.contains(&byte) {
            break;
        }
        if byte < 0x20 || byte == 0x7f {
            return Err("a control character".into());
        }
        out.push(byte);
        *at += 1;
    }
    String::from_utf8(out).map_err(|_| "not UTF-8".into())
}

fn field(line: &str, at: &mut usize) -> Result<Field, String> {
    let rest = &line[*at..];
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut out = String::new();
        let mut chars = quoted.char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => out.push(escaped),
                    Some((_, other)) => out.extend(['\\', other]),
                    None => return Err("unbalanced quotes".into()),
                },
                '"' => {
                    *at += 1 + i + 1;
                    return Ok(Field::Text(out));
                }
                c => out.push(c),
            }
        }
        return Err("unbalanced quotes".into());
    }
    let end = rest.find([' ', ',']).unwrap_or(rest.len());
    let number: f64 = rest[..end].parse().map_err(|_| format!("invalid number {rest:?}"))?;
    if !number.is_finite() {
        return Err("invalid number".into());
    }
    *at += end;
    Ok(Field::Number(number))
}
