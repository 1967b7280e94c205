//! The load generator: many devices, a fixed rate, and as little CPU as possible.
//!
//! **Open loop.** Every frame has a moment on a schedule that no answer can move. When a connection's window is full or
//! its socket is down, its frames wait and are sent late; [`Record`] knows when each was due, written and acknowledged,
//! so a slow hub shows as delay and never as a lower rate.
//!
//! **Cheap.** Generator, hub and PostgreSQL share two cores. Each device has a ready-made packet in which only digits
//! are patched; a tick writes all that is due on a connection with one system call; acknowledgements are read as many
//! at a time as there are, and recorded by one store into an array. One or two threads carry all connections.
//!
//! **Survives the hub.** With `reconnect`, a broken connection comes back with a short jittered back-off and sends
//! again, with the same `seq` and DUP, whatever was not acknowledged.
//!
//! ```text
//!  Plan ─► layout (import) ─► run(plan, record) ─► threads: tick ─► Connection::pump ─► socket
//!                                  ▲ record                              reader ◄─ PUBACK
//!                                  └─ read by a bench while it runs
//! ```

mod connection;
mod idle;
mod layout;
mod record;
mod template;
mod worker;

pub use idle::{IdlePlan, IdleProgress, idle};
pub use layout::{FACILITY, device_id, layout, slot_id};
pub use record::{Record, Summary};
pub use template::Kind;

use crate::hub::{Hub, HubError};
use crate::mqtt::packet::Version;
use std::sync::Arc;
use std::time::Duration;

/// Devices one generator drives.
pub const DEVICES_MAX: usize = 20_000;
/// Longest silence a device keeps, s; also its keep-alive.
pub const KEEP_ALIVE_S: u16 = 300;
/// Bytes a record may take: 8 for each frame.
pub const RECORD_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;

/// What to do to a hub.
#[derive(Clone)]
pub struct Plan {
    /// The hub's MQTT endpoint, `HOST:PORT`.
    pub mqtt: String,
    /// Password of each device, in the order of [`device_id`]; their number is that of the connections.
    pub passwords: Vec<String>,
    /// What is sent.
    pub kind: Kind,
    /// Frames per second in all.
    pub rate_per_s: f64,
    /// Frames a device sends together: 1 is a device that speaks when it measures, more is one that batches.
    pub burst_frames: u32,
    /// Sent before measuring begins.
    pub warm_up: Duration,
    /// Measured time.
    pub duration: Duration,
    /// Longest wait for acknowledgements at the end.
    pub drain: Duration,
    /// Protocol version.
    pub version: Version,
    /// OS threads.
    pub threads: usize,
    /// Unacknowledged frames of a connection; an MQTT 5 server may lower it.
    pub window_frames: u16,
    /// Come back and send again when a connection breaks.
    pub reconnect: bool,
    /// Boot id in every payload; a new one for each run against the same hub.
    pub boot: String,
    /// Seed of the back-off's jitter.
    pub seed: u64,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("mqtt", &self.mqtt)
            .field("devices", &self.passwords.len())
            .field("kind", &self.kind)
            .field("rate_per_s", &self.rate_per_s)
            .field("duration", &self.duration)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// Stream `kind` at `rate_per_s` for `duration`, MQTT 3.1.1, everything else as a fair measurement wants it.
    #[must_use]
    pub fn new(
        mqtt: &str,
        passwords: Vec<String>,
        kind: Kind,
        rate_per_s: f64,
        duration: Duration,
    ) -> Self {
        Self {
            mqtt: mqtt.to_owned(),
            passwords,
            kind,
            rate_per_s,
            burst_frames: 1,
            warm_up: Duration::from_secs(5),
            duration,
            drain: Duration::from_secs(15),
            version: Version::V3,
            threads: 1,
            window_frames: 10_000,
            reconnect: true,
            boot: format!("{:x}", crate::clock::WallClock::start().unix_us()),
            seed: 1,
        }
    }

    /// Connections.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.passwords.len()
    }

    /// From one burst of a device to its next, µs.
    #[must_use]
    pub fn period_us(&self) -> f64 {
        self.devices() as f64 * f64::from(self.burst_frames) * 1e6 / self.rate_per_s
    }

    /// Scheduled time in all, µs.
    #[must_use]
    pub fn total_us(&self) -> u64 {
        (self.warm_up + self.duration).as_micros() as u64
    }

    fn check(&self) -> Result<(), LoadError> {
        let bad = |what: &str| Err(LoadError::Plan(what.to_owned()));
        if !(1..=DEVICES_MAX).contains(&self.devices()) {
            return bad("1 to 20000 devices are possible");
        }
        if !(self.rate_per_s > 0.0 && self.rate_per_s <= 1e7) {
            return bad("the rate must be above 0 and at most 10 million a second");
        }
        if self.burst_frames == 0 || self.window_frames == 0 || !(1..=8).contains(&self.threads) {
            return bad("burst and window must be at least 1, threads 1 to 8");
        }
        if self.period_us() > f64::from(KEEP_ALIVE_S) * 1e6 {
            return bad(
                "a device would be silent for more than 300 s; raise the rate or lower the number of devices",
            );
        }
        if !(1..=40).contains(&self.boot.len())
            || !self.boot.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return bad("the boot id must be 1 to 40 letters and digits");
        }
        Ok(())
    }
}

/// Why a load did not run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A plan that cannot be carried out.
    #[error("load plan: {0}")]
    Plan(String),
    /// A device could not connect.
    #[error("{device} cannot connect to {mqtt}: {why}")]
    Connect {
        /// Device id.
        device: String,
        /// `HOST:PORT`.
        mqtt: String,
        /// What was said.
        why: String,
    },
    /// No thread or runtime.
    #[error("cannot start a generator thread: {0}")]
    Thread(#[from] std::io::Error),
    /// A bug.
    #[error("a generator thread panicked")]
    Panicked,
}

/// Imports the load's layout for `devices` devices; their passwords, in the order a [`Plan`] wants them.
///
/// # Errors
/// [`HubError`].
pub fn enrol(hub: &Hub, devices: usize, kind: Kind) -> Result<Vec<String>, HubError> {
    let ids: Vec<String> = (0..devices).map(device_id).collect();
    let mut passwords = hub.enrol(&layout(devices, kind), ids.iter().map(String::as_str))?;
    Ok(ids.iter().filter_map(|id| passwords.remove(id)).collect())
}

/// Carries out `plan`, recording into `record` (made by [`Record::new`] from the same plan). Blocks until the schedule
/// is over and everything is acknowledged, [`Plan::drain`] has passed, or [`Record::stop`] was called.
///
/// # Errors
/// [`LoadError`]; a connection lost later is counted, not an error.
pub fn run(plan: &Plan, record: &Arc<Record>) -> Result<Summary, LoadError> {
    plan.check()?;
    let result = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.threads)
            .map(|thread| {
                std::thread::Builder::new()
                    .name(format!("load-{thread}"))
                    .spawn_scoped(scope, move || worker::work(plan, thread, Arc::clone(record)))
            })
            .collect::<Result<_, _>>()?;
        workers.into_iter().try_for_each(|w| w.join().map_err(|_| LoadError::Panicked)?)
    });
    result.map(|()| record.summary())
}
