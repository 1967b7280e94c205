//! Requests that say nonsense, are too large, or come from nobody. Every answer is a problem with a stable code.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::json;
use stockfold_tests::{Answer, WAIT_MAX, hub};

use crate::common::Bystander;

fn is_problem(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {:#}", answer.body);
    assert!(
        answer.media_type.starts_with("application/problem+json"),
        "{what}: {}",
        answer.media_type
    );
    for field in ["type", "title", "detail", "code", "request_id"] {
        assert!(
            answer.body[field].as_str().is_some_and(|text| !text.is_empty()),
            "{what}: no {field}"
        );
    }
}

#[test]
fn requests_from_nobody_are_refused() {
    let hub = hub();
    let api = hub.api();
    for token in ["", "wrong", "Bearer", "x".repeat(4_000).as_str()] {
        is_problem(&api.with_token(token).get("/stock"), 401, token);
    }
    // A path that does not exist tells a stranger no more than one that does.
    is_problem(&api.get("/no-such-thing"), 404, "unknown path");
    is_problem(&api.delete("/stock"), 405, "wrong method");
}

#[test]
fn bodies_and_queries_that_make_no_sense_are_refused_by_name() {
    let hub = hub();
    let shop = hub.shop("requests");
    shop.enrol("requests-scale");
    let api = hub.api();
    let receipts = "/facilities/requests/receipts";
    let posts: [(&str, &[u8], u16); 8] = [
        ("/facilities", b"", 400),
        ("/facilities", b"{\"id\":", 400),
        ("/facilities", b"[]", 422),
        ("/facilities", br#"{"id":"a b","name":"x"}"#, 422),
        ("/facilities", br#"{"id":"x","name":"x","colour":"blue"}"#, 422),
        ("/facilities/no-such-place/slots", br#"{"id":"x","shelf":"shelf"}"#, 404),
        ("/facilities/requests/slots", br#"{"id":"x","shelf":"no-such-shelf"}"#, 422),
        ("/import", br#"{"devices":[{"id":"x","facility":"no-such-place"}]}"#, 422),
    ];
    for (path, body, status) in posts {
        let what = format!("{path} {}", String::from_utf8_lossy(body));
        is_problem(&api.post_bytes(path, body, None), status, &what);
    }
    for (key, body, status) in [
        (None, json!({ "slot": "slot-0", "sku": "sku-0", "quantity": 1 }), 400),
        (Some(""), json!({ "slot": "slot-0", "sku": "sku-0", "quantity": 1 }), 400),
        (Some("k1"), json!({ "slot": "slot-0", "sku": "sku-0", "quantity": 0 }), 422),
        (Some("k2"), json!({ "slot": "slot-0", "sku": "sku-0", "quantity": -5 }), 422),
        (Some("k3"), json!({ "slot": "slot-0", "sku": "no-such-sku", "quantity": 1 }), 422),
        (Some("k4"), json!({ "slot": "no-such-slot", "sku": "sku-0", "quantity": 1 }), 422),
        (Some("k5"), json!({ "slot": "slot-0", "sku": "sku-0", "quantity": 1.5 }), 422),
    ] {
        let answer = api.post_bytes(receipts, body.to_string().as_bytes(), key);
        is_problem(&answer, status, &format!("{key:?} {body}"));
    }
    for path in [
        "/stock?limit=0",
        "/stock?limit=1001",
        "/stock?limit=x",
        "/stock?colour=blue",
        "/stock?cursor=garbage",
        "/movements?after=garbage",
        "/movements?order=sideways",
        "/stock?min_position=garbage",
        "/devices/requests-scale/readings?from=yesterday",
    ] {
        let answer = api.get(path);
        assert!(matches!(answer.status, 400 | 422), "{path}: {} {:#}", answer.status, answer.body);
        is_problem(&answer, answer.status, path);
    }
    assert_eq!(shop.quantity("slot-0", "sku-0"), 0);
    hub.is_sound();
}

#[test]
fn the_same_key_counts_once_and_another_call_under_it_is_refused() {
    let hub = hub();
    let shop = hub.shop("keys");
    let path = "/facilities/keys/receipts";
    let body = json!({ "slot": "slot-0", "sku": "sku-0", "quantity": 12 });
    let first = hub.api().change(path, "delivery-1", &body).good();
    let again = hub.api().change(path, "delivery-1", &body).good();
    assert_eq!(first, again);
    let other = hub.api().change(
        path,
        "delivery-1",
        &json!({ "slot": "slot-0", "sku": "sku-0", "quantity": 13 }),
    );
    is_problem(&other, 422, "another call");
    assert_eq!(other.code(), "idempotency_key_reused");
    assert_eq!(shop.quantity("slot-0", "sku-0"), 12);
    hub.is_sound();
}

#[test]
fn bodies_beyond_the_limit_are_refused() {
    let hub = hub();
    let shop = hub.shop("bodies");
    let bystander = Bystander::of(&hub, &shop);
    let long = format!(r#"{{"id":"x","name":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
    is_problem(&hub.api().post_bytes("/facilities", long.as_bytes(), None), 413, "2 MiB");
    let deep = format!(r#"{{"id":"x","name":{}1{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    let answer = hub.api().post_bytes("/facilities", deep.as_bytes(), None);
    assert!(matches!(answer.status, 400 | 422), "{}", answer.status);
    bystander.lost_nothing();
    hub.is_sound();
}

#[test]
fn bytes_that_are_no_http_are_answered_or_cut() {
    let hub = hub();
    let shop = hub.shop("http");
    let bystander = Bystander::of(&hub, &shop);
    let long_header = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'x'; 300_000], b"\r\n\r\n"].concat();
    for (what, bytes) in [
        ("noise", b"\xde\xad\xbe\xef\r\n\r\n".as_slice()),
        ("MQTT", b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00\r\n\r\n"),
        ("two lengths", b"POST /api/v1/facilities HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc"),
        ("a header of 300 kB", &long_header),
        // No end of the head: cut when its time is over.
        ("half a head", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"),
    ] {
        let mut stream = TcpStream::connect(hub.http()).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        // The hub may close while we still write; its answer tells.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        let refused = text.starts_with("HTTP/1.1 4") || (answer.is_empty() && !matches!(&ended, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock));
        assert!(refused, "{what}: {ended:?} {text:.200}");
    }
    assert_eq!(hub.api().get_any("/healthz").status, 200);
    bystander.lost_nothing();
    hub.is_sound();
}
