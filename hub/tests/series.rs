//! Series: one contract for both stores, and an InfluxDB that misbehaves in every way it can.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print a skip"
)]

mod series_support;

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use actors::ports::rng::SplitMix;
use hub::{
    series::{
        Ask, Influx, Key, Place, Point, Reading, SeriesFault, SeriesStats, SeriesStore,
        cursor::{self, Links},
        line,
    },
    store::{
        PgStore,
        told::{BucketRow, ReadingRow},
    },
};
use series_support::{
    Ground, TestJournal, day,
    fake::{Fake, Trick},
    lines, noon, number, point,
    victoria::Victoria,
};

const S: i64 = 1_000_000;

fn ask(device: &str) -> Ask {
    Ask { device: device.into(), limit: 100, ..Ask::default() }
}

/// Every page of a list.
async fn paged(
    store: &dyn SeriesStore,
    ask: &Ask,
    every_s: Option<i64>,
) -> (Vec<ReadingRow>, Vec<BucketRow>) {
    let (mut rows, mut buckets) = (Vec::new(), Vec::new());
    let mut ask = ask.clone();
    loop {
        let key = match every_s {
            None => {
                let page = store.readings(&ask).await.unwrap();
                let key = page.last().map(|r| Key {
                    at_us: r.at.0,
                    tie: r.tie.cast_unsigned(),
                    name: r.name.clone(),
                });
                rows.extend(page);
                key
            }
            Some(every_s) => {
                let page = store.buckets(&ask, every_s).await.unwrap();
                let key = page.last().map(|b| Key { at_us: b.at.0, tie: 0, name: b.name.clone() });
                buckets.extend(page);
                key
            }
        };
        if key.is_none() {
            return (rows, buckets);
        }
        ask.beyond = key;
    }
}

