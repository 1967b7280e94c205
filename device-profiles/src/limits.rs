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
/// Most values (object members and array items) in a frame of tags: each read has a dozen.
pub const TAG_NODES_MAX: usize = 65_536;
/// Most tags one frame tells, in reads.
pub const TAGS_MAX: usize = 8_192;
/// Longest string value of a measurement, in bytes.
pub const TEXT_BYTES_MAX: usize = 256;
/// Longest scanned code, in bytes.
pub const CODE_BYTES_MAX: usize = 256;
/// Longest profile text, in bytes.
pub const PROFILE_BYTES_MAX: usize = 256 * 1024;
/// Most streams in a profile.
pub const STREAMS_MAX: usize = 64;
/// Most topics in a profile.
pub const TOPICS_MAX: usize = 16;
/// Longest topic pattern, in bytes.
pub const TOPIC_BYTES_MAX: usize = 256;
/// Most levels of a topic pattern.
pub const TOPIC_LEVELS_MAX: usize = 16;
/// Deepest objects that `values.all` looks into, in levels.
pub const VALUES_DEPTH_MAX: usize = 8;
/// Longest raw frame that is read as a number, a word, a line or a code, in bytes.
pub const PLAIN_BYTES_MAX: usize = 1_024;
/// Longest form of a scale's line, in bytes.
pub const LINE_FORM_BYTES_MAX: usize = 128;
/// Most words of a raw stream (states of a line, words for on and off).
pub const WORDS_MAX: usize = 32;
/// Longest such word, in bytes.
pub const WORD_BYTES_MAX: usize = 32;
/// Longest text that is imported as a foreign profile, in bytes.
pub const IMPORT_BYTES_MAX: usize = 1024 * 1024;
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
