//! `stockfold device probe`: the real binary against transmitters of every make, pymodbus, and lines on which something is
//! wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use serde_json::{Value, json};
use simulator::modbus::{Bank, Faults, Framing, Line, Make, Scale, fault::FaultSpec, serve_pty};
use stockfold_tests::{Ran, Slaves, Transmitters, foreign, hub, python, stockfold};

/// A unit of a make with so many grams on each of its scales, at rest.
fn bank(make: Make, grams: i64, faults: Faults) -> Bank {
    let mut bank = Bank::new(make, faults);
    let scale = Scale { mg: grams * 1_000, stable: true, ..Scale::default() };
    bank.scales.fill(Some(scale));
    bank
}

/// Every make, as units from 1 on.
fn every_make(grams: i64) -> Line {
    let units = (1..).zip(Make::ALL).map(|(unit, make)| (unit, bank(make, grams, Faults::none())));
    Arc::new(Mutex::new(units.collect()))
}

fn one(unit: u8, bank: Bank) -> Line {
    Arc::new(Mutex::new(BTreeMap::from([(unit, bank)])))
}

/// Runs a probe beside no hub.
fn probe(args: &[&str]) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(stockfold());
    Ran::of(command.args(["device", "probe", "--data-dir"]).arg(dir.path()).args(args))
}

/// The units that a probe found, by address.
fn units(args: &[&str]) -> BTreeMap<u64, Value> {
    let ran = probe(&[args, &["--json"]].concat());
    let told: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    let units = told["lines"][0]["units"].as_array().unwrap();
    units.iter().map(|unit| (unit["unit"].as_u64().unwrap(), unit.clone())).collect()
}

fn names(unit: &Value, count: usize) -> Vec<&str> {
    let candidates = unit["candidates"].as_array().unwrap();
    candidates.iter().take(count).map(|c| c["profile"].as_str().unwrap()).collect()
}

#[test]
fn every_make_is_proposed_first_by_its_weight() {
    for (framing, scheme) in [(Framing::Tcp, "tcp"), (Framing::Rtu { baud: 0 }, "rtu+tcp")] {
        let served = Transmitters::serve(framing, every_make(1_500));
        let address = format!("{scheme}://{}", served.address);
        let found = units(&[&address, "--units", "1-8", "--expect-grams", "1500"]);
        for (unit, make) in (1..).zip(Make::ALL) {
            let unit = &found[&unit];
            let best = &unit["candidates"][0];
            assert_eq!(best["profile"], make.profile(), "{unit:#}");
            assert_eq!((&best["verdict"], &unit["equal_candidates"]), (&json!("fits"), &json!(1)));
            assert_eq!(best["scales"][0]["mass_mg"], 1_500_000, "{best:#}");
        }
        assert_eq!(found[&8]["state"], "silent");
    }
}

#[test]
fn without_a_known_weight_the_make_is_first_or_told_as_equal() {
    for (grams, expected) in [
        (1_500, &["--between", "0..30000"][..]),
        (1_500, &[]),
        (0, &["--between", "-100..30000"]),
        (0, &[]),
        (-250, &[]),
    ] {
        let served = Transmitters::serve(Framing::Tcp, every_make(grams));
        let address = format!("tcp://{}", served.address);
        let found = units(&[&[address.as_str(), "--units", "1-7"], expected].concat());
        for (unit, make) in (1..).zip(Make::ALL) {
            let equal = found[&unit]["equal_candidates"].as_u64().unwrap();
            let first = names(&found[&unit], usize::try_from(equal).unwrap());
            assert!(
                first.contains(&make.profile()),
                "{grams} g, {expected:?}: {first:?} for {make:?}: {:#}",
                found[&unit]
            );
        }
    }
}

