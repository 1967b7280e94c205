//! The hub's HTTP API with its own token.

use std::time::Duration;

use serde_json::Value;

/// Longest call. Far beyond what is usual, so that only a fault reaches it.
const CALL_MAX: Duration = Duration::from_secs(30);
/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// A client of one hub.
#[derive(Clone)]
pub struct Api {
    origin: String,
    token: String,
    agent: ureq::Agent,
}

/// What the hub answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Media type.
    pub media_type: String,
    /// The body as JSON; a text when it is none.
    pub body: Value,
}

impl Answer {
    /// The body of a success.
    ///
    /// # Panics
    /// With the problem, if it was none.
    pub fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {:#}", self.status, self.body);
        self.body
    }

    /// The stable code of a problem; empty for a success.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

impl Api {
    /// A client of the hub at `http://HOST:PORT`.
    pub fn new(origin: &str, token: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(CALL_MAX))
            .build();
        Self { origin: origin.to_owned(), token: token.to_owned(), agent: config.into() }
    }

    /// `http://HOST:PORT`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The same hub with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// `GET` of any path of the hub.
    pub fn get_any(&self, path: &str) -> Answer {
        let request = self.agent.get(format!("{}{path}", self.origin));
        answer(request.header("Authorization", self.bearer()).call())
    }

    /// `GET` below `/api/v1`.
    pub fn get(&self, path: &str) -> Answer {
        self.get_any(&format!("/api/v1{path}"))
    }

    /// `POST` below `/api/v1`.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_bytes(path, &serde_json::to_vec(body).unwrap(), None)
    }

    /// `POST` of a call that changes stock.
    pub fn change(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.post_bytes(path, &serde_json::to_vec(body).unwrap(), Some(key))
    }

    /// `POST` of bytes as they are.
    pub fn post_bytes(&self, path: &str, body: &[u8], key: Option<&str>) -> Answer {
        let mut request = self
            .agent
            .post(format!("{}/api/v1{path}", self.origin))
            .header("Authorization", self.bearer())
            .header("Content-Type", "application/json");
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        answer(request.send(body))
    }

    /// `PUT` below `/api/v1`.
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        let request = self.agent.put(format!("{}/api/v1{path}", self.origin));
        let request = request.header("Authorization", self.bearer());
        let request = request.header("Content-Type", "application/json");
        answer(request.send(serde_json::to_vec(body).unwrap()))
    }

    /// `DELETE` below `/api/v1`.
    pub fn delete(&self, path: &str) -> Answer {
        let request = self.agent.delete(format!("{}/api/v1{path}", self.origin));
        answer(request.header("Authorization", self.bearer()).call())
    }

    /// Every item of a list, page by page.
    pub fn all(&self, path: &str) -> Vec<Value> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let mut page = self.get(&format!("{path}{joint}limit=1000{cursor}")).good();
            items.append(page["items"].as_array_mut().expect("a list has items"));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    /// A metric by its name and labels as written, such as `stockfold_mqtt_events_total{event="panicked"}`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get_any("/metrics").good();
        let text = text.as_str().expect("metrics are text");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no metric {name} in\n{text}"))
    }

    /// What `/readyz` says, ready or not.
    pub fn get_ready(&self) -> Value {
        self.get_any("/readyz").body
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = result.unwrap_or_else(|error| panic!("the hub did not answer: {error}"));
    let media_type =
        response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or("");
    let media_type = media_type.to_owned();
    let status = response.status().as_u16();
    let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, media_type, body }
}
