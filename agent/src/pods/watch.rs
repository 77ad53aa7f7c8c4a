//! Keeps the Pods of a node: a list, then a watch from there on. One that breaks begins with a list again, since it may have lost
//! what happened meanwhile. Until then the Pods that are known stay known: a UID is never given again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use http::{Request, StatusCode};
use kube::client::Body;
use kube::core::WatchEvent;
use kube_access::{
    Access, CallFailed, Connections, POD_PAGE_BYTES, PodList, PodMeta, PodObject, cause, exchanged,
    is_expired, parsed, pods_listed, pods_watched,
};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use trust::{SpiffeId, TrustDomain};

use super::cgroup::PodUid;
use super::view::{KnownPod, View};

/// Longest time for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Longest time without a word on a watch: a server that is alive says something about once a minute.
const SILENCE: Duration = Duration::from_secs(90);
/// Pause before anything is asked again, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(10)];

/// The task that keeps them.
#[derive(Debug)]
pub(crate) struct PodWatch {
    node: String,
    trust_domain: TrustDomain,
    connections: Connections,
    to: watch::Sender<Arc<View>>,
}

/// Why there is no answer that can be used.
enum Failed {
    /// Only a list helps.
    Expired,
    /// What it is.
    Told(String),
}

/// What the API says in place of an answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    message: String,
}

impl PodWatch {
    /// Of this node; what is known goes to `to`.
    pub(crate) fn new(
        node: String,
        trust_domain: TrustDomain,
        access: Access,
        to: watch::Sender<Arc<View>>,
    ) -> Self {
        Self { node, trust_domain, connections: Connections::new(access), to }
    }

