//! A running CA, its roots and its agents as messages.

use proto::banyan::admin::v1::{
    Agent as AgentMessage, AgentListener as ListenerMessage, HandshakeTally as TallyMessage,
    Issuer as IssuerMessage, Ledger as LedgerMessage, Root as RootMessage, StatusResponse,
};
use registry::sessions::Listener;
use trust::{SpiffeId, Timestamp};

use super::rotation::ending;
use control::handshakes::HandshakeTally;
use control::roots::{IssuerView, RootView};
use control::roster::AgentView;
use control::status::{LedgerFigures, Status};

/// The whole state in one message.
pub(crate) fn status(status: Status) -> StatusResponse {
    let (state, roster) = (&status.state, status.roster);
    let shown = |view: AgentView| AgentMessage {
        identities: Vec::new(),
        handshakes: Vec::new(),
        listeners: Vec::new(),
        ..agent(view)
    };
    StatusResponse {
        trust_domain: state.trust_domain.to_string(),
        replica: status.replica,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: status.started_at.as_secs(),
        generation: state.generation.0,
        sequence: status.sequence.0,
        bundle_digest: status.digest.as_bytes().to_vec(),
        phase: state.phase.name().to_owned(),
        ca_id: status.id.to_string(),
        ledger: Some(ledger(status.ledger)),
        agents: status.agents.into_iter().map(shown).collect(),
        agents_total: roster.total,
        agents_connected: roster.connected,
        agents_behind: roster.behind,
        bans: roster.bans,
        issuer_not_after: status.issuer_not_after.as_secs(),
        issued_total: status.issued_total,
        refused_total: status.refused_total,
        healthy: status.conditions.is_empty(),
        conditions: status.conditions,
        waiting: status.waiting,
        ending: ending(&state.phase).to_owned(),
        active_root: status.active_root.as_bytes().to_vec(),
    }
}

/// One root of the record.
pub(crate) fn root(root: RootView) -> RootMessage {
    let keys = root.issuers.iter().map(|issuer| issuer.key.clone()).collect();
    let foreign_until = root.others.as_ref().map(|others| others.until);
    let (attested_by, attested_since) =
        root.others.map(|others| (others.by, others.since.as_secs())).unwrap_or_default();
    RootMessage {
        id: root.id.as_bytes().to_vec(),
        state: root.state.as_str().to_owned(),
        authority: root.authority,
        subject: root.subject,
        not_before: seconds(root.not_before),
        not_after: root.not_after.as_secs(),
        horizon: seconds(root.horizon),
        live_rows: root.live_rows,
        tainted: root.tainted,
        der: root.der,
        issuers: root.issuers.into_iter().map(issuer).collect(),
        shared: !root.exclusive,
        attested_by,
        attested_since,
        foreign_until: seconds(foreign_until),
        further_by: root.further_by,
        forgettable_from: seconds(root.forgettable_from),
        keys,
    }
}

/// One agent.
pub(crate) fn agent(agent: AgentView) -> AgentMessage {
    AgentMessage {
        connected: agent.connected,
        last_seen: agent.last_seen.as_secs(),
        sequence: agent.sequence.0,
        live_rows: agent.live_rows,
        nacks: agent.nacks,
        last_nack: agent.last_nack,
        build: agent.build,
        identities: agent.identities.iter().map(ToString::to_string).collect(),
        registered_at: agent.registered_at.as_secs(),
        joined_as: agent.joined_as.unwrap_or_default(),
        banned: agent.banned,
        handshakes: agent.handshakes.iter().map(tally).collect(),
        listeners: agent.listeners.into_iter().map(listener).collect(),
        id: agent.id.map_or(agent.name, |id| id.to_string()),
    }
}

fn listener(listener: Listener) -> ListenerMessage {
    let Listener { identity, address, learnt_from, why_none } = listener;
    ListenerMessage { spiffe_id: identity.to_string(), address, learnt_from, why_none }
}

fn tally((identity, tally): &(SpiffeId, HandshakeTally)) -> TallyMessage {
    TallyMessage {
        spiffe_id: identity.to_string(),
        since: tally.since.as_secs(),
        seen_at: tally.seen.as_secs(),
        handshakes: tally.counts.handshakes,
        connection_errors: tally.counts.connection_errors,
        refused_peers: tally.counts.refused_peers,
        endpoints: tally.endpoints,
        silent_endpoints: tally.silent,
    }
}

fn ledger(ledger: LedgerFigures) -> LedgerMessage {
    LedgerMessage {
        segment: ledger.segment,
        live_rows: ledger.live_rows,
        files: ledger.files,
        bytes: ledger.bytes,
        unproven_rows: ledger.unproven_rows,
    }
}

fn issuer(issuer: IssuerView) -> IssuerMessage {
    IssuerMessage {
        id: issuer.id.as_bytes().to_vec(),
        subject: issuer.subject,
        not_before: seconds(issuer.not_before),
        not_after: issuer.not_after.as_secs(),
        active: issuer.active,
        replica: issuer.replica,
    }
}

fn seconds(at: Option<Timestamp>) -> i64 {
    at.map_or(0, Timestamp::as_secs)
}
