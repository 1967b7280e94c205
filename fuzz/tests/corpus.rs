//! The corpora, replayed: every input that was interesting once, for every target, and inputs that are long or deep.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

use std::{collections::BTreeSet, fs, path::Path};

use stockfold_fuzz::{INPUT_BYTES_MAX, TARGETS};

fn inputs(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn every_input_of_every_corpus_is_taken_by_every_target() {
    for (name, own) in TARGETS {
        let mine = inputs(name);
        assert!(mine.len() >= 5, "{name} has a corpus");
        let marks: BTreeSet<u64> = mine.iter().map(|input| own(input)).collect();
        assert!(
            marks.len() * 3 > mine.len(),
            "the inputs of {name} differ in what becomes of them"
        );
        for (_, other) in TARGETS {
            for input in &mine {
                other(input);
            }
        }
    }
}

#[test]
fn every_beginning_of_an_input_is_taken_too() {
    for (name, target) in TARGETS {
        for input in inputs(name) {
            for end in 0..input.len().min(600) {
                target(&input[..end]);
            }
        }
    }
}

#[test]
fn long_and_deep_inputs_end() {
    let floods: [&[u8]; 12] = [
        b"[",
        b"{\"a\":",
        b"{}",
        b"[],",
        b"\"",
        b"0",
        b" ",
        b"\xbb",
        b"\xbb\x02\x22\xff\xff",
        b"\x12\x00",
        b"\xff",
        b"(01)",
    ];
    for flood in floods {
        let mut input = flood.repeat(INPUT_BYTES_MAX / flood.len());
        for (_, target) in TARGETS {
            target(&input);
        }
        // As long as a frame may be.
        input.truncate(128 * 1024);
        for (_, target) in TARGETS {
            target(&input);
        }
    }
}
