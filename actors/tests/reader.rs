//! The session with a reader, step by step on a clock of the test's own, and the actor against readers that misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test may panic"
)]

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use actors::{
    guardian::Policy,
    ports::rng::SplitMix,
    reader::{
        self, Delivered, Dial, Handle, Pipe, ReaderError, ReaderSpec, Session, Sink,
        session::{ANSWER_MS_MAX, Counts, GREETING_MS_MAX, MESSAGE_MS_MAX},
    },
};
use bytes::Bytes;
use device_profiles::{
    DeviceId, LlrpSettings, Profile, decode,
    limits::FRAME_BYTES_MAX,
    llrp::{Message, Parameter, Start, TagReads, Value},
    reading::{Measurement, ReaderEvent},
    shipped::shipped,
};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
};

const MS: u64 = 1_000;

fn number(value: impl Into<u64>) -> Value {
    Value::Unsigned(value.into())
}

fn bytes(number: u16, id: u32, parameters: Vec<Parameter>) -> Vec<u8> {
    Message::new(number, id, Vec::new(), parameters).encode().unwrap()
}

fn event(name: &str, fields: &[u64]) -> Vec<u8> {
    let stamp = Parameter::new("UTCTimestamp", vec![number(1_000_000_u64)], Vec::new());
    let fields = fields.iter().copied().map(Value::Unsigned).collect();
    let inner = vec![stamp, Parameter::new(name, fields, Vec::new())];
    bytes(63, 0, vec![Parameter::new("ReaderEventNotificationData", Vec::new(), inner)])
}

fn greeting(status: u64) -> Vec<u8> {
    event("ConnectionAttemptEvent", &[status])
}

fn rospec_event(kind: u64) -> Vec<u8> {
    event("ROSpecEvent", &[kind, 1, 0])
}

fn status(answer: u16, id: u32, code: u16, text: &str) -> Vec<u8> {
    let fields = vec![number(code), Value::Text(text.into())];
    bytes(answer, id, vec![Parameter::new("LLRPStatus", fields, Vec::new())])
}

fn capabilities(id: u32, vendor: u32, hold: bool) -> Vec<u8> {
    let flat = |name: &str, fields: Vec<Value>| Parameter::new(name, fields, Vec::new());
    let general = flat(
        "GeneralDeviceCapabilities",
        vec![
            number(4_u16),
            number(false),
            number(true),
            number(vendor),
            number(7_u32),
            Value::Text("1.2".into()),
        ],
    );
    let mut fields = vec![
        number(false),
        number(true),
        number(false),
        number(false),
        number(hold),
        number(1_u8),
        number(0_u16),
    ];
    fields.extend([1_u32; 5].map(number));
    let ok = flat("LLRPStatus", vec![number(0_u16), Value::Text(String::new())]);
    bytes(11, id, vec![ok, general, flat("LLRPCapabilities", fields)])
}

fn keepalive(id: u32) -> Vec<u8> {
    bytes(62, id, Vec::new())
}

/// A report of so many tags of 12 bytes.
fn report(tags: u32) -> Vec<u8> {
    let mut out = vec![0x04, 0x3D, 0, 0, 0, 0, 0, 0, 0, 9];
    for tag in 0..tags {
        out.extend([0, 240, 0, 17, 0x8D, 0x30, 0, 0, 0, 0, 0, 0, 0]);
        out.extend(tag.to_be_bytes());
    }
    let length = u32::try_from(out.len()).unwrap().to_be_bytes();
    out[2..6].copy_from_slice(&length);
    out
}

/// Messages that the session sent.
fn sent(session: &mut Session) -> Vec<Message> {
    let bytes = session.outgoing();
    let mut rest = &bytes[..];
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let length = device_profiles::llrp::frame_length(rest).unwrap().unwrap();
        messages.push(Message::decode(&rest[..length]).unwrap());
        rest = &rest[length..];
    }
    messages
}

fn frames(session: &mut Session) -> Vec<Bytes> {
    std::iter::from_fn(|| session.frame()).collect()
}

/// The one message that the session sent, by number, and its id.
fn asked(session: &mut Session) -> (u16, u32) {
    let sent = sent(session);
    let [only] = sent.as_slice() else { panic!("{sent:?}") };
    (only.number, only.id)
}

