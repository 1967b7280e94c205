//! Comparisons: what several tellers made of the same reads, as a table for people and as JSON.
//!
//! [`compare`] has the baselines. Whoever judges another rule adds a [`Row`] to a comparison and renders it with the others:
//! the simulator knows no rule but the published ones.

use std::fmt::Write;
use std::sync::Arc;

use serde::Serialize;

use super::baseline::{baselines, tell};
use super::physics::Model;
use super::rates::{ReadRates, read_rates};
use super::scoring::{Latency, Limits, Score, Tally, score};
use super::world::World;

/// A teller's score.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name.
    pub who: String,
    /// How well it did.
    pub score: Score,
}

/// Several tellers over the same world and physics.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The scenario's name.
    pub scenario: String,
    /// The physics.
    pub physics: Model,
    /// Seed of the scenario.
    pub seed: u64,
    /// Tags.
    pub tags: usize,
    /// Length, virtual seconds.
    pub seconds: f64,
    /// How often tags at rest were read.
    pub rates: ReadRates,
    /// The tellers.
    pub rows: Vec<Row>,
}

/// The baselines in a world.
#[must_use]
pub fn compare(name: &str, world: &Arc<World>, model: Model) -> Comparison {
    let limits = Limits::of(&world.scenario);
    let row = |(who, mut teller): (&str, Box<dyn super::Teller>)| {
        let told = tell(world, model, &mut *teller);
        Row { who: who.to_owned(), score: score(&world.truth, &told, &limits) }
    };
    Comparison {
        scenario: name.to_owned(),
        physics: model,
        seed: world.scenario.seed,
        tags: world.items.len(),
        seconds: world.scenario.duration_s,
        rates: read_rates(world, model),
        rows: baselines(world).into_iter().map(row).collect(),
    }
}

/// The comparisons as text, a table each.
#[must_use]
pub fn table(comparisons: &[Comparison]) -> String {
    let mut text = String::new();
    for (i, c) in comparisons.iter().enumerate() {
        let gap = if i == 0 { "" } else { "\n" };
        let ReadRates { mean, p10, p90, reads } = c.rates;
        let (scenario, physics, seed) = (&c.scenario, c.physics.as_str(), c.seed);
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "{gap}{scenario} by {physics}, seed {seed}: {} tags, {:.0} s, {reads} reads, read rate on shelves {mean:.2} ({p10:.2} to {p90:.2})",
            c.tags, c.seconds,
        );
        let mut rows = vec![HEAD.map(str::to_owned)];
        rows.extend(c.rows.iter().map(cells));
        for row in &rows {
            let line: String = (0..HEAD.len())
                .map(|i| {
                    let width = rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
                    // Names to the left, figures to the right.
                    if i == 0 {
                        format!("  {:width$}", row[i])
                    } else {
                        format!("  {:>width$}", row[i])
                    }
                })
                .collect();
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text
}

const HEAD: [&str; 12] = [
    "",
    "false/true",
    "missed",
    "precision",
    "recall",
    "arrive s",
    "depart s",
    "move s",
    "exits",
    "exit s",
    "in zone",
    "at place",
];

fn cells(Row { who, score: s }: &Row) -> [String; 12] {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let late = |t: Tally, l: Latency| {
        if t.matched == 0 {
            "-".to_owned()
        } else {
            format!("{:.1}/{:.1}/{:.1}", l.p50_s, l.p95_s, l.p99_s)
        }
    };
    let exits = match s.exits.happened {
        0 => "-".to_owned(),
        happened => format!("{}/{happened}", s.exits.matched),
    };
    [
        who.clone(),
        format!("{:.3}", s.false_per_true),
        percent(s.missed_stays),
        percent(s.precision),
        percent(s.recall),
        late(s.arrivals, s.arrival),
        late(s.departures, s.departure),
        late(s.moves, s.moving),
        exits,
        late(s.exits, s.exit),
        percent(s.right_zone),
        percent(s.right_place),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfid::Scenario;

    #[test]
    fn a_table_has_a_line_for_every_teller_and_takes_more() {
        let mut scenario = Scenario::builtin("shelf-0.6").unwrap();
        scenario.duration_s = 600.0;
        let world = Arc::new(World::new(&scenario).unwrap());
        let mut all = vec![compare("shelf-0.6", &world, Model::Epochs)];
        let rows = all[0].rows.len();
        all[0].rows.push(Row {
            who: "nobody".to_owned(),
            score: score(&world.truth, &[], &Limits::default()),
        });
        let text = table(&all);
        assert_eq!(text.lines().count(), 2 + rows + 1);
        assert!(text.starts_with("shelf-0.6 by epochs, seed 1: 40 tags, 600 s,"), "{text}");
        let nobody: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(nobody[..3], ["nobody", "0.000", "100.0"], "{text}");
        let json = serde_json::to_value(&all).unwrap();
        assert_eq!(json[0]["physics"], "epochs");
        assert_eq!(json[0]["rows"][rows]["score"]["missed_stays"], 1.0);
    }
}
