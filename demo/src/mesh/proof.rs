//! What is proven at the end: every workload changed over, the old root is nowhere, and the journal verifies.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use console::{admin_socket, journal};
use tokio::time::Instant;
use trust::{Certificate, RootId};

use super::ca::CaProcess;
use super::load::Load;
use super::members::Member;

/// How long those who lag may take, after the last rotation, to give the old root up.
const CONVERGED_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(250);

/// States in which a root stands in the bundle.
const TRUSTED: [&str; 3] = ["published", "active", "draining"];

/// Which roots the leaves behind each agent chained to, in their order.
#[derive(Debug)]
pub struct Changeover {
    old: RootId,
    seen: Vec<(String, Vec<RootId>)>,
}

/// What was found at the end.
#[derive(Debug)]
pub struct Proof {
    /// The root that signed at first.
    pub old_root: RootId,
    /// The root that signs at the end.
    pub new_root: RootId,
    /// For each workload, the roots that its leaves chained to, in their order.
    pub roots_seen: BTreeMap<String, Vec<RootId>>,
    /// Where the old root still is, in words; empty when it is gone.
    pub old_root_at: Vec<String>,
    /// Transitions of the journal that were replayed, or why they could not be.
    pub journal: Result<u64, String>,
}

impl Changeover {
    /// Begins with the root that signs now.
    ///
    /// # Errors
    /// If the CA does not answer.
    pub async fn begin(ca: &CaProcess, members: &[Member]) -> anyhow::Result<Self> {
        let old = RootId::of(signing(ca).await?.der());
        let mut begun = Self {
            old,
            seen: members.iter().map(|member| (member.id.to_string(), Vec::new())).collect(),
        };
        begun.note(members);
        Ok(begun)
    }

    /// Notes the roots of the leaves that agents have now.
    pub fn note(&mut self, members: &[Member]) {
        for (member, (_, seen)) in members.iter().zip(&mut self.seen) {
            let (root, last) = (member.leaf_root(), seen.last().copied());
            seen.extend(root.filter(|root| last != Some(*root)));
        }
    }
}

impl Proof {
    /// Waits for those who lag, and looks everywhere.
    ///
    /// # Errors
    /// If the CA does not answer.
    pub async fn gather(
        ca: &CaProcess,
        members: &[Member],
        load: &Load,
        mut changeover: Changeover,
    ) -> anyhow::Result<Self> {
        let signs = signing(ca).await?;
        let new_root = RootId::of(signs.der());
        let rotated = new_root != changeover.old;
        let until = Instant::now() + CONVERGED_WITHIN;
        let old_root_at = loop {
            changeover.note(members);
            let places = if rotated {
                places_of_others(ca, members, load, &signs).await?
            } else {
                Vec::new()
            };
            if places.is_empty() || Instant::now() >= until {
                break places;
            }
            tokio::time::sleep(POLL).await;
        };
        let mut roots_seen: BTreeMap<_, _> = changeover.seen.into_iter().collect();
        if let Load::Sidecars { members, .. } = load {
            roots_seen.extend(
                members.iter().map(|member| (member.id().to_string(), member.roots_seen())),
            );
        }
        let mut client = admin_socket::rotations(&ca.admin_socket()).await?;
        let journal = journal::verified(&mut client).await;
        Ok(Self {
            old_root: changeover.old,
            new_root,
            roots_seen,
            old_root_at,
            journal: journal
                .map(|replayed| replayed.transitions)
                .map_err(|error| error.to_string()),
        })
    }

    /// Workloads that never had a leaf of the first or the last root.
    pub fn left_behind(&self) -> Vec<String> {
        let changed = |seen: &Vec<RootId>| {
            seen.first() == Some(&self.old_root) && seen.last() == Some(&self.new_root)
        };
        let behind = self.roots_seen.iter().filter(|(_, seen)| !changed(seen));
        behind.map(|(id, seen)| format!("{id} (roots: {})", in_words(seen))).collect()
    }
}

/// The first digits of each root.
pub fn in_words(roots: &[RootId]) -> String {
    roots.iter().map(|root| root.short().to_string()).collect::<Vec<_>>().join(" -> ")
}

async fn signing(ca: &CaProcess) -> anyhow::Result<Certificate> {
    let roots = ca.roots().await?;
    let active = roots.iter().find(|root| root.state == "active").context("no root signs")?;
    Ok(Certificate::parse(&active.der)?)
}

/// Where any root is trusted or in use that does not sign now.
async fn places_of_others(
    ca: &CaProcess,
    members: &[Member],
    load: &Load,
    signs: &Certificate,
) -> anyhow::Result<Vec<String>> {
    let new = RootId::of(signs.der());
    let mut places = Vec::new();
    let others = |roots: &[RootId]| roots.iter().any(|root| *root != new);
    let bundle = ca.roots().await?;
    let bundle: Vec<_> = bundle
        .iter()
        .filter(|root| TRUSTED.contains(&root.state.as_str()))
        .map(|root| RootId::of(&root.der))
        .collect();
    if others(&bundle) {
        places.push("the CA's bundle".to_owned());
    }
    for member in members {
        if others(&member.trusted()) {
            places.push(format!("the bundle of the agent of {}", member.id));
        }
        if member.leaf_root().is_some_and(|root| root != new) {
            places.push(format!("the leaf behind the agent of {}", member.id));
        }
    }
    match load {
        Load::Sidecars { members, .. } => {
            for sidecar in members.iter() {
                if others(&sidecar.trusted()) {
                    places.push(format!("the trust of {}", sidecar.id()));
                }
                if sidecar.roots_seen().last() != Some(&new) {
                    places.push(format!("the leaf of {}", sidecar.id()));
                }
            }
        }
        Load::Envoys(mesh) => places.extend(mesh.not_only(signs).await?),
    }
    Ok(places)
}
