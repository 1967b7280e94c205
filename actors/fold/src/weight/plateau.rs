//! From samples to plateaus: when does a load cell hold still, and did it hold still at the same mass as before?
//!
//! ```text
//!            far from the plateau, or the device says "moving"
//!   Settled ───────────────────────────────────────────────► Moving
//!      ▲   enough samples, long enough, flat, within a band      │
//!      └─────────────────────────────────────────────────────────┘  emits a Step(before, after)
//! ```
//!
//! While settled, the plateau's reference follows the samples slowly: drift and creep move the reference, never a count. It
//! follows at most half a division a second (the rate OIML R 76 allows zero tracking), so a real change cannot hide in it.
//! A single wild sample is removed by a median of three, unless the device vouches for the sample itself.

use serde::{Deserialize, Serialize};

use crate::entry::HubTime;

/// Time constant with which the reference follows a settled cell, in microseconds.
const FOLLOW_US: f64 = 5_000_000.0;
/// Samples further apart than this are not filtered for spikes, in microseconds.
const SPIKE_US: i64 = 1_000_000;
/// A device that speaks only on change has settled when it vouched for its last sample this long ago, in microseconds.
pub const QUIET_US: i64 = 1_000_000;

/// What a cell must do to count as settled.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// How long it must hold still, microseconds.
    pub settle_us: i64,
    /// In how many samples.
    pub settle_samples: u32,
    /// Smallest step of the cell, milligrams.
    pub division: f64,
    /// Unit weight of the lightest line, milligrams.
    pub lightest: Option<f64>,
}

/// One sample.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When it was taken.
    pub at: HubTime,
    /// Offset of its entry.
    pub offset: u64,
    /// Net mass, milligrams.
    pub net: i64,
    /// The device's own stability flag.
    pub stable: Option<bool>,
}

/// What a sample showed.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Settled as before; the reference moved by so many milligrams.
    Quiet(f64),
    /// Not settled.
    Moving,
    /// Settled again.
    Settled(Step),
}

/// From one plateau to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Reference of the plateau before.
    pub before: Option<f64>,
    /// How long that plateau had been out of sight, microseconds.
    pub gap_us: i64,
    /// Mean of the plateau after.
    pub after: f64,
    /// Variance of that mean.
    pub variance: f64,
    /// Samples in it.
    pub samples: u32,
    /// Offsets of the last sample before, and the first and last after.
    pub evidence: [u64; 3],
}

/// The detector of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    settled: Option<Plateau>,
    moving: bool,
    candidate: Option<Candidate>,
    /// Standard deviation of one sample, milligrams; learned while settled.
    sigma: f64,
    last: Option<(HubTime, i64, i64)>,
    recent: [f64; 4],
    recent_count: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Plateau {
    reference: f64,
    last_at: HubTime,
    last_offset: u64,
}

/// Samples that may become a plateau.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Candidate {
    count: u32,
    sum: f64,
    /// Count and sum when the count last was a power of two, for the flatness test.
    half: (u32, f64),
    first_at: HubTime,
    last_at: HubTime,
    first_offset: u64,
    last_offset: u64,
    vouched: bool,
}

impl Candidate {
    fn start(sample: &Sample, value: f64) -> Self {
        Self {
            count: 1,
            sum: value,
            half: (0, 0.0),
            first_at: sample.at,
            last_at: sample.at,
            first_offset: sample.offset,
            last_offset: sample.offset,
            vouched: sample.stable == Some(true),
        }
    }

    fn mean(&self) -> f64 {
        self.sum / f64::from(self.count)
    }

    fn add(&mut self, sample: &Sample, value: f64) {
        if self.count.is_power_of_two() {
            self.half = (self.count, self.sum);
        }
        self.count = self.count.saturating_add(1);
        self.sum += value;
        self.last_at = sample.at;
        self.last_offset = sample.offset;
        self.vouched = sample.stable == Some(true);
    }

    /// Difference between the later and the earlier part, and its variance in units of sigma².
    fn slope(&self) -> Option<(f64, f64)> {
        let (n0, sum0) = self.half;
        let n1 = self.count - n0;
        if n0 == 0 || n1 == 0 {
            return None;
        }
        let (n0, n1) = (f64::from(n0), f64::from(n1));
        Some(((self.sum - sum0) / n1 - sum0 / n0, 1.0 / n0 + 1.0 / n1))
    }
}

impl Detector {
    /// A detector that has seen nothing. `noise` and `division` are first guesses, in milligrams.
    pub fn new(noise: f64, division: f64) -> Self {
        Self {
            settled: None,
            moving: true,
            candidate: None,
            sigma: noise.max(division * 0.5).max(1.0),
            last: None,
            recent: [0.0; 4],
            recent_count: 0,
        }
    }

    /// Reference of the plateau the cell is on, or was on before it began to move.
    pub fn reference(&self) -> Option<f64> {
        self.settled.as_ref().map(|p| p.reference)
    }

