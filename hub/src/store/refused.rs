//! Readings that a series store would never take: kept by name, with the reason, for people to look at.
//!
//! The newest [`REFUSED_ROWS_MAX`] are kept; the counter in the metrics counts them all.

use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;

use super::{PgStore, fault::Fault, micros::Micros, when::When};
use crate::series::{Place, Point, Reading};

/// Refused readings kept.
pub const REFUSED_ROWS_MAX: i64 = 10_000;

/// A reading that is left out.
#[derive(Debug, Clone, Copy)]
pub struct RefusedPoint<'a> {
    /// The store's place in table `cursor`.
    pub store: &'a str,
    /// Where its batch ends in the journal.
    pub place: Place,
    /// The reading.
    pub point: &'a Point,
    /// What the store said.
    pub why: &'a str,
}

/// One of them, read back.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct RefusedRow {
    /// Its number; newer ones have larger ones.
    pub id: i64,
    /// When it was read.
    pub at: When,
    /// The device.
    pub device: String,
    /// Series name.
    pub name: String,
    /// Its value, if it is a number.
    pub value: Option<f64>,
    /// Its text, if it is one.
    pub text: Option<String>,
    /// The store that refused it.
    pub store: String,
    /// What the store said.
    pub why: String,
    /// When it was refused.
    pub made_at: When,
}

impl PgStore {
    /// Keeps one; the same one again changes nothing.
    pub async fn keep_refused(&self, refused: &RefusedPoint<'_>) -> Result<(), Fault> {
        let RefusedPoint { store, place, point, why } = refused;
        let (number, text) = match &point.value {
            Reading::Number(number) => (Some(*number), None),
            Reading::Text(text) => (None, Some(text)),
        };
        // PostgreSQL's text knows no NUL; a server's message may hold anything.
        let why = why.replace('\0', "\u{fffd}");
        sqlx::query(
            r#"WITH kept AS (
                 INSERT INTO series_refused (store, at, tie, device, name, value, text, why, epoch, "offset")
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                 ON CONFLICT (store, device, at, tie, name) DO NOTHING RETURNING id)
               DELETE FROM series_refused WHERE id <= (SELECT max(id) FROM kept) - $11"#,
        )
        .bind(store)
        .bind(Micros(point.at_us))
        .bind(point.tie.cast_signed())
        .bind(&*point.device)
        .bind(&point.name)
        .bind(number)
        .bind(text)
        .bind(why)
        .bind(place.epoch.cast_signed())
        .bind(place.offset.cast_signed())
        .bind(REFUSED_ROWS_MAX)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Refused ones, newest first; those before one of them.
    pub async fn list_refused(
        &self,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<RefusedRow>, Fault> {
        Ok(sqlx::query_as(
            "SELECT id, at, device, name, value, text, store, why, made_at FROM series_refused
             WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(before)
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }
}
