//! Readings of a device's sensors: as they came, in buckets, or what was last known at a time.
//!
//! One path, because it is one question with more or less detail. Whichever store keeps them answers it, from roll-ups where
//! it has them. Buckets are whole: `from` is moved down and `to` up to the next border, so that the same bucket has the same
//! figures whatever range it is seen in.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    accounts::{cursor_time, time},
    limits::{BUCKET_SECONDS_MAX, BUCKETS_DEFAULT, BUCKETS_MAX},
    master::ListQuery,
    problem::Problem,
    request::{Page, Paging, Query, bad_cursor},
};
use crate::{
    series::{Ask, Key},
    store::{
        refused::RefusedRow,
        told::{BucketRow, ReadingRow},
        when::When,
    },
};

type Answer = Result<HttpResponse, Problem>;

/// Which readings of a device.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadingQuery {
    /// Of this series.
    name: Option<String>,
    /// From this time on, RFC 3339.
    from: Option<String>,
    /// Before this time, RFC 3339.
    to: Option<String>,
    /// Numbers in buckets of this length, such as `30s`, `1m`, `1h` or `1d`, up to `31d`. Without `from` the newest 1000
    /// buckets; a range has at most 20000.
    every: Option<String>,
    /// Instead of a range: the last reading of each series at this time, RFC 3339, or up to 31 days before it.
    at: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Items wanted, 1 to 1000.
    limit: Option<u32>,
}

/// Readings that the series store would never take, with what it said, newest first. The newest 10,000 are kept; what was said is
/// also in the journal, as far as that goes back.
#[utoipa::path(get, path = "/api/v1/readings/refused", tag = "devices", params(ListQuery), responses((status = 200, body = Page<RefusedRow>)))]
pub async fn refused(api: web::Data<Api>, query: Query<ListQuery>) -> Answer {
    let paging: Paging<1> = query.0.paging()?;
    let before = match &paging.after {
        Some([id]) => Some(id.parse().map_err(|_| bad_cursor())?),
        None => None,
    };
    let rows = api.desk.store.list_refused(before, paging.fetch()).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |row| [row.id.to_string()])))
}

/// One item: a bucket when `every` was asked for, else a reading.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum SeriesItem {
    /// A reading as it came.
    Reading(ReadingRow),
    /// The numbers of a span of time.
    Bucket(BucketRow),
}

impl SeriesItem {
    /// Its place in the list.
    fn key(&self) -> [String; 3] {
        let (at, tie, name) = match self {
            Self::Reading(row) => (row.at, row.tie, &row.name),
            Self::Bucket(row) => (row.at, 0, &row.name),
        };
        [at.0.to_string(), tie.to_string(), name.clone()]
    }
}

/// Readings of a device's series, newest first; with `at` by name.
#[utoipa::path(get, path = "/api/v1/devices/{device}/readings", tag = "devices", params(("device" = String, Path), ReadingQuery), responses((status = 200, body = Page<SeriesItem>)))]
pub async fn list(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Query<ReadingQuery>,
) -> Answer {
    let query = query.0;
    let paging = Paging::<3>::read(query.cursor.as_deref(), query.limit)?;
    let beyond = match &paging.after {
        Some([at, tie, name]) => Some(Key {
            at_us: cursor_time(at)?.0,
            tie: tie.parse().map_err(|_| bad_cursor())?,
            name: name.clone(),
        }),
        None => None,
    };
    api.device_known(Some(&path)).await?;
    let us = |when: Option<When>| when.map(|when| when.0);
    let mut ask = Ask {
        device: path.into_inner(),
        name: query.name.clone(),
        from_us: us(time("from", query.from.as_deref())?),
        to_us: us(time("to", query.to.as_deref())?),
        beyond,
        limit: paging.limit + 1,
    };
    if holds_nul(&ask.device) || ask.name.as_deref().is_some_and(holds_nul) {
        let detail = "A name with a NUL in it names nothing. Send the name as it is told.";
        return Err(Problem::invalid("name", detail));
    }
    let series = &api.desk.series;
    let items: Vec<SeriesItem> = match (&query.every, time("at", query.at.as_deref())?) {
        (every, Some(at)) => {
            let others = [
                ("every", every.is_some()),
                ("from", ask.from_us.is_some()),
                ("to", ask.to_us.is_some()),
                ("cursor", ask.beyond.is_some()),
            ];
            if let Some((other, _)) = others.iter().find(|(_, given)| *given) {
                let detail = format!(
                    "`at` asks for one time and goes with no `{other}`. Leave one of them out."
                );
                return Err(Problem::invalid("at", detail));
            }
            ask.limit = paging.limit;
            series.last(&ask, at.0).await?.into_iter().map(SeriesItem::Reading).collect()
        }
        (Some(every), None) => {
            let every_s = seconds(every)?;
            whole_buckets(&mut ask, every_s, api.desk.now_us())?;
            series.buckets(&ask, every_s).await?.into_iter().map(SeriesItem::Bucket).collect()
        }
        (None, None) => series.readings(&ask).await?.into_iter().map(SeriesItem::Reading).collect(),
    };
    Ok(HttpResponse::Ok().json(Page::of(items, &paging, SeriesItem::key)))
}

