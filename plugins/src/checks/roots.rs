//! The check of an authority's set of roots.

use std::collections::BTreeSet;

use trust::certificate::Certificate;
use trust::{Root, RootError, RootId, Timestamp, TrustDomain};

use super::certificate::{Need, check_ca, check_validity};
use super::fault::{Fault, Unsafe, Which};
use super::size::check_size;
use crate::authority::RootSet;

/// What a set of roots must fit to.
#[derive(Clone, Copy, Debug)]
pub struct RootsExpectation<'a> {
    /// The trust domain.
    pub trust_domain: &'a TrustDomain,
    /// How many CAs must be able to stand below each root: 1, or 2 where it shall cross-sign.
    pub path_len: u8,
    /// The time of the check.
    pub now: Timestamp,
    /// How long a root that is new in the set must last.
    pub covers_until: Timestamp,
    /// The last set of this authority that passed; none at first.
    pub before: Option<&'a CheckedRoots>,
    /// Every root in use in the trust domain, of whatever authority.
    pub known: &'a [Root],
    /// Roots that may not come back by themselves.
    pub retired: &'a BTreeSet<RootId>,
    /// Roots that an operator named: they may come back, or share key and subject with a known one.
    pub on_purpose: &'a BTreeSet<RootId>,
}

/// A set of roots that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedRoots {
    roots: Vec<Root>,
    signing: Option<RootId>,
    generation: u64,
}

impl CheckedRoots {
    /// The roots, in the order of their ids.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The root of an id, if it is in the set.
    pub fn root(&self, id: &RootId) -> Option<&Root> {
        self.roots.iter().find(|root| root.id() == *id)
    }

    /// The root that signs by default.
    pub fn signing(&self) -> Option<RootId> {
        self.signing
    }

    /// The authority's count of changes.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn ids(&self) -> BTreeSet<RootId> {
        self.roots.iter().map(Root::id).collect()
    }
}

/// Checks what an authority answered to `roots`.
///
/// An empty set passes only when none was seen before: an authority that has staged nothing yet.
///
/// # Errors
/// [`Unsafe`], and then the last set that passed stays in force.
pub fn check_roots(
    answer: &RootSet,
    expected: &RootsExpectation<'_>,
) -> Result<CheckedRoots, Unsafe> {
    check_size(&answer.roots)?;
    let mut roots = Vec::with_capacity(answer.roots.len());
    for (place, der) in answer.roots.iter().enumerate() {
        let root = check_root(der, place, expected)?;
        if roots.iter().any(|other: &Root| other.id() == root.id()) {
            return Err(Unsafe::DuplicateRoot(root.id()));
        }
        roots.push(root);
    }
    check_key_reuse(&roots, expected)?;
    roots.sort_by_key(Root::id);
    let checked = CheckedRoots { roots, signing: answer.signing, generation: answer.generation };
    if let Some(signing) = checked.signing.filter(|id| checked.root(id).is_none()) {
        return Err(Unsafe::SigningNotAnnounced(signing));
    }
    if let Some(before) = expected.before {
        check_change(before, &checked)?;
    }
    Ok(checked)
}

fn check_root(der: &[u8], place: usize, expected: &RootsExpectation<'_>) -> Result<Root, Unsafe> {
    let at = Which::RootAt(place);
    let certificate = Certificate::parse(der).map_err(|error| Fault::Malformed(error).of(at))?;
    let need = Need { trust_domain: expected.trust_domain, path_len: u32::from(expected.path_len) };
    let named = Which::Named(certificate.subject_text());
    check_ca(&certificate, &need).map_err(|fault| fault.of(named.clone()))?;
    let root = Root::from_certificate(certificate)
        .map_err(|error: RootError| Fault::NotARoot(error).of(named.clone()))?;
    let id = root.id();
    if expected.retired.contains(&id) && !expected.on_purpose.contains(&id) {
        return Err(Unsafe::RetiredRoot(id));
    }
    // A root that was there before may be near its end: it is on its way out.
    if expected.before.is_none_or(|before| before.root(&id).is_none()) {
        check_validity(root.certificate(), expected.now, expected.covers_until)
            .map_err(|fault| fault.of(Which::Root(id)))?;
    }
    Ok(root)
}

fn check_key_reuse(roots: &[Root], expected: &RootsExpectation<'_>) -> Result<(), Unsafe> {
    for root in roots.iter().filter(|root| !expected.on_purpose.contains(&root.id())) {
        let (found, new) = (root.id(), root.certificate());
        let twin = |other: &&Root| {
            let old = other.certificate();
            other.id() != found
                && old.spki_der() == new.spki_der()
                && old.subject_der() == new.subject_der()
        };
        if let Some(known) = expected.known.iter().chain(roots).find(twin) {
            return Err(Unsafe::SameKeyAndSubject { found, known: known.id() });
        }
    }
    Ok(())
}

fn check_change(before: &CheckedRoots, after: &CheckedRoots) -> Result<(), Unsafe> {
    let (old, new) = (before.ids(), after.ids());
    if new.is_empty() && !old.is_empty() {
        return Err(Unsafe::NoRootsLeft);
    }
    let (added, removed) = (new.difference(&old).count(), old.difference(&new).count());
    if added > 0 && removed > 0 {
        return Err(Unsafe::AddedAndRemoved { added, removed });
    }
    let changed = added + removed > 0 || before.signing != after.signing;
    let went_back = after.generation < before.generation;
    if went_back || (changed && after.generation == before.generation) {
        return Err(Unsafe::Generation { before: before.generation, after: after.generation });
    }
    Ok(())
}
