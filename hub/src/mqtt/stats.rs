//! Counters of the endpoint, refusals by reason included, for `/metrics` and the ledger of what never reached the journal.
//!
//! Plain relaxed atomics: each is exact for itself, a snapshot is not a consistent cut across counters.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($( $(#[$doc:meta])* $variant:ident => $name:literal, )+) => {
        /// What is counted. The name is the metric's label and stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $( $(#[$doc])* $variant, )+ }

        impl Counter {
            /// Every counter, in the order of declaration.
            pub const ALL: &'static [Counter] = &[ $( Counter::$variant, )+ ];

            /// Its stable name.
            pub fn name(self) -> &'static str {
                match self { $( Counter::$variant => $name, )+ }
            }
        }
    };
}

counters! {
    /// Sockets accepted.
    Accepted => "accepted",
    /// CONNECTs that were granted.
    Connected => "connected",
    /// Connections that ended, for whatever cause.
    Closed => "closed",
    /// Connections that ended by a panic of ours.
    Panicked => "panicked",
    /// TLS handshakes that succeeded.
    TlsHandshakes => "tls_handshakes",
    /// Packets in.
    PacketsIn => "packets_in",
    /// Bytes in.
    BytesIn => "bytes_in",
    /// Bytes out.
    BytesOut => "bytes_out",
    /// Publishes in, QoS 0.
    PublishQos0 => "publish_qos0",
    /// Publishes in, QoS 1.
    PublishQos1 => "publish_qos1",
    /// Publishes in, QoS 2.
    PublishQos2 => "publish_qos2",
    /// Publishes handed to the journal.
    Journaled => "journaled",
    /// Publishes the hub settled without the journal.
    Settled => "settled",
    /// PUBACKs and PUBRECs sent.
    Acknowledged => "acknowledged",
    /// Duplicates of a QoS 2 publish that were not appended again.
    DuplicateQos2 => "duplicate_qos2",
    /// Publishes routed between clients of one device.
    Routed => "routed",
    /// Messages sent to clients.
    Delivered => "delivered",
    /// Times a connection stopped reading because the journal was full or too much was pending.
    Backpressure => "backpressure",
    /// Times a connection waited for its device's rate.
    Throttled => "throttled",
    /// Old connections closed because their client id connected again.
    TakenOver => "taken_over",
    /// Connections closed because the device was revoked.
    Revoked => "revoked",
    /// Wills published.
    WillsPublished => "wills_published",
    /// Wills that were due and refused.
    WillsRefused => "wills_refused",
    /// Messages for a client dropped: its queue or the total was full.
    OutboxFull => "dropped_outbox_full",
    /// Messages for a client dropped: expired.
    OutboxExpired => "dropped_expired",
    /// Messages for a client dropped: larger than it accepts.
    OutboxTooLarge => "dropped_too_large",
    /// Retained messages not kept: the limit was reached.
    RetainedFull => "dropped_retained_full",
    /// Sessions not kept: the limit was reached.
    SessionsFull => "dropped_session_limit",
    /// Refused at accept: too many connections.
    RefusedConnectionLimit => "refused_connection_limit",
    /// Refused at accept: too many connects from one address.
    RefusedAddressRate => "refused_address_rate",
    /// TLS: too many handshakes at once.
    RefusedTlsLimit => "refused_tls_limit",
    /// TLS: the handshake was not complete in time.
    RefusedTlsTimeout => "refused_tls_timeout",
    /// TLS: no TLS at all, such as plain MQTT.
    RefusedTlsNotTls => "refused_tls_not_tls",
    /// TLS: no version or cipher in common.
    RefusedTlsIncompatible => "refused_tls_incompatible",
    /// TLS: the client's certificate is expired or not yet good.
    RefusedTlsCertificateExpired => "refused_tls_certificate_expired",
    /// TLS: the client's certificate comes from an unknown authority.
    RefusedTlsCertificateForeign => "refused_tls_certificate_foreign",
    /// TLS: the client's certificate is not usable for another reason.
    RefusedTlsCertificate => "refused_tls_certificate",
    /// TLS: the client does not believe the server's certificate.
    RefusedTlsDistrusted => "refused_tls_distrusted",
    /// TLS: the client went away in the handshake.
    RefusedTlsClosed => "refused_tls_closed",
    /// TLS: the handshake failed for another reason.
    RefusedTlsOther => "refused_tls_other",
    /// Cut: no complete CONNECT in time.
    RefusedConnectTimeout => "refused_connect_timeout",
    /// Refused: user name or password.
    RefusedCredentials => "refused_credentials",
    /// Refused: the client certificate is no credential of the device.
    RefusedCertificate => "refused_certificate",
    /// Refused: device not enrolled.
    RefusedNotEnrolled => "refused_not_enrolled",
    /// Refused: device disabled.
    RefusedDisabled => "refused_disabled",
    /// Refused: the client id is not the device's.
    RefusedClientId => "refused_client_id",
    /// Refused: the device connects too often.
    RefusedFlapping => "refused_flapping",
    /// Refused: the hub cannot decide now.
    RefusedUnavailable => "refused_unavailable",
    /// Refused: protocol name or level.
    RefusedProtocolVersion => "refused_protocol_version",
    /// Cut: malformed packet.
    RefusedMalformed => "refused_malformed",
    /// Cut: a packet the protocol forbids here.
    RefusedProtocolError => "refused_protocol_error",
    /// Cut: packet too large.
    RefusedPacketTooLarge => "refused_packet_too_large",
    /// Cut: more in flight than the Receive Maximum.
    RefusedReceiveMaximum => "refused_receive_maximum",
    /// Cut: unknown or forbidden topic alias.
    RefusedTopicAlias => "refused_topic_alias",
    /// Publish or subscription refused: not this device's topic.
    RefusedTopicAcl => "refused_topic_acl",
    /// Publish or subscription refused: no such topic, or not a topic at all.
    RefusedTopicInvalid => "refused_topic_invalid",
    /// Publish refused: payload.
    RefusedPayload => "refused_payload",
    /// Publish refused: disk or quota.
    RefusedQuota => "refused_quota",
    /// Subscription refused: too many.
    RefusedSubscriptionLimit => "refused_subscription_limit",
    /// Cut: nothing heard for one and a half keep-alives.
    RefusedKeepAlive => "refused_keep_alive",
    /// Cut: the client does not read what it is sent.
    RefusedSlowReader => "refused_slow_reader",
}

/// The counters of one endpoint.
#[derive(Debug)]
pub struct Stats {
    counters: Box<[AtomicU64]>,
}

impl Default for Stats {
    fn default() -> Self {
        Self { counters: Counter::ALL.iter().map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Stats {
    /// Adds `n`.
    pub fn add(&self, counter: Counter, n: u64) {
        if let Some(cell) = self.counters.get(counter as usize) {
            cell.fetch_add(n, Relaxed);
        }
    }

    /// Adds one.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// The value now.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).map_or(0, |cell| cell.load(Relaxed))
    }

    /// Name and value of every counter.
    pub fn snapshot(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Counter::ALL.iter().map(|&c| (c.name(), self.get(c)))
    }
}
