//! Dates of six digits, whose century is not written (GS1 General Specifications 7.12).

use time::Month;

use super::Gs1Error;

/// A date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Year.
    pub year: i32,
    /// Month, from 1.
    pub month: u8,
    /// Day, from 1; the last of the month when the code leaves it open with 00.
    pub day: u8,
}

/// Reads YYMMDD as it is meant in `this_year`: the century is the one that puts the year nearest, at most 50 years ahead and 49
/// back. Day 00 stands for the last day of the month.
pub fn date(text: &str, this_year: i32) -> Result<Date, Gs1Error> {
    let no = || Gs1Error::Date(text.to_owned());
    let number = |range: std::ops::Range<usize>| {
        text.get(range).and_then(|part| part.parse::<u8>().ok()).ok_or_else(no)
    };
    if text.len() != 6 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(no());
    }
    let (year, month, day) = (number(0..2)?, number(2..4)?, number(4..6)?);
    let century = this_year - this_year.rem_euclid(100);
    let ahead = i32::from(year) - this_year.rem_euclid(100);
    let year = century
        + i32::from(year)
        + match ahead {
            51.. => -100,
            -49..=50 => 0,
            _ => 100,
        };
    let name = Month::try_from(month).map_err(|_| no())?;
    let last = name.length(year);
    match day {
        0 => Ok(Date { year, month, day: last }),
        _ if day <= last => Ok(Date { year, month, day }),
        _ => Err(no()),
    }
}
