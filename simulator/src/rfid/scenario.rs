//! A scenario of tags: a site with its antennas, groups of tags with their habits, and what either physics needs, in TOML.
//!
//! Unknown keys are refused with their line; names that lead nowhere and values out of range are refused with their key.
//! A scenario is data: world and physics read it and decide nothing that is not written here or a default.

use serde::Deserialize;

use super::Model;
use crate::scenario::ScenarioError;

/// Tags one scenario may have.
pub const TAGS_MAX: usize = 1_000_000;
/// Antennas one scenario may have.
pub const PLACES_MAX: usize = 1_000;
/// SKUs one scenario may have: an item reference has five digits.
pub const SKUS_MAX: usize = 100_000;
/// Longest scenario, seconds: a month.
pub const DURATION_S_MAX: f64 = 2.7e6;
/// Shortest mean time at home, seconds: a shorter one would make journeys without end.
pub const DWELL_S_MIN: f64 = 1.0;

/// Name and text of every built-in scenario.
pub const SCENARIOS: [(&str, &str); 11] = [
    ("shelf-0.2", include_str!("../../scenarios/rfid/shelf-0.2.toml")),
    ("shelf-0.4", include_str!("../../scenarios/rfid/shelf-0.4.toml")),
    ("shelf-0.6", include_str!("../../scenarios/rfid/shelf-0.6.toml")),
    ("shelf-0.7", include_str!("../../scenarios/rfid/shelf-0.7.toml")),
    ("neighbours", include_str!("../../scenarios/rfid/neighbours.toml")),
    ("portal", include_str!("../../scenarios/rfid/portal.toml")),
    ("point-of-sale", include_str!("../../scenarios/rfid/point-of-sale.toml")),
    ("fitting-room", include_str!("../../scenarios/rfid/fitting-room.toml")),
    ("dock-door", include_str!("../../scenarios/rfid/dock-door.toml")),
    ("stocktaking", include_str!("../../scenarios/rfid/stocktaking.toml")),
    ("store", include_str!("../../scenarios/rfid/store.toml")),
];

/// A checked scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Seed of every random stream.
    pub seed: u64,
    /// Length in virtual seconds.
    pub duration_s: f64,
    /// Zones.
    pub zone: Vec<ZoneSpec>,
    /// Antennas, and where each listens.
    pub place: Vec<PlaceSpec>,
    /// Groups of tags.
    pub group: Vec<GroupSpec>,
    /// Physics it is meant for.
    pub models: Vec<Model>,
    /// What counts as told in time.
    #[serde(default)]
    pub judge: JudgeSpec,
    /// Parameters of [`super::Epochs`].
    #[serde(default)]
    pub epoch: EpochSpec,
    /// Parameters of [`super::Geometry`].
    #[serde(default)]
    pub geometry: GeometrySpec,
}

/// What counts as told in time; the rest of [`super::scoring::Limits`] is the same everywhere.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeSpec {
    /// Stays shorter than this need not be told, seconds.
    pub arrival_s: f64,
    /// Absences shorter than this need not be told, seconds.
    pub departure_s: f64,
}

impl Default for JudgeSpec {
    fn default() -> Self {
        Self { arrival_s: 12.0, departure_s: 30.0 }
    }
}

/// What a zone is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Personality {
    /// Goods stay here.
    Shelf,
    /// Goods pass here on their way in and out: antennas on both sides of a line.
    Portal,
    /// Goods are paid here.
    PointOfSale,
    /// Goods are tried on here, and come back or are bought.
    FittingRoom,
}

/// The side of a portal's line that an antenna looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The side of the facility.
    Inside,
    /// The side of the world.
    Outside,
}

/// How tags travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// In somebody's hand.
    #[default]
    Hand,
    /// On a cart.
    Cart,
    /// On a pallet that a forklift moves. It shadows the tags it passes, and those within the pallet.
    Forklift,
}

/// A zone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneSpec {
    /// Its name, unique.
    pub name: String,
    /// What it is for.
    pub personality: Personality,
}

