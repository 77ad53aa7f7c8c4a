//! What is asked of the API server of a cluster: one call each, bounded in time and size.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use auth::authn::cluster::Review;
use auth::authn::jwt::BoundPod;
use futures::{Stream, StreamExt as _};
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use kube::client::Body;
use kube::core::WatchEvent;
use kube_access::{
    Access, Answered, CallFailed, Connection, Connections, POD_PAGE_BYTES, PodList, PodObject,
    cause, exchanged, is_expired, parsed, pods_listed, pods_watched,
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

/// Largest answer to a review or a question of rights.
const ANSWER_MAX: usize = 1024 * 1024;
/// A list is much longer than other answers.
const LIST_WITHIN: Duration = Duration::from_secs(30);

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const RIGHTS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const KEY_SET: &str = "/openid/v1/jwks";

/// Why the API server gave no answer that can be used. The sentences are for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It does not answer, or not now.
    Away(String),
    /// The server's account may not do this, or is not believed.
    Denied(String),
    /// What was heard of a watch is forgotten, or is yet to come: only a list helps.
    Expired,
}

impl Failed {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Away(text) | Self::Denied(text) => text,
            Self::Expired => "the watch is too old",
        }
    }
}

/// What the API says in place of an answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reviewed {
    status: ReviewStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReviewStatus {
    authenticated: bool,
    error: String,
    user: User,
    audiences: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RightAnswer {
    status: RightStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RightStatus {
    allowed: bool,
}

/// A right that the server's account needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// On objects of the whole cluster.
    On { verb: &'static str, group: &'static str, resource: &'static str },
    /// To read a path that is no object.
    Path(&'static str),
}

impl Right {
    pub(crate) const REVIEW: Self =
        Self::On { verb: "create", group: "authentication.k8s.io", resource: "tokenreviews" };
    pub(crate) const LIST_PODS: Self = Self::On { verb: "list", group: "", resource: "pods" };
    pub(crate) const WATCH_PODS: Self = Self::On { verb: "watch", group: "", resource: "pods" };
    pub(crate) const KEY_SET: Self = Self::Path(KEY_SET);

    /// As an administrator of a cluster would say it.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::On { verb, group: "", resource } => format!("{verb} {resource}"),
            Self::On { verb, group, resource } => format!("{verb} {resource}.{group}"),
            Self::Path(path) => format!("get {path}"),
        }
    }

    fn attributes(&self) -> serde_json::Value {
        match self {
            Self::On { verb, group, resource } => {
                json!({ "resourceAttributes": { "verb": verb, "group": group, "resource": resource } })
            }
            Self::Path(path) => {
                json!({ "nonResourceAttributes": { "verb": "get", "path": path } })
            }
        }
    }
}

pub(crate) type PodEvents =
    Pin<Box<dyn Stream<Item = Result<WatchEvent<PodObject>, Failed>> + Send>>;

/// The API server of one cluster.
#[derive(Debug)]
pub(crate) struct Api {
    connections: Connections,
    timeout: Duration,
}

impl Api {
    pub(crate) fn new(access: Access, timeout: Duration) -> Self {
        Self { connections: Connections::new(access), timeout }
    }

    /// Asks about a token.
    pub(crate) async fn review(&self, token: &str, audiences: &[String]) -> Result<Review, Failed> {
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": { "token": token, "audiences": audiences },
        });
        let Reviewed { status } = self.post(REVIEWS, &body).await?;
        let ReviewStatus { authenticated, error, user, audiences } = status;
        let extra = |name: &str| {
            let values = user.extra.get(&format!("authentication.kubernetes.io/{name}"))?;
            values.first().map(String::as_str)
        };
        let pod = BoundPod::new(extra("pod-uid"), extra("pod-name"), extra("node-name"));
        let User { username, groups, .. } = user;
        Ok(Review { authenticated, error, username, groups, audiences, pod })
    }

    /// Whether the server's account has a right. Every account may ask that.
    pub(crate) async fn may(&self, right: Right) -> Result<bool, Failed> {
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": right.attributes(),
        });
        let RightAnswer { status } = self.post(RIGHTS, &body).await?;
        Ok(status.allowed)
    }

    /// The key set of the cluster's service accounts. A redirect is an answer like any other that is not the key set.
    pub(crate) async fn key_set(&self, bytes_max: usize) -> Result<Vec<u8>, Failed> {
        let call = Call { method: Method::GET, path: KEY_SET, body: Vec::new(), bytes_max };
        let (_, answered) = self.ask(&call, self.timeout).await?;
        Ok(answered.body.to_vec())
    }

    /// All pods, and the version that they were listed at.
    pub(crate) async fn pods(&self) -> Result<(Vec<PodObject>, String), Failed> {
        let (mut pods, mut from) = (Vec::new(), String::new());
        loop {
            let (path, bytes_max) = (pods_listed(None, &from), POD_PAGE_BYTES);
            let call = Call { method: Method::GET, path: &path, body: Vec::new(), bytes_max };
            let (server, answered) = self.ask(&call, LIST_WITHIN).await?;
            let page: PodList = parsed(&server, &answered.body).map_err(Failed::Away)?;
            pods.extend(page.items);
            match page.metadata.r#continue.as_str() {
                "" => return Ok((pods, page.metadata.resource_version)),
                next => from = next.to_owned(),
            }
        }
    }

    /// What changes of pods from a version on. The stream ends when the server ends it.
    pub(crate) async fn watch_pods(&self, from: &str) -> Result<PodEvents, Failed> {
        let deadline = Instant::now() + self.timeout;
        let connection = self.connection(deadline).await?;
        let request = Request::get(pods_watched(None, from)).body(Vec::new());
        let request = request.map_err(|error| Failed::Away(error.to_string()))?;
        let opening = connection.client.request_events::<PodObject>(request);
        let opened = timeout_at(deadline, opening).await;
        let opened = opened.map_err(|_| self.late(&connection.server));
        let events = match opened {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => {
                self.connections.leave(&connection);
                return Err(watch_failed(&connection.server, &error));
            }
            Err(late) => {
                self.connections.leave(&connection);
                return Err(late);
            }
        };
        let server = connection.server;
        Ok(Box::pin(events.map(move |event| match event {
            Ok(WatchEvent::Error(status)) if is_expired(status.code) => Err(Failed::Expired),
            Ok(WatchEvent::Error(status)) => Err(Failed::Away(status.message)),
            Ok(event) => Ok(event),
            Err(error) => Err(watch_failed(&server, &error)),
        })))
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, Failed> {
        let body = body.to_string().into_bytes();
        let call = Call { method: Method::POST, path, body, bytes_max: ANSWER_MAX };
        let (server, answered) = self.ask(&call, self.timeout).await?;
        parsed(&server, &answered.body).map_err(Failed::Away)
    }

    /// Asks, and once more where the credentials were refused or the connection broke: files are read anew then, and nothing
    /// that is asked here changes anything.
    async fn ask(&self, call: &Call<'_>, within: Duration) -> Result<(String, Answered), Failed> {
        let deadline = Instant::now() + within;
        match self.once(call, deadline).await {
            Err(Failure { again: true, .. }) if Instant::now() < deadline => {
                self.once(call, deadline).await.map_err(|failure| failure.why)
            }
            answered => answered.map_err(|failure| failure.why),
        }
    }

    async fn once(
        &self,
        call: &Call<'_>,
        deadline: Instant,
    ) -> Result<(String, Answered), Failure> {
        let connection = self.connection(deadline).await.map_err(Failure::for_good)?;
        let server = &connection.server;
        let request = Request::builder().method(call.method.clone()).uri(call.path);
        let request = request.header(CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(call.body.clone()));
        let request =
            request.map_err(|error| Failure::for_good(Failed::Away(error.to_string())))?;
        let asked = timeout_at(deadline, exchanged(&connection, request, call.bytes_max)).await;
        let failure = match asked {
            Ok(Ok(answered))
                if [StatusCode::OK, StatusCode::CREATED].contains(&answered.status) =>
            {
                return Ok((server.clone(), answered));
            }
            Ok(Ok(answered)) => {
                let again = answered.status == StatusCode::UNAUTHORIZED;
                Failure { why: told(server, call, &answered), again }
            }
            Ok(Err(CallFailed::TooLarge)) => {
                let text = format!("{server}{} answers with too much", call.path);
                Failure::for_good(Failed::Away(text))
            }
            Ok(Err(CallFailed::NotSent(why) | CallFailed::NoAnswer(why))) => {
                Failure { why: Failed::Away(why), again: true }
            }
            Err(_) => {
                self.connections.leave(&connection);
                Failure::for_good(self.late(server))
            }
        };
        if failure.again {
            self.connections.leave(&connection);
        }
        Err(failure)
    }

    async fn connection(&self, deadline: Instant) -> Result<Connection, Failed> {
        let opened = timeout_at(deadline, self.connections.one()).await;
        opened.map_err(|_| self.late("the API server"))?.map_err(Failed::Away)
    }

    fn late(&self, server: &str) -> Failed {
        Failed::Away(format!("{server} gave no answer within {} s", self.timeout.as_secs_f32()))
    }
}

