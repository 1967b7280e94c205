//! Ready-made PUBLISH packets of one device: a frame is a copy with a few digits patched.
//!
//! Numbers stand right-aligned in fixed columns; JSON allows the blanks before them. The packet id follows from `seq`,
//! so an acknowledgement needs no table.

use crate::frame;
use crate::mqtt::packet::{self, Publish, Version};

/// Columns of `seq`.
const SEQ_COLUMNS: usize = 10;
/// Columns of the grams.
const GRAM_COLUMNS: usize = 6;
/// Packet ids in use, from 1.
const IDS: u64 = 65_535;
/// Load cells of a device; frame `seq` is of cell `(seq - 1) % CELLS`, so a device that sends `CELLS` frames together has
/// measured all its cells at one moment.
pub const CELLS: u64 = 6;
/// Frames of a cell from one plateau to the next.
pub(super) const CYCLE_FRAMES: u64 = 10;
/// Frames of a cycle in which the goods move.
const MOVING_FRAMES: u64 = 2;
/// Weight of a unit, g.
pub(super) const UNIT_G: u64 = 500;
/// Units on a slot in even cycles; one more in odd ones.
const UNITS: u64 = 10;

/// What devices send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Stream `stock`, +1 each: every frame a movement, and a slot's level is the number of frames that count.
    Stock,
    /// Stream `weight`: each tenth frame completes a plateau one unit away from the one before.
    Weight,
}

impl Kind {
    /// Stream name.
    #[must_use]
    pub fn stream(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Weight => "weight",
        }
    }

    /// Movements that frames 1 to `frames` of a device make at least: those of complete plateaus, the first of which is a
    /// slot's first quantity. A plateau may be believed before its last frame, so there may be up to one more a cell.
    #[must_use]
    pub fn movements(self, frames: u64) -> u64 {
        match self {
            Self::Stock => frames,
            Self::Weight => {
                let of_cell = |cell: u64| (frames + CELLS - 1 - cell) / CELLS;
                (0..CELLS).map(|cell| of_cell(cell) / CYCLE_FRAMES).sum()
            }
        }
    }

    /// Most movements beyond [`Kind::movements`] that unfinished plateaus may have made.
    #[must_use]
    pub fn unfinished(self) -> u64 {
        match self {
            Self::Stock => 0,
            Self::Weight => CELLS,
        }
    }
}

/// Units on the slot once `cycle` has settled.
fn units(cycle: u64) -> u64 {
    UNITS + cycle % 2
}

/// Packet id of frame `seq`.
pub(super) fn id_of(seq: u64) -> u16 {
    ((seq - 1) % IDS + 1) as u16
}

/// The frame not above `newest` whose packet id is `id`.
pub(super) fn seq_of(id: u16, newest: u64) -> Option<u64> {
    let back = (u64::from(id_of(newest.max(1))) + IDS - u64::from(id)) % IDS;
    newest.checked_sub(back).filter(|seq| *seq > 0 && id > 0)
}

/// The packets of one device.
#[derive(Debug)]
pub(super) struct Template {
    packet: Vec<u8>,
    id_at: usize,
    seq_at: usize,
    /// Where grams, the stable bit and the cell stand; `None` for stock.
    weight_at: Option<(usize, usize, usize)>,
}

