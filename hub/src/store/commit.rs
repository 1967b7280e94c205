//! The commit of a batch: one statement for what every batch has, a transaction around it when there is more.
//!
//! The fence comes first: `UPDATE shard … WHERE offset = old AND term = mine`. Every insert joins its result, so a fenced
//! batch writes nothing at all. Arrays are bound whole and unnested: one round trip for any number of rows. Levels and totals
//! come sorted and each key once, so two commits cannot deadlock and `ON CONFLICT` never meets a row twice.

use actors::store::{Batch, OutboxMovement, ShardPosition, Store, StoreError};
use device_profiles::{FacilityId, Sku, SlotId, Units};
use fold::{Confidence, EventKind, HubTime, LedgerHour, Level, Principal, Source, TagNow, Why};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{PgStore, fault::Fault, micros::Micros};

const COMMIT: &str = r#"
WITH fence AS (
    UPDATE shard SET "offset" = $5, fold_version = $6, committed_at = now()
    WHERE id = $1 AND epoch = $2 AND term = $3 AND "offset" = $4
    RETURNING id
), m AS (
    INSERT INTO movement (shard, epoch, "offset", ordinal, delta, level_after, at, seq, confidence, fold_version,
                          facility, slot, sku, cause, device, boot, principal, evidence, why)
    SELECT $1, $2, u.o, u.n, u.delta, u.after, u.at, u.seq, u.confidence, $6,
           u.facility, u.slot, u.sku, u.cause, u.device, u.boot, u.principal, u.evidence::bigint[], u.why
    FROM fence, UNNEST($7::bigint[], $8::smallint[], $9::bigint[], $10::bigint[], $11::timestamptz[], $12::bigint[],
                $13::smallint[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[],
                $20::text[], $21::text[], $22::text[])
         AS u(o, n, delta, after, at, seq, confidence, facility, slot, sku, cause, device, boot, principal, evidence, why)
), l AS (
    INSERT INTO level (facility, slot, sku, quantity, fresh_at, changed_at, "offset", confidence, source, planned)
    SELECT u.facility, u.slot, u.sku, u.quantity, u.fresh, u.changed, $5, u.confidence, u.source, u.planned
    FROM fence, UNNEST($23::text[], $24::text[], $25::text[], $26::bigint[], $27::timestamptz[], $28::timestamptz[],
                $29::smallint[], $30::text[], $31::bool[])
         AS u(facility, slot, sku, quantity, fresh, changed, confidence, source, planned)
    ON CONFLICT (facility, slot, sku) DO UPDATE
    SET quantity = excluded.quantity, fresh_at = excluded.fresh_at, changed_at = excluded.changed_at,
        "offset" = excluded."offset", confidence = excluded.confidence, source = excluded.source,
        planned = excluded.planned
), t AS (
    INSERT INTO sku_total (facility, sku, quantity)
    SELECT u.facility, u.sku, u.quantity
    FROM fence, UNNEST($32::text[], $33::text[], $34::bigint[]) AS u(facility, sku, quantity)
    ON CONFLICT (facility, sku) DO UPDATE SET quantity = excluded.quantity
)
SELECT count(*) FROM fence
"#;

const LEDGER: &str = r#"
INSERT INTO ledger (facility, device, hour, journaled, applied, duplicate, quarantined, rejected, source_lost)
SELECT * FROM UNNEST($1::text[], $2::text[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                     $8::bigint[], $9::bigint[])
ON CONFLICT (facility, device, hour) DO UPDATE
SET journaled = excluded.journaled, applied = excluded.applied, duplicate = excluded.duplicate,
    quarantined = excluded.quarantined, rejected = excluded.rejected, source_lost = excluded.source_lost
"#;

const EVENTS: &str = r#"
INSERT INTO event (shard, epoch, "offset", ordinal, at, facility, kind, device, slot, sku, detail, tag, evidence)
SELECT $1, $2, u.o, u.n, u.at, u.facility, u.kind, u.device, u.slot, u.sku, u.detail, u.tag, u.evidence::bigint[]
FROM UNNEST($3::bigint[], $4::smallint[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
            $11::text[], $12::text[], $13::text[])
     AS u(o, n, at, facility, kind, device, slot, sku, detail, tag, evidence)
ON CONFLICT DO NOTHING
"#;

const TAGS: &str = r#"
INSERT INTO tag (facility, tag, present, since, last_read, zone, device, antenna, slot, sku, probability)
SELECT * FROM UNNEST($1::text[], $2::text[], $3::bool[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[],
                     $8::smallint[], $9::text[], $10::text[], $11::real[])
ON CONFLICT (facility, tag) DO UPDATE
SET present = excluded.present, since = excluded.since, last_read = excluded.last_read, zone = excluded.zone,
    device = excluded.device, antenna = excluded.antenna, slot = excluded.slot, sku = excluded.sku,
    probability = excluded.probability
"#;

impl PgStore {
    async fn commit_batch(
        &self,
        connection: &mut PgConnection,
        batch: &Batch,
    ) -> Result<bool, StoreError> {
        let m = MovementColumns::of(batch);
        let l = &batch.levels;
        let text =
            |level: fn(&Level) -> &str| -> Vec<&str> { l.iter().map(|(_, v)| level(v)).collect() };
        let fence: i64 = sqlx::query_scalar(COMMIT)
            .bind(i16_of(batch.shard))
            .bind(i32_of(batch.epoch))
            .bind(i64_of(batch.term))
            .bind(i64_of(batch.from))
            .bind(i64_of(batch.to))
            .bind(i32_of(batch.fold_version))
            .bind(m.offset)
            .bind(m.ordinal)
            .bind(m.delta)
            .bind(m.after)
            .bind(m.at)
            .bind(m.seq)
            .bind(m.confidence)
            .bind(m.facility)
            .bind(m.slot)
            .bind(m.sku)
            .bind(m.cause)
            .bind(m.device)
            .bind(m.boot)
            .bind(m.principal)
            .bind(m.evidence)
            .bind(m.why)
            .bind(l.iter().map(|(f, _)| f.as_str()).collect::<Vec<_>>())
            .bind(text(|v| v.slot.as_str()))
            .bind(text(|v| v.sku.as_str()))
            .bind(l.iter().map(|(_, v)| v.quantity.0).collect::<Vec<_>>())
            .bind(l.iter().map(|(_, v)| Micros(v.fresh_at.0)).collect::<Vec<_>>())
            .bind(l.iter().map(|(_, v)| Micros(v.changed_at.0)).collect::<Vec<_>>())
            .bind(l.iter().map(|(_, v)| i16_of(v.confidence.0)).collect::<Vec<_>>())
            .bind(text(|v| v.source.as_str()))
            .bind(l.iter().map(|(_, v)| v.planned).collect::<Vec<_>>())
            .bind(batch.totals.iter().map(|(f, _, _)| f.as_str()).collect::<Vec<_>>())
            .bind(batch.totals.iter().map(|(_, s, _)| s.as_str()).collect::<Vec<_>>())
            .bind(batch.totals.iter().map(|(_, _, q)| q.0).collect::<Vec<_>>())
            .fetch_one(&mut *connection)
            .await
            .map_err(store_error)?;
        Ok(fence == 1)
    }

    async fn try_commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut connection = self.commits.acquire().await.map_err(store_error)?;
        let plain = batch.events.is_empty()
            && batch.ledgers.is_empty()
            && batch.gone.is_empty()
            && batch.tags.is_empty()
            && batch.tags_gone.is_empty();
        let good = if plain {
            self.commit_batch(&mut connection, batch).await?
        } else {
            let mut transaction =
                sqlx::Connection::begin(&mut *connection).await.map_err(store_error)?;
            let good = self.commit_batch(&mut transaction, batch).await?;
            if good {
                Self::commit_rest(&mut transaction, batch).await?;
                transaction.commit().await.map_err(store_error)?;
            }
            good
        };
        if good {
            return Ok(());
        }
        Err(StoreError::Fenced {
            shard: batch.shard,
            expected: batch.from,
            term: batch.term,
            found: self.position(batch.shard).await?,
        })
    }

    /// What most batches do not have: events and what follows from them, and the ledger.
    async fn commit_rest(connection: &mut PgConnection, batch: &Batch) -> Result<(), StoreError> {
        if !batch.ledgers.is_empty() {
            ledgers(connection, batch).await?;
        }
        if !batch.events.is_empty() {
            events(connection, batch).await?;
        }
        if !batch.gone.is_empty() {
            gone(connection, batch).await?;
        }
        if !batch.tags.is_empty() || !batch.tags_gone.is_empty() {
            tags(connection, batch).await?;
        }
        Ok(())
    }
}

impl Store for PgStore {
    async fn own(&self, shard: u16, epoch: u32) -> Result<ShardPosition, StoreError> {
        // Owning must be on disk before anything is committed under the new term, so it goes through the durable pool.
        let row = sqlx::query(
            r#"INSERT INTO shard (id, epoch, "offset", term, fold_version) VALUES ($1, $2, 0, 1, 0)
               ON CONFLICT (id) DO UPDATE SET term = shard.term + 1 RETURNING epoch, "offset", term"#,
        )
        .bind(i16_of(shard))
        .bind(i32_of(epoch))
        .fetch_one(self.pool())
        .await
        .map_err(store_error)?;
        shard_position(&row)
    }

    async fn position(&self, shard: u16) -> Result<Option<ShardPosition>, StoreError> {
        let row = sqlx::query(r#"SELECT epoch, "offset", term FROM shard WHERE id = $1"#)
            .bind(i16_of(shard))
            .fetch_optional(self.pool())
            .await
            .map_err(store_error)?;
        row.as_ref().map(shard_position).transpose()
    }

    async fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let wait = std::time::Duration::from_secs(super::COMMIT_SECONDS_MAX);
        // A connection that was dropped in the middle is closed, so a late answer cannot be taken for another's.
        match tokio::time::timeout(wait, self.try_commit(batch)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Away(format!("no answer within {} s", wait.as_secs()))),
        }
    }

    async fn movements_after(
        &self,
        shard: u16,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<OutboxMovement>, StoreError> {
        let rows = sqlx::query(
            r#"SELECT "offset", ordinal, facility, slot, sku, delta, level_after, cause, confidence, at, device, boot,
                      seq, fold_version
               FROM movement WHERE shard = $1 AND "offset" > $2 ORDER BY epoch, "offset", ordinal LIMIT $3"#,
        )
        .bind(i16_of(shard))
        .bind(i64_of(offset))
        .bind(i64::from(limit))
        .fetch_all(self.pool())
        .await
        .map_err(store_error)?;
        rows.iter().map(outbox_row).collect()
    }

    async fn save_cursor(
        &self,
        name: &str,
        shard: u16,
        epoch: u32,
        offset: u64,
    ) -> Result<(), StoreError> {
        // Through the pool whose commits wait for the disk: WAL is one sequence, so what was committed before is safe too.
        sqlx::query(
            r#"INSERT INTO cursor (name, shard, epoch, "offset") VALUES ($1, $2, $3, $4)
               ON CONFLICT (name, shard) DO UPDATE
               SET epoch = excluded.epoch, "offset" = excluded."offset", updated_at = now()"#,
        )
        .bind(name)
        .bind(i16_of(shard))
        .bind(i32_of(epoch))
        .bind(i64_of(offset))
        .execute(self.pool())
        .await
        .map_err(store_error)?;
        Ok(())
    }

    async fn cursors(&self, shard: u16, epoch: u32) -> Result<Vec<(String, u64)>, StoreError> {
        let rows =
            sqlx::query(r#"SELECT name, "offset" FROM cursor WHERE shard = $1 AND epoch = $2"#)
                .bind(i16_of(shard))
                .bind(i32_of(epoch))
                .fetch_all(self.pool())
                .await
                .map_err(store_error)?;
        let row = |row: &PgRow| -> Result<(String, u64), sqlx::Error> {
            Ok((row.try_get(0)?, row.try_get::<i64, _>(1)?.max(0).unsigned_abs()))
        };
        rows.iter().map(|r| row(r).map_err(store_error)).collect()
    }

    async fn levels(&self, shard: u16) -> Result<Vec<(FacilityId, Level)>, StoreError> {
        let rows = sqlx::query(
            "SELECT l.* FROM level l JOIN facility f ON f.id = l.facility WHERE f.shard = $1
             ORDER BY l.facility COLLATE \"C\", l.slot COLLATE \"C\", l.sku COLLATE \"C\"",
        )
        .bind(i16_of(shard))
        .fetch_all(self.pool())
        .await
        .map_err(store_error)?;
        rows.iter().map(level_row).collect()
    }
}

/// The columns of a batch's movements.
struct MovementColumns<'a> {
    offset: Vec<i64>,
    ordinal: Vec<i16>,
    delta: Vec<i64>,
    after: Vec<i64>,
    at: Vec<Micros>,
    seq: Vec<Option<i64>>,
    confidence: Vec<i16>,
    facility: Vec<&'a str>,
    slot: Vec<&'a str>,
    sku: Vec<&'a str>,
    cause: Vec<&'a str>,
    device: Vec<Option<&'a str>>,
    boot: Vec<Option<&'a str>>,
    principal: Vec<Option<&'a str>>,
    evidence: Vec<Option<String>>,
    why: Vec<Option<String>>,
}

impl<'a> MovementColumns<'a> {
    fn of(batch: &'a Batch) -> Self {
        let all = &batch.movements;
        Self {
            offset: all.iter().map(|(_, o, _)| i64_of(*o)).collect(),
            ordinal: all.iter().map(|(_, _, m)| i16_of(m.ordinal)).collect(),
            delta: all.iter().map(|(_, _, m)| m.delta.0).collect(),
            after: all.iter().map(|(_, _, m)| m.level_after.0).collect(),
            at: all.iter().map(|(_, _, m)| Micros(m.at.0)).collect(),
            // The two's complement of an unsigned number keeps it distinct; reading turns it back.
            seq: all.iter().map(|(_, _, m)| m.seq.map(u64::cast_signed)).collect(),
            confidence: all.iter().map(|(_, _, m)| i16_of(m.confidence.0)).collect(),
            facility: all.iter().map(|(f, _, _)| f.as_str()).collect(),
            slot: all.iter().map(|(_, _, m)| m.slot.as_str()).collect(),
            sku: all.iter().map(|(_, _, m)| m.sku.as_str()).collect(),
            cause: all.iter().map(|(_, _, m)| m.cause.as_str()).collect(),
            device: all.iter().map(|(_, _, m)| m.device.as_ref().map(|d| d.as_str())).collect(),
            boot: all.iter().map(|(_, _, m)| m.boot.as_deref()).collect(),
            principal: all.iter().map(|(_, _, m)| principal(&m.principal)).collect(),
            evidence: all.iter().map(|(_, _, m)| offsets(&m.evidence)).collect(),
            why: all.iter().map(|(_, _, m)| why(&m.why)).collect(),
        }
    }
}

/// A device is its own principal and is not repeated.
fn principal(principal: &Principal) -> Option<&str> {
    match principal {
        Principal::Device => None,
        Principal::Hub => Some("hub"),
        Principal::Person(name) => Some(name),
    }
}

/// An array literal, because arrays of arrays cannot be unnested row by row.
fn offsets(evidence: &[u64]) -> Option<String> {
    if evidence.is_empty() {
        return None;
    }
    let list: Vec<String> = evidence.iter().map(u64::to_string).collect();
    Some(format!("{{{}}}", list.join(",")))
}

/// A declared change needs no explanation beyond its cause.
fn why(why: &Why) -> Option<String> {
    if *why == Why::Declared { None } else { serde_json::to_string(why).ok() }
}

async fn tags(connection: &mut PgConnection, batch: &Batch) -> Result<(), StoreError> {
    let all = &batch.tags;
    let at = |of: fn(&fold::Whereabouts) -> Option<&str>| -> Vec<Option<&str>> {
        all.iter().map(|(_, tag)| tag.at.as_ref().and_then(of)).collect()
    };
    let antenna = |tag: &TagNow| tag.at.as_ref().map(|at| i16_of(at.antenna));
    sqlx::query(TAGS)
        .bind(all.iter().map(|(f, _)| f.as_str()).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, tag)| tag.tag.to_string()).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, tag)| tag.present).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, tag)| Micros(tag.since.0)).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, tag)| Micros(tag.last_read.0)).collect::<Vec<_>>())
        .bind(at(|at| Some(at.zone.as_str())))
        .bind(at(|at| Some(at.device.as_str())))
        .bind(all.iter().map(|(_, tag)| antenna(tag)).collect::<Vec<_>>())
        .bind(at(|at| at.slot.as_ref().map(|slot| slot.as_str())))
        .bind(all.iter().map(|(_, tag)| tag.sku.as_ref().map(|s| s.as_str())).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, tag)| tag.probability as f32).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await
        .map_err(store_error)?;
    let gone = &batch.tags_gone;
    if gone.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM tag USING UNNEST($1::text[], $2::text[]) AS u(facility, tag)
         WHERE tag.facility = u.facility AND tag.tag = u.tag",
    )
    .bind(gone.iter().map(|(f, _)| f.as_str()).collect::<Vec<_>>())
    .bind(gone.iter().map(|(_, tag)| tag.to_string()).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(store_error)?;
    Ok(())
}

