//! Which RFID readers are in a network: every address is asked for its greeting and its capabilities, and left politely.
//!
//! Nothing at a reader is changed. A reader that serves somebody says so and is told as taken; those this hub serves are not asked.
//! The stretch of a network is bounded, and so is how many addresses are asked at once: a search is no flood.

use std::{fmt::Write as _, net::Ipv4Addr, str::FromStr, sync::Arc, time::Duration};

use actors::reader::{Dial, ReaderAddress, ReaderError, prober};
use device_profiles::llrp::{Capabilities, IMPINJ};
use futures_util::{StreamExt, stream};
use hub::readers::dial::dial;
use indicatif::ProgressBar;
use serde_json::{Value, json};

/// Shortest prefix of a network that is searched, in bits: 1,022 addresses.
const PREFIX_BITS_MIN: u8 = 22;
/// Addresses asked at once.
const ASKED_MAX: usize = 64;
/// Zebra's number as a vendor, which was Motorola's.
const ZEBRA: u32 = 161;

/// Addresses of readers that may be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network(pub Vec<ReaderAddress>);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
        let one = |place: &str| {
            format!("{scheme}://{place}").parse::<ReaderAddress>().map_err(|e| e.to_string())
        };
        let Some((place, bits)) = rest.split_once('/') else { return Ok(Self(vec![one(rest)?])) };
        let bits = bits.parse::<u8>().ok().filter(|bits| (PREFIX_BITS_MIN..=32).contains(bits));
        let bits = bits.ok_or_else(|| {
            format!(
                "a network has a prefix of {PREFIX_BITS_MIN} to 32 bits, such as llrp://10.0.0.0/24"
            )
        })?;
        let port =
            one(place)?.place.rsplit_once(':').map_or_else(String::new, |(_, p)| p.to_owned());
        let host = place.split_once(':').map_or(place, |(host, _)| host);
        let base: Ipv4Addr = host
            .parse()
            .map_err(|_| format!("{host:?} is no IPv4 address, so it has no network"))?;
        let size = 1_u32 << (32 - u32::from(bits));
        let first = base.to_bits() & !(size - 1);
        // A network's own address and that of all in it are nobody's.
        let inner = if size > 2 { 1..size - 1 } else { 0..size };
        let address = |n: u32| one(&format!("{}:{port}", Ipv4Addr::from_bits(first + n)));
        inner.map(address).collect::<Result<_, _>>().map(Self)
    }
}

/// What was found at an address.
pub enum Found {
    /// A reader.
    Reader(Capabilities),
    /// A reader of this hub, by the id of its bus.
    Ours(String),
    /// A reader that serves somebody else.
    Taken(ReaderError),
    /// Somebody who is no reader, or one that fails.
    Other(ReaderError),
    /// Nobody, because of this.
    Nobody(ReaderError),
}

/// Asks every address; `ours` are the addresses of this hub with the ids of their buses.
pub async fn search(
    network: &Network,
    settings: hub::config::Readers,
    connect: Duration,
    ours: &[(String, String)],
) -> Vec<(ReaderAddress, Found)> {
    let inner = dial(settings);
    let dial: Dial = Arc::new(move |address: &ReaderAddress| {
        let dialled = inner(address);
        Box::pin(async move {
            tokio::time::timeout(connect, dialled).await.unwrap_or_else(|_| {
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection"))
            })
        })
    });
    // Hidden by itself where no terminal is.
    let bar = ProgressBar::new(network.0.len() as u64);
    let ask = |address: &ReaderAddress| {
        let (address, dial, bar) = (address.clone(), Arc::clone(&dial), bar.clone());
        async move {
            let text = address.to_string();
            let found = match ours.iter().find(|(place, _)| *place == text) {
                Some((_, bus)) => Found::Ours(bus.clone()),
                None => match prober::look(&dial, &address).await {
                    Ok(capabilities) => Found::Reader(capabilities),
                    Err(error @ ReaderError::Taken(_)) => Found::Taken(error),
                    Err(error @ ReaderError::Down(_)) => Found::Nobody(error),
                    Err(
                        error @ (ReaderError::NoGreeting(_)
                        | ReaderError::Timeout { .. }
                        | ReaderError::Rejected { .. }
                        | ReaderError::Unable(_)
                        | ReaderError::Silent(_)
                        | ReaderError::Hang(_)
                        | ReaderError::Garbled(_)
                        | ReaderError::Closed),
                    ) => Found::Other(error),
                },
            };
            bar.inc(1);
            (address, found)
        }
    };
    let found = stream::iter(network.0.iter().map(ask)).buffered(ASKED_MAX).collect().await;
    bar.finish_and_clear();
    found
}

fn vendor(number: u32) -> String {
    match number {
        IMPINJ => "Impinj".to_owned(),
        ZEBRA => "Zebra".to_owned(),
        _ => format!("vendor {number}"),
    }
}

