//! Permissions: what a caller must be allowed for a call. Every route names one.
//!
//! Until the hub knows people, one token holds them all; the routes name them already, so that roles only have to grant.

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Nothing: nobody is asked who they are. A test holds the list of these.
    Open,
    /// Read facilities, shelves, SKUs, planograms, profiles.
    MasterRead,
    /// Change them.
    MasterWrite,
    /// Read devices, their readings and accounts.
    DevicesRead,
    /// Enrol, revoke, enable, calibrate and remove devices, make and revoke their credentials.
    DevicesWrite,
    /// Read levels, movements, discrepancies and evidence.
    StockRead,
    /// Receive, pick, move, count, adjust, tare, zero.
    StockChange,
    /// Read the metrics.
    MetricsRead,
    /// Be the device that the path names: its own secret is the credential, and nobody else's, not even an admin's.
    DeviceSelf,
}

impl Permission {
    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::MasterRead => "master:read",
            Self::MasterWrite => "master:write",
            Self::DevicesRead => "devices:read",
            Self::DevicesWrite => "devices:write",
            Self::StockRead => "stock:read",
            Self::StockChange => "stock:change",
            Self::MetricsRead => "metrics:read",
            Self::DeviceSelf => "device:self",
        }
    }
}
