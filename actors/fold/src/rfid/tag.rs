//! One tag: what is believed of it, where it is, and what speaks for another place.
//!
//! *Presence* is a filter for each zone that heard it lately ([`Track`]); one at most is its home. *Place* is a competition of
//! antennas, decided by two rules. The fast one is a change detector for each rival ([`Hear::odds`], a CUSUM): each read
//! multiplies the odds that the tag is at the rival now, by how the signal differs from the tag's own usual signal there and
//! by how rare reads by the rival were. Reads at its place lower the odds; they never fall below even, so that a change shows
//! as soon as it comes. A tag that two antennas always heard changes nothing by being heard; three reads that are stronger
//! than ever do. The slow rule ([`TagState::is_better`]) corrects what was wrong from the start: in the long run the place is
//! where the tag is heard best.
//!
//! A tag costs the fold nothing while nothing happens to it, and some 400 bytes, its place in the calendar included.

use device_profiles::{Sku, SlotId, Tag};
use serde::{Deserialize, Serialize};

use super::{
    presence::{Presence, Rules, weight_of},
    reader::{AntennaNo, NOWHERE},
};
use crate::entry::HubTime;

/// Antennas remembered a tag.
pub(crate) const HEARS_MAX: usize = 4;
/// Zones followed a tag at once.
pub(crate) const TRACKS_MAX: usize = 3;
/// Offsets of reads remembered a tag, to be named as evidence.
const EVIDENCE_MAX: usize = 2;
/// Odds are held below this, so that a tag can come back.
const ODDS_MAX: f32 = 10_000_000.0;
/// Most that a read by a rival counts because such reads are rare.
const RARITY_MAX: f64 = 4.0;
/// Reads that the assumed signal of a rival, and of the place itself, are worth.
const ASSUMED_READS: (f32, f32) = (5.0, 2.0);
/// Reads by the antenna of its place after which older ones count half.
const READS_MAX: u16 = 64;
/// Reads by the rival that the slow rule wants.
const BETTER_READS: u16 = 24;
/// How much better the slow rule wants it heard, in 1/100 dB.
const BETTER_CDB: f32 = 300.0;
/// What a read by a rival counts more while the antenna of the tag's place is silent for more than an epoch.
const SILENT_HOME: f64 = 1.8;
/// Share of the gain above which a signal speaks for the rival: what fades in seldom gains all of it.
const GAIN_SHARE: f32 = 0.55;
/// A rival that hears a tag by less than this weaker than its place cannot be told by strength, in 1/100 dB.
const GAIN_CDB: f32 = 600.0;

/// What is told of a tag's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    /// Heard, and not believed yet.
    Unknown,
    /// Told as present.
    Present,
    /// Told as departed.
    Departed,
}

/// Presence in one zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Track {
    /// Number of the zone.
    pub zone: u16,
    /// The antenna that heard it last; its clock counts the epochs.
    pub antenna: AntennaNo,
    /// Epoch of that antenna up to which the filter stands.
    pub epoch: u32,
    pub presence: Presence,
    /// Epoch of the last read.
    pub heard: u32,
    /// What the epoch's reads gave so far: strongest signal above the usual in 1/100 dB, how many, and their weight.
    above_cdb: Option<f32>,
    reads: u32,
    weight: f32,
}

impl Track {
    pub fn new(zone: u16, antenna: AntennaNo, epoch: u32) -> Self {
        Self {
            zone,
            antenna,
            epoch,
            presence: Presence::absent(),
            heard: epoch,
            above_cdb: None,
            reads: 0,
            weight: 0.0,
        }
    }

    /// Brings the filter to an epoch of its antenna.
    pub fn advance(&mut self, rules: &Rules, epoch: u32) {
        let silent = epoch.saturating_sub(self.epoch);
        if silent > 0 {
            self.presence.silence(rules, silent);
            self.epoch = epoch;
            self.reads = 0;
        }
    }

