//! What a client asks of a reader, and what the reader answers.

use super::Device;
use crate::llrp::{Read, report, spec::RoSpec};
use device_profiles::llrp::{IMPINJ, Message, Parameter, Start, Value};

/// Tags in a report when many were held.
const HELD_REPORT_TAGS: usize = 200;
/// Statuses of LLRP (LLRP 1.0.1, 13.2.1.1).
const SUCCESS: u64 = 0;
const PARAMETER_ERROR: u64 = 100;
const UNSUPPORTED_MESSAGE: u64 = 109;

/// States of a ROSpec (LLRP 1.0.1, 11.2.1).
const DISABLED: u64 = 0;
const INACTIVE: u64 = 1;
const ACTIVE: u64 = 2;

fn number(value: impl Into<u64>) -> Value {
    Value::Unsigned(value.into())
}

fn success() -> Parameter {
    let fields = vec![number(SUCCESS), Value::Text(String::new())];
    Parameter::new("LLRPStatus", fields, Vec::new())
}

impl Device {
    /// The client said something.
    pub fn receive(&mut self, message: &Message) {
        let rospec = match message.field("ROSpecID") {
            Some(Value::Unsigned(id)) => u32::try_from(*id).unwrap_or(u32::MAX),
            Some(_) | None => 0,
        };
        match message.number {
            1 => {
                let answer = self.capabilities(message.id);
                self.say(&answer);
            }
            2 => {
                let answer = self.antennas(message.id);
                self.say(&answer);
            }
            3 => {
                self.set(message);
                self.status(13, message.id, SUCCESS, "");
            }
            14 => {
                self.status(4, message.id, SUCCESS, "");
                self.closing = true;
            }
            20 => self.add_rospec(message),
            21 => {
                let known = rospec == 0 || self.rospecs.contains_key(&rospec);
                let gone: Vec<u32> = self
                    .rospecs
                    .keys()
                    .copied()
                    .filter(|id| rospec == 0 || *id == rospec)
                    .collect();
                for id in gone {
                    self.set_listening(id, false);
                    self.rospecs.remove(&id);
                }
                self.about_rospec(31, message.id, known, rospec);
            }
            22 | 23 => {
                let begins = message.number == 22;
                let may = self
                    .rospecs
                    .get(&rospec)
                    .is_some_and(|spec| spec.enabled && spec.since_us.is_some() != begins);
                self.about_rospec(if begins { 32 } else { 33 }, message.id, may, rospec);
                if may {
                    self.set_listening(rospec, begins);
                }
            }
            24 | 25 => {
                let (enables, now_us) = (message.number == 24, self.now_us);
                let known = self.rospecs.get_mut(&rospec);
                let start = known.map(|spec| {
                    (spec.enabled, spec.enabled_us) = (enables, now_us);
                    spec.start
                });
                self.about_rospec(
                    if enables { 34 } else { 35 },
                    message.id,
                    start.is_some(),
                    rospec,
                );
                if enables && start == Some(Start::Immediate) && !self.faults.lazy {
                    self.set_listening(rospec, true);
                } else if !enables {
                    self.set_listening(rospec, false);
                }
            }
            26 => {
                let answer = self.told_rospecs(message.id);
                self.say(&answer);
            }
            60 => self.report_waiting(true),
            64 => self.release(),
            72 => self.acknowledged += 1,
            1_023 if self.config.impinj => {
                self.extended = true;
                // A parameter's bytes are those of a message around it without its header.
                let around = Message::new(13, 0, Vec::new(), vec![success()]);
                let data = around.encode().unwrap_or_default().split_off(10);
                let fields = vec![number(IMPINJ), number(22_u8), Value::Bytes(data)];
                self.say(&Message::new(1_023, message.id, fields, Vec::new()));
            }
            other => {
                let text = format!("message {other} is not known here");
                self.status(100, message.id, UNSUPPORTED_MESSAGE, &text);
            }
        }
    }

    /// Answers, unless it is deaf.
    fn say(&mut self, message: &Message) {
        if !self.faults.deaf {
            self.send(message);
        }
    }

    fn status(&mut self, answer: u16, id: u32, status: u64, text: &str) {
        let fields = vec![number(status), Value::Text(text.to_owned())];
        let status = Parameter::new("LLRPStatus", fields, Vec::new());
        self.say(&Message::new(answer, id, Vec::new(), vec![status]));
    }

    fn about_rospec(&mut self, answer: u16, id: u32, fine: bool, rospec: u32) {
        if fine {
            self.status(answer, id, SUCCESS, "");
        } else {
            self.status(answer, id, PARAMETER_ERROR, &format!("not with ROSpec {rospec}"));
        }
    }

    /// Which antennas are connected; nothing else of its configuration is told.
    fn antennas(&self, id: u32) -> Message {
        let all = (1..=self.config.antennas).map(|port| {
            let connected = !self.unplugged.contains(&port);
            let fields = vec![number(connected), number(port), Value::Signed(600)];
            Parameter::new("AntennaProperties", fields, Vec::new())
        });
        Message::new(12, id, Vec::new(), std::iter::once(success()).chain(all).collect())
    }

    /// The ROSpecs by number and state; what is in them their client knows.
    fn told_rospecs(&self, id: u32) -> Message {
        let specs = self.rospecs.values().map(|spec| {
            let state = match (spec.enabled, spec.since_us) {
                (_, Some(_)) => ACTIVE,
                (true, None) => INACTIVE,
                (false, None) => DISABLED,
            };
            let fields = vec![number(spec.id), number(0_u8), number(state)];
            Parameter::new("ROSpec", fields, Vec::new())
        });
        Message::new(36, id, Vec::new(), std::iter::once(success()).chain(specs).collect())
    }

