//! Readers and their antennas: what they look at, when they listened, and what is usual for them.
//!
//! Silence says something only while somebody listens. A reader's clock of listening runs from frame to frame as long as they
//! are not further apart than its profile's patience; without one it runs with the hub's, less how late its frames come, and
//! stands while the reader says that it stopped and while the hub was away. An antenna's own clock leaves out the time in
//! which it was disconnected, which a read of it ends. Reports held back while the connection was away carry the reader's own
//! times: they lie close together, so the clock runs through the gap.
//!
//! An antenna that is set to look elsewhere is another antenna from then on: tags that it had are still where it looked
//! before, and move by the reads of the new one.
//!
//! Learned, and bounded, so that one wrong reader cannot teach nonsense: how strong an antenna hears the tags that are at home
//! there, and for each pair of antennas how often and how much weaker the second hears the first one's tags.

use std::collections::BTreeMap;

use device_profiles::{DeviceId, SlotId, ZoneId};
use serde::{Deserialize, Serialize};

use super::presence::EPOCH_US;
use crate::{
    entry::HubTime,
    limits::{ANTENNAS_MAX, PAIRS_MAX},
};

/// An antenna and what it looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AntennaSpec {
    /// Its port at the reader, from 1.
    pub port: u16,
    /// The zone it looks at.
    pub zone: ZoneId,
    /// The slot it looks at, when it looks at one: tags there are units of the slot.
    pub slot: Option<SlotId>,
    /// At a door: it looks at what is outside.
    pub outside: bool,
}

/// Number of an antenna in the state of a facility; never given to another one.
pub(crate) type AntennaNo = u16;

/// No antenna.
pub(crate) const NOWHERE: AntennaNo = u16::MAX;

/// Signal that is usual for an antenna of which nothing is known, in 1/100 dBm.
const USUAL_CDBM: f32 = -5_800.0;
/// How many reads that assumption is worth, and how many are remembered at most.
const USUAL_READS: (f32, f32) = (30.0, 4_000.0);
/// Epochs after which the rate of reads is believed, and after which older ones count half.
const RATE_EPOCHS: (f32, f32) = (200.0, 20_000.0);
/// A longer time without a read is no part of the rate, in epochs: something else was the matter.
const GAP_EPOCHS: u32 = 60;
/// Reads of the home antenna and of the other one that are assumed of a pair of which nothing is known.
const PAIR_PRIOR: (f32, f32) = (40.0, 10.0);
/// Reads of a home antenna after which older ones count half.
const PAIR_READS_MAX: f32 = 8_000.0;
/// How much weaker a neighbour hears, when nothing is known, in 1/100 dB; and the range that is learned.
const WEAKER_CDB: f32 = -800.0;
const WEAKER_RANGE_CDB: (f32, f32) = (-2_000.0, -400.0);

/// One antenna.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Antenna {
    pub device: DeviceId,
    /// Where it looks, or looked while it was this antenna.
    pub spec: AntennaSpec,
    /// Number of its zone.
    pub zone: u16,
    /// The reader's clock when it was disconnected.
    down_at_us: Option<i64>,
    /// What it missed of the reader's clock, in microseconds.
    missed_us: i64,
    usual_cdbm: f32,
    usual_reads: f32,
    /// Reads of settled tags at home here.
    own_reads: f32,
    /// Epochs in which such tags were read, and all epochs from read to read.
    rate: (f32, f32),
}

impl Antenna {
    fn new(device: DeviceId, spec: AntennaSpec) -> Self {
        Self {
            device,
            spec,
            zone: 0,
            down_at_us: None,
            missed_us: 0,
            usual_cdbm: USUAL_CDBM,
            usual_reads: USUAL_READS.0,
            own_reads: 0.0,
            rate: (0.0, 0.0),
        }
    }

    /// How far a signal lies above what is usual here, in 1/100 dB.
    pub fn above_cdb(&self, rssi_cdbm: i16) -> f32 {
        f32::from(rssi_cdbm) - self.usual_cdbm
    }

