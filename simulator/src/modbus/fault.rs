//! What goes wrong on a bus, drawn for each request.

use crate::random::Stream;
use serde::Deserialize;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer comes after the master has given up.
    Late,
    /// The answer is another unit's.
    Foreign,
    /// The answer has a register too few.
    Short,
    /// The answer has a register too many.
    Long,
    /// A byte of the answer is wrong.
    Corrupt,
    /// The device is busy.
    Exception,
    /// No answer.
    Silence,
    /// From now on the registers stand still.
    Stuck,
}

/// How often each fault strikes, as the probability a request.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultSpec {
    /// See [`Fault::Late`].
    pub late: f64,
    /// See [`Fault::Foreign`].
    pub foreign: f64,
    /// See [`Fault::Short`].
    pub short: f64,
    /// See [`Fault::Long`].
    pub long: f64,
    /// See [`Fault::Corrupt`].
    pub corrupt: f64,
    /// See [`Fault::Exception`].
    pub exception: f64,
    /// See [`Fault::Silence`].
    pub silence: f64,
    /// See [`Fault::Stuck`].
    pub stuck: f64,
    /// How late a late answer is, ms.
    pub late_ms: u32,
}

impl FaultSpec {
    fn all(&self) -> [(f64, Fault); 8] {
        [
            (self.late, Fault::Late),
            (self.foreign, Fault::Foreign),
            (self.short, Fault::Short),
            (self.long, Fault::Long),
            (self.corrupt, Fault::Corrupt),
            (self.exception, Fault::Exception),
            (self.silence, Fault::Silence),
            (self.stuck, Fault::Stuck),
        ]
    }

    /// The key and value of a probability that is none.
    #[must_use]
    pub fn bad(&self) -> Option<f64> {
        let sum: f64 = self.all().iter().map(|(p, _)| *p).sum();
        let wrong = |p: &f64| !(0.0..=1.0).contains(p);
        self.all().map(|(p, _)| p).into_iter().find(wrong).or((sum > 1.0).then_some(sum))
    }
}

/// The faults of a unit.
#[derive(Debug)]
pub struct Faults {
    spec: FaultSpec,
    dice: Stream,
    /// Faults that struck.
    pub struck: u64,
}

impl Faults {
    /// Faults of unit number `unit`.
    #[must_use]
    pub fn new(spec: FaultSpec, seed: u64, unit: u64) -> Self {
        Self { spec, dice: Stream::new(seed, "modbus fault", unit), struck: 0 }
    }

    /// A unit without faults.
    #[must_use]
    pub fn none() -> Self {
        Self::new(FaultSpec::default(), 0, 0)
    }

    /// The fault of the next request.
    pub fn strike(&mut self) -> Option<Fault> {
        let mut left = self.dice.uniform(0.0, 1.0);
        for (p, fault) in self.spec.all() {
            if left < p {
                self.struck += 1;
                return Some(fault);
            }
            left -= p;
        }
        None
    }

    /// How late a late answer is, ms.
    #[must_use]
    pub fn late_ms(&self) -> u32 {
        self.spec.late_ms
    }
}
