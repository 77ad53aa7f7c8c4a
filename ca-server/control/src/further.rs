//! Further roots: what an authority has everybody here trust beside its own roots, compared with what the record trusts.
//!
//! Whoever brings the difference about does so by bundles that only add or only remove; a root that is named no more is waited
//! for a moment, since files are written one by one. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use plugins::checks::{FurtherExpectation, Unsafe, check_further};
use plugins::{RootAuthority, RootSet};
use rotation::{AuthorityName, FurtherEntry, FurtherRoot, RootEntry, State};
use trust::{Certificate, Root, RootId, Timestamp};

use crate::drift::Whose;

/// The difference.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Roots that are named and not trusted yet.
    pub to_add: Vec<FurtherRoot>,
    /// Roots that are trusted and not named any more.
    pub gone: BTreeSet<RootId>,
    /// What is not taken, one sentence each, with what to do.
    pub refused: Vec<String>,
}

/// Compares what an authority names with what is trusted because of it. `again` are roots that the configuration names for
/// their return.
pub fn compare(
    state: &State,
    whose: &Whose<'_>,
    set: &RootSet,
    again: &BTreeSet<RootId>,
    now: Timestamp,
) -> Difference {
    let Ok(name) = AuthorityName::parse(whose.name) else { return Difference::default() };
    let is_neighbor = name.neighbor().is_some();
    if !state.has_signed(&name) && !is_neighbor {
        return Difference::default();
    }
    let known: Vec<_> =
        state.roots.values().filter_map(|root| Root::parse(root.der.as_bytes()).ok()).collect();
    let expected = FurtherExpectation { trust_domain: &state.trust_domain, now, known: &known };
    let (passed, faults) = match check_further(set, &expected) {
        Ok(checked) => checked,
        Err(fault) => {
            let refused =
                vec![format!("{} names further roots that are not taken: {fault}", told(whose))];
            return Difference { refused, ..Difference::default() };
        }
    };
    let by_it = |id: &RootId| state.further.get(id).is_some_and(|entry| entry.by.contains(&name));
    // One that ended while it was trusted is told of as that, elsewhere.
    let faults = faults.into_iter().filter(|fault| !by_it(&fault.id));
    let mut refused: Vec<_> = faults
        .map(|fault| {
            let (id, subject, problem) = (fault.id.short(), &fault.subject, &fault.problem);
            format!(
                "{} names further root {id} (\"{subject}\"), which is not trusted: {}",
                told(whose),
                plain(problem)
            )
        })
        .collect();
    let mut to_add = Vec::new();
    // A root of our own that is trusted comes and goes by rotations, whoever else names it; but for a neighbor's: one that both
    // have shared is still needed there when it has gone here.
    let ours = |id: &RootId| {
        !is_neighbor && state.roots.get(id).is_some_and(|root| root.state.is_trusted())
    };
    for root in passed.iter().filter(|root| !by_it(&root.id()) && !ours(&root.id())) {
        match state.roots.get(&root.id()).and_then(|ours| unfit(whose, root, ours, again)) {
            Some(reason) => refused.push(reason),
            None => to_add.push(FurtherRoot::of(root)),
        }
    }
    let named =
        |id: &RootId| set.further.iter().chain(&set.roots).any(|der| RootId::of(der) == *id);
    let gone = state.further.keys().filter(|id| by_it(id) && !named(id)).copied().collect();
    Difference { to_add, gone, refused }
}

/// A root of our own that must not come back as somebody else's.
fn unfit(
    whose: &Whose<'_>,
    root: &Root,
    ours: &RootEntry,
    again: &BTreeSet<RootId>,
) -> Option<String> {
    let (id, subject) = (root.id(), root.certificate().subject_text());
    let withdrawn = ours.state.is_retired() && !ours.may_return(again.contains(&id));
    if ours.tainted {
        return Some(format!(
            "{} names root {} (\"{subject}\"), which is marked as compromised: it is never trusted again; take it out there",
            told(whose),
            id.short()
        ));
    }
    withdrawn.then(|| {
        format!(
            "{} names root {} (\"{subject}\"), which was withdrawn here before: it is not trusted again by itself; take it out there, \
             or, if others still need it, write trust_again = [\"{id}\"] in section [authority.{}] and restart",
            told(whose),
            id.short(),
            whose.name
        )
    })
}

/// A fault without the advice that is for roots that shall sign here.
fn plain(problem: &Unsafe) -> String {
    match problem {
        Unsafe::DuplicateRoot(_) => {
            "it is named twice, or as one of the authority's own, too".to_owned()
        }
        other => other.to_string(),
    }
}

