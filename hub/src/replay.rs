//! Replay: fold the journal again and compare with what is committed, bit for bit.
//!
//! It starts from the oldest snapshot kept, or on demand from the beginning of the journal, in a state of its own, touches
//! nothing, and may run beside a live hub. Movements are compared row by row up to the position that was committed when it began; levels
//! and tags at the end, when nothing moved since.

use std::path::Path;

use actors::{
    journal::Journal,
    ports::{clock::SystemClock, fs::RealFs},
    snapshot::{SnapshotFiles, SnapshotStore},
    stock::{Shard, start},
    store::{OutboxMovement, ShardPosition, Store},
};
use fold::{FOLD_VERSION, Level, State, TagNow};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

use crate::store::{
    PgStore,
    tags::{TagFilter, TagRow},
};

/// Movements compared at once.
const COMPARE_ROWS: u32 = 10_000;
/// Tags compared at once.
const COMPARE_TAGS: i64 = 1_000;
/// Differences told one by one.
pub const DIFFERENCES_MAX: usize = 20;

/// What a replay found in one shard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Shard.
    pub shard: u16,
    /// Offset it began after; 0 = the beginning of the journal.
    pub from: u64,
    /// Offset it went up to.
    pub to: u64,
    /// Entries folded.
    pub entries: u64,
    /// Movements compared.
    pub movements: u64,
    /// Levels compared.
    pub levels: u64,
    /// Tags compared.
    pub tags: u64,
    /// Differences, the first [`DIFFERENCES_MAX`] in words.
    pub differences: Vec<String>,
    /// All differences.
    pub different: u64,
    /// SHA-256 over the states' digests.
    pub digest: String,
}

impl Report {
    fn differ(&mut self, what: impl FnOnce() -> String) {
        self.different += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(what());
        }
    }
}

/// Opens the journal up to what the store has committed, only to read it; a live hub may go on.
pub fn open_for_reading(
    dir: &Path,
    positions: &[ShardPosition],
) -> anyhow::Result<Journal<RealFs>> {
    anyhow::ensure!(dir.is_dir(), "there is no journal in {}", dir.display());
    let last = positions.iter().map(|p| p.offset).max().unwrap_or(0);
    Ok(Journal::open_for_reading(RealFs::new(dir)?, Arc::new(SystemClock::new()), last)?)
}

/// Where the store stands, shard by shard. Asked before the journal is opened: a live hub commits on, and what is committed
/// must lie within the journal as it was when it was opened.
pub async fn positions(store: &PgStore) -> anyhow::Result<Vec<ShardPosition>> {
    let mut found = Vec::new();
    while let Some(position) = store.position(u16::try_from(found.len())?).await? {
        found.push(position);
    }
    Ok(found)
}

/// Checks every shard of a store up to `positions`. `progress` is told (done, of how many) in bytes of journal.
pub async fn check(
    positions: &[ShardPosition],
    journal: &Journal<RealFs>,
    store: &PgStore,
    snapshots: &SnapshotFiles,
    whole: bool,
    mut progress: impl FnMut(u64, u64),
) -> anyhow::Result<Vec<Report>> {
    let mut reports = Vec::new();
    for (id, position) in (0..).zip(positions) {
        same_journal(position, journal)?;
        reports.push(
            check_shard(id, position.offset, journal, store, snapshots, whole, &mut progress)
                .await?,
        );
    }
    Ok(reports)
}

/// What the store has committed must be of this journal.
pub(crate) fn same_journal(
    position: &ShardPosition,
    journal: &Journal<RealFs>,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        position.epoch == journal.epoch() || position.offset == 0,
        "the database belongs to another journal (epoch {}, not {})",
        position.epoch,
        journal.epoch()
    );
    Ok(())
}

