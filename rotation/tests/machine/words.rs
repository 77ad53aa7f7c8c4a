//! Short words for long events, and a state as one line.

use std::time::Duration;

use rotation::{
    BootstrapStep, CohortSeen, Contents, Der, Event, Evidence, FurtherRoot, Mode, Phase, Policy,
    PreparedRoot, SegmentState, SignedIssuer, StagingStep, State,
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
        canary_observe: Duration::from_secs(60),
        canary_limit_percent: 1,
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

pub(crate) fn bootstrap(request: &str) -> Event {
    Event::BootstrapRequested {
        request_id: request.parse().unwrap(),
        authority: "main".parse().unwrap(),
    }
}

pub(crate) fn prepared(request: &str, name: &str) -> Event {
    let root = PreparedRoot {
        id: root(name),
        der: Der::from(name.as_bytes()),
        not_after: at(ROOT_END),
        exclusive: true,
    };
    Event::RootPrepared { request_id: request.parse().unwrap(), root, replica: None }
}

pub(crate) fn signed(request: &str, root_name: &str, name: &str) -> Event {
    let issuer = SignedIssuer {
        id: issuer(name),
        root: root(root_name),
        chain: vec![Der::from(name.as_bytes())],
        key: format!("key-{name}").parse().unwrap(),
        not_after: at(ISSUER_END),
        rehearsal: None,
    };
    Event::IssuerSigned { request_id: request.parse().unwrap(), issuer }
}

pub(crate) fn published(sequence: u64) -> Event {
    Event::BundlePublished { sequence: Sequence(sequence) }
}

pub(crate) fn switched(root_name: &str, name: &str) -> Event {
    Event::SignerSwitched { root: root(root_name), issuer: Some(issuer(name)) }
}

pub(crate) fn renewal(request: &str, root_name: &str) -> Event {
    Event::IssuerRenewalRequested {
        request_id: request.parse().unwrap(),
        root: root(root_name),
        replica: None,
        replaces: false,
    }
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
    Event::HorizonRequested {
        root: root(root_name),
        segment: segment.parse().unwrap(),
        until: at(until),
    }
}

pub(crate) fn probes(root_name: &str, until: i64) -> Event {
    Event::ProbesRequested { root: root(root_name), until: at(until) }
}

pub(crate) fn rotation(request: &str, mode: Mode) -> Event {
    let (request_id, authority) = (request.parse().unwrap(), "main".parse().unwrap());
    Event::RotationRequested { request_id, authority, mode, stage_again: None, canary: None }
}

/// The same for a cohort first.
pub(crate) fn canary_rotation(request: &str, mode: Mode, cohort: &str) -> Event {
    let (request_id, authority) = (request.parse().unwrap(), "main".parse().unwrap());
    let canary = Some(cohort.parse().unwrap());
    Event::RotationRequested { request_id, authority, mode, stage_again: None, canary }
}

pub(crate) fn widen(request: &str, cohort: &str) -> Event {
    let (request_id, cohort) = (request.parse().unwrap(), cohort.parse().unwrap());
    Event::CanaryWidened { request_id, cohort }
}

pub(crate) fn promote(request: &str, name: &str) -> Event {
    let (request_id, root) = (request.parse().unwrap(), root(name));
    Event::StandbyPromoted { request_id, root, mode: Mode::Auto }
}

pub(crate) fn drop_standby(request: &str, name: &str) -> Event {
    Event::StandbyDropped { request_id: request.parse().unwrap(), root: root(name) }
}

pub(crate) fn distrust(request: &str, name: &str) -> Event {
    distrust_with(request, name, "main")
}

pub(crate) fn distrust_with(request: &str, name: &str, authority: &str) -> Event {
    let (request_id, authority) = (request.parse().unwrap(), authority.parse().unwrap());
    let (by, reason) = ("ann".to_owned(), "its key was seen elsewhere".to_owned());
    Event::RootDistrusted { request_id, root: root(name), authority, by, reason }
}

pub(crate) fn trust_again(request: &str, name: &str) -> Event {
    let (by, reason) = ("ann".to_owned(), "it was another key".to_owned());
    let (request_id, root) = (request.parse().unwrap(), root(name));
    Event::RootTrustedAgain { request_id, root, by, reason }
}

pub(crate) fn cut(request: &str, name: &str) -> Event {
    let (by, reason) = ("ann".to_owned(), "forged leaves are in use".to_owned());
    let (request_id, root) = (request.parse().unwrap(), root(name));
    Event::DistrustedRootCut { request_id, root, by, reason }
}

pub(crate) fn hold(request: &str) -> Event {
    Event::HoldRequested { request_id: request.parse().unwrap() }
}

pub(crate) fn resume(request: &str) -> Event {
    Event::ResumeRequested { request_id: request.parse().unwrap() }
}

pub(crate) fn abort(request: &str) -> Event {
    Event::AbortRequested { request_id: request.parse().unwrap() }
}

pub(crate) fn rollback(request: &str) -> Event {
    Event::RollbackRequested { request_id: request.parse().unwrap() }
}

pub(crate) fn recovery(request: &str, live: &[&str]) -> Event {
    let live = live.iter().map(|segment| segment.parse().unwrap()).collect();
    let request_id = request.parse().unwrap();
    Event::RecoveryRequested { request_id, reason: "restored".to_owned(), live }
}

pub(crate) fn activate(request: &str, evidence: Evidence) -> Event {
    Event::ActivateRequested { request_id: request.parse().unwrap(), evidence }
}

pub(crate) fn further(authority: &str, names: &[&str]) -> Event {
    let told = |name: &&str| FurtherRoot {
        id: root(name),
        der: Der::from(name.as_bytes()),
        not_after: at(ROOT_END),
    };
    let authority = authority.parse().unwrap();
    Event::FurtherRootsAdded {
        authority,
        roots: names.iter().map(told).collect(),
        named: [].into(),
    }
}

pub(crate) fn no_further(authority: &str, names: &[&str]) -> Event {
    let roots = names.iter().map(|name| root(name)).collect();
    Event::FurtherRootsRemoved { authority: authority.parse().unwrap(), roots }
}

pub(crate) fn reported(evidence: Evidence) -> Event {
    Event::EvidenceReported { evidence }
}

/// A report of the time `now` in which everybody has the bundle `sequence`, no root has a live leaf, and segment
/// `s1` was read at the seal `read`. Uptime passes as the wall clock does.
pub(crate) fn evidence(now: i64, sequence: u64, read: u64) -> Evidence {
    Evidence {
        at: at(now),
        uptime: Duration::from_secs(u64::try_from(now).unwrap()),
        sequence: Sequence(sequence),
        unproven: rotation::evidence::Tally::default(),
        own_trust: rotation::evidence::Tally::default(),
        unable: 0,
        waived: 0,
        live: std::collections::BTreeMap::new(),
        read: [("s1".parse().unwrap(), Generation(read))].into(),
        relying_parties: rotation::evidence::RelyingParties::default(),
        foreign: std::collections::BTreeMap::new(),
        let_go: std::collections::BTreeSet::new(),
        observer: None,
        draining: std::collections::BTreeSet::new(),
        cohort: None,
    }
}

/// The same of a cohort whose two leaves are of the new root.
pub(crate) fn well(now: i64, sequence: u64, read: u64) -> Evidence {
    let cohort = Some(CohortSeen { taken: 2, ..CohortSeen::default() });
    Evidence { cohort, ..evidence(now, sequence, read) }
}

pub(crate) fn tally(count: u64, latest: i64) -> rotation::evidence::Tally {
    rotation::evidence::Tally { count, latest: Some(at(latest)) }
}

/// Tells a state events at a time at which each is legal.
pub(crate) fn after(state: State, now: i64, events: &[Event]) -> State {
    events.iter().fold(state, |state, event| {
        rotation::step(&state, event, at(now), &policy()).expect("an event that is legal").next
    })
}

/// Root `A` signs into segment `s1` until 2,000: generation 7.
pub(crate) fn signing() -> State {
    after(bootstrapped(), 1_000, &[opened("ca", "s1", &[]), horizon("A", "s1", 2_000)])
}

/// Roots `A` and `B` are in bundle 2, everybody can be seen to have it: generation 12.
pub(crate) fn distributed(mode: Mode) -> State {
    let events = [
        rotation("r", mode),
        prepared("r", "B"),
        signed("r", "B", "b"),
        published(2),
        sealed("s1", 10),
    ];
    after(signing(), 1_000, &events)
}

/// The cohort for which `B` signs first.
pub(crate) const SHOP: &str = "spiffe://example.org/ns/shop/*";

/// Roots `A` and `B` are in bundle 2, everybody can be seen to have it, and `B` is to sign for a cohort first: generation 12.
pub(crate) fn distributed_first(mode: Mode) -> State {
    let events = [
        canary_rotation("r", mode, SHOP),
        prepared("r", "B"),
        signed("r", "B", "b"),
        published(2),
        sealed("s1", 10),
    ];
    after(signing(), 1_000, &events)
}

/// `B` signs for the cohort since 1,130: generation 15.
pub(crate) fn canary() -> State {
    let state = after(distributed_first(Mode::Auto), 1_100, &[reported(evidence(1_100, 2, 10))]);
    after(state, 1_130, &[reported(evidence(1_130, 2, 10)), horizon("B", "s1", 2_200)])
}

/// Root `B` signs since generation 14, and its signer is in force: generation 17.
pub(crate) fn drained() -> State {
    let state = after(distributed(Mode::Auto), 1_100, &[reported(evidence(1_100, 2, 10))]);
    let events = [
        reported(evidence(1_130, 2, 10)),
        switched("B", "b"),
        horizon("B", "s1", 2_200),
        sealed("s1", 14),
    ];
    after(state, 1_130, &events)
}

/// Root `A` signs, root `S` is a standby root in bundle 2: generation 14.
pub(crate) fn with_standby() -> State {
    let events = [
        rotation("p", Mode::Standby),
        prepared("p", "S"),
        signed("p", "S", "s"),
        published(2),
        sealed("s1", 10),
    ];
    let state = after(signing(), 1_000, &events);
    let state = after(state, 1_100, &[reported(evidence(1_100, 2, 10))]);
    after(state, 1_130, &[reported(evidence(1_130, 2, 10))])
}

/// The events of a bootstrap without trouble: root `A`, issuer `a`.
pub(crate) fn bootstrapped() -> State {
    let events = [
        bootstrap("f"),
        prepared("f", "A"),
        signed("f", "A", "a"),
        published(1),
        switched("A", "a"),
    ];
    events.iter().fold(start(), |state, event| {
        rotation::step(&state, event, at(1_000), &policy())
            .expect("a bootstrap without trouble")
            .next
    })
}

/// A state as one line: `generation bundle phase | roots | segments | owed effects`.
pub(crate) fn line(state: &State) -> String {
    let phase = match &state.phase {
        Phase::Bootstrapping(bootstrap) => match bootstrap.step {
            BootstrapStep::StagingRoot => "staging-root",
            BootstrapStep::RequestingIssuer { .. } => "requesting-issuer",
            BootstrapStep::Publishing { .. } => "publishing",
        }
        .to_owned(),
        Phase::Staging(staging) => match staging.step {
            StagingStep::StagingRoot => "staging: root",
            StagingStep::RequestingIssuer { .. } => "staging: issuer",
            StagingStep::Ready { .. } => "staging: ready",
        }
        .to_owned(),
        Phase::Distributing(phase) if phase.settling.is_some() => {
            "distributing, settling".to_owned()
        }
        Phase::Canary(phase) => {
            let settling = if phase.settling.is_some() { ", settling" } else { "" };
            let observing = if phase.observing.is_some() { ", observing" } else { "" };
            let trouble = if phase.trouble.is_some() { ", trouble" } else { "" };
            format!("canary{settling}{observing}{trouble}")
        }
        Phase::Draining(phase) => {
            let back = if phase.rolled_back { " back" } else { "" };
            let settling = if phase.settling.is_some() { ", settling" } else { "" };
            format!("draining{back}{settling}")
        }
        phase => phase.name().to_owned(),
    };
    let held = match state.phase.rotation().and_then(|rotation| rotation.held_since) {
        Some(since) => format!(" held@{}", since.as_secs()),
        None => String::new(),
    };
    let roots = state.roots.values().map(|root| {
        let horizon = root.horizon.map_or("-".to_owned(), |horizon| horizon.as_secs().to_string());
        let keys = root.signing_issuers().map(|id| root.issuers.get(&id).unwrap().key.to_string());
        let keys: Vec<_> = keys.collect();
        let signer = (!keys.is_empty()).then(|| keys.join("+"));
        let renewal = if root.all_renewals().next().is_some() { " renewing" } else { "" };
        let name = std::str::from_utf8(root.der.as_bytes()).unwrap();
        format!(
            "{name} {}{} {} until {horizon}{renewal}",
            root.state.as_str(),
            if root.tainted { " (distrusted)" } else { "" },
            signer.as_deref().unwrap_or("-")
        )
    });
    let further = state.further.values().map(|entry| {
        let by: Vec<_> = entry.by.iter().map(|name| name.as_str()).collect();
        format!(
            "{} further by {}",
            std::str::from_utf8(entry.der.as_bytes()).unwrap(),
            by.join("+")
        )
    });
    let segments = state.segments.iter().map(|(id, segment)| {
        let kind = match segment.state {
            SegmentState::Open => "open".to_owned(),
            SegmentState::Sealed { generation } => format!("sealed@{generation}"),
            SegmentState::Closed(Contents::Read) => "closed".to_owned(),
            SegmentState::Closed(Contents::Unread) => "closed-unread".to_owned(),
        };
        let bound =
            segment.last_bound().map_or("-".to_owned(), |bound| bound.as_secs().to_string());
        format!("{id} {kind} {bound}")
    });
    let owed = state
        .pending
        .iter()
        .map(|pending| format!("{}@{}", pending.effect.name(), pending.generation));
    format!(
        "g{} b{} {phase}{held} | {} | {} | {}",
        state.generation,
        state.sequence,
        joined(roots.chain(further)),
        joined(segments),
        joined(owed)
    )
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}
