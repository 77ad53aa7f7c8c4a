//! `banyan.admin.v1.AgentAdminService`: what operators do about registered agents, for the callers of the admin API.

use std::collections::BTreeSet;
use std::sync::Arc;

use auth::authz::AGENT_NAME_LEN_MAX;
use auth::refusal::{Reason, Refusal, echoed};
use ledger::{LiveRow, RowFilter};
use prost::Message;
use proto::banyan::admin::v1::agent_admin_service_server::AgentAdminService;
use proto::banyan::admin::v1::{
    Agent, AgentAct, Ban, ListAgentActsRequest, ListAgentActsResponse, ListAgentsRequest,
    ListAgentsResponse, ListBansRequest, ListBansResponse, RuleAgentsRequest, RuleAgentsResponse,
};
use registry::{ActRow, BanRow, Ruled, Ruling, Sentence};
use tonic::{Request, Response, Status};
use trust::plain::counted;
use trust::{SpiffeId, Timestamp, TrustDomain};

use crate::admin::Operators;
use crate::{leaf, page, wire, words};
use control::ca::Ca;
use control::roster::{AgentView, EXCERPT_MAX};

/// Agents that one ruling is about at most.
const RULED_MAX: usize = 10_000;
/// Pages of the ledger that are looked at for the latest end of an agent's leaves.
const LEDGER_PAGES_MAX: usize = 16;
/// Leaves that are forgotten with the agents of one removal, at most.
const FORGOTTEN_MAX: usize = 10_000;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct AgentAdmin {
    ca: Arc<Ca>,
    operators: Operators,
}

impl AgentAdmin {
    pub(crate) const fn new(ca: Arc<Ca>, operators: Operators) -> Self {
        Self { ca, operators }
    }

    fn list(&self, asked: &ListAgentsRequest) -> ListAgentsResponse {
        let limit = page::limit(asked.limit).saturating_add(1);
        let rows = self.ca.registry.agents_after(&asked.after, limit);
        let agents =
            rows.into_iter().map(|agent| wire::agent(AgentView::of(&self.ca, agent))).collect();
        // An agent may have many long identities.
        let name = |last: &Agent| SpiffeId::parse(&last.id).ok()?.agent_name().map(str::to_owned);
        let (agents, next) = page::cut_messages(agents, asked.limit, name);
        let next = next.flatten().unwrap_or_default();
        ListAgentsResponse { agents, next }
    }

    async fn rule(
        &self,
        ruling: Ruling,
        asked: RuleAgentsRequest,
        caller: &str,
    ) -> Result<RuleAgentsResponse, Refusal> {
        let (registry, now) = (&self.ca.registry, self.ca.clock.now());
        let name = name(&asked.name, self.ca.id.trust_domain())?;
        let word = words::full_word(&asked.by, &asked.reason, caller)?;
        let sentence = Sentence { by: word.by.clone(), reason: word.reason.clone(), at: now };
        let ruled = registry.preview(ruling, &name, now)?;
        if ruling == Ruling::Remove && ruled.agents.len() > RULED_MAX {
            let many = format!("{} agents would be removed", ruled.agents.len());
            return Err(Refusal::advised(Reason::RequestInvalid, many, "name fewer"));
        }
        if asked.forget_leaves && ruling != Ruling::Remove {
            let text = "leaves are forgotten with a removal alone";
            let advice = "`banyan leaf forget` lets single ones go";
            return Err(Refusal::advised(Reason::RequestInvalid, text, advice));
        }
        // As they are before it.
        let mut answer = self.about(&ruled);
        let leaves = match asked.forget_leaves {
            true => self.to_forget(&ruled, asked.force)?,
            false => Vec::new(),
        };
        answer.forgotten_leaves = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
        if asked.dry_run {
            return Ok(answer);
        }
        let verb = format!("agent {}", ruling.verb());
        words::journal(&self.ca, &word, &verb, &name, detail(&ruled, leaves.len())).await?;
        let ruled = registry.rule(ruling, name.clone(), sentence).await?;
        tracing::warn!(
            agent = name,
            agents = ruled.agents.len(),
            by = word.by,
            reason = word.reason,
            "agent: {}",
            ruling.verb()
        );
        for agent in &ruled.agents {
            self.ca.sessions.judge_again(agent);
            if ruling == Ruling::Remove {
                self.ca.handshakes.forget(agent);
            }
        }
        if !leaves.is_empty() {
            answer.forgotten_leaves = leaf::forget(&self.ca, &leaves, &word).await?;
        }
        Ok(answer)
    }

