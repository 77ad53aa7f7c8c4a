//! A plugin over a real Unix socket: the whole suite through the protocol, and what a bad plugin may do to its caller.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use plugin_remote::{Endpoint, PluginService, RemotePlugin, handshake};
use plugin_self_signed::SelfSignedPlugin;
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{
    AuthorityDeps, AuthorityPlugin, CallContext, Description, Health, HealthState, IssuerChain,
    IssuerRequest, KeySpec, Outcome, PluginError, RequestId, RootAuthority, RootSet, StageRequest,
    Ticket, WithdrawRequests,
};
use plugins_conformance::authority::{Subject, run};
use proto::banyan::plugin::v1 as wire;
use proto::banyan::plugin::v1::root_authority_service_server::{
    RootAuthorityService, RootAuthorityServiceServer,
};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use trust::{ManualClock, RootId, SeededRandomness, Timestamp, TrustDomain};

const NOW: Timestamp = Timestamp::from_secs(1_780_272_000);

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn deps() -> AuthorityDeps {
    let (keys, state) = (Arc::new(MemoryKeys::new()) as _, Arc::new(MemoryState::new()) as _);
    let (clock, randomness) =
        (Arc::new(ManualClock::at(NOW)) as _, Arc::new(SeededRandomness::new(1)) as _);
    AuthorityDeps::new(domain(), keys, state, clock, randomness)
}

fn listen(path: &Path) -> UnixListenerStream {
    UnixListenerStream::new(UnixListener::bind(path).unwrap())
}

/// Serves until the sender is dropped.
fn serve(path: &Path, authority: Arc<dyn RootAuthority>) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let sockets = listen(path);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder().add_service(PluginService::server(authority));
    let ends = async { drop(stopped.await) };
    (
        stop,
        tokio::spawn(
            async move { server.serve_with_incoming_shutdown(sockets, ends).await.unwrap() },
        ),
    )
}

fn remote(path: &Path, capabilities: &str) -> Arc<dyn RootAuthority> {
    let settings =
        format!("endpoint = 'unix://{}'\ncapabilities = [{capabilities}]", path.display());
    RemotePlugin.open(&settings.parse().unwrap(), deps()).unwrap()
}

fn context(id: &str) -> CallContext {
    CallContext::new(RequestId::parse(id).unwrap(), Duration::from_secs(2))
}

fn home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("plugin.sock");
    (home, socket)
}

#[tokio::test]
async fn an_authority_passes_the_suite_through_the_protocol() {
    let (_home, socket) = home();
    let _serving = serve(&socket, SelfSignedPlugin.open(&toml::Table::new(), deps()).unwrap());
    let open = move || remote(&socket, "'stage', 'cross-sign', 'retire'");
    let report = run(&Subject::new(open, domain(), Arc::new(ManualClock::at(NOW)))).await;
    report.assert_conforms();
    assert!(report.skipped().is_empty(), "{report}");
}

#[tokio::test]
async fn a_plugin_that_restarts_is_found_again() {
    let (_home, socket) = home();
    let authority = SelfSignedPlugin.open(&toml::Table::new(), deps()).unwrap();
    let (stop, first) = serve(&socket, Arc::clone(&authority));
    let remote = remote(&socket, "'stage', 'cross-sign', 'retire'");
    let request = StageRequest::new(domain(), Duration::from_secs(86_400 * 365), KeySpec::P256);
    let root = remote.staging().unwrap().stage(&context("one"), &request).await.unwrap();
    drop(stop);
    first.await.unwrap();
    std::fs::remove_file(&socket).unwrap();
    // The first call may still meet the connection that broke.
    let _ = remote.roots(&context("roots")).await;
    let down = remote.roots(&context("roots")).await.unwrap_err();
    assert!(
        matches!(&down, PluginError::AuthorityDown { detail } if detail.contains("plugin.sock")),
        "{down:?}"
    );
    let _serving = serve(&socket, authority);
    let again = remote.staging().unwrap().stage(&context("one"), &request).await.unwrap();
    assert_eq!(root, again);
}

/// What a bad plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evil {
    OtherVersion,
    OtherCapabilities,
    IsShared,
    Hangs,
    Huge,
    Repeats,
    NoOutcome,
    ShortId,
    Crashes,
    TellsItsKey,
}

#[derive(Debug)]
struct Bad {
    evil: Evil,
    calls: AtomicU32,
}

#[tonic::async_trait]
impl RootAuthorityService for Bad {
    async fn handshake(
        &self,
        _: Request<wire::HandshakeRequest>,
    ) -> Result<Response<wire::HandshakeResponse>, Status> {
        let mut capabilities = vec!["watch".to_owned()];
        if self.evil == Evil::OtherCapabilities {
            capabilities.push("stage".to_owned());
        }
        Ok(Response::new(wire::HandshakeResponse {
            version: if self.evil == Evil::OtherVersion { 2 } else { 1 },
            capabilities,
            shared: self.evil == Evil::IsShared,
            ..wire::HandshakeResponse::default()
        }))
    }

