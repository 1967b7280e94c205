//! Section `[series]`: where sensor readings are kept, and for how long.
//!
//! The five keys of an InfluxDB belong together: a half of them is an error rather than PostgreSQL in silence.

use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;
use crate::store::partitions::Keep;

/// Time series.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Series {
    /// InfluxDB 2 to use; unset = PostgreSQL.
    pub influx_url: Option<String>,
    /// Its organisation.
    pub org: Option<String>,
    /// Its bucket.
    pub bucket: Option<String>,
    /// File with its token.
    pub token_file: Option<PathBuf>,
    /// File with the certificate authority it is signed by; unset = the public ones.
    pub ca_file: Option<PathBuf>,
    /// Days readings are kept in PostgreSQL.
    pub keep_days: u32,
    /// Days roll-ups by the minute are kept in PostgreSQL.
    pub minute_keep_days: u32,
    /// Days roll-ups by the hour are kept in PostgreSQL.
    pub hour_keep_days: u32,
}

/// The InfluxDB that is configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Influx {
    /// Server; no path.
    pub url: reqwest::Url,
    /// Organisation.
    pub org: String,
    /// Bucket.
    pub bucket: String,
    /// File with the token.
    pub token_file: PathBuf,
    /// File with the certificate authority.
    pub ca_file: Option<PathBuf>,
}

impl Series {
    /// The InfluxDB that is configured, if one is.
    pub fn influx(&self) -> Result<Option<Influx>, ConfigError> {
        let bad = |key, detail: &str| ConfigError::Value { key, detail: detail.to_owned() };
        let Some(url) = &self.influx_url else {
            let left_over = self.org.is_some()
                || self.bucket.is_some()
                || self.token_file.is_some()
                || self.ca_file.is_some();
            return if left_over {
                let detail = "is missing, but org, bucket, token_file or ca_file is set; set it, or remove them";
                Err(bad("series.influx_url", detail))
            } else {
                Ok(None)
            };
        };
        let form =
            "must be http://HOST:PORT or https://HOST:PORT, without a path, user or password";
        let url: reqwest::Url = url.parse().map_err(|_| bad("series.influx_url", form))?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.path() == "/"
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none();
        if !plain {
            return Err(bad("series.influx_url", form));
        }
        let needed = "is needed beside influx_url";
        let text = |value: &Option<String>, key| {
            value.clone().filter(|text| !text.is_empty()).ok_or_else(|| bad(key, needed))
        };
        Ok(Some(Influx {
            url,
            org: text(&self.org, "series.org")?,
            bucket: text(&self.bucket, "series.bucket")?,
            token_file: self.token_file.clone().ok_or_else(|| bad("series.token_file", needed))?,
            ca_file: self.ca_file.clone(),
        }))
    }

    /// How long PostgreSQL keeps series.
    pub fn keep(&self) -> Keep {
        Keep {
            reading_days: self.keep_days,
            minute_days: self.minute_keep_days,
            hour_days: self.hour_keep_days,
        }
    }
}

impl Default for Series {
    fn default() -> Self {
        Self {
            influx_url: None,
            org: None,
            bucket: None,
            token_file: None,
            ca_file: None,
            keep_days: 400,
            minute_keep_days: 800,
            hour_keep_days: 3_650,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_influxdb_is_whole_and_plain_or_refused_by_key() {
        let series = |url: &str| Series {
            influx_url: Some(url.into()),
            org: Some("o".into()),
            bucket: Some("b".into()),
            token_file: Some("/t".into()),
            ..Series::default()
        };
        assert_eq!(
            series("https://h:8086").influx().unwrap().unwrap().url.as_str(),
            "https://h:8086/"
        );
        for url in ["h:8086", "ftp://h", "http://u:p@h", "http://h/influx", "http://", "://"] {
            let error = series(url).influx().unwrap_err().to_string();
            assert!(
                error.contains("series.influx_url") && !error.contains("u:p"),
                "{url}: {error}"
            );
        }
        let error = Series { bucket: None, ..series("http://h") }.influx().unwrap_err().to_string();
        assert!(error.contains("series.bucket"), "{error}");
    }
}
