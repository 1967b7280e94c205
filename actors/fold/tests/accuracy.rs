//! How often the count is right, with physics that shares no code with the fold.
//!
//! Each slot has its own cell: a plateau error drawn anew at each event (repositioning), sample noise, quantisation, and packs
//! that each weigh a little different. People put and take 1 to 20 units; the frames go through the default profile as bytes.
//! The event noise is the one of the sensing literature: sigma_event² = 2·sigma_s² + n·sigma_w².
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::needless_range_loop,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

mod common;

use common::{Layout, Pen, count, device, facility, sku, slot};
use fold::{Cause, EventKind, Source, State};

/// splitmix64 and Box–Muller: the test's own chance, fixed by its seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
    fn normal(&mut self, sigma: f64) -> f64 {
        sigma * (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

const UNIT_MG: f64 = 200_000.0;
const UNIT_SIGMA: f64 = 0.01;

/// Plateau noise that makes an event of `n` units as noisy as asked, in milligrams.
fn plateau_sigma(ratio: f64, n: f64) -> f64 {
    let event = ratio * UNIT_MG;
    ((event * event - n * (UNIT_SIGMA * UNIT_MG).powi(2)) / 2.0).sqrt()
}

struct Score {
    levels_right: usize,
    levels: usize,
    hits: usize,
    told: usize,
    truth: usize,
}

impl Score {
    fn f1(&self) -> f64 {
        let precision = self.hits as f64 / self.told as f64;
        let recall = self.hits as f64 / self.truth as f64;
        2.0 * precision * recall / (precision + recall)
    }
}

/// Ten events on each of so many slots.
fn shop(slots: usize, ratio: f64, seed: u64) -> Score {
    let mut chance = Chance(seed);
    let noise = plateau_sigma(ratio, 10.0);
    let layout = Layout {
        slots: 100,
        skus: 4,
        source: Source::Weight,
        unit: (UNIT_MG as i64, (UNIT_SIGMA * UNIT_MG) as i64),
        cell: (1_000, noise as i64),
    };
    let mut score = Score { levels_right: 0, levels: 0, hits: 0, told: 0, truth: 0 };
    for _ in 0..slots / layout.slots {
        let mut pen = Pen::new();
        let (mut state, _) = facility(&mut pen, &layout);
        let mut packs: Vec<Vec<f64>> = Vec::new();
        let mut seqs = vec![0u64; layout.slots];
        for at in 0..layout.slots {
            let stock = 5 + chance.below(40);
            packs.push((0..stock).map(|_| UNIT_MG + chance.normal(UNIT_SIGMA * UNIT_MG)).collect());
            count(&mut pen, &mut state, at, at % layout.skus, stock as i64);
            let movements =
                hold(&mut pen, &mut state, at, &packs[at], noise, &mut seqs, &mut chance);
            assert!(movements.is_empty(), "a count was given; the first plateau moves nothing");
        }
        for _ in 0..10 {
            for at in 0..layout.slots {
                let most = packs[at].len().min(20) as u64;
                let take = most > 0 && chance.below(3) > 0;
                let n = 1 + chance.below(if take { most } else { 20 }) as usize;
                let delta = if take { -(n as i64) } else { n as i64 };
                let noise = plateau_sigma(ratio, n as f64);
                if take {
                    for _ in 0..n {
                        let which = chance.below(packs[at].len() as u64) as usize;
                        packs[at].swap_remove(which);
                    }
                } else {
                    for _ in 0..n {
                        packs[at].push(UNIT_MG + chance.normal(UNIT_SIGMA * UNIT_MG));
                    }
                }
                let told =
                    hold(&mut pen, &mut state, at, &packs[at], noise, &mut seqs, &mut chance);
                score.truth += 1;
                score.told += told.len();
                score.hits += usize::from(told.contains(&delta));
            }
        }
        for (at, packs) in packs.iter().enumerate() {
            let level = state.level(slot(at).as_str(), &sku(at % layout.skus)).unwrap();
            score.levels += 1;
            score.levels_right += usize::from(level.quantity.0 == packs.len() as i64);
        }
    }
    score
}

/// The hand leaves, the cell rings and holds still: a few unstable frames, then ten stable ones, 10 a second.
fn hold(
    pen: &mut Pen,
    state: &mut State,
    at: usize,
    packs: &[f64],
    noise: f64,
    seqs: &mut [u64],
    chance: &mut Chance,
) -> Vec<i64> {
    let plateau = packs.iter().sum::<f64>() + chance.normal(noise);
    let mut movements = Vec::new();
    for i in 0..12 {
        pen.now += 100_000;
        seqs[at] += 1;
        let ringing = if i < 2 { chance.normal(UNIT_MG) } else { 0.0 };
        let mg = plateau + ringing + chance.normal(500.0);
        let grams = (mg / 1_000.0).round();
        let raw = format!(r#"{{"seq":{},"values":{{"g":{grams},"stable":{}}}}}"#, seqs[at], i >= 2);
        let effects = state.apply(&pen.frame(device(at), "weight", &raw));
        for movement in effects.movements {
            assert!(matches!(movement.cause, Cause::Weight | Cause::Correction));
            movements.push(movement.delta.0);
        }
    }
    movements
}

#[test]
fn levels_and_movements_are_right_at_a_tenth() {
    let score = shop(10_000, 0.10, 1);
    let right = score.levels_right as f64 / score.levels as f64;
    println!("ratio 0.10: levels right {:.4} %, F1 {:.5}", right * 100.0, score.f1());
    assert!(right >= 0.999, "{right}");
    assert!(score.f1() >= 0.999, "{}", score.f1());
}

#[test]
fn levels_are_right_at_fifteen_hundredths() {
    let score = shop(10_000, 0.15, 2);
    let right = score.levels_right as f64 / score.levels as f64;
    println!("ratio 0.15: levels right {:.4} %, F1 {:.5}", right * 100.0, score.f1());
    assert!(right >= 0.995, "{right}");
    assert!(score.f1() >= 0.995, "{}", score.f1());
}

#[test]
fn creep_is_never_a_movement() {
    let mut chance = Chance(3);
    let layout = Layout {
        slots: 1,
        skus: 1,
        source: Source::Weight,
        unit: (50_000, 200),
        cell: (1_000, 1_000),
    };
    let mut pen = Pen::new();
    let (mut state, _) = facility(&mut pen, &layout);
    count(&mut pen, &mut state, 0, 0, 12);
    let mut drift_told = false;
    // 30 days, a sample every 10 s, 20 g a day.
    for i in 0..30 * 8_640u64 {
        pen.now += 10_000_000;
        let mg = 600_000.0 + 20_000.0 * i as f64 / 8_640.0 + chance.normal(700.0);
        let grams = (mg / 1_000.0).round();
        let raw = format!(r#"{{"seq":{},"values":{{"g":{grams}}}}}"#, i + 1);
        let effects = state.apply(&pen.frame(device(0), "weight", &raw));
        assert!(effects.movements.is_empty(), "day {}: {:?}", i / 8_640, effects.movements);
        drift_told |= effects
            .events
            .iter()
            .any(|e| matches!(&e.kind, EventKind::DiscrepancyOpened(o) if o.kind == fold::discrepancy::Kind::Drift));
    }
    assert!(drift_told, "600 g of drift must be told");
    assert_eq!(state.level("slot-0", &sku(0)).unwrap().quantity.0, 12);
}

#[test]
fn misplaced_goods_open_a_discrepancy_and_close_it_when_they_leave() {
    let mut chance = Chance(4);
    let layout = Layout {
        slots: 1,
        skus: 1,
        source: Source::Weight,
        unit: (200_000, 1_000),
        cell: (1_000, 1_500),
    };
    let mut pen = Pen::new();
    let (mut state, _) = facility(&mut pen, &layout);
    count(&mut pen, &mut state, 0, 0, 5);
    let mut seqs = [0u64];
    let mut packs = vec![200_000.0; 5];
    hold(&mut pen, &mut state, 0, &packs, 1_500.0, &mut seqs, &mut chance);
    packs.push(73_000.0);
    assert!(hold(&mut pen, &mut state, 0, &packs, 1_500.0, &mut seqs, &mut chance).is_empty());
    let disputed = state.level("slot-0", &sku(0)).unwrap();
    assert_eq!(disputed.quantity.0, 5);
    assert!(disputed.confidence.probability() <= 0.5);
    // Picking goes on beside it.
    packs.remove(0);
    assert_eq!(hold(&mut pen, &mut state, 0, &packs, 1_500.0, &mut seqs, &mut chance), [-1]);
    packs.pop();
    assert!(hold(&mut pen, &mut state, 0, &packs, 1_500.0, &mut seqs, &mut chance).is_empty());
    let settled = state.level("slot-0", &sku(0)).unwrap();
    assert_eq!(settled.quantity.0, 4);
    assert!(settled.confidence.probability() > 0.99);
}
