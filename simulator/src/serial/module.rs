//! An R200 module as a state machine: it is told the time and what came over the line, and says what goes out.
//!
//! It makes rounds only when it is told to, as many as it is told; each round tells every tag it hears, or that there was none.

use super::frame::{frame, tag, take};
use crate::{llrp::Source, random::Stream};

/// A round of inventory takes so long, µs.
pub const ROUND_US: i64 = 50_000;
/// Answers and notices that wait for the line, in bytes; what comes on top is lost.
const OUT_BYTES_MAX: usize = 64 * 1024;
/// Commands that are not whole yet, in bytes.
const IN_BYTES_MAX: usize = 1_024;
/// The number under which the module refuses, and tells that a round found nothing.
const FAILED: u8 = 0xFF;
/// Codes of that: no tag, and a command it does not know.
const NO_TAG: u8 = 0x15;
const UNKNOWN: u8 = 0x17;

/// What is wrong with a module; nothing by default. Chances are of each frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// Chance of bytes that are no frame before a frame.
    pub noise: f64,
    /// Chance that a notice of a tag has a wrong checksum.
    pub wrong_sum: f64,
    /// It answers nothing and tells nothing.
    pub mute: bool,
}

/// A module.
pub struct Module {
    source: Source,
    /// What is wrong with it.
    pub faults: Faults,
    dice: Stream,
    rounds: u32,
    round_due_us: i64,
    now_us: i64,
    region: u8,
    inbox: Vec<u8>,
    out: Vec<u8>,
    /// Tags that were told as they should be.
    pub told: u64,
    /// Tags that were told with a wrong checksum.
    pub spoiled: u64,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("rounds", &self.rounds).finish_non_exhaustive()
    }
}

impl Module {
    /// A module that is switched on now, Unix microseconds.
    #[must_use]
    pub fn new(source: Source, seed: u64, now_us: i64) -> Self {
        Self {
            source,
            faults: Faults::default(),
            dice: Stream::new(seed, "r200", 0),
            rounds: 0,
            round_due_us: now_us,
            now_us,
            region: 1,
            inbox: Vec::new(),
            out: Vec::new(),
            told: 0,
            spoiled: 0,
        }
    }

    /// Rounds that it still makes.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// The region it is set to.
    #[must_use]
    pub fn region(&self) -> u8 {
        self.region
    }

    /// Power was gone: it makes no rounds until it is told again.
    pub fn restart(&mut self) {
        self.rounds = 0;
        self.inbox.clear();
        self.out.clear();
    }

