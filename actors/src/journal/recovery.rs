//! Recovery: what is on disk after any crash, and whether it can be trusted.
//!
//! Only the newest group can be torn: it was never acknowledged, so it is cut. Records carry their place in their group. A
//! sound record beyond a bad one whose group began later proves that the bad one had been synced and acknowledged: that is
//! damage, and nothing is opened silently over it.

use std::{collections::BTreeSet, io};

use super::{
    GROUP_BYTES_MAX, Options,
    format::{self, At, HEADER_BYTES, Header, KIND_GAP, RECORD_BYTES, Seal},
    segment::{self, Offset},
};
use crate::ports::fs::{FileIo, Fs};

/// Bytes looked at beyond a bad record for sound ones: a group and its largest record.
const LOOK_BYTES: usize = GROUP_BYTES_MAX + super::RECORD_BYTES_MAX;
const CHUNK_BYTES: usize = 1 << 20;

/// What recovery found.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// Which journal.
    pub epoch: u32,
    /// Its salt.
    pub(super) salt: u64,
    /// It was made just now.
    pub new: bool,
    /// Where the next record goes.
    pub end: Offset,
    /// Its sequence number.
    pub next_seq: u64,
    /// Time of the newest record, microseconds; 0 without one.
    pub last_at_us: i64,
    /// Offset of the newest record; 0 without one.
    pub last: Offset,
    /// The torn tail that was cut, if there was one.
    pub torn: Option<Torn>,
    /// Segments that hold records.
    pub(super) segments: BTreeSet<u64>,
    /// Segments filled with zeros and not begun.
    pub(super) prepared: BTreeSet<u64>,
}

/// A torn tail. Nothing in it was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// Where it began.
    pub offset: Offset,
}

/// The journal is damaged where it had been acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the journal is damaged at offset {offset} (segment file {file}, byte {byte}): {what}. Nothing was changed. \
     `stockfold journal verify` lists every damage, `stockfold journal salvage` keeps all sound records and names what is lost"
)]
pub struct Damage {
    /// Where.
    pub offset: Offset,
    /// In which file.
    pub file: String,
    /// At which byte of it.
    pub byte: u64,
    /// What is wrong.
    pub what: String,
}

impl Damage {
    pub(super) fn at(offset: Offset, what: impl Into<String>) -> Self {
        Self {
            offset,
            file: segment::name(segment::number(offset)),
            byte: segment::within(offset),
            what: what.into(),
        }
    }
}

/// A segment's records up to where they end.
pub(super) struct Scan {
    /// Offset after the last sound record in sequence.
    pub end: Offset,
    pub next_seq: u64,
    pub last_at_us: i64,
    pub last: Offset,
    /// What stands at `end` is not clean zeros.
    pub dirty: bool,
    /// First sound record beyond `end`: its offset, number and the number its group began with.
    pub beyond: Option<(Offset, u64, u64)>,
}

