//! The contract of root authorities: something that owns a root and signs our issuers.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use trust::csr::{ParsedCsr, VerifiedCsr};
use trust::digest::sha256;
use trust::{RootId, TrustDomain};

use crate::call::{CallContext, Health, Outcome, RequestId, Ticket};
use crate::error::PluginError;
use crate::keys::KeySpec;

/// A root certificate as the authority answered it, in DER, not yet checked.
pub type RootDer = Vec<u8>;

/// Something that owns a root and signs our issuers: our own key, an imported CA, a remote one.
///
/// # Contract
/// - **Idempotence by request id.** Every call that makes something may be repeated with the same
///   [`CallContext::request_id`], after any crash of either side, and answers with the same bytes: no second root, no
///   second key, no second issuer. The same id with other contents is `Denied`. What the answer depends on is stored
///   durably before the answer is given.
/// - **Order.** Calls may run at the same time. An issuer is asked of a root that [`roots`](Self::roots) has announced
///   (staged ones included); `activate` follows when the bundle with that root is proven, or never.
/// - **Deadlines** belong to the caller, which drops the future when its time is over. An authority must not hold
///   anything then that a later call needs: the call happened or did not, and repeating it tells.
/// - **Who checks.** The caller sends every answer through [`checks`](crate::checks); the authority copies nothing
///   from a CSR but its public key, and checks that the CSR proves possession of it.
/// - **Who retries.** The caller, by the variants of [`PluginError`]. An authority never sleeps to retry.
/// - **Capabilities are visible.** What an authority cannot do is `None` here, never an error at run time. The answer
///   is the same for the life of the instance.
/// - **Bounds.** An answer is at most [`checks::MAX_ANSWER_LEN`](crate::checks::MAX_ANSWER_LEN) bytes of DER.
/// - **Panics.** A panic fails the one call; the instance must stay usable.
#[async_trait]
pub trait RootAuthority: Send + Sync + Debug {
    /// What this authority is. Never blocks, always the same answer.
    fn describe(&self) -> Description;

    /// How it is doing. Makes nothing, changes nothing.
    async fn check(&self, context: &CallContext) -> Health;

    /// The roots it stands for now, and which of them signs.
    ///
    /// It may name [further roots](RootSet::further), too: roots of others that everybody who trusts its own shall trust.
    ///
    /// Empty only before the first root of an authority that can [stage](Self::staging) one. Between two answers
    /// roots are added or removed, never both, and never down to nothing; each change raises the generation.
    ///
    /// # Errors
    /// Meanwhile the caller serves from the last set it checked.
    async fn roots(&self, context: &CallContext) -> Result<RootSet, PluginError>;

    /// Signs an issuer: a CA certificate for the key in the CSR, under the root that the request names.
    ///
    /// # Errors
    /// `Denied` for a root that it does not stand for or that was retired, for a CSR whose signature does not verify,
    /// and for another trust domain than the root's. [`Outlives`](PluginError::Outlives), or `Denied`, when what stands
    /// above ends before the time asked: nothing is shortened silently, the caller decides. A refusal is never
    /// remembered, and nor is an answer that cannot be used: what the operator mended counts at the next request, also
    /// under the same id.
    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError>;

    /// Asks for the answer behind a ticket of [`sign_issuer`](Self::sign_issuer).
    ///
    /// # Errors
    /// `Denied` for a ticket that this authority never gave.
    async fn poll(
        &self,
        context: &CallContext,
        ticket: &Ticket,
    ) -> Result<Outcome<IssuerChain>, PluginError>;

    /// Whether it can make or import a root that is announced before it signs.
    fn staging(&self) -> Option<&dyn StageRoots> {
        None
    }

    /// Whether it can tell by itself that its roots changed. Without it the caller polls.
    fn watching(&self) -> Option<&dyn WatchRoots> {
        None
    }

    /// Whether it can sign another root with its own.
    fn cross_signing(&self) -> Option<&dyn CrossSign> {
        None
    }

    /// Whether it is an upstream CA of the same kind, whose rotations this CA follows.
    fn upstream(&self) -> Option<&dyn UpstreamCa> {
        None
    }

    /// Whether it can destroy a root's key.
    fn retiring(&self) -> Option<&dyn RetireRoots> {
        None
    }

    /// Whether requests wait at it for people, so that one that nobody wants any more must be taken back.
    fn withdrawing(&self) -> Option<&dyn WithdrawRequests> {
        None
    }
}

