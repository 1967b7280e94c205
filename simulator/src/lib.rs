//! The simulator: an independent oracle for the hub.
//!
//! It knows the true stock of a made-up facility, lets people move goods about on a virtual clock, turns what the
//! load cells, sensors, handhelds and scanners would then measure into the payload bytes of `docs/specs/api.md`, and
//! afterwards judges what the hub made of them.
//!
//! ```text
//!  scenario (TOML) ─► World ── people act ──► Truth (levels, every movement, misplacements)
//!                       │                               │
//!                       ├─ cells (physics) ─► device ─► link (faults) ─► TimedFrame
//!                       │                                                   │  straight into a fold, or
//!                       └─ Layout (POST /import), counts                    ▼  play: MQTT over real sockets
//!                                                               hub's movements ─► score against Truth
//! ```
//!
//! **Independence.** Nothing here comes from `fold`, `actors` or `hub`: payload encoder, MQTT codec, time parser and
//! scoring are the simulator's own, so that agreement with the hub is evidence and not an echo.
//!
//! **Determinism.** `World` is a pure function of its scenario: no wall clock, no global randomness, no iteration over
//! hash maps. Each cell, device, link and person draws from its own stream, derived from the seed and its name, so
//! that adding one device leaves the others' noise alone. Samples of normal and exponential variates use std's
//! transcendental functions; traces are therefore equal between runs on one platform, not promised across platforms.
//!
//! **Floats.** Physics is in `f64` milligrams. Quantities leave this crate as integers (units, milligrams).
//!
//! Tags have a world of their own, [`rfid`], because they move and weigh nothing.
//!
//! **For tests elsewhere.** Virtual clock: [`builtin::load`] or [`Scenario::parse`], [`World::new`],
//! [`World::next_frames`], then [`score::score`] with [`World::truth`]. Against a hub: [`play::prepare`] and
//! [`play::play`], then [`verify::verify`]. Load and crash tests: [`load::enrol`], [`load::Record::new`], [`load::run`].

pub mod builtin;
mod cell;
pub mod clock;
pub mod frame;
pub mod hub;
mod layout;
mod link;
pub mod llrp;
pub mod load;
pub mod modbus;
pub mod mqtt;
mod people;
pub mod play;
pub mod publish;
pub mod random;
pub mod rfid;
pub mod scenario;
mod scenario_check;
mod scenario_devices;
pub mod score;
pub mod serial;
mod stock;
pub mod tally;
pub mod truth;
pub mod verify;
mod world;

pub use frame::TimedFrame;
pub use layout::CountCall;
pub use scenario::Scenario;
pub use truth::Truth;
pub use world::{Device, DeviceKind, STEP_US, World};
