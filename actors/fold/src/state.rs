//! The state of one facility and the way an entry changes it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use device_profiles::{DeviceId, FacilityId, Profile, ProfileHash, Sku, SlotId, Units, ZoneId};
use serde::{Deserialize, Serialize};

use crate::{
    FOLD_VERSION,
    book::Origin,
    device::{Device, LedgerHour},
    effects::{Effects, Event, EventKind, Outcome, Reason},
    entry::{Body, Entry, HubTime, Position, Principal, SkuSpec, SlotSpec, Source},
    rfid::{Mobility, Rfid},
    slot::{Level, Line, Slot},
    table::Table,
    weight::{self, Cell},
    witness,
};

/// A tick that was due comes this late at most while the hub is there, in microseconds.
const AWAY_US: i64 = 5_000_000;

/// Everything the fold knows of one facility.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub(crate) facility: FacilityId,
    pub(crate) position: Option<Position>,
    pub(crate) now: HubTime,
    pub(crate) version: u32,
    pub(crate) revision: u64,
    pub(crate) receiving: Option<SlotId>,
    pub(crate) profiles: BTreeMap<ProfileHash, Arc<Profile>>,
    pub(crate) gtins: BTreeMap<String, Sku>,
    /// Idempotency keys with a hash of what their calls said.
    pub(crate) keys: VecDeque<(HubTime, String, u32)>,
    pub(crate) timers: BTreeSet<(HubTime, Timer)>,
    /// The timers in [`State::timers`], by what they are for.
    pub(crate) armed: BTreeSet<Timer>,
    pub(crate) devices: Table<DeviceId, Device>,
    pub(crate) slots: Table<SlotId, Slot>,
    pub(crate) skus: Table<Sku, SkuSpec>,
    pub(crate) totals: Table<Sku, Units>,
    /// Zones, readers and tags.
    pub(crate) rfid: Rfid,
    /// Entries to be passed over; given by the caller before the fold reaches them, not part of the state proper.
    skip: BTreeSet<u64>,
}

/// Something to do when time has come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Timer {
    /// A cell that spoke only on change may have settled.
    Settle { device: DeviceId, cell: u16, settle_ms: u32, settle_samples: u16 },
    /// A witness has waited long enough.
    Witness(SlotId),
}

impl State {
    /// A facility of which nothing is known.
    pub fn new(facility: FacilityId) -> Self {
        Self {
            facility,
            position: None,
            now: HubTime(0),
            version: FOLD_VERSION,
            revision: 0,
            receiving: None,
            profiles: BTreeMap::new(),
            gtins: BTreeMap::new(),
            keys: VecDeque::new(),
            timers: BTreeSet::new(),
            armed: BTreeSet::new(),
            devices: Table::default(),
            slots: Table::default(),
            skus: Table::default(),
            totals: Table::default(),
            rfid: Rfid::default(),
            skip: BTreeSet::new(),
        }
    }

