//! Matching what was told with what was so, tag by tag (rules 2 to 7).

use std::collections::BTreeMap;

use super::course::{Claim, Course};
use super::{Latency, Limits, Score, Tally, Told, ToldKind};
use crate::rfid::truth::{Direction, Spot, Stay, Truth};
use crate::score::percentile;

/// Counts over all tags.
pub(super) struct Judge<'a> {
    truth: &'a Truth,
    limits: &'a Limits,
    arrivals: Side,
    departures: Side,
    moves: Side,
    exits: Side,
    entries: Side,
    time: Time,
}

/// A tally, and how late its pairs were.
#[derive(Debug, Default)]
struct Side {
    tally: Tally,
    late_us: Vec<u64>,
}

/// Tag-time, microseconds.
#[derive(Debug, Default)]
struct Time {
    judged: i64,
    right_zone: i64,
    at_places: i64,
    right_place: i64,
    in_zone: i64,
}

/// A true move: put down at another place of the same zone.
struct Move {
    zone: usize,
    place: usize,
    from_us: i64,
    to_us: i64,
    matched: bool,
}

impl Side {
    fn pair(&mut self, late_us: i64) {
        self.tally.matched += 1;
        self.late_us.push(u64::try_from(late_us).unwrap_or(0));
    }

    /// Something that happened and was not matched.
    fn untold(&mut self, excused: bool) {
        if excused {
            self.tally.excused += 1;
        } else {
            self.tally.missed += 1;
        }
    }

    fn latency(&mut self) -> Latency {
        self.late_us.sort_unstable();
        let at = |share| percentile(&self.late_us, share) as f64 / 1e6;
        Latency { p50_s: at(0.5), p95_s: at(0.95), p99_s: at(0.99) }
    }
}

impl<'a> Judge<'a> {
    pub(super) fn new(truth: &'a Truth, limits: &'a Limits) -> Self {
        Self {
            truth,
            limits,
            arrivals: Side::default(),
            departures: Side::default(),
            moves: Side::default(),
            exits: Side::default(),
            entries: Side::default(),
            time: Time::default(),
        }
    }

    /// Something told of a tag that is not there: never true.
    pub(super) fn stranger(&mut self, kind: ToldKind) {
        match kind {
            ToldKind::Arrived | ToldKind::Returned => self.arrivals.tally.told += 1,
            ToldKind::Moved => self.moves.tally.told += 1,
            ToldKind::Departed => self.departures.tally.told += 1,
        }
    }

    /// Judges what was told of one tag.
    pub(super) fn item(&mut self, item: usize, told: &[&Told]) {
        let course = Course::of(&self.truth.site, told);
        let stays = self.truth.stays(item);
        self.stays(&stays, &course);
        self.moves(item, &course);
        self.passages(item, &stays, told, &course);
        self.time(item, &stays, &course);
    }

