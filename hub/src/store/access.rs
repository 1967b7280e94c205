//! Credentials of devices, profiles, and the answers remembered by Idempotency-Key.

use device_profiles::{Profile, ProfileHash};
use fold::Position;
use serde::Serialize;
use sqlx::{FromRow, Row};
use utoipa::ToSchema;

use super::{PgStore, fault::Fault, master::MintedCredential, told::hex, when::When};
use crate::tls::Fingerprint;

type Result<T> = std::result::Result<T, Fault>;

/// For how long an answer is remembered, in days. Folds remember the key itself for a day.
pub const IDEMPOTENCY_DAYS: i32 = 30;

/// A credential of a device, without its secret.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct Credential {
    /// Its id.
    pub id: String,
    /// The MQTT username: the device's id.
    pub username: String,
    /// `secret` (a password) or `certificate`.
    pub kind: String,
    /// SHA-256 of a certificate, 64 hex digits.
    pub sha256: Option<String>,
    /// When a certificate ends, if that is known.
    pub expires_at: Option<When>,
    /// When it was made.
    pub created_at: When,
    /// Since when it is not accepted.
    pub revoked_at: Option<When>,
}

/// A profile, named by the hash of its text.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ProfileItem {
    /// SHA-256 of its text, 64 hex digits.
    pub hash: String,
    /// Its name. Several texts may have one; devices that name it get the newest.
    pub name: String,
    /// When it was added.
    pub created_at: When,
}

