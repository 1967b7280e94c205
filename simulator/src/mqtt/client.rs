//! A device's connection: one task that drives a [`Session`] over a socket, and reconnects until its work is done.
//!
//! Orders come through a bounded channel; while the hub is away they wait there, and when it is full the device loses
//! frames as a real one would. Closing the channel means "deliver what you have, then disconnect".

use crate::mqtt::packet::{self, Connect, Incoming, RECEIVE_MAXIMUM_DEFAULT, Version};
use crate::mqtt::session::{Acked, Message, SUBSCRIBE_ID, Session};
use crate::random::Stream;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Messages a client takes from its channel before some are acknowledged.
const HELD_MESSAGES_MAX: usize = 1_024;
/// Bytes of publishes in one write.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Longest connect, handshake or write.
const IO_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time to deliver what is left once the channel is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Silence after the server said that it has no room.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(500);
/// First and longest back-off, s.
const BACK_OFF_S: (f64, f64) = (0.2, 5.0);

/// Who connects where, and how.
#[derive(Clone)]
pub struct Config {
    /// Number given back with each notice.
    pub index: usize,
    /// `HOST:PORT`.
    pub address: String,
    /// Client id and user name.
    pub device: String,
    /// Password.
    pub password: String,
    /// Protocol version.
    pub version: Version,
    /// QoS 1, else 0.
    pub qos1: bool,
    /// Own limit of unacknowledged messages.
    pub window: u16,
    /// Keep-alive, s.
    pub keep_alive_s: u16,
    /// Topic filter to subscribe to.
    pub subscribe: Option<String>,
    /// Seed of the back-off's jitter.
    pub seed: u64,
}

/// What a client is told to do.
#[derive(Debug)]
pub enum Order {
    /// Publish a message.
    Publish(Message),
    /// Drop the connection without a word, as a pulled cable would, and come back.
    Break,
}

/// What a client tells.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice {
    /// The server accepted the connection.
    Connected,
    /// The connection is gone; the client tries again.
    Lost(String),
    /// The server took the message (QoS 0: it is written).
    Acked(u64),
    /// The server refused the message with this reason code.
    Refused(u64, u8),
    /// The server sent a message.
    Received {
        /// Topic name.
        topic: String,
        /// Payload.
        payload: Vec<u8>,
    },
}

/// Why a client gave up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The server does not accept this device.
    #[error(
        "{device}: the server refused the connection: {why}; check that the device is enrolled and its password is current"
    )]
    Refused {
        /// Device id.
        device: String,
        /// What the code means.
        why: &'static str,
    },
    /// Messages were still unacknowledged when the time to deliver them was over.
    #[error(
        "{device}: {messages} messages were not acknowledged within {seconds} s; is the hub running?"
    )]
    Undelivered {
        /// Device id.
        device: String,
        /// How many.
        messages: usize,
        /// The limit.
        seconds: u64,
    },
}

/// Why a connection ended.
enum End {
    /// Everything is delivered.
    Done,
    /// Try again.
    Lost(String),
    /// Do not.
    Fatal(ClientError),
}

impl From<std::io::Error> for End {
    fn from(e: std::io::Error) -> Self {
        Self::Lost(e.to_string())
    }
}

impl From<packet::PacketError> for End {
    fn from(e: packet::PacketError) -> Self {
        Self::Lost(e.to_string())
    }
}

impl From<tokio::time::error::Elapsed> for End {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::Lost(format!("no progress for {} s", IO_TIMEOUT.as_secs()))
    }
}

/// Publishes what `orders` say until the channel is closed and everything is acknowledged.
///
/// # Errors
/// [`ClientError`] when the server will not have this device, or delivery takes too long at the end.
pub async fn run(
    config: Config,
    mut orders: mpsc::Receiver<Order>,
    notices: mpsc::Sender<(usize, Notice)>,
) -> Result<(), ClientError> {
    let mut jitter = Stream::new(config.seed, "back-off", config.index as u64);
    let mut client = Client {
        session: Session::new(config.version, config.qos1, config.window),
        closed: false,
        closing_since: None,
        notices,
        config,
    };
    let mut failures = 0;
    loop {
        let why = match client.connect(&mut orders, &mut failures).await {
            End::Done => return Ok(()),
            End::Fatal(e) => return Err(e),
            End::Lost(why) => why,
        };
        client.notify(Notice::Lost(why)).await;
        let longest = (BACK_OFF_S.0 * 2_f64.powi(failures)).min(BACK_OFF_S.1);
        failures += 1;
        sleep(Duration::from_secs_f64(jitter.uniform(longest / 2.0, longest))).await;
        if let Some(e) = client.overdue(&orders) {
            return Err(e);
        }
    }
}

struct Client {
    config: Config,
    session: Session,
    /// No order comes any more.
    closed: bool,
    /// Since when the player has ended.
    closing_since: Option<Instant>,
    notices: mpsc::Sender<(usize, Notice)>,
}

