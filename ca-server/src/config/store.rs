//! Section `[store]`: where the state is that all servers of a CA share.

use std::path::{Path, PathBuf};

use plugins::ConfigProblem;
use stores_etcd::{InvalidSettings, Settings, TlsFiles, User};
use trust::TrustDomain;

use super::reader::Section;
use super::store_kubernetes::{KubernetesConfig, kubernetes};

/// Where the state is that all servers of a CA share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// `engine = "redb"` (default): the file `state.redb` in the data directory, for one server.
    Redb,
    /// `engine = "etcd"`: below a prefix of an etcd.
    Etcd(Box<EtcdConfig>),
    /// `engine = "kubernetes"`: objects in a namespace of a cluster.
    Kubernetes(Box<KubernetesConfig>),
}

/// An etcd, and a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    settings: Settings,
    place: String,
    /// By key: files that are read for each connection.
    files: Vec<(&'static str, PathBuf)>,
    /// By key: those of them that nobody else may read.
    secrets: Vec<(&'static str, PathBuf)>,
}

#[derive(Clone, Copy)]
enum Engine {
    Redb,
    Etcd,
    Kubernetes,
}

impl StoreConfig {
    /// Whether several servers can have it.
    pub const fn is_shared(&self) -> bool {
        match self {
            Self::Redb => false,
            Self::Etcd(_) | Self::Kubernetes(_) => true,
        }
    }
}

impl EtcdConfig {
    /// What the engine must be told.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How people call it: endpoints and prefix.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Files that anybody may read, by key.
    pub fn files(&self) -> &[(&'static str, PathBuf)] {
        &self.files
    }

    /// Files that only this user may read, by key.
    pub fn secrets(&self) -> &[(&'static str, PathBuf)] {
        &self.secrets
    }
}

pub(super) fn store(
    table: &toml::Table,
    domain: Option<&TrustDomain>,
    directory: &Path,
    problems: &mut Vec<ConfigProblem>,
) -> Option<StoreConfig> {
    let mut section = Section::open("store", table, problems);
    let engines =
        [("redb", Engine::Redb), ("etcd", Engine::Etcd), ("kubernetes", Engine::Kubernetes)];
    let engine = section.choice("engine", Engine::Redb, &engines);
    let store = match engine {
        Some(Engine::Redb) => Some(StoreConfig::Redb),
        Some(Engine::Etcd) => {
            etcd(&mut section, domain, directory).map(|etcd| StoreConfig::Etcd(Box::new(etcd)))
        }
        Some(Engine::Kubernetes) => kubernetes(&mut section, domain, directory)
            .map(|cluster| StoreConfig::Kubernetes(Box::new(cluster))),
        // What the other keys mean is not known.
        None => return None,
    };
    section.close();
    store
}

fn etcd(
    section: &mut Section<'_>,
    domain: Option<&TrustDomain>,
    directory: &Path,
) -> Option<EtcdConfig> {
    let endpoints: Option<Vec<String>> =
        section.required("endpoints", "a list such as [\"https://etcd-0.example.org:2379\"]");
    let prefix: Option<String> = section.optional("prefix", "such as \"/banyan/example.org\"");
    let mut file = |key| {
        let path: Option<PathBuf> = section.optional(key, "the path of a file");
        path.map(|path| directory.join(path))
    };
    let [ca, cert, key] = ["ca_file", "cert_file", "key_file"].map(&mut file);
    let password_file = file("password_file");
    let user: Option<String> = section.optional("user", "the name of a user of etcd");
    let mut files: Vec<_> = [("ca_file", &ca), ("cert_file", &cert)].into();
    files.retain(|(_, path)| path.is_some());
    let files = files.into_iter().filter_map(|(key, path)| Some((key, path.clone()?))).collect();
    let secrets = [("key_file", &key), ("password_file", &password_file)];
    let secrets =
        secrets.into_iter().filter_map(|(key, path)| Some((key, path.clone()?))).collect();
    let tls = match (ca, cert, key) {
        (Some(ca), Some(cert), Some(key)) => Some(TlsFiles { ca, cert, key }),
        (None, None, None) => None,
        (ca, cert, _) => {
            let missing = match (ca, cert) {
                (None, _) => "ca_file",
                (_, None) => "cert_file",
                _ => "key_file",
            };
            section.problem(missing, "is missing: ca_file, cert_file and key_file go together");
            return None;
        }
    };
    let user = match (user, password_file) {
        (Some(name), Some(password_file)) => Some(User { name, password_file }),
        (None, None) => None,
        (user, _) => {
            let missing = if user.is_none() { "user" } else { "password_file" };
            section.problem(missing, "is missing: user and password_file go together");
            return None;
        }
    };
    let (endpoints, prefix) = (endpoints?, prefix.map_or_else(|| default_prefix(domain), Some)?);
    let settings = match Settings::new(&endpoints, &prefix, tls) {
        Ok(settings) => settings,
        Err(error) => {
            section.problem(key_of(&error), error);
            return None;
        }
    };
    let settings = user.into_iter().fold(settings, Settings::with_user);
    let place = format!("etcd at {}, prefix {prefix}", endpoints.join(", "));
    Some(EtcdConfig { settings, place, files, secrets })
}

fn default_prefix(domain: Option<&TrustDomain>) -> Option<String> {
    domain.map(|domain| format!("/banyan/{domain}"))
}

const fn key_of(error: &InvalidSettings) -> &'static str {
    match error {
        InvalidSettings::Prefix(_) => "prefix",
        InvalidSettings::NoTlsFiles(_) => "ca_file",
        InvalidSettings::Endpoint(_)
        | InvalidSettings::NoEndpoint
        | InvalidSettings::PlainText(_) => "endpoints",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<StoreConfig, Vec<String>> {
        let table: toml::Table = text.parse().unwrap();
        let (domain, mut problems) = (TrustDomain::parse("example.org").unwrap(), Vec::new());
        let read = store(&table, Some(&domain), Path::new("/etc/banyan"), &mut problems);
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        read.filter(|_| said.is_empty()).ok_or(said)
    }

    #[test]
    fn without_a_word_the_state_is_in_a_file() {
        assert_eq!(read(""), Ok(StoreConfig::Redb));
        assert_eq!(read("engine = \"redb\""), Ok(StoreConfig::Redb));
        let said = read("engine = \"redb\"\nendpoints = []").unwrap_err();
        assert!(said.len() == 1 && said[0].contains("store.endpoints"), "{said:?}");
    }

    #[test]
    fn an_etcd_is_endpoints_a_prefix_and_files_of_its_own() {
        let text = "engine = \"etcd\"\nendpoints = [\"https://a:1\", \"https://b:2\"]\nca_file = \"ca.pem\"\n\
                    cert_file = \"cert.pem\"\nkey_file = \"/k/key.pem\"\nuser = \"banyan\"\npassword_file = \"pw\"";
        let Ok(StoreConfig::Etcd(etcd)) = read(text) else { panic!("{:?}", read(text)) };
        assert_eq!(etcd.place(), "etcd at https://a:1, https://b:2, prefix /banyan/example.org");
        let shown = |files: &[(&'static str, PathBuf)]| -> Vec<String> {
            files.iter().map(|(key, path)| format!("{key} {}", path.display())).collect()
        };
        assert_eq!(
            shown(etcd.files()),
            ["ca_file /etc/banyan/ca.pem", "cert_file /etc/banyan/cert.pem"]
        );
        assert_eq!(shown(etcd.secrets()), ["key_file /k/key.pem", "password_file /etc/banyan/pw"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        for (lines, key) in [
            ("", "store.endpoints"),
            ("endpoints = []", "store.endpoints"),
            ("endpoints = [\"etcd:2379\"]", "store.endpoints"),
            ("endpoints = [\"http://10.0.0.1:2379\"]", "store.endpoints"),
            ("endpoints = [\"https://a:1\"]", "store.ca_file"),
            ("endpoints = [\"https://a:1\"]\nca_file = \"x\"\ncert_file = \"x\"", "store.key_file"),
            ("endpoints = [\"http://127.0.0.1:1\"]\nprefix = \"banyan/\"", "store.prefix"),
            ("endpoints = [\"http://127.0.0.1:1\"]\nuser = \"u\"", "store.password_file"),
            ("endpoints = [\"http://127.0.0.1:1\"]\nuserr = \"u\"", "store.userr"),
        ] {
            let said = read(&format!("engine = \"etcd\"\n{lines}")).unwrap_err();
            assert!(said.iter().any(|said| said.contains(key)), "{lines}: {said:?}");
        }
        let said = read("engine = \"consul\"").unwrap_err();
        assert!(said.len() == 1 && said[0].contains("\"etcd\" or \"kubernetes\""), "{said:?}");
    }
}
