//! The journal against a model: whatever is appended, synced, cut and read back, exactly the acknowledged prefix survives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test may panic"
)]

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use actors::{
    journal::{
        AckCell, AppendRefusal, Completion, Journal, OpenError, Options, Record, Writer, format,
        salvage,
    },
    ports::{
        clock::Clock,
        fs::Fs,
        rng::{Rng, SplitMix},
        sim_fs::SimFs,
    },
};
use proptest::prelude::*;

#[derive(Debug, Clone, Default)]
struct TestClock(Arc<AtomicI64>);
impl Clock for TestClock {
    fn mono_us(&self) -> i64 {
        self.0.fetch_add(7, Relaxed)
    }
    fn wall_us(&self) -> i64 {
        1_795_000_000_000_000 + self.0.load(Relaxed)
    }
}

const SEGMENT: u64 = 8_192;

fn options() -> Options {
    Options { segment_bytes: SEGMENT, ..Options::default() }
}

fn open(
    fs: &SimFs,
) -> Result<(Journal<SimFs>, Writer<SimFs>, actors::journal::Recovered), OpenError> {
    Journal::open(fs.clone(), Arc::new(TestClock::default()), &options())
}

fn read_all(journal: &Journal<SimFs>, after: u64) -> Vec<Record> {
    let mut reader = journal.reader(after);
    let mut all = Vec::new();
    while reader.read(&mut all).unwrap() {}
    all
}

fn payload(n: u64, bytes: usize) -> Vec<u8> {
    let mut out = n.to_le_bytes().to_vec();
    out.resize(bytes.max(8), (n % 251) as u8);
    out
}

fn number(record: &Record) -> u64 {
    u64::from_le_bytes(record.payload[..8].try_into().unwrap())
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Write,
    Crash(u64),
    Reopen,
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (8usize..900).prop_map(Step::Append),
        1 => (4_000usize..7_000).prop_map(Step::Append),
        4 => Just(Step::Write),
        1 => any::<u64>().prop_map(Step::Crash),
        1 => Just(Step::Reopen),
        1 => Just(Step::Trim),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Acknowledged records survive every crash, in order, under their offsets; what was not acknowledged may be there or
    /// not, but only as a prefix; nothing else ever appears.
    #[test]
    fn acknowledged_survives(steps in steps()) {
        let fs = SimFs::default();
        let (mut journal, mut writer, _) = open(&fs).unwrap();
        let mut next = 0u64;
        // Appended and not written; written, so acknowledged.
        let mut queued: Vec<u64> = Vec::new();
        let mut acked: Vec<u64> = Vec::new();
        let mut offsets: Vec<(u64, u64)> = Vec::new();
        let mut cell = AckCell::new();
        for step in steps {
            match step {
                Step::Append(bytes) => {
                    let done = Completion::Cell(Arc::clone(&cell));
                    journal.append(0, 1, payload(next, bytes), done).unwrap();
                    queued.push(next);
                    next += 1;
                }
                Step::Write => {
                    let before = cell.completed();
                    prop_assert!(writer.step(false).unwrap());
                    let told = cell.completed() - before;
                    prop_assert_eq!(told, queued.len() as u64);
                    acked.append(&mut queued);
                }
                Step::Crash(seed) => {
                    // Half the time the power goes while a group is being written.
                    let rng = SplitMix::new(seed);
                    if rng.bits().is_multiple_of(2) && !queued.is_empty() {
                        fs.fail_syncs(true);
                        prop_assert!(writer.step(false).is_err());
                        fs.fail_syncs(false);
                    }
                    fs.crash(&rng);
                    let (j, w, _) = open(&fs).unwrap();
                    (journal, writer) = (j, w);
                    cell = AckCell::new();
                    let all: Vec<u64> = read_all(&journal, 0).iter().map(number).collect();
                    let first = all.first().copied().unwrap_or(0);
                    let tail: Vec<u64> = acked.iter().copied().filter(|n| *n >= first).collect();
                    prop_assert!(all.starts_with(&tail), "acknowledged {:?}, found {:?}", tail, all);
                    let extra = &all[tail.len()..];
                    prop_assert!(queued.starts_with(extra), "queued {:?}, extra {:?}", queued, extra);
                    acked.extend_from_slice(extra);
                    queued.clear();
                }
                Step::Reopen => {
                    prop_assert!(writer.step(false).unwrap());
                    acked.append(&mut queued);
                    let before: Vec<Record> = read_all(&journal, 0);
                    let (j, w, recovered) = open(&fs).unwrap();
                    prop_assert_eq!(recovered.torn, None);
                    (journal, writer) = (j, w);
                    cell = AckCell::new();
                    prop_assert_eq!(read_all(&journal, 0), before);
                }
                Step::Trim => {
                    let all = read_all(&journal, 0);
                    if let Some(middle) = all.get(all.len() / 2) {
                        journal.trim(middle.offset).unwrap();
                        let left = read_all(&journal, 0);
                        prop_assert!(left.iter().any(|r| r.offset == middle.offset));
                    }
                }
            }
            offsets.clear();
            offsets.extend(read_all(&journal, 0).iter().map(|r| (r.offset, r.seq)));
            prop_assert!(offsets.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 + 1 == w[1].1));
        }
        // Every place can be read from, and looked up.
        let all = read_all(&journal, 0);
        for record in all.iter().step_by(7) {
            let found = journal.record_at(record.offset).unwrap();
            prop_assert_eq!(found.as_ref(), Some(record));
            let later = read_all(&journal, record.offset);
            prop_assert!(later.iter().all(|r| r.offset > record.offset));
            prop_assert_eq!(later.len(), all.iter().filter(|r| r.offset > record.offset).count());
        }
    }
}

