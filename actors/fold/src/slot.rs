//! A slot and its lines: what is where, how many, how sure.

use device_profiles::{Channel, DeviceId, Sku, Units};
use serde::{Deserialize, Serialize};

use crate::{
    discrepancy::Open,
    effects::Confidence,
    entry::{HubTime, SlotSpec, Source},
    limits::PAST_MOVEMENTS_MAX,
    table::Ring,
    witness::Expected,
};

/// A slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    pub spec: SlotSpec,
    pub lines: Vec<Line>,
    /// The load cell under it.
    pub cell: Option<(DeviceId, Channel)>,
    pub past: Ring<Past>,
    pub expected: Vec<Expected>,
    pub open: Vec<Open>,
}

/// One SKU in a slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub sku: Sku,
    pub source: Source,
    /// In the planogram; a line that exists only because goods turned up is not.
    pub planned: bool,
    pub quantity: Units,
    /// How sure the counting source is, before open discrepancies lower it.
    pub certainty: Confidence,
    /// A quantity was established: by count, by a cell with known zero, or by a first receipt.
    pub known: bool,
    /// Last time the counting source spoke.
    pub fresh_at: HubTime,
    /// Last time the quantity changed.
    pub changed_at: HubTime,
    /// Last time `fresh_at` was told.
    pub told_at: HubTime,
}

/// A movement remembered, for counts made in the past and for witnesses that come late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    pub sku: Sku,
    pub delta: Units,
    pub at: HubTime,
    /// A count settled the line here; deltas before it do not matter to a later count.
    pub by_scale: bool,
    /// A witness has claimed it.
    pub witnessed: bool,
}

/// A line's level as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// Where.
    pub slot: device_profiles::SlotId,
    /// What.
    pub sku: Sku,
    /// How many.
    pub quantity: Units,
    /// How sure; open discrepancies hold it at one half or less.
    pub confidence: Confidence,
    /// Who counts it.
    pub source: Source,
    /// It is in the planogram.
    pub planned: bool,
    /// Last time the counting source spoke.
    pub fresh_at: HubTime,
    /// Last time the quantity changed.
    pub changed_at: HubTime,
}

/// An open discrepancy holds a level's confidence at this or below.
const DISPUTED: Confidence = Confidence(5_000);
/// A line whose quantity nobody ever established.
const UNKNOWN: Confidence = Confidence(1_000);

impl Slot {
    pub fn new(spec: SlotSpec) -> Self {
        Self {
            spec,
            lines: Vec::new(),
            cell: None,
            past: Ring::default(),
            expected: Vec::new(),
            open: Vec::new(),
        }
    }

    pub fn line(&self, sku: &Sku) -> Option<&Line> {
        self.lines.iter().find(|line| line.sku == *sku)
    }

    pub fn line_mut(&mut self, sku: &Sku) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| line.sku == *sku)
    }

    /// Whether anything but past movements is about this SKU.
    pub fn names(&self, sku: &Sku) -> bool {
        self.line(sku).is_some()
            || self.expected.iter().any(|expected| expected.sku == *sku)
            || self.open.iter().any(|open| open.sku.as_ref() == Some(sku))
    }

    pub fn remember(&mut self, past: Past) {
        self.past.push(past, PAST_MOVEMENTS_MAX);
    }

    /// The level of a line.
    pub fn level(&self, sku: &Sku) -> Option<Level> {
        let line = self.line(sku)?;
        let disputed = self.open.iter().any(|open| open.concerns(sku));
        let mut confidence = line.certainty;
        if !line.known {
            confidence = confidence.min(UNKNOWN);
        }
        if disputed {
            confidence = confidence.min(DISPUTED);
        }
        Some(Level {
            slot: self.spec.id.clone(),
            sku: sku.clone(),
            quantity: line.quantity,
            confidence,
            source: line.source,
            planned: line.planned,
            fresh_at: line.fresh_at,
            changed_at: line.changed_at,
        })
    }
}

impl Line {
    pub fn new(sku: Sku, source: Source, planned: bool) -> Self {
        Self {
            sku,
            source,
            planned,
            quantity: Units::ZERO,
            certainty: Confidence::FULL,
            known: false,
            fresh_at: HubTime(0),
            changed_at: HubTime(0),
            told_at: HubTime(0),
        }
    }
}
