//! The ranges of a scenario's values, each refusal naming its key and the range.

use crate::modbus::trouble::{TroubleKind, TroubleSpec};
use crate::scenario::{
    CellSpec, DEVICES_MAX, LinkSpec, PeopleSpec, SKUS_MAX, SLOTS_MAX, Scenario, UnitsSpec,
};
use std::collections::BTreeSet;

type Check = Result<(), (String, String)>;

/// Longest scenario, seconds: ten years.
const DURATION_S_MAX: f64 = 3.2e8;
/// Fastest cell, Hz.
const RATE_HZ_MAX: f64 = 1_000.0;
/// Highest rate of a thing that happens per hour.
const PER_HOUR_MAX: f64 = 3.6e6;

fn need(ok: bool, key: &str, detail: &str) -> Check {
    if ok { Ok(()) } else { Err((key.to_owned(), detail.to_owned())) }
}

fn within(x: f64, lo: f64, hi: f64, key: &str) -> Check {
    // A comparison with NaN is false, so NaN is refused too.
    need(x >= lo && x <= hi, key, &format!("{x} is not within {lo}..={hi}"))
}

fn id(text: &str, key: &str) -> Check {
    let ok = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
    need(ok, key, &format!("\"{text}\" is not an id: 1 to 64 of A-Z a-z 0-9 . _ : -"))
}

/// Checks every range; the error is (key, detail).
pub(crate) fn check(s: &Scenario) -> Check {
    within(s.duration_s, 0.001, DURATION_S_MAX, "duration_s")?;
    within(s.quiet_tail_s, 0.0, s.duration_s, "quiet_tail_s")?;
    id(&s.facility.id, "facility.id")?;
    let f = &s.facility;
    need((1..=1_000).contains(&f.zones), "facility.zones", "must be 1 to 1000")?;
    need((1..=SLOTS_MAX).contains(&f.shelves), "facility.shelves", "must be 1 to 100000")?;
    need(
        (1..=1_000).contains(&f.slots_per_shelf),
        "facility.slots_per_shelf",
        "must be 1 to 1000",
    )?;
    need(s.slots() <= SLOTS_MAX, "facility", &format!("more than {SLOTS_MAX} slots"))?;
    need((1..=SKUS_MAX).contains(&s.sku.len()), "sku", &format!("1 to {SKUS_MAX} are needed"))?;
    let mut seen = BTreeSet::new();
    for (i, sku) in s.sku.iter().enumerate() {
        let key = |field: &str| format!("sku[{i}].{field}");
        id(&sku.id, &key("id"))?;
        need(seen.insert(&sku.id), &key("id"), &format!("\"{}\" is given twice", sku.id))?;
        let weight_ok = (1..=1_000_000_000).contains(&sku.unit_weight_mg);
        need(weight_ok, &key("unit_weight_mg"), "must be 1 mg to 1 t")?;
        // Unit weights are kept above half the mean; a wider spread would be cut into another distribution.
        let sigma_ok = (0..=sku.unit_weight_mg / 8).contains(&sku.unit_sigma_mg);
        need(sigma_ok, &key("unit_sigma_mg"), "must be 0 to an eighth of unit_weight_mg")?;
    }
    planogram(s)?;
    for (i, p) in s.people.iter().enumerate() {
        people(p, &format!("people[{i}]"))?;
    }
    if let Some(p) = &s.schedule {
        units(&p.units, "schedule.units")?;
        within(p.warm_up_s, 0.0, DURATION_S_MAX, "schedule.warm_up_s")?;
        within(p.hand_min_s, 0.0, 60.0, "schedule.hand_min_s")?;
        within(p.hand_max_s, p.hand_min_s, 60.0, "schedule.hand_max_s")?;
        within(p.gap_s, p.hand_max_s, DURATION_S_MAX, "schedule.gap_s")?;
        let end = p.warm_up_s + p.gap_s * (f64::from(p.events_per_slot) + 1.0) + p.hand_max_s;
        need(end <= s.duration_s, "schedule", &format!("needs duration_s of at least {end}"))?;
    }
    cells(&s.cells)?;
    within(s.climate.mean_c, -60.0, 80.0, "climate.mean_c")?;
    within(s.climate.daily_c, 0.0, 60.0, "climate.daily_c")?;
    let mut devices = s.handhelds + s.scanners + s.slots().div_ceil(s.cells.per_device);
    for (i, x) in s.sensor.iter().enumerate() {
        let key = |field: &str| format!("sensor[{i}].{field}");
        id(&x.id_prefix, &key("id_prefix"))?;
        id(&x.stream, &key("stream"))?;
        let known = ["stock", "weight", "scan"].contains(&x.stream.as_str());
        need(!known, &key("stream"), "stock, weight and scan have their own meaning")?;
        within(x.period_s, 0.001, DURATION_S_MAX, &key("period_s"))?;
        need((1..=32).contains(&x.value.len()), &key("value"), "1 to 32 are needed")?;
        for v in &x.value {
            id(&v.name, &key("value.name"))?;
            let finite = [v.mean, v.daily, v.noise].iter().all(|n| n.abs() < 1e12);
            need(
                finite && v.noise >= 0.0,
                &key("value"),
                "mean, daily, noise must be ordinary numbers",
            )?;
        }
        devices = devices.saturating_add(x.count);
    }
    let mut buses = BTreeSet::new();
    for (i, bus) in s.modbus.iter().enumerate() {
        let key = |field: &str| format!("modbus[{i}].{field}");
        id(&bus.id, &key("id"))?;
        need(buses.insert(&bus.id), &key("id"), &format!("\"{}\" is given twice", bus.id))?;
        need((1..=247).contains(&bus.makes.len()), &key("makes"), "1 to 247 are needed")?;
        let baud_ok = bus.baud == 0 || (300..=4_000_000).contains(&bus.baud);
        need(baud_ok, &key("baud"), "must be 0 or 300 to 4000000")?;
        if let Some(p) = bus.faults.bad() {
            return within(p, 0.0, 1.0, &key("faults"));
        }
        for (k, trouble) in bus.trouble.iter().enumerate() {
            self::trouble(trouble, bus.makes.len(), s.duration_s, &key(&format!("trouble[{k}]")))?;
        }
        devices = devices.saturating_add(bus.makes.len());
    }
    need(devices <= DEVICES_MAX, "sensor", &format!("more than {DEVICES_MAX} devices"))?;
    link(&s.link)
}

