//! Series outage: the store of series stops under rated load and comes back. Ingest must not notice, and no point be missing.
//!
//! ```text
//!  load    ├ warm-up ┤ before ├──────── during ────────┤ after (catch-up in it) ┤
//!  store   ├──── there ───────┤          away          ├──── there ──── ∙ ∙ ∙ until all is written ─► counted
//! ```
//! victoria-metrics keeps a point as often as it is written, so a batch that was on its way when it stopped is there twice;
//! an InfluxDB has it once. Both are told: points that are missing, and points written twice.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use simulator::load::{self, Kind, Plan, Record};
use stockfold_tests::{Device, Login, Shop, Version, Victoria, free_port};

use crate::{
    crash,
    ingest::percentile_ms,
    probe,
    series::{VALUES, api, frame, now_ms, start_with_influx},
};

const CONNECTIONS: usize = 1_000;
/// Sensors; each waits for its acknowledgement before it speaks again.
const SENSORS: usize = 5;
/// Load before anything is measured.
const WARM_UP: Duration = Duration::from_secs(5);
/// Longest wait for the last point to be written.
const CATCH_UP_WAIT: Duration = Duration::from_secs(600);
/// Between two looks at the hub's metrics.
const LOOK: Duration = Duration::from_millis(100);
/// It has caught up when it lags less than this, in seconds.
const CAUGHT_UP_S: f64 = 1.0;
/// Ingest notices when its 99th percentile during the outage is worse than before by more than this: twice, and 10 ms.
const NOTICED: (f64, f64) = (2.0, 10.0);

/// What the bench is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How long the store is away, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Load before and after, in seconds.
    #[arg(long, default_value_t = 20)]
    calm_s: u64,
    /// Stock readings a second; sensors add a tenth of that in points.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
}

#[allow(clippy::disallowed_methods, reason = "measuring")]
pub fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(Victoria::is_installed("bench"), "victoria-metrics is needed");
    let port = free_port();
    let (_token, hub) = start_with_influx(port)?;
    let mut victoria = Victoria::start(port);
    let api = api(&hub)?;
    let sensors: Vec<String> = (0..SENSORS).map(|n| format!("sensor-{n}")).collect();
    let logins = Shop::open(&api, "series", 1, 1).enrol_all(&sensors);
    let passwords = load::enrol(&hub.client()?, CONNECTIONS, Kind::Stock)?;
    let (calm, away) = (Duration::from_secs(args.calm_s), Duration::from_secs(args.seconds));
    let mut plan = Plan::new(&hub.mqtt, passwords, Kind::Stock, args.rate, calm * 2 + away);
    plan.warm_up = WARM_UP;
    let record = Record::new(&plan)?;
    let seen = probe::Seen::new(&record);
    let (options, mqtt) = (hub.database(), hub.mqtt.parse()?);
    let lag = || api.metric("stockfold_series_lag_seconds");
    let done = AtomicBool::new(false);

    let (sent, lag_max_s, catch_up_s) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let looking = scope.spawn(|| probe::watch(&options, &record, &seen));
        let sensors: Vec<_> =
            logins.iter().map(|one| scope.spawn(|| sense(mqtt, one, args.rate, &done))).collect();
        let generator = {
            let (plan, record) = (plan.clone(), Arc::clone(&record));
            scope.spawn(move || load::run(&plan, &record))
        };
        while record.started_us().is_none() {
            ensure!(!generator.is_finished(), "the generator did not start");
            sleep(LOOK);
        }
        sleep(WARM_UP + calm);
        victoria.stop();
        eprintln!("series-outage: the store is away for {} s", args.seconds);
        sleep(away);
        let lag_max_s = lag();
        victoria.again();
        let began = Instant::now();
        while lag() > CAUGHT_UP_S {
            ensure!(began.elapsed() < CATCH_UP_WAIT, "the series did not catch up");
            sleep(LOOK);
        }
        let catch_up_s = began.elapsed().as_secs_f64();
        eprintln!("series-outage: caught up after {catch_up_s:.1} s");
        generator.join().map_err(|_| anyhow::anyhow!("the generator panicked"))??;
        done.store(true, Relaxed);
        let mut sent = 0;
        for sensor in sensors {
            sent += sensor.join().map_err(|_| anyhow::anyhow!("a sensor failed"))?;
        }
        crash::settle(&hub)?;
        seen.stop();
        looking.join().map_err(|_| anyhow::anyhow!("the probe panicked"))??;
        Ok((sent, lag_max_s, catch_up_s))
    })
    .with_context(|| std::fs::read_to_string(hub.log()).unwrap_or_default())?;

    let points = sent * VALUES;
    let began = Instant::now();
    while api.metric("stockfold_series_lag_records") > 0.0 {
        ensure!(began.elapsed() < CATCH_UP_WAIT, "points are still to be written");
        sleep(LOOK);
    }
    let (there, distinct) = (victoria.count("value"), distinct(&victoria.export("value")));
    let (lost, doubled, movements) = crash::judge(&hub, &record)?;
    let before = WARM_UP..WARM_UP + calm;
    let during = before.end..before.end + away;
    let phases =
        [("before", before), ("during", during.clone()), ("after", during.end..Duration::MAX)];
    let mut result = json!({
        "bench": "series-outage",
        "away_s": args.seconds,
        "readings_per_s": args.rate,
        "points": points,
        "points_per_s": points as f64 / (WARM_UP + calm * 2 + away).as_secs_f64(),
        "points_lost": points.saturating_sub(distinct),
        "points_written_twice": there - distinct,
        "lag_max_s": lag_max_s,
        "catch_up_s": catch_up_s,
        "lag_end_s": lag(),
        "movements": movements,
        "lost": lost,
        "doubled": doubled,
    });
    for (name, phase) in phases {
        result[name] = figures(&record, &seen, &phase);
    }
    println!("{result}");
    ensure!(lost == 0 && doubled == 0, "readings were lost or counted twice");
    ensure!(distinct == points, "{distinct} points are there, {points} were sent");
    let p99 = |name: &str| result[name]["ack_p99_ms"].as_f64().unwrap_or(f64::NAN);
    let bearable = (p99("before") * NOTICED.0).max(p99("before") + NOTICED.1);
    ensure!(p99("during") <= bearable, "ingest noticed that the store was away");
    Ok(())
}

