//! The reader actor: connects, lets a [`Session`] speak, hands on its frames, and mends the connection.
//!
//! It keeps nothing that matters: what the reader said is in the journal, or still at the reader. One life of the actor serves
//! one configuration; a changed one is another life, started by whoever holds the [`Handle`].

use std::{
    convert::Infallible,
    io,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Mutex, mpsc},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{About, Delivered, Dial, Pipe, ReaderError, ReaderHealth, ReaderSpec, Session, Sink};
use crate::{
    guardian::{End, Policy, Status, guard},
    ports::rng::Rng,
};

/// A connection is made within this time, in milliseconds, TLS included.
pub const CONNECT_MS_MAX: u64 = 5_000;
/// What the hub says is taken by the reader within this time, in milliseconds.
pub const WRITE_MS_MAX: u64 = 5_000;
/// First wait before a connection is tried again, in milliseconds; doubles.
pub const BACKOFF_MS_MIN: u64 = 250;
/// Longest wait before a connection is tried again, in milliseconds.
pub const BACKOFF_MS_MAX: u64 = 10_000;
/// First wait after a reader has said no, in milliseconds; doubles.
const BACKOFF_REFUSED_MS_MIN: u64 = 2_000;
/// Longest wait after a reader has said no, in milliseconds: asking faster changes nothing.
pub const BACKOFF_REFUSED_MS_MAX: u64 = 30_000;
/// How long a message waits for room in the journal, in milliseconds; then it is given up and counted.
pub const FULL_MS_MAX: u64 = 10_000;
/// Bytes read at once at most.
pub const READ_BYTES_MAX: usize = 64 * 1024;
/// How long a good-bye may take, in milliseconds.
const CLOSE_MS_MAX: u64 = 500;
/// Pause between two offers of a message to a full journal, in milliseconds.
const FULL_LOOK_MS: u64 = 10;
/// With nothing to do the actor still beats this often, in milliseconds.
const IDLE_MS: u64 = 1_000;

/// A reader as others hold it. Its actor ends, politely, when the last clone is dropped.
#[derive(Clone)]
pub struct Handle {
    /// What it is configured as.
    pub spec: Arc<ReaderSpec>,
    /// Its figures.
    pub health: Arc<ReaderHealth>,
    _held: mpsc::Sender<Infallible>,
}

/// The actor's end of a [`Handle`]; it outlives a life that fails.
struct Inbox {
    spec: Arc<ReaderSpec>,
    health: Arc<ReaderHealth>,
    held: mpsc::Receiver<Infallible>,
}

/// Starts a reader under a guardian on the current arbiter.
pub fn start<K: Sink + Clone>(
    spec: ReaderSpec,
    sink: K,
    dial: Dial,
    policy: Policy,
    rng: Arc<dyn Rng>,
) -> (Handle, Arc<Status>) {
    let (sender, held) = mpsc::channel(1);
    let handle = Handle { spec: Arc::new(spec), health: Arc::default(), _held: sender };
    let inbox = Inbox { spec: Arc::clone(&handle.spec), health: Arc::clone(&handle.health), held };
    let inbox = Rc::new(Mutex::new(inbox));
    let name = format!("reader {}", handle.spec.id);
    let dice = Arc::clone(&rng);
    let status = guard(&name, policy, rng, move |status| {
        let (inbox, sink) = (Rc::clone(&inbox), sink.clone());
        let (dial, rng) = (Arc::clone(&dial), Arc::clone(&dice));
        async move {
            let mut inbox = inbox.lock().await;
            let reader = Reader {
                spec: Arc::clone(&inbox.spec),
                health: Arc::clone(&inbox.health),
                sink,
                status,
                began: Instant::now(),
            };
            reader.run(&mut inbox.held, &dial, &rng).await;
            End::Done
        }
    });
    (handle, status)
}

/// Connects, within [`CONNECT_MS_MAX`].
pub(super) async fn connect(
    dial: &Dial,
    address: &super::ReaderAddress,
) -> Result<Box<dyn Pipe>, ReaderError> {
    match timeout(Duration::from_millis(CONNECT_MS_MAX), dial(address)).await {
        Err(_) => Err(ReaderError::Down(format!("no connection within {CONNECT_MS_MAX} ms"))),
        Ok(Err(error)) => Err(ReaderError::Down(error.to_string())),
        Ok(Ok(pipe)) => Ok(pipe),
    }
}

