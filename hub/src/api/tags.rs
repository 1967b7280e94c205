//! Tags: which are here, what was told of each, and why.

use actix_web::{HttpResponse, web};
use device_profiles::{FacilityId, Tag};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    explain::{Evidence, evidence},
    narrative,
    problem::Problem,
    request::{Page, Paging, Query, id},
    stock::{before, movement_id},
    tag_name::{TagIdentity, tags_of},
};
use crate::store::{
    read_master::SkuNow,
    tags::{TagEvent, TagEventFilter, TagFilter, TagRow},
    when::When,
};

type Answer = Result<HttpResponse, Problem>;

/// A tag as it was when something changed for it last.
#[derive(Debug, Serialize, ToSchema)]
pub struct TagTold {
    /// The facility.
    facility: String,
    /// Its EPC memory, upper-case hexadecimal.
    tag: String,
    /// What it says it is.
    identity: TagIdentity,
    /// It is present; otherwise it departed.
    present: bool,
    /// Since when.
    since: When,
    /// When it was read last, as of that change.
    last_read: When,
    /// Where it is; nothing when it departed.
    #[serde(rename = "where")]
    place: Option<TagPlace>,
    /// The SKU it is a unit of.
    sku: Option<String>,
    /// How likely it was present at that change, 0 to 1.
    probability: f64,
}

/// Where a tag is.
#[derive(Debug, Serialize, ToSchema)]
pub struct TagPlace {
    /// The zone.
    zone: String,
    /// The reader that has it.
    device: Option<String>,
    /// The port of its antenna.
    antenna: Option<i16>,
    /// The slot that antenna looks at.
    slot: Option<String>,
}

impl From<TagRow> for TagTold {
    fn from(row: TagRow) -> Self {
        let TagRow { device, antenna, slot, .. } = row;
        Self {
            identity: TagIdentity::of(&row.tag),
            facility: row.facility,
            tag: row.tag,
            present: row.present,
            since: row.since,
            last_read: row.last_read,
            place: row.zone.map(|zone| TagPlace { zone, device, antenna, slot }),
            sku: row.sku,
            // Four places are all that the fold tells.
            probability: (f64::from(row.probability) * 1e4).round() / 1e4,
        }
    }
}

/// Which tags of a facility.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TagQuery {
    /// In this zone.
    zone: Option<String>,
    /// Of this SKU.
    sku: Option<String>,
    /// In this slot.
    slot: Option<String>,
    /// Only those that are present, or only those that departed.
    present: Option<bool>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Items wanted, 1 to 1000.
    limit: Option<u32>,
}

/// Tags of a facility: present, and departed in the last 14 days.
#[utoipa::path(get, path = "/api/v1/facilities/{facility}/tags", tag = "tags", params(("facility" = String, Path), TagQuery), responses((status = 200, body = Page<TagTold>)))]
pub async fn list(api: web::Data<Api>, path: web::Path<String>, query: Query<TagQuery>) -> Answer {
    let query = query.0;
    let paging = Paging::<1>::read(query.cursor.as_deref(), query.limit)?;
    let filter = TagFilter {
        zone: query.zone.as_deref(),
        sku: query.sku.as_deref(),
        slot: query.slot.as_deref(),
        present: query.present,
        after: paging.after.as_ref().map(|[tag]| tag.as_str()),
    };
    api.facility_known(Some(path.as_str())).await?;
    let rows = api.desk.store.tags(&path, filter, paging.fetch()).await?;
    let page = Page::of(rows, &paging, |row| [row.tag.clone()]);
    Ok(HttpResponse::Ok().json(page.map(TagTold::from)))
}

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Where the page before ended.
    cursor: Option<String>,
    /// Items wanted, 1 to 1000.
    limit: Option<u32>,
}

/// A tag in every facility that knows it. It is named by its EPC memory in hexadecimal, an EPC URI, or a Digital Link; an
/// identity stands for every tag that carries it.
#[utoipa::path(get, path = "/api/v1/tags/{tag}", tag = "tags", params(("tag" = String, Path), PageQuery), responses((status = 200, body = Page<TagTold>)))]
pub async fn get(api: web::Data<Api>, path: web::Path<String>, query: Query<PageQuery>) -> Answer {
    let paging = Paging::<2>::read(query.0.cursor.as_deref(), query.0.limit)?;
    let names = names(&path)?;
    let after = paging.after.as_ref().map(|[facility, tag]| (facility.as_str(), tag.as_str()));
    let rows = api.desk.store.tags_named(&names, None, after, paging.fetch()).await?;
    if rows.is_empty() && after.is_none() {
        return Err(Problem::not_found("tag", &path));
    }
    let page = Page::of(rows, &paging, |row| [row.facility.clone(), row.tag.clone()]);
    Ok(HttpResponse::Ok().json(page.map(TagTold::from)))
}

