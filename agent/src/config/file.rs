//! The file as it is written, before it is checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use trust::{SpiffeId, TrustDomain};

use super::node::Kubernetes;
use super::settings::{AdminAddress, AgentConfig, Attestation, CaAddress, Limits, WorkloadConfig};

/// Longest path that a Unix socket address takes (`sun_path`, less its final zero).
const SOCKET_PATH_MAX: usize = 107;
/// Most addresses of one CA. A name with many addresses is one of them.
const CA_ADDRESSES_MAX: usize = 16;
/// Most listeners of one workload, and most admin endpoints.
const LISTENERS_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    trust_domain: String,
    ca_address: Option<Addresses>,
    ca_addresses: Option<Vec<String>>,
    ca_server_name: Option<String>,
    state_dir: PathBuf,
    socket: PathBuf,
    #[serde(default = "open_to_all")]
    socket_mode: String,
    join_token_file: Option<PathBuf>,
    join_token_env: Option<String>,
    jwt_file: Option<PathBuf>,
    trust_bundle: Option<PathBuf>,
    probe_patience: Option<String>,
    crl_file: Option<PathBuf>,
    #[serde(default)]
    leaf: Leaf,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default, rename = "workload")]
    workloads: Vec<Workload>,
    kubernetes: Option<Kubernetes>,
}

/// One address, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Addresses {
    One(String),
    Several(Vec<String>),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Leaf {
    ttl: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    connections: Option<usize>,
    streams: Option<usize>,
    processes: Option<usize>,
    issuing: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Workload {
    #[serde(deserialize_with = "user_id")]
    uid: Option<u32>,
    spiffe_id: String,
    #[serde(default)]
    prewarm: bool,
    listeners: Option<Vec<String>>,
    #[serde(default)]
    envoy_admin: Vec<String>,
}

/// A number, or "any".
fn user_id<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "uid: write a number, or \"any\" for all user ids")]
    enum Written {
        Number(u32),
        Word(Any),
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Any {
        Any,
    }
    Ok(match Written::deserialize(reader)? {
        Written::Number(uid) => Some(uid),
        Written::Word(Any::Any) => None,
    })
}

/// Anybody may connect: the peer's user id decides what it gets.
fn open_to_all() -> String {
    "0666".to_owned()
}

impl File {
    pub(super) fn check(self) -> Result<AgentConfig, Vec<String>> {
        let mut problems = Vec::new();
        let trust_domain = TrustDomain::parse(&self.trust_domain)
            .map_err(|error| problems.push(format!("trust_domain: {error}")))
            .ok();
        let ca_addresses = self.addresses(&mut problems);
        absolute("state_dir", &self.state_dir, &mut problems);
        absolute("socket", &self.socket, &mut problems);
        if self.socket.as_os_str().len() > SOCKET_PATH_MAX {
            problems.push(format!("socket: the path is longer than {SOCKET_PATH_MAX} bytes"));
        }
        if let Some(file) = &self.crl_file {
            absolute("crl_file", file, &mut problems);
        }
        let socket_mode = mode(&self.socket_mode, &mut problems);
        let attestation = self.attestation(&mut problems);
        let leaf_ttl =
            self.leaf.ttl.as_deref().and_then(|text| duration("leaf.ttl", text, &mut problems));
        let patience = self.probe_patience.as_deref().unwrap_or("60s");
        let probe_patience =
            duration("probe_patience", patience, &mut problems).unwrap_or_default();
        let limits = self.limits.check(&mut problems);
        let workloads = workloads(&self.workloads, trust_domain.as_ref(), &mut problems);
        let node = self.kubernetes.as_ref().and_then(|section| {
            if !workloads.is_empty() {
                problems.push(
                    "kubernetes: an agent of a node gives each Pod what its service account has: remove the [[workload]] entries"
                        .to_owned(),
                );
            }
            if !matches!(attestation, Some(Attestation::JwtFile(_))) {
                problems.push(
                    "kubernetes: the agent of a node joins with the token of its own Pod: set jwt_file"
                        .to_owned(),
                );
            }
            section.check(&mut problems)
        });
        match (trust_domain, problems.is_empty()) {
            (Some(trust_domain), true) => Ok(AgentConfig {
                trust_domain,
                ca_addresses,
                state_dir: self.state_dir,
                socket: self.socket,
                socket_mode,
                attestation,
                trust_bundle: self.trust_bundle,
                leaf_ttl,
                probe_patience,
                crl_file: self.crl_file,
                workloads,
                node,
                limits,
            }),
            _ => Err(problems),
        }
    }

