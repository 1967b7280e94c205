//! Many RFID readers on one hub: what their reads cost until they are in the journal.

use std::{net::TcpListener, thread::sleep, time::Duration};

use anyhow::bail;
use serde_json::{Value, json};
use simulator::{
    clock::WallClock,
    llrp::{self, Config},
};

use crate::{hub::BenchHub, process};

const FACILITY: &str = "bench";
/// Longest wait for every reader to be connected and set.
const SET_WAIT: Duration = Duration::from_secs(60);
/// From settled to measured.
const WARM_UP: Duration = Duration::from_secs(3);
/// Tags before each reader.
const TAGS: u32 = 100;

/// How many, and how much they say.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Readers, each at an address of its own.
    #[arg(long, default_value_t = 100)]
    readers: usize,
    /// Reads a second of each.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Tags in a report; 1 = each read a message of its own.
    #[arg(long, default_value_t = 1)]
    report_tags: u16,
    /// Measured seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// The hub's readers.
fn states(hub: &BenchHub) -> anyhow::Result<Vec<Value>> {
    Ok(hub.client()?.list("/buses")?)
}

fn sum(states: &[Value], field: &str) -> u64 {
    states.iter().filter_map(|state| state["reader"][field].as_u64()).sum()
}

/// Measures.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let hub = BenchHub::start()?;
    let listeners = (0..args.readers).map(|_| TcpListener::bind("127.0.0.1:0"));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rate = args.rate;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let source = |n: usize| llrp::crowd(n as u64, TAGS, 4, rate);
            let _served = llrp::serve_many(listeners, &Config::default(), source)?;
            std::future::pending::<std::io::Result<()>>().await
        })
    });
    let client = hub.client()?;
    let profile = format!(
        "name: bench\ncodec: llrp\nllrp: {{report_tags: {}}}\nstreams: {{reads: {{class: stock, dedupe: level, tags: {{patience_ms: 5000}}}}}}\n",
        args.report_tags
    );
    let token = std::fs::read_to_string(hub.data().join("admin-token"))?;
    ureq::post(format!("http://{}/api/v1/profiles", hub.http))
        .header("Authorization", format!("Bearer {}", token.trim()))
        .send(&profile)?;
    let device = |n: usize| json!({"facility": FACILITY, "id": format!("reader-{n}"), "name": "Reader", "profile": "bench"});
    let layout = json!({
        "facilities": [{"id": FACILITY, "name": "Bench"}],
        "devices": (0..args.readers).map(device).collect::<Vec<_>>(),
    });
    client.post("/import", &layout, None)?;
    for (n, address) in addresses.iter().enumerate() {
        let id = format!("reader-{n}");
        let bus = json!({"id": id, "facility": FACILITY, "address": format!("llrp://{address}")});
        client.post("/buses", &bus, None)?;
        client.put(&format!("/devices/{id}/bus"), &json!({"bus": id, "unit": 1}))?;
    }
    let clock = WallClock::start();
    loop {
        let up = states(&hub)?.iter().filter(|state| state["up"] == true).count();
        if up == args.readers {
            break;
        }
        if clock.elapsed_us() > SET_WAIT.as_micros() as u64 {
            bail!("only {up} of {} readers were set within {} s", args.readers, SET_WAIT.as_secs());
        }
        sleep(Duration::from_millis(200));
    }
    sleep(WARM_UP);
    let (clock, cpu, before) =
        (WallClock::start(), process::cpu_us(hub.pid(), false), states(&hub)?);
    sleep(Duration::from_secs(args.seconds));
    let took_us = clock.elapsed_us() as f64;
    let hub_us = (process::cpu_us(hub.pid(), false) - cpu) as f64;
    let after = states(&hub)?;
    let grown = |field: &str| sum(&after, field) - sum(&before, field);
    let result = json!({
        "bench": "readers",
        "readers": args.readers,
        "reads_per_s": grown("reads") as f64 * 1e6 / took_us,
        "wanted_per_s": args.readers as f64 * args.rate,
        "frames_per_s": grown("delivered") as f64 * 1e6 / took_us,
        "hub_cpu_percent_of_two_cores": hub_us * 50.0 / took_us,
        "lost": sum(&after, "lost"),
        "timeouts": sum(&after, "timeouts"),
        "connects": after.iter().filter_map(|state| state["connects"].as_u64()).sum::<u64>(),
        "rss_mb": process::rss_bytes(hub.pid()) as f64 / 1e6,
    });
    println!("{result}");
    Ok(())
}
