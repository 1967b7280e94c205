//! Zones with readers: what kind of place they are, and how goods move there.

use device_profiles::ZoneId;
use serde::{Deserialize, Serialize};

/// What kind of place a zone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Personality {
    /// Goods lie here.
    #[default]
    Shelf,
    /// A door: who was heard outside last, and inside no more, has left.
    Exit,
    /// Goods that pass here and fall silent are sold.
    Sale,
    /// Goods are tried on here: bodies hide them, and they come back to where they were.
    Fitting,
}

impl Personality {
    /// Its name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shelf => "shelf",
            Self::Exit => "exit",
            Self::Sale => "sale",
            Self::Fitting => "fitting",
        }
    }

    /// How goods move there unless somebody says otherwise.
    pub fn mobility(self) -> Mobility {
        let shelf = Mobility::default();
        match self {
            Self::Shelf => shelf,
            Self::Exit => Mobility { stay_s: 10, quiet_ms: 1_500, ..shelf },
            Self::Sale => Mobility { stay_s: 30, quiet_ms: 5_000, ..shelf },
            Self::Fitting => Mobility { stay_s: 600, fade_permille: 40, fade_epochs: 30, ..shelf },
        }
    }
}

/// How goods move in a zone: the knobs of presence and place. All are whole numbers, so that a profile compares and travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mobility {
    /// A tag is present from this probability on, in thousandths.
    pub arrive_permille: u32,
    /// It is gone from this probability on, in thousandths.
    pub depart_permille: u32,
    /// How often a tag that is not there is read, in millionths per epoch of half a second.
    pub ghost_ppm: u32,
    /// How long goods stay, on the average, in seconds.
    pub stay_s: u32,
    /// How often a tag that is there fades, in thousandths per epoch.
    pub fade_permille: u32,
    /// How long a fade lasts, on the average, in epochs.
    pub fade_epochs: u32,
    /// Odds from which a tag is at another antenna and not where it was.
    pub move_odds: u32,
    /// It stays where it came to for so long at least, in milliseconds.
    pub dwell_ms: u32,
    /// At a door or point of sale: after so long without a read a tag has passed, in milliseconds.
    pub quiet_ms: u32,
}

impl Default for Mobility {
    fn default() -> Self {
        Self {
            arrive_permille: 950,
            depart_permille: 50,
            ghost_ppm: 3_000,
            stay_s: 120,
            fade_permille: 10,
            fade_epochs: 8,
            move_odds: 1_000,
            dwell_ms: 1_000,
            quiet_ms: 1_500,
        }
    }
}

/// A knob that is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{knob} must be {low} to {high}")]
pub struct OutOfRange {
    /// Which.
    pub knob: &'static str,
    /// Least value.
    pub low: u32,
    /// Greatest value.
    pub high: u32,
}

impl Mobility {
    /// Checks the knobs: outside these ranges the filter says nothing of use.
    pub fn check(&self) -> Result<(), OutOfRange> {
        for (knob, value, low, high) in [
            ("arrive_permille", self.arrive_permille, 500, 999),
            ("depart_permille", self.depart_permille, 1, 499),
            ("ghost_ppm", self.ghost_ppm, 10, 100_000),
            ("stay_s", self.stay_s, 2, 604_800),
            ("fade_permille", self.fade_permille, 0, 300),
            ("fade_epochs", self.fade_epochs, 2, 240),
            ("move_odds", self.move_odds, 2, 1_000_000),
            ("dwell_ms", self.dwell_ms, 0, 600_000),
            ("quiet_ms", self.quiet_ms, 500, 600_000),
        ] {
            if !(low..=high).contains(&value) {
                return Err(OutOfRange { knob, low, high });
            }
        }
        Ok(())
    }
}

/// A zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneSpec {
    /// Its id.
    pub id: ZoneId,
    /// What kind of place it is.
    pub personality: Personality,
    /// How goods move there; that of its personality when nobody said.
    pub mobility: Option<Mobility>,
}

impl ZoneSpec {
    /// The knobs in force; what is out of range was not written by a hub and does not count.
    pub fn mobility(&self) -> Mobility {
        self.mobility.filter(|m| m.check().is_ok()).unwrap_or(self.personality.mobility())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_personality_has_knobs_in_range() {
        for personality in
            [Personality::Shelf, Personality::Exit, Personality::Sale, Personality::Fitting]
        {
            assert_eq!(personality.mobility().check(), Ok(()), "{}", personality.as_str());
        }
        let wrong = Mobility { stay_s: 0, ..Mobility::default() };
        assert!(wrong.check().unwrap_err().to_string().starts_with("stay_s must be 2"));
    }
}
