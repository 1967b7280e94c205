//! The report: what was found, for people and for programs.

use std::fmt::Write as _;

use device_profiles::{
    modbus::Table,
    probe::{
        Expected, Guess, Judgement, Verdict, equals,
        proposal::{field, unit_name},
    },
};
use serde_json::{Value, json};

use super::{Line, args::ProbeArgs, scan::Found};

/// Finds of a search that are shown; the rest is counted.
const SHOWN_MAX: usize = 6;

/// For people.
pub fn text(lines: &[Line], args: &ProbeArgs) -> String {
    let mut out = String::new();
    for line in lines {
        // Writing to a string cannot fail.
        let _ = line_text(&mut out, line, args);
    }
    out
}

fn line_text(out: &mut String, line: &Line, args: &ProbeArgs) -> std::fmt::Result {
    writeln!(out, "{}", line.address)?;
    for (unit, found) in &line.found {
        match found {
            Found::Silent | Found::Refuses(_) => {}
            Found::Garbled(error) => {
                writeln!(out, "\nUnit {unit} is not understood: {error}.")?;
                writeln!(
                    out,
                    "  Two devices with one address do this, another master on the line, or a wrong speed or parity. Leave one device on the line and try again."
                )?;
            }
            Found::Answers { candidates, equal, guesses, searched } => {
                writeln!(out, "\nUnit {unit} answers.")?;
                candidates_text(out, candidates, *equal)?;
                let known = candidates.first().is_some_and(|best| best.verdict == Verdict::Fits);
                if !known {
                    search_text(out, args.expected(), guesses, *searched)?;
                }
            }
        }
    }
    let of = |wanted: fn(&Found) -> Option<String>| -> Vec<(u8, String)> {
        line.found.iter().filter_map(|(unit, f)| Some((*unit, wanted(f)?))).collect()
    };
    let refusing = of(|found| match found {
        Found::Refuses(error) => Some(error.to_string()),
        Found::Silent | Found::Garbled(_) | Found::Answers { .. } => None,
    });
    for (units, why) in grouped(&refusing) {
        writeln!(out, "\n{units}: nothing but refusals; {why}.")?;
        writeln!(
            out,
            "  A gateway says so of units that are not there; a device that starts up says so for a while."
        )?;
    }
    let silent = of(|found| found.is_nobody().then(String::new));
    for (units, _) in grouped(&silent) {
        writeln!(out, "\n{units}: no answer.")?;
    }
    if silent.len() == line.found.len() {
        writeln!(
            out,
            "  Nobody is there. Check power, wiring (A and B swapped?), speed and parity (--baud, --parity), the units (--units), and whether devices need longer (--timeout-ms)."
        )?;
    }
    Ok(())
}

/// Units with the same thing said of them, as `Units 1-3, 7`.
fn grouped(of: &[(u8, String)]) -> Vec<(String, String)> {
    let mut groups: Vec<(Vec<u8>, &String)> = Vec::new();
    for (unit, said) in of {
        match groups.iter_mut().find(|(_, known)| *known == said) {
            Some((units, _)) => units.push(*unit),
            None => groups.push((vec![*unit], said)),
        }
    }
    let name = |units: &[u8]| {
        let word = if units.len() == 1 { "Unit" } else { "Units" };
        format!("{word} {}", ranges(units))
    };
    groups.into_iter().map(|(units, said)| (name(&units), said.clone())).collect()
}

