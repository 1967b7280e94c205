//! A load cell bound to a slot.

use std::sync::Arc;

use device_profiles::{CellFault, Milligrams, Sku, Units};
use serde::{Deserialize, Serialize};

use crate::{
    book::{Change, Origin, book, freshen},
    discrepancy::{self, Kind, Opened},
    effects::{Cause, Confidence, Effects, PlateauWhy, Reason, Why},
    entry::{ChannelSpec, HubTime, SkuSpec, Source},
    limits::WEIGHED_LINES_MAX,
    slot::Slot,
    table::Table,
};

use super::{
    plateau::{Detector, Rule, Sample, Step, Verdict},
    tracker::{Decision, Tracker, Unit},
};

/// A count below this probability opens a discrepancy.
const SURE: f64 = 0.98;
/// A count above this probability closes it.
const SURE_AGAIN: f64 = 0.995;
/// Drift a cell that nobody watched may have gathered, milligrams a second (20 g a day).
const UNSEEN_MG_PER_S: f64 = 0.25;

/// A load cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    pub spec: ChannelSpec,
    /// Raw reading of the empty slot.
    zero: i64,
    /// Somebody vouched for `zero`.
    zero_known: bool,
    scale_ppm: i64,
    /// Offset of the entry that set the calibration.
    calibration: u64,
    detector: Detector,
    tracker: Option<Tracker>,
    /// Drift since the last count, tare or calibration, milligrams.
    drifted: f64,
    /// Raw reading last seen.
    last_raw: i64,
    last_seq: Option<u64>,
    pub series_at: HubTime,
}

/// What the cell needs to know of the facility.
pub(crate) struct Lookup<'a> {
    pub skus: &'a Table<Sku, SkuSpec>,
    pub totals: &'a mut Table<Sku, Units>,
}

impl Cell {
    pub fn new(spec: &ChannelSpec) -> Self {
        Self {
            detector: Detector::new(spec.noise.0 as f64, spec.division.0 as f64),
            zero: spec.zero.map_or(0, |z| z.0),
            zero_known: spec.zero.is_some(),
            scale_ppm: 1_000_000,
            calibration: 0,
            tracker: None,
            drifted: 0.0,
            last_raw: 0,
            last_seq: None,
            series_at: HubTime(0),
            spec: spec.clone(),
        }
    }

    /// Takes a changed specification of the same cell and slot; a calibration made since stays.
    pub fn respecify(&mut self, spec: &ChannelSpec) {
        if self.spec.zero != spec.zero
            && let Some(zero) = spec.zero
        {
            self.calibrate(zero.0, self.scale_ppm, 0);
        }
        self.spec = spec.clone();
    }

    /// Sets the calibration. What the cell knew about mass is void; the counts are not.
    pub fn calibrate(&mut self, zero: i64, scale_ppm: i64, offset: u64) {
        self.zero = zero;
        self.zero_known = true;
        self.scale_ppm = scale_ppm;
        self.calibration = offset;
        self.detector = Detector::new(self.spec.noise.0 as f64, self.spec.division.0 as f64);
        self.tracker = None;
        self.drifted = 0.0;
    }

    fn net(&self, raw: i64) -> i64 {
        let scaled = i128::from(raw - self.zero) * i128::from(self.scale_ppm) / 1_000_000;
        i64::try_from(scaled).unwrap_or(if scaled < 0 { i64::MIN } else { i64::MAX })
    }

    fn noise(&self) -> f64 {
        (self.spec.noise.0 as f64).max(self.spec.division.0 as f64 * 0.29).max(1.0)
    }

    /// The device started anew: its numbers begin again, on every channel.
    pub fn restart(&mut self) {
        self.last_seq = None;
    }

    /// Whether a frame with this sequence number is older than one already weighed. A mass out of order says nothing.
    pub fn is_late(&mut self, seq: Option<u64>) -> bool {
        let late = match (seq, self.last_seq) {
            (Some(seq), Some(last)) => seq < last,
            (Some(_), None) | (None, _) => false,
        };
        if !late {
            self.last_seq = seq;
        }
        late
    }

    /// Offsets of entries that a coming movement may rest on: samples, and the entry that calibrated the cell.
    pub fn evidence(&self) -> impl Iterator<Item = u64> {
        let calibration = Some(self.calibration).filter(|offset| *offset > 0);
        self.detector.evidence().chain(calibration)
    }

