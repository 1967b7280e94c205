//! Commands to devices that connect by MQTT: written down, sent, acknowledged, or expired.
//!
//! ```text
//!  API ─► command (PostgreSQL) ─► round ─► way (endpoint or broker) ─► device
//!             ▲  sent, acked, queued again   │
//!             └──────────── receipt ◄────────┘
//! ```
//! A reconciler without input: each round writes down what became of what was sent, ends what has expired, and sends each
//! device its oldest command that waits. A device has one command on its way at a time, so commands reach it in their order.
//! What is on its way is known to this run of the hub only; a hub that starts sends again what was not acknowledged. So a
//! command comes **at least once**, its id tells a repeat, and it comes never after `expires_at`, as far as the device's clock
//! goes.
//!
//! Acknowledged means: by the device, over the embedded endpoint; by the broker, over an external one, which then keeps it for
//! the device if that has a session there. Only who is connected is sent anything; a command waits in its table, not in a queue.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    mqtt::{Core, Qos, Receipt},
    store::{
        PgStore,
        downlink::{State, Waiting},
        fault::Fault,
    },
};

/// Commands that were sent within [`OPEN_MS_MAX`] and are not acknowledged, of all devices.
pub const OPEN_MAX: usize = 256;
/// How long a command counts as being on its way, in milliseconds: devices that never acknowledge must not stop the others'.
pub const OPEN_MS_MAX: u64 = 10_000;
/// Commands of a device that wait.
pub const DEVICE_WAITING_MAX: i64 = 32;
/// Days that commands which have ended are kept.
pub const KEEP_DAYS: i32 = 30;
/// Devices looked at in one page of a round.
const PAGE_MAX: usize = 128;
/// Pause between rounds, in milliseconds.
const ROUND_MS: u64 = 1_000;

/// A way down to devices.
pub trait Way: Send + Sync {
    /// Takes a command to a device; false when nobody takes it now, and the receipt is dropped.
    fn send(&self, order: Order) -> bool;

    /// Says something to whoever listens, at most once, or has it kept for whoever will; false when nobody can hear it now.
    fn say(&self, topic: &str, payload: Vec<u8>, retain: bool) -> bool;
}

/// A command on its way.
#[derive(Debug)]
pub struct Order {
    /// The device.
    pub device: String,
    /// The command.
    pub name: String,
    /// What the device gets.
    pub payload: Vec<u8>,
    /// It is not to be sent after this.
    pub until: Instant,
    /// Told what became of it.
    pub receipt: Receipt,
}

/// What the reconciler counts.
#[derive(Debug, Default)]
pub struct Stats {
    /// Commands handed to a way.
    pub sent: AtomicU64,
    /// Commands acknowledged.
    pub acked: AtomicU64,
    /// Commands that came back: not acknowledged, and to be sent again.
    pub returned: AtomicU64,
    /// Commands that expired.
    pub expired: AtomicU64,
}

/// The reconciler's state.
pub struct Downlink {
    way: Arc<dyn Way>,
    wake: Arc<Notify>,
    books: Arc<Mutex<Books>>,
    /// Figures.
    pub stats: Stats,
}

/// What became of a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is on its way.
    Open,
    /// It is acknowledged, and that is to be written down.
    Acked,
    /// It came back, and that is to be written down.
    Returned,
}

struct Sent {
    key: String,
    fate: Fate,
    since: Instant,
    until: Instant,
}

#[derive(Default)]
struct Books {
    /// Of each device the command that was sent, until what became of it is written down: before that the table still has it
    /// as one to be sent. At most one for each device.
    sent: BTreeMap<String, Sent>,
    /// The last device of the page before; empty at the beginning.
    after: String,
}

impl Downlink {
    /// Sends by `way`.
    pub fn new(way: Arc<dyn Way>) -> Self {
        Self { way, wake: Arc::default(), books: Arc::default(), stats: Stats::default() }
    }

    /// The next round begins now.
    pub fn soon(&self) {
        self.wake.notify_one();
    }

    /// Waits for the next round.
    pub async fn wait(&self) {
        let _ = tokio::time::timeout(Duration::from_millis(ROUND_MS), self.wake.notified()).await;
    }

    /// Commands on their way.
    pub fn open(&self) -> usize {
        self.books(|books| books.sent.len())
    }

