//! The simulator's own MQTT client, 3.1.1 and 5.
//!
//! ```text
//!  packet    bytes ◄─► packets, no state
//!  session   which messages wait, which are in flight, what to send again: no IO, no time
//!  client    one socket: connects, keeps alive, reconnects with jittered back-off, drives a session
//! ```
//! Written apart from the hub's, so that the two cannot share a mistake.

pub mod client;
pub mod packet;
pub mod session;
