//! `stockfold device probe`: who is on a Modbus line, and which profile reads them; which RFID readers are in a network.
//!
//! ```text
//!  args ─► the line is nobody else's? ─► scan, unit by unit, in each setting of the line ─► report · proposal
//!                                          │ registers, images           ▲
//!                                          └─► device_profiles::probe ───┘  judges; pure
//! ```
//!
//! It opens the line itself: a device that is not enrolled is on no bus of the hub. Two masters on one line spoil each other's
//! answers, so a line that the hub polls is refused.

mod args;
mod readers;
mod report;
mod scan;

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use actors::bus::{BusAddress, link::CallError, prober::Prober};
use anyhow::Context;
use device_profiles::{
    Profile,
    limits::PROFILE_BYTES_MAX,
    probe::{Origin, Verdict, proposal},
    shipped::{SHIPPED, shipped},
};
use hub::config::Config;
use indicatif::{ProgressBar, ProgressStyle};

pub use args::ProbeArgs;
use args::Target;
use readers::Network;
use scan::{Found, Scan};

use super::{device::Hub, profile::text_of};

/// What was found on a line in one setting.
struct Line {
    address: BusAddress,
    found: Vec<(u8, Found)>,
}

/// Probes.
pub fn probe(config: &Config, args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let address = match &args.address {
        Target::Readers(network) => return Ok(find_readers(config, args, network)),
        Target::Line(address) => address,
    };
    let lines = args.lines(address)?;
    let profiles = profiles(&args.profile)?;
    nobody_else(config, address)?;
    let scan = Scan {
        profiles: &profiles,
        expected: args.expected(),
        span: args.registers,
        timeout_ms: args.timeout_ms,
    };
    let found = actix_rt::System::new().block_on(scan_all(&scan, lines, args))?;
    let written = args.write.as_deref().map(|file| write(file, args, &found));
    if args.json {
        println!("{:#}", report::json(&found, args.expected()));
    } else {
        print!("{}", report::text(&found, args));
    }
    let answered = found.iter().any(|line| line.found.iter().any(|(_, f)| !f.is_nobody()));
    match written {
        Some(Err(error)) => Err(error),
        Some(Ok(unit)) => {
            if !args.json
                && let Some(file) = &args.write
            {
                println!(
                    "The proposal for unit {unit} is in {}. Read its comments, then `stockfold profile check` it.",
                    file.display()
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        None if answered => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}

/// Searches for RFID readers.
fn find_readers(config: &Config, args: &ProbeArgs, network: &Network) -> ExitCode {
    // A hub that does not run serves none.
    let buses = Hub::of(config).and_then(|hub| hub.all("/buses")).unwrap_or_default();
    let ours: Vec<(String, String)> = buses
        .iter()
        .filter_map(|bus| {
            Some((bus["address"].as_str()?.to_owned(), bus["id"].as_str()?.to_owned()))
        })
        .collect();
    let connect = Duration::from_millis(args.timeout_ms.into());
    let search = readers::search(network, config.readers.clone(), connect, &ours);
    let found = actix_rt::System::new().block_on(search);
    if args.json {
        println!("{:#}", readers::json(&found));
    } else {
        print!("{}", readers::text(&found));
    }
    let any = found.iter().any(|(_, found)| !matches!(found, readers::Found::Nobody(_)));
    if any { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Found {
    /// Nobody is there.
    fn is_nobody(&self) -> bool {
        matches!(self, Self::Silent)
    }
}

async fn scan_all(
    scan: &Scan<'_>,
    lines: Vec<BusAddress>,
    args: &ProbeArgs,
) -> anyhow::Result<Vec<Line>> {
    // Hidden by itself where no terminal is.
    let bar = ProgressBar::new((lines.len() * args.units.0.len()) as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} {msg} (left {eta})") {
        bar.set_style(style);
    }
    let mut all = Vec::new();
    for address in lines {
        let mut prober = Prober::new(address.clone());
        let mut found = Vec::new();
        for unit in args.units.0.iter().copied() {
            let tell = |what: &str| bar.set_message(format!("unit {unit}: {what}"));
            let state = scan
                .unit(&mut prober, unit, tell)
                .await
                .map_err(|error| unreachable_line(&address, &error))?;
            found.push((unit, state));
            bar.inc(1);
        }
        all.push(Line { address, found });
    }
    bar.finish_and_clear();
    Ok(all)
}

fn unreachable_line(address: &BusAddress, error: &CallError) -> anyhow::Error {
    let advice = match address {
        BusAddress::Rtu(path, _) | BusAddress::Line(path, _) => format!(
            "Look whether {path} is there, whether you may read and write it, and whether another program has it open"
        ),
        BusAddress::Tcp(_) | BusAddress::RtuOverTcp(..) => {
            "Look whether the device is switched on and its port right; small gateways take few connections, so another master may have them all".to_owned()
        }
    };
    anyhow::anyhow!("{address} cannot be opened: {error}. {advice}")
}

/// The profiles to try: those named, or all that come with the hub and have a register map.
fn profiles(named: &[String]) -> anyhow::Result<Vec<Profile>> {
    if named.is_empty() {
        let all = SHIPPED.iter().map(|(name, text)| {
            Profile::parse(text).with_context(|| format!("the shipped profile {name}"))
        });
        let all = all.collect::<anyhow::Result<Vec<_>>>()?;
        return Ok(all.into_iter().filter(|profile| profile.modbus.is_some()).collect());
    }
    let parse = |name: &String| {
        let path = Path::new(name);
        let text = match shipped(name) {
            Some(text) if !path.exists() => text.to_owned(),
            _ => text_of(path, PROFILE_BYTES_MAX).with_context(|| {
                "name a file, or a profile that `stockfold profile list` shows".to_owned()
            })?,
        };
        let profile = Profile::parse(&text).with_context(|| {
            format!("{name} is no profile; `stockfold profile check` says where")
        })?;
        anyhow::ensure!(
            profile.modbus.is_some(),
            "profile {} has no register map, so no Modbus device can be read with it. Name one with codec: modbus",
            profile.name
        );
        Ok(profile)
    };
    named.iter().map(parse).collect()
}

/// Refuses a line that the hub on this machine polls. A hub that does not run polls nothing.
fn nobody_else(config: &Config, address: &BusAddress) -> anyhow::Result<()> {
    let Ok(hub) = Hub::of(config) else { return Ok(()) };
    let Ok(buses) = hub.all("/buses") else { return Ok(()) };
    for bus in buses {
        let (Some(id), Some(Ok(other))) =
            (bus["id"].as_str(), bus["address"].as_str().map(str::parse::<BusAddress>))
        else {
            continue;
        };
        anyhow::ensure!(
            !is_same_line(address, &other),
            "The hub on this machine polls {address} as bus {id}, and a line has one master: two would spoil each other's answers. \
             Ask the hub about devices it knows (GET /api/v1/buses/{id}, POST /api/v1/devices/DEVICE/read/STREAM); to probe, stop the hub, or remove the bus meanwhile (DELETE /api/v1/buses/{id})"
        );
    }
    Ok(())
}

/// Whether two addresses lead to one line: one port of one host, or one serial device.
fn is_same_line(a: &BusAddress, b: &BusAddress) -> bool {
    let place = |address: &BusAddress| -> Option<String> {
        match address {
            BusAddress::Tcp(place) | BusAddress::RtuOverTcp(place, _) => Some(place.clone()),
            BusAddress::Rtu(..) | BusAddress::Line(..) => None,
        }
    };
    match (a, b) {
        (
            BusAddress::Rtu(a, _) | BusAddress::Line(a, _),
            BusAddress::Rtu(b, _) | BusAddress::Line(b, _),
        ) => {
            let real = |path: &str| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
            a == b || real(a) == real(b)
        }
        _ => match (place(a), place(b)) {
            (Some(a), Some(b)) if a == b => true,
            (Some(a), Some(b)) => {
                let of = |place: &str| -> Vec<SocketAddr> {
                    place.to_socket_addrs().map(Iterator::collect).unwrap_or_default()
                };
                let others = of(&b);
                of(&a).iter().any(|address| others.contains(address))
            }
            (None, _) | (_, None) => false,
        },
    }
}

/// Writes the proposal for the one unit that no profile reads; returns the unit.
fn write(file: &Path, args: &ProbeArgs, lines: &[Line]) -> anyhow::Result<u8> {
    let mut proposals = Vec::new();
    let mut known = Vec::new();
    for line in lines {
        let bus = line.address.to_string();
        for (unit, found) in &line.found {
            let Found::Answers { candidates, guesses, .. } = found else { continue };
            let origin = Origin { bus: &bus, unit: *unit, expected: args.expected() };
            match candidates.first().filter(|best| best.verdict == Verdict::Fits) {
                Some(best) => known.push(format!("unit {unit} is read by {}", best.profile)),
                None => proposals.extend(proposal(origin, guesses).map(|text| (*unit, text))),
            }
        }
    }
    match proposals.as_slice() {
        [(unit, text)] => {
            let new = std::fs::File::create_new(file);
            std::io::Write::write_all(
                &mut new.with_context(|| format!("cannot create {}", file.display()))?,
                text.as_bytes(),
            )
            .with_context(|| format!("cannot write {}", file.display()))?;
            Ok(*unit)
        }
        [] if !known.is_empty() => anyhow::bail!(
            "{} was not written: {}. Enrol the device with that profile; `stockfold profile show` prints it",
            file.display(),
            known.join(", ")
        ),
        [] => anyhow::bail!(
            "{} was not written, because no mass was found. Put a known weight on the scale, name it with --expect-grams, and widen --registers",
            file.display()
        ),
        many => {
            let units: Vec<String> = many.iter().map(|(unit, _)| unit.to_string()).collect();
            anyhow::bail!(
                "{} was not written, because there are proposals for units {}. Choose one with --units",
                file.display(),
                units.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_has_many_names() {
        let same = |a: &str, b: &str| is_same_line(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("tcp://127.0.0.1", "tcp://127.0.0.1:502"));
        assert!(same("tcp://127.0.0.1:4001", "rtu+tcp://127.0.0.1:4001?baud=9600"));
        assert!(!same("tcp://127.0.0.1:4001", "tcp://127.0.0.1:4002"));
        assert!(same(
            "rtu:///dev/null?baud=9600",
            "rtu:///dev/../dev/null".replace("/dev/../dev", "/dev").as_str()
        ));
        assert!(!same("rtu:///dev/null", "tcp://127.0.0.1"));
    }

    #[test]
    fn every_profile_that_is_tried_has_a_register_map() {
        assert_eq!(profiles(&[]).unwrap().len(), 7);
        assert_eq!(profiles(&["laumas-tlb".into()]).unwrap().len(), 1);
        assert!(profiles(&["zigbee2mqtt".into()]).is_err());
        assert!(profiles(&["nothing-like-it".into()]).is_err());
    }
}
