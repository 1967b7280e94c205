//! What applying one entry did: the only output of the fold.
//!
//! Movements and events are rows of the committed outbox. Levels are named by key only: the committer reads their values from
//! the state when it seals a batch, so a line that moved a hundred times in a batch is written once.

use std::sync::Arc;

use device_profiles::{DeviceId, FacilityId, Sku, SlotId, Tag, Units, ZoneId};
use serde::{Deserialize, Serialize};

use crate::{
    device::LedgerHour,
    discrepancy::{Closed, Opened},
    entry::{HubTime, Position, Principal},
    rfid::{How, Whereabouts},
};

/// Everything one entry did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Effects {
    /// What became of the entry.
    pub outcome: Outcome,
    /// Stock that moved, in order.
    pub movements: Vec<Movement>,
    /// Everything else that is told, in order.
    pub events: Vec<Event>,
    /// Lines whose level row changed.
    pub levels: Vec<(SlotId, Sku)>,
    /// Tags whose row changed.
    pub tags: Vec<Tag>,
    /// A device's hour that this entry ended; final counts.
    pub ledger_closed: Option<(DeviceId, LedgerHour)>,
}

impl Effects {
    /// The ordinal the next movement or event gets.
    pub(crate) fn next_ordinal(&self) -> u16 {
        u16::try_from(self.movements.len() + self.events.len()).unwrap_or(u16::MAX)
    }

    /// Tells something of a device, or of the facility.
    pub(crate) fn tell(&mut self, device: Option<&DeviceId>, at: HubTime, kind: EventKind) {
        self.events.push(Event {
            ordinal: self.next_ordinal(),
            kind,
            at,
            device: device.cloned(),
            slot: None,
            sku: None,
        });
    }
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Outcome {
    /// It took effect.
    #[default]
    Applied,
    /// It was seen before.
    Duplicate,
    /// It is sound but cannot be believed or placed; kept with its reason.
    Quarantined(Reason),
    /// It can never take effect; kept with its reason.
    Rejected(Reason),
}

/// Why an entry had no effect. `code` is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The frame's profile is not in the journal.
    UnknownProfile,
    /// The profile has no such stream.
    UnknownStream,
    /// Not valid JSON.
    NotJson,
    /// The payload is not a register image.
    NotImage,
    /// The payload is not text, or not a line of its form.
    NotText,
    /// Nested too deep.
    TooDeep,
    /// Larger than a limit.
    TooLarge,
    /// A required field is absent.
    MissingField,
    /// A field has the wrong type.
    WrongType,
    /// A number is out of range.
    OutOfRange,
    /// A field is not an id.
    BadId,
    /// The frame holds no measurement.
    Empty,
    /// The device is not enrolled here.
    UnknownDevice,
    /// The device was revoked.
    DeviceRevoked,
    /// Older than the dedupe window.
    TooOld,
    /// No such slot.
    UnknownSlot,
    /// No such SKU.
    UnknownSku,
    /// No SKU has the scanned code.
    UnknownCode,
    /// The reading names no slot and the device has none.
    NoSlot,
    /// No load cell is bound to the channel.
    UnboundChannel,
    /// The slot has no room for another line.
    TooManyLines,
    /// The quantity would leave its range.
    Overflow,
    /// The facility has no receiving slot.
    NoReceivingSlot,
    /// From and to are the same slot.
    SameSlot,
    /// The count lies further back than it can be placed.
    CountTooOld,
    /// The count lies in the future.
    CountInFuture,
    /// No such channel.
    UnknownChannel,
    /// The cell has not settled yet.
    CellNotSettled,
    /// Another source says that something is in the slot.
    SlotNotEmpty,
    /// The command's values are out of range.
    BadCommand,
    /// The idempotency key was used for another call.
    KeyReused,
    /// The entry crashed the fold.
    Poison,
    /// The entry cannot be read by this version.
    Unreadable,
    /// The payload is not a message of its protocol.
    NotMessage,
    /// The antenna looks at no zone.
    UnboundAntenna,
    /// The facility has no room for another tag.
    TooManyTags,
    /// No such tag is present.
    UnknownTag,
    /// The tag was read here since.
    TagReadSince,
    /// No such zone has readers.
    UnknownZone,
}

