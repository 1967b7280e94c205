//! A write of master data under way: kind by kind, in an order in which nothing names what comes later.
//!
//! Each kind is read, checked, sifted and put; what its fold must learn is gathered beside it.

use std::collections::{BTreeMap, BTreeSet};

use device_profiles::{FacilityId, Milligrams, Units, ZoneId, epc::gtin14};
use fold::{AntennaSpec, ChannelSpec, DeviceSpec, LineSpec, Master, SkuSpec, SlotSpec, ZoneSpec};
use sqlx::PgConnection;

use super::{
    device_check,
    master::{At, Key, MasterError, MintedCredential, Sifted, Write, Written, key, shard_of, sift},
    master_rows as rows,
    publication::Publications,
    shapes::{
        MasterData, NewAntenna, NewChannel, NewDevice, NewFacility, NewLine, NewShelf, NewSku,
        NewSlot, NewZone,
    },
    standing,
};

/// Which item of a list names which facility.
fn naming<'a>(
    list: &'static str,
    ids: impl Iterator<Item = Option<&'a FacilityId>>,
) -> impl Iterator<Item = (&'static str, usize, &'a FacilityId)> {
    ids.enumerate().filter_map(move |(index, id)| id.map(|id| (list, index, id)))
}

/// A write under way.
pub(super) struct Writer<'c, 'w> {
    connection: &'c mut PgConnection,
    write: Write<'w>,
    written: Written,
    publications: Publications,
}

impl<'c, 'w> Writer<'c, 'w> {
    pub(super) fn new(connection: &'c mut PgConnection, write: Write<'w>) -> Self {
        Self {
            connection,
            write,
            written: Written::default(),
            publications: Publications::default(),
        }
    }

    /// Writes everything.
    pub(super) async fn all(&mut self, data: &MasterData) -> Result<(), MasterError> {
        self.facilities(data).await?;
        self.zones(data).await?;
        self.shelves(data).await?;
        self.skus(data).await?;
        self.slots(data).await?;
        self.lines(data).await?;
        self.devices(data).await
    }

    /// What was written, and what is to be published of it.
    pub(super) fn done(self) -> (Written, Publications) {
        (self.written, self.publications)
    }

    fn tally<T>(&mut self, sifted: Sifted<T>) -> Vec<(usize, T)> {
        self.written.created += sifted.created;
        self.written.changed += sifted.changed;
        self.written.unchanged += sifted.unchanged;
        sifted.write
    }

    async fn facilities(&mut self, data: &MasterData) -> Result<(), MasterError> {
        let ids: Vec<&str> = data.facilities.iter().map(|f| f.id.as_str()).collect();
        let found = rows::facilities(self.connection, &ids).await?;
        let sifted =
            sift("facilities", &data.facilities, &found, self.write.change, |f| f.id.to_string())?;
        let fresh: Vec<NewFacility> = self.tally(sifted).into_iter().map(|(_, f)| f).collect();
        if !fresh.is_empty() {
            let shards: Vec<i16> =
                fresh.iter().map(|f| shard_of(&f.id, self.write.shards).cast_signed()).collect();
            rows::put_facilities(self.connection, &fresh, &shards).await?;
        }
        let new: Vec<&NewFacility> =
            fresh.iter().filter(|f| !found.contains_key(f.id.as_str())).collect();
        if !new.is_empty() {
            let skus = rows::all_skus(self.connection).await?;
            for facility in new {
                // Even with no SKU yet, an empty publication makes the facility known to its shard.
                self.publications.touch(&facility.id);
                for sku in &skus {
                    self.publications.add(&facility.id, Master::Sku(sku_spec(sku)));
                }
            }
        }
        self.facilities_exist(data).await
    }

