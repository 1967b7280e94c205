//! A unit: its make, what its scales show now, and how it answers a request.

use crate::modbus::{
    fault::{Fault, Faults},
    make::Make,
    pdu::{Answer, Ask},
};
use std::collections::BTreeMap;

/// Exception: no such function.
const ILLEGAL_FUNCTION: u8 = 1;
/// Exception: no such register.
const ILLEGAL_ADDRESS: u8 = 2;
/// Exception: more than the device gives.
const ILLEGAL_VALUE: u8 = 3;
/// Exception: the device is busy.
const BUSY: u8 = 6;
/// Registers a device has.
const REGISTERS: u32 = 0x2100;

/// What a scale shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scale {
    /// Gross mass, mg.
    pub mg: i64,
    /// It holds still.
    pub stable: bool,
    /// More lies on it than it can weigh.
    pub overload: bool,
    /// Its cell is broken.
    pub broken: bool,
}

impl Scale {
    /// Grams, rounded as a display does.
    #[must_use]
    pub fn grams(self) -> i64 {
        (self.mg as f64 / 1e3).round() as i64
    }
}

/// A unit on a bus.
#[derive(Debug)]
pub struct Bank {
    make: Make,
    /// What each scale shows; until all show something the device is starting up, and says that it is busy.
    pub scales: Vec<Option<Scale>>,
    /// Faults it has.
    pub faults: Faults,
    written: BTreeMap<u16, u16>,
    /// Registers as they were when it got stuck.
    stuck: Option<BTreeMap<u16, u16>>,
}

impl Bank {
    /// A unit that is starting up.
    #[must_use]
    pub fn new(make: Make, faults: Faults) -> Self {
        let scales = vec![None; make.channels().len()];
        Self { make, scales, faults, written: BTreeMap::new(), stuck: None }
    }

    /// Its make.
    #[must_use]
    pub fn make(&self) -> Make {
        self.make
    }

    /// Its answer to a request `ms` after it was switched on, and the fault that strikes it.
    pub fn answer(&mut self, ask: &Ask, ms: u64) -> (Answer, Option<Fault>) {
        let Some(scales) = self.scales.iter().copied().collect::<Option<Vec<Scale>>>() else {
            return (Answer::Exception(BUSY), None);
        };
        let fault = self.faults.strike();
        if fault == Some(Fault::Stuck) && self.stuck.is_none() {
            self.stuck = Some(self.make.registers(&scales, ms));
        }
        let answer = match ask {
            Ask::Read { function: 3 | 4, start, count } => {
                let end = u32::from(*start) + u32::from(*count);
                if *count == 0 || *count > self.make.registers_max() {
                    Answer::Exception(ILLEGAL_VALUE)
                } else if end > REGISTERS {
                    Answer::Exception(ILLEGAL_ADDRESS)
                } else {
                    let held = match &self.stuck {
                        Some(stuck) => stuck.clone(),
                        None => self.make.registers(&scales, ms),
                    };
                    let word =
                        |at: u16| held.get(&at).or(self.written.get(&at)).copied().unwrap_or(0);
                    Answer::Words((0..*count).map(|i| word(start + i)).collect())
                }
            }
            Ask::Read { .. } => Answer::Exception(ILLEGAL_FUNCTION),
            Ask::Write { start, words } => {
                for (at, word) in (*start..).zip(words) {
                    self.written.insert(at, *word);
                }
                Answer::Written
            }
            Ask::Unknown => Answer::Exception(ILLEGAL_FUNCTION),
        };
        match fault {
            Some(Fault::Exception) => (Answer::Exception(BUSY), fault),
            _ => (answer, fault),
        }
    }
}
