//! Writing master data: one transaction that writes the rows, raises each facility's revision and leaves what its fold must
//! learn as `publication` rows.
//!
//! Every write is a [`MasterData`]: the call for one shelf is an import of one shelf. Posted rows are compared with the rows
//! that are there; equal ones are left alone, so that repeating a write changes nothing and publishes nothing. Writers take
//! an advisory lock: master data changes seldom, and what was read stays true until the commit. Taking something away is
//! another matter ([`super::retire`]).
//!
//! References are checked here rather than left to foreign keys, because a constraint's name tells nobody which of a thousand
//! lines is wrong. SKUs belong to no facility, so a new one is published to every facility and a new facility gets them all.

use std::{borrow::Cow, collections::BTreeMap};

use device_profiles::FacilityId;
use sha2::{Digest, Sha256};
use sqlx::{Postgres, Transaction};

use super::{
    PgStore,
    fault::Fault,
    master_writer::Writer,
    shapes::{MasterData, Row},
};

/// Where in the posted data something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The collection, such as `slots`.
    pub list: &'static str,
    /// Which of its items.
    pub index: usize,
    /// Which field of it, such as `antennas[2].slot`.
    pub field: Cow<'static, str>,
}

/// Why master data was not written. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// It names something that does not exist.
    #[error("there is no {what} {id:?}")]
    Unknown {
        /// Where.
        at: At,
        /// What kind of thing.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// It needs a field that this call does not take from its path.
    #[error("{field} is missing", field = .0.field)]
    Missing(At),
    /// It contradicts what is there.
    #[error("{detail}")]
    Conflict {
        /// Where.
        at: At,
        /// How.
        detail: String,
    },
    /// It can be nowhere, whatever else is there.
    #[error("{detail}")]
    Senseless {
        /// Where.
        at: At,
        /// Why not.
        detail: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Fault),
}

impl From<sqlx::Error> for MasterError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// How to write.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// Who writes.
    pub principal: &'a str,
    /// Shards there are.
    pub shards: u16,
    /// Things that exist otherwise are changed; else that is a conflict.
    pub change: bool,
    /// The planogram lines are all there are in this facility: others go.
    pub whole_planogram: Option<&'a FacilityId>,
    /// A credential for each device of the data, in its order, given to those that are new.
    pub credentials: &'a [MintedCredential],
}

/// A secret's name and hash. The secret itself never comes here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MintedCredential {
    /// Its id.
    pub id: String,
    /// SHA-256 of the secret.
    pub secret_sha256: [u8; 32],
}

/// What was written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Things that are new.
    pub created: usize,
    /// Things that were otherwise before.
    pub changed: usize,
    /// Things that were so already.
    pub unchanged: usize,
    /// Facilities with something to publish.
    pub facilities: Vec<FacilityId>,
    /// Indexes of the devices that are new.
    pub new_devices: Vec<usize>,
}

/// Key of a thing that belongs to a facility.
pub(super) type Key = (String, String);

/// One kind of posted rows, sifted.
pub(super) struct Sifted<T> {
    /// New or otherwise, by index.
    pub(super) write: Vec<(usize, T)>,
    pub(super) created: usize,
    pub(super) changed: usize,
    pub(super) unchanged: usize,
}

/// Sorts posted rows into new, changed and unchanged ones.
pub(super) fn sift<K: Ord, T: Row>(
    list: &'static str,
    posted: &[T],
    found: &BTreeMap<K, T>,
    change: bool,
    key: impl Fn(&T) -> K,
) -> Result<Sifted<T>, MasterError> {
    let mut sifted = Sifted { write: Vec::new(), created: 0, changed: 0, unchanged: 0 };
    let mut seen: BTreeMap<K, usize> = BTreeMap::new();
    for (index, row) in posted.iter().enumerate() {
        let at = || At { list, index, field: "id".into() };
        let there = found.get(&key(row));
        let row = row.clone().over(there);
        if let Some(first) = seen.get(&key(&row)) {
            if posted[*first].clone().over(there) == row {
                continue;
            }
            let detail = format!("{list}[{first}] says the same thing otherwise");
            return Err(MasterError::Conflict { at: at(), detail });
        }
        seen.insert(key(&row), index);
        match there {
            Some(there) if *there == row => sifted.unchanged += 1,
            Some(_) if !change => {
                let detail =
                    "it exists and is different; use another id, or change it by an import"
                        .to_owned();
                return Err(MasterError::Conflict { at: at(), detail });
            }
            Some(_) => {
                sifted.changed += 1;
                sifted.write.push((index, row));
            }
            None => {
                sifted.created += 1;
                sifted.write.push((index, row));
            }
        }
    }
    Ok(sifted)
}

