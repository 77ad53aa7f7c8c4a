//! What a start would find on this machine, looked at without making or opening anything that a server uses: files,
//! directories, permissions, modules of plugins, and whether the ports are free.

mod clusters;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use auth::authn::jwks::{self, KEY_SET_LEN_MAX};
use host::{RealDisk, check_private};
use kube_access::POD_TOKEN;
use plugin_key_file::{Directory, Files as _, OpenError, PassphraseSource, is_unfinished};
use plugins::{ConfigProblem, Registry};
use rustix::fs::Access;

use super::layout;
use control::paths::Paths;

use crate::config::{Config, KeyBackendConfig, KeysConfig, Passphrase, StoreConfig};

/// Longest path of a Unix socket, in bytes: the kernel's `sun_path` without its final zero.
const SOCKET_PATH_MAX: usize = 107;
/// Problems of permissions that are listed one by one.
const LOOSE_SHOWN: usize = 10;

/// Everything that would keep a server of this configuration from starting or from its work, by key.
pub(super) fn problems(config: &Config, registry: &Registry) -> Vec<ConfigProblem> {
    let mut found = Found(Vec::new());
    found.data_dir(config.data_dir());
    found.passphrase(config);
    if let KeysConfig::Plugin(keys) = config.keys() {
        found.key_backend("keys", keys, registry, config.directory());
    }
    for (name, authority) in config.root().authorities() {
        let section = format!("authority.{name}");
        found.files(&section, authority.settings(), config.directory());
        if let Ok(plugin) = registry.authority(authority.plugin()) {
            found.all(&section, plugin.preflight(authority.settings(), config.directory()));
        }
        if let Some(keys) = authority.keys() {
            found.key_backend(&format!("{section}.keys"), keys, registry, config.directory());
        }
    }
    for neighbor in config.neighbors().values() {
        let (section, settings) = (neighbor.asked().name(), neighbor.asked().settings());
        found.files(section, settings, config.directory());
        if let Ok(plugin) = registry.authority(neighbor.asked().plugin()) {
            found.all(section, plugin.preflight(settings, config.directory()));
        }
    }
    match config.store() {
        StoreConfig::Redb => {}
        StoreConfig::Etcd(etcd) => {
            for (key, path) in etcd.files() {
                found.file(&format!("store.{key}"), path);
            }
            for (key, path) in etcd.secrets() {
                found.secret(&format!("store.{key}"), path);
            }
        }
        StoreConfig::Kubernetes(cluster) => match cluster.kubeconfig() {
            Some(path) => {
                found.secret("store.kubeconfig", path);
            }
            None if !Path::new(POD_TOKEN).exists() => {
                let problem = format!(
                    "is not set, and this is no Pod with a service account: {POD_TOKEN} is missing"
                );
                found.tell("store.kubeconfig", problem);
            }
            None => {}
        },
    }
    found.clusters(config);
    for (at, jwt) in config.jwt().iter().enumerate() {
        found.key_set(&format!("jwt[{at}].jwks_file"), &jwt.jwks_file);
    }
    found.sockets(config);
    found.0
}

struct Found(Vec<ConfigProblem>);

impl Found {
    fn tell(&mut self, field: &str, problem: impl Into<String>) {
        self.0.push(ConfigProblem::new(field, problem));
    }

    fn all(&mut self, section: &str, problems: Vec<ConfigProblem>) {
        let prefixed = |problem: ConfigProblem| {
            ConfigProblem::new(format!("{section}.{}", problem.field), problem.problem)
        };
        // A file that is missing was told already.
        let known: Vec<String> = self.0.iter().map(|problem| problem.field.clone()).collect();
        self.0.extend(
            problems.into_iter().map(prefixed).filter(|problem| !known.contains(&problem.field)),
        );
    }

    fn data_dir(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => {
                self.tell(
                    "data_dir",
                    format!("{} is no directory; name another path", path.display()),
                );
            }
            Ok(_) => {
                let mut loose: Vec<_> = check_private(path).err().into_iter().collect();
                if loose.is_empty() {
                    loose = layout::loose_below(path);
                }
                let more = loose.len().saturating_sub(LOOSE_SHOWN);
                for loose in loose.iter().take(LOOSE_SHOWN) {
                    self.tell("data_dir", loose.to_string());
                }
                if more > 0 {
                    let text = format!(
                        "{more} more files are not private: run `chmod -R go= {}`",
                        path.display()
                    );
                    self.tell("data_dir", text);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.can_be_made("data_dir", path)
            }
            Err(error) => {
                self.tell("data_dir", format!("cannot look at {}: {error}", path.display()))
            }
        }
    }

