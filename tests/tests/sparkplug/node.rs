//! An edge node that was not written here: srad, over rumqttc's client for MQTT 5.
//!
//! srad knows no MQTT; it is given a client and the events of its connection. What lies between is this file, and it can do what a
//! network does: cut a connection and lose a message.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use rumqttc::{
    Outgoing,
    v5::{
        AsyncClient, Event as Polled, EventLoop, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{Filter, LastWill, Packet},
        },
    },
};
use srad_client::{Client, Event, MessageKind, StatePayload, topic_and_payload_to_event};
use srad_eon::{
    DeviceHandle, EoNBuilder, NodeHandle,
    simple_manager::{
        SimpleManagerMetric, SimpleManagerPublishMetric, SimpleMetricBuilder, SimpleMetricManager,
    },
};
use srad_types::{
    payload::Payload,
    topic::{self, DeviceTopic, NodeTopic, StateTopic, TopicFilter},
};
use stockfold_tests::{Login, until};
use tokio::{runtime::Runtime, sync::Notify, task::JoinHandle};

/// Requests that wait for the connection.
const REQUESTS_MAX: usize = 64;
/// Pause before a refused or broken connection is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// What a host said of itself: its name, whether it is there, and when that began or ended, Unix milliseconds.
pub type Said = (String, bool, u64);

/// The line between a node and its broker, and what went over it.
#[derive(Default)]
struct Line {
    cut: Notify,
    /// The next message of this kind does not arrive.
    lose: Mutex<Option<&'static str>>,
    births: AtomicUsize,
    asked: AtomicUsize,
    hosts: Mutex<Vec<Said>>,
}

fn qos(qos: topic::QoS) -> QoS {
    match qos {
        topic::QoS::AtMostOnce => QoS::AtMostOnce,
        topic::QoS::AtLeastOnce => QoS::AtLeastOnce,
    }
}

/// The client's half of the line.
struct Sender {
    client: AsyncClient,
    line: Arc<Line>,
}

impl Sender {
    async fn publish(
        &self,
        topic: String,
        (at, retain): (topic::QoS, bool),
        payload: Payload,
    ) -> Result<(), ()> {
        if topic.contains("/NBIRTH/") {
            self.line.births.fetch_add(1, Relaxed);
        }
        if self.line.lose.lock().unwrap().take_if(|kind| topic.contains(*kind)).is_some() {
            return Ok(());
        }
        self.client.publish(topic, qos(at), retain, Vec::from(payload)).await.map_err(drop)
    }
}

#[async_trait]
impl Client for Sender {
    async fn disconnect(&self) -> Result<(), ()> {
        self.client.disconnect().await.map_err(drop)
    }

    async fn publish_state_message(&self, _: StateTopic, _: StatePayload) -> Result<(), ()> {
        unreachable!("a node is no host")
    }

    async fn try_publish_state_message(&self, _: StateTopic, _: StatePayload) -> Result<(), ()> {
        unreachable!("a node is no host")
    }

    async fn publish_node_message(&self, topic: NodeTopic, payload: Payload) -> Result<(), ()> {
        let how = topic.get_publish_quality_retain();
        self.publish(topic.topic, how, payload).await
    }

    async fn try_publish_node_message(&self, topic: NodeTopic, payload: Payload) -> Result<(), ()> {
        self.publish_node_message(topic, payload).await
    }

    async fn publish_device_message(&self, topic: DeviceTopic, payload: Payload) -> Result<(), ()> {
        let how = topic.get_publish_quality_retain();
        self.publish(topic.topic, how, payload).await
    }

    async fn try_publish_device_message(
        &self,
        topic: DeviceTopic,
        payload: Payload,
    ) -> Result<(), ()> {
        self.publish_device_message(topic, payload).await
    }

    async fn subscribe_many(&self, topics: Vec<TopicFilter>) -> Result<(), ()> {
        let filters = topics.into_iter().map(|filter| Filter::new(filter.topic, qos(filter.qos)));
        self.client.subscribe_many(filters).await.map_err(drop)
    }
}

/// The other half.
struct Receiver {
    events: EventLoop,
    is_online: bool,
    line: Arc<Line>,
}

impl Receiver {
    fn note(&self, event: &Event) {
        match event {
            Event::Node(said) if said.message.kind == MessageKind::Cmd => {
                self.line.asked.fetch_add(1, Relaxed);
            }
            Event::State { host_id, payload } => {
                let (online, ms) = match payload {
                    StatePayload::Online { timestamp } => (true, *timestamp),
                    StatePayload::Offline { timestamp } => (false, *timestamp),
                };
                self.line.hosts.lock().unwrap().push((host_id.clone(), online, ms));
            }
            Event::InvalidPublish { reason, topic, .. } => {
                panic!("srad cannot read {}: {reason}", String::from_utf8_lossy(topic));
            }
            Event::Node(_) | Event::Device(_) | Event::Online | Event::Offline => {}
        }
    }
}

