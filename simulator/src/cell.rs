//! The physics of one load cell and its transmitter.
//!
//! ```text
//!  shown = quantise( load + repositioning + drift + temperature + creep + settling·ringing + hand + spike + noise )
//! ```
//! A change of load settles exponentially (`settle_tau_s`), a share of it ringing; the material then creeps towards
//! `creep_fraction` of the load; the zero drifts linearly and follows the air. Each new plateau has a repositioning
//! error of its own: goods never lie twice in the same place. With `event_sigma_ratio` r that error is chosen so that
//! an event of n units has σ_Δ = r·w in all: σ_plateau² = ((r·w)² − n·σ_w²) / 2, since both plateaus err.

use crate::clock::{DAY_US, Micros, micros};
use crate::random::Stream;
use crate::scenario::{CellSpec, Report};
use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::sync::Arc;

/// After this many time constants a step has settled to better than 10⁻⁵.
const SETTLED_TAUS: f64 = 12.0;

/// What happens to a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// A hand reaches in.
    Hand,
    /// A hand leaves; the goods now weigh `goods_mg`, after `units` of them moved (0 = nothing did).
    Rest {
        /// All goods on the slot, mg.
        goods_mg: f64,
        /// Units that moved.
        units: i64,
    },
}

/// What a transmitter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Indicated gross weight, mg.
    pub mg: i64,
    /// Stable bit.
    pub stable: Option<bool>,
}

/// A cell carrying one slot.
#[derive(Debug)]
pub struct Cell {
    spec: Arc<CellSpec>,
    noise: Stream,
    unit_mg: f64,
    unit_sigma_mg: f64,
    /// Goods and dead load, mg.
    load_mg: f64,
    plateau_mg: f64,
    drift_mg_per_day: f64,
    hands: u32,
    changed_at: Micros,
    /// Value before the last change minus the value after it, mg.
    step_mg: f64,
    /// Creep at the last change, mg.
    creep_from_mg: f64,
    settled_at: Micros,
    window: VecDeque<i64>,
    window_samples: usize,
    band_mg: i64,
    reported: Option<(Micros, Shown)>,
}

impl Cell {
    /// Cell number `index`, with `goods_mg` of goods whose units weigh `unit_mg` ± `unit_sigma_mg`.
    pub fn new(
        seed: u64,
        index: usize,
        spec: Arc<CellSpec>,
        unit_mg: f64,
        unit_sigma_mg: f64,
        goods_mg: f64,
    ) -> Self {
        let mut noise = Stream::new(seed, "cell", index as u64);
        let load_mg = zero_mg(&spec) as f64 + goods_mg;
        let plateau_mg = noise.normal(plateau_sigma(&spec, unit_mg, unit_sigma_mg, 0));
        let sign = if index.is_multiple_of(2) { 1.0 } else { -1.0 };
        let band = spec.stable_band_mg.max(5.0 * spec.noise_mg).max(2.0 * spec.division_mg as f64);
        Self {
            load_mg,
            plateau_mg,
            drift_mg_per_day: sign * spec.creep_mg_per_day,
            hands: 0,
            changed_at: 0,
            step_mg: 0.0,
            creep_from_mg: spec.creep_fraction * load_mg,
            settled_at: 0,
            window: VecDeque::new(),
            window_samples: ((spec.rate_hz * spec.stable_window_s).round() as usize).max(2),
            band_mg: band as i64,
            reported: None,
            spec,
            noise,
            unit_mg,
            unit_sigma_mg,
        }
    }

    /// Applies a change at `at`.
    pub fn change(&mut self, at: Micros, change: Change) {
        match change {
            Change::Hand => self.hands += 1,
            Change::Rest { goods_mg, units } => {
                self.hands = self.hands.saturating_sub(1);
                if units == 0 {
                    return;
                }
                let before = self.load_mg + self.plateau_mg;
                self.creep_from_mg = self.creep(at);
                self.load_mg = zero_mg(&self.spec) as f64 + goods_mg;
                let sigma = plateau_sigma(&self.spec, self.unit_mg, self.unit_sigma_mg, units);
                self.plateau_mg = self.noise.normal(sigma);
                self.step_mg = before - (self.load_mg + self.plateau_mg);
                self.changed_at = at;
                self.settled_at = at + micros(self.spec.settle_tau_s * SETTLED_TAUS);
            }
        }
    }