fn trouble(t: &TroubleSpec, units: usize, duration_s: f64, key: &str) -> Check {
    let k = |field: &str| format!("{key}.{field}");
    let there = t.unit.is_none_or(|unit| (1..=units).contains(&usize::from(unit)));
    need(there, &k("unit"), &format!("the bus has units 1 to {units}"))?;
    within(t.per_hour, 0.0, PER_HOUR_MAX, &k("per_hour"))?;
    need(
        t.at_s.is_some() != (t.per_hour > 0.0),
        &k("at_s"),
        "exactly one of at_s and per_hour is needed",
    )?;
    within(t.at_s.unwrap_or(0.0), 0.0, duration_s, &k("at_s"))?;
    within(t.for_s, 0.001, DURATION_S_MAX, &k("for_s"))?;
    within(t.start_s, 0.0, 3_600.0, &k("start_s"))?;
    let starts = t.kind == TroubleKind::Power || t.start_s == 0.0;
    need(starts, &k("start_s"), "only what was switched off starts up")
}

fn planogram(s: &Scenario) -> Check {
    let p = &s.planogram;
    need(
        p.scan_shelves <= s.facility.shelves,
        "planogram.scan_shelves",
        "more than facility.shelves",
    )?;
    need((1..=100_000).contains(&p.capacity), "planogram.capacity", "must be 1 to 100000")?;
    let order = 0 <= p.initial_min && p.initial_min <= p.initial_max && p.initial_max <= p.capacity;
    need(order, "planogram.initial_min", "0 <= initial_min <= initial_max <= capacity is needed")?;
    need(
        (0..=p.capacity).contains(&p.reorder_at),
        "planogram.reorder_at",
        "must be 0 to capacity",
    )?;
    let slots: BTreeSet<String> = (0..s.facility.shelves)
        .flat_map(|shelf| (0..s.facility.slots_per_shelf).map(move |k| Scenario::slot_id(shelf, k)))
        .collect();
    let mut seen = BTreeSet::new();
    for (i, line) in s.line.iter().enumerate() {
        let key = |field: &str| format!("line[{i}].{field}");
        let known = slots.contains(&line.slot);
        need(known, &key("slot"), &format!("\"{}\" is no slot of this facility", line.slot))?;
        need(seen.insert(&line.slot), &key("slot"), &format!("\"{}\" is given twice", line.slot))?;
        if let Some(sku) = &line.sku {
            let known = s.sku.iter().any(|x| x.id == *sku);
            need(known, &key("sku"), &format!("\"{sku}\" is not among the SKUs"))?;
        }
        let capacity = line.capacity.unwrap_or(p.capacity);
        need((1..=100_000).contains(&capacity), &key("capacity"), "must be 1 to 100000")?;
        let initial = line.initial.unwrap_or(p.initial_max.min(capacity));
        need((0..=capacity).contains(&initial), &key("initial"), "must be 0 to capacity")?;
        let fits = line.initial.is_some() || p.initial_max <= capacity;
        need(fits, &key("initial"), "is needed where capacity is below planogram.initial_max")?;
    }
    Ok(())
}

fn units(u: &UnitsSpec, key: &str) -> Check {
    need((1..=10_000).contains(&u.max), &format!("{key}.max"), "must be 1 to 10000")?;
    within(u.decay, 0.0, 1.0, &format!("{key}.decay"))
}

