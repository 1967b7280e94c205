//! Frames of serial RFID modules to readings: a journaled frame is what came over the line together, whole frames of the module
//! one behind the other.
//!
//! A round of inventory that found nothing is a sign of life: the module listens. A tag whose CRC is wrong was heard by nobody.

use crate::{
    codec::tags::Gathered,
    profile::{Kind, Profile},
    r200::{self, FrameKind, NO_TAG, command},
    reading::{DecodeReject, ReaderEvent, Reading, TagRead},
    tag::Tag,
};

/// Decodes what came together.
pub fn decode(profile: &Profile, name: &str, raw: &[u8]) -> Result<Reading, DecodeReject> {
    match profile.stream(name).map(|stream| &stream.kind) {
        Some(Kind::Tags(_)) => {}
        Some(_) | None => return Err(DecodeReject::UnknownStream(name.to_owned())),
    }
    let (frames, noise) = r200::frames(raw);
    if frames.is_empty() || noise > 0 {
        let what = format!("{} frames and {noise} bytes that are none", frames.len());
        return Err(DecodeReject::NotMessage(what));
    }
    let mut found = Gathered::default();
    for frame in &frames {
        if let Some(heard) = frame.heard() {
            match heard.ok().and_then(|heard| Some((heard, Tag::of_bytes(heard.epc).ok()?))) {
                Some((heard, tag)) => found.tag(TagRead {
                    tag,
                    antenna: 1,
                    rssi_cdbm: Some(i16::from(heard.rssi_dbm) * 100),
                    reads: 1,
                    device_us: None,
                })?,
                None => found.no_tag()?,
            }
            continue;
        }
        match frame.failure() {
            Some(NO_TAG) => {}
            Some(code) => {
                let text = format!("the module refused with code 0x{code:02X}");
                found.event(ReaderEvent::Trouble { text })?;
            }
            None if frame.kind == FrameKind::Response && frame.command == command::STOP => {
                found.event(ReaderEvent::Stopped)?;
            }
            None => {}
        }
    }
    Ok(Reading { seq: None, boot: None, device_us: None, measurements: found.finish() })
}
