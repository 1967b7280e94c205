//! Messages and parameters as trees, decoded and encoded by the table.

use std::sync::LazyLock;

use super::{
    DEPTH_MAX, HEADER_BYTES, LlrpError, MESSAGE_BYTES_MAX,
    table::{MESSAGES, PARAMETERS, Row},
};

/// A field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number without sign.
    Unsigned(u64),
    /// A number with sign.
    Signed(i64),
    /// So many bits, in whole bytes.
    Bits(u16, Vec<u8>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Words of 16 bits.
    Words(Vec<u16>),
    /// Words of 32 bits.
    Longs(Vec<u32>),
    /// A text.
    Text(String),
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its number.
    pub number: u16,
    /// Its fields, in the order of the table.
    pub fields: Vec<Value>,
    /// The parameters in it.
    pub parameters: Vec<Parameter>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// 1 = LLRP 1.0.1, 2 = LLRP 1.1.
    pub version: u8,
    /// Its number.
    pub number: u16,
    /// Its id; an answer has that of its request.
    pub id: u32,
    /// Its fields, in the order of the table.
    pub fields: Vec<Value>,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// Parameters that are not known and were skipped, at any depth.
    pub skipped: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unsigned(u32),
    Signed(u32),
    Reserved(u32),
    BitVector,
    ByteVector,
    WordVector,
    LongVector,
    Text,
    Twelve,
    Rest,
}

#[derive(Debug)]
struct Layout {
    number: u16,
    name: &'static str,
    fields: Vec<(&'static str, Kind)>,
}

impl Layout {
    fn of((number, name, fields): Row) -> Self {
        let field = |text: &'static str| {
            let (name, kind) = text.split_once(':').unwrap_or(("", text));
            let bits = || kind.trim_start_matches(char::is_alphabetic).parse().unwrap_or(0);
            let kind = match kind {
                "u1v" => Kind::BitVector,
                "u8v" => Kind::ByteVector,
                "u16v" => Kind::WordVector,
                "u32v" => Kind::LongVector,
                "utf8v" => Kind::Text,
                "u96" => Kind::Twelve,
                "bytesToEnd" => Kind::Rest,
                _ if kind.starts_with("rsv") => Kind::Reserved(bits()),
                _ if kind.starts_with('s') => Kind::Signed(bits()),
                _ => Kind::Unsigned(bits()),
            };
            (name, kind)
        };
        Self { number, name, fields: fields.split_whitespace().map(field).collect() }
    }

    fn find(layouts: &'static [Self], number: u16) -> Option<&'static Self> {
        let at = layouts.binary_search_by_key(&number, |layout| layout.number).ok()?;
        layouts.get(at)
    }

    /// Which value a field's name has: reserved bits have none.
    fn index(&self, name: &str) -> Option<usize> {
        let kept = self.fields.iter().filter(|(_, kind)| !matches!(kind, Kind::Reserved(_)));
        kept.map(|(name, _)| *name).position(|known| known == name)
    }
}

static MESSAGE_LAYOUTS: LazyLock<Vec<Layout>> =
    LazyLock::new(|| MESSAGES.into_iter().map(Layout::of).collect());
static PARAMETER_LAYOUTS: LazyLock<Vec<Layout>> =
    LazyLock::new(|| PARAMETERS.into_iter().map(Layout::of).collect());

fn parameter_layout(number: u16) -> Option<&'static Layout> {
    Layout::find(&PARAMETER_LAYOUTS, number)
}

/// Bytes of a parameter's fields, if they are all numbers and fill whole bytes.
#[cfg(test)]
pub(super) fn fixed_bytes(number: u16) -> Option<usize> {
    let bits = parameter_layout(number)?.fields.iter().map(|(_, kind)| match kind {
        Kind::Unsigned(bits) | Kind::Signed(bits) | Kind::Reserved(bits) => Some(*bits),
        Kind::Twelve => Some(96),
        Kind::BitVector
        | Kind::ByteVector
        | Kind::WordVector
        | Kind::LongVector
        | Kind::Text
        | Kind::Rest => None,
    });
    let bits: u32 = bits.sum::<Option<u32>>()?;
    bits.is_multiple_of(8).then(|| usize::try_from(bits / 8).unwrap())
}

/// Whether a message can begin with this byte: three reserved bits, and few versions. A stream that is out of step shows it here.
fn begins(first: u8) -> Result<(), LlrpError> {
    let version = first >> 2 & 7;
    if first >> 5 != 0 {
        Err(LlrpError::First(first))
    } else if (1..=2).contains(&version) {
        Ok(())
    } else {
        Err(LlrpError::Version(version))
    }
}

