//! Reading the journal in order, up to its durable end.
//!
//! A reader checks every record's checksum and that sequence numbers are dense; it goes on in the next segment where the
//! records of one end. Payloads are slices of the buffer a stretch was read in: nothing is copied.

use std::{io, sync::Arc};

use bytes::Bytes;

use super::{
    RECORD_BYTES_MAX, Tip,
    format::{self, At, HEADER_BYTES, Header, KIND_GAP, RECORD_BYTES, Record, Seal},
    segment::{self, Offset},
};
use crate::ports::fs::{FileIo, Fs};

/// Bytes read at once.
pub const READ_BYTES: usize = 512 << 10;

/// Why reading stops.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are not what was written.
    #[error(
        "the journal is damaged at offset {offset}: {what}. Stop the hub and run `stockfold journal salvage`"
    )]
    Damaged {
        /// Where.
        offset: Offset,
        /// What is wrong.
        what: &'static str,
    },
    /// The reader's place was trimmed away.
    #[error("the journal was trimmed up to offset {first}, {wanted} is gone")]
    Trimmed {
        /// What was wanted.
        wanted: Offset,
        /// First offset kept.
        first: Offset,
    },
    /// A file cannot be read.
    #[error("the journal cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// A place in the journal that moves forward.
pub struct Reader<F: Fs> {
    fs: Arc<F>,
    salt: u64,
    tip: Arc<Tip>,
    next: Offset,
    /// Records at or before this offset are passed over.
    after: Offset,
    expected: Option<u64>,
    passed_gap: bool,
    file: Option<(u64, F::File)>,
}

impl<F: Fs> Reader<F> {
    pub(super) fn new(fs: Arc<F>, salt: u64, tip: Arc<Tip>, first: Offset, after: Offset) -> Self {
        // A record names the next one only by being read, so reading starts with the record at `after` itself.
        let next =
            if after < first { segment::first_record(segment::number(first)) } else { after };
        Self { fs, salt, tip, next, after, expected: None, passed_gap: false, file: None }
    }

    /// Where it stands: everything before this offset was read.
    pub fn position(&self) -> Offset {
        self.next
    }

    /// It passed over records that salvage gave up.
    pub fn passed_gap(&self) -> bool {
        self.passed_gap
    }

    /// The tip it follows.
    pub fn tip(&self) -> &Arc<Tip> {
        &self.tip
    }

    /// Reads a stretch of records into `out`; false when there is nothing more up to the durable end.
    pub fn read(&mut self, out: &mut Vec<Record>) -> Result<bool, ReadError> {
        let end = self.tip.end();
        let mut size = READ_BYTES;
        while self.next < end {
            let number = segment::number(self.next);
            let seal = Seal { salt: self.salt, segment: number };
            if segment::within(self.next) < HEADER_BYTES as u64 {
                self.next = segment::first_record(number);
                continue;
            }
            let stop =
                if segment::number(end) == number { end } else { segment::offset(number + 1, 0) };
            let at = segment::within(self.next);
            let want = usize::try_from(stop - self.next).unwrap_or(size).min(size);
            let bytes = self.bytes(number, at, want)?;
            let read = bytes.len();
            // More stands behind this stretch, so its end may cut a record.
            let cut = read == want && self.next + (want as u64) < stop;
            let mut used = 0;
            while used < read {
                let rest = &bytes[used..];
                if cut && rest.len() < RECORD_BYTES {
                    break;
                }
                match format::look(seal, rest) {
                    At::Record { bytes: length, seq, at_us, shard, kind, .. } => {
                        let offset = self.next + used as u64;
                        self.check_seq(offset, seq, kind, at_us)?;
                        self.passed_gap |= kind == KIND_GAP;
                        if kind != KIND_GAP && offset > self.after {
                            let payload = bytes.slice(used + RECORD_BYTES..used + length);
                            out.push(Record { offset, seq, at_us, shard, kind, payload });
                        }
                        used += length;
                    }
                    At::Bad if cut && rest.len() < RECORD_BYTES_MAX => break,
                    At::Bad => {
                        let offset = self.next + used as u64;
                        return Err(ReadError::Damaged {
                            offset,
                            what: "the checksum does not fit",
                        });
                    }
                    At::End if segment::number(end) > number => {
                        self.next_segment(number)?;
                        return Ok(true);
                    }
                    At::End => {
                        let offset = self.next + used as u64;
                        let what = "zeros where a record was acknowledged";
                        return Err(ReadError::Damaged { offset, what });
                    }
                }
            }
            if used == 0 {
                if !cut {
                    // A segment of a smaller size ends with its file.
                    if segment::number(end) > number {
                        self.next_segment(number)?;
                        return Ok(true);
                    }
                    let what = "the file is shorter than what was acknowledged";
                    return Err(ReadError::Damaged { offset: self.next, what });
                }
                // One record larger than a stretch.
                size = RECORD_BYTES_MAX;
                continue;
            }
            self.next += used as u64;
            return Ok(true);
        }
        Ok(false)
    }