/// What waits: a root that is to be trusted, or is named no more.
pub fn waiting(
    state: &State,
    whose: &Whose<'_>,
    difference: &Difference,
    left: Option<Duration>,
    refusal: Option<&str>,
) -> Option<String> {
    let ids = |ids: &mut dyn Iterator<Item = RootId>| {
        ids.map(|id| id.short().to_string()).collect::<Vec<_>>().join(", ")
    };
    if !difference.to_add.is_empty() {
        let roots = ids(&mut difference.to_add.iter().map(|root| root.id));
        return refusal.map(|reason| {
            format!(
                "{} names further roots that are not trusted yet: {roots}: {reason}",
                told(whose)
            )
        });
    }
    if difference.gone.is_empty() {
        return None;
    }
    let roots = ids(&mut difference.gone.iter().copied());
    let subjects: Vec<_> =
        difference.gone.iter().filter_map(|id| subject(state.further.get(id)?)).collect();
    let when = match (refusal, left) {
        (Some(reason), _) => format!("it leaves the bundle as soon as it may: {reason}"),
        (None, Some(left)) => format!("it leaves the bundle in {} s", left.as_secs().max(1)),
        (None, None) => "it leaves the bundle now".to_owned(),
    };
    Some(format!(
        "{} no longer names further root {roots} ({}): {when}; workloads with certificates under it are refused from then on, and \
         how many those are is not known here; to keep it, name it there again",
        told(whose),
        subjects.join(", ")
    ))
}

fn subject(entry: &FurtherEntry) -> Option<String> {
    let certificate = Certificate::parse(entry.der.as_bytes()).ok()?;
    Some(format!("\"{}\"", certificate.subject_text()))
}

fn told(whose: &Whose<'_>) -> String {
    let who = whose.name.strip_prefix(AuthorityName::NEIGHBOR);
    let who =
        who.map_or_else(|| format!("authority {}", whose.name), |name| format!("neighbor {name}"));
    match whose.place {
        "" => who,
        place => format!("{who} ({place})"),
    }
}

/// What `status` says of further roots that are trusted: those that nobody here can be asked about, and those that end.
pub fn conditions(
    state: &State,
    configured: impl Fn(&str) -> bool,
    now: Timestamp,
    soon: Duration,
) -> Vec<String> {
    let mut said = Vec::new();
    for (id, entry) in &state.further {
        let (id, name) = (id.short(), subject(entry).unwrap_or_default());
        if let Some(by) = entry.by.iter().find(|by| !configured(by.as_str())) {
            if let Some(neighbor) = by.neighbor() {
                said.push(format!(
                    "root {id} ({name}) is trusted because neighbor {neighbor} named it, and there is no section [neighbor.{neighbor}] \
                     any more: put it back; to end that trust, put it back with leave = true"
                ));
                continue;
            }
            said.push(format!(
                "root {id} ({name}) is trusted because authority {by} named it, and there is no section [authority.{by}] any more: put \
                 it back as it was, or with a setting that trusts no further roots, which ends that trust"
            ));
        }
        let end = entry.not_after;
        if end <= now {
            said.push(format!(
                "further root {id} ({name}) ended at {end}: take it out at the authority that names it"
            ));
        } else if end < now.plus(soon) {
            said.push(format!(
                "further root {id} ({name}) ends at {end}: name the one that takes its place beside it, at the authority that names it"
            ));
        }
    }
    said
}

/// What a rotation that starts now means for further roots.
pub fn forecast(state: &State) -> Option<String> {
    let named: Vec<_> = state
        .further
        .iter()
        .map(|(id, entry)| {
            let by: Vec<_> = entry.by.iter().map(AuthorityName::as_str).collect();
            format!(
                "{} ({}, named by {})",
                id.short(),
                subject(entry).unwrap_or_default(),
                by.join(" and ")
            )
        })
        .collect();
    (!named.is_empty()).then(|| {
        format!(
            "further roots stay trusted, whichever authority signs, until the authority that names them does so no more: {}; none comes \
             or goes while both roots are in the bundle or the old one is being withdrawn",
            named.join(", ")
        )
    })
}

/// Other roots of this authority that are trusted while it signs with one: they go by themselves when their last leaf has ended.
pub fn others_draining(state: &State, name: &str) -> Vec<String> {
    let Some(signs) = state.signing_root() else { return Vec::new() };
    let of_it =
        state.own_bundle().filter(|(id, entry)| entry.authority.as_str() == name && **id != signs);
    let draining = of_it.filter(|(_, entry)| entry.state.is_draining());
    draining
        .map(|(id, _)| {
            format!(
                "another root of this authority is still trusted until its last leaf has ended: {}; root {} signs; `banyan rotate \
                 explain` says what is waited for",
                id.short(),
                signs.short()
            )
        })
        .collect()
}

/// Whether an authority tells of further roots that are not trusted because none of its roots has signed here.
pub fn not_in_use(state: &State, authority: &dyn RootAuthority, set: &RootSet) -> bool {
    let name = AuthorityName::parse(&authority.describe().name);
    !set.further.is_empty() && name.is_ok_and(|name| !state.has_signed(&name))
}

#[cfg(test)]
pub(crate) mod tests;
