//! Stock actors: each owns a shard's states, folds its entries in journal order and has their effects committed.
//!
//! [`Shard`] is the pure part, [`start`] how it begins, the actor the loop, [`committer`] the way into the store, [`Board`]
//! what the rest of the hub sees. A stock actor and its committer live and die together under one guardian: a new life begins
//! from the store's position, so nothing in memory has to be trusted after a failure.
//!
//! An entry that crashes the fold twice is poison: the third life appends `Quarantined` for it and passes it over, and so does
//! every replay.

mod actor;
mod board;
pub mod committer;
mod shard;
pub mod start;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use actix::prelude::*;
use fold::{Body, Principal, wire};
use tokio::sync::oneshot;

pub use actor::SNAPSHOT_ENTRIES;
pub use board::{Board, NOTICES_MAX, ShardStats, TagEvents};
pub use shard::{BATCH_ROWS_MAX, Shard};

use crate::{
    guardian::{End, Policy, Status, guard},
    journal::Journal,
    ports::{fs::Fs, rng::Rng},
    snapshot::SnapshotStore,
    store::Store,
};
use actor::{Folding, Parts, StockActor};

/// Lines in one `Restated` entry.
pub const RESTATED_LINES_MAX: usize = 1_000;
/// Crashes at one entry after which it is passed over.
const POISON_CRASHES: u32 = 2;

/// What a shard's guardian needs.
pub struct Links<F: Fs, S, N> {
    /// The journal.
    pub journal: Journal<F>,
    /// Where effects are committed.
    pub store: Arc<S>,
    /// Where snapshots are kept.
    pub snapshots: Arc<N>,
    /// What the shard tells.
    pub board: Arc<Board>,
    /// For jitter.
    pub rng: Arc<dyn Rng>,
}

/// Runs a shard on the current arbiter under a guardian.
pub fn run<F: Fs, S: Store, N: SnapshotStore>(
    id: u16,
    links: Links<F, S, N>,
    policy: Policy,
) -> Arc<Status> {
    let links = Arc::new(links);
    let folding: Folding = Arc::new(AtomicU64::new(0));
    let crashes: Arc<Mutex<BTreeMap<u64, u32>>> = Arc::default();
    let rng = Arc::clone(&links.rng);
    guard(&format!("shard-{id}"), policy, rng, move |status| {
        let (links, folding, crashes) =
            (Arc::clone(&links), Arc::clone(&folding), Arc::clone(&crashes));
        async move {
            if let Err(why) = quarantine_poison(id, &links, &folding, &crashes).await {
                return End::Failed(why);
            }
            live(id, &links, status, folding).await
        }
    })
}

async fn live<F: Fs, S: Store, N: SnapshotStore>(
    id: u16,
    links: &Links<F, S, N>,
    status: Arc<Status>,
    folding: Folding,
) -> End {
    let board = &links.board;
    board.stats.refolded.store(0, Relaxed);
    let begun = start::begin(id, &links.journal, &*links.store, &*links.snapshots, board, |_| {
        status.beat()
    })
    .await;
    let begun = match begun {
        Ok(begun) => begun,
        Err(error) if error.is_hopeless() => return End::Hopeless(error.to_string()),
        Err(error) => return End::Failed(error.to_string()),
    };
    let kept = links.snapshots.list(id).unwrap_or_default();
    if kept.len() >= crate::snapshot::KEPT {
        board.stats.snapshot_older.store(kept[0].offset, Relaxed);
    }
    tracing::info!(
        shard = id,
        snapshot = begun.snapshot,
        position = begun.position.offset,
        term = begun.position.term,
        refolded = board.stats.refolded.load(Relaxed),
        "shard is ours"
    );
    let restated = !begun.lacking.is_empty();
    for (facility, lines) in begun.lacking {
        tracing::error!(%facility, lines = lines.len(), "records were lost to salvage; their committed effects are restated");
        for lines in lines.chunks(RESTATED_LINES_MAX) {
            let body = Body::Restated { lines: lines.to_vec() };
            let (kind, payload) = wire::encode(&facility, &Principal::Hub, &body);
            if let Err(error) = links.journal.append_wait(id, kind, payload).await {
                return End::Failed(error.to_string());
            }
        }
    }
    let (tell, told) = oneshot::channel();
    let parts = Parts {
        id,
        journal: links.journal.clone(),
        store: Arc::clone(&links.store),
        snapshots: Arc::clone(&links.snapshots),
        board: Arc::clone(board),
        rng: Arc::clone(&links.rng),
        status,
        folding,
        shard: begun.shard,
        position: begun.position,
        snapshot: begun.snapshot,
        restated,
    };
    // Not `start()`: that would spawn the actor on its own, where a panic in a handler vanishes. Here it unwinds through this
    // future into the guardian.
    let context = Context::new();
    context.into_future(StockActor::new(parts, tell)).await;
    told.await.unwrap_or_else(|_| End::Failed("the stock actor stopped without a word".into()))
}

/// If the last life died while folding, remembers at which entry; the second time it is quarantined.
async fn quarantine_poison<F: Fs, S, N>(
    id: u16,
    links: &Links<F, S, N>,
    folding: &Folding,
    crashes: &Mutex<BTreeMap<u64, u32>>,
) -> Result<(), String> {
    let offset = folding.swap(0, Relaxed);
    if offset == 0 {
        return Ok(());
    }
    let times = {
        let mut crashes = crashes.lock().unwrap_or_else(PoisonError::into_inner);
        let times = crashes.entry(offset).or_insert(0);
        *times += 1;
        *times
    };
    if times < POISON_CRASHES {
        return Ok(());
    }
    let record = links.journal.record_at(offset).map_err(|e| e.to_string())?;
    let facility = record
        .as_ref()
        .and_then(|r| wire::facility_of(r.kind, &r.payload))
        .and_then(|text| device_profiles::FacilityId::parse(text).ok())
        .unwrap_or_else(start::unknown_facility);
    let reason = format!("the fold crashed {times} times at this entry");
    tracing::error!(shard = id, offset, "poison entry is quarantined");
    links.board.stats.poisoned.fetch_add(1, Relaxed);
    let (kind, payload) =
        wire::encode(&facility, &Principal::Hub, &Body::Quarantined { offset, reason });
    links.journal.append_wait(id, kind, payload).await.map_err(|e| e.to_string())?;
    Ok(())
}
