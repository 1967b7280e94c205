//! Reading what the fold decided: levels, movements, discrepancies, refused frames, accounts, series.
//!
//! Rows are told as they are stored, in the order of their positions; a position names a row for good, so it is its own
//! cursor. Statements are fixed texts with optional conditions: PostgreSQL plans them with the values in hand.

use fold::{Event, HubTime, Level, Movement, MovementId, Position, Principal};
use serde::Serialize;
use sqlx::{FromRow, Row, postgres::PgRow};
use utoipa::ToSchema;

use super::{PgStore, fault::Fault, when::When};

type Result<T> = std::result::Result<T, Fault>;

/// One line of stock: how many of a SKU are in a slot.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct StockLine {
    /// The facility.
    pub facility: String,
    /// The zone of its shelf.
    pub zone: Option<String>,
    /// The shelf of its slot.
    pub shelf: Option<String>,
    /// The slot.
    pub slot: String,
    /// The SKU.
    pub sku: String,
    /// How many units.
    pub quantity: i64,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// Which source counts it.
    pub source: String,
    /// It is in the planogram.
    pub planned: bool,
    /// Last time its source spoke.
    pub fresh_at: When,
    /// Last time the quantity changed.
    pub changed_at: When,
    /// When this was told, hub time.
    pub as_of: When,
}

impl StockLine {
    /// A level as it is told.
    pub fn of(facility: &str, level: &Level, place: Option<&Place>, as_of: HubTime) -> Self {
        Self {
            facility: facility.to_owned(),
            zone: place.and_then(|p| p.zone.clone()),
            shelf: place.map(|p| p.shelf.clone()),
            slot: level.slot.to_string(),
            sku: level.sku.to_string(),
            quantity: level.quantity.0,
            confidence: level.confidence.probability(),
            source: level.source.as_str().to_owned(),
            planned: level.planned,
            fresh_at: When(level.fresh_at.0),
            changed_at: When(level.changed_at.0),
            as_of: When(as_of.0),
        }
    }
}

/// Where a slot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its shelf.
    pub shelf: String,
    /// The zone of that shelf.
    pub zone: Option<String>,
}

/// A movement: stock that changed.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MovementTold {
    /// Its id: position and ordinal.
    pub id: String,
    /// The facility.
    pub facility: String,
    /// The slot.
    pub slot: String,
    /// The SKU.
    pub sku: String,
    /// By how many units.
    pub delta: i64,
    /// Quantity after it.
    pub level_after: i64,
    /// What kind of change.
    pub cause: String,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// When, hub time.
    pub at: When,
    /// The device that showed it.
    pub device: Option<String>,
    /// That device's boot.
    pub boot: Option<String>,
    /// That device's sequence number.
    pub seq: Option<u64>,
    /// Who caused it; nobody when the device itself did.
    pub principal: Option<String>,
    /// Version of the rules that made it.
    pub fold_version: u32,
    /// The journal entry it came from. Movements of one call or frame share it.
    pub correlation: String,
}

impl MovementTold {
    /// A movement of a committed batch as it is told.
    pub fn of(facility: &str, position: Position, fold_version: u32, movement: &Movement) -> Self {
        Self {
            id: MovementId { position, ordinal: movement.ordinal }.to_string(),
            facility: facility.to_owned(),
            slot: movement.slot.to_string(),
            sku: movement.sku.to_string(),
            delta: movement.delta.0,
            level_after: movement.level_after.0,
            cause: movement.cause.as_str().to_owned(),
            confidence: movement.confidence.probability(),
            at: When(movement.at.0),
            device: movement.device.as_ref().map(ToString::to_string),
            boot: movement.boot.clone(),
            seq: movement.seq,
            principal: match &movement.principal {
                Principal::Device => None,
                Principal::Hub => Some("hub".to_owned()),
                Principal::Person(name) => Some(name.to_string()),
            },
            fold_version,
            correlation: position.to_string(),
        }
    }
}

impl FromRow<'_, PgRow> for MovementTold {
    fn from_row(row: &PgRow) -> std::result::Result<Self, sqlx::Error> {
        let id = movement_id(row)?;
        Ok(Self {
            id: id.to_string(),
            facility: row.try_get("facility")?,
            slot: row.try_get("slot")?,
            sku: row.try_get("sku")?,
            delta: row.try_get("delta")?,
            level_after: row.try_get("level_after")?,
            cause: row.try_get("cause")?,
            confidence: confidence(row)?,
            at: row.try_get("at")?,
            device: row.try_get("device")?,
            boot: row.try_get("boot")?,
            seq: row.try_get::<Option<i64>, _>("seq")?.map(i64::cast_unsigned),
            principal: row.try_get("principal")?,
            fold_version: row.try_get::<i32, _>("fold_version")?.cast_unsigned(),
            correlation: id.position.to_string(),
        })
    }
}

