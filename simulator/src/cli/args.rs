//! The command line's words.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::{net::IpAddr, path::PathBuf};

/// Simulates the devices, goods and people of a facility, and judges what a Stockfold hub makes of them.
///
/// Exit code 0: all is right; 1: the hub is wrong; 2: the command could not be carried out.
#[derive(Debug, Parser)]
#[command(name = "stockfold-sim", version, arg_required_else_help = true)]
pub struct Args {
    /// End when standard input does: whoever started this held its other end, and is gone. Not for `serial scanner`, which scans it.
    #[arg(long, global = true)]
    pub with_stdin: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Play a scenario against a hub: people move goods, scales and handhelds report over MQTT.
    Play(PlayArgs),
    /// Judge a hub by a play that was kept with `play --save`.
    Verify(VerifyArgs),
    /// Send readings at a fixed rate from many devices.
    Load(LoadArgs),
    /// Open many connections and hold them.
    Idle(IdleArgs),
    /// Let others' rules for tags tell what they make of simulated reads, and score them by where the tags were.
    Rfid(RfidArgs),
    /// Serve simulated RFID readers by LLRP, on consecutive ports, until Ctrl-C.
    Readers(ReadersArgs),
    /// Let a world of tags run on the wall clock, its readers known to a hub by LLRP or their makers' JSON, until Ctrl-C.
    Tags(TagsArgs),
    /// Hang a simulated RFID module or barcode scanner on a serial port that is made for it, until Ctrl-C.
    Serial {
        #[command(subcommand)]
        command: SerialCommand,
    },
    /// Look at scenarios.
    Scenario {
        #[command(subcommand)]
        command: ScenarioCommand,
    },
}

#[derive(Debug, Subcommand)]
pub enum SerialCommand {
    /// An RFID module of the R200 family; it makes rounds when it is told to.
    R200(R200Args),
    /// A barcode scanner: each line of standard input is scanned, an AIM identifier such as ]C1 in front of it included.
    Scanner(ScannerArgs),
}

