//! The committer of a shard: one batch at a time into the store, until it is certain what became of it.
//!
//! A lost reply is not a failure: the position is read again, and only what it says counts. A store that is away is waited
//! for, without limit: the journal keeps what comes in meanwhile. A fence ends the life of stock actor and committer together.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use tokio::time::{Instant, sleep};

use super::Board;
use crate::{
    guardian::Status,
    ports::rng::Rng,
    store::{Batch, Store, StoreError},
};

/// First wait for a store that is away, in milliseconds; doubles up to the longest.
pub const AWAY_MS_MIN: u64 = 50;
/// Longest wait between two tries, in milliseconds.
pub const AWAY_MS_MAX: u64 = 1_000;

/// A committer; it lives and dies with its stock actor.
pub struct Committer<S> {
    pub(super) store: Arc<S>,
    pub(super) board: Arc<Board>,
    pub(super) rng: Arc<dyn Rng>,
    pub(super) status: Arc<Status>,
}

/// Commit this.
#[derive(Message)]
#[rtype(result = "Result<u64, Fence>")]
pub struct Commit(pub Batch);

/// Why a shard must stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fence {
    /// Another owner has a higher term.
    Superseded(String),
    /// The store stands where we never left it: it went back in time. Another life re-folds from an older snapshot.
    Rewound(String),
    /// The store refused the rows themselves.
    Refused(String),
}

impl<S: Store> Actor for Committer<S> {
    type Context = Context<Self>;
}

impl<S: Store> Handler<Commit> for Committer<S> {
    type Result = ResponseFuture<Result<u64, Fence>>;

    fn handle(&mut self, Commit(batch): Commit, _: &mut Context<Self>) -> Self::Result {
        let (store, board) = (Arc::clone(&self.store), Arc::clone(&self.board));
        let (rng, status) = (Arc::clone(&self.rng), Arc::clone(&self.status));
        Box::pin(async move {
            let began = Instant::now();
            certain(&*store, &batch, &board, &*rng, &status).await?;
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            board.stats.commit_us.fetch_add(took, std::sync::atomic::Ordering::Relaxed);
            let to = batch.to;
            board.tell(Arc::new(batch));
            Ok(to)
        })
    }
}

/// Commits a batch and returns only when it is known to be in the store, or that it never will be.
async fn certain<S: Store>(
    store: &S,
    batch: &Batch,
    board: &Board,
    rng: &dyn Rng,
    status: &Status,
) -> Result<(), Fence> {
    let mut wait_ms = AWAY_MS_MIN;
    loop {
        status.beat();
        let error = match store.commit(batch).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match error {
            StoreError::Fenced { found, .. } => {
                let here = found.filter(|p| p.epoch == batch.epoch);
                if here.is_some_and(|p| p.term == batch.term && p.offset == batch.to) {
                    // It was committed before and the reply was lost.
                    return Ok(());
                }
                let text = error.to_string();
                if here.is_some_and(|p| p.term > batch.term) {
                    return Err(Fence::Superseded(text));
                }
                return Err(Fence::Rewound(text));
            }
            StoreError::Refused(why) => return Err(Fence::Refused(why)),
            StoreError::Away(why) => {
                board.stats.retries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if wait_ms == AWAY_MS_MIN {
                    tracing::warn!(
                        shard = batch.shard,
                        why,
                        "the store is away; the journal keeps what comes in"
                    );
                }
                sleep(Duration::from_millis(rng.jitter_ms(wait_ms))).await;
                wait_ms = (wait_ms * 2).min(AWAY_MS_MAX);
            }
        }
    }
}
