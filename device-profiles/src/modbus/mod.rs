//! Modbus register maps: which registers a device has, what they mean, how it wants to be asked.
//!
//! ```text
//! profile text ─► ModbusMap (fields, limits, commands) ─► plan::Request, what the bus sends
//!                        │                                         │
//!                        │      image::Image, the registers as they came, is the frame the journal keeps
//!                        └────────────► codec::modbus ◄────────────┘
//! ```
//!
//! The frame is the register image and not a decoded number: whoever doubts a mass sees the words, and a wrong word order is
//! repaired by replay. A mass and the status that vouches for it lie in one response, or the profile is refused: a plan that
//! reads them apart would pair a new mass with an old status.
//!
//! Addresses in a profile are written as in the manual; `base` is subtracted to get the address on the wire, which begins at 0
//! (`base: 40001` for manuals that count holding registers from 40001).

pub mod command;
pub mod field;
pub mod image;
pub mod plan;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::{
    limits::FIELDS_MAX,
    profile::{Place, ProfileError, invalid, place},
};

pub use command::{Command, Step};
pub use field::{Field, FieldText, Order, Test, TestText, Type};
pub use image::{Image, ImageWriter, Table};
pub use plan::{Plan, Request, plan};

/// Most registers one request may ask for, by the protocol (function codes 3 and 4).
pub const REGISTERS_MAX: u16 = 125;
/// Most coils or discrete inputs one request may ask for, by the protocol (function codes 1 and 2).
pub const BITS_MAX: u16 = 2_000;
/// Most registers one request may write, by the protocol (function code 16).
pub const WRITE_REGISTERS_MAX: usize = 123;
/// Longest time a profile may let a unit think, in milliseconds.
pub const TIMEOUT_MS_MAX: u32 = 10_000;
/// Longest pause a profile may ask for between two requests, in milliseconds.
pub const GAP_MS_MAX: u32 = 5_000;

/// A compiled register map.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusMap {
    /// Where the addresses were taken from: manual and page.
    pub source: String,
    /// Registers in one request at most.
    pub registers_max: u16,
    /// Registers nobody asked for that may be read along to save a request.
    pub gap_max: u16,
    /// Stretches no request may touch.
    pub forbidden: Vec<Stretch>,
    /// Pause the device needs between two requests, milliseconds.
    pub min_gap_ms: u32,
    /// How long it may take to begin an answer, milliseconds.
    pub timeout_ms: u32,
    /// Fields by name.
    pub fields: BTreeMap<String, Field>,
    /// A counter by which a device shows that it is alive.
    pub heartbeat: Option<Heartbeat>,
    /// What it can be told, by name.
    pub commands: BTreeMap<String, Command>,
}

impl ModbusMap {
    /// Most items of a table that one request may ask this device for.
    pub fn items_max(&self, table: Table) -> u16 {
        if table.is_bits() { BITS_MAX } else { self.registers_max }
    }

    /// A request touches a stretch that none may.
    pub fn forbids(&self, request: Request) -> bool {
        self.forbidden.iter().any(|stretch| {
            stretch.table == request.table
                && u32::from(stretch.from) < request.end()
                && request.start <= stretch.to
        })
    }
}

/// A stretch of one table, wire addresses, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The table.
    pub table: Table,
    /// First address.
    pub from: u16,
    /// Last address.
    pub to: u16,
}

/// A counter that must move.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The counter's field.
    pub field: String,
    /// The device counts as frozen when it did not move for so long, milliseconds.
    pub still_ms: u32,
}

/// The map as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapText {
    source: String,
    #[serde(default)]
    base: u32,
    #[serde(default = "registers_max_default")]
    registers_max: u16,
    #[serde(default = "gap_max_default")]
    gap_max: u16,
    #[serde(default)]
    forbidden: Vec<StretchText>,
    #[serde(default)]
    min_gap_ms: u32,
    #[serde(default = "timeout_ms_default")]
    timeout_ms: u32,
    #[serde(default)]
    order: Order,
    fields: BTreeMap<String, Spanned<FieldText>>,
    #[serde(default)]
    heartbeat: Option<Spanned<Heartbeat>>,
    #[serde(default)]
    commands: BTreeMap<String, Spanned<command::CommandText>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct StretchText {
    #[serde(default)]
    table: Table,
    from: u32,
    to: u32,
}

fn registers_max_default() -> u16 {
    REGISTERS_MAX
}
// Where one more request costs as much as the registers between: 12 at 9,600 baud, 14 at 19,200 (5 ms turnaround).
fn gap_max_default() -> u16 {
    12
}
fn timeout_ms_default() -> u32 {
    300
}

