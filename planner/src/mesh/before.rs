//! The leaves of before the plan: everybody is somewhere in the life of one.

use std::time::Duration;

use ledger::{RowKind, Word};
use trust::TrustDomain;

use super::{BATCH, Due, Holder, Member, Mesh};
use crate::agenda::Agenda;
use crate::chance::{Chance, in_millis};
use crate::error::PlanError;
use crate::question::{Found, Mesh as Asked, Question, Sketch};
use crate::server::{Issued, Server, Wanted};
use crate::traffic::Traffic;

/// A leaf of before the plan.
struct Before {
    holder: Option<usize>,
    wanted: Option<Wanted>,
    renew_in: Option<u64>,
}

impl Mesh {
    /// Fills the server's ledger with the leaves of before.
    pub(crate) async fn settle(question: &Question, server: &Server) -> Result<Self, PlanError> {
        let domain = TrustDomain::parse("plan.example").map_err(PlanError::broken)?;
        let told = server.driver.state().sequence;
        let mut mesh = Self {
            members: Vec::new(),
            holders: Vec::new(),
            agenda: Agenda::default(),
            chance: Chance::of(question.seed),
            identities: Vec::new(),
            domain,
            csr_renews_at: question.csr_renews_at,
            told,
            traffic: Traffic::default(),
        };
        let bundle = server.driver.state();
        let bytes = bundle.bundle().values().map(|der| der.as_bytes().len() as u64).sum();
        mesh.traffic.bundle_is(bytes);
        match &question.mesh {
            Asked::Sketched(sketch) => mesh.sketch(sketch, question, server).await?,
            Asked::Found(found) => mesh.found(found, question, server).await?,
        }
        Ok(mesh)
    }

    async fn sketch(
        &mut self,
        sketch: &Sketch,
        question: &Question,
        server: &Server,
    ) -> Result<(), PlanError> {
        let ttl = in_millis(question.leaf_ttl);
        let (alone, away) = (sketch.csr_only.of(sketch.agents), sketch.offline.of(sketch.agents));
        let (mut alone_left, mut away_left) = (alone, away);
        let mut before = Vec::with_capacity(BATCH);
        for number in 0..sketch.agents {
            // Whoever is chosen is spread evenly, so that a seed changes who, not how many.
            let left = sketch.agents - number;
            let is_alone = self.chance.below(left) < alone_left;
            alone_left -= u64::from(is_alone);
            let is_away = self.chance.below(left) < away_left;
            away_left -= u64::from(is_away);
            let member = self.member(is_alone, !is_away);
            if is_alone {
                let renews = self.csr_renewal(ttl);
                let age = self.chance.below(renews);
                let (fresh, old) = (ttl - age, ttl.checked_sub(age + self.csr_renewal(ttl)));
                before.push(self.before(member, RowKind::CsrOnly, fresh, Some(renews - age)));
                if let Some(old) = old.filter(|old| *old >= 1_000) {
                    let mut former = self.before(member, RowKind::CsrOnly, old, None);
                    self.forget_holder(&mut former);
                    before.push(former);
                }
            } else {
                let kinds = std::iter::once(RowKind::AgentIdentity)
                    .chain((0..sketch.proxies).map(|_| RowKind::AgentHeld));
                for kind in kinds {
                    let renews = self.renewal(ttl);
                    let age = self.chance.below(renews);
                    before.push(self.before(member, kind, ttl - age, Some(renews - age)));
                }
            }
            if before.len() >= BATCH {
                self.issue_before(std::mem::take(&mut before), server).await?;
            }
        }
        self.issue_before(before, server).await
    }

    async fn found(
        &mut self,
        found: &[Found],
        question: &Question,
        server: &Server,
    ) -> Result<(), PlanError> {
        let ttl = in_millis(question.leaf_ttl);
        let mut sorted: Vec<_> = found.iter().filter(|leaf| leaf.kind != RowKind::Own).collect();
        sorted.sort_by_key(|leaf| leaf.agent);
        let (mut before, mut last) = (Vec::new(), None);
        for leaf in sorted {
            let left = in_millis(leaf.left);
            let member = match leaf.agent {
                Some(agent) if last == Some(agent) => self.members.len() - 1,
                agent => {
                    last = agent;
                    self.member(agent.is_none(), agent.is_none() || leaf.connected)
                }
            };
            let renews = match leaf.agent {
                Some(_) => self.renewal(ttl),
                None => self.csr_renewal(ttl),
            };
            // What is left once a leaf should have been renewed: of a client that asks for itself it has a successor by now.
            let due = ttl.saturating_sub(renews);
            let mut one = self.before(member, leaf.kind, left, Some(left.saturating_sub(due)));
            if leaf.agent.is_none() && left < due {
                self.forget_holder(&mut one);
            }
            if leaf.own_trust {
                if let Some(wanted) = &mut one.wanted {
                    wanted.word = Word::OwnTrust;
                }
                if let Some(holder) = one.holder.and_then(|at| self.holders.get_mut(at)) {
                    holder.own_trust = true;
                }
            }
            before.push(one);
            if before.len() >= BATCH {
                self.issue_before(std::mem::take(&mut before), server).await?;
            }
        }
        self.issue_before(before, server).await
    }

    fn member(&mut self, alone: bool, online: bool) -> usize {
        let first = self.holders.len();
        self.members.push(Member { alone, online, stored: self.told, first, count: 0 });
        self.members.len() - 1
    }

    /// A leaf of the newest member that was issued before the plan.
    fn before(&mut self, member: usize, kind: RowKind, left: u64, renew_in: Option<u64>) -> Before {
        let holder = self.holders.len();
        self.holders.push(Holder { kind, member, own_trust: false, serial: None, turn: 0 });
        if let Some(member) = self.members.get_mut(member) {
            member.count += 1;
        }
        let wanted = self.wanted(holder, Some(Duration::from_millis(left)));
        Before { holder: Some(holder), wanted, renew_in }
    }

    /// Nobody renews this one.
    fn forget_holder(&mut self, before: &mut Before) {
        if before.holder.take().is_some()
            && let Some(holder) = self.holders.pop()
            && let Some(member) = self.members.get_mut(holder.member)
        {
            member.count -= 1;
        }
    }

    async fn issue_before(
        &mut self,
        before: Vec<Before>,
        server: &Server,
    ) -> Result<(), PlanError> {
        let wanted = before.iter().filter_map(|one| one.wanted.clone()).collect();
        let issued = server.issue(wanted).await?;
        let before = before.into_iter().filter(|one| one.wanted.is_some());
        let now = server.clock.elapsed_millis();
        for (Before { holder, renew_in, .. }, issued) in before.zip(issued) {
            let (Some(at), Some(Issued { serial, .. })) = (holder, issued) else { continue };
            if let Some(holder) = self.holders.get_mut(at) {
                holder.serial = Some(serial);
            }
            if let Some(renew_in) = renew_in {
                self.at(now + renew_in, Due::Renew { holder: at, turn: 0 });
            }
        }
        Ok(())
    }
}
