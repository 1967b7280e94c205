//! PostgreSQL: the only place that knows SQL.
//!
//! [`private_server`] runs a server of our own when no URL is configured; [`commit`] is the committer's one statement;
//! migrations are embedded and run at start. The committer has a connection of its own with `synchronous_commit = off`: the
//! journal replays what a crash of the database drops, because the position is part of the same transaction.

pub mod access;
pub mod buses;
pub mod calibration;
mod commit;
mod device_check;
pub mod device_events;
pub mod directory;
pub mod downlink;
pub mod evidence;
pub mod fault;
pub mod master;
mod master_rows;
mod master_writer;
mod micros;
pub mod partitions;
pub mod posted;
pub mod private_server;
pub mod publication;
pub mod query;
pub mod read_master;
pub mod refused;
pub mod retire;
pub mod scanners;
pub mod series;
mod series_read;
pub mod shapes;
pub mod standing;
pub mod tags;
pub mod told;
pub mod when;

use std::time::Duration;

use sqlx::{
    ConnectOptions, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use private_server::{PrivateServer, PrivateServerError};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// Connections for the API and background work.
pub const POOL_CONNECTIONS_MAX: u32 = 8;
/// How long a caller waits for a free connection, in seconds.
pub const POOL_WAIT_SECONDS_MAX: u64 = 5;
/// A commit that takes longer has failed in an unknown way, in seconds.
pub const COMMIT_SECONDS_MAX: u64 = 30;
/// A database that takes longer to answer a trivial question counts as away, in seconds.
pub const UP_SECONDS_MAX: u64 = 2;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It does not answer.
    #[error("PostgreSQL cannot be reached: {0}")]
    Connect(#[source] sqlx::Error),
    /// Its schema cannot be brought up to date.
    #[error(
        "the database schema cannot be brought up to date: {0}. If a newer stockfold has used this database, run that version"
    )]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// Fewer shards than before.
    #[error(
        "[shards] count is {count}, but facilities live in {needed} shards. It may grow, never shrink: set it to {needed}"
    )]
    Shards {
        /// As configured.
        count: u16,
        /// As needed.
        needed: u16,
    },
}

/// The PostgreSQL store.
#[derive(Debug, Clone)]
pub struct PgStore {
    /// For reads and master data.
    pool: PgPool,
    /// For the committer: one connection, commits not waiting for the disk.
    commits: PgPool,
}

impl PgStore {
    /// Connects and brings the schema up to date.
    pub async fn open(options: PgConnectOptions) -> Result<Self, OpenError> {
        let wait = Duration::from_secs(POOL_WAIT_SECONDS_MAX);
        // A slow statement shows in the metrics; its text, a page long, says nothing new.
        let options = options.application_name("stockfold").disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(POOL_CONNECTIONS_MAX)
            .acquire_timeout(wait)
            .connect_with(options.clone())
            .await
            .map_err(OpenError::Connect)?;
        MIGRATIONS.run(&pool).await.map_err(OpenError::Migrate)?;
        let commits = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(wait)
            .test_before_acquire(false)
            .connect_with(options.options([("synchronous_commit", "off")]))
            .await
            .map_err(OpenError::Connect)?;
        Ok(Self { pool, commits })
    }

    /// Connects by URL, such as `postgres://user:password@host/database`.
    pub async fn open_url(url: &str) -> Result<Self, OpenError> {
        let options = url.parse::<PgConnectOptions>().map_err(OpenError::Connect)?;
        Self::open(options).await
    }

    /// Whether it answers within a moment.
    pub async fn is_up(&self) -> bool {
        let ask = sqlx::query("SELECT 1").execute(&self.pool);
        matches!(tokio::time::timeout(Duration::from_secs(UP_SECONDS_MAX), ask).await, Ok(Ok(_)))
    }

    /// Refuses fewer shards than facilities need: a facility stays in the shard it was created in.
    pub async fn check_shards(&self, count: u16) -> Result<(), OpenError> {
        let most: Option<i16> = sqlx::query_scalar("SELECT max(shard) FROM facility")
            .fetch_one(&self.pool)
            .await
            .map_err(OpenError::Connect)?;
        match most.map(i16::unsigned_abs) {
            Some(most) if most >= count => Err(OpenError::Shards { count, needed: most + 1 }),
            Some(_) | None => Ok(()),
        }
    }

    /// For reads and master data.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}
