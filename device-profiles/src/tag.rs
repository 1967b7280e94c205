//! A tag as readers name it: what its EPC memory holds, bit for bit.
//!
//! Whether that is an EPC is another question ([`crate::epc`]): raw and unprogrammed tags are tags, and are told apart by the
//! same bits. A tag is a plain value without heap memory, because a reader tells tens of thousands a second.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Longest EPC memory, in bits: 31 words, what five bits of the PC can say.
pub const TAG_BITS_MAX: u16 = 496;
/// The same, in bytes.
pub const TAG_BYTES_MAX: usize = 62;

/// The content of a tag's EPC memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    bits: u16,
    /// Bytes behind the last bit are 0, so that equal tags are equal values.
    bytes: [u8; TAG_BYTES_MAX],
}

/// What names no tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// No bits at all.
    #[error("a tag with an empty EPC memory cannot be told from another")]
    Empty,
    /// More bits than a tag can have.
    #[error("an EPC memory has at most {TAG_BITS_MAX} bits, this one has {0}")]
    TooLong(usize),
    /// Fewer bytes than the bits need.
    #[error("{bits} bits need more than the {bytes} bytes that are there")]
    Short {
        /// Bits that should be there.
        bits: u16,
        /// Bytes that are.
        bytes: usize,
    },
    /// Not hexadecimal.
    #[error("a tag is written in pairs of hexadecimal digits")]
    NotHex,
}

impl Tag {
    /// A tag of whole bytes.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, TagError> {
        let bits = bytes.len().saturating_mul(8);
        Self::of_bits(bytes, u16::try_from(bits).map_err(|_| TagError::TooLong(bits))?)
    }

    /// A tag of so many bits, the first of `bytes`.
    pub fn of_bits(bytes: &[u8], bits: u16) -> Result<Self, TagError> {
        if bits == 0 {
            return Err(TagError::Empty);
        }
        if bits > TAG_BITS_MAX {
            return Err(TagError::TooLong(bits.into()));
        }
        let length = usize::from(bits).div_ceil(8);
        let short = TagError::Short { bits, bytes: bytes.len() };
        let said = bytes.get(..length).ok_or(short)?;
        let mut tag = Self { bits, bytes: [0; TAG_BYTES_MAX] };
        for (to, from) in tag.bytes.iter_mut().zip(said) {
            *to = *from;
        }
        let spare = (length * 8 - usize::from(bits)) as u32;
        if let Some(last) = tag.bytes.get_mut(length - 1) {
            *last &= 0xFF_u8.checked_shl(spare).unwrap_or(0);
        }
        Ok(tag)
    }

    /// Its bits, counted.
    pub fn bits(&self) -> u16 {
        self.bits
    }

    /// Its bytes; the last one is filled up with zero bits.
    pub fn bytes(&self) -> &[u8] {
        let length = usize::from(self.bits).div_ceil(8);
        self.bytes.get(..length).unwrap_or(&self.bytes)
    }
}

impl fmt::Display for Tag {
    /// Upper-case hexadecimal, as EPCs are written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Tag {
    type Err = TagError;
    fn from_str(text: &str) -> Result<Self, TagError> {
        let digits = text.as_bytes();
        if digits.len() > 2 * TAG_BYTES_MAX {
            return Err(TagError::TooLong(digits.len().saturating_mul(4)));
        }
        let mut bytes = [0_u8; TAG_BYTES_MAX];
        let nibble = |digit: u8| (digit as char).to_digit(16).ok_or(TagError::NotHex);
        for (to, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let [high, low] = pair else { return Err(TagError::NotHex) };
            *to = (nibble(*high)? << 4 | nibble(*low)?) as u8;
        }
        Self::of_bytes(bytes.get(..digits.len() / 2).unwrap_or_default())
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.bits, self.bytes()).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            let (bits, bytes) = <(u16, Vec<u8>)>::deserialize(deserializer)?;
            Self::of_bits(&bytes, bits).map_err(D::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_their_bits() {
        let tag: Tag = "3034257bf7194e4000001a85".parse().unwrap();
        assert_eq!(tag.to_string(), "3034257BF7194E4000001A85");
        assert_eq!(tag.bits(), 96);
        assert_eq!(Tag::of_bytes(tag.bytes()), Ok(tag));
        // Bits behind the last are no part of it.
        assert_eq!(Tag::of_bits(&[0xFF, 0xFF], 9), Tag::of_bits(&[0xFF, 0x80], 9));
        assert_ne!(Tag::of_bits(&[0xFF, 0x80], 9), Tag::of_bits(&[0xFF, 0x80], 16));
    }

    #[test]
    fn what_names_no_tag_is_refused() {
        assert_eq!(Tag::of_bytes(&[]), Err(TagError::Empty));
        assert_eq!(Tag::of_bytes(&[1; 63]), Err(TagError::TooLong(504)));
        assert!(Tag::of_bytes(&[1; 62]).is_ok());
        assert_eq!(Tag::of_bits(&[1], 9), Err(TagError::Short { bits: 9, bytes: 1 }));
        assert_eq!("123".parse::<Tag>(), Err(TagError::NotHex));
        assert_eq!("zz".parse::<Tag>(), Err(TagError::NotHex));
    }
}
