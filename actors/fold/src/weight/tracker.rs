//! How many units lie on a cell: a small mixture of hypotheses, each a count with its own estimate of what else weighs.
//!
//! Reading a difference alone forgets what the scale knew before, so single mistakes stay for ever; reading the total alone
//! mistakes drift and heavy packs for units. The tracker keeps both in one model. A hypothesis holds the counts of the slot's
//! lines and a normal estimate `bias ~ N(mean, variance)` of everything that is not `count × unit weight`: zero error, drift,
//! the deviations of the very packs that lie there, container. A settled mass `z` is read as
//!
//! ```text
//!   z = Σ countⱼ·wⱼ + foreign + bias + e          e ~ N(0, noise²)
//!   an event of nⱼ units:  bias' ~ N(mean, variance + Σ|nⱼ|·σⱼ²)
//! ```
//!
//! Each new plateau spawns for each hypothesis the events that could explain it, scores them by likelihood and a mild prior
//! (few units are likelier than many, one SKU than two), updates the bias (a scalar Kalman step) and keeps the best
//! [`HYPOTHESES_MAX`]. The posterior of the winning counts is the confidence. If a later plateau turns the verdict, the
//! difference is a correction. When nothing explains a plateau within [`FOREIGN_SIGMAS`], the mass is foreign: it is set
//! aside, told, and recognised when it leaves.
//!
//! Only + − × ÷, exact square root and `libm` are used: the same bits on every platform.

use serde::{Deserialize, Serialize};

use crate::limits::{EVENT_UNITS_MAX, HYPOTHESES_MAX};

/// A plateau further than this from every explanation is foreign, in standard deviations.
pub const FOREIGN_SIGMAS: f64 = 4.5;
/// Hypotheses below this share of the best are dropped.
const SHARE_MIN: f64 = 1e-7;

/// Mass of one unit of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// Milligrams.
    pub mass: f64,
    /// Standard deviation, milligrams.
    pub sigma: f64,
}

/// The mixture of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tracker {
    hypotheses: Vec<Hypothesis>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Hypothesis {
    counts: Vec<i64>,
    foreign: f64,
    mean: f64,
    variance: f64,
    /// Share of the whole, 0 to 1.
    share: f64,
}

/// What a plateau means.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Counts now.
    pub counts: Vec<i64>,
    /// What this plateau changed.
    pub event: Vec<i64>,
    /// Probability of `counts`.
    pub posterior: f64,
    /// Next best counts.
    pub runner_up: Option<(Vec<i64>, f64)>,
    /// What the best explanation leaves over, milligrams.
    pub residual: f64,
    /// Standard deviation it was judged by, milligrams.
    pub sigma: f64,
    /// Foreign mass that came with this plateau, milligrams.
    pub foreign_came: Option<f64>,
    /// Foreign mass on the cell now, milligrams.
    pub foreign: f64,
}

/// A candidate while a plateau is judged.
struct Scored {
    hypothesis: Hypothesis,
    log: f64,
    event: Vec<i64>,
    residual: f64,
    spread: f64,
}

impl Tracker {
    /// Counts are known and the cell shows `z`.
    pub fn from_counts(counts: Vec<i64>, z: f64, noise: f64, units: &[Unit]) -> Self {
        let mean = z - mass(&counts, units);
        Self {
            hypotheses: vec![Hypothesis {
                counts,
                foreign: 0.0,
                mean,
                variance: noise * noise,
                share: 1.0,
            }],
        }
    }

    /// Nothing but the mass of a single line above a known zero is known.
    pub fn from_mass(z: f64, variance: f64, noise: f64, unit: Unit) -> (Self, f64) {
        let nearest = (z / unit.mass).round().max(0.0);
        let mut scored = Vec::new();
        for step in -2i32..=2 {
            let n = nearest + f64::from(step);
            if !(0.0..=1e9).contains(&n) {
                continue;
            }
            let prior = 4.0 * noise * noise + n * unit.sigma * unit.sigma;
            let read = noise * noise + variance;
            let residual = z - n * unit.mass;
            let spread = prior + read;
            let gain = prior / spread;
            scored.push(Scored {
                hypothesis: Hypothesis {
                    counts: vec![n as i64],
                    foreign: 0.0,
                    mean: gain * residual,
                    variance: (1.0 - gain) * prior,
                    share: 0.0,
                },
                log: log_likelihood(residual, spread),
                event: vec![n as i64],
                residual,
                spread,
            });
        }
        let kept = keep_best(scored);
        let best = kept.first().map_or(0.0, |s| s.hypothesis.share);
        (Self { hypotheses: kept.into_iter().map(|s| s.hypothesis).collect() }, best)
    }

