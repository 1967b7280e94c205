//! What a bus and its units are like, for the API and metrics: written by the actor, read by anybody.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

use super::link::CallError;

/// Longest text of a last error that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 200;

/// Figures of a bus.
#[derive(Debug, Default)]
pub struct BusHealth {
    /// The link is up.
    pub up: AtomicBool,
    /// Times it was connected.
    pub connects: AtomicU64,
    /// Microseconds spent waiting for units, pauses between frames included.
    pub busy_us: AtomicU64,
    /// Microseconds since it began.
    pub lived_us: AtomicU64,
    /// Bytes that were on the line after an error and thrown away.
    pub drains: AtomicU64,
    error: Mutex<String>,
}

/// Figures of a unit.
#[derive(Debug, Default)]
pub struct UnitHealth {
    /// Polls that brought an image.
    pub polls: AtomicU64,
    /// Frames handed on.
    pub delivered: AtomicU64,
    /// Frames the journal could not take.
    pub full: AtomicU64,
    /// Frames of a device that may not speak.
    pub refused: AtomicU64,
    /// Polls without an answer in time.
    pub timeouts: AtomicU64,
    /// Exceptions it answered.
    pub exceptions: AtomicU64,
    /// Answers that were not to the request, or of another length.
    pub garbled: AtomicU64,
    /// Merged requests that it refused and that are asked for in parts since.
    pub splits: AtomicU64,
    /// The last request to it failed.
    pub failing: AtomicBool,
    /// It was set aside; tried from time to time.
    pub aside: AtomicBool,
    /// Its heartbeat stands still: it repeats an old measurement.
    pub frozen: AtomicBool,
    /// Last answer, microseconds since the bus began; 0 = none yet.
    pub answered_us: AtomicU64,
    /// Smoothed time of a poll, microseconds.
    pub latency_us: AtomicU32,
    error: Mutex<String>,
}

impl BusHealth {
    /// What is wrong; empty when nothing is.
    pub fn error(&self) -> String {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that the link is up and nothing is wrong any more; returns how often it was up before.
    pub fn note_connected(&self) -> u64 {
        forget(&self.error);
        self.up.store(true, Relaxed);
        self.connects.fetch_add(1, Relaxed)
    }

    /// Notes what went wrong.
    pub fn note_error(&self, error: &CallError) {
        keep(&self.error, error);
    }
}

impl UnitHealth {
    /// What is wrong; empty when nothing is.
    pub fn error(&self) -> String {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes an answer after `took_us`.
    pub fn note_answer(&self, now_us: u64, took_us: u64) {
        self.answered_us.store(now_us.max(1), Relaxed);
        let took = u32::try_from(took_us).unwrap_or(u32::MAX);
        let known = self.latency_us.load(Relaxed);
        let smooth = if known == 0 { took } else { known - known / 8 + took / 8 };
        self.latency_us.store(smooth, Relaxed);
    }

    /// Notes whether the last request went well; what was wrong before is over then.
    pub fn note_end(&self, well: bool) {
        if self.failing.swap(!well, Relaxed) && well {
            forget(&self.error);
        }
    }

    /// Notes what went wrong.
    pub fn note_error(&self, error: &CallError) {
        let counter = match error {
            CallError::Timeout(_) => Some(&self.timeouts),
            CallError::Exception(_) => Some(&self.exceptions),
            CallError::Foreign(_) | CallError::Length { .. } => Some(&self.garbled),
            CallError::Down(_) => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Relaxed);
        }
        keep(&self.error, error);
    }
}

fn forget(place: &Mutex<String>) {
    place.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

fn keep(place: &Mutex<String>, error: &CallError) {
    let mut text = error.to_string();
    let mut end = text.len().min(ERROR_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    *place.lock().unwrap_or_else(PoisonError::into_inner) = text;
}