pub(super) fn recover<F: Fs>(fs: &F, options: &Options) -> Result<Recovered, super::OpenError> {
    let mut numbers = BTreeSet::new();
    for name in fs.list()? {
        match segment::parse_name(&name) {
            Some(number) => {
                numbers.insert(number);
            }
            // A half-filled draft of a crash.
            None if name.ends_with(".new") => fs.remove(&name)?,
            None => {}
        }
    }
    let mut live: BTreeSet<u64> = BTreeSet::new();
    let mut prepared = BTreeSet::new();
    let mut headers = Vec::new();
    for number in numbers {
        match header(fs, number)? {
            Some(header) => {
                if header.segment != number {
                    let what = format!("the file holds segment {}", header.segment);
                    return Err(Damage::at(segment::offset(number, 0), what).into());
                }
                live.insert(number);
                headers.push(header);
            }
            None => {
                prepared.insert(number);
            }
        }
    }
    let Some(newest) = headers.last().copied() else {
        for number in &prepared {
            if let Fresh::Records = look_fresh(fs, *number)? {
                let what = "there are records behind a header that cannot be read";
                return Err(Damage::at(segment::offset(*number, 0), what).into());
            }
            fs.remove(&segment::name(*number))?;
        }
        let end = segment::offset(0, HEADER_BYTES as u64);
        return Ok(Recovered {
            epoch: options.epoch_if_new,
            salt: options.salt_if_new,
            new: true,
            end,
            next_seq: 1,
            last_at_us: 0,
            last: 0,
            torn: None,
            segments: BTreeSet::new(),
            prepared: BTreeSet::new(),
        });
    };
    contiguous(&headers)?;
    if let Some(hole) = prepared.iter().find(|n| **n < newest.segment) {
        return Err(Damage::at(segment::offset(*hole, 0), "the segment's header is gone").into());
    }
    let scan = scan(fs, &newest)?;
    if let Some((offset, seq, group)) = scan.beyond
        && group > scan.next_seq
    {
        let what = format!(
            "record {} cannot be read, but record {seq} at offset {offset}, written later, can",
            scan.next_seq
        );
        return Err(Damage::at(scan.end, what).into());
    }
    if scan.dirty {
        zero_from(fs, scan.end)?;
    }
    // Prepared segments follow the newest without a hole; one that does not, or whose header was torn, is made anew.
    let mut wanted = newest.segment + 1;
    for number in std::mem::take(&mut prepared) {
        match look_fresh(fs, number)? {
            Fresh::Records => {
                let what = "there are records behind a header that cannot be read";
                return Err(Damage::at(segment::offset(number, 0), what).into());
            }
            Fresh::Zeros if number == wanted => {
                prepared.insert(number);
                wanted += 1;
            }
            Fresh::Zeros | Fresh::TornHeader => fs.remove(&segment::name(number))?,
        }
    }
    let (mut last, mut last_at_us) = (scan.last, scan.last_at_us);
    if last == 0 && headers.len() > 1 {
        // The newest segment was begun and holds nothing yet: the newest record is in the one before.
        let before = self::scan(fs, &headers[headers.len() - 2])?;
        (last, last_at_us) = (before.last, before.last_at_us);
    }
    Ok(Recovered {
        epoch: newest.epoch,
        salt: newest.salt,
        new: false,
        end: scan.end,
        next_seq: scan.next_seq,
        last_at_us,
        last,
        torn: scan.dirty.then_some(Torn { offset: scan.end }),
        segments: live,
        prepared,
    })
}

fn contiguous(headers: &[Header]) -> Result<(), Damage> {
    for pair in headers.windows(2) {
        let [a, b] = pair else { continue };
        if b.segment != a.segment + 1 {
            let missing = a.segment + 1;
            let what = format!("segment {missing} is missing");
            return Err(Damage::at(segment::offset(missing, 0), what));
        }
        if b.epoch != a.epoch {
            let what = format!("segment of another journal (epoch {}, not {})", b.epoch, a.epoch);
            return Err(Damage::at(segment::offset(b.segment, 0), what));
        }
        if b.salt != a.salt {
            let what = "segment of another journal (another salt)";
            return Err(Damage::at(segment::offset(b.segment, 0), what));
        }
        if b.first_seq < a.first_seq {
            let what = "its sequence numbers run backwards";
            return Err(Damage::at(segment::offset(b.segment, 0), what));
        }
    }
    Ok(())
}

