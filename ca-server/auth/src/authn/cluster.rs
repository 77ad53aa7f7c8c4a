//! Tokens that a cluster judges, and what its node accounts may ask for. The rules are here; whoever speaks to clusters
//! implements [`Clusters`].
//!
//! A cluster is asked before a snapshot is loaded, since that takes a network call; [`Authenticator`](super::Authenticator)
//! then finds its answer among the credentials. What a token says of itself is looked at first, so that the cluster is asked
//! only about tokens that it may believe.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use tonic::metadata::MetadataMap;
use trust::{SpiffeId, Timestamp, TrustDomain};

use super::claims::{BoundPod, TokenClaims};
use super::jwt_parts::{self, Demands, algorithm, settled, split};
use super::{Caller, CallerKind, subject};
use crate::refusal::{Reason, Refusal, echoed};

/// The header by which a client says of which cluster its token is.
pub const CLUSTER_HEADER: &str = "clusterid";
/// The group of every service account.
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// What an API server says in `status.error` when it could not find out whether a token is good.
const UNDECIDED: &[&str] = &[
    "context deadline exceeded",
    "connection refused",
    "etcdserver: ",
    "request timed out",
    "timed out waiting",
    "server is currently unable",
    "i/o timeout",
];

/// Speaks to clusters.
#[async_trait]
pub trait Clusters: Send + Sync + Debug {
    /// Judges a bearer token by its cluster; `None` if no cluster is configured, or the token is one that is judged without.
    async fn judge(
        &self,
        token: &str,
        metadata: &MetadataMap,
    ) -> Option<Result<TokenClaims, Refusal>>;

    /// Whether this service account of the cluster may ask for what runs on its node.
    fn is_node_account(&self, cluster: &str, subject: &str) -> bool;

    /// Whether the ledger shall have where the bearers of the cluster's tokens are.
    fn keeps_bearers(&self, cluster: &str) -> bool;

    /// The pods that were scheduled on a node.
    ///
    /// # Errors
    /// `PODS_NOT_SYNCED` while they are not known, or no longer.
    fn pods_on(&self, cluster: &str, node: &str) -> Result<Vec<PodSeen>, Refusal>;

    /// What is wrong with clusters now, one sentence each, with what to do.
    fn troubles(&self) -> Vec<String>;
}

/// A server of which no cluster is configured.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoClusters;

#[async_trait]
impl Clusters for NoClusters {
    async fn judge(&self, _: &str, _: &MetadataMap) -> Option<Result<TokenClaims, Refusal>> {
        None
    }

    fn is_node_account(&self, _: &str, _: &str) -> bool {
        false
    }

    fn keeps_bearers(&self, _: &str) -> bool {
        false
    }

    fn pods_on(&self, _: &str, _: &str) -> Result<Vec<PodSeen>, Refusal> {
        Ok(Vec::new())
    }

    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A pod that is scheduled on a node and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSeen {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub account: String,
}

/// What a cluster answered to the review of a token: `status` of `TokenReview`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Review {
    /// Whether it believes the token.
    pub authenticated: bool,
    /// Why not.
    pub error: String,
    /// The user's name.
    pub username: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// The audiences of those asked for that the token is for.
    pub audiences: Vec<String>,
    /// The pod that the token is bound to.
    pub pod: Option<BoundPod>,
}

impl Review {
    /// Whether the cluster could not find out: then it said neither yes nor no.
    pub fn is_undecided(&self) -> bool {
        !self.authenticated && UNDECIDED.iter().any(|said| self.error.contains(said))
    }
}

/// What tokens of one cluster must be like.
#[derive(Debug, Clone)]
pub struct ClusterTokens {
    /// The cluster's name in the configuration.
    pub cluster: String,
    /// The value of `iss`, if it is configured.
    pub issuer: Option<String>,
    /// Values of `aud` of which a token must carry one.
    pub audiences: Vec<String>,
    /// Longest life of a token.
    pub life_max: Duration,
    /// How far the cluster's clock may be ahead of ours.
    pub skew: Duration,
    /// Where identities are.
    pub trust_domain: TrustDomain,
}

/// What a token says of itself. Nobody has judged its signature yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    issuer: String,
    subject: String,
    identity: SpiffeId,
    expires: Timestamp,
}

impl Presented {
    /// When the token ends.
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }
}

/// The issuer that a token names, whoever made it; none where it is no token.
pub fn issuer_of(token: &str) -> Option<String> {
    let claims = split(token).ok()?.claims;
    Some(claims.get("iss").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned())
}

