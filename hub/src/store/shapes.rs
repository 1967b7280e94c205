//! Master data as it is posted: the bodies of the API, and the rows that writing compares with what is there.
//!
//! One shape serves the call on a path (`POST /facilities/{f}/zones`) and the import: `facility` is taken from the path there
//! and must be given here. A field that is left out stays as it is where the thing is there: [`Row::over`].

use device_profiles::{Channel, DeviceId, FacilityId, ShelfId, Sku, SlotId, ZoneId};
use fold::{Mobility, Personality, Source};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::posted::Posted;

/// A site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFacility {
    /// Its id.
    #[schema(value_type = String)]
    pub id: FacilityId,
    /// Its name.
    pub name: String,
    /// An IANA time zone; `UTC` for a new facility when absent.
    #[serde(default = "utc")]
    #[schema(value_type = String)]
    pub time_zone: Posted<String>,
}

fn utc() -> Posted<String> {
    Posted::usual("UTC".to_owned())
}

/// A zone of a facility.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewZone {
    /// Its facility; in an import only.
    #[schema(value_type = Option<String>)]
    pub facility: Option<FacilityId>,
    /// Its id, unique in the facility.
    #[schema(value_type = String)]
    pub id: ZoneId,
    /// Its name.
    pub name: String,
    /// What kind of place it is, for the readers that look at it; `shelf` for a new zone when absent.
    #[serde(default)]
    #[schema(value_type = ZonePersonality)]
    pub personality: Posted<Personality>,
    /// How goods move there, where it is not as usual for its personality; `null`: as usual.
    #[serde(default)]
    #[schema(value_type = Option<ZoneMobility>)]
    pub mobility: Posted<Option<ZoneMobility>>,
}

/// A shelf.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewShelf {
    /// Its facility; in an import only.
    #[schema(value_type = Option<String>)]
    pub facility: Option<FacilityId>,
    /// Its id, unique in the facility.
    #[schema(value_type = String)]
    pub id: ShelfId,
    /// Its name.
    pub name: String,
    /// The zone it stands in; `null`: in none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub zone: Posted<Option<ZoneId>>,
}

/// What kind of place a zone is, in an API body.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum ZonePersonality {
    /// Goods lie here.
    Shelf,
    /// A door: who was heard outside last, and inside no more, has left.
    Exit,
    /// Goods that pass here and fall silent are sold.
    Sale,
    /// Goods are tried on here, and come back.
    Fitting,
}

/// Knobs of presence and place in a zone; what is left out is as its personality has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ZoneMobility {
    /// A tag is present from this probability on, in thousandths: 500 to 999.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrive_permille: Option<u32>,
    /// It is gone from this probability on, in thousandths: 1 to 499.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depart_permille: Option<u32>,
    /// How often a tag that is not there is read, in millionths per half second: 10 to 100000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ghost_ppm: Option<u32>,
    /// How long goods stay on the average, in seconds: 2 to 604800.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stay_s: Option<u32>,
    /// How often a tag that is there fades, in thousandths per half second: 0 to 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fade_permille: Option<u32>,
    /// How long a fade lasts on the average, in half seconds: 2 to 240.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fade_epochs: Option<u32>,
    /// Odds from which a tag is at another antenna: 2 to 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub move_odds: Option<u32>,
    /// It stays where it came to for so long at least, in milliseconds: 0 to 600000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dwell_ms: Option<u32>,
    /// At a door or point of sale: after so long without a read a tag has passed, in milliseconds: 500 to 600000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_ms: Option<u32>,
}

impl ZoneMobility {
    /// The knobs, those left out taken from a whole set.
    pub fn over(&self, whole: Mobility) -> Mobility {
        Mobility {
            arrive_permille: self.arrive_permille.unwrap_or(whole.arrive_permille),
            depart_permille: self.depart_permille.unwrap_or(whole.depart_permille),
            ghost_ppm: self.ghost_ppm.unwrap_or(whole.ghost_ppm),
            stay_s: self.stay_s.unwrap_or(whole.stay_s),
            fade_permille: self.fade_permille.unwrap_or(whole.fade_permille),
            fade_epochs: self.fade_epochs.unwrap_or(whole.fade_epochs),
            move_odds: self.move_odds.unwrap_or(whole.move_odds),
            dwell_ms: self.dwell_ms.unwrap_or(whole.dwell_ms),
            quiet_ms: self.quiet_ms.unwrap_or(whole.quiet_ms),
        }
    }
}

