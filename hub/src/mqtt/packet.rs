//! Packets as the hub sees them, one set of types for MQTT 3.1.1 and 5.0.
//!
//! Texts and payloads are slices of the bytes read, so a packet is cheap while it is handled and must be copied
//! (`Message::owned`) before it is kept, or it would pin the whole read.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use bytestring::ByteString;

/// Protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1 and 3.1.1.
    V3,
    /// MQTT 5.0.
    V5,
}

/// Quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Qos {
    /// At most once.
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

/// Reason codes of MQTT 5 that the endpoint sends, by their number.
pub mod reason {
    /// Success, normal disconnection, granted QoS 0.
    pub const SUCCESS: u8 = 0x00;
    /// The client wants its will published.
    pub const DISCONNECT_WITH_WILL: u8 = 0x04;
    /// PUBACK, PUBREC: taken, and nobody wants it.
    pub const NO_SUBSCRIBERS: u8 = 0x10;
    /// UNSUBACK: there was no such subscription.
    pub const NO_SUBSCRIPTION: u8 = 0x11;
    /// Unspecified error.
    pub const UNSPECIFIED: u8 = 0x80;
    /// Malformed packet.
    pub const MALFORMED: u8 = 0x81;
    /// Protocol error.
    pub const PROTOCOL_ERROR: u8 = 0x82;
    /// The receiver does not accept it (decided by the hub).
    pub const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
    /// Unsupported protocol version.
    pub const PROTOCOL_VERSION: u8 = 0x84;
    /// Client identifier not valid.
    pub const CLIENT_ID: u8 = 0x85;
    /// Bad user name or password.
    pub const CREDENTIALS: u8 = 0x86;
    /// Not authorised.
    pub const NOT_AUTHORISED: u8 = 0x87;
    /// Server unavailable.
    pub const UNAVAILABLE: u8 = 0x88;
    /// Banned.
    pub const BANNED: u8 = 0x8A;
    /// Server shutting down.
    pub const SHUTTING_DOWN: u8 = 0x8B;
    /// Bad authentication method.
    pub const AUTHENTICATION_METHOD: u8 = 0x8C;
    /// Keep-alive timeout.
    pub const KEEP_ALIVE: u8 = 0x8D;
    /// Session taken over.
    pub const TAKEN_OVER: u8 = 0x8E;
    /// Topic filter invalid.
    pub const TOPIC_FILTER: u8 = 0x8F;
    /// Topic name invalid.
    pub const TOPIC_NAME: u8 = 0x90;
    /// Packet identifier not found.
    pub const PACKET_ID_NOT_FOUND: u8 = 0x92;
    /// Receive maximum exceeded.
    pub const RECEIVE_MAXIMUM: u8 = 0x93;
    /// Topic alias invalid.
    pub const TOPIC_ALIAS: u8 = 0x94;
    /// Packet too large.
    pub const PACKET_TOO_LARGE: u8 = 0x95;
    /// Quota exceeded.
    pub const QUOTA: u8 = 0x97;
    /// Administrative action.
    pub const ADMINISTRATIVE: u8 = 0x98;
    /// Payload format invalid.
    pub const PAYLOAD_FORMAT: u8 = 0x99;
    /// Connection rate exceeded.
    pub const CONNECTION_RATE: u8 = 0x9F;
}

/// Properties of a message that travel with it (MQTT 5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// Topic alias of this packet; never forwarded.
    pub topic_alias: Option<NonZeroU16>,
    /// The payload is UTF-8 text.
    pub utf8_payload: bool,
    /// Lifetime, seconds.
    pub expiry_seconds: Option<NonZeroU32>,
    /// Content type.
    pub content_type: Option<ByteString>,
    /// Response topic.
    pub response_topic: Option<ByteString>,
    /// Correlation data.
    pub correlation_data: Option<Bytes>,
    /// User properties, order kept.
    pub user: Vec<(ByteString, ByteString)>,
    /// Subscription identifiers in the packet; a client must not send any.
    pub subscription_ids: Vec<NonZeroU32>,
}