    /// The rows that would count no more with the agents. Of an agent that is connected none is taken for gone, unless
    /// somebody insists: it can still say itself what is held.
    fn to_forget(&self, ruled: &Ruled, force: bool) -> Result<Vec<LiveRow>, Refusal> {
        let connected = ruled.agents.iter().find(|agent| self.ca.sessions.is_connected(agent));
        if let Some(agent) = connected.filter(|_| !force) {
            let text = format_args!("agent {agent} is connected, and its leaves may be in use");
            let advice = "stop it first, or repeat the command with --force";
            return Err(Refusal::advised(Reason::LeafHeld, text, advice));
        }
        let mut rows = Vec::new();
        for agent in &ruled.agents {
            let room = (FORGOTTEN_MAX + 1).saturating_sub(rows.len());
            let serials = self.ca.ledger.rows_beyond(agent, &BTreeSet::new(), None, room);
            rows.extend(serials.iter().filter_map(|(serial, _)| self.ca.ledger.find(serial)));
        }
        if rows.len() > FORGOTTEN_MAX {
            let text =
                format_args!("more than {FORGOTTEN_MAX} leaves would be forgotten in one call");
            return Err(Refusal::advised(Reason::RequestInvalid, text, "name fewer agents"));
        }
        Ok(rows)
    }

    fn about(&self, ruled: &Ruled) -> RuleAgentsResponse {
        let first = ruled.agents.get(..EXCERPT_MAX).unwrap_or(&ruled.agents);
        let listed = self.ca.registry.agents_named(first);
        let mut agents: Vec<_> =
            listed.into_iter().map(|agent| wire::agent(AgentView::of(&self.ca, agent))).collect();
        agents.truncate(page::fitting(agents.iter().map(Message::encoded_len)));
        let counts = ruled.agents.iter().map(|agent| self.ca.ledger.rows_of_agent(agent));
        let live_leaves = counts.sum();
        let until = first.iter().filter_map(|agent| self.latest_end(agent)).max();
        RuleAgentsResponse {
            total: u64::try_from(ruled.agents.len()).unwrap_or(u64::MAX),
            agents,
            live_leaves,
            leaves_until: until.map_or(0, Timestamp::as_secs),
            unused_tokens: ruled.unused_tokens,
            was_banned: ruled.was_banned,
            forgotten_leaves: 0,
        }
    }

    /// The end of the leaf of an agent that lives longest. Not looked for beyond a bound.
    fn latest_end(&self, agent: &str) -> Option<Timestamp> {
        if self.ca.ledger.rows_of_agent(agent) == 0 {
            return None;
        }
        let filter = RowFilter { agent: Some(agent.to_owned()), ..RowFilter::default() };
        let mut after = None;
        for _ in 0..LEDGER_PAGES_MAX {
            let page = self.ca.ledger.rows(&filter, after, 1);
            if let Some(live) = page.rows.first() {
                return Some(live.row.not_after);
            }
            after = Some(page.next?);
        }
        None
    }
}

