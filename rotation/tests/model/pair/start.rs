//! Where a walk of two replicas begins.

use rotation::{Event, State};
use trust::{CertificateId, Sequence, TrustDomain};

use super::{Leaf, OVER, P, Replica, Row, Setting, World};
use crate::entities::{Bundle, Root};
use crate::kept::Kept;
use crate::words::{FAR, at, policy, prepared, request, root, segment, signed, stepped};

/// The replicas' names.
pub(super) const NAMES: [&str; 2] = ["ca", "cb"];

/// A replica has another issuer signed.
pub(super) fn issuer(state: &State, who: usize, name: &str, tick: i64) -> Option<State> {
    let id = format!("i{}{}", state.generation, NAMES[who]);
    let asks = Event::IssuerRenewalRequested {
        request_id: request(&id),
        root: root(name),
        replica: Some(NAMES[who].parse().unwrap()),
        replaces: true,
    };
    let limits = policy(1, 0);
    let state = stepped(state, &asks, tick, &limits)?;
    let Event::IssuerSigned { request_id, mut issuer } = signed(&id, name) else { return None };
    issuer.id = CertificateId::of(id.as_bytes());
    stepped(&state, &Event::IssuerSigned { request_id, issuer }, tick, &limits)
}

/// Root A signs at both replicas until their bounds; B has just been put into bundle 2, and both have an issuer below it.
fn record(setting: &Setting) -> State {
    let limits = policy(1, 0);
    let step = |state: State, event: Event| stepped(&state, &event, 0, &limits).unwrap();
    let by = |event: Event| match event {
        Event::RootPrepared { request_id, root, .. } => {
            Event::RootPrepared { request_id, root, replica: Some(NAMES[0].parse().unwrap()) }
        }
        other => other,
    };
    let authority = || "main".parse().unwrap();
    let mut state = State::uninitialised(TrustDomain::parse("example.org").unwrap());
    let bootstrap = Event::BootstrapRequested { request_id: request("f"), authority: authority() };
    for event in [
        bootstrap,
        by(prepared("f", "A")),
        signed("f", "A"),
        Event::BundlePublished { sequence: Sequence(1) },
        Event::SignerSwitched { root: root("A"), issuer: None },
    ] {
        state = step(state, event);
    }
    for (who, name) in NAMES.into_iter().enumerate() {
        let opened = Event::SegmentOpened {
            replica: name.parse().unwrap(),
            segment: segment(u8::try_from(who).unwrap()),
            read: [].into(),
        };
        state = step(state, opened);
        let segment = segment(u8::try_from(who).unwrap());
        let until = at(setting.bound);
        state = step(state, Event::HorizonRequested { root: root("A"), segment, until });
    }
    state = issuer(&state, 1, "A", 0).unwrap();
    let rotation = Event::RotationRequested {
        request_id: request("r"),
        authority: authority(),
        mode: rotation::Mode::Auto,
        stage_again: None,
        canary: None,
    };
    for event in [rotation, by(prepared("r", "B")), signed("r", "B")] {
        state = step(state, event);
    }
    issuer(&state, 1, "B", 0).unwrap()
}

impl World {
    pub(super) fn start(setting: &Setting) -> Self {
        let record = record(setting);
        // What the members have is from former segments, long read; nothing is served yet from the record of now.
        let first = Bundle::first(0);
        let rows = vec![Row {
            member: P,
            root: Root::A,
            end: if setting.proxy { FAR } else { OVER },
            born: 1,
            applied: 1,
            segment: 0,
            reported: Some(1),
        }];
        let replica = |segment: u8| Replica {
            up: true,
            connected: true,
            segment,
            snapshot: Some(super::Snapshot {
                generation: record.generation.0 - 3,
                bundle: first,
                root: Root::A,
                limit: setting.bound,
            }),
            lease: setting.lease,
            request: None,
            requests: setting.requests[usize::from(segment)],
        };
        Self {
            replicas: [replica(0), replica(1)],
            record: Kept::record(record),
            tick: 0,
            rows,
            trust: [first; 3],
            leaves: [setting.proxy.then_some(Leaf { root: Root::A, end: FAR, row: 0 }), None],
            asked: 0,
            in_force: None,
            handshakes: Vec::new(),
            cuts: setting.cuts,
            crashes: setting.crashes,
        }
    }
}
