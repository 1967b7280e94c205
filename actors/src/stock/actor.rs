//! The stock actor: the one writer of a shard.
//!
//! It reads the journal from where its states stand, folds, and hands what came of it to its committer. While a commit is
//! under way it folds on, up to a limit; whatever has gathered when the commit ends is the next batch. So a quiet shard
//! commits at once and a busy one in large batches, without a timer.
//!
//! ```text
//!  wake (journal's tip moved │ commit ended │ deadline) ─► pump: read, fold ─► seal ─► committer ─► board
//!                                                            └─ more to read: pump again
//! ```

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::prelude::*;
use device_profiles::FacilityId;
use fold::{Body, FOLD_VERSION, HubTime, Principal, wire};
use tokio::{sync::oneshot, time::Instant};

use super::{
    BATCH_ROWS_MAX, Board, Shard,
    committer::{Commit, Committer, Fence},
};
use crate::{
    guardian::{End, Status},
    journal::{Completion, Journal, ReadError, Reader, Record, SEGMENT_BYTES},
    ports::{fs::Fs, rng::Rng},
    snapshot::{KEPT, SnapshotId, SnapshotStore},
    store::{ShardPosition, Store},
};

/// Entries after which a snapshot is due: what a start must fold again stays well under a second.
pub const SNAPSHOT_ENTRIES: u64 = 300_000;
/// Housekeeping: deadlines, ledger, empty commits; in milliseconds.
const TICK_MS: u64 = 250;
/// Device hours are written at most this often, in milliseconds; they are absolute, so only the newest counts.
const LEDGER_MS: u64 = 1_000;
/// A shard whose movements come at least this fast, in movements a second, is busy: its next batch gathers for
/// [`GATHER_MS`], because a row costs less the more changes of its line are committed at once.
pub const BUSY_PER_S: u64 = 20_000;
/// A batch of this many movements does not gather any longer.
pub const GATHERED_MOVEMENTS: usize = 4_000;
/// How long a busy shard gathers, from the start of the commit before, in milliseconds.
pub const GATHER_MS: u64 = 80;
/// Without rows the position is written at most this often, in milliseconds.
const EMPTY_COMMIT_MS: u64 = 1_000;

/// Offset being folded, kept outside the actor so that the next life knows what the last one died of.
pub type Folding = Arc<AtomicU64>;

/// What a stock actor is made of.
pub(super) struct Parts<F: Fs, S: Store, N: SnapshotStore> {
    pub id: u16,
    pub journal: Journal<F>,
    pub store: Arc<S>,
    pub snapshots: Arc<N>,
    pub board: Arc<Board>,
    pub rng: Arc<dyn Rng>,
    pub status: Arc<Status>,
    pub folding: Folding,
    pub shard: Shard,
    pub position: ShardPosition,
    /// Offset of the snapshot the states came from; 0 = none.
    pub snapshot: u64,
    /// What salvage gave up was restated just now.
    pub restated: bool,
}

