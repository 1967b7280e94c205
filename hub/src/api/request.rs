//! What handlers take from a request: a JSON body, a query, a page of a list, an Idempotency-Key, the caller.
//!
//! Each refuses with a problem that names the field.

use std::{future::Future, pin::Pin, time::Duration};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::{StatusCode, header},
    web,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use super::{
    auth::Caller,
    json_path::json_path,
    limits::{BODY_BYTES_MAX, BODY_MS_MAX, CURSOR_BYTES_MAX, LIST_ITEMS_DEFAULT, LIST_ITEMS_MAX},
    problem::Problem,
};

/// A JSON body of at most `MAX` bytes.
pub struct Json<T, const MAX: usize = BODY_BYTES_MAX>(pub T);

impl<T: DeserializeOwned + 'static, const MAX: usize> FromRequest for Json<T, MAX> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let json = is_json(request);
        let payload = payload.take();
        Box::pin(async move {
            json?;
            parse(&read(payload, MAX).await?).map(Self)
        })
    }
}

/// A JSON body of at most `MAX` bytes that may be absent.
pub struct MaybeJson<T, const MAX: usize = BODY_BYTES_MAX>(pub Option<T>);

impl<T: DeserializeOwned + 'static, const MAX: usize> FromRequest for MaybeJson<T, MAX> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let json = is_json(request);
        let payload = payload.take();
        Box::pin(async move {
            let body = read(payload, MAX).await?;
            if body.is_empty() {
                return Ok(Self(None));
            }
            json?;
            parse(&body).map(|body| Self(Some(body)))
        })
    }
}

/// The body is announced as JSON.
fn is_json(request: &HttpRequest) -> Result<(), Problem> {
    if matches!(request.mime_type(), Ok(Some(mime)) if mime.subtype() == "json") {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "not_json_type",
        "The body must be JSON. Send the header `Content-Type: application/json`.",
    ))
}

/// A text body of at most `MAX` bytes.
pub struct Text<const MAX: usize = BODY_BYTES_MAX>(pub String);

impl<const MAX: usize> FromRequest for Text<MAX> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(_: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let payload = payload.take();
        Box::pin(async move {
            // PostgreSQL's text cannot hold NUL, and no text of ours needs one.
            let text = String::from_utf8(read(payload, MAX).await?).ok();
            text.filter(|text| !text.contains('\0')).map(Self).ok_or_else(|| {
                let detail = "The body is not UTF-8 text, or has a NUL in it. Send plain text.";
                Problem::new(StatusCode::BAD_REQUEST, "not_text", detail)
            })
        })
    }
}

/// A body of any bytes, of at most `MAX`.
pub struct Body<const MAX: usize = BODY_BYTES_MAX>(pub Vec<u8>);

impl<const MAX: usize> FromRequest for Body<MAX> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(_: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let payload = payload.take();
        Box::pin(async move { read(payload, MAX).await.map(Self) })
    }
}

/// The body, if it is not longer than `most` bytes and comes in time.
async fn read(payload: Payload, most: usize) -> Result<Vec<u8>, Problem> {
    let wait = Duration::from_millis(BODY_MS_MAX);
    actix_rt::time::timeout(wait, gather(payload, most)).await.unwrap_or_else(|_| {
        let detail = format!("The body did not come within {} s. Send it again.", wait.as_secs());
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", detail))
    })
}

async fn gather(mut payload: Payload, most: usize) -> Result<Vec<u8>, Problem> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_request",
                format!("The body broke off: {error}."),
            )
        })?;
        if body.len() + chunk.len() > most {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                format!("The body has more than {most} bytes. Send it in parts."),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let field = json_path(body, &error);
        if error.is_data() {
            let place = if field.is_empty() { "the body".to_owned() } else { format!("`{field}`") };
            return Problem::invalid(field, format!("In {place}: {error}."));
        }
        Problem::new(StatusCode::BAD_REQUEST, "not_json", format!("The body is not JSON: {error}."))
    })
}

/// The query. Unknown names are refused, because a misspelt filter would be no filter.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Query<T> {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // The guard has dealt with this one.
        let own: Vec<&str> = request
            .query_string()
            .split('&')
            .filter(|pair| !pair.starts_with("min_position="))
            .collect();
        let parsed = web::Query::<T>::from_query(&own.join("&"));
        std::future::ready(parsed.map(|query| Self(query.into_inner())).map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_query",
                format!("The query cannot be read: {error}."),
            )
        }))
    }
}

