//! The root authority that mints its own root.
//!
//! Keys are in a key backend, what was made is in a durable book (`book`), and the certificates are built by
//! [`plugins::ca_certificate`]. There is no network and no other state: the book is read anew for each call, so that
//! after a failed write nothing in memory can disagree with it.
//!
//! Start at [`SelfSigned`]; [`SelfSignedPlugin`] lists it in a registry as `self-signed`. It has no settings.

mod book;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plugins::answering::no_ticket;
use plugins::ca_certificate::{self, CaSigner, IssuerProfile, RootProfile};
use plugins::{
    AuthorityDeps, AuthorityPlugin, CallContext, ConfigProblem, ConfigTable, CrossSign,
    CrossSignRequest, CrossSigner, Description, Health, HealthState, IssuerChain, IssuerRequest,
    JudgedIssuer, KeyHandle, KeyId, Outcome, PluginError, RequestId, RetireRoots, RootAuthority,
    RootDer, RootSet, StageRequest, StageRoots, Ticket,
};
use tokio::sync::Mutex;
use trust::{Root, RootId, Serial, Validity};

use book::{Book, RootEntry};

/// How far before now a root or issuer starts, so that peers whose clocks are behind take it at once.
pub const BACKDATE: Duration = Duration::from_secs(60);

/// Longest lifetime of a root, 50 years: what goes beyond is a slip of the pen.
pub const ROOT_LIFETIME_MAX: Duration = Duration::from_secs(50 * 366 * 86_400);

/// An authority whose roots are its own.
#[derive(Debug)]
pub struct SelfSigned {
    deps: AuthorityDeps,
    /// Whose turn it is to change the book. It guards no data, and readers never wait for it; a call that is dropped
    /// gives its turn back.
    turn: Mutex<()>,
}

/// Lists [`SelfSigned`] in a registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct SelfSignedPlugin;

impl SelfSigned {
    /// Opens the authority over its state; touches nothing yet.
    pub fn new(deps: AuthorityDeps) -> Self {
        Self { deps, turn: Mutex::new(()) }
    }

    async fn book(&self) -> Result<Book, PluginError> {
        Book::load(self.deps.state.as_ref()).await
    }

    /// Whether each root that may sign has its key.
    async fn has_keys(&self, book: &Book) -> Result<(), PluginError> {
        for entry in book.announced() {
            let key = self.deps.keys.public(&key_id(&entry.key_id)?).await;
            key.map_err(|error| PluginError::Permanent {
                detail: format!(
                    "the key of root {} cannot be had ({error}); restore the keys from the latest backup",
                    entry.root.id().short()
                ),
            })?;
        }
        Ok(())
    }

    fn validity_for(&self, lifetime: Duration) -> Result<Validity, PluginError> {
        let now = self.deps.clock.now();
        Validity::new(now.minus(BACKDATE), now.plus(lifetime))
            .map_err(|error| PluginError::denied(error.to_string()))
    }

    async fn mint(
        &self,
        id: &RequestId,
        request: &StageRequest,
    ) -> Result<(KeyHandle, Root), PluginError> {
        if request.lifetime < BACKDATE || request.lifetime > ROOT_LIFETIME_MAX {
            return Err(PluginError::denied(
                "a root lives between one minute and 50 years; ask for a lifetime in between",
            ));
        }
        let key = self.deps.keys.generate(id, request.key).await?;
        let profile = RootProfile {
            trust_domain: request.trust_domain.clone(),
            serial: Serial::random(self.deps.randomness.as_ref()),
            validity: self.validity_for(request.lifetime)?,
        };
        let root = ca_certificate::build_root(self.deps.keys.as_ref(), &key, &profile).await?;
        Ok((key, root))
    }

