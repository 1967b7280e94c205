//! Each rule of scoring by hand-made cases: a journey of whole seconds, and what was told of it.

use super::*;
use crate::rfid::truth::Spot::{self, Moving, Outside, Place};
use crate::rfid::truth::tests::truth;
use ToldKind::{Arrived, Departed, Moved, Returned};

/// Seconds, what, zone, and the antenna of its place.
type Event = (f64, ToldKind, &'static str, Option<u16>);

fn judged(journey: &[(Spot, i64)], told: &[Event]) -> Score {
    let truth = truth(journey);
    let tag = truth.tags[0];
    let told: Vec<Told> = told
        .iter()
        .map(|(seconds, kind, zone, antenna)| Told {
            at_us: (seconds * 1e6) as i64,
            tag,
            kind: *kind,
            zone: (*zone).to_owned(),
            place: antenna.map(|antenna| (0, antenna)),
        })
        .collect();
    score(&truth, &told, &Limits::default())
}

fn tally(happened: usize, told: usize, matched: usize, missed: usize, excused: usize) -> Tally {
    Tally { happened, told, matched, missed, excused }
}

/// Outside, on the floor, outside again; 100 s each.
const VISIT: [(Spot, i64); 3] = [(Outside, 100), (Place(0), 100), (Outside, 100)];

#[test]
fn a_stay_that_is_told_is_matched_at_both_ends() {
    let s = judged(&VISIT, &[(101.5, Arrived, "floor", Some(1)), (220.0, Departed, "floor", None)]);
    assert_eq!((s.arrivals, s.departures), (tally(1, 1, 1, 0, 0), tally(1, 1, 1, 0, 0)));
    assert_eq!((s.arrival.p50_s, s.departure.p95_s), (1.5, 20.0));
    assert_eq!((s.precision, s.recall, s.false_per_true), (1.0, 1.0, 0.0));
    // 98.5 of the 100 s at the place, and 20 s too long of 300.
    assert!((s.right_place - 0.985).abs() < 1e-9);
    assert!((s.right_zone - (300.0 - 1.5 - 20.0) / 300.0).abs() < 1e-9);
    assert_eq!(s.right_place_in_zone, 1.0);
}

#[test]
fn what_is_not_told_is_missed_and_nothing_ends_that_was_not_told() {
    let s = judged(&VISIT, &[]);
    assert_eq!((s.arrivals, s.departures), (tally(1, 0, 0, 1, 0), tally(1, 0, 0, 0, 1)));
    assert_eq!((s.recall, s.missed_stays, s.precision), (0.0, 1.0, 1.0));
    // A departure of what was told nowhere is false.
    let s = judged(&VISIT, &[(205.0, Departed, "floor", None)]);
    assert_eq!(s.departures, tally(1, 1, 0, 0, 1));
    // Told and never ended: the absence of 100 s is missed.
    let s = judged(&VISIT, &[(101.0, Arrived, "floor", None)]);
    assert_eq!(s.departures, tally(1, 0, 0, 1, 0));
}

#[test]
fn what_is_too_short_to_be_told_is_excused() {
    let brief = [(Outside, 50), (Place(0), 11), (Outside, 50)];
    assert_eq!(judged(&brief, &[]).arrivals, tally(1, 0, 0, 0, 1));
    let longer = [(Outside, 50), (Place(0), 13), (Outside, 50)];
    assert_eq!(judged(&longer, &[]).arrivals, tally(1, 0, 0, 1, 0));
    // A gap that nobody could tell: one stay for the teller, two in truth.
    let gap = [(Place(0), 100), (Outside, 29), (Place(0), 100)];
    let s = judged(&gap, &[(1.0, Arrived, "floor", None)]);
    assert_eq!((s.arrivals, s.departures), (tally(2, 1, 1, 0, 1), tally(1, 0, 0, 0, 1)));
    // A longer one should have been told; the second arrival is still told already.
    let gap = [(Place(0), 100), (Outside, 31), (Place(0), 100)];
    let s = judged(&gap, &[(1.0, Arrived, "floor", None)]);
    assert_eq!((s.arrivals, s.departures), (tally(2, 1, 1, 0, 1), tally(1, 0, 0, 1, 0)));
}

#[test]
fn an_arrival_may_come_late_but_not_too_late_nor_too_early() {
    let at = |seconds| judged(&VISIT, &[(seconds, Arrived, "floor", None)]).arrivals.matched;
    assert_eq!([at(97.0), at(98.5), at(199.0), at(229.0), at(231.0)], [0, 1, 1, 1, 0]);
    // Before it is put down the latency is none.
    assert_eq!(judged(&VISIT, &[(98.5, Arrived, "floor", None)]).arrival.p50_s, 0.0);
    // Of another zone it is false, and of a zone that is not there.
    for zone in ["till", "nowhere"] {
        assert_eq!(judged(&VISIT, &[(101.0, Arrived, zone, None)]).arrivals.matched, 0);
    }
}

#[test]
fn flapping_is_false_each_time() {
    let s = judged(
        &VISIT,
        &[
            (101.0, Arrived, "floor", None),
            (130.0, Departed, "floor", None),
            (131.0, Returned, "floor", None),
            (150.0, Departed, "floor", None),
            (152.0, Returned, "floor", None),
            (210.0, Departed, "floor", None),
        ],
    );
    assert_eq!((s.arrivals, s.departures), (tally(1, 3, 1, 0, 0), tally(1, 3, 1, 0, 0)));
    assert_eq!(s.false_per_true, 2.0);
    // Arriving where it is already is false, too.
    let s = judged(&VISIT, &[(101.0, Arrived, "floor", None), (110.0, Arrived, "floor", None)]);
    assert_eq!(s.arrivals, tally(1, 2, 1, 0, 0));
}

#[test]
fn flapping_does_not_find_an_older_stay_that_was_missed() {
    let twice = [(Place(0), 20), (Outside, 5), (Place(0), 100)];
    let s = judged(
        &twice,
        &[
            (26.0, Arrived, "floor", None),
            (30.0, Departed, "floor", None),
            (31.0, Returned, "floor", None),
        ],
    );
    // The departure at 30 is no end of the first stay, which was not told.
    assert_eq!((s.arrivals, s.departures), (tally(2, 2, 1, 1, 0), tally(1, 1, 0, 0, 1)));
}

#[test]
fn a_ghost_told_as_arrival_is_false_at_both_ends() {
    let s = judged(
        &VISIT,
        &[
            (50.0, Arrived, "floor", None),
            (80.0, Departed, "floor", None),
            (101.0, Arrived, "floor", None),
            (205.0, Departed, "floor", None),
            (250.0, Arrived, "floor", None),
            (260.0, Departed, "floor", None),
        ],
    );
    assert_eq!((s.arrivals, s.departures), (tally(1, 3, 1, 0, 0), tally(1, 3, 1, 0, 0)));
    // A ghost shortly before the true arrival: the arrival need not be told, the departure is true.
    let s = judged(&VISIT, &[(90.0, Arrived, "floor", None), (205.0, Departed, "floor", None)]);
    assert_eq!((s.arrivals, s.departures), (tally(1, 1, 0, 0, 1), tally(1, 1, 1, 0, 0)));
}

#[test]
fn a_stay_that_was_told_from_its_beginning_is_not_found_later_by_flapping() {
    let back = |departed: f64| {
        let events = [
            (90.0, Arrived, "floor", None),
            (departed, Departed, "floor", None),
            (departed + 1.0, Returned, "floor", None),
        ];
        judged(&VISIT, &events).arrivals
    };
    // A ghost before the stay is dropped soon after it began, or flaps when the stay was told long ago.
    assert_eq!(back(105.0), tally(1, 2, 1, 0, 0));
    assert_eq!(back(150.0), tally(1, 2, 0, 0, 1));
}

#[test]
fn a_stay_told_when_it_was_over_ends_rightly() {
    let brief = [(Outside, 50), (Place(0), 5), (Outside, 100)];
    let s = judged(&brief, &[(56.0, Arrived, "floor", None), (80.0, Departed, "floor", None)]);
    assert_eq!((s.arrivals, s.departures), (tally(1, 1, 1, 0, 0), tally(1, 1, 1, 0, 0)));
}

#[test]
fn a_departure_may_come_just_after_the_tag_is_back() {
    let gap = [(Place(0), 100), (Outside, 40), (Place(0), 100)];
    let told = |left| {
        let events = [
            (1.0, Arrived, "floor", None),
            (left, Departed, "floor", None),
            (left + 0.1, Returned, "floor", None),
        ];
        let s = judged(&gap, &events);
        (s.arrivals.matched, s.departures.matched)
    };
    assert_eq!(told(141.9), (2, 1));
    assert_eq!(told(143.0), (2, 0));
}

#[test]
fn moving_to_another_zone_is_leaving_and_arriving() {
    let way = [(Place(0), 100), (Moving(None), 10), (Place(1), 100), (Outside, 50)];
    let s = judged(
        &way,
        &[
            (1.0, Arrived, "floor", Some(1)),
            (113.0, Moved, "till", Some(2)),
            (215.0, Departed, "till", None),
        ],
    );
    assert_eq!((s.arrivals, s.departures), (tally(2, 2, 2, 0, 0), tally(2, 2, 2, 0, 0)));
    assert_eq!(s.moves, tally(0, 0, 0, 0, 0));
    // 3 s after it came to the till, 13 s after it left the floor.
    assert_eq!((s.arrival.p95_s, s.departure.p95_s), (3.0, 13.0));
    // 5 s too long at the till; the walk between zones is not judged.
    assert!((s.right_zone - (250.0 - 1.0 - 3.0 - 5.0) / 250.0).abs() < 1e-9);
}

#[test]
fn moves_within_a_zone_are_of_places() {
    let way = [(Place(0), 100), (Moving(Some(0)), 4), (Place(4), 100)];
    let start = (1.0, Arrived, "floor", Some(1));
    let s = judged(&way, &[start, (106.0, Moved, "floor", Some(5))]);
    assert_eq!((s.moves, s.moving.p50_s), (tally(1, 1, 1, 0, 0), 2.0));
    assert_eq!((s.arrivals, s.departures.happened), (tally(1, 1, 1, 0, 0), 0));
    // Not told: missed. Told to the wrong place, or to where it is: false.
    assert_eq!(judged(&way, &[start]).moves, tally(1, 0, 0, 1, 0));
    assert_eq!(
        judged(&way, &[start, (106.0, Moved, "floor", Some(1))]).moves,
        tally(1, 1, 0, 1, 0)
    );
    // To and fro: the first is right, the others are false.
    let s = judged(
        &way,
        &[
            start,
            (105.0, Moved, "floor", Some(5)),
            (110.0, Moved, "floor", Some(1)),
            (111.0, Moved, "floor", Some(5)),
        ],
    );
    assert_eq!(s.moves, tally(1, 3, 1, 0, 0));
    // A wrong place that is put right is false, and the time until then is wrong.
    let s = judged(
        &[(Place(0), 100)],
        &[(0.0, Arrived, "floor", Some(5)), (25.0, Moved, "floor", Some(1))],
    );
    assert_eq!((s.arrivals, s.moves), (tally(1, 1, 1, 0, 0), tally(0, 1, 0, 0, 0)));
    assert!((s.right_place - 0.75).abs() < 1e-6 && (s.right_place_in_zone - 0.75).abs() < 1e-6);
    assert!(s.right_zone > 0.999);
    // Told there already, or not at all: there is nothing to tell.
    assert_eq!(judged(&way, &[(1.0, Arrived, "floor", Some(5))]).moves, tally(1, 0, 0, 0, 1));
    assert_eq!(judged(&way, &[]).moves, tally(1, 0, 0, 0, 1));
}

/// From the floor out through the door, and in again.
const OUT_AND_IN: [(Spot, i64); 9] = [
    (Place(0), 50),
    (Moving(None), 2),
    (Place(2), 2),
    (Place(3), 3),
    (Outside, 60),
    (Place(3), 2),
    (Place(2), 2),
    (Moving(None), 2),
    (Place(0), 50),
];

#[test]
fn leaving_through_a_portal_may_be_told_from_the_line_on() {
    let start = (1.0, Arrived, "floor", None);
    let exit = |at| judged(&OUT_AND_IN, &[start, (at, Departed, "door", None)]);
    // Line at 54, gone from the antennas at 57.
    assert_eq!(exit(53.0).exits, tally(1, 0, 0, 1, 0));
    let early = exit(55.0);
    assert_eq!((early.exits, early.exit.p95_s), (tally(1, 1, 1, 0, 0), 0.0));
    assert_eq!(exit(59.5).exit.p95_s, 2.5);
    assert_eq!(exit(88.0).exits.matched, 0);
    // It was told on the floor, so that is what it left; the door's brief stay need not be told.
    assert_eq!(early.departures, tally(3, 1, 1, 0, 2));
    assert_eq!(early.departure.p50_s, 5.0);
    // Told in the door, and gone from the line on: not false, though it is still heard.
    let s = judged(
        &OUT_AND_IN,
        &[start, (53.0, Moved, "door", Some(3)), (55.0, Departed, "door", None)],
    );
    assert_eq!((s.departures.wrong(), s.exits.matched), (0, 1));
    assert!(s.right_zone > 0.5);
}

#[test]
fn coming_in_through_a_portal_is_an_entry() {
    let s =
        judged(&OUT_AND_IN, &[(120.5, Returned, "door", Some(3)), (126.0, Moved, "floor", None)]);
    // In at the outside antenna at 117, the line at 119, on the floor at 123.
    assert_eq!((s.entries, s.entry.p50_s), (tally(1, 1, 1, 0, 0), 1.5));
    assert_eq!((s.arrivals.matched, s.arrivals.wrong()), (2, 0));
    assert_eq!(judged(&OUT_AND_IN, &[]).entries, tally(1, 0, 0, 1, 0));
}

#[test]
fn what_is_paid_may_be_told_as_gone_at_the_till() {
    let sold = [
        (Place(0), 50),
        (Place(1), 10),
        (Moving(None), 2),
        (Place(2), 2),
        (Place(3), 2),
        (Outside, 60),
    ];
    let start = (1.0, Arrived, "floor", None);
    let s = judged(&sold, &[start, (52.0, Moved, "till", None), (53.0, Departed, "till", None)]);
    assert_eq!((s.departures.told, s.departures.wrong()), (2, 0));
    assert_eq!(s.exits, tally(1, 0, 0, 0, 1));
    assert!(s.right_zone > 0.9, "{}", s.right_zone);
    // Put back after all: it had not gone.
    let back = [(Place(0), 50), (Place(1), 10), (Moving(None), 2), (Place(0), 60)];
    let s = judged(&back, &[start, (52.0, Moved, "till", None), (53.0, Departed, "till", None)]);
    assert_eq!(s.departures.wrong(), 1);
}

#[test]
fn what_is_told_of_strangers_is_false() {
    let truth = truth(&VISIT);
    let told = [Arrived, Moved, Departed].map(|kind| Told {
        at_us: 0,
        tag: "AABB".parse().unwrap(),
        kind,
        zone: "floor".to_owned(),
        place: None,
    });
    let s = score(&truth, &told, &Limits::default());
    assert_eq!((s.arrivals.wrong(), s.moves.wrong(), s.departures.wrong()), (1, 1, 1));
    assert_eq!((s.precision, s.false_per_true), (0.0, 1.5));
}

#[test]
fn a_perfect_teller_has_a_perfect_score() {
    let s = judged(
        &OUT_AND_IN,
        &[
            (0.0, Arrived, "floor", Some(1)),
            (52.0, Moved, "door", Some(3)),
            (54.0, Moved, "door", Some(4)),
            (57.0, Departed, "door", None),
            (117.0, Returned, "door", Some(4)),
            (119.0, Moved, "door", Some(3)),
            (123.0, Moved, "floor", Some(1)),
        ],
    );
    assert_eq!((s.precision, s.recall, s.false_per_true, s.missed_stays), (1.0, 1.0, 0.0, 0.0));
    assert!(s.right_zone > 0.999_99 && s.right_place > 0.999_99, "{s:?}");
    assert_eq!((s.exits.matched, s.entries.matched, s.moves.matched), (1, 1, 2));
}
