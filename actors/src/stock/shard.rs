//! A shard's fold states and what they did since the last commit. Pure: no clock, no IO; replay and the live shard share it.

use std::collections::{BTreeMap, BTreeSet};

use device_profiles::{DeviceId, FacilityId, ShardId, Sku, SlotId, Tag};
use fold::{
    Body, Entry, EventKind, FOLD_VERSION, HubTime, LedgerHour, Outcome, Position, RestoreError,
    State, wire,
};

use crate::{
    journal::Record,
    snapshot::Slices,
    store::{Batch, Refused},
};

/// Rows a batch may hold before folding waits for the commit under way.
pub const BATCH_ROWS_MAX: usize = 8_192;
/// The states of a shard's facilities.
pub struct Shard {
    id: u16,
    epoch: u32,
    states: BTreeMap<FacilityId, State>,
    unknown: FacilityId,
    skip: BTreeSet<u64>,
    /// Last offset folded.
    folded: u64,
    folded_at: HubTime,
    pending: Pending,
}

/// Effects since the last seal.
#[derive(Default)]
struct Pending {
    batch: Batch,
    facilities: BTreeMap<FacilityId, Touched>,
    /// A command came: whoever sent it waits.
    urgent: bool,
}

/// What of a facility is to be written with the values it has at the seal.
#[derive(Default)]
struct Touched {
    lines: BTreeSet<(SlotId, Sku)>,
    tags: BTreeSet<Tag>,
    totals: BTreeSet<Sku>,
    closed: Vec<(DeviceId, LedgerHour)>,
    ledgers: BTreeSet<DeviceId>,
}

impl Shard {
    /// A shard without history.
    pub fn new(id: u16, epoch: u32, unknown: FacilityId) -> Self {
        Self {
            id,
            epoch,
            states: BTreeMap::new(),
            unknown,
            skip: BTreeSet::new(),
            folded: 0,
            folded_at: HubTime(0),
            pending: Pending::default(),
        }
    }

    /// A shard as a snapshot has it.
    pub fn restore(
        id: u16,
        epoch: u32,
        unknown: FacilityId,
        offset: u64,
        facilities: &[Slices],
    ) -> Result<Self, RestoreError> {
        let mut shard = Self::new(id, epoch, unknown);
        for slices in facilities {
            let state = State::restore(slices)?;
            shard.folded_at = shard.folded_at.max(state.now());
            shard.states.insert(state.facility().clone(), state);
        }
        shard.folded = offset;
        Ok(shard)
    }

    /// Last offset folded.
    pub fn folded(&self) -> u64 {
        self.folded
    }
    /// Hub time of the newest entry folded.
    pub fn folded_at(&self) -> HubTime {
        self.folded_at
    }
    /// The states.
    pub fn states(&self) -> impl ExactSizeIterator<Item = &State> {
        self.states.values()
    }
    /// The states, to be changed otherwise than by the journal: what if.
    pub fn states_mut(&mut self) -> impl Iterator<Item = &mut State> {
        self.states.values_mut()
    }
    /// A facility's state.
    pub fn state(&self, facility: &str) -> Option<&State> {
        self.states.get(facility)
    }
    /// Copies that share their tables; for a snapshot written elsewhere while folding goes on.
    pub fn copies(&self) -> Vec<State> {
        self.states.values().cloned().collect()
    }
    /// Names entries that crashed the fold.
    pub fn skip(&mut self, offsets: impl IntoIterator<Item = u64>) {
        self.skip.extend(offsets);
    }

    /// Facilities with a deadline at or before `now`, and that deadline.
    pub fn due(&self, now: HubTime) -> impl Iterator<Item = (&FacilityId, HubTime)> {
        let due = move |(id, state): (_, &State)| Some((id, state.deadline()?));
        self.states.iter().filter_map(due).filter(move |(_, at)| *at <= now)
    }

    /// Records up to here were read and belong to others: the shard stands there as well as where its last own one was.
    pub fn pass(&mut self, offset: u64) {
        self.folded = self.folded.max(offset);
    }

    /// Facilities whose state was folded by other rules than ours.
    pub fn outdated(&self) -> Vec<FacilityId> {
        let old = self.states.iter().filter(|(_, state)| state.version() != FOLD_VERSION);
        old.map(|(id, _)| id.clone()).collect()
    }

    /// Folds one record. `commit` = its effects are new to the store; without, it is only followed.
    pub fn fold(&mut self, record: &Record, commit: bool) {
        let position =
            Position { epoch: self.epoch, shard: ShardId(self.id), offset: record.offset };
        let entry = wire::decode(
            position,
            HubTime(record.at_us),
            record.kind,
            &record.payload,
            &self.unknown,
        );
        self.folded = record.offset;
        self.folded_at = self.folded_at.max(entry.received_at);
        let state = match self.states.get_mut(entry.facility.as_str()) {
            Some(state) => state,
            None => self
                .states
                .entry(entry.facility.clone())
                .or_insert_with(|| State::new(entry.facility.clone())),
        };
        if self.skip.contains(&record.offset) {
            state.skip([record.offset]);
        }
        let effects = state.apply(&entry);
        self.pending.take(&entry, effects, record.offset, commit);
    }

