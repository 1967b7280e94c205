//! Fuzz targets: everything that reads bytes from outside, as plain functions.
//!
//! A target takes any bytes, must come back in a bounded time, and checks what must hold of whatever they were. It returns a
//! mark of what became of them (which reason, how many of what), by which a driver that knows nothing of the code's branches can
//! tell a new input from one like those it has. `corpus/{target}/` has inputs that were interesting once; `tests/corpus.rs`
//! replays them with every test run. The driver is this crate's program; a libFuzzer wrapper would call the same functions.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use device_profiles::{
    Measurement, Profile, Tag,
    codec::scanner,
    decode,
    epc::{self, Epc, Identity},
    gs1::{Barcode, element_string, human, parse_elements, parse_human},
    limits::TAGS_MAX,
    llrp::{Message, TagReads},
    r200,
    shipped::shipped,
    sparkplug::{Host, Payload, Topic},
};

/// Longest input, in bytes: a frame of the largest size and something beyond.
pub const INPUT_BYTES_MAX: usize = 160 * 1024;

/// A target: takes bytes, returns a mark of what became of them.
pub type Target = fn(&[u8]) -> u64;

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("llrp", llrp),
    ("epc", epc),
    ("gs1", gs1),
    ("vendor-json", vendor_json),
    ("serial", serial),
    ("sparkplug", sparkplug),
    ("profile", profile),
];

