//! The limits of the API, each named with its unit. `docs/limits.md` lists them.

use std::time::Duration;

/// Longest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long a request body may take to come, in milliseconds.
pub const BODY_MS_MAX: u64 = 60_000;
/// Longest body of an import, in bytes.
pub const IMPORT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most things in one import.
pub const IMPORT_ITEMS_MAX: usize = 200_000;
/// Longest body of a command to a device, in bytes.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;
/// How long a command to a device is good when the caller does not say, in seconds.
pub const COMMAND_SECONDS_DEFAULT: u32 = 3_600;
/// How long a command to a device may be good, in seconds.
pub const COMMAND_SECONDS_MAX: u32 = 7 * 86_400;
/// Items of a list when the caller does not say.
pub const LIST_ITEMS_DEFAULT: u32 = 100;
/// Most items of a list.
pub const LIST_ITEMS_MAX: u32 = 1_000;
/// Buckets that a range of readings may have.
pub const BUCKETS_MAX: i64 = 20_000;
/// Longest bucket, in seconds.
pub const BUCKET_SECONDS_MAX: i64 = 31 * 86_400;
/// Buckets back from `to` that are told when a caller names no `from`.
pub const BUCKETS_DEFAULT: i64 = 1_000;
/// Longest name of a thing, in bytes.
pub const NAME_BYTES_MAX: usize = 200;
/// Longest name of a time zone, in bytes.
pub const TIME_ZONE_BYTES_MAX: usize = 64;
/// Load cells of a device.
pub const CHANNELS_MAX: usize = 256;
/// Antennas of a reader.
pub const ANTENNAS_MAX: usize = 64;
/// Highest port of an antenna.
pub const PORT_MAX: u16 = 1_024;
/// Longest cursor, in bytes.
pub const CURSOR_BYTES_MAX: usize = 512;
/// Credentials in force a device may have.
pub const CREDENTIALS_MAX: i64 = 16;
/// Bytes of a certificate chain in PEM form that is enrolled.
pub const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;
/// How long a read waits for `min_position`.
pub const MIN_POSITION_WAIT: Duration = Duration::from_secs(1);
/// How long a stock-changing call waits for its commit.
pub const COMMIT_WAIT: Duration = Duration::from_secs(1);
/// How long a stock-changing call waits for its Idempotency-Key to be looked up or written down; the fold knows keys too.
pub const KEY_WAIT: Duration = Duration::from_millis(500);
/// How long a write of master data waits until the folds know it.
pub const PUBLISH_WAIT: Duration = Duration::from_secs(2);
/// Entries looked through for a call whose position was not remembered.
pub const KEY_SEARCH_ENTRIES_MAX: i64 = 1_000;
/// Live connections at once.
pub const LIVE_CLIENTS_MAX: usize = 256;
/// One-time sign-in codes in force.
pub const SIGN_IN_CODES_MAX: usize = 16;
/// How long a sign-in code is good.
pub const SIGN_IN_CODE_AGE_MAX: Duration = Duration::from_secs(600);
/// Sessions in force; the oldest makes room.
pub const SESSIONS_MAX: usize = 1_024;
/// How long a session is good.
pub const SESSION_AGE_MAX: Duration = Duration::from_secs(12 * 3_600);
/// Wrong credentials an address may present in [`FAILURES_WINDOW`]; further ones are answered 429.
pub const FAILURES_MAX: u32 = 30;
/// The time in which failures add up.
pub const FAILURES_WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose failures are remembered.
pub const FAILURE_ADDRESSES_MAX: usize = 4_096;
/// Connections a worker holds.
pub const CONNECTIONS_MAX: usize = 2_048;
/// How long a client may take for its request head.
pub const REQUEST_HEAD_WAIT: Duration = Duration::from_secs(5);
/// How long open requests are waited for at shutdown, in seconds.
pub const SHUTDOWN_SECONDS_MAX: u64 = 3;
