//! JSON frames: a bounded tree, RFC 6901 pointers compiled once, and the field maps of a profile.
//!
//! Frames arrive at tens of thousands a second, so the tree borrows from the frame and keeps objects as short vectors. Depth
//! and size are bounded while parsing, not afterwards. A repeated key is an error: two readers of the same bytes must not be
//! able to see two different numbers.

mod fields;
mod node;
mod tags;

pub use fields::decode;
pub use node::{Node, Pointer};
