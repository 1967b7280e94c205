//! Makes of weighing transmitters: where each keeps mass, stability, overload and heartbeat.
//!
//! A register map here is a function from what the scales show to registers, on wire addresses (manual number − 40001).

use crate::modbus::bank::Scale;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Make {
    /// Laumas TLB family.
    LaumasTlb,
    /// Dini Argeo DGT4X, four scales.
    DiniArgeoDgt4x,
    /// Seneca Z-SG.
    SenecaZSg,
    /// Flintec FT-112.
    #[serde(rename = "flintec-ft-112")]
    FlintecFt112,
    /// Baykon MX08.
    BaykonMx08,
    /// Tuna ID551PN.
    TunaId551pn,
    /// Eagle EI-4000, four scales.
    #[serde(rename = "eagle-ei-4000")]
    EagleEi4000,
}

impl Make {
    /// Every make.
    pub const ALL: [Self; 7] = [
        Self::LaumasTlb,
        Self::DiniArgeoDgt4x,
        Self::SenecaZSg,
        Self::FlintecFt112,
        Self::BaykonMx08,
        Self::TunaId551pn,
        Self::EagleEi4000,
    ];

    /// Name of the hub's profile for it.
    #[must_use]
    pub fn profile(self) -> &'static str {
        match self {
            Self::LaumasTlb => "laumas-tlb",
            Self::DiniArgeoDgt4x => "dini-argeo-dgt4x",
            Self::SenecaZSg => "seneca-z-sg",
            Self::FlintecFt112 => "flintec-ft-112",
            Self::BaykonMx08 => "baykon-mx08",
            Self::TunaId551pn => "tuna-id551pn",
            Self::EagleEi4000 => "eagle-ei-4000",
        }
    }

    /// Names of its channels, in the profile's words.
    #[must_use]
    pub fn channels(self) -> &'static [&'static str] {
        match self {
            Self::DiniArgeoDgt4x | Self::EagleEi4000 => &["1", "2", "3", "4"],
            Self::LaumasTlb
            | Self::SenecaZSg
            | Self::FlintecFt112
            | Self::BaykonMx08
            | Self::TunaId551pn => &["0"],
        }
    }

    /// Most registers it answers at once.
    #[must_use]
    pub fn registers_max(self) -> u16 {
        if self == Self::LaumasTlb { 32 } else { 125 }
    }

    /// Registers that are not zero. `ms` is the device's running time, for its counter.
    #[must_use]
    pub fn registers(self, scales: &[Scale], ms: u64) -> BTreeMap<u16, u16> {
        let mut out = Registers(BTreeMap::new());
        match self {
            Self::LaumasTlb => {
                let scale = scales.first().copied().unwrap_or_default();
                let mut status = flag(0, scale.broken) | flag(2, scale.overload);
                status |= flag(7, scale.mg < 0) | flag(8, scale.mg < 0) | flag(11, scale.stable);
                out.put(6, status);
                out.long(7, magnitude(scale.grams()));
                out.long(9, magnitude(scale.grams()));
            }
            Self::DiniArgeoDgt4x => {
                for (k, scale) in (0u16..).zip(scales) {
                    let mut status = flag(0, scale.mg < 0) | flag(1, scale.stable);
                    status |= flag(3, scale.overload);
                    out.put(201 + 3 * k, status);
                    out.long(202 + 3 * k, magnitude(scale.grams()));
                    out.long(213 + 2 * k, magnitude(scale.grams()));
                }
            }
            Self::SenecaZSg => {
                let scale = scales.first().copied().unwrap_or_default();
                out.float(63, scale.mg as f32 / 1e3);
                out.put(
                    77,
                    flag(1, scale.overload) | flag(2, scale.mg < 0) | flag(4, scale.stable),
                );
            }
            Self::FlintecFt112 => {
                let scale = scales.first().copied().unwrap_or_default();
                let grams = scale.grams() as i32 as u32;
                out.long(0, grams);
                out.long(4, grams);
                // Kilograms with three decimals.
                out.long(6, 3 << 27 | u32::from(!scale.stable) << 2);
                out.long(8, u32::from(scale.overload) << 4 | u32::from(scale.broken) << 5);
                out.long(10, (ms / 100) as u32);
            }
            Self::BaykonMx08 => {
                let scale = scales.first().copied().unwrap_or_default();
                let grams = scale.grams() as i32 as u32;
                out.long(0, grams);
                let code = if scale.broken { 1 } else { u16::from(scale.overload) * 2 };
                out.put(2, flag(1, !scale.broken) | flag(2, !scale.stable) | code << 13);
                out.long(5, grams);
            }
            Self::TunaId551pn => {
                let scale = scales.first().copied().unwrap_or_default();
                out.float(0, scale.mg as f32 / 1e6);
                out.float(2, scale.mg as f32 / 1e6);
                let mut status = flag(7, scale.broken) | flag(10, scale.overload);
                status |= flag(12, !scale.stable) | flag(15, !scale.broken);
                out.put(4, status);
            }
            Self::EagleEi4000 => {
                out.put(0, (ms * 10 / 666) as u16);
                for (k, scale) in (0u16..).zip(scales) {
                    out.float(0x1000 + 2 * k, scale.mg as f32 / 1e3);
                    out.float(0x2000 + 2 * k, scale.mg as f32 / 1e6);
                }
            }
        }
        out.0
    }
}

fn flag(bit: u16, on: bool) -> u16 {
    u16::from(on) << bit
}

fn magnitude(grams: i64) -> u32 {
    grams.unsigned_abs() as u32
}

struct Registers(BTreeMap<u16, u16>);

impl Registers {
    fn put(&mut self, at: u16, word: u16) {
        self.0.insert(at, word);
    }
    /// Two registers, high word first.
    fn long(&mut self, at: u16, value: u32) {
        self.put(at, (value >> 16) as u16);
        self.put(at + 1, value as u16);
    }
    fn float(&mut self, at: u16, value: f32) {
        self.long(at, value.to_bits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_make_is_written_as_its_profile() {
        for make in Make::ALL {
            let text = format!("\"{}\"", make.profile());
            assert_eq!(serde_json::from_str::<Make>(&text).unwrap(), make);
        }
    }
}
