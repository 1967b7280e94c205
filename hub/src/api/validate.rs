//! Checks on posted master data that neither a type nor the database makes.

use device_profiles::{epc::gtin14, limits::MASS_MG_MAX};

use super::{
    limits::{
        ANTENNAS_MAX, CHANNELS_MAX, IMPORT_ITEMS_MAX, NAME_BYTES_MAX, PORT_MAX, TIME_ZONE_BYTES_MAX,
    },
    problem::Problem,
};
use crate::store::shapes::{MasterData, NewChannel, NewSku};

/// Whether all of it can be written.
pub fn master_data(data: &MasterData) -> Result<(), Problem> {
    if data.len() > IMPORT_ITEMS_MAX {
        let detail = format!(
            "{} things at once; at most {IMPORT_ITEMS_MAX}. Send them in parts.",
            data.len()
        );
        return Err(Problem::invalid("", detail));
    }
    for (i, facility) in data.facilities.iter().enumerate() {
        name(&facility.name, || format!("facilities[{i}].name"))?;
        time_zone(&facility.time_zone, || format!("facilities[{i}].time_zone"))?;
    }
    for (i, zone) in data.zones.iter().enumerate() {
        name(&zone.name, || format!("zones[{i}].name"))?;
        if let Some(mobility) = *zone.mobility {
            let whole = mobility.over(zone.personality.mobility());
            whole.check().map_err(|error| {
                Problem::invalid(format!("zones[{i}].mobility.{}", error.knob), format!("{error}."))
            })?;
        }
    }
    for (i, shelf) in data.shelves.iter().enumerate() {
        name(&shelf.name, || format!("shelves[{i}].name"))?;
    }
    for (i, slot) in data.slots.iter().enumerate() {
        if let Some(text) = &*slot.name {
            name(text, || format!("slots[{i}].name"))?;
        }
    }
    for (i, item) in data.skus.iter().enumerate() {
        sku(item, &format!("skus[{i}]"))?;
    }
    for (i, line) in data.planogram.iter().enumerate() {
        let most = fold::limits::QUANTITY_UNITS_MAX;
        within(*line.capacity, 0..=most, || format!("planogram[{i}].capacity"))?;
        within(*line.min, 0..=most, || format!("planogram[{i}].min"))?;
    }
    for (i, device) in data.devices.iter().enumerate() {
        if device.id.as_str() == "stockfold" {
            let detail = "`stockfold` is what the hub itself is called at a broker. Give the device another id.";
            return Err(Problem::invalid(format!("devices[{i}].id"), detail));
        }
        if let Some(text) = &*device.name {
            name(text, || format!("devices[{i}].name"))?;
        }
        name(&device.profile, || format!("devices[{i}].profile"))?;
        if device.channels.len() > CHANNELS_MAX {
            let detail = format!("{} channels; at most {CHANNELS_MAX}.", device.channels.len());
            return Err(Problem::invalid(format!("devices[{i}].channels"), detail));
        }
        for (c, item) in device.channels.iter().enumerate() {
            channel(item, &format!("devices[{i}].channels[{c}]"))?;
        }
        if device.antennas.len() > ANTENNAS_MAX {
            let detail = format!("{} antennas; at most {ANTENNAS_MAX}.", device.antennas.len());
            return Err(Problem::invalid(format!("devices[{i}].antennas"), detail));
        }
        for (a, antenna) in device.antennas.iter().enumerate() {
            if !(1..=PORT_MAX).contains(&antenna.port) {
                let detail = format!("Ports are numbered from 1 to {PORT_MAX}.");
                return Err(Problem::invalid(format!("devices[{i}].antennas[{a}].port"), detail));
            }
        }
    }
    Ok(())
}

fn sku(sku: &NewSku, at: &str) -> Result<(), Problem> {
    name(&sku.name, || format!("{at}.name"))?;
    within(*sku.unit_weight_mg, 1..=MASS_MG_MAX, || format!("{at}.unit_weight_mg"))?;
    within(Some(*sku.unit_sigma_mg), 0..=MASS_MG_MAX, || format!("{at}.unit_sigma_mg"))?;
    if let Some(gtin) = &*sku.gtin {
        gtin14(gtin).map_err(|error| {
            let detail = format!(
                "Not a GTIN: {error}. It has 8 to 14 digits, of which the last checks the others."
            );
            Problem::invalid(format!("{at}.gtin"), detail)
        })?;
    }
    Ok(())
}

fn channel(channel: &NewChannel, at: &str) -> Result<(), Problem> {
    within(Some(channel.division_mg), 1..=MASS_MG_MAX, || format!("{at}.division_mg"))?;
    within(Some(channel.noise_mg), 0..=MASS_MG_MAX, || format!("{at}.noise_mg"))?;
    within(channel.capacity_mg, 1..=MASS_MG_MAX, || format!("{at}.capacity_mg"))?;
    within(channel.zero_mg, -MASS_MG_MAX..=MASS_MG_MAX, || format!("{at}.zero_mg"))
}

fn within(
    value: Option<i64>,
    range: std::ops::RangeInclusive<i64>,
    at: impl Fn() -> String,
) -> Result<(), Problem> {
    match value {
        Some(value) if !range.contains(&value) => {
            let detail = format!(
                "{value} is out of range. {} to {} is possible.",
                range.start(),
                range.end()
            );
            Err(Problem::invalid(at(), detail))
        }
        Some(_) | None => Ok(()),
    }
}

fn name(text: &str, at: impl Fn() -> String) -> Result<(), Problem> {
    let bad = |detail: String| Err(Problem::invalid(at(), detail));
    if text.trim().is_empty() {
        return bad("A name must not be empty.".to_owned());
    }
    if text.len() > NAME_BYTES_MAX {
        return bad(format!("A name of {} bytes; at most {NAME_BYTES_MAX}.", text.len()));
    }
    // PostgreSQL's text cannot hold NUL, and no name needs any other control character.
    if text.chars().any(char::is_control) {
        return bad("A name must not have control characters.".to_owned());
    }
    Ok(())
}

fn time_zone(text: &str, at: impl Fn() -> String) -> Result<(), Problem> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'+' | b'-');
    if (1..=TIME_ZONE_BYTES_MAX).contains(&text.len()) && text.bytes().all(good) {
        return Ok(());
    }
    Err(Problem::invalid(at(), format!("{text:?} is not an IANA time zone such as Europe/Berlin.")))
}
