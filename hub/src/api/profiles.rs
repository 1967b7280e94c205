//! Profiles: what devices' bytes mean. YAML texts, immutable, named by the hash of their text.

use std::str::FromStr;

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web,
};
use device_profiles::{Profile, ProfileHash, limits::PROFILE_BYTES_MAX, profile::DEFAULT_PROFILE};

use super::{
    Api,
    master::ListQuery,
    problem::Problem,
    request::{Page, Query, Text, bad_cursor},
};
use crate::store::access::ProfileItem;

type Answer = Result<HttpResponse, Problem>;

/// Profiles, the built-in `default` included.
#[utoipa::path(get, path = "/api/v1/profiles", tag = "profiles", params(ListQuery), responses((status = 200, body = Page<ProfileItem>)))]
pub async fn list(api: web::Data<Api>, query: Query<ListQuery>) -> Answer {
    let paging = query.0.paging::<1>()?;
    let after = match &paging.after {
        Some([hash]) => Some(ProfileHash::from_str(hash).map_err(|_| bad_cursor())?),
        None => None,
    };
    let rows = api.desk.store.list_profiles(after, paging.fetch()).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |p| [p.hash.clone()])))
}

/// Adds a profile. The body is its YAML text.
#[utoipa::path(post, path = "/api/v1/profiles", tag = "profiles", request_body(content = String, content_type = "application/yaml"), responses((status = 201, body = ProfileItem), (status = 200, body = ProfileItem, description = "It was there already")))]
pub async fn post(api: web::Data<Api>, body: Text<PROFILE_BYTES_MAX>) -> Answer {
    let profile = Profile::parse(&body.0).map_err(|error| {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_profile",
            format!("Nothing was added: {error}."),
        )
    })?;
    if profile.name.as_str() == crate::store::shapes::DEFAULT_PROFILE_NAME {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "conflict",
            "The name `default` belongs to the built-in profile. Give this one another name.",
        ));
    }
    let new = api.desk.store.add_profile(&profile).await?;
    api.desk.publish_soon();
    let item = api.desk.store.profile_item(profile.hash).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(HttpResponse::build(status).json(item))
}

/// The text of a profile.
#[utoipa::path(get, path = "/api/v1/profiles/{hash}", tag = "profiles", params(("hash" = String, Path, description = "The hash, or `default`")), responses((status = 200, body = String, content_type = "application/yaml")))]
pub async fn get(api: web::Data<Api>, path: web::Path<String>) -> Answer {
    let text = text_of(&api, &path).await?.ok_or_else(|| Problem::not_found("profile", &path))?;
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "application/yaml")).body(text))
}

async fn text_of(api: &Api, name: &str) -> Result<Option<String>, Problem> {
    if name == crate::store::shapes::DEFAULT_PROFILE_NAME {
        return Ok(Some(DEFAULT_PROFILE.to_owned()));
    }
    let Ok(hash) = ProfileHash::from_str(name) else { return Ok(None) };
    by_hash(api, hash).await
}

/// The text with a hash, also of the built-in profile.
pub(super) async fn by_hash(api: &Api, hash: ProfileHash) -> Result<Option<String>, Problem> {
    if hash == ProfileHash::of(DEFAULT_PROFILE) {
        return Ok(Some(DEFAULT_PROFILE.to_owned()));
    }
    Ok(api.desk.store.profile_text(hash).await?)
}
