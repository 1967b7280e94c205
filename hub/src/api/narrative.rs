//! The rule behind a movement in sentences, from the numbers the fold wrote down.
//!
//! The numbers are read as JSON rather than as the fold's types, because movements of older versions must still be told.

use serde_json::Value;

use super::{explain::ScannedBy, tag_name::TagIdentity};
use crate::store::{tags::TagEvent, told::MovementTold, when::When};

/// What happened, one sentence a step.
pub fn narrative(
    movement: &MovementTold,
    why: Option<&Value>,
    operator: Option<&ScannedBy>,
) -> Vec<String> {
    let mut told = Vec::new();
    let rule = why.and_then(|why| why["rule"].as_str()).unwrap_or("declared");
    let number = |name: &str| why.and_then(|why| why[name].as_i64());
    match rule {
        "plateau" | "first_plateau" => {
            told.extend(why.map(|why| plateau(why, movement.delta)).unwrap_or_default())
        }
        "scanned" => {
            let code = why.and_then(|why| why["code"].as_str()).unwrap_or("?");
            told.push(format!("The code {code} was scanned; it belongs to SKU {}.", movement.sku));
        }
        "commanded" => {
            told.push(commanded(movement, why.and_then(|why| why["reference"].as_str())))
        }
        "counted" => {
            let counted = number("counted").unwrap_or(0);
            let (had, since) = (number("had").unwrap_or(0), number("since").unwrap_or(0));
            told.push(format!(
                "{} counted {counted}; the hub had {had} at that time.",
                who(movement)
            ));
            let ago = number("age_us").unwrap_or(0) / 1_000_000;
            if ago > 0 {
                told.push(format!(
                    "The count lay {ago} s back; {since:+} moved since then and stays on top."
                ));
            }
        }
        "tared" => {
            let gross = number("gross_mg").unwrap_or(0);
            told.push(format!(
                "{} declared the cell empty at a gross reading of {}: that is its new zero.",
                who(movement),
                grams(gross)
            ));
        }
        "tag" => told.extend(why.map(|why| tag(&Told::of_rule(why))).unwrap_or_default()),
        _ => told.push(match &movement.device {
            Some(device) => format!("Device {device} itself declared this change."),
            None => format!("{} declared this change.", who(movement)),
        }),
    }
    told.extend(operator.map(|operator| operated(movement, operator)));
    let (delta, after) = (movement.delta, movement.level_after);
    let sure = movement.confidence * 100.0;
    told.push(match delta {
        0 => format!("The line stays at {after}, with a confidence of {sure:.0} %."),
        _ => format!("The line changed by {delta:+} to {after}, with a confidence of {sure:.0} %."),
    });
    told
}

/// What was told of a tag, one sentence a step.
pub fn of_tag(event: &TagEvent) -> Vec<String> {
    tag(&Told {
        change: &event.kind,
        tag: &event.tag,
        from: event.from.as_ref(),
        to: event.to.as_ref(),
        how: event.how.as_deref(),
        elsewhere: event.elsewhere.as_deref(),
        probability: event.probability,
        last_read: event.last_read,
        reads: event.reads.len(),
    })
}

/// What became of a tag, whoever wrote it down.
struct Told<'a> {
    change: &'a str,
    tag: &'a str,
    from: Option<&'a Value>,
    to: Option<&'a Value>,
    how: Option<&'a str>,
    elsewhere: Option<&'a str>,
    probability: f64,
    last_read: Option<When>,
    reads: usize,
}

impl<'a> Told<'a> {
    fn of_rule(why: &'a Value) -> Self {
        let place = |name: &str| why.get(name).filter(|place| place.is_object());
        Self {
            change: why["change"].as_str().unwrap_or("?"),
            tag: why["tag"].as_str().unwrap_or("?"),
            from: place("from"),
            to: place("to"),
            how: why["how"].as_str(),
            elsewhere: why["elsewhere"].as_str(),
            probability: why["probability"].as_f64().unwrap_or(0.0),
            last_read: why["last_read_us"].as_i64().map(When),
            reads: why["reads"].as_array().map_or(0, Vec::len),
        }
    }
}

