//! Rows: one for every leaf that may live.

use std::sync::Arc;

use trust::{CertificateId, RootId, Sequence, Serial, SpiffeId, SpkiHash, Timestamp};

/// What the ledger knows of a leaf before it is signed. A row never changes; [`Evidence`] about it grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Serial number of the leaf.
    pub serial: Serial,
    /// The key that the leaf certifies.
    pub spki: SpkiHash,
    /// The identity that the leaf names.
    pub identity: SpiffeId,
    /// Name of the agent that holds the leaf; `None` when no agent reports about it. At most 128 bytes.
    pub agent: Option<String>,
    /// The root that the leaf chains to.
    pub root: RootId,
    /// The issuer's certificate.
    pub issuer: CertificateId,
    /// End of the leaf's validity.
    pub not_after: Timestamp,
    /// Sequence of the bundle in the snapshot that the leaf was made from.
    pub born: Sequence,
    /// Who holds the leaf, and so what can prove that its holder trusts a root.
    pub kind: RowKind,
    /// What was said of its holders' trust before the leaf was signed.
    pub word: Word,
}

/// What is said of the trust of a leaf's holders before there are any. It is in the row, so it is durable before the
/// signature and counts from the first moment on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// Nothing: the row is of a kind of which no agent speaks, or of a release in which none did.
    #[default]
    None,
    /// The agent hands the leaf only to holders that have acknowledged at least the bundle of this sequence, on every
    /// validation secret that they use, and until then nobody holds it. For an agent's own leaf: it has stored it.
    Trusting(Sequence),
    /// Some holder takes the leaf from its agent and no validation secret, so nothing tells what it trusts.
    OwnTrust,
    /// As [`Trusting`](Self::Trusting), and each holder has a listener that the agent shakes hands with.
    Listening {
        /// What its holders have acknowledged.
        trusting: Sequence,
        /// What the agent saw at the listeners so far.
        seen: Probed,
    },
}

/// What an agent saw when it shook hands with its holders' listeners: with a leaf that they trust already, and with one of the
/// root that shall sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probed {
    /// Nothing yet.
    #[default]
    Nothing,
    /// While the bundle of this sequence was in force, some listener could not be probed: it does not answer, or asks nobody for a
    /// certificate.
    NotProbeable(Sequence),
    /// Some holder has acknowledged the bundle of this sequence and refused a leaf of the root that shall sign, and no other.
    Unable(Sequence),
    /// All took both.
    Observed(Sequence),
}

/// Who holds a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKind {
    /// An agent, which acknowledges each bundle that the holder applied.
    AgentHeld,
    /// A client that only sends CSRs: its trust came with the leaf, and stays as it was until the next CSR.
    CsrOnly,
    /// A holder that gets its bundle over a channel of its own.
    ChannelTrusted,
    /// This CA itself: serving and admin leaves.
    Own,
    /// An agent's own identity.
    AgentIdentity,
    /// An agent, which shakes hands with its own holders' listeners and hands it to nobody. It is no member's leaf, and holds no
    /// gate.
    Probe,
}

impl RowKind {
    /// Whether a leaf born with a bundle proves that its holder trusts it: leaf and bundle come in one reply, and whoever
    /// asked installs both itself. An agent may refuse a bundle and renew, so its leaves prove nothing by birth.
    #[must_use]
    pub const fn is_proven_by_birth(self) -> bool {
        match self {
            Self::CsrOnly | Self::Own => true,
            Self::AgentHeld | Self::AgentIdentity | Self::ChannelTrusted | Self::Probe => false,
        }
    }

    /// Whether somebody presents leaves of this kind to others, so that gates ask about them.
    #[must_use]
    pub const fn is_members(self) -> bool {
        match self {
            Self::AgentHeld
            | Self::CsrOnly
            | Self::ChannelTrusted
            | Self::Own
            | Self::AgentIdentity => true,
            Self::Probe => false,
        }
    }
}

/// How a holder's trust was proven, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceClass {
    /// Only time says so.
    Assumed,
    /// The bundle was sent over a channel that has no acknowledgement.
    Sent,
    /// Leaf and bundle were in one reply.
    Delivered,
    /// The holder said that it applied the bundle.
    Applied,
    /// A handshake under the bundle was seen.
    HandshakeObserved,
}

/// One piece of evidence: a leaf's holder trusts the bundle of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Sequence of the bundle.
    pub applied: Sequence,
    /// How that was proven.
    pub class: EvidenceClass,
    /// When that was proven.
    pub at: Timestamp,
}

/// For each class of evidence, the newest sequence that evidence of this class or a stronger one proves; 0 when
/// there is none. So a stronger proof of an older bundle is not lost to a weaker one of a newer, nor hides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Applied([Sequence; EvidenceClass::ALL.len()]);

/// What is proven about a leaf's holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The sequences it is known to have applied.
    pub applied: Applied,
    /// When the newest piece of evidence came; the epoch when there is none.
    pub at: Timestamp,
    /// What a probe of its listeners lacks. It is said again at each connect of its agent, so it is in no file.
    pub probe: Probe,
}