/// A will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic name.
    pub topic: ByteString,
    /// Payload.
    pub payload: Bytes,
    /// QoS to publish it with.
    pub qos: Qos,
    /// Publish it retained.
    pub retain: bool,
    /// Wait before it is published, seconds.
    pub delay_seconds: u32,
    /// Its properties.
    pub properties: Option<Box<Properties>>,
}

/// CONNECT.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Protocol it speaks.
    pub protocol: Protocol,
    /// Start without an old session.
    pub clean_start: bool,
    /// Keep-alive, seconds; 0 = none.
    pub keep_alive_seconds: u16,
    /// Session expiry after the connection ends, seconds; `u32::MAX` = never.
    pub session_expiry_seconds: u32,
    /// QoS 1 and 2 messages the client accepts at a time.
    pub receive_max: u16,
    /// Largest packet the client accepts, bytes.
    pub packet_bytes_max: Option<u32>,
    /// The client wants reason strings.
    pub problem_info: bool,
    /// It asked for extended authentication, which the hub does not offer.
    pub extended_authentication: bool,
    /// Client id, may be empty.
    pub client_id: ByteString,
    /// User name.
    pub username: Option<ByteString>,
    /// Password.
    pub password: Option<Bytes>,
    /// Will.
    pub will: Option<Will>,
}

/// PUBLISH.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Sent again.
    pub dup: bool,
    /// Retain flag.
    pub retain: bool,
    /// QoS.
    pub qos: Qos,
    /// Topic name; empty when an alias stands for it.
    pub topic: ByteString,
    /// Packet id, present iff QoS > 0.
    pub packet_id: Option<NonZeroU16>,
    /// Payload.
    pub payload: Bytes,
    /// Properties, if any is set.
    pub properties: Option<Box<Properties>>,
}

/// How retained messages answer a subscription (MQTT 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetainHandling {
    /// Always.
    Always,
    /// Only when the subscription is new.
    WhenNew,
    /// Never.
    Never,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Topic filter, `$share/…` included.
    pub filter: ByteString,
    /// Largest QoS wanted.
    pub qos: Qos,
    /// Not what this client published itself.
    pub no_local: bool,
    /// Keep the retain flag as published.
    pub retain_as_published: bool,
    /// Which retained messages to send at once.
    pub retain_handling: RetainHandling,
    /// Subscription identifier.
    pub id: Option<NonZeroU32>,
}

/// A packet from a client.
#[derive(Debug, Clone)]
pub enum Packet {
    /// CONNECT.
    Connect(Box<Connect>),
    /// PUBLISH.
    Publish(Publish),
    /// PUBACK.
    PubAck(NonZeroU16),
    /// PUBREC with its reason code.
    PubRec(NonZeroU16, u8),
    /// PUBREL.
    PubRel(NonZeroU16),
    /// PUBCOMP.
    PubComp(NonZeroU16),
    /// SUBSCRIBE.
    Subscribe(NonZeroU16, Vec<Subscription>),
    /// UNSUBSCRIBE.
    Unsubscribe(NonZeroU16, Vec<ByteString>),
    /// PINGREQ.
    PingReq,
    /// DISCONNECT with reason code and a new session expiry.
    Disconnect(u8, Option<u32>),
    /// A packet only a server sends, or AUTH without extended authentication.
    Forbidden,
}

/// Acknowledgements the hub sends; the value is the first byte of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Ack {
    /// PUBACK.
    PubAck = 0x40,
    /// PUBREC.
    PubRec = 0x50,
    /// PUBREL.
    PubRel = 0x62,
    /// PUBCOMP.
    PubComp = 0x70,
}

/// CONNACK of a granted connection.
#[derive(Debug, Clone)]
pub struct ConnAck {
    /// The client's old session goes on.
    pub session_present: bool,
    /// Client id the hub chose.
    pub assigned_client_id: Option<ByteString>,
    /// Keep-alive the hub imposes, seconds.
    pub keep_alive_seconds: Option<u16>,
    /// Session expiry, when it is not what the client asked for, seconds.
    pub session_expiry_seconds: Option<u32>,
    /// Receive Maximum.
    pub receive_max: u16,
    /// Maximum Packet Size, bytes.
    pub packet_bytes_max: u32,
    /// Topic Alias Maximum.
    pub topic_aliases_max: u16,
}
