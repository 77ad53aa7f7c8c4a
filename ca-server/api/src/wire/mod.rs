//! Domain types as messages: the one place that knows both.

mod leaves;
mod rotation;
mod status;

use issuance::IssuedLeaf;
use ledger::EvidenceClass;
use proto::banyan::agent::v1::{
    Bundle as BundleMessage, EvidenceClass as EvidenceClassMessage, ForeignBundle, ForeignBundles,
    IssueResponse, Transition as TransitionMessage,
};
use trust::Bundle;
use trust::transition::Transition;

pub(crate) use leaves::{leaf, letting};
pub(crate) use rotation::{outlook, rotation};
pub(crate) use status::{agent, root, status};

/// A bundle.
pub(crate) fn bundle(bundle: &Bundle) -> BundleMessage {
    BundleMessage {
        trust_domain: bundle.trust_domain().to_string(),
        sequence: bundle.sequence().0,
        digest: bundle.digest().as_bytes().to_vec(),
        roots: bundle.roots().iter().map(|root| root.der().to_vec()).collect(),
    }
}

/// The bundles of other trust domains.
pub(crate) fn foreign(bundles: &[Bundle]) -> ForeignBundles {
    let one = |bundle: &Bundle| ForeignBundle {
        trust_domain: bundle.trust_domain().to_string(),
        roots: bundle.roots().iter().map(|root| root.der().to_vec()).collect(),
    };
    ForeignBundles { bundles: bundles.iter().map(one).collect() }
}

/// A change of the bundle.
pub(crate) fn transition(after: &Bundle, transition: &Transition) -> TransitionMessage {
    TransitionMessage {
        bundle: Some(bundle(after)),
        statement: transition.statement.clone(),
        signature: transition.signature.clone(),
        issuer_chain: transition.chain.clone(),
    }
}

/// A leaf with the bundle it was born under.
pub(crate) fn issued(leaf: &IssuedLeaf) -> IssueResponse {
    IssueResponse { chain: leaf.chain_der(), bundle: Some(bundle(leaf.bundle())) }
}

/// What kind of evidence somebody names.
pub(crate) fn class(evidence: i32) -> Option<EvidenceClass> {
    match EvidenceClassMessage::try_from(evidence).ok()? {
        EvidenceClassMessage::Unspecified => None,
        EvidenceClassMessage::Sent => Some(EvidenceClass::Sent),
        EvidenceClassMessage::Delivered => Some(EvidenceClass::Delivered),
        EvidenceClassMessage::Applied => Some(EvidenceClass::Applied),
        EvidenceClassMessage::Handshake => Some(EvidenceClass::HandshakeObserved),
    }
}
