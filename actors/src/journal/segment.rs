//! Segments: their names, and which there are.

use std::{
    collections::BTreeSet,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::format::HEADER_BYTES;

/// A place in the journal: segment number in the high bits, byte in the segment in the low 26.
pub type Offset = u64;

/// Bytes of a segment at most; also the distance between the first offsets of two segments.
pub const SEGMENT_BYTES: u64 = 1 << SHIFT;
const SHIFT: u32 = 26;

/// Number of the segment an offset lies in.
pub fn number(offset: Offset) -> u64 {
    offset >> SHIFT
}
/// Byte in its segment.
pub fn within(offset: Offset) -> u64 {
    offset & (SEGMENT_BYTES - 1)
}
/// Offset of a byte of a segment.
pub fn offset(number: u64, within: u64) -> Offset {
    (number << SHIFT) | within
}
/// Offset of a segment's first record.
pub fn first_record(number: u64) -> Offset {
    offset(number, HEADER_BYTES as u64)
}
/// File name of a segment.
pub fn name(number: u64) -> String {
    format!("{number:012}.segment")
}
/// Number of the segment that has this file name.
pub fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    if digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_digit()) {
        digits.parse().ok()
    } else {
        None
    }
}

/// Which segments hold records and which wait to be written; shared by writer, preparer and trimmer.
pub struct Segments {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    live: BTreeSet<u64>,
    prepared: BTreeSet<u64>,
    closed: bool,
}

impl Segments {
    pub fn new(live: BTreeSet<u64>, prepared: BTreeSet<u64>) -> Self {
        Self { inner: Mutex::new(Inner { live, prepared, closed: false }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// First byte kept.
    pub fn first(&self) -> Offset {
        self.lock().live.first().map_or(0, |number| offset(*number, 0))
    }

    pub fn live(&self) -> Vec<u64> {
        self.lock().live.iter().copied().collect()
    }

    pub fn count(&self) -> usize {
        let inner = self.lock();
        inner.live.len() + inner.prepared.len()
    }

    /// Takes the segments before `number` out of the list, all but the newest.
    pub fn take_before(&self, number: u64) -> Vec<u64> {
        let mut inner = self.lock();
        let newest = inner.live.last().copied().unwrap_or(0);
        let gone: Vec<u64> =
            inner.live.iter().copied().filter(|n| *n < number && *n < newest).collect();
        inner.live.retain(|n| !gone.contains(n));
        gone
    }

    /// The next prepared segment becomes the one that is written; waits for it when `wait`.
    pub fn activate(&self, number: u64, wait: bool) -> bool {
        let mut inner = self.lock();
        loop {
            if inner.prepared.remove(&number) {
                inner.live.insert(number);
                self.changed.notify_all();
                return true;
            }
            if !wait || inner.closed {
                return false;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn prepared(&self, number: u64) {
        self.lock().prepared.insert(number);
        self.changed.notify_all();
    }

    /// The next segment that is to be prepared so that `ahead` are; `None` = not now.
    pub fn wanted(&self, ahead: usize) -> Option<u64> {
        let inner = self.lock();
        (inner.prepared.len() < ahead).then(|| next_number(&inner))
    }

    /// Waits until a segment is wanted; `None` once closed.
    pub fn wait_wanted(&self, ahead: usize) -> Option<u64> {
        let mut inner = self.lock();
        loop {
            if inner.closed {
                return None;
            }
            if inner.prepared.len() < ahead {
                return Some(next_number(&inner));
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for `pause`, less when closed meanwhile.
    pub fn wait_closed(&self, pause: Duration) {
        let inner = self.lock();
        let _ = self
            .changed
            .wait_timeout_while(inner, pause, |inner| !inner.closed)
            .unwrap_or_else(PoisonError::into_inner);
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

fn next_number(inner: &Inner) -> u64 {
    let newest = inner.prepared.last().or(inner.live.last());
    newest.map_or(0, |n| n + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_names_round_trip() {
        let at = offset(7, 81_920);
        assert_eq!((number(at), within(at)), (7, 81_920));
        assert_eq!(parse_name(&name(7)), Some(7));
        for bad in ["7.segment", "000000000007.segment.new", "x", "00000000000x.segment"] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
    }
}
