//! What a start would find on this machine, looked at without making or changing anything: state, socket, and what the agent joins
//! with. It asks no other machine.

use std::fs::{self, TryLockError};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::{Disk, RealDisk, check_private};
use rustix::fs::Access;

use crate::bundle_store::BundleStore;
use crate::config::{AgentConfig, Attestation, ConfigError};
use crate::first_contact;
use crate::holders::HolderFile;
use crate::identity::IdentityFiles;
use crate::install::SubscriptionId;
use crate::process::{KernelProcesses, Processes as _};

impl AgentConfig {
    /// Looks at what an agent of this configuration would find: files, directories, permissions, and whether its socket is free.
    /// Makes and changes nothing, and looks at no environment variable: that is another's.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem, each by its key.
    pub fn inspect(&self) -> Result<(), ConfigError> {
        let mut found = Found(Vec::new());
        let knows_the_ca = found.state(self);
        found.socket(self);
        found.attestation(self, knows_the_ca);
        found.trust_bundle(self, knows_the_ca);
        ConfigError::unless_empty(found.0)
    }
}

/// Problems, each with its key.
struct Found(Vec<String>);

impl Found {
    fn tell(&mut self, key: &str, problem: impl std::fmt::Display) {
        self.0.push(format!("{key}: {problem}"));
    }

    /// The state of a former run; says whether with it the agent goes on as the member that it was.
    fn state(&mut self, config: &AgentConfig) -> bool {
        const KEY: &str = "state_dir";
        let dir = &config.state_dir;
        match fs::metadata(dir) {
            Ok(found) if !found.is_dir() => {
                self.tell(
                    KEY,
                    format_args!("{} is not a directory; name another path", dir.display()),
                );
                return false;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.can_be_made(KEY, dir);
                return false;
            }
            Err(error) => {
                self.tell(KEY, format_args!("cannot look at {}: {error}", dir.display()));
                return false;
            }
        }
        if let Err(loose) = check_private(dir) {
            self.tell(KEY, loose);
            return false;
        }
        self.contents(config).unwrap_or_else(|problem| {
            self.tell(KEY, problem);
            false
        })
    }

    /// The same reading as at a start, but for the key: that would be made.
    fn contents(&mut self, config: &AgentConfig) -> Result<bool, String> {
        let said = |error: &dyn std::error::Error| error.to_string();
        let (dir, disk): (_, Arc<dyn Disk>) = (&config.state_dir, Arc::new(RealDisk));
        let store = BundleStore::open(Arc::clone(&disk), dir, &config.trust_domain);
        let knows_the_ca = store.map_err(|error| said(&error))?.current().is_some();
        let holders = HolderFile::new(Arc::clone(&disk), dir, KernelProcesses.boot());
        let mut last = 0;
        let id = || {
            last += 1;
            SubscriptionId(last)
        };
        holders.read(&config.trust_domain, Duration::ZERO, id).map_err(|error| said(&error))?;
        if !dir.join("agent.key").exists() {
            return Ok(false);
        }
        let files = IdentityFiles::new(disk, dir);
        let key = files.key().map_err(|error| said(&error))?;
        let chain = files.chain(&key, &config.trust_domain).map_err(|error| said(&error))?;
        Ok(knows_the_ca && chain.is_some())
    }

    /// The nearest directory above that exists must let this user in.
    fn can_be_made(&mut self, key: &str, path: &Path) {
        let Some(above) = path.ancestors().skip(1).find(|above| above.exists()) else { return };
        if !above.is_dir() {
            let (above, path) = (above.display(), path.display());
            self.tell(key, format_args!("{above} is not a directory, so {path} cannot be made"));
        } else if rustix::fs::access(above, Access::WRITE_OK | Access::EXEC_OK).is_err() {
            let text = format!(
                "this user cannot write in {}, so {} cannot be made: make it beforehand, with mode 0700 and owned by this user",
                above.display(),
                path.display()
            );
            self.tell(key, text);
        }
    }

