//! Reading and writing.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use stores::{
    Hints, Key, Page, ReadError, SharedStore, Space, VALUE_BYTES_MAX, Version, Versioned,
    WriteError,
};

use crate::answer::{Answer, Outcome};
use crate::api::{self, CallFailed};
use crate::call::{Call, Verb};
use crate::connection::Connections;
use crate::names::{self, Kind};
use crate::object::{Expected, Metadata, Object, Partial, Place};
use crate::settings::Settings;
use crate::{list, watch};

/// State in a namespace of a cluster. Clones share connections.
#[derive(Clone)]
pub struct KubernetesStore {
    connections: Arc<Connections>,
}

impl fmt::Debug for KubernetesStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KubernetesStore").field(self.connections.settings()).finish()
    }
}

impl KubernetesStore {
    /// Speaks to nobody yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { connections: Arc::new(Connections::new(settings)) }
    }

    fn settings(&self) -> &Settings {
        self.connections.settings()
    }

    fn place(&self, space: Space) -> Place<'_> {
        let settings = self.settings();
        Place { namespace: &settings.namespace, instance: &settings.instance, space }
    }

    fn call(&self, verb: Verb, key: &Key) -> Call {
        let name = names::object(&self.settings().instance, key);
        Call::new(verb, Kind::of(key.space()), Some(name))
    }

    /// Asks for a change; an answer that came tells at least whether it was refused.
    async fn change(&self, key: &Key, call: &Call) -> Result<(Answer, Outcome), WriteError> {
        match api::ask(&self.connections, call).await {
            Ok(answer) => {
                let outcome = answer.outcome(call);
                let told = || answer.told(call, &self.settings().namespace);
                match outcome {
                    Outcome::Refused => Err(WriteError::failed(key, told())),
                    Outcome::Unknown => Err(WriteError::unknown(key, told())),
                    _ => Ok((answer, outcome)),
                }
            }
            Err(CallFailed::NotSent(why)) => Err(WriteError::failed(key, why)),
            Err(CallFailed::NoAnswer(why)) => Err(WriteError::unknown(key, why)),
            Err(CallFailed::TooLarge) => {
                Err(WriteError::unknown(key, "the answer is larger than what is taken"))
            }
        }
    }

    async fn write(
        &self,
        key: &Key,
        value: &[u8],
        expected: Option<&Expected>,
    ) -> Result<Version, WriteError> {
        if value.len() > VALUE_BYTES_MAX {
            let (bytes, most) = (value.len(), VALUE_BYTES_MAX);
            let reason = format!("its value has {bytes} bytes, at most {most} are allowed");
            return Err(WriteError::failed(key, reason));
        }
        let object = Object::new(&self.settings().instance, key, value, expected);
        let body = serde_json::to_vec(&object)
            .map_err(|error| WriteError::failed(key, error.to_string()))?;
        let call = match expected {
            Some(_) => self.call(Verb::Update, key),
            None => Call { name: None, ..self.call(Verb::Create, key) },
        };
        let call = call.sending(body);
        let (answer, outcome) = self.change(key, &call).await?;
        if outcome != Outcome::Done {
            return Err(self
                .conflict(key, expected, outcome, &answer.told(&call, self.namespace()))
                .await);
        }
        let stored: Partial = api::parsed(&answer.server, &answer.body)
            .map_err(|why| WriteError::unknown(key, why))?;
        let version = stored.metadata.version();
        version.ok_or_else(|| {
            let why = format!("{} gave an answer without a version", answer.server);
            WriteError::unknown(key, why)
        })
    }

    fn namespace(&self) -> &str {
        &self.settings().namespace
    }

    /// What is there instead of what was expected. Nothing was written, whatever reading it gives.
    async fn conflict(
        &self,
        key: &Key,
        expected: Option<&Expected>,
        outcome: Outcome,
        told: &str,
    ) -> WriteError {
        if outcome == Outcome::Absent {
            return WriteError::conflict(key, None);
        }
        let found = match self.get(key).await {
            Ok(found) => found.map(|found| found.version),
            Err(error) => return WriteError::failed(key, format!("{told}; and then: {error}")),
        };
        // Not the object stood in the way: a quota that several write at once, say.
        let as_expected = found.as_ref().and_then(Expected::of).as_ref() == expected;
        if outcome == Outcome::Stale && as_expected {
            return WriteError::failed(key, format!("{told}; retry"));
        }
        WriteError::conflict(key, found)
    }

    /// A version of another engine: whatever is there is another one.
    async fn foreign(&self, key: &Key) -> WriteError {
        self.conflict(key, None, Outcome::Exists, "the version is none of Kubernetes").await
    }
}

/// Deletes what is at this version alone.
fn deletion(expected: &Expected) -> Vec<u8> {
    let (uid, version) = (&expected.uid, &expected.resource_version);
    let preconditions = json!({ "uid": uid, "resourceVersion": version });
    let options =
        json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions });
    options.to_string().into_bytes()
}

#[async_trait]
impl SharedStore for KubernetesStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
        let failed = |reason| ReadError::Failed { reason };
        let call = self.call(Verb::Get, key);
        let answer = match api::ask(&self.connections, &call).await {
            Ok(answer) => answer,
            Err(CallFailed::NotSent(why) | CallFailed::NoAnswer(why)) => return Err(failed(why)),
            Err(CallFailed::TooLarge) => {
                return Err(failed(format!("{key} is larger than what is taken")));
            }
        };
        match answer.outcome(&call) {
            Outcome::Done => {
                let object: Object = api::parsed(&answer.server, &answer.body).map_err(failed)?;
                let entry = object.entry(self.place(key.space()))?;
                Ok(Some(Versioned { value: entry.value, version: entry.version }))
            }
            Outcome::Absent => Ok(None),
            _ => Err(failed(answer.told(&call, self.namespace()))),
        }
    }

    async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError> {
        self.write(key, value, None).await
    }

    async fn put(
        &self,
        key: &Key,
        value: &[u8],
        expected: &Version,
    ) -> Result<Version, WriteError> {
        match Expected::of(expected) {
            Some(expected) => self.write(key, value, Some(&expected)).await,
            None => Err(self.foreign(key).await),
        }
    }

    async fn delete(&self, key: &Key, expected: &Version) -> Result<(), WriteError> {
        let Some(expected) = Expected::of(expected) else {
            return Err(self.foreign(key).await);
        };
        let call = self.call(Verb::Delete, key).sending(deletion(&expected));
        let (answer, outcome) = self.change(key, &call).await?;
        if outcome != Outcome::Done {
            let told = answer.told(&call, self.namespace());
            return Err(self.conflict(key, Some(&expected), outcome, &told).await);
        }
        // The object itself is the answer when something keeps it.
        let Partial { metadata } = api::parsed(&answer.server, &answer.body)
            .map_err(|why| WriteError::unknown(key, why))?;
        kept(key, &metadata)
    }

    async fn list(
        &self,
        space: Space,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        list::page(&self.connections, space, from.unwrap_or_default(), limit).await
    }

    async fn watch(&self, space: Space) -> Result<Hints, ReadError> {
        watch::begin(Arc::clone(&self.connections), space).await
    }
}

fn kept(key: &Key, metadata: &Metadata) -> Result<(), WriteError> {
    match metadata.finalizers() {
        [] => Ok(()),
        finalizers => {
            let (name, finalizers) = (&metadata.name, finalizers.join(", "));
            let reason =
                format!("{name} goes once its finalizers are removed ({finalizers}): remove them");
            Err(WriteError::unknown(key, reason))
        }
    }
}
