//! A message on its way to clients: owned, shared between them, with the moment it expires.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::Instant;

use super::{
    codec::{owned_properties, owned_text},
    packet::{Properties, Qos},
    receipt::Receipt,
};

/// Message on its way to clients.
#[derive(Debug)]
pub struct Message {
    /// Topic name.
    pub topic: ByteString,
    /// Payload.
    pub payload: Bytes,
    /// QoS it was published with.
    pub qos: Qos,
    /// Retain flag it was published with.
    pub retain: bool,
    /// Properties to forward.
    pub properties: Option<Box<Properties>>,
    /// When it expires.
    pub expires_at: Option<Instant>,
    /// Connection it came from, for No Local; `None` = the hub.
    pub publisher: Option<Arc<str>>,
    /// Told when the first client has acknowledged it.
    pub receipt: Option<Receipt>,
}

impl Message {
    /// Copies what was read, so that it may be kept.
    pub fn owned(
        topic: &ByteString,
        payload: &[u8],
        qos: Qos,
        retain: bool,
        properties: Option<&Properties>,
        publisher: Option<Arc<str>>,
        now: Instant,
    ) -> Self {
        let expiry = properties.and_then(|p| p.expiry_seconds);
        Self {
            topic: owned_text(topic),
            payload: Bytes::copy_from_slice(payload),
            qos,
            retain,
            properties: properties.map(|p| Box::new(owned_properties(p))),
            expires_at: expiry.map(|s| now + Duration::from_secs(u64::from(s.get()))),
            publisher,
            receipt: None,
        }
    }

    /// A client has it.
    pub fn taken(&self) {
        if let Some(receipt) = &self.receipt {
            receipt.taken();
        }
    }

    /// Bytes it counts for in limits.
    pub fn bytes(&self) -> usize {
        let properties = self.properties.as_deref().map_or(0, |p| {
            p.content_type.as_ref().map_or(0, |t| t.len())
                + p.response_topic.as_ref().map_or(0, |t| t.len())
                + p.correlation_data.as_ref().map_or(0, Bytes::len)
                + p.user.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()
        });
        self.topic.len() + self.payload.len() + properties
    }

    /// Its lifetime is over.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Properties to send now: the remaining lifetime and the identifiers of the subscriptions that matched.
    pub fn properties_at(&self, now: Instant, ids: &[NonZeroU32]) -> Option<Box<Properties>> {
        if self.properties.is_none() && ids.is_empty() {
            return None;
        }
        let mut properties = self.properties.clone().unwrap_or_default();
        if let Some(at) = self.expires_at {
            let left = at.saturating_duration_since(now).as_millis().div_ceil(1000);
            properties.expiry_seconds = NonZeroU32::new(u32::try_from(left).unwrap_or(u32::MAX));
        }
        properties.subscription_ids = ids.to_vec();
        Some(properties)
    }
}
