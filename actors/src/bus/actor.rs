//! The bus actor: connects, polls by the schedule, does what it is asked in between, and mends the link.
//!
//! Asks (commands, reads on demand) go before polls and between them, never into one: an image is read whole. One life of the
//! actor serves one configuration; a changed one is another life, started by whoever holds the [`Handle`].
//!
//! It keeps nothing that matters: what was read is in the journal, or was not read.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use device_profiles::modbus::{Command, ImageWriter, ModbusMap, Request, Step};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use super::{
    ASKS_MAX, BusHealth, BusSpec, Delivered, Sink, UnitHealth, UnitSpec,
    link::{BACKOFF_MS_MAX, BACKOFF_MS_MIN, CallError, Items, Link, Write},
    schedule::{Job, Next, Schedule},
    unit::{Pulse, Shapes},
};
use crate::{
    guardian::{End, Policy, Status, guard},
    ports::rng::Rng,
};

/// Pause between two looks of a step that waits for a test to hold, in milliseconds.
const WAIT_LOOK_MS: u64 = 50;
/// With nothing to poll the actor still beats this often, in milliseconds.
const IDLE_MS: u64 = 1_000;

/// What a bus may be asked.
#[derive(Debug)]
pub enum Ask {
    /// Poll a unit's stream now; the image is also delivered as any other.
    Read {
        /// The unit's index in the spec.
        unit: usize,
        /// Its stream.
        stream: String,
    },
    /// Carry out a command of the unit's profile.
    Command {
        /// The unit's index in the spec.
        unit: usize,
        /// The command's name.
        name: String,
    },
    /// Read a stretch as it is; for probing.
    Raw {
        /// The unit's address.
        address: u8,
        /// What to read.
        request: Request,
        /// How long it may take.
        answer: Duration,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The image that was read.
    Image(Vec<u8>),
    /// The items that were read.
    Items(Items),
    /// The command was carried out and verified as far as its profile says how.
    Done,
}

/// Why an ask was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The bus said no, or nothing.
    #[error(transparent)]
    Call(#[from] CallError),
    /// There is no such unit, stream or command.
    #[error("the device has no {0}")]
    Unknown(String),
    /// The command's budget for a day is used up; registers kept in EEPROM wear out.
    #[error(
        "{name} was done {per_day_max} times in the last 24 hours, which is all the profile allows"
    )]
    Budget {
        /// The command.
        name: String,
        /// Its budget.
        per_day_max: u32,
    },
    /// A step waited for something that did not come.
    #[error("the device did not do it within {0} ms")]
    NotDone(u32),
    /// Too many asks wait.
    #[error("the bus is busy with {ASKS_MAX} other requests; try again")]
    Busy,
    /// The bus was stopped or configured anew meanwhile.
    #[error("the bus was stopped")]
    Stopped,
}

type Reply = oneshot::Sender<Result<Asked, AskError>>;

/// A bus as others hold it.
#[derive(Clone)]
pub struct Handle {
    /// What it is configured as.
    pub spec: Arc<BusSpec>,
    /// Figures of the bus.
    pub health: Arc<BusHealth>,
    /// Figures of its units, in the order of the spec.
    pub units: Arc<[UnitHealth]>,
    asks: mpsc::Sender<(Ask, Reply)>,
}

impl Handle {
    /// A handle and the end of it that the actor serves.
    pub fn new(spec: BusSpec) -> (Self, Inbox) {
        let (sender, asks) = mpsc::channel(ASKS_MAX);
        let units = spec.units.iter().map(|_| UnitHealth::default()).collect();
        let handle = Self { spec: Arc::new(spec), health: Arc::default(), units, asks: sender };
        let inbox = Inbox {
            spec: Arc::clone(&handle.spec),
            health: Arc::clone(&handle.health),
            units: Arc::clone(&handle.units),
            asks,
            done: Vec::new(),
        };
        (handle, inbox)
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, ask: Ask) -> Result<Asked, AskError> {
        let (reply, answer) = oneshot::channel();
        self.asks.try_send((ask, reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AskError::Busy,
            mpsc::error::TrySendError::Closed(_) => AskError::Stopped,
        })?;
        answer.await.unwrap_or(Err(AskError::Stopped))
    }
}

