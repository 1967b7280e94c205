//! `stockfold profile` as people use it: the real binary, files, exit codes.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

struct Ran {
    ok: bool,
    out: String,
    err: String,
}

fn stockfold(args: &[&str]) -> Ran {
    let done =
        Command::new(env!("CARGO_BIN_EXE_stockfold")).arg("profile").args(args).output().unwrap();
    Ran {
        ok: done.status.success(),
        out: String::from_utf8(done.stdout).unwrap(),
        err: String::from_utf8(done.stderr).unwrap(),
    }
}

fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn every_shipped_profile_is_listed_shown_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let list = stockfold(&["list"]);
    assert!(list.ok);
    let names: Vec<&str> =
        list.out.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"default") && names.contains(&"zigbee2mqtt"));
    let texts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../device-profiles/profiles");
    let texts = std::fs::read_dir(texts).unwrap().count();
    assert_eq!(texts, names.len(), "a file in device-profiles/profiles is not shipped");
    for name in names {
        let shown = stockfold(&["show", name]);
        assert!(shown.ok && shown.out.contains(&format!("name: {name}\n")), "{name}");
        let path = file(dir.path(), "p.yaml", &shown.out);
        let checked = stockfold(&["check", path.to_str().unwrap()]);
        assert!(checked.ok && checked.out.contains(" is sound"), "{name}: {}", checked.err);
    }
    assert!(!stockfold(&["show", "nobody"]).ok);
}

#[test]
fn a_check_tells_the_plan_or_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let laumas = file(dir.path(), "laumas.yaml", &stockfold(&["show", "laumas-tlb"]).out);
    let sound = stockfold(&["check", laumas.to_str().unwrap()]);
    assert!(sound.out.contains("stream   weight: weight, class stock, repeats told by level"));
    assert!(
        sound.out.contains("function 03, address 6 to 8 on the wire, 3 registers"),
        "{}",
        sound.out
    );

    let text = "name: bad\ncodec: modbus\nmodbus:\n  source: test\n  fields:\n    a: { at: 0, type: u32 }\n    b: { at: 1, type: u16 }\nstreams: {}\n";
    let bad = file(dir.path(), "bad.yaml", text);
    let both = stockfold(&["check", laumas.to_str().unwrap(), bad.to_str().unwrap()]);
    assert!(!both.ok && both.out.contains("laumas-tlb is sound"));
    assert!(
        both.err.contains("bad.yaml:7:8: fields \"a\" and \"b\" overlap in part"),
        "{}",
        both.err
    );
    assert!(both.err.contains("7 |     b: { at: 1, type: u16 }\n    |        ^"), "{}", both.err);
    assert!(!stockfold(&["check", "/nowhere/p.yaml"]).ok);
}

#[test]
fn a_frame_is_tried_with_a_file_or_a_shipped_profile() {
    let dir = tempfile::tempdir().unwrap();
    let read = stockfold(&["try", "zigbee2mqtt", "state", r#"{"temperature":21.5}"#]);
    let json: serde_json::Value = serde_json::from_str(&read.out).unwrap();
    assert!(read.ok);
    assert_eq!(json["measurements"][0]["name"], "state.temperature");
    // Laumas: version, function 3, address 6, 3 registers: stable, 12,502 g.
    let image = "01 03 00:06 00:03 0800 0000 30D6";
    let read = stockfold(&["try", "laumas-tlb", "weight", "--hex", image]);
    let json: serde_json::Value = serde_json::from_str(&read.out).unwrap();
    assert_eq!(json["measurements"][0]["mass_mg"], 12_502_000, "{}", read.out);
    let frame = file(dir.path(), "frame", "on");
    let read = stockfold(&["try", "shelly-gen1", "relay-0", "--file", frame.to_str().unwrap()]);
    assert!(read.ok && read.out.contains("\"value\": true"), "{}", read.out);
    let rejected = stockfold(&["try", "shelly-gen1", "temperature", "warm"]);
    assert!(!rejected.ok && rejected.out.contains("\"code\": \"wrong_type\""), "{}", rejected.out);
    assert!(!stockfold(&["try", "shelly-gen1", "temperature"]).ok, "a frame is needed");
}

#[test]
fn an_imported_profile_passes_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let edgex = file(
        dir.path(),
        "edgex.yaml",
        "name: Cooler\ndeviceResources:\n  - name: Temp\n    attributes: { primaryTable: INPUT_REGISTERS, startingAddress: 3, rawType: Int16 }\n    properties: { valueType: Float32, readWrite: R, scale: 0.1, units: °C }\n  - name: Label\n    attributes: { primaryTable: HOLDING_REGISTERS, startingAddress: 9, stringRegisterSize: 4 }\n    properties: { valueType: String, readWrite: R }\n",
    );
    let made = dir.path().join("cooler.yaml");
    let (edgex, made) = (edgex.to_str().unwrap(), made.to_str().unwrap());
    let printed = stockfold(&["import", edgex]);
    assert!(printed.ok && printed.out.contains("#   Label: valueType String"), "{}", printed.out);
    assert!(stockfold(&["import", edgex, "--output", made, "--poll-ms", "250"]).ok);
    assert!(stockfold(&["check", made]).ok);
    let again = stockfold(&["import", edgex, "--output", made]);
    assert!(!again.ok && again.err.contains("cannot create"), "no file is overwritten");
    let none = file(dir.path(), "none.yaml", "name: x\n");
    let refused = stockfold(&["import", none.to_str().unwrap()]);
    assert!(!refused.ok && refused.err.contains("deviceResources"), "{}", refused.err);
}
