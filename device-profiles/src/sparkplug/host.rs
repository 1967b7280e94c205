//! The host: who was born, what is missing, and when to ask again. Pure; time comes with each call.
//!
//! ```text
//!           NBIRTH                       NDATA, DBIRTH, DDATA … in order of seq
//!  unborn ─────────► born ◄────────────────────────────────┐
//!    ▲  ▲              │  a number is missing ─► waits REORDER_MS ─► lost: counted, asked to be born again
//!    │  └── NDEATH ────┘  (only with the bdSeq of the birth)
//!    └── anything else: kept as it came, asked to be born again
//! ```
//! Rules of the specification and of the field that are kept here:
//!
//! - A death has the number of the session it ends (bdSeq). One of another session came late and ends nothing. That of the next
//!   one does: where there is a next session this one is over, and pysparkplug says goodbye with the number of the next.
//! - A birth that comes right after the death of the same session was overtaken by it: it is let go, and the node is asked to be
//!   born again once that is over.
//! - The birth of a node ends the birth of its devices; their death comes with its death.
//! - What comes after a gap is taken at once; what fills the gap later is taken as history. Nothing waits, so an acknowledgement
//!   never does either. A gap that is not filled within [`REORDER_MS`] is a loss: told as `lost`, and what the node shows may be
//!   old, so it is asked to be born again.
//! - What comes with a number that was just before is repeated, or late beyond its gap: it is taken as history and changes
//!   nothing else. Otherwise one message that a broker gives twice would be a loss of nearly all numbers there are.
//! - Of devices that nobody enrolled only the place in the order is noted.
//! - A node is asked at most once in [`REBIRTH_MS`]; one that does not do it is asked ever more rarely, up to
//!   [`REBIRTH_MS_MAX`].
//!
//! State here may be lost: after a restart of the hub every node is unborn, and is asked.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    HISTORY, METRICS, STATE, Topic,
    expand::{Expanded, Names, expand, state},
    payload::Payload,
    topic::Kind,
};

/// How long a gap may stay open, in milliseconds.
pub const REORDER_MS: i64 = 3_000;
/// Numbers that may be missing at once; a larger jump is a loss at once.
pub const MISSING_MAX: usize = 32;
/// How far behind the next number one is old or repeated; one further behind is taken for a jump ahead.
pub const OLD_MAX: usize = 32;
/// Shortest time between two requests to one node, in milliseconds.
pub const REBIRTH_MS: i64 = 5_000;
/// Longest time between two requests to a node that does not answer, in milliseconds.
pub const REBIRTH_MS_MAX: i64 = 60_000;
/// How long after a death a birth of the same session is taken for one that was overtaken, in milliseconds.
pub const OVERTAKEN_MS: i64 = 250;
/// When such a node is asked, in milliseconds after its birth.
const ASK_OVERTAKEN_MS: i64 = 2_000;
/// Nodes that a host remembers; one more makes it forget the one it heard least lately.
pub const NODES_MAX: usize = 4_096;
/// Devices behind one node.
pub const DEVICES_MAX: usize = 1_024;

/// What the metrics of all births may take together, in bytes.
pub const NAMES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A frame of a device of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which device of the node; `None` = the node itself.
    pub device: Option<String>,
    /// The stream: [`METRICS`], [`HISTORY`] or [`STATE`].
    pub stream: &'static str,
    /// What is journaled.
    pub raw: Vec<u8>,
}

/// A node, as its topics name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName {
    /// The group.
    pub group: String,
    /// The edge node.
    pub edge: String,
}

/// What follows from a message or from time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Frames, in order.
    pub frames: Vec<Frame>,
    /// The node is to be asked to be born again.
    pub rebirth: bool,
    /// Why the message means nothing, if it does not.
    pub why: Option<Why>,
}