fn tag(told: &Told<'_>) -> Vec<String> {
    let identity = TagIdentity::of(told.tag);
    let name = match identity.name() {
        Some(name) => format!("Tag {} ({name})", told.tag),
        None => format!("Tag {}", told.tag),
    };
    let from = told.from.map_or_else(|| "an unknown place".to_owned(), place);
    let to = told.to.map_or_else(|| "an unknown place".to_owned(), place);
    let mut lines = vec![match told.change {
        "arrived" => format!("{name} was not here before and arrived at {to}."),
        "returned" => format!("{name} was here before and came back to {to}."),
        "moved" => format!("{name} moved from {from} to {to}."),
        "departed" => format!("{name} departed from {from}: {}.", departed(told)),
        other => format!("{name}: {other}."),
    }];
    let sure = told.probability * 100.0;
    lines.push(match (told.change, told.how) {
        ("departed", Some("silence" | "exit")) => {
            format!("That it is there no more has a probability of {sure:.1} %.")
        }
        ("departed", _) => format!("It had been there with a probability of {sure:.1} %."),
        _ => format!("That it is there has a probability of {sure:.1} %."),
    });
    if let Some(at) = told.last_read {
        let at = device_profiles::time::format_rfc3339_us(at.0);
        let reads = match told.reads {
            0 => "no read is kept".to_owned(),
            1 => "the read is below, as its reader sent it".to_owned(),
            many => format!("its last {many} reads are below, as its reader sent them"),
        };
        lines.push(format!("It was read last at {at}; {reads}."));
    }
    lines
}

fn departed(told: &Told<'_>) -> String {
    match told.how {
        Some("silence") => {
            "its reader listened and heard it no more, for longer than one that is there is silent"
                .to_owned()
        }
        Some("exit") => "it went through the door, by how it was heard outside and inside, and then inside no more".to_owned(),
        Some("sale") => "it passed the point of sale and fell silent".to_owned(),
        Some("elsewhere") => {
            format!("facility {} has it now", told.elsewhere.unwrap_or("?"))
        }
        Some("declared") => "somebody said so".to_owned(),
        Some(other) => other.to_owned(),
        None => "nobody said how".to_owned(),
    }
}

/// A place in words: zone, slot, antenna of a reader.
fn place(place: &Value) -> String {
    let text = |name: &str| place[name].as_str();
    let slot = text("slot").map(|slot| format!(", slot {slot}")).unwrap_or_default();
    format!(
        "zone {}{slot} (antenna {} of reader {})",
        text("zone").unwrap_or("?"),
        place["antenna"].as_u64().unwrap_or(0),
        text("device").unwrap_or("?")
    )
}

fn who(movement: &MovementTold) -> String {
    match (&movement.principal, &movement.device) {
        (Some(name), _) => format!("Caller {name}"),
        (None, Some(device)) => format!("Device {device}"),
        (None, None) => "Somebody".to_owned(),
    }
}

/// Who had the scanner, and since which of its scans.
fn operated(movement: &MovementTold, operator: &ScannedBy) -> String {
    let ScannedBy { who, since_seq } = operator;
    match since_seq {
        Some(since) if movement.seq == Some(*since) => {
            format!("Operator {who} had the scanner; this is the first scan since.")
        }
        Some(since) => format!("Operator {who} had the scanner, since its scan {since}."),
        None => format!("Operator {who} had the scanner."),
    }
}

fn commanded(movement: &MovementTold, reference: Option<&str>) -> String {
    let what = match movement.cause.as_str() {
        "receipt" => "booked a receipt",
        "pick" => "booked a pick",
        "move" => "moved goods",
        "adjustment" => "changed the stock by hand",
        _ => "changed the stock",
    };
    match reference {
        Some(reference) => format!("{} {what}: {reference}.", who(movement)),
        None => format!("{} {what}.", who(movement)),
    }
}

