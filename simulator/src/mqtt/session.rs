//! What a QoS 1 sender must remember: messages that wait, messages in flight, and what to send again.
//!
//! No IO and no time. Messages go out in order, at most `window` unacknowledged. After a reconnect everything in flight
//! goes out again, in order, with DUP and the same packet id, before anything new: also when the server forgot the
//! session, because a device must not lose what was not acknowledged.

use crate::mqtt::packet::{self, Publish, Version};
use std::collections::VecDeque;

/// Packet id kept free for a SUBSCRIBE; publishes use those below.
pub const SUBSCRIBE_ID: u16 = u16::MAX;

/// A reading to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The sender's mark, given back when the message is acknowledged.
    pub tag: u64,
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
}

#[derive(Debug)]
struct Flying {
    id: u16,
    message: Message,
    /// Written to the present connection.
    written: bool,
    /// Written to any connection.
    dup: bool,
}

/// A session's messages.
#[derive(Debug)]
pub struct Session {
    version: Version,
    waiting: VecDeque<Message>,
    flying: VecDeque<Flying>,
    last_id: u16,
    window: usize,
    qos1: bool,
}

/// What an acknowledgement means.
#[derive(Debug, PartialEq, Eq)]
pub enum Acked {
    /// The message is safe at the server.
    Safe(u64),
    /// The server will not take this message.
    Refused(u64, u8),
    /// The server has no room now; the message waits again.
    Later,
    /// No such message is in flight.
    Unknown,
}

impl Session {
    /// A session without messages. `window` is the sender's own limit of unacknowledged messages.
    #[must_use]
    pub fn new(version: Version, qos1: bool, window: u16) -> Self {
        Self {
            version,
            waiting: VecDeque::new(),
            flying: VecDeque::new(),
            last_id: 0,
            window: window.max(1).into(),
            qos1,
        }
    }

    /// Takes a message to send.
    pub fn push(&mut self, message: Message) {
        self.waiting.push_back(message);
    }

