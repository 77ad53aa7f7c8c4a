//! What happened: everything that can move the machine.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use trust::{BundleDigest, CertificateId, Cohort, Generation, Root, RootId, Sequence, Timestamp};

use crate::codec;
use crate::{
    AuthorityName, Contents, Der, Evidence, FurtherRoot, KeyName, Mode, Rehearsal, ReplicaName,
    RequestId, SegmentId,
};

/// Something that happened. Any event may be given again, at any time: what was done once is not done twice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Somebody wants the first root to be made.
    // Journals have the first name of this event.
    #[serde(rename = "founding_requested")]
    BootstrapRequested {
        /// Chosen at random by who wants it, and kept while the answer is unknown.
        request_id: RequestId,
        /// Who shall make and hold the root.
        authority: AuthorityName,
    },
    /// The authority answered [`StageRoot`](crate::Effect::StageRoot), and its answer passed the checks.
    RootPrepared {
        /// The request of the effect.
        request_id: RequestId,
        /// What was answered.
        root: PreparedRoot,
        /// Who asked: its key backend makes the key of the first issuer. Entries of former releases have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replica: Option<ReplicaName>,
    },
    /// Somebody wants a new issuer for a replica, under a root that signs or may come to sign.
    IssuerRenewalRequested {
        /// Chosen by who wants it.
        request_id: RequestId,
        /// Under which root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// For which replica. Entries of former releases have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replica: Option<ReplicaName>,
        /// Whether it takes the place of a renewal that is under way.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        replaces: bool,
    },
    /// An operator wants the renewal of an issuer that is under way no more.
    IssuerRenewalCancelled {
        /// Chosen at random by who wants it.
        request_id: RequestId,
        /// Under which root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// Of which replica. Entries of former releases have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replica: Option<ReplicaName>,
    },
    /// The authority answered [`RequestIssuer`](crate::Effect::RequestIssuer), and its answer passed the checks.
    IssuerSigned {
        /// The request of the effect.
        request_id: RequestId,
        /// What was answered.
        issuer: SignedIssuer,
    },
    /// The bundle is out: no request holds a former one.
    BundlePublished {
        /// Its sequence.
        #[serde(with = "codec::sequence")]
        sequence: Sequence,
    },
    /// The root signs: here no request holds a former signer. What other replicas show is said by their seals.
    SignerSwitched {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// The issuer, as the effect named it.
        #[serde(default, with = "codec::optional_text", skip_serializing_if = "Option::is_none")]
        issuer: Option<CertificateId>,
    },
    /// A replica started, holds the lock of its ledger, and opens a segment. Its former segments take no row any
    /// more.
    SegmentOpened {
        /// The replica.
        replica: ReplicaName,
        /// The new segment; never one that was used before.
        segment: SegmentId,
        /// Former segments of this replica whose files were read to the end.
        read: BTreeSet<SegmentId>,
    },
    /// Whatever was released on a snapshot older than `generation` is in this segment's rows, and no older snapshot
    /// is in use.
    SegmentSealed {
        /// The segment.
        segment: SegmentId,
        /// Generation of the oldest snapshot in use.
        #[serde(with = "codec::generation")]
        generation: Generation,
    },
    /// A segment takes no row any more.
    SegmentClosed {
        /// The segment.
        segment: SegmentId,
        /// Whether all its rows are known.
        contents: Contents,
    },
    /// A replica will need to release leaves that end as late as `until`.
    HorizonRequested {
        /// Under which root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// Into which segment.
        segment: SegmentId,
        /// Latest end of any such leaf.
        #[serde(with = "codec::seconds")]
        until: Timestamp,
    },
    /// Probe leaves will be needed that end as late as `until`: agents look with them whether proxies can verify the root that
    /// shall sign.
    ProbesRequested {
        /// Under which root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// Latest end of any such leaf.
        #[serde(with = "codec::seconds")]
        until: Timestamp,
    },
    /// Somebody wants a new root to take the place of the one that signs.
    RotationRequested {
        /// Chosen at random by who wants it, and kept while the answer is unknown.
        request_id: RequestId,
        /// Who shall make and hold the new root.
        authority: AuthorityName,
        /// Who lets it sign.
        mode: Mode,
        /// A root that may return although it was withdrawn before, or has the key and the name of a known one.
        #[serde(default, with = "codec::optional_text", skip_serializing_if = "Option::is_none")]
        stage_again: Option<RootId>,
        /// For whom it signs first, if not for everybody at once. Entries of former releases have none.
        #[serde(default, with = "codec::optional_text", skip_serializing_if = "Option::is_none")]
        canary: Option<Cohort>,
    },
    /// What the ledger and the relying parties say at this time. A gate that this opens is passed, unless the rotation is
    /// held or waits for an operator.
    EvidenceReported {
        /// What they say.
        evidence: Evidence,
    },
    /// An operator lets the new root sign, if the trust gate is open; after a rollback, goes forward again.
    ActivateRequested {
        /// Chosen at random by who wants it.
        request_id: RequestId,
        /// What the gate is judged by.
        evidence: Evidence,
    },
    /// An operator lets the new root sign for more than the cohort so far.
    CanaryWidened {
        /// Chosen at random by who wants it.
        request_id: RequestId,
        /// For whom from now on.
        #[serde(with = "codec::text")]
        cohort: Cohort,
    },
    /// An operator wants no phase to end by itself.
    HoldRequested {
        /// Chosen at random by who wants it.
        request_id: RequestId,
    },
    /// An operator lets phases end again.
    ResumeRequested {
        /// Chosen at random by who wants it.
        request_id: RequestId,
    },
    /// An operator gives the rotation up before its root has signed.
    AbortRequested {
        /// Chosen at random by who wants it.
        request_id: RequestId,
    },
    /// An operator wants the former root to sign again.
    RollbackRequested {
        /// Chosen at random by who wants it.
        request_id: RequestId,
    },
    /// An operator said that the wall clock is right although it went another way than uptime. It moves nothing: the
    /// journal has it.
    ClockAccepted {
        /// Who said so.
        by: String,
        /// Why.
        reason: String,
        /// What the wall clock said.
        #[serde(with = "codec::seconds")]
        wall: Timestamp,
        /// What it should have said by uptime.
        #[serde(with = "codec::seconds")]
        expected: Timestamp,
    },
    /// An operator did something outside of this record that a gate may rest on. It moves nothing: the journal has it,
    /// with who and why.
    OperatorActed {
        /// What, in the words of the command line, such as `leaf forget`.
        verb: String,
        /// About whom or what: a name, a serial number, a fingerprint.
        about: String,
        /// What else belongs to it, such as the sequence that was confirmed.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// An agent that proved itself holds a bundle that this record never published.
    BundleSighted {
        /// The agent's name.
        agent: String,
        /// The sequence that it says.
        #[serde(with = "codec::sequence")]
        sequence: Sequence,
        /// The digest, if it says one.
        #[serde(with = "codec::optional_text")]
        digest: Option<BundleDigest>,
    },
    /// An operator lets the record go on above everything that was seen: it was restored from a backup.
    ContinueRequested {
        /// Chosen at random by who wants it.
        request_id: RequestId,
        /// The next bundle has a sequence greater than this.
        #[serde(with = "codec::sequence")]
        above: Sequence,
        /// Why, for whoever reads the journal.
        reason: String,
        /// Whether it has to wait until every leaf that was issued after the backup has ended: going on takes trust from those
        /// under a root that came after it. `false` says that no such root had begun to sign.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        waits: bool,
    },
    /// The record was restored from a backup, and may be older than the mesh: what was released since is not known, and
    /// counts as full for as long as any of it can live.
    RecoveryRequested {
        /// Chosen by who wants it; the same for one restore.
        request_id: RequestId,
        /// Why, for whoever reads the journal.
        reason: String,
        /// Segments of servers that run on this very record: they stay as they are.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        live: BTreeSet<SegmentId>,
    },
    /// An operator says that the word of an agent about bundles is wrong, or does not matter.
    SightingDismissed {
        /// Chosen at random by who wants it.
        request_id: RequestId,
        /// The agent.
        agent: String,
        /// Why, for whoever reads the journal.
        reason: String,
    },
    /// An operator takes that back.
    SightingHeeded {
        /// Chosen at random by who wants it.
        request_id: RequestId,
        /// The agent.
        agent: String,
    },
    /// An authority has everybody here trust roots of others.
    FurtherRootsAdded {
        /// The authority.
        authority: AuthorityName,
        /// The roots, each checked by who received it.
        roots: Vec<FurtherRoot>,
        /// Roots that were named for this: they may be trusted again although they were withdrawn before.
        #[serde(default, with = "codec::text_set", skip_serializing_if = "BTreeSet::is_empty")]
        named: BTreeSet<RootId>,
    },
    /// An authority no longer names these roots of others.
    FurtherRootsRemoved {
        /// The authority.
        authority: AuthorityName,
        /// The roots.
        #[serde(with = "codec::text_set")]
        roots: BTreeSet<RootId>,
    },
    /// An operator has the record forget retired roots that nobody can be shown any more.
    PruneRequested {
        /// Chosen at random by who wants it.
        request_id: RequestId,
        /// The roots.
        #[serde(with = "codec::text_set")]
        roots: BTreeSet<RootId>,
    },
    /// An operator takes a replica out for good, alive or dead: its segments take no row any more, and nothing is kept for
    /// it. One that lives and starts again is a new one.
    ReplicaRemoved {
        /// Chosen at random by who wants it.
        request_id: RequestId,
        /// The replica.
        replica: ReplicaName,
    },
    /// A standby root is to take the place of the one that signs: it is trusted already.
    StandbyPromoted {
        /// Chosen at random by who wants it.
        request_id: RequestId,
        /// The standby root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// Who lets it sign.
        mode: Mode,
    },
    /// An operator wants a standby root no more.
    StandbyDropped {
        /// Chosen at random by who wants it.
        request_id: RequestId,
        /// The standby root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
    /// A root counts as compromised from here on: another one signs as soon as it may, and this one goes as soon as it may.
    RootDistrusted {
        /// Chosen at random by who says so.
        request_id: RequestId,
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// Who makes the root that takes its place, if there is no standby root.
        authority: AuthorityName,
        /// Who says so.
        by: String,
        /// Why.
        reason: String,
    },
    /// It was distrusted by mistake.
    RootTrustedAgain {
        /// Chosen at random by who says so.
        request_id: RequestId,
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// Who says so.
        by: String,
        /// By what evidence.
        reason: String,
    },
    /// An operator takes a distrusted root out of the bundle although leaves of it are in use: their holders break.
    DistrustedRootCut {
        /// Chosen at random by who wants it.
        request_id: RequestId,
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// Who wants it.
        by: String,
        /// Why.
        reason: String,
    },
    /// A driver started: what was counted on the uptime of a former one is counted anew.
    DriverStarted,
}

/// A root as its authority handed it over, checked by who received it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PreparedRoot {
    /// Its id.
    #[serde(with = "codec::text")]
    pub id: RootId,
    /// The certificate.
    pub der: Der,
    /// Last second of the certificate.
    #[serde(with = "codec::seconds")]
    pub not_after: Timestamp,
    /// Whether its authority says that nobody else issues under it.
    pub exclusive: bool,
}

