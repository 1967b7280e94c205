//! Merging committed batches into deltas: pure, one a facility.
//!
//! Levels are absolute, so of several changes of a line only the last counts, its end included. Movements and events are kept in order, the
//! newest up to a limit. A delta knows the position before it and the position after it; a client that begins in between gets
//! only what lies after its own snapshot.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, OnceLock},
};

use actors::store::Batch;
use bytestring::ByteString;
use device_profiles::{FacilityId, ShardId};
use fold::{HubTime, Position};

use super::{
    limits::{DELTA_EVENTS_MAX, DELTA_MOVEMENTS_MAX},
    message::{LineGone, Message},
};
use crate::store::told::{EventTold, MovementTold, Place, StockLine};

/// Where each slot of a facility is.
pub type Places = HashMap<String, Place>;

/// What happened in one facility since the last delta.
#[derive(Debug, Default)]
pub struct Merge {
    /// Position before the first batch merged.
    from: Option<Position>,
    /// Position after the last.
    to: Position,
    /// By slot and SKU; `None` = the line is gone.
    lines: BTreeMap<(String, String), Option<StockLine>>,
    movements: Kept<MovementTold>,
    events: Kept<EventTold>,
}

/// The newest items, and how many older ones were left out.
#[derive(Debug)]
struct Kept<T> {
    items: VecDeque<(Position, T)>,
    skipped: u64,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), skipped: 0 }
    }
}

impl<T> Kept<T> {
    fn push(&mut self, position: Position, item: T, most: usize) {
        if self.items.len() >= most {
            self.items.pop_front();
            self.skipped += 1;
        }
        self.items.push_back((position, item));
    }
}

/// Position of an offset of a batch's shard.
fn at(batch: &Batch, offset: u64) -> Position {
    Position { epoch: batch.epoch, shard: ShardId(batch.shard), offset }
}

impl Merge {
    /// Position after the last batch merged.
    pub fn to(&self) -> Position {
        self.to
    }

    /// Takes what a batch says about a facility of its shard.
    pub fn take(&mut self, facility: &FacilityId, batch: &Batch, places: &Places, now: HubTime) {
        self.from.get_or_insert_with(|| at(batch, batch.from));
        self.to = at(batch, batch.to);
        for (_, level) in batch.levels.iter().filter(|(home, _)| home == facility) {
            let line =
                StockLine::of(facility.as_str(), level, places.get(level.slot.as_str()), now);
            self.lines.insert((line.slot.clone(), line.sku.clone()), Some(line));
        }
        for (_, slot, sku) in batch.gone.iter().filter(|(home, _, _)| home == facility) {
            self.lines.insert((slot.to_string(), sku.to_string()), None);
        }
        for (_, offset, movement) in batch.movements.iter().filter(|(home, _, _)| home == facility)
        {
            let position = at(batch, *offset);
            let told = MovementTold::of(facility.as_str(), position, batch.fold_version, movement);
            self.movements.push(position, told, DELTA_MOVEMENTS_MAX);
        }
        for (_, offset, event) in batch.events.iter().filter(|(home, _, _)| home == facility) {
            let position = at(batch, *offset);
            self.events.push(
                position,
                EventTold::of(facility.as_str(), position, event),
                DELTA_EVENTS_MAX,
            );
        }
    }

    /// The delta so far, and a fresh start; `None` when nothing changed.
    pub fn flush(&mut self) -> Option<Arc<Delta>> {
        let from = self.from?;
        if self.lines.is_empty() && self.movements.items.is_empty() && self.events.items.is_empty()
        {
            // Batches of other facilities only: nothing lies between here and where the next delta begins.
            self.from = None;
            return None;
        }
        let done = std::mem::take(self);
        let (mut lines, mut gone) = (Vec::new(), Vec::new());
        for ((slot, sku), line) in done.lines {
            match line {
                Some(line) => lines.push(line),
                None => gone.push(LineGone { slot, sku }),
            }
        }
        Some(Arc::new(Delta {
            from,
            to: done.to,
            lines,
            gone,
            movements: done.movements,
            events: done.events,
            whole: OnceLock::new(),
        }))
    }
}

/// What changed in a facility between two positions.
#[derive(Debug)]
pub struct Delta {
    from: Position,
    to: Position,
    lines: Vec<StockLine>,
    gone: Vec<LineGone>,
    movements: Kept<MovementTold>,
    events: Kept<EventTold>,
    /// The message for clients that were there before; made once for all of them.
    whole: OnceLock<ByteString>,
}

impl Delta {
    /// Position after it.
    pub fn to(&self) -> Position {
        self.to
    }

    /// The message for a client that has everything up to `seen`; `None` when that includes all of this.
    pub fn after(&self, seen: Position) -> Option<ByteString> {
        if self.to <= seen {
            return None;
        }
        if self.from >= seen {
            return Some(self.whole.get_or_init(|| self.message(Position::default())).clone());
        }
        Some(self.message(seen))
    }

