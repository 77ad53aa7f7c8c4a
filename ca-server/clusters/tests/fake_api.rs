//! Clusters against a fake of the API that answers as it is told: for answers, and an order of them, that a real one gives only by
//! chance. What a real one does is in the family `clusters` of `integration-tests`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use auth::authn::cluster::Clusters as _;
use auth::authn::jwt::JwtVerifier;
use auth::refusal::Reason;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clusters::{ClusterSettings, Judged, KubeClusters};
use kube_access::Access;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use trust::{Clock, ManualClock, Timestamp, TrustDomain};

const NOW: i64 = 1_800_000_000;
const NODE: &str = "node-a";
const SOON: Duration = Duration::from_secs(30);

/// What the fake says to one request, by its first line.
enum Reply {
    Json(u16, Value),
    Text(u16, &'static str),
    /// Events of a watch, after which it ends, or goes on without a word.
    Events(Vec<Value>, Then),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Ends,
    GoesOn,
}

/// Answers each request as a function says, once there is a permit for it.
struct FakeApi {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    reviews: AtomicUsize,
    at_a_time: AtomicUsize,
    at_most: AtomicUsize,
}

impl FakeApi {
    async fn start(
        permits: Arc<Semaphore>,
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (counts, reply) = (Arc::<Counts>::default(), Arc::new(reply));
        let counted = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = Served {
                    permits: Arc::clone(&permits),
                    counts: Arc::clone(&counted),
                    reply: Arc::clone(&reply),
                };
                tokio::spawn(async move { fake.connection(stream).await });
            }
        });
        Self { address, counts }
    }

    /// The cluster `one` behind it.
    fn clusters(&self, folder: &Path, clock: &Arc<ManualClock>) -> Arc<KubeClusters> {
        let path = folder.join("config");
        let config = json!({
            "current-context": "c",
            "contexts": [{ "name": "c", "context": { "cluster": "k", "user": "u" } }],
            "clusters": [{ "name": "k", "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": "u", "user": { "token": "t" } }],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        let trust_domain = TrustDomain::parse("example.org").unwrap();
        let settings = ClusterSettings {
            name: "one".to_owned(),
            is_default: false,
            access: Access::Kubeconfig { path, context: None },
            judged: Judged::ByReview,
            issuer: None,
            audiences: vec!["istio-ca".to_owned()],
            token_life_max: Duration::from_secs(86_400),
            node_accounts: vec!["system:serviceaccount:istio-system:ztunnel".to_owned()],
            bearers_in_ledger: false,
            cache_age: Duration::from_secs(30),
            key_set_age: Duration::from_secs(3_600),
            timeout: Duration::from_secs(10),
            reviews_at_a_time: 2,
            skew: Duration::from_secs(60),
            trust_domain: trust_domain.clone(),
        };
        let others = Arc::new(JwtVerifier::new(Vec::new(), trust_domain, Duration::ZERO));
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        Arc::new(KubeClusters::new(&[settings], others, &clock))
    }
}

struct Served<R> {
    permits: Arc<Semaphore>,
    counts: Arc<Counts>,
    reply: Arc<R>,
}

impl<R: Fn(&str) -> Reply> Served<R> {
    async fn connection(&self, mut stream: TcpStream) -> Option<()> {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.ok()?);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            stream.read_exact(&mut body).await.ok()?;
            let first = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
            let is_review = first.contains("tokenreviews");
            if is_review {
                self.counts.reviews.fetch_add(1, Ordering::SeqCst);
                let now = self.counts.at_a_time.fetch_add(1, Ordering::SeqCst) + 1;
                self.counts.at_most.fetch_max(now, Ordering::SeqCst);
                self.permits.acquire().await.ok()?.forget();
                self.counts.at_a_time.fetch_sub(1, Ordering::SeqCst);
            }
            match (self.reply)(&first) {
                Reply::Json(status, value) => {
                    answered(&mut stream, status, &value.to_string()).await?;
                }
                Reply::Text(status, text) => answered(&mut stream, status, text).await?,
                Reply::Events(events, then) => {
                    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
                    let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
                    let head = "HTTP/1.1 200 X\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
                    stream.write_all(head.as_bytes()).await.ok()?;
                    if !lines.is_empty() {
                        stream.write_all(chunk.as_bytes()).await.ok()?;
                    }
                    match then {
                        Then::Ends => stream.write_all(b"0\r\n\r\n").await.ok()?,
                        Then::GoesOn => std::future::pending().await,
                    }
                }
            }
        }
    }
}