    /// When the cell wants a tick.
    pub fn due(&self, rule: &Rule) -> Option<HubTime> {
        self.detector.quiet_at(rule)
    }
}

/// The lines of a slot that its cell counts, with their unit masses; `None` when one has no unit weight.
fn weighed(slot: &Slot, skus: &Table<Sku, SkuSpec>) -> Option<Vec<(Sku, Unit)>> {
    slot.lines
        .iter()
        .filter(|line| line.source == Source::Weight)
        .take(WEIGHED_LINES_MAX)
        .map(|line| {
            let spec = skus.get(line.sku.as_str())?;
            let mass = spec.unit_weight.filter(|mass| mass.0 > 0)?;
            Some((line.sku.clone(), Unit { mass: mass.0 as f64, sigma: spec.unit_sigma.0 as f64 }))
        })
        .collect()
}

/// The settling rule of a cell for the goods on it.
pub(crate) fn settle_rule(
    cell: &Cell,
    slot: &Slot,
    skus: &Table<Sku, SkuSpec>,
    settle_ms: u32,
    settle_samples: u16,
) -> Rule {
    let lightest = slot
        .lines
        .iter()
        .filter(|line| line.source == Source::Weight)
        .filter_map(|line| skus.get(line.sku.as_str())?.unit_weight)
        .map(|mass| mass.0 as f64)
        .filter(|mass| *mass > 0.0)
        .reduce(f64::min);
    Rule {
        settle_us: i64::from(settle_ms) * 1_000,
        settle_samples: u32::from(settle_samples),
        division: cell.spec.division.0 as f64,
        lightest,
    }
}

/// What a frame shows of a cell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// When it was taken.
    pub taken: HubTime,
    /// Gross mass.
    pub mass: Milligrams,
    /// The device's stability flag.
    pub stable: Option<bool>,
    /// What the device says is wrong.
    pub fault: Option<CellFault>,
}

/// One sample of a cell.
pub(crate) fn observe(
    cell: &mut Cell,
    slot: &mut Slot,
    lookup: &mut Lookup<'_>,
    effects: &mut Effects,
    origin: &Origin,
    rule: &Rule,
    shown: Shown,
) {
    if let Some(fault) = shown.fault {
        // What was counted stays; when the cell is sound again it settles anew and the step over the fault is judged.
        cell.detector.disturb();
        discrepancy::open(slot, effects, (origin.offset, origin.at), None, faulty(fault));
        return;
    }
    discrepancy::close(slot, effects, origin.at, "the cell is sound again", |open| {
        open.kind == Kind::CellFault
    });
    let Shown { taken, mass, stable, .. } = shown;
    cell.last_raw = mass.0;
    let sample = Sample { at: taken, offset: origin.offset, net: cell.net(mass.0), stable };
    match cell.detector.sample(rule, &sample) {
        Verdict::Moving => {}
        Verdict::Quiet(drift) => {
            if let Some(tracker) = &mut cell.tracker {
                tracker.drift(drift);
            }
            cell.drifted += drift;
            watch_drift(cell, slot, effects, origin, rule);
        }
        Verdict::Settled(step) => settled(cell, slot, lookup, effects, origin, &step),
    }
    refresh(slot, effects, origin.at);
}

fn faulty(fault: CellFault) -> Opened {
    let advice = match fault {
        CellFault::Cell => {
            "The transmitter reports a broken or missing load cell. Check the cell and its cable; the count is the last one known."
        }
        CellFault::Overload => {
            "More lies on the scale than it can weigh. Take something off; the count is the last one known."
        }
        CellFault::Underload => {
            "The scale reads below its zero: something lifts it, or its zero is wrong. Look, then tare it."
        }
        CellFault::Busy => {
            "The transmitter is starting up, calibrating or in set-up mode; the count is the last one known."
        }
    };
    Opened {
        kind: Kind::CellFault,
        mass: None,
        units: None,
        suspects: Vec::new(),
        advice: advice.into(),
    }
}

/// Time passed: a device that speaks only on change may have settled.
pub(crate) fn tick(
    cell: &mut Cell,
    slot: &mut Slot,
    lookup: &mut Lookup<'_>,
    effects: &mut Effects,
    origin: &Origin,
    rule: &Rule,
) {
    if let Some(step) = cell.detector.tick(rule, origin.at) {
        settled(cell, slot, lookup, effects, origin, &step);
    }
}

