//! Sparkplug B before the real hub: an edge node by srad, over the hub's own endpoint and over Mosquitto.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

#[path = "sparkplug/node.rs"]
mod node;

use device_profiles::{
    sparkplug::{Content, Metric, Payload},
    time::format_rfc3339_us,
};
use node::{BORN, Node, Said};
use serde_json::{Value, json};
use simulator::{
    clock::WallClock,
    mqtt::packet::{self, Connect},
};
use stockfold_tests::{Api, Broker, Device, Hub, Login, Setup, Shop, Version, hub, until};

/// The hub's name as a host.
const HOST: &str = "stockfold";

/// A node `Edge` of a group named as its facility, with its scale, as the hub knows them.
struct Plant {
    api: Api,
    name: &'static str,
}

impl Plant {
    /// Enrols both.
    fn enrol(api: &Api, name: &'static str) -> (Self, Login) {
        Shop::open(api, name, 1, 0);
        let device = |id: String| json!({ "id": id, "facility": name, "profile": "sparkplug" });
        let data = json!({ "devices": [
            device(format!("{name}:Edge")), device(format!("{name}:Edge:Scale")),
        ] });
        let made = api.post("/import?credentials=true", &data).good();
        let password = made["credentials"][0]["password"].as_str().unwrap().to_owned();
        let plant = Self { api: api.clone(), name };
        (plant, Login { device: format!("{name}:Edge"), password })
    }

    fn readings(&self, device: &str, series: &str) -> Vec<Value> {
        let path = format!("/devices/{}:Edge{device}/readings?name={series}", self.name);
        self.api.all(&path)
    }

    /// Waits until a series has just these values, whatever their order; a bool is 1 or 0.
    fn shows(&self, device: &str, series: &str, wanted: &[f64]) {
        let mut wanted = wanted.to_vec();
        wanted.sort_by(f64::total_cmp);
        until(&format!("{}{device} shows {series} {wanted:?}", self.name), || {
            let told = self.readings(device, series);
            let mut told: Vec<f64> = told.iter().filter_map(|r| r["value"].as_f64()).collect();
            told.sort_by(f64::total_cmp);
            assert!(told.len() <= wanted.len(), "{series} has {told:?}, wanted were {wanted:?}");
            (told == wanted).then_some(())
        });
    }

    /// Reasons of what was refused, and whose it was, oldest first.
    fn refused(&self) -> Vec<(String, String)> {
        let rows = self.api.all(&format!("/quarantine?facility={}", self.name));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rows.iter().rev().map(|row| (text(&row["device"]), text(&row["reason"]))).collect()
    }

    /// Every frame of the node and its scale left the fold by one exit, and none came twice.
    fn is_accounted_for(&self) {
        for row in self.api.all(&format!("/ledger?facility={}", self.name)) {
            let sum =
                |names: &[&str]| -> u64 { names.iter().map(|n| row[n].as_u64().unwrap()).sum() };
            let left = sum(&["applied", "duplicate", "quarantined", "rejected"]);
            assert_eq!((sum(&["journaled"]), sum(&["duplicate"])), (left, 0), "{row:#}");
        }
    }
}

/// Waits until a node was born so often.
fn born(node: &Node, times: usize) {
    until(&format!("the node is born {times} times"), || (node.births() >= times).then_some(()));
}

/// Waits for what the hub says of itself as a host, after as much as was said before.
fn told(node: &Node, before: usize) -> Said {
    until("the host says whether it is there", || node.hosts().get(before).cloned())
}

