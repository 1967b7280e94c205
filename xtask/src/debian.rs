//! Debian packages that the hub, the demo and the tests need.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

/// A file that a Debian package brings.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// The package.
    package: &'static str,
    /// Directory that is there anyway.
    dir: &'static str,
    /// Beginning of the name of a directory in it that carries a version or an architecture; empty = none does.
    versioned: &'static str,
    /// The file, below these.
    file: &'static str,
}

const POSTGRESQL: Need = Need {
    package: "postgresql",
    dir: "/usr/lib/postgresql",
    versioned: "1",
    file: "bin/postgres",
};

const VICTORIA_METRICS: Need =
    Need { package: "victoria-metrics", dir: "/usr/bin", versioned: "", file: "victoria-metrics" };

/// What the hub runs on.
pub const RUN: &[Need] = &[POSTGRESQL];

/// What the benchmarks run against.
pub const BENCHES: &[Need] = &[POSTGRESQL, VICTORIA_METRICS];

/// What the tests run against.
pub const TESTS: &[Need] = &[
    POSTGRESQL,
    Need { package: "mosquitto", dir: "/usr/sbin", versioned: "", file: "mosquitto" },
    Need { package: "mosquitto-clients", dir: "/usr/bin", versioned: "", file: "mosquitto_pub" },
    Need { package: "mbpoll", dir: "/usr/bin", versioned: "", file: "mbpoll" },
    Need { package: "openssl", dir: "/usr/bin", versioned: "", file: "openssl" },
    Need { package: "python3-venv", dir: "/usr/lib", versioned: "python3.", file: "ensurepip" },
    Need { package: "mbpoll", dir: "/usr/bin", versioned: "", file: "mbpoll" },
    Need {
        package: "libmodbus5",
        dir: "/usr/lib",
        versioned: std::env::consts::ARCH,
        file: "libmodbus.so.5",
    },
    Need { package: "socat", dir: "/usr/bin", versioned: "", file: "socat" },
    Need { package: "rabbitmq-server", dir: "/usr/sbin", versioned: "", file: "rabbitmq-server" },
    Need { package: "sslscan", dir: "/usr/bin", versioned: "", file: "sslscan" },
    Need { package: "strace", dir: "/usr/bin", versioned: "", file: "strace" },
    Need { package: "tshark", dir: "/usr/bin", versioned: "", file: "tshark" },
    VICTORIA_METRICS,
];

impl Need {
    fn is_there(&self) -> bool {
        if self.versioned.is_empty() {
            return Path::new(self.dir).join(self.file).exists();
        }
        std::fs::read_dir(self.dir).into_iter().flatten().flatten().any(|version| {
            version.file_name().to_string_lossy().starts_with(self.versioned)
                && version.path().join(self.file).exists()
        })
    }
}

/// Installs what is missing when root; otherwise says the one line to paste.
pub fn ensure(needs: &[Need]) -> anyhow::Result<()> {
    let missing: Vec<&str> = needs.iter().filter(|n| !n.is_there()).map(|n| n.package).collect();
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
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install)
}

fn apt(args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status()
        .context("apt-get is not here: this is not a Debian machine")?;
    if status.success() { Ok(()) } else { bail!("apt-get {} failed", args.join(" ")) }
}
