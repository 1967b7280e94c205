//! The `stockfold` binary: one program for the hub and for looking after it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to a terminal")]

mod cli;

use std::process::ExitCode;

use clap::Parser;

/// Frames, entries and rows are small and short-lived and pass between threads: there this allocator is measurably cheaper.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything that may make a TLS connection; only a second call could fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // The chain of causes on one line each; a backtrace helps nobody who can act on this.
            eprintln!("stockfold: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}