pub(super) struct StockActor<F: Fs, S: Store, N: SnapshotStore> {
    parts: Parts<F, S, N>,
    reader: Reader<F>,
    committer: Addr<Committer<S>>,
    records: Vec<Record>,
    committing: bool,
    /// Offset of the newest batch handed to the committer.
    sealed: u64,
    last_commit: Instant,
    busy: bool,
    /// Movements sealed since the last look at the rate, and when that was.
    sealed_movements: u64,
    rate_from: Instant,
    gathering: bool,
    last_ledger: Instant,
    since_snapshot: u64,
    /// Offset of the newest snapshot.
    snapshot: u64,
    /// Entries of its own that were folded since the last seal.
    own: u64,
    saving: bool,
    /// The next snapshot replaces all others.
    forget_older: bool,
    pumping: bool,
    /// Deadlines for which a tick was appended.
    ticked: BTreeMap<FacilityId, HubTime>,
    end: Option<oneshot::Sender<End>>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Pump;

impl<F: Fs, S: Store, N: SnapshotStore> StockActor<F, S, N> {
    pub fn new(parts: Parts<F, S, N>, end: oneshot::Sender<End>) -> Self {
        let committer = Committer {
            store: Arc::clone(&parts.store),
            board: Arc::clone(&parts.board),
            rng: Arc::clone(&parts.rng),
            status: Arc::clone(&parts.status),
        };
        Self {
            reader: parts.journal.reader(parts.shard.folded()),
            committer: committer.start(),
            records: Vec::new(),
            committing: false,
            sealed: parts.position.offset,
            last_commit: Instant::now(),
            busy: false,
            sealed_movements: 0,
            rate_from: Instant::now(),
            gathering: false,
            last_ledger: Instant::now(),
            since_snapshot: parts.board.stats.refolded.load(Relaxed),
            snapshot: parts.snapshot,
            own: 0,
            saving: false,
            forget_older: false,
            pumping: false,
            ticked: BTreeMap::new(),
            end: Some(end),
            parts,
        }
    }

    fn stop(&mut self, ctx: &mut Context<Self>, end: End) {
        if let Some(tell) = self.end.take() {
            let _ = tell.send(end);
        }
        ctx.stop();
    }

    fn pump_soon(&mut self, ctx: &mut Context<Self>) {
        if !self.pumping {
            self.pumping = true;
            ctx.notify(Pump);
        }
    }

    /// Reads and folds one stretch; true when there may be more.
    fn pump(&mut self) -> Result<bool, ReadError> {
        if self.committing && self.parts.shard.pending_rows() >= BATCH_ROWS_MAX {
            return Ok(false);
        }
        if !self.reader.read(&mut self.records)? {
            return Ok(false);
        }
        let began = Instant::now();
        let stats = &self.parts.board.stats;
        let mut folded = 0;
        let last = self.records.last().map_or(0, |record| record.offset);
        for record in self.records.drain(..) {
            if record.shard != self.parts.id {
                continue;
            }
            self.parts.folding.store(record.offset, Relaxed);
            self.parts.shard.fold(&record, record.offset > self.parts.position.offset);
            folded += 1;
        }
        self.parts.folding.store(0, Relaxed);
        self.parts.shard.pass(last);
        self.own += folded;
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        stats.fold_us.fetch_add(took, Relaxed);
        stats.entries.fetch_add(folded, Relaxed);
        stats.folded.store(self.parts.shard.folded(), Relaxed);
        stats.folded_at_us.store(self.parts.shard.folded_at().0.max(0).unsigned_abs(), Relaxed);
        self.since_snapshot += folded;
        Ok(true)
    }

