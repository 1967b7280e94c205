//! What a frame says once it is decoded, or why it could not be.

use crate::{
    ids::{Channel, Sku, SlotId},
    tag::Tag,
    units::{Milligrams, Units},
};

/// One decoded frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The device's own frame counter, when its profile has one.
    pub seq: Option<u64>,
    /// The device's boot id, when it sends one: `seq` starts anew with each.
    pub boot: Option<String>,
    /// The device's clock, microseconds since the Unix epoch. Untrusted.
    pub device_us: Option<i64>,
    /// What was measured, in frame order.
    pub measurements: Vec<Measurement>,
}

impl Reading {
    /// It carries the time or the number of what it tells: a frame with the same bytes is the same frame.
    pub fn is_stamped(&self) -> bool {
        let has_number = |m: &Measurement| matches!(m, Measurement::Numbers { .. });
        self.device_us.is_some() || self.measurements.iter().any(has_number)
    }

    /// A reader tells of itself only.
    pub fn is_of_itself(&self) -> bool {
        let is_event = |m: &Measurement| matches!(m, Measurement::Reader(_));
        !self.measurements.is_empty() && self.measurements.iter().all(is_event)
    }

    /// A reader tells what it heard.
    pub fn has_tags(&self) -> bool {
        self.measurements.iter().any(|m| matches!(m, Measurement::Tag(_)))
    }
}

/// One thing a frame tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Measurement {
    /// A person or machine says that stock changed.
    Stock {
        /// Which SKU.
        sku: Sku,
        /// By how many units; never 0.
        delta: Units,
        /// Where; the device's own slot when absent.
        slot: Option<SlotId>,
    },
    /// Gross mass on one load cell.
    Weight {
        /// Which cell of the device.
        channel: Channel,
        /// Gross mass as the device reports it, before the hub's calibration.
        mass: Milligrams,
        /// The device's own stability flag, when it has one.
        stable: Option<bool>,
        /// What the device says is wrong with the cell; its mass is then worth nothing.
        fault: Option<CellFault>,
    },
    /// A barcode was scanned.
    Scan {
        /// The code as scanned.
        code: String,
        /// What the operator was doing.
        mode: ScanMode,
        /// How many units; 1 when the device does not say.
        quantity: Units,
        /// Where; the device's own slot when absent.
        slot: Option<SlotId>,
    },
    /// An antenna heard a tag.
    Tag(TagRead),
    /// Something happened at a reader of tags.
    Reader(ReaderEvent),
    /// The source numbers its events; these are in the frame. What lies between two frames never came.
    Numbers {
        /// The first number.
        first: u64,
        /// The last number.
        last: u64,
        /// Numbers between them that are missing.
        missing: u64,
    },
    /// A plain sensor value; a series point, never stock.
    Value {
        /// Series name, `stream.name`.
        name: String,
        /// The value.
        value: Value,
    },
}

/// A tag, heard by an antenna once or several times within what a report covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagRead {
    /// The tag.
    pub tag: Tag,
    /// The antenna's port, from 1; 1 where the reader does not say.
    pub antenna: u16,
    /// Strongest signal, 1/100 dBm.
    pub rssi_cdbm: Option<i16>,
    /// How often; at least 1.
    pub reads: u16,
    /// When it was heard last, by the device's clock as [`Reading::device_us`].
    pub device_us: Option<i64>,
}

/// What happened at a reader of tags. A frame without any measurement says that the reader listens and heard nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReaderEvent {
    /// It was connected anew: whether it listened before is not known.
    Connected,
    /// It began to listen.
    Started,
    /// It listens no more, until it says that it began.
    Stopped,
    /// An antenna was connected or disconnected.
    Antenna {
        /// Its port, from 1.
        port: u16,
        /// There or gone.
        connected: bool,
    },
    /// An input changed.
    Input {
        /// Its port, from 1.
        port: u16,
        /// Its level.
        high: bool,
    },
    /// Its buffer fills up.
    Filling {
        /// How full it is, percent.
        percent: u8,
    },
    /// It gave up reads that nobody fetched.
    Overflow {
        /// How many, if it says.
        reads: Option<u64>,
    },
    /// It says that something is wrong.
    Trouble {
        /// What it says.
        text: String,
    },
}

