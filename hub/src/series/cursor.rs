//! The series cursor: reads the journal on its own and has the store write what sensors said.
//!
//! It may lag, stop and resume without losing or doubling a point, and never holds up stock. The journal is not trimmed
//! beyond its place, so how far it can lag is bounded by the journal's own limits.
//!
//! A write that fails because the store is away is tried again for as long as it takes, with a back-off that keeps to what
//! the store asks for. A write that is refused is halved until the refused point stands alone; that one is kept by name in
//! PostgreSQL and passed over. Halving writes some points twice, which changes nothing. A store that refuses one point after
//! another without taking any is not judged to be right: after [`REFUSED_IN_A_ROW_MAX`] nothing more is passed over, the
//! cursor waits and says so.

use std::{ops::Range, sync::atomic::Ordering::Relaxed, time::Duration};

use actors::{
    journal::{Journal, ReadError, Reader},
    ports::{fs::RealFs, rng::Rng},
};
use device_profiles::Profile;

use super::{Place, Point, SeriesFault, SeriesStats, SeriesStore, Written, points::Points};
use crate::store::{PgStore, fault::Fault, refused::RefusedPoint};

/// Points written together at most.
pub const POINTS_MAX: usize = 5_000;
/// Bytes written together at most, by [`Point::bytes`].
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Points gather for so long while few come, in milliseconds: they are for charts, not for stock.
pub const GATHER_MS_MAX: u64 = 200;
/// Without points the place is written after this many records.
const RECORDS_MAX: usize = 100_000;
/// Longest wait for the journal to grow, in milliseconds; the cursor shows that it lives.
const IDLE_MS_MAX: u64 = 1_000;
/// First wait after a failed write, in milliseconds; doubles with each further one.
const BACKOFF_MS_MIN: u64 = 250;
/// Longest wait after a failed write, in milliseconds.
pub const BACKOFF_MS_MAX: u64 = 30_000;
/// Longest wait that a store may ask for, in seconds.
pub const RETRY_AFTER_SECONDS_MAX: u64 = 300;
/// Points refused one after another until the store itself is doubted.
pub const REFUSED_IN_A_ROW_MAX: usize = 100;

/// Why the cursor stops; its guardian starts it again.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// PostgreSQL, where profiles and refused points are.
    #[error(transparent)]
    Store(#[from] Fault),
    /// The series store cannot say where it stands.
    #[error("the series store does not say where it stands: {0}")]
    Place(SeriesFault),
    /// The series store's answer makes no sense.
    #[error("the series store is broken: {0}")]
    Broken(String),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] ReadError),
}

/// What the cursor works with.
pub struct Links<'a> {
    /// Where the points go.
    pub series: &'a dyn SeriesStore,
    /// PostgreSQL: profiles, and the points that were refused.
    pub store: &'a PgStore,
    /// Where the points come from.
    pub journal: &'a Journal<RealFs>,
    /// Its figures.
    pub stats: &'a SeriesStats,
    /// For jitter.
    pub rng: &'a dyn Rng,
}

/// Runs until an error or the journal's end; `beat` is called at each step.
pub async fn run(links: &Links<'_>, beat: impl Fn()) -> Result<(), SeriesError> {
    let Links { series, store, journal, stats, .. } = links;
    stats.set_store(series.describe());
    let mut points = Points::default();
    for text in store.profile_contents().await? {
        if let Ok(profile) = Profile::parse(&text) {
            points.learn(profile);
        }
    }
    let after = series.place(journal.epoch()).await.map_err(SeriesError::Place)?;
    if after < journal.first() {
        let gap = format!(
            "readings before journal offset {} were trimmed before this store had them and cannot be filled in",
            journal.first()
        );
        tracing::warn!(after, first = journal.first(), store = series.describe(), "{gap}");
        stats.set_gap(gap);
    } else if after < journal.tip().end() {
        tracing::info!(after, end = journal.tip().end(), store = series.describe(), "series go on");
    }
    let mut reader: Reader<RealFs> = journal.reader(after);
    let mut tip = journal.tip().watch();
    let mut batch = Batch::new(links, &beat);
    stats.offset.store(after, Relaxed);
    let mut records = Vec::new();
    loop {
        beat();
        let more = reader.read(&mut records)?;
        for record in records.drain(..) {
            let empty = batch.points.is_empty();
            points.of(&record, &mut batch.points);
            if empty && !batch.points.is_empty() {
                stats.waiting_since_us.store(record.at_us.max(1), Relaxed);
            }
            batch.read_to(record.offset);
            if batch.is_full() {
                batch.write().await?;
            }
        }
        if batch.records >= RECORDS_MAX || (!more && !batch.points.is_empty()) {
            batch.write().await?;
        }
        if more {
            tokio::task::yield_now().await;
            continue;
        }
        match tokio::time::timeout(Duration::from_millis(IDLE_MS_MAX), tip.changed()).await {
            Ok(Ok(())) => tokio::time::sleep(Duration::from_millis(GATHER_MS_MAX)).await,
            Ok(Err(_)) => return Ok(()),
            Err(_) => {}
        }
    }
}

/// What was read and is not written.
struct Batch<'a, B: Fn()> {
    writer: Writer<'a, B>,
    points: Vec<Point>,
    /// How many of the points are counted in `bytes`.
    counted: usize,
    bytes: usize,
    records: usize,
    offset: u64,
}

impl<'a, B: Fn()> Batch<'a, B> {
    fn new(links: &'a Links<'a>, beat: &'a B) -> Self {
        let writer = Writer { links, beat, in_a_row: 0 };
        Self { writer, points: Vec::new(), counted: 0, bytes: 0, records: 0, offset: 0 }
    }

