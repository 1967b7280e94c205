//! CONNECT: from a packet to an open session, or to the reason why not.
//!
//! Client id rule: a device `d` may use the client id `d`, or `d/` and anything: several programs on one device. An
//! empty id is answered with `d/auto-{n}`, told to MQTT 5 clients in CONNACK.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::BytesMut;
use bytestring::ByteString;
use tokio::time::Instant;

use super::{
    Core,
    cause::{Cause, Refusal},
    codec::{Bad, Codec},
    inbound::Inflow,
    ingress::{AckCell, AuthRefusal, Grant, Hello, Peer, Route, TopicAction, TopicRefusal},
    message::Message,
    outbox::{Client, Mailbox},
    packet::{ConnAck, Connect, Protocol},
    registry::{Attach, AttachRefusal, DueWill, Rates},
    stats::Counter,
    topic,
};

/// A will as authorised at CONNECT.
#[derive(Debug)]
pub struct Testament {
    /// What to publish.
    pub due: DueWill,
    /// How long after the end.
    pub delay_seconds: u32,
}

/// An open session's connection.
pub struct Open {
    /// Its client.
    pub client: Arc<Client>,
    /// Its device.
    pub grant: Grant,
    /// Rates of the device.
    pub rates: Arc<Rates>,
    /// Protocol.
    pub protocol: Protocol,
    /// It began clean.
    pub clean_start: bool,
    /// Silence after which it is cut.
    pub silence_max: Option<Duration>,
    /// Session expiry, seconds.
    pub expiry_seconds: u32,
    /// Messages in flight to the client.
    pub in_flight_max: usize,
    /// Will.
    pub testament: Option<Testament>,
    /// What comes from the client.
    pub inflow: Inflow,
}

/// The connection a CONNECT came by.
pub struct Caller {
    /// The other end.
    pub peer: Peer,
    /// Its number.
    pub connection: u64,
    /// The way to it.
    pub mailbox: Box<dyn Mailbox>,
}

/// Checks a CONNECT and opens the session; CONNACK is written only on success.
pub fn open(
    core: &Core,
    codec: &mut Codec,
    connect: &Connect,
    caller: Caller,
    now: Instant,
    out: &mut BytesMut,
) -> Result<Box<Open>, Cause> {
    let peer = caller.peer.address;
    admit(core, codec, connect, caller, now, out).inspect_err(|cause| {
        if cause.counter().is_some_and(|counter| core.hush.admits(counter)) {
            let client_id = &*connect.client_id;
            let user = connect.username.as_deref();
            let why = cause.told().map_or("", |(_, words)| words);
            tracing::info!(%peer, client_id, user, why, "CONNECT refused");
        }
    })
}

