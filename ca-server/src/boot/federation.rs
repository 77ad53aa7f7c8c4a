//! Other trust domains: their bundles are kept up, and ours is shown to them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::ShownAs;
use control::federated::Federated;
use control::front::ServerIdentity;
use federation::{Foreign, Keeper, Troubles};
use host::SystemClock;
use plugins::ConfigProblem;
use registry::AgentRegistry;
use rotation_driver::Duty;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use trust::{Certificate, Clock, Timestamp};

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
        let told_by = Arc::clone(&clock);
        let keeper = Keeper { registry, clock, ours, duty, foreign, troubles };
        match config.bundle_endpoint().host().cloned() {
            Some(host) => {
                tokio::join!(keeper.run(), show(host, told_by, shown, endpoint_trouble));
            }
            None => keeper.run().await,
        }
    }
}

/// What would be wrong with the certificate of the endpoint.
pub(super) fn problems(config: &Config) -> Vec<ConfigProblem> {
    let host = config.bundle_endpoint().host();
    let now = SystemClock.now();
    let read = host.map_or(Ok(()), |host| read(host, now).map(drop));
    read.err().map(|what| ConfigProblem::new("bundle_endpoint", what)).into_iter().collect()
}

/// Shows what is in the files; another one as soon as it is there, and the last good one while there is none.
async fn show(
    host: HostCertificate,
    clock: Arc<dyn Clock>,
    shown: watch::Sender<Option<Arc<ServerIdentity>>>,
    trouble: watch::Sender<Option<String>>,
) {
    loop {
        let (files, now) = (host.clone(), clock.now());
        let read = tokio::task::spawn_blocking(move || read(&files, now)).await;
        let read = read.map_err(|error| error.to_string()).flatten();
        let wrong = match read {
            Ok(identity) => {
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
            Err(what) => Some(format!(
                "the bundle endpoint's certificate cannot be used, and {}: {what}",
                match shown
                    .borrow()
                    .as_ref()
                    .is_some_and(|known| is_of_now(&known.chain, now).is_ok())
                {
                    true => "the one that was there before is shown",
                    false => "nobody can read the bundle there",
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

fn read(host: &HostCertificate, now: Timestamp) -> Result<ServerIdentity, String> {
    let HostCertificate { certificate_file, key_file } = host;
    let (file, key_name) = (certificate_file.display(), key_file.display());
    let pem = std::fs::read(certificate_file).map_err(|error| format!("{file}: {error}"))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| format!("{file}: {error}"))?;
    let pem = std::fs::read(key_file).map_err(|error| format!("{key_name}: {error}"))?;
    let key =
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| format!("{key_name}: {error}"))?;
    is_of_now(&chain, now).map_err(|what| format!("{file}: {what}"))?;
    api::fits(&chain, &key).map_err(|error| {
        format!("{key_name} is not the key of the first certificate of {file}: {error}")
    })?;
    Ok(ServerIdentity { chain, key })
}

/// Whether readers take a certificate now, by its time.
fn is_of_now(chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), String> {
    let leaf = chain.first().ok_or("it has no certificate in PEM")?;
    let validity = Certificate::parse(leaf).map_err(|error| error.to_string())?.validity();
    if validity.contains(now) {
        return Ok(());
    }
    let (from, until) = (validity.not_before(), validity.not_after());
    Err(format!("its first certificate is valid from {from} until {until}: put a new one there"))
}
