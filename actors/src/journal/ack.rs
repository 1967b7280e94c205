//! The cell through which the journal tells one connection how many of its appends are durable.
//!
//! Appends of a connection complete in the order they were made, so a count says everything; the connection is woken once
//! per group commit, not once per append.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

use futures_util::task::AtomicWaker;

/// Progress of one connection's appends.
#[derive(Debug, Default)]
pub struct AckCell {
    completed: AtomicU64,
    last_offset: AtomicU64,
    waker: AtomicWaker,
}

impl AckCell {
    /// A cell without appends.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Appends that are durable.
    pub fn completed(&self) -> u64 {
        self.completed.load(Ordering::Acquire)
    }

    /// Offset of the last durable append.
    pub fn last_offset(&self) -> u64 {
        self.last_offset.load(Ordering::Acquire)
    }

    /// `n` more appends are durable, the last at `offset`; wakes the connection.
    pub fn complete(&self, n: u64, offset: u64) {
        self.last_offset.store(offset, Ordering::Release);
        self.completed.fetch_add(n, Ordering::Release);
        self.waker.wake();
    }

    /// Whom to wake; the last one registered counts.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}