/// The value of an `Idempotency-Key` header.
pub struct IdempotencyKey(pub String);

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let most = fold::limits::TEXT_BYTES_MAX;
        let key = request.headers().get("idempotency-key").and_then(|value| value.to_str().ok());
        std::future::ready(match key {
            Some(key) if (1..=most).contains(&key.len()) => Ok(Self(key.to_owned())),
            Some(_) | None => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "idempotency_key_needed",
                format!(
                    "A call that changes stock needs an `Idempotency-Key` header of 1 to {most} ASCII characters. Make a new \
                     one for each change, and send the same one again when you repeat the call."
                ),
            )),
        })
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        std::future::ready(
            caller.ok_or_else(|| Problem::internal("a guarded route without a caller")),
        )
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Ask on with `?cursor=` this; `null` at the end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page of rows read with [`Paging::fetch`]; `key` names the last item for the next page.
    pub fn of<const N: usize>(
        mut rows: Vec<T>,
        paging: &Paging<N>,
        key: impl Fn(&T) -> [String; N],
    ) -> Self {
        let more = rows.len() > paging.limit;
        rows.truncate(paging.limit);
        let next = rows.last().filter(|_| more).map(|last| write_cursor(&key(last)));
        Self { items: rows, next }
    }

    /// The same page of other things.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next: self.next }
    }
}

/// Which page is asked for: after a key of `N` texts.
pub struct Paging<const N: usize> {
    /// The last key of the page before.
    pub after: Option<[String; N]>,
    /// Items wanted.
    pub limit: usize,
}

impl<const N: usize> Paging<N> {
    /// Reads `?cursor=` and `?limit=`.
    pub fn read(cursor: Option<&str>, limit: Option<u32>) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(LIST_ITEMS_DEFAULT);
        if !(1..=LIST_ITEMS_MAX).contains(&limit) {
            return Err(Problem::invalid(
                "limit",
                format!("A limit of {limit} is not possible. Ask for 1 to {LIST_ITEMS_MAX} items."),
            ));
        }
        let after = cursor.map(read_cursor).transpose()?;
        Ok(Self { after, limit: usize::try_from(limit).unwrap_or(usize::MAX) })
    }
    /// Rows to read: one more than wanted tells whether there are more.
    pub fn fetch(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX).saturating_add(1)
    }
}

/// The problem of a cursor that is none of ours.
pub fn bad_cursor() -> Problem {
    Problem::invalid("cursor", "The cursor is not one that this list gave. Begin without a cursor.")
}

fn write_cursor(key: &[String]) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
}

fn read_cursor<const N: usize>(cursor: &str) -> Result<[String; N], Problem> {
    if cursor.len() > CURSOR_BYTES_MAX {
        return Err(bad_cursor());
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad_cursor())?;
    let parts: Vec<String> = serde_json::from_slice(&bytes).map_err(|_| bad_cursor())?;
    parts.try_into().map_err(|_| bad_cursor())
}

/// Parses an id from a path; one that is no id names nothing.
pub fn id<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::not_found(what, text))
}

/// Header value of an Origin or a Host.
pub fn header_text(request: &HttpRequest, name: header::HeaderName) -> Option<&str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_others_are_refused() {
        let key = ["a".to_owned(), "b.c".to_owned()];
        assert_eq!(read_cursor::<2>(&write_cursor(&key)).unwrap(), key);
        assert!(read_cursor::<3>(&write_cursor(&key)).is_err());
        assert!(read_cursor::<1>("no cursor").is_err());
        assert!(Paging::<1>::read(None, Some(0)).is_err());
        assert!(Paging::<1>::read(None, Some(LIST_ITEMS_MAX + 1)).is_err());
    }

    #[test]
    fn a_page_ends_when_there_is_no_more() {
        let paging = Paging::<1>::read(None, Some(2)).unwrap();
        let key = |n: &i32| [n.to_string()];
        assert!(Page::of(vec![1, 2, 3], &paging, key).next.is_some());
        assert!(Page::of(vec![1, 2], &paging, key).next.is_none());
    }
}