/// What every store of series does. Returns all it told, so that stores can be compared.
async fn contract(store: &dyn SeriesStore) -> String {
    let t = noon();
    assert_eq!(store.place(1).await.unwrap(), 0);
    let hostile = r#"a b,c=d "e" \f 'g' ${h} %i"#;
    let mut points: Vec<Point> =
        (0..150).map(|n| number("d1", "c.t", t + n * S, 0, n as f64 / 4.0)).collect();
    points.push(number("d1", "c.h", t, 0, 50.0));
    points.push(point("d1", "c.mode", t + 70 * S, 0, Reading::Text("warm, \"dry\" \\ ok".into())));
    points.push(number("d1", hostile, t + S, 3, -1e-300));
    points.push(number("d2", "c.t", t, 0, 1e300));
    // Two readings of one microsecond are two readings.
    points.push(number("d2", "c.t", t, 1, 2.0));
    let written = store.write(&points, Some(Place { epoch: 1, offset: 77 })).await.unwrap();
    assert_eq!(written.repeated, 0);
    assert_eq!((store.place(1).await.unwrap(), store.place(2).await.unwrap()), (77, 0));

    // The same again, in other batches, and one late reading.
    store.write(&points[..40], None).await.unwrap();
    store.write(&points[30..], Some(Place { epoch: 1, offset: 78 })).await.unwrap();
    store.write(&[number("d1", "c.t", t + S / 2, 0, 1_000.0)], None).await.unwrap();
    store.write(&[], Some(Place { epoch: 1, offset: 79 })).await.unwrap();
    assert_eq!(store.place(1).await.unwrap(), 79);

    let (all, _) = paged(store, &ask("d1"), None).await;
    assert_eq!(all.len(), 154);
    assert!(
        all.windows(2).all(|w| (w[0].at, w[0].tie, &w[0].name) > (w[1].at, w[1].tie, &w[1].name))
    );
    let (same, _) = paged(store, &Ask { limit: 7, ..ask("d1") }, None).await;
    assert_eq!(same, all, "pages are the whole");
    let text = all.iter().find(|row| row.name == "c.mode").unwrap();
    assert_eq!((text.value, text.text.as_deref()), (None, Some("warm, \"dry\" \\ ok")));
    let named = Ask { name: Some(hostile.into()), ..ask("d1") };
    let (named, _) = paged(store, &named, None).await;
    assert_eq!((named.len(), named[0].value, named[0].at.0), (1, Some(-1e-300), t + S));
    let (twins, _) = paged(store, &Ask { limit: 1, ..ask("d2") }, None).await;
    assert_eq!(twins.iter().map(|r| r.value.unwrap()).collect::<Vec<_>>(), [2.0, 1e300]);
    let range = Ask {
        name: Some("c.t".into()),
        from_us: Some(t + 10 * S),
        to_us: Some(t + 20 * S),
        ..ask("d1")
    };
    assert_eq!(paged(store, &range, None).await.0.len(), 10);
    assert!(paged(store, &ask("nobody"), None).await.0.is_empty());

    let day = Ask { from_us: Some(t - 3_600 * S), to_us: Some(t + 3_600 * S), ..ask("d1") };
    let mut told = format!("{all:?}{named:?}{twins:?}");
    for every_s in [10, 60, 120, 3_600, 7_200] {
        let (_, buckets) = paged(store, &day, Some(every_s)).await;
        let (_, pages) = paged(store, &Ask { limit: 2, ..day.clone() }, Some(every_s)).await;
        assert_eq!(buckets, pages, "{every_s} s: pages are the whole");
        let count: i64 = buckets.iter().map(|b| b.count).sum();
        assert_eq!(count, 153, "{every_s} s: each number once, no text");
        assert!(buckets.iter().all(|b| b.at.0 % (every_s * S) == 0));
        told.push_str(&format!("{buckets:?}"));
    }
    let (_, minutes) =
        paged(store, &Ask { name: Some("c.t".into()), ..day.clone() }, Some(60)).await;
    let first = minutes.last().unwrap();
    assert_eq!(
        (first.at.0, first.count, first.min, first.max, first.last),
        (t, 61, 0.0, 1_000.0, 59.0 / 4.0)
    );
    assert!(
        (first.mean - (1_000.0 + (0..60).map(|n| f64::from(n) / 4.0).sum::<f64>()) / 61.0).abs()
            < 1e-9
    );

    let last = store.last(&ask("d1"), t + 60 * S + 1).await.unwrap();
    let values: Vec<_> = last.iter().map(|r| (r.name.as_str(), r.value)).collect();
    assert_eq!(
        values,
        [(hostile, Some(-1e-300)), ("c.h", Some(50.0)), ("c.t", Some(15.0))],
        "not the later text"
    );
    let last =
        store.last(&Ask { name: Some("c.mode".into()), ..ask("d1") }, t + 3_600 * S).await.unwrap();
    assert_eq!(last.len(), 1);
    assert!(store.last(&ask("d1"), t - 1).await.unwrap().is_empty());
    assert!(
        store.last(&ask("d1"), t + 32 * 86_400 * S).await.unwrap().is_empty(),
        "too old to be known"
    );
    told + &format!("{last:?}")
}

#[actix_rt::test]
async fn both_stores_keep_the_contract_and_tell_the_same() {
    let ground = Ground::new().await;
    let postgres = contract(&ground.store).await;
    let fake = Fake::start().await;
    let influx = contract(&ground.influx(&fake.url())).await;
    assert_eq!(postgres, influx);
    ground.end().await;
}

#[actix_rt::test]
async fn partitions_come_and_go_with_the_days_and_strays_are_kept_until_they_are_old() {
    let ground = Ground::new().await;
    let store = &ground.store;
    let t = noon();
    let ages = [0, 1, 399, 401, 799, 801, 3_649, 3_700];
    for days in ages {
        // A hub that ran on that day had its partition.
        store.keep_partitions(day() - days, series_support::KEEP).await.unwrap();
    }
    let points: Vec<Point> =
        ages.iter().map(|days| number("d", "n", t - (days - 1) * 86_400 * S, 0, 1.0)).collect();
    store.write(&points, None).await.unwrap();
    // 1970 and 2100: no partition is theirs.
    store
        .write(&[number("d", "n", 0, 0, 1.0), number("d", "n", 4_102_444_800 * S, 0, 1.0)], None)
        .await
        .unwrap();
    let dropped = store.keep_partitions(day(), series_support::KEEP).await.unwrap();
    for table in ["reading_d", "reading_minute_d", "reading_hour_d"] {
        assert!(dropped.iter().any(|name| name.starts_with(table)), "{dropped:?}");
    }
    let kept = |ask: Ask, every: Option<i64>| async move {
        let (rows, buckets) = paged(store, &ask, every).await;
        rows.len() + buckets.len()
    };
    // The far future stays; readings to 400 days, minutes to 800, hours to 3,650 (whole partitions go, never a part).
    assert_eq!(kept(ask("d"), None).await, 4);
    assert!((6..=7).contains(&kept(ask("d"), Some(60)).await));
    assert!((8..=9).contains(&kept(ask("d"), Some(3_600)).await));
    ground.end().await;
}