/// The capability to take back a request that people have not answered yet.
#[async_trait]
pub trait WithdrawRequests: Send + Sync {
    /// The requests that wait for people now.
    ///
    /// # Errors
    /// The caller asks again later.
    async fn open_requests(&self, context: &CallContext) -> Result<Vec<RequestId>, PluginError>;

    /// Takes an unanswered request back: nobody is asked for it any more, and asked again under the same id it begins
    /// anew. Of one that is answered or unknown: success, no change.
    ///
    /// # Errors
    /// The request still waits then.
    async fn withdraw(
        &self,
        context: &CallContext,
        request_id: &RequestId,
    ) -> Result<(), PluginError>;
}

/// The capability to make or import a root that is announced before it signs.
#[async_trait]
pub trait StageRoots: Send + Sync {
    /// Makes a root, announces it in [`RootAuthority::roots`], and does not let it sign by default yet.
    ///
    /// The root is stored durably, and so is its key, before the answer: the same request id answers with the same
    /// bytes for ever, until the root is retired; then it is `Denied`.
    ///
    /// # Errors
    /// A call that failed may be repeated with the same id.
    async fn stage(
        &self,
        context: &CallContext,
        request: &StageRequest,
    ) -> Result<Outcome<RootDer>, PluginError>;

    /// Makes an announced root the one that [`RootSet::signing`] names. Of the signing one: success, no change.
    ///
    /// # Errors
    /// `Denied` for a root that is not announced.
    async fn activate(&self, context: &CallContext, root: &RootId) -> Result<(), PluginError>;
}

/// The capability to tell by itself that the roots changed.
#[async_trait]
pub trait WatchRoots: Send + Sync {
    /// Waits until the root set has another generation than `seen`, and answers with it; at once if it has already.
    ///
    /// A level, not an edge: a caller that reopens the wait misses nothing. It waits without the context's deadline.
    ///
    /// # Errors
    /// The caller reopens the wait with backoff, and polls [`RootAuthority::roots`] meanwhile.
    async fn changed(&self, seen: u64) -> Result<RootSet, PluginError>;
}

/// The capability to sign another root with an own one, so that holders of the old root trust the new.
#[async_trait]
pub trait CrossSign: Send + Sync {
    /// Signs the subject and key of another root as a CA certificate under an own root: its subject key identifier is the
    /// other root's, and it narrows nothing of what stands below.
    ///
    /// # Errors
    /// `Denied` where the own root's path length leaves no room, for a root that it does not stand for or whose key it has
    /// not, and for another root of the same name. [`Outlives`](PluginError::Outlives), or `Denied`, when one of the roots ends
    /// before the time asked. As with issuers, no refusal is remembered.
    async fn cross_sign(
        &self,
        context: &CallContext,
        request: &CrossSignRequest,
    ) -> Result<Outcome<Vec<u8>>, PluginError>;
}

/// The capability to destroy a root's key.
#[async_trait]
pub trait RetireRoots: Send + Sync {
    /// Destroys the key of a root and announces it no more. Of a retired one: success, no change.
    ///
    /// The decision is durable before the key goes, so that a crash between leaves a root that is not announced,
    /// never one that is announced and cannot sign.
    ///
    /// # Errors
    /// `Denied` for the root that signs, and for one that this authority never had.
    async fn retire(&self, context: &CallContext, root: &RootId) -> Result<(), PluginError>;
}

/// The capability of an upstream CA: its rotations are followed step by step, and its gates wait for what is
/// reported to it.
#[async_trait]
pub trait UpstreamCa: Send + Sync {
    /// What the upstream CA stands for. Without `seen` at once; else waits until its record has another generation.
    ///
    /// A level, not an edge: a caller that reopens the wait misses nothing. It waits without a deadline, and its future may
    /// be dropped at any await.
    ///
    /// # Errors
    /// The caller asks again with backoff, and decides nothing meanwhile.
    async fn state(&self, seen: Option<u64>) -> Result<UpstreamState, PluginError>;

    /// Tells the upstream CA what its gates may rest on. The latest report counts; it is told again after any restart.
    ///
    /// # Errors
    /// The caller reports again with backoff; until then the upstream CA takes nothing for proven.
    async fn report(
        &self,
        context: &CallContext,
        report: &DownstreamReport,
    ) -> Result<(), PluginError>;
}