/// A session that a well-behaved reader has let through to ENABLE_ROSPEC's answer.
fn running(settings: LlrpSettings) -> Session {
    let mut session = Session::new(settings, 0);
    session.receive(&greeting(0), 0).unwrap();
    let (_, id) = asked(&mut session);
    session.receive(&capabilities(id, 1, true), 0).unwrap();
    for answer in [13, 12, 31, 30, 34] {
        let sent = sent(&mut session);
        let request = sent.iter().find(|message| message.number != 64).unwrap();
        session.receive(&status(answer, request.id, 0, ""), 0).unwrap();
    }
    assert!(session.is_running());
    frames(&mut session);
    session.counted();
    session
}

#[test]
fn nothing_is_said_before_the_greeting_and_the_steps_have_their_order() {
    let mut session = Session::new(LlrpSettings::default(), 0);
    session.receive(&keepalive(5), 0).unwrap();
    assert!(sent(&mut session).is_empty());
    session.receive(&greeting(0), 0).unwrap();
    let (what, id) = asked(&mut session);
    assert_eq!(what, 1);
    session.receive(&capabilities(id, 1, true), 0).unwrap();
    let (what, id) = asked(&mut session);
    assert_eq!(what, 3);
    // Reports and events may come between a request and its answer.
    session.receive(&[report(2), event("AntennaEvent", &[1, 2])].concat(), 0).unwrap();
    session.receive(&status(13, id, 0, ""), 0).unwrap();
    let after = sent(&mut session);
    assert_eq!(after.iter().map(|m| m.number).collect::<Vec<_>>(), [64, 2], "what was held first");
    // It has no answer; a reader that refuses it does no harm.
    session.receive(&status(100, after[0].id, 109, "what?"), 0).unwrap();
    session.receive(&antennas(after[1].id, &[true, false]), 0).unwrap();
    let (what, id) = asked(&mut session);
    assert_eq!(what, 21);
    // Nothing to delete is no reason to give up.
    session.receive(&status(31, id, 100, "no ROSpec"), 0).unwrap();
    let (what, id) = asked(&mut session);
    assert_eq!(what, 20);
    session.receive(&status(30, id, 0, ""), 0).unwrap();
    let (what, id) = asked(&mut session);
    assert_eq!(what, 24);
    session.receive(&status(34, id, 0, ""), 0).unwrap();
    assert!(session.is_running() && sent(&mut session).is_empty());
    let kinds: Vec<u8> = frames(&mut session).iter().map(|frame| frame[1]).collect();
    assert_eq!(kinds, [63, 61, 63, 12]);
    assert_eq!(
        session.counted(),
        Counts { reports: 1, reads: 2, events: 2, keepalives: 1, ..Counts::default() }
    );
}

#[test]
fn a_reader_that_does_not_begin_by_itself_is_started_and_one_that_does_is_not() {
    let mut lazy = running(LlrpSettings::default());
    lazy.tick(999 * MS).unwrap();
    assert!(sent(&mut lazy).is_empty());
    lazy.tick(1_000 * MS).unwrap();
    let (what, id) = asked(&mut lazy);
    assert_eq!(what, 22);
    lazy.receive(&status(32, id, 0, ""), 1_000 * MS).unwrap();
    assert!(lazy.is_running() && hears(&mut lazy));
    for sign in [rospec_event(0), report(1)] {
        let mut prompt = running(LlrpSettings::default());
        prompt.receive(&sign, 0).unwrap();
        prompt.tick(2_000 * MS).unwrap();
        assert!(sent(&mut prompt).is_empty());
    }
    let mut stopped = running(LlrpSettings::default());
    stopped.receive(&[rospec_event(0), rospec_event(1)].concat(), 0).unwrap();
    stopped.tick(1_000 * MS).unwrap();
    assert_eq!(asked(&mut stopped).0, 22, "one that ended is told to begin again");
    let gpi = Start::Gpi { port: 1, high: true, timeout_ms: 0 };
    let mut waits = running(LlrpSettings { start: gpi, ..LlrpSettings::default() });
    waits.receive(&[rospec_event(0), rospec_event(1)].concat(), 0).unwrap();
    waits.tick(2_000 * MS).unwrap();
    assert!(sent(&mut waits).is_empty(), "its input begins it");
}