async fn answered(stream: &mut TcpStream, status: u16, body: &str) -> Option<()> {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await.ok()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_secs(NOW)))
}

/// A token that is good as far as it says of itself; the fake believes every one.
fn token(number: usize) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "iss": "https://k", "aud": ["istio-ca"], "sub": "system:serviceaccount:shop:cart",
        "iat": NOW, "exp": NOW + 3_600, "jti": number.to_string(),
    });
    format!("{}.{}.AAAA", part(json!({ "alg": "RS256" })), part(claims))
}

fn believed() -> Reply {
    let user = json!({
        "username": "system:serviceaccount:shop:cart", "groups": ["system:serviceaccounts"],
        "extra": { "authentication.kubernetes.io/pod-uid": ["u-1"] },
    });
    let status = json!({ "authenticated": true, "user": user, "audiences": ["istio-ca"] });
    Reply::Json(201, json!({ "status": status }))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test]
async fn equal_questions_are_one_call_and_only_so_many_are_asked_at_a_time() {
    let permits = Arc::new(Semaphore::new(0));
    let api = FakeApi::start(Arc::clone(&permits), |_| believed()).await;
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let clusters = api.clusters(folder.path(), &clock);
    let ask = |number: usize| {
        let clusters = Arc::clone(&clusters);
        tokio::spawn(
            async move { clusters.judge(&token(number), &MetadataMap::new()).await.unwrap() },
        )
    };
    let first = ask(0);
    until("the first is asked about", || api.counts.reviews.load(Ordering::SeqCst) == 1).await;
    let others: Vec<_> = (0..30).map(|call| ask(call / 3)).collect();
    // Whoever began a question may go: it is not theirs alone.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    until("two are asked about", || api.counts.at_a_time.load(Ordering::SeqCst) == 2).await;
    permits.add_permits(1_000);
    for other in others {
        let claims = other.await.unwrap().unwrap();
        assert_eq!(claims.pod.unwrap().uid, "u-1");
    }
    assert_eq!(api.counts.reviews.load(Ordering::SeqCst), 10, "one call for each token");
    assert_eq!(api.counts.at_most.load(Ordering::SeqCst), 2);

    // Remembered for its age, and asked about again after it.
    ask(0).await.unwrap().unwrap();
    clock.advance(Duration::from_secs(29));
    ask(0).await.unwrap().unwrap();
    assert_eq!(api.counts.reviews.load(Ordering::SeqCst), 10);
    clock.advance(Duration::from_secs(1));
    ask(0).await.unwrap().unwrap();
    assert_eq!(api.counts.reviews.load(Ordering::SeqCst), 11);
    // Never beyond the token's own end.
    clock.advance(Duration::from_secs(3_600));
    let over = ask(0).await.unwrap().unwrap_err();
    assert_eq!(over.reason(), Reason::TokenExpired);
    assert_eq!(api.counts.reviews.load(Ordering::SeqCst), 11);
}