impl Reason {
    /// Its stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownProfile => "unknown_profile",
            Self::UnknownStream => "unknown_stream",
            Self::NotJson => "not_json",
            Self::NotImage => "not_image",
            Self::NotText => "not_text",
            Self::NotMessage => "not_message",
            Self::UnboundAntenna => "unbound_antenna",
            Self::TooManyTags => "too_many_tags",
            Self::UnknownTag => "unknown_tag",
            Self::TagReadSince => "tag_read_since",
            Self::UnknownZone => "unknown_zone",
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::OutOfRange => "out_of_range",
            Self::BadId => "bad_id",
            Self::Empty => "empty",
            Self::UnknownDevice => "unknown_device",
            Self::DeviceRevoked => "device_revoked",
            Self::TooOld => "too_old",
            Self::UnknownSlot => "unknown_slot",
            Self::UnknownSku => "unknown_sku",
            Self::UnknownCode => "unknown_code",
            Self::NoSlot => "no_slot",
            Self::UnboundChannel => "unbound_channel",
            Self::TooManyLines => "too_many_lines",
            Self::Overflow => "overflow",
            Self::NoReceivingSlot => "no_receiving_slot",
            Self::SameSlot => "same_slot",
            Self::CountTooOld => "count_too_old",
            Self::CountInFuture => "count_in_future",
            Self::UnknownChannel => "unknown_channel",
            Self::CellNotSettled => "cell_not_settled",
            Self::SlotNotEmpty => "slot_not_empty",
            Self::BadCommand => "bad_command",
            Self::KeyReused => "idempotency_key_reused",
            Self::Poison => "poison",
            Self::Unreadable => "unreadable",
        }
    }
}

impl From<&device_profiles::DecodeReject> for Reason {
    fn from(reject: &device_profiles::DecodeReject) -> Self {
        use device_profiles::DecodeReject as R;
        match reject {
            R::UnknownStream(_) => Self::UnknownStream,
            R::NotJson(_) => Self::NotJson,
            R::NotImage(_) => Self::NotImage,
            R::NotText(_) => Self::NotText,
            R::NotMessage(_) => Self::NotMessage,
            R::TooDeep => Self::TooDeep,
            R::TooLarge(_) => Self::TooLarge,
            R::Missing(_) => Self::MissingField,
            R::WrongType { .. } => Self::WrongType,
            R::OutOfRange(_) => Self::OutOfRange,
            R::BadId { .. } => Self::BadId,
            R::Empty => Self::Empty,
        }
    }
}

/// A probability in ten-thousandths, so that it compares bit for bit and stores as a small integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Confidence(pub u16);

impl Confidence {
    /// As sure as it gets.
    pub const FULL: Self = Self(10_000);

    /// From a probability; held to 0..=1, NaN is 0.
    pub fn from_probability(p: f64) -> Self {
        let scaled = (p * 10_000.0).round();
        if scaled >= 10_000.0 {
            Self::FULL
        } else if scaled > 0.0 {
            Self(scaled as u16)
        } else {
            Self(0)
        }
    }
    /// As a probability.
    pub fn probability(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

/// A movement's name: the entry that made it and its place among that entry's effects. Inserting it twice is the same row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MovementId {
    /// The entry.
    pub position: Position,
    /// Its place among the entry's movements and events.
    pub ordinal: u16,
}

impl std::fmt::Display for MovementId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.position, self.ordinal)
    }
}