/// The cluster that a client names, if it names one.
///
/// # Errors
/// `TOKEN_CLUSTER_UNKNOWN` if it names two, or what is no text.
pub fn named(metadata: &MetadataMap) -> Result<Option<&str>, Refusal> {
    let mut headers = metadata.get_all(CLUSTER_HEADER).iter();
    let Some(header) = headers.next() else { return Ok(None) };
    let one = header.to_str().ok().filter(|_| headers.next().is_none());
    one.map(|name| Some(name).filter(|name| !name.is_empty())).ok_or_else(|| {
        let text = "send at most one header clusterid, with the name of one cluster";
        Refusal::new(Reason::TokenClusterUnknown, text)
    })
}

impl ClusterTokens {
    /// Whether the cluster may believe this token: form, issuer, times, audience and subject are as they must be.
    ///
    /// # Errors
    /// A refusal of the token family.
    pub fn present(&self, token: &str, now: Timestamp) -> Result<Presented, Refusal> {
        let parts = split(token)?;
        algorithm(&parts.header)?;
        let issuer = subject::text(&parts.claims, "iss").unwrap_or_default();
        if self.issuer.as_ref().is_some_and(|expected| expected != issuer) {
            let text = format!(
                "the token's issuer \"{}\" is not that of cluster \"{}\": send the name of its cluster as clusterid",
                echoed(issuer),
                self.cluster
            );
            return Err(Refusal::new(Reason::TokenIssuerUnknown, text));
        }
        let demands = Demands { audiences: &self.audiences, life_max: self.life_max };
        let times = settled(&parts.claims, &demands)?;
        times.include(now, self.skew)?;
        let subject = jwt_parts::subject(&parts.claims)?;
        let identity = self.identity(subject)?;
        let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
        Ok(Presented { issuer, subject, identity, expires: times.expires })
    }

    /// What the token says, now that its cluster has judged it.
    ///
    /// # Errors
    /// `TOKEN_REVIEW_REFUSED` if the cluster does not believe it, `CLUSTER_UNAVAILABLE` if it could not find out, and others of
    /// the token family for what it believes and this server does not take.
    pub fn believed(&self, presented: &Presented, review: &Review) -> Result<TokenClaims, Refusal> {
        let cluster = &self.cluster;
        if review.is_undecided() {
            return Err(unavailable(cluster));
        }
        if !review.authenticated {
            let said = match review.error.as_str() {
                "" => String::new(),
                error => format!(" ({})", echoed(error)),
            };
            let text = format!(
                "cluster \"{cluster}\" does not believe the token{said}: get a new one, and if it is of another cluster send that \
                 one's name as clusterid"
            );
            return Err(Refusal::new(Reason::TokenReviewRefused, text));
        }
        // An API server that knows nothing of audiences answers with none.
        let is_for_us = |audience: &String| self.audiences.contains(audience);
        if review.audiences.is_empty() || !review.audiences.iter().all(is_for_us) {
            let text = format!(
                "cluster \"{cluster}\" says that the token is for another audience; one of {:?} is expected",
                self.audiences
            );
            return Err(Refusal::new(Reason::TokenAudienceMismatch, text));
        }
        let is_account = review.groups.iter().any(|group| group == SERVICE_ACCOUNTS);
        if !is_account || review.username != presented.subject {
            let text = format!(
                "cluster \"{cluster}\" says that the token is not of the service account that it names"
            );
            return Err(Refusal::new(Reason::TokenSubjectInvalid, text));
        }
        Ok(TokenClaims {
            identity: presented.identity.clone(),
            issuer: presented.issuer.clone(),
            subject: presented.subject.clone(),
            pod: review.pod.clone(),
            cluster: Some(cluster.clone()),
        })
    }

    fn identity(&self, subject: &str) -> Result<SpiffeId, Refusal> {
        let identity = subject::kubernetes(subject, &self.trust_domain);
        identity.filter(|identity| !identity.is_reserved()).ok_or_else(jwt_parts::no_subject)
    }
}

/// What a client is told while its cluster cannot be asked. Why is for the operator.
pub fn unavailable(cluster: &str) -> Refusal {
    let text = format!("cluster \"{cluster}\" cannot be asked about the token now; retry in 2 s");
    Refusal::new(Reason::ClusterUnavailable, text)
}

/// The identity of a pod on the caller's node, which the caller may have. It is made here and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnNode {
    identity: SpiffeId,
}

impl OnNode {
    /// The identity.
    pub fn into_identity(self) -> SpiffeId {
        self.identity
    }
}

/// The node that a caller answers for, as its agent. It is made here and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfNode {
    agents: String,
    caller: TokenClaims,
}

impl OfNode {
    /// What the names of that node's agents begin with.
    pub fn agents(&self) -> &str {
        &self.agents
    }

