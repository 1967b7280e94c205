//! Discrepancies: evidence that does not fit, opened instead of guessed away.
//!
//! A slot holds at most one open discrepancy of a kind and SKU. Each names what was seen and what to do, lowers the
//! confidence of the lines it concerns, and closes when later evidence fits again or a person counts.

use device_profiles::{Milligrams, Sku, Units};
use serde::{Deserialize, Serialize};

use crate::{
    effects::{Effects, Event, EventKind},
    entry::HubTime,
    limits::DISCREPANCIES_MAX,
    slot::Slot,
};

/// What does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The scale shows a mass that is no whole number of units: something foreign, or a wrong unit weight.
    UnexplainedMass,
    /// The scale shows a change that could be one of two counts.
    AmbiguousCount,
    /// More went out than was there.
    NegativeLevel,
    /// A person or device announced a change that the counting source never showed.
    Unconfirmed,
    /// The cell drifted further than drift explains.
    Drift,
    /// The device says that the cell is broken, overloaded or not ready: its mass is worth nothing.
    CellFault,
    /// The line is counted by weight but its SKU has no unit weight.
    NoUnitWeight,
    /// The cell shows a mass, but nobody said what it shows when empty, or how many are there.
    NoReference,
}

impl Kind {
    /// Its name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnexplainedMass => "unexplained_mass",
            Self::AmbiguousCount => "ambiguous_count",
            Self::NegativeLevel => "negative_level",
            Self::Unconfirmed => "unconfirmed",
            Self::Drift => "drift",
            Self::CellFault => "cell_fault",
            Self::NoUnitWeight => "no_unit_weight",
            Self::NoReference => "no_reference",
        }
    }
}

/// An open discrepancy, as the slot remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// What does not fit.
    pub kind: Kind,
    /// The line in doubt; every line of the slot when `None`.
    pub sku: Option<Sku>,
    /// Names it: offset and ordinal of the event that opened it.
    pub id: (u64, u16),
    /// When.
    pub opened_at: HubTime,
}

impl Open {
    /// Whether it casts doubt on a line of this SKU.
    pub fn concerns(&self, sku: &Sku) -> bool {
        self.sku.as_ref().is_none_or(|own| own == sku)
    }
}

/// A discrepancy was opened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Opened {
    /// What does not fit.
    pub kind: Kind,
    /// Mass nobody can explain.
    pub mass: Option<Milligrams>,
    /// Units in question.
    pub units: Option<Units>,
    /// SKUs whose unit weight would explain the mass, best first.
    pub suspects: Vec<Sku>,
    /// What was seen and what to do, for people.
    pub advice: String,
}

/// A discrepancy was closed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Closed {
    /// What did not fit.
    pub kind: Kind,
    /// Offset of the entry that opened it.
    pub offset: u64,
    /// Its ordinal there.
    pub ordinal: u16,
    /// What settled it.
    pub by: String,
}

/// Opens a discrepancy unless the same one is open; tells it.
pub(crate) fn open(
    slot: &mut Slot,
    effects: &mut Effects,
    (offset, at): (u64, HubTime),
    sku: Option<&Sku>,
    opened: Opened,
) {
    let kind = opened.kind;
    let there = slot.open.iter().any(|open| open.kind == kind && open.sku.as_ref() == sku);
    if there || slot.open.len() >= DISCREPANCIES_MAX {
        return;
    }
    let ordinal = effects.next_ordinal();
    slot.open.push(Open { kind, sku: sku.cloned(), id: (offset, ordinal), opened_at: at });
    touch(slot, effects, sku);
    effects.events.push(Event {
        ordinal,
        kind: EventKind::DiscrepancyOpened(opened),
        at,
        device: None,
        slot: Some(slot.spec.id.clone()),
        sku: sku.cloned(),
    });
}

/// Closes every open discrepancy that `fits` names; tells each.
pub(crate) fn close(
    slot: &mut Slot,
    effects: &mut Effects,
    at: HubTime,
    by: &str,
    fits: impl Fn(&Open) -> bool,
) {
    while let Some(index) = slot.open.iter().position(&fits) {
        let open = slot.open.remove(index);
        touch(slot, effects, open.sku.as_ref());
        effects.events.push(Event {
            ordinal: effects.next_ordinal(),
            kind: EventKind::DiscrepancyClosed(Closed {
                kind: open.kind,
                offset: open.id.0,
                ordinal: open.id.1,
                by: by.to_owned(),
            }),
            at,
            device: None,
            slot: Some(slot.spec.id.clone()),
            sku: open.sku,
        });
    }
}

/// The level rows whose confidence the discrepancy changes.
fn touch(slot: &Slot, effects: &mut Effects, sku: Option<&Sku>) {
    for line in &slot.lines {
        if sku.is_none_or(|own| *own == line.sku) {
            effects.levels.push((slot.spec.id.clone(), line.sku.clone()));
        }
    }
}
