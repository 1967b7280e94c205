//! LLRP, the Low Level Reader Protocol of EPCglobal, versions 1.0.1 and 1.1: how RFID readers are configured and report.
//!
//! ```text
//!  bytes ─► frame_length ─► Message { number, id, fields, parameters }       everything there is (node.rs, from table.rs)
//!                       └─► TagReads: the tags of an RO_ACCESS_REPORT        what comes often, without allocation (report.rs)
//!  request.rs ─► Message ─► bytes                                            what a client says
//!  Message ─► Capabilities                                                   what a reader can do (capabilities.rs)
//! ```
//! One table has every message and parameter; decoder and encoder walk it. Any bytes are a message or an error: lengths are
//! checked against what encloses them, depth and sizes have limits, unknown TLV parameters are skipped by their length and
//! counted. An unknown TV parameter has no length and is an error.

mod capabilities;
mod node;
mod report;
mod request;
mod table;

pub use capabilities::{Capabilities, Unable};
pub use node::{Message, Parameter, Value, frame_length};
pub use report::{Stamp, TagRead, TagReads, split};
pub use request::{
    Impinj, Inventory, Power, Start, add_rospec, capabilities, close, delete_rospecs,
    enable_extensions, enable_reports, enable_rospec, get_antennas, get_config, get_report,
    get_rospecs, is_active, keepalive_ack, set_config, set_keepalive, start_rospec, stop_rospec,
};

/// Longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Deepest nesting of parameters, in levels.
pub const DEPTH_MAX: usize = 16;
/// Bytes of a message's header.
pub const HEADER_BYTES: usize = 10;
/// Impinj's number as a vendor.
pub const IMPINJ: u32 = 25_882;

/// Numbers of messages that a client acts on.
pub mod message {
    /// Answer to GET_READER_CAPABILITIES.
    pub const CAPABILITIES_RESPONSE: u16 = 11;
    /// Answer to GET_READER_CONFIG.
    pub const CONFIG: u16 = 12;
    /// Answer to SET_READER_CONFIG.
    pub const CONFIG_RESPONSE: u16 = 13;
    /// Tags.
    pub const REPORT: u16 = 61;
    /// Sign of life; wants an acknowledgement.
    pub const KEEPALIVE: u16 = 62;
    /// Something happened at the reader.
    pub const EVENT: u16 = 63;
    /// Acknowledgement of a sign of life.
    pub const KEEPALIVE_ACK: u16 = 72;
    /// A request was refused.
    pub const ERROR: u16 = 100;
}

/// Why bytes are no message, or a message cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LlrpError {
    /// A length that cannot be.
    #[error("a message of {0} bytes cannot be; {HEADER_BYTES} to {MESSAGE_BYTES_MAX} are possible")]
    Length(u32),
    /// The first byte is none that a message begins with.
    #[error("whatever is there does not speak LLRP: a message cannot begin with byte {0:02X}")]
    First(u8),
    /// A version that is not spoken here.
    #[error("LLRP version {0} is not spoken here; 1 (1.0.1) and 2 (1.1) are")]
    Version(u8),
    /// A message that the standard does not have.
    #[error("there is no message {0}")]
    Message(u16),
    /// The bytes end within something.
    #[error("{0} ends too early")]
    Short(&'static str),
    /// A parameter's length goes beyond what encloses it, or is less than its header.
    #[error("parameter {number} says it has {length} bytes, {left} are left")]
    ParameterLength {
        /// The parameter.
        number: u16,
        /// What it says.
        length: usize,
        /// What is left.
        left: usize,
    },
    /// A TV parameter that the standard does not have; its length is not known.
    #[error("there is no TV parameter {0}")]
    UnknownTv(u16),
    /// Parameters within parameters.
    #[error("parameters are nested deeper than {DEPTH_MAX} levels")]
    Depth,
    /// Text that is not UTF-8.
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    /// A value that its field cannot hold.
    #[error("{0} cannot hold this value")]
    Value(&'static str),
    /// A field that is missing or not the one that comes next.
    #[error("{parameter}: field {wanted} is wanted here")]
    Field {
        /// The parameter or message.
        parameter: &'static str,
        /// The field.
        wanted: &'static str,
    },
    /// Longer than a length can say.
    #[error("{0} is too long to be written")]
    TooLong(&'static str),
}
