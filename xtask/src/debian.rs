//! Debian packages that tests and the demo need.

use std::{path::Path, process::Command};

use anyhow::{Context, bail};

/// A program from a Debian package.
pub struct Need {
    /// Package that brings it.
    pub package: &'static str,
    /// Its path; a leading `pg:` means "in any PostgreSQL version's bin".
    pub program: &'static str,
}

/// What the tests run against.
pub const TESTS: &[Need] = &[
    Need { package: "postgresql", program: "pg:postgres" },
    Need { package: "mosquitto", program: "/usr/sbin/mosquitto" },
    Need { package: "mosquitto-clients", program: "/usr/bin/mosquitto_pub" },
];

fn there(need: &Need) -> bool {
    match need.program.strip_prefix("pg:") {
        None => Path::new(need.program).exists(),
        Some(name) => std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .any(|version| version.path().join("bin").join(name).exists()),
    }
}

/// Installs what is missing when root; otherwise says the one line to paste.
pub fn ensure(needs: &[Need]) -> anyhow::Result<()> {
    let missing: Vec<&str> = needs.iter().filter(|n| !there(n)).map(|n| n.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout == b"0\n");
    if !root {
        bail!(
            "these Debian packages are missing; paste this line, then try again:\n\n  sudo apt-get install -y {list}\n"
        );
    }
    eprintln!("installing {list}");
    let apt = |args: &[&str]| -> anyhow::Result<()> {
        let status = Command::new("apt-get")
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(std::process::Stdio::null())
            .status()
            .context("apt-get is not here: this is not a Debian machine")?;
        if !status.success() {
            bail!("apt-get {} failed", args.join(" "));
        }
        Ok(())
    };
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install)
}