async fn gone(connection: &mut PgConnection, batch: &Batch) -> Result<(), StoreError> {
    let all = &batch.gone;
    sqlx::query(
        "DELETE FROM level USING UNNEST($1::text[], $2::text[], $3::text[]) AS u(facility, slot, sku)
         WHERE level.facility = u.facility AND level.slot = u.slot AND level.sku = u.sku",
    )
    .bind(all.iter().map(|(f, _, _)| f.as_str()).collect::<Vec<_>>())
    .bind(all.iter().map(|(_, s, _)| s.as_str()).collect::<Vec<_>>())
    .bind(all.iter().map(|(_, _, k)| k.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(store_error)?;
    Ok(())
}

async fn ledgers(connection: &mut PgConnection, batch: &Batch) -> Result<(), StoreError> {
    let all = &batch.ledgers;
    let count = |of: fn(&LedgerHour) -> u64| -> Vec<i64> {
        all.iter().map(|(_, _, hour)| i64_of(of(hour))).collect()
    };
    sqlx::query(LEDGER)
        .bind(all.iter().map(|(f, _, _)| f.as_str()).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, d, _)| d.as_str()).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, _, h)| Micros(h.hour * 3_600_000_000)).collect::<Vec<_>>())
        .bind(count(|h| h.counts.journaled))
        .bind(count(|h| h.counts.applied))
        .bind(count(|h| h.counts.duplicate))
        .bind(count(|h| h.counts.quarantined))
        .bind(count(|h| h.counts.rejected))
        .bind(count(|h| h.counts.source_lost))
        .execute(connection)
        .await
        .map_err(store_error)?;
    Ok(())
}