fn plateau(why: &Value, delta: i64) -> Vec<String> {
    let number = |name: &str| why[name].as_i64().unwrap_or(0);
    let channel = why["channel"].as_str().unwrap_or("?");
    let (after, unit) = (number("after_mg"), number("unit_mg"));
    let mut told = Vec::new();
    let samples = number("samples");
    match why["before_mg"].as_i64() {
        Some(before) => {
            told.push(format!(
                "Cell {channel} settled at {} over {samples} samples; it had settled at {} before.",
                grams(after),
                grams(before)
            ));
            told.push(format!(
                "The difference of {} is {:+} units of {} with {} left over; the expected error is {}.",
                grams(after.saturating_sub(before)),
                delta,
                grams(unit),
                grams(number("residual_mg")),
                grams(number("sigma_mg"))
            ));
        }
        None => told.push(format!(
            "Cell {channel} settled for the first time, at {} net over {samples} samples; a unit has {}.",
            grams(after),
            grams(unit)
        )),
    }
    let scale = number("scale_ppm");
    if number("calibration") > 0 || !matches!(scale, 0 | 1_000_000) {
        told.push(format!(
            "A mass here is what the cell shows less its zero of {}, times {}: its calibration.",
            grams(number("zero_mg")),
            scale as f64 / 1_000_000.0
        ));
    }
    let posterior = why["posterior"].as_f64().unwrap_or(0.0) * 100.0;
    let next = why["runner_up"]
        .as_array()
        .and_then(|pair| Some((pair.first()?.as_i64()?, pair.get(1)?.as_f64()?)));
    told.push(match next {
        Some((count, p)) => format!(
            "This count is right with a probability of {posterior:.1} %; the next best, {count}, has {:.1} %.",
            p * 100.0
        ),
        None => format!("This count is right with a probability of {posterior:.1} %."),
    });
    told.push(format!("By absolute mass alone the slot would hold {}.", number("absolute")));
    told
}

