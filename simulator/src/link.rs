//! A device's link: it numbers readings, and loses, delays, repeats and reorders them as the scenario says.
//!
//! ```text
//!  reading ─► number it ─► drop? ─► outage? keep (QoS 1) or lose (QoS 0) ─► late? ─► repeated? ─► frames
//! ```
//! A frame dropped after it was numbered leaves a gap in `seq` that a hub can see. During an outage a QoS 1 device
//! keeps frames and sends them in order when the network is back. A reboot starts a new boot id and numbers from 1; it
//! waits for the network, so that it never throws away what an outage made the device keep.

use crate::clock::{Micros, SECOND_US, TimeBase, micros};
use crate::frame::{Envelope, Reading, TimedFrame, payload};
use crate::random::Stream;
use crate::scenario::LinkSpec;
use std::sync::Arc;

/// Time between frames of a backlog, µs.
const BACKLOG_GAP_US: Micros = 200;
/// A repetition follows within this, s.
const REPEAT_S_MAX: f64 = 0.5;

/// What became of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is under way, or will be when the network is back.
    Sent {
        /// Boot id.
        boot: Option<Arc<str>>,
        /// Number.
        seq: u64,
    },
    /// It never leaves the device.
    Lost,
}

/// The link of one device.
#[derive(Debug)]
pub struct Link {
    spec: Arc<LinkSpec>,
    base: TimeBase,
    device: usize,
    run: Arc<str>,
    faults: Stream,
    boots: Stream,
    boot: Option<Arc<str>>,
    seq: u64,
    /// The device's clock is wrong by this, µs.
    clock_offset_us: i64,
    /// End of the present or last outage.
    back_at: Micros,
    next_outage: Option<Micros>,
    next_reboot: Option<Micros>,
    /// End of the present or last reboot.
    up_at: Micros,
    /// Frames kept in the present outage.
    kept: usize,
    /// Nothing may overtake the backlog.
    backlog_until: Micros,
}

impl Link {
    /// The link of device number `device`. `run` begins every boot id: it tells plays against one hub apart.
    pub fn new(
        seed: u64,
        device: usize,
        spec: Arc<LinkSpec>,
        base: TimeBase,
        run: Arc<str>,
    ) -> Self {
        let mut faults = Stream::new(seed, "link", device as u64);
        let offset_s = faults.uniform(-1.0, 1.0) * spec.clock_offset_max_s;
        let mut link = Self {
            next_outage: faults.wait_us(spec.outage_per_hour),
            next_reboot: faults.wait_us(spec.reboot_per_hour),
            boots: Stream::new(seed, "boot", device as u64),
            boot: None,
            seq: 0,
            clock_offset_us: (offset_s * SECOND_US as f64) as i64,
            back_at: 0,
            up_at: 0,
            kept: 0,
            backlog_until: 0,
            spec,
            base,
            device,
            run,
            faults,
        };
        link.start();
        link
    }

    fn start(&mut self) {
        self.seq = 0;
        // 48 bits: short in a payload, and no two boots of a run share one.
        let id = self.boots.bits() >> 16;
        self.boot = self.spec.boot_id.then(|| format!("{}{id:012x}", self.run).into());
    }

    /// When a device that is wanted at `at` works: `at`, or the end of a reboot.
    pub fn ready_at(&mut self, at: Micros) -> Micros {
        self.advance(at);
        at.max(self.up_at)
    }

    /// The device is rebooting at `at`, and measures nothing.
    pub fn is_down(&mut self, at: Micros) -> bool {
        self.ready_at(at) > at
    }

    /// Lets the outages and reboots up to `at` happen.
    fn advance(&mut self, at: Micros) {
        loop {
            let outage = self.next_outage.filter(|t| *t <= at);
            // A reboot waits for the network.
            let reboot = self.next_reboot.map(|t| t.max(self.back_at)).filter(|t| *t <= at);
            match (outage, reboot) {
                (Some(from), reboot) if reboot.is_none_or(|r| from <= r) => {
                    let mean_per_hour = 3_600.0 / self.spec.outage_mean_s.max(1e-6);
                    let length = self.faults.wait_us(mean_per_hour).unwrap_or(0);
                    self.back_at = self.back_at.max(from + length);
                    self.kept = 0;
                    let wait = self.faults.wait_us(self.spec.outage_per_hour);
                    self.next_outage = wait.map(|w| self.back_at + w);
                }
                (_, Some(from)) => {
                    self.up_at = from + micros(self.spec.reboot_s);
                    let wait = self.faults.wait_us(self.spec.reboot_per_hour);
                    self.next_reboot = wait.map(|w| self.up_at + w);
                    self.start();
                }
                (_, None) => return,
            }
        }
    }

