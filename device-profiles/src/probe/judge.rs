//! The judge: does a profile read this device?
//!
//! It looks at several images that the profile's own polls brought, and gathers reasons with points: masses that can be what
//! lies there, bits that vouch, a counter that moves. One reason against is enough to doubt, because a profile that reads
//! another make mostly reads zeros, and zeros contradict little.

use std::collections::BTreeMap;

use super::{Expected, grams};
use crate::{
    codec::decode,
    ids::{Channel, ProfileId},
    modbus::{Image, ModbusMap, Test},
    profile::{Kind, Profile, ScaleMap, WeightCells},
    reading::{CellFault, Measurement},
    units::Milligrams,
};

/// Points from which a profile without a reason against it fits.
const FITS_POINTS: i32 = 4;
/// A mass that holds still moves by so many milligrams at most …
const STEADY_MG: i64 = 2_000;
/// … or by so many thousandths of itself.
const STEADY_PERMILLE: i64 = 10;

/// One look at a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Milliseconds since the first.
    pub at_ms: u64,
    /// The stream.
    pub stream: String,
    /// The register image.
    pub image: Vec<u8>,
}

/// How well a profile reads a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Much speaks for it, nothing against it.
    Fits,
    /// Something speaks for it.
    Doubtful,
    /// It reads another device.
    Unfit,
}

impl Verdict {
    /// Stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::Doubtful => "doubtful",
            Self::Unfit => "unfit",
        }
    }
}

/// Something that speaks for or against a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Above zero for, below against it.
    pub points: i32,
    /// In words.
    pub text: String,
}

/// What a scale showed, at the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleSeen {
    /// Its channel.
    pub channel: Channel,
    /// Its mass.
    pub mass: Milligrams,
    /// Smallest and largest mass of all looks.
    pub span: (Milligrams, Milligrams),
    /// The device's own stability flag.
    pub stable: Option<bool>,
    /// What the device says is wrong.
    pub fault: Option<CellFault>,
}

/// A profile as a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Its name.
    pub profile: ProfileId,
    /// The verdict.
    pub verdict: Verdict,
    /// Sum of the reasons.
    pub points: i32,
    /// Why, what weighs most first.
    pub reasons: Vec<Reason>,
    /// What its scales showed.
    pub scales: Vec<ScaleSeen>,
}

impl Judgement {
    /// Of a profile whose poll the device refuses.
    pub fn unreadable(profile: &Profile, why: &str) -> Self {
        Self::of(profile, vec![Reason { points: -10, text: why.to_owned() }], Vec::new())
    }

    fn of(profile: &Profile, mut reasons: Vec<Reason>, scales: Vec<ScaleSeen>) -> Self {
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.points.abs()));
        let points = reasons.iter().map(|reason| reason.points).sum();
        let against = reasons.iter().any(|reason| reason.points < 0);
        let verdict = match points {
            ..=0 => Verdict::Unfit,
            FITS_POINTS.. if !against => Verdict::Fits,
            _ => Verdict::Doubtful,
        };
        Self { profile: profile.name.clone(), verdict, points, reasons, scales }
    }

    /// Sorts candidates, best first. How many share the first place is told, because then nothing decides between them.
    pub fn rank(candidates: &mut [Self]) -> usize {
        candidates.sort_by(|a, b| {
            let key = |c: &Self| (c.verdict, std::cmp::Reverse(c.points));
            key(a).cmp(&key(b)).then_with(|| a.profile.cmp(&b.profile))
        });
        let Some(best) = candidates.first() else { return 0 };
        let equal = |c: &&Self| c.verdict == best.verdict && c.points == best.points;
        candidates.iter().filter(equal).count()
    }
}

/// Judges a profile by what its polls brought, in the order of time.
pub fn judge(profile: &Profile, looks: &[Look], expected: Expected) -> Judgement {
    let Some(map) = &profile.modbus else {
        return Judgement::unreadable(profile, "it has no register map");
    };
    let mut case = Case { map, expected, reasons: Vec::new() };
    let mut seen: BTreeMap<Channel, ScaleSeen> = BTreeMap::new();
    for look in looks {
        match decode(profile, &look.stream, &look.image) {
            Ok(reading) => note(&mut seen, &reading.measurements),
            Err(reject) => {
                let why = format!("what it reads cannot be: {reject}");
                return Judgement::unreadable(profile, &why);
            }
        }
    }
    if looks.iter().all(|look| is_empty(&look.image)) {
        case.add(-3, "every register that it reads is 0");
    }
    case.heartbeat(looks);
    let scales: Vec<ScaleSeen> = seen.into_values().collect();
    if let Some(focus) = case.focus(&scales) {
        case.mass(focus);
        if let Some((stream, scale)) = scale_map(profile, &focus.channel) {
            let last = looks.iter().rfind(|look| look.stream == stream);
            case.status(focus, scale, last.map(|look| look.image.as_slice()));
        }
    } else if !looks.is_empty() {
        case.add(1, "every field that it reads is a number");
    }
    Judgement::of(profile, case.reasons, scales)
}

