//! What a client says to a reader.

use super::{IMPINJ, Message, Parameter, Value};
use crate::profile::Search;

/// State of a ROSpec that listens (LLRP 1.0.1, 11.2.1); others are disabled and inactive.
const ACTIVE: u64 = 2;

/// What starts an inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// START_ROSPEC does.
    Request,
    /// It begins when it is enabled.
    Immediate,
    /// It begins again and again.
    Periodic {
        /// First time after it is enabled, in milliseconds.
        offset_ms: u32,
        /// Time between two beginnings, in milliseconds.
        period_ms: u32,
        /// It ends after so long, in milliseconds.
        for_ms: u32,
    },
    /// An input begins it; the same input ends it when it changes back.
    Gpi {
        /// The input, from 1.
        port: u16,
        /// The level that begins it.
        high: bool,
        /// It ends after so long at the latest, in milliseconds; 0 = it does not.
        timeout_ms: u32,
    },
}

/// How strong a reader sends, and on which channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Power {
    /// Index in the reader's table of transmit powers.
    pub index: u16,
    /// Its hop table where it hops, 0 where it does not.
    pub hop_table: u16,
    /// Its channel where it does not hop, from 1; where it hops nobody looks at it.
    pub channel: u16,
}

/// An inventory as a reader carries it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// Its number at the reader.
    pub rospec: u32,
    /// Antennas, from 1; none = all.
    pub antennas: Vec<u16>,
    /// What starts it.
    pub start: Start,
    /// Tags in a report at most; 1 = each at once.
    pub report_tags: u16,
    /// `None` = as the reader is set.
    pub power: Option<Power>,
    /// Index in its table of modes, and Tari in nanoseconds; `None` = as it is set.
    pub mode: Option<(u16, u16)>,
    /// Session of the air protocol, 0 to 3: how long a tag stays silent after it was read.
    pub session: u8,
    /// Tags that are expected in the field at once.
    pub population: u16,
    /// What only a reader with Impinj's extensions enabled understands.
    pub impinj: Option<Impinj>,
}

/// What an Impinj reader is told beyond the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Impinj {
    /// How it looks for tags; `None` = as it is set.
    pub search: Option<Search>,
}

fn number(value: impl Into<u64>) -> Value {
    Value::Unsigned(value.into())
}

fn request(message: u16, id: u32, fields: Vec<Value>) -> Message {
    Message::new(message, id, fields, Vec::new())
}

/// GET_READER_CAPABILITIES: all of them.
pub fn capabilities(id: u32) -> Message {
    request(1, id, vec![number(0_u8)])
}

/// GET_READER_CONFIG: all of it, of every antenna and port.
pub fn get_config(id: u32) -> Message {
    request(2, id, vec![number(0_u16), number(0_u8), number(0_u16), number(0_u16)])
}

/// GET_READER_CONFIG: of every antenna whether it is connected.
pub fn get_antennas(id: u32) -> Message {
    request(2, id, vec![number(0_u16), number(2_u8), number(0_u16), number(0_u16)])
}

/// SET_READER_CONFIG: signs of life at this period, events of inputs, buffers, antennas, exceptions and specs on; and whether
/// events and reports are held from a connection's loss until ENABLE_EVENTS_AND_REPORTS.
pub fn set_config(id: u32, keepalive_ms: u32, hold: bool) -> Message {
    // Inputs, ROSpecs, buffer warnings, exceptions, antennas.
    let states = [1_u8, 2, 3, 4, 8].map(|event| {
        Parameter::new("EventNotificationState", vec![number(event), number(1_u8)], Vec::new())
    });
    let parameters = vec![
        Parameter::new("ReaderEventNotificationSpec", Vec::new(), states.to_vec()),
        Parameter::new("KeepaliveSpec", vec![number(1_u8), number(keepalive_ms)], Vec::new()),
        Parameter::new("EventsAndReports", vec![number(hold)], Vec::new()),
    ];
    Message::new(3, id, vec![number(0_u8)], parameters)
}

/// SET_READER_CONFIG with signs of life only, for readers that refuse the rest of [`set_config`].
pub fn set_keepalive(id: u32, keepalive_ms: u32) -> Message {
    let spec =
        Parameter::new("KeepaliveSpec", vec![number(1_u8), number(keepalive_ms)], Vec::new());
    Message::new(3, id, vec![number(0_u8)], vec![spec])
}

/// DELETE_ROSPEC: all of them.
pub fn delete_rospecs(id: u32) -> Message {
    request(21, id, vec![number(0_u32)])
}

