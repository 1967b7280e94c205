//! When each frame was due, written and acknowledged: two `u32` a frame, read while the load runs.
//!
//! Times are kept in units of 10 µs since the record was made, which lasts eleven hours. The schedule itself is
//! arithmetic: device `d` of `n` sends its burst `k` at `start + (k + d/n) · period`.

use crate::clock::{WallClock, process_cpu_us};
use crate::load::{LoadError, Plan, RECORD_BYTES_MAX};
use crate::score::percentile;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

const UNIT_US: u64 = 10;
/// Marks a frame that the hub refused.
const REFUSED: u32 = u32::MAX;
/// Longest load a record holds, µs.
const TOTAL_US_MAX: u64 = 11 * 3_600 * 1_000_000;

/// Everything a load did.
#[derive(Debug)]
pub struct Record {
    clock: WallClock,
    devices: usize,
    frames_per_device: usize,
    burst: u64,
    period_us: f64,
    warm_up_us: u64,
    total_us: u64,
    /// Since the record was made; 0 = not yet.
    started_us: AtomicU64,
    written: Vec<AtomicU32>,
    acked: Vec<AtomicU32>,
    stopped: AtomicBool,
    pub(super) ready: AtomicUsize,
    pub(super) counters: Counters,
    cpu_from_us: AtomicU64,
    cpu_to_us: AtomicU64,
}

/// Totals of a load so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub written: AtomicU64,
    pub acked: AtomicU64,
    pub refused: AtomicU64,
    pub resent: AtomicU64,
    pub window_full: AtomicU64,
    pub disconnects: AtomicU64,
    pub connected: AtomicUsize,
}

/// A load in figures. Delays are of frames due after the warm-up: from the scheduled moment to the acknowledgement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Frames written, without repetitions.
    pub written: u64,
    /// Frames acknowledged.
    pub acknowledged: u64,
    /// Frames refused by a reason code.
    pub refused: u64,
    /// Frames written again after a reconnect.
    pub resent: u64,
    /// Times a connection had frames to send and its window was full.
    pub window_full: u64,
    /// Connections lost.
    pub disconnects: u64,
    /// Connections open now.
    pub connected: usize,
    /// Frames due in the measured time.
    pub measured: u64,
    /// Of these, not acknowledged.
    pub unacknowledged: u64,
    /// Acknowledgements per second of measured time.
    pub acknowledged_per_s: f64,
    /// Median delay, ms.
    pub delay_p50_ms: f64,
    /// 95th percentile, ms.
    pub delay_p95_ms: f64,
    /// 99th percentile, ms.
    pub delay_p99_ms: f64,
    /// Longest, ms.
    pub delay_max_ms: f64,
    /// 99th percentile of the generator's own lateness: scheduled to written, ms.
    pub lateness_p99_ms: f64,
    /// CPU of this process for each frame written in the scheduled time, µs.
    pub cpu_us_per_frame: f64,
}

impl Record {
    /// A record that holds all frames of `plan`.
    ///
    /// # Errors
    /// [`LoadError::Plan`] when the plan is impossible or its record would be larger than [`RECORD_BYTES_MAX`].
    pub fn new(plan: &Plan) -> Result<Arc<Self>, LoadError> {
        plan.check()?;
        let (period_us, total_us) = (plan.period_us(), plan.total_us());
        let bursts = (total_us as f64 / period_us).ceil() as usize;
        let frames_per_device = bursts * plan.burst_frames as usize;
        let frames = frames_per_device.saturating_mul(plan.devices());
        if frames > RECORD_BYTES_MAX / 8 || total_us > TOTAL_US_MAX {
            return Err(LoadError::Plan(format!(
                "{frames} frames in {} s are more than a record holds; shorten the run",
                total_us / 1_000_000
            )));
        }
        let empty = || (0..frames).map(|_| AtomicU32::new(0)).collect();
        Ok(Arc::new(Self {
            clock: WallClock::start(),
            devices: plan.devices(),
            frames_per_device,
            burst: plan.burst_frames.into(),
            period_us,
            warm_up_us: plan.warm_up.as_micros() as u64,
            total_us,
            started_us: AtomicU64::new(0),
            written: empty(),
            acked: empty(),
            stopped: AtomicBool::new(false),
            ready: AtomicUsize::new(0),
            counters: Counters::default(),
            cpu_from_us: AtomicU64::new(0),
            cpu_to_us: AtomicU64::new(0),
        }))
    }