    /// The nearest directory above that exists must let this user in.
    fn can_be_made(&mut self, field: &str, path: &Path) {
        let above = path.ancestors().skip(1).map(shown_parent).find(|above| above.exists());
        let Some(above) = above else { return };
        if !above.is_dir() {
            self.tell(
                field,
                format!(
                    "{} is no directory, so {} cannot be made",
                    above.display(),
                    path.display()
                ),
            );
        } else if rustix::fs::access(&above, Access::WRITE_OK | Access::EXEC_OK).is_err() {
            let text = format!(
                "this user cannot write in {}, so {} cannot be made: make it beforehand, with mode 0700 and owned by this user",
                above.display(),
                path.display()
            );
            self.tell(field, text);
        }
    }

    fn passphrase(&mut self, config: &Config) {
        // An environment variable is that of the server's process, not of this one.
        if let KeysConfig::File { passphrase: Passphrase::File(path) } = config.keys() {
            self.passphrase_file("keys.passphrase_file", path);
        }
        let keys =
            Directory::new(Paths::below(config.data_dir().to_owned()).keys(), Arc::new(RealDisk));
        match is_unfinished(&keys) {
            Ok(false) => {}
            Ok(true) => self.tell(
                "keys.passphrase_file",
                OpenError::Moving { directory: keys.shown(None) }.to_string(),
            ),
            // Which permissions are wrong is told as a problem of the data directory.
            Err(OpenError::Permissions(_)) => {}
            Err(error) => self.tell("data_dir", error.to_string()),
        }
    }

    /// A private file with a passphrase that the key files would take. What is read is wiped at once.
    fn passphrase_file(&mut self, field: &str, path: &Path) {
        if self.secret(field, path)
            && let Err(error) = PassphraseSource::File(path.to_owned()).read(&RealDisk)
        {
            self.tell(field, format!("{}: {error}", path.display()));
        }
    }

    /// A file that only this user may read; says whether it is one.
    fn secret(&mut self, field: &str, path: &Path) -> bool {
        let loose = self.file(field, path).then(|| check_private(path).err());
        if let Some(Some(loose)) = &loose {
            self.tell(field, loose.to_string());
        }
        matches!(loose, Some(None))
    }

    /// Says whether there is a file that this user can read, and is not empty.
    fn file(&mut self, field: &str, path: &Path) -> bool {
        let problem = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                format!("{} is missing: make it, or correct the path", path.display())
            }
            Err(error) => {
                format!(
                    "cannot look at {}: {error}; check the permissions above it",
                    path.display()
                )
            }
            Ok(metadata) if metadata.is_dir() => {
                format!("{} is a directory; name a file", path.display())
            }
            Ok(metadata) if metadata.is_file() && metadata.len() == 0 => {
                format!("{} is empty", path.display())
            }
            Ok(_) if rustix::fs::access(path, Access::READ_OK).is_err() => {
                format!("this user cannot read {}: check its owner and mode", path.display())
            }
            Ok(_) => return true,
        };
        self.tell(field, problem);
        false
    }

    fn key_backend(
        &mut self,
        section: &str,
        keys: &KeyBackendConfig,
        registry: &Registry,
        base: &Path,
    ) {
        self.files(section, keys.settings(), base);
        if let Ok(plugin) = registry.key_backend(keys.backend()) {
            self.all(section, plugin.preflight(keys.settings()));
        }
    }

    /// Every file that the settings of a plugin name.
    fn files(&mut self, section: &str, settings: &toml::Table, base: &Path) {
        for (key, value) in settings {
            let field = format!("{section}.{key}");
            match value {
                toml::Value::Table(inner) => self.files(&field, inner, base),
                toml::Value::String(path) if key == "passphrase_file" => {
                    self.passphrase_file(&field, &base.join(path));
                }
                toml::Value::String(path) if key == "pin_file" => {
                    _ = self.secret(&field, &base.join(path))
                }
                toml::Value::String(path) if key.ends_with("_file") => {
                    self.file(&field, &base.join(path));
                }
                _ => {}
            }
        }
    }

    fn key_set(&mut self, field: &str, path: &Path) {
        if !self.file(field, path) {
            return;
        }
        let too_large = fs::metadata(path).is_ok_and(|file| file.len() > KEY_SET_LEN_MAX as u64);
        let read = if too_large { Ok(vec![b' '; KEY_SET_LEN_MAX + 1]) } else { fs::read(path) };
        let judged = read.map_err(Into::into).and_then(|bytes| jwks::check(&bytes));
        if let Err(fault) = judged {
            self.tell(field, format!("the key set {} would not be taken: {fault}", path.display()));
        }
    }

    fn sockets(&mut self, config: &Config) {
        let socket = config.listen().admin_socket();
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            let text = format!(
                "{} has more than {SOCKET_PATH_MAX} bytes; name a shorter path",
                socket.display()
            );
            self.tell("listen.admin_socket", text);
        }
        let beside = socket.parent().map(shown_parent);
        if let Some(beside) = beside.filter(|beside| *beside != config.data_dir()) {
            if !beside.exists() {
                let text = format!(
                    "the directory {} is missing: make it, or correct the path",
                    beside.display()
                );
                self.tell("listen.admin_socket", text);
            } else if rustix::fs::access(&beside, Access::WRITE_OK | Access::EXEC_OK).is_err() {
                let text = format!(
                    "this user cannot make a socket in {}: check its owner and mode",
                    beside.display()
                );
                self.tell("listen.admin_socket", text);
            }
        }
        // Whoever checks the file of a server that runs finds its own ports taken.
        if !is_running(config.data_dir()) {
            self.port("listen.grpc", config.listen().grpc());
            self.port("listen.plain", config.listen().plain());
            if let Some(address) = config.bundle_endpoint().listen() {
                self.port("bundle_endpoint.listen", address);
            }
        }
    }

    fn port(&mut self, field: &str, address: SocketAddr) {
        if let Err(error) = TcpListener::bind(address) {
            let text = format!(
                "cannot listen on {address}: {error}; stop what listens there, or write another address"
            );
            self.tell(field, text);
        }
    }
}

