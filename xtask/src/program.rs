//! Release builds, and running them: the demo, the hub, the benchmarks.
//!
//! The program takes the place of this one, so Ctrl-C and the exit code are its own.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, bail};

use crate::{debian, target};

/// What is handed on to the program.
#[derive(clap::Args)]
pub struct Args {
    /// Handed on as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Crates whose binaries make up the product.
const PRODUCT: &[&str] = &["hub", "simulator"];
/// Those, and the benchmarks.
const ALL: &[&str] = &["hub", "simulator", "stockfold-tests"];

pub fn demo(args: &Args) -> anyhow::Result<ExitCode> {
    debian::ensure(debian::RUN)?;
    build(PRODUCT)?;
    replace("stockfold", ["demo"].into_iter().chain(args.args.iter().map(String::as_str)))
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    debian::ensure(debian::RUN)?;
    build(PRODUCT)?;
    replace("stockfold", ["run"].into_iter().chain(args.args.iter().map(String::as_str)))
}

pub fn bench(args: &Args) -> anyhow::Result<ExitCode> {
    debian::ensure(debian::BENCHES)?;
    build(ALL)?;
    replace("stockfold-bench", args.args.iter())
}

pub fn crash(kills: u32) -> anyhow::Result<ExitCode> {
    debian::ensure(debian::TESTS)?;
    build(ALL)?;
    replace("stockfold-bench", ["crash", "--kills", &kills.to_string()])
}

/// The arguments of cargo that build the release binaries of these crates.
fn build_args<'a>(crates: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["build", "--locked", "--release", "--bins"];
    args.extend(crates.iter().flat_map(|name| ["-p", name]));
    args
}

/// The arguments of cargo that build every release binary there is.
pub fn build_all_args() -> Vec<&'static str> {
    build_args(ALL)
}

fn build(crates: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("cargo").args(build_args(crates)).status()?;
    if status.success() { Ok(()) } else { bail!("the build failed") }
}

fn replace(
    name: &str,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> anyhow::Result<ExitCode> {
    let program = target()?.join("release").join(name);
    let error = Command::new(&program).args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}
