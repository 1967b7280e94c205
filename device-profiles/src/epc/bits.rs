//! Fields of bits, most significant first, as in the memory of a tag.

use super::EpcError;

/// Reads fields one after the other.
#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next field of at most 64 bits.
    pub(super) fn take(&mut self, bits: u32) -> Result<u64, EpcError> {
        let need = self.at + bits as usize;
        if need > self.bytes.len() * 8 {
            return Err(EpcError::Short { need, have: self.bytes.len() * 8 });
        }
        let mut value = 0;
        for at in self.at..need {
            let byte = self.bytes.get(at / 8).copied().unwrap_or(0);
            value = value << 1 | u64::from(byte >> (7 - at % 8) & 1);
        }
        self.at = need;
        Ok(value)
    }

    /// Nothing but zeros is left.
    pub(super) fn rest_is_zero(mut self) -> bool {
        while self.at < self.bytes.len() * 8 {
            let bits = 8 - self.at % 8;
            if self.take(u32::try_from(bits).unwrap_or(1)) != Ok(0) {
                return false;
            }
        }
        true
    }
}

/// Writes fields one after the other.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    bits: usize,
}

impl BitWriter {
    /// Writes the lowest bits of a value.
    pub(super) fn put(&mut self, value: u64, bits: u32) {
        for shift in (0..bits).rev() {
            if self.bits.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(value >> shift & 1 == 1) << (7 - self.bits % 8);
            }
            self.bits += 1;
        }
    }

    /// What was written, filled with zeros to whole words of 16 bits: tags have no smaller unit.
    pub(super) fn finish(mut self) -> Vec<u8> {
        while !self.bytes.len().is_multiple_of(2) {
            self.bytes.push(0);
        }
        self.bytes
    }
}
