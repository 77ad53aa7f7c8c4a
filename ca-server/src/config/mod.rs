//! The configuration file `banyan.toml`: read once, checked as a whole, and immutable afterwards.
//!
//! [`Config::load`] answers with a configuration that is safe to start from, or with every problem of the file at once,
//! each with its key and what to write instead. Unknown keys are problems. Durations are texts such as `"24h"` or
//! `"5m 30s"`. Relative paths start at the directory of the file. No default weakens safety; a key that does so says
//! `dangerously` in its name.
//!
//! Each section is a type of its own, whose accessors say unit, default and bound of each key.

mod agents;
mod bundle_endpoint;
mod cluster;
mod crl;
mod identity;
mod issuer_lives;
mod leaf;
mod listen;
mod neighbor;
mod reader;
mod replica;
mod root;
mod rotation;
mod schedule;
mod store;
mod store_kubernetes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use auth::authn::jwt::IssuerSettings;
use clusters::ClusterSettings;
use plugins::ConfigProblem;
use trust::TrustDomain;

pub use agents::AgentsConfig;
pub use bundle_endpoint::{BundleEndpointConfig, HostCertificate};
pub use crl::CrlConfig;
pub use identity::AdminConfig;
pub use leaf::{AboveMax, LeafConfig};
pub use listen::{DEFAULT_FILTER, LimitsConfig, ListenConfig, LogConfig, LogFormat};
pub use neighbor::NeighborConfig;
pub use replica::ReplicaConfig;
pub use root::{AuthorityConfig, KeyBackendConfig, KeysConfig, Passphrase, RootConfig};
pub use rotation::RotationConfig;
pub use store::{EtcdConfig, StoreConfig};
pub use store_kubernetes::KubernetesConfig;

use reader::Section;

/// A checked configuration of one CA server.
#[derive(Debug, Clone)]
pub struct Config {
    trust_domain: TrustDomain,
    directory: PathBuf,
    data_dir: PathBuf,
    replica: ReplicaConfig,
    listen: ListenConfig,
    root: RootConfig,
    neighbors: BTreeMap<String, NeighborConfig>,
    bundle_endpoint: BundleEndpointConfig,
    keys: KeysConfig,
    store: StoreConfig,
    leaf: LeafConfig,
    rotation: RotationConfig,
    crl: CrlConfig,
    agents: AgentsConfig,
    jwt: Vec<IssuerSettings>,
    clusters: Vec<ClusterSettings>,
    admin: AdminConfig,
    limits: LimitsConfig,
    log: LogConfig,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file is not TOML: {0}")]
    Syntax(String),
    /// Keys are missing, unknown or wrong; every one is listed.
    #[error("{0}")]
    Problems(Problems),
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<ConfigProblem>);

impl Problems {
    /// An error if there is any problem.
    pub(crate) fn unless_empty(problems: Vec<ConfigProblem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }

    /// Each problem, in the order of the file's sections.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigProblem> {
        self.0.iter()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} problem(s):", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl Config {
    /// Reads and checks a file. Opens nothing else: whether key files and key sets are there shows at the start.
    ///
    /// # Errors
    /// [`ConfigError`], with every problem at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, directory)
    }

    /// Checks the text of a file that lies in `directory`.
    ///
    /// # Errors
    /// [`ConfigError`], with every problem at once.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, ConfigError> {
        let file: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| ConfigError::Syntax(error.to_string()))?;
        let mut problems = Vec::new();
        let config = read(&file, directory, &mut problems);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigError::Problems(Problems(problems))),
        }
    }

    /// Name of the mesh whose identities this CA certifies. Required; it cannot change later.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Directory of everything that must survive a restart, for one server alone. Required; made with mode 0700.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Name of this server among those of the CA.
    pub fn replica(&self) -> &str {
        self.replica.name()
    }

    /// Section `[replica]`: which of the CA's servers this is.
    pub const fn replica_section(&self) -> &ReplicaConfig {
        &self.replica
    }

    /// Where the file lies: relative paths in it are relative to this.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Section `[listen]`: where the server listens.
    pub const fn listen(&self) -> &ListenConfig {
        &self.listen
    }

    /// Sections `[root]` and `[authority.*]`: who holds the root, and how long things live.
    pub const fn root(&self) -> &RootConfig {
        &self.root
    }

    /// Sections `[neighbor.*]`: CAs whose roots are trusted beside ours, by name.
    pub const fn neighbors(&self) -> &BTreeMap<String, NeighborConfig> {
        &self.neighbors
    }

    /// Section `[bundle_endpoint]`: where other trust domains read our bundle.
    pub const fn bundle_endpoint(&self) -> &BundleEndpointConfig {
        &self.bundle_endpoint
    }

    /// Section `[keys]`: where private keys are.
    pub const fn keys(&self) -> &KeysConfig {
        &self.keys
    }

    /// Section `[store]`: where the state is that all servers of the CA share.
    pub const fn store(&self) -> &StoreConfig {
        &self.store
    }

    /// Section `[leaf]`: what leaves look like.
    pub const fn leaf(&self) -> &LeafConfig {
        &self.leaf
    }

    /// Section `[rotation]`: how one root takes the place of another.
    pub const fn rotation(&self) -> &RotationConfig {
        &self.rotation
    }

    /// Section `[crl]`: revocation lists.
    pub const fn crl(&self) -> &CrlConfig {
        &self.crl
    }

    /// Section `[agents]`: who may be registered, and for how long.
    pub const fn agents(&self) -> &AgentsConfig {
        &self.agents
    }

    /// Sections `[[jwt]]`: whose tokens are believed.
    pub fn jwt(&self) -> &[IssuerSettings] {
        &self.jwt
    }

    /// Sections `[cluster.NAME]`: clusters of Kubernetes whose service accounts are believed.
    pub fn clusters(&self) -> &[ClusterSettings] {
        &self.clusters
    }

    /// Section `[admin]`: who may operate the CA.
    pub const fn admin(&self) -> &AdminConfig {
        &self.admin
    }

    /// Section `[limits]`: how much untrusted clients may ask for.
    pub const fn limits(&self) -> &LimitsConfig {
        &self.limits
    }

    /// Section `[log]`: what is logged, and how.
    pub const fn log(&self) -> &LogConfig {
        &self.log
    }
}

