//! Master data: facilities, zones, shelves, slots, SKUs, planograms, and the import of any amount of them.
//!
//! The call on one thing is an import of one thing that may not change what exists: posting the same again answers 200,
//! posting it otherwise 409. An import changes what it finds otherwise. Both answer when the folds know what was written, so
//! that the next call or frame finds it; 202 instead of 201 or 200 says that they do not yet.

use actix_web::{HttpResponse, http::StatusCode, web};
use device_profiles::FacilityId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    auth::Caller,
    limits::IMPORT_BYTES_MAX,
    problem::Problem,
    request::{Json, Page, Paging, Query, id},
    secret::{Secret, random_id},
    validate,
};
use crate::store::{
    master::{MintedCredential, Write, Written},
    read_master::{Facility, InFacility, Planogram, Shelf, SkuItem, Slot, Zone},
    shapes::{MasterData, NewFacility, NewLine, NewShelf, NewSku, NewSlot, NewZone},
};

/// A page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Where the page before ended.
    cursor: Option<String>,
    /// Items wanted, 1 to 1000.
    limit: Option<u32>,
}

impl ListQuery {
    pub(super) fn paging<const N: usize>(&self) -> Result<Paging<N>, Problem> {
        Paging::read(self.cursor.as_deref(), self.limit)
    }
}

/// Validates, writes and publishes; the status says what came of it.
pub(super) async fn write(
    api: &Api,
    data: &MasterData,
    write: Write<'_>,
) -> Result<(Written, StatusCode), Problem> {
    validate::master_data(data)?;
    let written = api.desk.store.write_master(data, write).await?;
    let published = api.publish(&written.facilities).await;
    // Once its profile is published a device may connect; one that is changed is read otherwise, and another may speak for it.
    if !data.devices.is_empty() && !written.facilities.is_empty() {
        api.desk.credentials_changed().await;
    }
    let status = if !published {
        StatusCode::ACCEPTED
    } else if written.created > 0 {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((written, status))
}

/// Writes one thing, which may not be there otherwise.
pub(super) async fn write_one(
    api: &Api,
    caller: &Caller,
    data: &MasterData,
) -> Result<StatusCode, Problem> {
    let how = Write {
        principal: &caller.name,
        shards: api.desk.shards(),
        change: false,
        whole_planogram: None,
        credentials: &[],
    };
    write(api, data, how).await.map(|(_, status)| status).map_err(Problem::of_one)
}

/// The facility of a path, for a body that may name it too.
fn same_facility(path: &str, body: Option<&FacilityId>) -> Result<FacilityId, Problem> {
    let facility: FacilityId = id("facility", path)?;
    match body {
        Some(other) if *other != facility => Err(Problem::invalid(
            "facility",
            format!(
                "The body names facility {other}, the path {facility}. Leave it out of the body."
            ),
        )),
        Some(_) | None => Ok(facility),
    }
}

/// The facility of a path must exist, for what is below it.
pub(super) async fn existing(api: &Api, facility: &str) -> Result<FacilityId, Problem> {
    api.facility_known(Some(facility)).await?;
    id("facility", facility)
}

fn in_facility<'a>(facility: &'a str, paging: &'a Paging<1>) -> InFacility<'a> {
    let after = paging.after.as_ref().map(|[id]| id.as_str());
    InFacility { facility, id: None, after, limit: paging.fetch() }
}

/// One thing of a facility.
pub(super) fn just<'a>(facility: &'a str, id: &'a str) -> InFacility<'a> {
    InFacility { facility, id: Some(id), after: None, limit: 1 }
}

/// The first of a list that was asked for one.
pub(super) fn only<T>(found: Vec<T>, what: &str, id: &str) -> Result<T, Problem> {
    found.into_iter().next().ok_or_else(|| Problem::not_found(what, id))
}

type Answer = Result<HttpResponse, Problem>;

/// Facilities.
#[utoipa::path(get, path = "/api/v1/facilities", tag = "master data", params(ListQuery), responses((status = 200, body = Page<Facility>)))]
pub async fn list_facilities(api: web::Data<Api>, query: Query<ListQuery>) -> Answer {
    let paging = query.0.paging::<1>()?;
    let after = paging.after.as_ref().map(|[id]| id.as_str());
    let rows = api.desk.store.list_facilities(after, paging.fetch()).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |f| [f.id.clone()])))
}