/// Tells from time to time that the lines are still being watched.
fn refresh(slot: &mut Slot, effects: &mut Effects, at: HubTime) {
    for line in slot.lines.iter_mut().filter(|line| line.source == Source::Weight) {
        freshen(line, &slot.spec.id, at, effects);
    }
}

fn watch_drift(cell: &Cell, slot: &mut Slot, effects: &mut Effects, origin: &Origin, rule: &Rule) {
    let by_capacity = cell.spec.capacity.map(|c| c.0 as f64 * 0.02);
    let by_unit = rule.lightest.map(|w| w * 0.5);
    let limit = match (by_capacity, by_unit) {
        (Some(a), Some(b)) => a.max(b),
        (Some(a), None) | (None, Some(a)) => a,
        (None, None) => return,
    };
    if cell.drifted.abs() > limit && !slot.open.iter().any(|o| o.kind == Kind::Drift) {
        let opened = Opened {
            kind: Kind::Drift,
            mass: Some(Milligrams(cell.drifted as i64)),
            units: None,
            suspects: Vec::new(),
            advice: "The cell drifted further than goods explain. Tare or calibrate it.".into(),
        };
        discrepancy::open(slot, effects, (origin.offset, origin.at), None, opened);
    }
}

/// The cell settled: decide what the plateau means and book it.
fn settled(
    cell: &mut Cell,
    slot: &mut Slot,
    lookup: &mut Lookup<'_>,
    effects: &mut Effects,
    origin: &Origin,
    step: &Step,
) {
    if !slot.lines.iter().any(|line| line.source == Source::Weight) {
        return;
    }
    let Some(lines) = weighed(slot, lookup.skus) else {
        let opened = Opened {
            kind: Kind::NoUnitWeight,
            mass: None,
            units: None,
            suspects: Vec::new(),
            advice: "A line here is counted by weight but its SKU has no unit weight. Set it."
                .into(),
        };
        discrepancy::open(slot, effects, (origin.offset, origin.at), None, opened);
        return;
    };
    discrepancy::close(slot, effects, origin.at, "unit weight is known", |open| {
        open.kind == Kind::NoUnitWeight
    });
    let units: Vec<Unit> = lines.iter().map(|(_, unit)| *unit).collect();
    let had: Vec<i64> =
        lines.iter().map(|(sku, _)| slot.line(sku).map_or(0, |l| l.quantity.0)).collect();
    let known = lines.iter().all(|(sku, _)| slot.line(sku).is_some_and(|l| l.known));
    let noise = cell.noise();
    let Some(tracker) = &mut cell.tracker else {
        begin(cell, slot, lookup, effects, origin, step, &lines, known);
        return;
    };
    let unseen = {
        let most = units.iter().map(|u| u.mass * 0.5).fold(f64::MAX, f64::min);
        let drift = (UNSEEN_MG_PER_S * (step.gap_us.max(0) as f64 / 1_000_000.0)).min(most);
        drift * drift
    };
    let decision = tracker.judge(step.after, step.variance, noise, unseen, &units);
    let sure = Confidence::from_probability(decision.posterior);
    for (index, (sku, unit)) in lines.iter().enumerate() {
        let event = decision.event.get(index).copied().unwrap_or(0);
        let now = decision.counts.get(index).copied().unwrap_or(had[index]);
        let why = || Box::new(explain(cell, &decision, step, index, *unit));
        let evidence = step.evidence.iter().filter(|o| **o != origin.offset).copied().collect();
        let correction = now - event - had[index];
        for (delta, cause) in [(correction, Cause::Correction), (event, Cause::Weight)] {
            if delta != 0 {
                let change = Change {
                    sku,
                    delta: Units(delta),
                    cause,
                    confidence: sure,
                    evidence: Vec::clone(&evidence),
                    why: Why::Plateau(why()),
                };
                // A cell counts at most a few hundred units, so this cannot overflow a line.
                let _ = book(slot, lookup.totals, effects, origin, change);
            }
        }
        if let Some(line) = slot.line_mut(sku)
            && line.certainty != sure
        {
            line.certainty = sure;
            effects.levels.push((slot.spec.id.clone(), sku.clone()));
        }
    }
    doubt(slot, lookup.skus, effects, origin, &decision, noise);
}

