//! Sensor readings in PostgreSQL: the series store that needs no other server.
//!
//! One statement writes a batch: the readings, and of those that are new the roll-ups by minute and hour. The place in the
//! journal goes into the same transaction. So a restart neither loses nor doubles a reading, and the roll-ups are exact: a
//! reading that was there already counts nowhere, a late one changes its own bucket. Retention is in [`super::partitions`],
//! reading back in [`super::series_read`].

use sqlx::{Postgres, Transaction};

use super::{PgStore, fault::Fault, micros::Micros};
use crate::series::{Ask, Pending, Place, Point, Reading, SeriesFault, SeriesStore, Written};
use crate::store::told::{BucketRow, ReadingRow};

/// Name of its place in the journal.
pub const CURSOR: &str = "series";

const WRITE: &str = r#"
WITH fresh AS (
  INSERT INTO reading (at, value, facility, device, name, text, tie)
  SELECT * FROM UNNEST($1::timestamptz[], $2::float8[], $3::text[], $4::text[], $5::text[], $6::text[], $7::smallint[])
  ON CONFLICT (device, at, tie, name) DO NOTHING
  RETURNING at, value, device, name, tie
), minute AS (
  SELECT date_bin('1 minute', at, 'epoch') AS at, max(at) AS last_at, min(value) AS min, max(value) AS max, sum(value) AS sum,
         (array_agg(value ORDER BY at DESC, tie DESC) FILTER (WHERE value IS NOT NULL))[1] AS last,
         count(value) AS count, device, name
  FROM fresh GROUP BY 1, device, name
), hour AS (
  SELECT date_bin('1 hour', at, 'epoch') AS at, max(last_at) AS last_at, min(min) AS min, max(max) AS max, sum(sum) AS sum,
         (array_agg(last ORDER BY last_at DESC) FILTER (WHERE last IS NOT NULL))[1] AS last,
         sum(count)::bigint AS count, device, name
  FROM minute GROUP BY 1, device, name
), minutes AS (
  INSERT INTO reading_minute AS r (at, last_at, min, max, sum, last, count, device, name)
  SELECT at, last_at, min, max, sum, last, count, device, name FROM minute ORDER BY device, name, at
  ON CONFLICT (device, name, at) DO UPDATE SET
    min = LEAST(r.min, excluded.min), max = GREATEST(r.max, excluded.max),
    sum = CASE WHEN r.sum IS NULL THEN excluded.sum ELSE r.sum + COALESCE(excluded.sum, 0) END,
    last = CASE WHEN excluded.last IS NOT NULL AND (r.last IS NULL OR excluded.last_at >= r.last_at) THEN excluded.last ELSE r.last END,
    count = r.count + excluded.count, last_at = GREATEST(r.last_at, excluded.last_at)
), hours AS (
  INSERT INTO reading_hour AS r (at, last_at, min, max, sum, last, count, device, name)
  SELECT at, last_at, min, max, sum, last, count, device, name FROM hour ORDER BY device, name, at
  ON CONFLICT (device, name, at) DO UPDATE SET
    min = LEAST(r.min, excluded.min), max = GREATEST(r.max, excluded.max),
    sum = CASE WHEN r.sum IS NULL THEN excluded.sum ELSE r.sum + COALESCE(excluded.sum, 0) END,
    last = CASE WHEN excluded.last IS NOT NULL AND (r.last IS NULL OR excluded.last_at >= r.last_at) THEN excluded.last ELSE r.last END,
    count = r.count + excluded.count, last_at = GREATEST(r.last_at, excluded.last_at)
)
SELECT count(*) FROM fresh
"#;

impl PgStore {
    /// Writes points and moves the place, as one; returns how many were new.
    async fn write_points(
        &self,
        points: &[Point],
        place: Option<(&str, Place)>,
    ) -> Result<usize, Fault> {
        let mut transaction = self.pool().begin().await?;
        let mut new = 0;
        if !points.is_empty() {
            let number = |p: &Point| match &p.value {
                Reading::Number(number) => Some(*number),
                Reading::Text(_) => None,
            };
            let text = |p: &Point| match &p.value {
                Reading::Number(_) => None,
                Reading::Text(text) => Some(text.clone()),
            };
            let texts = |of: fn(&Point) -> &str| points.iter().map(of).collect::<Vec<_>>();
            let fresh: i64 = sqlx::query_scalar(WRITE)
                .bind(points.iter().map(|p| Micros(p.at_us)).collect::<Vec<_>>())
                .bind(points.iter().map(number).collect::<Vec<_>>())
                .bind(texts(|p| &p.facility))
                .bind(texts(|p| &p.device))
                .bind(texts(|p| &p.name))
                .bind(points.iter().map(text).collect::<Vec<_>>())
                .bind(points.iter().map(|p| p.tie.cast_signed()).collect::<Vec<_>>())
                .fetch_one(&mut *transaction)
                .await?;
            new = usize::try_from(fresh).unwrap_or(0);
        }
        if let Some((name, place)) = place {
            move_cursor(&mut transaction, name, place).await?;
        }
        transaction.commit().await?;
        Ok(new)
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
        self.write_points(&[], Some((name, Place { epoch, offset }))).await.map(drop)
    }
}

async fn move_cursor(
    transaction: &mut Transaction<'_, Postgres>,
    name: &str,
    place: Place,
) -> Result<(), Fault> {
    sqlx::query(
        r#"INSERT INTO cursor (name, shard, epoch, "offset") VALUES ($1, -1, $2, $3)
           ON CONFLICT (name, shard) DO UPDATE
           SET epoch = excluded.epoch, "offset" = excluded."offset", updated_at = now()"#,
    )
    .bind(name)
    .bind(place.epoch.cast_signed())
    .bind(place.offset.cast_signed())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

impl SeriesStore for PgStore {
    fn cursor(&self) -> &str {
        CURSOR
    }

    fn describe(&self) -> String {
        "PostgreSQL".into()
    }

    fn place(&self, epoch: u32) -> Pending<'_, u64> {
        Box::pin(async move { Ok(self.journal_cursor(CURSOR, epoch).await?) })
    }

    fn write<'a>(&'a self, points: &'a [Point], place: Option<Place>) -> Pending<'a, Written> {
        Box::pin(async move {
            let place = place.map(|place| (CURSOR, place));
            match self.write_points(points, place).await {
                Ok(new) => Ok(Written { repeated: points.len() - new, ..Written::default() }),
                Err(Fault::Broken(why)) if !points.is_empty() => Err(SeriesFault::Refused(why)),
                Err(fault) => Err(fault.into()),
            }
        })
    }

    fn readings<'a>(&'a self, ask: &'a Ask) -> Pending<'a, Vec<ReadingRow>> {
        Box::pin(async move { Ok(self.series_readings(ask).await?) })
    }

    fn buckets<'a>(&'a self, ask: &'a Ask, every_s: i64) -> Pending<'a, Vec<BucketRow>> {
        Box::pin(async move { Ok(self.series_buckets(ask, every_s).await?) })
    }

    fn last<'a>(&'a self, ask: &'a Ask, at_us: i64) -> Pending<'a, Vec<ReadingRow>> {
        Box::pin(async move { Ok(self.series_last(ask, at_us).await?) })
    }
}