/// Whether a sign of life of it counts as having listened.
fn hears(session: &mut Session) -> bool {
    frames(session);
    session.receive(&keepalive(99), 1_500 * MS).unwrap();
    sent(session);
    !frames(session).is_empty()
}

/// An answer to GET_ROSPECS with the hub's ROSpec in this state.
fn rospecs(id: u32, state: u8) -> Vec<u8> {
    let ok = vec![number(0_u16), Value::Text(String::new())];
    let spec = vec![number(1_u32), number(0_u8), number(state)];
    let parameters = [("LLRPStatus", ok), ("ROSpec", spec)]
        .map(|(name, fields)| Parameter::new(name, fields, Vec::new()));
    bytes(36, id, parameters.to_vec())
}

/// An answer to GET_READER_CONFIG: which antennas are connected, from 1.
fn antennas(id: u32, connected: &[bool]) -> Vec<u8> {
    let ok = vec![number(0_u16), Value::Text(String::new())];
    let mut parameters = vec![Parameter::new("LLRPStatus", ok, Vec::new())];
    parameters.extend((1_u16..).zip(connected).map(|(port, connected)| {
        let fields = vec![number(*connected), number(port), Value::Signed(0)];
        Parameter::new("AntennaProperties", fields, Vec::new())
    }));
    bytes(12, id, parameters)
}

/// A session whose reader is asked for its antennas now, and the id of that.
fn asked_for_antennas() -> (Session, u32) {
    let mut session = Session::new(LlrpSettings::default(), 0);
    session.receive(&greeting(0), 0).unwrap();
    let (_, id) = asked(&mut session);
    session.receive(&capabilities(id, 1, false), 0).unwrap();
    let (_, id) = asked(&mut session);
    session.receive(&status(13, id, 0, ""), 0).unwrap();
    frames(&mut session);
    let (what, id) = asked(&mut session);
    assert_eq!(what, 2);
    (session, id)
}

#[test]
fn what_was_plugged_or_pulled_while_nobody_was_connected_is_known_to_whoever_connects() {
    let profile = Profile::parse(shipped("llrp-reader").unwrap()).unwrap();
    let (mut session, id) = asked_for_antennas();
    session.receive(&antennas(id, &[true, false, true]), 0).unwrap();
    let told: Vec<Measurement> = frames(&mut session)
        .iter()
        .flat_map(|frame| decode(&profile, "reads", frame).unwrap().measurements)
        .collect();
    let wanted = [(1, true), (2, false), (3, true)]
        .map(|(port, connected)| Measurement::Reader(ReaderEvent::Antenna { port, connected }));
    assert_eq!(told, wanted);
    assert_eq!(asked(&mut session).0, 21);
    // A reader that does not know is listened to without, as is one that says nothing.
    let (mut session, id) = asked_for_antennas();
    session.receive(&status(100, id, 109, "what?"), 0).unwrap();
    assert!(frames(&mut session).is_empty() && asked(&mut session).0 == 21);
    let (mut session, _) = asked_for_antennas();
    session.receive(&keepalive(3), (ANSWER_MS_MAX - 1) * MS).unwrap();
    sent(&mut session);
    session.tick(ANSWER_MS_MAX * MS).unwrap();
    assert_eq!(asked(&mut session).0, 21);
}

#[test]
fn a_refused_start_is_a_beginning_only_if_the_reader_has_begun() {
    let rejected = ReaderError::Rejected { what: "START_ROSPEC", status: 401, text: "no".into() };
    for start in [Start::Immediate, Start::Request] {
        for (state, begun) in [(Some(2), true), (Some(1), false), (Some(0), false), (None, false)] {
            let mut session = running(LlrpSettings { start, ..LlrpSettings::default() });
            session.tick(1_000 * MS).unwrap();
            let (what, id) = asked(&mut session);
            assert_eq!(what, 22);
            session.receive(&status(32, id, 401, "no"), 1_000 * MS).unwrap();
            let (what, id) = asked(&mut session);
            assert_eq!(what, 26);
            // Nor does it listen because it reports that it has nothing to report.
            session.receive(&report(0), 1_000 * MS).unwrap();
            assert!(session.is_running() && !hears(&mut session), "a refusal is no listening");
            let answer = state.map_or_else(|| status(100, id, 109, "what?"), |s| rospecs(id, s));
            let end = session.receive(&answer, 2_000 * MS);
            assert_eq!(end, if begun { Ok(()) } else { Err(rejected.clone()) }, "{state:?}");
            assert_eq!(hears(&mut session), begun);
        }
    }
    // What it said in the meantime needs no question.
    let mut session = running(LlrpSettings::default());
    session.tick(1_000 * MS).unwrap();
    let (_, id) = asked(&mut session);
    session.receive(&[rospec_event(0), status(32, id, 401, "no")].concat(), 1_000 * MS).unwrap();
    assert!(sent(&mut session).is_empty() && hears(&mut session));
}

