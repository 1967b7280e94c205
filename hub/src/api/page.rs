//! The overview page: three files in the program, no build step, no inline script or style.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, ETag, EntityTag, Header},
};
use sha2::{Digest, Sha256};

use crate::store::told::hex;

const INDEX: &[u8] = include_bytes!("../page/index.html");
const STYLE: &[u8] = include_bytes!("../page/style.css");
const SCRIPT: &[u8] = include_bytes!("../page/app.js");

/// The overview page.
#[utoipa::path(get, path = "/", tag = "page", responses((status = 200, description = "The page", content_type = "text/html")))]
pub async fn index(request: HttpRequest) -> HttpResponse {
    asset(&request, INDEX, "text/html; charset=utf-8")
}

/// Its style.
#[utoipa::path(get, path = "/style.css", tag = "page", responses((status = 200, description = "The style", content_type = "text/css")))]
pub async fn style(request: HttpRequest) -> HttpResponse {
    asset(&request, STYLE, "text/css; charset=utf-8")
}

/// Its script.
#[utoipa::path(get, path = "/app.js", tag = "page", responses((status = 200, description = "The script", content_type = "text/javascript")))]
pub async fn script(request: HttpRequest) -> HttpResponse {
    asset(&request, SCRIPT, "text/javascript; charset=utf-8")
}

/// A file that a browser may keep but asks about each time, so a new hub is never shown by an old page.
fn asset(request: &HttpRequest, bytes: &'static [u8], content_type: &'static str) -> HttpResponse {
    let tag = EntityTag::new_weak(hex(&Sha256::digest(bytes))[..16].to_owned());
    let known = match header::IfNoneMatch::parse(request) {
        Ok(header::IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Ok(header::IfNoneMatch::Any) | Err(_) => false,
    };
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(ETag(tag)).insert_header((header::CACHE_CONTROL, "no-cache"));
    if known {
        return response.finish();
    }
    response.content_type(content_type).body(bytes)
}
