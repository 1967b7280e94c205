//! The protocol of one connection, without its socket: bytes and hints in, bytes and calls of the ports out.
//!
//! No clock, no task, no I/O: the connection passes the time and the output buffer, so tests drive a session with
//! bytes made by hand. Whatever ends it goes through `finish`, once.
//!
//! Invariants: nothing is answered before CONNECT but with CONNACK or silence; a PUBACK or PUBREC is written only when
//! the publish's append is durable; no input makes it panic or grow beyond the limits.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::time::Instant;

use super::{
    Core,
    cause::Cause,
    codec::{Bad, Codec},
    handshake::{self, Caller, Open},
    inbound::Wait,
    ingress::{AckCell, Peer, TopicAction, TopicRefusal},
    limits::CONNECT_BYTES_MAX,
    outbox::{Control, Mailbox, Outgoing},
    packet::{Ack, Packet, Protocol, Publish, RetainHandling, Subscription, reason},
    registry::TooMany,
    stats::Counter,
    topic,
};

/// How far a session got with its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Everything complete is handled.
    NeedMore,
    /// It must wait before more is handled or read.
    Blocked(Wait),
    /// The session is over.
    Over(Cause),
}

enum Phase {
    Hello(Option<Box<dyn Mailbox>>),
    Open(Box<Open>),
    Over(Cause),
}

/// Protocol state of one connection.
pub struct Session {
    core: Arc<Core>,
    connection: u64,
    peer: Peer,
    codec: Codec,
    phase: Phase,
    heard_at: Instant,
    deaf: bool,
}

impl Session {
    /// A session that expects CONNECT. `mailbox` is the way to its connection.
    pub fn new(
        core: Arc<Core>,
        connection: u64,
        peer: Peer,
        mailbox: Box<dyn Mailbox>,
        now: Instant,
    ) -> Self {
        Self {
            core,
            connection,
            peer,
            codec: Codec::new(CONNECT_BYTES_MAX),
            phase: Phase::Hello(Some(mailbox)),
            heard_at: now,
            deaf: false,
        }
    }

    /// CONNECT was granted and the session is not over.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// The session waits for CONNECT.
    pub fn is_hello(&self) -> bool {
        matches!(self.phase, Phase::Hello(_))
    }

    /// Nothing waits for the journal.
    pub fn is_settled(&self) -> bool {
        match &self.phase {
            Phase::Open(open) => open.inflow.pending.is_empty(),
            Phase::Hello(_) | Phase::Over(_) => true,
        }
    }

    /// A session that was `Blocked(Wait::Durable)` may go on.
    pub fn has_room(&self) -> bool {
        match &self.phase {
            Phase::Open(open) => open.inflow.has_room(&self.core.limits),
            Phase::Hello(_) | Phase::Over(_) => true,
        }
    }

    /// The cell whose progress lets the next acknowledgement go; register a waker before `settle`.
    pub fn waits_for(&self) -> Option<&AckCell> {
        match &self.phase {
            Phase::Open(open) => open.inflow.waits_for(),
            Phase::Hello(_) | Phase::Over(_) => None,
        }
    }