/// How long the message is that begins here, header included; `None` when too few bytes are there to tell.
pub fn frame_length(bytes: &[u8]) -> Result<Option<usize>, LlrpError> {
    bytes.first().map_or(Ok(()), |first| begins(*first))?;
    let Some(head) = bytes.get(..HEADER_BYTES) else { return Ok(None) };
    let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
    match usize::try_from(length) {
        Ok(length) if (HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&length) => Ok(Some(length)),
        Ok(_) | Err(_) => Err(LlrpError::Length(length)),
    }
}

/// Bytes that are read from the front.
struct Reader<'a> {
    bytes: &'a [u8],
    /// Bits of the first byte that were read already.
    bits: u32,
    what: &'static str,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, bits: 0, what }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], LlrpError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(LlrpError::Short(self.what))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// A number of any width; narrow ones share bytes.
    fn number(&mut self, width: u32) -> Result<u64, LlrpError> {
        if self.bits == 0 && width.is_multiple_of(8) {
            let bytes = self.take(usize::try_from(width / 8).unwrap_or(0))?;
            return Ok(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
        }
        let mut value = 0;
        for _ in 0..width {
            let byte = *self.bytes.first().ok_or(LlrpError::Short(self.what))?;
            value = value << 1 | u64::from(byte >> (7 - self.bits) & 1);
            self.bits += 1;
            if self.bits == 8 {
                self.bits = 0;
                self.take(1)?;
            }
        }
        Ok(value)
    }

    fn count(&mut self) -> Result<usize, LlrpError> {
        Ok(usize::try_from(self.number(16)?).unwrap_or(0))
    }

    fn field(&mut self, name: &'static str, kind: Kind) -> Result<Option<Value>, LlrpError> {
        Ok(Some(match kind {
            Kind::Reserved(width) => {
                self.number(width)?;
                return Ok(None);
            }
            Kind::Unsigned(width) => Value::Unsigned(self.number(width)?),
            Kind::Signed(width) => {
                let unused = 64 - width;
                Value::Signed((self.number(width)? << unused).cast_signed() >> unused)
            }
            Kind::BitVector => {
                let bits = self.count()?;
                let bytes = self.take(bits.div_ceil(8))?.to_vec();
                Value::Bits(u16::try_from(bits).unwrap_or(0), bytes)
            }
            Kind::ByteVector => {
                let count = self.count()?;
                Value::Bytes(self.take(count)?.to_vec())
            }
            Kind::WordVector => {
                let count = self.count()?;
                let words = self.take(count * 2)?.chunks_exact(2);
                Value::Words(words.map(|w| u16::from_be_bytes([w[0], w[1]])).collect())
            }
            Kind::LongVector => {
                let count = self.count()?;
                let longs = self.take(count * 4)?.chunks_exact(4);
                let long = |l: &[u8]| u32::from_be_bytes([l[0], l[1], l[2], l[3]]);
                Value::Longs(longs.map(long).collect())
            }
            Kind::Text => {
                let count = self.count()?;
                let text = std::str::from_utf8(self.take(count)?);
                Value::Text(text.map_err(|_| LlrpError::Text(name))?.to_owned())
            }
            Kind::Twelve => Value::Bytes(self.take(12)?.to_vec()),
            Kind::Rest => Value::Bytes(self.take(self.bytes.len())?.to_vec()),
        }))
    }

    fn fields(&mut self, layout: &'static Layout) -> Result<Vec<Value>, LlrpError> {
        let mut values = Vec::with_capacity(layout.fields.len());
        for (name, kind) in &layout.fields {
            values.extend(self.field(name, *kind)?);
        }
        Ok(values)
    }

    fn parameters(&mut self, depth: usize, skipped: &mut u32) -> Result<Vec<Parameter>, LlrpError> {
        let mut parameters = Vec::new();
        while let Some(&first) = self.bytes.first() {
            if depth >= DEPTH_MAX {
                return Err(LlrpError::Depth);
            }
            if first & 0x80 != 0 {
                self.take(1)?;
                let number = u16::from(first & 0x7F);
                let layout = parameter_layout(number).ok_or(LlrpError::UnknownTv(number))?;
                self.what = layout.name;
                let fields = self.fields(layout)?;
                parameters.push(Parameter { number, fields, parameters: Vec::new() });
                continue;
            }
            let left = self.bytes.len();
            let number = u16::try_from(self.number(16)? & 0x3FF).unwrap_or(0);
            let length = self.count()?;
            if length < 4 || length > left {
                return Err(LlrpError::ParameterLength { number, length, left });
            }
            let body = self.take(length - 4)?;
            match parameter_layout(number) {
                Some(layout) if number >= 128 => {
                    let mut inside = Reader::new(body, layout.name);
                    let fields = inside.fields(layout)?;
                    let below = inside.parameters(depth + 1, skipped)?;
                    parameters.push(Parameter { number, fields, parameters: below });
                }
                Some(_) | None => *skipped += 1,
            }
        }
        Ok(parameters)
    }
}

