//! Buses, the devices on them, and what these may be told.

use actix_web::{HttpResponse, http::StatusCode, web};
use actors::{
    bus::{Ask, AskError, Asked, BusAddress, Handle},
    reader::{self, ReaderAddress},
};
use device_profiles::FacilityId;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    problem::Problem,
    readers::ReaderState,
    request::{Json, Page, Paging, Query, id},
};
use crate::{
    directory,
    fleet::Running,
    readers::READER_UNIT,
    store::buses::{Bus, Place, Placed},
};

type Answer = Result<HttpResponse, Problem>;

/// A bus to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBus {
    /// Its id.
    id: String,
    /// Its facility.
    facility: String,
    /// Where it is: `tcp://HOST:502`, `rtu+tcp://HOST:PORT` or `rtu:///dev/serial/by-id/NAME?baud=19200&parity=none`;
    /// `llrp://HOST` or `llrps://HOST` for an RFID reader, `serial:///dev/serial/by-id/NAME?baud=115200` for a serial reader or
    /// scanner.
    address: String,
}

/// Which buses.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BusQuery {
    /// Of this facility.
    facility: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Items wanted, 1 to 1000.
    limit: Option<u32>,
}

/// A bus with what it is like now.
#[derive(Debug, Serialize, ToSchema)]
pub struct BusState {
    /// The bus.
    #[serde(flatten)]
    bus: Bus,
    /// It is connected.
    up: bool,
    /// What is wrong; empty when nothing is.
    last_error: String,
    /// Share of its time in which it was in use, percent.
    used_percent: f64,
    /// Times it was connected.
    connects: u64,
    /// The devices on it.
    units: Vec<UnitState>,
    /// What the RFID reader is like, if it is one and has its device.
    #[serde(skip_serializing_if = "Option::is_none")]
    reader: Option<ReaderState>,
}

/// A unit of a bus.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnitState {
    /// The device.
    device: String,
    /// Its address on the bus.
    unit: u8,
    /// It answers what it is asked, and measures.
    ok: bool,
    /// It was set aside because it did not answer; it is tried from time to time.
    aside: bool,
    /// Its counter stands still: it repeats an old measurement and is not believed.
    frozen: bool,
    /// Milliseconds since its last answer; absent when it never answered.
    answered_ms_ago: Option<u64>,
    /// Smoothed time of a poll, milliseconds.
    latency_ms: f64,
    /// Polls that brought an image.
    polls: u64,
    /// Frames handed to the journal.
    delivered: u64,
    /// Frames the journal could not take.
    full: u64,
    /// Polls without an answer in time.
    timeouts: u64,
    /// Exceptions it answered.
    exceptions: u64,
    /// Answers that were not to the request.
    garbled: u64,
    /// Requests that it refused whole and that are made in parts since.
    splits: u64,
    /// What is wrong; empty when nothing is.
    last_error: String,
}

/// What has nobody to listen for.
const NO_DEVICE: &str = "no device is on it, so it is not connected";

impl UnitState {
    /// The one unit of an RFID reader. It is not polled, so what counts polls is 0.
    fn of_reader(running: &Running<reader::Handle>) -> Self {
        let health = &running.handle.health;
        Self {
            device: running.handle.spec.device.to_string(),
            unit: READER_UNIT,
            ok: health.up.load(Relaxed),
            aside: false,
            frozen: false,
            answered_ms_ago: ReaderState::heard_ms_ago(health),
            latency_ms: 0.0,
            polls: 0,
            delivered: health.delivered.load(Relaxed),
            full: health.lost.load(Relaxed),
            timeouts: health.timeouts.load(Relaxed),
            exceptions: 0,
            garbled: health.garbled.load(Relaxed),
            splits: 0,
            last_error: health.error(),
        }
    }
}

