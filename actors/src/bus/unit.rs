//! A unit as the bus actor knows it: shapes of requests that cannot be mistaken, and a heartbeat that must move.

use std::time::Duration;

use device_profiles::{
    Profile,
    modbus::{Image, ModbusMap, Request, Table},
};

use super::link::CallError;

/// Unanswered requests of a unit that are remembered. More of one length cannot be told apart, so the unit rests for as long as
/// a late answer may take.
pub const UNANSWERED_MAX: usize = 8;
/// How many registers more than needed may be read to give a request another length.
const EXTRA_MAX: u16 = 7;

/// Lengths of requests to a unit that were not answered.
///
/// On a serial line an answer carries no number: one that comes late looks like that of the request after it, if that asks for
/// as many items of the same table. So while requests are unanswered the next ones ask for another number of items, one or more
/// registers too many. Devices answer in order: the first answer of the right length proves that everything before it is over.
#[derive(Debug, Clone, Default)]
pub struct Shapes {
    unanswered: Vec<(Table, u16)>,
}

impl Shapes {
    /// The request to send for `wanted`; `None` when no length is left that could not be mistaken.
    pub fn distinct(&self, map: &ModbusMap, wanted: Request) -> Option<Request> {
        let max = map.items_max(wanted.table);
        // An answer of bits has whole bytes, so only lengths that differ by bytes differ.
        let step = if wanted.table.is_bits() { 8 } else { 1 };
        (0..=EXTRA_MAX)
            .map(|extra| Request { count: wanted.count.saturating_add(extra * step), ..wanted })
            .take_while(|request| {
                request.count <= max
                    && request.end() <= 1 << 16
                    && (request.count == wanted.count || !map.forbids(*request))
            })
            .find(|request| !self.unanswered.contains(&shape(*request)))
    }

    /// A request ended.
    pub fn note(&mut self, request: Request, result: &Result<(), CallError>) {
        match result {
            // In order: whatever was asked before has been answered or never will be.
            Ok(()) | Err(CallError::Exception(_)) => self.unanswered.clear(),
            Err(
                CallError::Timeout(_)
                | CallError::Foreign(_)
                | CallError::Length { .. }
                | CallError::Down(_),
            ) => {
                if self.unanswered.len() < UNANSWERED_MAX {
                    self.unanswered.push(shape(request));
                }
            }
        }
    }

    /// So much time has passed that nothing unanswered can still come.
    pub fn forget(&mut self) {
        self.unanswered.clear();
    }

    /// Something is unanswered.
    pub fn is_doubtful(&self) -> bool {
        !self.unanswered.is_empty()
    }
}

/// What an answer shows of the request it belongs to: the table, and its length as sent.
fn shape(Request { table, count, .. }: Request) -> (Table, u16) {
    (table, if table.is_bits() { count.div_ceil(8) } else { count })
}

/// Watches the heartbeat counter of a unit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pulse {
    last: Option<(u64, u64)>,
}

impl Pulse {
    /// Looks at an image that came at `now_us`. True when the counter stood still for too long: the device repeats what it once
    /// measured.
    pub fn is_frozen(&mut self, profile: &Profile, image: &[u8], now_us: u64) -> bool {
        let Some(map) = &profile.modbus else { return false };
        let Some(heartbeat) = &map.heartbeat else { return false };
        let Some(field) = map.fields.get(&heartbeat.field) else { return false };
        let Some(count) = Image::parse(image).ok().and_then(|image| field.bits(&image)) else {
            return false;
        };
        match self.last {
            Some((known, since)) if known == count => {
                Duration::from_micros(now_us.saturating_sub(since))
                    >= Duration::from_millis(heartbeat.still_ms.into())
            }
            Some(_) | None => {
                self.last = Some((count, now_us));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile::parse(
            "name: t\ncodec: modbus\nmodbus:\n  source: test\n  registers_max: 6\n  forbidden: [{from: 6, to: 6}]\n  heartbeat: {field: beat, still_ms: 500}\n  fields:\n    mass: {at: 0, type: i32}\n    beat: {at: 2, type: u16}\nstreams:\n  weight: {class: stock, dedupe: level, poll_ms: 100, weight: {scales: [{mass: mass}]}}\n",
        )
        .unwrap()
    }

    #[test]
    fn no_request_has_the_length_of_an_unanswered_one() {
        let profile = profile();
        let map = profile.modbus.as_ref().unwrap();
        let wanted = Request { table: Table::Holding, start: 0, count: 3 };
        let mut shapes = Shapes::default();
        let timeout = Err(CallError::Timeout(300));
        for count in 3..=6 {
            let request = shapes.distinct(map, wanted).unwrap();
            assert_eq!(request.count, count);
            shapes.note(request, &timeout);
        }
        assert_eq!(shapes.distinct(map, wanted), None, "7 is more than the device gives");
        let other = Request { start: 3, ..wanted };
        assert_eq!(shapes.distinct(map, other), None, "registers beyond are forbidden");
        shapes.note(wanted, &Ok(()));
        assert_eq!(shapes.distinct(map, wanted), Some(wanted));
        assert!(!shapes.is_doubtful());
    }

    #[test]
    fn a_counter_that_stands_still_is_a_frozen_device() {
        let profile = profile();
        let image = |beat: u16| {
            let mut writer = device_profiles::modbus::ImageWriter::default();
            writer.words(Table::Holding, 0, &[0, 5, beat]);
            writer.finish()
        };
        let mut pulse = Pulse::default();
        assert!(!pulse.is_frozen(&profile, &image(7), 0));
        assert!(!pulse.is_frozen(&profile, &image(7), 400_000));
        assert!(pulse.is_frozen(&profile, &image(7), 600_000));
        assert!(!pulse.is_frozen(&profile, &image(8), 700_000));
        assert!(!pulse.is_frozen(&profile, &image(8), 1_100_000));
    }
}