#[test]
fn signs_of_life_are_answered_and_become_frames_only_while_it_listens() {
    let mut session = running(LlrpSettings::default());
    session.receive(&keepalive(7), 100 * MS).unwrap();
    assert_eq!(asked(&mut session), (72, 7));
    assert!(frames(&mut session).is_empty(), "it does not listen yet");
    session.receive(&rospec_event(0), 200 * MS).unwrap();
    frames(&mut session);
    for at_ms in (300..=3_300).step_by(100) {
        session.receive(&keepalive(8), at_ms * MS).unwrap();
        assert_eq!(asked(&mut session), (72, 8));
    }
    assert_eq!(frames(&mut session).len(), 4, "one a second at most");
    session.receive(&rospec_event(1), 3_400 * MS).unwrap();
    frames(&mut session);
    session.receive(&keepalive(9), 9_000 * MS).unwrap();
    assert!(frames(&mut session).is_empty());
}

#[test]
fn every_wait_has_its_end() {
    let greet = Session::new(LlrpSettings::default(), 0);
    assert_eq!(greet.due_us(), GREETING_MS_MAX * MS);
    let mut greet = greet;
    assert_eq!(greet.tick(GREETING_MS_MAX * MS), Err(ReaderError::NoGreeting(GREETING_MS_MAX)));

    let mut deaf = Session::new(LlrpSettings::default(), 0);
    deaf.receive(&greeting(0), 0).unwrap();
    let what = "GET_READER_CAPABILITIES";
    assert_eq!(
        deaf.tick(ANSWER_MS_MAX * MS),
        Err(ReaderError::Timeout { what, ms: ANSWER_MS_MAX })
    );

    let mut silent = running(LlrpSettings::default());
    silent.receive(&rospec_event(0), 0).unwrap();
    assert_eq!(silent.due_us(), 3_000 * MS);
    silent.tick(2_999 * MS).unwrap();
    assert_eq!(silent.tick(3_000 * MS), Err(ReaderError::Silent(3_000)));

    let mut hangs = running(LlrpSettings::default());
    hangs.receive(&report(2)[..20], 0).unwrap();
    assert_eq!(hangs.tick(3_000 * MS), Err(ReaderError::Hang(3_000)), "named for what it is");

    // A byte now and then does not make a message.
    let mut drips = running(LlrpSettings::default());
    let (long, mut at_ms) = (report(900), 0);
    let end = loop {
        at_ms += 500;
        let byte = &long[(at_ms / 500) as usize..][..1];
        let fed = if at_ms == 500 { &long[..2] } else { byte };
        drips.receive(fed, at_ms * MS).unwrap();
        if let Err(end) = drips.tick(at_ms * MS) {
            break end;
        }
    };
    assert_eq!(end, ReaderError::Hang(MESSAGE_MS_MAX));

    // While nobody could take what it said the reader is not to blame.
    let mut paused = running(LlrpSettings::default());
    paused.receive(&rospec_event(0), 0).unwrap();
    paused.paused(60_000 * MS);
    paused.tick(62_999 * MS).unwrap();
    assert!(paused.tick(63_000 * MS).is_err());
}

