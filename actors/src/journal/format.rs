//! The bytes of a segment; pure. `docs/specs/journal.md` has the tables.

use bytes::Bytes;

/// Bytes of a segment's header; the first record follows.
pub const HEADER_BYTES: usize = 64;
/// Bytes of a record before its payload.
pub const RECORD_BYTES: usize = 32;
/// Record kind of a gap: salvage writes it where records were lost. Its time field holds the sequence number that follows.
pub const KIND_GAP: u8 = 0;
const MAGIC: &[u8; 8] = b"SFJRNL01";

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Changes only when a journal is made anew.
    pub epoch: u32,
    /// Secret of the journal, drawn when it was made; see [`Seal`].
    pub salt: u64,
    /// Its number; also its file name.
    pub segment: u64,
    /// Sequence number of its first record.
    pub first_seq: u64,
}

/// What the checksum of every record in a segment begins with.
///
/// The segment's number, so that a block left over from another file is not taken for a record of this one; the journal's
/// salt, so that nobody who sends bytes can make them look like a record when salvage searches for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// The journal's salt.
    pub salt: u64,
    /// The segment's number.
    pub segment: u64,
}

/// One record, its payload a slice of the buffer it was read in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands; names it for ever.
    pub offset: u64,
    /// Dense number in the journal.
    pub seq: u64,
    /// Appender's time, microseconds since the Unix epoch; never less than the record before.
    pub at_us: i64,
    /// Shard.
    pub shard: u16,
    /// What the payload is; see `fold::wire`.
    pub kind: u8,
    /// The payload.
    pub payload: Bytes,
}

/// What stands at a place of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// A sound record.
    Record {
        /// Its whole size.
        bytes: usize,
        /// Its number.
        seq: u64,
        /// Its place in the group that was written together.
        index: u32,
        /// Its time.
        at_us: i64,
        /// Its shard.
        shard: u16,
        /// Its kind.
        kind: u8,
    },
    /// Zeros: nothing was written here.
    End,
    /// Neither.
    Bad,
}

impl Header {
    /// The seal of its records.
    pub fn seal(&self) -> Seal {
        Seal { salt: self.salt, segment: self.segment }
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0u8; HEADER_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&self.epoch.to_le_bytes());
        out[16..24].copy_from_slice(&self.segment.to_le_bytes());
        out[24..32].copy_from_slice(&self.first_seq.to_le_bytes());
        out[32..40].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads one; `None` when the bytes are not a header.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        let sound = bytes[..8] == *MAGIC && crc32c::crc32c(&bytes[..60]) == u32_at(bytes, 60);
        sound.then(|| Self {
            epoch: u32_at(bytes, 8),
            segment: u64_at(bytes, 16),
            first_seq: u64_at(bytes, 24),
            salt: u64_at(bytes, 32),
        })
    }
}

/// Appends a record's bytes.
#[allow(clippy::too_many_arguments, reason = "the fields of a record")]
pub fn encode(
    out: &mut Vec<u8>,
    seal: Seal,
    seq: u64,
    index: u32,
    at_us: i64,
    shard: u16,
    kind: u8,
    payload: &[u8],
) {
    let start = out.len();
    let bytes = (RECORD_BYTES + payload.len()) as u32;
    out.extend_from_slice(&bytes.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&at_us.to_le_bytes());
    out.extend_from_slice(&index.to_le_bytes());
    out.extend_from_slice(&shard.to_le_bytes());
    out.push(kind);
    out.push(0);
    out.extend_from_slice(payload);
    let crc = checksum(seal, &out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(seal: Seal, record: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&seal.salt.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &seal.segment.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &record[..4]);
    crc32c::crc32c_append(crc, &record[8..])
}

/// What stands at the start of `bytes`.
pub fn look(seal: Seal, bytes: &[u8]) -> At {
    let Some(head) = bytes.get(..RECORD_BYTES) else {
        return if bytes.iter().all(|b| *b == 0) { At::End } else { At::Bad };
    };
    let size = u32_at(head, 0) as usize;
    if size == 0 {
        return if head.iter().all(|b| *b == 0) { At::End } else { At::Bad };
    }
    if size < RECORD_BYTES {
        return At::Bad;
    }
    let Some(record) = bytes.get(..size) else { return At::Bad };
    if checksum(seal, record) != u32_at(head, 4) {
        return At::Bad;
    }
    At::Record {
        bytes: size,
        seq: u64_at(head, 8),
        at_us: u64_at(head, 16).cast_signed(),
        index: u32_at(head, 24),
        shard: u16::from_le_bytes([head[28], head[29]]),
        kind: head[30],
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
