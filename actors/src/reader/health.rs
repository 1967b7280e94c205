//! What a reader is like, for the API and metrics: written by the actor, read by anybody.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use device_profiles::llrp::Capabilities;

use super::{ReaderError, session::Counts};

/// Longest text of a last error that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 200;

/// What a reader says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Its maker's private enterprise number.
    pub vendor: u32,
    /// Its maker's number of the model.
    pub model: u32,
    /// Its firmware.
    pub firmware: String,
    /// Antennas it has at most.
    pub antennas: u16,
    /// It has a clock.
    pub has_utc: bool,
    /// It holds reports while nobody is connected.
    pub holds: bool,
}

impl About {
    /// What of its capabilities is told.
    pub fn of(capabilities: &Capabilities) -> Self {
        Self {
            vendor: capabilities.vendor,
            model: capabilities.model,
            firmware: capabilities.firmware.clone(),
            antennas: capabilities.antennas,
            has_utc: capabilities.has_utc,
            holds: capabilities.can_hold,
        }
    }
}

/// Figures of a reader.
#[derive(Debug, Default)]
pub struct ReaderHealth {
    /// It is connected and set.
    pub up: AtomicBool,
    /// Times it was connected.
    pub connects: AtomicU64,
    /// Microseconds since its actor began.
    pub lived_us: AtomicU64,
    /// When it said something last, microseconds since its actor began; 0 = never.
    pub heard_us: AtomicU64,
    /// Reports.
    pub reports: AtomicU64,
    /// Tags in them.
    pub reads: AtomicU64,
    /// Events.
    pub events: AtomicU64,
    /// Signs of life.
    pub keepalives: AtomicU64,
    /// Frames handed on.
    pub delivered: AtomicU64,
    /// Messages given up because the journal had no room for too long.
    pub lost: AtomicU64,
    /// Frames of a device that may not speak.
    pub refused: AtomicU64,
    /// Times its buffer ran over; what was in it never came.
    pub overflows: AtomicU64,
    /// Messages whose bytes are not what their length or kind says.
    pub garbled: AtomicU64,
    /// Messages of a kind that nobody here knows, passed over.
    pub unknown: AtomicU64,
    /// Answers to nothing that was asked.
    pub foreign: AtomicU64,
    /// Requests without an answer, and signs of life that did not come.
    pub timeouts: AtomicU64,
    about: Mutex<Option<About>>,
    error: Mutex<String>,
}

impl ReaderHealth {
    /// What is wrong; empty when nothing is.
    pub fn error(&self) -> String {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it said of itself when it was connected last.
    pub fn about(&self) -> Option<About> {
        self.about.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what it said of itself.
    pub fn note_about(&self, about: About) {
        *self.about.lock().unwrap_or_else(PoisonError::into_inner) = Some(about);
    }

    /// Notes that it is connected and set, and that nothing is wrong any more.
    pub fn note_connected(&self) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.up.store(true, Relaxed);
        self.connects.fetch_add(1, Relaxed);
    }

    /// Notes what went wrong.
    pub fn note_error(&self, error: &ReaderError) {
        match error {
            ReaderError::Timeout { .. } | ReaderError::NoGreeting(_) | ReaderError::Silent(_) => {
                self.timeouts.fetch_add(1, Relaxed);
            }
            ReaderError::Hang(_) | ReaderError::Garbled(_) => {
                self.garbled.fetch_add(1, Relaxed);
            }
            ReaderError::Down(_)
            | ReaderError::Taken(_)
            | ReaderError::Rejected { .. }
            | ReaderError::Unable(_)
            | ReaderError::Closed => {}
        }
        let mut text = error.to_string();
        let mut end = text.len().min(ERROR_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Adds what a session counted.
    pub fn add(&self, counts: Counts) {
        for (to, more) in [
            (&self.reports, counts.reports),
            (&self.reads, counts.reads),
            (&self.events, counts.events),
            (&self.keepalives, counts.keepalives),
            (&self.overflows, counts.overflows),
            (&self.garbled, counts.garbled),
            (&self.unknown, counts.unknown),
            (&self.foreign, counts.foreign),
        ] {
            if more > 0 {
                to.fetch_add(more, Relaxed);
            }
        }
    }
}
