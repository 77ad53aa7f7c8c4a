//! The check of the roots of others that an authority has everybody trust.

use thiserror::Error;
use trust::certificate::Certificate;
use trust::{Root, RootError, RootId, Timestamp, TrustDomain};

use super::certificate::{Need, check_ca, check_validity};
use super::fault::{Fault, Unsafe, Which};
use super::size::{MAX_ANSWER_LEN, check_size};
use crate::authority::RootSet;

/// Most further roots that one authority may name.
pub const FURTHER_MAX: usize = 16;

/// What further roots must fit to.
#[derive(Clone, Copy, Debug)]
pub struct FurtherExpectation<'a> {
    /// The trust domain.
    pub trust_domain: &'a TrustDomain,
    /// The time of the check.
    pub now: Timestamp,
    /// Every root of the trust domain's own, present and past: another certificate for the key and name of one would have its
    /// key trusted again, or for longer.
    pub known: &'a [Root],
}

/// A further root that does not pass.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("further root {} {problem}", id.short())]
pub struct FurtherFault {
    /// SHA-256 of what was named.
    pub id: RootId,
    /// Its subject, if it has one.
    pub subject: String,
    /// What is wrong with it.
    pub problem: Unsafe,
}

/// Checks the further roots of an answer, each for itself: one that does not pass takes no other with it. In the order of
/// their ids.
///
/// # Errors
/// [`Unsafe`] for an answer that cannot be taken at all; then nothing that was trusted before changes.
pub fn check_further(
    answer: &RootSet,
    expected: &FurtherExpectation<'_>,
) -> Result<(Vec<Root>, Vec<FurtherFault>), Unsafe> {
    check_size(&answer.further)?;
    let count = answer.further.len();
    if count > FURTHER_MAX {
        return Err(Unsafe::TooManyFurther { count });
    }
    let (mut passed, mut faults) = (Vec::<Root>::new(), Vec::new());
    for der in &answer.further {
        let judged = check_one(der, answer, expected);
        let judged = judged.and_then(|root| match passed.contains(&root) {
            true => Err(Unsafe::DuplicateRoot(root.id())),
            false => Ok(root),
        });
        match judged {
            Ok(root) => passed.push(root),
            Err(problem) => {
                let subject =
                    Certificate::parse(der).map(|one| one.subject_text()).unwrap_or_default();
                faults.push(FurtherFault { id: RootId::of(der), subject, problem });
            }
        }
    }
    passed.sort_by_key(Root::id);
    Ok((passed, faults))
}

fn check_one(
    der: &[u8],
    answer: &RootSet,
    expected: &FurtherExpectation<'_>,
) -> Result<Root, Unsafe> {
    let id = RootId::of(der);
    let at = Which::Root(id);
    let certificate =
        Certificate::parse(der).map_err(|error| Fault::Malformed(error).of(at.clone()))?;
    // Whatever stands below it is somebody else's.
    let need = Need { trust_domain: expected.trust_domain, path_len: 0 };
    let named = Which::Named(certificate.subject_text());
    check_ca(&certificate, &need).map_err(|fault| fault.of(named.clone()))?;
    check_validity(&certificate, expected.now, expected.now)
        .map_err(|fault| fault.of(named.clone()))?;
    let root = Root::from_certificate(certificate);
    let root = root.map_err(|error: RootError| Fault::NotARoot(error).of(named))?;
    if answer.roots.iter().any(|own| own.as_slice() == der) {
        return Err(Unsafe::DuplicateRoot(id));
    }
    let own: Vec<_> = answer.roots.iter().filter_map(|der| Root::parse(der).ok()).collect();
    let twin = |other: &&Root| {
        let (ours, theirs) = (other.certificate(), root.certificate());
        other.id() != id
            && ours.spki_der() == theirs.spki_der()
            && ours.subject_der() == theirs.subject_der()
    };
    match own.iter().chain(expected.known).find(twin) {
        Some(known) => Err(Unsafe::TwinOfOurs { found: id, known: known.id() }),
        None => Ok(root),
    }
}

const _: () = assert!(FURTHER_MAX * 8 * 1024 <= MAX_ANSWER_LEN);
