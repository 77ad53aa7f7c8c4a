//! The settings of the plugin.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plugins::{ConfigProblem, ConfigTable};
use trust::SpiffeId;

/// How often the server is asked which root signs, unless the settings say.
const LOOK_EVERY_SECS: u64 = 30;
/// Longest that a look may be apart from the next.
const LOOK_EVERY_SECS_MAX: u64 = 3_600;

/// Where the server is, and how this CA proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `server`: `HOST:PORT` of its API. Required.
    pub(crate) server: Address,
    /// `workload_api`, or `svid_file`, `key_file` and `bundle_file`. One of the two is required.
    pub(crate) identity: Identity,
    /// `look_secs`: how often the server is asked which root signs. 1 to 3600, default 30.
    pub(crate) look_every: Duration,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Where this CA's own X509-SVID comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The socket of a SPIRE agent, and which SVID to take if it gives several.
    WorkloadApi { socket: PathBuf, spiffe_id: Option<SpiffeId> },
    /// PEM files that somebody keeps fresh: read for each call.
    Files { svid: PathBuf, key: PathBuf, bundle: PathBuf },
}

impl Settings {
    pub(crate) fn read(table: &toml::Table, base: &Path) -> Result<Self, Vec<ConfigProblem>> {
        let mut fields = ConfigTable::new(table);
        let server: Option<String> = fields.required("server");
        let server = server.and_then(|text| {
            let parsed = Address::parse(&text);
            if parsed.is_none() {
                fields
                    .problem("server", "is no address; write HOST:PORT of the SPIRE server's API");
            }
            parsed
        });
        let identity = identity(&mut fields, base);
        let secs = fields.optional("look_secs").unwrap_or(LOOK_EVERY_SECS);
        if !(1..=LOOK_EVERY_SECS_MAX).contains(&secs) {
            fields.problem("look_secs", format!("is {secs}; write 1 to {LOOK_EVERY_SECS_MAX}"));
        }
        let look_every = Duration::from_secs(secs);
        fields.finish(server.zip(identity).map(|(server, identity)| Self {
            server,
            identity,
            look_every,
        }))
    }
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let named = !host.is_empty() && !host.contains('/');
        named.then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn identity(fields: &mut ConfigTable<'_>, base: &Path) -> Option<Identity> {
    let socket: Option<String> = fields.optional("workload_api");
    let spiffe_id: Option<String> = fields.optional("spiffe_id");
    let spiffe_id = spiffe_id.and_then(|text| match SpiffeId::parse(&text) {
        Ok(id) => Some(id),
        Err(error) => {
            fields.problem("spiffe_id", error.to_string());
            None
        }
    });
    let files = ["svid_file", "key_file", "bundle_file"]
        .map(|field| fields.optional::<PathBuf>(field).map(|path| base.join(path)));
    match (socket, files) {
        (Some(text), [None, None, None]) => {
            let socket =
                text.strip_prefix("unix:").map(|path| path.strip_prefix("//").unwrap_or(path));
            match socket.filter(|path| !path.is_empty()) {
                Some(path) => Some(Identity::WorkloadApi { socket: base.join(path), spiffe_id }),
                None => {
                    fields.problem(
                        "workload_api",
                        "is no socket; write unix:///path/to/the/agent's socket",
                    );
                    None
                }
            }
        }
        (None, [Some(svid), Some(key), Some(bundle)]) => {
            if spiffe_id.is_some() {
                fields.problem("spiffe_id", "belongs to workload_api; the file holds one SVID");
            }
            Some(Identity::Files { svid, key, bundle })
        }
        _ => {
            let write = "write either workload_api, or all of svid_file, key_file and bundle_file";
            fields.problem("workload_api", write);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, Vec<String>> {
        let table = text.parse().expect("toml");
        let fields = |problems: Vec<ConfigProblem>| {
            problems.into_iter().map(|problem| problem.field).collect()
        };
        Settings::read(&table, Path::new("/etc/banyan")).map_err(fields)
    }

    #[test]
    fn a_server_and_an_agent_s_socket_are_enough() {
        let settings =
            read("server = 'spire:8081'\nworkload_api = 'unix:///run/a.sock'").expect("reads");
        assert_eq!(settings.server, Address { host: "spire".to_owned(), port: 8081 });
        let socket = PathBuf::from("/run/a.sock");
        assert_eq!(settings.identity, Identity::WorkloadApi { socket, spiffe_id: None });
        assert_eq!(settings.look_every, Duration::from_secs(30));
    }

    #[test]
    fn files_are_beside_the_configuration() {
        let files = "server = '[::1]:1'\nsvid_file = 's'\nkey_file = '/k'\nbundle_file = 'b'\nlook_secs = 1";
        let settings = read(files).expect("reads");
        assert_eq!(settings.server.to_string(), "[::1]:1");
        let [svid, key, bundle] = ["/etc/banyan/s", "/k", "/etc/banyan/b"].map(PathBuf::from);
        assert_eq!(settings.identity, Identity::Files { svid, key, bundle });
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let wrong = "server = 'spire'\nsvid_file = 's'\nlook_secs = 0\nspiffe_id = 'x'\nnew = 1";
        let told = ["server", "spiffe_id", "workload_api", "look_secs", "new"].map(str::to_owned);
        assert_eq!(read(wrong), Err(told.to_vec()));
        let both = "server = 'a:1'\nworkload_api = 'unix:/a'\nsvid_file = 's'";
        assert_eq!(read(both), Err(vec!["workload_api".to_owned()]));
        assert_eq!(
            read("server = 'a:1'\nworkload_api = '/a'"),
            Err(vec!["workload_api".to_owned()])
        );
        for server in ["", "a", ":1", "a:0", "a:x", "a/b:1", "https://a:1"] {
            let text = format!("server = '{server}'\nworkload_api = 'unix:/a'");
            assert_eq!(read(&text), Err(vec!["server".to_owned()]), "{server}");
        }
    }
}
