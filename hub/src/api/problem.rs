//! Problems: every answer that is not a success, as RFC 9457 `application/problem+json`.
//!
//! A handler returns a [`Problem`]; the guard writes it out, because only the guard knows the request's id. `code` is stable
//! and listed in `docs/specs/problems.md`. `detail` says what happened, to what, and what to do next; what only helps
//! ourselves goes to the log beside the same request id.

use std::{borrow::Cow, fmt, ops::Deref};

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    desk::AppendError,
    series::SeriesFault,
    store::{
        fault::Fault,
        master::{At, MasterError},
        retire::Stays,
    },
};

/// Media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong with a request. Boxed, because every handler may return one.
#[derive(Debug, Clone)]
pub struct Problem(Box<Said>);

/// What a problem says.
#[derive(Debug, Clone)]
pub struct Said {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable code.
    pub code: Cow<'static, str>,
    /// For people: what happened, to what, what to do next.
    pub detail: String,
    /// Which field of the body, when it is one.
    pub field: Option<String>,
    /// Seconds after which to try again.
    pub retry_after: Option<u64>,
    /// Methods the path takes, when that is the problem.
    pub allow: Option<String>,
    /// For the log only.
    pub internal: Option<String>,
}

impl Deref for Problem {
    type Target = Said;
    fn deref(&self) -> &Said {
        &self.0
    }
}

/// A problem as it is written.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// A reference to the code's description.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: &'a str,
    /// HTTP status.
    pub status: u16,
    /// What happened, to what, what to do next.
    pub detail: &'a str,
    /// Stable code.
    pub code: &'a str,
    /// Names this request in the log; also the header `x-request-id`.
    pub request_id: &'a str,
    /// Which field of the body is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
}

impl Problem {
    /// A problem.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Said {
            status,
            code: Cow::Borrowed(code),
            detail: detail.into(),
            field: None,
            retry_after: None,
            allow: None,
            internal: None,
        }))
    }
    /// The body or query says something that cannot be.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail).in_field(field)
    }
    /// There is no such thing.
    pub fn not_found(what: &str, id: &str) -> Self {
        let detail = format!("There is no {what} {id:?}. Check its id, or create it first.");
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }
    /// Something is away; try again.
    pub fn away(internal: impl Into<String>) -> Self {
        let detail = "The database does not answer. Readings and stock calls are kept in the journal meanwhile; try again \
                      shortly.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_away", detail)
            .retry_after(1)
            .because(internal)
    }
    /// An address presented wrong credentials or sign-in links too often.
    pub fn too_many_failures() -> Self {
        let detail = "This address presented wrong credentials too often. Correct them, or ask for a new sign-in link, and \
                      try again in a minute.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", detail).retry_after(60)
    }
    /// A fault of ours.
    pub fn internal(internal: impl Into<String>) -> Self {
        let detail = "The hub could not do this because of a fault of its own. The log has the cause under this request id.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).because(internal)
    }

    /// It is about this field of the body.
    pub fn in_field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }
    /// It may be over after so many seconds.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }
    /// The path takes these methods.
    pub fn allowing(mut self, methods: String) -> Self {
        self.0.allow = Some(methods);
        self
    }
    /// The cause, for the log only.
    pub fn because(mut self, internal: impl Into<String>) -> Self {
        self.0.internal = Some(internal.into());
        self
    }
    /// Its code is this one.
    pub fn coded(mut self, code: String) -> Self {
        self.0.code = Cow::Owned(code);
        self
    }
    /// The same, about a call on one thing: `slots[0].shelf` is its `shelf`.
    pub fn of_one(self) -> Self {
        self.map_field(|field| field.split_once("].").map_or(field, |(_, rest)| rest).to_owned())
    }
    /// The same, with its field named otherwise.
    pub fn map_field(mut self, name: impl Fn(&str) -> String) -> Self {
        self.0.field = self.0.field.as_deref().map(name);
        self
    }

    /// As JSON.
    pub fn body<'a>(&'a self, request_id: &'a str) -> ProblemBody<'a> {
        ProblemBody {
            kind: format!("https://stockfold.dev/problems/{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Problem"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: &self.code,
            request_id,
            field: self.field.as_deref(),
        }
    }

    /// The problem that stands for a status somebody else answered.
    pub fn of_status(status: StatusCode) -> Self {
        let (code, detail) = match status {
            StatusCode::BAD_REQUEST => {
                ("bad_request", "The request cannot be read. Check its syntax.")
            }
            StatusCode::NOT_FOUND => {
                ("no_such_path", "There is nothing at this path. See /api/v1 in docs/openapi.json.")
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                ("too_large", "The body is too large. Send it in parts.")
            }
            StatusCode::REQUEST_TIMEOUT => {
                ("too_slow", "The request did not arrive in time. Send it again.")
            }
            _ if status.is_server_error() => (
                "internal",
                "The hub could not do this. The log has the cause under this request id.",
            ),
            _ => ("refused", "The request was refused."),
        };
        Self::new(status, code, detail)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }
    /// Empty: the guard finds the problem in the extensions and writes it.
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::new(self.status);
        response.extensions_mut().insert(self.clone());
        response
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Away(why) => Self::away(why),
            Fault::Broken(why) => Self::internal(why),
        }
    }
}

