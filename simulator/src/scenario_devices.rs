//! The part of a scenario that describes devices: cells, the air around them, sensors, and how frames travel.

use crate::modbus::{Make, fault::FaultSpec, trouble::TroubleSpec};
use serde::Deserialize;

/// When a device reports a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Report {
    /// Every sample.
    Every,
    /// When the shown weight moved by `change_divisions`, the stable bit changed, or `heartbeat_s` passed.
    Change,
}

/// How a bus frames its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BusFraming {
    /// Modbus TCP.
    #[default]
    Tcp,
    /// RTU through a serial server.
    Rtu,
}

/// A bus of Modbus transmitters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModbusSpec {
    /// Id of the bus; its devices are `ID-1`, `ID-2`, ….
    pub id: String,
    /// The transmitters on it, units 1, 2, …; each takes as many slots as it has scales.
    pub makes: Vec<Make>,
    /// Framing.
    #[serde(default)]
    pub framing: BusFraming,
    /// Bits a second of the line behind a serial server; 0 = as fast as it goes.
    #[serde(default = "baud_default")]
    pub baud: u32,
    /// What goes wrong, for each unit.
    #[serde(default)]
    pub faults: FaultSpec,
    /// What befalls it or its units for a while.
    #[serde(default)]
    pub trouble: Vec<TroubleSpec>,
}

fn baud_default() -> u32 {
    19_200
}

impl ModbusSpec {
    /// Slots its transmitters take.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.makes.iter().map(|make| make.channels().len()).sum()
    }
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

fn one_usize() -> usize {
    1
}
