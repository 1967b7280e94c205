//! What readers of several makes say: frames in the form their vendors document, written for this test, and what they mean.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a test may panic"
)]

use device_profiles::{
    DecodeReject, Measurement, Profile, ReaderEvent, ScanMode, Tag, TopicMap, decode,
    limits::{FRAME_BYTES_MAX, TAGS_MAX},
    r200::{self, Deframer, FrameKind, Marks, PARAMETERS_BYTES_MAX, R200_BYTES_MAX, command},
    shipped::shipped,
    time::parse_rfc3339_us,
};
use proptest::prelude::*;

fn profile(name: &str) -> Profile {
    Profile::parse(shipped(name).unwrap()).unwrap()
}

/// What a frame says, in short.
fn said(name: &str, stream: &str, frame: &str) -> Vec<String> {
    shown(decode(&profile(name), stream, frame.as_bytes()))
}

fn shown(reading: Result<device_profiles::Reading, DecodeReject>) -> Vec<String> {
    let measurements = match reading {
        Ok(reading) => reading.measurements,
        Err(reject) => return vec![reject.code().to_owned()],
    };
    let rssi = |rssi: Option<i16>| rssi.map_or("-".into(), |rssi| rssi.to_string());
    measurements
        .iter()
        .map(|measurement| match measurement {
            Measurement::Tag(read) => {
                format!("{} @{} {} x{}", read.tag, read.antenna, rssi(read.rssi_cdbm), read.reads)
            }
            Measurement::Reader(event) => format!("{event:?}"),
            Measurement::Numbers { first, last, missing } => format!("{first}-{last} -{missing}"),
            Measurement::Scan { code, mode, .. } => format!("scan {code} {mode:?}"),
            other => format!("{other:?}"),
        })
        .collect()
}

const IMPINJ: &str = r#"{"timestamp":"2026-11-24T07:00:00.5Z","hostname":"impinj-01","eventType":"tagInventory","tagInventoryEvent":{"epc":"ftqQOAUQAnEAAsCu","epcHex":"7EDA9038051002710002C0AE","antennaPort":2,"peakRssiCdbm":-5650,"lastSeenTime":"2026-11-24T07:00:00.1Z"}}"#;
const IMPINJ_TAG: &str = "7EDA9038051002710002C0AE @2 -5650 x1";

#[test]
fn impinj_events_as_an_object_an_array_and_lines() {
    let one = |frame: &str| said("impinj-iot", "reads", frame);
    assert_eq!(one(IMPINJ), [IMPINJ_TAG]);
    assert_eq!(one(&format!("[{IMPINJ},{IMPINJ}]")), [IMPINJ_TAG; 2]);
    assert_eq!(one(&format!("{IMPINJ}\r\n{IMPINJ}\n\n")), [IMPINJ_TAG; 2]);
    assert_eq!(one(&format!("[{IMPINJ}]{IMPINJ}")), [IMPINJ_TAG; 2]);
    // Hexadecimal is off by default, and so are antenna and signal.
    let base64 = r#"{"tagInventoryEvent":{"epc":"ftqQOAUQAnEAAsCu"}}"#;
    assert_eq!(one(base64), ["7EDA9038051002710002C0AE @1 - x1"]);
    assert_eq!(one("[]"), Vec::<String>::new());
}