    /// Runs until cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        // Cancelled or not, nothing is left to do.
        let _ = stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&self) {
        let [least, most] = PAUSES;
        let mut pause = least;
        loop {
            let failed = match self.listed().await {
                Ok(version) => {
                    pause = least;
                    self.follow(version).await
                }
                Err(failed) => failed,
            };
            if let Failed::Told(why) = failed {
                let text = format!(
                    "the Pods of node {} cannot be watched: {why}; those that are known are served, and new ones wait",
                    self.node
                );
                self.change(|view| view.trouble = Some(text.clone()));
            }
            sleep(pause).await;
            pause = (pause * 2).min(most);
        }
    }

    async fn listed(&self) -> Result<String, Failed> {
        let (mut pods, mut from) = (BTreeMap::new(), String::new());
        loop {
            let page = self.page(&pods_listed(Some(&self.node), &from)).await?;
            let known = page.items.iter().filter_map(|pod| self.known(pod));
            pods.extend(known.map(|pod| (pod.uid.clone(), Arc::new(pod))));
            if page.metadata.r#continue.is_empty() {
                self.to.send_replace(Arc::new(View { pods, listed: true, trouble: None }));
                return Ok(page.metadata.resource_version);
            }
            from = page.metadata.r#continue;
        }
    }

    async fn page(&self, path: &str) -> Result<PodList, Failed> {
        let connection = self.connections.one().await.map_err(Failed::Told)?;
        let request = Request::get(path).body(Body::empty());
        let request = request.map_err(|error| Failed::Told(error.to_string()))?;
        let asked = timeout(ANSWER_WITHIN, exchanged(&connection, request, POD_PAGE_BYTES)).await;
        let server = &connection.server;
        let failed = match asked {
            Ok(Ok(answered)) if answered.status == StatusCode::OK => {
                return parsed(server, &answered.body).map_err(Failed::Told);
            }
            Ok(Ok(answered)) => {
                let said = serde_json::from_slice::<Said>(&answered.body).unwrap_or_default();
                refused(server, answered.status, &said.message)
            }
            Ok(Err(CallFailed::TooLarge)) => {
                Failed::Told(format!("{server} answers with too much"))
            }
            Ok(Err(CallFailed::NotSent(why) | CallFailed::NoAnswer(why))) => Failed::Told(why),
            Err(_) => Failed::Told(format!(
                "{server} gave no answer within {} s",
                ANSWER_WITHIN.as_secs()
            )),
        };
        self.connections.leave(&connection);
        Err(failed)
    }

    /// Follows one watch after the other, until one does not end in order.
    async fn follow(&self, mut version: String) -> Failed {
        loop {
            if let Err(failed) = self.heard(&mut version).await {
                return failed;
            }
            sleep(PAUSES[0]).await;
        }
    }

    async fn heard(&self, version: &mut String) -> Result<(), Failed> {
        let connection = self.connections.one().await.map_err(Failed::Told)?;
        let server = connection.server.as_str();
        let request = Request::get(pods_watched(Some(&self.node), version)).body(Vec::new());
        let request = request.map_err(|error| Failed::Told(error.to_string()))?;
        let opening = connection.client.request_events::<PodObject>(request);
        let silent = || Failed::Told(format!("{server} says nothing on the watch"));
        let opened = timeout(ANSWER_WITHIN, opening).await.map_err(|_| silent());
        let opened = opened.and_then(|opened| opened.map_err(|error| broken(server, &error)));
        let events = opened.inspect_err(|_| self.connections.leave(&connection))?;
        let mut events = Box::pin(events);
        loop {
            let next = timeout(SILENCE, events.next()).await.map_err(|_| silent())?;
            let Some(event) = next else { return Ok(()) };
            let event = event.map_err(|error| broken(server, &error))?;
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    self.seen(&pod);
                    *version = pod.metadata.resource_version;
                }
                WatchEvent::Deleted(pod) => {
                    self.gone(&pod);
                    *version = pod.metadata.resource_version;
                }
                WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) if is_expired(status.code) => {
                    return Err(Failed::Expired);
                }
                WatchEvent::Error(status) => return Err(Failed::Told(status.message)),
            }
        }
    }

    fn seen(&self, pod: &PodObject) {
        match self.known(pod) {
            Some(known) => self.change(|view| {
                view.pods.insert(known.uid.clone(), Arc::new(known.clone()));
            }),
            None => self.gone(pod),
        }
    }

    fn gone(&self, pod: &PodObject) {
        if let Some(uid) = PodUid::parse(&pod.metadata.uid) {
            self.change(|view| drop(view.pods.remove(&uid)));
        }
    }

    /// A Pod that is on this node and has not ended.
    fn known(&self, pod: &PodObject) -> Option<KnownPod> {
        let PodObject { metadata, spec, status } = pod;
        if status.has_ended() || spec.node_name != self.node || spec.service_account_name.is_empty()
        {
            return None;
        }
        let PodMeta { namespace, name, uid, .. } = metadata;
        let (domain, account) = (&self.trust_domain, &spec.service_account_name);
        let identity = SpiffeId::parse(&format!("spiffe://{domain}/ns/{namespace}/sa/{account}"));
        let (namespace, name) = (namespace.clone(), name.clone());
        Some(KnownPod { uid: PodUid::parse(uid)?, namespace, name, identity: identity.ok()? })
    }

    fn change(&self, change: impl Fn(&mut View)) {
        self.to.send_if_modified(|view| {
            let mut changed = View::clone(view);
            change(&mut changed);
            let news = changed != **view;
            if news {
                *view = Arc::new(changed);
            }
            news
        });
    }
}

fn refused(server: &str, status: StatusCode, said: &str) -> Failed {
    match status {
        StatusCode::GONE => Failed::Expired,
        StatusCode::UNAUTHORIZED => Failed::Told(format!(
            "{server} does not believe this agent's own token: are token_file and ca_file of this cluster?"
        )),
        StatusCode::FORBIDDEN => Failed::Told(format!(
            "{server} refuses: {said}; give the agent's account the right to list and watch pods"
        )),
        status => Failed::Told(format!("{server} answers {}: {said}", status.as_u16())),
    }
}

fn broken(server: &str, error: &kube::Error) -> Failed {
    match error {
        kube::Error::Api(status) if is_expired(status.code) => Failed::Expired,
        kube::Error::Api(status) if status.code == StatusCode::FORBIDDEN.as_u16() => {
            refused(server, StatusCode::FORBIDDEN, &status.message)
        }
        error => Failed::Told(format!("{server}: {}", cause(error))),
    }
}
