//! The wizard: what was measured so far, and what may come next. Pure: time and readings come in.
//!
//! A step may be taken again: what was measured after it is then void. Each step that is taken lets the wizard rest anew.

use device_profiles::limits::MASS_MG_MAX;
use fold::{HubTime, limits::SCALE_PPM_MAX};

use super::Key;

/// A known weight must change the reading by so many divisions: with fewer the scale is a guess.
const WEIGHT_DIVISIONS_MIN: i64 = 50;
/// … and by so many standard errors of a reading.
const WEIGHT_NOISES_MIN: i64 = 20;
/// A verification may be off by so many divisions, when nobody said how many milligrams …
const TOLERANCE_DIVISIONS: i64 = 2;
/// … or by this part of the known weight, whichever is more: one in so many.
const TOLERANCE_PART: i64 = 500;

/// The cell that is calibrated, as it is enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Its facility.
    pub facility: String,
    /// Its device.
    pub device: String,
    /// Its channel.
    pub channel: String,
    /// The slot it carries.
    pub slot: String,
    /// Smallest step it shows, milligrams.
    pub division_mg: i64,
    /// Standard error of a settled reading, milligrams.
    pub noise_mg: i64,
    /// Full scale, milligrams.
    pub capacity_mg: Option<i64>,
    /// What its device's bytes mean.
    pub profile: String,
    /// When its device was enrolled, microseconds since the Unix epoch: another one of its name is another.
    pub enrolled_at_us: i64,
}

impl Cell {
    /// One to test with.
    #[cfg(test)]
    pub fn sample() -> Self {
        Self {
            facility: "f".into(),
            device: "d".into(),
            channel: "0".into(),
            slot: "s".into(),
            division_mg: 1_000,
            noise_mg: 500,
            capacity_mg: None,
            profile: "default".into(),
            enrolled_at_us: 0,
        }
    }

    /// What it is known by.
    pub fn key(&self) -> Key {
        (self.device.clone(), self.channel.clone())
    }
}

/// A calibration: mass = (raw − zero) × scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values {
    /// Raw reading of the empty slot, milligrams.
    pub zero_mg: i64,
    /// Scale in millionths.
    pub scale_ppm: i64,
}

impl Values {
    /// The mass of a raw reading, milligrams; as the fold has it.
    pub fn net(self, raw_mg: i64) -> i64 {
        let scaled = (i128::from(raw_mg) - i128::from(self.zero_mg)) * i128::from(self.scale_ppm)
            / 1_000_000;
        i64::try_from(scaled).unwrap_or(if scaled < 0 { i64::MIN } else { i64::MAX })
    }
}

/// What a verification showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// What lay there.
    pub known_mg: i64,
    /// What the new calibration made of it.
    pub shown_mg: i64,
    /// How far it may be off.
    pub tolerance_mg: i64,
}

impl Check {
    /// Shown less known, milligrams.
    pub fn error_mg(self) -> i64 {
        self.shown_mg.saturating_sub(self.known_mg)
    }
    /// It is within its tolerance.
    pub fn is_good(self) -> bool {
        self.error_mg().saturating_abs() <= self.tolerance_mg
    }
}

/// How far a wizard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Waits for the reading of the empty slot.
    Empty,
    /// Waits for that of a known weight.
    Weight {
        /// Raw reading of the empty slot.
        zero_mg: i64,
    },
    /// Waits to be verified.
    Verify {
        /// The calibration that was measured.
        values: Values,
        /// The weight it was measured with.
        known_mg: i64,
    },
    /// May be applied, if the check is good.
    Apply {
        /// The calibration that was measured.
        values: Values,
        /// The weight it was measured with.
        known_mg: i64,
        /// What verifying showed.
        check: Check,
    },
}

impl Step {
    /// Stable name of what comes next.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Weight { .. } => "weight",
            Self::Verify { .. } => "verify",
            Self::Apply { .. } => "apply",
        }
    }

    /// Raw reading of the empty slot.
    pub fn zero_mg(self) -> Option<i64> {
        match self {
            Self::Empty => None,
            Self::Weight { zero_mg } => Some(zero_mg),
            Self::Verify { values, .. } | Self::Apply { values, .. } => Some(values.zero_mg),
        }
    }

    /// The calibration that was measured.
    pub fn values(self) -> Option<Values> {
        match self {
            Self::Empty | Self::Weight { .. } => None,
            Self::Verify { values, .. } | Self::Apply { values, .. } => Some(values),
        }
    }
}

