//! The guard: what happens to every request before and after its handler.
//!
//! Before: a request id; the route's permission from the table; who calls; for cookies, that the page itself calls; for reads,
//! the wait for `min_position`. After: problems are written out, security headers set. A path outside the table is answered
//! 404 without asking anybody, a known path with a method it does not have 405, and that only to callers who may know.

use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::{
    HttpMessage, HttpResponse, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use fold::Position;

use super::{
    Api,
    auth::{Denied, SESSION_COOKIE},
    limits::MIN_POSITION_WAIT,
    permission::Permission,
    problem::{PROBLEM_JSON, Problem},
    routes::{self, Route},
};
use crate::directory::Unknown;

/// Header that carries the request id.
pub const REQUEST_ID: &str = "x-request-id";

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Numbers requests; unique in a log that outlives a restart because it begins with the start's own random part.
#[derive(Debug)]
pub struct RequestIds {
    start: u32,
    next: AtomicU64,
}

impl RequestIds {
    /// Starts numbering.
    pub fn new() -> Self {
        let mut start = [0u8; 4];
        // Ids without randomness are still good to have.
        let _ = getrandom::fill(&mut start);
        Self { start: u32::from_be_bytes(start), next: AtomicU64::new(1) }
    }
    fn next(&self) -> String {
        format!("{:08x}-{:x}", self.start, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Guards one request.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let Some(api) = request.app_data::<web::Data<Api>>().cloned() else {
        return Err(Problem::internal("the API state is not attached").into());
    };
    let id = api.request_ids.next();
    let mut response = match admit(&api, &request).await {
        Ok(()) => next.call(request).await?.map_into_boxed_body(),
        Err(problem) => {
            let refused = problem.error_response();
            request.into_response(refused)
        }
    };
    if let Some(problem) = problem_of(&response) {
        response = write_problem(response, &problem, &id);
    }
    secure(&mut response, &id);
    Ok(response)
}

/// Whether the request may go on.
async fn admit(api: &Api, request: &ServiceRequest) -> Result<(), Problem> {
    // PostgreSQL's text cannot hold NUL, and nothing is named so.
    if request.uri().path_and_query().is_some_and(|asked| asked.as_str().contains("%00")) {
        let detail = "The path or query has a NUL character. Nothing is named so; leave it out.";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail));
    }
    let Some(pattern) = request.match_pattern() else { return Ok(()) };
    let known: Vec<&Route> = routes::ROUTES.iter().filter(|route| route.path == pattern).collect();
    let route = known.iter().find(|route| route.method == request.method().as_str());
    let permission = route.or(known.first()).map_or(Permission::Open, |route| route.permission);
    let free = permission == Permission::Open
        || (permission == Permission::MetricsRead && api.metrics_open);
    if permission == Permission::DeviceSelf {
        identify_device(api, request)?;
    } else if !free {
        identify(api, request)?;
    }
    if route.is_none() && !known.is_empty() {
        let methods: Vec<&str> = known.iter().map(|route| route.method).collect();
        let methods = methods.join(", ");
        let detail =
            format!("{} is not possible here. This path takes {methods}.", request.method());
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
            .allowing(methods));
    }
    await_position(api, request).await
}

/// Finds out who calls and leaves the name with the request.
fn identify(api: &Api, request: &ServiceRequest) -> Result<(), Problem> {
    let bearer = match request.headers().get(header::AUTHORIZATION) {
        // Anything but a bearer token is a wrong one.
        Some(value) => {
            Some(value.to_str().ok().and_then(|v| v.strip_prefix("Bearer ")).unwrap_or(""))
        }
        None => None,
    };
    let cookie = request.cookie(SESSION_COOKIE);
    let caller = match api.auth.check(bearer, cookie.as_ref().map(|c| c.value())) {
        Ok(caller) => caller,
        Err(denied) => return Err(refuse(api, request, denied)),
    };
    if caller.by_cookie && *request.method() != Method::GET && !from_own_page(request) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "A session cookie is good only for calls that this hub's own page makes. Use a token instead.",
        ));
    }
    request.extensions_mut().insert(caller);
    Ok(())
}

/// Finds out whether the device that the path names calls, and leaves it with the request. What it presents is the secret it
/// would present as its MQTT password: as `Basic DEVICE:SECRET`, which is all that some readers can, or as `Bearer SECRET`.
fn identify_device(api: &Api, request: &ServiceRequest) -> Result<(), Problem> {
    // The router has not looked at the path yet. What is escaped in it names nobody: no id needs that.
    let pattern = request.match_pattern().unwrap_or_default();
    let mut levels = pattern.split('/').zip(request.path().split('/'));
    let named = levels.find(|(level, _)| *level == "{device}").map_or("", |(_, named)| named);
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(header) = header else {
        let detail = "This needs the device's secret. Send `Authorization: Basic`, with the device's id and its secret.";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail));
    };
    let checked = match credentials(header) {
        Some((name, secret)) if name.as_deref().is_none_or(|name| name == named) => {
            api.desk.directory.check(named, &secret)
        }
        Some(_) | None => Err(Unknown::BadSecret),
    };
    match checked {
        Ok(device) => {
            request.extensions_mut().insert(device);
            Ok(())
        }
        Err(Unknown::NotReady) => Err(Problem::away("the directory was never read")),
        // Whoever has no secret of it does not learn whether there is such a device.
        Err(
            unknown @ (Unknown::NotEnrolled
            | Unknown::Disabled
            | Unknown::BadSecret
            | Unknown::BadCertificate),
        ) => {
            let address = request.peer_addr().map(|peer| peer.ip());
            let peer = address.map_or_else(String::new, |address| address.to_string());
            api.desk.directory.note(named, peer, &format!("HTTP: {unknown}"));
            if api.auth.failed(address) {
                return Err(Problem::too_many_failures());
            }
            let detail = "There is no such device, or the secret is not one of its own. Enrol it, or make it a new credential.";
            Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail))
        }
    }
}

