//! The bus actor against slaves that misbehave. A register holds its own address wherever nothing else is said, so a value
//! that belongs to another request shows itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test may panic"
)]

mod bus_support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use actors::{
    bus::{
        self, Ask, AskError, Asked, BusSpec, Delivered, Handle, Sink, UnitSpec, link::CallError,
    },
    guardian::Policy,
    ports::rng::SplitMix,
};
use bus_support::{Reply, Script, modbus_tcp, own_addresses, rtu_over_tcp, script, serial};
use device_profiles::{DeviceId, Profile, modbus::Image};
use tokio::sync::mpsc;

/// Three streams at 0, 10 and 20, two registers each.
const PROFILE: &str = "
name: addresses
codec: modbus
modbus:
  source: this test
  gap_max: 0
  timeout_ms: 200
  fields:
    a: {at: 0, type: u32}
    b: {at: 10, type: u32}
    c: {at: 20, type: u32}
  commands:
    tare:
      per_day_max: 2
      steps: [{write: {at: 5, values: [7]}}]
streams:
  a: {class: telemetry, dedupe: level, poll_ms: 20, registers: [a]}
  b: {class: telemetry, dedupe: level, poll_ms: 20, registers: [b]}
  c: {class: telemetry, dedupe: level, poll_ms: 20, registers: [c]}
";

#[derive(Clone)]
struct Frames(mpsc::Sender<(String, String, Vec<u8>)>);

impl Sink for Frames {
    fn deliver(&self, device: &DeviceId, stream: &str, image: Vec<u8>) -> Delivered {
        let _ = self.0.try_send((device.to_string(), stream.to_owned(), image));
        Delivered::Taken
    }
}

struct Bench {
    handle: Handle,
    frames: mpsc::Receiver<(String, String, Vec<u8>)>,
}

/// Runs a bus with these units on the current arbiter.
fn start(address: &str, units: &[u8]) -> Bench {
    start_with(PROFILE, address, units)
}

fn start_with(profile: &str, address: &str, units: &[u8]) -> Bench {
    let profile = Arc::new(Profile::parse(profile).unwrap());
    let unit = |unit: &u8| UnitSpec {
        device: DeviceId::parse(&format!("unit-{unit}")).unwrap(),
        unit: *unit,
        profile: Arc::clone(&profile),
    };
    let spec = BusSpec {
        id: "bus".into(),
        address: address.parse().unwrap(),
        units: units.iter().map(unit).collect(),
    };
    let (tx, frames) = mpsc::channel(100_000);
    let (handle, _) = bus::start(spec, Frames(tx), Policy::default(), Arc::new(SplitMix::new(7)));
    Bench { handle, frames }
}

impl Bench {
    /// The next frame, whose registers must hold their own addresses.
    async fn frame(&mut self) -> (String, String) {
        let next = tokio::time::timeout(Duration::from_secs(20), self.frames.recv());
        let (device, stream, image) = next.await.expect("a frame within 20 s").unwrap();
        let image = Image::parse(&image).unwrap();
        for block in image.blocks() {
            for (at, word) in (block.start..).zip(block.words()) {
                assert_eq!(word, at, "{device} {stream}: a value of another request was delivered");
            }
        }
        (device, stream)
    }

    async fn frames(&mut self, n: usize) {
        for _ in 0..n {
            self.frame().await;
        }
    }
}

/// The desynchronisation that was seen with a bare client: the first answer comes 300 ms late, each further one takes 120 ms.
fn late() -> Script {
    script(|number, asked| {
        let pause = if number == 0 { 300 } else { 120 };
        Reply::After(Duration::from_millis(pause), Box::new(own_addresses(asked)))
    })
}

#[actix_rt::test]
async fn after_a_late_answer_no_wrong_value_is_delivered_on_a_serial_line() {
    let (path, _) = serial(late());
    let mut bench = start(&format!("rtu://{path}"), &[1]);
    bench.frames(20).await;
    assert!(bench.handle.units[0].timeouts.load(Relaxed) >= 1, "the first answer was late");
}

#[actix_rt::test]
async fn after_a_late_answer_no_wrong_value_is_delivered_over_tcp() {
    for tcp in [true, false] {
        let (scheme, place) = if tcp {
            ("tcp", modbus_tcp(late()).await)
        } else {
            ("rtu+tcp", rtu_over_tcp(late()).await)
        };
        let mut bench = start(&format!("{scheme}://{place}"), &[1]);
        bench.frames(20).await;
        assert!(bench.handle.units[0].timeouts.load(Relaxed) >= 1, "{scheme}");
    }
}