/// A shard as its oldest snapshot has it, or with `whole` (and where none is kept) before its first record; and the offset
/// after which it stands.
pub(crate) fn begin(
    id: u16,
    to: u64,
    journal: &Journal<RealFs>,
    snapshots: &SnapshotFiles,
    whole: bool,
) -> anyhow::Result<(Shard, u64)> {
    let kept = snapshots.list(id)?;
    let oldest = kept.iter().find(|s| s.epoch == journal.epoch() && s.offset <= to);
    let (mut shard, from) = match oldest {
        Some(snapshot) if !whole => start::restore(id, journal, snapshots, snapshot.offset)?,
        Some(_) | None => {
            anyhow::ensure!(
                journal.first() < actors::journal::SEGMENT_BYTES,
                "the journal was trimmed, so it cannot be replayed from its beginning"
            );
            (Shard::new(id, journal.epoch(), start::unknown_facility()), 0)
        }
    };
    start::skip_poison(id, journal, &mut shard)?;
    Ok((shard, from))
}

async fn check_shard(
    id: u16,
    to: u64,
    journal: &Journal<RealFs>,
    store: &PgStore,
    snapshots: &SnapshotFiles,
    whole: bool,
    progress: &mut impl FnMut(u64, u64),
) -> anyhow::Result<Report> {
    let (mut shard, from) = begin(id, to, journal, snapshots, whole)?;
    let mut report = Report {
        shard: id,
        from,
        to,
        entries: 0,
        movements: 0,
        levels: 0,
        tags: 0,
        differences: Vec::new(),
        different: 0,
        digest: String::new(),
    };
    let mut reader = journal.reader(from);
    let mut records = Vec::new();
    let mut compared = from;
    let mut mine: Vec<OutboxMovement> = Vec::new();
    while shard.folded() < to && reader.read(&mut records)? {
        for record in records.drain(..).filter(|r| r.shard == id && r.offset <= to) {
            shard.fold(&record, true);
            report.entries += 1;
        }
        let batch = shard.seal(0, 0, true);
        mine.extend(
            batch
                .movements
                .iter()
                .map(|(f, offset, m)| OutboxMovement::of(f, *offset, FOLD_VERSION, m)),
        );
        if mine.len() >= COMPARE_ROWS as usize {
            compare(id, &mut mine, compared, shard.folded(), store, &mut report).await?;
            compared = shard.folded();
        }
        progress(reader.position().min(to).saturating_sub(from), to.saturating_sub(from));
        tokio::task::yield_now().await;
    }
    compare(id, &mut mine, compared, to, store, &mut report).await?;
    let levels = store.levels(id).await?;
    // A live hub moves on: only what still stands where we stopped can be compared.
    if store.position(id).await?.is_some_and(|p| p.offset == to) {
        for (facility, level) in &levels {
            report.levels += 1;
            let ours = shard
                .state(facility.as_str())
                .and_then(|s| s.level(level.slot.as_str(), &level.sku));
            if !ours.as_ref().is_some_and(|ours| same(level, ours)) {
                report.differ(|| {
                    format!(
                        "level of {} in {facility}/{}: committed {level:?}, replay {ours:?}",
                        level.sku, level.slot
                    )
                });
            }
        }
        let ours: u64 = shard.states().map(|s| s.levels().count() as u64).sum();
        if ours != levels.len() as u64 {
            report.differ(|| format!("{} levels are committed, replay has {ours}", levels.len()));
        }
        let different = report.different;
        for state in shard.states() {
            compare_tags(state, store, &mut report).await?;
        }
        // It may have moved on while they were read.
        if store.position(id).await?.is_none_or(|p| p.offset != to) {
            (report.tags, report.different) = (0, different);
            report.differences.truncate(usize::try_from(different).unwrap_or(usize::MAX));
        }
    }
    let mut digest = sha2::Sha256::default();
    for state in shard.states() {
        sha2::Digest::update(&mut digest, state.digest());
    }
    report.digest = sha2::Digest::finalize(digest).iter().map(|b| format!("{b:02x}")).collect();
    Ok(report)
}

