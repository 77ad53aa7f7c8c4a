//! What things are called, as operators read it.

use ledger::{EvidenceClass, RowKind};

/// Kind of a holder that stands for others who issue under a root.
pub(super) const SHARED_ROOT: &str = "shared-root";
/// All kinds of rows.
pub const KINDS: [RowKind; 5] = [
    RowKind::AgentHeld,
    RowKind::CsrOnly,
    RowKind::ChannelTrusted,
    RowKind::Own,
    RowKind::AgentIdentity,
];

/// The name of a kind of rows, as operators read it.
pub const fn kind_name(kind: RowKind) -> &'static str {
    match kind {
        RowKind::AgentHeld => "agent-held",
        RowKind::CsrOnly => "csr-only",
        RowKind::ChannelTrusted => "channel-trusted",
        RowKind::Own => "own",
        RowKind::AgentIdentity => "agent-identity",
        RowKind::Probe => "probe",
    }
}

/// The name of a class of evidence.
pub const fn class_name(class: EvidenceClass) -> &'static str {
    match class {
        EvidenceClass::Assumed => "assumed",
        EvidenceClass::Sent => "sent",
        EvidenceClass::Delivered => "delivered",
        EvidenceClass::Applied => "applied",
        EvidenceClass::HandshakeObserved => "handshake-observed",
    }
}

/// The name of a mode of rotations.
pub const fn mode_name(mode: rotation::Mode) -> &'static str {
    match mode {
        rotation::Mode::Auto => "auto",
        rotation::Mode::Manual => "manual",
        rotation::Mode::Standby => "standby",
    }
}