    /// Applies one entry. Total: any entry gives effects. An entry at or before [`State::position`] is a repeat and does
    /// nothing, so a reader may overlap.
    pub fn apply(&mut self, entry: &Entry) -> Effects {
        let mut effects = Effects::default();
        if self.position.is_some_and(|seen| entry.position <= seen) {
            effects.outcome = Outcome::Duplicate;
            return effects;
        }
        self.position = Some(entry.position);
        self.pass(entry.received_at);
        self.fire_due(entry, &mut effects);
        self.tags_due(entry, &mut effects);
        if self.skip.remove(&entry.position.offset) {
            effects.outcome = Outcome::Quarantined(Reason::Poison);
            return effects;
        }
        match &entry.body {
            Body::Frame(frame) => self.frame(entry, frame, &mut effects),
            Body::Tick => {}
            Body::Profile(text) => {
                if !self.profile(text) {
                    effects.outcome = Outcome::Rejected(Reason::Unreadable);
                }
            }
            Body::Master(master) => {
                if !self.master(entry.position.offset, master, &mut effects) {
                    effects.outcome = Outcome::Duplicate;
                }
            }
            Body::Command(command) => self.command(entry, command, &mut effects),
            Body::Quarantined { offset, reason } => {
                let (offset, reason) = (*offset, reason.clone());
                self.tell(&mut effects, EventKind::EntryQuarantined { offset, reason });
            }
            Body::FoldUpgraded { version } => {
                self.version = *version;
                self.tell(&mut effects, EventKind::FoldUpgraded { version: *version });
            }
            Body::Restated { lines } => {
                for (slot, sku, delta) in lines {
                    self.restate(slot, sku, *delta, &mut effects);
                }
            }
            Body::Unreadable { reason, .. } => {
                effects.outcome = Outcome::Quarantined(Reason::Unreadable);
                let refused = EventKind::Refused {
                    quarantined: true,
                    reason: Reason::Unreadable,
                    detail: reason.clone(),
                };
                self.tell(&mut effects, refused);
            }
        }
        effects
    }

    fn restate(&mut self, id: &SlotId, sku: &Sku, delta: Units, effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(id.as_str()) else { return };
        if slot.line(sku).is_none() {
            slot.lines.push(Line::new(sku.clone(), Source::Scan, false));
        }
        let Some(line) = slot.line_mut(sku) else { return };
        let total = self.totals.get_or_insert_with(sku, || Units::ZERO);
        let (Some(quantity), Some(whole)) =
            (line.quantity.checked_add(delta), total.checked_add(delta))
        else {
            return;
        };
        line.quantity = quantity;
        line.known = true;
        line.changed_at = self.now;
        *total = whole;
        effects.levels.push((id.clone(), sku.clone()));
        effects.events.push(Event {
            ordinal: effects.next_ordinal(),
            kind: EventKind::Restated { delta: delta.0 },
            at: self.now,
            device: None,
            slot: Some(id.clone()),
            sku: Some(sku.clone()),
        });
        self.recount_cell(id);
    }

    /// Where the effects of an entry come from that no device and no person caused.
    pub(crate) fn own_origin(&self, offset: u64) -> Origin {
        Origin {
            offset,
            at: self.now,
            principal: Principal::Hub,
            device: None,
            boot: None,
            seq: None,
        }
    }

    pub(crate) fn tell(&self, effects: &mut Effects, kind: EventKind) {
        effects.tell(None, self.now, kind);
    }

