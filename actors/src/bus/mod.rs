//! Buses: one actor owns each Modbus TCP endpoint, RS-485 line or gateway, and nobody else talks on it.
//!
//! ```text
//!  commands ─┐  handle              ┌─ address   where the bus is
//!  read now ─┼─► actor ── schedule ─┤  unit      one device: lengths that cannot be mistaken, what it refuses
//!  polls  ───┘     │     (pure)     │  link      one connection; poisoned by any timeout or error
//!                  │                └─ wire      bytes: silence, echo, what was drained
//!                  ▼
//!          register image ─► Sink (journal) · health (API, metrics)
//! ```
//!
//! What users of other systems report, and what is done against it here:
//!
//! - *Does not come back after a drop*: a link is thrown away on any error and made anew, with jittered back-off of at most
//!   [`link::BACKOFF_MS_MAX`].
//! - *A dead slave stalls the bus*: a unit that fails is set aside by its breaker and tried again in at most a tenth of the
//!   bus's time ([`schedule`]).
//! - *Wrong values after a timeout*: an answer that comes late would be taken for that of the next request. After any timeout
//!   or error the line is drained until it is silent, and the next request to that unit has another length than every
//!   unanswered one, so a late answer can never fit ([`unit::Shapes`]).
//! - *Garbage*: lengths are checked here, masses outside any scale's range are rejected by the decoder, and the journal has
//!   the registers.
//!
//! What is polled tells levels, so a poll that is skipped loses nothing; when the journal cannot take a frame the frame is
//! dropped and counted, never queued.

pub mod actor;
pub mod address;
pub mod handle;
pub mod health;
pub mod link;
pub mod prober;
pub mod schedule;
pub mod unit;
pub mod wire;

use std::sync::Arc;

use device_profiles::{DeviceId, Profile};

pub use actor::start;
pub use address::{BusAddress, Parity, Serial};
pub use handle::{Ask, AskError, Asked, Handle};
pub use health::{BusHealth, UnitHealth};

/// Asks (commands and reads) that may wait for a bus.
pub const ASKS_MAX: usize = 64;

/// A bus as it is configured.
#[derive(Debug, Clone, PartialEq)]
pub struct BusSpec {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub address: BusAddress,
    /// Who is on it.
    pub units: Vec<UnitSpec>,
}

/// A unit of a bus.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitSpec {
    /// The device.
    pub device: DeviceId,
    /// Its address on the bus, 1 to 247 (TCP endpoints often use 1 or 255).
    pub unit: u8,
    /// Its register map.
    pub profile: Arc<Profile>,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// On its way to the journal.
    Taken,
    /// The journal's queue or the disk is full; the next poll tells the level anyway.
    Full,
    /// The device may not speak (revoked, unknown).
    Refused,
}

/// Where register images go.
pub trait Sink: 'static {
    /// Takes one image of a device's stream. Must not wait.
    fn deliver(&self, device: &DeviceId, stream: &str, image: Vec<u8>) -> Delivered;
}
