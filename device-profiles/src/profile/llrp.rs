//! Section `llrp`: how a reader is set before it listens. Everything has a default that any reader can do; what the section does
//! not name stays as the reader is set.
//!
//! A profile is what many readers share, so nothing in it names a reader: power is in dBm and becomes an index of the table the
//! reader itself tells, the nearest that is not above it.

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{ProfileError, invalid, place};
use crate::llrp::Start;

/// Most antennas a profile may name.
pub const ANTENNAS_MAX: usize = 256;
/// Shortest period of a reader's signs of life, in milliseconds.
pub const KEEPALIVE_MS_MIN: u32 = 100;
/// Longest period of a reader's signs of life, in milliseconds.
pub const KEEPALIVE_MS_MAX: u32 = 60_000;
/// Highest power a profile may ask for, in 1/100 dBm: beyond every reader's.
pub const POWER_CDBM_MAX: i16 = 4_000;
/// Longest period and longest duration of an inventory by schedule or input, in milliseconds.
pub const INVENTORY_MS_MAX: u32 = 86_400_000;
/// Most tags that one report may wait for.
pub const REPORT_TAGS_MAX: u16 = 1_024;

/// How strong a reader is to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// As strong as this at most, in 1/100 dBm.
    Cdbm(i16),
    /// By the index of its own table.
    Index(u16),
}

/// How an Impinj reader looks for tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Search {
    /// Tags are read again as often as they are heard.
    Dual,
    /// A tag that was read is silent for a while.
    Single,
}

impl Search {
    /// The number Impinj has for it (Impinj LTK, ImpinjInventorySearchType).
    pub fn number(self) -> u16 {
        match self {
            Self::Dual => 2,
            Self::Single => 1,
        }
    }
}

/// How a reader is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LlrpSettings {
    /// Antennas that listen, from 1; none = all.
    pub antennas: Vec<u16>,
    /// Transmit power; `None` = as the reader is set.
    pub power: Option<Strength>,
    /// Identifier in the reader's table of modes, and Tari in nanoseconds, 0 = the reader's choice; `None` = as it is set.
    pub mode: Option<(u16, u16)>,
    /// Session of the air protocol, 0 to 3.
    pub session: u8,
    /// Tags that are expected in the field at once.
    pub population: u16,
    /// How an Impinj reader looks for tags; `None` = as it is set. Other readers are not told.
    pub search: Option<Search>,
    /// Period of its signs of life, in milliseconds.
    pub keepalive_ms: u32,
    /// It keeps what it reads while nobody is connected, where it can.
    pub hold: bool,
    /// Tags that a report waits for; 1 = each read at once.
    pub report_tags: u16,
    /// What begins the inventory.
    pub start: Start,
}

impl Default for LlrpSettings {
    fn default() -> Self {
        Self {
            antennas: Vec::new(),
            power: None,
            mode: None,
            // A tag that stays is to be heard again and again: only session 0 and 1 let it be.
            session: 1,
            population: 32,
            search: None,
            keepalive_ms: 1_000,
            hold: true,
            report_tags: 1,
            start: Start::Immediate,
        }
    }
}