async fn events(connection: &mut PgConnection, batch: &Batch) -> Result<(), StoreError> {
    let all = &batch.events;
    sqlx::query(EVENTS)
        .bind(i16_of(batch.shard))
        .bind(i32_of(batch.epoch))
        .bind(all.iter().map(|(_, o, _)| i64_of(*o)).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, _, e)| i16_of(e.ordinal)).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, _, e)| Micros(e.at.0)).collect::<Vec<_>>())
        .bind(all.iter().map(|(f, _, _)| f.as_str()).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, _, e)| e.kind.as_str()).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, _, e)| e.device.as_ref().map(|d| d.as_str())).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, _, e)| e.slot.as_ref().map(|s| s.as_str())).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, _, e)| e.sku.as_ref().map(|s| s.as_str())).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, _, e)| detail(&e.kind)).collect::<Vec<_>>())
        .bind(
            all.iter()
                .map(|(_, _, e)| tag_of(&e.kind).map(|t| t.tag.to_string()))
                .collect::<Vec<_>>(),
        )
        .bind(
            all.iter()
                .map(|(_, _, e)| tag_of(&e.kind).and_then(|t| offsets(&t.reads)))
                .collect::<Vec<_>>(),
        )
        .execute(&mut *connection)
        .await
        .map_err(store_error)?;
    for (facility, offset, event) in all {
        match &event.kind {
            EventKind::DiscrepancyOpened(opened) => {
                sqlx::query(
                    r#"INSERT INTO discrepancy (shard, epoch, "offset", ordinal, facility, slot, sku, kind, opened_at, detail)
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING"#,
                )
                .bind(i16_of(batch.shard))
                .bind(i32_of(batch.epoch))
                .bind(i64_of(*offset))
                .bind(i16_of(event.ordinal))
                .bind(facility.as_str())
                .bind(event.slot.as_ref().map_or("", |s| s.as_str()))
                .bind(event.sku.as_ref().map(|s| s.as_str()))
                .bind(opened.kind.as_str())
                .bind(Micros(event.at.0))
                .bind(detail(&event.kind))
                .execute(&mut *connection)
                .await
                .map_err(store_error)?;
            }
            EventKind::DiscrepancyClosed(closed) => {
                sqlx::query(
                    r#"UPDATE discrepancy SET closed_at = $5
                       WHERE shard = $1 AND epoch = $2 AND "offset" = $3 AND ordinal = $4 AND closed_at IS NULL"#,
                )
                .bind(i16_of(batch.shard))
                .bind(i32_of(batch.epoch))
                .bind(i64_of(closed.offset))
                .bind(i16_of(closed.ordinal))
                .bind(Micros(event.at.0))
                .execute(&mut *connection)
                .await
                .map_err(store_error)?;
            }
            EventKind::Refused { quarantined, reason, detail } => {
                let frame = batch.refused.iter().find(|(o, _)| o == offset).map(|(_, f)| f);
                sqlx::query(
                    r#"INSERT INTO quarantine (shard, epoch, "offset", facility, at, device, stream, reason, rejected,
                                               detail, raw)
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING"#,
                )
                .bind(i16_of(batch.shard))
                .bind(i32_of(batch.epoch))
                .bind(i64_of(*offset))
                .bind(facility.as_str())
                .bind(Micros(event.at.0))
                .bind(event.device.as_ref().map(|d| d.as_str()))
                .bind(frame.map(|f| f.stream.as_str()))
                .bind(reason.code())
                .bind(!quarantined)
                // PostgreSQL's text cannot hold NUL; a device may well send one.
                .bind(detail.replace('\0', "\u{fffd}"))
                .bind(frame.map(|f| f.raw.as_ref()))
                .execute(&mut *connection)
                .await
                .map_err(store_error)?;
            }
            EventKind::DeviceRebooted { .. }
            | EventKind::SourceLoss { .. }
            | EventKind::EntryQuarantined { .. }
            | EventKind::FoldUpgraded { .. }
            | EventKind::Tag(_)
            | EventKind::CycleCount(_)
            | EventKind::Listening { .. }
            | EventKind::ReaderTrouble { .. }
            | EventKind::Restated { .. } => {}
        }
    }
    Ok(())
}

