//! Randomness: for jitter only, never for anything that is folded.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A source of random bits.
pub trait Rng: Send + Sync + 'static {
    /// 64 random bits.
    fn bits(&self) -> u64;

    /// A duration between half of `base_ms` and the whole of it, in milliseconds, so that many do not retry at once.
    fn jitter_ms(&self, base_ms: u64) -> u64 {
        let half = base_ms / 2;
        half + self.bits() % (base_ms - half + 1)
    }
}

/// SplitMix64 from a seed; the hub seeds it from the operating system, a simulation from its own seed.
#[derive(Debug)]
pub struct SplitMix(AtomicU64);

impl SplitMix {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Rng for SplitMix {
    fn bits(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
