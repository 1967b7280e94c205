//! Modbus: what many transmitters on TCP cost, and how close to the physics a serial line is swept.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex, atomic::AtomicBool},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use simulator::{
    clock::WallClock,
    modbus::{self, Bank, Faults, Framing, Line, Make, Scale, server::TURNAROUND_MS},
};

use crate::{hub::BenchHub, process};

const FACILITY: &str = "bench";
/// Longest wait for every transmitter to be read.
const READ_WAIT: Duration = Duration::from_secs(60);
/// From settled to measured.
const WARM_UP: Duration = Duration::from_secs(3);

/// A transmitter at rest with half a kilogram on it.
pub fn transmitter(make: Make) -> Bank {
    let mut bank = Bank::new(make, Faults::none());
    bank.scales.fill(Some(Scale { mg: 500_000, stable: true, ..Scale::default() }));
    bank
}

/// Enrols transmitters, each on a slot of its own.
pub fn enrol(hub: &BenchHub, devices: usize) -> anyhow::Result<()> {
    let slot =
        |i: usize| json!({"facility": FACILITY, "id": format!("slot-{i}"), "shelf": "shelf"});
    let line = |i: usize| json!({"facility": FACILITY, "slot": format!("slot-{i}"), "sku": "sku", "source": "weight"});
    let device = |i: usize| {
        let channel = json!({
            "channel": "0", "slot": format!("slot-{i}"), "division_mg": 1_000, "noise_mg": 500, "zero_mg": 0
        });
        json!({
            "facility": FACILITY, "id": format!("scale-{i}"), "name": "Scale", "profile": "laumas-tlb",
            "channels": [channel]
        })
    };
    let all = |one: &dyn Fn(usize) -> Value| (0..devices).map(one).collect::<Vec<_>>();
    let layout = json!({
        "facilities": [{"id": FACILITY, "name": "Bench"}],
        "shelves": [{"facility": FACILITY, "id": "shelf", "name": "Shelf"}],
        "skus": [{"id": "sku", "name": "Thing", "unit_weight_mg": 100_000}],
        "slots": all(&slot), "planogram": all(&line), "devices": all(&device),
    });
    hub.client()?.post("/import", &layout, None)?;
    Ok(())
}

pub fn add_bus(hub: &BenchHub, id: &str, address: &str) -> anyhow::Result<()> {
    let bus = json!({"id": id, "facility": FACILITY, "address": address});
    hub.client()?.post("/buses", &bus, None)?;
    Ok(())
}

pub fn place(hub: &BenchHub, device: usize, bus: &str, unit: usize) -> anyhow::Result<()> {
    let place = json!({"bus": bus, "unit": unit});
    hub.client()?.put(&format!("/devices/scale-{device}/bus"), &place)?;
    Ok(())
}

/// The hub's units, by device.
pub fn units(hub: &BenchHub) -> anyhow::Result<BTreeMap<String, Value>> {
    let buses = hub.client()?.list("/buses")?;
    let all = buses.iter().flat_map(|bus| bus["units"].as_array().cloned().unwrap_or_default());
    Ok(all.map(|unit| (unit["device"].as_str().unwrap_or_default().to_owned(), unit)).collect())
}

fn sum(units: &BTreeMap<String, Value>, field: &str) -> u64 {
    units.values().filter_map(|unit| unit[field].as_u64()).sum()
}

/// Waits until so many units have answered.
pub fn all_read(hub: &BenchHub, devices: usize) -> anyhow::Result<()> {
    let clock = WallClock::start();
    loop {
        let read = units(hub)?.values().filter(|unit| unit["polls"].as_u64() > Some(3)).count();
        if read == devices {
            return Ok(());
        }
        if clock.elapsed_us() > READ_WAIT.as_micros() as u64 {
            bail!(
                "only {read} of {devices} transmitters were read within {} s",
                READ_WAIT.as_secs()
            );
        }
        sleep(Duration::from_millis(200));
    }
}

/// Serves a transmitter on each port, for as long as this program runs.
async fn serve_all(listeners: Vec<TcpListener>) -> std::io::Result<()> {
    let mut served = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let line: Line = Arc::new(Mutex::new(BTreeMap::from([(1, transmitter(Make::LaumasTlb))])));
        served.push(modbus::serve(listener, Framing::Tcp, line)?);
    }
    std::future::pending().await
}

