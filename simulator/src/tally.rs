//! What devices were promised: the numbers the hub acknowledged, as ranges.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A set of sequence numbers that come mostly in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SeqSet {
    /// First and last of each run; runs neither touch nor overlap.
    runs: BTreeMap<u64, u64>,
}

impl SeqSet {
    /// Adds a number; false when it was there.
    pub fn insert(&mut self, seq: u64) -> bool {
        if self.contains(seq) {
            return false;
        }
        let last = match self.runs.remove(&seq.wrapping_add(1)) {
            Some(last) => last,
            None => seq,
        };
        match self.runs.range_mut(..seq).next_back() {
            Some((_, end)) if end.wrapping_add(1) == seq => *end = last,
            _ => {
                self.runs.insert(seq, last);
            }
        }
        true
    }

    /// The number is in the set.
    #[must_use]
    pub fn contains(&self, seq: u64) -> bool {
        self.runs.range(..=seq).next_back().is_some_and(|(_, last)| seq <= *last)
    }

    /// Numbers in the set.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

/// What became of one device's frames.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Device id.
    pub device: String,
    /// Frames handed to the client, repetitions included.
    pub sent: u64,
    /// Acknowledgements, repetitions included.
    pub acknowledged: u64,
    /// Frames the hub refused, by reason code.
    pub refused: BTreeMap<u8, u64>,
    /// Frames lost because the device had no room to keep them.
    pub overflowed: u64,
    /// Connections lost.
    pub disconnects: u64,
    /// Boot ids it had, in the order they were first heard of ("" without).
    pub boots: Vec<String>,
    /// Numbers acknowledged, by boot id.
    pub acked: BTreeMap<String, SeqSet>,
}

impl Tally {
    /// Distinct readings acknowledged.
    #[must_use]
    pub fn acked_readings(&self) -> u64 {
        self.acked.values().map(SeqSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use std::collections::BTreeSet;

    #[test]
    fn ranges_hold_what_a_plain_set_holds() {
        let mut random = Stream::new(1, "seqs", 0);
        let (mut set, mut plain) = (SeqSet::default(), BTreeSet::new());
        for _ in 0..2_000 {
            let seq = random.below(1_500) as u64;
            assert_eq!(set.insert(seq), plain.insert(seq));
        }
        assert_eq!(set.len(), plain.len() as u64);
        assert!((0..1_600).all(|n| set.contains(n) == plain.contains(&n)));
        let runs: Vec<_> = set.runs.iter().collect();
        assert!(runs.windows(2).all(|w| w[0].1 + 1 < *w[1].0));
    }
}