/// Something told that is not a movement.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EventTold {
    /// Its id: position and ordinal.
    pub id: String,
    /// The facility.
    pub facility: String,
    /// What happened.
    pub kind: String,
    /// When, hub time.
    pub at: When,
    /// Which device.
    pub device: Option<String>,
    /// Which slot.
    pub slot: Option<String>,
    /// Which SKU.
    pub sku: Option<String>,
}

impl EventTold {
    /// An event of a committed batch as it is told.
    pub fn of(facility: &str, position: Position, event: &Event) -> Self {
        Self {
            id: MovementId { position, ordinal: event.ordinal }.to_string(),
            facility: facility.to_owned(),
            kind: event.kind.as_str().to_owned(),
            at: When(event.at.0),
            device: event.device.as_ref().map(ToString::to_string),
            slot: event.slot.as_ref().map(ToString::to_string),
            sku: event.sku.as_ref().map(ToString::to_string),
        }
    }
}

/// A movement with what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct MovementReasons {
    /// The movement.
    pub movement: MovementTold,
    /// Offsets of its evidence, its own entry first.
    pub evidence: Vec<u64>,
    /// The rule with its numbers, JSON; `None` when the reading itself says so.
    pub why: Option<String>,
}

/// A frame kept as evidence.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct EvidenceRow {
    /// Where it stood.
    #[sqlx(rename = "offset")]
    pub offset: i64,
    /// When it was appended.
    pub received_at: When,
    /// Record kind.
    pub kind: i16,
    /// Record payload.
    pub payload: Vec<u8>,
}

/// A discrepancy: evidence that does not fit.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Discrepancy {
    /// Its id: position and ordinal of the event that opened it.
    pub id: String,
    /// The facility.
    pub facility: String,
    /// The slot.
    pub slot: String,
    /// The line in doubt; every line of the slot when nobody knows.
    pub sku: Option<String>,
    /// What does not fit.
    pub kind: String,
    /// When it was opened.
    pub opened_at: When,
    /// When it was settled.
    pub closed_at: Option<When>,
    /// What was seen and what to do, for people.
    pub advice: Option<String>,
    /// What was seen, as the fold tells it.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

impl FromRow<'_, PgRow> for Discrepancy {
    fn from_row(row: &PgRow) -> std::result::Result<Self, sqlx::Error> {
        let detail: serde_json::Value =
            serde_json::from_str(row.try_get("detail")?).unwrap_or_default();
        Ok(Self {
            id: movement_id(row)?.to_string(),
            facility: row.try_get("facility")?,
            slot: row.try_get("slot")?,
            sku: row.try_get("sku")?,
            kind: row.try_get("kind")?,
            opened_at: row.try_get("opened_at")?,
            closed_at: row.try_get("closed_at")?,
            advice: detail.get("advice").and_then(|a| a.as_str()).map(str::to_owned),
            detail,
        })
    }
}

/// A frame or command that had no effect.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Quarantined {
    /// Where it stands in the journal.
    pub position: String,
    /// The facility.
    pub facility: String,
    /// When it came.
    pub at: When,
    /// The device.
    pub device: Option<String>,
    /// Its stream.
    pub stream: Option<String>,
    /// Why, a stable code.
    pub reason: String,
    /// It can never take effect; otherwise it is sound but cannot be placed.
    pub rejected: bool,
    /// Why, in words.
    pub detail: String,
    /// Its bytes.
    pub raw_hex: Option<String>,
    /// Its bytes as text, when they are text.
    pub raw_text: Option<String>,
}

impl FromRow<'_, PgRow> for Quarantined {
    fn from_row(row: &PgRow) -> std::result::Result<Self, sqlx::Error> {
        let raw: Option<Vec<u8>> = row.try_get("raw")?;
        Ok(Self {
            position: position(row)?.to_string(),
            facility: row.try_get("facility")?,
            at: row.try_get("at")?,
            device: row.try_get("device")?,
            stream: row.try_get("stream")?,
            reason: row.try_get("reason")?,
            rejected: row.try_get("rejected")?,
            detail: row.try_get("detail")?,
            raw_hex: raw.as_deref().map(hex),
            raw_text: raw.and_then(|raw| String::from_utf8(raw).ok()),
        })
    }
}

