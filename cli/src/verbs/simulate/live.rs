//! What a running server says of itself, asked for without changing anything.

use std::collections::BTreeMap;
use std::time::Duration;

use console::exit::{Failure, Told, from_status};
use console::journal;
use host::SystemClock;
use ledger::RowKind;
use planner::{Found, Mesh, Question};
use proto::banyan::admin::v1::{Leaf, ListLeavesRequest, StatusRequest};
use rotation::{Policy, State};
use rotation_driver::JournalEntry;
use trust::{Clock as _, Timestamp};

use crate::admin_client;
use crate::args::{AdminTarget, SimulateOptions};

/// Puts what the server knows in the place of what the options would say.
pub(super) async fn look(
    target: &AdminTarget,
    question: &mut Question,
    options: &SimulateOptions,
) -> Result<(), Failure> {
    let mut client = admin_client::connect(target).await?;
    let status =
        client.status(StatusRequest {}).await.map_err(|status| from_status(&status))?.into_inner();
    if !status.healthy {
        let what = format!("the live server is not healthy: {}", status.conditions.join("; "));
        let then = "a plan from it would not hold: mend that first (`banyan status`), or plan with --agents";
        return Err(Failure::Refused(Told::new(what).advising(then)));
    }
    let (state, policy) = record(target, status.generation).await?;
    if !state.phase.is_steady() {
        let what =
            format!("the live server is in phase {}: a rotation is under way", state.phase.name());
        let then =
            "`banyan rotate explain` says what it waits for; plan the next one when it is over";
        return Err(Failure::Refused(Told::new(what).advising(then)));
    }
    let now = SystemClock.now();
    if options.policy.is_none() {
        question.policy = policy.unwrap_or(question.policy);
        question.leaf_ttl = options.leaf_ttl.unwrap_or(question.policy.leaf_lifetime_max);
        let longest = question.policy.leaf_lifetime_max.max(question.leaf_ttl);
        question.policy.leaf_lifetime_max = longest;
    }
    let root = state.signing_root().and_then(|root| state.roots.get(&root));
    if let Some(root) = root {
        question.root_left = options.root_left.or_else(|| Some(root.not_after.since(now)));
        question.root_bytes = root.der.as_bytes().len();
    }
    question.mesh = Mesh::Found(leaves(target, now).await?);
    Ok(())
}

/// The record, and the limits that its last event was judged by.
async fn record(target: &AdminTarget, generation: u64) -> Result<(State, Option<Policy>), Failure> {
    let mut client = admin_client::rotations(target).await?;
    // Each generation has an entry of its own, so the last entry is there or further on.
    let journal = journal::read(&mut client, generation.saturating_sub(1)).await?;
    let last = match journal.entries.last() {
        Some((_, bytes)) => Some(bytes.clone()),
        None => journal::read(&mut client, 0).await?.entries.pop().map(|(_, bytes)| bytes),
    };
    let entry = last.map(|bytes| JournalEntry::decode(&bytes)).transpose();
    let entry = entry.map_err(anyhow::Error::from)?;
    Ok((journal.record, entry.map(|entry| entry.policy)))
}

async fn leaves(target: &AdminTarget, now: Timestamp) -> Result<Vec<Found>, Failure> {
    let mut client = admin_client::leaves(target).await?;
    let (mut found, mut agents, mut after) = (Vec::new(), BTreeMap::new(), Vec::new());
    loop {
        let request = ListLeavesRequest { after, ..ListLeavesRequest::default() };
        let page =
            client.list_leaves(request).await.map_err(|status| from_status(&status))?.into_inner();
        for leaf in &page.leaves {
            found.push(one(leaf, &mut agents, now)?);
        }
        if page.next.is_empty() {
            return Ok(found);
        }
        after = page.next;
    }
}

fn one(leaf: &Leaf, agents: &mut BTreeMap<String, u32>, now: Timestamp) -> Result<Found, Failure> {
    let number = u32::try_from(agents.len()).unwrap_or(u32::MAX);
    let agent =
        (!leaf.agent.is_empty()).then(|| *agents.entry(leaf.agent.clone()).or_insert(number));
    Ok(Found {
        kind: kind(&leaf.kind)?,
        agent,
        connected: leaf.agent_connected,
        own_trust: leaf.own_trust,
        left: Timestamp::from_secs(leaf.not_after).since(now).max(Duration::from_secs(1)),
    })
}

fn kind(name: &str) -> Result<RowKind, Failure> {
    Ok(match name {
        "agent-held" => RowKind::AgentHeld,
        "agent-identity" => RowKind::AgentIdentity,
        "csr-only" => RowKind::CsrOnly,
        "channel-trusted" => RowKind::ChannelTrusted,
        "own" => RowKind::Own,
        other => {
            let what = format!(
                "the server has leaves of the kind {other:?}, which this program does not know"
            );
            return Err(Failure::Refused(
                Told::new(what).advising("use the program of the server's release"),
            ));
        }
    })
}
