//! A scenario: everything a world is made of, in one TOML file.
//!
//! Unknown keys are refused with their line; values out of range are refused with their key. All times are in the unit
//! their key names, weights in milligrams. Every section has defaults that mean "nothing bad happens", so that a
//! scenario says only what it is about.

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
    #[error("scenario {path}: {source}; check the path")]
    Read {
        /// The path as given.
        path: String,
        /// What the system said.
        source: std::io::Error,
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

/// When a device reports a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Report {
    /// Every sample.
    Every,
    /// When the shown weight moved by `change_divisions`, the stable bit changed, or `heartbeat_s` passed.
    Change,
}

/// The load cells and their transmitters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CellSpec {
    /// Cells on one transmitter (one device, one channel each).
    pub per_device: usize,
    /// Indicated step, mg.
    pub division_mg: i64,
    /// Noise of one sample, standard deviation, mg.
    pub noise_mg: f64,
    /// Repositioning error of a plateau, standard deviation, mg; ignored with `event_sigma_ratio`.
    pub plateau_noise_mg: f64,
    /// Total noise of an event as a fraction of the unit weight; the plateau noise then follows from the event's size.
    pub event_sigma_ratio: Option<f64>,
    /// Linear zero drift, mg/day; even cells drift up, odd ones down.
    pub creep_mg_per_day: f64,
    /// Creep after a load step: final size as a fraction of the load.
    pub creep_fraction: f64,
    /// Creep after a load step: time constant, s.
    pub creep_tau_s: f64,
    /// Zero shift with temperature, mg per °C.
    pub temperature_mg_per_c: f64,
    /// Mechanical settling: time constant, s.
    pub settle_tau_s: f64,
    /// Share of a step that rings, 0..=1.
    pub ring_fraction: f64,
    /// Ringing frequency, Hz.
    pub ring_hz: f64,
    /// Noise while a hand is on the shelf, standard deviation, mg.
    pub hand_force_mg: f64,
    /// Probability that a sample is an ADC spike.
    pub spike_rate: f64,
    /// Size of a spike, mg.
    pub spike_mg: f64,
    /// Samples per second.
    pub rate_hz: f64,
    /// When samples are sent.
    pub report: Report,
    /// For `change`: movement of the shown weight that is reported, divisions.
    pub change_divisions: i64,
    /// For `change`: longest silence, s.
    pub heartbeat_s: f64,
    /// Whether the transmitter sends a stable bit.
    pub stable_bit: bool,
    /// The stable bit's window, s.
    pub stable_window_s: f64,
    /// The stable bit's band, mg; at least two divisions and five times the noise.
    pub stable_band_mg: f64,
    /// Dead load of an empty slot, mg (rounded to the division; given to the hub as `zero_mg`).
    pub dead_load_mg: i64,
}

impl Default for CellSpec {
    fn default() -> Self {
        Self {
            per_device: 6,
            division_mg: 1_000,
            noise_mg: 300.0,
            plateau_noise_mg: 0.0,
            event_sigma_ratio: None,
            creep_mg_per_day: 0.0,
            creep_fraction: 0.0,
            creep_tau_s: 300.0,
            temperature_mg_per_c: 0.0,
            settle_tau_s: 0.15,
            ring_fraction: 0.0,
            ring_hz: 4.0,
            hand_force_mg: 400_000.0,
            spike_rate: 0.0,
            spike_mg: 5_000_000.0,
            rate_hz: 10.0,
            report: Report::Every,
            change_divisions: 1,
            heartbeat_s: 30.0,
            stable_bit: true,
            stable_window_s: 0.5,
            stable_band_mg: 0.0,
            dead_load_mg: 1_200_000,
        }
    }
}

/// The air: one daily cycle.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClimateSpec {
    /// Mean, °C; the cells' zero is right at this temperature.
    pub mean_c: f64,
    /// Half the difference between the warmest and the coldest hour, °C.
    pub daily_c: f64,
}

impl Default for ClimateSpec {
    fn default() -> Self {
        Self { mean_c: 20.0, daily_c: 0.0 }
    }
}

/// A group of value sensors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SensorSpec {
    /// Ids are `PREFIX-1` …
    pub id_prefix: String,
    /// How many.
    #[serde(default = "one_usize")]
    pub count: usize,
    /// Stream name.
    pub stream: String,
    /// Time between reports, s.
    pub period_s: f64,
    /// What it measures.
    pub value: Vec<SensorValueSpec>,
}

/// One value of a sensor: mean + daily cycle + noise.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SensorValueSpec {
    /// Name in `values`.
    pub name: String,
    /// Mean.
    pub mean: f64,
    /// Half the daily span.
    #[serde(default)]
    pub daily: f64,
    /// Standard deviation of a report.
    #[serde(default)]
    pub noise: f64,
}

/// MQTT version of the devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// 3.1.1.
    V3,
    /// 5.0.
    V5,
    /// Every second device 5.0.
    Mixed,
}

/// How frames travel. Rates per hour are per device; probabilities are per frame.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkSpec {
    /// Probability that a frame is never sent: a loss at the source, visible as a gap in seq.
    pub drop_rate: f64,
    /// Outages.
    pub outage_per_hour: f64,
    /// Mean length of an outage, s.
    pub outage_mean_s: f64,
    /// Probability that a frame is sent twice.
    pub duplicate_rate: f64,
    /// Probability that a frame is late, and may be overtaken.
    pub late_rate: f64,
    /// Latest arrival of a late frame, s.
    pub late_max_s: f64,
    /// Reboots: new boot id, seq from 1.
    pub reboot_per_hour: f64,
    /// Silence of a reboot, s.
    pub reboot_s: f64,
    /// Abrupt TCP disconnects (only when played over sockets).
    pub disconnect_per_hour: f64,
    /// QoS 1 devices keep a frame until its PUBACK; QoS 0 devices lose what an outage hits.
    pub qos: u8,
    /// MQTT version.
    pub protocol: Protocol,
    /// Whether frames carry `boot`.
    pub boot_id: bool,
    /// Whether frames carry `ts`.
    pub timestamps: bool,
    /// Device clocks are wrong by up to this, either way, s.
    pub clock_offset_max_s: f64,
    /// Frames a device keeps during an outage; more are lost at the source.
    pub keep_frames_max: usize,
}

impl Default for LinkSpec {
    fn default() -> Self {
        Self {
            drop_rate: 0.0,
            outage_per_hour: 0.0,
            outage_mean_s: 10.0,
            duplicate_rate: 0.0,
            late_rate: 0.0,
            late_max_s: 5.0,
            reboot_per_hour: 0.0,
            reboot_s: 3.0,
            disconnect_per_hour: 0.0,
            qos: 1,
            protocol: Protocol::Mixed,
            boot_id: true,
            timestamps: true,
            clock_offset_max_s: 0.0,
            keep_frames_max: 20_000,
        }
    }
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
        let read = |source| ScenarioError::Read { path: name.clone(), source };
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
