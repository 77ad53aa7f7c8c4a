//! Distrusted roots: who holds leaves of one and can be asked to renew them, and what is said while it is trusted.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{LiveRow, Row, RowFilter, RowKind};
use rotation::{RootEntry, RootState, State};
use trust::plain::counted;
use trust::{CertificateId, RootId, Serial, SpiffeId, Timestamp};

use crate::bans;
use crate::ca::Ca;
use crate::explain::kind_name;

/// Rows that are read at once.
const PAGE: usize = 1_000;
/// Leaves that are told by name.
const NAMED_MAX: usize = 100;
/// Why nobody is asked to renew what is banned.
const BANNED: &str = "it is banned, so it gets no newer leaf and keeps this one: `banyan ban list`";

/// Who holds leaves of a root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Leaves that may live.
    pub leaves: u64,
    /// Identities of workloads among them.
    pub workloads: u64,
    /// In how many namespaces those are.
    pub namespaces: u64,
    /// How many of the workloads can be asked to renew all of theirs.
    pub reachable: u64,
    /// Leaves whose holders cannot be asked, those that live longest first.
    pub stranded: Vec<Stranded>,
    /// How many there are.
    pub stranded_total: u64,
}

/// A leaf whose holder cannot be asked to renew it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranded {
    /// Whose it is.
    pub identity: SpiffeId,
    /// Its serial number.
    pub serial: Serial,
    /// What kind of row.
    pub kind: RowKind,
    /// The agent that holds it.
    pub agent: Option<String>,
    /// Its end.
    pub not_after: Timestamp,
    /// Why nobody can be asked.
    pub why: &'static str,
}

/// Who holds leaves of this root now, by the rows of this server.
pub fn of(ca: &Ca, root: RootId) -> Exposure {
    of_rows(ca, root, |_| true)
}

/// Who holds leaves of this issuer under this root now, by the rows of this server.
pub fn of_issuer(ca: &Ca, root: RootId, issuer: CertificateId) -> Exposure {
    of_rows(ca, root, |row| row.issuer == issuer)
}

fn of_rows(ca: &Ca, root: RootId, concerns: impl Fn(&Row) -> bool) -> Exposure {
    let filter = RowFilter { root: Some(root), ..RowFilter::default() };
    let (mut counting, mut after) = (Counting::default(), None);
    loop {
        let page = ca.ledger.rows(&filter, after, PAGE);
        page.rows.iter().filter(|live| concerns(&live.row)).for_each(|live| {
            let why = match bans::of_row(ca, &live.row) {
                Some(_) => Some(BANNED),
                None => {
                    let (kind, agent) = (live.row.kind, live.row.agent.as_deref());
                    out_of_reach(kind, agent, |agent| ca.sessions.is_connected(agent))
                }
            };
            counting.count(live, why);
        });
        after = page.next;
        if after.is_none() {
            return counting.ended();
        }
    }
}

#[derive(Debug, Default)]
struct Counting {
    exposure: Exposure,
    /// Whether all leaves of a workload can be asked for.
    workloads: BTreeMap<SpiffeId, bool>,
}

impl Counting {
    fn count(&mut self, live: &LiveRow, why: Option<&'static str>) {
        let row = &live.row;
        let exposure = &mut self.exposure;
        exposure.leaves += 1;
        if !matches!(row.kind, RowKind::Own | RowKind::AgentIdentity) {
            let reached = self.workloads.entry(row.identity.clone()).or_insert(true);
            *reached &= why.is_none();
        }
        let Some(why) = why else { return };
        exposure.stranded_total += 1;
        if exposure.stranded.len() < NAMED_MAX {
            exposure.stranded.push(Stranded {
                identity: row.identity.clone(),
                serial: row.serial,
                kind: row.kind,
                agent: row.agent.clone(),
                not_after: row.not_after,
                why,
            });
        }
    }

    fn ended(self) -> Exposure {
        let of = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let namespaces: BTreeSet<_> = self.workloads.keys().map(namespace).collect();
        let reachable = self.workloads.values().filter(|reached| **reached).count();
        Exposure {
            workloads: of(self.workloads.len()),
            namespaces: of(namespaces.len()),
            reachable: of(reachable),
            ..self.exposure
        }
    }
}

/// Why nobody can be asked to renew such a leaf; none if somebody can.
fn out_of_reach(
    kind: RowKind,
    agent: Option<&str>,
    is_connected: impl Fn(&str) -> bool,
) -> Option<&'static str> {
    match (kind, agent) {
        // Nobody's but the agent's, for its minutes.
        (RowKind::Own | RowKind::Probe, _) => None,
        (RowKind::AgentHeld | RowKind::AgentIdentity, Some(agent)) if is_connected(agent) => None,
        (RowKind::AgentHeld | RowKind::AgentIdentity, _) => {
            Some("its agent is not connected to this server")
        }
        (RowKind::CsrOnly, _) => {
            Some("it asks for itself, and cannot be asked; restart it, and it asks anew")
        }
        (RowKind::ChannelTrusted, _) => {
            Some("it was signed on behalf of somebody, who cannot be asked; issue it anew there")
        }
    }
}

/// What stands between `/ns/` and `/sa/`; of another identity, all but its last part.
fn namespace(identity: &SpiffeId) -> String {
    let text = identity.as_str();
    let within = text.split_once("/ns/").and_then(|(_, rest)| rest.split_once("/sa/"));
    let above = || text.rsplit_once('/').map_or(text, |(above, _)| above);
    within.map_or_else(above, |(namespace, _)| namespace).to_owned()
}

