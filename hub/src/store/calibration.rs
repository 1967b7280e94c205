//! Calibrations: master data of a cell, each kept under the revision that published it.

use device_profiles::{Channel, DeviceId, FacilityId, Milligrams, SlotId};
use fold::Master;
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;

use super::{PgStore, fault::Fault, master_rows::id, publication::Publications, when::When};

/// A calibration to be applied.
#[derive(Debug, Clone)]
pub struct NewCalibration<'a> {
    /// The device.
    pub device: &'a str,
    /// Its channel.
    pub channel: &'a str,
    /// The slot it carried while it was measured.
    pub slot: &'a str,
    /// Raw reading of the empty slot, milligrams.
    pub zero_mg: i64,
    /// Scale in millionths.
    pub scale_ppm: i64,
    /// The weight it was measured with, milligrams.
    pub known_mg: i64,
    /// How far off it was when it was verified, milligrams.
    pub error_mg: i64,
    /// Who applies it.
    pub principal: &'a str,
}

/// A calibration that was applied: mass = (raw − zero) × scale.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
#[schema(as = AppliedCalibration)]
pub struct Applied {
    /// Its facility.
    pub facility: String,
    /// The revision that published it.
    pub revision: i64,
    /// The device.
    pub device: String,
    /// Its channel.
    pub channel: String,
    /// The slot it carried.
    pub slot: String,
    /// Raw reading of the empty slot, milligrams.
    pub zero_mg: i64,
    /// Scale in millionths.
    pub scale_ppm: i64,
    /// The weight it was measured with, milligrams.
    pub known_mg: i64,
    /// How far off it was when it was verified, milligrams.
    pub error_mg: i64,
    /// Who applied it.
    pub principal: String,
    /// When.
    pub made_at: When,
}

impl PgStore {
    /// Writes a calibration and leaves it to be published. `None` when the cell does not carry that slot any more.
    pub async fn calibrate(&self, new: NewCalibration<'_>) -> Result<Option<Applied>, Fault> {
        let mut transaction = self.master_transaction().await?;
        let facility: Option<String> = sqlx::query_scalar(
            "SELECT c.facility FROM device_channel c JOIN device d ON d.id = c.device
             WHERE c.device = $1 AND c.channel = $2 AND c.slot = $3 AND d.retired_at IS NULL",
        )
        .bind(new.device)
        .bind(new.channel)
        .bind(new.slot)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(facility) = facility else { return Ok(None) };
        let facility: FacilityId = id(&facility)?;
        let (device, channel, slot): (DeviceId, Channel, SlotId) =
            (id(new.device)?, id(new.channel)?, id(new.slot)?);
        let mut publications = Publications::default();
        let value = Master::Calibration {
            device,
            channel,
            slot,
            zero: Milligrams(new.zero_mg),
            scale_ppm: new.scale_ppm,
        };
        publications.add(&facility, value);
        publications.publish(&mut transaction, new.principal).await?;
        let applied = sqlx::query_as(
            "INSERT INTO calibration (facility, revision, device, channel, slot, zero_mg, scale_ppm, known_mg, error_mg, principal)
             SELECT id, revision, $2, $3, $4, $5, $6, $7, $8, $9 FROM facility WHERE id = $1 RETURNING *",
        )
        .bind(facility.as_str())
        .bind(new.device)
        .bind(new.channel)
        .bind(new.slot)
        .bind(new.zero_mg)
        .bind(new.scale_ppm)
        .bind(new.known_mg)
        .bind(new.error_mg)
        .bind(new.principal)
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Some(applied))
    }

    /// Calibrations of a cell, newest first, from before a revision on.
    pub async fn calibrations(
        &self,
        device: &str,
        channel: &str,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Applied>, Fault> {
        Ok(sqlx::query_as(
            "SELECT * FROM calibration WHERE device = $1 AND channel = $2 AND ($3::bigint IS NULL OR revision < $3)
             ORDER BY revision DESC LIMIT $4",
        )
        .bind(device)
        .bind(channel)
        .bind(before)
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }
}
