//! The watch: what a cell shows raw, whether it stands still by the fold's own detector, and why it cannot be used.

use std::collections::VecDeque;

use device_profiles::{
    CellFault, Milligrams,
    profile::{Kind, Stream},
};
use fold::{
    HubTime,
    plateau::{Detector, Rule, Sample},
};

use super::wizard::Cell;

/// A reading older than this says nothing about now, in milliseconds.
const FRESH_MS: i64 = 30_000;
/// Readings of the last moments of which the spread is told.
const RECENT_READINGS_MAX: usize = 16;
/// How far back these moments go, in microseconds.
const RECENT_US: i64 = 2_000_000;
/// Settling time and samples of a device whose stream does not say, as profiles have them by default.
const SETTLE: (u32, u16) = (300, 3);

/// Why a cell cannot be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No reading since the wizard began, or none for so many milliseconds.
    Silent(Option<i64>),
    /// Its device is revoked, or does not answer on its bus.
    Unreachable,
    /// Its device repeats an old measurement.
    Frozen,
    /// Its device says what is wrong.
    Fault(CellFault),
    /// It shows more than it can weigh.
    Overload,
    /// It does not stand still.
    Moving,
}

impl Trouble {
    /// Stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent(_) => "silent",
            Self::Unreachable => "unreachable",
            Self::Frozen => "frozen",
            Self::Fault(fault) => fault.as_str(),
            Self::Overload => "overload",
            Self::Moving => "moving",
        }
    }
}

/// What a cell shows now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Live {
    /// The raw reading, and when it came.
    pub raw: Option<(Milligrams, HubTime)>,
    /// The device's own stability flag.
    pub stable: Option<bool>,
    /// Where it stands still; nothing while it cannot be used.
    pub settled: Option<Milligrams>,
    /// Why it cannot be used.
    pub trouble: Option<Trouble>,
    /// How far the readings of the last moments lie apart.
    pub spread: Milligrams,
    /// How far they may.
    pub wanted: Milligrams,
}

/// A cell that is watched.
#[derive(Debug)]
pub struct Watch {
    rule: Rule,
    capacity: Option<i64>,
    detector: Detector,
    last: Option<Reading>,
    recent: VecDeque<(HubTime, i64)>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: HubTime,
    raw: i64,
    stable: Option<bool>,
    fault: Option<CellFault>,
}

impl Watch {
    /// Begins to watch a cell.
    pub fn new(cell: &Cell) -> Self {
        let division = cell.division_mg as f64;
        let (settle_ms, samples) = SETTLE;
        let rule = Rule {
            settle_us: i64::from(settle_ms) * 1_000,
            settle_samples: u32::from(samples),
            division,
            // What lies there is a weight and no goods.
            lightest: None,
        };
        Self {
            rule,
            capacity: cell.capacity_mg,
            detector: Detector::new(cell.noise_mg as f64, division),
            last: None,
            recent: VecDeque::new(),
        }
    }

    /// Takes a reading.
    pub fn see(
        &mut self,
        stream: Option<&Stream>,
        at: HubTime,
        mass: Milligrams,
        stable: Option<bool>,
        fault: Option<CellFault>,
    ) {
        if let Some(Kind::Weight(weight)) = stream.map(|stream| &stream.kind) {
            self.rule.settle_us = i64::from(weight.settle_ms) * 1_000;
            self.rule.settle_samples = u32::from(weight.settle_samples);
        }
        self.last = Some(Reading { at, raw: mass.0, stable, fault });
        if fault.is_some() {
            self.detector.disturb();
            self.recent.clear();
            return;
        }
        self.detector.sample(&self.rule, &Sample { at, offset: 0, net: mass.0, stable });
        if self.recent.len() == RECENT_READINGS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((at, mass.0));
    }

    /// Time passed: a device that speaks only on change may have settled.
    pub fn tick(&mut self, now: HubTime) {
        self.detector.tick(&self.rule, now);
    }

