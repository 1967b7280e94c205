//! Time: the virtual clock's unit, its mapping to the wall clock, RFC 3339, and the only place that asks the machine.
//!
//! The world counts microseconds from its own zero. [`TimeBase`] says which wall time that zero is and how many
//! virtual seconds pass in a wall second; devices stamp frames with it, and the player paces itself by it. A library
//! user never needs a wall clock: [`TimeBase::fixed`] is a constant.

use std::time::Duration;

/// Microseconds of virtual time since the world began.
pub type Micros = u64;

/// Microseconds in a second.
pub const SECOND_US: Micros = 1_000_000;
/// Microseconds in an hour.
pub const HOUR_US: Micros = 3_600 * SECOND_US;
/// Microseconds in a day.
pub const DAY_US: Micros = 24 * HOUR_US;

/// Seconds as virtual microseconds; negative and NaN become 0.
#[must_use]
pub fn micros(seconds: f64) -> Micros {
    (seconds * 1e6).max(0.0).round() as Micros
}

/// How virtual time maps to wall time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeBase {
    /// Unix time in microseconds of virtual time 0.
    pub epoch_us: i64,
    /// Virtual seconds per wall second; > 0.
    pub speed: f64,
}

impl TimeBase {
    /// 2026-01-01T00:00:00Z at real speed: what a world uses when nobody plays it against a wall clock.
    #[must_use]
    pub const fn fixed() -> Self {
        Self { epoch_us: 1_767_225_600_000_000, speed: 1.0 }
    }

    /// The unix time in microseconds at which virtual `at` happens.
    #[must_use]
    pub fn wall_us(&self, at: Micros) -> i64 {
        if self.speed == 1.0 {
            self.epoch_us + at as i64
        } else {
            self.epoch_us + (at as f64 / self.speed) as i64
        }
    }

    /// The virtual time at unix time `wall_us`; 0 before the epoch.
    #[must_use]
    pub fn virtual_us(&self, wall_us: i64) -> Micros {
        ((wall_us - self.epoch_us).max(0) as f64 * self.speed) as Micros
    }
}

/// The machine's clock: monotonic, anchored once at unix time, so that a wall step cannot bend a measurement.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    anchor: std::time::Instant,
    unix_us: i64,
}

impl WallClock {
    /// Reads the machine's clocks once.
    #[must_use]
    // The simulator measures the hub from outside; this is the one place where it reads a clock.
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Self {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Self { anchor: std::time::Instant::now(), unix_us: since.as_micros() as i64 }
    }

    /// Microseconds since [`WallClock::start`].
    #[must_use]
    pub fn elapsed_us(&self) -> u64 {
        self.anchor.elapsed().as_micros() as u64
    }

    /// Unix time in microseconds.
    #[must_use]
    pub fn unix_us(&self) -> i64 {
        self.unix_us + self.elapsed_us() as i64
    }
}

/// CPU time this process has used, user and kernel, in microseconds; 0 where `/proc` is not mounted.
/// The kernel counts it in ticks of 10 ms.
#[must_use]
pub fn process_cpu_us() -> u64 {
    const TICK_US: u64 = 10_000;
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return 0 };
    // The command name, in parentheses, may hold spaces; fields are counted after it.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    (ticks(11) + ticks(12)) * TICK_US
}

/// Unix microseconds as RFC 3339 UTC with milliseconds, e.g. `2026-01-01T00:00:00.000Z`.
#[must_use]
pub fn rfc3339(unix_us: i64) -> String {
    let (days, in_day) = (unix_us.div_euclid(DAY_US as i64), unix_us.rem_euclid(DAY_US as i64));
    let (year, month, day) = civil_from_days(days);
    let ms = in_day / 1_000;
    let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", ms % 1_000)
}

/// Parses RFC 3339 (any fraction, `Z` or a numeric offset) into unix microseconds; `None` when malformed.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let b = text.as_bytes();
    let num = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = b.get(range)?;
        part.iter()
            .all(u8::is_ascii_digit)
            .then(|| part.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
    };
    let sep = |i: usize, allowed: &[u8]| b.get(i).is_some_and(|c| allowed.contains(c));
    let (year, month, day) = (num(0..4)?, num(5..7)?, num(8..10)?);
    let (h, m, s) = (num(11..13)?, num(14..16)?, num(17..19)?);
    let shape = sep(4, b"-") && sep(7, b"-") && sep(10, b"Tt ") && sep(13, b":") && sep(16, b":");
    if !shape
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || h > 23
        || m > 59
        || s > 60
    {
        return None;
    }
    let mut rest = &b[19..];
    let mut fraction_us = 0;
    if let Some((b'.', digits)) = rest.split_first() {
        let len = digits.iter().take_while(|c| c.is_ascii_digit()).count();
        if len == 0 {
            return None;
        }
        let zeros = std::iter::repeat(&b'0');
        for digit in digits[..len].iter().chain(zeros).take(6) {
            fraction_us = fraction_us * 10 + i64::from(digit - b'0');
        }
        rest = &digits[len..];
    }
    let offset_min = match rest {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(|c| c.is_ascii_digit()) =>
        {
            let two = |a: &u8, b: &u8| i64::from(a - b'0') * 10 + i64::from(b - b'0');
            let minutes = two(h1, h2) * 60 + two(m1, m2);
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + h * 3_600 + m * 60 + s;
    Some((seconds - offset_min * 60) * SECOND_US as i64 + fraction_us)
}

/// Days since 1970-01-01 of a Gregorian date; years are counted from March so that the leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era =
        y.rem_euclid(400) * 365 + y.rem_euclid(400) / 4 - y.rem_euclid(400) / 100 + day_of_year;
    y.div_euclid(400) * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let shifted = (5 * doy + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_known_values() {
        assert_eq!(rfc3339(TimeBase::fixed().epoch_us), "2026-01-01T00:00:00.000Z");
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_rfc3339("2000-02-29T12:00:00.5+01:00"), Some(951_822_000_500_000));
        assert_eq!(parse_rfc3339("2026-11-24T05:08:38.123456789Z"), Some(1_795_496_918_123_456));
        for bad in [
            "",
            "2026",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00ZZ",
            "é026-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn rfc3339_round_trips_over_leap_years() {
        for day in -200_000..200_000_i64 {
            let at = day * DAY_US as i64 + 3_723_004_000;
            assert_eq!(parse_rfc3339(&rfc3339(at)), (rfc3339(at).len() == 24).then_some(at));
        }
    }

    #[test]
    fn time_base_maps_both_ways() {
        let base = TimeBase { epoch_us: 1_000, speed: 4.0 };
        assert_eq!(base.wall_us(4_000_000), 1_001_000);
        assert_eq!(base.virtual_us(1_001_000), 4_000_000);
        assert_eq!(base.virtual_us(0), 0);
    }
}
