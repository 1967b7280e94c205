//! Decoding is total: whatever bytes come for whatever stream of whatever shipped profile, there is a reading or a reason, and
//! the same one each time.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

use device_profiles::{
    Measurement, Profile, Value, decode, edgex,
    limits::{MASS_MG_MAX, MEASUREMENTS_MAX, TAGS_MAX},
    profile::{Codec, Kind},
    shipped::SHIPPED,
};
use proptest::prelude::*;

/// Profiles that come with the hub, and one for lines and codes, which no shipped one reads.
fn profiles() -> Vec<Profile> {
    let lines = r#"
name: lines
codec: raw
streams:
  scale: { class: stock, dedupe: level, weight: { line: { form: "{state},{skip},{mass} {unit};{rest}", states: { ST: stable, OL: overload } } } }
  bare: { class: stock, dedupe: level, weight: {} }
  code: { class: stock, dedupe: payload, code: {} }
  comma: { class: telemetry, dedupe: level, value: { type: number, decimal_comma: true, scale: 1.0e300 } }
"#;
    SHIPPED
        .iter()
        .map(|(_, text)| *text)
        .chain([lines])
        .map(|t| Profile::parse(t).unwrap())
        .collect()
}

/// Decodes for every stream of every profile, and for one that is nowhere.
fn sweep(bytes: &[u8]) {
    for profile in profiles() {
        for stream in profile.streams.keys().map(String::as_str).chain(["elsewhere"]) {
            let found = decode(&profile, stream, bytes);
            assert_eq!(found, decode(&profile, stream, bytes));
            let reading = match found {
                Ok(reading) => reading,
                Err(reject) => {
                    assert!(!reject.code().is_empty() && !reject.to_string().is_empty());
                    continue;
                }
            };
            let is_tags = matches!(profile.stream(stream).unwrap().kind, Kind::Tags(_));
            let most = if is_tags { TAGS_MAX + 1 } else { MEASUREMENTS_MAX };
            assert!(reading.measurements.len() <= most);
            // A reader that heard nothing says so by a frame without measurements, a node reports what changed.
            let may_be_empty = is_tags || profile.codec == Codec::Sparkplug;
            assert!(may_be_empty || !reading.measurements.is_empty());
            for measurement in reading.measurements {
                match measurement {
                    Measurement::Weight { mass, .. } => assert!(mass.0.abs() <= MASS_MG_MAX),
                    Measurement::Value { value: Value::Number(n), .. } => assert!(n.is_finite()),
                    Measurement::Value { .. }
                    | Measurement::Stock { .. }
                    | Measurement::Scan { .. }
                    | Measurement::Tag(_)
                    | Measurement::Reader(_)
                    | Measurement::Numbers { .. } => {}
                }
            }
        }
    }
}

/// JSON that looks like what devices send, so that decoding gets past the parser.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>()
            .prop_filter("JSON has no other", |f| f.is_finite())
            .prop_map(|f| f.to_string()),
        "\"[ -!#-\\[\\]-~]{0,8}\"",
    ];
    let key = prop_oneof![
        Just("values"),
        Just("seq"),
        Just("fCnt"),
        Just("object"),
        Just("params"),
        Just("ts"),
        Just("time"),
        Just("code"),
        Just("mode"),
        Just("sku"),
        Just("delta"),
        Just("mass_g"),
        Just("g"),
        Just("rxInfo"),
        Just("devAddr"),
        Just("tagInventoryEvent"),
        Just("epcHex"),
        Just("data"),
        Just("idHex"),
        Just("eventNum"),
        Just("tagData"),
        Just("tags"),
        Just("epc"),
        Just("metrics"),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|v| format!("[{}]", v.join(","))),
            proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|members| {
                let members: Vec<String> =
                    members.into_iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        sweep(&bytes);
    }

    #[test]
    fn any_text(text in "[A-Z0-9,.+; -]{0,24}(kg|g|lb|\r\n|€)?") {
        sweep(text.as_bytes());
    }

    #[test]
    fn any_json(text in json()) {
        sweep(text.as_bytes());
    }

    #[test]
    fn any_registers(function in 0u8..6, start in any::<u16>(), data in proptest::collection::vec(any::<u8>(), 0..260)) {
        // One block that says of itself how long it is, so that it is often sound.
        let items = u16::try_from(data.len() / 2).unwrap();
        let mut frame = vec![1, function];
        for start in [start, 0, 6, 39, 63, 0x2000] {
            frame.truncate(2);
            frame.extend_from_slice(&start.to_be_bytes());
            frame.extend_from_slice(&items.to_be_bytes());
            frame.extend_from_slice(&data[..usize::from(items) * 2]);
            sweep(&frame);
        }
    }

    #[test]
    fn any_text_is_a_profile_or_a_reason(text in "[ -~\n]{0,200}") {
        let _ = Profile::parse(&text);
        let _ = edgex::import(&text, 1_000);
    }

    /// Damage of a sound text, so that the checks behind the parser are reached.
    #[test]
    fn a_damaged_profile_is_a_profile_or_a_reason(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), with in "[ -~\n]{0,3}") {
        let (_, text) = which.get(SHIPPED);
        let at = at.index(text.chars().count());
        let (before, rest): (String, String) =
            (text.chars().take(at).collect(), text.chars().skip(at + 1).collect());
        if let Err(error) = Profile::parse(&format!("{before}{with}{rest}")) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