/// Why a message was not taken as it was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It is no payload.
    #[error("no Sparkplug payload: {0}")]
    Payload(#[from] super::BadPayload),
    /// Its node or device was not born yet.
    #[error("it came before the birth of its node or device")]
    BeforeBirth,
    /// A death of an older session.
    #[error("the death of another session")]
    StaleDeath,
    /// A birth that its own death overtook.
    #[error("a birth that was overtaken by the death of its session")]
    Overtaken,
    /// A birth without bdSeq, or anything without seq.
    #[error("it has no bdSeq or no seq")]
    NoNumber,
    /// The node has too many devices.
    #[error("its node has more than {DEVICES_MAX} devices")]
    TooManyDevices,
    /// There are too many metrics.
    #[error("the metrics of all births take more than {NAMES_BYTES_MAX} bytes")]
    TooManyNames,
    /// Not for a host.
    #[error("a command is not for a host")]
    Command,
}

/// What is known of a node.
#[derive(Debug, Clone, Default)]
struct Node {
    /// Its metrics, while it is alive.
    born: Option<Arc<Names>>,
    bd_seq: Option<u64>,
    /// The number its next message should have.
    next_seq: u8,
    /// Numbers that are missing, and when they are lost.
    missing: BTreeMap<u8, i64>,
    /// Devices that are alive.
    devices: BTreeMap<String, Arc<Names>>,
    /// What its births and those of its devices take.
    names_bytes: usize,
    /// Devices as they were before the message that is looked at, in order of change.
    changed: Vec<(String, Option<Arc<Names>>)>,
    /// The session that died last, and when.
    died: Option<(u64, i64)>,
    /// It should be asked; not before this.
    ask_at: Option<i64>,
    /// When it was asked last, and how long to wait before it is asked again.
    asked_at: Option<i64>,
    wait_ms: i64,
    heard_at: i64,
}

/// What a message changed, to be undone where its frames could not be kept.
#[derive(Debug)]
pub struct Before {
    name: NodeName,
    /// The node but for its devices; `None` = it was not known.
    node: Option<Node>,
    /// Its devices that changed.
    changed: Vec<(String, Option<Arc<Names>>)>,
}

/// The place of a message in the order of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The next, perhaps behind a gap.
    Next,
    /// It fills a gap.
    Late,
    /// It came before, or its gap was given up.
    Old,
}

/// The host.
#[derive(Debug, Default)]
pub struct Host {
    nodes: BTreeMap<NodeName, Node>,
}

impl Host {
    /// Something of this node was taken.
    pub fn knows(&self, node: &NodeName) -> bool {
        self.nodes.contains_key(node)
    }

