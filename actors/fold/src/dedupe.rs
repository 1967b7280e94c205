//! Which frames were seen before: a sliding window of sequence numbers for each boot of a device.
//!
//! MQTT's DUP flag and packet ids say nothing about a reading, so a frame is named by (device, boot, seq). The window holds
//! [`DEDUPE_FRAMES`] numbers back from the highest; an older number cannot be told apart from a repeat and is quarantined.
//!
//! A device without a boot id restarts its numbers after a reboot. A lower number then starts a new boot, but only at the
//! start of a clean session, and only if it is not simply the re-sent tail of the session before: for such devices the hashes
//! of the last payloads are remembered, and an equal payload under an equal number is a repeat.

use serde::{Deserialize, Serialize};

use crate::limits::{BOOTS_MAX, DEDUPE_FRAMES, HASHES_FRAMES};

const WORDS: usize = (DEDUPE_FRAMES / 64) as usize;

/// What a sequence number turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// New.
    New {
        /// The device started a boot with this frame; how the boot is called.
        rebooted: Option<String>,
        /// Numbers jumped over.
        skipped: u64,
    },
    /// Seen before.
    Duplicate,
    /// Behind the window.
    TooOld,
}

/// The boots of one device, newest last.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Boots {
    boots: Vec<Boot>,
    /// Boots of a device that names none, counted.
    unnamed: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Boot {
    /// The name the device gave; `None` when it gives none.
    id: Option<String>,
    high: u64,
    seen: [u64; WORDS],
    hashes: Vec<(u64, u32)>,
}

impl Boot {
    fn start(id: Option<String>, seq: u64) -> Self {
        let mut boot = Self { id, high: seq, seen: [0; WORDS], hashes: Vec::new() };
        boot.mark(seq);
        boot
    }

    fn cell(seq: u64) -> (usize, u64) {
        let at = seq % DEDUPE_FRAMES;
        ((at / 64) as usize, 1 << (at % 64))
    }
    fn mark(&mut self, seq: u64) {
        let (word, bit) = Self::cell(seq);
        self.seen[word] |= bit;
    }
    fn has(&self, seq: u64) -> bool {
        let (word, bit) = Self::cell(seq);
        self.seen[word] & bit != 0
    }

    fn observe(&mut self, seq: u64) -> Seen {
        if seq > self.high {
            let step = seq - self.high;
            if step >= DEDUPE_FRAMES {
                self.seen = [0; WORDS];
            } else {
                for passed in self.high + 1..seq {
                    let (word, bit) = Self::cell(passed);
                    self.seen[word] &= !bit;
                }
            }
            self.high = seq;
            self.mark(seq);
            return Seen::New { rebooted: None, skipped: step - 1 };
        }
        if self.high - seq >= DEDUPE_FRAMES {
            return Seen::TooOld;
        }
        if self.has(seq) {
            return Seen::Duplicate;
        }
        self.mark(seq);
        Seen::New { rebooted: None, skipped: 0 }
    }

    fn remember(&mut self, seq: u64, hash: u32) {
        if self.hashes.len() >= HASHES_FRAMES {
            self.hashes.remove(0);
        }
        self.hashes.push((seq, hash));
    }
}

impl Boots {
    /// Judges a frame number and remembers it.
    pub fn observe(
        &mut self,
        boot: Option<&str>,
        seq: u64,
        fresh_session: bool,
        raw: &[u8],
    ) -> Seen {
        match boot {
            Some(id) => self.named(id, seq),
            None => self.unnamed(seq, fresh_session, fnv32(raw)),
        }
    }

    /// The newest boot has this name; an older one's frames tell of the past.
    pub fn is_newest(&self, boot: Option<&str>) -> bool {
        self.boots.last().is_none_or(|newest| newest.id.as_deref() == boot)
    }

    fn named(&mut self, id: &str, seq: u64) -> Seen {
        if let Some(at) = self.boots.iter().rposition(|b| b.id.as_deref() == Some(id)) {
            return self.boots[at].observe(seq);
        }
        let first = self.boots.is_empty();
        self.push(Boot::start(Some(id.to_owned()), seq));
        Seen::New { rebooted: (!first).then(|| id.to_owned()), skipped: 0 }
    }

