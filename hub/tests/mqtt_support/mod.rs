//! What the MQTT tests share: an ingress whose journal the test commits by hand, packets written byte by byte
//! (never by the codec under test), a session driven without a socket, and a real listener.
#![allow(dead_code, missing_docs, reason = "each test binary uses its part")]
#![allow(clippy::disallowed_methods, reason = "tests measure real time")]

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::BytesMut;
use hub::mqtt::{
    Accepted, AckCell, AuthRefusal, Core, Grant, Hello, Inbound, Ingress, Limits, Listener,
    PublishRefusal, Refused, Route, Settled, TopicAction, TopicRefusal,
    outbox::{Control, Mailbox},
    session::{Progress, Session},
};
use tokio::time::Instant;

pub const V3: u8 = 4;
pub const V5: u8 = 5;

/// Devices `a` and `b`, password `pw-{device}`; device `off` is disabled.
/// Topics: `stockfold/v1/{device}/{stream}` up, `…/cmd/#` down, `…/local/#` between clients of a device.
#[derive(Default)]
pub struct TestIngress {
    pub appended: Mutex<Vec<(String, Vec<u8>)>>,
    waiting: Mutex<VecDeque<Arc<AckCell>>>,
    pub by_hand: AtomicBool,
    pub capacity: AtomicUsize,
    pub generation: AtomicUsize,
    pub refused: Mutex<Vec<(String, Refused)>>,
}

impl TestIngress {
    pub fn by_hand() -> Arc<Self> {
        let ingress = Self::default();
        ingress.by_hand.store(true, SeqCst);
        ingress.capacity.store(usize::MAX, SeqCst);
        Arc::new(ingress)
    }

    pub fn at_once() -> Arc<Self> {
        let ingress = Self::default();
        ingress.capacity.store(usize::MAX, SeqCst);
        Arc::new(ingress)
    }

    /// Makes the oldest `n` appends durable.
    pub fn commit(&self, n: usize) {
        let cells: Vec<_> = {
            let mut waiting = self.waiting.lock().unwrap();
            let n = n.min(waiting.len());
            waiting.drain(..n).collect()
        };
        for cell in cells {
            cell.complete(1, 0);
        }
    }

    pub fn payloads(&self) -> Vec<String> {
        let appended = self.appended.lock().unwrap();
        appended.iter().map(|(_, p)| String::from_utf8_lossy(p).into_owned()).collect()
    }
}

impl Ingress for TestIngress {
    fn authenticate(&self, hello: &Hello<'_>) -> Result<Grant, AuthRefusal> {
        let user = hello.username.ok_or(AuthRefusal::BadCredentials)?;
        let known = matches!(user, "a" | "b" | "off") || user.starts_with("load-");
        if !known {
            return Err(AuthRefusal::NotEnrolled);
        }
        if hello.password != Some(format!("pw-{user}").as_bytes()) {
            return Err(AuthRefusal::BadCredentials);
        }
        if user == "off" {
            return Err(AuthRefusal::Disabled);
        }
        let generation = self.generation.load(SeqCst) as u64;
        Ok(Grant { device: user.into(), generation, context: Arc::new(()) })
    }

    fn authorise(
        &self,
        grant: &Grant,
        action: TopicAction,
        topic: &str,
    ) -> Result<Route, TopicRefusal> {
        let rest = topic.strip_prefix("stockfold/v1/").ok_or(TopicRefusal::Unknown)?;
        let (device, stream) = rest.split_once('/').ok_or(TopicRefusal::Unknown)?;
        if device != &*grant.device {
            return Err(TopicRefusal::NotAuthorised);
        }
        if stream == "local" || stream.starts_with("local/") {
            return Ok(Route::DeviceLocal);
        }
        match action {
            TopicAction::Subscribe if stream.starts_with("cmd/") => Ok(Route::DeviceLocal),
            TopicAction::Subscribe => Err(TopicRefusal::NotAuthorised),
            TopicAction::Publish if stream.starts_with("cmd") => Err(TopicRefusal::NotAuthorised),
            TopicAction::Publish if stream.contains('/') => Err(TopicRefusal::Unknown),
            TopicAction::Publish => Ok(Route::Reading { stream: stream.into(), of: None }),
        }
    }

