//! What is configured of one cluster.

use std::time::Duration;

use kube_access::Access;
use trust::TrustDomain;

use crate::fetch::KeySetAddress;

/// One cluster.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// Its name: what clients send as `clusterid`.
    pub name: String,
    /// Whether tokens of clients that name no cluster are its own.
    pub is_default: bool,
    /// How its API server is reached.
    pub access: Access,
    /// How its tokens are judged.
    pub judged: Judged,
    /// Exact value of the claim `iss`; always there where tokens are judged by the key set.
    pub issuer: Option<String>,
    /// Values of `aud` of which a token must carry one.
    pub audiences: Vec<String>,
    /// Longest life of a token.
    pub token_life_max: Duration,
    /// Users, as `system:serviceaccount:NAMESPACE:ACCOUNT`, that may ask for what runs on their node.
    pub node_accounts: Vec<String>,
    /// Whether the ledger has, for each leaf, where the bearer of its token is.
    pub bearers_in_ledger: bool,
    /// How long an answer is believed: of a review, and of the pods of a cluster that is away.
    pub cache_age: Duration,
    /// How long fetched keys are believed while no others can be fetched.
    pub key_set_age: Duration,
    /// Longest wait for the API server.
    pub timeout: Duration,
    /// Reviews at a time.
    pub reviews_at_a_time: usize,
    /// How far the cluster's clock may be ahead of ours.
    pub skew: Duration,
    /// Where identities are.
    pub trust_domain: TrustDomain,
}

/// How tokens are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// The API server is asked about each.
    ByReview,
    /// By the key set that the API server has.
    ByKeySet,
    /// By a key set that lies elsewhere.
    ByKeySetAt(KeySetAddress),
}