    /// Messages neither acknowledged nor refused.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.waiting.len() + self.flying.len()
    }

    /// A connection is there; everything in flight must be written again.
    pub fn connected(&mut self) {
        self.flying.iter_mut().for_each(|f| f.written = false);
    }

    /// Appends what may be sent now, up to about `bytes_max`; tags of QoS 0 messages that are thereby done.
    pub fn write(&mut self, receive_maximum: u16, bytes_max: usize, out: &mut Vec<u8>) -> Vec<u64> {
        let (version, window) = (self.version, self.window.min(receive_maximum.into()));
        let mut done = Vec::new();
        let mut open = self.flying.iter().filter(|f| f.written).count();
        for f in self.flying.iter_mut().filter(|f| !f.written) {
            if out.len() >= bytes_max || open >= window {
                return done;
            }
            let Message { topic, payload, .. } = &f.message;
            packet::publish(out, version, &Publish { topic, payload, id: Some(f.id), dup: f.dup });
            (f.written, f.dup) = (true, true);
            open += 1;
        }
        while out.len() < bytes_max && (!self.qos1 || open < window) {
            let Some(message) = self.waiting.pop_front() else { break };
            let id = self.qos1.then(|| self.next_id());
            let Message { topic, payload, .. } = &message;
            packet::publish(out, version, &Publish { topic, payload, id, dup: false });
            match id {
                Some(id) => {
                    self.flying.push_back(Flying { id, message, written: true, dup: true });
                    open += 1;
                }
                None => done.push(message.tag),
            }
        }
        done
    }

    /// The next packet id that is not in flight; the window keeps some free.
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = if self.last_id >= SUBSCRIBE_ID - 1 { 1 } else { self.last_id + 1 };
            if self.flying.iter().all(|f| f.id != self.last_id) {
                return self.last_id;
            }
        }
    }

    /// The server acknowledged packet `id` with `code`.
    pub fn acked(&mut self, id: u16, code: u8) -> Acked {
        const QUOTA_EXCEEDED: u8 = 0x97;
        // Acknowledgements come in order from a server that keeps its promises, so this looks at the front.
        let Some(i) = self.flying.iter().position(|f| f.id == id && f.written) else {
            return Acked::Unknown;
        };
        let Some(f) = self.flying.remove(i) else { return Acked::Unknown };
        match code {
            0..0x80 => Acked::Safe(f.message.tag),
            QUOTA_EXCEEDED => {
                self.waiting.push_front(f.message);
                Acked::Later
            }
            0x80.. => Acked::Refused(f.message.tag, code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(window: u16) -> Session {
        let mut s = Session::new(Version::V3, true, window);
        for tag in 1..=5 {
            s.push(Message { tag, topic: "t".into(), payload: vec![b'0' + tag as u8] });
        }
        s
    }

    /// (first byte, packet id, payload) of each publish written.
    fn written(s: &mut Session, receive_maximum: u16) -> Vec<(u8, u16, u8)> {
        let mut out = Vec::new();
        s.write(receive_maximum, usize::MAX, &mut out);
        out.chunks(8).map(|p| (p[0], u16::from_be_bytes([p[5], p[6]]), p[7])).collect()
    }

    #[test]
    fn the_window_holds_back_and_acks_let_go() {
        let mut s = session(3);
        assert_eq!(written(&mut s, 100), [(0x32, 1, b'1'), (0x32, 2, b'2'), (0x32, 3, b'3')]);
        assert_eq!(written(&mut s, 100), []);
        assert_eq!(s.acked(2, 0), Acked::Safe(2));
        assert_eq!(s.acked(2, 0), Acked::Unknown);
        assert_eq!(written(&mut s, 100), [(0x32, 4, b'4')]);
        assert_eq!(s.unacknowledged(), 4);
        let mut s = session(3);
        assert_eq!(written(&mut s, 1).len(), 1, "the server's limit counts too");
    }

    #[test]
    fn a_reconnect_sends_again_with_dup_before_anything_new() {
        let mut s = session(3);
        written(&mut s, 100);
        s.acked(1, 0);
        s.connected();
        assert_eq!(s.acked(2, 0), Acked::Unknown, "nothing of it is on this connection yet");
        assert_eq!(written(&mut s, 100), [(0x3a, 2, b'2'), (0x3a, 3, b'3'), (0x32, 4, b'4')]);
        for id in 2..=4 {
            assert_eq!(s.acked(id, 0), Acked::Safe(id.into()));
        }
        assert_eq!(written(&mut s, 100), [(0x32, 5, b'5')]);
    }

    #[test]
    fn refusals_end_a_message_except_for_want_of_room() {
        let mut s = session(5);
        written(&mut s, 100);
        assert_eq!(s.acked(1, 0x87), Acked::Refused(1, 0x87));
        assert_eq!(s.acked(2, 0x97), Acked::Later);
        assert_eq!(written(&mut s, 100), [(0x32, 6, b'2')]);
    }

    #[test]
    fn packet_ids_wrap_past_zero_and_skip_those_in_flight() {
        let mut s = session(5);
        s.last_id = SUBSCRIBE_ID - 2;
        let ids: Vec<u16> = written(&mut s, 100).into_iter().map(|w| w.1).collect();
        assert_eq!(ids, [SUBSCRIBE_ID - 1, 1, 2, 3, 4]);
        s.last_id = SUBSCRIBE_ID - 1;
        s.acked(2, 0);
        s.push(Message { tag: 6, topic: "t".into(), payload: vec![b'6'] });
        assert_eq!(written(&mut s, 100), [(0x32, 2, b'6')]);
    }

    #[test]
    fn qos_0_is_done_when_written() {
        let mut s = Session::new(Version::V3, false, 1);
        for tag in 1..=3 {
            s.push(Message { tag, topic: "t".into(), payload: Vec::new() });
        }
        let mut out = Vec::new();
        assert_eq!(s.write(1, usize::MAX, &mut out), [1, 2, 3]);
        assert_eq!((out[0], s.unacknowledged()), (0x30, 0));
    }
}