fn state(api: &Api, bus: Bus) -> BusState {
    if ReaderAddress::is_one(&bus.address) {
        return reader(api, bus);
    }
    let running = api.desk.buses.running.get(&bus.id);
    let Some(running) = running else {
        let is_line = bus.address.parse().is_ok_and(|a| matches!(a, BusAddress::Line(..)));
        let last_error = if is_line { NO_DEVICE } else { "it is not running yet" }.to_owned();
        return BusState {
            bus,
            up: false,
            last_error,
            used_percent: 0.0,
            connects: 0,
            units: Vec::new(),
            reader: None,
        };
    };
    let handle = &running.handle;
    let up = handle.health.up.load(Relaxed);
    let lived = handle.health.lived_us.load(Relaxed);
    let unit = |(of, told): (&actors::bus::UnitSpec, &actors::bus::UnitHealth)| {
        let answered = told.answered_us.load(Relaxed);
        let (aside, frozen) = (told.aside.load(Relaxed), told.frozen.load(Relaxed));
        UnitState {
            device: of.device.to_string(),
            unit: of.unit,
            ok: up && answered > 0 && !aside && !frozen && !told.failing.load(Relaxed),
            aside,
            frozen,
            answered_ms_ago: (answered > 0).then(|| lived.saturating_sub(answered) / 1_000),
            latency_ms: f64::from(told.latency_us.load(Relaxed)) / 1_000.0,
            polls: told.polls.load(Relaxed),
            delivered: told.delivered.load(Relaxed),
            full: told.full.load(Relaxed),
            timeouts: told.timeouts.load(Relaxed),
            exceptions: told.exceptions.load(Relaxed),
            garbled: told.garbled.load(Relaxed),
            splits: told.splits.load(Relaxed),
            last_error: told.error(),
        }
    };
    BusState {
        bus,
        up,
        last_error: handle.health.error(),
        used_percent: handle.health.busy_us.load(Relaxed) as f64 * 100.0 / (lived.max(1) as f64),
        connects: handle.health.connects.load(Relaxed),
        units: handle.spec.units.iter().zip(handle.units.iter()).map(unit).collect(),
        reader: None,
    }
}

fn reader(api: &Api, bus: Bus) -> BusState {
    let running = api.desk.readers.running.get(&bus.id);
    let units: Vec<UnitState> = running.iter().map(UnitState::of_reader).collect();
    let health = running.as_ref().map(|running| &running.handle.health);
    BusState {
        bus,
        up: health.is_some_and(|health| health.up.load(Relaxed)),
        last_error: health.map_or_else(|| NO_DEVICE.to_owned(), |health| health.error()),
        used_percent: 0.0,
        connects: health.map_or(0, |health| health.connects.load(Relaxed)),
        units,
        reader: running.as_ref().map(ReaderState::of),
    }
}

/// Buses with what they are like now.
#[utoipa::path(get, path = "/api/v1/buses", tag = "buses", params(BusQuery), responses((status = 200, body = Page<BusState>)))]
pub async fn list(api: web::Data<Api>, query: Query<BusQuery>) -> Answer {
    api.facility_known(query.0.facility.as_deref()).await?;
    let paging = Paging::<1>::read(query.0.cursor.as_deref(), query.0.limit)?;
    let after = paging.after.as_ref().map(|[id]| id.as_str());
    let rows =
        api.desk.store.list_buses(query.0.facility.as_deref(), None, after, paging.fetch()).await?;
    let page = Page::of(rows, &paging, |bus| [bus.id.clone()]);
    Ok(HttpResponse::Ok().json(page.map(|bus| state(&api, bus))))
}

async fn found(api: &Api, bus: &str) -> Result<Bus, Problem> {
    let rows = api.desk.store.list_buses(None, Some(bus), None, 1).await?;
    rows.into_iter().next().ok_or_else(|| Problem::not_found("bus", bus))
}

/// A bus.
#[utoipa::path(get, path = "/api/v1/buses/{bus}", tag = "buses", params(("bus" = String, Path)), responses((status = 200, body = BusState)))]
pub async fn get(api: web::Data<Api>, path: web::Path<String>) -> Answer {
    let bus = found(&api, &path).await?;
    Ok(HttpResponse::Ok().json(state(&api, bus)))
}

/// An address in its one form.
fn normal(address: &str) -> Result<String, Problem> {
    let parsed = if ReaderAddress::is_one(address) {
        address.parse::<ReaderAddress>().map(|address| address.to_string())
    } else {
        address.parse::<BusAddress>().map(|address| address.to_string())
    };
    parsed.map_err(|error| Problem::invalid("address", format!("{error}.")))
}

