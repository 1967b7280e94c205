//! Stock and its movements.

use actix_web::{HttpResponse, web};
use device_profiles::FacilityId;
use fold::{MovementId, Position};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    accounts::cursor_time,
    problem::Problem,
    request::{Page, Paging, Query, bad_cursor, id},
};
use crate::store::{
    query::{OutboxFilter, StockFilter},
    told::{MovementTold, StockLine},
    when::When,
};

type Answer = Result<HttpResponse, Problem>;

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StockQuery {
    /// Of this facility.
    facility: Option<String>,
    /// On this shelf.
    shelf: Option<String>,
    /// In this slot.
    slot: Option<String>,
    /// Of this SKU.
    sku: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Items wanted, 1 to 1000.
    limit: Option<u32>,
}

/// Stock lines, by facility, slot and SKU.
#[utoipa::path(get, path = "/api/v1/stock", tag = "stock", params(StockQuery), responses((status = 200, body = Page<StockLine>)))]
pub async fn list(api: web::Data<Api>, query: Query<StockQuery>) -> Answer {
    let query = query.0;
    let paging = Paging::<3>::read(query.cursor.as_deref(), query.limit)?;
    let filter = StockFilter {
        facility: query.facility.as_deref(),
        shelf: query.shelf.as_deref(),
        slot: query.slot.as_deref(),
        sku: query.sku.as_deref(),
        after: paging
            .after
            .as_ref()
            .map(|[f, slot, sku]| (f.as_str(), slot.as_str(), sku.as_str())),
    };
    api.facility_known(filter.facility).await?;
    let rows = api.desk.store.stock(filter, paging.fetch(), api.desk.now_us()).await?;
    let key = |line: &StockLine| [line.facility.clone(), line.slot.clone(), line.sku.clone()];
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, key)))
}

/// Which way a list runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Oldest first.
    #[default]
    Asc,
    /// Newest first.
    Desc,
}

/// Which movements.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MovementQuery {
    /// Of this facility. Without one, movements come shard by shard.
    facility: Option<String>,
    /// Of this slot.
    slot: Option<String>,
    /// Of this SKU.
    sku: Option<String>,
    /// Shown by this device.
    device: Option<String>,
    /// Beyond this movement, in the order asked for. A reader that keeps the last id it saw misses nothing.
    after: Option<String>,
    /// `asc` (default) or `desc`.
    #[serde(default)]
    #[param(inline)]
    order: Order,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Items wanted, 1 to 1000.
    limit: Option<u32>,
}

/// Movements in the order of their positions.
#[utoipa::path(get, path = "/api/v1/movements", tag = "stock", params(MovementQuery), responses((status = 200, body = Page<MovementTold>)))]
pub async fn movements(api: web::Data<Api>, query: Query<MovementQuery>) -> Answer {
    let query = query.0;
    let paging = Paging::<1>::read(query.cursor.as_deref(), query.limit)?;
    let shard = shard_filter(&api, query.facility.as_deref()).await?;
    api.device_known(query.device.as_deref()).await?;
    let after = match (&paging.after, &query.after) {
        (Some([id]), _) | (None, Some(id)) => Some(movement_id(id).ok_or_else(|| {
            Problem::invalid(
                "after",
                format!("{id:?} is not a movement's id, such as 1-0-81920-0."),
            )
        })?),
        (None, None) => None,
    };
    let filter = OutboxFilter {
        shard,
        facility: query.facility.as_deref(),
        slot: query.slot.as_deref(),
        sku: query.sku.as_deref(),
        device: query.device.as_deref(),
        after,
        newest_first: query.order == Order::Desc,
        limit: paging.fetch(),
    };
    let rows = api.desk.store.movements(filter).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |m| [m.id.clone()])))
}

/// A movement.
#[utoipa::path(get, path = "/api/v1/movements/{id}", tag = "stock", params(("id" = String, Path)), responses((status = 200, body = MovementTold)))]
pub async fn movement(api: web::Data<Api>, path: web::Path<String>) -> Answer {
    let unknown = || Problem::not_found("movement", &path);
    let id = movement_id(&path).ok_or_else(unknown)?;
    let found = api.desk.store.movement_reasons(id).await?.ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(found.movement))
}

/// The shard of a facility that is filtered by, so that its rows are found by position.
pub(super) async fn shard_filter(
    api: &Api,
    facility: Option<&str>,
) -> Result<Option<u16>, Problem> {
    match facility {
        Some(facility) => {
            let facility: FacilityId = id("facility", facility)?;
            api.shard_of(&facility).await.map(Some)
        }
        None => Ok(None),
    }
}

/// Where a page of events began to be older than: their time, and which of those of that time.
pub(super) fn before(paging: &Paging<2>) -> Result<Option<(When, MovementId)>, Problem> {
    let Some([at, id]) = &paging.after else { return Ok(None) };
    Ok(Some((cursor_time(at)?, movement_id(id).ok_or_else(bad_cursor)?)))
}

/// Reads `epoch-shard-offset-ordinal`.
pub(super) fn movement_id(text: &str) -> Option<MovementId> {
    let (position, ordinal) = text.rsplit_once('-')?;
    Some(MovementId {
        position: position.parse::<Position>().ok()?,
        ordinal: ordinal.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn movement_ids_round_trip() {
        assert_eq!(movement_id("1-0-81920-3").unwrap().to_string(), "1-0-81920-3");
        assert!(movement_id("1-0-81920").is_none());
        assert!(movement_id("x").is_none());
    }
}
