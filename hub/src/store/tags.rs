//! Tags as the fold left them, and what it told of them.
//!
//! A tag's row is written when something changes for it, not with every read: its `last_read` and `probability` are those of
//! that moment. Tags are named by their memory in upper-case hexadecimal.

use fold::{MovementId, Position};
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, Row, postgres::PgRow};
use utoipa::ToSchema;

use super::{
    PgStore,
    fault::Fault,
    told::{bind_before, movement_id, position},
    when::When,
};

type Result<T> = std::result::Result<T, Fault>;

/// A tag in a facility.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct TagRow {
    /// The facility.
    pub facility: String,
    /// Its memory, hexadecimal.
    pub tag: String,
    /// It is present; otherwise it departed.
    pub present: bool,
    /// Since when.
    pub since: When,
    /// When it was read last, as of the last change.
    pub last_read: When,
    /// Where it is.
    pub zone: Option<String>,
    /// The reader that has it.
    pub device: Option<String>,
    /// The port of its antenna.
    pub antenna: Option<i16>,
    /// The slot its antenna looks at.
    pub slot: Option<String>,
    /// The SKU it is a unit of.
    pub sku: Option<String>,
    /// How likely it was present at the last change, 0 to 1.
    pub probability: f32,
}

/// Which tags of a facility to read.
#[derive(Debug, Clone, Copy, Default)]
pub struct TagFilter<'a> {
    /// In this zone.
    pub zone: Option<&'a str>,
    /// Of this SKU.
    pub sku: Option<&'a str>,
    /// In this slot.
    pub slot: Option<&'a str>,
    /// Present ones only, or departed ones only.
    pub present: Option<bool>,
    /// After this tag.
    pub after: Option<&'a str>,
}

/// Something that was told of a tag.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TagEvent {
    /// Its id: position and ordinal.
    pub id: String,
    /// The facility.
    pub facility: String,
    /// `arrived`, `returned`, `moved` or `departed`.
    pub kind: String,
    /// When, hub time.
    pub at: When,
    /// The tag, hexadecimal.
    pub tag: String,
    /// The SKU it is a unit of.
    pub sku: Option<String>,
    /// Where it was: `{zone, device, antenna, slot}`.
    #[schema(value_type = Option<Object>)]
    pub from: Option<Value>,
    /// Where it is: `{zone, device, antenna, slot}`.
    #[schema(value_type = Option<Object>)]
    pub to: Option<Value>,
    /// How it departed: `silence`, `exit`, `sale`, `elsewhere` or `declared`.
    pub how: Option<String>,
    /// The facility that has it now, if that is why.
    pub elsewhere: Option<String>,
    /// How likely that is, 0 to 1.
    pub probability: f64,
    /// When it was read last, hub time.
    pub last_read: Option<When>,
    /// The journal entries that read it last, newest first.
    pub reads: Vec<String>,
}

impl FromRow<'_, PgRow> for TagEvent {
    fn from_row(row: &PgRow) -> std::result::Result<Self, sqlx::Error> {
        let at = position(row)?;
        let said: Value = serde_json::from_str(row.try_get("detail")?).unwrap_or_default();
        let place = |name: &str| said.get(name).filter(|place| place.is_object()).cloned();
        let text = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
        let reads = said.get("reads").and_then(Value::as_array).into_iter().flatten();
        Ok(Self {
            id: movement_id(row)?.to_string(),
            facility: row.try_get("facility")?,
            kind: row.try_get("kind")?,
            at: row.try_get("at")?,
            tag: row.try_get("tag")?,
            sku: row.try_get("sku")?,
            from: place("from"),
            to: place("to"),
            how: text("how"),
            elsewhere: text("elsewhere"),
            probability: said.get("probability").and_then(Value::as_f64).unwrap_or(0.0),
            last_read: said.get("last_read_us").and_then(Value::as_i64).map(When),
            reads: reads
                .filter_map(Value::as_u64)
                .map(|offset| Position { offset, ..at }.to_string())
                .collect(),
        })
    }
}