    /// Microseconds since the record was made; all its times count so.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.clock.elapsed_us()
    }

    /// Unix time in µs of a time of this record.
    #[must_use]
    pub fn unix_us(&self, at_us: u64) -> i64 {
        self.clock.unix_us() - self.clock.elapsed_us() as i64 + at_us as i64
    }

    /// When the schedule began; `None` while devices still connect.
    #[must_use]
    pub fn started_us(&self) -> Option<u64> {
        Some(self.started_us.load(Relaxed)).filter(|t| *t > 0)
    }

    pub(super) fn start_at(&self, at_us: u64) {
        self.cpu_from_us.store(process_cpu_us(), Relaxed);
        self.started_us.store(at_us.max(1), Relaxed);
    }

    pub(super) fn schedule_over(&self) {
        self.cpu_to_us.fetch_max(process_cpu_us(), Relaxed);
    }

    /// Ends the load as if its time were over; what is in flight is still awaited.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// [`Record::stop`] was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Frames written and frames acknowledged so far.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.counters.written.load(Relaxed), self.counters.acked.load(Relaxed))
    }

    /// Devices.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.devices
    }

    /// The schedule gives each device at most so many frames, numbered from 1.
    #[must_use]
    pub fn frames_per_device(&self) -> u64 {
        self.frames_per_device as u64
    }

    /// Measuring begins, after the schedule's start, µs.
    #[must_use]
    pub fn warm_up_us(&self) -> u64 {
        self.warm_up_us
    }

    /// Due time after the schedule's start, µs.
    fn offset_us(&self, device: usize, seq: u64) -> u64 {
        let burst = (seq.saturating_sub(1) / self.burst) as f64;
        ((burst + device as f64 / self.devices as f64) * self.period_us) as u64
    }

    /// When frame `seq` of a device was due; `None` before the start and beyond the schedule's end.
    #[must_use]
    pub fn scheduled_us(&self, device: usize, seq: u64) -> Option<u64> {
        let offset_us = self.offset_us(device, seq);
        let start_us = self.started_us()?;
        let known = self.index(device, seq).is_some() && offset_us < self.total_us;
        known.then_some(start_us + offset_us)
    }

    fn index(&self, device: usize, seq: u64) -> Option<usize> {
        let known = device < self.devices && (1..=self.frames_per_device()).contains(&seq);
        known.then(|| device * self.frames_per_device + seq as usize - 1)
    }

    fn time(cells: &[AtomicU32], index: Option<usize>) -> Option<u64> {
        let units = cells.get(index?)?.load(Relaxed);
        (units != 0 && units != REFUSED).then(|| (u64::from(units) - 1) * UNIT_US)
    }

    fn units(at_us: u64) -> u32 {
        ((at_us / UNIT_US + 1) as u32).min(REFUSED - 1)
    }

    /// When frame `seq` of a device was first written.
    #[must_use]
    pub fn written_us(&self, device: usize, seq: u64) -> Option<u64> {
        Self::time(&self.written, self.index(device, seq))
    }

    /// When frame `seq` of a device was acknowledged.
    #[must_use]
    pub fn acked_us(&self, device: usize, seq: u64) -> Option<u64> {
        Self::time(&self.acked, self.index(device, seq))
    }

    pub(super) fn note_written(&self, device: usize, seq: u64, at_us: u64) {
        if let Some(cell) = self.index(device, seq).and_then(|i| self.written.get(i)) {
            cell.store(Self::units(at_us), Relaxed);
        }
    }

    /// Notes an acknowledgement or refusal; false when there was one already.
    pub(super) fn note_answer(&self, device: usize, seq: u64, at_us: u64, refused: bool) -> bool {
        let Some(cell) = self.index(device, seq).and_then(|i| self.acked.get(i)) else {
            return false;
        };
        // Only the thread that owns the connection writes here.
        if cell.load(Relaxed) != 0 {
            return false;
        }
        cell.store(if refused { REFUSED } else { Self::units(at_us) }, Relaxed);
        true
    }

    /// The hub answered for frame `seq`, one way or the other.
    pub(super) fn is_answered(&self, device: usize, seq: u64) -> bool {
        self.index(device, seq).is_some_and(|i| self.acked[i].load(Relaxed) != 0)
    }

    /// The figures so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let (mut delays, mut lateness) = (Vec::new(), Vec::new());
        let mut measured = 0;
        for device in 0..self.devices {
            for seq in 1..=self.frames_per_device() {
                let Some(due) = self.scheduled_us(device, seq) else { continue };
                if self.offset_us(device, seq) < self.warm_up_us {
                    continue;
                }
                measured += 1;
                if let Some(at) = self.written_us(device, seq) {
                    lateness.push(at.saturating_sub(due));
                }
                if let Some(at) = self.acked_us(device, seq) {
                    delays.push(at.saturating_sub(due));
                }
            }
        }
        delays.sort_unstable();
        lateness.sort_unstable();
        let ms = |sorted: &[u64], share: f64| percentile(sorted, share) as f64 / 1e3;
        let c = &self.counters;
        let written = c.written.load(Relaxed);
        let cpu_us = self.cpu_to_us.load(Relaxed).saturating_sub(self.cpu_from_us.load(Relaxed));
        Summary {
            written,
            acknowledged: c.acked.load(Relaxed),
            refused: c.refused.load(Relaxed),
            resent: c.resent.load(Relaxed),
            window_full: c.window_full.load(Relaxed),
            disconnects: c.disconnects.load(Relaxed),
            connected: c.connected.load(Relaxed),
            measured,
            unacknowledged: measured - delays.len() as u64,
            acknowledged_per_s: delays.len() as f64 * 1e6
                / (self.total_us - self.warm_up_us).max(1) as f64,
            delay_p50_ms: ms(&delays, 0.50),
            delay_p95_ms: ms(&delays, 0.95),
            delay_p99_ms: ms(&delays, 0.99),
            delay_max_ms: ms(&delays, 1.0),
            lateness_p99_ms: ms(&lateness, 0.99),
            cpu_us_per_frame: cpu_us as f64 / written.max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Kind;
    use std::time::Duration;

    #[test]
    fn the_schedule_is_even_and_the_record_keeps_first_answers() {
        let passwords = vec![String::new(); 4];
        let mut plan = Plan::new("h:1", passwords, Kind::Stock, 8.0, Duration::from_secs(2));
        plan.warm_up = Duration::from_secs(1);
        let r = Record::new(&plan).unwrap();
        assert_eq!((r.frames_per_device(), r.scheduled_us(0, 1)), (6, None));
        r.start_at(1_000);
        let due: Vec<_> = (0..4).map(|d| r.scheduled_us(d, 2).unwrap() - 1_000).collect();
        assert_eq!(due, [500_000, 625_000, 750_000, 875_000]);
        assert_eq!((r.scheduled_us(0, 7), r.scheduled_us(4, 1)), (None, None));
        r.note_written(0, 3, 1_001_000);
        assert!(r.note_answer(0, 3, 1_003_000, false));
        assert!(!r.note_answer(0, 3, 9_000_000, false));
        assert_eq!((r.written_us(0, 3), r.acked_us(0, 3)), (Some(1_001_000), Some(1_003_000)));
        assert!(r.note_answer(0, 4, 1_000, true) && r.is_answered(0, 4));
        assert_eq!(r.acked_us(0, 4), None);
        let s = r.summary();
        assert_eq!((s.measured, s.unacknowledged), (16, 15));
        assert_eq!((s.delay_p50_ms, s.delay_max_ms), (2.0, 2.0));
    }

    #[test]
    fn impossible_plans_say_why() {
        let plan = |n, rate| {
            Plan::new("h:1", vec![String::new(); n], Kind::Stock, rate, Duration::from_secs(36_000))
        };
        for (plan, word) in [
            (plan(0, 1.0), "devices"),
            (plan(10, 0.0), "rate"),
            (plan(1_000, 1.0), "silent"),
            (plan(1_000, 1e6), "shorten"),
        ] {
            let error = Record::new(&plan).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
