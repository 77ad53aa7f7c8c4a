//! The settings of the plugin.

use std::path::{Path, PathBuf};

use plugins::{ConfigProblem, ConfigTable};
use rustls_pki_types::ServerName;

/// What the section of an upstream CA says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `address`: HOST:PORT of the CA above, its `[listen] grpc`. Required.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `server_name`: name or IP address in its certificate. Default the host.
    pub(crate) server_name: ServerName<'static>,
    /// `ca_file`: PEM roots for the first contact; afterwards what it said itself counts. Required.
    pub(crate) ca_file: PathBuf,
    /// `token_file`: what `banyan downstream add` printed there, mode 0600. Read at each call. Required.
    pub(crate) token_file: PathBuf,
}

impl Settings {
    pub(crate) fn read(table: &toml::Table, base: &Path) -> Result<Self, Vec<ConfigProblem>> {
        let mut fields = ConfigTable::new(table);
        let address: Option<String> = fields.required("address");
        let address = address.and_then(|text| {
            let parsed = host_and_port(&text);
            if parsed.is_none() {
                fields.problem("address", "is no HOST:PORT; write \"ca.example.org:8443\"");
            }
            parsed
        });
        let named: Option<String> = fields.optional("server_name");
        let field = if named.is_some() { "server_name" } else { "address" };
        let name = named.or_else(|| address.as_ref().map(|(host, _)| host.clone()));
        let server_name = name.and_then(|name| match ServerName::try_from(name) {
            Ok(name) => Some(name),
            Err(_) => {
                fields.problem(field, "is no DNS name and no IP address");
                None
            }
        });
        let ca_file: Option<PathBuf> = fields.required("ca_file");
        let token_file: Option<PathBuf> = fields.required("token_file");
        let whole = (|| {
            let (host, port) = address?;
            let (ca_file, token_file) = (base.join(ca_file?), base.join(token_file?));
            Some(Self { host, port, server_name: server_name?, ca_file, token_file })
        })();
        fields.finish(whole)
    }
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let plain = !host.is_empty() && !host.contains(['/', '@', ' ']);
    Some((host.to_owned(), port.parse().ok().filter(|port| *port != 0)?)).filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, Vec<String>> {
        let table: toml::Table = text.parse().expect("toml");
        Settings::read(&table, Path::new("/etc/banyan"))
            .map_err(|problems| problems.into_iter().map(|problem| problem.field).collect())
    }

    #[test]
    fn a_section_is_read_with_paths_beside_the_configuration() {
        let settings =
            read("address = '[::1]:8443'\nca_file = 'up.pem'\ntoken_file = '/run/token'")
                .expect("good");
        assert_eq!((settings.host.as_str(), settings.port), ("::1", 8443));
        assert_eq!(settings.ca_file, Path::new("/etc/banyan/up.pem"));
        assert_eq!(settings.token_file, Path::new("/run/token"));
        assert!(matches!(settings.server_name, ServerName::IpAddress(_)));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        assert_eq!(
            read("address = 'https://a'\nservername = 'b'"),
            Err(["address", "ca_file", "token_file", "servername"].map(str::to_owned).to_vec())
        );
        assert_eq!(
            read("address = 'a:1'\nserver_name = 'not a name'\nca_file = 'a'\ntoken_file = 'b'"),
            Err(vec!["server_name".to_owned()])
        );
    }
}
