//! Configuration: one commented TOML file, every key also as `STOCKFOLD__SECTION__KEY`.
//!
//! Unknown keys are errors: a misspelt limit must not silently be the default. [`Config::print`] writes the file with the
//! values in force, so it is both sample and manual.

mod print;
mod readers;
mod series;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub use self::readers::Readers;
pub use self::series::{Influx, Series};

/// Prefix of environment variables; sections and keys are joined by two underscores.
pub const ENV_PREFIX: &str = "STOCKFOLD__";
/// Largest configuration file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path}: {source}; check the path")]
    Read {
        /// Its path.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// It does not parse, or has an unknown key.
    #[error("configuration {from}: {detail}\n`stockfold config print` shows every key")]
    Syntax {
        /// File or variable.
        from: String,
        /// What is wrong, with line and column.
        detail: String,
    },
    /// A value is impossible.
    #[error("configuration key {key}: {detail}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        detail: String,
    },
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything is kept; see [`Config::data_dir`].
    pub data_dir: Option<PathBuf>,
    /// HTTP.
    pub http: Http,
    /// MQTT.
    pub mqtt: Mqtt,
    /// PostgreSQL.
    pub database: Database,
    /// Time series.
    pub series: Series,
    /// Journal.
    pub journal: Journal,
    /// Shards.
    pub shards: Shards,
    /// TLS.
    pub tls: Tls,
    /// RFID readers over TLS.
    pub readers: Readers,
    /// Log.
    pub log: Log,
}

/// HTTP.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address of API and console.
    pub bind: SocketAddr,
}

/// MQTT.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// Address of the embedded endpoint.
    pub bind: SocketAddr,
    /// Address of the embedded endpoint over TLS; `None` = not offered.
    #[serde(deserialize_with = "address_or_nothing")]
    pub tls_bind: Option<SocketAddr>,
    /// An external broker instead of the embedded endpoint.
    pub broker_url: Option<String>,
    /// Client id the broker keeps the session under.
    pub broker_client_id: String,
    /// Seconds between signs of life to the broker.
    pub broker_keep_alive_s: u16,
    /// User name at the broker.
    pub broker_username: Option<String>,
    /// File with the password.
    pub broker_password_file: Option<PathBuf>,
    /// Authority of the broker's certificate, PEM.
    pub broker_ca_file: Option<PathBuf>,
    /// The hub's own client certificate at the broker, PEM.
    pub broker_cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub broker_key_file: Option<PathBuf>,
    /// Connections it takes.
    pub connections_max: usize,
    /// Threads that serve connections; 0 = one for each core.
    pub threads: usize,
}

/// PostgreSQL.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// Server to use; unset = the hub runs its own.
    pub url: Option<String>,
}

/// Journal.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    /// Days it is kept at most.
    pub keep_days: u32,
    /// Bytes it may take; 0 = a fifth of the disk.
    pub keep_bytes_max: u64,
    /// Extra wait for larger groups, in microseconds.
    pub group_wait_us: u64,
    /// Disk use at which an alert is raised, in percent.
    pub alert_percent: u16,
    /// Disk use at which telemetry is refused, in percent.
    pub refuse_telemetry_percent: u16,
    /// Disk use at which everything but control is refused, in percent.
    pub refuse_percent: u16,
}

/// Shards.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shards {
    /// How many; may grow, never shrink.
    pub count: u16,
}

/// TLS for devices.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Certificate chain of the server, PEM; unset = the hub's own authority issues it.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// Further authorities whose client certificates may be enrolled, PEM.
    pub client_ca_file: Option<PathBuf>,
    /// Names and addresses that devices know the hub by, for the certificate its own authority issues.
    pub names: Vec<String>,
}

