//! What the fold remembers of a device: dedupe windows, clock, cells, and the account of its frames.

use device_profiles::Channel;
use serde::{Deserialize, Serialize};

use crate::{
    clock::DeviceClock,
    dedupe::{Boots, FNV64, fnv64},
    entry::{DeviceSpec, HubTime},
    limits::{PAYLOAD_REPEAT_US, PAYLOADS_FRAMES},
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

    /// Whether this payload was seen on this stream before; remembers it. One that carries the time or number of what it
    /// tells (`is_stamped`) is the same whenever it comes again, another within the last seconds only: a code that is scanned
    /// anew looks the same.
    pub fn repeats_payload(
        &mut self,
        stream: &str,
        raw: &[u8],
        at: HubTime,
        is_stamped: bool,
    ) -> bool {
        // Wide enough that hundreds of payloads are not told alike by chance. A part ends with its length, so that bytes do not
        // wander from one to the next.
        let part = |hash, part: &[u8]| fnv64(fnv64(hash, part), &part.len().to_le_bytes());
        let hash = part(part(FNV64, stream.as_bytes()), raw);
        let key = ((hash >> 32) as u32, hash as u32);
        let found = self.payloads.iter_mut().find(|(high, low, _)| (*high, *low) == key);
        match found {
            Some((_, _, seen)) => {
                let is_repeat = is_stamped || at.since_us(*seen) < PAYLOAD_REPEAT_US;
                *seen = at;
                is_repeat
            }
            None => {
                if self.payloads.len() >= PAYLOADS_FRAMES {
                    self.payloads.remove(0);
                }
                self.payloads.push((key.0, key.1, at));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_profiles::DeviceId;

    #[test]
    fn what_carries_its_time_is_the_same_whenever_it_comes_again() {
        let id = DeviceId::parse("sled").unwrap();
        let mut device = Device::new(DeviceSpec { id, slot: None, channels: Vec::new() });
        let s = |seconds: i64| HubTime(seconds * 1_000_000);
        let mut repeats = |raw: &str, at, is_stamped| {
            device.repeats_payload("scans", raw.as_bytes(), at, is_stamped)
        };
        assert!(!repeats("12:00 4006381333931", s(0), true));
        assert!(repeats("12:00 4006381333931", s(86_400), true));
        // A code alone is scanned anew when it comes again, but not at once.
        assert!(!repeats("4006381333931", s(0), false));
        assert!(repeats("4006381333931", s(4), false));
        assert!(!repeats("4006381333931", s(10), false));
        for n in 0..PAYLOADS_FRAMES {
            assert!(!repeats(&format!("12:01 {n}"), s(11), true), "{n}");
        }
        assert!(!repeats("12:00 4006381333931", s(12), true), "so many are remembered");
    }
}