/// A journal of three segments with known contents, every group synced.
fn filled() -> (SimFs, Vec<Record>) {
    let fs = SimFs::default();
    let (journal, mut writer, _) = open(&fs).unwrap();
    for n in 0..60 {
        journal.append(0, 1, payload(n, 300), Completion::None).unwrap();
        if n % 4 == 3 {
            writer.step(false).unwrap();
        }
    }
    let all = read_all(&journal, 0);
    assert_eq!(all.len(), 60);
    assert!(journal.segments().len() >= 3);
    (fs, all)
}

#[test]
fn every_flipped_bit_is_damage_or_a_torn_tail_and_never_silent() {
    let (fs, all) = filled();
    let names: Vec<String> = fs.list().unwrap();
    let rng = SplitMix::new(11);
    let (mut refused, mut torn, mut by_reader) = (0, 0, 0);
    for _ in 0..800 {
        let name = &names[(rng.bits() % names.len() as u64) as usize];
        let good = fs.durable(name).unwrap();
        let byte = (rng.bits() % good.len() as u64) as usize;
        fs.flip(name, byte, (rng.bits() % 8) as u8);
        let before = fs.durable(name).unwrap();
        match open(&fs) {
            Err(OpenError::Damaged(damage)) => {
                refused += 1;
                assert!(damage.to_string().contains("salvage"), "{damage}");
                assert_eq!(fs.durable(name).unwrap(), before, "a refused journal is not changed");
            }
            Err(error) => panic!("{error}"),
            Ok((journal, _, recovered)) => {
                torn += u32::from(recovered.torn.is_some());
                let mut reader = journal.reader(0);
                let mut found = Vec::new();
                let read = loop {
                    match reader.read(&mut found) {
                        Ok(true) => {}
                        Ok(false) => break Ok(()),
                        Err(error) => break Err(error),
                    }
                };
                match read {
                    Err(error) => {
                        by_reader += 1;
                        assert!(error.to_string().contains("damaged"), "{error}");
                    }
                    // A flip in unused zeros, or in the last group, which then counts as torn.
                    Ok(()) => {
                        assert!(all.starts_with(&found), "{} of {}", found.len(), all.len());
                        assert!(found.len() >= all.len() - 4);
                    }
                }
            }
        }
        for other in &names {
            if other != name && fs.durable(other).is_none() {
                fs.create_zeroed(other, SEGMENT).unwrap();
            }
        }
        fs.replace(name, good);
        // What recovery zeroed in the newest segment comes back too.
        restore(&fs, &names);
    }
    assert!(refused > 20 && torn > 10 && by_reader > 20, "{refused} {torn} {by_reader}");
}

/// Puts the known contents back.
fn restore(fs: &SimFs, names: &[String]) {
    let (fresh, _) = filled();
    for name in fs.list().unwrap() {
        if !names.contains(&name) {
            fs.remove(&name).unwrap();
        }
    }
    for name in names {
        fs.replace(name, fresh.durable(name).unwrap());
    }
}

#[test]
fn a_tail_cut_at_every_byte_gives_the_exact_prefix() {
    let (fs, all) = filled();
    let last = all.last().unwrap();
    let group: Vec<&Record> = all[56..].iter().collect();
    let name = format!("{:012}.segment", last.offset >> 26);
    let good = fs.durable(&name).unwrap();
    let within = |offset: u64| (offset & ((1 << 26) - 1)) as usize;
    let start = within(group[0].offset);
    let end = within(last.offset) + format::RECORD_BYTES + last.payload.len();
    for cut in start..end {
        let mut torn = good.clone();
        torn[cut..].fill(0);
        fs.replace(&name, torn);
        let (journal, mut writer, recovered) = open(&fs).unwrap();
        let kept = all.iter().filter(|r| {
            r.offset < last.offset & !((1 << 26) - 1)
                || within(r.offset) + format::RECORD_BYTES + r.payload.len() <= cut
        });
        let kept: Vec<Record> = kept.cloned().collect();
        assert_eq!(read_all(&journal, 0), kept, "cut at {cut}");
        let clean = cut == start
            || kept
                .last()
                .is_some_and(|r| within(r.offset) + format::RECORD_BYTES + r.payload.len() == cut);
        // A cut within zeros of a header's fields leaves nothing to see.
        assert!(!(clean && recovered.torn.is_some()), "cut at {cut}");
        // Life goes on behind it.
        journal.append(0, 1, payload(999, 50), Completion::None).unwrap();
        writer.step(false).unwrap();
        assert_eq!(read_all(&journal, 0).last().map(number), Some(999));
        fs.replace(&name, good.clone());
    }
}

