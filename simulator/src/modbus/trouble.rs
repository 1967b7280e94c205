//! Troubles: what befalls a bus or one of its units for a while, at a given time or again and again.
//!
//! ```text
//!  power   ── off: silence, a whole bus also drops its connections ──► starting: zero, not stable ──► on, counters from 0
//!  stuck   ── registers stand still, heartbeat and all, and are answered as ever ──► they move again
//! ```
//! Pure: a list of specs and a seed give a sequence of [`TimedChange`]s.

use crate::clock::{Micros, micros};
use crate::random::Stream;
use serde::Deserialize;

/// What befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TroubleKind {
    /// A power cycle.
    Power,
    /// Registers that stand still.
    Stuck,
}

/// A trouble of a bus.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TroubleSpec {
    /// What it is.
    pub kind: TroubleKind,
    /// The unit; the whole bus, its connections too, when absent.
    pub unit: Option<u8>,
    /// When it begins, once, s.
    pub at_s: Option<f64>,
    /// How often it begins, on the average, instead of `at_s`.
    #[serde(default)]
    pub per_hour: f64,
    /// How long it lasts, s.
    pub for_s: f64,
    /// After a power cycle: how long the unit is starting up, s.
    #[serde(default)]
    pub start_s: f64,
}

/// What changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The power goes.
    Off,
    /// The power is back; it shows zero and is not stable.
    Starting,
    /// It measures.
    On,
    /// Its registers stand still from now on.
    Stuck,
    /// They move again.
    Loose,
}

/// A change and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedChange {
    /// When, virtual.
    pub at: Micros,
    /// Which unit; all when absent.
    pub unit: Option<u8>,
    /// What.
    pub change: Change,
}

/// The troubles of a bus in the order of time.
#[derive(Debug)]
pub struct Troubles {
    specs: Vec<(TroubleSpec, Stream, Option<Micros>)>,
    /// Changes of troubles that have begun.
    under_way: Vec<TimedChange>,
}

impl Troubles {
    /// The troubles of bus number `bus`.
    #[must_use]
    pub fn new(specs: &[TroubleSpec], seed: u64, bus: u64) -> Self {
        let first = |(number, spec): (usize, &TroubleSpec)| {
            let mut dice = Stream::new(seed, "modbus trouble", bus << 32 | number as u64);
            let at = spec.at_s.map(micros).or_else(|| dice.wait_us(spec.per_hour));
            (*spec, dice, at)
        };
        let specs = specs.iter().enumerate().map(first).collect();
        Self { specs, under_way: Vec::new() }
    }

    /// What changes until `end` and was not told yet.
    pub fn until(&mut self, end: Micros) -> Vec<TimedChange> {
        for (spec, dice, next) in &mut self.specs {
            while let Some(at) = next.filter(|at| *at <= end) {
                let over = at + micros(spec.for_s);
                let well = over + micros(spec.start_s);
                let changes = match spec.kind {
                    TroubleKind::Power => {
                        vec![(at, Change::Off), (over, Change::Starting), (well, Change::On)]
                    }
                    TroubleKind::Stuck => vec![(at, Change::Stuck), (over, Change::Loose)],
                };
                let unit = spec.unit;
                self.under_way.extend(changes.into_iter().map(|(at, change)| TimedChange {
                    at,
                    unit,
                    change,
                }));
                *next = dice.wait_us(spec.per_hour).map(|wait| well + wait);
            }
        }
        self.under_way.sort_by_key(|change| change.at);
        let told = self.under_way.partition_point(|change| change.at <= end);
        self.under_way.drain(..told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND_US;

    #[test]
    fn a_power_cycle_has_its_phases_and_comes_once() {
        let spec = TroubleSpec {
            kind: TroubleKind::Power,
            unit: Some(2),
            at_s: Some(5.0),
            per_hour: 0.0,
            for_s: 3.0,
            start_s: 1.5,
        };
        let mut troubles = Troubles::new(&[spec], 1, 0);
        assert!(troubles.until(4 * SECOND_US).is_empty());
        let change = |at, change| TimedChange { at, unit: Some(2), change };
        assert_eq!(
            troubles.until(8 * SECOND_US),
            [change(5 * SECOND_US, Change::Off), change(8 * SECOND_US, Change::Starting)]
        );
        assert_eq!(troubles.until(3_600 * SECOND_US), [change(9_500_000, Change::On)]);
    }

    #[test]
    fn what_comes_by_rate_comes_as_often_and_never_overlaps_itself() {
        let spec = TroubleSpec {
            kind: TroubleKind::Stuck,
            unit: None,
            at_s: None,
            per_hour: 60.0,
            for_s: 20.0,
            start_s: 0.0,
        };
        let mut troubles = Troubles::new(&[spec], 9, 3);
        let mut changes = Vec::new();
        for second in 0..36_000 {
            changes.extend(troubles.until(second * SECOND_US));
        }
        // A minute of waiting and 20 s of being stuck, on the average, in ten hours.
        assert!((700..1_100).contains(&changes.len()), "{}", changes.len());
        assert!(changes.windows(2).all(|pair| pair[0].change != pair[1].change));
        assert!(changes.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }
}
