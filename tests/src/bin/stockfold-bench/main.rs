//! `stockfold-bench`: figures of the real binaries, and the crash ring.
//!
//! Each bench starts a hub with its private PostgreSQL in a directory of its own, drives it with the simulator's open-loop
//! generator from this process, and looks at PostgreSQL through a second connection. It ends with one JSON line.
//! `cargo xtask bench NAME` builds everything and calls this.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to a terminal")]

mod broker;
mod crash;
mod devices;
mod hub;
mod idle;
mod ingest;
mod llrp;
mod modbus;
mod outage;
mod probe;
mod process;
mod readers;
mod reconnect;
mod series;
mod series_outage;
mod tags;

use clap::{Args, Parser, Subcommand};

/// The hub's, so that what the fold takes up here is what it takes up there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "stockfold-bench", about = "Figures of the real binaries; the last line is JSON")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every reading a movement, 1,000 connections, QoS 1.
    Ingest(Load),
    /// Weight frames with a stable bit, one in ten completing a plateau.
    IngestWeight(Load),
    /// The rated load: 10,000 readings a second.
    Rated(Load),
    /// Memory of idle connections.
    Idle {
        /// Connections.
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
    },
    /// Memory of devices that have spoken and are not connected.
    Devices(devices::Args),
    /// Modbus TCP transmitters polled ten times a second.
    Modbus {
        /// Transmitters, each an endpoint of its own.
        #[arg(long, default_value_t = 500)]
        transmitters: usize,
        /// Measured seconds.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// A serial line swept as fast as it goes, then with a dead unit.
    ModbusLine {
        /// Units on the line.
        #[arg(long, default_value_t = 32)]
        units: usize,
        /// Bits a second.
        #[arg(long, default_value_t = 19_200)]
        baud: u32,
        /// Measured seconds of each part.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// Modbus endpoints that are all away at once: how soon each is read again when they are back.
    ModbusReconnect(reconnect::Args),
    /// PostgreSQL stopped under rated load, then catch-up.
    Outage {
        /// How long it is away, in seconds.
        #[arg(long, default_value_t = 60)]
        away_s: u64,
        /// Readings a second.
        #[arg(long, default_value_t = 10_000.0)]
        rate: f64,
    },
    /// Through Mosquitto: every reading a movement, QoS 1 on both sides.
    Broker(Load),
    /// kill -9 of the hub, then of Mosquitto, under load.
    BrokerCrash {
        /// Kills of each.
        #[arg(long, default_value_t = 20)]
        kills: u32,
        /// Readings a second.
        #[arg(long, default_value_t = 5_000.0)]
        rate: f64,
    },
    /// Points written to an InfluxDB, its lag at the rated load, a day read back from PostgreSQL.
    Series(series::Args),
    /// The InfluxDB stopped under rated load, then catch-up: does ingest notice?
    SeriesOutage(series_outage::Args),
    /// Tags of LLRP reports read on one core.
    Llrp {
        /// Measured seconds.
        #[arg(long, default_value_t = 3)]
        seconds: u64,
    },
    /// RFID readers by LLRP on one hub.
    Readers(readers::Args),
    /// Reads of tags at a high rate, folded and committed.
    Rfid(readers::RfidArgs),
    /// A million tags in the fold alone: bytes a tag, reads a second, snapshot there and back.
    Tags(tags::Args),
    /// kill -9 under load, again and again; ends with a table and fails when anything acknowledged is lost or counted twice.
    Crash {
        /// Kills.
        #[arg(long, default_value_t = 50)]
        kills: u32,
        /// Readings a second.
        #[arg(long, default_value_t = 10_000.0)]
        rate: f64,
    },
}

/// A load's size.
#[derive(Debug, Clone, Args)]
pub struct Load {
    /// Readings a second; each bench has its own default.
    #[arg(long)]
    rate: Option<f64>,
    /// Connections.
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// Measured seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Readings that a device sends at once: 1, and for weights all its cells, unless said otherwise.
    #[arg(long)]
    burst: Option<u32>,
}

fn main() -> anyhow::Result<()> {
    use simulator::load::Kind::{Stock, Weight};
    let result = match Cli::parse().command {
        Command::Ingest(load) => ingest::run("ingest", Stock, &load, 40_000.0),
        Command::IngestWeight(load) => ingest::run("ingest-weight", Weight, &load, 60_000.0),
        Command::Rated(load) => ingest::run("rated", Stock, &load, 10_000.0),
        Command::Idle { connections } => idle::run(connections),
        Command::Devices(args) => devices::run(&args),
        Command::Modbus { transmitters, seconds } => modbus::tcp(transmitters, seconds),
        Command::ModbusLine { units, baud, seconds } => modbus::line(units, baud, seconds),
        Command::ModbusReconnect(args) => reconnect::run(&args),
        Command::Outage { away_s, rate } => outage::run(away_s, rate),
        Command::Broker(load) => broker::run(&load, 30_000.0),
        Command::BrokerCrash { kills, rate } => broker::crash(kills, rate),
        Command::Series(args) => series::run(&args),
        Command::SeriesOutage(args) => series_outage::run(&args),
        Command::Llrp { seconds } => llrp::run(seconds),
        Command::Readers(args) => readers::run(&args.load()),
        Command::Rfid(args) => readers::run(&args.load()),
        Command::Tags(args) => tags::run(&args),
        Command::Crash { kills, rate } => crash::run(kills, rate),
    };
    // The error is told in words; a backtrace of a bench helps nobody.
    if let Err(error) = result {
        eprintln!("stockfold-bench: {error:#}");
        std::process::exit(1);
    }
    Ok(())
}
