//! One call: who makes it, as far as known, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use auth::authn::jwt::TokenClaims;
use auth::authn::{Caller, Credentials, FormerMembers, foreign_bearer};
use auth::refusal::{Reason, Refusal};
use issuance::{AuthorizedRequest, CountedSnapshot, IssueError, IssuedLeaf};
use rotation::{ReplicaName, State};
use rustls_pki_types::CertificateDer;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};
use transport::Peer;
use trust::bundle::BUNDLE_ROOTS_MAX;
use trust::{Bundle, Sequence, Serial};

use control::ca::{Ca, Refused, UNKNOWN_CALLER};
use control::peers::owners::Owned;
use control::release::NotReleased;

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) ca: Arc<Ca>,
    pub(crate) peer: Option<Peer>,
    pub(crate) metadata: MetadataMap,
    /// Who issued the leaf that is shown, if that is another server, and what it said of it.
    owned: Option<Owned>,
    /// What the cluster of the bearer token says of it.
    judged: Option<Result<TokenClaims, Refusal>>,
    caller: &'static str,
    subject: Option<String>,
    /// Where the caller is, if the ledger shall have that.
    place: Option<String>,
    /// The leaf of the caller, if its chain alone spoke for it.
    unmatched: Option<Serial>,
    began: Duration,
}

impl Call {
    /// Takes a request apart.
    pub(crate) fn of<M>(ca: &Arc<Ca>, request: Request<M>) -> (Self, M) {
        let (metadata, extensions, message) = request.into_parts();
        let call = Self {
            ca: Arc::clone(ca),
            peer: extensions.get::<Peer>().cloned(),
            metadata,
            owned: None,
            judged: None,
            caller: UNKNOWN_CALLER,
            subject: None,
            place: None,
            unmatched: None,
            began: ca.clock.uptime(),
        };
        (call, message)
    }

    /// Takes a request apart, and asks those who know more of its credentials: before anything is judged, and before a snapshot is
    /// held.
    pub(crate) async fn met<M>(ca: &Arc<Ca>, request: Request<M>) -> (Self, M) {
        let (mut call, message) = Self::of(ca, request);
        call.meet().await;
        (call, message)
    }

    /// Asks the server that issued the leaf that is shown, if that is another one, and the cluster that the bearer token is of, if
    /// there is one; again and again for a call that lasts.
    pub(crate) async fn meet(&mut self) {
        self.owned = self.ca.ask_owner(self.certificates()).await;
        self.judged = match foreign_bearer(&self.metadata) {
            Some(token) => self.ca.clusters.judge(token, &self.metadata).await,
            None => None,
        };
    }

    fn certificates(&self) -> &[CertificateDer<'static>] {
        self.peer.as_ref().map(|peer| peer.certificates.as_ref()).unwrap_or_default()
    }