    fn publish(
        &self,
        _: &Grant,
        route: &Route,
        publish: &Inbound<'_>,
        ack: &Arc<AckCell>,
    ) -> Result<Accepted, PublishRefusal> {
        assert!(matches!(route, Route::Reading { .. }), "only readings come here");
        match &publish.payload[..] {
            b"panic" => panic!("the test asked for it"),
            b"invalid" => return Ok(Accepted::Settled(Settled::PayloadInvalid)),
            b"quota" => return Err(PublishRefusal::Quota),
            b"stopping" => return Err(PublishRefusal::Unavailable),
            _ => {}
        }
        if self.waiting.lock().unwrap().len() >= self.capacity.load(SeqCst) {
            return Err(PublishRefusal::QueueFull);
        }
        self.appended.lock().unwrap().push((publish.topic.into(), publish.payload.to_vec()));
        if self.by_hand.load(SeqCst) {
            self.waiting.lock().unwrap().push_back(Arc::clone(ack));
        } else {
            ack.complete(1, 0);
        }
        Ok(Accepted::Journaled)
    }

    fn refused(&self, grant: &Grant, refused: Refused) {
        self.refused.lock().unwrap().push((grant.device.to_string(), refused));
    }
}

// ---- packets by hand -------------------------------------------------------------------------------------------

pub fn text(s: &str) -> Vec<u8> {
    let mut v = (s.len() as u16).to_be_bytes().to_vec();
    v.extend_from_slice(s.as_bytes());
    v
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut v = vec![first];
    let mut n = body.len();
    loop {
        let more = n > 127;
        v.push((n % 128) as u8 | if more { 128 } else { 0 });
        n /= 128;
        if !more {
            break;
        }
    }
    v.extend_from_slice(body);
    v
}

/// A property section: its length, then the bytes.
pub fn props(bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 128);
    let mut v = vec![bytes.len() as u8];
    v.extend_from_slice(bytes);
    v
}

#[derive(Clone)]
pub struct Will<'a> {
    pub topic: &'a str,
    pub payload: &'a str,
    pub qos: u8,
    pub retain: bool,
    pub delay: u32,
}

#[derive(Clone)]
pub struct Hi<'a> {
    pub level: u8,
    pub id: &'a str,
    pub user: &'a str,
    pub password: &'a str,
    pub clean: bool,
    pub keep_alive: u16,
    pub properties: &'a [u8],
    pub will: Option<Will<'a>>,
}

impl Hi<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        let mut b = text("MQTT");
        let mut flags = 0b1100_0000 | u8::from(self.clean) << 1;
        if let Some(w) = &self.will {
            flags |= 4 | w.qos << 3 | u8::from(w.retain) << 5;
        }
        b.push(self.level);
        b.push(flags);
        b.extend(self.keep_alive.to_be_bytes());
        if self.level == V5 {
            b.extend(props(self.properties));
        }
        b.extend(text(self.id));
        if let Some(w) = &self.will {
            if self.level == V5 {
                let mut delay = vec![0x18];
                delay.extend(w.delay.to_be_bytes());
                b.extend(props(&delay));
            }
            b.extend(text(w.topic));
            b.extend(text(w.payload));
        }
        b.extend(text(self.user));
        b.extend(text(self.password));
        packet(0x10, &b)
    }
}

/// Device `a` as itself, clean.
pub fn hi(level: u8) -> Hi<'static> {
    Hi {
        level,
        id: "a",
        user: "a",
        password: "pw-a",
        clean: true,
        keep_alive: 60,
        properties: &[],
        will: None,
    }
}