    /// Signal that is usual here, in 1/100 dBm.
    pub fn usual_cdbm(&self) -> f32 {
        self.usual_cdbm
    }

    /// A settled tag of this place was read.
    pub fn learn(&mut self, rssi_cdbm: Option<i16>) {
        self.own_reads += 1.0;
        let Some(rssi) = rssi_cdbm else { return };
        self.usual_reads = (self.usual_reads + 1.0).min(USUAL_READS.1);
        self.usual_cdbm += (f32::from(rssi) - self.usual_cdbm) / self.usual_reads;
    }

    /// A settled tag of this place was read, so many epochs after its read before.
    pub fn learn_rate(&mut self, epochs: u32) {
        let (reads, all) = self.rate;
        self.rate = (reads + 1.0, all + epochs.min(GAP_EPOCHS) as f32);
        if self.rate.1 > RATE_EPOCHS.1 {
            self.rate = (self.rate.0 / 2.0, self.rate.1 / 2.0);
        }
    }

    /// Rate with which its tags are read, per epoch, once enough is known.
    pub fn rate(&self) -> Option<f64> {
        let (reads, all) = self.rate;
        (all >= RATE_EPOCHS.0).then(|| f64::from(reads / all))
    }
}

/// What is known of how one antenna hears the tags of another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pair {
    /// Reads by the other antenna of tags that are settled at the first.
    reads: f32,
    /// Reads by the first one of such tags when this pair was begun.
    since: f32,
    /// How far weaker, in 1/100 dB.
    weaker_cdb: f32,
}

/// A reader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reader {
    /// Its antennas by port.
    ports: Vec<(u16, AntennaNo)>,
    /// Time it listened, in microseconds: with patience up to its newest frame, without until it ran on.
    listened_us: i64,
    /// When its newest frame was taken.
    last: Option<HubTime>,
    /// Without patience: since when its clock runs on.
    since: HubTime,
    /// Without patience: how late its newest frame came, in microseconds.
    late_us: i64,
    /// Its last frame's patience; `None` = it always listens.
    patience_us: Option<i64>,
    stopped: bool,
    /// Newest number of its events.
    pub last_number: Option<u64>,
}

impl Reader {
    /// Whether its clock runs at a moment, as far as is known then.
    fn is_listening(&self, now: HubTime) -> bool {
        match self.patience_us {
            None => !self.stopped,
            Some(patience) => {
                !self.stopped && self.last.is_some_and(|last| now.since_us(last) <= patience)
            }
        }
    }

    /// How long it had listened at a moment, in microseconds.
    fn clock_us(&self, at: HubTime) -> i64 {
        match self.patience_us {
            Some(_) => {
                let behind = self.last.map_or(0, |last| last.since_us(at));
                self.listened_us - behind.max(0)
            }
            None if self.stopped => self.listened_us,
            None => self.listened_us + at.since_us(self.since),
        }
    }

    /// How long it has listened, as far as its frames tell.
    fn newest_us(&self, now: HubTime) -> i64 {
        self.clock_us(HubTime(now.0.saturating_sub(self.late_us))).max(0)
    }

    /// Without patience its clock stood until a moment, or stands from it on.
    fn turn(&mut self, on: bool, at: HubTime) {
        if self.stopped != on {
            return;
        }
        if self.patience_us.is_none() && !on {
            self.listened_us = self.newest_us(at);
        }
        self.since = at;
        self.stopped = !on;
    }
}

/// Every reader of a facility.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Readers {
    readers: BTreeMap<DeviceId, Reader>,
    antennas: Vec<Antenna>,
    pairs: BTreeMap<(AntennaNo, AntennaNo), Pair>,
}

