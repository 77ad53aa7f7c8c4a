//! All clusters of the configuration, and which of them a token is for.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use auth::authn::cluster::{Clusters, PodSeen, issuer_of, named};
use auth::authn::jwt::{JwtVerifier, TokenClaims};
use auth::refusal::{Reason, Refusal, echoed};
use futures::future::join_all;
use prometheus_client::registry::Registry;
use tonic::metadata::MetadataMap;
use trust::Clock;

use crate::cluster::Cluster;
use crate::counters::Counters;
use crate::settings::ClusterSettings;

/// The clusters of one server.
#[derive(Debug)]
pub struct KubeClusters {
    clusters: BTreeMap<String, Cluster>,
    default: Option<String>,
    /// Judges tokens of issuers that are no cluster's.
    others: Arc<JwtVerifier>,
    counters: Counters,
}

impl KubeClusters {
    /// These clusters. Tokens of issuers that `others` knows are none of theirs.
    pub fn new(
        settings: &[ClusterSettings],
        others: Arc<JwtVerifier>,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let counters = Counters::default();
        let default = settings.iter().find(|one| one.is_default || settings.len() == 1);
        let default = default.map(|one| one.name.clone());
        let made = |one: &ClusterSettings| {
            let counted = counters.of(&one.name);
            (one.name.clone(), Cluster::new(one.clone(), counted, Arc::clone(clock)))
        };
        Self { clusters: settings.iter().map(made).collect(), default, others, counters }
    }

    /// Adds what is counted to what a scraper is told.
    pub fn register(&self, registry: &mut Registry) {
        if !self.clusters.is_empty() {
            self.counters.register(registry);
        }
    }

    /// Fetches key sets, watches pods, and looks how clusters do. Ends never.
    pub async fn keep(self: Arc<Self>) {
        join_all(self.clusters.values().map(Cluster::keep)).await;
    }

    /// The cluster that a client names, or the one of those that name none.
    fn chosen(&self, metadata: &MetadataMap, issuer: &str) -> Result<&Cluster, Refusal> {
        let unknown = |text: String| Refusal::new(Reason::TokenClusterUnknown, text);
        let Some(name) = named(metadata)?.or(self.default.as_deref()) else {
            return Err(unknown(
                "there are several clusters here: send the name of the token's as clusterid"
                    .to_owned(),
            ));
        };
        let cluster = self.clusters.get(name).ok_or_else(|| {
            unknown(format!(
                "cluster \"{}\" is not configured here: correct clusterid, or have the operator add a section [cluster.NAME]",
                echoed(name)
            ))
        })?;
        let is_of = |one: &&Cluster| one.settings.issuer.as_deref() == Some(issuer);
        let other = self.clusters.values().find(is_of);
        match other.filter(|_| cluster.settings.issuer.is_some() && !is_of(&cluster)) {
            None => Ok(cluster),
            Some(other) => {
                let (ours, its) = (&cluster.settings.name, &other.settings.name);
                let text = format!(
                    "the token is of cluster \"{its}\", and is presented for cluster \"{ours}\": send clusterid {its}"
                );
                Err(Refusal::new(Reason::TokenClusterMismatch, text))
            }
        }
    }
}

#[async_trait]
impl Clusters for KubeClusters {
    async fn judge(
        &self,
        token: &str,
        metadata: &MetadataMap,
    ) -> Option<Result<TokenClaims, Refusal>> {
        if self.clusters.is_empty() {
            return None;
        }
        // What is no token at all is refused without a cluster.
        let issuer = issuer_of(token).filter(|issuer| !self.others.knows(issuer))?;
        match self.chosen(metadata, &issuer) {
            Ok(cluster) => Some(cluster.judge(token).await),
            Err(refusal) => Some(Err(refusal)),
        }
    }

    fn is_node_account(&self, cluster: &str, subject: &str) -> bool {
        let cluster = self.clusters.get(cluster);
        cluster.is_some_and(|one| one.settings.node_accounts.iter().any(|name| name == subject))
    }

    fn keeps_bearers(&self, cluster: &str) -> bool {
        self.clusters.get(cluster).is_some_and(|one| one.settings.bearers_in_ledger)
    }

    fn pods_on(&self, cluster: &str, node: &str) -> Result<Vec<PodSeen>, Refusal> {
        self.clusters.get(cluster).map_or_else(|| Ok(Vec::new()), |one| one.pods_on(node))
    }

    fn troubles(&self) -> Vec<String> {
        self.clusters.values().flat_map(|cluster| cluster.health.sentences()).collect()
    }
}