fn powers(of: &Capabilities) -> Option<(f64, f64)> {
    let cdbm = || of.powers.iter().map(|(_, cdbm)| *cdbm);
    Some((f64::from(cdbm().min()?) / 100.0, f64::from(cdbm().max()?) / 100.0))
}

/// For people.
pub fn text(found: &[(ReaderAddress, Found)]) -> String {
    let mut out = String::new();
    let mut first = None;
    let is_one = found.len() == 1;
    for (address, found) in found {
        // Writing to a string cannot fail.
        let _ = match found {
            Found::Reader(c) => {
                first = first.or(Some(address));
                let power = powers(c)
                    .map_or_else(String::new, |(min, max)| format!(", {min} to {max} dBm"));
                writeln!(
                    out,
                    "{address}  {}, model {}, firmware {}, {} antennas{power}, {}, {}",
                    vendor(c.vendor),
                    c.model,
                    c.firmware,
                    c.antennas,
                    if c.has_utc { "has a clock" } else { "has no clock" },
                    if c.can_hold { "holds reads while nobody listens" } else { "holds nothing" },
                )
            }
            Found::Ours(bus) => writeln!(out, "{address}  is bus {bus} of the hub on this machine"),
            Found::Taken(why) | Found::Other(why) => writeln!(out, "{address}  {why}"),
            // In a network most addresses are nobody's, and why is the same everywhere.
            Found::Nobody(why) if is_one => writeln!(out, "{address}  {why}"),
            Found::Nobody(_) => Ok(()),
        };
    }
    let nobody = found.iter().filter(|(_, found)| matches!(found, Found::Nobody(_))).count();
    let port = found.first().and_then(|(address, _)| Some(address.place.rsplit_once(':')?.1));
    let _ = writeln!(
        out,
        "{} addresses asked at port {}, nobody at {nobody}.",
        found.len(),
        port.unwrap_or_default()
    );
    if let Some(address) = first {
        let _ = write!(
            out,
            "
To add a reader, enrol a device with profile llrp-reader (or one of your own with a section llrp). Its antennas say what each looks at;
without them none of its reads counts:
  POST /api/v1/devices {{\"id\":\"DEVICE\",\"facility\":\"FACILITY\",\"profile\":\"llrp-reader\",
                        \"antennas\":[{{\"port\":1,\"zone\":\"ZONE\",\"slot\":\"SLOT\"}}]}}
  POST /api/v1/buses {{\"id\":\"dock\",\"facility\":\"FACILITY\",\"address\":\"{address}\"}}
  PUT  /api/v1/devices/DEVICE/bus {{\"bus\":\"dock\",\"unit\":1}}
"
        );
    }
    out
}

/// For programs.
pub fn json(found: &[(ReaderAddress, Found)]) -> Value {
    let one = |(address, found): &(ReaderAddress, Found)| {
        let address = address.to_string();
        match found {
            Found::Reader(c) => Some(json!({
                "address": address, "is": "reader", "vendor": c.vendor, "model": c.model,
                "firmware": c.firmware, "antennas": c.antennas, "has_utc": c.has_utc, "holds": c.can_hold,
                "power_dbm": powers(c), "modes": c.modes,
            })),
            Found::Ours(bus) => Some(json!({ "address": address, "is": "ours", "bus": bus })),
            Found::Taken(why) => {
                Some(json!({ "address": address, "is": "taken", "why": why.to_string() }))
            }
            Found::Other(why) => {
                Some(json!({ "address": address, "is": "other", "why": why.to_string() }))
            }
            Found::Nobody(_) => None,
        }
    };
    let mut told =
        json!({ "asked": found.len(), "found": found.iter().filter_map(one).collect::<Vec<_>>() });
    if let [(_, Found::Nobody(why))] = found {
        told["why"] = why.to_string().into();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_bounded_and_spelled_out() {
        let of = |text: &str| text.parse::<Network>();
        let place =
            |text: &str| of(text).unwrap().0.iter().map(|a| a.place.clone()).collect::<Vec<_>>();
        assert_eq!(place("llrp://dock.lan"), ["dock.lan:5084"]);
        assert_eq!(place("llrp://10.0.0.9/30"), ["10.0.0.9:5084", "10.0.0.10:5084"]);
        assert_eq!(place("llrps://10.0.0.9/32"), ["10.0.0.9:5085"]);
        assert_eq!(place("llrp://127.0.0.1:15084/31"), ["127.0.0.0:15084", "127.0.0.1:15084"]);
        assert_eq!(of("llrp://10.0.3.7/22").unwrap().0.len(), 1_022);
        for bad in [
            "llrp://10.0.0.0/21",
            "llrp://10.0.0.0/33",
            "llrp://dock/24",
            "llrp://[::1]/24",
            "llrp://10.0.0.0/x",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
