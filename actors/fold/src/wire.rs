//! Entries as journal records: a kind byte and a payload.
//!
//! Frames are laid out by hand, because there are tens of thousands a second and their raw bytes must stay a slice of the
//! journal's buffer. Everything else is postcard behind a version byte. Decoding is total: a record of another version or a
//! damaged one becomes [`Body::Unreadable`] and is counted.
//!
//! ```text
//! frame   0 version=1 · 1 flags (1 fresh session, 2 boot, 4 seq) · 2 profile hash [32] · 34 seq u64 le
//!         42 lengths of facility, device, stream, boot [4] · 46 those texts · raw bytes to the end
//! other   0 version=1 · 1 postcard (facility, principal, body)
//! ```

use bytes::Bytes;
use device_profiles::{DeviceId, FacilityId, ProfileHash, Sku, SlotId, Units};
use serde::{Deserialize, Serialize};

use crate::entry::{Body, CommandEntry, Entry, Frame, HubTime, MasterEntry, Position, Principal};

/// Record kind of frames.
pub const KIND_FRAME: u8 = 1;
/// Record kind of everything else.
pub const KIND_OTHER: u8 = 2;

const VERSION: u8 = 1;
const FRESH: u8 = 1;
const BOOT: u8 = 2;
const SEQ: u8 = 4;
const TEXTS_AT: usize = 46;

#[derive(Serialize, Deserialize)]
enum Other {
    Tick,
    Profile(String),
    Master(MasterEntry),
    Command(CommandEntry),
    Quarantined { offset: u64, reason: String },
    FoldUpgraded { version: u32 },
    Restated { lines: Vec<(SlotId, Sku, Units)> },
}

/// The payload of a frame record. Texts longer than 255 bytes cannot occur: ids have at most 64.
pub fn encode_frame(facility: &FacilityId, frame: &Frame) -> Vec<u8> {
    let boot = frame.boot.as_deref().unwrap_or("");
    let texts = [facility.as_str(), frame.device.as_str(), frame.stream.as_str(), boot];
    let size = TEXTS_AT + texts.iter().map(|t| t.len()).sum::<usize>() + frame.raw.len();
    let mut out = Vec::with_capacity(size);
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    out.push(VERSION);
    out.push(
        flag(frame.fresh_session, FRESH)
            | flag(frame.boot.is_some(), BOOT)
            | flag(frame.seq.is_some(), SEQ),
    );
    out.extend_from_slice(&frame.profile.0);
    out.extend_from_slice(&frame.seq.unwrap_or(0).to_le_bytes());
    out.extend(texts.iter().map(|t| t.len().min(255) as u8));
    for text in texts {
        out.extend_from_slice(&text.as_bytes()[..text.len().min(255)]);
    }
    out.extend_from_slice(&frame.raw);
    out
}

/// Kind and payload of any entry body.
pub fn encode(facility: &FacilityId, principal: &Principal, body: &Body) -> (u8, Vec<u8>) {
    let other = match body {
        Body::Frame(frame) => return (KIND_FRAME, encode_frame(facility, frame)),
        Body::Tick => Other::Tick,
        Body::Profile(text) => Other::Profile(text.clone()),
        Body::Master(master) => Other::Master(master.clone()),
        Body::Command(command) => Other::Command(command.clone()),
        Body::Quarantined { offset, reason } => {
            Other::Quarantined { offset: *offset, reason: reason.clone() }
        }
        Body::FoldUpgraded { version } => Other::FoldUpgraded { version: *version },
        Body::Restated { lines } => Other::Restated { lines: lines.clone() },
        // What could not be read is not written again; nobody makes one but the decoder.
        Body::Unreadable { kind, .. } => return (*kind, Vec::new()),
    };
    let mut out = vec![VERSION];
    // Writing to a vector cannot fail; an empty payload would read back as unreadable.
    out.extend(postcard::to_stdvec(&(facility, principal, other)).unwrap_or_default());
    (KIND_OTHER, out)
}

