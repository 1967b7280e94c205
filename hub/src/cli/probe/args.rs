//! What `stockfold device probe` is told.

use std::{path::PathBuf, str::FromStr};

use actors::{
    bus::{BusAddress, Parity},
    reader::ReaderAddress,
};
use clap::{Args, ValueEnum};
use device_profiles::{Milligrams, limits::MASS_MG_MAX, probe::Expected};

use super::readers::Network;

/// Find out who is on a Modbus line, and which profile reads them; or which RFID readers are in a network. Nothing is changed.
///
/// Each unit that answers is read with every Modbus profile that comes with the hub, and each profile is judged by what it
/// reads: masses that can be, status bits, a counter that moves. When none fits, the unit's registers are read in small
/// blocks and searched for the mass in every type, byte order and unit, and a profile is proposed.
///
/// Put a known weight on the scale and name it with --expect-grams: it tells a mass from any other number. One line has one
/// master: stop whatever else asks on it, the hub's own bus too.
///
/// RFID readers are searched with llrp://NETWORK/BITS: every address is asked what it can do. Of the options only --timeout-ms
/// (for a connection) and --json are theirs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockfold device probe tcp://10.0.0.7 --units 1 --expect-grams 1500
  stockfold device probe 'rtu:///dev/serial/by-id/usb-x' --baud 9600,19200 --parity none,even
  stockfold device probe rtu+tcp://gateway:4001 --units 7 --expect-grams 1500 --write scale.yaml
  stockfold device probe llrp://10.0.0.0/24

Exit code: 0 somebody answered, 1 nobody did or a file that was asked for was not written.")]
pub struct ProbeArgs {
    /// Where the line is: tcp://HOST:502, rtu+tcp://HOST:PORT or rtu:///dev/serial/by-id/NAME?baud=19200&parity=none. For RFID
    /// readers llrp://HOST, llrps://HOST or a network such as llrp://10.0.0.0/24.
    pub address: Target,
    /// Units to ask, such as 1-32 or 1,5,255.
    #[arg(long, value_name = "LIST", default_value = "1-32")]
    pub units: Units,
    /// Speeds to try on a serial line, bits a second; the address's own when absent.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(300..=4_000_000))]
    pub baud: Vec<u32>,
    /// Parities to try on a serial line; the address's own when absent.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub parity: Vec<ParityArg>,
    /// How long a unit may take to begin an answer, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub timeout_ms: u32,
    /// Try only this profile: one that comes with the hub, or a file. May be repeated.
    #[arg(long, value_name = "NAME|FILE")]
    pub profile: Vec<String>,
    /// This much lies on the scale, in grams, its platform and shelf included.
    #[arg(long, value_name = "GRAMS", conflicts_with = "between")]
    pub expect_grams: Option<Grams>,
    /// What lies on the scale is in this range, in grams, such as 0..30000.
    #[arg(long, value_name = "MIN..MAX", allow_hyphen_values = true)]
    pub between: Option<Range>,
    /// Registers to search when no profile fits, as addresses on the wire.
    #[arg(long, value_name = "FROM-TO", default_value = "0-255")]
    pub registers: Span,
    /// Write the profile that is proposed for a unit nobody knows to this new file.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

impl ProbeArgs {
    /// What lies on the scale.
    pub fn expected(&self) -> Expected {
        match (self.expect_grams, self.between) {
            (Some(Grams(known)), _) => Expected::Known(known),
            (None, Some(Range(min, max))) => Expected::Between(min, max),
            (None, None) => Expected::Nothing,
        }
    }

    /// The line in every setting that is to be tried.
    pub fn lines(&self, address: &BusAddress) -> anyhow::Result<Vec<BusAddress>> {
        let BusAddress::Rtu(path, serial) = address else {
            anyhow::ensure!(
                self.baud.is_empty() && self.parity.is_empty(),
                "{} is reached over TCP, so --baud and --parity cannot be tried on it: its serial server sets the line. Leave them out",
                address
            );
            return Ok(vec![address.clone()]);
        };
        let bauds = if self.baud.is_empty() { vec![serial.baud] } else { self.baud.clone() };
        let parities: Vec<Parity> = match self.parity.as_slice() {
            [] => vec![serial.parity],
            some => some.iter().map(|parity| parity.parity()).collect(),
        };
        let line = |baud, parity| {
            let mut serial = *serial;
            (serial.baud, serial.parity) = (baud, parity);
            BusAddress::Rtu(path.clone(), serial)
        };
        Ok(bauds.iter().flat_map(|b| parities.iter().map(move |p| line(*b, *p))).collect())
    }
}

/// What is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A Modbus line.
    Line(BusAddress),
    /// RFID readers.
    Readers(Network),
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if ReaderAddress::is_one(text) {
            return text.parse().map(Self::Readers);
        }
        text.parse()
            .map(Self::Line)
            .map_err(|error: actors::bus::address::AddressError| error.to_string())
    }
}

