//! `stockfold device`: devices of a running hub, through its own API; and a probe of lines that no hub polls yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Subcommand;
use device_profiles::{Profile, TopicPattern, level_of_id};
use hub::{config::Config, data_dir::token_file, ingress::TOPIC_ROOT, tls::authority::DEVICE_DAYS};
use serde_json::{Value, json};

use super::{
    acl::{self, Clients, Format},
    probe::{ProbeArgs, probe},
};

/// What can be done with devices.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    #[command(flatten)]
    OfHub(HubCommand),
    Probe(Box<ProbeArgs>),
}

/// What a running hub does with its devices.
#[derive(Debug, Subcommand)]
pub enum HubCommand {
    /// List enrolled devices.
    List {
        /// Only those of this facility.
        #[arg(long)]
        facility: Option<String>,
    },
    /// Show a device, its credentials without their secrets, and what was refused of it.
    Show {
        /// The device.
        id: String,
    },
    /// List devices that tried to connect and are not enrolled.
    Seen,
    /// Enrol a device and print its credential, once.
    Enrol {
        /// Its id; also its MQTT user name.
        id: String,
        /// The facility it belongs to.
        #[arg(long)]
        facility: String,
        /// Profile its frames are read with.
        #[arg(long, default_value = "default")]
        profile: String,
        /// Slot its stock readings go to when they name none.
        #[arg(long)]
        slot: Option<String>,
        /// The device that publishes for it, such as a Zigbee bridge. It then needs no credential of its own.
        #[arg(long)]
        gateway: Option<String>,
    },
    /// Make another credential and print it, once.
    Credential {
        /// The device.
        id: String,
    },
    /// Make a client certificate for a device, or enrol one that was made elsewhere. The key is made once and not kept: write it
    /// to a file with --out, or it is printed.
    Cert {
        /// The device.
        id: String,
        /// Days it is good.
        #[arg(long, default_value_t = DEVICE_DAYS, conflicts_with_all = ["enrol", "sha256"])]
        days: u32,
        /// Write ID.pem, ID-key.pem (readable by you only) and ca.pem into this directory; none of them is overwritten.
        #[arg(long, value_name = "DIR", conflicts_with_all = ["enrol", "sha256"])]
        out: Option<PathBuf>,
        /// Enrol the certificate in this PEM file instead.
        #[arg(long, value_name = "FILE", conflicts_with = "sha256")]
        enrol: Option<PathBuf>,
        /// Enrol the certificate with this SHA-256 fingerprint instead (openssl x509 -fingerprint -sha256).
        #[arg(long, value_name = "HEX")]
        sha256: Option<String>,
    },
    /// Write a broker's password file and access list for the enrolled devices, for a hub behind an external broker.
    ///
    /// A broker needs its own hash of each password, and the hub keeps only a hash of another kind of the passwords it made. So
    /// each device that the password file in DIR does not have yet gets a new password for the broker, written to
    /// new-passwords.csv: give them to the devices, then remove that file. Devices that the file has keep their password;
    /// devices that are revoked or gone are left out. To give a device a new one, remove its line and run this again.
    Acl {
        /// Whose files.
        #[arg(long, value_enum, default_value_t = Format::Mosquitto)]
        format: Format,
        /// Directory of the files: passwords, acl, hub-password (for [mqtt] broker_password_file), new-passwords.csv.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Give a device a command. On a bus it is carried out at once; by MQTT it is delivered when the device is there.
    Tell {
        /// The device.
        id: String,
        /// The command, such as `tare`.
        command: String,
        /// What goes with it, JSON.
        #[arg(long, value_name = "JSON")]
        args: Option<String>,
        /// Seconds within which it must be delivered.
        #[arg(long, value_name = "SECONDS")]
        expires_in: Option<u32>,
    },
    /// List the commands a device was given by MQTT, newest first, and what became of them.
    Told {
        /// The device.
        id: String,
    },
    /// Revoke a device as a whole, or one of its credentials; connections end within a second.
    Revoke {
        /// The device.
        id: String,
        /// Only this credential of it, by its id; for good. `stockfold device show` lists them.
        credential: Option<String>,
    },
    /// Enable a device that was revoked as a whole.
    Enable {
        /// The device.
        id: String,
    },
}

/// The API of the hub on this machine.
pub struct Hub {
    base: String,
    token: String,
    agent: ureq::Agent,
}

impl Hub {
    /// The hub of this configuration, by the token in its data directory.
    pub fn of(config: &Config) -> anyhow::Result<Self> {
        let file = token_file(&config.data_dir());
        let token = std::fs::read_to_string(&file).with_context(|| {
            format!("cannot read the token {}; name the hub's --data-dir", file.display())
        })?;
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        Ok(Self {
            base: format!("http://{}/api/v1", config.http.bind),
            token: token.trim().to_owned(),
            agent,
        })
    }