    /// The CA's addresses, each once, with the name that is sent to it.
    fn addresses(&self, problems: &mut Vec<String>) -> Vec<CaAddress> {
        let given = match (&self.ca_address, &self.ca_addresses) {
            (Some(_), Some(_)) => {
                problems.push("set only one of ca_address and ca_addresses".to_owned());
                return Vec::new();
            }
            (Some(Addresses::One(one)), None) => std::slice::from_ref(one),
            (Some(Addresses::Several(several)), None) | (None, Some(several)) => several.as_slice(),
            (None, None) => {
                problems.push(
                    "ca_address is missing: name where the CA is, such as \"ca.example.org:15012\"; ca_addresses = [...] takes several"
                        .to_owned(),
                );
                return Vec::new();
            }
        };
        let key = if self.ca_addresses.is_some() { "ca_addresses" } else { "ca_address" };
        if !(1..=CA_ADDRESSES_MAX).contains(&given.len()) {
            problems.push(format!(
                "{key}: {} addresses; 1 to {CA_ADDRESSES_MAX} are taken",
                given.len()
            ));
        }
        let mut all: Vec<CaAddress> = Vec::new();
        for address in given {
            let Some(host) = host_of(address) else {
                problems.push(format!("{key}: `{address}` is not `host:port`"));
                continue;
            };
            let server_name = self.ca_server_name.clone().unwrap_or(host);
            if rustls_pki_types::ServerName::try_from(server_name.as_str()).is_err() {
                let key = if self.ca_server_name.is_some() { "ca_server_name" } else { key };
                problems
                    .push(format!("{key}: `{server_name}` is neither a DNS name nor an address"));
            }
            if all.iter().any(|other| other.address == *address) {
                problems.push(format!("{key}: `{address}` is listed twice"));
            }
            all.push(CaAddress { address: address.clone(), server_name });
        }
        all
    }

    fn attestation(&self, problems: &mut Vec<String>) -> Option<Attestation> {
        let file = self.join_token_file.clone().map(Attestation::JoinTokenFile);
        let env = self.join_token_env.clone().map(Attestation::JoinTokenEnv);
        let jwt = self.jwt_file.clone().map(Attestation::JwtFile);
        if jwt.is_some() && self.trust_bundle.is_none() {
            problems.push(
                "jwt_file: a JWT does not say which CA to believe; set trust_bundle too".to_owned(),
            );
        }
        let mut given = [file, env, jwt].into_iter().flatten();
        let first = given.next();
        if given.next().is_some() {
            problems
                .push("set only one of join_token_file, join_token_env and jwt_file".to_owned());
        }
        first
    }
}

impl RawLimits {
    fn check(&self, problems: &mut Vec<String>) -> Limits {
        let mut bounded = |name: &str, given: Option<usize>, default: usize, most: usize| {
            let value = given.unwrap_or(default);
            if !(1..=most).contains(&value) {
                problems.push(format!("limits.{name}: {value} is outside 1 to {most}"));
            }
            value
        };
        Limits {
            connections: bounded("connections", self.connections, 1024, 65_536),
            streams: bounded("streams", self.streams, 4096, 65_536),
            processes: bounded("processes", self.processes, 1024, 65_536),
            issuing: bounded("issuing", self.issuing, 8, 64),
        }
    }
}

fn host_of(address: &str) -> Option<String> {
    let (host, port) = address.rsplit_once(':')?;
    let good = port.parse::<u16>().is_ok_and(|port| port > 0) && !host.is_empty();
    good.then(|| host.trim_matches(['[', ']']).to_owned())
}

