//! What the journal holds: entries, their positions and their time.
//!
//! Everything the fold depends on is an entry. A frame keeps the raw bytes and the hash of the profile that read them, so a
//! figure can always be explained down to the bytes, and a decoder's mistake can be found by replay.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use device_profiles::{
    Channel, DeviceId, FacilityId, Milligrams, ProfileHash, ShardId, ShelfId, Sku, SlotId, Tag,
    Units, ZoneId,
};
use serde::{Deserialize, Serialize};

use crate::rfid::{AntennaSpec, ZoneSpec};

/// A place in the journal. `epoch` changes only when a journal is made anew; `offset` is opaque, increasing and not dense.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// Which journal.
    pub epoch: u32,
    /// Which shard of it.
    pub shard: ShardId,
    /// Where in it.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.epoch, self.shard, self.offset)
    }
}

/// A text that is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position is written EPOCH-SHARD-OFFSET, such as 1-0-81920")]
pub struct NotAPosition;

impl FromStr for Position {
    type Err = NotAPosition;
    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(NotAPosition);
        let (epoch, shard, offset) = (next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(NotAPosition);
        }
        Ok(Self {
            epoch: epoch.parse().map_err(|_| NotAPosition)?,
            shard: ShardId(shard.parse().map_err(|_| NotAPosition)?),
            offset: offset.parse().map_err(|_| NotAPosition)?,
        })
    }
}

/// The hub's time: microseconds since the Unix epoch as stamped by the journal's appender. Never decreases in a journal.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct HubTime(pub i64);

impl HubTime {
    /// This time and so many microseconds, held at the ends of the range.
    pub fn plus_us(self, us: i64) -> Self {
        Self(self.0.saturating_add(us))
    }
    /// Microseconds since an earlier time.
    pub fn since_us(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
    /// Which hour since the Unix epoch.
    pub fn hour(self) -> i64 {
        self.0.div_euclid(3_600_000_000)
    }
}

/// Who caused an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Principal {
    /// The device of the frame.
    Device,
    /// The hub itself: ticks, publications, quarantine.
    Hub,
    /// A person or an integration, by name.
    Person(Arc<str>),
}

/// One entry of the journal, as the fold sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// When it was appended.
    pub received_at: HubTime,
    /// Which facility it belongs to.
    pub facility: FacilityId,
    /// Who caused it.
    pub principal: Principal,
    /// What it says.
    pub body: Body,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A device's frame.
    Frame(Frame),
    /// Time passed and a deadline is due.
    Tick,
    /// A profile's text, published before the first frame that names its hash.
    Profile(String),
    /// Values of master data.
    Master(MasterEntry),
    /// A person or an integration changes stock.
    Command(CommandEntry),
    /// The entry at `offset` crashed the fold twice and is skipped.
    Quarantined {
        /// Offset of the skipped entry.
        offset: u64,
        /// What the crash said.
        reason: String,
    },
    /// From here on the rules of this version apply.
    FoldUpgraded {
        /// The new [`crate::FOLD_VERSION`].
        version: u32,
    },
    /// Records of the journal were lost and given up by salvage, but what they did is committed: the lines take it back in
    /// without a movement, because the movements are already told.
    Restated {
        /// What each line lacks.
        lines: Vec<(SlotId, Sku, Units)>,
    },
    /// An entry this version cannot read; counted, never guessed at.
    Unreadable {
        /// Its record kind.
        kind: u8,
        /// What is wrong with it.
        reason: String,
    },
}

/// A raw frame with what identifies it.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The device whose credential sent it.
    pub device: DeviceId,
    /// Its stream, the last part of the topic.
    pub stream: String,
    /// Boot id the frame names.
    pub boot: Option<String>,
    /// Sequence number the frame names.
    pub seq: Option<u64>,
    /// Content of the profile that the edge decoded it with.
    pub profile: ProfileHash,
    /// It is the first frame of a clean session: without a boot id, a lower `seq` then means a reboot.
    pub fresh_session: bool,
    /// The bytes.
    pub raw: Bytes,
}

/// Values of master data; idempotent by revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MasterEntry {
    /// Publication number of the facility; increases.
    pub revision: u64,
    /// The values.
    pub values: Vec<Master>,
}

/// One value of master data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Master {
    /// A slot exists.
    Slot(SlotSpec),
    /// A SKU exists.
    Sku(SkuSpec),
    /// These are all planned lines of a slot.
    Lines {
        /// The slot.
        slot: SlotId,
        /// Its lines.
        lines: Vec<LineSpec>,
    },
    /// A device exists, or changed.
    Device(DeviceSpec),
    /// A device's frames are no longer believed.
    DeviceRevoked(DeviceId),
    /// A slot is no longer there.
    SlotGone(SlotId),
    /// A SKU is no longer kept.
    SkuGone(Sku),
    /// A cell was calibrated: mass = (raw − zero) × scale.
    Calibration {
        /// Which device.
        device: DeviceId,
        /// Which of its cells.
        channel: Channel,
        /// The slot it carried then; on another one the calibration is not good.
        slot: SlotId,
        /// Raw reading of the empty slot.
        zero: Milligrams,
        /// Scale in millionths; 1,000,000 leaves the mass as it is.
        scale_ppm: i64,
    },
    /// A zone is a place of this kind.
    Zone(ZoneSpec),
    /// These are all antennas of a reader that look somewhere.
    Antennas {
        /// The reader.
        device: DeviceId,
        /// Its antennas.
        antennas: Vec<AntennaSpec>,
    },
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotSpec {
    /// Its id, unique in the facility.
    pub id: SlotId,
    /// Its shelf.
    pub shelf: ShelfId,
    /// Its zone.
    pub zone: Option<ZoneId>,
    /// Receipts that name no slot are booked here.
    pub receiving: bool,
}

