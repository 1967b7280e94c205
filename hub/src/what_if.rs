//! What if goods moved otherwise: the kept journal folded twice, as it was and with other knobs of presence and place.
//!
//! Both folds read the same records side by side, from the oldest snapshot kept up to what was committed when it began; it
//! touches nothing and may run beside a live hub. What is compared is what would have been told of tags, entry by entry, and
//! the stock at the end. A departure that would come earlier or later is told twice: once only as it was, once only as it
//! would be.
//!
//! Limits: the journal holds the ticks that the rules in force asked for, so a deadline of the other knobs is met with the next
//! entry of the facility; and tags that were present in the snapshot are due then as they were.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use actors::{
    journal::Journal,
    ports::fs::RealFs,
    snapshot::SnapshotFiles,
    stock::Shard,
    store::{Batch, ShardPosition},
};
use device_profiles::{FacilityId, Sku, SlotId, ZoneId, time::format_rfc3339_us};
use fold::{EventKind, Mobility, TagTold};
use serde::Serialize;

use crate::{replay, store::shapes::ZoneMobility};

/// Differences told one by one, of events and of lines each, a shard.
pub const DIFFERENCES_TOLD_MAX: usize = 50;
/// Knobs that may be given, in zones.
pub const TUNINGS_MAX: usize = 1_024;

/// Why a text is no tuning.
#[derive(Debug, thiserror::Error)]
pub enum TuningError {
    /// Not of the form.
    #[error("{0:?} is not ZONE=knob:value,… or FACILITY/ZONE=knob:value,…")]
    Form(String),
    /// A knob that is none, or a value that is no whole number.
    #[error("{text:?}: {why}")]
    Knob {
        /// The text.
        text: String,
        /// What is wrong.
        why: String,
    },
}

/// Other knobs for a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// The facility; every one with such a zone when absent.
    pub facility: Option<FacilityId>,
    /// The zone.
    pub zone: ZoneId,
    /// The knobs that are otherwise.
    pub knobs: ZoneMobility,
}

impl Tuning {
    /// It is for this place, `facility/zone`.
    fn names(&self, place: &str) -> bool {
        place.split_once('/').is_some_and(|(facility, zone)| {
            zone == self.zone.as_str()
                && self.facility.as_ref().is_none_or(|own| own.as_str() == facility)
        })
    }
}

impl FromStr for Tuning {
    type Err = TuningError;

    fn from_str(text: &str) -> Result<Self, TuningError> {
        let form = || TuningError::Form(text.to_owned());
        let knob = |why: String| TuningError::Knob { text: text.to_owned(), why };
        let (place, said) = text.split_once('=').ok_or_else(form)?;
        let (facility, zone) = match place.split_once('/') {
            Some((facility, zone)) => {
                (Some(FacilityId::parse(facility).map_err(|_| form())?), zone)
            }
            None => (None, place),
        };
        let zone = ZoneId::parse(zone).map_err(|_| form())?;
        let mut knobs = serde_json::Map::new();
        for pair in said.split(',') {
            let (name, value) = pair.split_once(':').ok_or_else(form)?;
            let value: u32 = value
                .trim()
                .parse()
                .map_err(|_| knob(format!("{name} takes a whole number, not {value:?}")))?;
            knobs.insert(name.trim().to_owned(), value.into());
        }
        let knobs: ZoneMobility =
            serde_json::from_value(knobs.into()).map_err(|error| knob(error.to_string()))?;
        // Each knob has its range, whatever the others are.
        knobs.over(Mobility::default()).check().map_err(|error| knob(error.to_string()))?;
        Ok(Self { facility, zone, knobs })
    }
}

/// What would have been otherwise in one shard.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Shard.
    pub shard: u16,
    /// Offset it began after; 0 = the beginning of the journal.
    pub from: u64,
    /// Offset it went up to.
    pub to: u64,
    /// Entries folded, twice each.
    pub entries: u64,
    /// Zones that were tuned, `facility/zone`.
    pub zones: BTreeSet<String>,
    /// What was told of tags, by kind.
    pub as_it_was: BTreeMap<&'static str, u64>,
    /// What would have been told.
    pub as_it_would_be: BTreeMap<&'static str, u64>,
    /// Events that were told and would not have been, or not at this entry.
    pub only_as_it_was: u64,
    /// Events that would have been told and were not, or not at this entry.
    pub only_as_it_would_be: u64,
    /// The first of both, `-` as it was and `+` as it would be, in the order of the journal.
    pub events: Vec<String>,
    /// Lines of stock that would be otherwise at the end.
    pub lines_different: u64,
    /// The first of them.
    pub lines: Vec<String>,
}

