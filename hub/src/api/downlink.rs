//! Commands to devices, given and listed. On a bus they are carried out at once; a device that connects by MQTT gets them when
//! it is there.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use device_profiles::ids::check_id;
use fold::limits::TEXT_BYTES_MAX;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    buses,
    limits::{COMMAND_BYTES_MAX, COMMAND_SECONDS_DEFAULT, COMMAND_SECONDS_MAX},
    master::ListQuery,
    problem::Problem,
    request::{MaybeJson, Page, Paging, Query},
    secret::Secret,
};
use crate::{
    downlink::DEVICE_WAITING_MAX,
    store::downlink::{DeviceCommand, Given, NewCommand},
};

type Answer = Result<HttpResponse, Problem>;

/// What goes with a command.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommandBody {
    /// What the command needs, as the device wants it; `null` when it needs nothing.
    #[schema(value_type = Object)]
    args: Value,
    /// Seconds within which it must be delivered, 1 to 604800; an hour when absent. Of no use on a bus.
    expires_in_s: Option<u32>,
}

/// Tells a device to do something. On a bus: what its profile knows (tare, zero, preset), carried out and verified before this
/// answers. By MQTT: published to `stockfold/v1/{device}/cmd/{command}` as soon as the device is there, at least once, until it
/// is acknowledged or has expired.
#[utoipa::path(post, path = "/api/v1/devices/{device}/commands/{command}", tag = "devices", params(("device" = String, Path), ("command" = String, Path), ("Idempotency-Key" = Option<String>, Header, description = "Of a command by MQTT it becomes the id: given again under the same key, it is still one command")), request_body(content = CommandBody, description = "May be absent"), responses((status = 204, description = "Done on its bus, and verified as far as the profile says how"), (status = 202, body = DeviceCommand, description = "It waits for the device"), (status = 200, body = DeviceCommand, description = "It was given before under this key")))]
pub async fn post(
    api: web::Data<Api>,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    body: MaybeJson<CommandBody, COMMAND_BYTES_MAX>,
) -> Answer {
    let (device, name) = path.into_inner();
    let CommandBody { args, expires_in_s } = body.0.unwrap_or_default();
    let Some(known) = api.desk.directory.device(&device) else {
        return Err(Problem::not_found("device", &device));
    };
    if api.desk.buses.of_device(&device).is_some() {
        if !args.is_null() {
            return Err(Problem::invalid(
                "args",
                "A command on a bus has what it writes in its profile. Leave `args` out.",
            ));
        }
        return buses::carry_out(&api, &device, name).await;
    }
    if known.profile.llrp.is_some() || known.profile.modbus.is_some() {
        return buses::carry_out(&api, &device, name).await;
    }
    check_id(&name).map_err(|error| {
        Problem::invalid("command", format!("{name:?} cannot be a command: {error}."))
    })?;
    if has_nul(&args) {
        return Err(Problem::invalid(
            "args",
            "A text in `args` has a NUL in it, which cannot be kept.",
        ));
    }
    let good_for_s = expires_in_s.unwrap_or(COMMAND_SECONDS_DEFAULT);
    if !(1..=COMMAND_SECONDS_MAX).contains(&good_for_s) {
        let detail = format!("`expires_in_s` must be 1 to {COMMAND_SECONDS_MAX}.");
        return Err(Problem::invalid("expires_in_s", detail));
    }
    let key = match request.headers().get("idempotency-key").map(|key| key.to_str()) {
        None => Secret::mint()?.reveal().to_owned(),
        Some(Ok(key)) if (1..=TEXT_BYTES_MAX).contains(&key.len()) => key.to_owned(),
        Some(_) => {
            let detail =
                format!("The Idempotency-Key must be 1 to {TEXT_BYTES_MAX} ASCII characters.");
            return Err(Problem::invalid("Idempotency-Key", detail));
        }
    };
    let new = NewCommand {
        key: &key,
        facility: known.facility.as_str(),
        device: &device,
        principal: &caller.name,
        name: &name,
        args: &args,
        good_for_s,
    };
    match api.desk.store.give_command(&new, DEVICE_WAITING_MAX).await? {
        Given::New(command) => {
            tracing::info!(device, command = name, id = key, "command given");
            api.desk.downlink.soon();
            Ok(HttpResponse::Accepted().json(command))
        }
        Given::Before(command) => Ok(HttpResponse::Ok().json(command)),
        Given::KeyUsed => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "This Idempotency-Key was used for another command, so nothing was done. Make a new key for each command.",
        )),
        Given::Full => {
            let detail = format!(
                "{DEVICE_WAITING_MAX} commands wait for device {device} already. Is it there? Wait until it has taken some, or until they expire."
            );
            Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "commands_waiting", detail)
                .retry_after(60))
        }
    }
}

/// PostgreSQL's texts know no NUL.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(k, v)| k.contains('\0') || has_nul(v)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Commands of a device and what became of them, newest first.
#[utoipa::path(get, path = "/api/v1/devices/{device}/commands", tag = "devices", params(("device" = String, Path), ListQuery), responses((status = 200, body = Page<DeviceCommand>)))]
pub async fn list(api: web::Data<Api>, path: web::Path<String>, query: Query<ListQuery>) -> Answer {
    api.device_known(Some(&path)).await?;
    let paging: Paging<1> = query.0.paging()?;
    let before = paging.after.as_ref().map(|[id]| id.as_str());
    let rows = api.desk.store.list_commands(&path, before, paging.fetch()).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |command| [command.id.clone()])))
}