    fn credentials(&self) -> Credentials<'_> {
        let elsewhere = self.owned.as_ref().map(|owned| &owned.says);
        let (certificates, judged) = (self.certificates(), self.judged.as_ref());
        Credentials { certificates, elsewhere, metadata: &self.metadata, judged }
    }

    /// Judges the call's credentials, now.
    pub(crate) fn authenticate(&mut self, snapshot: &CountedSnapshot) -> Result<Caller, Refusal> {
        let caller = self.ca.authenticator.authenticate(self.credentials(), snapshot)?;
        self.believe(&caller);
        self.ca.authorizer.not_banned(&caller)?;
        Ok(caller)
    }

    /// Judges whether another server of this CA calls: its name.
    pub(crate) fn colleague(&mut self) -> Result<ReplicaName, Refusal> {
        let name = self.ca.colleague(self.certificates())?;
        self.identified("replica", name.as_str());
        Ok(name)
    }

    /// As [`authenticate`](Self::authenticate), for an agent that was away.
    pub(crate) fn authenticate_returning(
        &mut self,
        snapshot: &CountedSnapshot,
    ) -> Result<Caller, Refusal> {
        let roots = || every_root(&self.ca.driver.state());
        let former = FormerMembers { within: self.ca.evidence.return_within(), roots: &roots };
        let caller = self.ca.authenticator.returning(self.credentials(), snapshot, &former)?;
        self.believe(&caller);
        self.ca.authorizer.not_banned(&caller)?;
        Ok(caller)
    }

    fn believe(&mut self, caller: &Caller) {
        self.caller = caller.label();
        self.subject = Some(caller.subject());
        self.unmatched = caller.unmatched();
        self.place = self.place_of(caller);
        if let Some(peer) = &self.peer {
            peer.conduct.believed();
        }
    }

    /// Notes who calls, as some other credential than a member's proved it.
    pub(crate) fn identified(&mut self, caller: &'static str, subject: &str) {
        self.caller = caller;
        self.subject = Some(subject.to_owned());
        if let Some(peer) = &self.peer {
            peer.conduct.believed();
        }
    }

    /// Issues a leaf that the agent which asks keeps for itself.
    pub(crate) async fn issue_probe(
        &self,
        request: AuthorizedRequest,
        sequence: Sequence,
    ) -> Result<IssuedLeaf, Refusal> {
        let leaf = self.ca.issue_probe(request, sequence).await.map_err(|error| match error {
            NotReleased::Refused(refusal) => refusal,
            NotReleased::Failed(error) => self.logged(error),
        })?;
        self.ca.replication.may_release()?;
        Ok(leaf)
    }

    /// Issues a leaf, and counts it.
    pub(crate) async fn issue(
        &self,
        request: &AuthorizedRequest,
        snapshot: CountedSnapshot,
    ) -> Result<IssuedLeaf, Refusal> {
        let leaf = self.ca.issue(request, snapshot).await.map_err(|error| match error {
            NotReleased::Refused(refusal) => refusal,
            NotReleased::Failed(error) => self.logged(error),
        })?;
        self.note_unmatched(&leaf).await?;
        self.note_place(&leaf).await?;
        // It may have been held up meanwhile again.
        self.ca.replication.may_release()?;
        let took = self.ca.clock.uptime().saturating_sub(self.began);
        let lifetime = leaf.lifetime();
        self.ca.metrics.issued(self.caller, took, lifetime.limit.map(|limit| limit.as_str()));
        tracing::debug!(
            identity = %request.identity(),
            serial = %leaf.serial(),
            not_after = %lifetime.validity.not_after(),
            caller = self.caller,
            bearer = self.subject,
            "leaf issued"
        );
        Ok(leaf)
    }

    fn place_of(&self, caller: &Caller) -> Option<String> {
        let claims = caller.token()?;
        let keeps = claims.cluster.as_ref().is_some_and(|one| self.ca.clusters.keeps_bearers(one));
        keeps.then(|| claims.place())
    }

    /// The audit has where the bearer of the token is, if that is configured.
    async fn note_place(&self, leaf: &IssuedLeaf) -> Result<(), Refusal> {
        let Some(place) = &self.place else { return Ok(()) };
        let noted = self.ca.ledger.bearer(leaf.serial(), place).await;
        noted.map_err(|error| Refusal::new(Reason::LedgerStopped, error.to_string()))
    }

    /// The audit has every leaf that was issued for one of which nothing is known but its chain.
    async fn note_unmatched(&self, leaf: &IssuedLeaf) -> Result<(), Refusal> {
        let (Some(shown), Some(owned)) = (self.unmatched, &self.owned) else { return Ok(()) };
        let (serial, owner) = (leaf.serial(), owned.owner.as_str());
        let noted = self.ca.ledger.unmatched(serial, shown, owner).await;
        noted.map_err(|error| Refusal::new(Reason::LedgerStopped, error.to_string()))?;
        self.ca.metrics.peers.issued_unmatched();
        if let Some(left_out) = self.ca.hush.may_say("unmatched", owner, self.ca.clock.uptime()) {
            let subject = self.subject.as_deref();
            tracing::warn!(
                subject, %shown, %serial, owner, left_out,
                "a leaf was issued for one of another server, which does not answer: only its chain speaks for it"
            );
        }
        Ok(())
    }

    /// What concerns the operator is told in the log, and not to the client.
    fn logged(&self, error: IssueError) -> Refusal {
        let told = error.to_string();
        let refusal = Refusal::from(error);
        let reason = refusal.reason();
        let ours =
            matches!(reason.code(), Code::FailedPrecondition | Code::Unavailable | Code::Internal);
        if ours
            && reason != Reason::HorizonBehind
            && let Some(left_out) =
                self.ca.hush.may_say("not issued", reason.as_str(), self.ca.clock.uptime())
        {
            tracing::error!(error = told, reason = reason.as_str(), left_out, "no leaf was issued");
        }
        refusal
    }

    /// Writes a refusal down and makes the answer of it.
    pub(crate) fn refuse(&self, refusal: Refusal) -> Status {
        let (subject, addr) =
            (self.subject.as_deref(), self.peer.as_ref().and_then(|peer| peer.addr));
        self.ca.refused(&refusal, Refused { caller: self.caller, subject, addr });
        refusal.into()
    }
}

/// Every root that the record knows, tainted ones aside; of more than a bundle may hold those that end last.
fn every_root(state: &State) -> Option<Bundle> {
    let mut believed: Vec<_> = state.roots.values().filter(|root| !root.tainted).collect();
    believed.sort_by_key(|root| std::cmp::Reverse(root.not_after));
    let ders: Vec<_> =
        believed.iter().take(BUNDLE_ROOTS_MAX).map(|root| root.der.as_bytes()).collect();
    Bundle::from_ders(state.trust_domain.clone(), state.sequence, &ders).ok()
}
