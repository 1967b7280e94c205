//! The crash ring: kill -9 at the rated load, again and again, and nothing acknowledged may be lost or counted twice.
//!
//! Every fifth kill takes the database along. After each the hub must be ready again on its own, and `replay --check` must
//! find the committed movements equal to the journal. The generator keeps its unacknowledged frames and sends them again.

use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::json;
use simulator::{
    load::{self, Kind, Plan, Record},
    random::Stream,
};
use sqlx::{Connection, PgConnection, Row};

use crate::{hub::BenchHub, ingest::percentile_ms, process};

/// Connections.
const CONNECTIONS: usize = 1_000;
/// Seed of the moments of the kills.
const SEED: u64 = 20_261_125;
/// Shortest and longest time between two kills, in milliseconds.
const LIFE_MS: (i64, i64) = (700, 2_500);
/// Every so manieth kill takes the database along.
const DATABASE_EVERY: u32 = 5;

#[allow(clippy::disallowed_methods, reason = "measuring")]
pub fn run(kills: u32, rate: f64) -> anyhow::Result<()> {
    let mut hub = BenchHub::start()?;
    let passwords = load::enrol(&hub.client()?, CONNECTIONS, Kind::Stock)?;
    let mut plan = Plan::new(
        &hub.mqtt,
        passwords,
        Kind::Stock,
        rate,
        Duration::from_secs(u64::from(kills) * 12 + 30),
    );
    plan.warm_up = Duration::from_secs(1);
    plan.drain = Duration::from_secs(60);
    let record = Record::new(&plan)?;
    let mut random = Stream::new(SEED, "kill", 0);
    let (mut ready_us, mut ready_both_us) = (Vec::new(), Vec::new());
    eprintln!("{kills} kills at {rate} readings/s, seed {SEED}");
    eprintln!("kill  what           acknowledged   ready ms   replay");

    let summary = std::thread::scope(|scope| -> anyhow::Result<_> {
        let generator = {
            let (plan, record) = (plan.clone(), Arc::clone(&record));
            scope.spawn(move || load::run(&plan, &record))
        };
        let killing = (|| -> anyhow::Result<()> {
            while record.started_us().is_none() {
                ensure!(!generator.is_finished(), "the generator did not start");
                sleep(Duration::from_millis(20));
            }
            for kill in 1..=kills {
                sleep(Duration::from_millis(random.between(LIFE_MS.0, LIFE_MS.1).unsigned_abs()));
                let database = kill.is_multiple_of(DATABASE_EVERY);
                if database {
                    for pid in process::with_cwd(&hub.cluster()) {
                        std::process::Command::new("kill")
                            .args(["-9", &pid.to_string()])
                            .status()?;
                    }
                }
                hub.kill()?;
                let took = hub.launch()?;
                let times = if database { &mut ready_both_us } else { &mut ready_us };
                times.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                let report = hub.replay(false)?;
                let what = if database { "hub, database" } else { "hub" };
                let (_, acked) = record.totals();
                let equal = report["equal"] == true;
                eprintln!(
                    "{kill:>4}  {what:<13} {acked:>13} {:>10} {:>8}",
                    took.as_millis(),
                    if equal { "equal" } else { "DIFFERS" }
                );
                ensure!(equal, "the replay differs after kill {kill}: {report}");
            }
            Ok(())
        })();
        record.stop();
        let summary = generator.join().map_err(|_| anyhow::anyhow!("the generator panicked"))?;
        killing.with_context(|| std::fs::read_to_string(hub.log()).unwrap_or_default())?;
        Ok(summary?)
    })?;

    settle(&hub)?;
    let (lost, doubled, movements) = judge(&hub, &record)?;
    let whole = hub.replay(true)?;
    ensure!(whole["equal"] == true, "the replay of the whole journal differs: {whole}");
    ready_us.sort_unstable();
    ready_both_us.sort_unstable();
    let stopped = hub.stop()?;
    let result = json!({
        "bench": "crash",
        "kills": kills,
        "readings_per_s": rate,
        "acknowledged": summary.acknowledged,
        "resent": summary.resent,
        "movements": movements,
        "lost": lost,
        "duplicated": doubled,
        "ready_p50_ms": percentile_ms(&ready_us, 0.5),
        "ready_p99_ms": percentile_ms(&ready_us, 0.99),
        "ready_with_database_p99_ms": if ready_both_us.is_empty() { None } else { Some(percentile_ms(&ready_both_us, 0.99)) },
        "stop_ms": u64::try_from(stopped.as_millis()).unwrap_or(u64::MAX),
        "replay": "equal",
    });
    println!("{result}");
    ensure!(lost == 0 && doubled == 0, "acknowledged readings were lost or counted twice");
    Ok(())
}

/// Waits until the hub has committed everything it journaled.
#[allow(clippy::disallowed_methods, reason = "measuring")]
pub fn settle(hub: &BenchHub) -> anyhow::Result<()> {
    let client = hub.client()?;
    let began = Instant::now();
    let (mut last, mut since) = (0, Instant::now());
    while began.elapsed() < Duration::from_secs(300) {
        let ledger = client.list("/ledger")?;
        let journaled: u64 = ledger.iter().filter_map(|row| row["journaled"].as_u64()).sum();
        if journaled != last {
            (last, since) = (journaled, Instant::now());
        } else if since.elapsed() > Duration::from_secs(3) {
            return Ok(());
        }
        sleep(Duration::from_millis(200));
    }
    anyhow::bail!("the hub did not settle within 300 s")
}

/// Reads every movement and compares with what was acknowledged: (lost, doubled, movements).
pub fn judge(hub: &BenchHub, record: &Record) -> anyhow::Result<(u64, u64, u64)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = PgConnection::connect_with(&hub.database()).await?;
        let rows = sqlx::query(
            "SELECT device, array_agg(seq ORDER BY seq) FROM movement WHERE device LIKE 'load-%' GROUP BY device",
        )
        .fetch_all(&mut connection)
        .await?;
        let (mut lost, mut doubled, mut movements) = (0, 0, 0);
        let mut found = vec![Vec::new(); record.devices()];
        for row in &rows {
            let device: &str = row.try_get(0)?;
            let seqs: Vec<i64> = row.try_get(1)?;
            let index: usize = device.rsplit_once('-').context("a foreign device")?.1.parse()?;
            movements += seqs.len() as u64;
            doubled += seqs.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
            if let Some(slot) = found.get_mut(index) {
                *slot = seqs;
            }
        }
        for (device, seqs) in found.iter().enumerate() {
            for seq in 1..=record.frames_per_device() {
                let acked = record.acked_us(device, seq).is_some();
                if acked && seqs.binary_search(&seq.cast_signed()).is_err() {
                    lost += 1;
                }
            }
        }
        // The level is told by another path than the rows: it must agree with them.
        let level: Option<i64> = sqlx::query_scalar("SELECT sum(quantity)::bigint FROM level WHERE facility = $1")
            .bind(load::FACILITY)
            .fetch_one(&mut connection)
            .await?;
        ensure!(level == Some(movements.cast_signed()), "levels add up to {level:?}, movements to {movements}");
        Ok((lost, doubled, movements))
    })
}
