//! Taking master data away: refused while something still refers to it, and then no list shows it any more.
//!
//! Zones, shelves, slots and planogram lines are deleted: what happened names them by an id and needs no more of them. SKUs and
//! devices are retired instead: people ask for their movements, readings and accounts, and their id may come back.
//!
//! What is in stock is what the levels say, which lie behind the journal by a moment. Goods that come in that moment keep their
//! place in the fold (`fold`, `master.rs`), so nothing is lost; they then show in the stock lists without a shelf.

use device_profiles::{DeviceId, FacilityId, Sku, SlotId};
use fold::{DeviceSpec, Master};
use sqlx::PgConnection;

use super::{
    PgStore, fault::Fault, master_rows as rows, master_writer::line_spec, publication::Publications,
};

/// What is to go.
#[derive(Debug, Clone, Copy)]
pub enum Going<'a> {
    /// A zone of a facility.
    Zone(&'a FacilityId, &'a str),
    /// A shelf of a facility.
    Shelf(&'a FacilityId, &'a str),
    /// A slot of a facility.
    Slot(&'a FacilityId, &'a SlotId),
    /// The planogram line of a slot and SKU in a facility.
    Line(&'a FacilityId, &'a SlotId, &'a Sku),
    /// A SKU.
    Sku(&'a Sku),
    /// A device.
    Device(&'a DeviceId),
}

/// Why something stays. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Stays {
    /// There is no such thing.
    #[error("there is no {what} {id:?}")]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// Something still refers to it.
    #[error("{what} {id} is in use: {by}")]
    InUse {
        /// What kind of thing.
        what: &'static str,
        /// Its id.
        id: String,
        /// What refers to it, as half a sentence.
        by: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Fault),
}

impl From<sqlx::Error> for Stays {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The statements of a kind of thing. Each takes the whole key.
struct Kind {
    what: &'static str,
    exists: &'static str,
    /// The first thing that refers to it, as half a sentence; nothing when nothing can.
    uses: Option<&'static str>,
    remove: &'static [&'static str],
}

const ZONE: Kind = Kind {
    what: "zone",
    exists: "SELECT EXISTS (SELECT 1 FROM zone WHERE facility = $1 AND id = $2)",
    uses: Some(
        "SELECT format('shelf %s stands in it', id) FROM shelf WHERE facility = $1 AND zone = $2
         UNION ALL
         SELECT format('antenna %s of device %s looks at it', port, device) FROM antenna
         WHERE facility = $1 AND zone = $2
         LIMIT 1",
    ),
    remove: &["DELETE FROM zone WHERE facility = $1 AND id = $2"],
};

const SHELF: Kind = Kind {
    what: "shelf",
    exists: "SELECT EXISTS (SELECT 1 FROM shelf WHERE facility = $1 AND id = $2)",
    uses: Some(
        "SELECT format('slot %s is on it', id) FROM slot WHERE facility = $1 AND shelf = $2 ORDER BY id LIMIT 1",
    ),
    remove: &["DELETE FROM shelf WHERE facility = $1 AND id = $2"],
};

const SLOT: Kind = Kind {
    what: "slot",
    exists: "SELECT EXISTS (SELECT 1 FROM slot WHERE facility = $1 AND id = $2)",
    uses: Some(
        "SELECT format('it holds %s of SKU %s', quantity, sku) FROM level
         WHERE facility = $1 AND slot = $2 AND quantity <> 0
         UNION ALL
         SELECT format('the planogram has SKU %s in it', sku) FROM planogram_line WHERE facility = $1 AND slot = $2
         UNION ALL
         SELECT format('it stands on cell %s of device %s', channel, device) FROM device_channel
         WHERE facility = $1 AND slot = $2
         UNION ALL
         SELECT format('readings of device %s are booked in it', id) FROM device WHERE facility = $1 AND slot = $2
         UNION ALL
         SELECT format('antenna %s of device %s looks at it', port, device) FROM antenna
         WHERE facility = $1 AND slot = $2
         LIMIT 1",
    ),
    remove: &["DELETE FROM slot WHERE facility = $1 AND id = $2"],
};

const LINE: Kind = Kind {
    what: "planogram line",
    exists: "SELECT EXISTS (SELECT 1 FROM planogram_line WHERE facility = $1 AND slot = $2 AND sku = $3)",
    uses: None,
    remove: &["DELETE FROM planogram_line WHERE facility = $1 AND slot = $2 AND sku = $3"],
};

const SKU: Kind = Kind {
    what: "SKU",
    exists: "SELECT EXISTS (SELECT 1 FROM sku WHERE id = $1 AND retired_at IS NULL)",
    uses: Some(
        "SELECT format('slot %s of facility %s holds %s of it', slot, facility, quantity) FROM level
         WHERE sku = $1 AND quantity <> 0
         UNION ALL
         SELECT format('the planogram of facility %s has it in slot %s', facility, slot) FROM planogram_line
         WHERE sku = $1
         LIMIT 1",
    ),
    // Its GTIN is free for another one.
    remove: &["UPDATE sku SET retired_at = now(), gtin = NULL, revision = revision + 1 WHERE id = $1"],
};

const DEVICE: Kind = Kind {
    what: "device",
    exists: "SELECT EXISTS (SELECT 1 FROM device WHERE id = $1 AND retired_at IS NULL)",
    uses: Some(
        "(SELECT format('slot %s stands on its cell %s', slot, channel) FROM device_channel
          WHERE device = $1 ORDER BY channel LIMIT 1)
         UNION ALL
         (SELECT format('device %s speaks through it', id) FROM device WHERE gateway = $1 ORDER BY id LIMIT 1)
         LIMIT 1",
    ),
    remove: &[
        "UPDATE credential SET revoked_at = COALESCE(revoked_at, now()) WHERE device = $1",
        "DELETE FROM bus_unit WHERE device = $1",
        // What was meant for it is not for whoever has its id next.
        "UPDATE command SET state = 'expired', changed_at = now() WHERE device = $1 AND state IN ('queued', 'sent')",
        "UPDATE device SET retired_at = now(), slot = NULL, gateway = NULL WHERE id = $1",
    ],
};