/// Makes a facility.
#[utoipa::path(post, path = "/api/v1/facilities", tag = "master data", request_body = NewFacility, responses((status = 201, body = Facility), (status = 200, body = Facility, description = "It was so already"), (status = 202, body = Facility, description = "Written, not folded yet")))]
pub async fn post_facility(api: web::Data<Api>, caller: Caller, body: Json<NewFacility>) -> Answer {
    let facility = body.0.id.to_string();
    let data = MasterData { facilities: vec![body.0], ..MasterData::default() };
    let status = write_one(&api, &caller, &data).await?;
    let found = api.desk.store.facility(&facility).await?;
    Ok(HttpResponse::build(status).json(found))
}

/// A facility.
#[utoipa::path(get, path = "/api/v1/facilities/{facility}", tag = "master data", params(("facility" = String, Path)), responses((status = 200, body = Facility)))]
pub async fn get_facility(api: web::Data<Api>, path: web::Path<String>) -> Answer {
    let found = api.desk.store.facility(&path).await?;
    Ok(HttpResponse::Ok().json(found.ok_or_else(|| Problem::not_found("facility", &path))?))
}

/// Zones of a facility.
#[utoipa::path(get, path = "/api/v1/facilities/{facility}/zones", tag = "master data", params(("facility" = String, Path), ListQuery), responses((status = 200, body = Page<Zone>)))]
pub async fn list_zones(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Query<ListQuery>,
) -> Answer {
    existing(&api, &path).await?;
    let paging = query.0.paging()?;
    let rows = api.desk.store.list_zones(in_facility(&path, &paging)).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |z| [z.id.clone()])))
}

/// Makes a zone.
#[utoipa::path(post, path = "/api/v1/facilities/{facility}/zones", tag = "master data", params(("facility" = String, Path)), request_body = NewZone, responses((status = 201, body = Zone), (status = 200, body = Zone, description = "It was so already"), (status = 202, body = Zone, description = "Written, not folded yet")))]
pub async fn post_zone(
    api: web::Data<Api>,
    caller: Caller,
    path: web::Path<String>,
    body: Json<NewZone>,
) -> Answer {
    existing(&api, &path).await?;
    let facility = same_facility(&path, body.0.facility.as_ref())?;
    let zone = NewZone { facility: Some(facility), ..body.0 };
    let id = zone.id.to_string();
    let status =
        write_one(&api, &caller, &MasterData { zones: vec![zone], ..MasterData::default() })
            .await?;
    let found = api.desk.store.list_zones(just(&path, &id)).await?;
    Ok(HttpResponse::build(status).json(only(found, "zone", &id)?))
}

/// A zone.
#[utoipa::path(get, path = "/api/v1/facilities/{facility}/zones/{id}", tag = "master data", params(("facility" = String, Path), ("id" = String, Path)), responses((status = 200, body = Zone)))]
pub async fn get_zone(api: web::Data<Api>, path: web::Path<(String, String)>) -> Answer {
    let (facility, id) = path.into_inner();
    let found = api.desk.store.list_zones(just(&facility, &id)).await?;
    Ok(HttpResponse::Ok().json(only(found, "zone", &id)?))
}

/// Shelves of a facility.
#[utoipa::path(get, path = "/api/v1/facilities/{facility}/shelves", tag = "master data", params(("facility" = String, Path), ListQuery), responses((status = 200, body = Page<Shelf>)))]
pub async fn list_shelves(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Query<ListQuery>,
) -> Answer {
    existing(&api, &path).await?;
    let paging = query.0.paging()?;
    let rows = api.desk.store.list_shelves(in_facility(&path, &paging)).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |s| [s.id.clone()])))
}

/// Makes a shelf.
#[utoipa::path(post, path = "/api/v1/facilities/{facility}/shelves", tag = "master data", params(("facility" = String, Path)), request_body = NewShelf, responses((status = 201, body = Shelf), (status = 200, body = Shelf, description = "It was so already"), (status = 202, body = Shelf, description = "Written, not folded yet")))]
pub async fn post_shelf(
    api: web::Data<Api>,
    caller: Caller,
    path: web::Path<String>,
    body: Json<NewShelf>,
) -> Answer {
    existing(&api, &path).await?;
    let facility = same_facility(&path, body.0.facility.as_ref())?;
    let shelf = NewShelf { facility: Some(facility), ..body.0 };
    let id = shelf.id.to_string();
    let status =
        write_one(&api, &caller, &MasterData { shelves: vec![shelf], ..MasterData::default() })
            .await?;
    let found = api.desk.store.list_shelves(just(&path, &id)).await?;
    Ok(HttpResponse::build(status).json(only(found, "shelf", &id)?))
}

