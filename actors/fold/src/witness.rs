//! Witnesses: sources that do not count a line but know something about it.
//!
//! When a person says "I took two" of a line that a scale counts, the scale books the movement and the person confirms it.
//! The announcement waits [`WITNESS_US`] for the scale, or claims a movement of the scale as far back. What the scale never
//! shows becomes a discrepancy; a witness never changes a quantity.

use device_profiles::{Sku, Units};
use serde::{Deserialize, Serialize};

use crate::{
    discrepancy::{self, Kind, Opened},
    effects::Effects,
    entry::HubTime,
    limits::{EXPECTED_MAX, WITNESS_US},
    slot::Slot,
};

/// A change a witness announced that the counting source has not yet shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    pub sku: Sku,
    /// What is still to be shown.
    pub delta: Units,
    pub until: HubTime,
    pub offset: u64,
}

/// A witness announces a change. Returns when to look again, if something is left to wait for.
pub(crate) fn announce(
    slot: &mut Slot,
    sku: &Sku,
    delta: Units,
    at: HubTime,
    offset: u64,
) -> Option<HubTime> {
    let mut left = delta.0;
    for past in slot.past.newest_mut() {
        if at.since_us(past.at) > WITNESS_US || left == 0 {
            break;
        }
        let fits = past.by_scale && !past.witnessed && past.sku == *sku;
        if fits && past.delta.0.signum() == left.signum() && past.delta.0.abs() <= left.abs() {
            past.witnessed = true;
            left -= past.delta.0;
        }
    }
    if left == 0 || slot.expected.len() >= EXPECTED_MAX {
        return None;
    }
    let until = at.plus_us(WITNESS_US);
    slot.expected.push(Expected { sku: sku.clone(), delta: Units(left), until, offset });
    Some(until)
}

/// The counting source showed a change. True when a witness had announced it.
pub(crate) fn shown(slot: &mut Slot, sku: &Sku, delta: Units) -> bool {
    let fits = |e: &Expected| {
        e.sku == *sku && e.delta.0.signum() == delta.0.signum() && delta.0.abs() <= e.delta.0.abs()
    };
    let Some(at) = slot.expected.iter().position(fits) else { return false };
    slot.expected[at].delta.0 -= delta.0;
    if slot.expected[at].delta == Units::ZERO {
        slot.expected.remove(at);
    }
    true
}

/// Announcements whose time ran out become discrepancies. Returns when to look again.
pub(crate) fn expire(
    slot: &mut Slot,
    effects: &mut Effects,
    now: HubTime,
    offset: u64,
) -> Option<HubTime> {
    while let Some(index) = slot.expected.iter().position(|e| e.until <= now) {
        let late = slot.expected.remove(index);
        discrepancy::open(
            slot,
            effects,
            (offset, now),
            Some(&late.sku),
            Opened {
                kind: Kind::Unconfirmed,
                mass: None,
                units: Some(late.delta),
                suspects: Vec::new(),
                advice: format!(
                    "A change of {} was announced but the counting source did not show it. Count the slot.",
                    late.delta
                ),
            },
        );
    }
    slot.expected.iter().map(|e| e.until).min()
}
