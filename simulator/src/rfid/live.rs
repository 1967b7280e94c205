//! A world of tags on the wall clock: what its readers hear now, for whoever serves them.
//!
//! One physics hears for all readers; each reader takes what is its own. A reader that nobody asks keeps the newest
//! [`QUEUE_READS_MAX`] reads.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    physics::{Model, Physics, Read},
    world::World,
};
use crate::llrp::{self, Source};

/// Reads kept for a reader that nobody asks.
pub const QUEUE_READS_MAX: usize = 100_000;

struct State {
    physics: Box<dyn Physics + Send>,
    /// Unix time of virtual 0, microseconds.
    base_us: i64,
    queues: Vec<VecDeque<Read>>,
    fresh: Vec<Read>,
}

/// The readers of a world, hearing on the wall clock.
#[derive(Clone)]
pub struct Live(Arc<Mutex<State>>);

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Live {
    /// The readers of a world that begins at a moment, Unix microseconds.
    #[must_use]
    pub fn new(world: &Arc<World>, model: Model, base_us: i64) -> Self {
        Self(Arc::new(Mutex::new(State {
            physics: model.of(world),
            base_us,
            queues: vec![VecDeque::new(); world.site.readers.len()],
            fresh: Vec::new(),
        })))
    }

    /// What a reader hears.
    #[must_use]
    pub fn source(&self, reader: usize) -> Source {
        let live = self.clone();
        Box::new(move |_, to_us| live.lock().take(reader, to_us))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, reader: usize, to_us: i64) -> Vec<llrp::Read> {
        let to_us = to_us - self.base_us;
        self.physics.reads(to_us, &mut self.fresh);
        for read in self.fresh.drain(..) {
            let Some(queue) = self.queues.get_mut(read.reader) else { continue };
            if queue.len() == QUEUE_READS_MAX {
                queue.pop_front();
            }
            queue.push_back(read);
        }
        let Some(queue) = self.queues.get_mut(reader) else { return Vec::new() };
        let due = queue.partition_point(|read| read.at_us < to_us);
        let heard = |read: Read| llrp::Read {
            at_us: self.base_us + read.at_us,
            antenna: read.antenna,
            tag: read.tag,
            rssi_cdbm: read.rssi_cdbm,
        };
        queue.drain(..due).map(heard).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfid::Scenario;

    #[test]
    fn each_reader_takes_its_own_reads_once() {
        let scenario = Scenario::builtin("portal").unwrap();
        let world = Arc::new(World::new(&scenario).unwrap());
        let live = Live::new(&world, Model::Epochs, 1_000);
        let mut sources: Vec<Source> =
            (0..world.site.readers.len()).map(|reader| live.source(reader)).collect();
        let mut counted = 0;
        for second in 1..=60 {
            for source in &mut sources {
                counted += source(0, 1_000 + second * 1_000_000).len();
            }
        }
        let mut all = Vec::new();
        Model::Epochs.of(&world).reads(60_000_000, &mut all);
        assert_eq!(counted, all.len());
        assert!(counted > 100);
    }
}
