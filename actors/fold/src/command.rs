//! Calls that change stock: receipts, picks, moves, counts, adjustments, tare and zero.
//!
//! A command takes effect once for each idempotency key. A rejected command leaves no trace but its event.

use device_profiles::{Channel, DeviceId, Sku, SlotId, Units};

use crate::{
    book::{Change, Origin, book},
    dedupe::fnv32,
    discrepancy,
    effects::{Cause, Confidence, Effects, Event, EventKind, Outcome, Reason, Why},
    entry::{Command, CommandEntry, Entry, HubTime, Source},
    limits::{COMMAND_UNITS_MAX, COUNT_AGE_US_MAX, KEY_US, KEYS_MAX, TEXT_BYTES_MAX},
    state::State,
    weight,
};

type Refusal = (Reason, String);

impl State {
    pub(crate) fn command(&mut self, entry: &Entry, command: &CommandEntry, effects: &mut Effects) {
        if let Some(key) = &command.key {
            // Writing to a vector cannot fail.
            let said = fnv32(&postcard::to_stdvec(&command.command).unwrap_or_default());
            match self.seen_key(key) {
                Some(same) if same == said => {
                    effects.outcome = Outcome::Duplicate;
                    return;
                }
                Some(_) => {
                    let detail = "the key was used for another call".to_owned();
                    self.refuse_command(effects, (Reason::KeyReused, detail));
                    return;
                }
                None => self.remember_key(key.clone(), said),
            }
        }
        let origin = Origin {
            offset: entry.position.offset,
            at: self.now,
            principal: entry.principal.clone(),
            device: None,
            boot: None,
            seq: None,
        };
        if let Err(refusal) = self.carry_out(&origin, effects, &command.command) {
            self.refuse_command(effects, refusal);
        }
    }

    fn refuse_command(&self, effects: &mut Effects, (reason, detail): Refusal) {
        effects.outcome = Outcome::Rejected(reason);
        effects.events.push(Event {
            ordinal: effects.next_ordinal(),
            kind: EventKind::Refused { quarantined: false, reason, detail },
            at: self.now,
            device: None,
            slot: None,
            sku: None,
        });
    }

    /// What the call that used this key said, as a hash.
    fn seen_key(&self, key: &str) -> Option<u32> {
        let fresh = |at: &HubTime| self.now.since_us(*at) < KEY_US;
        self.keys.iter().find(|(at, known, _)| known == key && fresh(at)).map(|(_, _, said)| *said)
    }

    fn remember_key(&mut self, key: String, said: u32) {
        let old = |at: &HubTime, now: HubTime| now.since_us(*at) >= KEY_US;
        while self.keys.len() >= KEYS_MAX
            || self.keys.front().is_some_and(|(at, _, _)| old(at, self.now))
        {
            self.keys.pop_front();
        }
        self.keys.push_back((self.now, key, said));
    }

    fn carry_out(
        &mut self,
        origin: &Origin,
        effects: &mut Effects,
        command: &Command,
    ) -> Result<(), Refusal> {
        match command {
            Command::Receipt { slot, sku, quantity, reference } => {
                let quantity = positive(*quantity)?;
                let slot = slot.clone().or_else(|| self.receiving.clone()).ok_or_else(|| {
                    (Reason::NoReceivingSlot, "name a slot, or make one the receiving slot".into())
                })?;
                let why = Why::Commanded { reference: text(reference.as_deref())? };
                self.change(origin, effects, &slot, sku, quantity, Cause::Receipt, why)
            }
            Command::Pick { slot, sku, quantity, reference } => {
                let delta = Units(-positive(*quantity)?.0);
                let why = Why::Commanded { reference: text(reference.as_deref())? };
                self.change(origin, effects, slot, sku, delta, Cause::Pick, why)
            }
            Command::Move { from, to, sku, quantity } => {
                self.move_goods(origin, effects, from, to, sku, positive(*quantity)?)
            }
            Command::Count { slot, sku, quantity, counted_at } => {
                if !(0..=COMMAND_UNITS_MAX).contains(&quantity.0) {
                    return Err((Reason::BadCommand, format!("a count of {quantity}")));
                }
                count(self, origin, effects, slot, sku, *quantity, *counted_at)
            }
            Command::Adjust { slot, sku, delta, reason } => {
                self.adjust(origin, effects, slot, sku, *delta, reason)
            }
            Command::Tare { device, channel } => self.tare(origin, effects, device, channel),
            Command::Zero { slot, force } => self.zero(origin, effects, slot, *force),
            Command::TagGone { tag, elsewhere, unless_read_since } => {
                self.tag_gone(origin, effects, tag, elsewhere.as_ref(), *unless_read_since)
            }
            Command::CycleCount { zone } => self.cycle_count(effects, zone.as_ref()),
        }
    }

