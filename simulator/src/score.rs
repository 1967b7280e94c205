//! The judgement: what a hub (or a fold) says happened against what did.
//!
//! [`score`] is pure: [`Truth`] and [`Seen`] in, [`Score`] out. Movements of a line are matched in order. A movement seen
//! matches the nearest true movement, or a run of them that adds up to its delta (two hands at once look like one to a scale),
//! when it was seen within [`Window`] of the last of them. Not judged as movements: counts and tares (people told the
//! hub), and the one movement by which a line's first quantity was established. What nobody could know is not held
//! against the hub: movements never told or lost at the source are counted apart, and goods misplaced onto a scale are
//! judged as discrepancies, since a scale cannot name them.

use crate::clock::{Micros, SECOND_US};
use crate::scenario::Source;
use crate::truth::Truth;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest run of true movements one seen movement may stand for.
const RUN_MAX: usize = 6;

/// A movement as the hub tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenMovement {
    /// Slot id.
    pub slot: String,
    /// SKU id.
    pub sku: String,
    /// Units.
    pub delta: i64,
    /// Level after it, when known.
    pub level_after: Option<i64>,
    /// `weight`, `reading`, `scan`, `count` …; empty when unknown.
    pub cause: String,
    /// When, in the world's time.
    pub at: Micros,
}

/// A discrepancy as the hub tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenDiscrepancy {
    /// Slot id.
    pub slot: String,
    /// When it was opened, in the world's time.
    pub at: Micros,
    /// It is open now.
    pub open: bool,
}

/// What the hub says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seen {
    /// Quantity of each (slot, SKU).
    pub levels: BTreeMap<(String, String), i64>,
    /// In any order.
    pub movements: Vec<SeenMovement>,
    /// In any order.
    pub discrepancies: Vec<SeenDiscrepancy>,
}

/// How far in time a movement may be seen from when it happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Before it: a device clock may be ahead, or a scale may see the goods before the hand is gone.
    pub early_us: Micros,
    /// After it: settling, outages.
    pub late_us: Micros,
}

impl Default for Window {
    fn default() -> Self {
        Self { early_us: 2 * SECOND_US, late_us: 30 * SECOND_US }
    }
}

/// A level that is not the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WrongLevel {
    /// Slot id.
    pub slot: String,
    /// SKU id.
    pub sku: String,
    /// Units there.
    pub truth: i64,
    /// Units according to the hub; absent when it has no such line.
    pub seen: Option<i64>,
    /// Misplaced goods on a scale, or movements nobody told, explain it.
    pub explained: bool,
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Score {
    /// Lines in all.
    pub lines: usize,
    /// Lines whose level is the truth.
    pub levels_right: usize,
    /// The others.
    pub levels_wrong: Vec<WrongLevel>,
    /// True movements a perfect hub would have seen.
    pub true_movements: usize,
    /// Of these, matched.
    pub matched: usize,
    /// Movements seen that are judged.
    pub seen_movements: usize,
    /// Of these, matched.
    pub seen_matched: usize,
    /// Movements nobody scanned.
    pub never_told: usize,
    /// Movements whose frame was lost before it was sent.
    pub lost_at_source: usize,
    /// Times goods were misplaced onto, or fetched from, a scale they do not belong on.
    pub misplaced: usize,
    /// Of these, followed by a discrepancy of the slot.
    pub misplaced_noticed: usize,
    /// Discrepancies opened in all.
    pub discrepancies: usize,
    /// Discrepancies open now.
    pub discrepancies_open: usize,
    /// Matched movements over movements seen, 0..=1.
    pub precision: f64,
    /// Matched movements over true movements, 0..=1.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Median delay from the hand's leaving to the hub's movement, ms of virtual time.
    pub delay_p50_ms: f64,
    /// 95th percentile of that delay.
    pub delay_p95_ms: f64,
}

impl Score {
    /// Levels wrong that nothing explains.
    #[must_use]
    pub fn levels_unexplained(&self) -> usize {
        self.levels_wrong.iter().filter(|l| !l.explained).count()
    }
}

