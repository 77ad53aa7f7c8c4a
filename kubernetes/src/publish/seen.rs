//! What an object is now: what of it matters, in little memory.

use kube::core::DynamicObject;

use super::content::{CA, Print, SEQUENCE, Shape};

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Empty for an object of the whole cluster.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// An object as it was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) version: String,
    pub(crate) uid: String,
    pub(crate) print: Print,
    pub(crate) mark: Option<Mark>,
}

/// Whose bundle an object says that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) ca: String,
    pub(crate) sequence: u64,
}

impl Key {
    pub(crate) fn of(object: &DynamicObject) -> Self {
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        Self { namespace, name: object.metadata.name.clone().unwrap_or_default() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace.is_empty() {
            true => f.write_str(&self.name),
            false => write!(f, "{}/{}", self.namespace, self.name),
        }
    }
}

impl Seen {
    pub(crate) fn of(object: &DynamicObject, shape: &Shape) -> Self {
        let metadata = &object.metadata;
        let note = |key| metadata.annotations.as_ref().and_then(|notes| notes.get(key));
        let mark = note(CA).map(|ca| {
            // What cannot be read is taken for the latest: it is not overwritten by a guess.
            let sequence = note(SEQUENCE).map_or(0, |text| text.parse().unwrap_or(u64::MAX));
            Mark { ca: ca.clone(), sequence }
        });
        Self {
            version: metadata.resource_version.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            print: shape.print_of(object),
            mark,
        }
    }

    /// Whether it is what another look saw, or came after it. Versions grow, and a watch may tell an old one late.
    pub(crate) fn is_at_least(&self, other: &Self) -> bool {
        match (self.version.parse::<u64>(), other.version.parse::<u64>()) {
            (Ok(this), Ok(other)) => this >= other,
            _ => true,
        }
    }
}