    /// Takes a sample at `at`, with the air `warmer_c` °C above the calibration; what the transmitter sends, if anything.
    pub fn sample(&mut self, at: Micros, warmer_c: f64) -> Option<Shown> {
        let spec = &self.spec;
        let mut mg = self.load_mg + self.plateau_mg + self.creep(at);
        mg += self.drift_mg_per_day * (at as f64 / DAY_US as f64);
        mg += spec.temperature_mg_per_c * warmer_c;
        if at < self.settled_at {
            let dt = (at - self.changed_at) as f64 / 1e6;
            let ring = spec.ring_fraction;
            let swing = (1.0 - ring) + ring * (TAU * spec.ring_hz * dt).cos();
            mg += self.step_mg * (-dt / spec.settle_tau_s).exp() * swing;
        }
        if self.hands > 0 {
            mg += self.noise.normal(spec.hand_force_mg);
        }
        if self.noise.chance(spec.spike_rate) {
            mg += if self.noise.chance(0.5) { spec.spike_mg } else { -spec.spike_mg };
        }
        mg += self.noise.normal(spec.noise_mg);
        let division = spec.division_mg;
        let shown_mg = (mg / division as f64).round() as i64 * division;
        let shown = Shown { mg: shown_mg, stable: self.stable(shown_mg) };
        self.is_reported(at, shown).then(|| {
            self.reported = Some((at, shown));
            shown
        })
    }

    fn creep(&self, at: Micros) -> f64 {
        let spec = &self.spec;
        if spec.creep_fraction == 0.0 {
            return 0.0;
        }
        let end = spec.creep_fraction * self.load_mg;
        let dt = (at - self.changed_at) as f64 / 1e6;
        end + (self.creep_from_mg - end) * (-dt / spec.creep_tau_s).exp()
    }

    fn stable(&mut self, mg: i64) -> Option<bool> {
        if !self.spec.stable_bit {
            return None;
        }
        if self.window.len() == self.window_samples {
            self.window.pop_front();
        }
        self.window.push_back(mg);
        let (lo, hi) = self.window.iter().fold((mg, mg), |(lo, hi), x| (lo.min(*x), hi.max(*x)));
        Some(self.window.len() == self.window_samples && hi - lo <= self.band_mg)
    }

    fn is_reported(&self, at: Micros, shown: Shown) -> bool {
        let Some((last_at, last)) = self.reported else { return true };
        match self.spec.report {
            Report::Every => true,
            Report::Change => {
                (shown.mg - last.mg).abs() >= self.spec.change_divisions * self.spec.division_mg
                    || shown.stable != last.stable
                    || at - last_at >= micros(self.spec.heartbeat_s)
            }
        }
    }
}

/// Zero of a cell, mg: its dead load as the cell shows it.
#[must_use]
pub fn zero_mg(spec: &CellSpec) -> i64 {
    let division = spec.division_mg.max(1);
    (spec.dead_load_mg + division / 2) / division * division
}