/// A stock keeping unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkuSpec {
    /// Its id.
    pub id: Sku,
    /// Mass of one unit.
    pub unit_weight: Option<Milligrams>,
    /// Standard deviation of the mass of one unit.
    pub unit_sigma: Milligrams,
    /// GTIN, 8 to 14 digits.
    pub gtin: Option<String>,
}

/// Which source counts a line. The others are witnesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The load cell under the slot.
    Weight,
    /// Declared changes: `stock` readings, scans, people.
    Scan,
    /// RFID tags.
    Rfid,
}

impl Source {
    /// Its name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Scan => "scan",
            Self::Rfid => "rfid",
        }
    }
}

/// A planned line: this SKU belongs in the slot and is counted so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineSpec {
    /// What.
    pub sku: Sku,
    /// Who counts it.
    pub source: Source,
    /// How many fit.
    pub capacity: Option<Units>,
    /// Below this the line is low.
    pub min: Option<Units>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Its id.
    pub id: DeviceId,
    /// Where its declared changes go when they name no slot.
    pub slot: Option<SlotId>,
    /// Its load cells.
    pub channels: Vec<ChannelSpec>,
}

/// A load cell and the slot it carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelSpec {
    /// Its channel of the device.
    pub channel: Channel,
    /// The slot on it.
    pub slot: SlotId,
    /// Smallest step it shows.
    pub division: Milligrams,
    /// Standard error of a settled reading (repositioning, hysteresis, noise).
    pub noise: Milligrams,
    /// Full scale.
    pub capacity: Option<Milligrams>,
    /// What it shows when the slot is empty; `None` when unknown.
    pub zero: Option<Milligrams>,
}

/// A call that changes stock, with its idempotency key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandEntry {
    /// Dedupe key; the second command with it does nothing.
    pub key: Option<String>,
    /// What is to be done.
    pub command: Command,
}

/// A call that changes stock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Goods came in.
    Receipt {
        /// Where; the facility's receiving slot when absent.
        slot: Option<SlotId>,
        /// What.
        sku: Sku,
        /// How many.
        quantity: Units,
        /// Delivery note or order.
        reference: Option<String>,
    },
    /// Goods went out.
    Pick {
        /// Where from.
        slot: SlotId,
        /// What.
        sku: Sku,
        /// How many.
        quantity: Units,
        /// Order.
        reference: Option<String>,
    },
    /// Goods changed place.
    Move {
        /// Where from.
        from: SlotId,
        /// Where to.
        to: SlotId,
        /// What.
        sku: Sku,
        /// How many.
        quantity: Units,
    },
    /// Somebody counted.
    Count {
        /// Where.
        slot: SlotId,
        /// What.
        sku: Sku,
        /// How many were there.
        quantity: Units,
        /// When, if not now.
        counted_at: Option<HubTime>,
    },
    /// Stock is changed by hand.
    Adjust {
        /// Where.
        slot: SlotId,
        /// What.
        sku: Sku,
        /// By how many.
        delta: Units,
        /// Why.
        reason: String,
    },
    /// Nothing is on this cell now.
    Tare {
        /// Which device.
        device: DeviceId,
        /// Which of its cells.
        channel: Channel,
    },
    /// A slot is empty now: the cell under it is tared, unless another source says that something is in it.
    Zero {
        /// The slot.
        slot: SlotId,
        /// Whatever other sources say.
        force: bool,
    },
    /// A tag is not here any more.
    TagGone {
        /// The tag.
        tag: Tag,
        /// The facility that has it, if that is why.
        elsewhere: Option<FacilityId>,
        /// A tag that was read here since is here.
        unless_read_since: Option<HubTime>,
    },
    /// What is in a zone now is to be told: a stocktaking by tags.
    CycleCount {
        /// The zone; the whole facility when absent.
        zone: Option<ZoneId>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip() {
        let position = Position { epoch: 1, shard: ShardId(2), offset: 81_920 };
        assert_eq!(position.to_string(), "1-2-81920");
        assert_eq!("1-2-81920".parse(), Ok(position));
        for bad in ["", "1-2", "1-2-3-4", "a-2-3", "1-99999-3"] {
            assert_eq!(bad.parse::<Position>(), Err(NotAPosition), "{bad}");
        }
    }
}
