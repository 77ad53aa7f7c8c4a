//! `kubernetes.toml`: read, checked, all problems told at once.
//!
//! Each part is off until its section is there.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube_access::{Access, InCluster};
use serde::Deserialize;

mod also;
mod inject;
mod problems;
mod publish;
mod sign;

pub use inject::InjectConfig;
use problems::Problems;
pub use publish::{ChannelConfig, ChannelKind, Namespaces, ObjectKind};
pub use sign::{CertManagerConfig, SignConfig};

/// Where health and metrics are served unless it is set.
const LISTEN: &str = "0.0.0.0:15025";
/// The levels that are logged unless they are set.
pub const LOG_FILTER: &str = "info";
/// How long a holder of the Lease is believed that says nothing.
const LEASE_DURATION: &str = "15s";

/// A configuration that was checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Socket of the CA server that this process is beside.
    pub admin_socket: PathBuf,
    /// Where health and metrics are served, without TLS.
    pub listen: SocketAddr,
    /// How the cluster is reached.
    pub access: Access,
    /// The Lease by which one of several processes works; this one is alone without it.
    pub lead: Option<LeadConfig>,
    /// What is logged.
    pub log: LogConfig,
    /// Where the bundle is published.
    pub channels: Vec<ChannelConfig>,
    /// Whose requests for certificates are signed.
    pub sign: SignConfig,
    /// Custom resources.
    pub resources: Option<ResourcesConfig>,
    /// The webhook that gives Pods their agent.
    pub inject: Option<InjectConfig>,
}

/// Section `[resources]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourcesConfig {
    /// Namespace of the objects.
    pub namespace: String,
}

/// Section `[lead]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub lease: String,
    /// How long a holder is believed that says nothing.
    pub duration: Duration,
    /// Name of this process in the Lease; that of its Pod unless it is set.
    pub identity: Option<String>,
}

/// Section `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Whether each line is one JSON object.
    pub json: bool,
    /// Levels by module, in the syntax of tracing.
    pub filter: String,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    problems: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    admin_socket: PathBuf,
    listen: Option<String>,
    #[serde(default)]
    cluster: RawCluster,
    lead: Option<RawLead>,
    #[serde(default)]
    log: RawLog,
    #[serde(default)]
    publish: BTreeMap<String, publish::RawChannel>,
    #[serde(default)]
    sign: sign::RawSign,
    resources: Option<ResourcesConfig>,
    inject: Option<inject::RawInject>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCluster {
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    server: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLead {
    namespace: String,
    #[serde(default = "lease_name")]
    lease: String,
    duration: Option<String>,
    identity: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    #[serde(default)]
    format: LogFormat,
    filter: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LogFormat {
    #[default]
    Text,
    Json,
}

fn lease_name() -> String {
    "banyan-kubernetes".to_owned()
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem in it, or with why the file cannot be read.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let failed = |problem| ConfigError { file: file.to_owned(), problems: vec![problem] };
        let text = std::fs::read_to_string(file)
            .map_err(|error| failed(format!("it cannot be read: {error}")))?;
        Self::parse(file, &text)
    }

    /// Checks the text of a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem in it.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let failed = |problems| ConfigError { file: file.to_owned(), problems };
        let raw: File = toml::from_str(text)
            .map_err(|error| failed(vec![error.to_string().trim_end().to_owned()]))?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let mut problems = Problems::default();
        let config = raw.checked(folder, &mut problems);
        match config {
            Some(config) if problems.0.is_empty() => Ok(config),
            _ => Err(failed(problems.0)),
        }
    }
}

