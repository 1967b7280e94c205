//! What every store must do, as one test that runs against any of them.

use device_profiles::{FacilityId, Sku, SlotId, Units};
use fold::{Cause, Confidence, HubTime, Level, Movement, Principal, Source, Why};

use super::{Batch, OutboxMovement, Store, StoreError};

/// A broken promise.
#[derive(Debug, thiserror::Error)]
#[error("the store breaks its contract: {0}")]
pub struct Broken(String);

fn must(good: bool, promise: &str) -> Result<(), Broken> {
    if good { Ok(()) } else { Err(Broken(promise.to_owned())) }
}

fn unwrap<T>(result: Result<T, StoreError>, promise: &str) -> Result<T, Broken> {
    result.map_err(|error| Broken(format!("{promise}: {error}")))
}

/// Runs the contract on shards `first` and `first + 1`, which must be new.
pub async fn check<S: Store>(store: &S, facility: &FacilityId, first: u16) -> Result<(), Broken> {
    must(
        unwrap(store.position(first).await, "position of a new shard")?.is_none(),
        "a shard that nobody owned has no position",
    )?;
    let mine = unwrap(store.own(first, 7).await, "own a new shard")?;
    must((mine.epoch, mine.offset) == (7, 0), "a new shard stands at 0 of its epoch")?;
    let other = unwrap(store.own(first + 1, 7).await, "own another shard")?;

    let batch = sample(facility, first, 7, mine.term, 0, 100, 3);
    unwrap(store.commit(&batch).await, "a first batch")?;
    let position = unwrap(store.position(first).await, "position")?;
    must(position.is_some_and(|p| p.offset == 100), "the position moved with the batch")?;

    must(
        matches!(store.commit(&batch).await, Err(StoreError::Fenced { .. })),
        "the same batch again is fenced, not applied",
    )?;
    let expected: Vec<OutboxMovement> = batch
        .movements
        .iter()
        .map(|(f, offset, m)| OutboxMovement::of(f, *offset, batch.fold_version, m))
        .collect();
    let rows = unwrap(store.movements_after(first, 0, 100).await, "read the outbox")?;
    must(rows == expected, "the outbox tells every movement once, in order, as it was")?;
    let later = unwrap(store.movements_after(first, expected[0].offset, 100).await, "resume")?;
    must(later == expected[1..], "the outbox resumes after an offset")?;
    let few = unwrap(store.movements_after(first, 0, 2).await, "limit")?;
    must(few == expected[..2], "the outbox keeps its limit")?;

    let next = sample(facility, first, 7, mine.term, 100, 200, 5);
    unwrap(store.commit(&next).await, "a second batch")?;
    let levels = unwrap(store.levels(first).await, "levels")?;
    must(levels == next.levels, "levels are those of the newest batch")?;

    let gone = Batch {
        gone: next.levels.iter().map(|(f, l)| (f.clone(), l.slot.clone(), l.sku.clone())).collect(),
        from: 200,
        to: 210,
        movements: Vec::new(),
        levels: Vec::new(),
        ..next.clone()
    };
    unwrap(store.commit(&gone).await, "a batch in which a line goes")?;
    must(unwrap(store.levels(first).await, "levels")?.is_empty(), "a line that is gone is gone")?;
    unwrap(store.save_cursor("a", first, 7, 100).await, "save a cursor")?;
    unwrap(store.save_cursor("a", first, 7, 150).await, "move a cursor")?;
    unwrap(store.save_cursor("b", first, 7, 90).await, "save another")?;
    let mut cursors = unwrap(store.cursors(first, 7).await, "read cursors")?;
    cursors.sort();
    must(cursors == [("a".to_owned(), 150), ("b".to_owned(), 90)], "cursors are kept by name")?;

    let heir = unwrap(store.own(first, 7).await, "take over")?;
    must(
        heir.term > mine.term && heir.offset == 210,
        "a new owner has a higher term, same offset",
    )?;
    let zombie = sample(facility, first, 7, mine.term, 210, 300, 1);
    must(
        matches!(store.commit(&zombie).await, Err(StoreError::Fenced { .. })),
        "the old owner is fenced",
    )?;
    let rows = unwrap(store.movements_after(first, 200, 100).await, "read the outbox")?;
    must(rows.is_empty(), "a fenced batch leaves nothing behind")?;

    let wrong_epoch = sample(facility, first, 8, heir.term, 210, 300, 1);
    must(
        matches!(store.commit(&wrong_epoch).await, Err(StoreError::Fenced { .. })),
        "another journal's batch is fenced",
    )?;
    let empty = Batch {
        shard: first + 1,
        epoch: 7,
        term: other.term,
        from: 0,
        to: 50,
        fold_version: 1,
        ..Batch::default()
    };
    unwrap(store.commit(&empty).await, "a batch without rows moves the position")?;
    let position = unwrap(store.position(first + 1).await, "position")?;
    must(position.is_some_and(|p| p.offset == 50), "shards stand apart")
}

/// A batch of `count` movements in one line.
fn sample(
    facility: &FacilityId,
    shard: u16,
    epoch: u32,
    term: u64,
    from: u64,
    to: u64,
    count: u16,
) -> Batch {
    let (Ok(slot), Ok(sku)) = (SlotId::parse("contract-slot"), Sku::parse("contract-sku")) else {
        return Batch::default();
    };
    let at = HubTime(1_795_000_000_123_456);
    let movement = |i: u16| Movement {
        ordinal: i % 2,
        slot: slot.clone(),
        sku: sku.clone(),
        delta: Units(i64::from(i) - 7),
        level_after: Units(i64::from(i)),
        cause: Cause::Reading,
        confidence: Confidence(9_876),
        at,
        device: None,
        boot: Some("b'\"\\ö".into()),
        seq: Some(u64::from(i)),
        principal: Principal::Device,
        evidence: if i == 0 { vec![1, 2] } else { Vec::new() },
        why: Why::Declared,
    };
    Batch {
        shard,
        epoch,
        term,
        from,
        to,
        fold_version: 1,
        movements: (0..count)
            .map(|i| (facility.clone(), from + 1 + u64::from(i), movement(i)))
            .collect(),
        levels: vec![(
            facility.clone(),
            Level {
                slot: slot.clone(),
                sku: sku.clone(),
                quantity: Units(i64::from(count)),
                confidence: Confidence(9_000),
                source: Source::Scan,
                planned: true,
                fresh_at: at,
                changed_at: at,
            },
        )],
        totals: vec![(facility.clone(), sku, Units(i64::from(count)))],
        ..Batch::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ModelStore;

    #[tokio::test]
    async fn the_model_keeps_the_contract() {
        let facility = FacilityId::parse("f1").unwrap();
        check(&ModelStore::default(), &facility, 0).await.unwrap();
    }
}