    /// Sends `reading`, measured at `at`; times must not go back. Frames are appended to `out`.
    pub fn send(
        &mut self,
        at: Micros,
        stream: &Arc<str>,
        reading: &Reading,
        out: &mut Vec<TimedFrame>,
    ) -> Fate {
        self.advance(at);
        self.seq += 1;
        if self.faults.chance(self.spec.drop_rate) {
            return Fate::Lost;
        }
        let mut leaves = at.max(self.backlog_until);
        if at < self.back_at {
            if self.spec.qos == 0 || self.kept == self.spec.keep_frames_max {
                return Fate::Lost;
            }
            self.kept += 1;
            leaves = self.backlog_until.max(self.back_at) + BACKLOG_GAP_US;
            self.backlog_until = leaves;
        }
        if self.faults.chance(self.spec.late_rate) {
            leaves += micros(self.faults.uniform(0.0, self.spec.late_max_s));
        }
        let wall_us = self.base.wall_us(at) + self.clock_offset_us;
        let envelope = Envelope {
            seq: self.seq,
            boot: self.boot.as_deref(),
            ts_ms: self.spec.timestamps.then_some(wall_us.div_euclid(1_000)),
        };
        let frame = TimedFrame {
            at: leaves,
            measured_at: at,
            device: self.device,
            stream: Arc::clone(stream),
            boot: self.boot.clone(),
            seq: self.seq,
            repeated: false,
            payload: payload(envelope, reading),
        };
        if self.faults.chance(self.spec.duplicate_rate) {
            let after = micros(self.faults.uniform(0.001, REPEAT_S_MAX));
            out.push(TimedFrame { at: leaves + after, repeated: true, ..frame.clone() });
        }
        out.push(frame);
        Fate::Sent { boot: self.boot.clone(), seq: self.seq }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(spec: LinkSpec, readings: u64) -> (Vec<TimedFrame>, u64) {
        let mut link = Link::new(1, 0, Arc::new(spec), TimeBase::fixed(), "".into());
        let (mut out, mut lost) = (Vec::new(), 0);
        for i in 0..readings {
            let at = i * SECOND_US / 10;
            if link.is_down(at) {
                continue;
            }
            let reading = Reading::Weight { channel: 0, mg: 0, stable: None };
            if link.send(at, &"weight".into(), &reading, &mut out) == Fate::Lost {
                lost += 1;
            }
        }
        out.sort_by_key(|f| f.at);
        (out, lost)
    }

    #[test]
    fn a_quiet_link_changes_nothing() {
        let (frames, lost) = run(LinkSpec::default(), 1_000);
        assert_eq!((frames.len(), lost), (1_000, 0));
        for (i, f) in frames.iter().enumerate() {
            assert_eq!((f.seq, f.at, f.repeated), (i as u64 + 1, f.measured_at, false));
        }
    }

    #[test]
    fn drops_leave_gaps() {
        let (frames, lost) = run(LinkSpec { drop_rate: 0.1, ..LinkSpec::default() }, 10_000);
        assert!((800..1_200).contains(&lost), "{lost}");
        assert_eq!(frames.len() as u64 + lost, 10_000);
        let gaps: u64 = frames.windows(2).map(|w| w[1].seq - w[0].seq - 1).sum();
        assert!(gaps + 20 >= lost, "{gaps} {lost}");
    }

    #[test]
    fn outages_keep_order_with_qos_1_and_lose_with_qos_0() {
        let spec = LinkSpec { outage_per_hour: 60.0, outage_mean_s: 5.0, ..LinkSpec::default() };
        let (frames, lost) = run(spec.clone(), 36_000);
        assert_eq!((frames.len(), lost), (36_000, 0));
        assert!(frames.windows(2).all(|w| w[0].seq < w[1].seq));
        assert!(frames.iter().any(|f| f.at > f.measured_at + SECOND_US));
        let (frames, lost) = run(LinkSpec { qos: 0, ..spec.clone() }, 36_000);
        assert!(lost > 500, "{lost}");
        assert!(frames.iter().all(|f| f.at == f.measured_at));
        let (_, lost) = run(LinkSpec { keep_frames_max: 10, ..spec }, 36_000);
        assert!(lost > 500, "{lost}");
    }

    #[test]
    fn duplicates_repeat_the_number_and_late_frames_are_overtaken() {
        let spec = LinkSpec { duplicate_rate: 0.05, late_rate: 0.05, ..LinkSpec::default() };
        let (frames, _) = run(spec, 10_000);
        let repeated: Vec<_> = frames.iter().filter(|f| f.repeated).collect();
        assert!((400..600).contains(&repeated.len()));
        for r in repeated {
            let first = frames.iter().find(|f| f.seq == r.seq && !f.repeated).unwrap();
            assert!(first.at < r.at && first.payload == r.payload);
        }
        assert!(frames.windows(2).any(|w| w[0].seq > w[1].seq));
    }

    #[test]
    fn reboots_start_a_new_boot_from_1() {
        let (frames, _) = run(LinkSpec { reboot_per_hour: 30.0, ..LinkSpec::default() }, 36_000);
        let boots = frames.windows(2).filter(|w| w[0].boot != w[1].boot);
        let mut count = 0;
        for w in boots {
            assert_eq!(w[1].seq, 1);
            assert!(w[1].at - w[0].at >= 2_900_000);
            count += 1;
        }
        assert!((15..45).contains(&count), "{count}");
    }
}