impl Message {
    /// Reads a whole message, header included.
    pub fn decode(bytes: &[u8]) -> Result<Self, LlrpError> {
        let length = frame_length(bytes)?.ok_or(LlrpError::Short("the header"))?;
        let bytes = bytes.get(..length).ok_or(LlrpError::Short("the message"))?;
        let mut reader = Reader::new(bytes, "the header");
        let head = u16::try_from(reader.number(16)?).unwrap_or(0);
        let version = u8::try_from(head >> 10 & 7).unwrap_or(0);
        let number = head & 0x3FF;
        let layout = Layout::find(&MESSAGE_LAYOUTS, number).ok_or(LlrpError::Message(number))?;
        reader.number(32)?;
        let id = u32::try_from(reader.number(32)?).unwrap_or(0);
        reader.what = layout.name;
        let fields = reader.fields(layout)?;
        let mut skipped = 0;
        let parameters = reader.parameters(0, &mut skipped)?;
        Ok(Self { version, number, id, fields, parameters, skipped })
    }

    /// Reads the LLRPStatus of an answer: its code and what it says; a vendor's answer has it in its data.
    pub fn status(&self) -> Option<(u16, String)> {
        let of = |status: &Parameter| {
            let code = u16::try_from(status.number_of("StatusCode")?).ok()?;
            Some((code, status.text_of("ErrorDescription").unwrap_or_default().to_owned()))
        };
        if let Some(status) = self.parameter("LLRPStatus") {
            return of(status);
        }
        let Some(Value::Bytes(data)) = self.field("Data") else { return None };
        let inside = Reader::new(data, "Data").parameters(0, &mut 0).ok()?;
        inside.iter().find(|parameter| parameter.name() == "LLRPStatus").and_then(of)
    }

    /// A message of LLRP 1.0.1, which every reader speaks.
    pub fn new(number: u16, id: u32, fields: Vec<Value>, parameters: Vec<Parameter>) -> Self {
        Self { version: 1, number, id, fields, parameters, skipped: 0 }
    }

    /// The bytes, header included.
    pub fn encode(&self) -> Result<Vec<u8>, LlrpError> {
        let layout =
            Layout::find(&MESSAGE_LAYOUTS, self.number).ok_or(LlrpError::Message(self.number))?;
        let mut out = Vec::with_capacity(64);
        out.extend((u16::from(self.version & 7) << 10 | self.number).to_be_bytes());
        out.extend([0; 4]);
        out.extend(self.id.to_be_bytes());
        write_fields(layout, &self.fields, &mut out)?;
        for parameter in &self.parameters {
            parameter.write(0, &mut out)?;
        }
        if out.len() > MESSAGE_BYTES_MAX {
            return Err(LlrpError::TooLong(layout.name));
        }
        let length = u32::try_from(out.len()).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = out.get_mut(2..6) {
            place.copy_from_slice(&length);
        }
        Ok(out)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        Layout::find(&MESSAGE_LAYOUTS, self.number).map_or("?", |layout| layout.name)
    }

    /// A field.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let layout = Layout::find(&MESSAGE_LAYOUTS, self.number)?;
        self.fields.get(layout.index(name)?)
    }

    /// The first parameter of a name.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name() == name)
    }
}

impl Parameter {
    /// A parameter by its name in the standard.
    pub fn new(name: &str, fields: Vec<Value>, parameters: Vec<Self>) -> Self {
        let layout = PARAMETER_LAYOUTS.iter().find(|layout| layout.name == name);
        Self { number: layout.map_or(0, |layout| layout.number), fields, parameters }
    }

