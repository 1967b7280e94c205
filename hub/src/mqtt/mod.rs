//! The embedded MQTT endpoint: 3.1.1 and 5.0 on one port, with TLS on another, for the devices of this hub.
//!
//! ```text
//! listener ─ accepts, limits, deals sockets to arbiters
//!    ├─ secure ─ TLS handshake, for sockets of the TLS port
//!    └─ connection (actor, one per socket) ─ reads, writes, one timer
//!          └─ session (no I/O) ─ handshake, inbound ── ingress (port: credentials, topics, journal)
//!                └─ registry ─ clients, subscriptions, retained messages, wills
//! ```
//! A reading goes session → ingress → journal, and its acknowledgement comes back by the connection's ack cell: one wake
//! for each group commit, all acknowledgements that are due in one write. Readings never reach the registry.
//!
//! Invariants of absence: nothing outside `codec` knows the codec crate; no unbounded queue; nothing durable here; no
//! PUBACK before the append is durable; a panic in one connection ends that connection only.

pub mod cause;
pub mod codec;
pub mod connection;
pub mod handshake;
pub mod hush;
pub mod inbound;
pub mod ingress;
pub mod limits;
pub mod listener;
pub mod message;
pub mod meter;
pub mod outbox;
pub mod packet;
pub mod receipt;
pub mod registry;
pub mod retained;
pub mod secure;
pub mod session;
pub mod stats;
pub mod subscriptions;
pub mod topic;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::time::Instant;

pub use ingress::{
    Accepted, AckCell, AuthRefusal, Grant, Hello, Inbound, Ingress, Peer, Protocol, PublishRefusal,
    Qos, Refused, Route, Settled, TopicAction, TopicRefusal,
};
pub use limits::Limits;
pub use listener::{Listener, Secured};
pub use receipt::Receipt;
pub use registry::{PublishError, Registry};
pub use stats::{Counter, Stats};

use hush::Hush;
use registry::DueWill;
use secure::Handshakes;

/// What all connections of an endpoint share.
pub struct Core {
    /// Limits.
    pub limits: Arc<Limits>,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Clients.
    pub registry: Registry,
    /// TLS handshakes.
    pub handshakes: Handshakes,
    /// The rest of the hub.
    pub ingress: Arc<dyn Ingress>,
    /// The log's patience with refusals.
    pub hush: Hush,
}

impl Core {
    /// An endpoint without connections; rates count from `now`.
    pub fn new(limits: Limits, ingress: Arc<dyn Ingress>, now: Instant) -> Arc<Self> {
        let (limits, stats) = (Arc::new(limits), Arc::new(Stats::default()));
        let registry = Registry::new(Arc::clone(&limits), Arc::clone(&stats), now);
        let (handshakes, hush) = (Handshakes::new(now), Hush::new(now));
        Arc::new(Self { limits, stats, registry, handshakes, ingress, hush })
    }

    /// Publishes a will the way its device would have published it.
    pub fn publish_will(&self, will: DueWill) {
        let DueWill { grant, route, message } = will;
        let taken = match &route {
            Route::DeviceLocal => {
                self.registry.route(message);
                true
            }
            Route::Reading { .. } | Route::Node | Route::Unread => {
                let inbound = Inbound {
                    topic: &message.topic,
                    payload: &message.payload,
                    qos: message.qos,
                    retain: message.retain,
                    dup: false,
                    properties: message.properties.as_deref(),
                    clean_start: false,
                    connection: 0,
                };
                let nobody = AckCell::new();
                let publish = || self.ingress.publish(&grant, &route, &inbound, &nobody);
                // A will is published by whoever noticed the end: the accept loop, another connection, or one that is
                // unwinding. None of them may fall with it.
                catch_unwind(AssertUnwindSafe(publish)).is_ok_and(|taken| taken.is_ok())
            }
        };
        self.stats.count(if taken { Counter::WillsPublished } else { Counter::WillsRefused });
    }

    /// Forgets what has expired, publishes the wills that are due, and tells what the log left out; called about once a second.
    pub fn sweep(&self, now: Instant) {
        if self.hush.is_over(now) {
            self.hush.tell();
        }
        for will in self.registry.sweep(now) {
            self.publish_will(will);
        }
    }
}
