//! Requests and answers as bytes: protocol data units, RTU frames with their checksum, TCP frames with their header.

/// Bytes of a TCP header.
pub const TCP_HEADER_BYTES: usize = 7;
/// Longest protocol data unit, bytes.
pub const PDU_BYTES_MAX: usize = 253;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Functions 1 to 4.
    Read {
        /// Which.
        function: u8,
        /// First address.
        start: u16,
        /// Items.
        count: u16,
    },
    /// Functions 6 and 16.
    Write {
        /// First address.
        start: u16,
        /// The words.
        words: Vec<u16>,
    },
    /// Anything else.
    Unknown,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Registers.
    Words(Vec<u16>),
    /// The write is done.
    Written,
    /// An exception.
    Exception(u8),
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([
        bytes.get(at).copied().unwrap_or(0),
        bytes.get(at + 1).copied().unwrap_or(0),
    ])
}

impl Ask {
    /// Reads a protocol data unit.
    #[must_use]
    pub fn parse(pdu: &[u8]) -> Self {
        match pdu {
            [function @ 1..=4, _, _, _, _] => {
                Self::Read { function: *function, start: word(pdu, 1), count: word(pdu, 3) }
            }
            [6, _, _, _, _] => Self::Write { start: word(pdu, 1), words: vec![word(pdu, 3)] },
            [16, _, _, _, _, bytes, data @ ..] if data.len() == usize::from(*bytes) => {
                Self::Write {
                    start: word(pdu, 1),
                    words: data.chunks_exact(2).map(|pair| word(pair, 0)).collect(),
                }
            }
            _ => Self::Unknown,
        }
    }
}

impl Answer {
    /// The protocol data unit that answers `asked`.
    #[must_use]
    pub fn encode(&self, asked: &[u8]) -> Vec<u8> {
        let function = asked.first().copied().unwrap_or(0);
        match self {
            Self::Words(words) => {
                let mut out = vec![function, (words.len() * 2) as u8];
                out.extend(words.iter().flat_map(|w| w.to_be_bytes()));
                out
            }
            // Both functions repeat address and value or count.
            Self::Written => asked.iter().take(5).copied().collect(),
            Self::Exception(code) => vec![function | 0x80, *code],
        }
    }
}

/// The checksum of RTU frames: CRC-16 with polynomial 0xA001, sent low byte first.
#[must_use]
pub fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 },
        )
    })
}

/// An RTU frame.
#[must_use]
pub fn rtu(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pdu.len() + 3);
    out.push(unit);
    out.extend_from_slice(pdu);
    let sum = crc(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// Takes a whole RTU request from the front of `bytes`; `None` when none is there yet. Bytes that begin no request are dropped,
/// as a slave does at the next silence.
pub fn take_rtu(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    loop {
        let whole = match bytes.get(1)? {
            1..=6 => 8,
            15 | 16 => 9 + usize::from(*bytes.get(6)?),
            _ => {
                bytes.clear();
                return None;
            }
        };
        if bytes.len() < whole {
            return None;
        }
        let frame: Vec<u8> = bytes.drain(..whole).collect();
        let (body, sum) = frame.split_at(whole - 2);
        if crc(body).to_le_bytes() == sum {
            return Some((frame[0], body[1..].to_vec()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_own_frame() {
        // Modbus over Serial Line: read ten registers from 0 of unit 1.
        let frame = rtu(1, &[3, 0, 0, 0, 10]);
        assert_eq!(frame, [1, 3, 0, 0, 0, 10, 0xC5, 0xCD]);
        let mut bytes = frame;
        assert_eq!(take_rtu(&mut bytes), Some((1, vec![3, 0, 0, 0, 10])));
        assert!(bytes.is_empty());
    }
}
