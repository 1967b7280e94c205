//! Where a bus is, written as a URL.
//!
//! ```text
//! tcp://HOST[:502]                                   Modbus TCP
//! rtu+tcp://HOST:PORT[?baud=19200]                   RTU frames through a serial server
//! rtu:///dev/serial/by-id/…?baud=19200&parity=none   a serial line; also data=8, stop=1, echo=yes
//! serial:///dev/serial/by-id/…?baud=115200           an RFID module or barcode scanner that has a port to itself
//! ```
//!
//! Serial ports are named by a stable path (`/dev/serial/by-id/…` or `by-path`): `ttyUSB0` is another adapter after the next
//! reboot, and nothing would notice.

use std::{fmt, str::FromStr, time::Duration};

use device_profiles::profile::Codec;

/// Port of Modbus TCP when none is given.
pub const TCP_PORT: u16 = 502;
/// Longest address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// Where a bus is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusAddress {
    /// A Modbus TCP endpoint, `host:port`.
    Tcp(String),
    /// RTU frames over TCP, `host:port`; the line behind it is not known, but its speed may be told.
    RtuOverTcp(String, Serial),
    /// A serial port.
    Rtu(String, Serial),
    /// A serial port of a reader or scanner, which says what it has to say.
    Line(String, Serial),
}

impl BusAddress {
    /// A device of this codec can be there.
    pub fn speaks(&self, codec: Codec) -> bool {
        match self {
            Self::Tcp(_) | Self::RtuOverTcp(..) | Self::Rtu(..) => codec == Codec::Modbus,
            Self::Line(..) => matches!(codec, Codec::SerialRfid | Codec::Scanner),
        }
    }
}

/// How characters go over a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serial {
    /// Bits a second.
    pub baud: u32,
    /// Data bits, 7 or 8.
    pub data: u8,
    /// Parity.
    pub parity: Parity,
    /// Stop bits, 1 or 2.
    pub stop: u8,
    /// The adapter hears what it sends (two-wire RS-485 without suppression).
    pub echo: bool,
}

/// Parity of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// None.
    None,
    /// Even, the protocol's own default.
    Even,
    /// Odd.
    Odd,
}

impl Default for Serial {
    fn default() -> Self {
        Self { baud: 19_200, data: 8, parity: Parity::None, stop: 1, echo: false }
    }
}

impl Serial {
    /// Bits of a character with its start, parity and stop bits.
    fn bits(self) -> u32 {
        1 + u32::from(self.data) + u32::from(self.parity != Parity::None) + u32::from(self.stop)
    }

    /// How long so many characters take.
    pub fn characters(self, n: usize) -> Duration {
        let bits = u64::from(self.bits()) * n as u64;
        Duration::from_micros(bits * 1_000_000 / u64::from(self.baud.max(1)))
    }

    /// Silence that ends a frame: 3.5 characters, and 1.75 ms above 19,200 baud (Modbus over Serial Line V1.02, 2.5.1.1).
    pub fn silence(self) -> Duration {
        if self.baud > 19_200 {
            return Duration::from_micros(1_750);
        }
        self.characters(7) / 2
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {why}. Write {forms}")]
pub struct AddressError {
    text: String,
    why: String,
    what: &'static str,
    forms: &'static str,
}

impl AddressError {
    /// `text` is not `what`, because of `why`; it is written in one of `forms`.
    pub(crate) fn new(text: &str, why: &str, what: &'static str, forms: &'static str) -> Self {
        Self { text: text.to_owned(), why: why.to_owned(), what, forms }
    }
}

impl FromStr for BusAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = |why: &str| {
            let forms = "tcp://HOST:502, rtu+tcp://HOST:PORT, rtu:///dev/serial/by-id/NAME?baud=19200&parity=none, serial:///dev/serial/by-id/NAME?baud=115200, llrp://HOST:5084 or llrps://HOST:5085";
            AddressError::new(text, why, "a bus address", forms)
        };
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let serial = serial(query).map_err(|why| bad(&why))?;
        match scheme {
            "tcp" if query.is_empty() => {
                Ok(Self::Tcp(host_port(place, Some(TCP_PORT)).map_err(|why| bad(&why))?))
            }
            "tcp" => Err(bad("tcp has no line settings")),
            "rtu+tcp" => {
                let place = host_port(place, None).map_err(|why| bad(&why))?;
                Ok(Self::RtuOverTcp(place, serial))
            }
            "rtu" if place.starts_with('/') && !place.contains("/../") => {
                Ok(Self::Rtu(place.to_owned(), serial))
            }
            "serial" if serial.echo => Err(bad("serial has no echo")),
            "serial" if place.starts_with('/') && !place.contains("/../") => {
                Ok(Self::Line(place.to_owned(), serial))
            }
            "rtu" | "serial" => Err(bad("a serial port is named by its whole path")),
            _ => Err(bad("the scheme is none of tcp, rtu+tcp, rtu, serial, llrp and llrps")),
        }
    }
}

