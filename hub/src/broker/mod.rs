//! The external broker: readings come through Mosquitto, RabbitMQ or another broker instead of the embedded endpoint.
//!
//! ```text
//!  broker ─► poller (task of its own: rumqttc's event loop) ─► link ─► ingress ─► journal
//!     ▲                                                         │ durable, in order of arrival
//!     └────────────────────────── PUBACK ◄──────────────────────┘
//! ```
//! The broker keeps a session for the hub (clean session 0, QoS 1), so what comes while the hub is away waits there. The hub
//! acknowledges a message only when its own journal has it; what was not acknowledged comes again, and the fold knows frames
//! it has seen by (device, boot, seq). What the broker itself loses shows as gaps in a device's seq, in the ledger.
//!
//! **A client lives as long as its connection.** rumqttc clears its pending packets when a session is lost, keeps
//! acknowledgements of an old connection for the next one (where the packet id is another message's), and can loop on a
//! collision for ever. Here every connection has a client, an event loop, a subscription and packet ids of its own, and all
//! go together: a late acknowledgement finds a closed channel. The guardian makes the next life, with jitter and a back-off.
//!
//! **Who a device is, the broker decides**: its access list must let a device publish below its own id only
//! (`stockfold device acl` writes one). The hub then believes the topic. Frames of devices it does not know are counted,
//! listed as seen, and let go: acknowledged, for the broker would otherwise bring them for ever.
//!
//! **Commands** to devices go down the same connection ([`Way`]). They wait in the hub's own table, not in the client: one that
//! the broker has not acknowledged when the connection ends is sent again by the next (`sent.rs`).
//!
//! Back-pressure: when the journal is full or the disk is, the link stops taking, the poller stops polling, and the broker
//! queues, within its own limits. Nothing is dropped here for want of room.

mod link;
mod poller;
mod sent;
mod settings;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_rt::Arbiter;
use actors::{
    guardian::{Policy, Status, guard},
    ports::rng::Rng,
};
use tokio::sync::{mpsc, oneshot, watch};

pub use settings::Settings;

use crate::{
    directory::Directory,
    downlink::{Order, Way},
    ingress::HubIngress,
};

/// Longest wait between two connections, in milliseconds.
const BACKOFF_MS_MAX: u64 = 5_000;
/// How long a stop waits for acknowledgements on their way, in milliseconds.
const STOP_MS_MAX: u64 = 2_000;

/// What the hub has to say and nobody acknowledges, on its way to the client.
const SAYS_MAX: usize = 64;

/// Something that is said at most once.
#[derive(Debug)]
struct Said {
    topic: String,
    payload: Vec<u8>,
    retain: bool,
}

