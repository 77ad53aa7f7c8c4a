//! For which roots the lists are complete: below them nobody issues who has no list.

use std::collections::{BTreeMap, BTreeSet};

use rotation::{RootEntry, State};
use trust::{CertificateId, RootId, Timestamp};

use crate::ca::Ca;

/// What is wrong with the lists of single issuers, by issuer.
pub(super) type Faults = BTreeMap<CertificateId, String>;

/// Issuers that need a list: of each root that is trusted or may come to be, or that may still have leaves in use.
pub(super) fn wanted(state: &State, now: Timestamp) -> Vec<(RootId, CertificateId)> {
    let may_live = |entry: &&RootEntry| {
        !entry.state.is_retired() || entry.horizon.is_some_and(|horizon| horizon > now)
    };
    let roots = state.roots.iter().filter(|(_, entry)| may_live(entry));
    let issuers = roots.flat_map(|(root, entry)| {
        let live = entry.issuers.iter().filter(move |(_, issuer)| issuer.not_after >= now);
        live.map(|(issuer, _)| (*root, *issuer))
    });
    issuers.collect()
}

/// The roots whose issuers all have a list, and why not all roots of the bundle are among them.
pub(super) fn covered(
    ca: &Ca,
    state: &State,
    faults: &Faults,
    now: Timestamp,
) -> (BTreeSet<RootId>, Option<String>) {
    if let Some(why) = of_others(ca, state, now) {
        return (BTreeSet::new(), Some(why));
    }
    let (mut roots, mut why) = (BTreeSet::new(), None);
    let wanted = wanted(state, now);
    let downstreams = ca.downstreams.downstreams();
    for root in state.roots.keys() {
        let Some(entry) = state.roots.get(root) else { continue };
        let is_ours = || wanted.iter().any(|(of, _)| of == root);
        let fault = wanted.iter().filter(|(of, _)| of == root).find_map(|(_, issuer)| {
            let fault = faults.get(issuer)?;
            Some(format!("issuer {} under root {}: {fault}", issuer.short(), root.short()))
        });
        let fault = match fault {
            Some(fault) => Some(fault),
            None if !entry.exclusive => Some(format!(
                "others may issue under root {} of authority {}, and their leaves have no list here: `banyan root attest` says that nobody \
                 does",
                root.short(),
                entry.authority
            )),
            None if downstreams
                .iter()
                .any(|one| one.under(root, state, &ca.policy, now).is_some()) =>
            {
                Some(format!(
                    "downstream CAs issue under root {}, and their leaves have no list here",
                    root.short()
                ))
            }
            None if !is_ours() => Some(format!("root {} has no issuer here yet", root.short())),
            None => None,
        };
        match fault {
            None => _ = roots.insert(*root),
            Some(fault) if entry.state.is_trusted() => why = why.or(Some(fault)),
            Some(_) => {}
        }
    }
    let others = state.bundle().into_keys().find(|root| !state.roots.contains_key(root));
    let why = why.or(others.map(|root| {
        format!(
            "root {} of others is in the bundle, and their leaves have no list here",
            root.short()
        )
    }));
    (roots, why)
}

/// Other servers of this CA, or CAs above it, whose leaves this one does not know.
fn of_others(ca: &Ca, state: &State, now: Timestamp) -> Option<String> {
    if !ca.upstreams.0.is_empty() {
        return Some("this CA is below another one, whose leaves have no list here".to_owned());
    }
    if !ca.replication.is_alone() {
        return Some(
            "the servers of this CA share a store, and each could list its own leaves alone: lists are for a CA of one server".to_owned(),
        );
    }
    let other = state.segments.values().find(|segment| {
        let may_live = segment.last_bound().is_some_and(|end| !ca.policy.has_passed(end, now));
        segment.replica != ca.replica && may_live
    })?;
    Some(format!(
        "leaves of the former server {} may be in use until {}, and have no list here",
        other.replica,
        other.last_bound().map(|end| ca.policy.over_at(end)).unwrap_or_default()
    ))
}
