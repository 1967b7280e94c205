//! What master data has still to be told to the folds.

use std::collections::BTreeMap;

use device_profiles::FacilityId;
use fold::{Master, limits::MASTER_VALUES_MAX};
use sqlx::{PgConnection, Row};

use super::{PgStore, fault::Fault};

/// Publications taken at once.
const PUBLICATIONS_MAX: i64 = 256;

/// One publication: values of one facility, in the order of revisions.
#[derive(Debug, Clone, PartialEq)]
pub struct PublicationRow {
    /// Facility.
    pub facility: String,
    /// Its shard.
    pub shard: u16,
    /// Revision; increases in a facility.
    pub revision: u64,
    /// Who made the change.
    pub principal: String,
    /// `fold::Master` values as a JSON array.
    pub values: serde_json::Value,
}

/// What each facility's fold must learn, in an order in which nothing names what comes later.
#[derive(Default)]
pub(super) struct Publications(BTreeMap<FacilityId, Vec<Master>>);

impl Publications {
    pub(super) fn add(&mut self, facility: &FacilityId, value: Master) {
        self.0.entry(facility.clone()).or_default().push(value);
    }

    /// Makes a facility known to its shard, even if there is nothing else to learn.
    pub(super) fn touch(&mut self, facility: &FacilityId) {
        self.0.entry(facility.clone()).or_default();
    }

    /// Raises revisions and leaves the values to be published; answers the facilities concerned.
    pub(super) async fn publish(
        self,
        connection: &mut PgConnection,
        principal: &str,
    ) -> Result<Vec<FacilityId>, Fault> {
        let mut facilities = Vec::with_capacity(self.0.len());
        for (facility, values) in self.0 {
            // An empty list is still one publication.
            let mut chunks: Vec<&[Master]> = values.chunks(MASTER_VALUES_MAX).collect();
            if chunks.is_empty() {
                chunks.push(&[]);
            }
            for chunk in chunks {
                let json = serde_json::to_value(chunk)
                    .map_err(|error| Fault::Broken(format!("master data as JSON: {error}")))?;
                sqlx::query(
                    "WITH raised AS (
                         UPDATE facility SET revision = revision + 1 WHERE id = $1 RETURNING id, revision
                     )
                     INSERT INTO publication (facility, revision, principal, values_json)
                     SELECT id, revision, $2, $3 FROM raised",
                )
                .bind(facility.as_str())
                .bind(principal)
                .bind(json)
                .execute(&mut *connection)
                .await?;
            }
            facilities.push(facility);
        }
        Ok(facilities)
    }
}

/// A profile that a facility's fold does not know yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileRow {
    /// Facility.
    pub facility: String,
    /// Its shard.
    pub shard: u16,
    /// Hash of the content.
    pub hash: [u8; 32],
    /// Content.
    pub content: String,
}

impl PgStore {
    /// Publications that are not in the journal yet, oldest first within a facility.
    pub async fn unpublished(&self) -> Result<Vec<PublicationRow>, Fault> {
        let rows = sqlx::query(
            "SELECT p.facility, f.shard, p.revision, p.principal, p.values_json
             FROM publication p JOIN facility f ON f.id = p.facility
             WHERE p.published_at IS NULL ORDER BY p.facility, p.revision LIMIT $1",
        )
        .bind(PUBLICATIONS_MAX)
        .fetch_all(self.pool())
        .await?;
        let row = |row: &sqlx::postgres::PgRow| -> Result<PublicationRow, sqlx::Error> {
            Ok(PublicationRow {
                facility: row.try_get(0)?,
                shard: row.try_get::<i16, _>(1)?.unsigned_abs(),
                revision: row.try_get::<i64, _>(2)?.unsigned_abs(),
                principal: row.try_get(3)?,
                values: row.try_get(4)?,
            })
        };
        Ok(rows.iter().map(row).collect::<Result<_, _>>()?)
    }

    /// A publication is in the journal.
    pub async fn mark_published(&self, facility: &str, revision: u64) -> Result<(), Fault> {
        sqlx::query(
            "UPDATE publication SET published_at = now() WHERE facility = $1 AND revision = $2",
        )
        .bind(facility)
        .bind(revision.cast_signed())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// The newest revision of a facility; 0 without one.
    pub async fn newest_revision(&self, facility: &str) -> Result<u64, Fault> {
        let newest: Option<i64> =
            sqlx::query_scalar("SELECT max(revision) FROM publication WHERE facility = $1")
                .bind(facility)
                .fetch_one(self.pool())
                .await?;
        Ok(newest.unwrap_or(0).unsigned_abs())
    }

    /// Whether nothing of a facility waits to be published.
    pub async fn is_published(&self, facility: &str) -> Result<bool, Fault> {
        let waiting: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM publication WHERE facility = $1 AND published_at IS NULL)",
        )
        .bind(facility)
        .fetch_one(self.pool())
        .await?;
        Ok(!waiting)
    }

    /// The shard of a facility.
    pub async fn shard_of(&self, facility: &str) -> Result<Option<u16>, Fault> {
        let shard: Option<i16> = sqlx::query_scalar("SELECT shard FROM facility WHERE id = $1")
            .bind(facility)
            .fetch_optional(self.pool())
            .await?;
        Ok(shard.map(i16::unsigned_abs))
    }

    /// Profiles that devices of a facility use and its journal does not have.
    pub async fn unpublished_profiles(&self) -> Result<Vec<ProfileRow>, Fault> {
        let rows = sqlx::query(
            "SELECT u.facility, u.shard, p.hash, p.content
             FROM (SELECT DISTINCT d.facility, f.shard, d.profile FROM device d JOIN facility f ON f.id = d.facility
                   WHERE d.retired_at IS NULL) u
             JOIN profile p ON p.name = u.profile OR encode(p.hash, 'hex') = u.profile
             LEFT JOIN published_profile done ON done.facility = u.facility AND done.hash = p.hash
             WHERE done.hash IS NULL ORDER BY u.facility, p.created_at LIMIT $1",
        )
        .bind(PUBLICATIONS_MAX)
        .fetch_all(self.pool())
        .await?;
        let row = |row: &sqlx::postgres::PgRow| -> Result<ProfileRow, sqlx::Error> {
            let hash: Vec<u8> = row.try_get(2)?;
            Ok(ProfileRow {
                facility: row.try_get(0)?,
                shard: row.try_get::<i16, _>(1)?.unsigned_abs(),
                hash: hash.try_into().unwrap_or_default(),
                content: row.try_get(3)?,
            })
        };
        Ok(rows.iter().map(row).collect::<Result<_, _>>()?)
    }

    /// A profile is in the journal of a facility.
    pub async fn mark_profile_published(
        &self,
        facility: &str,
        hash: &[u8; 32],
    ) -> Result<(), Fault> {
        sqlx::query(
            "INSERT INTO published_profile (facility, hash) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .bind(facility)
        .bind(hash.as_slice())
        .execute(self.pool())
        .await?;
        Ok(())
    }
}