impl FromRow<'_, sqlx::postgres::PgRow> for ProfileItem {
    fn from_row(row: &sqlx::postgres::PgRow) -> std::result::Result<Self, sqlx::Error> {
        Ok(Self {
            hash: hex(row.try_get("hash")?),
            name: row.try_get("name")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// What is known of an Idempotency-Key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// The key is new; it is now taken for this request.
    New,
    /// The same request was made; this is where it stands in the journal, if that is known.
    Same(Option<Position>),
    /// Another request was made with it.
    Other,
}

/// What came of adding a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is a credential now.
    Yes,
    /// The device has too many credentials.
    TooMany,
    /// It is a standing credential already, of this device or another.
    Taken,
}

impl PgStore {
    /// Adds a credential unless the device has `most` in force already; false then.
    pub async fn add_credential(
        &self,
        device: &str,
        minted: &MintedCredential,
        most: i64,
    ) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO credential (id, device, secret_sha256)
             SELECT $1, $2, $3
             WHERE (SELECT count(*) FROM credential WHERE device = $2 AND revoked_at IS NULL) < $4",
        )
        .bind(&minted.id)
        .bind(device)
        .bind(minted.secret_sha256.as_slice())
        .bind(most)
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Adds a certificate as a credential, unless the device has `most` credentials in force already or the certificate is one
    /// of a device.
    pub async fn add_certificate(
        &self,
        device: &str,
        id: &str,
        certificate: Fingerprint,
        expires_at: Option<When>,
        most: i64,
    ) -> Result<Added> {
        let row = sqlx::query(
            "WITH room AS (
                 SELECT (SELECT count(*) FROM credential WHERE device = $2 AND revoked_at IS NULL) < $5 AS is_there
             ), added AS (
                 INSERT INTO credential (id, device, secret_sha256, kind, expires_at)
                 SELECT $1, $2, $3, 'certificate', $4 FROM room WHERE is_there
                 ON CONFLICT (secret_sha256) WHERE kind = 'certificate' AND revoked_at IS NULL DO NOTHING
                 RETURNING id
             )
             SELECT EXISTS (SELECT 1 FROM added) AS added, is_there FROM room",
        )
        .bind(id)
        .bind(device)
        .bind(certificate.0.as_slice())
        .bind(expires_at)
        .bind(most)
        .fetch_one(self.pool())
        .await?;
        Ok(match (row.try_get("added")?, row.try_get("is_there")?) {
            (true, _) => Added::Yes,
            (false, true) => Added::Taken,
            (false, false) => Added::TooMany,
        })
    }

    /// Credentials of a device after an id.
    pub async fn list_credentials(
        &self,
        device: &str,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Credential>> {
        Ok(sqlx::query_as(
            "SELECT id, device AS username, kind, CASE kind WHEN 'certificate' THEN encode(secret_sha256, 'hex') END AS sha256,
                    expires_at, created_at, revoked_at FROM credential
             WHERE device = $1 AND ($2::text IS NULL OR id > $2) ORDER BY id LIMIT $3",
        )
        .bind(device)
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }

    /// Revokes a credential; false when the device has no such one.
    pub async fn revoke_credential(&self, device: &str, id: &str) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE credential SET revoked_at = COALESCE(revoked_at, now()) WHERE device = $1 AND id = $2",
        )
        .bind(device)
        .bind(id)
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Adds a profile; false when its text is there already.
    pub async fn add_profile(&self, profile: &Profile) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO profile (hash, name, content) VALUES ($1, $2, $3) ON CONFLICT (hash) DO NOTHING",
        )
        .bind(profile.hash.0.as_slice())
        .bind(profile.name.as_str())
        .bind(&profile.text)
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Profiles after a hash.
    pub async fn list_profiles(
        &self,
        after: Option<ProfileHash>,
        limit: i64,
    ) -> Result<Vec<ProfileItem>> {
        Ok(sqlx::query_as(
            "SELECT hash, name, created_at FROM profile WHERE $1::bytea IS NULL OR hash > $1 ORDER BY hash LIMIT $2",
        )
        .bind(after.map(|hash| hash.0.to_vec()))
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }

    /// A profile.
    pub async fn profile_item(&self, hash: ProfileHash) -> Result<Option<ProfileItem>> {
        Ok(sqlx::query_as("SELECT hash, name, created_at FROM profile WHERE hash = $1")
            .bind(hash.0.as_slice())
            .fetch_optional(self.pool())
            .await?)
    }

    /// The text of a profile.
    pub async fn profile_text(&self, hash: ProfileHash) -> Result<Option<String>> {
        Ok(sqlx::query_scalar("SELECT content FROM profile WHERE hash = $1")
            .bind(hash.0.as_slice())
            .fetch_optional(self.pool())
            .await?)
    }

    /// Takes an Idempotency-Key for a request, or says what it was taken for.
    pub async fn take_key(
        &self,
        facility: &str,
        key: &str,
        request_sha256: [u8; 32],
    ) -> Result<KeyState> {
        let row = sqlx::query(
            r#"WITH gone AS (
                   DELETE FROM idempotency WHERE ctid IN (
                       SELECT ctid FROM idempotency WHERE made_at < now() - make_interval(days => $4)
                       ORDER BY made_at LIMIT 8 FOR UPDATE SKIP LOCKED)
               ), taken AS (
                   INSERT INTO idempotency (facility, key, request_sha256) VALUES ($1, $2, $3)
                   ON CONFLICT (facility, key) DO NOTHING RETURNING key
               )
               SELECT EXISTS (SELECT 1 FROM taken) AS new, i.request_sha256, i.shard, i.epoch, i."offset"
               FROM (SELECT 1) one LEFT JOIN idempotency i ON i.facility = $1 AND i.key = $2"#,
        )
        .bind(facility)
        .bind(key)
        .bind(request_sha256.as_slice())
        .bind(IDEMPOTENCY_DAYS)
        .fetch_one(self.pool())
        .await?;
        if row.try_get("new")? {
            return Ok(KeyState::New);
        }
        // A row that a concurrent call has just written is not seen by this statement; the fold's own memory decides then.
        let Some(known) = row.try_get::<Option<&[u8]>, _>("request_sha256")? else {
            return Ok(KeyState::Same(None));
        };
        if known != request_sha256 {
            return Ok(KeyState::Other);
        }
        let shard: Option<i16> = row.try_get("shard")?;
        let epoch: Option<i32> = row.try_get("epoch")?;
        let offset: Option<i64> = row.try_get("offset")?;
        Ok(KeyState::Same(shard.zip(epoch).zip(offset).map(|((shard, epoch), offset)| Position {
            epoch: epoch.cast_unsigned(),
            shard: device_profiles::ShardId(shard.cast_unsigned()),
            offset: offset.cast_unsigned(),
        })))
    }

    /// Remembers where a request was journaled.
    pub async fn keep_key(&self, facility: &str, key: &str, position: Position) -> Result<()> {
        sqlx::query(
            r#"UPDATE idempotency SET shard = $3, epoch = $4, "offset" = $5
               WHERE facility = $1 AND key = $2 AND shard IS NULL"#,
        )
        .bind(facility)
        .bind(key)
        .bind(position.shard.0.cast_signed())
        .bind(position.epoch.cast_signed())
        .bind(position.offset.cast_signed())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Entries of a facility that no device caused and that changed stock, counted tags, declared one gone or were rejected
    /// since a time, newest first: where a call was journaled whose position was not remembered.
    pub async fn command_positions(
        &self,
        facility: &str,
        since: When,
        limit: i64,
    ) -> Result<Vec<Position>> {
        let rows = sqlx::query(
            r#"SELECT shard, epoch, "offset" FROM (
                   SELECT shard, epoch, "offset" FROM movement WHERE facility = $1 AND device IS NULL AND at >= $2
                   UNION
                   SELECT shard, epoch, "offset" FROM quarantine WHERE facility = $1 AND device IS NULL AND at >= $2
                   UNION
                   SELECT shard, epoch, "offset" FROM event WHERE facility = $1 AND kind = 'cycle_count' AND at >= $2
                   UNION
                   SELECT shard, epoch, "offset" FROM event
                   WHERE facility = $1 AND tag IS NOT NULL AND kind = 'departed' AND at >= $2
                     AND detail LIKE '%"how":"declared"%'
               ) found ORDER BY epoch DESC, "offset" DESC LIMIT $3"#,
        )
        .bind(facility)
        .bind(since)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Position {
                    epoch: row.try_get::<i32, _>("epoch")?.cast_unsigned(),
                    shard: device_profiles::ShardId(
                        row.try_get::<i16, _>("shard")?.cast_unsigned(),
                    ),
                    offset: row.try_get::<i64, _>("offset")?.cast_unsigned(),
                })
            })
            .collect()
    }
}