    /// The caller.
    pub const fn caller(&self) -> &TokenClaims {
        &self.caller
    }
}

/// Whether a caller may be the agent of its node: it is a node account of a cluster, and its own pod still runs there.
///
/// # Errors
/// `IMPERSONATION_REFUSED`, or `PODS_NOT_SYNCED` while the pods of the cluster are not known.
pub fn agent_of_node(clusters: &dyn Clusters, caller: &Caller) -> Result<OfNode, Refusal> {
    let refused = |why: String| {
        let text = format!("to be the agent of a node is refused: {why}");
        Refusal::new(Reason::ImpersonationRefused, text)
    };
    let account = node_account(clusters, caller).map_err(refused)?;
    let pods = clusters.pods_on(account.cluster, account.node)?;
    account.is_there(&pods).map_err(refused)?;
    let agents = account.claims.agents_of_node();
    let agents = agents.ok_or_else(|| refused("its token names no node".to_owned()))?;
    Ok(OfNode { agents, caller: account.claims.clone() })
}

/// A node account that calls.
struct NodeAccount<'c> {
    claims: &'c TokenClaims,
    cluster: &'c str,
    own: &'c BoundPod,
    node: &'c str,
}

impl NodeAccount<'_> {
    fn is_there(&self, pods: &[PodSeen]) -> Result<(), String> {
        let own = self.own;
        let is_there = pods.iter().any(|pod| pod.uid == own.uid);
        is_there
            .then_some(())
            .ok_or_else(|| format!("the caller's own {own} does not run there any more"))
    }
}

/// The node account that a caller is, by its token alone; or why it is none.
fn node_account<'c>(
    clusters: &dyn Clusters,
    caller: &'c Caller,
) -> Result<NodeAccount<'c>, String> {
    let Some(claims) = caller.token() else {
        return Err("only the token of a node account may ask for another's".to_owned());
    };
    let cluster = claims.cluster.as_deref();
    let Some(cluster) = cluster.filter(|one| clusters.is_node_account(one, &claims.subject)) else {
        return Err(format!(
            "{} may ask only for itself; the operator names accounts that answer for their node, such as ztunnel's or that of \
             agents of nodes, in node_accounts of [cluster.NAME]",
            echoed(&claims.subject)
        ));
    };
    let Some((own, node)) = claims.pod.as_ref().and_then(|pod| Some((pod, pod.node.as_deref()?)))
    else {
        let text = "the caller's token is not bound to a pod on a node: use a projected token";
        return Err(text.to_owned());
    };
    Ok(NodeAccount { claims, cluster, own, node })
}

/// Whether a caller may have a certificate for another's identity: it is a node account of a cluster, its own pod still runs on
/// its node, and a pod with that service account is scheduled there.
///
/// # Errors
/// `IMPERSONATION_REFUSED`, or `PODS_NOT_SYNCED` while the pods of the cluster are not known.
pub fn impersonated(
    clusters: &dyn Clusters,
    caller: &Caller,
    asked: &str,
    trust_domain: &TrustDomain,
) -> Result<OnNode, Refusal> {
    let refused = |why: String| {
        let text = match caller.kind() {
            CallerKind::Agent { .. } => format!("\"{}\" is refused: {why}", echoed(asked)),
            _ => format!("ImpersonatedIdentity \"{}\" is refused: {why}", echoed(asked)),
        };
        Refusal::new(Reason::ImpersonationRefused, text)
    };
    let answers = node_account(clusters, caller).map_err(refused)?;
    let (cluster, node) = (answers.cluster, answers.node);
    let identity = SpiffeId::parse(asked).ok().filter(|asked| asked.trust_domain() == trust_domain);
    let named = identity.as_ref().and_then(account_of);
    let Some((identity, (namespace, account))) = identity.as_ref().zip(named) else {
        return Err(refused(format!("it is not spiffe://{trust_domain}/ns/NAMESPACE/sa/ACCOUNT")));
    };
    let pods = clusters.pods_on(cluster, node)?;
    answers.is_there(&pods).map_err(refused)?;
    let runs = |pod: &PodSeen| pod.namespace == namespace && pod.account == account;
    if !pods.iter().any(runs) {
        return Err(refused(format!(
            "no pod with this service account is scheduled on node {node}"
        )));
    }
    Ok(OnNode { identity: identity.clone() })
}

/// Namespace and account, of the identity of a service account.
fn account_of(identity: &SpiffeId) -> Option<(&str, &str)> {
    let parts: Vec<&str> = identity.path().split('/').collect();
    match parts.as_slice() {
        ["", "ns", namespace, "sa", account] => Some((*namespace, *account)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