/// Stock that moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Movement {
    /// Its place among the entry's movements and events.
    pub ordinal: u16,
    /// Where.
    pub slot: SlotId,
    /// What.
    pub sku: Sku,
    /// By how many units.
    pub delta: Units,
    /// The line's quantity after it.
    pub level_after: Units,
    /// What kind of change.
    pub cause: Cause,
    /// How sure.
    pub confidence: Confidence,
    /// When, hub time.
    pub at: HubTime,
    /// The device that showed it.
    pub device: Option<DeviceId>,
    /// That device's boot.
    pub boot: Option<String>,
    /// That device's sequence number.
    pub seq: Option<u64>,
    /// Who caused it.
    pub principal: Principal,
    /// Offsets of further entries it rests on; its own entry always belongs to them and is not repeated here.
    pub evidence: Vec<u64>,
    /// The rule that made it, with its numbers.
    pub why: Why,
}

/// What kind of change a movement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The load cell showed it.
    Weight,
    /// A `stock` reading declared it.
    Reading,
    /// A scan declared it.
    Scan,
    /// A count found it.
    Count,
    /// Goods came in.
    Receipt,
    /// Goods went out.
    Pick,
    /// Goods changed place.
    Move,
    /// By hand.
    Adjustment,
    /// The cell was declared empty.
    Tare,
    /// Later evidence showed that an earlier movement was wrong.
    Correction,
    /// A tag came, went or changed place.
    Rfid,
}

impl Cause {
    /// Its name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Reading => "reading",
            Self::Scan => "scan",
            Self::Count => "count",
            Self::Receipt => "receipt",
            Self::Pick => "pick",
            Self::Move => "move",
            Self::Adjustment => "adjustment",
            Self::Tare => "tare",
            Self::Correction => "correction",
            Self::Rfid => "rfid",
        }
    }
}

/// The rule behind a movement, with the numbers it used. Serialised to JSON beside the movement.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum Why {
    /// The reading itself says so.
    Declared,
    /// A scanned code was this SKU.
    Scanned {
        /// The code.
        code: String,
    },
    /// A command says so.
    Commanded {
        /// Its reference or reason.
        reference: Option<String>,
    },
    /// Two plateaus of a load cell differ by a whole number of units.
    Plateau(Box<PlateauWhy>),
    /// A tag came, went or changed place.
    Tag(Box<TagTold>),
    /// The first settled reading of a cell with a known zero.
    FirstPlateau(Box<PlateauWhy>),
    /// A count, applied at its time.
    Counted {
        /// What was counted.
        counted: i64,
        /// What the hub had at that time.
        had: i64,
        /// Units moved since, which stay on top.
        since: i64,
        /// Microseconds the count lies back.
        age_us: i64,
    },
    /// The cell was declared empty.
    Tared {
        /// Gross reading at that moment, milligrams.
        gross_mg: i64,
    },
}

/// The numbers behind a weight movement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlateauWhy {
    /// The cell's channel.
    pub channel: Arc<str>,
    /// Settled net mass before, milligrams.
    pub before_mg: Option<i64>,
    /// Settled net mass after, milligrams.
    pub after_mg: i64,
    /// Mass of one unit, milligrams.
    pub unit_mg: i64,
    /// Standard deviation of the difference, milligrams.
    pub sigma_mg: i64,
    /// What the difference leaves over after whole units, milligrams.
    pub residual_mg: i64,
    /// Samples in the plateau after.
    pub samples: u32,
    /// Posterior probability of the count chosen.
    pub posterior: f64,
    /// The next best count of the line, and its probability.
    pub runner_up: Option<(i64, f64)>,
    /// Quantity by absolute mass alone, for comparison.
    pub absolute: i64,
    /// Zero of the calibration in force, milligrams raw.
    pub zero_mg: i64,
    /// Scale of the calibration in force, millionths.
    pub scale_ppm: i64,
    /// Offset of the entry that set the calibration; 0 for the enrolment.
    pub calibration: u64,
}

/// What became of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TagChange {
    /// It is here for the first time.
    Arrived,
    /// It is here again.
    Returned,
    /// It is at another place.
    Moved,
    /// It is here no more.
    Departed,
}

impl TagChange {
    /// Every change.
    pub const ALL: [Self; 4] = [Self::Arrived, Self::Returned, Self::Moved, Self::Departed];

