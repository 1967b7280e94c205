//! The simulated world of tags: where each really is, what readers hear of it, and how well somebody guessed.
//!
//! ```text
//!  scenario (TOML) ─► World: site, tags, journeys ─► Truth (places through time, passages, transitions)
//!                        │                                     │
//!                        ├─► Physics: Epochs | Geometry        │
//!                        │        └─► Read ─► Frames ─► LLRP bytes, as a reader sends them ─► whoever is judged
//!                        │              └───► baselines (EdgeX's rule, a fixed window)            │ Told
//!                        └───────────────────────────────► score ◄────────────────────────────────┘
//! ```
//! **Independence.** Nothing here knows a filter: physics and truth share no code with what is judged, and the second
//! physics resembles none. Only the codecs of `device-profiles` are used, and foreign peers judge those.
//!
//! **Determinism.** A run is a pure function of scenario, seed and physics. Whatever draws has a stream of its own, named
//! by what it is, so that another tag leaves the noise of the others alone. Reads come in the order of their times.
//!
//! **Time** is virtual, in microseconds from 0 as `i64`; [`Frames`] alone knows which moment of the calendar that is.
//!
//! The models, their parameters and the rules of scoring are explained in `docs/specs/rfid-simulation.md`.

mod baseline;
mod budget;
mod edgex;
mod epoch;
mod frames;
mod geometry;
mod journey;
mod layout;
mod live;
mod obstacle;
mod path;
mod physics;
mod rates;
pub mod report;
pub mod scenario;
mod scenario_check;
pub mod scoring;
mod truth;
mod world;

pub use baseline::{Teller, Window, baselines, tell};
pub use edgex::EdgeX;
pub use epoch::Epochs;
pub use frames::{Frame, Frames, ReportSpec};
pub use geometry::Geometry;
pub use layout::layout;
pub use live::{Live, QUEUE_READS_MAX};
pub use physics::{Model, Physics, Read};
pub use rates::{ReadRates, read_rates};
pub use scenario::Scenario;
pub use truth::{Direction, Interval, Passage, Spot, Stay, Truth};
pub use world::{Item, Place, Site, World, Zone};

/// Microseconds in a second.
pub const SECOND_US: i64 = 1_000_000;

/// Seconds as virtual time.
fn micros(seconds: f64) -> i64 {
    (seconds * 1e6).round() as i64
}
