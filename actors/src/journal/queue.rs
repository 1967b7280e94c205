//! The append queue: bounded in bytes, swapped whole by the writer.

use std::{
    fmt, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{AckCell, RECORD_BYTES_MAX, format::RECORD_BYTES, segment::Offset};

/// Whom to tell that a record is durable.
pub enum Completion {
    /// Nobody.
    None,
    /// A connection, by counting.
    Cell(Arc<AckCell>),
    /// One caller, with the record's offset.
    Tell(oneshot::Sender<Offset>),
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Cell(_) => "Cell",
            Self::Tell(_) => "Tell",
        })
    }
}

/// Why an append is not taken. Nothing of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefusal {
    /// The queue is full; try again when it has moved.
    #[error("the journal's queue is full")]
    Full,
    /// Larger than a record may be.
    #[error("the record is larger than {RECORD_BYTES_MAX} bytes")]
    TooLarge,
    /// The journal is closed.
    #[error("the journal is closed")]
    Stopped,
}

/// A record on its way to the writer.
#[derive(Debug)]
pub struct Pending {
    pub shard: u16,
    pub kind: u8,
    pub payload: Vec<u8>,
    pub completion: Completion,
}

/// The queue.
pub struct Queue {
    inner: Mutex<Inner>,
    filled: Condvar,
    bytes_max: usize,
}

#[derive(Default)]
struct Inner {
    records: Vec<Pending>,
    bytes: usize,
    closed: bool,
    waiting: bool,
}

impl Queue {
    pub fn new(bytes_max: usize) -> Self {
        Self { inner: Mutex::default(), filled: Condvar::new(), bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(
        &self,
        shard: u16,
        kind: u8,
        payload: Vec<u8>,
        completion: Completion,
    ) -> Result<(), AppendRefusal> {
        let bytes = RECORD_BYTES + payload.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(AppendRefusal::TooLarge);
        }
        let mut inner = self.lock();
        if inner.closed {
            return Err(AppendRefusal::Stopped);
        }
        if inner.bytes + bytes > self.bytes_max {
            return Err(AppendRefusal::Full);
        }
        inner.bytes += bytes;
        inner.records.push(Pending { shard, kind, payload, completion });
        if mem::take(&mut inner.waiting) {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Swaps everything queued into `into`, which must be empty; waits for something when `wait`. False once the queue is
    /// closed and empty.
    pub fn take(&self, into: &mut Vec<Pending>, wait: Option<Duration>) -> bool {
        let mut inner = self.lock();
        if let Some(wait) = wait
            && inner.records.is_empty()
            && !inner.closed
        {
            inner.waiting = true;
            (inner, _) = self
                .filled
                .wait_timeout_while(inner, wait, |inner| inner.records.is_empty() && !inner.closed)
                .unwrap_or_else(PoisonError::into_inner);
            inner.waiting = false;
        }
        mem::swap(&mut inner.records, into);
        inner.bytes = 0;
        !(into.is_empty() && inner.closed)
    }

    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }
}