    fn move_goods(
        &mut self,
        origin: &Origin,
        effects: &mut Effects,
        from: &SlotId,
        to: &SlotId,
        sku: &Sku,
        quantity: Units,
    ) -> Result<(), Refusal> {
        if from == to {
            return Err((Reason::SameSlot, format!("from and to are both {from}")));
        }
        if self.slots.get(to.as_str()).is_none() {
            return Err((Reason::UnknownSlot, format!("no slot {to}")));
        }
        let room = |slot: &crate::slot::Slot| {
            slot.line(sku).is_some() || slot.lines.len() < crate::limits::LINES_MAX
        };
        if !self.slots.get(to.as_str()).is_some_and(room) {
            return Err((Reason::TooManyLines, format!("no room for another line in {to}")));
        }
        let why = |other: &SlotId| Why::Commanded { reference: Some(format!("move {other}")) };
        self.change(origin, effects, from, sku, Units(-quantity.0), Cause::Move, why(to))?;
        self.change(origin, effects, to, sku, quantity, Cause::Move, why(from))
    }

    /// An adjustment overrides whatever counts the line.
    fn adjust(
        &mut self,
        origin: &Origin,
        effects: &mut Effects,
        slot: &SlotId,
        sku: &Sku,
        delta: Units,
        reason: &str,
    ) -> Result<(), Refusal> {
        if delta.0 == 0 || delta.0.unsigned_abs() > COMMAND_UNITS_MAX.unsigned_abs() {
            return Err((Reason::BadCommand, format!("an adjustment by {delta}")));
        }
        let why = Why::Commanded { reference: text(Some(reason))? };
        self.need(slot, sku)?;
        let Some(place) = self.slots.get_mut(slot.as_str()) else {
            return Err((Reason::UnknownSlot, format!("no slot {slot}")));
        };
        let change = Change {
            sku,
            delta,
            cause: Cause::Adjustment,
            confidence: Confidence::FULL,
            evidence: Vec::new(),
            why,
        };
        book(place, &mut self.totals, effects, origin, change)
            .map_err(|reason| (reason, format!("{sku} in {slot}")))?;
        settle_doubts(place, effects, origin.at, sku, "adjusted by hand");
        self.recount_cell(slot);
        Ok(())
    }

    fn tare(
        &mut self,
        origin: &Origin,
        effects: &mut Effects,
        device: &DeviceId,
        channel: &Channel,
    ) -> Result<(), Refusal> {
        let unknown = || (Reason::UnknownChannel, format!("no cell {channel} on {device}"));
        let device = self.devices.get_mut(device.as_str()).ok_or_else(unknown)?;
        let index = device.cell_index(channel).ok_or_else(unknown)?;
        let cell = &mut device.cells[index];
        let slot = self.slots.get_mut(cell.spec.slot.as_str()).ok_or_else(unknown)?;
        let mut lookup = weight::Lookup { skus: &self.skus, totals: &mut self.totals };
        weight::tare(cell, slot, &mut lookup, effects, origin)
            .map_err(|reason| (reason, "wait until the shelf holds still, then tare again".into()))
    }

    /// A person says that a slot is empty. Other sources are asked first: goods that were scanned or seen there contradict.
    fn zero(
        &mut self,
        origin: &Origin,
        effects: &mut Effects,
        slot: &SlotId,
        force: bool,
    ) -> Result<(), Refusal> {
        let unknown = || (Reason::UnknownSlot, format!("no slot {slot}"));
        let place = self.slots.get(slot.as_str()).ok_or_else(unknown)?;
        let other = place
            .lines
            .iter()
            .find(|line| line.source != Source::Weight && line.quantity > Units::ZERO);
        if let Some(line) = other.filter(|_| !force) {
            let detail = format!(
                "{} of {} are in {slot}, as counted by {}: look, correct that count, or force it",
                line.quantity,
                line.sku,
                line.source.as_str()
            );
            return Err((Reason::SlotNotEmpty, detail));
        }
        let (device, channel) = place
            .cell
            .clone()
            .ok_or_else(|| (Reason::UnknownChannel, format!("no cell carries {slot}")))?;
        self.tare(origin, effects, &device, &channel)
    }

