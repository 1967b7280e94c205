//! The examples of `docs/specs/profile.md` are profiles, and what it says of the shipped ones is true.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may panic")]

use device_profiles::{Profile, shipped::SHIPPED};

const SPEC: &str = include_str!("../../docs/specs/profile.md");

#[test]
fn every_example_is_a_profile() {
    let examples: Vec<&str> =
        SPEC.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 5);
    for text in examples {
        Profile::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
}

#[test]
fn every_shipped_profile_is_listed() {
    for (name, _) in SHIPPED {
        assert!(SPEC.contains(&format!("`{name}`")), "{name}");
    }
}