/// Repositioning error of a plateau after `units` moved, standard deviation, mg.
#[must_use]
pub fn plateau_sigma(spec: &CellSpec, unit_mg: f64, unit_sigma_mg: f64, units: i64) -> f64 {
    let Some(ratio) = spec.event_sigma_ratio else { return spec.plateau_noise_mg };
    let event = (ratio * unit_mg).powi(2) - units.abs() as f64 * unit_sigma_mg.powi(2);
    (event.max(0.0) / 2.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(spec: CellSpec) -> Cell {
        Cell::new(1, 0, Arc::new(spec), 350_000.0, 0.0, 3_500_000.0)
    }

    fn quiet() -> CellSpec {
        CellSpec { noise_mg: 0.0, ..CellSpec::default() }
    }

    #[test]
    fn shows_dead_load_and_goods_in_divisions() {
        let mut c = cell(CellSpec { dead_load_mg: 1_200_400, ..quiet() });
        assert_eq!(c.sample(0, 0.0).unwrap().mg, 4_700_000);
        let mut noisy = cell(CellSpec { noise_mg: 900.0, ..CellSpec::default() });
        assert!((0..100).all(|i| noisy.sample(i * 100_000, 0.0).unwrap().mg % 1_000 == 0));
    }

    #[test]
    fn a_pick_is_a_hand_then_a_settling_step_then_stable() {
        let mut c = cell(quiet());
        let mut at = 0;
        let mut next = |c: &mut Cell| {
            at += 100_000;
            (at, c.sample(at, 0.0).unwrap())
        };
        for _ in 0..4 {
            assert_eq!(next(&mut c).1.stable, Some(false));
        }
        let (t, s) = next(&mut c);
        assert_eq!(s, Shown { mg: 4_700_000, stable: Some(true) });
        c.change(t, Change::Hand);
        let hand: Vec<_> = (0..5).map(|_| next(&mut c).1).collect();
        assert!(hand.iter().all(|s| s.stable == Some(false) && s.mg != 4_700_000));
        let (t, _) = next(&mut c);
        c.change(t, Change::Rest { goods_mg: 3_150_000.0, units: 1 });
        let (_, s) = next(&mut c);
        assert!((4_400_000..4_700_000).contains(&s.mg), "{s:?}");
        for _ in 0..30 {
            next(&mut c);
        }
        assert_eq!(next(&mut c).1, Shown { mg: 4_350_000, stable: Some(true) });
    }

    #[test]
    fn event_noise_has_the_asked_ratio() {
        let spec = CellSpec { event_sigma_ratio: Some(0.15), division_mg: 1, ..quiet() };
        let (mut c, mut last, mut sum) = (cell(spec), None, 0.0);
        let n = 4_000;
        for i in 0..n {
            let at = i * 100_000_000;
            c.change(at, Change::Rest { goods_mg: 3_500_000.0, units: 1 });
            let mg = c.sample(at + 50_000_000, 0.0).unwrap().mg;
            let delta = last.map_or(0, |l| mg - l) as f64;
            last = Some(mg);
            sum += delta * delta;
        }
        let ratio = (sum / n as f64).sqrt() / 350_000.0;
        assert!((0.145..0.155).contains(&ratio), "{ratio}");
    }

    #[test]
    fn drift_temperature_and_creep_move_the_zero_slowly() {
        let spec = CellSpec {
            creep_mg_per_day: 20_000.0,
            temperature_mg_per_c: 100.0,
            creep_fraction: 0.001,
            ..quiet()
        };
        let mut c = cell(spec);
        let start = c.sample(0, 0.0).unwrap().mg;
        assert_eq!(start, 4_705_000);
        assert_eq!(c.sample(DAY_US, 10.0).unwrap().mg, start + 21_000);
        c.change(DAY_US, Change::Rest { goods_mg: 0.0, units: 10 });
        let soon = c.sample(DAY_US + 5_000_000, 0.0).unwrap().mg;
        let late = c.sample(DAY_US + 3_600_000_000, 0.0).unwrap().mg;
        assert_eq!((soon, late), (1_225_000, 1_222_000));
    }

    #[test]
    fn reports_on_change_and_heartbeat() {
        let spec = CellSpec { report: Report::Change, ..quiet() };
        let mut c = cell(spec);
        let sent = (0..1_000).filter(|i| c.sample(i * 100_000, 0.0).is_some()).count();
        // First sample, stable bit, and a heartbeat every 30 s of the 100 s.
        assert_eq!(sent, 5);
    }
}