#[test]
fn impinj_times_are_those_of_the_read_where_it_has_one() {
    let at = |frame: &str| {
        let reading = decode(&profile("impinj-iot"), "reads", frame.as_bytes()).unwrap();
        let Some(Measurement::Tag(read)) = reading.measurements.first() else { panic!() };
        assert_eq!(read.device_us, reading.device_us);
        read.device_us
    };
    assert_eq!(at(IMPINJ), parse_rfc3339_us("2026-11-24T07:00:00.1Z"));
    let queued = IMPINJ.replace(r#","lastSeenTime":"2026-11-24T07:00:00.1Z""#, "");
    assert_eq!(at(&queued), parse_rfc3339_us("2026-11-24T07:00:00.5Z"));
}

#[test]
fn impinj_losses_and_states_are_told() {
    for (frame, told) in [
        (r#"{"eventType":"overflow","overflowEvent":{}}"#, "Overflow { reads: None }"),
        (r#"{"inventoryStatusEvent":{"inventoryStatus":"running"}}"#, "Started"),
        (r#"{"inventoryStatusEvent":{"status":"idle"}}"#, "Stopped"),
        (
            r#"{"antennaDisconnectedEvent":{"antennaPort":3}}"#,
            "Antenna { port: 3, connected: false }",
        ),
        (r#"{"antennaConnectedEvent":{"antennaPort":1}}"#, "Antenna { port: 1, connected: true }"),
        ("connected", "Connected"),
        (" connection lost\n", "Stopped"),
        ("disconnected", "Stopped"),
    ] {
        assert_eq!(said("impinj-iot", "reads", frame), [told], "{frame}");
    }
    // What says nothing of tags is a sign of life.
    for frame in [
        r#"{"eventType":"antennaActivation","antennaActivationEvent":{"antennaPort":1}}"#,
        r#"{"timestamp":"2026-11-24T07:00:00Z","eventType":"somethingNew"}"#,
        r#"{"inventoryStatusEvent":{"inventoryStatus":"armed"}}"#,
    ] {
        assert_eq!(said("impinj-iot", "reads", frame), Vec::<String>::new(), "{frame}");
    }
    // A tag that is none does not lose the others.
    let empty = r#"{"tagInventoryEvent":{"epc":""}}"#;
    let told = said("impinj-iot", "reads", &format!("[{empty},{IMPINJ},{empty}]"));
    assert_eq!(told.len(), 2);
    assert!(told[0] == IMPINJ_TAG && told[1].contains("2 tags with an empty"), "{told:?}");
}

#[test]
fn what_is_no_event_of_impinj_is_named() {
    for (frame, code) in [
        ("", "empty"),
        (" \n", "empty"),
        ("{", "not_json"),
        ("7", "wrong_type"),
        ("[7]", "wrong_type"),
        ("{}", "missing_field"),
        (r#"{"a":1}"#, "missing_field"),
        (r#"{"antennaConnectedEvent":{}}"#, "missing_field"),
        ("connected to nothing", "not_json"),
    ] {
        assert_eq!(said("impinj-iot", "reads", frame), [code], "{frame}");
    }
}

fn zebra(number: u64) -> String {
    format!(
        r#"{{"type":"SIMPLE","timestamp":"2026-11-24T07:00:00.500+0000","data":{{"eventNum":{number},"format":"epc","idHex":"7EDA9038051002710002C0AE","antenna":1,"peakRssi":-60,"reads":3}}}}"#
    )
}
const ZEBRA_TAG: &str = "7EDA9038051002710002C0AE @1 -6000 x3";

#[test]
fn zebra_events_as_an_object_an_array_and_glued() {
    let one = |frame: &str| said("zebra-iotc", "reads", frame);
    assert_eq!(one(&zebra(17)), [ZEBRA_TAG, "17-17 -0"]);
    assert_eq!(one(&format!("{}{}", zebra(17), zebra(18))), [ZEBRA_TAG, ZEBRA_TAG, "17-18 -0"]);
    // Out of order, twice, and with a gap: 19, 20 and 21 never came.
    let flood = format!("[{},{},{},{}]", zebra(22), zebra(17), zebra(18), zebra(18));
    assert_eq!(one(&flood).last().unwrap(), "17-22 -3");
    let reading = decode(&profile("zebra-iotc"), "reads", zebra(1).as_bytes()).unwrap();
    assert_eq!(reading.device_us, parse_rfc3339_us("2026-11-24T07:00:00.5Z"));
    let heartbeat = r#"{"type":"heartbeat","timestamp":"2026-11-24T07:00:00+0000","data":{"radio_control":{}}}"#;
    assert_eq!(one(heartbeat), Vec::<String>::new());
    for (frame, code) in [
        ("", "empty"),
        ("{}", "missing_field"),
        ("[[]]", "wrong_type"),
        ("{}{", "not_json"),
        ("{\"data\":1},{}", "not_json"),
    ] {
        assert_eq!(one(frame), [code], "{frame}");
    }
    // Too far apart to be a gap.
    let all = format!(r#"{{"data":{{"eventNum":0}}}}{{"data":{{"eventNum":{}}}}}"#, u64::MAX);
    assert_eq!(one(&all), [format!("0-{} -0", u64::MAX)]);
}

#[test]
fn a_zebra_sled_reads_tags_and_codes() {
    let frame = r#"{"type":"dataEVT","timestamp":"2026-11-24T09:00:00.5+0200","data":{"tagData":[{"epcId":"3034257BF7194E4000001A85","rssi":-48,"seenCount":2},{"epcId":"zz"}],"barcodeData":[{"decodedBarcode":"4006381333931","symbology":"EAN13"},{"decodedBarcode":"]C10109506000134352"}]}}"#;
    let told = said("zebra-iotc", "sled", frame);
    assert_eq!(told.len(), 4);
    assert_eq!(
        told[..3],
        [
            "3034257BF7194E4000001A85 @1 -4800 x2",
            "scan 04006381333931 Receive",
            "scan 09506000134352 Receive"
        ]
    );
    assert_eq!(said("zebra-iotc", "reads", frame).len(), 2, "no scan where none is wanted");
    let bad = r#"{"data":{"barcodeData":[{"decodedBarcode":"]C10109506000134353"}]}}"#;
    assert_eq!(said("zebra-iotc", "sled", bad), ["not_message"]);
}

#[test]
fn json_of_any_make_by_its_field_map() {
    let frame = r#"{"tags":[{"epc":"3034257BF7194E4000001A85","antenna":2,"rssi":-52.46,"count":3},{"epc":"aabb","time":1795496400500}],"time":"2026-11-24T07:00:00Z"}"#;
    let told = said("generic-rfid", "reads", frame);
    assert_eq!(told, ["3034257BF7194E4000001A85 @2 -5246 x3", "AABB @1 - x1"]);
    let reading = decode(&profile("generic-rfid"), "reads", frame.as_bytes()).unwrap();
    let at: Vec<_> = reading
        .measurements
        .iter()
        .map(|m| if let Measurement::Tag(read) = m { read.device_us } else { None })
        .collect();
    assert_eq!(at, [parse_rfc3339_us("2026-11-24T07:00:00Z"), Some(1_795_496_400_500_000)]);
    assert_eq!(said("generic-rfid", "reads", r#"{"tags":[]}"#), Vec::<String>::new());
    for (frame, code) in [
        (r#"{"tags":{}}"#, "wrong_type"),
        (r"{}", "missing_field"),
        (r#"{"tags":[{}]}"#, "missing_field"),
        (r#"{"tags":[{"epc":5}]}"#, "wrong_type"),
        (r#"{"tags":[{"epc":"AA","antenna":70000}]}"#, "out_of_range"),
        (r#"{"tags":[{"epc":"AA","rssi":1e9}]}"#, "out_of_range"),
        (r#"{"tags":[{"epc":"AA","time":"never"}]}"#, "wrong_type"),
    ] {
        assert_eq!(said("generic-rfid", "reads", frame), [code], "{frame}");
    }
    let flat = Profile::parse(
        "name: x\ncodec: json\nstreams:\n  s: {class: stock, dedupe: level, tags: {epc: /id, encoding: base64, rssi: {path: /cdbm, scale: 1}}}\n",
    )
    .unwrap();
    let told = shown(decode(&flat, "s", br#"{"id":"ftqQOAUQAnEAAsCu","cdbm":-4012}"#));
    assert_eq!(told, ["7EDA9038051002710002C0AE @1 -4012 x1"]);
}

#[test]
fn tag_streams_that_cannot_be_are_refused() {
    for (codec, stream, why) in [
        ("json", "{class: stock, dedupe: level, tags: {}}", "need epc"),
        ("json", "{class: telemetry, dedupe: level, tags: {epc: /e}}", "class: stock"),
        ("json", "{class: stock, dedupe: level, tags: {epc: e}}", "pointer"),
        (
            "json",
            "{class: stock, dedupe: level, tags: {epc: /e, rssi: {path: /r, scale: 1e9}}}",
            "scale",
        ),
        ("json", "{class: stock, dedupe: payload, tags: {epc: /e, scans: pick}}", "zebra"),
        ("impinj", "{class: stock, dedupe: level, tags: {epc: /e}}", "knows where"),
        ("zebra", "{class: stock, dedupe: level, tags: {antenna: /a}}", "knows where"),
        ("zebra", "{class: stock, dedupe: level, tags: {scans: pick}}", "dedupe must be payload"),
        ("zebra", "{class: stock, dedupe: level, tags: {patience_ms: 0}}", "1 or more"),
        ("raw", "{class: stock, dedupe: level, tags: {}}", "needs codec"),
        ("scanner", "{class: stock, dedupe: payload, code: {}}", "must be seq"),
        ("serial-rfid", "{class: stock, dedupe: level, weight: {}}", "weighs nothing"),
    ] {
        let text = format!("name: x\ncodec: {codec}\nstreams:\n  s: {stream}\n");
        let error = Profile::parse(&text).unwrap_err().to_string();
        assert!(error.contains(why), "{codec} {stream}: {error}");
    }
    for codec in ["serial-rfid", "scanner", "sparkplug", "llrp"] {
        let text = format!(
            "name: x\ncodec: {codec}\ntopics: [{{pattern: \"a/{{device}}/{{stream}}\"}}]\nstreams: {{s: {{class: stock, dedupe: level, tags: {{}}}}}}\n"
        );
        assert!(Profile::parse(&text).is_err(), "{codec} has no topics");
    }
}

#[test]
fn readers_are_found_by_their_topics() {
    let all = ["impinj-iot", "zebra-iotc", "generic-rfid"].map(profile);
    let map = TopicMap::of(&all);
    for (topic, device, stream) in [
        ("impinj/door 1/events", "door::201", "reads"),
        ("impinj/door1/status", "door1", "reads"),
        ("zebra/fx-7/d-evt", "fx-7", "reads"),
        ("acme/DATA/clients/data1event/RFD40-1", "RFD40-1", "sled"),
        ("rfid/gate/reads", "gate", "reads"),
    ] {
        let found = map.candidates(topic);
        assert_eq!(found.len(), 1, "{topic}");
        let route = found[0].route.clone().unwrap();
        assert_eq!((route.device.as_str(), route.stream.as_str()), (device, stream), "{topic}");
    }
}

/// The frame of the manufacturer's manual: RSSI −57 dBm.
const MANUAL: &str = "AA02220011C73000E28068900000500E88C6A4A7119B29DD";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn serial_modules_say_tags() {
    let module = profile("r200");
    let one = |raw: &[u8]| shown(decode(&module, "reads", raw));
    let manual = bytes(MANUAL);
    assert_eq!(one(&manual), ["E28068900000500E88C6A4A7 @1 -5700 x1"]);
    let epc = bytes("E28068900000500E88C6A4A7");
    assert_eq!(r200::notice(Marks::Aa, -57, &epc), manual, "we write what the manual has");
    assert_eq!(
        r200::multi_inventory(Marks::Bb, 0xFFFF),
        bytes("BB00270003 22FFFF4A7E".replace(' ', "").as_str())
    );
    assert_eq!(r200::stop(Marks::Bb), bytes("BB00280000287E"));
    assert_eq!(
        r200::region(Marks::Bb, 1),
        bytes("BB000700010109".to_owned().as_str()).into_iter().chain([0x7E]).collect::<Vec<_>>()
    );
    let answer = |code: u8| r200::frame(Marks::Bb, FrameKind::Response, command::FAILED, &[code]);
    assert_eq!(one(&answer(0x15)), Vec::<String>::new());
    assert!(one(&answer(0x17))[0].contains("0x17"));
    assert_eq!(one(&r200::frame(Marks::Bb, FrameKind::Response, command::STOP, &[0])), ["Stopped"]);
    let two = [manual.clone(), answer(0x15), r200::notice(Marks::Bb, -40, &[0xAA, 0xBB])].concat();
    assert_eq!(one(&two), ["E28068900000500E88C6A4A7 @1 -5700 x1", "AABB @1 -4000 x1"]);
    // A tag whose own checksum is wrong was heard by nobody.
    let mut parameters = manual[5..22].to_vec();
    parameters[16] ^= 1;
    let broken = r200::frame(Marks::Bb, FrameKind::Notice, command::SINGLE, &parameters);
    assert!(one(&broken)[0].contains("1 tags with an empty or an impossible"));
    for raw in [&b""[..], b"\x00", &manual[..23], &[&manual[..], b"\x00"].concat()] {
        assert_eq!(one(raw), ["not_message"], "{raw:02x?}");
    }
}

#[test]
fn a_line_that_brings_no_frame_holds_no_more_than_one() {
    let mut deframer = Deframer::default();
    for _ in 0..1_000 {
        assert!(deframer.push(&[0xBB, 0x02, 0x22, 0x01, 0x00].repeat(50)).is_empty());
        assert!(deframer.held() < R200_BYTES_MAX);
    }
    let before = deframer.noise();
    deframer.forget();
    assert_eq!(deframer.held(), 0);
    assert!(deframer.noise() >= before);
    assert_eq!(deframer.push(&bytes(MANUAL)), bytes(MANUAL));
}

proptest! {
    /// Frames among noise, cut anywhere: every frame that is whole comes out whole, unless the noise before it could have
    /// become a frame that goes on into it.
    #[test]
    fn frames_come_out_of_noise(
        frames in proptest::collection::vec((0_u8..3, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 1..12),
        noise in proptest::collection::vec(proptest::collection::vec((0_u8..=255).prop_filter("no beginning", |b| !matches!(b, 0xAA | 0xBB)), 0..10), 12),
        size in 1_usize..40,
    ) {
        let (mut line, mut sent, mut other) = (Vec::new(), Vec::new(), 0);
        for ((kind, number, parameters), noise) in frames.iter().zip(&noise) {
            let kind = [FrameKind::Command, FrameKind::Response, FrameKind::Notice][usize::from(*kind)];
            let marks = if *number % 2 == 0 { Marks::Aa } else { Marks::Bb };
            let frame = r200::frame(marks, kind, *number, parameters);
            line.extend(noise);
            other += noise.len();
            line.extend(&frame);
            sent.extend(frame);
        }
        let mut deframer = Deframer::default();
        let came: Vec<u8> = line.chunks(size).flat_map(|piece| deframer.push(piece)).collect();
        prop_assert_eq!(came, sent);
        prop_assert_eq!(deframer.noise(), other as u64);
    }

    #[test]
    fn a_tag_comes_back_as_it_was(epc in proptest::collection::vec(any::<u8>(), 1..31).prop_map(|half| half.repeat(2)), rssi in any::<i8>()) {
        let raw = r200::notice(Marks::Bb, rssi, &epc);
        let reading = decode(&profile("r200"), "reads", &raw).unwrap();
        let [Measurement::Tag(read)] = reading.measurements[..] else { panic!("{reading:?}") };
        prop_assert_eq!(read.tag, Tag::of_bytes(&epc).unwrap());
        prop_assert_eq!(read.rssi_cdbm, Some(i16::from(rssi) * 100));
    }
}

#[test]
fn frames_of_the_largest_size_are_bounded() {
    assert!(
        r200::frame(Marks::Bb, FrameKind::Notice, 0, &[0; 9_999]).len() <= PARAMETERS_BYTES_MAX + 7
    );
    // As many tags as fit, and one frame that is too long.
    let short = r#"{"tagInventoryEvent":{"epcHex":"AA"}}"#;
    let most = FRAME_BYTES_MAX / short.len();
    assert_eq!(said("impinj-iot", "reads", &short.repeat(most)).len(), most);
    assert_eq!(said("impinj-iot", "reads", &short.repeat(most + 1)), ["too_large"]);
    let tiny = r200::notice(Marks::Bb, 0, &[0xAA, 0xBB]);
    let many = tiny.repeat(FRAME_BYTES_MAX / tiny.len());
    let read = shown(decode(&profile("r200"), "reads", &many));
    assert!(read.len() <= TAGS_MAX);
    for deep in ["[".repeat(100_000), r#"{"data":"#.repeat(10_000)] {
        for (name, stream) in
            [("impinj-iot", "reads"), ("zebra-iotc", "sled"), ("generic-rfid", "reads")]
        {
            assert_eq!(said(name, stream, &deep), ["too_deep"]);
        }
    }
    let huge = " ".repeat(10 * 1024 * 1024);
    assert_eq!(said("zebra-iotc", "reads", &huge), ["too_large"]);
}

#[test]
fn a_scan_of_a_sled_means_what_the_profile_says() {
    let text = shipped("zebra-iotc").unwrap().replace("scans: receive", "scans: pick");
    let frame = r#"{"data":{"barcodeData":[{"decodedBarcode":"BIN-7"}]}}"#;
    let reading = decode(&Profile::parse(&text).unwrap(), "sled", frame.as_bytes()).unwrap();
    let [Measurement::Scan { mode, code, .. }] = &reading.measurements[..] else { panic!() };
    assert_eq!((*mode, code.as_str()), (ScanMode::Pick, "BIN-7"));
    assert!(!matches!(reading.measurements[0], Measurement::Reader(ReaderEvent::Connected)));
}