    fn answer(
        &self,
        what: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> anyhow::Result<Value> {
        let mut answer = answer
            .with_context(|| format!("the hub does not answer at {}; is it running?", self.base))?;
        let status = answer.status();
        let text = answer.body_mut().read_to_string()?;
        let body: Value = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
        if !status.is_success() {
            let detail = body["detail"].as_str().unwrap_or("no reason given");
            anyhow::bail!(
                "{what}: {detail} ({})",
                body["code"].as_str().unwrap_or(status.as_str())
            );
        }
        Ok(body)
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let call = self.agent.get(format!("{}{path}", self.base));
        self.answer(path, call.header("Authorization", format!("Bearer {}", self.token)).call())
    }

    fn text(&self, path: &str) -> anyhow::Result<String> {
        let call = self.agent.get(format!("{}{path}", self.base));
        let mut answer = call.header("Authorization", format!("Bearer {}", self.token)).call()?;
        anyhow::ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        Ok(answer.body_mut().read_to_string()?)
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let call = self.agent.post(format!("{}{path}", self.base));
        self.answer(
            path,
            call.header("Authorization", format!("Bearer {}", self.token)).send_json(body),
        )
    }

    fn delete(&self, path: &str) -> anyhow::Result<Value> {
        let call = self.agent.delete(format!("{}{path}", self.base));
        self.answer(path, call.header("Authorization", format!("Bearer {}", self.token)).call())
    }

    /// Every item of a list.
    pub fn all(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let join = if path.contains('?') { '&' } else { '?' };
            let page = match &cursor {
                Some(cursor) => self.get(&format!("{path}{join}limit=1000&cursor={cursor}"))?,
                None => self.get(&format!("{path}{join}limit=1000"))?,
            };
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(items),
            }
        }
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("-")
}

/// Carries it out.
pub fn device(config: &Config, command: DeviceCommand) -> anyhow::Result<ExitCode> {
    match command {
        DeviceCommand::OfHub(command) => of_hub(&Hub::of(config)?, command),
        // A line is probed without a hub.
        DeviceCommand::Probe(args) => probe(config, &args),
    }
}

fn of_hub(hub: &Hub, command: HubCommand) -> anyhow::Result<ExitCode> {
    match command {
        HubCommand::List { facility } => {
            let path = facility.map_or("/devices".to_owned(), |f| format!("/devices?facility={f}"));
            println!("{:<32} {:<20} {:<16} {:<8} name", "device", "facility", "profile", "state");
            for d in hub.all(&path)? {
                println!(
                    "{:<32} {:<20} {:<16} {:<8} {}",
                    text(&d, "id"),
                    text(&d, "facility"),
                    text(&d, "profile"),
                    state(&d),
                    text(&d, "name")
                );
            }
        }
        HubCommand::Show { id } => show(hub, &id)?,
        HubCommand::Seen => {
            println!("{:<32} {:<24} {:<28} reason", "name", "from", "last");
            for d in hub.all("/devices/seen")? {
                println!(
                    "{:<32} {:<24} {:<28} {}",
                    text(&d, "name"),
                    text(&d, "peer"),
                    text(&d, "last_at"),
                    text(&d, "reason")
                );
            }
        }
        HubCommand::Enrol { id, facility, profile, slot, gateway } => {
            let mut body = json!({ "id": id, "facility": facility, "profile": profile });
            if let Some(slot) = slot {
                body["slot"] = slot.into();
            }
            match gateway {
                Some(gateway) => {
                    body["gateway"] = gateway.as_str().into();
                    hub.post("/devices", &body)?;
                    println!("Device {id} is enrolled; {gateway} publishes for it.");
                }
                None => {
                    hub.post("/devices", &body)?;
                    credential(hub, &id)?;
                }
            }
        }
        HubCommand::Credential { id } => credential(hub, &id)?,
        HubCommand::Acl { format: Format::Mosquitto, out } => {
            let devices = hub.all("/devices")?;
            let standing: Vec<&Value> =
                devices.iter().filter(|d| d["revoked_at"].is_null()).collect();
            acl::write(&out, &clients(hub, &standing)?)?;
        }
        HubCommand::Cert { id, out, enrol: None, sha256: None, days } => {
            certificate(hub, &id, days, out.as_deref())?;
        }
        HubCommand::Cert { id, enrol, sha256, .. } => {
            let body = match enrol {
                Some(file) => {
                    let pem = std::fs::read_to_string(&file)
                        .with_context(|| format!("cannot read {}", file.display()))?;
                    json!({ "certificate": pem })
                }
                None => json!({ "sha256": sha256 }),
            };
            let made = hub.post(&format!("/devices/{id}/certificates"), &body)?;
            tell_certificate(&made);
        }
        HubCommand::Tell { id, command, args, expires_in } => {
            let mut body = json!({});
            if let Some(args) = args {
                body["args"] = serde_json::from_str(&args).context("--args is not JSON")?;
            }
            if let Some(seconds) = expires_in {
                body["expires_in_s"] = seconds.into();
            }
            let told = hub.post(&format!("/devices/{id}/commands/{command}"), &body)?;
            match told["state"].as_str() {
                None => println!("Device {id} did it."),
                Some(_) => println!(
                    "Command {} waits for device {id} until {}. `stockfold device told {id}` tells what became of it.",
                    text(&told, "id"),
                    text(&told, "expires_at")
                ),
            }
        }
        HubCommand::Told { id } => {
            println!("{:<8} {:<20} {:<28} {:<28} id", "state", "command", "given", "changed");
            for c in hub.all(&format!("/devices/{id}/commands"))? {
                println!(
                    "{:<8} {:<20} {:<28} {:<28} {}",
                    text(&c, "state"),
                    text(&c, "name"),
                    text(&c, "made_at"),
                    text(&c, "changed_at"),
                    text(&c, "id")
                );
            }
        }
        HubCommand::Revoke { id, credential: Some(credential) } => {
            hub.delete(&format!("/devices/{id}/credentials/{credential}"))?;
            println!("Credential {credential} of device {id} is revoked.");
        }
        HubCommand::Revoke { id, credential: None } => {
            hub.post(&format!("/devices/{id}/revoke"), &json!({}))?;
            println!("Device {id} is revoked. `stockfold device enable {id}` enables it again.");
        }
        HubCommand::Enable { id } => {
            hub.post(&format!("/devices/{id}/enable"), &json!({}))?;
            println!("Device {id} is enabled.");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The clients that these devices are at a broker, and the foreign topics their profiles read.
fn clients(hub: &Hub, devices: &[&Value]) -> anyhow::Result<Clients> {
    let used: BTreeSet<&str> = devices.iter().map(|d| text(d, "profile")).collect();
    let mut topics: BTreeMap<String, BTreeSet<TopicPattern>> = BTreeMap::new();
    for known in hub.all("/profiles")? {
        for name in ["name", "hash"].map(|key| text(&known, key)) {
            if used.contains(name) {
                let content = hub.text(&format!("/profiles/{}", text(&known, "hash")))?;
                topics.entry(name.into()).or_default().extend(Profile::parse(&content)?.topics);
            }
        }
    }
    let mut clients = Clients::default();
    for device in devices {
        let read = topics.get(text(device, "profile")).into_iter().flatten();
        clients.topics.extend(read.clone().cloned());
        match device["gateway"].as_str() {
            None => {
                clients.names.insert(text(device, "id").to_owned());
            }
            Some(gateway) => {
                let filters = clients.gateways.entry(gateway.to_owned()).or_default();
                filters.insert(format!("write {TOPIC_ROOT}{}/+", text(device, "id")));
                filters.insert(format!("read {TOPIC_ROOT}{}/cmd/#", text(device, "id")));
                // Its own topics only: a wildcard in the place of its name would let the gateway speak for every device.
                if let Some(level) = level_of_id(text(device, "id")) {
                    filters.extend(read.map(|topic| format!("write {}", topic.filter_of(&level))));
                }
            }
        }
    }
    Ok(clients)
}

fn state(device: &Value) -> &'static str {
    if device["revoked_at"].is_null() { "enabled" } else { "revoked" }
}

fn show(hub: &Hub, id: &str) -> anyhow::Result<()> {
    let device = hub.get(&format!("/devices/{id}"))?;
    for name in ["id", "facility", "name", "profile", "slot", "gateway", "created_at"] {
        println!("{name:<12} {}", text(&device, name));
    }
    match device["revoked_at"].as_str() {
        Some(since) => println!("state        revoked since {since}"),
        None => println!("state        enabled"),
    }
    for cell in device["channels"].as_array().into_iter().flatten() {
        println!("cell         {} carries slot {}", text(cell, "channel"), text(cell, "slot"));
    }
    let ledger = hub.get(&format!("/ledger?device={id}&limit=1"))?;
    for (why, count) in ledger["now"][0]["refused"].as_object().into_iter().flatten() {
        println!("refused      {count} publishes, {why}, since the hub started");
    }
    println!(
        "\n{:<16} {:<12} {:<28} {:<28} {:<28} certificate",
        "credential", "kind", "made", "ends", "revoked"
    );
    for c in hub.all(&format!("/devices/{id}/credentials"))? {
        println!(
            "{:<16} {:<12} {:<28} {:<28} {:<28} {}",
            text(&c, "id"),
            text(&c, "kind"),
            text(&c, "created_at"),
            text(&c, "expires_at"),
            text(&c, "revoked_at"),
            text(&c, "sha256")
        );
    }
    Ok(())
}

fn tell_certificate(made: &Value) {
    println!("credential  {}", text(made, "id"));
    println!("sha256      {}", text(made, "sha256"));
    println!("ends        {}", text(made, "expires_at"));
}

/// Has a certificate made. The files are opened first: a key that cannot be written down would be lost.
fn certificate(hub: &Hub, id: &str, days: u32, out: Option<&Path>) -> anyhow::Result<()> {
    let mut files = Vec::new();
    if let Some(dir) = out {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let names = [
            ("certificate", format!("{id}.pem")),
            ("key", format!("{id}-key.pem")),
            ("ca", "ca.pem".into()),
        ];
        for (part, name) in names {
            let path = dir.join(name);
            let mode = if part == "key" { 0o600 } else { 0o644 };
            // The authority's certificate is the same for every device of the hub.
            let may_be_there = part == "ca";
            let file = std::fs::OpenOptions::new()
                .write(true)
                .create(may_be_there)
                .truncate(false)
                .create_new(!may_be_there)
                .mode(mode)
                .open(&path)
                .with_context(|| {
                    format!("cannot write {}; no certificate was made", path.display())
                })?;
            files.push((part, path, file));
        }
    }
    let made = match hub.post(&format!("/devices/{id}/certificates"), &json!({ "days": days })) {
        Ok(made) => made,
        Err(error) => {
            for (_, path, _) in files.iter().filter(|(part, ..)| *part != "ca") {
                let _ = std::fs::remove_file(path);
            }
            return Err(error);
        }
    };
    tell_certificate(&made);
    if files.is_empty() {
        println!("\nThe certificate, its key (shown this once), and the authority to trust:\n");
        for part in ["certificate", "key", "ca"] {
            print!("{}", text(&made, part));
        }
    }
    for (part, path, mut file) in files {
        file.set_len(0)
            .and_then(|()| file.write_all(text(&made, part).as_bytes()))
            .and_then(|()| file.sync_all())
            .with_context(|| {
                format!("cannot write {}; revoke the credential and try again", path.display())
            })?;
        println!("{part:<11} {}", path.display());
    }
    Ok(())
}

fn credential(hub: &Hub, id: &str) -> anyhow::Result<()> {
    let made = hub.post(&format!("/devices/{id}/credentials"), &json!({}))?;
    println!("credential  {}", text(&made, "id"));
    println!("user name   {}", text(&made, "username"));
    println!("password    {}   (shown this once)", text(&made, "password"));
    Ok(())
}