/// Sends what a session has to say.
pub(super) async fn flush(pipe: &mut dyn Pipe, session: &mut Session) -> Result<(), ReaderError> {
    let bytes = session.outgoing();
    if bytes.is_empty() {
        return Ok(());
    }
    let write = async {
        pipe.write_all(&bytes).await?;
        pipe.flush().await
    };
    match timeout(Duration::from_millis(WRITE_MS_MAX), write).await {
        Err(_) => Err(ReaderError::Timeout { what: "by taking what it is told", ms: WRITE_MS_MAX }),
        Ok(Err(error)) => Err(down(&error)),
        Ok(Ok(())) => Ok(()),
    }
}

pub(super) fn down(error: &io::Error) -> ReaderError {
    ReaderError::Down(error.to_string())
}

/// How a connection ended.
enum Ended {
    /// Nobody holds the reader any more.
    Stopped,
    /// It failed; `worked` = the reader had been set.
    Failed { why: ReaderError, worked: bool },
}

struct Reader<K> {
    spec: Arc<ReaderSpec>,
    health: Arc<ReaderHealth>,
    sink: K,
    status: Arc<Status>,
    began: Instant,
}

impl<K: Sink> Reader<K> {
    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn beat(&self) {
        self.status.beat();
        self.health.lived_us.store(self.now_us(), Relaxed);
    }

    /// Serves a reader until its handle is dropped.
    async fn run(&self, held: &mut mpsc::Receiver<Infallible>, dial: &Dial, rng: &Arc<dyn Rng>) {
        let mut backoff_ms = BACKOFF_MS_MIN;
        loop {
            self.beat();
            let opened = tokio::select! {
                opened = connect(dial, &self.spec.address) => opened,
                _ = held.recv() => return,
            };
            let ended = match opened {
                Ok(pipe) => self.serve(pipe, held).await,
                Err(why) => Ended::Failed { why, worked: false },
            };
            self.health.up.store(false, Relaxed);
            let Ended::Failed { why, worked } = ended else { return };
            let text = why.to_string();
            if self.health.error() == text {
                tracing::debug!(reader = self.spec.id, %why, "reader lost; trying on");
            } else {
                tracing::warn!(reader = self.spec.id, address = %self.spec.address, %why, "reader lost; trying on");
            }
            self.health.note_error(&why);
            let (least_ms, most_ms) = limits(&why);
            if worked {
                backoff_ms = least_ms;
            }
            backoff_ms = backoff_ms.clamp(least_ms, most_ms);
            let until = Instant::now() + Duration::from_millis(rng.jitter_ms(backoff_ms));
            backoff_ms = backoff_ms.saturating_mul(2);
            while Instant::now() < until {
                self.beat();
                let look = (Instant::now() + Duration::from_millis(IDLE_MS)).min(until);
                tokio::select! {
                    _ = held.recv() => return,
                    () = sleep_until(look) => {}
                }
            }
        }
    }

    /// Serves one connection.
    async fn serve(&self, mut pipe: Box<dyn Pipe>, held: &mut mpsc::Receiver<Infallible>) -> Ended {
        let mut session = Session::new(self.spec.settings.clone(), self.now_us());
        let mut chunk = Vec::with_capacity(READ_BYTES_MAX);
        let mut worked = false;
        loop {
            self.beat();
            let step = tokio::select! {
                // Whoever stops the reader need not wait for it to fall silent.
                biased;
                _ = held.recv() => {
                    self.part(&mut *pipe, &mut session).await;
                    return Ended::Stopped;
                }
                step = self.step(&mut *pipe, &mut session, &mut chunk) => step,
            };
            if session.is_running() && !worked {
                worked = true;
                self.connected(&session);
            }
            self.health.add(session.counted());
            self.hand_on(&mut session).await;
            if let Err(why) = step {
                return Ended::Failed { why, worked };
            }
        }
    }

