//! The world as its users see it: repeatable, conserving, and complete.

// clippy.toml allows this in test functions; their helpers are no less tests.
#![allow(clippy::unwrap_used)]

use simulator::scenario::Source;
use simulator::truth::Told;
use simulator::{Scenario, TimedFrame, World, builtin};
use std::collections::{BTreeMap, BTreeSet};

fn run(scenario: Scenario) -> (World, Vec<TimedFrame>) {
    let (mut world, mut frames) = (World::new(scenario), Vec::new());
    while let Some(step) = world.next_frames() {
        frames.extend(step);
    }
    (world, frames)
}

fn rough(seed: u64) -> Scenario {
    let mut scenario = builtin::load("rough").unwrap();
    scenario.people[0].misplace_per_hour = 40.0;
    Scenario { seed, duration_s: 600.0, ..scenario }
}

#[test]
fn a_world_is_a_function_of_its_scenario() {
    let ((a, frames_a), (b, frames_b)) = (run(rough(1)), run(rough(1)));
    assert_eq!(frames_a, frames_b);
    assert_eq!(a.truth(), b.truth());
    assert_eq!(a.layout(), b.layout());
    assert_ne!(frames_a, run(rough(2)).1);
}

#[test]
fn adding_a_device_leaves_the_scales_alone() {
    let weights = |scenario| -> Vec<Vec<u8>> {
        let (world, frames) = run(scenario);
        let mine = |f: &TimedFrame| &*world.devices()[f.device].id == "scale-001";
        frames.into_iter().filter(mine).map(|f| f.payload).collect()
    };
    let mut more = rough(1);
    more.sensor[0].count += 1;
    assert_eq!(weights(rough(1)), weights(more));
}

#[test]
fn stock_is_conserved_and_frames_come_in_order() {
    for seed in 1..6 {
        let (world, frames) = run(rough(seed));
        let truth = world.truth();
        for (i, line) in truth.lines.iter().enumerate() {
            let of = |foreign| -> i64 {
                let mine = truth.movements.iter().filter(|m| m.line == i && m.foreign == foreign);
                mine.map(|m| m.delta).sum()
            };
            assert_eq!(line.initial + of(false), line.units);
            assert_eq!(of(true), line.foreign);
            assert!(line.units >= 0 && line.foreign >= 0);
        }
        assert!(truth.movements.windows(2).all(|w| w[0].at <= w[1].at));
        assert!(truth.movements.iter().any(|m| m.foreign), "somebody misplaces something");
        assert!(frames.windows(2).all(|w| w[0].at <= w[1].at));
    }
}

#[test]
fn what_was_told_is_what_frames_say() {
    let (world, frames) = run(rough(3));
    let mut sent = BTreeSet::new();
    for f in &frames {
        let device = &world.devices()[f.device];
        let first = sent.insert((device.id.clone(), f.boot.clone(), f.seq));
        assert_eq!(first, !f.repeated, "a number is sent twice only when repeated");
    }
    let mut told: BTreeMap<&str, i64> = BTreeMap::new();
    for m in &world.truth().movements {
        if let Told::Sent { device, boot, seq } = &m.told {
            assert!(sent.contains(&(device.clone(), boot.clone(), *seq)));
            *told.entry(&world.truth().lines[m.line].slot).or_default() += m.delta;
        }
    }
    let mut said: BTreeMap<String, i64> = BTreeMap::new();
    for f in frames.iter().filter(|f| !f.repeated) {
        let value: serde_json::Value = serde_json::from_slice(&f.payload).unwrap();
        let values = &value["values"];
        let delta = match &*f.stream {
            "stock" => values["delta"].as_i64().unwrap(),
            "scan" => {
                let n = values["quantity"].as_i64().unwrap();
                if values["mode"] == "pick" { -n } else { n }
            }
            _ => continue,
        };
        *said.entry(values["slot"].as_str().unwrap().to_owned()).or_default() += delta;
    }
    assert!(!said.is_empty());
    assert!(told.iter().all(|(slot, n)| said[*slot] == *n));
    for (i, line) in world.truth().lines.iter().enumerate() {
        if line.source == Source::Scan {
            let heard = said.get(&*line.slot).copied().unwrap_or(0);
            assert_eq!(world.truth().knowable(i), line.initial + heard);
        }
    }
}

