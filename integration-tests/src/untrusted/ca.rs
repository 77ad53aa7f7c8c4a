//! A CA on a temporary directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ca_server::{BootError, Embedding, HostDeps, Running};
use host::{Disk, OsRandomness, RealDisk};
use plugin_key_file::KdfCost;
use plugins::memory::MemoryKeys;
use plugins::{ConfigProblem, KeyBackend, KeyBackendPlugin, Registry};
use trust::{Bundle, SpkiHash};

use crate::support::{CaDir, CaDirPlan, Keys, SOON, TestClock};
use crate::tokens::TokenIssuer;

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
    ca_dir: CaDir,
    /// Those of the key backend `memory`, which outlive a server: tests can sign with the CA's own keys.
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
        self.place.ca_dir.data()
    }

    /// Signs with one of the CA's own keys, as DER of a signature with the curve's usual hash.
    ///
    /// # Panics
    /// When there is no such key in memory.
    pub async fn sign_with(&self, key: SpkiHash, message: &[u8]) -> Vec<u8> {
        let keys = &self.place.keys;
        let handle =
            keys.list().await.unwrap().into_iter().find(|handle| handle.public.hash() == key);
        let handle = handle.expect("the key is in memory");
        let algorithm = trust::SignatureAlgorithm::preferred(handle.public.kind());
        keys.sign(&handle.id, message, algorithm).await.unwrap()
    }
}

async fn stop(running: Running) {
    tokio::time::timeout(SOON, running.shutdown(Duration::from_secs(2)))
        .await
        .expect("the CA stops");
}

impl Place {
    fn new(options: CaOptions) -> Self {
        let tokens = TokenIssuer::new("https://issuer.example");
        let CaOptions { keys, leaf, more, disk } = options;
        let sections = format!(
            "[leaf]\n{leaf}\n\
             [[jwt]]\nissuer = \"{}\"\njwks_file = \"jwks.json\"\nidentity = \"kubernetes\"\n{more}\n",
            tokens.name(),
        );
        let files = vec![("jwks.json".to_owned(), tokens.key_set())];
        let ca_dir =
            CaDir::of(&CaDirPlan { keys, sections, files, ..CaDirPlan::default() }).unwrap();
        Self { ca_dir, keys: Arc::new(MemoryKeys::new()), clock: Arc::default(), disk, tokens }
    }

    async fn start(&self) -> Result<Running, BootError> {
        let deps = HostDeps {
            clock: Arc::<TestClock>::clone(&self.clock),
            randomness: Arc::new(OsRandomness::new()),
            disk: Arc::clone(&self.disk),
        };
        self.ca_dir.start_embedded(deps, self).await.expect("the test's configuration is right")
    }
}

impl Embedding for Place {
    fn plugins(&self, registry: &mut Registry) {
        registry.add_key_backend(SharedKeys(Arc::clone(&self.keys)));
    }

    fn key_cost(&self) -> KdfCost {
        KdfCost::LEAST
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