/// Adds a bus.
#[utoipa::path(post, path = "/api/v1/buses", tag = "buses", request_body = NewBus, responses((status = 201, body = BusState)))]
pub async fn post(api: web::Data<Api>, body: Json<NewBus>) -> Answer {
    let NewBus { id: name, facility, address } = body.0;
    device_profiles::ids::check_id(&name).map_err(|error| {
        Problem::invalid("id", format!("{name:?} cannot be the id of a bus: {error}."))
    })?;
    let facility: FacilityId = id("facility", &facility)?;
    let address = normal(&address)?;
    api.facility_known(Some(facility.as_str())).await?;
    if !api.desk.store.add_bus(&name, facility.as_str(), &address).await? {
        let detail = format!(
            "There is a bus {name:?} already, or another bus has the address {address}. Only one may talk on a line."
        );
        return Err(Problem::new(StatusCode::CONFLICT, "bus_exists", detail));
    }
    api.desk.credentials_changed().await;
    let bus = found(&api, &name).await?;
    Ok(HttpResponse::Created().json(state(&api, bus)))
}

/// Removes a bus; the devices on it stay enrolled and are on no bus.
#[utoipa::path(delete, path = "/api/v1/buses/{bus}", tag = "buses", params(("bus" = String, Path)), responses((status = 204, description = "It is no longer polled")))]
pub async fn delete(api: web::Data<Api>, path: web::Path<String>) -> Answer {
    if !api.desk.store.remove_bus(&path).await? {
        return Err(Problem::not_found("bus", &path));
    }
    api.desk.credentials_changed().await;
    Ok(HttpResponse::NoContent().finish())
}

/// A device fits on a bus: its profile is of the bus's kind, and its unit one that can be there.
fn check_kind(bus: &Bus, device: &directory::Device, unit: u8) -> Result<(), Problem> {
    if ReaderAddress::is_one(&bus.address) {
        if device.profile.llrp.is_none() {
            let detail = format!(
                "Device {} has profile {}, which does not speak LLRP, and bus {} is an RFID reader. Enrol it with an LLRP profile.",
                device.id, device.profile.name, bus.id
            );
            return Err(Problem::new(StatusCode::CONFLICT, "not_llrp", detail));
        }
        if unit != READER_UNIT {
            return Err(Problem::invalid("unit", "An RFID reader has one unit, number 1."));
        }
        return Ok(());
    }
    let address: BusAddress =
        bus.address.parse().map_err(|_| Problem::internal("a bus with a bad address"))?;
    if !address.speaks(device.profile.codec) {
        let (kind, wanted, code) = match &address {
            BusAddress::Line(..) => {
                ("line of a reader or scanner", "serial-rfid or scanner", "not_serial")
            }
            BusAddress::Tcp(_) | BusAddress::RtuOverTcp(..) | BusAddress::Rtu(..) => {
                ("Modbus bus", "modbus", "not_modbus")
            }
        };
        let detail = format!(
            "Device {} has profile {} of codec: {}, and bus {} is a {kind}. Enrol it with a profile of codec: {wanted}.",
            device.id,
            device.profile.name,
            device.profile.codec.as_str(),
            bus.id
        );
        return Err(Problem::new(StatusCode::CONFLICT, code, detail));
    }
    let units = match &address {
        BusAddress::Tcp(_) => 0..=255,
        BusAddress::RtuOverTcp(..) | BusAddress::Rtu(..) => 1..=247,
        BusAddress::Line(..) => 1..=1,
    };
    if !units.contains(&unit) {
        let detail = "A unit on a serial line has an address from 1 to 247; a reader or scanner has its line to itself, and is unit 1.";
        return Err(Problem::invalid("unit", detail));
    }
    Ok(())
}

/// Puts a device on a bus. Its profile must have a register map; on an RFID reader it must speak LLRP, and is unit 1.
#[utoipa::path(put, path = "/api/v1/devices/{device}/bus", tag = "buses", params(("device" = String, Path)), request_body = Place, responses((status = 200, body = Place)))]
pub async fn put_unit(api: web::Data<Api>, path: web::Path<String>, body: Json<Place>) -> Answer {
    let Some(device) = api.desk.directory.device(&path) else {
        return Err(Problem::not_found("device", &path));
    };
    let place = body.0;
    let bus = found(&api, &place.bus).await?;
    check_kind(&bus, &device, place.unit)?;
    match api.desk.store.place_unit(device.id.as_str(), &place).await? {
        Placed::Done => {}
        Placed::NoBus => return Err(Problem::not_found("bus", &place.bus)),
        Placed::Taken(owner) => {
            let detail = format!(
                "Unit {} of bus {} is device {owner}. Give it another address, or take that device off first.",
                place.unit, place.bus
            );
            return Err(Problem::new(StatusCode::CONFLICT, "unit_taken", detail));
        }
    }
    api.desk.credentials_changed().await;
    Ok(HttpResponse::Ok().json(place))
}

