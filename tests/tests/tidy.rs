//! Rules of the tree that no compiler knows: who may use whom, and what a file must have.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Direct dependencies of each workspace member: all of them, and the normal ones only.
fn dependencies() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let all = package["dependencies"].as_array().unwrap();
            let name = |d: &serde_json::Value| d["name"].as_str().unwrap().to_owned();
            let normal = all.iter().filter(|d| d["kind"].is_null()).map(name).collect();
            (name(package), (all.iter().map(name).collect(), normal))
        })
        .collect()
}

#[test]
fn dependencies_point_inwards() {
    let own = dependencies();
    let names: BTreeSet<&str> = own.keys().map(String::as_str).collect();
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("device-profiles", &[][..]),
        ("fold", &["device-profiles"][..]),
        ("actors", &["device-profiles", "fold"][..]),
        ("hub", &["device-profiles", "fold", "actors"][..]),
        ("simulator", &["device-profiles"][..]),
        ("xtask", &[][..]),
    ]);
    for (name, (all, _)) in &own {
        if name == "stockfold-tests" {
            assert!(!all.contains("hub"), "nobody imports hub; tests run its binary");
            continue;
        }
        let used: BTreeSet<&str> =
            all.iter().map(String::as_str).filter(|d| names.contains(d)).collect();
        let may: BTreeSet<&str> = allowed[name.as_str()].iter().copied().collect();
        assert!(used.is_subset(&may), "{name} uses {used:?}, may use {may:?}");
    }
}

#[test]
fn pure_crates_stay_pure() {
    let own = dependencies();
    let banned = ["tokio", "actix", "actix-rt", "rand", "getrandom", "rustix", "sqlx", "tracing"];
    for name in ["device-profiles", "fold"] {
        for banned in banned {
            assert!(!own[name].1.contains(banned), "{name} must not use {banned}");
        }
        for file in sources(&root().join(if name == "fold" { "actors/fold/src" } else { name })) {
            let text = std::fs::read_to_string(&file).unwrap();
            for word in ["std::fs", "std::net", "SystemTime", "Instant::now", "HashMap", "HashSet"]
            {
                assert!(!text.contains(word), "{} uses {word}", file.display());
            }
        }
    }
}

#[test]
fn the_database_and_http_stay_in_their_folders() {
    let hub = root().join("hub/src");
    for file in sources(&hub) {
        let text = std::fs::read_to_string(&file).unwrap();
        let at = file.strip_prefix(&hub).unwrap();
        if !at.starts_with("store") {
            assert!(!text.contains("sqlx::"), "{} uses sqlx outside hub/src/store", file.display());
        }
        if !at.starts_with("api") && !at.starts_with("feed") {
            assert!(!text.contains("actix_web::"), "{} uses actix-web", file.display());
        }
    }
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_module_says_what_it_is() {
    for dir in
        ["device-profiles/src", "actors", "hub/src", "simulator/src", "xtask/src", "tests/tests"]
    {
        for file in sources(&root().join(dir)) {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//!"), "{} has no module comment", file.display());
        }
    }
}

#[test]
fn nothing_is_left_unfinished() {
    // Put together here so that this file does not find itself.
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["X", "XX"].concat()];
    for dir in ["device-profiles", "actors", "hub", "simulator", "xtask", "tests"] {
        for file in sources(&root().join(dir)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for word in &words {
                assert!(!text.contains(word.as_str()), "{} has a {word}", file.display());
            }
        }
    }
}
