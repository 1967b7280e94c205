//! The journal: what was acknowledged, in order, on disk.
//!
//! One physical log for all shards. Records are appended to segment files of a fixed size that were filled with zeros ahead of
//! time, so that an append changes no file metadata and its `fdatasync` is one write. One thread owns the tail: it takes
//! whatever has queued while the last sync ran, writes it in one piece, syncs once, and only then acknowledges (group
//! commit). Readers follow the durable end through the page cache; nothing is handed to the fold from memory, so live
//! operation and replay are the same code path.
//!
//! ```text
//!  append ─► Queue (bounded, bytes) ─► Writer: encode, write, fdatasync ─► Tip ─► acknowledgements
//!                                         ▲ prepared segments               │
//!                                      Preparer (zero-fills ahead)          └─► Readers (shards, cursors)
//! ```
//!
//! An offset is `segment << 26 | byte in segment`: it names a record for ever, increases, and is not dense.
//!
//! Invariants:
//! - a position is told only after its record is synced;
//! - a failed write or sync on a prepared segment ends the process: the page cache can no longer be believed, and retrying
//!   `fsync` lies. Running out of space can happen only while a segment is prepared, where it costs nothing but waiting;
//! - recovery tells a torn tail (the last group, never acknowledged: cut) from damage (anything before it: refused by name);
//! - record times never run backwards.
//!
//! The layout and the recovery rule are in `docs/specs/journal.md`.

mod ack;
pub mod format;
mod queue;
mod reader;
mod recovery;
mod salvage;
mod segment;
mod tip;
mod writer;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

pub use ack::AckCell;
pub use format::Record;
pub use queue::{AppendRefusal, Completion};
pub use reader::{ReadError, Reader};
pub use recovery::{Damage, Recovered, Torn};
pub use salvage::{Lost, SalvageError, salvage};
pub use segment::{Offset, SEGMENT_BYTES};
pub use tip::Tip;
pub use writer::{Stats, Writer};

use crate::ports::{
    clock::{Clock, HubClock},
    fs::Fs,
};
use queue::Queue;
use segment::Segments;

/// Bytes that may wait in the queue for the next group. More is refused, and the edges stop reading.
pub const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Bytes written and synced together at most.
pub const GROUP_BYTES_MAX: usize = 4 << 20;
/// Largest record, header included, in bytes.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Segments kept prepared ahead of the tail.
pub const SEGMENTS_AHEAD: usize = 2;
/// Pause before a segment that found no space is tried again, in milliseconds.
pub const SPACE_RETRY_MS: u64 = 500;

/// How a journal is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of a new segment; at most [`SEGMENT_BYTES`]. Tests take small ones.
    pub segment_bytes: u64,
    /// Epoch of a journal that is made new.
    pub epoch_if_new: u32,
    /// Salt of a journal that is made new; nobody who sends readings may know it. See `docs/specs/journal.md`.
    pub salt_if_new: u64,
    /// Extra time a group waits for company, in microseconds; 0 = the natural group commit.
    pub group_wait_us: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES, epoch_if_new: 1, salt_if_new: 0, group_wait_us: 0 }
    }
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something in front of the tail is damaged.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The files cannot be read or made.
    #[error("the journal's files cannot be used: {0}")]
    Io(#[from] io::Error),
}

/// What all handles share.
struct Shared<F: Fs> {
    fs: Arc<F>,
    epoch: u32,
    salt: u64,
    queue: Queue,
    tip: Arc<Tip>,
    segments: Segments,
    stats: Stats,
    clock: Arc<dyn Clock>,
    /// Hub time minus monotonic time, as the writer last slewed it, in microseconds.
    anchor_us: AtomicI64,
}

/// A handle to an open journal; cheap to clone.
pub struct Journal<F: Fs> {
    shared: Arc<Shared<F>>,
}

