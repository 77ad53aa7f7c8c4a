//! Whose row a leaf has that is shown here, and what that server says of it.

use std::time::Duration;

use auth::authn::ShownLeaf;
use auth::authn::mtls::{Elsewhere, RowWord, Standing};
use auth::refusal::{Reason, Refusal};
use rotation::{ReplicaName, State};
use rustls_pki_types::CertificateDer;
use trust::CertificateId;

use super::Peers;
use crate::ca::Ca;

/// How long it counts that a leaf may be shown: one that was given up meanwhile is taken for as long.
const GOOD_FOR: Duration = Duration::from_secs(30);
/// How long it counts that it may not.
const BAD_FOR: Duration = Duration::from_secs(5);

/// What is known of a leaf that another server issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Who issued it.
    pub owner: ReplicaName,
    /// What that one says.
    pub says: Elsewhere,
}

/// The server whose key this issuer has, if the record knows it.
pub fn owner_of<'s>(state: &'s State, issuer: &CertificateId) -> Option<&'s ReplicaName> {
    state.roots.values().find_map(|root| root.issuers.get(issuer))?.replica.as_ref()
}

impl Ca {
    /// Asks the server that issued the leaf that is shown, if that is another one and the chain is good. Whoever holds a
    /// snapshot must not wait for this.
    pub async fn ask_owner(&self, certificates: &[CertificateDer<'_>]) -> Option<Owned> {
        // Nothing is computed for a stranger: the issuer must be one of the record.
        let issuer = CertificateId::of(certificates.get(1)?);
        let (owner, tainted, leaf) = {
            let state = self.driver.state();
            let owner = owner_of(&state, &issuer).filter(|owner| **owner != self.replica)?;
            let snapshot = self.cell.load();
            let leaf = self.authenticator.shown(certificates, snapshot.bundle()).ok()?;
            let is_tainted = state.roots.get(&leaf.root).is_none_or(|root| root.tainted)
                || self.registry.is_issuer_distrusted(&issuer);
            (owner.clone(), is_tainted, leaf)
        };
        // A server that was renamed has what it issued under its former name.
        if leaf.issuer != Some(issuer) || self.ledger.find(&leaf.serial).is_some() {
            return None;
        }
        let says = match self.peers.ask(&owner, issuer, &leaf).await {
            Some(says) => says,
            None => Elsewhere::Silent { tainted },
        };
        Some(Owned { owner, says })
    }
}

impl Ca {
    /// The other server of this CA that calls: its certificate names it, an issuer of its own signed that under a root that is
    /// not distrusted, and it holds its lease.
    ///
    /// # Errors
    /// [`Reason::CallerNotAllowed`] for everybody else.
    pub fn colleague(&self, certificates: &[CertificateDer<'_>]) -> Result<ReplicaName, Refusal> {
        let denied = |why: &str| {
            let text = format!("only the other servers of this CA may call this: {why}");
            Refusal::new(Reason::CallerNotAllowed, text)
        };
        if certificates.is_empty() {
            return Err(denied("there is no client certificate"));
        }
        let shown = {
            let snapshot = self.cell.load();
            self.authenticator.shown_by_server(certificates, snapshot.bundle())
        };
        let shown = shown.map_err(|refusal| denied(refusal.text()))?;
        let name = shown.identity.ca_name().and_then(|name| ReplicaName::parse(name).ok());
        let name = name.ok_or_else(|| denied("the certificate names no server"))?;
        if name == self.replica {
            return Err(denied("the certificate has the name of the server that is called"));
        }
        let state = self.driver.state();
        if state.roots.get(&shown.root).is_none_or(|root| root.tainted) {
            return Err(denied("the root of the certificate is distrusted"));
        }
        if shown.issuer.is_some_and(|issuer| self.registry.is_issuer_distrusted(&issuer)) {
            return Err(denied("the issuer of the certificate is distrusted"));
        }
        if shown.issuer.and_then(|issuer| owner_of(&state, &issuer)) != Some(&name) {
            return Err(denied("the server that the certificate names did not issue it"));
        }
        match self.replication.holds_lease(&name) {
            true => Ok(name),
            false => Err(denied("the server that the certificate names holds no lease")),
        }
    }
}

impl Peers {
    /// What a server says of a leaf of its own; `None` when it does not answer.
    async fn ask(
        &self,
        owner: &ReplicaName,
        issuer: CertificateId,
        leaf: &ShownLeaf,
    ) -> Option<Elsewhere> {
        if let Some((says, until)) = self.answers.find(leaf.certificate)
            && self.clock.uptime() < until
        {
            return Some(says);
        }
        let serial = leaf.serial;
        let asked = self.lines.call(owner, "look_up", |calls, place| async move {
            calls.look_up(&place, issuer, serial).await
        });
        let says = asked.await.ok()?.map_or(Elsewhere::Unknown, Elsewhere::Row);
        if let Some(good_for) = counts_for(&says) {
            let until = self.clock.uptime().saturating_add(good_for);
            self.answers.insert(leaf.certificate, (says.clone(), until));
        }
        Some(says)
    }
}

fn counts_for(says: &Elsewhere) -> Option<Duration> {
    match says {
        Elsewhere::Row(RowWord { standing, .. }) => match standing {
            Standing::Live | Standing::Superseded => Some(GOOD_FOR),
            Standing::Released => Some(BAD_FOR),
            // It was shown by that, and counts again.
            Standing::Forgotten => None,
        },
        Elsewhere::Unknown => Some(BAD_FOR),
        Elsewhere::Silent { .. } => None,
    }
}

#[cfg(test)]
mod tests;
