//! Calibration of load cells by a person: empty, a known weight, verify, apply.
//!
//! ```text
//!  frames ─► ingress ─► Watch (the fold's own detector, on raw readings) ─► stands still? at what?
//!                                                                              │
//!  person ─► API ─► Wizard: empty ─► weight ─► verify ─► apply ────────────────┴─► table calibration + publication
//!                   (pure)                                                          └─► journal ─► fold
//! ```
//! Nothing changes before `apply`: a wizard is a conversation in memory. It survives no restart and needs not to; one that
//! rests too long is dropped. While it lasts the cell goes on counting with the calibration it has, so whoever calibrates a
//! cell in use sees movements that are no goods, and zeroes or counts the slot when it is over.
//!
//! What is watched is the raw reading, before any calibration of the hub, because that is what a calibration is made of. It is
//! watched only while somebody calibrates.

mod watch;
mod wizard;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use device_profiles::{DeviceId, Measurement, Reading, profile::Stream};
use fold::HubTime;

pub use watch::{Live, Trouble, Watch};
pub use wizard::{Cell, Check, Refusal, Step, Values, Wizard};

/// Wizards at once.
pub const WIZARDS_MAX: usize = 64;
/// How long a wizard may rest between two steps, in seconds, when its beginner does not say.
pub const IDLE_SECONDS_DEFAULT: u32 = 900;
/// How long a wizard may rest between two steps, in seconds.
pub const IDLE_SECONDS_MAX: u32 = 3_600;

/// A cell: its device and its channel.
pub type Key = (String, String);

/// A wizard and the cell it looks at.
struct Bench {
    wizard: Wizard,
    watch: Watch,
}

/// A wizard that was taken out to be applied.
pub struct Taken(Bench);

impl Taken {
    /// The wizard.
    pub fn wizard(&self) -> &Wizard {
        &self.0.wizard
    }
}

/// The wizards under way.
#[derive(Default)]
pub struct Calibrations {
    benches: Mutex<BTreeMap<Key, Bench>>,
    /// How many there are: while there is none, a frame costs one look at this.
    count: AtomicUsize,
}

/// Why a wizard did not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// Somebody calibrates this cell.
    #[error("{by} calibrates this cell")]
    Taken {
        /// Who.
        by: String,
        /// Until when it is theirs, if nothing more is done.
        until: HubTime,
    },
    /// There are [`WIZARDS_MAX`] already.
    #[error("{WIZARDS_MAX} calibrations are under way")]
    Full,
}

impl Calibrations {
    /// Begins a wizard and tells how it stands.
    pub fn begin(&self, wizard: Wizard, now: HubTime) -> Result<(Wizard, Live), Busy> {
        let mut benches = self.benches.lock().unwrap_or_else(PoisonError::into_inner);
        benches.retain(|_, bench| !bench.wizard.is_over(now));
        let key = wizard.cell.key();
        if let Some(other) = benches.get(&key) {
            let by = other.wizard.principal.clone();
            return Err(Busy::Taken { by, until: other.wizard.until() });
        }
        if benches.len() >= WIZARDS_MAX {
            return Err(Busy::Full);
        }
        let watch = Watch::new(&wizard.cell);
        let live = watch.live(now);
        benches.insert(key, Bench { wizard: wizard.clone(), watch });
        self.count.store(benches.len(), Relaxed);
        Ok((wizard, live))
    }

    /// Takes a step with the wizard of a cell and what its cell shows; `None` when there is none, or none any more.
    pub fn with<T>(
        &self,
        key: &Key,
        now: HubTime,
        step: impl FnOnce(&mut Wizard, &Live) -> T,
    ) -> Option<T> {
        let mut benches = self.benches.lock().unwrap_or_else(PoisonError::into_inner);
        benches.retain(|_, bench| !bench.wizard.is_over(now));
        self.count.store(benches.len(), Relaxed);
        let bench = benches.get_mut(key)?;
        bench.watch.tick(now);
        let live = bench.watch.live(now);
        Some(step(&mut bench.wizard, &live))
    }

