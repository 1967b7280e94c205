//! The player: a world against a real hub.
//!
//! [`prepare`] imports the layout, gets a password for each device and tells the hub the first counts. [`play`] then
//! lets the world run against the wall clock: each frame goes to its device's MQTT client when its time has come. What
//! was promised (acknowledged) is kept beside the truth, and both come back as [`Played`] for [`crate::verify`].
//!
//! ```text
//!  World ─ frames, paced ─► one bounded channel a device ─► mqtt::client ─► hub
//!                                                              │ notices
//!                                                              ▼
//!                                                        bookkeeper ─► Tally of each device
//! ```

use crate::clock::{Micros, TimeBase, WallClock};
use crate::hub::{Hub, HubError};
use crate::modbus::{Stage, trouble::TimedChange};
use crate::mqtt::client::{self, ClientError, Config, Notice, Order};
use crate::mqtt::packet::Version;
use crate::mqtt::session::Message;
use crate::random::Stream;
use crate::scenario::{BusFraming, Scenario};
use crate::tally::{SeqSet, Tally};
use crate::truth::Truth;
use crate::world::{TimedScale, World};
use crate::{TimedFrame, frame};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// QoS 1 messages a device has in flight.
const WINDOW_MESSAGES: u16 = 200;
/// Notices that wait for the bookkeeper.
const NOTICES_MAX: usize = 4_096;
/// Devices' keep-alive, s.
const KEEP_ALIVE_S: u16 = 60;
/// From the end of preparation to virtual 0: time to connect.
const LEAD_US: i64 = 1_000_000;
/// Numbers of one boot, as bits of a message's tag; the rest is the boot.
const SEQ_BITS: u32 = 40;

/// Why a play failed.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The hub's API.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A device's connection.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The world is another than the one prepared.
    #[error("device {0} was not prepared; prepare and play the same scenario")]
    NoPassword(String),
    /// The asynchronous runtime.
    #[error("cannot start the network runtime: {0}")]
    Runtime(#[from] std::io::Error),
    /// A bug.
    #[error("a device's task ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// How to play.
#[derive(Debug, Clone)]
pub struct Options {
    /// The hub's MQTT endpoint, `HOST:PORT`.
    pub mqtt: String,
    /// Virtual seconds in a wall second.
    pub speed: f64,
}

/// The hub as it was before the play.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// Id of its last movement.
    pub movement: Option<String>,
    /// Distinct readings in its ledger, by device.
    pub ledger: BTreeMap<String, u64>,
}

/// A hub that knows the world's layout, and the devices' passwords.
#[derive(Debug)]
pub struct Prepared {
    passwords: BTreeMap<String, String>,
    baseline: Baseline,
    /// Where the scenario's buses listen, in its order.
    buses: Vec<TcpListener>,
}

/// What was played: enough to judge the hub later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Played {
    /// Facility id.
    pub facility: String,
    /// Unix time of virtual 0, µs.
    pub epoch_us: i64,
    /// Virtual seconds in a wall second.
    pub speed: f64,
    /// The hub before the play.
    pub baseline: Baseline,
    /// What really happened.
    pub truth: Truth,
    /// What was promised to each device.
    pub devices: Vec<Tally>,
}

impl Played {
    /// The play's time.
    #[must_use]
    pub fn base(&self) -> TimeBase {
        TimeBase { epoch_us: self.epoch_us, speed: self.speed }
    }
}

/// How a play goes on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Progress {
    /// Virtual time now and at the end.
    pub now: Micros,
    /// Virtual end.
    pub end: Micros,
    /// Frames sent.
    pub frames: u64,
    /// Acknowledgements.
    pub acknowledged: u64,
    /// Devices connected.
    pub connected: usize,
    /// Movements that happened.
    pub movements: usize,
}

