//! Why a number is so: level ← movement ← rule ← the frames it rests on, down to their bytes.
//!
//! A frame is read from the journal, or from the evidence copies when the journal was trimmed. It is decoded with the profile
//! of its own hash, so a figure of last week is explained with the rules of last week.

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use device_profiles::{
    FacilityId, Measurement, Profile, ReaderEvent, Value as Measured,
    codec::scanner::{self, mode_name},
    profile::Codec,
};
use fold::{Body, Command, Entry, Position, Principal};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    Api, narrative::narrative, problem::Problem, profiles, request::id, stock::movement_id,
};
use crate::{
    desk::Desk,
    store::{
        query::StockFilter,
        read_master::SkuNow,
        told::{MovementTold, StockLine, hex},
        when::When,
    },
};

/// Why a number is so.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// The movement.
    movement: MovementTold,
    /// The line as it stands now.
    level: Option<StockLine>,
    /// The rule that made the movement, with its numbers.
    #[schema(value_type = Object)]
    rule: Value,
    /// What it rests on, the entry that made it first.
    evidence: Vec<Evidence>,
    /// The calibration in force, for movements a load cell showed.
    calibration: Option<Calibration>,
    /// Mass of one unit that the decision used, milligrams; nothing when it rests on no mass.
    unit_weight_used_mg: Option<i64>,
    /// The SKU as it is known now, which may be otherwise than when this was decided.
    sku_now: Option<SkuNow>,
    /// Version of the rules.
    fold_version: u32,
    /// The rule in sentences.
    narrative: Vec<String>,
}

/// An entry that a movement rests on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Evidence {
    /// Where it stands in the journal.
    position: String,
    /// What it is: `frame`, `command`, `master`, `tick`, `other`; `gone` when it is kept nowhere any more.
    kind: &'static str,
    /// When it was appended.
    received_at: Option<When>,
    /// Who caused it; nobody when a device did.
    principal: Option<String>,
    /// The device.
    device: Option<String>,
    /// Its boot.
    boot: Option<String>,
    /// Its sequence number.
    seq: Option<u64>,
    /// Its stream.
    stream: Option<String>,
    /// Name of the profile it was read with.
    profile: Option<String>,
    /// Hash of that profile's text.
    profile_hash: Option<String>,
    /// Who had the scanner, of a scan whose operator was told.
    operator: Option<ScannedBy>,
    /// Its bytes.
    raw_hex: Option<String>,
    /// Its bytes as text, when they are text.
    raw_text: Option<String>,
    /// What the bytes say, or what the call said.
    #[schema(value_type = Object)]
    decoded: Value,
}

/// Who had a scanner.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScannedBy {
    /// Who.
    pub(super) who: String,
    /// Number of the first scan that this operator made, in the boot of the frame; nothing when the frame does not say it.
    pub(super) since_seq: Option<u64>,
}

/// How a cell's raw value becomes a mass.
#[derive(Debug, Serialize, ToSchema)]
pub struct Calibration {
    /// Its channel.
    channel: String,
    /// Raw reading of the empty slot, milligrams.
    zero_mg: i64,
    /// Scale in millionths.
    scale_ppm: i64,
    /// The entry that set it; nothing when it came with the device's enrolment.
    position: Option<String>,
    /// Who set it, while that entry is kept.
    set_by: Option<String>,
    /// When it was set, while that entry is kept.
    set_at: Option<When>,
}

/// Explains a movement.
#[utoipa::path(get, path = "/api/v1/movements/{id}/explain", tag = "stock", params(("id" = String, Path)), responses((status = 200, body = Explanation)))]
pub async fn explain(
    api: web::Data<Api>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let unknown = || Problem::not_found("movement", &path);
    let name = movement_id(&path).ok_or_else(unknown)?;
    let store = &api.desk.store;
    let found = store.movement_reasons(name).await?.ok_or_else(unknown)?;
    let movement = found.movement;
    let rule: Value = match &found.why {
        Some(text) => serde_json::from_str(text).unwrap_or_default(),
        None => json!({ "rule": "declared" }),
    };
    let line = StockFilter {
        facility: Some(&movement.facility),
        slot: Some(&movement.slot),
        sku: Some(&movement.sku),
        ..StockFilter::default()
    };
    let level = store.stock(line, 1, api.desk.now_us()).await?.into_iter().next();
    let sku_now = store.sku_now(&movement.sku).await?;
    let facility: FacilityId = id("facility", &movement.facility)?;
    let evidence = evidence(&api, name.position, &found.evidence, &facility).await?;
    Ok(HttpResponse::Ok().json(Explanation {
        calibration: calibration(&api, &rule, name.position, &facility).await?,
        narrative: narrative(&movement, Some(&rule), operator(&evidence)),
        unit_weight_used_mg: rule["unit_mg"].as_i64(),
        fold_version: movement.fold_version,
        movement,
        level,
        rule,
        evidence,
        sku_now,
    }))
}

