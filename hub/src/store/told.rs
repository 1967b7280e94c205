//! What the fold decided, as the API and the feed tell it: rows of the outbox read back, and committed batches told alike.

use fold::{
    Event, EventKind, How, HubTime, Level, Movement, MovementId, Position, Principal, Whereabouts,
};
use serde::Serialize;
use sqlx::{
    FromRow, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};
use utoipa::ToSchema;

use super::when::When;

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

/// Binds where a page of events begins to be older than: time, shard, epoch, offset and ordinal, in this order.
pub(super) fn bind_before<O>(
    query: QueryAs<'_, Postgres, O, PgArguments>,
    before: Option<(When, MovementId)>,
) -> QueryAs<'_, Postgres, O, PgArguments> {
    query
        .bind(before.map(|(at, _)| at))
        .bind(before.map(|(_, id)| id.position.shard.0.cast_signed()))
        .bind(before.map(|(_, id)| id.position.epoch.cast_signed()))
        .bind(before.map(|(_, id)| id.position.offset.cast_signed()))
        .bind(before.map(|(_, id)| id.ordinal.cast_signed()))
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
    /// Which tag, and where it went, when it is an event of a tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<TagWent>,
}

/// Where a tag went.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TagWent {
    /// Its memory, upper-case hexadecimal.
    pub tag: String,
    /// The zone it was in.
    pub from: Option<String>,
    /// The zone it is in.
    pub to: Option<String>,
    /// How it departed, when it did.
    pub how: Option<&'static str>,
}

impl TagWent {
    fn of(kind: &EventKind) -> Option<Self> {
        let EventKind::Tag(told) = kind else { return None };
        let zone = |at: &Option<Whereabouts>| at.as_ref().map(|at| at.zone.to_string());
        Some(Self {
            tag: told.tag.to_string(),
            from: zone(&told.from),
            to: zone(&told.to),
            how: told.how.map(How::as_str),
        })
    }
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
            tag: TagWent::of(&event.kind),
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
    /// Sets readings of one microsecond apart; part of the list's cursor only.
    #[serde(skip)]
    pub tie: i16,
    /// The device.
    pub device: String,
    /// Series name, `stream.name`.
    pub name: String,
    /// The value, when it is a number.
    pub value: Option<f64>,
    /// The value, when it is a text.
    pub text: Option<String>,
}

/// The numbers of a series in one span of time.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct BucketRow {
    /// Where the span begins.
    pub at: When,
    /// The device.
    pub device: String,
    /// Series name, `stream.name`.
    pub name: String,
    /// Numbers in it; at least 1.
    pub count: i64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// The last.
    pub last: f64,
}

pub(super) fn position(row: &PgRow) -> std::result::Result<Position, sqlx::Error> {
    Ok(Position {
        epoch: row.try_get::<i32, _>("epoch")?.cast_unsigned(),
        shard: device_profiles::ShardId(row.try_get::<i16, _>("shard")?.cast_unsigned()),
        offset: row.try_get::<i64, _>("offset")?.cast_unsigned(),
    })
}

pub(super) fn movement_id(row: &PgRow) -> std::result::Result<MovementId, sqlx::Error> {
    let ordinal = row.try_get::<i16, _>("ordinal")?.cast_unsigned();
    Ok(MovementId { position: position(row)?, ordinal })
}

fn confidence(row: &PgRow) -> std::result::Result<f64, sqlx::Error> {
    Ok(fold::Confidence(row.try_get::<i16, _>("confidence")?.cast_unsigned()).probability())
}

pub(super) fn stock_line(row: &PgRow, as_of: i64) -> std::result::Result<StockLine, sqlx::Error> {
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