    /// Offsets of the samples that a coming [`Step`] may name as evidence.
    pub fn evidence(&self) -> impl Iterator<Item = u64> {
        let plateau = self.settled.iter().map(|p| p.last_offset);
        let candidate = self.candidate.iter().flat_map(|c| [c.first_offset, c.last_offset]);
        plateau.chain(candidate)
    }

    /// How far from the others a sample of a plateau to be may lie, milligrams.
    pub fn band(&self, rule: &Rule) -> f64 {
        (6.0 * self.sigma).max(2.0 * rule.division)
    }

    /// On a plateau now.
    pub fn is_settled(&self) -> bool {
        self.settled.is_some() && !self.moving
    }

    /// When to call [`Detector::tick`].
    pub fn quiet_at(&self, rule: &Rule) -> Option<HubTime> {
        let candidate = self.candidate.as_ref().filter(|c| self.moving && c.vouched)?;
        Some(candidate.last_at.plus_us(rule.settle_us.max(QUIET_US)))
    }

    /// The cell cannot be believed for now: whatever comes must settle anew.
    pub fn disturb(&mut self) {
        self.moving = true;
        self.candidate = None;
    }

    /// Takes one sample.
    pub fn sample(&mut self, rule: &Rule, sample: &Sample) -> Verdict {
        let value = self.filter(sample) as f64;
        if self.moving {
            return self.while_moving(rule, sample, value);
        }
        let Some(plateau) = &mut self.settled else {
            self.moving = true;
            return self.while_moving(rule, sample, value);
        };
        let away = value - plateau.reference;
        let limit = threshold(rule, self.sigma);
        let hidden = rule.lightest.is_some_and(|w| limit > 0.45 * w);
        self.recent[(self.recent_count % 4) as usize] = away;
        self.recent_count = self.recent_count.wrapping_add(1);
        let crept = hidden && self.recent_count >= 4 && {
            let mean = self.recent.iter().sum::<f64>() / 4.0;
            mean.abs() > rule.lightest.unwrap_or(f64::MAX) * 0.45
        };
        if away.abs() > limit || crept || sample.stable == Some(false) {
            self.moving = true;
            self.candidate = None;
            return self.while_moving(rule, sample, value);
        }
        let elapsed = sample.at.since_us(plateau.last_at).max(0) as f64;
        let most = 0.5 * rule.division.max(1.0) * (elapsed / 1_000_000.0);
        let drift = (away * (elapsed / (elapsed + FOLLOW_US))).clamp(-most, most);
        plateau.reference += drift;
        plateau.last_at = sample.at;
        plateau.last_offset = sample.offset;
        self.learn(value, rule);
        Verdict::Quiet(drift)
    }

    /// Time passed without a sample.
    pub fn tick(&mut self, rule: &Rule, now: HubTime) -> Option<Step> {
        if self.quiet_at(rule)? > now {
            return None;
        }
        self.settle(rule)
    }

    fn while_moving(&mut self, rule: &Rule, sample: &Sample, value: f64) -> Verdict {
        if sample.stable == Some(false) {
            self.candidate = None;
            return Verdict::Moving;
        }
        let band = self.band(rule);
        match &mut self.candidate {
            Some(candidate) if (value - candidate.mean()).abs() <= band => {
                candidate.add(sample, value);
            }
            other => *other = Some(Candidate::start(sample, value)),
        }
        let Some(candidate) = &mut self.candidate else { return Verdict::Moving };
        let long = candidate.last_at.since_us(candidate.first_at) >= rule.settle_us;
        if candidate.count < rule.settle_samples || !long {
            return Verdict::Moving;
        }
        if let Some((slope, spread)) = candidate.slope() {
            let noise = 3.0 * self.sigma * libm::sqrt(spread);
            let flat = rule.division.max(noise).max(rule.lightest.unwrap_or(0.0) / 20.0);
            if slope.abs() > flat {
                // Still on its way: what came first is not part of the plateau.
                let (count, sum) = candidate.half;
                candidate.count -= count;
                candidate.sum -= sum;
                candidate.half = (0, 0.0);
                candidate.first_at = sample.at;
                candidate.first_offset = sample.offset;
                return Verdict::Moving;
            }
        }
        self.settle(rule).map_or(Verdict::Moving, Verdict::Settled)
    }

    fn settle(&mut self, rule: &Rule) -> Option<Step> {
        let candidate = self.candidate.take()?;
        let after = candidate.mean();
        let sampled = self.sigma * self.sigma / f64::from(candidate.count);
        let quantised = rule.division * rule.division / 12.0;
        let before = self.settled.take();
        let step = Step {
            before: before.as_ref().map(|p| p.reference),
            gap_us: before.as_ref().map_or(0, |p| candidate.first_at.since_us(p.last_at)),
            after,
            variance: sampled.max(quantised),
            samples: candidate.count,
            evidence: [
                before.map_or(candidate.first_offset, |p| p.last_offset),
                candidate.first_offset,
                candidate.last_offset,
            ],
        };
        self.settled = Some(Plateau {
            reference: after,
            last_at: candidate.last_at,
            last_offset: candidate.last_offset,
        });
        self.moving = false;
        self.recent_count = 0;
        Some(step)
    }

