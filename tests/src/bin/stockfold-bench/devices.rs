//! Devices: what a hub keeps of many that are not connected. Each has its entry in the directory, its credential, its place
//! in the fold with the window of numbers seen, and a last value, because each has spoken: a stock reading and a sensor's.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use stockfold_tests::{Device, Login, Version};

use crate::{hub::BenchHub, process};

const FACILITY: &str = "many";
/// Devices of one import.
const CHUNK: usize = 10_000;
/// Slots that the devices' readings go to.
const SLOTS: usize = 1_000;
/// Devices that speak at once; their acknowledgements share a sync.
const SPEAKERS: usize = 128;
/// A speaker's pause between two devices: all come from one address, which may connect 2,000 times a second.
const PAUSE: Duration = Duration::from_millis(75);
/// Longest wait for what was said to be committed.
const COMMIT_WAIT: Duration = Duration::from_secs(300);
/// From then to the look at the memory: what is given back by then is no part of a device.
const REST: Duration = Duration::from_secs(10);
/// The promise: memory of a hub with 100,000 of them, bytes.
const RSS_BYTES_MAX: u64 = 500_000_000;

/// What the bench is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Devices.
    #[arg(long, default_value_t = 100_000)]
    devices: usize,
}

#[allow(clippy::disallowed_methods, reason = "measuring")]
pub fn run(args: &Args) -> anyhow::Result<()> {
    // However full the disk is: sensors' readings are refused first, and that is not what is measured.
    let keys = ["REFUSE_TELEMETRY_PERCENT", "REFUSE_PERCENT"];
    let env = keys.map(|key| (format!("STOCKFOLD__JOURNAL__{key}"), "99".to_owned())).to_vec();
    let mut hub = BenchHub::start_with_env(env)?;
    let empty = process::rss_bytes(hub.pid());
    hub.client()?.post("/import", &ground(), None)?;

    let began = Instant::now();
    let mut logins = Vec::with_capacity(args.devices);
    while logins.len() < args.devices {
        let ids: Vec<String> =
            (logins.len()..args.devices.min(logins.len() + CHUNK)).map(id).collect();
        logins.extend(enrol(&hub, &ids)?);
    }
    let import = began.elapsed();
    eprintln!("devices: {} enrolled in {:.1} s", args.devices, import.as_secs_f64());
    let enrolled = process::rss_bytes(hub.pid());

    let began = Instant::now();
    speak(hub.mqtt.parse()?, &logins)
        .with_context(|| std::fs::read_to_string(hub.log()).unwrap_or_default())?;
    let spoken = began.elapsed();
    committed(&hub, args.devices)?;
    sleep(REST);
    let spoke = process::rss_bytes(hub.pid());

    hub.stop()?;
    let start = hub.launch()?;
    sleep(REST);
    let again = process::rss_bytes(hub.pid());
    let per_device = |rss: u64| rss.saturating_sub(empty) / args.devices.max(1) as u64;
    let result = json!({
        "bench": "devices",
        "devices": args.devices,
        "import_s": import.as_secs_f64(),
        "speaking_s": spoken.as_secs_f64(),
        "start_again_s": start.as_secs_f64(),
        "rss_empty_mb": empty as f64 / 1e6,
        "rss_enrolled_mb": enrolled as f64 / 1e6,
        "rss_spoke_mb": spoke as f64 / 1e6,
        "rss_again_mb": again as f64 / 1e6,
        "bytes_per_device": per_device(spoke),
        "bytes_per_device_again": per_device(again),
    });
    println!("{result}");
    let most = spoke.max(again);
    ensure!(most <= RSS_BYTES_MAX, "{} MB are more than 500", most / 1_000_000);
    Ok(())
}

fn id(number: usize) -> String {
    format!("sensor-{number:06}")
}

/// The facility without its devices.
fn ground() -> Value {
    let slot =
        |n: usize| json!({"facility": FACILITY, "id": format!("slot-{n}"), "shelf": "shelf"});
    json!({
        "facilities": [{"id": FACILITY, "name": "Many"}],
        "shelves": [{"facility": FACILITY, "id": "shelf", "name": "Shelf"}],
        "slots": (0..SLOTS).map(slot).collect::<Vec<_>>(),
        "skus": [{"id": "sku-0", "name": "Thing", "unit_weight_mg": 100_000}],
    })
}

fn enrol(hub: &BenchHub, ids: &[String]) -> anyhow::Result<Vec<Login>> {
    let device = |(n, id): (usize, &String)| json!({"id": id, "facility": FACILITY, "slot": format!("slot-{}", n % SLOTS)});
    let devices = json!({"devices": ids.iter().enumerate().map(device).collect::<Vec<_>>()});
    let passwords: BTreeMap<String, String> =
        hub.client()?.enrol(&devices, ids.iter().map(String::as_str))?;
    let login = |(device, password)| Login { device, password };
    Ok(passwords.into_iter().map(login).collect())
}

/// Lets each device connect, say two things, and go.
fn speak(mqtt: SocketAddr, logins: &[Login]) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let speakers: Vec<_> = (0..SPEAKERS)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(login) = logins.get(next.fetch_add(1, Relaxed)) {
                        let mut device =
                            Device::connect(mqtt, Version::V3, login).map_err(|code| {
                                anyhow::anyhow!("{} was refused: {code}", login.device)
                            })?;
                        device.stock(1, "b", "sku-0", 1);
                        device.reading("climate", br#"{"seq":2,"boot":"b","values":{"t":21.5}}"#);
                        device.disconnect();
                        sleep(PAUSE);
                    }
                    Ok(())
                })
            })
            .collect();
        speakers.into_iter().try_for_each(|speaker| {
            speaker.join().map_err(|_| anyhow::anyhow!("a device was not answered"))?
        })
    })
}

/// Waits until every stock reading is a movement, and every sensor's a point.
#[allow(clippy::disallowed_methods, reason = "measuring")]
fn committed(hub: &BenchHub, devices: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let metrics = hub.metrics()?;
        let sum = |name: &str| -> f64 {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
        };
        let there = [sum("stockfold_movements_total"), sum("stockfold_series_points_total")];
        if there.iter().all(|count| *count >= devices as f64) {
            return Ok(());
        }
        ensure!(began.elapsed() < COMMIT_WAIT, "only {there:?} of {devices} were committed");
        sleep(Duration::from_millis(200));
    }
}
