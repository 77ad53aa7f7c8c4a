//! The backend: each call is a job for one of the threads.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use plugins::{
    Health, KeyBackend, KeyBackendDescription, KeyError, KeyHandle, KeyId, KeySpec, RequestId,
};
use thiserror::Error;
use trust::{Clock, PublicKey, SignatureAlgorithm};

use crate::module::Module;
use crate::pin::{PinError, PinSource};
use crate::pool::{Pool, PoolSize};
use crate::token::{Standing, Token, TokenName};
use crate::worker::{Desk, Worker};

/// Longest wait of a health check.
const CHECK_WITHIN: Duration = Duration::from_secs(5);
/// What every token makes that is of use.
const ECDSA: &[KeySpec] = &[KeySpec::P256, KeySpec::P384];

/// What a backend is opened with.
#[derive(Clone, Debug)]
pub struct Pkcs11Options {
    /// The vendor's module, a shared library.
    pub module: PathBuf,
    /// The token.
    pub token: TokenName,
    /// Where the user's PIN is.
    pub pin: PinSource,
    /// Threads, with a session of the token each.
    pub threads: usize,
    /// Calls that may wait for a thread; one more is refused as busy.
    pub queue: usize,
    /// How long a call may take, the wait for a thread included.
    pub timeout: Duration,
    /// For how long a token that is away is left alone.
    pub clock: Arc<dyn Clock>,
}

/// Private keys on a PKCS#11 token.
pub struct Pkcs11Keys {
    name: TokenName,
    description: KeyBackendDescription,
    pool: Pool<Worker>,
}

/// Why the backend cannot be opened.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    #[error("cannot load the PKCS#11 module {}: {said}; write the path of the vendor's shared library", path.display())]
    Module { path: PathBuf, said: String },
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error("{0}")]
    PinRefused(KeyError),
    #[error("{0}")]
    Token(KeyError),
    #[error("cannot start a thread: {0}; allow this user more of them")]
    Threads(std::io::Error),
}

impl Pkcs11Keys {
    /// Loads the module and looks at the token. A token that is away is no error: it is looked for with every call.
    /// Blocks for as long as the token takes.
    pub(crate) fn open(options: Pkcs11Options) -> Result<Self, OpenError> {
        let Pkcs11Options { module: path, token: name, pin, threads, queue, timeout, clock } =
            options;
        let pin_field = pin.field();
        let pin = pin.read()?;
        let module = Module::load(&path).map_err(|said| OpenError::Module { path, said })?;
        let token = Arc::new(Token {
            module,
            name: name.clone(),
            pin,
            pin_field,
            clock,
            standing: Mutex::<Standing>::default(),
            destroyed: AtomicU64::new(0),
            known: Mutex::default(),
        });
        let specs = match Worker::new(Arc::clone(&token)).run(|desk| desk.specs()) {
            Ok(specs) => specs,
            Err(KeyError::BackendDown { detail }) => {
                tracing::warn!(
                    detail,
                    "the token is away at the start; its keys can be used when it is there"
                );
                ECDSA
            }
            Err(error @ KeyError::Denied { .. }) => return Err(OpenError::PinRefused(error)),
            Err(error) => return Err(OpenError::Token(error)),
        };
        let size = PoolSize { threads, queue, timeout };
        let pool = Pool::start(size, move || Worker::new(Arc::clone(&token)))
            .map_err(OpenError::Threads)?;
        let description = KeyBackendDescription::new("pkcs11", env!("CARGO_PKG_VERSION"), specs);
        Ok(Self { name, description, pool })
    }
}

impl Desk<'_> {
    /// What the token makes.
    fn specs(&mut self) -> Result<&'static [KeySpec], crate::trouble::Trouble> {
        let (slot, _) = self.token.find(self.calls.context())?;
        Ok(if Token::has_ed25519(self.calls.context(), slot) { &KeySpec::ALL } else { ECDSA })
    }
}

#[async_trait]
impl KeyBackend for Pkcs11Keys {
    fn describe(&self) -> KeyBackendDescription {
        self.description.clone()
    }

    fn waiting(&self) -> Option<usize> {
        Some(self.pool.waiting())
    }

    async fn generate(&self, request_id: &RequestId, spec: KeySpec) -> Result<KeyHandle, KeyError> {
        if !self.description.specs.contains(&spec) {
            let detail = format!("{} makes no {spec} keys; choose another key_type", self.name);
            return Err(KeyError::Unsupported { detail });
        }
        let request_id = request_id.clone();
        self.pool.run(move |worker| worker.run(|desk| desk.generate(&request_id, spec))).await
    }

    async fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        let id = id.clone();
        self.pool.run(move |worker| worker.run(|desk| Ok(desk.key(&id)?.public))).await
    }

    async fn sign(
        &self,
        id: &KeyId,
        message: &[u8],
        algorithm: SignatureAlgorithm,
    ) -> Result<Vec<u8>, KeyError> {
        let spec = KeySpec::ALL.into_iter().find(|spec| spec.algorithm() == algorithm);
        let (id, message) = (id.clone(), message.to_vec());
        self.pool.run(move |worker| worker.run(|desk| desk.sign(&id, &message, spec))).await
    }

    async fn list(&self) -> Result<Vec<KeyHandle>, KeyError> {
        self.pool.run(|worker| worker.run(|desk| desk.list())).await
    }

    async fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        let id = id.clone();
        self.pool.run(move |worker| worker.run(|desk| desk.destroy(&id))).await
    }

    async fn check(&self) -> Health {
        let look = self.pool.run(|worker| worker.run(|desk| desk.look()));
        match tokio::time::timeout(CHECK_WITHIN, look).await {
            Ok(Ok(())) => Health::ok(),
            Ok(Err(error @ KeyError::Busy { .. })) => Health::degraded(error.to_string()),
            Ok(Err(error)) => Health::down(error.to_string()),
            Err(_) => Health::down(format!("{} gives no answer", self.name)),
        }
    }
}

impl fmt::Debug for Pkcs11Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.pool.size();
        f.debug_struct("Pkcs11Keys")
            .field("token", &self.name)
            .field("size", &size)
            .finish_non_exhaustive()
    }
}
