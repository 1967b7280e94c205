//! Fields: what a number in the registers is, and tests on bits of it.
//!
//! Vendors agree on nothing: words swapped, bytes swapped, a sign kept in a status bit, a decimal point kept in five bits of
//! another register, "stable" said as "unstable". Each of these is one key here and no code anywhere else.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::image::{Image, Table};
use crate::reading::DecodeReject;

/// Most decimal places a mass may have.
const DECIMALS_MAX: u32 = 9;

/// Type of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// A coil or discrete input.
    Bool,
    /// 16 bits, unsigned.
    U16,
    /// 16 bits, two's complement.
    I16,
    /// 32 bits in two registers, unsigned.
    U32,
    /// 32 bits in two registers, two's complement.
    I32,
    /// IEEE 754 single in two registers.
    F32,
    /// 64 bits in four registers, two's complement.
    I64,
    /// IEEE 754 double in four registers.
    F64,
}

impl Type {
    /// Registers (or coils) it takes.
    pub fn registers(self) -> u16 {
        match self {
            Self::Bool | Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::I64 | Self::F64 => 4,
        }
    }
    /// It is a floating-point number.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

/// Order of the bytes of a number of two registers, A being the most significant. Four registers follow suit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Order {
    /// High word first, high byte first: the protocol's own order.
    #[default]
    #[serde(rename = "ABCD")]
    Abcd,
    /// Low word first.
    #[serde(rename = "CDAB")]
    Cdab,
    /// High word first, bytes swapped.
    #[serde(rename = "BADC")]
    Badc,
    /// Low word first, bytes swapped.
    #[serde(rename = "DCBA")]
    Dcba,
}

impl Order {
    /// Every order, as `device probe` tries them.
    pub const ALL: [Self; 4] = [Self::Abcd, Self::Cdab, Self::Badc, Self::Dcba];

    /// As written in a profile.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abcd => "ABCD",
            Self::Cdab => "CDAB",
            Self::Badc => "BADC",
            Self::Dcba => "DCBA",
        }
    }

    /// The words, most significant first, as one number.
    fn join(self, words: &[u16]) -> u64 {
        let fold = |value: u64, word: u16| value << 16 | u64::from(word);
        let straight = |word: &u16| match self {
            Self::Abcd | Self::Cdab => *word,
            Self::Badc | Self::Dcba => word.swap_bytes(),
        };
        match self {
            Self::Abcd | Self::Badc => words.iter().map(straight).fold(0, fold),
            Self::Cdab | Self::Dcba => words.iter().rev().map(straight).fold(0, fold),
        }
    }
}

/// A number in the registers.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its table.
    pub table: Table,
    /// Its first address on the wire.
    pub at: u16,
    /// Its type.
    pub kind: Type,
    /// Its byte order.
    pub order: Order,
    /// Bits of an integer that count; the others are cleared, and the rest shifted down to bit 0.
    pub mask: Option<u32>,
    /// Multiplies it.
    pub scale: f64,
    /// Added after `scale`.
    pub offset: f64,
    /// When this holds, the number is negative: its own bits are the magnitude.
    pub negative_if: Option<Test>,
    /// How many of its digits are decimals.
    pub decimals: Decimals,
    /// Raw integers by which the device says that there is no value.
    pub invalid: Vec<i64>,
}

/// Where the decimal point is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decimals {
    /// Always so many places.
    Fixed(u32),
    /// The device says it in another field.
    Told(String),
}

/// A test on a field's raw bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// Which field.
    pub field: String,
    /// Which bits of it.
    pub mask: u32,
    /// What they must be, before shifting; without it any of them set will do.
    pub equals: Option<u32>,
    /// Turns the answer around.
    pub not: bool,
}

/// A field as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldText {
    #[serde(default)]
    table: Table,
    at: u32,
    #[serde(rename = "type")]
    kind: Type,
    #[serde(default)]
    order: Option<Order>,
    #[serde(default)]
    mask: Option<u32>,
    #[serde(default = "one")]
    scale: f64,
    #[serde(default)]
    offset: f64,
    #[serde(default)]
    negative_if: Option<TestText>,
    #[serde(default)]
    decimals: Option<u32>,
    #[serde(default)]
    decimals_in: Option<String>,
    #[serde(default)]
    invalid: Vec<i64>,
}

fn one() -> f64 {
    1.0
}

/// A test as written: `{field: status, bit: 11}`, `{field: status, mask: 0xE000, equals: 0x2000}`, `{…, not: true}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestText {
    field: String,
    #[serde(default)]
    bit: Option<u8>,
    #[serde(default)]
    mask: Option<u32>,
    #[serde(default)]
    equals: Option<u32>,
    #[serde(default)]
    not: bool,
}

