//! `cargo xtask`: every command a developer or CI runs.
//!
//! A command does all its own set-up: missing Debian packages are installed when it runs as root, otherwise the one line to
//! paste is printed. CI calls exactly `cargo xtask test --ci`, so what passes here passes there.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to a terminal")]

mod debian;
mod licences;
mod program;
mod python;
mod step;
mod summary;
mod test;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Stockfold's developer commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A hub with a simulated shop: prints its address and a sign-in link. Ctrl-C stops everything.
    Demo(program::Args),
    /// The hub as it runs on a site. Ctrl-C stops it.
    Run(program::Args),
    /// Format, lints, licences and every test; ends with what passed, failed and was skipped.
    Test(test::Args),
    /// One benchmark of the whole hub; without a name it lists them.
    Bench(program::Args),
    /// Kill the hub under load, again and again, and show that nothing acknowledged is lost.
    Crash {
        /// How often.
        #[arg(long, default_value_t = 10)]
        kills: u32,
    },
    /// What CI runs; `--nightly` adds the long crash ring and the benchmarks.
    Ci {
        /// The long run.
        #[arg(long)]
        nightly: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    std::env::set_current_dir(root()?).context("the repository is not where it was built")?;
    match command {
        Command::Demo(args) => program::demo(&args),
        Command::Run(args) => program::run(&args),
        Command::Bench(args) => program::bench(&args),
        Command::Crash { kills } => program::crash(kills),
        Command::Test(args) => test::run(&args),
        Command::Ci { nightly } => test::run(&test::Args { ci: true, nightly, fast: false }),
    }
}

/// The repository.
fn root() -> anyhow::Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).context("no repository")
}

/// Where cargo puts what it builds: this program lies in its `debug` or `release`.
fn target() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors().nth(2).map(Path::to_owned).context("this program is not in a target directory")
}
