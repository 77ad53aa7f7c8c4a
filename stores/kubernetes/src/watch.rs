//! Watches: one stream each, opened again behind what was last heard.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use kube::core::WatchEvent;
use stores::{HintSender, Hints, ReadError, Space, hints};
use tokio::time::{sleep, timeout};
use tokio_stream::{Stream, StreamExt as _};

use crate::answer::Answer;
use crate::call::{Call, METADATA, Verb};
use crate::connection::{Connections, cause};
use crate::list::resource_version;
use crate::names::{self, Kind};
use crate::object::Partial;

/// Pauses between tries to open a stream again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The server ends a stream after this, which costs nothing: the next goes on behind it.
const LASTS: &str = "290";

/// A stream, and the resource version of the last that it said.
struct Heard {
    events: Events,
    version: String,
}

type Events = Pin<Box<dyn Stream<Item = Result<WatchEvent<Partial>, kube::Error>> + Send>>;

/// Why a stream ended.
#[derive(Debug)]
enum Ended {
    /// In its time.
    InTime,
    /// The server does not know any more what was last heard.
    Expired,
    Broken(String),
}

/// Begins a watch, which goes on until nobody reads it any more.
pub(crate) async fn begin(connections: Arc<Connections>, space: Space) -> Result<Hints, ReadError> {
    // What is written from here on comes after this version, whenever the stream opens.
    let version = resource_version(&connections, space).await?;
    let events = opened(&connections, space, &version).await.map_err(|ended| {
        let reason = format!("no watch can be opened: {}", ended.why());
        ReadError::Failed { reason }
    })?;
    let mut heard = Heard { events, version };
    let (sender, hints) = hints();
    tokio::spawn(async move {
        let ended = sender.clone();
        let running = async {
            loop {
                let why = follow(&connections, space, &mut heard, &sender).await;
                if again(&connections, space, &mut heard, why).await == Missed::Maybe {
                    sender.everywhere();
                }
            }
        };
        tokio::select! {
            () = running => {}
            () = ended.unread() => {}
        }
    });
    Ok(hints)
}

impl Ended {
    fn why(&self) -> &str {
        match self {
            Self::InTime => "it ended in its time",
            Self::Expired => "the server has forgotten what was last heard",
            Self::Broken(why) => why,
        }
    }
}

/// Whether something may have been missed between two streams.
#[derive(PartialEq, Eq)]
enum Missed {
    Nothing,
    Maybe,
}

/// Opens a stream again.
async fn again(
    connections: &Connections,
    space: Space,
    heard: &mut Heard,
    mut why: Ended,
) -> Missed {
    let (mut pause, mut missed) = (FIRST_PAUSE, Missed::Nothing);
    loop {
        tracing::debug!(space = space.name(), why = why.why(), "a watch ended and is opened again");
        // Also after an end in time: a server that ends each stream at once is not asked without pause.
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        if !matches!(why, Ended::InTime) {
            missed = Missed::Maybe;
        }
        if matches!(why, Ended::Expired) {
            match resource_version(connections, space).await {
                Ok(version) => heard.version = version,
                Err(error) => {
                    tracing::debug!(space = space.name(), %error, "a watch cannot be opened yet");
                }
            }
        }
        match opened(connections, space, &heard.version).await {
            Ok(events) => {
                heard.events = events;
                return missed;
            }
            Err(ended) => why = ended,
        }
    }
}

async fn opened(connections: &Connections, space: Space, heard: &str) -> Result<Events, Ended> {
    let settings = connections.settings();
    let selector = names::selector(&settings.instance, space);
    let call = Call::new(Verb::Watch, Kind::of(space), None)
        .with("watch", "true")
        .with("resourceVersion", heard)
        .with("allowWatchBookmarks", "true")
        .with("timeoutSeconds", LASTS)
        .with("labelSelector", &selector)
        .accepting(METADATA, 0);
    let opening = async {
        let connection = connections.one().await.map_err(Ended::Broken)?;
        let request = call.request(&settings.namespace).map_err(Ended::Broken)?;
        let events = connection.client.request_events::<Partial>(request).await;
        events.map_err(|error| {
            connections.leave(&connection);
            match error {
                kube::Error::Api(status) if !is_expired(status.code) => {
                    let answer = Answer::refusal(&connection.server, &status);
                    Ended::Broken(answer.told(&call, &settings.namespace))
                }
                error => ended(&connection.server, &error),
            }
        })
    };
    let late = |_| Ended::Broken("no watch was confirmed in time".to_owned());
    let events = timeout(settings.call_timeout, opening).await.map_err(late).flatten()?;
    Ok(Box::pin(events))
}

fn ended(server: &str, error: &kube::Error) -> Ended {
    match error {
        kube::Error::Api(status) if is_expired(status.code) => Ended::Expired,
        error => Ended::Broken(format!("{server}: {}", cause(error))),
    }
}

/// Forgotten (410), or yet to come (504): a cluster that was restored from a backup counts on from before.
const fn is_expired(code: u16) -> bool {
    code == StatusCode::GONE.as_u16() || code == StatusCode::GATEWAY_TIMEOUT.as_u16()
}

/// Tells what the stream says until it ends; answers why.
async fn follow(
    connections: &Connections,
    space: Space,
    heard: &mut Heard,
    sender: &HintSender,
) -> Ended {
    loop {
        // A server that is alive says at times how far it is.
        let event = match timeout(connections.settings().watch_silence, heard.events.next()).await {
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => return ended("a watch", &error),
            Ok(None) => return Ended::InTime,
            Err(_) => return Ended::Broken("nothing was heard for long".to_owned()),
        };
        match event {
            WatchEvent::Added(object)
            | WatchEvent::Modified(object)
            | WatchEvent::Deleted(object) => {
                heard.version.clone_from(&object.metadata.resource_version);
                match object.metadata.own_id(&connections.settings().instance, space) {
                    Some(id) => sender.at(id),
                    None => sender.everywhere(),
                }
            }
            WatchEvent::Bookmark(bookmark) => {
                heard.version = bookmark.metadata.resource_version;
            }
            WatchEvent::Error(status) if is_expired(status.code) => return Ended::Expired,
            WatchEvent::Error(status) => return Ended::Broken(status.message),
        }
    }
}