    async fn sign(
        &self,
        root: &RootEntry,
        request: &IssuerRequest,
    ) -> Result<JudgedIssuer, PluginError> {
        let csr = request.verified_csr()?;
        let public = csr.public_key();
        let validity = self.issuer_validity(&root.root, request)?;
        let key_id = key_id(&root.key_id)?;
        let (keys, certificate) = (self.deps.keys.as_ref(), root.root.certificate());
        let signer = CaSigner { keys, key_id: &key_id, certificate };
        let profile = IssuerProfile {
            trust_domain: request.trust_domain.clone(),
            serial: Serial::random(self.deps.randomness.as_ref()),
            validity,
            path_len: request.path_len,
        };
        let issuer = ca_certificate::sign_issuer(&signer, public, &profile).await?;
        let chain = IssuerChain::new(vec![issuer.der().to_vec()]);
        Ok(JudgedIssuer::of_request(chain, request, public, &root.root, self.deps.clock.now())?)
    }

    fn issuer_validity(
        &self,
        root: &Root,
        request: &IssuerRequest,
    ) -> Result<Validity, PluginError> {
        let validity = self.validity_for(request.ttl)?;
        let root_ends = root.certificate().validity().not_after();
        if validity.not_after() > root_ends {
            let above =
                format!("root {} (\"{}\")", root.id().short(), root.certificate().subject_text());
            return Err(PluginError::Outlives { above, ends: root_ends });
        }
        let not_before = validity.not_before().max(root.certificate().validity().not_before());
        Validity::new(not_before, validity.not_after())
            .map_err(|error| PluginError::denied(error.to_string()))
    }
}

#[async_trait]
impl RootAuthority for SelfSigned {
    fn describe(&self) -> Description {
        Description::new(self.deps.name.clone(), "self-signed", env!("CARGO_PKG_VERSION"))
    }

    async fn check(&self, _context: &CallContext) -> Health {
        let book = match self.book().await {
            Ok(book) => book,
            Err(error) => return Health::down(error.to_string()),
        };
        if let Err(error) = self.has_keys(&book).await {
            return Health::down(error.to_string());
        }
        let keys = self.deps.keys.check().await;
        let ends = |root: &RootEntry| root.root.certificate().validity().not_after();
        let earliest = book.announced().map(ends).min();
        let now = self.deps.clock.now();
        match earliest.filter(|end| *end <= now) {
            Some(end) if keys.state == HealthState::Ok => {
                Health::degraded(format!("a root ended at {end}; rotate to a new one"))
                    .until(earliest)
            }
            _ => keys.until(earliest),
        }
    }

    async fn roots(&self, _context: &CallContext) -> Result<RootSet, PluginError> {
        let book = self.book().await?;
        let roots = book.announced().map(|entry| entry.root.der().to_vec()).collect();
        // Its roots sign issuers themselves.
        Ok(RootSet::new(roots, book.signing, book.generation).with_above(Some(Vec::new())))
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let _turn = self.turn.lock().await;
        let mut book = self.book().await?;
        if let Some(chain) = book.issuers.answered(&context.request_id, request)? {
            return Ok(Outcome::Ready(chain));
        }
        let root =
            book.announced_root(&request.root).ok_or_else(|| not_announced(&request.root))?;
        if root.trust_domain != request.trust_domain {
            return Err(PluginError::denied(format!(
                "root {} stands for trust domain {}, not {}",
                request.root.short(),
                root.trust_domain,
                request.trust_domain
            )));
        }
        let judged = self.sign(root, request).await?;
        book.issuers.remember(&context.request_id, request, &judged, self.deps.clock.now());
        book.store(self.deps.state.as_ref()).await?;
        Ok(Outcome::Ready(judged.into_chain()))
    }

    async fn poll(&self, _: &CallContext, _: &Ticket) -> Result<Outcome<IssuerChain>, PluginError> {
        no_ticket()
    }

    fn staging(&self) -> Option<&dyn StageRoots> {
        Some(self)
    }

    fn cross_signing(&self) -> Option<&dyn CrossSign> {
        Some(self)
    }

    fn retiring(&self) -> Option<&dyn RetireRoots> {
        Some(self)
    }
}

