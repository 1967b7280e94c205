//! Verify and salvage: list every damage, or keep all sound records and name what is lost.
//!
//! Salvage changes as little as it can: where records cannot be read it writes gap records of exactly that length, so every
//! other offset, and with it every position in PostgreSQL, stays valid. The damaged file is kept beside the new one.

use std::io;

use super::{
    RECORD_BYTES_MAX,
    format::{self, At, HEADER_BYTES, Header, KIND_GAP, RECORD_BYTES, Seal},
    recovery::{self, Damage},
    segment::{self, Offset},
};
use crate::ports::fs::{FileIo, Fs};

/// Records that are lost: a stretch of the journal and the sequence numbers in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Where.
    pub offset: Offset,
    /// How many bytes.
    pub bytes: u64,
    /// First lost sequence number.
    pub first_seq: u64,
    /// First sequence number that is sound again.
    pub next_seq: u64,
}

/// Why salvage stops.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// Nothing that could be kept.
    #[error("no segment with a sound header is left; there is nothing to salvage")]
    Nothing,
    /// A file cannot be read or written.
    #[error("the journal's files cannot be used: {0}")]
    Io(#[from] io::Error),
}

/// Looks at every record of every segment. `repair` writes gap records over what is damaged and cuts a damaged tail;
/// without it nothing is changed. Reports progress as (segments done, of how many).
pub fn salvage<F: Fs>(
    fs: &F,
    repair: bool,
    mut progress: impl FnMut(u64, u64),
) -> Result<(u64, Vec<Lost>), SalvageError> {
    let mut numbers: Vec<u64> = fs.list()?.iter().filter_map(|n| segment::parse_name(n)).collect();
    numbers.sort_unstable();
    let headers: Vec<(u64, Option<Header>)> = numbers
        .iter()
        .map(|n| Ok((*n, recovery::header(fs, *n)?.filter(|h| h.segment == *n))))
        .collect::<io::Result<_>>()?;
    let first = headers.iter().find_map(|(_, h)| *h).ok_or(SalvageError::Nothing)?;
    let last = headers.iter().rev().find_map(|(_, h)| *h).ok_or(SalvageError::Nothing)?;
    let (mut records, mut lost) = (0, Vec::new());
    let mut expected = first.first_seq;
    let total = last.segment - first.segment + 1;
    for number in first.segment..=last.segment {
        progress(number - first.segment, total);
        let known = headers.iter().find(|(n, _)| *n == number).and_then(|(_, h)| *h);
        let following = headers.iter().filter(|(n, _)| *n > number).find_map(|(_, h)| *h);
        let header = known.unwrap_or(Header { segment: number, first_seq: expected, ..first });
        if known.is_none() && repair {
            if !headers.iter().any(|(n, _)| *n == number) {
                fs.create_zeroed(&segment::name(number), segment::SEGMENT_BYTES)?;
            }
            let file = fs.open(&segment::name(number))?;
            file.write_at(&header.encode(), 0)?;
            file.sync()?;
        }
        expected = expected.max(header.first_seq);
        let next = walk(fs, &header, following, repair, &mut expected, &mut records, &mut lost)?;
        expected = next;
    }
    progress(total, total);
    Ok((records, lost))
}

/// Walks one segment; returns the sequence number that must follow.
fn walk<F: Fs>(
    fs: &F,
    header: &Header,
    following: Option<Header>,
    repair: bool,
    expected: &mut u64,
    records: &mut u64,
    lost: &mut Vec<Lost>,
) -> Result<u64, SalvageError> {
    let number = header.segment;
    let bytes = match fs.open(&segment::name(number)) {
        Ok(file) => {
            let size = usize::try_from(file.bytes()?).unwrap_or(0);
            let mut bytes = vec![0u8; size];
            let read = file.read_at(&mut bytes, 0)?;
            bytes.truncate(read);
            bytes
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let mut at = HEADER_BYTES.min(bytes.len());
    let mut next = *expected;
    loop {
        match format::look(header.seal(), &bytes[at..]) {
            At::Record { bytes: length, seq, kind, at_us, .. } if seq == next => {
                if kind == KIND_GAP {
                    next = at_us.cast_unsigned();
                } else {
                    *records += 1;
                    next += 1;
                }
                at += length;
            }
            At::Record { .. } | At::Bad | At::End => {
                let sound = search(header.seal(), &bytes, at, next);
                let until = sound.map(|(_, seq)| seq).or(following.map(|f| f.first_seq));
                let clean = bytes[at..].iter().all(|b| *b == 0);
                match (sound, until) {
                    // The segment ends here as it should.
                    (None, None) if clean => return Ok(next),
                    (None, Some(until)) if clean && until == next => return Ok(next),
                    (found, until) => {
                        let end = found.map_or(bytes.len(), |(found, _)| found);
                        let offset = segment::offset(number, at as u64);
                        let next_seq = until.unwrap_or(next);
                        lost.push(Lost {
                            offset,
                            bytes: (end - at) as u64,
                            first_seq: next,
                            next_seq,
                        });
                        if repair {
                            if until.is_none() {
                                recovery::zero_from(fs, offset)?;
                            } else {
                                fill(
                                    fs,
                                    header.seal(),
                                    (at, end),
                                    next,
                                    next_seq,
                                    found.is_none(),
                                )?;
                            }
                        }
                        next = next_seq;
                        if found.is_none() {
                            return Ok(next);
                        }
                        at = end;
                    }
                }
            }
        }
    }
}

/// The next sound record whose number is not behind.
fn search(seal: Seal, bytes: &[u8], from: usize, next: u64) -> Option<(usize, u64)> {
    let mut at = from + 1;
    while at + RECORD_BYTES <= bytes.len() {
        if bytes[at] == 0 && bytes[at..(at + 4).min(bytes.len())].iter().all(|b| *b == 0) {
            at += 1;
            continue;
        }
        if let At::Record { seq, .. } = format::look(seal, &bytes[at..])
            && recovery::is_near(next, seq, at - from)
        {
            return Some((at, seq));
        }
        at += 1;
    }
    None
}

/// Writes gap records over a stretch. At a segment's end one short gap and zeros do.
fn fill<F: Fs>(
    fs: &F,
    seal: Seal,
    (from, to): (usize, usize),
    seq: u64,
    next_seq: u64,
    to_end: bool,
) -> io::Result<()> {
    let file = fs.open(&segment::name(seal.segment))?;
    let mut out = Vec::with_capacity(to - from);
    let gap = |out: &mut Vec<u8>, payload: usize, then: u64| {
        let zeros = vec![0u8; payload];
        format::encode(out, seal, seq, 0, then.cast_signed(), 0, KIND_GAP, &zeros);
    };
    if to_end {
        if to - from >= RECORD_BYTES {
            gap(&mut out, 0, next_seq);
        }
        out.resize(to - from, 0);
    } else {
        let mut left = to - from;
        while left > 0 {
            // Every piece but the last leaves room for one more header.
            let piece =
                if left > RECORD_BYTES_MAX { RECORD_BYTES_MAX - 2 * RECORD_BYTES } else { left };
            left -= piece;
            gap(&mut out, piece - RECORD_BYTES, if left == 0 { next_seq } else { seq });
        }
    }
    file.write_at(&out, from as u64)?;
    file.sync()
}

impl Lost {
    /// As damage, for a report that changes nothing.
    pub fn as_damage(&self) -> Damage {
        let records = self.next_seq.saturating_sub(self.first_seq);
        Damage::at(self.offset, format!("{} bytes, {records} records", self.bytes))
    }
}
