//! The proposal: a find as a profile's text, with what is sure and what is not said in comments.

use std::fmt::Write as _;

use super::{Expected, Guess, grams};
use crate::{
    modbus::{Order, Table, Type},
    profile::MassUnit,
};

/// Others that a proposal names.
const OTHERS_MAX: usize = 8;

/// Whence the registers came.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The bus, as its address is written.
    pub bus: &'a str,
    /// The unit.
    pub unit: u8,
    /// What was expected.
    pub expected: Expected,
}

/// The text of a profile that reads the first of these finds; the others are named in it. `None` without a find.
pub fn proposal(origin: Origin<'_>, guesses: &[Guess]) -> Option<String> {
    let (best, others) = guesses.split_first()?;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, origin, best, others);
    Some(text)
}

fn write(
    text: &mut String,
    origin: Origin<'_>,
    best: &Guess,
    others: &[Guess],
) -> Result<(), std::fmt::Error> {
    let (bus, unit) = (plain(origin.bus), origin.unit);
    let lay = match origin.expected {
        Expected::Known(known) => format!("{} lay on the scale", grams(known)),
        Expected::Between(min, max) => {
            format!("{} to {} lay on the scale", grams(min), grams(max))
        }
        Expected::Nothing => "nobody said what lay on the scale".to_owned(),
    };
    writeln!(
        text,
        "# Proposed by `stockfold device probe` for unit {unit} of {bus}, while {lay}."
    )?;
    writeln!(
        text,
        "# A guess from one mass. Before you rely on it compare an empty and a full scale, and lift"
    )?;
    writeln!(
        text,
        "# something off after the device was tared: a mass below zero shows whether the type is right."
    )?;
    writeln!(text, "name: probed-unit-{unit}")?;
    writeln!(text, "description: Proposed by a probe, not from a manual")?;
    writeln!(text, "codec: modbus")?;
    writeln!(text, "modbus:")?;
    let source = format!("stockfold device probe, unit {unit} of {bus}");
    // A JSON string is a YAML string.
    writeln!(text, "  source: {}", serde_json::Value::from(source))?;
    writeln!(text, "  timeout_ms: 300")?;
    writeln!(text, "  fields:")?;
    let words: Vec<String> = best.words.iter().map(|word| format!("0x{word:04X}")).collect();
    writeln!(text, "    # {} was {}.", words.join(" "), grams(best.mass))?;
    for reason in &best.reasons {
        writeln!(text, "    # {:+} {}", reason.points, plain(&reason.text))?;
    }
    writeln!(text, "    mass: {}", field(best))?;
    for (i, other) in others.iter().take(OTHERS_MAX).enumerate() {
        if i == 0 {
            writeln!(
                text,
                "    # Also possible, best first; those with {} points are as likely:",
                best.points
            )?;
        }
        let unit = unit_name(other.unit);
        writeln!(text, "    #   {} unit: {unit}, {} points", field(other), other.points)?;
    }
    writeln!(text, "streams:")?;
    writeln!(text, "  weight:")?;
    writeln!(text, "    class: stock")?;
    writeln!(text, "    dedupe: level")?;
    writeln!(text, "    poll_ms: 200")?;
    writeln!(text, "    weight:")?;
    writeln!(
        text,
        "      # No stability flag and no fault bits are known: the hub's own criterion decides when a mass holds"
    )?;
    writeln!(
        text,
        "      # still, and a broken cell is not told. Add `stable` and `faults` from the manual."
    )?;
    writeln!(text, "      settle_ms: 500")?;
    writeln!(text, "      scales:")?;
    writeln!(text, "        - {{ mass: mass, unit: {} }}", unit_name(best.unit))
}

/// A find as a field of a register map.
pub fn field(guess: &Guess) -> String {
    let table = match guess.table {
        Table::Coil => "coil",
        Table::Discrete => "discrete",
        Table::Holding => "holding",
        Table::Input => "input",
    };
    let kind = match guess.kind {
        Type::Bool => "bool",
        Type::U16 => "u16",
        Type::I16 => "i16",
        Type::U32 => "u32",
        Type::I32 => "i32",
        Type::F32 => "f32",
        Type::I64 => "i64",
        Type::F64 => "f64",
    };
    let mut text = format!("{{ table: {table}, at: {}, type: {kind}", guess.at);
    if guess.order != Order::Abcd {
        let _ = write!(text, ", order: {}", guess.order.as_str());
    }
    if guess.decimals > 0 {
        let _ = write!(text, ", decimals: {}", guess.decimals);
    }
    text.push_str(" }");
    text
}

/// A unit as a profile writes it.
pub fn unit_name(unit: MassUnit) -> &'static str {
    match unit {
        MassUnit::Milligram => "mg",
        MassUnit::Gram => "g",
        MassUnit::Kilogram => "kg",
        MassUnit::Pound => "lb",
    }
}

/// Text without what would end a comment.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        codec::decode,
        modbus::ImageWriter,
        probe::{Words, search},
        profile::Profile,
        reading::Measurement,
        units::Milligrams,
    };

    proptest! {
        /// A proposal is a sound profile, and reads what it was found in as what it was found to be.
        #[test]
        fn a_proposal_reads_what_it_was_made_of(
            words in prop::collection::vec(any::<u16>(), 2..12), mg in 20_000i64..50_000_000,
            bus in "[ -~\n]{0,40}", range in any::<bool>(),
        ) {
            let held: Words = (40u16..).zip(&words).map(|(at, w)| ((Table::Input, at), *w)).collect();
            let expected = if range {
                Expected::Between(Milligrams(1), Milligrams(mg))
            } else {
                Expected::Known(Milligrams(mg))
            };
            let found = search(&[held], expected);
            let Some(text) = proposal(Origin { bus: &bus, unit: 7, expected }, &found) else {
                return Ok(());
            };
            let profile = Profile::parse(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            let request = profile.streams["weight"].poll.as_ref().unwrap().requests[0];
            let mut image = ImageWriter::default();
            image.words(request.table, request.start, &found[0].words);
            let reading = decode(&profile, "weight", &image.finish()).unwrap();
            let Measurement::Weight { mass, .. } = reading.measurements[0] else { panic!() };
            prop_assert_eq!(mass, found[0].mass);
        }
    }
}
