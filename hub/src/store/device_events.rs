//! What the fold told of devices: that they began anew, lost readings, listen or do not, or are in trouble.

use fold::MovementId;
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, Row, postgres::PgRow};
use utoipa::ToSchema;

use super::{
    PgStore,
    fault::Fault,
    told::{bind_before, movement_id},
    when::When,
};

/// Something that was told of a device.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeviceEvent {
    /// Its id: position and ordinal.
    pub id: String,
    /// The facility.
    pub facility: String,
    /// `device_rebooted`, `source_loss`, `listening`, `deaf` or `reader_trouble`.
    pub kind: String,
    /// When, hub time.
    pub at: When,
    /// The device.
    pub device: Option<String>,
    /// What there is to say: `{boot}`, `{frames}`, `{antenna}` or `{text}`.
    #[schema(value_type = Object)]
    pub detail: Value,
}

impl FromRow<'_, PgRow> for DeviceEvent {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: movement_id(row)?.to_string(),
            facility: row.try_get("facility")?,
            kind: row.try_get("kind")?,
            at: row.try_get("at")?,
            device: row.try_get("device")?,
            detail: serde_json::from_str(row.try_get("detail")?).unwrap_or_default(),
        })
    }
}

/// Which events of devices to read, newest first.
#[derive(Debug, Clone, Copy)]
pub struct DeviceEventFilter<'a> {
    /// Of this facility.
    pub facility: &'a str,
    /// Of this device.
    pub device: Option<&'a str>,
    /// Of this kind.
    pub kind: Option<&'a str>,
    /// Older than this one.
    pub before: Option<(When, MovementId)>,
}

// The kinds are those of the index.
const EVENTS: &str = r#"
SELECT shard, epoch, "offset", ordinal, at, facility, kind, device, detail FROM event
WHERE facility = $1 AND kind IN ('device_rebooted', 'source_loss', 'listening', 'deaf', 'reader_trouble')
  AND ($2::text IS NULL OR device = $2) AND ($3::text IS NULL OR kind = $3)
  AND ($4::timestamptz IS NULL OR (at, shard, epoch, "offset", ordinal) < ($4, $5, $6, $7, $8))
ORDER BY at DESC, shard DESC, epoch DESC, "offset" DESC, ordinal DESC LIMIT $9
"#;

impl PgStore {
    /// What was told of a facility's devices, newest first.
    pub async fn device_events(
        &self,
        filter: DeviceEventFilter<'_>,
        limit: i64,
    ) -> Result<Vec<DeviceEvent>, Fault> {
        let query =
            sqlx::query_as(EVENTS).bind(filter.facility).bind(filter.device).bind(filter.kind);
        Ok(bind_before(query, filter.before).bind(limit).fetch_all(self.pool()).await?)
    }
}