impl<F: Fs> Clone for Journal<F> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<F: Fs> Journal<F> {
    /// Recovers what is on disk. Returns the handle, the writer that must be driven (see [`Writer::spawn`]), and what
    /// recovery found.
    pub fn open(
        fs: F,
        clock: Arc<dyn Clock>,
        options: &Options,
    ) -> Result<(Self, Writer<F>, Recovered), OpenError> {
        let fs = Arc::new(fs);
        let recovered = recovery::recover(&*fs, options)?;
        let mut hub_clock = HubClock::new(Arc::clone(&clock), recovered.last_at_us);
        let anchor_us = hub_clock.now_us().saturating_sub(clock.mono_us());
        let shared = Arc::new(Shared {
            segments: Segments::new(recovered.segments.clone(), recovered.prepared.clone()),
            epoch: recovered.epoch,
            salt: recovered.salt,
            queue: Queue::new(QUEUE_BYTES_MAX),
            tip: Arc::new(Tip::new(recovered.end)),
            stats: Stats::default(),
            clock,
            anchor_us: AtomicI64::new(anchor_us),
            fs,
        });
        let writer = Writer::new(Arc::clone(&shared), hub_clock, options, &recovered)?;
        Ok((Self { shared }, writer, recovered))
    }

    /// Opens what a live hub's journal holds up to the record at `last`, only to read it. Nothing is judged or changed, least of
    /// all the tail, which the hub may be writing at this moment.
    pub fn open_for_reading(fs: F, clock: Arc<dyn Clock>, last: Offset) -> Result<Self, OpenError> {
        let mut live = std::collections::BTreeSet::new();
        let (mut epoch, mut salt) = (0, 0);
        for number in fs.list()?.iter().filter_map(|name| segment::parse_name(name)) {
            if let Some(header) = recovery::header(&fs, number)? {
                (epoch, salt) = (header.epoch, header.salt);
                live.insert(number);
            }
        }
        let end = match reader::record_at(&fs, salt, last) {
            Ok(Some(record)) => last + (format::RECORD_BYTES + record.payload.len()) as u64,
            Ok(None) if last == 0 => segment::first_record(live.first().copied().unwrap_or(0)),
            Ok(None) | Err(ReadError::Damaged { .. } | ReadError::Trimmed { .. }) => {
                return Err(
                    recovery::Damage::at(last, "no record stands where one was committed").into()
                );
            }
            Err(ReadError::Io(error)) => return Err(error.into()),
        };
        let anchor_us = clock.wall_us().saturating_sub(clock.mono_us());
        let queue = Queue::new(0);
        queue.close();
        Ok(Self {
            shared: Arc::new(Shared {
                segments: Segments::new(live, std::collections::BTreeSet::new()),
                epoch,
                salt,
                queue,
                tip: Arc::new(Tip::new(end)),
                stats: Stats::default(),
                clock,
                anchor_us: AtomicI64::new(anchor_us),
                fs: Arc::new(fs),
            }),
        })
    }

    /// Hands a record to the writer. `completion` is told when it is durable, in the order of the calls.
    pub fn append(
        &self,
        shard: u16,
        kind: u8,
        payload: Vec<u8>,
        completion: Completion,
    ) -> Result<(), AppendRefusal> {
        self.shared.queue.push(shard, kind, payload, completion)
    }

    /// Hands a record to the writer; resolves with its offset when it is durable.
    pub async fn append_wait(
        &self,
        shard: u16,
        kind: u8,
        payload: Vec<u8>,
    ) -> Result<Offset, AppendRefusal> {
        let (tell, told) = tokio::sync::oneshot::channel();
        self.append(shard, kind, payload, Completion::Tell(tell))?;
        told.await.map_err(|_| AppendRefusal::Stopped)
    }

    /// Which journal this is.
    pub fn epoch(&self) -> u32 {
        self.shared.epoch
    }

    /// The durable end and whoever waits for it to move.
    pub fn tip(&self) -> &Arc<Tip> {
        &self.shared.tip
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Bytes waiting in the queue.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queue.bytes()
    }

