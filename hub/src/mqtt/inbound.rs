//! What a client publishes: checked, metered, handed on, and acknowledged in order when durable.
//!
//! Every publish takes one place in `pending`, whatever its QoS and fate, with the number of appends that must be
//! durable before it is answered. So acknowledgements leave in the order of the publishes, and one look at the ack
//! cell after a group commit releases all that are due. A refused publish waits for its turn like any other.

use std::{collections::VecDeque, num::NonZeroU16, sync::Arc, time::Duration};

use bytes::BytesMut;
use bytestring::ByteString;
use tokio::time::Instant;

use super::{
    Core,
    cause::Cause,
    codec::{Bad, Codec, owned_text},
    handshake::Open,
    ingress::{
        Accepted, AckCell, Inbound, PublishRefusal, Refused, Route, Settled, TopicAction,
        TopicRefusal,
    },
    limits::Limits,
    message::Message,
    outbox::{Seen, Ticket},
    packet::{Ack, Protocol, Publish, Qos, reason},
    stats::Counter,
    topic,
};

/// Why nothing more is read from a client for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until some of its appends are durable.
    Durable,
    /// Until this time has passed: the journal was full, or the device is too fast.
    Timer(Duration),
    /// Until it has read what it was sent.
    Output,
}

/// What was already paid of a publish that had to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paid {
    Nothing,
    Message,
    All,
}

/// A publish that had to wait.
#[derive(Debug)]
pub struct Stalled {
    publish: Publish,
    paid: Paid,
}

/// A publish not yet answered.
#[derive(Debug)]
pub struct Pending {
    after: u64,
    elsewhere: Option<Box<Ticket>>,
    bytes: u32,
    packet_id: Option<NonZeroU16>,
    ack: Ack,
    code: u8,
}

/// State of what comes from a client.
#[derive(Debug)]
pub struct Inflow {
    /// Completed by the journal.
    pub cell: Arc<AckCell>,
    /// Appends made on the cell.
    pub issued: u64,
    /// Publishes not yet answered, in order.
    pub pending: VecDeque<Pending>,
    /// Payload bytes of those.
    pub pending_bytes: usize,
    /// QoS 1 publishes not yet answered.
    pub qos1_open: usize,
    /// QoS 2 publishes not yet completed.
    pub qos2_open: usize,
    /// The publish that waits.
    pub stalled: Option<Box<Stalled>>,
    /// Topic aliases, from 1.
    pub aliases: Vec<Option<ByteString>>,
    /// Last topic, kept because devices repeat themselves.
    pub topic: String,
    /// Its route.
    pub route: Option<Route>,
}

/// The acknowledgement that ends the first step of a publish.
fn ack_of(qos: Qos) -> Ack {
    match qos {
        Qos::AtMostOnce | Qos::AtLeastOnce => Ack::PubAck,
        Qos::ExactlyOnce => Ack::PubRec,
    }
}

impl Open {
    /// A PUBLISH came.
    pub fn publish(
        &mut self,
        core: &Core,
        connection: u64,
        mut publish: Publish,
        now: Instant,
    ) -> Result<Option<Wait>, Cause> {
        core.stats.count(match publish.qos {
            Qos::AtMostOnce => Counter::PublishQos0,
            Qos::AtLeastOnce => Counter::PublishQos1,
            Qos::ExactlyOnce => Counter::PublishQos2,
        });
        if let Some(properties) = &publish.properties {
            let too_many = properties.user.len() > core.limits.user_properties_max;
            if !properties.subscription_ids.is_empty() || too_many {
                return Err(Cause::Bad(Bad::Protocol));
            }
            self.resolve_alias(core, &mut publish)?;
        }
        if publish.topic.is_empty() && self.protocol == Protocol::V5 {
            return Err(Cause::Bad(Bad::Protocol));
        }
        let limits = &core.limits;
        if !topic::is_name(&publish.topic, limits.topic_bytes_max, limits.topic_levels_max) {
            return Err(self.note(core, &publish.topic, Refused::UnknownTopic));
        }
        if let (Qos::ExactlyOnce, Some(packet_id)) = (publish.qos, publish.packet_id)
            && let Some(seen) = self.client.seen(packet_id)
        {
            core.stats.count(Counter::DuplicateQos2);
            self.inflow.push(
                &publish,
                reason::SUCCESS,
                match seen {
                    Seen::Durable => None,
                    Seen::Waits(ticket) => Some(Box::new(ticket)),
                },
            );
            return Ok(None);
        }
        if publish.qos > Qos::AtMostOnce {
            let open = match self.protocol {
                Protocol::V5 => self.inflow.qos1_open + self.inflow.qos2_open,
                // 3.1.1 knows no Receive Maximum: only what it never releases counts against it.
                Protocol::V3 => self.inflow.qos2_open,
            };
            if open >= usize::from(limits.receive_max) {
                return Err(Cause::ReceiveMaximum);
            }
        }
        self.offer(core, connection, Stalled { publish, paid: Paid::Nothing }, now)
    }

