//! The rows behind master data: read by keys, written whole by UNNEST. Only `master` uses it, inside its transaction.

use std::{collections::BTreeMap, str::FromStr};

use device_profiles::FacilityId;
use fold::{Personality, Source};
use sqlx::{PgConnection, Row, postgres::PgRow, types::Json};

use super::{
    fault::Fault,
    master::{Key, MintedCredential, key},
    shapes::{
        NewAntenna, NewChannel, NewDevice, NewFacility, NewLine, NewShelf, NewSku, NewSlot,
        NewZone, ZoneMobility,
    },
};

type Result<T> = std::result::Result<T, Fault>;

/// An id from a column. A bad one was not written by this program.
pub(super) fn id<T: FromStr<Err = device_profiles::IdError>>(text: &str) -> Result<T> {
    text.parse().map_err(|error| Fault::Broken(format!("a row holds a bad id {text:?}: {error}")))
}

fn id_at<T: FromStr<Err = device_profiles::IdError>>(row: &PgRow, column: &str) -> Result<T> {
    id(row.try_get::<&str, _>(column)?)
}

fn id_or_none<T: FromStr<Err = device_profiles::IdError>>(
    row: &PgRow,
    column: &str,
) -> Result<Option<T>> {
    row.try_get::<Option<&str>, _>(column)?.map(id).transpose()
}

fn source(text: &str) -> Result<Source> {
    match text {
        "weight" => Ok(Source::Weight),
        "scan" => Ok(Source::Scan),
        "rfid" => Ok(Source::Rfid),
        _ => Err(Fault::Broken(format!("a row holds a bad source {text:?}"))),
    }
}

/// Both columns of keys.
fn columns(keys: &[Key]) -> (Vec<&str>, Vec<&str>) {
    keys.iter().map(|(facility, id)| (facility.as_str(), id.as_str())).unzip()
}

fn facility_of(facility: &Option<FacilityId>) -> &str {
    facility.as_ref().map_or("", |f| f.as_str())
}

pub(super) async fn facilities(
    connection: &mut PgConnection,
    ids: &[&str],
) -> Result<BTreeMap<String, NewFacility>> {
    let rows = sqlx::query("SELECT id, name, time_zone FROM facility WHERE id = ANY($1)")
        .bind(ids)
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            let facility = NewFacility {
                id: id_at(row, "id")?,
                name: row.try_get("name")?,
                time_zone: row.try_get::<String, _>("time_zone")?.into(),
            };
            Ok((facility.id.to_string(), facility))
        })
        .collect()
}

pub(super) async fn all_facilities(connection: &mut PgConnection) -> Result<Vec<FacilityId>> {
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT id FROM facility ORDER BY id").fetch_all(connection).await?;
    ids.iter().map(|text| id(text)).collect()
}

pub(super) async fn put_facilities(
    connection: &mut PgConnection,
    facilities: &[NewFacility],
    shards: &[i16],
) -> Result<()> {
    sqlx::query(
        "INSERT INTO facility (id, name, time_zone, shard)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::smallint[])
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, time_zone = excluded.time_zone",
    )
    .bind(facilities.iter().map(|f| f.id.as_str()).collect::<Vec<_>>())
    .bind(facilities.iter().map(|f| f.name.as_str()).collect::<Vec<_>>())
    .bind(facilities.iter().map(|f| f.time_zone.as_str()).collect::<Vec<_>>())
    .bind(shards)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn zones(
    connection: &mut PgConnection,
    keys: &[Key],
) -> Result<BTreeMap<Key, NewZone>> {
    let (facilities, ids) = columns(keys);
    let rows = sqlx::query(
        "SELECT facility, id, name, personality, mobility FROM zone
         WHERE (facility, id) IN (SELECT * FROM UNNEST($1::text[], $2::text[]))",
    )
    .bind(facilities)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let mobility: Option<Json<ZoneMobility>> = row.try_get("mobility")?;
            let zone = NewZone {
                facility: id_or_none(row, "facility")?,
                id: id_at(row, "id")?,
                name: row.try_get("name")?,
                personality: personality(row.try_get("personality")?)?.into(),
                mobility: mobility.map(|m| m.0).into(),
            };
            Ok((key(&zone.facility, &zone.id), zone))
        })
        .collect()
}

fn personality(text: &str) -> Result<Personality> {
    [Personality::Shelf, Personality::Exit, Personality::Sale, Personality::Fitting]
        .into_iter()
        .find(|personality| personality.as_str() == text)
        .ok_or_else(|| Fault::Broken(format!("zone personality {text:?} in the database")))
}