/// So many transmitters on TCP, each its own endpoint, polled ten times a second.
pub fn tcp(transmitters: usize, seconds: u64) -> anyhow::Result<()> {
    let hub = BenchHub::start()?;
    enrol(&hub, transmitters)?;
    let mut listeners = Vec::with_capacity(transmitters);
    for i in 0..transmitters {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        add_bus(&hub, &format!("bus-{i}"), &format!("tcp://{}", listener.local_addr()?))?;
        listeners.push(listener);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || runtime.block_on(serve_all(listeners)));
    for i in 0..transmitters {
        place(&hub, i, &format!("bus-{i}"), 1)?;
    }
    all_read(&hub, transmitters)?;
    sleep(WARM_UP);
    let (clock, cpu, polls) =
        (WallClock::start(), process::cpu_us(hub.pid(), false), sum(&units(&hub)?, "polls"));
    sleep(Duration::from_secs(seconds));
    let took_us = clock.elapsed_us() as f64;
    let hub_us = (process::cpu_us(hub.pid(), false) - cpu) as f64;
    let after = units(&hub)?;
    let result = json!({
        "bench": "modbus",
        "transmitters": transmitters,
        "polls_per_s": (sum(&after, "polls") - polls) as f64 * 1e6 / took_us,
        "wanted_per_s": transmitters * 10,
        "hub_cpu_percent_of_two_cores": hub_us * 50.0 / took_us,
        "timeouts": sum(&after, "timeouts"),
        "rss_mb": process::rss_bytes(hub.pid()) as f64 / 1e6,
    });
    println!("{result}");
    Ok(())
}

/// So many units on one serial line, healthy and then with one of them dead.
pub fn line(count: usize, baud: u32, seconds: u64) -> anyhow::Result<()> {
    let hub = BenchHub::start()?;
    // The last is dead: nobody answers at its address.
    enrol(&hub, count + 1)?;
    let banks = (1..=u8::try_from(count)?).map(|unit| (unit, transmitter(Make::LaumasTlb)));
    let line: Line = Arc::new(Mutex::new(banks.collect()));
    let path = modbus::serve_pty(baud, line, Arc::new(AtomicBool::new(true)))?;
    add_bus(&hub, "line", &format!("rtu://{path}?baud={baud}"))?;
    for i in 0..count {
        place(&hub, i, "line", i + 1)?;
    }
    all_read(&hub, count)?;
    sleep(WARM_UP);
    let healthy = rate(&hub, count, seconds)?;
    place(&hub, count, "line", count + 1)?;
    // Three timeouts tell that it is dead; after that it costs what it always will.
    sleep(WARM_UP * 2);
    let with_dead = rate(&hub, count, seconds)?;
    // Request 8 characters, answer 5 and 6 for three registers, ten bits each; two silences of 3.5 characters.
    let character_us = 10e6 / f64::from(baud);
    let silence_us = if baud > 19_200 { 1_750.0 } else { 3.5 * character_us };
    let physical_us = 19.0 * character_us + TURNAROUND_MS as f64 * 1e3 + 2.0 * silence_us;
    let result = json!({
        "bench": "modbus-line",
        "units": count,
        "baud": baud,
        "sweep_ms": count as f64 * 1e3 / healthy,
        "physical_ms": count as f64 * physical_us / 1e3,
        "ratio": 1e6 / healthy / physical_us,
        "rate_kept_with_a_dead_unit": with_dead / healthy,
        "timeouts": sum(&units(&hub)?, "timeouts"),
        "garbled": sum(&units(&hub)?, "garbled"),
    });
    println!("{result}");
    Ok(())
}

/// Polls a second of the first `count` units.
fn rate(hub: &BenchHub, count: usize, seconds: u64) -> anyhow::Result<f64> {
    let polls = || -> anyhow::Result<u64> {
        let units = units(hub)?;
        let of = |i: usize| units.get(&format!("scale-{i}")).and_then(|u| u["polls"].as_u64());
        (0..count).map(|i| of(i).context("a unit vanished")).sum()
    };
    let (clock, before) = (WallClock::start(), polls()?);
    sleep(Duration::from_secs(seconds));
    Ok((polls()? - before) as f64 * 1e6 / clock.elapsed_us() as f64)
}
