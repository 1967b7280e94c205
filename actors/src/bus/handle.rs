//! A bus as others hold it: what it may be asked, what came of it, and the two ends of the queue between.
//!
//! The queue is bounded and never waited for: who finds it full is told so. The actor's end outlives a life of the actor that
//! fails, so that what was asked and what was spent of a command's budget is not lost with it.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{ASKS_MAX, BusHealth, BusSpec, UnitHealth, link::CallError};

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
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The image that was read.
    Image(Vec<u8>),
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

pub(crate) type Reply = oneshot::Sender<Result<Asked, AskError>>;

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
    pub(crate) spec: Arc<BusSpec>,
    pub(crate) health: Arc<BusHealth>,
    pub(crate) units: Arc<[UnitHealth]>,
    pub(crate) asks: mpsc::Receiver<(Ask, Reply)>,
    /// Commands carried out in the last 24 hours: unit, name, when.
    pub(crate) done: Vec<(usize, String, Instant)>,
}
