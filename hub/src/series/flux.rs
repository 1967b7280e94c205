//! The queries that read series back from InfluxDB, and what their answers mean. Nothing else of the hub knows Flux.
//!
//! Every text of a caller is a quoted literal. Numbers and texts are fields of different types, which Flux cannot put into
//! one table, so they are two results, merged here. Lists are cut to the limit by the server and again here.

use std::{collections::BTreeMap, fmt::Write};

use device_profiles::time::{format_rfc3339_us, parse_rfc3339_us};

use super::{
    Ask, DAY_US, Key, LOOK_BACK_DAYS_MAX, SeriesFault,
    csv::{self, CsvError, Row},
    line::{MEASUREMENT, NUMBER_FIELD, TEXT_FIELD, time_ns},
};
use crate::store::{
    told::{BucketRow, ReadingRow},
    when::When,
};

/// What a bucket is made of: the name of the result, which is Flux's function too.
const AGGREGATES: [&str; 5] = ["count", "min", "max", "sum", "last"];

/// Writes the queries of an ask.
#[derive(Debug, Clone, Copy)]
pub struct Flux<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// What is wanted.
    pub ask: &'a Ask,
}

impl Flux<'_> {
    /// Readings as they came.
    pub fn readings(&self) -> String {
        let stop = self.ask.to_us.map_or(i64::MAX, |us| time_ns(us, 0));
        let mut flux = self.all(self.ask.from_us.map_or(0, |us| time_ns(us, 0)), stop);
        for (field, result) in [(NUMBER_FIELD, "number"), (TEXT_FIELD, "text")] {
            let _ = write!(flux, "all\n  |> filter(fn: (r) => r._field == {})\n", literal(field));
            self.list(result, &mut flux);
        }
        flux
    }

    /// Buckets of numbers.
    pub fn buckets(&self, every_s: i64) -> String {
        let every_ns = every_s.saturating_mul(1_000_000_000);
        let mut stop = self.ask.to_us.map_or(i64::MAX, |us| time_ns(us, 0));
        if let Some(beyond) = &self.ask.beyond {
            stop = stop.min(time_ns(beyond.at_us, 0).saturating_add(every_ns));
        }
        let mut flux = self.all(self.ask.from_us.map_or(0, |us| time_ns(us, 0)), stop);
        let field = literal(NUMBER_FIELD);
        let _ = writeln!(flux, "numbers = all\n  |> filter(fn: (r) => r._field == {field})");
        for aggregate in AGGREGATES {
            let _ = write!(
                flux,
                "numbers\n  |> aggregateWindow(every: {every_s}s, fn: {aggregate}, createEmpty: false, timeSrc: \"_start\")\n"
            );
            self.list(aggregate, &mut flux);
        }
        flux
    }

    /// The last reading of each series.
    pub fn last(&self, at_us: i64) -> String {
        let start = time_ns(at_us.saturating_sub(LOOK_BACK_DAYS_MAX * DAY_US), 0);
        // Ties of the microsecond asked for are in it.
        let mut flux = self.all(start, time_ns(at_us.saturating_add(1), 0));
        for (field, result) in [(NUMBER_FIELD, "number"), (TEXT_FIELD, "text")] {
            let _ = write!(
                flux,
                "all\n  |> filter(fn: (r) => r._field == {})\n  |> last()\n  |> group()\n  \
                 |> keep(columns: [\"_time\", \"_value\", \"name\"])\n  |> yield(name: {})\n",
                literal(field),
                literal(result)
            );
        }
        flux
    }

    /// `all` is every point of the device, and of the name when one is asked for.
    fn all(&self, start_ns: i64, stop_ns: i64) -> String {
        let mut flux = format!(
            "all = from(bucket: {})\n  |> range(start: {}, stop: {})\n  \
             |> filter(fn: (r) => r._measurement == {} and r.device == {}",
            literal(self.bucket),
            time(start_ns),
            time(stop_ns.max(start_ns.saturating_add(1))),
            literal(MEASUREMENT),
            literal(&self.ask.device)
        );
        if let Some(name) = &self.ask.name {
            let _ = write!(flux, " and r.name == {}", literal(name));
        }
        flux.push_str(")\n");
        flux
    }

    /// The end of a list: in order, beyond the page before, cut, named.
    fn list(&self, result: &str, flux: &mut String) {
        flux.push_str("  |> group()\n");
        if let Some(Key { at_us, tie, name }) = &self.ask.beyond {
            let (at, name) = (time(time_ns(*at_us, *tie)), literal(name));
            let _ = writeln!(
                flux,
                "  |> filter(fn: (r) => r._time < {at} or (r._time == {at} and r.name < {name}))"
            );
        }
        let _ = write!(
            flux,
            "  |> sort(columns: [\"_time\", \"name\"], desc: true)\n  |> limit(n: {})\n  \
             |> keep(columns: [\"_time\", \"_value\", \"name\"])\n  |> yield(name: {})\n",
            self.ask.limit,
            literal(result)
        );
    }
}