/// An antenna and the place it listens to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceSpec {
    /// Its name, unique.
    pub name: String,
    /// The zone it belongs to.
    pub zone: String,
    /// The reader; readers are numbered in the order in which they are named first.
    pub reader: String,
    /// The reader's port, from 1.
    pub antenna: u16,
    /// Which side of a portal it looks at.
    pub side: Option<Side>,
    /// The slot it stands for, if it does.
    pub slot: Option<String>,
    /// Where it is in the room; the physics of geometry needs it.
    pub position: Option<PositionSpec>,
}

/// Where an antenna and what it listens to are, in metres; z is height.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionSpec {
    /// The antenna. It looks at the goods.
    pub at: [f64; 3],
    /// The middle of the goods.
    pub goods: [f64; 3],
    /// Goods lie up to so far from the middle, along each axis.
    #[serde(default)]
    pub spread: [f64; 3],
}

/// Tags with the same habits.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// How many tags.
    pub tags: usize,
    /// How many of them travel together.
    #[serde(default = "one")]
    pub batch: usize,
    /// How they travel.
    #[serde(default)]
    pub carrier: Carrier,
    /// SKUs they are of, in turn.
    #[serde(default = "one")]
    pub skus: usize,
    /// Places of which they choose one whenever they come home.
    pub home: Vec<String>,
    /// Mean time at home, seconds, exponential.
    pub dwell_s: f64,
    /// Share of the batches that begin outside, for one dwell time.
    #[serde(default)]
    pub away: f64,
    /// Walking home takes so long, seconds, uniform.
    #[serde(default = "walk")]
    pub walk_s: [f64; 2],
    /// The tags of a batch are put down one by one within so many seconds.
    #[serde(default)]
    pub unload_s: f64,
    /// Where they go from home; they stay for ever without any.
    #[serde(default)]
    pub trip: Vec<TripSpec>,
}

/// A way from home through some places and home again, or away for good.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TripSpec {
    /// How often, beside the others.
    #[serde(default = "one_f64")]
    pub weight: f64,
    /// Where it leads, in order.
    pub legs: Vec<LegSpec>,
    /// They do not come back.
    #[serde(default)]
    pub gone: bool,
}

/// One leg of a trip.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LegSpec {
    /// One of these places; outside when there is none.
    #[serde(default)]
    pub to: Vec<String>,
    /// Walking there takes so long, seconds, uniform.
    #[serde(default)]
    pub walk_s: [f64; 2],
    /// They stay at least so long, seconds, uniform.
    #[serde(default)]
    pub stay_s: [f64; 2],
    /// And so long beyond that on average, seconds, exponential.
    #[serde(default)]
    pub mean_s: f64,
}

/// Parameters of the physics by epochs. Probabilities are those of one epoch of half a second.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EpochSpec {
    /// Read rate of a tag that is there, drawn for each tag and place between these.
    pub read_rate: [f64; 2],
    /// A tag that is not in a zone is read there.
    pub ghost_rate: f64,
    /// A fade begins.
    pub fade_start: f64,
    /// It lasts so many epochs.
    pub fade_epochs: [i64; 2],
    /// Read rate in a fade.
    pub faded_rate: f64,
    /// Times an hour that something stands before a whole zone: all its tags fade.
    pub shadow_per_hour: f64,
    /// For so long, seconds.
    pub shadow_s: [f64; 2],
    /// Read rate of a tag that is carried through its zone, as a share of the rate at rest.
    pub moving_factor: f64,
    /// Signal of an antenna's own reads, dBm.
    pub signal_dbm: f64,
    /// A ghost is so much weaker, dB, uniform.
    pub ghost_loss_db: [f64; 2],
    /// Cross-reads: which antenna hears the tags of which place.
    pub neighbour: Vec<NeighbourSpec>,
}

/// An antenna that hears the tags of another's place.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeighbourSpec {
    /// The place where the tags are.
    pub of: String,
    /// The place whose antenna hears them, too.
    pub heard_by: String,
    /// Probability in an epoch.
    pub rate: f64,
    /// So much weaker than their own antenna hears them, dB, uniform for each tag.
    pub loss_db: [f64; 2],
}