    /// Says what is to be said, then reads once or waits until something is due.
    async fn step(
        &self,
        pipe: &mut dyn Pipe,
        session: &mut Session,
        chunk: &mut Vec<u8>,
    ) -> Result<(), ReaderError> {
        flush(pipe, session).await?;
        let now_us = self.now_us();
        let wait_us = session.due_us().saturating_sub(now_us).min(IDLE_MS * 1_000);
        chunk.clear();
        match timeout(Duration::from_micros(wait_us), pipe.read_buf(chunk)).await {
            Err(_) => {}
            Ok(Ok(0)) => return Err(ReaderError::Closed),
            Ok(Ok(_)) => {
                let now_us = self.now_us();
                self.health.heard_us.store(now_us.max(1), Relaxed);
                session.receive(chunk, now_us)?;
            }
            Ok(Err(error)) => return Err(down(&error)),
        }
        session.tick(self.now_us())
    }

    fn connected(&self, session: &Session) {
        self.health.note_connected();
        if let Some(capabilities) = session.capabilities() {
            let about = About::of(capabilities);
            tracing::info!(
                reader = self.spec.id,
                address = %self.spec.address,
                vendor = about.vendor,
                model = about.model,
                firmware = about.firmware,
                antennas = about.antennas,
                "reader is connected and set"
            );
            self.health.note_about(about);
        }
    }

    /// Hands on every frame. Meanwhile the socket is not read: what the journal cannot take waits at the reader.
    async fn hand_on(&self, session: &mut Session) {
        let before_us = self.now_us();
        while let Some(frame) = session.frame() {
            self.offer(&frame).await;
        }
        session.paused(self.now_us() - before_us);
    }

    async fn offer(&self, frame: &Bytes) {
        let until = Instant::now() + Duration::from_millis(FULL_MS_MAX);
        loop {
            let counter = match self.sink.deliver(&self.spec.device, &self.spec.stream, frame) {
                Delivered::Taken => &self.health.delivered,
                Delivered::Refused => &self.health.refused,
                Delivered::Full if Instant::now() >= until => {
                    tracing::warn!(
                        reader = self.spec.id,
                        "the journal has no room for so long that a message of the reader is given up"
                    );
                    &self.health.lost
                }
                Delivered::Full => {
                    self.beat();
                    sleep(Duration::from_millis(FULL_LOOK_MS)).await;
                    continue;
                }
            };
            counter.fetch_add(1, Relaxed);
            return;
        }
    }

    /// Says good-bye, and takes what comes until the reader has answered.
    async fn part(&self, pipe: &mut dyn Pipe, session: &mut Session) {
        session.close(self.now_us());
        let until = Instant::now() + Duration::from_millis(CLOSE_MS_MAX);
        let mut chunk = Vec::with_capacity(READ_BYTES_MAX);
        while !session.is_closed() && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            let step = timeout(left, self.step(pipe, session, &mut chunk)).await;
            while let Some(frame) = session.frame() {
                // One try: the hub is being stopped or the reader taken away.
                if self.sink.deliver(&self.spec.device, &self.spec.stream, &frame)
                    != Delivered::Taken
                {
                    self.health.lost.fetch_add(1, Relaxed);
                }
            }
            if !matches!(step, Ok(Ok(()))) {
                break;
            }
        }
        self.health.up.store(false, Relaxed);
        // The connection is over either way.
        let _ = timeout(Duration::from_millis(CLOSE_MS_MAX), pipe.shutdown()).await;
    }
}

/// Shortest and longest wait after an error, in milliseconds.
fn limits(why: &ReaderError) -> (u64, u64) {
    match why {
        ReaderError::Taken(_) | ReaderError::Rejected { .. } | ReaderError::Unable(_) => {
            (BACKOFF_REFUSED_MS_MIN, BACKOFF_REFUSED_MS_MAX)
        }
        ReaderError::Down(_)
        | ReaderError::NoGreeting(_)
        | ReaderError::Timeout { .. }
        | ReaderError::Silent(_)
        | ReaderError::Hang(_)
        | ReaderError::Garbled(_)
        | ReaderError::Closed => (BACKOFF_MS_MIN, BACKOFF_MS_MAX),
    }
}