fn admin_address(text: &str) -> Option<AdminAddress> {
    match text.strip_prefix("unix:") {
        Some(path) if Path::new(path).is_absolute() && path.len() <= SOCKET_PATH_MAX => {
            Some(AdminAddress::Unix(PathBuf::from(path)))
        }
        Some(_) => None,
        None => host_of(text).map(|_| AdminAddress::Tcp(text.to_owned())),
    }
}

fn absolute(name: &str, path: &Path, problems: &mut Vec<String>) {
    if !path.is_absolute() {
        problems.push(format!("{name}: {} is not an absolute path", path.display()));
    }
}

fn mode(text: &str, problems: &mut Vec<String>) -> u32 {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && mode & 0o600 == 0o600 => mode,
        _ => {
            problems.push(format!(
                "socket_mode: `{text}` is not an octal mode such as \"0660\" or \"0666\""
            ));
            0
        }
    }
}

/// Durations are written as a whole number and one unit: `90s`, `5m`, `24h`, `7d`.
fn duration(name: &str, text: &str, problems: &mut Vec<String>) -> Option<Duration> {
    let parsed = (|| {
        let unit = text.chars().last()?;
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        let scale = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        number
            .checked_mul(scale)
            .filter(|secs| (1..=31_622_400).contains(secs))
            .map(Duration::from_secs)
    })();
    if parsed.is_none() {
        problems.push(format!(
            "{name}: `{text}` is not a duration of 1s to 366d such as \"90s\" or \"24h\""
        ));
    }
    parsed
}

fn workloads(
    raw: &[Workload],
    domain: Option<&TrustDomain>,
    problems: &mut Vec<String>,
) -> Vec<WorkloadConfig> {
    let mut all: Vec<WorkloadConfig> = Vec::new();
    for (index, workload) in raw.iter().enumerate() {
        let mut refuse = |why: String| problems.push(format!("workload {}: {why}", index + 1));
        let spiffe_id = match SpiffeId::parse(&workload.spiffe_id) {
            Ok(id) => id,
            Err(error) => {
                refuse(format!("spiffe_id: {error}"));
                continue;
            }
        };
        if domain.is_some_and(|domain| domain != spiffe_id.trust_domain()) {
            refuse(format!("{spiffe_id} is not in this agent's trust domain"));
        }
        if spiffe_id.is_reserved() {
            refuse(format!("{spiffe_id} is below the reserved path /banyan"));
        }
        let listeners = workload.listeners.iter().flatten();
        for address in listeners.filter(|address| host_of(address).is_none()) {
            refuse(format!("listeners: `{address}` is not `host:port`"));
        }
        if workload.listeners.as_ref().is_some_and(|all| all.len() > LISTENERS_MAX) {
            refuse(format!("listeners: more than {LISTENERS_MAX} addresses"));
        }
        let mut envoy_admin = Vec::new();
        for address in &workload.envoy_admin {
            match admin_address(address) {
                Some(admin) if envoy_admin.contains(&admin) => {
                    refuse(format!("envoy_admin: `{address}` is listed twice"));
                }
                Some(admin) => envoy_admin.push(admin),
                None => refuse(format!(
                    "envoy_admin: `{address}` is neither `host:port` nor `unix:/path`"
                )),
            }
        }
        if envoy_admin.len() > LISTENERS_MAX {
            refuse(format!("envoy_admin: more than {LISTENERS_MAX} addresses"));
        }
        let entry = WorkloadConfig {
            uid: workload.uid,
            spiffe_id,
            prewarm: workload.prewarm,
            listeners: workload.listeners.clone(),
            envoy_admin,
        };
        if all.iter().any(|other| other.uid == entry.uid && other.spiffe_id == entry.spiffe_id) {
            let whose = entry.uid.map_or_else(|| "any uid".to_owned(), |uid| format!("uid {uid}"));
            refuse(format!("{} is listed twice for {whose}", entry.spiffe_id));
        }
        all.push(entry);
    }
    let numbered = all.iter().find_map(|workload| workload.uid);
    if let (true, Some(uid)) = (all.iter().any(|workload| workload.uid.is_none()), numbered) {
        problems.push(format!(
            "workload: uid = \"any\" stands beside uid = {uid}: name each user id by its number, or none"
        ));
    }
    all
}