    async fn check(
        &self,
        _: Request<wire::CheckRequest>,
    ) -> Result<Response<wire::CheckResponse>, Status> {
        let detail = "-----BEGIN PRIVATE KEY----- MC4CAQAwBQYDK2VwBCIEI".to_owned();
        let state = wire::HealthState::Degraded.into();
        Ok(Response::new(wire::CheckResponse { state, detail, ..wire::CheckResponse::default() }))
    }

    async fn roots(
        &self,
        _: Request<wire::RootsRequest>,
    ) -> Result<Response<wire::RootSet>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut set = wire::RootSet { generation: 1, ..wire::RootSet::default() };
        match self.evil {
            Evil::Hangs => std::future::pending().await,
            Evil::Huge => set.roots = vec![vec![0; 100 * 1024 * 1024]],
            Evil::ShortId => set.signing = vec![1, 2, 3],
            Evil::Crashes => panic!("a bad plugin crashes"),
            Evil::TellsItsKey => {
                return Err(Status::internal("-----BEGIN PRIVATE KEY----- MC4CAQ"));
            }
            _ => {}
        }
        Ok(Response::new(set))
    }

    async fn sign_issuer(
        &self,
        _: Request<wire::SignIssuerRequest>,
    ) -> Result<Response<wire::SignIssuerResponse>, Status> {
        Ok(Response::new(wire::SignIssuerResponse { outcome: None }))
    }

    async fn poll(
        &self,
        _: Request<wire::PollRequest>,
    ) -> Result<Response<wire::SignIssuerResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn stage_root(
        &self,
        _: Request<wire::StageRootRequest>,
    ) -> Result<Response<wire::StageRootResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn activate_root(
        &self,
        _: Request<wire::ActivateRootRequest>,
    ) -> Result<Response<wire::ActivateRootResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    type WatchRootsStream = BoxStream<'static, Result<wire::RootSet, Status>>;

    async fn watch_roots(
        &self,
        _: Request<wire::WatchRootsRequest>,
    ) -> Result<Response<Self::WatchRootsStream>, Status> {
        let set = || wire::RootSet { generation: 1, ..wire::RootSet::default() };
        Ok(Response::new(stream::repeat_with(move || Ok(set())).boxed()))
    }

    async fn cross_sign(
        &self,
        _: Request<wire::CrossSignRequest>,
    ) -> Result<Response<wire::CrossSignResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn retire_root(
        &self,
        _: Request<wire::RetireRootRequest>,
    ) -> Result<Response<wire::RetireRootResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn open_requests(
        &self,
        _: Request<wire::OpenRequestsRequest>,
    ) -> Result<Response<wire::OpenRequestsResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn withdraw_request(
        &self,
        _: Request<wire::WithdrawRequestRequest>,
    ) -> Result<Response<wire::WithdrawRequestResponse>, Status> {
        Err(Status::unimplemented("no"))
    }
}

/// Stands in for an authority at which requests wait for people: it answers none.
#[derive(Debug, Default)]
struct WaitsForPeople(Mutex<Vec<RequestId>>);

#[async_trait::async_trait]
impl RootAuthority for WaitsForPeople {
    fn describe(&self) -> Description {
        Description::new("waits", "waits", "1")
    }

    async fn check(&self, _: &CallContext) -> Health {
        Health::ok()
    }

    async fn roots(&self, _: &CallContext) -> Result<RootSet, PluginError> {
        Ok(RootSet::new(Vec::new(), None, 0))
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        _: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.0.lock().unwrap().push(context.request_id.clone());
        Ok(Outcome::Pending { ticket: Ticket::new("t"), retry_after: Duration::from_secs(60) })
    }

    async fn poll(&self, _: &CallContext, _: &Ticket) -> Result<Outcome<IssuerChain>, PluginError> {
        Err(PluginError::Denied { reason: "no".to_owned() })
    }

    fn withdrawing(&self) -> Option<&dyn WithdrawRequests> {
        Some(self)
    }
}

#[async_trait::async_trait]
impl WithdrawRequests for WaitsForPeople {
    async fn open_requests(&self, _: &CallContext) -> Result<Vec<RequestId>, PluginError> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn withdraw(&self, _: &CallContext, request_id: &RequestId) -> Result<(), PluginError> {
        self.0.lock().unwrap().retain(|open| open != request_id);
        Ok(())
    }
}

