//! `stockfold-fuzz`: mutates the corpora and runs every target on what comes of it.
//!
//! It knows nothing of the code's branches; what a target says became of an input tells whether the input is a new one, and new
//! ones are mutated further. A panic or an input that takes longer than [`SLOW_MS_MAX`] ends the run with the input written
//! to `fuzz/found/`, to become a part of the corpus with the mending. `--seed` repeats a run.
#![allow(clippy::print_stdout, reason = "this program talks to a terminal")]

use std::{
    collections::HashSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use stockfold_fuzz::{INPUT_BYTES_MAX, TARGETS, Target};

/// Longest time an input may take, in milliseconds. Inputs are at most 160 KiB; without optimisation they take a tenth of it.
const SLOW_MS_MAX: u128 = 2_000;
/// Inputs kept of a target; more of them replace others.
const KEPT_MAX: usize = 4_096;
/// Mutations of an input at once.
const STEPS_MAX: usize = 8;
/// Longest input that is mutated, in bytes: most that can go wrong does so in short ones.
const SHORT_BYTES_MAX: usize = 4_096;

/// Runs fuzz targets.
#[derive(Parser)]
struct Args {
    /// One target; all of them without it.
    #[arg(long)]
    target: Option<String>,
    /// How long, shared by the targets.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Inputs to begin with, a folder a target.
    #[arg(long, default_value = "fuzz/corpus")]
    corpus: PathBuf,
    /// Where an input that fails is written.
    #[arg(long, default_value = "fuzz/found")]
    found: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let chosen: Vec<&(&str, Target)> = TARGETS
        .iter()
        .filter(|(name, _)| args.target.as_deref().is_none_or(|wanted| wanted == *name))
        .collect();
    anyhow::ensure!(!chosen.is_empty(), "no such target; there are {:?}", TARGETS.map_names());
    let share = Duration::from_secs(args.seconds) / u32::try_from(chosen.len())?;
    // A panic is reported with its input; the place it came from is still printed by the default hook.
    for (name, target) in chosen {
        if let Some(input) = fuzz(name, *target, share, &args)? {
            fs::create_dir_all(&args.found)?;
            let path = args.found.join(format!("{name}-{}", args.seed));
            fs::write(&path, &input)?;
            println!("{name}: FAILED, {} bytes in {}", input.len(), path.display());
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

trait Names {
    fn map_names(&self) -> Vec<&'static str>;
}

impl Names for [(&'static str, Target)] {
    fn map_names(&self) -> Vec<&'static str> {
        self.iter().map(|(name, _)| *name).collect()
    }
}

/// Runs one target; an input that fails.
#[allow(clippy::disallowed_methods, reason = "measuring")]
fn fuzz(
    name: &str,
    target: Target,
    share: Duration,
    args: &Args,
) -> anyhow::Result<Option<Vec<u8>>> {
    let mut rng = StdRng::seed_from_u64(args.seed);
    let (mut kept, mut marks) = (corpus(&args.corpus.join(name))?, HashSet::new());
    anyhow::ensure!(!kept.is_empty(), "{name} has no corpus in {}", args.corpus.display());
    let begun = Instant::now();
    let (mut runs, mut next) = (0_u64, kept.clone());
    while begun.elapsed() < share {
        let input = match next.pop() {
            Some(input) => input,
            None => mutated(&kept, &mut rng),
        };
        let started = Instant::now();
        let Ok(mark) = catch_unwind(AssertUnwindSafe(|| target(&input))) else {
            return Ok(Some(input));
        };
        if started.elapsed().as_millis() > SLOW_MS_MAX {
            return Ok(Some(input));
        }
        runs += 1;
        if marks.insert(mark) {
            if kept.len() < KEPT_MAX {
                kept.push(input);
            } else if let Some(slot) = kept.get_mut(rng.random_range(0..KEPT_MAX)) {
                *slot = input;
            }
        }
    }
    println!("{name}: {runs} inputs, {} marks", marks.len());
    Ok(None)
}

/// The files of a folder, in order of their names.
fn corpus(folder: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    paths.sort();
    paths.iter().map(|path| Ok(fs::read(path)?)).collect()
}

/// Bytes at which parsers decide.
const TELLING: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\xff\xff",
    b"\x7f",
    b"\x80",
    b"\r\n",
    b"\t",
    b"{",
    b"}",
    b"[",
    b"]",
    b"}{",
    b"\"",
    b"\\",
    b":",
    b",",
    b"null",
    b"-1",
    b"1e309",
    b"18446744073709551616",
    b"\xbb",
    b"\x7e",
    b"\xaa",
    b"\xdd",
    b"\x1d",
    b"]C1",
    b"(01)",
    b"https://id.gs1.org/01/",
    b"urn:epc:id:",
    b"\xc3\xa9",
    b"\xf0\x9f\x98\x80",
    b"\x00\xf0\x00\x04",
];

fn mutated(kept: &[Vec<u8>], rng: &mut impl Rng) -> Vec<u8> {
    let Some(first) = kept.choose(rng) else { return Vec::new() };
    let mut input = first.clone();
    for _ in 0..rng.random_range(1..=STEPS_MAX) {
        let at = rng.random_range(0..=input.len());
        let length = rng.random_range(0..=16).min(input.len() - at);
        match rng.random_range(0..8) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << rng.random_range(0..8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = rng.random();
                }
            }
            2 => {
                input.drain(at..at + length);
            }
            3 => input.insert(at, rng.random()),
            4 => {
                let copy: Vec<u8> = input.iter().skip(at).take(length).copied().collect();
                let to = rng.random_range(0..=input.len());
                input.splice(to..to, copy);
            }
            5 => {
                let words: &[u8] = TELLING.choose(rng).copied().unwrap_or_default();
                input.splice(at..at + length.min(words.len()), words.iter().copied());
            }
            6 => {
                if let Some(other) = kept.choose(rng) {
                    let from = rng.random_range(0..=other.len());
                    input.truncate(at);
                    input.extend(other.iter().skip(from));
                }
            }
            _ => input.truncate(at),
        }
        // Now and then a long one: the same again and again.
        if rng.random_range(0..2_000) == 0 && !input.is_empty() {
            let times = INPUT_BYTES_MAX / input.len();
            input = input.repeat(times);
            input.truncate(INPUT_BYTES_MAX);
            return input;
        }
        input.truncate(SHORT_BYTES_MAX);
    }
    input
}
