//! InfluxDB 2, and what speaks its write API.
//!
//! Points go out through crate `influxdb2`, `write_line_protocol_with_precision`, with an HTTP client of ours inside it: time limits,
//! own CA, no redirects, bodies encoded and packed here. The crate drops the headers of a refusal, so when a server is
//! overloaded a plain client beside it asks with an empty write how long to wait (docs/adr/0030).
//!
//! What an answer means:
//!
//! | answer | then |
//! |---|---|
//! | 204 | written |
//! | 400, 413, 422 | these points are refused as they are: the cursor writes fewer, down to the one that is bad |
//! | 401, 403 | the token is refused: read its file again and wait; nothing is left out |
//! | 404 | organisation or bucket is missing: wait |
//! | 429, 503 | overloaded: wait as long as it asks |
//! | anything else, none, or half of one | wait |
//!
//! Writing again overwrites the same points, so an answer that got lost costs nothing. The place in the journal is kept in
//! PostgreSQL, under a name that holds the server, organisation and bucket.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use influxdb2::{ClientBuilder, RequestError, api::write::TimestampPrecision};
use reqwest::{StatusCode, Url, header};
use sha2::{Digest, Sha256};

use super::{
    Ask, Pending, Place, Point, SeriesFault, SeriesStore, Written,
    flux::{self, Flux},
    line,
};
use crate::{
    config,
    store::{
        PgStore,
        fault::Fault,
        told::{BucketRow, ReadingRow, hex},
    },
};

/// A server that has not answered for so long is away, in seconds.
pub const ANSWER_SECONDS_MAX: u64 = 10;
/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 4_096;
/// Longest CA file, in bytes.
pub const CA_BYTES_MAX: usize = 1 << 20;
/// Longest answer to a query, in bytes.
pub const QUERY_BYTES_MAX: usize = 16 << 20;
/// What is told of a refusal, in characters.
const WHY_CHARS_MAX: usize = 400;

