//! What was refused of each device before the journal, counted in memory since the hub started.
//!
//! The fold accounts for what it reads, and these publishes it never reads: without a count of their own a device whose
//! readings all go to a wrong topic would look as if it were silent. Only known devices are counted; whoever may not even
//! connect is listed as seen (`directory.rs`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;
use utoipa::ToSchema;

use crate::mqtt::Refused;

/// Devices whose refusals are counted one by one; those of further ones are in the endpoint's own counters only.
const DEVICES_MAX: usize = 50_000;

/// Refused publishes of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct RefusedCounts {
    /// To a topic of another device, or one that is not a device's to write.
    pub not_authorised: u64,
    /// To a topic that the hub does not have.
    pub unknown_topic: u64,
    /// With a payload that is not what it was announced to be.
    pub payload: u64,
    /// Because the disk is too full for it.
    pub quota: u64,
    /// To a foreign topic that nothing here reads; acknowledged and let go.
    pub unread: u64,
}

/// The counts of every device that was ever refused something.
#[derive(Debug, Default)]
pub struct Refusals {
    devices: Mutex<HashMap<String, RefusedCounts>>,
}

impl Refusals {
    /// Counts a publish that was refused.
    pub fn count(&self, device: &str, refused: Refused) {
        self.add(device, |counts| match refused {
            Refused::NotAuthorised => &mut counts.not_authorised,
            Refused::UnknownTopic => &mut counts.unknown_topic,
            Refused::Payload => &mut counts.payload,
            Refused::Quota => &mut counts.quota,
        });
    }

    /// Counts a publish that nothing reads.
    pub fn unread(&self, device: &str) {
        self.add(device, |counts| &mut counts.unread);
    }

    fn add(&self, device: &str, which: impl Fn(&mut RefusedCounts) -> &mut u64) {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if !devices.contains_key(device) {
            if devices.len() >= DEVICES_MAX {
                return;
            }
            devices.insert(device.to_owned(), RefusedCounts::default());
        }
        if let Some(counts) = devices.get_mut(device) {
            *which(counts) += 1;
        }
    }

    /// The counts of a device.
    pub fn of(&self, device: &str) -> RefusedCounts {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.get(device).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_its_own_counts_and_there_are_not_too_many() {
        let refusals = Refusals::default();
        refusals.count("a", Refused::Quota);
        refusals.count("a", Refused::Quota);
        refusals.count("b", Refused::Payload);
        assert_eq!(refusals.of("a"), RefusedCounts { quota: 2, ..RefusedCounts::default() });
        assert_eq!(refusals.of("c"), RefusedCounts::default());
        for n in 0..DEVICES_MAX {
            refusals.count(&n.to_string(), Refused::UnknownTopic);
        }
        refusals.count("a", Refused::NotAuthorised);
        assert_eq!(refusals.of("a").not_authorised, 1, "who is counted stays so");
        assert_eq!(refusals.devices.lock().unwrap().len(), DEVICES_MAX);
    }
}