    /// Lines are as of `to`, so all of them may be told; movements and events only those after `seen`.
    fn message(&self, seen: Position) -> ByteString {
        let whole = self.from >= seen;
        let skipped = |skipped: u64| if whole { skipped } else { 0 };
        Message::Delta {
            position: self.to.to_string(),
            stock: self.lines.iter().collect(),
            gone: &self.gone,
            movements: self
                .movements
                .items
                .iter()
                .filter(|(at, _)| *at > seen)
                .map(|(_, m)| m)
                .collect(),
            events: self.events.items.iter().filter(|(at, _)| *at > seen).map(|(_, e)| e).collect(),
            movements_skipped: skipped(self.movements.skipped),
            events_skipped: skipped(self.events.skipped),
        }
        .text()
    }
}

#[cfg(test)]
mod tests {
    use device_profiles::{Sku, SlotId, Units};
    use fold::{Cause, Confidence, Level, Movement, Principal, Source, Why};
    use serde_json::Value;

    use super::*;

    fn facility() -> FacilityId {
        FacilityId::parse("f1").unwrap()
    }

    /// A batch that moves `s1` to `quantity` with one movement at its last offset.
    fn batch(from: u64, to: u64, quantity: i64) -> Batch {
        let level = Level {
            slot: SlotId::parse("s1").unwrap(),
            sku: Sku::parse("cola").unwrap(),
            quantity: Units(quantity),
            confidence: Confidence::FULL,
            source: Source::Scan,
            planned: true,
            fresh_at: HubTime(0),
            changed_at: HubTime(0),
        };
        let movement = Movement {
            ordinal: 0,
            slot: level.slot.clone(),
            sku: level.sku.clone(),
            delta: Units(1),
            level_after: Units(quantity),
            cause: Cause::Reading,
            confidence: Confidence::FULL,
            at: HubTime(0),
            device: None,
            boot: None,
            seq: None,
            principal: Principal::Device,
            evidence: Vec::new(),
            why: Why::Declared,
        };
        Batch {
            epoch: 1,
            from,
            to,
            fold_version: 1,
            levels: vec![(facility(), level)],
            movements: vec![(facility(), to, movement)],
            ..Batch::default()
        }
    }

    fn seen(offset: u64) -> Position {
        Position { epoch: 1, shard: ShardId(0), offset }
    }

    fn merged(batches: &[Batch]) -> Arc<Delta> {
        let mut merge = Merge::default();
        for batch in batches {
            merge.take(&facility(), batch, &Places::default(), HubTime(0));
        }
        merge.flush().unwrap()
    }

    fn json(text: &ByteString) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_last_level_wins_and_every_movement_is_told() {
        let delta = merged(&[batch(0, 8, 1), batch(8, 16, 2), batch(16, 24, 3)]);
        let told = json(&delta.after(seen(0)).unwrap());
        assert_eq!(told["position"], "1-0-24");
        assert_eq!(told["stock"].as_array().unwrap().len(), 1);
        assert_eq!(told["stock"][0]["quantity"], 3);
        assert_eq!(told["movements"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_line_that_goes_is_told_as_gone_unless_it_comes_back() {
        let key = (facility(), SlotId::parse("s1").unwrap(), Sku::parse("cola").unwrap());
        let gone = Batch { epoch: 1, from: 8, to: 16, gone: vec![key], ..Batch::default() };
        let told = json(&merged(&[batch(0, 8, 1), gone.clone()]).after(seen(0)).unwrap());
        assert_eq!(told["stock"], serde_json::json!([]));
        assert_eq!(told["gone"], serde_json::json!([{"slot": "s1", "sku": "cola"}]));
        let told = json(&merged(&[gone, batch(16, 24, 3)]).after(seen(0)).unwrap());
        assert_eq!(
            (told["stock"][0]["quantity"].as_i64(), &told["gone"]),
            (Some(3), &serde_json::json!([]))
        );
    }

    #[test]
    fn a_client_gets_exactly_what_lies_after_its_snapshot() {
        let delta = merged(&[batch(0, 8, 1), batch(8, 16, 2), batch(16, 24, 3)]);
        assert_eq!(delta.after(seen(24)), None);
        assert_eq!(delta.after(seen(30)), None);
        let told = json(&delta.after(seen(8)).unwrap());
        let ids: Vec<&str> = told["movements"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, ["1-0-16-0", "1-0-24-0"]);
    }

    #[test]
    fn movements_are_bounded_and_counted() {
        let batches: Vec<Batch> = (0..DELTA_MOVEMENTS_MAX as u64 + 5)
            .map(|n| batch(n * 8, n * 8 + 8, n as i64))
            .collect();
        let told = json(&merged(&batches).after(seen(0)).unwrap());
        assert_eq!(told["movements"].as_array().unwrap().len(), DELTA_MOVEMENTS_MAX);
        assert_eq!(told["movements_skipped"], 5);
    }

    #[test]
    fn another_facility_is_no_delta() {
        let mut merge = Merge::default();
        let other = FacilityId::parse("f2").unwrap();
        merge.take(&other, &batch(0, 8, 1), &Places::default(), HubTime(0));
        assert!(merge.flush().is_none());
    }
}
