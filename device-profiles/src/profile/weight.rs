//! Weight streams: where the cells of a frame are, and when a mass counts as settled.
//!
//! One stream may carry several cells (JSON, registers) or the one scale that a line of text speaks of (raw). Units are told
//! here and end here: behind the codec there are only milligrams.

use serde::Deserialize;

use super::{Codec, Line, ProfileError, ScaleState, invalid, plain::LineText};
use crate::{
    codec::json::Pointer,
    ids::Channel,
    modbus::{ModbusMap, Test, TestText},
    reading::CellFault,
};

/// Cells and stability rule of a weight stream.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightMap {
    /// The cells in a frame.
    pub cells: WeightCells,
    /// How long a mass must hold still to be a plateau, milliseconds.
    pub settle_ms: u32,
    /// How many samples a plateau needs.
    pub settle_samples: u16,
    /// Series points of a cell are at least this far apart, milliseconds; raw frames stay in the journal.
    pub series_every_ms: u32,
}

/// Where the cells of a frame are.
#[derive(Debug, Clone, PartialEq)]
pub enum WeightCells {
    /// In members of a JSON value.
    Json(Vec<CellMap>),
    /// The frame is a line of a scale.
    Line(LineMap),
    /// In registers.
    Registers(Vec<ScaleMap>),
}

/// One cell of a JSON weight frame.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellMap {
    /// The mass, a number.
    pub mass: Pointer,
    /// Its unit.
    #[serde(default)]
    pub unit: MassUnit,
    /// Where the channel's name is; a frame without it speaks of `channel`.
    #[serde(default)]
    pub channel_at: Option<Pointer>,
    /// The channel's name.
    #[serde(default = "channel_default")]
    pub channel: String,
    /// The device's stability flag, a bool.
    #[serde(default)]
    pub stable: Option<Pointer>,
}

/// The scale that a raw line speaks of.
#[derive(Debug, Clone, PartialEq)]
pub struct LineMap {
    /// The channel's name.
    pub channel: Channel,
    /// Unit of a line that tells none.
    pub unit: MassUnit,
    /// The decimal mark is a comma.
    pub decimal_comma: bool,
    /// How a line is built.
    pub line: Line,
    /// What the words at `{state}` mean.
    pub states: Vec<(String, ScaleState)>,
}

/// One scale of a Modbus device.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleMap {
    /// The channel's name.
    pub channel: Channel,
    /// Field of the gross mass.
    pub mass: String,
    /// Its unit.
    pub unit: MassUnit,
    /// When the device says that the mass holds still.
    pub stable: Option<Test>,
    /// When the device says that something is wrong; the first that holds counts.
    pub faults: Vec<(Test, CellFault)>,
}

/// Unit of a mass field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum MassUnit {
    /// Milligrams.
    #[serde(rename = "mg")]
    Milligram,
    /// Grams.
    #[default]
    #[serde(rename = "g")]
    Gram,
    /// Kilograms.
    #[serde(rename = "kg")]
    Kilogram,
    /// Avoirdupois pounds, exactly 453.59237 g.
    #[serde(rename = "lb")]
    Pound,
}

impl MassUnit {
    /// Milligrams in one unit.
    pub fn milligrams(self) -> f64 {
        match self {
            Self::Milligram => 1.0,
            Self::Gram => 1_000.0,
            Self::Kilogram => 1_000_000.0,
            Self::Pound => 453_592.37,
        }
    }

    /// The unit a device writes, in any case of letters.
    pub fn of(text: &str) -> Option<Self> {
        let is = |unit: &str| text.eq_ignore_ascii_case(unit);
        Some(match () {
            () if is("mg") => Self::Milligram,
            () if is("g") => Self::Gram,
            () if is("kg") => Self::Kilogram,
            () if is("lb") => Self::Pound,
            () => return None,
        })
    }
}

/// A weight stream as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WeightText {
    #[serde(default)]
    cells: Vec<CellMap>,
    #[serde(default)]
    line: Option<LineText>,
    #[serde(default)]
    scales: Vec<ScaleText>,
    #[serde(default = "settle_ms_default")]
    settle_ms: u32,
    #[serde(default = "settle_samples_default")]
    settle_samples: u16,
    #[serde(default = "series_every_ms_default")]
    series_every_ms: u32,
}