impl PgStore {
    /// Begins a transaction that changes master data. There is one at a time, so what it reads stays true until its commit.
    pub(super) async fn master_transaction(&self) -> Result<Transaction<'static, Postgres>, Fault> {
        let mut transaction = self.pool().begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock(hashtext('stockfold master data'))")
            .execute(&mut *transaction)
            .await?;
        Ok(transaction)
    }

    /// Writes master data: all of it or nothing.
    pub async fn write_master(
        &self,
        data: &MasterData,
        write: Write<'_>,
    ) -> Result<Written, MasterError> {
        facilities_named(data)?;
        let mut transaction = self.master_transaction().await?;
        let mut writer = Writer::new(&mut transaction, write);
        writer.all(data).await?;
        let (written, publications) = writer.done();
        let facilities = publications.publish(&mut transaction, write.principal).await?;
        let written = Written { facilities, ..written };
        transaction.commit().await?;
        Ok(written)
    }
}

/// Everything that is in a facility says in which.
fn facilities_named(data: &MasterData) -> Result<(), MasterError> {
    let need = |facility: &Option<FacilityId>, list, index| match facility {
        Some(_) => Ok(()),
        None => Err(MasterError::Missing(At { list, index, field: "facility".into() })),
    };
    for (index, zone) in data.zones.iter().enumerate() {
        need(&zone.facility, "zones", index)?;
    }
    for (index, shelf) in data.shelves.iter().enumerate() {
        need(&shelf.facility, "shelves", index)?;
    }
    for (index, slot) in data.slots.iter().enumerate() {
        need(&slot.facility, "slots", index)?;
    }
    for (index, line) in data.planogram.iter().enumerate() {
        need(&line.facility, "planogram", index)?;
    }
    Ok(())
}

/// The key of a thing in a facility; [`facilities_named`] made sure that there is one.
pub(super) fn key(facility: &Option<FacilityId>, id: &impl ToString) -> Key {
    (facility.as_ref().map(ToString::to_string).unwrap_or_default(), id.to_string())
}

/// Which shard a new facility belongs to, for good.
pub(super) fn shard_of(facility: &FacilityId, shards: u16) -> u16 {
    let digest = Sha256::digest(facility.as_str().as_bytes());
    let hash = u64::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ]);
    u16::try_from(hash % u64::from(shards.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Row for (i32, char) {
        fn over(self, _there: Option<&Self>) -> Self {
            self
        }
    }

    #[test]
    fn sifting_finds_repeats_and_contradictions() {
        let found = BTreeMap::from([(1, (1, 'a')), (2, (2, 'b'))]);
        let key = |row: &(i32, char)| row.0;
        let sifted = sift("rows", &[(1, 'a'), (3, 'c'), (3, 'c')], &found, false, key).unwrap();
        assert_eq!((sifted.created, sifted.changed, sifted.unchanged), (1, 0, 1));
        assert_eq!(sifted.write, [(1, (3, 'c'))]);
        assert!(sift("rows", &[(2, 'x')], &found, false, key).is_err());
        assert_eq!(sift("rows", &[(2, 'x')], &found, true, key).unwrap().changed, 1);
        assert!(sift("rows", &[(3, 'x'), (3, 'y')], &found, true, key).is_err());
    }

    #[test]
    fn a_facility_keeps_its_shard() {
        let id = FacilityId::parse("f1").unwrap();
        assert_eq!(shard_of(&id, 1), 0);
        assert_eq!(shard_of(&id, 7), shard_of(&id, 7));
    }
}
