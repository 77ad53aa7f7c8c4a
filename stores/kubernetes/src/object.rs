//! Objects as they are sent and read, and what makes one of them ours.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use stores::{Entry, Key, ReadError, Space, Version};

use crate::names::{self, Kind};

/// The resource version that stands for none.
const NOTHING: &str = "nothing";

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Object {
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    pub(crate) metadata: Metadata,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    data: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    binary_data: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize, Default, Clone)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) resource_version: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing)]
    deletion_timestamp: Option<String>,
    #[serde(skip_serializing)]
    finalizers: Vec<String>,
}

/// An object of which the metadata alone was asked for.
#[derive(Deserialize, Default, Clone)]
#[serde(default)]
pub(crate) struct Partial {
    pub(crate) metadata: Metadata,
}

/// A part of a list.
#[derive(Deserialize)]
pub(crate) struct List<T> {
    kind: String,
    #[serde(default)]
    pub(crate) metadata: ListMetadata,
    /// An empty list may have none.
    items: Option<Vec<T>>,
}

impl<T> List<T> {
    /// What is in it, if it is a list.
    pub(crate) fn items(self) -> Option<Vec<T>> {
        self.kind.ends_with("List").then(|| self.items.unwrap_or_default())
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListMetadata {
    pub(crate) resource_version: String,
    #[serde(rename = "continue")]
    pub(crate) next: String,
}

/// What a version says must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) uid: String,
    pub(crate) resource_version: String,
}

impl Expected {
    /// `None` for a version of another engine, at which nothing is.
    pub(crate) fn of(version: &Version) -> Option<Self> {
        let (uid, resource_version) = version.as_str().split_once('/')?;
        let named = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let is_one = named(uid) && named(resource_version) && resource_version != "0";
        let (uid, resource_version) = (uid.to_owned(), resource_version.to_owned());
        is_one.then_some(Self { uid, resource_version })
    }
}

/// Whose objects: what is said of one that is not as it should be.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) instance: &'a str,
    pub(crate) space: Space,
}

impl Object {
    /// The object of a key; `expected` is what it replaces.
    pub(crate) fn new(
        instance: &str,
        key: &Key,
        value: &[u8],
        expected: Option<&Expected>,
    ) -> Self {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let follows = expected.map_or(NOTHING, |expected| &expected.resource_version);
        let metadata = Metadata {
            name: names::object(instance, key),
            uid: expected.map(|expected| expected.uid.clone()).unwrap_or_default(),
            resource_version: expected
                .map(|expected| expected.resource_version.clone())
                .unwrap_or_default(),
            labels: BTreeMap::from([
                pair(names::MANAGED_BY, "banyan"),
                pair(names::INSTANCE, instance),
                pair(names::SPACE, key.space().name()),
            ]),
            annotations: BTreeMap::from([pair(names::ID, key.id()), pair(names::FOLLOWS, follows)]),
            ..Metadata::default()
        };
        let kind = Kind::of(key.space());
        let value = BTreeMap::from([pair(names::VALUE, &STANDARD.encode(value))]);
        let (data, binary_data) = match kind {
            Kind::ConfigMap => (BTreeMap::new(), value),
            Kind::Secret => (value, BTreeMap::new()),
        };
        let (api_version, kind) = ("v1".to_owned(), kind.name().to_owned());
        Self { api_version, kind, metadata, data, binary_data }
    }

    /// What it holds.
    pub(crate) fn entry(self, place: Place<'_>) -> Result<Entry, ReadError> {
        let id = self.metadata.id(place)?;
        let kind = Kind::of(place.space);
        let (data, field) = match kind {
            Kind::ConfigMap => (&self.binary_data, "binaryData"),
            Kind::Secret => (&self.data, "data"),
        };
        let wrong = |what: String| self.metadata.unreadable(place, &what);
        let value = data
            .get(names::VALUE)
            .ok_or_else(|| wrong(format!("its {field} has no entry {:?}", names::VALUE)))?;
        let value = STANDARD.decode(value).map_err(|_| {
            wrong(format!("the entry {:?} of its {field} is no base64", names::VALUE))
        })?;
        let version = self.metadata.version();
        let version = version.ok_or_else(|| wrong("it has no version".to_owned()))?;
        Ok(Entry { id, value, version })
    }
}

impl Metadata {
    pub(crate) fn version(&self) -> Option<Version> {
        let version = Version::new(format!("{}/{}", self.uid, self.resource_version));
        Expected::of(&version).map(|_| version)
    }

    /// The id that the annotation tells, if the object has the name of that.
    pub(crate) fn own_id(&self, instance: &str, space: Space) -> Option<&str> {
        let id = self.annotations.get(names::ID)?;
        let key = space.key(id.as_str()).ok()?;
        (names::object(instance, &key) == self.name).then_some(id)
    }

