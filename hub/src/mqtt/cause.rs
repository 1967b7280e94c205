//! Why a connection ends: what the client is told, what is counted, whether its will is published.

use super::{codec::Bad, ingress::Refused, packet::reason, stats::Counter};

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The client said DISCONNECT; `with_will` when it asked for its will.
    Goodbye {
        /// Publish the will.
        with_will: bool,
    },
    /// The socket closed or failed.
    Lost,
    /// Bytes that are no packet, or a packet that may not come here.
    Bad(Bad),
    /// CONNECT refused.
    Refused(Refusal),
    /// No complete CONNECT in time.
    ConnectTimeout,
    /// A topic the device may not use.
    TopicAcl,
    /// A topic the hub does not have, or no topic at all.
    TopicInvalid,
    /// Topic alias unknown or out of range.
    TopicAlias,
    /// Payload not as announced.
    Payload,
    /// Storage refuses.
    Quota,
    /// More in flight than allowed.
    ReceiveMaximum,
    /// Nothing heard for one and a half keep-alives.
    KeepAlive,
    /// It does not read.
    SlowReader,
    /// Its client id connected again.
    TakenOver {
        /// The session is gone.
        session_ends: bool,
    },
    /// Its credential no longer stands.
    Revoked,
    /// The hub stops.
    Drain,
    /// The hub cannot take readings.
    Unavailable,
}

/// Why a CONNECT is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// User name or password.
    Credentials,
    /// Client certificate.
    Certificate,
    /// Not enrolled.
    NotEnrolled,
    /// Disabled or revoked.
    Disabled,
    /// Client id not the device's.
    ClientId,
    /// Too many connects.
    Flapping,
    /// Cannot decide now, or stopping.
    Unavailable,
    /// Extended authentication.
    AuthenticationMethod,
    /// Will topic not the device's.
    WillTopicAcl,
    /// Will topic invalid.
    WillTopicInvalid,
}

impl From<Refused> for Cause {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotAuthorised => Self::TopicAcl,
            Refused::UnknownTopic => Self::TopicInvalid,
            Refused::Payload => Self::Payload,
            Refused::Quota => Self::Quota,
        }
    }
}

impl Refusal {
    fn told(self) -> (u8, &'static str) {
        match self {
            Refusal::Credentials => (reason::CREDENTIALS, "user name or password is wrong"),
            Refusal::Certificate => {
                (reason::NOT_AUTHORISED, "client certificate is not enrolled for this device")
            }
            Refusal::NotEnrolled => {
                (reason::NOT_AUTHORISED, "device is not enrolled: enrol it in the hub first")
            }
            Refusal::Disabled => (reason::BANNED, "device or credential is disabled"),
            Refusal::ClientId => {
                (reason::CLIENT_ID, "client id must be the device id or begin with it and a slash")
            }
            Refusal::Flapping => {
                (reason::CONNECTION_RATE, "device connects too often: wait a minute")
            }
            Refusal::Unavailable => (reason::UNAVAILABLE, "hub cannot accept devices now"),
            Refusal::AuthenticationMethod => {
                (reason::AUTHENTICATION_METHOD, "extended authentication is not offered")
            }
            Refusal::WillTopicAcl => (reason::NOT_AUTHORISED, "will topic is not this device's"),
            Refusal::WillTopicInvalid => {
                (reason::TOPIC_NAME, "will topic is not a topic of the hub")
            }
        }
    }

    fn counter(self) -> Counter {
        match self {
            Refusal::Credentials => Counter::RefusedCredentials,
            Refusal::Certificate => Counter::RefusedCertificate,
            Refusal::NotEnrolled => Counter::RefusedNotEnrolled,
            Refusal::Disabled => Counter::RefusedDisabled,
            Refusal::ClientId => Counter::RefusedClientId,
            Refusal::Flapping => Counter::RefusedFlapping,
            Refusal::Unavailable => Counter::RefusedUnavailable,
            Refusal::AuthenticationMethod => Counter::RefusedProtocolError,
            Refusal::WillTopicAcl => Counter::RefusedTopicAcl,
            Refusal::WillTopicInvalid => Counter::RefusedTopicInvalid,
        }
    }
}

