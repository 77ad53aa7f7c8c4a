//! Whom somebody speaks for, as callers write it.

use std::collections::BTreeSet;

use auth::refusal::{Refusal, echoed};
use trust::Cover;

use crate::words::invalid;
use control::ca::Ca;

/// Identities, and paths with all below them, that one word is about at most.
const COVERS_MAX: usize = 256;

/// Reads them; all are of the trust domain of this CA.
pub(crate) fn read(ca: &Ca, texts: &[String]) -> Result<BTreeSet<Cover>, Refusal> {
    if texts.len() > COVERS_MAX {
        return Err(invalid(format!(
            "at most {COVERS_MAX} can be covered: cover all below a path, such as {}/ns/shop/*, or add a second one",
            ca.id.trust_domain().id()
        )));
    }
    let one = |text: &String| {
        let cover = Cover::parse(text).map_err(|error| {
            invalid(format!(
                "\"{}\" is no SPIFFE id, nor one with /* behind it for all below it: {error}",
                echoed(text)
            ))
        })?;
        match cover.trust_domain() == ca.id.trust_domain() {
            true => Ok(cover),
            false => Err(invalid(format!(
                "{cover} is of another trust domain than this CA: it covers nobody here"
            ))),
        }
    };
    texts.iter().map(one).collect()
}
