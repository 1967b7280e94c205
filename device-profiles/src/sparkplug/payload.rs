//! Payloads of Sparkplug B: Protocol Buffers, read as far as a host needs them.
//!
//! Of the schema (`org.eclipse.tahu.protobuf`) those fields are read that say what a metric is and its plain value. What is
//! left out (properties, metadata, data sets, templates, bytes) is skipped by its length; unknown fields too. Reading is one
//! pass, every length is checked against what is there, and groups, which the schema does not have, are refused, so depth is two.

use crate::limits::TEXT_BYTES_MAX;

/// Most metrics of a payload.
pub const METRICS_MAX: usize = 4_096;
/// Longest name of a metric, in bytes.
pub const METRIC_NAME_BYTES_MAX: usize = 256;

/// Why bytes are no payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPayload {
    /// It ends within a field, or a length says more than is there.
    #[error("it ends within a field")]
    Short,
    /// A number of more than 64 bits.
    #[error("a number is too long")]
    Number,
    /// A field of a form the schema does not have.
    #[error("field {field} has the form {form}")]
    Form {
        /// Its number.
        field: u64,
        /// Its wire type.
        form: u8,
    },
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// A name that is too long.
    #[error("the name of a metric has more than {METRIC_NAME_BYTES_MAX} bytes")]
    Name,
    /// Too many metrics.
    #[error("it has more than {METRICS_MAX} metrics")]
    Metrics,
}

/// A payload.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Payload {
    /// When it was sent, milliseconds since 1970.
    pub timestamp_ms: Option<u64>,
    /// Its number in the session of its node, 0 to 255.
    pub seq: Option<u64>,
    /// Its metrics.
    pub metrics: Vec<Metric>,
}

/// A metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metric {
    /// Its name, in a birth and where there is no alias.
    pub name: Option<String>,
    /// Its number.
    pub alias: Option<u64>,
    /// When it was taken, milliseconds since 1970.
    pub timestamp_ms: Option<u64>,
    /// Its type.
    pub datatype: Option<u32>,
    /// It tells of an earlier time.
    pub is_historical: bool,
    /// It has no value.
    pub is_null: bool,
    /// Its value as it is written.
    pub content: Content,
}

/// A value as it is written; what it means depends on the type of its metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Content {
    /// None.
    #[default]
    None,
    /// Up to 32 bits; of a signed type the two's complement.
    Int(u32),
    /// Up to 64 bits.
    Long(u64),
    /// A single.
    Float(f32),
    /// A double.
    Double(f64),
    /// A switch.
    Bool(bool),
    /// A text.
    Text(String),
    /// A data set, a template, bytes, or what somebody added.
    Other,
}

/// Type numbers that matter here.
pub mod datatype {
    /// 8 bits, signed.
    pub const INT8: u32 = 1;
    /// 16 bits, signed.
    pub const INT16: u32 = 2;
    /// 32 bits, signed.
    pub const INT32: u32 = 3;
    /// 64 bits, signed.
    pub const INT64: u32 = 4;
    /// 64 bits.
    pub const UINT64: u32 = 8;
    /// A double.
    pub const DOUBLE: u32 = 10;
    /// A switch.
    pub const BOOLEAN: u32 = 11;
}

struct Wire<'a> {
    rest: &'a [u8],
}