impl Report {
    /// Nothing would have been otherwise.
    pub fn is_same(&self) -> bool {
        self.only_as_it_was + self.only_as_it_would_be + self.lines_different == 0
    }

    fn differ(&mut self, sign: char, told: &Told<'_>) {
        if self.events.len() < DIFFERENCES_TOLD_MAX {
            self.events.push(format!("{sign} {told}"));
        }
    }
}

/// Folds every shard twice. `progress` is told (done, of how many) in bytes of journal. Knobs for a zone that is nowhere are an
/// error: that nothing would be otherwise would be said of a slip of the pen.
pub async fn what_if(
    positions: &[ShardPosition],
    journal: &Journal<RealFs>,
    snapshots: &SnapshotFiles,
    tunings: &[Tuning],
    mut progress: impl FnMut(u64, u64),
) -> anyhow::Result<Vec<Report>> {
    anyhow::ensure!(tunings.len() <= TUNINGS_MAX, "at most {TUNINGS_MAX} zones can be tuned");
    let mut reports = Vec::new();
    for (id, position) in (0..).zip(positions) {
        replay::same_journal(position, journal)?;
        reports.push(shard(id, position.offset, journal, snapshots, tunings, &mut progress).await?);
    }
    let is_somewhere = |tuning: &&Tuning| {
        reports.iter().flat_map(|report| &report.zones).any(|place| tuning.names(place))
    };
    if let Some(nowhere) = tunings.iter().find(|tuning| !is_somewhere(tuning)) {
        match &nowhere.facility {
            Some(facility) => {
                anyhow::bail!("facility {facility} has no zone {}, or is not there", nowhere.zone)
            }
            None => anyhow::bail!("no facility has a zone {}", nowhere.zone),
        }
    }
    Ok(reports)
}

async fn shard(
    id: u16,
    to: u64,
    journal: &Journal<RealFs>,
    snapshots: &SnapshotFiles,
    tunings: &[Tuning],
    progress: &mut impl FnMut(u64, u64),
) -> anyhow::Result<Report> {
    let begin = || replay::begin(id, to, journal, snapshots, false);
    let ((mut was, from), (mut is, _)) = (begin()?, begin()?);
    let mut report = Report { shard: id, from, to, ..Report::default() };
    report.zones.extend(retune(&mut is, tunings));
    let mut reader = journal.reader(from);
    let mut records = Vec::new();
    while was.folded() < to && reader.read(&mut records)? {
        for record in records.drain(..).filter(|r| r.shard == id && r.offset <= to) {
            was.fold(&record, true);
            is.fold(&record, true);
            report.entries += 1;
            if record.kind != fold::wire::KIND_FRAME {
                // It may have published the zone as it was.
                report.zones.extend(retune(&mut is, tunings));
            }
        }
        compare(&was.seal(0, 0, false), &is.seal(0, 0, false), &mut report);
        progress(reader.position().min(to).saturating_sub(from), to.saturating_sub(from));
        tokio::task::yield_now().await;
    }
    stock(&was, &is, &mut report);
    Ok(report)
}

/// Sets the knobs; returns the zones that have them now.
fn retune(shard: &mut Shard, tunings: &[Tuning]) -> Vec<String> {
    let mut tuned = Vec::new();
    for tuning in tunings {
        for state in shard.states_mut() {
            if tuning.facility.as_ref().is_some_and(|facility| facility != state.facility()) {
                continue;
            }
            if state.retune(&tuning.zone, |whole| tuning.knobs.over(whole)) {
                tuned.push(format!("{}/{}", state.facility(), tuning.zone));
            }
        }
    }
    tuned
}

/// What was told of a tag at an entry.
#[derive(Debug, Clone, PartialEq)]
struct Told<'a> {
    offset: u64,
    facility: &'a FacilityId,
    at_us: i64,
    told: &'a TagTold,
}

