//! One leaf with its key: judged when it arrives, in memory only, wiped when the last user lets go.

use std::fmt;
use std::sync::Arc;

use trust::renewal::renew_after_millis;
use trust::{Bundle, Chain, ChainError, PeerRole, Sequence, SpiffeId, Timestamp, TrustDomain};
use zeroize::Zeroizing;

use crate::install::HeldLeaf;
use crate::key::PrivateKey;

/// A leaf that has passed [`Leaf::accept`].
pub(crate) struct Leaf {
    identity: SpiffeId,
    key: Arc<PrivateKey>,
    chain: Chain,
    held: HeldLeaf,
    received_millis: i64,
}

/// A leaf that the CA sent and that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeafRefused {
    /// It is for another key than the one in the request.
    #[error("the leaf from the CA is for another key")]
    OtherKey,
    /// It names somebody else.
    #[error("the leaf from the CA is for `{0}`")]
    OtherIdentity(String),
    /// Its serial number is not one that Banyan draws.
    #[error("the leaf from the CA has a serial number that is not Banyan's")]
    ForeignSerial,
    /// It does not verify under the newest bundle, or not now.
    #[error("the leaf from the CA does not verify: {0}")]
    Chain(#[from] ChainError),
}

impl Leaf {
    /// Judges a leaf as its peers will, under the newest bundle and this machine's clock.
    pub(crate) fn accept(
        ders: &[Vec<u8>],
        key: Arc<PrivateKey>,
        expected: Expected<'_>,
        against: &Judgement<'_>,
    ) -> Result<Self, LeafRefused> {
        let chain = Chain::parse(ders)?;
        let leaf = chain.leaf();
        if leaf.spki_hash() != key.spki() {
            return Err(LeafRefused::OtherKey);
        }
        let identity = match leaf.spiffe_id() {
            Ok(id) if expected.is(&id) => id,
            Ok(id) => return Err(LeafRefused::OtherIdentity(id.to_string())),
            Err(_) => return Err(LeafRefused::OtherIdentity("nobody in particular".to_owned())),
        };
        let serial = leaf.serial().ok_or(LeafRefused::ForeignSerial)?;
        let now = Timestamp::from_secs(against.now_millis.div_euclid(1_000));
        let root = chain.verify(against.bundle, now, PeerRole::Server)?;
        chain.verify(against.bundle, now, PeerRole::Client)?;
        let (not_after, born, promised) =
            (leaf.validity().not_after(), against.born, against.promised);
        let held = HeldLeaf { serial, root, not_after, born, promised };
        let received_millis = against.now_millis;
        Ok(Self { identity, key, chain, held, received_millis })
    }

    pub(crate) fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    pub(crate) fn held(&self) -> HeldLeaf {
        self.held
    }

    pub(crate) fn key(&self) -> &Arc<PrivateKey> {
        &self.key
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(crate) fn chain_pem(&self) -> String {
        self.chain.certificates().map(trust::Certificate::pem).collect()
    }

    pub(crate) fn key_pem(&self) -> Zeroizing<String> {
        self.key.pem()
    }

    /// When to renew, in milliseconds since the epoch: at half of what was left on arrival, give or take a tenth.
    pub(crate) fn renew_at_millis(&self, jitter: Jitter) -> i64 {
        let left = self.held.not_after.as_secs().saturating_mul(1_000) - self.received_millis;
        self.received_millis.saturating_add(renew_after_millis(left, jitter.0))
    }
}

/// Whom a leaf must name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected<'a> {
    /// This workload.
    Workload(&'a SpiffeId),
    /// Some agent of this trust domain: the CA decides its name.
    Agent(&'a TrustDomain),
}

impl Expected<'_> {
    fn is(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Workload(wanted) => *wanted == id,
            Self::Agent(domain) => id.trust_domain() == *domain && id.agent_name().is_some(),
        }
    }
}

/// What a leaf is judged against.
#[derive(Debug)]
pub(crate) struct Judgement<'a> {
    /// The newest bundle.
    pub(crate) bundle: &'a Bundle,
    /// Sequence of the bundle that came with the leaf.
    pub(crate) born: Sequence,
    /// Whether the CA has this agent's word about whom the leaf is handed to.
    pub(crate) promised: bool,
    pub(crate) now_millis: i64,
}

/// A random number that spreads renewals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jitter(pub(crate) u32);

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").field("identity", &self.identity).field("held", &self.held).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{NOW, Pki};
    use std::time::Duration;

    fn id() -> SpiffeId {
        SpiffeId::parse("spiffe://example.org/ns/a/sa/b").unwrap()
    }

    fn accept(bundle: &Bundle, key: PrivateKey, chain: &[Vec<u8>]) -> Result<Leaf, LeafRefused> {
        let now_millis = NOW.as_secs() * 1_000;
        let judgement = Judgement { bundle, born: Sequence(1), promised: true, now_millis };
        Leaf::accept(chain, Arc::new(key), Expected::Workload(&id()), &judgement)
    }

    #[test]
    fn a_leaf_for_another_key_or_name_or_under_another_root_is_refused() {
        let pki = Pki::new("one");
        let ttl = Duration::from_secs(3600);
        let key = || PrivateKey::generate().unwrap();
        let mine = key();
        let chain = pki.leaf(&mine.request(Some(&id())).unwrap(), &id(), NOW, ttl);
        assert_eq!(accept(&pki.bundle(1), key(), &chain).unwrap_err(), LeafRefused::OtherKey);
        let other = Pki::new("two").bundle(1);
        assert_eq!(
            accept(&other, mine, &chain).unwrap_err(),
            LeafRefused::Chain(ChainError::UnknownRoot)
        );
        let mine = key();
        let somebody = SpiffeId::parse("spiffe://example.org/ns/a/sa/c").unwrap();
        let chain = pki.leaf(&mine.request(None).unwrap(), &somebody, NOW, ttl);
        let refused = accept(&pki.bundle(1), mine, &chain).unwrap_err();
        assert_eq!(refused, LeafRefused::OtherIdentity(somebody.to_string()));
        let mine = key();
        let late = NOW.plus(Duration::from_secs(7200));
        let chain = pki.leaf(&mine.request(None).unwrap(), &id(), late, ttl);
        let refused = accept(&pki.bundle(1), mine, &chain).unwrap_err();
        assert_eq!(refused, LeafRefused::Chain(ChainError::NotValidNow));
    }

    #[test]
    fn renewal_falls_within_a_tenth_of_half_life() {
        let pki = Pki::new("one");
        let key = PrivateKey::generate().unwrap();
        let chain = pki.leaf(&key.request(None).unwrap(), &id(), NOW, Duration::from_secs(1000));
        let leaf = accept(&pki.bundle(1), key, &chain).unwrap();
        let from_now = |jitter| leaf.renew_at_millis(Jitter(jitter)) - NOW.as_secs() * 1_000;
        assert_eq!(from_now(0), 450_000);
        assert_eq!(from_now(100), 550_000);
        assert!((0..1000).all(|jitter| (450_000..=550_000).contains(&from_now(jitter))));
    }
}
