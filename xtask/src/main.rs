//! `cargo xtask`: every command a developer or CI runs.
//!
//! A command does all its own set-up: missing Debian packages are installed when it runs as root, otherwise the one line to
//! paste is printed. CI calls exactly `cargo xtask test`, so what passes here passes there.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to a terminal")]

mod debian;
mod summary;
mod test;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Stockfold's developer commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Format, lints, licences and every test; ends with a summary of what passed, failed and was skipped.
    Test(test::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Test(args) => test::run(&args),
    }
}
