//! Modbus transmitters: register banks driven by the physics, served over TCP, RTU over TCP and pseudo-terminals.
//!
//! ```text
//!  World ─ what each cell shows ─► Bank (make × scales) ─ registers ─► pdu ─► server ─ faults, baud ─► the hub's master
//!    └─ stage: puts it there in time, and lets troubles befall banks and servers
//! ```
//!
//! Framing, checksum and register maps are written here from the makers' manuals and not taken from the crate that decodes
//! them, so that a mistake in one is not hidden by the same mistake in the other.

pub mod bank;
pub mod fault;
pub mod make;
pub mod pdu;
pub mod server;
pub mod stage;
pub mod trouble;

pub use bank::{Bank, Power, Scale};
pub use fault::{Fault, Faults};
pub use make::Make;
pub use server::{Framing, Line, Served, serve, serve_at_most, serve_pty};
pub use stage::Stage;
