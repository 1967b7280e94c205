//! Reads as readers report them: LLRP messages, byte for byte.
//!
//! ```text
//!  Physics ─► Read ─► for each reader: (tag, antenna) ─► seen n times, peak RSSI, last at   ── every period, or when full ─►
//!        RO_ACCESS_REPORT                     beside it KEEPALIVE, and READER_EVENT_NOTIFICATION when it is connected and starts
//! ```
//! A reader reports each (tag, antenna) once in a period with how often it saw it, as real ones do; a period without tags has
//! no report. It stamps with a clock of its own, wrong by a constant within a bound. Readers are out of step with each other.

use std::collections::HashMap;
use std::sync::Arc;

use device_profiles::llrp::{IMPINJ, LlrpError, Message, Parameter, Value, message};

use super::physics::{Physics, Read};
use super::world::World;
use crate::clock::TimeBase;
use crate::random::Stream;

/// The ROSpec that readers run.
const ROSPEC: u32 = 1;

/// How readers report.
#[derive(Debug, Clone, Copy)]
pub struct ReportSpec {
    /// Period of reports, milliseconds.
    pub every_ms: u32,
    /// A report with so many tags is sent at once.
    pub tags_max: usize,
    /// Period of signs of life, milliseconds.
    pub keepalive_ms: u32,
    /// Unix time of virtual 0, microseconds.
    pub utc_us: i64,
    /// Clocks are wrong by up to so much, milliseconds.
    pub clock_error_ms: u32,
    /// RSSI to 1/100 dBm in Impinj's parameter, beside the standard's whole dBm.
    pub fine_rssi: bool,
}

impl Default for ReportSpec {
    fn default() -> Self {
        Self {
            every_ms: 500,
            tags_max: 250,
            keepalive_ms: 1_000,
            utc_us: TimeBase::fixed().epoch_us,
            clock_error_ms: 0,
            fine_rssi: true,
        }
    }
}

/// A message as a reader sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When, virtual microseconds.
    pub at_us: i64,
    /// Which reader.
    pub reader: usize,
    /// The message, header included.
    pub bytes: Vec<u8>,
}

/// The readers of a world.
pub struct Frames {
    spec: ReportSpec,
    physics: Box<dyn Physics>,
    readers: Vec<Reader>,
    reads: Vec<Read>,
    done_us: i64,
}

#[derive(Debug)]
struct Reader {
    next_report_us: i64,
    next_keepalive_us: i64,
    /// Added to virtual time: what its clock shows.
    clock_us: i64,
    id: u32,
    seen: Vec<Seen>,
    /// Where in `seen` an (item, antenna) is. Never iterated.
    places: HashMap<(usize, u16), usize>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    read: Read,
    count: u16,
}

impl Frames {
    /// The readers of a world, hearing what `physics` lets them.
    #[must_use]
    pub fn new(world: &Arc<World>, physics: Box<dyn Physics>, spec: ReportSpec) -> Self {
        let reader = |index: usize| {
            let mut draw = Stream::new(world.scenario.seed, "reader", index as u64);
            let error_us = i64::from(spec.clock_error_ms) * 1_000;
            let phase = |draw: &mut Stream, ms: u32| draw.between(1, i64::from(ms.max(1)) * 1_000);
            Reader {
                next_report_us: phase(&mut draw, spec.every_ms),
                next_keepalive_us: phase(&mut draw, spec.keepalive_ms),
                clock_us: spec.utc_us + draw.between(-error_us, error_us),
                id: 0,
                seen: Vec::new(),
                places: HashMap::new(),
            }
        };
        Self {
            spec,
            physics,
            readers: (0..world.site.readers.len()).map(reader).collect(),
            reads: Vec::new(),
            done_us: 0,
        }
    }

    /// Everything the readers send from where the last call ended (first: 0) until before `to_us`, in order of time.
    ///
    /// # Errors
    /// [`LlrpError`] when a message cannot be written, for which there is no reason.
    pub fn frames(&mut self, to_us: i64) -> Result<Vec<Frame>, LlrpError> {
        let mut frames = Vec::new();
        if self.done_us >= to_us {
            return Ok(frames);
        }
        if self.done_us == 0 {
            for (index, reader) in self.readers.iter_mut().enumerate() {
                for event in [connected(), started()] {
                    frames.push(reader.event(index, 0, event)?);
                }
            }
        }
        self.done_us = to_us;
        let mut reads = std::mem::take(&mut self.reads);
        self.physics.reads(to_us, &mut reads);
        for read in &reads {
            let Some(reader) = self.readers.get_mut(read.reader) else { continue };
            reader.until(read.reader, read.at_us, &self.spec, &mut frames)?;
            reader.see(read);
            if reader.seen.len() >= self.spec.tags_max {
                frames.push(reader.report(read.reader, read.at_us, &self.spec)?);
            }
        }
        reads.clear();
        self.reads = reads;
        for (index, reader) in self.readers.iter_mut().enumerate() {
            reader.until(index, to_us - 1, &self.spec, &mut frames)?;
        }
        frames.sort_by_key(|frame| (frame.at_us, frame.reader));
        Ok(frames)
    }
}

