//! What stands in the way for a while: bodies before antennas, pallets that are driven by, readers that are deaf.

use super::micros;
use super::scenario::Carrier;
use super::truth::Spot;
use super::world::World;
use crate::random::Stream;

/// Something that is there from time to time: exponential pauses, and lengths that a function draws.
#[derive(Debug)]
pub(super) struct NowAndThen {
    draw: Stream,
    per_hour: f64,
    from_us: i64,
    to_us: i64,
    /// Which time it is.
    pub(super) count: u64,
}

impl NowAndThen {
    /// Something that begins so often an hour.
    pub(super) fn new(draw: Stream, per_hour: f64, length_us: impl Fn(&mut Stream) -> i64) -> Self {
        let mut it = Self { draw, per_hour, from_us: 0, to_us: 0, count: 0 };
        it.next(length_us);
        it
    }

    fn next(&mut self, length_us: impl Fn(&mut Stream) -> i64) {
        let wait = self.draw.wait_us(self.per_hour).unwrap_or(u64::MAX / 4);
        self.from_us = self.to_us.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX / 4));
        self.to_us = self.from_us.saturating_add(length_us(&mut self.draw).max(1));
        self.count += 1;
    }

    /// Goes on to a moment; whether it is there now. Moments must not go back.
    pub(super) fn is_there(&mut self, at_us: i64, length_us: impl Fn(&mut Stream) -> i64) -> bool {
        while self.to_us <= at_us {
            self.next(&length_us);
        }
        self.from_us <= at_us
    }
}

/// An exponential time, microseconds.
pub(super) fn exponential_us(draw: &mut Stream, mean_s: f64) -> i64 {
    micros(-mean_s * (1.0 - draw.uniform(0.0, 1.0)).ln())
}

/// When carts and forklifts are driven through a zone, in order.
#[derive(Debug)]
pub(super) struct Traffic {
    windows: Vec<(i64, i64)>,
    at: usize,
}

impl Traffic {
    /// The traffic of each zone.
    pub(super) fn of(world: &World) -> Vec<Self> {
        let mut zones = vec![Vec::new(); world.site.zones.len()];
        let mut last = None;
        for (item, journey) in world.items.iter().zip(&world.truth.journeys) {
            // Those that travel together are one.
            if item.carrier == Carrier::Hand || last == Some(item.batch) {
                continue;
            }
            last = Some(item.batch);
            for (i, interval) in journey.iter().enumerate() {
                let near = |at: Option<usize>| at.and_then(|at| journey.get(at)).map(|i| i.spot);
                let ends = [near(i.checked_sub(1)), near(i.checked_add(1))];
                match interval.spot {
                    Spot::Moving(_) => {
                        let touched =
                            ends.into_iter().flatten().filter_map(|s| world.site.zone_of(s));
                        for zone in touched {
                            zones[zone].push((interval.from_us, interval.to_us));
                        }
                    }
                    Spot::Place(_) | Spot::Outside => {}
                }
            }
        }
        let sorted = |mut windows: Vec<(i64, i64)>| {
            windows.sort_unstable();
            Self { windows, at: 0 }
        };
        zones.into_iter().map(sorted).collect()
    }

    /// Whether something is driven through now. Moments must not go back.
    pub(super) fn is_there(&mut self, at_us: i64) -> bool {
        // Windows may overlap; the first that is not over may begin later than one behind it ends, never before it begins.
        while self.windows.get(self.at).is_some_and(|(_, to_us)| *to_us <= at_us) {
            self.at += 1;
        }
        self.windows.get(self.at).is_some_and(|(from_us, _)| *from_us <= at_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfid::{SECOND_US, Scenario};

    #[test]
    fn what_comes_now_and_then_is_there_for_its_share_of_the_time() {
        let length = |draw: &mut Stream| exponential_us(draw, 10.0);
        let mut it = NowAndThen::new(Stream::new(1, "test", 0), 60.0, length);
        let there = (0..200_000).filter(|s| it.is_there(s * SECOND_US, length)).count();
        // Ten seconds after sixty of pause: one in seven.
        let share = there as f64 / 200_000.0;
        assert!((share - 1.0 / 7.0).abs() < 0.015, "{share}");
        let mut never = NowAndThen::new(Stream::new(1, "test", 1), 0.0, length);
        assert!(!never.is_there(i64::MAX / 8, length));
    }

    #[test]
    fn traffic_is_where_pallets_are_driven() {
        let world = World::new(&Scenario::builtin("dock-door").unwrap()).unwrap();
        let mut traffic = Traffic::of(&world);
        let zones = traffic.len();
        assert_eq!(zones, 2);
        let pallet = &world.truth.journeys[0];
        for (i, interval) in pallet.iter().enumerate() {
            let busy: Vec<bool> =
                traffic.iter_mut().map(|t| t.is_there(interval.from_us)).collect();
            if let Spot::Moving(_) = interval.spot {
                let ends = [&pallet[i - 1], &pallet[(i + 1).min(pallet.len() - 1)]];
                for zone in ends.into_iter().filter_map(|end| world.site.zone_of(end.spot)) {
                    assert!(busy[zone], "{interval:?}");
                }
            }
        }
        // In a shop without carts there is none.
        let world = World::new(&Scenario::builtin("portal").unwrap()).unwrap();
        let mut traffic = Traffic::of(&world);
        assert!((0..3_600).all(|s| traffic.iter_mut().all(|t| !t.is_there(s * SECOND_US))));
    }
}
