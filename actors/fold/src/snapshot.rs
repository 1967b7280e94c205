//! A state as slices of bytes, and back; and its digest.
//!
//! The first slice holds everything small; then come the buckets of the four tables in a fixed order. Cloning a state copies
//! reference counts only, so a snapshot is written from a clone, slice by slice, while the fold goes on.

use std::{collections::BTreeSet, sync::Arc};

use device_profiles::Profile;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    entry::{HubTime, Position},
    rfid::{Readers, Rfid, TAG_BUCKETS, Tags, ZoneSpec},
    state::{State, Timer},
    table::{BUCKETS, Table},
};

/// Layout of the slices. A change of any type inside raises it.
const LAYOUT: u32 = 2;
/// The layout before tags: what came after the tables was not there.
const LAYOUT_WITHOUT_TAGS: u32 = 1;
/// Slices of a state without tags, and with them.
const SLICES_WITHOUT_TAGS: usize = 1 + 4 * BUCKETS;
const SLICES: usize = SLICES_WITHOUT_TAGS + 1 + TAG_BUCKETS;

#[derive(Serialize, Deserialize)]
struct Head {
    layout: u32,
    facility: device_profiles::FacilityId,
    position: Option<Position>,
    now: HubTime,
    version: u32,
    revision: u64,
    receiving: Option<device_profiles::SlotId>,
    profiles: Vec<String>,
    gtins: Vec<(String, device_profiles::Sku)>,
    keys: Vec<(HubTime, String, u32)>,
    timers: BTreeSet<(HubTime, Timer)>,
}

/// Why slices are not a state.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Written by another layout.
    #[error("the snapshot has layout {0}, this version reads {LAYOUT}")]
    Layout(u32),
    /// Too few slices.
    #[error("the snapshot has {0} slices, {SLICES} are needed")]
    Slices(usize),
    /// The bytes do not parse.
    #[error("the snapshot does not parse: {0}")]
    Bytes(#[from] postcard::Error),
}

impl State {
    /// The state as slices, made one by one as they are asked for.
    pub fn slices(&self) -> impl Iterator<Item = Vec<u8>> {
        let head = Head {
            layout: LAYOUT,
            facility: self.facility.clone(),
            position: self.position,
            now: self.now,
            version: self.version,
            revision: self.revision,
            receiving: self.receiving.clone(),
            profiles: self.profiles.values().map(|p| p.text.clone()).collect(),
            gtins: self.gtins.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            keys: self.keys.iter().cloned().collect(),
            timers: self.timers.clone(),
        };
        let zones: Vec<ZoneSpec> = self.rfid.zones().cloned().collect();
        let rfid = (zones, self.rfid.readers.clone());
        std::iter::once(postcard::to_stdvec(&head))
            .chain(self.devices.slices())
            .chain(self.slots.slices())
            .chain(self.skus.slices())
            .chain(self.totals.slices())
            .chain(std::iter::once(postcard::to_stdvec(&rfid)))
            .chain(self.rfid.tags.slices())
            // Writing these types to a vector cannot fail; an empty slice would be refused on restore.
            .map(Result::unwrap_or_default)
    }

    /// Rebuilds a state.
    pub fn restore<S: AsRef<[u8]>>(slices: &[S]) -> Result<Self, RestoreError> {
        let first = slices.first().ok_or(RestoreError::Slices(0))?;
        let (layout, _) = postcard::take_from_bytes::<u32>(first.as_ref())?;
        let expected = match layout {
            LAYOUT => SLICES,
            LAYOUT_WITHOUT_TAGS => SLICES_WITHOUT_TAGS,
            _ => return Err(RestoreError::Layout(layout)),
        };
        if slices.len() != expected {
            return Err(RestoreError::Slices(slices.len()));
        }
        let head: Head = postcard::from_bytes(first.as_ref())?;
        let table =
            |n: usize| slices[1 + n * BUCKETS..1 + (n + 1) * BUCKETS].iter().map(AsRef::as_ref);
        let mut state = Self::new(head.facility);
        state.position = head.position;
        state.now = head.now;
        state.version = head.version;
        state.revision = head.revision;
        state.receiving = head.receiving;
        state.profiles = head
            .profiles
            .iter()
            .filter_map(|text| Profile::parse(text).ok())
            .map(|profile| (profile.hash, Arc::new(profile)))
            .collect();
        state.gtins = head.gtins.into_iter().collect();
        state.keys = head.keys.into();
        state.armed = head.timers.iter().map(|(_, timer)| timer.clone()).collect();
        state.timers = head.timers;
        state.devices = Table::restore(table(0))?;
        state.slots = Table::restore(table(1))?;
        state.skus = Table::restore(table(2))?;
        state.totals = Table::restore(table(3))?;
        if layout == LAYOUT {
            let (head, tags) = slices.split_at(SLICES_WITHOUT_TAGS + 1);
            let (zones, readers): (Vec<ZoneSpec>, Readers) =
                postcard::from_bytes(head[SLICES_WITHOUT_TAGS].as_ref())?;
            let tags = Tags::restore(tags.iter().map(AsRef::as_ref))?;
            state.rfid = Rfid::restore(zones, readers, tags);
        }
        Ok(state)
    }

    /// SHA-256 over the slices: equal states have equal digests.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for slice in self.slices() {
            hash.update((slice.len() as u64).to_le_bytes());
            hash.update(&slice);
        }
        hash.finalize().into()
    }
}
