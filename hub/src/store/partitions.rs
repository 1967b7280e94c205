//! Partitions of the series tables: made ahead, dropped whole when they are old.
//!
//! Readings have a partition a day; roll-ups, which are kept longer, have fewer and larger ones. What falls outside, because a device
//! clock strays, goes to each table's default partition and is deleted there by age. A span whose rows already lie in the
//! default partition gets no partition of its own: they stay, and so do the next.

use sqlx::Row;

use super::{PgStore, fault::Fault};

/// Days of partitions made ahead of today and behind it.
pub const PARTITION_DAYS_AHEAD: i64 = 2;

/// How long series are kept, in days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Readings as they came.
    pub reading_days: u32,
    /// Roll-ups by the minute.
    pub minute_days: u32,
    /// Roll-ups by the hour.
    pub hour_days: u32,
}

/// A partitioned table.
struct Table {
    name: &'static str,
    /// Days of one partition.
    span: i64,
    keep_days: u32,
}

impl Keep {
    fn tables(self) -> [Table; 3] {
        [
            Table { name: "reading", span: 1, keep_days: self.reading_days },
            Table { name: "reading_minute", span: 7, keep_days: self.minute_days },
            Table { name: "reading_hour", span: 28, keep_days: self.hour_days },
        ]
    }
}

impl PgStore {
    /// Makes the partitions around today and drops what is older than it is to be kept. Days are UTC days since the Unix
    /// epoch. Returns the partitions dropped.
    pub async fn keep_partitions(&self, today: i64, keep: Keep) -> Result<Vec<String>, Fault> {
        let mut dropped = Vec::new();
        for table in keep.tables() {
            self.make_partitions(&table, today).await?;
            dropped.extend(self.drop_partitions(&table, today).await?);
        }
        Ok(dropped)
    }

    async fn make_partitions(&self, table: &Table, today: i64) -> Result<(), Fault> {
        let Table { name, span, .. } = table;
        let first = (today - PARTITION_DAYS_AHEAD).div_euclid(*span);
        let last = (today + PARTITION_DAYS_AHEAD).div_euclid(*span);
        for number in first..=last {
            let day = number * span;
            let statement = format!(
                "CREATE TABLE IF NOT EXISTS {name}_d{day} PARTITION OF {name}
                 FOR VALUES FROM (to_timestamp({from})) TO (to_timestamp({to})) WITH (fillfactor = {fill})",
                from = day * 86_400,
                to = (day + span) * 86_400,
                fill = if *name == "reading" { 100 } else { 70 },
            );
            let made = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(self.pool()).await;
            match made.map_err(Fault::from) {
                Ok(_) => {}
                Err(Fault::Broken(why)) => {
                    tracing::debug!(why, table = name, day, "no partition of its own");
                }
                Err(away) => return Err(away),
            }
        }
        Ok(())
    }

    async fn drop_partitions(&self, table: &Table, today: i64) -> Result<Vec<String>, Fault> {
        let Table { name, span, keep_days } = table;
        let oldest = today - i64::from(*keep_days);
        let prefix = format!("{name}_d");
        let names: Vec<String> = sqlx::query(
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = $1::text::regclass",
        )
        .bind(name)
        .fetch_all(self.pool())
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
        let is_old = |partition: &String| {
            let day = partition.strip_prefix(&prefix).and_then(|day| day.parse::<i64>().ok());
            day.is_some_and(|day| day + span <= oldest)
        };
        let mut dropped = Vec::new();
        for partition in names.into_iter().filter(is_old) {
            let statement = format!("DROP TABLE {partition}");
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(self.pool()).await?;
            dropped.push(partition);
        }
        let statement = format!("DELETE FROM {name}_stray WHERE at < to_timestamp($1)");
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(oldest as f64 * 86_400.0)
            .execute(self.pool())
            .await?;
        Ok(dropped)
    }
}