fn admit(
    core: &Core,
    codec: &mut Codec,
    connect: &Connect,
    caller: Caller,
    now: Instant,
    out: &mut BytesMut,
) -> Result<Box<Open>, Cause> {
    let Caller { peer, connection, mailbox } = caller;
    let limits = &core.limits;
    if connect.extended_authentication {
        return Err(Cause::Refused(Refusal::AuthenticationMethod));
    }
    if connect.client_id.len() > limits.client_id_bytes_max {
        return Err(Cause::Refused(Refusal::ClientId));
    }
    let hello = Hello {
        client_id: &connect.client_id,
        username: connect.username.as_deref(),
        password: connect.password.as_deref(),
        peer,
        protocol: connect.protocol,
    };
    let grant = core.ingress.authenticate(&hello).map_err(|refusal| {
        Cause::Refused(match refusal {
            AuthRefusal::BadCredentials => Refusal::Credentials,
            AuthRefusal::Certificate => Refusal::Certificate,
            AuthRefusal::NotEnrolled => Refusal::NotEnrolled,
            AuthRefusal::Disabled => Refusal::Disabled,
            AuthRefusal::Unavailable => Refusal::Unavailable,
        })
    })?;
    let assigned =
        connect.client_id.is_empty().then(|| format!("{}/auto-{connection}", grant.device));
    let client_id = assigned.as_deref().unwrap_or(&connect.client_id);
    let belongs = client_id.strip_prefix(&*grant.device);
    if !belongs.is_some_and(|rest| rest.is_empty() || (rest.starts_with('/') && rest.len() > 1)) {
        return Err(Cause::Refused(Refusal::ClientId));
    }
    let testament = testament(core, &grant, connect, client_id, now)?;
    let attach =
        Attach { client_id, grant: &grant, connection, clean_start: connect.clean_start, mailbox };
    let attached = core.registry.attach(attach, now).map_err(|refusal| {
        Cause::Refused(match refusal {
            AttachRefusal::Flapping => Refusal::Flapping,
            AttachRefusal::Revoked => Refusal::Disabled,
            AttachRefusal::Draining => Refusal::Unavailable,
        })
    })?;
    if let Some(will) = attached.due {
        core.publish_will(will);
    }

    let cap = limits.keep_alive_seconds_max;
    let asked = connect.keep_alive_seconds;
    let imposed = connect.protocol == Protocol::V5 && (asked == 0 || asked > cap);
    let keep_alive = if imposed { cap } else { asked };
    let expiry_seconds = connect.session_expiry_seconds.min(limits.session_expiry_seconds_max);
    codec.set_packet_bytes_max(
        limits.packet_bytes_max,
        connect.packet_bytes_max.unwrap_or(u32::MAX),
    );
    let ack = ConnAck {
        session_present: attached.session_present,
        assigned_client_id: assigned.map(ByteString::from),
        keep_alive_seconds: imposed.then_some(cap),
        session_expiry_seconds: (expiry_seconds != connect.session_expiry_seconds)
            .then_some(expiry_seconds),
        receive_max: limits.receive_max,
        packet_bytes_max: limits.packet_bytes_max,
        topic_aliases_max: limits.topic_aliases_max,
    };
    codec.connack(&ack, out);
    core.stats.count(Counter::Connected);
    let received = attached.client.received();
    Ok(Box::new(Open {
        client: attached.client,
        grant,
        rates: attached.rates,
        protocol: connect.protocol,
        clean_start: !attached.session_present,
        silence_max: (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 1500)),
        expiry_seconds,
        in_flight_max: usize::from(connect.receive_max.min(limits.outbound_in_flight_max)),
        testament,
        inflow: Inflow {
            cell: AckCell::new(),
            issued: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
            qos1_open: 0,
            qos2_open: received,
            stalled: None,
            aliases: Vec::new(),
            topic: String::new(),
            route: None,
        },
    }))
}

fn testament(
    core: &Core,
    grant: &Grant,
    connect: &Connect,
    client_id: &str,
    now: Instant,
) -> Result<Option<Testament>, Cause> {
    let Some(will) = &connect.will else { return Ok(None) };
    let limits = &core.limits;
    if !topic::is_name(&will.topic, limits.topic_bytes_max, limits.topic_levels_max) {
        return Err(Cause::Refused(Refusal::WillTopicInvalid));
    }
    if will.properties.as_ref().is_some_and(|p| p.user.len() > limits.user_properties_max) {
        return Err(Cause::Bad(Bad::Protocol));
    }
    let route: Route =
        core.ingress.authorise(grant, TopicAction::Publish, &will.topic).map_err(|refusal| {
            Cause::Refused(match refusal {
                TopicRefusal::NotAuthorised => Refusal::WillTopicAcl,
                TopicRefusal::Unknown => Refusal::WillTopicInvalid,
            })
        })?;
    let message = Message::owned(
        &will.topic,
        &will.payload,
        will.qos,
        will.retain,
        will.properties.as_deref(),
        Some(client_id.into()),
        now,
    );
    Ok(Some(Testament {
        due: DueWill { grant: grant.clone(), route, message },
        delay_seconds: will.delay_seconds.min(limits.will_delay_seconds_max),
    }))
}