/// What is known of a probe but that it passed, which is evidence of its own class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Probe {
    /// The newest bundle with which a holder was seen to refuse a leaf of the root that shall sign; 0 for none.
    pub unable: Sequence,
    /// The newest bundle with which a listener could not be probed; 0 for none.
    pub not_probeable: Sequence,
}

impl Probe {
    pub(crate) const NONE: Self = Self { unable: Sequence(0), not_probeable: Sequence(0) };

    fn join(&mut self, other: Self) {
        self.unable = self.unable.max(other.unable);
        self.not_probeable = self.not_probeable.max(other.not_probeable);
    }
}

impl EvidenceClass {
    /// All classes, weakest first.
    pub const ALL: [Self; 5] =
        [Self::Assumed, Self::Sent, Self::Delivered, Self::Applied, Self::HandshakeObserved];
}

impl Applied {
    /// The newest sequence that evidence of this class or a stronger one proves.
    #[must_use]
    pub fn by(&self, at_least: EvidenceClass) -> Sequence {
        self.levels()
            .find(|(class, _)| *class == at_least)
            .map_or(Sequence(0), |(_, sequence)| sequence)
    }

    /// The newest sequence of all, and the strongest class that proves it; `None` when nothing is proven.
    #[must_use]
    pub fn newest(&self) -> Option<(Sequence, EvidenceClass)> {
        // `max_by_key` takes the last of equals, and the last is the strongest class.
        let newest = self.levels().max_by_key(|(_, sequence)| *sequence);
        newest
            .map(|(class, sequence)| (sequence, class))
            .filter(|(sequence, _)| *sequence > Sequence(0))
    }

    /// One sequence for each class, in the order of [`EvidenceClass::ALL`].
    #[must_use]
    pub const fn from_sequences(sequences: [Sequence; EvidenceClass::ALL.len()]) -> Self {
        Self(sequences)
    }

    /// Every class with its sequence, weakest first.
    pub fn levels(&self) -> impl Iterator<Item = (EvidenceClass, Sequence)> {
        EvidenceClass::ALL.into_iter().zip(self.0)
    }

    fn join(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = (*mine).max(theirs);
        }
    }
}

impl Evidence {
    /// Evidence with these sequences, one for each class.
    pub(crate) const fn from_levels(
        levels: [Sequence; EvidenceClass::ALL.len()],
        at: Timestamp,
    ) -> Self {
        Self { applied: Applied::from_sequences(levels), at, probe: Probe::NONE }
    }

    fn join(&mut self, other: Self) {
        self.applied.join(other.applied);
        self.at = self.at.max(other.at);
        self.probe.join(other.probe);
    }

    /// What an agent saw at listeners at a time.
    pub(crate) fn of_probe(seen: Probed, at: Timestamp) -> Self {
        match seen {
            Probed::Nothing => Self::default(),
            Probed::NotProbeable(not_probeable) => {
                Self { probe: Probe { not_probeable, ..Probe::default() }, ..Self::default() }
            }
            Probed::Unable(unable) => {
                Self { probe: Probe { unable, ..Probe::default() }, ..Self::default() }
            }
            Probed::Observed(applied) => {
                Proof { applied, class: EvidenceClass::HandshakeObserved, at }.into()
            }
        }
    }
}

impl From<Proof> for Evidence {
    fn from(proof: Proof) -> Self {
        let level = |class| if class <= proof.class { proof.applied } else { Sequence(0) };
        let applied = Applied(EvidenceClass::ALL.map(level));
        Self { applied, at: proof.at, probe: Probe::default() }
    }
}

/// Why a row counts no longer, although its leaf has not expired. Ordered: the greater one is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ended {
    /// Its holder gave it up, or was seen to exit.
    Released,
    /// Everyone who held it has applied a newer leaf.
    Superseded {
        /// Serial of the newer leaf.
        by: Serial,
    },
    /// Its leaf was never handed out.
    Abandoned,
}

/// Whether an operator said by name that nobody holds a leaf, and whether its holder has shown since that it does.
///
/// It counts turns and never goes back: odd while the operator's word stands, even once it was found wrong. So it joins in
/// any order, as everything else that is known of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Forgotten(u8);

impl Forgotten {
    /// Turns that there may be: an operator whose word about one leaf was wrong so often is not believed again.
    const TURNS_MAX: u8 = 100;

    pub(crate) const fn from_turns(turns: u8) -> Self {
        Self(turns)
    }

    pub(crate) const fn turns(self) -> u8 {
        self.0
    }

    /// Whether the word that nobody holds the leaf stands.
    #[must_use]
    pub const fn stands(self) -> bool {
        self.0 % 2 == 1
    }

    /// Whether that word was given and found wrong: the leaf is held after all.
    #[must_use]
    pub const fn was_wrong(self) -> bool {
        self.0 > 0 && !self.stands()
    }