#[actix_rt::test]
async fn always_late_answers_are_never_paired_with_another_request() {
    // Later than the timeout, always: nothing can be read, and nothing wrong may be.
    let (path, _) = serial(script(|_, asked| {
        Reply::After(Duration::from_millis(230), Box::new(own_addresses(asked)))
    }));
    let mut bench = start(&format!("rtu://{path}"), &[1]);
    let frame = tokio::time::timeout(Duration::from_secs(3), bench.frames.recv());
    if let Ok(Some((_, _, image))) = frame.await {
        for block in Image::parse(&image).unwrap().blocks() {
            assert!((block.start..).zip(block.words()).all(|(at, word)| at == word));
        }
    }
    assert!(bench.handle.units[0].timeouts.load(Relaxed) > 0);
}

/// Two blocks side by side that no request can read together, and a request may grow by two.
const NEIGHBOURS: &str = "
name: neighbours
codec: modbus
modbus:
  source: this test
  registers_max: 6
  timeout_ms: 200
  fields:
    a: {at: 0, type: i64}
    b: {at: 4, type: i64}
streams:
  both: {class: telemetry, dedupe: level, poll_ms: 20, registers: [a, b]}
";

#[actix_rt::test]
async fn a_request_that_grew_into_the_next_block_gives_a_sound_image() {
    let grown = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&grown);
    let (path, _) = serial(script(move |number, asked| {
        if number == 0 {
            return Reply::Silence;
        }
        if asked.address == 0 && asked.count > 4 {
            seen.store(true, Relaxed);
        }
        own_addresses(asked)
    }));
    let mut bench = start_with(NEIGHBOURS, &format!("rtu://{path}"), &[1]);
    let (_, _, image) = bench.frames.recv().await.unwrap();
    assert!(grown.load(Relaxed), "the second request had the length of the unanswered one");
    let image = Image::parse(&image).expect("blocks do not overlap");
    let blocks: Vec<_> = image.blocks().iter().map(|b| (b.start, b.count)).collect();
    assert_eq!(blocks, [(0, 4), (4, 4)]);
}

/// Three fields that are read in one request.
const APART: &str = "
name: apart
codec: modbus
modbus:
  source: this test
  timeout_ms: 200
  fields:
    a: {at: 0, type: u32}
    b: {at: 8, type: u32}
    c: {at: 16, type: u32}
streams:
  all: {class: telemetry, dedupe: level, poll_ms: 20, registers: [a, b, c]}
";

#[actix_rt::test]
async fn a_block_that_is_refused_whole_is_read_in_parts_for_good() {
    for code in 1..=3 {
        let whole = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&whole);
        let place = modbus_tcp(script(move |_, asked| {
            if asked.count > 2 {
                *counted.lock().unwrap() += 1;
                return Reply::Exception(code);
            }
            own_addresses(asked)
        }))
        .await;
        let mut bench = start_with(APART, &format!("tcp://{place}"), &[1]);
        bench.frames(5).await;
        assert_eq!(*whole.lock().unwrap(), 1, "asked whole once, exception {code}");
        let unit = &bench.handle.units[0];
        assert_eq!(unit.splits.load(Relaxed), 1);
        assert_eq!(unit.exceptions.load(Relaxed), 0, "the poll itself brought its image");
    }
    // What is not a matter of which registers is not mended by asking for fewer.
    let counts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&counts);
    let busy = modbus_tcp(script(move |_, asked| {
        seen.lock().unwrap().push(asked.count);
        Reply::Exception(6)
    }))
    .await;
    let bench = start_with(APART, &format!("tcp://{busy}"), &[1]);
    let answer = bench.handle.ask(Ask::Read { unit: 0, stream: "all".into() }).await;
    assert_eq!(answer, Err(AskError::Call(CallError::Exception(6))));
    assert!(counts.lock().unwrap().iter().all(|count| *count == 18));
}

