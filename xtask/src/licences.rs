//! Licences, bans, sources and advisories of everything that is linked, by cargo-deny.
//!
//! The advisory database is a folder of plain files beside the repository. cargo-deny wants a git checkout under a name of
//! its own making, so one is made of the files.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, bail};

use crate::{root, step, summary::Summary, target};

/// Version of cargo-deny that is installed when there is none.
const CARGO_DENY: &str = "0.20.2";
/// An advisory snapshot older than this is as good as none, in days.
const ADVISORIES_DAYS_MAX: u64 = 180;
/// Name under which cargo-deny looks for the default database.
const CHECKOUT: &str = "advisory-db-3157b0e258782691";

/// Checks everything, installing cargo-deny first if it is absent.
pub fn check(summary: &mut Summary) -> anyhow::Result<()> {
    let version = Command::new("cargo").args(["deny", "--version"]).output()?;
    if !version.status.success() {
        // Unoptimised it is built in a third of the time, and looks at the graph within seconds.
        let install = "install cargo-deny --locked --quiet --debug --version";
        let install: Vec<&str> = install.split(' ').chain([CARGO_DENY]).collect();
        step::cargo(summary, "cargo-deny", &install)?;
    }
    // The graph is looked at for every target, so crates that this machine never builds must be at hand as well.
    step::cargo(summary, "fetch", &["fetch", "--locked", "--quiet"])?;
    let licences = ["deny", "--offline", "check", "bans", "licenses", "sources"];
    step::cargo(summary, "licences", &licences)?;
    advisories(summary)
}

fn advisories(summary: &mut Summary) -> anyhow::Result<()> {
    let snapshot = root()?.join("../shared/advisory-db");
    if !snapshot.join("crates").is_dir() {
        summary.skip("advisories", "no snapshot of the advisory database beside the repository");
        return Ok(());
    }
    let days = days_old(&snapshot)?;
    println!("── advisories: the snapshot is {days} days old");
    if days > ADVISORIES_DAYS_MAX {
        println!("at most {ADVISORIES_DAYS_MAX} days are allowed; fetch a newer one");
        summary.step("advisories", false, Duration::ZERO);
        return Ok(());
    }
    let databases = target()?.join("advisory-dbs");
    check_out(&snapshot, &databases.join(CHECKOUT))?;
    let config = std::fs::read_to_string("deny.toml")?;
    let place = format!("[advisories]\ndb-path = \"{}\"", databases.display());
    let file = target()?.join("deny.toml");
    std::fs::write(&file, config.replace("[advisories]", &place))?;
    let file = file.to_str().context("the target directory's path is not UTF-8")?;
    step::cargo(
        summary,
        "advisories",
        &["deny", "--offline", "--config", file, "check", "advisories"],
    )?;
    Ok(())
}

fn check_out(snapshot: &Path, checkout: &Path) -> anyhow::Result<()> {
    if checkout.exists() {
        std::fs::remove_dir_all(checkout)?;
    }
    std::fs::create_dir_all(checkout)?;
    let script = "cp -r \"$1\"/. . && chmod -R u+w . && git init -q && git add -A && \
                  git -c user.name=xtask -c user.email=xtask@localhost commit -qm snapshot && : > .git/FETCH_HEAD";
    let done = Command::new("sh")
        .args(["-ec", script, "sh"])
        .arg(std::fs::canonicalize(snapshot)?)
        .current_dir(checkout)
        .status()?;
    if done.success() { Ok(()) } else { bail!("the advisory database could not be laid out") }
}

/// A copy's file times say nothing, so the newest advisory's own date counts.
fn days_old(snapshot: &Path) -> anyhow::Result<u64> {
    let script = "grep -rhoE '^date = \"[0-9-]+\"' crates | sort | tail -n 1 | cut -d'\"' -f2 | \
                  xargs -I{} date -d {} +%s; date +%s";
    let out = Command::new("sh").args(["-c", script]).current_dir(snapshot).output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let mut seconds = text.lines().filter_map(|line| line.parse::<u64>().ok());
    let newest = seconds.next().context("no advisory has a date")?;
    let now = seconds.next().context("the clock cannot be read")?;
    Ok(now.saturating_sub(newest) / 86_400)
}
