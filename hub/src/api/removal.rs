//! Taking master data away, one thing at a time. What something still refers to stays, and the answer says what that is.
//!
//! 204 says that it is gone and that the folds know, 202 that they do not yet. Movements, readings and accounts of what is gone
//! stay, and go on explaining themselves.

use actix_web::{HttpResponse, web};

use super::{Api, auth::Caller, master::existing, problem::Problem, request::id};
use crate::store::retire::Going;

type Answer = Result<HttpResponse, Problem>;

async fn remove(api: &Api, caller: &Caller, going: Going<'_>) -> Answer {
    let facilities = api.desk.store.retire(going, &caller.name).await?;
    if let Going::Device(_) = going {
        api.desk.credentials_changed().await;
    }
    Ok(match api.publish(&facilities).await {
        true => HttpResponse::NoContent().finish(),
        false => HttpResponse::Accepted().finish(),
    })
}

/// Removes a zone that no shelf stands in.
#[utoipa::path(delete, path = "/api/v1/facilities/{facility}/zones/{id}", tag = "master data", params(("facility" = String, Path), ("id" = String, Path)), responses((status = 204, description = "It is gone")))]
pub async fn zone(
    api: web::Data<Api>,
    caller: Caller,
    path: web::Path<(String, String)>,
) -> Answer {
    let (facility, zone) = path.into_inner();
    let facility = existing(&api, &facility).await?;
    remove(&api, &caller, Going::Zone(&facility, &zone)).await
}

/// Removes a shelf that no slot is on.
#[utoipa::path(delete, path = "/api/v1/facilities/{facility}/shelves/{id}", tag = "master data", params(("facility" = String, Path), ("id" = String, Path)), responses((status = 204, description = "It is gone")))]
pub async fn shelf(
    api: web::Data<Api>,
    caller: Caller,
    path: web::Path<(String, String)>,
) -> Answer {
    let (facility, shelf) = path.into_inner();
    let facility = existing(&api, &facility).await?;
    remove(&api, &caller, Going::Shelf(&facility, &shelf)).await
}

/// Removes a slot that is empty, not planned, and bound to no device.
#[utoipa::path(delete, path = "/api/v1/facilities/{facility}/slots/{id}", tag = "master data", params(("facility" = String, Path), ("id" = String, Path)), responses((status = 204, description = "It is gone"), (status = 202, description = "It is gone, but its fold does not know yet")))]
pub async fn slot(
    api: web::Data<Api>,
    caller: Caller,
    path: web::Path<(String, String)>,
) -> Answer {
    let (facility, slot) = path.into_inner();
    let facility = existing(&api, &facility).await?;
    remove(&api, &caller, Going::Slot(&facility, &id("slot", &slot)?)).await
}

/// Removes a line from a facility's planogram. Stock of it stays where it is, unplanned.
#[utoipa::path(delete, path = "/api/v1/facilities/{facility}/planogram/{slot}/{sku}", tag = "master data", params(("facility" = String, Path), ("slot" = String, Path), ("sku" = String, Path)), responses((status = 204, description = "It is gone"), (status = 202, description = "It is gone, but its fold does not know yet")))]
pub async fn line(
    api: web::Data<Api>,
    caller: Caller,
    path: web::Path<(String, String, String)>,
) -> Answer {
    let (facility, slot, sku) = path.into_inner();
    let facility = existing(&api, &facility).await?;
    remove(&api, &caller, Going::Line(&facility, &id("slot", &slot)?, &id("SKU", &sku)?)).await
}

/// Retires a SKU that is neither in stock nor planned anywhere.
#[utoipa::path(delete, path = "/api/v1/skus/{id}", tag = "master data", params(("id" = String, Path)), responses((status = 204, description = "It is gone"), (status = 202, description = "It is gone, but not every fold knows yet")))]
pub async fn sku(api: web::Data<Api>, caller: Caller, path: web::Path<String>) -> Answer {
    remove(&api, &caller, Going::Sku(&id("SKU", &path)?)).await
}

/// Retires a device without bound cells, with its credentials. Its connection is cut.
#[utoipa::path(delete, path = "/api/v1/devices/{device}", tag = "devices", params(("device" = String, Path)), responses((status = 204, description = "It is gone"), (status = 202, description = "It is gone, but its fold does not know yet")))]
pub async fn device(api: web::Data<Api>, caller: Caller, path: web::Path<String>) -> Answer {
    remove(&api, &caller, Going::Device(&id("device", &path)?)).await
}
