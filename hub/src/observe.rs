//! What the hub tells of itself: readiness with reasons, and metrics for every stage a reading passes.
//!
//! Metrics are read from counters that each stage keeps anyway; rendering them costs nothing until somebody asks.

mod readers;

use std::{
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering::Relaxed},
    },
};

use actors::guardian::{State, Status};
use fold::TagChange;

use crate::{
    broker::Broker,
    desk::{Check, Desk},
    ingress::{HubIngress, Space},
    mqtt::Counter,
    series::SeriesStats,
    store::{PgStore, fault::Fault, tags::TagCount},
    tls::DAY_S,
};

/// A shard whose commits lie further back than this is behind, in microseconds of hub time.
const BEHIND_US: i64 = 10_000_000;

/// Everything that is watched.
pub struct Watch {
    /// Guarded children.
    pub children: Mutex<Vec<Arc<Status>>>,
    /// PostgreSQL answered at the last look.
    pub database: AtomicBool,
    /// Disk use, thousandths.
    pub disk_permille: AtomicU16,
    /// Series cursor.
    pub series: Arc<SeriesStats>,
    /// Ingress.
    pub ingress: Arc<HubIngress>,
    /// The external broker, if there is one.
    pub broker: Option<Arc<Broker>>,
    /// Tags of each facility at the last count.
    pub tags: Mutex<Vec<TagCount>>,
}

impl Watch {
    fn statuses(&self) -> Vec<Arc<Status>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts the tags of each facility.
    pub async fn count_tags(&self, store: &PgStore) -> Result<(), Fault> {
        let counts = store.tag_counts().await?;
        *self.tags.lock().unwrap_or_else(PoisonError::into_inner) = counts;
        Ok(())
    }