    async fn facilities_exist(&mut self, data: &MasterData) -> Result<(), MasterError> {
        let mut named: Vec<(&'static str, usize, &FacilityId)> = Vec::new();
        named.extend(naming("zones", data.zones.iter().map(|z| z.facility.as_ref())));
        named.extend(naming("shelves", data.shelves.iter().map(|s| s.facility.as_ref())));
        named.extend(naming("slots", data.slots.iter().map(|s| s.facility.as_ref())));
        named.extend(naming("planogram", data.planogram.iter().map(|l| l.facility.as_ref())));
        named.extend(naming("devices", data.devices.iter().map(|d| Some(&d.facility))));
        let ids: BTreeSet<&str> = named.iter().map(|(_, _, id)| id.as_str()).collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        let found = rows::facilities(self.connection, &ids).await?;
        for (list, index, id) in named {
            if !found.contains_key(id.as_str()) {
                let at = At { list, index, field: "facility".into() };
                return Err(MasterError::Unknown { at, what: "facility", id: id.to_string() });
            }
        }
        Ok(())
    }

    async fn zones(&mut self, data: &MasterData) -> Result<(), MasterError> {
        let keys: Vec<Key> = data.zones.iter().map(|z| key(&z.facility, &z.id)).collect();
        let found = rows::zones(self.connection, &keys).await?;
        let sifted =
            sift("zones", &data.zones, &found, self.write.change, |z| key(&z.facility, &z.id))?;
        let fresh: Vec<NewZone> = self.tally(sifted).into_iter().map(|(_, z)| z).collect();
        rows::put_zones(self.connection, &fresh).await?;
        for zone in &fresh {
            let Some(facility) = &zone.facility else { continue };
            // A zone's name is for people; what readers are told by is what kind of place it is.
            let was = found.get(&key(&zone.facility, &zone.id));
            let same = was.is_some_and(|was| {
                (was.personality, was.mobility) == (zone.personality, zone.mobility)
            });
            if !same {
                self.publications.add(facility, Master::Zone(zone_spec(zone)));
            }
        }
        Ok(())
    }

    async fn shelves(&mut self, data: &MasterData) -> Result<(), MasterError> {
        let keys: Vec<Key> = data.shelves.iter().map(|s| key(&s.facility, &s.id)).collect();
        let found = rows::shelves(self.connection, &keys).await?;
        let zones: Vec<Key> = data
            .shelves
            .iter()
            .filter_map(|s| s.zone.as_ref().map(|zone| key(&s.facility, zone)))
            .collect();
        let zones = rows::zones(self.connection, &zones).await?;
        for (index, shelf) in data.shelves.iter().enumerate() {
            if let Some(zone) = &*shelf.zone
                && !zones.contains_key(&key(&shelf.facility, zone))
            {
                let at = At { list: "shelves", index, field: "zone".into() };
                return Err(MasterError::Unknown { at, what: "zone", id: zone.to_string() });
            }
        }
        let sifted =
            sift("shelves", &data.shelves, &found, self.write.change, |s| key(&s.facility, &s.id))?;
        let fresh: Vec<NewShelf> = self.tally(sifted).into_iter().map(|(_, s)| s).collect();
        rows::put_shelves(self.connection, &fresh).await?;
        // A shelf that changed its zone takes its slots along.
        let moved: BTreeMap<Key, &NewShelf> = fresh
            .iter()
            .map(|s| (key(&s.facility, &s.id), s))
            .filter(|(key, s)| found.get(key).is_some_and(|old| old.zone != s.zone))
            .collect();
        let on_them: Vec<Key> = moved.keys().cloned().collect();
        for slot in rows::slots_on(self.connection, &on_them).await? {
            let zone = moved.get(&key(&slot.facility, &slot.shelf)).and_then(|s| (*s.zone).clone());
            publish_slot(&mut self.publications, &slot, zone);
        }
        Ok(())
    }

    async fn skus(&mut self, data: &MasterData) -> Result<(), MasterError> {
        let ids: Vec<&str> = data.skus.iter().map(|s| s.id.as_str()).collect();
        let found = rows::skus(self.connection, &ids).await?;
        let sifted = sift("skus", &data.skus, &found, self.write.change, |s| s.id.to_string())?;
        let fresh = self.tally(sifted);
        if fresh.is_empty() {
            return Ok(());
        }
        self.gtins_are_free(&fresh).await?;
        let fresh: Vec<NewSku> = fresh.into_iter().map(|(_, s)| s).collect();
        rows::put_skus(self.connection, &fresh).await?;
        for facility in rows::all_facilities(self.connection).await? {
            for sku in &fresh {
                self.publications.add(&facility, Master::Sku(sku_spec(sku)));
            }
        }
        Ok(())
    }

    /// A GTIN is one SKU's, however many zeros it is written with.
    async fn gtins_are_free(&mut self, fresh: &[(usize, NewSku)]) -> Result<(), MasterError> {
        let named: Vec<(usize, &NewSku, String)> = fresh
            .iter()
            .filter_map(|(index, sku)| Some((*index, sku, gtin14(sku.gtin.as_deref()?).ok()?)))
            .collect();
        let gtins: Vec<String> = named.iter().map(|(_, _, gtin)| gtin.clone()).collect();
        let mut owners = rows::gtins(self.connection, &gtins).await?;
        for (index, sku, gtin) in named {
            let owner = owners.entry(gtin).or_insert_with(|| sku.id.to_string());
            if owner != sku.id.as_str() {
                let at = At { list: "skus", index, field: "gtin".into() };
                let detail = format!("SKU {owner} has this GTIN already");
                return Err(MasterError::Conflict { at, detail });
            }
        }
        Ok(())
    }

    async fn slots(&mut self, data: &MasterData) -> Result<(), MasterError> {
        let keys: Vec<Key> = data.slots.iter().map(|s| key(&s.facility, &s.id)).collect();
        let found = rows::slots(self.connection, &keys).await?;
        let shelves: Vec<Key> = data.slots.iter().map(|s| key(&s.facility, &s.shelf)).collect();
        let shelves = rows::shelves(self.connection, &shelves).await?;
        for (index, slot) in data.slots.iter().enumerate() {
            if !shelves.contains_key(&key(&slot.facility, &slot.shelf)) {
                let at = At { list: "slots", index, field: "shelf".into() };
                return Err(MasterError::Unknown { at, what: "shelf", id: slot.shelf.to_string() });
            }
        }
        let sifted =
            sift("slots", &data.slots, &found, self.write.change, |s| key(&s.facility, &s.id))?;
        let fresh = self.tally(sifted);
        self.one_receiving_slot(&fresh).await?;
        let fresh: Vec<NewSlot> = fresh.into_iter().map(|(_, s)| s).collect();
        rows::put_slots(self.connection, &fresh).await?;
        for slot in &fresh {
            let zone =
                shelves.get(&key(&slot.facility, &slot.shelf)).and_then(|s| (*s.zone).clone());
            publish_slot(&mut self.publications, slot, zone);
        }
        Ok(())
    }

    async fn one_receiving_slot(&mut self, fresh: &[(usize, NewSlot)]) -> Result<(), MasterError> {
        let receiving: Vec<&(usize, NewSlot)> =
            fresh.iter().filter(|(_, s)| *s.receiving).collect();
        let facilities: Vec<&str> =
            receiving.iter().filter_map(|(_, s)| s.facility.as_ref()).map(|f| f.as_str()).collect();
        let mut owners = rows::receiving_slots(self.connection, &facilities).await?;
        // A slot that gives the role up in the same write makes room.
        for (_, slot) in fresh.iter().filter(|(_, s)| !*s.receiving) {
            owners.retain(|facility, id| {
                key(&slot.facility, &slot.id) != (facility.clone(), id.clone())
            });
        }
        for (index, slot) in receiving {
            let (facility, id) = key(&slot.facility, &slot.id);
            let owner = owners.entry(facility).or_insert_with(|| id.clone());
            if *owner != id {
                let at = At { list: "slots", index: *index, field: "receiving".into() };
                let detail = format!("slot {owner} is the facility's receiving slot already");
                return Err(MasterError::Conflict { at, detail });
            }
        }
        Ok(())
    }

    async fn lines(&mut self, data: &MasterData) -> Result<(), MasterError> {
        let line_key = |l: &NewLine| (key(&l.facility, &l.slot), l.sku.to_string());
        let slot_keys: BTreeSet<Key> =
            data.planogram.iter().map(|l| key(&l.facility, &l.slot)).collect();
        let slot_keys: Vec<Key> = slot_keys.into_iter().collect();
        let slots = rows::slots(self.connection, &slot_keys).await?;
        let skus: BTreeSet<&str> = data.planogram.iter().map(|l| l.sku.as_str()).collect();
        let skus = rows::skus(self.connection, &skus.into_iter().collect::<Vec<_>>()).await?;
        for (index, line) in data.planogram.iter().enumerate() {
            let at = |field: &'static str| At { list: "planogram", index, field: field.into() };
            if !slots.contains_key(&key(&line.facility, &line.slot)) {
                let id = line.slot.to_string();
                return Err(MasterError::Unknown { at: at("slot"), what: "slot", id });
            }
            if !skus.contains_key(line.sku.as_str()) {
                let id = line.sku.to_string();
                return Err(MasterError::Unknown { at: at("sku"), what: "SKU", id });
            }
        }
        let mut there: BTreeMap<(Key, String), NewLine> = BTreeMap::new();
        let found = match self.write.whole_planogram {
            Some(facility) => rows::lines_of(self.connection, facility.as_str()).await?,
            None => rows::lines_in(self.connection, &slot_keys).await?,
        };
        for line in found {
            there.insert(line_key(&line), line);
        }
        let change = self.write.change || self.write.whole_planogram.is_some();
        let sifted = sift("planogram", &data.planogram, &there, change, line_key)?;
        let fresh: Vec<NewLine> = self.tally(sifted).into_iter().map(|(_, l)| l).collect();
        let mut gone: Vec<NewLine> = Vec::new();
        if self.write.whole_planogram.is_some() {
            let stay: BTreeSet<(Key, String)> = data.planogram.iter().map(line_key).collect();
            gone = there.values().filter(|l| !stay.contains(&line_key(l))).cloned().collect();
        }
        if fresh.is_empty() && gone.is_empty() {
            return Ok(());
        }
        rows::delete_lines(self.connection, &gone).await?;
        rows::put_lines(self.connection, &fresh).await?;
        self.written.changed += gone.len();
        let touched: BTreeSet<Key> =
            fresh.iter().chain(&gone).map(|l| key(&l.facility, &l.slot)).collect();
        self.publish_lines(data, &touched).await
    }

    /// The fold takes all lines of a slot at once.
    async fn publish_lines(
        &mut self,
        data: &MasterData,
        touched: &BTreeSet<Key>,
    ) -> Result<(), MasterError> {
        let keys: Vec<Key> = touched.iter().cloned().collect();
        let mut by_slot: BTreeMap<Key, Vec<NewLine>> =
            keys.iter().map(|key| (key.clone(), Vec::new())).collect();
        for line in rows::lines_in(self.connection, &keys).await? {
            by_slot.entry(key(&line.facility, &line.slot)).or_default().push(line);
        }
        for ((facility, slot), lines) in by_slot {
            if lines.len() > fold::limits::LINES_MAX {
                let index =
                    data.planogram.iter().position(|l| l.slot.as_str() == slot).unwrap_or(0);
                let at = At { list: "planogram", index, field: "slot".into() };
                let most = fold::limits::LINES_MAX;
                let detail =
                    format!("slot {slot} would have {} lines; at most {most}", lines.len());
                return Err(MasterError::Conflict { at, detail });
            }
            let facility = rows::id::<FacilityId>(&facility)?;
            let slot = rows::id(&slot)?;
            let lines = lines.iter().map(line_spec).collect();
            self.publications.add(&facility, Master::Lines { slot, lines });
        }
        Ok(())
    }

    async fn devices(&mut self, data: &MasterData) -> Result<(), MasterError> {
        let ids: Vec<&str> = data.devices.iter().map(|d| d.id.as_str()).collect();
        let found = rows::devices(self.connection, &ids).await?;
        for (index, device) in data.devices.iter().enumerate() {
            if let Some(old) = found.get(device.id.as_str())
                && old.facility != device.facility
            {
                let at = At { list: "devices", index, field: "facility".into() };
                let detail = format!("device {} belongs to facility {}", device.id, old.facility);
                return Err(MasterError::Conflict { at, detail });
            }
        }
        let sifted =
            sift("devices", &data.devices, &found, self.write.change, |d| d.id.to_string())?;
        let fresh = self.tally(sifted);
        device_check::check(self.connection, data, &fresh).await?;
        self.cells_are_free(&fresh).await?;
        let devices: Vec<NewDevice> = fresh.iter().map(|(_, d)| d.clone()).collect();
        rows::put_devices(self.connection, &devices).await?;
        let new: Vec<usize> = fresh
            .iter()
            .filter(|(_, d)| !found.contains_key(d.id.as_str()))
            .map(|(index, _)| *index)
            .collect();
        let minted: Vec<(&str, &MintedCredential)> = new
            .iter()
            .filter_map(|index| {
                Some((data.devices.get(*index)?.id.as_str(), self.write.credentials.get(*index)?))
            })
            .collect();
        rows::put_credentials(self.connection, &minted).await?;
        // A device that is told anew is believed again, so one that is revoked is told that too.
        let ids: Vec<&str> = devices.iter().map(|d| d.id.as_str()).collect();
        let revoked = standing::revoked(self.connection, &ids).await?;
        for device in &devices {
            self.publications.add(&device.facility, Master::Device(device_spec(device)));
            let had = found.get(device.id.as_str()).is_some_and(|old| !old.antennas.is_empty());
            if had || !device.antennas.is_empty() {
                self.publications.add(&device.facility, antennas(device));
            }
            if revoked.contains(device.id.as_str()) {
                self.publications.add(&device.facility, Master::DeviceRevoked(device.id.clone()));
            }
        }
        self.written.new_devices = new;
        Ok(())
    }

    /// A slot stands on one cell only.
    async fn cells_are_free(&mut self, fresh: &[(usize, NewDevice)]) -> Result<(), MasterError> {
        let keys: Vec<Key> = fresh
            .iter()
            .flat_map(|(_, d)| d.channels.iter().map(|c| key(&Some(d.facility.clone()), &c.slot)))
            .collect();
        let mut owners = rows::cells(self.connection, &keys).await?;
        // Devices of this write give up the cells they had.
        owners.retain(|_, owner| !fresh.iter().any(|(_, d)| d.id.as_str() == owner));
        for (index, device) in fresh {
            let mut channels = BTreeSet::new();
            for channel in device.channels.iter() {
                let at = At { list: "devices", index: *index, field: "channels".into() };
                let slot = key(&Some(device.facility.clone()), &channel.slot);
                if !channels.insert(channel.channel.as_str()) {
                    let detail = format!("channel {} is named twice", channel.channel);
                    return Err(MasterError::Conflict { at, detail });
                }
                if let Some(owner) = owners.insert(slot, device.id.to_string()) {
                    let detail =
                        format!("slot {} stands on a cell of device {owner} already", channel.slot);
                    return Err(MasterError::Conflict { at, detail });
                }
            }
        }
        Ok(())
    }
}

fn publish_slot(publications: &mut Publications, slot: &NewSlot, zone: Option<ZoneId>) {
    let Some(facility) = &slot.facility else { return };
    let spec = SlotSpec {
        id: slot.id.clone(),
        shelf: slot.shelf.clone(),
        zone,
        receiving: *slot.receiving,
    };
    publications.add(facility, Master::Slot(spec));
}

fn sku_spec(sku: &NewSku) -> SkuSpec {
    SkuSpec {
        id: sku.id.clone(),
        unit_weight: sku.unit_weight_mg.map(Milligrams),
        unit_sigma: Milligrams(*sku.unit_sigma_mg),
        gtin: (*sku.gtin).clone(),
    }
}

pub(super) fn line_spec(line: &NewLine) -> LineSpec {
    LineSpec {
        sku: line.sku.clone(),
        source: line.source,
        capacity: line.capacity.map(Units),
        min: line.min.map(Units),
    }
}

fn zone_spec(zone: &NewZone) -> ZoneSpec {
    let mobility = zone.mobility.map(|mobility| mobility.over(zone.personality.mobility()));
    ZoneSpec { id: zone.id.clone(), personality: *zone.personality, mobility }
}

fn antennas(device: &NewDevice) -> Master {
    let antenna = |a: &NewAntenna| AntennaSpec {
        port: a.port,
        zone: a.zone.clone(),
        slot: a.slot.clone(),
        outside: a.outside,
    };
    Master::Antennas {
        device: device.id.clone(),
        antennas: device.antennas.iter().map(antenna).collect(),
    }
}

pub(super) fn device_spec(device: &NewDevice) -> DeviceSpec {
    let channel = |c: &NewChannel| ChannelSpec {
        channel: c.channel.clone(),
        slot: c.slot.clone(),
        division: Milligrams(c.division_mg),
        noise: Milligrams(c.noise_mg),
        capacity: c.capacity_mg.map(Milligrams),
        zero: c.zero_mg.map(Milligrams),
    };
    DeviceSpec {
        id: device.id.clone(),
        slot: (*device.slot).clone(),
        channels: device.channels.iter().map(channel).collect(),
    }
}