fn note(seen: &mut BTreeMap<Channel, ScaleSeen>, measurements: &[Measurement]) {
    for measurement in measurements {
        let Measurement::Weight { channel, mass, stable, fault } = measurement else { continue };
        let (least, most) = seen.get(channel).map_or((*mass, *mass), |scale| scale.span);
        let span = (least.min(*mass), most.max(*mass));
        let scale = ScaleSeen {
            channel: channel.clone(),
            mass: *mass,
            span,
            stable: *stable,
            fault: *fault,
        };
        seen.insert(channel.clone(), scale);
    }
}

fn is_empty(image: &[u8]) -> bool {
    Image::parse(image)
        .is_ok_and(|image| image.blocks().iter().all(|block| block.words().all(|w| w == 0)))
}

/// Stream and map of the scale with this channel.
fn scale_map<'a>(profile: &'a Profile, channel: &Channel) -> Option<(&'a str, &'a ScaleMap)> {
    profile.streams.iter().find_map(|(name, stream)| {
        let Kind::Weight(weight) = &stream.kind else { return None };
        let WeightCells::Registers(scales) = &weight.cells else { return None };
        Some((name.as_str(), scales.iter().find(|scale| scale.channel == *channel)?))
    })
}

struct Case<'a> {
    map: &'a ModbusMap,
    expected: Expected,
    reasons: Vec<Reason>,
}