impl Reader {
    /// Sends what is due until a moment.
    fn until(
        &mut self,
        index: usize,
        at_us: i64,
        spec: &ReportSpec,
        frames: &mut Vec<Frame>,
    ) -> Result<(), LlrpError> {
        loop {
            let due_us = self.next_report_us.min(self.next_keepalive_us);
            if due_us > at_us {
                return Ok(());
            }
            if self.next_report_us == due_us {
                self.next_report_us += i64::from(spec.every_ms.max(1)) * 1_000;
                if !self.seen.is_empty() {
                    frames.push(self.report(index, due_us, spec)?);
                }
            } else {
                self.next_keepalive_us += i64::from(spec.keepalive_ms.max(1)) * 1_000;
                let message = self.message(message::KEEPALIVE, Vec::new());
                frames.push(Frame { at_us: due_us, reader: index, bytes: message.encode()? });
            }
        }
    }

    fn see(&mut self, read: &Read) {
        let next = self.seen.len();
        let at = *self.places.entry((read.item, read.antenna)).or_insert(next);
        match self.seen.get_mut(at) {
            Some(seen) => {
                let rssi_cdbm = seen.read.rssi_cdbm.max(read.rssi_cdbm);
                seen.read = Read { rssi_cdbm, ..*read };
                seen.count = seen.count.saturating_add(1);
            }
            None => self.seen.push(Seen { read: *read, count: 1 }),
        }
    }

    fn report(&mut self, index: usize, at_us: i64, spec: &ReportSpec) -> Result<Frame, LlrpError> {
        let clock_us = self.clock_us;
        let tags = self.seen.drain(..).map(|seen| tag(&seen, clock_us, spec)).collect();
        self.places.clear();
        let bytes = self.message(message::REPORT, tags).encode()?;
        Ok(Frame { at_us, reader: index, bytes })
    }

    fn event(&mut self, index: usize, at_us: i64, event: Parameter) -> Result<Frame, LlrpError> {
        let clock = Parameter::new("UTCTimestamp", vec![self.stamp(at_us)], Vec::new());
        let data = Parameter::new("ReaderEventNotificationData", Vec::new(), vec![clock, event]);
        let bytes = self.message(message::EVENT, vec![data]).encode()?;
        Ok(Frame { at_us, reader: index, bytes })
    }

    fn stamp(&self, at_us: i64) -> Value {
        Value::Unsigned((self.clock_us + at_us).max(0).cast_unsigned())
    }

    fn message(&mut self, number: u16, parameters: Vec<Parameter>) -> Message {
        self.id = self.id.wrapping_add(1);
        Message::new(number, self.id, Vec::new(), parameters)
    }
}

fn connected() -> Parameter {
    Parameter::new("ConnectionAttemptEvent", vec![Value::Unsigned(0)], Vec::new())
}

fn started() -> Parameter {
    let fields = vec![Value::Unsigned(0), Value::Unsigned(ROSPEC.into()), Value::Unsigned(0)];
    Parameter::new("ROSpecEvent", fields, Vec::new())
}

/// A TagReportData, its parameters in the order of the standard. They are made by number: there are thousands a second.
fn tag(seen: &Seen, clock_us: i64, spec: &ReportSpec) -> Parameter {
    let Seen { read, count } = seen;
    let number = |number: u16, value: Value| Parameter {
        number,
        fields: vec![value],
        parameters: Vec::new(),
    };
    let epc = match read.tag.bits() {
        96 => number(13, Value::Bytes(read.tag.bytes().to_vec())),
        bits => number(241, Value::Bits(bits, read.tag.bytes().to_vec())),
    };
    let whole_dbm = (read.rssi_cdbm as f64 / 100.0).round().clamp(-128.0, 127.0) as i64;
    let stamp = (clock_us + read.at_us).max(0).cast_unsigned();
    let mut parameters = vec![
        epc,
        number(1, Value::Unsigned(read.antenna.into())),
        number(6, Value::Signed(whole_dbm)),
        number(4, Value::Unsigned(stamp)),
        number(8, Value::Unsigned((*count).into())),
    ];
    if spec.fine_rssi {
        let fields = vec![
            Value::Unsigned(IMPINJ.into()),
            Value::Unsigned(57),
            Value::Bytes(read.rssi_cdbm.to_be_bytes().to_vec()),
        ];
        parameters.push(Parameter { number: 1023, fields, parameters: Vec::new() });
    }
    Parameter { number: 240, fields: Vec::new(), parameters }
}