/// Who had the scanner that made a movement: the entry that made it is told first.
fn operator(evidence: &[Evidence]) -> Option<&ScannedBy> {
    evidence.first()?.operator.as_ref()
}

/// Entries by offset, as they are told.
pub(super) async fn evidence(
    api: &Api,
    at: Position,
    offsets: &[u64],
    facility: &FacilityId,
) -> Result<Vec<Evidence>, Problem> {
    let mut told = Vec::with_capacity(offsets.len());
    for (position, entry) in entries(api, at, offsets, facility).await? {
        told.push(match entry {
            Some(entry) => tell(api, &entry).await?,
            None => gone(position),
        });
    }
    Ok(told)
}

/// Entries by offset: from the journal, else from the evidence copies.
async fn entries(
    api: &Api,
    at: Position,
    offsets: &[u64],
    facility: &FacilityId,
) -> Result<Vec<(Position, Option<Entry>)>, Problem> {
    let positions: Vec<Position> =
        offsets.iter().map(|offset| Position { offset: *offset, ..at }).collect();
    let (desk, home) = (api.desk.clone(), facility.clone());
    let mut found = web::block(move || {
        let entry = |position: Position| (position, desk.entry_at(position, &home));
        positions.into_iter().map(entry).collect::<Vec<_>>()
    })
    .await
    .map_err(|error| Problem::internal(error.to_string()))?;
    let missing: Vec<u64> = found
        .iter()
        .filter(|(_, entry)| entry.is_none())
        .map(|(position, _)| position.offset)
        .collect();
    if missing.is_empty() {
        return Ok(found);
    }
    for row in api.desk.store.evidence(at, &missing).await? {
        let offset = row.offset.cast_unsigned();
        let Some(place) = found.iter_mut().find(|(position, _)| position.offset == offset) else {
            continue;
        };
        // A kind that no byte holds reads back as unreadable, as it should.
        let kind = u8::try_from(row.kind).unwrap_or(u8::MAX);
        place.1 = Some(Desk::decode(
            place.0,
            row.received_at.0,
            kind,
            &Bytes::from(row.payload),
            facility,
        ));
    }
    Ok(found)
}

fn gone(position: Position) -> Evidence {
    Evidence {
        position: position.to_string(),
        kind: "gone",
        received_at: None,
        principal: None,
        device: None,
        boot: None,
        seq: None,
        stream: None,
        profile: None,
        profile_hash: None,
        operator: None,
        raw_hex: None,
        raw_text: None,
        decoded: Value::Null,
    }
}

async fn tell(api: &Api, entry: &Entry) -> Result<Evidence, Problem> {
    let mut told = Evidence {
        received_at: Some(When(entry.received_at.0)),
        principal: match &entry.principal {
            Principal::Device => None,
            Principal::Hub => Some("hub".to_owned()),
            Principal::Person(name) => Some(name.to_string()),
        },
        kind: "other",
        ..gone(entry.position)
    };
    match &entry.body {
        Body::Frame(frame) => {
            let profile = profiles::by_hash(api, frame.profile).await?;
            let profile = profile.and_then(|text| Profile::parse(&text).ok());
            told.kind = "frame";
            told.device = Some(frame.device.to_string());
            told.boot = frame.boot.clone();
            told.seq = frame.seq;
            told.stream = Some(frame.stream.clone());
            told.profile = profile.as_ref().map(|p| p.name.to_string());
            told.profile_hash = Some(frame.profile.to_string());
            let is_scan = profile.as_ref().is_some_and(|p| p.codec == Codec::Scanner);
            let line = scanner::split(&frame.raw).filter(|_| is_scan);
            told.operator = line.and_then(|line| {
                Some(ScannedBy { who: line.context.operator?, since_seq: line.since })
            });
            told.raw_hex = Some(hex(&frame.raw));
            told.raw_text = std::str::from_utf8(&frame.raw).ok().map(str::to_owned);
            told.decoded = profile.map_or(Value::Null, |p| decoded(&p, &frame.stream, &frame.raw));
        }
        Body::Command(command) => {
            told.kind = "command";
            told.decoded = call(&command.command);
        }
        Body::Master(master) => {
            told.kind = "master";
            told.decoded = json!({ "revision": master.revision });
        }
        Body::Tick => told.kind = "tick",
        Body::Profile(_)
        | Body::Quarantined { .. }
        | Body::FoldUpgraded { .. }
        | Body::Restated { .. }
        | Body::Unreadable { .. } => {}
    }
    Ok(told)
}

