//! The buses of the hub, as PostgreSQL says. A device appears on its bus once its profile is in the facility's journal, like
//! any device.
//!
//! A serial line of a reader or scanner is a bus with one unit. What the operators of scanners are doing is kept here while the
//! hub runs, and in PostgreSQL over a restart.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use actors::{
    bus::{self, BusAddress, BusSpec, Delivered, Handle, Sink, UnitSpec},
    guardian::Policy,
    ports::rng::Rng,
    reader::ReaderAddress,
    serial::{self, Session, Sessions},
};
use device_profiles::{DeviceId, codec::scanner::Context, profile::Codec};

use crate::{
    directory::{Device, Directory},
    fleet::{Fleet, Member, Running, Wanted},
    ingress::HubIngress,
    store::{PgStore, fault::Fault},
};

/// Buses of a hub.
pub const BUSES_MAX: i64 = 2_000;

impl Member for Handle {
    type Spec = BusSpec;

    fn spec(&self) -> &BusSpec {
        &self.spec
    }

    fn is_up(&self) -> bool {
        self.health.up.load(Relaxed)
    }
}

/// The buses.
pub struct Buses {
    directory: Arc<Directory>,
    ingress: Arc<HubIngress>,
    rng: Arc<dyn Rng>,
    /// Those that run.
    pub running: Fleet<Handle>,
    /// What the operators of scanners are doing.
    pub sessions: Sessions,
}

/// Hands register images to the ingress.
#[derive(Clone)]
struct Frames {
    directory: Arc<Directory>,
    ingress: Arc<HubIngress>,
}

impl Sink for Frames {
    fn deliver(&self, device: &DeviceId, stream: &str, image: Vec<u8>) -> Delivered {
        match self.directory.device(device.as_str()) {
            Some(device) => self.ingress.polled(&device, stream, image),
            None => Delivered::Refused,
        }
    }
}

impl Buses {
    /// No bus yet.
    pub fn new(directory: Arc<Directory>, ingress: Arc<HubIngress>, rng: Arc<dyn Rng>) -> Self {
        let (running, sessions) = (Fleet::default(), Sessions::default());
        Self { directory, ingress, rng, running, sessions }
    }

    /// The bus a device is on, and its index there.
    pub fn of_device(&self, device: &str) -> Option<(Running<Handle>, usize)> {
        self.running.find(|bus| bus.spec.units.iter().position(|u| u.device.as_str() == device))
    }

    /// Makes the running buses those of the database.
    pub async fn reconcile(&self, store: &PgStore) -> Result<(), Fault> {
        let mut wanted: Wanted<Handle> = BTreeMap::new();
        for row in store.list_buses(None, None, None, BUSES_MAX).await? {
            if ReaderAddress::is_one(&row.address) {
                continue;
            }
            let address: BusAddress = match row.address.parse() {
                Ok(address) => address,
                Err(error) => {
                    tracing::error!(bus = row.id, %error, "bus not usable");
                    continue;
                }
            };
            let spec = BusSpec { id: row.id.clone(), address, units: Vec::new() };
            wanted.insert(row.id, (row.facility, spec));
        }
        for unit in store.bus_units().await? {
            let Some((_, spec)) = wanted.get_mut(&unit.place.bus) else { continue };
            let Some(device) = self.directory.device(&unit.device) else { continue };
            if !spec.address.speaks(device.profile.codec) {
                tracing::warn!(device = unit.device, profile = %device.profile.name, address = %spec.address, "the device is on a bus, but its profile is not of a kind that can be there");
                continue;
            }
            self.remember(store, &device).await?;
            spec.units.push(UnitSpec {
                device: device.id.clone(),
                unit: unit.place.unit,
                profile: Arc::clone(&device.profile),
            });
        }
        // A port is somebody's alone. Opened for nobody, it would be held against the device that comes to it.
        let is_idle =
            |spec: &BusSpec| matches!(spec.address, BusAddress::Line(..)) && spec.units.is_empty();
        wanted.retain(|_, (_, spec)| !is_idle(spec));
        let starter = |spec: BusSpec| {
            let sink = Frames {
                directory: Arc::clone(&self.directory),
                ingress: Arc::clone(&self.ingress),
            };
            let (rng, sessions) = (Arc::clone(&self.rng), self.sessions.clone());
            let policy = Policy { restarts_max: u32::MAX, ..Policy::default() };
            move || {
                let (handle, status) = match &spec.address {
                    BusAddress::Line(..) => serial::start(spec, sink, sessions, policy, rng),
                    BusAddress::Tcp(_) | BusAddress::RtuOverTcp(..) | BusAddress::Rtu(..) => {
                        bus::start(spec, sink, policy, rng)
                    }
                };
                let spec = &handle.spec;
                tracing::info!(bus = spec.id, address = %spec.address, units = spec.units.len(), "bus started");
                (handle, status)
            }
        };
        self.running.follow(wanted, starter).await;
        Ok(())
    }

    /// A scanner that comes to its line goes on with what it was told last.
    async fn remember(&self, store: &PgStore, device: &Device) -> Result<(), Fault> {
        if device.profile.codec == Codec::Scanner && self.sessions.context(&device.id).is_none() {
            let context = store.scanner(&device.id).await?.unwrap_or_default();
            self.scanner_set(&device.id, context);
        }
        Ok(())
    }

    /// A scanner is told what its operator does; it is written down already.
    pub fn scanner_set(&self, device: &DeviceId, context: Context) {
        let fresh = || Session::new(format!("{:016x}", self.rng.bits()), Context::default());
        self.sessions.with(device, fresh, |session| session.set(context));
    }

    /// Writes down what scanners were told by barcodes.
    pub async fn write_down(&self, store: &PgStore) -> Result<(), Fault> {
        let changed = self.sessions.take_changed();
        for (at, (device, context)) in changed.iter().enumerate() {
            if let Err(fault) = store.set_scanner(device, context).await {
                self.sessions.still_changed(changed.get(at..).unwrap_or_default());
                return Err(fault);
            }
            tracing::info!(%device, mode = context.mode.as_str(), slot = ?context.slot, operator = context.operator, "the scanner was told what its operator does");
        }
        Ok(())
    }
}
