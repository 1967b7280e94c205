//! A ROSpec as a reader understands it: what begins and ends it, which antennas listen, and when it reports.

use device_profiles::llrp::{Message, Parameter, Start, Value};

/// A ROSpec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoSpec {
    /// Its number.
    pub id: u32,
    /// What begins it.
    pub start: Start,
    /// Antennas; none = all.
    pub antennas: Vec<u16>,
    /// Tags in a report; 0 = only at its end.
    pub report_tags: usize,
    /// It may begin.
    pub enabled: bool,
    /// It listens since then, Unix microseconds.
    pub since_us: Option<i64>,
    /// It was enabled then; the beginning of its schedule.
    pub enabled_us: i64,
    /// The reader was told power, mode and session along.
    pub is_set: bool,
}

fn number(parameter: &Parameter, name: &str) -> u32 {
    parameter.number_of(name).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

fn short(parameter: &Parameter, name: &str) -> u16 {
    u16::try_from(number(parameter, name)).unwrap_or(u16::MAX)
}

impl RoSpec {
    /// The ROSpec of an ADD_ROSPEC; `None` when it lacks a part, or is not disabled as it has to be.
    pub fn of(message: &Message) -> Option<Self> {
        let spec = message.parameter("ROSpec")?;
        if number(spec, "CurrentState") != 0 {
            return None;
        }
        let boundary = spec.parameter("ROBoundarySpec")?;
        let (start, stop) =
            (boundary.parameter("ROSpecStartTrigger")?, boundary.parameter("ROSpecStopTrigger")?);
        let start = match number(start, "ROSpecStartTriggerType") {
            0 => Start::Request,
            1 => Start::Immediate,
            2 => {
                let value = start.parameter("PeriodicTriggerValue")?;
                Start::Periodic {
                    offset_ms: number(value, "Offset"),
                    period_ms: number(value, "Period").max(1),
                    for_ms: number(stop, "DurationTriggerValue"),
                }
            }
            3 => {
                let value = start.parameter("GPITriggerValue")?;
                let until = stop.parameter("GPITriggerValue");
                Start::Gpi {
                    port: short(value, "GPIPortNum"),
                    high: number(value, "GPIEvent") == 1,
                    timeout_ms: until.map_or(0, |until| number(until, "Timeout")),
                }
            }
            _ => return None,
        };
        let ai = spec.parameter("AISpec")?;
        let Some(Value::Words(antennas)) = ai.field("AntennaIDs") else { return None };
        let antennas = if antennas.contains(&0) { Vec::new() } else { antennas.clone() };
        let inventory = ai.parameter("InventoryParameterSpec")?;
        let is_set = inventory
            .parameter("AntennaConfiguration")
            .is_some_and(|antenna| antenna.parameter("C1G2InventoryCommand").is_some());
        let report = spec.parameter("ROReportSpec")?;
        Some(Self {
            id: number(spec, "ROSpecID"),
            start,
            antennas,
            report_tags: number(report, "N") as usize,
            enabled: false,
            since_us: None,
            enabled_us: 0,
            is_set,
        })
    }

    /// It hears this antenna.
    pub fn hears(&self, antenna: u16) -> bool {
        self.antennas.is_empty() || self.antennas.contains(&antenna)
    }

    /// Whether it should listen now by its own schedule; `None` = something else decides.
    pub fn scheduled(&self, now_us: i64) -> Option<bool> {
        let Start::Periodic { offset_ms, period_ms, for_ms } = self.start else { return None };
        let since = now_us - self.enabled_us - i64::from(offset_ms) * 1_000;
        let within = since.rem_euclid(i64::from(period_ms) * 1_000);
        Some(self.enabled && since >= 0 && within < i64::from(for_ms) * 1_000)
    }
}