#[tonic::async_trait]
impl AgentAdminService for AgentAdmin {
    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        self.operators.answer(&self.ca, request, async |asked, _| Ok(self.list(&asked))).await
    }

    async fn remove_agents(
        &self,
        request: Request<RuleAgentsRequest>,
    ) -> Result<Response<RuleAgentsResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| self.rule(Ruling::Remove, asked, by).await)
            .await
    }

    async fn ban_agents(
        &self,
        request: Request<RuleAgentsRequest>,
    ) -> Result<Response<RuleAgentsResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| self.rule(Ruling::Ban, asked, by).await)
            .await
    }

    async fn unban_agents(
        &self,
        request: Request<RuleAgentsRequest>,
    ) -> Result<Response<RuleAgentsResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| self.rule(Ruling::Unban, asked, by).await)
            .await
    }

    async fn list_bans(
        &self,
        request: Request<ListBansRequest>,
    ) -> Result<Response<ListBansResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, _| {
                let limit = page::limit(asked.limit).saturating_add(1);
                let rows = self.ca.registry.bans_after(&asked.after, limit);
                let (rows, next) = page::cut(rows, asked.limit, |(name, _)| name.clone());
                Ok(ListBansResponse {
                    bans: rows.into_iter().map(ban).collect(),
                    next: next.unwrap_or_default(),
                })
            })
            .await
    }

    async fn list_agent_acts(
        &self,
        request: Request<ListAgentActsRequest>,
    ) -> Result<Response<ListAgentActsResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, _| {
                let limit = page::limit(asked.limit).saturating_add(1);
                let rows = self.ca.registry.acts_from(asked.from, limit);
                let (rows, next) =
                    page::cut(rows, asked.limit, |(index, _)| index.saturating_add(1));
                let acts = rows.into_iter().map(act).collect();
                Ok(ListAgentActsResponse { acts, next: next.unwrap_or_default() })
            })
            .await
    }
}

fn ban((name, row): (String, BanRow)) -> Ban {
    Ban { name, by: row.by, reason: row.reason, at: row.at.as_secs() }
}

fn act((index, row): (u64, ActRow)) -> AgentAct {
    let ActRow { verb, name, agents, word } = row;
    AgentAct { index, at: word.at.as_secs(), verb, name, agents, by: word.by, reason: word.reason }
}

/// The name that is meant: it may be given as SPIFFE id.
pub(crate) fn name(given: &str, domain: &TrustDomain) -> Result<String, Refusal> {
    let id = SpiffeId::parse(given).ok().filter(|id| id.trust_domain() == domain);
    let name = id.as_ref().and_then(SpiffeId::agent_name).unwrap_or(given);
    let fits = name.len() <= AGENT_NAME_LEN_MAX && SpiffeId::agent(domain, name).is_ok();
    fits.then(|| name.to_owned()).ok_or_else(|| {
        let text = format_args!("\"{}\" is no agent's name", echoed(given));
        Refusal::advised(
            Reason::RequestInvalid,
            text,
            "`banyan agent list` shows the names of those that are registered",
        )
    })
}

/// What the journal says of a ruling: how many agents it is about, and leaves if there are any.
fn detail(ruled: &Ruled, leaves: usize) -> String {
    let agents = counted(ruled.agents.len(), "agent", "agents");
    match leaves {
        0 => agents,
        leaves => format!("{agents}, {} forgotten", counted(leaves, "leaf", "leaves")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_named_by_its_name_or_its_id() {
        let domain = TrustDomain::parse("example.org").unwrap();
        for given in ["node-1", "spiffe://example.org/banyan/agent/node-1"] {
            assert_eq!(name(given, &domain).as_deref(), Ok("node-1"));
        }
        for bad in ["", "spiffe://other.org/banyan/agent/node-1", "a b", "../x", &"x".repeat(129)] {
            assert!(name(bad, &domain).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_journal_counts_in_english_and_names_no_leaves_where_there_are_none() {
        let ruled = |agents: &[&str]| Ruled {
            agents: agents.iter().map(|&name| name.to_owned()).collect(),
            ..Ruled::default()
        };
        assert_eq!(detail(&ruled(&["a"]), 0), "1 agent");
        assert_eq!(detail(&ruled(&["a", "b"]), 1), "2 agents, 1 leaf forgotten");
    }
}
