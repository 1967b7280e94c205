//! Idle connections: opened, kept alive by pings, counted. What a hub pays for devices that say nothing.

use crate::clock::WallClock;
use crate::load::connection::open;
use crate::load::layout::device_id;
use crate::load::{DEVICES_MAX, KEEP_ALIVE_S, LoadError};
use crate::mqtt::packet::{self, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Handshakes at once.
const HANDSHAKES_MAX: usize = 64;

/// What to hold open.
#[derive(Clone)]
pub struct IdlePlan {
    /// The hub's MQTT endpoint, `HOST:PORT`.
    pub mqtt: String,
    /// Password of each device, in the order of [`device_id`]; their number is that of the connections.
    pub passwords: Vec<String>,
    /// How long all are held, once open.
    pub hold: Duration,
    /// Protocol version.
    pub version: Version,
}

/// How it goes; read while [`idle`] runs.
#[derive(Debug, Default)]
pub struct IdleProgress {
    /// Connections open now.
    pub open: AtomicUsize,
    /// Connections that were closed or never opened.
    pub lost: AtomicUsize,
    /// Ends the hold.
    pub stop: AtomicBool,
}

/// Opens the connections and holds them. Blocks; the time it took to open them all.
///
/// # Errors
/// [`LoadError`] when not a single one could be opened.
pub fn idle(plan: &IdlePlan, progress: &Arc<IdleProgress>) -> Result<Duration, LoadError> {
    if !(1..=DEVICES_MAX).contains(&plan.passwords.len()) {
        return Err(LoadError::Plan(format!("1 to {DEVICES_MAX} connections are possible")));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(hold(plan, progress))
}

async fn hold(plan: &IdlePlan, progress: &Arc<IdleProgress>) -> Result<Duration, LoadError> {
    let clock = WallClock::start();
    let permits = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut tasks = JoinSet::new();
    for index in 0..plan.passwords.len() {
        let (plan, progress) = (plan.clone(), Arc::clone(progress));
        let permits = Arc::clone(&permits);
        tasks.spawn(async move {
            let why = one(&plan, index, &progress, &permits).await;
            progress.lost.fetch_add(1, Relaxed);
            why
        });
    }
    let all = plan.passwords.len();
    while progress.open.load(Relaxed) + progress.lost.load(Relaxed) < all {
        sleep(Duration::from_millis(10)).await;
    }
    let took = Duration::from_micros(clock.elapsed_us());
    if progress.open.load(Relaxed) == 0
        && let Some(Ok(why)) = tasks.join_next().await
    {
        return Err(LoadError::Connect { device: device_id(0), mqtt: plan.mqtt.clone(), why });
    }
    let until_us = clock.elapsed_us() + plan.hold.as_micros() as u64;
    while clock.elapsed_us() < until_us && !progress.stop.load(Relaxed) {
        sleep(Duration::from_millis(100)).await;
    }
    Ok(took)
}

/// Holds one connection until it ends; why it did.
async fn one(
    plan: &IdlePlan,
    index: usize,
    progress: &IdleProgress,
    permits: &Semaphore,
) -> String {
    let opened = {
        // The semaphore is never closed.
        let _permit = permits.acquire().await;
        open(&plan.mqtt, &device_id(index), &plan.passwords[index], plan.version).await
    };
    let mut socket = match opened {
        Ok(opened) => opened.socket,
        Err(why) => return why,
    };
    progress.open.fetch_add(1, Relaxed);
    let half = Duration::from_secs(u64::from(KEEP_ALIVE_S) / 2);
    let mut buffer = [0; 256];
    let mut ping = Vec::new();
    packet::pingreq(&mut ping);
    let why = loop {
        match timeout(half, socket.read(&mut buffer)).await {
            Ok(Ok(0)) => break "closed by the server".to_owned(),
            Ok(Ok(_)) => {}
            Ok(Err(e)) => break e.to_string(),
            Err(_) => {
                if let Err(e) = socket.write_all(&ping).await {
                    break e.to_string();
                }
            }
        }
    };
    progress.open.fetch_sub(1, Relaxed);
    tracing::debug!(device = index, why, "idle connection lost");
    why
}
