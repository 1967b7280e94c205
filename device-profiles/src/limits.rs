//! The limits of this crate, each named with its unit. `docs/limits.md` lists them.

/// Longest id (device, slot, SKU, …), in bytes.
pub const ID_BYTES_MAX: usize = 64;
/// Longest raw frame that is decoded, in bytes. The edge refuses longer ones before they reach the journal.
pub const FRAME_BYTES_MAX: usize = 128 * 1024;
/// Deepest nesting of a JSON payload, in levels.
pub const JSON_DEPTH_MAX: usize = 32;
/// Most values (object members and array items) in a JSON payload.
pub const JSON_NODES_MAX: usize = 4_096;
/// Most measurements one frame yields.
pub const MEASUREMENTS_MAX: usize = 256;
/// Longest string value of a measurement, in bytes.
pub const TEXT_BYTES_MAX: usize = 256;
/// Longest scanned code, in bytes.
pub const CODE_BYTES_MAX: usize = 256;
/// Longest profile text, in bytes.
pub const PROFILE_BYTES_MAX: usize = 256 * 1024;
/// Most streams in a profile.
pub const STREAMS_MAX: usize = 64;
/// Most fields in a register map.
pub const FIELDS_MAX: usize = 256;
/// Most responses in one register image.
pub const IMAGE_BLOCKS_MAX: usize = 32;
/// Most steps of a device command.
pub const COMMAND_STEPS_MAX: usize = 16;
/// Shortest period of polling a stream, in milliseconds.
pub const POLL_MS_MIN: u32 = 20;
/// Longest period of polling a stream, in milliseconds.
pub const POLL_MS_MAX: u32 = 3_600_000;
/// Largest absolute delta of one stock reading, in units.
pub const DELTA_UNITS_MAX: i64 = 1_000_000;
/// Largest absolute mass a reading may claim, in milligrams (10 tonnes).
pub const MASS_MG_MAX: i64 = 10_000_000_000;