/// Log.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What is logged.
    pub filter: String,
    /// How.
    pub format: LogFormat,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Http {
    fn default() -> Self {
        Self { bind: SocketAddr::from(([127, 0, 0, 1], 8080)) }
    }
}
impl Default for Mqtt {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 1883)),
            tls_bind: Some(SocketAddr::from(([127, 0, 0, 1], 8883))),
            broker_url: None,
            broker_client_id: "stockfold".into(),
            broker_keep_alive_s: 30,
            broker_username: None,
            broker_password_file: None,
            broker_ca_file: None,
            broker_cert_file: None,
            broker_key_file: None,
            connections_max: 20_000,
            threads: 0,
        }
    }
}
impl Default for Journal {
    fn default() -> Self {
        Self {
            keep_days: 7,
            keep_bytes_max: 0,
            group_wait_us: 0,
            alert_percent: 70,
            refuse_telemetry_percent: 85,
            refuse_percent: 95,
        }
    }
}
impl Default for Shards {
    fn default() -> Self {
        Self { count: 1 }
    }
}
impl Default for Log {
    fn default() -> Self {
        Self { filter: "info,sqlx=warn,tokio_modbus=off".into(), format: LogFormat::Text }
    }
}

impl Config {
    /// Reads the file, if one is named, then the environment.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table = toml::Table::new();
        let mut from = "of the environment".to_owned();
        if let Some(path) = file {
            let read = |source| ConfigError::Read { path: path.to_owned(), source };
            if std::fs::metadata(path).map_err(read)?.len() > FILE_BYTES_MAX {
                return Err(read(std::io::ErrorKind::FileTooLarge.into()));
            }
            let text = std::fs::read_to_string(path).map_err(read)?;
            from = format!("file {}", path.display());
            let syntax = |detail: String| ConfigError::Syntax { from: from.clone(), detail };
            // Read as a whole first: only so an error names its line.
            toml::from_str::<Self>(&text).map_err(|e| syntax(e.to_string()))?;
            table = text.parse().map_err(|e: toml::de::Error| syntax(e.to_string()))?;
        }
        let mut variables: Vec<_> = env.filter(|(key, _)| key.starts_with(ENV_PREFIX)).collect();
        variables.sort();
        for (key, value) in &variables {
            overlay(&mut table, &key[ENV_PREFIX.len()..].to_lowercase(), value);
            let whole = toml::Value::Table(table.clone());
            whole.try_into::<Self>().map_err(|e| ConfigError::Syntax {
                from: format!("variable {key}"),
                detail: e.to_string(),
            })?;
        }
        let config: Self = toml::Value::Table(table)
            .try_into()
            .map_err(|e| ConfigError::Syntax { from, detail: e.to_string() })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let need = |ok: bool, key: &'static str, detail: &str| {
            if ok { Ok(()) } else { Err(ConfigError::Value { key, detail: detail.to_owned() }) }
        };
        let j = &self.journal;
        need(
            self.tls.cert_file.is_some() == self.tls.key_file.is_some(),
            "tls.key_file",
            "cert_file and key_file are needed together",
        )?;
        for name in &self.tls.names {
            need(
                rustls::pki_types::ServerName::try_from(name.as_str()).is_ok(),
                "tls.names",
                &format!("{name:?} is neither a host name nor an IP address"),
            )?;
        }
        self.readers.check()?;
        crate::broker::Settings::of(&self.mqtt)?;
        need((1..=256).contains(&self.shards.count), "shards.count", "must be 1 to 256")?;
        need((1..=3_650).contains(&j.keep_days), "journal.keep_days", "must be 1 to 3650")?;
        need(j.group_wait_us <= 100_000, "journal.group_wait_us", "must be at most 100000")?;
        let rising = j.alert_percent <= j.refuse_telemetry_percent
            && j.refuse_telemetry_percent <= j.refuse_percent
            && j.refuse_percent <= 100;
        need(
            rising,
            "journal.refuse_percent",
            "alert_percent <= refuse_telemetry_percent <= refuse_percent <= 100 is needed",
        )?;
        self.series.influx()?;
        let s = &self.series;
        need((1..=36_500).contains(&s.keep_days), "series.keep_days", "must be 1 to 36500")?;
        need(
            s.keep_days <= s.minute_keep_days
                && s.minute_keep_days <= s.hour_keep_days
                && s.hour_keep_days <= 36_500,
            "series.hour_keep_days",
            "keep_days <= minute_keep_days <= hour_keep_days <= 36500 is needed",
        )?;
        need(
            (1..=1_000_000).contains(&self.mqtt.connections_max),
            "mqtt.connections_max",
            "must be 1 to 1000000",
        )
    }

    /// The data directory in force: as configured, else `/var/lib/stockfold` for root, else `./stockfold-data`.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| {
            if rustix::process::geteuid().is_root() {
                PathBuf::from("/var/lib/stockfold")
            } else {
                PathBuf::from("stockfold-data")
            }
        })
    }
}

