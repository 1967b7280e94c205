//! Series: how fast the cursor writes to an InfluxDB, how far it lags at the rated load, and how fast a day is read back.
//!
//! The server is away while the readings come, so that writing them all is measured without the devices: what counts is the
//! whole way from the journal to the server's acknowledgement, with the server on the same cores.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::json;
use simulator::load::{self, Kind, Plan, Record};
use stockfold_tests::{Api, Device, Incoming, Login, Shop, Version, Victoria, free_port};

use crate::{hub::BenchHub, ingest::percentile_ms, process};

const DEVICES: u64 = 50;
/// Frames a device may send at once before it is slowed down.
const FRAMES_MAX: u64 = 8_000;
/// Values of a frame.
pub const VALUES: u64 = 10;
/// Frames sent before their acknowledgements are awaited.
const WINDOW: u64 = 200;
/// Readings of a day at 1 Hz.
const DAY: u64 = 86_400;
/// Time for everything to arrive.
const ARRIVAL_MAX: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

/// What a bench is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Points written while catching up.
    #[arg(long, default_value_t = 2_000_000)]
    points: u64,
    /// How long the server is away beside the time it takes to fill the journal, in seconds.
    #[arg(long, default_value_t = 0)]
    away_s: u64,
    /// Seconds of rated load.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Stock readings a second at the rated load; sensors add a tenth of that in points.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(Victoria::is_installed("bench"), "victoria-metrics is needed");
    let written = write(args)?;
    let day_ms = read_day()?;
    let result = json!({
        "bench": "series",
        "points": written.points,
        "points_per_s": written.points_per_s.round(),
        "encode_us_per_point": written.encode_us_per_point,
        "hub_cpu_us_per_point": written.hub_cpu_us_per_point,
        "server_cpu_us_per_point": written.server_cpu_us_per_point,
        "lost": written.lost,
        "doubled": written.doubled,
        "away_s": written.away_s,
        "away_ack_p99_ms": written.away_ack_p99_ms,
        "rated_per_s": args.rate,
        "rated_lag_max_s": written.rated_lag_max_s,
        "rated_ack_p99_ms": written.rated_ack_p99_ms,
        "day_buckets_p50_ms": percentile_ms(&day_ms, 0.5),
        "day_buckets_max_ms": percentile_ms(&day_ms, 1.0),
    });
    println!("{result}");
    ensure!(written.lost == 0 && written.doubled == 0, "points were lost or counted twice");
    Ok(())
}

struct Written {
    points: u64,
    points_per_s: f64,
    encode_us_per_point: f64,
    hub_cpu_us_per_point: f64,
    server_cpu_us_per_point: f64,
    lost: u64,
    doubled: u64,
    away_s: f64,
    away_ack_p99_ms: f64,
    rated_lag_max_s: f64,
    rated_ack_p99_ms: f64,
}

/// A hub that takes sensors' readings however full the disk is: they are refused first, and that is not what is measured.
pub fn start(mut env: Vec<(String, String)>) -> anyhow::Result<BenchHub> {
    for key in ["REFUSE_TELEMETRY_PERCENT", "REFUSE_PERCENT"] {
        env.push((format!("STOCKFOLD__JOURNAL__{key}"), "99".into()));
    }
    BenchHub::start_with_env(env)
}

/// A hub that keeps its series in an InfluxDB on this port. Its token's file must outlive it.
pub fn start_with_influx(port: u16) -> anyhow::Result<(tempfile::NamedTempFile, BenchHub)> {
    let token = tempfile::NamedTempFile::new()?;
    std::fs::write(token.path(), "bench\n")?;
    let hub = start(vec![
        ("STOCKFOLD__SERIES__INFLUX_URL".into(), format!("http://127.0.0.1:{port}")),
        ("STOCKFOLD__SERIES__ORG".into(), "bench".into()),
        ("STOCKFOLD__SERIES__BUCKET".into(), "bench".into()),
        ("STOCKFOLD__SERIES__TOKEN_FILE".into(), token.path().to_string_lossy().into_owned()),
    ])?;
    Ok((token, hub))
}

pub fn api(hub: &BenchHub) -> anyhow::Result<Api> {
    let token = std::fs::read_to_string(hub.data().join("admin-token"))?;
    Ok(Api::new(&format!("http://{}", hub.http), token.trim()))
}