pub fn publish_with(
    level: u8,
    first: u8,
    topic: &str,
    id: u16,
    properties: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut b = text(topic);
    if first & 0b110 != 0 {
        b.extend(id.to_be_bytes());
    }
    if level == V5 {
        b.extend(props(properties));
    }
    b.extend_from_slice(payload);
    packet(first, &b)
}

pub fn publish(level: u8, qos: u8, topic: &str, id: u16, payload: &str) -> Vec<u8> {
    publish_with(level, 0x30 | qos << 1, topic, id, &[], payload.as_bytes())
}

pub fn subscribe_with(level: u8, id: u16, properties: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
    let mut b = id.to_be_bytes().to_vec();
    if level == V5 {
        b.extend(props(properties));
    }
    for (filter, options) in filters {
        b.extend(text(filter));
        b.push(*options);
    }
    packet(0x82, &b)
}

pub fn subscribe(level: u8, id: u16, filter: &str, qos: u8) -> Vec<u8> {
    subscribe_with(level, id, &[], &[(filter, qos)])
}

pub fn ack(first: u8, id: u16) -> Vec<u8> {
    let [h, l] = id.to_be_bytes();
    vec![first, 2, h, l]
}

pub const PING: [u8; 2] = [0xC0, 0];
pub const PONG: [u8; 2] = [0xD0, 0];

/// Splits bytes into packets: first byte and body.
pub fn packets(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (mut n, mut at) = (0usize, 1);
        loop {
            n |= usize::from(bytes[at] & 127) << (7 * (at - 1));
            at += 1;
            if bytes[at - 1] < 128 {
                break;
            }
        }
        found.push((bytes[0], bytes[at..at + n].to_vec()));
        bytes = &bytes[at + n..];
    }
    found
}

/// A PUBLISH as (first byte, topic, packet id, properties, payload).
pub fn published(level: u8, (first, body): &(u8, Vec<u8>)) -> (u8, String, u16, Vec<u8>, String) {
    assert_eq!(first >> 4, 3, "not a PUBLISH: {first:#x} {body:?}");
    let n = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let topic = String::from_utf8(body[2..2 + n].to_vec()).unwrap();
    let mut at = 2 + n;
    let mut id = 0;
    if first & 0b110 != 0 {
        id = u16::from_be_bytes([body[at], body[at + 1]]);
        at += 2;
    }
    let mut properties = Vec::new();
    if level == V5 {
        let n = usize::from(body[at]);
        properties = body[at + 1..at + 1 + n].to_vec();
        at += 1 + n;
    }
    (*first, topic, id, properties, String::from_utf8(body[at..].to_vec()).unwrap())
}

// ---- a session without a socket --------------------------------------------------------------------------------

struct Posted(Arc<Mutex<Vec<Control>>>);

impl Mailbox for Posted {
    fn post(&self, control: Control) -> bool {
        self.0.lock().unwrap().push(control);
        true
    }
}

pub fn core(limits: Limits, ingress: &Arc<TestIngress>) -> (Arc<Core>, Instant) {
    let now = Instant::now();
    let ingress: Arc<TestIngress> = Arc::clone(ingress);
    (Core::new(limits, ingress, now), now)
}

/// One client of a session without a socket.
pub struct Peer {
    pub session: Session,
    pub input: BytesMut,
    pub now: Instant,
    posted: Arc<Mutex<Vec<Control>>>,
    out: BytesMut,
}

impl Peer {
    pub fn new(core: &Arc<Core>, now: Instant) -> Self {
        let posted = Arc::new(Mutex::new(Vec::new()));
        let mailbox = Box::new(Posted(Arc::clone(&posted)));
        let connection = core.registry.next_connection();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let session = Session::new(Arc::clone(core), connection, peer.into(), mailbox, now);
        Self { session, input: BytesMut::new(), now, posted, out: BytesMut::new() }
    }