pub(super) async fn put_zones(connection: &mut PgConnection, zones: &[NewZone]) -> Result<()> {
    if zones.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO zone (facility, id, name, personality, mobility)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[])
         ON CONFLICT (facility, id) DO UPDATE
         SET name = excluded.name, personality = excluded.personality, mobility = excluded.mobility",
    )
    .bind(zones.iter().map(|z| facility_of(&z.facility)).collect::<Vec<_>>())
    .bind(zones.iter().map(|z| z.id.as_str()).collect::<Vec<_>>())
    .bind(zones.iter().map(|z| z.name.as_str()).collect::<Vec<_>>())
    .bind(zones.iter().map(|z| z.personality.as_str()).collect::<Vec<_>>())
    .bind(zones.iter().map(|z| z.mobility.map(Json)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn shelves(
    connection: &mut PgConnection,
    keys: &[Key],
) -> Result<BTreeMap<Key, NewShelf>> {
    let (facilities, ids) = columns(keys);
    let rows = sqlx::query(
        "SELECT facility, id, name, zone FROM shelf
         WHERE (facility, id) IN (SELECT * FROM UNNEST($1::text[], $2::text[]))",
    )
    .bind(facilities)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let shelf = NewShelf {
                facility: id_or_none(row, "facility")?,
                id: id_at(row, "id")?,
                name: row.try_get("name")?,
                zone: id_or_none(row, "zone")?.into(),
            };
            Ok((key(&shelf.facility, &shelf.id), shelf))
        })
        .collect()
}

pub(super) async fn put_shelves(connection: &mut PgConnection, shelves: &[NewShelf]) -> Result<()> {
    if shelves.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO shelf (facility, id, name, zone)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[])
         ON CONFLICT (facility, id) DO UPDATE SET name = excluded.name, zone = excluded.zone",
    )
    .bind(shelves.iter().map(|s| facility_of(&s.facility)).collect::<Vec<_>>())
    .bind(shelves.iter().map(|s| s.id.as_str()).collect::<Vec<_>>())
    .bind(shelves.iter().map(|s| s.name.as_str()).collect::<Vec<_>>())
    .bind(shelves.iter().map(|s| s.zone.as_ref().map(|z| z.as_str())).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

fn slot(row: &PgRow) -> Result<NewSlot> {
    Ok(NewSlot {
        facility: id_or_none(row, "facility")?,
        id: id_at(row, "id")?,
        shelf: id_at(row, "shelf")?,
        name: Some(row.try_get("name")?).into(),
        receiving: row.try_get::<bool, _>("receiving")?.into(),
    })
}

pub(super) async fn slots(
    connection: &mut PgConnection,
    keys: &[Key],
) -> Result<BTreeMap<Key, NewSlot>> {
    let (facilities, ids) = columns(keys);
    let rows = sqlx::query(
        "SELECT facility, id, shelf, name, receiving FROM slot
         WHERE (facility, id) IN (SELECT * FROM UNNEST($1::text[], $2::text[]))",
    )
    .bind(facilities)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| slot(row).map(|slot| (key(&slot.facility, &slot.id), slot))).collect()
}

/// Slots on these shelves.
pub(super) async fn slots_on(
    connection: &mut PgConnection,
    shelves: &[Key],
) -> Result<Vec<NewSlot>> {
    let (facilities, ids) = columns(shelves);
    let rows = sqlx::query(
        "SELECT facility, id, shelf, name, receiving FROM slot
         WHERE (facility, shelf) IN (SELECT * FROM UNNEST($1::text[], $2::text[])) ORDER BY facility, id",
    )
    .bind(facilities)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    rows.iter().map(slot).collect()
}