/// Takes a device off its bus.
#[utoipa::path(delete, path = "/api/v1/devices/{device}/bus", tag = "buses", params(("device" = String, Path)), responses((status = 204, description = "It is no longer polled")))]
pub async fn delete_unit(api: web::Data<Api>, path: web::Path<String>) -> Answer {
    if !api.desk.store.remove_unit(&path).await? {
        return Err(Problem::not_found("device on a bus", &path));
    }
    api.desk.credentials_changed().await;
    Ok(HttpResponse::NoContent().finish())
}

/// What a device said when it was read.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadNow {
    /// The register image, hexadecimal; see `docs/specs/profile.md`.
    image: String,
    /// What it says by the device's profile.
    reading: serde_json::Value,
}

/// Reads a stream of a Modbus device now, ahead of the schedule. The frame is also journaled as any other.
#[utoipa::path(post, path = "/api/v1/devices/{device}/read/{stream}", tag = "buses", params(("device" = String, Path), ("stream" = String, Path)), responses((status = 200, body = ReadNow)))]
pub async fn read_now(api: web::Data<Api>, path: web::Path<(String, String)>) -> Answer {
    let (device, stream) = path.into_inner();
    let (bus, unit) = on_bus(&api, &device)?;
    let asked = bus.handle.ask(Ask::Read { unit, stream: stream.clone() }).await;
    let Asked::Image(image) = asked.map_err(|error| refused(&device, &error))? else {
        return Err(Problem::internal("a read that brought no image"));
    };
    let profile = bus.handle.spec.units.get(unit).map(|unit| &unit.profile);
    let reading = profile.map(|profile| super::explain::decoded(profile, &stream, &image));
    let image = image.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(HttpResponse::Ok().json(ReadNow { image, reading: reading.unwrap_or_default() }))
}

/// Has a device on a bus do something its profile knows: tare, zero, preset. The hub's own tare needs no such command.
pub(super) async fn carry_out(api: &Api, device: &str, name: String) -> Answer {
    let (bus, unit) = on_bus(api, device)?;
    tracing::info!(device, command = name, "device command");
    bus.handle.ask(Ask::Command { unit, name }).await.map_err(|error| refused(device, &error))?;
    Ok(HttpResponse::NoContent().finish())
}

fn on_bus(api: &Api, device: &str) -> Result<(Running<Handle>, usize), Problem> {
    api.desk.buses.of_device(device).ok_or_else(|| {
        let Some(known) = api.desk.directory.device(device) else {
            return Problem::not_found("device", device);
        };
        if known.profile.llrp.is_some() {
            let detail = format!(
                "Device {device} is an RFID reader. It is set by its profile, speaks by itself, and takes no commands and no requests."
            );
            return Problem::new(StatusCode::CONFLICT, "no_commands", detail);
        }
        let detail = format!(
            "Device {device} is on no bus. Put it on one with PUT /api/v1/devices/{device}/bus."
        );
        Problem::new(StatusCode::CONFLICT, "not_on_a_bus", detail)
    })
}

fn refused(device: &str, error: &AskError) -> Problem {
    match error {
        AskError::Call(why) => Problem::new(
            StatusCode::BAD_GATEWAY,
            "device_failed",
            format!(
                "Device {device} did not do it: {why}. Look at its bus for what else is wrong there."
            ),
        ),
        AskError::Unknown(what) => Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("The profile of device {device} has no {what}."),
        ),
        AskError::Budget { .. } => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "command_budget",
            format!("Device {device}: {error}."),
        ),
        AskError::NotDone(_) => Problem::new(
            StatusCode::BAD_GATEWAY,
            "device_failed",
            format!("Device {device}: {error}."),
        ),
        AskError::Busy | AskError::Stopped => {
            let detail = format!("Device {device}: {error}.");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "bus_busy", detail).retry_after(1)
        }
    }
}
