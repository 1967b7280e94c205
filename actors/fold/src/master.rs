//! Master data as published into the journal: slots, SKUs, planogram lines, devices.

use device_profiles::{Profile, Sku, SlotId};

use crate::{
    device::Device,
    effects::Effects,
    entry::{DeviceSpec, LineSpec, Master, MasterEntry, SkuSpec, SlotSpec, Source},
    frame::gtin14,
    limits::LINES_MAX,
    slot::{Line, Slot},
    state::State,
    weight,
};

impl State {
    /// Takes published values once; a revision that is not newer is a repeat. False for a repeat.
    pub(crate) fn master(&mut self, entry: &MasterEntry, effects: &mut Effects) -> bool {
        if entry.revision <= self.revision {
            return false;
        }
        self.revision = entry.revision;
        for value in &entry.values {
            match value {
                Master::Slot(spec) => self.master_slot(spec),
                Master::Sku(spec) => self.master_sku(spec),
                Master::Lines { slot, lines } => self.master_lines(slot, lines, effects),
                Master::Device(spec) => self.master_device(spec),
                Master::DeviceRevoked(id) => {
                    if let Some(device) = self.devices.get_mut(id.as_str()) {
                        device.revoked = true;
                    }
                }
            }
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
