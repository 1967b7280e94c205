//! A shop whose transmitters lose their power and get stuck while goods are moved: the simulator plays it against the real
//! hub and judges the stock, while this test watches what the hub says of its buses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
};

use serde_json::Value;
use stockfold_tests::{Hub, Log, stockfold_sim, until};

/// Adds what a look at the buses shows that is not well.
fn look(hub: &Hub, told: &mut BTreeSet<String>) {
    for bus in hub.api().all("/buses") {
        if bus["up"] == false {
            told.insert(format!("{} down", bus["id"].as_str().unwrap()));
        }
        for unit in bus["units"].as_array().unwrap() {
            for what in ["aside", "frozen"] {
                if unit[what] == true {
                    told.insert(format!("{} {what}", unit["device"].as_str().unwrap()));
                }
            }
        }
    }
}

#[test]
fn power_cycles_and_stuck_units_move_no_goods_and_are_told() {
    let hub = Hub::start();
    let token = std::fs::read_to_string(hub.data_dir().join("admin-token")).unwrap();
    let mut playing = Command::new(stockfold_sim())
        .args(["play", "power", "--speed", "2", "--verify", "--json", "--hub", hub.api().origin()])
        .args(["--mqtt", &hub.mqtt().to_string()])
        .env("STOCKFOLD_TOKEN", token.trim())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (verdict, log) = (Log::default(), Log::default());
    verdict.follow(playing.stdout.take().unwrap());
    log.follow(playing.stderr.take().unwrap());
    let mut told = BTreeSet::new();
    let ended = until("the play ends", || {
        look(&hub, &mut told);
        playing.try_wait().unwrap()
    });
    assert!(ended.success(), "{}{}", verdict.text(0), log.text(0));
    until("the verdict is whole", || verdict.is_closed().then_some(()));
    let text = verdict.text(0);
    println!("{told:#?}\n{text}");
    let verdict: Value = serde_json::from_str(&text).unwrap();
    let score = &verdict["score"];
    assert_eq!(score["lines"], 9);
    assert_eq!(score["levels_right"], 9, "{score:#}");
    assert_eq!(score["true_movements"], 27);
    // Each movement that was booked happened, and each that happened was booked.
    assert_eq!((&score["precision"], &score["recall"]), (&1.0.into(), &1.0.into()), "{score:#}");
    let wanted = ["counter-1 frozen", "storeroom-1 frozen", "storeroom-2 aside"];
    for what in wanted {
        assert!(told.contains(what), "{what} was not told: {told:#?}");
    }
    assert!(told.contains("counter down"), "{told:#?}");
    hub.replays_equal();
}
