//! What leaves this server, and under which conditions: the order of the checks around an issuance is here and nowhere else.

use auth::refusal::{Reason, Refusal};
use issuance::{AuthorizedRequest, CountedSnapshot, IssueError, IssuedLeaf, Snapshot};
use ledger::Word;
use trust::Sequence;

use crate::ca::Ca;
use crate::probing;
use crate::seen::{Judgement, Stored};

/// Why no leaf was released.
#[derive(Debug)]
pub enum NotReleased {
    /// It was refused, before anything was done or because this server may release nothing by now.
    Refused(Refusal),
    /// It could not be issued.
    Failed(IssueError),
}

impl From<Refusal> for NotReleased {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Whether it says something of the signer: what the ledger or the clock stops, it would stop under any root.
const fn is_ours(error: &IssueError) -> bool {
    match error {
        IssueError::Prepare(_) | IssueError::Sign(_) => true,
        IssueError::Clock(_) | IssueError::Ledger(_) => false,
    }
}

impl Ca {
    /// Issues a leaf that may be released.
    ///
    /// # Errors
    /// [`NotReleased`].
    pub async fn issue(
        &self,
        request: &AuthorizedRequest,
        snapshot: CountedSnapshot,
    ) -> Result<IssuedLeaf, NotReleased> {
        if self.findings.no_ground() {
            let text =
                "this CA cannot keep what it issues: its operator must look at `banyan status`";
            return Err(Refusal::new(Reason::LedgerStopped, text).into());
        }
        self.replication.may_issue()?;
        self.pace.take(request.identity())?;
        let of_cohort = snapshot.clone().signing_for(request.identity()).is_of_cohort();
        let issued = self.issuer.issue(request, snapshot).await;
        if of_cohort {
            self.evidence.canary().issued(
                issued.as_ref().err().filter(|error| is_ours(error)).map(|error| error as _),
            );
        }
        let leaf = issued.map_err(NotReleased::Failed)?;
        // Whoever was held up meanwhile releases nothing: the row stays, and counts until its end.
        self.replication.may_release()?;
        Ok(leaf)
    }

    /// Issues a leaf of the root that shall sign, for the agent that probes its proxies with it.
    ///
    /// # Errors
    /// [`NotReleased`]; a refusal while no probe of this bundle is asked for.
    pub async fn issue_probe(
        &self,
        request: AuthorizedRequest,
        sequence: Sequence,
    ) -> Result<IssuedLeaf, NotReleased> {
        let allowed = self.probing.allowed();
        let Some(allowed) = allowed.filter(|allowed| allowed.wanted.sequence == sequence) else {
            let text = format!("no probe of bundle {sequence} is asked for");
            return Err(Refusal::new(Reason::RotationRefused, text).into());
        };
        let request = request.as_probe(probing::life(self.issuer.profile()));
        self.issue(&request, allowed.snapshot.clone()).await
    }

    /// The word that what an agent has stored is for a leaf that is born now: no agent gets a leaf born at a bundle that it
    /// has not acknowledged as stored.
    ///
    /// # Errors
    /// What the agent, or this server's operator, is to do.
    pub fn word_of(
        &self,
        agent: &str,
        stored: Stored,
        snapshot: &Snapshot,
    ) -> Result<Word, Refusal> {
        let present = snapshot.bundle().sequence();
        if stored.sequence == Sequence(0) {
            let text = "the request does not say which bundle the agent has stored: upgrade the agent to the release of \
                        this server";
            return Err(Refusal::new(Reason::BundleNotStored, text));
        }
        if let Judgement::Other(ours) = self.hear(agent, stored) {
            let sequence = stored.sequence;
            let text = format!(
                "the agent has other roots stored as bundle {sequence} than this server published ({ours}): the server's \
                 operator must look at `banyan status`"
            );
            return Err(Refusal::new(Reason::BundleDiffers, text));
        }
        if stored.sequence < present {
            let text = format!(
                "bundle {present} is in force and the agent has stored {}: store it first (GetBundle), then ask again",
                stored.sequence
            );
            return Err(Refusal::new(Reason::BundleNotStored, text));
        }
        Ok(Word::Trusting(stored.sequence.min(present)))
    }
}
