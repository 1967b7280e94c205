//! What reaches a tag, whether it answers, and how strong the answer is heard.

use super::path::{Point, distance};
use super::scenario::{GeometrySpec, PositionSpec};
use crate::random::Stream;

/// Path loss over the first metre at 915 MHz, dB.
const FIRST_METRE_DB: f64 = 31.7;
/// Nothing is nearer to an antenna, metres.
const NEAREST_M: f64 = 0.3;
/// What a circular antenna loses to a straight one, dB; what a tag's own antenna gains, dBi; what modulation takes, dB.
const POLARISATION_DB: f64 = 3.0;
const TAG_GAIN_DBI: f64 = 2.0;
const MODULATION_DB: f64 = 6.0;
/// Behind an antenna it hears so much less, dB.
const BACK_DB: f64 = 20.0;
/// Spread of RSSI between reads of the same signal, dB.
const RSSI_SIGMA_DB: f64 = 1.0;
/// Share of the rounds' spread that is in the signal; the rest is luck in decoding, which RSSI does not show.
const SIGNAL_SHARE: f64 = 0.3;
/// Draws of a signal that must be strong enough to be read.
const DRAWS_MAX: usize = 16;

/// Power of an antenna's signal at a point, dBm, free of everything but distance and angle.
pub(super) fn power_at(spec: &GeometrySpec, antenna: &PositionSpec, at: Point) -> f64 {
    let far = distance(antenna.at, at).max(NEAREST_M);
    let ahead = distance(antenna.at, antenna.goods).max(NEAREST_M);
    let cosine: f64 =
        (0..3).map(|i| (at[i] - antenna.at[i]) * (antenna.goods[i] - antenna.at[i])).sum::<f64>()
            / (far * ahead);
    let angle_db = (-20.0 * cosine.max(0.0).log10()).min(BACK_DB);
    let loss = FIRST_METRE_DB + 10.0 * spec.path_exponent * far.log10();
    spec.power_dbm + spec.gain_dbi + TAG_GAIN_DBI - POLARISATION_DB - angle_db - loss
}

/// By how many spreads a power is above what lets a tag answer half of the time.
fn margin(spec: &GeometrySpec, power_dbm: f64) -> f64 {
    (power_dbm - spec.sensitivity_dbm) / spec.round_sigma_db
}

/// Probability that a tag with this power answers: a normal distribution around the sensitivity, by its logistic likeness.
pub(super) fn answers(spec: &GeometrySpec, power_dbm: f64) -> f64 {
    1.0 / (1.0 + (-1.702 * margin(spec, power_dbm)).exp())
}

/// RSSI of a read of a tag with this power on average, dBm. It was read, so that its signal was rather stronger where the average
/// is too weak: a normal distribution cut off at the sensitivity.
pub(super) fn rssi_dbm(spec: &GeometrySpec, power_dbm: f64, draw: &mut Stream) -> f64 {
    let margin = margin(spec, power_dbm);
    // Far below, what is left of the distribution is nearly exponential.
    let tail = |draw: &mut Stream| -(1.0 - draw.uniform(0.0, 1.0)).ln() / (1.0 - margin.min(0.0));
    let above = if margin > -0.5 {
        let drawn = (0..DRAWS_MAX).map(|_| margin + draw.normal(1.0)).find(|above| *above > 0.0);
        drawn.unwrap_or_else(|| tail(draw))
    } else {
        tail(draw)
    };
    let signal = (1.0 - SIGNAL_SHARE) * margin + SIGNAL_SHARE * above;
    let had_dbm = spec.sensitivity_dbm + signal * spec.round_sigma_db;
    // There and back.
    2.0 * had_dbm - spec.power_dbm - MODULATION_DB + draw.normal(RSSI_SIGMA_DB)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AHEAD: PositionSpec =
        PositionSpec { at: [0.0, 0.0, 2.0], goods: [2.0, 0.0, 2.0], spread: [0.0; 3] };

    #[test]
    fn power_falls_with_distance_and_angle() {
        let spec = GeometrySpec::default();
        let at = |point| power_at(&spec, &AHEAD, point);
        // The first metre, then 22 dB for each decade.
        let first =
            spec.power_dbm + spec.gain_dbi + TAG_GAIN_DBI - POLARISATION_DB - FIRST_METRE_DB;
        assert!((at([1.0, 0.0, 2.0]) - first).abs() < 1e-9);
        assert!((at([1.0, 0.0, 2.0]) - at([10.0, 0.0, 2.0]) - 22.0).abs() < 1e-9);
        // Sixty degrees aside is half the field, a quarter of the power; behind there is little.
        let aside = at([0.5, 0.75_f64.sqrt(), 2.0]);
        assert!((first - aside - 6.02).abs() < 0.01);
        assert!((first - at([-1.0, 0.0, 2.0]) - BACK_DB).abs() < 1e-9);
    }

    #[test]
    fn tags_answer_by_their_margin() {
        let spec = GeometrySpec::default();
        assert!((answers(&spec, spec.sensitivity_dbm) - 0.5).abs() < 1e-9);
        // One spread below: the normal distribution says 0.159.
        let weak = answers(&spec, spec.sensitivity_dbm - spec.round_sigma_db);
        assert!((weak - 0.159).abs() < 0.01, "{weak}");
    }

    #[test]
    fn rssi_falls_with_power_without_a_step() {
        let spec = GeometrySpec::default();
        let mut draw = Stream::new(1, "test", 0);
        let mut mean = |margin: f64| {
            let power = spec.sensitivity_dbm + margin * spec.round_sigma_db;
            (0..20_000).map(|_| rssi_dbm(&spec, power, &mut draw)).sum::<f64>() / 20_000.0
        };
        let means: Vec<f64> = (-12..=12).map(|i| mean(f64::from(i) / 4.0)).collect();
        // A quarter of a spread is 1.25 dB of power, 2.5 dB there and back.
        for pair in means.windows(2) {
            assert!((1.0..3.2).contains(&(pair[1] - pair[0])), "{means:?}");
        }
    }
}
