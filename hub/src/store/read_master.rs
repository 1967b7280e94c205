//! Reading master data: what the API tells of it. Lists are keyset pages, in the order of their ids. What is retired is in no
//! list; only who explains the past still asks for it.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, types::Json};
use utoipa::ToSchema;

use super::{
    PgStore,
    fault::Fault,
    shapes::{NewAntenna, ZoneMobility},
    when::When,
};

type Result<T> = std::result::Result<T, Fault>;

/// A facility.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct Facility {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// An IANA time zone.
    pub time_zone: String,
    /// The shard that folds it; never changes.
    pub shard: i16,
    /// Grows with every change of its master data.
    pub revision: i64,
    /// When it was made.
    pub created_at: When,
}

/// A zone.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct Zone {
    /// Its facility.
    pub facility: String,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What kind of place it is: `shelf`, `exit`, `sale` or `fitting`.
    pub personality: String,
    /// How goods move there, where it is not as usual for its personality.
    #[schema(value_type = Option<ZoneMobility>)]
    pub mobility: Option<Json<ZoneMobility>>,
    /// Revision of its facility.
    pub revision: i64,
}

/// A shelf.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct Shelf {
    /// Its facility.
    pub facility: String,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The zone it stands in.
    pub zone: Option<String>,
    /// Revision of its facility.
    pub revision: i64,
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct Slot {
    /// Its facility.
    pub facility: String,
    /// Its id.
    pub id: String,
    /// Its shelf.
    pub shelf: String,
    /// Its name.
    pub name: String,
    /// Receipts that name no slot are booked here.
    pub receiving: bool,
    /// Revision of its facility.
    pub revision: i64,
}

/// A stock keeping unit.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct SkuItem {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Mass of one unit, milligrams.
    pub unit_weight_mg: Option<i64>,
    /// Standard deviation of the mass of one unit, milligrams.
    pub unit_sigma_mg: i64,
    /// GTIN.
    pub gtin: Option<String>,
    /// Grows with every change.
    pub revision: i64,
}

/// A SKU as it is known now, whether it is kept or retired.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct SkuNow {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Mass of one unit, milligrams.
    pub unit_weight_mg: Option<i64>,
    /// Since when it is kept no more.
    pub retired_at: Option<When>,
}

/// A line of the planogram.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct Line {
    /// The slot.
    pub slot: String,
    /// The SKU.
    pub sku: String,
    /// Which source counts it.
    pub source: String,
    /// How many fit.
    pub capacity: Option<i64>,
    /// Below this the line is low.
    pub min: Option<i64>,
}

/// The planogram of a facility.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Planogram {
    /// Its lines, by slot and SKU.
    pub lines: Vec<Line>,
    /// Revision of the facility.
    pub revision: i64,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct Device {
    /// Its id.
    pub id: String,
    /// Its facility.
    pub facility: String,
    /// Its name.
    pub name: String,
    /// What its bytes mean.
    pub profile: String,
    /// Where its declared changes go when they name no slot.
    pub slot: Option<String>,
    /// The device that publishes for it, if it does not speak for itself.
    pub gateway: Option<String>,
    /// Its load cells.
    #[schema(value_type = Vec<DeviceChannel>)]
    pub channels: Json<Vec<DeviceChannel>>,
    /// Its antennas.
    #[schema(value_type = Vec<NewAntenna>)]
    pub antennas: Json<Vec<NewAntenna>>,
    /// Since when it is disabled: it may not connect, and its frames are not believed.
    pub revoked_at: Option<When>,
    /// When it was made.
    pub created_at: When,
    /// Revision of its facility.
    pub revision: i64,
}

/// A load cell and the slot it carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceChannel {
    /// Its channel of the device.
    pub channel: String,
    /// The slot on it.
    pub slot: String,
    /// Smallest step it shows, milligrams.
    pub division_mg: i64,
    /// Standard error of a settled reading, milligrams.
    pub noise_mg: i64,
    /// Full scale, milligrams.
    pub capacity_mg: Option<i64>,
    /// What it shows when the slot is empty, milligrams.
    pub zero_mg: Option<i64>,
}

/// A device that tried to connect but is not enrolled.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct SeenDevice {
    /// The name it gave.
    pub name: String,
    /// Where it came from.
    pub peer: String,
    /// Why it was refused.
    pub reason: String,
    /// First time.
    pub first_at: When,
    /// Last time.
    pub last_at: When,
    /// How often.
    pub times: i64,
}

