//! The plan: which requests read a set of fields.
//!
//! Fields that belong together (a mass, its status, its decimal point) are a group and must come in one response. Groups are
//! merged greedily while the device's limit allows, no forbidden register lies between and the registers read for nothing
//! cost less than another request: a request and its response cost 13 characters and the turnaround, a register 2.

use super::{ModbusMap, Table};
use crate::profile::{ProfileError, invalid};

/// One read request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// Which table.
    pub table: Table,
    /// First address on the wire.
    pub start: u16,
    /// Items.
    pub count: u16,
}

impl Request {
    /// The address after the last one, up to 65536.
    pub fn end(self) -> u32 {
        u32::from(self.start) + u32::from(self.count)
    }
}

/// Requests that read every field of every group, in address order, each group of a table within one of them.
pub fn plan(map: &ModbusMap, groups: &[Vec<&str>]) -> Result<Vec<Request>, ProfileError> {
    let bad = |what: String| invalid(what);
    let mut spans: Vec<Request> = Vec::new();
    for group in groups {
        let mut of_group: Vec<Request> = Vec::new();
        for name in group {
            let field = map.fields.get(*name).ok_or_else(|| bad(format!("no field {name:?}")))?;
            let (start, end) = (field.at, u32::from(field.at) + u32::from(field.kind.registers()));
            match of_group.iter_mut().find(|span| span.table == field.table) {
                Some(span) => {
                    let start = span.start.min(start);
                    let count = span.end().max(end) - u32::from(start);
                    *span =
                        Request { start, count: u16::try_from(count).unwrap_or(u16::MAX), ..*span };
                }
                None => of_group.push(Request {
                    table: field.table,
                    start,
                    count: field.kind.registers(),
                }),
            }
        }
        if of_group.len() > 1 {
            return Err(bad(format!(
                "fields {group:?} lie in different tables, so no one response has them; give the mass a status of its own table"
            )));
        }
        for span in &of_group {
            if span.count > map.items_max(span.table) {
                return Err(bad(format!(
                    "fields {group:?} are {} registers apart, the device gives {} in one response",
                    span.count,
                    map.items_max(span.table)
                )));
            }
            if map.forbids(*span) {
                return Err(bad(format!(
                    "fields {group:?} have a forbidden register between them"
                )));
            }
        }
        spans.append(&mut of_group);
    }
    spans.sort_unstable();
    let mut plan: Vec<Request> = Vec::new();
    for span in spans {
        if let Some(last) = plan.last_mut()
            && last.table == span.table
        {
            let end = last.end().max(span.end());
            let merged = Request {
                count: u16::try_from(end - u32::from(last.start)).unwrap_or(u16::MAX),
                ..*last
            };
            let gap = u32::from(span.start).saturating_sub(last.end());
            // Bits are cheap: a register's worth of gap is 16 of them.
            let gap_max = u32::from(map.gap_max) * if span.table.is_bits() { 16 } else { 1 };
            let overlaps = u32::from(span.start) < last.end();
            if merged.count <= map.items_max(span.table) && gap <= gap_max && !map.forbids(merged) {
                *last = merged;
                continue;
            }
            if overlaps {
                return Err(bad(format!(
                    "fields that share registers from {} on cannot be read in one request",
                    span.start
                )));
            }
        }
        plan.push(span);
    }
    if plan.len() > crate::limits::IMAGE_BLOCKS_MAX {
        return Err(bad(format!(
            "a poll takes more than {} requests",
            crate::limits::IMAGE_BLOCKS_MAX
        )));
    }
    Ok(plan)
}