/// A text as a Flux literal: quotes, backslashes, interpolation and what does not print are escaped.
fn literal(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // `${` would begin an expression.
            '$' => out.push_str("\\x24"),
            c if c.is_control() => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A time as a Flux literal, to the nanosecond. Flux knows times from 1677 to 2262.
fn time(ns: i64) -> String {
    let whole = format_rfc3339_us(ns.div_euclid(1_000_000_000).saturating_mul(1_000_000));
    let whole = whole.trim_end_matches('Z');
    format!("{whole}.{:09}Z", ns.rem_euclid(1_000_000_000))
}

/// Reads a time of an answer: microseconds, and the tie below.
fn read_time(text: &str) -> Option<(i64, u16)> {
    let at_us = parse_rfc3339_us(text)?;
    let digits = text.split_once('.').map_or("", |(_, rest)| rest);
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    let below = digits.get(6..).unwrap_or("");
    let tie = format!("{below:0<3}").get(..3)?.parse().ok()?;
    Some((at_us, tie))
}

fn broken(what: impl std::fmt::Display) -> SeriesFault {
    SeriesFault::Broken(format!("InfluxDB's answer cannot be read: {what}"))
}

impl From<CsvError> for SeriesFault {
    fn from(error: CsvError) -> Self {
        match error {
            // A body that ends early is a connection that broke.
            CsvError::Cut | CsvError::Ragged(_) => Self::away(error.to_string()),
            CsvError::Failed(_) => broken(error),
        }
    }
}

/// Time, tie, name and value of a row.
fn row(row: &Row) -> Result<(i64, u16, &str, &str), SeriesFault> {
    let cell = |name: &str| row.get(name).map(String::as_str);
    let time = cell("_time").ok_or_else(|| broken("a row without _time"))?;
    let (at_us, tie) = read_time(time).ok_or_else(|| broken(format!("time {time:?}")))?;
    let value = cell("_value").ok_or_else(|| broken("a row without _value"))?;
    Ok((at_us, tie, cell("name").unwrap_or_default(), value))
}

fn number(text: &str) -> Result<f64, SeriesFault> {
    text.parse().map_err(|_| broken(format!("number {text:?}")))
}

fn all_readings(answer: &str, ask: &Ask) -> Result<Vec<ReadingRow>, SeriesFault> {
    let mut found = Vec::new();
    for told in csv::rows(answer)? {
        let (at_us, tie, name, value) = row(&told)?;
        let is_text = told.get("result").is_some_and(|result| result == "text");
        found.push(ReadingRow {
            at: When(at_us),
            tie: tie.cast_signed(),
            device: ask.device.clone(),
            name: name.to_owned(),
            value: if is_text { None } else { Some(number(value)?) },
            text: is_text.then(|| value.to_owned()),
        });
    }
    Ok(found)
}

/// The answer to [`Flux::readings`].
pub fn readings(answer: &str, ask: &Ask) -> Result<Vec<ReadingRow>, SeriesFault> {
    let mut found = all_readings(answer, ask)?;
    found.sort_by(|a, b| (b.at, b.tie, &b.name).cmp(&(a.at, a.tie, &a.name)));
    found.truncate(ask.limit);
    Ok(found)
}

/// The answer to [`Flux::last`].
pub fn last(answer: &str, ask: &Ask) -> Result<Vec<ReadingRow>, SeriesFault> {
    let mut newest: BTreeMap<String, ReadingRow> = BTreeMap::new();
    for row in all_readings(answer, ask)? {
        let newer =
            newest.get(&row.name).is_none_or(|known| (known.at, known.tie) < (row.at, row.tie));
        if newer {
            newest.insert(row.name.clone(), row);
        }
    }
    Ok(newest.into_values().take(ask.limit).collect())
}

/// The answer to [`Flux::buckets`].
pub fn buckets(answer: &str, ask: &Ask) -> Result<Vec<BucketRow>, SeriesFault> {
    let mut found: BTreeMap<(i64, String), [Option<f64>; AGGREGATES.len()]> = BTreeMap::new();
    for told in csv::rows(answer)? {
        let (at_us, _, name, value) = row(&told)?;
        let result = told.get("result").map(String::as_str).unwrap_or_default();
        let place = AGGREGATES.iter().position(|aggregate| *aggregate == result);
        let place = place.ok_or_else(|| broken(format!("result {result:?}")))?;
        found.entry((at_us, name.to_owned())).or_default()[place] = Some(number(value)?);
    }
    let mut rows = Vec::new();
    for ((at_us, name), values) in found.into_iter().rev().take(ask.limit) {
        let [Some(count), Some(min), Some(max), Some(sum), Some(last)] = values else {
            return Err(broken(format!("bucket {name:?} lacks a figure")));
        };
        rows.push(BucketRow {
            at: When(at_us),
            device: ask.device.clone(),
            name,
            count: count as i64,
            min,
            max,
            mean: sum / count,
            last,
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> Ask {
        Ask { device: "d1".into(), limit: 10, ..Ask::default() }
    }

    #[test]
    fn nothing_in_a_name_becomes_flux() {
        let name = "\") or true // ${r.device} \\ \n end";
        let ask = Ask { name: Some(name.into()), ..ask() };
        let flux = Flux { bucket: "b\"", ask: &ask }.readings();
        assert!(flux.starts_with(r#"all = from(bucket: "b\"")"#), "{flux}");
        assert!(
            flux.contains(r#"r.name == "\") or true // \x24{r.device} \\ \x0a end")"#),
            "{flux}"
        );
    }

    #[test]
    fn times_go_to_the_nanosecond_and_back() {
        let ns = time_ns(1_795_438_013_123_456, 7);
        assert_eq!(time(ns), "2026-11-23T12:46:53.123456007Z");
        assert_eq!(read_time(&time(ns)), Some((1_795_438_013_123_456, 7)));
        assert_eq!(read_time("2026-11-23T12:46:53Z"), Some((1_795_438_013_000_000, 0)));
        assert_eq!(read_time("2026-11-23T12:46:53.1234567Z").unwrap().1, 700);
    }

    #[test]
    fn a_bucket_with_a_figure_missing_is_refused() {
        let row = |result: &str| format!(",{result},0,2026-11-23T12:00:00Z,2,n\n");
        let whole: String = AGGREGATES.iter().map(|a| row(a)).collect();
        let head = ",result,table,_time,_value,name\n";
        let told = buckets(&format!("{head}{whole}"), &ask()).unwrap();
        assert_eq!((told.len(), told[0].count, told[0].mean), (1, 2, 1.0));
        assert!(buckets(&format!("{head}{}", row("count")), &ask()).is_err());
    }
}
