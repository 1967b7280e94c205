//! The clients the endpoint knows: connected or away, their subscriptions, retained messages, delayed wills.
//!
//! One lock, taken for CONNECT, SUBSCRIBE, messages between clients and commands; readings never take it. Nothing
//! here is durable: after a restart every client finds session present = 0, subscribes again, and gets its commands
//! again from the hub's own table.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytestring::ByteString;
use tokio::time::Instant;

use super::{
    ingress::{Grant, Route},
    limits::Limits,
    message::Message,
    meter::Meter,
    outbox::{Client, Control, Delivery, Mailbox},
    packet::{Properties, Qos, RetainHandling, Subscription},
    receipt::Receipt,
    retained::Retained,
    stats::{Counter, Stats},
    subscriptions::{Subscriber, Subscriptions},
    topic::{self, Filter},
};

/// Rates of one device, shared by its connections.
#[derive(Debug)]
pub struct Rates {
    /// Publishes.
    pub publishes: Meter,
    /// Published bytes.
    pub bytes: Meter,
    connects: Meter,
}

impl Rates {
    /// A fresh one would allow no more.
    fn is_idle(&self, now: Instant) -> bool {
        [&self.publishes, &self.bytes, &self.connects].iter().all(|meter| meter.is_idle(now))
    }
}

struct Device {
    clients: Vec<Arc<Client>>,
    rates: Arc<Rates>,
    generation_min: u64,
}

/// A will that waits for its delay, or is due.
#[derive(Debug)]
pub struct DueWill {
    /// Who left it.
    pub grant: Grant,
    /// Where it goes, as authorised at CONNECT.
    pub route: Route,
    /// What it says.
    pub message: Message,
}

struct DelayedWill {
    due_at: Instant,
    will: DueWill,
}

#[derive(Default)]
struct State {
    clients: HashMap<Arc<str>, Arc<Client>>,
    devices: HashMap<Arc<str>, Device>,
    subscriptions: Subscriptions,
    retained: Retained,
    wills: HashMap<Arc<str>, DelayedWill>,
    away: usize,
    draining: bool,
}

/// A connection that wants to own a client.
pub struct Attach<'a> {
    /// Client id.
    pub client_id: &'a str,
    /// Its device.
    pub grant: &'a Grant,
    /// Number of the connection.
    pub connection: u64,
    /// Forget an old session.
    pub clean_start: bool,
    /// Way to the connection.
    pub mailbox: Box<dyn Mailbox>,
}

/// The client is yours.
#[derive(Debug)]
pub struct Attached {
    /// The client.
    pub client: Arc<Client>,
    /// It has an old session.
    pub session_present: bool,
    /// Rates of its device.
    pub rates: Arc<Rates>,
    /// A will of the ended session that is due now.
    pub due: Option<DueWill>,
}

/// Why a client cannot be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachRefusal {
    /// The device connects too often.
    Flapping,
    /// The grant was revoked in the meantime.
    Revoked,
    /// The hub stops.
    Draining,
}

/// A list is at its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// Why the hub cannot publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Not a topic name within the limits.
    #[error("not a valid topic name: it must not be empty, hold wildcards, or exceed the limits")]
    Topic,
    /// Larger than a packet may be.
    #[error("the payload is larger than the largest packet")]
    TooLarge,
}

/// The registry of clients.
pub struct Registry {
    limits: Arc<Limits>,
    stats: Arc<Stats>,
    base: Instant,
    connections: AtomicU64,
    queued_bytes: Arc<AtomicUsize>,
    state: Mutex<State>,
}

impl Registry {
    /// Empty, with rates counted from `now`.
    pub fn new(limits: Arc<Limits>, stats: Arc<Stats>, now: Instant) -> Self {
        Self {
            limits,
            stats,
            base: now,
            connections: AtomicU64::new(0),
            queued_bytes: Arc::default(),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number no other connection of this run has; never 0.
    pub fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Relaxed) + 1
    }

    fn rates(&self) -> Arc<Rates> {
        let l = &self.limits;
        let second = Duration::from_secs(1);
        Arc::new(Rates {
            publishes: Meter::new(
                self.base,
                l.publishes_per_second_per_device_max,
                second,
                l.publishes_burst_per_device_max,
            ),
            bytes: Meter::new(
                self.base,
                l.publish_bytes_per_second_per_device_max,
                second,
                l.publish_bytes_burst_per_device_max,
            ),
            connects: Meter::new(
                self.base,
                l.connects_per_minute_per_device_max,
                Duration::from_secs(60),
                l.connects_burst_per_device_max,
            ),
        })
    }

