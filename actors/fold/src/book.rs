//! Booking: the one place where a quantity changes, so that movements and levels cannot disagree.

use device_profiles::{DeviceId, Sku, SlotId, Units};

use crate::{
    discrepancy::{self, Kind, Opened},
    effects::{Cause, Confidence, Effects, Movement, Reason, Why},
    entry::{HubTime, Principal, Source},
    limits::{FRESHNESS_US, LINES_MAX, QUANTITY_UNITS_MAX},
    slot::{Line, Past, Slot},
    table::Table,
    witness,
};

/// The counting source of a line spoke and nothing changed; it is told from time to time.
pub(crate) fn freshen(line: &mut Line, slot: &SlotId, at: HubTime, effects: &mut Effects) {
    line.fresh_at = at;
    if at.since_us(line.told_at) >= FRESHNESS_US {
        line.told_at = at;
        effects.levels.push((slot.clone(), line.sku.clone()));
    }
}

/// Where an effect comes from; the same for all effects of one measurement.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub offset: u64,
    /// Hub time of the entry.
    pub at: HubTime,
    pub principal: Principal,
    pub device: Option<DeviceId>,
    pub boot: Option<String>,
    pub seq: Option<u64>,
}

/// A change to be booked.
pub(crate) struct Change<'a> {
    pub sku: &'a Sku,
    pub delta: Units,
    pub cause: Cause,
    pub confidence: Confidence,
    pub evidence: Vec<u64>,
    pub why: Why,
}

/// Changes a line and the SKU's total, and tells the movement. A line that is not there is made: goods that turn up exist,
/// planned or not.
pub(crate) fn book(
    slot: &mut Slot,
    totals: &mut Table<Sku, Units>,
    effects: &mut Effects,
    origin: &Origin,
    change: Change<'_>,
) -> Result<(), Reason> {
    if slot.line(change.sku).is_none() {
        if slot.lines.len() >= LINES_MAX {
            return Err(Reason::TooManyLines);
        }
        slot.lines.push(Line::new(change.sku.clone(), Source::Scan, false));
    }
    let total = totals.get_or_insert_with(change.sku, || Units::ZERO);
    let Some(line) = slot.lines.iter_mut().find(|line| line.sku == *change.sku) else {
        return Err(Reason::UnknownSku);
    };
    let after = line.quantity.checked_add(change.delta).filter(|q| q.0.abs() <= QUANTITY_UNITS_MAX);
    let (Some(after), Some(whole)) = (after, total.checked_add(change.delta)) else {
        return Err(Reason::Overflow);
    };
    *total = whole;
    line.quantity = after;
    line.certainty = change.confidence;
    line.fresh_at = origin.at;
    line.changed_at = origin.at;
    line.told_at = origin.at;
    // A first receipt establishes a line that nobody counted; a first withdrawal cannot.
    line.known |= after.0 > 0 || change.cause != Cause::Reading;
    let by_scale = change.cause == Cause::Weight;
    effects.levels.push((slot.spec.id.clone(), change.sku.clone()));
    effects.movements.push(Movement {
        ordinal: effects.next_ordinal(),
        slot: slot.spec.id.clone(),
        sku: change.sku.clone(),
        delta: change.delta,
        level_after: after,
        cause: change.cause,
        confidence: change.confidence,
        at: origin.at,
        device: origin.device.clone(),
        boot: origin.boot.clone(),
        seq: origin.seq,
        principal: origin.principal.clone(),
        evidence: change.evidence,
        why: change.why,
    });
    let witnessed = by_scale && witness::shown(slot, change.sku, change.delta);
    slot.remember(Past {
        sku: change.sku.clone(),
        delta: change.delta,
        at: origin.at,
        by_scale,
        witnessed,
    });
    if after.0 < 0 {
        discrepancy::open(
            slot,
            effects,
            (origin.offset, origin.at),
            Some(change.sku),
            Opened {
                kind: Kind::NegativeLevel,
                mass: None,
                units: Some(after),
                suspects: Vec::new(),
                advice: "More went out than was booked in. Count the slot.".into(),
            },
        );
    } else {
        discrepancy::close(slot, effects, origin.at, "level is no longer negative", |open| {
            open.kind == Kind::NegativeLevel && open.sku.as_ref() == Some(change.sku)
        });
    }
    Ok(())
}
