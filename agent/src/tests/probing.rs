//! Whether proxies can verify the root that shall sign: an agent and real TLS listeners.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use proto::banyan::agent::v1 as wire;
use proto::banyan::agent::v1::agent_message::Message as Up;
use proto::banyan::agent::v1::server_message::Message as Down;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use trust::{RootId, SpiffeId};
use trust_tls::AnyProvenClient;
use wire::ProbeOutcome as Outcome;

use super::*;
use crate::fakes::ca::Desk;
use crate::fakes::{Pki, bundle_of};
use crate::key::PrivateKey;

const WORKLOAD: &str = "spiffe://example.org/ns/a/sa/b";

/// The listener of a proxy: real TLS, with whatever it believes at the moment.
struct Proxy {
    address: SocketAddr,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    tasks: JoinSet<()>,
}

/// What a proxy does with whom connects.
#[derive(Clone, Copy)]
enum Asks<'a> {
    /// It verifies certificates under these roots.
    Under(&'a [&'a Pki]),
    /// It takes any certificate.
    Anybody,
    /// It asks for none.
    Nobody,
}

/// The day of these tests.
#[derive(Debug)]
struct Day;

impl TimeProvider for Day {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = u64::try_from(NOW.as_secs()).unwrap() + 60;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}

impl Proxy {
    async fn start(id: &str, signer: &Pki, asks: Asks<'_>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Arc::new(Mutex::new(Arc::new(config(id, signer, asks))));
        let (shared, mut tasks) = (Arc::clone(&config), JoinSet::new());
        tasks.spawn(async move {
            loop {
                let Ok((tcp, _)) = listener.accept().await else { return };
                let acceptor = TlsAcceptor::from(Arc::clone(&shared.lock().unwrap()));
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                    // It waits for a request, as a proxy does.
                    let _ = tls.read(&mut [0; 16]).await;
                });
            }
        });
        Self { address, config, tasks }
    }

    /// Another version takes its place.
    fn becomes(&self, id: &str, signer: &Pki, asks: Asks<'_>) {
        *self.config.lock().unwrap() = Arc::new(config(id, signer, asks));
    }
}

/// A fake admin endpoint of an Envoy with one listener.
struct FakeAdmin {
    address: SocketAddr,
    listens_at: Arc<Mutex<SocketAddr>>,
    _tasks: JoinSet<()>,
}

impl FakeAdmin {
    async fn start(at: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (listens_at, mut tasks) = (Arc::new(Mutex::new(at)), JoinSet::new());
        let shared = Arc::clone(&listens_at);
        tasks.spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let mut request = vec![0; 1_024];
                let length = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let body = Self::says(&path, *shared.lock().unwrap());
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Self { address, listens_at, _tasks: tasks }
    }

    fn says(path: &str, at: SocketAddr) -> String {
        const TLS: &str =
            "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
        let secret = |name: &str| serde_json::json!({ "name": name, "sds_config": { "api_config_source": { "api_type": "GRPC" } } });
        let socket = |port: u16| serde_json::json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
        let listener = serde_json::json!({
            "name": "in",
            "address": socket(0),
            "filter_chains": [{ "transport_socket": { "typed_config": {
                "@type": TLS,
                "require_client_certificate": true,
                "common_tls_context": {
                    "tls_certificate_sds_secret_configs": [secret("default")],
                    "validation_context_sds_secret_config": secret("ROOTCA"),
                },
            } } }],
        });
        if path.starts_with("/stats") {
            return String::new();
        }
        match path {
            "/listeners?format=json" => {
                let status =
                    serde_json::json!({ "name": "in", "local_address": socket(at.port()) });
                serde_json::json!({ "listener_statuses": [status] }).to_string()
            }
            "/config_dump?resource=static_listeners" => {
                serde_json::json!({ "configs": [{ "listener": listener }] }).to_string()
            }
            _ => "{}".to_owned(),
        }
    }
}

