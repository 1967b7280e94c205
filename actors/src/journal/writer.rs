//! The writer: the one owner of the journal's tail.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    AckCell, Completion, GROUP_BYTES_MAX, Options, Recovered, Shared,
    format::{self, HEADER_BYTES, Header, RECORD_BYTES, Seal},
    queue::Pending,
    segment::{self, Offset},
};
use crate::ports::{
    clock::{Clock, HubClock},
    fs::{FileIo, Fs},
};

/// After a group of at least this many records the next one waits for company.
pub const BUSY_RECORDS: usize = 8;
/// How long it waits.
pub const BUSY_WAIT: Duration = Duration::from_millis(4);
/// After a group of at least this many records the wait is [`RUSH_WAIT`].
pub const RUSH_RECORDS: usize = 130;
/// How long the next one waits in a rush.
pub const RUSH_WAIT: Duration = Duration::from_millis(10);
/// With nothing to write the writer still looks at the clock this often, in milliseconds.
const IDLE_MS: u64 = 500;

/// What the journal counts; plain relaxed atomics.
#[derive(Debug, Default)]
pub struct Stats {
    records: AtomicU64,
    bytes: AtomicU64,
    groups: AtomicU64,
    no_space: AtomicU64,
    sync_us: AtomicU64,
    clock_stepped: AtomicBool,
    waiting_for_space: AtomicBool,
}

impl Stats {
    /// Records made durable.
    pub fn records(&self) -> u64 {
        self.records.load(Relaxed)
    }
    /// Bytes made durable.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
    /// Groups synced.
    pub fn groups(&self) -> u64 {
        self.groups.load(Relaxed)
    }
    /// Microseconds spent in writing and syncing.
    pub fn sync_us(&self) -> u64 {
        self.sync_us.load(Relaxed)
    }
    /// Times a segment could not be prepared.
    pub fn no_space(&self) -> u64 {
        self.no_space.load(Relaxed)
    }
    /// The wall clock was set while the hub ran; see `ports::clock`.
    pub fn clock_stepped(&self) -> bool {
        self.clock_stepped.load(Relaxed)
    }
    /// The writer waits for a segment that the disk has no space for.
    pub fn waiting_for_space(&self) -> bool {
        self.waiting_for_space.load(Relaxed)
    }
    pub(super) fn count_no_space(&self) {
        self.no_space.fetch_add(1, Relaxed);
    }
}

/// Owner of the tail. [`Writer::step`] does one group; a thread calls it for ever, a simulation calls it when it likes.
pub struct Writer<F: Fs> {
    shared: Arc<Shared<F>>,
    clock: HubClock<Arc<dyn Clock>>,
    file: Option<F::File>,
    segment_bytes: u64,
    group_wait: Duration,
    last_group: usize,
    next: Offset,
    next_seq: u64,
    buffer: Vec<u8>,
    pending: Vec<Pending>,
    done: Vec<(Completion, Offset)>,
}

impl<F: Fs> Writer<F> {
    pub(super) fn new(
        shared: Arc<Shared<F>>,
        clock: HubClock<Arc<dyn Clock>>,
        options: &Options,
        recovered: &Recovered,
    ) -> io::Result<Self> {
        let current = segment::number(recovered.end);
        let open = recovered.segments.contains(&current);
        let file = if open { Some(shared.fs.open(&segment::name(current))?) } else { None };
        Ok(Self {
            shared,
            clock,
            file,
            segment_bytes: options.segment_bytes.min(segment::SEGMENT_BYTES),
            group_wait: Duration::from_micros(options.group_wait_us),
            last_group: 0,
            next: recovered.end,
            next_seq: recovered.next_seq,
            buffer: Vec::new(),
            pending: Vec::new(),
            done: Vec::new(),
        })
    }

