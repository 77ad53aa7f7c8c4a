//! What agents have seen: the only way to find out that this server's record is older than the mesh.
//!
//! An agent that proved itself says which bundle it holds. One that this record never published (a higher sequence, or a
//! sequence of ours with another digest) means that the data directory went back in time, or that the agent errs. The
//! word goes into the record, where it keeps bundle and signer as they are until an operator decides
//! ([`rotation::Sightings`]); here it is judged and waits; [`crate::hear`] takes it and brings it there.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rotation::{SIGHTINGS_MAX, State};
use tokio::sync::Notify;
use trust::{Bundle, BundleDigest, Sequence};

/// Agents named in one sentence.
const NAMED_MAX: usize = 3;

/// What was heard and is not in the record yet.
#[derive(Debug, Default)]
pub struct Seen {
    waiting: Mutex<BTreeMap<String, Stored>>,
    /// Told when something waits.
    pub wake: Notify,
}

/// A bundle that an agent says it has stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its sequence.
    pub sequence: Sequence,
    /// Its digest, if it said one.
    pub digest: Option<BundleDigest>,
}

/// What is to be thought of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// This record published it, or went on above it, or it is so old that it is not kept.
    Known,
    /// This record has published no bundle of this sequence yet.
    Newer,
    /// This record has published other roots under this sequence.
    Other(BundleDigest),
}

impl Stored {
    /// As it came over the wire.
    pub fn new(sequence: u64, digest: &[u8]) -> Self {
        Self { sequence: Sequence(sequence), digest: BundleDigest::from_bytes(digest) }
    }
}

/// Above its latest the record published none; below, it has forgotten the oldest, and what it went on above is explained.
pub fn judge(
    stored: Stored,
    state: &State,
    ours: impl FnOnce(Sequence) -> Option<BundleDigest>,
) -> Judgement {
    if stored.sequence <= state.seen.explained {
        return Judgement::Known;
    }
    if stored.sequence > state.sequence {
        return Judgement::Newer;
    }
    match ours(stored.sequence) {
        Some(ours) if stored.digest != Some(ours) => Judgement::Other(ours),
        _ => Judgement::Known,
    }
}

/// The digest of the record's latest bundle.
pub fn latest_digest(state: &State) -> Option<BundleDigest> {
    let roots: Vec<_> = state.bundle().into_values().map(|der| der.as_bytes()).collect();
    let bundle = Bundle::from_ders(state.trust_domain.clone(), state.sequence, &roots);
    bundle.ok().map(|bundle| bundle.digest())
}

impl Seen {
    /// Keeps what an agent says until it is in the record, unless that knows it.
    pub fn note(&self, agent: &str, stored: Stored, state: &State) {
        let known =
            state.seen.open.get(agent).is_some_and(|known| known.sequence >= stored.sequence);
        if known {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = waiting.get(agent).map(|before| before.sequence);
        // Of more agents than are kept, the others say so again at their next connection.
        let fits = before.map_or(waiting.len() < SIGHTINGS_MAX, |before| before < stored.sequence);
        if !fits {
            return;
        }
        waiting.insert(agent.to_owned(), stored);
        drop(waiting);
        self.wake.notify_one();
    }

    /// Everything that waits.
    pub fn take(&self) -> BTreeMap<String, Stored> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What could not be written down waits again.
    pub fn put_back(&self, agent: String, stored: Stored) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).entry(agent).or_insert(stored);
        self.wake.notify_one();
    }
}

/// What agents hold that this record never published, as one sentence with what to do.
pub fn sentence(state: &State) -> Option<String> {
    let (highest, most) = state.seen.highest()?;
    let digest = |digest: Option<BundleDigest>| match digest {
        Some(digest) => format!(" (digest {})", digest.short()),
        None => String::new(),
    };
    let named: Vec<_> = state
        .seen
        .open
        .iter()
        .take(NAMED_MAX)
        .map(|(agent, seen)| {
            format!("agent {agent} holds bundle {}{}", seen.sequence, digest(seen.digest))
        })
        .collect();
    let others = match state.seen.open.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        others => format!(", and {others} more agents hold others"),
    };
    Some(format!(
        "{}{others}, which this server never published: its latest is bundle {}{}. The state was restored from \
         an older backup; neither bundle nor signer changes until `banyan state continue --above {} --by NAME --reason \
         TEXT`; or if what the agent says is wrong, `banyan state dismiss {highest} --by NAME --reason TEXT`; first read \
         `banyan state show`",
        named.join(", "),
        state.sequence,
        digest(latest_digest(state)),
        most.sequence.max(state.sequence)
    ))
}

#[cfg(test)]
mod tests {
    use trust::TrustDomain;

    use super::*;

    fn state(sequence: u64, explained: u64) -> State {
        let mut state = State::uninitialised(TrustDomain::parse("example.org").unwrap());
        state.sequence = Sequence(sequence);
        state.seen.explained = Sequence(explained);
        state
    }

    fn digest(text: &str) -> Option<BundleDigest> {
        Some(BundleDigest::of(text.as_bytes()))
    }

    #[test]
    fn only_what_was_never_published_is_unknown() {
        let judged = |sequence, digest, ours| {
            judge(Stored { sequence: Sequence(sequence), digest }, &state(5, 2), |_| ours)
        };
        let (a, b) = (digest("a"), digest("b"));
        assert_eq!(judged(5, a, a), Judgement::Known, "equal");
        assert_eq!(judged(4, a, a), Judgement::Known, "one behind");
        assert_eq!(judged(0, None, None), Judgement::Known, "holds none yet");
        assert_eq!(judged(3, a, None), Judgement::Known, "forgotten here");
        assert_eq!(judged(6, a, None), Judgement::Newer);
        assert_eq!(judged(6, None, None), Judgement::Newer);
        assert_eq!(
            judged(4, b, a),
            Judgement::Other(BundleDigest::of(b"a")),
            "a sequence of ours with other roots"
        );
        assert_eq!(
            judged(5, None, a),
            Judgement::Other(BundleDigest::of(b"a")),
            "no digest proves nothing"
        );
        assert_eq!(judged(2, b, a), Judgement::Known, "explained");
    }

    #[test]
    fn what_waits_is_bounded_and_a_word_that_is_recorded_waits_no_more() {
        let seen = Seen::default();
        let stored = |sequence| Stored { sequence: Sequence(sequence), digest: None };
        for number in 0..=SIGHTINGS_MAX {
            seen.note(&format!("a{number}"), stored(7), &state(5, 0));
        }
        seen.note("a0", stored(9), &state(5, 0));
        seen.note("a0", stored(8), &state(5, 0));
        let waiting = seen.take();
        assert_eq!((waiting.len(), waiting.get("a0")), (SIGHTINGS_MAX, Some(&stored(9))));
        assert!(seen.take().is_empty());
    }
}