/// Which events of tags to read, newest first.
#[derive(Debug, Clone, Copy, Default)]
pub struct TagEventFilter<'a> {
    /// Of this facility.
    pub facility: Option<&'a str>,
    /// Of these tags.
    pub tags: Option<&'a [String]>,
    /// Of this kind.
    pub kind: Option<&'a str>,
    /// From or to this zone.
    pub zone: Option<&'a str>,
    /// Older than this one.
    pub before: Option<(When, MovementId)>,
}

/// An event of a tag with what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct TagEventReasons {
    /// The event.
    pub event: TagEvent,
    /// Offsets of its evidence, its own entry first.
    pub evidence: Vec<u64>,
}

/// A tag that two facilities have.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Twice {
    /// The tag, hexadecimal.
    pub tag: String,
    /// The facility that had it first.
    pub facility: String,
    /// That one's shard.
    pub shard: i16,
    /// The facility it arrived in later.
    pub elsewhere: String,
    /// When it arrived there.
    pub arrived: When,
}

/// Tags of a facility.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct TagCount {
    /// The facility.
    pub facility: String,
    /// Tags that are present.
    pub present: i64,
    /// Tags that departed of late.
    pub departed: i64,
}

const TAGS: &str = r#"
SELECT facility, tag, present, since, last_read, zone, device, antenna, slot, sku, probability FROM tag
WHERE facility = $1 AND ($2::text IS NULL OR zone = $2) AND ($3::text IS NULL OR sku = $3)
  AND ($4::text IS NULL OR slot = $4) AND ($5::bool IS NULL OR present = $5) AND ($6::text IS NULL OR tag > $6)
ORDER BY tag LIMIT $7
"#;

// One facility after the other, because the table's key begins with it.
const NAMED: &str = r#"
SELECT t.facility, t.tag, t.present, t.since, t.last_read, t.zone, t.device, t.antenna, t.slot, t.sku, t.probability
FROM facility f JOIN tag t ON t.facility = f.id AND t.tag = ANY($1)
WHERE ($2::text IS NULL OR f.id = $2) AND ($3::text IS NULL OR (t.facility, t.tag) > ($3, $4))
ORDER BY t.facility, t.tag LIMIT $5
"#;

const EVENTS: &str = r#"
SELECT shard, epoch, "offset", ordinal, at, facility, kind, tag, sku, detail FROM event
WHERE tag IS NOT NULL AND ($1::text IS NULL OR facility = $1) AND ($2::text[] IS NULL OR tag = ANY($2))
  AND ($3::text IS NULL OR kind = $3)
  AND ($4::text IS NULL OR CASE WHEN tag IS NOT NULL
        THEN $4 IN (detail::jsonb -> 'from' ->> 'zone', detail::jsonb -> 'to' ->> 'zone') END)
  AND ($5::timestamptz IS NULL OR (at, shard, epoch, "offset", ordinal) < ($5, $6, $7, $8, $9))
ORDER BY at DESC, shard DESC, epoch DESC, "offset" DESC, ordinal DESC LIMIT $10
"#;

const TWICE: &str = r#"
SELECT a.tag, a.facility, f.shard, b.facility AS elsewhere, b.since AS arrived
FROM tag a JOIN tag b ON b.tag = a.tag AND b.present AND b.facility <> a.facility AND b.since > a.since
           JOIN facility f ON f.id = a.facility
WHERE a.present AND a.tag = ANY($1)
ORDER BY a.tag, a.facility, b.since DESC LIMIT $2
"#;

impl PgStore {
    /// Tags of a facility.
    pub async fn tags(
        &self,
        facility: &str,
        filter: TagFilter<'_>,
        limit: i64,
    ) -> Result<Vec<TagRow>> {
        Ok(sqlx::query_as(TAGS)
            .bind(facility)
            .bind(filter.zone)
            .bind(filter.sku)
            .bind(filter.slot)
            .bind(filter.present)
            .bind(filter.after)
            .bind(limit)
            .fetch_all(self.pool())
            .await?)
    }

