//! The tags of an RO_ACCESS_REPORT, read in place: a reader that sees much reports thousands a second.

use super::{HEADER_BYTES, IMPINJ, LlrpError, frame_length};

/// A time as the reader tells it, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// Since 1970, UTC.
    Utc(u64),
    /// Since the reader started; it has no clock.
    Uptime(u64),
}

/// A tag that was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TagRead<'a> {
    /// Its EPC memory.
    pub epc: &'a [u8],
    /// Bits of it.
    pub epc_bits: u16,
    /// The antenna, from 1.
    pub antenna: Option<u16>,
    /// Strongest signal, in 1/100 dBm: Impinj's own figure where it is there, else whole dBm.
    pub rssi_cdbm: Option<i16>,
    /// The channel.
    pub channel: Option<u16>,
    /// When it was seen first in this report.
    pub first_seen: Option<Stamp>,
    /// When it was seen last.
    pub last_seen: Option<Stamp>,
    /// How often it was seen.
    pub seen: Option<u16>,
    /// The ROSpec that saw it.
    pub rospec: Option<u32>,
    /// PC bits: length of the EPC, and whether it is one.
    pub pc: Option<u16>,
    /// The tag's own number, if the reader read it along (Impinj's FastID).
    pub tid: Option<&'a [u8]>,
    /// Phase of the signal, 4096 = a whole turn (Impinj).
    pub phase: Option<u16>,
}

/// The tags of a report, one after the other. After an error nothing more comes.
#[derive(Debug, Clone)]
pub struct TagReads<'a> {
    rest: &'a [u8],
}

fn big<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    big(bytes, at).map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    big(bytes, at).map(u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    big(bytes, at).map(u64::from_be_bytes)
}

/// Splits a TLV parameter off the front: its number, its body, what follows.
fn tlv(bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), LlrpError> {
    let short = LlrpError::Short("a parameter");
    let number = u16_at(bytes, 0).ok_or(short.clone())? & 0x3FF;
    let length = usize::from(u16_at(bytes, 2).ok_or(short)?);
    let wrong = LlrpError::ParameterLength { number, length, left: bytes.len() };
    if length < 4 {
        return Err(wrong);
    }
    let (parameter, rest) = bytes.split_at_checked(length).ok_or(wrong)?;
    Ok((number, parameter.get(4..).unwrap_or_default(), rest))
}

impl<'a> TagReads<'a> {
    /// The tags of a whole message, header included, which must be an RO_ACCESS_REPORT.
    pub fn of(message: &'a [u8]) -> Result<Self, LlrpError> {
        let length = frame_length(message)?.ok_or(LlrpError::Short("the header"))?;
        let body = message.get(HEADER_BYTES..length).ok_or(LlrpError::Short("the message"))?;
        match u16_at(message, 0).unwrap_or(0) & 0x3FF {
            super::message::REPORT => Ok(Self { rest: body }),
            number => Err(LlrpError::Message(number)),
        }
    }
}

