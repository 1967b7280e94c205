//! Device profiles: what a device's bytes mean, as data.
//!
//! This crate is the pure leaf of the workspace. It names things (ids), measures them (units), describes devices
//! (profiles) and turns `bytes × profile` into a [`Reading`] or a [`DecodeReject`]. The edge decodes to validate and the fold
//! decodes again to count, so decoding must be a pure function: no clock, no IO, no randomness, no panic on any bytes.
//!
//! A profile is immutable and named by the hash of its text ([`ProfileHash`]). The journal keeps raw frames beside that hash,
//! so a figure of last week is explained with the profile of last week.
//!
//! Invariants: decoding the same bytes with the same profile gives the same reading on every platform; every list and string
//! in a reading is bounded (see [`limits`]); quantities are integers.

pub mod codec;
pub mod edgex;
pub mod epc;
pub mod gs1;
pub mod ids;
pub mod limits;
pub mod llrp;
pub mod modbus;
pub mod probe;
pub mod profile;
pub mod r200;
pub mod reading;
pub mod shipped;
pub mod sparkplug;
pub mod tag;
pub mod time;
pub mod topic;
pub mod units;

pub use codec::decode;
pub use ids::{
    Channel, DeviceId, FacilityId, IdError, ProfileId, ShardId, ShelfId, Sku, SlotId, ZoneId,
};
pub use profile::{Class, Dedupe, LlrpSettings, Profile, ProfileError, ProfileHash};
pub use reading::{
    BadText, CellFault, DecodeReject, Measurement, ReaderEvent, Reading, ScanMode, TagRead, Value,
};
pub use tag::{Tag, TagError};
pub use topic::{Candidate, Route, RouteRefusal, TopicMap, TopicPattern, level_of_id};
pub use units::{Milligrams, Units};
