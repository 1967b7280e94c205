//! The scenarios the binary carries.

use crate::scenario::{Scenario, ScenarioError};
use std::path::Path;

/// Name and text of every built-in scenario.
pub const SCENARIOS: [(&str, &str); 6] = [
    ("demo", include_str!("../scenarios/demo.toml")),
    ("accuracy-010", include_str!("../scenarios/accuracy-010.toml")),
    ("accuracy-015", include_str!("../scenarios/accuracy-015.toml")),
    ("creep", include_str!("../scenarios/creep.toml")),
    ("power", include_str!("../scenarios/power.toml")),
    ("rough", include_str!("../scenarios/rough.toml")),
];

/// The text of the built-in scenario `name`.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    SCENARIOS.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// The built-in scenario of that name, else the file of that path.
///
/// # Errors
/// [`ScenarioError`], naming the file and the line or key.
pub fn load(name_or_path: &str) -> Result<Scenario, ScenarioError> {
    match text(name_or_path) {
        Some(text) => Scenario::parse(name_or_path, text),
        None => Scenario::load(Path::new(name_or_path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_valid() {
        for (name, _) in SCENARIOS {
            load(name).unwrap();
        }
        assert_eq!(load("demo").unwrap().sku.len(), 20);
        assert!(load("no-such-scenario").is_err());
    }
}
