//! One generator connection: what is due, what is written, what is in flight.
//!
//! The worker's tick calls [`Connection::pump`]; a task of its own calls [`Connection::listen`], which takes the
//! acknowledgements and, when the connection breaks, brings it back and sends again what was not answered. Both run on
//! one thread, and no borrow of the state lives across an await.

use crate::load::layout::{device_id, sku_id};
use crate::load::template::{Template, seq_of};
use crate::load::{KEEP_ALIVE_S, Plan, Record};
use crate::mqtt::packet::{self, Connect, Incoming, RECEIVE_MAXIMUM_DEFAULT, Version};
use crate::random::Stream;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{sleep, timeout};

/// Unsent bytes of a connection beyond which nothing more is encoded.
const OUT_BYTES_MAX: usize = 256 * 1024;
/// Bytes read in one system call.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Longest connect and handshake.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// First and longest back-off, s: short, because a crash test waits for it.
const BACK_OFF_S: (f64, f64) = (0.02, 0.5);

/// What the connections of one thread share.
pub(super) struct Shared {
    pub plan: Plan,
    pub record: Arc<Record>,
    /// Connections that have something to write.
    pub busy: RefCell<Vec<Rc<Connection>>>,
    /// One buffer serves all readers of the thread.
    scratch: RefCell<Vec<u8>>,
    /// Reads that brought something.
    pub reads: Cell<u64>,
}

impl Shared {
    pub fn new(plan: Plan, record: Arc<Record>) -> Rc<Self> {
        let scratch = RefCell::new(vec![0; READ_BYTES_MAX]);
        Rc::new(Self { plan, record, busy: RefCell::default(), scratch, reads: Cell::new(0) })
    }
}

#[derive(Default)]
struct State {
    socket: Option<OwnedWriteHalf>,
    /// The other half, until the reader takes it.
    unread: Option<OwnedReadHalf>,
    /// Encoded and not yet written; `out_at` bytes of it are.
    out: Vec<u8>,
    out_at: usize,
    /// Received and not yet a whole packet.
    carry: Vec<u8>,
    /// Last frame that is due.
    due: u64,
    /// Last frame that was encoded.
    newest: u64,
    /// All frames up to this one are answered.
    answered: u64,
    /// Encoded and not answered.
    open: usize,
    window: usize,
    /// It is in [`Shared::busy`].
    busy: bool,
    closing: bool,
}

pub(super) struct Connection {
    shared: Rc<Shared>,
    pub device: usize,
    template: Template,
    state: RefCell<State>,
}

/// An open socket and the server's Receive Maximum.
pub(super) struct Opened {
    pub socket: TcpStream,
    pub receive_maximum: u16,
}

/// Connects a device: TCP, CONNECT, CONNACK.
pub(super) async fn open(
    address: &str,
    device: &str,
    password: &str,
    version: Version,
) -> Result<Opened, String> {
    let handshake = async {
        let mut socket = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        socket.set_nodelay(true).map_err(|e| e.to_string())?;
        let mut out = Vec::new();
        packet::connect(
            &mut out,
            &Connect {
                version,
                client_id: device,
                clean: true,
                keep_alive_s: KEEP_ALIVE_S,
                session_expiry_s: 0,
                login: Some((device, password)),
            },
        );
        socket.write_all(&out).await.map_err(|e| e.to_string())?;
        let mut input = Vec::new();
        loop {
            match packet::decode(&input, version).map_err(|e| e.to_string())? {
                Some((Incoming::ConnAck { code: 0, receive_maximum, .. }, _)) => {
                    return Ok(Opened { socket, receive_maximum });
                }
                Some((Incoming::ConnAck { code, .. }, _)) => {
                    return Err(format!("refused: {}", packet::reason(version, code)));
                }
                Some((other, _)) => return Err(format!("no CONNACK but {other:?}")),
                None => {}
            }
            if socket.read_buf(&mut input).await.map_err(|e| e.to_string())? == 0 {
                return Err("the server closed the connection before CONNACK".into());
            }
        }
    };
    let late = |_| Err(format!("no CONNACK within {} s", OPEN_TIMEOUT.as_secs()));
    timeout(OPEN_TIMEOUT, handshake).await.unwrap_or_else(late)
}