impl Told<'_> {
    /// Two folds tell the same: the probability may be another, the event is not.
    fn is_same(&self, other: &Self) -> bool {
        let (a, b) = (self.told, other.told);
        (self.offset, self.facility) == (other.offset, other.facility)
            && (a.tag, a.change, a.how) == (b.tag, b.change, b.how)
            && (&a.from, &a.to) == (&b.from, &b.to)
    }
}

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = |at: &fold::Whereabouts| format!("{} {}:{}", at.zone, at.device, at.antenna);
        write!(
            f,
            "{} {}: {} {}",
            format_rfc3339_us(self.at_us),
            self.facility,
            self.told.tag,
            self.told.change.as_str()
        )?;
        if let Some(how) = self.told.how {
            write!(f, " ({})", how.as_str())?;
        }
        if let Some(from) = &self.told.from {
            write!(f, " from {}", place(from))?;
        }
        if let Some(to) = &self.told.to {
            write!(f, " to {}", place(to))?;
        }
        write!(f, ", {:.1} %", self.told.probability * 100.0)
    }
}

fn told(batch: &Batch) -> Vec<Told<'_>> {
    let tags = batch.events.iter().filter_map(|(facility, offset, event)| {
        let EventKind::Tag(told) = &event.kind else { return None };
        Some(Told { offset: *offset, facility, at_us: event.at.0, told })
    });
    tags.collect()
}

/// Compares what both folds told of the same records.
fn compare(was: &Batch, is: &Batch, report: &mut Report) {
    let (was, is) = (told(was), told(is));
    for (all, counts) in [(&was, &mut report.as_it_was), (&is, &mut report.as_it_would_be)] {
        for told in all {
            *counts.entry(told.told.change.as_str()).or_default() += 1;
        }
    }
    let mut is = is.into_iter().peekable();
    let mut was = was.into_iter().peekable();
    // Entry by entry: both lists are in the order of their offsets.
    while let Some(offset) =
        was.peek().map(|t| t.offset).into_iter().chain(is.peek().map(|t| t.offset)).min()
    {
        let mut before: Vec<Told<'_>> = Vec::new();
        while let Some(told) = was.next_if(|told| told.offset == offset) {
            before.push(told);
        }
        let mut after: Vec<Told<'_>> = Vec::new();
        while let Some(told) = is.next_if(|told| told.offset == offset) {
            match before.iter().position(|old| old.is_same(&told)) {
                Some(same) => {
                    before.swap_remove(same);
                }
                None => after.push(told),
            }
        }
        report.only_as_it_was += before.len() as u64;
        report.only_as_it_would_be += after.len() as u64;
        before.iter().for_each(|told| report.differ('-', told));
        after.iter().for_each(|told| report.differ('+', told));
    }
}

/// Compares the stock at the end.
fn stock(was: &Shard, is: &Shard, report: &mut Report) {
    let lines = |shard: &Shard| -> BTreeMap<(FacilityId, SlotId, Sku), i64> {
        let of = |state: &fold::State| {
            let facility = state.facility().clone();
            let line =
                |level: fold::Level| ((facility.clone(), level.slot, level.sku), level.quantity.0);
            state.levels().map(line).collect::<Vec<_>>()
        };
        shard.states().flat_map(of).collect()
    };
    let (was, is) = (lines(was), lines(is));
    let keys: BTreeSet<_> = was.keys().chain(is.keys()).collect();
    for key in keys {
        let (before, after) = (was.get(key).copied(), is.get(key).copied());
        if before.unwrap_or(0) == after.unwrap_or(0) {
            continue;
        }
        report.lines_different += 1;
        if report.lines.len() < DIFFERENCES_TOLD_MAX {
            let (facility, slot, sku) = key;
            report.lines.push(format!(
                "{sku} in {facility}/{slot}: {} as it was, {} as it would be",
                before.unwrap_or(0),
                after.unwrap_or(0)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunings_are_read() {
        let tuning: Tuning = "f1/door=quiet_ms:3000,stay_s:20".parse().unwrap();
        assert_eq!(tuning.facility.as_ref().map(|f| f.as_str()), Some("f1"));
        assert_eq!((tuning.knobs.quiet_ms, tuning.knobs.stay_s), (Some(3_000), Some(20)));
        let tuning: Tuning = "shop=depart_permille:100".parse().unwrap();
        assert_eq!((tuning.facility, tuning.zone.as_str()), (None, "shop"));
    }

    #[test]
    fn what_is_no_tuning_is_refused_by_name() {
        for (text, part) in [
            ("door", "is not ZONE="),
            ("door=stay_s", "is not ZONE="),
            ("a b=stay_s:1", "is not ZONE="),
            ("door=speed:3", "unknown field `speed`"),
            ("door=stay_s:-1", "takes a whole number"),
            ("door=stay_s:1", "stay_s must be 2 to 604800"),
        ] {
            let why = text.parse::<Tuning>().unwrap_err().to_string();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
