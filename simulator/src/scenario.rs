//! A scenario: everything a world is made of, in one TOML file.
//!
//! Unknown keys are refused with their line; values out of range are refused with their key. All times are in the unit
//! their key names, weights in milligrams. Every section has defaults that mean "nothing bad happens", so that a
//! scenario says only what it is about.

pub use crate::scenario_devices::{
    BusFraming, CellSpec, ClimateSpec, LinkSpec, ModbusSpec, Protocol, Report, SensorSpec,
    SensorValueSpec,
};
use serde::Deserialize;
use std::path::Path;

/// Slots one scenario may have.
pub const SLOTS_MAX: usize = 100_000;
/// Devices one scenario may have.
pub const DEVICES_MAX: usize = 20_000;
/// SKUs one scenario may have.
pub const SKUS_MAX: usize = 10_000;
/// Size of a scenario file, bytes.
pub const SCENARIO_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why a scenario was refused.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file could not be read.
    #[error("scenario {path}: {cause}; give a file, or a name of `stockfold-sim scenario list`")]
    Read {
        /// The path as given.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Larger than [`SCENARIO_BYTES_MAX`].
    #[error("scenario {path}: larger than {SCENARIO_BYTES_MAX} bytes")]
    TooLarge {
        /// The path as given.
        path: String,
    },
    /// Not TOML, an unknown key, or a value of the wrong type; the message holds line and column.
    #[error("scenario {name}: {detail}")]
    Syntax {
        /// The file's name.
        name: String,
        /// The parser's message with line, column and excerpt.
        detail: String,
    },
    /// A value out of its range.
    #[error("scenario {name}: {key}: {detail}")]
    Value {
        /// The file's name.
        name: String,
        /// The key, dotted.
        key: String,
        /// What is wrong and what would be right.
        detail: String,
    },
}

/// A checked scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Seed of every random stream.
    #[serde(default = "one")]
    pub seed: u64,
    /// Length in virtual seconds.
    pub duration_s: f64,
    /// People rest for this long before the end, so that the last plateau is complete.
    #[serde(default = "ten")]
    pub quiet_tail_s: f64,
    /// The site.
    pub facility: FacilitySpec,
    /// What is stocked.
    pub sku: Vec<SkuSpec>,
    /// How slots get SKUs and first quantities.
    #[serde(default)]
    pub planogram: PlanogramSpec,
    /// Lines that differ from `planogram`.
    #[serde(default)]
    pub line: Vec<LineSpec>,
    /// Groups of people.
    #[serde(default)]
    pub people: Vec<PeopleSpec>,
    /// A fixed number of events for every weighed slot, instead of or beside people.
    pub schedule: Option<ScheduleSpec>,
    /// The load cells.
    #[serde(default)]
    pub cells: CellSpec,
    /// The air.
    #[serde(default)]
    pub climate: ClimateSpec,
    /// Value sensors.
    #[serde(default)]
    pub sensor: Vec<SensorSpec>,
    /// Handhelds (stream `stock`) that report movements of scanned lines.
    #[serde(default)]
    pub handhelds: usize,
    /// Scanners (stream `scan`) that share that work with the handhelds.
    #[serde(default)]
    pub scanners: usize,
    /// Buses of Modbus transmitters. The first weighed slots stand on them, the others on MQTT scales.
    #[serde(default)]
    pub modbus: Vec<ModbusSpec>,
    /// How frames travel.
    #[serde(default)]
    pub link: LinkSpec,
}

/// The site.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FacilitySpec {
    /// Id.
    pub id: String,
    /// Name; the id when absent.
    pub name: Option<String>,
    /// Zones; shelves are spread over them in order.
    #[serde(default = "one_usize")]
    pub zones: usize,
    /// Shelves.
    pub shelves: usize,
    /// Slots on each shelf.
    pub slots_per_shelf: usize,
}

/// A stock keeping unit.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkuSpec {
    /// Id.
    pub id: String,
    /// Name; the id when absent.
    pub name: Option<String>,
    /// Mean weight of a unit, mg.
    pub unit_weight_mg: i64,
    /// Standard deviation between units, mg.
    #[serde(default)]
    pub unit_sigma_mg: i64,
    /// Barcode number.
    pub gtin: Option<String>,
}

/// How a line's units are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// By the load cell under the slot.
    Weight,
    /// By handhelds and scanners.
    Scan,
}

/// How slots get SKUs and first quantities.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanogramSpec {
    /// The last this many shelves are counted by scan, the others by weight.
    pub scan_shelves: usize,
    /// Smallest first quantity, units.
    pub initial_min: i64,
    /// Largest first quantity, units.
    pub initial_max: i64,
    /// Units a slot holds.
    pub capacity: i64,
    /// Reorder point written to the planogram; 0 = none.
    pub reorder_at: i64,
}

impl Default for PlanogramSpec {
    fn default() -> Self {
        Self { scan_shelves: 0, initial_min: 8, initial_max: 16, capacity: 24, reorder_at: 0 }
    }
}