    fn bytes(&mut self, number: u64, at: u64, want: usize) -> Result<Bytes, ReadError> {
        if self.file.as_ref().is_none_or(|(open, _)| *open != number) {
            let file = self.fs.open(&segment::name(number)).map_err(|error| {
                if error.kind() == io::ErrorKind::NotFound {
                    let first = segment::offset(number, 0);
                    return ReadError::Trimmed { wanted: self.next, first };
                }
                ReadError::Io(error)
            })?;
            self.file = Some((number, file));
        }
        let Some((_, file)) = &self.file else { return Ok(Bytes::new()) };
        let mut buffer = vec![0; want];
        let read = file.read_at(&mut buffer, at)?;
        buffer.truncate(read);
        Ok(Bytes::from(buffer))
    }

    fn check_seq(
        &mut self,
        offset: Offset,
        seq: u64,
        kind: u8,
        at_us: i64,
    ) -> Result<(), ReadError> {
        if self.expected.is_some_and(|expected| expected != seq) {
            return Err(ReadError::Damaged { offset, what: "a sequence number is missing" });
        }
        self.expected = Some(if kind == KIND_GAP { at_us.cast_unsigned() } else { seq + 1 });
        Ok(())
    }

    fn next_segment(&mut self, number: u64) -> Result<(), ReadError> {
        let offset = segment::offset(number + 1, 0);
        let head = match self.bytes(number + 1, 0, HEADER_BYTES) {
            Ok(head) => head,
            Err(ReadError::Trimmed { .. }) => {
                return Err(ReadError::Damaged { offset, what: "a segment is missing" });
            }
            Err(error) => return Err(error),
        };
        let Some(header) = Header::decode(&head).filter(|h| h.segment == number + 1) else {
            return Err(ReadError::Damaged { offset, what: "the segment's header does not fit" });
        };
        if self.expected.is_some_and(|expected| expected != header.first_seq) {
            return Err(ReadError::Damaged {
                offset,
                what: "records before this segment are missing",
            });
        }
        self.expected = Some(header.first_seq);
        self.next = segment::first_record(number + 1);
        Ok(())
    }
}

/// The record at an offset, if one stands there.
pub(super) fn record_at<F: Fs>(
    fs: &F,
    salt: u64,
    offset: Offset,
) -> Result<Option<Record>, ReadError> {
    let number = segment::number(offset);
    let file = match fs.open(&segment::name(number)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let seal = Seal { salt, segment: number };
    let mut size = 4 << 10;
    loop {
        let mut buffer = vec![0; size];
        let read = file.read_at(&mut buffer, segment::within(offset))?;
        buffer.truncate(read);
        if let At::Record { bytes, seq, at_us, shard, kind, .. } = format::look(seal, &buffer) {
            let payload = Bytes::from(buffer).slice(RECORD_BYTES..bytes);
            return Ok(Some(Record { offset, seq, at_us, shard, kind, payload }));
        }
        if size >= RECORD_BYTES_MAX || read < size {
            return Ok(None);
        }
        size = RECORD_BYTES_MAX;
    }
}
