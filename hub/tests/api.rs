//! The API against a whole hub: who may call, master data, stock calls, paging, the live feed.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may panic")]

mod api_support;

use api_support::{Running, Socket, import, send};
use hub::api::{openapi_json, permission::Permission, routes::ROUTES};
use serde_json::{Value, json};

/// The routes that ask nobody who they are, and why each may.
const OPEN: &[&str] = &["/", "/style.css", "/app.js", "/healthz", "/readyz", "/signin"];

fn filled(pattern: &str) -> String {
    pattern
        .replace("{facility}", "f1")
        .replace("{device}", "d1")
        .replace("{id}", "x1")
        .replace("{hash}", "default")
        .replace("{slot}", "s1")
        .replace("{sku}", "k1")
}

#[test]
fn the_openapi_document_is_the_committed_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let made = format!("{}\n", openapi_json());
    assert!(committed == made, "docs/openapi.json is old: stockfold openapi > docs/openapi.json");
}

#[test]
fn every_route_is_documented_with_its_permission_and_nothing_else_is() {
    let document: Value = serde_json::from_str(&openapi_json()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut names = std::collections::BTreeSet::new();
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method.to_ascii_lowercase()];
        assert_eq!(operation["x-permission"], route.permission.as_str(), "{route:?}");
        assert!(
            names.insert(operation["operationId"].as_str().unwrap()),
            "{route:?} has another's name"
        );
    }
    let paths = document["paths"].as_object().unwrap();
    let documented: usize =
        paths.values().map(|operations| operations.as_object().unwrap().len()).sum();
    assert_eq!(documented, ROUTES.len());
    let open: Vec<&str> =
        ROUTES.iter().filter(|r| r.permission == Permission::Open).map(|r| r.path).collect();
    assert_eq!(open, OPEN);
}