/// A sensor that speaks until it is done; how many frames were acknowledged.
#[allow(clippy::disallowed_methods, reason = "a sensor has a clock")]
fn sense(mqtt: SocketAddr, login: &Login, rate: f64, done: &AtomicBool) -> u64 {
    let mut device = Device::connected(mqtt, Version::V3, login);
    let period = Duration::from_secs_f64((VALUES as usize * SENSORS) as f64 * 10.0 / rate);
    let (mut seq, mut at_ms, mut due) = (0, 0, Instant::now());
    while !done.load(Relaxed) {
        seq += 1;
        // The server keeps milliseconds: each frame has its own.
        at_ms = now_ms().max(at_ms + 1);
        device.reading("sensors", frame(seq, Some(at_ms)).as_bytes());
        due += period;
        sleep(due.saturating_duration_since(Instant::now()));
    }
    seq
}

/// Points of all series, each time of a series once.
fn distinct(series: &[Value]) -> u64 {
    let times = |one: &Value| -> BTreeSet<i64> {
        one["timestamps"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect()
    };
    series.iter().map(|one| times(one).len() as u64).sum()
}

/// Delays of the readings that were due in a phase: to the acknowledgement, and to the committed movement.
fn figures(record: &Record, seen: &probe::Seen, phase: &Range<Duration>) -> Value {
    let started = Duration::from_micros(record.started_us().unwrap_or(0));
    let (mut acks, mut e2e) = (Vec::new(), Vec::new());
    for device in 0..record.devices() {
        for seq in 1..=record.frames_per_device() {
            let Some(due) = record.scheduled_us(device, seq) else { continue };
            if !phase.contains(&Duration::from_micros(due).saturating_sub(started)) {
                continue;
            }
            acks.extend(record.acked_us(device, seq).map(|at| at.saturating_sub(due)));
            let moved = seen.at_us(device, seq).zip(record.written_us(device, seq));
            e2e.extend(moved.map(|(at, written)| at.saturating_sub(written)));
        }
    }
    acks.sort_unstable();
    e2e.sort_unstable();
    json!({
        "readings": acks.len(),
        "ack_p50_ms": percentile_ms(&acks, 0.5),
        "ack_p99_ms": percentile_ms(&acks, 0.99),
        "ack_max_ms": percentile_ms(&acks, 1.0),
        "e2e_p99_ms": percentile_ms(&e2e, 0.99),
    })
}
