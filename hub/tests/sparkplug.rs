//! The hub as a Sparkplug host over its own endpoint: a node is born, speaks, dies, and is asked to be born again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a test may panic"
)]

mod api_support;

use std::collections::VecDeque;

use api_support::{PATIENCE, Running, import};
use device_profiles::sparkplug::{Content, Metric, Payload};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The smallest MQTT 3.1.1 client that a node needs.
struct Node(TcpStream, VecDeque<(u8, Vec<u8>)>);

fn text(text: &str) -> Vec<u8> {
    bytes(text.as_bytes())
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

impl Node {
    async fn send(&mut self, first: u8, body: &[u8]) {
        let mut packet = vec![first];
        let mut left = body.len();
        loop {
            let byte = (left % 128) as u8;
            left /= 128;
            packet.push(if left > 0 { byte | 0x80 } else { byte });
            if left == 0 {
                break;
            }
        }
        packet.extend_from_slice(body);
        self.0.write_all(&packet).await.unwrap();
    }

    async fn receive(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let first = self.0.read_u8().await.unwrap();
            let (mut length, mut shift) = (0_usize, 0);
            loop {
                let byte = self.0.read_u8().await.unwrap();
                length |= usize::from(byte & 0x7F) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.unwrap();
            (first, body)
        };
        timeout(PATIENCE, read).await.unwrap()
    }

    /// Connects as the node `G:E`, with the death of a session as its will.
    async fn connect(running: &Running, secret: &str, bd_seq: u64) -> Self {
        let stream = TcpStream::connect(running.hub.mqtt.unwrap()).await.unwrap();
        let mut node = Self(stream, VecDeque::new());
        // User, password, will with QoS 1, clean session.
        let mut body = [text("MQTT"), vec![4, 0b1100_1110, 0, 60], text("G:E")].concat();
        body.extend([text("spBv1.0/G/NDEATH/E"), bytes(&death(bd_seq))].concat());
        body.extend([text("G:E"), text(secret)].concat());
        node.send(0x10, &body).await;
        assert_eq!(node.receive().await, (0x20, vec![0, 0]));
        node
    }

    /// Subscribes; whether it was granted.
    async fn hear(&mut self, filter: &str) -> bool {
        self.send(0x82, &[vec![0, 7], text(filter), vec![1]].concat()).await;
        loop {
            let (first, body) = self.receive().await;
            if first == 0x90 {
                return body[2] < 0x80;
            }
            self.1.push_back((first, body));
        }
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    async fn say(&mut self, topic: &str, payload: &[u8]) {
        self.send(0x32, &[text(topic), vec![0, 9], payload.to_vec()].concat()).await;
        loop {
            let (first, body) = self.receive().await;
            if first == 0x40 {
                return;
            }
            self.1.push_back((first, body));
        }
    }

    /// The next message: its topic and payload.
    async fn message(&mut self) -> (String, Vec<u8>) {
        loop {
            let (first, body) = match self.1.pop_front() {
                Some(kept) => kept,
                None => self.receive().await,
            };
            if first & 0xF0 == 0x30 {
                let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
                let skip = if first & 0b110 == 0 { 0 } else { 2 };
                return (topic, body[2 + length + skip..].to_vec());
            }
        }
    }
}

fn payload(seq: Option<u64>, metrics: Vec<Metric>) -> Vec<u8> {
    Payload { timestamp_ms: None, seq, metrics }.encode()
}

fn metric(name: &str, alias: Option<u64>, content: Content) -> Metric {
    let name = (!name.is_empty()).then(|| name.to_owned());
    Metric { name, alias, content, ..Metric::default() }
}

fn death(bd_seq: u64) -> Vec<u8> {
    payload(None, vec![metric("bdSeq", None, Content::Long(bd_seq))])
}

async fn hub() -> (Running, String) {
    let running = Running::start().await;
    running.post("/api/v1/import", import()).await;
    for id in ["G:E", "G:E:S"] {
        let device = json!({"id": id, "facility": "f1", "profile": "sparkplug"});
        running.post("/api/v1/devices", device).await;
    }
    let made = running.post("/api/v1/devices/G:E/credentials", json!({})).await;
    (running, made["password"].as_str().unwrap().to_owned())
}

#[actix_rt::test]
async fn a_node_is_born_speaks_and_dies() {
    let (running, secret) = hub().await;
    let mut node = Node::connect(&running, &secret, 3).await;
    for (filter, granted) in [
        ("spBv1.0/G/NCMD/E/#", true),
        ("spBv1.0/G/DCMD/E/+", true),
        ("spBv1.0/STATE/stockfold", true),
        ("spBv1.0/G/NDATA/F", false),
    ] {
        // 3.1.1 has a code for a refused filter.
        assert_eq!(node.hear(filter).await, granted, "{filter}");
    }
    // Before its birth: kept and rejected, and the node is asked to be born.
    node.say("spBv1.0/G/NDATA/E", &payload(Some(7), vec![metric("", Some(1), Content::Int(1))]))
        .await;
    let (mut told_state, mut asked) = (false, false);
    while !(told_state && asked) {
        let (topic, said) = node.message().await;
        if topic == "spBv1.0/STATE/stockfold" {
            let state: Value = serde_json::from_slice(&said).unwrap();
            told_state = state["online"] == true && state["timestamp"].is_number();
        } else {
            assert_eq!(topic, "spBv1.0/G/NCMD/E");
            let command = Payload::decode(&said).unwrap();
            let rebirth = &command.metrics[0];
            asked = rebirth.name.as_deref() == Some("Node Control/Rebirth")
                && rebirth.content == Content::Bool(true);
        }
    }
    running.settled("G:E", (0, 1)).await;
    let born = vec![
        metric("bdSeq", None, Content::Long(3)),
        metric("Temperature", Some(1), Content::Double(21.5)),
    ];
    node.say("spBv1.0/G/NBIRTH/E", &payload(Some(0), born)).await;
    let scale = vec![metric("Gross", Some(2), Content::Float(1.5))];
    node.say("spBv1.0/G/DBIRTH/E/S", &payload(Some(1), scale)).await;
    node.say(
        "spBv1.0/G/NDATA/E",
        &payload(Some(2), vec![metric("", Some(1), Content::Double(22.0))]),
    )
    .await;
    node.say(
        "spBv1.0/G/DDATA/E/S",
        &payload(Some(3), vec![metric("", Some(2), Content::Float(2.5))]),
    )
    .await;
    // One that nobody has enrolled is let go.
    node.say("spBv1.0/G/DBIRTH/E/unknown", &payload(Some(4), vec![])).await;
    // Birth and its metrics, then data.
    running.settled("G:E", (3, 1)).await;
    running.settled("G:E:S", (3, 0)).await;
    // The connection breaks: its will is the death of the node, and its devices die with it.
    drop(node);
    running.settled("G:E:S", (4, 0)).await;
    running.settled("G:E", (4, 1)).await;
    running.stop().await;
}

#[actix_rt::test]
async fn a_node_speaks_for_itself_only() {
    let (running, secret) = hub().await;
    let other = json!({"id": "G:F", "facility": "f1", "profile": "sparkplug"});
    running.post("/api/v1/devices", other).await;
    for topic in
        ["spBv1.0/G/NBIRTH/F", "spBv1.0/G/DDATA/F/S", "spBv1.0/G/NCMD/E", "spBv1.0/STATE/stockfold"]
    {
        let mut node = Node::connect(&running, &secret, 1).await;
        node.send(0x32, &[text(topic), vec![0, 9], death(1)].concat()).await;
        // 3.1.1 has no way to refuse but to close.
        let mut rest = Vec::new();
        timeout(PATIENCE, node.0.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(rest.is_empty(), "{topic}: {rest:?}");
    }
    running.settled("G:F", (0, 0)).await;
    running.stop().await;
}