/// Opens and closes discrepancies after a decision.
fn doubt(
    slot: &mut Slot,
    skus: &Table<Sku, SkuSpec>,
    effects: &mut Effects,
    origin: &Origin,
    decision: &Decision,
    noise: f64,
) {
    let place = (origin.offset, origin.at);
    if let Some(came) = decision.foreign_came {
        let opened = Opened {
            kind: Kind::UnexplainedMass,
            mass: Some(Milligrams(came as i64)),
            units: None,
            suspects: suspects(skus, came.abs(), noise),
            advice: if came > 0.0 {
                "Something lies here that does not belong, or two things were put down at once. Look and count.".into()
            } else {
                "More was taken than was believed to be here, or only part of a unit. Look and count.".into()
            },
        };
        discrepancy::open(slot, effects, place, None, opened);
    } else if decision.foreign == 0.0 {
        discrepancy::close(slot, effects, origin.at, "the unexplained mass left", |open| {
            open.kind == Kind::UnexplainedMass
        });
    }
    if decision.posterior < SURE && decision.foreign_came.is_none() {
        let alternative = decision
            .runner_up
            .as_ref()
            .map(|(counts, p)| format!("{counts:?} ({:.1} %)", p * 100.0));
        let opened = Opened {
            kind: Kind::AmbiguousCount,
            mass: Some(Milligrams(decision.residual as i64)),
            units: None,
            suspects: Vec::new(),
            advice: format!(
                "The mass fits {:?} at {:.1} %, or {}. Count the slot.",
                decision.counts,
                decision.posterior * 100.0,
                alternative.unwrap_or_else(|| "something else".into())
            ),
        };
        discrepancy::open(slot, effects, place, None, opened);
    } else if decision.posterior > SURE_AGAIN {
        discrepancy::close(slot, effects, origin.at, "a later plateau is clear", |open| {
            open.kind == Kind::AmbiguousCount
        });
    }
}

/// SKUs of the facility one unit of which has about this mass, best first, at most three.
fn suspects(skus: &Table<Sku, SkuSpec>, mass: f64, noise: f64) -> Vec<Sku> {
    let mut near: Vec<(f64, &Sku)> = skus
        .iter()
        .filter_map(|(sku, spec)| {
            let unit = spec.unit_weight?.0 as f64;
            let spread = libm::sqrt(2.0 * noise * noise + (spec.unit_sigma.0 as f64).powi(2));
            let away = (unit - mass).abs() / spread;
            (away <= 3.0).then_some((away, sku))
        })
        .collect();
    near.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
    near.into_iter().take(3).map(|(_, sku)| sku.clone()).collect()
}

/// The first plateau: counts somebody gave, or the mass above a known zero.
#[allow(
    clippy::too_many_arguments,
    reason = "one caller; a struct would only rename the arguments"
)]
fn begin(
    cell: &mut Cell,
    slot: &mut Slot,
    lookup: &mut Lookup<'_>,
    effects: &mut Effects,
    origin: &Origin,
    step: &Step,
    lines: &[(Sku, Unit)],
    known: bool,
) {
    let noise = cell.noise();
    if known {
        discrepancy::close(slot, effects, origin.at, "the count is known", |open| {
            open.kind == Kind::NoReference
        });
        let counts =
            lines.iter().map(|(sku, _)| slot.line(sku).map_or(0, |l| l.quantity.0)).collect();
        let units: Vec<Unit> = lines.iter().map(|(_, unit)| *unit).collect();
        cell.tracker = Some(Tracker::from_counts(counts, step.after, noise, &units));
        return;
    }
    // Several lines cannot be told apart by one mass: somebody must count them first.
    let ([(sku, unit)], true) = (lines, cell.zero_known) else {
        let opened = Opened {
            kind: Kind::NoReference,
            mass: Some(Milligrams(step.after as i64)),
            units: None,
            suspects: Vec::new(),
            advice: "The scale shows a mass, but not how many units that is. Tare it while it is empty, or count the slot."
                .into(),
        };
        discrepancy::open(slot, effects, (origin.offset, origin.at), None, opened);
        return;
    };
    discrepancy::close(slot, effects, origin.at, "the scale knows its zero", |open| {
        open.kind == Kind::NoReference
    });
    let (tracker, sure) = Tracker::from_mass(step.after, step.variance, noise, *unit);
    let count = tracker.counts().first().copied().unwrap_or(0);
    cell.tracker = Some(tracker);
    let had = slot.line(sku).map_or(0, |line| line.quantity.0);
    let confidence = Confidence::from_probability(sure);
    if let Some(line) = slot.line_mut(sku) {
        line.known = true;
        line.certainty = confidence;
    }
    effects.levels.push((slot.spec.id.clone(), sku.clone()));
    if count == had {
        return;
    }
    let decision = Decision {
        counts: vec![count],
        event: vec![count - had],
        posterior: sure,
        runner_up: None,
        residual: step.after - count as f64 * unit.mass,
        sigma: noise,
        foreign_came: None,
        foreign: 0.0,
    };
    let change = Change {
        sku,
        delta: Units(count - had),
        cause: Cause::Weight,
        confidence,
        evidence: step.evidence.iter().filter(|o| **o != origin.offset).copied().collect(),
        why: Why::FirstPlateau(Box::new(explain(cell, &decision, step, 0, *unit))),
    };
    let _ = book(slot, lookup.totals, effects, origin, change);
}