/// A place on a shelf.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSlot {
    /// Its facility; in an import only.
    #[schema(value_type = Option<String>)]
    pub facility: Option<FacilityId>,
    /// Its id, unique in the facility.
    #[schema(value_type = String)]
    pub id: SlotId,
    /// Its shelf.
    #[schema(value_type = String)]
    pub shelf: ShelfId,
    /// Its name; `null`, or absent for a new slot: the id.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub name: Posted<Option<String>>,
    /// Receipts that name no slot are booked here.
    #[serde(default)]
    #[schema(value_type = bool)]
    pub receiving: Posted<bool>,
}

/// A stock keeping unit. SKUs belong to no facility.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSku {
    /// Its id.
    #[schema(value_type = String)]
    pub id: Sku,
    /// Its name.
    pub name: String,
    /// Mass of one unit, milligrams; `null`: not known.
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    pub unit_weight_mg: Posted<Option<i64>>,
    /// Standard deviation of the mass of one unit, milligrams.
    #[serde(default)]
    #[schema(value_type = i64)]
    pub unit_sigma_mg: Posted<i64>,
    /// GTIN, 8 to 14 digits with the right check digit. With and without leading zeros it is the same. `null`: none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub gtin: Posted<Option<String>>,
}

/// A line of the planogram: this SKU belongs in this slot and is counted so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLine {
    /// Its facility; in an import only.
    #[schema(value_type = Option<String>)]
    pub facility: Option<FacilityId>,
    /// The slot.
    #[schema(value_type = String)]
    pub slot: SlotId,
    /// The SKU.
    #[schema(value_type = String)]
    pub sku: Sku,
    /// Which source counts it.
    #[schema(value_type = LineSource)]
    pub source: Source,
    /// How many fit.
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    pub capacity: Posted<Option<i64>>,
    /// Below this the line is low.
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    pub min: Posted<Option<i64>>,
}

/// Which source counts a line.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum LineSource {
    /// The load cell under the slot.
    Weight,
    /// Declared changes: readings, scans, people.
    Scan,
    /// RFID tags.
    Rfid,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDevice {
    /// Its id, unique in the hub; also its MQTT username.
    #[schema(value_type = String)]
    pub id: DeviceId,
    /// Its facility.
    #[schema(value_type = String)]
    pub facility: FacilityId,
    /// Its name; `null`, or absent for a new device: the id.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub name: Posted<Option<String>>,
    /// What its bytes mean: the name of a profile (its newest text) or the hash of one; `default` for a new device when absent.
    #[serde(default = "default_profile")]
    #[schema(value_type = String)]
    pub profile: Posted<String>,
    /// Where its declared changes go when they name no slot; `null`: nowhere.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub slot: Posted<Option<SlotId>>,
    /// The device that publishes for it: a Zigbee bridge, a LoRaWAN network server; `null`: itself.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub gateway: Posted<Option<DeviceId>>,
    /// All its load cells; `[]`: none.
    #[serde(default)]
    #[schema(value_type = Vec<NewChannel>)]
    pub channels: Posted<Vec<NewChannel>>,
    /// All its antennas, if it reads tags; `[]`: none.
    #[serde(default)]
    #[schema(value_type = Vec<NewAntenna>)]
    pub antennas: Posted<Vec<NewAntenna>>,
}

/// An antenna of a reader, and what it looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAntenna {
    /// Its port at the reader, from 1.
    pub port: u16,
    /// The zone it looks at.
    #[schema(value_type = String)]
    pub zone: ZoneId,
    /// The slot it looks at: tags there are units of it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub slot: Option<SlotId>,
    /// At a door: it looks at what is outside.
    #[serde(default)]
    pub outside: bool,
}

/// The profile of a device that names none.
pub const DEFAULT_PROFILE_NAME: &str = "default";

fn default_profile() -> Posted<String> {
    Posted::usual(DEFAULT_PROFILE_NAME.to_owned())
}

