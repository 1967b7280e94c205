//! The board: what a shard tells the rest of the hub. Everything on it is a hint or a figure; the truth is in the store.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use fold::{EventKind, TagChange};
use tokio::sync::{broadcast, watch};

use crate::store::Batch;

/// Committed batches a slow listener may fall behind; then it is told and reads the store.
pub const NOTICES_MAX: usize = 256;

/// What a shard tells.
#[derive(Debug)]
pub struct Board {
    /// Everything up to this offset is committed, or had no effect and nothing before it waits.
    visible: watch::Sender<u64>,
    /// The store's own position.
    committed: watch::Sender<u64>,
    batches: broadcast::Sender<Arc<Batch>>,
    begun: watch::Sender<bool>,
    /// Figures.
    pub stats: ShardStats,
}

/// What was told of tags, by kind.
#[derive(Debug, Default)]
pub struct TagEvents {
    arrived: AtomicU64,
    returned: AtomicU64,
    moved: AtomicU64,
    departed: AtomicU64,
}

impl TagEvents {
    /// The count of a kind.
    pub fn of(&self, change: TagChange) -> &AtomicU64 {
        match change {
            TagChange::Arrived => &self.arrived,
            TagChange::Returned => &self.returned,
            TagChange::Moved => &self.moved,
            TagChange::Departed => &self.departed,
        }
    }
}

/// Figures of a shard; each exact for itself.
#[derive(Debug, Default)]
pub struct ShardStats {
    /// Last offset folded.
    pub folded: AtomicU64,
    /// Entries folded in this run.
    pub entries: AtomicU64,
    /// Entries folded again at start.
    pub refolded: AtomicU64,
    /// Movements committed.
    pub movements: AtomicU64,
    /// Events committed.
    pub events: AtomicU64,
    /// Of these, what was told of tags.
    pub tag_events: TagEvents,
    /// Batches committed.
    pub commits: AtomicU64,
    /// Microseconds spent folding.
    pub fold_us: AtomicU64,
    /// Microseconds spent committing.
    pub commit_us: AtomicU64,
    /// Commits tried again.
    pub retries: AtomicU64,
    /// Snapshots written.
    pub snapshots: AtomicU64,
    /// Offset of the older of the kept snapshots: the journal is not trimmed beyond it.
    pub snapshot_older: AtomicU64,
    /// Entries passed over because they crashed the fold.
    pub poisoned: AtomicU64,
    /// Hub time of the newest entry folded, microseconds.
    pub folded_at_us: AtomicU64,
}

impl Board {
    /// An empty board with listeners of its own.
    pub fn new() -> Arc<Self> {
        Self::telling(broadcast::Sender::new(NOTICES_MAX))
    }

    /// An empty board that tells its batches on a channel it shares with others.
    pub fn telling(batches: broadcast::Sender<Arc<Batch>>) -> Arc<Self> {
        Arc::new(Self {
            visible: watch::Sender::new(0),
            committed: watch::Sender::new(0),
            batches,
            begun: watch::Sender::new(false),
            stats: ShardStats::default(),
        })
    }

    /// Last offset that is visible in the store.
    pub fn visible(&self) -> u64 {
        *self.visible.borrow()
    }

    /// Follows [`Board::visible`].
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.visible.subscribe()
    }

    /// The store's own position: the newest offset it holds as committed.
    pub fn committed(&self) -> u64 {
        *self.committed.borrow()
    }

    /// Follows [`Board::committed`].
    pub fn watch_committed(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// Every batch after it was committed.
    pub fn batches(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.batches.subscribe()
    }

    /// A shard begins at the store's position.
    pub fn begin(&self, offset: u64) {
        self.committed.send_replace(offset);
        // Backwards too: a database that lost its newest commits does not show them.
        self.visible.send_replace(offset);
        self.begun.send_replace(true);
    }

    /// Whether the shard has ever begun.
    pub fn begun(&self) -> watch::Receiver<bool> {
        self.begun.subscribe()
    }

    /// A batch was committed.
    pub fn tell(&self, batch: Arc<Batch>) {
        self.stats.commits.fetch_add(1, Relaxed);
        self.stats.movements.fetch_add(batch.movements.len() as u64, Relaxed);
        self.stats.events.fetch_add(batch.events.len() as u64, Relaxed);
        for (_, _, event) in &batch.events {
            if let EventKind::Tag(told) = &event.kind {
                self.stats.tag_events.of(told.change).fetch_add(1, Relaxed);
            }
        }
        let to = batch.to;
        self.committed.send_replace(to);
        // Nobody listening is fine.
        let _ = self.batches.send(batch);
        self.advance(to);
    }

    /// Everything up to `offset` is visible.
    pub fn advance(&self, offset: u64) {
        self.visible.send_if_modified(|visible| {
            let moved = offset > *visible;
            *visible = offset.max(*visible);
            moved
        });
    }
}