    /// Takes a message of a node or of a device behind it. `now_ms` never goes back. Of one that is not enrolled nothing is kept
    /// but its place in the order.
    pub fn message(
        &mut self,
        now_ms: i64,
        topic: &Topic<'_>,
        raw: &[u8],
        is_enrolled: bool,
    ) -> (Told, Before) {
        let name = NodeName { group: topic.group.to_owned(), edge: topic.edge.to_owned() };
        let before = self.nodes.get_mut(&name).map(Node::without_devices);
        if before.is_none() && self.nodes.len() >= NODES_MAX {
            let oldest = self.nodes.iter().min_by_key(|(_, node)| node.heard_at);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.nodes.remove(&oldest);
            }
        }
        let taken: usize = match topic.kind {
            Kind::Birth => self.nodes.values().map(|node| node.names_bytes).sum(),
            Kind::Data | Kind::Death | Kind::Command => 0,
        };
        let node = self.nodes.entry(name.clone()).or_default();
        node.heard_at = now_ms;
        let room = is_enrolled.then(|| NAMES_BYTES_MAX.saturating_sub(taken));
        let mut told = node.message(now_ms, topic, raw, room);
        told.rebirth = node.ask(now_ms);
        if !is_enrolled {
            told.frames.retain(|frame| frame.device.as_deref() != topic.device);
        }
        let changed = std::mem::take(&mut node.changed);
        (told, Before { name, node: before, changed })
    }

    /// Forgets that a message came: it will come again.
    pub fn undo(&mut self, before: Before) {
        let Before { name, node, changed } = before;
        let after = self.nodes.remove(&name);
        let Some(mut node) = node else { return };
        node.devices = after.map(|after| after.devices).unwrap_or_default();
        for (device, names) in changed.into_iter().rev() {
            match names {
                Some(names) => node.devices.insert(device, names),
                None => node.devices.remove(&device),
            };
        }
        self.nodes.insert(name, node);
    }

    /// When [`Host::tick`] is due.
    pub fn deadline(&self) -> Option<i64> {
        self.nodes.values().filter_map(Node::deadline).min()
    }

    /// What follows from time alone.
    pub fn tick(&mut self, now_ms: i64) -> Vec<(NodeName, Told)> {
        let due = |node: &Node| node.deadline().is_some_and(|at| at <= now_ms);
        let mut all = Vec::new();
        for (name, node) in self.nodes.iter_mut().filter(|(_, node)| due(node)) {
            let mut told = Told::default();
            let before = node.missing.len();
            node.missing.retain(|_, until| *until > now_ms);
            node.lost((before - node.missing.len()) as u64, now_ms, &mut told);
            told.rebirth = node.ask(now_ms);
            all.push((name.clone(), told));
        }
        all
    }

    /// Nodes that are alive, and all that are remembered.
    pub fn count(&self) -> (usize, usize) {
        (self.nodes.values().filter(|node| node.born.is_some()).count(), self.nodes.len())
    }
}

impl Node {
    /// Itself without its devices, which may be many.
    fn without_devices(&mut self) -> Self {
        let devices = std::mem::take(&mut self.devices);
        let bare = self.clone();
        self.devices = devices;
        bare
    }

    /// A device is born, or is no more.
    fn set_device(&mut self, device: &str, names: Option<Arc<Names>>) {
        self.names_bytes += names.as_ref().map_or(0, |names| names.bytes());
        let before = match names {
            Some(names) => self.devices.insert(device.to_owned(), names),
            None => self.devices.remove(device),
        };
        self.names_bytes -= before.as_ref().map_or(0, |names| names.bytes());
        self.changed.push((device.to_owned(), before));
    }

    /// None of its devices is born any more; they, in order.
    fn forget_devices(&mut self) -> impl Iterator<Item = &str> {
        let gone = std::mem::take(&mut self.devices);
        self.changed.extend(gone.into_iter().map(|(device, names)| (device, Some(names))));
        self.names_bytes = self.born.as_ref().map_or(0, |names| names.bytes());
        self.changed.iter().map(|(device, _)| device.as_str())
    }

    fn deadline(&self) -> Option<i64> {
        let lost = self.missing.values().min().copied();
        lost.into_iter().chain(self.ask_at.map(|at| at.max(self.may_ask_at()))).min()
    }

    fn may_ask_at(&self) -> i64 {
        self.asked_at.map_or(i64::MIN, |at| at.saturating_add(self.wait_ms))
    }

    /// It should be born again.
    fn want(&mut self, at_ms: i64) {
        self.ask_at = Some(self.ask_at.map_or(at_ms, |known| known.min(at_ms)));
    }

    /// Whether it is to be asked now.
    fn ask(&mut self, now_ms: i64) -> bool {
        if self.ask_at.is_none_or(|at| at > now_ms) || self.may_ask_at() > now_ms {
            return false;
        }
        self.ask_at = None;
        self.wait_ms = match self.asked_at {
            None => REBIRTH_MS,
            Some(_) => self.wait_ms.saturating_mul(2).min(REBIRTH_MS_MAX),
        };
        self.asked_at = Some(now_ms);
        true
    }

