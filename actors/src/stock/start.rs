//! How a shard begins: own it in the store, restore the newest usable snapshot, re-fold up to what is committed.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use device_profiles::{FacilityId, Sku, SlotId, Units};
use fold::{Body, HubTime, Position, wire};

use super::{Board, Shard};
use crate::{
    journal::{Journal, ReadError, Record},
    ports::fs::Fs,
    snapshot::SnapshotStore,
    store::{ShardPosition, Store, StoreError},
};

/// Why a shard cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store is away; try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database knows more than the journal.
    #[error(
        "the database has committed shard {shard} up to {epoch}-{shard}-{committed}, but this journal ends at {ours_epoch}-{shard}-{end}. \
         They do not belong together: restore the journal that belongs to this database, or use another data directory"
    )]
    Ahead {
        /// Shard.
        shard: u16,
        /// Epoch of the database.
        epoch: u32,
        /// Offset of the database.
        committed: u64,
        /// Epoch of the journal.
        ours_epoch: u32,
        /// Newest record of the journal.
        end: u64,
    },
    /// The journal's beginning was trimmed and no snapshot bridges the gap.
    #[error(
        "shard {shard} cannot be rebuilt: the database stands at offset {committed}, the journal begins at {first}, and no snapshot \
         lies between them. Restore a newer database backup, or the journal from before"
    )]
    NoBridge {
        /// Shard.
        shard: u16,
        /// Offset of the database.
        committed: u64,
        /// First offset kept in the journal.
        first: u64,
    },
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
}

impl StartError {
    /// Another try would fail the same way.
    pub fn is_hopeless(&self) -> bool {
        matches!(
            self,
            Self::Ahead { .. }
                | Self::NoBridge { .. }
                | Self::Journal(ReadError::Damaged { .. } | ReadError::Trimmed { .. })
        )
    }
}

/// What re-folded states lack of what is committed: by facility, the lines and by how many units.
pub type Lacking = Vec<(FacilityId, Vec<(SlotId, Sku, Units)>)>;

/// A shard at the store's position.
pub struct Begun {
    /// Its states.
    pub shard: Shard,
    /// Where the store stands, and under which term it is ours.
    pub position: ShardPosition,
    /// Offset of the snapshot it came from; 0 = from the beginning.
    pub snapshot: u64,
    /// What the states lack of what is committed, because salvage gave up records on the way.
    pub lacking: Lacking,
}

/// The facility of entries that name none readable.
pub fn unknown_facility() -> FacilityId {
    // The alphabet of ids is fixed, so this parses; any id would do.
    FacilityId::parse("unknown").unwrap_or_else(|_| unreachable!("a constant id parses"))
}

/// Begins a shard. `follow` is called now and then with the offset reached.
pub async fn begin<F: Fs, S: Store, N: SnapshotStore>(
    id: u16,
    journal: &Journal<F>,
    store: &S,
    snapshots: &N,
    board: &Arc<Board>,
    mut follow: impl FnMut(u64),
) -> Result<Begun, StartError> {
    let end = journal.tip().end();
    let found = store.position(id).await?;
    if let Some(p) = found
        && p.offset > 0
        && (p.epoch != journal.epoch() || p.offset >= end)
    {
        return Err(StartError::Ahead {
            shard: id,
            epoch: p.epoch,
            committed: p.offset,
            ours_epoch: journal.epoch(),
            end,
        });
    }
    let position = store.own(id, journal.epoch()).await?;
    let (mut shard, snapshot) = restore(id, journal, snapshots, position.offset)?;
    let mut reader = journal.reader(shard.folded());
    skip_poison(id, journal, &mut shard)?;
    let mut records = Vec::new();
    while shard.folded() < position.offset && reader.read(&mut records)? {
        for record in records.drain(..).filter(|r| r.shard == id && r.offset <= position.offset) {
            shard.fold(&record, false);
            board.stats.refolded.fetch_add(1, Relaxed);
        }
        follow(shard.folded());
        tokio::task::yield_now().await;
        if reader.position() > position.offset {
            break;
        }
    }
    shard.pass(position.offset);
    board.stats.folded.store(shard.folded(), Relaxed);
    board.begin(position.offset);
    let lacking = if reader.passed_gap() {
        let waiting = restated(id, journal, position.offset)?;
        lacking(id, &shard, store, &waiting).await?
    } else {
        Vec::new()
    };
    Ok(Begun { shard, position, snapshot, lacking })
}

