//! A unit as a master knows it: shapes of requests that cannot be mistaken, requests it refuses whole, and a heartbeat that must
//! move.
//!
//! A request may grow so that a late answer cannot fit it ([`Shapes`]); what was read along is thrown away, because the next
//! block of the same poll may read it too, and an image tells each register once. A request that was merged of several blocks
//! and is refused with exception 1, 2 or 3 is asked for block by block from then on, as long as the unit is known: the
//! registers between the blocks, or so many at once, are what it will not give.

use std::time::Duration;

use device_profiles::{
    Profile,
    modbus::{Image, ImageWriter, ModbusMap, Request, Table},
};
use tokio::time::{Instant, sleep_until};

use super::link::{CallError, Items, Link, Write};

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
        // What there was no room to remember cannot be told from anything.
        if self.unanswered.len() >= UNANSWERED_MAX {
            return None;
        }
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

/// A unit that is being asked.
#[derive(Debug)]
pub struct Unit {
    address: u8,
    shapes: Shapes,
    /// When a request to it last went unanswered.
    doubt_at: Instant,
    asked_at: Option<Instant>,
    /// Merged requests that it refused; asked for in parts.
    refused: Vec<Request>,
}

impl Unit {
    /// A unit nothing is known of.
    pub fn new(address: u8) -> Self {
        Self {
            address,
            shapes: Shapes::default(),
            doubt_at: Instant::now(),
            asked_at: None,
            refused: Vec::new(),
        }
    }

    /// Its address on the bus.
    pub fn address(&self) -> u8 {
        self.address
    }

    /// How many merged requests it refused, each of which is asked for in parts since.
    pub fn splits(&self) -> usize {
        self.refused.len()
    }

    /// Reads requests into one image. `blocks` are what they were merged of.
    pub async fn image(
        &mut self,
        link: &mut Link,
        map: &ModbusMap,
        requests: &[Request],
        blocks: &[Request],
    ) -> Result<Vec<u8>, CallError> {
        let mut image = ImageWriter::default();
        for request in requests {
            if !self.refused.contains(request) {
                match self.read(link, map, *request).await {
                    Ok(items) => {
                        keep(&mut image, *request, items);
                        continue;
                    }
                    Err(CallError::Exception(1..=3)) if request.parts(blocks).len() > 1 => {
                        self.refused.push(*request);
                    }
                    Err(error) => return Err(error),
                }
            }
            for part in request.parts(blocks) {
                let items = self.read(link, map, part).await?;
                keep(&mut image, part, items);
            }
        }
        Ok(image.finish())
    }

    /// One read, in a shape that no late answer can fit. As many items as are wanted come back.
    pub async fn read(
        &mut self,
        link: &mut Link,
        map: &ModbusMap,
        wanted: Request,
    ) -> Result<Items, CallError> {
        let request = match self.shapes.distinct(map, wanted) {
            Some(request) => request,
            None => {
                // Every length is taken; after so long no answer can still be under way.
                sleep_until(self.doubt_at + answer(map) * 4).await;
                self.shapes.forget();
                wanted
            }
        };
        let grown = request.count > wanted.count;
        match self.call(link, map, request).await {
            // Only the registers that were read along can be what it has not; the exception cleared the doubt.
            Err(CallError::Exception(2 | 3)) if grown => self.call(link, map, wanted).await,
            Ok(mut items) => {
                items.truncate(wanted.count.into());
                Ok(items)
            }
            Err(error) => Err(error),
        }
    }

    async fn call(
        &mut self,
        link: &mut Link,
        map: &ModbusMap,
        request: Request,
    ) -> Result<Items, CallError> {
        self.pause(map).await;
        let result = link.read(self.address, request, answer(map)).await;
        self.asked_at = Some(Instant::now());
        self.shapes.note(request, &result.as_ref().map(|_| ()).map_err(Clone::clone));
        if self.shapes.is_doubtful() {
            self.doubt_at = Instant::now();
        }
        result
    }

    /// Writes.
    pub async fn write(
        &mut self,
        link: &mut Link,
        map: &ModbusMap,
        write: Write<'_>,
    ) -> Result<(), CallError> {
        self.pause(map).await;
        let result = link.write(self.address, write, answer(map)).await;
        self.asked_at = Some(Instant::now());
        result
    }

    /// Leaves the device alone for as long as its profile asks.
    async fn pause(&self, map: &ModbusMap) {
        if let (Some(asked), gap @ 1..) = (self.asked_at, map.min_gap_ms) {
            sleep_until(asked + Duration::from_millis(gap.into())).await;
        }
    }
}

fn answer(map: &ModbusMap) -> Duration {
    Duration::from_millis(map.timeout_ms.into())
}

fn keep(image: &mut ImageWriter, request: Request, items: Items) {
    match items {
        Items::Words(words) => image.words(request.table, request.start, &words),
        Items::Bits(bits) => image.bits(request.table, request.start, &bits),
    }
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