impl Readers {
    /// A reader's antennas are these from now on. Antennas keep their number, and what was learned of them while they look at
    /// the same place.
    pub fn specify(&mut self, device: &DeviceId, specs: &[AntennaSpec], now: HubTime) {
        let mut known = self.readers.remove(device).unwrap_or(Reader {
            ports: Vec::new(),
            listened_us: 0,
            last: None,
            since: now,
            late_us: 0,
            patience_us: None,
            stopped: false,
            last_number: None,
        });
        for (port, number) in std::mem::take(&mut known.ports) {
            let Some(antenna) = self.antennas.get(usize::from(number)) else { continue };
            if specs.contains(&antenna.spec) {
                known.ports.push((port, number));
            } else {
                self.pairs.retain(|(home, other), _| *home != number && *other != number);
            }
        }
        for spec in specs {
            let is_new = !known.ports.iter().any(|(port, _)| *port == spec.port);
            if is_new && self.antennas.len() < ANTENNAS_MAX {
                known.ports.push((spec.port, self.antennas.len() as AntennaNo));
                self.antennas.push(Antenna::new(device.clone(), spec.clone()));
            }
        }
        self.readers.insert(device.clone(), known);
    }

    /// Every antenna, to be given the number of its zone.
    pub fn antennas_mut(&mut self) -> impl Iterator<Item = &mut Antenna> {
        self.antennas.iter_mut()
    }

    pub fn antenna(&self, number: AntennaNo) -> Option<&Antenna> {
        self.antennas.get(usize::from(number))
    }

    pub fn antenna_mut(&mut self, number: AntennaNo) -> Option<&mut Antenna> {
        self.antennas.get_mut(usize::from(number))
    }

    pub fn reader_mut(&mut self, device: &DeviceId) -> Option<&mut Reader> {
        self.readers.get_mut(device)
    }

    /// The antenna at a port that looks somewhere.
    pub fn bound(&self, device: &DeviceId, port: u16) -> Option<AntennaNo> {
        let reader = self.readers.get(device)?;
        reader.ports.iter().find(|(own, _)| *own == port).map(|(_, number)| *number)
    }

    /// Whether a zone has an antenna that looks outside.
    pub fn looks_outside(&self, zone: &ZoneId) -> bool {
        let bound = self.readers.values().flat_map(|reader| &reader.ports);
        bound
            .filter_map(|(_, number)| self.antenna(*number))
            .any(|antenna| antenna.spec.outside && antenna.spec.zone == *zone)
    }

    /// A frame of a reader came, taken at a time; its clock runs on. `late_us` is how late it came, where it tells.
    pub fn frame(
        &mut self,
        device: &DeviceId,
        taken: HubTime,
        patience_ms: Option<u32>,
        late_us: Option<i64>,
    ) {
        let Some(reader) = self.readers.get_mut(device) else { return };
        let patience_us = patience_ms.map(|ms| i64::from(ms) * 1_000);
        if reader.patience_us.is_none() != patience_us.is_none() {
            // The clock of the other kind goes on from where this one is.
            (reader.listened_us, reader.since) = (reader.newest_us(taken), taken);
        }
        reader.patience_us = patience_us;
        match (patience_us, reader.last) {
            (None, _) => reader.late_us = late_us.unwrap_or(reader.late_us),
            (Some(patience), Some(last)) => {
                let gap = taken.since_us(last);
                if !reader.stopped && (0..=patience).contains(&gap) {
                    reader.listened_us += gap;
                }
            }
            (Some(_), None) => {}
        }
        reader.last = reader.last.max(Some(taken));
    }

    /// A reader began to listen, or listens no more.
    pub fn listen(&mut self, device: &DeviceId, on: bool, at: HubTime) {
        if let Some(reader) = self.readers.get_mut(device) {
            reader.turn(on, at);
        }
    }

    /// For so long nobody heard what readers said; those that show no signs of life did not listen.
    pub fn pause(&mut self, us: i64) {
        for reader in self.readers.values_mut().filter(|reader| reader.patience_us.is_none()) {
            reader.since = reader.since.plus_us(us);
        }
    }

    /// An antenna is connected or disconnected. False when that is known already, or nobody cares where it looks.
    pub fn plug(&mut self, device: &DeviceId, port: u16, connected: bool, at: HubTime) -> bool {
        let Some(number) = self.bound(device, port) else { return false };
        let is_down = self.antenna(number).is_some_and(|antenna| antenna.down_at_us.is_some());
        self.plug_at(number, connected, at);
        is_down == connected
    }

