//! A device's frame: is it new, what does it say, and what follows.

use device_profiles::{
    Measurement, Reading, ScanMode, Sku, SlotId, Units, decode, profile::Dedupe,
    profile::Kind as StreamKind,
};

use crate::{
    book::{Change, Origin, book},
    command,
    dedupe::Seen,
    device::{Device, LedgerHour},
    effects::{Cause, Confidence, Effects, Event, EventKind, Outcome, Reason, Why},
    entry::{Entry, Frame, Source},
    rfid::Batch,
    state::{State, Timer},
    weight, witness,
};

/// What a refusal says beside its reason.
type Refusal = (Outcome, String);

fn quarantined(reason: Reason, detail: impl Into<String>) -> Refusal {
    (Outcome::Quarantined(reason), detail.into())
}

impl State {
    /// Applies a frame and keeps the device's account of it.
    pub(crate) fn frame(&mut self, entry: &Entry, frame: &Frame, effects: &mut Effects) {
        let Some(device) = self.devices.get_mut(frame.device.as_str()) else {
            let detail = format!("device {} is not enrolled in this facility", frame.device);
            refuse(effects, entry, frame, quarantined(Reason::UnknownDevice, detail));
            return;
        };
        let hour = self.now.hour();
        if device.ledger.hour != hour {
            if device.ledger.counts.journaled > 0 {
                effects.ledger_closed = Some((frame.device.clone(), device.ledger));
            }
            device.ledger = LedgerHour { hour, ..LedgerHour::default() };
        }
        device.ledger.counts.journaled += 1;
        let judged = self.judge(entry, frame, effects);
        if let Err(refusal) = judged {
            if refusal.0 == Outcome::Duplicate {
                effects.outcome = Outcome::Duplicate;
            } else {
                refuse(effects, entry, frame, refusal);
            }
        }
        if let Some(device) = self.devices.get_mut(frame.device.as_str()) {
            let counts = &mut device.ledger.counts;
            match effects.outcome {
                Outcome::Applied => counts.applied += 1,
                Outcome::Duplicate => counts.duplicate += 1,
                Outcome::Quarantined(_) => counts.quarantined += 1,
                Outcome::Rejected(_) => counts.rejected += 1,
            }
        }
    }