macro_rules! counters {
    ($( $(#[$doc:meta])* $name:ident, )+) => {
        /// What the link counts, and how it stands.
        #[derive(Debug, Default)]
        pub struct Stats {
            $( $(#[$doc])* pub $name: AtomicU64, )+
            /// Connected and subscribed.
            pub connected: AtomicBool,
            /// Messages taken and not yet acknowledged.
            pub open: AtomicU64,
            /// The link takes nothing because the journal or the disk is full.
            pub holding: AtomicBool,
            trouble: Mutex<String>,
        }

        impl Stats {
            /// Name and value of every counter.
            pub fn counters(&self) -> Vec<(&'static str, u64)> {
                vec![$( (stringify!($name), self.$name.load(Relaxed)), )+]
            }
        }
    };
}

counters! {
    /// Connections the broker granted.
    connects,
    /// Connections that ended or never stood.
    failures,
    /// Times the broker had forgotten a session it should have kept: what it had queued is gone.
    sessions_lost,
    /// Messages received.
    received,
    /// Messages the broker sent again.
    redelivered,
    /// Messages handed to the journal.
    journaled,
    /// Acknowledgements handed to the client.
    acknowledged,
    /// Let go: the device is not enrolled.
    unknown_device,
    /// Let go: the device is disabled.
    disabled_device,
    /// Let go: no topic of a reading.
    unknown_topic,
    /// Let go: retained by the broker, so from before the subscription.
    retained,
    /// Let go: larger than a frame may be.
    too_large,
    /// Times the link began to hold because the journal or the disk was full.
    held,
    /// Filters of foreign topics that the broker refused.
    filters_refused,
    /// Commands handed to the client.
    commands,
    /// Commands the broker acknowledged.
    commands_acknowledged,
}

impl Stats {
    /// Why there is no connection; empty when there never was a reason.
    pub fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failed(&self, why: &str) {
        self.connected.store(false, Relaxed);
        self.failures.fetch_add(1, Relaxed);
        why.clone_into(&mut self.trouble.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The running link.
pub struct Broker {
    /// Figures.
    pub stats: Arc<Stats>,
    url: String,
    orders: mpsc::Sender<Order>,
    says: mpsc::Sender<Said>,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
    arbiter: Arbiter,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Broker {
    /// Starts the link on a thread of its own and keeps it going. Returns at once: a broker that is away is no reason for the
    /// hub to be.
    pub async fn start(
        settings: Settings,
        ingress: Arc<HubIngress>,
        directory: Arc<Directory>,
        rng: Arc<dyn Rng>,
    ) -> anyhow::Result<(Self, Arc<Status>)> {
        let stats = Arc::new(Stats::default());
        let (stop, told_to_stop) = watch::channel(false);
        let (tell_stopped, stopped) = watch::channel(false);
        let (orders, told_to_send) = mpsc::channel(sent::COMMANDS_MAX);
        let (says, told_to_say) = mpsc::channel(SAYS_MAX);
        let url = settings.url().to_owned();
        let link = Arc::new(link::Link::new(
            settings,
            ingress,
            directory,
            Arc::clone(&stats),
            told_to_stop,
            told_to_send,
            told_to_say,
        ));
        let policy = Policy {
            backoff_ms_max: BACKOFF_MS_MAX,
            restarts_max: u32::MAX,
            stall_after: Duration::from_secs(60),
            ..Policy::default()
        };
        let arbiter = Arbiter::new();
        let (tell, told) = oneshot::channel();
        let tell_stopped = Arc::new(tell_stopped);
        arbiter.spawn_fn(move || {
            let status = guard("broker-link", policy, rng, move |status| {
                let (link, tell_stopped) = (Arc::clone(&link), Arc::clone(&tell_stopped));
                async move {
                    let end = link.live(&status).await;
                    tell_stopped.send_replace(link.is_told_to_stop());
                    end
                }
            });
            let _ = tell.send(status);
        });
        let status = told
            .await
            .map_err(|_| anyhow::anyhow!("the broker link's thread ended at its start"))?;
        Ok((Self { stats, url, orders, says, stop, stopped, arbiter }, status))
    }

    /// The broker's address, without secrets.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Takes no more, lets acknowledgements on their way go, and disconnects. The session stays with the broker.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        if !self.stats.connected.load(Relaxed) {
            self.arbiter.stop();
            return;
        }
        let mut stopped = self.stopped.clone();
        let wait = stopped.wait_for(|stopped| *stopped);
        if tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), wait).await.is_err() {
            tracing::warn!(
                "the broker link was cut at the end of its time; what it had not acknowledged comes again"
            );
        }
        self.arbiter.stop();
    }
}

impl Way for Broker {
    fn send(&self, order: Order) -> bool {
        self.stats.connected.load(Relaxed) && self.orders.try_send(order).is_ok()
    }

    fn say(&self, topic: &str, payload: Vec<u8>, retain: bool) -> bool {
        let said = Said { topic: topic.to_owned(), payload, retain };
        self.stats.connected.load(Relaxed) && self.says.try_send(said).is_ok()
    }
}