impl MapText {
    /// Checks the map and compiles it.
    pub fn compile(self) -> Result<ModbusMap, ProfileError> {
        if self.source.trim().is_empty() {
            return Err(invalid("modbus.source must name the manual the addresses come from"));
        }
        if self.registers_max == 0 || self.registers_max > REGISTERS_MAX {
            return Err(invalid(format!("modbus.registers_max must be 1 to {REGISTERS_MAX}")));
        }
        if self.timeout_ms == 0 || self.timeout_ms > TIMEOUT_MS_MAX {
            return Err(invalid(format!("modbus.timeout_ms must be 1 to {TIMEOUT_MS_MAX}")));
        }
        if self.min_gap_ms > GAP_MS_MAX {
            return Err(invalid(format!("modbus.min_gap_ms must be at most {GAP_MS_MAX}")));
        }
        if self.fields.is_empty() || self.fields.len() > FIELDS_MAX {
            return Err(invalid(format!("modbus.fields must have 1 to {FIELDS_MAX} fields")));
        }
        let base = self.base;
        let mut forbidden = Vec::with_capacity(self.forbidden.len());
        for stretch in &self.forbidden {
            let (from, to) = (wire(base, stretch.from)?, wire(base, stretch.to)?);
            if from > to {
                return Err(invalid(format!(
                    "forbidden: {} lies behind {}",
                    stretch.from, stretch.to
                )));
            }
            forbidden.push(Stretch { table: stretch.table, from, to });
        }
        let (mut fields, mut places) = (BTreeMap::new(), BTreeMap::new());
        for (name, text) in self.fields {
            let at = place(&text);
            let bad = |why: String| invalid(format!("field {name:?}: {why}")).at(at);
            crate::ids::check_id(&name).map_err(|e| bad(e.to_string()))?;
            let field = text.value.compile(base, self.order).map_err(bad)?;
            places.insert(name.clone(), at);
            fields.insert(name, field);
        }
        let at = |name: &String| places.get(name).copied().flatten();
        for (name, field) in &fields {
            field
                .check_references(&fields)
                .map_err(|why| invalid(format!("field {name:?}: {why}")).at(at(name)))?;
        }
        overlaps(&fields, at)?;
        if let Some(heartbeat) = &self.heartbeat {
            let (at, heartbeat) = (place(heartbeat), &heartbeat.value);
            let field = fields.get(&heartbeat.field);
            if field.is_none_or(|field| field.kind.is_float() || heartbeat.still_ms == 0) {
                let why = "heartbeat needs an integer field and still_ms above 0";
                return Err(invalid(why).at(at));
            }
        }
        let mut commands = BTreeMap::new();
        for (name, text) in self.commands {
            let at = place(&text);
            let command = text
                .value
                .compile(base, &fields)
                .map_err(|why| invalid(format!("command {name:?}: {why}")).at(at))?;
            commands.insert(name, command);
        }
        Ok(ModbusMap {
            source: self.source,
            registers_max: self.registers_max,
            gap_max: self.gap_max,
            forbidden,
            min_gap_ms: self.min_gap_ms,
            timeout_ms: self.timeout_ms,
            fields,
            heartbeat: self.heartbeat.map(|heartbeat| heartbeat.value),
            commands,
        })
    }
}

/// The wire address of an address as the manual writes it.
fn wire(base: u32, at: u32) -> Result<u16, ProfileError> {
    at.checked_sub(base)
        .and_then(|address| u16::try_from(address).ok())
        .ok_or_else(|| invalid(format!("address {at} lies outside the table (base {base})")))
}

/// Two fields may be the same registers read alike, or share no register; half of one in the other is a mistake.
fn overlaps(
    fields: &BTreeMap<String, Field>,
    at: impl Fn(&String) -> Option<Place>,
) -> Result<(), ProfileError> {
    let mut sorted: Vec<(&String, &Field)> = fields.iter().collect();
    sorted.sort_by_key(|(_, f)| (f.table, f.at, f.kind.registers()));
    for pair in sorted.windows(2) {
        let [(a_name, a), (b_name, b)] = pair else { continue };
        let same = a.at == b.at && a.kind.registers() == b.kind.registers();
        let a_end = u32::from(a.at) + u32::from(a.kind.registers());
        if a.table == b.table && !same && u32::from(b.at) < a_end {
            let why = format!("fields {a_name:?} and {b_name:?} overlap in part");
            return Err(invalid(why).at(at(b_name)));
        }
    }
    Ok(())
}