/// A load cell and the slot it carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewChannel {
    /// Its channel of the device.
    #[schema(value_type = String)]
    pub channel: Channel,
    /// The slot on it.
    #[schema(value_type = String)]
    pub slot: SlotId,
    /// Smallest step it shows, milligrams.
    pub division_mg: i64,
    /// Standard error of a settled reading, milligrams.
    pub noise_mg: i64,
    /// Full scale, milligrams.
    pub capacity_mg: Option<i64>,
    /// What it shows when the slot is empty, milligrams.
    pub zero_mg: Option<i64>,
}

/// Any amount of master data, written in one transaction. What the body of a thing that is there leaves out stays as it is;
/// `null` and `[]` erase it. A list that is given replaces the one that was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MasterData {
    /// Facilities.
    pub facilities: Vec<NewFacility>,
    /// Zones.
    pub zones: Vec<NewZone>,
    /// Shelves.
    pub shelves: Vec<NewShelf>,
    /// Slots.
    pub slots: Vec<NewSlot>,
    /// SKUs.
    pub skus: Vec<NewSku>,
    /// Planogram lines; lines not named here stay as they are.
    pub planogram: Vec<NewLine>,
    /// Devices.
    pub devices: Vec<NewDevice>,
}

impl MasterData {
    /// How many things it holds.
    pub fn len(&self) -> usize {
        self.facilities.len()
            + self.zones.len()
            + self.shelves.len()
            + self.slots.len()
            + self.skus.len()
            + self.planogram.len()
            + self.devices.len()
    }
    /// It holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A row that is posted, and that may leave things out.
pub(super) trait Row: Clone + PartialEq {
    /// What is to be written: what was said, over what is there. Names nobody gave are the id, so that two equal things are equal
    /// whatever was left out.
    #[must_use]
    fn over(self, there: Option<&Self>) -> Self;
}

impl Row for NewFacility {
    fn over(self, there: Option<&Self>) -> Self {
        let Some(there) = there else { return self };
        Self { time_zone: self.time_zone.or(&there.time_zone), ..self }
    }
}

impl Row for NewZone {
    fn over(self, there: Option<&Self>) -> Self {
        let Some(there) = there else { return self };
        Self {
            personality: self.personality.or(&there.personality),
            mobility: self.mobility.or(&there.mobility),
            ..self
        }
    }
}

impl Row for NewShelf {
    fn over(self, there: Option<&Self>) -> Self {
        let Some(there) = there else { return self };
        Self { zone: self.zone.or(&there.zone), ..self }
    }
}

impl Row for NewSlot {
    fn over(mut self, there: Option<&Self>) -> Self {
        if let Some(there) = there {
            self.name = self.name.or(&there.name);
            self.receiving = self.receiving.or(&there.receiving);
        }
        self.name.get_or_insert_with(|| self.id.to_string());
        self
    }
}

impl Row for NewSku {
    fn over(self, there: Option<&Self>) -> Self {
        let Some(there) = there else { return self };
        Self {
            unit_weight_mg: self.unit_weight_mg.or(&there.unit_weight_mg),
            unit_sigma_mg: self.unit_sigma_mg.or(&there.unit_sigma_mg),
            gtin: self.gtin.or(&there.gtin),
            ..self
        }
    }
}

impl Row for NewLine {
    fn over(self, there: Option<&Self>) -> Self {
        let Some(there) = there else { return self };
        Self { capacity: self.capacity.or(&there.capacity), min: self.min.or(&there.min), ..self }
    }
}

impl Row for NewDevice {
    fn over(mut self, there: Option<&Self>) -> Self {
        if let Some(there) = there {
            self = Self {
                name: self.name.or(&there.name),
                profile: self.profile.or(&there.profile),
                slot: self.slot.or(&there.slot),
                gateway: self.gateway.or(&there.gateway),
                channels: self.channels.or(&there.channels),
                antennas: self.antennas.or(&there.antennas),
                ..self
            };
        }
        self.name.get_or_insert_with(|| self.id.to_string());
        // In the order of the rows, or the same cells in another order would be other cells.
        self.channels.sort_by(|a, b| a.channel.cmp(&b.channel));
        self
    }
}