/// The account of a device and hour: journaled = applied + duplicate + quarantined + rejected.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct LedgerRow {
    /// The facility.
    pub facility: String,
    /// The device.
    pub device: String,
    /// When the hour began.
    pub hour: When,
    /// Frames in the journal.
    pub journaled: i64,
    /// Frames that took effect.
    pub applied: i64,
    /// Frames that came again.
    pub duplicate: i64,
    /// Frames that could not be placed.
    pub quarantined: i64,
    /// Frames that can never take effect.
    pub rejected: i64,
    /// Frames that never reached the hub, by their sequence numbers.
    pub source_lost: i64,
}

/// A point of a series.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct ReadingRow {
    /// When.
    pub at: When,
    /// The device.
    pub device: String,
    /// Series name, `stream.name`.
    pub name: String,
    /// The value, when it is a number.
    pub value: Option<f64>,
    /// The value, when it is a text.
    pub text: Option<String>,
}

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
WHERE ($1::smallint IS NULL OR shard = $1) AND ($2::text IS NULL OR facility = $2) AND ($3::text IS NULL OR slot = $3)
  AND ($4::text IS NULL OR sku = $4) AND ($5::text IS NULL OR device = $5)
  AND ($6::smallint IS NULL OR (shard, epoch, "offset", ordinal) > ($6, $7, $8, $9))
ORDER BY shard, epoch, "offset", ordinal LIMIT $10
"#;

const MOVEMENTS_NEWEST_FIRST: &str = r#"
SELECT shard, epoch, "offset", ordinal, facility, slot, sku, delta, level_after, cause, confidence, at, device, boot, seq,
       principal, fold_version
FROM movement
WHERE ($1::smallint IS NULL OR shard = $1) AND ($2::text IS NULL OR facility = $2) AND ($3::text IS NULL OR slot = $3)
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
    pub async fn stock(&self, filter: StockFilter<'_>, limit: i64, as_of: i64) -> Result<Vec<StockLine>> {
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
        let mut snapshot = Snapshot { position: position(first)?, stock: Vec::with_capacity(rows.len()) };
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
            .map(|row| Ok((row.try_get(0)?, Place { shelf: row.try_get(1)?, zone: row.try_get(2)? })))
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

    /// Points of a device's series, newest first.
    pub async fn readings(
        &self,
        device: &str,
        name: Option<&str>,
        (from, to): (Option<When>, Option<When>),
        before: Option<(When, &str)>,
        limit: i64,
    ) -> Result<Vec<ReadingRow>> {
        Ok(sqlx::query_as(
            "SELECT at, device, name, value, text FROM reading
             WHERE device = $1 AND ($2::text IS NULL OR name = $2) AND ($3::timestamptz IS NULL OR at >= $3)
               AND ($4::timestamptz IS NULL OR at < $4) AND ($5::timestamptz IS NULL OR (at, name) < ($5, $6))
             ORDER BY at DESC, name DESC LIMIT $7",
        )
        .bind(device)
        .bind(name)
        .bind(from)
        .bind(to)
        .bind(before.map(|(at, _)| at))
        .bind(before.map(|(_, name)| name))
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }
}

fn position(row: &PgRow) -> std::result::Result<Position, sqlx::Error> {
    Ok(Position {
        epoch: row.try_get::<i32, _>("epoch")?.cast_unsigned(),
        shard: device_profiles::ShardId(row.try_get::<i16, _>("shard")?.cast_unsigned()),
        offset: row.try_get::<i64, _>("offset")?.cast_unsigned(),
    })
}

fn movement_id(row: &PgRow) -> std::result::Result<MovementId, sqlx::Error> {
    let ordinal = row.try_get::<i16, _>("ordinal")?.cast_unsigned();
    Ok(MovementId { position: position(row)?, ordinal })
}

fn confidence(row: &PgRow) -> std::result::Result<f64, sqlx::Error> {
    Ok(fold::Confidence(row.try_get::<i16, _>("confidence")?.cast_unsigned()).probability())
}

fn stock_line(row: &PgRow, as_of: i64) -> std::result::Result<StockLine, sqlx::Error> {
    Ok(StockLine {
        facility: row.try_get("facility")?,
        zone: row.try_get("zone")?,
        shelf: row.try_get("shelf")?,
        slot: row.try_get("slot")?,
        sku: row.try_get("sku")?,
        quantity: row.try_get("quantity")?,
        confidence: confidence(row)?,
        source: row.try_get("source")?,
        planned: row.try_get("planned")?,
        fresh_at: row.try_get("fresh_at")?,
        changed_at: row.try_get("changed_at")?,
        as_of: When(as_of),
    })
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
