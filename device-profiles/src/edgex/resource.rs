//! One EdgeX resource: the field that reads the same, or why there is none.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A resource as EdgeX writes it. Numbers may be strings: EdgeX casts.
#[derive(Debug, Deserialize)]
pub(super) struct Resource {
    pub(super) name: String,
    #[serde(default)]
    attributes: BTreeMap<String, Value>,
    #[serde(default)]
    properties: BTreeMap<String, Value>,
}

/// A field of a register map, to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Imported {
    /// An id.
    pub(super) name: String,
    /// The table, as in a profile.
    pub(super) table: &'static str,
    /// First address on the wire.
    pub(super) at: u16,
    /// The type, as in a profile.
    pub(super) kind: &'static str,
    /// Registers or bits it takes.
    pub(super) count: u16,
    /// Byte order, as in a profile.
    pub(super) order: &'static str,
    /// Bits that count.
    pub(super) mask: Option<u32>,
    /// Multiplies it.
    pub(super) scale: f64,
    /// Added after `scale`.
    pub(super) offset: f64,
    /// What it is measured in.
    pub(super) unit: Option<String>,
    /// What a reader should know.
    pub(super) notes: Vec<String>,
}

/// The type of a resource's value in EdgeX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueType {
    Bool,
    Integer { bits: u32, signed: bool },
    Float { bits: u32 },
}

/// A name with what is outside an id's alphabet replaced.
pub(super) fn id_like(name: &str, instead: char) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
    name.chars().map(|c| if good(c) { c } else { instead }).collect()
}

impl Imported {
    /// Why this field cannot stand beside another one.
    pub(super) fn clashes(&self, other: &Self) -> Option<String> {
        if self.name == other.name {
            return Some(format!("another resource is named {} here already", other.name));
        }
        let end = |field: &Self| u32::from(field.at) + u32::from(field.count);
        let same = self.at == other.at && self.count == other.count;
        let apart = end(self) <= u32::from(other.at) || end(other) <= u32::from(self.at);
        (self.table == other.table && !same && !apart)
            .then(|| format!("it shares registers with {} in part", other.name))
    }
}

impl Resource {
    /// EdgeX 1 had `properties: {value: {…}, units: {…}}`.
    pub(super) fn is_of_version_1(&self) -> bool {
        self.properties.get("value").is_some_and(Value::is_object)
    }

    /// The field that reads what EdgeX reads, or why there is none.
    pub(super) fn import(&self) -> Result<Imported, String> {
        let access = self.text("readWrite", &self.properties).unwrap_or_default();
        if !access.to_ascii_uppercase().contains('R') {
            return Err("it can only be written".into());
        }
        let written = self.text("valueType", &self.properties).unwrap_or_default();
        let value = ValueType::of(&written)?;
        let table = self.text("primaryTable", &self.attributes).unwrap_or_default();
        let table = match table.to_ascii_uppercase().as_str() {
            "COILS" => "coil",
            "DISCRETE_INPUTS" | "DISCRETES_INPUT" => "discrete",
            "HOLDING_REGISTERS" => "holding",
            "INPUT_REGISTERS" => "input",
            "" => return Err("it has no primaryTable; only Modbus resources are read".into()),
            _ => return Err(format!("primaryTable {table:?} is no table of Modbus")),
        };
        let (at, bit) = self.address()?;
        let raw = self.text("rawType", &self.attributes).map(|raw| raw.to_ascii_uppercase());
        let is_bits = matches!(table, "coil" | "discrete");
        let mut field = Imported {
            name: id_like(&self.name, '_'),
            table,
            at,
            kind: "bool",
            count: 1,
            order: "ABCD",
            mask: None,
            scale: 1.0,
            offset: 0.0,
            unit: self.text("units", &self.properties).filter(|unit| !unit.is_empty()),
            notes: Vec::new(),
        };
        crate::ids::check_id(&field.name).map_err(|e| format!("its name cannot be an id: {e}"))?;
        if field.name != self.name {
            field.notes.push(format!("is {} in EdgeX", super::line(&self.name)));
        }
        if access.to_ascii_uppercase().contains('W') {
            field.notes.push("EdgeX could also write it".into());
        }
        match (value, is_bits) {
            (ValueType::Bool, _) if raw.is_some() => {
                return Err("a Bool with a rawType is read by its first bits only".into());
            }
            (ValueType::Bool, true) if bit != 0 => {
                return Err("a coil or discrete input has no bits to choose from".into());
            }
            (ValueType::Bool, true) => return Ok(field),
            (ValueType::Bool, false) if bit > 15 => {
                return Err(format!("EdgeX reads its startingAddress as bit {bit} of a register"));
            }
            (ValueType::Bool, false) => {
                (field.kind, field.mask) = ("u16", Some(1 << bit));
                field.notes.push("a Bool of EdgeX; 0 or 1 here".into());
                return Ok(field);
            }
            (_, true) => return Err(format!("{written} of bits: only Bool is read from them")),
            (_, false) if bit != 0 => {
                return Err(format!("EdgeX takes a bit for Bool, not {written}"));
            }
            (_, false) => {}
        }
        (field.kind, field.count) = value.stored_as(raw.as_deref()).ok_or_else(|| {
            format!("valueType {written} with rawType {}", raw.as_deref().unwrap_or("unset"))
        })?;
        if u32::from(at) + u32::from(field.count) > 1 << 16 {
            return Err("it reaches beyond address 65535".into());
        }
        self.swap(&mut field)?;
        self.arithmetic(value, &mut field)?;
        Ok(field)
    }

