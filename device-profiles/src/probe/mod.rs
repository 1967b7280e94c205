//! Probing: which profile reads a device that nobody named, and where its mass is when none does.
//!
//! ```text
//!  images of a profile's own polls ─► judge  ─► Judgement: verdict, points, a reason for each
//!  registers in small blocks ───────► search ─► Guess: where, type, order, unit ─► proposal: a profile's text
//! ```
//!
//! Pure: whoever holds the line reads, and hands what came to these functions. Nothing here ever writes, and nothing decides:
//! candidates are ranked and each says why, and equal ones are told as equal. What lies on the scale ([`Expected`]) is what
//! tells a mass from any other number; a weight that is known tells far more than a range.

pub mod judge;
pub mod proposal;
pub mod search;
pub mod sweep;

use crate::units::Milligrams;

pub use judge::{Judgement, Look, Reason, ScaleSeen, Verdict, judge};
pub use proposal::{Origin, proposal};
pub use search::{Guess, Words, equals, search};
pub use sweep::{halves, sweep};

/// A mass may differ from what is known to lie there by so many thousandths …
const TOLERANCE_PERMILLE: i64 = 20;
/// … or by so many milligrams, whichever is more: the platform, and a calibration that is not the best.
const TOLERANCE_MG: i64 = 2_000;

/// What is known of the mass on the scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Nothing,
    /// It lies in a range, both ends included.
    Between(Milligrams, Milligrams),
    /// It is known.
    Known(Milligrams),
}

impl Expected {
    /// How far a mass may be from a known one.
    pub fn tolerance(known: Milligrams) -> Milligrams {
        Milligrams((known.0.saturating_abs() / 1_000 * TOLERANCE_PERMILLE).max(TOLERANCE_MG))
    }

    /// Whether a mass can be the one that lies there.
    pub fn allows(self, mass: Milligrams) -> bool {
        match self {
            Self::Nothing => true,
            Self::Between(min, max) => (min..=max).contains(&mass),
            Self::Known(known) => {
                mass.0.abs_diff(known.0) <= Self::tolerance(known).0.unsigned_abs()
            }
        }
    }
}

/// Milligrams as a person writes grams.
pub(crate) fn grams(mass: Milligrams) -> String {
    let (sign, mg) = (if mass.0 < 0 { "-" } else { "" }, mass.0.unsigned_abs());
    let text = format!("{sign}{}.{:03}", mg / 1_000, mg % 1_000);
    format!("{} g", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grams_are_written_short() {
        for (mg, text) in [(0, "0 g"), (1_500_000, "1500 g"), (-1_250, "-1.25 g"), (7, "0.007 g")] {
            assert_eq!(grams(Milligrams(mg)), text);
        }
    }

    #[test]
    fn a_known_mass_has_a_tolerance() {
        let known = Expected::Known(Milligrams(1_500_000));
        assert!(known.allows(Milligrams(1_529_000)) && !known.allows(Milligrams(1_531_000)));
        let light = Expected::Known(Milligrams(10_000));
        assert!(light.allows(Milligrams(11_900)) && !light.allows(Milligrams(12_100)));
    }
}
