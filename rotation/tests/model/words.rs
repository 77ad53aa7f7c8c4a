//! Names and times of the model. A tick is a second, starting at 1,000.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use crate::entities::{Root, Roots};
use rotation::{
    Der, Event, FurtherEntry, FurtherRoot, Mode, Phase, Policy, PreparedRoot, RequestId, SegmentId,
    SignedIssuer, State, invariants, step,
};
use trust::{CertificateId, RootId, Sequence, SpiffeId, Timestamp, TrustDomain};

/// Later than any walk goes.
pub(crate) const FAR: i64 = 90;

pub(crate) fn at(tick: i64) -> Timestamp {
    Timestamp::from_secs(1_000 + tick)
}

pub(crate) fn root(name: &str) -> RootId {
    RootId::of(name.as_bytes())
}

pub(crate) fn segment(number: u8) -> SegmentId {
    format!("s{number}").parse().unwrap()
}

pub(crate) fn policy(settle: u64, skew: u64) -> Policy {
    Policy {
        skew: Duration::from_secs(skew),
        leaf_lifetime_max: Duration::from_secs(200),
        horizon_step_max: Duration::ZERO,
        settle: Duration::from_secs(settle),
        leaf_lifetime_min: Duration::ZERO,
        withdrawal_max: Duration::from_secs(3),
        canary_observe: Duration::ZERO,
        canary_limit_percent: 1,
    }
}

/// Rows of the transition table that were taken: the phase, the event, and the phase after it.
static REACHED: Mutex<BTreeSet<Row>> = Mutex::new(BTreeSet::new());

/// A row of the transition table.
pub(crate) type Row = (&'static str, &'static str, &'static str);

/// The rows that were taken since this process started.
pub(crate) fn reached() -> BTreeSet<Row> {
    REACHED.lock().unwrap().clone()
}

/// Takes an event in the real machine; `None` if it is refused or changes nothing.
pub(crate) fn taken(state: &State, event: &Event, tick: i64, policy: &Policy) -> Option<State> {
    let next = stepped(state, event, tick, policy)?;
    REACHED.lock().unwrap().insert((state.phase.name(), event.name(), next.phase.name()));
    Some(next)
}

/// The same, for a walk of which nobody asks which rows it took.
pub(crate) fn stepped(state: &State, event: &Event, tick: i64, policy: &Policy) -> Option<State> {
    let transition = step(state, event, at(tick), policy).ok()?;
    if !transition.changes(state) {
        return None;
    }
    let checked = invariants::check_next(state, &transition.next);
    assert_eq!(checked, Ok(()), "after {event:?}");
    Some(transition.next)
}

/// A further root, trusted from the start.
pub(crate) fn trusted_further() -> FurtherEntry {
    let by = ["main".parse().unwrap()].into();
    FurtherEntry {
        der: Der::from(b"F".as_slice()),
        not_after: at(900),
        since: at(0),
        by,
        decided: None,
    }
}

/// The authority names the further root, or does so no more.
pub(crate) fn naming(is_named: bool) -> Event {
    let authority = "main".parse().unwrap();
    let der = Der::from(b"F".as_slice());
    match is_named {
        true => Event::FurtherRootsAdded {
            authority,
            roots: vec![FurtherRoot { id: root("F"), der, not_after: at(900) }],
            named: [].into(),
        },
        false => Event::FurtherRootsRemoved { authority, roots: [root("F")].into() },
    }
}

pub(crate) fn request(text: &str) -> RequestId {
    text.parse().unwrap()
}

pub(crate) fn prepared(id: &str, name: &str) -> Event {
    let (id, request_id) = (root(name), request(id));
    let der = Der::from(name.as_bytes());
    Event::RootPrepared {
        request_id,
        root: PreparedRoot { id, der, not_after: at(900), exclusive: true },
        replica: None,
    }
}

pub(crate) fn signed(id: &str, name: &str) -> Event {
    Event::IssuerSigned {
        request_id: request(id),
        issuer: SignedIssuer {
            id: CertificateId::of(name.as_bytes()),
            root: root(name),
            chain: vec![Der::from(name.as_bytes())],
            key: name.parse().unwrap(),
            not_after: at(800),
            rehearsal: None,
        },
    }
}

fn after(state: State, events: &[Event]) -> State {
    events.iter().fold(state, |state, event| taken(&state, event, 0, &policy(1, 0)).unwrap())
}

/// Root A signs into segment 1 until `bound`, and nothing else is wanted.
pub(crate) fn signing(bound: i64) -> State {
    let events = [
        Event::BootstrapRequested { request_id: request("f"), authority: "main".parse().unwrap() },
        prepared("f", "A"),
        signed("f", "A"),
        Event::BundlePublished { sequence: Sequence(1) },
        Event::SignerSwitched { root: root("A"), issuer: Some(CertificateId::of(b"A")) },
        Event::SegmentOpened {
            replica: "ca".parse().unwrap(),
            segment: segment(1),
            read: [].into(),
        },
        Event::HorizonRequested { root: root("A"), segment: segment(1), until: at(bound) },
    ];
    after(State::uninitialised(TrustDomain::parse("example.org").unwrap()), &events)
}

/// The cohort of a canary, and what it is widened to: the second proxy, then the client as well.
const COHORT: &str = "spiffe://example.org/q";
const WIDER: &str = "spiffe://example.org/c,spiffe://example.org/q";

/// A member's identity.
pub(crate) fn identity(member: usize) -> SpiffeId {
    let name = ["p", "q", "c"][member];
    SpiffeId::parse(&format!("spiffe://example.org/{name}")).unwrap()
}

/// The operator lets the new root sign for more.
pub(crate) fn widening(request_id: RequestId) -> Event {
    Event::CanaryWidened { request_id, cohort: WIDER.parse().unwrap() }
}

/// How the new root came into the bundle.
#[derive(Clone, Copy)]
pub(crate) struct Distributed {
    pub(crate) mode: Mode,
    /// Until when A signs.
    pub(crate) bound: i64,
    /// The further root and the standby root, as far as they are trusted.
    pub(crate) others: Roots,
    /// Whether B signs for a cohort first.
    pub(crate) canary: bool,
}

fn brought(state: State, mode: Mode, name: &str, canary: bool) -> State {
    let id = format!("r{name}");
    let events = [
        Event::RotationRequested {
            request_id: request(&id),
            authority: "main".parse().unwrap(),
            mode,
            stage_again: None,
            canary: canary.then(|| COHORT.parse().unwrap()),
        },
        prepared(&id, name),
        signed(&id, name),
    ];
    let state = after(state, &events);
    assert!(matches!(state.phase, Phase::Distributing(_)));
    state
}

/// The same; B has just been put into bundle 2, which is not out yet. Both bundles may have a further root and a standby root.
pub(crate) fn distributing(how: &Distributed) -> State {
    let Distributed { mode, bound, others, canary } = *how;
    let mut state = signing(bound);
    if others & Root::S.bit() != 0 {
        let id = root("S");
        let standby = brought(state.clone(), Mode::Standby, "S", false).roots.remove(&id).unwrap();
        state.roots.insert(id, standby);
        assert_eq!(invariants::check(&state), Ok(()));
    }
    let mut state = brought(state, mode, "B", canary);
    if others & Root::F.bit() != 0 {
        state.further.insert(root("F"), trusted_further());
        assert_eq!(invariants::check(&state), Ok(()));
    }
    state
}
