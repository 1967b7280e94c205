//! Retained messages: the last one of each topic, bounded in number and bytes.
//!
//! Ordered by topic, so that a filter looks only at topics that share its literal prefix.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytestring::ByteString;
use tokio::time::Instant;

use super::{message::Message, topic};

/// The retained messages.
#[derive(Debug, Default)]
pub struct Retained {
    by_topic: BTreeMap<Box<str>, Arc<Message>>,
    bytes: usize,
}

impl Retained {
    /// Keeps, replaces or (empty payload) removes; `false` = not kept, a limit was reached.
    pub fn store(&mut self, message: &Arc<Message>, messages_max: usize, bytes_max: usize) -> bool {
        let topic: &ByteString = &message.topic;
        let old = self.by_topic.remove(&**topic);
        self.bytes -= old.as_ref().map_or(0, |m| m.bytes());
        if message.payload.is_empty() {
            return true;
        }
        if self.by_topic.len() >= messages_max || self.bytes + message.bytes() > bytes_max {
            return false;
        }
        self.bytes += message.bytes();
        self.by_topic.insert((**topic).into(), Arc::clone(message));
        true
    }

    /// Messages a filter matches that have not expired, in order of topic.
    pub fn matching(&self, filter: &str, now: Instant) -> Vec<Arc<Message>> {
        let prefix = topic::literal_prefix(filter);
        self.by_topic
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix))
            .filter(|(name, message)| topic::matches(filter, name) && !message.is_expired(now))
            .map(|(_, message)| Arc::clone(message))
            .collect()
    }

    /// Drops what has expired.
    pub fn sweep(&mut self, now: Instant) {
        let bytes = &mut self.bytes;
        self.by_topic.retain(|_, message| {
            let keep = !message.is_expired(now);
            if !keep {
                *bytes -= message.bytes();
            }
            keep
        });
    }

    /// Number of messages and their bytes.
    pub fn size(&self) -> (usize, usize) {
        (self.by_topic.len(), self.bytes)
    }
}