#[async_trait]
impl CrossSign for SelfSigned {
    async fn cross_sign(
        &self,
        context: &CallContext,
        request: &CrossSignRequest,
    ) -> Result<Outcome<Vec<u8>>, PluginError> {
        let _turn = self.turn.lock().await;
        let mut book = self.book().await?;
        if let Some(der) = book.crosses.answered(&context.request_id, request)? {
            return Ok(Outcome::Ready(der));
        }
        let entry =
            book.announced_root(&request.signer).ok_or_else(|| not_announced(&request.signer))?;
        let (key_id, now) = (key_id(&entry.key_id)?, self.deps.clock.now());
        let (keys, certificate) = (self.deps.keys.as_ref(), entry.root.certificate());
        let signer = CrossSigner {
            signer: CaSigner { keys, key_id: &key_id, certificate },
            root: &entry.root,
            trust_domain: &entry.trust_domain,
            now,
            randomness: self.deps.randomness.as_ref(),
        };
        let judged = signer.sign(request).await?;
        book.crosses.remember(&context.request_id, request, &judged, now);
        book.store(self.deps.state.as_ref()).await?;
        Ok(Outcome::Ready(judged.der().to_vec()))
    }
}

#[async_trait]
impl StageRoots for SelfSigned {
    async fn stage(
        &self,
        context: &CallContext,
        request: &StageRequest,
    ) -> Result<Outcome<RootDer>, PluginError> {
        let _turn = self.turn.lock().await;
        let mut book = self.book().await?;
        if let Some(entry) = book.staged_by(&context.request_id) {
            return match (entry.retired, entry.answers(request)) {
                (false, true) => Ok(Outcome::Ready(entry.root.der().to_vec())),
                (true, _) => Err(PluginError::denied(format!(
                    "the root of request {} is retired; stage a new one under a new request id",
                    context.request_id
                ))),
                (false, false) => Err(PluginError::reused(&context.request_id)),
            };
        }
        let (key, root) = self.mint(&context.request_id, request).await?;
        let der = root.der().to_vec();
        book.add_root(RootEntry::new(&context.request_id, request, &key, root));
        book.store(self.deps.state.as_ref()).await?;
        Ok(Outcome::Ready(der))
    }

    async fn activate(&self, _context: &CallContext, root: &RootId) -> Result<(), PluginError> {
        let _turn = self.turn.lock().await;
        let mut book = self.book().await?;
        book.announced_root(root).ok_or_else(|| not_announced(root))?;
        if book.signing != Some(*root) {
            book.sign_with(*root);
            book.store(self.deps.state.as_ref()).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl RetireRoots for SelfSigned {
    async fn retire(&self, _context: &CallContext, root: &RootId) -> Result<(), PluginError> {
        let _turn = self.turn.lock().await;
        let mut book = self.book().await?;
        let entry = book.roots.iter().find(|entry| entry.root.id() == *root);
        let (retired, id) = match entry {
            Some(entry) => (entry.retired, key_id(&entry.key_id)?),
            None => return Err(not_announced(root)),
        };
        if book.signing == Some(*root) {
            return Err(PluginError::denied(format!(
                "root {} signs; activate another one first",
                root.short()
            )));
        }
        if !retired {
            book.retire(root);
            book.store(self.deps.state.as_ref()).await?;
        }
        // Said again on every call: a crash may have come between the book and the key.
        Ok(self.deps.keys.destroy(&id).await?)
    }
}

impl AuthorityPlugin for SelfSignedPlugin {
    fn name(&self) -> &'static str {
        "self-signed"
    }

    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        ConfigTable::new(settings).finish(Some(()))
    }

    fn open(
        &self,
        settings: &toml::Table,
        deps: AuthorityDeps,
    ) -> Result<Arc<dyn RootAuthority>, Vec<ConfigProblem>> {
        self.validate(settings)?;
        Ok(Arc::new(SelfSigned::new(deps)))
    }
}

fn key_id(text: &str) -> Result<KeyId, PluginError> {
    KeyId::parse(text).map_err(|error| book::unreadable(&error.to_string()))
}

fn not_announced(root: &RootId) -> PluginError {
    PluginError::denied(format!(
        "root {} is not one of this authority's; see `banyan root list`",
        root.short()
    ))
}

#[cfg(test)]
mod tests;