/// The directory of a path without any is the present one.
fn shown_parent(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() }
}

/// Whether a server holds this data directory now.
fn is_running(data_dir: &Path) -> bool {
    let Ok(file) = fs::File::open(data_dir.join("lock")) else { return false };
    matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use plugins::Registry;

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }

        fn problems(&self, keys: &str, more: &str) -> Vec<String> {
            let text = format!(
                "trust_domain = \"example.org\"\ndata_dir = \"data\"\n[keys]\n{keys}\n[listen]\ngrpc = \"127.0.0.1:0\"\n\
                 plain = \"127.0.0.1:0\"\n{more}"
            );
            let config = Config::parse(&text, self.0.path()).unwrap();
            problems(&config, &Registry::new()).iter().map(ToString::to_string).collect()
        }
    }

    const PASSPHRASE: &str = "passphrase_file = \"pass\"";
    const JWT: &str = "[[jwt]]\nissuer = \"https://tokens.example.org\"\naudiences = [\"banyan\"]\n\
                       jwks_file = \"keys.json\"\nidentity = \"kubernetes\"\n";

    #[test]
    fn a_place_where_a_server_can_start_has_no_problem() {
        let place = Place::new();
        place.file("pass", "correct horse\n", 0o600);
        assert_eq!(place.problems(PASSPHRASE, ""), Vec::<String>::new());
        let data = place.0.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(place.problems(PASSPHRASE, ""), Vec::<String>::new());
    }

    #[test]
    fn a_passphrase_that_a_start_would_refuse_is_a_problem() {
        let place = Place::new();
        let told = |words: &str| {
            let said = place.problems(PASSPHRASE, "");
            assert!(
                said.len() == 1
                    && said[0].contains("keys.passphrase_file")
                    && said[0].contains(words),
                "{said:?}"
            );
        };
        told("pass is missing");
        place.file("pass", "", 0o600);
        told("is empty");
        place.file("pass", "correct horse", 0o644);
        told("chmod 0600");
        place.file("pass", "1234567\n", 0o600);
        told("has 7 bytes; it takes 8 to 1024");
        place.file("pass", &"long".repeat(300), 0o600);
        told("has 1200 bytes");
    }

    #[test]
    fn every_problem_is_told_at_once_each_with_its_key_and_path() {
        let place = Place::new();
        let data = place.0.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let more = format!(
            "admin_socket = \"nowhere/admin.sock\"\n[authority.main]\nplugin = \"any\"\ntoken_file = \"token\"\n{JWT}",
        );
        let said = place.problems(PASSPHRASE, &more).join("\n");
        for named in [
            "chmod 0700",
            "`keys.passphrase_file`",
            "nowhere is missing",
            "`authority.main.token_file`",
            "keys.json is missing",
        ] {
            assert!(said.contains(named), "{named} is missing in {said}");
        }
        let mut found = Found(Vec::new());
        found.port("listen.grpc", taken.local_addr().unwrap());
        assert!(found.0[0].problem.contains("stop what listens there"));
    }

    #[test]
    fn a_key_set_that_would_not_be_taken_is_a_problem() {
        let place = Place::new();
        place.file("pass", "correct horse", 0o600);
        place.file("keys.json", "{\"keys\": []}", 0o644);
        let said = place.problems(PASSPHRASE, JWT);
        assert!(
            said.len() == 1 && said[0].contains("jwks_file") && said[0].contains("keys.json"),
            "{said:?}"
        );
    }

    #[test]
    fn the_ports_of_a_server_that_runs_are_its_own() {
        let place = Place::new();
        assert!(!is_running(place.0.path()));
        let lock = host::DirLock::acquire(place.0.path()).unwrap();
        assert!(is_running(place.0.path()));
        drop(lock);
        assert!(!is_running(place.0.path()));
    }
}
