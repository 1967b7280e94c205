//! A tag is in one place: where two facilities have the same tag, the one that had it first is told that it is elsewhere.
//!
//! Facilities are folded apart, so no fold can know this. The reconciler looks at what is committed: tags that just arrived
//! somewhere, and beside them a slow walk over all present tags, which finds what was missed while the hub was down or batches
//! came too fast. What it finds goes through the journal as a command to the older facility: replay needs no reconciler.
//!
//! The command says since when the tag is elsewhere, and the fold refuses it when the tag was read here after that: goods
//! between two readers of two facilities stay where both hear them until one falls silent. A pair is asked once for each
//! arrival; its key is made of what it says, so that asking again after a restart does nothing.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use actors::store::Batch;
use device_profiles::{FacilityId, Tag};
use fold::{Body, Command, CommandEntry, EventKind, HubTime, Principal, TagChange};
use sha2::{Digest, Sha256};
use tokio::sync::broadcast::{Receiver, error::TryRecvError};

use crate::{
    desk::{AppendError, Desk},
    store::{fault::Fault, tags::Twice, told::hex},
};

/// Pause between rounds, in milliseconds.
pub const ROUND_MS: u64 = 2_000;
/// Arrivals looked at in a round; what is beyond is found by the walk.
const ARRIVALS_MAX: usize = 10_000;
/// Present tags that the walk passes in a round.
const WALK_ROWS_MAX: i64 = 10_000;
/// Tags looked up with one statement.
const LOOKUP_TAGS_MAX: usize = 1_000;
/// Facilities that may have one tag with it; further ones are closed in later rounds.
const TWICE_ROWS_MAX: i64 = 10_000;
/// Pairs remembered as asked; the oldest make room.
const ASKED_MAX: usize = 100_000;

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
pub enum ElsewhereError {
    /// PostgreSQL.
    #[error(transparent)]
    Store(#[from] Fault),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] AppendError),
}

/// What was asked already, oldest first.
#[derive(Default)]
struct Asked {
    keys: BTreeSet<String>,
    order: VecDeque<String>,
}

impl Asked {
    fn add(&mut self, key: String) {
        if !self.keys.insert(key.clone()) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > ASKED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

/// The reconciler's state; all of it may be lost.
pub struct Elsewhere {
    batches: Mutex<Receiver<Arc<Batch>>>,
    /// The last tag that the walk passed.
    walked: Mutex<String>,
    asked: Mutex<Asked>,
}

impl Elsewhere {
    /// A reconciler that hears of every batch committed from now on.
    pub fn new(batches: Receiver<Arc<Batch>>) -> Self {
        Self { batches: Mutex::new(batches), walked: Mutex::default(), asked: Mutex::default() }
    }

    /// One round. Returns how many tags were told to be elsewhere.
    pub async fn round(&self, desk: &Desk) -> Result<usize, ElsewhereError> {
        let mut names = self.arrivals();
        names.extend(self.walk(desk).await?);
        let names: Vec<String> = names.into_iter().collect();
        let mut told = 0;
        for names in names.chunks(LOOKUP_TAGS_MAX) {
            for twice in first_of_each(desk.store.tags_twice(names, TWICE_ROWS_MAX).await?) {
                told += usize::from(self.ask(desk, &twice).await?);
            }
        }
        Ok(told)
    }

    /// Tags that arrived somewhere since the last round.
    fn arrivals(&self) -> BTreeSet<String> {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = BTreeSet::new();
        loop {
            let batch = match batches.try_recv() {
                Ok(batch) => batch,
                // The walk finds what was in those that were missed.
                Err(TryRecvError::Lagged(_)) => continue,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return names,
            };
            let came = batch.events.iter().filter_map(|(_, _, event)| match &event.kind {
                EventKind::Tag(told) => match told.change {
                    TagChange::Arrived | TagChange::Returned => Some(told.tag.to_string()),
                    TagChange::Moved | TagChange::Departed => None,
                },
                EventKind::DiscrepancyOpened(_)
                | EventKind::DiscrepancyClosed(_)
                | EventKind::Refused { .. }
                | EventKind::DeviceRebooted { .. }
                | EventKind::SourceLoss { .. }
                | EventKind::EntryQuarantined { .. }
                | EventKind::FoldUpgraded { .. }
                | EventKind::CycleCount(_)
                | EventKind::Listening { .. }
                | EventKind::ReaderTrouble { .. }
                | EventKind::Restated { .. } => None,
            });
            let room = ARRIVALS_MAX.saturating_sub(names.len());
            names.extend(came.take(room));
        }
    }

    /// The next step of the walk: tags that stand twice among the present ones.
    async fn walk(&self, desk: &Desk) -> Result<Vec<String>, Fault> {
        let after = self.walked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let page = desk.store.tags_present_after(&after, WALK_ROWS_MAX).await?;
        let ended = i64::try_from(page.len()).unwrap_or(i64::MAX) < WALK_ROWS_MAX;
        let last = page.last().cloned().filter(|_| !ended);
        // The twin of the last one may lie beyond the page.
        let mut found: Vec<String> = last.clone().into_iter().collect();
        found.extend(page.windows(2).filter_map(|pair| match pair {
            [a, b] if a == b => Some(a.clone()),
            _ => None,
        }));
        *self.walked.lock().unwrap_or_else(PoisonError::into_inner) = last.unwrap_or_default();
        Ok(found)
    }

    /// Tells the older facility, once.
    async fn ask(&self, desk: &Desk, twice: &Twice) -> Result<bool, AppendError> {
        let key = key(twice);
        if self.asked.lock().unwrap_or_else(PoisonError::into_inner).keys.contains(&key) {
            return Ok(false);
        }
        // Rows that a hub has written have sound ids in them.
        let (Ok(tag), Ok(facility), Ok(elsewhere)) = (
            twice.tag.parse::<Tag>(),
            FacilityId::parse(&twice.facility),
            FacilityId::parse(&twice.elsewhere),
        ) else {
            return Ok(false);
        };
        let command = Command::TagGone {
            tag,
            elsewhere: Some(elsewhere),
            unless_read_since: Some(HubTime(twice.arrived.0)),
        };
        let body = Body::Command(CommandEntry { key: Some(key.clone()), command });
        let shard = twice.shard.cast_unsigned();
        desk.append(shard, &facility, Principal::Hub, &body).await?;
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).add(key);
        Ok(true)
    }
}

/// The key of what is asked: the same for the same arrival.
fn key(twice: &Twice) -> String {
    let said = format!("{} {} {} {}", twice.tag, twice.facility, twice.elsewhere, twice.arrived.0);
    let hash: [u8; 32] = Sha256::digest(said.as_bytes()).into();
    format!("elsewhere-{}", hex(&hash))
}

/// Of rows in the order of tag and facility, newest arrival first: the newest arrival for each.
fn first_of_each(mut rows: Vec<Twice>) -> Vec<Twice> {
    rows.dedup_by(|b, a| (&a.tag, &a.facility) == (&b.tag, &b.facility));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::when::When;

    fn twice(facility: &str, elsewhere: &str, arrived: i64) -> Twice {
        Twice {
            tag: "E200".into(),
            facility: facility.into(),
            shard: 0,
            elsewhere: elsewhere.into(),
            arrived: When(arrived),
        }
    }

    #[test]
    fn the_newest_arrival_counts_for_each_facility() {
        let rows = vec![twice("a", "c", 3), twice("a", "b", 2), twice("b", "c", 3)];
        assert_eq!(first_of_each(rows), [twice("a", "c", 3), twice("b", "c", 3)]);
    }

    #[test]
    fn a_key_is_that_of_its_arrival_and_fits() {
        let first = key(&twice("a", "b", 1));
        assert_eq!(first, key(&twice("a", "b", 1)));
        assert_ne!(first, key(&twice("a", "b", 2)));
        assert_ne!(first, key(&twice("b", "a", 1)));
        assert!(first.len() <= fold::limits::TEXT_BYTES_MAX);
    }

    #[test]
    fn what_was_asked_is_bounded() {
        let mut asked = Asked::default();
        for n in 0..=ASKED_MAX {
            asked.add(n.to_string());
            asked.add(n.to_string());
        }
        assert_eq!((asked.keys.len(), asked.order.len()), (ASKED_MAX, ASKED_MAX));
        assert!(!asked.keys.contains("0") && asked.keys.contains(&ASKED_MAX.to_string()));
    }
}