    /// Tags of these names, in one facility or in every one that knows them.
    pub async fn tags_named(
        &self,
        names: &[String],
        facility: Option<&str>,
        after: Option<(&str, &str)>,
        limit: i64,
    ) -> Result<Vec<TagRow>> {
        Ok(sqlx::query_as(NAMED)
            .bind(names)
            .bind(facility)
            .bind(after.map(|(facility, _)| facility))
            .bind(after.map(|(_, tag)| tag))
            .bind(limit)
            .fetch_all(self.pool())
            .await?)
    }

    /// What was told of tags, newest first.
    pub async fn tag_events(
        &self,
        filter: TagEventFilter<'_>,
        limit: i64,
    ) -> Result<Vec<TagEvent>> {
        let query = sqlx::query_as(EVENTS)
            .bind(filter.facility)
            .bind(filter.tags)
            .bind(filter.kind)
            .bind(filter.zone);
        Ok(bind_before(query, filter.before).bind(limit).fetch_all(self.pool()).await?)
    }

    /// An event of a tag with what it rests on.
    pub async fn tag_event(&self, id: MovementId) -> Result<Option<TagEventReasons>> {
        let row = sqlx::query(
            r#"SELECT shard, epoch, "offset", ordinal, at, facility, kind, tag, sku, detail, evidence FROM event
               WHERE shard = $1 AND epoch = $2 AND "offset" = $3 AND ordinal = $4 AND tag IS NOT NULL"#,
        )
        .bind(id.position.shard.0.cast_signed())
        .bind(id.position.epoch.cast_signed())
        .bind(id.position.offset.cast_signed())
        .bind(id.ordinal.cast_signed())
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let own = id.position.offset;
        let reads: Option<Vec<i64>> = row.try_get("evidence")?;
        let reads = reads.unwrap_or_default().into_iter().map(i64::cast_unsigned);
        let evidence = std::iter::once(own).chain(reads.filter(|read| *read != own)).collect();
        Ok(Some(TagEventReasons { event: TagEvent::from_row(&row)?, evidence }))
    }

    /// What the cycle count of the entry at a position found, as the fold told it.
    pub async fn cycle_count_at(&self, at: Position) -> Result<Option<Value>> {
        let said: Option<String> = sqlx::query_scalar(
            r#"SELECT detail FROM event
               WHERE shard = $1 AND epoch = $2 AND "offset" = $3 AND kind = 'cycle_count'"#,
        )
        .bind(at.shard.0.cast_signed())
        .bind(at.epoch.cast_signed())
        .bind(at.offset.cast_signed())
        .fetch_optional(self.pool())
        .await?;
        Ok(said.and_then(|said| serde_json::from_str(&said).ok()))
    }

    /// Of these tags, those that two facilities have: the one that had it first, and the newest of the others.
    pub async fn tags_twice(&self, names: &[String], limit: i64) -> Result<Vec<Twice>> {
        Ok(sqlx::query_as(TWICE).bind(names).bind(limit).fetch_all(self.pool()).await?)
    }

    /// Present tags after one, in the order of their names: a step of a walk over all of them.
    pub async fn tags_present_after(&self, after: &str, limit: i64) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(
            "SELECT tag FROM tag WHERE present AND tag > $1 ORDER BY tag LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }

    /// How many tags each facility has.
    pub async fn tag_counts(&self) -> Result<Vec<TagCount>> {
        Ok(sqlx::query_as(
            "SELECT facility, count(*) FILTER (WHERE present) AS present,
                    count(*) FILTER (WHERE NOT present) AS departed
             FROM tag GROUP BY facility ORDER BY facility",
        )
        .fetch_all(self.pool())
        .await?)
    }
}