#[async_trait]
impl srad_client::EventLoop for Receiver {
    async fn poll(&mut self) -> Event {
        loop {
            let polled = tokio::select! {
                polled = self.events.poll() => polled,
                () = self.line.cut.notified() => {
                    // No DISCONNECT: the broker tells the will.
                    self.events.clean();
                    self.is_online = false;
                    return Event::Offline;
                }
            };
            match polled {
                Ok(Polled::Incoming(Packet::ConnAck(_))) => {
                    self.is_online = true;
                    return Event::Online;
                }
                Ok(Polled::Incoming(Packet::Publish(publish))) => {
                    let (topic, payload) = (publish.topic.to_vec(), publish.payload.to_vec());
                    let event = topic_and_payload_to_event(topic, payload);
                    self.note(&event);
                    return event;
                }
                Ok(Polled::Outgoing(Outgoing::Disconnect)) | Err(_)
                    if std::mem::take(&mut self.is_online) =>
                {
                    return Event::Offline;
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn set_last_will(&mut self, will: srad_client::LastWill) {
        let will = LastWill::new(will.topic, will.payload, qos(will.qos), will.retain, None);
        self.events.options.set_last_will(will);
    }
}

/// An edge node with a temperature, and a scale behind it.
pub struct Node {
    line: Arc<Line>,
    handle: NodeHandle,
    metrics: SimpleMetricManager<NodeHandle>,
    temperature: SimpleManagerMetric<f64, NodeHandle>,
    scale: SimpleMetricManager<DeviceHandle>,
    gross: SimpleManagerMetric<f64, DeviceHandle>,
    running: JoinHandle<()>,
    runtime: Runtime,
}

/// The temperature and mass that a node is first born with.
pub const BORN: (f64, f64) = (21.5, 0.0);

impl Node {
    /// Switches on the node `edge` of a group; it connects to a hub or broker, and again whenever it is cut.
    pub fn start(address: SocketAddr, group: &str, edge: &str, login: Option<&Login>) -> Self {
        let mut options =
            MqttOptions::new(format!("{group}:{edge}"), address.ip().to_string(), address.port());
        if let Some(login) = login {
            options.set_credentials(&login.device, &login.password);
        }
        options.set_clean_start(true);
        let (client, events) = AsyncClient::new(options, REQUESTS_MAX);
        let line = Arc::new(Line::default());
        let sender = Sender { client, line: Arc::clone(&line) };
        let receiver = Receiver { events, is_online: false, line: Arc::clone(&line) };

        let metrics = SimpleMetricManager::new();
        let temperature = metrics.register_metric(SimpleMetricBuilder::new("Temperature", BORN.0));
        let scale = SimpleMetricManager::new();
        let gross = scale.register_metric(SimpleMetricBuilder::new("Gross", BORN.1));

        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let (handle, running) = runtime.block_on(async {
            let builder = EoNBuilder::new(receiver, sender)
                .with_group_id(group)
                .with_node_id(edge)
                // The hub spaces its requests itself.
                .with_rebirth_cmd_cooldown(Duration::ZERO)
                .with_metric_manager(metrics.clone());
            let (node, handle) = builder.build().unwrap();
            handle.register_device("Scale", scale.clone()).unwrap().enable();
            (handle, tokio::spawn(node.run()))
        });
        let (temperature, gross) = (temperature.unwrap(), gross.unwrap());
        Self { line, handle, metrics, temperature, scale, gross, running, runtime }
    }

    /// Says a temperature, by its alias, as soon as it is born.
    pub fn says(&self, degrees: f64) {
        self.publish(|| self.temperature.update(|value| *value = degrees));
    }

    /// Says a temperature of an earlier time, Unix milliseconds.
    pub fn recalls(&self, degrees: f64, ms: u64) {
        self.publish(|| {
            let now = self.temperature.update(|value| *value = degrees);
            now.with_historical(true).with_timestamp(ms)
        });
    }

    fn publish(&self, metric: impl Fn() -> SimpleManagerPublishMetric) {
        until("the node is born and says something", || {
            self.runtime.block_on(self.metrics.publish_metric(metric())).ok()
        });
    }

    /// Its scale says a mass.
    pub fn weighs(&self, kg: f64) {
        until("the scale is born and says something", || {
            let metric = self.gross.update(|value| *value = kg);
            self.runtime.block_on(self.scale.publish_metric(metric)).ok()
        });
    }

    /// Its connection breaks, and it makes another.
    pub fn cut(&self) {
        self.line.cut.notify_one();
    }

    /// The next message of a kind, such as `/NDATA/`, gets lost.
    pub fn loses(&self, kind: &'static str) {
        *self.line.lose.lock().unwrap() = Some(kind);
    }

    /// That message was sent, and got lost.
    pub fn has_lost(&self) {
        until("the message gets lost", || self.line.lose.lock().unwrap().is_none().then_some(()));
    }

    /// How often it was born.
    pub fn births(&self) -> usize {
        self.line.births.load(Relaxed)
    }

    /// How often it was told something.
    pub fn asked(&self) -> usize {
        self.line.asked.load(Relaxed)
    }

    /// What hosts said of themselves, oldest first.
    pub fn hosts(&self) -> Vec<Said> {
        self.line.hosts.lock().unwrap().clone()
    }

    /// Says goodbye and leaves.
    pub fn leave(self) {
        self.runtime.block_on(async {
            self.handle.cancel().await;
            self.running.await.unwrap();
        });
    }

    /// It loses power.
    pub fn dies(self) {
        self.running.abort();
        let _ = self.runtime.block_on(self.running);
    }
}
