//! The port between the endpoint and the rest of the hub: who is this, may it, and make it durable.
//!
//! The endpoint knows MQTT and nothing of stock; whoever implements `Ingress` knows devices, profiles and the journal
//! and nothing of packets. All calls come from a connection's arbiter, in the order of its packets, and must not block.

use std::{any::Any, fmt, net::SocketAddr, sync::Arc};

use bytes::Bytes;

pub use actors::journal::AckCell;

use crate::tls::Fingerprint;

pub use super::packet::{Properties, Protocol, Qos};

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The client certificate whose key it proved to have: chain and validity are checked, whose it is, is not.
    pub certificate: Option<Fingerprint>,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self { address, certificate: None }
    }
}

/// Who says hello.
#[derive(Clone, Copy)]
pub struct Hello<'a> {
    /// Client id, may be empty.
    pub client_id: &'a str,
    /// User name: the device id by convention.
    pub username: Option<&'a str>,
    /// Password: the credential's secret. Never log it.
    pub password: Option<&'a [u8]>,
    /// Where from, and with which certificate.
    pub peer: Peer,
    /// Protocol it speaks.
    pub protocol: Protocol,
}

impl fmt::Debug for Hello<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("peer", &self.peer)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// A device that proved who it is.
#[derive(Clone)]
pub struct Grant {
    /// Device id.
    pub device: Arc<str>,
    /// Generation of the credential or device record; `Registry::revoke` closes connections of older ones.
    pub generation: u64,
    /// Whatever the ingress wants to find again at each publish.
    pub context: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("device", &self.device)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Why a CONNECT is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthRefusal {
    /// User name or password missing or wrong.
    #[error("user name or password is wrong")]
    BadCredentials,
    /// The client certificate is no credential of the device.
    #[error("the client certificate is not enrolled for this device")]
    Certificate,
    /// No such device.
    #[error("the device is not enrolled")]
    NotEnrolled,
    /// The device or its credential is disabled.
    #[error("the device is disabled")]
    Disabled,
    /// The hub cannot decide now.
    #[error("the hub cannot check credentials now; try again")]
    Unavailable,
}

/// What a device wants with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicAction {
    /// Publish to the topic name.
    Publish,
    /// Subscribe to the topic filter (without its `$share/group/`).
    Subscribe,
}

/// Where a publish goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A reading of this stream: to the journal, not to subscribers.
    Reading {
        /// Stream name.
        stream: Arc<str>,
        /// Whose it is; `None` = the client's own.
        of: Option<Arc<str>>,
    },
    /// A message of the Sparkplug node that the client is: to the host, and from there to the journal.
    Node,
    /// A foreign client's topic that nothing here reads: acknowledged, counted and let go.
    Unread,
    /// A topic inside the device's own tree: to subscribers and retained messages, not to the journal.
    DeviceLocal,
}

impl Route {
    /// It holds for as long as the client is connected. Of other devices more may change meanwhile than the client is cut for.
    pub fn lasts(&self) -> bool {
        match self {
            Self::Reading { of, .. } => of.is_none(),
            Self::DeviceLocal | Self::Node => true,
            Self::Unread => false,
        }
    }
}

/// Why a topic is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicRefusal {
    /// Another device's topic, or a direction this device may not use.
    #[error("the device may not use this topic")]
    NotAuthorised,
    /// The hub has no such topic.
    #[error("the hub has no such topic")]
    Unknown,
}

/// A publish on its way in.
#[derive(Debug, Clone, Copy)]
pub struct Inbound<'a> {
    /// Topic name, alias resolved.
    pub topic: &'a str,
    /// Payload; cloning it keeps the whole read alive, copying does not.
    pub payload: &'a Bytes,
    /// QoS.
    pub qos: Qos,
    /// Retain flag; readings are never retained.
    pub retain: bool,
    /// Sent again by the client.
    pub dup: bool,
    /// Properties, if any (MQTT 5).
    pub properties: Option<&'a Properties>,
    /// The connection began without an old session.
    pub clean_start: bool,
    /// Number of the connection, unique in this run of the hub.
    pub connection: u64,
}

/// A publish the hub took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Handed to the journal: exactly one more completion of the ack cell will tell that it is durable.
    Journaled,
    /// Nothing to wait for.
    Settled(Settled),
}

/// What a settled publish is answered with (MQTT 5; in 3.1.1 a plain acknowledgement).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Done.
    Success,
    /// Nothing here reads it (0x10, no matching subscribers).
    Unread,
    /// Payload invalid, recorded as rejected (0x99).
    PayloadInvalid,
    /// Rejected and recorded for another reason (0x83).
    Rejected,
}

/// Why a publish is refused before the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishRefusal {
    /// The journal's queue is full: the endpoint stops reading and offers the same publish again.
    #[error("the journal's queue is full")]
    QueueFull,
    /// Disk watermark or quota: MQTT 5 gets 0x97, 3.1.1 is disconnected.
    #[error("the hub's storage refuses this class of reading")]
    Quota,
    /// The grant no longer stands.
    #[error("the device may no longer publish")]
    NotAuthorised,
    /// The hub is stopping or broken.
    #[error("the hub cannot take readings now")]
    Unavailable,
}

/// Why a publish of a known device never reached the journal. The device is told, where its protocol can; it is counted for
/// the device, because no account of the fold will ever have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The topic is another's, or not the device's to write.
    NotAuthorised,
    /// The hub has no such topic.
    UnknownTopic,
    /// The payload is not what it was announced to be.
    Payload,
    /// The disk is too full for it.
    Quota,
}

/// What the hub decides about a device; called on the connection's arbiter, so it must not block.
pub trait Ingress: Send + Sync + 'static {
    /// Credential check (cached in memory, constant time). The hub records "seen, not enrolled" itself.
    fn authenticate(&self, hello: &Hello<'_>) -> Result<Grant, AuthRefusal>;

    /// May this device publish or subscribe to the topic? Asked before the journal; an answer that lasts is cached per connection.
    fn authorise(
        &self,
        grant: &Grant,
        action: TopicAction,
        topic: &str,
    ) -> Result<Route, TopicRefusal>;

    /// Validates by decoding, then hands to the journal; `ack` is completed when durable, in the order of the calls.
    fn publish(
        &self,
        grant: &Grant,
        route: &Route,
        publish: &Inbound<'_>,
        ack: &Arc<AckCell>,
    ) -> Result<Accepted, PublishRefusal>;

    /// A publish was refused and the device was told: it is to be counted for the device.
    fn refused(&self, grant: &Grant, refused: Refused);
}