    /// Writes one queue-full. With `wait` it waits for something to write, and for segments that the preparer makes; without,
    /// it makes them itself, as a simulation wants it. False once the journal is closed and everything is written.
    pub fn step(&mut self, wait: bool) -> io::Result<bool> {
        let mut pending = std::mem::take(&mut self.pending);
        let idle = wait.then_some(Duration::from_millis(IDLE_MS));
        let open = self.shared.queue.take(&mut pending, idle);
        let busy = match self.last_group {
            0..BUSY_RECORDS => Duration::ZERO,
            BUSY_RECORDS..RUSH_RECORDS => BUSY_WAIT,
            _ => RUSH_WAIT,
        };
        let pause = self.group_wait.max(busy);
        if wait && open && !pending.is_empty() && !pause.is_zero() {
            // A sync costs the same for one record and for a hundred. When many come, a moment's wait halves the syncs, the
            // wakes and the writes of acknowledgements; when few come nobody waits.
            std::thread::sleep(pause);
            let mut more = Vec::new();
            self.shared.queue.take(&mut more, None);
            pending.append(&mut more);
        }
        self.last_group = pending.len();
        let now = self.look_at_clock();
        let mut index = 0;
        for record in pending.drain(..) {
            let bytes = (RECORD_BYTES + record.payload.len()) as u64;
            let used = segment::within(self.next) + self.buffer.len() as u64;
            if self.file.is_none() || used + bytes > self.segment_bytes {
                self.flush()?;
                self.roll(wait)?;
                index = 0;
            } else if self.buffer.len() + bytes as usize > GROUP_BYTES_MAX {
                self.flush()?;
                index = 0;
            }
            let offset = self.next + self.buffer.len() as u64;
            let seal = Seal { salt: self.shared.salt, segment: segment::number(self.next) };
            format::encode(
                &mut self.buffer,
                seal,
                self.next_seq,
                index,
                now,
                record.shard,
                record.kind,
                &record.payload,
            );
            self.next_seq += 1;
            index += 1;
            self.done.push((record.completion, offset));
        }
        self.pending = pending;
        self.flush()?;
        Ok(open)
    }

    fn look_at_clock(&mut self) -> i64 {
        let now = self.clock.now_us();
        self.shared.anchor_us.store(now.saturating_sub(self.clock.mono_us()), Relaxed);
        let stepped = self.clock.has_stepped();
        if self.shared.stats.clock_stepped.swap(stepped, Relaxed) != stepped {
            if stepped {
                tracing::error!(
                    "the wall clock was set by more than two seconds; the hub does not follow it"
                );
            } else {
                tracing::info!("the wall clock agrees with the hub's time again");
            }
        }
        now
    }

    /// Writes the buffer, syncs, tells.
    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(file) = &self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let before = self.clock.mono_us();
        file.write_at(&self.buffer, segment::within(self.next))?;
        file.sync()?;
        let stats = &self.shared.stats;
        let took = self.clock.mono_us().saturating_sub(before).max(0).unsigned_abs();
        stats.sync_us.fetch_add(took, Relaxed);
        stats.groups.fetch_add(1, Relaxed);
        stats.records.fetch_add(self.done.len() as u64, Relaxed);
        stats.bytes.fetch_add(self.buffer.len() as u64, Relaxed);
        self.next += self.buffer.len() as u64;
        self.buffer.clear();
        self.shared.tip.advance(self.next);
        tell(&mut self.done);
        Ok(())
    }

    /// Goes on in the next prepared segment, waiting for one if the disk is full. The header is synced before any record goes
    /// in, so that records behind a bad header are always damage.
    fn roll(&mut self, wait: bool) -> io::Result<()> {
        let number = if self.file.is_some() {
            segment::number(self.next) + 1
        } else {
            segment::number(self.next)
        };
        if !wait && self.shared.segments.wanted(1) == Some(number) {
            match self.shared.fs.create_zeroed(&segment::name(number), self.segment_bytes) {
                Ok(()) => self.shared.segments.prepared(number),
                Err(_) => self.shared.stats.count_no_space(),
            }
        }
        self.shared.stats.waiting_for_space.store(true, Relaxed);
        let ready = self.shared.segments.activate(number, wait);
        self.shared.stats.waiting_for_space.store(false, Relaxed);
        if !ready {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no prepared segment"));
        }
        let file = self.shared.fs.open(&segment::name(number))?;
        let header = Header {
            epoch: self.shared.epoch,
            salt: self.shared.salt,
            segment: number,
            first_seq: self.next_seq,
        };
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        self.file = Some(file);
        self.next = segment::offset(number, HEADER_BYTES as u64);
        Ok(())
    }
}

/// Tells everybody, each connection once.
fn tell(done: &mut Vec<(Completion, Offset)>) {
    let mut run: Option<(Arc<AckCell>, u64, Offset)> = None;
    for (completion, offset) in done.drain(..) {
        match completion {
            Completion::None => {}
            Completion::Tell(tell) => {
                // Whoever does not wait any more does not mind.
                let _ = tell.send(offset);
            }
            Completion::Cell(cell) => match &mut run {
                Some((same, count, last)) if Arc::ptr_eq(same, &cell) => {
                    *count += 1;
                    *last = offset;
                }
                Some(_) | None => {
                    if let Some((cell, count, last)) = run.replace((cell, 1, offset)) {
                        cell.complete(count, last);
                    }
                }
            },
        }
    }
    if let Some((cell, count, last)) = run {
        cell.complete(count, last);
    }
}
