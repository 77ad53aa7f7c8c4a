//! The plugin below a real SPIRE server: `cargo xtask peers spire-server spire-agent`, then
//! `cargo test -p plugin-spire --features real-spire`.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod peer;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::{OsRandomness, SystemClock};
use peer::{Agent, Server, TRUST_DOMAIN};
use plugin_spire::SpirePlugin;
use plugins::checks::{RootsExpectation, check_roots};
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{
    AuthorityDeps, AuthorityPlugin, CallContext, HealthState, IssuerRequest, KeyBackend, KeySpec,
    Outcome, PluginError, RequestId, RootAuthority, RootSet, ca_certificate,
};
use plugins_conformance::authority::{Subject, run};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use trust::certificate::Certificate;
use trust::{Clock, ManualClock, RootId, TrustDomain};

const ID: &str = "spiffe://example.org/banyan";
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: &str = "8760h";
const POLL_EVERY: Duration = Duration::from_millis(200);

/// A server with an entry for this CA, and its SVID in files.
struct World {
    server: Server,
    files: TempDir,
    state: Arc<MemoryState>,
}

fn world(ca_ttl: &str, downstream: bool) -> World {
    let (server, files) = (Server::start(ca_ttl), TempDir::new().unwrap());
    server.register(ID, downstream);
    server.mint(ID, files.path());
    World { server, files, state: Arc::new(MemoryState::new()) }
}

impl World {
    fn authority(&self) -> Arc<dyn RootAuthority> {
        let settings = by_files(self.server.port);
        opened(&settings, self.files.path(), Arc::clone(&self.state), Arc::new(SystemClock))
    }
}

fn by_files(port: u16) -> String {
    format!(
        "server = '127.0.0.1:{port}'\nlook_secs = 1\n\
         svid_file = 'svid.pem'\nkey_file = 'key.pem'\nbundle_file = 'bundle.pem'"
    )
}

fn opened(
    settings: &str,
    base: &Path,
    state: Arc<MemoryState>,
    clock: Arc<dyn Clock>,
) -> Arc<dyn RootAuthority> {
    let keys = Arc::new(MemoryKeys::new());
    let deps =
        AuthorityDeps::new(domain(), keys, state, clock, Arc::new(OsRandomness::new())).at(base);
    SpirePlugin.open(&settings.parse().unwrap(), deps).unwrap()
}

fn domain() -> TrustDomain {
    TrustDomain::parse(TRUST_DOMAIN).unwrap()
}

fn context(id: &str) -> CallContext {
    CallContext::new(RequestId::parse(id).unwrap(), Duration::from_secs(20))
}

async fn asked(
    authority: &dyn RootAuthority,
    id: &str,
    root: RootId,
    ttl: Duration,
) -> Result<Vec<Certificate>, PluginError> {
    let keys = MemoryKeys::new();
    let key = keys.generate(&RequestId::parse("issuer").unwrap(), KeySpec::P256).await.unwrap();
    let csr = ca_certificate::build_issuer_csr(&keys, &key).await.unwrap();
    let request = IssuerRequest::new(root, csr, domain(), ttl);
    match authority.sign_issuer(&context(id), &request).await? {
        Outcome::Ready(chain) => {
            Ok(chain.certificates.iter().map(|der| Certificate::parse(der).unwrap()).collect())
        }
        pending => panic!("{pending:?}"),
    }
}

async fn roots(authority: &dyn RootAuthority) -> RootSet {
    authority.roots(&context("roots")).await.unwrap()
}

#[tokio::test]
async fn a_spire_server_passes_the_suite() {
    let world = world(YEAR, true);
    let (port, base, state) =
        (world.server.port, world.files.path().to_owned(), Arc::clone(&world.state));
    let open = move || opened(&by_files(port), &base, Arc::clone(&state), Arc::new(SystemClock));
    run(&Subject::new(open, domain(), Arc::new(SystemClock))).await.assert_conforms();
}

