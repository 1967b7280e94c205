//! RO_ACCESS_REPORT and events as bytes, as a reader sends them.

use crate::llrp::Read;
use device_profiles::llrp::{Message, Parameter, Value};

/// How tags are stamped.
#[derive(Debug, Clone, Copy)]
pub struct Stamping {
    /// Added to the time, microseconds.
    pub off_us: i64,
    /// The reader has no clock and began then: it tells the time since.
    pub uptime_from_us: Option<i64>,
    /// Impinj's own figure of the signal is added.
    pub fine: bool,
}

impl Stamping {
    /// What the reader's clock shows.
    pub fn micros(self, at_us: i64) -> u64 {
        let since = self.uptime_from_us.unwrap_or(0);
        (at_us + self.off_us - since).max(0).unsigned_abs()
    }

    fn stamp(self, at_us: i64) -> Parameter {
        let name = if self.uptime_from_us.is_some() { "Uptime" } else { "UTCTimestamp" };
        Parameter::new(name, vec![Value::Unsigned(self.micros(at_us))], Vec::new())
    }
}

/// A header with its length to be filled in, and room for tags behind it.
fn begin(number: u16, id: u32) -> Vec<u8> {
    let mut out = (0x0400 | number).to_be_bytes().to_vec();
    out.extend([0; 4]);
    out.extend(id.to_be_bytes());
    out
}

fn end(mut out: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX).to_be_bytes();
    out[2..6].copy_from_slice(&length);
    out
}

/// A report of these reads.
pub fn report(id: u32, rospec: u32, reads: &[Read], stamping: Stamping) -> Vec<u8> {
    let mut out = begin(61, id);
    for read in reads {
        tag(read.tag.bytes(), read.tag.bits(), rospec, read, stamping, &mut out);
    }
    end(out)
}

/// Adds a tag whose EPC memory is these bits to a report.
pub fn add_tag(
    report: Vec<u8>,
    epc: &[u8],
    bits: u16,
    rospec: u32,
    read: &Read,
    stamping: Stamping,
) -> Vec<u8> {
    let mut out = report;
    tag(epc, bits, rospec, read, stamping, &mut out);
    end(out)
}

fn tag(epc: &[u8], bits: u16, rospec: u32, read: &Read, stamping: Stamping, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend([0, 240, 0, 0]);
    if bits == 96 {
        out.push(0x80 | 13);
        out.extend(epc);
    } else {
        let length = u16::try_from(6 + epc.len()).unwrap_or(u16::MAX);
        out.extend([0, 241]);
        out.extend(length.to_be_bytes());
        out.extend(bits.to_be_bytes());
        out.extend(epc);
    }
    out.push(0x80 | 9);
    out.extend(rospec.to_be_bytes());
    out.push(0x80 | 1);
    out.extend(read.antenna.to_be_bytes());
    out.push(0x80 | 6);
    let whole = i8::try_from((read.rssi_cdbm / 100).clamp(-128, 127)).unwrap_or(i8::MIN);
    out.extend(whole.to_be_bytes());
    let (first, last) = if stamping.uptime_from_us.is_some() { (3, 5) } else { (2, 4) };
    for number in [first, last] {
        out.push(0x80 | number);
        out.extend(stamping.micros(read.at_us).to_be_bytes());
    }
    out.push(0x80 | 8);
    out.extend(1_u16.to_be_bytes());
    if stamping.fine {
        out.extend([0x03, 0xFF, 0, 14]);
        out.extend(device_profiles::llrp::IMPINJ.to_be_bytes());
        out.extend(57_u32.to_be_bytes());
        out.extend(read.rssi_cdbm.to_be_bytes());
    }
    let length = u16::try_from(out.len() - at).unwrap_or(u16::MAX).to_be_bytes();
    out[at + 2..at + 4].copy_from_slice(&length);
}

/// READER_EVENT_NOTIFICATION with one event.
pub fn event(id: u32, name: &str, fields: &[u64], at_us: i64, stamping: Stamping) -> Message {
    let fields = fields.iter().copied().map(Value::Unsigned).collect();
    let inner = vec![stamping.stamp(at_us), Parameter::new(name, fields, Vec::new())];
    let data = Parameter::new("ReaderEventNotificationData", Vec::new(), inner);
    Message::new(63, id, Vec::new(), vec![data])
}