    /// Offers the publish that had to wait again.
    pub fn retry(
        &mut self,
        core: &Core,
        connection: u64,
        now: Instant,
    ) -> Result<Option<Wait>, Cause> {
        match self.inflow.stalled.take() {
            None => Ok(None),
            Some(stalled) => self.offer(core, connection, *stalled, now),
        }
    }

    fn resolve_alias(&mut self, core: &Core, publish: &mut Publish) -> Result<(), Cause> {
        let Some(alias) = publish.properties.as_mut().and_then(|p| p.topic_alias.take()) else {
            return Ok(());
        };
        if alias.get() > core.limits.topic_aliases_max {
            return Err(Cause::TopicAlias);
        }
        let at = usize::from(alias.get()) - 1;
        if publish.topic.is_empty() {
            let known = self.inflow.aliases.get(at).cloned().flatten();
            publish.topic = known.ok_or(Cause::TopicAlias)?;
        } else {
            if self.inflow.aliases.len() <= at {
                self.inflow.aliases.resize(at + 1, None);
            }
            if let Some(slot) = self.inflow.aliases.get_mut(at) {
                *slot = Some(owned_text(&publish.topic));
            }
        }
        Ok(())
    }

    fn stall(&mut self, stalled: Stalled, wait: Wait) -> Result<Option<Wait>, Cause> {
        self.inflow.stalled = Some(Box::new(stalled));
        Ok(Some(wait))
    }

    fn offer(
        &mut self,
        core: &Core,
        connection: u64,
        mut stalled: Stalled,
        now: Instant,
    ) -> Result<Option<Wait>, Cause> {
        let limits = &core.limits;
        if !self.inflow.has_room(limits) {
            core.stats.count(Counter::Backpressure);
            return self.stall(stalled, Wait::Durable);
        }
        if let Err(wait) = self.pay(&mut stalled, now) {
            core.stats.count(Counter::Throttled);
            return self.stall(stalled, Wait::Timer(wait));
        }
        let publish = &stalled.publish;
        if let Err(refusal) = self.authorise(core, &publish.topic) {
            let refused = match refusal {
                TopicRefusal::NotAuthorised => Refused::NotAuthorised,
                TopicRefusal::Unknown => Refused::UnknownTopic,
            };
            return self.refuse(core, publish, refused);
        }
        let utf8 = publish.properties.as_ref().is_some_and(|p| p.utf8_payload);
        if utf8 && std::str::from_utf8(&publish.payload).is_err() {
            return self.refuse(core, publish, Refused::Payload);
        }
        let inbound = Inbound {
            topic: &publish.topic,
            payload: &publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            properties: publish.properties.as_deref(),
            clean_start: self.clean_start,
            connection,
        };
        let Some(route) = &self.inflow.route else { return Err(Cause::TopicInvalid) };
        let code = match route {
            Route::Reading { .. } | Route::Node | Route::Unread => {
                match core.ingress.publish(&self.grant, route, &inbound, &self.inflow.cell) {
                    Ok(Accepted::Journaled) => {
                        core.stats.count(Counter::Journaled);
                        self.inflow.issued += 1;
                        reason::SUCCESS
                    }
                    Ok(Accepted::Settled(settled)) => {
                        core.stats.count(Counter::Settled);
                        match settled {
                            Settled::Success => reason::SUCCESS,
                            Settled::Unread => reason::NO_SUBSCRIBERS,
                            Settled::PayloadInvalid => reason::PAYLOAD_FORMAT,
                            Settled::Rejected => reason::IMPLEMENTATION_SPECIFIC,
                        }
                    }
                    Err(PublishRefusal::QueueFull) => {
                        core.stats.count(Counter::Backpressure);
                        let retry = Duration::from_millis(limits.journal_retry_ms);
                        return self.stall(stalled, Wait::Timer(retry));
                    }
                    Err(PublishRefusal::Quota) => {
                        return self.refuse(core, publish, Refused::Quota);
                    }
                    Err(PublishRefusal::NotAuthorised) => return Err(Cause::Revoked),
                    Err(PublishRefusal::Unavailable) => return Err(Cause::Unavailable),
                }
            }
            Route::DeviceLocal => {
                core.stats.count(Counter::Routed);
                core.registry.route(Message::owned(
                    &publish.topic,
                    &publish.payload,
                    publish.qos,
                    publish.retain,
                    publish.properties.as_deref(),
                    Some(Arc::clone(&self.client.id)),
                    now,
                ));
                reason::SUCCESS
            }
        };
        // A failed PUBREC ends a QoS 2 exchange in MQTT 5; 3.1.1 has no codes, so there it goes on.
        let fails = code >= 0x80 && self.protocol == Protocol::V5;
        if let (Qos::ExactlyOnce, Some(id), false) = (publish.qos, publish.packet_id, fails) {
            let ticket = Ticket { cell: Arc::clone(&self.inflow.cell), nth: self.inflow.issued };
            self.client.receive(connection, id, ticket);
            self.inflow.qos2_open += 1;
        }
        self.inflow.push(publish, code, None);
        Ok(None)
    }