enum Field<'a> {
    Number(u64),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn number(&mut self) -> Result<u64, BadPayload> {
        let mut value = 0_u64;
        for at in 0..10 {
            let (byte, rest) = self.rest.split_first().ok_or(BadPayload::Short)?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7F);
            let shifted = bits << (7 * at);
            if shifted >> (7 * at) != bits {
                return Err(BadPayload::Number);
            }
            value |= shifted;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BadPayload::Number)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], BadPayload> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(BadPayload::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next field and its number; `None` at the end.
    fn field(&mut self) -> Result<Option<(u64, Field<'a>)>, BadPayload> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.number()?;
        let (field, form) = (key >> 3, (key & 7) as u8);
        let value = match form {
            0 => Field::Number(self.number()?),
            1 => Field::Fixed64(self.take(8)?.try_into().map_err(|_| BadPayload::Short)?),
            2 => {
                let length = self.number()?;
                let length = usize::try_from(length).map_err(|_| BadPayload::Short)?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed32(self.take(4)?.try_into().map_err(|_| BadPayload::Short)?),
            _ => return Err(BadPayload::Form { field, form }),
        };
        Ok(Some((field, value)))
    }
}

impl Payload {
    /// Reads a payload.
    pub fn decode(raw: &[u8]) -> Result<Self, BadPayload> {
        let mut wire = Wire { rest: raw };
        let mut payload = Self::default();
        while let Some((number, field)) = wire.field()? {
            match (number, field) {
                (1, Field::Number(ms)) => payload.timestamp_ms = Some(ms),
                (3, Field::Number(seq)) => payload.seq = Some(seq),
                (2, Field::Bytes(_)) if payload.metrics.len() == METRICS_MAX => {
                    return Err(BadPayload::Metrics);
                }
                (2, Field::Bytes(bytes)) => payload.metrics.push(Metric::decode(bytes)?),
                // Its uuid, its body, and what others add.
                (_, Field::Number(_) | Field::Fixed32(_) | Field::Fixed64(_) | Field::Bytes(_)) => {
                }
            }
        }
        Ok(payload)
    }

    /// The number of the session, of a birth or death of a node.
    pub fn bd_seq(&self) -> Option<u64> {
        let metric = self.metrics.iter().find(|metric| metric.name.as_deref() == Some("bdSeq"))?;
        match metric.content {
            Content::Int(value) => Some(value.into()),
            Content::Long(value) => Some(value),
            Content::None
            | Content::Float(_)
            | Content::Double(_)
            | Content::Bool(_)
            | Content::Text(_)
            | Content::Other => None,
        }
    }

    /// What tells a node to be born again.
    pub fn rebirth(now_ms: u64) -> Self {
        let metric = Metric {
            name: Some("Node Control/Rebirth".to_owned()),
            timestamp_ms: Some(now_ms),
            datatype: Some(datatype::BOOLEAN),
            content: Content::Bool(true),
            ..Metric::default()
        };
        Self { timestamp_ms: Some(now_ms), seq: None, metrics: vec![metric] }
    }

    /// Writes the payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        number(&mut out, 1, self.timestamp_ms);
        for metric in &self.metrics {
            bytes(&mut out, 2, &metric.encode());
        }
        number(&mut out, 3, self.seq);
        out
    }
}

fn text(bytes: &[u8]) -> Result<String, BadPayload> {
    str::from_utf8(bytes).map(str::to_owned).map_err(|_| BadPayload::Text)
}

