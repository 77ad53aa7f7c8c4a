//! The root authority of a CA that lies in files, as Istio's `cacerts` or a Kubernetes secret mounted into the pod.
//!
//! | layout | certificate | key | certificates above it | roots |
//! |---|---|---|---|---|
//! | `istio` | `ca-cert.pem` | `ca-key.pem` | `cert-chain.pem` | `root-cert.pem` |
//! | `kubernetes` | `tls.crt` (first) | `tls.key` | `tls.crt` (the others) | `ca.crt` |
//!
//! The files are read for each call as one snapshot and checked whole: the key fits the certificate, the chain ends in
//! one of the roots. While they do not pass (half written, swapped one by one), the last snapshot that did is used, and
//! [`check`](plugins::RootAuthority::check) says so. Keys of every kind that a TLS server may have are taken, RSA too.
//!
//! Others may hold the same files, so the authority is not exclusive unless its settings say so: then no count of our own
//! leaves proves that a root is out of use, only time and somebody's word.
//!
//! Start at [`FileAuthority`]; [`FilePlugin`] lists it in a registry as `file`.

mod blocks;
mod chain;
mod config;
mod key;
mod snapshot;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use plugins::ca_certificate::{CaSigner, IssuerProfile, sign_issuer};
use plugins::{
    Announcement, Answering, AuthorityDeps, AuthorityPlugin, CallContext, ConfigProblem, CrossSign,
    CrossSignRequest, CrossSigner, Description, Health, IssuerChain, IssuerRequest, JudgedCross,
    JudgedIssuer, LookEvery, Outcome, PluginError, RootAuthority, RootSet, Ticket, WatchRoots,
    watch_by_looking,
};
use trust::{RootId, Serial, Validity};

use config::Settings;
use snapshot::{Snapshot, Standing};

/// How far before now an issuer starts, so that peers whose clocks are behind take it at once.
const BACKDATE: Duration = Duration::from_secs(60);
/// How often the files are looked at while somebody waits for a change.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// An authority whose certificate and key lie in files.
#[derive(Debug)]
pub struct FileAuthority {
    deps: AuthorityDeps,
    settings: Settings,
    answering: Answering,
    last_good: Mutex<Option<Arc<Snapshot>>>,
}

/// Lists [`FileAuthority`] in a registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct FilePlugin;

/// What the files say now.
struct Present {
    snapshot: Arc<Snapshot>,
    /// Why an older snapshot stands in for the files.
    stale: Option<String>,
}

impl FileAuthority {
    /// Reads the files; the last good snapshot stands in for files that do not pass.
    async fn present(&self) -> Result<Present, PluginError> {
        let (settings, domain) = (self.settings.clone(), self.deps.trust_domain.clone());
        let standing = Standing { domain: Some(domain), now: Some(self.deps.clock.now()) };
        let read = tokio::task::spawn_blocking(move || Snapshot::read(&settings, &standing)).await;
        let read = read.map_err(|error| PluginError::Transient { detail: error.to_string() })?;
        let mut last_good = self.last_good.lock().unwrap_or_else(PoisonError::into_inner);
        match (read, last_good.as_ref()) {
            (Ok(snapshot), _) => {
                let snapshot = Arc::new(snapshot);
                *last_good = Some(Arc::clone(&snapshot));
                Ok(Present { snapshot, stale: None })
            }
            (Err(error), Some(good)) => {
                Ok(Present { snapshot: Arc::clone(good), stale: Some(error.to_string()) })
            }
            (Err(error), None) => Err(PluginError::AuthorityDown { detail: error.to_string() }),
        }
    }

    async fn sign(&self, request: &IssuerRequest) -> Result<JudgedIssuer, PluginError> {
        let snapshot = self.present().await?.snapshot;
        if snapshot.signing() != request.root {
            return Err(PluginError::denied(format!(
                "the files in {} lead to root {}, not to root {} that is asked for: put the former CA back there to renew its \
                 issuer, or rotate to the new root",
                self.settings.directory.display(),
                snapshot.signing().short(),
                RootId::short(&request.root)
            )));
        }
        let csr = request.verified_csr()?;
        let above = snapshot.certificate();
        let profile = IssuerProfile {
            trust_domain: request.trust_domain.clone(),
            serial: Serial::random(self.deps.randomness.as_ref()),
            validity: self.validity(&snapshot, request)?,
            path_len: request.path_len,
        };
        let signer =
            CaSigner { keys: snapshot.key(), key_id: snapshot.key().id(), certificate: above };
        let issuer = sign_issuer(&signer, csr.public_key(), &profile).await?;
        let chain = [issuer.der().to_vec()].into_iter().chain(snapshot.chain_ders()).collect();
        let (chain, now) = (IssuerChain::new(chain), self.deps.clock.now());
        Ok(JudgedIssuer::of_request(chain, request, csr.public_key(), snapshot.root(), now)?)
    }

