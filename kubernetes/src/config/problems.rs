//! What is wrong with a file: every problem with its key.

use std::fmt;
use std::time::Duration;

/// What is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(pub(crate) Vec<String>);

impl Problems {
    /// Adds what is wrong with a key.
    pub(crate) fn add(&mut self, key: &str, problem: impl fmt::Display) {
        self.0.push(format!("{key}: {problem}"));
    }

    /// A duration such as `"30s"` within bounds in the same notation.
    pub(crate) fn duration(
        &mut self,
        key: &str,
        text: &str,
        [least, most]: [&str; 2],
    ) -> Option<Duration> {
        let read = humantime::parse_duration;
        let Ok(value) = read(text) else {
            self.add(key, format_args!("{text:?} is no duration; write one such as {least:?}"));
            return None;
        };
        let (lowest, highest) = (read(least).unwrap_or_default(), read(most).unwrap_or_default());
        if value < lowest || value > highest {
            self.add(key, format_args!("{text} is out of bounds: write {least} to {most}"));
            return None;
        }
        Some(value)
    }

    /// A name of an object or a namespace as Kubernetes takes it.
    pub(crate) fn name(&mut self, key: &str, name: &str) {
        if !is_subdomain(name) {
            self.add(
                key,
                format_args!(
                    "{name:?} is no name of an object in Kubernetes: write a-z, 0-9, - and ., with a letter or digit at both ends of each part"
                ),
            );
        }
    }
}

/// A DNS subdomain, as names of objects are.
pub(crate) fn is_subdomain(name: &str) -> bool {
    let label = |part: &str| {
        let ends = !part.is_empty() && !part.starts_with('-') && !part.ends_with('-');
        ends && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// A name of a signer: a domain of several parts, and a path of one.
pub(crate) fn is_signer_name(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, path)| {
        domain.contains('.') && is_subdomain(domain) && is_subdomain(path)
    })
}
