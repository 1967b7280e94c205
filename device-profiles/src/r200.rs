//! Serial RFID modules of the R200 family (YRM100, M100, QM100, Magicrf): frames `BB … 7E`, or `AA … DD` in a variant.
//!
//! ```text
//!  begin u8 · kind u8 (0 command, 1 response, 2 notice) · command u8 · length u16 BE · parameters · checksum u8 · end u8
//!  checksum   low byte of the sum from kind to the last parameter
//!  a tag      notice 0x22: RSSI i8 dBm · PC u16 · EPC · CRC u16
//! ```
//! Parameters may hold any byte, begin and end bytes too, so a frame is as long as it says and not until the next end byte. What
//! is no frame (noise, a wrong checksum, a length that cannot be) costs one byte: the search goes on behind it, and a frame that
//! begins inside a damaged one is found. [`Deframer`] holds at most one frame and keeps nothing else.

use crate::tag::TAG_BYTES_MAX;

/// Longest parameters of a frame, in bytes: a tag's, or a text about the module.
pub const PARAMETERS_BYTES_MAX: usize = 256;
/// Longest frame, in bytes.
pub const R200_BYTES_MAX: usize = PARAMETERS_BYTES_MAX + OVERHEAD;
/// Bytes of a frame without its parameters.
const OVERHEAD: usize = 7;
/// Parameters of a tag beside its EPC: RSSI, PC, CRC.
const TAG_OVERHEAD: usize = 5;

/// Command numbers.
pub mod command {
    /// What the module is; a parameter says which text: 0 hardware, 1 software, 2 maker.
    pub const INFO: u8 = 0x03;
    /// The region of its frequencies.
    pub const REGION: u8 = 0x07;
    /// One round of inventory.
    pub const SINGLE: u8 = 0x22;
    /// Many rounds.
    pub const MULTI: u8 = 0x27;
    /// No more rounds.
    pub const STOP: u8 = 0x28;
    /// The number that a response has when the module refuses, or a round found nothing.
    pub const FAILED: u8 = 0xFF;
}

/// The code of a round that found nothing.
pub const NO_TAG: u8 = 0x15;

/// What marks the ends of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// `BB … 7E`.
    Bb,
    /// `AA … DD`.
    Aa,
}

impl Marks {
    fn of(begin: u8) -> Option<Self> {
        match begin {
            0xBB => Some(Self::Bb),
            0xAA => Some(Self::Aa),
            _ => None,
        }
    }

    fn bytes(self) -> (u8, u8) {
        match self {
            Self::Bb => (0xBB, 0x7E),
            Self::Aa => (0xAA, 0xDD),
        }
    }
}

/// Who says a frame, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// The hub asks.
    Command,
    /// The module answers.
    Response,
    /// The module tells of itself.
    Notice,
}

/// A frame, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its marks.
    pub marks: Marks,
    /// Who says it.
    pub kind: FrameKind,
    /// What it is about.
    pub command: u8,
    /// Its parameters.
    pub parameters: &'a [u8],
}

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look<'a> {
    /// A frame of so many bytes.
    Frame(Frame<'a>, usize),
    /// What could still become one.
    More,
    /// None.
    Noise,
}

fn look(bytes: &[u8]) -> Look<'_> {
    let Some(marks) = bytes.first().and_then(|first| Marks::of(*first)) else {
        return if bytes.is_empty() { Look::More } else { Look::Noise };
    };
    let kind = match bytes.get(1) {
        None => return Look::More,
        Some(0) => FrameKind::Command,
        Some(1) => FrameKind::Response,
        Some(2) => FrameKind::Notice,
        Some(_) => return Look::Noise,
    };
    let (Some(command), Some(high), Some(low)) = (bytes.get(2), bytes.get(3), bytes.get(4)) else {
        return Look::More;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > PARAMETERS_BYTES_MAX {
        return Look::Noise;
    }
    let (Some(summed), Some(parameters), Some(checksum), Some(end)) = (
        bytes.get(1..5 + length),
        bytes.get(5..5 + length),
        bytes.get(5 + length),
        bytes.get(6 + length),
    ) else {
        return Look::More;
    };
    if sum(summed) != *checksum || *end != marks.bytes().1 {
        return Look::Noise;
    }
    Look::Frame(Frame { marks, kind, command: *command, parameters }, OVERHEAD + length)
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

/// Writes a frame.
pub fn frame(marks: Marks, kind: FrameKind, command: u8, parameters: &[u8]) -> Vec<u8> {
    let parameters = parameters.get(..PARAMETERS_BYTES_MAX).unwrap_or(parameters);
    let (begin, end) = marks.bytes();
    let kind = match kind {
        FrameKind::Command => 0,
        FrameKind::Response => 1,
        FrameKind::Notice => 2,
    };
    let mut bytes = vec![begin, kind, command];
    bytes.extend((parameters.len() as u16).to_be_bytes());
    bytes.extend(parameters);
    bytes.push(sum(bytes.get(1..).unwrap_or_default()));
    bytes.push(end);
    bytes
}

/// Rounds of inventory, so many; 65,535 is the most.
pub fn multi_inventory(marks: Marks, rounds: u16) -> Vec<u8> {
    let [high, low] = rounds.to_be_bytes();
    frame(marks, FrameKind::Command, command::MULTI, &[0x22, high, low])
}

/// No more rounds.
pub fn stop(marks: Marks) -> Vec<u8> {
    frame(marks, FrameKind::Command, command::STOP, &[])
}

/// Frequencies of a region: 1 China 900, 2 United States, 3 Europe, 4 China 800, 6 Korea.
pub fn region(marks: Marks, region: u8) -> Vec<u8> {
    frame(marks, FrameKind::Command, command::REGION, &[region])
}

/// Asks for a text about the module.
pub fn info(marks: Marks, which: u8) -> Vec<u8> {
    frame(marks, FrameKind::Command, command::INFO, &[which])
}

/// A tag that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard<'a> {
    /// The signal, dBm.
    pub rssi_dbm: i8,
    /// Its EPC memory, as long as its PC says.
    pub epc: &'a [u8],
}

