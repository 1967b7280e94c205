//! Bad input, of every kind the field has: what comes in is bounded, counted, named and kept with its bytes; nothing panics
//! or hangs, nothing acknowledged is lost, and the other devices notice nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test may panic and measure real time"
)]

#[path = "bad_input/api.rs"]
mod api;
#[path = "bad_input/common.rs"]
mod common;
#[path = "bad_input/identity.rs"]
mod identity;
#[path = "bad_input/journal.rs"]
mod journal;
#[path = "bad_input/names.rs"]
mod names;
#[path = "bad_input/order.rs"]
mod order;
#[path = "bad_input/packets.rs"]
mod packets;
#[path = "bad_input/payloads.rs"]
mod payloads;
#[path = "bad_input/registers.rs"]
mod registers;
#[path = "bad_input/start.rs"]
mod start;