fn mark(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Decodes twice with a shipped profile; what became of it, coarse enough that equal behaviour has an equal mark.
fn decoded(name: &str, stream: &str, raw: &[u8]) -> u64 {
    static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(|| {
        let names = ["llrp-reader", "impinj-iot", "zebra-iotc", "generic-rfid", "r200"];
        let more = ["scanner-line", "sparkplug", "default", "generic-json"];
        let texts = names.into_iter().chain(more).filter_map(shipped);
        texts.filter_map(|text| Profile::parse(text).ok()).collect()
    });
    let Some(profile) = PROFILES.iter().find(|profile| profile.name.as_str() == name) else {
        unreachable!("profile {name} is shipped")
    };
    let found = decode(profile, stream, raw);
    assert_eq!(found, decode(profile, stream, raw), "decoding must be a function");
    match found {
        Ok(reading) => {
            assert!(reading.measurements.len() <= TAGS_MAX + 1, "a reading is bounded");
            let kinds = reading.measurements.iter().map(|measurement| match measurement {
                Measurement::Tag(read) => (1, u64::from(read.tag.bits() / 16)),
                Measurement::Reader(event) => (2, mark(std::mem::discriminant(event))),
                Measurement::Numbers { missing, .. } => (3, (*missing).min(3)),
                Measurement::Scan { mode, .. } => (4, mark(std::mem::discriminant(mode))),
                Measurement::Value { value, .. } => (5, mark(std::mem::discriminant(value))),
                Measurement::Stock { .. } => (6, 0),
                Measurement::Weight { fault, .. } => (7, u64::from(fault.is_some())),
            });
            mark((true, kinds.take(8).collect::<Vec<_>>()))
        }
        Err(reject) => {
            // Digits are places and figures; what is left is the reason.
            let why: String =
                reject.to_string().chars().filter(|c| !c.is_ascii_digit()).take(60).collect();
            mark((false, reject.code(), why))
        }
    }
}

fn llrp(raw: &[u8]) -> u64 {
    let message = Message::decode(raw);
    if let Ok(message) = &message
        && let Ok(written) = message.encode()
    {
        // What is not known was skipped, and is not written.
        let again = Message::decode(&written).map(|message| message.encode());
        assert_eq!(again, Ok(Ok(written)), "what was written is read alike");
    }
    let tags = TagReads::of(raw).map_or(0, |reads| reads.take_while(Result::is_ok).count());
    mark((decoded("llrp-reader", "reads", raw), message.is_ok(), tags.min(9)))
}

fn epc(raw: &[u8]) -> u64 {
    let identity = epc::identify(raw);
    let why = match &identity {
        Identity::Epc(tag) => {
            let written = tag.encode();
            assert!(written.is_ok_and(|bytes| epc::identify(&bytes) == identity), "{tag:?}");
            assert_eq!(epc::Written::parse_uri(&tag.uri()).as_ref(), Ok(tag), "{}", tag.uri());
            // A pure identity says less than a tag: its form is not in it.
            let pure = Epc::parse_uri(&tag.epc.uri());
            assert_eq!(pure.as_ref(), Ok(&tag.epc), "{}", tag.epc.uri());
            mark(tag.form)
        }
        Identity::Raw { why, .. } => mark(std::mem::discriminant(why)),
    };
    if let Ok(tag) = Tag::of_bytes(raw) {
        assert_eq!(tag.to_string().parse::<Tag>(), Ok(tag), "a tag is its digits");
    }
    let text = String::from_utf8_lossy(raw);
    let named = epc::Written::parse_uri(&text)
        .map_or_else(|e| mark(std::mem::discriminant(&e)), |t| mark(t.form));
    let pure = Epc::parse_uri(&text)
        .map_or_else(|e| mark(std::mem::discriminant(&e)), |e| mark(std::mem::discriminant(&e)));
    mark((why, named, pure))
}

fn gs1(raw: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(raw);
    let barcode = Barcode::read(&text);
    if let Barcode::Elements(elements) = &barcode {
        assert_eq!(parse_elements(&element_string(elements)).as_ref(), Ok(elements));
        // A value that has brackets in it cannot be told from an identifier.
        if elements.iter().all(|element| !element.value().contains('(')) {
            assert_eq!(parse_human(&human(elements)).as_ref(), Ok(elements));
        }
    }
    let why = match &barcode {
        Barcode::Bad { why, .. } => mark(std::mem::discriminant(why)),
        Barcode::Elements(elements) => mark(elements.iter().map(|e| e.ai()).collect::<Vec<_>>()),
        Barcode::Gtin(_) | Barcode::Plain(_) => 0,
    };
    mark((std::mem::discriminant(&barcode), why))
}

fn vendor_json(raw: &[u8]) -> u64 {
    mark([
        decoded("impinj-iot", "reads", raw),
        decoded("zebra-iotc", "reads", raw),
        decoded("zebra-iotc", "sled", raw),
        decoded("generic-rfid", "reads", raw),
        decoded("sparkplug", "metrics", raw),
        decoded("default", "weight", raw),
        decoded("generic-json", "scan", raw),
    ])
}

fn serial(raw: &[u8]) -> u64 {
    // However the line cuts it into pieces, the frames are the same.
    let mut whole = r200::Deframer::default();
    let once = whole.push(raw);
    for size in [1, 7] {
        let mut pieces = r200::Deframer::default();
        let cut: Vec<u8> = raw.chunks(size).flat_map(|piece| pieces.push(piece)).collect();
        assert_eq!((&cut, pieces.noise()), (&once, whole.noise()), "pieces of {size}");
    }
    assert!(whole.held() < r200::R200_BYTES_MAX, "no more than a frame is held");
    assert_eq!(once.len() as u64 + whole.noise() + whole.held() as u64, raw.len() as u64);
    let (frames, noise) = r200::frames(&once);
    assert_eq!(noise, 0, "what was cut out are frames");
    if let Some(line) = scanner::split(raw) {
        assert_eq!(scanner::split(&scanner::frame(&line)), Some(line.clone()));
    }
    mark((
        frames.len().min(5),
        whole.noise().min(3),
        decoded("r200", "reads", &once),
        decoded("scanner-line", "scan", raw),
    ))
}

fn sparkplug(raw: &[u8]) -> u64 {
    let parsed = Payload::decode(raw);
    if let Ok(payload) = &parsed {
        let written = payload.encode();
        // Compared as written, for NaN is not equal to itself.
        assert_eq!(Payload::decode(&written).map(|payload| payload.encode()), Ok(written));
    }
    // A session of messages: a byte says which, two how long, then the payload.
    let topics = [
        "spBv1.0/G/NBIRTH/E",
        "spBv1.0/G/NDATA/E",
        "spBv1.0/G/DBIRTH/E/D",
        "spBv1.0/G/DDATA/E/D",
        "spBv1.0/G/DDEATH/E/D",
        "spBv1.0/G/NDEATH/E",
        "spBv1.0/G/NBIRTH/F",
        "spBv1.0/G/NCMD/E",
    ];
    let (mut host, mut rest, mut now_ms, mut marks) = (Host::default(), raw, 0_i64, Vec::new());
    while let [which, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (payload, behind) = after.split_at(length);
        rest = behind;
        now_ms += i64::from(*which) * 7;
        let Some(topic) = topics.get(usize::from(*which) % topics.len()) else { break };
        let Some(topic) = Topic::parse(topic) else { break };
        let (told, _) = host.message(now_ms, &topic, payload, true);
        for frame in &told.frames {
            let sound = decoded("sparkplug", frame.stream, &frame.raw);
            marks.push(mark((frame.device.is_some(), frame.stream, sound)));
        }
        marks.push(mark((told.rebirth, told.why.map(|why| std::mem::discriminant(&why)))));
        for (_, told) in host.tick(now_ms) {
            marks.push(mark((told.rebirth, told.frames.len())));
        }
        assert!(host.count().1 <= 2);
    }
    mark((
        parsed.map_err(|bad| mark(std::mem::discriminant(&bad))).map(|p| p.metrics.len().min(9)),
        marks.len().min(20),
        marks.last().copied(),
    ))
}

fn profile(raw: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(raw);
    match Profile::parse(&text) {
        Ok(profile) => mark((true, profile.codec.as_str(), profile.streams.len())),
        Err(error) => {
            let what: String =
                error.what().chars().filter(|c| c.is_ascii_alphabetic()).take(40).collect();
            mark((false, what))
        }
    }
}