/// What a call said: its name beside its fields.
fn call(command: &Command) -> Value {
    let Ok(Value::Object(named)) = serde_json::to_value(command) else { return Value::Null };
    let Some((name, Value::Object(mut fields))) = named.into_iter().next() else {
        return Value::Null;
    };
    fields.insert("call".to_owned(), json!(name.to_ascii_lowercase()));
    fields
        .remove("counted_at")
        .and_then(|at| at.as_i64())
        .map(|at| fields.insert("counted_at".to_owned(), json!(When(at))));
    Value::Object(fields)
}

/// What a frame says by a profile, as JSON; the reason and its code if it says nothing.
pub fn decoded(profile: &Profile, stream: &str, raw: &[u8]) -> Value {
    match device_profiles::decode(profile, stream, raw) {
        Ok(reading) => json!({
            "seq": reading.seq,
            "boot": reading.boot,
            "device_time": reading.device_us.map(When),
            "measurements": reading.measurements.iter().map(measurement).collect::<Vec<_>>(),
        }),
        Err(reject) => json!({ "error": reject.to_string(), "code": reject.code() }),
    }
}

fn measurement(measurement: &Measurement) -> Value {
    match measurement {
        Measurement::Stock { sku, delta, slot } => {
            json!({ "kind": "stock", "sku": sku, "delta": delta, "slot": slot })
        }
        Measurement::Weight { channel, mass, stable, fault } => json!({
            "kind": "weight", "channel": channel, "mass_mg": mass, "stable": stable, "fault": fault
        }),
        Measurement::Scan { code, mode, quantity, slot } => {
            json!({ "kind": "scan", "code": code, "mode": mode_name(*mode), "quantity": quantity, "slot": slot })
        }
        Measurement::Value { name, value } => {
            let value = match value {
                Measured::Number(number) => json!(number),
                Measured::Bool(on) => json!(on),
                Measured::Text(text) => json!(text),
            };
            json!({ "kind": "value", "name": name, "value": value })
        }
        Measurement::Tag(read) => json!({
            "kind": "tag", "tag": read.tag, "antenna": read.antenna, "rssi_cdbm": read.rssi_cdbm,
            "reads": read.reads, "device_time": read.device_us.map(When),
        }),
        Measurement::Reader(event) => reader_event(event),
        Measurement::Numbers { first, last, missing } => {
            json!({ "kind": "numbers", "first": first, "last": last, "missing": missing })
        }
    }
}

fn reader_event(event: &ReaderEvent) -> Value {
    match event {
        ReaderEvent::Connected => json!({ "kind": "reader", "event": "connected" }),
        ReaderEvent::Started => json!({ "kind": "reader", "event": "started" }),
        ReaderEvent::Stopped => json!({ "kind": "reader", "event": "stopped" }),
        ReaderEvent::Antenna { port, connected } => {
            json!({ "kind": "reader", "event": "antenna", "port": port, "connected": connected })
        }
        ReaderEvent::Input { port, high } => {
            json!({ "kind": "reader", "event": "input", "port": port, "high": high })
        }
        ReaderEvent::Filling { percent } => {
            json!({ "kind": "reader", "event": "filling", "percent": percent })
        }
        ReaderEvent::Overflow { reads } => {
            json!({ "kind": "reader", "event": "overflow", "reads": reads })
        }
        ReaderEvent::Trouble { text } => {
            json!({ "kind": "reader", "event": "trouble", "text": text })
        }
    }
}

/// The calibration that a rule names, and who set it.
async fn calibration(
    api: &Api,
    rule: &Value,
    at: Position,
    facility: &FacilityId,
) -> Result<Option<Calibration>, Problem> {
    let (Some(channel), Some(zero_mg), Some(scale_ppm)) =
        (rule["channel"].as_str(), rule["zero_mg"].as_i64(), rule["scale_ppm"].as_i64())
    else {
        return Ok(None);
    };
    let offset = rule["calibration"].as_u64().filter(|offset| *offset > 0);
    let set = match offset {
        Some(offset) => entries(api, at, &[offset], facility).await?.pop(),
        None => None,
    };
    let (position, entry) = set.unzip();
    let told = match entry.flatten() {
        Some(entry) => Some(tell(api, &entry).await?),
        None => None,
    };
    Ok(Some(Calibration {
        channel: channel.to_owned(),
        zero_mg,
        scale_ppm,
        position: position.map(|position| position.to_string()),
        set_by: told.as_ref().and_then(|told| told.principal.clone()),
        set_at: told.and_then(|told| told.received_at),
    }))
}
