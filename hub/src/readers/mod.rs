//! The RFID readers of the hub, as PostgreSQL says.
//!
//! To the installer a reader is a bus with one device on it: the same rows, the same calls, another scheme in the address. It has
//! actors of its own because nothing is polled there: a reader speaks by itself.

pub mod dial;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use actors::{
    guardian::Policy,
    ports::rng::Rng,
    reader::{self, Delivered, Dial, Handle, ReaderAddress, ReaderSpec, Sink},
};
use bytes::Bytes;
use device_profiles::{DeviceId, Profile, profile::Kind};

use crate::{
    buses::BUSES_MAX,
    config,
    directory::Directory,
    fleet::{Fleet, Member, Wanted},
    ingress::HubIngress,
    store::{PgStore, fault::Fault},
};

/// The unit that the one device of a reader is.
pub const READER_UNIT: u8 = 1;

impl Member for Handle {
    type Spec = ReaderSpec;

    fn spec(&self) -> &ReaderSpec {
        &self.spec
    }

    fn is_up(&self) -> bool {
        self.health.up.load(Relaxed)
    }
}

/// The readers.
pub struct Readers {
    directory: Arc<Directory>,
    ingress: Arc<HubIngress>,
    rng: Arc<dyn Rng>,
    dial: Dial,
    /// Those that run.
    pub running: Fleet<Handle>,
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
    /// No reader yet.
    pub fn new(
        directory: Arc<Directory>,
        ingress: Arc<HubIngress>,
        rng: Arc<dyn Rng>,
        settings: config::Readers,
    ) -> Self {
        let dial = dial::dial(settings);
        Self { directory, ingress, rng, dial, running: Fleet::default() }
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
        let mut wanted: Wanted<Handle> = BTreeMap::new();
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
        let starter = |spec| {
            let sink = Frames {
                directory: Arc::clone(&self.directory),
                ingress: Arc::clone(&self.ingress),
            };
            let (rng, dial) = (Arc::clone(&self.rng), Arc::clone(&self.dial));
            let policy = Policy { restarts_max: u32::MAX, ..Policy::default() };
            move || {
                let (handle, status) = reader::start(spec, sink, dial, policy, rng);
                let spec = &handle.spec;
                tracing::info!(reader = spec.id, address = %spec.address, device = %spec.device, "reader started");
                (handle, status)
            }
        };
        self.running.follow(wanted, starter).await;
        Ok(())
    }
}