/// A shelf.
#[utoipa::path(get, path = "/api/v1/facilities/{facility}/shelves/{id}", tag = "master data", params(("facility" = String, Path), ("id" = String, Path)), responses((status = 200, body = Shelf)))]
pub async fn get_shelf(api: web::Data<Api>, path: web::Path<(String, String)>) -> Answer {
    let (facility, id) = path.into_inner();
    let found = api.desk.store.list_shelves(just(&facility, &id)).await?;
    Ok(HttpResponse::Ok().json(only(found, "shelf", &id)?))
}

/// Slots of a facility.
#[utoipa::path(get, path = "/api/v1/facilities/{facility}/slots", tag = "master data", params(("facility" = String, Path), ListQuery), responses((status = 200, body = Page<Slot>)))]
pub async fn list_slots(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Query<ListQuery>,
) -> Answer {
    existing(&api, &path).await?;
    let paging = query.0.paging()?;
    let rows = api.desk.store.list_slots(in_facility(&path, &paging)).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |s| [s.id.clone()])))
}

/// Makes a slot.
#[utoipa::path(post, path = "/api/v1/facilities/{facility}/slots", tag = "master data", params(("facility" = String, Path)), request_body = NewSlot, responses((status = 201, body = Slot), (status = 200, body = Slot, description = "It was so already"), (status = 202, body = Slot, description = "Written, not folded yet")))]
pub async fn post_slot(
    api: web::Data<Api>,
    caller: Caller,
    path: web::Path<String>,
    body: Json<NewSlot>,
) -> Answer {
    existing(&api, &path).await?;
    let facility = same_facility(&path, body.0.facility.as_ref())?;
    let slot = NewSlot { facility: Some(facility), ..body.0 };
    let id = slot.id.to_string();
    let status =
        write_one(&api, &caller, &MasterData { slots: vec![slot], ..MasterData::default() })
            .await?;
    let found = api.desk.store.list_slots(just(&path, &id)).await?;
    Ok(HttpResponse::build(status).json(only(found, "slot", &id)?))
}

/// A slot.
#[utoipa::path(get, path = "/api/v1/facilities/{facility}/slots/{id}", tag = "master data", params(("facility" = String, Path), ("id" = String, Path)), responses((status = 200, body = Slot)))]
pub async fn get_slot(api: web::Data<Api>, path: web::Path<(String, String)>) -> Answer {
    let (facility, id) = path.into_inner();
    let found = api.desk.store.list_slots(just(&facility, &id)).await?;
    Ok(HttpResponse::Ok().json(only(found, "slot", &id)?))
}

/// SKUs.
#[utoipa::path(get, path = "/api/v1/skus", tag = "master data", params(ListQuery), responses((status = 200, body = Page<SkuItem>)))]
pub async fn list_skus(api: web::Data<Api>, query: Query<ListQuery>) -> Answer {
    let paging = query.0.paging::<1>()?;
    let after = paging.after.as_ref().map(|[id]| id.as_str());
    let rows = api.desk.store.list_skus(after, paging.fetch()).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |s| [s.id.clone()])))
}

/// Makes a SKU.
#[utoipa::path(post, path = "/api/v1/skus", tag = "master data", request_body = NewSku, responses((status = 201, body = SkuItem), (status = 200, body = SkuItem, description = "It was so already"), (status = 202, body = SkuItem, description = "Written, not folded yet")))]
pub async fn post_sku(api: web::Data<Api>, caller: Caller, body: Json<NewSku>) -> Answer {
    let id = body.0.id.to_string();
    let data = MasterData { skus: vec![body.0], ..MasterData::default() };
    let status = write_one(&api, &caller, &data).await?;
    let found = api.desk.store.sku(&id).await?;
    Ok(HttpResponse::build(status).json(found))
}

/// A SKU.
#[utoipa::path(get, path = "/api/v1/skus/{id}", tag = "master data", params(("id" = String, Path)), responses((status = 200, body = SkuItem)))]
pub async fn get_sku(api: web::Data<Api>, path: web::Path<String>) -> Answer {
    let found = api.desk.store.sku(&path).await?;
    Ok(HttpResponse::Ok().json(found.ok_or_else(|| Problem::not_found("SKU", &path))?))
}

