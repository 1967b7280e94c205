//! `load` and `idle`.

use crate::cli::args::{IdleArgs, LoadArgs, Mqtt, Stream};
use crate::cli::screen::{Screen, say, table};
use anyhow::{Result, ensure};
use simulator::load::{self, IdlePlan, IdleProgress, Kind, Plan, Record, Summary};
use simulator::mqtt::packet::Version;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Between two looks at the progress.
const LOOK: Duration = Duration::from_millis(500);

fn version(mqtt: Mqtt) -> Version {
    match mqtt {
        Mqtt::V3 => Version::V3,
        Mqtt::V5 => Version::V5,
    }
}

fn duration(seconds: f64, option: &str) -> Result<Duration> {
    ensure!((0.0..=1e8).contains(&seconds), "{option} must be 0 to 100000000 s");
    Ok(Duration::from_secs_f64(seconds))
}

pub fn load(args: &LoadArgs) -> Result<bool> {
    let kind = match args.stream {
        Stream::Stock => Kind::Stock,
        Stream::Weight => Kind::Weight,
    };
    let hub = super::hub(&args.hub)?;
    let passwords = load::enrol(&hub, args.devices, kind)?;
    let duration_s = duration(args.seconds, "--for")?;
    let plan = Plan {
        burst_frames: args.burst,
        warm_up: duration(args.warm_up, "--warm-up")?,
        version: version(args.mqtt_version),
        threads: args.threads,
        window_frames: args.window,
        reconnect: !args.no_reconnect,
        ..Plan::new(&args.mqtt, passwords, kind, args.rate, duration_s)
    };
    let record = Record::new(&plan)?;
    let all_s = args.seconds + args.warm_up;
    let summary = watched(&record, all_s, || load::run(&plan, &record))?;
    if args.json {
        say(&serde_json::to_string_pretty(&summary)?);
    } else {
        print(&summary);
    }
    Ok(summary.unacknowledged == 0)
}

/// Does `work` while a second thread shows how the record fills.
fn watched<T>(record: &Arc<Record>, all_s: f64, work: impl FnOnce() -> T) -> T {
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut screen = Screen::new(all_s);
            while !over.load(Relaxed) {
                std::thread::sleep(LOOK);
                let start_us = record.started_us().unwrap_or(u64::MAX);
                let done_s = record.now_us().saturating_sub(start_us) as f64 / 1e6;
                screen.show(done_s.min(all_s), all_s, || {
                    let (written, acked) = record.totals();
                    format!("{written} written, {acked} acknowledged")
                });
            }
            screen.finish();
        });
        let result = work();
        over.store(true, Relaxed);
        result
    })
}

fn print(s: &Summary) {
    let ms = |x: f64| format!("{x:.1} ms");
    table(&[
        ("readings written", s.written.to_string()),
        ("  acknowledged", s.acknowledged.to_string()),
        ("  refused", s.refused.to_string()),
        ("  sent again", s.resent.to_string()),
        ("measured", s.measured.to_string()),
        ("  not acknowledged", s.unacknowledged.to_string()),
        ("  acknowledged per second", format!("{:.0}", s.acknowledged_per_s)),
        ("  delay p50", ms(s.delay_p50_ms)),
        ("  delay p95", ms(s.delay_p95_ms)),
        ("  delay p99", ms(s.delay_p99_ms)),
        ("  delay max", ms(s.delay_max_ms)),
        ("connections lost", s.disconnects.to_string()),
        ("window full", s.window_full.to_string()),
        ("own lateness p99", ms(s.lateness_p99_ms)),
        ("own CPU per reading", format!("{:.2} µs", s.cpu_us_per_frame)),
    ]);
}

pub fn idle(args: &IdleArgs) -> Result<bool> {
    let hub = super::hub(&args.hub)?;
    let passwords = load::enrol(&hub, args.connections, Kind::Stock)?;
    let plan = IdlePlan {
        mqtt: args.mqtt.clone(),
        passwords,
        hold: duration(args.seconds, "--for")?,
        version: version(args.mqtt_version),
    };
    let progress = Arc::new(IdleProgress::default());
    eprintln!("opening {} connections, holding them for {} s", args.connections, args.seconds);
    let took = load::idle(&plan, &progress)?;
    let (open, lost) = (progress.open.load(Relaxed), progress.lost.load(Relaxed));
    table(&[
        ("connections open", open.to_string()),
        ("  lost or refused", lost.to_string()),
        ("opened within", format!("{:.1} s", took.as_secs_f64())),
    ]);
    Ok(lost == 0)
}
