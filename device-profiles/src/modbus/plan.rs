//! The plan: which requests read a set of fields.
//!
//! Fields that belong together (a mass, its status, its decimal point) are a group and must come in one response. Groups are
//! merged greedily while the device's limit allows, no forbidden register lies between and the registers read for nothing
//! cost less than another request: a request and its response cost 13 characters and the turnaround, a register 2.
//!
//! A device may refuse what was read along: registers it has not, or more than it gives. [`Request::parts`] names the blocks
//! that a merged request was made of, so that each can be asked for alone.

use super::{ModbusMap, Table};
use crate::{
    limits::IMAGE_BLOCKS_MAX,
    profile::{ProfileError, invalid},
};

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

    /// It reads every item of another.
    pub fn covers(self, other: Self) -> bool {
        self.table == other.table && self.start <= other.start && other.end() <= self.end()
    }

    /// Those of a plan's blocks that this request reads together; one when it cannot be asked for in parts.
    pub fn parts(self, blocks: &[Self]) -> Vec<Self> {
        let parts: Vec<Self> = blocks.iter().copied().filter(|block| self.covers(*block)).collect();
        if parts.is_empty() { vec![self] } else { parts }
    }

    /// From the start of this to the end of another of the same table that begins no earlier.
    fn up_to(self, other: Self) -> Self {
        let end = self.end().max(other.end());
        let count = u16::try_from(end - u32::from(self.start)).unwrap_or(u16::MAX);
        Self { count, ..self }
    }
}

/// Which requests read a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The requests, in address order, each group of a table within one of them.
    pub requests: Vec<Request>,
    /// What each was merged of, in the same order: one block a group, or several groups that share registers.
    pub blocks: Vec<Request>,
}

/// Requests that read every field of every group.
pub fn plan(map: &ModbusMap, groups: &[Vec<&str>]) -> Result<Plan, ProfileError> {
    let spans = spans(map, groups)?;
    let requests = merge(map, &spans)?;
    let mut blocks: Vec<Request> = Vec::new();
    for span in spans {
        match blocks.last_mut() {
            Some(last) if last.table == span.table && u32::from(span.start) < last.end() => {
                *last = last.up_to(span);
            }
            Some(_) | None => blocks.push(span),
        }
    }
    if blocks.len() > IMAGE_BLOCKS_MAX {
        // An image could not hold them one by one, so they are never asked for so.
        blocks.clone_from(&requests);
    }
    Ok(Plan { requests, blocks })
}

/// The stretch of each group in each table, in address order.
fn spans(map: &ModbusMap, groups: &[Vec<&str>]) -> Result<Vec<Request>, ProfileError> {
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
    Ok(spans)
}

/// Merges stretches greedily.
fn merge(map: &ModbusMap, spans: &[Request]) -> Result<Vec<Request>, ProfileError> {
    let bad = |what: String| invalid(what);
    let mut plan: Vec<Request> = Vec::new();
    for span in spans.iter().copied() {
        if let Some(last) = plan.last_mut()
            && last.table == span.table
        {
            let merged = last.up_to(span);
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
    if plan.len() > IMAGE_BLOCKS_MAX {
        return Err(bad(format!("a poll takes more than {IMAGE_BLOCKS_MAX} requests")));
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    fn poll(fields: &str, registers: &str) -> (Vec<Request>, Vec<Request>) {
        let text = format!(
            "name: t\ncodec: modbus\nmodbus:\n  source: t\n  fields: {fields}\nstreams:\n  s: {{class: telemetry, dedupe: level, poll_ms: 100, registers: {registers}}}\n"
        );
        let poll = Profile::parse(&text).unwrap().streams["s"].poll.clone().unwrap();
        (poll.requests, poll.blocks)
    }

    #[test]
    fn a_merged_request_knows_its_parts() {
        let fields = "{a: {at: 0, type: u32}, b: {at: 8, type: u16}, c: {at: 40, type: u16}, d: {table: input, at: 0, type: u16}}";
        let (requests, blocks) = poll(fields, "[a, b, c, d]");
        let at = |table, start, count| Request { table, start, count };
        let (holding, input) = (Table::Holding, Table::Input);
        assert_eq!(requests, [at(holding, 0, 9), at(holding, 40, 1), at(input, 0, 1)]);
        assert_eq!(requests[0].parts(&blocks), [at(holding, 0, 2), at(holding, 8, 1)]);
        assert_eq!(requests[1].parts(&blocks), [at(holding, 40, 1)]);
        assert_eq!(requests[2].parts(&blocks), [at(input, 0, 1)]);
        assert_eq!(at(holding, 0, 9).parts(&[]), [at(holding, 0, 9)], "of somebody else's making");
    }

    #[test]
    fn groups_that_share_registers_are_one_part() {
        let fields = "{sign: {at: 1, type: u16}, a: {at: 0, type: u16, negative_if: {field: sign, bit: 0}}, b: {at: 2, type: u16, negative_if: {field: sign, bit: 1}}}";
        let (requests, blocks) = poll(fields, "[a, b]");
        assert_eq!(requests, blocks, "read apart, the sign would come twice");
        assert_eq!(requests.len(), 1);
    }
}