#[actix_rt::test]
async fn bad_answers_are_counted_and_the_next_good_one_is_right() {
    let bad = |checked: bool| {
        move |number: usize, asked| {
            let good = Box::new(own_addresses(asked));
            match number % 8 {
                // TCP frames have no checksum of their own; a byte changed before it is the answer.
                1 if checked => Reply::Corrupt(good),
                2 => Reply::As(9, good),
                3 => Reply::Cut(4, good),
                4 => Reply::Words(vec![0xDEAD]),
                5 => Reply::Exception(6),
                6 => Reply::Words(vec![0xDEAD; 40]),
                _ => *good,
            }
        }
    };
    let (path, _) = serial(script(bad(true)));
    let mut bench = start(&format!("rtu://{path}"), &[1]);
    bench.frames(6).await;
    let unit = &bench.handle.units[0];
    assert!(unit.exceptions.load(Relaxed) >= 1);
    assert!(unit.garbled.load(Relaxed) + unit.timeouts.load(Relaxed) >= 3);
    let mut bench = start(&format!("tcp://{}", modbus_tcp(script(bad(false))).await), &[1]);
    bench.frames(6).await;
}

#[actix_rt::test]
async fn an_endpoint_that_drops_every_connection_is_connected_again() {
    let place =
        modbus_tcp(script(
            |number, asked| {
                if number % 3 == 2 { Reply::Close } else { own_addresses(asked) }
            },
        ))
        .await;
    let mut bench = start(&format!("tcp://{place}"), &[1]);
    bench.frames(12).await;
    assert!(bench.handle.health.connects.load(Relaxed) >= 4);
}

#[actix_rt::test]
async fn a_dead_unit_is_set_aside_and_found_again() {
    let alive = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&alive);
    let (path, _) = serial(script(move |_, asked| {
        if asked.unit == 2 && !switch.load(Relaxed) { Reply::Silence } else { own_addresses(asked) }
    }));
    let mut bench = start(&format!("rtu://{path}"), &[1, 2]);
    while !bench.handle.units[1].aside.load(Relaxed) {
        bench.frame().await;
    }
    // Set aside, it costs unit 1 a tenth at most: 3 streams at 50 Hz, one period of 20 ms each.
    bench.frames(100).await;
    alive.store(true, Relaxed);
    let back = async { while bench.frame().await.0 != "unit-2" {} };
    tokio::time::timeout(Duration::from_secs(5), back).await.expect("found within 5 s");
    assert!(!bench.handle.units[1].aside.load(Relaxed));
}

#[actix_rt::test]
async fn commands_go_first_are_verified_and_have_a_budget() {
    let place = modbus_tcp(script(|_, asked| {
        if asked.function == 6 {
            // A write is answered by repeating it.
            Reply::Words(Vec::new())
        } else {
            own_addresses(asked)
        }
    }))
    .await;
    let bench = start(&format!("tcp://{place}"), &[1]);
    let ask = |name: &str| bench.handle.ask(Ask::Command { unit: 0, name: name.into() });
    assert_eq!(ask("fly").await, Err(AskError::Unknown("command \"fly\"".into())));
    // The answer names no register: the write is not taken for done.
    let error = ask("tare").await.unwrap_err();
    assert!(
        matches!(
            error,
            AskError::Call(CallError::Foreign(_) | CallError::Down(_) | CallError::Timeout(_))
        ),
        "{error}"
    );
    // While the link is made anew nothing is written, and nothing counted.
    let spent = async {
        loop {
            match ask("tare").await {
                Err(AskError::Budget { per_day_max, .. }) => break per_day_max,
                Err(AskError::Call(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), spent).await.unwrap(), 2);
    let mut bench = bench;
    bench.frame().await;
    let asked = bench.handle.ask(Ask::Read { unit: 0, stream: "b".into() }).await.unwrap();
    let Asked::Image(image) = asked else { panic!("{asked:?}") };
    assert_eq!(Image::parse(&image).unwrap().blocks()[0].start, 10);
}

#[actix_rt::test]
async fn a_port_that_vanishes_and_a_path_that_is_not_there_are_told() {
    let (path, gone) = serial(script(|_, asked| own_addresses(asked)));
    let mut bench = start(&format!("rtu://{path}"), &[1]);
    bench.frames(3).await;
    gone.store(true, Relaxed);
    while bench.handle.health.up.load(Relaxed) {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = bench.handle.ask(Ask::Read { unit: 0, stream: "a".into() }).await;
    assert!(matches!(answer, Err(AskError::Call(_))), "{answer:?}");
}
