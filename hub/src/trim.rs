//! The trimmer: keeps the journal within its horizon, and never removes what somebody still needs.
//!
//! The journal may go up to the least of: the horizon (days, bytes), the older snapshot of every shard, and every cursor.
//! Before a segment goes, the frames in it that movements rest on are copied to PostgreSQL, so every number still explains
//! itself. A movement still to come may rest on old frames too: a cell that was silent for weeks names the last frame of the
//! plateau it leaves. Such frames were held by the fold at the older snapshot already, because nothing behind it goes; so
//! that snapshot says which.

use actors::{
    journal::{Journal, SEGMENT_BYTES},
    ports::fs::{Fs, RealFs},
    snapshot::{SnapshotFiles, SnapshotId, SnapshotStore},
    stock::Board,
};
use fold::State;
use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    config,
    store::{PgStore, evidence::EvidenceRow, fault::Fault},
};

/// Frames copied at once.
const EVIDENCE_ROWS_MAX: usize = 2_000;
const DAY_US: i64 = 86_400_000_000;

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    /// PostgreSQL.
    #[error(transparent)]
    Store(#[from] Fault),
    /// The journal's files.
    #[error("the journal cannot be trimmed: {0}")]
    Io(#[from] std::io::Error),
    /// A record that is evidence cannot be read.
    #[error(transparent)]
    Journal(#[from] actors::journal::ReadError),
    /// The older snapshot of a shard cannot be read, so what it holds is not known.
    #[error("shard {shard}: {why}; nothing is trimmed before the next snapshot")]
    Snapshot {
        /// Shard.
        shard: u16,
        /// What is wrong.
        why: String,
    },
}

/// The offset before which the horizon lets segments go.
fn horizon(journal: &Journal<RealFs>, limits: &config::Journal) -> Result<u64, TrimError> {
    let segments = journal.segments();
    let bytes_max = if limits.keep_bytes_max > 0 {
        limits.keep_bytes_max
    } else {
        journal.fs().disk_bytes()? / 5
    };
    let keep = usize::try_from(bytes_max / SEGMENT_BYTES).unwrap_or(usize::MAX).max(2);
    let by_bytes = segments.len().saturating_sub(keep);
    let oldest_us = journal.now_us() - i64::from(limits.keep_days) * DAY_US;
    let mut by_age = 0;
    for (i, number) in segments.iter().enumerate().skip(1) {
        // A segment is older than its successor's first record.
        let first = (number << SEGMENT_BYTES.trailing_zeros())
            + actors::journal::format::HEADER_BYTES as u64;
        match journal.record_at(first)? {
            Some(record) if record.at_us < oldest_us => by_age = i,
            Some(_) | None => break,
        }
    }
    let gone = by_bytes.max(by_age);
    Ok(segments.get(gone).map_or(0, |number| number << SEGMENT_BYTES.trailing_zeros()))
}

/// One round; returns how many segments went. `series` is the cursor of the series store in use: others hold nothing.
pub async fn round(
    store: &PgStore,
    journal: &Journal<RealFs>,
    snapshots: &SnapshotFiles,
    boards: &[Arc<Board>],
    limits: &config::Journal,
    series: &str,
) -> Result<usize, TrimError> {
    let mut before = horizon(journal, limits)?;
    for board in boards {
        before = before.min(board.stats.snapshot_older.load(Relaxed));
    }
    before = before.min(store.journal_cursor(series, journal.epoch()).await?);
    if before <= journal.first() {
        return Ok(0);
    }
    // Whole segments only.
    let before = before & !(SEGMENT_BYTES - 1);
    for (shard, board) in (0u16..).zip(boards) {
        copy_evidence(store, journal, shard, before).await?;
        let offset = board.stats.snapshot_older.load(Relaxed);
        let id = SnapshotId { epoch: journal.epoch(), shard, offset };
        let files = snapshots.clone();
        let held = tokio::task::spawn_blocking(move || held(&files, id))
            .await
            .unwrap_or_else(|panic| Err(panic.to_string()))
            .map_err(|why| TrimError::Snapshot { shard, why })?;
        let first = journal.first();
        let wanted: Vec<u64> = held.into_iter().filter(|o| (first..before).contains(o)).collect();
        for piece in wanted.chunks(EVIDENCE_ROWS_MAX) {
            copy(store, journal, shard, piece).await?;
        }
    }
    let gone = journal.trim(before)?;
    if gone > 0 {
        tracing::info!(segments = gone, first = journal.first(), "journal trimmed");
    }
    Ok(gone)
}

async fn copy_evidence(
    store: &PgStore,
    journal: &Journal<RealFs>,
    shard: u16,
    before: u64,
) -> Result<(), TrimError> {
    let epoch = journal.epoch();
    let mut from = journal.first();
    loop {
        let wanted =
            store.evidence_wanted(shard, epoch, from, before, EVIDENCE_ROWS_MAX as i64).await?;
        let Some(last) = wanted.last() else { return Ok(()) };
        from = last + 1;
        copy(store, journal, shard, &wanted).await?;
    }
}

/// Offsets a snapshot's states may still name, in order, each once.
fn held(files: &SnapshotFiles, id: SnapshotId) -> Result<Vec<u64>, String> {
    let mut held = Vec::new();
    for slices in files.load(id).map_err(|e| e.to_string())? {
        held.extend(State::restore(&slices).map_err(|e| e.to_string())?.evidence());
    }
    held.sort_unstable();
    held.dedup();
    Ok(held)
}

async fn copy(
    store: &PgStore,
    journal: &Journal<RealFs>,
    shard: u16,
    offsets: &[u64],
) -> Result<(), TrimError> {
    let mut rows = Vec::with_capacity(offsets.len());
    for offset in offsets {
        if let Some(record) = journal.record_at(*offset)? {
            rows.push(EvidenceRow {
                offset: *offset,
                received_at_us: record.at_us,
                kind: record.kind,
                payload: record.payload.to_vec(),
            });
        }
    }
    store.keep_evidence(shard, journal.epoch(), &rows).await?;
    Ok(())
}
