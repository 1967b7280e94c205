//! A strict InfluxDB 2: refuses what the real one refuses, can be told to misbehave, and answers the hub's queries in annotated CSV
//! from what was written, by its own reckoning.
//!
//! It understands exactly the queries that the hub writes; any other line of Flux is a 400.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Read,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use device_profiles::time::parse_rfc3339_us;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::lines::{self, Field};

/// What it does with the next write instead of taking it.
#[derive(Debug, Clone)]
pub enum Trick {
    /// Answers so, with these headers.
    Answer(u16, &'static str, &'static str),
    /// Never answers.
    Hang,
    /// Promises a longer body than it sends.
    CutBody,
    /// Closes after the first bytes of the request.
    Close,
    /// Takes the points and closes without an answer.
    TakeAndClose,
}

/// A point's identity: name, device, field, time.
type Identity = (i64, String, String, String);

#[derive(Default)]
pub struct State {
    pub points: BTreeMap<Identity, Field>,
    /// Every line ever taken, repeats included.
    pub taken: usize,
    pub tricks: VecDeque<Trick>,
    pub token: String,
    /// A line that holds this is a partial write's bad line.
    pub poison: Option<String>,
    /// Longest body, unpacked, in bytes.
    pub body_bytes_max: usize,
    pub writes: usize,
}

/// A running one.
pub struct Fake {
    pub address: SocketAddr,
    pub state: Arc<Mutex<State>>,
}

impl Fake {
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_on(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            token: "right".into(),
            body_bytes_max: 10 << 20,
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        actix_rt::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                actix_rt::spawn(async move {
                    let _ = serve(stream, state).await;
                });
            }
        });
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn play(&self, tricks: impl IntoIterator<Item = Trick>) {
        self.state.lock().unwrap().tricks.extend(tricks);
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
        let header = |name: &str| {
            head.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        let length: usize = header("content-length").map_or(0, |l| l.parse().unwrap());
        let target = head.split(' ').nth(1).unwrap().to_owned();
        // The question how long to wait is an empty write; tricks are for writes that carry something.
        let is_write = target.starts_with("/api/v2/write");
        let trick = if is_write && length > 0 {
            state.lock().unwrap().tricks.pop_front()
        } else if is_write {
            state.lock().unwrap().tricks.front().cloned().filter(|t| matches!(t, Trick::Answer(..)))
        } else {
            None
        };
        if matches!(trick, Some(Trick::Close)) {
            return Ok(());
        }
        while buffer.len() < head_end + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let body = buffer[head_end..head_end + length].to_vec();
        buffer.drain(..head_end + length);
        let (status, headers, text) = match trick {
            Some(Trick::Hang) => {
                std::future::pending::<()>().await;
                return Ok(());
            }
            Some(Trick::CutBody) => {
                stream
                    .write_all(b"HTTP/1.1 500 X\r\ncontent-length: 100\r\n\r\n{\"code\":")
                    .await?;
                return Ok(());
            }
            Some(Trick::TakeAndClose) => {
                answer(&target, &header, &body, &state);
                return Ok(());
            }
            Some(Trick::Answer(status, headers, text)) => (status, headers, text.to_owned()),
            Some(Trick::Close) | None => {
                let (status, text) = answer(&target, &header, &body, &state);
                (status, "", text)
            }
        };
        let extra = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
        let head = format!("HTTP/1.1 {status} X\r\n{extra}content-length: {}\r\n\r\n", text.len());
        let text = if status == 204 { "" } else { &text };
        let head = if status == 204 { format!("HTTP/1.1 204 X\r\n{extra}\r\n") } else { head };
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(text.as_bytes()).await?;
    }
}

fn refusal(code: &str, message: &str) -> String {
    serde_json::json!({ "code": code, "message": message }).to_string()
}

