//! Time. [`HubClock`] is the only clock whose readings are journaled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A machine's clocks.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds that never run backwards, from an arbitrary start.
    fn mono_us(&self) -> i64;
    /// Wall clock, microseconds since the Unix epoch; may step.
    fn wall_us(&self) -> i64;
}

impl Clock for std::sync::Arc<dyn Clock> {
    fn mono_us(&self) -> i64 {
        (**self).mono_us()
    }
    fn wall_us(&self) -> i64 {
        (**self).wall_us()
    }
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts counting now.
    #[allow(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn mono_us(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
    #[allow(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
    fn wall_us(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }
}

/// A wall clock that is off by more than this has stepped and is not followed, in microseconds.
pub const STEP_US: i64 = 2_000_000;
/// The hub's time follows the wall clock by at most this many parts per million.
const SLEW_PPM: i64 = 500;

/// The hub's time: monotonic, anchored to the wall clock at start, slewed after it, deaf to steps.
#[derive(Debug)]
pub struct HubClock<C> {
    clock: C,
    /// Hub time = monotonic + anchor.
    anchor_us: i64,
    last_mono_us: i64,
    last_us: i64,
    stepped: AtomicBool,
}

impl<C: Clock> HubClock<C> {
    /// Anchors at the wall clock, but not before `floor_us`, the newest time already journaled.
    pub fn new(clock: C, floor_us: i64) -> Self {
        let mono = clock.mono_us();
        let wall = clock.wall_us();
        Self {
            anchor_us: wall.saturating_sub(mono),
            last_mono_us: mono,
            last_us: floor_us,
            clock,
            stepped: AtomicBool::new(false),
        }
    }

    /// The time now; never less than before.
    pub fn now_us(&mut self) -> i64 {
        let mono = self.clock.mono_us();
        let off = self.clock.wall_us().saturating_sub(mono).saturating_sub(self.anchor_us);
        if off.abs() > STEP_US {
            self.stepped.store(true, Ordering::Relaxed);
        } else {
            self.stepped.store(false, Ordering::Relaxed);
            let elapsed = mono.saturating_sub(self.last_mono_us).max(0);
            let most =
                elapsed / 1_000_000 * SLEW_PPM + (elapsed % 1_000_000) * SLEW_PPM / 1_000_000;
            self.anchor_us += off.clamp(-most, most);
        }
        self.last_mono_us = mono;
        self.last_us = self.last_us.max(mono.saturating_add(self.anchor_us));
        self.last_us
    }

    /// Microseconds that never run backwards, for measuring.
    pub fn mono_us(&self) -> i64 {
        self.clock.mono_us()
    }

    /// The wall clock is far from the hub's time: somebody set it.
    pub fn has_stepped(&self) -> bool {
        self.stepped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone)]
    struct Fake(Arc<Mutex<(i64, i64)>>);
    impl Clock for Fake {
        fn mono_us(&self) -> i64 {
            self.0.lock().unwrap().0
        }
        fn wall_us(&self) -> i64 {
            self.0.lock().unwrap().1
        }
    }

    #[test]
    fn a_step_is_told_and_not_followed_a_drift_is_slewed() {
        let fake = Fake(Arc::new(Mutex::new((0, 1_000_000_000))));
        let mut clock = HubClock::new(fake.clone(), 0);
        assert_eq!(clock.now_us(), 1_000_000_000);
        *fake.0.lock().unwrap() = (1_000_000, 1_000_000_000 - 86_400_000_000);
        assert_eq!(clock.now_us(), 1_001_000_000, "a day back is not followed");
        assert!(clock.has_stepped());
        *fake.0.lock().unwrap() = (11_000_000, 1_011_500_000);
        assert_eq!(clock.now_us(), 1_011_000_000 + 5_000, "half a second ahead is slewed to");
        assert!(!clock.has_stepped());
    }

    #[test]
    fn never_before_what_was_journaled() {
        let fake = Fake(Arc::new(Mutex::new((0, 10))));
        assert_eq!(HubClock::new(fake, 5_000).now_us(), 5_000);
    }
}
