//! What the series cursor tells of itself: counters, and in words how the store is.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// Figures of the cursor.
#[derive(Debug, Default)]
pub struct SeriesStats {
    /// Points written.
    pub points: AtomicU64,
    /// Points that were there already.
    pub repeated: AtomicU64,
    /// Points the store refused for good.
    pub refused: AtomicU64,
    /// Points of writes that were tried again.
    pub retried: AtomicU64,
    /// Writes done.
    pub writes: AtomicU64,
    /// Time spent in writes, waiting included, in microseconds.
    pub write_us: AtomicU64,
    /// Time spent encoding, in microseconds.
    pub encode_us: AtomicU64,
    /// Offset up to which everything is written.
    pub offset: AtomicU64,
    /// Records read whose points are not written yet.
    pub waiting_records: AtomicU64,
    /// Hub time of the oldest record whose point is not written, in microseconds; 0 when there is none.
    pub waiting_since_us: AtomicI64,
    told: Mutex<Told>,
}

#[derive(Debug, Default, Clone)]
struct Told {
    store: String,
    trouble: Option<String>,
    gap: Option<String>,
}

impl SeriesStats {
    /// Age of the oldest point that is not written, in microseconds.
    pub fn lag_us(&self, now_us: i64) -> i64 {
        match self.waiting_since_us.load(Relaxed) {
            0 => 0,
            since => now_us.saturating_sub(since).max(0),
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It writes to this store.
    pub fn set_store(&self, store: String) {
        self.told().store = store;
    }

    /// The store does not take points, and why; `None` when it does again. True when that is news.
    pub fn set_trouble(&self, trouble: Option<String>) -> bool {
        let mut told = self.told();
        let news = told.trouble != trouble;
        told.trouble = trouble;
        news
    }

    /// Something could not be back-filled.
    pub fn set_gap(&self, gap: String) {
        self.told().gap = Some(gap);
    }

    /// Whether the store takes points.
    pub fn is_well(&self) -> bool {
        self.told().trouble.is_none()
    }

    /// How it is, for people.
    pub fn describe(&self, now_us: i64) -> String {
        let told = self.told().clone();
        let mut text = if told.store.is_empty() { "not begun".to_owned() } else { told.store };
        text.push_str(&match told.trouble {
            Some(why) => format!(
                ": takes nothing: {why}; {} records wait in the journal, the oldest for {} s",
                self.waiting_records.load(Relaxed),
                self.lag_us(now_us) / 1_000_000
            ),
            None => format!(": takes points, {} ms behind", self.lag_us(now_us) / 1_000),
        });
        if let Some(gap) = told.gap {
            text.push_str("; ");
            text.push_str(&gap);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_and_that_nothing_is_lost() {
        let stats = SeriesStats::default();
        stats.set_store("InfluxDB at http://h:8086, bucket b".into());
        assert!(stats.describe(5).ends_with("takes points, 0 ms behind"));
        stats.waiting_since_us.store(1_000_000, Relaxed);
        assert!(stats.set_trouble(Some("refused the token".into())));
        assert!(!stats.set_trouble(Some("refused the token".into())));
        let told = stats.describe(61_000_000);
        assert!(told.contains("refused the token") && told.contains("for 60 s"), "{told}");
    }
}
