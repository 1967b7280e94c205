//! What the operator of a serial scanner is doing: receiving, picking, counting, where, and who.
//!
//! It is in force at once and is in every frame from then on, so what a scan meant can be read from its frame alone. The scanner
//! itself can change it by command barcodes (`docs/operations.md`).

use actix_web::{HttpResponse, http::StatusCode, web};
use device_profiles::{
    SlotId,
    codec::scanner::{Context, Doing, mode_name, mode_of},
    ids::check_id,
    profile::Codec,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

use super::{Api, master::just, problem::Problem, request::Json};
use crate::directory::Device;

type Answer = Result<HttpResponse, Problem>;

/// What an operator is doing.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// `receive`, `pick`, `count`, `profile` (what the profile says) or `none` (scans count for nothing).
    mode: String,
    /// Where; the scanner's own place when absent.
    #[serde(default)]
    slot: Option<String>,
    /// Who, an id.
    #[serde(default)]
    operator: Option<String>,
}

impl Operator {
    fn of(context: &Context) -> Self {
        let mode = match context.mode {
            Doing::AsProfile => "profile",
            Doing::Unset => "none",
            Doing::Mode(mode) => mode_name(mode),
        };
        Self {
            mode: mode.to_owned(),
            slot: context.slot.as_ref().map(ToString::to_string),
            operator: context.operator.clone(),
        }
    }

    fn check(self) -> Result<Context, Problem> {
        let mode = match (self.mode.as_str(), mode_of(&self.mode)) {
            (_, Some(mode)) => Doing::Mode(mode),
            ("profile", None) => Doing::AsProfile,
            ("none", None) => Doing::Unset,
            (other, None) => {
                let detail =
                    format!("{other:?} is no mode. Use receive, pick, count, profile or none.");
                return Err(Problem::invalid("mode", detail));
            }
        };
        let slot = match self.slot {
            None => None,
            Some(slot) => Some(SlotId::parse(&slot).map_err(|error| {
                Problem::invalid("slot", format!("{slot:?} cannot be the id of a slot: {error}."))
            })?),
        };
        if let Some(operator) = &self.operator {
            check_id(operator).map_err(|error| {
                Problem::invalid("operator", format!("{operator:?} cannot be an id: {error}."))
            })?;
        }
        Ok(Context { mode, slot, operator: self.operator })
    }
}

fn scanner(api: &Api, device: &str) -> Result<Arc<Device>, Problem> {
    let found = api.desk.directory.device(device);
    let found = found.ok_or_else(|| Problem::not_found("device", device))?;
    if found.profile.codec == Codec::Scanner {
        return Ok(found);
    }
    let detail = format!(
        "Device {device} has profile {}, which is not of codec: scanner. Others say themselves what a scan means.",
        found.profile.name
    );
    Err(Problem::new(StatusCode::CONFLICT, "not_a_scanner", detail))
}

/// What the operator of a scanner is doing.
#[utoipa::path(get, path = "/api/v1/devices/{device}/scanner", tag = "devices", params(("device" = String, Path)), responses((status = 200, body = Operator)))]
pub async fn get(api: web::Data<Api>, path: web::Path<String>) -> Answer {
    let device = scanner(&api, &path)?;
    let context = match api.desk.buses.sessions.context(&device.id) {
        Some(context) => context,
        None => api.desk.store.scanner(&device.id).await?.unwrap_or_default(),
    };
    Ok(HttpResponse::Ok().json(Operator::of(&context)))
}

/// Says what the operator of a scanner is doing now. Setting `count` begins a count anew.
#[utoipa::path(put, path = "/api/v1/devices/{device}/scanner", tag = "devices", params(("device" = String, Path)), request_body = Operator, responses((status = 200, body = Operator)))]
pub async fn put(api: web::Data<Api>, path: web::Path<String>, body: Json<Operator>) -> Answer {
    let device = scanner(&api, &path)?;
    let context = body.0.check()?;
    if let Some(slot) = &context.slot {
        let known = just(device.facility.as_str(), slot.as_str());
        if api.desk.store.list_slots(known).await?.is_empty() {
            let detail = format!(
                "There is no slot {:?} in facility {}, so nothing was set. Create it first.",
                slot.as_str(),
                device.facility
            );
            let problem =
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_reference", detail);
            return Err(problem.in_field("slot"));
        }
    }
    if !api.desk.store.set_scanner(&device.id, &context).await? {
        return Err(Problem::not_found("device", &path));
    }
    let told = Operator::of(&context);
    api.desk.buses.scanner_set(&device.id, context);
    Ok(HttpResponse::Ok().json(told))
}