/// Parity of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ParityArg {
    /// None.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

impl ParityArg {
    fn parity(self) -> Parity {
        match self {
            Self::None => Parity::None,
            Self::Even => Parity::Even,
            Self::Odd => Parity::Odd,
        }
    }
}

/// Addresses on a bus, each once, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units(pub Vec<u8>);

impl FromStr for Units {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |text: &str| {
                text.trim().parse::<u8>().ok().filter(|unit| *unit > 0).ok_or_else(|| {
                    format!("{text:?} is no unit: 1 to 247 on a line, 255 too over TCP")
                })
            };
        let mut units = Vec::new();
        for part in text.split(',') {
            let (from, to) = match part.split_once('-') {
                Some((from, to)) => (number(from)?, number(to)?),
                None => (number(part)?, number(part)?),
            };
            if from > to {
                return Err(format!("{part:?} ends before it begins"));
            }
            units.extend(from..=to);
        }
        units.sort_unstable();
        units.dedup();
        Ok(Self(units))
    }
}

/// A mass that a person writes in grams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grams(pub Milligrams);

impl FromStr for Grams {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mass = mass(text)?;
        if mass <= Milligrams::ZERO {
            return Err(
                "a known weight is above 0 g: nothing tells an empty scale from an unused register"
                    .into(),
            );
        }
        Ok(Self(mass))
    }
}

fn mass(text: &str) -> Result<Milligrams, String> {
    let grams: f64 = text.trim().parse().map_err(|_| format!("{text:?} is no number of grams"))?;
    let mg = (grams * 1_000.0).round();
    if mg.is_finite() && mg.abs() <= MASS_MG_MAX as f64 {
        Ok(Milligrams(mg as i64))
    } else {
        Err(format!("{text} g lies beyond any scale's range"))
    }
}

/// A range of masses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range(pub Milligrams, pub Milligrams);

impl FromStr for Range {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once("..").ok_or("write a range as MIN..MAX, in grams")?;
        let (min, max) = (mass(min)?, mass(max)?);
        if min >= max {
            return Err(format!("{text:?} ends before it begins"));
        }
        Ok(Self(min, max))
    }
}

/// Addresses of registers, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub u16, pub u16);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no stretch of registers: write FROM-TO, 0-65535 at most");
        let (from, to) = text.split_once('-').ok_or_else(bad)?;
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| bad());
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            return Err(bad());
        }
        if to - from >= SPAN_REGISTERS_MAX {
            return Err(format!("at most {SPAN_REGISTERS_MAX} registers are searched at once"));
        }
        Ok(Self(from, to))
    }
}

/// Registers of a table that are searched.
const SPAN_REGISTERS_MAX: u16 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read_and_refused_in_words() {
        assert_eq!("1-3,7,2".parse(), Ok(Units(vec![1, 2, 3, 7])));
        assert_eq!("255".parse(), Ok(Units(vec![255])));
        for bad in ["", "0", "3-1", "a", "1-256", "1,,2"] {
            assert!(bad.parse::<Units>().is_err(), "{bad}");
        }
        assert_eq!("0..30000".parse(), Ok(Range(Milligrams(0), Milligrams(30_000_000))));
        assert_eq!("-5..5.5".parse(), Ok(Range(Milligrams(-5_000), Milligrams(5_500))));
        for bad in ["5", "5..5", "a..b", "0..1e300", "nan..1"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
        assert_eq!("1234.5".parse(), Ok(Grams(Milligrams(1_234_500))));
        assert!("0".parse::<Grams>().is_err() && "-1".parse::<Grams>().is_err());
        assert_eq!("0-255".parse(), Ok(Span(0, 255)));
        assert!("5-4".parse::<Span>().is_err() && "0-65535".parse::<Span>().is_err());
    }
}
