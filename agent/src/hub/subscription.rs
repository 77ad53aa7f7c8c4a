//! What a holder wants, what it is handed, and what it says of that: the hub's side of every protocol for holders.
//!
//! An adapter (`sds` is one) translates between these and its protocol, and knows nothing else of the hub.

use std::sync::Arc;

use trust::{RootId, Sequence, TrustDomain};

use crate::install::TrustView;
use crate::key::PrivateKey;
use crate::leaf::Leaf;
use crate::lists::Lists;

/// One message of a holder on one of its streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// Names of everything that it wants on this stream from now on.
    pub(crate) wants: Vec<String>,
    /// The trust that it says it has already, if it wants one thing only.
    pub(crate) has: Option<TrustVersion>,
    /// What it says of a delivery.
    pub(crate) answer: Option<Answer>,
}

/// What a holder says of a delivery: it applied it, or it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The delivery; none if it names one that never was.
    pub(crate) to: Option<DeliveryId>,
    /// Why it did not apply it.
    pub(crate) refused: Option<String>,
}

/// Which delivery of which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeliveryId {
    pub(crate) stream: u64,
    /// Counted from 1 on each stream.
    pub(crate) number: u64,
}

/// Something handed to a holder.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// What the holder's answer refers to; none where no answer can come.
    pub(crate) id: Option<DeliveryId>,
    /// The name that it was asked for by.
    pub(crate) name: String,
    pub(crate) material: Material,
}

/// The version of a set of roots: what trusting it proves, and a fingerprint of the roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrustVersion {
    pub(crate) proves: Sequence,
    pub(crate) fingerprint: RootId,
    /// The number of the revocation lists that go with them; 0 for none.
    pub(crate) lists: u64,
}

/// What is handed over.
#[derive(Clone, Debug)]
pub(crate) enum Material {
    /// Chain and key.
    Leaf(Arc<Leaf>),
    /// A certificate that nobody believes, in the place of a leaf that was revoked.
    Nobody(Arc<Nobody>),
    /// Roots in PEM, of one version, and revocation lists.
    Roots { version: TrustVersion, pem: String, lists: Option<Arc<Lists>> },
    /// The roots of each trust domain, by its name.
    RootsOf { version: TrustVersion, domains: Vec<(TrustDomain, String)> },
}

/// A key with a certificate that names nobody.
#[derive(Debug)]
pub(crate) struct Nobody {
    pub(crate) key: PrivateKey,
    pub(crate) chain_pem: String,
}

/// What a stream's reader, or a caller without a stream, gets from the hub.
pub(crate) type Pushed = Result<Delivery, Refusal>;

/// Why a holder gets nothing, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) why: Why,
    pub(crate) text: String,
}

/// Kinds of refusals, by what the holder can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It asked for something that is never served: ask otherwise.
    Malformed,
    /// It may not have this.
    NotPermitted,
    /// The agent's set-up does not allow it.
    NotPossible,
    /// It has its share already.
    ShareTaken,
    /// Not at this moment: try again.
    NotNow,
    /// The caller has ended meanwhile.
    CallerGone,
}

impl TrustVersion {
    pub(crate) fn of(view: &TrustView) -> Self {
        let ids: Vec<u8> = view.roots.iter().flat_map(|id| *id.as_bytes()).collect();
        Self { proves: view.proves, fingerprint: RootId::of(&ids), lists: 0 }
    }

    /// The same with roots of other trust domains.
    pub(crate) fn with(self, others: Option<RootId>) -> Self {
        let Some(others) = others else { return self };
        let both = [*self.fingerprint.as_bytes(), *others.as_bytes()].concat();
        Self { fingerprint: RootId::of(&both), ..self }
    }

    /// The same with revocation lists.
    pub(crate) fn listing(self, lists: Option<&Arc<Lists>>) -> Self {
        Self { lists: lists.map_or(0, |lists| lists.number), ..self }
    }
}

impl Refusal {
    pub(crate) fn new(why: Why, text: impl Into<String>) -> Self {
        Self { why, text: text.into() }
    }

    pub(crate) fn malformed(text: impl Into<String>) -> Self {
        Self::new(Why::Malformed, text)
    }

    pub(crate) fn not_now(text: impl Into<String>) -> Self {
        Self::new(Why::NotNow, text)
    }
}
