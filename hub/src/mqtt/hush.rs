//! What refusals may write into the log: a few lines for each cause in a round, then one that says how many were left out.
//!
//! Anybody who reaches the port can be refused as often as they like, so a line for each would let strangers fill the disk.
//! Nothing vanishes: the counters count every refusal, and what is written and what is left out add up to them.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    limits::{REFUSAL_LINES_MAX, REFUSAL_ROUND_MS},
    stats::Counter,
};

/// The lines of a round, by cause.
#[derive(Debug)]
pub struct Hush {
    lines: Box<[AtomicU64]>,
    ends_at: Mutex<Instant>,
}

impl Hush {
    /// The first round begins now.
    pub fn new(now: Instant) -> Self {
        Self {
            lines: Counter::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            ends_at: Mutex::new(now + Self::round()),
        }
    }

    fn round() -> Duration {
        Duration::from_millis(REFUSAL_ROUND_MS)
    }

    /// Whether a line about this cause may be written. One that may not counts as left out.
    pub fn admits(&self, cause: Counter) -> bool {
        let lines = self.lines.get(cause as usize);
        lines.is_some_and(|lines| lines.fetch_add(1, Relaxed) < REFUSAL_LINES_MAX)
    }

    /// Whether the round is over; then the next one begins.
    pub fn is_over(&self, now: Instant) -> bool {
        let mut ends_at = self.ends_at.lock().unwrap_or_else(PoisonError::into_inner);
        let over = *ends_at <= now;
        if over {
            *ends_at = now + Self::round();
        }
        over
    }

    /// Writes how many lines of each cause were left out, and counts anew.
    pub fn tell(&self) {
        for (cause, lines) in Counter::ALL.iter().zip(&self.lines) {
            let left_out = lines.swap(0, Relaxed).saturating_sub(REFUSAL_LINES_MAX);
            if left_out > 0 {
                let cause = cause.name();
                tracing::info!(cause, left_out, "more was refused; these lines were left out");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_lines_and_a_round_gives_them_anew() {
        let now = Instant::now();
        let hush = Hush::new(now);
        let admitted = |cause| (0..100).filter(|_| hush.admits(cause)).count() as u64;
        assert_eq!(admitted(Counter::RefusedCredentials), REFUSAL_LINES_MAX);
        assert_eq!(admitted(Counter::RefusedNotEnrolled), REFUSAL_LINES_MAX);
        assert_eq!(admitted(Counter::RefusedCredentials), 0);
        assert!(!hush.is_over(now));
        assert!(hush.is_over(now + Hush::round()));
        assert!(!hush.is_over(now + Hush::round()), "the next one has begun");
        hush.tell();
        assert_eq!(admitted(Counter::RefusedCredentials), REFUSAL_LINES_MAX);
    }
}
