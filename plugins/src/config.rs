//! Typed reading of a plugin's table in the configuration file, with every problem at once.

use std::fmt;

use serde::de::DeserializeOwned;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The field, as written in the file, relative to the plugin's table.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

impl ConfigProblem {
    /// A problem with one field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.field, self.problem)
    }
}

/// Reads a table field by field and collects what is wrong instead of stopping at it.
///
/// Every field that the plugin asks for counts as known; [`finish`](Self::finish) reports the rest, so a field that
/// nobody reads can never be silently ignored.
#[derive(Debug)]
pub struct ConfigTable<'a> {
    table: &'a toml::Table,
    known: Vec<&'static str>,
    problems: Vec<ConfigProblem>,
}

impl<'a> ConfigTable<'a> {
    /// Starts to read a table.
    pub fn new(table: &'a toml::Table) -> Self {
        Self { table, known: Vec::new(), problems: Vec::new() }
    }

    /// A field that may be absent. A value of the wrong type is a problem, and reads as absent.
    pub fn optional<T: DeserializeOwned>(&mut self, field: &'static str) -> Option<T> {
        self.known.push(field);
        let value = self.table.get(field)?.clone();
        match value.try_into() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(field, error.message().to_owned());
                None
            }
        }
    }

    /// A field that must be there. Its absence is a problem.
    pub fn required<T: DeserializeOwned>(&mut self, field: &'static str) -> Option<T> {
        if !self.table.contains_key(field) {
            self.known.push(field);
            self.problem(field, "is missing".to_owned());
            return None;
        }
        self.optional(field)
    }

    /// Adds a problem that the plugin found.
    pub fn problem(&mut self, field: &str, problem: impl Into<String>) {
        self.problems.push(ConfigProblem::new(field, problem));
    }

    /// Ends the reading: the value, unless anything was wrong or a field was not asked for.
    ///
    /// `value` is only called when there is no problem; it answers `None` only if a required field is absent, which
    /// is a problem by itself.
    ///
    /// # Errors
    /// Every problem, unknown fields included.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Vec<ConfigProblem>> {
        let unknown: Vec<_> =
            self.table.keys().filter(|key| !self.known.contains(&key.as_str())).cloned().collect();
        for field in unknown {
            let known =
                if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
            self.problems
                .push(ConfigProblem::new(field, format!("is not a field here; known: {known}")));
        }
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(self.problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, Option<u32>), Vec<ConfigProblem>> {
        let table: toml::Table = text.parse().expect("toml");
        let mut fields = ConfigTable::new(&table);
        let name = fields.required::<String>("name");
        let size = fields.optional::<u32>("size");
        fields.finish(name.map(|name| (name, size)))
    }

    #[test]
    fn a_good_table_is_read() {
        assert_eq!(read("name = 'a'\nsize = 3"), Ok(("a".to_owned(), Some(3))));
        assert_eq!(read("name = 'a'"), Ok(("a".to_owned(), None)));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let problems = read("size = 'x'\nnmae = 'a'").expect_err("three problems");
        let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["name", "size", "nmae"]);
        assert!(problems.iter().any(|problem| problem.to_string().contains("known: name, size")));
    }
}
