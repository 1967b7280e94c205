//! What both physics are: a source of reads.

use std::sync::Arc;

use device_profiles::Tag;

use super::{Epochs, World};

/// A reader heard a tag once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// When, virtual microseconds.
    pub at_us: i64,
    /// Which reader.
    pub reader: usize,
    /// On which port, from 1.
    pub antenna: u16,
    /// The tag.
    pub tag: Tag,
    /// Its number in the world. A reader does not know it; it is there to find the tag again fast.
    pub item: usize,
    /// Strength of the signal, 1/100 dBm.
    pub rssi_cdbm: i16,
}

/// What readers hear of a world.
pub trait Physics {
    /// Appends every read from where the last call ended (first: 0) until before `to_us`, in order of time.
    fn reads(&mut self, to_us: i64, out: &mut Vec<Read>);
}

/// Which physics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// [`Epochs`].
    Epochs,
}

impl Model {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Epochs => "epochs",
        }
    }

    /// This physics of a world.
    #[must_use]
    pub fn of(self, world: &Arc<World>) -> Box<dyn Physics> {
        match self {
            Self::Epochs => Box::new(Epochs::new(world)),
        }
    }
}
