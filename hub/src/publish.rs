//! The publication reconciler: brings master data and profiles into the journals of the facilities they concern.
//!
//! It takes no input: each round reads what is unpublished, appends it, and marks it. A crash between append and mark appends
//! again, which the fold recognises by the revision. Rounds come every second and at once when somebody wrote.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use actors::{journal::Journal, ports::fs::RealFs};
use device_profiles::FacilityId;
use fold::{Body, Master, MasterEntry, Principal, wire};
use tokio::sync::Notify;

use crate::store::{PgStore, fault::Fault};

/// Pause between rounds, in milliseconds.
pub const ROUND_MS: u64 = 1_000;

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// PostgreSQL.
    #[error(transparent)]
    Store(#[from] Fault),
    /// The journal.
    #[error("the journal cannot take a publication: {0}")]
    Journal(#[from] actors::journal::AppendRefusal),
}

/// The reconciler's state: what it published in this run.
#[derive(Default)]
pub struct Publisher {
    wake: Notify,
    done: Mutex<HashMap<String, (u64, u64)>>,
    moved: Notify,
}

impl Publisher {
    /// The next round begins now.
    pub fn soon(&self) {
        self.wake.notify_one();
    }

    /// Waits for the next round.
    pub async fn wait(&self) {
        let _ = tokio::time::timeout(Duration::from_millis(ROUND_MS), self.wake.notified()).await;
    }

    /// The newest revision of a facility published in this run, and the offset of its entry.
    pub fn newest(&self, facility: &str) -> Option<(u64, u64)> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).get(facility).copied()
    }

    /// Resolves after something more was published.
    pub fn moved(&self) -> tokio::sync::futures::Notified<'_> {
        self.moved.notified()
    }

    /// One round. Returns how many entries were appended. `profiles_known` is awaited after profiles were published and before
    /// the master data that may rest on them: devices may use them from then on.
    pub async fn round(
        &self,
        store: &PgStore,
        journal: &Journal<RealFs>,
        profiles_known: impl AsyncFn(),
    ) -> Result<usize, PublishError> {
        let mut appended = 0;
        // Revisions of a facility go in order, so one that cannot be read holds up its own facility, and no other.
        let mut unreadable = BTreeSet::new();
        loop {
            let before = appended;
            let rows = store.unpublished().await?;
            // Profiles go first: a device's first frame names one. They are asked for last: a device and its profile are
            // written together, so every profile that these rows rest on is found.
            for row in store.unpublished_profiles().await? {
                let Ok(facility) = FacilityId::parse(&row.facility) else { continue };
                let (kind, payload) =
                    wire::encode(&facility, &Principal::Hub, &Body::Profile(row.content));
                journal.append_wait(row.shard, kind, payload).await?;
                store.mark_profile_published(&row.facility, &row.hash).await?;
                appended += 1;
            }
            if appended > before {
                profiles_known().await;
            }
            let mut more = false;
            for row in rows {
                if unreadable.contains(&row.facility) {
                    continue;
                }
                more = true;
                let Ok(facility) = FacilityId::parse(&row.facility) else { continue };
                let values: Vec<Master> = match serde_json::from_value(row.values) {
                    Ok(values) => values,
                    Err(error) => {
                        // Written by a newer version, or by hand. It stays unpublished and is named each round.
                        tracing::error!(facility = row.facility, revision = row.revision, %error, "publication not readable");
                        unreadable.insert(row.facility);
                        continue;
                    }
                };
                let body = Body::Master(MasterEntry { revision: row.revision, values });
                let principal = Principal::Person(row.principal.as_str().into());
                let (kind, payload) = wire::encode(&facility, &principal, &body);
                let offset = journal.append_wait(row.shard, kind, payload).await?;
                store.mark_published(&row.facility, row.revision).await?;
                self.done
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(row.facility, (row.revision, offset));
                self.moved.notify_waiters();
                appended += 1;
            }
            if !more {
                return Ok(appended);
            }
        }
    }
}
