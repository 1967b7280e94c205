//! What the API and the page may ask of the running hub: append, wait, look, and be told.
//!
//! The desk is the only door from HTTP to the journal and the shards. It holds handles, no state of its own.

use std::{sync::Arc, time::Duration};

use actors::{
    journal::{
        AppendRefusal, Journal,
        format::{HEADER_BYTES, RECORD_BYTES},
    },
    ports::fs::RealFs,
    stock::Board,
    store::Batch,
};
use bytes::Bytes;
use device_profiles::{FacilityId, ShardId};
use fold::{Body, Entry, Position, Principal};
use tokio::sync::broadcast;

use crate::{
    buses::Buses,
    calibration::Calibrations,
    directory::Directory,
    downlink::Downlink,
    mqtt::Core,
    observe::Watch,
    publish::Publisher,
    readers::Readers,
    refusals::RefusedCounts,
    series::SeriesStore,
    store::{PgStore, fault::Fault},
    tap::Tap,
    tls::Tls,
};

/// Why an append was not taken. Nothing of it is in the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The queue is full or the disk is; try again.
    #[error("the journal cannot take more now: {0}")]
    Busy(String),
    /// The hub is stopping.
    #[error("the hub is stopping")]
    Stopping,
}

/// One check of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its stable name.
    pub name: String,
    /// All is well.
    pub ok: bool,
    /// What is wrong, or what the figure is.
    pub detail: String,
}

/// A value of the lossy tap: what a sensor shows now. Never stock.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveValue {
    /// Facility.
    pub facility: FacilityId,
    /// Device.
    pub device: String,
    /// Series name, such as `weight.0` (grams) or `env.temperature`.
    pub name: String,
    /// The value.
    pub value: f64,
    /// Hub time, microseconds since the Unix epoch.
    pub at_us: i64,
}

/// Handles to the running hub. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    /// PostgreSQL.
    pub store: PgStore,
    /// Where series are kept.
    pub series: Arc<dyn SeriesStore>,
    pub(crate) journal: Journal<RealFs>,
    pub(crate) boards: Arc<[Arc<Board>]>,
    pub(crate) batches: broadcast::Sender<Arc<Batch>>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) endpoint: Arc<Core>,
    pub(crate) buses: Arc<Buses>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) downlink: Arc<Downlink>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) tap: Arc<Tap>,
    pub(crate) watch: Arc<Watch>,
}

impl Desk {
    /// Appends an entry; resolves when it is durable.
    pub async fn append(
        &self,
        shard: u16,
        facility: &FacilityId,
        principal: Principal,
        body: &Body,
    ) -> Result<Position, AppendError> {
        let (kind, payload) = fold::wire::encode(facility, &principal, body);
        let offset =
            self.journal.append_wait(shard, kind, payload).await.map_err(
                |refusal| match refusal {
                    AppendRefusal::Stopped => AppendError::Stopping,
                    AppendRefusal::Full | AppendRefusal::TooLarge => {
                        AppendError::Busy(refusal.to_string())
                    }
                },
            )?;
        Ok(Position { epoch: self.journal.epoch(), shard: ShardId(shard), offset })
    }

    /// Whether a position is one of this journal, whether or not it is reached yet.
    pub fn has_place_for(&self, position: Position) -> bool {
        position.epoch == self.journal.epoch() && usize::from(position.shard.0) < self.boards.len()
    }

    /// Waits until everything up to a position is committed and visible; false when `wait` passed first.
    pub async fn committed(&self, position: Position, wait: Duration) -> bool {
        let Some(board) = self.boards.get(usize::from(position.shard.0)) else { return false };
        if position.epoch != self.journal.epoch() {
            return false;
        }
        let mut visible = board.watch();
        let reached = visible.wait_for(|offset| *offset >= position.offset);
        matches!(tokio::time::timeout(wait, reached).await, Ok(Ok(_)))
    }

    /// The newest position of a shard that is committed and visible.
    pub fn visible(&self, shard: u16) -> Position {
        let offset = self.boards.get(usize::from(shard)).map_or(0, |board| board.visible());
        Position { epoch: self.journal.epoch(), shard: ShardId(shard), offset }
    }

    /// Every batch of every shard after it was committed. A receiver that lags is told so and should read the store anew.
    pub fn batches(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.batches.subscribe()
    }

    /// The journal entry at a position, or `None` when it was trimmed (then ask [`PgStore`] for the evidence copy).
    /// Reads a file: call it from a blocking thread.
    pub fn entry_at(&self, position: Position, fallback: &FacilityId) -> Option<Entry> {
        if position.epoch != self.journal.epoch() {
            return None;
        }
        let record = match self.journal.record_at(position.offset) {
            Ok(record) => record?,
            Err(error) => {
                tracing::error!(%error, %position, "journal record not readable");
                return None;
            }
        };
        let at = fold::HubTime(record.at_us);
        Some(fold::wire::decode(position, at, record.kind, &record.payload, fallback))
    }

