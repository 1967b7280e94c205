//! A reader as a state machine: it is told the time and what its client says, and says what goes out.
//!
//! What a real one does and this does too: one client at a time; nothing is said before the greeting; ROSpecs are added
//! disabled, begin by trigger and end by trigger; reports are full, asked for, or due at the end of an inventory; with holding on
//! it goes on listening alone, keeps the reads up to a limit, and gives them up only when its next client asks for them.

mod requests;

use crate::llrp::{
    Faults, Read, Source,
    report::{self, Stamping},
    spec::RoSpec,
};
use device_profiles::{
    Tag,
    llrp::{Message, Start},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A period that is asked for in one step is at most this long, µs; what lies before it is not heard.
const STEP_US_MAX: i64 = 60_000_000;
/// What kind of reader it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Antennas.
    pub antennas: u16,
    /// Reads it keeps while nobody is connected.
    pub held_reads_max: usize,
    /// It can keep them.
    pub can_hold: bool,
    /// It is one of Impinj's, with their extensions.
    pub impinj: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { antennas: 4, held_reads_max: 10_000, can_hold: true, impinj: false }
    }
}

/// A reader.
pub struct Device {
    config: Config,
    source: Source,
    /// What is wrong with it.
    pub faults: Faults,
    rospecs: BTreeMap<u32, RoSpec>,
    /// Kinds of events that were asked for.
    events: BTreeSet<u16>,
    keepalive_us: Option<i64>,
    keepalive_due_us: i64,
    hold: bool,
    /// Impinj's extensions are on.
    extended: bool,
    connected: bool,
    /// A client is there and has not asked yet for what was held.
    holding: bool,
    held: VecDeque<(u32, Read)>,
    overflowed: bool,
    /// Reads that wait for their report.
    waiting: Vec<(u32, Read)>,
    inputs: BTreeMap<u16, bool>,
    /// Antennas that were pulled out.
    unplugged: BTreeSet<u16>,
    born_us: i64,
    now_us: i64,
    last_id: u32,
    out: VecDeque<Vec<u8>>,
    /// A report that goes after the next one.
    later: Option<Vec<u8>>,
    hung: bool,
    closing: bool,
    /// Acknowledged signs of life.
    pub acknowledged: u64,
    /// Clients that were let in.
    pub clients: u64,
    /// Reads handed to the wire.
    pub reported: u64,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Device {
    /// A reader that is switched on now.
    #[must_use]
    pub fn new(config: Config, source: Source, now_us: i64) -> Self {
        Self {
            config,
            source,
            faults: Faults::default(),
            rospecs: BTreeMap::new(),
            events: BTreeSet::new(),
            keepalive_us: None,
            keepalive_due_us: 0,
            hold: false,
            extended: false,
            connected: false,
            holding: false,
            held: VecDeque::new(),
            overflowed: false,
            waiting: Vec::new(),
            inputs: BTreeMap::new(),
            unplugged: BTreeSet::new(),
            born_us: now_us,
            now_us,
            last_id: 0,
            out: VecDeque::new(),
            later: None,
            hung: false,
            closing: false,
            acknowledged: 0,
            clients: 0,
            reported: 0,
        }
    }

    /// Its ROSpecs.
    #[must_use]
    pub fn rospecs(&self) -> Vec<RoSpec> {
        self.rospecs.values().cloned().collect()
    }

    /// A client is there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// It listens.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.rospecs.values().any(|spec| spec.since_us.is_some())
    }