/// Why a configured InfluxDB cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum InfluxError {
    /// A file of the configuration cannot be read.
    #[error("[series] {key}: {path} cannot be read: {source}; check the path and who may read it")]
    File {
        /// The key.
        key: &'static str,
        /// The path.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// A file of the configuration holds something else.
    #[error("[series] {key}: {path} {what}")]
    Content {
        /// The key.
        key: &'static str,
        /// The path.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The HTTP client cannot be made.
    #[error("the HTTP client for InfluxDB cannot be made: {0}; check [series] ca_file")]
    Client(String),
}

/// A server, organisation and bucket.
pub struct Influx {
    url: Url,
    org: String,
    bucket: String,
    token_file: PathBuf,
    ca: Option<reqwest::Certificate>,
    /// Where its place in the journal is kept.
    places: PgStore,
    cursor: String,
    clients: Mutex<Arc<Clients>>,
}

/// Clients that know one token.
struct Clients {
    token: String,
    write: influxdb2::Client,
    /// For queries, and for the question how long to wait.
    plain: reqwest::Client,
}

impl Influx {
    /// The InfluxDB of a configuration. Reads its files, and asks the server nothing.
    pub fn open(config: &config::Influx, places: PgStore) -> Result<Self, InfluxError> {
        let ca = match &config.ca_file {
            None => None,
            Some(path) => {
                let pem = read("ca_file", path, CA_BYTES_MAX)?;
                let what = "holds no certificate; it must be a PEM file";
                let bad = || InfluxError::Content { key: "ca_file", path: path.clone(), what };
                if !pem.contains("-----BEGIN CERTIFICATE-----") {
                    return Err(bad());
                }
                Some(reqwest::Certificate::from_pem(pem.as_bytes()).map_err(|_| bad())?)
            }
        };
        let identity = format!("{}\n{}\n{}", config.url, config.org, config.bucket);
        let cursor = format!("series-influx-{}", &hex(&Sha256::digest(identity))[..12]);
        let token = read_token(&config.token_file)?;
        let clients = Mutex::new(Arc::new(clients(&config.url, &config.org, ca.as_ref(), token)?));
        Ok(Self {
            url: config.url.clone(),
            org: config.org.clone(),
            bucket: config.bucket.clone(),
            token_file: config.token_file.clone(),
            ca,
            places,
            cursor,
            clients,
        })
    }

    fn clients(&self) -> Arc<Clients> {
        Arc::clone(&self.clients.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The token was refused: perhaps there is a new one.
    fn renew(&self) {
        match read_token(&self.token_file) {
            Ok(token) if token != self.clients().token => {
                match clients(&self.url, &self.org, self.ca.as_ref(), token) {
                    Ok(renewed) => {
                        tracing::info!("the token for InfluxDB was read anew");
                        *self.clients.lock().unwrap_or_else(PoisonError::into_inner) =
                            Arc::new(renewed);
                    }
                    Err(error) => tracing::warn!(%error, "the new token for InfluxDB is no use"),
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the token for InfluxDB cannot be read anew"),
        }
    }

    async fn send(&self, body: Bytes) -> Result<(), SeriesFault> {
        let clients = self.clients();
        let sent = clients
            .write
            .write_line_protocol_with_precision(
                &self.org,
                &self.bucket,
                body,
                TimestampPrecision::Nanoseconds,
            )
            .await;
        match sent {
            Ok(()) => Ok(()),
            Err(RequestError::Http { status, text }) => {
                Err(self.judge(&clients, status, &text).await)
            }
            Err(RequestError::ReqwestProcessing { source }) => {
                Err(SeriesFault::away(words(&source)))
            }
            Err(
                other @ (RequestError::Serializing { .. } | RequestError::Deserializing { .. }),
            ) => Err(SeriesFault::Broken(other.to_string())),
        }
    }

    /// What a status other than 204 means.
    async fn judge(&self, clients: &Clients, status: StatusCode, text: &str) -> SeriesFault {
        let said = said(text);
        match status {
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => {
                SeriesFault::Refused(format!("{}: {said}", status.as_u16()))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.renew();
                SeriesFault::away(format!(
                    "the token of [series] token_file may not write to bucket {:?} ({}: {said}); put a token that may into the file, it is read again",
                    self.bucket,
                    status.as_u16()
                ))
            }
            StatusCode::NOT_FOUND => SeriesFault::away(format!(
                "there is no organisation {:?} with bucket {:?} (404: {said}); create them, or correct [series] org and bucket",
                self.org, self.bucket
            )),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => SeriesFault::Away {
                why: format!("it is overloaded ({}: {said})", status.as_u16()),
                after: self.wait_asked_for(clients).await,
            },
            other => SeriesFault::away(format!("it answered {}: {said}", other.as_u16())),
        }
    }

    /// How long an overloaded server wants to be left alone. An empty write is the cheapest request that the same limits apply to.
    async fn wait_asked_for(&self, clients: &Clients) -> Option<Duration> {
        let query = [("org", &*self.org), ("bucket", &*self.bucket), ("precision", "ns")];
        let asked = self.request(clients, "/api/v2/write").query(&query).send().await.ok()?;
        let after = asked.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
        after.trim().parse().ok().map(Duration::from_secs)
    }

    fn request(&self, clients: &Clients, path: &str) -> reqwest::RequestBuilder {
        let mut url = self.url.clone();
        url.set_path(path);
        clients.plain.post(url).header(header::AUTHORIZATION, format!("Token {}", clients.token))
    }

    /// A query's answer, no longer than [`QUERY_BYTES_MAX`].
    async fn query(&self, flux: &str) -> Result<String, SeriesFault> {
        let body = serde_json::json!({
            "query": flux,
            "type": "flux",
            "dialect": { "header": true, "annotations": ["datatype", "group", "default"] },
        });
        let clients = self.clients();
        let mut answer = self
            .request(&clients, "/api/v2/query")
            .query(&[("org", &*self.org)])
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/csv")
            .body(body.to_string())
            .send()
            .await
            .map_err(|error| SeriesFault::away(words(&error)))?;
        let status = answer.status();
        let mut text = Vec::new();
        while let Some(chunk) =
            answer.chunk().await.map_err(|error| SeriesFault::away(words(&error)))?
        {
            if text.len() + chunk.len() > QUERY_BYTES_MAX {
                return Err(SeriesFault::Broken(format!(
                    "InfluxDB's answer has more than {QUERY_BYTES_MAX} bytes"
                )));
            }
            text.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(text)
            .map_err(|_| SeriesFault::Broken("InfluxDB's answer is not UTF-8".into()))?;
        match status {
            StatusCode::OK => Ok(text),
            StatusCode::BAD_REQUEST => {
                Err(SeriesFault::Broken(format!("InfluxDB refused a query: {}", said(&text))))
            }
            other => Err(self.judge(&clients, other, &text).await),
        }
    }

    fn flux<'a>(&'a self, ask: &'a Ask) -> Flux<'a> {
        Flux { bucket: &self.bucket, ask }
    }
}

impl SeriesStore for Influx {
    fn cursor(&self) -> &str {
        &self.cursor
    }

    fn describe(&self) -> String {
        let (scheme, host) = (self.url.scheme(), self.url.host_str().unwrap_or_default());
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("InfluxDB at {scheme}://{host}{port}, bucket {}", self.bucket)
    }

    fn place(&self, epoch: u32) -> Pending<'_, u64> {
        Box::pin(async move { Ok(self.places.journal_cursor(&self.cursor, epoch).await?) })
    }

    fn write<'a>(&'a self, points: &'a [Point], place: Option<Place>) -> Pending<'a, Written> {
        Box::pin(async move {
            let mut written = Written::default();
            if !points.is_empty() {
                let began = tokio::time::Instant::now();
                let mut body = String::with_capacity(points.iter().map(Point::bytes).sum());
                for point in points {
                    line::encode(point, &mut body)
                        .map_err(|error| SeriesFault::Refused(error.to_string()))?;
                }
                let packed = line::gzip(&body)
                    .map_err(|error| SeriesFault::Broken(format!("cannot pack points: {error}")))?;
                written.encode_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.send(packed.into()).await?;
            }
            if let Some(Place { epoch, offset }) = place {
                self.places.save_journal_cursor(&self.cursor, epoch, offset).await?;
            }
            Ok(written)
        })
    }

    fn readings<'a>(&'a self, ask: &'a Ask) -> Pending<'a, Vec<ReadingRow>> {
        Box::pin(async move { flux::readings(&self.query(&self.flux(ask).readings()).await?, ask) })
    }

    fn buckets<'a>(&'a self, ask: &'a Ask, every_s: i64) -> Pending<'a, Vec<BucketRow>> {
        Box::pin(
            async move { flux::buckets(&self.query(&self.flux(ask).buckets(every_s)).await?, ask) },
        )
    }

    fn last<'a>(&'a self, ask: &'a Ask, at_us: i64) -> Pending<'a, Vec<ReadingRow>> {
        Box::pin(async move { flux::last(&self.query(&self.flux(ask).last(at_us)).await?, ask) })
    }
}

impl From<Fault> for SeriesFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Away(_) => Self::away(fault.to_string()),
            Fault::Broken(_) => Self::Broken(fault.to_string()),
        }
    }
}

fn clients(
    url: &Url,
    org: &str,
    ca: Option<&reqwest::Certificate>,
    token: String,
) -> Result<Clients, InfluxError> {
    let builder = || {
        let answer = Duration::from_secs(ANSWER_SECONDS_MAX);
        // A proxy of the environment, or a redirect, would be shown the token.
        let builder = reqwest::ClientBuilder::new()
            .timeout(answer)
            .connect_timeout(answer)
            // One request at a time needs no more, and h2 0.3 has a known fault (deny.toml).
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        match ca {
            Some(ca) => builder.tls_built_in_root_certs(false).add_root_certificate(ca.clone()),
            None => builder,
        }
    };
    let failed = |error: &dyn std::error::Error| InfluxError::Client(error.to_string());
    let headers = header::HeaderMap::from_iter([
        (header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip")),
        (header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8")),
    ]);
    let packing = builder().default_headers(headers);
    Ok(Clients {
        write: ClientBuilder::with_builder(packing, url.as_str(), org, token.as_str())
            .build()
            .map_err(|error| failed(&error))?,
        plain: builder().build().map_err(|error| failed(&error))?,
        token,
    })
}

fn read(key: &'static str, path: &Path, most: usize) -> Result<String, InfluxError> {
    let failed = |source| InfluxError::File { key, path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > most as u64 {
        return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn read_token(path: &Path) -> Result<String, InfluxError> {
    let token = read("token_file", path, TOKEN_BYTES_MAX)?.trim().to_owned();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        let what = "must hold a token and nothing else, one line of visible ASCII characters";
        return Err(InfluxError::Content { key: "token_file", path: path.to_owned(), what });
    }
    Ok(token)
}

/// What a body says, short and on one line: the message of InfluxDB's JSON, else its beginning.
fn said(text: &str) -> String {
    let message = serde_json::from_str::<serde_json::Value>(text)
        .ok()
        .and_then(|json| json.get("message")?.as_str().map(str::to_owned));
    let text = message.as_deref().unwrap_or(text);
    let short: String = text.chars().take(WHY_CHARS_MAX).collect();
    short.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why a request failed, with its causes; never its URL's query.
fn words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {ANSWER_SECONDS_MAX} s");
    }
    let mut words = "no sound answer".to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}
