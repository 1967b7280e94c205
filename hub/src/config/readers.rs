//! Section `[readers]`: whom the hub trusts when it speaks to RFID readers over TLS, and who it is to them.

use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;

/// RFID readers over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Readers {
    /// Authority of the readers' certificates, PEM.
    pub ca_file: Option<PathBuf>,
    /// The hub's own client certificate at readers, PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
}

impl Readers {
    /// Refuses half of a pair.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.cert_file.is_some() == self.key_file.is_some() {
            return Ok(());
        }
        Err(ConfigError::Value {
            key: "readers.key_file",
            detail: "cert_file and key_file are needed together".to_owned(),
        })
    }
}
