//! Is a tag in a zone? A filter that weighs every read and every silence.
//!
//! Time is cut into epochs of [`EPOCH_US`], counted only while the antenna listens. In an epoch a tag is absent, visible (an
//! antenna reads it with a rate nobody told us, one of [`RATES`]) or faded (there, but behind something: a hand, a can, a
//! passing cart). The filter keeps the probability of each of these 13 states:
//!
//! ```text
//!   absent ──arrives──► visible × 6 rates ◄──► faded × 6 rates        each epoch: one step of these changes,
//!      ◄──────────────── leaves ────────────────┘                     then the evidence of a read or of none
//! ```
//!
//! A window ("gone after 30 s without a read") must be short to be fast and long to bridge a fade; the filter learns the tag's
//! own rate from its reads, starts from the rates its antenna is used to ([`Rules::of`]), and knows both: a tag that was read
//! twice a second is missed soon, one that is read now and then is given time. One stray read is no arrival, because a stray read has two marks: it is weaker than the antenna's own tags
//! and it comes alone ([`weight_of`]).
//!
//! Nothing is done for a silent tag: any number of silent epochs is a power of one matrix, multiplied when the tag is looked
//! at again. Only + − × ÷ are used, so every machine computes the same bits. Parameters and figures: `docs/specs/rfid.md`.

use serde::{Deserialize, Serialize};

use super::zone::Mobility;

/// Length of an epoch, in microseconds.
pub const EPOCH_US: i64 = 500_000;
/// Read rates a tag may have, per epoch.
pub const RATES: [f64; 6] = [0.1, 0.2, 0.4, 0.6, 0.8, 0.95];
/// States of the filter.
const STATES: usize = 1 + 2 * RATES.len();
/// Powers of two of silent epochs that are kept ready; more epochs than their sum change nothing any more.
const POWERS: usize = 12;
/// How readily a tag's rate changes, per epoch.
const RATE_CHANGES: f64 = 0.02;
/// Chance of a read of a faded tag, per epoch.
const FADED_READ: f64 = 0.02;
/// How likely an absent tag that is read has arrived. Silence makes no tag likelier, so arrivals count with a read only.
const ARRIVES: f64 = 0.024;

type Row = [f64; STATES];
type Matrix = [Row; STATES];

/// How rates are spread where tags are read with about the rate of this line, and (last) where nothing is known. Each is a
/// bell of width 0.15 around the rate on a floor of 0.05.
const SPREAD: [[f64; 6]; 7] = [
    [0.469, 0.380, 0.083, 0.024, 0.022, 0.022],
    [0.335, 0.413, 0.181, 0.031, 0.020, 0.020],
    [0.081, 0.202, 0.459, 0.202, 0.034, 0.022],
    [0.024, 0.035, 0.208, 0.473, 0.208, 0.052],
    [0.021, 0.021, 0.033, 0.197, 0.447, 0.280],
    [0.025, 0.025, 0.026, 0.059, 0.333, 0.532],
    [1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0],
];

/// The filter's rules under one mobility, for each kind of antenna.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RuleBook(Vec<Rules>);

impl RuleBook {
    /// The rules of a mobility.
    pub fn of(mobility: &Mobility) -> Self {
        Self(SPREAD.iter().map(|spread| Rules::of(mobility, spread)).collect())
    }

    /// The rules for antennas that read their tags with about this rate; `None` = nothing is known.
    pub fn at(&self, rate: Option<f64>) -> &Rules {
        let near = |rate: f64| {
            let far = |line: &f64| if *line > rate { line - rate } else { rate - line };
            RATES.iter().enumerate().min_by(|(_, a), (_, b)| far(a).total_cmp(&far(b)))
        };
        let line = rate.and_then(near).map_or(RATES.len(), |(line, _)| line);
        self.0.get(line).unwrap_or(&self.0[0])
    }
}

/// The filter's rules, with its powers of silence.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    step: Matrix,
    silence: Vec<Matrix>,
    /// Chance of a read of an absent tag, per epoch.
    pub ghost: f64,
    /// Absent from here on.
    pub depart: f64,
}

impl Rules {
    /// The rules of a mobility, where rates are spread so.
    fn of(mobility: &Mobility, spread: &[f64; 6]) -> Self {
        let share = |value: u32, of: f64| f64::from(value) / of;
        let ghost = share(mobility.ghost_ppm, 1_000_000.0);
        let leaves = (EPOCH_US as f64 / 1_000_000.0) / f64::from(mobility.stay_s.max(1));
        let fade = share(mobility.fade_permille, 1_000.0);
        let unfade = 1.0 / f64::from(mobility.fade_epochs.max(1));
        let leaves = leaves.min(0.5);
        let mut quiet = step(leaves, fade, unfade, spread, 0.0);
        let step = step(leaves, fade, unfade, spread, ARRIVES);
        for (to, row) in quiet.iter_mut().enumerate() {
            let miss = 1.0 - read_chance(to, ghost);
            for cell in row {
                *cell *= miss;
            }
        }
        let mut silence = Vec::with_capacity(POWERS);
        silence.push(quiet);
        for _ in 1..POWERS {
            quiet = scaled(&product(&quiet, &quiet));
            silence.push(quiet);
        }
        Self { step, silence, ghost, depart: share(mobility.depart_permille, 1_000.0) }
    }
}