    /// When the fold next wants a tick, if nothing else comes.
    pub fn deadline(&self) -> Option<HubTime> {
        let timer = self.timers.first().map(|(due, _)| *due);
        match (timer, self.rfid.tags.next_due()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    pub(crate) fn arm(&mut self, due: HubTime, timer: Timer) {
        // One timer a cell or slot: a later deadline of the same one is armed when the earlier fires.
        if !self.armed.contains(&timer) {
            self.armed.insert(timer.clone());
            self.timers.insert((due, timer));
        }
    }

    /// Time goes on. When what was due did not get its tick, the hub was away, since the entry before for all that is known,
    /// and silence says nothing of that time.
    fn pass(&mut self, to: HubTime) {
        let (was, due) = (self.now, self.deadline());
        self.now = self.now.max(to);
        let is_late = |due: HubTime| self.now.since_us(due.max(was)) > AWAY_US;
        if due.is_some_and(is_late) {
            self.rfid.readers.pause(self.now.since_us(was));
        }
    }

    fn fire_due(&mut self, entry: &Entry, effects: &mut Effects) {
        while let Some((due, _)) = self.timers.first()
            && *due <= self.now
        {
            let Some((_, timer)) = self.timers.pop_first() else { return };
            self.armed.remove(&timer);
            let origin = self.own_origin(entry.position.offset);
            match &timer {
                Timer::Witness(id) => {
                    let Some(slot) = self.slots.get_mut(id.as_str()) else { continue };
                    let next = witness::expire(slot, effects, self.now, origin.offset);
                    if let Some(next) = next {
                        self.arm(next, timer);
                    }
                }
                Timer::Settle { device: id, cell, settle_ms, settle_samples } => {
                    let Some(device) = self.devices.get_mut(id.as_str()) else { continue };
                    let Some(cell) = device.cells.get_mut(usize::from(*cell)) else { continue };
                    let Some(slot) = self.slots.get_mut(cell.spec.slot.as_str()) else { continue };
                    let rule =
                        weight::settle_rule(cell, slot, &self.skus, *settle_ms, *settle_samples);
                    let mut lookup = weight::Lookup { skus: &self.skus, totals: &mut self.totals };
                    let origin = Origin { device: Some(id.clone()), ..origin };
                    weight::tick(cell, slot, &mut lookup, effects, &origin, &rule);
                    if let Some(next) = cell.due(&rule).filter(|next| *next > self.now) {
                        self.arm(next, timer);
                    }
                }
            }
        }
    }

    /// Which facility.
    pub fn facility(&self) -> &FacilityId {
        &self.facility
    }
    /// The last entry applied.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
    /// The facility's time: the newest hub time seen.
    pub fn now(&self) -> HubTime {
        self.now
    }
    /// Version of the rules the state was folded with.
    pub fn version(&self) -> u32 {
        self.version
    }
    /// Publication revision of the master data taken.
    pub fn revision(&self) -> u64 {
        self.revision
    }
    /// Whether a profile is known.
    pub fn has_profile(&self, hash: &ProfileHash) -> bool {
        self.profiles.contains_key(hash)
    }
    /// Goods of a zone move otherwise, until it is published again: what if. False when there is no such zone.
    pub fn retune(&mut self, zone: &ZoneId, knobs: impl Fn(Mobility) -> Mobility) -> bool {
        self.rfid.retune(zone, knobs)
    }
    /// Names entries that crashed the fold before and must be passed over.
    pub fn skip(&mut self, offsets: impl IntoIterator<Item = u64>) {
        self.skip.extend(offsets);
    }

    /// Offsets of entries that a coming movement may name as evidence, unordered: whoever trims the journal keeps them.
    pub fn evidence(&self) -> impl Iterator<Item = u64> {
        let cells = self
            .devices
            .iter()
            .flat_map(|(_, device)| device.cells.iter().flat_map(Cell::evidence));
        cells.chain(self.tag_evidence())
    }

    /// The level of a line.
    pub fn level(&self, slot: &str, sku: &Sku) -> Option<Level> {
        self.slots.get(slot)?.level(sku)
    }
    /// Every level, in a fixed order.
    pub fn levels(&self) -> impl Iterator<Item = Level> {
        self.slots
            .iter()
            .flat_map(|(_, slot)| slot.lines.iter().filter_map(|line| slot.level(&line.sku)))
    }
    /// The facility's total of a SKU.
    pub fn total(&self, sku: &str) -> Option<Units> {
        self.totals.get(sku).copied()
    }
    /// Every total, in a fixed order.
    pub fn totals(&self) -> impl Iterator<Item = (&Sku, Units)> {
        self.totals.iter().map(|(sku, units)| (sku, *units))
    }
    /// A slot's master data.
    pub fn slot(&self, slot: &str) -> Option<&SlotSpec> {
        self.slots.get(slot).map(|s| &s.spec)
    }
    /// A device's account of the current hour.
    pub fn ledger(&self, device: &str) -> Option<LedgerHour> {
        self.devices.get(device).map(|d| d.ledger)
    }
    /// Every device's account of its current hour, in a fixed order.
    pub fn ledgers(&self) -> impl Iterator<Item = (&DeviceId, LedgerHour)> {
        self.devices.iter().map(|(id, device)| (id, device.ledger))
    }
}
