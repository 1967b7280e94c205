//! Golden register images of the shipped weighing transmitters: what stands in the registers, worked out by hand from each
//! manual, and what it must mean.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a test may panic"
)]

use device_profiles::{
    CellFault, Measurement, Profile, decode,
    modbus::{Image, ImageWriter, Request, Table},
    shipped::SHIPPED,
};

fn profile(name: &str) -> Profile {
    let (_, text) = SHIPPED.iter().find(|(n, _)| *n == name).unwrap();
    Profile::parse(text).unwrap()
}

/// Registers by the manual's numbers, `first` being the manual's number of address 0.
fn image(profile: &Profile, first: u32, registers: &[(u32, u16)]) -> Vec<u8> {
    let poll = profile.streams["weight"].poll.as_ref().unwrap();
    let mut writer = ImageWriter::default();
    for Request { table, start, count } in &poll.requests {
        assert_eq!(*table, Table::Holding);
        let word = |at: u32| registers.iter().find(|(n, _)| n - first == at).map_or(0, |(_, w)| *w);
        let words: Vec<u16> = (0..u32::from(*count)).map(|i| word(u32::from(*start) + i)).collect();
        writer.words(*table, *start, &words);
    }
    writer.finish()
}

/// Channel, milligrams, stable, fault.
type Shown = (String, i64, Option<bool>, Option<CellFault>);