impl From<SeriesFault> for Problem {
    fn from(fault: SeriesFault) -> Self {
        match fault {
            SeriesFault::Away { why, .. } => {
                let detail = "The store of sensor readings does not answer. What comes in meanwhile is kept in the journal; \
                              try again shortly.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "series_away", detail)
                    .retry_after(1)
                    .because(why)
            }
            SeriesFault::Refused(why) | SeriesFault::Broken(why) => Self::internal(why),
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let (code, detail) = match &error {
            AppendError::Busy(_) => (
                "journal_busy",
                "The journal cannot take more at the moment, so nothing was recorded. Send the call again with the same key.",
            ),
            AppendError::Stopping => (
                "stopping",
                "The hub is stopping, so nothing was recorded. Send the call again with the same key when it is back.",
            ),
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
            .retry_after(1)
            .because(error.to_string())
    }
}

impl From<Stays> for Problem {
    fn from(stays: Stays) -> Self {
        match stays {
            Stays::Unknown { what, id } => {
                let detail =
                    format!("There is no {what} {id:?}, so nothing was removed. Check its id.");
                Self::new(StatusCode::NOT_FOUND, "not_found", detail)
            }
            Stays::InUse { what, id, by } => {
                let detail = format!(
                    "The {what} {id} was not removed, because {by}. Change that first, then remove the {what}."
                );
                Self::new(StatusCode::CONFLICT, "in_use", detail)
            }
            Stays::Store(fault) => fault.into(),
        }
    }
}

impl From<MasterError> for Problem {
    fn from(error: MasterError) -> Self {
        let field = |at: &At| format!("{}[{}].{}", at.list, at.index, at.field);
        match error {
            MasterError::Unknown { at, what, id } => {
                let detail = format!(
                    "There is no {what} {id:?}, so nothing was written. Create it first, or send both in one import."
                );
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_reference", detail)
                    .in_field(field(&at))
            }
            MasterError::Missing(at) => {
                let detail = format!("The field {} is missing, so nothing was written.", at.field);
                Self::invalid(field(&at), detail)
            }
            MasterError::Conflict { at, detail } => {
                let detail = format!("Nothing was written: {detail}.");
                Self::new(StatusCode::CONFLICT, "conflict", detail).in_field(field(&at))
            }
            MasterError::Senseless { at, detail } => {
                Self::invalid(field(&at), format!("Nothing was written: {detail}."))
            }
            MasterError::Store(fault) => fault.into(),
        }
    }
}