    /// The turn after this one.
    pub(crate) const fn next(self) -> Option<Self> {
        if self.0 < Self::TURNS_MAX { Some(Self(self.0 + 1)) } else { None }
    }
}

/// Everything that is known about a leaf that may live. The fields grow and never shrink, whatever order records
/// are read in: recovery needs no order between files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRow {
    /// The row.
    pub row: Arc<Row>,
    /// The signed certificate, once it was reported.
    pub certificate: Option<CertificateId>,
    /// What its holder trusts.
    pub evidence: Evidence,
    /// Why it counts no longer, if so.
    pub ended: Option<Ended>,
    /// What an operator said of it.
    pub forgotten: Forgotten,
}

impl LiveRow {
    /// A row about which nothing is known yet but how it was born, and what was said then.
    #[must_use]
    pub fn new(row: Arc<Row>) -> Self {
        let by_word = |applied| {
            Proof { applied, class: EvidenceClass::Applied, at: Timestamp::default() }.into()
        };
        let evidence = match row.word {
            Word::Trusting(applied) => by_word(applied),
            Word::Listening { trusting, seen } => {
                let mut evidence: Evidence = by_word(trusting);
                evidence.join(Evidence::of_probe(seen, Timestamp::default()));
                evidence
            }
            Word::None | Word::OwnTrust => Evidence::default(),
        };
        Self { row, certificate: None, evidence, ended: None, forgotten: Forgotten::default() }
    }

    /// Whether some holder of the leaf takes its trust from elsewhere than from its agent.
    #[must_use]
    pub fn is_own_trust(&self) -> bool {
        self.row.word == Word::OwnTrust
    }

    /// Whether its agent shakes hands with a listener of every holder.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        matches!(self.row.word, Word::Listening { .. })
    }

    /// Whether the row still holds gates closed.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.ended.is_none() && !self.forgotten.stands() && self.row.kind.is_members()
    }

    /// Takes in what another source knows about the same row.
    ///
    /// A signed leaf of a client that only sends CSRs is evidence in itself: the bundle comes in the same reply.
    pub(crate) fn join(&mut self, change: Change) {
        self.certificate = self.certificate.or(change.certificate);
        if self.certificate.is_some() && self.row.kind == RowKind::CsrOnly {
            let class = EvidenceClass::Delivered;
            self.evidence
                .join(Proof { applied: self.row.born, class, at: Timestamp::default() }.into());
        }
        self.evidence.join(change.evidence);
        self.ended = self.ended.max(change.ended);
        self.forgotten = self.forgotten.max(change.forgotten);
    }

    /// What is known beyond the row itself.
    pub(crate) const fn change(&self) -> Change {
        let Self { certificate, evidence, ended, forgotten, .. } = self;
        Change {
            certificate: *certificate,
            evidence: *evidence,
            ended: *ended,
            forgotten: *forgotten,
        }
    }
}

/// Knowledge about a row, to be joined with what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) certificate: Option<CertificateId>,
    pub(crate) evidence: Evidence,
    pub(crate) ended: Option<Ended>,
    pub(crate) forgotten: Forgotten,
}

impl Change {
    pub(crate) fn ended(ended: Ended) -> Self {
        Self { ended: Some(ended), ..Self::default() }
    }

    pub(crate) fn turned(forgotten: Forgotten) -> Self {
        Self { forgotten, ..Self::default() }
    }

    pub(crate) fn proven(proof: Proof) -> Self {
        Self { evidence: proof.into(), ..Self::default() }
    }

    pub(crate) fn probed(seen: Probed, at: Timestamp) -> Self {
        Self { evidence: Evidence::of_probe(seen, at), ..Self::default() }
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.certificate = self.certificate.or(other.certificate);
        self.evidence.join(other.evidence);
        self.ended = self.ended.max(other.ended);
        self.forgotten = self.forgotten.max(other.forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EvidenceClass::{Applied as AppliedClass, Assumed, HandshakeObserved, Sent};

    #[test]
    fn evidence_never_gets_weaker_whatever_comes_later() {
        let proof = |sequence, class| Proof {
            applied: Sequence(sequence),
            class,
            at: Timestamp::from_secs(1),
        };
        let proofs = [
            proof(5, AppliedClass),
            proof(6, Sent),
            proof(3, HandshakeObserved),
            proof(4, Assumed),
        ];
        let (mut forward, mut backward) = (Evidence::default(), Evidence::default());
        proofs.iter().for_each(|proof| forward.join((*proof).into()));
        proofs.iter().rev().for_each(|proof| backward.join((*proof).into()));
        assert_eq!(forward, backward);
        let by = |class| forward.applied.by(class).0;
        assert_eq!([Assumed, Sent, AppliedClass, HandshakeObserved].map(by), [6, 6, 5, 3]);
        assert_eq!(forward.applied.newest(), Some((Sequence(6), Sent)));
        assert_eq!(Evidence::default().applied.newest(), None);
    }
}