/// The actor's end of a [`Handle`]; it outlives a life that fails, so that asks and budgets are not lost with it.
pub struct Inbox {
    spec: Arc<BusSpec>,
    health: Arc<BusHealth>,
    units: Arc<[UnitHealth]>,
    asks: mpsc::Receiver<(Ask, Reply)>,
    /// Commands carried out in the last 24 hours: unit, name, when.
    done: Vec<(usize, String, Instant)>,
}

/// Starts a bus under a guardian on the current arbiter. It ends when the last clone of the handle is dropped.
pub fn start<K: Sink + Clone>(
    spec: BusSpec,
    sink: K,
    policy: Policy,
    rng: Arc<dyn Rng>,
) -> (Handle, Arc<Status>) {
    let (handle, inbox) = Handle::new(spec);
    let name = format!("bus {}", handle.spec.id);
    let inbox = Rc::new(Mutex::new(inbox));
    let dice = Arc::clone(&rng);
    let status = guard(&name, policy, rng, move |status| {
        let (inbox, sink, rng) = (Rc::clone(&inbox), sink.clone(), Arc::clone(&dice));
        async move {
            run(&mut *inbox.lock().await, &sink, &rng, &status).await;
            End::Done
        }
    });
    (handle, status)
}

struct Unit {
    spec: UnitSpec,
    shapes: Shapes,
    /// When a request to it last went unanswered.
    doubt_at: Instant,
    pulse: Pulse,
    asked_at: Option<Instant>,
}

/// One stream that is polled.
struct Polled {
    unit: usize,
    stream: String,
    requests: Vec<Request>,
}

/// Serves a bus until its handle is dropped.
async fn run<K: Sink>(inbox: &mut Inbox, sink: &K, rng: &Arc<dyn Rng>, status: &Status) {
    let (spec, health, told) =
        (Arc::clone(&inbox.spec), Arc::clone(&inbox.health), Arc::clone(&inbox.units));
    let mut bus = Bus::new(&spec, health, told, sink, Arc::clone(rng));
    let mut backoff_ms = BACKOFF_MS_MIN;
    loop {
        status.beat();
        match Link::open(&spec.address).await {
            Ok(link) => {
                tracing::info!(bus = spec.id, address = %spec.address, "bus is connected");
                bus.connected();
                let began = Instant::now();
                let Some(why) = bus.serve(link, inbox, status).await else { return };
                bus.health.up.store(false, Relaxed);
                bus.health.note_error(&why);
                tracing::debug!(bus = spec.id, %why, "bus link dropped");
                // A link that was of use is made anew at once.
                if began.elapsed() > Duration::from_millis(BACKOFF_MS_MAX) {
                    backoff_ms = BACKOFF_MS_MIN;
                }
            }
            Err(why) => {
                let text = why.to_string();
                if bus.health.error() != text {
                    tracing::warn!(bus = spec.id, %why, "bus cannot be connected; trying on");
                }
                bus.health.note_error(&why);
            }
        }
        let until = Instant::now() + Duration::from_millis(rng.jitter_ms(backoff_ms));
        backoff_ms = (backoff_ms * 2).min(BACKOFF_MS_MAX);
        // Whoever asks now learns that the bus is down, and does not wait for it.
        loop {
            tokio::select! {
                ask = inbox.asks.recv() => match ask {
                    None => return,
                    Some((_, reply)) => {
                        let _ = reply.send(Err(CallError::Down(bus.health.error()).into()));
                    }
                },
                () = sleep_until(until) => break,
            }
        }
    }
}

struct Bus<'a, K> {
    spec: &'a BusSpec,
    sink: &'a K,
    rng: Arc<dyn Rng>,
    health: Arc<BusHealth>,
    told: Arc<[UnitHealth]>,
    units: Vec<Unit>,
    polls: Vec<Polled>,
    schedule: Schedule,
    began: Instant,
}