/// Chance of a read in an epoch, by state.
fn read_chance(state: usize, ghost: f64) -> f64 {
    if state == 0 {
        return ghost;
    }
    RATES.get(state - 1).copied().unwrap_or(FADED_READ)
}

/// Chances of going from one state (column) to another (row) in an epoch.
fn step(leaves: f64, fade: f64, unfade: f64, spread: &[f64; 6], arrives: f64) -> Matrix {
    let rates = RATES.len();
    let mut matrix = [[0.0; STATES]; STATES];
    matrix[0][0] = 1.0 - arrives;
    for to in 0..rates {
        matrix[1 + to][0] = arrives * spread[to];
        matrix[0][1 + to] = leaves;
        matrix[0][1 + rates + to] = leaves;
        for from in 0..rates {
            let keeps = if from == to { 1.0 - RATE_CHANGES } else { 0.0 };
            let rate = (1.0 - leaves) * (keeps + RATE_CHANGES * spread[to]);
            matrix[1 + to][1 + from] = rate * (1.0 - fade);
            matrix[1 + rates + to][1 + from] = rate * fade;
            matrix[1 + to][1 + rates + from] = rate * unfade;
            matrix[1 + rates + to][1 + rates + from] = rate * (1.0 - unfade);
        }
    }
    matrix
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let mut out = [[0.0; STATES]; STATES];
    for (row, left) in out.iter_mut().zip(a) {
        for (factor, right) in left.iter().zip(b) {
            for (cell, value) in row.iter_mut().zip(right) {
                *cell += factor * value;
            }
        }
    }
    out
}

/// Any multiple of a matrix of silence says the same, because the filter is normalised after it; this keeps it in range.
fn scaled(matrix: &Matrix) -> Matrix {
    let most = matrix.iter().flatten().fold(0.0_f64, |most, cell| most.max(*cell));
    let mut out = *matrix;
    for cell in out.iter_mut().flatten() {
        *cell /= most;
    }
    out
}

fn apply(matrix: &Matrix, state: &Row) -> Row {
    let mut out = [0.0; STATES];
    for (cell, row) in out.iter_mut().zip(matrix) {
        for (chance, from) in row.iter().zip(state) {
            *cell += chance * from;
        }
    }
    out
}

/// What is believed of one tag in one zone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Presence([f32; STATES]);

impl Presence {
    /// A tag that was never heard here.
    pub fn absent() -> Self {
        let mut states = [0.0; STATES];
        states[0] = 1.0;
        Self(states)
    }

    /// Probability that it is there.
    pub fn probability(&self) -> f64 {
        1.0 - f64::from(self.0[0])
    }

    fn row(&self) -> Row {
        self.0.map(f64::from)
    }

    fn set(&mut self, row: &Row) {
        let sum: f64 = row.iter().sum();
        // A sum of nothing cannot come of the matrices above; a filter that says nothing knows nothing.
        *self =
            if sum > 0.0 { Self(row.map(|state| (state / sum) as f32)) } else { Self::absent() };
    }

    /// So many epochs without a read.
    pub fn silence(&mut self, rules: &Rules, epochs: u32) {
        if epochs == 0 {
            return;
        }
        self.set(&silent(&self.row(), rules, epochs));
    }

    /// One epoch with reads of this weight; see [`weight_of`].
    pub fn read(&mut self, rules: &Rules, weight: f64) {
        let mut row = apply(&rules.step, &self.row());
        for (state, cell) in row.iter_mut().enumerate() {
            *cell *= read_chance(state, rules.ghost);
        }
        row[0] /= weight;
        self.set(&row);
    }

    /// The epoch of the last read gave more evidence than was known: its weight was one thing and is another.
    pub fn weigh_again(&mut self, was: f64, is: f64) {
        let mut row = self.row();
        row[0] *= was / is;
        self.set(&row);
    }

    /// After how many silent epochs it falls to a probability, 1 at least; `None` if not within what is kept ready.
    pub fn epochs_until(&self, rules: &Rules, below: f64) -> Option<u32> {
        let mut row = self.row();
        let mut epochs = 0;
        for (power, matrix) in rules.silence.iter().enumerate().rev() {
            let next = apply(matrix, &row);
            let sum: f64 = next.iter().sum();
            if 1.0 - next[0] / sum > below {
                row = next.map(|state| state / sum);
                epochs += 1_u32 << power;
            }
        }
        (epochs < (1 << POWERS) - 1).then_some(epochs + 1)
    }
}

