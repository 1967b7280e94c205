//! `rfid`: the baselines over the built-in worlds of tags.

use crate::cli::args::{Physics, RfidArgs};
use crate::cli::screen::say;
use anyhow::Result;
use simulator::rfid::report::{compare, table};
use simulator::rfid::scenario::SCENARIOS;
use simulator::rfid::{Model, Scenario, World};
use std::sync::Arc;

pub fn rfid(args: &RfidArgs) -> Result<bool> {
    if args.list {
        for (name, text) in SCENARIOS {
            let what = text.lines().next().unwrap_or("").trim_start_matches("# ");
            say(&format!("{name:14}{what}"));
        }
        return Ok(true);
    }
    let named: Vec<&str> = match &args.scenarios[..] {
        [] => SCENARIOS.map(|(name, _)| name).to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    let mut all = Vec::new();
    for name in named {
        let mut scenario = Scenario::builtin(name)?;
        scenario.seed = args.seed.unwrap_or(scenario.seed);
        let world = Arc::new(World::new(&scenario)?);
        let wanted = |model: &&Model| match args.physics {
            None => true,
            Some(Physics::Epochs) => **model == Model::Epochs,
            Some(Physics::Geometry) => **model == Model::Geometry,
        };
        all.extend(
            scenario.models.iter().filter(wanted).map(|model| compare(name, &world, *model)),
        );
    }
    if args.json {
        say(&serde_json::to_string_pretty(&all)?);
    } else {
        say(table(&all).trim_end());
    }
    Ok(true)
}