fn explain(cell: &Cell, decision: &Decision, step: &Step, line: usize, unit: Unit) -> PlateauWhy {
    PlateauWhy {
        channel: Arc::from(cell.spec.channel.as_str()),
        before_mg: step.before.map(|mass| mass as i64),
        after_mg: step.after as i64,
        unit_mg: unit.mass as i64,
        sigma_mg: decision.sigma as i64,
        residual_mg: decision.residual as i64,
        samples: step.samples,
        posterior: decision.posterior,
        runner_up: decision
            .runner_up
            .as_ref()
            .and_then(|(counts, p)| counts.get(line).map(|n| (*n, *p))),
        absolute: ((step.after - decision.foreign) / unit.mass).round() as i64,
        zero_mg: cell.zero,
        scale_ppm: cell.scale_ppm,
        calibration: cell.calibration,
    }
}

/// Somebody counted: the line's quantity is the truth, and the mass now is what that many weigh.
pub(crate) fn counted(cell: &mut Cell, slot: &mut Slot, skus: &Table<Sku, SkuSpec>) {
    cell.drifted = 0.0;
    cell.tracker = None;
    let known = slot.lines.iter().filter(|l| l.source == Source::Weight).all(|l| l.known);
    if let (true, Some(reference), Some(lines)) =
        (known, cell.detector.reference(), weighed(slot, skus))
    {
        let counts =
            lines.iter().map(|(sku, _)| slot.line(sku).map_or(0, |l| l.quantity.0)).collect();
        let units: Vec<Unit> = lines.iter().map(|(_, unit)| *unit).collect();
        cell.tracker = Some(Tracker::from_counts(counts, reference, cell.noise(), &units));
    }
}

/// The planogram of the slot changed: start from the quantities the lines have.
pub(crate) fn respecify_lines(cell: &mut Cell, slot: &mut Slot, skus: &Table<Sku, SkuSpec>) {
    counted(cell, slot, skus);
}

/// Nothing lies on the cell now: its reading is the zero and its lines are empty.
pub(crate) fn tare(
    cell: &mut Cell,
    slot: &mut Slot,
    lookup: &mut Lookup<'_>,
    effects: &mut Effects,
    origin: &Origin,
) -> Result<(), Reason> {
    if !cell.detector.is_settled() {
        return Err(Reason::CellNotSettled);
    }
    let gross = cell.last_raw;
    cell.calibrate(gross, cell.scale_ppm, origin.offset);
    let lines: Vec<(Sku, Units)> = slot
        .lines
        .iter()
        .filter(|line| line.source == Source::Weight)
        .map(|line| (line.sku.clone(), line.quantity))
        .collect();
    for (sku, quantity) in lines {
        if quantity != Units::ZERO {
            let change = Change {
                sku: &sku,
                delta: Units(-quantity.0),
                cause: Cause::Tare,
                confidence: Confidence::FULL,
                evidence: Vec::new(),
                why: Why::Tared { gross_mg: gross },
            };
            book(slot, lookup.totals, effects, origin, change)?;
        }
        if let Some(line) = slot.line_mut(&sku) {
            line.known = true;
            line.certainty = Confidence::FULL;
            line.fresh_at = origin.at;
        }
        effects.levels.push((slot.spec.id.clone(), sku));
    }
    discrepancy::close(slot, effects, origin.at, "the cell was tared", |open| {
        open.kind != Kind::NoUnitWeight
    });
    Ok(())
}
