//! The configuration file as `stockfold config print` writes it: every key with its comment and the value in force.

use std::path::PathBuf;

use super::{Config, LogFormat};

impl Config {
    /// The file, commented, with the values in force.
    pub fn print(&self) -> String {
        let mut out = String::from(
            "# Stockfold's configuration. Every key can also be set as STOCKFOLD__SECTION__KEY, such as\n\
             # STOCKFOLD__HTTP__BIND=0.0.0.0:8080. Unknown keys are errors.\n\n",
        );
        let text = |s: &str| toml::Value::String(s.to_owned()).to_string();
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| text(&path.to_string_lossy()));
        out.push_str(
            "# Journal, snapshots, the private PostgreSQL and tokens. One hub a directory.\n",
        );
        out.push_str(&format!("data_dir = {}\n", text(&self.data_dir().to_string_lossy())));
        let mut section = |name: &str, keys: &[(&str, &str, Option<String>)]| {
            out.push_str(&format!("\n[{name}]\n"));
            for (comment, key, value) in keys {
                for line in comment.lines() {
                    out.push_str(&format!("# {line}\n"));
                }
                match value {
                    Some(value) => out.push_str(&format!("{key} = {value}\n")),
                    None => out.push_str(&format!("# {key} = \"\"\n")),
                }
            }
        };
        let (j, s) = (&self.journal, &self.series);
        section(
            "http",
            &[(
                "Address of the API and the console. Anything but loopback is reachable by others.",
                "bind",
                Some(text(&self.http.bind.to_string())),
            )],
        );
        section(
            "mqtt",
            &[
                (
                    "Address of the embedded MQTT endpoint for devices.",
                    "bind",
                    Some(text(&self.mqtt.bind.to_string())),
                ),
                (
                    "The same over TLS; \"\" = not offered.",
                    "tls_bind",
                    Some(text(&self.mqtt.tls_bind.map_or(String::new(), |bind| bind.to_string()))),
                ),
                (
                    "Connections at once; more are refused.",
                    "connections_max",
                    Some(self.mqtt.connections_max.to_string()),
                ),
                (
                    "Threads that serve connections; 0 = one for each core.",
                    "threads",
                    Some(self.mqtt.threads.to_string()),
                ),
                (
                    "An external broker, mqtt://HOST:PORT or mqtts://HOST:PORT, instead of the embedded endpoint. Who a device is, its\naccess list then decides: `stockfold device acl` writes one for Mosquitto.",
                    "broker_url",
                    self.mqtt.broker_url.as_deref().map(text),
                ),
                (
                    "Client id that the broker keeps the hub's session under; one hub a client id.",
                    "broker_client_id",
                    Some(text(&self.mqtt.broker_client_id)),
                ),
                (
                    "Seconds between signs of life to the broker; one that stays silent for as long is given up.",
                    "broker_keep_alive_s",
                    Some(self.mqtt.broker_keep_alive_s.to_string()),
                ),
                (
                    "User name at the broker, and the file with its password.",
                    "broker_username",
                    self.mqtt.broker_username.as_deref().map(text),
                ),
                ("", "broker_password_file", path(&self.mqtt.broker_password_file)),
                (
                    "Authority of the broker's certificate, PEM; for mqtts.",
                    "broker_ca_file",
                    path(&self.mqtt.broker_ca_file),
                ),
                (
                    "The hub's own client certificate at the broker, PEM, and its key.",
                    "broker_cert_file",
                    path(&self.mqtt.broker_cert_file),
                ),
                ("", "broker_key_file", path(&self.mqtt.broker_key_file)),
            ],
        );
        section(
            "database",
            &[(
                "A PostgreSQL server of yours, postgres://user:password@host/database.\nUnset: the hub runs a private one from the installed programs.",
                "url",
                self.database.url.as_deref().map(text),
            )],
        );
        section(
            "series",
            &[
                (
                    "An InfluxDB 2 server for sensor readings, http(s)://HOST:PORT. Unset: they are kept in PostgreSQL.\nAfter a switch they are filled in from what the journal still has.",
                    "influx_url",
                    s.influx_url.as_deref().map(text),
                ),
                ("Its organisation and bucket.", "org", s.org.as_deref().map(text)),
                ("", "bucket", s.bucket.as_deref().map(text)),
                (
                    "File that holds a token which may write to the bucket and read it.",
                    "token_file",
                    path(&s.token_file),
                ),
                (
                    "PEM file of the authority that signed its certificate. Unset: the public ones.",
                    "ca_file",
                    path(&s.ca_file),
                ),
                (
                    "Days that sensor readings are kept in PostgreSQL, as they came …",
                    "keep_days",
                    Some(s.keep_days.to_string()),
                ),
                (
                    "… summed up by the minute …",
                    "minute_keep_days",
                    Some(s.minute_keep_days.to_string()),
                ),
                ("… and by the hour.", "hour_keep_days", Some(s.hour_keep_days.to_string())),
            ],
        );
        section(
            "journal",
            &[
                (
                    "Raw frames are kept this many days at most; those that movements rest on are copied to PostgreSQL before.",
                    "keep_days",
                    Some(j.keep_days.to_string()),
                ),
                (
                    "Bytes the journal may take; 0 = a fifth of the disk.",
                    "keep_bytes_max",
                    Some(j.keep_bytes_max.to_string()),
                ),
                (
                    "Extra time a group of appends waits for company, in microseconds. 0 is right for nearly everybody.",
                    "group_wait_us",
                    Some(j.group_wait_us.to_string()),
                ),
                (
                    "Disk use in percent: from here an alert, …",
                    "alert_percent",
                    Some(j.alert_percent.to_string()),
                ),
                (
                    "… from here telemetry is refused, …",
                    "refuse_telemetry_percent",
                    Some(j.refuse_telemetry_percent.to_string()),
                ),
                (
                    "… and from here everything but what people do.",
                    "refuse_percent",
                    Some(j.refuse_percent.to_string()),
                ),
            ],
        );
        section(
            "shards",
            &[(
                "Independent writers. May grow, never shrink; a facility stays in the shard it was created in.",
                "count",
                Some(self.shards.count.to_string()),
            )],
        );
        let names: Vec<String> = self.tls.names.iter().map(|name| text(name)).collect();
        section(
            "tls",
            &[
                (
                    "Certificate chain of the server, PEM, and its key. Read again when they change.\nUnset: the hub issues its own from its own authority; `stockfold tls ca` prints what devices must trust.",
                    "cert_file",
                    path(&self.tls.cert_file),
                ),
                ("", "key_file", path(&self.tls.key_file)),
                (
                    "Authorities beside the hub's own whose client certificates may be enrolled for devices, PEM.",
                    "client_ca_file",
                    path(&self.tls.client_ca_file),
                ),
                (
                    "Names and addresses that devices know the hub by, beside this machine's name and localhost;\nfor the certificate that the hub issues to itself.",
                    "names",
                    Some(format!("[{}]", names.join(", "))),
                ),
            ],
        );
        section(
            "readers",
            &[
                (
                    "Authority of the certificates of RFID readers that are reached over TLS (llrps://), PEM.",
                    "ca_file",
                    path(&self.readers.ca_file),
                ),
                (
                    "The hub's own client certificate at readers, PEM, and its key; for readers that want one.",
                    "cert_file",
                    path(&self.readers.cert_file),
                ),
                ("", "key_file", path(&self.readers.key_file)),
            ],
        );
        let format = match self.log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        section(
            "log",
            &[
                (
                    "What is logged: a level, or target=level pairs.",
                    "filter",
                    Some(text(&self.log.filter)),
                ),
                ("\"text\" or \"json\".", "format", Some(text(format))),
            ],
        );
        out
    }
}