pub(super) fn header<F: Fs>(fs: &F, number: u64) -> io::Result<Option<Header>> {
    let file = fs.open(&segment::name(number))?;
    let mut bytes = [0u8; HEADER_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(Header::decode(&bytes[..read]))
}

/// What a segment without a header holds.
enum Fresh {
    Zeros,
    /// Only the header's place is not zero.
    TornHeader,
    /// A header is synced before any record is written, so this one was lost later.
    Records,
}

fn look_fresh<F: Fs>(fs: &F, number: u64) -> io::Result<Fresh> {
    let file = fs.open(&segment::name(number))?;
    let mut bytes = vec![0u8; CHUNK_BYTES];
    let mut at = 0;
    let mut fresh = Fresh::Zeros;
    loop {
        let read = file.read_at(&mut bytes, at)?;
        let (head, rest) = bytes[..read].split_at(if at == 0 { HEADER_BYTES.min(read) } else { 0 });
        if rest.iter().any(|b| *b != 0) {
            return Ok(Fresh::Records);
        }
        if head.iter().any(|b| *b != 0) {
            fresh = Fresh::TornHeader;
        }
        at += read as u64;
        if read < CHUNK_BYTES {
            return Ok(fresh);
        }
    }
}

/// Reads a segment's records one after the other.
pub(super) fn scan<F: Fs>(fs: &F, header: &Header) -> io::Result<Scan> {
    let number = header.segment;
    let file = fs.open(&segment::name(number))?;
    let size = usize::try_from(file.bytes()?.min(segment::SEGMENT_BYTES)).unwrap_or(0);
    let mut bytes = vec![0u8; size];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let mut at = HEADER_BYTES.min(read);
    let mut scan = Scan {
        end: segment::offset(number, at as u64),
        next_seq: header.first_seq,
        last_at_us: 0,
        last: 0,
        dirty: false,
        beyond: None,
    };
    while at < read {
        match format::look(header.seal(), &bytes[at..]) {
            At::Record { bytes: length, seq, at_us, kind, .. } if seq == scan.next_seq => {
                if kind == KIND_GAP {
                    scan.next_seq = at_us.cast_unsigned();
                } else {
                    scan.last = segment::offset(number, at as u64);
                    scan.last_at_us = at_us;
                    scan.next_seq += 1;
                }
                at += length;
            }
            At::Record { .. } | At::Bad | At::End => break,
        }
    }
    scan.end = segment::offset(number, at as u64);
    let rest = &bytes[at..];
    scan.dirty = rest.iter().any(|b| *b != 0);
    if scan.dirty {
        scan.beyond = beyond(header.seal(), rest, scan.next_seq)
            .map(|(found, seq, group)| (segment::offset(number, (at + found) as u64), seq, group));
    }
    Ok(scan)
}

/// Whether a record `distance` bytes on can have this number: in between there is room for so many records and no more. What
/// looks like a record further off is bytes that somebody sent.
pub(super) fn is_near(next_seq: u64, seq: u64, distance: usize) -> bool {
    seq.checked_sub(next_seq).is_some_and(|skipped| skipped <= (distance / RECORD_BYTES) as u64)
}

/// The newest sound record in `rest` whose number is at least `next_seq`, by the start of its group.
fn beyond(seal: Seal, rest: &[u8], next_seq: u64) -> Option<(usize, u64, u64)> {
    let mut found: Option<(usize, u64, u64)> = None;
    let mut at = 0;
    // A group never reaches further than this; a later group begins where it ends, so the look need not go on for ever.
    while at < rest.len().min(2 * LOOK_BYTES) {
        if rest[at] == 0 && rest[at..].iter().take(CHUNK_BYTES).all(|b| *b == 0) {
            at += CHUNK_BYTES;
            continue;
        }
        match format::look(seal, &rest[at..]) {
            At::Record { bytes, seq, index, .. } if is_near(next_seq, seq, at) => {
                let group = seq.saturating_sub(u64::from(index));
                if found.is_none_or(|(_, _, best)| group > best) {
                    found = Some((at, seq, group));
                }
                at += bytes;
            }
            At::Record { .. } | At::Bad | At::End => at += 1,
        }
    }
    found
}

/// Fills the rest of a segment with zeros, so that no piece of a torn group can ever be taken for a record.
pub(super) fn zero_from<F: Fs>(fs: &F, from: Offset) -> io::Result<()> {
    let file = fs.open(&segment::name(segment::number(from)))?;
    let size = file.bytes()?;
    let zeros = vec![0u8; CHUNK_BYTES];
    let mut at = segment::within(from);
    while at < size {
        let piece = usize::try_from(size - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        file.write_at(&zeros[..piece], at)?;
        at += piece as u64;
    }
    file.sync()
}
