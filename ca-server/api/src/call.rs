//! One call: who makes it, as far as known, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use auth::authn::{Caller, FormerMembers};
use auth::refusal::{Reason, Refusal};
use issuance::{AuthorizedRequest, CountedSnapshot, IssueError, IssuedLeaf};
use rotation::State;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};
use transport::Peer;
use trust::Bundle;
use trust::bundle::BUNDLE_ROOTS_MAX;

use control::ca::{Ca, Refused, UNKNOWN_CALLER};

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) ca: Arc<Ca>,
    pub(crate) peer: Option<Peer>,
    pub(crate) metadata: MetadataMap,
    caller: &'static str,
    subject: Option<String>,
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
            caller: UNKNOWN_CALLER,
            subject: None,
            began: ca.clock.uptime(),
        };
        (call, message)
    }

    /// Judges the call's credentials, now.
    pub(crate) fn authenticate(&mut self, snapshot: &CountedSnapshot) -> Result<Caller, Refusal> {
        let certificates =
            self.peer.as_ref().map(|peer| peer.certificates.as_ref()).unwrap_or_default();
        let caller = self.ca.authenticator.authenticate(certificates, &self.metadata, snapshot)?;
        self.believe(&caller);
        Ok(caller)
    }

    /// As [`authenticate`](Self::authenticate), for an agent that was away.
    pub(crate) fn authenticate_returning(
        &mut self,
        snapshot: &CountedSnapshot,
    ) -> Result<Caller, Refusal> {
        let certificates =
            self.peer.as_ref().map(|peer| peer.certificates.as_ref()).unwrap_or_default();
        let roots = || every_root(&self.ca.driver.state());
        let former = FormerMembers { within: self.ca.evidence.return_within(), roots: &roots };
        let caller =
            self.ca.authenticator.returning(certificates, &self.metadata, snapshot, &former)?;
        self.believe(&caller);
        Ok(caller)
    }

    fn believe(&mut self, caller: &Caller) {
        self.caller = caller.label();
        self.subject = Some(caller.subject());
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

    /// Issues a leaf, and counts it.
    pub(crate) async fn issue(
        &self,
        request: &AuthorizedRequest,
        snapshot: CountedSnapshot,
    ) -> Result<IssuedLeaf, Refusal> {
        if self.ca.findings.no_ground() {
            let text =
                "this CA cannot keep what it issues: its operator must look at `banyan status`";
            return Err(Refusal::new(Reason::LedgerStopped, text));
        }
        self.ca.replication.may_issue()?;
        self.ca.pace.take(request.identity())?;
        let leaf =
            self.ca.issuer.issue(request, snapshot).await.map_err(|error| self.logged(error))?;
        // Whoever was held up meanwhile releases nothing: the row stays, and counts until its end.
        self.ca.replication.may_release()?;
        let took = self.ca.clock.uptime().saturating_sub(self.began);
        let lifetime = leaf.lifetime();
        self.ca.metrics.issued(self.caller, took, lifetime.limit.map(|limit| limit.as_str()));
        tracing::debug!(
            identity = %request.identity(),
            serial = %leaf.serial(),
            not_after = %lifetime.validity.not_after(),
            caller = self.caller,
            "leaf issued"
        );
        Ok(leaf)
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
