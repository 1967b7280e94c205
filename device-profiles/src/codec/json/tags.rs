//! Tags in JSON of any make, by the field map of a profile.
//!
//! One tag that is none (an empty EPC memory, letters that are no digits) does not lose the others: such are passed over and
//! told as one trouble, as in the codecs of the vendors. A field of another type is the profile's mistake and rejects the frame.

use crate::{
    codec::tags::{Gathered, read_tag},
    profile::TagFields,
    reading::{DecodeReject, TagRead},
};

use super::{
    Node, Pointer,
    fields::{clock, field, need, number, range, text, whole, wrong},
};

/// The tags of a frame.
pub(super) fn tags(root: &Node<'_>, map: &TagFields) -> Result<Gathered, DecodeReject> {
    let mut found = Gathered::default();
    match &map.each {
        None => tag(root, root, map, &mut found)?,
        Some(each) => match need(root, each)? {
            Node::Array(items) => {
                items.iter().try_for_each(|item| tag(root, item, map, &mut found))?;
            }
            Node::Null
            | Node::Bool(_)
            | Node::Int(_)
            | Node::Big(_)
            | Node::Float(_)
            | Node::Str(_)
            | Node::Object(_) => return Err(wrong(each, "a list")),
        },
    }
    Ok(found)
}

fn tag(
    root: &Node<'_>,
    item: &Node<'_>,
    map: &TagFields,
    found: &mut Gathered,
) -> Result<(), DecodeReject> {
    let epc = text(need(item, &map.epc)?, &map.epc)?;
    let port = |pointer: &Pointer| -> Result<Option<u16>, DecodeReject> {
        let Some(node) = field(item, pointer) else { return Ok(None) };
        u16::try_from(whole(node, pointer)?).map(Some).map_err(|_| range(pointer))
    };
    let antenna = map.antenna.as_ref().map(port).transpose()?.flatten().unwrap_or(1);
    let reads = map.reads.as_ref().map(port).transpose()?.flatten().unwrap_or(1).max(1);
    let rssi_cdbm = match map.rssi.as_ref().and_then(|p| field(item, p).map(|node| (node, p))) {
        None => None,
        Some((node, pointer)) => {
            let cdbm = (number(node, pointer)? * map.rssi_scale).round();
            if cdbm.abs() > f64::from(i16::MAX) {
                return Err(range(pointer));
            }
            Some(cdbm as i16)
        }
    };
    let device_us = match &map.at {
        None => None,
        Some(at) => clock(item, at)?.map_or_else(|| clock(root, at), |us| Ok(Some(us)))?,
    };
    match read_tag(epc, map.encoding) {
        Some(tag) => found.tag(TagRead { tag, antenna, rssi_cdbm, reads, device_us }),
        None => found.no_tag(),
    }
}
