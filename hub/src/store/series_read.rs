//! Reading series back from PostgreSQL: as they came, by buckets, and the last value at a time.
//!
//! Buckets come from the coarsest roll-up that they are made of: whole hours from hours, whole minutes from minutes, finer
//! ones from the readings themselves. The last value is found through the hours: the newest two that a series has up to the
//! time asked for hold it, so nothing else is looked at.

use super::{
    PgStore,
    fault::Fault,
    told::{BucketRow, ReadingRow},
    when::When,
};
use crate::series::{Ask, DAY_US, Key, LOOK_BACK_DAYS_MAX};

const READINGS: &str = r#"
SELECT at, tie, device, name, value, text FROM reading
WHERE device = $1 AND ($2::text IS NULL OR name = $2) AND ($3::timestamptz IS NULL OR at >= $3)
  AND ($4::timestamptz IS NULL OR at < $4)
  AND ($5::timestamptz IS NULL OR (at <= $5 AND (at, tie, name) < ($5, $6::smallint, $7)))
ORDER BY at DESC, tie DESC, name DESC LIMIT $8
"#;

macro_rules! buckets {
    ($count:literal, $min:literal, $max:literal, $sum:literal, $last:literal, $from:literal) => {
        concat!(
            "SELECT date_bin(make_interval(secs => $8), r.at, 'epoch') AS at, r.device, r.name, ", $count, " AS count, ",
            $min, " AS min, ", $max, " AS max, ", $sum, " / ", $count, " AS mean, (", $last, ")[1] AS last FROM ", $from,
            " r WHERE r.device = $1 AND ($2::text IS NULL OR r.name = $2) AND ($3::timestamptz IS NULL OR r.at >= $3)
               AND ($4::timestamptz IS NULL OR r.at < $4)
               AND ($5::timestamptz IS NULL OR r.at < $5 + make_interval(secs => $8))
             GROUP BY 1, r.device, r.name
             HAVING ", $count, " > 0 AND ($5 IS NULL OR (date_bin(make_interval(secs => $8), r.at, 'epoch'), r.name) < ($5, $6))
             ORDER BY 1 DESC, r.name DESC LIMIT $7"
        )
    };
}

const BUCKETS_OF_READINGS: &str = buckets!(
    "count(r.value)",
    "min(r.value)",
    "max(r.value)",
    "sum(r.value)",
    "array_agg(r.value ORDER BY r.at DESC, r.tie DESC) FILTER (WHERE r.value IS NOT NULL)",
    "reading"
);
const BUCKETS_OF_MINUTES: &str = buckets!(
    "sum(r.count)::bigint",
    "min(r.min)",
    "max(r.max)",
    "sum(r.sum)",
    "array_agg(r.last ORDER BY r.last_at DESC) FILTER (WHERE r.last IS NOT NULL)",
    "reading_minute"
);
const BUCKETS_OF_HOURS: &str = buckets!(
    "sum(r.count)::bigint",
    "min(r.min)",
    "max(r.max)",
    "sum(r.sum)",
    "array_agg(r.last ORDER BY r.last_at DESC) FILTER (WHERE r.last IS NOT NULL)",
    "reading_hour"
);

const LAST: &str = r#"
SELECT DISTINCT ON (r.name) r.at, r.tie, r.device, r.name, r.value, r.text
FROM (SELECT DISTINCT name FROM reading_hour
      WHERE device = $1 AND ($2::text IS NULL OR name = $2) AND at <= $3 AND at >= $4) n
CROSS JOIN LATERAL (
  SELECT at FROM reading_hour WHERE device = $1 AND name = n.name AND at <= $3 AND at >= $4 ORDER BY at DESC LIMIT 2) h
CROSS JOIN LATERAL (
  SELECT at, tie, device, name, value, text FROM reading
  WHERE device = $1 AND name = n.name AND at >= h.at AND at < h.at + interval '1 hour' AND at <= $3
  ORDER BY at DESC, tie DESC LIMIT 1) r
ORDER BY r.name, r.at DESC, r.tie DESC LIMIT $5
"#;

impl PgStore {
    /// Readings as they came, newest first.
    pub(super) async fn series_readings(&self, ask: &Ask) -> Result<Vec<ReadingRow>, Fault> {
        let beyond = ask.beyond.as_ref();
        Ok(sqlx::query_as(READINGS)
            .bind(&ask.device)
            .bind(&ask.name)
            .bind(ask.from_us.map(When))
            .bind(ask.to_us.map(When))
            .bind(beyond.map(|key| When(key.at_us)))
            .bind(beyond.map(|key| key.tie.cast_signed()))
            .bind(beyond.map(|key| &key.name))
            .bind(limit(ask))
            .fetch_all(self.pool())
            .await?)
    }

    /// Numbers by buckets, newest first.
    pub(super) async fn series_buckets(
        &self,
        ask: &Ask,
        every_s: i64,
    ) -> Result<Vec<BucketRow>, Fault> {
        let statement = match every_s {
            s if s % 3_600 == 0 => BUCKETS_OF_HOURS,
            s if s % 60 == 0 => BUCKETS_OF_MINUTES,
            _ => BUCKETS_OF_READINGS,
        };
        let beyond: Option<&Key> = ask.beyond.as_ref();
        Ok(sqlx::query_as(statement)
            .bind(&ask.device)
            .bind(&ask.name)
            .bind(ask.from_us.map(When))
            .bind(ask.to_us.map(When))
            .bind(beyond.map(|key| When(key.at_us)))
            .bind(beyond.map(|key| &key.name))
            .bind(limit(ask))
            .bind(every_s as f64)
            .fetch_all(self.pool())
            .await?)
    }

    /// The last reading of each series at a time, by name.
    pub(super) async fn series_last(
        &self,
        ask: &Ask,
        at_us: i64,
    ) -> Result<Vec<ReadingRow>, Fault> {
        let oldest = at_us.saturating_sub(LOOK_BACK_DAYS_MAX * DAY_US);
        Ok(sqlx::query_as(LAST)
            .bind(&ask.device)
            .bind(&ask.name)
            .bind(When(at_us))
            .bind(When(oldest))
            .bind(limit(ask))
            .fetch_all(self.pool())
            .await?)
    }
}

fn limit(ask: &Ask) -> i64 {
    i64::try_from(ask.limit).unwrap_or(i64::MAX)
}
