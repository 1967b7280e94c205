//! The store as the committer sees it: one batch, committed whole or not at all, fenced by term and position.
//!
//! Two stores keep this contract: PostgreSQL (in the hub) and the model in memory below, which simulation uses and which can
//! forget its newest commits as a failed-over database does. One contract test judges both (`tests` in the hub call
//! [`contract`]).
//!
//! A batch says from which offset it continues. A store whose shard stands elsewhere, or belongs to another term, refuses:
//! [`StoreError::Fenced`] stops the shard. A lost reply is answered by reading the position again; so committing is safe to
//! retry. Rows have natural keys and levels are absolute, so a batch that was committed twice would change nothing either.

use std::future::Future;

use device_profiles::{DeviceId, FacilityId, Sku, SlotId, Tag, Units};
use fold::{Event, LedgerHour, Level, Movement, TagNow};

pub mod contract;
mod model;

pub use model::ModelStore;

/// Where a shard stands in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardPosition {
    /// The journal it was fed from.
    pub epoch: u32,
    /// Last offset committed; 0 when none.
    pub offset: u64,
    /// Who owns the shard; each owner takes a higher one.
    pub term: u64,
}

/// Everything some consecutive entries of a shard did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The shard.
    pub shard: u16,
    /// The journal.
    pub epoch: u32,
    /// The owner's term.
    pub term: u64,
    /// Offset the shard stands at before.
    pub from: u64,
    /// Offset it stands at afterwards.
    pub to: u64,
    /// Rules that made it.
    pub fold_version: u32,
    /// Movements with facility and offset, in order.
    pub movements: Vec<(FacilityId, u64, Movement)>,
    /// Events with facility and offset, in order.
    pub events: Vec<(FacilityId, u64, Event)>,
    /// Raw frames of refused entries, by offset.
    pub refused: Vec<(u64, Refused)>,
    /// Levels as they stand at `to`, sorted by facility, slot and SKU, each once.
    pub levels: Vec<(FacilityId, Level)>,
    /// Lines that are no more, sorted: no longer planned and empty.
    pub gone: Vec<(FacilityId, SlotId, Sku)>,
    /// Tags as they are at `to`, sorted by facility and tag, each once.
    pub tags: Vec<(FacilityId, TagNow)>,
    /// Tags that are known no more, sorted.
    pub tags_gone: Vec<(FacilityId, Tag)>,
    /// Totals as they stand at `to`, sorted by facility and SKU, each once.
    pub totals: Vec<(FacilityId, Sku, Units)>,
    /// Device hours, absolute, sorted by facility, device and hour, each once.
    pub ledgers: Vec<(FacilityId, DeviceId, LedgerHour)>,
}

/// What is kept of a frame that had no effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// Stream it came on.
    pub stream: String,
    /// Its bytes.
    pub raw: bytes::Bytes,
}

impl Batch {
    /// Rows it writes, for limits and metrics.
    pub fn rows(&self) -> usize {
        self.movements.len()
            + self.events.len()
            + self.levels.len()
            + self.gone.len()
            + self.tags.len()
            + self.tags_gone.len()
            + self.totals.len()
            + self.ledgers.len()
    }
}

/// Why a commit failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The shard stands elsewhere or has another owner: stop it.
    #[error(
        "shard {shard} is fenced: expected offset {expected} and term {term}, the store has {found:?}"
    )]
    Fenced {
        /// The shard.
        shard: u16,
        /// Offset we believed in.
        expected: u64,
        /// Our term.
        term: u64,
        /// What the store has.
        found: Option<ShardPosition>,
    },
    /// The store is away or refused for now: keep the batch and try again.
    #[error("the store is away: {0}")]
    Away(String),
    /// The store refused the batch for good: a bug, or a schema of another version.
    #[error("the store refused a batch: {0}")]
    Refused(String),
}

/// A store of committed effects.
pub trait Store: Send + Sync + 'static {
    /// Takes ownership of a shard under a term higher than any before; makes the shard when it is new.
    fn own(
        &self,
        shard: u16,
        epoch: u32,
    ) -> impl Future<Output = Result<ShardPosition, StoreError>> + Send;
    /// Where the shard stands.
    fn position(
        &self,
        shard: u16,
    ) -> impl Future<Output = Result<Option<ShardPosition>, StoreError>> + Send;
    /// Commits a batch whole.
    fn commit(&self, batch: &Batch) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Every movement of a shard after an offset, in order, at most `limit`: the outbox.
    fn movements_after(
        &self,
        shard: u16,
        offset: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<OutboxMovement>, StoreError>> + Send;
    /// Writes how far a named reader has come, durably: when this returns, everything committed before it survives a crash of
    /// the store too.
    fn save_cursor(
        &self,
        name: &str,
        shard: u16,
        epoch: u32,
        offset: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Every registered cursor of a shard and epoch: how far each reader has come.
    fn cursors(
        &self,
        shard: u16,
        epoch: u32,
    ) -> impl Future<Output = Result<Vec<(String, u64)>, StoreError>> + Send;
    /// Every level of a shard's facilities, sorted.
    fn levels(
        &self,
        shard: u16,
    ) -> impl Future<Output = Result<Vec<(FacilityId, Level)>, StoreError>> + Send;
}

/// A movement as the outbox tells it: what replay compares and the feed sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMovement {
    /// Offset of its entry.
    pub offset: u64,
    /// Its place among the entry's effects.
    pub ordinal: u16,
    /// Facility.
    pub facility: String,
    /// Slot.
    pub slot: String,
    /// SKU.
    pub sku: String,
    /// Change, in units.
    pub delta: i64,
    /// Quantity after it.
    pub level_after: i64,
    /// Cause.
    pub cause: String,
    /// Confidence, ten-thousandths.
    pub confidence: u16,
    /// Hub time, microseconds.
    pub at_us: i64,
    /// Device.
    pub device: Option<String>,
    /// Boot.
    pub boot: Option<String>,
    /// Sequence number.
    pub seq: Option<u64>,
    /// Rules.
    pub fold_version: u32,
}

impl OutboxMovement {
    /// The row a movement becomes.
    pub fn of(facility: &FacilityId, offset: u64, version: u32, movement: &Movement) -> Self {
        Self {
            offset,
            ordinal: movement.ordinal,
            facility: facility.to_string(),
            slot: movement.slot.to_string(),
            sku: movement.sku.to_string(),
            delta: movement.delta.0,
            level_after: movement.level_after.0,
            cause: movement.cause.as_str().to_owned(),
            confidence: movement.confidence.0,
            at_us: movement.at.0,
            device: movement.device.as_ref().map(ToString::to_string),
            boot: movement.boot.clone(),
            seq: movement.seq,
            fold_version: version,
        }
    }
}