    fn plug_at(&mut self, number: AntennaNo, connected: bool, at: HubTime) {
        let Some(antenna) = self.antennas.get_mut(usize::from(number)) else { return };
        let Some(reader) = self.readers.get(&antenna.device) else { return };
        let clock = reader.clock_us(at).max(0);
        match (antenna.down_at_us, connected) {
            (None, false) => antenna.down_at_us = Some(clock),
            (Some(since), true) => {
                antenna.missed_us += (clock - since).max(0);
                antenna.down_at_us = None;
            }
            (None, true) | (Some(_), false) => {}
        }
    }

    /// An antenna heard something at a moment: it is connected, if it was thought to be disconnected before that.
    pub fn hears(&mut self, number: AntennaNo, at: HubTime) {
        let Some(antenna) = self.antenna(number) else { return };
        let Some(since) = antenna.down_at_us else { return };
        let clock = self.readers.get(&antenna.device).map_or(0, |reader| reader.clock_us(at));
        if clock > since {
            self.plug_at(number, true, at);
        }
    }

    /// Epochs an antenna had listened `ago_us` before now, as far as frames tell.
    pub fn epoch(&self, number: AntennaNo, now: HubTime, ago_us: i64) -> u32 {
        let Some(antenna) = self.antenna(number) else { return 0 };
        let Some(reader) = self.readers.get(&antenna.device) else { return 0 };
        let ago_us = ago_us.max(reader.late_us);
        let clock = reader.clock_us(HubTime(now.0.saturating_sub(ago_us)));
        let clock = antenna.down_at_us.map_or(clock, |down| clock.min(down));
        let listened = clock - antenna.missed_us;
        u32::try_from(listened.div_euclid(EPOCH_US).max(0)).unwrap_or(u32::MAX)
    }

    /// Whether an antenna listens, as far as is known now.
    pub fn listens(&self, number: AntennaNo, now: HubTime) -> bool {
        let Some(antenna) = self.antenna(number) else { return false };
        antenna.down_at_us.is_none()
            && self.readers.get(&antenna.device).is_some_and(|reader| reader.is_listening(now))
    }

    /// A tag that is settled at one antenna was read by another.
    pub fn learn_pair(&mut self, home: AntennaNo, other: AntennaNo, weaker_cdb: Option<f32>) {
        let own = self.antenna(home).map_or(0.0, |antenna| antenna.own_reads);
        if self.pairs.len() >= PAIRS_MAX && !self.pairs.contains_key(&(home, other)) {
            return;
        }
        let pair = self.pairs.entry((home, other)).or_insert(Pair {
            reads: 0.0,
            since: own,
            weaker_cdb: WEAKER_CDB,
        });
        pair.reads += 1.0;
        if let Some(weaker) = weaker_cdb {
            let share = 1.0 / (pair.reads + 20.0).min(500.0);
            let (low, high) = WEAKER_RANGE_CDB;
            pair.weaker_cdb += (weaker.clamp(low, high) - pair.weaker_cdb) * share;
        }
        if own - pair.since > PAIR_READS_MAX {
            pair.reads /= 2.0;
            pair.since += (own - pair.since) / 2.0;
        }
    }

    /// How often a home antenna reads its tags for each read by another one, and how much weaker that one hears them, in
    /// 1/100 dB.
    pub fn pair(&self, home: AntennaNo, other: AntennaNo) -> (f64, f32) {
        let own = self.antenna(home).map_or(0.0, |antenna| antenna.own_reads);
        let (cross, since, weaker) = match self.pairs.get(&(home, other)) {
            Some(pair) => (pair.reads, pair.since, pair.weaker_cdb),
            None => (0.0, own, WEAKER_CDB),
        };
        let ratio = (own - since + PAIR_PRIOR.0) / (cross + PAIR_PRIOR.1);
        (f64::from(ratio), weaker)
    }

