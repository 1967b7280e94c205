//! The RFID readers of the hub: which run, and a reconciler that makes them be what PostgreSQL says.
//!
//! To the installer a reader is a bus with one device on it: the same rows, the same calls, another scheme in the address. It has
//! actors of its own because nothing is polled there: a reader speaks by itself. They live on an arbiter of their own; a reader
//! whose address, device or profile changed is ended and started anew, and the others do not notice.

pub mod dial;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering::Relaxed},
};

use actix_rt::{Arbiter, ArbiterHandle};
use actors::{
    guardian::{Policy, Status},
    ports::rng::Rng,
    reader::{self, Delivered, Dial, Handle, ReaderAddress, ReaderSpec, Sink},
};
use bytes::Bytes;
use device_profiles::{DeviceId, Profile, profile::Kind};
use tokio::sync::oneshot;

use crate::{
    buses::BUSES_MAX,
    config,
    directory::Directory,
    ingress::HubIngress,
    store::{PgStore, fault::Fault},
};

/// The unit that the one device of a reader is.
pub const READER_UNIT: u8 = 1;

/// A reader that runs.
#[derive(Clone)]
pub struct Running {
    /// Its facility.
    pub facility: String,
    /// Its handle.
    pub handle: Handle,
    /// Its actor.
    pub status: Arc<Status>,
}

/// The readers.
pub struct Readers {
    directory: Arc<Directory>,
    ingress: Arc<HubIngress>,
    rng: Arc<dyn Rng>,
    dial: Dial,
    arbiter: ArbiterHandle,
    running: RwLock<BTreeMap<String, Running>>,
}

/// Hands messages to the ingress.
#[derive(Clone)]
struct Frames {
    directory: Arc<Directory>,
    ingress: Arc<HubIngress>,
}

impl Sink for Frames {
    fn deliver(&self, device: &DeviceId, stream: &str, message: &Bytes) -> Delivered {
        match self.directory.device(device.as_str()) {
            Some(device) => self.ingress.heard(&device, stream, message),
            None => Delivered::Refused,
        }
    }
}

/// The stream that a reader's messages are frames of.
fn stream_of(profile: &Profile) -> Option<&str> {
    let tags = |kind: &Kind| matches!(kind, Kind::Tags(_));
    profile.streams.iter().find(|(_, stream)| tags(&stream.kind)).map(|(name, _)| name.as_str())
}

impl Readers {
    /// No reader yet. Their thread ends with the process.
    pub fn new(
        directory: Arc<Directory>,
        ingress: Arc<HubIngress>,
        rng: Arc<dyn Rng>,
        settings: config::Readers,
    ) -> Self {
        let (arbiter, dial) = (Arbiter::new().handle(), dial::dial(settings));
        Self { directory, ingress, rng, dial, arbiter, running: RwLock::default() }
    }

    /// Every reader that runs, by id.
    pub fn all(&self) -> Vec<(String, Running)> {
        let running = self.running.read().unwrap_or_else(PoisonError::into_inner);
        running.iter().map(|(id, reader)| (id.clone(), reader.clone())).collect()
    }

    /// A reader that runs.
    pub fn get(&self, id: &str) -> Option<Running> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// How many are connected, and how many there are.
    pub fn up(&self) -> (usize, usize) {
        let running = self.running.read().unwrap_or_else(PoisonError::into_inner);
        let up = running.values().filter(|reader| reader.handle.health.up.load(Relaxed)).count();
        (up, running.len())
    }

    /// Ends every reader.
    pub fn stop(&self) {
        self.running.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Makes the running readers those of the database. One without a device has nobody to listen for and is not connected.
    pub async fn reconcile(&self, store: &PgStore) -> Result<(), Fault> {
        let mut places: BTreeMap<String, (String, ReaderAddress)> = BTreeMap::new();
        for row in store.list_buses(None, None, None, BUSES_MAX).await? {
            if !ReaderAddress::is_one(&row.address) {
                continue;
            }
            match row.address.parse() {
                Ok(address) => {
                    places.insert(row.id, (row.facility, address));
                }
                Err(error) => tracing::error!(bus = row.id, %error, "reader not usable"),
            }
        }
        let mut wanted: BTreeMap<String, (String, ReaderSpec)> = BTreeMap::new();
        for unit in store.bus_units().await? {
            let Some((facility, address)) = places.get(&unit.place.bus) else { continue };
            let Some(device) = self.directory.device(&unit.device) else { continue };
            let (Some(settings), Some(stream)) =
                (device.profile.llrp.clone(), stream_of(&device.profile))
            else {
                tracing::warn!(device = unit.device, profile = %device.profile.name, "the device is a reader, but its profile does not speak LLRP");
                continue;
            };
            let spec = ReaderSpec {
                id: unit.place.bus.clone(),
                address: address.clone(),
                device: device.id.clone(),
                stream: stream.to_owned(),
                settings,
            };
            wanted.insert(unit.place.bus, (facility.clone(), spec));
        }
        let stale: Vec<String> = {
            let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
            running.retain(|id, reader| {
                wanted.get(id).is_some_and(|(_, spec)| *spec == *reader.handle.spec)
            });
            wanted.keys().filter(|id| !running.contains_key(*id)).cloned().collect()
        };
        for id in stale {
            let Some((facility, spec)) = wanted.remove(&id) else { continue };
            let sink = Frames {
                directory: Arc::clone(&self.directory),
                ingress: Arc::clone(&self.ingress),
            };
            let (rng, dial) = (Arc::clone(&self.rng), Arc::clone(&self.dial));
            let policy = Policy { restarts_max: u32::MAX, ..Policy::default() };
            let (tell, told) = oneshot::channel();
            self.arbiter.spawn_fn(move || {
                let _ = tell.send(reader::start(spec, sink, dial, policy, rng));
            });
            // The arbiter ends with the process only.
            let Ok((handle, status)) = told.await else { return Ok(()) };
            tracing::info!(reader = id, address = %handle.spec.address, device = %handle.spec.device, "reader started");
            let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
            running.insert(id, Running { facility, handle, status });
        }
        Ok(())
    }
}
