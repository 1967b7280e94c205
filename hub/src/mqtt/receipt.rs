//! What became of a message that the hub sent: told once, by whoever took it or by its end.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

type Tell = Box<dyn FnOnce(bool) + Send>;

/// Told `true` when the receiver has acknowledged the message, `false` when the message ends without that: its session is gone,
/// it expired, its connection broke. A device that subscribed with QoS 0 acknowledges nothing; sent is taken there.
pub struct Receipt(Mutex<Option<Tell>>);

impl Receipt {
    /// A receipt that will be told. `tell` is called on a connection's arbiter and must not block.
    pub fn new(tell: impl FnOnce(bool) + Send + 'static) -> Self {
        Self(Mutex::new(Some(Box::new(tell))))
    }

    /// The receiver has it.
    pub fn taken(&self) {
        self.tell(true);
    }

    fn tell(&self, taken: bool) {
        if let Some(tell) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            tell(taken);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.tell(false);
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}
