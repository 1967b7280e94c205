//! What a reader can do, as GET_READER_CAPABILITIES_RESPONSE tells it, and what follows for an inventory.

use super::{IMPINJ, Impinj, Inventory, Message, Parameter, Power};
use crate::profile::{LlrpSettings, Strength};

/// Longest firmware version that is kept, in characters.
const FIRMWARE_CHARS_MAX: usize = 64;

/// What a reader can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Its maker's private enterprise number; 25882 is Impinj, 161 Motorola and Zebra.
    pub vendor: u32,
    /// Its maker's number of the model.
    pub model: u32,
    /// Its firmware.
    pub firmware: String,
    /// Antennas it has at most.
    pub antennas: u16,
    /// It has a clock, and tells the time of day.
    pub has_utc: bool,
    /// It keeps events and reports while nobody is connected, when it is told to.
    pub can_hold: bool,
    /// Index and strength of every transmit power, in 1/100 dBm.
    pub powers: Vec<(u16, i16)>,
    /// Its first hop table where it hops, 0 where it does not.
    pub hop_table: u16,
    /// Identifiers of its modes.
    pub modes: Vec<u32>,
}

/// Why a reader cannot be set as a profile wants it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unable {
    /// An antenna that it does not have.
    #[error("it has no antenna {wanted}, only {antennas}")]
    Antenna {
        /// The antenna.
        wanted: u16,
        /// How many it has.
        antennas: u16,
    },
    /// A strength below its weakest.
    #[error(
        "its weakest transmit power is {least_cdbm}/100 dBm, above the {wanted_cdbm}/100 dBm of the profile"
    )]
    Weak {
        /// What was wanted, 1/100 dBm.
        wanted_cdbm: i16,
        /// Its weakest, 1/100 dBm.
        least_cdbm: i16,
    },
    /// An index of its powers that it does not have.
    #[error("its table of transmit powers has no index {0}")]
    PowerIndex(u16),
    /// Power is wanted and it tells no table.
    #[error("it tells no table of transmit powers, so none can be set")]
    NoPowers,
    /// A mode it does not have.
    #[error("it has no mode {wanted}, only {modes:?}")]
    Mode {
        /// The mode.
        wanted: u16,
        /// Its modes.
        modes: Vec<u32>,
    },
}

impl Capabilities {
    /// Reads them of the response. What it leaves out is nothing.
    pub fn of(message: &Message) -> Self {
        let mut found = Self::default();
        let short = |number: Option<u64>| number.and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
        let long = |number: Option<u64>| number.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        if let Some(general) = message.parameter("GeneralDeviceCapabilities") {
            found.vendor = long(general.number_of("DeviceManufacturerName"));
            found.model = long(general.number_of("ModelName"));
            let firmware = general.text_of("ReaderFirmwareVersion").unwrap_or_default();
            found.firmware = firmware.chars().take(FIRMWARE_CHARS_MAX).collect();
            found.antennas = short(general.number_of("MaxNumberOfAntennaSupported"));
            found.has_utc = general.number_of("HasUTCClockCapability") == Some(1);
        }
        if let Some(llrp) = message.parameter("LLRPCapabilities") {
            found.can_hold = llrp.number_of("SupportsEventAndReportHolding") == Some(1);
        }
        let band = message
            .parameter("RegulatoryCapabilities")
            .and_then(|regulatory| regulatory.parameter("UHFBandCapabilities"));
        let Some(band) = band else { return found };
        let power = |entry: &Parameter| {
            let strength = i16::try_from(entry.signed_of("TransmitPowerValue")?).ok()?;
            Some((u16::try_from(entry.number_of("Index")?).ok()?, strength))
        };
        found.powers = band.all("TransmitPowerLevelTableEntry").filter_map(power).collect();
        if let Some(frequencies) = band.parameter("FrequencyInformation")
            && frequencies.number_of("Hopping") == Some(1)
        {
            let table = frequencies.parameter("FrequencyHopTable");
            found.hop_table = short(table.and_then(|table| table.number_of("HopTableID"))).max(1);
        }
        let modes = band.all("C1G2UHFRFModeTable").flat_map(|t| t.all("C1G2UHFRFModeTableEntry"));
        found.modes = modes.map(|mode| long(mode.number_of("ModeIdentifier"))).collect();
        found
    }

    /// It understands Impinj's extensions.
    pub fn is_impinj(&self) -> bool {
        self.vendor == IMPINJ
    }