/// What an upstream CA stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamState {
    /// Sequence of its bundle.
    pub sequence: u64,
    /// The bundle's roots in DER, each once.
    pub roots: Vec<RootDer>,
    /// The root that signs there.
    pub signing: RootId,
    /// Generation of its record that all of this was read from; never goes back.
    pub generation: u64,
    /// Further roots in its bundle in DER, each once and none of `roots`: under them no downstream CA gets an issuer.
    pub further: Vec<RootDer>,
}

/// What a CA tells the upstream CA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DownstreamReport {
    /// Generation of the [`UpstreamState`] that it acts on.
    pub seen_generation: u64,
    /// Sequence of the bundle above that everybody here and below has applied; 0 while that is not proven.
    pub applied_sequence: u64,
    /// Roots above under which nobody here or below issues or lives.
    pub unused: Vec<RootId>,
    /// Who is waited for here and below, in words for operators; at most 16.
    pub waits_for: Vec<String>,
}

/// What an authority is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// The name of this instance in the configuration, such as `main`.
    pub name: String,
    /// The plugin's name in the registry, such as `self-signed`.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// Whether nobody else issues under its roots. Without it only time proves that a root's leaves are gone.
    pub exclusive: bool,
    /// Where its certificates come from, in words for operators, such as `the files in /etc/cacerts`; may be empty.
    pub place: String,
}

/// The roots that an authority stands for, not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RootSet {
    /// Root certificates in DER, in any order, each once.
    pub roots: Vec<RootDer>,
    /// The root that signs by default; none before the first activation.
    pub signing: Option<RootId>,
    /// Raised by each change of the others; never goes back.
    pub generation: u64,
    /// What would stand between an issuer that is signed now and the signing root: certificates in DER, each signed by the
    /// next, empty where the root signs issuers itself. None where the authority cannot tell.
    pub above: Option<Vec<Vec<u8>>>,
    /// Roots of others in DER, each once and none of `roots`, in any order: everybody shall trust them, and no issuer is asked
    /// under them. At most [`checks::FURTHER_MAX`](crate::checks::FURTHER_MAX). They may change in any way between two
    /// answers, which raises the generation; the caller brings additions and removals about one after the other.
    pub further: Vec<RootDer>,
}

/// A request for an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuerRequest {
    /// The root to sign under, as announced.
    pub root: RootId,
    /// PKCS#10 in DER: proves possession of the issuer's key. Nothing else in it counts.
    pub csr_der: Vec<u8>,
    /// The trust domain whose workloads the issuer will certify.
    pub trust_domain: TrustDomain,
    /// How long the issuer must be good for, from now.
    pub ttl: Duration,
    /// How many further CAs may stand below the issuer: 0 for one that signs leaves only.
    pub path_len: u8,
}

/// An issuer and what stands between it and its root, not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuerChain {
    /// Certificates in DER: the issuer first, each signed by the next, without the root.
    pub certificates: Vec<Vec<u8>>,
}

/// A request for a root.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageRequest {
    /// The trust domain the root stands for.
    pub trust_domain: TrustDomain,
    /// How long the root must be good for, from now.
    pub lifetime: Duration,
    /// The root's key.
    pub key: KeySpec,
}

/// A request for a cross certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrossSignRequest {
    /// The own root to sign with.
    pub signer: RootId,
    /// The other root, in DER.
    pub other_root: RootDer,
    /// How long the cross certificate must be good for, from now.
    pub ttl: Duration,
}

impl Description {
    /// An authority whose roots nobody else issues under.
    pub fn new(
        name: impl Into<String>,
        plugin: impl Into<String>,
        version: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            plugin: plugin.into(),
            version: version.into(),
            exclusive: true,
            place: String::new(),
        }
    }

    /// The same, with where its certificates come from.
    #[must_use]
    pub fn at(self, place: impl Into<String>) -> Self {
        Self { place: place.into(), ..self }
    }

    /// The same, where others may issue under its roots too.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { exclusive: false, ..self }
    }
}

impl RootSet {
    /// A set of roots; `generation` is raised by each change of the other two.
    pub fn new(roots: Vec<RootDer>, signing: Option<RootId>, generation: u64) -> Self {
        Self { roots, signing, generation, above: None, further: Vec::new() }
    }

