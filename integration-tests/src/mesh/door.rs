//! The listener of a proxy, on a real port: it shows what the proxy holds, and believes what the proxy believes, or less.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use trust::RootId;

use super::Proxy;
use super::proxy::server_config;

/// A listener.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    proxy: Option<Arc<Proxy>>,
    /// Whose certificates it can verify; none where it is all that the proxy trusts.
    only: Option<RootId>,
    shut: bool,
}

impl Door {
    /// Listens, for a proxy that is to come.
    ///
    /// # Errors
    /// As the operating system says.
    pub async fn bind() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, state) = (listener.local_addr()?, Arc::<Mutex<State>>::default());
        let (shared, mut tasks) = (Arc::clone(&state), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                connections.spawn(welcome(tcp, Arc::clone(&shared)));
            }
        });
        Ok(Self { address, state, _tasks: tasks })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whose it is.
    pub fn belongs_to(&self, proxy: &Arc<Proxy>) {
        self.state().proxy = Some(Arc::clone(proxy));
    }

    /// Verifies certificates of this root alone, whatever its proxy has acknowledged: as one that does not know the algorithm of
    /// the others. With none it is one that knows all.
    pub fn verifies_only(&self, root: Option<RootId>) {
        self.state().only = root;
    }

    /// Takes connections and says nothing, or opens again.
    pub fn shut(&self, shut: bool) {
        self.state().shut = shut;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn welcome(tcp: TcpStream, state: Arc<Mutex<State>>) {
    let config = {
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(proxy) = state.proxy.as_ref().filter(|_| !state.shut) else { return };
        let mut holding = proxy.holding();
        if let Some(only) = state.only {
            holding.roots.retain(|der| RootId::of(der) == only);
        }
        server_config(&holding)
    };
    // A proxy without a leaf has nothing to show.
    let Ok(config) = config else { return };
    if let Ok(mut tls) = TlsAcceptor::from(Arc::new(config)).accept(tcp).await {
        let _ = tls.read(&mut [0; 16]).await;
    }
}
