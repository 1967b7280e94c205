//! `stockfold device acl`: Mosquitto's password file and access list.
//!
//! The access list names no device that speaks for itself: one may publish readings below its own name and read its own commands, the hub may read all
//! readings and write all commands; so it is with the foreign topics that the profiles of the devices read. Only gateways
//! are named in it, with what the devices behind them publish. The password file names every client, in Mosquitto's form
//! `name:$7$iterations$salt$hash` (PBKDF2 with HMAC-SHA-512). The passwords are 256 random bits, so iterations protect nothing;
//! Mosquitto's own number is used.
//!
//! New passwords are written down before the file that has their hashes: a run that is cut leaves none that nobody knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::Write,
    num::NonZeroU32,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::ValueEnum;
use device_profiles::TopicPattern;
use hub::{api::secret::Secret, ingress::TOPIC_ROOT, whole_file};
use ring::pbkdf2;

/// The hub's own user name at the broker.
const HUB: &str = "stockfold";
/// Iterations of Mosquitto's own program.
const ITERATIONS: u32 = 101;
/// Bytes of salt, as in Mosquitto's own program.
const SALT_BYTES: usize = 12;
/// Bytes of a hash.
const HASH_BYTES: usize = 64;

/// Whose files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Eclipse Mosquitto 2.
    Mosquitto,
}

/// Who connects to the broker, and what is published there.
#[derive(Debug, Default)]
pub struct Clients {
    /// Devices that speak for themselves.
    pub names: BTreeSet<String>,
    /// Foreign topics that profiles read.
    pub topics: BTreeSet<TopicPattern>,
    /// Gateways, and what they may do for the devices behind them: `write` or `read` and a filter.
    pub gateways: BTreeMap<String, BTreeSet<String>>,
}

/// Writes the files for these clients.
pub fn write(dir: &Path, clients: &Clients) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let passwords = dir.join("passwords");
    let before = match fs::read_to_string(&passwords) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", passwords.display()));
        }
    };
    let before: BTreeMap<&str, &str> =
        before.lines().filter_map(|line| line.split_once(':')).collect();
    let (mut lines, mut fresh, mut kept) = (String::new(), String::new(), 0);
    for name in clients.names.iter().map(String::as_str).chain([HUB]) {
        let hash = match before.get(name) {
            Some(hash) => {
                kept += 1;
                (*hash).to_owned()
            }
            None => {
                let secret = Secret::mint().context("no randomness from the operating system")?;
                if name == HUB {
                    create(&dir.join("hub-password"), secret.reveal(), true)?;
                } else {
                    fresh.push_str(&format!("{name},{}\n", secret.reveal()));
                }
                hashed(secret.reveal())?
            }
        };
        lines.push_str(&format!("{name}:{hash}\n"));
    }
    let made = fresh.lines().count();
    if made > 0 {
        let path = dir.join("new-passwords.csv");
        create(&path, &fresh, false).with_context(|| {
            "are the passwords of the last run with the devices? Then remove that file and run this again"
        })?;
        println!(
            "{made} new passwords   {}   (give them to the devices, then remove it)",
            path.display()
        );
    }
    let (mut read, mut publish) = (String::new(), String::new());
    for topic in &clients.topics {
        read.push_str(&format!("topic read {}\n", topic.filter()));
        publish.push_str(&format!("pattern write {}\n", topic.filter_of("%u")));
    }
    for (gateway, filters) in &clients.gateways {
        read.push_str(&format!("\n# It publishes for the devices behind it.\nuser {gateway}\n"));
        read.extend(filters.iter().map(|filter| format!("topic {filter}\n")));
    }
    let list = format!(
        "# Readings up, commands down; a device only below its own name.\n\
         user {HUB}\n\
         topic read {TOPIC_ROOT}+/+\n\
         topic write {TOPIC_ROOT}+/cmd/#\n\
         {read}\n\
         pattern write {TOPIC_ROOT}%u/+\n\
         pattern read {TOPIC_ROOT}%u/cmd/#\n\
         {publish}"
    );
    replace(&dir.join("acl"), &list)?;
    replace(&passwords, &lines)?;
    println!(
        "{kept} kept, {} left out; tell Mosquitto with SIGHUP",
        (before.len()).saturating_sub(kept)
    );
    println!(
        "password file      {}   (Mosquitto's user must be able to read it)",
        passwords.display()
    );
    println!("access list        {}", dir.join("acl").display());
    println!(
        "the hub's own      {}   ([mqtt] broker_username = \"{HUB}\", broker_password_file)",
        dir.join("hub-password").display()
    );
    Ok(())
}

fn hashed(password: &str) -> anyhow::Result<String> {
    let (mut salt, mut hash) = ([0; SALT_BYTES], [0; HASH_BYTES]);
    getrandom::fill(&mut salt)
        .map_err(|e| anyhow::anyhow!("no randomness from the operating system: {e}"))?;
    let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, &salt, password.as_bytes(), &mut hash);
    Ok(format!("$7${ITERATIONS}${}${}", STANDARD.encode(salt), STANDARD.encode(hash)))
}

/// Writes a file that only its owner reads.
fn create(path: &Path, content: &str, over: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    if over {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()).and_then(|()| file.sync_all()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file whole or not at all.
fn replace(path: &Path, content: &str) -> anyhow::Result<()> {
    whole_file::write(path, content.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