impl Going<'_> {
    fn kind(self) -> &'static Kind {
        match self {
            Self::Zone(..) => &ZONE,
            Self::Shelf(..) => &SHELF,
            Self::Slot(..) => &SLOT,
            Self::Line(..) => &LINE,
            Self::Sku(..) => &SKU,
            Self::Device(..) => &DEVICE,
        }
    }

    fn key(&self) -> Vec<&str> {
        match self {
            Self::Zone(facility, id) | Self::Shelf(facility, id) => vec![facility.as_str(), *id],
            Self::Slot(facility, id) => vec![facility.as_str(), id.as_str()],
            Self::Line(facility, slot, sku) => {
                vec![facility.as_str(), slot.as_str(), sku.as_str()]
            }
            Self::Sku(id) => vec![id.as_str()],
            Self::Device(id) => vec![id.as_str()],
        }
    }

    /// Its id as people write it.
    fn id(&self) -> String {
        match self {
            Self::Line(_, slot, sku) => format!("{slot}/{sku}"),
            Self::Zone(..)
            | Self::Shelf(..)
            | Self::Slot(..)
            | Self::Sku(..)
            | Self::Device(..) => self.key().last().copied().unwrap_or_default().to_owned(),
        }
    }
}

impl PgStore {
    /// Takes something away: it, and everything that is only a part of it. Answers the facilities with something to publish.
    pub async fn retire(
        &self,
        going: Going<'_>,
        principal: &str,
    ) -> Result<Vec<FacilityId>, Stays> {
        let (kind, key) = (going.kind(), going.key());
        let mut transaction = self.master_transaction().await?;
        if first(&mut transaction, kind.exists, &key).await? != Some(true) {
            return Err(Stays::Unknown { what: kind.what, id: going.id() });
        }
        if let Some(uses) = kind.uses
            && let Some(by) = first(&mut transaction, uses, &key).await?
        {
            return Err(Stays::InUse { what: kind.what, id: going.id(), by });
        }
        let mut publications = Publications::default();
        // A device's facility is asked for while the device is there, the lines of a slot when one of them is gone.
        if let Going::Device(id) = going {
            device_gone(&mut transaction, id, &mut publications).await?;
        }
        for statement in kind.remove {
            let mut query = sqlx::query(*statement);
            for part in &key {
                query = query.bind(*part);
            }
            query.execute(&mut *transaction).await?;
        }
        match going {
            // Folds know shelves by the slots on them, and a zone at which no antenna looks says nothing.
            Going::Zone(..) | Going::Shelf(..) | Going::Device(_) => {}
            Going::Slot(facility, id) => publications.add(facility, Master::SlotGone(id.clone())),
            Going::Line(facility, slot, _) => {
                let at = [(facility.to_string(), slot.to_string())];
                let lines = rows::lines_in(&mut transaction, &at).await?;
                let lines = lines.iter().map(line_spec).collect();
                publications.add(facility, Master::Lines { slot: slot.clone(), lines });
            }
            Going::Sku(id) => {
                for facility in rows::all_facilities(&mut transaction).await? {
                    publications.add(&facility, Master::SkuGone(id.clone()));
                }
            }
        }
        let facilities = publications.publish(&mut transaction, principal).await?;
        transaction.commit().await?;
        Ok(facilities)
    }
}

/// The first column of the first row.
async fn first<T>(
    connection: &mut PgConnection,
    statement: &'static str,
    key: &[&str],
) -> Result<Option<T>, sqlx::Error>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let mut query = sqlx::query_scalar(statement);
    for part in key {
        query = query.bind(*part);
    }
    query.fetch_optional(connection).await
}

/// Folds never forget a device, because what it sent must be known again if it comes back: it is revoked, and bound to nothing.
async fn device_gone(
    connection: &mut PgConnection,
    id: &DeviceId,
    publications: &mut Publications,
) -> Result<(), Fault> {
    let ids = [id.as_str()];
    for device in rows::devices(connection, &ids).await?.into_values() {
        let bare = DeviceSpec { id: id.clone(), slot: None, channels: Vec::new() };
        publications.add(&device.facility, Master::Device(bare));
        if !device.antennas.is_empty() {
            let none = Master::Antennas { device: id.clone(), antennas: Vec::new() };
            publications.add(&device.facility, none);
        }
        publications.add(&device.facility, Master::DeviceRevoked(id.clone()));
    }
    Ok(())
}
