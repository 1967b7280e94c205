//! Python packages that the tests speak to: an environment of their own under the target directory.

use std::process::Command;

use anyhow::{Context, bail};

use crate::target;

/// Packages with their versions; a change makes the environment anew.
const PACKAGES: &[&str] = &[
    "biip==5.2.0",
    // pyllrp does not work with 5.
    "bitstring==4.4.0",
    "epcpy==0.1.8",
    "influxdb-client==1.50.0",
    // Needs Python 3.11.
    "llrpkit==0.3.0",
    "paho-mqtt==2.1.0",
    "pyllrp==3.1.1",
    "pymodbus==3.16.1",
    "pyserial==3.5",
];

/// Makes the environment, unless it is there with just these packages.
pub fn ensure() -> anyhow::Result<()> {
    let venv = target()?.join("venv");
    let mark = venv.join("packages");
    let wanted = PACKAGES.join("\n");
    if std::fs::read_to_string(&mark).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    eprintln!("making the Python environment of the tests");
    let venv_text = venv.to_str().context("the target directory's path is not UTF-8")?;
    done(Command::new("python3").args(["-m", "venv", "--clear", venv_text]))?;
    let pip = venv.join("bin/pip");
    done(
        Command::new(pip)
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(PACKAGES),
    )?;
    std::fs::write(&mark, wanted)?;
    Ok(())
}

fn done(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if status.success() { Ok(()) } else { bail!("{command:?} failed") }
}