/// What a device says is wrong with a load cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellFault {
    /// The cell or its converter is broken or not connected.
    Cell,
    /// More lies on it than it can weigh.
    Overload,
    /// Less lies on it than nothing: it is lifted, or its zero is wrong.
    Underload,
    /// It starts up, calibrates or is in set-up mode.
    Busy,
}

impl CellFault {
    /// Stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cell => "cell",
            Self::Overload => "overload",
            Self::Underload => "underload",
            Self::Busy => "busy",
        }
    }
}

/// A sensor value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A finite number.
    Number(f64),
    /// A switch.
    Bool(bool),
    /// A short text.
    Text(String),
}

/// What a scan means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanMode {
    /// Goods come in.
    Receive,
    /// Goods go out.
    Pick,
    /// This many units are here.
    Count,
}

/// Why a frame could not be decoded. The frame itself is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeReject {
    /// The profile has no such stream.
    #[error("the profile has no stream {0:?}")]
    UnknownStream(String),
    /// The payload is not the format the profile names.
    #[error("not valid JSON: {0}")]
    NotJson(String),
    /// The payload is not a register image.
    #[error("not a register image: {0}")]
    NotImage(crate::modbus::image::BadImage),
    /// The payload is not text, or not a line of the form the profile names.
    #[error("not what the profile reads: {0}")]
    NotText(BadText),
    /// The payload is not a message of the protocol the profile names.
    #[error("not a message of the protocol: {0}")]
    NotMessage(String),
    /// Nested deeper than [`crate::limits::JSON_DEPTH_MAX`].
    #[error("nested deeper than {} levels", crate::limits::JSON_DEPTH_MAX)]
    TooDeep,
    /// Larger than a limit allows.
    #[error("too large: {0}")]
    TooLarge(&'static str),
    /// A field the profile requires is absent.
    #[error("field {0} is missing")]
    Missing(String),
    /// A field has another type than the profile says.
    #[error("field {path} must be {expected}")]
    WrongType {
        /// JSON pointer of the field, or its name.
        path: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A number lies outside its range.
    #[error("field {0} is out of range")]
    OutOfRange(String),
    /// A field is not a valid id.
    #[error("field {path} is not an id: {reason}")]
    BadId {
        /// JSON pointer of the field.
        path: String,
        /// What is wrong with it.
        reason: crate::ids::IdError,
    },
    /// The frame has nothing in it that the profile can use.
    #[error("the frame holds no measurement")]
    Empty,
}

/// Why a raw frame cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    /// The bytes are not UTF-8.
    #[error("the bytes are not UTF-8 text")]
    NotUtf8,
    /// The line differs from its form.
    #[error("at byte {at} of the line {expected} was expected")]
    Form {
        /// Where, in bytes from 0, white space at the beginning not counted.
        at: usize,
        /// What the form says.
        expected: &'static str,
    },
}

impl DecodeReject {
    /// A stable code for metrics, the ledger and the API.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownStream(_) => "unknown_stream",
            Self::NotJson(_) => "not_json",
            Self::NotImage(_) => "not_image",
            Self::NotText(_) => "not_text",
            Self::NotMessage(_) => "not_message",
            Self::TooDeep => "too_deep",
            Self::TooLarge(_) => "too_large",
            Self::Missing(_) => "missing_field",
            Self::WrongType { .. } => "wrong_type",
            Self::OutOfRange(_) => "out_of_range",
            Self::BadId { .. } => "bad_id",
            Self::Empty => "empty",
        }
    }
}