#[test]
fn a_missing_segment_is_named_and_salvage_keeps_the_rest() {
    let (fs, all) = filled();
    let second = all.iter().find(|r| r.offset >> 26 == 1).unwrap();
    fs.remove("000000000001.segment").unwrap();
    let error = open(&fs).err().unwrap().to_string();
    assert!(error.contains("segment 1 is missing"), "{error}");
    let (_, lost) = salvage(&fs, false, |_, _| {}).unwrap();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].first_seq, second.seq);
    salvage(&fs, true, |_, _| {}).unwrap();
    let (journal, ..) = open(&fs).unwrap();
    let kept: Vec<Record> = all.iter().filter(|r| r.offset >> 26 != 1).cloned().collect();
    assert_eq!(read_all(&journal, 0), kept, "offsets and sequence numbers stay");
}

#[test]
fn salvage_loses_only_the_damaged_record_and_says_so() {
    let (fs, all) = filled();
    let victim = &all[10];
    let name = format!("{:012}.segment", victim.offset >> 26);
    fs.flip(&name, (victim.offset & ((1 << 26) - 1)) as usize + 40, 3);
    let (records, lost) = salvage(&fs, false, |_, _| {}).unwrap();
    assert_eq!(records, 59);
    assert_eq!(
        (lost.len(), lost[0].offset, lost[0].first_seq, lost[0].next_seq),
        (1, victim.offset, victim.seq, victim.seq + 1)
    );
    salvage(&fs, true, |_, _| {}).unwrap();
    let (journal, ..) = open(&fs).unwrap();
    let kept: Vec<Record> = all.iter().filter(|r| r.offset != victim.offset).cloned().collect();
    assert_eq!(read_all(&journal, 0), kept);
    assert_eq!(
        salvage(&fs, false, |_, _| {}).unwrap(),
        (59, Vec::new()),
        "what was salvaged is sound"
    );
}

#[test]
fn a_full_disk_takes_nothing_and_loses_nothing() {
    let fs = SimFs::default();
    let (journal, mut writer, _) = open(&fs).unwrap();
    fs.set_bytes_max(Some(3 * SEGMENT));
    let cell = AckCell::new();
    let mut appended = 0;
    let refused = loop {
        journal.append(0, 1, payload(appended, 900), Completion::Cell(Arc::clone(&cell))).unwrap();
        appended += 1;
        if let Err(error) = writer.step(false) {
            break error;
        }
    };
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(cell.completed(), appended - 1, "the one without space was not acknowledged");
    assert_eq!(read_all(&journal, 0).len() as u64, appended - 1);
}

#[test]
fn the_queue_is_bounded_and_closing_refuses() {
    let fs = SimFs::default();
    let (journal, _writer, _) = open(&fs).unwrap();
    let mut taken = 0;
    let refusal = loop {
        match journal.append(0, 1, vec![0; 1 << 19], Completion::None) {
            Ok(()) => taken += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!((refusal, taken), (AppendRefusal::Full, 31));
    assert_eq!(
        journal.append(0, 1, vec![0; 1 << 20], Completion::None),
        Err(AppendRefusal::TooLarge)
    );
    journal.close();
    assert_eq!(journal.append(0, 1, vec![1], Completion::None), Err(AppendRefusal::Stopped));
}

#[test]
fn bytes_that_were_made_to_look_like_a_record_are_not_taken_for_one() {
    // Somebody who knows the format sends records of a journal of his own as payload, hoping that a search for sound
    // records behind damage finds them. He cannot know the salt.
    let salted = |salt| Options { salt_if_new: salt, ..options() };
    let forged = |salt: u64, seq: u64| {
        let mut bytes = Vec::new();
        let seal = format::Seal { salt, segment: 0 };
        format::encode(&mut bytes, seal, seq, 0, i64::MAX, 0, 1, b"forged");
        bytes
    };
    for (salt, guessed, taken) in [(11, 12, false), (11, 11, true)] {
        let fs = SimFs::default();
        let (journal, mut writer, _) =
            Journal::open(fs.clone(), Arc::new(TestClock::default()), &salted(salt)).unwrap();
        journal.append(0, 1, forged(guessed, 2), Completion::None).unwrap();
        journal.append(0, 1, payload(2, 64), Completion::None).unwrap();
        writer.step(false).unwrap();
        let all = read_all(&journal, 0);
        let name = "000000000000.segment";
        fs.flip(name, all[0].offset as usize + 8, 0);
        let (_, lost) = salvage(&fs, false, |_, _| {}).unwrap();
        // The control: with the right salt the forgery would stand where it was put.
        let found = lost[0].offset + lost[0].bytes != all[1].offset;
        assert_eq!(found, taken, "salt {salt}, guessed {guessed}: {lost:?}");
    }
}
