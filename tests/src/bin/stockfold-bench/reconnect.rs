//! Reconnect: many Modbus endpoints lose their power at once, and come back at once. How soon is each unit read again, and do
//! the hub's tries spread?
//!
//! An endpoint can be away in three ways: nothing listens there (*refused*), it closes whoever connects (*closing*, which also
//! shows when the tries come), or it keeps its connections and answers nothing (*silent*), as behind a switch that lost its
//! power; when it is back it knows none of them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed, mpsc},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};
use simulator::modbus::{self, Framing, Line, Make, Served};

use crate::{
    hub::BenchHub,
    ingest::percentile_ms,
    modbus::{add_bus, all_read, enrol, place, transmitter, units},
};

/// Units of a gateway.
const GATEWAY_UNITS: usize = 4;
/// One in so many endpoints is a gateway.
const GATEWAY_EVERY: usize = 4;
/// First port: below those the system gives to clients, because a client that is given the port it calls calls itself.
const PORT_MIN: u16 = 20_000;
/// Between two looks at the hub.
const LOOK: Duration = Duration::from_millis(20);
/// Units that are not read after this long are counted as never.
const BACK_WAIT: Duration = Duration::from_secs(30);
/// Tries are counted from so long after the endpoints went, when the pauses between them have grown.
const GROWN: Duration = Duration::from_secs(8);
/// The promise: from being there again to the first reading, milliseconds.
const BACK_MS_MAX: f64 = 5_000.0;

/// What the bench is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Endpoints; one in four is a gateway of four units.
    #[arg(long, default_value_t = 200)]
    endpoints: usize,
    /// How long they are away, in seconds.
    #[arg(long, default_value_t = 20)]
    away_s: u64,
    /// Times they go, in each way.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
}

/// How an endpoint is away.
#[derive(Debug, Clone, Copy)]
enum Away {
    Refused,
    Closing,
    Silent,
}

impl Away {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Refused, "refused"), (Self::Closing, "closing"), (Self::Silent, "silent")];
}

/// When the hub tried, microseconds since the endpoints went.
type Tries = Arc<Mutex<Vec<u64>>>;

struct Endpoint {
    port: u16,
    line: Line,
    served: Option<Served>,
    closer: Option<tokio::task::JoinHandle<()>>,
}

impl Endpoint {
    fn listen(&self) -> std::io::Result<TcpListener> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))
    }

    fn serve(&mut self) -> std::io::Result<()> {
        self.served = Some(modbus::serve(self.listen()?, Framing::Tcp, Arc::clone(&self.line))?);
        Ok(())
    }
}

/// Whoever conducts the endpoints, in a thread of its own.
struct Conductor {
    orders: tokio::sync::mpsc::Sender<Option<Away>>,
    done: mpsc::Receiver<std::io::Result<()>>,
    tries: Tries,
}

impl Conductor {
    fn start(mut endpoints: Vec<Endpoint>) -> anyhow::Result<Self> {
        let (orders, mut inbox) = tokio::sync::mpsc::channel(1);
        let (tell, done) = mpsc::channel();
        let tries = Tries::default();
        let noted = Arc::clone(&tries);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let _ = tell.send(endpoints.iter_mut().try_for_each(Endpoint::serve));
                while let Some(order) = inbox.recv().await {
                    let did = match order {
                        Some(away) => leave(&mut endpoints, away, &noted).await,
                        None => come_back(&mut endpoints).await,
                    };
                    let _ = tell.send(did);
                }
            });
        });
        let conductor = Self { orders, done, tries };
        conductor.done.recv()??;
        Ok(conductor)
    }

    /// Lets them go in a way, or come back.
    fn order(&self, away: Option<Away>) -> anyhow::Result<()> {
        self.orders.blocking_send(away)?;
        Ok(self.done.recv()??)
    }
}

/// Long enough for every connection of a server without power to be gone.
const DROPPED: Duration = Duration::from_millis(100);

#[allow(clippy::disallowed_methods, reason = "measuring")]
async fn leave(endpoints: &mut [Endpoint], away: Away, tries: &Tries) -> std::io::Result<()> {
    let switches = |endpoint: &Endpoint| {
        endpoint.served.as_ref().map(|s| (Arc::clone(&s.powered), Arc::clone(&s.silent)))
    };
    if let Away::Silent = away {
        for (_, silent) in endpoints.iter().filter_map(switches) {
            silent.store(true, Relaxed);
        }
        return Ok(());
    }
    for (powered, _) in endpoints.iter().filter_map(switches) {
        powered.store(false, Relaxed);
    }
    tokio::time::sleep(DROPPED).await;
    tries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let began = Instant::now();
    for endpoint in endpoints {
        endpoint.served = None;
        // The port is free when the task that listened is gone.
        tokio::task::yield_now().await;
        if let Away::Closing = away {
            let listener = endpoint.listen()?;
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let tries = Arc::clone(tries);
            endpoint.closer = Some(tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let at = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                    tries.lock().unwrap_or_else(PoisonError::into_inner).push(at);
                    drop(stream);
                }
            }));
        }
    }
    Ok(())
}

