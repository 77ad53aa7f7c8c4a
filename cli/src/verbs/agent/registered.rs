//! `banyan agent list|remove|ban|unban`: the agents that are registered at a server.

use console::exit::{Failure, from_status};
use console::output;
use proto::banyan::admin::v1::agent_admin_service_client::AgentAdminServiceClient;
use proto::banyan::admin::v1::{
    Agent, AgentAct, Ban, ListAgentActsRequest, ListAgentsRequest, ListBansRequest,
    RuleAgentsRequest, RuleAgentsResponse,
};
use serde_json::{Value, json};
use tonic::transport::Channel;
use trust::plain::counted;

use crate::admin_client;
use crate::args::{AgentListOptions, AgentRemoveOptions, AgentRuleOptions};
use crate::verbs::replica;

use super::{handshakes, listeners};

type Client = AgentAdminServiceClient<Channel>;

/// Agents that a preview names.
const NAMED_MAX: usize = 10;

/// `banyan agent list`.
pub(super) async fn list(options: &AgentListOptions) -> Result<(), Failure> {
    let mut client = admin_client::agents(&options.target).await?;
    if options.banned {
        return list_bans(&bans(&mut client).await?, options.json);
    }
    if options.acts {
        return list_acts(&acts(&mut client).await?, options.json);
    }
    let agents = agents(&mut client).await?;
    if options.handshakes && !options.json {
        let whose = replica::whose_word(&options.target).await;
        return output::line(&(handshakes::table(&agents) + &whose));
    }
    if options.listeners && !options.json {
        let whose = replica::whose_word(&options.target).await;
        return output::line(&(listeners::table(&agents) + &whose));
    }
    if options.json {
        return output::json(&json!({ "agents": agents.iter().map(as_json).collect::<Vec<_>>() }));
    }
    let mut table = output::table(&[
        "AGENT",
        "CONNECTED",
        "LAST SEEN",
        "LEAVES",
        "REGISTERED",
        "JOINED WITH",
        "BANNED",
    ]);
    for agent in &agents {
        table.add_row([
            agent.id.clone(),
            yes(agent.connected),
            output::time(agent.last_seen),
            agent.live_rows.to_string(),
            output::time(agent.registered_at),
            if agent.joined_as.is_empty() {
                "a join token".to_owned()
            } else {
                format!("JWT: {}", agent.joined_as)
            },
            yes(agent.banned),
        ]);
    }
    let whose = replica::whose_word(&options.target).await;
    output::line(&(table.to_string() + &whose))
}

/// `banyan agent remove`.
pub(super) async fn remove(options: &AgentRemoveOptions) -> Result<(), Failure> {
    let AgentRemoveOptions { rule, forget_leaves, force } = options;
    let mut client = admin_client::agents(&rule.target).await?;
    let wanted =
        RuleAgentsRequest { forget_leaves: *forget_leaves, force: *force, ..request(rule) };
    let ruled = client.remove_agents(wanted).await.map_err(|status| from_status(&status))?;
    said(rule, ["would remove", "removed"], "the name is free", &ruled.into_inner())
}

/// `banyan agent ban`.
pub(super) async fn ban(options: &AgentRuleOptions) -> Result<(), Failure> {
    let mut client = admin_client::agents(&options.target).await?;
    let ruled = client.ban_agents(request(options)).await.map_err(|status| from_status(&status))?;
    said(
        options,
        ["would ban", "banned"],
        "`banyan agent unban` lifts the ban",
        &ruled.into_inner(),
    )
}

/// `banyan agent unban`.
pub(super) async fn unban(options: &AgentRuleOptions) -> Result<(), Failure> {
    let mut client = admin_client::agents(&options.target).await?;
    let ruled =
        client.unban_agents(request(options)).await.map_err(|status| from_status(&status))?;
    said(
        options,
        ["would unban", "unbanned"],
        "registered agents of this name are served again; one that runs asks again within 10 s",
        &ruled.into_inner(),
    )
}

fn request(options: &AgentRuleOptions) -> RuleAgentsRequest {
    RuleAgentsRequest {
        name: options.name.clone(),
        by: options.word.by(),
        reason: options.word.reason.clone(),
        dry_run: options.dry_run,
        ..RuleAgentsRequest::default()
    }
}

fn said(
    options: &AgentRuleOptions,
    [would, did]: [&str; 2],
    next: &str,
    ruled: &RuleAgentsResponse,
) -> Result<(), Failure> {
    if options.json {
        return output::json(&json!({
            "name": options.name,
            "dry_run": options.dry_run,
            "agents": ruled.total,
            "first_agents": ruled.agents.iter().map(as_json).collect::<Vec<_>>(),
            "live_leaves": ruled.live_leaves,
            "leaves_until": output::time(ruled.leaves_until),
            "forgotten_leaves": ruled.forgotten_leaves,
            "unused_tokens": ruled.unused_tokens,
            "was_banned": ruled.was_banned,
        }));
    }
    output::line(&as_text(options, if options.dry_run { would } else { did }, next, ruled))
}

