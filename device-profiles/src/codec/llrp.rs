//! LLRP messages to readings: a frame is one message as the reader sent it.
//!
//! Journaled are reports, events, signs of life, and what a reader says of its antennas when it is asked. A report of tags that are no tags (an empty EPC memory, one longer than a
//! tag can have) is not lost with them: those tags are passed over and counted as missing reads.

use crate::{
    limits::{MEASUREMENTS_MAX, TAGS_MAX},
    llrp::{HEADER_BYTES, Message, Parameter, Stamp, TagReads, message},
    profile::{Kind, Profile},
    reading::{DecodeReject, Measurement, ReaderEvent, Reading, TagRead},
    tag::Tag,
};

/// Decodes one message.
pub fn decode(profile: &Profile, name: &str, raw: &[u8]) -> Result<Reading, DecodeReject> {
    match profile.stream(name).map(|stream| &stream.kind) {
        Some(Kind::Tags(_)) => {}
        Some(_) | None => return Err(DecodeReject::UnknownStream(name.to_owned())),
    }
    let head: [u8; 2] = raw
        .get(..HEADER_BYTES)
        .and_then(|head| head.get(..2)?.try_into().ok())
        .ok_or_else(|| DecodeReject::NotMessage("shorter than a header".to_owned()))?;
    let bad = |error: crate::llrp::LlrpError| DecodeReject::NotMessage(error.to_string());
    match u16::from_be_bytes(head) & 0x3FF {
        message::REPORT => report(raw),
        message::EVENT => Ok(event(&Message::decode(raw).map_err(bad)?)),
        message::CONFIG => antennas(&Message::decode(raw).map_err(bad)?),
        message::KEEPALIVE => {
            Message::decode(raw).map_err(bad)?;
            Ok(reading(None, Vec::new()))
        }
        other => Err(DecodeReject::NotMessage(format!("message {other} says nothing of tags"))),
    }
}

fn reading(device_us: Option<i64>, measurements: Vec<Measurement>) -> Reading {
    Reading { seq: None, boot: None, device_us, measurements }
}

fn micros(stamp: Stamp) -> Option<i64> {
    let (Stamp::Utc(us) | Stamp::Uptime(us)) = stamp;
    i64::try_from(us).ok()
}

fn report(raw: &[u8]) -> Result<Reading, DecodeReject> {
    let bad = |error: crate::llrp::LlrpError| DecodeReject::NotMessage(error.to_string());
    let mut measurements = Vec::new();
    let (mut newest, mut unnamed) = (None, 0_u64);
    for read in TagReads::of(raw).map_err(bad)? {
        let read = read.map_err(bad)?;
        if measurements.len() >= TAGS_MAX {
            return Err(DecodeReject::TooLarge("tags"));
        }
        let device_us = read.last_seen.or(read.first_seen).and_then(micros);
        newest = newest.max(device_us);
        let Ok(tag) = Tag::of_bits(read.epc, read.epc_bits) else {
            unnamed += 1;
            continue;
        };
        measurements.push(Measurement::Tag(TagRead {
            tag,
            antenna: read.antenna.unwrap_or(1),
            rssi_cdbm: read.rssi_cdbm,
            reads: read.seen.unwrap_or(1).max(1),
            device_us,
        }));
    }
    if unnamed > 0 {
        let text = format!("{unnamed} tags with an empty or an impossible EPC memory");
        measurements.push(Measurement::Reader(ReaderEvent::Trouble { text }));
    }
    Ok(reading(newest, measurements))
}

/// What an antenna's own event would have said.
fn antennas(message: &Message) -> Result<Reading, DecodeReject> {
    let said: Vec<Measurement> = message.parameters.iter().filter_map(told).collect();
    if said.len() > MEASUREMENTS_MAX {
        return Err(DecodeReject::TooLarge("antennas"));
    }
    Ok(reading(None, said))
}

fn event(message: &Message) -> Reading {
    let Some(data) = message.parameter("ReaderEventNotificationData") else {
        return reading(None, Vec::new());
    };
    let clock = ["UTCTimestamp", "Uptime"]
        .into_iter()
        .find_map(|name| data.parameter(name)?.number_of("Microseconds"))
        .and_then(|us| i64::try_from(us).ok());
    let said = data.parameters.iter().filter_map(told).collect();
    reading(clock, said)
}

/// What one parameter of an event or a configuration says of listening; nothing if it says nothing of it.
fn told(event: &Parameter) -> Option<Measurement> {
    let number = |name: &str| event.number_of(name);
    let port = |name: &str| number(name).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    let said = match event.name() {
        "ConnectionAttemptEvent" if number("Status") == Some(0) => Some(ReaderEvent::Connected),
        "ConnectionCloseEvent" => Some(ReaderEvent::Stopped),
        "ROSpecEvent" => match number("EventType") {
            Some(0) => Some(ReaderEvent::Started),
            // Ended, or preempted by another.
            Some(_) => Some(ReaderEvent::Stopped),
            None => None,
        },
        "AntennaEvent" => Some(ReaderEvent::Antenna {
            port: port("AntennaID"),
            connected: number("EventType") == Some(1),
        }),
        "AntennaProperties" => Some(ReaderEvent::Antenna {
            port: port("AntennaID"),
            connected: number("AntennaConnected") == Some(1),
        }),
        "GPIEvent" => Some(ReaderEvent::Input {
            port: port("GPIPortNumber"),
            high: number("GPIEvent") == Some(1),
        }),
        "ReportBufferLevelWarningEvent" => Some(ReaderEvent::Filling {
            percent: number("ReportBufferPercentageFull")
                .map_or(100, |percent| percent.min(100) as u8),
        }),
        "ReportBufferOverflowErrorEvent" => Some(ReaderEvent::Overflow { reads: None }),
        "ReaderExceptionEvent" => Some(ReaderEvent::Trouble {
            text: event
                .text_of("Message")
                .unwrap_or("an exception without a text")
                .chars()
                .take(crate::limits::TEXT_BYTES_MAX / 4)
                .collect(),
        }),
        _ => None,
    };
    said.map(Measurement::Reader)
}
