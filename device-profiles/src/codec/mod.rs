//! Codecs: raw bytes to readings, one module a byte format.

pub mod json;
pub mod llrp;
pub mod modbus;
pub mod raw;

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
        Codec::Json => json::decode(profile, stream, raw),
        Codec::Raw => raw::decode(profile, stream, raw),
        Codec::Llrp => llrp::decode(profile, stream, raw),
        Codec::Modbus => modbus::decode(profile, stream, raw),
    }
}
