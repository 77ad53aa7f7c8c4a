//! A CA on a temporary directory.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ca_server::{BootError, Config, Embedding, HostDeps, Running, Server};
use host::{Disk, OsRandomness, RealDisk};
use plugin_key_file::{FileKeysPlugin, KdfCost};
use plugins::memory::MemoryKeys;
use plugins::{ConfigProblem, KeyBackend, KeyBackendPlugin, Registry};
use trust::{Bundle, SpkiHash};

use crate::support::{SOON, TRUST_DOMAIN};
use crate::untrusted::clock::TestClock;
use crate::untrusted::tokens::TokenIssuer;

/// What a test wants of its CA.
#[derive(Debug)]
pub struct CaOptions {
    /// Where private keys are.
    pub keys: Keys,
    /// Section `[leaf]`. Default: lives from 5 s to 10 min, 5 min usual; 1 s of backdate and skew.
    pub leaf: &'static str,
    /// Further sections and keys of `banyan.toml`, such as `[limits]`.
    pub more: String,
    /// The disk below the record, the keys and the ledger.
    pub disk: Arc<dyn Disk>,
}

/// Where private keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// In memory, which outlives the server: tests can sign with the CA's own keys.
    Memory,
    /// In encrypted files, with the least stretching of the passphrase.
    Files,
}

impl Default for CaOptions {
    fn default() -> Self {
        Self {
            keys: Keys::Memory,
            leaf: "ttl_default = \"5m\"\nttl_max = \"10m\"\nttl_min = \"5s\"\nbackdate = \"1s\"\nskew = \"1s\"",
            more: String::new(),
            disk: Arc::new(RealDisk),
        }
    }
}

impl CaOptions {
    /// The default with further sections.
    pub fn with(more: &str) -> Self {
        Self { more: more.to_owned(), ..Self::default() }
    }
}

/// A running CA with everything that survives its restart.
#[derive(Debug)]
pub struct TestCa {
    place: Place,
    running: Running,
}

/// What survives a restart.
#[derive(Debug)]
struct Place {
    dir: tempfile::TempDir,
    keys: Arc<MemoryKeys>,
    clock: Arc<TestClock>,
    disk: Arc<dyn Disk>,
    tokens: TokenIssuer,
}

impl TestCa {
    /// Starts a CA in a new directory, with one issuer of tokens.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(options: CaOptions) -> Self {
        let place = Place::new(options);
        let running = place.start().await.expect("a CA starts in a new directory");
        Self { place, running }
    }

    /// Stops the CA in order and starts it on the same directory. Sockets are others afterwards.
    ///
    /// # Errors
    /// Why it does not start.
    pub async fn restart(self) -> Result<Self, BootError> {
        let Self { place, running } = self;
        stop(running).await;
        let running = place.start().await?;
        Ok(Self { place, running })
    }

    /// Stops the CA in order.
    pub async fn stop(self) {
        stop(self.running).await;
    }

    /// Where gRPC over TLS is served.
    pub const fn addr(&self) -> SocketAddr {
        self.running.grpc_addr
    }

    /// Where health and metrics are served.
    pub const fn plain_addr(&self) -> SocketAddr {
        self.running.plain_addr
    }

    /// The socket of the admin API.
    pub fn admin_socket(&self) -> &Path {
        &self.running.admin_socket
    }

    /// The bundle in force.
    pub fn bundle(&self) -> Bundle {
        self.running.bundle()
    }

    /// The CA's clock.
    pub const fn clock(&self) -> &Arc<TestClock> {
        &self.place.clock
    }

    /// The issuer whose tokens the CA takes.
    pub const fn tokens(&self) -> &TokenIssuer {
        &self.place.tokens
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.place.dir.path().join("data")
    }

    /// Signs with one of the CA's own keys, as DER of a signature with the curve's usual hash.
    ///
    /// # Panics
    /// When there is no such key in memory.
    pub async fn sign_with(&self, key: SpkiHash, message: &[u8]) -> Vec<u8> {
        let keys = &self.place.keys;
        let handle = keys.list().await.unwrap().into_iter().find(|handle| handle.public.hash() == key);
        let handle = handle.expect("the key is in memory");
        let algorithm = trust::SignatureAlgorithm::preferred(handle.public.kind());
        keys.sign(&handle.id, message, algorithm).await.unwrap()
    }
}

async fn stop(running: Running) {
    tokio::time::timeout(SOON, running.shutdown(Duration::from_secs(2))).await.expect("the CA stops");
}

impl Place {
    fn new(options: CaOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tokens = TokenIssuer::new("https://issuer.example");
        let place = Self {
            dir,
            keys: Arc::new(MemoryKeys::new()),
            clock: Arc::new(TestClock::default()),
            disk: options.disk,
            tokens,
        };
        let keys = match options.keys {
            Keys::Memory => "backend = \"memory\"\ndangerously_keep_keys_in_memory = true",
            Keys::Files => "passphrase_file = \"passphrase\"",
        };
        let issuer = &place.tokens;
        let config = format!(
            "trust_domain = \"{TRUST_DOMAIN}\"\ndata_dir = \"data\"\n[keys]\n{keys}\n[leaf]\n{}\n\
             [listen]\ngrpc = \"127.0.0.1:0\"\nplain = \"127.0.0.1:0\"\ndns_names = [\"localhost\"]\n\
             [[jwt]]\nissuer = \"{}\"\njwks_file = \"jwks.json\"\nidentity = \"kubernetes\"\n{}\n",
            options.leaf,
            issuer.name(),
            options.more,
        );
        place.write("banyan.toml", &config);
        place.write("jwks.json", &issuer.key_set());
        place.write("passphrase", "correct horse battery staple");
        place
    }

    fn write(&self, name: &str, contents: &str) {
        let path = self.dir.path().join(name);
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    async fn start(&self) -> Result<Running, BootError> {
        let text = std::fs::read_to_string(self.dir.path().join("banyan.toml")).unwrap();
        let config = Config::parse(&text, self.dir.path()).expect("the test's configuration is right");
        let deps = HostDeps {
            clock: Arc::<TestClock>::clone(&self.clock),
            randomness: Arc::new(OsRandomness::new()),
            disk: Arc::clone(&self.disk),
        };
        Box::pin(Server::start_with(config, deps, self)).await
    }
}

impl Embedding for Place {
    fn plugins(&self, registry: &mut Registry) {
        registry.add_key_backend(SharedKeys(Arc::clone(&self.keys)));
        registry.add_key_backend(FileKeysPlugin {
            directory: self.dir.path().join("data/keys"),
            cost: KdfCost::LEAST,
            disk: Arc::clone(&self.disk),
            randomness: Arc::new(OsRandomness::new()),
        });
    }
}

/// The key backend `memory`, over keys that outlive the server.
struct SharedKeys(Arc<MemoryKeys>);

impl KeyBackendPlugin for SharedKeys {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn validate(&self, _settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        Ok(())
    }

    fn open(&self, _settings: &toml::Table) -> Result<Arc<dyn KeyBackend>, Vec<ConfigProblem>> {
        Ok(Arc::<MemoryKeys>::clone(&self.0))
    }
}
