//! One hub for every test of a binary that leaves it running.

use std::{ops::Deref, sync::OnceLock};

use crate::{Hub, Shop};

/// The hub of this test binary; prints its log when the test that holds it fails.
pub struct Shared(&'static Hub);

/// Starts the hub, the first time.
pub fn hub() -> Shared {
    static HUB: OnceLock<Hub> = OnceLock::new();
    Shared(HUB.get_or_init(Hub::start))
}

impl Deref for Shared {
    type Target = Hub;
    fn deref(&self) -> &Hub {
        self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.log().show();
        }
    }
}

impl Shared {
    /// A facility of the test's own with two slots and two SKUs.
    pub fn shop(&self, name: &str) -> Shop {
        Shop::open(self.api(), name, 2, 2)
    }

    /// What every test ends with: no connection ended by a panic, and the journal gives the committed figures.
    pub fn is_sound(&self) {
        assert_eq!(self.api().metric("stockfold_mqtt_events_total{event=\"panicked\"}"), 0.0);
        self.replays_equal();
    }
}