    /// Hub time, in microseconds since the Unix epoch. Records are stamped by the writer, a moment later.
    pub fn now_us(&self) -> i64 {
        self.shared.clock.mono_us().saturating_add(self.shared.anchor_us.load(Relaxed))
    }

    /// A reader of every record after `after` (0 = from the first kept).
    pub fn reader(&self, after: Offset) -> Reader<F> {
        let shared = &self.shared;
        let (fs, tip) = (Arc::clone(&shared.fs), Arc::clone(&shared.tip));
        Reader::new(fs, shared.salt, tip, self.first(), after)
    }

    /// Offset of the first byte kept; records before it were trimmed.
    pub fn first(&self) -> Offset {
        self.shared.segments.first()
    }

    /// The record at an offset; `None` when it was trimmed or none stands there.
    pub fn record_at(&self, offset: Offset) -> Result<Option<Record>, ReadError> {
        if offset < self.first() || offset >= self.shared.tip.end() {
            return Ok(None);
        }
        reader::record_at(&*self.shared.fs, self.shared.salt, offset)
    }

    /// Removes whole segments before `before`; the segment that is written is never removed. Returns how many went.
    pub fn trim(&self, before: Offset) -> io::Result<usize> {
        let gone = self.shared.segments.take_before(segment::number(before));
        for number in &gone {
            self.shared.fs.remove(&segment::name(*number))?;
        }
        Ok(gone.len())
    }

    /// Numbers of the segments that hold records, oldest first.
    pub fn segments(&self) -> Vec<u64> {
        self.shared.segments.live()
    }

    /// Bytes on disk, prepared segments included.
    pub fn disk_bytes(&self) -> u64 {
        (self.shared.segments.count() as u64).saturating_mul(SEGMENT_BYTES)
    }

    /// Refuses further appends; the writer ends after what is queued and fits into segments that are ready.
    pub fn close(&self) {
        self.shared.queue.close();
        self.shared.segments.close();
    }

    /// Files, for `journal verify`.
    pub fn fs(&self) -> &F {
        &self.shared.fs
    }
}

/// The threads of an open journal.
pub struct Threads {
    writer: JoinHandle<()>,
    preparer: JoinHandle<()>,
}

impl Threads {
    /// Starts the writer and the preparer, each on a thread of its own. `fatal` is called when a prepared segment cannot be
    /// written; it must not return (the hub aborts).
    pub fn spawn<F: Fs>(
        journal: &Journal<F>,
        mut writer: Writer<F>,
        segment_bytes: u64,
        fatal: impl Fn(&io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::clone(&journal.shared);
        let preparer = std::thread::Builder::new().name("journal-prepare".into()).spawn(move || {
            while let Some(number) = shared.segments.wait_wanted(SEGMENTS_AHEAD) {
                match shared.fs.create_zeroed(&segment::name(number), segment_bytes) {
                    Ok(()) => shared.segments.prepared(number),
                    Err(error) => {
                        tracing::error!(%error, segment = number, "no space for the next journal segment; trying again");
                        shared.stats.count_no_space();
                        shared.segments.wait_closed(Duration::from_millis(SPACE_RETRY_MS));
                    }
                }
            }
        })?;
        let shared = Arc::clone(&journal.shared);
        let writer = std::thread::Builder::new().name("journal-write".into()).spawn(move || {
            loop {
                match writer.step(true) {
                    Ok(true) => {}
                    Ok(false) => break,
                    // Stopping on a full disk: what is still queued was never acknowledged.
                    Err(error)
                        if shared.queue.is_closed()
                            && error.kind() == io::ErrorKind::StorageFull =>
                    {
                        break;
                    }
                    Err(error) => {
                        fatal(&error);
                        shared.queue.close();
                        break;
                    }
                }
            }
            shared.segments.close();
        })?;
        Ok(Self { writer, preparer })
    }

    /// Waits for both threads after [`Journal::close`].
    pub fn join(self) {
        let _ = self.writer.join();
        let _ = self.preparer.join();
    }
}