async fn come_back(endpoints: &mut [Endpoint]) -> std::io::Result<()> {
    for endpoint in endpoints.iter_mut() {
        if let Some(closer) = endpoint.closer.take() {
            closer.abort();
            let _ = closer.await;
        }
        match &endpoint.served {
            // It was silent: now it drops what it does not know any more.
            Some(served) => served.powered.store(false, Relaxed),
            None => endpoint.serve()?,
        }
    }
    tokio::time::sleep(DROPPED).await;
    for served in endpoints.iter().filter_map(|endpoint| endpoint.served.as_ref()) {
        served.silent.store(false, Relaxed);
        served.powered.store(true, Relaxed);
    }
    Ok(())
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let hub = BenchHub::start()?;
    let gateways = args.endpoints.div_ceil(GATEWAY_EVERY);
    let devices = args.endpoints + gateways * (GATEWAY_UNITS - 1);
    enrol(&hub, devices)?;
    let (mut endpoints, mut device) = (Vec::with_capacity(args.endpoints), 0);
    let mut ports = PORT_MIN..u16::MAX;
    for number in 0..args.endpoints {
        let count = if number % GATEWAY_EVERY == 0 { GATEWAY_UNITS } else { 1 };
        let banks = (1..=count).map(|unit| Ok((u8::try_from(unit)?, transmitter(Make::LaumasTlb))));
        let line: Line = Arc::new(Mutex::new(banks.collect::<anyhow::Result<BTreeMap<_, _>>>()?));
        let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let port = ports.find(free).context("no port is free")?;
        let bus = format!("bus-{number}");
        add_bus(&hub, &bus, &format!("tcp://127.0.0.1:{port}"))?;
        for unit in 1..=count {
            place(&hub, device, &bus, unit)?;
            device += 1;
        }
        endpoints.push(Endpoint { port, line, served: None, closer: None });
    }
    let conductor = Conductor::start(endpoints)?;
    all_read(&hub, devices)?;

    let (mut result, mut worst) = (Map::new(), 0f64);
    result.insert("bench".into(), "modbus-reconnect".into());
    result.insert("endpoints".into(), args.endpoints.into());
    result.insert("units".into(), devices.into());
    for (away, name) in Away::ALL {
        let (mut back, mut never) = (Vec::new(), 0);
        for _ in 0..args.rounds {
            eprintln!("modbus-reconnect: {name} for {} s", args.away_s);
            conductor.order(Some(away))?;
            sleep(Duration::from_secs(args.away_s));
            let round = read_again(&hub, &conductor)?;
            never += devices - round.len();
            back.extend(round);
        }
        back.sort_unstable();
        worst = worst.max(percentile_ms(&back, 1.0));
        let mut figures = json!({
            "back_p50_ms": percentile_ms(&back, 0.5),
            "back_p99_ms": percentile_ms(&back, 0.99),
            "back_max_ms": percentile_ms(&back, 1.0),
            "never": never,
        });
        if let Away::Closing = away {
            let tries = conductor.tries.lock().unwrap_or_else(PoisonError::into_inner);
            spread(&tries, args, &mut figures);
        }
        result.insert(name.into(), figures);
        ensure!(never == 0, "{never} units were not read again: {result:?}");
    }
    println!("{}", Value::Object(result));
    ensure!(worst <= BACK_MS_MAX, "a unit was away for {worst} ms longer than its endpoint");
    Ok(())
}

/// Lets the endpoints come back; microseconds from then to the first delivery of each unit, for those that were read at all.
#[allow(clippy::disallowed_methods, reason = "measuring")]
fn read_again(hub: &BenchHub, conductor: &Conductor) -> anyhow::Result<Vec<u64>> {
    let delivered = |hub: &BenchHub| -> anyhow::Result<BTreeMap<String, u64>> {
        let of = |(device, unit): (String, Value)| {
            (device, unit["delivered"].as_u64().unwrap_or_default())
        };
        Ok(units(hub)?.into_iter().map(of).collect())
    };
    let before = delivered(hub)?;
    let began = Instant::now();
    conductor.order(None)?;
    let mut back: BTreeMap<String, u64> = BTreeMap::new();
    while back.len() < before.len() && began.elapsed() < BACK_WAIT {
        sleep(LOOK);
        let now = delivered(hub)?;
        let at = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        for (device, count) in now {
            if before.get(&device).is_some_and(|was| count > *was) {
                back.entry(device).or_insert(at);
            }
        }
    }
    Ok(back.into_values().collect())
}

/// How the tries of the last round spread over time.
fn spread(tries: &[u64], args: &Args, figures: &mut Value) {
    let grown: Vec<u64> =
        tries.iter().copied().filter(|at| *at > GROWN.as_micros() as u64).collect();
    let seconds = Duration::from_secs(args.away_s).saturating_sub(GROWN).as_secs_f64();
    let mut slots: BTreeMap<u64, usize> = BTreeMap::new();
    for at in &grown {
        *slots.entry(at / 100_000).or_default() += 1;
    }
    let mean = grown.len() as f64 / (seconds * 10.0);
    figures["tries_per_s"] = json!(grown.len() as f64 / seconds);
    figures["tries_per_100ms_mean"] = json!(mean);
    figures["tries_per_100ms_max"] = json!(slots.values().max());
}
