//! What hangs on a serial line: an RFID module of the R200 family, and a barcode scanner, each on a pseudo-terminal.
//!
//! ```text
//!  Source ─ reads ─► Module (state machine, faults) ─ bytes ─► served ─┐
//!                                                                      ├─ Port (pty under a stable path) ─► the hub
//!  codes ──────────────────────────────────────────► Scanner ──────────┘
//! ```
//! Frames are made and read here and not by `device-profiles`, so that the two cannot share a mistake.

mod frame;
mod module;
mod port;
mod scanner;
mod served;

pub use module::{Faults, Module, ROUND_US};
pub use port::Port;
pub use scanner::{Ending, Scanner};
pub use served::Served;
