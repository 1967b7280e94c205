//! The goods themselves: every unit has a weight of its own and a slot it belongs to.
//!
//! [`Stock`] is where units lie; all movement goes through [`Stock::take`], [`Stock::fetch`] and [`Stock::put`], which
//! book the [`Truth`] in the same step, so the two cannot part.

use crate::clock::Micros;
use crate::random::Stream;
use crate::scenario::{Scenario, SkuSpec, Source};
use crate::truth::{Kind, Told, TrueLine, TrueMovement, Truth};
use std::sync::Arc;

/// One unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// Index of the slot it belongs to, which also says its SKU.
    pub home: usize,
    /// Its weight, mg.
    pub mg: f64,
}

/// A slot and what lies on it.
#[derive(Debug)]
pub struct Slot {
    /// Its line's SKU, an index into the scenario's.
    pub sku: usize,
    /// Barcode: the GTIN, or the SKU's id.
    pub code: Arc<str>,
    /// Units it holds.
    pub capacity: i64,
    units: Vec<Unit>,
    weights: Stream,
}

/// A visit to a slot, as the truth keeps it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Visit {
    /// When the hand reached in.
    pub from: Micros,
    /// When it left.
    pub at: Micros,
    /// The slot's index.
    pub slot: usize,
    /// Why.
    pub kind: Kind,
}

/// Where all goods are.
#[derive(Debug)]
pub struct Stock {
    skus: Vec<SkuSpec>,
    slots: Vec<Slot>,
    truth: Truth,
}

impl Stock {
    /// The stock a scenario begins with.
    pub fn new(scenario: &Scenario) -> Self {
        let plan = &scenario.planogram;
        let mut amounts = Stream::new(scenario.seed, "initial", 0);
        let (mut slots, mut truth) = (Vec::with_capacity(scenario.slots()), Truth::default());
        let first_scanned = scenario.facility.shelves.saturating_sub(plan.scan_shelves);
        let lines: std::collections::BTreeMap<&str, _> =
            scenario.line.iter().map(|l| (l.slot.as_str(), l)).collect();
        for index in 0..scenario.slots() {
            let (shelf, place) = (
                index / scenario.facility.slots_per_shelf,
                index % scenario.facility.slots_per_shelf,
            );
            let id = Scenario::slot_id(shelf, place);
            let line = lines.get(id.as_str());
            let by_rule = if shelf < first_scanned { Source::Weight } else { Source::Scan };
            let sku = line
                .and_then(|l| l.sku.as_ref())
                .and_then(|id| scenario.sku.iter().position(|s| s.id == *id))
                .unwrap_or(index % scenario.sku.len());
            let drawn = amounts.between(plan.initial_min, plan.initial_max);
            let initial = line.and_then(|l| l.initial).unwrap_or(drawn);
            let spec = &scenario.sku[sku];
            let mut slot = Slot {
                sku,
                code: spec.gtin.as_deref().unwrap_or(&spec.id).into(),
                capacity: line.and_then(|l| l.capacity).unwrap_or(plan.capacity),
                units: Vec::new(),
                weights: Stream::new(scenario.seed, "units", index as u64),
            };
            slot.units = (0..initial).map(|_| new_unit(&mut slot.weights, spec, index)).collect();
            slots.push(slot);
            truth.lines.push(TrueLine {
                slot: id.into(),
                sku: spec.id.as_str().into(),
                source: line.and_then(|l| l.source).unwrap_or(by_rule),
                initial,
                units: initial,
                foreign: 0,
            });
        }
        Self { skus: scenario.sku.clone(), slots, truth }
    }

    /// What really happened so far.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Remembers how movement `index` reached the hub.
    pub fn told(&mut self, index: usize, told: Told) {
        if let Some(movement) = self.truth.movements.get_mut(index) {
            movement.told = told;
        }
    }

    /// Slots in all.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Slot `slot`.
    pub fn slot(&self, slot: usize) -> &Slot {
        &self.slots[slot]
    }

    /// The line of slot `slot`.
    pub fn line(&self, slot: usize) -> &TrueLine {
        &self.truth.lines[slot]
    }

    /// The SKU that belongs to slot `slot`.
    pub fn sku(&self, slot: usize) -> &SkuSpec {
        &self.skus[self.slots[slot].sku]
    }

    /// Weight of everything on slot `slot`, mg.
    pub fn goods_mg(&self, slot: usize) -> f64 {
        self.slots[slot].units.iter().map(|u| u.mg).sum()
    }

    /// Units that still fit on slot `slot`.
    pub fn free(&self, slot: usize) -> i64 {
        (self.slots[slot].capacity - self.slots[slot].units.len() as i64).max(0)
    }

    /// `count` new units for slot `slot`, from outside.
    pub fn supply(&mut self, slot: usize, count: i64) -> Vec<Unit> {
        let Self { skus, slots, .. } = self;
        let spec = &skus[slots[slot].sku];
        (0..count).map(|_| new_unit(&mut slots[slot].weights, spec, slot)).collect()
    }

    /// Takes up to `count` units of the slot's own SKU; the movement's index when there was one.
    pub fn take(&mut self, visit: Visit, count: i64) -> (Vec<Unit>, Option<usize>) {
        let mut taken = Vec::new();
        let mine = self.slots[visit.slot].sku;
        while (taken.len() as i64) < count {
            let slot = &self.slots[visit.slot];
            let Some(i) = slot.units.iter().rposition(|u| self.slots[u.home].sku == mine) else {
                break;
            };
            taken.push(self.slots[visit.slot].units.remove(i));
        }
        let index = (!taken.is_empty()).then(|| {
            let sku = Arc::clone(&self.truth.lines[visit.slot].sku);
            self.book(visit, sku, false, -(taken.len() as i64))
        });
        (taken, index)
    }

    /// Takes one unit that does not belong on the slot, if there is one.
    pub fn fetch(&mut self, visit: Visit) -> Option<Unit> {
        let mine = self.slots[visit.slot].sku;
        let i = self.slots[visit.slot].units.iter().position(|u| self.slots[u.home].sku != mine)?;
        let unit = self.slots[visit.slot].units.remove(i);
        let sku = Arc::clone(&self.truth.lines[unit.home].sku);
        self.book(visit, sku, true, -1);
        Some(unit)
    }

    /// Puts units, all of one SKU, on the slot; the movement's index when it is not foreign there.
    pub fn put(&mut self, visit: Visit, units: &[Unit]) -> Option<usize> {
        let first = units.first()?;
        let foreign = self.slots[first.home].sku != self.slots[visit.slot].sku;
        let sku = Arc::clone(&self.truth.lines[first.home].sku);
        self.slots[visit.slot].units.extend_from_slice(units);
        let index = self.book(visit, sku, foreign, units.len() as i64);
        (!foreign).then_some(index)
    }

    fn book(&mut self, visit: Visit, sku: Arc<str>, foreign: bool, delta: i64) -> usize {
        let told = match self.truth.lines[visit.slot].source {
            Source::Weight => Told::Weighed,
            Source::Scan => Told::Never,
        };
        let Visit { from, at, slot: line, kind } = visit;
        self.truth.book(TrueMovement { from, at, line, sku, foreign, delta, kind, told })
    }
}

fn new_unit(weights: &mut Stream, spec: &SkuSpec, home: usize) -> Unit {
    let mean = spec.unit_weight_mg as f64;
    let mg = mean + weights.normal(spec.unit_sigma_mg as f64);
    Unit { home, mg: mg.clamp(mean * 0.5, mean * 1.5) }
}