    fn set(&mut self, message: &Message) {
        if let Some(spec) = message.parameter("ReaderEventNotificationSpec") {
            for state in spec.all("EventNotificationState") {
                let kind = state.number_of("EventType").and_then(|kind| u16::try_from(kind).ok());
                let Some(kind) = kind else { continue };
                if state.number_of("NotificationState") == Some(1) {
                    self.events.insert(kind);
                } else {
                    self.events.remove(&kind);
                }
            }
        }
        if let Some(spec) = message.parameter("KeepaliveSpec") {
            let ms = spec.number_of("PeriodicTriggerValue").and_then(|ms| i64::try_from(ms).ok());
            let on = spec.number_of("KeepaliveTriggerType") == Some(1);
            self.keepalive_us = ms.filter(|ms| on && *ms > 0).map(|ms| ms * 1_000);
            self.keepalive_due_us = self.now_us + self.keepalive_us.unwrap_or(0);
        }
        if let Some(spec) = message.parameter("EventsAndReports") {
            self.hold = spec.number_of("HoldEventsAndReportsUponReconnect") == Some(1);
        }
    }

    fn add_rospec(&mut self, message: &Message) {
        let spec = RoSpec::of(message).filter(|_| !self.faults.refuse_rospec);
        match spec {
            Some(spec) if !self.rospecs.contains_key(&spec.id) => {
                self.rospecs.insert(spec.id, spec);
                self.status(30, message.id, SUCCESS, "");
            }
            Some(_) | None => {
                self.status(30, message.id, PARAMETER_ERROR, "such a ROSpec cannot be added");
            }
        }
    }

    /// What was held goes out, and whether something had no room.
    fn release(&mut self) {
        self.holding = false;
        while !self.held.is_empty() {
            let count = self.held.len().min(HELD_REPORT_TAGS);
            let part: Vec<(u32, Read)> = self.held.drain(..count).collect();
            let rospec = part.first().map_or(0, |(rospec, _)| *rospec);
            let reads: Vec<Read> = part.into_iter().map(|(_, read)| read).collect();
            self.report(rospec, &reads);
        }
        if std::mem::take(&mut self.overflowed) {
            // It is told without having been asked for (LLRP 1.0.1, 12.2.6.5).
            let id = self.next_id();
            let name = "ReportBufferOverflowErrorEvent";
            let event = report::event(id, name, &[], self.now_us, self.stamping());
            self.send(&event);
        }
    }

    fn capabilities(&self, id: u32) -> Message {
        let inner = |name: &str, fields: Vec<Value>, parameters: Vec<Parameter>| {
            Parameter::new(name, fields, parameters)
        };
        let flat = |name: &str, fields: Vec<Value>| inner(name, fields, Vec::new());
        let mut parts =
            vec![flat("ReceiveSensitivityTableEntry", vec![number(1_u16), Value::Signed(0)])];
        parts.push(flat("GPIOCapabilities", vec![number(4_u16), number(4_u16)]));
        parts.extend((1..=self.config.antennas).map(|antenna| {
            flat("PerAntennaAirProtocol", vec![number(antenna), Value::Bytes(vec![1])])
        }));
        let vendor = if self.config.impinj { IMPINJ } else { 0xFFFF };
        let general = inner(
            "GeneralDeviceCapabilities",
            vec![
                number(self.config.antennas),
                number(false),
                number(!self.faults.uptime),
                number(vendor),
                number(1_u32),
                Value::Text("simulated 1.0".into()),
            ],
            parts,
        );
        let llrp = flat(
            "LLRPCapabilities",
            vec![
                number(false),
                number(true),
                number(false),
                number(false),
                number(self.config.can_hold),
                number(1_u8),
                number(0_u16),
                number(4_u32),
                number(4_u32),
                number(4_u32),
                number(0_u32),
                number(0_u32),
            ],
        );
        let mut band: Vec<Parameter> = (0..=20_u16)
            .map(|step| {
                let cdbm = Value::Signed(1_000 + i64::from(step) * 100);
                flat("TransmitPowerLevelTableEntry", vec![number(step + 1), cdbm])
            })
            .collect();
        let channels = (0..50).map(|channel| 902_750 + 500 * channel).collect();
        let table = flat("FrequencyHopTable", vec![number(1_u8), Value::Longs(channels)]);
        band.push(inner("FrequencyInformation", vec![number(true)], vec![table]));
        let mode = |identifier: u32, m: u8, bits: u32| {
            flat(
                "C1G2UHFRFModeTableEntry",
                vec![
                    number(identifier),
                    number(true),
                    number(false),
                    number(m),
                    number(0_u8),
                    number(2_u8),
                    number(bits),
                    number(1_500_u32),
                    number(6_250_u32),
                    number(25_000_u32),
                    number(1_875_u32),
                ],
            )
        };
        let modes = vec![mode(0, 0, 640_000), mode(2, 2, 274_000), mode(1_002, 2, 274_000)];
        band.push(inner("C1G2UHFRFModeTable", Vec::new(), modes));
        let regulatory = inner(
            "RegulatoryCapabilities",
            vec![number(840_u16), number(1_u16)],
            vec![inner("UHFBandCapabilities", Vec::new(), band)],
        );
        Message::new(11, id, Vec::new(), vec![success(), general, llrp, regulatory])
    }
}