#[derive(Debug, ClapArgs)]
pub struct PortArgs {
    /// Where the hub opens the port. Nothing may be there yet.
    #[arg(long, value_name = "PATH")]
    pub port: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub struct R200Args {
    #[command(flatten)]
    pub port: PortArgs,
    /// Tags before it.
    #[arg(long, default_value_t = 12)]
    pub tags: u32,
    /// Reads a second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 50.0)]
    pub rate: f64,
    /// Chance of noise before a frame.
    #[arg(long, value_name = "CHANCE", default_value_t = 0.0)]
    pub noise: f64,
    /// Chance that the notice of a tag has a wrong checksum.
    #[arg(long, value_name = "CHANCE", default_value_t = 0.0)]
    pub wrong_sum: f64,
    /// Seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Debug, ClapArgs)]
pub struct ScannerArgs {
    #[command(flatten)]
    pub port: PortArgs,
    /// What ends a code.
    #[arg(long, value_enum, default_value_t = LineEnd::Crlf)]
    pub ending: LineEnd,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LineEnd {
    /// CR.
    Cr,
    /// LF.
    Lf,
    /// CR and LF.
    Crlf,
}

#[derive(Debug, Subcommand)]
pub enum ScenarioCommand {
    /// Check a scenario file and say what it holds.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Run a scenario on the virtual clock, without a hub, and say what happened.
    Run {
        /// A built-in scenario's name or a TOML file.
        scenario: String,
    },
    /// Print a built-in scenario, as a start for your own.
    Print {
        /// Its name; see `scenario list`.
        name: String,
    },
    /// List the built-in scenarios.
    List,
}

#[derive(ClapArgs)]
pub struct HubArgs {
    /// The hub's HTTP address.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub hub: String,
    /// API token of an administrator or installer; others on this machine can see it, prefer --token-file.
    #[arg(long, value_name = "TOKEN", env = "STOCKFOLD_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that holds the API token.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
}

impl std::fmt::Debug for HubArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token stays out of every log.
        f.debug_struct("HubArgs").field("hub", &self.hub).finish_non_exhaustive()
    }
}

#[derive(Debug, ClapArgs)]
pub struct PlayArgs {
    /// A built-in scenario's name (demo, accuracy-010, accuracy-015, creep, rough) or a TOML file.
    pub scenario: String,
    #[command(flatten)]
    pub hub: HubArgs,
    /// The hub's MQTT endpoint, plain TCP.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    pub mqtt: String,
    /// Virtual seconds in a wall second. A hub settles scales in its own time: above 2 hands outrun it.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub speed: f64,
    /// Wall seconds to play, instead of the scenario's duration. Ctrl-C ends a play properly, too.
    #[arg(long = "for", value_name = "SECONDS")]
    pub seconds: Option<f64>,
    /// Seed, instead of the scenario's.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Keep the truth and the promises in this file, for `verify`.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Judge the hub at the end.
    #[arg(long)]
    pub verify: bool,
    #[command(flatten)]
    pub judge: JudgeArgs,
}

#[derive(Debug, ClapArgs)]
pub struct VerifyArgs {
    /// What `play --save` wrote.
    pub played: PathBuf,
    #[command(flatten)]
    pub hub: HubArgs,
    #[command(flatten)]
    pub judge: JudgeArgs,
}

#[derive(Debug, ClapArgs)]
pub struct JudgeArgs {
    /// How long the hub may take until all it acknowledged is committed, s.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub settle: f64,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct RfidArgs {
    /// Built-in scenarios of tags; all when none is named.
    pub scenarios: Vec<String>,
    /// One physics only.
    #[arg(long, value_enum)]
    pub physics: Option<Physics>,
    /// Seed, instead of the scenarios'.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    /// List the scenarios.
    #[arg(long)]
    pub list: bool,
}

#[derive(Debug, ClapArgs)]
pub struct TagsArgs {
    /// A built-in scenario of tags; `rfid --list` names them.
    #[arg(default_value = "store")]
    pub scenario: String,
    #[command(flatten)]
    pub hub: HubArgs,
    /// Facility that is made of it.
    #[arg(long, default_value = "store")]
    pub facility: String,
    /// How the readers reach the hub.
    #[arg(long, value_enum, default_value_t = Via::Llrp)]
    pub via: Via,
    /// Where the readers listen, by LLRP.
    #[arg(long, default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// The hub's MQTT endpoint, plain TCP, for readers that publish.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    pub mqtt: String,
    /// What decides which reads there are.
    #[arg(long, value_enum, default_value_t = Physics::Epochs)]
    pub physics: Physics,
    /// Hours that are prepared; after them nothing moves any more.
    #[arg(long, default_value_t = 24.0)]
    pub hours: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Via {
    /// The hub calls them, by LLRP.
    Llrp,
    /// They publish as Impinj's IoT device interface does.
    Impinj,
    /// They publish as Zebra's IoT Connector does.
    Zebra,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Physics {
    /// Independent chances in every half second.
    Epochs,
    /// Distances, powers and bodies.
    Geometry,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Stream {
    /// Each reading is a movement of +1.
    Stock,
    /// A scale at rest and in motion; one reading in ten completes a movement.
    Weight,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Mqtt {
    /// 3.1.1.
    #[value(name = "3")]
    V3,
    /// 5.0.
    #[value(name = "5")]
    V5,
}

#[derive(Debug, ClapArgs)]
pub struct LoadArgs {
    #[command(flatten)]
    pub hub: HubArgs,
    /// The hub's MQTT endpoint, plain TCP.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    pub mqtt: String,
    /// Devices, one connection each.
    #[arg(long, default_value_t = 1_000)]
    pub devices: usize,
    /// Readings per second in all.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 10_000.0)]
    pub rate: f64,
    /// What they send.
    #[arg(long, value_enum, default_value_t = Stream::Weight)]
    pub stream: Stream,
    /// Measured time, s.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60.0)]
    pub seconds: f64,
    /// Time before measuring begins, s.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub warm_up: f64,
    /// Readings a device sends together.
    #[arg(long, value_name = "READINGS", default_value_t = 1)]
    pub burst: u32,
    /// Unacknowledged readings of one device.
    #[arg(long, value_name = "READINGS", default_value_t = 10_000)]
    pub window: u16,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// MQTT version.
    #[arg(long, value_enum, default_value_t = Mqtt::V3)]
    pub mqtt_version: Mqtt,
    /// Leave a broken connection broken.
    #[arg(long)]
    pub no_reconnect: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct ReadersArgs {
    /// Address they listen on.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub bind: std::net::IpAddr,
    /// Port of the first; 0 = any for each.
    #[arg(long, default_value_t = 15_084)]
    pub port: u16,
    /// Readers.
    #[arg(long, default_value_t = 1)]
    pub count: u16,
    /// Antennas of each.
    #[arg(long, default_value_t = 4)]
    pub antennas: u16,
    /// Tags before each.
    #[arg(long, default_value_t = 12)]
    pub tags: u32,
    /// Reads a second of each.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 50.0)]
    pub rate: f64,
    /// They are Impinj's, with their extensions.
    #[arg(long)]
    pub impinj: bool,
    /// Seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Debug, ClapArgs)]
pub struct IdleArgs {
    #[command(flatten)]
    pub hub: HubArgs,
    /// The hub's MQTT endpoint, plain TCP.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    pub mqtt: String,
    /// Connections.
    #[arg(long, default_value_t = 1_000)]
    pub connections: usize,
    /// How long they are held, s.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60.0)]
    pub seconds: f64,
    /// MQTT version.
    #[arg(long, value_enum, default_value_t = Mqtt::V3)]
    pub mqtt_version: Mqtt,
}