impl Metric {
    fn decode(raw: &[u8]) -> Result<Self, BadPayload> {
        let mut wire = Wire { rest: raw };
        let mut metric = Self::default();
        while let Some((number, field)) = wire.field()? {
            match (number, field) {
                (1, Field::Bytes(name)) if name.len() > METRIC_NAME_BYTES_MAX => {
                    return Err(BadPayload::Name);
                }
                (1, Field::Bytes(name)) => metric.name = Some(text(name)?),
                (2, Field::Number(alias)) => metric.alias = Some(alias),
                (3, Field::Number(ms)) => metric.timestamp_ms = Some(ms),
                (4, Field::Number(kind)) => metric.datatype = u32::try_from(kind).ok(),
                (5, Field::Number(on)) => metric.is_historical = on != 0,
                (7, Field::Number(on)) => metric.is_null = on != 0,
                (10, Field::Number(value)) => metric.content = Content::Int(value as u32),
                (11, Field::Number(value)) => metric.content = Content::Long(value),
                (12, Field::Fixed32(b)) => metric.content = Content::Float(f32::from_le_bytes(b)),
                (13, Field::Fixed64(b)) => metric.content = Content::Double(f64::from_le_bytes(b)),
                (14, Field::Number(on)) => metric.content = Content::Bool(on != 0),
                // A long text is no sensor value.
                (15, Field::Bytes(bytes)) if bytes.len() > TEXT_BYTES_MAX => {
                    metric.content = Content::Other;
                }
                (15, Field::Bytes(bytes)) => metric.content = Content::Text(text(bytes)?),
                (16..=19, Field::Bytes(_)) => metric.content = Content::Other,
                // Transient or not, metadata, properties, and what others add.
                (_, Field::Number(_) | Field::Fixed32(_) | Field::Fixed64(_) | Field::Bytes(_)) => {
                }
            }
        }
        Ok(metric)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(name) = &self.name {
            bytes(&mut out, 1, name.as_bytes());
        }
        number(&mut out, 2, self.alias);
        number(&mut out, 3, self.timestamp_ms);
        number(&mut out, 4, self.datatype.map(u64::from));
        number(&mut out, 5, self.is_historical.then_some(1));
        number(&mut out, 7, self.is_null.then_some(1));
        match &self.content {
            Content::None | Content::Other => {}
            Content::Int(value) => number(&mut out, 10, Some((*value).into())),
            Content::Long(value) => number(&mut out, 11, Some(*value)),
            Content::Float(value) => {
                varint(&mut out, 12 << 3 | 5);
                out.extend(value.to_le_bytes());
            }
            Content::Double(value) => {
                varint(&mut out, 13 << 3 | 1);
                out.extend(value.to_le_bytes());
            }
            Content::Bool(on) => number(&mut out, 14, Some((*on).into())),
            Content::Text(text) => bytes(&mut out, 15, text.as_bytes()),
        }
        out
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u64, value: Option<u64>) {
    if let Some(value) = value {
        varint(out, field << 3);
        varint(out, value);
    }
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_round_trip() {
        let metric = |name: &str, content| Metric {
            name: Some(name.to_owned()),
            content,
            ..Metric::default()
        };
        let payload = Payload {
            timestamp_ms: Some(1_795_496_400_500),
            seq: Some(255),
            metrics: vec![
                metric("a", Content::Int(u32::MAX)),
                metric("b", Content::Long(u64::MAX)),
                metric("c", Content::Float(-1.5)),
                metric("d", Content::Double(0.1)),
                metric("e", Content::Bool(true)),
                metric("f", Content::Text("é".into())),
                Metric {
                    alias: Some(7),
                    timestamp_ms: Some(1),
                    datatype: Some(datatype::INT8),
                    is_historical: true,
                    is_null: true,
                    ..Metric::default()
                },
            ],
        };
        assert_eq!(Payload::decode(&payload.encode()), Ok(payload));
    }

    #[test]
    fn what_is_no_payload_is_named() {
        for (raw, error) in [
            (&[0x08][..], BadPayload::Short),
            (&[0x12, 5, 1], BadPayload::Short),
            (&[0x12, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], BadPayload::Short),
            (&[0xFF; 12], BadPayload::Number),
            (&[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2], BadPayload::Number),
            (&[0x0B], BadPayload::Form { field: 1, form: 3 }),
            (&[0x12, 3, 0x0A, 1, 0xFF], BadPayload::Text),
        ] {
            assert_eq!(Payload::decode(raw), Err(error), "{raw:02x?}");
        }
        let many = [0x12, 0].repeat(METRICS_MAX + 1);
        assert_eq!(Payload::decode(&many), Err(BadPayload::Metrics));
        // What is not known is skipped: a field 100 of each form.
        let unknown =
            [0xA0, 6, 1, 0xA2, 6, 1, 0, 0xA5, 6, 0, 0, 0, 0, 0xA1, 6, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Payload::decode(&unknown), Ok(Payload::default()));
    }
}