impl Client {
    async fn notify(&self, notice: Notice) {
        // Nobody listens any more only when the player itself has ended.
        let _ = self.notices.send((self.config.index, notice)).await;
    }

    fn overdue(&mut self, orders: &mpsc::Receiver<Order>) -> Option<ClientError> {
        if orders.is_closed() && self.closing_since.is_none() {
            self.closing_since = Some(Instant::now());
        }
        let late = self.closing_since.is_some_and(|since| since.elapsed() > DRAIN_TIMEOUT);
        late.then(|| ClientError::Undelivered {
            device: self.config.device.clone(),
            messages: self.session.unacknowledged() + orders.len(),
            seconds: DRAIN_TIMEOUT.as_secs(),
        })
    }

    async fn connect(&mut self, orders: &mut mpsc::Receiver<Order>, failures: &mut i32) -> End {
        match self.converse(orders, failures).await {
            Ok(()) => End::Done,
            Err(end) => end,
        }
    }

    async fn converse(
        &mut self,
        orders: &mut mpsc::Receiver<Order>,
        failures: &mut i32,
    ) -> Result<(), End> {
        let mut socket = timeout(IO_TIMEOUT, TcpStream::connect(&self.config.address)).await??;
        socket.set_nodelay(true)?;
        let mut input = Vec::with_capacity(4_096);
        let receive_maximum =
            timeout(IO_TIMEOUT, self.handshake(&mut socket, &mut input)).await??;
        *failures = 0;
        self.session.connected();
        self.notify(Notice::Connected).await;
        let half = Duration::from_secs(u64::from(self.config.keep_alive_s.max(2)) / 2);
        let mut ping_at = Instant::now() + half;
        let mut pong_due = false;
        let mut quiet_until = Instant::now();
        loop {
            let mut out = Vec::new();
            if Instant::now() >= quiet_until {
                for tag in self.session.write(receive_maximum, WRITE_BYTES_MAX, &mut out) {
                    self.notify(Notice::Acked(tag)).await;
                }
            }
            if !out.is_empty() {
                timeout(IO_TIMEOUT, socket.write_all(&out)).await??;
                // There may be more than one write's worth.
                if out.len() >= WRITE_BYTES_MAX && !self.config.qos1 {
                    continue;
                }
            }
            if self.closed && self.session.unacknowledged() == 0 {
                out.clear();
                packet::disconnect(&mut out);
                timeout(IO_TIMEOUT, socket.write_all(&out)).await??;
                return Ok(());
            }
            if let Some(e) = self.overdue(orders) {
                return Err(End::Fatal(e));
            }
            let takes = !self.closed && self.session.unacknowledged() < HELD_MESSAGES_MAX;
            tokio::select! {
                read = socket.read_buf(&mut input) => {
                    if read? == 0 {
                        return Err(End::Lost("the server closed the connection".into()));
                    }
                    let mut answers = Vec::new();
                    while let Some((packet, used)) = packet::decode(&input, self.config.version)? {
                        input.drain(..used);
                        pong_due &= packet != Incoming::PingResp;
                        if self.take(packet, &mut answers).await? {
                            quiet_until = Instant::now() + NO_ROOM_PAUSE;
                        }
                    }
                    timeout(IO_TIMEOUT, socket.write_all(&answers)).await??;
                }
                order = orders.recv(), if takes => match order {
                    Some(Order::Publish(message)) => {
                        self.session.push(message);
                        // What came together goes out together.
                        while self.session.unacknowledged() < HELD_MESSAGES_MAX {
                            match orders.try_recv() {
                                Ok(Order::Publish(message)) => self.session.push(message),
                                Ok(Order::Break) => return Err(End::Lost("broken off on purpose".into())),
                                Err(_) => break,
                            }
                        }
                    }
                    Some(Order::Break) => return Err(End::Lost("broken off on purpose".into())),
                    None => self.closed = true,
                },
                () = sleep_until(ping_at) => {
                    if pong_due {
                        return Err(End::Lost("no answer to a ping".into()));
                    }
                    out.clear();
                    packet::pingreq(&mut out);
                    timeout(IO_TIMEOUT, socket.write_all(&out)).await??;
                    (pong_due, ping_at) = (true, Instant::now() + half);
                }
                () = sleep_until(quiet_until), if Instant::now() < quiet_until => {}
                () = sleep(DRAIN_TIMEOUT), if self.closing_since.is_some() => {}
            }
        }
    }