/// Milligrams as grams.
fn grams(mg: i64) -> String {
    let sign = if mg < 0 { "-" } else { "" };
    let (whole, part) = (mg.unsigned_abs() / 1_000, mg.unsigned_abs() % 1_000);
    if part == 0 {
        return format!("{sign}{whole} g");
    }
    let part = format!("{part:03}");
    format!("{sign}{whole}.{} g", part.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::when::When;

    fn movement(cause: &str, device: Option<&str>) -> MovementTold {
        MovementTold {
            id: "1-0-8-0".into(),
            facility: "f1".into(),
            slot: "s1".into(),
            sku: "cola".into(),
            delta: -2,
            level_after: 5,
            cause: cause.into(),
            confidence: 0.987,
            at: When(0),
            device: device.map(str::to_owned),
            boot: None,
            seq: None,
            principal: device.is_none().then(|| "token".to_owned()),
            fold_version: 1,
            correlation: "1-0-8".into(),
        }
    }

    #[test]
    fn a_plateau_is_told_with_its_numbers() {
        let why = serde_json::json!({
            "rule": "plateau", "channel": "0", "before_mg": 1_000_500, "after_mg": 340_500, "unit_mg": 330_000,
            "sigma_mg": 1_200, "residual_mg": 0, "samples": 5, "posterior": 0.987, "runner_up": [-3, 0.01],
            "absolute": 5, "zero_mg": 0, "scale_ppm": 1_000_000, "calibration": 0,
        });
        let told = narrative(&movement("weight", Some("scale")), Some(&why), None).join(" ");
        for part in [
            "1000.5 g",
            "340.5 g",
            "-660 g",
            "330 g",
            "1.2 g",
            "98.7 %",
            "-3",
            "changed by -2 to 5",
        ] {
            assert!(told.contains(part), "{part} is not in: {told}");
        }
    }

    #[test]
    fn the_operator_of_a_scan_is_named() {
        let why = serde_json::json!({"rule": "scanned", "code": "400"});
        let scan = MovementTold { seq: Some(9), ..movement("scan", Some("s1")) };
        for (since_seq, part) in
            [(Some(7), "since its scan 7."), (Some(9), "the first scan since"), (None, "scanner.")]
        {
            let operator = ScannedBy { who: "ann".into(), since_seq };
            let told = narrative(&scan, Some(&why), Some(&operator)).join(" ");
            assert!(told.contains("Operator ann had the scanner") && told.contains(part), "{told}");
        }
    }

    #[test]
    fn a_calibration_is_told() {
        let why = serde_json::json!({
            "rule": "first_plateau", "channel": "0", "before_mg": null, "after_mg": 400_000, "unit_mg": 100_000,
            "sigma_mg": 500, "residual_mg": 0, "samples": 4, "posterior": 1.0, "runner_up": null,
            "absolute": 4, "zero_mg": 1_200_000, "scale_ppm": 2_000_000, "calibration": 4_096,
        });
        let told = narrative(&movement("weight", Some("scale")), Some(&why), None).join(" ");
        assert!(told.contains("less its zero of 1200 g, times 2"), "{told}");
    }

    #[test]
    fn every_way_to_depart_is_told() {
        for (how, elsewhere, part) in [
            ("silence", None, "heard it no more"),
            ("exit", None, "through the door"),
            ("sale", None, "point of sale"),
            ("elsewhere", Some("f2"), "facility f2 has it now"),
            ("declared", None, "somebody said so"),
        ] {
            let why = serde_json::json!({
                "change": "departed", "tag": "E200", "how": how, "elsewhere": elsewhere, "probability": 0.96,
                "from": {"zone": "back", "device": "r1", "antenna": 1, "slot": null}, "reads": [],
            });
            let told = tag(&Told::of_rule(&why)).join(" ");
            assert!(
                told.starts_with("Tag E200 departed from zone back") && told.contains(part),
                "{told}"
            );
        }
    }

    #[test]
    fn every_rule_is_told() {
        for (cause, why, part) in [
            ("reading", None, "Device h1 itself"),
            ("scan", Some(serde_json::json!({"rule": "scanned", "code": "400"})), "code 400"),
            ("pick", Some(serde_json::json!({"rule": "commanded", "reference": "o-7"})), "o-7"),
            (
                "count",
                Some(
                    serde_json::json!({"rule": "counted", "counted": 5, "had": 7, "since": 1, "age_us": 9_000_000}),
                ),
                "9 s back",
            ),
            ("tare", Some(serde_json::json!({"rule": "tared", "gross_mg": 12_050})), "12.05 g"),
            (
                "rfid",
                Some(serde_json::json!({
                    "rule": "tag", "change": "moved", "tag": "3074257BF7194E4000001A85",
                    "from": {"zone": "back", "device": "r1", "antenna": 1, "slot": null},
                    "to": {"zone": "floor", "device": "r1", "antenna": 2, "slot": "A-1"},
                    "how": null, "elsewhere": null, "probability": 0.9951, "last_read_us": 0, "reads": [64, 128],
                })),
                "(urn:epc:id:sgtin:0614141.812345.6789) moved from zone back (antenna 1 of reader r1) to zone floor, slot A-1 \
                 (antenna 2 of reader r1). That it is there has a probability of 99.5 %. It was read last at \
                 1970-01-01T00:00:00Z; its last 2 reads are below, as its reader sent them.",
            ),
            ("weight", Some(serde_json::json!({"rule": "of a later version"})), "declared"),
        ] {
            let told = narrative(&movement(cause, Some("h1")), why.as_ref(), None).join(" ");
            assert!(told.contains(part), "{part} is not in: {told}");
        }
    }
}
