//! A client as the hub keeps it: who owns its session now, what is to be sent to it, what it sent twice.
//!
//! The session lives here and not in the connection, so a client that reconnects takes its queue over at once: the new
//! connection becomes the owner under the lock, and whatever the old one still asks is answered "not yours".
//! Senders push under the lock and post one hint to the owner's mailbox; more messages do not post more hints.
//! Lock order: registry before client.

use std::{
    collections::VecDeque,
    num::{NonZeroU16, NonZeroU32},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::time::Instant;

use super::{
    ingress::AckCell,
    limits::Limits,
    message::Message,
    packet::Qos,
    stats::{Counter, Stats},
};

/// What the rest of the endpoint tells a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Something is in the outbox.
    Deliver,
    /// Its client id connected again; `session_ends` when the new connection starts clean.
    TakenOver {
        /// The session is gone.
        session_ends: bool,
    },
    /// The device's credential no longer stands.
    Revoked,
    /// The hub stops.
    Drain,
}

/// The bounded way to a connection; `false` = full or gone.
pub trait Mailbox: Send {
    /// Posts without waiting.
    fn post(&self, control: Control) -> bool;
}

/// A message for one client.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// QoS to send it with.
    pub qos: Qos,
    /// Retain flag to send it with.
    pub retain: bool,
    /// Subscription identifiers that matched.
    pub ids: Vec<NonZeroU32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Ack,
    Rec,
    Comp,
}

#[derive(Debug)]
struct InFlight {
    packet_id: NonZeroU16,
    delivery: Delivery,
    awaits: Awaits,
    sent: bool,
    again: bool,
}

/// What `Client::send` hands out.
#[derive(Debug)]
pub enum Outgoing<'a> {
    /// Publish it; `None` for QoS 0; `bool` = sent again.
    Publish(&'a Delivery, Option<NonZeroU16>, bool),
    /// Release it.
    PubRel(NonZeroU16),
}

/// Answer to a QoS 2 publish whose packet id was seen before.
#[derive(Debug, Clone)]
pub enum Seen {
    /// Its append is durable, or it needed none.
    Durable,
    /// Its append is not yet durable.
    Waits(Ticket),
}

/// One append among those of a cell.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// The cell of the connection that made it.
    pub cell: Arc<AckCell>,
    /// It is the `nth` append of that cell, from 1; 0 = none.
    pub nth: u64,
}

impl Ticket {
    /// It is durable.
    pub fn is_durable(&self) -> bool {
        self.cell.completed() >= self.nth
    }
}

struct Outbox {
    mailbox: Option<Box<dyn Mailbox>>,
    told: bool,
    queue: VecDeque<Delivery>,
    bytes: usize,
    in_flight: VecDeque<InFlight>,
    sent: usize,
    last_packet_id: u16,
    received: Vec<(NonZeroU16, Ticket)>,
    filters: Vec<Box<str>>,
    generation: u64,
    expires_at: Option<Instant>,
}

/// A client with its session.
pub struct Client {
    /// Client id.
    pub id: Arc<str>,
    /// Device it belongs to.
    pub device: Arc<str>,
    owner: AtomicU64,
    total_bytes: Arc<AtomicUsize>,
    outbox: Mutex<Outbox>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.total_bytes.fetch_sub(bytes, Relaxed);
    }
}

