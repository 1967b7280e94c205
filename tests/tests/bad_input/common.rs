//! One hub for every test that leaves it running, and a device that must notice nothing.

use std::{ops::Deref, sync::OnceLock};

use stockfold_tests::{Device, Hub, Login, Shop, Version};

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

/// A device that works before, while and after others misbehave.
pub struct Bystander {
    shop: Shop,
    login: Login,
    device: Device,
    sent: u64,
}

impl Bystander {
    /// Enrols and connects it.
    pub fn of(hub: &Hub, shop: &Shop) -> Self {
        let login = shop.enrol(&format!("{}-bystander", shop.facility));
        let device = Device::connected(hub.mqtt(), Version::V5, &login);
        let mut bystander = Self { shop: shop.clone(), login, device, sent: 0 };
        bystander.works();
        bystander
    }

    /// It publishes, and is acknowledged on the connection it has had all the time.
    pub fn works(&mut self) {
        self.sent += 1;
        self.device.stock(self.sent, "b", "sku-1", 1);
    }

    /// Everything it was acknowledged is in stock, once.
    pub fn lost_nothing(mut self) {
        self.works();
        let sent = i64::try_from(self.sent).unwrap();
        self.shop.settles(&self.login, self.sent, "slot-0", "sku-1", sent);
    }
}