    /// `room` is for names in bytes; `None` = the speaker is not enrolled.
    fn message(&mut self, now_ms: i64, topic: &Topic<'_>, raw: &[u8], room: Option<usize>) -> Told {
        let mut told = Told::default();
        let payload = match Payload::decode(raw) {
            Ok(payload) => payload,
            Err(bad) => {
                told.as_it_came(topic, raw, Why::Payload(bad));
                return told;
            }
        };
        match (topic.kind, topic.device) {
            (Kind::Command, _) => told.why = Some(Why::Command),
            (Kind::Birth, None) => self.node_birth(now_ms, topic, &payload, raw, room, &mut told),
            (Kind::Death, None) => self.node_death(now_ms, topic, &payload, &mut told),
            (Kind::Birth | Kind::Data | Kind::Death, _) => {
                self.later(now_ms, topic, &payload, raw, room, &mut told);
            }
        }
        told
    }

    fn node_birth(
        &mut self,
        now_ms: i64,
        topic: &Topic<'_>,
        payload: &Payload,
        raw: &[u8],
        room: Option<usize>,
        told: &mut Told,
    ) {
        let (Some(bd_seq), Some(seq)) = (payload.bd_seq(), payload.seq) else {
            told.as_it_came(topic, raw, Why::NoNumber);
            return;
        };
        let since_death = self.died.filter(|(died, _)| *died == bd_seq).map(|(_, at)| now_ms - at);
        if since_death.is_some_and(|ms| ms <= OVERTAKEN_MS) {
            told.why = Some(Why::Overtaken);
            self.want(now_ms + ASK_OVERTAKEN_MS);
            return;
        }
        let names = room.map_or_else(Names::default, |_| Names::of(payload));
        let freed = self.names_bytes;
        if names.bytes() > room.unwrap_or(0).saturating_add(freed) {
            told.as_it_came(topic, raw, Why::TooManyNames);
            return;
        }
        let expanded = expand(topic.name(), payload, &names);
        self.born = Some(Arc::new(names));
        self.bd_seq = Some(bd_seq);
        self.next_seq = (seq as u8).wrapping_add(1);
        self.missing.clear();
        let _ = self.forget_devices();
        (self.ask_at, self.asked_at, self.wait_ms) = (None, None, REBIRTH_MS);
        told.online(topic, payload, true);
        told.expanded(topic, expanded, false);
    }

    fn node_death(&mut self, now_ms: i64, topic: &Topic<'_>, payload: &Payload, told: &mut Told) {
        let bd_seq = payload.bd_seq();
        let next = self.bd_seq.map(|bd_seq| bd_seq.wrapping_add(1) % 256);
        if self.born.is_some() && bd_seq != self.bd_seq && (bd_seq.is_none() || bd_seq != next) {
            told.why = Some(Why::StaleDeath);
            return;
        }
        let ended = if self.born.is_some() { self.bd_seq } else { bd_seq };
        self.died = ended.map(|bd_seq| (bd_seq, now_ms));
        self.born = None;
        self.missing.clear();
        told.online(topic, payload, false);
        for device in self.forget_devices() {
            let raw = state(topic.name(), payload.timestamp_ms, "online", false.into()).into();
            told.frames.push(Frame { device: Some(device.to_owned()), stream: STATE, raw });
        }
    }

