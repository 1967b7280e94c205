//! Sensor readings in day partitions: the series store that needs no other server.
//!
//! A batch of points and the cursor of the journal it came from are one transaction, so a restart neither loses nor doubles a
//! point. Partitions are made ahead and dropped whole; points of stray clocks fall into the default partition.

use sqlx::Row;

use super::{PgStore, fault::Fault, micros::Micros};

/// One point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// When, microseconds since the Unix epoch.
    pub at_us: i64,
    /// Facility.
    pub facility: String,
    /// Device.
    pub device: String,
    /// Series name.
    pub name: String,
    /// A number; a switch is 0 or 1.
    pub value: Option<f64>,
    /// A text.
    pub text: Option<String>,
}

impl PgStore {
    /// Writes points and moves the cursor, as one.
    pub async fn write_points(
        &self,
        cursor: &str,
        epoch: u32,
        offset: u64,
        points: &[Point],
    ) -> Result<(), Fault> {
        let mut transaction = self.pool().begin().await?;
        if !points.is_empty() {
            sqlx::query(
                "INSERT INTO reading (at, value, facility, device, name, text)
                 SELECT * FROM UNNEST($1::timestamptz[], $2::float8[], $3::text[], $4::text[], $5::text[], $6::text[])",
            )
            .bind(points.iter().map(|p| Micros(p.at_us)).collect::<Vec<_>>())
            .bind(points.iter().map(|p| p.value).collect::<Vec<_>>())
            .bind(points.iter().map(|p| p.facility.as_str()).collect::<Vec<_>>())
            .bind(points.iter().map(|p| p.device.as_str()).collect::<Vec<_>>())
            .bind(points.iter().map(|p| p.name.as_str()).collect::<Vec<_>>())
            .bind(points.iter().map(|p| p.text.as_deref()).collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await?;
        }
        sqlx::query(
            r#"INSERT INTO cursor (name, shard, epoch, "offset") VALUES ($1, -1, $2, $3)
               ON CONFLICT (name, shard) DO UPDATE
               SET epoch = excluded.epoch, "offset" = excluded."offset", updated_at = now()"#,
        )
        .bind(cursor)
        .bind(epoch.cast_signed())
        .bind(offset.cast_signed())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Where a reader of the whole journal stands; 0 when it never began.
    pub async fn journal_cursor(&self, name: &str, epoch: u32) -> Result<u64, Fault> {
        let row: Option<i64> = sqlx::query_scalar(
            r#"SELECT "offset" FROM cursor WHERE name = $1 AND shard = -1 AND epoch = $2"#,
        )
        .bind(name)
        .bind(epoch.cast_signed())
        .fetch_optional(self.pool())
        .await?;
        Ok(row.unwrap_or(0).unsigned_abs())
    }

    /// Moves the cursor of a reader of the whole journal.
    pub async fn save_journal_cursor(
        &self,
        name: &str,
        epoch: u32,
        offset: u64,
    ) -> Result<(), Fault> {
        self.write_points(name, epoch, offset, &[]).await
    }

    /// Makes the partitions from `ahead` days before today to `ahead` days after it, and drops those older than `keep` days.
    /// Days are UTC days since the Unix epoch. Returns the partitions dropped.
    pub async fn keep_partitions(
        &self,
        today: i64,
        ahead: i64,
        keep: i64,
    ) -> Result<Vec<String>, Fault> {
        for day in today - ahead..=today + ahead {
            let statement = format!(
                "CREATE TABLE IF NOT EXISTS reading_d{day} PARTITION OF reading
                 FOR VALUES FROM (to_timestamp({from})) TO (to_timestamp({to}))",
                from = day * 86_400,
                to = (day + 1) * 86_400
            );
            let made = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(self.pool()).await;
            if let Err(error) = made {
                // Stray points of that day already lie in the default partition: they stay there, and so do the next.
                tracing::debug!(%error, day, "no partition of its own for this day");
            }
        }
        let names: Vec<String> = sqlx::query(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'reading'::regclass AND c.relname LIKE 'reading\\_d%'",
        )
        .fetch_all(self.pool())
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
        let old = |name: &String| {
            name.strip_prefix("reading_d")
                .and_then(|d| d.parse::<i64>().ok())
                .is_some_and(|d| d < today - keep)
        };
        let mut dropped = Vec::new();
        for name in names.into_iter().filter(old) {
            let statement = format!("DROP TABLE {name}");
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(self.pool()).await?;
            dropped.push(name);
        }
        sqlx::query("DELETE FROM reading_stray WHERE at < to_timestamp($1)")
            .bind((today - keep) as f64 * 86_400.0)
            .execute(self.pool())
            .await?;
        Ok(dropped)
    }
}