impl<'a> Iterator for TagReads<'a> {
    type Item = Result<TagRead<'a>, LlrpError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            match tlv(self.rest) {
                Ok((240, body, rest)) => {
                    self.rest = rest;
                    let read = TagRead::of(body);
                    if read.is_err() {
                        self.rest = &[];
                    }
                    return Some(read);
                }
                // Surveys, and what vendors add.
                Ok((_, _, rest)) => self.rest = rest,
                Err(error) => {
                    self.rest = &[];
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Bytes of a TV parameter with its type byte; 0 = there is none of this number.
const TV_BYTES: [usize; 21] = [0, 3, 9, 9, 9, 9, 2, 3, 3, 5, 3, 3, 3, 13, 3, 3, 5, 3, 5, 3, 3];

impl<'a> TagRead<'a> {
    /// From the body of a TagReportData.
    fn of(mut body: &'a [u8]) -> Result<Self, LlrpError> {
        let mut read = Self::default();
        let short = || LlrpError::Short("TagReportData");
        while let Some(&first) = body.first() {
            if first & 0x80 == 0 {
                let (number, inside, rest) = tlv(body)?;
                match number {
                    241 => {
                        let bits = u16_at(inside, 0).ok_or_else(short)?;
                        let bytes = usize::from(bits).div_ceil(8);
                        read.epc = inside.get(2..2 + bytes).ok_or_else(short)?;
                        read.epc_bits = bits;
                    }
                    1023 => read.custom(inside),
                    _ => {}
                }
                body = rest;
                continue;
            }
            let number = first & 0x7F;
            let bytes = TV_BYTES.get(usize::from(number)).copied().unwrap_or(0);
            if bytes == 0 {
                return Err(LlrpError::UnknownTv(number.into()));
            }
            let (tv, rest) = body.split_at_checked(bytes).ok_or_else(short)?;
            body = rest;
            match number {
                1 => read.antenna = u16_at(tv, 1),
                2 => read.first_seen = u64_at(tv, 1).map(Stamp::Utc),
                // A reader that has a clock tells both: UTC is the better one.
                3 => read.first_seen = read.first_seen.or(u64_at(tv, 1).map(Stamp::Uptime)),
                4 => read.last_seen = u64_at(tv, 1).map(Stamp::Utc),
                5 => read.last_seen = read.last_seen.or(u64_at(tv, 1).map(Stamp::Uptime)),
                6 => {
                    let whole = tv.get(1).map(|byte| i16::from(byte.cast_signed()) * 100);
                    read.rssi_cdbm = read.rssi_cdbm.or(whole);
                }
                7 => read.channel = u16_at(tv, 1),
                8 => read.seen = u16_at(tv, 1),
                9 => read.rospec = u32_at(tv, 1),
                12 => read.pc = u16_at(tv, 1),
                13 => {
                    read.epc = tv.get(1..).unwrap_or_default();
                    read.epc_bits = 96;
                }
                _ => {}
            }
        }
        Ok(read)
    }

    /// What Impinj adds. A custom parameter that is not as it should be is let go: it says nothing the rest depends on.
    fn custom(&mut self, inside: &'a [u8]) {
        if u32_at(inside, 0) != Some(IMPINJ) {
            return;
        }
        match u32_at(inside, 4) {
            Some(55) => {
                let words = usize::from(u16_at(inside, 8).unwrap_or(0));
                self.tid = inside.get(10..10 + words * 2);
            }
            Some(56) => self.phase = u16_at(inside, 8),
            Some(57) => self.rssi_cdbm = u16_at(inside, 8).map(u16::cast_signed).or(self.rssi_cdbm),
            Some(_) | None => {}
        }
    }
}

/// Cuts an RO_ACCESS_REPORT into reports of at most `bytes_max` bytes and `tags_max` tags, between parameters, each under a
/// header of its own with the same id. One that is small enough comes back as it is.
pub fn split(message: &[u8], bytes_max: usize, tags_max: usize) -> Result<Vec<Vec<u8>>, LlrpError> {
    let mut rest = TagReads::of(message)?.rest;
    let head = message.get(..HEADER_BYTES).unwrap_or_default();
    let mut parts = Vec::new();
    let mut part = head.to_vec();
    let mut tags = 0;
    while !rest.is_empty() {
        let (number, _, after) = tlv(rest)?;
        let (parameter, _) = rest.split_at(rest.len() - after.len());
        let full = part.len() + parameter.len() > bytes_max || tags >= tags_max;
        if full && part.len() > HEADER_BYTES {
            parts.push(std::mem::replace(&mut part, head.to_vec()));
            tags = 0;
        }
        part.extend(parameter);
        tags += usize::from(number == 240);
        rest = after;
    }
    parts.push(part);
    for part in &mut parts {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = part.get_mut(2..6) {
            place.copy_from_slice(&length);
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llrp::node::fixed_bytes;

    /// A report of so many tags of 12 bytes.
    fn report(tags: u8) -> Vec<u8> {
        let mut bytes = vec![0x04, 0x3D, 0, 0, 0, 0, 0, 0, 0, 9];
        for tag in 0..tags {
            bytes.extend([0, 240, 0, 17, 0x8D, tag, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        bytes[2..6].copy_from_slice(&length);
        bytes
    }

    #[test]
    fn a_long_report_is_cut_between_tags_and_loses_none() {
        let whole = report(10);
        assert_eq!(split(&whole, whole.len(), 10).unwrap(), std::slice::from_ref(&whole));
        for (bytes_max, tags_max, parts) in [(10 + 3 * 17, 99, 4), (9_999, 4, 3), (1, 99, 10)] {
            let cut = split(&whole, bytes_max, tags_max).unwrap();
            assert_eq!(cut.len(), parts);
            let tags = cut.iter().flat_map(|part| {
                assert_eq!(frame_length(part).unwrap(), Some(part.len()));
                assert_eq!(part[..2], whole[..2]);
                assert_eq!(part[6..10], whole[6..10]);
                TagReads::of(part).unwrap().map(|read| read.unwrap().epc[0])
            });
            assert_eq!(tags.collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        }
        let mut lie = whole;
        lie[13] = 200;
        assert!(split(&lie, 100, 99).is_err());
        assert_eq!(split(&report(0), 100, 99).unwrap(), [report(0)]);
    }

    #[test]
    fn tv_parameters_are_as_long_as_the_table_says() {
        for (number, bytes) in (1_u16..).zip(TV_BYTES.into_iter().skip(1)) {
            assert_eq!(fixed_bytes(number), Some(bytes - 1), "{number}");
        }
    }
}
