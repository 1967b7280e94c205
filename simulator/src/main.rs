//! The `stockfold-sim` binary: the command line around the library.
//!
//! Results go to stdout, progress and errors to stderr. Exit code 0: all is right; 1: the hub is wrong; 2: the command
//! could not be carried out.

// Progress and errors of a command-line program.
#![allow(clippy::print_stderr)]

mod cli;

use clap::Parser;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = cli::args::Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match cli::carry_out(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("stockfold-sim: {e:#}");
            ExitCode::from(2)
        }
    }
}
