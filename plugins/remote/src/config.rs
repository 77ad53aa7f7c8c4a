//! The settings of the plugin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plugins::{ConfigProblem, ConfigTable};
use thiserror::Error;

/// Capabilities that the protocol knows.
pub(crate) const CAPABILITIES: [&str; 5] = ["stage", "watch", "cross-sign", "retire", "withdraw"];

/// Where a plugin listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `unix:///path`, or `unix:path` relative to the configuration.
    Unix(PathBuf),
    /// `https://HOST:PORT`, with mTLS.
    Tls {
        /// Name in the server's certificate.
        host: String,
        /// Port.
        port: u16,
    },
}

/// A text that is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("is no endpoint; write unix:///path/to/socket or https://HOST:PORT")]
pub struct InvalidEndpoint;

impl Endpoint {
    /// Reads an endpoint; a relative path is relative to `base`.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] for anything else.
    pub fn parse(text: &str, base: &Path) -> Result<Self, InvalidEndpoint> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(InvalidEndpoint)
            } else {
                Ok(Self::Unix(base.join(path)))
            };
        }
        let address = text.strip_prefix("https://").ok_or(InvalidEndpoint)?;
        let (host, port) = address.rsplit_once(':').ok_or(InvalidEndpoint)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| InvalidEndpoint)?;
        if host.is_empty() || host.contains('/') {
            return Err(InvalidEndpoint);
        }
        Ok(Self::Tls { host: host.to_owned(), port })
    }
}

/// What the section of a remote plugin says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `endpoint`. Required.
    pub(crate) endpoint: Endpoint,
    /// `capabilities`, as the plugin's handshake must say them. Default none.
    pub(crate) capabilities: Vec<String>,
    /// `exclusive`: whether nobody else issues under its roots, as the handshake must say. Default true.
    pub(crate) exclusive: bool,
    /// `ca_file`, `cert_file`, `key_file`: for `https`, all three.
    pub(crate) tls: Option<TlsFiles>,
    /// `command`: starts the plugin and keeps it up.
    pub(crate) process: Option<Process>,
}

/// What both sides of mTLS show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// A process to start and keep up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// `command`: the program and its arguments.
    pub(crate) command: Vec<String>,
    /// `sha256`, in hex: of the file `checksum_of`, by default the program.
    pub(crate) sha256: Option<String>,
    pub(crate) checksum_of: PathBuf,
    /// `environment`: all that the process sees, besides the socket's path in `BANYAN_PLUGIN_SOCKET`.
    pub(crate) environment: BTreeMap<String, String>,
}

impl Endpoint {
    /// Where the plugin is, in words for operators.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Unix(path) => format!("the plugin at {}", path.display()),
            Self::Tls { host, port } => format!("the plugin at {host}:{port}"),
        }
    }
}

impl Settings {
    pub(crate) fn read(table: &toml::Table, base: &Path) -> Result<Self, Vec<ConfigProblem>> {
        let mut fields = ConfigTable::new(table);
        let endpoint: Option<String> = fields.required("endpoint");
        let endpoint = endpoint.and_then(|text| match Endpoint::parse(&text, base) {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                fields.problem("endpoint", error.to_string());
                None
            }
        });
        let capabilities: Vec<String> = fields.optional("capabilities").unwrap_or_default();
        for wrong in capabilities.iter().filter(|name| !CAPABILITIES.contains(&name.as_str())) {
            let known = CAPABILITIES.join(", ");
            fields.problem("capabilities", format!("\"{wrong}\" is none; known: {known}"));
        }
        let exclusive = fields.optional("exclusive").unwrap_or(true);
        let tls = tls(&mut fields, endpoint.as_ref(), base);
        let process = process(&mut fields, endpoint.as_ref(), base);
        fields.finish(endpoint.map(|endpoint| Self {
            endpoint,
            capabilities,
            exclusive,
            tls,
            process,
        }))
    }
}

