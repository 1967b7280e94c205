//! After a play: does the hub know the truth, and did it keep its promises?
//!
//! Reads stock, movements, discrepancies and the ledger over the API, lets [`crate::score`] judge what the hub makes of
//! the world, and holds the ledger against what the devices were promised: for each device the hub must account for at
//! least as many distinct readings as it acknowledged, each movement reported on a handheld or scanner must be there,
//! and none twice.

use crate::clock::parse_rfc3339;
use crate::hub::{Hub, HubError, escape};
use crate::play::Played;
use crate::score::{Score, Seen, SeenDiscrepancy, SeenMovement, Window, score};
use crate::tally::Tally;
use crate::truth::{Told, Truth};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Lines of trouble that are listed; the counts are complete.
const LISTED_MAX: usize = 20;

/// What the ledger says of a device, summed over hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerRow {
    journaled: u64,
    duplicate: u64,
}

impl LedgerRow {
    /// Distinct readings the hub accounts for.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        self.journaled.saturating_sub(self.duplicate)
    }
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// Levels and movements against the truth. Delays are in wall time here.
    pub score: Score,
    /// Distinct readings acknowledged.
    pub acknowledged: u64,
    /// Distinct readings of these devices in the hub's ledger since the play began.
    pub in_ledger: u64,
    /// Acknowledged but not in the ledger.
    pub lost: u64,
    /// Repetitions the hub recognised.
    pub duplicates_recognised: u64,
    /// Movements booked twice for one reading.
    pub counted_twice: u64,
    /// Reported, acknowledged, and without a movement.
    pub unbooked: u64,
    /// Frames refused, by all devices.
    pub refused: u64,
    /// Frames lost because a device had no room.
    pub overflowed: u64,
    /// What is wrong, most of it, in words.
    pub troubles: Vec<String>,
}

impl Verdict {
    /// Everything acknowledged is there once, and no level is wrong without an explanation.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.score.levels_unexplained() == 0
            && self.lost == 0
            && self.counted_twice == 0
            && self.unbooked == 0
    }

    fn trouble(&mut self, what: impl FnOnce() -> String) {
        if self.troubles.len() < LISTED_MAX {
            self.troubles.push(what());
        }
    }
}

/// The hub's ledger of a facility, by device.
///
/// # Errors
/// [`HubError`].
pub fn ledger(hub: &Hub, facility: &str) -> Result<BTreeMap<String, LedgerRow>, HubError> {
    let mut rows: BTreeMap<String, LedgerRow> = BTreeMap::new();
    for item in hub.list(&format!("/ledger?facility={}", escape(facility)))? {
        let number = |key: &str| item.get(key).and_then(Value::as_u64).unwrap_or(0);
        if let Some(device) = item.get("device").and_then(Value::as_str) {
            let row = rows.entry(device.to_owned()).or_default();
            row.journaled += number("journaled");
            row.duplicate += number("duplicate");
        }
    }
    Ok(rows)
}

/// Asks the hub and judges its answers.
///
/// # Errors
/// [`HubError`].
pub fn verify(hub: &Hub, played: &Played, window: Window) -> Result<Verdict, HubError> {
    let facility = escape(&played.facility);
    let after = played.baseline.movement.as_ref().map(|id| format!("&after={}", escape(id)));
    let after = after.unwrap_or_default();
    let movements = hub.list(&format!("/movements?facility={facility}&order=asc{after}"))?;
    let stock = hub.list(&format!("/stock?facility={facility}"))?;
    let open = hub.list(&format!("/discrepancies?facility={facility}&open=true"))?;
    let all = hub.list(&format!("/discrepancies?facility={facility}"))?;
    let ledger = ledger(hub, &played.facility)?;
    Ok(judge(played, &Answers { movements, stock, open, all, ledger }, window))
}

/// What the hub answered.
#[derive(Debug, Default)]
struct Answers {
    movements: Vec<Value>,
    stock: Vec<Value>,
    open: Vec<Value>,
    all: Vec<Value>,
    ledger: BTreeMap<String, LedgerRow>,
}

fn text<'a>(item: &'a Value, key: &str) -> &'a str {
    item.get(key).and_then(Value::as_str).unwrap_or("")
}

