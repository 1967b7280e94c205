//! Sparkplug B: what its nodes say, and what a host does with it.
//!
//! ```text
//!  topic, payload (protobuf) ─► host ─► frames: JSON, for the streams of a profile of codec sparkplug
//!                                └────► requests to be born again
//! ```
//! A node's birth names its metrics and their types and may give each a number, its alias; what comes later has the alias only.
//! Such a payload means nothing without the birth before it, and a journal of such payloads could not be read from its middle.
//! So what is journaled is not the payload but its **expansion** ([`expand`]): one JSON object with names instead of aliases and
//! values of their declared type, which says everything by itself. It is decoded, folded and replayed like any JSON frame:
//!
//! ```text
//!  {"type":"DDATA","timestamp":1795496400500,"metrics":{"Inlet/Temperature":21.5,"Door":false}}
//! ```
//! [`host::Host`] keeps the births and the order. Nothing is held back to restore it: a message that comes late is marked as
//! late (stream `history`) and acknowledged as soon as the journal has it, like any other. A payload that cannot be expanded
//! (before its birth, or no payload at all) is journaled as it came and rejected with its bytes, as any garbage is.
//!
//! A device of the hub is named by the path of its node or device, [`id`]: `Plant1:Edge7`, `Plant1:Edge7:Scale3`.

pub mod expand;
pub mod host;
pub mod payload;
mod topic;

pub use host::Host;
pub use payload::{BadPayload, Content, Metric, Payload};
pub use topic::{Kind, ROOT, Topic, command_topic, id, state_topic};

/// The stream of a device's metrics as they are now; any other stream of its profile but the two below gets them too.
pub const METRICS: &str = "metrics";
/// The stream of metrics that tell of an earlier time: marked historical by the node, or come late.
pub const HISTORY: &str = "history";
/// The stream of births, deaths and losses: `online` and `lost`.
pub const STATE: &str = "state";