/// Why a step was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another step comes first.
    #[error("first comes {0}")]
    Order(&'static str),
    /// The weight changes the reading too little, or is too light itself.
    #[error(
        "the reading changed by {changed_mg} mg under a weight of {known_mg} mg; a calibration needs at least {least_mg} mg of both"
    )]
    TooLight {
        /// By how much the reading changed.
        changed_mg: i64,
        /// The weight that was named.
        known_mg: i64,
        /// How much is needed.
        least_mg: i64,
    },
    /// The reading fell.
    #[error("the reading fell by {0} mg when the weight was put on")]
    Fell(i64),
    /// The scale would be beyond what a cell can have.
    #[error("the weight would need a scale of {0} millionths")]
    Scale(i128),
    /// The check was not good.
    #[error("it shows {shown_mg} mg for {known_mg} mg, and may be off by {tolerance_mg} mg", shown_mg = .0.shown_mg, known_mg = .0.known_mg, tolerance_mg = .0.tolerance_mg)]
    Off(Check),
}

/// A wizard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wizard {
    /// The cell.
    pub cell: Cell,
    /// Who began it.
    pub principal: String,
    /// How far it is.
    pub step: Step,
    tolerance_mg: Option<i64>,
    idle_us: i64,
    until: HubTime,
}

impl Wizard {
    /// Begins.
    pub fn new(
        cell: Cell,
        principal: String,
        tolerance_mg: Option<i64>,
        idle_s: u32,
        now: HubTime,
    ) -> Self {
        let idle_us = i64::from(idle_s) * 1_000_000;
        let until = now.plus_us(idle_us);
        Self { cell, principal, step: Step::Empty, tolerance_mg, idle_us, until }
    }

    /// When it is dropped unless a step is taken.
    pub fn until(&self) -> HubTime {
        self.until
    }

    /// It rested too long.
    pub fn is_over(&self, now: HubTime) -> bool {
        now >= self.until
    }

    /// How far the figure for a known weight may be off.
    pub fn tolerance_mg(&self, known_mg: i64) -> i64 {
        let usual = (known_mg / TOLERANCE_PART)
            .max(self.cell.division_mg.saturating_mul(TOLERANCE_DIVISIONS));
        self.tolerance_mg.unwrap_or(usual)
    }

    fn go(&mut self, step: Step, now: HubTime) {
        self.step = step;
        self.until = now.plus_us(self.idle_us);
    }

    /// The slot is empty and the cell stands still at this reading.
    pub fn empty(&mut self, raw_mg: i64, now: HubTime) {
        self.go(Step::Weight { zero_mg: raw_mg }, now);
    }

    /// A known weight lies there and the cell stands still at this reading.
    pub fn weight(&mut self, raw_mg: i64, known_mg: i64, now: HubTime) -> Result<(), Refusal> {
        let zero_mg = self.step.zero_mg().ok_or(Refusal::Order("empty"))?;
        let changed_mg = raw_mg.saturating_sub(zero_mg);
        let least_mg = (self.cell.division_mg.saturating_mul(WEIGHT_DIVISIONS_MIN))
            .max(self.cell.noise_mg.saturating_mul(WEIGHT_NOISES_MIN));
        if changed_mg <= -least_mg {
            return Err(Refusal::Fell(-changed_mg));
        }
        if changed_mg < least_mg || known_mg < least_mg {
            return Err(Refusal::TooLight { changed_mg, known_mg, least_mg });
        }
        // Halves are rounded up; both are above zero.
        let (known, changed) = (i128::from(known_mg), i128::from(changed_mg));
        let scale = (known * 1_000_000 + changed / 2) / changed;
        let scale_ppm = i64::try_from(scale).ok().filter(|ppm| (1..=SCALE_PPM_MAX).contains(ppm));
        let scale_ppm = scale_ppm.ok_or(Refusal::Scale(scale))?;
        if zero_mg.saturating_abs() > MASS_MG_MAX {
            return Err(Refusal::Scale(scale));
        }
        self.go(Step::Verify { values: Values { zero_mg, scale_ppm }, known_mg }, now);
        Ok(())
    }

