//! Evidence: which journal entries movements rest on, and the copies kept when the journal is trimmed.

use sqlx::Row;

use super::{PgStore, fault::Fault, micros::Micros};

/// A journal record kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceRow {
    /// Its offset.
    pub offset: u64,
    /// When it was received, microseconds since the Unix epoch.
    pub received_at_us: i64,
    /// Its record kind.
    pub kind: u8,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl PgStore {
    /// Offsets in `from..before` that movements and discrepancies of a shard rest on, at most `limit`, in order: their own
    /// entries and the earlier ones they name.
    pub async fn evidence_wanted(
        &self,
        shard: u16,
        epoch: u32,
        from: u64,
        before: u64,
        limit: i64,
    ) -> Result<Vec<u64>, Fault> {
        let rows = sqlx::query(
            r#"SELECT DISTINCT o FROM (
                 SELECT "offset" AS o FROM movement
                 WHERE shard = $1 AND epoch = $2 AND "offset" >= $3 AND "offset" < $4
                 UNION ALL
                 SELECT "offset" FROM discrepancy
                 WHERE shard = $1 AND epoch = $2 AND "offset" >= $3 AND "offset" < $4
                 UNION ALL
                 SELECT "offset" FROM event
                 WHERE shard = $1 AND epoch = $2 AND "offset" >= $3 AND "offset" < $4 AND evidence IS NOT NULL
                 UNION ALL
                 SELECT unnest(evidence) FROM event
                 WHERE shard = $1 AND epoch = $2 AND "offset" >= $3 AND evidence IS NOT NULL
                 UNION ALL
                 SELECT unnest(evidence) FROM movement
                 WHERE shard = $1 AND epoch = $2 AND "offset" >= $3 AND evidence IS NOT NULL
               ) e WHERE o >= $3 AND o < $4 ORDER BY o LIMIT $5"#,
        )
        .bind(shard.cast_signed())
        .bind(epoch.cast_signed())
        .bind(from.cast_signed())
        .bind(before.cast_signed())
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| Ok(row.try_get::<i64, _>(0)?.unsigned_abs()))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(Fault::from)
    }

    /// Keeps copies; keeping one twice is the same row.
    pub async fn keep_evidence(
        &self,
        shard: u16,
        epoch: u32,
        rows: &[EvidenceRow],
    ) -> Result<(), Fault> {
        sqlx::query(
            r#"INSERT INTO evidence (shard, epoch, "offset", received_at, kind, payload)
               SELECT $1, $2, u.* FROM UNNEST($3::bigint[], $4::timestamptz[], $5::smallint[], $6::bytea[]) AS u
               ON CONFLICT DO NOTHING"#,
        )
        .bind(shard.cast_signed())
        .bind(epoch.cast_signed())
        .bind(rows.iter().map(|r| r.offset.cast_signed()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| Micros(r.received_at_us)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| i16::from(r.kind)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.payload.as_slice()).collect::<Vec<_>>())
        .execute(self.pool())
        .await?;
        Ok(())
    }
}
