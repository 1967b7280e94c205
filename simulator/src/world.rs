//! The world: people, goods, cells and devices on one virtual clock.
//!
//! [`World::next_frames`] advances one second: first the people act, then each transmitter samples its cells in time
//! order with the changes that fell between its samples, then sensors and handhelds speak; their links decide what
//! reaches the hub and when. Frames come out in order of arrival.

use crate::cell::{Cell, Change};
use crate::clock::{DAY_US, Micros, SECOND_US, TimeBase, micros};
use crate::frame::{Reading, ScanMode, TimedFrame};
use crate::layout::{self, CountCall};
use crate::link::{Fate, Link};
use crate::modbus::{Make, Scale};
use crate::people::{Crowd, Happening};
use crate::random::Stream;
use crate::scenario::{Protocol, Scenario, SensorValueSpec, Source};
use crate::stock::Stock;
use crate::truth::{Told, Truth};
use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::sync::Arc;

/// How far one call of [`World::next_frames`] goes.
pub const STEP_US: Micros = SECOND_US;
/// Between a movement and its scan, s.
const SCAN_S: (f64, f64) = (0.3, 2.0);

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A weighing transmitter, stream `weight`.
    Scale,
    /// A handheld, stream `stock`.
    Handheld,
    /// A scanner, stream `scan`.
    Scanner,
    /// A value sensor.
    Sensor,
}

/// A device of the world.
#[derive(Debug, Clone)]
pub struct Device {
    /// Id, and MQTT username.
    pub id: Arc<str>,
    /// What it is.
    pub kind: DeviceKind,
    /// It speaks MQTT 5 (else 3.1.1).
    pub mqtt5: bool,
    /// For a scale, the slot of each channel.
    pub slots: Vec<usize>,
    /// Where it is on a bus; it then speaks no MQTT.
    pub modbus: Option<OnBus>,
}

/// Where a transmitter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnBus {
    /// Index of the bus in the scenario.
    pub bus: usize,
    /// Its address there.
    pub unit: u8,
    /// What it is.
    pub make: Make,
}

/// What a scale on a bus shows from a moment on, until it shows something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedScale {
    /// From when on, virtual.
    pub at: Micros,
    /// Index of the device.
    pub device: usize,
    /// Channel.
    pub channel: usize,
    /// What it shows.
    pub scale: Scale,
}

#[derive(Debug)]
struct Transmitter {
    cells: Vec<Cell>,
    changes: VecDeque<(Micros, usize, Change)>,
    ticks: Ticks,
}

#[derive(Debug)]
struct Sensor {
    values: Vec<(Arc<str>, SensorValueSpec)>,
    stream: Arc<str>,
    noise: Stream,
    ticks: Ticks,
}

/// A handheld or scanner: used by one person at a time.
#[derive(Debug)]
struct Teller {
    device: usize,
    free_at: Micros,
    stream: Arc<str>,
    pace: Stream,
}

/// Evenly spaced moments.
#[derive(Debug)]
struct Ticks {
    phase_us: f64,
    period_us: f64,
    next: u64,
}

impl Ticks {
    fn new(period_s: f64, phases: &mut Stream) -> Self {
        let period_us = period_s * 1e6;
        Self { phase_us: phases.uniform(0.0, period_us), period_us, next: 0 }
    }

    fn before(&mut self, until: Micros) -> Option<Micros> {
        let at = (self.phase_us + self.next as f64 * self.period_us) as Micros;
        (at < until).then(|| {
            self.next += 1;
            at
        })
    }
}

/// A scenario in motion.
#[derive(Debug)]
pub struct World {
    scenario: Scenario,
    devices: Vec<Device>,
    links: Vec<Link>,
    stock: Stock,
    crowd: Crowd,
    /// Scale `i` is device `i`.
    scales: Vec<Transmitter>,
    /// Where a slot's cell is: scale and channel.
    cell_of: Vec<Option<(usize, usize)>>,
    sensors: Vec<(usize, Sensor)>,
    tellers: Vec<Teller>,
    choice: Stream,
    now: Micros,
    end: Micros,
    /// Frames that arrive later.
    pending: Vec<TimedFrame>,
    /// What scales on buses showed in the last step.
    shown: Vec<TimedScale>,
}