    async fn cross(&self, request: &CrossSignRequest) -> Result<JudgedCross, PluginError> {
        let snapshot = self.present().await?.snapshot;
        let place = self.settings.directory.display();
        if snapshot.signing() != request.signer {
            return Err(PluginError::denied(format!(
                "the files in {place} lead to root {}, not to root {}, whose signature is asked for: its key is not there",
                snapshot.signing().short(),
                request.signer.short()
            )));
        }
        if snapshot.certificate().der() != snapshot.root().der() {
            return Err(PluginError::denied(format!(
                "the key in {place} is an intermediate's: only the key of root {} itself can sign another root",
                request.signer.short()
            )));
        }
        let signer = CrossSigner {
            signer: CaSigner {
                keys: snapshot.key(),
                key_id: snapshot.key().id(),
                certificate: snapshot.certificate(),
            },
            root: snapshot.root(),
            trust_domain: &self.deps.trust_domain,
            now: self.deps.clock.now(),
            randomness: self.deps.randomness.as_ref(),
        };
        signer.sign(request).await
    }

    fn validity(
        &self,
        snapshot: &Snapshot,
        request: &IssuerRequest,
    ) -> Result<Validity, PluginError> {
        let now = self.deps.clock.now();
        let (not_before, not_after) =
            (now.minus(BACKDATE).max(snapshot.valid_from()), now.plus(request.ttl));
        if not_after > snapshot.valid_until() {
            let (above, ends) =
                (snapshot.ends_first(&self.settings.directory), snapshot.valid_until());
            return Err(PluginError::Outlives { above, ends });
        }
        Validity::new(not_before, not_after).map_err(|error| PluginError::denied(error.to_string()))
    }
}

#[async_trait]
impl RootAuthority for FileAuthority {
    fn describe(&self) -> Description {
        let described = Description::new(self.deps.name.clone(), "file", env!("CARGO_PKG_VERSION"));
        let described = described.at(format!("the files in {}", self.settings.directory.display()));
        if self.settings.exclusive { described } else { described.shared() }
    }

    async fn check(&self, _context: &CallContext) -> Health {
        match self.present().await {
            Err(error) => Health::down(error.to_string()),
            Ok(Present { snapshot, stale }) => {
                let until = Some(snapshot.valid_until());
                let now = self.deps.clock.now();
                match stale {
                    Some(why) => Health::degraded(format!("{why}; what was read before is in use"))
                        .until(until),
                    None if snapshot.valid_until() <= now => {
                        let (first, ended) =
                            (snapshot.ends_first(&self.settings.directory), snapshot.valid_until());
                        Health::down(format!("{first} ended at {ended}; put a newer one there"))
                            .until(until)
                    }
                    None => match snapshot.undecided() {
                        Some(undecided) => Health::degraded(undecided).until(until),
                        None => Health::ok().noted(snapshot.skipped().join("; ")).until(until),
                    },
                }
            }
        }
    }

    async fn roots(&self, _context: &CallContext) -> Result<RootSet, PluginError> {
        let look = async {
            let snapshot = self.present().await?.snapshot;
            Ok(Announcement {
                roots: vec![snapshot.root().der().to_vec()],
                signing: Some(snapshot.signing()),
                above: Some(snapshot.chain_ders().collect()),
                further: snapshot.further_ders(),
            })
        };
        self.answering.announce(look).await
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.answering.issuer(context, request, self.sign(request)).await
    }

    async fn poll(&self, _: &CallContext, _: &Ticket) -> Result<Outcome<IssuerChain>, PluginError> {
        self.answering.no_ticket()
    }

    fn watching(&self) -> Option<&dyn WatchRoots> {
        Some(self)
    }

    fn cross_signing(&self) -> Option<&dyn CrossSign> {
        Some(self)
    }
}

#[async_trait]
impl CrossSign for FileAuthority {
    async fn cross_sign(
        &self,
        context: &CallContext,
        request: &CrossSignRequest,
    ) -> Result<Outcome<Vec<u8>>, PluginError> {
        self.answering.turn().await.cross(context, request, self.cross(request)).await
    }
}

#[async_trait]
impl WatchRoots for FileAuthority {
    async fn changed(&self, seen: u64) -> Result<RootSet, PluginError> {
        watch_by_looking(self, seen, LookEvery { pause: LOOK_EVERY, within: LOOK_EVERY }).await
    }
}

impl AuthorityPlugin for FilePlugin {
    fn name(&self) -> &'static str {
        "file"
    }

    fn is_exclusive(&self, settings: &toml::Table) -> bool {
        plugins::says_exclusive(settings).unwrap_or(false)
    }

    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        Settings::read(settings, std::path::Path::new("")).map(drop)
    }

    fn preflight(&self, settings: &toml::Table, base: &std::path::Path) -> Vec<ConfigProblem> {
        let Ok(settings) = Settings::read(settings, base) else { return Vec::new() };
        let unfit = Snapshot::read(&settings, &Standing::default()).err();
        unfit.map(|unfit| ConfigProblem::new("directory", unfit.to_string())).into_iter().collect()
    }

    fn open(
        &self,
        settings: &toml::Table,
        deps: AuthorityDeps,
    ) -> Result<Arc<dyn RootAuthority>, Vec<ConfigProblem>> {
        let settings = Settings::read(settings, &deps.base)?;
        let answering = Answering::new(&deps);
        Ok(Arc::new(FileAuthority { deps, settings, answering, last_good: Mutex::default() }))
    }
}
