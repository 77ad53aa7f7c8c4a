//! The check of a signed issuer.

use std::collections::BTreeSet;

use trust::certificate::Certificate;
use trust::chain::CHAIN_LEN_MAX;
use trust::{PublicKey, Root, RootId, Timestamp, TrustDomain};

use super::certificate::{Need, check_ca, check_signed_by, check_validity, signature_verifies};
use super::fault::{Fault, Unsafe, Which};
use super::size::check_size;
use crate::authority::IssuerChain;

/// What an issuer was asked to be.
#[derive(Clone, Copy, Debug)]
pub struct IssuerExpectation<'a> {
    /// The key of the CSR.
    pub key: &'a PublicKey,
    /// The trust domain asked for.
    pub trust_domain: &'a TrustDomain,
    /// The root asked for.
    pub root: RootId,
    /// How many CAs must be able to stand below the issuer.
    pub path_len: u8,
    /// The time of the check.
    pub now: Timestamp,
    /// How long every certificate of the chain, its root included, must last: the longest leaf's end.
    pub covers_until: Timestamp,
    /// The authority's roots, checked.
    pub announced: &'a [Root],
    /// Roots that no chain may end in any more.
    pub retired: &'a BTreeSet<RootId>,
}

/// An issuer that passed: it may be stored and sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedIssuer {
    chain: Vec<Certificate>,
    root: RootId,
}

impl CheckedIssuer {
    /// The issuer first, each signed by the next, without the root. Never empty.
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// The root it ends in.
    pub fn root(&self) -> RootId {
        self.root
    }

    /// The earliest end of the chain's certificates, the root's apart.
    pub fn not_after(&self) -> Timestamp {
        let ends = self.chain.iter().map(|certificate| certificate.validity().not_after());
        ends.min().unwrap_or(Timestamp::from_secs(0))
    }
}

/// Checks the answer to a request for an issuer.
///
/// # Errors
/// [`Unsafe`], and then nothing of the answer may be used.
pub fn check_issuer_answer(
    answer: &IssuerChain,
    expected: &IssuerExpectation<'_>,
) -> Result<CheckedIssuer, Unsafe> {
    check_size(&answer.certificates)?;
    let count = answer.certificates.len();
    // One place is the leaf's: the chain goes out with it.
    if count == 0 || count >= CHAIN_LEN_MAX {
        return Err(Unsafe::ChainLength { count });
    }
    let mut chain = Vec::with_capacity(count);
    for (place, der) in answer.certificates.iter().enumerate() {
        let certificate =
            Certificate::parse(der).map_err(|error| Fault::Malformed(error).of(which(place)))?;
        check_link(&certificate, place, expected).map_err(|fault| fault.of(which(place)))?;
        chain.push(certificate);
    }
    let top = check_order(&chain)?;
    let root = find_root(top, expected)?;
    check_signed_by(top, root.certificate()).map_err(|fault| fault.of(which(count - 1)))?;
    check_root(root, count, expected)?;
    Ok(CheckedIssuer { chain, root: root.id() })
}

fn check_link(
    certificate: &Certificate,
    place: usize,
    expected: &IssuerExpectation<'_>,
) -> Result<(), Fault> {
    if place == 0 && certificate.spki_der() != expected.key.spki_der() {
        return Err(Fault::WrongKey);
    }
    if certificate.subject_der() == certificate.issuer_der() {
        return Err(Fault::RootInChain);
    }
    let need = Need { trust_domain: expected.trust_domain, path_len: path_len_at(place, expected) };
    check_ca(certificate, &need)?;
    check_validity(certificate, expected.now, expected.covers_until)
}

/// Each signed by the next; answers with the last, whose signer is the root.
fn check_order(chain: &[Certificate]) -> Result<&Certificate, Unsafe> {
    let pairs = chain.iter().zip(chain.iter().skip(1)).enumerate();
    for (place, (below, above)) in pairs {
        check_signed_by(below, above).map_err(|fault| fault.of(which(place)))?;
    }
    chain.last().ok_or(Unsafe::ChainLength { count: 0 })
}

fn find_root<'a>(top: &Certificate, expected: &IssuerExpectation<'a>) -> Result<&'a Root, Unsafe> {
    let signed = |root: &&Root| {
        root.certificate().subject_der() == top.issuer_der()
            && signature_verifies(top, root.certificate())
    };
    // A renewed root has the same key and subject: the one that was asked for is preferred.
    let asked = expected.announced.iter().filter(|root| root.id() == expected.root).find(signed);
    asked.or_else(|| expected.announced.iter().find(signed)).ok_or(Unsafe::UnknownRoot)
}

fn check_root(root: &Root, count: usize, expected: &IssuerExpectation<'_>) -> Result<(), Unsafe> {
    let found = root.id();
    if expected.retired.contains(&found) {
        return Err(Unsafe::RetiredRoot(found));
    }
    if found != expected.root {
        return Err(Unsafe::OtherRoot { asked: expected.root, found });
    }
    let need = Need { trust_domain: expected.trust_domain, path_len: path_len_at(count, expected) };
    check_ca(root.certificate(), &need)
        .and_then(|()| check_validity(root.certificate(), expected.now, expected.covers_until))
        .map_err(|fault| fault.of(Which::Root(found)))
}

fn path_len_at(place: usize, expected: &IssuerExpectation<'_>) -> u32 {
    u32::from(expected.path_len).saturating_add(u32::try_from(place).unwrap_or(u32::MAX))
}

fn which(place: usize) -> Which {
    if place == 0 { Which::Issuer } else { Which::Intermediate(place) }
}