    /// Its name; `?` when the standard has none of its number.
    pub fn name(&self) -> &'static str {
        parameter_layout(self.number).map_or("?", |layout| layout.name)
    }

    /// A field.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(parameter_layout(self.number)?.index(name)?)
    }

    /// A field that is a number without sign.
    pub fn number_of(&self, name: &str) -> Option<u64> {
        if let Value::Unsigned(number) = self.field(name)? { Some(*number) } else { None }
    }

    /// A field that is a text.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        if let Value::Text(text) = self.field(name)? { Some(text) } else { None }
    }

    /// A field that is a number with sign.
    pub fn signed_of(&self, name: &str) -> Option<i64> {
        if let Value::Signed(number) = self.field(name)? { Some(*number) } else { None }
    }

    /// Every parameter of a name in it.
    pub fn all(&self, name: &'static str) -> impl Iterator<Item = &Self> {
        self.parameters.iter().filter(move |parameter| parameter.name() == name)
    }

    /// The first parameter of a name in it.
    pub fn parameter(&self, name: &str) -> Option<&Self> {
        self.parameters.iter().find(|parameter| parameter.name() == name)
    }

    fn write(&self, depth: usize, out: &mut Vec<u8>) -> Result<(), LlrpError> {
        let layout = parameter_layout(self.number).ok_or(LlrpError::UnknownTv(self.number))?;
        if depth >= DEPTH_MAX {
            return Err(LlrpError::Depth);
        }
        if let Ok(tv @ 1..128) = u8::try_from(self.number) {
            out.push(0x80 | tv);
            return write_fields(layout, &self.fields, out);
        }
        let start = out.len();
        out.extend(self.number.to_be_bytes());
        out.extend([0; 2]);
        write_fields(layout, &self.fields, out)?;
        for parameter in &self.parameters {
            parameter.write(depth + 1, out)?;
        }
        let length =
            u16::try_from(out.len() - start).map_err(|_| LlrpError::TooLong(layout.name))?;
        if let Some(place) = out.get_mut(start + 2..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }
}

/// Writes fields; narrow numbers share bytes with the reserved bits around them.
fn write_fields(
    layout: &'static Layout,
    values: &[Value],
    out: &mut Vec<u8>,
) -> Result<(), LlrpError> {
    let mut values = values.iter();
    let mut bits = 0;
    for (name, kind) in &layout.fields {
        if let Kind::Reserved(width) = kind {
            put(0, *width, &mut bits, out);
            continue;
        }
        let value =
            values.next().ok_or(LlrpError::Field { parameter: layout.name, wanted: name })?;
        write_field(name, *kind, value, &mut bits, out)?;
    }
    match values.next() {
        None => Ok(()),
        Some(_) => Err(LlrpError::Field { parameter: layout.name, wanted: "no further" }),
    }
}

fn write_field(
    name: &'static str,
    kind: Kind,
    value: &Value,
    bits: &mut u32,
    out: &mut Vec<u8>,
) -> Result<(), LlrpError> {
    let count = |len: usize| u16::try_from(len).map_err(|_| LlrpError::TooLong(name));
    match (kind, value) {
        (Kind::Unsigned(width), Value::Unsigned(number)) => {
            if width < 64 && *number >> width != 0 {
                return Err(LlrpError::Value(name));
            }
            put(*number, width, bits, out);
        }
        (Kind::Signed(width), Value::Signed(number)) => {
            let unused = 64 - width;
            if (*number << unused) >> unused != *number {
                return Err(LlrpError::Value(name));
            }
            put(number.cast_unsigned(), width, bits, out);
        }
        (Kind::BitVector, Value::Bits(len, bytes)) => {
            if bytes.len() != usize::from(*len).div_ceil(8) {
                return Err(LlrpError::Value(name));
            }
            out.extend(len.to_be_bytes());
            out.extend(bytes);
        }
        (Kind::ByteVector, Value::Bytes(bytes)) => {
            out.extend(count(bytes.len())?.to_be_bytes());
            out.extend(bytes);
        }
        (Kind::WordVector, Value::Words(words)) => {
            out.extend(count(words.len())?.to_be_bytes());
            out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        }
        (Kind::LongVector, Value::Longs(longs)) => {
            out.extend(count(longs.len())?.to_be_bytes());
            out.extend(longs.iter().flat_map(|long| long.to_be_bytes()));
        }
        (Kind::Text, Value::Text(text)) => {
            out.extend(count(text.len())?.to_be_bytes());
            out.extend(text.as_bytes());
        }
        (Kind::Twelve, Value::Bytes(bytes)) if bytes.len() == 12 => out.extend(bytes),
        (Kind::Rest, Value::Bytes(bytes)) => out.extend(bytes),
        _ => return Err(LlrpError::Value(name)),
    }
    Ok(())
}

/// Writes the lowest bits of a number behind those already in the last byte.
fn put(number: u64, width: u32, bits: &mut u32, out: &mut Vec<u8>) {
    for shift in (0..width).rev() {
        if *bits == 0 {
            out.push(0);
        }
        if let Some(last) = out.last_mut() {
            *last |= u8::from(number >> shift & 1 == 1) << (7 - *bits);
        }
        *bits = (*bits + 1) % 8;
    }
}
