//! RFID readers: one actor owns the connection to each reader that speaks LLRP, sets the reader and hands on what it says.
//!
//! ```text
//!  address  where the reader is          ┌─ session  LLRP as a state machine: bytes and time in, bytes and frames out
//!  dial ───► actor (connects, waits) ────┤
//!            │                           └─ prober   who is there, and what it can do; then good-bye
//!            ▼
//!      messages as they came ─► Sink (journal) · health (API, metrics)
//! ```
//!
//! A reader serves one client. It tells in its first message whether the hub is that one, and until then nothing is said to it.
//! Then it is set from nothing at every connection, so it does not matter who talked to it before: capabilities, configuration,
//! what it held while nobody was there, and one ROSpec of the hub's own in place of all others.
//!
//! What goes wrong with readers, and what is done against it here:
//!
//! - *Another client is attached*: told by name, and tried again with a long back-off ([`actor::BACKOFF_REFUSED_MS_MAX`]).
//! - *A connection that is dead and looks alive*: the reader gives signs of life, and three missing ones end the connection.
//! - *Reads while nobody listens*: a reader that can is told to hold them, and is asked for them first of all.
//! - *Answers out of order*: an answer is known by the id and the kind of its request; reports and events may come between.
//! - *Lies about lengths, hangs in a message, unknown messages*: a frame has limits of size and time; unknown messages are
//!   passed over by their length and counted; a stream that is out of step ends the connection.
//! - *A journal that is full*: the socket is not read until there is room, so the reader's own buffer and its overflow event take
//!   the load; after [`actor::FULL_MS_MAX`] a message is given up and counted.
//!
//! Frames are the messages as the reader sent them: reports, events, and a sign of life each second while the reader listens.
//! Only a report beyond what a frame may hold is cut, between tags.

pub mod actor;
pub mod address;
pub mod error;
pub mod health;
pub mod prober;
pub mod session;

use std::{io, pin::Pin, sync::Arc};

use bytes::Bytes;
use device_profiles::{DeviceId, LlrpSettings};
use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::bus::Delivered;
pub use actor::{Handle, start};
pub use address::ReaderAddress;
pub use error::ReaderError;
pub use health::{About, ReaderHealth};
pub use session::Session;

/// A reader as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderSpec {
    /// Its id among the buses.
    pub id: String,
    /// Where it is.
    pub address: ReaderAddress,
    /// The device it is.
    pub device: DeviceId,
    /// The stream its messages are frames of.
    pub stream: String,
    /// How it is set.
    pub settings: LlrpSettings,
}

/// Where messages go.
pub trait Sink: 'static {
    /// Takes one message of a device's stream. Must not wait: a full journal is told as such, and the message offered again.
    fn deliver(&self, device: &DeviceId, stream: &str, message: &Bytes) -> Delivered;
}

/// A connection to a reader.
pub trait Pipe: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Pipe for T {}

/// What [`Dial`] gives.
pub type Dialled = Pin<Box<dyn Future<Output = io::Result<Box<dyn Pipe>>>>>;

/// Connects to a reader, over TLS where its address says so: whom to trust is the hub's business.
pub type Dial = Arc<dyn Fn(&ReaderAddress) -> Dialled + Send + Sync>;
