//! The hub's HTTP API, as a client needs it: JSON calls with a bearer token, and lists read to their end.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Largest answer, bytes.
pub const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest call.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Items on a page.
const PAGE_ITEMS: usize = 1_000;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// No address this client can use.
    #[error("hub URL \"{0}\": http://HOST:PORT is needed")]
    Url(String),
    /// No answer.
    #[error("{call}: no answer from the hub: {cause}; is it running at that address?")]
    Unreachable {
        /// Method and URL.
        call: String,
        /// What the network said.
        cause: Box<ureq::Error>,
    },
    /// The hub said no.
    #[error("{call}: the hub answered {status}: {detail}{hint}")]
    Refused {
        /// Method and URL.
        call: String,
        /// HTTP status.
        status: u16,
        /// The problem's detail, or the beginning of the answer.
        detail: String,
        /// What to do next, when the status says it.
        hint: &'static str,
    },
    /// The answer is not what the API promises.
    #[error("{call}: the answer is not what docs/specs/api.md promises: {detail}")]
    Answer {
        /// Method and URL.
        call: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// A hub.
#[derive(Clone)]
pub struct Hub {
    base: String,
    token: String,
    agent: ureq::Agent,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token stays out of every log.
        f.debug_struct("Hub").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Hub {
    /// The hub at `url` (`http://HOST:PORT`), spoken to with `token`.
    ///
    /// # Errors
    /// [`HubError::Url`].
    pub fn new(url: &str, token: &str) -> Result<Self, HubError> {
        let base = url.trim_end_matches('/');
        if !base.starts_with("http://") {
            return Err(HubError::Url(url.to_owned()));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(CALL_TIMEOUT))
            .build();
        Ok(Self {
            base: format!("{base}/api/v1"),
            token: token.trim().to_owned(),
            agent: config.into(),
        })
    }

    /// `GET` of `path` below `/api/v1`.
    ///
    /// # Errors
    /// [`HubError`].
    pub fn get(&self, path: &str) -> Result<Value, HubError> {
        let url = format!("{}{path}", self.base);
        let call = format!("GET {url}");
        let answer = self.agent.get(&url).header("Authorization", self.bearer()).call();
        Self::answer(call, answer)
    }

    /// `POST` of `body` to `path` below `/api/v1`, with an Idempotency-Key when given.
    ///
    /// # Errors
    /// [`HubError`].
    pub fn post(&self, path: &str, body: &Value, key: Option<&str>) -> Result<Value, HubError> {
        let url = format!("{}{path}", self.base);
        let call = format!("POST {url}");
        let mut request = self.agent.post(&url).header("Authorization", self.bearer());
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        Self::answer(call, request.send_json(body))
    }

    /// `PUT` of `body` to `path` below `/api/v1`.
    ///
    /// # Errors
    /// [`HubError`].
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, HubError> {
        let url = format!("{}{path}", self.base);
        let call = format!("PUT {url}");
        let request = self.agent.put(&url).header("Authorization", self.bearer());
        Self::answer(call, request.send_json(body))
    }

    /// `DELETE` of `path` below `/api/v1`; that it was not there is as good.
    ///
    /// # Errors
    /// [`HubError`].
    pub fn delete(&self, path: &str) -> Result<(), HubError> {
        let url = format!("{}{path}", self.base);
        let call = format!("DELETE {url}");
        let answer = self.agent.delete(&url).header("Authorization", self.bearer()).call();
        match Self::answer(call, answer) {
            Ok(_) | Err(HubError::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Every item of the list at `path` (which may have a query).
    ///
    /// # Errors
    /// [`HubError`].
    pub fn list(&self, path: &str) -> Result<Vec<Value>, HubError> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        let joint = if path.contains('?') { '&' } else { '?' };
        loop {
            let page_path = format!("{path}{joint}limit={PAGE_ITEMS}{cursor}");
            let mut page = self.get(&page_path)?;
            match page.get_mut("items").map(Value::take) {
                Some(Value::Array(more)) => items.extend(more),
                _ => {
                    let call = format!("GET {}{page_path}", self.base);
                    return Err(HubError::Answer { call, detail: "no \"items\"".into() });
                }
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={}", escape(next)),
                None => return Ok(items),
            }
        }
    }

    /// Imports `layout` and gets a password for each of `devices`.
    ///
    /// # Errors
    /// [`HubError`].
    pub fn enrol<'a>(
        &self,
        layout: &Value,
        devices: impl Iterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, String>, HubError> {
        let answer = self.post("/import?credentials=true", layout, None)?;
        let mut passwords = BTreeMap::new();
        for c in answer.get("credentials").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| c.get(key).and_then(Value::as_str).map(str::to_owned);
            if let (Some(device), Some(password)) = (text("device"), text("password")) {
                passwords.insert(device, password);
            }
        }
        for device in devices {
            // The import names passwords only for devices it created; the others get a further one.
            if !passwords.contains_key(device) {
                let path = format!("/devices/{device}/credentials");
                let answer = self.post(&path, &json!({}), None)?;
                let Some(password) = answer.get("password").and_then(Value::as_str) else {
                    let call = format!("POST {}{path}", self.base);
                    return Err(HubError::Answer { call, detail: "no \"password\"".into() });
                };
                passwords.insert(device.to_owned(), password.to_owned());
            }
        }
        Ok(passwords)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn answer(
        call: String,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, HubError> {
        let mut response = match answer {
            Ok(response) => response,
            Err(e) => return Err(HubError::Unreachable { call, cause: Box::new(e) }),
        };
        let status = response.status().as_u16();
        let text = match response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()
        {
            Ok(text) => text,
            Err(e) => return Err(HubError::Unreachable { call, cause: Box::new(e) }),
        };
        let json: Result<Value, _> = serde_json::from_str(&text);
        if (200..300).contains(&status) {
            let detail = |e: serde_json::Error| e.to_string();
            return match json {
                Ok(value) => Ok(value),
                Err(_) if text.is_empty() => Ok(Value::Null),
                Err(e) => Err(HubError::Answer { call, detail: detail(e) }),
            };
        }
        let said = json.ok().and_then(|problem| {
            let text = |key: &str| problem.get(key).and_then(Value::as_str).map(str::to_owned);
            text("detail").or_else(|| text("title"))
        });
        let detail = said.unwrap_or_else(|| text.chars().take(200).collect());
        let hint = match status {
            401 => "; check the token",
            403 => "; the token lacks the permission, use one of an administrator",
            404 => "; does this hub have that facility and this API version?",
            503 => "; the hub is not ready, try again in a moment",
            _ => "",
        };
        Err(HubError::Refused { call, status, detail, hint })
    }
}

/// Escapes text for a query value.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_escapes() {
        assert_eq!(escape("1-0-81920/é+"), "1-0-81920%2F%C3%A9%2B");
        assert!(Hub::new("https://hub", "t").is_err() && Hub::new("hub:8080", "t").is_err());
        let hub = Hub::new("http://127.0.0.1:8080/", "secret").unwrap();
        assert_eq!(hub.base, "http://127.0.0.1:8080/api/v1");
        assert!(!format!("{hub:?}").contains("secret"));
    }

    #[test]
    fn an_absent_hub_is_named_with_what_to_check() {
        let hub = Hub::new("http://127.0.0.1:1", "secret").unwrap();
        let error = hub.get("/stock").unwrap_err().to_string();
        assert!(error.contains("GET http://127.0.0.1:1/api/v1/stock"), "{error}");
        assert!(error.contains("is it running") && !error.contains("secret"), "{error}");
    }
}
