//! What an invariant that does not hold is called, and which property it breaks.

use trust::{CertificateId, Generation, RootId, Sequence, Timestamp};

use crate::{RootState, SegmentId};

/// Most roots that a bundle may hold.
pub const BUNDLE_ROOTS_MAX: usize = 64;

/// The property that a violation breaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Property {
    /// No handshake fails for trust. The record shows of it that a root signs only after the trust gate.
    S1,
    /// A root leaves the bundle only when no leaf of it is alive; no leaf is released past the durable horizon.
    S2,
    /// The signer is in the bundle, the bundle is never empty, no certificate outlives the one above it.
    S3,
    /// States follow the table of transitions; generations, sequences and horizons never go back.
    S4,
    /// A change of the bundle either only adds or only removes, and never exceeds its cap.
    S6,
    /// A crash leads to the state before or the state after, and no request makes a second root.
    S8,
}

/// What cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    /// S1: a root signs in the place of another without the trust gate.
    #[error("S1: root {} signs without the trust gate", root.short())]
    SignerChanged {
        /// The root.
        root: RootId,
    },
    /// S4: somebody left the cohort of a canary while its root signs.
    #[error("S4: the cohort for which root {} signs became smaller", root.short())]
    CohortNarrowed {
        /// The root.
        root: RootId,
    },
    /// S2: a root left the bundle without the leaf gate.
    #[error("S2: root {} left the bundle without the leaf gate", root.short())]
    RootDropped {
        /// The root.
        root: RootId,
    },
    /// S2: a segment may release leaves past the root's horizon.
    #[error("S2: segment {segment} may release leaves until {bound} under root {}, past its horizon", root.short())]
    BoundPastHorizon {
        /// The segment.
        segment: SegmentId,
        /// The root.
        root: RootId,
        /// The segment's bound.
        bound: Timestamp,
    },
    /// S2: a horizon was lowered.
    #[error("S2: the horizon of root {} or a bound under it was lowered", root.short())]
    HorizonLowered {
        /// The root.
        root: RootId,
    },
    /// S2: a horizon was raised while the root does not sign.
    #[error("S2: the horizon of root {} was raised while it does not sign", root.short())]
    HorizonRaised {
        /// The root.
        root: RootId,
    },
    /// S2: a closed segment was opened or extended, or an open one vanished.
    #[error("S2: segment {segment} was changed against its state")]
    SegmentRevived {
        /// The segment.
        segment: SegmentId,
    },
    /// S3: the bundle is empty after the bootstrap, or filled before it.
    #[error("S3: bundle {sequence} has {roots} roots")]
    BundleSize {
        /// The bundle's sequence.
        sequence: Sequence,
        /// Its roots.
        roots: usize,
    },
    /// S3: not exactly one root signs.
    #[error("S3: {signing} roots sign while {phase}")]
    Signers {
        /// How many sign.
        signing: usize,
        /// The phase.
        phase: &'static str,
    },
    /// S3: a root that is trusted has no issuer that it could sign with.
    #[error("S3: root {} is {} without an issuer", root.short(), state.as_str())]
    NoIssuer {
        /// The root.
        root: RootId,
        /// Its state.
        state: RootState,
    },
    /// S3: an issuer has no chain or outlives its root.
    #[error("S3: issuer {} does not fit its root", issuer.short())]
    IssuerUnfit {
        /// The issuer.
        issuer: CertificateId,
    },
    /// S3: leaves could outlive their root.
    #[error("S3: the horizon of root {} lies past its end", root.short())]
    HorizonPastRoot {
        /// The root.
        root: RootId,
    },
    /// S4: the generation did not grow by one.
    #[error("S4: generation {next} follows {former}")]
    Generation {
        /// The former.
        former: Generation,
        /// The next.
        next: Generation,
    },
    /// S4: the sequence went back, or does not fit the change of the bundle.
    #[error("S4: bundle {next} follows {former}, against the change of its roots")]
    Sequence {
        /// The former.
        former: Sequence,
        /// The next.
        next: Sequence,
    },
    /// S4: a phase follows that may not.
    #[error("S4: {next} follows {former}")]
    PhaseOrder {
        /// The former.
        former: &'static str,
        /// The next.
        next: &'static str,
    },
    /// S4: a root changed in a way that no root may.
    #[error("S4: root {} changed against its state", root.short())]
    RootChanged {
        /// The root.
        root: RootId,
    },
    /// S4: a distrusted root came in, came to sign, or was let go of against its state.
    #[error("S4: distrusted root {} was changed against its state", root.short())]
    Distrusted {
        /// The root.
        root: RootId,
    },
    /// S4: the rotation does not fit the roots, the bundle or the pending effects.
    #[error("S4: {phase} does not fit the roots, the bundle or the pending effects")]
    RotationUnfit {
        /// The phase.
        phase: &'static str,
    },
    /// S4: the trust domain changed.
    #[error("S4: the trust domain changed")]
    TrustDomainChanged,
    /// S4: the bundle or the signer changed while agents hold bundles that this record never published.
    #[error(
        "S4: bundle {sequence} came while agents hold bundles that this record never published"
    )]
    Fenced {
        /// The bundle's sequence.
        sequence: Sequence,
    },
    /// S6: a change of the bundle adds and removes.
    #[error("S6: bundle {sequence} adds and removes roots at once")]
    MixedChange {
        /// The bundle's sequence.
        sequence: Sequence,
    },
    /// S6: too many roots.
    #[error("S6: a bundle of {roots} roots is above the cap of {BUNDLE_ROOTS_MAX}")]
    BundleTooLarge {
        /// How many.
        roots: usize,
    },
    /// S4: a further root that nobody names, is compromised, or is there before the first root signs; or too many.
    #[error("S4: further root {} does not fit the record", root.short())]
    FurtherUnfit {
        /// The root.
        root: RootId,
    },
    /// S6: further roots changed together with something else, or while a rotation changes the bundle.
    #[error(
        "S6: further roots changed with bundle {sequence} while {phase}, together with another change"
    )]
    FurtherMixed {
        /// The bundle's sequence.
        sequence: Sequence,
        /// The phase.
        phase: &'static str,
    },
    /// S8: the bootstrap and its roots or pending effects do not fit each other.
    #[error("S8: the bootstrap does not fit the roots and pending effects")]
    BootstrapUnfit,
    /// S8: a pending effect is there twice, of the future, or about something that is not there.
    #[error("S8: pending effect {effect} does not fit the state")]
    PendingUnfit {
        /// The effect's name.
        effect: &'static str,
    },
}

impl Violation {
    /// The property that is broken.
    pub const fn property(&self) -> Property {
        match self {
            Self::SignerChanged { .. } => Property::S1,
            Self::RootDropped { .. }
            | Self::BoundPastHorizon { .. }
            | Self::HorizonLowered { .. }
            | Self::HorizonRaised { .. }
            | Self::SegmentRevived { .. } => Property::S2,
            Self::BundleSize { .. }
            | Self::Signers { .. }
            | Self::NoIssuer { .. }
            | Self::IssuerUnfit { .. }
            | Self::HorizonPastRoot { .. } => Property::S3,
            Self::Generation { .. }
            | Self::Sequence { .. }
            | Self::Fenced { .. }
            | Self::PhaseOrder { .. }
            | Self::CohortNarrowed { .. }
            | Self::RootChanged { .. }
            | Self::Distrusted { .. }
            | Self::RotationUnfit { .. }
            | Self::FurtherUnfit { .. }
            | Self::TrustDomainChanged => Property::S4,
            Self::MixedChange { .. } | Self::BundleTooLarge { .. } | Self::FurtherMixed { .. } => {
                Property::S6
            }
            Self::BootstrapUnfit | Self::PendingUnfit { .. } => Property::S8,
        }
    }
}