#[test]
fn refusals_are_told_by_name() {
    let mut taken = Session::new(LlrpSettings::default(), 0);
    assert_eq!(taken.receive(&greeting(2), 0), Err(ReaderError::Taken(2)));
    assert!(frames(&mut taken).is_empty(), "to the fold it would say that the reader listens");
    assert!(ReaderError::Taken(2).to_string().contains("another client"));

    let mut refused = Session::new(LlrpSettings::default(), 0);
    refused.receive(&greeting(0), 0).unwrap();
    let (_, id) = asked(&mut refused);
    refused.receive(&capabilities(id, 1, false), 0).unwrap();
    let (_, id) = asked(&mut refused);
    // It refuses the whole of the configuration: signs of life alone are tried.
    refused.receive(&status(13, id, 101, "no"), 0).unwrap();
    let again = sent(&mut refused);
    assert_eq!((again[0].number, again[0].parameters.len()), (3, 1));
    refused.receive(&status(13, again[0].id, 0, ""), 0).unwrap();
    let (what, id) = asked(&mut refused);
    assert_eq!(what, 2, "nothing is held, so nothing is asked for");
    refused.receive(&status(100, id, 109, "what?"), 0).unwrap();
    let (what, id) = asked(&mut refused);
    assert_eq!(what, 21);
    refused.receive(&status(100, id, 109, "what?"), 0).unwrap();
    let (_, id) = asked(&mut refused);
    let rejected =
        ReaderError::Rejected { what: "ADD_ROSPEC", status: 102, text: "no such mode".into() };
    assert_eq!(refused.receive(&status(30, id, 102, "no such mode"), 0), Err(rejected));

    let mut unable = Session::new(LlrpSettings { antennas: vec![5], ..LlrpSettings::default() }, 0);
    unable.receive(&greeting(0), 0).unwrap();
    let (_, id) = asked(&mut unable);
    let error = unable.receive(&capabilities(id, 1, false), 0).unwrap_err();
    assert!(error.to_string().contains("no antenna 5"), "{error}");
    assert!(sent(&mut unable).is_empty(), "nothing at the reader was changed");
}

#[test]
fn an_impinj_reader_is_asked_in_its_own_way_and_less_when_it_refuses() {
    let mut session = Session::new(LlrpSettings::default(), 0);
    session.receive(&greeting(0), 0).unwrap();
    let (_, id) = asked(&mut session);
    session.receive(&capabilities(id, device_profiles::llrp::IMPINJ, false), 0).unwrap();
    let (what, id) = asked(&mut session);
    assert_eq!(what, 1_023);
    let ok = status(13, 0, 0, "").split_off(10);
    let fields = vec![number(device_profiles::llrp::IMPINJ), number(22_u8), Value::Bytes(ok)];
    session.receive(&Message::new(1_023, id, fields, Vec::new()).encode().unwrap(), 0).unwrap();
    for answer in [13, 12, 31] {
        let (_, id) = asked(&mut session);
        session.receive(&status(answer, id, 0, ""), 0).unwrap();
    }
    let custom =
        |message: &Message| message.encode().unwrap().windows(2).any(|w| w == [0x65, 0x1A]);
    let add = sent(&mut session);
    assert!(add[0].number == 20 && custom(&add[0]));
    session.receive(&status(30, add[0].id, 101, "no"), 0).unwrap();
    let add = sent(&mut session);
    assert!(add[0].number == 20 && !custom(&add[0]));
}

#[test]
fn lies_about_lengths_and_streams_out_of_step_end_the_session() {
    for lie in [0_u32, 9, 5 * 1024 * 1024, u32::MAX] {
        let mut session = running(LlrpSettings::default());
        let mut message = report(1);
        message[2..6].copy_from_slice(&lie.to_be_bytes());
        let end = session.receive(&message, 0).unwrap_err();
        assert!(matches!(end, ReaderError::Garbled(_)), "{lie}: {end}");
    }
    // One that is too short by a few bytes shows itself in the next header.
    let mut session = running(LlrpSettings::default());
    let mut message = report(2);
    message[5] -= 12;
    let end = session.receive(&[message, report(1)].concat(), 0).unwrap_err();
    assert!(matches!(end, ReaderError::Garbled(_)), "{end}");
    assert!(session.receive(b"HTTP/1.1 400 Bad Request\r\n", 0).is_err());
}