    /// The reference of the settled cell moved: drift, which is bias under every hypothesis.
    pub fn drift(&mut self, by: f64) {
        for hypothesis in &mut self.hypotheses {
            hypothesis.mean += by;
        }
    }

    /// Best counts.
    pub fn counts(&self) -> &[i64] {
        self.hypotheses.first().map_or(&[], |h| h.counts.as_slice())
    }

    /// Foreign mass on the cell under the best hypothesis, milligrams.
    pub fn foreign(&self) -> f64 {
        self.hypotheses.first().map_or(0.0, |h| h.foreign)
    }

    /// Judges a plateau of mean `z` with variance `variance`; `unseen` is the variance that drift may have added meanwhile.
    pub fn judge(
        &mut self,
        z: f64,
        variance: f64,
        noise: f64,
        unseen: f64,
        units: &[Unit],
    ) -> Decision {
        let read = noise * noise + variance;
        let mut scored = Vec::with_capacity(self.hypotheses.len() * 6);
        let mut nearest = f64::MAX;
        for hypothesis in &self.hypotheses {
            let base = mass(&hypothesis.counts, units) + hypothesis.foreign + hypothesis.mean;
            let away = z - base;
            let mut consider = |event: Vec<i64>, prior: f64, leaves: bool| {
                let change = if leaves { -hypothesis.foreign } else { mass(&event, units) };
                let moved =
                    event.iter().zip(units).map(|(n, u)| n.abs() as f64 * u.sigma * u.sigma);
                let before = hypothesis.variance + unseen + moved.sum::<f64>();
                let spread = before + read;
                let residual = away - change;
                if hypothesis.share > 0.01 {
                    nearest = nearest.min(residual.abs() / libm::sqrt(spread));
                }
                let gain = before / spread;
                let counts = hypothesis.counts.iter().zip(&event).map(|(c, n)| c + n).collect();
                scored.push(Scored {
                    hypothesis: Hypothesis {
                        counts,
                        foreign: if leaves { 0.0 } else { hypothesis.foreign },
                        mean: hypothesis.mean + gain * residual,
                        variance: (1.0 - gain) * before,
                        share: 0.0,
                    },
                    log: libm::log(hypothesis.share) + prior + log_likelihood(residual, spread),
                    event,
                    residual,
                    spread,
                });
            };
            for (event, prior) in events(&hypothesis.counts, away, units) {
                consider(event, prior, false);
            }
            if hypothesis.foreign != 0.0 {
                consider(vec![0; units.len()], LOG_FOREIGN_LEAVES, true);
            }
        }
        if nearest > FOREIGN_SIGMAS {
            return self.set_aside(z, read, units);
        }
        let kept = keep_best(scored);
        let decision = decide(&kept);
        self.hypotheses = kept.into_iter().map(|s| s.hypothesis).collect();
        decision
    }

    /// Nothing explains `z`: the difference is foreign mass under every hypothesis.
    fn set_aside(&mut self, z: f64, read: f64, units: &[Unit]) -> Decision {
        let came = self
            .hypotheses
            .first()
            .map_or(0.0, |best| z - (mass(&best.counts, units) + best.foreign + best.mean));
        for hypothesis in &mut self.hypotheses {
            hypothesis.foreign += came;
        }
        let best = self.hypotheses.first();
        Decision {
            counts: self.counts().to_vec(),
            event: vec![0; units.len()],
            posterior: best.map_or(0.0, |h| h.share),
            runner_up: self.hypotheses.get(1).map(|h| (h.counts.clone(), h.share)),
            residual: 0.0,
            sigma: libm::sqrt(read + best.map_or(0.0, |h| h.variance)),
            foreign_came: Some(came),
            foreign: self.foreign(),
        }
    }
}

const LOG_NOTHING: f64 = -1.386; // ln 0.25
const LOG_ONE_LINE: f64 = -1.05; // ln 0.35
const LOG_TWO_LINES: f64 = -4.6; // ln 0.01
const LOG_FOREIGN_LEAVES: f64 = -1.6; // ln 0.2