/// Why a notice of a tag is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotHeard {
    /// Too few bytes.
    #[error("{0} bytes are no tag")]
    Length(usize),
    /// The PC bits say another length.
    #[error("the PC bits say {said} bytes of EPC, {there} are there")]
    Pc {
        /// As the PC bits say.
        said: usize,
        /// As there are.
        there: usize,
    },
    /// The radio's own checksum is wrong.
    #[error("the CRC of the tag is wrong")]
    Crc,
}

impl<'a> Frame<'a> {
    /// The tag of a notice of one; `None` when it is about something else.
    pub fn heard(&self) -> Option<Result<Heard<'a>, NotHeard>> {
        (self.kind == FrameKind::Notice && self.command == command::SINGLE)
            .then(|| heard(self.parameters))
    }

    /// The code of a response that says no.
    pub fn failure(&self) -> Option<u8> {
        let failed = self.kind == FrameKind::Response && self.command == command::FAILED;
        failed.then(|| self.parameters.first().copied().unwrap_or(0))
    }
}

fn heard(parameters: &[u8]) -> Result<Heard<'_>, NotHeard> {
    let short = NotHeard::Length(parameters.len());
    let epc_bytes = parameters.len().checked_sub(TAG_OVERHEAD).ok_or(short)?;
    if epc_bytes > TAG_BYTES_MAX {
        return Err(short);
    }
    let (rssi, pc, epc, crc) = (
        parameters.first().ok_or(short)?,
        parameters.get(1..3).ok_or(short)?,
        parameters.get(3..3 + epc_bytes).ok_or(short)?,
        parameters.get(3 + epc_bytes..).ok_or(short)?,
    );
    let said = usize::from(pc.first().copied().unwrap_or(0) >> 3) * 2;
    if said != epc_bytes {
        return Err(NotHeard::Pc { said, there: epc_bytes });
    }
    let air = parameters.get(1..3 + epc_bytes).ok_or(short)?;
    if crc16(air).to_be_bytes() != *crc {
        return Err(NotHeard::Crc);
    }
    Ok(Heard { rssi_dbm: rssi.cast_signed(), epc })
}

/// CRC of Gen2 over PC and EPC: polynomial 0x1021, begun with ones, inverted.
pub fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0xFFFF_u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
        }
    }
    !crc
}

/// The notice of a tag, as a module sends it.
pub fn notice(marks: Marks, rssi_dbm: i8, epc: &[u8]) -> Vec<u8> {
    let words = epc.len().div_ceil(2).min(31) as u8;
    let mut air = vec![words << 3, 0];
    air.extend(epc);
    let mut parameters = vec![rssi_dbm.cast_unsigned()];
    parameters.extend(&air);
    parameters.extend(crc16(&air).to_be_bytes());
    frame(marks, FrameKind::Notice, command::SINGLE, &parameters)
}

/// The frames of some bytes that came together, and how many bytes between them were none.
pub fn frames(mut bytes: &[u8]) -> (Vec<Frame<'_>>, usize) {
    let (mut found, mut noise) = (Vec::new(), 0);
    while !bytes.is_empty() {
        match look(bytes) {
            Look::Frame(frame, length) => {
                found.push(frame);
                bytes = bytes.get(length..).unwrap_or_default();
            }
            Look::Noise | Look::More => {
                noise += 1;
                bytes = bytes.get(1..).unwrap_or_default();
            }
        }
    }
    (found, noise)
}

/// Cuts what comes over a line into frames.
#[derive(Debug, Default)]
pub struct Deframer {
    held: Vec<u8>,
    noise: u64,
}

impl Deframer {
    /// Takes some bytes and gives every frame that is complete with them, whole and one after the other.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        // In pieces, so that what is held is never more than a frame and a piece.
        for piece in bytes.chunks(R200_BYTES_MAX) {
            self.held.extend_from_slice(piece);
            let mut at = 0;
            loop {
                let rest = self.held.get(at..).unwrap_or_default();
                match look(rest) {
                    Look::Frame(_, length) => {
                        whole.extend_from_slice(rest.get(..length).unwrap_or_default());
                        at += length;
                    }
                    Look::Noise => {
                        self.noise += 1;
                        at += 1;
                    }
                    Look::More => break,
                }
            }
            self.held.drain(..at);
        }
        whole
    }

    /// Bytes that were part of no frame.
    pub fn noise(&self) -> u64 {
        self.noise
    }

    /// Bytes that could still become a frame.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Gives up what is held: the line was silent for longer than any frame takes.
    pub fn forget(&mut self) {
        self.noise += self.held.len() as u64;
        self.held.clear();
    }
}
