//! The harness of the tests across crates: the real `stockfold` binary on a directory of its own, and what speaks to it.
//!
//! ```text
//!  Hub ── process, log, data directory, private PostgreSQL ── start, kill, stop, restart on the same ports
//!   ├─ Api ── HTTP with the hub's own token
//!   ├─ Shop ── a facility with slots, SKUs and enrolled devices
//!   └─ Device ── one MQTT connection, packet by packet
//!  Shelves ── slots on Modbus transmitters;  Slaves ── the transmitters, by pymodbus and libmodbus;  SerialLine ── their line
//!  Transmitters ── those of the simulator;  SimReader, Llrpkit ── RFID readers;  Portals ── the hub's view of them
//! ```
//! Nothing here shares code with the hub: binaries are run, packets come from the simulator or byte by byte. Nothing sleeps
//! for a time that is hoped to be enough: every wait is for something that can be seen, and has a limit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a harness panics with what it saw, prints logs of failures and measures real time"
)]

mod api;
mod aside;
mod brokers;
mod device;
mod hub;
pub mod journal;
mod leash;
mod log;
mod ports;
mod programs;
mod readers;
mod serial;
mod shared;
mod shelves;
mod shop;
mod slave;
mod transmitters;
mod victoria;
mod wait;

pub use api::{Answer, Api};
pub use brokers::Broker;
pub use device::{Answered, Device, Wire, connect_bytes};
pub use hub::{Failed, Hub, Setup};
pub use log::Log;
pub use ports::free_port;
pub use programs::{Ran, foreign, python, stockfold, stockfold_sim};
pub use readers::{Llrpkit, Portals, SimReader};
pub use serial::SerialLine;
pub use shared::{Shared, hub};
pub use shelves::{Shelves, laumas};
pub use shop::{Exits, Login, Shop};
pub use simulator::mqtt::packet::{Incoming, Version};
pub use slave::Slaves;
pub use transmitters::Transmitters;
pub use victoria::Victoria;
pub use wait::{WAIT_MAX, until};