    /// Hands what is pending to the committer, if there is something and it is idle.
    fn commit(&mut self, ctx: &mut Context<Self>, housekeeping: bool) {
        if self.committing {
            return;
        }
        let shard = &mut self.parts.shard;
        let moved = shard.folded() > self.sealed;
        let rows = shard.pending_rows() > 0 || (shard.is_urgent() && moved);
        // What belongs to other shards moves the position too, but only now and then: else an idle shard would write.
        let far = shard.folded().saturating_sub(self.sealed) >= SEGMENT_BYTES;
        let gathered = self.last_commit.elapsed();
        let empty_due = housekeeping
            && moved
            && (self.own > 0 || far)
            && gathered >= Duration::from_millis(EMPTY_COMMIT_MS);
        let ledger = housekeeping
            && shard.has_ledgers()
            && self.last_ledger.elapsed() >= Duration::from_millis(LEDGER_MS);
        if !rows && !empty_due && !ledger {
            if moved {
                // Nothing to write and nothing under way: all of it is as good as committed.
                self.parts.board.advance(shard.folded());
            }
            return;
        }
        let gather = Duration::from_millis(GATHER_MS);
        if self.busy
            && shard.pending_movements() < GATHERED_MOVEMENTS
            && !shard.is_urgent()
            && gathered < gather
        {
            if !self.gathering {
                self.gathering = true;
                ctx.run_later(gather - gathered, |actor, ctx| {
                    actor.gathering = false;
                    actor.commit(ctx, false);
                });
            }
            return;
        }
        self.sealed_movements += shard.pending_movements() as u64;
        let batch = shard.seal(self.sealed, self.parts.position.term, ledger);
        if ledger {
            self.last_ledger = Instant::now();
        }
        self.sealed = batch.to;
        self.own = 0;
        self.committing = true;
        self.last_commit = Instant::now();
        let done = self.committer.send(Commit(batch)).into_actor(self);
        ctx.spawn(done.map(|result, actor, ctx| {
            actor.committing = false;
            match result {
                Ok(Ok(to)) => {
                    actor.parts.position.offset = actor.parts.position.offset.max(to);
                    actor.after_commit(ctx);
                }
                Ok(Err(Fence::Superseded(why))) => actor.stop(ctx, End::Hopeless(why)),
                Ok(Err(Fence::Rewound(why) | Fence::Refused(why))) => {
                    actor.stop(ctx, End::Failed(why))
                }
                Err(error) => actor.stop(ctx, End::Failed(format!("the committer died: {error}"))),
            }
        }));
    }

    fn after_commit(&mut self, ctx: &mut Context<Self>) {
        self.parts.status.beat();
        let far = self.parts.position.offset.saturating_sub(self.snapshot) >= SEGMENT_BYTES;
        if (self.since_snapshot >= SNAPSHOT_ENTRIES || far) && !self.saving {
            self.save(ctx);
        }
        self.commit(ctx, false);
        self.pump_soon(ctx);
    }

    /// Copies the states as they are, by reference count, and writes them as a snapshot on a thread for blocking work once
    /// the store has committed what was folded up to here.
    fn save(&mut self, ctx: &mut Context<Self>) {
        self.saving = true;
        self.since_snapshot = 0;
        let at = self.parts.shard.folded();
        let copies = self.parts.shard.copies();
        let id = SnapshotId { epoch: self.parts.journal.epoch(), shard: self.parts.id, offset: at };
        let mut committed = self.parts.board.watch_committed();
        let (store, snapshots) = (Arc::clone(&self.parts.store), Arc::clone(&self.parts.snapshots));
        let forget_older = self.forget_older;
        let kept = if forget_older { 1 } else { KEPT };
        self.snapshot = at;
        let job = async move {
            committed.wait_for(|offset| *offset >= at).await.map_err(|e| e.to_string())?;
            save_copies(id, copies, store, snapshots, kept).await
        };
        ctx.spawn(job.into_actor(self).map(move |result, actor, _| {
            actor.saving = false;
            let stats = &actor.parts.board.stats;
            match result {
                Ok(older) => {
                    actor.forget_older &= !forget_older;
                    stats.snapshots.fetch_add(1, Relaxed);
                    stats.snapshot_older.store(older, Relaxed);
                }
                Err(error) => {
                    tracing::warn!(
                        shard = actor.parts.id,
                        error,
                        "snapshot not written; the journal is kept"
                    );
                }
            }
        }));
    }