/// A scale as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScaleText {
    #[serde(default = "channel_default")]
    channel: String,
    mass: String,
    #[serde(default)]
    unit: MassUnit,
    #[serde(default)]
    stable: Option<TestText>,
    #[serde(default)]
    faults: Vec<FaultText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultText {
    is: CellFault,
    when: TestText,
}

fn settle_ms_default() -> u32 {
    300
}
fn settle_samples_default() -> u16 {
    3
}
fn series_every_ms_default() -> u32 {
    1_000
}
pub(super) fn channel_default() -> String {
    "0".into()
}

impl WeightText {
    /// Checks and compiles it; each codec has its own way to say where the cells are.
    pub(super) fn check(
        self,
        codec: Codec,
        map: Option<&ModbusMap>,
    ) -> Result<WeightMap, ProfileError> {
        if self.settle_samples == 0 {
            return Err(invalid("settle_samples must be at least 1"));
        }
        let wanted = match codec {
            Codec::Json | Codec::Sparkplug => "cells",
            Codec::Raw => "line",
            Codec::Modbus => "scales",
            Codec::Llrp | Codec::Impinj | Codec::Zebra | Codec::SerialRfid | Codec::Scanner => {
                return Err(invalid("a reader of tags or codes weighs nothing"));
            }
        };
        for (name, there) in [
            ("cells", !self.cells.is_empty()),
            ("line", self.line.is_some()),
            ("scales", !self.scales.is_empty()),
        ] {
            if there && name != wanted {
                return Err(invalid(format!(
                    "a weight stream of codec: {} needs {wanted}, not {name}",
                    codec.as_str()
                )));
            }
        }
        let cells = match (codec, map) {
            (Codec::Json | Codec::Sparkplug, _) => {
                if self.cells.is_empty() {
                    return Err(invalid("a weight stream needs at least one cell"));
                }
                for cell in &self.cells {
                    Channel::parse(&cell.channel).map_err(|e| invalid(format!("channel: {e}")))?;
                }
                WeightCells::Json(self.cells)
            }
            (Codec::Raw, _) => WeightCells::Line(self.line.unwrap_or_default().check()?),
            (Codec::Modbus, Some(map)) => WeightCells::Registers(scales(self.scales, map)?),
            (
                Codec::Modbus
                | Codec::Llrp
                | Codec::Impinj
                | Codec::Zebra
                | Codec::SerialRfid
                | Codec::Scanner,
                _,
            ) => return Err(invalid("it needs a register map")),
        };
        Ok(WeightMap {
            cells,
            settle_ms: self.settle_ms,
            settle_samples: self.settle_samples,
            series_every_ms: self.series_every_ms,
        })
    }
}

fn scales(texts: Vec<ScaleText>, map: &ModbusMap) -> Result<Vec<ScaleMap>, ProfileError> {
    if texts.is_empty() {
        return Err(invalid("a weight stream needs at least one scale"));
    }
    let mut scales: Vec<ScaleMap> = Vec::with_capacity(texts.len());
    for text in texts {
        let scale = text.check(map).map_err(invalid)?;
        if scales.iter().any(|other| other.channel == scale.channel) {
            return Err(invalid(format!("channel {} is there twice", scale.channel)));
        }
        scales.push(scale);
    }
    Ok(scales)
}

impl ScaleText {
    fn check(self, map: &ModbusMap) -> Result<ScaleMap, String> {
        let compile = |text: TestText| -> Result<Test, String> {
            let test = text.compile()?;
            test.check(&map.fields)?;
            Ok(test)
        };
        let channel = Channel::parse(&self.channel).map_err(|e| format!("channel: {e}"))?;
        let field = map.fields.get(&self.mass);
        if field.is_none_or(|field| field.table.is_bits()) {
            return Err(format!("mass asks for field {:?}, which is not a number", self.mass));
        }
        let stable = self.stable.map(compile).transpose()?;
        let faults = self
            .faults
            .into_iter()
            .map(|fault| Ok((compile(fault.when)?, fault.is)))
            .collect::<Result<_, String>>()?;
        Ok(ScaleMap { channel, mass: self.mass, unit: self.unit, stable, faults })
    }
}