    /// A read by an antenna in an epoch of its clock, `before` on the clock of the antenna that heard it last. `rarity`
    /// lowers the weight where reads by this antenna are usual without the tag being here.
    pub fn read(
        &mut self,
        rules: &Rules,
        (antenna, epoch): (AntennaNo, u32),
        before: u32,
        (above_cdb, reads): (Option<f32>, u32),
        rarity: f64,
    ) {
        let is_new = self.reads == 0 || before > self.epoch;
        if before > self.epoch + 1 {
            self.presence.silence(rules, before - self.epoch - 1);
        }
        if is_new {
            (self.above_cdb, self.reads) = (above_cdb, reads);
        } else {
            self.above_cdb = match (self.above_cdb, above_cdb) {
                (Some(a), Some(b)) => Some(if a > b { a } else { b }),
                (a, b) => a.or(b),
            };
            self.reads = self.reads.saturating_add(reads);
        }
        let above_db = self.above_cdb.map(|cdb| f64::from(cdb) / 100.0);
        let weight = weight_of(above_db, self.reads) * rarity;
        if is_new {
            self.presence.read(rules, weight);
        } else {
            self.presence.weigh_again(f64::from(self.weight), f64::from(weight as f32));
        }
        self.weight = weight as f32;
        // A late read leaves the filter where it stands, by the clock of the antenna by which it stands there.
        if before >= self.epoch {
            (self.antenna, self.epoch) = (antenna, epoch);
        }
        self.heard = self.epoch;
    }
}

/// The tag was never at home there.
const NEVER: i16 = i16::MIN;
/// Reads at home after which its signal there is remembered.
const HOME_READS: u16 = 8;

/// How one antenna hears the tag.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hear {
    pub antenna: AntennaNo,
    /// Epoch of that antenna in which it was heard last.
    pub epoch: u32,
    /// Mean signal above what is usual for the antenna, in 1/100 dB, since the tag came to its place.
    pub mean_cdb: f32,
    /// Reads since then, older ones counted less.
    reads: u16,
    /// Odds that the tag is at this antenna and not at its place.
    pub odds: f32,
    /// Mean signal when the tag was at home here last, in 1/100 dB; [`NEVER`] when it never was.
    home_cdb: i16,
    /// Signal of the last read above what is usual, in 1/100 dB.
    pub last_cdb: i16,
}

impl Hear {
    const NONE: Self = Self {
        antenna: NOWHERE,
        epoch: 0,
        mean_cdb: 0.0,
        reads: 0,
        odds: 1.0,
        home_cdb: NEVER,
        last_cdb: 0,
    };

    /// Signal of the tag when it is here, above what is usual for the antenna, as far as is known.
    pub fn home_cdb(&self) -> Option<f32> {
        (self.home_cdb != NEVER).then(|| f32::from(self.home_cdb))
    }
}

/// One tag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TagState {
    pub status: Status,
    /// When the status was told.
    pub since: HubTime,
    /// When it came to its place.
    pub placed: HubTime,
    pub last_read: HubTime,
    /// Last read by an antenna that looks inside, unless it came through a door.
    pub last_inside: HubTime,
    /// Its home when it is present, and what else heard it.
    pub track: Track,
    pub more: Vec<Track>,
    pub hears: [Hear; HEARS_MAX],
    /// The antenna at whose place it is, or was last.
    pub place: AntennaNo,
    pub sku: Option<Sku>,
    /// The slot of which it is a unit.
    pub unit_of: Option<SlotId>,
    /// When it is to be looked at.
    pub due: HubTime,
    pub evidence: [u64; EVIDENCE_MAX],
}

/// Chance of a signal at a tag's place over that of a signal at a neighbour, by how far it lies above the middle of both, in
/// whole dB from −10 to 10: e to the 0.3 of it.
const BY_SIDE: [f64; 21] = [
    0.0498, 0.0672, 0.0907, 0.1225, 0.1653, 0.2231, 0.3012, 0.4066, 0.5488, 0.7408, 1.0, 1.3499,
    1.8221, 2.4596, 3.3201, 4.4817, 6.0496, 8.1662, 11.0232, 14.8797, 20.0855,
];

fn by_side(above_db: f32) -> f64 {
    let held = above_db.clamp(-10.0, 10.0) + 10.0;
    // Half up, so that every machine takes the same line.
    let line = (held + 0.5) as usize;
    BY_SIDE.get(line).copied().unwrap_or(1.0)
}

impl TagState {
    pub fn new(track: Track, at: HubTime, sku: Option<Sku>) -> Self {
        Self {
            status: Status::Unknown,
            since: at,
            placed: at,
            last_read: at,
            last_inside: HubTime(0),
            track,
            more: Vec::new(),
            hears: [Hear::NONE; HEARS_MAX],
            place: NOWHERE,
            sku,
            unit_of: None,
            due: HubTime(0),
            evidence: [0; EVIDENCE_MAX],
        }
    }