#[tokio::test]
async fn an_answer_that_is_none_is_never_a_refusal_and_a_refusal_is_not_remembered() {
    let at = Arc::new(AtomicUsize::new(0));
    let next = Arc::clone(&at);
    let api = FakeApi::start(Arc::new(Semaphore::new(1_000)), move |_| {
        let unbelieved = json!({ "status": { "error": "[invalid bearer token]" } });
        match next.load(Ordering::SeqCst) {
            0 => Reply::Json(500, json!({ "message": "etcdserver: request timed out" })),
            1 => Reply::Json(429, json!({ "message": "too many requests" })),
            2 => Reply::Json(403, json!({ "message": "may not" })),
            3 => Reply::Json(401, json!({ "message": "Unauthorized" })),
            4 => Reply::Text(200, "<html>a proxy</html>"),
            5 => Reply::Json(302, json!({})),
            6 => Reply::Json(201, json!({ "status": { "error": "etcdserver: leader changed" } })),
            7 => Reply::Json(201, unbelieved),
            _ => believed(),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let clusters = api.clusters(folder.path(), &clock());
    let (token, none) = (token(1), MetadataMap::new());
    for case in 0..7 {
        at.store(case, Ordering::SeqCst);
        let refused = clusters.judge(&token, &none).await.unwrap().unwrap_err();
        assert_eq!(refused.reason(), Reason::ClusterUnavailable, "{case}");
        assert!(refused.retry_after().is_some());
        assert_eq!(clusters.troubles().len(), 1, "{case}: {:?}", clusters.troubles());
    }
    at.store(7, Ordering::SeqCst);
    let refused = clusters.judge(&token, &none).await.unwrap().unwrap_err();
    assert_eq!(refused.reason(), Reason::TokenReviewRefused);
    assert_eq!(clusters.troubles(), Vec::<String>::new(), "it answers");
    at.store(8, Ordering::SeqCst);
    clusters.judge(&token, &none).await.unwrap().unwrap();
}

fn pod(uid: &str, account: &str, version: u64) -> Value {
    json!({
        "metadata": { "namespace": "shop", "uid": uid, "resourceVersion": version.to_string() },
        "spec": { "nodeName": NODE, "serviceAccountName": account },
        "status": { "phase": "Running" },
    })
}

fn event(kind: &str, object: Value) -> Value {
    json!({ "type": kind, "object": object })
}

#[tokio::test]
async fn a_watch_that_repeats_is_heard_once_and_one_that_is_too_old_begins_with_a_list() {
    let lists = Arc::new(AtomicUsize::new(0));
    let listed = Arc::clone(&lists);
    let api = FakeApi::start(Arc::new(Semaphore::new(1_000)), move |first| {
        let allowed = Reply::Json(201, json!({ "status": { "allowed": true } }));
        let list = |pods: Vec<Value>, version: &str, next: &str| {
            let metadata = json!({ "resourceVersion": version, "continue": next });
            Reply::Json(200, json!({ "metadata": metadata, "items": pods }))
        };
        let is = |part: &str| first.contains(part);
        match () {
            () if !is("/api/v1/pods") => allowed,
            // The first list has two pages.
            () if is("continue=more") => list(vec![pod("2", "web", 5)], "10", ""),
            () if !is("watch=true") => match listed.fetch_add(1, Ordering::SeqCst) {
                0 => list(vec![pod("1", "cart", 4)], "10", "more"),
                _ => list(vec![pod("4", "late", 40)], "50", ""),
            },
            // It ends in order, and goes on where it was: behind its last word.
            () if is("resourceVersion=10") => Reply::Events(
                vec![
                    event("ADDED", pod("3", "new", 11)),
                    event("ADDED", pod("3", "new", 11)),
                    event("DELETED", pod("1", "cart", 12)),
                    event("DELETED", pod("1", "cart", 12)),
                    event("BOOKMARK", json!({
                        "kind": "Pod", "apiVersion": "v1", "metadata": { "resourceVersion": "20" },
                    })),
                ],
                Then::Ends,
            ),
            () if is("resourceVersion=20") => Reply::Events(
                vec![event("ERROR", json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": "too old resource version", "reason": "Expired", "code": 410,
                }))],
                Then::Ends,
            ),
            () if is("resourceVersion=50") => Reply::Events(Vec::new(), Then::GoesOn),
            () => Reply::Text(404, first_seen_by_nobody()),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let clusters = api.clusters(folder.path(), &clock());
    let refused = clusters.pods_on("one", NODE).unwrap_err();
    assert_eq!(refused.reason(), Reason::PodsNotSynced, "before the first list");
    let keeping = tokio::spawn(Arc::clone(&clusters).keep());
    let accounts = || {
        let pods = clusters.pods_on("one", NODE).unwrap_or_default();
        let mut accounts: Vec<_> = pods.into_iter().map(|pod| pod.account).collect();
        accounts.sort();
        accounts
    };
    until("what the watch said", || accounts() == ["new", "web"]).await;
    until("what the second list said", || accounts() == ["late"]).await;
    assert_eq!(lists.load(Ordering::SeqCst), 2, "one at the start, one after the break");
    assert_eq!(clusters.troubles(), Vec::<String>::new());
    keeping.abort();
}

const fn first_seen_by_nobody() -> &'static str {
    "{\"message\":\"the fake was not told what to say\"}"
}
