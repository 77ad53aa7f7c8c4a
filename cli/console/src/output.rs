//! How answers look: tables for people, one JSON object for programs.
//!
//! In JSON what is absent is `null`: [`json`] sees to it for texts, and [`json_count`] for numbers that begin at one.

use std::fmt;
use std::io::{self, Write};

use comfy_table::presets;
use serde::Serialize;
use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use crate::exit::Failure;
use crate::terminal;

/// Fewest columns that a value of a narrow table gets beside its heading.
const VALUE_COLUMNS_MIN: usize = 20;
/// Stands for a time that there is none of.
const NO_TIME: &str = "-";

/// Prints one JSON object on a line of its own. A text that is empty, or [`time`]'s sign for none, becomes `null`.
///
/// # Errors
/// As [`write()`].
pub fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let mut value = serde_json::to_value(value).map_err(anyhow::Error::from)?;
    absent_is_null(&mut value);
    verbatim(&value.to_string())
}

fn absent_is_null(value: &mut Value) {
    match value {
        Value::String(text) if text.is_empty() || text == NO_TIME => *value = Value::Null,
        Value::Array(values) => values.iter_mut().for_each(absent_is_null),
        Value::Object(members) => members.values_mut().for_each(absent_is_null),
        _ => {}
    }
}

/// Prints text for people with an end of line, broken between words where standard output is a terminal. Elsewhere, as in a
/// pipe, it is printed as it is.
///
/// # Errors
/// As [`write()`].
pub fn line(text: &str) -> Result<(), Failure> {
    match terminal::size(io::stdout()) {
        Some(size) => verbatim(&terminal::wrap(text, size.columns).join("\n")),
        None => verbatim(text),
    }
}

/// Prints what is copied from a screen as well as what programs read, such as a token or PEM, with an end of line.
///
/// # Errors
/// As [`write()`].
pub fn verbatim(text: &str) -> Result<(), Failure> {
    write(&format!("{text}\n"))
}

/// Writes to standard output at once.
///
/// # Errors
/// [`Failure::ReaderGone`] if nobody reads it any more, [`Failure::Failed`] if it cannot be written to.
pub fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::Failed(anyhow::anyhow!("cannot write to standard output: {error}")),
    })
}

/// Rows under headings. On a terminal that is too narrow for them each row becomes a block, a line for each heading.
#[derive(Debug)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A table without frames, with these headings.
pub fn table(headings: &[&str]) -> Table {
    Table {
        headings: headings.iter().map(|&heading| heading.to_owned()).collect(),
        rows: Vec::new(),
    }
}

impl Table {
    /// Adds a row, with a cell for each heading.
    pub fn add_row(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    /// The table as it fits into so many columns. `None` is where programs read: it is as wide as it is, and each row is one
    /// line.
    pub fn fitted(&self, columns: Option<usize>) -> String {
        let wide = self.wide(if columns.is_none() { "; " } else { "\n" });
        match columns {
            Some(columns) if wide.lines().any(|line| line.width() > columns) => {
                self.narrow(columns)
            }
            _ => wide,
        }
    }

    /// Each row beside its headings, with this between the lines of a cell.
    fn wide(&self, between: &str) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_header(&self.headings);
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| cell.lines().collect::<Vec<_>>().join(between)));
        }
        table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    fn narrow(&self, columns: usize) -> String {
        let widest = self.headings.iter().map(|heading| heading.width()).max().unwrap_or(0) + 2;
        let left = widest.min(columns.saturating_sub(VALUE_COLUMNS_MIN));
        let blocks = self.rows.iter().map(|row| {
            let filled = self.headings.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
            let lines = filled.flat_map(|(heading, cell)| {
                terminal::wrap(cell, columns.saturating_sub(left)).into_iter().enumerate().map(
                    move |(place, part)| {
                        let heading = if place == 0 { heading.as_str() } else { "" };
                        format!("{heading:<left$}{part}")
                    },
                )
            });
            lines.collect::<Vec<_>>().join("\n")
        });
        blocks.collect::<Vec<_>>().join("\n\n")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fitted(terminal::size(io::stdout()).map(|size| size.columns)))
    }
}

/// Seconds since the epoch as RFC 3339, or `-` for zero.
pub fn time(secs: i64) -> String {
    if secs == 0 { NO_TIME.to_owned() } else { trust::Timestamp::from_secs(secs).to_string() }
}

/// A number for JSON where zero says that there is none.
pub fn json_count(number: impl Into<serde_json::Number>) -> Value {
    let number = number.into();
    if number.as_f64() == Some(0.0) { Value::Null } else { Value::Number(number) }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_agents() -> Table {
        let mut table = table(&["AGENT", "CONNECTED", "LAST NACK"]);
        let id = |name: &str| format!("spiffe://example.org/banyan/agent/{name}");
        table.add_row([id("one"), "yes".to_owned(), String::new()]);
        table.add_row([
            id("two"),
            "no".to_owned(),
            "the bundle holds a root with a bad constraint".to_owned(),
        ]);
        table
    }

    #[test]
    fn a_table_that_fits_has_a_line_for_each_row() {
        let text = two_agents().fitted(Some(200));
        assert_eq!(text.lines().count(), 3, "{text}");
        assert_eq!(
            text,
            two_agents().fitted(None),
            "where there is no terminal it is as wide as it is"
        );
    }

    #[test]
    fn where_programs_read_a_row_is_one_line() {
        let mut table = table(&["TOKEN", "FOR"]);
        table.add_row(["one".to_owned(), "web\ncart".to_owned()]);
        assert_eq!(table.fitted(None).lines().nth(1), Some(" one    web; cart"));
        assert_eq!(table.fitted(Some(80)).lines().count(), 3);
    }

    #[test]
    fn a_table_that_does_not_fit_has_a_line_for_each_value_and_loses_none() {
        for columns in [40, 80] {
            let text = two_agents().fitted(Some(columns));
            assert!(text.lines().all(|line| line.width() <= columns), "{text}");
            assert!(text.contains("CONNECTED  no"), "{text}");
            let joined: String = text.split_whitespace().collect();
            assert!(joined.contains("spiffe://example.org/banyan/agent/two"), "{text}");
            assert!(joined.contains("rootwithabadconstraint"), "{text}");
        }
    }

    #[test]
    fn what_is_absent_is_null() {
        let mut value = serde_json::json!({
            "seen": [{ "at": time(0), "by": "", "confirmed": json_count(0) }],
            "kept": [{ "at": time(1), "by": "x", "confirmed": json_count(2), "failed": 0 }],
        });
        absent_is_null(&mut value);
        let wanted = serde_json::json!({
            "seen": [{ "at": null, "by": null, "confirmed": null }],
            "kept": [{ "at": "1970-01-01T00:00:01Z", "by": "x", "confirmed": 2, "failed": 0 }],
        });
        assert_eq!(value, wanted);
    }
}
