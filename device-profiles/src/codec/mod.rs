//! Codecs: raw bytes to readings, one module a byte format.

pub mod impinj;
pub mod json;
pub mod llrp;
pub mod modbus;
pub mod raw;
pub mod scanner;
pub mod serial_rfid;
mod tags;
pub mod zebra;

use crate::{
    limits::FRAME_BYTES_MAX,
    profile::{Codec, Profile},
    reading::{DecodeReject, Reading},
};

/// Decodes one frame of a stream by its profile. Pure and total: any bytes give a reading or a reason.
pub fn decode(profile: &Profile, stream: &str, raw: &[u8]) -> Result<Reading, DecodeReject> {
    if raw.len() > FRAME_BYTES_MAX {
        return Err(DecodeReject::TooLarge("frame"));
    }
    match profile.codec {
        // The host has written a node's metrics as JSON.
        Codec::Json | Codec::Sparkplug => json::decode(profile, stream, raw),
        Codec::Raw => raw::decode(profile, stream, raw),
        Codec::Llrp => llrp::decode(profile, stream, raw),
        Codec::Modbus => modbus::decode(profile, stream, raw),
        Codec::Impinj => impinj::decode(profile, stream, raw),
        Codec::Zebra => zebra::decode(profile, stream, raw),
        Codec::SerialRfid => serial_rfid::decode(profile, stream, raw),
        Codec::Scanner => scanner::decode(profile, stream, raw),
    }
}
