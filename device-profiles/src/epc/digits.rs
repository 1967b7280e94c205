//! Numbers whose leading zeros count: company prefixes, references, keys.

use std::fmt;

use super::EpcError;

/// A run of up to 19 decimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digits {
    len: u8,
    value: u64,
}

impl Digits {
    /// Most digits.
    const LEN_MAX: usize = 19;

    /// A value with as many digits; `field` is named when it does not fit.
    pub fn new(value: u64, len: u8, field: &'static str) -> Result<Self, EpcError> {
        let fits = usize::from(len) <= Self::LEN_MAX
            && 10_u64.checked_pow(u32::from(len)).is_some_and(|end| value < end);
        if fits { Ok(Self { len, value }) } else { Err(EpcError::Overflow { field, value, len }) }
    }

    /// Digits as written; `field` is named when they are none.
    pub fn parse(text: &str, field: &'static str) -> Result<Self, EpcError> {
        if text.len() > Self::LEN_MAX {
            return Err(EpcError::Length { field, have: text.len(), most: Self::LEN_MAX });
        }
        if let Some(other) = text.chars().find(|c| !c.is_ascii_digit()) {
            return Err(EpcError::Character { field, character: other });
        }
        let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
        let value = if text.is_empty() { 0 } else { text.parse().unwrap_or(u64::MAX) };
        Self::new(value, len, field)
    }

    /// How many.
    pub fn len(self) -> u8 {
        self.len
    }

    /// There is none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// As a number.
    pub fn value(self) -> u64 {
        self.value
    }
}

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len == 0 {
            return Ok(());
        }
        write!(f, "{:0width$}", self.value, width = usize::from(self.len))
    }
}

/// Whether a character may be in a serial or any other text of GS1: the set of 82 of the General Specifications, figure 7.11-1.
pub(crate) fn is_gs1(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!\"%&'()*+,-./_:;<=>?".contains(character)
}

/// The check digit of a GS1 key: the digits, from the right, weigh 3 and 1 in turn (GS1 General Specifications 7.9).
pub fn check_digit(digits: &str) -> char {
    let weighed = digits.bytes().rev().enumerate().map(|(at, digit)| {
        let digit = u32::from(digit.wrapping_sub(b'0'));
        if at % 2 == 0 { digit * 3 } else { digit }
    });
    let sum: u32 = weighed.sum();
    char::from_digit((10 - sum % 10) % 10, 10).unwrap_or('0')
}

/// A GTIN of 8 to 14 digits in the one form that all of them have: 14 digits, the last of which checks the others.
pub fn gtin14(gtin: &str) -> Result<String, EpcError> {
    if !(8..=14).contains(&gtin.len()) {
        return Err(EpcError::Key(gtin.to_owned()));
    }
    checked(gtin)?;
    Ok(format!("{gtin:0>14}"))
}

/// A key without its check digit, which must be right.
pub fn checked(key: &str) -> Result<&str, EpcError> {
    let (digits, found) = match key.char_indices().last() {
        Some((at, found)) if key.bytes().all(|b| b.is_ascii_digit()) => (&key[..at], found),
        Some(_) | None => return Err(EpcError::Key(key.to_owned())),
    };
    let wanted = check_digit(digits);
    if wanted == found {
        Ok(digits)
    } else {
        Err(EpcError::CheckDigit { key: key.to_owned(), wanted, found })
    }
}