    /// Its id, once everything about it is as this program writes it.
    pub(crate) fn id(&self, place: Place<'_>) -> Result<String, ReadError> {
        let wrong = |what: &str| Err(self.unreadable(place, what));
        for (label, right) in
            [(names::INSTANCE, place.instance), (names::SPACE, place.space.name())]
        {
            match self.labels.get(label) {
                Some(found) if found == right => {}
                Some(found) => {
                    return wrong(&format!("its label {label} is {found:?} and not {right:?}"));
                }
                None => return wrong(&format!("its label {label}, which is {right:?}, is gone")),
            }
        }
        let Some(id) = self.own_id(place.instance, place.space) else {
            let told = match self.annotations.get(names::ID) {
                Some(id) => format!("is {id:?}, which has another name"),
                None => "is gone, which tells its key".to_owned(),
            };
            return wrong(&format!("its annotation {} {told}", names::ID));
        };
        if self.deletion_timestamp.is_some() {
            let finalizers = self.finalizers.join(", ");
            return wrong(&format!(
                "it is being deleted, and waits for its finalizers {finalizers}"
            ));
        }
        Ok(id.to_owned())
    }

    /// That somebody else had a hand in it.
    pub(crate) fn unreadable(&self, place: Place<'_>, what: &str) -> ReadError {
        let kind = Kind::of(place.space);
        let (namespace, name) = (place.namespace, &self.name);
        let key = format!("{} {namespace}/{name}", kind.name());
        let object = kind.name().to_ascii_lowercase();
        let reason = format!(
            "{what}; this program did not write that: put it back (`kubectl -n {namespace} edit {object} {name}`), \
             or, if what it holds may be lost, delete it (`kubectl -n {namespace} delete {object} {name}`)"
        );
        ReadError::Unreadable { key, reason }
    }

    /// What keeps it although it was deleted.
    pub(crate) fn finalizers(&self) -> &[String] {
        &self.finalizers
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use stores::Sensitivity;

    use super::*;

    const AGENTS: Space = Space::new("agents", Sensitivity::Plain);
    const TOKENS: Space = Space::new("tokens", Sensitivity::Secret);

    fn place(space: Space) -> Place<'static> {
        Place { namespace: "ns", instance: "td", space }
    }

    /// As the server gives it back.
    fn stored(space: Space) -> Value {
        let mut sent =
            serde_json::to_value(Object::new("td", &space.key("a/b").unwrap(), b"one", None))
                .unwrap();
        sent["metadata"]["uid"] = json!("u-1");
        sent["metadata"]["resourceVersion"] = json!("7");
        sent
    }

    fn read(space: Space, stored: Value) -> Result<Entry, ReadError> {
        serde_json::from_value::<Object>(stored).unwrap().entry(place(space))
    }

    #[test]
    fn what_was_written_is_read_in_both_kinds() {
        for space in [AGENTS, TOKENS] {
            let entry = read(space, stored(space)).unwrap();
            assert_eq!((entry.id.as_str(), entry.value.as_slice()), ("a/b", b"one".as_slice()));
            assert_eq!(entry.version.as_str(), "u-1/7");
        }
        assert_eq!(stored(TOKENS)["data"]["value"], "b25l");
        assert_eq!(stored(AGENTS)["binaryData"]["value"], "b25l");
    }

    #[test]
    fn what_a_hand_changed_is_named_with_what_to_do() {
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 8] = [
            ("label banyan-ca.github.io/space", |object| {
                object["metadata"]["labels"] = json!({ names::INSTANCE: "td" });
            }),
            ("is \"other\" and not \"td\"", |object| {
                object["metadata"]["labels"][names::INSTANCE] = json!("other");
            }),
            ("annotation banyan-ca.github.io/id is gone", |object| {
                object["metadata"]["annotations"] = json!({});
            }),
            ("which has another name", |object| {
                object["metadata"]["annotations"][names::ID] = json!("a/c");
            }),
            ("which has another name", |object| object["metadata"]["name"] = json!("copy")),
            ("has no entry \"value\"", |object| object["binaryData"] = json!({ "val": "b25l" })),
            ("no base64", |object| object["binaryData"]["value"] = json!("???")),
            ("finalizers x.io/keep", |object| {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                object["metadata"]["finalizers"] = json!(["x.io/keep"]);
            }),
        ];
        for (what, change) in changes {
            let mut object = stored(AGENTS);
            change(&mut object);
            let Err(ReadError::Unreadable { key, reason }) = read(AGENTS, object) else {
                panic!("{what}: it was read");
            };
            assert!(key.starts_with("ConfigMap ns/"), "{key}");
            assert!(reason.contains(what), "{what}: {reason}");
            assert!(reason.contains("kubectl -n ns delete configmap "), "{reason}");
        }
    }

    #[test]
    fn a_version_of_another_engine_is_none() {
        let of = |text: &str| Expected::of(&Version::new(text));
        assert_eq!(of("u-1/7").map(|expected| expected.resource_version), Some("7".to_owned()));
        // A resource version of 0 stands for any.
        for text in ["17", "", "/7", "u/", "u/7/8", "u/0", "u /7"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