/// ADD_ROSPEC.
pub fn add_rospec(id: u32, inventory: &Inventory) -> Message {
    let trigger = |gpi: Option<(u16, bool, u32)>| {
        gpi.map(|(port, high, timeout)| {
            let fields = vec![number(port), number(high), number(timeout)];
            Parameter::new("GPITriggerValue", fields, Vec::new())
        })
    };
    let mut duration_ms = 0;
    let (start, within, stop, until) = match inventory.start {
        Start::Request => (0_u8, None, 0_u8, None),
        Start::Immediate => (1, None, 0, None),
        Start::Periodic { offset_ms, period_ms, for_ms } => {
            let fields = vec![number(offset_ms), number(period_ms)];
            duration_ms = for_ms;
            (2, Some(Parameter::new("PeriodicTriggerValue", fields, Vec::new())), 1, None)
        }
        Start::Gpi { port, high, timeout_ms } => {
            (3, trigger(Some((port, high, 0))), 2, trigger(Some((port, !high, timeout_ms))))
        }
    };
    let boundary = Parameter::new(
        "ROBoundarySpec",
        Vec::new(),
        vec![
            Parameter::new("ROSpecStartTrigger", vec![number(start)], within.into_iter().collect()),
            Parameter::new(
                "ROSpecStopTrigger",
                vec![number(stop), number(duration_ms)],
                until.into_iter().collect(),
            ),
        ],
    );
    let antennas = if inventory.antennas.is_empty() { vec![0] } else { inventory.antennas.clone() };
    let inventory_spec = Parameter::new(
        "InventoryParameterSpec",
        vec![number(1_u16), number(1_u8)],
        vec![antenna_configuration(inventory)],
    );
    let ai = Parameter::new(
        "AISpec",
        vec![Value::Words(antennas)],
        vec![
            Parameter::new("AISpecStopTrigger", vec![number(0_u8), number(0_u32)], Vec::new()),
            inventory_spec,
        ],
    );
    // ROSpec and antenna, channel, signal, times and count; not what the reader's own specs are called.
    let wanted = [true, false, false, true, true, true, true, true, true, false];
    let memory =
        Parameter::new("C1G2EPCMemorySelector", vec![number(false), number(true)], Vec::new());
    let selector =
        Parameter::new("TagReportContentSelector", wanted.map(number).to_vec(), vec![memory]);
    let report = Parameter::new(
        "ROReportSpec",
        vec![number(1_u8), number(inventory.report_tags)],
        std::iter::once(selector).chain(inventory.impinj.map(|_| fine_signal())).collect(),
    );
    let rospec = Parameter::new(
        "ROSpec",
        vec![number(inventory.rospec), number(0_u8), number(0_u8)],
        vec![boundary, ai, report],
    );
    Message::new(20, id, Vec::new(), vec![rospec])
}

fn antenna_configuration(inventory: &Inventory) -> Parameter {
    let power = inventory.power.map(|Power { index, hop_table, channel }| {
        let fields = vec![number(hop_table), number(channel), number(index)];
        Parameter::new("RFTransmitter", fields, Vec::new())
    });
    let mode = inventory.mode.map(|(mode, tari)| {
        Parameter::new("C1G2RFControl", vec![number(mode), number(tari)], Vec::new())
    });
    let singulation = Parameter::new(
        "C1G2SingulationControl",
        vec![number(inventory.session & 3), number(inventory.population), number(0_u32)],
        Vec::new(),
    );
    let search = inventory.impinj.and_then(|impinj| impinj.search);
    let search = search.map(|search| impinj(23, search.number().to_be_bytes().to_vec()));
    let command = Parameter::new(
        "C1G2InventoryCommand",
        vec![number(false)],
        mode.into_iter().chain([singulation]).chain(search).collect(),
    );
    let parameters = power.into_iter().chain([command]).collect();
    Parameter::new("AntennaConfiguration", vec![number(0_u16)], parameters)
}

/// A custom parameter of Impinj's.
fn impinj(subtype: u32, data: Vec<u8>) -> Parameter {
    Parameter::new("Custom", vec![number(IMPINJ), number(subtype), Value::Bytes(data)], Vec::new())
}

/// ImpinjTagReportContentSelector with ImpinjEnablePeakRSSI: the signal in 1/100 dBm instead of whole dBm. What lies in a custom
/// parameter is bytes to the standard, so the inner one is written here.
fn fine_signal() -> Parameter {
    let mut inner = vec![0x03, 0xFF, 0, 14];
    inner.extend(IMPINJ.to_be_bytes());
    inner.extend(53_u32.to_be_bytes());
    inner.extend([0, 1]);
    impinj(50, inner)
}

/// IMPINJ_ENABLE_EXTENSIONS: without it an Impinj reader refuses its own parameters. The answer is a custom message with an
/// LLRPStatus in its data.
pub fn enable_extensions(id: u32) -> Message {
    request(1023, id, vec![number(IMPINJ), number(21_u8), Value::Bytes(vec![0; 4])])
}

/// GET_REPORT: what waits for its report comes now.
pub fn get_report(id: u32) -> Message {
    request(60, id, Vec::new())
}

/// ENABLE_ROSPEC.
pub fn enable_rospec(id: u32, rospec: u32) -> Message {
    request(24, id, vec![number(rospec)])
}

/// START_ROSPEC.
pub fn start_rospec(id: u32, rospec: u32) -> Message {
    request(22, id, vec![number(rospec)])
}

/// GET_ROSPECS: all of them, and what each does.
pub fn get_rospecs(id: u32) -> Message {
    request(26, id, Vec::new())
}

/// Whether an answer to GET_ROSPECS says that this one is active.
pub fn is_active(rospecs: &Message, rospec: u32) -> bool {
    rospecs.parameters.iter().filter(|spec| spec.name() == "ROSpec").any(|spec| {
        spec.number_of("ROSpecID") == Some(rospec.into())
            && spec.number_of("CurrentState") == Some(ACTIVE)
    })
}

/// STOP_ROSPEC.
pub fn stop_rospec(id: u32, rospec: u32) -> Message {
    request(23, id, vec![number(rospec)])
}

/// ENABLE_EVENTS_AND_REPORTS: what was held comes now. It has no answer.
pub fn enable_reports(id: u32) -> Message {
    request(64, id, Vec::new())
}

/// KEEPALIVE_ACK.
pub fn keepalive_ack(id: u32) -> Message {
    request(72, id, Vec::new())
}

/// CLOSE_CONNECTION.
pub fn close(id: u32) -> Message {
    request(14, id, Vec::new())
}
