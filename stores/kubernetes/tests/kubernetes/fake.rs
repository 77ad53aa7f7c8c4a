//! A fake of the API that answers as it is told: for answers that a real one gives only by chance.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use stores::{ReadError, SharedStore as _, Version, WriteError};
use stores_kubernetes::KubernetesStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{AGENTS, INSTANCE, settings};

enum Reply {
    Json(u16, Value),
    Html(u16),
    /// The connection ends once the request has come.
    None,
}

/// Gives each request to a function; keeps their first lines.
struct FakeApi {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeApi {
    async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, reply) = (Arc::clone(&requests), Arc::new(reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, reply) = (Arc::clone(&kept), Arc::clone(&reply));
                tokio::spawn(async move { served(stream, &kept, reply.as_ref()).await });
            }
        });
        Self { address, requests }
    }

    fn store(&self, folder: &Path) -> KubernetesStore {
        KubernetesStore::new(settings(kubeconfig(folder, self.address), INSTANCE))
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn kubeconfig(folder: &Path, address: SocketAddr) -> PathBuf {
    let path = folder.join("config");
    let config = json!({
        "current-context": "c",
        "contexts": [{ "name": "c", "context": { "cluster": "k", "user": "u" } }],
        "clusters": [{ "name": "k", "cluster": { "server": format!("http://{address}") } }],
        "users": [{ "name": "u", "user": { "token": "t" } }],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

async fn served(
    mut stream: TcpStream,
    kept: &Mutex<Vec<String>>,
    reply: &(impl Fn(&str) -> Reply + Sync),
) -> Option<()> {
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
        let answer = reply(&first);
        kept.lock().unwrap().push(first);
        let (code, kind, text) = match answer {
            Reply::Json(code, value) => (code, "application/json", value.to_string()),
            Reply::Html(code) => (code, "text/html", "<html>".to_owned()),
            Reply::None => return None,
        };
        let head = format!(
            "HTTP/1.1 {code} x\r\ncontent-type: {kind}\r\nretry-after: 1\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        stream.write_all((head + &text).as_bytes()).await.ok()?;
    }
}

fn refusal(code: u16, reason: &str) -> Reply {
    let body = json!({ "kind": "Status", "code": code, "reason": reason, "message": reason });
    Reply::Json(code, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_is_sent_twice_and_what_nobody_answered_for_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    for (unknown, reply) in [
        (true, (|| refusal(500, "InternalError")) as fn() -> Reply),
        (true, || refusal(503, "ServiceUnavailable")),
        (true, || refusal(504, "Timeout")),
        (true, || Reply::Html(502)),
        (true, || Reply::None),
        (true, || Reply::Json(201, json!({ "kind": "ConfigMap" }))),
        (false, || refusal(429, "TooManyRequests")),
        (false, || refusal(422, "Invalid")),
        (false, || Reply::Html(404)),
    ] {
        let api = FakeApi::start(move |_| reply()).await;
        let store = api.store(folder.path());
        let (key, version) = (AGENTS.key("a").unwrap(), Version::new("u/1"));
        let outcomes = [
            store.create(&key, b"x").await.map(drop),
            store.put(&key, b"x", &version).await.map(drop),
            store.delete(&key, &version).await,
        ];
        let sent = api.taken();
        for (outcome, verb) in outcomes.iter().zip(["POST", "PUT", "DELETE"]) {
            let is_unknown = matches!(outcome, Err(WriteError::Unknown { .. }));
            let failed = matches!(outcome, Err(WriteError::Failed { .. }));
            // An answer of success to a delete says nothing more.
            let is_done = verb == "DELETE" && outcome.is_ok();
            assert!(is_done || (is_unknown == unknown && failed != unknown), "{verb}: {outcome:?}");
            let times = sent.iter().filter(|line| line.starts_with(verb)).count();
            assert_eq!(times, 1, "{verb} was sent {times} times: {outcome:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_the_server_forgot_begins_anew_and_a_page_of_another_server_is_no_list() {
    let folder = tempfile::tempdir().unwrap();
    let times = Mutex::new(0);
    let api = FakeApi::start(move |line| {
        let items = json!([]);
        let next = |next: &str| {
            let metadata = json!({ "continue": next });
            Reply::Json(200, json!({ "kind": "XList", "metadata": metadata, "items": items }))
        };
        if !line.contains("labelSelector") {
            return next("");
        }
        let mut times = times.lock().unwrap();
        match (line.contains("continue="), *times) {
            (true, 0) => {
                *times += 1;
                refusal(410, "Expired")
            }
            (true, _) => next(""),
            (false, _) => next("here"),
        }
    })
    .await;
    let page = api.store(folder.path()).list(AGENTS, None, 10).await.unwrap();
    assert!(page.entries.is_empty() && !page.more);
    let begun = api.taken().iter().filter(|line| !line.contains("continue=")).count();
    assert_eq!(begun, 3, "the look at all names, and a list that begins twice");

    let forgetful = FakeApi::start(|_| refusal(410, "Expired")).await;
    let listed = forgetful.store(folder.path()).list(AGENTS, None, 10).await;
    assert!(matches!(listed, Err(ReadError::Failed { .. })), "{listed:?}");
    let other = FakeApi::start(|_| Reply::Json(200, json!({ "kind": "Health" }))).await;
    let listed = other.store(folder.path()).list(AGENTS, None, 10).await;
    assert!(matches!(listed, Err(ReadError::Failed { .. })), "{listed:?}");
    let other = FakeApi::start(|_| Reply::Html(200)).await;
    let read = other.store(folder.path()).get(&AGENTS.key("a").unwrap()).await;
    assert!(matches!(read, Err(ReadError::Failed { .. })), "{read:?}");
    let other = FakeApi::start(|_| Reply::Html(404)).await;
    let read = other.store(folder.path()).get(&AGENTS.key("a").unwrap()).await;
    let Err(ReadError::Failed { reason }) = read else { panic!("it is not missing: {read:?}") };
    assert!(reason.contains("check that it is the address of the API"), "{reason}");
}