fn shown(name: &str, first: u32, registers: &[(u32, u16)]) -> Vec<Shown> {
    let profile = profile(name);
    let image = image(&profile, first, registers);
    let reading = decode(&profile, "weight", &image).unwrap();
    reading
        .measurements
        .into_iter()
        .map(|m| match m {
            Measurement::Weight { channel, mass, stable, fault } => {
                (channel.to_string(), mass.0, stable, fault)
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

fn one(name: &str, first: u32, registers: &[(u32, u16)]) -> (i64, Option<bool>, Option<CellFault>) {
    let mut all = shown(name, first, registers);
    assert_eq!(all.len(), 1);
    let (_, mass, stable, fault) = all.remove(0);
    (mass, stable, fault)
}

#[test]
fn laumas_keeps_the_sign_in_its_status() {
    // 12,502 g, stable (bit 11) and gross (no sign).
    let good = [(40007, 0x0800), (40008, 0), (40009, 12_502)];
    assert_eq!(one("laumas-tlb", 40001, &good), (12_502_000, Some(true), None));
    // 70,000 g = 0x0001_1170, gross negative (bit 7), not stable.
    let below = [(40007, 0x0080), (40008, 0x0001), (40009, 0x1170)];
    assert_eq!(one("laumas-tlb", 40001, &below), (-70_000_000, Some(false), None));
    // Load cell error (bit 0), whatever the other bits say.
    assert_eq!(one("laumas-tlb", 40001, &[(40007, 0x0801)]).2, Some(CellFault::Cell));
    assert_eq!(one("laumas-tlb", 40001, &[(40007, 0x0808)]).2, Some(CellFault::Overload));
}

#[test]
fn dini_argeo_has_four_scales_with_their_status_between() {
    let shown = shown(
        "dini-argeo-dgt4x",
        40001,
        &[
            (40202, 0b10), // scale 1 stable
            (40203, 0),
            (40204, 1_000),
            (40205, 0b11), // scale 2 stable and negative
            (40206, 0),
            (40207, 20),
            (40208, 0b1010), // scale 3 overloaded
            (40211, 0),      // scale 4 moving
            (40212, 0x0001),
            (40213, 0x86A0), // 100,000
        ],
    );
    assert_eq!(
        shown,
        [
            ("1".into(), 1_000_000, Some(true), None),
            ("2".into(), -20_000, Some(true), None),
            ("3".into(), 0, Some(false), Some(CellFault::Overload)),
            ("4".into(), 100_000_000, Some(false), None),
        ]
    );
    let requests = &profile("dini-argeo-dgt4x").streams["weight"].poll.clone().unwrap().requests;
    assert_eq!(requests.len(), 1, "the four scales are one request: {requests:?}");
}

#[test]
fn seneca_is_a_float() {
    // 1234.5 = 0x449A_5000, bit 4 = stable.
    let good = [(40064, 0x449A), (40065, 0x5000), (40078, 0x0010)];
    assert_eq!(one("seneca-z-sg", 40001, &good), (1_234_500, Some(true), None));
    // Words swapped, the mass is absurd: 0x5000_449A = 8.6e9 g is beyond any scale and rejected.
    let profile = profile("seneca-z-sg");
    let swapped = image(&profile, 40001, &[(40064, 0x5000), (40065, 0x449A), (40078, 0x0010)]);
    assert!(decode(&profile, "weight", &swapped).is_err());
    // 400 = 0x43C8_0000: swapped it is 2.4e-41, which is no zero.
    let swapped = image(&profile, 40001, &[(40064, 0x0000), (40065, 0x43C8), (40078, 0x0010)]);
    assert!(decode(&profile, "weight", &swapped).is_err());
    let nan = image(&profile, 40001, &[(40064, 0x7FC0), (40078, 0x0010)]);
    assert!(decode(&profile, "weight", &nan).is_err());
    assert_eq!(
        one("seneca-z-sg", 40001, &[(40064, 0x7FC0), (40078, 0x0002)]).2,
        Some(CellFault::Overload)
    );
}

#[test]
fn flintec_says_unstable_and_where_the_point_is() {
    // 12,345 with three decimals (bits 27-31 = 3: 0x1800_0000) = 12.345 kg; bit 2 clear = stable.
    let good = [(40005, 0), (40006, 12_345), (40007, 0x1800), (40008, 0)];
    assert_eq!(one("flintec-ft-112", 40001, &good), (12_345_000, Some(true), None));
    // −1 with one decimal (0x0800_0000), bit 2 set = unstable.
    let below = [(40005, 0xFFFF), (40006, 0xFFFF), (40007, 0x0800), (40008, 0x0004)];
    assert_eq!(one("flintec-ft-112", 40001, &below), (-100_000, Some(false), None));
    assert_eq!(one("flintec-ft-112", 40001, &[(40010, 0x0010)]).2, Some(CellFault::Overload));
    assert_eq!(one("flintec-ft-112", 40001, &[(40010, 0x0001)]).2, Some(CellFault::Cell));
    // A decimal point that no mass has.
    let profile = profile("flintec-ft-112");
    let image = image(&profile, 40001, &[(40006, 1), (40007, 0xF800)]);
    assert!(decode(&profile, "weight", &image).is_err());
}

#[test]
fn baykon_packs_an_error_code_into_its_status() {
    let good = [(40003, 0b010), (40006, 0), (40007, 2_500)];
    assert_eq!(one("baykon-mx08", 40001, &good), (2_500_000, Some(true), None));
    let moving = [(40003, 0b110), (40006, 0xFFFF), (40007, 0xFFFE)];
    assert_eq!(one("baykon-mx08", 40001, &moving), (-2_000, Some(false), None));
    for (code, fault) in [
        (1, CellFault::Cell),
        (2, CellFault::Overload),
        (3, CellFault::Underload),
        (6, CellFault::Cell),
    ] {
        assert_eq!(
            one("baykon-mx08", 40001, &[(40003, code << 13 | 0b010)]).2,
            Some(fault),
            "{code}"
        );
    }
    assert_eq!(one("baykon-mx08", 40001, &[(40003, 0)]).2, Some(CellFault::Busy));
}

#[test]
fn tuna_says_motion_and_whether_its_data_are_good() {
    // 2.5 = 0x4020_0000; bit 15 = data good, bit 12 clear = no motion.
    let good = [(40003, 0x4020), (40005, 0x8000)];
    assert_eq!(one("tuna-id551pn", 40001, &good), (2_500_000, Some(true), None));
    assert_eq!(one("tuna-id551pn", 40001, &[(40003, 0x4020), (40005, 0x9000)]).1, Some(false));
    assert_eq!(one("tuna-id551pn", 40001, &[(40005, 0x8400)]).2, Some(CellFault::Overload));
    assert_eq!(one("tuna-id551pn", 40001, &[(40005, 0x0000)]).2, Some(CellFault::Busy));
}

#[test]
fn eagle_has_no_flag_and_a_tick_counter() {
    let shown = shown("eagle-ei-4000", 0, &[(0x2000, 0x3F80), (0x2002, 0xBF00), (0, 77)]);
    assert_eq!(shown[0], ("1".into(), 1_000_000, None, None));
    assert_eq!(shown[1], ("2".into(), -500_000, None, None));
    assert_eq!(profile("eagle-ei-4000").streams["weight"].poll.as_ref().unwrap().requests.len(), 2);
}

#[test]
fn the_plan_keeps_a_mass_with_its_status_and_every_device_within_its_limits() {
    for (name, text) in SHIPPED {
        let profile = Profile::parse(text).unwrap();
        let Some(map) = &profile.modbus else { continue };
        for stream in profile.streams.values() {
            let requests = &stream.poll.as_ref().unwrap().requests;
            assert!(requests.iter().all(|r| r.count <= map.registers_max), "{name}: {requests:?}");
            // An image of just what is polled has every field that decoding asks for.
            let mut writer = ImageWriter::default();
            for r in requests {
                writer.words(r.table, r.start, &vec![0; r.count.into()]);
            }
            let frame = writer.finish();
            assert!(Image::parse(&frame).is_ok());
            decode(&profile, "weight", &frame).unwrap();
        }
    }
}

#[test]
fn impossible_maps_are_refused_with_the_reason() {
    let with = |map: &str, scale: &str| {
        Profile::parse(&format!(
            "name: x\ncodec: modbus\nmodbus:\n  source: test\n{map}\nstreams:\n  weight: {{class: stock, dedupe: level, poll_ms: 100, weight: {{scales: [{scale}]}}}}\n"
        ))
    };
    let m = "  fields: {m: {at: 0, type: u32}, s: {at: 40, type: u16}}";
    for (map, scale, word) in [
        (m, "{mass: x}", "mass asks for field \"x\""),
        (m, "{mass: m, stable: {field: q, bit: 1}}", "\"q\", which is not there"),
        (
            "  registers_max: 32\n  fields: {m: {at: 0, type: u32}, s: {at: 40, type: u16}}",
            "{mass: m, stable: {field: s, bit: 1}}",
            "41 registers apart",
        ),
        (
            "  forbidden: [{from: 10, to: 12}]\n  fields: {m: {at: 0, type: u32}, s: {at: 40, type: u16}}",
            "{mass: m, stable: {field: s, bit: 1}}",
            "forbidden register between",
        ),
        (
            "  fields: {m: {at: 0, type: u32}, s: {at: 1, type: u16}}",
            "{mass: m}",
            "overlap in part",
        ),
        (
            "  fields: {m: {at: 0, type: u32}, s: {at: 0, type: bool, table: coil}}",
            "{mass: m, stable: {field: s, bit: 0}}",
            "different tables",
        ),
        ("  fields: {m: {at: 70000, type: u32}}", "{mass: m}", "outside the table"),
        ("  fields: {m: {at: 65535, type: u32}}", "{mass: m}", "beyond address"),
        ("  fields: {m: {at: 0, type: u32, order: XYZW}}", "{mass: m}", "line"),
        ("  fields: {m: {at: 0, type: bool}}", "{mass: m}", "type bool"),
        (
            "  heartbeat: {field: z, still_ms: 1}\n  fields: {m: {at: 0, type: u32}}",
            "{mass: m}",
            "heartbeat",
        ),
        ("  registers_max: 126\n  fields: {m: {at: 0, type: u32}}", "{mass: m}", "1 to 125"),
        (
            "  commands: {z: {steps: [{write: {at: 0, values: [1]}, pause_ms: 5}]}}\n  fields: {m: {at: 0, type: u32}}",
            "{mass: m}",
            "exactly one of",
        ),
        ("  fields: {m: {at: 0, type: u32}}", "{mass: m}, {mass: m}", "there twice"),
    ] {
        let error = with(map, scale).unwrap_err().to_string();
        assert!(error.contains(word), "{map} {scale}: {error}");
    }
}
