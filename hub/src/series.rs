//! The series cursor: reads the journal on its own and writes sensor values as time series.
//!
//! It has its own place in the journal, kept in the same transaction as the points, so it may lag, stop and resume without
//! losing or doubling a point, and never holds up stock. The journal is not trimmed beyond it.
//!
//! Weights come ten times a second and a cell; one a second is kept as a series, because every frame is in the journal anyway
//! and a chart shows no more.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use actors::{
    journal::{Journal, ReadError, Reader, Record},
    ports::fs::RealFs,
};
use device_profiles::{Measurement, Profile, ProfileHash, Value, decode, profile::Kind};
use fold::{Body, Entry, HubTime, Position, wire};

use crate::store::{PgStore, fault::Fault, series::Point};

/// Name of its cursor.
pub const CURSOR: &str = "series";
/// Cells whose last point is remembered.
pub const CELLS_MAX: usize = 100_000;
/// Points written together at most.
pub const POINTS_MAX: usize = 5_000;
/// At most one weight of a cell in this time, in microseconds.
pub const WEIGHT_EVERY_US: i64 = 1_000_000;
/// A device clock may be off by so much and still stamp its points, in microseconds; else the time of reception does.
pub const CLOCK_OFF_US_MAX: i64 = 86_400_000_000;
/// Without points the cursor is written after this many records.
const RECORDS_MAX: usize = 100_000;

/// Figures.
#[derive(Debug, Default)]
pub struct SeriesStats {
    /// Points written.
    pub points: AtomicU64,
    /// Points the database refused.
    pub refused: AtomicU64,
    /// Offset up to which the journal was read.
    pub offset: AtomicU64,
}

/// Why the cursor stops; its guardian starts it again.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// PostgreSQL.
    #[error(transparent)]
    Store(#[from] Fault),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] ReadError),
}

/// What turns records into points; pure.
#[derive(Default)]
pub struct Points {
    profiles: HashMap<ProfileHash, Arc<Profile>>,
    weighed: BTreeMap<(String, String), i64>,
}

impl Points {
    /// Learns a profile.
    pub fn learn(&mut self, profile: Profile) {
        self.profiles.insert(profile.hash, Arc::new(profile));
    }

    /// The points of a record.
    pub fn of(&mut self, record: &Record, out: &mut Vec<Point>) {
        // Most frames change stock and are no series; telling so must cost next to nothing.
        if record.kind == wire::KIND_FRAME
            && let Some((hash, stream)) = wire::frame_stream(&record.payload)
            && let Some(stream) =
                self.profiles.get(&hash).and_then(|profile| profile.stream(stream))
            && matches!(stream.kind, Kind::Stock(_) | Kind::Scan(_))
        {
            return;
        }
        let position = Position::default();
        let unknown = actors::stock::start::unknown_facility();
        let entry =
            wire::decode(position, HubTime(record.at_us), record.kind, &record.payload, &unknown);
        match &entry.body {
            Body::Profile(text) => {
                if let Ok(profile) = Profile::parse(text) {
                    self.learn(profile);
                }
            }
            Body::Frame(frame) => {
                let Some(profile) = self.profiles.get(&frame.profile).cloned() else { return };
                let Ok(reading) = decode(&profile, &frame.stream, &frame.raw) else { return };
                let at_us = reading
                    .device_us
                    .filter(|us| {
                        us.saturating_sub(record.at_us).saturating_abs() <= CLOCK_OFF_US_MAX
                    })
                    .unwrap_or(record.at_us);
                for measurement in &reading.measurements {
                    self.point(&entry, frame.device.as_str(), measurement, at_us, out);
                }
            }
            Body::Tick
            | Body::Master(_)
            | Body::Command(_)
            | Body::Quarantined { .. }
            | Body::FoldUpgraded { .. }
            | Body::Restated { .. }
            | Body::Unreadable { .. } => {}
        }
    }

