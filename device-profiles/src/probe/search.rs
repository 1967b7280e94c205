//! The search: where in the registers of an unknown device is its mass?
//!
//! Every register, and every pair of neighbours, is read as every type in every order, in every unit and with every decimal
//! place that a scale uses, and kept when it shows in all rounds what lies there. Many numbers do by chance, so a find has
//! points for how little chance could have made it: a floating-point number that is the weight is hardly chance, sixteen bits
//! often are. The same registers may be read in two ways that agree (a signed and an unsigned number, a zero word before or
//! after): these have equal points, and are told as equal.

use std::collections::BTreeMap;

use super::{Expected, Reason, grams};
use crate::{
    modbus::{Field, Image, ImageWriter, Order, Table, Type, field::Decimals},
    profile::MassUnit,
    units::Milligrams,
};

/// Finds that are told.
pub const GUESSES_MAX: usize = 20;
/// What lies there must be so many counts of a number, or that it fits is chance.
const COUNTS_MIN: f64 = 100.0;

/// Registers as they were read, by table and address.
pub type Words = BTreeMap<(Table, u16), u16>;

/// A place where the mass may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Guess {
    /// Its table.
    pub table: Table,
    /// Its first address on the wire.
    pub at: u16,
    /// Its type.
    pub kind: Type,
    /// Its byte order.
    pub order: Order,
    /// Its unit.
    pub unit: MassUnit,
    /// Its decimal places.
    pub decimals: u32,
    /// The mass it shows.
    pub mass: Milligrams,
    /// The registers as they are.
    pub words: Vec<u16>,
    /// Sum of the reasons.
    pub points: i32,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Types a mass has, the likeliest first: of equal finds the first is proposed.
const KINDS: [Type; 5] = [Type::F32, Type::I32, Type::U32, Type::I16, Type::U16];

/// Units and decimals of a whole number, no two of which are the same mass, the likeliest first.
const COUNTS: [(MassUnit, u32); 11] = [
    (MassUnit::Gram, 0),
    (MassUnit::Gram, 1),
    (MassUnit::Kilogram, 2),
    (MassUnit::Gram, 2),
    (MassUnit::Kilogram, 1),
    (MassUnit::Kilogram, 0),
    (MassUnit::Milligram, 0),
    (MassUnit::Pound, 3),
    (MassUnit::Pound, 2),
    (MassUnit::Pound, 1),
    (MassUnit::Pound, 0),
];

/// Units of a floating-point number, which has its own decimal point.
const FLOATS: [(MassUnit, u32); 3] =
    [(MassUnit::Gram, 0), (MassUnit::Kilogram, 0), (MassUnit::Pound, 0)];

/// Looks for what is expected in all rounds; best first, at most [`GUESSES_MAX`]. Finds nothing when nothing is expected:
/// any number could be a mass.
pub fn search(rounds: &[Words], expected: Expected) -> Vec<Guess> {
    let Some(first) = rounds.first().filter(|_| expected != Expected::Nothing) else {
        return Vec::new();
    };
    let mut found: Vec<(usize, Guess)> = Vec::new();
    for (table, at) in first.keys().copied() {
        for kind in KINDS {
            for order in orders(kind) {
                for (unit, decimals) in if kind.is_float() { &FLOATS[..] } else { &COUNTS[..] } {
                    let guess = Guess {
                        table,
                        at,
                        kind,
                        order: *order,
                        unit: *unit,
                        decimals: *decimals,
                        mass: Milligrams::ZERO,
                        words: Vec::new(),
                        points: 0,
                        reasons: Vec::new(),
                    };
                    found.extend(guess.weigh(rounds, expected).map(|guess| (found.len(), guess)));
                }
            }
        }
    }
    // What was tried first is likelier.
    found.sort_by_key(|(tried, guess)| {
        let of_kind = KINDS.iter().position(|kind| *kind == guess.kind);
        (std::cmp::Reverse(guess.points), of_kind, guess.order as u8, *tried)
    });
    found.into_iter().take(GUESSES_MAX).map(|(_, guess)| guess).collect()
}

