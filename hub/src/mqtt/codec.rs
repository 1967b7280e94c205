//! Bytes to packets and back: the only place that knows `rmqtt-codec`.
//!
//! What the wrapped codec leaves open is settled here: it reserves the *declared* length of a packet, so a packet is
//! handed to it only when complete; it accepts packets of servers, so those become `Forbidden`; its size arithmetic
//! underflows for a client that accepts very small packets, so outgoing packets are measured after encoding; and texts
//! with U+0000 are malformed. Acknowledgements are written by hand, as short as the protocol allows.
//!
//! Invariant: no input makes it panic, and memory follows the bytes received, never the bytes announced.

use std::num::NonZeroU16;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use rmqtt_codec::{
    error::DecodeError,
    types::QoS,
    v3, v5,
    version::{ProtocolVersion, VersionCodec},
};
use tokio_util::codec::{Decoder, Encoder};

use super::packet::{
    Ack, ConnAck, Connect, Packet, Properties, Protocol, Publish, Qos, RetainHandling,
    Subscription, Will, reason,
};

/// Why bytes are not a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// Not an MQTT packet.
    #[error("malformed packet")]
    Malformed,
    /// A packet that may not be sent here.
    #[error("packet not allowed here")]
    Protocol,
    /// Larger than allowed.
    #[error("packet too large")]
    TooLarge,
    /// Protocol name or level.
    #[error("unsupported protocol version")]
    Version,
    /// Client id empty without a clean session.
    #[error("client identifier not valid")]
    ClientId,
}

impl Bad {
    /// The reason code for it.
    pub fn reason(self) -> u8 {
        match self {
            Bad::Malformed => reason::MALFORMED,
            Bad::Protocol => reason::PROTOCOL_ERROR,
            Bad::TooLarge => reason::PACKET_TOO_LARGE,
            Bad::Version => reason::PROTOCOL_VERSION,
            Bad::ClientId => reason::CLIENT_ID,
        }
    }
}

#[derive(Debug)]
enum Wire {
    Undecided,
    V3(v3::Codec),
    V5(v5::Codec),
}

/// Codec of one connection.
#[derive(Debug)]
pub struct Codec {
    wire: Wire,
    in_bytes_max: u32,
    out_bytes_max: u32,
}

const CONNECT: u8 = 0x10;

/// Length of the first packet in `buf` with its header, once the header is complete.
fn frame_bytes(buf: &[u8], max: u32) -> Result<Option<usize>, Bad> {
    let mut remaining = 0usize;
    for (i, &byte) in buf.iter().skip(1).take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            let total = remaining + i + 2;
            return if total > max as usize { Err(Bad::TooLarge) } else { Ok(Some(total)) };
        }
    }
    if buf.len() >= 5 { Err(Bad::Malformed) } else { Ok(None) }
}

impl Codec {
    /// Undecided between the protocols; accepts CONNECT up to `connect_bytes_max`.
    pub fn new(connect_bytes_max: u32) -> Self {
        Self { wire: Wire::Undecided, in_bytes_max: connect_bytes_max, out_bytes_max: u32::MAX }
    }

    /// The protocol, once a CONNECT has told it.
    pub fn protocol(&self) -> Option<Protocol> {
        match self.wire {
            Wire::Undecided => None,
            Wire::V3(_) => Some(Protocol::V3),
            Wire::V5(_) => Some(Protocol::V5),
        }
    }

    /// Sizes in bytes that hold from now on: what the hub accepts, what the client accepts.
    pub fn set_packet_bytes_max(&mut self, inbound: u32, outbound: u32) {
        self.in_bytes_max = inbound;
        self.out_bytes_max = outbound;
    }