/// Name, if one is told, and secret of an Authorization header.
fn credentials(header: &str) -> Option<(Option<String>, Vec<u8>)> {
    if let Some(secret) = header.strip_prefix("Bearer ") {
        return Some((None, secret.as_bytes().to_vec()));
    }
    let pair = STANDARD.decode(header.strip_prefix("Basic ")?.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8(pair.get(..colon)?.to_vec()).ok()?;
    Some((Some(name), pair.get(colon + 1..)?.to_vec()))
}

fn refuse(api: &Api, request: &ServiceRequest, denied: Denied) -> Problem {
    let detail = match denied {
        Denied::Nothing => {
            "This needs a token. Send `Authorization: Bearer TOKEN`, or open the hub's sign-in link in a browser."
        }
        Denied::Wrong => {
            "The token or session is not known here, or is no longer good. Use the current token, or a new sign-in link."
        }
    };
    let address = request.peer_addr().map(|peer| peer.ip());
    if denied == Denied::Wrong && api.auth.failed(address) {
        return Problem::too_many_failures();
    }
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}

/// Whether a browser says that the hub's own page makes this request.
fn from_own_page(request: &ServiceRequest) -> bool {
    let text = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site")) {
        return site == "same-origin";
    }
    same_origin(text(header::ORIGIN), text(header::HOST)).unwrap_or(false)
}

/// Whether an Origin names the host that was asked; `None` when there is no Origin.
pub fn same_origin(origin: Option<&str>, host: Option<&str>) -> Option<bool> {
    let origin = origin?;
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    Some(authority.is_some() && authority == host)
}

/// `min_position`: what a caller has written must be visible before it is answered.
async fn await_position(api: &Api, request: &ServiceRequest) -> Result<(), Problem> {
    if *request.method() != Method::GET {
        return Ok(());
    }
    let mut pairs = request.query_string().split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, text)) = pairs.find(|(name, _)| *name == "min_position") else { return Ok(()) };
    let position: Position = text.parse().map_err(|error: fold::entry::NotAPosition| {
        Problem::invalid("min_position", error.to_string())
    })?;
    if !api.desk.has_place_for(position) {
        let detail = format!(
            "The position {position} is not one of this hub's journal, so nothing will ever be committed there: it comes from \
             another hub, or from before this one was set up anew. Read without min_position and go on from the positions that \
             are answered now."
        );
        return Err(Problem::invalid("min_position", detail));
    }
    if api.desk.committed(position, MIN_POSITION_WAIT).await {
        return Ok(());
    }
    let detail = format!(
        "The entry at {position} is not committed yet. It is safe in the journal; ask again shortly."
    );
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "behind", detail).retry_after(1))
}

/// The problem a response stands for.
fn problem_of(response: &ServiceResponse) -> Option<Problem> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    if let Some(problem) = response.response().extensions().get::<Problem>() {
        return Some(problem.clone());
    }
    // `/readyz` answers 503 with its own body.
    response.response().error().is_some().then(|| Problem::of_status(status)).or_else(|| {
        let bare = !response.headers().contains_key(header::CONTENT_TYPE);
        bare.then(|| Problem::of_status(status))
    })
}

fn write_problem(
    response: ServiceResponse,
    problem: &Problem,
    request_id: &str,
) -> ServiceResponse<BoxBody> {
    if problem.status.is_server_error() {
        let internal = problem.internal.as_deref().unwrap_or("");
        tracing::warn!(request_id, code = %problem.code, internal, "request failed");
    }
    let mut written = HttpResponse::build(problem.status);
    written.insert_header((header::CONTENT_TYPE, PROBLEM_JSON));
    if problem.status == StatusCode::UNAUTHORIZED {
        written.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"stockfold\""));
    }
    if let Some(methods) = &problem.allow {
        written.insert_header((header::ALLOW, methods.as_str()));
    }
    if let Some(seconds) = problem.retry_after {
        written.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    let body = serde_json::to_vec(&problem.body(request_id)).unwrap_or_default();
    response.into_response(written.body(body).map_into_boxed_body())
}

fn secure(response: &mut ServiceResponse, request_id: &str) {
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &'static str| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    };
    set("content-security-policy", CONTENT_SECURITY_POLICY);
    set("x-content-type-options", "nosniff");
    set("referrer-policy", "no-referrer");
    set("cross-origin-opener-policy", "same-origin");
    set("cross-origin-resource-policy", "same-origin");
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static(REQUEST_ID), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_compared_whole() {
        assert_eq!(same_origin(Some("http://hub:8080"), Some("hub:8080")), Some(true));
        assert_eq!(same_origin(Some("http://evil"), Some("hub:8080")), Some(false));
        assert_eq!(same_origin(Some("null"), Some("hub:8080")), Some(false));
        assert_eq!(same_origin(None, Some("hub:8080")), None);
    }
}