/// What was told of a tag, in every facility, newest first. Named as for the tag itself.
#[utoipa::path(get, path = "/api/v1/tags/{tag}/events", tag = "tags", params(("tag" = String, Path), PageQuery), responses((status = 200, body = Page<TagEvent>)))]
pub async fn history(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Query<PageQuery>,
) -> Answer {
    let names = names(&path)?;
    let filter = TagEventFilter { tags: Some(&names), ..TagEventFilter::default() };
    events(&api, filter, query.0.cursor.as_deref(), query.0.limit).await
}

/// What may become of a tag.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TagEventKind {
    /// It is here for the first time.
    Arrived,
    /// It is here again.
    Returned,
    /// It is at another place.
    Moved,
    /// It is here no more.
    Departed,
}

impl TagEventKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Arrived => "arrived",
            Self::Returned => "returned",
            Self::Moved => "moved",
            Self::Departed => "departed",
        }
    }
}

/// Which events of a facility's tags.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TagEventQuery {
    /// Of this kind.
    #[param(inline)]
    kind: Option<TagEventKind>,
    /// From or to this zone.
    zone: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Items wanted, 1 to 1000.
    limit: Option<u32>,
}

/// What was told of a facility's tags, newest first.
#[utoipa::path(get, path = "/api/v1/facilities/{facility}/tag-events", tag = "tags", params(("facility" = String, Path), TagEventQuery), responses((status = 200, body = Page<TagEvent>)))]
pub async fn of_facility(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Query<TagEventQuery>,
) -> Answer {
    let query = query.0;
    api.facility_known(Some(path.as_str())).await?;
    let filter = TagEventFilter {
        facility: Some(&path),
        kind: query.kind.map(TagEventKind::as_str),
        zone: query.zone.as_deref(),
        ..TagEventFilter::default()
    };
    events(&api, filter, query.cursor.as_deref(), query.limit).await
}

async fn events(
    api: &Api,
    filter: TagEventFilter<'_>,
    cursor: Option<&str>,
    limit: Option<u32>,
) -> Answer {
    let paging = Paging::<2>::read(cursor, limit)?;
    let filter = TagEventFilter { before: before(&paging)?, ..filter };
    let rows = api.desk.store.tag_events(filter, paging.fetch()).await?;
    let key = |event: &TagEvent| [event.at.0.to_string(), event.id.clone()];
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, key)))
}

/// Why something was told of a tag.
#[derive(Debug, Serialize, ToSchema)]
pub struct TagExplanation {
    /// What was told.
    event: TagEvent,
    /// What the tag says it is.
    identity: TagIdentity,
    /// What it rests on: the entry at which it was decided, then the reads, newest first.
    evidence: Vec<Evidence>,
    /// The SKU as it is known now.
    sku_now: Option<SkuNow>,
    /// In sentences.
    narrative: Vec<String>,
}

/// Explains what was told of a tag, down to the bytes its reader sent.
#[utoipa::path(get, path = "/api/v1/tag-events/{id}/explain", tag = "tags", params(("id" = String, Path)), responses((status = 200, body = TagExplanation)))]
pub async fn explain(api: web::Data<Api>, path: web::Path<String>) -> Answer {
    let unknown = || Problem::not_found("tag event", &path);
    let name = movement_id(&path).ok_or_else(unknown)?;
    let store = &api.desk.store;
    let found = store.tag_event(name).await?.ok_or_else(unknown)?;
    let event = found.event;
    let facility: FacilityId = id("facility", &event.facility)?;
    let sku_now = match &event.sku {
        Some(sku) => store.sku_now(sku).await?,
        None => None,
    };
    Ok(HttpResponse::Ok().json(TagExplanation {
        evidence: evidence(&api, name.position, &found.evidence, &facility).await?,
        identity: TagIdentity::of(&event.tag),
        narrative: narrative::of_tag(&event),
        sku_now,
        event,
    }))
}

/// The names in the store of what a caller names.
fn names(text: &str) -> Result<Vec<String>, Problem> {
    Ok(tags_of(text)?.iter().map(Tag::to_string).collect())
}

/// The one tag of a facility that a caller means.
pub(super) async fn one_tag(api: &Api, facility: &FacilityId, text: &str) -> Result<Tag, Problem> {
    let tags = tags_of(text)?;
    if let [tag] = tags.as_slice() {
        return Ok(*tag);
    }
    let names: Vec<String> = tags.iter().map(Tag::to_string).collect();
    // Two are enough to know that it is not one.
    let rows = api.desk.store.tags_named(&names, Some(facility.as_str()), None, 2).await?;
    match rows.as_slice() {
        [row] => row.tag.parse().map_err(|_| Problem::internal("a tag's row has no tag")),
        [] => Err(Problem::not_found("tag", text)),
        [..] => Err(Problem::invalid(
            "tag",
            format!("Several tags here carry {text:?}. Name one by its EPC memory in hexadecimal."),
        )),
    }
}
