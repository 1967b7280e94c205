//! The actor of a serial line on pseudo-terminals: noise, damaged frames, a port that is pulled, a journal that is full.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may panic")]

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use actors::{
    bus::{Ask, AskError, BusSpec, Delivered, Handle, Sink, UnitSpec},
    guardian::Policy,
    ports::rng::SplitMix,
    serial::{self, LINE_BYTES_MAX, Sessions},
};
use device_profiles::{
    DeviceId, Measurement, Profile, ReaderEvent, ScanMode, Tag,
    codec::scanner::{Context, Doing, split},
    decode,
    r200::{self, FrameKind, Marks, NO_TAG, command},
    shipped::shipped,
};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);

/// The far end of a line, under a path that stays the same when it is plugged in again.
struct Port {
    path: PathBuf,
    master: Option<(File, File)>,
    _dir: tempfile::TempDir,
}

impl Port {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut port = Self { path: dir.path().join("by-id"), master: None, _dir: dir };
        port.plug();
        port
    }

    fn plug(&mut self) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        // Held open: what is written before the hub opens the port is not lost, and nothing is echoed.
        let keep = File::options().read(true).write(true).open(&slave).unwrap();
        let mut attributes = tcgetattr(&keep).unwrap();
        attributes.make_raw();
        tcsetattr(&keep, OptionalActions::Now, &attributes).unwrap();
        symlink(Path::new(&slave), &self.path).unwrap();
        self.master = Some((File::from(master), keep));
    }

    fn pull(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
        self.master = None;
    }

    fn say(&mut self, bytes: &[u8]) {
        self.master.as_mut().unwrap().0.write_all(bytes).unwrap();
    }

    /// Waits until the hub has said this.
    async fn hears(&mut self, wanted: Vec<u8>) {
        let mut master = self.master.as_ref().unwrap().0.try_clone().unwrap();
        let heard = tokio::task::spawn_blocking(move || {
            let (mut heard, mut byte) = (Vec::new(), [0]);
            while !heard.ends_with(&wanted) {
                master.read_exact(&mut byte).unwrap();
                heard.push(byte[0]);
            }
        });
        tokio::time::timeout(PATIENCE, heard).await.unwrap().unwrap();
    }
}

#[derive(Clone)]
struct Frames {
    tell: mpsc::Sender<Vec<u8>>,
    full: Arc<AtomicBool>,
}

impl Sink for Frames {
    fn deliver(&self, device: &DeviceId, stream: &str, raw: Vec<u8>) -> Delivered {
        assert_eq!(device.as_str(), "d1");
        assert!(["reads", "scan"].contains(&stream));
        if self.full.load(Relaxed) {
            return Delivered::Full;
        }
        self.tell.try_send(raw).unwrap();
        Delivered::Taken
    }
}

struct Bench {
    port: Port,
    handle: Handle,
    sessions: Sessions,
    frames: mpsc::Receiver<Vec<u8>>,
    full: Arc<AtomicBool>,
    profile: Arc<Profile>,
}

impl Bench {
    fn start(profile: &str) -> Self {
        let port = Port::new();
        let profile = Arc::new(Profile::parse(shipped(profile).unwrap()).unwrap());
        let unit = UnitSpec {
            device: DeviceId::parse("d1").unwrap(),
            unit: 1,
            profile: Arc::clone(&profile),
        };
        let address = format!("serial://{}?baud=115200", port.path.display());
        let spec =
            BusSpec { id: "line".into(), address: address.parse().unwrap(), units: vec![unit] };
        let (tell, frames) = mpsc::channel(10_000);
        let full = Arc::new(AtomicBool::new(false));
        let sink = Frames { tell, full: Arc::clone(&full) };
        let (sessions, rng) = (Sessions::default(), Arc::new(SplitMix::new(7)));
        let (handle, _) = serial::start(spec, sink, sessions.clone(), Policy::default(), rng);
        Self { port, handle, sessions, frames, full, profile }
    }

    async fn frame(&mut self) -> Vec<u8> {
        tokio::time::timeout(PATIENCE, self.frames.recv()).await.unwrap().unwrap()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Handle) -> bool) {
        let wait = async {
            while !holds(&self.handle) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}"));
    }

    /// Tags of frames until so many are there.
    async fn tags(&mut self, count: usize) -> Vec<String> {
        let mut tags = Vec::new();
        while tags.len() < count {
            let raw = self.frame().await;
            let reading = decode(&self.profile, "reads", &raw).unwrap();
            tags.extend(reading.measurements.iter().filter_map(|measurement| match measurement {
                Measurement::Tag(read) => Some(read.tag.to_string()),
                Measurement::Reader(_)
                | Measurement::Stock { .. }
                | Measurement::Weight { .. }
                | Measurement::Scan { .. }
                | Measurement::Numbers { .. }
                | Measurement::Value { .. } => None,
            }));
        }
        tags
    }

    /// Mode, quantity and line of the next frame.
    async fn scan(&mut self) -> (&'static str, u32, Vec<u8>) {
        let raw = self.frame().await;
        let line = split(&raw).unwrap();
        (line.context.mode.as_str(), line.quantity, line.line.to_vec())
    }
}

