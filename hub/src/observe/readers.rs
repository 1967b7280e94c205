//! Metrics of RFID readers.

use std::sync::atomic::Ordering::Relaxed;

use super::Text;
use crate::desk::Desk;

/// What the readers are like.
pub(super) fn metrics(desk: &Desk, out: &mut Text) {
    for (id, reader) in desk.readers.running.all() {
        let label = [("bus", id.as_str()), ("device", reader.handle.spec.device.as_str())];
        let h = &reader.handle.health;
        let up = f64::from(u8::from(h.up.load(Relaxed)));
        out.gauge("stockfold_reader_up", "1 = the reader is connected and set.", &label, up);
        let heard = h.heard_us.load(Relaxed);
        if heard > 0 {
            let age_us = h.lived_us.load(Relaxed).saturating_sub(heard);
            out.gauge(
                "stockfold_reader_silence_seconds",
                "Time since it said anything.",
                &label,
                age_us as f64 / 1e6,
            );
        }
        for (name, help, value) in [
            ("stockfold_reader_connects_total", "Times it was connected and set.", &h.connects),
            ("stockfold_reader_reports_total", "Reports of tags.", &h.reports),
            ("stockfold_reader_reads_total", "Tags in its reports.", &h.reads),
            ("stockfold_reader_events_total", "Events it told.", &h.events),
            ("stockfold_reader_keepalives_total", "Signs of life.", &h.keepalives),
            ("stockfold_reader_delivered_total", "Frames handed to the journal.", &h.delivered),
            ("stockfold_reader_lost_total", "Messages the journal had no room for.", &h.lost),
            (
                "stockfold_reader_refused_total",
                "Messages of a device that may not speak.",
                &h.refused,
            ),
            ("stockfold_reader_overflows_total", "Times its own buffer ran over.", &h.overflows),
            ("stockfold_reader_garbled_total", "Messages that are not what they say.", &h.garbled),
            ("stockfold_reader_unknown_total", "Messages of an unknown kind.", &h.unknown),
            ("stockfold_reader_foreign_total", "Answers to nothing that was asked.", &h.foreign),
            ("stockfold_reader_timeouts_total", "Answers and signs of life missed.", &h.timeouts),
        ] {
            out.counter(name, help, &label, value.load(Relaxed));
        }
    }
}