/// Tells the hub everything it must know before the first frame.
///
/// # Errors
/// [`PlayError`].
pub fn prepare(hub: &Hub, world: &World) -> Result<Prepared, PlayError> {
    let mqtt = world.devices().iter().filter(|d| d.modbus.is_none());
    let passwords = hub.enrol(&world.layout(), mqtt.map(|d| &*d.id))?;
    let facility = &world.scenario().facility.id;
    let last = hub.get(&format!("/movements?facility={facility}&order=desc&limit=1"))?;
    let movement = last.pointer("/items/0/id").and_then(Value::as_str).map(str::to_owned);
    let ledger = crate::verify::ledger(hub, facility)?;
    let ledger = ledger.into_iter().map(|(device, row)| (device, row.distinct())).collect();
    let clock = WallClock::start();
    for (i, count) in world.initial_counts().iter().enumerate() {
        let key = format!("sim-{:x}-{i}", clock.unix_us());
        hub.post(&count.path, &count.body, Some(&key))?;
    }
    let buses = wire_up(hub, world)?;
    Ok(Prepared { passwords, baseline: Baseline { movement, ledger }, buses })
}

/// Gives each bus of the scenario a port, and tells the hub what is there.
fn wire_up(hub: &Hub, world: &World) -> Result<Vec<TcpListener>, PlayError> {
    let scenario = world.scenario();
    let mut buses = Vec::new();
    for (index, spec) in scenario.modbus.iter().enumerate() {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let scheme = match spec.framing {
            BusFraming::Tcp => "tcp",
            BusFraming::Rtu => "rtu+tcp",
        };
        let address = format!("{scheme}://{}", listener.local_addr()?);
        // A bus of an earlier play had another port.
        hub.delete(&format!("/buses/{}", spec.id))?;
        let bus = json!({"id": spec.id, "facility": scenario.facility.id, "address": address});
        hub.post("/buses", &bus, None)?;
        for device in world.devices() {
            let Some(on) = device.modbus.filter(|on| on.bus == index) else { continue };
            let place = json!({"bus": spec.id, "unit": on.unit});
            hub.put(&format!("/devices/{}/bus", device.id), &place)?;
        }
        buses.push(listener);
    }
    Ok(buses)
}

/// Plays `scenario` to its end, or until `stop` resolves: people then rest, and the world ends after its quiet tail.
///
/// # Errors
/// [`PlayError`].
pub fn play(
    scenario: Scenario,
    options: &Options,
    prepared: Prepared,
    stop: impl Future<Output = ()>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Played, PlayError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(scenario, options, prepared, stop, on_progress))
}