/// How many of the finds share the first place.
pub fn equals(guesses: &[Guess]) -> usize {
    let best = guesses.first().map(|guess| guess.points);
    guesses.iter().take_while(|guess| Some(guess.points) == best).count()
}

fn orders(kind: Type) -> &'static [Order] {
    match kind.registers() {
        // One register has only its bytes to swap.
        1 => &[Order::Abcd, Order::Badc],
        _ => &Order::ALL,
    }
}

impl Guess {
    /// The mass in one round, and the registers it is made of.
    fn mass_in(&self, words: &Words) -> Option<(f64, Vec<u16>)> {
        let registers: Vec<u16> = (0..self.kind.registers())
            .map(|i| words.get(&(self.table, self.at.checked_add(i)?)).copied())
            .collect::<Option<_>>()?;
        // Read by the very code that would read it by a profile.
        let mut image = ImageWriter::default();
        image.words(self.table, self.at, &registers);
        let image = image.finish();
        let value = self.field().value("", &BTreeMap::new(), &Image::parse(&image).ok()?).ok()?;
        Some((value * self.unit.milligrams(), registers))
    }

    fn field(&self) -> Field {
        Field {
            table: self.table,
            at: self.at,
            kind: self.kind,
            order: self.order,
            mask: None,
            scale: 1.0,
            offset: 0.0,
            negative_if: None,
            decimals: Decimals::Fixed(self.decimals),
            invalid: Vec::new(),
        }
    }

    /// One count of a whole number, milligrams.
    fn count_mg(&self) -> f64 {
        self.unit.milligrams() / 10_f64.powi(self.decimals.cast_signed())
    }

    fn weigh(mut self, rounds: &[Words], expected: Expected) -> Option<Self> {
        let mut masses = Vec::with_capacity(rounds.len());
        for words in rounds {
            let (mg, registers) = self.mass_in(words)?;
            let mass = Milligrams(mg.round() as i64);
            if mass == Milligrams::ZERO || !expected.allows(mass) {
                return None;
            }
            masses.push(mg);
            self.words = registers;
            self.mass = mass;
        }
        let mg = *masses.last()?;
        if !self.kind.is_float() && mg.abs() / self.count_mg() < COUNTS_MIN {
            return None;
        }
        self.nearness(mg, expected);
        self.chance();
        if self.unit == MassUnit::Pound {
            self.add(-1, "pounds are rare");
        }
        if masses.iter().all(|other| (other - mg).abs() <= mg.abs() / 1_000.0) {
            self.add(1, "it holds still from read to read");
        }
        Some(self)
    }

    fn add(&mut self, points: i32, text: impl Into<String>) {
        self.points += points;
        self.reasons.push(Reason { points, text: text.into() });
    }

    fn nearness(&mut self, mg: f64, expected: Expected) {
        let Expected::Known(known) = expected else {
            self.add(0, "it lies in the range, as many numbers do");
            return;
        };
        let off = (mg - known.0 as f64).abs() / (known.0 as f64).abs().max(1.0);
        let points = match off {
            _ if off <= 0.001 => 3,
            _ if off <= 0.005 => 2,
            _ => 1,
        };
        let text = format!("it is {:.2} % off the {} that lie there", off * 100.0, grams(known));
        self.add(points, text);
    }