fn ranges(units: &[u8]) -> String {
    let mut runs: Vec<(u8, u8)> = Vec::new();
    for unit in units {
        match runs.last_mut() {
            Some((_, to)) if to.checked_add(1) == Some(*unit) => *to = *unit,
            Some(_) | None => runs.push((*unit, *unit)),
        }
    }
    let run = |(from, to): &(u8, u8)| {
        if from == to { from.to_string() } else { format!("{from}-{to}") }
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

fn candidates_text(out: &mut String, candidates: &[Judgement], equal: usize) -> std::fmt::Result {
    let fit = candidates.iter().filter(|c| c.verdict != Verdict::Unfit);
    for candidate in fit {
        let Judgement { profile, verdict, points, reasons, .. } = candidate;
        writeln!(out, "  {:<24} {:<9} {points:+} points", profile.as_str(), verdict.as_str())?;
        for reason in reasons {
            writeln!(out, "      {:>+3}  {}", reason.points, reason.text)?;
        }
    }
    if equal > 1 && candidates.first().is_some_and(|best| best.verdict != Verdict::Unfit) {
        let names: Vec<&str> = candidates.iter().take(equal).map(|c| c.profile.as_str()).collect();
        writeln!(
            out,
            "  As much speaks for each of {}: nothing that was read decides. Look at the device's plate, or put a known weight on it and name it with --expect-grams.",
            names.join(", ")
        )?;
    }
    let unfit: Vec<String> = candidates
        .iter()
        .filter(|c| c.verdict == Verdict::Unfit)
        .map(|c| match c.reasons.first() {
            Some(reason) => format!("{} ({})", c.profile, reason.text),
            None => c.profile.to_string(),
        })
        .collect();
    if !unfit.is_empty() {
        writeln!(out, "  Not it: {}.", unfit.join("; "))?;
    }
    Ok(())
}

fn search_text(
    out: &mut String,
    expected: Expected,
    guesses: &[Guess],
    searched: usize,
) -> std::fmt::Result {
    if expected == Expected::Nothing {
        return writeln!(
            out,
            "  No profile fits. Put a known weight on the scale and name it with --expect-grams: then its registers are searched for it."
        );
    }
    let Some(best) = guesses.first() else {
        return writeln!(
            out,
            "  No profile fits, and in {searched} registers nothing shows what lies on the scale. Widen --registers, or look for its register map in the manual."
        );
    };
    writeln!(
        out,
        "  No profile fits. In {searched} registers the mass may be at (addresses on the wire):"
    )?;
    for guess in guesses.iter().take(SHOWN_MAX) {
        let words: Vec<String> = guess.words.iter().map(|word| format!("{word:04x}")).collect();
        writeln!(
            out,
            "    {:+} points  {} unit: {}   ({})",
            guess.points,
            field(guess),
            unit_name(guess.unit),
            words.join(" ")
        )?;
        for reason in &guess.reasons {
            writeln!(out, "      {:>+3}  {}", reason.points, reason.text)?;
        }
    }
    if guesses.len() > SHOWN_MAX {
        writeln!(out, "    and {} more", guesses.len() - SHOWN_MAX)?;
    }
    let equal = equals(guesses);
    if equal > 1 {
        writeln!(
            out,
            "  {equal} of them have {} points: what was read does not tell them apart. Another weight, or one that was tared off, may.",
            best.points
        )?;
    }
    Ok(())
}

/// For programs.
pub fn json(lines: &[Line], expected: Expected) -> Value {
    let line = |line: &Line| {
        let units = line.found.iter().map(|(unit, found)| unit_json(*unit, found));
        json!({ "address": line.address.to_string(), "units": units.collect::<Vec<_>>() })
    };
    let expected = match expected {
        Expected::Nothing => Value::Null,
        Expected::Known(known) => json!({ "mass_mg": known }),
        Expected::Between(min, max) => json!({ "min_mg": min, "max_mg": max }),
    };
    json!({ "expected": expected, "lines": lines.iter().map(line).collect::<Vec<_>>() })
}

fn unit_json(unit: u8, found: &Found) -> Value {
    match found {
        Found::Silent => json!({ "unit": unit, "state": "silent" }),
        Found::Refuses(error) => {
            json!({ "unit": unit, "state": "refuses", "detail": error.to_string() })
        }
        Found::Garbled(error) => {
            json!({ "unit": unit, "state": "garbled", "detail": error.to_string() })
        }
        Found::Answers { candidates, equal, guesses, searched } => json!({
            "unit": unit,
            "state": "answers",
            "candidates": candidates.iter().map(candidate_json).collect::<Vec<_>>(),
            "equal_candidates": equal,
            "guesses": guesses.iter().map(guess_json).collect::<Vec<_>>(),
            "equal_guesses": equals(guesses),
            "registers_searched": searched,
        }),
    }
}

fn candidate_json(candidate: &Judgement) -> Value {
    let reasons = candidate.reasons.iter().map(|r| json!({ "points": r.points, "text": r.text }));
    let scales = candidate.scales.iter().map(|scale| {
        json!({ "channel": scale.channel, "mass_mg": scale.mass, "stable": scale.stable, "fault": scale.fault })
    });
    json!({
        "profile": candidate.profile,
        "verdict": candidate.verdict.as_str(),
        "points": candidate.points,
        "reasons": reasons.collect::<Vec<_>>(),
        "scales": scales.collect::<Vec<_>>(),
    })
}

fn guess_json(guess: &Guess) -> Value {
    let reasons = guess.reasons.iter().map(|r| json!({ "points": r.points, "text": r.text }));
    json!({
        "function": Table::function(guess.table),
        "at": guess.at,
        "field": field(guess),
        "order": guess.order.as_str(),
        "unit": unit_name(guess.unit),
        "mass_mg": guess.mass,
        "words": guess.words,
        "points": guess.points,
        "reasons": reasons.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_in_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 7, 254, 255]), "1-3, 7, 254-255");
        let of = [(1, "a".to_owned()), (2, "b".to_owned()), (3, "a".to_owned())];
        let named = grouped(&of);
        assert_eq!(named[0], ("Units 1, 3".into(), "a".into()));
        assert_eq!(named[1], ("Unit 2".into(), "b".into()));
    }
}
