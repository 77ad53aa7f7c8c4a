//! Lists: a whole space, each time.
//!
//! The API lists objects by their names, which are hashes here, and can begin at none of them. So a list reads all of a
//! space and keeps the part that was asked for.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::de::DeserializeOwned;
use stores::{Entry, Page, ReadError, Space};

use crate::api::{self, CallFailed};
use crate::call::{Call, METADATA_LIST, Verb};
use crate::connection::Connections;
use crate::names::{self, Kind};
use crate::object::{List, Object, Partial, Place};

/// Largest answer that is taken.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Objects asked for at once; and where these are too much for one answer.
const OBJECTS_AT_ONCE: usize = 500;
const LARGE_OBJECTS_AT_ONCE: usize = 40;
/// How often a list begins anew since the server has forgotten where it was.
const BEGINNINGS_MAX: usize = 3;

enum Broken {
    /// The server has forgotten where it was.
    Expired,
    TooLarge,
    Other(ReadError),
}

impl From<ReadError> for Broken {
    fn from(error: ReadError) -> Self {
        Self::Other(error)
    }
}

/// Up to `limit` values with the least ids from `from` on.
pub(crate) async fn page(
    connections: &Connections,
    space: Space,
    from: &str,
    limit: usize,
) -> Result<Page, ReadError> {
    let settings = connections.settings();
    let place = Place { namespace: &settings.namespace, instance: &settings.instance, space };
    nothing_lost(connections, place).await?;
    let selector = names::selector(place.instance, space);
    let call = Call::new(Verb::List, Kind::of(space), None).with("labelSelector", &selector);
    let call = Call { answer_bytes_max: ANSWER_BYTES_MAX, ..call };
    let mut least = Least { entries: BTreeMap::new(), limit, more: false };
    let found = each(connections, &call, |object: Option<Object>| {
        let Some(object) = object else {
            (least.entries, least.more) = (BTreeMap::new(), false);
            return Ok(());
        };
        let entry = object.entry(place)?;
        if entry.id.as_str() >= from {
            least.take(entry);
        }
        Ok(())
    });
    found.await?;
    Ok(Page { entries: least.entries.into_values().collect(), more: least.more })
}

/// The entries with the least ids of those that came so far.
struct Least {
    entries: BTreeMap<String, Entry>,
    limit: usize,
    more: bool,
}

impl Least {
    fn take(&mut self, entry: Entry) {
        self.entries.insert(entry.id.clone(), entry);
        if self.entries.len() > self.limit {
            self.entries.pop_last();
            self.more = true;
        }
    }
}

/// That each object with a name of this space has its labels: without them a list would leave it out in silence.
async fn nothing_lost(connections: &Connections, place: Place<'_>) -> Result<(), ReadError> {
    let call = Call::new(Verb::List, Kind::of(place.space), None);
    let call = call.accepting(METADATA_LIST, ANSWER_BYTES_MAX);
    let looked = each(connections, &call, |object: Option<Partial>| {
        let ours = object
            .filter(|object| names::belongs(place.instance, place.space, &object.metadata.name));
        ours.map_or(Ok(()), |object| object.metadata.id(place).map(drop))
    });
    looked.await
}

/// Hands over each object of a list, and `None` before it begins anew.
async fn each<T: DeserializeOwned>(
    connections: &Connections,
    call: &Call,
    mut take: impl FnMut(Option<T>) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut at_once = OBJECTS_AT_ONCE;
    let mut expired = 0;
    loop {
        let broken = match run(connections, call, at_once, &mut take).await {
            Ok(()) => return Ok(()),
            Err(Broken::Other(error)) => return Err(error),
            Err(broken) => broken,
        };
        match broken {
            Broken::TooLarge if at_once > LARGE_OBJECTS_AT_ONCE => at_once = LARGE_OBJECTS_AT_ONCE,
            Broken::Expired if expired < BEGINNINGS_MAX => expired += 1,
            _ => {
                let reason = format!(
                    "a list of {} changes faster than it can be read, or is too large",
                    call.kind.plural()
                );
                return Err(ReadError::Failed { reason });
            }
        }
        take(None)?;
    }
}

async fn run<T: DeserializeOwned>(
    connections: &Connections,
    call: &Call,
    at_once: usize,
    take: &mut impl FnMut(Option<T>) -> Result<(), ReadError>,
) -> Result<(), Broken> {
    let mut next = String::new();
    loop {
        let mut call = call.clone().with("limit", &at_once.to_string());
        if !next.is_empty() {
            call = call.with("continue", &next);
        }
        let mut list: List<T> = one(connections, &call).await?;
        next = std::mem::take(&mut list.metadata.next);
        let reason = || format!("the answer to list {} is no list", call.kind.plural());
        let items = list.items().ok_or_else(|| ReadError::Failed { reason: reason() })?;
        for object in items {
            take(Some(object))?;
        }
        if next.is_empty() {
            return Ok(());
        }
    }
}

async fn one<T: DeserializeOwned>(
    connections: &Connections,
    call: &Call,
) -> Result<List<T>, Broken> {
    let failed = |reason| ReadError::Failed { reason };
    let answer = match api::ask(connections, call).await {
        Ok(answer) => answer,
        Err(CallFailed::TooLarge) => return Err(Broken::TooLarge),
        Err(CallFailed::NotSent(why) | CallFailed::NoAnswer(why)) => return Err(failed(why).into()),
    };
    match answer.status {
        status if status.is_success() => {
            Ok(api::parsed(&answer.server, &answer.body).map_err(failed)?)
        }
        StatusCode::GONE => Err(Broken::Expired),
        _ => Err(failed(answer.told(call, &connections.settings().namespace)).into()),
    }
}

/// The resource version of all objects of a space: what a watch begins behind.
pub(crate) async fn resource_version(
    connections: &Connections,
    space: Space,
) -> Result<String, ReadError> {
    let selector = names::selector(&connections.settings().instance, space);
    let call = Call::new(Verb::List, Kind::of(space), None);
    let call = call.with("labelSelector", &selector).with("limit", "1");
    let list = one::<Partial>(connections, &call.accepting(METADATA_LIST, ANSWER_BYTES_MAX)).await;
    let version = list.map(|list| list.metadata.resource_version);
    match version {
        Ok(version) if !version.is_empty() && version != "0" => Ok(version),
        Err(Broken::Other(error)) => Err(error),
        _ => Err(ReadError::Failed {
            reason: format!("a list of {} came without a version", Kind::of(space).plural()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use stores::Version;

    use super::*;

    #[test]
    fn the_least_ids_are_kept_and_the_others_are_more() {
        let mut least = Least { entries: BTreeMap::new(), limit: 2, more: false };
        let ids = |least: &Least| least.entries.keys().cloned().collect::<Vec<_>>();
        for id in ["c", "a"] {
            least.take(Entry {
                id: id.to_owned(),
                value: Vec::new(),
                version: Version::new("u/1"),
            });
        }
        assert!(!least.more);
        for id in ["b", "d"] {
            least.take(Entry {
                id: id.to_owned(),
                value: Vec::new(),
                version: Version::new("u/1"),
            });
            assert!(least.more);
        }
        assert_eq!(ids(&least), ["a", "b"]);
    }
}