fn tls(fields: &mut ConfigTable<'_>, endpoint: Option<&Endpoint>, base: &Path) -> Option<TlsFiles> {
    let [ca, cert, key] = ["ca_file", "cert_file", "key_file"]
        .map(|field| fields.optional::<PathBuf>(field).map(|path| base.join(path)));
    let is_tls = matches!(endpoint, Some(Endpoint::Tls { .. }));
    match (ca, cert, key) {
        (Some(ca), Some(cert), Some(key)) if is_tls => Some(TlsFiles { ca, cert, key }),
        (None, None, None) if !is_tls => None,
        _ if is_tls => {
            fields.problem("ca_file", "an https endpoint needs ca_file, cert_file and key_file");
            None
        }
        _ => {
            fields
                .problem("ca_file", "ca_file, cert_file and key_file belong to an https endpoint");
            None
        }
    }
}

fn process(
    fields: &mut ConfigTable<'_>,
    endpoint: Option<&Endpoint>,
    base: &Path,
) -> Option<Process> {
    let command: Option<Vec<String>> = fields.optional("command");
    let sha256: Option<String> = fields.optional("sha256");
    let checksum_of: Option<PathBuf> = fields.optional("checksum_of");
    let environment: Option<BTreeMap<String, String>> = fields.optional("environment");
    let Some(command) = command else {
        if sha256.is_some() || checksum_of.is_some() || environment.is_some() {
            fields.problem(
                "command",
                "is missing, and sha256, checksum_of and environment belong to it",
            );
        }
        return None;
    };
    if !matches!(endpoint, None | Some(Endpoint::Unix(_))) {
        fields.problem(
            "command",
            "a process that is started here listens on a Unix socket; write unix:///path",
        );
    }
    let hex = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if sha256.as_ref().is_some_and(|text| !hex(text)) {
        fields.problem("sha256", "is no SHA-256 in hex; `sha256sum FILE` prints one");
    }
    let Some(program) = command.first() else {
        fields.problem("command", "is empty; write [\"/path/to/program\", \"argument\"]");
        return None;
    };
    let checksum_of = base.join(checksum_of.unwrap_or_else(|| PathBuf::from(program)));
    let sha256 = sha256.map(|text| text.to_ascii_lowercase());
    Some(Process { command, sha256, checksum_of, environment: environment.unwrap_or_default() })
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
    fn sockets_and_addresses_are_endpoints() {
        let parse = |text: &str| Endpoint::parse(text, Path::new("/base"));
        assert_eq!(parse("unix:///run/p.sock"), Ok(Endpoint::Unix("/run/p.sock".into())));
        assert_eq!(parse("unix:p.sock"), Ok(Endpoint::Unix("/base/p.sock".into())));
        let host = |host: &str| Ok(Endpoint::Tls { host: host.to_owned(), port: 9 });
        assert_eq!(parse("https://ca.example:9"), host("ca.example"));
        assert_eq!(parse("https://[::1]:9"), host("::1"));
        for wrong in
            ["", "unix:", "http://a:1", "https://a", "https://:1", "https://a:x", "https://a/b:1"]
        {
            assert_eq!(parse(wrong), Err(InvalidEndpoint), "{wrong}");
        }
    }

    #[test]
    fn a_socket_is_enough() {
        let settings = read("endpoint = 'unix:p.sock'").expect("reads");
        assert_eq!(
            (settings.capabilities.len(), settings.exclusive, settings.process),
            (0, true, None)
        );
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let wrong =
            "endpoint = 'https://a:1'\ncapabilities = ['fly']\ncommand = []\nsha256 = 'x'\nnew = 1";
        assert_eq!(
            read(wrong),
            Err(["capabilities", "ca_file", "command", "sha256", "command", "new"]
                .map(str::to_owned)
                .to_vec())
        );
        assert_eq!(read("endpoint = 'unix:a'\nsha256 = 'x'"), Err(vec!["command".to_owned()]));
        assert_eq!(read("endpoint = 'unix:a'\nca_file = 'x'"), Err(vec!["ca_file".to_owned()]));
    }
}