    /// The inventory that a profile wants of this reader. `extended` = Impinj's extensions are enabled.
    pub fn inventory(
        &self,
        rospec: u32,
        settings: &LlrpSettings,
        extended: bool,
    ) -> Result<Inventory, Unable> {
        let missing =
            settings.antennas.iter().find(|antenna| self.antennas > 0 && **antenna > self.antennas);
        if let Some(wanted) = missing {
            return Err(Unable::Antenna { wanted: *wanted, antennas: self.antennas });
        }
        if let Some((wanted, _)) = settings.mode
            && !self.modes.is_empty()
            && !self.modes.contains(&wanted.into())
        {
            return Err(Unable::Mode { wanted, modes: self.modes.clone() });
        }
        let index = settings.power.map(|strength| self.power(strength)).transpose()?;
        // Where it does not hop the channel is the first of its table.
        let power = index.map(|index| Power {
            index,
            hop_table: self.hop_table,
            channel: u16::from(self.hop_table == 0),
        });
        Ok(Inventory {
            rospec,
            antennas: settings.antennas.clone(),
            start: settings.start,
            report_tags: settings.report_tags,
            power,
            mode: settings.mode,
            session: settings.session,
            population: settings.population,
            impinj: extended.then_some(Impinj { search: settings.search }),
        })
    }

    /// The index of the strongest power that is not above what is wanted.
    fn power(&self, strength: Strength) -> Result<u16, Unable> {
        let wanted = match strength {
            Strength::Index(index) => {
                let known = self.powers.iter().any(|(other, _)| *other == index);
                return known.then_some(index).ok_or(Unable::PowerIndex(index));
            }
            Strength::Cdbm(wanted) => wanted,
        };
        let fits = self.powers.iter().filter(|(_, cdbm)| *cdbm <= wanted);
        let least = self.powers.iter().map(|(_, cdbm)| *cdbm).min();
        match (fits.max_by_key(|(_, cdbm)| *cdbm), least) {
            (Some((index, _)), _) => Ok(*index),
            (None, Some(least_cdbm)) => Err(Unable::Weak { wanted_cdbm: wanted, least_cdbm }),
            (None, None) => Err(Unable::NoPowers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four_ports() -> Capabilities {
        Capabilities {
            antennas: 4,
            powers: vec![(1, 1_000), (2, 2_000), (3, 3_000)],
            hop_table: 1,
            modes: vec![0, 1_002],
            ..Capabilities::default()
        }
    }

    #[test]
    fn power_is_the_nearest_that_is_not_above() {
        let index = |cdbm| four_ports().power(Strength::Cdbm(cdbm));
        assert_eq!(index(1_000), Ok(1));
        assert_eq!(index(2_999), Ok(2));
        assert_eq!(index(4_000), Ok(3));
        assert_eq!(index(999), Err(Unable::Weak { wanted_cdbm: 999, least_cdbm: 1_000 }));
        assert_eq!(four_ports().power(Strength::Index(3)), Ok(3));
        assert_eq!(four_ports().power(Strength::Index(4)), Err(Unable::PowerIndex(4)));
        assert_eq!(Capabilities::default().power(Strength::Cdbm(1)), Err(Unable::NoPowers));
    }

    #[test]
    fn a_reader_that_cannot_is_told_why_and_channels_follow_its_tables() {
        let settings = |change: fn(&mut LlrpSettings)| {
            let mut settings = LlrpSettings::default();
            change(&mut settings);
            settings
        };
        let ask = |change| four_ports().inventory(7, &settings(change), false);
        assert_eq!(
            ask(|s| s.antennas = vec![1, 5]),
            Err(Unable::Antenna { wanted: 5, antennas: 4 })
        );
        assert!(matches!(ask(|s| s.mode = Some((3, 0))), Err(Unable::Mode { wanted: 3, .. })));
        let hops = ask(|s| s.power = Some(Strength::Cdbm(2_500))).unwrap();
        assert_eq!(hops.power, Some(Power { index: 2, hop_table: 1, channel: 0 }));
        let fixed = Capabilities { hop_table: 0, ..four_ports() };
        let still = fixed.inventory(7, &settings(|s| s.power = Some(Strength::Index(1))), true);
        let still = still.unwrap();
        assert_eq!(still.power, Some(Power { index: 1, hop_table: 0, channel: 1 }));
        assert_eq!((still.rospec, still.impinj), (7, Some(Impinj { search: None })));
    }
}