impl Connection {
    pub fn new(shared: &Rc<Shared>, device: usize) -> Rc<Self> {
        let plan = &shared.plan;
        let (id, sku) = (device_id(device), sku_id(device));
        Rc::new(Self {
            shared: Rc::clone(shared),
            device,
            template: Template::new(plan.kind, plan.version, &id, &plan.boot, &sku),
            state: RefCell::default(),
        })
    }

    /// Opens the socket and makes it ready to send, what was not answered first.
    pub async fn connect(&self) -> Result<(), String> {
        let (plan, record) = (&self.shared.plan, &self.shared.record);
        let id = device_id(self.device);
        let opened = open(&plan.mqtt, &id, &plan.passwords[self.device], plan.version).await?;
        let mut s = self.state.borrow_mut();
        let limit = match plan.version {
            Version::V3 => RECEIVE_MAXIMUM_DEFAULT,
            Version::V5 => opened.receive_maximum,
        };
        s.window = plan.window_frames.min(limit).into();
        s.out.clear();
        s.carry.clear();
        s.out_at = 0;
        let mut again = 0;
        for seq in s.answered + 1..=s.newest {
            if !record.is_answered(self.device, seq) {
                self.template.write(seq, true, &mut s.out);
                again += 1;
            }
        }
        record.counters.resent.fetch_add(again, Relaxed);
        record.counters.connected.fetch_add(1, Relaxed);
        s.open = again as usize;
        let (reader, writer) = opened.socket.into_split();
        (s.socket, s.unread) = (Some(writer), Some(reader));
        Ok(())
    }

    /// `frames` more are due.
    pub fn due(self: &Rc<Self>, frames: u64) {
        self.state.borrow_mut().due += frames;
        self.mark_busy();
    }

    pub fn mark_busy(self: &Rc<Self>) {
        if !std::mem::replace(&mut self.state.borrow_mut().busy, true) {
            self.shared.busy.borrow_mut().push(Rc::clone(self));
        }
    }

    /// Writes what is due; true when something is left to write.
    pub fn pump(&self, now_us: u64) -> bool {
        let mut guard = self.state.borrow_mut();
        let s = &mut *guard;
        let (record, first) = (&self.shared.record, s.newest);
        if s.socket.is_some() {
            while s.newest < s.due && s.out.len() < OUT_BYTES_MAX {
                if s.open >= s.window {
                    record.counters.window_full.fetch_add(1, Relaxed);
                    break;
                }
                s.newest += 1;
                s.open += 1;
                self.template.write(s.newest, false, &mut s.out);
                record.note_written(self.device, s.newest, now_us);
            }
            record.counters.written.fetch_add(s.newest - first, Relaxed);
        }
        s.busy = !s.flush() || s.newest < s.due;
        s.busy
    }

    /// Everything due is written and answered.
    pub fn is_done(&self) -> bool {
        let s = self.state.borrow();
        s.newest >= s.due && s.open == 0
    }

    /// Says good-bye; the reader then ends without coming back.
    pub fn close(&self) {
        let mut s = self.state.borrow_mut();
        s.closing = true;
        packet::disconnect(&mut s.out);
        s.flush();
        s.socket = None;
    }

    /// Takes acknowledgements until the load is over; reconnects when the plan says so.
    pub async fn listen(self: Rc<Self>) {
        let label = "load back-off";
        let mut jitter = Stream::new(self.shared.plan.seed, label, self.device as u64);
        loop {
            let unread = self.state.borrow_mut().unread.take();
            let Some(mut socket) = unread else { return };
            let why = poll_fn(|cx| self.read(&mut socket, cx)).await;
            let counters = &self.shared.record.counters;
            counters.connected.fetch_sub(1, Relaxed);
            {
                let mut s = self.state.borrow_mut();
                s.socket = None;
                if s.closing {
                    return;
                }
            }
            tracing::debug!(device = self.device, why, "connection lost");
            counters.disconnects.fetch_add(1, Relaxed);
            if !self.shared.plan.reconnect {
                return;
            }
            let mut longest = BACK_OFF_S.0;
            loop {
                sleep(Duration::from_secs_f64(jitter.uniform(longest / 2.0, longest))).await;
                if self.state.borrow().closing {
                    return;
                }
                if self.connect().await.is_ok() {
                    break;
                }
                longest = (longest * 2.0).min(BACK_OFF_S.1);
            }
            if self.state.borrow().closing {
                self.close();
                counters.connected.fetch_sub(1, Relaxed);
                return;
            }
            self.mark_busy();
        }
    }

