//! Register images to readings, by the field map of a profile.
//!
//! A scale whose device reports a fault still gives a measurement: the fold must know that the mass is not to be believed, and
//! a person why. A field the image has not, or a number that is none, rejects the frame.

use crate::{
    limits::MASS_MG_MAX,
    modbus::{Image, ModbusMap},
    profile::{Kind, Profile, RegisterMap, ScaleMap, WeightCells},
    reading::{DecodeReject, Measurement, Reading, Value},
    units::Milligrams,
};

/// Decodes one register image of a stream.
pub fn decode(profile: &Profile, name: &str, raw: &[u8]) -> Result<Reading, DecodeReject> {
    let unknown = || DecodeReject::UnknownStream(name.to_owned());
    let stream = profile.stream(name).ok_or_else(unknown)?;
    let map = profile.modbus.as_ref().ok_or_else(unknown)?;
    let image = Image::parse(raw).map_err(DecodeReject::NotImage)?;
    let mut measurements = Vec::new();
    match &stream.kind {
        Kind::Weight(weight) => {
            let WeightCells::Registers(scales) = &weight.cells else { return Err(unknown()) };
            for scale in scales {
                measurements.push(weigh(map, scale, &image)?);
            }
        }
        Kind::Registers(RegisterMap { fields }) => {
            for field in fields {
                let found =
                    map.fields.get(field).ok_or_else(|| DecodeReject::Missing(field.clone()))?;
                let value = if found.table.is_bits() {
                    let bit = image.bit(found.table, found.at);
                    Value::Bool(bit.ok_or_else(|| DecodeReject::Missing(field.clone()))?)
                } else {
                    Value::Number(found.value(field, &map.fields, &image)?)
                };
                measurements.push(Measurement::Value { name: format!("{name}.{field}"), value });
            }
        }
        Kind::Stock(_) | Kind::Scan(_) | Kind::Values(_) | Kind::Plain(_) | Kind::Tags(_) => {
            return Err(unknown());
        }
    }
    Ok(Reading { seq: None, boot: None, device_us: None, measurements })
}

fn weigh(
    map: &ModbusMap,
    scale: &ScaleMap,
    image: &Image<'_>,
) -> Result<Measurement, DecodeReject> {
    let mut fault = None;
    for (test, found) in &scale.faults {
        if test.holds(&map.fields, image)? {
            fault = Some(*found);
            break;
        }
    }
    let stable = scale.stable.as_ref().map(|test| test.holds(&map.fields, image)).transpose()?;
    let out_of_range = || DecodeReject::OutOfRange(scale.mass.clone());
    let field = map.fields.get(&scale.mass).ok_or_else(out_of_range)?;
    let mass = match (field.value(&scale.mass, &map.fields, image), fault) {
        (Ok(value), _) => {
            let mg = (value * scale.unit.milligrams()).round();
            if mg.abs() > MASS_MG_MAX as f64 && fault.is_none() {
                return Err(out_of_range());
            }
            mg.clamp(-(MASS_MG_MAX as f64), MASS_MG_MAX as f64) as i64
        }
        // A broken cell may show anything, NaN too; that it is broken is what counts.
        (Err(_), Some(_)) => 0,
        (Err(reject), None) => return Err(reject),
    };
    Ok(Measurement::Weight {
        channel: scale.channel.clone(),
        mass: Milligrams(mass),
        stable: if fault.is_some() { Some(false) } else { stable },
        fault,
    })
}
