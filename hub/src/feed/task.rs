//! The feed's task: takes batches, keeps one merge a facility, and tells every client at a steady pace.

use std::{collections::HashMap, sync::Arc};

use actors::store::Batch;
use device_profiles::FacilityId;
use fold::{HubTime, Position};
use tokio::{
    sync::{broadcast, mpsc},
    time::{MissedTickBehavior, interval},
};

use super::{
    Client, Cut, Request, Told,
    limits::{DELTA_EVERY, HEARTBEAT_EVERY, LIVE_EVERY},
    merge::{Merge, Places},
    message::Message,
};
use crate::{desk::Desk, store::when::When};

/// A facility somebody looks at.
struct Watched {
    shard: u16,
    merge: Merge,
    places: Places,
    clients: Vec<Client>,
    /// Everything up to here was told.
    told: Position,
    /// Newest live value told, hub microseconds.
    live_us: i64,
}

/// Runs until the feed is stopped or its last handle is gone.
pub(super) async fn run(desk: Desk, mut requests: mpsc::Receiver<Request>) {
    let mut batches = desk.batches();
    // A hub without a committer has no batches; its clients still get heartbeats.
    let mut fed = true;
    let mut watched: HashMap<FacilityId, Watched> = HashMap::new();
    let mut deltas = interval(DELTA_EVERY);
    let mut lives = interval(LIVE_EVERY);
    let mut heartbeats = interval(HEARTBEAT_EVERY);
    for pace in [&mut deltas, &mut lives, &mut heartbeats] {
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            biased;
            request = requests.recv() => match request {
                Some(Request::Join { facility, shard, client }) => join(&desk, &mut watched, facility, shard, client),
                Some(Request::Places { facility, places }) => {
                    if let Some(watched) = watched.get_mut(&facility) {
                        watched.places = places;
                    }
                }
                Some(Request::Stop) | None => break,
            },
            batch = batches.recv(), if fed => match batch {
                Ok(batch) => take(&mut watched, &batch, desk.now_us()),
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "the feed fell behind the committer; clients take a new snapshot");
                    for watched in watched.values_mut() {
                        watched.merge = Merge::default();
                        watched.tell(&Told::Resync);
                    }
                }
                Err(broadcast::error::RecvError::Closed) => fed = false,
            },
            _ = deltas.tick() => watched.values_mut().for_each(Watched::flush),
            _ = lives.tick() => for (facility, watched) in &mut watched {
                watched.live(&desk, facility);
            },
            _ = heartbeats.tick() => {
                let at = When(desk.now_us());
                watched.values_mut().for_each(|watched| watched.heartbeat(at));
                // Clients that are gone leave; a facility that nobody looks at is forgotten.
                watched.retain(|_, watched| {
                    watched.clients.retain(|client| !client.queue.is_closed());
                    !watched.clients.is_empty()
                });
            }
        }
    }
    for client in watched.into_values().flat_map(|watched| watched.clients) {
        client.cut.send_replace(Some(Cut::Stopping));
    }
}

fn join(
    desk: &Desk,
    watched: &mut HashMap<FacilityId, Watched>,
    facility: FacilityId,
    shard: u16,
    client: Client,
) {
    let new = || Watched {
        shard,
        merge: Merge::default(),
        places: Places::default(),
        clients: Vec::new(),
        told: desk.visible(shard),
        live_us: 0,
    };
    let watched = watched.entry(facility).or_insert_with(new);
    watched.clients.push(client);
    // The next live message has every value, for the one who came.
    watched.live_us = 0;
}

fn take(watched: &mut HashMap<FacilityId, Watched>, batch: &Arc<Batch>, now_us: i64) {
    for (facility, watched) in
        watched.iter_mut().filter(|(_, watched)| watched.shard == batch.shard)
    {
        watched.merge.take(facility, batch, &watched.places, HubTime(now_us));
        watched.told = watched.merge.to();
    }
}

impl Watched {
    /// Tells every client; one whose queue is full is cut.
    fn tell(&mut self, told: &Told) {
        self.clients.retain(|client| match client.queue.try_send(told.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                client.cut.send_replace(Some(Cut::Slow));
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
    }

    fn flush(&mut self) {
        if let Some(delta) = self.merge.flush() {
            self.tell(&Told::Delta(delta));
        }
    }

    /// Says how far everything was told, which is true once the merge is empty.
    fn heartbeat(&mut self, at: When) {
        self.flush();
        let text = Message::Heartbeat { position: self.told.to_string(), at }.text();
        self.tell(&Told::Text(text));
    }

    fn live(&mut self, desk: &Desk, facility: &FacilityId) {
        let values = desk.live_values(facility, self.live_us);
        let Some(newest) = values.iter().map(|value| value.at_us).max() else { return };
        self.live_us = newest;
        let text = Message::Live { values: values.iter().map(Into::into).collect() }.text();
        // Lossy on purpose: who has a queue does not get more of what is stale soon.
        for client in &self.clients {
            if client.queue.capacity() > client.queue.max_capacity() / 2 {
                let _ = client.queue.try_send(Told::Text(text.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::watch;

    use super::*;
    use crate::feed::{Seat, limits::CLIENT_QUEUE_MAX};

    #[test]
    fn a_slow_client_is_cut_and_others_are_not() {
        let seats = Arc::new(AtomicUsize::new(2));
        let client = || {
            let (queue, told) = mpsc::channel(CLIENT_QUEUE_MAX);
            let (cut, cuts) = watch::channel(None);
            (Client { queue, cut, _seat: Seat(Arc::clone(&seats)) }, told, cuts)
        };
        let (slow, _unread, slow_cut) = client();
        let (quick, mut read, quick_cut) = client();
        let mut watched = Watched {
            shard: 0,
            merge: Merge::default(),
            places: Places::default(),
            clients: vec![slow, quick],
            told: Position::default(),
            live_us: 0,
        };
        for _ in 0..=CLIENT_QUEUE_MAX {
            watched.heartbeat(When(0));
            assert!(matches!(read.try_recv(), Ok(Told::Text(_))));
        }
        assert_eq!(*slow_cut.borrow(), Some(Cut::Slow));
        assert_eq!(*quick_cut.borrow(), None);
        assert_eq!(watched.clients.len(), 1);
        assert_eq!(seats.load(Ordering::Relaxed), 1);
    }
}
