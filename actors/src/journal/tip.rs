//! The durable end of the journal, and waiting for it to move.

use tokio::sync::watch;

use super::segment::Offset;

/// The durable end: every byte before it is on disk.
#[derive(Debug)]
pub struct Tip {
    end: watch::Sender<Offset>,
}

impl Tip {
    /// A tip at `end`.
    pub fn new(end: Offset) -> Self {
        Self { end: watch::Sender::new(end) }
    }

    /// Where it is.
    pub fn end(&self) -> Offset {
        *self.end.borrow()
    }

    /// Moves it forward and wakes whoever waits.
    pub fn advance(&self, to: Offset) {
        self.end.send_if_modified(|end| {
            let moved = to > *end;
            *end = to.max(*end);
            moved
        });
    }

    /// Follows it.
    pub fn watch(&self) -> watch::Receiver<Offset> {
        self.end.subscribe()
    }
}