fn silent(row: &Row, rules: &Rules, epochs: u32) -> Row {
    let epochs = epochs.min((1 << POWERS) - 1);
    let mut row = *row;
    for (power, matrix) in rules.silence.iter().enumerate() {
        if epochs & (1 << power) != 0 {
            row = apply(matrix, &row);
            let sum: f64 = row.iter().sum();
            if sum > 0.0 {
                row = row.map(|state| state / sum);
            }
        }
    }
    row
}

/// How much likelier a signal so many dB above an antenna's usual one comes of a tag that is there than of a stray read;
/// between the lines it is interpolated.
const BY_SIGNAL: [(f64, f64); 8] = [
    (-18.0, 0.02),
    (-12.0, 0.04),
    (-9.0, 0.13),
    (-6.0, 0.6),
    (-3.0, 3.0),
    (0.0, 10.0),
    (3.0, 18.0),
    (6.0, 24.0),
];

/// Least and greatest weight of an epoch's reads. Only several strong reads in one epoch are an arrival by themselves.
const WEIGHTS: (f64, f64) = (0.02, 60.0);

/// The weight of an epoch's reads against the stray read: by the strongest signal above what the antenna is used to, in dB,
/// and by how often the tag answered. A stray read is weak, and mostly alone.
pub(crate) fn weight_of(above_db: Option<f64>, reads: u32) -> f64 {
    let by_signal = above_db.map_or(1.0, |above| {
        let (mut low, mut value) = BY_SIGNAL[0];
        if above <= low {
            return value;
        }
        for (high, next) in BY_SIGNAL {
            if above < high {
                return value + (next - value) * (above - low) / (high - low);
            }
            (low, value) = (high, next);
        }
        value
    });
    let by_count = match reads {
        0 | 1 => 0.6,
        2 => 1.8,
        3 => 4.0,
        _ => 8.0,
    };
    (by_signal * by_count).clamp(WEIGHTS.0, WEIGHTS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        RuleBook::of(&Mobility::default()).at(None).clone()
    }

    #[test]
    fn silence_at_once_is_silence_one_by_one() {
        let rules = rules();
        let mut presence = Presence::absent();
        for weight in [6.0, 1.0, 12.0] {
            presence.read(&rules, weight);
        }
        let (mut at_once, mut one_by_one) = (presence, presence);
        at_once.silence(&rules, 37);
        (0..37).for_each(|_| one_by_one.silence(&rules, 1));
        assert!((at_once.probability() - one_by_one.probability()).abs() < 1e-4);
    }

    #[test]
    fn the_moment_of_departure_is_foretold() {
        let rules = rules();
        let mut presence = Presence::absent();
        (0..20).for_each(|_| presence.read(&rules, 6.0));
        let epochs = presence.epochs_until(&rules, rules.depart).unwrap();
        let (mut before, mut after) = (presence, presence);
        before.silence(&rules, epochs - 1);
        after.silence(&rules, epochs);
        assert!(before.probability() > rules.depart, "{}", before.probability());
        assert!(after.probability() <= rules.depart + 1e-6, "{}", after.probability());
        // A tag read in every epoch is missed within 20 s; one that was heard now and then is given longer.
        assert!((10..=40).contains(&epochs), "{epochs}");
        let book = RuleBook::of(&Mobility::default());
        let used = presence.epochs_until(book.at(Some(0.9)), rules.depart).unwrap();
        assert!(used <= epochs, "{used} where tags are read often, else {epochs}");
        let mut faint = Presence::absent();
        for epoch in 0..60 {
            if epoch % 10 == 0 { faint.read(&rules, 6.0) } else { faint.silence(&rules, 1) }
        }
        assert!(faint.epochs_until(&rules, rules.depart).unwrap() > epochs);
    }

    #[test]
    fn one_stray_read_is_no_arrival_and_two_strong_ones_are() {
        let rules = rules();
        let mut presence = Presence::absent();
        presence.read(&rules, weight_of(Some(-10.0), 1));
        assert!(presence.probability() < 0.3, "{}", presence.probability());
        let mut presence = Presence::absent();
        presence.read(&rules, weight_of(Some(0.0), 1));
        presence.silence(&rules, 3);
        assert!(presence.probability() < 0.95);
        presence.read(&rules, weight_of(Some(0.0), 1));
        assert!(presence.probability() > 0.95, "{}", presence.probability());
    }

    #[test]
    fn evidence_that_comes_late_in_an_epoch_weighs_the_same() {
        let rules = rules();
        let (mut late, mut at_once) = (Presence::absent(), Presence::absent());
        late.read(&rules, weight_of(Some(-9.0), 1));
        late.weigh_again(weight_of(Some(-9.0), 1), weight_of(Some(2.0), 3));
        at_once.read(&rules, weight_of(Some(2.0), 3));
        assert!((late.probability() - at_once.probability()).abs() < 1e-6);
    }

    #[test]
    fn weights_grow_with_signal_and_count() {
        let mut last = 0.0;
        for above in -30..30 {
            let weight = weight_of(Some(f64::from(above)), 1);
            assert!(weight >= last);
            last = weight;
        }
        assert!((0..4).all(|n| weight_of(None, n) <= weight_of(None, n + 1)));
    }
}
