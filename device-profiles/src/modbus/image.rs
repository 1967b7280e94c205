//! The register image: what a poll brought, as the journal keeps it.
//!
//! ```text
//! frame   version u8 = 1 · block*
//! block   table u8 (the function code that read it: 1 coils, 2 discrete inputs, 3 holding, 4 input registers)
//!         · first address u16 · count u16 · data
//! data    registers: count × 2 bytes as they came; bits: ⌈count/8⌉ bytes, lowest address in bit 0
//! ```
//!
//! All numbers are big-endian, as on the wire. A block is one response as far as it was wanted; blocks of a table never overlap.

use serde::Deserialize;

use super::{BITS_MAX, REGISTERS_MAX};
use crate::limits::IMAGE_BLOCKS_MAX;

const VERSION: u8 = 1;

/// A table of a Modbus device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// Coils, function code 1.
    Coil,
    /// Discrete inputs, function code 2.
    Discrete,
    /// Holding registers, function code 3.
    #[default]
    Holding,
    /// Input registers, function code 4.
    Input,
}

impl Table {
    /// The function code that reads it.
    pub fn function(self) -> u8 {
        match self {
            Self::Coil => 1,
            Self::Discrete => 2,
            Self::Holding => 3,
            Self::Input => 4,
        }
    }
    /// Its items are bits.
    pub fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }
    fn of(function: u8) -> Option<Self> {
        Some(match function {
            1 => Self::Coil,
            2 => Self::Discrete,
            3 => Self::Holding,
            4 => Self::Input,
            _ => return None,
        })
    }
}

/// One response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// Its table.
    pub table: Table,
    /// Its first address on the wire.
    pub start: u16,
    /// Its items.
    pub count: u16,
    data: &'a [u8],
}

impl Block<'_> {
    fn index(&self, table: Table, address: u16) -> Option<usize> {
        let index = address.checked_sub(self.start)?;
        (self.table == table && index < self.count).then_some(usize::from(index))
    }

    /// The registers of it, in order; empty for bits.
    pub fn words(&self) -> impl Iterator<Item = u16> {
        let data = if self.table.is_bits() { &[] } else { self.data };
        data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }
}

/// A parsed image; borrows from the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image<'a> {
    blocks: Vec<Block<'a>>,
}

/// Why bytes are not an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadImage {
    /// Another version, or none.
    #[error("not a register image of version {VERSION}")]
    Version,
    /// A block is cut short.
    #[error("a block is cut short")]
    Short,
    /// A table or count that no request has.
    #[error("a block that no request could have read")]
    Block,
    /// Two blocks tell the same register.
    #[error("two blocks overlap")]
    Overlap,
    /// Too many blocks.
    #[error("more than {IMAGE_BLOCKS_MAX} blocks")]
    Many,
}

impl<'a> Image<'a> {
    /// Parses a frame. Total over any bytes.
    pub fn parse(frame: &'a [u8]) -> Result<Self, BadImage> {
        let Some((&VERSION, mut rest)) = frame.split_first() else { return Err(BadImage::Version) };
        let mut blocks: Vec<Block<'a>> = Vec::new();
        while !rest.is_empty() {
            let (head, tail) = rest.split_at_checked(5).ok_or(BadImage::Short)?;
            let table = Table::of(head[0]).ok_or(BadImage::Block)?;
            let start = u16::from_be_bytes([head[1], head[2]]);
            let count = u16::from_be_bytes([head[3], head[4]]);
            let max = if table.is_bits() { BITS_MAX } else { REGISTERS_MAX };
            if count == 0 || count > max || u32::from(start) + u32::from(count) > 1 << 16 {
                return Err(BadImage::Block);
            }
            let (data, after) =
                tail.split_at_checked(data_bytes(table, count)).ok_or(BadImage::Short)?;
            let end = u32::from(start) + u32::from(count);
            let overlaps = |b: &Block<'_>| {
                b.table == table
                    && u32::from(b.start) < end
                    && u32::from(start) < u32::from(b.start) + u32::from(b.count)
            };
            if blocks.iter().any(overlaps) {
                return Err(BadImage::Overlap);
            }
            if blocks.len() == IMAGE_BLOCKS_MAX {
                return Err(BadImage::Many);
            }
            blocks.push(Block { table, start, count, data });
            rest = after;
        }
        Ok(Self { blocks })
    }

    /// Its responses, in the order they came.
    pub fn blocks(&self) -> &[Block<'a>] {
        &self.blocks
    }

    /// A register, if one of the responses has it.
    pub fn word(&self, table: Table, address: u16) -> Option<u16> {
        self.blocks.iter().find_map(|block| {
            let at = block.index(table, address)? * 2;
            Some(u16::from_be_bytes([*block.data.get(at)?, *block.data.get(at + 1)?]))
        })
    }

    /// A coil or discrete input, if one of the responses has it.
    pub fn bit(&self, table: Table, address: u16) -> Option<bool> {
        self.blocks.iter().find_map(|block| {
            let at = block.index(table, address)?;
            Some(block.data.get(at / 8)? >> (at % 8) & 1 == 1)
        })
    }
}