/// The same as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LlrpText {
    #[serde(default)]
    antennas: Vec<u16>,
    #[serde(default)]
    power_dbm: Option<f64>,
    #[serde(default)]
    power_index: Option<u16>,
    #[serde(default)]
    mode: Option<u16>,
    #[serde(default)]
    tari_ns: Option<u16>,
    #[serde(default)]
    session: Option<u8>,
    #[serde(default)]
    population: Option<u16>,
    #[serde(default)]
    search: Option<Search>,
    #[serde(default)]
    keepalive_ms: Option<u32>,
    #[serde(default)]
    hold: Option<bool>,
    #[serde(default)]
    report_tags: Option<u16>,
    #[serde(default)]
    start: Option<Spanned<StartText>>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "start is immediate, request, {every_ms, for_ms} or {gpi, high, timeout_ms}"
)]
enum StartText {
    Word(StartWord),
    Every(Every),
    Gpi(Gpi),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum StartWord {
    Immediate,
    Request,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Every {
    every_ms: u32,
    for_ms: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gpi {
    gpi: u16,
    #[serde(default = "yes")]
    high: bool,
    #[serde(default)]
    timeout_ms: u32,
}

fn yes() -> bool {
    true
}

impl LlrpText {
    /// Checks it.
    pub(super) fn check(self) -> Result<LlrpSettings, ProfileError> {
        let plain = LlrpSettings::default();
        if self.antennas.len() > ANTENNAS_MAX || self.antennas.contains(&0) {
            return Err(invalid(format!(
                "antennas are numbers from 1, at most {ANTENNAS_MAX}; without them all listen"
            )));
        }
        let power = match (self.power_dbm, self.power_index) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err(invalid("power_dbm and power_index exclude each other"));
            }
            (None, Some(index)) => Some(Strength::Index(index)),
            (Some(dbm), None) => {
                let cdbm = (dbm * 100.0).round();
                if !(0.0..=f64::from(POWER_CDBM_MAX)).contains(&cdbm) {
                    let max = POWER_CDBM_MAX / 100;
                    return Err(invalid(format!("power_dbm must be 0 to {max}")));
                }
                Some(Strength::Cdbm(cdbm as i16))
            }
        };
        let mode = match (self.mode, self.tari_ns) {
            (None, None) => None,
            (None, Some(_)) => return Err(invalid("tari_ns needs mode")),
            (Some(mode), tari) => Some((mode, tari.unwrap_or(0))),
        };
        let session = self.session.unwrap_or(plain.session);
        if session > 3 {
            return Err(invalid("session must be 0 to 3"));
        }
        let keepalive_ms = self.keepalive_ms.unwrap_or(plain.keepalive_ms);
        if !(KEEPALIVE_MS_MIN..=KEEPALIVE_MS_MAX).contains(&keepalive_ms) {
            return Err(invalid(format!(
                "keepalive_ms must be {KEEPALIVE_MS_MIN} to {KEEPALIVE_MS_MAX}"
            )));
        }
        let report_tags = self.report_tags.unwrap_or(plain.report_tags);
        if !(1..=REPORT_TAGS_MAX).contains(&report_tags) {
            return Err(invalid(format!("report_tags must be 1 to {REPORT_TAGS_MAX}")));
        }
        let start = match self.start {
            None => plain.start,
            Some(start) => {
                let at = place(&start);
                start.value.check().map_err(|error| error.at(at))?
            }
        };
        Ok(LlrpSettings {
            antennas: self.antennas,
            power,
            mode,
            session,
            population: self.population.unwrap_or(plain.population),
            search: self.search,
            keepalive_ms,
            hold: self.hold.unwrap_or(plain.hold),
            report_tags,
            start,
        })
    }
}

impl StartText {
    fn check(self) -> Result<Start, ProfileError> {
        match self {
            Self::Word(StartWord::Immediate) => Ok(Start::Immediate),
            Self::Word(StartWord::Request) => Ok(Start::Request),
            Self::Every(Every { every_ms, for_ms }) => {
                if for_ms == 0 || every_ms > INVENTORY_MS_MAX || for_ms > every_ms {
                    return Err(invalid(format!(
                        "for_ms must be 1 to every_ms, and every_ms {INVENTORY_MS_MAX} at most"
                    )));
                }
                Ok(Start::Periodic { offset_ms: 0, period_ms: every_ms, for_ms })
            }
            Self::Gpi(Gpi { gpi, high, timeout_ms }) => {
                if gpi == 0 || timeout_ms > INVENTORY_MS_MAX {
                    return Err(invalid(format!(
                        "gpi is a number from 1, and timeout_ms {INVENTORY_MS_MAX} at most"
                    )));
                }
                Ok(Start::Gpi { port: gpi, high, timeout_ms })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    fn with(section: &str) -> Result<LlrpSettings, ProfileError> {
        let text = format!(
            "name: x\ncodec: llrp\n{section}\nstreams: {{reads: {{class: stock, dedupe: level, tags: {{}}}}}}\n"
        );
        Profile::parse(&text).map(|profile| profile.llrp.unwrap())
    }

    #[test]
    fn what_is_not_written_is_a_default() {
        assert_eq!(with("").unwrap(), LlrpSettings::default());
        assert_eq!(with("llrp: {}").unwrap(), LlrpSettings::default());
        let all = with(
            "llrp: {antennas: [1, 3], power_dbm: 27.5, mode: 1002, tari_ns: 6250, session: 2, population: 400, search: dual, \
             keepalive_ms: 500, hold: false, report_tags: 16, start: {gpi: 2, high: false, timeout_ms: 5000}}",
        )
        .unwrap();
        assert_eq!(all.power, Some(Strength::Cdbm(2_750)));
        assert_eq!(all.mode, Some((1_002, 6_250)));
        assert_eq!(all.start, Start::Gpi { port: 2, high: false, timeout_ms: 5_000 });
        assert_eq!((all.search, all.hold, all.report_tags), (Some(Search::Dual), false, 16));
        let every =
            with("llrp: {power_index: 81, start: {every_ms: 60000, for_ms: 5000}}").unwrap();
        assert_eq!(every.power, Some(Strength::Index(81)));
        let periodic = Start::Periodic { offset_ms: 0, period_ms: 60_000, for_ms: 5_000 };
        assert_eq!(every.start, periodic);
        assert_eq!(with("llrp: {start: request}").unwrap().start, Start::Request);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (section, word) in [
            ("llrp: {antennas: [0]}", "from 1"),
            ("llrp: {power_dbm: 50}", "0 to 40"),
            ("llrp: {power_dbm: .nan}", "0 to 40"),
            ("llrp: {power_dbm: 20, power_index: 1}", "exclude"),
            ("llrp: {tari_ns: 6250}", "needs mode"),
            ("llrp: {session: 4}", "0 to 3"),
            ("llrp: {keepalive_ms: 10}", "100 to 60000"),
            ("llrp: {report_tags: 0}", "1 to 1024"),
            ("llrp: {start: {every_ms: 10, for_ms: 20}}", "every_ms"),
            ("llrp: {start: {gpi: 0}}", "from 1"),
            ("llrp: {start: sometimes}", "start"),
            ("llrp: {colour: blue}", "colour"),
        ] {
            let error = with(section).unwrap_err().to_string();
            assert!(error.contains(word), "{section}: {error}");
        }
        let json = "name: x\ncodec: json\nllrp: {}\nstreams: {s: {class: telemetry, dedupe: level, values: {all: \"\"}}}\n";
        assert!(Profile::parse(json).unwrap_err().to_string().contains("codec: llrp"));
    }
}