/// An entry from its record. `fallback` is the facility of an unreadable one.
pub fn decode(
    position: Position,
    received_at: HubTime,
    kind: u8,
    payload: &Bytes,
    fallback: &FacilityId,
) -> Entry {
    let read = match kind {
        KIND_FRAME => decode_frame(payload),
        KIND_OTHER => decode_other(payload),
        _ => Err("unknown record kind".to_owned()),
    };
    let (facility, principal, body) = read.unwrap_or_else(|reason| {
        (fallback.clone(), Principal::Hub, Body::Unreadable { kind, reason })
    });
    Entry { position, received_at, facility, principal, body }
}

/// The facility a record belongs to, without reading the rest.
pub fn facility_of(kind: u8, payload: &[u8]) -> Option<&str> {
    match kind {
        KIND_FRAME => {
            let len = usize::from(*payload.get(42)?);
            std::str::from_utf8(payload.get(TEXTS_AT..TEXTS_AT + len)?).ok()
        }
        KIND_OTHER => {
            let (text, _) = postcard::take_from_bytes::<&str>(payload.get(1..)?).ok()?;
            Some(text)
        }
        _ => None,
    }
}

/// Profile hash and stream of a frame record, without reading the rest; for readers that care for few streams.
pub fn frame_stream(payload: &[u8]) -> Option<(ProfileHash, &str)> {
    let hash: [u8; 32] = payload.get(2..34)?.try_into().ok()?;
    let lengths = payload.get(42..45)?;
    let from = TEXTS_AT + usize::from(lengths[0]) + usize::from(lengths[1]);
    let stream = payload.get(from..from + usize::from(lengths[2]))?;
    Some((ProfileHash(hash), std::str::from_utf8(stream).ok()?))
}

fn decode_frame(payload: &Bytes) -> Result<(FacilityId, Principal, Body), String> {
    let short = || "frame record is too short".to_owned();
    let head = payload.get(..TEXTS_AT).ok_or_else(short)?;
    if head[0] != VERSION {
        return Err(format!("frame record of version {}", head[0]));
    }
    let flags = head[1];
    let mut profile = [0u8; 32];
    profile.copy_from_slice(&head[2..34]);
    let mut seq = [0u8; 8];
    seq.copy_from_slice(&head[34..42]);
    let mut at = TEXTS_AT;
    let mut texts = [""; 4];
    for (text, len) in texts.iter_mut().zip(&head[42..46]) {
        let end = at + usize::from(*len);
        let bytes = payload.get(at..end).ok_or_else(short)?;
        *text = std::str::from_utf8(bytes).map_err(|_| "frame record is not UTF-8".to_owned())?;
        at = end;
    }
    let [facility, device, stream, boot] = texts;
    let id = |error: device_profiles::IdError| error.to_string();
    let frame = Frame {
        device: DeviceId::parse(device).map_err(id)?,
        stream: stream.to_owned(),
        boot: (flags & BOOT != 0).then(|| boot.to_owned()),
        seq: (flags & SEQ != 0).then(|| u64::from_le_bytes(seq)),
        profile: ProfileHash(profile),
        fresh_session: flags & FRESH != 0,
        raw: payload.slice(at..),
    };
    Ok((FacilityId::parse(facility).map_err(id)?, Principal::Device, Body::Frame(frame)))
}

fn decode_other(payload: &Bytes) -> Result<(FacilityId, Principal, Body), String> {
    let (version, rest) = payload.split_first().ok_or("empty record")?;
    if *version != VERSION {
        return Err(format!("record of version {version}"));
    }
    let (facility, principal, other) =
        postcard::from_bytes::<(FacilityId, Principal, Other)>(rest).map_err(|e| e.to_string())?;
    let body = match other {
        Other::Tick => Body::Tick,
        Other::Profile(text) => Body::Profile(text),
        Other::Master(master) => Body::Master(master),
        Other::Command(command) => Body::Command(command),
        Other::Quarantined { offset, reason } => Body::Quarantined { offset, reason },
        Other::FoldUpgraded { version } => Body::FoldUpgraded { version },
        Other::Restated { lines } => Body::Restated { lines },
    };
    Ok((facility, principal, body))
}