    fn socket(&mut self, config: &AgentConfig) {
        const KEY: &str = "socket";
        let path = &config.socket;
        let beside = path.parent().unwrap_or(Path::new("/"));
        if !beside.exists() {
            let text = format!(
                "the directory {} is missing: make it, or correct the path",
                beside.display()
            );
            return self.tell(KEY, text);
        }
        if rustix::fs::access(beside, Access::WRITE_OK | Access::EXEC_OK).is_err() {
            let text = format!(
                "this user cannot make a socket in {}: check its owner and mode",
                beside.display()
            );
            return self.tell(KEY, text);
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                let text = format!(
                    "{} is there and is not a socket: remove it, or set another path",
                    path.display()
                );
                self.tell(KEY, text);
            }
            // Whoever checks the file of an agent that runs finds its own socket served.
            Ok(_) if !is_running(&config.state_dir) && UnixStream::connect(path).is_ok() => {
                let text = format!(
                    "another process serves at {}: stop it, or set another path",
                    path.display()
                );
                self.tell(KEY, text);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.tell(KEY, format_args!("cannot look at {}: {error}", path.display()))
            }
        }
    }

    /// What the agent joins with. A member may be without it: the file of a token that was used may be gone.
    fn attestation(&mut self, config: &AgentConfig, is_member: bool) {
        let (key, path) = match &config.attestation {
            None if is_member => return,
            None => {
                let text = "is missing, and this agent has not joined yet: make a token with `banyan token create` on the CA, or set \
                            jwt_file";
                return self.tell("join_token_file", text);
            }
            Some(Attestation::JoinTokenEnv(_)) => return,
            Some(Attestation::JoinTokenFile(path)) => ("join_token_file", path),
            Some(Attestation::JwtFile(path)) => ("jwt_file", path),
        };
        let is_there = path.exists();
        if !is_there && !is_member {
            self.tell(
                key,
                format_args!("{} is missing: make it, or correct the path", path.display()),
            );
        }
        if is_there && let Err(error) = first_contact::proof(config) {
            self.tell(key, error);
        }
    }

    fn trust_bundle(&mut self, config: &AgentConfig, knows_the_ca: bool) {
        const KEY: &str = "trust_bundle";
        let Some(path) = &config.trust_bundle else { return };
        if !path.exists() {
            if !knows_the_ca {
                self.tell(
                    KEY,
                    format_args!("{} is missing: make it, or correct the path", path.display()),
                );
            }
        } else if let Err(error) = first_contact::from_file(path, &config.trust_domain) {
            self.tell(KEY, error);
        }
    }
}