impl World {
    /// The world of a scenario at [`TimeBase::fixed`]: the same every time.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        Self::with_clock(scenario, TimeBase::fixed(), "")
    }

    /// The world of a scenario whose time stamps follow `base` and whose boot ids begin with `run`.
    #[must_use]
    pub fn with_clock(scenario: Scenario, base: TimeBase, run: &str) -> Self {
        let stock = Stock::new(&scenario);
        let crowd = Crowd::new(&scenario, &stock);
        let devices = devices(&scenario, &stock);
        let (seed, link, run) = (scenario.seed, Arc::new(scenario.link.clone()), Arc::from(run));
        let links = (0..devices.len())
            .map(|i| Link::new(seed, i, Arc::clone(&link), base, Arc::clone(&run)))
            .collect();
        let spec = Arc::new(scenario.cells.clone());
        let mut cell_of = vec![None; stock.len()];
        let (mut scales, mut sensors, mut tellers) = (Vec::new(), Vec::new(), Vec::new());
        let mut groups = scenario.sensor.iter().flat_map(|s| std::iter::repeat_n(s, s.count));
        for (index, device) in devices.iter().enumerate() {
            let mut phases = Stream::new(seed, "phase", index as u64);
            let teller = |stream: &str| Teller {
                device: index,
                free_at: 0,
                stream: stream.into(),
                pace: Stream::new(seed, "teller", index as u64),
            };
            match device.kind {
                DeviceKind::Scale => {
                    let cell = |(channel, slot): (usize, &usize)| {
                        cell_of[*slot] = Some((index, channel));
                        let sku = stock.sku(*slot);
                        let (unit, sigma) = (sku.unit_weight_mg as f64, sku.unit_sigma_mg as f64);
                        Cell::new(
                            seed,
                            *slot,
                            Arc::clone(&spec),
                            unit,
                            sigma,
                            stock.goods_mg(*slot),
                        )
                    };
                    scales.push(Transmitter {
                        cells: device.slots.iter().enumerate().map(cell).collect(),
                        changes: VecDeque::new(),
                        ticks: Ticks::new(1.0 / spec.rate_hz, &mut phases),
                    });
                }
                DeviceKind::Handheld => tellers.push(teller("stock")),
                DeviceKind::Scanner => tellers.push(teller("scan")),
                DeviceKind::Sensor => {
                    let Some(group) = groups.next() else { continue };
                    let value = |v: &SensorValueSpec| (Arc::from(v.name.as_str()), v.clone());
                    sensors.push((
                        index,
                        Sensor {
                            values: group.value.iter().map(value).collect(),
                            stream: group.stream.as_str().into(),
                            noise: Stream::new(seed, "sensor", index as u64),
                            ticks: Ticks::new(group.period_s, &mut phases),
                        },
                    ));
                }
            }
        }
        Self {
            end: micros(scenario.duration_s),
            choice: Stream::new(seed, "choice", 0),
            scenario,
            devices,
            links,
            stock,
            crowd,
            scales,
            cell_of,
            sensors,
            tellers,
            now: 0,
            pending: Vec::new(),
            shown: Vec::new(),
        }
    }

    /// The scenario.
    #[must_use]
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The devices; [`TimedFrame::device`] is an index into them.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// What really lies where, and what happened so far.
    #[must_use]
    pub fn truth(&self) -> &Truth {
        self.stock.truth()
    }

    /// How far the world has come.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.now
    }

    /// When it ends.
    #[must_use]
    pub fn end(&self) -> Micros {
        self.end
    }

    /// Sends the people to rest now; the world ends after the scenario's quiet tail, with everything measured.
    pub fn wind_down(&mut self) {
        self.crowd.rest_from = self.crowd.rest_from.min(self.now);
        self.end = self.end.min(self.now + micros(self.scenario.quiet_tail_s));
    }

    /// Body of `POST /api/v1/import` for this world.
    #[must_use]
    pub fn layout(&self) -> serde_json::Value {
        layout::import(&self.scenario, &self.stock, &self.devices)
    }

    /// The counts that tell the hub what no cell can: the first stock of scanned lines.
    #[must_use]
    pub fn initial_counts(&self) -> Vec<CountCall> {
        layout::counts(&self.scenario, &self.stock)
    }

    /// What scales on buses showed in the last step, in order of time.
    pub fn take_shown(&mut self) -> Vec<TimedScale> {
        let mut shown = std::mem::take(&mut self.shown);
        shown.sort_by_key(|s| s.at);
        shown
    }

    /// Advances one [`STEP_US`]; frames in order of arrival, or `None` at the end. A step may have no frame.
    pub fn next_frames(&mut self) -> Option<Vec<TimedFrame>> {
        if self.now >= self.end && self.pending.is_empty() {
            return None;
        }
        let until = (self.now + STEP_US).min(self.end.max(self.now));
        if self.now < self.end {
            self.step(until);
        }
        // At the end everything still under way arrives.
        let horizon = if until < self.end { until } else { Micros::MAX };
        let (mut due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|f| f.at < horizon);
        self.pending = later;
        due.sort_by_key(|f| f.at);
        self.now = until;
        Some(due)
    }

    fn step(&mut self, until: Micros) {
        let mut happenings = Vec::new();
        self.crowd.advance(until, &mut self.stock, &mut happenings);
        for happening in happenings {
            match happening {
                Happening::Cell { at, slot, change } => {
                    if let Some((scale, channel)) = self.cell_of[slot] {
                        self.scales[scale].changes.push_back((at, channel, change));
                    }
                }
                Happening::Tell { at, movement } => self.tell(at, movement),
            }
        }
        // The air is so slow that one temperature serves a step; the cells' zero is right at its mean.
        let warmer_c = self.scenario.climate.daily_c * daily(until);
        let weight: Arc<str> = "weight".into();
        for (index, scale) in self.scales.iter_mut().enumerate() {
            let link = &mut self.links[index];
            while let Some(at) = scale.ticks.before(until) {
                while let Some((when, channel, change)) = scale.changes.front().copied() {
                    if when > at {
                        break;
                    }
                    scale.changes.pop_front();
                    scale.cells[channel].change(when, change);
                }
                let down = link.is_down(at);
                for (channel, cell) in scale.cells.iter_mut().enumerate() {
                    let Some(shown) = cell.sample(at, warmer_c) else { continue };
                    if self.devices[index].modbus.is_some() {
                        let stable = shown.stable.unwrap_or(true);
                        let scale = Scale { mg: shown.mg, stable, ..Scale::default() };
                        self.shown.push(TimedScale { at, device: index, channel, scale });
                    } else if !down {
                        let reading =
                            Reading::Weight { channel, mg: shown.mg, stable: shown.stable };
                        link.send(at, &weight, &reading, &mut self.pending);
                    }
                }
            }
        }
        for (index, sensor) in &mut self.sensors {
            let link = &mut self.links[*index];
            while let Some(at) = sensor.ticks.before(until) {
                let values = sensor.measure(at);
                if !link.is_down(at) {
                    link.send(at, &sensor.stream, &Reading::Values(values), &mut self.pending);
                }
            }
        }
    }

    /// Somebody enters a movement on a handheld or a scanner.
    fn tell(&mut self, at: Micros, index: usize) {
        let Some(movement) = self.stock.truth().movements.get(index) else { return };
        let line = self.stock.line(movement.line);
        if line.source != Source::Scan || self.tellers.is_empty() {
            return;
        }
        let chosen = self.choice.below(self.tellers.len());
        let teller = &mut self.tellers[chosen];
        let (slot, delta) = (Arc::clone(&line.slot), movement.delta);
        let reading = match self.devices[teller.device].kind {
            DeviceKind::Scanner => Reading::Scan {
                code: Arc::clone(&self.stock.slot(movement.line).code),
                slot,
                mode: if delta < 0 { ScanMode::Pick } else { ScanMode::Receive },
                quantity: delta.abs(),
            },
            DeviceKind::Handheld | DeviceKind::Scale | DeviceKind::Sensor => {
                Reading::Stock { sku: Arc::clone(&line.sku), slot, delta }
            }
        };
        let link = &mut self.links[teller.device];
        let entered = at.max(teller.free_at) + micros(teller.pace.uniform(SCAN_S.0, SCAN_S.1));
        let entered = link.ready_at(entered);
        teller.free_at = entered;
        let told = match link.send(entered, &teller.stream, &reading, &mut self.pending) {
            Fate::Sent { boot, seq } => {
                Told::Sent { device: Arc::clone(&self.devices[teller.device].id), boot, seq }
            }
            Fate::Lost => Told::LostAtSource,
        };
        self.stock.told(index, told);
    }
}