#[tokio::test]
async fn an_agent_s_workload_api_gives_the_identity() {
    let server = Server::start(YEAR);
    server.register(ID, true);
    let agent = Agent::start(&server);
    let home = TempDir::new().unwrap();
    let settings = format!(
        "server = '127.0.0.1:{}'\nworkload_api = 'unix:{}'",
        server.port,
        agent.socket().display()
    );
    let authority =
        opened(&settings, home.path(), Arc::new(MemoryState::new()), Arc::new(SystemClock));
    // The agent learns of the entry a few seconds after it was made.
    let well = async {
        loop {
            let health = authority.check(&context("check")).await;
            if health.state == HealthState::Ok {
                return health;
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    };
    let health = tokio::time::timeout(Duration::from_secs(30), well).await.unwrap();
    assert_eq!((health.state, health.detail.as_str()), (HealthState::Ok, ""));
    assert!(health.earliest_expiry.unwrap() > SystemClock.now().plus(DAY * 300), "the root's");
    let signing = roots(authority.as_ref()).await.signing.unwrap();
    let chain = asked(authority.as_ref(), "one", signing, DAY * 30).await.unwrap();
    assert!(chain.first().unwrap().is_ca());
    let other = format!("{settings}\nspiffe_id = 'spiffe://example.org/other'");
    let other = opened(&other, home.path(), Arc::new(MemoryState::new()), Arc::new(SystemClock));
    let error = other.roots(&context("roots")).await.unwrap_err();
    assert!(error.to_string().contains("no SVID of spiffe://example.org/other"), "{error}");
}

#[tokio::test]
async fn a_rotation_inside_of_spire_is_noticed_in_order() {
    let world = world(YEAR, true);
    let authority = world.authority();
    let first = roots(authority.as_ref()).await;
    let old = first.signing.unwrap();
    let pass = |set: &RootSet, before| {
        let now = SystemClock.now();
        let (none, domain) = (std::collections::BTreeSet::new(), domain());
        check_roots(
            set,
            &RootsExpectation {
                trust_domain: &domain,
                path_len: 1,
                now,
                covers_until: now.plus(DAY * 30),
                before,
                known: &[],
                retired: &none,
                on_purpose: &none,
            },
        )
        .unwrap()
    };
    let before = pass(&first, None);

    let waiting = {
        let (authority, seen) = (Arc::clone(&authority), first.generation);
        tokio::spawn(async move { authority.watching().unwrap().changed(seen).await })
    };
    let prepared = world.server.prepare_authority();
    let announced = waiting.await.unwrap().unwrap();
    assert_eq!(
        (announced.roots.len(), announced.signing),
        (2, Some(old)),
        "it comes, and the old one signs"
    );
    let before = pass(&announced, Some(&before));
    let new = announced.roots.iter().map(|der| RootId::of(der)).find(|id| *id != old).unwrap();
    let refused = asked(authority.as_ref(), "early", new, DAY).await.unwrap_err();
    assert!(matches!(refused, PluginError::Denied { .. }), "{refused:?}");
    assert!(refused.to_string().contains("localauthority x509 activate"), "{refused}");

    world.server.activate_authority(&prepared);
    let activated = authority.watching().unwrap().changed(announced.generation).await.unwrap();
    assert_eq!(
        (activated.roots.len(), activated.signing),
        (2, Some(new)),
        "it signs, and the old one stays"
    );
    let before = pass(&activated, Some(&before));
    asked(authority.as_ref(), "new", new, DAY * 30).await.unwrap();

    world.server.revoke_old_authority();
    // As a helper on the node would, when the bundle has changed.
    world.server.mint(ID, world.files.path());
    // Until the server renews its own SVID, that one is of the root that went, and nobody believes it.
    let again = async {
        loop {
            match authority.watching().unwrap().changed(activated.generation).await {
                Ok(set) => return set,
                Err(PluginError::AuthorityDown { .. }) => tokio::time::sleep(POLL_EVERY).await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    let left = tokio::time::timeout(Duration::from_secs(30), again).await.unwrap();
    assert_eq!((left.roots.len(), left.signing), (1, Some(new)), "the old one went");
    pass(&left, Some(&before));
}

#[tokio::test]
async fn a_server_that_is_away_is_down_and_comes_back_with_its_answers() {
    let mut world = world(YEAR, true);
    let authority = world.authority();
    let set = roots(authority.as_ref()).await;
    let signing = set.signing.unwrap();
    asked(authority.as_ref(), "before", signing, DAY).await.unwrap();
    world.server.stop();
    assert_eq!(authority.check(&context("check")).await.state, HealthState::Down);
    for error in [
        authority.roots(&context("roots")).await.map(drop).unwrap_err(),
        asked(authority.as_ref(), "during", signing, DAY).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, PluginError::AuthorityDown { .. }), "{error:?}");
    }
    world.server.resume();
    assert_eq!(roots(authority.as_ref()).await, set);
    asked(authority.as_ref(), "during", signing, DAY).await.unwrap();
}

#[tokio::test]
async fn an_entry_that_is_not_downstream_is_denied_with_the_command_that_mends_it() {
    let world = world(YEAR, false);
    let authority = world.authority();
    let error = authority.roots(&context("roots")).await.unwrap_err();
    assert!(matches!(error, PluginError::Denied { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("spire-server entry update -downstream") && said.contains(ID), "{said}");
    let health = authority.check(&context("check")).await;
    assert_eq!((health.state, health.detail), (HealthState::Down, said));
}

#[tokio::test]
async fn an_issuer_that_spire_would_shorten_is_refused_with_the_end_and_the_setting() {
    let world = world("24h", true);
    let authority = world.authority();
    let signing = roots(authority.as_ref()).await.signing.unwrap();
    let error = asked(authority.as_ref(), "long", signing, DAY * 2).await.unwrap_err();
    let PluginError::Outlives { above, ends } = &error else { panic!("{error:?}") };
    assert!(above.contains("`ca_ttl`") && above.contains("root.issuer_lifetime"), "{above}");
    let now = SystemClock.now();
    assert!(
        *ends > now.plus(DAY / 2) && *ends <= now.plus(DAY),
        "what signs there lasts a day: {ends}"
    );
    // Nothing is remembered of it: what fits is signed under the same id.
    let chain = asked(authority.as_ref(), "long", signing, DAY / 4).await.unwrap();
    let ends = chain.first().unwrap().validity().not_after();
    assert!(ends >= SystemClock.now().plus(DAY / 4), "{ends}");
    assert!(
        ends < SystemClock.now().plus(DAY / 3),
        "what was asked for, and a little more: {ends}"
    );
}

#[tokio::test]
async fn an_svid_that_has_ended_is_not_used_and_the_file_is_named() {
    let world = world(YEAR, true);
    let later = Arc::new(ManualClock::at(SystemClock.now().plus(DAY)));
    let state = Arc::clone(&world.state);
    let authority = opened(&by_files(world.server.port), world.files.path(), state, later);
    let error = authority.roots(&context("roots")).await.unwrap_err();
    assert!(matches!(error, PluginError::AuthorityDown { .. }), "{error:?}");
    assert!(error.to_string().contains("svid.pem"), "{error}");
}

/// Whoever holds any other SVID of the trust domain is not the server, and another trust domain's server is none either.
#[tokio::test]
async fn only_the_server_itself_is_believed() {
    let world = world(YEAR, true);
    let other = Server::start(YEAR);
    let impostor = impostor(world.files.path()).await;
    for port in [other.port, impostor] {
        let (state, clock) = (Arc::clone(&world.state), Arc::new(SystemClock));
        let authority = opened(&by_files(port), world.files.path(), state, clock);
        let error = authority.roots(&context("roots")).await.unwrap_err();
        assert!(matches!(error, PluginError::AuthorityDown { .. }), "{error:?}");
        let said = error.to_string();
        assert!(said.contains("certificate"), "{said}");
    }
}

/// Answers TLS handshakes with a workload's SVID, and gives its port.
async fn impostor(files: &Path) -> u16 {
    let pem = |name: &str| fs::read(files.join(name)).unwrap();
    let chain = CertificateDer::pem_slice_iter(&pem("svid.pem")).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&pem("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = TlsAcceptor::from(Arc::new(config.clone())).accept(stream).await;
        }
    });
    port
}
