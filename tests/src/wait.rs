//! Waiting for something that can be seen.

use std::time::{Duration, Instant};

/// Longest wait for anything. Far beyond what is usual, so that only a fault reaches it.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until `look` finds something.
///
/// # Panics
/// After [`WAIT_MAX`], with `what` was waited for.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < WAIT_MAX, "waited {} s in vain: {what}", WAIT_MAX.as_secs());
        std::thread::sleep(LOOK);
    }
}