    fn unnamed(&mut self, seq: u64, fresh_session: bool, hash: u32) -> Seen {
        let Some(at) = self.boots.iter().rposition(|b| b.id.is_none()) else {
            let first = self.boots.is_empty();
            self.unnamed += 1;
            let mut boot = Boot::start(None, seq);
            boot.remember(seq, hash);
            self.push(boot);
            return Seen::New { rebooted: (!first).then(|| self.unnamed_name()), skipped: 0 };
        };
        let boot = &mut self.boots[at];
        let resent = boot.hashes.contains(&(seq, hash));
        if fresh_session && seq <= boot.high && !resent {
            self.unnamed += 1;
            let mut boot = Boot::start(None, seq);
            boot.remember(seq, hash);
            self.boots.remove(at);
            self.push(boot);
            return Seen::New { rebooted: Some(self.unnamed_name()), skipped: 0 };
        }
        let seen = boot.observe(seq);
        if matches!(seen, Seen::New { .. }) {
            boot.remember(seq, hash);
        }
        seen
    }

    fn unnamed_name(&self) -> String {
        format!("hub:{}", self.unnamed)
    }

    fn push(&mut self, boot: Boot) {
        if self.boots.len() >= BOOTS_MAX {
            self.boots.remove(0);
        }
        // Most devices are known by one boot, and a window is large: room for four would be three too many.
        self.boots.reserve_exact(1);
        self.boots.push(boot);
    }
}

/// FNV-1a of a payload, for repeats within one device only.
pub fn fnv32(raw: &[u8]) -> u32 {
    raw.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Where [`fnv64`] begins.
pub const FNV64: u64 = 0xcbf2_9ce4_8422_2325;

/// The same, wider, going on from a hash of what came before.
pub fn fnv64(hash: u64, raw: &[u8]) -> u64 {
    raw.iter()
        .fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(skipped: u64) -> Seen {
        Seen::New { rebooted: None, skipped }
    }

    #[test]
    fn repeats_and_late_frames() {
        let mut boots = Boots::default();
        let mut see = |seq| boots.observe(Some("b"), seq, false, b"");
        assert_eq!(see(10), new(0));
        assert_eq!(see(10), Seen::Duplicate);
        assert_eq!(see(13), new(2));
        assert_eq!(see(12), new(0), "late but new");
        assert_eq!(see(12), Seen::Duplicate);
        assert_eq!(see(2_000), new(1_986));
        assert_eq!(see(2_000 - 1_024), Seen::TooOld);
        assert_eq!(see(2_000 - 1_023), new(0));
        assert_eq!(see(u64::MAX), new(u64::MAX - 2_001));
        assert_eq!(see(u64::MAX), Seen::Duplicate);
    }

    #[test]
    fn a_new_boot_id_starts_anew_and_the_old_one_is_remembered() {
        let mut boots = Boots::default();
        assert_eq!(boots.observe(Some("a"), 5, false, b""), new(0));
        assert_eq!(
            boots.observe(Some("b"), 5, false, b""),
            Seen::New { rebooted: Some("b".into()), skipped: 0 }
        );
        assert_eq!(boots.observe(Some("a"), 5, false, b""), Seen::Duplicate);
    }

    #[test]
    fn without_boot_id_a_reboot_differs_from_a_resend() {
        let mut boots = Boots::default();
        for seq in 1..=9u64 {
            assert_eq!(boots.observe(None, seq, false, &seq.to_le_bytes()), new(0));
        }
        // The tail is sent again after a clean reconnect: same payloads.
        assert_eq!(boots.observe(None, 8, true, &8u64.to_le_bytes()), Seen::Duplicate);
        // A real restart counts from 1 with other payloads.
        let rebooted = boots.observe(None, 1, true, b"other");
        assert_eq!(rebooted, Seen::New { rebooted: Some("hub:2".into()), skipped: 0 });
        assert_eq!(boots.observe(None, 2, false, b"x"), new(0));
        assert_eq!(boots.observe(None, 1, false, b"late"), Seen::Duplicate);
    }

    /// The window against the plainest possible model: a set of everything seen.
    #[test]
    fn agrees_with_a_set() {
        let mut boots = Boots::default();
        let mut set = std::collections::BTreeSet::new();
        let mut high = 0u64;
        let mut x = 12_345u64;
        for _ in 0..200_000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let jump = (x >> 33) % 40;
            let seq = if jump < 30 { high.saturating_sub(jump * 50) } else { high + jump - 29 };
            let seen = boots.observe(Some("b"), seq, false, b"");
            let too_old = high.saturating_sub(seq) >= DEDUPE_FRAMES;
            match seen {
                Seen::TooOld => assert!(too_old),
                Seen::Duplicate => assert!(!set.insert(seq) && !too_old),
                Seen::New { .. } => assert!(set.insert(seq) && !too_old),
            }
            high = high.max(seq);
        }
    }
}
