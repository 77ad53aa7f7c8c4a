//! Reads sections of the file and collects every problem instead of stopping at the first.

use std::fmt;
use std::time::Duration;

use plugins::ConfigProblem;
use serde::de::DeserializeOwned;

/// Reads one table. Every key that is asked for counts as known; [`Section::close`] reports the rest.
pub(super) struct Section<'a> {
    path: String,
    table: &'a toml::Table,
    known: Vec<&'static str>,
    problems: &'a mut Vec<ConfigProblem>,
}

impl<'a> Section<'a> {
    /// Opens a table; `path` is empty for the whole file.
    pub(super) fn open(
        path: &str,
        table: &'a toml::Table,
        problems: &'a mut Vec<ConfigProblem>,
    ) -> Self {
        Self { path: path.to_owned(), table, known: Vec::new(), problems }
    }

    /// Adds a problem with a key of this section.
    pub(super) fn problem(&mut self, key: &str, problem: impl fmt::Display) {
        self.problems.push(ConfigProblem::new(self.field(key), problem.to_string()));
    }

    /// A value that may be absent; of the wrong type it is a problem and counts as absent.
    pub(super) fn optional<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        write: &str,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.table.get(key)?.clone();
        match value.try_into() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(key, format_args!("{}; write {write}", error.message().trim_end()));
                None
            }
        }
    }

    /// A value that must be there.
    pub(super) fn required<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        write: &str,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            self.known.push(key);
            self.problem(key, format_args!("is missing; write {write}"));
            return None;
        }
        self.optional(key, write)
    }

    /// A text that must be there and that `parse` understands.
    pub(super) fn parsed<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        write: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text: String = self.required(key, write)?;
        self.understood(key, &text, write, parse)
    }

    /// A text that may be absent; a default in the same notation stands in for it.
    pub(super) fn parsed_or<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        default: &str,
        write: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            self.known.push(key);
            return self.understood(key, default, write, parse);
        }
        let text: String = self.optional(key, write)?;
        self.understood(key, &text, write, parse)
    }

    /// A duration such as `"24h"`, within bounds in the same notation.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: &str,
        bounds: [&'static str; 2],
    ) -> Option<Duration> {
        let [least, most] = bounds;
        let write = format!("a duration from \"{least}\" to \"{most}\", such as \"{default}\"");
        let written = self.table.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        let value = self.parsed_or(key, default, &write, humantime::parse_duration)?;
        let limits = [least, most].map(humantime::parse_duration);
        let [Ok(least), Ok(most)] = limits else { return Some(value) };
        if value < least || value > most {
            let given = written.unwrap_or_else(|| trust::plain::span(value));
            self.problem(key, format_args!("{given} is out of bounds; write {write}"));
            return None;
        }
        Some(value)
    }

    /// A whole number within bounds.
    pub(super) fn count(
        &mut self,
        key: &'static str,
        default: u64,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let write = format!("a number from {} to {}", bounds.start(), bounds.end());
        if !self.table.contains_key(key) {
            self.known.push(key);
            return Some(default);
        }
        let value: u64 = self.optional(key, &write)?;
        if !bounds.contains(&value) {
            self.problem(key, format_args!("{value} is out of bounds; write {write}"));
            return None;
        }
        Some(value)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        words: &[(&str, T)],
    ) -> Option<T> {
        let list: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let write = list.join(" or ");
        if !self.table.contains_key(key) {
            self.known.push(key);
            return Some(default);
        }
        let text: String = self.optional(key, &write)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            self.problem(key, format_args!("{text:?} is not known; write {write}"));
        }
        found
    }

    /// A sub-table; an absent one reads as an empty one, so that its defaults and demands still count.
    pub(super) fn table(&mut self, key: &'static str) -> toml::Table {
        self.optional(key, &format!("a table [{}]", self.field(key))).unwrap_or_default()
    }

    /// Reports every key that nobody asked for.
    pub(super) fn close(mut self) {
        let unknown: Vec<_> =
            self.table.keys().filter(|key| !self.known.contains(&key.as_str())).cloned().collect();
        let known = self.known.join(", ");
        for key in unknown {
            self.problem(&key, format_args!("is not a key here; known keys: {known}"));
        }
    }

    fn understood<T, E: fmt::Display>(
        &mut self,
        key: &str,
        text: &str,
        write: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(key, format_args!("{text:?} is not right ({error}); write {write}"));
                None
            }
        }
    }

    fn field(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