    /// What it shows now.
    pub fn live(&self, now: HubTime) -> Live {
        // The detector passes over a single wild sample; here one that is not where the cell stood is the beginning of a move.
        let band = self.detector.band(&self.rule);
        let near = |reference: &f64| {
            self.last.is_some_and(|last| (last.raw as f64 - reference).abs() <= band)
        };
        let settled = self.detector.reference().filter(near).filter(|_| self.detector.is_settled());
        let trouble = match self.last {
            None => Some(Trouble::Silent(None)),
            Some(last) if now.since_us(last.at) > FRESH_MS * 1_000 => {
                Some(Trouble::Silent(Some(now.since_us(last.at) / 1_000)))
            }
            Some(Reading { fault: Some(fault), .. }) => Some(Trouble::Fault(fault)),
            Some(last) if self.capacity.is_some_and(|most| last.raw > most) => {
                Some(Trouble::Overload)
            }
            Some(_) if settled.is_none() => Some(Trouble::Moving),
            Some(_) => None,
        };
        let newest = self.recent.back().map_or(now, |(at, _)| *at);
        let late = self.recent.iter().filter(|(at, _)| newest.since_us(*at) <= RECENT_US);
        let masses = late.map(|(_, raw)| *raw);
        let (least, most) =
            masses.fold((i64::MAX, i64::MIN), |(least, most), raw| (least.min(raw), most.max(raw)));
        Live {
            raw: self.last.map(|last| (Milligrams(last.raw), last.at)),
            stable: self.last.and_then(|last| last.stable),
            settled: settled
                .filter(|_| trouble.is_none())
                .map(|mass| Milligrams(mass.round() as i64)),
            trouble,
            spread: Milligrams(most.saturating_sub(least).max(0)),
            wanted: Milligrams(band.round() as i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(capacity_mg: Option<i64>) -> Watch {
        Watch::new(&Cell { capacity_mg, ..Cell::sample() })
    }

    fn show(watch: &mut Watch, from_ms: i64, masses: impl IntoIterator<Item = i64>) -> HubTime {
        let mut at = HubTime(from_ms * 1_000);
        for mass in masses {
            watch.see(None, at, Milligrams(mass), None, None);
            at = at.plus_us(100_000);
        }
        at
    }

    #[test]
    fn it_stands_still_where_the_fold_would_say_so() {
        let mut watch = watch(None);
        assert_eq!(watch.live(HubTime(0)).trouble, Some(Trouble::Silent(None)));
        let now = show(&mut watch, 0, (0..8).map(|i| i * 20_000));
        let live = watch.live(now);
        assert_eq!((live.trouble, live.settled), (Some(Trouble::Moving), None));
        assert!(live.spread > live.wanted, "{live:?}");
        let now = show(&mut watch, 1_000, [140_000; 8]);
        let live = watch.live(now);
        assert_eq!((live.trouble, live.settled), (None, Some(Milligrams(140_000))));
        let silent = watch.live(now.plus_us(31_000_000));
        assert_eq!(silent.settled, None);
        assert!(matches!(silent.trouble, Some(Trouble::Silent(Some(31_000..)))));
    }

    #[test]
    fn the_first_reading_elsewhere_ends_the_rest() {
        let mut watch = watch(None);
        let now = show(&mut watch, 0, [140_000; 8]);
        assert_eq!(watch.live(now).settled, Some(Milligrams(140_000)));
        let now = show(&mut watch, 1_000, [640_000]);
        assert_eq!(watch.live(now).trouble, Some(Trouble::Moving), "not the reading before");
        let now = show(&mut watch, 1_100, [640_000; 8]);
        assert_eq!(watch.live(now).settled, Some(Milligrams(640_000)));
    }

    #[test]
    fn a_fault_and_an_overload_are_told() {
        let mut watch = watch(Some(1_000_000));
        let now = show(&mut watch, 0, [500_000; 8]);
        watch.see(None, now, Milligrams(0), Some(false), Some(CellFault::Underload));
        let live = watch.live(now);
        assert_eq!(live.trouble, Some(Trouble::Fault(CellFault::Underload)));
        assert_eq!(live.settled, None);
        let now = show(&mut watch, 2_000, [1_200_000; 8]);
        assert_eq!(watch.live(now).trouble, Some(Trouble::Overload));
    }
}
