//! The link: one life is one connection to the broker.
//!
//! It subscribes to the hub's own tree and to every foreign topic that the profiles of enrolled devices read, and follows them
//! as devices are enrolled.
//!
//! Where a Sparkplug node is enrolled the connection has a will: that the host is gone. A will is given with CONNECT, so a connection
//! without one is left for one with it when the first node is enrolled.
//!
//! Messages are taken in their order, looked at, handed to the journal, and acknowledged in their order once durable: MQTT
//! wants acknowledgements in the order of the messages, so one that needs no journal waits for those before it. What is taken
//! and not acknowledged is bounded in bytes; how many they may be, MQTT bounds by its packet ids, and the client's request
//! channel holds as many acknowledgements, so handing one over never waits.

use std::{
    borrow::Cow,
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc, PoisonError,
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
use device_profiles::{
    limits::FRAME_BYTES_MAX,
    sparkplug::{Topic, state_topic},
};
use rumqttc::{AsyncClient, LastWill, Publish, QoS, SubscribeFilter};
use tokio::{
    sync::{Mutex, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{
    Said, Stats,
    poller::{Arrival, Poller},
    sent::{Sent, Unanswered},
    settings::Settings,
};
use crate::{
    directory::{Device, Directory},
    downlink::Order,
    foreign::Unread,
    ingress::{HubIngress, TOPIC_ROOT, reading_topic},
    mqtt::PublishRefusal,
    sparkplug,
};

/// Payload bytes taken and not yet durable; at the limit nothing more is taken.
const OPEN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Requests the client holds: an acknowledgement for every packet id there is, subscriptions and commands.
const REQUESTS_MAX: usize = 65_536 + 4_096;
/// Filters in one SUBSCRIBE.
const FILTERS_MAX: usize = 32;
/// Wait before a message is offered to the journal again, in milliseconds.
const RETRY_MS: u64 = 5;
/// Wait before it is offered again when the disk is full or no device is known yet, in milliseconds.
const RETRY_SLOW_MS: u64 = 500;
/// Period of the sign of life for the guardian, in milliseconds.
const BEAT_MS: u64 = 1_000;
/// Whoever was not listened to for longer than this gets new time to answer, in milliseconds.
const HELD_MS_MAX: u64 = 1_000;
/// How long the goodbye may take at a stop, in milliseconds.
const GOODBYE_MS_MAX: u64 = 500;

/// What outlives a connection.
pub(super) struct Link {
    settings: Settings,
    ingress: Arc<HubIngress>,
    directory: Arc<Directory>,
    stats: Arc<Stats>,
    stop: watch::Receiver<bool>,
    /// Commands to devices; what is left here when a connection ends goes by the next.
    orders: Mutex<mpsc::Receiver<Order>>,
    /// What is said once and not again.
    says: Mutex<mpsc::Receiver<Said>>,
    /// Foreign filters that the session has, as far as this hub knows.
    filters: std::sync::Mutex<Arc<[String]>>,
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
    sent: Unanswered,
    /// Foreign filters it has subscribed to.
    filters: Arc<[String]>,
    held_since: Option<Instant>,
    client: AsyncClient,
    durable: Arc<AckCell>,
    issued: u64,
    open: VecDeque<Open>,
    open_bytes: usize,
    held: Option<(Publish, Duration)>,
    /// When the Sparkplug host is said to have come, as its will says: milliseconds. `None` = it has no will.
    host_since_ms: Option<i64>,
}

impl Link {
    pub(super) fn new(
        settings: Settings,
        ingress: Arc<HubIngress>,
        directory: Arc<Directory>,
        stats: Arc<Stats>,
        stop: watch::Receiver<bool>,
        orders: mpsc::Receiver<Order>,
        says: mpsc::Receiver<Said>,
    ) -> Self {
        Self {
            settings,
            ingress,
            directory,
            stats,
            stop,
            orders: Mutex::new(orders),
            says: Mutex::new(says),
            filters: std::sync::Mutex::new(Arc::from([])),
            had_session: AtomicBool::new(false),
        }
    }

    pub(super) fn is_told_to_stop(&self) -> bool {
        *self.stop.borrow()
    }

    /// One life: a connection, and the one it is left for when it lacks a will.
    pub(super) async fn live(&self, status: &Status) -> End {
        while !self.is_told_to_stop() {
            let end = self.connect(status).await;
            self.stats.connected.store(false, Relaxed);
            self.stats.holding.store(false, Relaxed);
            self.stats.open.store(0, Relaxed);
            if let Err(why) = end {
                self.stats.failed(&why);
                return End::Failed(why);
            }
        }
        End::Done
    }

    /// One connection, until it fails or is left.
    async fn connect(&self, status: &Status) -> Result<(), String> {
        let mut options = self.settings.options().map_err(|error| error.to_string())?;
        // Looked at before it is asked who is enrolled, so that whoever comes between is seen as new.
        let wanted = self.directory.filters();
        let now_ms = self.ingress.now_ms();
        let host_since_ms = self.directory.speaks_sparkplug().then_some(now_ms);
        if let Some(since_ms) = host_since_ms {
            // Nodes that store until a host is there again must learn that it is gone.
            let gone = sparkplug::state(false, since_ms);
            let topic = state_topic(sparkplug::HOST);
            options.set_last_will(LastWill::new(topic, gone, QoS::AtLeastOnce, true));
        }
        let (client, events) = AsyncClient::new(options, REQUESTS_MAX);
        let connection = Connection {
            link: self,
            sent: Unanswered::default(),
            filters: Arc::from([]),
            held_since: None,
            client,
            durable: AckCell::new(),
            issued: 0,
            open: VecDeque::new(),
            open_bytes: 0,
            held: None,
            host_since_ms,
        };
        connection.run(Poller::start(events), wanted, status).await
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
        if let Some(topic) = Topic::parse(&message.topic) {
            if message.payload.len() > FRAME_BYTES_MAX {
                self.note(topic.edge, "the broker brought a Sparkplug payload that is too large");
                return count(&self.stats.too_large);
            }
            return match self.ingress.node(&topic, &message.payload, durable) {
                Ok(true) => Taken::Journaled,
                Ok(false) => count(&self.stats.unknown_device),
                Err(refusal) => Self::refused(refusal),
            };
        }
        let (device, stream) = match self.reader(&message.topic) {
            Ok(found) => found,
            Err(Unread::NotReady) => return Taken::Later(Duration::from_millis(RETRY_SLOW_MS)),
            Err(unread) => {
                if let Some(name) = unread.name() {
                    self.note(name, &format!("{unread}, and the broker lets it publish"));
                }
                return count(match unread {
                    Unread::NotEnrolled(_) => &self.stats.unknown_device,
                    Unread::Disabled(_) => &self.stats.disabled_device,
                    Unread::NoPattern
                    | Unread::NoName(_)
                    | Unread::OtherProfile { .. }
                    | Unread::Ambiguous(..)
                    | Unread::NotReady => &self.stats.unknown_topic,
                });
            }
        };
        if message.payload.len() > FRAME_BYTES_MAX {
            self.note(device.id.as_str(), "the broker brought a frame that is too large");
            return count(&self.stats.too_large);
        }
        // The codec's buffer is shared by many messages; the journal copies what it needs.
        let payload: &Bytes = &message.payload;
        let told = Completion::Cell(Arc::clone(durable));
        match self.ingress.take(&device, &stream, payload, false, told) {
            Ok(()) => Taken::Journaled,
            Err(refusal) => Self::refused(refusal),
        }
    }

    fn refused(refusal: PublishRefusal) -> Taken {
        match refusal {
            PublishRefusal::QueueFull => Taken::Later(Duration::from_millis(RETRY_MS)),
            PublishRefusal::Quota => Taken::Later(Duration::from_millis(RETRY_SLOW_MS)),
            PublishRefusal::Unavailable | PublishRefusal::NotAuthorised => Taken::Over,
        }
    }

    /// Whose reading a topic is: below the hub's own tree by its name, elsewhere by the profiles.
    fn reader<'t>(&self, topic: &'t str) -> Result<(Arc<Device>, Cow<'t, str>), Unread> {
        if let Some((name, stream)) = reading_topic(topic) {
            let found = self.directory.find(name);
            let device = found.map_err(|unknown| Unread::because(unknown, name))?;
            return Ok((device, stream.into()));
        }
        if topic.starts_with(TOPIC_ROOT) {
            return Err(Unread::NoPattern);
        }
        self.directory.reader(topic).map(|(device, stream)| (device, stream.into()))
    }

    fn note(&self, device: &str, reason: &str) {
        self.directory.note(device, "broker".into(), reason);
    }
}

impl Connection<'_> {
    async fn run(
        mut self,
        mut poller: Poller,
        mut wanted: watch::Receiver<Arc<[String]>>,
        status: &Status,
    ) -> Result<(), String> {
        let mut beat = interval(Duration::from_millis(BEAT_MS));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = self.link.stop.clone();
        let mut orders = self.link.orders.lock().await;
        let mut says = self.link.says.lock().await;
        loop {
            let takes = self.held.is_none() && self.open_bytes < OPEN_BYTES_MAX;
            self.listens(takes);
            let retry = self.held.as_ref().map(|(_, wait)| *wait);
            let stands = self.link.stats.connected.load(Relaxed);
            let due = self.sent.due().filter(|_| takes);
            tokio::select! {
                () = settles(&self.durable, self.open.front().map(|open| open.after)) => self.acknowledge(),
                arrival = poller.next(), if takes => self.arrive(arrival)?,
                () = sleep(retry.unwrap_or_default()), if retry.is_some() => self.retry()?,
                changed = wanted.changed(), if stands => if changed.is_ok() {
                    if self.host_since_ms.is_none() && self.link.directory.speaks_sparkplug() {
                        return self.goodbye(poller).await;
                    }
                    self.subscribe(&wanted.borrow_and_update().clone())?;
                },
                order = orders.recv(), if stands && self.sent.has_room() => if let Some(order) = order {
                    self.command(order)?;
                },
                said = says.recv(), if stands && self.sent.has_room() => if let Some(said) = said {
                    self.say(said)?;
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    return Err("the broker does not acknowledge what the hub sends".into());
                }
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

    /// While the link holds it does not hear answers either: that is not the broker's fault.
    fn listens(&mut self, takes: bool) {
        let now = Instant::now();
        if !takes {
            self.held_since.get_or_insert(now);
        } else if let Some(since) = self.held_since.take()
            && now - since > Duration::from_millis(HELD_MS_MAX)
        {
            self.sent.grant_time(now);
        }
    }

    /// Subscribes to the foreign filters that are new and gives up those that are no longer wanted.
    fn subscribe(&mut self, wanted: &Arc<[String]>) -> Result<(), String> {
        let failed = |error| format!("cannot subscribe: {error}");
        let fresh: Vec<&String> = wanted.iter().filter(|f| !self.filters.contains(f)).collect();
        for filters in fresh.chunks(FILTERS_MAX) {
            let packet =
                filters.iter().map(|f| SubscribeFilter::new((**f).clone(), QoS::AtLeastOnce));
            self.client.try_subscribe_many(packet).map_err(failed)?;
            self.sent.hand_over(Sent::Filters(filters.iter().map(|f| (**f).clone()).collect()));
        }
        for gone in self.filters.iter().filter(|f| !wanted.contains(f)) {
            self.client.try_unsubscribe(gone.as_str()).map_err(failed)?;
            self.sent.hand_over(Sent::GivenUp);
        }
        self.filters = Arc::clone(wanted);
        *self.link.filters.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(wanted);
        Ok(())
    }

    fn command(&mut self, order: Order) -> Result<(), String> {
        if order.until <= Instant::now() {
            return Ok(());
        }
        let topic = format!("{TOPIC_ROOT}{}/cmd/{}", order.device, order.name);
        self.client
            .try_publish(topic, QoS::AtLeastOnce, false, order.payload)
            .map_err(|error| format!("cannot publish a command: {error}"))?;
        self.link.stats.commands.fetch_add(1, Relaxed);
        self.sent.hand_over(Sent::Command(order.receipt));
        Ok(())
    }

    /// Says what a node hears once, or what is retained of the host. Without a will nothing is said of the host: nobody would take it
    /// back.
    fn say(&mut self, Said { topic, payload, retain }: Said) -> Result<(), String> {
        let qos = if retain { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        if retain && self.host_since_ms.is_none() {
            return Ok(());
        }
        self.client
            .try_publish(topic, qos, retain, payload)
            .map_err(|error| format!("cannot publish: {error}"))?;
        if retain {
            self.sent.hand_over(Sent::Retained);
        }
        Ok(())
    }

    fn answered(&mut self, packet_id: u16, refused: &[usize]) -> Result<(), String> {
        let (link, stats) = (self.link, &self.link.stats);
        let own = format!("{TOPIC_ROOT}+/+");
        match self.sent.answered(packet_id) {
            Some(Sent::Command(receipt)) => {
                stats.commands_acknowledged.fetch_add(1, Relaxed);
                receipt.taken();
            }
            Some(Sent::Filters(filters)) => {
                for filter in refused.iter().filter_map(|index| filters.get(*index)) {
                    if *filter == own {
                        return Err(format!(
                            "the broker refuses the subscription to {own}; its access list must let the hub read that"
                        ));
                    }
                    stats.filters_refused.fetch_add(1, Relaxed);
                    tracing::warn!(
                        filter,
                        "the broker refuses a subscription; devices that publish there are not heard until its access list lets the hub read it"
                    );
                }
                if filters.contains(&own) && !stats.connected.swap(true, Relaxed) {
                    link.ingress.sparkplug.way_is_new(self.host_since_ms);
                    tracing::info!(broker = link.settings.url(), "connected to the broker");
                }
            }
            Some(Sent::GivenUp | Sent::Retained) | None => {}
        }
        Ok(())
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
                let own = format!("{TOPIC_ROOT}+/+");
                self.client
                    .try_subscribe(own.clone(), QoS::AtLeastOnce)
                    .map_err(|error| format!("cannot subscribe: {error}"))?;
                self.sent.hand_over(Sent::Filters(vec![own]));
                let foreign = link.directory.filters().borrow().clone();
                // Of those it had on another connection, what is not wanted any more is given up.
                let had = link.filters.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let gone = had.iter().filter(|filter| !foreign.contains(filter)).cloned();
                self.filters = gone.collect::<Vec<_>>().into();
                self.subscribe(&foreign)?;
            }
            Arrival::Left(packet_id) => self.sent.left(packet_id, Instant::now()),
            Arrival::Answered { packet_id, refused } => self.answered(packet_id, &refused)?,
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

    /// Waits for the journal, hands over the last acknowledgements, that the host is gone, and DISCONNECT, and waits until the
    /// broker has them.
    async fn goodbye(mut self, mut poller: Poller) -> Result<(), String> {
        while let Some(last) = self.open.back().map(|open| open.after) {
            settles(&self.durable, Some(last)).await;
            self.acknowledge();
        }
        if self.host_since_ms.is_some() {
            // Who says goodbye takes the will along.
            let gone = sparkplug::state(false, self.link.ingress.now_ms());
            let topic = state_topic(sparkplug::HOST);
            let _ = self.client.try_publish(topic, QoS::AtLeastOnce, true, gone);
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