#[allow(clippy::disallowed_methods, reason = "measuring")]
fn write(args: &Args) -> anyhow::Result<Written> {
    let port = free_port();
    let (_token, hub) = start_with_influx(port)?;
    let api = api(&hub)?;
    let shop = Shop::open(&api, "series", 1, 1);
    let devices: Vec<String> = (0..DEVICES).map(|n| format!("sensor-{n}")).collect();
    let logins = shop.enrol_all(&devices);
    let frames = (args.points / DEVICES / VALUES).clamp(1, FRAMES_MAX);
    let points = frames * DEVICES * VALUES;
    let mqtt = hub.mqtt.parse()?;
    eprintln!("series: {points} points into the journal while the server is away");
    let began = Instant::now();
    let mut acks: Vec<u64> = std::thread::scope(|scope| {
        let sending: Vec<_> =
            logins.iter().map(|login| scope.spawn(|| send(mqtt, login, frames))).collect();
        let waits = sending
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a device failed")));
        waits.collect::<anyhow::Result<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    acks.sort_unstable();
    sleep(Duration::from_secs(args.away_s));
    let away_s = began.elapsed().as_secs_f64();

    let victoria = Victoria::start(port);
    let cpu = || (process::cpu_us(hub.pid(), false), process::cpu_us(victoria.pid(), false));
    let count = || api.metric("stockfold_series_points_total");
    let from = until("the first point is written", || Some(count()).filter(|count| *count > 0.0))?;
    let (since, before) = (Instant::now(), cpu());
    until("every point is written", || (count() >= points as f64).then_some(()))
        .with_context(|| std::fs::read_to_string(hub.log()).unwrap_or_default())?;
    let (took, after) = (since.elapsed().as_secs_f64(), cpu());
    let moved = points as f64 - from;
    let encode_us_per_point =
        api.metric("stockfold_series_encode_seconds_total") * 1e6 / points as f64;
    let there = victoria.count("value");

    let (rated_lag_max_s, rated_ack_p99_ms) = rated(args, &hub, &api, &logins, frames)?;
    Ok(Written {
        points,
        points_per_s: moved / took,
        encode_us_per_point,
        hub_cpu_us_per_point: (after.0 - before.0) as f64 / moved,
        server_cpu_us_per_point: (after.1 - before.1) as f64 / moved,
        lost: points.saturating_sub(there),
        doubled: there.saturating_sub(points),
        away_s,
        away_ack_p99_ms: percentile_ms(&acks, 0.99),
        rated_lag_max_s,
        rated_ack_p99_ms,
    })
}

/// The rated load beside sensors; the longest lag seen, and the devices' PUBACK p99 in milliseconds.
fn rated(
    args: &Args,
    hub: &BenchHub,
    api: &Api,
    logins: &[Login],
    frames: u64,
) -> anyhow::Result<(f64, f64)> {
    eprintln!("series: {} readings/s for {} s", args.rate, args.seconds);
    let passwords = load::enrol(&hub.client()?, 1_000, Kind::Stock)?;
    let mut plan =
        Plan::new(&hub.mqtt, passwords, Kind::Stock, args.rate, Duration::from_secs(args.seconds));
    plan.warm_up = Duration::from_secs(2);
    let record = Record::new(&plan)?;
    let mqtt = hub.mqtt.parse()?;
    let pause = Duration::from_secs_f64(VALUES as f64 * 10.0 / args.rate);
    let (mut lag, done) = (0f64, AtomicBool::new(false));
    let summary = std::thread::scope(|scope| -> anyhow::Result<_> {
        let generator = {
            let (plan, record) = (plan.clone(), Arc::clone(&record));
            scope.spawn(move || load::run(&plan, &record))
        };
        let sensors = scope.spawn(|| {
            let mut device = Device::connected(mqtt, Version::V3, &logins[0]);
            let mut seq = frames;
            while !done.load(Relaxed) {
                seq += 1;
                device.reading("sensors", frame(seq, None).as_bytes());
                sleep(pause);
            }
        });
        while !generator.is_finished() {
            lag = lag.max(api.metric("stockfold_series_lag_seconds"));
            sleep(LOOK * 5);
        }
        done.store(true, Relaxed);
        sensors.join().map_err(|_| anyhow::anyhow!("the sensors failed"))?;
        Ok(generator.join().map_err(|_| anyhow::anyhow!("the generator panicked"))??)
    })?;
    Ok((lag, summary.delay_p99_ms))
}

/// A frame of sensors; each has a value of its own.
pub fn frame(seq: u64, ts_ms: Option<i64>) -> String {
    let values: Vec<String> =
        (0..VALUES).map(|n| format!("\"v{n}\":{}.{n}", (seq * 7 + n * 13) % 1_000)).collect();
    let ts = ts_ms.map(|ms| format!("\"ts\":{ms},")).unwrap_or_default();
    format!("{{\"seq\":{seq},\"boot\":\"b\",{ts}\"values\":{{{}}}}}", values.join(","))
}

/// Sends frames in windows; how long each window took to be acknowledged, in microseconds.
#[allow(clippy::disallowed_methods, reason = "measuring")]
fn send(mqtt: std::net::SocketAddr, login: &Login, frames: u64) -> Vec<u64> {
    let mut device = Device::connected(mqtt, Version::V3, login);
    let topic = format!("stockfold/v1/{}/sensors", login.device);
    let mut waits = Vec::new();
    // Each reading has a millisecond of its own, because the server keeps no finer ones.
    let start_ms = now_ms() - i64::try_from(frames).unwrap_or(0);
    let mut seq = 0;
    while seq < frames {
        let window = WINDOW.min(frames - seq);
        let began = Instant::now();
        for _ in 0..window {
            seq += 1;
            let ts = start_ms + i64::try_from(seq).unwrap_or(0);
            device.publish_only(&topic, frame(seq, Some(ts)).as_bytes());
        }
        for _ in 0..window {
            assert!(
                matches!(device.receive(), Some(Incoming::PubAck { .. })),
                "no acknowledgement"
            );
        }
        waits.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    waits
}

/// Unix time in milliseconds.
#[allow(clippy::disallowed_methods, reason = "devices have real clocks")]
pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.ok().and_then(|now| i64::try_from(now.as_millis()).ok()).unwrap_or(0)
}

/// Reads one device's day at 1 Hz in buckets of a minute from PostgreSQL, again and again; sorted times in microseconds.
#[allow(clippy::disallowed_methods, reason = "measuring")]
fn read_day() -> anyhow::Result<Vec<u64>> {
    let hub = start(Vec::new())?;
    let api = api(&hub)?;
    let shop = Shop::open(&api, "day", 1, 1);
    let login = shop.enrol("thermometer");
    eprintln!("series: a day at 1 Hz into PostgreSQL");
    let mqtt = hub.mqtt.parse()?;
    let mut device = Device::connected(mqtt, Version::V3, &login);
    // A device clock may be off by a day, so the day ends a minute ago.
    let start_ms = now_ms() - (i64::try_from(DAY).unwrap_or(0) - 60) * 1_000;
    let mut seq = 0;
    while seq < DAY {
        let window = WINDOW.min(DAY - seq);
        for _ in 0..window {
            seq += 1;
            let ts = start_ms + i64::try_from(seq).unwrap_or(0) * 1_000;
            let reading = format!(
                "{{\"seq\":{seq},\"boot\":\"b\",\"ts\":{ts},\"values\":{{\"t\":{}.5}}}}",
                seq % 40
            );
            device.publish_only("stockfold/v1/thermometer/climate", reading.as_bytes());
        }
        for _ in 0..window {
            ensure!(
                matches!(device.receive(), Some(Incoming::PubAck { .. })),
                "no acknowledgement"
            );
        }
    }
    until("the day is in PostgreSQL", || {
        (api.metric("stockfold_series_points_total") >= DAY as f64).then_some(())
    })?;
    let path =
        format!("/devices/thermometer/readings?name=climate.t&every=1m&from={}", first_at(&api));
    let mut took = Vec::new();
    for _ in 0..40 {
        let began = Instant::now();
        let buckets = api.all(&path);
        took.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        ensure!(buckets.len() >= 1_439, "{} buckets", buckets.len());
    }
    took.sort_unstable();
    Ok(took)
}

/// When the oldest reading was.
fn first_at(api: &Api) -> String {
    let hours = api.all("/devices/thermometer/readings?every=1h");
    hours.last().and_then(|hour| hour["at"].as_str()).unwrap_or_default().to_owned()
}

/// Looks until something is found.
#[allow(clippy::disallowed_methods, reason = "measuring")]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        ensure!(
            began.elapsed() < ARRIVAL_MAX,
            "waited {} s in vain: {what}",
            ARRIVAL_MAX.as_secs()
        );
        sleep(LOOK);
    }
}
