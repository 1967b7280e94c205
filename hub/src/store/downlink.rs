//! Commands to devices, and what became of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{FromRow, Row, types::Json};
use utoipa::ToSchema;

use super::{PgStore, fault::Fault, when::When};

type Result<T> = std::result::Result<T, Fault>;

/// State of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for the device.
    Queued,
    /// It is on its way.
    Sent,
    /// The device has it; with an external broker: the broker has it.
    Acked,
    /// It could not be delivered in time.
    Expired,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Acked => "acked",
            Self::Expired => "expired",
        }
    }
}

/// A command to a device.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct DeviceCommand {
    /// Its id: the Idempotency-Key it was given with, or one that was made. The device gets it too.
    pub id: String,
    /// The device.
    pub device: String,
    /// The command.
    pub name: String,
    /// What it was given along.
    #[schema(value_type = Object)]
    pub args: Json<serde_json::Value>,
    /// `queued`, `sent`, `acked` or `expired`.
    pub state: String,
    /// Who gave it.
    pub principal: String,
    /// When it was given.
    pub made_at: When,
    /// It is not delivered after this.
    pub expires_at: When,
    /// When its state changed last.
    pub changed_at: When,
}

/// A command to be written down.
#[derive(Debug, Clone)]
pub struct NewCommand<'a> {
    /// Its key.
    pub key: &'a str,
    /// The facility.
    pub facility: &'a str,
    /// The device.
    pub device: &'a str,
    /// Who gives it.
    pub principal: &'a str,
    /// The command.
    pub name: &'a str,
    /// What is given along.
    pub args: &'a serde_json::Value,
    /// How long it is good for, in seconds.
    pub good_for_s: u32,
}

/// What became of writing it down.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// It waits.
    New(DeviceCommand),
    /// It was given before.
    Before(DeviceCommand),
    /// The key was used for another command.
    KeyUsed,
    /// Too many of the device's commands wait.
    Full,
}

/// A command that is to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Its key.
    pub key: String,
    /// The device.
    pub device: String,
    /// The command.
    pub name: String,
    /// What the device gets.
    pub payload: Vec<u8>,
    /// How long it is still good for.
    pub good_for: Duration,
}

macro_rules! columns {
    () => {
        "key AS id, device, name, payload AS args, state, principal, made_at, expires_at, changed_at"
    };
}

impl PgStore {
    /// Writes a command down, once for each key.
    pub async fn give_command(&self, new: &NewCommand<'_>, waiting_max: i64) -> Result<Given> {
        let mut transaction = self.pool().begin().await?;
        // Two calls for one device count one after the other.
        sqlx::query("SELECT 1 FROM device WHERE id = $1 FOR UPDATE")
            .bind(new.device)
            .execute(&mut *transaction)
            .await?;
        // PostgreSQL compares what was given: it writes numbers its own way.
        let same: Option<bool> = sqlx::query_scalar(
            "SELECT device = $2 AND name = $3 AND payload = $4 FROM command WHERE key = $1",
        )
        .bind(new.key)
        .bind(new.device)
        .bind(new.name)
        .bind(Json(new.args))
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(same) = same {
            if !same {
                return Ok(Given::KeyUsed);
            }
            let before =
                sqlx::query_as(concat!("SELECT ", columns!(), " FROM command WHERE key = $1"))
                    .bind(new.key)
                    .fetch_one(&mut *transaction)
                    .await?;
            return Ok(Given::Before(before));
        }
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM command WHERE device = $1 AND state IN ('queued', 'sent')",
        )
        .bind(new.device)
        .fetch_one(&mut *transaction)
        .await?;
        if waiting >= waiting_max {
            return Ok(Given::Full);
        }
        let made: Option<DeviceCommand> = sqlx::query_as(concat!(
            "INSERT INTO command (key, facility, device, principal, name, payload, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))
             ON CONFLICT (key) DO NOTHING RETURNING ",
            columns!()
        ))
        .bind(new.key)
        .bind(new.facility)
        .bind(new.device)
        .bind(new.principal)
        .bind(new.name)
        .bind(Json(new.args))
        .bind(f64::from(new.good_for_s))
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        // Taken meanwhile by a call for another device.
        Ok(made.map_or(Given::KeyUsed, Given::New))
    }

    /// Commands of a device, newest first; those before one of them.
    pub async fn list_commands(
        &self,
        device: &str,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<DeviceCommand>> {
        Ok(sqlx::query_as(concat!(
            "SELECT ",
            columns!(),
            " FROM command WHERE device = $1 AND ($2::text IS NULL OR (made_at, key) <
                 (SELECT c.made_at, c.key FROM command c WHERE c.key = $2))
             ORDER BY made_at DESC, key DESC LIMIT $3"
        ))
        .bind(device)
        .bind(before)
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }

    /// The oldest command that waits of each device after one, leaving out those that have one on its way.
    pub async fn waiting_commands(
        &self,
        after: &str,
        busy: &[String],
        limit: usize,
    ) -> Result<Vec<Waiting>> {
        let rows = sqlx::query(
            "SELECT DISTINCT ON (device) key, device, c.name, payload,
                    to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS until,
                    extract(epoch FROM expires_at - now())::float8 AS good_for_s
             FROM command c JOIN device d ON d.id = c.device AND d.retired_at IS NULL AND d.revoked_at IS NULL
             WHERE state IN ('queued', 'sent') AND device > $1 AND device <> ALL($2) AND expires_at > now()
             ORDER BY device, made_at, key LIMIT $3",
        )
        .bind(after)
        .bind(busy)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                let key: String = row.try_get("key")?;
                let args: Json<serde_json::Value> = row.try_get("payload")?;
                let until: String = row.try_get("until")?;
                let payload = json!({ "id": key, "expires_at": until, "args": args.0 });
                Ok(Waiting {
                    key,
                    device: row.try_get("device")?,
                    name: row.try_get("name")?,
                    payload: payload.to_string().into_bytes(),
                    good_for: Duration::from_secs_f64(
                        row.try_get::<f64, _>("good_for_s")?.max(0.0),
                    ),
                })
            })
            .collect::<std::result::Result<_, sqlx::Error>>()
            .map_err(Fault::from)
    }

    /// Notes what became of commands that wait or are on their way.
    pub async fn mark_commands(&self, keys: &[String], state: State) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "UPDATE command SET state = $2, changed_at = now()
             WHERE key = ANY($1) AND state IN ('queued', 'sent') AND state <> $2",
        )
        .bind(keys)
        .bind(state.name())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Forgets commands that ended so many days ago.
    pub async fn forget_commands(&self, days: i32) -> Result<u64> {
        let done = sqlx::query(
            "DELETE FROM command WHERE state NOT IN ('queued', 'sent') AND changed_at < now() - make_interval(days => $1)",
        )
        .bind(days)
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected())
    }

    /// Ends what nobody took in time. Answers how many.
    pub async fn expire_commands(&self) -> Result<u64> {
        let done = sqlx::query(
            "UPDATE command SET state = 'expired', changed_at = now()
             WHERE state IN ('queued', 'sent') AND expires_at <= now()",
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected())
    }
}
