//! The simulator writes its payloads without the hub's code; here the default profile must read from them what was
//! meant, on every stream.

// clippy.toml allows this in test functions; their helpers are no less tests.
#![allow(clippy::unwrap_used)]

use device_profiles::profile::DEFAULT_PROFILE;
use device_profiles::{Measurement, Profile, ScanMode, decode};
use simulator::truth::Told;
use simulator::{DeviceKind, Scenario, World, builtin};
use std::collections::BTreeMap;

#[test]
fn the_default_profile_reads_every_frame_as_it_was_meant() {
    let profile = Profile::parse(DEFAULT_PROFILE).unwrap();
    let scenario = builtin::load("rough").unwrap();
    let division = scenario.cells.division_mg;
    let code = scenario.sku[0].gtin.clone().unwrap();
    let mut world = World::new(Scenario { duration_s: 900.0, ..scenario });
    let (mut moved, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    while let Some(frames) = world.next_frames() {
        for f in frames {
            let device = &world.devices()[f.device];
            let reading = decode(&profile, &f.stream, &f.payload).unwrap();
            assert_eq!(reading.seq, Some(f.seq));
            assert_eq!(reading.boot.as_deref(), f.boot.as_deref());
            assert!(reading.device_us.is_some());
            *kinds.entry(f.stream.to_string()).or_insert(0) += 1;
            let key = (device.id.clone(), f.boot.clone(), f.seq);
            for m in reading.measurements {
                match m {
                    Measurement::Weight { channel, mass, stable, .. } => {
                        assert_eq!(device.kind, DeviceKind::Scale);
                        assert!(channel.as_str().parse::<usize>().unwrap() < device.slots.len());
                        assert_eq!(mass.0 % division, 0);
                        assert!(stable.is_some());
                    }
                    Measurement::Stock { sku, delta, slot } => {
                        let slot = slot.unwrap().as_str().to_owned();
                        moved.insert(key.clone(), (slot, Some(sku.as_str().to_owned()), delta.0));
                    }
                    Measurement::Scan { code: said, mode, quantity, slot } => {
                        let delta = if mode == ScanMode::Pick { -quantity.0 } else { quantity.0 };
                        assert_ne!(mode, ScanMode::Count);
                        // A SKU is scanned by its GTIN where it has one, else by its id.
                        let sku = if said == code { "CAN-350".to_owned() } else { said };
                        let slot = slot.unwrap().as_str().to_owned();
                        moved.insert(key.clone(), (slot, Some(sku), delta));
                    }
                    Measurement::Value { name, .. } => assert!(name.contains("temperature_c")),
                    Measurement::Tag(_) | Measurement::Reader(_) | Measurement::Numbers { .. } => {
                        panic!("{m:?}")
                    }
                }
            }
        }
    }
    let streams: Vec<_> = kinds.keys().map(String::as_str).collect();
    assert_eq!(streams, ["climate", "scan", "stock", "weight"]);
    let truth = world.truth();
    for m in &truth.movements {
        if let Told::Sent { device, boot, seq } = &m.told {
            let (slot, sku, delta) = &moved[&(device.clone(), boot.clone(), *seq)];
            assert_eq!((slot.as_str(), *delta), (&*truth.lines[m.line].slot, m.delta));
            assert_eq!(sku.as_deref(), Some(&*m.sku));
        }
    }
}