    /// Deadlines, ledger, empty commits, heartbeat.
    fn housekeeping(&mut self, ctx: &mut Context<Self>) {
        self.parts.status.beat();
        let ms = u64::try_from(self.rate_from.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.busy = self.sealed_movements.saturating_mul(1_000) / ms >= BUSY_PER_S;
        (self.sealed_movements, self.rate_from) = (0, Instant::now());
        self.commit(ctx, true);
        let now = HubTime(self.parts.journal.now_us());
        let told = &mut self.ticked;
        // A facility's time moves only with its own entries, so each that is due gets its own tick, once for a deadline.
        let due: Vec<_> = (self.parts.shard.due(now))
            .filter(|(facility, at)| told.get(facility.as_str()) != Some(at))
            .map(|(facility, at)| (facility.clone(), at))
            .collect();
        for (facility, at) in due {
            let (kind, payload) = wire::encode(&facility, &Principal::Hub, &Body::Tick);
            match self.parts.journal.append(self.parts.id, kind, payload, Completion::None) {
                Ok(()) => {
                    told.insert(facility, at);
                }
                Err(error) => tracing::debug!(%error, "tick not appended; trying again"),
            }
        }
    }
}

/// Makes what is committed so far safe in the store, then writes a snapshot and forgets all but the newest `kept`.
/// Returns the offset of the oldest kept.
async fn save_copies<S: Store, N: SnapshotStore>(
    id: SnapshotId,
    copies: Vec<fold::State>,
    store: Arc<S>,
    snapshots: Arc<N>,
    kept: usize,
) -> Result<u64, String> {
    store
        .save_cursor("snapshot", id.shard, id.epoch, id.offset)
        .await
        .map_err(|e| e.to_string())?;
    let write = move || -> std::io::Result<u64> {
        snapshots.save(id, &mut copies.iter().map(|state| state.slices().collect()))?;
        let mut list = snapshots.list(id.shard)?;
        while list.len() > kept {
            snapshots.remove(list.remove(0))?;
        }
        // With only one, nothing lies before it that a rewound database could start from.
        Ok(if list.len() < KEPT { 0 } else { list[0].offset })
    };
    match tokio::task::spawn_blocking(write).await {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

impl<F: Fs, S: Store, N: SnapshotStore> Actor for StockActor<F, S, N> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        for facility in self.parts.shard.outdated() {
            let body = Body::FoldUpgraded { version: FOLD_VERSION };
            let (kind, payload) = wire::encode(&facility, &Principal::Hub, &body);
            if let Err(error) =
                self.parts.journal.append(self.parts.id, kind, payload, Completion::None)
            {
                self.stop(ctx, End::Failed(error.to_string()));
                return;
            }
            // The first snapshot under new rules follows at once.
            self.since_snapshot = SNAPSHOT_ENTRIES;
        }
        if self.parts.restated {
            // Snapshots of before the gap lead to states that lack it again.
            self.since_snapshot = SNAPSHOT_ENTRIES;
            self.forget_older = true;
        }
        let tip = self.parts.journal.tip().watch();
        ctx.add_stream(moves(tip));
        ctx.run_interval(Duration::from_millis(TICK_MS), Self::housekeeping);
        self.pump_soon(ctx);
    }
}

/// The tip's movements as a stream; several at once are one.
fn moves(tip: tokio::sync::watch::Receiver<u64>) -> impl futures_util::Stream<Item = Moved> {
    futures_util::stream::unfold(tip, |mut tip| async move {
        tip.changed().await.ok()?;
        Some((Moved, tip))
    })
}

struct Moved;

impl<F: Fs, S: Store, N: SnapshotStore> StreamHandler<Moved> for StockActor<F, S, N> {
    fn handle(&mut self, _: Moved, ctx: &mut Context<Self>) {
        self.pump_soon(ctx);
    }
    fn finished(&mut self, ctx: &mut Context<Self>) {
        self.stop(ctx, End::Done);
    }
}

impl<F: Fs, S: Store, N: SnapshotStore> Handler<Pump> for StockActor<F, S, N> {
    type Result = ();
    fn handle(&mut self, _: Pump, ctx: &mut Context<Self>) {
        self.pumping = false;
        match self.pump() {
            Ok(more) => {
                self.commit(ctx, false);
                if more {
                    self.pump_soon(ctx);
                }
            }
            // Reading it again would find the same damage.
            Err(error @ ReadError::Damaged { .. }) => {
                self.stop(ctx, End::Hopeless(error.to_string()));
            }
            Err(error) => self.stop(ctx, End::Failed(error.to_string())),
        }
    }
}
