//! EdgeX device profiles, turned into profiles of ours.
//!
//! EdgeX Foundry describes Modbus devices as a list of resources: a table, an address, a type, and arithmetic on what was
//! read. Whatever of that has an exact counterpart here is carried over; whatever has none is left out and named in a comment
//! of the result, with the reason. Nothing is approximated: a figure that EdgeX and the hub would tell differently is worse
//! than one that is missing. How EdgeX reads was taken from its own code (device-modbus-go 4.1, device-sdk-go 4.1):
//!
//! - addresses count from 0 (from release 2.0 on); `10.10` means bit 10 of register 10, and an unquoted `10.1` the same;
//! - only 32-bit numbers are swapped; masks and shifts hold for integers only; a positive shift goes to the right;
//! - a reading is masked, shifted, raised (`base`), multiplied (`scale`) and added to (`offset`), in this order, in the type of
//!   the resource.
//!
//! The result is a text with comments, because a person is meant to read it before it is used. It passes [`Profile::parse`].

mod resource;

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    limits::{FIELDS_MAX, IMAGE_BLOCKS_MAX, IMPORT_BYTES_MAX, POLL_MS_MAX, POLL_MS_MIN},
    profile::{Profile, ProfileError, read},
};

use resource::{Imported, Resource};

/// Why a text cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Longer than [`IMPORT_BYTES_MAX`].
    #[error("the file has {0} bytes, at most {IMPORT_BYTES_MAX} are read")]
    TooLarge(usize),
    /// Not YAML, or not an EdgeX device profile.
    #[error("this is no EdgeX device profile; {0}")]
    NotEdgeX(ProfileError),
    /// A profile of EdgeX 1, whose properties are nested differently.
    #[error("this is a profile of EdgeX 1; convert it to the format of EdgeX 2 or later first")]
    OldFormat,
    /// No resource has a counterpart here; each with its reason.
    #[error("none of its resources can be read here: {}", .0.join("; "))]
    Nothing(Vec<String>),
    /// The period is outside the limits of polling.
    #[error("the period must be {POLL_MS_MIN} to {POLL_MS_MAX} ms, not {0}")]
    Period(u32),
    /// The result would not be a profile.
    #[error("it cannot be written as a profile; {0}")]
    Unsound(ProfileError),
}

/// An EdgeX device profile, as far as it is read. Keys that are not listed are passed over: the format is not ours to check.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceProfile {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    manufacturer: Option<String>,
    #[serde(default)]
    model: Option<String>,
    device_resources: Vec<Resource>,
    #[serde(default)]
    device_commands: Option<Vec<DeviceCommand>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceCommand {
    name: String,
    #[serde(default)]
    resource_operations: Vec<Value>,
}

/// The profile text that reads what an EdgeX device profile reads, every `poll_ms` milliseconds.
pub fn import(text: &str, poll_ms: u32) -> Result<String, ImportError> {
    if text.len() > IMPORT_BYTES_MAX {
        return Err(ImportError::TooLarge(text.len()));
    }
    if !(POLL_MS_MIN..=POLL_MS_MAX).contains(&poll_ms) {
        return Err(ImportError::Period(poll_ms));
    }
    let source: DeviceProfile = read(text).map_err(ImportError::NotEdgeX)?;
    if source.device_resources.iter().any(Resource::is_of_version_1) {
        return Err(ImportError::OldFormat);
    }
    let (mut fields, mut left): (Vec<Imported>, Vec<String>) = (Vec::new(), Vec::new());
    for resource in &source.device_resources {
        let found = resource.import().and_then(|field| {
            if fields.len() == FIELDS_MAX {
                return Err(format!("a register map has at most {FIELDS_MAX} fields"));
            }
            match fields.iter().find_map(|other| field.clashes(other)) {
                Some(why) => Err(why),
                None => Ok(field),
            }
        });
        match found {
            Ok(field) => fields.push(field),
            Err(why) => left.push(format!("{}: {why}", line(&resource.name))),
        }
    }
    if fields.is_empty() {
        return Err(ImportError::Nothing(left));
    }
    // One stream if one poll can read it all; else streams so small that each field may be a request of its own.
    let result = write(&source, &fields, &left, poll_ms, FIELDS_MAX);
    if Profile::parse(&result).is_ok() {
        return Ok(result);
    }
    let result = write(&source, &fields, &left, poll_ms, IMAGE_BLOCKS_MAX);
    match Profile::parse(&result) {
        Ok(_) => Ok(result),
        Err(error) => Err(ImportError::Unsound(error)),
    }
}

