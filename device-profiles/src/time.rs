//! Times as text: RFC 3339 to and from microseconds since the Unix epoch.

use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// Parses an RFC 3339 time to microseconds since the Unix epoch; `None` when it is not one or lies outside i64 microseconds.
pub fn parse_rfc3339_us(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000).ok()
}

/// Formats microseconds since the Unix epoch as RFC 3339 in UTC; times outside years 0 to 9999 are held at its ends.
pub fn format_rfc3339_us(us: i64) -> String {
    let held = us.clamp(-62_167_219_200_000_000, 253_402_300_799_999_999);
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(held) * 1_000)
        .ok()
        .map(|at| at.to_offset(UtcOffset::UTC))
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_offsets() {
        assert_eq!(parse_rfc3339_us("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_rfc3339_us("2026-11-24T07:00:00.5+02:00"), Some(1_795_496_400_500_000));
        assert_eq!(format_rfc3339_us(1_795_496_400_500_000), "2026-11-24T05:00:00.5Z");
        assert_eq!(parse_rfc3339_us("yesterday"), None);
        assert!(!format_rfc3339_us(i64::MAX).is_empty());
    }
}