impl Sensor {
    fn measure(&mut self, at: Micros) -> Vec<(Arc<str>, f64)> {
        let Self { values, noise, .. } = self;
        let one = |(name, v): &(Arc<str>, SensorValueSpec)| {
            let x = v.mean + v.daily * daily(at) + noise.normal(v.noise);
            (Arc::clone(name), (x * 100.0).round() / 100.0)
        };
        values.iter().map(one).collect()
    }
}

/// The daily cycle: 0 as the world begins, +1 six hours later.
fn daily(at: Micros) -> f64 {
    (TAU * (at % DAY_US) as f64 / DAY_US as f64).sin()
}

/// Scales first (so that scale `i` is device `i`), then handhelds, scanners, sensors.
fn devices(scenario: &Scenario, stock: &Stock) -> Vec<Device> {
    let mut devices: Vec<Device> = Vec::new();
    let mut add = |id: String, kind: DeviceKind, slots: Vec<usize>, modbus: Option<OnBus>| {
        let mqtt5 = match scenario.link.protocol {
            Protocol::V3 => false,
            Protocol::V5 => true,
            Protocol::Mixed => devices.len() % 2 == 1,
        };
        devices.push(Device { id: id.into(), kind, mqtt5, slots, modbus });
    };
    let weighed: Vec<usize> =
        (0..stock.len()).filter(|s| stock.line(*s).source == Source::Weight).collect();
    let mut left = weighed.as_slice();
    for (bus, spec) in scenario.modbus.iter().enumerate() {
        for (unit, make) in (1u8..).zip(&spec.makes) {
            let (slots, rest) = left.split_at(make.channels().len().min(left.len()));
            left = rest;
            let on = OnBus { bus, unit, make: *make };
            add(format!("{}-{unit}", spec.id), DeviceKind::Scale, slots.to_vec(), Some(on));
        }
    }
    for (i, slots) in left.chunks(scenario.cells.per_device).enumerate() {
        add(format!("scale-{:03}", i + 1), DeviceKind::Scale, slots.to_vec(), None);
    }
    for i in 1..=scenario.handhelds {
        add(format!("handheld-{i}"), DeviceKind::Handheld, Vec::new(), None);
    }
    for i in 1..=scenario.scanners {
        add(format!("scanner-{i}"), DeviceKind::Scanner, Vec::new(), None);
    }
    for group in &scenario.sensor {
        for i in 1..=group.count {
            add(format!("{}-{i}", group.id_prefix), DeviceKind::Sensor, Vec::new(), None);
        }
    }
    devices
}