fn as_text(
    options: &AgentRuleOptions,
    verb: &str,
    next: &str,
    ruled: &RuleAgentsResponse,
) -> String {
    let mut text = format!("{verb} {}: {next}", options.name);
    for agent in ruled.agents.iter().take(NAMED_MAX) {
        let connected = if agent.connected { "connected" } else { "not connected" };
        let (id, seen) = (&agent.id, output::time(agent.last_seen));
        text.push_str(&format!(
            "\n  {id}: {connected}, last seen {seen}, {}",
            counted(agent.live_rows, "live leaf", "live leaves")
        ));
    }
    let further = ruled
        .total
        .saturating_sub(u64::try_from(ruled.agents.len().min(NAMED_MAX)).unwrap_or(u64::MAX));
    if further > 0 {
        text.push_str(&format!("\n  and {}", counted(further, "more agent", "more agents")));
    }
    if ruled.total == 0 {
        text.push_str("\n  no agent with this name is registered");
    }
    if ruled.forgotten_leaves > 0 {
        let forgotten = if options.dry_run { "would be forgotten" } else { "forgotten" };
        let leaves = counted(ruled.forgotten_leaves, "leaf", "leaves");
        text.push_str(&format!(
            "\n  {leaves} {forgotten}: no gate waits for them, and whoever holds one after all may lose connections"
        ));
    } else if ruled.live_leaves > 0 {
        let end = match ruled.leaves_until {
            0 => "they end".to_owned(),
            until => output::time(until),
        };
        let leaves = counted(ruled.live_leaves, "leaf", "leaves");
        text.push_str(&format!(
            "\n  still valid until {end}: {leaves}, own certificates included; gates wait until then"
        ));
        if verb.ends_with("remove") || verb.ends_with("removed") {
            text.push_str("; if the node is gone for good, --forget-leaves ends that wait");
        }
    }
    if ruled.unused_tokens > 0 {
        let tokens = counted(ruled.unused_tokens, "join token", "join tokens");
        text.push_str(&format!("\n  still usable for this name: {tokens}"));
    }
    text
}

/// Every agent that is registered.
///
/// # Errors
/// As the server says.
pub(crate) async fn agents(client: &mut Client) -> Result<Vec<Agent>, Failure> {
    let (mut agents, mut asked) = (Vec::new(), ListAgentsRequest::default());
    loop {
        let page =
            client.list_agents(asked).await.map_err(|status| from_status(&status))?.into_inner();
        agents.extend(page.agents);
        if page.next.is_empty() {
            return Ok(agents);
        }
        asked = ListAgentsRequest { after: page.next, limit: 0 };
    }
}

async fn bans(client: &mut Client) -> Result<Vec<Ban>, Failure> {
    let (mut bans, mut asked) = (Vec::new(), ListBansRequest::default());
    loop {
        let page =
            client.list_bans(asked).await.map_err(|status| from_status(&status))?.into_inner();
        bans.extend(page.bans);
        if page.next.is_empty() {
            return Ok(bans);
        }
        asked = ListBansRequest { after: page.next, limit: 0 };
    }
}

async fn acts(client: &mut Client) -> Result<Vec<AgentAct>, Failure> {
    let (mut acts, mut asked) = (Vec::new(), ListAgentActsRequest::default());
    loop {
        let page = client
            .list_agent_acts(asked)
            .await
            .map_err(|status| from_status(&status))?
            .into_inner();
        acts.extend(page.acts);
        if page.next == 0 {
            return Ok(acts);
        }
        asked = ListAgentActsRequest { from: page.next, limit: 0 };
    }
}

fn list_bans(bans: &[Ban], json: bool) -> Result<(), Failure> {
    if json {
        let one = |ban: &Ban| json!({"name": ban.name, "by": ban.by, "reason": ban.reason, "at": output::time(ban.at)});
        return output::json(&json!({ "bans": bans.iter().map(one).collect::<Vec<_>>() }));
    }
    let mut table = output::table(&["NAME", "AT", "BY", "REASON"]);
    for ban in bans {
        table.add_row([ban.name.clone(), output::time(ban.at), ban.by.clone(), ban.reason.clone()]);
    }
    output::line(&table.to_string())
}

fn list_acts(acts: &[AgentAct], json: bool) -> Result<(), Failure> {
    if json {
        let one = |act: &AgentAct| {
            json!({
                "index": act.index,
                "at": output::time(act.at),
                "verb": act.verb,
                "name": act.name,
                "agents": act.agents,
                "by": act.by,
                "reason": act.reason,
            })
        };
        return output::json(&json!({ "acts": acts.iter().map(one).collect::<Vec<_>>() }));
    }
    let mut table = output::table(&["AT", "VERB", "NAME", "AGENTS", "BY", "REASON"]);
    for act in acts {
        table.add_row([
            output::time(act.at),
            act.verb.clone(),
            act.name.clone(),
            act.agents.to_string(),
            act.by.clone(),
            act.reason.clone(),
        ]);
    }
    output::line(&table.to_string())
}

fn as_json(agent: &Agent) -> Value {
    json!({
        "id": agent.id,
        "connected": agent.connected,
        "last_seen": output::time(agent.last_seen),
        "registered_at": output::time(agent.registered_at),
        "joined_as": agent.joined_as,
        "banned": agent.banned,
        "identities": agent.identities,
        "sequence": output::json_count(agent.sequence),
        "live_rows": agent.live_rows,
        "nacks": agent.nacks,
        "last_nack": agent.last_nack,
        "build": agent.build,
        "handshakes": agent.handshakes.iter().map(handshakes::as_json).collect::<Vec<_>>(),
        "listeners": agent.listeners.iter().map(listeners::as_json).collect::<Vec<_>>(),
    })
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}
