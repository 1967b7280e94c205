//! Master data as published into the journal: slots, SKUs, planogram lines, devices.
//!
//! Who publishes that a slot or a SKU is gone has made sure that nothing is kept there. Goods may have come while the
//! publication was on its way: then both stay, because a quantity is the sum of its movements and what exists is somewhere.
//! A device never goes: it is revoked and bound to nothing, so that what it sent is known again if it ever comes back.

use device_profiles::{Channel, DeviceId, Profile, Sku, SlotId, Units, limits::MASS_MG_MAX};

use crate::{
    device::Device,
    discrepancy,
    effects::Effects,
    entry::{DeviceSpec, LineSpec, Master, MasterEntry, SkuSpec, SlotSpec, Source},
    frame::gtin14,
    limits::{LINES_MAX, SCALE_PPM_MAX},
    slot::{Line, Slot},
    state::State,
    weight,
};

impl State {
    /// Takes published values once; a revision that is not newer is a repeat. False for a repeat.
    pub(crate) fn master(
        &mut self,
        offset: u64,
        entry: &MasterEntry,
        effects: &mut Effects,
    ) -> bool {
        if entry.revision <= self.revision {
            return false;
        }
        self.revision = entry.revision;
        let mut renamed = false;
        for value in &entry.values {
            match value {
                Master::Slot(spec) => self.master_slot(spec),
                Master::Sku(spec) => {
                    renamed = true;
                    self.master_sku(spec);
                }
                Master::Lines { slot, lines } => self.master_lines(slot, lines, effects),
                Master::Device(spec) => self.master_device(spec),
                Master::DeviceRevoked(id) => {
                    if let Some(device) = self.devices.get_mut(id.as_str()) {
                        device.revoked = true;
                    }
                }
                Master::SlotGone(id) => self.master_slot_gone(id, effects),
                Master::SkuGone(sku) => {
                    renamed = true;
                    self.master_sku_gone(sku, effects);
                }
                Master::Zone(spec) => self.rfid.zone(spec.clone()),
                Master::Antennas { device, antennas } => {
                    self.rfid.antennas(device, antennas, self.now);
                }
                Master::Calibration { device, channel, slot, zero, scale_ppm } => {
                    self.calibrated(offset, (device, channel, slot), (zero.0, *scale_ppm), effects);
                }
            }
        }
        if renamed && self.tags_known() > 0 {
            self.tags_renamed();
        }
        true
    }

    /// Takes a profile's text; one that does not parse is ignored here, frames that name it are quarantined.
    pub(crate) fn profile(&mut self, text: &str) -> bool {
        match Profile::parse(text) {
            Ok(profile) => {
                self.profiles.insert(profile.hash, std::sync::Arc::new(profile));
                true
            }
            Err(_) => false,
        }
    }

    fn master_slot(&mut self, spec: &SlotSpec) {
        if spec.receiving {
            self.receiving = Some(spec.id.clone());
        } else if self.receiving.as_ref() == Some(&spec.id) {
            self.receiving = None;
        }
        let slot = self.slots.get_or_insert_with(&spec.id, || Slot::new(spec.clone()));
        slot.spec = spec.clone();
    }

    fn master_sku(&mut self, spec: &SkuSpec) {
        let old = self.skus.insert(spec.id.clone(), spec.clone());
        if let Some(gtin) = old.and_then(|old| old.gtin).and_then(|gtin| gtin14(&gtin)) {
            self.gtins.remove(&gtin);
        }
        if let Some(gtin) = spec.gtin.as_deref().and_then(gtin14) {
            self.gtins.insert(gtin, spec.id.clone());
        }
    }

    /// Sets the planned lines of a slot. A line with stock that is no longer planned stays, counted by declaration.
    /// Every line that was or is in the slot is told: a planned line has a level from the start, a removed one has none.
    fn master_lines(&mut self, id: &SlotId, lines: &[LineSpec], effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(id.as_str()) else { return };
        effects.levels.extend(slot.lines.iter().map(|line| (id.clone(), line.sku.clone())));
        let planned = |sku: &Sku| lines.iter().any(|spec| spec.sku == *sku);
        slot.lines.retain(|line| planned(&line.sku) || line.quantity.0 != 0);
        for line in &mut slot.lines {
            if !planned(&line.sku) {
                line.planned = false;
                line.source = Source::Scan;
            }
        }
        for spec in lines.iter().take(LINES_MAX) {
            match slot.line_mut(&spec.sku) {
                Some(line) => {
                    line.planned = true;
                    line.source = spec.source;
                }
                None => slot.lines.push(Line::new(spec.sku.clone(), spec.source, true)),
            }
        }
        effects.levels.extend(slot.lines.iter().map(|line| (id.clone(), line.sku.clone())));
        let Some((device, channel)) = slot.cell.clone() else { return };
        let Some(device) = self.devices.get_mut(device.as_str()) else { return };
        if let Some(index) = device.cell_index(&channel) {
            weight::respecify_lines(&mut device.cells[index], slot, &self.skus);
        }
    }