impl PreparedRoot {
    /// Takes a root that was parsed and checked.
    pub fn of(root: &Root, exclusive: bool) -> Self {
        Self {
            id: root.id(),
            der: Der::from(root.der()),
            not_after: root.certificate().validity().not_after(),
            exclusive,
        }
    }
}

/// An issuer as its authority signed it, checked by who received it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SignedIssuer {
    /// Its id.
    #[serde(with = "codec::text")]
    pub id: CertificateId,
    /// The root it chains to.
    #[serde(with = "codec::text")]
    pub root: RootId,
    /// Its certificate first, then any others up to the root, which is not among them.
    pub chain: Vec<Der>,
    /// Its private key at the key backend.
    pub key: KeyName,
    /// The earliest end in its chain.
    #[serde(with = "codec::seconds")]
    pub not_after: Timestamp,
    /// What was rehearsed with it. Journals of former releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
}

impl Event {
    /// The event's name in texts and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BootstrapRequested { .. } => "bootstrap_requested",
            Self::RootPrepared { .. } => "root_prepared",
            Self::IssuerRenewalRequested { .. } => "issuer_renewal_requested",
            Self::IssuerRenewalCancelled { .. } => "issuer_renewal_cancelled",
            Self::IssuerSigned { .. } => "issuer_signed",
            Self::BundlePublished { .. } => "bundle_published",
            Self::SignerSwitched { .. } => "signer_switched",
            Self::SegmentOpened { .. } => "segment_opened",
            Self::SegmentSealed { .. } => "segment_sealed",
            Self::SegmentClosed { .. } => "segment_closed",
            Self::HorizonRequested { .. } => "horizon_requested",
            Self::ProbesRequested { .. } => "probes_requested",
            Self::RotationRequested { .. } => "rotation_requested",
            Self::EvidenceReported { .. } => "evidence_reported",
            Self::ActivateRequested { .. } => "activate_requested",
            Self::CanaryWidened { .. } => "canary_widened",
            Self::HoldRequested { .. } => "hold_requested",
            Self::ResumeRequested { .. } => "resume_requested",
            Self::AbortRequested { .. } => "abort_requested",
            Self::RollbackRequested { .. } => "rollback_requested",
            Self::ClockAccepted { .. } => "clock_accepted",
            Self::OperatorActed { .. } => "operator_acted",
            Self::BundleSighted { .. } => "bundle_sighted",
            Self::ContinueRequested { .. } => "continue_requested",
            Self::RecoveryRequested { .. } => "recovery_requested",
            Self::SightingDismissed { .. } => "sighting_dismissed",
            Self::SightingHeeded { .. } => "sighting_heeded",
            Self::FurtherRootsAdded { .. } => "further_roots_added",
            Self::FurtherRootsRemoved { .. } => "further_roots_removed",
            Self::PruneRequested { .. } => "prune_requested",
            Self::ReplicaRemoved { .. } => "replica_removed",
            Self::StandbyPromoted { .. } => "standby_promoted",
            Self::StandbyDropped { .. } => "standby_dropped",
            Self::RootDistrusted { .. } => "root_distrusted",
            Self::RootTrustedAgain { .. } => "root_trusted_again",
            Self::DistrustedRootCut { .. } => "distrusted_root_cut",
            Self::DriverStarted => "driver_started",
        }
    }
}
