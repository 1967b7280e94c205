//! What a device refers to: that it is there, and that its antennas make sense, before its row is written.

use std::collections::{BTreeMap, BTreeSet};

use device_profiles::{DeviceId, Profile, profile::DEFAULT_PROFILE};
use fold::Personality;
use sqlx::PgConnection;

use super::{
    master::{At, Key, MasterError, key},
    master_rows as rows,
    shapes::{DEFAULT_PROFILE_NAME, MasterData, NewAntenna, NewDevice, NewShelf, NewSlot, NewZone},
};

/// What the devices of a write refer to.
struct Known<'a> {
    zones: BTreeMap<Key, NewZone>,
    slots: BTreeMap<Key, NewSlot>,
    shelves: BTreeMap<Key, NewShelf>,
    /// Texts of profiles, by name or hash.
    profiles: BTreeMap<String, String>,
    /// Devices that are enrolled.
    enrolled: BTreeMap<String, NewDevice>,
    /// Devices that come in the same write.
    come_too: BTreeSet<&'a str>,
}

/// Checks the devices that are to be written.
pub(super) async fn check(
    connection: &mut PgConnection,
    data: &MasterData,
    fresh: &[(usize, NewDevice)],
) -> Result<(), MasterError> {
    let known = Known::read(connection, data, fresh).await?;
    fresh.iter().try_for_each(|(index, device)| known.check(*index, device))
}

/// The key of something in the device's facility.
fn beside(device: &NewDevice, id: &impl ToString) -> Key {
    (device.facility.to_string(), id.to_string())
}

fn at(index: usize, field: impl Into<std::borrow::Cow<'static, str>>) -> At {
    At { list: "devices", index, field: field.into() }
}

impl<'a> Known<'a> {
    async fn read(
        connection: &mut PgConnection,
        data: &'a MasterData,
        fresh: &[(usize, NewDevice)],
    ) -> Result<Self, MasterError> {
        let mut slots: Vec<Key> = Vec::new();
        let mut zones: Vec<Key> = Vec::new();
        let mut profiles: BTreeSet<&str> = BTreeSet::new();
        let mut gateways: Vec<&str> = Vec::new();
        for (_, device) in fresh {
            let of_antennas = device.antennas.iter().filter_map(|a| a.slot.as_ref());
            let of_cells = device.channels.iter().map(|c| &c.slot);
            slots.extend(
                device.slot.iter().chain(of_cells).chain(of_antennas).map(|s| beside(device, s)),
            );
            zones.extend(device.antennas.iter().map(|a| beside(device, &a.zone)));
            profiles.insert(&device.profile);
            gateways.extend(device.gateway.as_ref().map(DeviceId::as_str));
        }
        let profiles: Vec<&str> = profiles.into_iter().collect();
        let slots = rows::slots(connection, &slots).await?;
        let shelves: Vec<Key> = slots.values().map(|s| key(&s.facility, &s.shelf)).collect();
        let mut known = Self {
            zones: rows::zones(connection, &zones).await?,
            slots,
            shelves: rows::shelves(connection, &shelves).await?,
            profiles: rows::profiles(connection, &profiles).await?,
            enrolled: rows::devices(connection, &gateways).await?,
            come_too: data.devices.iter().map(|d| d.id.as_str()).collect(),
        };
        known.profiles.insert(DEFAULT_PROFILE_NAME.to_owned(), DEFAULT_PROFILE.to_owned());
        Ok(known)
    }

    fn check(&self, index: usize, device: &NewDevice) -> Result<(), MasterError> {
        let unknown =
            |field, what, id: String| Err(MasterError::Unknown { at: at(index, field), what, id });
        let Some(profile) = self.profiles.get(&*device.profile) else {
            return unknown("profile", "profile", device.profile.to_string());
        };
        if let Some(slot) = &*device.slot
            && !self.slots.contains_key(&beside(device, slot))
        {
            return unknown("slot", "slot", slot.to_string());
        }
        if let Some(gateway) = &*device.gateway {
            if *gateway == device.id {
                let detail = format!("device {gateway} needs no gateway to speak for itself");
                return Err(MasterError::Conflict { at: at(index, "gateway"), detail });
            }
            let gateway = gateway.as_str();
            if !self.enrolled.contains_key(gateway) && !self.come_too.contains(gateway) {
                return unknown("gateway", "device", gateway.to_owned());
            }
        }
        for channel in device.channels.iter() {
            if !self.slots.contains_key(&beside(device, &channel.slot)) {
                return unknown("channels", "slot", channel.slot.to_string());
            }
        }
        if !device.antennas.is_empty() && !Profile::parse(profile).is_ok_and(|p| p.reads_tags()) {
            let detail = format!(
                "device {} has antennas, and its profile {} reads no tags; a device without antennas has `antennas: []`",
                device.id, *device.profile
            );
            return Err(MasterError::Senseless { at: at(index, "antennas"), detail });
        }
        let mut ports = BTreeSet::new();
        for (nth, antenna) in device.antennas.iter().enumerate() {
            self.check_antenna(device, antenna, |field| {
                at(index, format!("antennas[{nth}].{field}"))
            })?;
            if !ports.insert(antenna.port) {
                let at = at(index, format!("antennas[{nth}].port"));
                let detail = format!("antenna {} is named twice", antenna.port);
                return Err(MasterError::Conflict { at, detail });
            }
        }
        Ok(())
    }

    fn check_antenna(
        &self,
        device: &NewDevice,
        antenna: &NewAntenna,
        at: impl Fn(&str) -> At,
    ) -> Result<(), MasterError> {
        let Some(zone) = self.zones.get(&beside(device, &antenna.zone)) else {
            let id = antenna.zone.to_string();
            return Err(MasterError::Unknown { at: at("zone"), what: "zone", id });
        };
        if antenna.outside && *zone.personality != Personality::Exit {
            let detail = format!(
                "antenna {} cannot look at what is outside: zone {} is no exit but of personality {}",
                antenna.port,
                zone.id,
                zone.personality.as_str()
            );
            return Err(MasterError::Senseless { at: at("outside"), detail });
        }
        let Some(id) = &antenna.slot else { return Ok(()) };
        let Some(slot) = self.slots.get(&beside(device, id)) else {
            return Err(MasterError::Unknown { at: at("slot"), what: "slot", id: id.to_string() });
        };
        // A shelf that stands in no zone contradicts none.
        let shelf = self.shelves.get(&beside(device, &slot.shelf));
        if let Some(stands_in) = shelf.and_then(|shelf| shelf.zone.as_ref())
            && *stands_in != zone.id
        {
            let detail = format!(
                "antenna {} looks at zone {}, and shelf {} of slot {id} stands in zone {stands_in}",
                antenna.port, zone.id, slot.shelf
            );
            return Err(MasterError::Senseless { at: at("slot"), detail });
        }
        Ok(())
    }
}