    fn pay(&self, stalled: &mut Stalled, now: Instant) -> Result<(), Duration> {
        if stalled.paid == Paid::Nothing {
            self.rates.publishes.take(1, now)?;
            stalled.paid = Paid::Message;
        }
        if stalled.paid == Paid::Message {
            self.rates.bytes.take(stalled.publish.payload.len() as u64, now)?;
            stalled.paid = Paid::All;
        }
        Ok(())
    }

    fn authorise(&mut self, core: &Core, topic: &str) -> Result<(), TopicRefusal> {
        if self.inflow.route.is_some() && self.inflow.topic == topic {
            return Ok(());
        }
        self.inflow.route = None;
        let route = core.ingress.authorise(&self.grant, TopicAction::Publish, topic)?;
        self.inflow.topic.clear();
        if route.lasts() {
            self.inflow.topic.push_str(topic);
        }
        self.inflow.route = Some(route);
        Ok(())
    }

    /// MQTT 5 tells the reason in the acknowledgement; 3.1.1 can only disconnect.
    fn refuse(
        &mut self,
        core: &Core,
        publish: &Publish,
        refused: Refused,
    ) -> Result<Option<Wait>, Cause> {
        let cause = self.note(core, &publish.topic, refused);
        let (Protocol::V5, Some((code, _))) = (self.protocol, cause.told()) else {
            return Err(cause);
        };
        if let Some(counter) = cause.counter() {
            core.stats.count(counter);
        }
        self.inflow.push(publish, code, None);
        Ok(None)
    }

    /// Counts a refusal for the device, and logs it unless the log has heard enough of its kind.
    fn note(&self, core: &Core, topic: &str, refused: Refused) -> Cause {
        let cause = Cause::from(refused);
        core.ingress.refused(&self.grant, refused);
        if cause.counter().is_some_and(|counter| core.hush.admits(counter)) {
            let why = cause.told().map_or("", |(_, words)| words);
            tracing::info!(device = &*self.grant.device, topic, why, "PUBLISH refused");
        }
        cause
    }

    /// Writes every acknowledgement that is due.
    pub fn settle(&mut self, core: &Core, codec: &Codec, out: &mut BytesMut) {
        let inflow = &mut self.inflow;
        if inflow.pending.is_empty() {
            return;
        }
        let completed = inflow.cell.completed();
        let mut acknowledged = 0;
        while let Some(first) = inflow.pending.front() {
            let elsewhere = first.elsewhere.as_deref();
            if first.after > completed || elsewhere.is_some_and(|ticket| !ticket.is_durable()) {
                break;
            }
            let Some(done) = inflow.pending.pop_front() else { break };
            inflow.pending_bytes -= done.bytes as usize;
            if let Some(packet_id) = done.packet_id {
                if done.ack == Ack::PubAck {
                    inflow.qos1_open -= 1;
                }
                acknowledged += 1;
                codec.ack(done.ack, packet_id, done.code, out);
            }
        }
        core.stats.add(Counter::Acknowledged, acknowledged);
        if inflow.pending.is_empty() && inflow.pending.capacity() > 64 {
            inflow.pending = VecDeque::new();
        }
    }
}

impl Inflow {
    fn push(&mut self, publish: &Publish, code: u8, elsewhere: Option<Box<Ticket>>) {
        if publish.qos == Qos::AtLeastOnce {
            self.qos1_open += 1;
        }
        let bytes = u32::try_from(publish.payload.len()).unwrap_or(u32::MAX);
        self.pending_bytes += bytes as usize;
        self.pending.push_back(Pending {
            after: self.issued,
            elsewhere,
            bytes,
            packet_id: publish.packet_id,
            ack: ack_of(publish.qos),
            code,
        });
    }

    /// One more publish may wait for the journal.
    pub fn has_room(&self, limits: &Limits) -> bool {
        self.pending.len() < limits.pending_publishes_max
            && (self.pending_bytes < limits.pending_bytes_max || self.pending.is_empty())
    }

    /// The cell the first pending publish waits for, to be woken by it.
    pub fn waits_for(&self) -> Option<&AckCell> {
        let first = self.pending.front()?;
        Some(match first.elsewhere.as_deref() {
            Some(ticket) if !ticket.is_durable() => &ticket.cell,
            Some(_) | None => &self.cell,
        })
    }
}