    /// Sends CONNECT (and SUBSCRIBE) and awaits CONNACK; the server's Receive Maximum.
    async fn handshake(&self, socket: &mut TcpStream, input: &mut Vec<u8>) -> Result<u16, End> {
        let c = &self.config;
        let mut out = Vec::new();
        packet::connect(
            &mut out,
            &Connect {
                version: c.version,
                client_id: &c.device,
                clean: c.subscribe.is_none(),
                keep_alive_s: c.keep_alive_s,
                session_expiry_s: if c.subscribe.is_some() { 3_600 } else { 0 },
                login: Some((&c.device, &c.password)),
            },
        );
        socket.write_all(&out).await?;
        loop {
            if let Some((packet, used)) = packet::decode(input, c.version)? {
                input.drain(..used);
                let Incoming::ConnAck { code, receive_maximum, .. } = packet else {
                    return Err(End::Lost("the server spoke before CONNACK".into()));
                };
                let why = packet::reason(c.version, code);
                match (c.version, code) {
                    (_, 0) => {}
                    (Version::V3, 2 | 4 | 5) | (Version::V5, 0x85..=0x87) => {
                        let device = c.device.clone();
                        return Err(End::Fatal(ClientError::Refused { device, why }));
                    }
                    (Version::V3 | Version::V5, _) => {
                        return Err(End::Lost(format!("refused: {why}")));
                    }
                }
                if let Some(filter) = &c.subscribe {
                    out.clear();
                    packet::subscribe(&mut out, c.version, SUBSCRIBE_ID, filter);
                    socket.write_all(&out).await?;
                }
                return Ok(if c.version == Version::V5 {
                    receive_maximum
                } else {
                    RECEIVE_MAXIMUM_DEFAULT
                });
            }
            if socket.read_buf(input).await? == 0 {
                return Err(End::Lost("the server closed the connection before CONNACK".into()));
            }
        }
    }

    /// Takes a packet; true when the server has no room.
    async fn take(&mut self, packet: Incoming, answers: &mut Vec<u8>) -> Result<bool, End> {
        match packet {
            Incoming::PubAck { id, code } => match self.session.acked(id, code) {
                Acked::Safe(tag) => self.notify(Notice::Acked(tag)).await,
                Acked::Refused(tag, code) => self.notify(Notice::Refused(tag, code)).await,
                Acked::Later => return Ok(true),
                Acked::Unknown => {}
            },
            Incoming::Publish { topic, payload, id } => {
                if let Some(id) = id {
                    packet::puback(answers, id);
                }
                self.notify(Notice::Received { topic, payload }).await;
            }
            Incoming::Disconnect { code } => {
                let why = packet::reason(self.config.version, code);
                return Err(End::Lost(format!("the server disconnected: {why}")));
            }
            Incoming::SubAck { code, .. } if code >= 0x80 => {
                let why = packet::reason(self.config.version, code);
                return Err(End::Lost(format!("the server refused the subscription: {why}")));
            }
            Incoming::ConnAck { .. } => return Err(End::Lost("a second CONNACK".into())),
            Incoming::SubAck { .. } | Incoming::PingResp => {}
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const ACK: &[u8] = b"\x20\x02\x00\x00";

    fn config(address: String) -> Config {
        Config {
            index: 7,
            address,
            device: "d1".into(),
            password: "pw".into(),
            version: Version::V3,
            qos1: true,
            window: 10,
            keep_alive_s: 60,
            subscribe: None,
            seed: 1,
        }
    }

    async fn read(socket: &mut TcpStream, n: usize) -> Vec<u8> {
        let mut buffer = vec![0; n];
        socket.read_exact(&mut buffer).await.unwrap();
        buffer
    }

    fn message(tag: u64) -> Order {
        Order::Publish(Message { tag, topic: "t".into(), payload: vec![b'x'] })
    }

    #[tokio::test]
    async fn unacknowledged_messages_are_sent_again_with_dup_until_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (orders, orders_rx) = mpsc::channel(10);
        let (notices, mut heard) = mpsc::channel(100);
        let client = tokio::spawn(run(config(address), orders_rx, notices));
        let (mut first, _) = listener.accept().await.unwrap();
        assert_eq!(read(&mut first, 24).await[0], 0x10);
        first.write_all(ACK).await.unwrap();
        for tag in 1..=2 {
            orders.send(message(tag)).await.unwrap();
        }
        let sent = read(&mut first, 16).await;
        assert_eq!((sent[0], sent[8]), (0x32, 0x32));
        first.write_all(b"\x40\x02\x00\x01").await.unwrap();
        assert_eq!(heard.recv().await, Some((7, Notice::Connected)));
        assert_eq!(heard.recv().await, Some((7, Notice::Acked(1))));
        drop(first);
        drop(orders);
        let (mut second, _) = listener.accept().await.unwrap();
        read(&mut second, 24).await;
        second.write_all(ACK).await.unwrap();
        assert_eq!(read(&mut second, 8).await, b"\x3a\x06\x00\x01t\x00\x02x");
        second.write_all(b"\x40\x02\x00\x02").await.unwrap();
        assert_eq!(read(&mut second, 2).await, [0xe0, 0], "done: it says good-bye");
        assert_eq!(client.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_bad_password_is_final_and_names_the_device() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (_orders, orders_rx) = mpsc::channel(10);
        let (notices, _heard) = mpsc::channel(100);
        let client = tokio::spawn(run(config(address), orders_rx, notices));
        let (mut socket, _) = listener.accept().await.unwrap();
        read(&mut socket, 24).await;
        socket.write_all(b"\x20\x02\x00\x04").await.unwrap();
        let error = client.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("d1") && error.contains("password"), "{error}");
    }
}