    /// Takes one packet off the front of `buf`; `None` while it is incomplete.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Packet>, Bad> {
        if matches!(self.wire, Wire::Undecided) && buf.first().is_some_and(|&b| b != CONNECT) {
            return Err(Bad::Protocol);
        }
        let Some(total) = frame_bytes(buf, self.in_bytes_max)? else { return Ok(None) };
        if buf.len() < total {
            return Ok(None);
        }
        if matches!(self.wire, Wire::Undecided) {
            self.wire = match VersionCodec.decode(buf) {
                Ok(Some(ProtocolVersion::MQTT3)) => Wire::V3(v3::Codec::new(0)),
                Ok(Some(ProtocolVersion::MQTT5)) => Wire::V5(v5::Codec::new(0, 0)),
                Ok(None) => return Err(Bad::Malformed),
                Err(DecodeError::InvalidProtocol) => return Err(Bad::Version),
                Err(_) => return Err(Bad::Malformed),
            };
        }
        match &mut self.wire {
            Wire::Undecided => Err(Bad::Malformed),
            Wire::V3(codec) => match codec.decode(buf) {
                Ok(Some((packet, _))) => from_v3(packet).map(Some),
                Ok(None) => Err(Bad::Malformed),
                Err(error) => Err(bad(&error)),
            },
            Wire::V5(codec) => match codec.decode(buf) {
                Ok(Some((packet, _))) => from_v5(packet).map(Some),
                Ok(None) => Err(Bad::Malformed),
                Err(error) => Err(bad(&error)),
            },
        }
    }

    /// Writes CONNACK for a granted connection.
    pub fn connack(&mut self, ack: &ConnAck, out: &mut BytesMut) {
        match &mut self.wire {
            Wire::Undecided => {}
            Wire::V3(_) => out.put_slice(&[0x20, 2, u8::from(ack.session_present), 0]),
            Wire::V5(codec) => {
                let packet = v5::ConnectAck {
                    session_present: ack.session_present,
                    assigned_client_id: ack.assigned_client_id.clone(),
                    server_keepalive_sec: ack.keep_alive_seconds,
                    session_expiry_interval_secs: ack.session_expiry_seconds,
                    receive_max: NonZeroU16::new(ack.receive_max).unwrap_or(NonZeroU16::MIN),
                    max_packet_size: Some(ack.packet_bytes_max),
                    topic_alias_max: ack.topic_aliases_max,
                    ..v5::ConnectAck::default()
                };
                write_v5(codec, v5::Packet::ConnectAck(Box::new(packet)), out);
            }
        }
    }

    /// Writes CONNACK for a refused connection. A client of unknown protocol gets the 3.1.1 form.
    pub fn connack_refused(&mut self, code: u8, text: &'static str, out: &mut BytesMut) {
        match &mut self.wire {
            Wire::Undecided | Wire::V3(_) => {
                let v3_code = match code {
                    reason::PROTOCOL_VERSION => 1,
                    reason::CLIENT_ID => 2,
                    reason::CREDENTIALS => 4,
                    reason::NOT_AUTHORISED | reason::BANNED => 5,
                    _ => 3,
                };
                out.put_slice(&[0x20, 2, 0, v3_code]);
            }
            Wire::V5(codec) => {
                let reason_code = v5::ConnectAckReason::try_from(code)
                    .unwrap_or(v5::ConnectAckReason::UnspecifiedError);
                let packet = v5::ConnectAck {
                    reason_code,
                    reason_string: Some(ByteString::from_static(text)),
                    ..v5::ConnectAck::default()
                };
                write_v5(codec, v5::Packet::ConnectAck(Box::new(packet)), out);
            }
        }
    }

    /// Writes PUBACK, PUBREC, PUBREL or PUBCOMP. 3.1.1 has no reason codes; the caller disconnects where it must.
    pub fn ack(&self, ack: Ack, packet_id: NonZeroU16, code: u8, out: &mut BytesMut) {
        let [high, low] = packet_id.get().to_be_bytes();
        if code == reason::SUCCESS || matches!(self.wire, Wire::V3(_)) {
            out.put_slice(&[ack as u8, 2, high, low]);
        } else {
            out.put_slice(&[ack as u8, 3, high, low, code]);
        }
    }

    /// Writes PINGRESP.
    pub fn pingresp(&self, out: &mut BytesMut) {
        out.put_slice(&[0xD0, 0]);
    }

    /// Writes SUBACK; codes ≥ 0x80 are failures.
    pub fn suback(&self, packet_id: NonZeroU16, codes: &[u8], out: &mut BytesMut) {
        self.code_list(0x90, packet_id, codes, out);
    }

    /// Writes UNSUBACK.
    pub fn unsuback(&self, packet_id: NonZeroU16, codes: &[u8], out: &mut BytesMut) {
        self.code_list(0xB0, packet_id, codes, out);
    }

    fn code_list(&self, first: u8, packet_id: NonZeroU16, codes: &[u8], out: &mut BytesMut) {
        let v5 = matches!(self.wire, Wire::V5(_));
        let codes = if !v5 && first == 0xB0 { &[][..] } else { codes };
        out.put_u8(first);
        put_length(2 + usize::from(v5) + codes.len(), out);
        out.put_u16(packet_id.get());
        if v5 {
            out.put_u8(0);
            out.put_slice(codes);
        } else {
            out.extend(codes.iter().map(|&code| if code >= 0x80 { 0x80 } else { code }));
        }
    }

    /// Writes DISCONNECT (MQTT 5 only: a 3.1.1 server just closes).
    pub fn disconnect(&mut self, code: u8, text: &'static str, out: &mut BytesMut) {
        let limit = self.out_bytes_max as usize;
        let Wire::V5(codec) = &mut self.wire else { return };
        let start = out.len();
        let packet = v5::Disconnect {
            reason_code: v5::DisconnectReasonCode::try_from(code)
                .unwrap_or(v5::DisconnectReasonCode::UnspecifiedError),
            reason_string: (!text.is_empty()).then(|| ByteString::from_static(text)),
            ..v5::Disconnect::default()
        };
        write_v5(codec, v5::Packet::Disconnect(packet), out);
        if out.len() - start > limit {
            out.truncate(start);
            if limit >= 3 {
                out.put_slice(&[0xE0, 1, code]);
            }
        }
    }

    /// Writes PUBLISH; `false` = not written, it is larger than the client accepts.
    pub fn publish(&mut self, publish: Publish, out: &mut BytesMut) -> bool {
        let start = out.len();
        let properties = match self.wire {
            Wire::V5(_) => Some(publish.properties.map_or_else(Default::default, |p| to_v5(*p))),
            Wire::V3(_) | Wire::Undecided => None,
        };
        let inner = Box::new(rmqtt_codec::types::Publish {
            dup: publish.dup,
            retain: publish.retain,
            qos: qos_out(publish.qos),
            topic: publish.topic,
            packet_id: publish.packet_id,
            payload: publish.payload,
            properties,
        });
        let written = match &mut self.wire {
            Wire::Undecided => false,
            Wire::V3(codec) => codec.encode(v3::Packet::Publish(inner), out).is_ok(),
            Wire::V5(codec) => codec.encode(v5::Packet::Publish(inner), out).is_ok(),
        };
        if !written || out.len() - start > self.out_bytes_max as usize {
            out.truncate(start);
            return false;
        }
        true
    }
}