impl TestText {
    /// Checks and compiles it; that the field exists is checked by [`Test::check`].
    pub fn compile(self) -> Result<Test, String> {
        let mask = match (self.bit, self.mask) {
            (Some(bit), None) if bit < 32 => 1 << bit,
            (Some(_), None) => return Err("bit must be 0 to 31".into()),
            (None, Some(mask)) if mask != 0 => mask,
            (None, Some(_)) => return Err("mask must not be 0".into()),
            (None, None) => u32::MAX,
            (Some(_), Some(_)) => return Err("give bit or mask, not both".into()),
        };
        if self.equals.is_some_and(|equals| equals & !mask != 0) {
            return Err("equals has bits that mask leaves out".into());
        }
        Ok(Test { field: self.field, mask, equals: self.equals, not: self.not })
    }
}

impl Test {
    /// The field it asks for exists and is an integer.
    pub fn check(&self, fields: &BTreeMap<String, Field>) -> Result<(), String> {
        match fields.get(&self.field) {
            None => Err(format!("it asks for field {:?}, which is not there", self.field)),
            Some(field) if field.kind.is_float() => {
                Err(format!("it asks for bits of {:?}, a floating-point number", self.field))
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether it holds in an image.
    pub fn holds(
        &self,
        fields: &BTreeMap<String, Field>,
        image: &Image<'_>,
    ) -> Result<bool, DecodeReject> {
        let missing = || DecodeReject::Missing(self.field.clone());
        let field = fields.get(&self.field).ok_or_else(missing)?;
        let bits = field.bits(image).ok_or_else(missing)? & u64::from(self.mask);
        let holds = match self.equals {
            Some(equals) => bits == u64::from(equals),
            None => bits != 0,
        };
        Ok(holds != self.not)
    }
}

impl FieldText {
    /// Checks and compiles it.
    pub fn compile(self, base: u32, order: Order) -> Result<Field, String> {
        let at = super::wire(base, self.at).map_err(|e| e.to_string())?;
        let bits = matches!(self.table, Table::Coil | Table::Discrete);
        if bits != (self.kind == Type::Bool) {
            return Err("coils and discrete inputs have type bool, registers any other".into());
        }
        if u32::from(at) + u32::from(self.kind.registers()) > 1 << 16 {
            return Err("it reaches beyond address 65535".into());
        }
        if !self.scale.is_finite() || self.scale == 0.0 || !self.offset.is_finite() {
            return Err("scale and offset must be finite, scale not 0".into());
        }
        if self.kind.is_float() && (self.mask.is_some() || !self.invalid.is_empty()) {
            return Err("mask and invalid are for integers".into());
        }
        if self.mask == Some(0) {
            return Err("mask must not be 0".into());
        }
        let decimals = match (self.decimals, self.decimals_in) {
            (None, None) => Decimals::Fixed(0),
            (Some(places), None) if places <= DECIMALS_MAX => Decimals::Fixed(places),
            (Some(_), None) => return Err(format!("at most {DECIMALS_MAX} decimals")),
            (None, Some(field)) => Decimals::Told(field),
            (Some(_), Some(_)) => return Err("give decimals or decimals_in, not both".into()),
        };
        Ok(Field {
            table: self.table,
            at,
            kind: self.kind,
            order: self.order.unwrap_or(order),
            mask: self.mask,
            scale: self.scale,
            offset: self.offset,
            negative_if: self.negative_if.map(TestText::compile).transpose()?,
            decimals,
            invalid: self.invalid,
        })
    }
}

impl Field {
    /// The fields it needs exist.
    pub fn check_references(&self, fields: &BTreeMap<String, Self>) -> Result<(), String> {
        if let Some(test) = &self.negative_if {
            test.check(fields)?;
        }
        match &self.decimals {
            Decimals::Told(name) if fields.get(name).is_none_or(|f| f.kind.is_float()) => {
                Err(format!("decimals_in asks for field {name:?}, which is not an integer field"))
            }
            Decimals::Told(_) | Decimals::Fixed(_) => Ok(()),
        }
    }

    /// Names of the other fields it is read with.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        let told = match &self.decimals {
            Decimals::Told(name) => Some(name.as_str()),
            Decimals::Fixed(_) => None,
        };
        self.negative_if.iter().map(|test| test.field.as_str()).chain(told)
    }

    /// Its bits as they stand in the registers, most significant word first; `None` when the image has them not.
    pub fn bits(&self, image: &Image<'_>) -> Option<u64> {
        if self.kind == Type::Bool {
            return image.bit(self.table, self.at).map(u64::from);
        }
        let mut words = [0; 4];
        let words = words.get_mut(..usize::from(self.kind.registers()))?;
        // An open range would step beyond the last address of a table.
        for (i, word) in (0..).zip(words.iter_mut()) {
            *word = image.word(self.table, self.at.checked_add(i)?)?;
        }
        Some(self.order.join(words))
    }

    /// Its raw integer, masked; `None` for a floating-point number.
    fn integer(&self, bits: u64) -> Option<i64> {
        let value = match self.kind {
            Type::Bool | Type::U16 | Type::U32 => bits.cast_signed(),
            Type::I16 => i64::from((bits as u16).cast_signed()),
            Type::I32 => i64::from((bits as u32).cast_signed()),
            Type::I64 => bits.cast_signed(),
            Type::F32 | Type::F64 => return None,
        };
        Some(match self.mask {
            Some(mask) => ((bits & u64::from(mask)) >> mask.trailing_zeros()).cast_signed(),
            None => value,
        })
    }

    /// Its value: bits, sign, decimals, scale and offset applied.
    pub fn value(
        &self,
        name: &str,
        fields: &BTreeMap<String, Self>,
        image: &Image<'_>,
    ) -> Result<f64, DecodeReject> {
        let bits = self.bits(image).ok_or_else(|| DecodeReject::Missing(name.to_owned()))?;
        let magnitude = match self.integer(bits) {
            Some(integer) if self.invalid.contains(&integer) => {
                return Err(DecodeReject::OutOfRange(name.to_owned()));
            }
            Some(integer) => integer as f64,
            None => {
                let (float, is_subnormal) = if self.kind == Type::F32 {
                    let float = f32::from_bits(bits as u32);
                    (f64::from(float), float.is_subnormal())
                } else {
                    let float = f64::from_bits(bits);
                    (float, float.is_subnormal())
                };
                // Nothing measures 1e-41: that is a round number with its words swapped, and must not be taken for zero.
                if is_subnormal {
                    return Err(DecodeReject::OutOfRange(name.to_owned()));
                }
                float
            }
        };
        let negative = match &self.negative_if {
            Some(test) => test.holds(fields, image)?,
            None => false,
        };
        let places = match &self.decimals {
            Decimals::Fixed(places) => *places,
            Decimals::Told(told) => {
                let missing = || DecodeReject::Missing(told.clone());
                let field = fields.get(told).ok_or_else(missing)?;
                let places = field.integer(field.bits(image).ok_or_else(missing)?).unwrap_or(-1);
                u32::try_from(places)
                    .ok()
                    .filter(|places| *places <= DECIMALS_MAX)
                    .ok_or_else(|| DecodeReject::OutOfRange(told.clone()))?
            }
        };
        let signed = if negative { -magnitude } else { magnitude };
        // Dividing by a power of ten rounds once; multiplying by its inverse would round twice.
        let value = signed / 10_f64.powi(places.cast_signed()) * self.scale + self.offset;
        if value.is_finite() { Ok(value) } else { Err(DecodeReject::OutOfRange(name.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bytes_in_every_order() {
        // 0x0A0B0C0D, A = 0x0A.
        for (order, words) in [
            (Order::Abcd, [0x0A0B, 0x0C0D]),
            (Order::Cdab, [0x0C0D, 0x0A0B]),
            (Order::Badc, [0x0B0A, 0x0D0C]),
            (Order::Dcba, [0x0D0C, 0x0B0A]),
        ] {
            assert_eq!(order.join(&words), 0x0A0B_0C0D, "{order:?}");
        }
        assert_eq!(Order::Cdab.join(&[1, 2, 3, 4]), 0x0004_0003_0002_0001);
    }

    #[test]
    fn the_last_register_of_a_table_is_read() {
        let text = serde_saphyr::from_str::<FieldText>("{at: 65535, type: u16}").unwrap();
        let field = text.compile(0, Order::Abcd).unwrap();
        let mut image = crate::modbus::ImageWriter::default();
        image.words(Table::Holding, 65_535, &[7]);
        let image = image.finish();
        assert_eq!(field.bits(&Image::parse(&image).unwrap()), Some(7));
    }

    #[test]
    fn tests_say_what_they_cannot_be() {
        let compile = |yaml: &str| serde_saphyr::from_str::<TestText>(yaml).unwrap().compile();
        assert_eq!(compile("{field: s, bit: 11}").unwrap().mask, 1 << 11);
        assert!(compile("{field: s, bit: 32}").is_err());
        assert!(compile("{field: s, bit: 1, mask: 2}").is_err());
        assert!(compile("{field: s, mask: 0x0F, equals: 0x10}").is_err());
        assert!(compile("{field: s, mask: 0}").is_err());
    }
}