#[test]
fn a_report_that_lies_inside_goes_on_as_it_came_and_unknown_messages_are_passed_over() {
    let mut session = running(LlrpSettings::default());
    let mut lie = report(2);
    lie[13] = 200;
    let strange = [0x07, 0x84, 0, 0, 0, 12, 0, 0, 0, 1, 9, 9];
    let late = status(30, 77, 0, "");
    session.receive(&[&lie[..], &strange, &late, &report(1)].concat(), 0).unwrap();
    let came = frames(&mut session);
    assert_eq!(came, [Bytes::from(lie), Bytes::from(report(1))]);
    let counted = session.counted();
    assert_eq!((counted.garbled, counted.unknown, counted.foreign), (1, 1, 1));
}

#[test]
fn a_report_beyond_a_frame_is_cut_and_loses_no_tag() {
    let mut session = running(LlrpSettings::default());
    let huge = report(20_000);
    assert!(huge.len() > 2 * FRAME_BYTES_MAX);
    for piece in huge.chunks(60_000) {
        session.receive(piece, 0).unwrap();
    }
    let profile = Profile::parse(shipped("llrp-reader").unwrap()).unwrap();
    let mut tags = 0;
    for frame in frames(&mut session) {
        assert!(frame.len() <= FRAME_BYTES_MAX);
        tags += decode(&profile, "reads", &frame).unwrap().measurements.len();
    }
    assert_eq!(tags, 20_000);
    assert_eq!(session.counted().reads, 20_000);
}

#[test]
fn reports_that_wait_for_more_tags_are_asked_for() {
    let settings = LlrpSettings { report_tags: 32, ..LlrpSettings::default() };
    let mut session = running(settings);
    session.receive(&rospec_event(0), 0).unwrap();
    session.tick(250 * MS).unwrap();
    let (what, id) = asked(&mut session);
    assert_eq!(what, 60);
    session.receive(&report(3), 260 * MS).unwrap();
    session.tick(500 * MS).unwrap();
    assert_eq!(asked(&mut session).0, 60);
    // One that cannot is not asked again.
    session.receive(&status(100, id + 1, 109, "what?"), 500 * MS).unwrap();
    session.tick(1_000 * MS).unwrap();
    assert!(sent(&mut session).is_empty());
}

#[test]
fn the_frames_say_what_happened_at_the_reader() {
    let profile = Profile::parse(shipped("llrp-reader").unwrap()).unwrap();
    let mut session = running(LlrpSettings::default());
    session
        .receive(&[rospec_event(0), event("ReportBufferOverflowErrorEvent", &[])].concat(), 0)
        .unwrap();
    assert_eq!(session.receive(&event("ConnectionCloseEvent", &[]), 0), Err(ReaderError::Closed));
    let told: Vec<Measurement> = frames(&mut session)
        .iter()
        .flat_map(|frame| decode(&profile, "reads", frame).unwrap().measurements)
        .collect();
    let events =
        [ReaderEvent::Started, ReaderEvent::Overflow { reads: None }, ReaderEvent::Stopped];
    assert_eq!(told, events.map(Measurement::Reader));
    assert_eq!(session.counted().overflows, 1);
}

proptest! {
    /// Any bytes in any pieces: no panic, and what is kept is bounded by what came.
    #[test]
    fn any_bytes_are_survived(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..32)) {
        let mut session = running(LlrpSettings::default());
        for (at, piece) in (0..).zip(&pieces) {
            if session.receive(piece, at).is_err() {
                break;
            }
            let _ = session.tick(at);
        }
    }

    /// However a stream is cut, the same frames come out.
    #[test]
    fn pieces_make_no_difference(cuts in proptest::collection::vec(1_usize..40, 1..80)) {
        let stream = [report(3), keepalive(1), rospec_event(0), report(1), keepalive(2), report(2)].concat();
        let mut whole = running(LlrpSettings::default());
        whole.receive(&stream, 0).unwrap();
        let mut cut = running(LlrpSettings::default());
        let mut rest = &stream[..];
        for size in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            cut.receive(piece, 0).unwrap();
            rest = after;
        }
        prop_assert_eq!(frames(&mut whole), frames(&mut cut));
    }
}

/// A journal that a test fills and empties.
#[derive(Clone)]
struct Frames {
    taken: mpsc::Sender<Bytes>,
    full: Arc<AtomicUsize>,
}