#[test]
fn a_schedule_gives_exactly_its_events() {
    let (world, _) = run(builtin::load("accuracy-015").unwrap());
    assert_eq!(world.truth().movements.len(), 2_000);
    assert!(world.truth().movements.iter().all(|m| m.delta != 0 && !m.foreign));
}

#[test]
fn the_last_readings_of_a_quiet_scale_show_the_truth() {
    let mut scenario = builtin::load("accuracy-010").unwrap();
    scenario.cells.event_sigma_ratio = None;
    scenario.cells.noise_mg = 0.0;
    let zero = scenario.cells.dead_load_mg;
    let weight_of: BTreeMap<String, i64> =
        scenario.sku.iter().map(|s| (s.id.clone(), s.unit_weight_mg)).collect();
    let (world, frames) = run(scenario);
    let mut last = BTreeMap::new();
    for f in &frames {
        let value: serde_json::Value = serde_json::from_slice(&f.payload).unwrap();
        let channel: usize = value["values"]["ch"].as_str().unwrap().parse().unwrap();
        let g = value["values"]["g"].as_f64().unwrap();
        assert!(value["values"]["stable"].is_boolean());
        last.insert(world.devices()[f.device].slots[channel], (g * 1_000.0).round() as i64);
    }
    for (slot, line) in world.truth().lines.iter().enumerate() {
        assert_eq!(last[&slot], zero + line.units * weight_of[&*line.sku], "{}", line.slot);
    }
}

#[test]
fn the_demo_stays_stocked_and_busy() {
    let hours = 4.0;
    let demo = builtin::load("demo").unwrap();
    let (world, _) = run(Scenario { duration_s: hours * 3_600.0, ..demo });
    let lines = &world.truth().lines;
    let units: i64 = lines.iter().map(|l| l.units).sum();
    assert!((lines.len() as i64 * 8..lines.len() as i64 * 20).contains(&units), "{units}");
    let per_minute = world.truth().movements.len() as f64 / (hours * 60.0);
    assert!((12.0..30.0).contains(&per_minute), "{per_minute}");
}

#[test]
fn winding_down_ends_after_the_quiet_tail() {
    let mut world = World::new(builtin::load("demo").unwrap());
    for _ in 0..60 {
        world.next_frames().unwrap();
    }
    world.wind_down();
    let before = world.truth().movements.len();
    while world.next_frames().is_some() {}
    assert_eq!(world.now(), 60_000_000 + (world.scenario().quiet_tail_s * 1e6) as u64);
    // Whoever had a hand on a shelf finishes.
    assert!(world.truth().movements.len() <= before + 3);
}

#[test]
fn the_layout_speaks_of_known_things_only() {
    let world = World::new(builtin::load("demo").unwrap());
    let layout = world.layout();
    let ids = |key: &str, id: &str| -> BTreeSet<String> {
        let items = layout[key].as_array().unwrap();
        items.iter().map(|x| x[id].as_str().unwrap().to_owned()).collect()
    };
    let slots = ids("slots", "id");
    assert_eq!((slots.len(), ids("skus", "id").len(), ids("shelves", "id").len()), (24, 20, 6));
    assert_eq!(ids("planogram", "slot"), slots);
    assert!(ids("planogram", "sku").is_subset(&ids("skus", "id")));
    assert!(ids("shelves", "zone").is_subset(&ids("zones", "id")));
    assert!(ids("slots", "shelf").is_subset(&ids("shelves", "id")));
    for key in ["zones", "shelves", "slots", "planogram", "devices"] {
        assert_eq!(ids(key, "facility"), ["corner-market".to_owned()].into());
    }
    assert_eq!(ids("devices", "id").len(), world.devices().len());
    // The first slots stand on Modbus transmitters, with the profile and the channel names of their make.
    let first = &layout["devices"][0];
    assert_eq!(first["profile"], "laumas-tlb");
    assert_eq!(first["channels"][0]["slot"], "A-01");
    let devices = layout["devices"].as_array().unwrap();
    let dini = devices.iter().find(|d| d["profile"] == "dini-argeo-dgt4x").unwrap();
    let channel = &dini["channels"][1];
    assert_eq!(channel["channel"], "2");
    assert_eq!(channel["slot"], "B-02");
    assert_eq!(channel["zero_mg"], 1_200_000);
    let counts = world.initial_counts();
    assert_eq!(counts.len(), 8);
    assert_eq!(counts[0].path, "/facilities/corner-market/counts");
    assert_eq!(counts[0].body["slot"], "E-01");
}
