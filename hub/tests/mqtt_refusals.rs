//! Refusals do not fill the log, and none of them vanishes: lines written and lines left out add up to what was counted.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod mqtt_support;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use hub::mqtt::{
    Counter, Limits, Refused,
    cause::Cause,
    limits::{REFUSAL_LINES_MAX, REFUSAL_ROUND_MS},
    session::Progress,
};
use mqtt_support::*;

/// A log that is kept in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// What is written while `work` runs, line by line.
    fn of(work: impl FnOnce()) -> Vec<String> {
        let log = Self::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = log.0.lock().unwrap();
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }
}

const ROUND: Duration = Duration::from_millis(REFUSAL_ROUND_MS);

#[test]
fn five_thousand_refused_connects_are_a_few_lines_and_a_sum() {
    let (core, now) = core(Limits::default(), &TestIngress::at_once());
    let lines = Log::of(|| {
        for _ in 0..5_000 {
            let mut peer = Peer::new(&core, now);
            peer.send(&Hi { password: "sesame", ..hi(V5) }.bytes());
        }
        core.sweep(now);
    });
    let most = usize::try_from(REFUSAL_LINES_MAX).unwrap();
    assert_eq!(lines.len(), most, "{lines:#?}");
    for line in &lines {
        for part in ["CONNECT refused", "client_id=\"a\"", "user name or password is wrong"] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains("sesame"), "a secret is in the log: {line}");
    }
    assert_eq!(core.stats.get(Counter::RefusedCredentials), 5_000);

    // Another cause has lines of its own; the round's end tells what was left out, and a calm round nothing.
    let lines = Log::of(|| {
        Peer::new(&core, now).send(&Hi { user: "nobody", ..hi(V3) }.bytes());
        core.sweep(now + ROUND);
        core.sweep(now + 2 * ROUND);
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("device is not enrolled"), "{}", lines[0]);
    let left_out = format!("cause=\"refused_credentials\" left_out={}", 5_000 - REFUSAL_LINES_MAX);
    assert!(lines[1].contains(&left_out), "{}", lines[1]);
}

#[test]
fn refused_publishes_are_few_lines_and_counted_for_their_device() {
    let ingress = TestIngress::at_once();
    let (core, now) = core(Limits::default(), &ingress);
    let foreign = "stockfold/v1/b/stock";
    let mut a = Peer::connected(&core, now, &hi(V5));
    let lines = Log::of(|| {
        for _ in 0..1_000 {
            a.send(&publish(V5, 1, foreign, 7, "x"));
        }
        a.send(&publish(V5, 1, "stockfold/v1/a/stock", 7, "quota"));
        core.sweep(now + ROUND);
    });
    let of = |part: &str| lines.iter().filter(|line| line.contains(part)).count() as u64;
    assert_eq!(of("topic=\"stockfold/v1/b/stock\""), REFUSAL_LINES_MAX, "{lines:#?}");
    assert_eq!(of("storage of the hub is full"), 1);
    assert_eq!(of(&format!("left_out={}", 1_000 - REFUSAL_LINES_MAX)), 1, "{lines:#?}");
    assert_eq!(core.stats.get(Counter::RefusedTopicAcl), 1_000);

    // 3.1.1 is cut at the first, and it is counted all the same.
    let mut b = Peer::connected(&core, now, &Hi { id: "b", user: "b", password: "pw-b", ..hi(V3) });
    let over = b.send(&publish(V3, 0, "elsewhere", 0, "x"));
    assert_eq!(over, Progress::Over(Cause::TopicInvalid));
    let told = ingress.refused.lock().unwrap();
    let count = |device: &str, refused| {
        told.iter().filter(|told| **told == (device.to_owned(), refused)).count()
    };
    assert_eq!(count("a", Refused::NotAuthorised), 1_000);
    assert_eq!(count("a", Refused::Quota), 1);
    assert_eq!(count("b", Refused::UnknownTopic), 1);
    assert_eq!(told.len(), 1_002);
}