impl Sink for Frames {
    fn deliver(&self, device: &DeviceId, stream: &str, message: &Bytes) -> Delivered {
        assert_eq!((device.as_str(), stream), ("dock", "reads"));
        if self.full.load(Relaxed) > 0 {
            self.full.fetch_sub(1, Relaxed);
            return Delivered::Full;
        }
        self.taken.try_send(message.clone()).unwrap();
        Delivered::Taken
    }
}

struct Bench {
    handle: Handle,
    frames: mpsc::Receiver<Bytes>,
    full: Arc<AtomicUsize>,
    /// The reader's ends of connections that were made.
    ends: mpsc::Receiver<DuplexStream>,
}

fn bench(settings: LlrpSettings) -> Bench {
    let (tell, ends) = mpsc::channel(100);
    let dial: Dial = Arc::new(move |_| {
        let tell = tell.clone();
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(4_096);
            tell.send(theirs).await.map_err(io::Error::other)?;
            Ok(Box::new(ours) as Box<dyn Pipe>)
        })
    });
    let spec = ReaderSpec {
        id: "reader".into(),
        address: "llrp://reader".parse().unwrap(),
        device: DeviceId::parse("dock").unwrap(),
        stream: "reads".into(),
        settings,
    };
    let (taken, frames) = mpsc::channel(10_000);
    let full = Arc::new(AtomicUsize::new(0));
    let sink = Frames { taken, full: Arc::clone(&full) };
    let rng = Arc::new(SplitMix::new(3));
    let (handle, _) = reader::start(spec, sink, dial, Policy::default(), rng);
    Bench { handle, frames, full, ends }
}

/// Reads one message of the client.
async fn hear(end: &mut DuplexStream) -> Option<Message> {
    let mut head = [0; 10];
    end.read_exact(&mut head).await.ok()?;
    let length = device_profiles::llrp::frame_length(&head).unwrap().unwrap();
    let mut whole = head.to_vec();
    whole.resize(length, 0);
    end.read_exact(&mut whole[10..]).await.ok()?;
    Some(Message::decode(&whole).unwrap())
}

/// Greets and answers until the reader is set and has begun.
async fn let_in(end: &mut DuplexStream) {
    end.write_all(&greeting(0)).await.unwrap();
    loop {
        let asked = hear(end).await.unwrap();
        let answer = match asked.number {
            1 => capabilities(asked.id, 1, true),
            3 => status(13, asked.id, 0, ""),
            2 => antennas(asked.id, &[]),
            64 => continue,
            number => status(number + 10, asked.id, 0, ""),
        };
        end.write_all(&answer).await.unwrap();
        if asked.number == 24 {
            return end.write_all(&rospec_event(0)).await.unwrap();
        }
    }
}

async fn next(frames: &mut mpsc::Receiver<Bytes>) -> Bytes {
    tokio::time::timeout(Duration::from_secs(600), frames.recv()).await.expect("a frame").unwrap()
}

fn paused(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(async {
        tokio::time::pause();
        test.await;
    });
}

#[test]
fn a_connection_is_made_anew_whatever_ends_it() {
    paused(async {
        let mut bench = bench(LlrpSettings::default());
        // Refused, mute, cut in the greeting, out of step; then well.
        let mut end = bench.ends.recv().await.unwrap();
        end.write_all(&greeting(2)).await.unwrap();
        let mute = bench.ends.recv().await.unwrap();
        assert!(
            bench.handle.health.error().contains("another client"),
            "{}",
            bench.handle.health.error()
        );
        let mut cut = bench.ends.recv().await.unwrap();
        assert!(bench.handle.health.error().contains("does not greet"));
        drop(mute);
        cut.write_all(&greeting(0)[..9]).await.unwrap();
        drop(cut);
        let mut babble = bench.ends.recv().await.unwrap();
        babble.write_all(b"SSH-2.0-OpenSSH\r\n").await.unwrap();
        let mut end = bench.ends.recv().await.unwrap();
        assert_eq!(bench.handle.health.garbled.load(Relaxed), 1);
        let_in(&mut end).await;
        end.write_all(&report(2)).await.unwrap();
        let kinds = [
            next(&mut bench.frames).await,
            next(&mut bench.frames).await,
            next(&mut bench.frames).await,
        ];
        assert_eq!(kinds.map(|frame| frame[1]), [63, 63, 61]);
        assert!(bench.handle.health.up.load(Relaxed));
        assert_eq!(bench.handle.health.about().unwrap().antennas, 4);
        // Signs of life stay away.
        let mut end = bench.ends.recv().await.unwrap();
        assert!(bench.handle.health.error().contains("no sign of life for 3000 ms"));
        assert!(!bench.handle.health.up.load(Relaxed));
        let_in(&mut end).await;
        next(&mut bench.frames).await;
        next(&mut bench.frames).await;
        assert_eq!(bench.handle.health.connects.load(Relaxed), 2);
    });
}

