//! `stockfold-bench`: figures of the real binaries, and the crash ring.
//!
//! Each bench starts a hub with its private PostgreSQL in a directory of its own, drives it with the simulator's open-loop
//! generator from this process, and looks at PostgreSQL through a second connection. It ends with one JSON line.
//! `cargo xtask bench NAME` builds everything and calls this.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to a terminal")]

mod crash;
mod hub;
mod idle;
mod ingest;
mod outage;
mod probe;
mod process;
mod series;

use clap::{Args, Parser, Subcommand};

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
    /// PostgreSQL stopped under rated load, then catch-up.
    Outage {
        /// How long it is away, in seconds.
        #[arg(long, default_value_t = 60)]
        away_s: u64,
        /// Readings a second.
        #[arg(long, default_value_t = 10_000.0)]
        rate: f64,
    },
    /// Points written to an InfluxDB, its lag at the rated load, a day read back from PostgreSQL.
    Series(series::Args),
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
        Command::Outage { away_s, rate } => outage::run(away_s, rate),
        Command::Series(args) => series::run(&args),
        Command::Crash { kills, rate } => crash::run(kills, rate),
    };
    // The error is told in words; a backtrace of a bench helps nobody.
    if let Err(error) = result {
        eprintln!("stockfold-bench: {error:#}");
        std::process::exit(1);
    }
    Ok(())
}