/// Why one attempt came to nothing, and whether another may do better at once.
struct Failure {
    why: Failed,
    again: bool,
}

impl Failure {
    const fn for_good(why: Failed) -> Self {
        Self { why, again: false }
    }
}

struct Call<'c> {
    method: Method,
    path: &'c str,
    body: Vec<u8>,
    bytes_max: usize,
}

/// What an answer means that is not the one that was asked for.
fn told(server: &str, call: &Call<'_>, answered: &Answered) -> Failed {
    let path = call.path.split('?').next().unwrap_or_default();
    let said = serde_json::from_slice::<Said>(&answered.body).unwrap_or_default().message;
    match answered.status {
        StatusCode::UNAUTHORIZED => Failed::Denied(format!(
            "{server} does not believe this server's own credentials: are the token and the CA file of this cluster?"
        )),
        StatusCode::FORBIDDEN => Failed::Denied(format!(
            "{server} refuses {path}: {said}; give this server's account the right (docs/operations.md, Clusters)"
        )),
        StatusCode::GONE => Failed::Expired,
        status => Failed::Away(format!("{server}{path} answers {}: {said}", status.as_u16())),
    }
}

fn watch_failed(server: &str, error: &kube::Error) -> Failed {
    match error {
        kube::Error::Api(status) if is_expired(status.code) => Failed::Expired,
        kube::Error::Api(status) if status.code == StatusCode::FORBIDDEN.as_u16() => {
            Failed::Denied(format!("{server} refuses to have pods watched: {}", status.message))
        }
        error => Failed::Away(format!("{server}: {}", cause(error))),
    }
}
