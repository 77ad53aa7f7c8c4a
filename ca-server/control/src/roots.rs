//! Roots of the record, with what the ledger and operators know of them.

use std::collections::BTreeMap;

use rotation::{FurtherEntry, IssuerEntry, RootEntry, RootState};
use trust::{Certificate, CertificateId, RootId, Timestamp};

use crate::ca::Ca;

/// One root.
#[derive(Clone, Debug)]
pub struct RootView {
    /// The fingerprint.
    pub id: RootId,
    /// What it is to the mesh.
    pub state: RootState,
    /// Who makes it or names it.
    pub authority: String,
    /// Its name.
    pub subject: String,
    /// `None` where the certificate cannot be read.
    pub not_before: Option<Timestamp>,
    /// Its end.
    pub not_after: Timestamp,
    /// The latest end of any leaf below it, once it signed.
    pub horizon: Option<Timestamp>,
    /// Leaves below it that may live.
    pub live_rows: u64,
    /// Whether it is marked as compromised.
    pub tainted: bool,
    /// The certificate.
    pub der: Vec<u8>,
    /// Issuers below it.
    pub issuers: Vec<IssuerView>,
    /// Whether nobody else issues under it.
    pub exclusive: bool,
    /// Who said that others have stopped to issue under it.
    pub others: Option<OthersStopped>,
    /// Authorities that name it as a further root.
    pub further_by: Vec<String>,
    /// From when on the record may forget it.
    pub forgettable_from: Option<Timestamp>,
}

/// Somebody's word that others have stopped to issue under a root.
#[derive(Clone, Debug)]
pub struct OthersStopped {
    /// Who says so.
    pub by: String,
    /// Since when they have stopped.
    pub since: Timestamp,
    /// The latest end of a leaf of theirs.
    pub until: Timestamp,
}

/// One issuer below a root.
#[derive(Clone, Debug)]
pub struct IssuerView {
    /// The fingerprint.
    pub id: CertificateId,
    /// Its name.
    pub subject: String,
    /// Its beginning.
    pub not_before: Option<Timestamp>,
    /// Its end.
    pub not_after: Timestamp,
    /// Whether it is one that signs, while its root does.
    pub active: bool,
    /// The name of its key at the key backend.
    pub key: String,
    /// Whose key backend that is; empty while a single server has all.
    pub replica: String,
}

/// Roots by fingerprint, after this one.
pub fn after(ca: &Ca, after: Option<RootId>, limit: usize) -> Vec<RootView> {
    let state = ca.driver.state();
    let ours = state.roots.iter().map(|(id, entry)| (*id, RootView::of(ca, id, entry)));
    let others = state.further.iter().filter(|(id, _)| !state.roots.contains_key(*id));
    let all: BTreeMap<_, _> =
        ours.chain(others.map(|(id, entry)| (*id, RootView::further(id, entry)))).collect();
    let later = all.into_iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
    later.take(limit).map(|(_, root)| root).collect()
}

impl RootView {
    /// A root of ours.
    pub fn of(ca: &Ca, id: &RootId, entry: &RootEntry) -> Self {
        let certificate = Certificate::parse(entry.der.as_bytes()).ok();
        let state = ca.driver.state();
        let further = state.further.get(id).into_iter().flat_map(|entry| &entry.by);
        let stopped = |(word, until): (registry::AttestedRow, Timestamp)| OthersStopped {
            by: word.by,
            since: word.since,
            until,
        };
        Self {
            id: *id,
            state: entry.state,
            authority: entry.authority.to_string(),
            subject: certificate.as_ref().map(Certificate::subject_text).unwrap_or_default(),
            not_before: certificate.map(|root| root.validity().not_before()),
            not_after: entry.not_after,
            horizon: entry.horizon,
            live_rows: ca.evidence.rows().under(id).rows,
            tainted: entry.tainted,
            der: entry.der.as_bytes().to_vec(),
            issuers: entry
                .issuers
                .iter()
                .map(|(id, issuer)| IssuerView::of(id, issuer, entry))
                .collect(),
            exclusive: entry.exclusive,
            others: ca.evidence.foreign(id, entry).map(stopped),
            further_by: further.map(ToString::to_string).collect(),
            forgettable_from: entry.forgettable_from(&ca.policy),
        }
    }

    /// A root of others that is trusted: nothing is issued under it here.
    fn further(id: &RootId, entry: &FurtherEntry) -> Self {
        let certificate = Certificate::parse(entry.der.as_bytes()).ok();
        let by: Vec<_> = entry.by.iter().map(ToString::to_string).collect();
        Self {
            id: *id,
            state: RootState::Published,
            authority: by.first().cloned().unwrap_or_default(),
            subject: certificate.as_ref().map(Certificate::subject_text).unwrap_or_default(),
            not_before: certificate.map(|root| root.validity().not_before()),
            not_after: entry.not_after,
            horizon: None,
            live_rows: 0,
            tainted: false,
            der: entry.der.as_bytes().to_vec(),
            issuers: Vec::new(),
            exclusive: false,
            others: None,
            further_by: by,
            forgettable_from: None,
        }
    }
}

impl IssuerView {
    fn of(id: &CertificateId, entry: &IssuerEntry, root: &RootEntry) -> Self {
        let certificate =
            entry.chain.first().and_then(|der| Certificate::parse(der.as_bytes()).ok());
        Self {
            id: *id,
            subject: certificate.as_ref().map(Certificate::subject_text).unwrap_or_default(),
            not_before: certificate.map(|issuer| issuer.validity().not_before()),
            not_after: entry.not_after,
            active: root.signing_issuers().any(|signer| signer == *id),
            replica: entry.replica.as_ref().map(ToString::to_string).unwrap_or_default(),
            key: entry.key.to_string(),
        }
    }
}