#[test]
fn a_serial_line_in_several_settings() {
    let on = Arc::new(AtomicBool::new(true));
    let path = serve_pty(0, one(4, bank(Make::LaumasTlb, 700, Faults::none())), on).unwrap();
    let address = format!("rtu://{path}");
    // A pseudo-terminal has no speed: the unit is there in both settings, and each is told.
    let ran = probe(&[
        &address,
        "--units",
        "3-4",
        "--baud",
        "9600,19200",
        "--expect-grams",
        "700",
        "--timeout-ms",
        "100",
    ])
    .good();
    for line in ["baud=9600", "baud=19200"] {
        assert!(ran.out.contains(line), "{}", ran.out);
    }
    assert_eq!(ran.out.matches("laumas-tlb               fits").count(), 2, "{}", ran.out);
    assert_eq!(ran.out.matches("Unit 3: no answer").count(), 2, "{}", ran.out);
    let refused = probe(&["tcp://127.0.0.1:9", "--baud", "9600"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("its serial server sets the line"), "{}", refused.err);
}

#[test]
fn an_unknown_device_gets_a_proposal_that_reads_it() {
    let Some(python) = python("probe-unknown") else { return };
    let mut slaves = Slaves::start(&python, "tcp", "0", &[7]);
    // Something like a status and a counter beside it; the mass is a float with swapped words.
    let bits = 1234.5_f32.to_bits();
    slaves.hold(7, 10, &[0x0103, 77, bits as u16, (bits >> 16) as u16, 1_234]);
    let address = format!("tcp://127.0.0.1:{}", slaves.port());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scale.yaml");
    let file = file.to_str().unwrap();
    let args = [&address, "--units", "7", "--expect-grams", "1234.5"];
    let told = probe(&[&args[..], &["--write", file]].concat()).good();
    assert!(told.out.contains("order: CDAB"), "{}", told.out);
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("mass: { table: holding, at: 12, type: f32, order: CDAB }"), "{text}");
    let mut check = Command::new(stockfold());
    let checked = Ran::of(check.args(["profile", "check", file])).good();
    assert!(checked.out.contains("is sound"), "{}", checked.out);
    // The image of the poll that the profile makes, read by the profile.
    let frame = format!("01 03 000c 0002 {:04x} {:04x}", bits as u16, bits >> 16);
    let mut read = Command::new(stockfold());
    let read = Ran::of(read.args(["profile", "try", file, "weight", "--hex", &frame])).good();
    assert!(read.out.contains("1234500"), "{}", read.out);
    // Given as a file it fits; it is not written over.
    let known = units(&[&args[..], &["--profile", file]].concat());
    assert_eq!(known[&7]["candidates"][0]["verdict"], "fits", "{known:#?}");
    let again = probe(&[&args[..], &["--write", file]].concat());
    assert_eq!(again.code, 1);
    assert!(again.err.contains("cannot create"), "{}", again.err);
    // Without a weight nothing is guessed, and what to do is told.
    let told = probe(&[&address, "--units", "7"]).good();
    assert!(told.out.contains("name it with --expect-grams"), "{}", told.out);
    // pymodbus answers for units that it has not.
    let found = units(&[&address, "--units", "6-7", "--expect-grams", "1234.5"]);
    assert_eq!(found[&6]["state"], "refuses", "{found:#?}");
    assert!(found[&6]["detail"].as_str().unwrap().contains("device failure"), "{found:#?}");
}

#[test]
fn nothing_is_written_for_a_device_that_is_known() {
    let served = Transmitters::serve(Framing::Tcp, every_make(900));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yaml");
    let address = format!("tcp://{}", served.address);
    let args = [&address, "--units", "1", "--expect-grams", "900", "--write"];
    let ran = probe(&[&args[..], &[file.to_str().unwrap()]].concat());
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("unit 1 is read by laumas-tlb"), "{}", ran.err);
    assert!(!file.exists());
}