    /// A journal record kept as evidence, as an entry.
    pub fn decode(
        position: Position,
        received_at_us: i64,
        kind: u8,
        payload: &Bytes,
        fallback: &FacilityId,
    ) -> Entry {
        fold::wire::decode(position, fold::HubTime(received_at_us), kind, payload, fallback)
    }

    /// Master data was written: publish it now rather than at the next round.
    pub fn publish_soon(&self) {
        self.publisher.soon();
    }

    /// Waits until everything written so far to `publication` for this facility is published and folded; false when `wait`
    /// passed first. Calls that create devices answer only then, so that the device's first frame is not refused.
    pub async fn published(&self, facility: &FacilityId, wait: Duration) -> bool {
        let newest = match self.store.newest_revision(facility.as_str()).await {
            Ok(newest) => newest,
            Err(error) => {
                tracing::warn!(%error, %facility, "cannot ask what is to be published");
                return false;
            }
        };
        let deadline = tokio::time::Instant::now() + wait;
        self.publisher.soon();
        loop {
            let moved = self.publisher.moved();
            match self.publisher.newest(facility.as_str()) {
                Some((revision, offset)) if revision >= newest => {
                    let Ok(Some(shard)) = self.store.shard_of(facility.as_str()).await else {
                        return false;
                    };
                    let epoch = self.journal.epoch();
                    let position = Position { epoch, shard: ShardId(shard), offset };
                    let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                    return self.committed(position, left).await;
                }
                Some(_) | None => {}
            }
            // Published by an earlier run: nothing will move.
            if matches!(self.store.is_published(facility.as_str()).await, Ok(true))
                && self
                    .publisher
                    .newest(facility.as_str())
                    .is_none_or(|(revision, _)| revision >= newest)
            {
                return true;
            }
            if tokio::time::timeout_at(deadline, moved).await.is_err() {
                return false;
            }
        }
    }

    /// Credentials or devices changed: the endpoint reads them anew before this returns, and cuts revoked connections.
    pub async fn credentials_changed(&self) {
        match self.directory.reload(&self.store).await {
            Ok(stale) => {
                for (device, generation) in stale {
                    self.endpoint.registry.revoke(&device, generation);
                }
            }
            Err(error) => tracing::warn!(%error, "directory not read; the old one stands"),
        }
        if let Err(error) = self.buses.reconcile(&self.store).await {
            tracing::warn!(%error, "buses not read; those that run go on");
        }
        if let Err(error) = self.readers.reconcile(&self.store).await {
            tracing::warn!(%error, "readers not read; those that run go on");
        }
    }

    /// Newest values of the lossy tap that changed since `since_us` of a facility.
    pub fn live_values(&self, facility: &FacilityId, since_us: i64) -> Vec<LiveValue> {
        self.tap.since(facility, since_us, self.journal.now_us())
    }

    /// The checks of `/readyz`.
    pub fn checks(&self) -> Vec<Check> {
        self.watch.checks(self)
    }

    /// Every metric in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.watch.metrics(self)
    }

    /// Counts every facility's tags for the metrics now rather than at the next round.
    pub async fn count_tags(&self) -> Result<(), Fault> {
        self.watch.count_tags(&self.store).await
    }

    /// Bytes of the journal, whoever they are of, behind what a shard has folded and committed; 0 = everything that was
    /// acknowledged is in the store. Reads a file: call it from a blocking thread.
    pub fn unfolded_bytes(&self, shard: u16) -> u64 {
        let end = self.journal.tip().end();
        let visible = self.visible(shard).offset;
        let newest = match self.journal.record_at(visible) {
            Ok(Some(record)) => RECORD_BYTES + record.payload.len(),
            // Nothing was folded yet, or it was trimmed since: all that is kept lies behind.
            Ok(None) | Err(_) => HEADER_BYTES,
        };
        end.saturating_sub(visible.max(self.journal.first()) + newest as u64)
    }

    /// What was refused of a device before the journal since the hub started.
    pub fn refused(&self, device: &str) -> RefusedCounts {
        self.watch.ingress.refusals.of(device)
    }

    /// Calibrations under way.
    pub fn calibrations(&self) -> &Calibrations {
        &self.watch.ingress.calibrations
    }

    /// Shards there are; a new facility takes `hash(id) % shards`.
    pub fn shards(&self) -> u16 {
        u16::try_from(self.boards.len()).unwrap_or(u16::MAX)
    }

    /// The hub's time, microseconds since the Unix epoch.
    pub fn now_us(&self) -> i64 {
        self.journal.now_us()
    }
}