fn read(file: &toml::Table, directory: &Path, problems: &mut Vec<ConfigProblem>) -> Option<Config> {
    let mut top = Section::open("", file, problems);
    let trust_domain =
        top.parsed("trust_domain", "the name of the mesh, such as \"example.org\"", |text| {
            TrustDomain::parse(text)
        });
    let data_dir: Option<PathBuf> =
        top.required("data_dir", "a directory for this server alone, such as \"/var/lib/banyan\"");
    let replica = match top.optional("replica", "a table [replica]") {
        Some(toml::Value::Table(replica)) => replica,
        // As former releases have it.
        Some(name @ toml::Value::String(_)) => toml::Table::from_iter([("name".to_owned(), name)]),
        Some(_) => {
            top.problem("replica", "is no table; write a table [replica]");
            toml::Table::new()
        }
        None => toml::Table::new(),
    };
    let listen = top.table("listen");
    let root = top.table("root");
    let authorities = top.table("authority");
    let neighbors = top.table("neighbor");
    let bundle_endpoint: Option<toml::Table> =
        top.optional("bundle_endpoint", "a table [bundle_endpoint]");
    let keys = top.table("keys");
    let store = top.table("store");
    let leaf = top.table("leaf");
    let rotation = top.table("rotation");
    let crl = top.table("crl");
    let agents = top.table("agents");
    let jwt: Vec<toml::Table> =
        top.optional("jwt", "one section [[jwt]] for each issuer of tokens").unwrap_or_default();
    let clusters = top.table("cluster");
    let admin = top.table("admin");
    let limits = top.table("limits");
    let log = top.table("log");
    top.close();

    let data_dir = data_dir.map(|path| directory.join(path));
    let listen = listen::listen(&listen, data_dir.as_deref(), directory, problems);
    let replica = replica::replica(&replica, problems);
    let leaf = leaf::leaf(&leaf, problems);
    let root = root::root(&root, &authorities, leaf.as_ref(), problems);
    let neighbors = neighbor::neighbors(&neighbors, &authorities, problems);
    let bundle_endpoint =
        bundle_endpoint::bundle_endpoint(bundle_endpoint.as_ref(), directory, problems);
    let lifetime = root.as_ref().map(RootConfig::lifetime);
    let rotation = rotation::rotation(&rotation, lifetime, leaf.as_ref(), problems);
    let crl = crl::crl(&crl, leaf.as_ref(), problems);
    let agents = agents::agents(&agents, leaf.as_ref(), rotation.as_ref(), problems);
    let keys = root::keys(&keys, directory, problems);
    let store = store::store(&store, trust_domain.as_ref(), directory, problems);
    let jwt = identity::jwt(&jwt, trust_domain.as_ref(), directory, problems);
    let around = cluster::Around {
        domain: trust_domain.as_ref(),
        skew: leaf.as_ref().map(LeafConfig::skew),
        directory,
    };
    let clusters = cluster::clusters(&clusters, &around, jwt.as_deref(), problems);
    let admin = identity::admin(&admin, trust_domain.as_ref(), problems);
    let limits = listen::limits(&limits, problems);
    let log = listen::log(&log, problems);
    Some(Config {
        trust_domain: trust_domain?,
        directory: directory.to_owned(),
        data_dir: data_dir?,
        replica: replica?,
        listen: listen?,
        root: root?,
        neighbors: neighbors?,
        bundle_endpoint: bundle_endpoint?,
        keys: keys?,
        store: store?,
        leaf: leaf?,
        rotation: rotation?,
        crl: crl?,
        agents: agents?,
        jwt: jwt?,
        clusters: clusters?,
        admin: admin?,
        limits: limits?,
        log: log?,
    })
}

#[cfg(test)]
mod tests;