/// What an event tells of a tag.
fn tag_of(kind: &EventKind) -> Option<&fold::TagTold> {
    if let EventKind::Tag(told) = kind { Some(told) } else { None }
}

/// What an event says, as JSON.
fn detail(kind: &EventKind) -> String {
    let json = match kind {
        EventKind::DiscrepancyOpened(opened) => serde_json::to_value(opened).unwrap_or_default(),
        EventKind::DiscrepancyClosed(closed) => serde_json::to_value(closed).unwrap_or_default(),
        EventKind::Refused { reason, detail, .. } => {
            serde_json::json!({ "reason": reason.code(), "detail": detail })
        }
        EventKind::DeviceRebooted { boot } => serde_json::json!({ "boot": boot }),
        EventKind::SourceLoss { frames } => serde_json::json!({ "frames": frames }),
        EventKind::EntryQuarantined { offset, reason } => {
            serde_json::json!({ "offset": offset, "reason": reason })
        }
        EventKind::FoldUpgraded { version } => serde_json::json!({ "version": version }),
        EventKind::Restated { delta } => serde_json::json!({ "delta": delta }),
        EventKind::Tag(told) => serde_json::to_value(told).unwrap_or_default(),
        EventKind::CycleCount(count) => serde_json::to_value(count).unwrap_or_default(),
        EventKind::Listening { antenna, .. } => serde_json::json!({ "antenna": antenna }),
        EventKind::ReaderTrouble { text } => serde_json::json!({ "text": text }),
    };
    // A NUL is written \u0000 in JSON text, which a text column holds.
    json.to_string()
}

