//! What the API refuses, against a whole hub: each with its status, its code, and the field that is meant.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may panic")]

mod api_support;

use api_support::{Running, import, send};
use serde_json::{Value, json};

#[actix_rt::test]
async fn problems_say_what_is_wrong() {
    let running = Running::start().await;
    running.post("/api/v1/import", import()).await;
    let f = "/api/v1/facilities/f1";
    for (method, path, body, status, code, field) in [
        ("GET", "/nowhere".to_owned(), Value::Null, 404, "no_such_path", None),
        ("GET", "/api/v1/facilities/nope".into(), Value::Null, 404, "not_found", None),
        ("GET", "/api/v1/stock?slot=%00".into(), Value::Null, 400, "bad_request", None),
        ("GET", "/api/v1/facilities/nope/slots".into(), Value::Null, 404, "not_found", None),
        ("GET", "/api/v1/movements/1-0-0-0".into(), Value::Null, 404, "not_found", None),
        ("DELETE", "/api/v1/skus".into(), Value::Null, 405, "method_not_allowed", None),
        ("GET", "/api/v1/skus?limit=0".into(), Value::Null, 422, "invalid", Some("limit")),
        ("GET", "/api/v1/skus?cursor=x".into(), Value::Null, 422, "invalid", Some("cursor")),
        ("GET", "/api/v1/stock?faciltiy=f1".into(), Value::Null, 400, "bad_query", None),
        (
            "GET",
            "/api/v1/stock?min_position=x".into(),
            Value::Null,
            422,
            "invalid",
            Some("min_position"),
        ),
        (
            "GET",
            "/api/v1/stock?min_position=1-0-999999999".into(),
            Value::Null,
            503,
            "behind",
            None,
        ),
        (
            "GET",
            "/api/v1/stock?min_position=9-0-1".into(),
            Value::Null,
            422,
            "invalid",
            Some("min_position"),
        ),
        (
            "GET",
            "/api/v1/stock?min_position=1-77-1".into(),
            Value::Null,
            422,
            "invalid",
            Some("min_position"),
        ),
        ("GET", "/api/v1/live?facility=f1".into(), Value::Null, 426, "websocket_needed", None),
        (
            "POST",
            format!("{f}/slots"),
            json!({"id": "a b", "shelf": "A"}),
            422,
            "invalid",
            Some("id"),
        ),
        (
            "POST",
            format!("{f}/slots"),
            json!({"id": "x", "shelf": "A", "colour": 1}),
            422,
            "invalid",
            Some("colour"),
        ),
        (
            "POST",
            format!("{f}/slots"),
            json!({"id": "x", "shelf": "B"}),
            422,
            "unknown_reference",
            Some("shelf"),
        ),
        (
            "POST",
            format!("{f}/zones"),
            json!({"id": "x", "name": " "}),
            422,
            "invalid",
            Some("name"),
        ),
        (
            "POST",
            format!("{f}/zones"),
            json!({"facility": "f2", "id": "x", "name": "X"}),
            422,
            "invalid",
            Some("facility"),
        ),
        (
            "POST",
            "/api/v1/import".into(),
            json!({"slots": [{"id": "x", "shelf": "A"}]}),
            422,
            "invalid",
            Some("slots[0].facility"),
        ),
        (
            "POST",
            "/api/v1/skus".into(),
            json!({"id": "x", "name": "X", "unit_weight_mg": -1}),
            422,
            "invalid",
            Some("unit_weight_mg"),
        ),
        (
            "POST",
            format!("{f}/picks"),
            json!({"slot": "A-1", "sku": "cola", "quantity": 1}),
            400,
            "idempotency_key_needed",
            None,
        ),
    ] {
        let body = (!body.is_null()).then_some(body);
        let answer = running.call(method, &path, body).await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{method} {path}");
        assert_eq!(answer.json()["field"].as_str(), field, "{method} {path}: {}", answer.text);
    }
    let bearer = format!("Bearer {}", running.token);
    let token = ("authorization", bearer.as_str());
    let json = ("content-type", "application/json");
    let at = running.hub.http;
    let broken = send(at, "POST", "/api/v1/skus", &[token, json], b"{\"id\":").await;
    assert_eq!(broken.problem(), (400, "not_json".into()));
    let form = send(at, "POST", "/api/v1/skus", &[token], b"id=x").await;
    assert_eq!(form.problem(), (415, "not_json_type".into()));
    let large = vec![b' '; 1024 * 1024 + 1];
    assert_eq!(
        send(at, "POST", "/api/v1/skus", &[token, json], &large).await.problem(),
        (413, "too_large".into())
    );
    let wrong_method = running.call("DELETE", "/api/v1/skus", None).await;
    assert_eq!(wrong_method.header("allow"), Some("GET, POST"));
    running.stop().await;
}

#[actix_rt::test]
async fn lists_of_what_does_not_exist_are_refused_by_name() {
    let running = Running::start().await;
    running.post("/api/v1/import", import()).await;
    // An empty list would say that nothing happened there.
    for path in [
        "stock?facility=",
        "movements?facility=",
        "discrepancies?facility=",
        "quarantine?facility=",
        "ledger?facility=",
        "devices?facility=",
        "movements?device=",
        "ledger?device=",
        "movements?facility=f1&device=",
    ] {
        let answer = running.call("GET", &format!("/api/v1/{path}nowhere"), None).await;
        assert_eq!(answer.problem(), (404, "not_found".into()), "{path}");
        assert!(answer.text.contains("nowhere"), "{path}: {}", answer.text);
    }
    let readings = running.call("GET", "/api/v1/devices/nowhere/readings", None).await;
    assert_eq!(readings.problem(), (404, "not_found".into()));
    running.get("/api/v1/devices/scale-1/readings").await;
    running.stop().await;
}