fn tag(hex: &str) -> Vec<u8> {
    r200::notice(Marks::Bb, -55, hex.parse::<Tag>().unwrap().bytes())
}

#[actix_rt::test]
async fn noise_and_damaged_frames_cost_nothing_but_themselves() {
    let mut bench = Bench::start("r200");
    bench.port.hears(r200::multi_inventory(Marks::Bb, u16::MAX)).await;
    let good = ["E28068900000500E88C6A4A7", "7E7EBB022200117EBB7E7E7E", "AABB"];
    let mut damaged = tag("3034257BF7194E4000001A85");
    damaged[9] ^= 0x10;
    let cut = &tag("3034257BF7194E4000001A86")[..13];
    let noise: [&[u8]; 4] = [b"\x00\xff\xbb\xbb\x7e", &damaged, cut, b"\xbb\x02\x22\xff\xff\x7e"];
    for (hex, noise) in good.iter().cycle().zip(noise.iter().cycle()).take(24) {
        bench.port.say(noise);
        // In pieces, as a line brings them.
        for piece in tag(hex).chunks(5) {
            bench.port.say(piece);
        }
    }
    let tags = bench.tags(24).await;
    assert!(tags.iter().zip(good.iter().cycle()).all(|(read, wanted)| read == wanted), "{tags:?}");
    assert!(bench.handle.units[0].garbled.load(Relaxed) > 100, "noise is counted");
    let answer = bench.handle.ask(Ask::Read { unit: 0, stream: "reads".into() }).await;
    assert!(matches!(answer, Err(AskError::Unknown(_))), "{answer:?}");
}

#[actix_rt::test]
async fn a_module_of_the_other_marks_is_found_and_says_that_it_listens() {
    let mut bench = Bench::start("r200");
    bench.port.hears(r200::multi_inventory(Marks::Aa, u16::MAX)).await;
    let nothing = r200::frame(Marks::Aa, FrameKind::Response, command::FAILED, &[NO_TAG]);
    bench.port.say(&nothing);
    let raw = bench.frame().await;
    let reading = decode(&bench.profile, "reads", &raw).unwrap();
    assert_eq!((raw, reading.measurements), (nothing.clone(), vec![]));
    // Rounds that find nothing are told once a second, and not one by one.
    for _ in 0..200 {
        bench.port.say(&nothing);
    }
    bench.port.say(&r200::frame(Marks::Aa, FrameKind::Response, command::FAILED, &[0x17]));
    let raw = bench.frame().await;
    let reading = decode(&bench.profile, "reads", &raw).unwrap();
    assert!(matches!(reading.measurements[..], [Measurement::Reader(ReaderEvent::Trouble { .. })]));
    assert!(raw.len() < 20 * nothing.len());
    // It is silent: it may have been switched off, so it is told again, with the marks it has.
    bench.port.hears(r200::multi_inventory(Marks::Aa, u16::MAX)).await;
}

#[actix_rt::test]
async fn a_pulled_port_is_told_and_read_again_when_it_is_back() {
    let mut bench = Bench::start("scanner-line");
    bench.port.say(b"first\r\n");
    assert_eq!(bench.scan().await, ("", 1, b"first".to_vec()));
    // Longer than any line, so that it is seen to have come.
    let cut = [b'x'; LINE_BYTES_MAX + 88];
    for round in 1..=3 {
        bench.port.say(&cut);
        let noise = round * cut.len() as u64;
        bench.until("it is counted", |h| h.units[0].garbled.load(Relaxed) == noise).await;
        bench.port.pull();
        bench.until("the line is down", |handle| !handle.health.up.load(Relaxed)).await;
        assert!(!bench.handle.health.error().is_empty());
        bench.port.plug();
        bench.until("the line is up", |handle| handle.health.up.load(Relaxed)).await;
        let code = format!("after{round}");
        bench.port.say(format!("{code}\n").as_bytes());
        assert_eq!(bench.scan().await.2, code.into_bytes(), "nothing of the cut line is in it");
    }
    assert_eq!(bench.handle.health.connects.load(Relaxed), 4);
}

#[actix_rt::test]
async fn what_a_module_told_just_before_it_was_pulled_is_not_lost() {
    let mut bench = Bench::start("r200");
    let mut noise = 0;
    for _ in 0..3 {
        bench.port.hears(r200::multi_inventory(Marks::Bb, u16::MAX)).await;
        // Whole frames are gathered for a while; the noise behind them shows that they were read.
        let told = [tag("AABB"), tag("CCDD"), vec![0; 5]].concat();
        bench.port.say(&told);
        noise += 5;
        bench.until("it is read", |h| h.units[0].garbled.load(Relaxed) >= noise).await;
        bench.port.say(&tag("EEFF")[..9]);
        bench.port.pull();
        assert_eq!(bench.tags(2).await, ["AABB", "CCDD"]);
        bench.until("the line is down", |handle| !handle.health.up.load(Relaxed)).await;
        // What was cut off is noise too, as far as it was read.
        noise = bench.handle.units[0].garbled.load(Relaxed);
        bench.port.plug();
    }
}