    /// Takes what came over the line.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        while let Some((command, parameters)) = take(&mut self.inbox) {
            self.obey(command, &parameters);
        }
        let too_much = self.inbox.len().saturating_sub(IN_BYTES_MAX);
        self.inbox.drain(..too_much);
    }

    fn obey(&mut self, command: u8, parameters: &[u8]) {
        match (command, parameters) {
            (0x03, [which @ 0..=2]) => {
                let text = ["M100 26dBm V1.0", "V2.3.5", "Stockfold simulator"];
                let text = text.get(usize::from(*which)).copied().unwrap_or_default();
                self.say(frame(1, 0x03, &[&[*which], text.as_bytes()].concat()));
            }
            (0x07, [region]) => {
                self.region = *region;
                self.say(frame(1, 0x07, &[0]));
            }
            (0x22, []) => self.begin(1),
            (0x27, [0x22, high, low]) => self.begin(u16::from_be_bytes([*high, *low]).into()),
            (0x28, []) => {
                self.rounds = 0;
                self.say(frame(1, 0x28, &[0]));
            }
            _ => self.say(frame(1, FAILED, &[UNKNOWN])),
        }
    }

    fn begin(&mut self, rounds: u32) {
        self.rounds = rounds;
        self.round_due_us = self.now_us + ROUND_US;
    }

    /// Time goes on until `now_us`.
    pub fn advance(&mut self, now_us: i64) {
        if self.rounds == 0 {
            // The world goes on also while nobody listens to it.
            drop((self.source)(self.now_us, now_us));
            self.now_us = now_us;
            return;
        }
        // After a long pause one round is made, not all that would have been.
        self.round_due_us = self.round_due_us.max(now_us - ROUND_US);
        while self.rounds > 0 && self.round_due_us <= now_us {
            let heard = (self.source)(self.now_us, self.round_due_us);
            self.now_us = self.round_due_us.max(self.now_us);
            self.round_due_us += ROUND_US;
            self.rounds -= 1;
            if heard.is_empty() {
                self.say(frame(1, FAILED, &[NO_TAG]));
            }
            for read in heard {
                let dbm = (read.rssi_cdbm / 100).clamp(i8::MIN.into(), i8::MAX.into()) as i8;
                let mut notice = tag(dbm, read.tag.bytes());
                if self.dice.chance(self.faults.wrong_sum) {
                    if let Some(sum) = notice.iter_mut().rev().nth(1) {
                        *sum = sum.wrapping_add(1);
                    }
                    self.spoiled += 1;
                } else {
                    self.told += 1;
                }
                self.say(notice);
            }
        }
    }

    fn say(&mut self, frame: Vec<u8>) {
        if self.faults.mute || self.out.len() + frame.len() > OUT_BYTES_MAX {
            return;
        }
        if self.dice.chance(self.faults.noise) {
            let noise = (0..=self.dice.below(8)).map(|_| self.dice.bits() as u8);
            // A begin byte in it would hide what follows until its length is over, and the count of tags with it.
            let noise: Vec<u8> = noise.filter(|byte| ![0xBB, 0xAA].contains(byte)).collect();
            self.out.extend(noise);
        }
        self.out.extend(frame);
    }

    /// What goes out now.
    pub fn outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llrp::crowd;
    use device_profiles::r200::Deframer;

    const MULTI: [u8; 10] = [0xBB, 0, 0x27, 0, 3, 0x22, 0xFF, 0xFF, 0x4A, 0x7E];
    const STOP: [u8; 7] = [0xBB, 0, 0x28, 0, 0, 0x28, 0x7E];

    fn tags(bytes: &[u8]) -> u64 {
        let whole = Deframer::default().push(bytes);
        let (frames, _) = device_profiles::r200::frames(&whole);
        frames.iter().filter(|frame| matches!(frame.heard(), Some(Ok(_)))).count() as u64
    }

    #[test]
    fn it_makes_rounds_when_told_and_until_told() {
        let mut module = Module::new(crowd(1, 5, 1, 100.0), 1, 0);
        module.advance(1_000_000);
        assert!(module.outgoing().is_empty(), "nobody has asked");
        module.receive(&MULTI);
        for step in 1..=100 {
            module.advance(1_000_000 + step * 10_000);
        }
        assert_eq!(u32::from(u16::MAX) - module.rounds(), 20);
        let said = module.outgoing();
        assert!((90..=100).contains(&module.told), "{}", module.told);
        assert_eq!(tags(&said), module.told);
        module.receive(&STOP);
        assert_eq!(module.outgoing(), [0xBB, 1, 0x28, 0, 1, 0, 0x2A, 0x7E]);
        module.advance(3_000_000);
        assert!(module.outgoing().is_empty());
    }

    #[test]
    fn silence_and_settings_are_answered() {
        let mut module = Module::new(crowd(1, 1, 1, 0.0), 1, 0);
        module.receive(&[0xBB, 0, 0x22, 0, 0, 0x22, 0x7E]);
        module.advance(ROUND_US);
        assert_eq!(module.outgoing(), [0xBB, 1, 0xFF, 0, 1, 0x15, 0x16, 0x7E]);
        module.receive(&[0xBB, 0, 0x07, 0, 1, 3, 0x0B, 0x7E]);
        assert_eq!((module.region(), module.outgoing().len()), (3, 8));
        module.receive(&[0xBB, 0, 0x03, 0, 1, 2, 0x06, 0x7E]);
        assert!(module.outgoing().windows(9).any(|w| w == b"simulator"));
    }

    #[test]
    fn what_is_spoiled_is_not_heard_and_the_rest_is() {
        let mut module = Module::new(crowd(1, 5, 1, 200.0), 1, 0);
        module.faults = Faults { noise: 0.5, wrong_sum: 0.2, mute: false };
        module.receive(&MULTI);
        let mut said = Vec::new();
        for step in 1..=100 {
            module.advance(step * ROUND_US);
            said.extend(module.outgoing());
        }
        assert!(module.spoiled > 100 && module.told > 500, "{} {}", module.spoiled, module.told);
        assert_eq!(tags(&said), module.told);
    }
}