    /// The rates of a device, whether or not it is connected: what it sends by another way counts as well.
    pub fn rates_of(&self, device: &str) -> Arc<Rates> {
        let mut state = self.lock();
        let device = state.devices.entry(device.into()).or_insert_with(|| Device {
            clients: Vec::new(),
            rates: self.rates(),
            generation_min: 0,
        });
        Arc::clone(&device.rates)
    }

    /// Makes a connection the owner of its client, taking it over from another connection.
    pub fn attach(&self, attach: Attach<'_>, now: Instant) -> Result<Attached, AttachRefusal> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.draining {
            return Err(AttachRefusal::Draining);
        }
        let device = state.devices.entry(Arc::clone(&attach.grant.device)).or_insert_with(|| {
            Device { clients: Vec::new(), rates: self.rates(), generation_min: 0 }
        });
        if attach.grant.generation < device.generation_min {
            return Err(AttachRefusal::Revoked);
        }
        if device.rates.connects.take(1, now).is_err() {
            return Err(AttachRefusal::Flapping);
        }
        let rates = Arc::clone(&device.rates);
        let others = || device.clients.iter().filter(|client| *client.id != *attach.client_id);
        if others().count() >= self.limits.clients_per_device_max {
            let Some(away) = others().find(|client| !client.is_connected()).cloned() else {
                return Err(AttachRefusal::Flapping);
            };
            self.stats.count(Counter::SessionsFull);
            state.away -= 1;
            remove(state, &away);
        }
        let old = state.clients.get(attach.client_id).cloned();
        let old = old.filter(|client| {
            let ended = attach.clean_start || client.is_expired(now);
            if ended {
                if client.is_connected() {
                    if client.expel(Control::TakenOver { session_ends: true }) {
                        self.stats.count(Counter::TakenOver);
                    }
                } else {
                    state.away -= 1;
                }
                remove(state, client);
            }
            !ended
        });
        let delayed = state.wills.remove(attach.client_id);
        let session_present = old.is_some();
        let due = delayed.filter(|_| !session_present).map(|delayed| delayed.will);
        let client = match old {
            Some(client) => {
                if !client.is_connected() {
                    state.away -= 1;
                }
                client
            }
            None => {
                let id: Arc<str> = attach.client_id.into();
                let client = Client::new(
                    Arc::clone(&id),
                    Arc::clone(&attach.grant.device),
                    Arc::clone(&self.queued_bytes),
                );
                state.clients.insert(id, Arc::clone(&client));
                if let Some(device) = state.devices.get_mut(&attach.grant.device) {
                    device.clients.push(Arc::clone(&client));
                }
                client
            }
        };
        let to_old = Control::TakenOver { session_ends: false };
        if client.own(attach.connection, attach.grant.generation, attach.mailbox, to_old) {
            self.stats.count(Counter::TakenOver);
        }
        Ok(Attached { client, session_present, rates, due })
    }

    /// The connection ended: keeps the session for `expiry_seconds`, or forgets the client. `true` = it was the owner.
    pub fn detach(
        &self,
        client: &Arc<Client>,
        connection: u64,
        expiry_seconds: u32,
        now: Instant,
    ) -> bool {
        let mut state = self.lock();
        let seconds = u64::from(expiry_seconds.min(self.limits.session_expiry_seconds_max));
        if !client.disown(connection, Some(now + Duration::from_secs(seconds))) {
            return false;
        }
        if seconds == 0 {
            remove(&mut state, client);
        } else if state.away >= self.limits.sessions_away_max {
            self.stats.count(Counter::SessionsFull);
            remove(&mut state, client);
        } else {
            state.away += 1;
        }
        true
    }

    /// Keeps a will until its delay is over, unless the client is back before.
    pub fn delay_will(&self, client_id: &Arc<str>, will: DueWill, due_at: Instant) {
        self.lock().wills.insert(Arc::clone(client_id), DelayedWill { due_at, will });
    }

    /// Forgets what has expired and answers the wills that are due. Called about once a second.
    pub fn sweep(&self, now: Instant) -> Vec<DueWill> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let expired: Vec<_> =
            state.clients.values().filter(|c| c.is_expired(now)).cloned().collect();
        let mut due = Vec::new();
        for client in expired {
            state.away -= 1;
            remove(state, &client);
            due.extend(state.wills.remove(&client.id).map(|delayed| delayed.will));
        }
        due.extend(state.wills.extract_if(|_, w| w.due_at <= now).map(|(_, w)| w.will));
        state.retained.sweep(now);
        state
            .devices
            .retain(|_, d| !d.clients.is_empty() || d.generation_min > 0 || !d.rates.is_idle(now));
        due
    }

    /// Subscribes; retained messages are queued at once. `Err` = too many subscriptions.
    pub fn subscribe(
        &self,
        client: &Arc<Client>,
        connection: u64,
        filter: Filter<'_>,
        subscription: &Subscription,
        now: Instant,
    ) -> Result<(), TooMany> {
        let mut state = self.lock();
        // A client that was taken over may be forgotten already: a subscription would keep it for ever.
        if !client.is_owned_by(connection) {
            return Ok(());
        }
        if !client.add_filter(&subscription.filter, self.limits.subscriptions_per_client_max) {
            return Err(TooMany);
        }
        let new = state.subscriptions.insert(
            filter,
            Subscriber {
                client: Arc::clone(client),
                qos: subscription.qos,
                no_local: subscription.no_local,
                retain_as_published: subscription.retain_as_published,
                id: subscription.id,
            },
        );
        let wanted = match subscription.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::WhenNew => new,
            RetainHandling::Never => false,
        };
        if filter.group.is_some() || !wanted {
            return Ok(());
        }
        let retained = state.retained.matching(filter.filter, now);
        drop(state);
        for message in retained {
            let qos = message.qos.min(subscription.qos);
            let ids = subscription.id.into_iter().collect();
            client.offer(Delivery { message, qos, retain: true, ids }, &self.limits, &self.stats);
        }
        Ok(())
    }

    /// Unsubscribes; `false` = there was no such subscription.
    pub fn unsubscribe(&self, client: &Arc<Client>, text: &str) -> bool {
        let limits = &self.limits;
        let Some(filter) = topic::filter(text, limits.topic_bytes_max, limits.topic_levels_max)
        else {
            return false;
        };
        let mut state = self.lock();
        state.subscriptions.remove(filter, client);
        client.remove_filter(text)
    }

    /// Routes a message to its subscribers and keeps it if it is to be retained. Answers how many queues took it.
    pub fn route(&self, message: Message) -> usize {
        let message = Arc::new(message);
        let mut guard = self.lock();
        let state = &mut *guard;
        let limits = &self.limits;
        if message.retain
            && !state.retained.store(
                &message,
                limits.retained_messages_max,
                limits.retained_bytes_max,
            )
        {
            self.stats.count(Counter::RetainedFull);
        }
        let (mut hits, shared) = state.subscriptions.matching(&message.topic);
        drop(guard);
        hits.sort_by_key(|s| Arc::as_ptr(&s.client) as usize);
        let mut taken = 0;
        let own = hits.chunk_by(|a, b| Arc::ptr_eq(&a.client, &b.client));
        for subscribers in own.chain(shared.chunks(1)) {
            taken += usize::from(self.offer(&message, subscribers));
        }
        taken
    }

    /// One delivery for all subscriptions of one client that match: the largest QoS, all identifiers.
    fn offer(&self, message: &Arc<Message>, subscribers: &[Subscriber]) -> bool {
        let is_own = |s: &&Subscriber| {
            !(s.no_local && message.publisher.as_ref().is_some_and(|p| *p == s.client.id))
        };
        let Some(first) = subscribers.iter().find(is_own) else { return false };
        // Whoever is away is not waited for: the command waits where it was written down.
        if message.receipt.is_some() && !first.client.is_connected() {
            return false;
        }
        let subscribers = || subscribers.iter().filter(is_own);
        let qos = subscribers().map(|s| s.qos).max().unwrap_or(Qos::AtMostOnce);
        let delivery = Delivery {
            message: Arc::clone(message),
            qos: qos.min(message.qos),
            retain: message.retain && subscribers().any(|s| s.retain_as_published),
            ids: subscribers().filter_map(|s| s.id).collect(),
        };
        first.client.offer(delivery, &self.limits, &self.stats)
    }

    /// Publishes from the hub. Answers how many clients' queues took it; 0 = nobody is subscribed (or all are full).
    pub fn publish(
        &self,
        topic: &str,
        payload: &[u8],
        qos: Qos,
        retain: bool,
    ) -> Result<usize, PublishError> {
        Ok(self.route(self.message(topic, payload, qos, retain)?))
    }

    fn message(
        &self,
        topic: &str,
        payload: &[u8],
        qos: Qos,
        retain: bool,
    ) -> Result<Message, PublishError> {
        let limits = &self.limits;
        if !topic::is_name(topic, limits.topic_bytes_max, limits.topic_levels_max) {
            return Err(PublishError::Topic);
        }
        if topic.len() + payload.len() + 16 > limits.packet_bytes_max as usize {
            return Err(PublishError::TooLarge);
        }
        let topic = ByteString::from(topic);
        let now = Instant::now();
        Ok(Message::owned(&topic, payload, qos, retain, None, None, now))
    }

    /// Sends a command to whoever is connected and hears the device's commands: QoS 1, topic
    /// `stockfold/v1/{device}/cmd/{name}`, gone after a time. Answers as `publish`.
    pub fn send_command(
        &self,
        device: &str,
        name: &str,
        payload: &[u8],
        until: Instant,
        receipt: Receipt,
    ) -> Result<usize, PublishError> {
        if device.is_empty() || name.is_empty() || device.contains('/') || name.contains('/') {
            return Err(PublishError::Topic);
        }
        let topic = format!("stockfold/v1/{device}/cmd/{name}");
        let mut message = self.message(&topic, payload, Qos::AtLeastOnce, false)?;
        let left = until.saturating_duration_since(Instant::now());
        let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
        let expiry_seconds = NonZeroU32::new(seconds).or(Some(NonZeroU32::MIN));
        message.properties = Some(Box::new(Properties { expiry_seconds, ..Properties::default() }));
        message.expires_at = Some(until);
        message.receipt = Some(receipt);
        Ok(self.route(message))
    }

    /// Closes the connections of a device whose grants are older than `generation` and forgets their sessions. Later
    /// CONNECTs with an older grant are refused too. Answers how many clients it hit.
    pub fn revoke(&self, device: &str, generation: u64) -> usize {
        let mut guard = self.lock();
        let state = &mut *guard;
        let entry = state.devices.entry(device.into()).or_insert_with(|| Device {
            clients: Vec::new(),
            rates: self.rates(),
            generation_min: 0,
        });
        entry.generation_min = entry.generation_min.max(generation);
        let old: Vec<_> =
            entry.clients.iter().filter(|c| c.generation() < generation).cloned().collect();
        for client in &old {
            if client.is_connected() {
                client.expel(Control::Revoked);
                self.stats.count(Counter::Revoked);
            } else {
                state.away -= 1;
            }
            state.wills.remove(&client.id);
            remove(state, client);
        }
        old.len()
    }

    /// No more CONNECTs; every connection is told to finish.
    pub fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        for client in state.clients.values() {
            client.tell(Control::Drain);
        }
    }

    /// Clients connected now.
    pub fn connected(&self) -> usize {
        let state = self.lock();
        state.clients.len() - state.away
    }

    /// Sessions kept for clients that are away.
    pub fn away(&self) -> usize {
        self.lock().away
    }

    /// Whether a client of the device is connected.
    pub fn is_connected(&self, device: &str) -> bool {
        let state = self.lock();
        state.devices.get(device).is_some_and(|d| d.clients.iter().any(|c| c.is_connected()))
    }

    /// Retained messages and their bytes.
    pub fn retained(&self) -> (usize, usize) {
        self.lock().retained.size()
    }

    /// Bytes queued for all clients.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Relaxed)
    }
}

/// Forgets a client and its subscriptions. The caller keeps `away` right.
fn remove(state: &mut State, client: &Arc<Client>) {
    for text in client.take_filters() {
        if let Some(filter) = topic::filter(&text, usize::MAX, usize::MAX) {
            state.subscriptions.remove(filter, client);
        }
    }
    if state.clients.get(&client.id).is_some_and(|c| Arc::ptr_eq(c, client)) {
        state.clients.remove(&client.id);
    }
    if let Some(device) = state.devices.get_mut(&client.device) {
        device.clients.retain(|c| !Arc::ptr_eq(c, client));
    }
}