    /// A client that has connected; its CONNACK is consumed.
    pub fn connected(core: &Arc<Core>, now: Instant, hi: &Hi<'_>) -> Self {
        let mut peer = Self::new(core, now);
        assert_eq!(peer.send(&hi.bytes()), Progress::NeedMore);
        let connack = peer.received();
        assert_eq!((connack[0].0, connack[0].1[1]), (0x20, 0), "{connack:?}");
        peer
    }

    pub fn send(&mut self, bytes: &[u8]) -> Progress {
        self.input.extend_from_slice(bytes);
        self.go_on()
    }

    /// Acts on what the mailbox holds, on what is buffered, on what became durable and on the outbox.
    pub fn go_on(&mut self) -> Progress {
        let posted = std::mem::take(&mut *self.posted.lock().unwrap());
        if let Some(cause) = posted.into_iter().find_map(Session::cause_of) {
            let cause = self.session.finish(cause, self.now, &mut self.out);
            return Progress::Over(cause);
        }
        let progress = self.session.receive(&mut self.input, self.now, &mut self.out);
        self.session.settle(&mut self.out);
        self.session.deliver(self.now, &mut self.out);
        progress
    }

    pub fn lose(&mut self) {
        self.session.finish(hub::mqtt::cause::Cause::Lost, self.now, &mut self.out);
    }

    pub fn raw(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out).to_vec()
    }

    pub fn received(&mut self) -> Vec<(u8, Vec<u8>)> {
        packets(&self.raw())
    }

    /// What came since, all of it PUBLISH: (first byte, topic, id, properties, payload).
    pub fn messages(&mut self, level: u8) -> Vec<(u8, String, u16, Vec<u8>, String)> {
        self.go_on();
        self.received().iter().map(|p| published(level, p)).collect()
    }
}

// ---- a real listener -------------------------------------------------------------------------------------------

/// A listener on loopback with its own actix system in a thread.
pub struct Server {
    pub address: SocketAddr,
    pub core: Arc<Core>,
    pub ingress: Arc<TestIngress>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(limits: Limits, ingress: Arc<TestIngress>) -> Self {
        let (told, tell) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let port: Arc<TestIngress> = Arc::clone(&ingress);
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let core = Core::new(limits, port, Instant::now());
                let any = SocketAddr::from(([127, 0, 0, 1], 0));
                let listener = Listener::bind(core, any, None, 2).await.unwrap();
                told.send((listener.address(), Arc::clone(listener.core()))).unwrap();
                let _ = stopped.await;
                listener.drain().await;
            });
        });
        let (address, core) = tell.recv().unwrap();
        Self { address, core, ingress, stop: Some(stop), thread: Some(thread) }
    }

    pub fn raw(&self) -> Raw {
        Raw::new(self.address)
    }

    pub fn connected(&self, hi: &Hi<'_>) -> Raw {
        let mut raw = self.raw();
        raw.send(&hi.bytes());
        let (first, body) = raw.packet();
        assert_eq!((first, body[1]), (0x20, 0), "{body:?}");
        raw
    }

    pub fn begin_drain(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.begin_drain();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A blocking socket that speaks hand-made bytes. Ten seconds without an answer fail the test.
pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    pub fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        let first = byte[0];
        let (mut n, mut shift) = (0usize, 0);
        loop {
            self.stream.read_exact(&mut byte).unwrap();
            n |= usize::from(byte[0] & 127) << shift;
            shift += 7;
            if byte[0] < 128 {
                break;
            }
        }
        let mut body = vec![0; n];
        self.stream.read_exact(&mut body).unwrap();
        (first, body)
    }

    pub fn expect(&mut self, bytes: &[u8]) {
        let (first, body) = self.packet();
        assert_eq!(packet(first, &body), bytes);
    }

    /// The server says nothing more and closes.
    pub fn expect_close(&mut self) {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("not closed: {other:?} {byte:?}"),
        }
    }
}