    /// Its name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arrived => "arrived",
            Self::Returned => "returned",
            Self::Moved => "moved",
            Self::Departed => "departed",
        }
    }
}

/// A change of a tag, with what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TagTold {
    /// What became of it.
    pub change: TagChange,
    /// The tag.
    pub tag: Tag,
    /// Where it was.
    pub from: Option<Whereabouts>,
    /// Where it is.
    pub to: Option<Whereabouts>,
    /// How it departed.
    pub how: Option<How>,
    /// The facility that has it now, if another one has.
    pub elsewhere: Option<FacilityId>,
    /// How likely that is.
    pub probability: f64,
    /// When it was read last, hub time in microseconds.
    pub last_read_us: i64,
    /// Offsets of the entries that read it last, newest first.
    pub reads: Vec<u64>,
}

/// A count of tags.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CycleCount {
    /// The zone; the whole facility when absent.
    pub zone: Option<ZoneId>,
    /// Tags that are present.
    pub present: u64,
    /// Of these, tags that are less likely there than nine in ten.
    pub doubtful: u64,
    /// Tags of no SKU that is known.
    pub unknown: u64,
    /// Tags by SKU; the first thousand.
    pub skus: Vec<(Sku, u64)>,
}

/// Something told that is not a movement.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its place among the entry's movements and events.
    pub ordinal: u16,
    /// What happened.
    pub kind: EventKind,
    /// When, hub time.
    pub at: HubTime,
    /// Which device.
    pub device: Option<DeviceId>,
    /// Which slot.
    pub slot: Option<SlotId>,
    /// Which SKU.
    pub sku: Option<Sku>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// Evidence does not fit; a person should look.
    DiscrepancyOpened(Opened),
    /// It fits again.
    DiscrepancyClosed(Closed),
    /// A frame or command had no effect.
    Refused {
        /// Quarantined (sound, cannot be placed) or rejected.
        quarantined: bool,
        /// Why.
        reason: Reason,
        /// In words.
        detail: String,
    },
    /// A device started anew.
    DeviceRebooted {
        /// Its boot id, or the number the hub gave it.
        boot: String,
    },
    /// A device's sequence numbers have a hole: frames that never reached the hub.
    SourceLoss {
        /// How many frames are missing.
        frames: u64,
    },
    /// An entry that crashed the fold is skipped.
    EntryQuarantined {
        /// Its offset.
        offset: u64,
        /// What the crash said.
        reason: String,
    },
    /// New rules apply from here.
    FoldUpgraded {
        /// Their version.
        version: u32,
    },
    /// A tag arrived, returned, moved or departed.
    Tag(Box<TagTold>),
    /// Tags of a zone were counted.
    CycleCount(Box<CycleCount>),
    /// A reader listens, or listens no more; or an antenna of it does.
    Listening {
        /// The antenna; the whole reader when absent.
        antenna: Option<u16>,
        /// It does.
        on: bool,
    },
    /// A reader says that something is wrong.
    ReaderTrouble {
        /// What it says.
        text: String,
    },
    /// A line took back in what records did that the journal lost.
    Restated {
        /// By how many units.
        delta: i64,
    },
}

impl EventKind {
    /// Its name in the API and the database.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::DiscrepancyOpened(_) => "discrepancy_opened",
            Self::DiscrepancyClosed(_) => "discrepancy_closed",
            Self::Refused { quarantined: true, .. } => "quarantined",
            Self::Refused { quarantined: false, .. } => "rejected",
            Self::DeviceRebooted { .. } => "device_rebooted",
            Self::SourceLoss { .. } => "source_loss",
            Self::EntryQuarantined { .. } => "entry_quarantined",
            Self::FoldUpgraded { .. } => "fold_upgraded",
            Self::Tag(told) => told.change.as_str(),
            Self::CycleCount(_) => "cycle_count",
            Self::Listening { on: true, .. } => "listening",
            Self::Listening { on: false, .. } => "deaf",
            Self::ReaderTrouble { .. } => "reader_trouble",
            Self::Restated { .. } => "restated",
        }
    }
}