fn people(p: &PeopleSpec, key: &str) -> Check {
    let k = |field: &str| format!("{key}.{field}");
    need(p.count <= 10_000, &k("count"), "must be at most 10000")?;
    for (rate, field) in [
        (p.pick_per_hour, "pick_per_hour"),
        (p.put_back_per_hour, "put_back_per_hour"),
        (p.restock_per_hour, "restock_per_hour"),
        (p.misplace_per_hour, "misplace_per_hour"),
        (p.tidy_per_hour, "tidy_per_hour"),
    ] {
        within(rate, 0.0, PER_HOUR_MAX, &k(field))?;
    }
    units(&p.units, &k("units"))?;
    units(&p.restock_units, &k("restock_units"))?;
    within(p.hand_min_s, 0.0, 60.0, &k("hand_min_s"))?;
    within(p.hand_max_s, p.hand_min_s, 60.0, &k("hand_max_s"))?;
    within(p.together, 0.0, 1.0, &k("together"))?;
    within(p.forgets, 0.0, 1.0, &k("forgets"))
}

fn cells(c: &CellSpec) -> Check {
    need((1..=256).contains(&c.per_device), "cells.per_device", "must be 1 to 256")?;
    need((1..=1_000_000).contains(&c.division_mg), "cells.division_mg", "must be 1 mg to 1 kg")?;
    need((0..=1_000_000_000).contains(&c.dead_load_mg), "cells.dead_load_mg", "must be 0 to 1 t")?;
    for (x, key) in [
        (c.noise_mg, "cells.noise_mg"),
        (c.plateau_noise_mg, "cells.plateau_noise_mg"),
        (c.hand_force_mg, "cells.hand_force_mg"),
        (c.spike_mg, "cells.spike_mg"),
        (c.stable_band_mg, "cells.stable_band_mg"),
    ] {
        within(x, 0.0, 1e9, key)?;
    }
    within(c.creep_mg_per_day, -1e9, 1e9, "cells.creep_mg_per_day")?;
    within(c.temperature_mg_per_c, -1e9, 1e9, "cells.temperature_mg_per_c")?;
    within(c.creep_fraction, -0.1, 0.1, "cells.creep_fraction")?;
    within(c.creep_tau_s, 0.001, 1e6, "cells.creep_tau_s")?;
    within(c.settle_tau_s, 0.0, 60.0, "cells.settle_tau_s")?;
    within(c.ring_fraction, 0.0, 1.0, "cells.ring_fraction")?;
    within(c.ring_hz, 0.0, RATE_HZ_MAX, "cells.ring_hz")?;
    within(c.spike_rate, 0.0, 1.0, "cells.spike_rate")?;
    within(c.rate_hz, 1e-5, RATE_HZ_MAX, "cells.rate_hz")?;
    need((1..=1_000).contains(&c.change_divisions), "cells.change_divisions", "must be 1 to 1000")?;
    within(c.heartbeat_s, 0.001, 1e7, "cells.heartbeat_s")?;
    within(c.stable_window_s, 0.0, 60.0, "cells.stable_window_s")?;
    c.event_sigma_ratio.map_or(Ok(()), |r| within(r, 0.001, 1.0, "cells.event_sigma_ratio"))
}

fn link(l: &LinkSpec) -> Check {
    for (p, key) in [
        (l.drop_rate, "link.drop_rate"),
        (l.duplicate_rate, "link.duplicate_rate"),
        (l.late_rate, "link.late_rate"),
    ] {
        within(p, 0.0, 1.0, key)?;
    }
    for (rate, key) in [
        (l.outage_per_hour, "link.outage_per_hour"),
        (l.reboot_per_hour, "link.reboot_per_hour"),
        (l.disconnect_per_hour, "link.disconnect_per_hour"),
    ] {
        within(rate, 0.0, PER_HOUR_MAX, key)?;
    }
    for (s, key) in [
        (l.outage_mean_s, "link.outage_mean_s"),
        (l.late_max_s, "link.late_max_s"),
        (l.reboot_s, "link.reboot_s"),
        (l.clock_offset_max_s, "link.clock_offset_max_s"),
    ] {
        within(s, 0.0, 1e9, key)?;
    }
    need(l.qos <= 1, "link.qos", "must be 0 or 1")?;
    need(l.boot_id || l.reboot_per_hour == 0.0, "link.boot_id", "is needed where devices reboot")?;
    need(
        (1..=10_000_000).contains(&l.keep_frames_max),
        "link.keep_frames_max",
        "must be 1 to 10000000",
    )
}

#[cfg(test)]
mod tests {
    use crate::builtin;

    #[test]
    fn troubles_that_cannot_be_are_refused_by_key() {
        let good = builtin::load("power").unwrap();
        let refused = |change: &dyn Fn(&mut crate::modbus::trouble::TroubleSpec)| {
            let mut scenario = good.clone();
            change(&mut scenario.modbus[0].trouble[1]);
            super::check(&scenario).unwrap_err().0
        };
        let key = |field: &str| format!("modbus[0].trouble[1].{field}");
        assert_eq!(refused(&|t| t.unit = Some(5)), key("unit"));
        assert_eq!(refused(&|t| t.per_hour = 1.0), key("at_s"));
        assert_eq!(refused(&|t| t.at_s = None), key("at_s"));
        assert_eq!(refused(&|t| t.at_s = Some(1e9)), key("at_s"));
        assert_eq!(refused(&|t| t.for_s = 0.0), key("for_s"));
        assert_eq!(refused(&|t| t.start_s = 1.0), key("start_s"));
    }
}
