//! Seeded randomness: one independent stream for each named thing.
//!
//! A stream is derived from (seed, label, index). Two things never share one, so the order in which the world serves
//! them cannot change what they draw.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Exp1, StandardNormal};

/// A random stream.
#[derive(Debug)]
pub struct Stream(StdRng);

impl Stream {
    /// The stream of `label` number `index` under `seed`.
    #[must_use]
    pub fn new(seed: u64, label: &str, index: u64) -> Self {
        // FNV-1a over the name, then SplitMix64 steps: enough to spread seeds; the generator does the rest.
        let mut h = 0xcbf2_9ce4_8422_2325_u64;
        for byte in label.bytes().chain(seed.to_le_bytes()).chain(index.to_le_bytes()) {
            h = (h ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self(StdRng::seed_from_u64(h))
    }

    /// A normal variate with mean 0 and the given standard deviation.
    #[inline]
    pub fn normal(&mut self, sigma: f64) -> f64 {
        if sigma == 0.0 {
            return 0.0;
        }
        let z: f64 = self.0.sample(StandardNormal);
        z * sigma
    }

    /// An exponential waiting time in microseconds for `per_hour` events; `None` when they never happen.
    pub fn wait_us(&mut self, per_hour: f64) -> Option<u64> {
        (per_hour > 0.0).then(|| {
            let e: f64 = self.0.sample(Exp1);
            // At least 1 µs: two events of one source never share an instant.
            (e * 3.6e9 / per_hour).clamp(1.0, 1e18) as u64
        })
    }

    /// True with probability `p`; consumes nothing when `p` is 0.
    #[inline]
    pub fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.0.random::<f64>() < p
    }

    /// Uniform in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.0.random_range(0..n) }
    }

    /// Uniform in `lo..=hi` (swapped when reversed).
    pub fn between(&mut self, lo: i64, hi: i64) -> i64 {
        self.0.random_range(lo.min(hi)..=lo.max(hi))
    }

    /// Uniform in `[lo, hi)`.
    pub fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * self.0.random::<f64>()
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.random()
    }

    /// Index drawn with the given non-negative weights; `None` when all are 0.
    pub fn weighted(&mut self, weights: &[f64]) -> Option<usize> {
        let total: f64 = weights.iter().sum();
        if total <= 0.0 {
            return None;
        }
        let mut x = self.0.random::<f64>() * total;
        for (i, w) in weights.iter().enumerate() {
            if x < *w {
                return Some(i);
            }
            x -= w;
        }
        weights.iter().rposition(|w| *w > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_repeatable_and_distinct() {
        let draw = |seed, label, index| Stream::new(seed, label, index).bits();
        assert_eq!(draw(1, "cell", 2), draw(1, "cell", 2));
        let all = [draw(1, "cell", 2), draw(2, "cell", 2), draw(1, "link", 2), draw(1, "cell", 3)];
        for (i, a) in all.iter().enumerate() {
            assert!(!all[i + 1..].contains(a));
        }
    }

    #[test]
    fn weighted_honours_weights() {
        let mut s = Stream::new(7, "w", 0);
        let mut seen = [0_u32; 3];
        for _ in 0..30_000 {
            seen[s.weighted(&[1.0, 0.0, 2.0]).unwrap()] += 1;
        }
        assert_eq!(seen[1], 0);
        assert!((9_500..10_500).contains(&seen[0]), "{seen:?}");
        assert_eq!(s.weighted(&[0.0]), None);
    }
}
