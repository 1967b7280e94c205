//! Rules of the tree that no compiler knows: who may use whom, and what a file must have.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
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
        ("stockfold-fuzz", &["device-profiles"][..]),
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
    files(dir, "rs")
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_module_says_what_it_is() {
    for dir in
        ["device-profiles/src", "actors", "hub/src", "simulator/src", "xtask/src", "tests", "fuzz"]
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
    for dir in ["device-profiles", "actors", "hub", "simulator", "xtask", "tests", "fuzz"] {
        for file in sources(&root().join(dir)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for word in &words {
                assert!(!text.contains(word.as_str()), "{} has a {word}", file.display());
            }
        }
    }
}

/// A limit: the file it stands in, its name and its value as written.
type Limit = (String, String, String);

/// Every limit of the product's code: what a `limits.rs` makes public, and every constant that is named a maximum.
fn limits_in_code() -> BTreeSet<Limit> {
    let mut found = BTreeSet::new();
    for dir in ["device-profiles/src", "actors/fold/src", "actors/src", "hub/src"] {
        for file in sources(&root().join(dir)) {
            let at = file.strip_prefix(root()).unwrap().display().to_string();
            let text = std::fs::read_to_string(&file).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap();
            let all_count = file.ends_with("limits.rs");
            for declared in product.split("const ").skip(1) {
                let Some((name, rest)) = declared.split_once(':') else { continue };
                let is_name =
                    name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
                if !is_name || !(all_count || name.ends_with("_MAX")) {
                    continue;
                }
                let (declaration, _) = rest.split_once(';').unwrap();
                let value = declaration.split_once('=').unwrap().1;
                let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
                found.insert((at.clone(), name.to_owned(), value));
            }
            // The MQTT endpoint's limits are fields with defaults.
            if let Some((_, defaults)) = product.split_once("impl Default for Limits") {
                for line in defaults.split("\n}").next().unwrap().lines() {
                    if let Some((name, value)) = line.trim().trim_end_matches(',').split_once(": ")
                    {
                        found.insert((at.clone(), name.to_owned(), value.to_owned()));
                    }
                }
            }
        }
    }
    found
}

/// What `docs/limits.md` lists: a section a file, a row a limit.
fn limits_in_docs() -> BTreeSet<Limit> {
    let text = std::fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let mut found = BTreeSet::new();
    let mut file = String::new();
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("## `") {
            named.trim_end_matches('`').clone_into(&mut file);
        } else if line.starts_with("| `") {
            let cells: Vec<&str> = line.split(" | ").collect();
            assert!(
                cells.len() == 4 && cells.iter().all(|c| c.len() > 1),
                "a row lacks a cell: {line}"
            );
            let bare =
                |cell: &str| cell.trim_matches(|c| c == '|' || c == ' ' || c == '`').to_owned();
            found.insert((file.clone(), bare(cells[0]), bare(cells[1])));
        }
    }
    found
}

#[test]
fn every_limit_is_documented_with_its_value() {
    let (code, docs) = (limits_in_code(), limits_in_docs());
    assert!(
        code.len() > 100,
        "only {} limits were found; is this test still reading the code?",
        code.len()
    );
    let missing: Vec<_> = code.difference(&docs).collect();
    let stale: Vec<_> = docs.difference(&code).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "not in docs/limits.md: {missing:#?}\nnot in the code: {stale:#?}"
    );
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut pages =
        vec![root().join("README.md"), root().join("CHANGELOG.md"), root().join("SECURITY.md")];
    pages.extend(files(&root().join("docs"), "md"));
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let found = page.parent().unwrap().join(path);
            assert!(found.exists(), "{} links to {target}, which is not there", page.display());
        }
    }
}

#[test]
fn exceptions_for_advisories_have_an_end() {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now_us = i64::try_from(now.as_micros()).unwrap();
    let today = device_profiles::time::format_rfc3339_us(now_us);
    for line in text.lines().filter(|line| line.contains("id = \"RUSTSEC-")) {
        let until = line.split_once("; until ").unwrap().1.split_once('"').unwrap().0;
        assert_eq!(until.len(), 10, "{line}");
        assert!(*until >= today[..10], "to be looked at again: {line}");
    }
}

/// Every test that a page names as `` `file` · `test` `` exists; returns how many it names.
fn named_tests_exist(page: &str) -> usize {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let mut named = 0;
    for pair in text.split("` · `").collect::<Vec<_>>().windows(2) {
        let file = pair[0].rsplit('`').next().unwrap();
        let test = pair[1].split('`').next().unwrap();
        let code = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        assert!(code.contains(&format!("fn {test}(")), "{page}: no test {test} in {file}");
        named += 1;
    }
    named
}

#[test]
fn promises_and_bad_inputs_name_tests_that_exist() {
    for (page, least) in [("docs/promises.md", 20), ("docs/specs/bad-input.md", 40)] {
        let named = named_tests_exist(page);
        assert!(named >= least, "{page} names only {named} tests");
    }
}
