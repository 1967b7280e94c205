//! The external broker: Mosquitto between the generator and the hub.
//!
//! The generator's acknowledgements are the broker's here, so the rate is read from the hub: readings its journal has. The
//! broker lets the hub have many messages in flight and keeps everything in memory, as `docs/operations.md` says to set it up.
//!
//! The crash ring kills the hub, then the broker. While only the hub dies the broker loses nothing, so everything the broker
//! acknowledged must be there, once. A broker that dies loses what it likes: then what the **hub** acknowledged must be
//! journaled, nothing may be counted twice, and what is missing must show as gaps.

use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::json;
use simulator::{
    load::{self, Kind, Plan, Record, Summary},
    random::Stream,
};
use stockfold_tests::Broker;

use crate::{Load, crash, hub::BenchHub, process};

/// How Mosquitto is set up: no limits of its own but packet ids, and saved often when it is to be killed.
const LINES: &str =
    "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true";
const SAVED: &str = "\npersistence true\npersistence_location DIR/\nautosave_interval 2";
/// Warm-up before measuring, in seconds.
const WARM_UP_S: u64 = 5;
/// Seed of the moments of the kills.
const SEED: u64 = 20_261_125;
/// Shortest and longest time between two kills, in milliseconds.
const LIFE_MS: (i64, i64) = (700, 2_500);
/// Connections of the crash ring.
const CONNECTIONS: usize = 200;
/// Longest wait for anything.
const WAIT_MAX: Duration = Duration::from_secs(120);

#[allow(clippy::disallowed_methods, reason = "measuring")]
pub fn run(load: &Load, default_rate: f64) -> anyhow::Result<()> {
    let rate = load.rate.unwrap_or(default_rate);
    let broker = Broker::mosquitto("bench", LINES).context("Mosquitto is not installed")?;
    let hub = BenchHub::start_behind(&broker.address().to_string())?;
    let passwords = load::enrol(&hub.client()?, load.connections, Kind::Stock)?;
    connected(&hub)?;
    eprintln!(
        "broker: {rate} readings/s from {} connections for {} s",
        load.connections, load.seconds
    );
    let duration = Duration::from_secs(load.seconds);
    let mut plan = Plan::new(&hub.mqtt, passwords, Kind::Stock, rate, duration);
    plan.warm_up = Duration::from_secs(WARM_UP_S);
    let record = Record::new(&plan)?;
    let (summary, per_s, cpu) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let generator = {
            let (plan, record) = (plan.clone(), Arc::clone(&record));
            scope.spawn(move || load::run(&plan, &record))
        };
        while record.started_us().is_none() {
            ensure!(!generator.is_finished(), "the generator did not start");
            sleep(Duration::from_millis(20));
        }
        sleep(plan.warm_up);
        let broker_pid = broker.pid().as_raw_nonzero().get().unsigned_abs();
        let look = || -> anyhow::Result<_> {
            let cpu = (process::cpu_us(hub.pid(), false), process::cpu_us(broker_pid, false));
            Ok((event(&hub, "journaled")?, Instant::now(), cpu))
        };
        let before = look()?;
        sleep(duration);
        let after = look()?;
        let readings = (after.0 - before.0) as f64;
        let cpu = (
            (after.2.0 - before.2.0) as f64 / readings,
            (after.2.1 - before.2.1) as f64 / readings,
        );
        let summary = generator.join().map_err(|_| anyhow::anyhow!("the generator panicked"))??;
        Ok((summary, readings / (after.1 - before.1).as_secs_f64(), cpu))
    })
    .with_context(|| std::fs::read_to_string(hub.log()).unwrap_or_default())?;
    drained(&hub)?;
    crash::settle(&hub)?;
    let (lost, doubled, movements) = crash::judge(&hub, &record)?;
    let result = json!({
        "bench": "broker",
        "readings_per_s": per_s.round(),
        "offered_per_s": rate,
        "connections": load.connections,
        "seconds": load.seconds,
        "hub_us_per_reading": cpu.0,
        "broker_us_per_reading": cpu.1,
        "broker_ack_p99_ms": summary.delay_p99_ms,
        "movements": movements,
        "lost": lost,
        "duplicated": doubled,
    });
    println!("{result}");
    ensure!(lost == 0 && doubled == 0, "readings were lost or counted twice");
    Ok(())
}

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Hub,
    Broker,
}

pub fn crash(kills: u32, rate: f64) -> anyhow::Result<()> {
    let hub_dies = ring(Victim::Hub, kills, rate)?;
    let broker_dies = ring(Victim::Broker, kills, rate)?;
    println!("{}", json!({ "bench": "broker-crash", "hub": hub_dies, "broker": broker_dies }));
    Ok(())
}