impl Template {
    pub fn new(kind: Kind, version: Version, device: &str, boot: &str, sku: &str) -> Self {
        let seq = " ".repeat(SEQ_COLUMNS);
        let values = match kind {
            Kind::Stock => format!(r#""sku":"{sku}","delta":1"#),
            Kind::Weight => format!(r#""g":{},"stable":false,"ch":"0""#, " ".repeat(GRAM_COLUMNS)),
        };
        let payload = format!(r#"{{"seq":{seq},"boot":"{boot}","values":{{{values}}}}}"#);
        let topic = frame::topic(device, kind.stream());
        let mut packet = Vec::new();
        let publish =
            Publish { topic: &topic, payload: payload.as_bytes(), id: Some(0), dup: false };
        packet::publish(&mut packet, version, &publish);
        let payload_at = packet.len() - payload.len();
        let properties = usize::from(version == Version::V5);
        let find = |mark: &str| payload.find(mark).map_or(0, |i| payload_at + i + mark.len());
        Self {
            id_at: payload_at - properties - 2,
            seq_at: find(r#""seq":"#),
            weight_at: (kind == Kind::Weight)
                .then(|| (find(r#""g":"#), find(r#""stable":"#), find(r#""ch":""#))),
            packet,
        }
    }

    /// Appends frame `seq`.
    pub fn write(&self, seq: u64, dup: bool, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.packet);
        let frame = &mut out[start..];
        if dup {
            frame[0] |= 0x08;
        }
        frame[self.id_at..self.id_at + 2].copy_from_slice(&id_of(seq).to_be_bytes());
        digits(&mut frame[self.seq_at..self.seq_at + SEQ_COLUMNS], seq);
        if let Some((grams_at, stable_at, cell_at)) = self.weight_at {
            let (index, cell) = ((seq - 1) / CELLS, (seq - 1) % CELLS);
            let (cycle, k) = (index / CYCLE_FRAMES, index % CYCLE_FRAMES);
            frame[cell_at] = b'0' + cell as u8;
            let moving = k < MOVING_FRAMES;
            // A hand presses on the goods while they move.
            let grams = units(cycle) * UNIT_G + if moving { 1_137 + 400 * k } else { 0 };
            digits(&mut frame[grams_at..grams_at + GRAM_COLUMNS], grams);
            let stable = if moving { b"false" } else { b"true " };
            frame[stable_at..stable_at + 5].copy_from_slice(stable);
        }
    }
}

/// Writes `n` right-aligned into blanks.
fn digits(column: &mut [u8], mut n: u64) {
    for place in column.iter_mut().rev() {
        *place = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::{Incoming, decode};
    use serde_json::{Value, json};

    fn frame(kind: Kind, version: Version, seq: u64, dup: bool) -> (u8, Value, u16) {
        let mut out = vec![0xee];
        Template::new(kind, version, "load-0007", "b00t", "LOAD-07").write(seq, dup, &mut out);
        let (packet, used) = decode(&out[1..], version).unwrap().unwrap();
        assert_eq!(used, out.len() - 1);
        let Incoming::Publish { topic, payload, id } = packet else { panic!("{packet:?}") };
        assert_eq!(topic, format!("stockfold/v1/load-0007/{}", kind.stream()));
        (out[1], serde_json::from_slice(&payload).unwrap(), id.unwrap())
    }

    #[test]
    fn frames_are_whole_packets_with_the_specified_payload() {
        for version in [Version::V3, Version::V5] {
            let (first, payload, id) = frame(Kind::Stock, version, 70_001, false);
            let values = json!({"sku": "LOAD-07", "delta": 1});
            assert_eq!(payload, json!({"seq": 70_001, "boot": "b00t", "values": values}));
            assert_eq!((first, id), (0x32, 4_466));
            assert_eq!(frame(Kind::Stock, version, 9_999_999_999, true).0, 0x3a);
            let (_, payload, _) = frame(Kind::Weight, version, 76, false);
            let values = json!({"g": 5_500, "stable": true, "ch": "3"});
            assert_eq!(payload, json!({"seq": 76, "boot": "b00t", "values": values}));
        }
        let (_, payload, _) = frame(Kind::Weight, Version::V3, 67, false);
        assert_eq!(payload["values"], json!({"g": 7_037, "stable": false, "ch": "0"}));
    }

    #[test]
    fn acknowledgements_find_their_frame() {
        for newest in [1, 2, 65_534, 65_535, 65_536, 131_071, 1_000_000] {
            for back in [0, 1, 5, 60_000] {
                if let Some(seq) = u64::checked_sub(newest, back).filter(|s| *s > 0) {
                    assert_eq!(seq_of(id_of(seq), newest), Some(seq), "{newest} {back}");
                }
            }
        }
        assert_eq!(seq_of(0, 10), None);
        assert_eq!(seq_of(11, 10), None);
    }

    #[test]
    fn movements_follow_from_frames() {
        assert_eq!(Kind::Stock.movements(7), 7);
        // The tenth frame of the first cell is frame 55, of the last frame 60.
        let weight = |n| Kind::Weight.movements(n);
        assert_eq!([weight(54), weight(55), weight(60), weight(120)], [0, 1, 6, 12]);
    }
}