    fn stays(&mut self, stays: &[Stay], course: &Course) {
        let Limits { arrival_us, departure_us, grace_us, early_us } = *self.limits;
        let (mut came, mut went) = (vec![false; stays.len()], vec![false; stays.len()]);
        let told_in = |zone: usize, at_us: i64| course.at(at_us).is_some_and(|at| at.zone == zone);
        // When each zone was told to be left last.
        let mut left = BTreeMap::new();
        // The stay that the tag's present presence was told for.
        let mut told_for = None;
        let last = |zone: usize, begun: &dyn Fn(&Stay) -> bool| {
            stays.iter().rposition(|stay| stay.zone == zone && begun(stay))
        };
        for (at_us, claim) in &course.claims {
            match *claim {
                Claim::Arrival { zone } => {
                    self.arrivals.tally.told += 1;
                    told_for = last(zone, &|stay| stay.from_us - early_us <= *at_us).filter(|i| {
                        let Stay { from_us, to_us, .. } = stays[*i];
                        let left_us = left.get(&zone).copied().unwrap_or(i64::MIN);
                        let settled = told_in(zone, from_us) && left_us > from_us + arrival_us;
                        !came[*i] && !settled && *at_us <= to_us + grace_us
                    });
                    if let Some(i) = told_for {
                        came[i] = true;
                        self.arrivals.pair(at_us - stays[i].from_us);
                    }
                }
                Claim::Again => self.arrivals.tally.told += 1,
                Claim::Departure { zone, since_us } => {
                    self.departures.tally.told += 1;
                    let ended = last(zone, &|stay| stay.ended && stay.gone_us <= *at_us);
                    let back = last(zone, &|stay| stay.from_us <= *at_us);
                    let matches = ended.filter(|i| {
                        let while_told = stays[*i].gone_us >= since_us || told_for == Some(*i);
                        let away =
                            back.is_none_or(|b| b <= *i || *at_us <= stays[b].from_us + early_us);
                        !went[*i] && while_told && away
                    });
                    if let Some(i) = matches {
                        went[i] = true;
                        self.departures.pair(at_us - stays[i].to_us);
                    }
                    told_for = None;
                    left.insert(zone, *at_us);
                }
                Claim::Nothing => self.departures.tally.told += 1,
                Claim::Move { .. } => {}
            }
        }
        for (i, stay) in stays.iter().enumerate() {
            self.arrivals.tally.happened += 1;
            if !came[i] {
                let short = stay.to_us - stay.from_us <= arrival_us;
                self.arrivals.untold(short || told_in(stay.zone, stay.from_us));
            }
            if stay.ended {
                self.departures.tally.happened += 1;
                if !went[i] {
                    let next = stays[i + 1..].iter().find(|next| next.zone == stay.zone);
                    let until_us = next.map_or(self.truth.end_us, |next| next.from_us);
                    let short = until_us - stay.to_us <= departure_us;
                    self.departures.untold(short || !told_in(stay.zone, stay.to_us));
                }
            }
        }
    }

    fn moves(&mut self, item: usize, course: &Course) {
        let Limits { arrival_us, grace_us, early_us, .. } = *self.limits;
        let mut moves = self.true_moves(item);
        for (at_us, claim) in &course.claims {
            let Claim::Move { zone, place } = *claim else { continue };
            self.moves.tally.told += 1;
            let last = moves.iter_mut().rfind(|m| m.zone == zone && m.from_us - early_us <= *at_us);
            if let Some(m) = last
                && !m.matched
                && place == Some(m.place)
                && *at_us <= m.to_us + grace_us
            {
                m.matched = true;
                self.moves.pair(at_us - m.from_us);
            }
        }
        for m in moves {
            self.moves.tally.happened += 1;
            if !m.matched {
                let short = m.to_us - m.from_us <= arrival_us;
                let told = course.at(m.from_us);
                // It was told there already, or not to be in the zone at all.
                let settled = told.is_none_or(|at| at.zone != m.zone || at.place == Some(m.place));
                self.moves.untold(short || settled);
            }
        }
    }

    /// Moves between places within a stay.
    fn true_moves(&self, item: usize) -> Vec<Move> {
        let mut moves = Vec::new();
        let mut before = None;
        for interval in &self.truth.journeys[item] {
            match interval.spot {
                Spot::Place(place) => {
                    let zone = self.truth.site.places[place].zone;
                    if before.is_some_and(|(z, p)| z == zone && p != place) {
                        let (from_us, to_us) = (interval.from_us, interval.to_us);
                        moves.push(Move { zone, place, from_us, to_us, matched: false });
                    }
                    before = Some((zone, place));
                }
                Spot::Moving(Some(_)) => {}
                Spot::Moving(None) | Spot::Outside => before = None,
            }
        }
        moves
    }

    fn passages(&mut self, item: usize, stays: &[Stay], told: &[&Told], course: &Course) {
        let Limits { grace_us, early_us, .. } = *self.limits;
        for passage in self.truth.passages(item) {
            let (side, kinds, from_us, since_us) = match passage.direction {
                Direction::Out => {
                    (&mut self.exits, &[ToldKind::Departed][..], passage.line_us, passage.to_us)
                }
                Direction::In => (
                    &mut self.entries,
                    &[ToldKind::Arrived, ToldKind::Returned][..],
                    passage.from_us - early_us,
                    passage.line_us,
                ),
            };
            side.tally.happened += 1;
            let in_time = |t: &&&Told| {
                kinds.contains(&t.kind) && (from_us..=passage.to_us + grace_us).contains(&t.at_us)
            };
            match told.iter().find(in_time) {
                Some(event) => {
                    side.tally.told += 1;
                    side.pair(event.at_us - since_us);
                }
                None => {
                    // What was paid may have been told as gone at the till.
                    let mut before = stays.iter().rev().filter(|s| s.to_us <= passage.from_us);
                    let sold = passage.direction == Direction::Out
                        && before.next().is_some_and(|stay| self.truth.is_till(stay.zone));
                    side.untold(sold && course.at(passage.line_us).is_none());
                }
            }
        }
    }