    fn point(
        &mut self,
        entry: &Entry,
        device: &str,
        measurement: &Measurement,
        at_us: i64,
        out: &mut Vec<Point>,
    ) {
        let (name, value, text) = match measurement {
            Measurement::Weight { fault: Some(_), .. } => return,
            Measurement::Weight { channel, mass, .. } => {
                let key = (device.to_owned(), channel.to_string());
                if self.weighed.len() >= CELLS_MAX && !self.weighed.contains_key(&key) {
                    // Somebody makes channels up; a second's worth of extra points is the price of starting over.
                    self.weighed.clear();
                }
                let last = self.weighed.entry(key).or_insert(i64::MIN);
                if at_us.saturating_sub(*last) < WEIGHT_EVERY_US && *last <= at_us {
                    return;
                }
                *last = at_us;
                (format!("weight.{channel}"), Some(mass.0 as f64 / 1_000.0), None)
            }
            Measurement::Value { name, value: Value::Number(number) } => {
                (name.clone(), Some(*number), None)
            }
            Measurement::Value { name, value: Value::Bool(on) } => {
                (name.clone(), Some(if *on { 1.0 } else { 0.0 }), None)
            }
            Measurement::Value { name, value: Value::Text(text) } => {
                (name.clone(), None, Some(text.clone()))
            }
            Measurement::Stock { .. } | Measurement::Scan { .. } => return,
        };
        // PostgreSQL's text knows no NUL, and one point must not hold up all others.
        let name = name.replace('\0', "\u{fffd}");
        let text = text.map(|text: String| text.replace('\0', "\u{fffd}"));
        let facility = entry.facility.to_string();
        out.push(Point { at_us, facility, device: device.to_owned(), name, value, text });
    }
}

/// Runs until an error; `beat` is called at each step.
pub async fn run(
    store: &PgStore,
    journal: &Journal<RealFs>,
    stats: &SeriesStats,
    beat: impl Fn(),
) -> Result<(), SeriesError> {
    let mut points = Points::default();
    for text in store.profile_contents().await? {
        if let Ok(profile) = Profile::parse(&text) {
            points.learn(profile);
        }
    }
    let after = store.journal_cursor(CURSOR, journal.epoch()).await?;
    let mut reader: Reader<RealFs> = journal.reader(after);
    let mut tip = journal.tip().watch();
    let (mut records, mut batch, mut read, mut last) = (Vec::new(), Vec::new(), 0, after);
    loop {
        beat();
        let more = reader.read(&mut records)?;
        for record in records.drain(..) {
            points.of(&record, &mut batch);
            last = record.offset;
            read += 1;
            if batch.len() >= POINTS_MAX {
                write(store, journal, stats, last, &mut batch).await?;
                read = 0;
            }
        }
        if read >= RECORDS_MAX || (!more && read > 0 && !batch.is_empty()) {
            write(store, journal, stats, last, &mut batch).await?;
            read = 0;
        }
        stats.offset.store(last, Relaxed);
        if more {
            tokio::task::yield_now().await;
        } else {
            let wait = std::time::Duration::from_secs(1);
            match tokio::time::timeout(wait, tip.changed()).await {
                Ok(Ok(())) => {
                    // Gather what comes within a moment: points are for charts, not for stock.
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
                Ok(Err(_)) => return Ok(()),
                Err(_) => {}
            }
        }
    }
}

async fn write(
    store: &PgStore,
    journal: &Journal<RealFs>,
    stats: &SeriesStats,
    offset: u64,
    batch: &mut Vec<Point>,
) -> Result<(), SeriesError> {
    match store.write_points(CURSOR, journal.epoch(), offset, batch).await {
        Ok(()) => {
            stats.points.fetch_add(batch.len() as u64, Relaxed);
        }
        Err(Fault::Broken(why)) => {
            // One point that the database refuses must not stop the series of everybody: it is left out and named.
            tracing::error!(
                why,
                points = batch.len(),
                "a batch of points is refused; writing them one by one"
            );
            for point in batch.iter() {
                match store
                    .write_points(CURSOR, journal.epoch(), offset, std::slice::from_ref(point))
                    .await
                {
                    Ok(()) => {
                        stats.points.fetch_add(1, Relaxed);
                    }
                    Err(Fault::Broken(why)) => {
                        stats.refused.fetch_add(1, Relaxed);
                        tracing::error!(
                            why,
                            device = point.device,
                            name = point.name,
                            "point left out"
                        );
                    }
                    Err(away) => return Err(away.into()),
                }
            }
            store.save_journal_cursor(CURSOR, journal.epoch(), offset).await?;
        }
        Err(away) => return Err(away.into()),
    }
    batch.clear();
    Ok(())
}