/// Our own packets always encode; one that does not is dropped whole rather than half written.
fn write_v5(codec: &mut v5::Codec, packet: v5::Packet, out: &mut BytesMut) {
    let start = out.len();
    if codec.encode(packet, out).is_err() {
        out.truncate(start);
    }
}

fn put_length(mut n: usize, out: &mut BytesMut) {
    loop {
        let byte = (n & 0x7F) as u8;
        n >>= 7;
        if n == 0 {
            out.put_u8(byte);
            return;
        }
        out.put_u8(byte | 0x80);
    }
}

fn bad(error: &DecodeError) -> Bad {
    match error {
        DecodeError::MaxSizeExceeded { .. } => Bad::TooLarge,
        DecodeError::InvalidClientId => Bad::ClientId,
        DecodeError::InvalidProtocol | DecodeError::UnsupportedProtocolLevel => Bad::Version,
        DecodeError::InvalidTopicFilter => Bad::Protocol,
        DecodeError::InvalidLength
        | DecodeError::MalformedPacket
        | DecodeError::ConnectReservedFlagSet
        | DecodeError::InvalidConnectFlags
        | DecodeError::ConnAckReservedFlagSet
        | DecodeError::UnsupportedPacketType
        | DecodeError::PacketIdRequired
        | DecodeError::InvalidTopicName
        | DecodeError::Utf8Error
        | DecodeError::Io(_) => Bad::Malformed,
    }
}

fn qos_in(qos: QoS) -> Qos {
    match qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => Qos::ExactlyOnce,
    }
}

