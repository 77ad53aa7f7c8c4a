//! From the record to what requests are served from.

use std::sync::Arc;

use issuance::snapshot::SignerOutsideBundle;
use issuance::{CrossCertificate, Signer, SignerError, SignerParts, Snapshot};
use plugins::{KeyBackend, KeyError, KeyId};
use rotation::{IssuerEntry, ReplicaName, SegmentId, State};
use trust::{Bundle, BundleError, Certificate, CertificateError, RootId, Timestamp};

use crate::cross_net::CrossNet;

/// Builds snapshots, and keeps the last signer: verifying one costs some signatures, and most changes of the record
/// leave it as it is.
#[derive(Debug)]
pub struct Snapshots {
    keys: Arc<dyn KeyBackend>,
    replica: ReplicaName,
    segment: SegmentId,
    signer: Option<Arc<Signer>>,
    /// The same of the root that signs for a cohort.
    canary: Option<Arc<Signer>>,
    /// What is sent behind the chains, where that is wanted.
    cross: Option<Arc<CrossNet>>,
}

/// Why the record makes no snapshot. The former one is served on.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The record names no issuer of this replica under the root that signs.
    #[error("this replica has no issuer under the root that signs yet")]
    NoSigner,
    /// Nothing may be released under the root and into the segment.
    #[error(
        "the record allows no leaf under the signing root: its horizon is not raised, or the segment is closed"
    )]
    NoHorizon,
    /// The roots make no bundle.
    #[error("the roots of the record make no bundle: {0}")]
    Bundle(#[from] BundleError),
    /// The issuer's certificate cannot be read.
    #[error("the issuer's certificate in the record cannot be read: {0}")]
    Certificate(#[from] CertificateError),
    /// The issuer's key is not there.
    #[error(
        "the issuer's key cannot be had: {0}; if it was lost, this server asks its authority for another issuer by itself"
    )]
    Key(#[from] KeyError),
    /// The key's name in the record is no key id.
    #[error("the issuer's key has the name {0:?} in the record, which is no key id")]
    KeyName(String),
    /// The issuer does not fit its key or its root.
    #[error("the issuer cannot sign: {0}")]
    Signer(#[from] SignerError),
    /// The issuer's root is not trusted.
    #[error(transparent)]
    Outside(#[from] SignerOutsideBundle),
}

impl Snapshots {
    /// For this replica, its keys and the segment that this process writes.
    pub fn new(keys: Arc<dyn KeyBackend>, replica: ReplicaName, segment: SegmentId) -> Self {
        Self { keys, replica, segment, signer: None, canary: None, cross: None }
    }

    /// The same, with cross certificates behind the chains while they are sent.
    #[must_use]
    pub fn with_cross(self, cross: Arc<CrossNet>) -> Self {
        Self { cross: Some(cross), ..self }
    }

    /// Shows a state of the record.
    pub async fn of(&mut self, state: &State, now: Timestamp) -> Result<Snapshot, SnapshotError> {
        let roots: Vec<_> = state.bundle().into_values().map(|der| der.as_bytes()).collect();
        let bundle = Bundle::from_ders(state.trust_domain.clone(), state.sequence, &roots)?;
        let named = state.signer_of(&self.replica).ok_or(SnapshotError::NoSigner)?;
        let entry = state.roots.get(&named.root).and_then(|root| root.issuers.get(&named.issuer));
        let entry = entry.ok_or(SnapshotError::NoSigner)?;
        let horizon =
            state.leaf_limit(&named.root, &self.segment).ok_or(SnapshotError::NoHorizon)?;
        let kept = self
            .signer
            .take()
            .filter(|kept| kept.issuer() == named.issuer && kept.root() == named.root);
        let signer = match kept {
            Some(kept) => kept,
            None => {
                let root_ends = state.roots.get(&named.root).map_or(now, |root| root.not_after);
                // One that has ended is verified as of its end: it signs nothing more, and everything else goes on.
                let at = now.min(entry.not_after).min(root_ends);
                Arc::new(self.signer(entry, &bundle, named.root, at).await?)
            }
        };
        self.signer = Some(Arc::clone(&signer));
        let snapshot = Snapshot::new(state.generation, bundle, signer, horizon)?;
        let snapshot = self.with_canary(snapshot, state, now).await?;
        Ok(self.with_second_net(snapshot, state, now))
    }

    /// Adds the cross certificate that is sent now. One that does not hold is left out: nothing rests on it.
    fn with_second_net(&self, snapshot: Snapshot, state: &State, now: Timestamp) -> Snapshot {
        let Some(net) = &self.cross else { return snapshot };
        let Some((root, kept)) = net.sent(state, now) else { return snapshot };
        let mut signers = std::iter::once(snapshot.signer()).chain(snapshot.canary_signer());
        let Some(signer) = signers.find(|signer| signer.root() == root) else { return snapshot };
        let id = kept.certificate.id();
        let bundle = snapshot.bundle();
        match CrossCertificate::verify(kept.certificate, signer, kept.by, bundle, now) {
            Ok(cross) => snapshot.with_cross(Some(Arc::new(cross))),
            Err(error) => {
                net.unfit(root, id, &error.to_string());
                snapshot
            }
        }
    }

    /// Adds what a cohort's leaves are signed with. Where this replica has no issuer for that, or may release no such leaf, they
    /// are signed as everybody else's.
    async fn with_canary(
        &mut self,
        snapshot: Snapshot,
        state: &State,
        now: Timestamp,
    ) -> Result<Snapshot, SnapshotError> {
        let former = self.canary.take();
        let (Some(canary), Some(named)) =
            (state.phase.canary(), state.canary_signer_of(&self.replica))
        else {
            return Ok(snapshot);
        };
        let entry = state.roots.get(&named.root).and_then(|root| root.issuers.get(&named.issuer));
        let Some((entry, horizon)) = entry.zip(state.leaf_limit(&named.root, &self.segment)) else {
            return Ok(snapshot);
        };
        let kept = former.filter(|kept| kept.issuer() == named.issuer && kept.root() == named.root);
        let signer = match kept {
            Some(kept) => kept,
            None => {
                let at = now.min(entry.not_after);
                Arc::new(self.signer(entry, snapshot.bundle(), named.root, at).await?)
            }
        };
        self.canary = Some(Arc::clone(&signer));
        Ok(snapshot.with_canary(canary.cohort.clone(), signer, horizon)?)
    }

    /// A root that does not sign yet as if it did, for probe leaves that end by `until`.
    pub async fn probing(
        &self,
        state: &State,
        root: RootId,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Snapshot, SnapshotError> {
        let roots: Vec<_> = state.bundle().into_values().map(|der| der.as_bytes()).collect();
        let bundle = Bundle::from_ders(state.trust_domain.clone(), state.sequence, &roots)?;
        let known = state.roots.get(&root);
        let issuer = known.and_then(|known| known.signer_for(&self.replica));
        let entry = issuer.and_then(|issuer| known?.issuers.get(&issuer));
        let signer = self.signer(entry.ok_or(SnapshotError::NoSigner)?, &bundle, root, now).await?;
        Ok(Snapshot::new(state.generation, bundle, Arc::new(signer), until)?)
    }

    async fn signer(
        &self,
        entry: &IssuerEntry,
        bundle: &Bundle,
        root: RootId,
        now: Timestamp,
    ) -> Result<Signer, SnapshotError> {
        let name = entry.key.as_str();
        let key = KeyId::parse(name).map_err(|_| SnapshotError::KeyName(name.to_owned()))?;
        let public = self.keys.public(&key).await?;
        let chain = entry.chain.iter().map(|der| Certificate::parse(der.as_bytes()));
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let parts = SignerParts { keys: Arc::clone(&self.keys), key, public, chain };
        Ok(Signer::verify_under(parts, bundle, root, now)?)
    }
}
