//! A device that must notice nothing.

use stockfold_tests::{Device, Hub, Login, Shop, Version};

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