/// The text, with at most `per_stream` fields a stream.
fn write(
    source: &DeviceProfile,
    fields: &[Imported],
    left: &[String],
    poll_ms: u32,
    per_stream: usize,
) -> String {
    let mut out = String::new();
    let mut say = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    say(format!("# Imported from the EdgeX device profile {}.", quoted(&line(&source.name))));
    say("# Addresses count from 0, as EdgeX 2.0 and later count them. For a profile of an older EdgeX add `base: 1`.".into());
    say("# EdgeX keeps the period in the device's autoEvents and not in its profile: poll_ms is yours to set.".into());
    say("# To count what lies on a scale, replace its stream of registers by one of weight: docs/specs/profile.md.".into());
    let notes: Vec<String> = fields
        .iter()
        .flat_map(|f| f.notes.iter().map(|note| format!("#   {}: {note}", f.name)))
        .collect();
    for (title, lines) in
        [("Read differently, or only in part:", notes), ("Not carried over:", lost(source, left))]
    {
        if !lines.is_empty() {
            say(format!("# {title}"));
            lines.into_iter().for_each(&mut say);
        }
    }
    say(format!("name: {}", quoted(&profile_name(&source.name))));
    if let Some(description) = &source.description {
        say(format!("description: {}", quoted(&line(description))));
    }
    say("codec: modbus".into());
    say("modbus:".into());
    let maker: Vec<String> = [&source.manufacturer, &source.model]
        .into_iter()
        .flatten()
        .map(|text| line(text))
        .collect();
    let origin = format!("EdgeX device profile {} {}", line(&source.name), maker.join(" "));
    say(format!("  source: {}", quoted(origin.trim_end())));
    say("  fields:".into());
    for field in fields {
        say(format!("    {}: {}", quoted(&field.name), field.yaml()));
    }
    say("streams:".into());
    let streams = fields.chunks(per_stream).count();
    for (i, chunk) in fields.chunks(per_stream).enumerate() {
        say(if streams == 1 { "  values:".into() } else { format!("  values-{}:", i + 1) });
        say("    class: telemetry".into());
        say("    dedupe: level".into());
        say(format!("    poll_ms: {poll_ms}"));
        let names: Vec<String> = chunk.iter().map(|field| quoted(&field.name)).collect();
        say(format!("    registers: [{}]", names.join(", ")));
    }
    out
}

/// What the result lacks, a comment each.
fn lost(source: &DeviceProfile, left: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = left.iter().map(|why| format!("#   {why}")).collect();
    for command in source.device_commands.iter().flatten() {
        let mapped = command.resource_operations.iter().any(|op| !op["mappings"].is_null());
        let what = if mapped { "its grouping and its mappings of values" } else { "its grouping" };
        lines.push(format!("#   command {}: {what}; every resource is read", line(&command.name)));
    }
    lines
}

/// A text on one line, without what would end a comment.
fn line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text as YAML: a JSON string is one.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn profile_name(name: &str) -> String {
    let id = resource::id_like(name, '-');
    let mut end = id.len().min(crate::limits::ID_BYTES_MAX);
    while !id.is_char_boundary(end) {
        end -= 1;
    }
    let id = id.get(..end).unwrap_or_default();
    if crate::ids::check_id(id).is_ok() { id.to_owned() } else { "imported".to_owned() }
}

impl Imported {
    /// The field as a YAML flow map.
    fn yaml(&self) -> String {
        let mut out = format!("{{ table: {}, at: {}, type: {}", self.table, self.at, self.kind);
        // Writing to a string cannot fail.
        let _ = match self.order {
            "ABCD" => Ok(()),
            order => write!(out, ", order: {order}"),
        };
        if let Some(mask) = self.mask {
            let _ = write!(out, ", mask: 0x{mask:X}");
        }
        if self.scale != 1.0 {
            let _ = write!(out, ", scale: {}", self.scale);
        }
        if self.offset != 0.0 {
            let _ = write!(out, ", offset: {}", self.offset);
        }
        out.push_str(" }");
        if let Some(unit) = &self.unit {
            let _ = write!(out, " # {}", line(unit));
        }
        out
    }
}
