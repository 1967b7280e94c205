//! The hub as a Sparkplug host: messages of nodes to frames of enrolled devices, and what a host has to say.
//!
//! ```text
//!  endpoint or broker ─► host (pure; births, order) ─► frames ─► journal          rounds: losses · rebirths · STATE ─► way
//! ```
//! A message is one publish and may be several frames; the last of them carries its acknowledgement, and the journal keeps their
//! order, so what is acknowledged is durable whole. Enrolment is looked up before anything of a message is kept: a broker may have
//! any number of nodes that are none of the hub's, and those are neither remembered nor told anything. If one of them is not taken, the host forgets the message: it comes again, and
//! what of it is in the journal already tells levels. A node's devices are enrolled like any others; frames of those that are not
//! are let go, and told in the list of those seen. Who may speak for a node: over the endpoint the device that is the node, over
//! a broker whoever its access list lets publish there.
//!
//! Births are kept in memory only. After a restart every node is asked to be born again with its first message.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use device_profiles::{
    profile::Codec,
    sparkplug::{
        HISTORY, Host, METRICS, Payload, STATE, Topic, command_topic,
        host::{Frame, NodeName},
        id, state_topic,
    },
};

use crate::{
    directory::{Device, Directory},
    downlink::Way,
    mqtt::PublishRefusal,
};

/// Nodes that wait to be asked to be born again; one more makes the one that waits longest wait until it is heard again.
const ASKS_MAX: usize = 1_024;
/// Topics of everything that nodes and their devices say.
pub const FILTERS: [&str; 6] = [
    "spBv1.0/+/NBIRTH/+",
    "spBv1.0/+/NDATA/+",
    "spBv1.0/+/NDEATH/+",
    "spBv1.0/+/DBIRTH/+/+",
    "spBv1.0/+/DDATA/+/+",
    "spBv1.0/+/DDEATH/+/+",
];
/// The hub's name as a host.
pub const HOST: &str = "stockfold";

/// The host and what it has to say.
#[derive(Debug, Default)]
pub struct Sparkplug {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    host: Host,
    asks: VecDeque<NodeName>,
    /// The way knows that the host is there.
    is_told: bool,
    /// Since when it is there, as the way's will says, milliseconds; `None` where there is no will.
    since_ms: Option<i64>,
}

impl Inner {
    fn ask(&mut self, node: NodeName) {
        if self.asks.contains(&node) {
            return;
        }
        if self.asks.len() >= ASKS_MAX {
            self.asks.pop_front();
        }
        self.asks.push_back(node);
    }

    /// Asks whoever waits to be asked. Whoever cannot hear it now stays: it may be about to subscribe, or the way to be made.
    fn ask_all(&mut self, now_ms: i64, way: &dyn Way) {
        self.asks.retain(|node| {
            let rebirth = Payload::rebirth(now_ms.unsigned_abs()).encode();
            let is_heard = way.say(&command_topic(&node.group, &node.edge), rebirth, false);
            if is_heard {
                tracing::info!(
                    group = node.group,
                    node = node.edge,
                    "Sparkplug node asked to be born again"
                );
            }
            !is_heard
        });
    }
}

/// A frame of an enrolled device.
pub type Taken = (Arc<Device>, String, Bytes);

impl Sparkplug {
    /// Takes a message. `append` gets each frame, and whether it is the last; nothing is appended of a message that speaks of no
    /// enrolled device, and that is answered by false.
    pub fn take(
        &self,
        directory: &Directory,
        now_ms: i64,
        topic: &Topic<'_>,
        raw: &[u8],
        mut append: impl FnMut(&Taken, bool) -> Result<(), PublishRefusal>,
    ) -> Result<bool, PublishRefusal> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let node = NodeName { group: topic.group.to_owned(), edge: topic.edge.to_owned() };
        let is_enrolled = enrolled(directory, &node, topic.device).is_some();
        if !is_enrolled
            && !inner.host.knows(&node)
            && (topic.device.is_none() || enrolled(directory, &node, None).is_none())
        {
            return Ok(false);
        }
        let (told, before) = inner.host.message(now_ms, topic, raw, is_enrolled);
        let frames = of_enrolled(directory, &node, told.frames);
        for (at, frame) in frames.iter().enumerate() {
            if let Err(refusal) = append(frame, at + 1 == frames.len()) {
                inner.host.undo(before);
                return Err(refusal);
            }
        }
        if let Some(why) = told.why {
            tracing::debug!(topic = topic.name(), node = topic.edge, %why, "Sparkplug message not taken as it was meant");
        }
        if told.rebirth {
            inner.ask(node);
        }
        Ok(!frames.is_empty())
    }

    /// What follows from time, and what the host has to say. `append` gets frames that nobody waits for.
    pub fn round(
        &self,
        directory: &Directory,
        now_ms: i64,
        way: &dyn Way,
        append: impl Fn(&Taken),
    ) {
        if !directory.speaks_sparkplug() {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.is_told {
            let online = state(true, inner.since_ms.unwrap_or(now_ms));
            inner.is_told = way.say(&state_topic(HOST), online, true);
        }
        for (node, told) in inner.host.tick(now_ms) {
            of_enrolled(directory, &node, told.frames).iter().for_each(&append);
            if told.rebirth {
                inner.ask(node);
            }
        }
        inner.ask_all(now_ms, way);
    }

    /// The way was made anew and knows nothing of the host, but what its will says: since when it is there.
    pub fn way_is_new(&self, since_ms: Option<i64>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.is_told, inner.since_ms) = (false, since_ms);
    }
}

