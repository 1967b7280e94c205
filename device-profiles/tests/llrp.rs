//! LLRP: bytes of real readers and clients, and what holds for any bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test may panic")]

use device_profiles::llrp::{
    Inventory, LlrpError, Message, Parameter, Power, Stamp, Start, TagReads, Value, add_rospec,
    capabilities, close, delete_rospecs, enable_reports, enable_rospec, frame_length, get_config,
    keepalive_ack, set_config, start_rospec, stop_rospec,
};
use proptest::prelude::*;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(message: &Message) -> String {
    message.encode().unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of a reader: a connection that was granted, a request that was refused, tags.
const GRANTED: &str = "043f000000203afb30a700f600160080000c00058880119f8ead010000060000";
const REFUSED: &str = "04330000003f00000009011f0035006500254c4c5250205b3430395d203a202f2f416363657373537065634944203a20696e76616c6964012000080001012c";
const REPORT: &str = "043d000000460000000000f0003c8de2000017010b01621000000281000386cc87001d82000660f0d465db4384000660f0d465db4388000103ff000e0000651a00000039ebaa";

#[test]
fn what_a_client_says_is_what_others_say() {
    assert_eq!(hex(&keepalive_ack(5)), "04480000000a00000005");
    assert_eq!(hex(&close(1)), "040e0000000a00000001");
    assert_eq!(hex(&capabilities(1)), "04010000000b0000000100");
    assert_eq!(hex(&enable_reports(8)), "04400000000a00000008");
    assert_eq!(hex(&delete_rospecs(7)), "04150000000e0000000700000000");
    assert_eq!(hex(&enable_rospec(3, 1)), "04180000000e0000000300000001");
    assert_eq!(hex(&start_rospec(4, 1)), "04160000000e0000000400000001");
    assert_eq!(hex(&stop_rospec(4, 1)), "04170000000e0000000400000001");
    // Null triggers, antenna 1, Gen2: nothing but what must be there.
    let leaf = |name, fields: Vec<u64>| {
        Parameter::new(name, fields.into_iter().map(Value::Unsigned).collect(), Vec::new())
    };
    let boundary = Parameter::new(
        "ROBoundarySpec",
        Vec::new(),
        vec![leaf("ROSpecStartTrigger", vec![0]), leaf("ROSpecStopTrigger", vec![0, 0])],
    );
    let antennas = vec![Value::Words(vec![1])];
    let within =
        vec![leaf("AISpecStopTrigger", vec![0, 0]), leaf("InventoryParameterSpec", vec![1, 1])];
    let rospec = Parameter::new(
        "ROSpec",
        [1, 0, 0].map(Value::Unsigned).to_vec(),
        vec![boundary, Parameter::new("AISpec", antennas, within)],
    );
    assert_eq!(
        hex(&Message::new(20, 10, Vec::new(), vec![rospec])),
        "04140000003e0000000a00b1003400000001000000b2001200b300050000b60009000000000000b700180001000100b80009000000000000ba0007000101"
    );
}

#[test]
fn what_a_reader_says_is_understood() {
    let granted = Message::decode(&bytes(GRANTED)).unwrap();
    assert_eq!((granted.name(), granted.id), ("READER_EVENT_NOTIFICATION", 989_540_519));
    let data = granted.parameter("ReaderEventNotificationData").unwrap();
    let stamp = data.parameter("UTCTimestamp").unwrap();
    assert_eq!(stamp.number_of("Microseconds"), Some(1_557_458_516_414_125));
    let attempt = data.parameter("ConnectionAttemptEvent").unwrap();
    assert_eq!(attempt.number_of("Status"), Some(0));
    let refused = Message::decode(&bytes(REFUSED)).unwrap();
    let status = refused.parameter("LLRPStatus").unwrap();
    assert_eq!(status.number_of("StatusCode"), Some(101));
    assert_eq!(status.text_of("ErrorDescription"), Some("LLRP [409] : //AccessSpecID : invalid"));
    assert_eq!(status.parameter("FieldError").unwrap().number_of("ErrorCode"), Some(300));
    // What is understood is written as it was.
    for message in [GRANTED, REFUSED, REPORT] {
        assert_eq!(hex(&Message::decode(&bytes(message)).unwrap()), message);
    }
    let error = Message::decode(&bytes("04640000001600000063011f000c00000004626f6f6d")).unwrap();
    assert_eq!(error.parameters[0].text_of("ErrorDescription"), Some("boom"));
}

#[test]
fn tags_are_read_in_place() {
    let report = bytes(REPORT);
    let reads: Vec<_> = TagReads::of(&report).unwrap().map(Result::unwrap).collect();
    assert_eq!(reads.len(), 1);
    let read = reads[0];
    assert_eq!(read.epc, bytes("e2000017010b016210000002"));
    assert_eq!(
        (read.epc_bits, read.antenna, read.channel, read.seen),
        (96, Some(3), Some(29), Some(1))
    );
    assert_eq!(read.rssi_cdbm, Some(-5_206), "Impinj's own figure is the finer one");
    assert_eq!(read.first_seen, Some(Stamp::Utc(1_795_437_332_126_531)));
    assert_eq!(read.last_seen, read.first_seen);
    // A tag that is no EPC-96, two in a report, whole dBm, uptime only, TID and phase.
    let inside = "00f1000a00203000aabb".to_owned() // EPCData of 32 bits
        + "8100018600" // antenna 1, 0 dBm
        + "83000000000000000785000000000000000a"
        + "03ff00120000651a000000370002e2801130" // Impinj TID, two words
        + "03ff000e0000651a000000380400";
    let length = inside.len() / 2 + 4;
    let tag = format!("00f0{length:04x}{inside}");
    let survey = "00f20008deadbeef";
    let body = format!("{tag}{survey}{tag}");
    let message = bytes(&format!("043d{:08x}00000001{body}", body.len() / 2 + 10));
    let reads: Vec<_> = TagReads::of(&message).unwrap().map(Result::unwrap).collect();
    assert_eq!(reads.len(), 2);
    assert_eq!((reads[1].epc, reads[1].epc_bits), (&bytes("3000aabb")[..], 32));
    assert_eq!((reads[1].rssi_cdbm, reads[1].phase), (Some(0), Some(0x400)));
    assert_eq!(
        (reads[1].first_seen, reads[1].last_seen),
        (Some(Stamp::Uptime(7)), Some(Stamp::Uptime(10)))
    );
    assert_eq!(reads[1].tid, Some(&bytes("e2801130")[..]));
    assert_eq!(TagReads::of(&bytes(GRANTED)).err(), Some(LlrpError::Message(63)));
}

#[test]
fn an_inventory_says_what_was_asked() {
    let inventory = Inventory {
        rospec: 7,
        antennas: vec![1, 3],
        start: Start::Gpi { port: 2, high: true, timeout_ms: 5_000 },
        report_tags: 1,
        power: Some(Power { index: 81, hop_table: 1, channel: 1 }),
        mode: Some((1_002, 0)),
        session: 1,
        population: 64,
        impinj: None,
    };
    for start in [
        inventory.start,
        Start::Request,
        Start::Immediate,
        Start::Periodic { offset_ms: 0, period_ms: 1_000, for_ms: 300 },
    ] {
        let asked = add_rospec(1, &Inventory { start, ..inventory.clone() });
        let message = Message::decode(&asked.encode().unwrap()).unwrap();
        assert_eq!(message, asked, "{start:?}");
        let rospec = message.parameter("ROSpec").unwrap();
        assert_eq!(rospec.number_of("CurrentState"), Some(0), "a reader takes disabled ones only");
        let ai = rospec.parameter("AISpec").unwrap();
        assert_eq!(ai.field("AntennaIDs"), Some(&Value::Words(vec![1, 3])));
        let antenna = ai
            .parameter("InventoryParameterSpec")
            .unwrap()
            .parameter("AntennaConfiguration")
            .unwrap();
        assert_eq!(
            antenna.parameter("RFTransmitter").unwrap().number_of("TransmitPower"),
            Some(81)
        );
        let command = antenna.parameter("C1G2InventoryCommand").unwrap();
        let singulation = command.parameter("C1G2SingulationControl").unwrap();
        assert_eq!(singulation.number_of("Session"), Some(1));
        assert_eq!(singulation.number_of("TagPopulation"), Some(64));
    }
    for message in [set_config(2, 10_000, true), get_config(3)] {
        assert_eq!(Message::decode(&message.encode().unwrap()).unwrap(), message);
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let error = |hex: &str| Message::decode(&bytes(hex)).unwrap_err();
    assert_eq!(error("043e"), LlrpError::Short("the header"));
    assert_eq!(error("043e0000000900000005"), LlrpError::Length(9));
    assert_eq!(error("043effffffff00000005"), LlrpError::Length(u32::MAX));
    assert_eq!(error("043e0000000b00000005"), LlrpError::Short("the message"));
    assert_eq!(error("003e0000000a00000005"), LlrpError::Version(0));
    assert_eq!(error("0c3e0000000a00000005"), LlrpError::Version(3));
    // HTTP/1.1 4…
    assert_eq!(error("485454502f312e312034"), LlrpError::First(0x48));
    assert_eq!(error("04050000000a00000005"), LlrpError::Message(5));
    assert_eq!(error("04150000000c000000050000"), LlrpError::Short("DELETE_ROSPEC"));
    // A TLV parameter that is longer than the message, shorter than its header, and one that nobody knows.
    let long = LlrpError::ParameterLength { number: 287, length: 8, left: 4 };
    assert_eq!(error("04640000000e00000005011f0008"), long);
    let short = LlrpError::ParameterLength { number: 287, length: 3, left: 4 };
    assert_eq!(error("04640000000e00000005011f0003"), short);
    let skipped = Message::decode(&bytes("0464000000160000000503840004011f000800000000")).unwrap();
    assert_eq!((skipped.skipped, skipped.parameters.len()), (1, 1));
    // A TV parameter has no length of its own: one that nobody knows ends everything.
    assert_eq!(error("043d0000000f0000000500"), LlrpError::Short("the message"));
    assert_eq!(error("043d0000000b00000005ff"), LlrpError::UnknownTv(127));
    // Parameters in parameters, deeper than any reader's.
    let deep = (0..40_u16).rev().fold(Vec::new(), |inside: Vec<u8>, _| {
        let mut outer = 289_u16.to_be_bytes().to_vec();
        outer.extend(u16::try_from(inside.len() + 8).unwrap().to_be_bytes());
        outer.extend([0; 4]);
        outer.extend(inside);
        outer
    });
    let mut message = bytes("04640000000000000005");
    message.extend(&deep);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    message[2..6].copy_from_slice(&length);
    assert_eq!(Message::decode(&message), Err(LlrpError::Depth));
    // What does not fit is not written.
    let wide = Message::new(21, 1, vec![Value::Unsigned(1 << 32)], Vec::new());
    assert_eq!(wide.encode(), Err(LlrpError::Value("ROSpecID")));
    let missing = Message::new(21, 1, Vec::new(), Vec::new());
    assert!(matches!(missing.encode(), Err(LlrpError::Field { wanted: "ROSpecID", .. })));
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(
        number in prop::sample::select(vec![1_u16, 11, 12, 20, 61, 63, 100, 1023]),
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut message = (0x0400 | number).to_be_bytes().to_vec();
        message.extend(u32::try_from(body.len() + 10).unwrap().to_be_bytes());
        message.extend([0, 0, 0, 1]);
        message.extend(&body);
        if let Ok(decoded) = Message::decode(&message) {
            let again = decoded.encode().unwrap();
            prop_assert_eq!(Message::decode(&again), Ok(Message { skipped: 0, ..decoded }));
        }
        if let Ok(reads) = TagReads::of(&message) {
            prop_assert!(reads.count() <= body.len() / 4 + 1);
        }
        let _ = frame_length(&body);
    }

    /// Real messages, cut and bent: never a panic, and what was cut is never taken for whole.
    #[test]
    fn cut_and_bent_messages_do_no_harm(
        which in prop::sample::select(vec![GRANTED, REFUSED, REPORT]),
        cut in 0_usize..80,
        at in 0_usize..80,
        bit in 0_u8..8,
    ) {
        let mut message = bytes(which);
        let cut = cut.min(message.len());
        if cut < message.len() {
            prop_assert!(Message::decode(&message[..cut]).is_err());
        }
        let at = at % message.len();
        message[at] ^= 1 << bit;
        let _ = Message::decode(&message);
        if let Ok(reads) = TagReads::of(&message) {
            let _ = reads.count();
        }
    }
}
