//! What is not under `/api/v1`: health, metrics, signing in.

use actix_web::{
    HttpRequest, HttpResponse,
    cookie::{Cookie, SameSite, time::Duration},
    http::{StatusCode, header},
    web,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Api, auth::SESSION_COOKIE, limits::SESSION_AGE_MAX, problem::Problem, request::Query};

type Answer = Result<HttpResponse, Problem>;

/// Nothing is at this path.
pub async fn nothing_here() -> Answer {
    Err(Problem::of_status(StatusCode::NOT_FOUND))
}

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, body = String)))]
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// Whether the hub can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// Every check is well.
    ready: bool,
    /// The checks.
    checks: Vec<ReadyCheck>,
}

/// One check.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadyCheck {
    /// Its stable name.
    name: String,
    /// All is well.
    ok: bool,
    /// What is wrong, or what the figure is.
    detail: String,
}

/// Whether the hub can do its work, check by check.
#[utoipa::path(get, path = "/readyz", tag = "operation", responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub async fn readyz(api: web::Data<Api>) -> HttpResponse {
    let told = |check: crate::desk::Check| ReadyCheck {
        name: check.name,
        ok: check.ok,
        detail: check.detail,
    };
    let checks: Vec<ReadyCheck> = api.desk.checks().into_iter().map(told).collect();
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).json(Readiness { ready, checks })
}

/// Metrics in Prometheus' text format. Open to this machine only when the hub listens on a loopback address.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses((status = 200, body = String)))]
pub async fn metrics(api: web::Data<Api>) -> HttpResponse {
    let mut text = api.desk.metrics();
    text.push_str(
        "# HELP stockfold_live_clients Live connections.\n# TYPE stockfold_live_clients gauge\n",
    );
    text.push_str(&format!("stockfold_live_clients {}\n", api.feed.clients()));
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}

/// A sign-in link's code.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SignInQuery {
    /// The code; good once, for ten minutes.
    code: String,
}

/// Trades a sign-in link for a session cookie and goes to the overview.
#[utoipa::path(get, path = "/signin", tag = "operation", params(SignInQuery), responses((status = 303, description = "Signed in")))]
pub async fn sign_in(
    api: web::Data<Api>,
    request: HttpRequest,
    query: Query<SignInQuery>,
) -> Answer {
    let Some(session) = api.auth.redeem(&query.0.code)? else {
        if api.auth.failed(request.peer_addr().map(|peer| peer.ip())) {
            return Err(Problem::too_many_failures());
        }
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "bad_sign_in_code",
            "This sign-in link was used already, or is older than ten minutes. Ask the hub for a new one.",
        ));
    };
    let age = i64::try_from(SESSION_AGE_MAX.as_secs()).unwrap_or(0);
    let cookie = Cookie::build(SESSION_COOKIE, session.reveal().to_owned())
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(request.connection_info().scheme() == "https")
        .max_age(Duration::seconds(age))
        .finish();
    Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, "/")).cookie(cookie).finish())
}