    /// Rows waiting to be committed; the ledger, which can wait, is not counted.
    pub fn pending_rows(&self) -> usize {
        let p = &self.pending;
        let lines: usize = p.facilities.values().map(|touched| touched.lines.len()).sum();
        let tags: usize = p.facilities.values().map(|touched| touched.tags.len()).sum();
        p.batch.movements.len() + p.batch.events.len() + lines + tags
    }

    /// Movements waiting to be committed.
    pub fn pending_movements(&self) -> usize {
        self.pending.batch.movements.len()
    }

    /// Somebody waits for what is pending.
    pub fn is_urgent(&self) -> bool {
        self.pending.urgent
    }

    /// Device hours wait to be written.
    pub fn has_ledgers(&self) -> bool {
        self.pending.facilities.values().any(|t| !t.ledgers.is_empty() || !t.closed.is_empty())
    }

    /// Takes everything pending as a batch from `from` to where the fold stands. Device hours are absolute and may wait for a
    /// later batch: they go along when `ledger`.
    pub fn seal(&mut self, from: u64, term: u64, ledger: bool) -> Batch {
        let pending = std::mem::take(&mut self.pending);
        let mut batch = pending.batch;
        batch.shard = self.id;
        batch.epoch = self.epoch;
        batch.term = term;
        batch.from = from;
        batch.to = self.folded;
        batch.fold_version = FOLD_VERSION;
        for (facility, touched) in pending.facilities {
            let Some(state) = self.states.get(facility.as_str()) else { continue };
            for (slot, sku) in touched.lines {
                match state.level(slot.as_str(), &sku) {
                    Some(level) => batch.levels.push((facility.clone(), level)),
                    None => batch.gone.push((facility.clone(), slot, sku)),
                }
            }
            for tag in touched.tags {
                match state.tag(&tag) {
                    Some(now) => batch.tags.push((facility.clone(), now)),
                    None => batch.tags_gone.push((facility.clone(), tag)),
                }
            }
            for sku in touched.totals {
                if let Some(total) = state.total(sku.as_str()) {
                    batch.totals.push((facility.clone(), sku, total));
                }
            }
            if !ledger {
                if !touched.ledgers.is_empty() || !touched.closed.is_empty() {
                    let waiting = Touched {
                        ledgers: touched.ledgers,
                        closed: touched.closed,
                        ..Touched::default()
                    };
                    self.pending.facilities.insert(facility, waiting);
                }
                continue;
            }
            let now = touched.ledgers.into_iter().filter_map(|device| {
                let hour = state.ledger(device.as_str())?;
                Some((facility.clone(), device, hour))
            });
            let closed =
                touched.closed.into_iter().map(|(device, hour)| (facility.clone(), device, hour));
            let mut ledgers: Vec<_> = now.chain(closed).collect();
            ledgers.sort_by(|a, b| (&a.1, a.2.hour).cmp(&(&b.1, b.2.hour)));
            ledgers.dedup_by(|b, a| (&a.1, a.2.hour) == (&b.1, b.2.hour));
            batch.ledgers.append(&mut ledgers);
        }
        batch
    }
}

impl Pending {
    fn take(&mut self, entry: &Entry, effects: fold::Effects, offset: u64, commit: bool) {
        let facility = &entry.facility;
        let touched = match self.facilities.get_mut(facility.as_str()) {
            Some(touched) => touched,
            None => self.facilities.entry(facility.clone()).or_default(),
        };
        if let Body::Frame(frame) = &entry.body
            && effects.outcome != Outcome::Quarantined(fold::Reason::UnknownDevice)
            && !touched.ledgers.contains(frame.device.as_str())
        {
            touched.ledgers.insert(frame.device.clone());
        }
        touched.closed.extend(effects.ledger_closed);
        if !commit {
            return;
        }
        self.urgent |= matches!(entry.body, Body::Command(_) | Body::Master(_));
        for movement in effects.movements {
            if !touched.totals.contains(movement.sku.as_str()) {
                touched.totals.insert(movement.sku.clone());
            }
            self.batch.movements.push((facility.clone(), offset, movement));
        }
        for event in effects.events {
            if let (EventKind::Refused { .. }, Body::Frame(frame)) = (&event.kind, &entry.body) {
                let refused = Refused { stream: frame.stream.clone(), raw: frame.raw.clone() };
                self.batch.refused.push((offset, refused));
            }
            self.batch.events.push((facility.clone(), offset, event));
        }
        touched.lines.extend(effects.levels);
        touched.tags.extend(effects.tags);
    }
}
