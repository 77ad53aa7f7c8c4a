//! What an agent is told: made only by reading and checking its file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kube_access::Access;
use trust::{SpiffeId, TrustDomain};

use crate::pods::Layout;
use crate::shares::{Owner, Shares};

/// Where the agent's right to join comes from. Read anew at every attempt, so that a file may be replaced meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attestation {
    /// A join token in a file (mode 0600).
    JoinTokenFile(PathBuf),
    /// A join token in an environment variable.
    JoinTokenEnv(String),
    /// A JWT in a file, as an orchestrator projects it.
    JwtFile(PathBuf),
}

/// One configured address of the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CaAddress {
    /// `host:port`.
    pub(crate) address: String,
    /// Name sent in the handshake (SNI); the CA's SPIFFE id is what is verified.
    pub(crate) server_name: String,
}

/// One entitled process owner and the identity it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadConfig {
    /// User id of the process at the other end of the socket; `None` for any. Written `uid = "any"`, for an agent whose socket
    /// nobody but its one workload reaches; then no other section names a number.
    pub uid: Option<u32>,
    /// Its identity.
    pub spiffe_id: SpiffeId,
    /// Issue the leaf at start rather than when the first holder asks. Default: false.
    pub prewarm: bool,
    /// Listeners of the processes that hold the leaf, `host:port`, one of each process. The agent shakes hands with them where a
    /// rotation asks whether proxies can verify the new root. Default: what the admin endpoints say; an empty list asks for none.
    pub listeners: Option<Vec<String>>,
    /// Admin endpoints of the Envoys that hold the leaf, one of each process. The agent reads there how many handshakes succeed and
    /// fail, and where they listen. Default: none.
    pub envoy_admin: Vec<AdminAddress>,
}

/// How it is known where a process listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Process {
    /// The configuration says it: `host:port`.
    Listener(String),
    /// It is an Envoy that is asked.
    Envoy(EnvoyOf),
}

/// An Envoy that holds leaves of an identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EnvoyOf {
    pub(crate) admin: AdminAddress,
    /// Whether the secret `default` is that identity's for it.
    pub(crate) by_default: bool,
}

/// Where the admin endpoint of an Envoy is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdminAddress {
    /// `host:port`.
    Tcp(String),
    /// A Unix socket, written `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The node whose Pods an agent serves, and how it learns of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name.
    pub(crate) name: NodeName,
    /// How the API of Kubernetes is reached.
    pub(crate) access: Access,
    /// Where the kubelet's cgroups are.
    pub(crate) layout: Layout,
}

/// Where the name of a node comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeName {
    Given(String),
    /// An environment variable.
    Env(String),
}

impl NodeConfig {
    /// The name of the node.
    ///
    /// # Errors
    /// A sentence, where the environment does not have it.
    pub(crate) fn name(&self) -> Result<String, String> {
        let name = match &self.name {
            NodeName::Given(name) => return Ok(name.clone()),
            NodeName::Env(variable) => std::env::var(variable).unwrap_or_default(),
        };
        let NodeName::Env(variable) = &self.name else { return Ok(name) };
        match is_node_name(&name) {
            true => Ok(name),
            false => Err(format!(
                "kubernetes.node_env: the variable {variable} holds no name of a node ({name:?}): set it from spec.nodeName with a \
                 fieldRef"
            )),
        }
    }
}

/// Whether a text is the name of a node (RFC 1123).
pub(crate) fn is_node_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
}

/// Bounds of what the socket serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections to the socket. Default: 1024, bound: 1 to 65536. Of these three bounds half is shared out among the user
    /// ids that have a workload, and the other half goes to whoever comes first.
    pub connections: usize,
    /// Secret streams of all connections. Default: 4096, bound: 1 to 65536.
    pub streams: usize,
    /// Processes that hold secrets. Default: 1024, bound: 1 to 65536.
    pub processes: usize,
    /// Leaves requested from the CA at the same time. Default: 8, bound: 1 to 64.
    pub issuing: usize,
}

/// A checked configuration. Made only by [`AgentConfig::parse`] and [`AgentConfig::read`].
#[derive(Clone, Debug)]
pub struct AgentConfig {
    pub(crate) trust_domain: TrustDomain,
    /// At least one.
    pub(crate) ca_addresses: Vec<CaAddress>,
    pub(crate) state_dir: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) socket_mode: u32,
    pub(crate) attestation: Option<Attestation>,
    pub(crate) trust_bundle: Option<PathBuf>,
    pub(crate) leaf_ttl: Option<Duration>,
    /// How long a listener that tells nothing is waited for.
    pub(crate) probe_patience: Duration,
    /// Where the revocation lists are written in PEM, for who reads a file; empty while there are none.
    pub(crate) crl_file: Option<PathBuf>,
    pub(crate) workloads: Vec<WorkloadConfig>,
    /// Of an agent of a node; then there are no workloads.
    pub(crate) node: Option<NodeConfig>,
    pub(crate) limits: Limits,
}

/// The identities that user ids may have, the default one of each first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entitlements {
    by_uid: BTreeMap<u32, Vec<SpiffeId>>,
    of_anybody: Vec<SpiffeId>,
}

impl Entitlements {
    pub(crate) fn of_workloads(workloads: &[WorkloadConfig]) -> Self {
        let mut all = Self::default();
        for workload in workloads {
            let of = match workload.uid {
                Some(uid) => all.by_uid.entry(uid).or_default(),
                None => &mut all.of_anybody,
            };
            of.push(workload.spiffe_id.clone());
        }
        all
    }

    /// What a user id may have; nothing if it has no workload.
    pub(crate) fn of(&self, uid: u32) -> &[SpiffeId] {
        self.by_uid.get(&uid).unwrap_or(&self.of_anybody)
    }

    /// What every user id may have.
    pub(crate) fn of_anybody(&self) -> &[SpiffeId] {
        &self.of_anybody
    }

    /// How a bound is shared among the user ids.
    pub(crate) fn shares(&self, most: usize) -> Shares {
        match self.of_anybody.is_empty() {
            true => Shares::new(most, self.by_uid.keys().copied().map(Owner::User)),
            false => Shares::of_anybody(most),
        }
    }
}
