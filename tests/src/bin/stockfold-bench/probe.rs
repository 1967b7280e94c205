//! The probe: sees movements become visible on a second connection to PostgreSQL, every single one.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

use anyhow::Context;
use simulator::load::Record;
use sqlx::{Connection, PgConnection, Row, postgres::PgConnectOptions};

/// Movements fetched at once.
const ROWS_MAX: i64 = 20_000;
/// Pause between two looks, in milliseconds; half of it is in every figure.
const LOOK_MS: u64 = 2;

/// What was seen.
pub struct Seen {
    frames_per_device: u64,
    /// For each (device, seq): 10 µs units since the record was made, plus 1; 0 = not seen.
    at: Vec<AtomicU32>,
    /// Movements seen more than once for the same frame.
    pub doubled: AtomicU64,
    /// Movements seen.
    pub movements: AtomicU64,
    /// The probe's own backend.
    pub backend: AtomicU32,
    stop: AtomicBool,
}

impl Seen {
    pub fn new(record: &Record) -> Arc<Self> {
        let frames = record.frames_per_device() * record.devices() as u64;
        Arc::new(Self {
            frames_per_device: record.frames_per_device(),
            at: (0..frames).map(|_| AtomicU32::new(0)).collect(),
            doubled: AtomicU64::new(0),
            movements: AtomicU64::new(0),
            backend: AtomicU32::new(0),
            stop: AtomicBool::new(false),
        })
    }

    fn cell(&self, device: usize, seq: u64) -> Option<&AtomicU32> {
        if !(1..=self.frames_per_device).contains(&seq) {
            return None;
        }
        self.at.get(
            device * usize::try_from(self.frames_per_device).ok()? + usize::try_from(seq).ok()? - 1,
        )
    }

    /// When the movement of a frame was seen, in microseconds of the record.
    pub fn at_us(&self, device: usize, seq: u64) -> Option<u64> {
        let units = self.cell(device, seq)?.load(Relaxed);
        (units > 0).then(|| u64::from(units - 1) * 10)
    }

    /// The probe ends after its next look that finds nothing.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }
}

/// Looks until stopped. For a thread of its own.
pub fn watch(options: &PgConnectOptions, record: &Record, seen: &Seen) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = PgConnection::connect_with(options).await.context("the probe cannot connect")?;
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
        seen.backend.store(pid.unsigned_abs(), Relaxed);
        let mut after = 0i64;
        loop {
            let stopping = seen.stop.load(Relaxed);
            let rows = sqlx::query(
                r#"SELECT "offset", device, seq FROM movement WHERE shard = 0 AND epoch = 1 AND "offset" > $1
                   ORDER BY "offset" LIMIT $2"#,
            )
            .bind(after)
            .bind(ROWS_MAX)
            .fetch_all(&mut connection)
            .await?;
            let now = u32::try_from(record.now_us() / 10 + 1).unwrap_or(u32::MAX);
            for row in &rows {
                after = row.try_get(0)?;
                let device: Option<&str> = row.try_get(1)?;
                let seq: Option<i64> = row.try_get(2)?;
                let index = device.and_then(|d| d.rsplit_once('-')?.1.parse::<usize>().ok());
                let cell = index.zip(seq).and_then(|(d, s)| seen.cell(d, s.cast_unsigned()));
                seen.movements.fetch_add(1, Relaxed);
                if let Some(cell) = cell
                    && cell.swap(now, Relaxed) != 0
                {
                    seen.doubled.fetch_add(1, Relaxed);
                }
            }
            if rows.is_empty() {
                if stopping {
                    return Ok(());
                }
                tokio::time::sleep(std::time::Duration::from_millis(LOOK_MS)).await;
            }
        }
    })
}
