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

/// Whether a unit has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It has none, and says nothing.
    Off,
    /// It shows zero and is not stable, whatever lies on it.
    Starting,
    /// It measures.
    On,
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
    power: Power,
    /// When it was switched on, by the time of [`Bank::answer`]; absent until it is asked the first time after that.
    on_ms: Option<u64>,
    /// Its registers shall stand still.
    sticks: bool,
    /// Registers as they were when it got stuck.
    stuck: Option<BTreeMap<u16, u16>>,
}

impl Bank {
    /// A unit that was switched on at time 0 and is starting up.
    #[must_use]
    pub fn new(make: Make, faults: Faults) -> Self {
        let scales = vec![None; make.channels().len()];
        Self {
            make,
            scales,
            faults,
            written: BTreeMap::new(),
            power: Power::On,
            on_ms: Some(0),
            sticks: false,
            stuck: None,
        }
    }

    /// Switches its power. Without power it forgets what was written, and its counters begin again.
    pub fn switch(&mut self, power: Power) {
        if self.power == Power::Off && power != Power::Off {
            self.written.clear();
            self.stuck = None;
            self.on_ms = None;
        }
        self.power = power;
    }

    /// Lets its registers stand still, or move again.
    pub fn stick(&mut self, sticks: bool) {
        self.sticks = sticks;
        self.stuck = None;
    }

    /// Its make.
    #[must_use]
    pub fn make(&self) -> Make {
        self.make
    }

    /// Its answer to a request at a time, and the fault that strikes it.
    pub fn answer(&mut self, ask: &Ask, now_ms: u64) -> (Answer, Option<Fault>) {
        if self.power == Power::Off {
            return (Answer::Exception(BUSY), Some(Fault::Silence));
        }
        let ms = now_ms.saturating_sub(*self.on_ms.get_or_insert(now_ms));
        let Some(mut scales) = self.scales.iter().copied().collect::<Option<Vec<Scale>>>() else {
            return (Answer::Exception(BUSY), None);
        };
        if self.power == Power::Starting {
            scales.fill(Scale::default());
        }
        let fault = self.faults.strike();
        if (self.sticks || fault == Some(Fault::Stuck)) && self.stuck.is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of Flintec's mass and counter, and whether it is stable.
    fn flintec(bank: &mut Bank, ms: u64) -> Option<(u16, u16, bool)> {
        let ask = Ask::Read { function: 3, start: 0, count: 12 };
        match bank.answer(&ask, ms) {
            (Answer::Words(words), None) => Some((words[5], words[11], words[7] & 4 == 0)),
            _ => None,
        }
    }

    #[test]
    fn a_power_cycle_is_silence_then_zero_then_a_counter_that_began_again() {
        let mut bank = Bank::new(Make::FlintecFt112, Faults::none());
        let shown = Scale { mg: 500_000, stable: true, ..Scale::default() };
        bank.scales[0] = Some(shown);
        assert_eq!(flintec(&mut bank, 9_000), Some((500, 90, true)));
        bank.switch(Power::Off);
        assert_eq!(flintec(&mut bank, 10_000), None);
        bank.switch(Power::Starting);
        assert_eq!(flintec(&mut bank, 20_000), Some((0, 0, false)));
        bank.switch(Power::On);
        assert_eq!(flintec(&mut bank, 21_000), Some((500, 10, true)));
    }

    #[test]
    fn a_stuck_unit_repeats_itself_until_it_is_loose() {
        let mut bank = Bank::new(Make::FlintecFt112, Faults::none());
        bank.scales[0] = Some(Scale { mg: 500_000, stable: true, ..Scale::default() });
        bank.stick(true);
        assert_eq!(flintec(&mut bank, 1_000), Some((500, 10, true)));
        bank.scales[0] = Some(Scale { mg: 300_000, stable: true, ..Scale::default() });
        assert_eq!(flintec(&mut bank, 2_000), Some((500, 10, true)));
        bank.stick(false);
        assert_eq!(flintec(&mut bank, 3_000), Some((300, 30, true)));
    }
}
