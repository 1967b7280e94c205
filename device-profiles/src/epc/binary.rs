//! The bits of a tag: header, filter, partition, company prefix, and what the scheme has after it.

use super::{
    Digits, Epc, EpcError, Form, Written,
    bits::{BitReader, BitWriter},
    digits::is_gs1,
    scheme::Partition,
};

/// Characters of a serial that is a text.
const SERIAL_CHARS_MAX: usize = 20;

impl Written {
    /// Reads EPC memory. After the EPC only zeros may follow, up to the end of a word.
    pub fn decode(bytes: &[u8]) -> Result<Self, EpcError> {
        let mut bits = BitReader::new(bytes);
        let header = u8::try_from(bits.take(8)?).unwrap_or(0);
        let form = Form::of_header(header)?;
        let filter = u8::try_from(bits.take(3)?).unwrap_or(0);
        let partition = form.partition(u8::try_from(bits.take(3)?).unwrap_or(7))?;
        let company = Digits::new(
            bits.take(partition.company_bits)?,
            partition.company_digits,
            "company prefix",
        )?;
        let value = bits.take(partition.bits)?;
        let digits = |field| Digits::new(value, partition.digits, field);
        let epc = match form {
            Form::Sgtin96 => Epc::Sgtin {
                company,
                item: digits("item reference")?,
                serial: bits.take(form.rest_bits())?.to_string(),
            },
            Form::Sgtin198 => {
                Epc::Sgtin { company, item: digits("item reference")?, serial: text(&mut bits)? }
            }
            Form::Sscc96 => {
                if bits.take(form.rest_bits())? != 0 {
                    return Err(EpcError::Trailing);
                }
                Epc::Sscc { company, serial: digits("serial reference")? }
            }
            Form::Sgln96 => Epc::Sgln {
                company,
                location: digits("location reference")?,
                extension: bits.take(form.rest_bits())?.to_string(),
            },
            Form::Grai96 => Epc::Grai {
                company,
                asset_type: digits("asset type")?,
                serial: bits.take(form.rest_bits())?.to_string(),
            },
            // It has no leading zeros, and its bits hold fewer numbers than its digits.
            Form::Giai96 => Epc::Giai { company, asset: value.to_string() },
        };
        if !bits.rest_is_zero() {
            return Err(EpcError::Trailing);
        }
        Ok(Self { epc, filter, form })
    }

    /// The bytes for EPC memory, in whole words.
    pub fn encode(&self) -> Result<Vec<u8>, EpcError> {
        if self.filter > 7 {
            return Err(EpcError::Filter(self.filter));
        }
        let form = self.form;
        let partition = form.partition_for(self.epc.company().len())?;
        let mut bits = BitWriter::default();
        bits.put(form.header().into(), 8);
        bits.put(self.filter.into(), 3);
        bits.put(partition.number.into(), 3);
        bits.put(self.epc.company().value(), partition.company_bits);
        let rest = form.rest_bits();
        match (&self.epc, form) {
            (Epc::Sgtin { item, serial, .. }, Form::Sgtin96) => {
                reference(&mut bits, *item, partition, "item reference")?;
                bits.put(number(serial, rest, "serial")?, rest);
            }
            (Epc::Sgtin { item, serial, .. }, Form::Sgtin198) => {
                reference(&mut bits, *item, partition, "item reference")?;
                put_text(&mut bits, serial)?;
            }
            (Epc::Sscc { serial, .. }, Form::Sscc96) => {
                reference(&mut bits, *serial, partition, "serial reference")?;
                bits.put(0, rest);
            }
            (Epc::Sgln { location, extension, .. }, Form::Sgln96) => {
                reference(&mut bits, *location, partition, "location reference")?;
                bits.put(number(extension, rest, "extension")?, rest);
            }
            (Epc::Grai { asset_type, serial, .. }, Form::Grai96) => {
                reference(&mut bits, *asset_type, partition, "asset type")?;
                bits.put(number(serial, rest, "serial")?, rest);
            }
            (Epc::Giai { asset, .. }, Form::Giai96) => {
                bits.put(number(asset, partition.bits, "asset reference")?, partition.bits);
            }
            _ => return Err(EpcError::Form(form)),
        }
        Ok(bits.finish())
    }
}

fn reference(
    bits: &mut BitWriter,
    digits: Digits,
    partition: Partition,
    field: &'static str,
) -> Result<(), EpcError> {
    if digits.len() != partition.digits {
        let (have, most) = (digits.len().into(), partition.digits.into());
        return Err(EpcError::Length { field, have, most });
    }
    bits.put(digits.value(), partition.bits);
    Ok(())
}

/// A number as it is written: no sign, no leading zeros.
fn number(text: &str, bits: u32, field: &'static str) -> Result<u64, EpcError> {
    if text.is_empty() {
        return Err(EpcError::Length { field, have: 0, most: 1 });
    }
    if let Some(character) = text.chars().find(|c| !c.is_ascii_digit()) {
        return Err(EpcError::Character { field, character });
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(EpcError::LeadingZero { field, value: text.to_owned() });
    }
    match text.parse::<u64>() {
        Ok(value) if bits >= 64 || value < 1 << bits => Ok(value),
        Ok(_) | Err(_) => Err(EpcError::TooLarge { field, value: text.to_owned(), bits }),
    }
}

/// Up to 20 characters of 7 bits, ended by zeros.
fn text(bits: &mut BitReader<'_>) -> Result<String, EpcError> {
    let mut text = String::new();
    let mut ended = false;
    for _ in 0..SERIAL_CHARS_MAX {
        let code = bits.take(7)?;
        match char::from_u32(u32::try_from(code).unwrap_or(0)) {
            Some('\0') => ended = true,
            Some(character) if !ended && is_gs1(character) => text.push(character),
            Some(character) => return Err(EpcError::Character { field: "serial", character }),
            None => {}
        }
    }
    if text.is_empty() {
        return Err(EpcError::Length { field: "serial", have: 0, most: SERIAL_CHARS_MAX });
    }
    Ok(text)
}

fn put_text(bits: &mut BitWriter, text: &str) -> Result<(), EpcError> {
    let have = text.chars().count();
    if !(1..=SERIAL_CHARS_MAX).contains(&have) {
        return Err(EpcError::Length { field: "serial", have, most: SERIAL_CHARS_MAX });
    }
    if let Some(character) = text.chars().find(|c| !is_gs1(*c)) {
        return Err(EpcError::Character { field: "serial", character });
    }
    for at in 0..SERIAL_CHARS_MAX {
        bits.put(text.as_bytes().get(at).copied().unwrap_or(0).into(), 7);
    }
    Ok(())
}

impl Epc {
    /// Its company prefix.
    pub fn company(&self) -> Digits {
        match self {
            Self::Sgtin { company, .. }
            | Self::Sscc { company, .. }
            | Self::Sgln { company, .. }
            | Self::Grai { company, .. }
            | Self::Giai { company, .. } => *company,
        }
    }
}
