//! What the fold remembers of a device: dedupe windows, clock, cells, and the account of its frames.

use device_profiles::Channel;
use serde::{Deserialize, Serialize};

use crate::{
    clock::DeviceClock,
    dedupe::{Boots, fnv32},
    entry::{DeviceSpec, HubTime},
    limits::{HASHES_FRAMES, PAYLOAD_REPEAT_US},
    weight::Cell,
};

/// A device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub spec: DeviceSpec,
    pub revoked: bool,
    pub boots: Boots,
    pub clock: DeviceClock,
    /// Recent payloads of streams with `dedupe: payload`.
    payloads: Vec<(u32, u32, HubTime)>,
    pub cells: Vec<Cell>,
    pub ledger: LedgerHour,
}

/// One device's frames in one hour. `journaled` is counted on arrival, the others on exit, so that a frame that left by no
/// exit shows as a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LedgerHour {
    /// Hours since the Unix epoch, of hub time.
    pub hour: i64,
    /// The counts.
    pub counts: Counts,
}

/// Frames by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Read from the journal.
    pub journaled: u64,
    /// Took effect.
    pub applied: u64,
    /// Seen before.
    pub duplicate: u64,
    /// Sound, but could not be placed.
    pub quarantined: u64,
    /// Could never take effect.
    pub rejected: u64,
    /// Jumped-over sequence numbers: frames that never came. Late arrivals are not taken back.
    pub source_lost: u64,
}

impl Counts {
    /// So many more never came.
    pub(crate) fn lose(&mut self, frames: u64) {
        self.source_lost = self.source_lost.saturating_add(frames);
    }

    /// The promise: every journaled frame left by exactly one exit.
    pub fn balances(&self) -> bool {
        self.journaled == self.applied + self.duplicate + self.quarantined + self.rejected
    }
}

impl Device {
    pub fn new(spec: DeviceSpec) -> Self {
        let cells = spec.channels.iter().map(Cell::new).collect();
        Self {
            spec,
            revoked: false,
            boots: Boots::default(),
            clock: DeviceClock::default(),
            payloads: Vec::new(),
            cells,
            ledger: LedgerHour::default(),
        }
    }

    /// Takes a changed specification; a cell whose slot stays keeps its state.
    pub fn respecify(&mut self, spec: DeviceSpec) {
        let mut old = std::mem::take(&mut self.cells);
        self.cells = spec
            .channels
            .iter()
            .map(|channel| {
                let kept = old
                    .iter()
                    .position(|c| c.spec.channel == channel.channel && c.spec.slot == channel.slot);
                match kept {
                    Some(at) => {
                        let mut cell = old.swap_remove(at);
                        cell.respecify(channel);
                        cell
                    }
                    None => Cell::new(channel),
                }
            })
            .collect();
        self.spec = spec;
        self.revoked = false;
    }

    pub fn cell_index(&self, channel: &Channel) -> Option<usize> {
        self.cells.iter().position(|cell| cell.spec.channel == *channel)
    }

    /// Whether this payload was seen on this stream within the last seconds; remembers it.
    pub fn repeats_payload(&mut self, stream: &str, raw: &[u8], at: HubTime) -> bool {
        self.payloads.retain(|(_, _, seen)| at.since_us(*seen) < PAYLOAD_REPEAT_US);
        let key = (fnv32(stream.as_bytes()), fnv32(raw));
        let found = self.payloads.iter_mut().find(|(s, p, _)| (*s, *p) == key);
        match found {
            Some((_, _, seen)) => {
                *seen = at;
                true
            }
            None => {
                if self.payloads.len() >= HASHES_FRAMES {
                    self.payloads.remove(0);
                }
                self.payloads.push((key.0, key.1, at));
                false
            }
        }
    }
}