fn ring(victim: Victim, kills: u32, rate: f64) -> anyhow::Result<serde_json::Value> {
    let lines = format!("{LINES}{SAVED}");
    let mut broker = Broker::mosquitto("bench", &lines).context("Mosquitto is not installed")?;
    let mut hub = BenchHub::start_behind(&broker.address().to_string())?;
    let passwords = load::enrol(&hub.client()?, CONNECTIONS, Kind::Stock)?;
    connected(&hub)?;
    let longest = Duration::from_secs(u64::from(kills) * 12 + 30);
    let mut plan = Plan::new(&hub.mqtt, passwords, Kind::Stock, rate, longest);
    plan.warm_up = Duration::from_secs(1);
    plan.drain = Duration::from_secs(60);
    let record = Record::new(&plan)?;
    let mut random = Stream::new(SEED, "kill", u64::from(victim == Victim::Broker));
    eprintln!("{kills} kills of the {victim:?} at {rate} readings/s, seed {SEED}");
    let summary = std::thread::scope(|scope| -> anyhow::Result<Summary> {
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
                match victim {
                    Victim::Hub => {
                        hub.kill()?;
                        hub.launch()?;
                    }
                    Victim::Broker => {
                        broker.kill();
                        broker.again();
                    }
                }
                connected(&hub)?;
                eprintln!("{kill:>4}  {:>10} acknowledged by the broker", record.totals().1);
            }
            Ok(())
        })();
        record.stop();
        let summary = generator.join().map_err(|_| anyhow::anyhow!("the generator panicked"))?;
        killing.with_context(|| std::fs::read_to_string(hub.log()).unwrap_or_default())?;
        Ok(summary?)
    })?;
    drained(&hub)?;
    crash::settle(&hub)?;
    let (missing, doubled, movements) = crash::judge(&hub, &record)?;
    let ledger = hub.client()?.list("/ledger")?;
    let sum = |name: &str| ledger.iter().filter_map(|row| row[name].as_u64()).sum::<u64>();
    let (journaled, gaps) = (sum("journaled"), sum("source_lost"));
    let by_hub = event(&hub, "acknowledged")?;
    let whole = hub.replay(true)?;
    ensure!(whole["equal"] == true, "the replay of the whole journal differs: {whole}");
    // What the hub acknowledged in its last life, and did not journal.
    let lost = match victim {
        Victim::Hub => missing,
        Victim::Broker => by_hub.saturating_sub(journaled),
    };
    let result = json!({
        "kills": kills,
        "readings_per_s": rate,
        "acknowledged_by_broker": summary.acknowledged,
        "acknowledged_by_hub": by_hub,
        "resent": summary.resent,
        "journaled": journaled,
        "movements": movements,
        "lost": lost,
        "duplicated": doubled,
        "lost_by_the_broker": if victim == Victim::Broker { missing } else { 0 },
        "shown_as_gaps": gaps,
        "sessions_lost": event(&hub, "sessions_lost")?,
    });
    eprintln!("{result}");
    ensure!(lost == 0 && doubled == 0, "readings were lost or counted twice: {result}");
    ensure!(
        victim == Victim::Hub || gaps >= missing,
        "what the broker lost is not shown: {result}"
    );
    Ok(result)
}

/// A counter of the link.
fn event(hub: &BenchHub, name: &str) -> anyhow::Result<u64> {
    let text = hub.metrics()?;
    let line = format!("stockfold_broker_events_total{{event=\"{name}\"}} ");
    let value = text.lines().find_map(|l| l.strip_prefix(&line)).context("no such counter")?;
    Ok(value.parse::<f64>()? as u64)
}

fn gauge(hub: &BenchHub, name: &str) -> anyhow::Result<f64> {
    let text = hub.metrics()?;
    let value = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.context("no such gauge")?.parse()?)
}

#[allow(clippy::disallowed_methods, reason = "measuring")]
fn wait(what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let began = Instant::now();
    while !done()? {
        if began.elapsed() > WAIT_MAX {
            bail!("waited {} s in vain: {what}", WAIT_MAX.as_secs());
        }
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn connected(hub: &BenchHub) -> anyhow::Result<()> {
    wait("the hub is connected to the broker", || {
        Ok(gauge(hub, "stockfold_broker_connected")? == 1.0)
    })
}

/// Nothing has come for a while and everything is acknowledged: the broker's queue is empty.
fn drained(hub: &BenchHub) -> anyhow::Result<()> {
    let (mut last, mut calm) = (0, 0);
    wait("the broker's queue is empty", || {
        let now = event(hub, "received")?;
        calm =
            if now == last && gauge(hub, "stockfold_broker_open")? == 0.0 { calm + 1 } else { 0 };
        last = now;
        Ok(calm > 40)
    })
}
