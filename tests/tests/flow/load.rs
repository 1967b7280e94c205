//! Stops and kills under load: the generator keeps what was not acknowledged and sends it again; whatever it saw
//! acknowledged must be there, once.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use simulator::{
    load::{self, Kind, Plan, Record, Summary},
    random::Stream,
};
use stockfold_tests::{Hub, until};

const DEVICES: usize = 50;
const READINGS_PER_S: f64 = 1_000.0;
/// A stop under load ends within this.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Seed of the moments of the kills.
const SEED: u64 = 20_261_125;

/// A load on its way.
struct Load {
    record: Arc<Record>,
    generator: JoinHandle<Summary>,
}

impl Load {
    fn start(hub: &Hub) -> Self {
        let token = std::fs::read_to_string(hub.data_dir().join("admin-token")).unwrap();
        let client = simulator::hub::Hub::new(hub.api().origin(), token.trim()).unwrap();
        let passwords = load::enrol(&client, DEVICES, Kind::Stock).unwrap();
        let long = Duration::from_secs(120);
        let mut plan =
            Plan::new(&hub.mqtt().to_string(), passwords, Kind::Stock, READINGS_PER_S, long);
        plan.warm_up = Duration::ZERO;
        plan.drain = Duration::from_secs(60);
        let record = Record::new(&plan).unwrap();
        let recorded = Arc::clone(&record);
        let generator = std::thread::spawn(move || load::run(&plan, &recorded).unwrap());
        Self { record, generator }
    }

    /// Waits until so many readings more are acknowledged.
    fn acknowledges(&self, more: u64) {
        let (_, before) = self.record.totals();
        until("readings are acknowledged", || {
            assert!(!self.generator.is_finished(), "the generator ended");
            (self.record.totals().1 >= before + more).then_some(())
        });
    }

    /// Ends the load; everything acknowledged is there once, and so is all that was written at all.
    fn judge(self, hub: &Hub) {
        self.record.stop();
        let summary = self.generator.join().unwrap();
        println!(
            "{} acknowledged, {} sent again, {} connections lost",
            summary.acknowledged, summary.resent, summary.disconnects
        );
        assert_eq!(summary.acknowledged, summary.written, "what was sent was answered in the end");
        assert!(summary.disconnects >= DEVICES as u64, "the hub went while all were connected");
        let path = format!("/movements?facility={}&order=asc", load::FACILITY);
        let movements = until("everything acknowledged is committed", || {
            let found = hub.api().all(&path);
            (found.len() as u64 >= summary.acknowledged).then_some(found)
        });
        let mut booked: BTreeMap<(&str, u64), u64> = BTreeMap::new();
        for m in &movements {
            let key = (m["device"].as_str().unwrap(), m["seq"].as_u64().unwrap());
            *booked.entry(key).or_default() += 1;
        }
        for device in 0..DEVICES {
            let id = load::device_id(device);
            for seq in 1..=self.record.frames_per_device() {
                let acknowledged = self.record.acked_us(device, seq).is_some();
                let there = booked.get(&(&*id, seq)).copied().unwrap_or(0);
                assert_eq!(there, u64::from(acknowledged), "{id} {seq}");
            }
        }
        let stock = hub.api().all(&format!("/stock?facility={}", load::FACILITY));
        let units: i64 = stock.iter().map(|line| line["quantity"].as_i64().unwrap()).sum();
        assert_eq!(units.unsigned_abs(), summary.acknowledged, "the levels add up");
        hub.replays_equal();
    }
}

#[test]
fn a_stop_under_load_is_quick_and_loses_nothing() {
    let mut hub = Hub::start();
    let load = Load::start(&hub);
    for _ in 0..2 {
        load.acknowledges(1_500);
        let began = Instant::now();
        let status = hub.stop();
        println!("stopped in {} ms", began.elapsed().as_millis());
        assert_eq!(status.code(), Some(0));
        assert!(began.elapsed() < STOP_MAX, "{:?}", began.elapsed());
        hub.again();
    }
    load.acknowledges(500);
    load.judge(&hub);
}

#[test]
fn five_kills_under_load_lose_nothing_and_count_nothing_twice() {
    let mut hub = Hub::start();
    let load = Load::start(&hub);
    let mut random = Stream::new(SEED, "kill", 0);
    println!("seed {SEED}");
    for kill in 1..=5 {
        load.acknowledges(random.between(200, 1_500).unsigned_abs());
        hub.kill();
        let began = Instant::now();
        hub.again();
        println!("kill {kill}: ready after {} ms", began.elapsed().as_millis());
        hub.replays_equal();
    }
    load.acknowledges(500);
    assert!(hub.is_running());
    load.judge(&hub);
    assert_eq!(hub.stop().signal(), None);
}