    fn read_to(&mut self, offset: u64) {
        self.bytes += self.points[self.counted..].iter().map(Point::bytes).sum::<usize>();
        self.counted = self.points.len();
        self.offset = offset;
        self.records += 1;
        let stats = self.writer.links.stats;
        if self.points.is_empty() {
            stats.offset.store(offset, Relaxed);
        } else {
            stats.waiting_records.fetch_add(1, Relaxed);
        }
    }

    fn is_full(&self) -> bool {
        self.points.len() >= POINTS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    async fn write(&mut self) -> Result<(), SeriesError> {
        let Links { journal, stats, .. } = self.writer.links;
        let place = Place { epoch: journal.epoch(), offset: self.offset };
        self.writer.write_all(&self.points, place).await?;
        stats.offset.store(self.offset, Relaxed);
        stats.waiting_since_us.store(0, Relaxed);
        stats.waiting_records.store(0, Relaxed);
        self.points.clear();
        (self.counted, self.bytes, self.records) = (0, 0, 0);
        Ok(())
    }
}

/// Patience with a store, and judgement about single points.
struct Writer<'a, B: Fn()> {
    links: &'a Links<'a>,
    beat: &'a B,
    /// Points refused since one was taken.
    in_a_row: usize,
}

impl<B: Fn()> Writer<'_, B> {
    /// Writes all points but those that are refused for good; the place moves with the last of them.
    async fn write_all(&mut self, points: &[Point], place: Place) -> Result<(), SeriesError> {
        let mut parts: Vec<Range<usize>> = Vec::new();
        parts.push(0..points.len());
        while let Some(part) = parts.pop() {
            let moves = parts.is_empty().then_some(place);
            match self.write(&points[part.clone()], moves).await? {
                Ok(()) => {}
                Err(_) if part.len() > 1 => {
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
                Err(why) if self.in_a_row >= REFUSED_IN_A_ROW_MAX => {
                    self.doubt(&why).await;
                    parts.push(part);
                }
                Err(why) => {
                    self.pass_over(&points[part.start], place, why).await?;
                    if moves.is_some() {
                        parts.push(part.end..part.end);
                    }
                }
            }
        }
        Ok(())
    }

    /// One write, for as long as the store is away; what it refuses is told.
    async fn write(
        &mut self,
        points: &[Point],
        place: Option<Place>,
    ) -> Result<Result<(), String>, SeriesError> {
        let Links { series, stats, .. } = self.links;
        let began = tokio::time::Instant::now();
        let mut backoff = BACKOFF_MS_MIN;
        let told = loop {
            (self.beat)();
            match series.write(points, place).await {
                Ok(written) => break Ok(written),
                Err(SeriesFault::Refused(why)) => break Err(why),
                Err(SeriesFault::Broken(why)) => return Err(SeriesError::Broken(why)),
                Err(SeriesFault::Away { why, after }) => {
                    let own = Duration::from_millis(self.links.rng.jitter_ms(backoff));
                    let most = Duration::from_secs(RETRY_AFTER_SECONDS_MAX);
                    let wait = after.map_or(own, |after| after.min(most).max(own));
                    backoff = (backoff * 2).min(BACKOFF_MS_MAX);
                    if stats.set_trouble(Some(why.clone())) {
                        tracing::warn!(
                            why,
                            store = series.describe(),
                            again_in_ms = wait.as_millis(),
                            "series wait in the journal"
                        );
                    }
                    stats.retried.fetch_add(points.len() as u64, Relaxed);
                    self.pause(wait).await;
                }
            }
        };
        stats.writes.fetch_add(1, Relaxed);
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        stats.write_us.fetch_add(took, Relaxed);
        Ok(told.map(|written| self.took(points.len(), written)))
    }

    fn took(&mut self, points: usize, written: Written) {
        let Links { series, stats, .. } = self.links;
        if points > 0 {
            self.in_a_row = 0;
        }
        stats.points.fetch_add((points - written.repeated) as u64, Relaxed);
        stats.repeated.fetch_add(written.repeated as u64, Relaxed);
        stats.encode_us.fetch_add(written.encode_us, Relaxed);
        if stats.set_trouble(None) {
            tracing::info!(store = series.describe(), "the series store takes points");
        }
    }

    /// A point that the store will never take must not stop the series of everybody: it is kept elsewhere and named.
    async fn pass_over(
        &mut self,
        point: &Point,
        place: Place,
        why: String,
    ) -> Result<(), SeriesError> {
        let Links { series, store, stats, .. } = self.links;
        self.in_a_row += 1;
        stats.refused.fetch_add(1, Relaxed);
        let (device, name) = (&*point.device, &point.name);
        tracing::error!(why, device, name, at_us = point.at_us, "a point is refused and left out");
        let refused = RefusedPoint { store: series.cursor(), place, point, why: &why };
        store.keep_refused(&refused).await?;
        Ok(())
    }

    async fn doubt(&mut self, why: &str) {
        let Links { series, stats, .. } = self.links;
        let trouble = format!(
            "{REFUSED_IN_A_ROW_MAX} points in a row were refused and none was taken, so no more are left out until one is: {why}"
        );
        if stats.set_trouble(Some(trouble.clone())) {
            tracing::error!(store = series.describe(), "{trouble}");
        }
        self.pause(Duration::from_millis(BACKOFF_MS_MAX)).await;
    }

    /// Waits, and shows all the while that the cursor lives.
    async fn pause(&self, wait: Duration) {
        let end = tokio::time::Instant::now() + wait;
        while tokio::time::Instant::now() < end {
            (self.beat)();
            let step = tokio::time::Instant::now() + Duration::from_millis(IDLE_MS_MAX);
            tokio::time::sleep_until(step.min(end)).await;
        }
    }
}