#[test]
fn an_edge_node_is_born_speaks_dies_and_is_born_again() {
    let hub = hub();
    let (plant, login) = Plant::enrol(hub.api(), "Plant1");
    let node = Node::start(hub.mqtt(), plant.name, "Edge", Some(&login));
    let (host, online, _) = told(&node, 0);
    assert_eq!((host.as_str(), online), (HOST, true));
    for degrees in [22.0, 22.5, 23.0] {
        node.says(degrees);
    }
    for kg in [1.5, 2.5] {
        node.weighs(kg);
    }
    plant.shows("", "metrics.Temperature", &[BORN.0, 22.0, 22.5, 23.0]);
    plant.shows(":Scale", "metrics.Gross", &[BORN.1, 1.5, 2.5]);
    plant.shows("", "state.online", &[1.0]);
    assert_eq!((node.births(), node.asked()), (1, 0), "a birth that arrives is not asked for");

    // What the node kept from an earlier time is told as of that time, and changes nothing of now.
    let ago_ms = WallClock::start().unix_us() / 1_000 - 600_000;
    node.recalls(19.0, u64::try_from(ago_ms).unwrap());
    plant.shows("", "history.Temperature", &[19.0]);
    let at = plant.readings("", "history.Temperature")[0]["at"].clone();
    assert_eq!(at, format_rfc3339_us(ago_ms * 1_000));

    // Its connection breaks: its will is its death, and its scale's. It is born again by itself, with what it shows now.
    node.cut();
    born(&node, 2);
    plant.shows("", "state.online", &[1.0, 0.0, 1.0]);
    plant.shows(":Scale", "state.online", &[1.0, 0.0, 1.0]);
    node.says(24.0);
    plant.shows("", "metrics.Temperature", &[BORN.0, 22.0, 22.5, 23.0, 19.0, 24.0]);

    // A message gets lost: it is counted, and the node is asked to be born again, which it is.
    node.loses("/NDATA/");
    node.says(25.0);
    node.has_lost();
    node.says(26.0);
    plant.shows("", "state.lost", &[1.0]);
    born(&node, 3);
    assert_eq!(node.asked(), 1);
    plant.shows("", "metrics.Temperature", &[BORN.0, 22.0, 22.5, 23.0, 19.0, 24.0, 26.0, 26.0]);
    assert_eq!(plant.refused(), []);

    // Its birth gets lost: that of its scale is kept as it came, and the node is asked.
    node.loses("/NBIRTH/");
    node.cut();
    born(&node, 5);
    plant.shows(":Scale", "state.online", &[1.0, 0.0, 1.0, 1.0, 0.0, 1.0]);
    assert_eq!(node.asked(), 2);
    let scale = format!("{}:Edge:Scale", plant.name);
    assert_eq!(plant.refused(), [(scale, "not_json".to_owned())]);

    // It says goodbye, and its scale dies with it.
    node.leave();
    plant.shows(":Scale", "state.online", &[1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0]);
    plant.is_accounted_for();
    hub.is_sound();
}

#[test]
fn a_node_that_restarts_at_once_is_not_lost_behind_its_own_death() {
    let hub = hub();
    let (plant, login) = Plant::enrol(hub.api(), "Plant2");
    // srad numbers its sessions anew whenever it starts: the will of one life and the birth of the next have the same number.
    for life in 1..=3 {
        let node = Node::start(hub.mqtt(), plant.name, "Edge", Some(&login));
        let degrees = 30.0 + f64::from(life);
        until("what it says arrives", || {
            node.says(degrees);
            let told = plant.readings("", "metrics.Temperature");
            told.iter().any(|reading| reading["value"] == degrees).then_some(())
        });
        node.dies();
    }
    until("its last death is told", || {
        plant.readings("", "state.online").first().is_some_and(|r| r["value"] == 0.0).then_some(())
    });
    plant.is_accounted_for();
    hub.is_sound();
}

/// Publishes as somebody else whom the broker lets in.
fn publish(broker: &Broker, topic: &str, payload: &[u8]) {
    let mut connect = Vec::new();
    let hello = Connect {
        version: Version::V3,
        client_id: "somebody-else",
        clean: true,
        keep_alive_s: 0,
        session_expiry_s: 0,
        login: None,
    };
    packet::connect(&mut connect, &hello);
    let mut device = Device::dial(broker.address(), Version::V3).hello(&connect).ok().unwrap();
    assert_eq!(device.publish(topic, payload), Ok(0));
}

fn death(bd_seq: u64) -> Vec<u8> {
    let number =
        Metric { name: Some("bdSeq".into()), content: Content::Long(bd_seq), ..Metric::default() };
    Payload { timestamp_ms: None, seq: None, metrics: vec![number] }.encode()
}

