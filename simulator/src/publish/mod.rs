//! Readers that publish JSON of their makers' own, instead of being asked by LLRP.
//!
//! ```text
//!  Source ─ reads ─► Format (impinj | zebra, pure) ─ messages ─► feed ─ the simulator's MQTT client ─► the hub
//! ```
//! The texts are put together here and share no code with the decoders of `device-profiles`: what those make of them is evidence.
//! A message has at most [`READS_MESSAGE_MAX`] reads, which keeps it well below what a hub takes as one frame.

mod feed;
mod impinj;
mod zebra;

pub use feed::{PERIOD, WAITING_MESSAGES_MAX, feed};
pub use impinj::Impinj;
pub use zebra::Zebra;

use crate::llrp::Read;

/// Reads of one message.
pub const READS_MESSAGE_MAX: usize = 200;

/// How a make writes what it reads, and where it publishes that.
#[derive(Debug)]
pub enum Format {
    /// Impinj, IoT device interface.
    Impinj(Impinj),
    /// Zebra, IoT Connector.
    Zebra(Zebra),
}

impl Format {
    /// The shipped profile that reads it.
    #[must_use]
    pub fn profile(&self) -> &'static str {
        match self {
            Self::Impinj(_) => "impinj-iot",
            Self::Zebra(_) => "zebra-iotc",
        }
    }

    /// Where a device publishes its reads.
    #[must_use]
    pub fn topic(&self, device: &str) -> String {
        match self {
            Self::Impinj(_) => format!("impinj/{device}/events"),
            Self::Zebra(_) => format!("zebra/{device}/d-evt"),
        }
    }

    /// Topic and text that a device publishes when it is connected, if it does.
    #[must_use]
    pub fn greeting(&self, device: &str) -> Option<(String, &'static [u8])> {
        match self {
            Self::Impinj(_) => Some((format!("impinj/{device}/status"), b"connected")),
            Self::Zebra(_) => None,
        }
    }

    /// The messages of some reads, sent at a moment, Unix microseconds; none of no reads.
    pub fn messages(&mut self, reads: &[Read], now_us: i64) -> Vec<Vec<u8>> {
        let parts = reads.chunks(READS_MESSAGE_MAX);
        match self {
            Self::Impinj(impinj) => parts.map(|part| impinj.message(part, now_us)).collect(),
            Self::Zebra(zebra) => parts.map(|part| zebra.message(part)).collect(),
        }
    }

    /// A message was written and never sent: each make tells of it in its own way.
    pub fn give_up(&mut self) {
        match self {
            // Its next message says that something is missing, not how much.
            Self::Impinj(impinj) => impinj.overflowed = true,
            // Their numbers are used up.
            Self::Zebra(_) => {}
        }
    }
}