/// Judges `seen` against `truth`.
#[must_use]
pub fn score(truth: &Truth, seen: &Seen, window: Window) -> Score {
    let mut score = Score { lines: truth.lines.len(), ..Score::default() };
    levels(truth, seen, &mut score);
    let mut lines: BTreeMap<(&str, &str), Line<'_>> = BTreeMap::new();
    for (index, line) in truth.lines.iter().enumerate() {
        lines.insert((&line.slot, &line.sku), Line { index: Some(index), ..Line::default() });
    }
    for m in &truth.movements {
        let line = &truth.lines[m.line];
        match m.told {
            crate::truth::Told::LostAtSource => score.lost_at_source += 1,
            crate::truth::Told::Never => score.never_told += usize::from(!m.foreign),
            _ if m.foreign && line.source == Source::Weight => {
                score.misplaced += 1;
                let near =
                    |at: Micros| at + window.early_us >= m.from && at <= m.at + window.late_us;
                let noticed =
                    seen.discrepancies.iter().any(|d| *d.slot == *line.slot && near(d.at));
                score.misplaced_noticed += usize::from(noticed);
            }
            _ if m.foreign => {}
            crate::truth::Told::Weighed | crate::truth::Told::Sent { .. } => {
                if let Some(l) = lines.get_mut(&(&*line.slot, &*line.sku)) {
                    l.real.push(Real { at: m.at, from: m.from, delta: m.delta, matched: false });
                }
            }
        }
    }
    for m in &seen.movements {
        if !matches!(m.cause.as_str(), "count" | "tare") {
            lines.entry((&m.slot, &m.sku)).or_default().seen.push(m);
        }
    }
    let mut delays = Vec::new();
    for line in lines.values_mut() {
        line.real.sort_by_key(|r| r.at);
        line.seen.sort_by_key(|m| m.at);
        line.establish(truth);
        score.seen_movements += line.seen.len();
        score.seen_matched += line.match_up(window, &mut delays);
        score.true_movements += line.real.len();
        score.matched += line.real.iter().filter(|r| r.matched).count();
    }
    score.discrepancies = seen.discrepancies.len();
    score.discrepancies_open = seen.discrepancies.iter().filter(|d| d.open).count();
    score.precision = ratio(score.seen_matched, score.seen_movements);
    score.recall = ratio(score.matched, score.true_movements);
    let sum = score.precision + score.recall;
    score.f1 = if sum > 0.0 { 2.0 * score.precision * score.recall / sum } else { 0.0 };
    delays.sort_unstable();
    score.delay_p50_ms = percentile(&delays, 0.50) as f64 / 1e3;
    score.delay_p95_ms = percentile(&delays, 0.95) as f64 / 1e3;
    score
}

/// The value below which `share` of the sorted values lie (nearest rank); 0 when there is none.
#[must_use]
pub fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// A share; nothing out of nothing is all of it.
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

fn levels(truth: &Truth, seen: &Seen, score: &mut Score) {
    // What explains a wrong level: on a scale, foreign goods came by; else the movements nobody told.
    let mut foreign = vec![false; truth.lines.len()];
    let mut untold = vec![0; truth.lines.len()];
    for m in &truth.movements {
        foreign[m.line] |= m.foreign;
        if m.is_untold() && !m.foreign {
            untold[m.line] += m.delta;
        }
    }
    for (i, line) in truth.lines.iter().enumerate() {
        let quantity = seen.levels.get(&(line.slot.to_string(), line.sku.to_string())).copied();
        // A hub need not have a line for nothing.
        if quantity.unwrap_or(0) == line.units && (quantity.is_some() || line.units == 0) {
            score.levels_right += 1;
            continue;
        }
        let explained = match line.source {
            Source::Weight => foreign[i],
            Source::Scan => quantity == Some(line.units - untold[i]),
        };
        score.levels_wrong.push(WrongLevel {
            slot: line.slot.to_string(),
            sku: line.sku.to_string(),
            truth: line.units,
            seen: quantity,
            explained,
        });
    }
}

#[derive(Debug)]
struct Real {
    from: Micros,
    at: Micros,
    delta: i64,
    matched: bool,
}

