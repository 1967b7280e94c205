//! What did not fit, what had no effect, and the accounts that show that nothing vanished.

use actix_web::{HttpResponse, web};
use device_profiles::time::parse_rfc3339_us;
use fold::Position;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Api,
    problem::Problem,
    request::{Page, Paging, Query, bad_cursor},
    stock::{movement_id, shard_filter},
};
use crate::store::{
    told::{Discrepancy, LedgerRow, Quarantined},
    when::When,
};

type Answer = Result<HttpResponse, Problem>;

/// Which discrepancies.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DiscrepancyQuery {
    /// Of this facility.
    facility: Option<String>,
    /// Only open or only settled ones.
    open: Option<bool>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Items wanted, 1 to 1000.
    limit: Option<u32>,
}

/// Evidence that does not fit, newest first.
#[utoipa::path(get, path = "/api/v1/discrepancies", tag = "stock", params(DiscrepancyQuery), responses((status = 200, body = Page<Discrepancy>)))]
pub async fn discrepancies(api: web::Data<Api>, query: Query<DiscrepancyQuery>) -> Answer {
    let query = query.0;
    let paging = Paging::<1>::read(query.cursor.as_deref(), query.limit)?;
    let before = match &paging.after {
        Some([id]) => Some(movement_id(id).ok_or_else(bad_cursor)?),
        None => None,
    };
    let store = &api.desk.store;
    let rows =
        store.discrepancies(query.facility.as_deref(), query.open, before, paging.fetch()).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |d| [d.id.clone()])))
}

/// Which refused frames.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct QuarantineQuery {
    /// Of this facility.
    facility: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Items wanted, 1 to 1000.
    limit: Option<u32>,
}

/// Frames and commands that had no effect, newest first, with their bytes.
#[utoipa::path(get, path = "/api/v1/quarantine", tag = "stock", params(QuarantineQuery), responses((status = 200, body = Page<Quarantined>)))]
pub async fn quarantine(api: web::Data<Api>, query: Query<QuarantineQuery>) -> Answer {
    let query = query.0;
    let paging = Paging::<1>::read(query.cursor.as_deref(), query.limit)?;
    let before: Option<Position> = match &paging.after {
        Some([position]) => Some(position.parse().map_err(|_| bad_cursor())?),
        None => None,
    };
    let shard = shard_filter(&api, query.facility.as_deref()).await?;
    let rows =
        api.desk.store.quarantine(shard, query.facility.as_deref(), before, paging.fetch()).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |q| [q.position.clone()])))
}

/// Which accounts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LedgerQuery {
    /// Of this facility.
    facility: Option<String>,
    /// Of this device.
    device: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Items wanted, 1 to 1000.
    limit: Option<u32>,
}

/// Accounts of devices and hours, newest hour first.
#[utoipa::path(get, path = "/api/v1/ledger", tag = "devices", params(LedgerQuery), responses((status = 200, body = Page<LedgerRow>)))]
pub async fn ledger(api: web::Data<Api>, query: Query<LedgerQuery>) -> Answer {
    let query = query.0;
    let paging = Paging::<3>::read(query.cursor.as_deref(), query.limit)?;
    let before = match &paging.after {
        Some([hour, facility, device]) => {
            Some((cursor_time(hour)?, facility.as_str(), device.as_str()))
        }
        None => None,
    };
    let store = &api.desk.store;
    let rows = store
        .ledger(query.facility.as_deref(), query.device.as_deref(), before, paging.fetch())
        .await?;
    let key = |row: &LedgerRow| [row.hour.0.to_string(), row.facility.clone(), row.device.clone()];
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, key)))
}

/// A time of a cursor.
pub(super) fn cursor_time(text: &str) -> Result<When, Problem> {
    text.parse().map(When).map_err(|_| bad_cursor())
}

/// A time of a query or body.
pub(super) fn time(field: &str, text: Option<&str>) -> Result<Option<When>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let bad = || {
        Problem::invalid(
            field,
            format!("{text:?} is not a time. Write RFC 3339, such as 2026-11-24T07:00:00Z."),
        )
    };
    // A plus sign in a query that was not escaped reads as a space.
    parse_rfc3339_us(&text.replace(' ', "+")).map(|us| Some(When(us))).ok_or_else(bad)
}
