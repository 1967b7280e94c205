//! Devices and their credentials, and whether a device is believed.
//!
//! A new device or credential is answered only when the MQTT endpoint knows it and the fold was told, so that the device's
//! first frame is not refused. A password is 256 random bits, shown once and kept as a hash.

use actix_web::{HttpResponse, web};
use device_profiles::{DeviceId, FacilityId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    auth::Caller,
    limits::CREDENTIALS_MAX,
    master::{ListQuery, only, write_one},
    problem::Problem,
    request::{Json, Page, Paging, Query, bad_cursor, id},
    secret::{Secret, random_id},
};
use crate::store::{
    access::Credential,
    master::MintedCredential,
    read_master::{Device, SeenDevice},
    shapes::{MasterData, NewDevice},
    standing::Standing,
    when::When,
};

type Answer = Result<HttpResponse, Problem>;

/// Which devices.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeviceQuery {
    /// Of this facility.
    facility: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Items wanted, 1 to 1000.
    limit: Option<u32>,
}

/// Devices.
#[utoipa::path(get, path = "/api/v1/devices", tag = "devices", params(DeviceQuery), responses((status = 200, body = Page<Device>)))]
pub async fn list(api: web::Data<Api>, query: Query<DeviceQuery>) -> Answer {
    let paging = Paging::<1>::read(query.0.cursor.as_deref(), query.0.limit)?;
    let after = paging.after.as_ref().map(|[id]| id.as_str());
    let facility = query.0.facility.as_deref();
    api.facility_known(facility).await?;
    let rows = api.desk.store.list_devices(facility, None, after, paging.fetch()).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |d| [d.id.clone()])))
}

/// The device of that id.
pub(super) async fn found(api: &Api, device: &str) -> Result<Device, Problem> {
    only(api.desk.store.list_devices(None, Some(device), None, 1).await?, "device", device)
}

/// Enrols a device.
#[utoipa::path(post, path = "/api/v1/devices", tag = "devices", request_body = NewDevice, responses((status = 201, body = Device), (status = 200, body = Device, description = "It was so already"), (status = 202, body = Device, description = "Written, not folded yet")))]
pub async fn post(api: web::Data<Api>, caller: Caller, body: Json<NewDevice>) -> Answer {
    let device = body.0.id.to_string();
    let data = MasterData { devices: vec![body.0], ..MasterData::default() };
    let status = write_one(&api, &caller, &data).await?;
    Ok(HttpResponse::build(status).json(found(&api, &device).await?))
}

/// A device.
#[utoipa::path(get, path = "/api/v1/devices/{device}", tag = "devices", params(("device" = String, Path)), responses((status = 200, body = Device)))]
pub async fn get(api: web::Data<Api>, path: web::Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(found(&api, &path).await?))
}

/// Disables a device as a whole: it is cut, none of its credentials is accepted, and its frames are not believed. It stays in
/// the lists.
#[utoipa::path(post, path = "/api/v1/devices/{device}/revoke", tag = "devices", params(("device" = String, Path)), responses((status = 200, body = Device), (status = 202, body = Device, description = "It is cut, but its fold does not know yet")))]
pub async fn revoke(api: web::Data<Api>, caller: Caller, path: web::Path<String>) -> Answer {
    let facilities = stand(&api, &caller, &path, Standing::Revoked).await?;
    // Cut first: what it still sends until then is believed, what it would send after must not be acknowledged.
    api.desk.credentials_changed().await;
    let published = api.publish(&facilities).await;
    told(&api, &path, published).await
}

/// Enables a device that was disabled. The credentials that were not revoked one by one are accepted again.
#[utoipa::path(post, path = "/api/v1/devices/{device}/enable", tag = "devices", params(("device" = String, Path)), responses((status = 200, body = Device), (status = 202, body = Device, description = "Its fold does not know yet; it may connect within seconds")))]
pub async fn enable(api: web::Data<Api>, caller: Caller, path: web::Path<String>) -> Answer {
    let facilities = stand(&api, &caller, &path, Standing::Enabled).await?;
    // Told first: its first frame must find it believed.
    let published = api.publish(&facilities).await;
    if published {
        api.desk.credentials_changed().await;
    }
    told(&api, &path, published).await
}