    /// Reads that it keeps for its next client.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// It said good-bye.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// The next message for the wire, whole or as a fault left it; nothing after a hang.
    pub fn outgoing(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    fn stamping(&self) -> Stamping {
        Stamping {
            off_us: self.faults.clock_off_us,
            uptime_from_us: self.faults.uptime.then_some(self.born_us),
            fine: self.extended,
        }
    }

    fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    fn send(&mut self, message: &Message) {
        if self.hung || self.faults.mute || !self.connected {
            return;
        }
        // What it says is made of its own figures; a message that cannot be written would be a mistake here, and is missed.
        self.out.extend(message.encode());
    }

    /// What is said to a client that is turned away.
    #[must_use]
    pub fn refusal(&self, status: u16) -> Vec<u8> {
        let event = report::event(
            0,
            "ConnectionAttemptEvent",
            &[status.into()],
            self.now_us,
            self.stamping(),
        );
        event.encode().unwrap_or_default()
    }

    /// A client connects; false when it is turned away with [`Device::refusal`].
    pub fn connect(&mut self) -> Result<(), u16> {
        if let Some(status) = self.faults.refuse {
            return Err(status);
        }
        if self.connected {
            // A client-initiated connection exists.
            return Err(2);
        }
        self.connected = true;
        self.clients += 1;
        (self.hung, self.closing) = (false, false);
        self.out.clear();
        self.later = None;
        self.holding = self.hold && self.config.can_hold;
        self.keepalive_due_us = self.now_us + self.keepalive_us.unwrap_or(0);
        let greeting =
            report::event(0, "ConnectionAttemptEvent", &[0], self.now_us, self.stamping());
        self.send(&greeting);
        Ok(())
    }

    /// The client is gone.
    pub fn disconnect(&mut self) {
        self.connected = false;
        self.out.clear();
        self.later = None;
        // What waited for its report is held with the rest.
        for (rospec, read) in std::mem::take(&mut self.waiting) {
            self.hear(rospec, read);
        }
    }

    fn tell(&mut self, kind: u16, name: &str, fields: &[u64]) {
        if self.events.contains(&kind) && !self.holding {
            let id = self.next_id();
            let event = report::event(id, name, fields, self.now_us, self.stamping());
            self.send(&event);
        }
    }

    /// An input changes.
    pub fn input(&mut self, port: u16, high: bool) {
        if self.inputs.insert(port, high) == Some(high) {
            return;
        }
        self.tell(1, "GPIEvent", &[port.into(), high.into()]);
        let specs: Vec<(u32, bool)> = self
            .rospecs
            .values()
            .filter_map(|spec| match spec.start {
                Start::Gpi { port: of, high: begins, .. } if of == port && spec.enabled => {
                    Some((spec.id, begins == high))
                }
                Start::Gpi { .. } | Start::Request | Start::Immediate | Start::Periodic { .. } => {
                    None
                }
            })
            .collect();
        for (id, begins) in specs {
            self.set_listening(id, begins);
        }
    }

    /// An antenna is plugged in or pulled out.
    pub fn antenna(&mut self, port: u16, connected: bool) {
        if connected {
            self.unplugged.remove(&port);
        } else {
            self.unplugged.insert(port);
        }
        self.tell(8, "AntennaEvent", &[u64::from(connected), port.into()]);
    }

    fn set_listening(&mut self, id: u32, on: bool) {
        let now_us = self.now_us;
        let Some(spec) = self.rospecs.get_mut(&id) else { return };
        if spec.since_us.is_some() == on {
            return;
        }
        spec.since_us = on.then_some(now_us);
        if !on {
            self.report_waiting(true);
        }
        self.tell(2, "ROSpecEvent", &[u64::from(!on), id.into(), 0]);
    }

    /// Time goes on until `now_us`: tags are heard, reports and signs of life fall due.
    pub fn advance(&mut self, now_us: i64) {
        let from_us = self.now_us.max(now_us - STEP_US_MAX);
        if now_us <= from_us {
            return;
        }
        let listening: Vec<RoSpec> =
            self.rospecs.values().filter(|spec| spec.since_us.is_some()).cloned().collect();
        // The world goes on also while nobody listens to it.
        let heard = (self.source)(from_us, now_us);
        self.now_us = now_us;
        for read in heard {
            let hears = |spec: &&RoSpec| {
                spec.hears(read.antenna) && spec.since_us.is_some_and(|since| read.at_us >= since)
            };
            if let Some(spec) = listening.iter().find(hears) {
                self.hear(spec.id, read);
            }
        }
        self.report_waiting(false);
        let due: Vec<(u32, bool)> = self
            .rospecs
            .values()
            .filter_map(|spec| {
                let expired = match spec.start {
                    Start::Gpi { timeout_ms: ms @ 1.., .. } => spec
                        .since_us
                        .is_some_and(|since| now_us - since >= i64::from(ms) * 1_000)
                        .then_some(false),
                    Start::Gpi { .. }
                    | Start::Request
                    | Start::Immediate
                    | Start::Periodic { .. } => None,
                };
                Some((spec.id, spec.scheduled(now_us).or(expired)?))
            })
            .collect();
        for (id, on) in due {
            self.set_listening(id, on);
        }
        if let Some(period) = self.keepalive_us
            && now_us >= self.keepalive_due_us
        {
            self.keepalive_due_us = (self.keepalive_due_us + period).max(now_us);
            if !self.faults.silent {
                let id = self.next_id();
                self.send(&Message::new(62, id, Vec::new(), Vec::new()));
            }
        }
    }

    fn hear(&mut self, rospec: u32, read: Read) {
        if self.faults.silent {
            return;
        }
        if self.connected && !self.holding {
            self.waiting.push((rospec, read));
        } else if self.hold && self.config.can_hold {
            if self.held.len() < self.config.held_reads_max {
                self.held.push_back((rospec, read));
            } else {
                self.overflowed = true;
            }
        }
    }

    /// Reports what is full, or everything.
    fn report_waiting(&mut self, all: bool) {
        let mut by_spec: BTreeMap<u32, Vec<Read>> = BTreeMap::new();
        for (rospec, read) in self.waiting.drain(..) {
            by_spec.entry(rospec).or_default().push(read);
        }
        for (id, reads) in by_spec {
            let size = self.rospecs.get(&id).map_or(1, |spec| spec.report_tags);
            for part in reads.chunks(if size == 0 { usize::MAX } else { size }) {
                if all || (size > 0 && part.len() >= size) {
                    self.report(id, part);
                } else {
                    self.waiting.extend(part.iter().map(|read| (id, *read)));
                }
            }
        }
    }

    fn report(&mut self, rospec: u32, reads: &[Read]) {
        if self.hung || !self.connected {
            return;
        }
        let (id, stamping) = (self.next_id(), self.stamping());
        let mut bytes = report::report(id, rospec, reads, stamping);
        self.reported += reads.len() as u64;
        if let Some(read) = reads.first() {
            if std::mem::take(&mut self.faults.empty_epc) {
                bytes = report::add_tag(bytes, &[], 0, rospec, read, stamping);
            }
            if std::mem::take(&mut self.faults.long_epc) {
                let long = [0xA5; device_profiles::tag::TAG_BYTES_MAX];
                bytes = report::add_tag(bytes, &long, 496, rospec, read, stamping);
            }
        }
        if std::mem::take(&mut self.faults.unknown) {
            let mut strange = vec![0x04 | 0x03, 0x84, 0, 0, 0, 14];
            strange.extend(id.to_be_bytes());
            strange.extend([1, 2, 3, 4]);
            self.out.push_back(strange);
        }
        if let Some(length) = self.faults.lie.take() {
            bytes[2..6].copy_from_slice(&length.to_be_bytes());
        }
        if std::mem::take(&mut self.faults.inner_lie)
            && let Some(place) = bytes.get_mut(12..14)
        {
            place.copy_from_slice(&u16::MAX.to_be_bytes());
        }
        if std::mem::take(&mut self.faults.hang) {
            bytes.truncate(bytes.len() / 2);
            self.out.push_back(bytes);
            self.hung = true;
            return;
        }
        if self.faults.reorder && self.later.is_none() {
            self.later = Some(bytes);
            return;
        }
        if self.faults.duplicate {
            self.out.push_back(bytes.clone());
        }
        self.out.push_back(bytes);
        self.out.extend(self.later.take());
    }

    /// A tag is heard now, beside what the source says.
    pub fn show(&mut self, tag: Tag, antenna: u16, rssi_cdbm: i16) {
        let read = Read { at_us: self.now_us, antenna, tag, rssi_cdbm };
        let hears = |spec: &&RoSpec| spec.since_us.is_some() && spec.hears(antenna);
        if let Some(id) = self.rospecs.values().find(hears).map(|spec| spec.id) {
            self.hear(id, read);
            self.report_waiting(false);
        }
    }
}
