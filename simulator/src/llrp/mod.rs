//! LLRP readers: what a reader on the wall does on the wire, driven by whoever says which tags are heard.
//!
//! ```text
//!  Source (physics, or a crowd) ─ reads ─► Device (state machine on any clock) ─ messages ─► server ─ TCP ─► the hub
//!                                            ▲ ROSpecs, holding, inputs, signs of life
//!                                            └ faults
//! ```
//!
//! A [`Device`] is pure: it is told the time and what the client said, and says what goes out. Messages are made and read by the
//! codec of `device-profiles`, which the hub uses too; that codec is judged by pyllrp, llrpkit and tshark and not by this.

mod crowd;
mod device;
mod fault;
mod report;
mod server;
mod spec;

pub use crowd::crowd;
pub use device::{Config, Device};
pub use fault::Faults;
pub use server::{Served, serve, serve_many};

use device_profiles::Tag;

/// A tag that an antenna heard once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// When, Unix microseconds.
    pub at_us: i64,
    /// The antenna's port, from 1.
    pub antenna: u16,
    /// The tag.
    pub tag: Tag,
    /// The signal, 1/100 dBm.
    pub rssi_cdbm: i16,
}

/// Says what a reader hears between two moments, Unix microseconds, the first included.
pub type Source = Box<dyn FnMut(i64, i64) -> Vec<Read> + Send>;