/// What a host says of itself: retained, and its will when it is gone.
pub fn state(online: bool, now_ms: i64) -> Vec<u8> {
    format!(r#"{{"online":{online},"timestamp":{now_ms}}}"#).into_bytes()
}

/// Who of a node speaks, if it is enrolled as a speaker of Sparkplug; else it is noted who it was.
fn enrolled(directory: &Directory, node: &NodeName, device: Option<&str>) -> Option<Arc<Device>> {
    let name = id(&node.group, &node.edge, device).ok()?;
    match directory.find(&name) {
        Ok(device) if device.profile.codec == Codec::Sparkplug => return Some(device),
        Ok(_) => {
            directory.note(&name, "sparkplug".into(), "its profile is not of codec: sparkplug");
        }
        Err(unknown) => directory.note(&name, "sparkplug".into(), &unknown.to_string()),
    }
    None
}

/// The frames whose devices are enrolled, for each stream that wants them.
fn of_enrolled(directory: &Directory, node: &NodeName, frames: Vec<Frame>) -> Vec<Taken> {
    let mut taken = Vec::with_capacity(frames.len());
    for frame in frames {
        let Some(device) = enrolled(directory, node, frame.device.as_deref()) else { continue };
        let raw = Bytes::from(frame.raw);
        if frame.stream != METRICS {
            if device.profile.stream(frame.stream).is_some() {
                taken.push((device, frame.stream.to_owned(), raw));
            }
            continue;
        }
        let names =
            device.profile.streams.keys().filter(|name| ![HISTORY, STATE].contains(&name.as_str()));
        for name in names.cloned().collect::<Vec<_>>() {
            taken.push((Arc::clone(&device), name, raw.clone()));
        }
    }
    taken
}

/// What a node may subscribe to: what is said to itself and its devices, and whether a host is there.
pub fn may_hear(node: &str, filter: &str) -> bool {
    let mut levels = filter.split('/').skip(1);
    let (Some(group), kind) = (levels.next(), levels.next()) else { return false };
    if group == "STATE" {
        return kind.is_some_and(|host| !host.is_empty()) && levels.next().is_none();
    }
    let commands = matches!(kind, Some("NCMD" | "DCMD"));
    let literal = |level: &str| !level.is_empty() && !level.contains(['+', '#']);
    let edge = levels.next().unwrap_or_default();
    commands && literal(group) && literal(edge) && id(group, edge, None).is_ok_and(|id| id == node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downlink::Order;

    #[test]
    fn of_a_node_that_nobody_enrolled_nothing_is_kept_and_it_is_asked_nothing() {
        let (sparkplug, directory) = (Sparkplug::default(), Directory::default());
        for topic in ["NBIRTH/E", "NDATA/E", "DBIRTH/E/S", "DDATA/E/S", "NDEATH/E"] {
            let topic = format!("spBv1.0/G/{topic}");
            let raw = Payload::rebirth(1).encode();
            let topic = Topic::parse(&topic).unwrap();
            let taken = sparkplug.take(&directory, 0, &topic, &raw, |_, _| Ok(()));
            assert!(matches!(taken, Ok(false)));
        }
        let inner = sparkplug.inner.lock().unwrap();
        assert_eq!((inner.host.count(), inner.asks.len()), ((0, 0), 0));
    }

    /// A way on which nobody hears the first so many.
    struct Deaf(Mutex<usize>);

    impl Way for Deaf {
        fn send(&self, _: Order) -> bool {
            false
        }

        fn say(&self, _: &str, _: Vec<u8>, _: bool) -> bool {
            let mut deaf = self.0.lock().unwrap();
            let is_heard = *deaf == 0;
            *deaf = deaf.saturating_sub(1);
            is_heard
        }
    }

    #[test]
    fn who_could_not_hear_that_it_was_asked_is_asked_again() {
        let (mut inner, way) = (Inner::default(), Deaf(Mutex::new(1)));
        let node = |edge: usize| NodeName { group: "G".into(), edge: edge.to_string() };
        inner.ask(node(0));
        inner.ask(node(1));
        inner.ask_all(0, &way);
        assert_eq!(inner.asks, [node(0)]);
        inner.ask_all(0, &way);
        assert!(inner.asks.is_empty());
        (0..=ASKS_MAX).for_each(|edge| inner.ask(node(edge)));
        assert_eq!((inner.asks.len(), inner.asks.front()), (ASKS_MAX, Some(&node(1))));
    }

    #[test]
    fn a_node_hears_what_is_said_to_it_and_nothing_else() {
        for (filter, may) in [
            ("spBv1.0/G/NCMD/E", true),
            ("spBv1.0/G/NCMD/E/#", true),
            ("spBv1.0/G/DCMD/E/+", true),
            ("spBv1.0/STATE/stockfold", true),
            ("spBv1.0/STATE/+", true),
            ("spBv1.0/#", false),
            ("spBv1.0/+/NCMD/E", false),
            ("spBv1.0/G/NCMD/+", false),
            ("spBv1.0/G/NCMD/#", false),
            ("spBv1.0/G/NCMD/F", false),
            ("spBv1.0/G/+/E", false),
            ("spBv1.0/G/NDATA/E", false),
            ("spBv1.0/STATE/#/x", false),
            ("spBv1.0/STATE", false),
            ("spBv1.0", false),
        ] {
            assert_eq!(may_hear("G:E", filter), may, "{filter}");
        }
    }
}
