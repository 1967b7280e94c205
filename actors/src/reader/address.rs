//! Where a reader is, written as a URL: `llrp://HOST[:5084]`, or `llrps://HOST[:5085]` for LLRP over TLS.

use std::{fmt, str::FromStr};

use crate::bus::address::{ADDRESS_BYTES_MAX, AddressError, host_port};

/// Port of LLRP when none is given (LLRP 1.1, 8.1).
pub const PORT: u16 = 5_084;
/// Port of LLRP over TLS when none is given.
pub const TLS_PORT: u16 = 5_085;

/// Where a reader is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderAddress {
    /// `host:port`.
    pub place: String,
    /// It is spoken to over TLS.
    pub tls: bool,
}

impl ReaderAddress {
    /// A text that begins like such an address.
    pub fn is_one(text: &str) -> bool {
        text.starts_with("llrp://") || text.starts_with("llrps://")
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        let host = self.place.rsplit_once(':').map_or(self.place.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl FromStr for ReaderAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = |why: &str| {
            AddressError::new(
                text,
                why,
                "a reader's address",
                "llrp://HOST or llrps://HOST, with or without :PORT",
            )
        };
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        let (tls, place) = match text.split_once("://") {
            Some(("llrp", place)) => (false, place),
            Some(("llrps", place)) => (true, place),
            Some(_) | None => return Err(bad("the scheme is neither llrp nor llrps")),
        };
        let port = if tls { TLS_PORT } else { PORT };
        let place = host_port(place, Some(port)).map_err(|why| bad(&why))?;
        Ok(Self { place, tls })
    }
}

impl fmt::Display for ReaderAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "llrps" } else { "llrp" }, self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for (text, shown, host) in [
            ("llrp://10.0.0.7", "llrp://10.0.0.7:5084", "10.0.0.7"),
            ("llrps://dock.lan", "llrps://dock.lan:5085", "dock.lan"),
            ("llrp://[::1]:15084", "llrp://[::1]:15084", "::1"),
        ] {
            let address: ReaderAddress = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.host()), (shown, host));
            assert_eq!(shown.parse::<ReaderAddress>().unwrap(), address);
        }
        for bad in
            ["llrp://", "llrp://h:0", "llrp://h:x", "tcp://h", "h", "llrp://a b", "llrp://::1"]
        {
            let error = bad.parse::<ReaderAddress>().unwrap_err().to_string();
            assert!(error.contains("llrps://HOST"), "{error}");
        }
    }
}
