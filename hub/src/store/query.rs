//! Reading what the fold decided: levels, movements, discrepancies, refused frames, accounts.
//!
//! Rows are told as they are stored, in the order of their positions; a position names a row for good, so it is its own
//! cursor. Statements are fixed texts with optional conditions: PostgreSQL plans them with the values in hand.

use fold::{MovementId, Position};
use sqlx::{FromRow, Row};

use super::{
    PgStore,
    fault::Fault,
    told::{
        Discrepancy, EvidenceRow, LedgerRow, MovementReasons, MovementTold, Place, Quarantined,
        StockLine, position, stock_line,
    },
    when::When,
};

type Result<T> = std::result::Result<T, Fault>;

/// The levels of a facility at a position.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Everything up to here is in it.
    pub position: Position,
    /// The lines, by slot and SKU.
    pub stock: Vec<StockLine>,
}

/// Which levels to read.
#[derive(Debug, Clone, Copy, Default)]
pub struct StockFilter<'a> {
    /// Of this facility.
    pub facility: Option<&'a str>,
    /// On this shelf.
    pub shelf: Option<&'a str>,
    /// In this slot.
    pub slot: Option<&'a str>,
    /// Of this SKU.
    pub sku: Option<&'a str>,
    /// After this facility, slot and SKU.
    pub after: Option<(&'a str, &'a str, &'a str)>,
}

/// Which rows of positions to read.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutboxFilter<'a> {
    /// Of this shard.
    pub shard: Option<u16>,
    /// Of this facility.
    pub facility: Option<&'a str>,
    /// Of this slot.
    pub slot: Option<&'a str>,
    /// Of this SKU.
    pub sku: Option<&'a str>,
    /// Of this device.
    pub device: Option<&'a str>,
    /// Beyond this row, in the order asked for.
    pub after: Option<MovementId>,
    /// Newest first.
    pub newest_first: bool,
    /// At most so many.
    pub limit: i64,
}

const STOCK: &str = r#"
SELECT l.facility, sh.zone, s.shelf, l.slot, l.sku, l.quantity, l.confidence, l.source, l.planned, l.fresh_at, l.changed_at
FROM level l LEFT JOIN slot s ON (s.facility, s.id) = (l.facility, l.slot)
             LEFT JOIN shelf sh ON (sh.facility, sh.id) = (s.facility, s.shelf)
WHERE ($1::text IS NULL OR l.facility = $1) AND ($2::text IS NULL OR s.shelf = $2)
  AND ($3::text IS NULL OR l.slot = $3) AND ($4::text IS NULL OR l.sku = $4)
  AND ($5::text IS NULL OR (l.facility, l.slot, l.sku) > ($5, $6, $7))
ORDER BY l.facility, l.slot, l.sku LIMIT $8
"#;

// One statement sees one moment: the position and the levels belong together.
const SNAPSHOT: &str = r#"
SELECT f.shard, COALESCE(p.epoch, 0) AS epoch, COALESCE(p."offset", 0) AS "offset",
       l.facility, sh.zone, s.shelf, l.slot, l.sku, l.quantity, l.confidence, l.source, l.planned, l.fresh_at, l.changed_at
FROM facility f LEFT JOIN shard p ON p.id = f.shard
                LEFT JOIN level l ON l.facility = f.id
                LEFT JOIN slot s ON (s.facility, s.id) = (l.facility, l.slot)
                LEFT JOIN shelf sh ON (sh.facility, sh.id) = (s.facility, s.shelf)
WHERE f.id = $1 ORDER BY l.slot, l.sku
"#;

const MOVEMENTS_OLDEST_FIRST: &str = r#"
SELECT shard, epoch, "offset", ordinal, facility, slot, sku, delta, level_after, cause, confidence, at, device, boot, seq,
       principal, fold_version
FROM movement
WHERE ($1::smallint IS NULL OR shard = $1) AND ($2::text IS NULL OR facility = $2) AND ($3::text IS NULL OR (slot = $3 AND hashtextextended(slot, 0) = hashtextextended($3, 0)))
  AND ($4::text IS NULL OR sku = $4) AND ($5::text IS NULL OR device = $5)
  AND ($6::smallint IS NULL OR (shard, epoch, "offset", ordinal) > ($6, $7, $8, $9))
ORDER BY shard, epoch, "offset", ordinal LIMIT $10
"#;

const MOVEMENTS_NEWEST_FIRST: &str = r#"
SELECT shard, epoch, "offset", ordinal, facility, slot, sku, delta, level_after, cause, confidence, at, device, boot, seq,
       principal, fold_version