fn shard_position(row: &PgRow) -> Result<ShardPosition, StoreError> {
    let get = |name: &str| row.try_get::<i64, _>(name).map_err(store_error);
    let epoch: i32 = row.try_get("epoch").map_err(store_error)?;
    Ok(ShardPosition {
        epoch: epoch.cast_unsigned(),
        offset: get("offset")?.cast_unsigned(),
        term: get("term")?.cast_unsigned(),
    })
}

fn outbox_row(row: &PgRow) -> Result<OutboxMovement, StoreError> {
    let read = || -> Result<OutboxMovement, sqlx::Error> {
        Ok(OutboxMovement {
            offset: row.try_get::<i64, _>(0)?.cast_unsigned(),
            ordinal: row.try_get::<i16, _>(1)?.cast_unsigned(),
            facility: row.try_get(2)?,
            slot: row.try_get(3)?,
            sku: row.try_get(4)?,
            delta: row.try_get(5)?,
            level_after: row.try_get(6)?,
            cause: row.try_get(7)?,
            confidence: row.try_get::<i16, _>(8)?.cast_unsigned(),
            at_us: row.try_get::<Micros, _>(9)?.0,
            device: row.try_get(10)?,
            boot: row.try_get(11)?,
            seq: row.try_get::<Option<i64>, _>(12)?.map(i64::cast_unsigned),
            fold_version: row.try_get::<i32, _>(13)?.cast_unsigned(),
        })
    };
    read().map_err(store_error)
}

