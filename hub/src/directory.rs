//! The directory: who may connect, cached in memory so that a CONNECT asks no database.
//!
//! It is read whole and replaced whole, with what the profiles of the devices make of foreign topics. A device whose row changed
//! gets a new generation: the endpoint then cuts connections that were granted under an older one, so a revoked credential, or
//! a certificate that has expired, ends within one reload.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use device_profiles::{DeviceId, FacilityId, Profile, ProfileHash, TopicMap, profile::Codec};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::{
    foreign::{Unread, reader},
    sparkplug,
    store::{
        PgStore,
        directory::{DeviceRow, Seen},
        fault::Fault,
    },
    tls::Fingerprint,
};

/// Names of refused devices held until they are written down; further ones are not listed.
pub const SEEN_MAX: usize = 1_024;
/// Refused devices kept in the list.
pub const SEEN_KEPT: i64 = 1_000;
/// Longest name of a refused device that is kept, in bytes.
const SEEN_NAME_BYTES_MAX: usize = 128;

/// A device that may connect, compiled.
#[derive(Debug)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Its facility.
    pub facility: FacilityId,
    /// The facility's shard.
    pub shard: u16,
    /// How its frames are read.
    pub profile: Arc<Profile>,
    /// Counts up when the row changes.
    pub generation: u64,
    row: DeviceRow,
}

impl Device {
    /// It was revoked as a whole.
    pub fn is_revoked(&self) -> bool {
        self.row.revoked
    }

    /// The device that publishes for it, if it does not speak for itself.
    pub fn gateway(&self) -> Option<&str> {
        self.row.gateway.as_deref()
    }
}

/// Why somebody may not connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No such device.
    #[error("the device is not enrolled")]
    NotEnrolled,
    /// The device is revoked, or has no credential or no usable profile.
    #[error("the device is disabled")]
    Disabled,
    /// The secret is wrong.
    #[error("the secret is wrong")]
    BadSecret,
    /// The certificate is no credential of the device.
    #[error("the certificate is no credential of the device")]
    BadCertificate,
    /// The directory was never read.
    #[error("the directory was never read")]
    NotReady,
}

#[derive(Default)]
struct Table {
    devices: HashMap<String, Arc<Device>>,
    certificates: HashMap<Fingerprint, Arc<Device>>,
    gateways: HashSet<String>,
    topics: TopicMap,
    sparkplug: bool,
    read: bool,
    generation: u64,
}

impl Table {
    fn find(&self, name: &str) -> Result<Arc<Device>, Unknown> {
        if !self.read {
            return Err(Unknown::NotReady);
        }
        let device = self.devices.get(name).ok_or(Unknown::NotEnrolled)?;
        if device.row.revoked { Err(Unknown::Disabled) } else { Ok(Arc::clone(device)) }
    }
}

/// The cache.
pub struct Directory {
    table: RwLock<Table>,
    filters: watch::Sender<Arc<[String]>>,
    /// Held from reading to replacing, so that an older reading never replaces a newer one.
    reloading: tokio::sync::Mutex<()>,
    seen: Mutex<BTreeMap<String, Seen>>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            table: RwLock::default(),
            filters: watch::Sender::new(Arc::from([])),
            reloading: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
        }
    }
}

impl Directory {
    /// Reads the directory anew. Returns devices whose older grants no longer stand, with their new generation.
    pub async fn reload(&self, store: &PgStore) -> Result<Vec<(String, u64)>, Fault> {
        let _one_at_a_time = self.reloading.lock().await;
        let rows = store.directory().await?;
        let mut profiles: HashMap<Arc<str>, Option<Arc<Profile>>> = HashMap::new();
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut stale = Vec::new();
        let mut old = std::mem::take(&mut table.devices);
        let generation = table.generation + 1;
        let mut fresh = HashMap::with_capacity(rows.len());
        // A gateway that lost a device may hear its commands no more: it has to ask anew.
        let mut lost: HashSet<String> = HashSet::new();
        for row in rows {
            if let Some(before) =
                old.get(&row.id).filter(|before| before.row.gateway != row.gateway)
            {
                lost.extend(before.row.gateway.clone());
            }
            if let Some(same) = old.remove(&row.id).filter(|device| device.row == row) {
                fresh.insert(row.id.clone(), same);
                continue;
            }
            stale.push((row.id.clone(), generation));
            if row.profile.is_empty() {
                // Its profile is not in the facility's journal yet; the publication that brings it reloads.
                continue;
            }
            let profile = profiles
                .entry(Arc::clone(&row.profile))
                .or_insert_with(|| match Profile::parse(&row.profile) {
                    Ok(profile) => Some(Arc::new(profile)),
                    Err(error) => {
                        tracing::error!(device = row.id, %error, "profile not usable; the device cannot connect");
                        None
                    }
                })
                .clone();
            let ids = (DeviceId::parse(&row.id), FacilityId::parse(&row.facility));
            let (Some(profile), (Ok(id), Ok(facility))) = (profile, ids) else { continue };
            let shard = row.shard;
            let device = Device { id, facility, shard, profile, generation, row };
            fresh.insert(device.row.id.clone(), Arc::new(device));
        }
        lost.extend(old.values().filter_map(|gone| gone.row.gateway.clone()));
        stale.extend(old.into_keys().map(|id| (id, generation)));
        for gateway in lost {
            let Some(device) = fresh.get_mut(&gateway) else { continue };
            let anew = Device {
                id: device.id.clone(),
                facility: device.facility.clone(),
                shard: device.shard,
                profile: Arc::clone(&device.profile),
                generation,
                row: device.row.clone(),
            };
            *device = Arc::new(anew);
            stale.push((gateway, generation));
        }
        table.certificates = fresh
            .values()
            .flat_map(|device| {
                device.row.certificates.iter().map(|print| (*print, Arc::clone(device)))
            })
            .collect();
        table.gateways = fresh.values().filter_map(|device| device.row.gateway.clone()).collect();
        let spoken: HashMap<ProfileHash, &Profile> =
            fresh.values().map(|device| (device.profile.hash, &*device.profile)).collect();
        table.topics = TopicMap::of(spoken.into_values());
        table.sparkplug = fresh.values().any(|device| device.profile.codec == Codec::Sparkplug);
        let mut filters = table.topics.filters();
        if table.sparkplug {
            filters.extend(sparkplug::FILTERS.map(str::to_owned));
        }
        let filters: Arc<[String]> = filters.into();
        self.filters.send_if_modified(|old| {
            let changed = *old != filters;
            *old = filters;
            changed
        });
        table.devices = fresh;
        table.read = true;
        table.generation = generation;
        Ok(stale)
    }