    fn time(&mut self, item: usize, stays: &[Stay], course: &Course) {
        for interval in &self.truth.journeys[item] {
            let mut from_us = interval.from_us;
            let first = course.steps.partition_point(|(at, _)| *at <= from_us);
            let changes = course.steps[first..].iter().map(|(at, _)| *at);
            let within = changes.take_while(|at| *at < interval.to_us);
            let gone = stays.iter().find(|s| s.from_us <= from_us && from_us < s.to_us);
            let gone_us = gone.map_or(interval.to_us, |stay| stay.gone_us);
            let mut cuts: Vec<i64> = within.collect();
            if (from_us..interval.to_us).contains(&gone_us) {
                cuts.push(gone_us);
            }
            cuts.push(interval.to_us);
            cuts.sort_unstable();
            for to_us in cuts {
                let length = to_us - from_us;
                if length > 0 {
                    // `at` looks at what was told before a moment.
                    let told = course.at(from_us + 1);
                    self.time.add(self.truth, interval.spot, told, from_us >= gone_us, length);
                }
                from_us = to_us;
            }
        }
    }

    /// The judgement.
    pub(super) fn score(mut self) -> Score {
        for side in [&mut self.arrivals, &mut self.departures, &mut self.moves] {
            debug_assert_eq!(
                side.tally.happened,
                side.tally.matched + side.tally.missed + side.tally.excused
            );
        }
        let all = [self.arrivals.tally, self.departures.tally, self.moves.tally];
        let sum = |of: fn(&Tally) -> usize| all.iter().map(of).sum::<usize>();
        let (told, matched, missed) = (sum(|t| t.told), sum(|t| t.matched), sum(|t| t.missed));
        let (happened, wrong) = (sum(|t| t.happened), sum(Tally::wrong));
        let arrivals = self.arrivals.tally;
        let share =
            |part: i64, whole: i64| if whole == 0 { 1.0 } else { part as f64 / whole as f64 };
        let ratio = |part: usize, whole: usize| share(part as i64, whole as i64);
        let time = &self.time;
        Score {
            precision: ratio(matched, told),
            recall: ratio(matched, matched + missed),
            false_per_true: if happened == 0 { wrong as f64 } else { ratio(wrong, happened) },
            missed_stays: 1.0 - ratio(arrivals.matched, arrivals.matched + arrivals.missed),
            right_zone: share(time.right_zone, time.judged),
            right_place: share(time.right_place, time.at_places),
            right_place_in_zone: share(time.right_place, time.in_zone),
            arrival: self.arrivals.latency(),
            departure: self.departures.latency(),
            moving: self.moves.latency(),
            exit: self.exits.latency(),
            entry: self.entries.latency(),
            arrivals,
            departures: self.departures.tally,
            moves: self.moves.tally,
            exits: self.exits.tally,
            entries: self.entries.tally,
        }
    }
}

impl Time {
    /// So long the tag was somewhere and told to be somewhere; `gone` = it may be told as gone already.
    fn add(
        &mut self,
        truth: &Truth,
        spot: Spot,
        told: Option<super::course::At>,
        gone: bool,
        length_us: i64,
    ) {
        if spot == Spot::Moving(None) {
            return;
        }
        let zone = truth.site.zone_of(spot);
        let right_zone = told.map(|at| at.zone) == zone || (gone && told.is_none());
        self.judged += length_us;
        self.right_zone += if right_zone { length_us } else { 0 };
        if let Spot::Place(place) = spot {
            if gone && told.is_none() {
                return;
            }
            let right_place = told.is_some_and(|at| at.place == Some(place));
            self.at_places += length_us;
            self.right_place += if right_place { length_us } else { 0 };
            self.in_zone += if right_zone { length_us } else { 0 };
        }
    }
}
