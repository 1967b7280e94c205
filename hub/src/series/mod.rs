//! Time series: what sensors said, for charts. Never stock.
//!
//! ```text
//!  journal ─► points (pure) ─► cursor ─► SeriesStore ─┬─► PostgreSQL   store/series.rs: day partitions, roll-ups
//!                                 │                   └─► InfluxDB 2   influx.rs: line.rs out, flux.rs and csv.rs back
//!                                 └─ refused points are kept by name, never silently left out
//! ```
//! One trait, two stores. Each store has its own place in the journal, so a store that is switched to is back-filled from where
//! it stood, else from the beginning of what the journal still has. The place is saved only when the points before it are
//! acknowledged; after a crash they are written again, and that changes nothing, because a point has an identity.
//!
//! **A point's identity** is (device, name, time, tie). The time is in microseconds; the tie, 0 to 999, sets readings of the same
//! microsecond apart and is derived from the frame alone: its sequence number, or the journal's when it has none. So a
//! frame that is written again, or that a device sends again with its own time, is the same point, and two frames of one
//! microsecond are two points. InfluxDB gets time and tie as nanoseconds. Limit: of more than [`TIES_MAX`] readings that a device
//! with a standing clock stamps with one microsecond, the ones that share a tie are one point: PostgreSQL keeps the first and
//! counts the others as repeated, InfluxDB keeps the last.
//!
//! Weights come ten times a second and a cell; one a second is kept, because every frame is in the journal anyway and a chart
//! shows no more. Which one is decided while reading, so a cursor that starts again may keep one reading more at its seam.

pub mod csv;
pub mod cursor;
pub mod flux;
pub mod influx;
pub mod line;
pub mod points;
pub mod stats;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::store::told::{BucketRow, ReadingRow};

pub use self::{cursor::run, influx::Influx, stats::SeriesStats};

/// Readings of a device and name that one microsecond can hold.
pub const TIES_MAX: u64 = 1_000;
/// A last value is looked for so far back, in days.
pub const LOOK_BACK_DAYS_MAX: i64 = 31;
/// Microseconds of a day.
pub const DAY_US: i64 = 86_400_000_000;

/// One reading of one sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// When, microseconds since the Unix epoch.
    pub at_us: i64,
    /// Sets readings of one microsecond apart; below [`TIES_MAX`].
    pub tie: u16,
    /// Facility.
    pub facility: Arc<str>,
    /// Device.
    pub device: Arc<str>,
    /// Series name, such as `climate.t`; no control characters.
    pub name: String,
    /// What was read.
    pub value: Reading,
}

/// What a sensor said.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// A number; a switch is 0 or 1, a weight is in grams.
    Number(f64),
    /// A text without control characters.
    Text(String),
}

impl Point {
    /// About the bytes it takes in memory and on the wire.
    pub fn bytes(&self) -> usize {
        let text = match &self.value {
            Reading::Number(_) => 8,
            Reading::Text(text) => text.len(),
        };
        self.facility.len() + self.device.len() + self.name.len() + text + 40
    }
}

/// A place in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Of this journal.
    pub epoch: u32,
    /// Everything up to this offset is written.
    pub offset: u64,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Points that were there already; a store that overwrites cannot tell and says 0.
    pub repeated: usize,
    /// Time spent encoding, in microseconds of CPU-bound work.
    pub encode_us: u64,
}

/// Why a store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeriesFault {
    /// It is away, overloaded, or does not know us: nothing may be left out, the same again later.
    #[error("{why}")]
    Away {
        /// What happened, and what to do when a person has to.
        why: String,
        /// Not before this time has passed, if the store said so.
        after: Option<Duration>,
    },
    /// It refuses these points as they are; fewer of them may pass.
    #[error("{0}")]
    Refused(String),
    /// Its answer makes no sense: a fault of ours, or another version.
    #[error("{0}")]
    Broken(String),
}

impl SeriesFault {
    /// Away, for as long as the caller's own back-off says.
    pub fn away(why: impl Into<String>) -> Self {
        Self::Away { why: why.into(), after: None }
    }
}

/// A point of an order that both stores share: newest first by time, tie and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Time, microseconds since the Unix epoch.
    pub at_us: i64,
    /// Tie; 0 for buckets.
    pub tie: u16,
    /// Series name.
    pub name: String,
}

/// Which readings are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ask {
    /// Of this device.
    pub device: String,
    /// Of this series; all of them when absent.
    pub name: Option<String>,
    /// From this time on, microseconds since the Unix epoch.
    pub from_us: Option<i64>,
    /// Before this time.
    pub to_us: Option<i64>,
    /// Beyond this one, in the order of the list.
    pub beyond: Option<Key>,
    /// At most so many.
    pub limit: usize,
}

/// What a store will answer.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, SeriesFault>> + Send + 'a>>;

/// Where series are kept. Every method is one attempt; patience is the cursor's.
pub trait SeriesStore: Send + Sync {
    /// Name of its place in the journal: another for each store that has other contents.
    fn cursor(&self) -> &str;

    /// What it is, for people; without secrets.
    fn describe(&self) -> String;

    /// Its place in a journal; 0 when it never began.
    fn place(&self, epoch: u32) -> Pending<'_, u64>;

    /// Writes points, then moves the place. Writing a point again changes nothing. [`SeriesFault::Refused`] means that not all
    /// of them were taken.
    fn write<'a>(&'a self, points: &'a [Point], place: Option<Place>) -> Pending<'a, Written>;

    /// Readings as they came, newest first.
    fn readings<'a>(&'a self, ask: &'a Ask) -> Pending<'a, Vec<ReadingRow>>;

    /// Numbers by buckets of `every_s` seconds since the Unix epoch, newest first. `from_us` and `to_us` lie on such borders.
    fn buckets<'a>(&'a self, ask: &'a Ask, every_s: i64) -> Pending<'a, Vec<BucketRow>>;

    /// The last reading of each series of a device at a time or up to [`LOOK_BACK_DAYS_MAX`] before it, by name. `from_us`,
    /// `to_us` and `beyond` do not count.
    fn last<'a>(&'a self, ask: &'a Ask, at_us: i64) -> Pending<'a, Vec<ReadingRow>>;
}
