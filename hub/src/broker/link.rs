//! The link: one life is one connection to the broker.
//!
//! Messages are taken in their order, looked at, handed to the journal, and acknowledged in their order once durable: MQTT
//! wants acknowledgements in the order of the messages, so one that needs no journal waits for those before it. What is taken
//! and not acknowledged is bounded in bytes; how many they may be, MQTT bounds by its packet ids, and the client's request
//! channel holds as many acknowledgements, so handing one over never waits.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use actors::{
    guardian::{End, Status},
    journal::{AckCell, Completion},
};
use bytes::Bytes;
use device_profiles::limits::FRAME_BYTES_MAX;
use rumqttc::{AsyncClient, Publish, QoS};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Stats,
    poller::{Arrival, Poller},
    settings::Settings,
};
use crate::{
    directory::{Directory, Unknown},
    ingress::{HubIngress, TOPIC_ROOT, reading_topic},
    mqtt::PublishRefusal,
};

/// Payload bytes taken and not yet durable; at the limit nothing more is taken.
const OPEN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Requests the client holds: an acknowledgement for every packet id there is, and the subscription.
const REQUESTS_MAX: usize = 65_536 + 16;
/// Wait before a message is offered to the journal again, in milliseconds.
const RETRY_MS: u64 = 5;
/// Wait before it is offered again when the disk is full or no device is known yet, in milliseconds.
const RETRY_SLOW_MS: u64 = 500;
/// Period of the sign of life for the guardian, in milliseconds.
const BEAT_MS: u64 = 1_000;
/// How long the goodbye may take at a stop, in milliseconds.
const GOODBYE_MS_MAX: u64 = 500;

/// What outlives a connection.
pub(super) struct Link {
    settings: Settings,
    ingress: Arc<HubIngress>,
    directory: Arc<Directory>,
    stats: Arc<Stats>,
    stop: watch::Receiver<bool>,
    /// The broker has a session of ours since this hub started.
    had_session: AtomicBool,
}

/// A message that was taken: it is acknowledged when so many appends of this connection are durable.
struct Open {
    after: u64,
    packet_id: Option<u16>,
    bytes: usize,
}

/// What came of a message.
enum Taken {
    /// The journal has it next.
    Journaled,
    /// Nothing of it is kept.
    LetGo,
    /// It must wait so long.
    Later(Duration),
    /// The hub takes nothing any more.
    Over,
}

/// One connection.
struct Connection<'a> {
    link: &'a Link,
    client: AsyncClient,
    durable: Arc<AckCell>,
    issued: u64,
    open: VecDeque<Open>,
    open_bytes: usize,
    held: Option<(Publish, Duration)>,
}

impl Link {
    pub(super) fn new(
        settings: Settings,
        ingress: Arc<HubIngress>,
        directory: Arc<Directory>,
        stats: Arc<Stats>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { settings, ingress, directory, stats, stop, had_session: AtomicBool::new(false) }
    }

    pub(super) fn is_told_to_stop(&self) -> bool {
        *self.stop.borrow()
    }

    /// One life.
    pub(super) async fn live(&self, status: &Status) -> End {
        if self.is_told_to_stop() {
            return End::Done;
        }
        let options = match self.settings.options() {
            Ok(options) => options,
            Err(error) => return self.failed(error.to_string()),
        };
        let (client, events) = AsyncClient::new(options, REQUESTS_MAX);
        let connection = Connection {
            link: self,
            client,
            durable: AckCell::new(),
            issued: 0,
            open: VecDeque::new(),
            open_bytes: 0,
            held: None,
        };
        let end = connection.run(Poller::start(events), status).await;
        self.stats.connected.store(false, Relaxed);
        self.stats.holding.store(false, Relaxed);
        self.stats.open.store(0, Relaxed);
        match end {
            Ok(()) => End::Done,
            Err(why) => self.failed(why),
        }
    }

    fn failed(&self, why: String) -> End {
        self.stats.failed(&why);
        End::Failed(why)
    }

    /// Hands a message to the journal, or says why not.
    fn take(&self, message: &Publish, durable: &Arc<AckCell>) -> Taken {
        let count = |counter: &std::sync::atomic::AtomicU64| {
            counter.fetch_add(1, Relaxed);
            Taken::LetGo
        };
        if message.retain {
            return count(&self.stats.retained);
        }
        let Some((device, stream)) = reading_topic(&message.topic) else {
            return count(&self.stats.unknown_topic);
        };
        if message.payload.len() > FRAME_BYTES_MAX {
            self.note(device, "the broker brought a frame that is too large");
            return count(&self.stats.too_large);
        }
        let device = match self.directory.find(device) {
            Ok(device) => device,
            Err(Unknown::NotReady) => return Taken::Later(Duration::from_millis(RETRY_SLOW_MS)),
            Err(Unknown::Disabled) => {
                self.note(device, "the device is disabled, and the broker lets it publish");
                return count(&self.stats.disabled_device);
            }
            Err(Unknown::NotEnrolled | Unknown::BadSecret | Unknown::BadCertificate) => {
                self.note(device, "the device is not enrolled, and the broker lets it publish");
                return count(&self.stats.unknown_device);
            }
        };
        // The codec's buffer is shared by many messages; the journal copies what it needs.
        let payload: &Bytes = &message.payload;
        let told = Completion::Cell(Arc::clone(durable));
        match self.ingress.take(&device, stream, payload, false, told) {
            Ok(()) => Taken::Journaled,
            Err(PublishRefusal::QueueFull) => Taken::Later(Duration::from_millis(RETRY_MS)),
            Err(PublishRefusal::Quota) => Taken::Later(Duration::from_millis(RETRY_SLOW_MS)),
            Err(PublishRefusal::Unavailable | PublishRefusal::NotAuthorised) => Taken::Over,
        }
    }

