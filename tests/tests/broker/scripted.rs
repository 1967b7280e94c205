//! A broker that does what no broker should: it cuts, forgets, and reuses packet ids, byte by byte. What rumqttc makes of that
//! is known to be dangerous, and no real broker can be told to do it.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use stockfold_tests::{WAIT_MAX, Wire};

/// A broker of one listener.
pub struct Scripted(TcpListener);

/// A connection of the hub's.
pub struct Link {
    socket: TcpStream,
    /// The body of its CONNECT.
    pub connect: Vec<u8>,
}

impl Scripted {
    pub fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next connection, not answered yet.
    pub fn accept(&self) -> Link {
        let (mut socket, _) = self.0.accept().unwrap();
        socket.wait_at_most(WAIT_MAX);
        let mut link = Link { socket, connect: Vec::new() };
        let (first, body) = link.packet().expect("CONNECT");
        assert_eq!(first, 0x10);
        link.connect = body;
        link
    }

    /// The next connection, granted and subscribed.
    pub fn serve(&self, session_present: bool) -> Link {
        let mut link = self.accept();
        link.send(&[0x20, 2, u8::from(session_present), 0]);
        let (first, body) = link.packet().expect("SUBSCRIBE comes with every connection");
        assert_eq!(first, 0x82);
        let filter = String::from_utf8(body[4..body.len() - 1].to_vec()).unwrap();
        assert_eq!((filter.as_str(), body[body.len() - 1]), ("stockfold/v1/+/+", 1));
        link.send(&[0x90, 3, body[0], body[1], 1]);
        link
    }

    /// Whether somebody connects within a time.
    pub fn is_called_within(&self, wait: Duration) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let until = std::time::Instant::now() + wait;
        let called = loop {
            match self.0.accept() {
                Ok(_) => break true,
                Err(_) if std::time::Instant::now() > until => break false,
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        self.0.set_nonblocking(false).unwrap();
        called
    }
}

impl Link {
    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// A QoS 1 PUBLISH.
    pub fn publish(&mut self, topic: &str, packet_id: u16, payload: &[u8]) {
        let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
        body.extend_from_slice(topic.as_bytes());
        body.extend_from_slice(&packet_id.to_be_bytes());
        body.extend_from_slice(payload);
        let mut packet = vec![0x32];
        let mut left = body.len();
        loop {
            let more = left > 127;
            packet.push(u8::try_from(left % 128).unwrap() | if more { 128 } else { 0 });
            left /= 128;
            if !more {
                break;
            }
        }
        packet.extend_from_slice(&body);
        self.send(&packet);
    }

    /// The next packet; `None` when the hub closed, or said nothing in time.
    pub fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        match self.socket.read_exact(&mut head) {
            Ok(()) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                return None;
            }
            Err(error) => panic!("{error}"),
        }
        let (mut length, mut shift, mut byte) = (usize::from(head[1] & 127), 7, head[1]);
        while byte >= 128 {
            let mut next = [0];
            self.socket.read_exact(&mut next).unwrap();
            byte = next[0];
            length |= usize::from(byte & 127) << shift;
            shift += 7;
        }
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).unwrap();
        Some((head[0], body))
    }

    /// The packet id of the next PUBACK.
    pub fn acknowledged(&mut self) -> u16 {
        let (first, body) = self.packet().expect("PUBACK");
        assert_eq!((first, body.len()), (0x40, 2));
        u16::from_be_bytes([body[0], body[1]])
    }

    /// Topic, packet id and payload of the next QoS 1 PUBLISH.
    pub fn published(&mut self) -> (String, u16, Vec<u8>) {
        let (first, body) = self.packet().expect("PUBLISH");
        assert_eq!(first & 0xF6, 0x32, "{first:#x}");
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
        let packet_id = u16::from_be_bytes([body[2 + length], body[3 + length]]);
        (topic, packet_id, body[4 + length..].to_vec())
    }

    /// Acknowledges a PUBLISH of the hub's.
    pub fn acknowledge(&mut self, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.send(&[0x40, 2, high, low]);
    }

    /// The hub says nothing for a while.
    pub fn is_silent(&mut self, wait: Duration) {
        self.socket.wait_at_most(wait);
        assert_eq!(self.packet(), None);
        self.socket.wait_at_most(WAIT_MAX);
    }
}