#[derive(Debug, Default)]
struct Line<'a> {
    index: Option<usize>,
    real: Vec<Real>,
    seen: Vec<&'a SeenMovement>,
}

impl Line<'_> {
    /// Removes the movement by which the line's first quantity was established.
    fn establish(&mut self, truth: &Truth) {
        let initial = self.index.and_then(|i| truth.lines.get(i)).map_or(0, |l| l.initial);
        let first_real = self.real.first().map_or(Micros::MAX, |r| r.from);
        if let Some(m) = self.seen.first()
            && m.level_after.unwrap_or(m.delta) == initial
            && m.delta != 0
            && m.at <= first_real
        {
            self.seen.remove(0);
        }
    }

    /// Matches what was seen to what happened; how many of `seen` matched.
    fn match_up(&mut self, window: Window, delays: &mut Vec<u64>) -> usize {
        let mut matched = 0;
        for SeenMovement { at, delta, .. } in &self.seen {
            let in_time = |r: &Real| *at + window.early_us >= r.at && *at <= r.at + window.late_us;
            // The shortest run that fits, and of these the nearest in time.
            let best = (1..=RUN_MAX).find_map(|len| {
                let fits = |run: &[Real]| {
                    run.iter().all(|r| !r.matched && in_time(r))
                        && run.iter().map(|r| r.delta).sum::<i64>() == *delta
                };
                let fitting = self.real.windows(len).enumerate().filter(|(_, run)| fits(run));
                let distance = |run: &[Real]| run.last().map(|r| at.abs_diff(r.at));
                fitting.min_by_key(|(_, run)| distance(run)).map(|(first, _)| (first, len))
            });
            let Some((first, len)) = best else { continue };
            matched += 1;
            let run = &mut self.real[first..first + len];
            delays.push(run.last().map_or(0, |r| at.saturating_sub(r.at)));
            run.iter_mut().for_each(|r| r.matched = true);
        }
        matched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::{Kind, Told, TrueLine, TrueMovement};

    fn truth(source: Source, moves: &[(u64, i64)]) -> Truth {
        let line = |slot: &str| TrueLine {
            slot: slot.into(),
            sku: "TEA".into(),
            source,
            initial: 10,
            units: 10,
            foreign: 0,
        };
        let mut truth = Truth { lines: vec![line("A-01")], movements: Vec::new() };
        for (s, delta) in moves {
            truth.book(movement(*s, *delta, source));
        }
        truth
    }

    fn movement(s: u64, delta: i64, source: Source) -> TrueMovement {
        let told = match source {
            Source::Weight => Told::Weighed,
            Source::Scan => Told::Sent { device: "h".into(), boot: None, seq: s },
        };
        TrueMovement {
            from: s * SECOND_US - 500_000,
            at: s * SECOND_US,
            line: 0,
            sku: "TEA".into(),
            foreign: false,
            delta,
            kind: Kind::Pick,
            told,
        }
    }

    fn seen(quantity: i64, moves: &[(f64, i64)]) -> Seen {
        let one = |(s, delta): &(f64, i64)| SeenMovement {
            slot: "A-01".into(),
            sku: "TEA".into(),
            delta: *delta,
            level_after: None,
            cause: "weight".into(),
            at: crate::clock::micros(*s),
        };
        Seen {
            levels: [(("A-01".to_owned(), "TEA".to_owned()), quantity)].into(),
            movements: moves.iter().map(one).collect(),
            discrepancies: Vec::new(),
        }
    }

    #[test]
    fn a_perfect_hub() {
        let t = truth(Source::Weight, &[(100, -2), (200, 1)]);
        let s = score(&t, &seen(9, &[(1.0, 10), (100.4, -2), (201.0, 1)]), Window::default());
        assert_eq!((s.lines, s.levels_right, s.levels_wrong.len()), (1, 1, 0));
        assert_eq!((s.precision, s.recall, s.f1), (1.0, 1.0, 1.0));
        assert_eq!((s.delay_p50_ms, s.delay_p95_ms), (400.0, 1_000.0));
    }

    #[test]
    fn misses_and_inventions() {
        let t = truth(Source::Weight, &[(100, -2), (200, 1)]);
        let s = score(&t, &seen(8, &[(100.4, -2), (150.0, -1), (300.0, 1)]), Window::default());
        assert_eq!((s.matched, s.true_movements), (1, 2));
        assert_eq!((s.seen_matched, s.seen_movements), (1, 3));
        assert!((s.precision - 1.0 / 3.0).abs() < 1e-9 && s.recall == 0.5);
        assert!((s.f1 - 0.4).abs() < 1e-9);
        assert_eq!(s.levels_unexplained(), 1);
        assert_eq!((s.levels_wrong[0].truth, s.levels_wrong[0].seen), (9, Some(8)));
    }

    #[test]
    fn two_hands_look_like_one_to_a_scale() {
        let t = truth(Source::Weight, &[(100, -2), (101, -1)]);
        let s = score(&t, &seen(7, &[(102.0, -3)]), Window::default());
        assert_eq!((s.matched, s.seen_matched, s.f1), (2, 1, 1.0));
    }

    #[test]
    fn the_same_delta_twice_needs_two_movements() {
        let t = truth(Source::Weight, &[(100, -1), (105, -1)]);
        let s = score(&t, &seen(9, &[(100.5, -1)]), Window::default());
        assert_eq!((s.matched, s.true_movements, s.levels_right), (1, 2, 0));
        let s = score(&t, &seen(8, &[(100.5, -1), (105.5, -1), (106.0, -1)]), Window::default());
        assert_eq!((s.matched, s.seen_matched, s.seen_movements), (2, 2, 3));
    }

    #[test]
    fn a_movement_seen_belongs_to_the_nearest_of_equal_ones() {
        let t = truth(Source::Weight, &[(100, -1), (120, -1)]);
        let s = score(&t, &seen(9, &[(121.0, -1)]), Window::default());
        assert_eq!((s.matched, s.delay_p95_ms), (1, 1_000.0));
    }

    #[test]
    fn counts_are_not_movements_and_a_missing_line_is_wrong() {
        let t = truth(Source::Scan, &[]);
        let mut s = seen(10, &[(3.0, 10)]);
        s.movements[0].cause = "count".into();
        assert_eq!(score(&t, &s, Window::default()).seen_movements, 0);
        s.levels.clear();
        assert_eq!(score(&t, &s, Window::default()).levels_unexplained(), 1);
    }

    #[test]
    fn what_nobody_told_explains_a_scanned_level_exactly() {
        let mut t = truth(Source::Scan, &[(100, -2)]);
        t.movements[0].told = Told::Never;
        let s = score(&t, &seen(10, &[]), Window::default());
        assert_eq!((s.never_told, s.levels_right, s.levels_unexplained()), (1, 0, 0));
        assert_eq!((s.true_movements, s.recall), (0, 1.0));
        assert_eq!(score(&t, &seen(9, &[]), Window::default()).levels_unexplained(), 1);
    }

    #[test]
    fn misplaced_goods_are_judged_as_discrepancies() {
        let mut t = truth(Source::Weight, &[]);
        let m = movement(100, 1, Source::Weight);
        t.book(TrueMovement { foreign: true, sku: "OIL".into(), kind: Kind::Misplace, ..m });
        let mut hub = seen(11, &[]);
        let s = score(&t, &hub, Window::default());
        assert_eq!((s.misplaced, s.misplaced_noticed, s.levels_unexplained()), (1, 0, 0));
        assert_eq!(s.levels_wrong.len(), 1);
        let noticed = SeenDiscrepancy { slot: "A-01".into(), at: 101 * SECOND_US, open: true };
        hub.discrepancies.push(noticed);
        let s = score(&t, &hub, Window::default());
        assert_eq!((s.misplaced_noticed, s.discrepancies_open), (1, 1));
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        assert_eq!(percentile(&[], 0.5), 0);
        assert_eq!(percentile(&[1, 2, 3, 4], 0.5), 2);
        assert_eq!(percentile(&[1, 2, 3, 4], 0.95), 4);
        assert_eq!(percentile(&[7], 0.0), 7);
    }
}
