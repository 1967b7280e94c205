//! `cargo xtask test`: one command that says whether the tree is sound.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, bail};

use crate::{debian, summary::Summary};

/// Version of cargo-deny that CI installs.
const CARGO_DENY: &str = "0.20.2";
/// An advisory snapshot older than this is as good as none, in days.
const ADVISORIES_DAYS_MAX: u64 = 180;

#[derive(clap::Args)]
pub struct Args {
    /// The inner loop: no licence check.
    #[arg(long)]
    fast: bool,
    /// As CI runs it: a skip that tests/skips-allowed does not list is a failure.
    #[arg(long)]
    ci: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    std::env::set_current_dir(root()?)?;
    debian::ensure(debian::TESTS)?;
    let mut summary = Summary::default();
    step(&mut summary, "format", &["fmt", "--all", "--check"])?;
    step(
        &mut summary,
        "clippy",
        &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"],
    )?;
    if args.fast {
        summary.skip("licences", "--fast");
    } else {
        deny(&mut summary)?;
    }
    // --nocapture lets a test's own SKIP line through.
    step(
        &mut summary,
        "tests",
        &["test", "--workspace", "--quiet", "--no-fail-fast", "--", "--nocapture"],
    )?;
    let allowed: BTreeSet<String> = std::fs::read_to_string("tests/skips-allowed")?
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(str::to_owned)
        .collect();
    if summary.print(args.ci.then_some(&allowed)) { Ok(()) } else { bail!("not sound") }
}

fn root() -> anyhow::Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).context("no root")
}

/// Runs cargo, shows its output, reads test results from it.
#[allow(clippy::disallowed_methods, reason = "measuring")]
fn step(summary: &mut Summary, name: &str, args: &[&str]) -> anyhow::Result<()> {
    let started = Instant::now();
    println!("── {name}: cargo {}", args.join(" "));
    let mut child = Command::new("cargo").args(args).stdout(Stdio::piped()).spawn()?;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            summary.line(&line);
        }
    }
    let good = child.wait()?.success();
    println!("── {name}: {} in {:.0?}", if good { "ok" } else { "FAILED" }, started.elapsed());
    summary.step(name, good);
    Ok(())
}

fn deny(summary: &mut Summary) -> anyhow::Result<()> {
    let version = Command::new("cargo").args(["deny", "--version"]).output()?;
    if !version.status.success() {
        println!("── installing cargo-deny {CARGO_DENY} (once, some minutes)");
        let status = Command::new("cargo")
            .args(["install", "cargo-deny", "--version", CARGO_DENY, "--locked", "--quiet"])
            .status()?;
        if !status.success() {
            summary.step("licences", false);
            return Ok(());
        }
    }
    step(summary, "licences", &["deny", "check", "bans", "licenses", "sources"])?;
    advisories(summary)
}

/// Checks against the snapshot of the RustSec database beside the repository. cargo-deny wants a git checkout in a folder of
/// a fixed name, so one is made of the plain files.
fn advisories(summary: &mut Summary) -> anyhow::Result<()> {
    let snapshot = root()?.join("../shared/advisory-db");
    if !snapshot.join("crates").is_dir() {
        summary.skip("advisories", "no snapshot of the advisory database beside the repository");
        return Ok(());
    }
    let days = newest_day(&snapshot)?;
    if days > ADVISORIES_DAYS_MAX {
        println!(
            "the advisory snapshot is {days} days old, at most {ADVISORIES_DAYS_MAX} are allowed"
        );
        summary.step("advisories", false);
        return Ok(());
    }
    println!("── advisories: snapshot is {days} days old");
    let db = root()?.join("target/advisory-dbs");
    let checkout = db.join("advisory-db-3157b0e258782691");
    let _ = std::fs::remove_dir_all(&checkout);
    std::fs::create_dir_all(&checkout)?;
    let shell = |script: &str| -> anyhow::Result<()> {
        let done = Command::new("sh").args(["-ec", script]).current_dir(&checkout).status()?;
        if done.success() { Ok(()) } else { bail!("could not lay out the advisory database") }
    };
    shell(&format!(
        "cp -r '{}'/. . && chmod -R u+w . && git init -q && git add -A && \
         git -c user.name=x -c user.email=x@x commit -qm snapshot && : > .git/FETCH_HEAD",
        snapshot.display()
    ))?;
    let config = std::fs::read_to_string("deny.toml")?;
    let with_path = format!("{config}\n[advisories]\ndb-path = \"{}\"\n", db.display());
    let file = root()?.join("target/deny-advisories.toml");
    std::fs::write(&file, with_path)?;
    let file = file.to_string_lossy().into_owned();
    step(summary, "advisories", &["deny", "--offline", "check", "--config", &file, "advisories"])
}

/// Age of the snapshot: days since the newest advisory id's file changed is unknowable from a copy, so the newest `date` of
/// its advisories counts.
fn newest_day(snapshot: &Path) -> anyhow::Result<u64> {
    let out = Command::new("sh")
        .args(["-c", "grep -rhoE '^date = \"[0-9-]+\"' crates | sort | tail -n 1 | cut -d'\"' -f2 | xargs -I{} date -d {} +%s; date +%s"])
        .current_dir(snapshot)
        .output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let mut seconds = text.lines().filter_map(|line| line.parse::<u64>().ok());
    let (newest, now) = (seconds.next().context("no date")?, seconds.next().context("no date")?);
    Ok(now.saturating_sub(newest) / 86_400)
}