/// Freshness is told only now and then, so the committed one may lie behind; everything else is equal.
fn same(committed: &Level, ours: &Level) -> bool {
    let fresh_at = committed.fresh_at;
    fresh_at <= ours.fresh_at && *committed == Level { fresh_at, ..ours.clone() }
}

/// Whether a committed tag is where replay has it. When it was read last is written with its changes only.
fn stands(committed: &TagRow, ours: &TagNow) -> bool {
    let at = ours.at.as_ref();
    let text = |name: Option<&str>, own: &Option<String>| name == own.as_deref();
    committed.present == ours.present
        && committed.since.0 == ours.since.0
        && text(at.map(|at| at.zone.as_str()), &committed.zone)
        && text(at.map(|at| at.device.as_str()), &committed.device)
        && text(at.and_then(|at| at.slot.as_ref()).map(|slot| slot.as_str()), &committed.slot)
        && at.map(|at| i32::from(at.antenna)) == committed.antenna.map(i32::from)
        && text(ours.sku.as_ref().map(|sku| sku.as_str()), &committed.sku)
}

/// Compares the tags of a facility with the committed ones.
async fn compare_tags(state: &State, store: &PgStore, report: &mut Report) -> anyhow::Result<()> {
    let facility = state.facility();
    let mut ours: BTreeMap<String, TagNow> =
        state.tags().map(|now| (now.tag.to_string(), now)).collect();
    let mut after: Option<String> = None;
    loop {
        let filter = TagFilter { after: after.as_deref(), ..TagFilter::default() };
        let page = store.tags(facility.as_str(), filter, COMPARE_TAGS).await?;
        let Some(last) = page.last().map(|row| row.tag.clone()) else { break };
        for row in page {
            report.tags += 1;
            let own = ours.remove(&row.tag);
            if !own.as_ref().is_some_and(|own| stands(&row, own)) {
                report.differ(|| format!("tag in {facility}: committed {row:?}, replay {own:?}"));
            }
        }
        after = Some(last);
    }
    for (tag, own) in ours {
        report.differ(|| format!("tag {tag} in {facility} is not committed: {own:?}"));
    }
    Ok(())
}

/// Compares the movements of `after..=to` with the committed ones.
async fn compare(
    shard: u16,
    mine: &mut Vec<OutboxMovement>,
    after: u64,
    to: u64,
    store: &PgStore,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let mut cursor = after;
    loop {
        let page = store.movements_after(shard, cursor, COMPARE_ROWS).await?;
        // A page may end within an entry's movements; reading on from the entry before it keeps them together.
        let full = page.len() == COMPARE_ROWS as usize;
        let last = page.last().map_or(to, |row| row.offset);
        let keep = page.into_iter().filter(|row| row.offset <= to && (!full || row.offset < last));
        rows.extend(keep);
        if !full || last > to {
            break;
        }
        cursor = last - 1;
    }
    let (mut a, mut b) = (mine.drain(..).peekable(), rows.into_iter().peekable());
    loop {
        let key = |row: &OutboxMovement| (row.offset, row.ordinal);
        match (a.peek().map(key), b.peek().map(key)) {
            (None, None) => return Ok(()),
            (Some(x), Some(y)) if x == y => {
                report.movements += 1;
                if let (Some(ours), Some(theirs)) = (a.next(), b.next())
                    && ours != theirs
                {
                    report.differ(|| {
                        format!("movement {}-{}: committed {theirs:?}, replay {ours:?}", x.0, x.1)
                    });
                }
            }
            (Some(x), y) if y.is_none_or(|y| x < y) => {
                let ours = a.next();
                report.differ(|| format!("movement {}-{} is not committed: {ours:?}", x.0, x.1));
            }
            (_, _) => {
                let theirs = b.next();
                report.differ(|| format!("a committed movement is not replayed: {theirs:?}"));
            }
        }
    }
}