impl Exposure {
    /// The same in sentences; `cut` where the root leaves at once.
    pub fn said(&self, cut: bool) -> Vec<String> {
        self.said_of("root", cut)
    }

    /// The same of a `root` or an `issuer`.
    pub fn said_of(&self, what: &str, cut: bool) -> Vec<String> {
        let leaves = counted(self.leaves, "leaf", "leaves");
        let mut said = vec![match cut {
            true => format!(
                "{} in {} have {leaves} of this {what}: each that has no newer one breaks when the root is cut off",
                counted(self.workloads, "workload", "workloads"),
                counted(self.namespaces, "namespace", "namespaces"),
            ),
            false => format!(
                "{} in {} have {leaves} of this {what}; {} can be asked to renew now",
                counted(self.workloads, "workload", "workloads"),
                counted(self.namespaces, "namespace", "namespaces"),
                self.reachable,
            ),
        }];
        said.extend(self.stranded.iter().map(|stranded| {
            let Stranded { identity, serial, kind, agent, not_after, why } = stranded;
            let behind = agent.as_ref().map(|agent| format!(" behind agent {agent}")).unwrap_or_default();
            format!(
                "cannot be asked: {identity}{behind} ({}, serial {serial}, until {not_after}): {why}",
                kind_name(*kind)
            )
        }));
        let more = self
            .stranded_total
            .saturating_sub(u64::try_from(self.stranded.len()).unwrap_or(u64::MAX));
        if more > 0 {
            said.push(format!("cannot be asked: {more} more"));
        }
        said
    }
}

/// Distrusted roots that are trusted all the same, one sentence each: by whom, why, and what is waited for.
pub fn conditions(state: &State) -> Vec<String> {
    let distrusted = state.roots.iter().filter(|(_, entry)| entry.is_distrusted());
    distrusted.map(|(id, entry)| condition(state, id, entry)).collect()
}

fn condition(state: &State, id: &RootId, entry: &RootEntry) -> String {
    let root = id.short();
    let word = entry.taint.as_ref().map_or_else(String::new, |taint| {
        format!(" by {} since {} ({})", taint.by, taint.since, taint.reason)
    });
    let held = state.phase.rotation().is_some_and(|rotation| rotation.held_since.is_some());
    let waits = if held {
        "the rotation is on hold: `banyan rotate resume`".to_owned()
    } else if state.phase.is_steady() {
        format!(
            "nothing is under way that replaces it: `banyan root distrust {root} --by NAME --reason TEXT` again begins it"
        )
    } else {
        going(&root, entry.state)
    };
    format!("root {root} is distrusted{word} and still trusted; {waits}")
}

/// What a distrusted root waits for while a rotation is under way.
fn going(root: &str, state: RootState) -> String {
    match state {
        RootState::Active => {
            "it still signs: `banyan rotate explain` says what the next one waits for".to_owned()
        }
        RootState::Draining => format!(
            "it goes when its last leaf has ended: `banyan rotate explain` names them; `banyan root cut {root} --dry-run --reason TEXT` \
             says who would break if it went at once"
        ),
        RootState::Published | RootState::Canary | RootState::Staged | RootState::Retired => {
            "it goes when the rotation that is under way is over".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_be_asked_is_who_has_an_agent_that_is_connected() {
        let here = |agent: &str| agent == "here";
        let reached = |kind, agent| out_of_reach(kind, agent, here).is_none();
        assert!(reached(RowKind::AgentHeld, Some("here")) && reached(RowKind::Own, None));
        assert!(
            !reached(RowKind::AgentHeld, Some("away"))
                && !reached(RowKind::AgentIdentity, Some("away"))
        );
        assert!(!reached(RowKind::CsrOnly, None) && !reached(RowKind::ChannelTrusted, None));
        // What an agent is said to hold without a name is nobody's to renew.
        assert!(!reached(RowKind::AgentHeld, None));
    }

    #[test]
    fn a_namespace_is_that_of_kubernetes_or_what_stands_above() {
        let of = |text: &str| namespace(&SpiffeId::parse(text).unwrap());
        assert_eq!(of("spiffe://example.org/ns/shop/sa/web"), "shop");
        assert_eq!(of("spiffe://example.org/vm/db-1"), "spiffe://example.org/vm");
    }

    #[test]
    fn what_is_said_counts_all_and_names_who_cannot_be_asked() {
        let stranded = Stranded {
            identity: SpiffeId::parse("spiffe://example.org/ns/shop/sa/web").unwrap(),
            serial: Serial::from_bytes(&[0x47; 16]).unwrap(),
            kind: RowKind::CsrOnly,
            agent: None,
            not_after: Timestamp::from_secs(60),
            why: "it asks for itself",
        };
        let exposure = Exposure {
            leaves: 4,
            workloads: 3,
            namespaces: 2,
            reachable: 2,
            stranded: vec![stranded],
            stranded_total: 5,
        };
        let said = exposure.said(false);
        assert_eq!(
            said[0],
            "3 workloads in 2 namespaces have 4 leaves of this root; 2 can be asked to renew now"
        );
        assert!(
            said[1].contains("ns/shop/sa/web (csr-only") && said[2].ends_with("4 more"),
            "{said:?}"
        );
        assert!(exposure.said(true)[0].contains("breaks when the root is cut off"));
    }
}
