//! Actors that follow the database: which run, and a reconciler that makes them be those that are wanted.
//!
//! They live on an arbiter of their own, whose thread ends with the process. One whose settings changed is ended and started
//! anew, and the others do not notice. A handle that is dropped ends its actor.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use actix_rt::{Arbiter, ArbiterHandle};
use actors::guardian::Status;
use tokio::sync::oneshot;

/// A handle of an actor that talks to one thing outside.
pub trait Member: Clone + Send + 'static {
    /// What it is configured as.
    type Spec: PartialEq + Send + 'static;
    /// What it is configured as.
    fn spec(&self) -> &Self::Spec;
    /// It is connected.
    fn is_up(&self) -> bool;
}

/// One that runs.
#[derive(Clone)]
pub struct Running<H> {
    /// Its facility.
    pub facility: String,
    /// Its handle.
    pub handle: H,
    /// Its actor.
    pub status: Arc<Status>,
}

/// What is wanted, by id: the facility, and the settings.
pub type Wanted<H> = BTreeMap<String, (String, <H as Member>::Spec)>;

/// Those that run, by id.
pub struct Fleet<H> {
    arbiter: ArbiterHandle,
    running: RwLock<BTreeMap<String, Running<H>>>,
}

impl<H: Member> Default for Fleet<H> {
    fn default() -> Self {
        Self { arbiter: Arbiter::new().handle(), running: RwLock::default() }
    }
}

impl<H: Member> Fleet<H> {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Running<H>>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every one that runs, by id.
    pub fn all(&self) -> Vec<(String, Running<H>)> {
        self.read().iter().map(|(id, running)| (id.clone(), running.clone())).collect()
    }

    /// One that runs.
    pub fn get(&self, id: &str) -> Option<Running<H>> {
        self.read().get(id).cloned()
    }

    /// The first in which something is found, and what was found.
    pub fn find<T>(&self, look: impl Fn(&H) -> Option<T>) -> Option<(Running<H>, T)> {
        self.read().values().find_map(|running| Some((running.clone(), look(&running.handle)?)))
    }

    /// How many are connected, and how many there are.
    pub fn up(&self) -> (usize, usize) {
        let running = self.read();
        (running.values().filter(|running| running.handle.is_up()).count(), running.len())
    }

    /// Ends every one.
    pub fn stop(&self) {
        self.running.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Makes those that run be those that are wanted. `starter` gives what starts one, on the arbiter.
    pub async fn follow<S>(&self, mut wanted: Wanted<H>, starter: impl Fn(H::Spec) -> S)
    where
        S: FnOnce() -> (H, Arc<Status>) + Send + 'static,
    {
        let fresh: Vec<String> = {
            let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
            running.retain(|id, own| {
                wanted.get(id).is_some_and(|(_, spec)| spec == own.handle.spec())
            });
            wanted.keys().filter(|id| !running.contains_key(*id)).cloned().collect()
        };
        for id in fresh {
            let Some((facility, spec)) = wanted.remove(&id) else { continue };
            let start = starter(spec);
            let (tell, told) = oneshot::channel();
            self.arbiter.spawn_fn(move || {
                let _ = tell.send(start());
            });
            // The arbiter ends with the process only.
            let Ok((handle, status)) = told.await else { return };
            let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
            running.insert(id, Running { facility, handle, status });
        }
    }
}