/// The receiving slot of each of these facilities.
pub(super) async fn receiving_slots(
    connection: &mut PgConnection,
    facilities: &[&str],
) -> Result<BTreeMap<String, String>> {
    let rows = sqlx::query("SELECT facility, id FROM slot WHERE receiving AND facility = ANY($1)")
        .bind(facilities)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

pub(super) async fn put_slots(connection: &mut PgConnection, slots: &[NewSlot]) -> Result<()> {
    if slots.is_empty() {
        return Ok(());
    }
    // Those that stop receiving go first, because a facility has one receiving slot at any moment.
    let (last, first): (Vec<&NewSlot>, Vec<&NewSlot>) = slots.iter().partition(|s| *s.receiving);
    for slots in [first, last] {
        sqlx::query(
            "INSERT INTO slot (facility, id, shelf, name, receiving)
             SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[])
             ON CONFLICT (facility, id) DO UPDATE
             SET shelf = excluded.shelf, name = excluded.name, receiving = excluded.receiving",
        )
        .bind(slots.iter().map(|s| facility_of(&s.facility)).collect::<Vec<_>>())
        .bind(slots.iter().map(|s| s.id.as_str()).collect::<Vec<_>>())
        .bind(slots.iter().map(|s| s.shelf.as_str()).collect::<Vec<_>>())
        .bind(slots.iter().map(|s| s.name.as_deref().unwrap_or("")).collect::<Vec<_>>())
        .bind(slots.iter().map(|s| *s.receiving).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

fn sku(row: &PgRow) -> Result<NewSku> {
    Ok(NewSku {
        id: id_at(row, "id")?,
        name: row.try_get("name")?,
        unit_weight_mg: row.try_get::<Option<i64>, _>("unit_weight_mg")?.into(),
        unit_sigma_mg: row.try_get::<i64, _>("unit_sigma_mg")?.into(),
        gtin: row.try_get::<Option<String>, _>("gtin")?.into(),
    })
}

pub(super) async fn skus(
    connection: &mut PgConnection,
    ids: &[&str],
) -> Result<BTreeMap<String, NewSku>> {
    let rows = sqlx::query(
        "SELECT id, name, unit_weight_mg, unit_sigma_mg, gtin FROM sku
         WHERE id = ANY($1) AND retired_at IS NULL",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| sku(row).map(|sku| (sku.id.to_string(), sku))).collect()
}

pub(super) async fn all_skus(connection: &mut PgConnection) -> Result<Vec<NewSku>> {
    let rows = sqlx::query(
        "SELECT id, name, unit_weight_mg, unit_sigma_mg, gtin FROM sku WHERE retired_at IS NULL ORDER BY id",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(sku).collect()
}

/// Which SKU has which of these GTINs, each in its 14 digits.
pub(super) async fn gtins(
    connection: &mut PgConnection,
    gtins: &[String],
) -> Result<BTreeMap<String, String>> {
    let rows =
        sqlx::query("SELECT lpad(gtin, 14, '0'), id FROM sku WHERE lpad(gtin, 14, '0') = ANY($1)")
            .bind(gtins)
            .fetch_all(connection)
            .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

pub(super) async fn put_skus(connection: &mut PgConnection, skus: &[NewSku]) -> Result<()> {
    sqlx::query(
        "INSERT INTO sku (id, name, unit_weight_mg, unit_sigma_mg, gtin)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[])
         ON CONFLICT (id) DO UPDATE
         SET name = excluded.name, unit_weight_mg = excluded.unit_weight_mg, unit_sigma_mg = excluded.unit_sigma_mg,
             gtin = excluded.gtin, revision = sku.revision + 1, retired_at = NULL",
    )
    .bind(skus.iter().map(|s| s.id.as_str()).collect::<Vec<_>>())
    .bind(skus.iter().map(|s| s.name.as_str()).collect::<Vec<_>>())
    .bind(skus.iter().map(|s| *s.unit_weight_mg).collect::<Vec<_>>())
    .bind(skus.iter().map(|s| *s.unit_sigma_mg).collect::<Vec<_>>())
    .bind(skus.iter().map(|s| s.gtin.as_deref()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

fn line(row: &PgRow) -> Result<NewLine> {
    Ok(NewLine {
        facility: id_or_none(row, "facility")?,
        slot: id_at(row, "slot")?,
        sku: id_at(row, "sku")?,
        source: source(row.try_get("source")?)?,
        capacity: row.try_get::<Option<i64>, _>("capacity")?.into(),
        min: row.try_get::<Option<i64>, _>("min")?.into(),
    })
}

/// Every line of a facility.
pub(super) async fn lines_of(
    connection: &mut PgConnection,
    facility: &str,
) -> Result<Vec<NewLine>> {
    let rows = sqlx::query(
        "SELECT facility, slot, sku, source, capacity, min FROM planogram_line WHERE facility = $1
         ORDER BY slot, sku",
    )
    .bind(facility)
    .fetch_all(connection)
    .await?;
    rows.iter().map(line).collect()
}

/// Every line of these slots.
pub(super) async fn lines_in(connection: &mut PgConnection, slots: &[Key]) -> Result<Vec<NewLine>> {
    let (facilities, ids) = columns(slots);
    let rows = sqlx::query(
        "SELECT facility, slot, sku, source, capacity, min FROM planogram_line
         WHERE (facility, slot) IN (SELECT * FROM UNNEST($1::text[], $2::text[])) ORDER BY facility, slot, sku",
    )
    .bind(facilities)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    rows.iter().map(line).collect()
}

pub(super) async fn delete_lines(connection: &mut PgConnection, lines: &[NewLine]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM planogram_line
         WHERE (facility, slot, sku) IN (SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[]))",
    )
    .bind(lines.iter().map(|l| facility_of(&l.facility)).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| l.slot.as_str()).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| l.sku.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn put_lines(connection: &mut PgConnection, lines: &[NewLine]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO planogram_line (facility, slot, sku, source, capacity, min)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
         ON CONFLICT (facility, slot, sku) DO UPDATE
         SET source = excluded.source, capacity = excluded.capacity, min = excluded.min",
    )
    .bind(lines.iter().map(|l| facility_of(&l.facility)).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| l.slot.as_str()).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| l.sku.as_str()).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| l.source.as_str()).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| *l.capacity).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| *l.min).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// The newest texts of those of these profile names and hashes that exist.
pub(super) async fn profiles(
    connection: &mut PgConnection,
    names: &[&str],
) -> Result<BTreeMap<String, String>> {
    let rows = sqlx::query(
        "SELECT DISTINCT ON (called) called, content FROM UNNEST($1::text[]) AS called
         JOIN profile ON name = called OR encode(hash, 'hex') = called ORDER BY called, created_at DESC",
    )
    .bind(names)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

pub(super) async fn devices(
    connection: &mut PgConnection,
    ids: &[&str],
) -> Result<BTreeMap<String, NewDevice>> {
    let rows = sqlx::query(
        "SELECT id, facility, name, profile, slot, gateway FROM device
         WHERE id = ANY($1) AND retired_at IS NULL",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    let mut devices = BTreeMap::new();
    for row in &rows {
        let device = NewDevice {
            id: id_at(row, "id")?,
            facility: id_at(row, "facility")?,
            name: Some(row.try_get("name")?).into(),
            profile: row.try_get::<String, _>("profile")?.into(),
            slot: id_or_none(row, "slot")?.into(),
            gateway: id_or_none(row, "gateway")?.into(),
            channels: Vec::new().into(),
            antennas: Vec::new().into(),
        };
        devices.insert(device.id.to_string(), device);
    }
    let rows = sqlx::query(
        "SELECT device, channel, slot, division_mg, noise_mg, capacity_mg, zero_mg FROM device_channel
         WHERE device = ANY($1) ORDER BY device, channel COLLATE \"C\"",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    for row in &rows {
        if let Some(device) = devices.get_mut(row.try_get::<&str, _>("device")?) {
            device.channels.push(NewChannel {
                channel: id_at(row, "channel")?,
                slot: id_at(row, "slot")?,
                division_mg: row.try_get("division_mg")?,
                noise_mg: row.try_get("noise_mg")?,
                capacity_mg: row.try_get("capacity_mg")?,
                zero_mg: row.try_get("zero_mg")?,
            });
        }
    }
    let rows = sqlx::query(
        "SELECT device, port, zone, slot, outside FROM antenna WHERE device = ANY($1) ORDER BY device, port",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    for row in &rows {
        if let Some(device) = devices.get_mut(row.try_get::<&str, _>("device")?) {
            device.antennas.push(NewAntenna {
                port: row.try_get::<i16, _>("port")?.cast_unsigned(),
                zone: id_at(row, "zone")?,
                slot: id_or_none(row, "slot")?,
                outside: row.try_get("outside")?,
            });
        }
    }
    Ok(devices)
}

/// Which device's cell each of these slots stands on.
pub(super) async fn cells(
    connection: &mut PgConnection,
    slots: &[Key],
) -> Result<BTreeMap<Key, String>> {
    let (facilities, ids) = columns(slots);
    let rows = sqlx::query(
        "SELECT facility, slot, device FROM device_channel
         WHERE (facility, slot) IN (SELECT * FROM UNNEST($1::text[], $2::text[]))",
    )
    .bind(facilities)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?))).collect()
}

pub(super) async fn put_devices(
    connection: &mut PgConnection,
    devices: &[NewDevice],
) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = devices.iter().map(|d| d.id.as_str()).collect();
    sqlx::query(
        "INSERT INTO device (id, facility, name, profile, slot, gateway)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
         ON CONFLICT (id) DO UPDATE
         SET name = excluded.name, profile = excluded.profile, slot = excluded.slot, gateway = excluded.gateway,
             -- A retired one begins anew, if need be elsewhere; one that is there keeps what it has.
             facility = excluded.facility, retired_at = NULL,
             revoked_at = CASE WHEN device.retired_at IS NULL THEN device.revoked_at END,
             created_at = CASE WHEN device.retired_at IS NULL THEN device.created_at ELSE now() END",
    )
    .bind(&ids)
    .bind(devices.iter().map(|d| d.facility.as_str()).collect::<Vec<_>>())
    .bind(devices.iter().map(|d| d.name.as_deref().unwrap_or("")).collect::<Vec<_>>())
    .bind(devices.iter().map(|d| d.profile.as_str()).collect::<Vec<_>>())
    .bind(devices.iter().map(|d| d.slot.as_ref().map(|s| s.as_str())).collect::<Vec<_>>())
    .bind(devices.iter().map(|d| d.gateway.as_ref().map(|g| g.as_str())).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM device_channel WHERE device = ANY($1)")
        .bind(&ids)
        .execute(&mut *connection)
        .await?;
    let channels: Vec<(&NewDevice, &NewChannel)> =
        devices.iter().flat_map(|d| d.channels.iter().map(move |c| (d, c))).collect();
    sqlx::query(
        "INSERT INTO device_channel (device, facility, channel, slot, division_mg, noise_mg, capacity_mg, zero_mg)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
                              $7::bigint[], $8::bigint[])",
    )
    .bind(channels.iter().map(|(d, _)| d.id.as_str()).collect::<Vec<_>>())
    .bind(channels.iter().map(|(d, _)| d.facility.as_str()).collect::<Vec<_>>())
    .bind(channels.iter().map(|(_, c)| c.channel.as_str()).collect::<Vec<_>>())
    .bind(channels.iter().map(|(_, c)| c.slot.as_str()).collect::<Vec<_>>())
    .bind(channels.iter().map(|(_, c)| c.division_mg).collect::<Vec<_>>())
    .bind(channels.iter().map(|(_, c)| c.noise_mg).collect::<Vec<_>>())
    .bind(channels.iter().map(|(_, c)| c.capacity_mg).collect::<Vec<_>>())
    .bind(channels.iter().map(|(_, c)| c.zero_mg).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await?;
    put_antennas(connection, devices, &ids).await
}

async fn put_antennas(
    connection: &mut PgConnection,
    devices: &[NewDevice],
    ids: &[&str],
) -> Result<()> {
    sqlx::query("DELETE FROM antenna WHERE device = ANY($1)")
        .bind(ids)
        .execute(&mut *connection)
        .await?;
    let antennas: Vec<(&NewDevice, &NewAntenna)> =
        devices.iter().flat_map(|d| d.antennas.iter().map(move |a| (d, a))).collect();
    if antennas.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO antenna (device, facility, port, zone, slot, outside)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::smallint[], $4::text[], $5::text[], $6::bool[])",
    )
    .bind(antennas.iter().map(|(d, _)| d.id.as_str()).collect::<Vec<_>>())
    .bind(antennas.iter().map(|(d, _)| d.facility.as_str()).collect::<Vec<_>>())
    .bind(antennas.iter().map(|(_, a)| a.port.cast_signed()).collect::<Vec<_>>())
    .bind(antennas.iter().map(|(_, a)| a.zone.as_str()).collect::<Vec<_>>())
    .bind(antennas.iter().map(|(_, a)| a.slot.as_ref().map(|s| s.as_str())).collect::<Vec<_>>())
    .bind(antennas.iter().map(|(_, a)| a.outside).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Credentials of devices.
pub(super) async fn put_credentials(
    connection: &mut PgConnection,
    minted: &[(&str, &MintedCredential)],
) -> Result<()> {
    if minted.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO credential (id, device, secret_sha256)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::bytea[])",
    )
    .bind(minted.iter().map(|(_, m)| m.id.as_str()).collect::<Vec<_>>())
    .bind(minted.iter().map(|(device, _)| *device).collect::<Vec<_>>())
    .bind(minted.iter().map(|(_, m)| m.secret_sha256.as_slice()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
