//! Problems: every answer that is not a success, as RFC 9457 `application/problem+json`.
//!
//! A handler returns a [`Problem`]; the guard writes it out, because only the guard knows the request's id. `code` is stable
//! and listed in `docs/specs/problems.md`. `detail` says what happened, to what, and what to do next; what only helps
//! ourselves goes to the log beside the same request id.

use std::{borrow::Cow, fmt};

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    desk::AppendError,
    store::{fault::Fault, master::MasterError},
};

/// Media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong with a request.
#[derive(Debug, Clone)]
pub struct Problem {
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
        Self {
            status,
            code: Cow::Borrowed(code),
            detail: detail.into(),
            field: None,
            retry_after: None,
            allow: None,
            internal: None,
        }
    }
    /// The body or query says something that cannot be.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
    }
    /// There is no such thing.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("There is no {what} {id:?}. Check its id, or create it first."),
        )
    }
    /// Something is away; try again.
    pub fn away(internal: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            internal: Some(internal.into()),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "database_away",
                "The database does not answer. Readings and stock calls are kept in the journal meanwhile; try again shortly.",
            )
        }
    }
    /// A fault of ours.
    pub fn internal(internal: impl Into<String>) -> Self {
        Self {
            internal: Some(internal.into()),
            ..Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The hub could not do this because of a fault of its own. The log has the cause under this request id.",
            )
        }
    }
    /// The same, about a call on one thing: `slots[0].shelf` is its `shelf`.
    pub fn of_one(mut self) -> Self {
        if let Some(field) = self.field.take() {
            self.field = Some(field.split_once("].").map_or(field.clone(), |(_, rest)| rest.to_owned()));
        }
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
            StatusCode::BAD_REQUEST => ("bad_request", "The request cannot be read. Check its syntax."),
            StatusCode::NOT_FOUND => ("no_such_path", "There is nothing at this path. See /api/v1 in docs/openapi.json."),
            StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "The body is too large. Send it in parts."),
            StatusCode::REQUEST_TIMEOUT => ("too_slow", "The request did not arrive in time. Send it again."),
            _ if status.is_server_error() => ("internal", "The hub could not do this. The log has the cause under this request id."),
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
        Self {
            retry_after: Some(1),
            internal: Some(error.to_string()),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
        }
    }
}

impl From<MasterError> for Problem {
    fn from(error: MasterError) -> Self {
        let field = |at: &crate::store::master::At| Some(format!("{}[{}].{}", at.list, at.index, at.field));
        match error {
            MasterError::Unknown { at, what, id } => Self {
                field: field(&at),
                ..Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "unknown_reference",
                    format!("There is no {what} {id:?}, so nothing was written. Create it first, or send both in one import."),
                )
            },
            MasterError::Missing(at) => Self {
                field: field(&at),
                ..Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "invalid",
                    format!("The field {} is missing, so nothing was written.", at.field),
                )
            },
            MasterError::Conflict { at, detail } => Self {
                field: field(&at),
                ..Self::new(StatusCode::CONFLICT, "conflict", format!("Nothing was written: {detail}."))
            },
            MasterError::Store(fault) => fault.into(),
        }
    }
}
