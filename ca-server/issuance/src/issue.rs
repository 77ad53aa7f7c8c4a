//! Issuance from an authorized request to a leaf that may be released. The order of the steps is here and nowhere else.

use std::sync::Arc;

use ledger::{Ledger, LedgerError};
use trust::{CertificateId, Clock, ClockDiverged, Randomness, Timestamp};

use crate::leaf::IssuedLeaf;
use crate::prepare::{PrepareError, prepare};
use crate::profile::LeafProfile;
use crate::request::AuthorizedRequest;
use crate::sign::{SignError, sign};
use crate::snapshot::CountedSnapshot;

/// Issues leaves. Shared by all requests.
#[derive(Debug, Clone)]
pub struct Issuer {
    profile: LeafProfile,
    ledger: Arc<Ledger>,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
}

/// Why no leaf was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// Nobody knows what time it is. Nothing was stored and nothing signed.
    #[error("no leaf is issued: {0}")]
    Clock(#[from] ClockDiverged),
    /// Nothing was stored and nothing signed.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The row is not durable, so nothing was signed; or the result could not be recorded, so nothing is released.
    #[error("the ledger could not record the leaf: {0}")]
    Ledger(#[from] LedgerError),
    /// The row is durable and was abandoned: it stands for no leaf.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Issuer {
    /// Puts the parts together.
    pub fn new(
        profile: LeafProfile,
        ledger: Arc<Ledger>,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
    ) -> Self {
        Self { profile, ledger, clock, randomness }
    }

    /// The profile in force.
    pub const fn profile(&self) -> &LeafProfile {
        &self.profile
    }

    /// Issues one leaf under the snapshot that the request loaded when it began.
    ///
    /// In this order: lifetime, usages and serial; bytes and lint; the row durable; the signature; its verification; the
    /// result recorded. A future that is dropped half-way leaves at most a row without a leaf: abandoned, or counted as
    /// live until its end.
    ///
    /// # Errors
    /// [`IssueError`]; in no case does a leaf leave this function without its durable row.
    pub async fn issue(
        &self,
        request: &AuthorizedRequest,
        snapshot: CountedSnapshot,
    ) -> Result<IssuedLeaf, IssueError> {
        // Asked here and not once a second: a wall clock may be wrong for a moment only.
        let now = self.clock.agreed()?.wall;
        self.issue_at(request, snapshot, now).await
    }

    /// As [`issue`](Self::issue), at a time that the caller answers for.
    ///
    /// # Errors
    /// As [`issue`](Self::issue).
    pub async fn issue_at(
        &self,
        request: &AuthorizedRequest,
        snapshot: CountedSnapshot,
        now: Timestamp,
    ) -> Result<IssuedLeaf, IssueError> {
        let prepared = prepare(request, &self.profile, snapshot, now, self.randomness.as_ref())?;
        let intent = self.ledger.intend(prepared.row().clone()).await?;
        let leaf = sign(prepared, intent, now).await?;
        self.ledger.issued(leaf.serial(), CertificateId::of(leaf.der())).await?;
        Ok(leaf)
    }
}