fn answer(
    target: &str,
    header: &dyn Fn(&str) -> Option<String>,
    body: &[u8],
    state: &Mutex<State>,
) -> (u16, String) {
    let mut state = state.lock().unwrap();
    if header("authorization") != Some(format!("Token {}", state.token)) {
        return (401, refusal("unauthorized", "unauthorized access"));
    }
    if !target.contains("org=o") {
        return (404, refusal("not found", "organization name \"x\" not found"));
    }
    if target.starts_with("/api/v2/query") {
        let json: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!(json["type"], "flux");
        return match query(json["query"].as_str().unwrap(), &state) {
            Ok(csv) => (200, csv),
            Err(why) => (400, refusal("invalid", &why)),
        };
    }
    if !target.contains("bucket=b") {
        return (404, refusal("not found", "bucket \"x\" not found"));
    }
    if body.is_empty() {
        return (204, String::new());
    }
    assert!(target.contains("precision=ns"), "{target}");
    assert_eq!(header("content-encoding").as_deref(), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(body).read_to_string(&mut text).unwrap();
    if text.len() > state.body_bytes_max {
        return (
            413,
            refusal("request too large", "unable to read data: points batch is too large"),
        );
    }
    state.writes += 1;
    assert!(text.ends_with('\n'), "a line without an end");
    let (mut dropped, mut why) = (0, String::new());
    for line in text.lines() {
        let parsed = match lines::parse(line) {
            Ok(parsed) => parsed,
            Err(error) => {
                return (400, refusal("invalid", &format!("unable to parse '{line}': {error}")));
            }
        };
        if state.poison.as_ref().is_some_and(|poison| line.contains(poison.as_str())) {
            dropped += 1;
            why = format!("partial write: field type conflict in {line:?}");
            continue;
        }
        let tag = |key: &str| parsed.tags.get(key).cloned().unwrap_or_default();
        assert_eq!(parsed.measurement, "reading");
        for (field, value) in &parsed.fields {
            let identity = (parsed.ns, tag("name"), tag("device"), field.clone());
            state.points.insert(identity, value.clone());
        }
        state.taken += 1;
    }
    if dropped > 0 {
        return (400, refusal("invalid", &format!("{why} dropped={dropped}")));
    }
    (204, String::new())
}

/// The text of the literal that begins at the first quote.
fn literal(text: &str) -> (String, &str) {
    let mut chars = text.char_indices();
    let mut bytes = Vec::new();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return (String::from_utf8(bytes).unwrap(), &text[i + 1..]),
            '\\' => match chars.next().unwrap().1 {
                'x' => {
                    let hex: String =
                        [chars.next().unwrap().1, chars.next().unwrap().1].iter().collect();
                    bytes.push(u8::from_str_radix(&hex, 16).unwrap());
                }
                other => bytes.extend(other.to_string().bytes()),
            },
            other => bytes.extend(other.to_string().bytes()),
        }
    }
    panic!("a literal without an end: {text}");
}

fn after<'a>(text: &'a str, what: &str) -> Option<&'a str> {
    text.split_once(what).map(|(_, rest)| rest)
}

fn quoted(text: &str, what: &str) -> Option<String> {
    Some(literal(after(text, &format!("{what}\""))?).0)
}

fn ns(text: &str) -> i64 {
    let text: String = text.chars().take_while(|c| !",) ".contains(*c)).collect();
    let (whole, fraction) = text.trim_end_matches('Z').split_once('.').unwrap();
    parse_rfc3339_us(&format!("{whole}Z")).unwrap() * 1_000 + fraction.parse::<i64>().unwrap()
}

fn time(ns: i64) -> String {
    let whole = device_profiles::time::format_rfc3339_us(ns.div_euclid(1_000_000_000) * 1_000_000);
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), ns.rem_euclid(1_000_000_000))
}