/// A line that differs from the planogram's rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineSpec {
    /// The slot's id.
    pub slot: String,
    /// SKU id.
    pub sku: Option<String>,
    /// Counting source.
    pub source: Option<Source>,
    /// First quantity, units.
    pub initial: Option<i64>,
    /// Units the slot holds.
    pub capacity: Option<i64>,
}

/// How many units one event moves: P(n) ∝ decay^(n−1) for n = 1..=max; decay 1 is uniform.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitsSpec {
    /// Largest number.
    pub max: i64,
    /// Weight of n + 1 relative to n, 0..=1.
    #[serde(default = "half")]
    pub decay: f64,
}

impl Default for UnitsSpec {
    fn default() -> Self {
        Self { max: 4, decay: 0.4 }
    }
}

/// A group of people with the same habits. Rates are per person and hour.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeopleSpec {
    /// How many.
    pub count: usize,
    /// Take goods away.
    pub pick_per_hour: f64,
    /// Return goods taken earlier to their slot.
    pub put_back_per_hour: f64,
    /// Fill up an emptier slot.
    pub restock_per_hour: f64,
    /// Carry a unit to a slot of another SKU.
    pub misplace_per_hour: f64,
    /// Bring a misplaced unit home.
    pub tidy_per_hour: f64,
    /// Units a pick or put-back moves.
    pub units: UnitsSpec,
    /// Units a restock moves.
    pub restock_units: UnitsSpec,
    /// Shortest time a hand is on the shelf, s.
    pub hand_min_s: f64,
    /// Longest time a hand is on the shelf, s.
    pub hand_max_s: f64,
    /// Probability that another person reaches into the same slot at the same time.
    pub together: f64,
    /// Probability that a movement of a scanned line is not scanned.
    pub forgets: f64,
    /// Lines they touch; all when absent.
    pub source: Option<Source>,
}

impl Default for PeopleSpec {
    fn default() -> Self {
        Self {
            count: 1,
            pick_per_hour: 0.0,
            put_back_per_hour: 0.0,
            restock_per_hour: 0.0,
            misplace_per_hour: 0.0,
            tidy_per_hour: 0.0,
            units: UnitsSpec::default(),
            restock_units: UnitsSpec { max: 12, decay: 0.9 },
            hand_min_s: 0.4,
            hand_max_s: 1.5,
            together: 0.0,
            forgets: 0.0,
            source: None,
        }
    }
}

/// Exactly `events_per_slot` events on every weighed slot, `gap_s` apart, each slot at its own phase.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Events on each slot.
    pub events_per_slot: u32,
    /// Time from one event of a slot to its next, s.
    pub gap_s: f64,
    /// First events start no earlier than this, s.
    #[serde(default = "ten")]
    pub warm_up_s: f64,
    /// Units an event moves, before capacity and stock limit it.
    pub units: UnitsSpec,
    /// Shortest time a hand is on the shelf, s.
    #[serde(default = "half")]
    pub hand_min_s: f64,
    /// Longest time a hand is on the shelf, s.
    #[serde(default = "half")]
    pub hand_max_s: f64,
}

fn one() -> u64 {
    1
}
fn one_usize() -> usize {
    1
}
fn ten() -> f64 {
    10.0
}
fn half() -> f64 {
    0.5
}

impl Scenario {
    /// Reads and checks a scenario file.
    ///
    /// # Errors
    /// [`ScenarioError`], naming the file and the line or key.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        let read = |cause| ScenarioError::Read { path: name.clone(), cause };
        if std::fs::metadata(path).map_err(read)?.len() > SCENARIO_BYTES_MAX {
            return Err(ScenarioError::TooLarge { path: name });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        Self::parse(&name, &text)
    }

    /// Parses and checks a scenario; `name` appears in errors.
    ///
    /// # Errors
    /// [`ScenarioError::Syntax`] or [`ScenarioError::Value`].
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|e| ScenarioError::Syntax {
            name: name.to_owned(),
            detail: e.to_string().trim_end().to_owned(),
        })?;
        crate::scenario_check::check(&scenario).map_err(|(key, detail)| ScenarioError::Value {
            name: name.to_owned(),
            key,
            detail,
        })?;
        Ok(scenario)
    }

    /// Slots in all.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.facility.shelves * self.facility.slots_per_shelf
    }

    /// The id of slot `slot` (0-based) of shelf `shelf` (0-based): `A-01` … `Z-99`, then `S27-01` ….
    #[must_use]
    pub fn slot_id(shelf: usize, slot: usize) -> String {
        format!("{}-{:02}", Self::shelf_id(shelf), slot + 1)
    }

    /// The id of a shelf (0-based): a letter for the first 26, then `S27` ….
    #[must_use]
    pub fn shelf_id(shelf: usize) -> String {
        match u8::try_from(shelf) {
            Ok(n @ 0..=25) => char::from(b'A' + n).to_string(),
            _ => format!("S{}", shelf + 1),
        }
    }
}