    /// Takes the wizard of a cell out, so that what it measured is applied once; it stays when it may not be applied.
    pub fn take(&self, key: &Key, now: HubTime) -> Option<Result<Taken, Refusal>> {
        if let Err(refusal) = self.with(key, now, |wizard, _| wizard.apply())? {
            return Some(Err(refusal));
        }
        let mut benches = self.benches.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = benches.remove(key)?;
        self.count.store(benches.len(), Relaxed);
        Some(Ok(Taken(taken)))
    }

    /// Puts back a wizard that could not be applied, unless another was begun meanwhile.
    pub fn put_back(&self, Taken(bench): Taken) {
        let mut benches = self.benches.lock().unwrap_or_else(PoisonError::into_inner);
        benches.entry(bench.wizard.cell.key()).or_insert(bench);
        self.count.store(benches.len(), Relaxed);
    }

    /// Ends a wizard; false when there is none.
    pub fn end(&self, key: &Key) -> bool {
        let mut benches = self.benches.lock().unwrap_or_else(PoisonError::into_inner);
        let was_there = benches.remove(key).is_some();
        self.count.store(benches.len(), Relaxed);
        was_there
    }

    /// A reading of a device; looked at only if one of its cells is calibrated.
    pub fn see(&self, device: &DeviceId, stream: Option<&Stream>, reading: &Reading, now: HubTime) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        let mut benches = self.benches.lock().unwrap_or_else(PoisonError::into_inner);
        for measurement in &reading.measurements {
            let Measurement::Weight { channel, mass, stable, fault } = measurement else {
                continue;
            };
            let key = (device.to_string(), channel.to_string());
            if let Some(bench) = benches.get_mut(&key) {
                bench.watch.see(stream, now, *mass, *stable, *fault);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wizard(device: &str, now: HubTime) -> Wizard {
        let cell = Cell { device: device.into(), ..Cell::sample() };
        Wizard::new(cell, "ann".into(), None, 900, now)
    }

    #[test]
    fn a_cell_has_one_wizard_and_a_hub_so_many() {
        let (all, now) = (Calibrations::default(), HubTime(0));
        all.begin(wizard("d0", now), now).unwrap();
        let taken = all.begin(wizard("d0", now), now).unwrap_err();
        assert_eq!(taken, Busy::Taken { by: "ann".into(), until: HubTime(900_000_000) });
        for i in 1..WIZARDS_MAX {
            all.begin(wizard(&format!("d{i}"), now), now).unwrap();
        }
        assert_eq!(all.begin(wizard("more", now), now).unwrap_err(), Busy::Full);
        // Those that rested too long make room.
        let later = HubTime(900_000_001);
        all.begin(wizard("d0", later), later).unwrap();
        assert!(all.with(&("d1".into(), "0".into()), later, |_, _| ()).is_none());
        assert!(all.end(&("d0".into(), "0".into())) && !all.end(&("d0".into(), "0".into())));
    }

    #[test]
    fn what_was_measured_is_applied_once() {
        let (all, now) = (Calibrations::default(), HubTime(0));
        let key = ("d".to_owned(), "0".to_owned());
        assert!(all.take(&key, now).is_none());
        all.begin(wizard("d", now), now).unwrap();
        assert_eq!(all.take(&key, now).unwrap().err(), Some(Refusal::Order("empty")));
        let measure = |wizard: &mut Wizard, _: &Live| {
            wizard.empty(0, now);
            wizard.weight(500_000, 500_000, now).unwrap();
            wizard.verify(500_000, None, now).unwrap();
        };
        all.with(&key, now, measure).unwrap();
        let taken = all.take(&key, now).unwrap().unwrap_or_else(|refusal| panic!("{refusal}"));
        assert!(all.take(&key, now).is_none(), "nobody else applies it");
        all.put_back(taken);
        assert!(all.take(&key, now).is_some_and(|taken| taken.is_ok()), "it may be tried again");
    }
}
