//! Rates: one atomic number per limit (GCRA), shared by all connections of a device.
//!
//! The number is the time, in nanoseconds since the meter's base, at which everything taken so far would have been
//! earned. Taking is allowed while that time is at most a burst ahead of now.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// A rate limit.
#[derive(Debug)]
pub struct Meter {
    base: Instant,
    earned_at: AtomicU64,
    unit_nanos: u64,
    burst_nanos: u64,
}

impl Meter {
    /// `count` units every `per`, at most `burst` at once.
    pub fn new(base: Instant, count: u32, per: Duration, burst: u32) -> Self {
        let per_nanos = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        let unit_nanos = (per_nanos / u64::from(count.max(1))).max(1);
        let burst_nanos = unit_nanos.saturating_mul(u64::from(burst.max(1)));
        Self { base, earned_at: AtomicU64::new(0), unit_nanos, burst_nanos }
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes `n` units if the burst allows it; otherwise the wait until it will. More than a burst is taken when the
    /// full burst is there, so that one large packet passes instead of waiting for ever.
    pub fn take(&self, n: u64, now: Instant) -> Result<(), Duration> {
        let now_nanos = self.nanos(now);
        let cost = self.unit_nanos.saturating_mul(n);
        let mut seen = self.earned_at.load(Relaxed);
        loop {
            let start = seen.max(now_nanos);
            let limit = now_nanos.saturating_add(self.burst_nanos.max(cost));
            let end = start.saturating_add(cost);
            if end > limit {
                return Err(Duration::from_nanos(end - limit));
            }
            match self.earned_at.compare_exchange_weak(seen, end, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(current) => seen = current,
            }
        }
    }

    /// Nothing taken is still to be earned.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.earned_at.load(Relaxed) <= self.nanos(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let t0 = Instant::now();
        let meter = Meter::new(t0, 10, Duration::from_secs(1), 5);
        assert_eq!((0..100).filter(|_| meter.take(1, t0).is_ok()).count(), 5);
        let wait = meter.take(1, t0).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(meter.take(1, t0 + wait).is_ok());
        let passed = (1..=1000)
            .filter(|ms| meter.take(1, t0 + wait + Duration::from_millis(*ms)).is_ok())
            .count();
        assert_eq!(passed, 10);
        assert!(meter.is_idle(t0 + Duration::from_secs(10)));
    }

    #[test]
    fn more_than_a_burst_passes_when_the_meter_is_idle() {
        let t0 = Instant::now();
        let meter = Meter::new(t0, 10, Duration::from_secs(1), 5);
        assert!(meter.take(50, t0).is_ok());
        assert!(meter.take(1, t0).is_err());
    }
}
