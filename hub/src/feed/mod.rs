//! The live feed: committed batches to WebSockets, a snapshot first, then deltas after it.
//!
//! ```text
//!  desk.batches ─► hub task: merge per facility ── every 100 ms ──► bounded queue of each client ─► WebSocket
//!  desk.live_values ── every 200 ms ───────────────────────────────────┘                             ▲
//!                                          store.snapshot, after the client joined ──────────────────┘
//! ```
//! One task merges for all clients, so a delta is made and written as JSON once. A client joins before it reads its snapshot:
//! what is committed in between waits in its queue, and what the snapshot has already is dropped by position ([`merge`]). So
//! there is no gap and no repeat. When the task itself falls behind the committer it tells every client to take a new
//! snapshot. A client whose queue is full is cut with a reason; it may come back.

pub mod limits;
pub mod live;
pub mod merge;
pub mod message;
mod task;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytestring::ByteString;
use device_profiles::FacilityId;
use tokio::sync::{mpsc, watch};

use self::{
    limits::{CLIENT_QUEUE_MAX, REQUEST_QUEUE_MAX},
    merge::{Delta, Places},
};
use crate::desk::Desk;

/// What waits for a client.
#[derive(Debug, Clone)]
enum Told {
    /// A delta, to be cut to what the client has not seen.
    Delta(Arc<Delta>),
    /// Anything that is the same for all.
    Text(ByteString),
    /// Deltas were lost: take a new snapshot.
    Resync,
}

/// Why a client is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// It does not keep up.
    Slow,
    /// The hub stops.
    Stopping,
}

/// What is asked of the task.
enum Request {
    Join { facility: FacilityId, shard: u16, client: Client },
    Places { facility: FacilityId, places: Places },
    Stop,
}

/// A client as the task knows it.
struct Client {
    queue: mpsc::Sender<Told>,
    cut: watch::Sender<Option<Cut>>,
    /// Counts as connected while it lives.
    _seat: Seat,
}

/// A client's own end.
struct Subscription {
    queue: mpsc::Receiver<Told>,
    cut: watch::Receiver<Option<Cut>>,
}

/// One of the places for clients.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a client was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoSeat {
    Full,
    Stopped,
}

/// The door to the feed. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    requests: mpsc::Sender<Request>,
    clients: Arc<AtomicUsize>,
    desk: Desk,
}

impl Feed {
    /// Starts the task on the current arbiter. It ends when the last handle is gone or the feed is stopped.
    pub fn start(desk: Desk) -> Self {
        let (requests, asked) = mpsc::channel(REQUEST_QUEUE_MAX);
        actix_rt::spawn(task::run(desk.clone(), asked));
        Self { requests, clients: Arc::default(), desk }
    }

    /// Connected clients.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Slots of a facility may have moved: the task is told where they are now.
    pub async fn places_changed(&self, facility: &FacilityId) {
        if self.clients() == 0 {
            return;
        }
        match self.desk.store.places(facility.as_str()).await {
            Ok(places) => self.tell_places(facility, places.into_iter().collect()),
            Err(fault) => {
                tracing::warn!(%facility, %fault, "the feed could not learn where slots are")
            }
        }
    }

    /// Cuts every client, because the hub stops.
    pub fn stop(&self) {
        // A full queue means that the task is alive and busy; it then ends with the last handle.
        let _ = self.requests.try_send(Request::Stop);
    }

    fn tell_places(&self, facility: &FacilityId, places: Places) {
        // A place that is told late shows as unknown until the next change; nothing else depends on it.
        let _ = self.requests.try_send(Request::Places { facility: facility.clone(), places });
    }

    async fn join(
        &self,
        facility: &FacilityId,
        shard: u16,
        most: usize,
    ) -> Result<Subscription, NoSeat> {
        let taken = self.clients.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(self.clients.clone());
        if taken >= most {
            return Err(NoSeat::Full);
        }
        let (queue, told) = mpsc::channel(CLIENT_QUEUE_MAX);
        let (cut, cuts) = watch::channel(None);
        let client = Client { queue, cut, _seat: seat };
        let request = Request::Join { facility: facility.clone(), shard, client };
        self.requests.send(request).await.map_err(|_| NoSeat::Stopped)?;
        Ok(Subscription { queue: told, cut: cuts })
    }
}
