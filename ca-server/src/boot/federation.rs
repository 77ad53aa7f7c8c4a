//! Other trust domains: their bundles are kept up, and ours is shown to them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::ShownAs;
use control::federated::Federated;
use control::front::ServerIdentity;
use federation::{Foreign, Keeper, Troubles};
use plugins::ConfigProblem;
use registry::AgentRegistry;
use rotation_driver::Duty;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use trust::Clock;

use crate::config::{Config, HostCertificate};

/// How often the files of the endpoint's certificate are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What tells of it.
pub(super) struct Told {
    foreign: watch::Sender<Foreign>,
    troubles: watch::Sender<Troubles>,
    shown: watch::Sender<Option<Arc<ServerIdentity>>>,
    endpoint_trouble: watch::Sender<Option<String>>,
}

/// What is known at the start: nothing yet.
pub(super) fn federated(config: &Config) -> (Told, Federated) {
    let (foreign, bundles) = watch::channel(None);
    let (troubles, known_troubles) = watch::channel(Troubles::new());
    let (endpoint_trouble, known_trouble) = watch::channel(None);
    let federated = Federated {
        bundles,
        troubles: known_troubles,
        refresh_hint: config.bundle_endpoint().refresh_hint(),
        endpoint: OnceLock::new(),
        endpoint_trouble: known_trouble,
    };
    (Told { foreign, troubles, shown: watch::channel(None).0, endpoint_trouble }, federated)
}

impl Told {
    /// As whom the bundle endpoint answers.
    pub(super) fn shown_as(&self, config: &Config) -> ShownAs {
        match config.bundle_endpoint().host() {
            Some(_) => ShownAs::Host(self.shown.subscribe()),
            None => ShownAs::TheCa,
        }
    }

    /// Keeps up what others publish, and the certificate of the endpoint, until it is dropped.
    pub(super) async fn keep(
        self,
        config: Config,
        registry: AgentRegistry,
        clock: Arc<dyn Clock>,
        duty: watch::Receiver<Duty>,
    ) {
        let Self { foreign, troubles, shown, endpoint_trouble } = self;
        let ours = config.trust_domain().clone();
        let keeper = Keeper { registry, clock, ours, duty, foreign, troubles };
        match config.bundle_endpoint().host().cloned() {
            Some(host) => {
                tokio::join!(keeper.run(), show(host, shown, endpoint_trouble));
            }
            None => keeper.run().await,
        }
    }
}

/// What would be wrong with the certificate of the endpoint.
pub(super) fn problems(config: &Config) -> Vec<ConfigProblem> {
    let host = config.bundle_endpoint().host();
    let read = host.map(read).unwrap_or(Ok(None));
    read.err().map(|what| ConfigProblem::new("bundle_endpoint", what)).into_iter().collect()
}

/// Shows what is in the files; another one as soon as it is there, and the last good one while there is none.
async fn show(
    host: HostCertificate,
    shown: watch::Sender<Option<Arc<ServerIdentity>>>,
    trouble: watch::Sender<Option<String>>,
) {
    loop {
        let files = host.clone();
        let read = tokio::task::spawn_blocking(move || read(&files)).await;
        let read = read.map_err(|error| error.to_string()).flatten();
        let wrong = match read {
            Ok(Some(identity)) => {
                shown.send_if_modified(|known| {
                    let chain = known.as_ref().map(|known| &known.chain);
                    let is_news = chain != Some(&identity.chain);
                    if is_news {
                        *known = Some(Arc::new(identity));
                    }
                    is_news
                });
                None
            }
            Ok(None) => None,
            Err(what) => Some(format!(
                "the bundle endpoint's certificate cannot be used, and {}: {what}",
                match *shown.borrow() {
                    Some(_) => "the one that was there before is shown",
                    None => "nobody can read the bundle there",
                }
            )),
        };
        trouble.send_if_modified(|known| {
            let is_news = *known != wrong;
            if let (true, Some(what)) = (is_news, &wrong) {
                tracing::error!("{what}");
            }
            *known = wrong;
            is_news
        });
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn read(host: &HostCertificate) -> Result<Option<ServerIdentity>, String> {
    let HostCertificate { certificate_file, key_file } = host;
    let (file, key) = (certificate_file.display(), key_file.display());
    let pem = std::fs::read(certificate_file).map_err(|error| format!("{file}: {error}"))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| format!("{file}: {error}"))?;
    if chain.is_empty() {
        return Err(format!("{file}: it has no certificate in PEM"));
    }
    let pem = std::fs::read(key_file).map_err(|error| format!("{key}: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| format!("{key}: {error}"))?;
    api::fits(&chain, &key).map_err(|error| format!("{file} and its key: {error}"))?;
    Ok(Some(ServerIdentity { chain, key }))
}