    /// Every zone that follows it, home first.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        std::iter::once(&self.track).chain(&self.more)
    }

    /// The filter of a zone, made if need be in place of the least likely one.
    pub fn track_of(&mut self, zone: u16, antenna: AntennaNo, epoch: u32) -> &mut Track {
        if self.track.zone == zone {
            return &mut self.track;
        }
        if let Some(at) = self.more.iter().position(|track| track.zone == zone) {
            return &mut self.more[at];
        }
        let new = Track::new(zone, antenna, epoch);
        if self.status != Status::Present && self.track.presence.probability() < 0.01 {
            self.track = new;
            return &mut self.track;
        }
        if self.more.len() + 1 < TRACKS_MAX {
            self.more.reserve_exact(1);
            self.more.push(new);
        } else {
            let least = |a: &Track, b: &Track| {
                a.presence.probability().total_cmp(&b.presence.probability())
            };
            if let Some(least) = self.more.iter_mut().min_by(|a, b| least(a, b)) {
                *least = new;
            }
        }
        let last = self.more.len() - 1;
        match self.more.iter().position(|track| track.zone == zone) {
            Some(at) => &mut self.more[at],
            None => &mut self.more[last],
        }
    }

    /// Makes a followed zone its home.
    pub fn settle(&mut self, zone: u16) {
        if let Some(at) = self.more.iter().position(|track| track.zone == zone) {
            std::mem::swap(&mut self.track, &mut self.more[at]);
        }
    }

    /// Remembers that an entry read it.
    pub fn evident(&mut self, offset: u64) {
        if self.evidence[0] != offset {
            self.evidence.rotate_right(1);
            self.evidence[0] = offset;
        }
    }

    /// Offsets of the entries that read it last, newest first.
    pub fn reads(&self) -> impl Iterator<Item = u64> + '_ {
        self.evidence.iter().copied().filter(|offset| *offset != 0)
    }

    pub fn hear(&self, antenna: AntennaNo) -> Option<&Hear> {
        self.hears.iter().find(|hear| hear.antenna == antenna && antenna != NOWHERE)
    }

    /// The odds of an antenna are this at most.
    pub fn hold_odds(&mut self, antenna: AntennaNo, most: f64) {
        if let Some(hear) = self.hears.iter_mut().find(|hear| hear.antenna == antenna) {
            hear.odds = hear.odds.min(most as f32);
        }
    }

    /// Mean signal of the tag at its place, above the usual there, in 1/100 dB; and reads there.
    fn own(&self) -> (f32, u16) {
        self.hear(self.place).map_or((0.0, 0), |hear| (hear.mean_cdb, hear.reads))
    }

    /// A read by an antenna. `pair` says how an antenna hears the tags of another: home, other → reads of home for each of
    /// the other, how much weaker in 1/100 dB. Returns how much weaker than at its place the tag was heard, where that says
    /// something.
    pub fn hear_at(
        &mut self,
        antenna: AntennaNo,
        (epoch, home_epoch): (u32, u32),
        above_cdb: Option<f32>,
        pair: impl Fn(AntennaNo, AntennaNo) -> (f64, f32),
    ) -> Option<f32> {
        let (own, _) = self.own();
        let last_home = self.hear(self.place).map_or(0, |hear| hear.epoch);
        let place = self.place;
        let known = self.hears.iter().position(|hear| hear.antenna == antenna);
        let at = known.unwrap_or_else(|| self.oldest());
        let is_rival = place != NOWHERE && antenna != place;
        let hear = &mut self.hears[at];
        if known.is_none() {
            let assumed = if is_rival { own + pair(place, antenna).1 } else { 0.0 };
            *hear = Hear { antenna, epoch, mean_cdb: assumed, ..Hear::NONE };
        }
        let is_new = known.is_none() || hear.epoch != epoch;
        hear.epoch = epoch;
        if is_rival && is_new {
            let (ratio, _) = pair(place, antenna);
            let side = above_cdb.map_or(1.0, |above| {
                let gain = (own - hear.mean_cdb).max(GAIN_CDB);
                by_side((above - hear.mean_cdb - gain * GAIN_SHARE) / 100.0)
            });
            let silent = if home_epoch > last_home + 1 { SILENT_HOME } else { 1.0 };
            let odds = f64::from(hear.odds) * side * silent * ratio.clamp(1.0, RARITY_MAX);
            hear.odds = (odds as f32).clamp(1.0, ODDS_MAX);
        }
        if is_new {
            hear.reads = hear.reads.saturating_add(1);
        }
        if let Some(above) = above_cdb {
            hear.last_cdb = above as i16;
            let assumed = if is_rival { ASSUMED_READS.0 } else { ASSUMED_READS.1 };
            hear.mean_cdb += (above - hear.mean_cdb) / (f32::from(hear.reads) + assumed);
        }
        if is_rival {
            return above_cdb.map(|above| above - own);
        }
        if place == antenna && is_new {
            self.heard_at_home(above_cdb, own, pair);
        }
        None
    }

    /// A read at its place: rivals lose by it.
    fn heard_at_home(
        &mut self,
        above_cdb: Option<f32>,
        own: f32,
        pair: impl Fn(AntennaNo, AntennaNo) -> (f64, f32),
    ) {
        let place = self.place;
        let too_many = self.own().1 > READS_MAX;
        for hear in &mut self.hears {
            if too_many {
                hear.reads /= 2;
            }
            if hear.antenna == NOWHERE || hear.antenna == place {
                continue;
            }
            let (ratio, _) = pair(hear.antenna, place);
            let side =
                above_cdb.map_or(1.0, |above| by_side((above - own + GAIN_CDB / 2.0) / 100.0));
            let odds = f64::from(hear.odds) / (side * ratio.clamp(1.0, RARITY_MAX));
            hear.odds = (odds as f32).clamp(1.0, ODDS_MAX);
        }
    }

    /// Where to remember another antenna: instead of the one that hears it least, never that of its place.
    fn oldest(&self) -> usize {
        if let Some(free) = self.hears.iter().position(|hear| hear.antenna == NOWHERE) {
            return free;
        }
        let others = self.hears.iter().enumerate().filter(|(_, hear)| hear.antenna != self.place);
        others.min_by_key(|(_, hear)| (hear.home_cdb != NEVER, hear.reads)).map_or(0, |(at, _)| at)
    }

    /// Whether a rival's odds make it the tag's place.
    pub fn is_drawn_to(&self, antenna: AntennaNo, move_odds: u32) -> bool {
        let wanted = f64::from(move_odds);
        antenna != self.place
            && self.hear(antenna).is_some_and(|hear| f64::from(hear.odds) >= wanted)
    }

    /// Whether a rival hears it better in the long run.
    pub fn is_better(&self, antenna: AntennaNo) -> bool {
        let (own, own_reads) = self.own();
        let better = |hear: &Hear| {
            hear.reads >= BETTER_READS
                && hear.reads >= own_reads
                && hear.mean_cdb > own + BETTER_CDB
        };
        antenna != self.place && self.hear(antenna).is_some_and(better)
    }

    /// It leaves its place: how it was heard there is remembered.
    pub fn leave(&mut self) {
        for hear in &mut self.hears {
            if hear.antenna == self.place && hear.reads >= HOME_READS {
                hear.home_cdb = (hear.mean_cdb as i16).max(NEVER + 1);
            }
        }
        self.place = NOWHERE;
    }

    /// It is at this antenna from now on.
    pub fn put(&mut self, antenna: AntennaNo, at: HubTime) {
        self.leave();
        self.place = antenna;
        self.placed = at;
        for hear in &mut self.hears {
            (hear.odds, hear.reads) = (1.0, 0);
        }
    }
}

/// A tag as a key: small, because nearly every tag has 96 bits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Key {
    Short(u8, [u8; 12]),
    Long(Box<Tag>),
}

impl Key {
    pub fn of(tag: &Tag) -> Self {
        let bytes = tag.bytes();
        match (u8::try_from(tag.bits()), bytes.len() <= 12) {
            (Ok(bits), true) => {
                let mut short = [0; 12];
                for (to, from) in short.iter_mut().zip(bytes) {
                    *to = *from;
                }
                Self::Short(bits, short)
            }
            _ => Self::Long(Box::new(*tag)),
        }
    }

    /// The tag, back.
    pub fn tag(&self) -> Option<Tag> {
        match self {
            Self::Short(bits, bytes) => Tag::of_bits(bytes, u16::from(*bits)).ok(),
            Self::Long(tag) => Some(**tag),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(_, bytes) => bytes,
            Self::Long(tag) => tag.bytes(),
        }
    }
}