    /// The checks of `/readyz`.
    pub fn checks(&self, desk: &Desk) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut add = |name: &str, ok: bool, detail: String| {
            checks.push(Check { name: name.to_owned(), ok, detail });
        };
        let database = self.database.load(Relaxed);
        add(
            "database",
            database,
            if database {
                "answers".into()
            } else {
                "PostgreSQL does not answer; readings are still taken and wait in the journal"
                    .into()
            },
        );
        let stats = desk.journal.stats();
        let waiting = stats.waiting_for_space() && stats.no_space() > 0;
        add(
            "journal",
            !waiting,
            if waiting {
                "no space for the next segment; free some disk space".into()
            } else {
                format!("{} records durable", stats.records())
            },
        );
        let space = self.ingress.space();
        let permille = self.disk_permille.load(Relaxed);
        add(
            "disk",
            space < Space::NoTelemetry,
            format!("{}.{} % used", permille / 10, permille % 10),
        );
        add(
            "clock",
            !stats.clock_stepped(),
            if stats.clock_stepped() {
                "the wall clock was set while the hub ran; check NTP, then restart the hub".into()
            } else {
                "agrees with the hub's time".into()
            },
        );
        let (up, all) = desk.buses.running.up();
        if all > 0 {
            // A bus that is away is a device's trouble and not the hub's: readings of all others go on.
            add("buses", true, format!("{up} of {all} connected"));
        }
        let (up, all) = desk.readers.running.up();
        if all > 0 {
            add("readers", true, format!("{up} of {all} connected"));
        }
        let tls = desk.tls.standing();
        let days = (tls.server_until_s - desk.now_us() / 1_000_000).div_euclid(DAY_S);
        add(
            "tls",
            tls.refused.is_none() && days >= 0,
            match &tls.refused {
                Some(why) => {
                    format!("the new certificate files cannot be used, the old stay: {why}")
                }
                None if days < 0 => "the server's certificate has expired; replace it".into(),
                None => format!("the server's certificate is good for {days} days"),
            },
        );
        if let Some(broker) = &self.broker {
            let (url, stats) = (broker.url(), &broker.stats);
            let connected = stats.connected.load(Relaxed);
            let trouble = stats.trouble();
            let detail = match (connected, stats.holding.load(Relaxed)) {
                (true, false) => format!("connected to {url}"),
                (true, true) => "holds: the journal or the disk is full; the broker queues".into(),
                (false, _) if trouble.is_empty() => format!("connecting to {url}"),
                (false, _) => format!("not connected to {url}: {trouble}"),
            };
            add("broker", connected, detail);
        }
        // Told, but no reason to call the hub not ready: readings are taken whatever becomes of their charts.
        add("series-store", true, self.series.describe(desk.now_us()));
        for status in self.statuses() {
            let detail = match status.state() {
                State::Running if status.is_stalled() => "makes no progress".into(),
                State::Running => format!("runs, {} restarts", status.restarts()),
                State::Waiting(why) => format!("starting again: {why}"),
                State::Ended => "ended".into(),
                State::GaveUp(why) => format!("given up: {why}"),
            };
            add(status.name(), status.is_well(), detail);
        }
        for (shard, board) in desk.boards.iter().enumerate() {
            let lag = board.stats.folded.load(Relaxed) > board.visible();
            let folded_at = i64::try_from(board.stats.folded_at_us.load(Relaxed)).unwrap_or(0);
            let behind_us = if lag { desk.now_us().saturating_sub(folded_at) } else { 0 };
            let ok = behind_us < BEHIND_US;
            add(&format!("shard-{shard}-lag"), ok, format!("{} ms behind", behind_us / 1_000));
        }
        checks
    }

    /// Prometheus' text format.
    pub fn metrics(&self, desk: &Desk) -> String {
        let mut out = Text::default();
        let journal = desk.journal.stats();
        out.counter(
            "stockfold_journal_records_total",
            "Records made durable.",
            &[],
            journal.records(),
        );
        out.counter("stockfold_journal_bytes_total", "Bytes made durable.", &[], journal.bytes());
        out.counter("stockfold_journal_groups_total", "Group commits.", &[], journal.groups());
        out.seconds(
            "stockfold_journal_sync_seconds_total",
            "Time spent writing and syncing.",
            &[],
            journal.sync_us(),
        );
        out.counter(
            "stockfold_journal_no_space_total",
            "Segments that found no space.",
            &[],
            journal.no_space(),
        );
        out.gauge(
            "stockfold_journal_queued_bytes",
            "Bytes waiting for the next group.",
            &[],
            desk.journal.queued_bytes() as f64,
        );
        out.gauge(
            "stockfold_journal_disk_bytes",
            "Bytes of all segments.",
            &[],
            desk.journal.disk_bytes() as f64,
        );
        out.gauge(
            "stockfold_clock_stepped",
            "1 = the wall clock was set while the hub ran.",
            &[],
            f64::from(u8::from(journal.clock_stepped())),
        );
        out.gauge(
            "stockfold_disk_used_ratio",
            "Disk use.",
            &[],
            f64::from(self.disk_permille.load(Relaxed)) / 1_000.0,
        );
        out.gauge(
            "stockfold_database_up",
            "1 = PostgreSQL answers.",
            &[],
            f64::from(u8::from(self.database.load(Relaxed))),
        );
        for counter in Counter::ALL {
            let label = [("event", counter.name())];
            out.counter(
                "stockfold_mqtt_events_total",
                "What happened at the MQTT endpoint.",
                &label,
                desk.endpoint.stats.get(*counter),
            );
        }
        out.gauge(
            "stockfold_mqtt_connections",
            "Clients connected.",
            &[],
            desk.endpoint.registry.connected() as f64,
        );
        let tls = desk.tls.standing();
        for (certificate, until_s) in
            [("server", tls.server_until_s), ("authority", tls.authority_until_s)]
        {
            out.gauge(
                "stockfold_tls_certificate_until_seconds",
                "Last second a certificate is good, since the Unix epoch.",
                &[("certificate", certificate)],
                until_s as f64,
            );
        }
        out.gauge(
            "stockfold_tls_files_refused",
            "1 = the TLS files cannot be used and those in force stay.",
            &[],
            f64::from(u8::from(tls.refused.is_some())),
        );
        out.counter(
            "stockfold_tls_changes_total",
            "Times other certificates came into force.",
            &[],
            tls.changes,
        );
        if let Some(broker) = &self.broker {
            let stats = &broker.stats;
            for (event, value) in stats.counters() {
                let label = [("event", event)];
                out.counter(
                    "stockfold_broker_events_total",
                    "What happened at the link to the external broker.",
                    &label,
                    value,
                );
            }
            out.gauge(
                "stockfold_broker_connected",
                "1 = connected and subscribed.",
                &[],
                f64::from(u8::from(stats.connected.load(Relaxed))),
            );
            out.gauge(
                "stockfold_broker_open",
                "Messages taken and not yet acknowledged.",
                &[],
                stats.open.load(Relaxed) as f64,
            );
        }
        let ingress = &self.ingress.stats;
        for (event, value) in [
            ("sound", &ingress.sound),
            ("unsound", &ingress.unsound),
            ("queue_full", &ingress.queue_full),
            ("no_space", &ingress.no_space),
            ("not_authorised", &ingress.not_authorised),
            ("unknown_topic", &ingress.unknown_topic),
            ("unread", &ingress.unread),
        ] {
            out.counter(
                "stockfold_ingress_total",
                "Frames and topics by what the ingress decided.",
                &[("decision", event)],
                value.load(Relaxed),
            );
        }
        let down = &desk.downlink.stats;
        for (event, value) in [
            ("sent", &down.sent),
            ("acknowledged", &down.acked),
            ("returned", &down.returned),
            ("expired", &down.expired),
        ] {
            out.counter(
                "stockfold_device_commands_total",
                "Commands to devices by what became of them.",
                &[("event", event)],
                value.load(Relaxed),
            );
        }
        out.gauge(
            "stockfold_device_commands_open",
            "Commands to devices that are on their way.",
            &[],
            desk.downlink.open() as f64,
        );
        out.gauge(
            "stockfold_devices_enrolled",
            "Devices that may connect.",
            &[],
            desk.directory.len() as f64,
        );
        for (id, board) in desk.boards.iter().enumerate() {
            let id = id.to_string();
            let label = [("shard", id.as_str())];
            let s = &board.stats;
            out.counter(
                "stockfold_fold_entries_total",
                "Entries folded.",
                &label,
                s.entries.load(Relaxed),
            );
            out.seconds(
                "stockfold_fold_seconds_total",
                "Time spent folding.",
                &label,
                s.fold_us.load(Relaxed),
            );
            out.counter(
                "stockfold_fold_refolded_total",
                "Entries folded again at start.",
                &label,
                s.refolded.load(Relaxed),
            );
            out.counter(
                "stockfold_fold_poisoned_total",
                "Entries passed over because they crashed the fold.",
                &label,
                s.poisoned.load(Relaxed),
            );
            out.counter(
                "stockfold_movements_total",
                "Movements committed.",
                &label,
                s.movements.load(Relaxed),
            );
            out.counter(
                "stockfold_events_total",
                "Events committed.",
                &label,
                s.events.load(Relaxed),
            );
            for change in TagChange::ALL {
                out.counter(
                    "stockfold_tag_events_total",
                    "What was told of tags, by kind.",
                    &[label[0], ("kind", change.as_str())],
                    s.tag_events.of(change).load(Relaxed),
                );
            }
            out.counter(
                "stockfold_commits_total",
                "Batches committed.",
                &label,
                s.commits.load(Relaxed),
            );
            out.seconds(
                "stockfold_commit_seconds_total",
                "Time spent committing.",
                &label,
                s.commit_us.load(Relaxed),
            );
            out.counter(
                "stockfold_commit_retries_total",
                "Commits tried again.",
                &label,
                s.retries.load(Relaxed),
            );
            out.counter(
                "stockfold_snapshots_total",
                "Snapshots written.",
                &label,
                s.snapshots.load(Relaxed),
            );
            out.gauge(
                "stockfold_shard_folded_offset",
                "Last offset folded.",
                &label,
                s.folded.load(Relaxed) as f64,
            );
            out.gauge(
                "stockfold_shard_committed_offset",
                "Last offset committed.",
                &label,
                board.committed() as f64,
            );
        }
        for count in self.tags.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for (state, tags) in [("present", count.present), ("departed", count.departed)] {
                out.gauge(
                    "stockfold_tags",
                    "Tags that are present, and that departed of late, as of half a minute ago.",
                    &[("facility", &count.facility), ("state", state)],
                    tags as f64,
                );
            }
        }
        self.series_metrics(desk, &mut out);
        bus_metrics(desk, &mut out);
        readers::metrics(desk, &mut out);
        for status in self.statuses() {
            let label = [("child", status.name())];
            out.gauge(
                "stockfold_child_well",
                "1 = it runs and makes progress.",
                &label,
                f64::from(u8::from(status.is_well())),
            );
            out.counter(
                "stockfold_child_restarts_total",
                "Times it was started again.",
                &label,
                u64::from(status.restarts()),
            );
        }
        out.text
    }

    fn series_metrics(&self, desk: &Desk, out: &mut Text) {
        let s = &self.series;
        for (name, help, value) in [
            ("stockfold_series_points_total", "Points written.", &s.points),
            ("stockfold_series_repeated_total", "Points that were there already.", &s.repeated),
            ("stockfold_series_refused_total", "Points the store refused for good.", &s.refused),
            ("stockfold_series_retried_total", "Points of writes tried again.", &s.retried),
            ("stockfold_series_writes_total", "Writes done.", &s.writes),
        ] {
            out.counter(name, help, &[], value.load(Relaxed));
        }
        out.seconds(
            "stockfold_series_write_seconds_total",
            "Time spent in writes, waiting included.",
            &[],
            s.write_us.load(Relaxed),
        );
        out.seconds(
            "stockfold_series_encode_seconds_total",
            "Time spent encoding and packing lines.",
            &[],
            s.encode_us.load(Relaxed),
        );
        out.gauge(
            "stockfold_series_offset",
            "Journal offset up to which every point is written.",
            &[],
            s.offset.load(Relaxed) as f64,
        );
        out.gauge(
            "stockfold_series_lag_bytes",
            "Bytes of the journal behind that offset.",
            &[],
            desk.journal.tip().end().saturating_sub(s.offset.load(Relaxed)) as f64,
        );
        out.gauge(
            "stockfold_series_lag_records",
            "Records read whose points are not written.",
            &[],
            s.waiting_records.load(Relaxed) as f64,
        );
        out.gauge(
            "stockfold_series_lag_seconds",
            "Age of the oldest point read that is not written.",
            &[],
            s.lag_us(desk.now_us()) as f64 / 1e6,
        );
        out.gauge(
            "stockfold_series_well",
            "1 = the series store takes points.",
            &[],
            f64::from(u8::from(s.is_well())),
        );
    }
}

