//! Where the broker is and how the hub proves itself to it, from the configuration to rumqttc's options.
//!
//! Secrets are in files, read anew for each connection: a changed password or certificate is taken at the next one. All of
//! rumqttc's defaults that could hurt are set here, each with its reason.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use rumqttc::{MqttOptions, TlsConfiguration, Transport};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};

use super::sent::PACKET_IDS_MAX;
use crate::{
    config::{ConfigError, Mqtt},
    tls::{Pair, TlsError, pair},
};

/// Largest packet from the broker, in bytes: the largest there is in MQTT. A smaller limit would not keep a large message out
/// but disconnect at it, and the broker would send it again, for ever. What is too large for a frame is let go instead.
const PACKET_BYTES_MAX: usize = 268_435_455 + 5;
/// Largest packet to the broker, in bytes: acknowledgements, subscriptions and commands.
const SENT_BYTES_MAX: usize = 64 * 1024;
/// Longest password file, in bytes.
const PASSWORD_BYTES_MAX: usize = 4_096;

/// The settings. Their debug text has no secrets, for they hold none: they name files.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    url: String,
    host: String,
    port: u16,
    secure: bool,
    client_id: String,
    keep_alive_s: u16,
    username: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Settings {
    /// From the configuration; `None` when no broker is named.
    pub fn of(config: &Mqtt) -> Result<Option<Self>, ConfigError> {
        let refused =
            |key: &'static str, detail: &str| ConfigError::Value { key, detail: detail.to_owned() };
        let no_url = |what: &str| {
            let wanted = "mqtt://HOST, mqtts://HOST or either with :PORT is needed";
            refused("mqtt.broker_url", &format!("{what}; {wanted}"))
        };
        let Some(url) = config.broker_url.clone() else { return Ok(None) };
        let (secure, rest) = match url.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            Some(_) | None => {
                return Err(no_url("it begins with neither mqtt:// nor mqtts://"));
            }
        };
        let rest = rest.trim_end_matches('/');
        if rest.contains('@') {
            return Err(no_url(
                "a password does not belong here; set broker_username and broker_password_file",
            ));
        }
        let default_port = if secure { 8883 } else { 1883 };
        let (host, port) = match rest.rsplit_once(':') {
            // The colons of an IPv6 address without a port are inside brackets.
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| no_url("its port is no number up to 65535"))?)
            }
            Some(_) | None => (rest, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if ServerName::try_from(host).is_err() {
            return Err(no_url("its host is neither a name nor an IP address"));
        }
        if secure && config.broker_ca_file.is_none() {
            return Err(refused(
                "mqtt.broker_ca_file",
                "is needed for mqtts://: the authority of the broker's certificate, or /etc/ssl/certs/ca-certificates.crt for those the system trusts",
            ));
        }
        if !secure && (config.broker_ca_file.is_some() || config.broker_cert_file.is_some()) {
            return Err(refused("mqtt.broker_ca_file", "certificates are used with mqtts:// only"));
        }
        if config.broker_cert_file.is_some() != config.broker_key_file.is_some() {
            return Err(refused(
                "mqtt.broker_key_file",
                "broker_cert_file and broker_key_file are needed together",
            ));
        }
        if config.broker_password_file.is_some() && config.broker_username.is_none() {
            return Err(refused("mqtt.broker_username", "is needed with broker_password_file"));
        }
        if config.broker_client_id.is_empty() {
            return Err(refused(
                "mqtt.broker_client_id",
                "is what the broker keeps the session under; it cannot be empty",
            ));
        }
        if !(2..=600).contains(&config.broker_keep_alive_s) {
            return Err(refused("mqtt.broker_keep_alive_s", "must be 2 to 600"));
        }
        Ok(Some(Self {
            host: host.to_owned(),
            url: url.clone(),
            port,
            secure,
            client_id: config.broker_client_id.clone(),
            keep_alive_s: config.broker_keep_alive_s,
            username: config.broker_username.clone(),
            password_file: config.broker_password_file.clone(),
            ca_file: config.broker_ca_file.clone(),
            client: config.broker_cert_file.clone().zip(config.broker_key_file.clone()),
        }))
    }

    /// The broker's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Options for one connection. Reads files.
    pub(super) fn options(&self) -> Result<MqttOptions, TlsError> {
        let mut options = MqttOptions::new(&self.client_id, &self.host, self.port);
        options
            // The broker keeps what comes while the hub is away.
            .set_clean_session(false)
            // Only the journal acknowledges.
            .set_manual_acks(true)
            .set_keep_alive(Duration::from_secs(self.keep_alive_s.into()))
            .set_inflight(PACKET_IDS_MAX)
            .set_max_packet_size(PACKET_BYTES_MAX, SENT_BYTES_MAX);
        if let Some(username) = &self.username {
            let password = match &self.password_file {
                Some(path) => {
                    let bytes = pair::read(path)?;
                    if bytes.len() > PASSWORD_BYTES_MAX {
                        let what = format!("longer than {PASSWORD_BYTES_MAX} bytes");
                        return Err(TlsError::Content { path: path.clone(), what });
                    }
                    String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned()
                }
                None => String::new(),
            };
            options.set_credentials(username, password);
        }
        if self.secure {
            let config = TlsConfiguration::Rustls(Arc::new(self.tls()?));
            options.set_transport(Transport::tls_with_config(config));
        }
        Ok(options)
    }

    fn tls(&self) -> Result<ClientConfig, TlsError> {
        let refused = |error: rustls::Error| TlsError::Refused(error.to_string());
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca_file {
            for certificate in pair::certificates(path, &pair::read(path)?)? {
                roots.add(certificate).map_err(refused)?;
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(refused)?
            .with_root_certificates(roots);
        match &self.client {
            None => Ok(config.with_no_client_auth()),
            Some((certificate, key)) => {
                let pair = Pair::parse(
                    (certificate, &pair::read(certificate)?),
                    (key, &pair::read(key)?),
                )?;
                config.with_client_auth_cert(pair.chain, pair.key).map_err(refused)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Settings, ConfigError> {
        let config = Mqtt {
            broker_url: Some(url.into()),
            broker_ca_file: url.starts_with("mqtts").then(|| "/ca.pem".into()),
            ..Mqtt::default()
        };
        Settings::of(&config).map(Option::unwrap)
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (url, host, port) in [
            ("mqtt://broker", "broker", 1883),
            ("mqtts://broker.example/", "broker.example", 8883),
            ("mqtt://192.0.2.1:2000", "192.0.2.1", 2000),
            ("mqtts://[2001:db8::1]:1", "2001:db8::1", 1),
            ("mqtt://[::1]", "::1", 1883),
        ] {
            let settings = of(url).unwrap();
            assert_eq!((settings.host.as_str(), settings.port), (host, port), "{url}");
        }
        for url in [
            "broker",
            "http://broker",
            "mqtt://",
            "mqtt://u:p@broker",
            "mqtt://broker:99999",
            "mqtt://a b",
        ] {
            assert!(of(url).is_err(), "{url}");
        }
        assert_eq!(Settings::of(&Mqtt::default()).unwrap(), None);
    }

    #[test]
    fn settings_that_do_not_belong_together_are_named() {
        let config = |change: fn(&mut Mqtt)| {
            let mut config = Mqtt { broker_url: Some("mqtts://b".into()), ..Mqtt::default() };
            change(&mut config);
            Settings::of(&config).unwrap_err().to_string()
        };
        assert!(config(|_| {}).contains("broker_ca_file"));
        assert!(
            config(|c| c.broker_url = Some("mqtt://u:secret@b".into()))
                .contains("broker_password_file")
        );
        assert!(!config(|c| c.broker_url = Some("mqtt://u:secret@b".into())).contains("secret"));
        let half = config(|c| {
            c.broker_ca_file = Some("/ca".into());
            c.broker_cert_file = Some("/c".into());
        });
        assert!(half.contains("broker_key_file"), "{half}");
    }
}
