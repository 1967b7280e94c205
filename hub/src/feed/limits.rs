//! The limits of the feed, each named with its unit. `docs/limits.md` lists them.

use std::time::Duration;

/// Deltas are at least this far apart.
pub const DELTA_EVERY: Duration = Duration::from_millis(100);
/// Live values are at least this far apart.
pub const LIVE_EVERY: Duration = Duration::from_millis(200);
/// A heartbeat this often.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// Movements in a delta; older ones are counted and left out.
pub const DELTA_MOVEMENTS_MAX: usize = 200;
/// Events in a delta; older ones are counted and left out.
pub const DELTA_EVENTS_MAX: usize = 100;
/// Messages waiting for a client; one more and it is cut.
pub const CLIENT_QUEUE_MAX: usize = 64;
/// Requests waiting for the feed.
pub const REQUEST_QUEUE_MAX: usize = 256;
/// Longest message a client may send, in bytes.
pub const CLIENT_FRAME_BYTES_MAX: usize = 4_096;
/// How long saying goodbye may take.
pub const GOODBYE_WAIT: Duration = Duration::from_secs(1);
