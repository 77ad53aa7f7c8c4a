//! What a token that was judged good says of its bearer.

use std::fmt;

use trust::SpiffeId;

/// What a token that verified says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    /// The identity of its subject.
    pub identity: SpiffeId,
    /// Its issuer.
    pub issuer: String,
    /// Its subject as the issuer names it.
    pub subject: String,
    /// The pod that a Kubernetes token is bound to.
    pub pod: Option<BoundPod>,
    /// The cluster that judged it, by its name in the configuration; none for the issuer of a key set in a file.
    pub cluster: Option<String>,
}

/// The pod that a Kubernetes token is bound to. All of it comes from the cluster and is cut to what a name there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundPod {
    /// Its UID: a pod that is made anew under the same name has another.
    pub uid: String,
    /// Its name in the namespace of its service account.
    pub name: Option<String>,
    /// The node that it was scheduled on when the token was made.
    pub node: Option<String>,
}

/// Names of agents of nodes begin so.
const NODE_AGENTS: &str = "node";
/// Longest UID of a pod that is taken for one.
const UID_LEN_MAX: usize = 64;
/// Longest name of an object in Kubernetes (RFC 1123).
const NAME_LEN_MAX: usize = 253;

impl TokenClaims {
    /// Whose token it is, as far as it tells: what bounds count by.
    pub fn caller(&self) -> String {
        let pod = self.pod.as_ref().map(|pod| format!(", pod {}", pod.uid)).unwrap_or_default();
        let cluster = self.cluster.as_ref();
        let cluster = cluster.map(|cluster| format!(" in cluster {cluster}")).unwrap_or_default();
        format!("{} of {}{cluster}{pod}", self.subject, self.issuer)
    }

    /// What the names of agents begin with that are of the bearer's node: `node/CLUSTER/NODE/`. `None` for a token that no cluster
    /// judged, or that is bound to no pod on a node.
    pub fn agents_of_node(&self) -> Option<String> {
        let node = self.pod.as_ref().and_then(|pod| pod.node.as_ref());
        let (cluster, node) = self.cluster.as_ref().zip(node)?;
        Some(format!("{NODE_AGENTS}/{cluster}/{node}/"))
    }

    /// Where the bearer is, as far as the token tells: pod, UID, node and cluster; empty if it tells nothing.
    pub fn place(&self) -> String {
        let cluster = self.cluster.iter().map(|cluster| format!("cluster {cluster}"));
        let place = self.pod.iter().map(ToString::to_string).chain(cluster);
        place.collect::<Vec<_>>().join(", ")
    }

    /// Who it is, and where: what audit and log say of the bearer.
    pub fn bearer(&self) -> String {
        match self.place().as_str() {
            "" => self.identity.as_str().to_owned(),
            place => format!("{} ({place})", self.identity),
        }
    }
}

impl BoundPod {
    /// A pod as the cluster tells it; `None` without a UID. What is no name in Kubernetes counts as absent.
    pub fn new(uid: Option<&str>, name: Option<&str>, node: Option<&str>) -> Option<Self> {
        let uid = uid.filter(|uid| {
            (1..=UID_LEN_MAX).contains(&uid.len())
                && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })?;
        let named = |text: Option<&str>| text.filter(|text| is_name(text)).map(str::to_owned);
        Some(Self { uid: uid.to_owned(), name: named(name), node: named(node) })
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
}

impl fmt::Display for BoundPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What tells it for sure comes first: a long name may be cut.
        write!(f, "pod {}", self.uid)?;
        self.name.iter().try_for_each(|name| write!(f, " {name}"))?;
        self.node.iter().try_for_each(|node| write!(f, ", node {node}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_has_pod_uid_node_and_cluster_and_bounds_count_by_the_pod() {
        let uid = "9f0c7b1e-0000-4000-8000-000000000001";
        let mut claims = TokenClaims {
            identity: SpiffeId::parse("spiffe://example.org/ns/shop/sa/cart").unwrap(),
            issuer: "https://i".to_owned(),
            subject: "system:serviceaccount:shop:cart".to_owned(),
            pod: None,
            cluster: None,
        };
        assert_eq!(claims.bearer(), "spiffe://example.org/ns/shop/sa/cart");
        claims.pod = BoundPod::new(Some(uid), Some("cart-1"), Some("node-a"));
        claims.cluster = Some("one".to_owned());
        let told = claims.bearer();
        let place = format!("pod {uid} cart-1, node node-a, cluster one");
        assert_eq!(claims.place(), place);
        assert_eq!(told, format!("spiffe://example.org/ns/shop/sa/cart ({place})"));
        assert_eq!(claims.agents_of_node().as_deref(), Some("node/one/node-a/"));
        assert_eq!(
            claims.caller(),
            format!("system:serviceaccount:shop:cart of https://i in cluster one, pod {uid}")
        );
    }

    #[test]
    fn what_is_no_name_of_a_pod_is_absent_and_without_a_uid_there_is_no_pod() {
        assert_eq!(BoundPod::new(None, Some("a"), Some("n")), None);
        for bad in ["", "a b", "ü", &"a".repeat(65)] {
            assert_eq!(BoundPod::new(Some(bad), None, None), None, "{bad}");
        }
        for bad in ["", "A", "a/b", "a\nb", &"a".repeat(254)] {
            let pod = BoundPod::new(Some("u-1"), Some(bad), Some(bad)).unwrap();
            assert_eq!((pod.name, pod.node), (None, None), "{bad}");
        }
    }
}