impl Cause {
    /// Reason code and text for the client; `None` = just close.
    pub fn told(self) -> Option<(u8, &'static str)> {
        Some(match self {
            Cause::Goodbye { .. } | Cause::Lost | Cause::ConnectTimeout => return None,
            Cause::Bad(bad) => (
                bad.reason(),
                match bad {
                    Bad::Malformed => "malformed packet",
                    Bad::Protocol => "packet not allowed here",
                    Bad::TooLarge => "packet too large",
                    Bad::Version => "MQTT 3.1.1 and 5.0 are supported",
                    Bad::ClientId => "client id may be empty only with a clean session",
                },
            ),
            Cause::Refused(refusal) => refusal.told(),
            Cause::TopicAcl => (reason::NOT_AUTHORISED, "topic is not this device's"),
            Cause::TopicInvalid => (reason::TOPIC_NAME, "not a topic of the hub"),
            Cause::TopicAlias => (reason::TOPIC_ALIAS, "topic alias unknown or too large"),
            Cause::Payload => (reason::PAYLOAD_FORMAT, "payload is not UTF-8 as announced"),
            Cause::Quota => (reason::QUOTA, "storage of the hub is full"),
            Cause::ReceiveMaximum => (reason::RECEIVE_MAXIMUM, "more in flight than allowed"),
            Cause::KeepAlive => (reason::KEEP_ALIVE, "nothing heard for 1.5 keep-alives"),
            Cause::SlowReader => (reason::QUOTA, "client does not read"),
            Cause::TakenOver { .. } => (reason::TAKEN_OVER, "client id connected again"),
            Cause::Revoked => (reason::ADMINISTRATIVE, "credential revoked"),
            Cause::Drain | Cause::Unavailable => (reason::SHUTTING_DOWN, "hub is stopping"),
        })
    }

    /// What is counted, beside the end itself.
    pub fn counter(self) -> Option<Counter> {
        Some(match self {
            Cause::Goodbye { .. }
            | Cause::Lost
            | Cause::TakenOver { .. }
            | Cause::Revoked
            | Cause::Drain => return None,
            Cause::Bad(bad) => match bad {
                Bad::Malformed => Counter::RefusedMalformed,
                Bad::Protocol => Counter::RefusedProtocolError,
                Bad::TooLarge => Counter::RefusedPacketTooLarge,
                Bad::Version => Counter::RefusedProtocolVersion,
                Bad::ClientId => Counter::RefusedClientId,
            },
            Cause::Refused(refusal) => refusal.counter(),
            Cause::ConnectTimeout => Counter::RefusedConnectTimeout,
            Cause::TopicAcl => Counter::RefusedTopicAcl,
            Cause::TopicInvalid => Counter::RefusedTopicInvalid,
            Cause::TopicAlias => Counter::RefusedTopicAlias,
            Cause::Payload => Counter::RefusedPayload,
            Cause::Quota => Counter::RefusedQuota,
            Cause::ReceiveMaximum => Counter::RefusedReceiveMaximum,
            Cause::KeepAlive => Counter::RefusedKeepAlive,
            Cause::SlowReader => Counter::RefusedSlowReader,
            Cause::Unavailable => Counter::RefusedUnavailable,
        })
    }

    /// Whether the will is published.
    pub fn publishes_will(self) -> bool {
        match self {
            Cause::Goodbye { with_will } => with_will,
            Cause::Revoked | Cause::Drain | Cause::Unavailable => false,
            Cause::Lost
            | Cause::Bad(_)
            | Cause::Refused(_)
            | Cause::ConnectTimeout
            | Cause::TopicAcl
            | Cause::TopicInvalid
            | Cause::TopicAlias
            | Cause::Payload
            | Cause::Quota
            | Cause::ReceiveMaximum
            | Cause::KeepAlive
            | Cause::SlowReader
            | Cause::TakenOver { .. } => true,
        }
    }
}