#[tokio::test]
async fn a_request_that_waits_for_people_is_taken_back_through_the_protocol() {
    let (_home, socket) = home();
    let _serving = serve(&socket, Arc::new(WaitsForPeople::default()));
    let remote = remote(&socket, "'withdraw'");
    let asked = IssuerRequest::new(RootId::of(b"root"), vec![1], domain(), Duration::from_secs(60));
    for id in ["one", "two"] {
        let outcome = remote.sign_issuer(&context(id), &asked).await.unwrap();
        assert!(matches!(outcome, Outcome::Pending { .. }), "{outcome:?}");
    }
    let withdrawing = remote.withdrawing().unwrap();
    let open = async || withdrawing.open_requests(&context("look")).await;
    let id = |text: &str| RequestId::parse(text).unwrap();
    assert_eq!(open().await.unwrap(), [id("one"), id("two")]);
    withdrawing.withdraw(&context("withdraw"), &id("one")).await.unwrap();
    withdrawing.withdraw(&context("withdraw"), &id("one")).await.unwrap();
    assert_eq!(open().await.unwrap(), [id("two")]);
    // A plugin that does not show it is never asked.
    let (_home, plain) = with(Evil::NoOutcome).await;
    assert!(plain.withdrawing().is_none());
}

async fn with(evil: Evil) -> (tempfile::TempDir, Arc<dyn RootAuthority>) {
    let (home, socket) = home();
    let sockets = listen(&socket);
    let bad = RootAuthorityServiceServer::new(Bad { evil, calls: AtomicU32::new(0) });
    let server = Server::builder().add_service(bad.max_encoding_message_size(usize::MAX));
    tokio::spawn(async move { server.serve_with_incoming(sockets).await.unwrap() });
    let remote = remote(&socket, "'watch'");
    (home, remote)
}

#[tokio::test]
async fn a_plugin_that_is_not_what_its_section_says_is_not_used() {
    for (evil, words) in [
        (Evil::OtherVersion, "version 2"),
        (Evil::OtherCapabilities, "capabilities = [\"stage\", \"watch\"]"),
        (Evil::IsShared, "exclusive = false"),
    ] {
        let (_home, remote) = with(evil).await;
        let refused = remote.roots(&context("roots")).await.unwrap_err();
        assert!(refused.to_string().contains(words), "{evil:?}: {refused}");
        assert!(
            !refused.may_be_repeated()
                && remote.check(&context("check")).await.state == HealthState::Down
        );
    }
}

#[tokio::test]
async fn bad_answers_are_errors_and_the_next_call_is_still_made() {
    let root = RootId::of(b"root");
    for (evil, words) in [
        (Evil::Hangs, "did not answer within 2 s"),
        (Evil::Huge, "too large"),
        (Evil::ShortId, "SHA-256"),
        (Evil::Crashes, ""),
        (Evil::TellsItsKey, "(private key hidden)"),
    ] {
        let (_home, remote) = with(evil).await;
        for _ in 0..2 {
            let error = remote.roots(&context("roots")).await.unwrap_err();
            assert!(error.to_string().contains(words), "{evil:?}: {error}");
            assert!(!error.to_string().contains("MC4"), "{error}");
        }
    }
    let (_home, remote) = with(Evil::NoOutcome).await;
    let asked = IssuerRequest::new(root, vec![1], domain(), Duration::from_secs(60));
    assert!(remote.sign_issuer(&context("one"), &asked).await.is_err());
    let health = remote.check(&context("check")).await;
    assert_eq!(health.state, HealthState::Degraded);
    assert!(!health.detail.contains("MC4"), "{}", health.detail);
}

#[tokio::test]
async fn a_watch_without_news_and_without_end_is_broken_off() {
    let (_home, remote) = with(Evil::Repeats).await;
    let watched = remote.watching().unwrap().changed(1);
    let error = tokio::time::timeout(Duration::from_secs(20), watched).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("without end"), "{error}");
    assert_eq!(remote.watching().unwrap().changed(0).await.unwrap().generation, 1);
}

#[tokio::test]
async fn a_handshake_tells_what_a_plugin_is() {
    let (_home, socket) = home();
    let _serving = serve(&socket, SelfSignedPlugin.open(&toml::Table::new(), deps()).unwrap());
    let endpoint = Endpoint::parse(&format!("unix://{}", socket.display()), Path::new("")).unwrap();
    let plugin = handshake(&endpoint, "check", &domain()).await.unwrap();
    assert_eq!(plugin.capabilities(), ["stage", "cross-sign", "retire"]);
    assert!(plugin.roots(&context("roots")).await.unwrap().roots.is_empty());
}

#[tokio::test]
async fn a_process_that_is_not_the_pinned_one_is_not_started_and_one_that_ends_is_told() {
    let (home, socket) = home();
    let open = |more: &str| {
        let text =
            format!("endpoint = 'unix://{}'\ncommand = ['/bin/false']\n{more}", socket.display());
        RemotePlugin.open(&text.parse().unwrap(), deps().at(home.path())).unwrap()
    };
    let pinned = open(&format!("sha256 = '{}'", "0".repeat(64)));
    let refused = pinned.roots(&context("roots")).await.unwrap_err();
    assert!(refused.to_string().contains("not the pinned"), "{refused}");
    let ends = open("");
    let ended = ends.roots(&context("roots")).await.unwrap_err();
    assert!(ended.to_string().contains("before it listened"), "{ended}");
    let waits = ends.roots(&context("roots")).await.unwrap_err();
    assert!(waits.to_string().contains("started again in"), "{waits}");
}