#[actix_rt::test]
async fn a_scan_waits_for_the_journal_and_is_delivered_once() {
    let mut bench = Bench::start("scanner-line");
    bench.full.store(true, Relaxed);
    bench.port.say(b"a\rb\rc\r");
    bench.until("it was refused", |handle| handle.units[0].full.load(Relaxed) > 2).await;
    bench.full.store(false, Relaxed);
    for code in ["a", "b", "c"] {
        assert_eq!(bench.scan().await.2, code.as_bytes());
    }
    assert!(bench.frames.try_recv().is_err());
}

#[actix_rt::test]
async fn equal_scans_that_waited_for_the_journal_are_scans_of_their_own() {
    let mut bench = Bench::start("scanner-line");
    bench.full.store(true, Relaxed);
    bench.port.say(b"first\r");
    bench.until("it was refused", |handle| handle.units[0].full.load(Relaxed) > 0).await;
    // Nobody reads them while the first waits, longer than a trigger bounces.
    bench.port.say(b"x\rx\rx\r");
    bench.until("time has passed", |handle| handle.units[0].full.load(Relaxed) > 8).await;
    bench.full.store(false, Relaxed);
    for code in ["first", "x", "x", "x"] {
        assert_eq!(bench.scan().await.2, code.as_bytes());
    }
}

#[actix_rt::test]
async fn what_a_module_read_waits_for_the_journal() {
    let mut bench = Bench::start("r200");
    bench.port.hears(r200::multi_inventory(Marks::Bb, u16::MAX)).await;
    bench.full.store(true, Relaxed);
    bench.port.say(&tag("AABB"));
    bench.until("it was refused", |handle| handle.units[0].full.load(Relaxed) > 2).await;
    bench.port.say(&[tag("CCDD"), vec![0; 5]].concat());
    bench.until("it is read", |handle| handle.units[0].garbled.load(Relaxed) >= 5).await;
    bench.full.store(false, Relaxed);
    assert_eq!(bench.tags(2).await, ["AABB", "CCDD"]);
    // However much comes meanwhile, what is kept is one frame.
    bench.full.store(true, Relaxed);
    let mut master = bench.port.master.as_ref().unwrap().0.try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        for _ in 0..100 {
            master.write_all(&tag("EEFF").repeat(60)).unwrap();
        }
        master.write_all(&[0; 5]).unwrap();
    });
    bench.until("it is read", |handle| handle.units[0].garbled.load(Relaxed) >= 10).await;
    flood.join().unwrap();
    bench.full.store(false, Relaxed);
    assert!(bench.frame().await.len() <= 64 * 1024);
}

#[actix_rt::test]
async fn what_the_operator_does_is_in_the_frame() {
    let mut bench = Bench::start("scanner-line");
    for (line, mode, quantity) in [
        ("4006381333931", "", 1),
        ("STOCKFOLD:COUNT", "", 0),
        ("4006381333931", "count", 1),
        ("]C0x", "count", 1),
        ("]E04006381333931", "count", 2),
        ("STOCKFOLD:RECEIVE", "", 0),
        ("4006381333931", "receive", 1),
    ] {
        bench.port.say(format!("{line}\r\n").as_bytes());
        if quantity > 0 {
            assert_eq!(bench.scan().await, (mode, quantity, line.as_bytes().to_vec()));
        }
    }
    // A person at a desk sets another mode.
    let device = DeviceId::parse("d1").unwrap();
    let context = Context { mode: Doing::Mode(ScanMode::Pick), ..Context::default() };
    bench.sessions.with(&device, || panic!("it has one"), |session| session.set(context));
    bench.port.say(b"x\n");
    assert_eq!(bench.scan().await.0, "pick");
    assert!(bench.sessions.take_changed().is_empty(), "what a person set is written down already");
}

#[actix_rt::test]
async fn a_flood_without_a_line_end_fills_nothing() {
    let mut bench = Bench::start("scanner-line");
    let mut master = bench.port.master.as_ref().unwrap().0.try_clone().unwrap();
    // A line takes no more than it holds, so whoever floods it must not be who reads it.
    let flood = std::thread::spawn(move || {
        for _ in 0..5_000 {
            master.write_all(&[b'x'; 2_048]).unwrap();
        }
        master.write_all(b"\nlast\n").unwrap();
    });
    assert_eq!(bench.scan().await.2, b"last");
    flood.join().unwrap();
    assert!(bench.handle.units[0].garbled.load(Relaxed) >= 10_000_000);
}