async fn stand(
    api: &Api,
    caller: &Caller,
    device: &str,
    standing: Standing,
) -> Result<Vec<FacilityId>, Problem> {
    let known: DeviceId = id("device", device)?;
    let set = api.desk.store.set_standing(&known, standing, &caller.name).await?;
    set.ok_or_else(|| Problem::not_found("device", device))
}

async fn told(api: &Api, device: &str, published: bool) -> Answer {
    let mut answer = if published { HttpResponse::Ok() } else { HttpResponse::Accepted() };
    Ok(answer.json(found(api, device).await?))
}

/// Devices that tried to connect but are not enrolled, newest first.
#[utoipa::path(get, path = "/api/v1/devices/seen", tag = "devices", params(ListQuery), responses((status = 200, body = Page<SeenDevice>)))]
pub async fn seen(api: web::Data<Api>, query: Query<ListQuery>) -> Answer {
    let paging = query.0.paging::<2>()?;
    let before = match &paging.after {
        Some([at, name]) => Some((When(at.parse().map_err(|_| bad_cursor())?), name.as_str())),
        None => None,
    };
    let rows = api.desk.store.list_seen(before, paging.fetch()).await?;
    Ok(HttpResponse::Ok()
        .json(Page::of(rows, &paging, |s| [s.last_at.0.to_string(), s.name.clone()])))
}

/// Credentials of a device, without their secrets.
#[utoipa::path(get, path = "/api/v1/devices/{device}/credentials", tag = "devices", params(("device" = String, Path), ListQuery), responses((status = 200, body = Page<Credential>)))]
pub async fn list_credentials(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Query<ListQuery>,
) -> Answer {
    found(&api, &path).await?;
    let paging = query.0.paging::<1>()?;
    let after = paging.after.as_ref().map(|[id]| id.as_str());
    let rows = api.desk.store.list_credentials(&path, after, paging.fetch()).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |c| [c.id.clone()])))
}

/// A new credential with its secret. Shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewCredential {
    /// Its id.
    id: String,
    /// MQTT username: the device's id.
    username: String,
    /// MQTT password.
    password: String,
}

/// Makes a credential for a device.
#[utoipa::path(post, path = "/api/v1/devices/{device}/credentials", tag = "devices", params(("device" = String, Path)), responses((status = 201, body = NewCredential)))]
pub async fn post_credential(api: web::Data<Api>, path: web::Path<String>) -> Answer {
    let device = found(&api, &path).await?;
    let secret = Secret::mint()?;
    let minted = MintedCredential { id: random_id("c-")?, secret_sha256: secret.hash() };
    if !api.desk.store.add_credential(&device.id, &minted, CREDENTIALS_MAX).await? {
        return Err(too_many(&device));
    }
    known(&api, &device).await?;
    let password = secret.reveal().to_owned();
    Ok(HttpResponse::Created().json(NewCredential { id: minted.id, username: device.id, password }))
}

/// The device has all the credentials it may have.
pub(super) fn too_many(device: &Device) -> Problem {
    Problem::new(
        actix_web::http::StatusCode::CONFLICT,
        "too_many_credentials",
        format!(
            "Device {} has {CREDENTIALS_MAX} credentials in force. Revoke one first.",
            device.id
        ),
    )
}

/// Makes a device's new credential known to the endpoint, and the device to the fold.
pub(super) async fn known(api: &Api, device: &Device) -> Result<(), Problem> {
    api.desk.credentials_changed().await;
    let facility: FacilityId = id("facility", &device.facility)?;
    api.publish(&[facility]).await;
    Ok(())
}

/// Revokes a credential and cuts the connection that uses it.
#[utoipa::path(delete, path = "/api/v1/devices/{device}/credentials/{id}", tag = "devices", params(("device" = String, Path), ("id" = String, Path)), responses((status = 204, description = "It is no longer accepted")))]
pub async fn delete_credential(api: web::Data<Api>, path: web::Path<(String, String)>) -> Answer {
    let (device, credential) = path.into_inner();
    if !api.desk.store.revoke_credential(&device, &credential).await? {
        return Err(Problem::not_found("credential", &credential));
    }
    api.desk.credentials_changed().await;
    Ok(HttpResponse::NoContent().finish())
}
