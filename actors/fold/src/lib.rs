//! The fold: journal entries in, stock movements out. The heart of Stockfold.
//!
//! `apply(&mut State, &Entry) -> Effects` is total: it never panics and never fails, whatever the bytes. It has no clock, no
//! IO, no randomness and no iteration over hash maps, so the same entries give the same effects, bit for bit, on every
//! machine. Everything it depends on is an entry: raw frames, the profiles that decode them, master data, commands of people,
//! ticks of time.
//!
//! ```text
//!  Entry ── apply ──► timers that fell due ──► frame ──► dedupe ──► decode ──► weight │ stock │ scan
//!                                             master                                     │
//!                                             tags ──────────────────────────────────────┤
//!                                             command ───────────────────────────────────┴─► book ──► Movement, Level
//!                                             quarantined                                             Event, Discrepancy
//! ```
//!
//! Invariants, each a property test in `tests/properties.rs`:
//! - determinism: equal entries from equal states give equal effects and equal [`State::digest`]s;
//! - batch independence: where a batch ends changes nothing; restoring a snapshot changes nothing;
//! - conservation: a line's quantity is the sum of its movements' deltas;
//! - duplicate insensitivity: a frame delivered twice counts once;
//! - accounting: journaled = applied + duplicate + quarantined + rejected, per device and hour.
//!
//! Absent on purpose: floats in quantities, strings as reasons (exit reasons are enums), access to committed history (what
//! was decided stays decided; corrections are new movements).

mod book;
mod clock;
mod command;
mod dedupe;
mod device;
pub mod discrepancy;
pub mod effects;
pub mod entry;
mod frame;
pub mod limits;
mod master;
pub mod rfid;
mod slot;
mod snapshot;
mod state;
mod table;
mod weight;
pub mod wire;
mod witness;

pub use device::{Counts, LedgerHour};
pub use effects::{
    Cause, Confidence, CycleCount, Effects, Event, EventKind, Movement, MovementId, Outcome,
    Reason, TagChange, TagTold, Why,
};
pub use entry::{
    Body, ChannelSpec, Command, CommandEntry, DeviceSpec, Entry, Frame, HubTime, LineSpec, Master,
    MasterEntry, Position, Principal, SkuSpec, SlotSpec, Source,
};
pub use rfid::{AntennaSpec, Confusion, How, Mobility, Personality, TagNow, Whereabouts, ZoneSpec};
pub use slot::Level;
pub use snapshot::RestoreError;
pub use state::State;
pub use weight::plateau;

/// Version of the rules. It covers this crate and the decoders of `device-profiles`: any change that could give other effects
/// for the same entries raises it, and the stock actor then journals `FoldUpgraded` and writes a snapshot.
pub const FOLD_VERSION: u32 = 1;