/// An address, or nothing for an empty text.
fn address_or_nothing<'de, D: serde::Deserializer<'de>>(
    value: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        serde::de::Error::custom(format!(
            "{text:?} is no address such as 127.0.0.1:8883, nor empty"
        ))
    })
}

/// Sets `section__key` of a table; the value is TOML if it parses as such, else a text.
fn overlay(table: &mut toml::Table, key: &str, value: &str) {
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    match key.split_once("__") {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, key)) => {
            let section = table
                .entry(section.to_owned())
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(section) = section {
                section.insert(key.to_owned(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        let owned: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        owned.into_iter()
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stockfold.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let plain = Config { data_dir: Some("/somewhere \"else\"".into()), ..Config::default() };
        let mut changed = plain.clone();
        changed.mqtt.tls_bind = None;
        changed.tls = Tls {
            cert_file: Some("/etc/hub.pem".into()),
            key_file: Some("/etc/hub-key.pem".into()),
            client_ca_file: Some("/etc/ca.pem".into()),
            names: vec!["hub.example".into(), "192.0.2.1".into()],
        };
        changed.readers = Readers {
            ca_file: Some("/etc/readers.pem".into()),
            cert_file: Some("/etc/hub.pem".into()),
            key_file: Some("/etc/hub-key.pem".into()),
        };
        changed.series.influx_url = Some("https://h:8086".into());
        changed.series.org = Some("o".into());
        changed.series.bucket = Some("b".into());
        changed.series.token_file = Some("/t".into());
        for config in [plain, changed] {
            let (_dir, path) = file(&config.print());
            assert_eq!(Config::load(Some(&path), env(&[])).unwrap(), config);
        }
    }

    #[test]
    fn unknown_keys_are_errors_that_name_the_line() {
        let (_dir, path) = file("[http]\nbind = \"127.0.0.1:1\"\nbnid = 3\n");
        let error = Config::load(Some(&path), env(&[])).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("bnid"), "{error}");
        let error =
            Config::load(None, env(&[("STOCKFOLD__HTTP__BNID", "3")])).unwrap_err().to_string();
        assert!(error.contains("STOCKFOLD__HTTP__BNID") && error.contains("bnid"), "{error}");
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let (_dir, path) = file("[http]\nbind = \"127.0.0.1:1\"\n[shards]\ncount = 2\n");
        let set = [
            ("STOCKFOLD__HTTP__BIND", "127.0.0.1:9"),
            ("STOCKFOLD__DATA_DIR", "/x"),
            ("OTHER", "1"),
        ];
        let config = Config::load(Some(&path), env(&set)).unwrap();
        assert_eq!(config.http.bind, SocketAddr::from(([127, 0, 0, 1], 9)));
        assert_eq!((config.shards.count, config.data_dir), (2, Some("/x".into())));
    }

    #[test]
    fn impossible_values_are_refused_by_key() {
        for (key, value) in [
            ("STOCKFOLD__SHARDS__COUNT", "0"),
            ("STOCKFOLD__JOURNAL__ALERT_PERCENT", "99"),
            ("STOCKFOLD__JOURNAL__KEEP_DAYS", "0"),
            ("STOCKFOLD__MQTT__TLS_BIND", "everywhere"),
            ("STOCKFOLD__TLS__CERT_FILE", "/etc/hub.pem"),
            ("STOCKFOLD__READERS__CERT_FILE", "/etc/hub.pem"),
            ("STOCKFOLD__TLS__NAMES", "[\"no name\"]"),
            ("STOCKFOLD__SERIES__HOUR_KEEP_DAYS", "1"),
            ("STOCKFOLD__SERIES__ORG", "o"),
            ("STOCKFOLD__SERIES__INFLUX_URL", "http://h:8086"),
        ] {
            assert!(Config::load(None, env(&[(key, value)])).is_err(), "{key}");
        }
    }
}