/// Whether an agent holds this state directory now.
fn is_running(state_dir: &Path) -> bool {
    let Ok(file) = fs::File::open(state_dir.join("lock")) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use trust::join_token::{JoinSecret, JoinToken};
    use trust::{BundleDigest, SeededRandomness, SpiffeId};

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn file(&self, name: &str, text: &str, mode: u32) {
            fs::write(self.path(name), text).unwrap();
            self.mode(name, mode);
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }

        fn problems(&self, more: &str) -> Vec<String> {
            let (state, socket) = (self.path("state"), self.path("agent.sock"));
            let text = format!(
                "trust_domain = \"example.org\"\nca_address = \"localhost:1\"\nstate_dir = \"{}\"\nsocket = \"{}\"\n{more}",
                state.display(),
                socket.display()
            );
            let inspected = AgentConfig::parse(&text).unwrap().inspect();
            inspected.err().map(|error| error.problems().to_vec()).unwrap_or_default()
        }

        fn with_token(&self) -> String {
            format!("join_token_file = \"{}\"\n", self.path("token").display())
        }
    }

    fn token() -> String {
        let id = SpiffeId::parse("spiffe://example.org/banyan/ca/ca-1").unwrap();
        let secret = JoinSecret::random(&SeededRandomness::new(1));
        JoinToken::new(id, BundleDigest::of(b"roots"), secret).unwrap().encode().to_string()
    }

    #[test]
    fn a_place_where_an_agent_can_start_has_no_problem_and_stays_as_it_is() {
        let place = Place::new();
        place.file("token", &token(), 0o600);
        assert_eq!(place.problems(&place.with_token()), Vec::<String>::new());
        assert!(!place.path("state").exists() && !place.path("agent.sock").exists());
        fs::create_dir(place.path("state")).unwrap();
        place.mode("state", 0o700);
        assert_eq!(place.problems(&place.with_token()), Vec::<String>::new());
        assert_eq!(fs::read_dir(place.path("state")).unwrap().count(), 0, "no key is made");
    }

    #[test]
    fn what_the_agent_joins_with_is_read_as_a_start_reads_it() {
        let place = Place::new();
        let told = |words: &str| {
            let said = place.problems(&place.with_token());
            assert!(
                said.len() == 1
                    && said[0].starts_with("join_token_file: ")
                    && said[0].contains(words),
                "{said:?}"
            );
        };
        told("token is missing");
        place.file("token", &token(), 0o644);
        told("chmod 0600");
        place.file("token", "no token", 0o600);
        told("join token");
        let said = place.problems("");
        assert!(said.len() == 1 && said[0].contains("banyan token create"), "{said:?}");
        place.file("jwt", "a.b.c", 0o600);
        place.file("roots.pem", "no roots", 0o644);
        let (jwt, roots) = (place.path("jwt"), place.path("roots.pem"));
        let more =
            format!("jwt_file = \"{}\"\ntrust_bundle = \"{}\"\n", jwt.display(), roots.display());
        let said = place.problems(&more);
        assert!(
            said.len() == 1
                && said[0].starts_with("trust_bundle: ")
                && said[0].contains("roots.pem"),
            "{said:?}"
        );
    }

    #[test]
    fn state_that_a_start_would_refuse_is_a_problem() {
        let place = Place::new();
        place.file("token", &token(), 0o600);
        let told = |words: &str| {
            let said = place.problems(&place.with_token());
            assert!(
                said.len() == 1 && said[0].starts_with("state_dir: ") && said[0].contains(words),
                "{said:?}"
            );
        };
        place.file("state", "", 0o600);
        told("is not a directory");
        fs::remove_file(place.path("state")).unwrap();
        fs::create_dir(place.path("state")).unwrap();
        place.mode("state", 0o755);
        told("chmod 0700");
        place.mode("state", 0o700);
        place.file("state/agent.key", "no key", 0o600);
        told("agent.key is damaged");
        fs::remove_file(place.path("state/agent.key")).unwrap();
        place.file("state/holders.json", "{", 0o600);
        told("holders.json");
    }

    #[test]
    fn a_socket_that_cannot_be_served_is_a_problem() {
        let place = Place::new();
        place.file("token", &token(), 0o600);
        let told = |words: &str| {
            let said = place.problems(&place.with_token());
            assert!(
                said.len() == 1 && said[0].starts_with("socket: ") && said[0].contains(words),
                "{said:?}"
            );
        };
        place.file("agent.sock", "precious", 0o600);
        told("is not a socket");
        fs::remove_file(place.path("agent.sock")).unwrap();
        let served = UnixListener::bind(place.path("agent.sock")).unwrap();
        told("another process serves");
        fs::create_dir(place.path("state")).unwrap();
        place.mode("state", 0o700);
        let lock = host::DirLock::acquire(&place.path("state")).unwrap();
        assert_eq!(
            place.problems(&place.with_token()),
            Vec::<String>::new(),
            "an agent that runs is its own"
        );
        drop((lock, served));
        assert_eq!(
            place.problems(&place.with_token()),
            Vec::<String>::new(),
            "nobody listens any more"
        );
    }
}
