//! What did not fit, what had no effect, and the accounts that show that nothing vanished.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::{HttpResponse, web};
use device_profiles::time::parse_rfc3339_us;
use fold::Position;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    problem::Problem,
    request::{Page, Paging, Query, bad_cursor, id},
    stock::{movement_id, shard_filter},
};
use crate::{
    refusals::RefusedCounts,
    store::{
        told::{Discrepancy, LedgerRow, Quarantined},
        when::When,
    },
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
    api.facility_known(query.facility.as_deref()).await?;
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

/// Accounts of hours, and how their devices stand at this moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ledger {
    /// The accounts.
    items: Vec<LedgerRow>,
    /// Ask on with `?cursor=` this; `null` at the end.
    next: Option<String>,
    /// The devices of this page, and the one that was asked for.
    now: Vec<AccountNow>,
}

/// What is in no account of a device: not yet, or never.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountNow {
    /// The facility.
    facility: String,
    /// The device.
    device: String,
    /// How far the facility's shard is behind: bytes of the journal, of whatever device, that it has not folded and committed.
    /// 0 = every frame that was acknowledged is accounted for; its row is written within a second or so.
    unfolded_bytes: u64,
    /// Publishes that were refused before the journal, counted since the hub started. No account has them.
    refused: RefusedCounts,
}

/// Accounts of devices and hours, newest hour first.
#[utoipa::path(get, path = "/api/v1/ledger", tag = "devices", params(LedgerQuery), responses((status = 200, body = Ledger)))]
pub async fn ledger(api: web::Data<Api>, query: Query<LedgerQuery>) -> Answer {
    let query = query.0;
    let paging = Paging::<3>::read(query.cursor.as_deref(), query.limit)?;
    let before = match &paging.after {
        Some([hour, facility, device]) => {
            Some((cursor_time(hour)?, facility.as_str(), device.as_str()))
        }
        None => None,
    };
    api.facility_known(query.facility.as_deref()).await?;
    api.device_known(query.device.as_deref()).await?;
    let store = &api.desk.store;
    let rows = store
        .ledger(query.facility.as_deref(), query.device.as_deref(), before, paging.fetch())
        .await?;
    let key = |row: &LedgerRow| [row.hour.0.to_string(), row.facility.clone(), row.device.clone()];
    let Page { items, next } = Page::of(rows, &paging, key);
    let mut devices: BTreeSet<(String, String)> =
        items.iter().map(|row| (row.facility.clone(), row.device.clone())).collect();
    // A device of which nothing ever reached the journal has no row.
    if let Some(device) = &query.device
        && let Some(asked) = store.list_devices(None, Some(device), None, 1).await?.pop()
        && query.facility.as_ref().is_none_or(|facility| *facility == asked.facility)
    {
        devices.insert((asked.facility, asked.id));
    }
    let now = accounts_now(&api, devices).await?;
    Ok(HttpResponse::Ok().json(Ledger { items, next, now }))
}

async fn accounts_now(
    api: &Api,
    devices: BTreeSet<(String, String)>,
) -> Result<Vec<AccountNow>, Problem> {
    let mut behind: BTreeMap<u16, u64> = BTreeMap::new();
    let mut now = Vec::with_capacity(devices.len());
    for (facility, device) in devices {
        let shard = api.shard_of(&id("facility", &facility)?).await?;
        let unfolded_bytes = match behind.get(&shard) {
            Some(bytes) => *bytes,
            None => {
                let desk = api.desk.clone();
                let bytes = web::block(move || desk.unfolded_bytes(shard))
                    .await
                    .map_err(|error| Problem::internal(error.to_string()))?;
                behind.insert(shard, bytes);
                bytes
            }
        };
        let refused = api.desk.refused(&device);
        now.push(AccountNow { facility, device, unfolded_bytes, refused });
    }
    Ok(now)
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