    /// Address and bit. EdgeX formats a number that is not whole with two decimals, so `10.1` is bit 10 as `10.10` is.
    fn address(&self) -> Result<(u16, u32), String> {
        let text = match self.attributes.get("startingAddress") {
            Some(Value::Number(number)) if number.is_f64() => {
                format!("{:.2}", number.as_f64().unwrap_or_default())
            }
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(text)) => text.trim().to_owned(),
            _ => return Err("it has no startingAddress".into()),
        };
        let bad = || format!("startingAddress {text:?} is no address");
        let (at, bit) = text.split_once('.').unwrap_or((&text, "0"));
        Ok((at.parse().map_err(|_| bad())?, bit.parse::<u8>().map_err(|_| bad())?.into()))
    }

    fn swap(&self, field: &mut Imported) -> Result<(), String> {
        let flag = |name: &str| match self.attributes.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            Some(Value::String(text)) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "t" => Ok(true),
                "false" | "0" | "f" => Ok(false),
                _ => Err(format!("{name} is {text:?}")),
            },
            Some(Value::Number(number)) => Ok(number.as_f64() != Some(0.0)),
            Some(Value::Array(_) | Value::Object(_)) => Err(format!("{name} is no bool")),
        };
        let (bytes, words) = (flag("isByteSwap")?, flag("isWordSwap")?);
        if field.count == 2 {
            field.order = match (bytes, words) {
                (false, false) => "ABCD",
                (false, true) => "CDAB",
                (true, false) => "BADC",
                (true, true) => "DCBA",
            };
        } else if bytes || words {
            field
                .notes
                .push("EdgeX swaps numbers of 32 bits only; this one is read unswapped".into());
        }
        Ok(())
    }

    /// Mask, shift, base, scale and offset, in this order, in the type of the value.
    fn arithmetic(&self, value: ValueType, field: &mut Imported) -> Result<(), String> {
        let (scale, offset) =
            (self.number("scale")?.unwrap_or(1.0), self.number("offset")?.unwrap_or(0.0));
        if self.number("base")?.is_some_and(|base| base != 0.0) {
            return Err("base: powers have no counterpart here".into());
        }
        let mask = self.whole("mask")?.unwrap_or(0);
        let shift = self.whole("shift")?.unwrap_or(0);
        match value {
            ValueType::Integer { bits, signed } => {
                for (name, number) in [("scale", scale), ("offset", offset)] {
                    let limit =
                        if bits >= 53 { 9.0e15 } else { f64::from(1u32 << (bits - 1).min(31)) };
                    if number.fract() != 0.0 || number.abs() >= limit || (!signed && number < 0.0) {
                        return Err(format!(
                            "{name} {number} on an integer: EdgeX computes in integers and would cut it"
                        ));
                    }
                }
                if let Some((mask, factor)) = masked(mask, shift, bits, signed)? {
                    field.mask = Some(mask);
                    field.scale = factor;
                }
            }
            ValueType::Float { bits } => {
                if mask != 0 || shift != 0 {
                    field
                        .notes
                        .push("EdgeX ignores mask and shift of a floating-point value".into());
                }
                if bits == 32 && (scale != 1.0 || offset != 0.0) {
                    field
                        .notes
                        .push("EdgeX rounds it to 32 bits; here it keeps the digits it has".into());
                }
            }
            ValueType::Bool => {}
        }
        if scale == 0.0 {
            return Err("scale 0 makes every value 0".into());
        }
        // A factor of two changes no digit, so the product is exact.
        field.scale *= scale;
        field.offset = offset;
        Ok(())
    }

    fn text(&self, name: &str, from: &BTreeMap<String, Value>) -> Option<String> {
        match from.get(name) {
            Some(Value::String(text)) => Some(text.trim().to_owned()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        }
    }

    fn number(&self, name: &str) -> Result<Option<f64>, String> {
        let number = match self.properties.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
        };
        match number {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(format!("{name} is no number")),
        }
    }

    fn whole(&self, name: &str) -> Result<Option<i64>, String> {
        let Some(number) = self.number(name)? else { return Ok(None) };
        if number.fract() != 0.0 || number.abs() > 9.0e15 {
            return Err(format!("{name} {number} is no whole number that can be read exactly"));
        }
        Ok(Some(number as i64))
    }
}