    fn note(&self, device: &str, reason: &str) {
        self.directory.note(device, "broker".into(), reason);
    }
}

impl Connection<'_> {
    async fn run(mut self, mut poller: Poller, status: &Status) -> Result<(), String> {
        let mut beat = interval(Duration::from_millis(BEAT_MS));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = self.link.stop.clone();
        loop {
            let takes = self.held.is_none() && self.open_bytes < OPEN_BYTES_MAX;
            let retry = self.held.as_ref().map(|(_, wait)| *wait);
            tokio::select! {
                () = settles(&self.durable, self.open.front().map(|open| open.after)) => self.acknowledge(),
                arrival = poller.next(), if takes => self.arrive(arrival)?,
                () = sleep(retry.unwrap_or_default()), if retry.is_some() => self.retry()?,
                _ = beat.tick() => {}
                told = stop.wait_for(|stop| *stop) => {
                    drop(told);
                    return self.goodbye(poller).await;
                }
            }
            status.beat();
            let stats = &self.link.stats;
            stats.open.store(self.open.len() as u64, Relaxed);
        }
    }

    fn arrive(&mut self, arrival: Arrival) -> Result<(), String> {
        let (link, stats) = (self.link, &self.link.stats);
        match arrival {
            Arrival::Connected { session_present } => {
                if !session_present && link.had_session.swap(true, Relaxed) {
                    stats.sessions_lost.fetch_add(1, Relaxed);
                    tracing::warn!(
                        "the broker has forgotten the hub's session; what it had queued is gone and shows as gaps in the ledger"
                    );
                }
                link.had_session.store(true, Relaxed);
                stats.connects.fetch_add(1, Relaxed);
                // Each time: a session that the broker still knows may have lost its subscription all the same.
                let filter = format!("{TOPIC_ROOT}+/+");
                self.client
                    .try_subscribe(filter, QoS::AtLeastOnce)
                    .map_err(|error| format!("cannot subscribe: {error}"))?;
            }
            Arrival::Subscribed { granted: false } => {
                return Err(format!(
                    "the broker refuses the subscription to {TOPIC_ROOT}+/+; its access list must let the hub read that"
                ));
            }
            Arrival::Subscribed { granted: true } => {
                if !stats.connected.swap(true, Relaxed) {
                    tracing::info!(broker = link.settings.url(), "connected to the broker");
                }
            }
            Arrival::Message(message) => {
                stats.received.fetch_add(1, Relaxed);
                if message.dup {
                    stats.redelivered.fetch_add(1, Relaxed);
                }
                self.offer(message)?;
            }
            Arrival::Lost(why) => return Err(why),
        }
        Ok(())
    }

    fn offer(&mut self, message: Publish) -> Result<(), String> {
        let stats = &self.link.stats;
        match self.link.take(&message, &self.durable) {
            Taken::Journaled => {
                self.issued += 1;
                stats.journaled.fetch_add(1, Relaxed);
                self.opened(&message, message.payload.len());
            }
            Taken::LetGo => self.opened(&message, 0),
            Taken::Later(wait) => {
                if !stats.holding.swap(true, Relaxed) {
                    stats.held.fetch_add(1, Relaxed);
                }
                self.held = Some((message, wait));
                return Ok(());
            }
            Taken::Over => return Err("the hub takes no readings now".into()),
        }
        stats.holding.store(false, Relaxed);
        Ok(())
    }

    fn retry(&mut self) -> Result<(), String> {
        match self.held.take() {
            Some((message, _)) => self.offer(message),
            None => Ok(()),
        }
    }

    fn opened(&mut self, message: &Publish, bytes: usize) {
        let packet_id = (message.qos != QoS::AtMostOnce).then_some(message.pkid);
        self.open_bytes += bytes;
        self.open.push_back(Open { after: self.issued, packet_id, bytes });
        self.acknowledge();
    }

    /// Acknowledges, in their order, the messages whose turn it is.
    fn acknowledge(&mut self) {
        let durable = self.durable.completed();
        while let Some(open) = self.open.pop_front_if(|open| open.after <= durable) {
            self.open_bytes -= open.bytes;
            let Some(packet_id) = open.packet_id else { continue };
            let mut message = Publish::new("", QoS::AtLeastOnce, "");
            message.pkid = packet_id;
            // Fails only when the connection is over: then the message comes again.
            if self.client.try_ack(&message).is_ok() {
                self.link.stats.acknowledged.fetch_add(1, Relaxed);
            }
        }
    }

    /// Waits for the journal, hands over the last acknowledgements and DISCONNECT, and waits until the broker has them.
    async fn goodbye(mut self, mut poller: Poller) -> Result<(), String> {
        while let Some(last) = self.open.back().map(|open| open.after) {
            settles(&self.durable, Some(last)).await;
            self.acknowledge();
        }
        let _ = self.client.try_disconnect();
        let over = async { while !matches!(poller.next().await, Arrival::Lost(_)) {} };
        let _ = tokio::time::timeout(Duration::from_millis(GOODBYE_MS_MAX), over).await;
        Ok(())
    }
}

/// Resolves when so many appends are durable; never when nothing is waited for.
async fn settles(durable: &AckCell, after: Option<u64>) {
    poll_fn(|task| {
        // Registered before the count is looked at, so that no commit falls between.
        durable.register(task.waker());
        match after {
            Some(after) if durable.completed() >= after => Poll::Ready(()),
            Some(_) | None => Poll::Pending,
        }
    })
    .await;
}
