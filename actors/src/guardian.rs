//! Guardian: keeps a child running, whatever it does.
//!
//! `actix::Supervisor` does not survive a panic in a handler, restarts the same instance and never waits. The guardian runs a
//! child from a factory, so that each life starts clean; it survives errors and panics, waits longer after each failure
//! (with jitter), forgets failures after a calm time, and escalates when a budget of restarts is spent: the child is then
//! left down, its status says why, and `/readyz` tells.
//!
//! Liveness is progress: a child beats, and one that has not for [`Policy::stall_after`] is reported as stalled. It is not
//! killed: on one machine a blocked thread cannot be, and saying so is more use than pretending.

use std::{
    any::Any,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use crate::ports::rng::Rng;

/// How a child is kept.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Wait after the first failure, in milliseconds; doubles with each further one.
    pub backoff_ms_min: u64,
    /// Longest wait, in milliseconds.
    pub backoff_ms_max: u64,
    /// Failures within `calm_after` of each other until the guardian gives up.
    pub restarts_max: u32,
    /// A life of this length makes earlier failures forgotten.
    pub calm_after: Duration,
    /// Without a beat for so long a child counts as stalled.
    pub stall_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            backoff_ms_min: 50,
            backoff_ms_max: 10_000,
            restarts_max: 20,
            calm_after: Duration::from_secs(60),
            stall_after: Duration::from_secs(15),
        }
    }
}

/// How a child is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// It failed and will be started again.
    Waiting(String),
    /// It ended as it should.
    Ended,
    /// It is down for good.
    GaveUp(String),
}

/// What a child says of its end.
#[derive(Debug)]
pub enum End {
    /// It is done.
    Done,
    /// It failed; another life may do better.
    Failed(String),
    /// It failed, and another life would fail the same way.
    Hopeless(String),
}

/// A child's status, shared with whoever watches it.
pub struct Status {
    name: String,
    started: Instant,
    state: Mutex<State>,
    restarts: AtomicU32,
    beat_ms: AtomicU64,
    stall_after: Duration,
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.name, self.state())
    }
}

impl Status {
    fn new(name: &str, policy: &Policy) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            started: Instant::now(),
            state: Mutex::new(State::Running),
            restarts: AtomicU32::new(0),
            beat_ms: AtomicU64::new(0),
            stall_after: policy.stall_after,
        })
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// How it is.
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// How often it was started again.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Relaxed)
    }
    /// The child makes progress.
    pub fn beat(&self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat_ms.store(ms, Relaxed);
    }
    /// It runs but has not beaten for too long.
    pub fn is_stalled(&self) -> bool {
        let beat = Duration::from_millis(self.beat_ms.load(Relaxed));
        self.state() == State::Running
            && self.started.elapsed().saturating_sub(beat) > self.stall_after
    }
    /// It runs and beats, or ended as it should.
    pub fn is_well(&self) -> bool {
        matches!(self.state(), State::Running | State::Ended) && !self.is_stalled()
    }
    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// Runs a child on the current arbiter and keeps it running. The factory makes each life; what it makes gets the status to
/// beat. The returned status can be watched from anywhere.
pub fn guard<F, Fut>(name: &str, policy: Policy, rng: Arc<dyn Rng>, mut life: F) -> Arc<Status>
where
    F: FnMut(Arc<Status>) -> Fut + 'static,
    Fut: Future<Output = End> + 'static,
{
    let status = Status::new(name, &policy);
    let watched = Arc::clone(&status);
    actix_rt::spawn(async move {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            status.beat();
            status.set(State::Running);
            let lived = AssertUnwindSafe(async { life(Arc::clone(&status)).await });
            let why = match lived.catch_unwind().await {
                Ok(End::Done) => {
                    status.set(State::Ended);
                    return;
                }
                Ok(End::Failed(why)) => why,
                Ok(End::Hopeless(why)) => {
                    tracing::error!(child = status.name, why, "given up");
                    status.set(State::GaveUp(why));
                    return;
                }
                Err(panic) => format!("panicked: {}", panic_text(&*panic)),
            };
            if began.elapsed() >= policy.calm_after {
                failures = 0;
            }
            failures += 1;
            status.restarts.fetch_add(1, Relaxed);
            if failures > policy.restarts_max {
                tracing::error!(
                    child = status.name,
                    why,
                    failures,
                    "given up after too many failures"
                );
                status.set(State::GaveUp(why));
                return;
            }
            let base = policy
                .backoff_ms_min
                .saturating_mul(1 << (failures - 1).min(20))
                .min(policy.backoff_ms_max);
            let wait_ms = rng.jitter_ms(base);
            tracing::warn!(child = status.name, why, wait_ms, "failed; starting again");
            status.set(State::Waiting(why));
            sleep(Duration::from_millis(wait_ms)).await;
        }
    });
    watched
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::rng::SplitMix;
    use std::{cell::Cell, rc::Rc};

    fn policy() -> Policy {
        Policy { restarts_max: 3, ..Policy::default() }
    }

    async fn wait_for(status: &Status, wanted: impl Fn(&State) -> bool) -> State {
        loop {
            let state = status.state();
            if wanted(&state) {
                return state;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn a_child_that_panics_lives_again_and_gives_up_in_the_end() {
        actix_rt::System::new().block_on(async {
            tokio::time::pause();
            let lives = Rc::new(Cell::new(0));
            let count = Rc::clone(&lives);
            let status = guard("child", policy(), Arc::new(SplitMix::new(1)), move |_| {
                count.set(count.get() + 1);
                async { panic!("on purpose") }
            });
            let end = wait_for(&status, |s| matches!(s, State::GaveUp(_))).await;
            assert_eq!(end, State::GaveUp("panicked: on purpose".into()));
            assert_eq!((lives.get(), status.restarts()), (4, 4));
            assert!(!status.is_well());
        });
    }

    #[test]
    fn silence_is_a_stall_and_a_calm_life_forgives() {
        actix_rt::System::new().block_on(async {
            tokio::time::pause();
            let lives = Rc::new(Cell::new(0));
            let count = Rc::clone(&lives);
            let status = guard("child", policy(), Arc::new(SplitMix::new(1)), move |_| {
                count.set(count.get() + 1);
                let long = count.get() % 2 == 0;
                async move {
                    if long {
                        sleep(Duration::from_secs(120)).await;
                    }
                    End::Failed("again".into())
                }
            });
            sleep(Duration::from_secs(20)).await;
            assert!(status.is_stalled());
            sleep(Duration::from_secs(1_000)).await;
            assert!(lives.get() > 10, "{}", lives.get());
            assert!(matches!(status.state(), State::Running | State::Waiting(_)));
        });
    }
}
