//! What the agent tells about itself.

use trust::{BundleDigest, RootId, Timestamp};

/// A snapshot of the agent's state. Published at every change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Sequence of the bundle in force; 0 before first contact.
    pub sequence: u64,
    /// Its digest.
    pub digest: Option<BundleDigest>,
    /// Roots of the bundle in force.
    pub roots: Vec<RootId>,
    /// The agent's own certificate.
    pub member: Option<MemberStatus>,
    /// Where the CA is: each configured address, which one is in use, and why others were left.
    pub ca_addresses: Vec<CaAddressStatus>,
    /// Whether the stream to the CA is up.
    pub connected: bool,
    /// Since when it is up, or down.
    pub connection_since: Timestamp,
    /// Every configured identity.
    pub workloads: Vec<WorkloadStatus>,
    /// Every process that holds secrets of this agent.
    pub holders: Vec<HolderStatus>,
    /// Secrets that holders or this agent refused since it started.
    pub nacks: u64,
    /// What is wrong now, and what to do about it; empty when all is well.
    pub conditions: Vec<String>,
}

/// One address of the CA. A name with several addresses may have several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaAddressStatus {
    /// As configured.
    pub address: String,
    /// Where it led, as far as it was tried.
    pub at: Option<String>,
    /// Whether stream and calls go there.
    pub in_use: bool,
    /// When it failed last, if it did and is not in use.
    pub left_since: Option<Timestamp>,
    /// Why.
    pub left_because: Option<String>,
}

/// The agent's own certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// The agent's SPIFFE id.
    pub spiffe_id: String,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// End of its life.
    pub not_after: Timestamp,
}

/// One identity that this agent serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// The identity.
    pub spiffe_id: String,
    /// Serial number of its leaf in hexadecimal; `None` before the first one, and after one expired.
    pub serial: Option<String>,
    /// End of the leaf's life.
    pub not_after: Option<Timestamp>,
    /// Root that the leaf chains to.
    pub root: Option<RootId>,
    /// Leaves received after the first one.
    pub renewals: u64,
    /// Why the last attempt to get a leaf failed, until one succeeds.
    pub last_error: Option<String>,
    /// Where its holders listen.
    pub listeners: Vec<ListenerStatus>,
}

/// Where one process listens that holds a leaf, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerStatus {
    /// `host:port`, with the server name that is asked for; `None` where none can be probed.
    pub address: Option<String>,
    /// The admin endpoint of the Envoy that says so; `None` where the configuration does.
    pub learnt_from: Option<String>,
    /// Why there is no address.
    pub why_none: Option<String>,
}

/// One process that holds secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderStatus {
    /// Its process id.
    pub pid: i32,
    /// Its user id.
    pub uid: u32,
    /// The Pod that it runs in, of an agent of a node: namespace and name, or its UID where the API server tells of it no more.
    pub pod: Option<String>,
    /// Whether one of its streams is up.
    pub connected: bool,
    /// Serial numbers, in hexadecimal, of the leaves that it may present.
    pub serials: Vec<String>,
    /// Highest sequence that it has acknowledged on all of its validation secrets; `None` if it proves nothing.
    pub applied: Option<u64>,
}

/// What can be wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    /// The agent is no member of the mesh (yet, or any more).
    NotMember,
    /// The agent's own certificate lives and could not be renewed.
    RenewalFails,
    /// The CA cannot be reached; the last good state is served.
    CaAway,
    /// The CA answers, and takes no stream of this agent.
    CaRefuses,
    /// The CA sent a bundle that is not to be believed.
    BundleRefused,
    /// The disk takes no new bundle.
    BundleNotStored,
    /// The CA said of other trust domains what is not to be believed.
    ForeignRefused,
    /// The disk takes no new bundles of other trust domains.
    ForeignNotStored,
    /// A holder asks for the roots of a trust domain that the CA is not federated with.
    NotFederated,
    /// The disk takes no new account of holders.
    HoldersNotStored,
    /// The CA serves this agent no longer.
    Banned,
    /// What changes of the Pods of the node is not heard.
    PodsUnknown,
    /// The admin endpoint of an Envoy gives no good answer.
    CountersUnread,
    /// An Envoy has no listener that can be probed.
    ListenersNotFound,
    /// Holders do without revocation lists, though there are or were some.
    WithoutLists,
    /// The file for them cannot be written.
    ListsNotWritten,
}

impl Condition {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotMember => "not a member",
            Self::RenewalFails => "own certificate not renewed",
            Self::CaAway => "CA away",
            Self::CaRefuses => "refused by the CA",
            Self::BundleRefused => "bundle refused",
            Self::BundleNotStored => "bundle not stored",
            Self::ForeignRefused => "bundles of other trust domains refused",
            Self::ForeignNotStored => "bundles of other trust domains not stored",
            Self::NotFederated => "not federated",
            Self::HoldersNotStored => "holders not stored",
            Self::Banned => "banned",
            Self::PodsUnknown => "Pods not known",
            Self::CountersUnread => "counters of Envoy not read",
            Self::ListenersNotFound => "no listener to be probed",
            Self::WithoutLists => "without revocation lists",
            Self::ListsNotWritten => "revocation lists not written",
        }
    }
}
