//! Events of Impinj readers with the IoT device interface (R700 family): MQTT, webhook and HTTP stream.
//!
//! A frame is one event, a list of events, or events line by line. Of the ten or so kinds, those are read that say something of
//! tags or of whether the reader listens:
//!
//! ```text
//!  tagInventoryEvent         a tag; epc is base 64, epcHex is hexadecimal, one of them may be switched off
//!  inventoryStatusEvent      running or idle
//!  antennaConnectedEvent, antennaDisconnectedEvent
//!  overflowEvent             events were given up before they were sent
//! ```
//! Any other event is a sign of life and nothing more. `timestamp` is when the event was queued; `lastSeenTime`, when it is
//! switched on, when the tag was heard. The plain words `connected`, `connection lost` and `disconnected` are what the reader's
//! MQTT client announces when it is told to use them as connect, will and disconnect message.

use crate::{
    codec::{
        json::Node,
        tags::{Gathered, read_tag},
    },
    profile::{Kind, Profile, TagEncoding},
    reading::{DecodeReject, Measurement, ReaderEvent, Reading, TagRead},
    time::parse_rfc3339_us,
};

/// Decodes one frame.
pub fn decode(profile: &Profile, name: &str, raw: &[u8]) -> Result<Reading, DecodeReject> {
    match profile.stream(name).map(|stream| &stream.kind) {
        Some(Kind::Tags(_)) => {}
        Some(_) | None => return Err(DecodeReject::UnknownStream(name.to_owned())),
    }
    if let Some(event) = announced(raw) {
        let measurements = vec![Measurement::Reader(event)];
        return Ok(Reading { seq: None, boot: None, device_us: None, measurements });
    }
    let mut found = Gathered::default();
    let values = Node::parse_all(raw)?;
    if values.is_empty() {
        return Err(DecodeReject::Empty);
    }
    for value in &values {
        match value {
            Node::Array(events) => events.iter().try_for_each(|one| event(one, &mut found))?,
            one @ (Node::Null
            | Node::Bool(_)
            | Node::Int(_)
            | Node::Big(_)
            | Node::Float(_)
            | Node::Str(_)
            | Node::Object(_)) => event(one, &mut found)?,
        }
    }
    let device_us = found.newest();
    Ok(Reading { seq: None, boot: None, device_us, measurements: found.finish() })
}

/// What the reader's MQTT client says of its connection.
fn announced(raw: &[u8]) -> Option<ReaderEvent> {
    match raw.trim_ascii() {
        b"connected" => Some(ReaderEvent::Connected),
        b"connection lost" | b"disconnected" => Some(ReaderEvent::Stopped),
        _ => None,
    }
}

fn event(event: &Node<'_>, found: &mut Gathered) -> Result<(), DecodeReject> {
    let Node::Object(members) = event else {
        return Err(DecodeReject::WrongType { path: "event".into(), expected: "an object" });
    };
    let text = |node: &Node<'_>| node.as_text().and_then(parse_rfc3339_us);
    let queued = event.member("timestamp").and_then(text);
    if let Some(tag) = event.member("tagInventoryEvent") {
        return self::tag(tag, queued, found);
    }
    if let Some(status) = event.member("inventoryStatusEvent") {
        let said = status.member("inventoryStatus").or(status.member("status"));
        return match said.and_then(Node::as_text).unwrap_or_default() {
            "running" | "started" => found.event(ReaderEvent::Started),
            "idle" | "stopped" => found.event(ReaderEvent::Stopped),
            // It waits for its trigger, or says something this hub does not know.
            _ => Ok(()),
        };
    }
    for (name, connected) in [("antennaConnectedEvent", true), ("antennaDisconnectedEvent", false)]
    {
        if let Some(antenna) = event.member(name) {
            let port = antenna.member("antennaPort").and_then(Node::as_count);
            let port = port.and_then(|port| u16::try_from(port).ok());
            let port = port.ok_or_else(|| DecodeReject::Missing(format!("/{name}/antennaPort")))?;
            return found.event(ReaderEvent::Antenna { port, connected });
        }
    }
    if event.member("overflowEvent").is_some() {
        return found.event(ReaderEvent::Overflow { reads: None });
    }
    // Others of its kind, and ones that newer readers know: whatever names itself an event.
    let is_event = members.iter().any(|(key, _)| key.ends_with("Event") || key == "eventType");
    if is_event { Ok(()) } else { Err(DecodeReject::Missing("/eventType".into())) }
}

fn tag(tag: &Node<'_>, queued: Option<i64>, found: &mut Gathered) -> Result<(), DecodeReject> {
    let told = |name: &str| tag.member(name).and_then(Node::as_text);
    let read = match (told("epcHex"), told("epc")) {
        (Some(hex), _) => read_tag(hex, TagEncoding::Hex),
        (None, Some(text)) => read_tag(text, TagEncoding::Base64),
        // Nothing names the tag: the identifier is switched to the TID.
        (None, None) => None,
    };
    let Some(read) = read else { return found.no_tag() };
    let antenna = tag.member("antennaPort").and_then(Node::as_count);
    let rssi = tag.member("peakRssiCdbm").and_then(Node::as_number);
    let lowest = f64::from(i16::MIN);
    found.tag(TagRead {
        tag: read,
        antenna: antenna.and_then(|port| u16::try_from(port).ok()).unwrap_or(1),
        rssi_cdbm: rssi.filter(|rssi| (lowest..=-lowest - 1.0).contains(rssi)).map(|r| r as i16),
        reads: 1,
        device_us: told("lastSeenTime").and_then(parse_rfc3339_us).or(queued),
    })
}