    /// When it must have been heard again; `None` = never, or nothing is read from it now.
    pub fn silent_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Open(open) if !self.deaf => open.silence_max.map(|max| self.heard_at + max),
            Phase::Open(_) | Phase::Hello(_) | Phase::Over(_) => None,
        }
    }

    /// Handles the complete packets in `input`.
    pub fn receive(&mut self, input: &mut BytesMut, now: Instant, out: &mut BytesMut) -> Progress {
        if let Phase::Over(cause) = self.phase {
            return Progress::Over(cause);
        }
        let core = Arc::clone(&self.core);
        let result = self.work(&core, input, now, out);
        if self.deaf && !matches!(result, Ok(Some(_))) {
            // Silence while the hub did not listen is not the client's.
            self.heard_at = now;
        }
        self.deaf = matches!(result, Ok(Some(_)));
        self.settle(out);
        match result {
            Ok(None) => Progress::NeedMore,
            Ok(Some(wait)) => Progress::Blocked(wait),
            Err(cause) => Progress::Over(self.finish(cause, now, out)),
        }
    }

    fn work(
        &mut self,
        core: &Core,
        input: &mut BytesMut,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<Option<Wait>, Cause> {
        if let Phase::Open(open) = &mut self.phase
            && let Some(wait) = open.retry(core, self.connection, now)?
        {
            return Ok(Some(wait));
        }
        loop {
            if out.len() > core.limits.out_bytes_soft() {
                return Ok(Some(Wait::Output));
            }
            let Some(packet) = self.codec.decode(input).map_err(Cause::Bad)? else {
                return Ok(None);
            };
            core.stats.count(Counter::PacketsIn);
            self.heard_at = now;
            if let Some(wait) = self.handle(core, packet, now, out)? {
                return Ok(Some(wait));
            }
        }
    }

    fn handle(
        &mut self,
        core: &Core,
        packet: Packet,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<Option<Wait>, Cause> {
        let connection = self.connection;
        let open = match &mut self.phase {
            Phase::Over(cause) => return Err(*cause),
            Phase::Hello(mailbox) => {
                let (Packet::Connect(connect), Some(mailbox)) = (packet, mailbox.take()) else {
                    return Err(Cause::Bad(Bad::Protocol));
                };
                let caller = Caller { peer: self.peer, connection, mailbox };
                let codec = &mut self.codec;
                let open = handshake::open(core, codec, &connect, caller, now, out)?;
                self.phase = Phase::Open(open);
                return Ok(None);
            }
            Phase::Open(open) => open,
        };
        let client = &open.client;
        match packet {
            Packet::Publish(publish) => return open.publish(core, connection, publish, now),
            Packet::PubAck(id) => {
                client.pub_ack(connection, id);
            }
            Packet::PubComp(id) => {
                client.pub_comp(connection, id);
            }
            Packet::PubRec(id, code) => {
                let failed = code >= 0x80;
                let known = client.pub_rec(connection, id, failed);
                if !failed {
                    let code = if known { reason::SUCCESS } else { reason::PACKET_ID_NOT_FOUND };
                    self.codec.ack(Ack::PubRel, id, code, out);
                }
            }
            Packet::PubRel(id) => {
                let known = client.forget(connection, id);
                open.inflow.qos2_open -= usize::from(known);
                let code = if known { reason::SUCCESS } else { reason::PACKET_ID_NOT_FOUND };
                self.codec.ack(Ack::PubComp, id, code, out);
            }
            Packet::Subscribe(id, filters) => {
                let codes = subscribe(core, open, connection, &filters, now)?;
                self.codec.suback(id, &codes, out);
            }
            Packet::Unsubscribe(id, filters) => self.unsubscribe(core, id, &filters, out)?,
            Packet::PingReq => self.codec.pingresp(out),
            Packet::Disconnect(code, expiry) => {
                if let Some(seconds) = expiry {
                    if open.expiry_seconds == 0 && seconds > 0 {
                        return Err(Cause::Bad(Bad::Protocol));
                    }
                    open.expiry_seconds = seconds;
                }
                return Err(Cause::Goodbye { with_will: code == reason::DISCONNECT_WITH_WILL });
            }
            Packet::Connect(_) | Packet::Forbidden => return Err(Cause::Bad(Bad::Protocol)),
        }
        Ok(None)
    }

    fn unsubscribe(
        &mut self,
        core: &Core,
        id: NonZeroU16,
        filters: &[bytestring::ByteString],
        out: &mut BytesMut,
    ) -> Result<(), Cause> {
        let Phase::Open(open) = &self.phase else { return Ok(()) };
        if filters.len() > core.limits.filters_per_packet_max {
            return Err(Cause::Quota);
        }
        let codes: Vec<u8> = filters
            .iter()
            .map(|filter| match core.registry.unsubscribe(&open.client, filter) {
                true => reason::SUCCESS,
                false => reason::NO_SUBSCRIPTION,
            })
            .collect();
        self.codec.unsuback(id, &codes, out);
        Ok(())
    }

    /// Writes the acknowledgements whose appends are durable.
    pub fn settle(&mut self, out: &mut BytesMut) {
        if let Phase::Open(open) = &mut self.phase {
            open.settle(&self.core, &self.codec, out);
        }
    }

    /// Writes what the outbox holds, as far as the client's window and the output buffer allow.
    pub fn deliver(&mut self, now: Instant, out: &mut BytesMut) {
        let Phase::Open(open) = &mut self.phase else { return };
        let (core, codec) = (&self.core, &mut self.codec);
        let soft = core.limits.out_bytes_soft();
        let mut too_large = Vec::new();
        open.client.send(self.connection, open.in_flight_max, now, &core.stats, |what| {
            if out.len() > soft {
                return false;
            }
            match what {
                Outgoing::PubRel(id) => codec.ack(Ack::PubRel, id, reason::SUCCESS, out),
                Outgoing::Publish(delivery, packet_id, dup) => {
                    let message = &delivery.message;
                    let properties = match open.protocol {
                        Protocol::V5 => message.properties_at(now, &delivery.ids),
                        Protocol::V3 => None,
                    };
                    let publish = Publish {
                        dup,
                        retain: delivery.retain,
                        qos: delivery.qos,
                        topic: message.topic.clone(),
                        packet_id,
                        payload: message.payload.clone(),
                        properties,
                    };
                    if codec.publish(publish, out) {
                        core.stats.count(Counter::Delivered);
                    } else {
                        core.stats.count(Counter::OutboxTooLarge);
                        too_large.extend(packet_id);
                    }
                }
            }
            true
        });
        for id in too_large {
            open.client.give_up(self.connection, id);
        }
    }

    /// Ends the session: tells the client, publishes or keeps its will, gives the client back to the registry.
    pub fn finish(&mut self, cause: Cause, now: Instant, out: &mut BytesMut) -> Cause {
        let open = match std::mem::replace(&mut self.phase, Phase::Over(cause)) {
            Phase::Over(first) => {
                self.phase = Phase::Over(first);
                return first;
            }
            Phase::Hello(_) => None,
            Phase::Open(open) => Some(open),
        };
        let core = &self.core;
        if let Some(counter) = cause.counter() {
            core.stats.count(counter);
        }
        let Some(open) = open else {
            // Before CONNECT was understood there is nobody to tell but who speaks another version.
            let speaks = self.codec.protocol().is_some() || cause == Cause::Bad(Bad::Version);
            if let (Some((code, text)), true) = (cause.told(), speaks) {
                self.codec.connack_refused(code, text, out);
            }
            return cause;
        };
        if let Some((code, text)) = cause.told() {
            self.codec.disconnect(code, text, out);
        }
        tracing::debug!(client_id = %open.client.id, peer = %self.peer.address, ?cause, "connection ends");
        let client_id = Arc::clone(&open.client.id);
        let session_goes_on = if let Cause::TakenOver { session_ends } = cause {
            !session_ends
        } else {
            core.registry.detach(&open.client, self.connection, open.expiry_seconds, now);
            open.expiry_seconds > 0
        };
        let Some(testament) = open.testament.filter(|_| cause.publishes_will()) else {
            return cause;
        };
        let taken_over = matches!(cause, Cause::TakenOver { .. });
        if testament.delay_seconds == 0 || !session_goes_on {
            core.publish_will(testament.due);
        } else if !taken_over {
            let seconds = testament.delay_seconds.min(open.expiry_seconds);
            let due_at = now + Duration::from_secs(u64::from(seconds));
            core.registry.delay_will(&client_id, testament.due, due_at);
        }
        cause
    }

    /// The cause a control message ends the session with; `None` = it goes on.
    pub fn cause_of(control: Control) -> Option<Cause> {
        match control {
            Control::Deliver | Control::Drain => None,
            Control::TakenOver { session_ends } => Some(Cause::TakenOver { session_ends }),
            Control::Revoked => Some(Cause::Revoked),
        }
    }
}

fn subscribe(
    core: &Core,
    open: &Open,
    connection: u64,
    filters: &[Subscription],
    now: Instant,
) -> Result<Vec<u8>, Cause> {
    let limits = &core.limits;
    let too_many = filters.len() > limits.filters_per_packet_max;
    let mut codes = Vec::with_capacity(filters.len());
    for wanted in filters {
        let parsed = topic::filter(&wanted.filter, limits.topic_bytes_max, limits.topic_levels_max);
        let code = match parsed {
            _ if too_many => {
                core.stats.count(Counter::RefusedSubscriptionLimit);
                reason::QUOTA
            }
            None => {
                core.stats.count(Counter::RefusedTopicInvalid);
                reason::TOPIC_FILTER
            }
            Some(filter) if filter.group.is_some() && wanted.no_local => {
                return Err(Cause::Bad(Bad::Protocol));
            }
            Some(filter) => {
                match core.ingress.authorise(&open.grant, TopicAction::Subscribe, filter.filter) {
                    Err(TopicRefusal::NotAuthorised) => {
                        core.stats.count(Counter::RefusedTopicAcl);
                        reason::NOT_AUTHORISED
                    }
                    Err(TopicRefusal::Unknown) => {
                        core.stats.count(Counter::RefusedTopicInvalid);
                        reason::TOPIC_FILTER
                    }
                    Ok(_) => {
                        // 3.1.1 sends retained messages at every SUBSCRIBE.
                        let wanted = match open.protocol {
                            Protocol::V5 => wanted.clone(),
                            Protocol::V3 => Subscription {
                                retain_handling: RetainHandling::Always,
                                ..wanted.clone()
                            },
                        };
                        match core.registry.subscribe(
                            &open.client,
                            connection,
                            filter,
                            &wanted,
                            now,
                        ) {
                            Ok(()) => wanted.qos as u8,
                            Err(TooMany) => {
                                core.stats.count(Counter::RefusedSubscriptionLimit);
                                reason::QUOTA
                            }
                        }
                    }
                }
            }
        };
        codes.push(code);
    }
    Ok(codes)
}
