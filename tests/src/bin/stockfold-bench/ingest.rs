//! Ingest: a fixed rate offered, everything measured from the outside.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context;
use serde_json::json;
use simulator::load::{self, Kind, Plan, Record};

use crate::{Load, hub::BenchHub, probe, process};

/// Warm-up before measuring, in seconds.
const WARM_UP_S: u64 = 5;
/// Nothing new seen for this long after the load: all has come that will.
const QUIET: Duration = Duration::from_secs(3);

/// A percentile of sorted values, in milliseconds.
pub fn percentile_ms(sorted_us: &[u64], p: f64) -> f64 {
    let last = sorted_us.len().saturating_sub(1);
    let at = (last as f64 * p).round() as usize;
    sorted_us.get(at).map_or(f64::NAN, |us| *us as f64 / 1_000.0)
}

pub fn run(name: &str, kind: Kind, load: &Load, default_rate: f64) -> anyhow::Result<()> {
    let rate = load.rate.unwrap_or(default_rate);
    let hub = BenchHub::start()?;
    eprintln!(
        "{name}: {rate} readings/s from {} connections for {} s",
        load.connections, load.seconds
    );
    let passwords = load::enrol(&hub.client()?, load.connections, kind)?;
    let mut plan = Plan::new(&hub.mqtt, passwords, kind, rate, Duration::from_secs(load.seconds));
    plan.warm_up = Duration::from_secs(WARM_UP_S);
    plan.burst_frames = load.burst.unwrap_or(match kind {
        Kind::Stock => 1,
        Kind::Weight => 6,
    });
    let record = Record::new(&plan)?;
    let seen = probe::Seen::new(&record);
    let options = hub.database();
    let (cluster, pid) = (hub.cluster(), hub.pid());

    let figures = std::thread::scope(|scope| -> anyhow::Result<_> {
        let looking = scope.spawn(|| probe::watch(&options, &record, &seen));
        let sampling = scope.spawn(|| sample(&record, &seen, &cluster, pid, &plan));
        let summary = load::run(&plan, &record)?;
        let sampled = sampling.join().map_err(|_| anyhow::anyhow!("the sampler panicked"))?;
        let mut movements = seen.movements.load(Relaxed);
        loop {
            std::thread::sleep(QUIET);
            let now = seen.movements.load(Relaxed);
            if now == movements {
                break;
            }
            movements = now;
        }
        seen.stop();
        looking.join().map_err(|_| anyhow::anyhow!("the probe panicked"))??;
        Ok((summary, sampled))
    });
    let (summary, sampled) = figures.with_context(|| {
        let log = std::fs::read_to_string(hub.log()).unwrap_or_default();
        format!("the hub's log:\n{log}")
    })?;

    let (mut e2e, mut lost, mut extra) = (Vec::new(), 0u64, seen.doubled.load(Relaxed));
    for device in 0..record.devices() {
        let (mut acked, mut moved) = (0, 0);
        for seq in 1..=record.frames_per_device() {
            acked += u64::from(record.acked_us(device, seq).is_some());
            let Some(at) = seen.at_us(device, seq) else { continue };
            moved += 1;
            let due = record.scheduled_us(device, seq).zip(record.started_us());
            let measured = due.is_some_and(|(due, start)| due >= start + record.warm_up_us());
            if let (true, Some(written)) = (measured, record.written_us(device, seq)) {
                e2e.push(at.saturating_sub(written));
            }
        }
        // Every frame of a device is acknowledged in the end, so its movements follow from their number.
        let least = kind.movements(acked);
        lost += least.saturating_sub(moved);
        extra += u64::saturating_sub(moved, least + kind.unfinished());
    }
    e2e.sort_unstable();
    let frames = summary.acknowledged_per_s * plan.duration.as_secs_f64();
    let result = json!({
        "bench": name,
        "readings_per_s": summary.acknowledged_per_s.round(),
        "offered_per_s": rate,
        "connections": load.connections,
        "seconds": load.seconds,
        "e2e_p50_ms": percentile_ms(&e2e, 0.50),
        "e2e_p99_ms": percentile_ms(&e2e, 0.99),
        "ack_p50_ms": summary.delay_p50_ms,
        "ack_p99_ms": summary.delay_p99_ms,
        "cpu_s_per_1000": (sampled.hub_cpu_us + sampled.database_cpu_us) as f64 / 1e6 / (frames / 1_000.0),
        "hub_cpu_s_per_1000": sampled.hub_cpu_us as f64 / 1e6 / (frames / 1_000.0),
        "generator_us_per_reading": summary.cpu_us_per_frame,
        "generator_lateness_p99_ms": summary.lateness_p99_ms,
        "rss_mb": sampled.rss_bytes as f64 / 1e6,
        "movements": seen.movements.load(Relaxed),
        "unacknowledged": summary.unacknowledged,
        "lost": lost,
        "duplicated": extra,
    });
    println!("{result}");
    anyhow::ensure!(lost == 0 && extra == 0, "readings were lost or counted twice");
    Ok(())
}

/// CPU and memory over the measured time.
struct Sampled {
    hub_cpu_us: u64,
    database_cpu_us: u64,
    rss_bytes: u64,
}

fn sample(
    record: &Arc<Record>,
    seen: &probe::Seen,
    cluster: &std::path::Path,
    pid: u32,
    plan: &Plan,
) -> Sampled {
    let look = Duration::from_millis(20);
    while record.started_us().is_none() && !record.is_stopped() {
        std::thread::sleep(look);
    }
    std::thread::sleep(plan.warm_up);
    let probe = seen.backend.load(Relaxed);
    let before = (process::cpu_us(pid, false), process::cluster_cpu_us(cluster, probe));
    let mut rss_bytes = 0;
    let rounds = plan.duration.as_millis() / 250;
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(250));
        rss_bytes = rss_bytes.max(process::rss_bytes(pid));
    }
    let after = (process::cpu_us(pid, false), process::cluster_cpu_us(cluster, probe));
    Sampled { hub_cpu_us: after.0 - before.0, database_cpu_us: after.1 - before.1, rss_bytes }
}