    fn judge(
        &mut self,
        entry: &Entry,
        frame: &Frame,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let Some(device) = self.devices.get_mut(frame.device.as_str()) else {
            return Err(quarantined(Reason::UnknownDevice, ""));
        };
        if device.revoked {
            return Err(quarantined(Reason::DeviceRevoked, "the device was revoked"));
        }
        let Some(profile) = self.profiles.get(&frame.profile).cloned() else {
            let detail = format!("profile {} is not in the journal", frame.profile);
            return Err(quarantined(Reason::UnknownProfile, detail));
        };
        let reading = decode(&profile, &frame.stream, &frame.raw)
            .map_err(|reject| (Outcome::Rejected(Reason::from(&reject)), reject.to_string()))?;
        // Decoding succeeded, so the stream exists.
        let Some(stream) = profile.stream(&frame.stream) else {
            return Err((Outcome::Rejected(Reason::UnknownStream), frame.stream.clone()));
        };
        match (stream.dedupe, reading.seq) {
            (Dedupe::Payload, _) => {
                let is_stamped = reading.is_stamped();
                if device.repeats_payload(&frame.stream, &frame.raw, self.now, is_stamped) {
                    return Err((Outcome::Duplicate, String::new()));
                }
            }
            (Dedupe::Seq | Dedupe::Level, Some(seq)) => {
                observe_seq(device, &reading, seq, entry, frame, effects)?;
            }
            (Dedupe::Seq | Dedupe::Level, None) => {}
        }
        // What readers say of themselves comes before the reads that they held, and would make those look like a clock that
        // was set back.
        let tells_time = !matches!(stream.kind, StreamKind::Tags(_)) || reading.has_tags();
        let taken = if tells_time {
            device.clock.sample_time(self.now, reading.device_us)
        } else {
            self.now
        };
        let origin = Origin {
            offset: entry.position.offset,
            at: self.now,
            principal: entry.principal.clone(),
            device: Some(frame.device.clone()),
            boot: reading.boot.clone(),
            seq: reading.seq,
        };
        let mut applied = false;
        let mut refused = None;
        let batch = Batch::of(self.now, taken);
        if let StreamKind::Tags(map) = &stream.kind {
            // Nor does its clock run on with them: what it held tells how long it listened meanwhile.
            if !reading.is_of_itself() {
                let late_us = tells_time.then_some(batch.late_us);
                self.rfid.readers.frame(&frame.device, taken, map.patience_ms, late_us);
            }
            applied = reading.measurements.is_empty();
        }
        for measurement in &reading.measurements {
            let result = match measurement {
                Measurement::Value { .. } => Ok(()),
                Measurement::Tag(read) => {
                    let ago_us = batch.ago_us(reading.device_us, read.device_us);
                    self.tag_read(&origin, effects, read, ago_us)
                }
                Measurement::Reader(event) => {
                    self.reader_event(&origin, effects, event);
                    Ok(())
                }
                Measurement::Numbers { first, last, missing } => {
                    self.event_numbers(&origin, effects, (*first, *last), *missing);
                    Ok(())
                }
                Measurement::Stock { sku, delta, slot } => {
                    let cause = Cause::Reading;
                    self.declared(
                        &origin,
                        effects,
                        sku,
                        *delta,
                        slot.as_ref(),
                        cause,
                        Why::Declared,
                    )
                }
                Measurement::Scan { code, mode, quantity, slot } => {
                    self.scanned(&origin, effects, code, *mode, *quantity, slot.as_ref(), taken)
                }
                Measurement::Weight { channel, mass, stable, fault } => {
                    let StreamKind::Weight(map) = &stream.kind else { continue };
                    let shown =
                        weight::Shown { taken, mass: *mass, stable: *stable, fault: *fault };
                    self.weighed(&origin, effects, channel, shown, map)
                }
            };
            match result {
                Ok(()) => applied = true,
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        match refused {
            Some(refusal) if !applied => Err(refusal),
            Some(refusal) => {
                // The frame took effect, but not all of it: that part is told and kept like any refusal.
                refuse(effects, entry, frame, refusal);
                effects.outcome = Outcome::Applied;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A device declares a change.
    #[allow(clippy::too_many_arguments, reason = "the fields of one measurement")]
    fn declared(
        &mut self,
        origin: &Origin,
        effects: &mut Effects,
        sku: &Sku,
        delta: Units,
        slot: Option<&SlotId>,
        cause: Cause,
        why: Why,
    ) -> Result<(), Refusal> {
        let default = origin
            .device
            .as_ref()
            .and_then(|id| self.devices.get(id.as_str()))
            .and_then(|device| device.spec.slot.clone());
        let Some(slot) = slot.cloned().or(default) else {
            return Err(quarantined(
                Reason::NoSlot,
                "the reading names no slot and its device has none",
            ));
        };
        self.change(origin, effects, &slot, sku, delta, cause, why)
            .map_err(|(reason, detail)| quarantined(reason, detail))
    }

    /// Changes a line by declaration: books it where declarations count, announces it where another source does.
    #[allow(clippy::too_many_arguments, reason = "the fields of one change")]
    pub(crate) fn change(
        &mut self,
        origin: &Origin,
        effects: &mut Effects,
        slot: &SlotId,
        sku: &Sku,
        delta: Units,
        cause: Cause,
        why: Why,
    ) -> Result<(), (Reason, String)> {
        if self.skus.get(sku.as_str()).is_none() {
            return Err((Reason::UnknownSku, format!("no SKU {sku}")));
        }
        let Some(place) = self.slots.get_mut(slot.as_str()) else {
            return Err((Reason::UnknownSlot, format!("no slot {slot}")));
        };
        let counted_by = place.line(sku).map_or(Source::Scan, |line| line.source);
        if counted_by == Source::Scan {
            let change = Change {
                sku,
                delta,
                cause,
                confidence: Confidence::FULL,
                evidence: Vec::new(),
                why,
            };
            return book(place, &mut self.totals, effects, origin, change)
                .map_err(|reason| (reason, format!("{sku} in {slot}")));
        }
        if let Some(until) = witness::announce(place, sku, delta, origin.at, origin.offset) {
            self.arm(until, Timer::Witness(slot.clone()));
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one scan")]
    fn scanned(
        &mut self,
        origin: &Origin,
        effects: &mut Effects,
        code: &str,
        mode: ScanMode,
        quantity: Units,
        slot: Option<&SlotId>,
        taken: crate::HubTime,
    ) -> Result<(), Refusal> {
        let Some(sku) = self.sku_of_code(code) else {
            return Err(quarantined(Reason::UnknownCode, format!("no SKU has the code {code:?}")));
        };
        let why = Why::Scanned { code: code.to_owned() };
        match mode {
            ScanMode::Pick => {
                let delta = Units(-quantity.0);
                self.declared(origin, effects, &sku, delta, slot, Cause::Scan, why)
            }
            ScanMode::Receive => {
                let receiving = self.receiving.clone();
                let slot = slot.cloned().or(receiving);
                self.declared(origin, effects, &sku, quantity, slot.as_ref(), Cause::Scan, why)
            }
            ScanMode::Count => {
                let default = origin
                    .device
                    .as_ref()
                    .and_then(|id| self.devices.get(id.as_str()))
                    .and_then(|device| device.spec.slot.clone());
                let Some(slot) = slot.cloned().or(default) else {
                    return Err(quarantined(Reason::NoSlot, "the count names no slot"));
                };
                command::count(self, origin, effects, &slot, &sku, quantity, Some(taken))
                    .map_err(|(reason, detail)| quarantined(reason, detail))
            }
        }
    }

    fn weighed(
        &mut self,
        origin: &Origin,
        effects: &mut Effects,
        channel: &device_profiles::Channel,
        shown: weight::Shown,
        map: &device_profiles::profile::WeightMap,
    ) -> Result<(), Refusal> {
        let Some(id) = &origin.device else { return Ok(()) };
        let Some(device) = self.devices.get_mut(id.as_str()) else { return Ok(()) };
        let unbound = || {
            quarantined(
                Reason::UnboundChannel,
                format!("channel {channel} of {id} is not bound to a slot"),
            )
        };
        let Some(index) = device.cell_index(channel) else { return Err(unbound()) };
        let newest = origin.seq.is_none() || device.boots.is_newest(origin.boot.as_deref());
        let cell = &mut device.cells[index];
        if !newest || cell.is_late(origin.seq) {
            return Ok(());
        }
        let Some(slot) = self.slots.get_mut(cell.spec.slot.as_str()) else { return Err(unbound()) };
        let rule = weight::settle_rule(cell, slot, &self.skus, map.settle_ms, map.settle_samples);
        let mut lookup = weight::Lookup { skus: &self.skus, totals: &mut self.totals };
        weight::observe(cell, slot, &mut lookup, effects, origin, &rule, shown);
        if let Some(due) = cell.due(&rule) {
            let timer = Timer::Settle {
                device: id.clone(),
                cell: index as u16,
                settle_ms: map.settle_ms,
                settle_samples: map.settle_samples,
            };
            self.arm(due, timer);
        }
        Ok(())
    }

    /// The SKU a scanned code means: a GTIN of any length, or the SKU's own id.
    fn sku_of_code(&self, code: &str) -> Option<Sku> {
        if let Some(gtin) = gtin14(code)
            && let Some(sku) = self.gtins.get(&gtin)
        {
            return Some(sku.clone());
        }
        self.skus.get(code).map(|spec| spec.id.clone())
    }
}

/// A GTIN of 8 to 14 digits, padded to 14.
pub(crate) fn gtin14(code: &str) -> Option<String> {
    let digits = code.bytes().all(|b| b.is_ascii_digit());
    (digits && (8..=14).contains(&code.len())).then(|| format!("{code:0>14}"))
}

/// Judges the frame's number. `Ok(true)` when the device started anew with it.
fn observe_seq(
    device: &mut Device,
    reading: &Reading,
    seq: u64,
    entry: &Entry,
    frame: &Frame,
    effects: &mut Effects,
) -> Result<(), Refusal> {
    match device.boots.observe(reading.boot.as_deref(), seq, frame.fresh_session, &frame.raw) {
        Seen::Duplicate => Err((Outcome::Duplicate, String::new())),
        Seen::TooOld => Err(quarantined(
            Reason::TooOld,
            format!("seq {seq} is more than {} behind", crate::limits::DEDUPE_FRAMES),
        )),
        Seen::New { rebooted, skipped } => {
            let mut tell = |kind| effects.tell(Some(&frame.device), entry.received_at, kind);
            if let Some(boot) = rebooted {
                device.clock.reboot();
                device.cells.iter_mut().for_each(weight::Cell::restart);
                tell(EventKind::DeviceRebooted { boot });
            }
            if skipped > 0 {
                device.ledger.counts.lose(skipped);
                tell(EventKind::SourceLoss { frames: skipped });
            }
            Ok(())
        }
    }
}

/// Tells a refusal; the bytes stay in the journal and are copied to the quarantine table.
fn refuse(effects: &mut Effects, entry: &Entry, frame: &Frame, (outcome, detail): Refusal) {
    let (quarantined, reason) = match outcome {
        Outcome::Quarantined(reason) => (true, reason),
        Outcome::Rejected(reason) => (false, reason),
        Outcome::Applied | Outcome::Duplicate => return,
    };
    effects.outcome = outcome;
    effects.events.push(Event {
        ordinal: effects.next_ordinal(),
        kind: EventKind::Refused { quarantined, reason, detail },
        at: entry.received_at,
        device: Some(frame.device.clone()),
        slot: None,
        sku: None,
    });
}
