//! Bundles that agents say they have, compared with those of this server. One that this server does not know was published by
//! a server that knew more: the data directory is older than the mesh.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trust::{Bundle, BundleDigest, Sequence};

use crate::bundles::BundleHistory;

/// Agents whose claims are kept at most; one that has a claim already always has its place.
const CLAIMS_MAX: usize = 1_024;
/// Agents that one look names.
const NAMED_MAX: usize = 8;

/// What agents claim to have and this server does not know. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<String, Claim>>>);

/// A bundle that an agent says it has stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its sequence.
    pub(crate) sequence: Sequence,
    /// Its digest, if it said one.
    pub(crate) digest: Option<BundleDigest>,
}

/// What is to be thought of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is a bundle of this server, or one so old that it is not kept.
    Known,
    /// This server has published no bundle of this sequence yet.
    Newer,
    /// This server has published other roots under this sequence.
    Other(BundleDigest),
}

/// A claim that is not of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) stored: Stored,
    pub(crate) judgement: Judgement,
}

impl Stored {
    /// As it came over the wire.
    pub(crate) fn new(sequence: u64, digest: &[u8]) -> Self {
        Self { sequence: Sequence(sequence), digest: BundleDigest::from_bytes(digest) }
    }
}

impl Seen {
    /// Judges what an agent says it has, and notes it: the one place that every such word goes through, from `Hello` and
    /// from requests alike. What is known takes a former claim of that agent back.
    pub(crate) fn note(
        &self,
        agent: &str,
        stored: Stored,
        present: &Bundle,
        history: &BundleHistory,
    ) -> Judgement {
        let judgement = judge(stored, present, history);
        let mut claims = self.lock();
        match judgement {
            Judgement::Known => _ = claims.remove(agent),
            _ if claims.len() >= CLAIMS_MAX && !claims.contains_key(agent) => {}
            _ => _ = claims.insert(agent.to_owned(), Claim { stored, judgement }),
        }
        judgement
    }

    /// What is claimed now, by agent.
    pub(crate) fn claims(&self) -> BTreeMap<String, Claim> {
        self.lock().clone()
    }

    /// The same in sentences.
    pub(crate) fn conditions(&self, present: Sequence) -> Vec<String> {
        let claims = self.claims();
        let more = claims.len().saturating_sub(NAMED_MAX);
        let named = claims.iter().take(NAMED_MAX).map(|(agent, claim)| {
            let sequence = claim.stored.sequence;
            let theirs = claim.stored.digest.map(|digest| digest.to_string()).unwrap_or_default();
            match claim.judgement {
                Judgement::Other(ours) => format!(
                    "agent {agent} has other roots stored as bundle {sequence} ({theirs}) than this server published \
                     ({ours}): was the data directory restored from a backup? The agent gets no leaf until it has this \
                     server's bundle"
                ),
                _ => format!(
                    "agent {agent} has stored bundle {sequence} ({theirs}), and this server is at {present}: was the data \
                     directory restored from a backup?"
                ),
            }
        });
        let rest =
            (more > 0).then(|| format!("{more} more agents have bundles that this server does not know"));
        named.chain(rest).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Claim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn judge(stored: Stored, present: &Bundle, history: &BundleHistory) -> Judgement {
    let ours = match stored.sequence == present.sequence() {
        true => Some(present.digest()),
        false => history.get(stored.sequence).map(|kept| kept.bundle.digest()),
    };
    match (ours, stored.digest) {
        (Some(ours), digest) if digest != Some(ours) => Judgement::Other(ours),
        (None, _) if stored.sequence > present.sequence() => Judgement::Newer,
        _ => Judgement::Known,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use host::RealDisk;
    use trust::TrustDomain;

    use super::*;
    use crate::bundles::Kept;

    fn bundle(sequence: u64, name: &str) -> Bundle {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let domain = TrustDomain::parse("example.org").unwrap();
        Bundle::from_ders(domain, Sequence(sequence), &[der]).unwrap()
    }

    #[tokio::test]
    async fn what_this_server_did_not_publish_is_told_until_the_agent_has_something_it_did() {
        let dir = tempfile::tempdir().unwrap();
        let domain = TrustDomain::parse("example.org").unwrap();
        let disk = Arc::new(RealDisk);
        let history = BundleHistory::open(dir.path().to_owned(), disk, &domain).unwrap();
        let (former, present) = (bundle(2, "former"), bundle(3, "present"));
        history.keep(Kept { bundle: former.clone(), vouch: None }).await.unwrap();
        let seen = Seen::default();
        let note = |stored| seen.note("a", stored, &present, &history);
        let of = |bundle: &Bundle| Stored::new(bundle.sequence().0, bundle.digest().as_bytes());
        assert_eq!(note(of(&present)), Judgement::Known);
        assert_eq!(note(of(&former)), Judgement::Known);
        assert_eq!(note(Stored::new(1, &[7; 32])), Judgement::Known, "too old to be kept");
        assert_eq!(note(of(&bundle(3, "twin"))), Judgement::Other(present.digest()));
        assert_eq!(note(of(&bundle(2, "twin"))), Judgement::Other(former.digest()));
        assert_eq!(note(Stored::new(3, &[])), Judgement::Other(present.digest()), "no digest proves nothing");
        assert!(seen.conditions(Sequence(3))[0].contains("agent a has other roots stored as bundle 3"));
        assert_eq!(note(of(&bundle(4, "next"))), Judgement::Newer);
        assert!(seen.conditions(Sequence(3))[0].contains("has stored bundle 4"));
        assert_eq!(note(of(&present)), Judgement::Known);
        assert!(seen.conditions(Sequence(3)).is_empty());
    }

    #[tokio::test]
    async fn claims_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let domain = TrustDomain::parse("example.org").unwrap();
        let history = BundleHistory::open(dir.path().to_owned(), Arc::new(RealDisk), &domain).unwrap();
        let (seen, present) = (Seen::default(), bundle(3, "present"));
        for number in 0..CLAIMS_MAX + 5 {
            seen.note(&format!("agent-{number}"), Stored::new(9, &[7; 32]), &present, &history);
        }
        assert_eq!(seen.claims().len(), CLAIMS_MAX);
        assert_eq!(seen.conditions(Sequence(3)).len(), NAMED_MAX + 1);
    }
}