impl PgStore {
    /// Facilities after an id.
    pub async fn list_facilities(&self, after: Option<&str>, limit: i64) -> Result<Vec<Facility>> {
        Ok(sqlx::query_as(
            "SELECT id, name, time_zone, shard, revision, created_at FROM facility
             WHERE $1::text IS NULL OR id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }

    /// A facility.
    pub async fn facility(&self, id: &str) -> Result<Option<Facility>> {
        Ok(sqlx::query_as(
            "SELECT id, name, time_zone, shard, revision, created_at FROM facility WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(self.pool())
        .await?)
    }

    /// Zones of a facility: one, or those after an id.
    pub async fn list_zones(&self, q: InFacility<'_>) -> Result<Vec<Zone>> {
        Ok(sqlx::query_as(
            "SELECT z.facility, z.id, z.name, z.personality, z.mobility, f.revision FROM zone z JOIN facility f ON f.id = z.facility
             WHERE z.facility = $1 AND ($2::text IS NULL OR z.id = $2) AND ($3::text IS NULL OR z.id > $3)
             ORDER BY z.id LIMIT $4",
        )
        .bind(q.facility)
        .bind(q.id)
        .bind(q.after)
        .bind(q.limit)
        .fetch_all(self.pool())
        .await?)
    }

    /// Shelves of a facility: one, or those after an id.
    pub async fn list_shelves(&self, q: InFacility<'_>) -> Result<Vec<Shelf>> {
        Ok(sqlx::query_as(
            "SELECT s.facility, s.id, s.name, s.zone, f.revision FROM shelf s JOIN facility f ON f.id = s.facility
             WHERE s.facility = $1 AND ($2::text IS NULL OR s.id = $2) AND ($3::text IS NULL OR s.id > $3)
             ORDER BY s.id LIMIT $4",
        )
        .bind(q.facility)
        .bind(q.id)
        .bind(q.after)
        .bind(q.limit)
        .fetch_all(self.pool())
        .await?)
    }

    /// Slots of a facility: one, or those after an id.
    pub async fn list_slots(&self, q: InFacility<'_>) -> Result<Vec<Slot>> {
        Ok(sqlx::query_as(
            "SELECT s.facility, s.id, s.shelf, s.name, s.receiving, f.revision
             FROM slot s JOIN facility f ON f.id = s.facility
             WHERE s.facility = $1 AND ($2::text IS NULL OR s.id = $2) AND ($3::text IS NULL OR s.id > $3)
             ORDER BY s.id LIMIT $4",
        )
        .bind(q.facility)
        .bind(q.id)
        .bind(q.after)
        .bind(q.limit)
        .fetch_all(self.pool())
        .await?)
    }

    /// SKUs after an id.
    pub async fn list_skus(&self, after: Option<&str>, limit: i64) -> Result<Vec<SkuItem>> {
        Ok(sqlx::query_as(
            "SELECT id, name, unit_weight_mg, unit_sigma_mg, gtin, revision FROM sku
             WHERE retired_at IS NULL AND ($1::text IS NULL OR id > $1) ORDER BY id LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }

    /// A SKU.
    pub async fn sku(&self, id: &str) -> Result<Option<SkuItem>> {
        Ok(sqlx::query_as(
            "SELECT id, name, unit_weight_mg, unit_sigma_mg, gtin, revision FROM sku
             WHERE id = $1 AND retired_at IS NULL",
        )
        .bind(id)
        .fetch_optional(self.pool())
        .await?)
    }

    /// A SKU as it is known now, also one that is retired.
    pub async fn sku_now(&self, id: &str) -> Result<Option<SkuNow>> {
        Ok(sqlx::query_as("SELECT id, name, unit_weight_mg, retired_at FROM sku WHERE id = $1")
            .bind(id)
            .fetch_optional(self.pool())
            .await?)
    }

    /// The planogram of a facility; `None` when there is no such facility.
    pub async fn planogram(&self, facility: &str) -> Result<Option<Planogram>> {
        let Some(found) = self.facility(facility).await? else { return Ok(None) };
        let lines = sqlx::query_as(
            "SELECT slot, sku, source, capacity, min FROM planogram_line WHERE facility = $1 ORDER BY slot, sku",
        )
        .bind(facility)
        .fetch_all(self.pool())
        .await?;
        Ok(Some(Planogram { lines, revision: found.revision }))
    }

    /// Devices: one, or those after an id, of a facility or of all.
    pub async fn list_devices(
        &self,
        facility: Option<&str>,
        id: Option<&str>,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Device>> {
        Ok(sqlx::query_as(
            "SELECT d.id, d.facility, d.name, d.profile, d.slot, d.gateway, d.revoked_at, d.created_at, f.revision,
                    COALESCE((SELECT jsonb_agg(jsonb_build_object(
                         'channel', c.channel, 'slot', c.slot, 'division_mg', c.division_mg, 'noise_mg', c.noise_mg,
                         'capacity_mg', c.capacity_mg, 'zero_mg', c.zero_mg) ORDER BY c.channel)
                     FROM device_channel c WHERE c.device = d.id), '[]') AS channels,
                    COALESCE((SELECT jsonb_agg(jsonb_build_object(
                         'port', a.port, 'zone', a.zone, 'slot', a.slot, 'outside', a.outside) ORDER BY a.port)
                     FROM antenna a WHERE a.device = d.id), '[]') AS antennas
             FROM device d JOIN facility f ON f.id = d.facility
             WHERE d.retired_at IS NULL AND ($1::text IS NULL OR d.facility = $1) AND ($2::text IS NULL OR d.id = $2)
               AND ($3::text IS NULL OR d.id > $3) ORDER BY d.id LIMIT $4",
        )
        .bind(facility)
        .bind(id)
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }

    /// Whether a device is enrolled, or was and is retired.
    pub async fn knows_device(&self, id: &str) -> Result<bool> {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM device WHERE id = $1)")
            .bind(id)
            .fetch_one(self.pool())
            .await?)
    }

    /// Devices that tried to connect but are not enrolled, newest first, before a time and name.
    pub async fn list_seen(
        &self,
        before: Option<(When, &str)>,
        limit: i64,
    ) -> Result<Vec<SeenDevice>> {
        Ok(sqlx::query_as(
            "SELECT name, peer, reason, first_at, last_at, times FROM seen_device
             WHERE $1::timestamptz IS NULL OR (last_at, name) < ($1, $2) ORDER BY last_at DESC, name DESC LIMIT $3",
        )
        .bind(before.map(|(at, _)| at))
        .bind(before.map(|(_, name)| name))
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }
}

/// Which things of a facility to read.
#[derive(Debug, Clone, Copy)]
pub struct InFacility<'a> {
    /// The facility.
    pub facility: &'a str,
    /// This one only.
    pub id: Option<&'a str>,
    /// Those after this id.
    pub after: Option<&'a str>,
    /// At most so many.
    pub limit: i64,
}
