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

use device_profiles::modbus::{Command, ModbusMap, Request, Step};
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, sleep, sleep_until},
};

use super::{
    BusHealth, BusSpec, Delivered, Sink, UnitHealth, UnitSpec,
    handle::{Ask, AskError, Asked, Handle, Inbox},
    link::{BACKOFF_MS_MAX, BACKOFF_MS_MIN, CallError, Link, Write},
    schedule::{Job, Next, Schedule},
    unit::{Pulse, Unit},
};
use crate::{
    guardian::{End, Policy, Status, guard},
    ports::rng::Rng,
};

/// Pause between two looks of a step that waits for a test to hold, in milliseconds.
const WAIT_LOOK_MS: u64 = 50;
/// With nothing to poll the actor still beats this often, in milliseconds.
const IDLE_MS: u64 = 1_000;

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

/// A unit of this bus.
struct Member {
    spec: UnitSpec,
    unit: Unit,
    pulse: Pulse,
}

/// One stream that is polled.
struct Polled {
    unit: usize,
    stream: String,
    requests: Vec<Request>,
    /// What they were merged of.
    blocks: Vec<Request>,
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
        bus.health.lived_us.store(bus.now_us(), Relaxed);
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
    units: Vec<Member>,
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
                let (requests, blocks) = (poll.requests.clone(), poll.blocks.clone());
                polls.push(Polled { unit, stream: name.clone(), requests, blocks });
            }
        }
        let member = |spec: &UnitSpec| Member {
            spec: spec.clone(),
            unit: Unit::new(spec.unit),
            pulse: Pulse::default(),
        };
        Self {
            spec,
            sink,
            rng,
            health,
            told,
            units: spec.units.iter().map(member).collect(),
            schedule: Schedule::new(jobs, spec.units.len(), 0),
            polls,
            began,
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn connected(&mut self) {
        if self.health.note_connected() > 0 && self.spec.units.len() == 1 {
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
        let Some(Polled { unit, stream, requests, blocks }) = self.polls.get(job) else {
            return Ok(());
        };
        let (unit, stream) = (*unit, stream.clone());
        let (requests, blocks) = (requests.clone(), blocks.clone());
        let before = self.now_us();
        let result = self.image(link, unit, &requests, &blocks).await;
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
        told.note_end(answered);
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
        blocks: &[Request],
    ) -> Result<Vec<u8>, CallError> {
        let Member { spec, unit: of, .. } = &mut self.units[unit];
        let map = spec.profile.modbus.as_ref().ok_or_else(no_map)?;
        let link = link.as_mut().ok_or_else(no_link)?;
        let known = of.splits();
        let image = of.image(link, map, requests, blocks).await;
        if of.splits() > known {
            let device = &spec.device;
            tracing::info!(%device, "the device refuses registers that were read along; its fields are read one by one");
        }
        self.told[unit].splits.store(of.splits() as u64, Relaxed);
        image
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
                let poll = poll.ok_or_else(|| AskError::Unknown(format!("stream {stream:?}")))?;
                let (requests, blocks) = (poll.requests.clone(), poll.blocks.clone());
                let before = self.now_us();
                let result = self.image(link, unit, &requests, &blocks).await;
                let now = self.now_us();
                self.note(unit, None, before, now, result.as_ref().err());
                let image = result?;
                self.deliver(unit, &stream, image.clone(), now);
                Ok(Asked::Image(image))
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
        for step in &command.steps {
            match step {
                Step::Pause(ms) => sleep(Duration::from_millis((*ms).into())).await,
                Step::Write { at, values } => {
                    self.write(link, unit, map, Write::Words(*at, values)).await?;
                }
                Step::Coil { at, on } => {
                    self.write(link, unit, map, Write::Coil(*at, *on)).await?;
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
                        let image = self.image(link, unit, &[request], &[]).await?;
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
    ) -> Result<(), CallError> {
        let link = link.as_mut().ok_or_else(no_link)?;
        self.units[unit].unit.write(link, map, write).await
    }
}

fn no_link() -> CallError {
    CallError::Down("no link".into())
}

fn no_map() -> CallError {
    CallError::Foreign("the profile has no register map".into())
}
