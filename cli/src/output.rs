//! How answers look: tables for people, one JSON object for programs.

use std::io::Write;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::exit::Failure;

/// Prints one JSON object on a line of its own.
///
/// # Errors
/// [`Failure::Failed`] if standard output is closed.
pub fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(anyhow::Error::from)?;
    line(&text)
}

/// Prints one line.
///
/// # Errors
/// [`Failure::Failed`] if standard output is closed.
pub fn line(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout().lock(), "{text}").map_err(|error| Failure::Failed(error.into()))
}

/// A table without frames, with these headings.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.iter().copied());
    table
}

/// Seconds since the epoch as RFC 3339, or `-` for zero.
pub fn time(secs: i64) -> String {
    if secs == 0 { "-".to_owned() } else { trust::Timestamp::from_secs(secs).to_string() }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