FROM movement
WHERE ($1::smallint IS NULL OR shard = $1) AND ($2::text IS NULL OR facility = $2) AND ($3::text IS NULL OR (slot = $3 AND hashtextextended(slot, 0) = hashtextextended($3, 0)))
  AND ($4::text IS NULL OR sku = $4) AND ($5::text IS NULL OR device = $5)
  AND ($6::smallint IS NULL OR (shard, epoch, "offset", ordinal) < ($6, $7, $8, $9))
ORDER BY shard DESC, epoch DESC, "offset" DESC, ordinal DESC LIMIT $10
"#;

const DISCREPANCIES: &str = r#"
SELECT shard, epoch, "offset", ordinal, facility, slot, sku, kind, opened_at, closed_at, detail FROM discrepancy
WHERE ($1::text IS NULL OR facility = $1) AND ($2::bool IS NULL OR (closed_at IS NULL) = $2)
  AND ($3::smallint IS NULL OR (shard, epoch, "offset", ordinal) < ($3, $4, $5, $6))
ORDER BY shard DESC, epoch DESC, "offset" DESC, ordinal DESC LIMIT $7
"#;

const QUARANTINE: &str = r#"
SELECT shard, epoch, "offset", facility, at, device, stream, reason, rejected, detail, raw FROM quarantine
WHERE ($1::smallint IS NULL OR shard = $1) AND ($2::text IS NULL OR facility = $2)
  AND ($3::smallint IS NULL OR (shard, epoch, "offset") < ($3, $4, $5))
ORDER BY shard DESC, epoch DESC, "offset" DESC LIMIT $6
"#;