    /// Median of three, which a single wild sample cannot pass.
    fn filter(&mut self, sample: &Sample) -> i64 {
        let known = self.last.replace((
            sample.at,
            sample.net,
            self.last.map_or(sample.net, |(_, previous, _)| previous),
        ));
        match known {
            Some((at, a, b))
                if sample.stable != Some(true) && sample.at.since_us(at) < SPIKE_US =>
            {
                median(a, b, sample.net)
            }
            Some(_) | None => sample.net,
        }
    }

    /// Learns the noise of one sample from its distance to the reference.
    fn learn(&mut self, value: f64, rule: &Rule) {
        let Some(plateau) = &self.settled else { return };
        // Mean absolute deviation of a normal variable is 0.798 sigma.
        let seen = (value - plateau.reference).abs() * 1.253;
        self.sigma = (self.sigma + 0.02 * (seen - self.sigma)).max(rule.division * 0.29).max(1.0);
    }
}

/// How far a sample may lie from the reference of a settled cell, milligrams.
fn threshold(rule: &Rule, sigma: f64) -> f64 {
    let wanted = (5.0 * sigma).max(2.0 * rule.division);
    let held = rule.lightest.map_or(wanted, |w| wanted.min(0.4 * w));
    held.max(3.0 * sigma).max(rule.division)
}

fn median(a: i64, b: i64, c: i64) -> i64 {
    a.max(b).min(a.min(b).max(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule =
        Rule { settle_us: 300_000, settle_samples: 3, division: 1_000.0, lightest: Some(50_000.0) };

    /// Feeds samples 100 ms apart; returns the steps with the index of the sample that completed each.
    fn feed(detector: &mut Detector, masses: &[(i64, Option<bool>)]) -> Vec<(usize, Step)> {
        let mut steps = Vec::new();
        for (i, (net, stable)) in masses.iter().enumerate() {
            let sample = Sample {
                at: HubTime(i as i64 * 100_000),
                offset: i as u64,
                net: *net,
                stable: *stable,
            };
            if let Verdict::Settled(step) = detector.sample(&RULE, &sample) {
                steps.push((i, step));
            }
        }
        steps
    }

    #[test]
    fn a_pick_is_one_step() {
        let mut detector = Detector::new(500.0, 1_000.0);
        let mut masses = vec![(400_000, None); 10];
        masses.extend([(370_000, None), (290_000, None), (340_000, None)]);
        masses.extend([(350_000, None); 10]);
        let steps = feed(&mut detector, &masses);
        assert_eq!(steps.len(), 2, "{steps:?}");
        assert_eq!(steps[1].1.before, Some(400_000.0));
        assert!((steps[1].1.after - 350_000.0).abs() < 1_000.0, "{steps:?}");
    }

    #[test]
    fn one_wild_sample_is_nothing() {
        let mut detector = Detector::new(500.0, 1_000.0);
        let mut masses = vec![(400_000, None); 30];
        masses[20].0 = 9_000_000;
        assert_eq!(feed(&mut detector, &masses).len(), 1);
        assert!(detector.is_settled());
    }

    #[test]
    fn the_devices_own_flag_is_believed() {
        let mut detector = Detector::new(500.0, 1_000.0);
        let mut masses = vec![(400_000, Some(true)); 5];
        masses.extend([(350_000, Some(false)); 20]);
        assert_eq!(feed(&mut detector, &masses).len(), 1);
        assert!(!detector.is_settled());
    }

    #[test]
    fn a_slow_slide_moves_the_reference_only() {
        let mut detector = Detector::new(500.0, 1_000.0);
        let masses: Vec<_> = (0..6_000).map(|i| (400_000 + i * 5, None)).collect();
        assert_eq!(feed(&mut detector, &masses).len(), 1);
        let reference = detector.reference().unwrap();
        assert!((reference - 430_000.0).abs() < 1_000.0, "{reference}");
    }

    #[test]
    fn a_device_that_speaks_on_change_settles_by_silence() {
        let mut detector = Detector::new(500.0, 1_000.0);
        feed(&mut detector, &[(400_000, Some(true)); 5]);
        let last = Sample { at: HubTime(9_000_000), offset: 9, net: 350_000, stable: Some(true) };
        assert_eq!(detector.sample(&RULE, &last), Verdict::Moving);
        let due = detector.quiet_at(&RULE).unwrap();
        assert_eq!(due, HubTime(10_000_000));
        assert!(detector.tick(&RULE, HubTime(9_999_999)).is_none());
        assert_eq!(detector.tick(&RULE, due).unwrap().after, 350_000.0);
    }

    #[test]
    fn median_of_three() {
        for (a, b, c) in [(1, 2, 3), (3, 1, 2), (2, 3, 1), (1, 3, 2), (2, 1, 3), (3, 2, 1)] {
            assert_eq!(median(a, b, c), 2);
        }
    }
}