fn judge(played: &Played, answers: &Answers, window: Window) -> Verdict {
    let mut verdict =
        Verdict { score: against_truth(played, answers, window), ..Verdict::default() };
    for wrong in verdict.score.levels_wrong.clone() {
        if !wrong.explained {
            verdict.trouble(|| {
                let seen = wrong.seen.map_or("no level".into(), |n| n.to_string());
                format!("{} {}: {} units, the hub says {seen}", wrong.slot, wrong.sku, wrong.truth)
            });
        }
    }
    promises(played, answers, &mut verdict);
    verdict
}

fn against_truth(played: &Played, answers: &Answers, window: Window) -> Score {
    let base = played.base();
    let at = |item: &Value, key: &str| {
        parse_rfc3339(text(item, key)).map_or(0, |wall_us| base.virtual_us(wall_us))
    };
    let movement = |m: &Value| SeenMovement {
        slot: text(m, "slot").to_owned(),
        sku: text(m, "sku").to_owned(),
        delta: m.get("delta").and_then(Value::as_i64).unwrap_or(0),
        level_after: m.get("level_after").and_then(Value::as_i64),
        cause: text(m, "cause").to_owned(),
        at: at(m, "at"),
    };
    let level = |l: &Value| {
        let quantity = l.get("quantity").and_then(Value::as_i64)?;
        Some(((text(l, "slot").to_owned(), text(l, "sku").to_owned()), quantity))
    };
    let key = |d: &Value| (text(d, "slot").to_owned(), text(d, "opened_at").to_owned());
    let open: Vec<_> = answers.open.iter().map(key).collect();
    let since = |d: &&Value| {
        parse_rfc3339(text(d, "opened_at")).is_none_or(|wall_us| wall_us >= base.epoch_us)
    };
    let discrepancy = |d: &Value| SeenDiscrepancy {
        slot: text(d, "slot").to_owned(),
        at: at(d, "opened_at"),
        open: open.contains(&key(d)),
    };
    let seen = Seen {
        levels: answers.stock.iter().filter_map(level).collect(),
        movements: answers.movements.iter().map(movement).collect(),
        discrepancies: answers.all.iter().filter(since).map(discrepancy).collect(),
    };
    let mut score = score(&delivered(played), &seen, window);
    score.delay_p50_ms /= played.speed;
    score.delay_p95_ms /= played.speed;
    score
}

/// The truth, where what a device could not deliver counts as lost at the source.
fn delivered(played: &Played) -> Truth {
    let mut truth = played.truth.clone();
    for m in &mut truth.movements {
        let Told::Sent { device, boot, seq } = &m.told else { continue };
        let tally = played.devices.iter().find(|t| t.device == **device);
        // QoS 0 acknowledges nothing, delivered or not.
        let acked = tally.is_none_or(|t| t.acked.is_empty() || is_acked(t, boot.as_deref(), *seq));
        if !acked {
            m.told = Told::LostAtSource;
        }
    }
    truth
}

fn is_acked(tally: &Tally, boot: Option<&str>, seq: u64) -> bool {
    tally.acked.get(boot.unwrap_or("")).is_some_and(|set| set.contains(seq))
}

