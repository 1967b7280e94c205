//! TLS for devices: who the hub is, who a device is, and what is in force now.
//!
//! ```text
//!  authority ─ the hub's own CA: DATA/tls, made at the first start; issues certificates
//!     └─► pair ─ a chain with its key, from PEM or just issued
//!            └─► endpoint ─ what handshakes use now; renewed, and read anew from the user's files
//!  fingerprint ─ SHA-256 of a certificate: what a device is known by       validity ─ from when to when it is good
//! ```
//! A certificate names nobody by itself: it must chain to the hub's CA or to one of the user's (`client_ca_file`), be within
//! its validity, **and** its fingerprint must be a standing credential of a device. So a credential is revoked like a
//! password, there are no revocation lists, and whoever holds a CA cannot become a device that nobody enrolled.
//!
//! Invariants of absence: no session is resumed (no tickets, no session cache), so every connection proves itself anew under
//! what is in force now; no key of a device or of the server is stored by the hub; only the CA's key is, mode 0600.

pub mod authority;
pub mod endpoint;
pub mod fingerprint;
pub mod pair;
pub mod validity;

pub use authority::{Authority, Issued};
pub use endpoint::{Files, Standing, Tls};
pub use fingerprint::Fingerprint;
pub use pair::Pair;
pub use validity::Validity;

use std::path::PathBuf;

/// Seconds of a day.
pub const DAY_S: i64 = 86_400;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// What a file holds is not what it should.
    #[error("{path}: {what}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Certificate and key do not fit, or rustls refuses them.
    #[error("certificate and key cannot be used together: {0}")]
    Refused(String),
    /// A setting that is needed is not there.
    #[error("{0}")]
    Unset(&'static str),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Issue(String),
}
