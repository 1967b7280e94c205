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
const WARM_UP: Duration = Duration::from_secs(5);
/// Longest wait for what is in the journal to be folded and committed.
const FOLD_WAIT: Duration = Duration::from_secs(60);
/// Antennas of a reader, each before a slot.
const ANTENNAS: u16 = 4;

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
    /// Tags before each reader.
    #[arg(long, default_value_t = 100)]
    tags: u32,
    /// Measured seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Few readers that report in batches, before many tags.
#[derive(Debug, Clone, clap::Args)]
pub struct RfidArgs {
    /// Readers.
    #[arg(long, default_value_t = 20)]
    readers: usize,
    /// Reads a second of each.
    #[arg(long, default_value_t = 3_000.0)]
    rate: f64,
    /// Tags in a report.
    #[arg(long, default_value_t = 128)]
    report_tags: u16,
    /// Tags before each reader.
    #[arg(long, default_value_t = 2_000)]
    tags: u32,
    /// Measured seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// What is measured.
#[derive(Debug)]
pub struct Load {
    bench: &'static str,
    readers: usize,
    rate: f64,
    report_tags: u16,
    tags: u32,
    seconds: u64,
}

impl Args {
    /// As a load.
    pub fn load(&self) -> Load {
        let Self { readers, rate, report_tags, tags, seconds } = *self;
        Load { bench: "readers", readers, rate, report_tags, tags, seconds }
    }
}

impl RfidArgs {
    /// As a load.
    pub fn load(&self) -> Load {
        let Self { readers, rate, report_tags, tags, seconds } = *self;
        Load { bench: "rfid", readers, rate, report_tags, tags, seconds }
    }
}

/// Frames of the readers that were folded, and bytes of the journal that were not.
fn folded(hub: &BenchHub) -> anyhow::Result<(u64, u64)> {
    let told = hub.client()?.get(&format!("/ledger?facility={FACILITY}&limit=1000"))?;
    let sum = |list: &Value, field: &str| -> u64 {
        list.as_array().into_iter().flatten().filter_map(|row| row[field].as_u64()).sum()
    };
    Ok((sum(&told["items"], "applied"), sum(&told["now"], "unfolded_bytes")))
}

/// The hub's readers.
fn states(hub: &BenchHub) -> anyhow::Result<Vec<Value>> {
    Ok(hub.client()?.list("/buses")?)
}

fn sum(states: &[Value], field: &str) -> u64 {
    states.iter().filter_map(|state| state["reader"][field].as_u64()).sum()
}

/// Measures.
pub fn run(args: &Load) -> anyhow::Result<()> {
    let hub = BenchHub::start()?;
    let listeners = (0..args.readers).map(|_| TcpListener::bind("127.0.0.1:0"));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (rate, tags) = (args.rate, args.tags);
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let source = |n: usize| llrp::crowd(n as u64, tags, ANTENNAS, rate);
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
    let slot = |n: usize, port: u16| format!("slot-{n}-{port}");
    let antennas = |n: usize| -> Vec<Value> {
        let antenna =
            |port: u16| json!({"port": port, "zone": format!("zone-{n}"), "slot": slot(n, port)});
        (1..=ANTENNAS).map(antenna).collect()
    };
    let device = |n: usize| json!({"facility": FACILITY, "id": format!("reader-{n}"), "name": "Reader", "profile": "bench", "antennas": antennas(n)});
    let ports = (0..args.readers).flat_map(|n| (1..=ANTENNAS).map(move |port| (n, port)));
    let layout = json!({
        "facilities": [{"id": FACILITY, "name": "Bench"}],
        "zones": (0..args.readers).map(|n| json!({"facility": FACILITY, "id": format!("zone-{n}"), "name": "Zone"})).collect::<Vec<_>>(),
        "shelves": [{"facility": FACILITY, "id": "shelf", "name": "Shelf"}],
        "slots": ports.map(|(n, port)| json!({"facility": FACILITY, "id": slot(n, port), "shelf": "shelf"})).collect::<Vec<_>>(),
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
    // What the journal has must be folded and committed as fast as it comes.
    let (clock, delivered) = (WallClock::start(), sum(&after, "delivered"));
    let behind = folded(&hub)?.1;
    while folded(&hub)?.0 < delivered {
        if clock.elapsed_us() > FOLD_WAIT.as_micros() as u64 {
            bail!("{} of {delivered} frames were committed", folded(&hub)?.0);
        }
        sleep(Duration::from_millis(100));
    }
    let caught_up_s = clock.elapsed_us() as f64 / 1e6;
    let result = json!({
        "bench": args.bench,
        "readers": args.readers,
        "reads_per_s": grown("reads") as f64 * 1e6 / took_us,
        "wanted_per_s": args.readers as f64 * args.rate,
        "frames_per_s": grown("delivered") as f64 * 1e6 / took_us,
        "hub_cpu_percent_of_two_cores": hub_us * 50.0 / took_us,
        "unfolded_bytes": behind,
        "committed_after_s": caught_up_s,
        "lost": sum(&after, "lost"),
        "timeouts": sum(&after, "timeouts"),
        "connects": after.iter().filter_map(|state| state["connects"].as_u64()).sum::<u64>(),
        "rss_mb": process::rss_bytes(hub.pid()) as f64 / 1e6,
    });
    println!("{result}");
    Ok(())
}