    /// How little chance could have made it.
    fn chance(&mut self) {
        let high = match self.order {
            Order::Abcd | Order::Badc => self.words.first(),
            Order::Cdab | Order::Dcba => self.words.last(),
        };
        match self.kind {
            Type::F32 | Type::F64 => {
                self.add(4, "a floating-point number is hardly a mass by chance");
            }
            Type::I32 | Type::U32 | Type::I64 if high.is_some_and(|word| *word != 0) => {
                self.add(3, "all its 32 bits agree");
            }
            Type::I32 | Type::U32 | Type::I64 => self.add(1, "16 of its bits agree, 16 are 0"),
            Type::I16 | Type::U16 | Type::Bool => self.add(0, "16 bits may agree by chance"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Registers that hold `bits` in an order, among others.
    fn holding(at: u16, bits: u32, order: Order, others: &[u16]) -> Words {
        let mut words: Words =
            (0u16..).zip(others).map(|(i, word)| ((Table::Holding, i), *word)).collect();
        let [a, b, c, d] = bits.to_be_bytes();
        let pair = match order {
            Order::Abcd => [[a, b], [c, d]],
            Order::Cdab => [[c, d], [a, b]],
            Order::Badc => [[b, a], [d, c]],
            Order::Dcba => [[d, c], [b, a]],
        };
        for (i, bytes) in (at..).zip(pair) {
            words.insert((Table::Holding, i), u16::from_be_bytes(bytes));
        }
        words
    }

    #[test]
    fn a_word_swapped_float_is_found() {
        let words = holding(12, 1234.5_f32.to_bits(), Order::Cdab, &[0, 7, 0x0800, 1234, 99]);
        let found = search(&vec![words; 3], Expected::Known(Milligrams(1_234_500)));
        let best = &found[0];
        assert_eq!((best.at, best.kind, best.order), (12, Type::F32, Order::Cdab));
        assert_eq!((best.unit, best.mass), (MassUnit::Gram, Milligrams(1_234_500)));
        assert_eq!(equals(&found), 1);
    }

    #[test]
    fn what_cannot_be_told_apart_is_told_as_equal() {
        let words = holding(7, 1_500, Order::Abcd, &[0; 16]);
        let found = search(&[words.clone(), words], Expected::Known(Milligrams(1_500_000)));
        assert_eq!((found[0].at, found[0].kind, found[0].order), (7, Type::I32, Order::Abcd));
        let equal: Vec<(u16, Type)> =
            found[..equals(&found)].iter().map(|g| (g.at, g.kind)).collect();
        assert!(equal.contains(&(7, Type::U32)), "signed or not: {equal:?}");
        assert!(equal.contains(&(8, Type::I32)), "the zero before or after: {equal:?}");
    }

    #[test]
    fn without_an_expectation_nothing_is_found() {
        let words = holding(0, 1_500, Order::Abcd, &[]);
        assert!(search(&[words], Expected::Nothing).is_empty());
        assert!(search(&[], Expected::Known(Milligrams(1))).is_empty());
    }

    #[test]
    fn a_number_that_does_not_stay_is_none() {
        let known = Expected::Known(Milligrams(1_500_000));
        let (still, moved) =
            (holding(0, 1_500, Order::Abcd, &[]), holding(0, 2_500, Order::Abcd, &[]));
        assert!(search(&[still, moved], known).is_empty());
    }

    proptest! {
        /// Whatever the device holds beside it, a float of the weight is never beaten by another reading of other registers.
        #[test]
        fn a_float_of_the_weight_wins_in_any_order(
            grams in 50.0_f32..30_000.0, order in 0usize..4, at in 0u16..40,
            others in prop::collection::vec(any::<u16>(), 0..48),
        ) {
            let order = Order::ALL[order];
            let words = holding(at, grams.to_bits(), order, &others);
            let mg = (f64::from(grams) * 1_000.0).round() as i64;
            let found = search(&vec![words; 2], Expected::Known(Milligrams(mg)));
            let best = equals(&found);
            prop_assert!(
                found[..best].iter().any(|g| g.at == at && g.kind == Type::F32 && g.order == order),
                "{:?}", found.first()
            );
        }

        /// Total over any registers.
        #[test]
        fn any_registers_are_searched(words in prop::collection::vec(any::<u16>(), 0..24), mg in any::<i64>()) {
            let words: Words = (65_520u16..=65_535).zip(words).map(|(at, w)| ((Table::Input, at), w)).collect();
            let found = search(&[words], Expected::Known(Milligrams(mg)));
            prop_assert!(found.len() <= GUESSES_MAX);
            prop_assert!(found.windows(2).all(|pair| pair[0].points >= pair[1].points));
        }
    }
}
