//! The actors: shells around the pure fold, the journal they share, and the ports to the outside.
//!
//! ```text
//!  listeners (hub) ─► journal ─► stock actors ─► committers ─► Store
//!                        │            └─ snapshots
//!                     cursors (hub)
//! ```
//! [`guardian`] keeps each of them running. Nothing here knows MQTT, HTTP or SQL.

pub mod bus;
pub mod guardian;
pub mod journal;
pub mod ports;
pub mod reader;
pub mod serial;
pub mod snapshot;
pub mod stock;
pub mod store;
