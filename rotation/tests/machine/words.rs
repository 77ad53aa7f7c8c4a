//! Short words for long events, and a state as one line.

use std::time::Duration;

use rotation::{
    Contents, Der, Event, FoundingStep, Phase, Policy, PreparedRoot, SegmentState, SignedIssuer, State,
};
use trust::{CertificateId, Generation, RootId, Sequence, Timestamp, TrustDomain};

/// Seconds of a root's and an issuer's life in these tests, which start at 1,000.
pub(crate) const ROOT_END: i64 = 100_000;
pub(crate) const ISSUER_END: i64 = 50_000;

pub(crate) fn policy() -> Policy {
    Policy {
        skew: Duration::from_secs(10),
        leaf_lifetime_max: Duration::from_secs(1_000),
        horizon_step_max: Duration::from_secs(500),
        settle: Duration::from_secs(30),
        leaf_lifetime_min: Duration::from_secs(600),
        withdrawal_max: Duration::from_secs(3_600),
    }
}

pub(crate) fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

pub(crate) fn start() -> State {
    State::uninitialised(TrustDomain::parse("example.org").unwrap())
}

pub(crate) fn root(name: &str) -> RootId {
    RootId::of(name.as_bytes())
}

pub(crate) fn issuer(name: &str) -> CertificateId {
    CertificateId::of(name.as_bytes())
}

pub(crate) fn founding(request: &str) -> Event {
    Event::FoundingRequested { request_id: request.parse().unwrap(), authority: "main".parse().unwrap() }
}

pub(crate) fn prepared(request: &str, name: &str) -> Event {
    let root = PreparedRoot {
        id: root(name),
        der: Der::from(name.as_bytes()),
        not_after: at(ROOT_END),
        exclusive: true,
    };
    Event::RootPrepared { request_id: request.parse().unwrap(), root }
}

pub(crate) fn signed(request: &str, root_name: &str, name: &str) -> Event {
    let issuer = SignedIssuer {
        id: issuer(name),
        root: root(root_name),
        chain: vec![Der::from(name.as_bytes())],
        key: format!("key-{name}").parse().unwrap(),
        not_after: at(ISSUER_END),
    };
    Event::IssuerSigned { request_id: request.parse().unwrap(), issuer }
}

pub(crate) fn published(sequence: u64) -> Event {
    Event::BundlePublished { sequence: Sequence(sequence) }
}

pub(crate) fn switched(root_name: &str, name: &str) -> Event {
    Event::SignerSwitched { root: root(root_name), issuer: issuer(name) }
}

pub(crate) fn renewal(request: &str, root_name: &str) -> Event {
    Event::IssuerRenewalRequested { request_id: request.parse().unwrap(), root: root(root_name) }
}

pub(crate) fn opened(replica: &str, segment: &str, read: &[&str]) -> Event {
    Event::SegmentOpened {
        replica: replica.parse().unwrap(),
        segment: segment.parse().unwrap(),
        read: read.iter().map(|segment| segment.parse().unwrap()).collect(),
    }
}

pub(crate) fn sealed(segment: &str, generation: u64) -> Event {
    Event::SegmentSealed { segment: segment.parse().unwrap(), generation: Generation(generation) }
}

pub(crate) fn closed(segment: &str, contents: Contents) -> Event {
    Event::SegmentClosed { segment: segment.parse().unwrap(), contents }
}

pub(crate) fn horizon(root_name: &str, segment: &str, until: i64) -> Event {
    Event::HorizonRequested { root: root(root_name), segment: segment.parse().unwrap(), until: at(until) }
}

/// The events of a founding without trouble: root `A`, issuer `a`.
pub(crate) fn founded() -> State {
    let events = [founding("f"), prepared("f", "A"), signed("f", "A", "a"), published(1), switched("A", "a")];
    events.iter().fold(start(), |state, event| {
        rotation::step(&state, event, at(1_000), &policy()).expect("a founding without trouble").next
    })
}

/// A state as one line: `generation bundle phase | roots | segments | owed effects`.
pub(crate) fn line(state: &State) -> String {
    let phase = match &state.phase {
        Phase::Founding(founding) => match founding.step {
            FoundingStep::StagingRoot => "staging-root",
            FoundingStep::RequestingIssuer { .. } => "requesting-issuer",
            FoundingStep::Publishing { .. } => "publishing",
        },
        phase => phase.name(),
    };
    let roots = state.roots.values().map(|root| {
        let horizon = root.horizon.map_or("-".to_owned(), |horizon| horizon.as_secs().to_string());
        let signer = root.active_issuer.map(|active| root.issuers.get(&active).unwrap().key.to_string());
        let renewal = if root.renewal.is_some() { " renewing" } else { "" };
        let name = std::str::from_utf8(root.der.as_bytes()).unwrap();
        format!(
            "{name} {} {} until {horizon}{renewal}",
            root.state.as_str(),
            signer.as_deref().unwrap_or("-")
        )
    });
    let segments = state.segments.iter().map(|(id, segment)| {
        let kind = match segment.state {
            SegmentState::Open => "open".to_owned(),
            SegmentState::Sealed { generation } => format!("sealed@{generation}"),
            SegmentState::Closed(Contents::Read) => "closed".to_owned(),
            SegmentState::Closed(Contents::Unread) => "closed-unread".to_owned(),
        };
        let bound = segment.last_bound().map_or("-".to_owned(), |bound| bound.as_secs().to_string());
        format!("{id} {kind} {bound}")
    });
    let owed =
        state.pending.iter().map(|pending| format!("{}@{}", pending.effect.name(), pending.generation));
    format!(
        "g{} b{} {phase} | {} | {} | {}",
        state.generation,
        state.sequence,
        joined(roots),
        joined(segments),
        joined(owed)
    )
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}