/// The mask and the factor by which a register field gives what EdgeX's mask and shift give; `None` when they do nothing.
///
/// A field's mask is shifted down to bit 0. EdgeX's stays where it is until the shift, and bits shifted out are lost.
fn masked(mask: i64, shift: i64, bits: u32, signed: bool) -> Result<Option<(u32, f64)>, String> {
    if mask == 0 && shift == 0 {
        return Ok(None);
    }
    let all = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    let mut kept = if mask == 0 { all } else { mask.cast_unsigned() & all };
    if kept == all && shift == 0 {
        return Ok(None);
    }
    if signed && kept >> (bits - 1) != 0 {
        return Err("mask or shift of a signed number that includes its sign".into());
    }
    let by = u32::try_from(shift.unsigned_abs()).unwrap_or(u32::MAX);
    kept = match (shift > 0, by >= bits) {
        (_, true) => 0,
        (true, false) => kept >> by << by,
        (false, false) => kept & (all >> by),
    };
    // Left: a bit shifted into the sign would make the number negative.
    if signed && shift < 0 && kept >> (bits - 1 - by.min(bits - 1)) != 0 {
        return Err("shift of a signed number into its sign".into());
    }
    if kept == 0 {
        return Err("mask and shift leave no bit of it".into());
    }
    let mask = u32::try_from(kept).map_err(|_| "mask or shift of more than 32 bits".to_owned())?;
    let places = i64::from(mask.trailing_zeros()) - shift;
    let power = 2f64.powi(i32::try_from(places).unwrap_or(0));
    Ok(Some((mask, power)))
}

impl ValueType {
    fn of(text: &str) -> Result<Self, String> {
        let integer = |bits, signed| Ok(Self::Integer { bits, signed });
        match text.to_ascii_lowercase().as_str() {
            "bool" => Ok(Self::Bool),
            "uint16" => integer(16, false),
            "uint32" => integer(32, false),
            "int16" => integer(16, true),
            "int32" => integer(32, true),
            "int64" => integer(64, true),
            "float32" => Ok(Self::Float { bits: 32 }),
            "float64" => Ok(Self::Float { bits: 64 }),
            "" => Err("it has no valueType".into()),
            _ => Err(format!("valueType {text} has no counterpart here")),
        }
    }

    /// The type in the registers and how many it takes; `None` for pairs that EdgeX does not read either.
    fn stored_as(self, raw: Option<&str>) -> Option<(&'static str, u16)> {
        let (bits, signed) = match (self, raw) {
            (Self::Integer { bits: 16, signed }, None | Some("UINT16" | "INT16")) => (16, signed),
            (Self::Integer { bits, signed }, None) => (bits, signed),
            (Self::Integer { bits: 32, signed: true }, Some("INT32")) => (32, true),
            (Self::Float { bits: 32 }, None) => return Some(("f32", 2)),
            (Self::Float { bits: 64 }, None) => return Some(("f64", 4)),
            (Self::Float { .. }, Some("INT16")) => (16, true),
            (Self::Float { .. }, Some("UINT16")) => (16, false),
            (Self::Float { bits: 64 }, Some("INT32")) => (32, true),
            _ => return None,
        };
        Some(match (bits, signed) {
            (16, false) => ("u16", 1),
            (16, true) => ("i16", 1),
            (32, false) => ("u32", 2),
            (32, true) => ("i32", 2),
            _ => ("i64", 4),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What EdgeX gives: mask, then shift, in an unsigned type of so many bits.
    fn edgex(value: u64, mask: i64, shift: i64, bits: u32) -> u64 {
        let all = (1u64 << bits) - 1;
        let masked = if mask == 0 { value } else { value & mask.cast_unsigned() };
        if shift > 0 { masked >> shift } else { masked << -shift & all }
    }

    #[test]
    fn mask_and_shift_give_what_edgex_gives() {
        for (mask, shift) in [
            (0x0F00, 8),
            (0x0F00, 0),
            (0, 4),
            (0x0FF0, 6),
            (0x0FF0, 2),
            (0x0F, -4),
            (0xFF00, -4),
            (0x8000, 15),
        ] {
            let (kept, factor) = masked(mask, shift, 16, false).unwrap().unwrap();
            for value in [0u64, 1, 0x1234, 0xABCD, 0xFFFF, 0x8001] {
                let ours = ((value & u64::from(kept)) >> kept.trailing_zeros()) as f64 * factor;
                assert_eq!(
                    ours,
                    edgex(value, mask, shift, 16) as f64,
                    "{mask:x} {shift} {value:x}"
                );
            }
        }
        assert_eq!(masked(0, 0, 16, false), Ok(None));
        assert_eq!(masked(0xFFFF, 0, 16, true), Ok(None));
        assert!(masked(0, 4, 16, true).is_err());
        assert!(masked(0x00FF, -8, 16, true).is_err());
        assert_eq!(masked(0x007F, -8, 16, true), Ok(Some((0x7F, 256.0))));
        assert!(masked(0x0F, 8, 16, false).is_err());
        assert!(masked(0, 4, 64, false).is_err());
    }
}
