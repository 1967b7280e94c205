//! What the hub has sent to the broker and the broker has not answered.
//!
//! rumqttc gives a packet its id when the packet leaves, in the order they were handed over, and tells the id; the broker
//! answers with it. A command is done with when the broker has acknowledged it, not when it was sent: what is left here when
//! the connection ends was not taken, and its receipts say so by being dropped.
//!
//! Packet ids go around. One that comes again while its first use is unanswered is a collision, in which rumqttc stops sending
//! whatever else there is, acknowledgements of readings included. So nothing is published when the oldest unanswered packet is
//! too far behind, and one that stays unanswered ends the connection.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::mqtt::Receipt;

/// Commands on their way to the broker at once.
pub(super) const COMMANDS_MAX: usize = 64;
/// Packet ids rumqttc uses, from 1; unanswered packets are never so far apart.
pub(super) const PACKET_IDS_MAX: u16 = 1_024;
/// How long the broker may leave a packet unanswered, in milliseconds.
pub(super) const ANSWER_MS_MAX: u64 = 10_000;

/// A packet that wants an answer.
#[derive(Debug)]
pub(super) enum Sent {
    /// A subscription to these filters.
    Filters(Vec<String>),
    /// A subscription given up.
    GivenUp,
    /// What the broker keeps of the Sparkplug host.
    Retained,
    /// A command.
    Command(Receipt),
}

#[derive(Debug)]
struct Open {
    sent: Sent,
    nth: u64,
    since: Instant,
}

/// The unanswered packets of one connection.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    handed_over: VecDeque<Sent>,
    open: BTreeMap<u16, Open>,
    commands: usize,
    numbered: u64,
}

impl Unanswered {
    /// A packet was handed to the client; its id comes later.
    pub(super) fn hand_over(&mut self, sent: Sent) {
        self.commands += usize::from(matches!(sent, Sent::Command(_)));
        self.handed_over.push_back(sent);
    }

    /// The next packet has left under this id.
    pub(super) fn left(&mut self, packet_id: u16, now: Instant) {
        let Some(sent) = self.handed_over.pop_front() else { return };
        self.numbered += 1;
        self.open.insert(packet_id, Open { sent, nth: self.numbered, since: now });
    }

    /// The broker answered; `None` when it was asked nothing under this id.
    pub(super) fn answered(&mut self, packet_id: u16) -> Option<Sent> {
        let sent = self.open.remove(&packet_id)?.sent;
        self.commands -= usize::from(matches!(sent, Sent::Command(_)));
        Some(sent)
    }

    /// One more command may go: there is room, and no packet id can come again while it is in use.
    pub(super) fn has_room(&self) -> bool {
        let upcoming = self.numbered + self.handed_over.len() as u64 + 1;
        let oldest = self.open.values().map(|open| open.nth).min().unwrap_or(upcoming);
        self.commands < COMMANDS_MAX && upcoming - oldest < u64::from(PACKET_IDS_MAX)
    }

    /// Whatever is unanswered has as much time again.
    pub(super) fn grant_time(&mut self, now: Instant) {
        for open in self.open.values_mut() {
            open.since = now;
        }
    }

    /// When a packet has been unanswered for too long, if any is.
    pub(super) fn due(&self) -> Option<Instant> {
        let oldest = self.open.values().map(|open| open.since).min()?;
        Some(oldest + Duration::from_millis(ANSWER_MS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn command(told: &Arc<Mutex<Vec<(u16, bool)>>>, name: u16) -> Sent {
        let told = Arc::clone(told);
        Sent::Command(Receipt::new(move |taken| told.lock().unwrap().push((name, taken))))
    }

    /// A broker that answers all but the first: the id of the first is never used again, however long it goes on.
    #[test]
    fn a_packet_id_in_use_never_comes_again() {
        let (told, now) = (Arc::default(), Instant::now());
        let mut sent = Unanswered::default();
        let mut id = 0;
        let mut published = 0_u32;
        while sent.has_room() {
            sent.hand_over(command(&told, 0));
            id = id % PACKET_IDS_MAX + 1;
            assert!(published == 0 || id != 1, "a collision");
            sent.left(id, now);
            published += 1;
            if id != 1
                && let Some(Sent::Command(receipt)) = sent.answered(id)
            {
                receipt.taken();
            }
        }
        assert_eq!(published, u32::from(PACKET_IDS_MAX));
        assert_eq!(sent.due(), Some(now + Duration::from_millis(ANSWER_MS_MAX)));
        assert!(sent.answered(1).is_some());
        assert!(sent.has_room());
    }

    #[test]
    fn what_is_unanswered_at_the_end_was_not_taken() {
        let told: Arc<Mutex<Vec<_>>> = Arc::default();
        let mut sent = Unanswered::default();
        for name in 1..=3 {
            sent.hand_over(command(&told, name));
        }
        sent.left(7, Instant::now());
        sent.left(8, Instant::now());
        assert!(sent.answered(9).is_none());
        // Answered out of order.
        if let Some(Sent::Command(receipt)) = sent.answered(8) {
            receipt.taken();
        }
        drop(sent);
        let mut told = told.lock().unwrap().clone();
        told.sort_unstable();
        assert_eq!(told, [(1, false), (2, true), (3, false)]);
    }

    #[test]
    fn there_are_never_too_many() {
        let told = Arc::default();
        let mut sent = Unanswered::default();
        for _ in 0..COMMANDS_MAX {
            assert!(sent.has_room());
            sent.hand_over(command(&told, 0));
        }
        assert!(!sent.has_room());
    }
}
