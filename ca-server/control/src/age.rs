//! When a root that has reached its age is replaced without being asked, and when a rotation for that is asked for again
//! after somebody gave one up.

use std::time::Duration;

use rotation::{RequestId, State};
use trust::{Certificate, RootId, Timestamp};

/// What the configuration says of the age of roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aging {
    /// Age at which a root is replaced; none if only operators begin rotations.
    pub max_age: Option<Duration>,
    /// How long a rotation for age that was given up is not asked for again.
    pub retry_after: Duration,
}

/// What is due for the age of the root that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing: it is young, or a rotation is under way.
    Nothing,
    /// A rotation is to be asked for under this id: one for each attempt, so that each is asked for once.
    Ask(RootId, RequestId),
    /// It is old, and the last attempt was given up: it is asked for again at this time.
    Held(RootId, Timestamp),
}

impl Aging {
    /// What is due in this state.
    pub fn due(&self, state: &State, now: Timestamp) -> Due {
        let Some(root) = self.max_age.and_then(|age| old_root(state, age, now)) else {
            return Due::Nothing;
        };
        // The last rotation that ended without replacing this root was one for its age, or a later one by hand.
        let Some(steady) = state.phase.steady() else { return Due::Nothing };
        let attempts = attempts(state, &root);
        let again_at = steady.since.plus(self.retry_after);
        if attempts > 0 && now < again_at {
            return Due::Held(root, again_at);
        }
        let id = match attempts {
            0 => format!("age-{}", root.short()),
            _ => format!("age-{}-{}", root.short(), attempts + 1),
        };
        RequestId::parse(&id).map_or(Due::Nothing, |id| Due::Ask(root, id))
    }
}

/// The root that signs, if nothing is under way and it is as old as this.
fn old_root(state: &State, age: Duration, now: Timestamp) -> Option<RootId> {
    if !state.phase.is_steady() || state.seen.highest().is_some() {
        // Then it would be refused until an operator has decided.
        return None;
    }
    let root = state.signing_root()?;
    let certificate = Certificate::parse(state.roots.get(&root)?.der.as_bytes()).ok()?;
    (now.since(certificate.validity().not_before()) >= age).then_some(root)
}

/// The number of the last attempt for this root that is remembered; 0 for none.
fn attempts(state: &State, root: &RootId) -> u64 {
    let first = format!("age-{}", root.short());
    let number = |id: &RequestId| match id.as_str().strip_prefix(&first)? {
        "" => Some(1),
        rest => rest.strip_prefix('-')?.parse().ok(),
    };
    state.done.iter().filter_map(number).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use plugins::KeyBackend as _;
    use rotation::{Event, Mode, Policy, PreparedRoot, SignedIssuer, step};
    use trust::{CertificateId, Root, Sequence, TrustDomain};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    async fn root() -> Root {
        let keys = plugins::memory::MemoryKeys::new();
        let id = plugins::RequestId::parse("root").unwrap();
        let key = keys.generate(&id, plugins::KeySpec::P256).await.unwrap();
        let profile = plugins::ca_certificate::RootProfile {
            trust_domain: TrustDomain::parse("example.org").unwrap(),
            serial: trust::Serial::random(&trust::SeededRandomness::new(1)),
            validity: trust::Validity::new(NOW, NOW.plus(DAY * 1_000)).unwrap(),
        };
        plugins::ca_certificate::build_root(&keys, &key, &profile).await.unwrap()
    }

    fn taken(state: &State, event: &Event, now: Timestamp) -> State {
        step(state, event, now, &Policy::default()).unwrap().next
    }

    fn bootstrapped(root: &Root) -> State {
        let id: RequestId = "f".parse().unwrap();
        let start = State::uninitialised(TrustDomain::parse("example.org").unwrap());
        let issuer = SignedIssuer {
            id: CertificateId::of(b"i"),
            root: root.id(),
            chain: vec![rotation::Der::from(b"i".as_slice())],
            key: "i".parse().unwrap(),
            not_after: NOW.plus(DAY * 900),
            rehearsal: None,
        };
        [
            Event::BootstrapRequested {
                request_id: id.clone(),
                authority: "main".parse().unwrap(),
            },
            Event::RootPrepared {
                request_id: id.clone(),
                root: PreparedRoot::of(root, true),
                replica: None,
            },
            Event::IssuerSigned { request_id: id, issuer },
            Event::BundlePublished { sequence: Sequence(1) },
        ]
        .iter()
        .fold(start, |state, event| taken(&state, event, NOW))
    }

    #[tokio::test]
    async fn a_rotation_by_age_that_was_given_up_is_asked_for_again_later_and_not_before() {
        let root = root().await;
        let aging = Aging { max_age: Some(DAY * 30), retry_after: DAY };
        let mut state = bootstrapped(&root);
        assert_eq!(aging.due(&state, NOW.plus(DAY)), Due::Nothing, "it is young");
        let mut now = NOW.plus(DAY * 30);
        let mut ids = Vec::new();
        for _ in 0..3 {
            let Due::Ask(asked, request_id) = aging.due(&state, now) else { panic!("{state:?}") };
            assert_eq!(asked, root.id());
            ids.push(request_id.to_string());
            let (authority, mode) = ("main".parse().unwrap(), Mode::Auto);
            let request =
                Event::RotationRequested { request_id, authority, mode, stage_again: None };
            state = taken(&state, &request, now);
            assert_eq!(aging.due(&state, now), Due::Nothing, "it is under way");
            state = taken(
                &state,
                &Event::AbortRequested {
                    request_id: format!("x{now}").replace([':', ' '], "-").parse().unwrap(),
                },
                now,
            );
            assert_eq!(aging.due(&state, now), Due::Held(root.id(), now.plus(DAY)));
            now = now.plus(DAY);
        }
        let short = root.id().short().to_string();
        assert_eq!(
            ids,
            [format!("age-{short}"), format!("age-{short}-2"), format!("age-{short}-3")]
        );
    }
}