    /// The same, with what stands between issuers and the signing root.
    #[must_use]
    pub fn with_above(self, above: Option<Vec<Vec<u8>>>) -> Self {
        Self { above, ..self }
    }

    /// The same, with roots of others that everybody shall trust.
    #[must_use]
    pub fn with_further(self, further: Vec<RootDer>) -> Self {
        Self { further, ..self }
    }
}

impl UpstreamState {
    /// What an upstream CA stands for, as its record of this generation has it.
    pub fn new(sequence: u64, roots: Vec<RootDer>, signing: RootId, generation: u64) -> Self {
        Self { sequence, roots, signing, generation, further: Vec::new() }
    }

    /// The same, with the further roots of its bundle.
    #[must_use]
    pub fn with_further(self, further: Vec<RootDer>) -> Self {
        Self { further, ..self }
    }
}

impl DownstreamReport {
    /// Most names in a report.
    pub const WAITS_FOR_MAX: usize = 16;
    /// Longest name in a report, in bytes.
    pub const WAITS_FOR_LEN_MAX: usize = 512;

    /// A report about the state of this generation, which proves nothing yet.
    pub fn about(seen_generation: u64) -> Self {
        Self { seen_generation, ..Self::default() }
    }

    /// The same, when everybody here and below has applied this bundle.
    #[must_use]
    pub fn applied(self, sequence: u64) -> Self {
        Self { applied_sequence: sequence, ..self }
    }

    /// The same, with the roots that nobody here or below uses.
    #[must_use]
    pub fn unused(self, unused: Vec<RootId>) -> Self {
        Self { unused, ..self }
    }

    /// The same, with who is waited for: so many, and so much of each name, as a report holds.
    #[must_use]
    pub fn waits_for(self, names: impl IntoIterator<Item = String>) -> Self {
        let short = |mut name: String| {
            name.truncate(name.floor_char_boundary(Self::WAITS_FOR_LEN_MAX));
            name
        };
        Self { waits_for: names.into_iter().take(Self::WAITS_FOR_MAX).map(short).collect(), ..self }
    }
}

impl IssuerRequest {
    /// A request for an issuer that signs leaves only.
    pub fn new(root: RootId, csr_der: Vec<u8>, trust_domain: TrustDomain, ttl: Duration) -> Self {
        Self { root, csr_der, trust_domain, ttl, path_len: 0 }
    }

    /// The same, for an issuer below which so many further CAs may stand.
    #[must_use]
    pub fn with_path_len(self, path_len: u8) -> Self {
        Self { path_len, ..self }
    }

    /// What is the same on each repetition of the request; stored, so its form never changes.
    pub fn fingerprint(&self) -> String {
        let Self { root, csr_der, trust_domain, ttl, path_len } = self;
        let csr: String = sha256(csr_der).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{root} {trust_domain} {}s {path_len} {csr}", ttl.as_secs())
    }

    /// Reads the CSR and verifies its signature.
    ///
    /// # Errors
    /// `Denied`, with what is wrong with it.
    pub fn verified_csr(&self) -> Result<VerifiedCsr, PluginError> {
        let csr = ParsedCsr::from_der(&self.csr_der).and_then(ParsedCsr::verify);
        csr.map_err(|error| PluginError::denied(format!("the CSR is refused: {error}")))
    }
}

impl IssuerChain {
    /// A chain: the issuer first, each signed by the next, without the root.
    pub fn new(certificates: Vec<Vec<u8>>) -> Self {
        Self { certificates }
    }
}

impl StageRequest {
    /// A request for a root.
    pub fn new(trust_domain: TrustDomain, lifetime: Duration, key: KeySpec) -> Self {
        Self { trust_domain, lifetime, key }
    }

    /// What is the same on each repetition of the request; stored, so its form never changes.
    pub fn fingerprint(&self) -> String {
        format!("{} {}s {}", self.trust_domain, self.lifetime.as_secs(), self.key)
    }
}

impl CrossSignRequest {
    /// A request for a cross certificate.
    pub fn new(signer: RootId, other_root: RootDer, ttl: Duration) -> Self {
        Self { signer, other_root, ttl }
    }

    /// What is the same on each repetition of the request; stored, so its form never changes.
    pub fn fingerprint(&self) -> String {
        let Self { signer, other_root, ttl } = self;
        format!("{signer} {} {}s", RootId::of(other_root), ttl.as_secs())
    }
}
