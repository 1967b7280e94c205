//! A crowd of tags that all stand still: the simplest source of reads, for load and for tests of the wire.

use crate::llrp::{Read, Source};
use crate::random::Stream;
use device_profiles::Tag;

/// `tags` tags that are heard `reads_per_s` times a second together, each by one of `antennas` antennas. Tag `n` of a seed is the
/// same at every call.
#[must_use]
pub fn crowd(seed: u64, tags: u32, antennas: u16, reads_per_s: f64) -> Source {
    let mut dice = Stream::new(seed, "llrp crowd", 0);
    let names: Vec<Tag> = (0..tags.max(1)).filter_map(|n| name(seed, n)).collect();
    let mut owed = 0.0;
    Box::new(move |from_us, to_us| {
        let span = (to_us - from_us).max(0);
        owed += span as f64 * reads_per_s / 1e6;
        let count = owed as usize;
        owed -= count as f64;
        let mut reads: Vec<Read> = (0..count)
            .filter_map(|_| {
                let n = dice.below(names.len());
                Some(Read {
                    at_us: from_us + dice.between(0, (span - 1).max(0)),
                    antenna: 1 + (n % usize::from(antennas.max(1))) as u16,
                    tag: *names.get(n)?,
                    rssi_cdbm: dice.between(-7_000, -4_500) as i16,
                })
            })
            .collect();
        reads.sort_by_key(|read| read.at_us);
        reads
    })
}

/// An SGTIN-96 header, the seed, the number.
fn name(seed: u64, n: u32) -> Option<Tag> {
    let mut bytes = [0_u8; 12];
    bytes[0] = 0x30;
    bytes[2..8].copy_from_slice(&seed.to_be_bytes()[2..]);
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    Tag::of_bytes(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_in_any_steps_and_every_tag_is_heard() {
        let mut source = crowd(7, 12, 4, 50.0);
        let mut reads = Vec::new();
        for step in 0..1_000_i64 {
            let from = 1_000_000_000 + step * 7_000;
            let heard = source(from, from + 7_000);
            assert!(heard.iter().all(|r| (from..from + 7_000).contains(&r.at_us)));
            reads.extend(heard);
        }
        assert!((349..=350).contains(&reads.len()), "{}", reads.len());
        let tags: std::collections::BTreeSet<Tag> = reads.iter().map(|r| r.tag).collect();
        assert_eq!(tags.len(), 12);
        assert!(reads.iter().all(|r| (1..=4).contains(&r.antenna)));
    }
}