#[test]
fn a_broker_carries_births_data_deaths_and_whether_the_hub_is_there() {
    let Some(broker) = Broker::mosquitto("sparkplug-mosquitto", "allow_anonymous true") else {
        return;
    };
    let url = format!("mqtt://{}", broker.address());
    let mut hub = Hub::with(Setup::default().set("MQTT__BROKER_URL", url));
    let connected = |hub: &Hub| {
        until("the hub is connected to the broker", || {
            (hub.api().metric("stockfold_broker_connected") == 1.0).then_some(())
        });
    };
    connected(&hub);
    // The node is there before the hub knows of any: nobody is told of a host that hosts nothing.
    let node = Node::start(broker.address(), "Plant3", "Edge", None);
    born(&node, 1);
    assert_eq!(node.hosts(), []);

    // Enrolled later: the hub is there from now on, and has a will that says so when it is not.
    let (plant, _) = Plant::enrol(hub.api(), "Plant3");
    let came = told(&node, 0);
    assert!((came.0.as_str(), came.1) == (HOST, true), "{came:?}");
    // It does not know the node's birth, asks for it, and is told all the node shows.
    until("the node is asked to be born again", || {
        node.says(22.0);
        (node.births() > 1).then_some(())
    });
    plant.shows("", "state.online", &[1.0]);
    node.says(23.0);
    node.weighs(1.5);
    plant.shows(":Scale", "metrics.Gross", &[BORN.1, 1.5]);
    until("what it says arrives", || {
        let told = plant.readings("", "metrics.Temperature");
        told.iter().any(|reading| reading["value"] == 23.0).then_some(())
    });
    let before = plant.readings("", "metrics.Temperature").len();

    // What is no payload is kept as it came; what is too long for any frame is counted and let go.
    let refused = plant.refused().len();
    publish(&broker, "spBv1.0/Plant3/NDATA/Edge", &[0xFF; 40]);
    until("garbage is kept", || (plant.refused().len() == refused + 1).then_some(()));
    publish(&broker, "spBv1.0/Plant3/NDATA/Edge", &vec![0xFF; 10_000_000]);
    until("ten megabytes are let go", || {
        let let_go = "stockfold_broker_events_total{event=\"too_large\"}";
        (hub.api().metric(let_go) == 1.0).then_some(())
    });
    assert_eq!(plant.refused().len(), refused + 1);

    // The death of another session ends nothing.
    publish(&broker, "spBv1.0/Plant3/NDEATH/Edge", &death(200));
    node.says(24.0);
    until("what it says arrives", || {
        (plant.readings("", "metrics.Temperature").len() == before + 1).then_some(())
    });
    plant.shows("", "state.online", &[1.0]);
    // The broker tells its will.
    node.cut();
    plant.shows("", "state.online", &[1.0, 0.0, 1.0]);
    plant.shows(":Scale", "state.online", &[1.0, 0.0, 1.0]);
    assert!(
        plant.refused().iter().all(|(_, reason)| reason == "not_json"),
        "{:?}",
        plant.refused()
    );

    // The hub is killed: the broker says that it is gone, and since when it had been there, as the specification wants it.
    let said = node.hosts().len();
    let came = node.hosts().pop().unwrap();
    assert_eq!((came.0.as_str(), came.1), (HOST, true));
    hub.kill();
    assert_eq!(told(&node, said), (HOST.to_owned(), false, came.2));
    hub.again();
    connected(&hub);
    let again = told(&node, said + 1);
    assert!(again.1 && again.2 > came.2, "{came:?} {again:?}");
    // Its births are forgotten with it; data before them are kept and asked about.
    let (births, refused) = (node.births(), plant_of(&hub).refused().len());
    node.says(25.0);
    born(&node, births + 1);
    plant_of(&hub).shows("", "state.online", &[1.0, 0.0, 1.0, 1.0]);
    assert_eq!(plant_of(&hub).refused().len(), refused + 1);

    // It is stopped, and says so itself; who comes later hears it, too.
    assert!(hub.stop().success());
    let gone = told(&node, said + 2);
    assert!(!gone.1 && gone.2 >= again.2, "{gone:?}");
    let other = Node::start(broker.address(), "Plant3", "Other", None);
    assert_eq!(told(&other, 0), gone);
    hub.again();
    assert!(told(&other, 1).1);
    node.leave();
    until("its goodbye arrives", || {
        let told = plant_of(&hub).readings("", "state.online");
        told.first().is_some_and(|reading| reading["value"] == 0.0).then_some(())
    });
    plant_of(&hub).is_accounted_for();
    hub.replays_equal();
}

/// The plant behind the broker, of a hub that was started again.
fn plant_of(hub: &Hub) -> Plant {
    Plant { api: hub.api().clone(), name: "Plant3" }
}