impl Client {
    /// A client nobody owns yet. `total_bytes` counts what all clients have queued.
    pub fn new(id: Arc<str>, device: Arc<str>, total_bytes: Arc<AtomicUsize>) -> Arc<Self> {
        let outbox = Outbox {
            mailbox: None,
            told: false,
            queue: VecDeque::new(),
            bytes: 0,
            in_flight: VecDeque::new(),
            sent: 0,
            last_packet_id: 0,
            received: Vec::new(),
            filters: Vec::new(),
            generation: 0,
            expires_at: None,
        };
        Arc::new(Self {
            id,
            device,
            owner: AtomicU64::new(0),
            total_bytes,
            outbox: Mutex::new(outbox),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection owns it.
    pub fn is_connected(&self) -> bool {
        self.owner.load(Relaxed) != 0
    }

    /// `connection` owns it.
    pub fn is_owned_by(&self, connection: u64) -> bool {
        self.owner.load(Relaxed) == connection
    }

    /// Makes `connection` the owner and tells the old one. Everything in flight will be sent again.
    pub fn own(
        &self,
        connection: u64,
        generation: u64,
        mailbox: Box<dyn Mailbox>,
        to_old: Control,
    ) -> bool {
        let mut outbox = self.lock();
        let old = outbox.mailbox.replace(mailbox);
        self.owner.store(connection, Relaxed);
        outbox.generation = generation;
        outbox.expires_at = None;
        outbox.told = false;
        outbox.sent = 0;
        for entry in &mut outbox.in_flight {
            entry.again |= entry.sent;
            entry.sent = false;
        }
        old.is_some_and(|old| old.post(to_old))
    }

    /// Ends ownership; `false` = `connection` was not the owner.
    pub fn disown(&self, connection: u64, expires_at: Option<Instant>) -> bool {
        let mut outbox = self.lock();
        if !self.is_owned_by(connection) {
            return false;
        }
        self.owner.store(0, Relaxed);
        outbox.mailbox = None;
        outbox.expires_at = expires_at;
        let kept = outbox.queue.iter().filter(|d| d.qos > Qos::AtMostOnce).cloned().collect();
        let dropped: usize = outbox
            .queue
            .iter()
            .filter(|d| d.qos == Qos::AtMostOnce)
            .map(|d| d.message.bytes())
            .sum();
        outbox.queue = kept;
        self.release(&mut outbox, dropped);
        true
    }

    /// Ends ownership by whoever has it, telling that connection.
    pub fn expel(&self, control: Control) -> bool {
        let mut outbox = self.lock();
        self.owner.store(0, Relaxed);
        outbox.mailbox.take().is_some_and(|mailbox| mailbox.post(control))
    }

    /// Posts to the owner, if any.
    pub fn tell(&self, control: Control) -> bool {
        self.lock().mailbox.as_ref().is_some_and(|mailbox| mailbox.post(control))
    }

    /// Generation of the grant it connected with.
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// It is away and its session has expired.
    pub fn is_expired(&self, now: Instant) -> bool {
        !self.is_connected() && self.lock().expires_at.is_some_and(|at| at <= now)
    }

    fn release(&self, outbox: &mut Outbox, bytes: usize) {
        outbox.bytes -= bytes;
        self.total_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Queues a message, or counts why not. `true` = queued.
    pub fn offer(&self, delivery: Delivery, limits: &Limits, stats: &Stats) -> bool {
        let bytes = delivery.message.bytes();
        let mut outbox = self.lock();
        if delivery.qos == Qos::AtMostOnce && outbox.mailbox.is_none() {
            return false;
        }
        // A quarter is kept for the hub's own: devices that fill their queues must not keep commands from others.
        let total_max = match delivery.message.publisher {
            Some(_) => limits.outbox_total_bytes_max / 4 * 3,
            None => limits.outbox_total_bytes_max,
        };
        if outbox.queue.len() >= limits.outbox_messages_max
            || outbox.bytes + bytes > limits.outbox_bytes_max
            || self.total_bytes.load(Relaxed) + bytes > total_max
        {
            stats.count(Counter::OutboxFull);
            return false;
        }
        self.total_bytes.fetch_add(bytes, Relaxed);
        outbox.bytes += bytes;
        outbox.queue.push_back(delivery);
        if !outbox.told {
            outbox.told = outbox.mailbox.as_ref().is_some_and(|m| m.post(Control::Deliver));
        }
        true
    }

    /// Hands out what may be sent now, in order, until `send` says stop (`false` = not sent, keep it).
    pub fn send(
        &self,
        connection: u64,
        in_flight_max: usize,
        now: Instant,
        stats: &Stats,
        mut send: impl FnMut(Outgoing<'_>) -> bool,
    ) {
        let mut guard = self.lock();
        let outbox = &mut *guard;
        if !self.is_owned_by(connection) {
            return;
        }
        outbox.told = false;
        self.forget_expired(outbox, now, stats);
        if outbox.sent < outbox.in_flight.len() {
            for entry in outbox.in_flight.iter_mut().filter(|e| !e.sent) {
                if outbox.sent >= in_flight_max {
                    return;
                }
                let what = match entry.awaits {
                    Awaits::Comp => Outgoing::PubRel(entry.packet_id),
                    Awaits::Ack | Awaits::Rec => {
                        Outgoing::Publish(&entry.delivery, Some(entry.packet_id), entry.again)
                    }
                };
                if !send(what) {
                    return;
                }
                entry.sent = true;
                outbox.sent += 1;
            }
        }
        while let Some(next) = outbox.queue.front() {
            if next.message.is_expired(now) {
                stats.count(Counter::OutboxExpired);
            } else if next.qos == Qos::AtMostOnce {
                if !send(Outgoing::Publish(next, None, false)) {
                    return;
                }
                next.message.taken();
            } else {
                if outbox.in_flight.len() >= in_flight_max {
                    return;
                }
                let Some(packet_id) = free_packet_id(&outbox.in_flight, outbox.last_packet_id)
                else {
                    return;
                };
                if !send(Outgoing::Publish(next, Some(packet_id), false)) {
                    return;
                }
                outbox.last_packet_id = packet_id.get();
                let awaits = match next.qos {
                    Qos::ExactlyOnce => Awaits::Rec,
                    Qos::AtMostOnce | Qos::AtLeastOnce => Awaits::Ack,
                };
                if let Some(delivery) = outbox.queue.pop_front() {
                    let again = false;
                    outbox.in_flight.push_back(InFlight {
                        packet_id,
                        delivery,
                        awaits,
                        sent: true,
                        again,
                    });
                    outbox.sent += 1;
                }
                continue;
            }
            if let Some(done) = outbox.queue.pop_front() {
                self.release(outbox, done.message.bytes());
            }
        }
        if outbox.queue.is_empty() && outbox.queue.capacity() > 16 {
            outbox.queue.shrink_to_fit();
        }
    }

    /// A command of the hub that was not acknowledged on a connection before is not sent again when its time is over.
    fn forget_expired(&self, outbox: &mut Outbox, now: Instant, stats: &Stats) {
        let mut freed = 0;
        outbox.in_flight.retain(|entry| {
            let message = &entry.delivery.message;
            let over = !entry.sent
                && entry.awaits == Awaits::Ack
                && message.receipt.is_some()
                && message.is_expired(now);
            if over {
                stats.count(Counter::OutboxExpired);
                freed += message.bytes();
            }
            !over
        });
        self.release(outbox, freed);
    }

    /// What a client cannot take ends, and was not taken.
    pub fn give_up(&self, connection: u64, packet_id: NonZeroU16) -> bool {
        self.settle(connection, packet_id, Awaits::Ack).is_some()
            || self.settle(connection, packet_id, Awaits::Rec).is_some()
    }

    fn settle(
        &self,
        connection: u64,
        packet_id: NonZeroU16,
        awaits: Awaits,
    ) -> Option<Arc<Message>> {
        let mut guard = self.lock();
        let outbox = &mut *guard;
        if !self.is_owned_by(connection) {
            return None;
        }
        let at = outbox
            .in_flight
            .iter()
            .position(|e| e.packet_id == packet_id && e.awaits == awaits && e.sent);
        let entry = at.and_then(|at| outbox.in_flight.remove(at))?;
        outbox.sent -= 1;
        self.release(outbox, entry.delivery.message.bytes());
        Some(entry.delivery.message)
    }

    /// PUBACK came; `false` = for nothing in flight.
    pub fn pub_ack(&self, connection: u64, packet_id: NonZeroU16) -> bool {
        self.settle(connection, packet_id, Awaits::Ack).is_some_and(|message| {
            message.taken();
            true
        })
    }

    /// PUBREC came; `true` = answer with PUBREL.
    pub fn pub_rec(&self, connection: u64, packet_id: NonZeroU16, failed: bool) -> bool {
        if failed {
            return self.settle(connection, packet_id, Awaits::Rec).is_some();
        }
        let mut outbox = self.lock();
        if !self.is_owned_by(connection) {
            return false;
        }
        let found = outbox.in_flight.iter_mut().find(|e| {
            e.packet_id == packet_id && e.sent && matches!(e.awaits, Awaits::Rec | Awaits::Comp)
        });
        found.is_some_and(|entry| {
            entry.awaits = Awaits::Comp;
            true
        })
    }

    /// PUBCOMP came; `false` = for nothing in flight.
    pub fn pub_comp(&self, connection: u64, packet_id: NonZeroU16) -> bool {
        self.settle(connection, packet_id, Awaits::Comp).is_some_and(|message| {
            message.taken();
            true
        })
    }

    /// Whether a QoS 2 packet id was received and not yet released.
    pub fn seen(&self, packet_id: NonZeroU16) -> Option<Seen> {
        let outbox = self.lock();
        let (_, ticket) = outbox.received.iter().find(|(id, _)| *id == packet_id)?;
        Some(if ticket.is_durable() { Seen::Durable } else { Seen::Waits(ticket.clone()) })
    }

    /// Remembers a QoS 2 packet id until PUBREL.
    pub fn receive(&self, connection: u64, packet_id: NonZeroU16, ticket: Ticket) {
        let mut outbox = self.lock();
        if self.is_owned_by(connection) {
            outbox.received.push((packet_id, ticket));
        }
    }

    /// PUBREL came; `false` = the id is unknown.
    pub fn forget(&self, connection: u64, packet_id: NonZeroU16) -> bool {
        let mut outbox = self.lock();
        if !self.is_owned_by(connection) {
            return false;
        }
        let before = outbox.received.len();
        outbox.received.retain(|(id, _)| *id != packet_id);
        outbox.received.len() < before
    }

    /// QoS 2 packet ids not yet released.
    pub fn received(&self) -> usize {
        self.lock().received.len()
    }

    /// Notes a filter; `false` = it has `max` already.
    pub fn add_filter(&self, filter: &str, max: usize) -> bool {
        let mut outbox = self.lock();
        if outbox.filters.iter().any(|f| &**f == filter) {
            return true;
        }
        if outbox.filters.len() >= max {
            return false;
        }
        outbox.filters.reserve_exact(1);
        outbox.filters.push(filter.into());
        true
    }

    /// Forgets a filter; `false` = it had none such.
    pub fn remove_filter(&self, filter: &str) -> bool {
        let mut outbox = self.lock();
        let before = outbox.filters.len();
        outbox.filters.retain(|f| &**f != filter);
        outbox.filters.len() < before
    }

    /// All its filters, leaving none.
    pub fn take_filters(&self) -> Vec<Box<str>> {
        std::mem::take(&mut self.lock().filters)
    }
}

fn free_packet_id(in_flight: &VecDeque<InFlight>, last: u16) -> Option<NonZeroU16> {
    (1..=u16::MAX)
        .filter_map(|step| NonZeroU16::new(last.wrapping_add(step)))
        .find(|id| in_flight.iter().all(|e| e.packet_id != *id))
}