fn away(fault: SeriesFault) -> (String, Option<Duration>) {
    match fault {
        SeriesFault::Away { why, after } => (why, after),
        other @ (SeriesFault::Refused(_) | SeriesFault::Broken(_)) => panic!("{other:?}"),
    }
}

#[actix_rt::test]
async fn every_answer_of_an_influxdb_is_understood() {
    let ground = Ground::new().await;
    let fake = Fake::start().await;
    let influx = ground.influx(&fake.url());
    let points = [number("d", "n", noon(), 0, 1.0)];
    let write = || influx.write(&points, Some(Place { epoch: 1, offset: 5 }));

    for (status, body, word) in [
        (
            400,
            r#"{"code":"invalid","message":"partial write: bad\nline"}"#,
            "400: partial write: bad line",
        ),
        (422, "no JSON", "422: no JSON"),
        (413, "", "413: "),
    ] {
        fake.play([Trick::Answer(status, "", body)]);
        assert_eq!(write().await, Err(SeriesFault::Refused(word.into())));
    }
    // Nothing asked for, then something; the empty question sees the same server.
    for (status, header, after) in [
        (429, "retry-after: 7", Some(7)),
        (503, "Retry-After: 120", Some(120)),
        (503, "retry-after: soon", None),
        (429, "x: y", None),
    ] {
        fake.play([Trick::Answer(status, header, "{}"), Trick::Answer(status, header, "{}")]);
        let (why, told) = away(write().await.unwrap_err());
        assert!(why.contains("overloaded"), "{why}");
        assert_eq!(told, after.map(Duration::from_secs), "{status} {header}");
        fake.state.lock().unwrap().tricks.clear();
    }
    for (trick, word) in [
        (Trick::Answer(404, "", r#"{"message":"bucket not found"}"#), "bucket \"b\""),
        (Trick::Answer(403, "", "{}"), "token_file"),
        (Trick::Answer(302, "location: http://127.0.0.1:1/", ""), "302"),
        (Trick::Answer(200, "", "<html>"), "200"),
        (Trick::Answer(500, "", "boom"), "500: boom"),
        (Trick::Close, "no sound answer"),
        (Trick::CutBody, "no sound answer"),
    ] {
        fake.play([trick]);
        let (why, _) = away(write().await.unwrap_err());
        assert!(why.contains(word) && !why.contains("right"), "{why}");
    }
    assert_eq!(influx.place(1).await.unwrap(), 0, "nothing of it counts as written");

    // A token that is changed on the server is read anew.
    fake.state.lock().unwrap().token = "new".into();
    ground.file("token", "new");
    assert!(away(write().await.unwrap_err()).0.contains("401"));
    write().await.unwrap();
    assert_eq!(influx.place(1).await.unwrap(), 5);

    // An answer that got lost: written again, once there.
    fake.play([Trick::TakeAndClose]);
    away(write().await.unwrap_err());
    write().await.unwrap();
    assert_eq!(fake.state.lock().unwrap().points.len(), 1);

    // NaN is refused here, before it is sent.
    let nan = [number("d", "n", noon(), 0, f64::NAN)];
    assert!(matches!(influx.write(&nan, None).await, Err(SeriesFault::Refused(_))));
    let nowhere = ground.influx("http://127.0.0.1:1");
    assert!(away(nowhere.write(&points, None).await.unwrap_err()).0.contains("refused"));
    ground.end().await;
}

#[actix_rt::test]
async fn a_server_that_hangs_is_given_up_after_its_time() {
    let ground = Ground::new().await;
    let fake = Fake::start().await;
    fake.play([Trick::Hang]);
    let influx = ground.influx(&fake.url());
    let points = [number("d", "n", noon(), 0, 1.0)];
    let told =
        tokio::time::timeout(series_support::PATIENCE, influx.write(&points, None)).await.unwrap();
    assert!(away(told.unwrap_err()).0.contains("no answer within 10 s"));
    influx.write(&points, None).await.unwrap();
    ground.end().await;
}

#[actix_rt::test]
async fn what_a_configuration_names_must_be_there() {
    let ground = Ground::new().await;
    let base = ground.influx_config("http://127.0.0.1:1");
    for (text, word) in [("", "one line"), ("two words", "one line"), ("naïve", "one line")] {
        let token_file = ground.file("bad-token", text);
        let error =
            Influx::open(&hub::config::Influx { token_file, ..base.clone() }, ground.store.clone())
                .err()
                .unwrap();
        assert!(error.to_string().contains(word), "{error}");
    }
    for ca in ["no pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let ca_file = Some(ground.file("ca", ca));
        let opened =
            Influx::open(&hub::config::Influx { ca_file, ..base.clone() }, ground.store.clone());
        assert!(opened.err().unwrap().to_string().contains("[series]"), "{ca}");
    }
    let missing = hub::config::Influx { token_file: "/nowhere/token".into(), ..base };
    let error = Influx::open(&missing, ground.store.clone()).err().unwrap().to_string();
    assert!(error.contains("token_file") && error.contains("/nowhere/token"), "{error}");
    ground.end().await;
}

/// Runs the cursor until `done`.
async fn run_until(
    series: &dyn SeriesStore,
    store: &PgStore,
    journal: &TestJournal,
    stats: &SeriesStats,
    done: impl Fn() -> bool,
) {
    let rng = SplitMix::new(1);
    let links = Links { series, store, journal: &journal.journal, stats, rng: &rng };
    let reached = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = cursor::run(&links, || {}) => panic!("{ended:?}"),
        told = tokio::time::timeout(series_support::PATIENCE, reached) => told.unwrap(),
    }
}

fn offset(stats: &SeriesStats) -> u64 {
    stats.offset.load(std::sync::atomic::Ordering::Relaxed)
}

#[actix_rt::test]
async fn the_cursor_loses_and_doubles_nothing_whatever_the_server_does() {
    let ground = Ground::new().await;
    let journal = ground.journal().await;
    let fake = Fake::start().await;
    let influx = ground.influx(&fake.url());
    let stats = SeriesStats::default();
    let mut end = 0;
    let n = 400u64;
    for seq in 1..=n {
        // Clocks of 1970 and 2100 stamp nothing; stock is no series; names may hold anything.
        let ts = match seq % 4 {
            0 => "\"1970-01-01T00:00:00Z\"",
            1 => "\"2100-01-01T00:00:00Z\"",
            _ => "null",
        };
        let name = if seq == 7 { "poison" } else { r"t,\" };
        let name = serde_json::to_string(name).unwrap();
        let raw = format!(r#"{{"seq":{seq},"boot":"b","ts":{ts},"values":{{{name}:{seq}}}}}"#);
        journal.frame("dev", "climate", Some(seq), &raw).await;
        let stock = r#"{"seq":1,"values":{"sku":"x","delta":1}}"#;
        end = journal.frame("dev", "stock", Some(seq), stock).await;
    }
    {
        let mut state = fake.state.lock().unwrap();
        state.poison = Some("poison".into());
        // Refused for its size: the batch goes in parts.
        state.body_bytes_max = 4_000;
    }
    fake.play([
        Trick::Close,
        Trick::Answer(503, "retry-after: 1", "{}"),
        Trick::TakeAndClose,
        Trick::CutBody,
        Trick::Answer(401, "", "{}"),
    ]);
    run_until(&influx, &ground.store, &journal, &stats, || offset(&stats) == end).await;
    {
        let state = fake.state.lock().unwrap();
        assert_eq!(state.points.len() as u64, n - 1, "each once but the bad one");
        let today = day() * 86_400;
        for (ns, name, device, field) in state.points.keys() {
            assert_eq!(
                (name.as_str(), device.as_str(), field.as_str()),
                ("climate.t,\u{fffd}", "dev", "value")
            );
            assert!(
                (ns / 1_000_000_000 - today).abs() < 2 * 86_400,
                "stamped with the time of reception"
            );
        }
    }
    let refused = ground.store.list_refused(None, 10).await.unwrap();
    assert_eq!((refused.len(), refused[0].name.as_str()), (1, "climate.poison"));
    assert!(refused[0].why.contains("partial write"), "{refused:?}");
    assert!(stats.describe(0).contains("takes points"), "{}", stats.describe(0));

    // A new life goes on where it stood.
    let taken = fake.state.lock().unwrap().taken;
    let last =
        journal.frame("dev", "climate", Some(n + 1), r#"{"seq":401,"values":{"t":5}}"#).await;
    let again = SeriesStats::default();
    run_until(&influx, &ground.store, &journal, &again, || offset(&again) == last).await;
    assert_eq!(fake.state.lock().unwrap().taken, taken + 1);

    // A store that is switched to is filled in from the journal, to the same content.
    let postgres = SeriesStats::default();
    run_until(&ground.store, &ground.store, &journal, &postgres, || offset(&postgres) == last)
        .await;
    assert_eq!(paged(&ground.store, &ask("dev"), None).await.0.len() as u64, n + 1);
    journal.end();
    ground.end().await;
}

#[actix_rt::test]
async fn a_server_that_refuses_everything_is_doubted_and_loses_nothing() {
    let ground = Ground::new().await;
    let journal = ground.journal().await;
    let fake = Fake::start().await;
    let influx = ground.influx(&fake.url());
    for seq in 1..=150 {
        journal
            .frame(
                "dev",
                "climate",
                Some(seq),
                &format!(r#"{{"seq":{seq},"values":{{"t":{seq}}}}}"#),
            )
            .await;
    }
    fake.state.lock().unwrap().poison = Some("reading".into());
    let stats = SeriesStats::default();
    run_until(&influx, &ground.store, &journal, &stats, || !stats.is_well()).await;
    assert!(stats.describe(0).contains("100 points in a row"), "{}", stats.describe(0));
    assert_eq!(influx.place(1).await.unwrap(), 0);
    journal.end();
    ground.end().await;
}

#[actix_rt::test]
async fn victoria_metrics_takes_what_is_written() {
    let Some(victoria) = Victoria::start("victoria-metrics").await else { return };
    let ground = Ground::new().await;
    let influx = ground.influx(&format!("http://127.0.0.1:{}", victoria.port));
    let t = noon();
    let hostile = r#"a b,c=d "e" \f Größe"#;
    let mut points: Vec<Point> = (0..5_000)
        .map(|n| number("d1", &format!("n{}", n % 10), t + n / 10 * S, 0, n as f64))
        .collect();
    points.push(number("d1", hostile, t, 0, 1e-7));
    points.push(number("d1", "big", t, 0, 1e300));
    influx.write(&points, Some(Place { epoch: 1, offset: 9 })).await.unwrap();
    influx.write(&points[..100], None).await.unwrap();
    let series = victoria.export();
    assert_eq!(series.len(), 12);
    let found = |name: &str| {
        series.iter().find(|s| s["metric"]["name"] == name).unwrap_or_else(|| panic!("{series:#?}"))
    };
    assert_eq!(
        (&found(hostile)["values"][0], &found("big")["values"][0]),
        (&1e-7.into(), &1e300.into())
    );
    for k in 0..10 {
        let one = found(&format!("n{k}"));
        assert_eq!(
            (&one["metric"]["__name__"], &one["metric"]["device"], &one["metric"]["facility"]),
            (&"reading_value".into(), &"d1".into(), &"f1".into())
        );
        let mut values: Vec<(i64, f64)> = std::iter::zip(
            one["timestamps"].as_array().unwrap(),
            one["values"].as_array().unwrap(),
        )
        .map(|(t, v)| (t.as_i64().unwrap(), v.as_f64().unwrap()))
        .collect();
        // It keeps a point that came twice as two equal ones; InfluxDB overwrites.
        values.dedup();
        assert_eq!(
            values,
            (0..500).map(|n| (t / 1_000 + n * 1_000, (n * 10 + k) as f64)).collect::<Vec<_>>()
        );
    }
    ground.end().await;
}

#[test]
fn influxdb_client_of_python_writes_the_same_lines() {
    let exe = std::env::current_exe().unwrap();
    let python = exe.ancestors().nth(3).unwrap().join("venv/bin/python");
    if !python.exists() {
        println!(
            "SKIP influxdb-client: the Python environment is absent; cargo xtask test makes it"
        );
        return;
    }
    let t = noon();
    let mut points: Vec<Point> = [
        "plain",
        "a b",
        "a,b",
        "a=b",
        r"a\b",
        r"a\,b",
        r#""quoted""#,
        "Größe→",
        "'",
        "#",
        "a  b",
        "${x}",
        "=",
        ",",
    ]
    .iter()
    .map(|name| number("d:1", name, t, 7, 21.5))
    .collect();
    for value in [0.0, -1.0, 0.1, 1e15, 123_456.789, 1e-4, 1e300, 5e-324, -2.5e-7] {
        points.push(number("d", "n", t, 0, value));
    }
    for text in ["", "on", r#"say "no""#, r"back\slash", r"end\", "a,b=c d", "Größe"] {
        points.push(point("d", "n", t, 0, Reading::Text(text.into())));
    }
    let told: Vec<serde_json::Value> = points.iter().map(|p| {
        let value = match &p.value {
            Reading::Number(number) => serde_json::json!({ "value": number }),
            Reading::Text(text) => serde_json::json!({ "text": text }),
        };
        serde_json::json!({ "tags": { "device": &*p.device, "facility": &*p.facility, "name": p.name }, "fields": value, "ns": line::time_ns(p.at_us, p.tie) })
    }).collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/series_support/influx_lines.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), &told).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    let theirs: Vec<String> = serde_json::from_slice(&out.stdout).unwrap();
    for (point, theirs) in points.iter().zip(theirs) {
        let mut ours = String::new();
        line::encode(point, &mut ours).unwrap();
        // Numbers may be written in two ways; what is read must be one.
        assert_eq!(lines::parse(ours.trim_end()), lines::parse(&theirs), "{ours}{theirs}");
        if matches!(point.value, Reading::Text(_)) {
            assert_eq!(ours.trim_end(), theirs);
        }
    }
}

#[actix_rt::test]
async fn only_the_named_authority_is_believed() {
    let ground = Ground::new().await;
    let dir = ground.dir.path();
    let request = "[req]\ndistinguished_name=dn\nx509_extensions=v3\nprompt=no\n[dn]\nCN=localhost\n\
        [v3]\nsubjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n";
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-config"])
        .arg(ground.file("request", request))
        .arg("-keyout")
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("SKIP series-tls: openssl is not installed; cargo xtask test installs it");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/series_support/tls_server.py");
    let mut server = Command::new("python3")
        .arg(script)
        .arg(dir.join("cert.pem"))
        .arg(dir.join("key.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut port = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(server.stdout.take().unwrap()),
        &mut port,
    )
    .unwrap();
    let base = ground.influx_config(&format!("https://localhost:{}", port.trim()));
    let points = [number("d", "n", noon(), 0, 1.0)];
    let trusting = hub::config::Influx { ca_file: Some(dir.join("cert.pem")), ..base.clone() };
    Influx::open(&trusting, ground.store.clone()).unwrap().write(&points, None).await.unwrap();
    let (why, _) = away(
        Influx::open(&base, ground.store.clone()).unwrap().write(&points, None).await.unwrap_err(),
    );
    assert!(why.contains("certificate"), "{why}");
    server.kill().unwrap();
    server.wait().unwrap();
    ground.end().await;
}
