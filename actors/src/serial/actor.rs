//! The actor of a serial line.
//!
//! A life of it serves one configuration. A module is told to make rounds of inventory, and told so again when it is silent: it
//! may have been switched off and on, or be at the end of its rounds. What comes is gathered for [`GATHER_MS`], so that a module
//! that hears hundreds of tags a second does not fill the journal with as many entries. Rounds that found nothing are left out,
//! but for one in [`QUIET_MS`] when nothing else comes: they are the sign that the module listens.
//!
//! What the journal does not take is kept and offered again: scans by not reading on, a module's reads up to [`KEPT_BYTES_MAX`].
//!
//! When a port is lost, what was whole is journaled and the rest is noise: the next line begins anew.

use std::{
    path::Path,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use device_profiles::{
    codec::scanner::Context,
    profile::Codec,
    r200::{self, Deframer, Marks, NO_TAG},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Mutex,
    time::{Instant, sleep, sleep_until},
};
use tokio_serial::SerialStream;

use super::{Came, Lines, Session, Sessions};
use crate::{
    bus::{
        AskError, BusAddress, BusHealth, BusSpec, Delivered, Handle, Sink, UnitHealth, UnitSpec,
        handle::Inbox,
        link::{BACKOFF_MS_MAX, BACKOFF_MS_MIN, CallError, open_port},
    },
    guardian::{End, Policy, Status, guard},
    ports::rng::Rng,
};

/// How long frames of a module are gathered before they are journaled together, in milliseconds.
const GATHER_MS: u64 = 100;
/// Gathered bytes that are journaled at once.
const GATHERED_BYTES_MAX: usize = 32 * 1024;
/// Gathered bytes that are kept while the journal is full; one frame, and fewer tags than a frame may have.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// Rounds that found nothing are told this often, in milliseconds.
const QUIET_MS: u64 = 1_000;
/// A module that is silent for so long is told to make rounds again, in milliseconds.
const SILENT_MS: u64 = 2_000;
/// What was cut off is given up after so long a pause, in milliseconds; the longest frame takes less at 9,600 baud.
const PAUSE_MS_MAX: u64 = 500;
/// Rounds that a module is told to make: as many as it can be told.
const ROUNDS: u16 = u16::MAX;
/// Bytes read at once.
const READ_BYTES: usize = 4 * 1024;
/// How long a command to a module may take to be written, in milliseconds.
const WRITE_MS_MAX: u64 = 500;
/// A scanner's port is looked at this often, in milliseconds: between two looks it is not known when a line came.
const LOOK_MS: u64 = 100;
/// What the journal did not take is offered again after so long, in milliseconds.
const RETRY_MS: u64 = 50;
/// The actor beats, and looks whether its port is still there, this often, in milliseconds.
const IDLE_MS: u64 = 1_000;

/// Starts a line under a guardian on the current arbiter. It ends when the last clone of the handle is dropped.
pub fn start<K: Sink + Clone>(
    spec: BusSpec,
    sink: K,
    sessions: Sessions,
    policy: Policy,
    rng: Arc<dyn Rng>,
) -> (Handle, Arc<Status>) {
    let (handle, inbox) = Handle::new(spec);
    let name = format!("line {}", handle.spec.id);
    let inbox = Rc::new(Mutex::new(inbox));
    let dice = Arc::clone(&rng);
    let status = guard(&name, policy, rng, move |status| {
        let (inbox, sink, rng) = (Rc::clone(&inbox), sink.clone(), Arc::clone(&dice));
        let sessions = sessions.clone();
        async move {
            run(&mut *inbox.lock().await, &sink, &sessions, &rng, &status).await;
            End::Done
        }
    });
    (handle, status)
}

/// Why a link ended.
enum Over {
    /// Nobody holds the line any more.
    Left,
    /// The port is gone or broken.
    Lost(CallError),
}

async fn run<K: Sink>(
    inbox: &mut Inbox,
    sink: &K,
    sessions: &Sessions,
    rng: &Arc<dyn Rng>,
    status: &Status,
) {
    let (spec, health) = (Arc::clone(&inbox.spec), Arc::clone(&inbox.health));
    let began = Instant::now();
    let figures = Arc::clone(&inbox.units);
    // Nobody may be on the line yet: whoever is put there starts another life of it. What comes until then is let go.
    let told = spec.units.first().zip(figures.first()).and_then(|(unit, figures)| {
        let stream = unit.profile.streams.keys().next()?.clone();
        Some(Told { unit, stream, sink, health: &health, figures, began })
    });
    let mut ears = match spec.units.first().map(|unit| unit.profile.codec) {
        Some(Codec::SerialRfid) => Ears::Module(Module::new(began)),
        Some(_) | None => Ears::Scanner { lines: Lines::default(), sessions },
    };
    let mut backoff_ms = BACKOFF_MS_MIN;
    loop {
        status.beat();
        health.lived_us.store(micros(began), Relaxed);
        ears.offer(told.as_ref());
        match open(&spec.address) {
            Ok(mut port) => {
                tracing::info!(line = spec.id, address = %spec.address, "line is open");
                health.note_connected();
                let opened = Instant::now();
                ears.begin(opened);
                let told = told.as_ref();
                let over = serve(&mut port, inbox, told, &mut ears, rng, status, began).await;
                ears.cut(told);
                health.up.store(false, Relaxed);
                let Over::Lost(why) = over else { return leave(port, &ears).await };
                tracing::warn!(line = spec.id, %why, "line is lost; trying on");
                health.note_error(&why);
                if opened.elapsed() > Duration::from_millis(BACKOFF_MS_MAX) {
                    backoff_ms = BACKOFF_MS_MIN;
                }
            }
            Err(why) => {
                if health.error() != why.to_string() {
                    tracing::warn!(line = spec.id, %why, "line cannot be opened; trying on");
                }
                health.note_error(&why);
            }
        }
        let until = Instant::now() + Duration::from_millis(rng.jitter_ms(backoff_ms));
        backoff_ms = (backoff_ms * 2).min(BACKOFF_MS_MAX);
        loop {
            tokio::select! {
                asked = inbox.asks.recv() => match asked {
                    None => return,
                    Some((_, reply)) => drop(reply.send(Err(nothing_to_ask()))),
                },
                () = sleep_until(until) => break,
            }
        }
    }
}

fn nothing_to_ask() -> AskError {
    AskError::Unknown("stream or command that could be asked for".into())
}

fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds of a time since the actor began; of one that is not known, long ago.
fn millis(since: Option<Duration>) -> i64 {
    since.map_or(i64::MIN, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn open(address: &BusAddress) -> Result<SerialStream, CallError> {
    match address {
        BusAddress::Line(path, serial) => open_port(path, *serial),
        BusAddress::Tcp(_) | BusAddress::RtuOverTcp(..) | BusAddress::Rtu(..) => {
            Err(CallError::Down("not the address of a serial line of a reader or scanner".into()))
        }
    }
}

/// The figures of the one device of a line.
struct Told<'a, K> {
    unit: &'a UnitSpec,
    stream: String,
    sink: &'a K,
    health: &'a BusHealth,
    figures: &'a UnitHealth,
    began: Instant,
}

impl<K: Sink> Told<'_, K> {
    fn deliver(&self, raw: Vec<u8>) -> Delivered {
        let figures = self.figures;
        figures.polls.fetch_add(1, Relaxed);
        figures.answered_us.store(micros(self.began).max(1), Relaxed);
        let delivered = self.sink.deliver(&self.unit.device, &self.stream, raw);
        let counter = match delivered {
            Delivered::Taken => &figures.delivered,
            Delivered::Full => &figures.full,
            Delivered::Refused => &figures.refused,
        };
        counter.fetch_add(1, Relaxed);
        delivered
    }

    fn noise(&self, bytes: u64) {
        if bytes > 0 {
            self.figures.garbled.store(bytes, Relaxed);
            self.health.drains.store(bytes, Relaxed);
        }
    }
}

/// What listens to the bytes of a line.
enum Ears<'a> {
    Scanner { lines: Lines, sessions: &'a Sessions },
    Module(Module),
}

impl Ears<'_> {
    /// A port is open. Whoever is there may have been without power: a module is told to make rounds at once.
    fn begin(&mut self, now: Instant) {
        match self {
            Ears::Module(module) => module.silent_at = now,
            Ears::Scanner { .. } => {}
        }
    }

    /// What the journal did not take is offered again.
    fn offer<K: Sink>(&mut self, told: Option<&Told<'_, K>>) {
        if let (Ears::Module(module), Some(told)) = (self, told) {
            module.offer(told, Instant::now());
        }
    }

    /// The port is gone: what was whole is journaled, what was cut off is noise.
    fn cut<K: Sink>(&mut self, told: Option<&Told<'_, K>>) {
        let Some(told) = told else { return };
        match self {
            Ears::Scanner { lines, .. } => {
                lines.cut();
                told.noise(lines.noise());
            }
            Ears::Module(module) => {
                module.offer(told, Instant::now());
                module.deframer.forget();
                told.noise(module.deframer.noise());
            }
        }
    }
}