/// What the buses and the units on them are like.
fn bus_metrics(desk: &Desk, out: &mut Text) {
    for (id, bus) in desk.buses.running.all() {
        let label = [("bus", id.as_str())];
        let h = &bus.handle.health;
        out.gauge(
            "stockfold_bus_up",
            "1 = the bus is connected.",
            &label,
            f64::from(u8::from(h.up.load(Relaxed))),
        );
        let (connects, drains) = (h.connects.load(Relaxed), h.drains.load(Relaxed));
        out.counter("stockfold_bus_connects_total", "Times it was connected.", &label, connects);
        out.counter(
            "stockfold_bus_poisoned_total",
            "Times a link was drained or dropped after an error.",
            &label,
            drains,
        );
        out.seconds(
            "stockfold_bus_busy_seconds_total",
            "Time it was in use.",
            &label,
            h.busy_us.load(Relaxed),
        );
        for (unit, told) in bus.handle.spec.units.iter().zip(bus.handle.units.iter()) {
            let label = [("bus", id.as_str()), ("device", unit.device.as_str())];
            for (name, help, value) in [
                ("stockfold_unit_polls_total", "Polls that brought an image.", &told.polls),
                ("stockfold_unit_timeouts_total", "Requests without an answer.", &told.timeouts),
                ("stockfold_unit_exceptions_total", "Exceptions answered.", &told.exceptions),
                ("stockfold_unit_garbled_total", "Answers to no request.", &told.garbled),
                ("stockfold_unit_full_total", "Images the journal had no room for.", &told.full),
            ] {
                out.counter(name, help, &label, value.load(Relaxed));
            }
            let well = !(told.aside.load(Relaxed) || told.frozen.load(Relaxed));
            out.gauge(
                "stockfold_unit_well",
                "0 = it was set aside or repeats an old measurement.",
                &label,
                f64::from(u8::from(well)),
            );
        }
    }
}

/// Metric text; each name's help and type go before its first sample.
#[derive(Default)]
struct Text {
    text: String,
    last: String,
}

impl Text {
    fn sample(&mut self, name: &str, kind: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        if self.last != name && !self.text.contains(&format!("# TYPE {name} ")) {
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            self.last = name.to_owned();
        }
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }
    fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
        self.sample(name, "counter", help, labels, value as f64);
    }
    fn seconds(&mut self, name: &str, help: &str, labels: &[(&str, &str)], us: u64) {
        self.sample(name, "counter", help, labels, us as f64 / 1e6);
    }
    fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.sample(name, "gauge", help, labels, value);
    }
}
