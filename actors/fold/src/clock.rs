//! When a sample was taken, from a clock nobody trusts.
//!
//! Frames that waited out a broken link arrive in one burst; by arrival time alone a shelf would have changed in a
//! millisecond. The device's clock is good for differences, so its offset to hub time is estimated as the smallest seen of
//! (received − device) within a boot, and a sample's time is device time plus offset, held between the sample before and the
//! arrival. The offset creeps up with time, so that a clock that runs slow does not make its device ever later. A clock that
//! jumps back starts the estimate anew; one that is years off does no harm.

use serde::{Deserialize, Serialize};

use crate::entry::HubTime;

/// A step back of the device clock beyond this is a reset, in microseconds.
const STEP_BACK_US: i64 = 2_000_000;

/// The offset grows by 1 in so many: ten times what a bad quartz loses.
const CREEP: i64 = 1_000;

/// A clock further than this from 1970 is no clock, in microseconds (some 126,000 years); keeps sums in range.
const CLOCK_US_MAX: u64 = 4_000_000_000_000_000_000;

/// The offset of one device's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceClock {
    offset_us: Option<i64>,
    last_device_us: i64,
    last: HubTime,
}

impl DeviceClock {
    /// The device started anew; its clock may have, too.
    pub fn reboot(&mut self) {
        self.offset_us = None;
    }

    /// When a sample was taken: never before the last one, never after it was received.
    pub fn sample_time(&mut self, received: HubTime, device_us: Option<i64>) -> HubTime {
        let plausible = device_us.filter(|us| us.unsigned_abs() < CLOCK_US_MAX);
        let Some(device) = plausible else {
            self.last = received.max(self.last);
            return self.last;
        };
        if self.offset_us.is_some() && device < self.last_device_us.saturating_sub(STEP_BACK_US) {
            self.offset_us = None;
        }
        let creep = device.saturating_sub(self.last_device_us).max(0) / CREEP;
        self.last_device_us = device;
        let here = received.0.saturating_sub(device);
        let offset = self.offset_us.map_or(here, |known| known.saturating_add(creep).min(here));
        self.offset_us = Some(offset);
        let taken = HubTime(device.saturating_add(offset)).min(received).max(self.last);
        self.last = taken;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_spread_over_the_time_it_was_taken_in() {
        let mut clock = DeviceClock::default();
        let year_off = -31_536_000_000_000;
        assert_eq!(clock.sample_time(HubTime(1_000_000), Some(year_off)).0, 1_000_000);
        // Ten seconds of silence, then three frames at once.
        let times: Vec<i64> = (1..=3)
            .map(|i| clock.sample_time(HubTime(11_000_000), Some(year_off + i * 3_000_000)).0)
            .collect();
        assert_eq!(times, [4_003_000, 7_006_000, 10_009_000]);
    }

    #[test]
    fn a_slow_clock_does_not_make_its_device_ever_later() {
        let mut clock = DeviceClock::default();
        let mut late_us = 0;
        for second in 0..100_000_i64 {
            // It loses 100 millionths, 10 s in all.
            let (received, device) = (second * 1_000_000, second * 999_900);
            late_us = received - clock.sample_time(HubTime(received), Some(device)).0;
        }
        assert!(late_us < 1_000, "{late_us}");
    }

    #[test]
    fn clocks_that_jump_do_no_harm() {
        let mut clock = DeviceClock::default();
        clock.sample_time(HubTime(5_000_000), Some(i64::MAX));
        let after = clock.sample_time(HubTime(6_000_000), Some(i64::MIN));
        assert_eq!(after, HubTime(6_000_000));
        assert_eq!(clock.sample_time(HubTime(6_500_000), None), HubTime(6_500_000));
        // Received time itself never runs backwards for the caller.
        assert_eq!(clock.sample_time(HubTime(6_400_000), None), HubTime(6_500_000));
    }
}
