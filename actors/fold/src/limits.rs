//! The limits of the fold, each named with its unit. `docs/limits.md` lists them.

/// Sequence numbers a device and boot are remembered back, in frames. Older ones are quarantined as too old.
pub const DEDUPE_FRAMES: u64 = 1_024;
/// Boots remembered a device.
pub const BOOTS_MAX: usize = 8;
/// Payload hashes remembered a device without boot id, in frames; see `dedupe`.
pub const HASHES_FRAMES: usize = 64;
/// Payload hashes remembered a device where the profile says `dedupe: payload`, in frames.
pub const PAYLOADS_FRAMES: usize = 512;
/// For this long an equal payload without a time of its own is the same frame there, in microseconds.
pub const PAYLOAD_REPEAT_US: i64 = 5_000_000;
/// Movements remembered a slot, for counts that were made in the past.
pub const PAST_MOVEMENTS_MAX: usize = 256;
/// How far back a count may lie, in microseconds.
pub const COUNT_AGE_US_MAX: i64 = 24 * 3_600 * 1_000_000;
/// Lines (SKUs) a slot holds.
pub const LINES_MAX: usize = 32;
/// Weight-counted lines a slot can tell apart.
pub const WEIGHED_LINES_MAX: usize = 4;
/// Changes a witness announced and the scale has not yet shown, a slot.
pub const EXPECTED_MAX: usize = 32;
/// How long a witness waits for the scale, and the scale for a witness, in microseconds.
pub const WITNESS_US: i64 = 60_000_000;
/// Discrepancies open at once a slot.
pub const DISCREPANCIES_MAX: usize = 16;
/// Hypotheses kept a cell.
pub const HYPOTHESES_MAX: usize = 8;
/// Most units one weight event may be.
pub const EVENT_UNITS_MAX: i64 = 500;
/// A level's freshness is told at most this often while nothing else changes, in microseconds.
pub const FRESHNESS_US: i64 = 10_000_000;
/// Idempotency keys remembered a facility.
pub const KEYS_MAX: usize = 8_192;
/// How long an idempotency key is remembered, in microseconds.
pub const KEY_US: i64 = 24 * 3_600 * 1_000_000;
/// Longest idempotency key, reference or reason, in bytes.
pub const TEXT_BYTES_MAX: usize = 128;
/// Most units one command may move.
pub const COMMAND_UNITS_MAX: i64 = 10_000_000;
/// Largest absolute quantity of a line, in units.
pub const QUANTITY_UNITS_MAX: i64 = 1_000_000_000_000;
/// Zones with readers a facility.
pub const ZONES_MAX: usize = 1_024;
/// Antennas of readers a facility, those taken down included.
pub const ANTENNAS_MAX: usize = 8_192;
/// Pairs of antennas of which it is known how one hears the other's tags, a facility.
pub const PAIRS_MAX: usize = 65_536;
/// Tags known a facility: present, departed of late, and heard but not believed.
pub const TAGS_MAX: usize = 2_000_000;
/// Tags that are due and looked at with one entry.
pub const LOOKS_MAX: usize = 4_096;
/// Largest gap of a source's event numbers that is counted as loss, in events; beyond it the source began anew.
pub const NUMBERS_GAP_MAX: u64 = 1_000_000;
/// SKUs named in a cycle count.
pub const CYCLE_SKUS_MAX: usize = 1_000;
/// Values in one master-data entry.
pub const MASTER_VALUES_MAX: usize = 1_000;
/// Largest scale of a calibration, in millionths.
pub const SCALE_PPM_MAX: i64 = 1_000_000_000;