async fn run(
    scenario: Scenario,
    options: &Options,
    prepared: Prepared,
    stop: impl Future<Output = ()>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Played, PlayError> {
    let clock = WallClock::start();
    let base = TimeBase { epoch_us: clock.unix_us() + LEAD_US, speed: options.speed };
    // Boot ids of this play differ from those of any other against the same hub.
    let mut world =
        World::with_clock(scenario, base, &format!("{:x}-", clock.unix_us() / 1_000_000));
    let (notices, inbox) = mpsc::channel(NOTICES_MAX);
    let mut clients = JoinSet::new();
    let mut cast = Vec::new();
    for (index, device) in world.devices().iter().enumerate() {
        if device.modbus.is_some() {
            cast.push(None);
            continue;
        }
        let password = prepared.passwords.get(&*device.id).cloned();
        let (orders, inbox) = mpsc::channel(world.scenario().link.keep_frames_max);
        let config = Config {
            index,
            address: options.mqtt.clone(),
            device: device.id.to_string(),
            password: password.ok_or_else(|| PlayError::NoPassword(device.id.to_string()))?,
            version: if device.mqtt5 { Version::V5 } else { Version::V3 },
            qos1: world.scenario().link.qos == 1,
            window: WINDOW_MESSAGES,
            keep_alive_s: KEEP_ALIVE_S,
            subscribe: Some(format!("stockfold/v1/{}/cmd/#", device.id)),
            seed: world.scenario().seed,
        };
        clients.spawn(client::run(config, inbox, notices.clone()));
        cast.push(Some(Player::new(&world, index, orders)));
    }
    drop(notices);
    let mut stage = Stage::open(&world, prepared.buses)?;
    let counters = Arc::new(Counters::default());
    let promises = world.scenario().link.qos == 1;
    let books = tokio::spawn(keep_books(inbox, cast.len(), promises, Arc::clone(&counters)));
    let mut progress = Progress { end: world.end(), ..Progress::default() };
    let mut stop = std::pin::pin!(stop);
    let mut stopped = false;
    while let Some(frames) = world.next_frames() {
        let step_end = world.now();
        for cue in cues(frames, world.take_shown(), stage.troubles_until(step_end)) {
            wait_until(&clock, base.wall_us(cue.at())).await;
            match cue {
                Cue::Scale(shown) => stage.show(&world, &shown),
                Cue::Trouble(bus, change) => stage.befall(bus, change),
                Cue::Frame(f) => {
                    // A transmitter on a bus sends no frames.
                    if let Some(player) = &mut cast[f.device] {
                        player.maybe_break(f.at);
                        progress.frames += u64::from(player.send(f));
                    }
                }
            }
        }
        tokio::select! {
            biased;
            () = &mut stop, if !stopped => {
                stopped = true;
                world.wind_down();
            }
            () = wait_until(&clock, base.wall_us(step_end)) => {}
            // A client that gives up while the play goes on cannot come back.
            Some(ended) = clients.join_next() => ended??,
        }
        progress.now = world.now();
        progress.end = world.end();
        progress.acknowledged = counters.acknowledged.load(Relaxed);
        progress.connected = counters.connected.load(Relaxed);
        progress.movements = world.truth().movements.len();
        on_progress(progress);
    }
    // Dropping a player closes its client's orders: deliver what is left, then disconnect.
    let sent: Vec<Option<Tally>> = cast.into_iter().map(|p| p.map(|p| p.tally)).collect();
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let books = books.await?;
    progress.acknowledged = counters.acknowledged.load(Relaxed);
    on_progress(progress);
    Ok(Played {
        facility: world.scenario().facility.id.clone(),
        epoch_us: base.epoch_us,
        speed: base.speed,
        baseline: prepared.baseline,
        truth: world.truth().clone(),
        devices: sent
            .into_iter()
            .zip(books)
            .filter_map(|(tally, book)| Some(book.close(tally?)))
            .collect(),
    })
}

/// What happens next on the stage.
enum Cue {
    Trouble(usize, TimedChange),
    Scale(TimedScale),
    Frame(TimedFrame),
}

impl Cue {
    fn at(&self) -> Micros {
        match self {
            Self::Trouble(_, change) => change.at,
            Self::Scale(shown) => shown.at,
            Self::Frame(frame) => frame.at,
        }
    }
}

/// What happens in a step, in the order of time.
fn cues(
    frames: Vec<TimedFrame>,
    shown: Vec<TimedScale>,
    troubles: Vec<(usize, TimedChange)>,
) -> Vec<Cue> {
    let troubles = troubles.into_iter().map(|(bus, change)| Cue::Trouble(bus, change));
    let shown = shown.into_iter().map(Cue::Scale);
    let mut cues: Vec<Cue> =
        troubles.chain(shown).chain(frames.into_iter().map(Cue::Frame)).collect();
    // Stable: what happens at one time keeps this order.
    cues.sort_by_key(Cue::at);
    cues
}

/// Sleeps until unix time `wall_us`; when that is past, lets other tasks have their turn.
async fn wait_until(clock: &WallClock, wall_us: i64) {
    let ahead_us = wall_us - clock.unix_us();
    // The runtime's timers count milliseconds.
    if ahead_us >= 1_000 {
        tokio::time::sleep(Duration::from_micros(ahead_us as u64)).await;
    } else {
        tokio::task::consume_budget().await;
    }
}

/// One device on the stage: hands frames to its client.
struct Player {
    orders: mpsc::Sender<Order>,
    topics: BTreeMap<Arc<str>, String>,
    tally: Tally,
    breaks: Stream,
    breaks_per_hour: f64,
    break_at: Option<Micros>,
}

impl Player {
    fn new(world: &World, index: usize, orders: mpsc::Sender<Order>) -> Self {
        let breaks_per_hour = world.scenario().link.disconnect_per_hour;
        let mut breaks = Stream::new(world.scenario().seed, "disconnect", index as u64);
        let device = world.devices()[index].id.to_string();
        Self {
            orders,
            topics: BTreeMap::new(),
            tally: Tally { device, ..Tally::default() },
            break_at: breaks.wait_us(breaks_per_hour),
            breaks,
            breaks_per_hour,
        }
    }

    /// Pulls the cable when it is time to.
    fn maybe_break(&mut self, now: Micros) {
        if self.break_at.is_some_and(|at| at <= now) {
            // Where the channel is full the client is not connected anyway.
            let _ = self.orders.try_send(Order::Break);
            self.break_at = self.breaks.wait_us(self.breaks_per_hour).map(|wait| now + wait);
        }
    }

    /// Sends a frame; false when the device has no room to keep it.
    fn send(&mut self, f: TimedFrame) -> bool {
        let boot = f.boot.as_deref().unwrap_or("");
        // A late frame of an earlier boot may still come: boots are told apart by name, not by order.
        let known = self.tally.boots.iter().position(|b| b == boot);
        let boot = known.unwrap_or_else(|| {
            self.tally.boots.push(boot.to_owned());
            self.tally.boots.len() - 1
        });
        let device = &self.tally.device;
        let topic = self.topics.entry(f.stream).or_insert_with_key(|s| frame::topic(device, s));
        let tag = (boot as u64) << SEQ_BITS | f.seq;
        let message = Message { tag, topic: topic.clone(), payload: f.payload };
        let sent = self.orders.try_send(Order::Publish(message)).is_ok();
        let count = if sent { &mut self.tally.sent } else { &mut self.tally.overflowed };
        *count += 1;
        sent
    }
}

/// What the players watch while the books are kept.
#[derive(Debug, Default)]
struct Counters {
    acknowledged: AtomicU64,
    connected: AtomicUsize,
}

/// What one client told.
#[derive(Debug, Default)]
struct Book {
    acknowledged: u64,
    connected: bool,
    disconnects: u64,
    refused: BTreeMap<u8, u64>,
    acked: BTreeMap<u64, SeqSet>,
}

impl Book {
    /// The tally of a device whose sending side is `sent`.
    fn close(self, sent: Tally) -> Tally {
        let acked = self.acked.into_iter().filter_map(|(boot, seqs)| {
            sent.boots.get(boot as usize).map(|name| (name.clone(), seqs))
        });
        Tally {
            acknowledged: self.acknowledged,
            refused: self.refused,
            disconnects: self.disconnects,
            acked: acked.collect(),
            ..sent
        }
    }
}

/// Keeps what all clients tell until the last of them is gone.
async fn keep_books(
    mut inbox: mpsc::Receiver<(usize, Notice)>,
    devices: usize,
    promises: bool,
    counters: Arc<Counters>,
) -> Vec<Book> {
    let mut books: Vec<Book> = (0..devices).map(|_| Book::default()).collect();
    while let Some((index, notice)) = inbox.recv().await {
        let book = &mut books[index];
        match notice {
            Notice::Connected => {
                book.connected = true;
                counters.connected.fetch_add(1, Relaxed);
            }
            Notice::Lost(why) => {
                tracing::debug!(device = index, why, "connection lost");
                if std::mem::take(&mut book.connected) {
                    book.disconnects += 1;
                    counters.connected.fetch_sub(1, Relaxed);
                }
            }
            // QoS 0 promises nothing.
            Notice::Acked(tag) if promises => {
                book.acknowledged += 1;
                counters.acknowledged.fetch_add(1, Relaxed);
                let (boot, seq) = (tag >> SEQ_BITS, tag & ((1 << SEQ_BITS) - 1));
                book.acked.entry(boot).or_default().insert(seq);
            }
            Notice::Refused(_, code) => *book.refused.entry(code).or_default() += 1,
            Notice::Received { topic, payload } => {
                tracing::info!(topic, bytes = payload.len(), "the hub sent a command");
            }
            Notice::Acked(_) => {}
        }
    }
    books
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// Accepts everybody and acknowledges everything.
    fn serve(mut socket: TcpStream) {
        let (mut input, mut chunk) = (Vec::new(), [0; 4_096]);
        let mut connack: &[u8] = &[];
        while let Ok(n @ 1..) = socket.read(&mut chunk) {
            input.extend_from_slice(&chunk[..n]);
            // All packets of this test are shorter than 16 KiB: their length has one or two bytes.
            while let [first, l0, l1, ..] = input[..] {
                let two = usize::from(l0 >= 0x80);
                let len = usize::from(l0 & 0x7f) + usize::from(l1) * 128 * two;
                let end = 2 + two + len;
                if input.len() < end {
                    break;
                }
                let body: Vec<u8> = input.drain(..end).skip(2 + two).collect();
                match first {
                    0x10 => {
                        connack = if body[6] == 5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
                        socket.write_all(connack).unwrap();
                    }
                    0x82 => {
                        let properties: &[u8] = if connack.len() == 5 { &[0] } else { &[] };
                        let answer =
                            [&[0x90, 3 + properties.len() as u8], &body[..2], properties, &[1]];
                        socket.write_all(&answer.concat()).unwrap();
                    }
                    0x30..=0x3f => {
                        let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                        socket.write_all(&[0x40, 2, body[at], body[at + 1]]).unwrap();
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn a_play_delivers_every_frame_and_keeps_the_promises() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mqtt = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                std::thread::spawn(move || serve(socket));
            }
        });
        let mut scenario = builtin::load("rough").unwrap();
        (scenario.duration_s, scenario.quiet_tail_s) = (60.0, 10.0);
        scenario.link.disconnect_per_hour = 600.0;
        let world = World::new(scenario.clone());
        let password = |d: &crate::Device| (d.id.to_string(), "x".to_owned());
        let passwords = world.devices().iter().map(password).collect();
        let prepared = Prepared { passwords, baseline: Baseline::default(), buses: Vec::new() };
        let options = Options { mqtt, speed: 60.0 };
        let mut last = Progress::default();
        let stop = std::future::pending();
        let played = play(scenario.clone(), &options, prepared, stop, &mut |p| last = p).unwrap();
        // The same world without a hub; only boot ids and time stamps differ.
        let mut world = World::new(scenario);
        let (mut frames, mut first) = (0, 0);
        while let Some(step) = world.next_frames() {
            frames += step.len() as u64;
            first += step.iter().filter(|f| !f.repeated).count() as u64;
        }
        let sum = |of: fn(&Tally) -> u64| -> u64 { played.devices.iter().map(of).sum() };
        assert_eq!((sum(|t| t.sent), sum(|t| t.overflowed)), (frames, 0));
        assert_eq!(sum(Tally::acked_readings), first);
        assert!(sum(|t| t.disconnects) > 0);
        assert_eq!((last.frames, last.now), (frames, last.end));
        assert_eq!(played.truth.lines, world.truth().lines);
        let text = serde_json::to_string(&played).unwrap();
        assert_eq!(serde_json::from_str::<Played>(&text).unwrap(), played);
    }

    #[test]
    fn a_world_that_was_not_prepared_is_refused() {
        let scenario = builtin::load("rough").unwrap();
        let nothing = Prepared {
            passwords: BTreeMap::new(),
            baseline: Baseline::default(),
            buses: Vec::new(),
        };
        let options = Options { mqtt: "127.0.0.1:1".into(), speed: 1.0 };
        let stop = std::future::pending();
        let error = play(scenario, &options, nothing, stop, &mut |_| ()).unwrap_err();
        assert!(matches!(error, PlayError::NoPassword(device) if device == "scale-001"));
    }
}