    fn master_slot_gone(&mut self, id: &SlotId, effects: &mut Effects) {
        if self.receiving.as_ref() == Some(id) {
            self.receiving = None;
        }
        let now = self.now;
        let Some(slot) = self.slots.get_mut(id.as_str()) else { return };
        if slot.lines.iter().any(|line| line.quantity != Units::ZERO) {
            return;
        }
        discrepancy::close(slot, effects, now, "the slot was removed", |_| true);
        effects.levels.extend(slot.lines.iter().map(|line| (id.clone(), line.sku.clone())));
        self.slots.remove(id.as_str());
    }

    fn master_sku_gone(&mut self, sku: &Sku, effects: &mut Effects) {
        let kept = |line: &Line| line.sku == *sku && (line.planned || line.quantity != Units::ZERO);
        if self.slots.iter().any(|(_, slot)| slot.lines.iter().any(kept)) {
            return;
        }
        let now = self.now;
        let named = self.slots.iter().filter(|(_, slot)| slot.names(sku));
        let named: Vec<SlotId> = named.map(|(id, _)| id.clone()).collect();
        for id in named {
            let Some(slot) = self.slots.get_mut(id.as_str()) else { continue };
            discrepancy::close(slot, effects, now, "the SKU was removed", |open| {
                open.sku.as_ref() == Some(sku)
            });
            slot.lines.retain(|line| line.sku != *sku);
            slot.expected.retain(|expected| expected.sku != *sku);
            effects.levels.push((id, sku.clone()));
        }
        self.skus.remove(sku.as_str());
        self.gtins.retain(|_, owner| owner != sku);
    }

    /// A cell that was bound to another slot meanwhile keeps what it has: there another zero is right.
    ///
    /// Zero and scale were verified just now, so the mass that the cell shows next says what is on it, better than what was
    /// counted while somebody put weights there. Several lines cannot be told apart by a mass: they keep their counts.
    fn calibrated(
        &mut self,
        offset: u64,
        (device, channel, on): (&DeviceId, &Channel, &SlotId),
        (zero, scale_ppm): (i64, i64),
        effects: &mut Effects,
    ) {
        let Some(device) = self.devices.get_mut(device.as_str()) else { return };
        let Some(index) = device.cell_index(channel) else { return };
        let cell = &mut device.cells[index];
        // What cannot be was not written by a hub; taken, it could overflow a mass.
        let sound = (1..=SCALE_PPM_MAX).contains(&scale_ppm)
            && zero.unsigned_abs() <= MASS_MG_MAX.unsigned_abs();
        if cell.spec.slot != *on || !sound {
            return;
        }
        cell.calibrate(zero, scale_ppm, offset);
        let now = self.now;
        if let Some(slot) = self.slots.get_mut(on.as_str()) {
            let mut weighed = slot.lines.iter_mut().filter(|line| line.source == Source::Weight);
            if let (Some(only), None) = (weighed.next(), weighed.next()) {
                only.known = false;
            }
            effects.levels.extend(slot.lines.iter().map(|line| (on.clone(), line.sku.clone())));
            discrepancy::close(slot, effects, now, "the cell was calibrated", |open| {
                open.kind == discrepancy::Kind::Drift
            });
        }
    }

    fn master_device(&mut self, spec: &DeviceSpec) {
        let device = self.devices.get_or_insert_with(&spec.id, || Device::new(spec.clone()));
        for old in &device.spec.channels {
            if let Some(slot) = self.slots.get_mut(old.slot.as_str()) {
                slot.cell = None;
            }
        }
        device.respecify(spec.clone());
        for channel in &spec.channels {
            if let Some(slot) = self.slots.get_mut(channel.slot.as_str()) {
                slot.cell = Some((spec.id.clone(), channel.channel.clone()));
            }
        }
    }
}
