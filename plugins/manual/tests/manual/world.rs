//! One authority with a folder, a clock that stands, and an offline machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host::{OsRandomness, SystemClock};
use plugin_manual::ManualPlugin;
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{
    AuthorityDeps, AuthorityPlugin, CallContext, IssuerRequest, KeyBackend, KeySpec, Outcome,
    RequestId, RootAuthority, StageRequest, ca_certificate,
};
use trust::{Clock, ManualClock, RootId, TrustDomain};

use crate::human::{Vault, bring};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

pub(crate) fn opened(
    folder: &Path,
    state: &Arc<MemoryState>,
    clock: Arc<dyn Clock>,
    more: &str,
) -> Arc<dyn RootAuthority> {
    let (keys, state) = (Arc::new(MemoryKeys::new()), Arc::<MemoryState>::clone(state));
    let deps = AuthorityDeps::new(domain(), keys, state, clock, Arc::new(OsRandomness::new()));
    let whose = if more.contains("exclusive") { "" } else { "exclusive = false" };
    let folder = folder.to_str().unwrap();
    let settings = format!("directory = {folder:?}\nlook_every_secs = 1\n{whose}\n{more}");
    ManualPlugin.open(&settings.parse().unwrap(), deps.named("offline")).unwrap()
}

pub(crate) struct World {
    _home: tempfile::TempDir,
    pub(crate) folder: PathBuf,
    pub(crate) state: Arc<MemoryState>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) authority: Arc<dyn RootAuthority>,
    pub(crate) vault: Vault,
}

impl World {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (folder, state) = (home.path().join("ceremonies"), Arc::new(MemoryState::new()));
        // The offline machine has the real time, which goes on while this clock stands: an hour apart is room enough.
        let clock = Arc::new(ManualClock::at(SystemClock.now().plus(Duration::from_secs(3_600))));
        let authority = opened(&folder, &state, Arc::<ManualClock>::clone(&clock), "");
        Self { _home: home, folder, state, clock, authority, vault: Vault::new() }
    }

    pub(crate) fn restart(&mut self) {
        self.authority =
            opened(&self.folder, &self.state, Arc::<ManualClock>::clone(&self.clock), "");
    }

    pub(crate) async fn stage(&self, id: &str) -> Outcome<Vec<u8>> {
        self.stage_of(id, KeySpec::P256).await
    }

    pub(crate) async fn stage_of(&self, id: &str, key: KeySpec) -> Outcome<Vec<u8>> {
        let request = StageRequest::new(domain(), 365 * DAY, key);
        self.authority.staging().unwrap().stage(&context(id), &request).await.unwrap()
    }

    /// A root, asked for and brought.
    pub(crate) async fn root(&self, id: &str) -> RootId {
        self.root_of(id, KeySpec::P256).await
    }

    pub(crate) async fn root_of(&self, id: &str, key: KeySpec) -> RootId {
        let name = pending(self.stage_of(id, key).await);
        bring(&self.folder, &name, &self.vault.follow(&self.request(&name)));
        match self.stage_of(id, key).await {
            Outcome::Ready(der) => RootId::of(&der),
            pending => panic!("{pending:?}: {}", self.said().await),
        }
    }

    pub(crate) async fn sign(
        &self,
        id: &str,
        request: &IssuerRequest,
    ) -> Outcome<plugins::IssuerChain> {
        self.authority.sign_issuer(&context(id), request).await.unwrap()
    }

    pub(crate) fn request(&self, name: &str) -> PathBuf {
        self.folder.join("outbox").join(format!("{name}.txt"))
    }

    pub(crate) async fn said(&self) -> String {
        self.authority.check(&context("check")).await.detail
    }
}

pub(crate) fn context(id: &str) -> CallContext {
    CallContext::new(RequestId::parse(id).unwrap(), Duration::from_secs(5))
}

pub(crate) fn pending<T: std::fmt::Debug>(outcome: Outcome<T>) -> String {
    match outcome {
        Outcome::Pending { ticket, .. } => ticket.as_str().to_owned(),
        ready => panic!("{ready:?}"),
    }
}

pub(crate) async fn issuer_request(root: RootId) -> IssuerRequest {
    let keys = MemoryKeys::new();
    let key = keys.generate(&RequestId::parse("issuer").unwrap(), KeySpec::P256).await.unwrap();
    let csr = ca_certificate::build_issuer_csr(&keys, &key).await.unwrap();
    IssuerRequest::new(root, csr, domain(), 30 * DAY)
}