impl<'a, K: Sink> Bus<'a, K> {
    fn new(
        spec: &'a BusSpec,
        health: Arc<BusHealth>,
        told: Arc<[UnitHealth]>,
        sink: &'a K,
        rng: Arc<dyn Rng>,
    ) -> Self {
        let began = Instant::now();
        let (mut polls, mut jobs) = (Vec::new(), Vec::new());
        for (unit, of) in spec.units.iter().enumerate() {
            for (name, stream) in &of.profile.streams {
                let Some(poll) = &stream.poll else { continue };
                jobs.push(Job { unit, every_us: u64::from(poll.every_ms) * 1_000 });
                polls.push(Polled { unit, stream: name.clone(), requests: poll.requests.clone() });
            }
        }
        let unit = |spec: &UnitSpec| Unit {
            spec: spec.clone(),
            shapes: Shapes::default(),
            doubt_at: began,
            pulse: Pulse::default(),
            asked_at: None,
        };
        Self {
            spec,
            sink,
            rng,
            health,
            told,
            units: spec.units.iter().map(unit).collect(),
            schedule: Schedule::new(jobs, spec.units.len(), 0),
            polls,
            began,
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn connected(&mut self) {
        self.health.up.store(true, Relaxed);
        if self.health.connects.fetch_add(1, Relaxed) > 0 && self.spec.units.len() == 1 {
            // Link and unit are one thing; on a shared line a dead unit stays known as dead.
            self.schedule.link_restored(self.now_us());
        }
    }

    /// Serves on one link. The error that ended it, or `None` when nobody holds the bus any more.
    async fn serve(&mut self, link: Link, inbox: &mut Inbox, status: &Status) -> Option<CallError> {
        let mut link = Some(link);
        let mut asked = None;
        loop {
            status.beat();
            self.health.lived_us.store(self.now_us(), Relaxed);
            let ask = asked.take().map_or_else(|| inbox.asks.try_recv(), Ok);
            let until = match ask {
                Ok((ask, reply)) => {
                    let result = self.answer(&mut link, ask, &mut inbox.done).await;
                    let broke = match &result {
                        Err(AskError::Call(error)) if !error.keeps_link() => Some(error.clone()),
                        Ok(_) | Err(_) => None,
                    };
                    let _ = reply.send(result);
                    if let Some(error) = broke
                        && let Err(why) = self.mend(&mut link, error).await
                    {
                        return Some(why);
                    }
                    continue;
                }
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => match self.schedule.next(self.now_us()) {
                    Next::Poll(job) => {
                        if let Err(error) = self.poll(&mut link, job).await
                            && !error.keeps_link()
                            && let Err(why) = self.mend(&mut link, error).await
                        {
                            return Some(why);
                        }
                        continue;
                    }
                    Next::Until(at) => at,
                    Next::Never => self.now_us() + IDLE_MS * 1_000,
                },
            };
            let idle = Duration::from_millis(IDLE_MS);
            let wait = Duration::from_micros(until.saturating_sub(self.now_us())).min(idle);
            tokio::select! {
                ask = inbox.asks.recv() => match ask {
                    Some(ask) => asked = Some(ask),
                    None => return None,
                },
                () = sleep(wait) => {}
            }
        }
    }

    /// Polls a stream and delivers its image.
    async fn poll(&mut self, link: &mut Option<Link>, job: usize) -> Result<(), CallError> {
        let Some(Polled { unit, stream, requests }) = self.polls.get(job) else { return Ok(()) };
        let (unit, stream, requests) = (*unit, stream.clone(), requests.clone());
        let before = self.now_us();
        let result = self.image(link, unit, &requests).await;
        let now = self.now_us();
        self.note(unit, Some(job), before, now, result.as_ref().err());
        let image = result?;
        self.deliver(unit, &stream, image, now);
        Ok(())
    }

    fn deliver(&mut self, unit: usize, stream: &str, image: Vec<u8>, now: u64) {
        let (of, told) = (&mut self.units[unit], &self.told[unit]);
        told.polls.fetch_add(1, Relaxed);
        let frozen = of.pulse.is_frozen(&of.spec.profile, &image, now);
        if told.frozen.swap(frozen, Relaxed) != frozen {
            if frozen {
                tracing::warn!(device = %of.spec.device, "the device's counter stands still: it repeats an old measurement and is not believed");
            } else {
                tracing::info!(device = %of.spec.device, "the device measures again");
            }
        }
        if frozen {
            return;
        }
        let counter = match self.sink.deliver(&of.spec.device, stream, image) {
            Delivered::Taken => &told.delivered,
            Delivered::Full => &told.full,
            Delivered::Refused => &told.refused,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Keeps the books after an attempt.
    fn note(
        &mut self,
        unit: usize,
        job: Option<usize>,
        before: u64,
        now: u64,
        error: Option<&CallError>,
    ) {
        let took = now - before;
        self.health.busy_us.fetch_add(took, Relaxed);
        let told = &self.told[unit];
        if error.is_none_or(CallError::is_answer) {
            told.note_answer(now, took);
        }
        // One that answers nothing but exceptions is asked no more often than one that is silent.
        let answered = error.is_none();
        told.failing.store(!answered, Relaxed);
        if let Some(error) = error {
            told.note_error(error);
        }
        let rng = &self.rng;
        let jitter = |ms| rng.jitter_ms(ms);
        let changed = match job {
            Some(job) => self.schedule.done(job, answered, took, now, jitter),
            None => self.schedule.note(unit, answered, took, now, jitter),
        };
        let aside = self.schedule.is_aside(unit);
        told.aside.store(aside, Relaxed);
        if changed {
            let (device, bus) = (&self.units[unit].spec.device, &self.spec.id);
            match error {
                Some(why) if aside => {
                    tracing::warn!(bus, %device, %why, "the device does not answer; it is set aside and tried from time to time")
                }
                Some(_) | None => tracing::info!(bus, %device, "the device answers again"),
            }
        }
    }

    /// Reads a unit's requests into one image.
    async fn image(
        &mut self,
        link: &mut Option<Link>,
        unit: usize,
        requests: &[Request],
    ) -> Result<Vec<u8>, CallError> {
        let mut image = ImageWriter::default();
        for request in requests {
            let (request, items) = self.read(link, unit, *request).await?;
            match items {
                Items::Words(words) => image.words(request.table, request.start, &words),
                Items::Bits(bits) => image.bits(request.table, request.start, &bits),
            }
        }
        Ok(image.finish())
    }

    /// One read, in a shape that no late answer can fit. What was read beyond the wanted stays in the image: it is what came.
    async fn read(
        &mut self,
        link: &mut Option<Link>,
        unit: usize,
        wanted: Request,
    ) -> Result<(Request, Items), CallError> {
        let of = &mut self.units[unit];
        let profile = Arc::clone(&of.spec.profile);
        let Some(map) = &profile.modbus else { return Err(no_map()) };
        let answer = Duration::from_millis(map.timeout_ms.into());
        let request = match of.shapes.distinct(map, wanted) {
            Some(request) => request,
            None => {
                // Every length is taken; after so long no answer can still be under way.
                sleep_until(of.doubt_at + answer * 4).await;
                of.shapes.forget();
                wanted
            }
        };
        of.pause(map).await;
        let Some(link) = link else { return Err(CallError::Down("no link".into())) };
        let result = link.read(of.spec.unit, request, answer).await;
        of.asked_at = Some(Instant::now());
        let outcome = result.as_ref().map(|_| ()).map_err(Clone::clone);
        let grown = request.count > wanted.count;
        of.shapes.note(request, &outcome);
        if of.shapes.is_doubtful() {
            of.doubt_at = Instant::now();
        }
        match result {
            // Only the registers that were read along can be what it has not; the exception cleared the doubt.
            Err(CallError::Exception(2 | 3)) if grown => {
                of.pause(map).await;
                let items = link.read(of.spec.unit, wanted, answer).await;
                of.asked_at = Some(Instant::now());
                of.shapes.note(wanted, &items.as_ref().map(|_| ()).map_err(Clone::clone));
                Ok((wanted, items?))
            }
            result => Ok((request, result?)),
        }
    }

    /// Makes the link usable after an error, or gives it up.
    async fn mend(&mut self, link: &mut Option<Link>, error: CallError) -> Result<(), CallError> {
        let Some(broken) = link.take() else { return Err(error) };
        if matches!(error, CallError::Down(_)) {
            return Err(error);
        }
        self.health.drains.fetch_add(1, Relaxed);
        let slowest = self.spec.units.iter().filter_map(|unit| unit.profile.modbus.as_ref());
        let late = slowest.map(|map| map.timeout_ms).max().unwrap_or(0);
        // Silence may be a dead unit, and the others are waiting: what comes later meets another length. Whoever has just heard a
        // wrong answer knows that late ones are under way, and lets them pass.
        let silence = match error {
            CallError::Timeout(_) => late / 4,
            CallError::Foreign(_)
            | CallError::Length { .. }
            | CallError::Exception(_)
            | CallError::Down(_) => late,
        };
        match broken.mend(Duration::from_millis(silence.into())).await? {
            Some(mended) => *link = Some(mended),
            None => return Err(error),
        }
        Ok(())
    }

    async fn answer(
        &mut self,
        link: &mut Option<Link>,
        ask: Ask,
        done: &mut Vec<(usize, String, Instant)>,
    ) -> Result<Asked, AskError> {
        match ask {
            Ask::Read { unit, stream } => {
                let poll = self.polls.iter().find(|p| p.unit == unit && p.stream == stream);
                let requests =
                    poll.ok_or(AskError::Unknown(format!("stream {stream:?}")))?.requests.clone();
                let before = self.now_us();
                let result = self.image(link, unit, &requests).await;
                let now = self.now_us();
                self.note(unit, None, before, now, result.as_ref().err());
                let image = result?;
                self.deliver(unit, &stream, image.clone(), now);
                Ok(Asked::Image(image))
            }
            Ask::Raw { address, request, answer } => {
                let link = link.as_mut().ok_or_else(|| CallError::Down("no link".into()))?;
                Ok(Asked::Items(link.read(address, request, answer).await?))
            }
            Ask::Command { unit, name } => {
                let of =
                    self.units.get(unit).ok_or_else(|| AskError::Unknown("such unit".into()))?;
                let profile = Arc::clone(&of.spec.profile);
                let map = profile.modbus.as_ref().ok_or_else(no_map)?;
                let command = map
                    .commands
                    .get(&name)
                    .ok_or_else(|| AskError::Unknown(format!("command {name:?}")))?;
                let day = Duration::from_secs(86_400);
                done.retain(|(_, _, at)| at.elapsed() < day);
                let times = done.iter().filter(|(u, n, _)| *u == unit && *n == name).count();
                let per_day_max = command.per_day_max;
                if times >= usize::try_from(per_day_max).unwrap_or(usize::MAX) {
                    return Err(AskError::Budget { name, per_day_max });
                }
                // Counted before it is tried: a write that is not answered may have been done.
                done.push((unit, name, Instant::now()));
                let before = self.now_us();
                let result = self.carry_out(link, unit, map, command).await;
                let error = match &result {
                    Err(AskError::Call(error)) => Some(error),
                    Ok(()) | Err(_) => None,
                };
                self.note(unit, None, before, self.now_us(), error);
                result.map(|()| Asked::Done)
            }
        }
    }

    async fn carry_out(
        &mut self,
        link: &mut Option<Link>,
        unit: usize,
        map: &ModbusMap,
        command: &Command,
    ) -> Result<(), AskError> {
        let answer = Duration::from_millis(map.timeout_ms.into());
        for step in &command.steps {
            match step {
                Step::Pause(ms) => sleep(Duration::from_millis((*ms).into())).await,
                Step::Write { at, values } => {
                    self.write(link, unit, map, Write::Words(*at, values), answer).await?;
                }
                Step::Coil { at, on } => {
                    self.write(link, unit, map, Write::Coil(*at, *on), answer).await?;
                }
                Step::Wait { test, within_ms } => {
                    let until = Instant::now() + Duration::from_millis((*within_ms).into());
                    let field = map.fields.get(&test.field).ok_or_else(no_map)?;
                    let request = Request {
                        table: field.table,
                        start: field.at,
                        count: field.kind.registers(),
                    };
                    loop {
                        let image = self.image(link, unit, &[request]).await?;
                        let parsed = device_profiles::modbus::Image::parse(&image);
                        let holds =
                            parsed.is_ok_and(|image| test.holds(&map.fields, &image) == Ok(true));
                        if holds {
                            break;
                        }
                        if Instant::now() >= until {
                            return Err(AskError::NotDone(*within_ms));
                        }
                        sleep(Duration::from_millis(WAIT_LOOK_MS)).await;
                    }
                }
            }
        }
        Ok(())
    }

    async fn write(
        &mut self,
        link: &mut Option<Link>,
        unit: usize,
        map: &ModbusMap,
        write: Write<'_>,
        answer: Duration,
    ) -> Result<(), CallError> {
        let of = &mut self.units[unit];
        of.pause(map).await;
        let link = link.as_mut().ok_or_else(|| CallError::Down("no link".into()))?;
        let result = link.write(of.spec.unit, write, answer).await;
        of.asked_at = Some(Instant::now());
        result
    }
}

impl Unit {
    /// Leaves the device alone for as long as its profile asks.
    async fn pause(&self, map: &ModbusMap) {
        if let (Some(asked), gap @ 1..) = (self.asked_at, map.min_gap_ms) {
            sleep_until(asked + Duration::from_millis(gap.into())).await;
        }
    }
}

fn no_map() -> CallError {
    CallError::Foreign("the profile has no register map".into())
}