    /// Looks at a weight with the new calibration: another one, or the same put on once more.
    pub fn verify(
        &mut self,
        raw_mg: i64,
        weight_mg: Option<i64>,
        now: HubTime,
    ) -> Result<Check, Refusal> {
        let (Step::Verify { values, known_mg } | Step::Apply { values, known_mg, .. }) = self.step
        else {
            return Err(Refusal::Order(self.step.as_str()));
        };
        let checked_mg = weight_mg.unwrap_or(known_mg);
        let tolerance_mg = self.tolerance_mg(checked_mg);
        let check = Check { known_mg: checked_mg, shown_mg: values.net(raw_mg), tolerance_mg };
        self.go(Step::Apply { values, known_mg, check }, now);
        Ok(check)
    }

    /// What is to be applied.
    pub fn apply(&self) -> Result<(Values, i64, Check), Refusal> {
        match self.step {
            Step::Apply { values, known_mg, check } if check.is_good() => {
                Ok((values, known_mg, check))
            }
            Step::Apply { check, .. } => Err(Refusal::Off(check)),
            Step::Empty | Step::Weight { .. } | Step::Verify { .. } => {
                Err(Refusal::Order(self.step.as_str()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: HubTime = HubTime(1_000_000);

    fn wizard() -> Wizard {
        let cell = Cell::sample();
        Wizard::new(cell, "ann".into(), None, 60, NOW)
    }

    #[test]
    fn empty_weight_verify_apply() {
        let mut wizard = wizard();
        assert_eq!(wizard.weight(1, 1, NOW), Err(Refusal::Order("empty")));
        assert_eq!(wizard.verify(1, None, NOW), Err(Refusal::Order("empty")));
        wizard.empty(1_000_000, NOW);
        assert_eq!(wizard.verify(1, None, NOW), Err(Refusal::Order("weight")));
        wizard.weight(1_250_000, 500_000, NOW).unwrap();
        let values = wizard.step.values().unwrap();
        assert_eq!(values, Values { zero_mg: 1_000_000, scale_ppm: 2_000_000 });
        assert_eq!(wizard.apply(), Err(Refusal::Order("verify")));
        let off = wizard.verify(1_249_000, None, NOW).unwrap();
        assert_eq!((off.error_mg(), off.tolerance_mg, off.is_good()), (-2_000, 2_000, true));
        let off = wizard.verify(1_240_000, None, NOW).unwrap();
        assert!(!off.is_good());
        assert_eq!(wizard.apply(), Err(Refusal::Off(off)));
        // Another weight checks more than the same.
        let good = wizard.verify(1_100_000, Some(200_000), NOW).unwrap();
        assert_eq!((good.shown_mg, good.is_good()), (200_000, true));
        assert_eq!(wizard.apply(), Ok((values, 500_000, good)));
        // A step taken again makes void what came after it.
        wizard.empty(1_000_500, NOW);
        assert_eq!(wizard.apply(), Err(Refusal::Order("weight")));
    }

    #[test]
    fn weights_that_tell_nothing_are_refused() {
        let mut wizard = wizard();
        wizard.empty(0, NOW);
        let too_light = wizard.weight(49_000, 500_000, NOW).unwrap_err();
        assert!(matches!(too_light, Refusal::TooLight { least_mg: 50_000, .. }), "{too_light}");
        assert!(matches!(wizard.weight(60_000, 40_000, NOW), Err(Refusal::TooLight { .. })));
        assert_eq!(wizard.weight(-80_000, 500_000, NOW), Err(Refusal::Fell(80_000)));
        let huge = wizard.weight(50_000, 60_000_000_000_000, NOW);
        assert!(matches!(huge, Err(Refusal::Scale(_))), "{huge:?}");
        assert_eq!(wizard.step, Step::Weight { zero_mg: 0 });
    }

    #[test]
    fn a_step_lets_it_rest_anew() {
        let mut wizard = wizard();
        assert!(
            !wizard.is_over(NOW.plus_us(59_999_999)) && wizard.is_over(NOW.plus_us(60_000_000))
        );
        wizard.empty(0, NOW.plus_us(50_000_000));
        assert!(!wizard.is_over(NOW.plus_us(100_000_000)));
        assert_eq!(wizard.until(), NOW.plus_us(110_000_000));
    }
}
