//! The model store: maps in memory, and on demand the faults a real database has.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use device_profiles::FacilityId;
use fold::Level;

use super::{Batch, OutboxMovement, ShardPosition, Store, StoreError};

/// A store in memory.
#[derive(Debug, Default)]
pub struct ModelStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    now: Tables,
    /// States before each commit, newest last, so that commits can be lost.
    history: Vec<Tables>,
    /// Commits to fail as if the database were away.
    away: u32,
    /// Commits to carry out whose reply is lost.
    unknown: u32,
}

#[derive(Debug, Clone, Default)]
struct Tables {
    shards: BTreeMap<u16, ShardPosition>,
    movements: BTreeMap<(u16, u64, u16), OutboxMovement>,
    levels: BTreeMap<(u16, String, String, String), (FacilityId, Level)>,
    cursors: BTreeMap<(u16, u32, String), u64>,
}

/// Commits that can be lost at once.
const HISTORY_COMMITS_MAX: usize = 1_024;

impl ModelStore {
    /// The next `commits` fail and change nothing.
    pub fn go_away(&self, commits: u32) {
        self.lock().away = commits;
    }
    /// The next `commits` take effect, but their reply is lost.
    pub fn lose_replies(&self, commits: u32) {
        self.lock().unknown = commits;
    }
    /// Forgets the newest commits, as a database does that failed over to a standby which lagged.
    pub fn rewind(&self, commits: usize) {
        let mut inner = self.lock();
        for _ in 0..commits {
            if let Some(before) = inner.history.pop() {
                inner.now = before;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panicking test thread must not hide the store from the checks that follow.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for ModelStore {
    async fn own(&self, shard: u16, epoch: u32) -> Result<ShardPosition, StoreError> {
        let mut inner = self.lock();
        let new = ShardPosition { epoch, offset: 0, term: 0 };
        let position = inner.now.shards.entry(shard).or_insert(new);
        position.term += 1;
        Ok(*position)
    }

    async fn position(&self, shard: u16) -> Result<Option<ShardPosition>, StoreError> {
        Ok(self.lock().now.shards.get(&shard).copied())
    }

    async fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.away > 0 {
            inner.away -= 1;
            return Err(StoreError::Away("the model was told to be away".into()));
        }
        let found = inner.now.shards.get(&batch.shard).copied();
        let wanted = ShardPosition { epoch: batch.epoch, offset: batch.from, term: batch.term };
        if found != Some(wanted) {
            return Err(StoreError::Fenced {
                shard: batch.shard,
                expected: batch.from,
                term: batch.term,
                found,
            });
        }
        let before = inner.now.clone();
        if inner.history.len() >= HISTORY_COMMITS_MAX {
            inner.history.remove(0);
        }
        inner.history.push(before);
        let tables = &mut inner.now;
        tables.shards.insert(batch.shard, ShardPosition { offset: batch.to, ..wanted });
        for (facility, offset, movement) in &batch.movements {
            let row = OutboxMovement::of(facility, *offset, batch.fold_version, movement);
            let key = (batch.shard, *offset, movement.ordinal);
            if tables.movements.insert(key, row).is_some() {
                return Err(StoreError::Refused(format!("movement {key:?} stands twice")));
            }
        }
        for (facility, level) in &batch.levels {
            let key =
                (batch.shard, facility.to_string(), level.slot.to_string(), level.sku.to_string());
            tables.levels.insert(key, (facility.clone(), level.clone()));
        }
        for (facility, slot, sku) in &batch.gone {
            let key = (batch.shard, facility.to_string(), slot.to_string(), sku.to_string());
            tables.levels.remove(&key);
        }
        if inner.unknown > 0 {
            inner.unknown -= 1;
            return Err(StoreError::Away("the reply was lost".into()));
        }
        Ok(())
    }

    async fn movements_after(
        &self,
        shard: u16,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<OutboxMovement>, StoreError> {
        let inner = self.lock();
        let from = (shard, offset.saturating_add(1), 0);
        let rows = inner.now.movements.range(from..).take_while(|((s, _, _), _)| *s == shard);
        Ok(rows.take(limit as usize).map(|(_, row)| row.clone()).collect())
    }

    async fn save_cursor(
        &self,
        name: &str,
        shard: u16,
        epoch: u32,
        offset: u64,
    ) -> Result<(), StoreError> {
        self.lock().now.cursors.insert((shard, epoch, name.to_owned()), offset);
        Ok(())
    }

    async fn cursors(&self, shard: u16, epoch: u32) -> Result<Vec<(String, u64)>, StoreError> {
        let inner = self.lock();
        let all = inner.now.cursors.range((shard, epoch, String::new())..);
        let own = all.take_while(|((s, e, _), _)| (*s, *e) == (shard, epoch));
        Ok(own.map(|((_, _, name), offset)| (name.clone(), *offset)).collect())
    }

    async fn levels(&self, shard: u16) -> Result<Vec<(FacilityId, Level)>, StoreError> {
        let inner = self.lock();
        let own = inner.now.levels.iter().filter(|((s, ..), _)| *s == shard);
        Ok(own.map(|(_, row)| row.clone()).collect())
    }
}