impl PgStore {
    /// Levels.
    pub async fn stock(
        &self,
        filter: StockFilter<'_>,
        limit: i64,
        as_of: i64,
    ) -> Result<Vec<StockLine>> {
        let rows = sqlx::query(STOCK)
            .bind(filter.facility)
            .bind(filter.shelf)
            .bind(filter.slot)
            .bind(filter.sku)
            .bind(filter.after.map(|(facility, _, _)| facility))
            .bind(filter.after.map(|(_, slot, _)| slot))
            .bind(filter.after.map(|(_, _, sku)| sku))
            .bind(limit)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| Ok(stock_line(row, as_of)?)).collect()
    }

    /// Every level of a facility at one position; `None` when there is no such facility.
    pub async fn snapshot(&self, facility: &str, as_of: i64) -> Result<Option<Snapshot>> {
        let rows = sqlx::query(SNAPSHOT).bind(facility).fetch_all(self.pool()).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let mut snapshot =
            Snapshot { position: position(first)?, stock: Vec::with_capacity(rows.len()) };
        for row in &rows {
            if row.try_get::<Option<&str>, _>("slot")?.is_some() {
                snapshot.stock.push(stock_line(row, as_of)?);
            }
        }
        Ok(Some(snapshot))
    }

    /// Where each slot of a facility is.
    pub async fn places(&self, facility: &str) -> Result<Vec<(String, Place)>> {
        let rows = sqlx::query(
            "SELECT s.id, s.shelf, sh.zone FROM slot s JOIN shelf sh ON (sh.facility, sh.id) = (s.facility, s.shelf)
             WHERE s.facility = $1",
        )
        .bind(facility)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok((row.try_get(0)?, Place { shelf: row.try_get(1)?, zone: row.try_get(2)? }))
            })
            .collect()
    }

    /// Movements.
    pub async fn movements(&self, filter: OutboxFilter<'_>) -> Result<Vec<MovementTold>> {
        let after = filter.after;
        let statement =
            if filter.newest_first { MOVEMENTS_NEWEST_FIRST } else { MOVEMENTS_OLDEST_FIRST };
        Ok(sqlx::query_as(statement)
            .bind(filter.shard.map(u16::cast_signed))
            .bind(filter.facility)
            .bind(filter.slot)
            .bind(filter.sku)
            .bind(filter.device)
            .bind(after.map(|id| id.position.shard.0.cast_signed()))
            .bind(after.map(|id| id.position.epoch.cast_signed()))
            .bind(after.map(|id| id.position.offset.cast_signed()))
            .bind(after.map(|id| id.ordinal.cast_signed()))
            .bind(filter.limit)
            .fetch_all(self.pool())
            .await?)
    }

    /// Movements of one journal entry.
    pub async fn movements_at(&self, position: Position) -> Result<Vec<MovementTold>> {
        Ok(sqlx::query_as(
            r#"SELECT shard, epoch, "offset", ordinal, facility, slot, sku, delta, level_after, cause, confidence, at,
                      device, boot, seq, principal, fold_version
               FROM movement WHERE shard = $1 AND epoch = $2 AND "offset" = $3 ORDER BY ordinal"#,
        )
        .bind(position.shard.0.cast_signed())
        .bind(position.epoch.cast_signed())
        .bind(position.offset.cast_signed())
        .fetch_all(self.pool())
        .await?)
    }

    /// Why the entry at a position had no effect: code and words.
    pub async fn refusal_at(&self, position: Position) -> Result<Option<(String, String)>> {
        Ok(sqlx::query_as(
            r#"SELECT reason, detail FROM quarantine WHERE shard = $1 AND epoch = $2 AND "offset" = $3"#,
        )
        .bind(position.shard.0.cast_signed())
        .bind(position.epoch.cast_signed())
        .bind(position.offset.cast_signed())
        .fetch_optional(self.pool())
        .await?)
    }

    /// A movement with what it rests on.
    pub async fn movement_reasons(&self, id: MovementId) -> Result<Option<MovementReasons>> {
        let row = sqlx::query(
            r#"SELECT shard, epoch, "offset", ordinal, facility, slot, sku, delta, level_after, cause, confidence, at,
                      device, boot, seq, principal, fold_version, evidence, why
               FROM movement WHERE shard = $1 AND epoch = $2 AND "offset" = $3 AND ordinal = $4"#,
        )
        .bind(id.position.shard.0.cast_signed())
        .bind(id.position.epoch.cast_signed())
        .bind(id.position.offset.cast_signed())
        .bind(id.ordinal.cast_signed())
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let further: Option<Vec<i64>> = row.try_get("evidence")?;
        let mut evidence = vec![id.position.offset];
        evidence.extend(further.unwrap_or_default().into_iter().map(i64::cast_unsigned));
        Ok(Some(MovementReasons {
            movement: MovementTold::from_row(&row)?,
            evidence,
            why: row.try_get("why")?,
        }))
    }

    /// Frames that were copied before the journal was trimmed.
    pub async fn evidence(&self, position: Position, offsets: &[u64]) -> Result<Vec<EvidenceRow>> {
        let offsets: Vec<i64> = offsets.iter().map(|o| o.cast_signed()).collect();
        Ok(sqlx::query_as(
            r#"SELECT "offset", received_at, kind, payload FROM evidence
               WHERE shard = $1 AND epoch = $2 AND "offset" = ANY($3)"#,
        )
        .bind(position.shard.0.cast_signed())
        .bind(position.epoch.cast_signed())
        .bind(offsets)
        .fetch_all(self.pool())
        .await?)
    }

    /// Discrepancies, newest first.
    pub async fn discrepancies(
        &self,
        facility: Option<&str>,
        open: Option<bool>,
        before: Option<MovementId>,
        limit: i64,
    ) -> Result<Vec<Discrepancy>> {
        Ok(sqlx::query_as(DISCREPANCIES)
            .bind(facility)
            .bind(open)
            .bind(before.map(|id| id.position.shard.0.cast_signed()))
            .bind(before.map(|id| id.position.epoch.cast_signed()))
            .bind(before.map(|id| id.position.offset.cast_signed()))
            .bind(before.map(|id| id.ordinal.cast_signed()))
            .bind(limit)
            .fetch_all(self.pool())
            .await?)
    }

    /// Frames and commands without effect, newest first.
    pub async fn quarantine(
        &self,
        shard: Option<u16>,
        facility: Option<&str>,
        before: Option<Position>,
        limit: i64,
    ) -> Result<Vec<Quarantined>> {
        Ok(sqlx::query_as(QUARANTINE)
            .bind(shard.map(u16::cast_signed))
            .bind(facility)
            .bind(before.map(|p| p.shard.0.cast_signed()))
            .bind(before.map(|p| p.epoch.cast_signed()))
            .bind(before.map(|p| p.offset.cast_signed()))
            .bind(limit)
            .fetch_all(self.pool())
            .await?)
    }

    /// Accounts of devices, newest hour first.
    pub async fn ledger(
        &self,
        facility: Option<&str>,
        device: Option<&str>,
        before: Option<(When, &str, &str)>,
        limit: i64,
    ) -> Result<Vec<LedgerRow>> {
        Ok(sqlx::query_as(
            "SELECT facility, device, hour, journaled, applied, duplicate, quarantined, rejected, source_lost FROM ledger
             WHERE ($1::text IS NULL OR facility = $1) AND ($2::text IS NULL OR device = $2)
               AND ($3::timestamptz IS NULL OR (hour, facility, device) < ($3, $4, $5))
             ORDER BY hour DESC, facility DESC, device DESC LIMIT $6",
        )
        .bind(facility)
        .bind(device)
        .bind(before.map(|(hour, _, _)| hour))
        .bind(before.map(|(_, facility, _)| facility))
        .bind(before.map(|(_, _, device)| device))
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }
}