fn data_bytes(table: Table, count: u16) -> usize {
    if table.is_bits() { usize::from(count).div_ceil(8) } else { usize::from(count) * 2 }
}

/// Builds a frame response by response.
#[derive(Debug, Clone)]
pub struct ImageWriter {
    bytes: Vec<u8>,
}

impl Default for ImageWriter {
    fn default() -> Self {
        Self { bytes: vec![VERSION] }
    }
}

impl ImageWriter {
    fn head(&mut self, table: Table, start: u16, count: usize) {
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        self.bytes.push(table.function());
        self.bytes.extend_from_slice(&start.to_be_bytes());
        self.bytes.extend_from_slice(&count.to_be_bytes());
    }

    /// Adds a response of registers, at most [`REGISTERS_MAX`].
    pub fn words(&mut self, table: Table, start: u16, words: &[u16]) {
        self.head(table, start, words.len());
        self.bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    }

    /// Adds a response of bits, at most [`BITS_MAX`].
    pub fn bits(&mut self, table: Table, start: u16, bits: &[bool]) {
        self.head(table, start, bits.len());
        self.bytes.extend(bits.chunks(8).map(|eight| {
            eight.iter().enumerate().fold(0, |byte, (i, on)| byte | u8::from(*on) << i)
        }));
    }

    /// The frame.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut writer = ImageWriter::default();
        writer.words(Table::Holding, 6, &[0x0801, 0, 12_502]);
        writer.bits(Table::Coil, 32, &[false, true, false, false, true, false, false, true, true]);
        let frame = writer.finish();
        let image = Image::parse(&frame).unwrap();
        assert_eq!(image.word(Table::Holding, 8), Some(12_502));
        assert_eq!(image.word(Table::Holding, 9), None);
        assert_eq!(image.word(Table::Input, 8), None);
        let bits: Vec<_> = (32..=41).map(|at| image.bit(Table::Coil, at)).collect();
        assert_eq!(
            bits,
            [false, true, false, false, true, false, false, true, true]
                .into_iter()
                .map(Some)
                .chain([None])
                .collect::<Vec<_>>()
        );
        assert_eq!(image.blocks()[0].words().collect::<Vec<_>>(), [0x0801, 0, 12_502]);
    }

    #[test]
    fn impossible_images_are_named() {
        for (bytes, why) in [
            (&[][..], BadImage::Version),
            (&[2], BadImage::Version),
            (&[1, 3, 0, 0, 0], BadImage::Short),
            (&[1, 3, 0, 0, 0, 1, 9], BadImage::Short),
            (&[1, 5, 0, 0, 0, 1, 9, 9], BadImage::Block),
            (&[1, 3, 0, 0, 0, 0], BadImage::Block),
            (&[1, 3, 0, 0, 0, 126], BadImage::Block),
            (&[1, 3, 0xFF, 0xFF, 0, 2, 0, 0, 0, 0], BadImage::Block),
            (&[1, 3, 0, 5, 0, 1, 0, 0, 3, 0, 4, 0, 2, 0, 0, 0, 0], BadImage::Overlap),
        ] {
            assert_eq!(Image::parse(bytes), Err(why), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_image_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(image) = Image::parse(&bytes) {
                for block in image.blocks() {
                    let _ = block.words().count();
                }
                let _ = image.word(Table::Holding, 7);
                let _ = image.bit(Table::Coil, 7);
            }
        }
    }
}