/// A module's frames as they are gathered.
struct Module {
    deframer: Deframer,
    gathered: Vec<u8>,
    /// When what is gathered goes to the journal.
    gather_until: Option<Instant>,
    /// The journal was full when it was offered last.
    refused: bool,
    /// Rounds that found nothing are not told before this.
    quiet_until: Instant,
    /// It is told to make rounds when it is silent until then.
    silent_at: Instant,
    marks: Marks,
}

impl Module {
    fn new(now: Instant) -> Self {
        Self {
            deframer: Deframer::default(),
            gathered: Vec::new(),
            gather_until: None,
            refused: false,
            quiet_until: now,
            silent_at: now,
            marks: Marks::Bb,
        }
    }

    fn take(&mut self, bytes: &[u8], now: Instant) {
        let whole = self.deframer.push(bytes);
        let (frames, _) = r200::frames(&whole);
        let Some(last) = frames.last() else { return };
        self.marks = last.marks;
        self.silent_at = now + Duration::from_millis(SILENT_MS);
        // Of rounds that found nothing one is kept, and that only where nothing else says that the module listens.
        let (nothing, telling): (Vec<r200::Frame<'_>>, Vec<r200::Frame<'_>>) =
            frames.iter().copied().partition(|frame| frame.failure() == Some(NO_TAG));
        for frame in &telling {
            self.gather(frame);
        }
        if let ([], Some(frame)) = (&telling[..], nothing.first()) {
            if now < self.quiet_until || self.gather_until.is_some() {
                return;
            }
            self.gather(frame);
        }
        self.gather_until.get_or_insert(now + Duration::from_millis(GATHER_MS));
    }

