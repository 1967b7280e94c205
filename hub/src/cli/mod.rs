//! The command line. Each command is a function that ends with an exit code or an error told in words.

mod acl;
mod demo;
mod device;
mod journal;
mod probe;
mod profile;
mod replay;
mod run;
mod tls;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use hub::config::Config;

/// Self-hosted hub for real-time inventory: readings in, one trusted figure for each shelf slot and SKU out.
#[derive(Debug, Parser)]
#[command(name = "stockfold", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Common {
    /// Configuration file (TOML). Without it the defaults and STOCKFOLD__… variables count.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory; overrides the configuration.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the hub until SIGTERM or Ctrl-C.
    Run,
    /// Run a hub with a simulated shop in a directory of its own, and print a sign-in link.
    Demo(demo::DemoArgs),
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Enrol, list, show, revoke and enable devices on a running hub; probe a Modbus line or a network for devices it does not know.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Show, check, try and import profiles: what a device's bytes mean. Needs no running hub.
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    /// The hub's certificates for TLS.
    #[command(subcommand)]
    Tls(tls::TlsCommand),
    /// Fold the journal again and compare with what is committed.
    Replay(replay::ReplayArgs),
    /// Check or repair the journal of a hub that is stopped.
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    /// Print the OpenAPI description of the HTTP API.
    Openapi,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print a commented configuration with the values in force.
    Print,
    /// Check the configuration and say what it means; exit code 1 when it is refused.
    Check,
}

impl Common {
    /// The configuration in force.
    fn load(&self) -> anyhow::Result<Config> {
        let mut config = Config::load(self.config.as_deref(), std::env::vars())?;
        if let Some(dir) = &self.data_dir {
            config.data_dir = Some(dir.clone());
        }
        Ok(config)
    }
}

/// Carries a command out.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run => run::run(&cli.common.load()?),
        Command::Demo(args) => demo::demo(cli.common.load()?, &args),
        Command::Config(ConfigCommand::Print) => {
            print!("{}", cli.common.load()?.print());
            Ok(ExitCode::SUCCESS)
        }
        Command::Config(ConfigCommand::Check) => {
            let config = cli.common.load()?;
            println!("The configuration is sound. Data directory: {}", config.data_dir().display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Device(command) => device::device(&cli.common.load()?, command),
        Command::Profile(command) => profile::profile(command),
        Command::Tls(command) => tls::tls(&cli.common.load()?, &command),
        Command::Replay(args) => replay::replay(&cli.common.load()?, &args),
        Command::Journal(command) => journal::journal(&cli.common.load()?, command),
        Command::Openapi => {
            println!("{}", hub::api::openapi_json());
            Ok(ExitCode::SUCCESS)
        }
    }
}