fn level_row(row: &PgRow) -> Result<(FacilityId, Level), StoreError> {
    let bad = |what: &str| StoreError::Refused(format!("a level row holds a bad {what}"));
    let text = |name: &str| row.try_get::<String, _>(name).map_err(store_error);
    let time = |name: &str| row.try_get::<Micros, _>(name).map_err(store_error);
    let source = match text("source")?.as_str() {
        "weight" => Source::Weight,
        "scan" => Source::Scan,
        "rfid" => Source::Rfid,
        _ => return Err(bad("source")),
    };
    let confidence: i16 = row.try_get("confidence").map_err(store_error)?;
    Ok((
        FacilityId::parse(&text("facility")?).map_err(|_| bad("facility"))?,
        Level {
            slot: SlotId::parse(&text("slot")?).map_err(|_| bad("slot"))?,
            sku: Sku::parse(&text("sku")?).map_err(|_| bad("sku"))?,
            quantity: Units(row.try_get("quantity").map_err(store_error)?),
            confidence: Confidence(confidence.cast_unsigned()),
            source,
            planned: row.try_get("planned").map_err(store_error)?,
            fresh_at: HubTime(time("fresh_at")?.0),
            changed_at: HubTime(time("changed_at")?.0),
        },
    ))
}

/// What the committer makes of a failed statement.
fn store_error(error: sqlx::Error) -> StoreError {
    match Fault::from(error) {
        Fault::Away(why) => StoreError::Away(why),
        Fault::Broken(why) => StoreError::Refused(why),
    }
}

fn i64_of(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
fn i32_of(value: u32) -> i32 {
    value.cast_signed()
}
fn i16_of(value: u16) -> i16 {
    value.cast_signed()
}