fn qos_out(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

/// U+0000 may not stand in any MQTT text.
fn text(text: ByteString) -> Result<ByteString, Bad> {
    if text.as_bytes().contains(&0) { Err(Bad::Malformed) } else { Ok(text) }
}

fn publish_in(publish: rmqtt_codec::types::Publish) -> Result<Packet, Bad> {
    if publish.dup && publish.qos == QoS::AtMostOnce {
        return Err(Bad::Malformed);
    }
    Ok(Packet::Publish(Publish {
        dup: publish.dup,
        retain: publish.retain,
        qos: qos_in(publish.qos),
        topic: text(publish.topic)?,
        packet_id: publish.packet_id,
        payload: publish.payload,
        properties: publish.properties.map(from_properties).transpose()?.flatten(),
    }))
}

fn from_properties(p: v5::PublishProperties) -> Result<Option<Box<Properties>>, Bad> {
    if p == v5::PublishProperties::default() {
        return Ok(None);
    }
    Ok(Some(Box::new(Properties {
        topic_alias: p.topic_alias,
        utf8_payload: p.is_utf8_payload,
        expiry_seconds: p.message_expiry_interval,
        content_type: p.content_type.map(text).transpose()?,
        response_topic: p.response_topic.map(text).transpose()?,
        correlation_data: p.correlation_data,
        user: p.user_properties,
        subscription_ids: p.subscription_ids,
    })))
}

fn to_v5(p: Properties) -> v5::PublishProperties {
    v5::PublishProperties {
        topic_alias: None,
        correlation_data: p.correlation_data,
        message_expiry_interval: p.expiry_seconds,
        content_type: p.content_type,
        user_properties: p.user,
        is_utf8_payload: p.utf8_payload,
        response_topic: p.response_topic,
        subscription_ids: p.subscription_ids,
    }
}

fn from_v3(packet: v3::Packet) -> Result<Packet, Bad> {
    Ok(match packet {
        v3::Packet::Connect(c) => {
            if c.username.is_none() && c.password.is_some() {
                return Err(Bad::Malformed);
            }
            let will = c.last_will.map(|w| {
                Ok(Will {
                    topic: text(w.topic)?,
                    payload: w.message,
                    qos: qos_in(w.qos),
                    retain: w.retain,
                    delay_seconds: 0,
                    properties: None,
                })
            });
            Packet::Connect(Box::new(Connect {
                protocol: Protocol::V3,
                clean_start: c.clean_session,
                keep_alive_seconds: c.keep_alive,
                session_expiry_seconds: if c.clean_session { 0 } else { u32::MAX },
                receive_max: u16::MAX,
                packet_bytes_max: None,
                problem_info: false,
                extended_authentication: false,
                client_id: text(c.client_id)?,
                username: c.username.map(text).transpose()?,
                password: c.password,
                will: will.transpose()?,
            }))
        }
        v3::Packet::Publish(publish) => return publish_in(*publish),
        v3::Packet::PublishAck { packet_id } => Packet::PubAck(packet_id),
        v3::Packet::PublishReceived { packet_id } => Packet::PubRec(packet_id, reason::SUCCESS),
        v3::Packet::PublishRelease { packet_id } => Packet::PubRel(packet_id),
        v3::Packet::PublishComplete { packet_id } => Packet::PubComp(packet_id),
        v3::Packet::Subscribe { packet_id, topic_filters } => {
            let filters = topic_filters.into_iter().map(|(filter, qos)| {
                Ok(Subscription {
                    filter: text(filter)?,
                    qos: qos_in(qos),
                    no_local: false,
                    retain_as_published: false,
                    retain_handling: RetainHandling::Always,
                    id: None,
                })
            });
            Packet::Subscribe(packet_id, filters.collect::<Result<_, _>>()?)
        }
        v3::Packet::Unsubscribe { packet_id, topic_filters } => Packet::Unsubscribe(
            packet_id,
            topic_filters.into_iter().map(text).collect::<Result<_, _>>()?,
        ),
        v3::Packet::PingRequest => Packet::PingReq,
        v3::Packet::Disconnect => Packet::Disconnect(reason::SUCCESS, None),
        v3::Packet::ConnectAck(_)
        | v3::Packet::SubscribeAck { .. }
        | v3::Packet::UnsubscribeAck { .. }
        | v3::Packet::PingResponse => Packet::Forbidden,
    })
}

fn from_v5(packet: v5::Packet) -> Result<Packet, Bad> {
    Ok(match packet {
        v5::Packet::Connect(c) => {
            let will = c.last_will.map(|w| {
                let properties = v5::PublishProperties {
                    topic_alias: None,
                    correlation_data: w.correlation_data,
                    message_expiry_interval: w.message_expiry_interval,
                    content_type: w.content_type,
                    user_properties: w.user_properties,
                    is_utf8_payload: w.is_utf8_payload.unwrap_or(false),
                    response_topic: w.response_topic,
                    subscription_ids: Vec::new(),
                };
                Ok(Will {
                    topic: text(w.topic)?,
                    payload: w.message,
                    qos: qos_in(w.qos),
                    retain: w.retain,
                    delay_seconds: w.will_delay_interval_sec.unwrap_or(0),
                    properties: from_properties(properties)?,
                })
            });
            Packet::Connect(Box::new(Connect {
                protocol: Protocol::V5,
                clean_start: c.clean_start,
                keep_alive_seconds: c.keep_alive,
                session_expiry_seconds: c.session_expiry_interval_secs,
                receive_max: c.receive_max.map_or(u16::MAX, NonZeroU16::get),
                packet_bytes_max: c.max_packet_size.map(std::num::NonZeroU32::get),
                problem_info: c.request_problem_info,
                extended_authentication: c.auth_method.is_some() || c.auth_data.is_some(),
                client_id: text(c.client_id)?,
                username: c.username.map(text).transpose()?,
                password: c.password,
                will: will.transpose()?,
            }))
        }
        v5::Packet::Publish(publish) => return publish_in(*publish),
        v5::Packet::PublishAck(ack) => Packet::PubAck(ack.packet_id),
        v5::Packet::PublishReceived(ack) => Packet::PubRec(ack.packet_id, ack.reason_code.into()),
        v5::Packet::PublishRelease(ack) => Packet::PubRel(ack.packet_id),
        v5::Packet::PublishComplete(ack) => Packet::PubComp(ack.packet_id),
        v5::Packet::Subscribe(s) => {
            let id = s.id;
            let filters = s.topic_filters.into_iter().map(|(filter, options)| {
                Ok(Subscription {
                    filter: text(filter)?,
                    qos: qos_in(options.qos),
                    no_local: options.no_local,
                    retain_as_published: options.retain_as_published,
                    retain_handling: match options.retain_handling {
                        v5::RetainHandling::AtSubscribe => RetainHandling::Always,
                        v5::RetainHandling::AtSubscribeNew => RetainHandling::WhenNew,
                        v5::RetainHandling::NoAtSubscribe => RetainHandling::Never,
                    },
                    id,
                })
            });
            Packet::Subscribe(s.packet_id, filters.collect::<Result<_, _>>()?)
        }
        v5::Packet::Unsubscribe(u) => Packet::Unsubscribe(
            u.packet_id,
            u.topic_filters.into_iter().map(text).collect::<Result<_, _>>()?,
        ),
        v5::Packet::PingRequest => Packet::PingReq,
        v5::Packet::Disconnect(d) => {
            Packet::Disconnect(d.reason_code.into(), d.session_expiry_interval_secs)
        }
        v5::Packet::ConnectAck(_)
        | v5::Packet::SubscribeAck(_)
        | v5::Packet::UnsubscribeAck(_)
        | v5::Packet::PingResponse
        | v5::Packet::Auth(_) => Packet::Forbidden,
    })
}

/// A copy that does not keep the read it came from alive.
pub fn owned_text(text: &ByteString) -> ByteString {
    ByteString::from(text.to_string())
}

/// A copy that does not keep the read it came from alive.
pub fn owned_properties(p: &Properties) -> Properties {
    Properties {
        topic_alias: None,
        utf8_payload: p.utf8_payload,
        expiry_seconds: p.expiry_seconds,
        content_type: p.content_type.as_ref().map(owned_text),
        response_topic: p.response_topic.as_ref().map(owned_text),
        correlation_data: p.correlation_data.as_deref().map(Bytes::copy_from_slice),
        user: p.user.iter().map(|(k, v)| (owned_text(k), owned_text(v))).collect(),
        subscription_ids: Vec::new(),
    }
}