#[test]
fn a_full_journal_holds_up_the_reader_and_loses_nothing_until_its_time_is_over() {
    paused(async {
        let mut bench = bench(LlrpSettings::default());
        let mut end = bench.ends.recv().await.unwrap();
        let_in(&mut end).await;
        next(&mut bench.frames).await;
        next(&mut bench.frames).await;
        // Full for some offers: the message is taken late, and the silence meanwhile is nobody's fault.
        bench.full.store(900, Relaxed);
        end.write_all(&report(1)).await.unwrap();
        assert_eq!(next(&mut bench.frames).await, report(1));
        assert_eq!(bench.handle.health.lost.load(Relaxed), 0);
        // Full for ever: what does not fit into the pipe stays with the reader.
        bench.full.store(usize::MAX / 2, Relaxed);
        end.write_all(&report(1)).await.unwrap();
        let flood = report(2_000);
        let mut written = 0;
        while let Ok(n) =
            tokio::time::timeout(Duration::from_millis(50), end.write(&flood[written..])).await
        {
            written += n.unwrap();
        }
        assert!(written <= 2 * 4_096, "{written} bytes were read while there was no room");
        while bench.handle.health.lost.load(Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bench.full.store(0, Relaxed);
        end.write_all(&flood[written..]).await.unwrap();
        assert_eq!(TagReads::of(&next(&mut bench.frames).await).unwrap().count(), 2_000);
        assert_eq!(bench.handle.health.lost.load(Relaxed), 1);
    });
}

#[test]
fn whoever_lets_a_reader_go_says_good_bye_to_it() {
    paused(async {
        let Bench { handle, mut ends, mut frames, .. } = bench(LlrpSettings::default());
        let mut end = ends.recv().await.unwrap();
        let_in(&mut end).await;
        next(&mut frames).await;
        next(&mut frames).await;
        drop(handle);
        assert_eq!(hear(&mut end).await.unwrap().number, 14);
        end.write_all(&[report(1), status(4, 7, 0, "")].concat()).await.unwrap();
        assert_eq!(next(&mut frames).await, report(1), "what it still had to say");
        assert!(frames.recv().await.is_none(), "the actor is gone");
    });
}

#[test]
fn a_look_changes_nothing_at_a_reader() {
    paused(async {
        let ends: Rc<RefCell<Vec<u16>>> = Rc::default();
        let (tell, mut told) = mpsc::channel::<DuplexStream>(1);
        let dial: Dial = Arc::new(move |_| {
            let tell = tell.clone();
            Box::pin(async move {
                let (ours, theirs) = tokio::io::duplex(4_096);
                tell.send(theirs).await.map_err(io::Error::other)?;
                Ok(Box::new(ours) as Box<dyn Pipe>)
            })
        });
        let asked = Rc::clone(&ends);
        actix_rt::spawn(async move {
            let mut end = told.recv().await.unwrap();
            end.write_all(&greeting(0)).await.unwrap();
            while let Some(message) = hear(&mut end).await {
                asked.borrow_mut().push(message.number);
                let answer = match message.number {
                    1 => capabilities(message.id, 161, true),
                    number => status(number - 10, message.id, 0, ""),
                };
                end.write_all(&answer).await.unwrap();
            }
        });
        let found = reader::prober::look(&dial, &"llrp://x".parse().unwrap()).await.unwrap();
        assert_eq!((found.vendor, found.antennas, found.can_hold), (161, 4, true));
        assert_eq!(*ends.borrow(), [1, 14]);
    });
}