/// Parameters of the physics by geometry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeometrySpec {
    /// Transmit power, dBm.
    pub power_dbm: f64,
    /// Gain of the antennas in the direction they look, dBi.
    pub gain_dbi: f64,
    /// Power at a tag that lets it answer half of the time, dBm.
    pub sensitivity_dbm: f64,
    /// Path loss grows with 10 times this for each decade of distance, dB.
    pub path_exponent: f64,
    /// Spread of what walls and goods take between places of a tag, dB.
    pub shadow_sigma_db: f64,
    /// Spread of the signal from round to round, dB.
    pub round_sigma_db: f64,
    /// Strength of reflections beside the straight signal, drawn between these, 0..1: frequency hopping makes fades of them.
    pub reflection: [f64; 2],
    /// Tags an antenna can tell apart in a round; more share the rounds.
    pub round_tags: f64,
    /// Times an hour that a body stands before an antenna.
    pub blocks_per_hour: f64,
    /// For how long on average, seconds, exponential.
    pub block_s: f64,
    /// What it takes, dB.
    pub block_db: f64,
    /// Share of the antenna's tags behind it.
    pub block_share: f64,
    /// What a tag on a pallet loses to the goods around it, dB; on a cart half of it.
    pub pallet_loss_db: [f64; 2],
    /// Times an hour that a reader is deaf.
    pub gaps_per_hour: f64,
    /// For so long, seconds.
    pub gap_s: [f64; 2],
    /// Times an hour that reflections carry a tag into a zone where it is not, for each tag and zone.
    pub ghosts_per_hour: f64,
    /// For how long on average, seconds, exponential.
    pub ghost_s: f64,
    /// Probability that such a tag is read in a round.
    pub ghost_rate: f64,
    /// A ghost's RSSI is so much below that of a tag that answers half of the time, dB, uniform.
    pub ghost_loss_db: [f64; 2],
    /// Where tags come from and go to when no portal leads there.
    pub gate: [f64; 3],
}

impl Default for GeometrySpec {
    fn default() -> Self {
        Self {
            power_dbm: 20.0,
            gain_dbi: 6.0,
            sensitivity_dbm: -16.0,
            path_exponent: 2.2,
            shadow_sigma_db: 0.7,
            round_sigma_db: 5.0,
            reflection: [0.1, 0.4],
            round_tags: 40.0,
            blocks_per_hour: 20.0,
            block_s: 3.0,
            block_db: 15.0,
            block_share: 0.5,
            pallet_loss_db: [0.0, 6.0],
            gaps_per_hour: 2.0,
            gap_s: [0.5, 3.0],
            ghosts_per_hour: 5.0,
            ghost_s: 0.7,
            ghost_rate: 0.15,
            ghost_loss_db: [6.0, 18.0],
            gate: [8.0, 0.0, 1.0],
        }
    }
}

impl Default for EpochSpec {
    fn default() -> Self {
        Self {
            read_rate: [0.6, 0.6],
            ghost_rate: 0.003,
            fade_start: 0.01,
            fade_epochs: [3, 12],
            faded_rate: 0.02,
            shadow_per_hour: 0.0,
            shadow_s: [5.0, 20.0],
            moving_factor: 0.5,
            signal_dbm: -54.0,
            ghost_loss_db: [6.0, 18.0],
            neighbour: Vec::new(),
        }
    }
}

fn one() -> usize {
    1
}
fn one_f64() -> f64 {
    1.0
}
fn walk() -> [f64; 2] {
    [1.0, 4.0]
}

impl Scenario {
    /// Parses and checks a scenario; `name` appears in errors.
    ///
    /// # Errors
    /// [`ScenarioError::Syntax`] or [`ScenarioError::Value`].
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|e| ScenarioError::Syntax {
            name: name.to_owned(),
            detail: e.to_string().trim_end().to_owned(),
        })?;
        scenario.check().map_err(|(key, detail)| ScenarioError::Value {
            name: name.to_owned(),
            key,
            detail,
        })?;
        Ok(scenario)
    }

    /// The built-in scenario of that name.
    ///
    /// # Errors
    /// [`ScenarioError`]; an unknown name is one, too.
    pub fn builtin(name: &str) -> Result<Self, ScenarioError> {
        let Some((name, text)) = SCENARIOS.into_iter().find(|(known, _)| *known == name) else {
            let names = SCENARIOS.map(|(name, _)| name).join(", ");
            return Err(ScenarioError::Value {
                name: name.to_owned(),
                key: "name".to_owned(),
                detail: format!("there is no such built-in scenario; there are {names}"),
            });
        };
        Self::parse(name, text)
    }
}
