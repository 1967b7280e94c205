//! Serial lines of readers and scanners: one actor owns each port, and its one device is read by what comes over it.
//!
//! ```text
//!  port ─► actor ─┬─ serial-rfid: deframer (pure) ─► whole frames, gathered ─┐
//!    ▲            └─ scanner: lines (pure) ─► session (what its operator does) ─┴─► Sink (journal) · health (API, metrics)
//!    └── inventory commands
//! ```
//! A line is a bus with one unit ([`crate::bus::BusSpec`]), so it is configured, started anew and shown as any bus is; it is
//! asked nothing, because nothing there can be asked. Ports are named by a stable path (`/dev/serial/by-id/…` or `by-path`).
//!
//! - *Unplugged and plugged in again*: an error, an end, or a path that is gone ends the link; it is opened anew with a jittered
//!   back-off of at most [`crate::bus::link::BACKOFF_MS_MAX`]. What was cut off by it is noise, and counted.
//! - *Noise*: the deframer and the splitter of lines hold one frame or line at most; what is none is counted and let go.
//! - *Journal full*: tags tell levels, so a frame of them is dropped and counted. A scan is an event: it is held, and nothing more
//!   is read from the line until the journal has taken it.
//! - *What a scan means* is in its frame ([`device_profiles::codec::scanner`]), put there from the session the moment the line
//!   came. Sessions outlive the actor and are the hub's to keep ([`Sessions`]).

mod actor;
mod lines;
mod session;

pub use actor::start;
pub use lines::{LINE_BYTES_MAX, Lines};
pub use session::{COUNTED_CODES_MAX, Came, SAME_SCAN_MS, Session, Sessions};
