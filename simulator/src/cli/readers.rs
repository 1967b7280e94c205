//! `readers`: simulated LLRP readers on consecutive ports, until Ctrl-C.

use crate::cli::args::ReadersArgs;
use crate::cli::screen::say;
use anyhow::{Context, Result, ensure};
use simulator::llrp::{self, Config};
use std::net::TcpListener;

/// Readers served at once.
const READERS_MAX: u16 = 1_000;

pub fn readers(args: &ReadersArgs) -> Result<bool> {
    ensure!((1..=READERS_MAX).contains(&args.count), "--count must be 1 to {READERS_MAX}");
    ensure!((0.0..=1e6).contains(&args.rate), "--rate must be 0 to 1000000 reads a second");
    let mut listeners = Vec::new();
    for n in 0..args.count {
        // Port 0 lets the system choose each.
        let port = if args.port == 0 { 0 } else { args.port.saturating_add(n) };
        let listener = TcpListener::bind((args.bind, port))
            .with_context(|| format!("cannot listen on {}:{port}", args.bind))?;
        say(&format!("llrp://{}", listener.local_addr()?));
        listeners.push(listener);
    }
    let config = Config { antennas: args.antennas, impinj: args.impinj, ..Config::default() };
    let (seed, tags, rate) = (args.seed, args.tags, args.rate);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let source = |n: usize| llrp::crowd(seed + n as u64, tags, args.antennas, rate);
        let _served = llrp::serve_many(listeners, &config, source)?;
        tokio::signal::ctrl_c().await?;
        Ok(true)
    })
}