#[test]
fn a_line_without_anybody_and_one_that_is_not_there() {
    let served = Transmitters::serve(Framing::Tcp, Arc::default());
    let address = format!("tcp://{}", served.address);
    let ran = probe(&[&address, "--units", "1-3,9", "--timeout-ms", "50"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("Units 1-3, 9: no answer."), "{}", ran.out);
    assert!(ran.out.contains("Nobody is there."), "{}", ran.out);
    let ran = probe(&["tcp://127.0.0.1:9", "--units", "1"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("tcp://127.0.0.1:9 cannot be opened"), "{}", ran.err);
    let ran = probe(&["rtu:///dev/nothing-like-it", "--units", "1"]);
    assert!(ran.err.contains("/dev/nothing-like-it"), "{}", ran.err);
    assert_eq!(probe(&["udp://x"]).code, 2);
}

#[test]
fn a_unit_that_answers_only_exceptions_is_told_as_that() {
    // One that starts up says that it is busy.
    let busy = Bank::new(Make::LaumasTlb, Faults::none());
    let served = Transmitters::serve(Framing::Tcp, one(1, busy));
    let address = format!("tcp://{}", served.address);
    let found = units(&[&address, "--units", "1", "--expect-grams", "5"]);
    assert_eq!(found[&1]["state"], "refuses", "{found:#?}");
    assert!(found[&1]["detail"].as_str().unwrap().contains("device busy"), "{found:#?}");
    // One that is there and has none of the registers it is asked for.
    let served = Transmitters::serve(Framing::Tcp, every_make(500));
    let address = format!("tcp://{}", served.address);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("far.yaml");
    let far = "name: far\ncodec: modbus\nmodbus:\n  source: this test\n  fields: { mass: { at: 9000, type: i32 } }\nstreams:\n  weight: { class: stock, dedupe: level, poll_ms: 100, weight: { scales: [{ mass: mass }] } }\n";
    std::fs::write(&file, far).unwrap();
    let args = ["--units", "1", "--expect-grams", "500", "--registers", "9000-9031", "--profile"];
    let found = units(&[&[address.as_str()], &args[..], &[file.to_str().unwrap()]].concat());
    let unit = &found[&1];
    assert_eq!((&unit["state"], &unit["registers_searched"]), (&json!("answers"), &json!(0)));
    assert_eq!(unit["candidates"][0]["verdict"], "unfit", "{unit:#}");
    let why = unit["candidates"][0]["reasons"][0]["text"].as_str().unwrap();
    assert!(why.contains("illegal data address"), "{why}");
}

#[test]
fn a_unit_that_answers_for_another_is_not_taken_for_itself() {
    for (framing, scheme) in [(Framing::Tcp, "tcp"), (Framing::Rtu { baud: 0 }, "rtu+tcp")] {
        let foreign = FaultSpec { foreign: 1.0, ..FaultSpec::default() };
        let bank = bank(Make::LaumasTlb, 1_500, Faults::new(foreign, 1, 1));
        let served = Transmitters::serve(framing, one(3, bank));
        let address = format!("{scheme}://{}", served.address);
        let found =
            units(&[&address, "--units", "2-4", "--expect-grams", "1500", "--timeout-ms", "100"]);
        assert_eq!(found[&3]["state"], "garbled", "{found:#?}");
        assert_eq!(
            (&found[&2]["state"], &found[&4]["state"]),
            (&json!("silent"), &json!("silent"))
        );
    }
}

#[test]
fn late_answers_are_never_taken_for_others() {
    let late = FaultSpec { late: 0.15, late_ms: 160, ..FaultSpec::default() };
    for seed in 0..3 {
        let bank = bank(Make::BaykonMx08, 1_500, Faults::new(late, seed, 1));
        let path = serve_pty(0, one(1, bank), Arc::new(AtomicBool::new(true))).unwrap();
        let address = format!("rtu://{path}");
        let found =
            units(&[&address, "--units", "1", "--expect-grams", "1500", "--timeout-ms", "100"]);
        for candidate in found[&1]["candidates"].as_array().into_iter().flatten() {
            let (profile, verdict) = (&candidate["profile"], &candidate["verdict"]);
            assert!(verdict != "fits" || profile == "baykon-mx08", "seed {seed}: {candidate:#}");
            for scale in candidate["scales"].as_array().unwrap() {
                let mass = &scale["mass_mg"];
                assert!(profile != "baykon-mx08" || mass == 1_500_000, "seed {seed}: {mass}");
            }
        }
    }
}

#[test]
fn a_line_that_the_hub_polls_is_refused() {
    let hub = hub();
    let served = Transmitters::serve(Framing::Tcp, every_make(10));
    let api = hub.api();
    api.post("/facilities", &json!({ "id": "probed", "name": "Probed" })).good();
    let port = served.address.port();
    let bus = json!({ "id": "probed", "facility": "probed", "address": format!("tcp://127.0.0.1:{port}") });
    api.post("/buses", &bus).good();
    let address = format!("rtu+tcp://localhost:{port}");
    let refused = hub.command(&["device", "probe", &address, "--units", "1"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    for part in ["as bus probed", "a line has one master", "stop the hub"] {
        assert!(refused.err.contains(part), "{}", refused.err);
    }
    assert_eq!(api.delete("/buses/probed").status, 204);
    let address = format!("tcp://127.0.0.1:{port}");
    hub.command(&["device", "probe", &address, "--units", "1", "--expect-grams", "10"]).good();
}

#[test]
fn mbpoll_and_the_probe_see_the_same_registers() {
    let Some(mbpoll) = foreign("probe-mbpoll", "mbpoll") else { return };
    let served = Transmitters::serve(Framing::Tcp, every_make(1_234));
    let port = served.address.port().to_string();
    // Function 3, 32-bit integer, high word first, at address 7 of unit 1.
    let mut read = Command::new(mbpoll);
    let args = ["-m", "tcp", "-p", &port, "-a", "1", "-0", "-r", "7", "-t", "4:int", "-B", "-1"];
    let read = Ran::of(read.args(args).arg("127.0.0.1")).good();
    assert!(read.out.contains("1234"), "{}", read.out);
    let address = format!("tcp://127.0.0.1:{port}");
    let found = units(&[&address, "--units", "1", "--expect-grams", "1234"]);
    assert_eq!(found[&1]["candidates"][0]["scales"][0]["mass_mg"], 1_234_000);
}