    fn books<T>(&self, with: impl FnOnce(&mut Books) -> T) -> T {
        with(&mut self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One round.
    pub async fn round(&self, store: &PgStore) -> Result<(), Fault> {
        self.write_down(store).await?;
        self.stats.expired.fetch_add(store.expire_commands().await?, Relaxed);
        loop {
            let (after, busy, room) = self.books(|books| {
                let busy: Vec<String> = books.sent.keys().cloned().collect();
                let recent = Instant::now().checked_sub(Duration::from_millis(OPEN_MS_MAX));
                let on_their_way =
                    books.sent.values().filter(|sent| recent.is_none_or(|at| sent.since > at));
                let room = OPEN_MAX.saturating_sub(on_their_way.count());
                (books.after.clone(), busy, room)
            });
            let wanted = room.min(PAGE_MAX);
            if wanted == 0 {
                return Ok(());
            }
            let page = store.waiting_commands(&after, &busy, wanted).await?;
            let (is_last, last) = (page.len() < wanted, page.last().map(|w| w.device.clone()));
            let sent: Vec<String> = page.into_iter().filter_map(|w| self.send(w)).collect();
            store.mark_commands(&sent, State::Sent).await?;
            self.books(|books| books.after = last.filter(|_| !is_last).unwrap_or_default());
            if is_last {
                return Ok(());
            }
        }
    }

    /// What became of what was sent. Kept until it is written, should PostgreSQL be away.
    async fn write_down(&self, store: &PgStore) -> Result<(), Fault> {
        let (acked, returned) = self.books(|books| {
            let of = |fate| {
                let these = books.sent.values().filter(|sent| sent.fate == fate);
                these.map(|sent| sent.key.clone()).collect::<Vec<String>>()
            };
            (of(Fate::Acked), of(Fate::Returned))
        });
        store.mark_commands(&acked, State::Acked).await?;
        store.mark_commands(&returned, State::Queued).await?;
        self.stats.acked.fetch_add(acked.len() as u64, Relaxed);
        self.stats.returned.fetch_add(returned.len() as u64, Relaxed);
        self.books(|books| {
            let now = Instant::now();
            // One that has expired is not sent any more, whoever still holds it.
            books.sent.retain(|_, sent| {
                !acked.contains(&sent.key)
                    && !returned.contains(&sent.key)
                    && (sent.fate != Fate::Open || sent.until > now)
            });
        });
        Ok(())
    }

    /// Its key, when a way took it.
    fn send(&self, waiting: Waiting) -> Option<String> {
        let Waiting { key, device, name, payload, good_for } = waiting;
        let (books, wake) = (Arc::clone(&self.books), Arc::clone(&self.wake));
        let (of, told) = (device.clone(), key.clone());
        let receipt = Receipt::new(move |taken| {
            let mut books = books.lock().unwrap_or_else(PoisonError::into_inner);
            // Another one may have taken its place, if it had expired.
            let Some(sent) = books.sent.get_mut(&of).filter(|sent| sent.key == told) else {
                return;
            };
            if taken {
                sent.fate = Fate::Acked;
                wake.notify_one();
            } else {
                // It waits for the next round: whoever did not take it now will not take it at once.
                sent.fate = Fate::Returned;
            }
        });
        let since = Instant::now();
        let until = since + good_for;
        let sent = Sent { key: key.clone(), fate: Fate::Open, since, until };
        self.books(|books| books.sent.insert(device.clone(), sent));
        let order = Order { device: device.clone(), name, payload, until, receipt };
        if !self.way.send(order) {
            self.books(|books| books.sent.remove(&device));
            return None;
        }
        self.stats.sent.fetch_add(1, Relaxed);
        Some(key)
    }
}

impl Way for Core {
    fn send(&self, order: Order) -> bool {
        let Order { device, name, payload, until, receipt } = order;
        match self.registry.send_command(&device, &name, &payload, until, receipt) {
            Ok(takers) => takers > 0,
            Err(error) => {
                tracing::error!(device, command = name, %error, "command not sendable");
                false
            }
        }
    }

    fn say(&self, topic: &str, payload: Vec<u8>, retain: bool) -> bool {
        match self.registry.publish(topic, &payload, Qos::AtMostOnce, retain) {
            Ok(takers) => takers > 0 || retain,
            Err(error) => {
                tracing::error!(topic, %error, "not sayable");
                false
            }
        }
    }
}
