//! Why there is no session with a reader.

use device_profiles::llrp::Unable;

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReaderError {
    /// No connection.
    #[error("the reader cannot be reached: {0}")]
    Down(String),
    /// It did not greet.
    #[error("whoever is there does not greet as a reader within {0} ms")]
    NoGreeting(u64),
    /// It serves somebody else.
    #[error("the reader refuses the hub: {}; it serves one client at a time", taken(*.0))]
    Taken(u16),
    /// No answer.
    #[error("the reader does not answer {what} within {ms} ms")]
    Timeout {
        /// The request.
        what: &'static str,
        /// How long it had.
        ms: u64,
    },
    /// It said no.
    #[error("the reader refuses {what}: status {status}, {text:?}")]
    Rejected {
        /// The request.
        what: &'static str,
        /// Its status.
        status: u16,
        /// What it says.
        text: String,
    },
    /// It cannot do what its profile wants.
    #[error("the reader cannot be set as its profile says: {0}")]
    Unable(Unable),
    /// No sign of life.
    #[error("the reader gave no sign of life for {0} ms")]
    Silent(u64),
    /// It began a message and did not end it.
    #[error("the reader began a message and did not end it within {0} ms")]
    Hang(u64),
    /// What comes is out of step.
    #[error("what comes is no LLRP: {0}")]
    Garbled(String),
    /// It ended the connection by itself.
    #[error("the reader closed the connection")]
    Closed,
}

fn taken(status: u16) -> &'static str {
    match status {
        1 => "it has connected to a client itself",
        2 => "another client is connected",
        4 => "another client tried to connect",
        _ => "for a reason it does not name",
    }
}
