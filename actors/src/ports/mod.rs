//! Ports: the few things the actors need from the machine, as traits, so that a simulation can give others.
//!
//! Files ([`fs`]), time ([`clock`]) and randomness ([`rng`]) are here; the store of committed effects is [`crate::store`],
//! that of snapshots [`crate::snapshot`]. The network needs no trait of ours: a connection takes any stream that is
//! `AsyncRead + AsyncWrite`. Nor does spawning: everything runs on the arbiter it was started on, which in a simulation is one
//! `LocalSet`, and the journal's writer is driven by `Writer::step` there instead of by its thread.

pub mod clock;
pub mod fs;
pub mod rng;
pub mod sim_fs;
