//! Buses and their units.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Row};
use utoipa::ToSchema;

use super::{PgStore, fault::Fault, when::When};

type Result<T> = std::result::Result<T, Fault>;

/// A bus.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct Bus {
    /// Its id.
    pub id: String,
    /// Its facility.
    pub facility: String,
    /// Where it is: `tcp://HOST:502`, `rtu+tcp://HOST:PORT` or `rtu:///dev/serial/by-id/NAME?baud=19200&parity=none`;
    /// `llrp://HOST:5084` or `llrps://HOST:5085` for an RFID reader, `serial:///dev/serial/by-id/NAME?baud=115200` for a serial
    /// reader or scanner.
    pub address: String,
    /// When it was added.
    pub created_at: When,
}

/// Where a device is on a bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The bus.
    pub bus: String,
    /// Its address on the bus: 1 to 247 on a serial line, 0 to 255 on TCP.
    pub unit: u8,
}

/// A unit as the bus actors need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitRow {
    /// The device.
    pub device: String,
    /// Where it is.
    pub place: Place,
}

/// What became of placing a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// It is there now.
    Done,
    /// No such bus.
    NoBus,
    /// Another device has this address of the bus.
    Taken(String),
}

impl PgStore {
    /// Adds a bus. False when the id or the address is in use.
    pub async fn add_bus(&self, id: &str, facility: &str, address: &str) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO bus (id, facility, address) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(id)
        .bind(facility)
        .bind(address)
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Removes a bus. False when there is none of this id; units on it go with it.
    pub async fn remove_bus(&self, id: &str) -> Result<bool> {
        let mut transaction = self.pool().begin().await?;
        sqlx::query("DELETE FROM bus_unit WHERE bus = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        let done = sqlx::query("DELETE FROM bus WHERE id = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Buses in order of their ids, from `after` on; all, of a facility, or the one of an id.
    pub async fn list_buses(
        &self,
        facility: Option<&str>,
        id: Option<&str>,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Bus>> {
        Ok(sqlx::query_as(
            "SELECT id, facility, address, created_at FROM bus
             WHERE ($1::text IS NULL OR facility = $1) AND ($2::text IS NULL OR id = $2)
               AND ($3::text IS NULL OR id > $3) ORDER BY id LIMIT $4",
        )
        .bind(facility)
        .bind(id)
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }

    /// Every unit of every bus, in order of bus and address.
    pub async fn bus_units(&self) -> Result<Vec<UnitRow>> {
        let rows = sqlx::query("SELECT device, bus, unit FROM bus_unit ORDER BY bus, unit")
            .fetch_all(self.pool())
            .await?;
        let unit = |row: &sqlx::postgres::PgRow| -> std::result::Result<UnitRow, sqlx::Error> {
            // The table's check keeps it in range.
            let unit = u8::try_from(row.try_get::<i16, _>("unit")?).unwrap_or(u8::MAX);
            let place = Place { bus: row.try_get("bus")?, unit };
            Ok(UnitRow { device: row.try_get("device")?, place })
        };
        rows.iter().map(unit).collect::<std::result::Result<_, _>>().map_err(Fault::from)
    }

    /// Puts a device on a bus; it leaves the one it was on.
    pub async fn place_unit(&self, device: &str, place: &Place) -> Result<Placed> {
        let mut transaction = self.pool().begin().await?;
        let bus: Option<String> = sqlx::query_scalar("SELECT id FROM bus WHERE id = $1 FOR SHARE")
            .bind(&place.bus)
            .fetch_optional(&mut *transaction)
            .await?;
        if bus.is_none() {
            return Ok(Placed::NoBus);
        }
        let owner: Option<String> = sqlx::query_scalar(
            "SELECT device FROM bus_unit WHERE bus = $1 AND unit = $2 AND device <> $3",
        )
        .bind(&place.bus)
        .bind(i16::from(place.unit))
        .bind(device)
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(owner) = owner {
            return Ok(Placed::Taken(owner));
        }
        sqlx::query(
            "INSERT INTO bus_unit (device, bus, unit) VALUES ($1, $2, $3)
             ON CONFLICT (device) DO UPDATE SET bus = excluded.bus, unit = excluded.unit",
        )
        .bind(device)
        .bind(&place.bus)
        .bind(i16::from(place.unit))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Placed::Done)
    }

    /// Takes a device off its bus. False when it was on none.
    pub async fn remove_unit(&self, device: &str) -> Result<bool> {
        let done = sqlx::query("DELETE FROM bus_unit WHERE device = $1")
            .bind(device)
            .execute(self.pool())
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