    fn gather(&mut self, frame: &r200::Frame<'_>) {
        let raw = r200::frame(frame.marks, frame.kind, frame.command, frame.parameters);
        if self.gathered.len() + raw.len() <= KEPT_BYTES_MAX {
            self.gathered.extend(raw);
        }
    }

    /// What is gathered is due.
    fn is_due(&self, now: Instant) -> bool {
        let is_full = self.gathered.len() >= GATHERED_BYTES_MAX && !self.refused;
        self.gather_until.is_some_and(|until| now >= until || is_full)
    }

    /// Offers whatever is gathered to the journal, and keeps it where that is full.
    fn offer<K: Sink>(&mut self, told: &Told<'_, K>, now: Instant) {
        if self.gather_until.is_none() {
            return;
        }
        self.refused = told.deliver(self.gathered.clone()) == Delivered::Full;
        if self.refused {
            self.gather_until = Some(now + Duration::from_millis(RETRY_MS));
        } else {
            self.gathered.clear();
            self.gather_until = None;
            self.quiet_until = now + Duration::from_millis(QUIET_MS);
        }
    }

    /// What the module is to be told because it is silent. It is not known which marks it uses until it has spoken, so they are
    /// tried in turn.
    fn nudge(&mut self, now: Instant) -> Option<Vec<u8>> {
        if now < self.silent_at {
            return None;
        }
        self.silent_at = now + Duration::from_millis(SILENT_MS);
        let rounds = r200::multi_inventory(self.marks, ROUNDS);
        self.marks = match self.marks {
            Marks::Bb => Marks::Aa,
            Marks::Aa => Marks::Bb,
        };
        Some(rounds)
    }
}

