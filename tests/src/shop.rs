//! A small facility: one shelf, some slots, SKUs and devices, and questions about their stock.

use serde_json::{Value, json};

use crate::{Api, wait::until};

/// How a device signs in.
#[derive(Debug, Clone)]
pub struct Login {
    /// Device id and MQTT user name.
    pub device: String,
    /// MQTT password.
    pub password: String,
}

/// A facility of a hub.
#[derive(Clone)]
pub struct Shop {
    api: Api,
    /// Its id.
    pub facility: String,
}

impl Shop {
    /// Makes a facility with slots `slot-0…` and SKUs `sku-0…`.
    pub fn open(api: &Api, facility: &str, slots: usize, skus: usize) -> Self {
        let slot = |n| json!({ "facility": facility, "id": format!("slot-{n}"), "shelf": "shelf" });
        let sku = |n| json!({ "id": format!("sku-{n}"), "name": format!("Thing {n}"), "unit_weight_mg": 100_000 });
        let data = json!({
            "facilities": [{ "id": facility, "name": facility }],
            "shelves": [{ "facility": facility, "id": "shelf", "name": "Shelf" }],
            "slots": (0..slots).map(slot).collect::<Vec<_>>(),
            "skus": (0..skus).map(sku).collect::<Vec<_>>(),
        });
        api.post("/import", &data).good();
        Self { api: api.clone(), facility: facility.to_owned() }
    }

    /// Enrols a device whose stock readings go to `slot-0` when they name no slot.
    pub fn enrol(&self, device: &str) -> Login {
        self.enrol_all(&[device.to_owned()]).remove(0)
    }

    /// Enrols devices, in their order.
    pub fn enrol_all(&self, devices: &[String]) -> Vec<Login> {
        let device = |id| json!({ "id": id, "facility": self.facility, "slot": "slot-0" });
        let data = json!({ "devices": devices.iter().map(device).collect::<Vec<_>>() });
        let made = self.api.post("/import?credentials=true", &data);
        assert_eq!(
            made.status, 201,
            "a device is answered for once the fold knows it: {:#}",
            made.body
        );
        let made = made.good();
        let credentials = made["credentials"].as_array().expect("credentials were asked for");
        assert_eq!(credentials.len(), devices.len(), "{made:#}");
        let login = |c: &Value| Login {
            device: c["device"].as_str().unwrap().to_owned(),
            password: c["password"].as_str().unwrap().to_owned(),
        };
        credentials.iter().map(login).collect()
    }

    /// The quantity of a line; 0 when there is none.
    pub fn quantity(&self, slot: &str, sku: &str) -> i64 {
        let facility = &self.facility;
        let lines = self.api.all(&format!("/stock?facility={facility}&slot={slot}&sku={sku}"));
        lines.first().map_or(0, |line| line["quantity"].as_i64().unwrap())
    }

    /// Waits until a line has this quantity, and shows that it stays so: nothing else is under way for the device.
    pub fn settles(&self, login: &Login, journaled: u64, slot: &str, sku: &str, quantity: i64) {
        let exits = self.ledger(login, journaled);
        let refused = self.refused(login);
        assert_eq!(self.quantity(slot, sku), quantity, "{sku} in {slot}; {exits:?} {refused:#?}");
    }

    /// Waits until the ledger of a device tells of this many frames; checks that each left by exactly one exit.
    pub fn ledger(&self, login: &Login, journaled: u64) -> Exits {
        self.tells(login, &format!("{journaled} frames"), |told, _| {
            assert!(told <= journaled, "{told} frames journaled, {journaled} were sent");
            told == journaled
        })
    }

    /// Waits until so many frames of a device are applied, however often a broker repeated them; checks that each left by
    /// exactly one exit.
    pub fn applies(&self, login: &Login, applied: u64) -> Exits {
        self.tells(login, &format!("{applied} applied frames"), |told, exits| {
            let open =
                told - (exits.applied + exits.duplicate + exits.quarantined + exits.rejected);
            assert!(exits.applied <= applied, "{exits:?}, {applied} were sent");
            exits.applied == applied && open == 0
        })
    }

    /// Waits until the ledger of a device is as wanted: frames journaled, and how they left.
    fn tells(&self, login: &Login, what: &str, wanted: impl Fn(u64, &Exits) -> bool) -> Exits {
        let path = format!("/ledger?facility={}&device={}", self.facility, login.device);
        let (journaled, exits) =
            until(&format!("the ledger of {} tells of {what}", login.device), || {
                let rows = self.api.all(&path);
                let sum = |name: &str| rows.iter().map(|row| row[name].as_u64().unwrap()).sum();
                let journaled: u64 = sum("journaled");
                let exits = Exits {
                    applied: sum("applied"),
                    duplicate: sum("duplicate"),
                    quarantined: sum("quarantined"),
                    rejected: sum("rejected"),
                    source_lost: sum("source_lost"),
                };
                wanted(journaled, &exits).then_some((journaled, exits))
            });
        let left = exits.applied + exits.duplicate + exits.quarantined + exits.rejected;
        assert_eq!(left, journaled, "a frame vanished: {exits:?}");
        exits
    }

    /// Refused frames of a device, oldest first.
    pub fn refused(&self, login: &Login) -> Vec<Value> {
        let mut all = self.api.all(&format!("/quarantine?facility={}", self.facility));
        all.retain(|row| row["device"] == login.device.as_str());
        all.reverse();
        all
    }

    /// Its hub.
    pub fn api(&self) -> &Api {
        &self.api
    }
}

/// By which exits a device's frames left the fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exits {
    /// Took effect.
    pub applied: u64,
    /// Seen before.
    pub duplicate: u64,
    /// Sound, but could not be placed.
    pub quarantined: u64,
    /// Could never take effect.
    pub rejected: u64,
    /// Never came.
    pub source_lost: u64,
}