/// The lines of a facility's planogram.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanogramBody {
    /// All lines there are.
    lines: Vec<NewLine>,
}

/// The planogram of a facility.
#[utoipa::path(get, path = "/api/v1/facilities/{facility}/planogram", tag = "master data", params(("facility" = String, Path)), responses((status = 200, body = Planogram)))]
pub async fn get_planogram(api: web::Data<Api>, path: web::Path<String>) -> Answer {
    let found = api.desk.store.planogram(&path).await?;
    Ok(HttpResponse::Ok().json(found.ok_or_else(|| Problem::not_found("facility", &path))?))
}

/// Replaces the planogram of a facility.
#[utoipa::path(put, path = "/api/v1/facilities/{facility}/planogram", tag = "master data", params(("facility" = String, Path)), request_body = PlanogramBody, responses((status = 200, body = Planogram), (status = 201, body = Planogram, description = "It has new lines"), (status = 202, body = Planogram, description = "Written, not folded yet")))]
pub async fn put_planogram(
    api: web::Data<Api>,
    caller: Caller,
    path: web::Path<String>,
    body: Json<PlanogramBody, IMPORT_BYTES_MAX>,
) -> Answer {
    let facility = existing(&api, &path).await?;
    let mut planogram = body.0.lines;
    for line in &mut planogram {
        line.facility = Some(same_facility(&path, line.facility.as_ref())?);
        // This is all there is of a line, so what it leaves out goes.
        line.capacity = line.capacity.said();
        line.min = line.min.said();
    }
    let data = MasterData { planogram, ..MasterData::default() };
    let how = Write {
        principal: &caller.name,
        shards: api.desk.shards(),
        change: true,
        whole_planogram: Some(&facility),
        credentials: &[],
    };
    // The list is called `lines` here and `planogram` in an import.
    let (_, status) = write(&api, &data, how)
        .await
        .map_err(|problem| problem.map_field(|field| field.replacen("planogram[", "lines[", 1)))?;
    let found = api.desk.store.planogram(&path).await?;
    Ok(HttpResponse::build(status).json(found))
}

/// How to import.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// Make a credential for each new device and answer it.
    #[serde(default)]
    credentials: bool,
}

/// What an import did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Imported {
    /// Things that are new.
    created: usize,
    /// Things that were otherwise before.
    changed: usize,
    /// Things that were so already.
    unchanged: usize,
    /// Credentials of new devices, if asked for. Shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<Vec<DeviceCredential>>,
}

/// A device's new credential.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceCredential {
    /// The device.
    device: String,
    /// Its MQTT username.
    username: String,
    /// Its MQTT password.
    password: String,
}

/// Writes any amount of master data in one transaction.
#[utoipa::path(post, path = "/api/v1/import", tag = "master data", params(ImportQuery), request_body = MasterData, responses((status = 200, body = Imported), (status = 201, body = Imported, description = "Some of it is new"), (status = 202, body = Imported, description = "Written, not folded yet")))]
pub async fn import(
    api: web::Data<Api>,
    caller: Caller,
    query: Query<ImportQuery>,
    body: Json<MasterData, IMPORT_BYTES_MAX>,
) -> Answer {
    let data = body.0;
    let mut secrets = Vec::new();
    let mut minted = Vec::new();
    if query.0.credentials {
        for _ in &data.devices {
            let secret = Secret::mint()?;
            minted.push(MintedCredential { id: random_id("c-")?, secret_sha256: secret.hash() });
            secrets.push(secret);
        }
    }
    let how = Write {
        principal: &caller.name,
        shards: api.desk.shards(),
        change: true,
        whole_planogram: None,
        credentials: &minted,
    };
    let (written, status) = write(&api, &data, how).await?;
    let credential = |index: &usize| {
        let device = data.devices.get(*index)?.id.to_string();
        let password = secrets.get(*index)?.reveal().to_owned();
        Some(DeviceCredential { username: device.clone(), device, password })
    };
    let credentials =
        query.0.credentials.then(|| written.new_devices.iter().filter_map(credential).collect());
    let Written { created, changed, unchanged, .. } = written;
    Ok(HttpResponse::build(status).json(Imported { created, changed, unchanged, credentials }))
}
