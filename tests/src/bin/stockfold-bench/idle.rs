//! Idle: what a connection that says nothing costs.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use simulator::load::{self, IdlePlan, IdleProgress, Kind};

use crate::{hub::BenchHub, process};

pub fn run(connections: usize) -> anyhow::Result<()> {
    let mut hub = BenchHub::start()?;
    let passwords = load::enrol(&hub.client()?, connections, Kind::Stock)?;
    // What the import took and gave back is not what a connection costs.
    hub.stop()?;
    hub.launch()?;
    let before = process::rss_bytes(hub.pid());
    let plan = IdlePlan {
        mqtt: hub.mqtt.clone(),
        passwords,
        hold: Duration::from_secs(10),
        version: simulator::mqtt::packet::Version::V3,
    };
    let progress = Arc::new(IdleProgress::default());
    let (pid, mut peak) = (hub.pid(), 0);
    let took = std::thread::scope(|scope| {
        let holding = scope.spawn(|| load::idle(&plan, &progress));
        while !holding.is_finished() {
            std::thread::sleep(Duration::from_millis(100));
            peak = peak.max(process::rss_bytes(pid));
        }
        holding.join()
    });
    let took = took.map_err(|_| anyhow::anyhow!("the generator panicked"))??;
    let result = json!({
        "bench": "idle",
        "connections": connections,
        "connect_s": took.as_secs_f64(),
        "rss_before_mb": before as f64 / 1e6,
        "rss_mb": peak as f64 / 1e6,
        "bytes_per_connection": peak.saturating_sub(before) / connections.max(1) as u64,
    });
    println!("{result}");
    Ok(())
}
