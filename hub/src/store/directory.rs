//! Devices and their credentials, read whole for the endpoint's cache; and those that tried and are not enrolled.

use std::{collections::HashSet, sync::Arc};

use futures_util::TryStreamExt as _;
use sqlx::Row;

use super::{PgStore, fault::Fault};
use crate::tls::Fingerprint;

/// A device as the endpoint needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    /// Its id.
    pub id: String,
    /// Its facility.
    pub facility: String,
    /// The facility's shard.
    pub shard: u16,
    /// Content of its profile; one text for all devices that have it.
    pub profile: Arc<str>,
    /// The device that publishes for it.
    pub gateway: Option<String>,
    /// It may not connect.
    pub revoked: bool,
    /// SHA-256 of each credential that stands.
    pub secrets: Vec<[u8; 32]>,
    /// Each certificate that stands and has not expired.
    pub certificates: Vec<Fingerprint>,
}

/// A device that tried to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it called itself.
    pub name: String,
    /// Its address, without the port.
    pub peer: String,
    /// Why it was refused.
    pub reason: String,
    /// How often since the last call.
    pub times: i64,
}

impl PgStore {
    /// Every device with its standing credentials and the newest content of its profile that its facility's journal holds: a
    /// frame must not name a profile that its fold does not know yet.
    pub async fn directory(&self) -> Result<Vec<DeviceRow>, Fault> {
        let mut rows = sqlx::query(
            "SELECT d.id, d.facility, f.shard, d.gateway, d.revoked_at IS NOT NULL AS revoked,
                    coalesce((SELECT p.content FROM profile p
                              JOIN published_profile known ON known.facility = d.facility AND known.hash = p.hash
                              WHERE p.name = d.profile OR encode(p.hash, 'hex') = d.profile
                              ORDER BY p.created_at DESC LIMIT 1), '') AS profile,
                    coalesce((SELECT array_agg(c.secret_sha256 ORDER BY c.id) FROM credential c
                              WHERE c.device = d.id AND c.revoked_at IS NULL AND c.kind = 'secret'), '{}') AS secrets,
                    coalesce((SELECT array_agg(c.secret_sha256 ORDER BY c.id) FROM credential c
                              WHERE c.device = d.id AND c.revoked_at IS NULL AND c.kind = 'certificate'
                                AND (c.expires_at IS NULL OR c.expires_at > now())), '{}') AS certificates
             FROM device d JOIN facility f ON f.id = d.facility WHERE d.retired_at IS NULL ORDER BY d.id",
        )
        // One by one: rows as they come from PostgreSQL are several times what is kept of them.
        .fetch(self.pool());
        let (mut devices, mut profiles) = (Vec::new(), HashSet::<Arc<str>>::new());
        while let Some(row) = rows.try_next().await? {
            let secrets: Vec<Vec<u8>> = row.try_get("secrets")?;
            let certificates: Vec<Vec<u8>> = row.try_get("certificates")?;
            let text: &str = row.try_get("profile")?;
            let profile = profiles.get(text).cloned().unwrap_or_else(|| text.into());
            profiles.insert(Arc::clone(&profile));
            devices.push(DeviceRow {
                id: row.try_get("id")?,
                facility: row.try_get("facility")?,
                shard: row.try_get::<i16, _>("shard")?.unsigned_abs(),
                profile,
                gateway: row.try_get("gateway")?,
                revoked: row.try_get("revoked")?,
                secrets: secrets.into_iter().filter_map(|s| s.try_into().ok()).collect(),
                certificates: certificates
                    .into_iter()
                    .filter_map(|c| c.try_into().ok().map(Fingerprint))
                    .collect(),
            });
        }
        Ok(devices)
    }

    /// Keeps a profile's content under its hash.
    pub async fn keep_profile(
        &self,
        name: &str,
        hash: &[u8; 32],
        content: &str,
    ) -> Result<(), Fault> {
        sqlx::query(
            "INSERT INTO profile (hash, name, content) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(hash.as_slice())
        .bind(name)
        .bind(content)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Content of every profile there ever was.
    pub async fn profile_contents(&self) -> Result<Vec<String>, Fault> {
        Ok(sqlx::query_scalar("SELECT content FROM profile ORDER BY created_at, hash")
            .fetch_all(self.pool())
            .await?)
    }

    /// Adds to the list of devices seen and not enrolled; of the least recently seen, those beyond `keep` are forgotten.
    pub async fn note_seen(&self, seen: &[Seen], keep: i64) -> Result<(), Fault> {
        sqlx::query(
            "INSERT INTO seen_device (name, peer, reason, times)
             SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[])
             ON CONFLICT (name) DO UPDATE SET peer = excluded.peer, reason = excluded.reason, last_at = now(),
                                              times = seen_device.times + excluded.times",
        )
        .bind(seen.iter().map(|s| s.name.as_str()).collect::<Vec<_>>())
        .bind(seen.iter().map(|s| s.peer.as_str()).collect::<Vec<_>>())
        .bind(seen.iter().map(|s| s.reason.as_str()).collect::<Vec<_>>())
        .bind(seen.iter().map(|s| s.times).collect::<Vec<_>>())
        .execute(self.pool())
        .await?;
        sqlx::query(
            "DELETE FROM seen_device WHERE name IN (SELECT name FROM seen_device ORDER BY last_at DESC OFFSET $1)",
        )
        .bind(keep)
        .execute(self.pool())
        .await?;
        Ok(())
    }
}