    /// Anything that has its place in the order of a node.
    fn later(
        &mut self,
        now_ms: i64,
        topic: &Topic<'_>,
        payload: &Payload,
        raw: &[u8],
        room: Option<usize>,
        told: &mut Told,
    ) {
        if self.born.is_none() {
            told.as_it_came(topic, raw, Why::BeforeBirth);
            self.want(now_ms);
            return;
        }
        let Some(seq) = payload.seq else {
            told.as_it_came(topic, raw, Why::NoNumber);
            self.want(now_ms);
            return;
        };
        let place = self.in_order(seq as u8, now_ms, told);
        let Some(room) = room else { return };
        let is_history = place != Place::Next;
        match (topic.kind, topic.device) {
            (Kind::Birth, Some(_)) if place == Place::Old => {
                let expanded = expand(topic.name(), payload, &Names::of(payload));
                told.expanded(topic, expanded, is_history);
            }
            (Kind::Death, Some(_)) if place == Place::Old => {}
            (Kind::Birth, Some(device)) => {
                let before = self.devices.get(device).cloned();
                if self.devices.len() >= DEVICES_MAX && before.is_none() {
                    told.as_it_came(topic, raw, Why::TooManyDevices);
                    return;
                }
                let names = Arc::new(Names::of(payload));
                let freed = before.map_or(0, |names| names.bytes());
                if names.bytes() > room.saturating_add(freed) {
                    told.as_it_came(topic, raw, Why::TooManyNames);
                    return;
                }
                let expanded = expand(topic.name(), payload, &names);
                self.set_device(device, Some(names));
                told.online(topic, payload, true);
                told.expanded(topic, expanded, is_history);
            }
            (Kind::Death, Some(device)) => {
                self.set_device(device, None);
                told.online(topic, payload, false);
            }
            (_, device) => {
                let names = match device {
                    None => self.born.clone(),
                    Some(device) => self.devices.get(device).cloned(),
                };
                let Some(names) = names else {
                    told.as_it_came(topic, raw, Why::BeforeBirth);
                    self.want(now_ms);
                    return;
                };
                let expanded = expand(topic.name(), payload, &names);
                if expanded.has_unknown && place != Place::Old {
                    self.want(now_ms);
                }
                told.expanded(topic, expanded, is_history);
            }
        }
    }

    /// Notes a message's number.
    fn in_order(&mut self, seq: u8, now_ms: i64, told: &mut Told) -> Place {
        if self.missing.remove(&seq).is_some() {
            return Place::Late;
        }
        let behind = usize::from(self.next_seq.wrapping_sub(seq));
        if (1..=OLD_MAX).contains(&behind) {
            return Place::Old;
        }
        let ahead = usize::from(seq.wrapping_sub(self.next_seq));
        if ahead > 0 && self.missing.len() + ahead <= MISSING_MAX {
            let until = now_ms + REORDER_MS;
            let gap = (0..ahead).map(|i| (self.next_seq.wrapping_add(i as u8), until));
            self.missing.extend(gap.collect::<Vec<_>>());
        } else if ahead > 0 {
            let lost = self.missing.len() + ahead;
            self.missing.clear();
            self.lost(lost as u64, now_ms, told);
        }
        self.next_seq = seq.wrapping_add(1);
        Place::Next
    }

    fn lost(&mut self, lost: u64, now_ms: i64, told: &mut Told) {
        if lost == 0 {
            return;
        }
        let raw = state("LOSS", u64::try_from(now_ms).ok(), "lost", lost.into()).into();
        told.frames.push(Frame { device: None, stream: STATE, raw });
        self.want(now_ms);
    }
}

impl Told {
    fn expanded(&mut self, topic: &Topic<'_>, expanded: Expanded, is_late: bool) {
        let now = if is_late { HISTORY } else { METRICS };
        let of = |stream: &'static str| {
            move |raw: String| Frame {
                device: topic.device.map(str::to_owned),
                stream,
                raw: raw.into(),
            }
        };
        self.frames.extend(expanded.earlier.into_iter().map(of(HISTORY)));
        self.frames.extend(expanded.now.into_iter().map(of(now)));
    }

    fn online(&mut self, topic: &Topic<'_>, payload: &Payload, online: bool) {
        let raw = state(topic.name(), payload.timestamp_ms, "online", online.into()).into();
        let device = topic.device.map(str::to_owned);
        self.frames.push(Frame { device, stream: STATE, raw });
    }

    /// Keeps what cannot be expanded, so that it is seen.
    fn as_it_came(&mut self, topic: &Topic<'_>, raw: &[u8], why: Why) {
        let device = topic.device.map(str::to_owned);
        self.frames.push(Frame { device, stream: METRICS, raw: raw.to_owned() });
        self.why = Some(why);
    }
}