#[actix_rt::test]
async fn nobody_gets_in_without_a_token() {
    let running = Running::start().await;
    let at = running.hub.http;
    for route in ROUTES {
        let path = filled(route.path);
        let bare = send(at, route.method, &path, &[], b"").await;
        let guarded = route.permission != Permission::Open && route.path != "/metrics";
        assert_eq!(bare.status == 401, guarded, "{route:?}: {bare:?}");
        assert!(bare.header("content-security-policy").is_some_and(|csp| !csp.contains("unsafe")));
        assert_eq!(bare.header("x-content-type-options"), Some("nosniff"));
        if guarded {
            assert_eq!(bare.problem().1, "unauthorized");
            let wrong =
                send(at, route.method, &path, &[("authorization", "Bearer wrong")], b"").await;
            assert!([401, 429].contains(&wrong.status), "{route:?}: {wrong:?}");
        }
    }
    // By now this address has failed too often; the right token is nevertheless good.
    let wrong = send(at, "GET", "/api/v1/skus", &[("authorization", "Bearer wrong")], b"").await;
    assert_eq!(wrong.problem(), (429, "too_many_failures".into()));
    running.get("/api/v1/skus").await;
    let socket = Socket::open(at, "/api/v1/live?facility=f1", &[]).await;
    assert_eq!(socket.err(), Some(401));

    // A sign-in link is good once; its cookie only for the hub's own page.
    let link = running.hub.sign_in.clone();
    let signed_in = send(at, "GET", &link, &[], b"").await;
    assert_eq!(signed_in.status, 303);
    let cookie = signed_in.header("set-cookie").unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(send(at, "GET", &link, &[], b"").await.problem().0, 429);
    let own = format!("http://{at}");
    let get = send(at, "GET", "/api/v1/facilities", &[("cookie", cookie)], b"").await;
    assert_eq!(get.status, 200);
    let post = |headers: Vec<(&'static str, String)>| async move {
        let mut all = vec![("content-type", "application/json".to_owned())];
        all.extend(headers);
        let all: Vec<(&str, &str)> = all.iter().map(|(n, v)| (*n, v.as_str())).collect();
        send(at, "POST", "/api/v1/skus", &all, br#"{"id":"a","name":"A"}"#).await.status
    };
    let cookie = cookie.to_owned();
    assert_eq!(post(vec![("cookie", cookie.clone())]).await, 403);
    assert_eq!(post(vec![("cookie", cookie.clone()), ("origin", "http://evil".into())]).await, 403);
    assert_eq!(
        post(vec![("cookie", cookie.clone()), ("sec-fetch-site", "cross-site".into())]).await,
        403
    );
    assert_eq!(post(vec![("cookie", cookie.clone()), ("origin", own)]).await, 201);
    assert_eq!(post(vec![("cookie", cookie), ("sec-fetch-site", "same-origin".into())]).await, 200);
    running.stop().await;
}

#[actix_rt::test]
async fn master_data_is_written_whole_or_not_at_all() {
    let running = Running::start().await;
    let call = |method: &'static str, path: &'static str, body: Value| {
        let running = &running;
        async move { running.call(method, path, Some(body)).await }
    };
    let first = call("POST", "/api/v1/import?credentials=true", import()).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let first = first.json();
    assert_eq!(first["created"], 10);
    assert_eq!(first["credentials"][0]["username"], "scale-1");
    assert_eq!(first["credentials"][0]["password"].as_str().unwrap().len(), 43);
    let revision = running.get("/api/v1/facilities/f1").await["revision"].clone();

    // The same again changes nothing, publishes nothing and gives no new credential.
    let again = call("POST", "/api/v1/import?credentials=true", import()).await;
    assert_eq!((again.status, &again.json()["unchanged"]), (200, &json!(10)), "{}", again.text);
    assert_eq!(again.json()["credentials"], json!([]));
    assert_eq!(running.get("/api/v1/facilities/f1").await["revision"], revision);

    // One bad line and nothing of it is there.
    let mut bad = import();
    bad["skus"][0]["name"] = json!("Another name");
    bad["planogram"][1]["slot"] = json!("nowhere");
    let bad = call("POST", "/api/v1/import", bad).await;
    assert_eq!(bad.problem(), (422, "unknown_reference".into()));
    assert_eq!(bad.json()["field"], "planogram[1].slot");
    assert_eq!(running.get("/api/v1/skus/cola").await["name"], "Cola 0.33 l");

    // Changes by import; a post of one thing may not change it.
    let mut changed = import();
    changed["skus"][0]["unit_sigma_mg"] = json!(1_000);
    changed["shelves"][0]["zone"] = Value::Null;
    let changed = call("POST", "/api/v1/import", changed).await;
    assert_eq!((changed.status, &changed.json()["changed"]), (200, &json!(2)), "{}", changed.text);
    assert_eq!(running.get("/api/v1/skus/cola").await["revision"], 2);
    // What an import leaves out stays as it is; the whole planogram is another matter.
    let bare = json!({
        "skus": [{"id": "cola", "name": "Cola"}],
        "slots": [{"facility": "f1", "id": "dock", "shelf": "A"}],
        "planogram": [{"facility": "f1", "slot": "A-2", "sku": "cola", "source": "weight"}],
        "devices": [{"id": "scale-1", "facility": "f1"}],
    });
    let bare = call("POST", "/api/v1/import", bare).await;
    assert_eq!((&bare.json()["changed"], &bare.json()["unchanged"]), (&json!(1), &json!(3)));
    let cola = running.get("/api/v1/skus/cola").await;
    let kept = json!({"id": "cola", "name": "Cola", "unit_weight_mg": 350_000, "unit_sigma_mg": 1_000,
                      "gtin": "4006381333931", "revision": 3});
    assert_eq!(cola, kept);
    let erased = json!({"skus": [{"id": "cola", "name": "Cola", "gtin": null}],
                        "devices": [{"id": "scale-1", "facility": "f1", "channels": []}]});
    assert_eq!(call("POST", "/api/v1/import", erased).await.json()["changed"], 2);
    assert_eq!(running.get("/api/v1/skus/cola").await["gtin"], Value::Null);
    assert_eq!(running.get("/api/v1/devices/scale-1").await["channels"], json!([]));
    let whole = json!({"lines": [{"slot": "A-2", "sku": "cola", "source": "weight"}]});
    let whole = call("PUT", "/api/v1/facilities/f1/planogram", whole).await.json();
    assert_eq!((&whole["lines"][0]["capacity"], &whole["lines"][1]), (&Value::Null, &Value::Null));
    call("POST", "/api/v1/import", import()).await;

    let other = call("POST", "/api/v1/skus", json!({"id": "cola", "name": "Other"})).await;
    assert_eq!(other.problem(), (409, "conflict".into()));
    // A GTIN is one SKU's, with and without its leading zeros.
    for gtin in ["4006381333931", "04006381333931"] {
        let taken = json!({"id": "cola2", "name": "x", "gtin": gtin});
        let taken = call("POST", "/api/v1/skus", taken).await;
        assert_eq!(taken.problem(), (409, "conflict".into()));
        assert_eq!(taken.json()["field"], "gtin");
    }
    let twice = json!({"skus": [{"id": "tea", "name": "Tea", "gtin": "614141000029"},
                                {"id": "mate", "name": "Mate", "gtin": "00614141000029"}]});
    let twice = call("POST", "/api/v1/import", twice).await;
    assert_eq!((twice.problem().0, &twice.json()["field"]), (409, &json!("skus[1].gtin")));
    let wrong = json!({"id": "tea", "name": "Tea", "gtin": "614141000028"});
    let wrong = call("POST", "/api/v1/skus", wrong).await;
    assert_eq!(wrong.problem(), (422, "invalid".into()));
    assert!(wrong.text.contains("the check digit must be 9, not 8"), "{}", wrong.text);

    // One thing at a time.
    for (path, body) in [
        ("/api/v1/facilities", json!({"id": "f2", "name": "Second", "time_zone": "Europe/Berlin"})),
        ("/api/v1/facilities/f2/zones", json!({"id": "z", "name": "Z"})),
        ("/api/v1/facilities/f2/shelves", json!({"id": "s", "name": "S", "zone": "z"})),
        ("/api/v1/facilities/f2/slots", json!({"id": "s-1", "shelf": "s"})),
        ("/api/v1/devices", json!({"id": "h-1", "facility": "f2", "slot": "s-1"})),
    ] {
        let made = running.call("POST", path, Some(body.clone())).await;
        assert_eq!(made.status, 201, "{path}: {}", made.text);
        assert_eq!(running.call("POST", path, Some(body)).await.status, 200, "{path}");
        let id = made.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(running.get(&format!("{path}/{id}")).await, made.json());
        assert!(
            running.get(path).await["items"].as_array().unwrap().contains(&made.json()),
            "{path}"
        );
    }
    let planogram = json!({"lines": [{"slot": "s-1", "sku": "cola", "source": "scan"}]});
    let path = "/api/v1/facilities/f2/planogram";
    let made = call("PUT", path, planogram.clone()).await.json();
    assert_eq!(made["lines"][0]["sku"], "cola");
    assert_eq!(call("PUT", path, planogram).await.json()["revision"], made["revision"]);
    assert_eq!(call("PUT", path, json!({"lines": []})).await.json()["lines"], json!([]));
    let bad =
        call("PUT", path, json!({"lines": [{"slot": "s-9", "sku": "cola", "source": "scan"}]}))
            .await;
    assert_eq!(bad.json()["field"], "lines[0].slot");

    // Conflicts between things.
    let cell = json!({"id": "scale-2", "facility": "f1", "channels": [
        {"channel": "0", "slot": "A-2", "division_mg": 1, "noise_mg": 1}]});
    assert_eq!(call("POST", "/api/v1/devices", cell).await.problem(), (409, "conflict".into()));
    let receiving = json!({"id": "dock2", "shelf": "A", "receiving": true});
    let receiving = call("POST", "/api/v1/facilities/f1/slots", receiving).await;
    assert_eq!((receiving.problem().0, &receiving.json()["field"]), (409, &json!("receiving")));

    // Credentials are shown once and can be revoked.
    let made = running.post("/api/v1/devices/h-1/credentials", json!({})).await;
    let list = running.get("/api/v1/devices/h-1/credentials").await;
    assert_eq!(list["items"][0]["id"], made["id"]);
    assert!(!list.to_string().contains(made["password"].as_str().unwrap()));
    let path = format!("/api/v1/devices/h-1/credentials/{}", made["id"].as_str().unwrap());
    assert_eq!(running.call("DELETE", &path, None).await.status, 204);
    assert!(
        running.get("/api/v1/devices/h-1/credentials").await["items"][0]["revoked_at"].is_string()
    );

    // Profiles are named by their text.
    let text = "name: acme\ncodec: json\nenvelope: {seq: /n}\nstreams:\n  s: {class: stock, dedupe: seq, stock: {sku: /s, delta: /d}}\n";
    let bearer = format!("Bearer {}", running.token);
    let headers = [("authorization", bearer.as_str())];
    let made = send(running.hub.http, "POST", "/api/v1/profiles", &headers, text.as_bytes()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let hash = made.json()["hash"].as_str().unwrap().to_owned();
    assert_eq!(running.call("GET", &format!("/api/v1/profiles/{hash}"), None).await.text, text);
    assert!(
        running.get("/api/v1/profiles").await["items"].as_array().unwrap().contains(&made.json())
    );
    let bad = send(running.hub.http, "POST", "/api/v1/profiles", &headers, b"name: x").await;
    assert_eq!(bad.problem(), (422, "bad_profile".into()));
    let device = json!({"id": "acme-1", "facility": "f1", "profile": "acme"});
    assert_eq!(call("POST", "/api/v1/devices", device).await.status, 201);
    let device = json!({"id": "acme-2", "facility": "f1", "profile": "nobody"});
    assert_eq!(call("POST", "/api/v1/devices", device).await.json()["field"], "profile");
    running.stop().await;
}

#[actix_rt::test]
async fn stock_calls_take_effect_once_and_explain_themselves() {
    let running = Running::start().await;
    running.post("/api/v1/import", import()).await;
    let f = "/api/v1/facilities/f1";
    let count = json!({"slot": "A-1", "sku": "cola", "quantity": 12});
    let counted = running.change(&format!("{f}/counts"), "k-count", count.clone()).await;
    assert_eq!(counted.status, 201, "{}", counted.text);
    let counted = counted.json();
    assert_eq!(counted["movements"][0]["level_after"], 12);
    let pick = json!({"slot": "A-1", "sku": "cola", "quantity": 5, "reference": "order 7"});
    let picked = running.change(&format!("{f}/picks"), "k-pick", pick.clone()).await.json();
    assert_eq!(picked["movements"][0]["delta"], -5);
    let moved = json!({"from": "A-1", "to": "dock", "sku": "cola", "quantity": 3});
    let moved = running.change(&format!("{f}/moves"), "k-move", moved).await.json();
    assert_eq!(moved["movements"].as_array().unwrap().len(), 2);
    assert_eq!(moved["movements"][0]["correlation"], moved["movements"][1]["correlation"]);
    let receipt = json!({"sku": "cola", "quantity": 10});
    let received = running.change(&format!("{f}/receipts"), "k-receipt", receipt).await.json();
    assert_eq!(received["movements"][0]["slot"], "dock");
    let adjust = json!({"slot": "dock", "sku": "cola", "delta": -1, "reason": "broken"});
    let adjusted = running.change(&format!("{f}/adjustments"), "k-adjust", adjust).await.json();
    let position = adjusted["position"].as_str().unwrap();

    // Read your writes.
    let stock = running.get(&format!("/api/v1/stock?facility=f1&min_position={position}")).await;
    let quantity = |slot: &str| {
        let items = stock["items"].as_array().unwrap();
        items.iter().find(|line| line["slot"] == slot).unwrap()["quantity"].as_i64().unwrap()
    };
    assert_eq!((quantity("A-1"), quantity("dock")), (4, 12));
    assert_eq!(
        running.get("/api/v1/stock?shelf=A&slot=dock&sku=cola").await["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    // The same key: the same answer, and another call under it is refused.
    let again = running.change(&format!("{f}/picks"), "k-pick", pick.clone()).await;
    assert_eq!((again.status, again.json()), (201, picked.clone()));
    let mut other = pick.clone();
    other["quantity"] = json!(6);
    let other = running.change(&format!("{f}/picks"), "k-pick", other).await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused".into()));

    // Refusals name the reason of the fold, also when repeated.
    let nowhere = json!({"slot": "nowhere", "sku": "cola", "quantity": 1});
    for _ in 0..2 {
        let refused = running.change(&format!("{f}/picks"), "k-nowhere", nowhere.clone()).await;
        assert_eq!(refused.problem(), (422, "unknown_slot".into()));
    }
    let future =
        json!({"slot": "A-1", "sku": "cola", "quantity": 1, "counted_at": "2999-01-01T00:00:00Z"});
    let future = running.change(&format!("{f}/counts"), "k-future", future).await;
    assert_eq!(future.problem(), (422, "count_in_future".into()));
    let tare = running
        .change(&format!("{f}/devices/scale-1/tare"), "k-tare", json!({"channel": "0"}))
        .await;
    assert_eq!(tare.problem(), (422, "cell_not_settled".into()));
    assert_eq!(
        running.get("/api/v1/quarantine?facility=f1").await["items"].as_array().unwrap().len(),
        3
    );

    // Paging, both ways, gives every movement once.
    for order in ["asc", "desc"] {
        let mut ids = Vec::new();
        let mut path = format!("/api/v1/movements?facility=f1&order={order}&limit=2");
        loop {
            let page = running.get(&path).await;
            ids.extend(page["items"].as_array().unwrap().iter().map(|m| m["id"].clone()));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/api/v1/movements?facility=f1&order={order}&limit=2&cursor={next}");
        }
        assert_eq!(ids.len(), 6, "{ids:?}");
        assert_eq!(ids[if order == "asc" { 0 } else { 5 }], counted["movements"][0]["id"]);
        let seen = ids[3].as_str().unwrap();
        let rest =
            running.get(&format!("/api/v1/movements?facility=f1&order={order}&after={seen}")).await;
        assert_eq!(rest["items"].as_array().unwrap().len(), 2);
    }
    let of_slot = running.get("/api/v1/movements?facility=f1&slot=dock&sku=cola&order=desc").await;
    assert_eq!(of_slot["items"].as_array().unwrap().len(), 3);
    assert_eq!(running.get("/api/v1/movements?device=scale-1").await["items"], json!([]));

    // Why this number.
    let id = picked["movements"][0]["id"].as_str().unwrap();
    assert_eq!(running.get(&format!("/api/v1/movements/{id}")).await, picked["movements"][0]);
    let why = running.get(&format!("/api/v1/movements/{id}/explain")).await;
    assert_eq!(why["level"]["quantity"], 4);
    assert_eq!(why["rule"]["reference"], "order 7");
    assert_eq!(why["evidence"][0]["kind"], "command");
    assert_eq!(why["evidence"][0]["decoded"]["call"], "pick");
    assert_eq!(why["evidence"][0]["decoded"]["quantity"], 5);
    assert!(why["narrative"][0].as_str().unwrap().contains("order 7"));
    assert_eq!(
        (&why["unit_weight_used_mg"], &why["sku_now"]["id"]),
        (&Value::Null, &json!("cola"))
    );

    // A repeat after a restart gets the same answer; a key whose position was lost is found in the journal.
    let running = running.restart().await;
    let again = running.change(&format!("{f}/picks"), "k-pick", pick.clone()).await;
    assert_eq!((again.status, again.json()), (201, picked.clone()));
    sqlx::query("UPDATE idempotency SET shard = NULL WHERE key = 'k-pick'")
        .execute(running.hub.desk.store.pool())
        .await
        .unwrap();
    let again = running.change(&format!("{f}/picks"), "k-pick", pick.clone()).await;
    assert_eq!((again.status, again.json()), (201, picked.clone()));
    sqlx::query("DELETE FROM idempotency WHERE key = 'k-pick'")
        .execute(running.hub.desk.store.pool())
        .await
        .unwrap();
    let again = running.change(&format!("{f}/picks"), "k-pick", pick).await;
    assert_eq!((again.status, again.json()), (201, picked));
    assert_eq!(
        running.get("/api/v1/movements?facility=f1").await["items"].as_array().unwrap().len(),
        6
    );
    running.stop().await;
}

#[actix_rt::test]
async fn the_remaining_reads_answer() {
    let running = Running::start().await;
    running.post("/api/v1/import", import()).await;
    let pool = running.hub.desk.store.pool();
    for statement in [
        "INSERT INTO reading (at, value, facility, device, name)
         SELECT now() - n * interval '1 s', n, 'f1', 'scale-1', 'env.t' FROM generate_series(1, 5) n",
        "INSERT INTO seen_device (name, peer, reason) VALUES ('a', '10.0.0.1', 'not_enrolled'), ('b', '10.0.0.2', 'bad_secret')",
        "INSERT INTO ledger SELECT 'f1', 'scale-1', date_trunc('hour', now()) - n * interval '1 h', 4, 1, 1, 1, 1, 0
         FROM generate_series(1, 3) n",
        r#"INSERT INTO discrepancy (shard, epoch, "offset", ordinal, facility, slot, sku, kind, opened_at, closed_at, detail)
           SELECT 0, 1, n, 0, 'f1', 'A-1', 'cola', 'drift', now(), CASE WHEN n = 1 THEN now() END, '{"advice":"Look at the shelf."}'
           FROM generate_series(1, 3) n"#,
        r#"INSERT INTO evidence (shard, epoch, "offset", received_at, kind, payload) VALUES (0, 1, 4, now(), 9, 'x')"#,
        r#"INSERT INTO movement (shard, epoch, "offset", ordinal, delta, level_after, at, confidence, fold_version, facility, slot,
                                sku, cause, evidence, why)
           VALUES (0, 1, 5, 0, 1, 1, now(), 10000, 1, 'f1', 'A-1', 'cola', 'weight', '{4,3}',
                   '{"rule":"plateau","unit_mg":349000}')"#,
    ] {
        sqlx::query(statement).execute(pool).await.unwrap();
    }
    for (path, expected) in [
        (
            "/api/v1/devices/scale-1/readings?name=env.t&from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z",
            5,
        ),
        ("/api/v1/devices/seen?", 2),
        ("/api/v1/ledger?facility=f1&device=scale-1", 3),
        ("/api/v1/discrepancies?facility=f1&open=true", 2),
        ("/api/v1/discrepancies?open=false", 1),
        ("/api/v1/devices?facility=f1", 1),
        ("/api/v1/facilities/f1/slots?", 3),
        ("/api/v1/quarantine?", 0),
        ("/api/v1/readings/refused?", 0),
    ] {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = running.get(&format!("{path}&limit=1{cursor}")).await;
            items.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        items.dedup();
        assert_eq!(items.len(), expected, "{path}: {items:?}");
    }
    let why = running.get("/api/v1/movements/1-0-5-0/explain").await;
    let kinds: Vec<&str> =
        why["evidence"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["gone", "other", "gone"]);
    // What the decision used is what it wrote down, whatever the SKU weighs by now.
    assert_eq!(why["unit_weight_used_mg"], 349_000);
    assert_eq!(why["sku_now"]["unit_weight_mg"], 350_000);
    assert_eq!(running.get("/readyz").await["ready"], true);
    assert!(running.call("GET", "/metrics", None).await.text.contains("stockfold_live_clients 0"));
    let page = running.call("GET", "/", None).await;
    assert!(page.text.starts_with("<!doctype html>") && !page.text.contains(" style="));
    let tag = page.header("etag").unwrap().to_owned();
    assert_eq!(running.call_with("GET", "/", None, &[("if-none-match", &tag)]).await.status, 304);
    running.stop().await;
}

#[actix_rt::test]
async fn the_live_feed_has_no_gap_and_no_repeat() {
    let running = Running::start().await;
    running.post("/api/v1/import", import()).await;
    let bearer = format!("Bearer {}", running.token);
    let token = ("authorization", bearer.as_str());
    let at = running.hub.http;
    let path = "/api/v1/live?facility=f1";
    assert_eq!(Socket::open(at, path, &[token, ("origin", "http://evil")]).await.err(), Some(403));
    assert_eq!(Socket::open(at, "/api/v1/live?facility=nope", &[token]).await.err(), Some(404));

    let counts = "/api/v1/facilities/f1/counts";
    let count = |quantity: i64| json!({"slot": "A-1", "sku": "cola", "quantity": quantity});
    let before = running.change(counts, "k-1", count(1)).await.json();
    let mut socket = Socket::open(at, path, &[token]).await.unwrap();
    let snapshot = socket.next().await.unwrap();
    assert_eq!(snapshot["type"], "snapshot");
    let line =
        snapshot["stock"].as_array().unwrap().iter().find(|line| line["slot"] == "A-1").unwrap();
    assert_eq!(
        (&line["quantity"], &line["shelf"], &line["zone"]),
        (&json!(1), &json!("A"), &json!("back"))
    );

    for quantity in 2..=20 {
        running.change(counts, &format!("k-{quantity}"), count(quantity)).await;
    }
    let (mut movements, mut last) = (Vec::new(), Value::Null);
    while last != json!(20) {
        let delta = socket.next_of("delta").await;
        movements.extend(delta["movements"].as_array().unwrap().clone());
        for line in delta["stock"].as_array().unwrap() {
            assert_eq!(line["shelf"], "A");
            last = line["quantity"].clone();
        }
    }
    let levels: Vec<i64> = movements.iter().map(|m| m["level_after"].as_i64().unwrap()).collect();
    assert_eq!(levels, (2..=20).collect::<Vec<i64>>());
    assert!(!movements.contains(&before["movements"][0]));
    let heartbeat = socket.next_of("heartbeat").await;
    assert!(heartbeat["position"].is_string());

    // Stopping says goodbye at once instead of waiting for clients.
    let stopping = tokio::time::timeout(api_support::PATIENCE, running.stop());
    let (stopped, code) = tokio::join!(stopping, async {
        loop {
            if let Err(code) = socket.next().await {
                return code;
            }
        }
    });
    stopped.unwrap();
    assert_eq!(code, 1001);
}