fn promises(played: &Played, answers: &Answers, verdict: &mut Verdict) {
    for tally in &played.devices {
        let now = answers.ledger.get(&tally.device).copied().unwrap_or_default();
        let before = played.baseline.ledger.get(&tally.device).copied().unwrap_or(0);
        let (promised, there) = (tally.acked_readings(), now.distinct().saturating_sub(before));
        verdict.acknowledged += promised;
        verdict.in_ledger += there;
        verdict.duplicates_recognised += now.duplicate;
        verdict.refused += tally.refused.values().sum::<u64>();
        verdict.overflowed += tally.overflowed;
        let lost = promised.saturating_sub(there);
        verdict.lost += lost;
        if lost > 0 {
            let device = &tally.device;
            verdict.trouble(|| {
                format!("{device}: {promised} readings acknowledged, the ledger has {there}")
            });
        }
    }
    // Movements that devices reported: each exactly once.
    let mut booked: BTreeMap<(&str, &str, u64), u64> = BTreeMap::new();
    for m in &answers.movements {
        if matches!(text(m, "cause"), "reading" | "scan")
            && let Some(seq) = m.get("seq").and_then(Value::as_u64)
        {
            *booked.entry((text(m, "device"), text(m, "boot"), seq)).or_default() += 1;
        }
    }
    for ((device, boot, seq), count) in booked.iter().filter(|(_, count)| **count > 1) {
        verdict.counted_twice += count - 1;
        verdict.trouble(|| format!("{device}: boot {boot} seq {seq} is booked {count} times"));
    }
    for m in &played.truth.movements {
        let Told::Sent { device, boot, seq } = &m.told else { continue };
        let tally = played.devices.iter().find(|t| t.device == **device);
        let acked = tally.is_some_and(|t| is_acked(t, boot.as_deref(), *seq));
        let boot = boot.as_deref().unwrap_or("");
        if acked && !booked.contains_key(&(&**device, boot, *seq)) {
            verdict.unbooked += 1;
            verdict.trouble(|| format!("{device}: boot {boot} seq {seq} has no movement"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SECOND_US, TimeBase, rfc3339};
    use crate::play::Baseline;
    use crate::scenario::Source;
    use crate::truth::{Kind, TrueLine, TrueMovement};
    use serde_json::json;

    fn played() -> Played {
        let mut truth = Truth::default();
        truth.lines.push(TrueLine {
            slot: "A-01".into(),
            sku: "TEA".into(),
            source: Source::Scan,
            initial: 10,
            units: 10,
            foreign: 0,
        });
        truth.book(TrueMovement {
            from: 9 * SECOND_US,
            at: 10 * SECOND_US,
            line: 0,
            sku: "TEA".into(),
            foreign: false,
            delta: -2,
            kind: Kind::Pick,
            told: Told::Sent { device: "h1".into(), boot: Some("b".into()), seq: 1 },
        });
        let mut tally = Tally { device: "h1".into(), sent: 1, ..Tally::default() };
        tally.acked.entry("b".into()).or_default().insert(1);
        let base = TimeBase::fixed();
        let baseline = Baseline { movement: None, ledger: [("h1".to_owned(), 5)].into() };
        Played {
            facility: "f".into(),
            epoch_us: base.epoch_us,
            speed: 2.0,
            baseline,
            truth,
            devices: vec![tally],
        }
    }

    fn answers() -> Answers {
        // Wall time runs at half the world's speed: 10 s in the world are 5 s.
        let at = rfc3339(TimeBase::fixed().epoch_us + 5_500_000);
        let movement = json!({"slot": "A-01", "sku": "TEA", "delta": -2, "level_after": 8,
            "cause": "reading", "at": at, "device": "h1", "boot": "b", "seq": 1});
        Answers {
            movements: vec![movement],
            stock: vec![json!({"slot": "A-01", "sku": "TEA", "quantity": 8})],
            ledger: [("h1".to_owned(), LedgerRow { journaled: 7, duplicate: 1 })].into(),
            ..Answers::default()
        }
    }

    #[test]
    fn a_hub_that_kept_its_promises() {
        let verdict = judge(&played(), &answers(), Window::default());
        assert!(verdict.is_right(), "{verdict:?}");
        assert_eq!((verdict.acknowledged, verdict.in_ledger, verdict.lost), (1, 1, 0));
        assert_eq!((verdict.score.f1, verdict.score.delay_p50_ms), (1.0, 500.0));
    }

    #[test]
    fn a_lost_reading_a_double_and_a_wrong_level_are_found_and_named() {
        let mut lost = answers();
        lost.ledger.clear();
        lost.movements.clear();
        let verdict = judge(&played(), &lost, Window::default());
        assert_eq!((verdict.lost, verdict.unbooked), (1, 1));
        assert!(!verdict.is_right() && verdict.troubles[0].starts_with("h1: 1 readings"));
        let mut twice = answers();
        twice.movements.push(twice.movements[0].clone());
        twice.stock[0]["quantity"] = json!(6);
        let verdict = judge(&played(), &twice, Window::default());
        assert_eq!((verdict.counted_twice, verdict.score.levels_unexplained()), (1, 1));
        assert!(verdict.troubles.iter().any(|t| t == "A-01 TEA: 8 units, the hub says 6"));
    }
}