/// Log prior of an event of `n` units of one line: halves with every fourfold.
fn log_prior(base: f64, n: i64) -> f64 {
    base - 0.5 * libm::log(n.abs() as f64)
}

/// Events that could explain a change of about `away`, with their log priors.
fn events(counts: &[i64], away: f64, units: &[Unit]) -> Vec<(Vec<i64>, f64)> {
    let zero = vec![0i64; units.len()];
    let mut found = vec![(zero.clone(), LOG_NOTHING)];
    let possible =
        |line: usize, n: i64| n != 0 && n.abs() <= EVENT_UNITS_MAX && counts[line] + n >= 0;
    for (line, unit) in units.iter().enumerate() {
        let nearest = nearest(away, unit.mass);
        for n in nearest - 1..=nearest + 1 {
            if possible(line, n) {
                let mut event = zero.clone();
                event[line] = n;
                found.push((event, log_prior(LOG_ONE_LINE, n)));
            }
        }
        // Two hands: a few of this line together with the best fit of another.
        for (other, with) in units.iter().enumerate().filter(|(other, _)| *other != line) {
            for n in [-2i64, -1, 1, 2] {
                let m = self::nearest(away - n as f64 * unit.mass, with.mass);
                if possible(line, n) && possible(other, m) {
                    let mut event = zero.clone();
                    event[line] = n;
                    event[other] = m;
                    found.push((event, log_prior(LOG_TWO_LINES, n * m)));
                }
            }
        }
    }
    found
}

fn nearest(away: f64, unit: f64) -> i64 {
    let limit = EVENT_UNITS_MAX as f64 + 2.0;
    (away / unit).round().clamp(-limit, limit) as i64
}

fn mass(counts: &[i64], units: &[Unit]) -> f64 {
    counts.iter().zip(units).map(|(n, u)| *n as f64 * u.mass).sum()
}

fn log_likelihood(residual: f64, spread: f64) -> f64 {
    -0.5 * (residual * residual / spread + libm::log(spread))
}

/// Merges equal hypotheses, drops the hopeless, sets shares; best first.
fn keep_best(mut scored: Vec<Scored>) -> Vec<Scored> {
    // A stable sort on a total order: equal scores keep their order of birth.
    scored.sort_by(|a, b| b.log.total_cmp(&a.log));
    let top = scored.first().map_or(0.0, |s| s.log);
    let mut kept: Vec<Scored> = Vec::with_capacity(HYPOTHESES_MAX);
    for candidate in scored {
        let share = libm::exp(candidate.log - top);
        if share < SHARE_MIN || !share.is_finite() {
            continue;
        }
        let twin = kept.iter().position(|k| {
            k.hypothesis.counts == candidate.hypothesis.counts
                && k.hypothesis.foreign.to_bits() == candidate.hypothesis.foreign.to_bits()
        });
        match twin {
            Some(twin) => kept[twin].hypothesis.share += share,
            None if kept.len() < HYPOTHESES_MAX => kept.push(Scored {
                hypothesis: Hypothesis { share, ..candidate.hypothesis },
                ..candidate
            }),
            None => {}
        }
    }
    kept.sort_by(|a, b| b.hypothesis.share.total_cmp(&a.hypothesis.share));
    let whole: f64 = kept.iter().map(|k| k.hypothesis.share).sum();
    for k in &mut kept {
        k.hypothesis.share /= whole;
    }
    kept
}

