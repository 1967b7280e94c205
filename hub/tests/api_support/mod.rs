//! A whole hub in a directory of its own, and the smallest HTTP and WebSocket clients that can ask it.
//!
//! The clients are written here, because a peer that shares code with the server would agree with its mistakes.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{net::SocketAddr, os::unix::fs::PermissionsExt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hub::{config::Config, run::Hub};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

/// No answer takes longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A facility with a scanned and a weighed slot, a SKU and a scale.
pub fn import() -> Value {
    json!({
        "facilities": [{"id": "f1", "name": "Main"}],
        "zones": [{"facility": "f1", "id": "back", "name": "Back room"}],
        "shelves": [{"facility": "f1", "id": "A", "name": "Shelf A", "zone": "back"}],
        "slots": [
            {"facility": "f1", "id": "dock", "shelf": "A", "receiving": true},
            {"facility": "f1", "id": "A-1", "shelf": "A"}, {"facility": "f1", "id": "A-2", "shelf": "A"},
        ],
        "skus": [{"id": "cola", "name": "Cola 0.33 l", "unit_weight_mg": 350_000, "unit_sigma_mg": 900, "gtin": "4006381333931"}],
        "planogram": [{"facility": "f1", "slot": "A-1", "sku": "cola", "source": "scan", "min": 2},
                      {"facility": "f1", "slot": "A-2", "sku": "cola", "source": "weight", "capacity": 40}],
        "devices": [{"id": "scale-1", "facility": "f1", "channels": [
            {"channel": "0", "slot": "A-2", "division_mg": 1000, "noise_mg": 500, "zero_mg": 0}]}],
    })
}

/// A running hub.
pub struct Running {
    pub hub: Hub,
    pub token: String,
    dir: tempfile::TempDir,
}

impl Running {
    pub async fn start() -> Self {
        // A directory that another user may enter: PostgreSQL does not run as root.
        let dir = tempfile::Builder::new().prefix("sf").tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
        Self::start_in(dir).await
    }

    async fn start_in(dir: tempfile::TempDir) -> Self {
        let mut config = Config { data_dir: Some(dir.path().to_owned()), ..Config::default() };
        config.http.bind = "127.0.0.1:0".parse().unwrap();
        config.mqtt.bind = "127.0.0.1:0".parse().unwrap();
        config.mqtt.tls_bind = None;
        let hub = hub::run::start(&config).await.unwrap();
        let token = std::fs::read_to_string(dir.path().join("admin-token")).unwrap();
        Self { hub, token: token.trim().to_owned(), dir }
    }

    /// Stops the hub and starts it anew on the same data.
    pub async fn restart(self) -> Self {
        self.hub.stop(false).await;
        Self::start_in(self.dir).await
    }

    pub async fn stop(self) {
        self.hub.stop(true).await;
    }

    /// Stops the hub and leaves its data.
    pub async fn stopped(self) -> tempfile::TempDir {
        self.hub.stop(true).await;
        self.dir
    }

    /// Its data directory.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call_with(method, path, body, &[]).await
    }

    pub async fn call_with(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let mut all = vec![("authorization", bearer.as_str())];
        if body.is_some() {
            all.push(("content-type", "application/json"));
        }
        all.extend_from_slice(headers);
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        send(self.hub.http, method, path, &all, body.as_bytes()).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, None).await;
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text);
        answer.json()
    }

    /// A call that must be answered 2xx.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.call("POST", path, Some(body)).await;
        assert!((200..300).contains(&answer.status), "POST {path}: {}", answer.text);
        answer.json()
    }

    /// Waits until the ledger of a device tells of so many frames applied and rejected.
    pub async fn settled(&self, device: &str, wanted: (i64, i64)) {
        let path = format!("/api/v1/ledger?facility=f1&device={device}");
        let mut last = (0, 0);
        let reached = async {
            while last != wanted {
                let page = self.get(&path).await;
                let hours = page["items"].as_array().unwrap();
                let sum = |name: &str| hours.iter().map(|hour| hour[name].as_i64().unwrap()).sum();
                last = (sum("applied"), sum("rejected"));
                if wanted == (0, 0) {
                    return;
                }
            }
        };
        let reached = timeout(PATIENCE, reached).await;
        assert!(reached.is_ok() && last == wanted, "{device}: {last:?} and not {wanted:?}");
    }

    /// A stock-changing call.
    pub async fn change(&self, path: &str, key: &str, body: Value) -> Answer {
        self.call_with("POST", path, Some(body), &[("idempotency-key", key)]).await
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
    /// The code of a problem, after checking that it is a whole one.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status);
        assert_eq!(json["request_id"].as_str(), self.header("x-request-id"));
        assert!(json["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{json}");
        (self.status, json["code"].as_str().unwrap().to_owned())
    }
}

/// One request on a connection of its own.
pub async fn send(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut bytes = Vec::new();
    timeout(PATIENCE, async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        // A server that refuses early may close while the body is on its way.
        let _ = stream.write_all(body).await;
        let _ = stream.read_to_end(&mut bytes).await;
    })
    .await
    .unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) =
        text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), text: body.to_owned() }
}

/// A WebSocket client.
pub struct Socket(BufReader<TcpStream>);

impl Socket {
    /// Opens one; the status when it is refused.
    pub async fn open(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let key = STANDARD.encode([7u8; 16]);
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nhost: {to}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: {key}\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut stream = BufReader::new(TcpStream::connect(to).await.unwrap());
        stream.get_mut().write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        let status: u16 =
            String::from_utf8_lossy(&head).split(' ').nth(1).unwrap().parse().unwrap();
        if status == 101 { Ok(Self(stream)) } else { Err(status) }
    }

    /// The next text as JSON, or the close code.
    pub async fn next(&mut self) -> Result<Value, u16> {
        timeout(PATIENCE, self.frame()).await.unwrap()
    }

    async fn frame(&mut self) -> Result<Value, u16> {
        loop {
            let opcode = self.0.read_u8().await.unwrap() & 0x0f;
            let length = match self.0.read_u8().await.unwrap() & 0x7f {
                126 => u64::from(self.0.read_u16().await.unwrap()),
                127 => self.0.read_u64().await.unwrap(),
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.unwrap();
            match opcode {
                1 => return Ok(serde_json::from_slice(&payload).unwrap()),
                8 => return Err(u16::from_be_bytes([payload[0], payload[1]])),
                _ => {}
            }
        }
    }

    /// The next message of a type.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await.unwrap();
            if message["type"] == kind {
                return message;
            }
        }
    }
}
