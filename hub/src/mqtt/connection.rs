//! The device actor: one actix actor for each connection, owning the socket on its arbiter.
//!
//! One task does all: its mailbox sets flags, then one pass handles what was read, writes every acknowledgement and
//! message that is due in one write, and arms one timer for the nearest deadline. Buffers belong to the arbiter and are
//! lent for a pass; a connection keeps one only while a packet is incomplete or a write is, so an idle one owns none.
//!
//! It is not restarted: a panic ends the connection, the device connects again and sends again what was not
//! acknowledged. `Drop` gives the client back to the registry on every path.

use std::{
    cell::RefCell,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context as Task, Poll, ready},
    time::Duration,
};

use actix::ActorContext;
use actix::{Actor, ActorFuture, AsyncContext, Context, Handler, Message, Recipient};
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Core, Peer,
    cause::Cause,
    inbound::Wait,
    limits::{LINGER_BYTES_MAX, MAILBOX_MESSAGES_MAX, READ_BYTES_MAX},
    outbox::{Control, Mailbox},
    session::{Progress, Session},
    stats::Counter,
};

thread_local! {
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES_MAX]);
    static WRITE: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Reads in one pass before other connections get their turn.
const READS_PER_PASS_MAX: usize = 4;
/// Capacity of an output buffer that goes back to the arbiter, bytes; a larger one is freed.
const WRITE_BYTES_KEPT_MAX: usize = 64 * 1024;

impl Message for Control {
    type Result = ();
}

impl Mailbox for Recipient<Control> {
    fn post(&self, control: Control) -> bool {
        self.try_send(control).is_ok()
    }
}