fn config(id: &str, signer: &Pki, asks: Asks<'_>) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let (key, id) = (PrivateKey::generate().unwrap(), SpiffeId::parse(id).unwrap());
    let csr = key.request(Some(&id)).unwrap();
    let chain = signer.leaf(&csr, &id, NOW, Duration::from_secs(86_400));
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let builder = ServerConfig::builder_with_details(Arc::clone(&provider), Arc::new(Day))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match asks {
        Asks::Nobody => builder.with_no_client_auth(),
        Asks::Anybody => builder.with_client_cert_verifier(Arc::new(AnyProvenClient)),
        Asks::Under(roots) => {
            let mut store = RootCertStore::empty();
            for pki in roots {
                store.add(CertificateDer::from(pki.root().der().to_vec())).unwrap();
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    builder.with_single_cert(chain, key.rustls()).unwrap()
}

/// An agent whose proxy holds a leaf of the first root, in a rotation to a second one.
struct Mesh {
    bench: Bench,
    old: Arc<Pki>,
    new: Arc<Pki>,
    proxy: Proxy,
    leaf: Subscriber,
    roots: Subscriber,
}

impl Mesh {
    async fn start(id: &str, asks: impl FnOnce(&Pki) -> Option<Vec<Arc<Pki>>>) -> Self {
        let bench = Bench::empty().await;
        let old = Arc::clone(&bench.ca.desk().signer);
        let proxy = match asks(&old) {
            Some(_) => Proxy::start(id, &old, Asks::Under(&[&old])).await,
            None => Proxy::start(id, &old, Asks::Nobody).await,
        };
        let more = format!("listeners = [\"{}\"]", proxy.address);
        Self::of(bench, proxy, more).await
    }

    async fn of(mut bench: Bench, proxy: Proxy, more: String) -> Self {
        let old = Arc::clone(&bench.ca.desk().signer);
        bench.more = more;
        bench.start().await;
        bench.until("the agent is connected", |status| status.connected).await;
        let (mut leaf, mut roots) =
            (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
        roots.next_acked().await;
        leaf.next_acked().await;
        let new = Arc::new(Pki::new("second"));
        bench.ca.desk().next = Some(Arc::clone(&new));
        Self { bench, old, new, proxy, leaf, roots }
    }

    /// The same, and it is known from its admin endpoint where it listens.
    async fn of_an_old_envoy() -> (Self, FakeAdmin) {
        let bench = Bench::empty().await;
        let old = Arc::clone(&bench.ca.desk().signer);
        let proxy = Proxy::start(WORKLOAD, &old, Asks::Under(&[&old])).await;
        let admin = FakeAdmin::start(proxy.address).await;
        let more = format!("envoy_admin = [\"{}\"]", admin.address);
        (Self::of(bench, proxy, more).await, admin)
    }

    /// A proxy that verifies certificates under the first root alone.
    async fn of_an_old_proxy() -> Self {
        Self::start(WORKLOAD, |_| Some(Vec::new())).await
    }

    /// The bundle with both roots is out and acknowledged, and the CA asks.
    async fn distribute(&mut self) {
        self.bench.ca.publish(bundle_of(&[&self.old, &self.new], 2));
        self.roots.next_acked().await;
        self.ask();
    }

    fn ask(&self) {
        let root: RootId = self.new.root().id();
        let probe = wire::Probe { sequence: 2, root: root.as_bytes().to_vec() };
        self.bench.ca.tell(&Down::Probe(probe));
    }

    fn replaced(&self) {
        self.proxy.becomes(WORKLOAD, &self.old, Asks::Under(&[&self.old, &self.new]));
    }

    /// What the CA hears of the one leaf.
    async fn hears(&self, outcome: Outcome, detail: &str) -> Vec<u8> {
        let serial = self.serial();
        let what = format!("{outcome:?} {detail}");
        self.bench
            .until_heard(&what, |desk| {
                probed(desk).get(&serial).is_some_and(|row| {
                    row.outcome() == outcome && row.sequence == 2 && row.detail.contains(detail)
                })
            })
            .await;
        serial
    }

    fn serial(&self) -> Vec<u8> {
        let serial = self.bench.agent().status().workloads[0].serial.clone().unwrap();
        u128::from_str_radix(&serial, 16).unwrap().to_be_bytes().to_vec()
    }
}

/// What was said last of the listeners of each leaf's holders.
fn probed(desk: &Desk) -> BTreeMap<Vec<u8>, wire::ProbedRow> {
    let rows = desk.heard.iter().filter_map(|message| match message {
        Up::Probed(probed) => Some(&probed.rows),
        _ => None,
    });
    rows.flatten().map(|row| (row.serial.clone(), row.clone())).collect()
}

#[tokio::test]
async fn a_proxy_that_acknowledges_and_cannot_verify_is_told_and_one_that_can_takes_its_place() {
    let mut mesh = Mesh::of_an_old_proxy().await;
    mesh.distribute().await;
    let serial = mesh.hears(Outcome::Unable, "it refuses the new root: alert UnknownCA").await;
    let applied = Some(&(2, wire::EvidenceClass::Applied));
    assert_eq!(mesh.bench.ca.desk().claims().get(&serial), applied, "it has acknowledged");
    mesh.replaced();
    mesh.hears(Outcome::Observed, "").await;
}

#[tokio::test]
async fn what_was_seen_is_said_with_the_next_request_for_a_leaf() {
    let mut mesh = Mesh::of_an_old_proxy().await;
    assert_eq!(
        mesh.bench.ca.desk().listening,
        [Some(wire::Listening::default())],
        "before anything was seen it is said that somebody listens"
    );
    mesh.replaced();
    mesh.distribute().await;
    let serial = mesh.hears(Outcome::Observed, "").await;
    let hint = wire::ReissueHint { serials: vec![serial], spread_ms: 0 };
    mesh.bench.ca.tell(&Down::Reissue(hint));
    mesh.leaf.next_acked().await;
    let seen = wire::Listening { sequence: 2, outcome: Outcome::Observed.into() };
    assert_eq!(mesh.bench.ca.desk().listening.last(), Some(&Some(seen)));
}

#[tokio::test]
async fn nothing_is_said_of_a_holder_before_it_has_acknowledged_the_bundle() {
    let mut mesh = Mesh::of_an_old_proxy().await;
    mesh.bench.ca.publish(bundle_of(&[&mesh.old, &mesh.new], 2));
    let both = mesh.roots.next().await.unwrap();
    mesh.ask();
    // Its listener refuses the new root, as it should: it has not been given it yet.
    mesh.hears(Outcome::Unspecified, "it refuses the new root").await;
    let said = |desk: &Desk| probed(desk).values().any(|row| row.outcome() != Outcome::Unspecified);
    assert!(!said(&mesh.bench.ca.desk()));
    mesh.replaced();
    mesh.roots.ack(&both).await;
    mesh.hears(Outcome::Observed, "").await;
}

#[tokio::test]
async fn a_listener_that_tells_nothing_is_waited_for_and_then_said_to_tell_nothing() {
    let mut mesh = Mesh::start("spiffe://example.org/ns/a/sa/other", |_| Some(Vec::new())).await;
    mesh.distribute().await;
    mesh.hears(Outcome::Unspecified, "somebody else answers there").await;
    mesh.bench.clock.advance(Duration::from_secs(61));
    mesh.hears(Outcome::NotProbeable, "somebody else answers there").await;
    let both = [mesh.old.as_ref(), mesh.new.as_ref()];
    for (asks, why) in [
        (Asks::Nobody, "it asks for no certificate"),
        (Asks::Anybody, "it takes a certificate that nobody signed"),
        (Asks::Under(&both[1..]), "it refuses the present leaf too: alert UnknownCA"),
    ] {
        mesh.proxy.becomes(WORKLOAD, &mesh.old, asks);
        mesh.hears(Outcome::NotProbeable, why).await;
    }
    mesh.replaced();
    mesh.hears(Outcome::Observed, "").await;
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_named() {
    let mut mesh = Mesh::of_an_old_proxy().await;
    mesh.proxy.tasks.shutdown().await;
    mesh.distribute().await;
    let address = mesh.proxy.address;
    mesh.hears(Outcome::Unspecified, &format!("listener {address}: no connection")).await;
    mesh.bench.clock.advance(Duration::from_secs(61));
    mesh.hears(Outcome::NotProbeable, "no connection").await;
}

#[tokio::test]
async fn an_envoy_that_says_where_it_listens_is_probed_there_and_followed_to_another_port() {
    let (mut mesh, admin) = Mesh::of_an_old_envoy().await;
    mesh.distribute().await;
    let said =
        format!("listener {} of the Envoy at {}: it refuses", mesh.proxy.address, admin.address);
    mesh.hears(Outcome::Unable, &said).await;
    let both = [mesh.old.as_ref(), mesh.new.as_ref()];
    let newer = Proxy::start(WORKLOAD, &mesh.old, Asks::Under(&both)).await;
    *admin.listens_at.lock().unwrap() = newer.address;
    mesh.hears(Outcome::Observed, "").await;
    let of = mesh.bench.agent().status().workloads[0].listeners.clone();
    let address = newer.address.to_string();
    assert_eq!((of.len(), of[0].address.as_ref()), (1, Some(&address)));
    assert_eq!(of[0].learnt_from, Some(admin.address.to_string()));
    let heard = wire::Listener {
        spiffe_id: WORKLOAD.to_owned(),
        address,
        learnt_from: admin.address.to_string(),
        why_none: String::new(),
    };
    mesh.bench
        .until_heard("where it listens", |desk| {
            let mut said = desk.heard.iter().filter_map(|message| match message {
                Up::Listeners(all) => Some(&all.listeners),
                _ => None,
            });
            said.next_back() == Some(&vec![heard.clone()])
        })
        .await;
}

#[tokio::test]
async fn an_envoy_that_says_nothing_of_its_listeners_leaves_its_holders_at_their_word() {
    let (mut mesh, admin) = Mesh::of_an_old_envoy().await;
    let address = admin.address;
    drop(admin);
    mesh.bench.stop().await;
    mesh.bench.start().await;
    mesh.bench.until("the agent is connected", |status| status.connected).await;
    (mesh.leaf, mesh.roots) =
        (mesh.bench.subscribe("default").await, mesh.bench.subscribe("ROOTCA").await);
    mesh.roots.next_acked().await;
    mesh.leaf.next_acked().await;
    mesh.distribute().await;
    let said = format!("the Envoy at {address}: no connection");
    mesh.hears(Outcome::Unspecified, &said).await;
    mesh.bench.clock.advance(Duration::from_secs(61));
    mesh.hears(Outcome::NotProbeable, &said).await;
}

#[tokio::test]
async fn a_ca_that_gives_no_probe_leaf_is_asked_again() {
    let mut mesh = Mesh::of_an_old_proxy().await;
    mesh.replaced();
    mesh.bench.ca.desk().next = None;
    mesh.distribute().await;
    mesh.hears(Outcome::Unspecified, "no probe leaf").await;
    mesh.bench.ca.desk().next = Some(Arc::clone(&mesh.new));
    mesh.hears(Outcome::Observed, "").await;
}

#[tokio::test]
async fn an_agent_that_is_restarted_looks_anew() {
    let mut mesh = Mesh::of_an_old_proxy().await;
    mesh.replaced();
    mesh.distribute().await;
    mesh.hears(Outcome::Observed, "").await;
    mesh.bench.stop().await;
    mesh.bench.ca.desk().heard.clear();
    mesh.bench.start().await;
    mesh.bench.until("the agent is connected again", |status| status.connected).await;
    let (mut leaf, mut roots) =
        (mesh.bench.subscribe("default").await, mesh.bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    leaf.next_acked().await;
    mesh.ask();
    mesh.hears(Outcome::Observed, "").await;
}