/// What restatements say that wait in the journal beyond what is committed: an earlier life wrote them and died.
fn restated<F: Fs>(
    id: u16,
    journal: &Journal<F>,
    after: u64,
) -> Result<BTreeMap<(FacilityId, SlotId, Sku), Units>, ReadError> {
    let mut found = BTreeMap::new();
    let mut reader = journal.reader(after);
    let mut records = Vec::new();
    while reader.read(&mut records)? {
        for record in records.drain(..).filter(|r| r.shard == id && r.kind == wire::KIND_OTHER) {
            let at = HubTime(record.at_us);
            let unknown = unknown_facility();
            let entry =
                wire::decode(Position::default(), at, record.kind, &record.payload, &unknown);
            if let Body::Restated { lines } = entry.body {
                for (slot, sku, delta) in lines {
                    let sum: &mut Units =
                        found.entry((entry.facility.clone(), slot, sku)).or_default();
                    *sum = sum.saturating_add(delta);
                }
            }
        }
    }
    Ok(found)
}

/// Differences between the committed levels and the re-folded ones, by facility.
async fn lacking<S: Store>(
    id: u16,
    shard: &Shard,
    store: &S,
    waiting: &BTreeMap<(FacilityId, SlotId, Sku), Units>,
) -> Result<Lacking, StartError> {
    let mut found = Lacking::new();
    for (facility, committed) in store.levels(id).await? {
        let folded = shard
            .state(facility.as_str())
            .and_then(|state| state.level(committed.slot.as_str(), &committed.sku))
            .map_or(Units::ZERO, |level| level.quantity);
        let key = (facility.clone(), committed.slot.clone(), committed.sku.clone());
        let said = waiting.get(&key).copied().unwrap_or(Units::ZERO);
        let delta = committed.quantity.saturating_sub(folded).saturating_sub(said);
        if delta == Units::ZERO {
            continue;
        }
        let line = (committed.slot, committed.sku, delta);
        match found.last_mut() {
            Some((same, lines)) if *same == facility => lines.push(line),
            Some(_) | None => found.push((facility, vec![line])),
        }
    }
    Ok(found)
}

/// The newest snapshot at or before `committed` that can be read, else the beginning of the journal.
pub fn restore<F: Fs, N: SnapshotStore>(
    id: u16,
    journal: &Journal<F>,
    snapshots: &N,
    committed: u64,
) -> Result<(Shard, u64), StartError> {
    let list = snapshots.list(id).unwrap_or_default();
    for snapshot in
        list.iter().rev().filter(|s| s.epoch == journal.epoch() && s.offset <= committed)
    {
        let loaded = snapshots.load(*snapshot).map_err(|e| e.to_string()).and_then(|facilities| {
            Shard::restore(id, journal.epoch(), unknown_facility(), snapshot.offset, &facilities)
                .map_err(|e| e.to_string())
        });
        match loaded {
            Ok(shard) => return Ok((shard, snapshot.offset)),
            Err(error) => {
                tracing::warn!(
                    shard = id,
                    offset = snapshot.offset,
                    error,
                    "snapshot not usable; trying an older one"
                );
            }
        }
    }
    let first = journal.first();
    if first > crate::journal::SEGMENT_BYTES - 1 {
        return Err(StartError::NoBridge { shard: id, committed, first });
    }
    Ok((Shard::new(id, journal.epoch(), unknown_facility()), 0))
}

/// Finds the entries that are to be passed over: those that a later `Quarantined` names.
pub fn skip_poison<F: Fs>(
    id: u16,
    journal: &Journal<F>,
    shard: &mut Shard,
) -> Result<(), ReadError> {
    let mut reader = journal.reader(shard.folded());
    let mut records = Vec::new();
    while reader.read(&mut records)? {
        let named = records
            .drain(..)
            .filter(|r| r.shard == id && r.kind == wire::KIND_OTHER)
            .filter_map(|r| match entry_body(&r) {
                Body::Quarantined { offset, .. } => Some(offset),
                Body::Frame(_)
                | Body::Tick
                | Body::Profile(_)
                | Body::Master(_)
                | Body::Command(_)
                | Body::FoldUpgraded { .. }
                | Body::Restated { .. }
                | Body::Unreadable { .. } => None,
            });
        let named: Vec<u64> = named.collect();
        shard.skip(named);
    }
    Ok(())
}

fn entry_body(record: &Record) -> Body {
    let at = HubTime(record.at_us);
    wire::decode(Position::default(), at, record.kind, &record.payload, &unknown_facility()).body
}
