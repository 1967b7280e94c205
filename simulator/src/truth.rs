//! The truth: what really lies where, and everything that happened.
//!
//! A line is a slot and the SKU that belongs there. `units` counts that SKU only; goods of another SKU on the slot are
//! `foreign`. Every unit that enters or leaves a slot is one [`TrueMovement`], so
//! `initial + Σ delta = units` holds for each line at any moment.

use crate::clock::Micros;
use crate::scenario::Source;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Why goods moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Taken away.
    Pick,
    /// Returned to the slot it came from.
    PutBack,
    /// Filled up.
    Restock,
    /// Carried to a slot of another SKU: a movement at each of the two slots.
    Misplace,
    /// Brought home again: a movement at each of the two slots.
    Tidy,
}

/// How the hub could learn of a movement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The cell under the slot shows it.
    Weighed,
    /// A device reported it in this frame.
    Sent {
        /// Device id.
        device: Arc<str>,
        /// Boot id.
        boot: Option<Arc<str>>,
        /// Number in this boot.
        seq: u64,
    },
    /// A device was told, and lost the frame before it was sent.
    LostAtSource,
    /// Nobody scanned it.
    Never,
}

/// Goods entered or left a slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrueMovement {
    /// When the hand reached in.
    pub from: Micros,
    /// When it left; the goods have moved.
    pub at: Micros,
    /// Index of the slot's line.
    pub line: usize,
    /// Id of what moved.
    pub sku: Arc<str>,
    /// It belongs to another slot.
    pub foreign: bool,
    /// Units; negative = left the slot.
    pub delta: i64,
    /// Why.
    pub kind: Kind,
    /// How the hub could learn of it.
    pub told: Told,
}

/// A slot and its SKU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrueLine {
    /// Slot id.
    pub slot: Arc<str>,
    /// SKU id.
    pub sku: Arc<str>,
    /// How the hub counts it.
    pub source: Source,
    /// Units at the beginning.
    pub initial: i64,
    /// Units now.
    pub units: i64,
    /// Units of other SKUs here now.
    pub foreign: i64,
}

/// What really happened.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Truth {
    /// One for each slot.
    pub lines: Vec<TrueLine>,
    /// In order of [`TrueMovement::at`].
    pub movements: Vec<TrueMovement>,
}

impl Truth {
    /// Books a movement and returns its index.
    pub(crate) fn book(&mut self, movement: TrueMovement) -> usize {
        if let Some(line) = self.lines.get_mut(movement.line) {
            let quantity = if movement.foreign { &mut line.foreign } else { &mut line.units };
            *quantity += movement.delta;
        }
        self.movements.push(movement);
        self.movements.len() - 1
    }

    /// Units of line `line` that a perfect hub would know: the truth without what nobody could tell it.
    #[must_use]
    pub fn knowable(&self, line: usize) -> i64 {
        let untold: i64 = self
            .movements
            .iter()
            .filter(|m| m.line == line && !m.foreign && m.is_untold())
            .map(|m| m.delta)
            .sum();
        self.lines.get(line).map_or(0, |l| l.units) - untold
    }
}

impl TrueMovement {
    /// The hub had no way to learn of it.
    #[must_use]
    pub fn is_untold(&self) -> bool {
        matches!(self.told, Told::LostAtSource | Told::Never)
    }
}