impl Case<'_> {
    fn add(&mut self, points: i32, text: impl Into<String>) {
        self.reasons.push(Reason { points, text: text.into() });
    }

    /// The scale that the verdict rests on: the one that shows what lies there, else the one that shows most.
    fn focus<'s>(&self, scales: &'s [ScaleSeen]) -> Option<&'s ScaleSeen> {
        let rank = |scale: &&ScaleSeen| {
            let allowed = self.expected != Expected::Nothing && self.expected.allows(scale.mass);
            (scale.fault.is_none() && allowed, scale.mass.0.unsigned_abs())
        };
        // Of equal ones the first channel.
        scales.iter().rev().max_by_key(rank)
    }

    fn mass(&mut self, scale: &ScaleSeen) {
        let shown = format!("scale {} shows {}", scale.channel, grams(scale.mass));
        let empty = scale.mass == Milligrams::ZERO;
        match self.expected {
            Expected::Known(known) if self.expected.allows(scale.mass) => {
                self.add(6, format!("{shown}, and {} lie on it", grams(known)));
            }
            Expected::Known(known) => {
                self.add(-6, format!("{shown}, though {} lie on it", grams(known)));
            }
            Expected::Between(..) if !self.expected.allows(scale.mass) => {
                self.add(-5, format!("{shown}, which lies outside the range"));
            }
            Expected::Between(..) if !empty => {
                self.add(3, format!("{shown}, which lies in the range"));
            }
            Expected::Nothing if !empty => self.add(1, format!("{shown}, which a scale may")),
            Expected::Nothing | Expected::Between(..) => {
                self.add(0, format!("{shown}, as would any register that is not used"));
            }
        }
        let (least, most) = scale.span;
        let moved = most.saturating_sub(least);
        let may = (scale.mass.0.saturating_abs() / 1_000 * STEADY_PERMILLE).max(STEADY_MG);
        if moved.0 > may {
            self.add(-2, format!("the mass jumped by {} between reads", grams(moved)));
        } else if !empty {
            self.add(1, "the mass holds still from read to read");
        }
    }

    fn status(&mut self, seen: &ScaleSeen, scale: &ScaleMap, image: Option<&[u8]>) {
        match (seen.fault, seen.stable, &scale.stable) {
            (Some(fault), _, _) => {
                let text = format!("its status says {}: broken, or not its status", fault.as_str());
                self.add(-4, text);
            }
            (None, Some(true), Some(test)) => {
                let (points, bit) = if test.not { (1, "clear") } else { (2, "set") };
                self.add(points, format!("the bit that says \"moving or still\" is {bit}: still"));
            }
            (None, Some(false), _) => {
                self.add(-1, "its status says that the mass moves");
            }
            (None, _, _) => {}
        }
        // A bit that must be set for all to be well is worth as much as any: unused registers have it clear.
        let vouching = scale.faults.iter().filter(|(test, _)| test.not);
        let Some(image) = image.and_then(|image| Image::parse(image).ok()) else { return };
        let sound = |test: &Test| test.holds(&self.map.fields, &image) == Ok(false);
        if vouching.into_iter().any(|(test, _)| sound(test)) {
            self.add(1, "the bit by which it vouches for its data is set");
        }
    }

    fn heartbeat(&mut self, looks: &[Look]) {
        let Some(heartbeat) = &self.map.heartbeat else { return };
        let Some(field) = self.map.fields.get(&heartbeat.field) else { return };
        let counts: Vec<(u64, u64)> = looks
            .iter()
            .filter_map(|look| {
                let image = Image::parse(&look.image).ok()?;
                Some((look.at_ms, field.bits(&image)?))
            })
            .collect();
        let (Some(first), Some(last)) = (counts.first(), counts.last()) else { return };
        let name = &heartbeat.field;
        let steps = || counts.iter().zip(counts.iter().skip(1)).map(|((_, a), (_, b))| (a, b));
        if counts.iter().any(|(_, count)| *count != first.1) {
            // It goes up, and around once at most; the last digit of a mass goes up and down.
            if steps().filter(|(a, b)| b < a).count() <= 1 && steps().all(|(a, b)| a != b) {
                self.add(3, format!("its counter ({name}) counts"));
            }
        } else if last.0 - first.0 >= u64::from(heartbeat.still_ms) {
            self.add(-5, format!("its counter ({name}) stands still"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        modbus::{ImageWriter, Table},
        shipped::shipped,
    };

    fn profile(name: &str) -> Profile {
        Profile::parse(shipped(name).unwrap()).unwrap()
    }

    /// Looks 400 ms apart at registers that hold what `word` says at a look.
    fn looks(profile: &Profile, word: impl Fn(u64, u16) -> u16) -> Vec<Look> {
        let poll = profile.streams["weight"].poll.as_ref().unwrap();
        let look = |at_ms: u64| {
            let mut image = ImageWriter::default();
            for request in &poll.requests {
                let words: Vec<u16> = (request.start..)
                    .take(request.count.into())
                    .map(|at| word(at_ms, at))
                    .collect();
                image.words(Table::Holding, request.start, &words);
            }
            Look { at_ms, stream: "weight".into(), image: image.finish() }
        };
        (0..4).map(|i| look(i * 400)).collect()
    }

    #[test]
    fn a_laumas_is_known_by_its_bits_and_its_weight() {
        let laumas = profile("laumas-tlb");
        let held = |_, at| match at {
            6 => 0x0800,
            8 => 1_500,
            _ => 0,
        };
        let looks = looks(&laumas, held);
        let known = |grams: i64| Expected::Known(Milligrams(grams * 1_000));
        let judged = judge(&laumas, &looks, known(1_500));
        assert_eq!(judged.verdict, Verdict::Fits, "{judged:#?}");
        assert!(judged.reasons[0].text.contains("1500 g"), "{judged:#?}");
        assert_eq!(judge(&laumas, &looks, known(700)).verdict, Verdict::Unfit);
        let range = Expected::Between(Milligrams(0), Milligrams(30_000_000));
        assert_eq!(judge(&laumas, &looks, range).verdict, Verdict::Fits);
        assert_eq!(judge(&laumas, &looks, Expected::Nothing).verdict, Verdict::Fits);
    }

    #[test]
    fn zeros_speak_for_nobody() {
        for (name, text) in crate::shipped::SHIPPED {
            let profile = Profile::parse(text).unwrap();
            if profile.modbus.is_some() {
                let judged = judge(&profile, &looks(&profile, |_, _| 0), Expected::Nothing);
                assert_eq!(judged.verdict, Verdict::Unfit, "{name}: {judged:#?}");
            }
        }
    }

    #[test]
    fn a_counter_that_stands_still_and_a_broken_cell_speak_against() {
        let flintec = profile("flintec-ft-112");
        let held = |ms: u64, at: u16, errors: u16, beats: bool| match at {
            5 => 1_500,
            6 => 0x1800,
            9 => errors,
            11 if beats => (ms / 100) as u16,
            _ => 0,
        };
        let known = Expected::Known(Milligrams(1_500_000));
        let with = |errors, beats| {
            judge(&flintec, &looks(&flintec, |ms, at| held(ms, at, errors, beats)), known)
        };
        assert_eq!(with(0, true).verdict, Verdict::Fits);
        assert_ne!(with(0, false).verdict, Verdict::Fits);
        let broken = with(1 << 5, true);
        assert_ne!(broken.verdict, Verdict::Fits);
        assert!(broken.reasons.iter().any(|r| r.text.contains("cell")), "{broken:#?}");
    }

    #[test]
    fn equal_candidates_are_counted() {
        let candidate = |name: &str, points| {
            let reasons = vec![Reason { points, text: String::new() }];
            Judgement::of(&profile(name), reasons, Vec::new())
        };
        let mut all = [
            candidate("tuna-id551pn", 1),
            candidate("laumas-tlb", 6),
            candidate("baykon-mx08", 6),
            candidate("seneca-z-sg", -2),
        ];
        assert_eq!(Judgement::rank(&mut all), 2);
        let names: Vec<&str> = all.iter().map(|c| c.profile.as_str()).collect();
        assert_eq!(names, ["baykon-mx08", "laumas-tlb", "tuna-id551pn", "seneca-z-sg"]);
        assert_eq!(Judgement::rank(&mut []), 0);
    }

    #[test]
    fn a_profile_that_cannot_be_read_is_unfit() {
        let laumas = profile("laumas-tlb");
        let judged = Judgement::unreadable(&laumas, "illegal data address");
        assert_eq!(judged.verdict, Verdict::Unfit);
        let garbage = [Look { at_ms: 0, stream: "weight".into(), image: vec![9] }];
        assert_eq!(judge(&laumas, &garbage, Expected::Nothing).verdict, Verdict::Unfit);
    }
}