fn decide(kept: &[Scored]) -> Decision {
    let Some(best) = kept.first() else {
        return Decision {
            counts: Vec::new(),
            event: Vec::new(),
            posterior: 0.0,
            runner_up: None,
            residual: 0.0,
            sigma: 0.0,
            foreign_came: None,
            foreign: 0.0,
        };
    };
    let same = |k: &&Scored| k.hypothesis.counts == best.hypothesis.counts;
    Decision {
        counts: best.hypothesis.counts.clone(),
        event: best.event.clone(),
        posterior: kept.iter().filter(same).map(|k| k.hypothesis.share).sum(),
        runner_up: kept
            .iter()
            .find(|k| k.hypothesis.counts != best.hypothesis.counts)
            .map(|k| (k.hypothesis.counts.clone(), k.hypothesis.share)),
        residual: best.residual,
        sigma: libm::sqrt(best.spread),
        foreign_came: None,
        foreign: best.hypothesis.foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Unit = Unit { mass: 100_000.0, sigma: 500.0 };

    #[test]
    fn clean_steps_are_counted_with_certainty() {
        let mut tracker = Tracker::from_counts(vec![10], 1_000_000.0, 2_000.0, &[UNIT]);
        let decision = tracker.judge(701_500.0, 0.0, 2_000.0, 0.0, &[UNIT]);
        assert_eq!((decision.counts, decision.event), (vec![7], vec![-3]));
        assert!(decision.posterior > 0.999_999);
    }

    #[test]
    fn drift_between_plateaus_is_bias() {
        let mut tracker = Tracker::from_counts(vec![10], 1_000_000.0, 2_000.0, &[UNIT]);
        for _ in 0..50 {
            tracker.drift(10_000.0);
        }
        let decision = tracker.judge(1_500_000.0 - 100_000.0, 0.0, 2_000.0, 0.0, &[UNIT]);
        assert_eq!(decision.event, [-1]);
    }

    #[test]
    fn a_later_plateau_can_turn_the_verdict() {
        // An unlucky plateau half way between two counts, then a clear one.
        let mut tracker = Tracker::from_counts(vec![10], 1_000_000.0, 15_000.0, &[UNIT]);
        let first = tracker.judge(948_000.0, 0.0, 15_000.0, 0.0, &[UNIT]);
        assert!(first.posterior < 0.9, "{first:?}");
        let second = tracker.judge(801_000.0, 0.0, 15_000.0, 0.0, &[UNIT]);
        assert_eq!(second.counts, [8]);
        assert!(second.posterior > 0.99, "{second:?}");
    }

    #[test]
    fn foreign_mass_is_set_aside_and_recognised_when_it_leaves() {
        let mut tracker = Tracker::from_counts(vec![10], 1_000_000.0, 1_000.0, &[UNIT]);
        let came = tracker.judge(1_037_000.0, 0.0, 1_000.0, 0.0, &[UNIT]);
        assert_eq!((came.counts, came.event), (vec![10], vec![0]));
        assert!((came.foreign_came.unwrap() - 37_000.0).abs() < 1.0);
        let pick = tracker.judge(937_500.0, 0.0, 1_000.0, 0.0, &[UNIT]);
        assert_eq!(pick.event, [-1]);
        assert!(pick.foreign > 30_000.0);
        let gone = tracker.judge(900_200.0, 0.0, 1_000.0, 0.0, &[UNIT]);
        assert_eq!((gone.event, gone.foreign), (vec![0], 0.0));
        assert_eq!(gone.counts, [9]);
    }

    #[test]
    fn two_products_in_two_hands() {
        let units = [UNIT, Unit { mass: 37_000.0, sigma: 200.0 }];
        let mut tracker = Tracker::from_counts(vec![5, 5], 685_000.0, 1_000.0, &units);
        let decision = tracker.judge(685_000.0 - 137_000.0, 0.0, 1_000.0, 0.0, &units);
        assert_eq!(decision.event, [-1, -1]);
    }

    #[test]
    fn nothing_can_be_taken_from_nothing() {
        let mut tracker = Tracker::from_counts(vec![0], 0.0, 1_000.0, &[UNIT]);
        let decision = tracker.judge(-100_000.0, 0.0, 1_000.0, 0.0, &[UNIT]);
        assert_eq!(decision.counts, [0]);
        assert!(decision.foreign_came.is_some());
    }

    #[test]
    fn a_known_zero_gives_the_first_count() {
        let (tracker, sure) = Tracker::from_mass(1_203_000.0, 0.0, 2_000.0, UNIT);
        assert_eq!(tracker.counts(), [12]);
        assert!(sure > 0.999);
    }

    #[test]
    fn absurd_masses_do_not_panic() {
        for z in [f64::MAX / 1e10, -1e18, 0.0, 1e-300] {
            let mut tracker = Tracker::from_counts(vec![1], 0.0, 1.0, &[UNIT]);
            tracker.judge(z, 0.0, 1.0, 0.0, &[UNIT]);
            tracker.judge(-z, 0.0, 1.0, 0.0, &[UNIT]);
        }
    }
}