fn holds_nul(text: &str) -> bool {
    text.contains('\0')
}

/// Reads a length such as `15m`.
fn seconds(text: &str) -> Result<i64, Problem> {
    let bad = || {
        let detail = format!(
            "{text:?} is not a length of a bucket. Write a whole number with s, m, h or d, from 1s to 31d, such as 15m."
        );
        Problem::invalid("every", detail)
    };
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => 86_400,
        Some(_) | None => return Err(bad()),
    };
    let digits = &text[..text.len() - 1];
    let number: i64 = digits.parse().map_err(|_| bad())?;
    let seconds = number.checked_mul(unit).ok_or_else(bad)?;
    if digits.starts_with('+') || !(1..=BUCKET_SECONDS_MAX).contains(&seconds) {
        return Err(bad());
    }
    Ok(seconds)
}

/// Moves the range to borders of buckets, and refuses one with too many of them.
fn whole_buckets(ask: &mut Ask, every_s: i64, now_us: i64) -> Result<(), Problem> {
    let every_us = every_s * 1_000_000;
    let up = |us: i64| us.div_euclid(every_us).saturating_add(1).saturating_mul(every_us);
    let to = match ask.to_us {
        Some(us) if us.rem_euclid(every_us) == 0 => us,
        Some(us) => up(us),
        None => up(now_us),
    };
    let from = match ask.from_us {
        Some(us) => us.div_euclid(every_us).saturating_mul(every_us),
        None => to.saturating_sub(every_us.saturating_mul(BUCKETS_DEFAULT)),
    };
    let buckets = to.saturating_sub(from) / every_us;
    if buckets > BUCKETS_MAX {
        let detail = format!(
            "From `from` to `to` there are {buckets} buckets of {every_s} s; {BUCKETS_MAX} are possible. Ask for longer buckets or \
             a shorter range."
        );
        return Err(Problem::invalid("every", detail));
    }
    (ask.from_us, ask.to_us) = (Some(from), Some(to));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_whole_and_bounded() {
        for (text, told) in [("1s", 1), ("15m", 900), ("1h", 3_600), ("31d", 31 * 86_400)] {
            assert_eq!(seconds(text).unwrap(), told);
        }
        for text in ["", "m", "0s", "-1m", "+1m", "1.5h", "32d", "1w", "9223372036854775807d", "1é"]
        {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_are_whole_buckets_and_not_too_many() {
        let ask = |from_us, to_us| Ask { from_us, to_us, ..Ask::default() };
        let mut inner = ask(Some(61_000_000), Some(119_000_001));
        whole_buckets(&mut inner, 60, 0).unwrap();
        assert_eq!((inner.from_us, inner.to_us), (Some(60_000_000), Some(120_000_000)));
        let mut open = ask(None, None);
        whole_buckets(&mut open, 60, 30_000_000).unwrap();
        assert_eq!(open.to_us, Some(60_000_000));
        assert!(whole_buckets(&mut ask(Some(i64::MIN), Some(i64::MAX)), 1, 0).is_err());
        assert!(whole_buckets(&mut ask(Some(0), None), 1, 86_400_000_000).is_err());
    }
}