    /// Checks a secret. Compares against every credential of the device in constant time.
    pub fn check(&self, name: &str, secret: &[u8]) -> Result<Arc<Device>, Unknown> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if !table.read {
            return Err(Unknown::NotReady);
        }
        let Some(device) = table.devices.get(name) else { return Err(Unknown::NotEnrolled) };
        if device.row.revoked {
            return Err(Unknown::Disabled);
        }
        let given: [u8; 32] = Sha256::digest(secret).into();
        let mut good = subtle::Choice::from(0);
        for stored in &device.row.secrets {
            good |= given.ct_eq(stored);
        }
        if bool::from(good) { Ok(Arc::clone(device)) } else { Err(Unknown::BadSecret) }
    }

    /// An enrolled device, whether or not it may connect.
    pub fn device(&self, id: &str) -> Option<Arc<Device>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).devices.get(id).cloned()
    }

    /// A device that may connect, by its id.
    pub fn find(&self, name: &str) -> Result<Arc<Device>, Unknown> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).find(name)
    }

    /// The device that a foreign topic speaks of, and the stream.
    pub fn reader(&self, topic: &str) -> Result<(Arc<Device>, String), Unread> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if !table.read {
            return Err(Unread::NotReady);
        }
        reader(table.topics.candidates(topic), |name| table.find(name))
    }

    /// Some device is a Sparkplug node or behind one.
    pub fn speaks_sparkplug(&self) -> bool {
        self.table.read().unwrap_or_else(PoisonError::into_inner).sparkplug
    }

    /// Some device is said to speak through this one.
    pub fn is_gateway(&self, device: &str) -> bool {
        self.table.read().unwrap_or_else(PoisonError::into_inner).gateways.contains(device)
    }

    /// The MQTT filters that bring every foreign topic of every enrolled device; they change with the devices.
    pub fn filters(&self) -> watch::Receiver<Arc<[String]>> {
        self.filters.subscribe()
    }

    /// Whose certificate this is. `name` is what the client calls itself, if it does: it must not be another device's.
    pub fn check_certificate(
        &self,
        certificate: Fingerprint,
        name: Option<&str>,
    ) -> Result<Arc<Device>, Unknown> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if !table.read {
            return Err(Unknown::NotReady);
        }
        let device = table.certificates.get(&certificate).ok_or(Unknown::BadCertificate)?;
        if device.row.revoked {
            return Err(Unknown::Disabled);
        }
        if name.is_some_and(|name| name != device.id.as_str()) {
            return Err(Unknown::BadCertificate);
        }
        Ok(Arc::clone(device))
    }

    /// Devices that may connect.
    pub fn len(&self) -> usize {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.devices.values().filter(|device| !device.row.revoked).count()
    }

    /// Nobody may connect.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes somebody who was refused.
    pub fn note(&self, name: &str, peer: String, reason: &str) {
        let mut end = name.len().min(SEEN_NAME_BYTES_MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        // What strangers call themselves is shown in terminals, and PostgreSQL's text knows no NUL.
        let harmless = |text: &str| text.replace(|c: char| c.is_control(), "\u{fffd}");
        let (name, reason) = (harmless(&name[..end]), harmless(reason));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= SEEN_MAX && !seen.contains_key(&name) {
            return;
        }
        let entry = seen.entry(name.clone()).or_insert_with(|| Seen {
            name,
            peer: String::new(),
            reason: String::new(),
            times: 0,
        });
        entry.peer = peer;
        entry.reason = reason;
        entry.times += 1;
    }

    /// Writes down who was refused since the last call.
    pub async fn flush_seen(&self, store: &PgStore) -> Result<(), Fault> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        if seen.is_empty() {
            return Ok(());
        }
        let list: Vec<Seen> = seen.into_values().collect();
        store.note_seen(&list, SEEN_KEPT).await
    }
}
