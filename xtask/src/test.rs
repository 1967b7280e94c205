//! `cargo xtask test`: one command that says whether the tree is sound.

use std::{collections::BTreeSet, process::ExitCode};

use crate::{debian, licences, program, python, step, summary::Summary};

/// Kills of the crash ring in a usual run, and in a long one.
const KILLS: (&str, &str) = ("6", "50");
/// Cases of each of the fold's six properties in a whole run: more than 100,000 together.
const CASES: &str = "env.STOCKFOLD_CASES=\"17000\"";
/// How long every fuzz target together is fed in a long run, in seconds.
const FUZZ_SECONDS: &str = "7200";
/// Benchmarks of a long run.
const BENCHES: [&str; 15] = [
    "rated",
    "ingest",
    "ingest-weight",
    "idle",
    "devices",
    "outage",
    "broker",
    "broker-crash",
    "series",
    "series-outage",
    "modbus",
    "modbus-line",
    "modbus-reconnect",
    "llrp",
    "readers",
];

#[derive(clap::Args)]
pub struct Args {
    /// The inner loop: format, lints and the tests that need no other program.
    #[arg(long)]
    pub fast: bool,
    /// As CI runs it: a skip that tests/skips-allowed does not list is a failure.
    #[arg(long)]
    pub ci: bool,
    /// Adds the long crash ring and every benchmark.
    #[arg(long)]
    pub nightly: bool,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut summary = Summary::default();
    step::cargo(&mut summary, "format", &["fmt", "--all", "--check"])?;
    let clippy =
        ["clippy", "--locked", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    step::cargo(&mut summary, "clippy", &clippy)?;
    if args.fast {
        let pure = ["test", "--locked", "-p", "device-profiles", "-p", "fold", "-p", "actors"];
        step::cargo(&mut summary, "tests", &pure)?;
    } else {
        whole(&mut summary, args.nightly)?;
    }
    let listed: BTreeSet<String> = std::fs::read_to_string("tests/skips-allowed")?
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(str::to_owned)
        .collect();
    let (text, good) = summary.report(args.ci.then_some(&listed));
    println!("{text}");
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn whole(summary: &mut Summary, long: bool) -> anyhow::Result<()> {
    debian::ensure(debian::TESTS)?;
    python::ensure()?;
    licences::check(summary)?;
    // Tests across crates run these binaries and do not build them; without them the tests would speak of an older tree.
    // The whole workspace each time: a part of it would want other features of the same crates, and so build them twice.
    if !step::cargo(summary, "binaries", &["build", "--locked", "--workspace", "--bins"])? {
        return Ok(());
    }
    // --show-output brings up what a test printed of a skip.
    let tests = ["test", "--locked", "--workspace", "--no-fail-fast", "--", "--show-output"];
    step::cargo(summary, "tests", &tests)?;
    let cases = ["test", "--locked", "--config", CASES, "--workspace", "--test", "properties"];
    step::cargo(summary, "properties", &cases)?;
    if !step::cargo(summary, "release", &program::build_all_args())? {
        return Ok(());
    }
    let bench = |words: &[&str]| {
        let run = "run --locked --quiet --release -p stockfold-tests --bin stockfold-bench --";
        run.split(' ').chain(words.iter().copied()).map(str::to_owned).collect::<Vec<_>>()
    };
    let kills = if long { KILLS.1 } else { KILLS.0 };
    step::cargo(summary, "crash ring", &bench(&["crash", "--kills", kills]))?;
    if long {
        let fuzz = "run --locked --quiet --release -p stockfold-fuzz -- --seconds";
        let fuzz: Vec<&str> = fuzz.split(' ').chain([FUZZ_SECONDS]).collect();
        step::cargo(summary, "fuzz", &fuzz)?;
        for name in BENCHES {
            step::cargo(summary, name, &bench(&[name]))?;
        }
    }
    Ok(())
}
