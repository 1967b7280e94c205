//! Weight to units: a load cell, its calibration, and the slot it carries.
//!
//! [`plateau`] finds when the cell holds still and [`tracker`] decides what the mass means; this module joins them to the
//! slot: it applies the calibration, books what the tracker decided, opens a discrepancy where it is unsure, and takes the
//! word of a person (count, tare) as the truth about that moment.

mod cell;
pub mod plateau;
pub mod tracker;

pub use cell::Cell;
pub(crate) use cell::{Lookup, Shown, counted, observe, respecify_lines, settle_rule, tare, tick};
