//! A device: one MQTT connection, blocking, packet by packet or byte by byte.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rustls::{ClientConnection, StreamOwned};

use serde_json::json;
use simulator::mqtt::packet::{self, Connect, Incoming, Publish, Version};

use crate::{Login, wait::WAIT_MAX};

/// What a connection runs over.
pub trait Wire: Read + Write + Send {
    /// Longest wait for a byte.
    fn wait_at_most(&mut self, wait: Duration);
}

impl Wire for TcpStream {
    fn wait_at_most(&mut self, wait: Duration) {
        self.set_read_timeout(Some(wait)).unwrap();
    }
}

impl Wire for StreamOwned<ClientConnection, TcpStream> {
    fn wait_at_most(&mut self, wait: Duration) {
        self.sock.wait_at_most(wait);
    }
}

/// What a CONNECT was answered with.
pub type Answered = Result<Device, u8>;

/// A connection.
pub struct Device {
    /// Its device id.
    pub id: String,
    version: Version,
    stream: Box<dyn Wire>,
    inbox: Vec<u8>,
    packet_id: u16,
}

impl Device {
    /// A connection on which nothing was said yet.
    pub fn dial(mqtt: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect(mqtt).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(Box::new(stream), version)
    }

    /// A connection over something else, such as TLS, on which nothing was said yet.
    pub fn over(mut stream: Box<dyn Wire>, version: Version) -> Self {
        stream.wait_at_most(WAIT_MAX);
        Self { id: String::new(), version, stream, inbox: Vec::new(), packet_id: 0 }
    }

    /// Connects with a clean session; the code it is refused with is the error.
    pub fn connect(mqtt: SocketAddr, version: Version, login: &Login) -> Answered {
        Self::connect_as(mqtt, version, &login.device, login)
    }

    /// Connects with a clean session.
    ///
    /// # Panics
    /// With the code it is refused with.
    pub fn connected(mqtt: SocketAddr, version: Version, login: &Login) -> Self {
        Self::connect(mqtt, version, login)
            .unwrap_or_else(|code| panic!("{} was refused with {code:#04x}", login.device))
    }

    /// Connects with a client id of its own.
    pub fn connect_as(
        mqtt: SocketAddr,
        version: Version,
        client_id: &str,
        login: &Login,
    ) -> Answered {
        let mut device = Self::dial(mqtt, version);
        device.id.clone_from(&login.device);
        device.hello(&connect_bytes(version, client_id, login))
    }

    /// Says hello with these bytes; the code it is refused with is the error.
    pub fn hello(self, connect: &[u8]) -> Answered {
        let mut device = self;
        device.send(connect);
        match device.receive() {
            Some(Incoming::ConnAck { code: 0, .. }) => Ok(device),
            Some(Incoming::ConnAck { code, .. }) => Err(code),
            other => panic!("CONNECT was answered with {other:?}"),
        }
    }

    /// Sends bytes as they are. A peer that closed meanwhile is no error: reading tells.
    pub fn send(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => panic!("cannot send: {error}"),
        }
    }

    /// The next packet; `None` when the hub closed the connection.
    pub fn receive(&mut self) -> Option<Incoming> {
        loop {
            if let Some((packet, used)) = packet::decode(&self.inbox, self.version).unwrap() {
                self.inbox.drain(..used);
                return Some(packet);
            }
            let mut bytes = [0; 4_096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.inbox.extend_from_slice(&bytes[..read]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the hub neither answered nor closed: {error}"),
            }
        }
    }

    /// Waits until the hub closes the connection; the reason code of its DISCONNECT, if it sent one.
    pub fn closed(&mut self) -> Option<u8> {
        let mut code = None;
        while let Some(packet) = self.receive() {
            if let Incoming::Disconnect { code: told } = packet {
                code = Some(told);
            }
        }
        code
    }

    /// Whether the hub closed the connection within `wait`.
    pub fn closes_within(&mut self, wait: Duration) -> bool {
        self.stream.wait_at_most(wait);
        let closed = loop {
            match self.stream.read(&mut [0; 256]) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => break true,
                Err(_) => break false,
            }
        };
        self.stream.wait_at_most(WAIT_MAX);
        closed
    }

    /// Hands a QoS 1 publish over without waiting; returns its packet id.
    pub fn publish_only(&mut self, topic: &str, payload: &[u8]) -> u16 {
        self.packet_id = self.packet_id % 60_000 + 1;
        let id = Some(self.packet_id);
        let mut out = Vec::new();
        packet::publish(&mut out, self.version, &Publish { topic, payload, id, dup: false });
        self.send(&out);
        self.packet_id
    }

    /// Publishes at QoS 1 and waits for the PUBACK; its reason code, or `Err` with that of the DISCONNECT when the hub cut the
    /// connection instead.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<u8, Option<u8>> {
        let wanted = self.publish_only(topic, payload);
        loop {
            match self.receive() {
                Some(Incoming::PubAck { id, code }) if id == wanted => return Ok(code),
                Some(Incoming::Disconnect { code }) => {
                    self.closed();
                    return Err(Some(code));
                }
                None => return Err(None),
                Some(_) => {}
            }
        }
    }

    /// Publishes on a stream of its own and expects to be acknowledged.
    pub fn reading(&mut self, stream: &str, payload: &[u8]) {
        let topic = format!("stockfold/v1/{}/{stream}", self.id);
        assert_eq!(self.publish(&topic, payload), Ok(0), "{}", String::from_utf8_lossy(payload));
    }

    /// A stock reading of one SKU at its own slot.
    pub fn stock(&mut self, seq: u64, boot: &str, sku: &str, delta: i64) {
        let reading = json!({ "seq": seq, "boot": boot, "values": { "sku": sku, "delta": delta } });
        self.reading("stock", reading.to_string().as_bytes());
    }

    /// Ends the connection as MQTT wants it.
    pub fn disconnect(mut self) {
        let mut out = Vec::new();
        packet::disconnect(&mut out);
        self.send(&out);
    }
}

/// A CONNECT with a clean session and no keep-alive.
pub fn connect_bytes(version: Version, client_id: &str, login: &Login) -> Vec<u8> {
    let mut out = Vec::new();
    let connect = Connect {
        version,
        client_id,
        clean: true,
        keep_alive_s: 0,
        session_expiry_s: 0,
        login: Some((&login.device, &login.password)),
    };
    packet::connect(&mut out, &connect);
    out
}