/// Counts a connection as open while it lives.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Permit {
    /// One of `max`, if there is one left.
    pub fn take(open: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let taken = open.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1));
        taken.is_ok().then(|| Self(Arc::clone(open)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

enum Stage {
    Serving,
    /// Write what is left, half-close, and read until the client has seen it.
    Lingering {
        until: Instant,
        read: usize,
        shut: bool,
    },
}

/// One connection.
pub struct Connection<S> {
    core: Arc<Core>,
    stream: S,
    session: Session,
    stage: Stage,
    input: BytesMut,
    out: BytesMut,
    ended: Option<Cause>,
    drain_until: Option<Instant>,
    draining: bool,
    connect_until: Instant,
    retry_at: Option<Instant>,
    stuck_at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    _permit: Permit,
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Connection<S> {
    /// Starts a connection on the current arbiter.
    pub fn start_on(core: Arc<Core>, stream: S, peer: Peer, permit: Permit) {
        Self::create(move |ctx| {
            ctx.set_mailbox_capacity(MAILBOX_MESSAGES_MAX);
            let now = Instant::now();
            let mailbox = Box::new(ctx.address().recipient());
            let connection = core.registry.next_connection();
            let session = Session::new(Arc::clone(&core), connection, peer, mailbox, now);
            Self {
                connect_until: now + core.limits.connect_deadline(),
                core,
                stream,
                session,
                stage: Stage::Serving,
                input: BytesMut::new(),
                out: BytesMut::new(),
                ended: None,
                drain_until: None,
                draining: false,
                retry_at: None,
                stuck_at: None,
                timer: None,
                _permit: permit,
            }
        });
    }

    /// One pass. `Ready` = the connection is done with.
    fn pass(&mut self, task: &mut Task<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.out.capacity() == 0 {
            self.out = WRITE.with(RefCell::take);
        }
        let done = match self.stage {
            Stage::Serving => self.serve(task, now),
            Stage::Lingering { .. } => self.linger(task, now),
        };
        if self.out.is_empty() {
            let mut out = std::mem::take(&mut self.out);
            if out.capacity() <= WRITE_BYTES_KEPT_MAX {
                out.clear();
                WRITE.with(|kept| kept.replace(out));
            }
        }
        if done.is_pending() {
            self.arm(task);
        }
        done
    }

    fn serve(&mut self, task: &mut Task<'_>, now: Instant) -> Poll<()> {
        if let Some(cause) = self.ended.take().or_else(|| self.overdue(now)) {
            return self.end(cause, task, now);
        }
        if self.draining && self.drain_until.is_none() {
            self.drain_until = Some(now + Duration::from_millis(self.core.limits.drain_ms_max));
        }
        let mut progress = Progress::NeedMore;
        for turn in 0.. {
            if self.retry_at.is_some_and(|at| at > now) || self.drain_until.is_some() {
                break;
            }
            self.retry_at = None;
            progress = self.session.receive(&mut self.input, now, &mut self.out);
            match progress {
                Progress::Over(cause) => return self.end(cause, task, now),
                Progress::Blocked(Wait::Timer(wait)) => {
                    self.retry_at = Some(now + wait);
                    break;
                }
                Progress::Blocked(Wait::Durable | Wait::Output) => break,
                Progress::NeedMore => {}
            }
            if turn == READS_PER_PASS_MAX {
                task.waker().wake_by_ref();
                break;
            }
            match self.read(task) {
                Poll::Pending => break,
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(Ok(_) | Err(_)) => return self.end(Cause::Lost, task, now),
            }
        }
        self.compact();
        // Registered before the cell is looked at, so that no commit falls between.
        if let Some(cell) = self.session.waits_for() {
            cell.register(task.waker());
        }
        self.session.settle(&mut self.out);
        self.session.deliver(now, &mut self.out);
        if self.drain_until.is_some() && self.session.is_settled() {
            return self.end(Cause::Drain, task, now);
        }
        let was_full = self.out.len() > self.core.limits.out_bytes_soft();
        if self.write(task, now).is_err() {
            return self.end(Cause::Lost, task, now);
        }
        if self.out.len() > self.core.limits.out_bytes_max {
            return self.end(Cause::SlowReader, task, now);
        }
        // Whatever stopped it may have ended since, with no wake left to come.
        let output_again = was_full || matches!(progress, Progress::Blocked(Wait::Output));
        let writable = self.out.len() <= self.core.limits.out_bytes_soft();
        let durable_again =
            matches!(progress, Progress::Blocked(Wait::Durable)) && self.session.has_room();
        if (output_again && writable) || durable_again {
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// The deadline that has passed, if any.
    fn overdue(&self, now: Instant) -> Option<Cause> {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.session.is_hello() && self.connect_until <= now {
            Some(Cause::ConnectTimeout)
        } else if passed(self.stuck_until()) {
            Some(Cause::SlowReader)
        } else if passed(self.drain_until) {
            Some(Cause::Drain)
        } else if passed(self.session.silent_at()) {
            Some(Cause::KeepAlive)
        } else {
            None
        }
    }

    fn stuck_until(&self) -> Option<Instant> {
        let max = Duration::from_millis(self.core.limits.write_stall_ms_max);
        self.stuck_at.map(|at| at + max)
    }

    /// Arms the timer for the nearest deadline. One that moved away is left to fire early and be armed again, so a
    /// message does not cost a timer operation.
    fn arm(&mut self, task: &mut Task<'_>) {
        let nearest = match self.stage {
            Stage::Lingering { until, .. } => Some(until),
            Stage::Serving => [
                self.session.is_hello().then_some(self.connect_until),
                self.stuck_until(),
                self.drain_until,
                self.session.silent_at(),
                self.retry_at,
            ]
            .into_iter()
            .flatten()
            .min(),
        };
        let Some(at) = nearest else { return };
        let timer = match &mut self.timer {
            Some(timer) => {
                if timer.deadline() > at || timer.is_elapsed() {
                    timer.as_mut().reset(at);
                }
                timer
            }
            None => self.timer.insert(Box::pin(sleep_until(at))),
        };
        if timer.as_mut().poll(task).is_ready() {
            task.waker().wake_by_ref();
        }
    }

    fn read(&mut self, task: &mut Task<'_>) -> Poll<std::io::Result<usize>> {
        READ.with(|scratch| {
            let mut scratch = scratch.borrow_mut();
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(task, &mut buf))?;
            self.input.extend_from_slice(buf.filled());
            self.core.stats.add(Counter::BytesIn, buf.filled().len() as u64);
            Poll::Ready(Ok(buf.filled().len()))
        })
    }

    /// Keeps the beginning of a packet without the rest of the read it came with.
    fn compact(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        } else if self.input.len() < self.input.capacity() / 4 || self.input.len() < 1024 {
            self.input = BytesMut::from(&self.input[..]);
        }
    }

    fn write(&mut self, task: &mut Task<'_>, now: Instant) -> std::io::Result<()> {
        while !self.out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(task, &self.out)? {
                Poll::Ready(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(n) => {
                    self.out.advance(n);
                    self.stuck_at = None;
                    self.core.stats.add(Counter::BytesOut, n as u64);
                }
                Poll::Pending => {
                    self.stuck_at.get_or_insert(now);
                    return Ok(());
                }
            }
        }
        match Pin::new(&mut self.stream).poll_flush(task)? {
            Poll::Ready(()) => self.stuck_at = None,
            // TLS keeps records of its own that the socket has not taken yet.
            Poll::Pending => {
                self.stuck_at.get_or_insert(now);
            }
        }
        Ok(())
    }

    fn end(&mut self, cause: Cause, task: &mut Task<'_>, now: Instant) -> Poll<()> {
        self.session.settle(&mut self.out);
        let cause = self.session.finish(cause, now, &mut self.out);
        if matches!(cause, Cause::Lost | Cause::Goodbye { .. } | Cause::ConnectTimeout) {
            // Nobody is there to read more, or nobody said who he is; what is written goes if it can.
            return match self.write(task, now) {
                Ok(()) | Err(_) => Poll::Ready(()),
            };
        }
        let until = now + Duration::from_millis(self.core.limits.linger_ms_max);
        self.stage = Stage::Lingering { until, read: 0, shut: false };
        self.input = BytesMut::new();
        self.linger(task, now)
    }

    fn linger(&mut self, task: &mut Task<'_>, now: Instant) -> Poll<()> {
        if self.write(task, now).is_err() {
            return Poll::Ready(());
        }
        let Stage::Lingering { until, read, shut } = &mut self.stage else {
            return Poll::Ready(());
        };
        if *until <= now {
            return Poll::Ready(());
        }
        if self.out.is_empty() && !*shut {
            match Pin::new(&mut self.stream).poll_shutdown(task) {
                Poll::Ready(Ok(())) => *shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        let stream = &mut self.stream;
        READ.with(|scratch| {
            let mut scratch = scratch.borrow_mut();
            loop {
                let mut buf = ReadBuf::new(&mut scratch);
                match Pin::new(&mut *stream).poll_read(task, &mut buf) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                        *read += buf.filled().len();
                        if *read > LINGER_BYTES_MAX {
                            return Poll::Ready(());
                        }
                    }
                    Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(()),
                }
            }
        })
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        self.core.stats.count(Counter::Closed);
        if panicked {
            self.core.stats.count(Counter::Panicked);
            tracing::error!("a connection ended by a panic; its device will connect again");
        }
        self.session.finish(Cause::Lost, Instant::now(), &mut BytesMut::new());
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Actor for Connection<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(Pump);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Handler<Control> for Connection<S> {
    type Result = ();

    /// Only notes what came: the pass that follows in the same poll acts on it.
    fn handle(&mut self, control: Control, _: &mut Self::Context) {
        match control {
            Control::Deliver => {}
            Control::Drain => self.draining = true,
            Control::TakenOver { .. } | Control::Revoked => {
                self.ended = self.ended.or(Session::cause_of(control));
            }
        }
    }
}

/// Polls the socket within the actor's own task.
struct Pump;

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> ActorFuture<Connection<S>> for Pump {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        connection: &mut Connection<S>,
        ctx: &mut Context<Connection<S>>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        ready!(connection.pass(task));
        ctx.stop();
        Poll::Ready(())
    }
}
