//! Whether a device is believed: revoked as a whole, and enabled again.
//!
//! A revoked device keeps its place in the lists, its cells and its credentials; none of these is accepted until it is enabled
//! again. Its fold is told, so that what it sent and what is still on its way is refused with that reason.

use std::collections::BTreeSet;

use device_profiles::{DeviceId, FacilityId};
use fold::Master;
use sqlx::PgConnection;

use super::{
    PgStore, fault::Fault, master_rows as rows, master_writer::device_spec,
    publication::Publications,
};

/// How a device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may connect, and its frames are believed.
    Enabled,
    /// It may not, and they are not.
    Revoked,
}

impl PgStore {
    /// Sets how a device stands; `None` when there is no such device. Answers the facilities with something to publish: none
    /// when it stood so already.
    pub async fn set_standing(
        &self,
        device: &DeviceId,
        standing: Standing,
        principal: &str,
    ) -> Result<Option<Vec<FacilityId>>, Fault> {
        let mut transaction = self.master_transaction().await?;
        let ids = [device.as_str()];
        let Some(spec) = rows::devices(&mut transaction, &ids).await?.remove(device.as_str())
        else {
            return Ok(None);
        };
        let changed = sqlx::query(
            "UPDATE device SET revoked_at = CASE WHEN $2 THEN now() END
             WHERE id = $1 AND (revoked_at IS NOT NULL) <> $2",
        )
        .bind(device.as_str())
        .bind(standing == Standing::Revoked)
        .execute(&mut *transaction)
        .await?;
        if changed.rows_affected() == 0 {
            return Ok(Some(Vec::new()));
        }
        let mut publications = Publications::default();
        let told = match standing {
            Standing::Enabled => Master::Device(device_spec(&spec)),
            Standing::Revoked => Master::DeviceRevoked(device.clone()),
        };
        publications.add(&spec.facility, told);
        let facilities = publications.publish(&mut transaction, principal).await?;
        transaction.commit().await?;
        Ok(Some(facilities))
    }
}

/// Those of these devices that are revoked.
pub(super) async fn revoked(
    connection: &mut PgConnection,
    ids: &[&str],
) -> Result<BTreeSet<String>, Fault> {
    let found: Vec<String> = sqlx::query_scalar(
        "SELECT id FROM device WHERE id = ANY($1) AND revoked_at IS NOT NULL AND retired_at IS NULL",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().collect())
}
