//! RFID readers among the buses: what one is like now.

use std::sync::atomic::Ordering::Relaxed;

use actors::reader::{Handle, ReaderHealth};
use serde::Serialize;
use utoipa::ToSchema;

use crate::fleet::Running;

/// What an RFID reader is like.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReaderState {
    /// The device it is.
    device: String,
    /// What it says of itself; absent before it was connected.
    about: Option<AboutReader>,
    /// Milliseconds since it said anything; absent when it never did.
    heard_ms_ago: Option<u64>,
    /// Tags in its reports.
    reads: u64,
    /// Reports.
    reports: u64,
    /// Events.
    events: u64,
    /// Signs of life.
    keepalives: u64,
    /// Frames handed to the journal.
    delivered: u64,
    /// Messages given up because the journal had no room for too long.
    lost: u64,
    /// Messages refused because the device may not speak.
    refused: u64,
    /// Times its own buffer ran over.
    overflows: u64,
    /// Messages that are not what their length or kind says.
    garbled: u64,
    /// Messages of an unknown kind, passed over.
    unknown: u64,
    /// Answers to nothing that was asked.
    foreign: u64,
    /// Answers and signs of life that did not come in time.
    timeouts: u64,
}

/// What a reader says of itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct AboutReader {
    /// Its maker's private enterprise number; 25882 is Impinj, 161 Zebra.
    vendor: u32,
    /// Its maker's number of the model.
    model: u32,
    /// Its firmware.
    firmware: String,
    /// Antennas it has at most.
    antennas: u16,
    /// It has a clock.
    has_utc: bool,
    /// It keeps its reads while nobody is connected, when it is told to.
    holds: bool,
}

impl ReaderState {
    /// Milliseconds since it said anything.
    pub(super) fn heard_ms_ago(health: &ReaderHealth) -> Option<u64> {
        let heard = health.heard_us.load(Relaxed);
        let ago_us = health.lived_us.load(Relaxed).saturating_sub(heard);
        (heard > 0).then_some(ago_us / 1_000)
    }

    /// Of a reader that runs.
    pub(super) fn of(running: &Running<Handle>) -> Self {
        let h = &running.handle.health;
        Self {
            device: running.handle.spec.device.to_string(),
            about: h.about().map(|about| AboutReader {
                vendor: about.vendor,
                model: about.model,
                firmware: about.firmware,
                antennas: about.antennas,
                has_utc: about.has_utc,
                holds: about.holds,
            }),
            heard_ms_ago: Self::heard_ms_ago(h),
            reads: h.reads.load(Relaxed),
            reports: h.reports.load(Relaxed),
            events: h.events.load(Relaxed),
            keepalives: h.keepalives.load(Relaxed),
            delivered: h.delivered.load(Relaxed),
            lost: h.lost.load(Relaxed),
            refused: h.refused.load(Relaxed),
            overflows: h.overflows.load(Relaxed),
            garbled: h.garbled.load(Relaxed),
            unknown: h.unknown.load(Relaxed),
            foreign: h.foreign.load(Relaxed),
            timeouts: h.timeouts.load(Relaxed),
        }
    }
}