    fn need(&self, slot: &SlotId, sku: &Sku) -> Result<(), Refusal> {
        if self.slots.get(slot.as_str()).is_none() {
            return Err((Reason::UnknownSlot, format!("no slot {slot}")));
        }
        if self.skus.get(sku.as_str()).is_none() {
            return Err((Reason::UnknownSku, format!("no SKU {sku}")));
        }
        Ok(())
    }

    /// A person set a quantity of a weighed slot: the cell starts from it.
    pub(crate) fn recount_cell(&mut self, slot: &SlotId) {
        let Some(place) = self.slots.get_mut(slot.as_str()) else { return };
        let Some((device, channel)) = place.cell.clone() else { return };
        let Some(device) = self.devices.get_mut(device.as_str()) else { return };
        if let Some(index) = device.cell_index(&channel) {
            weight::counted(&mut device.cells[index], place, &self.skus);
        }
    }
}

/// Somebody counted, now or a while ago: movements since then stay on top of the count.
pub(crate) fn count(
    state: &mut State,
    origin: &Origin,
    effects: &mut Effects,
    slot: &SlotId,
    sku: &Sku,
    quantity: Units,
    counted_at: Option<HubTime>,
) -> Result<(), Refusal> {
    state.need(slot, sku)?;
    let at = counted_at.unwrap_or(origin.at);
    let age_us = origin.at.since_us(at);
    if age_us < 0 {
        return Err((Reason::CountInFuture, "the count's time lies in the future".into()));
    }
    if age_us > COUNT_AGE_US_MAX {
        return Err((Reason::CountTooOld, "the count is older than 24 hours: count again".into()));
    }
    let Some(place) = state.slots.get_mut(slot.as_str()) else {
        return Err((Reason::UnknownSlot, format!("no slot {slot}")));
    };
    if place.past.overflowed() && place.past.oldest().is_some_and(|oldest| oldest.at > at) {
        let detail = "too many movements since the count to place it: count again".into();
        return Err((Reason::CountTooOld, detail));
    }
    let since: i64 = place
        .past
        .newest()
        .take_while(|past| past.at > at)
        .filter(|past| past.sku == *sku)
        .map(|past| past.delta.0)
        .sum();
    let now = place.line(sku).map_or(0, |line| line.quantity.0);
    let had = now - since;
    let delta = quantity.0 - had;
    // The movement is told even when nothing was off: a count is a fact about the line.
    let change = Change {
        sku,
        delta: Units(delta),
        cause: Cause::Count,
        confidence: Confidence::FULL,
        evidence: Vec::new(),
        why: Why::Counted { counted: quantity.0, had, since, age_us },
    };
    book(place, &mut state.totals, effects, origin, change)
        .map_err(|reason| (reason, format!("{sku} in {slot}")))?;
    if let Some(line) = place.line_mut(sku) {
        line.known = true;
        if line.source == Source::Scan {
            line.certainty = Confidence::FULL;
        }
    }
    settle_doubts(place, effects, origin.at, sku, "counted");
    state.recount_cell(slot);
    Ok(())
}

/// A person looked: whatever was in doubt about this line is settled.
fn settle_doubts(
    slot: &mut crate::slot::Slot,
    effects: &mut Effects,
    at: HubTime,
    sku: &Sku,
    by: &str,
) {
    use discrepancy::Kind::{NegativeLevel, NoUnitWeight};
    slot.expected.retain(|expected| expected.sku != *sku);
    let negative = slot.line(sku).is_some_and(|line| line.quantity.0 < 0);
    discrepancy::close(slot, effects, at, by, |open| {
        open.concerns(sku) && open.kind != NoUnitWeight && (open.kind != NegativeLevel || !negative)
    });
}

fn positive(quantity: Units) -> Result<Units, Refusal> {
    if (1..=COMMAND_UNITS_MAX).contains(&quantity.0) {
        Ok(quantity)
    } else {
        Err((
            Reason::BadCommand,
            format!("a quantity of {quantity}; 1 to {COMMAND_UNITS_MAX} is allowed"),
        ))
    }
}

fn text(text: Option<&str>) -> Result<Option<String>, Refusal> {
    match text {
        Some(long) if long.len() > TEXT_BYTES_MAX => Err((
            Reason::BadCommand,
            format!("a text of {} bytes; at most {TEXT_BYTES_MAX}", long.len()),
        )),
        other => Ok(other.map(str::to_owned)),
    }
}
