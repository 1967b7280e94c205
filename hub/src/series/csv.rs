//! Annotated CSV, in which InfluxDB answers queries.
//!
//! Tables follow one another, each with annotation rows (`#datatype`, `#group`, `#default`), a header row and its rows; an empty
//! row, or the next annotation, ends a table. An error is a table with the columns `error` and `reference`. An answer that breaks off
//! inside a quoted value, or whose rows do not fit their header, is refused: half an answer would be told as the whole.

use std::collections::BTreeMap;

/// Why an answer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// It ends inside a quoted value.
    #[error("the answer breaks off inside a quoted value")]
    Cut,
    /// A row is not as long as its header.
    #[error("row {0} of the answer does not fit its header")]
    Ragged(usize),
    /// The server says that the query failed.
    #[error("the query failed: {0}")]
    Failed(String),
}

/// One row: values by column.
pub type Row = BTreeMap<String, String>;

/// All rows of all tables, each with the name of its result in column `result`.
pub fn rows(text: &str) -> Result<Vec<Row>, CsvError> {
    let mut found = Vec::new();
    let (mut header, mut defaults): (Option<Vec<String>>, Vec<String>) = (None, Vec::new());
    for (number, cells) in cells(text)?.into_iter().enumerate() {
        if cells.iter().all(String::is_empty) {
            (header, defaults) = (None, Vec::new());
            continue;
        }
        if let Some(annotation) = cells.first().filter(|cell| cell.starts_with('#')) {
            header = None;
            if annotation == "#default" {
                defaults = cells;
            }
            continue;
        }
        let Some(names) = &header else {
            header = Some(cells);
            continue;
        };
        if names.len() != cells.len() {
            return Err(CsvError::Ragged(number + 1));
        }
        let row: Row = names
            .iter()
            .zip(cells)
            .enumerate()
            .map(|(i, (name, cell))| {
                let default = defaults.get(i).filter(|_| cell.is_empty() && i > 0);
                (name.clone(), default.cloned().unwrap_or(cell))
            })
            .collect();
        if let (Some(error), true) = (row.get("error"), row.contains_key("reference")) {
            return Err(CsvError::Failed(error.clone()));
        }
        found.push(row);
    }
    Ok(found)
}

/// Rows of cells, by RFC 4180.
fn cells(text: &str) -> Result<Vec<Vec<String>>, CsvError> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.is_empty() => quoted = true,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    if quoted {
        return Err(CsvError::Cut);
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "#datatype,string,long,dateTime:RFC3339,double,string\r\n\
        #group,false,false,false,false,true\r\n#default,number,,,,\r\n\
        ,result,table,_time,_value,name\r\n\
        ,,0,2026-11-23T12:00:00Z,21.5,\"a,\"\"b\"\"\nc\"\r\n\r\n\
        #datatype,string,long,dateTime:RFC3339,string,string\r\n#group,false,false,false,false,true\r\n#default,text,,,,\r\n\
        ,result,table,_time,_value,name\r\n,,0,2026-11-23T12:00:00Z,on,d\r\n\r\n";

    #[test]
    fn reads_tables_with_their_defaults() {
        let rows = rows(TWO).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((&*rows[0]["result"], &*rows[0]["name"]), ("number", "a,\"b\"\nc"));
        assert_eq!((&*rows[1]["result"], &*rows[1]["_value"]), ("text", "on"));
        assert_eq!(super::rows("\r\n").unwrap(), Vec::<Row>::new());
    }

    #[test]
    fn half_an_answer_is_none() {
        let cut = TWO.find("b\"\"\nc").unwrap();
        assert_eq!(rows(&TWO[..cut]), Err(CsvError::Cut));
        let ragged = TWO.find(",d\r\n").unwrap();
        assert!(matches!(rows(&TWO[..ragged]), Err(CsvError::Ragged(_))));
        let failed = "#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n,error,reference\r\n,no such bucket,897\r\n";
        assert_eq!(rows(failed), Err(CsvError::Failed("no such bucket".into())));
    }
}