fn query(flux: &str, state: &State) -> Result<String, String> {
    let (head, rest) = flux.split_once(")\n").ok_or("no source")?;
    let whole = flux.split("numbers\n").next().unwrap();
    if quoted(head, "from(bucket: ").as_deref() != Some("b") {
        return Err("could not find bucket".into());
    }
    let start = ns(after(whole, "range(start: ").ok_or("no range")?);
    let stop = ns(after(whole, "stop: ").ok_or("no stop")?);
    let filter = after(whole, "r._measurement == \"reading\" and ").ok_or("no measurement")?;
    let device = quoted(filter, "r.device == ").ok_or("no device")?;
    let after_device = literal(after(filter, "r.device == \"").unwrap()).1;
    let name = after_device
        .starts_with(" and r.name == ")
        .then(|| quoted(after_device, "r.name == ").unwrap());
    let found = |field: &str| -> Vec<(i64, String, Field)> {
        let of = state.points.iter().filter(|((at, n, d, f), _)| {
            (start..stop).contains(at)
                && *d == device
                && f == field
                && name.as_ref().is_none_or(|name| name == n)
        });
        of.map(|((at, name, _, _), value)| (*at, name.clone(), value.clone())).collect()
    };
    let mut csv = String::new();
    for part in rest.split("yield(name: ").collect::<Vec<_>>().windows(2) {
        let (block, result) = (part[0], literal(&part[1][1..]).0);
        let number = |value: &Field| match value {
            Field::Number(number) => *number,
            Field::Text(_) => f64::NAN,
        };
        let mut rows: Vec<(i64, String, Field)> = match result.as_str() {
            "number" => found("value"),
            "text" => found("text"),
            aggregate => {
                let every: i64 = after(block, "every: ")
                    .and_then(|t| t.split_once('s'))
                    .unwrap()
                    .0
                    .parse()
                    .unwrap();
                let every = every * 1_000_000_000;
                let mut windows: BTreeMap<(i64, String), Vec<f64>> = BTreeMap::new();
                for (at, name, value) in found("value") {
                    let window = (at.div_euclid(every) * every).max(start);
                    windows.entry((window, name)).or_default().push(number(&value));
                }
                let reckon = |values: &[f64]| match aggregate {
                    "count" => Ok(values.len() as f64),
                    "min" => Ok(values.iter().copied().fold(f64::MAX, f64::min)),
                    "max" => Ok(values.iter().copied().fold(f64::MIN, f64::max)),
                    "sum" => Ok(values.iter().sum()),
                    "last" => Ok(*values.last().unwrap()),
                    other => Err(format!("undefined identifier {other}")),
                };
                let told = windows
                    .into_iter()
                    .map(|((at, name), values)| Ok((at, name, Field::Number(reckon(&values)?))));
                told.collect::<Result<_, String>>()?
            }
        };
        if block.contains("|> last()\n") {
            let newest: BTreeMap<String, (i64, Field)> =
                rows.iter().cloned().map(|(at, name, value)| (name, (at, value))).collect();
            rows = newest.into_iter().map(|(name, (at, value))| (at, name, value)).collect();
        } else {
            if let Some(beyond) = after(block, "filter(fn: (r) => r._time < ") {
                let (at, name) = (ns(beyond), quoted(beyond, "r.name < ").unwrap());
                rows.retain(|(t, n, _)| (*t, n) < (at, &name));
            }
            rows.sort_by(|a, b| (b.0, &b.1).cmp(&(a.0, &a.1)));
            rows.truncate(
                after(block, "limit(n: ")
                    .and_then(|t| t.split_once(')'))
                    .unwrap()
                    .0
                    .parse()
                    .unwrap(),
            );
        }
        if rows.is_empty() {
            continue;
        }
        csv.push_str("#datatype,string,long,dateTime:RFC3339,double,string\r\n#group,false,false,false,false,false\r\n");
        csv.push_str(&format!("#default,{result},,,,\r\n,result,table,_time,_value,name\r\n"));
        for (at, name, value) in rows {
            let value = match value {
                Field::Number(number) => number.to_string(),
                Field::Text(text) => text,
            };
            let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            csv.push_str(&format!(",,0,{},{},{}\r\n", time(at), quote(&value), quote(&name)));
        }
        csv.push_str("\r\n");
    }
    Ok(csv)
}
