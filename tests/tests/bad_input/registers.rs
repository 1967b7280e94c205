//! Registers that say something else than a weight, and a register that must not be written too often.

use serde_json::json;
use stockfold_tests::{Shelves, Slaves, hub, laumas, python, until};

/// A transmitter whose command ends in an EEPROM.
const EEPROM: &str = "
name: eeprom
codec: modbus
modbus:
  source: this test
  fields: {mass: {at: 0, type: i32}}
  commands:
    save: {per_day_max: 2, steps: [{write: {at: 30, values: [99]}}]}
streams:
  weight: {class: stock, dedupe: level, poll_ms: 100, weight: {scales: [{mass: mass, unit: g}]}}
";

#[test]
fn floats_with_their_words_swapped_are_rejected_and_move_nothing() {
    let Some(python) = python("swapped-floats") else { return };
    let hub = hub();
    let mut slaves = Slaves::start(&python, "tcp", "0", &[1]);
    let shelves = Shelves::open(&hub, "swapped");
    shelves.enrol("swapped-seneca", "seneca-z-sg", &["0"]);
    // 400 g and 1234.5 g, as IEEE 754 writes them: stable by bit 4 of register 77.
    slaves.hold(1, 63, &[0x43C8, 0x0000]);
    slaves.hold(1, 77, &[0x0010]);
    shelves.bus("swapped", &format!("tcp://127.0.0.1:{}", slaves.port()));
    shelves.place("swapped-seneca", "swapped", 1);
    shelves.shows("swapped-seneca-0", 4);
    for words in [[0x0000, 0x43C8], [0x5000, 0x449A]] {
        slaves.hold(1, 63, &words);
        let image = format!("{:04x}{:04x}", words[0], words[1]);
        until(&format!("{image} is kept with the reason"), || {
            let all = hub.api().all("/quarantine?facility=swapped");
            let kept = |row: &serde_json::Value| {
                row["reason"] == "out_of_range"
                    && row["raw_hex"].as_str().unwrap_or_default().contains(&image)
            };
            all.iter().any(kept).then_some(())
        });
    }
    slaves.hold(1, 63, &[0x4416, 0x0000]);
    shelves.shows("swapped-seneca-0", 6);
    let moved = [4, 2].map(|delta| ("swapped-seneca-0".to_owned(), delta));
    assert_eq!(shelves.movements(), moved);
}

#[test]
fn faults_of_cell_and_converter_and_overloads_are_told_and_count_nothing() {
    let Some(python) = python("cell-faults") else { return };
    let hub = hub();
    let mut slaves = Slaves::start(&python, "tcp", "0", &[1]);
    let shelves = Shelves::open(&hub, "broken");
    shelves.enrol("broken-laumas", "laumas-tlb", &["0"]);
    slaves.hold(1, 6, &laumas(5));
    shelves.bus("broken", &format!("tcp://127.0.0.1:{}", slaves.port()));
    shelves.place("broken-laumas", "broken", 1);
    shelves.shows("broken-laumas-0", 5);
    // Cell, converter, beyond the range by nine divisions, beyond 110 %, beyond what can be shown; "stable" is on all the while.
    for bit in 0..5 {
        slaves.hold(1, 6, &[0x0800 | 1 << bit, 0, 4_000]);
        until(&format!("bit {bit} is told"), || {
            shelves.open_discrepancy("cell_fault").then_some(())
        });
        slaves.hold(1, 6, &laumas(5));
        until(&format!("bit {bit} is over"), || {
            (!shelves.open_discrepancy("cell_fault")).then_some(())
        });
    }
    assert_eq!(shelves.movements(), [("broken-laumas-0".to_owned(), 5)]);
}

#[test]
fn an_eeprom_is_written_no_more_often_than_its_budget_allows() {
    let Some(python) = python("eeprom") else { return };
    let hub = hub();
    let slaves = Slaves::start(&python, "tcp", "0", &[1]);
    let api = hub.api();
    api.post_bytes("/profiles", EEPROM.as_bytes(), None).good();
    let shelves = Shelves::open(&hub, "eeprom");
    shelves.enrol("eeprom-scale", "eeprom", &["0"]);
    shelves.bus("eeprom", &format!("tcp://127.0.0.1:{}", slaves.port()));
    shelves.place("eeprom-scale", "eeprom", 1);
    until("it is read", || (shelves.unit("eeprom", "eeprom-scale")["ok"] == true).then_some(()));
    let save = || api.post("/devices/eeprom-scale/commands/save", &json!({}));
    for _ in 0..2 {
        assert_eq!(save().status, 204);
    }
    for _ in 0..3 {
        let refused = save();
        assert_eq!((refused.status, refused.code()), (429, "command_budget"), "{:#}", refused.body);
    }
    assert_eq!(slaves.writes(), 2, "what is refused does not reach the device");
}