/// Serves a port until it is lost or nobody holds the line any more.
async fn serve<K: Sink>(
    port: &mut SerialStream,
    inbox: &mut Inbox,
    told: Option<&Told<'_, K>>,
    ears: &mut Ears<'_>,
    rng: &Arc<dyn Rng>,
    status: &Status,
    began: Instant,
) -> Over {
    let (spec, health) = (Arc::clone(&inbox.spec), Arc::clone(&inbox.health));
    let path = match &spec.address {
        BusAddress::Line(path, _) => Path::new(path),
        BusAddress::Tcp(_) | BusAddress::RtuOverTcp(..) | BusAddress::Rtu(..) => Path::new(""),
    };
    let mut buffer = [0_u8; READ_BYTES];
    let mut heard = Instant::now();
    // What is read next came after this; what lay there when the port was opened came at any time.
    let mut since = None;
    loop {
        status.beat();
        health.lived_us.store(micros(began), Relaxed);
        let entered = Instant::now();
        let idle = entered + Duration::from_millis(IDLE_MS);
        let due = match &*ears {
            Ears::Module(module) => module.gather_until.unwrap_or(idle).min(module.silent_at),
            Ears::Scanner { .. } => entered + Duration::from_millis(LOOK_MS),
        };
        // In this order, so that time passes only when nothing was there to be read.
        let read = tokio::select! {
            biased;
            asked = inbox.asks.recv() => match asked {
                None => return Over::Left,
                Some((_, reply)) => {
                    let _ = reply.send(Err(nothing_to_ask()));
                    continue;
                }
            },
            read = port.read(&mut buffer) => Some(read),
            () = sleep_until(due.min(idle)) => None,
        };
        let now = Instant::now();
        let bytes: &[u8] = match read {
            Some(Ok(0)) => return lost("the port ended"),
            Some(Ok(length)) => buffer.get(..length).unwrap_or_default(),
            Some(Err(error)) => return lost(&error.to_string()),
            // Not every driver says that its adapter was pulled.
            None if !path.exists() => return lost("the port is gone"),
            None => &[],
        };
        let paused = now - heard > Duration::from_millis(PAUSE_MS_MAX);
        if !bytes.is_empty() {
            heard = now;
        }
        let came_ms = millis(since.map(|since| since - began))..=millis(Some(now - began));
        // More may lie there where all was taken that there was room for.
        if bytes.len() < READ_BYTES {
            since = Some(entered);
        }
        let Some(told) = told else { continue };
        match ears {
            Ears::Scanner { lines, sessions } => {
                if paused {
                    lines.forget();
                }
                let whole = lines.push(bytes);
                told.noise(lines.noise());
                for line in whole {
                    let device = &told.unit.device;
                    let fresh = || Session::new(format!("{:016x}", rng.bits()), Context::default());
                    let scan = |session: &mut Session| session.scan(&line, came_ms.clone());
                    let came = sessions.with(device, fresh, scan);
                    match came {
                        Came::Frame(raw) => {
                            while told.deliver(raw.clone()) == Delivered::Full {
                                if inbox.asks.is_closed() {
                                    return Over::Left;
                                }
                                status.beat();
                                sleep(Duration::from_millis(RETRY_MS)).await;
                            }
                        }
                        // Whoever writes it down tells of it.
                        Came::Command | Came::Again => {}
                    }
                }
            }
            Ears::Module(module) => {
                if paused {
                    module.deframer.forget();
                }
                module.take(bytes, now);
                told.noise(module.deframer.noise());
                if module.is_due(now) {
                    module.offer(told, now);
                }
                if let Some(rounds) = module.nudge(now)
                    && let Err(why) = write(port, &rounds).await
                {
                    return lost(&why);
                }
            }
        }
    }
}

fn lost(why: &str) -> Over {
    Over::Lost(CallError::Down(why.to_owned()))
}

async fn write(port: &mut SerialStream, bytes: &[u8]) -> Result<(), String> {
    let written = tokio::time::timeout(Duration::from_millis(WRITE_MS_MAX), port.write_all(bytes));
    match written.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("nothing could be written for {WRITE_MS_MAX} ms")),
    }
}

/// A module that nobody listens to need not send.
async fn leave(mut port: SerialStream, ears: &Ears<'_>) {
    if let Ears::Module(module) = ears {
        let _ = write(&mut port, &r200::stop(module.marks)).await;
    }
}