    /// Reads until the connection ends; why it did. Polled by hand, so that all connections of a thread can share one
    /// buffer, and because a short read then needs no second system call to learn that nothing is left.
    fn read(&self, socket: &mut OwnedReadHalf, cx: &mut Context<'_>) -> Poll<String> {
        let mut scratch = self.shared.scratch.borrow_mut();
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut *socket).poll_read(cx, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => {
                    return Poll::Ready("closed by the server".into());
                }
                Ok(()) => {
                    self.shared.reads.set(self.shared.reads.get() + 1);
                    if let Err(why) = self.take(buffer.filled()) {
                        return Poll::Ready(why);
                    }
                }
                Err(e) => return Poll::Ready(e.to_string()),
            }
        }
    }

    /// Takes received bytes: nearly always whole PUBACKs.
    fn take(&self, bytes: &[u8]) -> Result<(), String> {
        let now_us = self.shared.record.now_us();
        let mut s = self.state.borrow_mut();
        let mut joined = std::mem::take(&mut s.carry);
        let mut rest = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        let mut acked = 0;
        loop {
            // A PUBACK without reason, the same in both versions.
            if let [0x40, 2, hi, lo, after @ ..] = rest {
                acked += self.answered(&mut s, u16::from_be_bytes([*hi, *lo]), 0, now_us);
                rest = after;
                continue;
            }
            match packet::decode(rest, self.shared.plan.version).map_err(|e| e.to_string())? {
                None => break,
                Some((packet, used)) => {
                    rest = &rest[used..];
                    match packet {
                        Incoming::PubAck { id, code } => {
                            acked += self.answered(&mut s, id, code, now_us);
                        }
                        Incoming::Disconnect { code } => {
                            let why = packet::reason(self.shared.plan.version, code);
                            return Err(format!("the server disconnected: {why}"));
                        }
                        Incoming::ConnAck { .. }
                        | Incoming::Publish { .. }
                        | Incoming::SubAck { .. }
                        | Incoming::PingResp => {}
                    }
                }
            }
        }
        s.carry.extend_from_slice(rest);
        self.shared.record.counters.acked.fetch_add(acked, Relaxed);
        Ok(())
    }

    /// Notes an answer; 1 when it is the first acknowledgement of its frame.
    fn answered(&self, s: &mut State, id: u16, code: u8, now_us: u64) -> u64 {
        let record = &self.shared.record;
        let Some(seq) = seq_of(id, s.newest) else { return 0 };
        let refused = code >= 0x80;
        if !record.note_answer(self.device, seq, now_us, refused) {
            return 0;
        }
        s.open = s.open.saturating_sub(1);
        while s.answered < s.newest && record.is_answered(self.device, s.answered + 1) {
            s.answered += 1;
        }
        if refused {
            record.counters.refused.fetch_add(1, Relaxed);
        }
        u64::from(!refused)
    }
}

impl State {
    /// Writes what the socket takes; true when nothing is left.
    fn flush(&mut self) -> bool {
        let Some(socket) = &self.socket else { return self.out.is_empty() };
        while self.out_at < self.out.len() {
            match socket.try_write(&self.out[self.out_at..]) {
                Ok(n) => self.out_at += n,
                // Any other error is found by the reader, which owns what follows.
                Err(_) => return false,
            }
        }
        self.out.clear();
        self.out_at = 0;
        true
    }
}