impl ConfigError {
    /// The problems, each with the key that it is about.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has problems:", self.file.display())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for ConfigError {}

impl File {
    fn checked(self, folder: &Path, problems: &mut Problems) -> Option<Config> {
        let listen = self.listen.as_deref().unwrap_or(LISTEN);
        let listen = listen.parse().map_err(|_| {
            problems.add(
                "listen",
                format_args!("{listen:?} is no address: write one such as {LISTEN:?}"),
            );
        });
        let access = self.cluster.access(folder, problems);
        let lead = self.lead.map(|lead| lead.checked(problems));
        if self.inject.is_some() && self.publish.contains_key(inject::CHANNEL) {
            problems.add("publish.inject", "is the channel of [inject]: take another name");
        }
        let mut channels = publish::channels(self.publish, problems);
        let inject = self.inject.map(|inject| inject.checked(problems));
        channels.extend(inject.iter().flatten().map(InjectConfig::channel));
        let sign = self.sign.checked(problems);
        if let Some(resources) = &self.resources {
            problems.name("resources.namespace", &resources.namespace);
        }
        let filter = self.log.filter.unwrap_or_else(|| LOG_FILTER.to_owned());
        Some(Config {
            admin_socket: folder.join(self.admin_socket),
            listen: listen.ok()?,
            access: access?,
            lead: match lead {
                Some(lead) => Some(lead?),
                None => None,
            },
            log: LogConfig { json: self.log.format == LogFormat::Json, filter },
            channels,
            sign,
            resources: self.resources,
            inject: match inject {
                Some(inject) => Some(inject?),
                None => None,
            },
        })
    }
}

impl RawCluster {
    fn access(self, folder: &Path, problems: &mut Problems) -> Option<Access> {
        match (self.kubeconfig.clone(), self.server.clone()) {
            (Some(_), Some(_)) => {
                problems.add(
                    "cluster.server",
                    "is not taken together with kubeconfig: write one of the two",
                );
                None
            }
            (Some(path), None) => {
                self.alone(["token_file", "ca_file"], problems)?;
                Some(Access::Kubeconfig { path: folder.join(path), context: self.context })
            }
            (None, Some(server)) => {
                if !server.starts_with("https://") {
                    problems.add(
                        "cluster.server",
                        format_args!("{server:?} is not reached by TLS: write https://HOST:PORT"),
                    );
                }
                let missing = "is missing: cluster.server needs it";
                let mut file = |key: &str, path: Option<PathBuf>| {
                    let path = path.map(|path| folder.join(path));
                    if path.is_none() {
                        problems.add(key, missing);
                    }
                    path
                };
                let token_file = file("cluster.token_file", self.token_file);
                let ca_file = file("cluster.ca_file", self.ca_file);
                Some(Access::InCluster(InCluster {
                    server,
                    token_file: token_file?,
                    ca_file: ca_file?,
                }))
            }
            (None, None) => {
                let unneeded = [self.context, path(self.token_file), path(self.ca_file)];
                for (key, _) in ["context", "token_file", "ca_file"]
                    .iter()
                    .zip(unneeded)
                    .filter(|(_, set)| set.is_some())
                {
                    problems.add(
                        &format!("cluster.{key}"),
                        "says nothing by itself: name the cluster with kubeconfig, or with server",
                    );
                }
                Some(Access::Pod)
            }
        }
    }

    fn alone(&self, keys: [&str; 2], problems: &mut Problems) -> Option<()> {
        let set = [self.token_file.is_some(), self.ca_file.is_some()];
        for (key, _) in keys.iter().zip(set).filter(|(_, set)| *set) {
            problems.add(&format!("cluster.{key}"), "is taken from the kubeconfig: leave it out");
        }
        (set == [false, false]).then_some(())
    }
}

fn path(path: Option<PathBuf>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

impl RawLead {
    fn checked(self, problems: &mut Problems) -> Option<LeadConfig> {
        problems.name("lead.namespace", &self.namespace);
        problems.name("lead.lease", &self.lease);
        let duration = self.duration.as_deref().unwrap_or(LEASE_DURATION);
        let duration = problems.duration("lead.duration", duration, ["3s", "10m"])?;
        let Self { namespace, lease, identity, .. } = self;
        Some(LeadConfig { namespace, lease, duration, identity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/etc/banyan/kubernetes.toml"), text)
            .map_err(|error| error.to_string())
    }

    const SOCKET: &str = "admin_socket = \"admin.sock\"\n";

    #[test]
    fn a_socket_is_enough_and_every_part_is_off() {
        let config = read(SOCKET).unwrap();
        assert_eq!(config.admin_socket, Path::new("/etc/banyan/admin.sock"));
        assert_eq!(config.access, Access::Pod);
        assert!(config.lead.is_none());
    }

    #[test]
    fn problems_are_told_with_the_file_and_the_key() {
        for (lines, told) in [
            ("colour = 1", "unknown field `colour`"),
            ("listen = \"here\"", "listen: \"here\" is no address"),
            ("[cluster]\ncolour = 1", "unknown field `colour`"),
            ("[cluster]\nkubeconfig = \"k\"\nserver = \"https://k:1\"", "cluster.server"),
            ("[cluster]\nkubeconfig = \"k\"\nca_file = \"c\"", "cluster.ca_file"),
            ("[cluster]\nserver = \"http://k:1\"\ntoken_file = \"t\"\nca_file = \"c\"", "by TLS"),
            ("[cluster]\nserver = \"https://k:1\"", "cluster.token_file: is missing"),
            ("[cluster]\ncontext = \"c\"", "cluster.context"),
            ("[lead]\nnamespace = \"A\"", "lead.namespace"),
            ("[lead]\nnamespace = \"a\"\nduration = \"1s\"", "lead.duration: 1s is out of bounds"),
            ("[log]\nformat = \"xml\"", "unknown variant `xml`"),
        ] {
            let error = read(&format!("{SOCKET}{lines}")).unwrap_err();
            assert!(error.starts_with("/etc/banyan/kubernetes.toml"), "{error}");
            assert!(error.contains(told), "{lines}: {error}");
        }
        assert!(read("").unwrap_err().contains("missing field `admin_socket`"));
    }

    #[test]
    fn a_cluster_is_that_of_the_pod_or_a_kubeconfig_or_a_server_with_its_files() {
        let access = |lines: &str| read(&format!("{SOCKET}[cluster]\n{lines}")).unwrap().access;
        let path = PathBuf::from("/etc/banyan/k");
        assert_eq!(access("kubeconfig = \"k\""), Access::Kubeconfig { path, context: None });
        let Access::InCluster(cluster) =
            access("server = \"https://k:1\"\ntoken_file = \"/t\"\nca_file = \"/c\"")
        else {
            panic!("another way")
        };
        assert_eq!(cluster.token_file, Path::new("/t"));
    }
}