    /// Every pair that was learned: home, other, reads of the home antenna a read of the other, how much weaker in 1/100 dB.
    pub fn pairs(&self) -> impl Iterator<Item = (&Antenna, &Antenna, f64, f32)> {
        self.pairs.keys().filter_map(|(home, other)| {
            let (ratio, weaker) = self.pair(*home, *other);
            Some((self.antenna(*home)?, self.antenna(*other)?, ratio, weaker))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> (Readers, DeviceId) {
        let device = DeviceId::parse("gate").unwrap();
        let zone = ZoneId::parse("dock").unwrap();
        let mut readers = Readers::default();
        let spec = |port| AntennaSpec { port, zone: zone.clone(), slot: None, outside: false };
        readers.specify(&device, &[spec(1), spec(2)], HubTime(0));
        (readers, device)
    }

    fn seconds(s: i64) -> HubTime {
        HubTime(s * 1_000_000)
    }

    #[test]
    fn silence_counts_only_while_frames_come() {
        let (mut readers, device) = one();
        for s in 0..=10 {
            readers.frame(&device, seconds(s), Some(5_000), None);
        }
        assert_eq!(readers.epoch(0, seconds(10), 0), 20);
        assert!(readers.listens(0, seconds(12)) && !readers.listens(0, seconds(16)));
        // An hour without a connection, then two frames.
        readers.frame(&device, seconds(3_610), Some(5_000), None);
        readers.frame(&device, seconds(3_612), Some(5_000), None);
        assert_eq!(readers.epoch(0, seconds(3_612), 0), 24);
    }

    #[test]
    fn a_disconnected_antenna_and_a_stopped_reader_do_not_listen() {
        let (mut readers, device) = one();
        readers.frame(&device, seconds(0), Some(5_000), None);
        readers.plug(&device, 2, false, seconds(0));
        readers.frame(&device, seconds(4), Some(5_000), None);
        assert_eq!((readers.epoch(0, seconds(4), 0), readers.epoch(1, seconds(4), 0)), (8, 0));
        readers.plug(&device, 2, true, seconds(4));
        readers.frame(&device, seconds(6), Some(5_000), None);
        assert_eq!((readers.epoch(0, seconds(6), 0), readers.epoch(1, seconds(6), 0)), (12, 4));
        readers.listen(&device, false, seconds(6));
        readers.frame(&device, seconds(9), Some(5_000), None);
        assert_eq!(readers.epoch(0, seconds(9), 0), 12);
    }

    #[test]
    fn a_reader_without_signs_of_life_always_listens() {
        let (mut readers, device) = one();
        readers.frame(&device, seconds(1), None, None);
        assert_eq!(readers.epoch(0, seconds(100), 0), 200);
        assert_eq!(readers.epoch(0, seconds(100), 1_000_000), 198);
    }

    #[test]
    fn what_is_learned_of_a_pair_stays_in_range() {
        let (mut readers, _) = one();
        assert_eq!(readers.pair(0, 1), (4.0, WEAKER_CDB));
        for _ in 0..1_000 {
            readers.antenna_mut(0).unwrap().learn(Some(-5_000));
            readers.learn_pair(0, 1, Some(5_000.0));
        }
        let (ratio, weaker) = readers.pair(0, 1);
        assert!((1.0..1.2).contains(&ratio), "{ratio}");
        assert!((WEAKER_RANGE_CDB.0..=WEAKER_RANGE_CDB.1).contains(&weaker));
        assert!(readers.antenna(0).unwrap().usual_cdbm > -5_100.0);
        // An antenna that looks elsewhere starts anew.
        let spec = AntennaSpec {
            port: 1,
            zone: ZoneId::parse("other").unwrap(),
            slot: None,
            outside: false,
        };
        readers.specify(&DeviceId::parse("gate").unwrap(), &[spec], HubTime(0));
        assert_eq!(readers.pair(0, 1), (4.0, WEAKER_CDB));
        assert_eq!(readers.bound(&DeviceId::parse("gate").unwrap(), 2), None);
    }
}