/// `host:port`, with the usual port where none is written.
pub(crate) fn host_port(place: &str, port: Option<u16>) -> Result<String, String> {
    if let Some((_, rest)) = place.split_once('/') {
        return Err(format!(
            "it goes on with {:?}, and one host has neither a path nor a network",
            format!("/{rest}")
        ));
    }
    let (host, given) = match place.rsplit_once(':') {
        // An IPv6 address has colons of its own and is written in brackets.
        Some((host, digits)) if !digits.ends_with(']') => (
            host,
            Some(
                digits
                    .parse::<u16>()
                    .map_err(|_| format!("the port {digits:?} is not a number"))?,
            ),
        ),
        Some(_) | None => (place, None),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let known = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
    if bare.is_empty() {
        return Err("the host is missing".into());
    }
    if !bare.chars().all(known) || (bare.contains(':') && !host.starts_with('[')) {
        return Err(format!("the host {host:?} is not a name or address"));
    }
    let port = given.or(port).filter(|port| *port > 0);
    Ok(format!("{host}:{}", port.ok_or("the port is missing")?))
}

fn serial(query: &str) -> Result<Serial, String> {
    let mut serial = Serial::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} has no value"))?;
        let bad = || format!("{key} cannot be {value:?}");
        match key {
            "baud" => {
                serial.baud =
                    value.parse().ok().filter(|b| (300..=4_000_000).contains(b)).ok_or_else(bad)?;
            }
            "data" => {
                serial.data = value.parse().ok().filter(|d| matches!(d, 7 | 8)).ok_or_else(bad)?
            }
            "stop" => {
                serial.stop = value.parse().ok().filter(|s| matches!(s, 1 | 2)).ok_or_else(bad)?
            }
            "parity" => {
                serial.parity = match value {
                    "none" => Parity::None,
                    "even" => Parity::Even,
                    "odd" => Parity::Odd,
                    _ => return Err(bad()),
                }
            }
            "echo" => {
                serial.echo = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(bad()),
                }
            }
            _ => return Err(format!("{key:?} is none of baud, data, parity, stop and echo")),
        }
    }
    Ok(serial)
}

impl fmt::Display for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, place, serial) = match self {
            Self::Tcp(place) => return write!(f, "tcp://{place}"),
            Self::RtuOverTcp(place, serial) => ("rtu+tcp", place, serial),
            Self::Rtu(place, serial) => ("rtu", place, serial),
            Self::Line(place, serial) => ("serial", place, serial),
        };
        let parity = match serial.parity {
            Parity::None => "none",
            Parity::Even => "even",
            Parity::Odd => "odd",
        };
        write!(
            f,
            "{scheme}://{place}?baud={}&data={}&parity={parity}&stop={}",
            serial.baud, serial.data, serial.stop
        )?;
        if serial.echo { f.write_str("&echo=yes") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for (text, shown) in [
            ("tcp://10.0.0.7", "tcp://10.0.0.7:502"),
            ("tcp://[::1]:1502", "tcp://[::1]:1502"),
            ("tcp://scale-7.lan:503", "tcp://scale-7.lan:503"),
            ("rtu+tcp://gw:4001", "rtu+tcp://gw:4001?baud=19200&data=8&parity=none&stop=1"),
            (
                "rtu:///dev/serial/by-id/usb-x?baud=9600&parity=even&echo=yes",
                "rtu:///dev/serial/by-id/usb-x?baud=9600&data=8&parity=even&stop=1&echo=yes",
            ),
            (
                "serial:///dev/serial/by-path/x?baud=115200",
                "serial:///dev/serial/by-path/x?baud=115200&data=8&parity=none&stop=1",
            ),
        ] {
            let address: BusAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse::<BusAddress>().unwrap(), address);
        }
        for bad in [
            "",
            "serial://ttyUSB0",
            "serial:///dev/x?echo=yes",
            "tcp://",
            "tcp://:502",
            "tcp://host:x",
            "tcp://::1",
            "rtu+tcp://gw",
            "rtu://ttyUSB0",
            "rtu:///dev/x?baud=1",
            "rtu:///dev/x?colour=1",
            "udp://x:1",
            "tcp://h?baud=9600",
            "tcp://h:0",
        ] {
            assert!(bad.parse::<BusAddress>().is_err(), "{bad}");
        }
        for (bad, why) in [
            ("udp://x:1", "llrp and llrps"),
            ("tcp://10.0.0.0/24", "goes on with \"/24\""),
            ("tcp://h:502/x", "neither a path nor a network"),
            ("tcp://:502", "the host is missing"),
            ("tcp://h:x", "the port \"x\" is not a number"),
        ] {
            let error = bad.parse::<BusAddress>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn silence_by_the_standard() {
        let at = |baud, parity| Serial { baud, parity, ..Serial::default() }.silence().as_micros();
        assert_eq!(at(9_600, Parity::None), 3_645);
        assert_eq!(at(19_200, Parity::Even), 2_005);
        assert_eq!(at(115_200, Parity::None), 1_750);
    }
}
