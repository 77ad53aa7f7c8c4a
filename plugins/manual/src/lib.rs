//! The root authority of an offline root: a request goes out as a file, and a signed certificate comes back as a file.
//!
//! The root's key lies on a machine that is never online. People carry what is asked to it, and what is signed back:
//!
//! 1. A rotation to this authority stages a root. A **ceremony** for a root goes out: `outbox/root-….txt`. People make a
//!    root with the commands in it, or take the certificate of one they have, and put it into `inbox/root-….pem`.
//! 2. The root is announced. The CA makes the key of its issuer and asks for a certificate: `outbox/issuer-….txt` with the
//!    CSR. People sign it under that root, and put it into `inbox/issuer-….pem`. Renewals of the issuer go the same way.
//!
//! Two journeys, since a root that failed a check must not have an issuer by then, and since the issuer's key is made only
//! for a root that is there. Until an answer is there, each call is [`Outcome::Pending`]; the ceremony's name is the
//! ticket. That may take days and restarts: the book of ceremonies is durable, and the old root continues to sign.
//!
//! What comes back is judged against the book, never against the text that travelled: certificates alone, one for the key
//! of the CSR, a CA of the asked path length, valid as long as asked, signed under the root that was asked for. What does
//! not pass stays where it is; [`check`](RootAuthority::check) says why, and the wait goes on. A file with a private key
//! is refused whatever else is in it.
//!
//! Whoever may write into the inbox decides which root is brought; so the folder may not be writable for everybody.
//!
//! What it does not do: destroy a root's key, which it never had; and know the roots of other authorities, which the core
//! checks after it.
//!
//! Start at [`ManualAuthority`]; [`ManualPlugin`] lists it in a registry as `manual`. [`Ceremony`], [`Folder`] and [`judge`]
//! are what `banyan ceremony` works with.

mod book;
mod ceremony;
mod commands;
mod config;
mod folder;
mod judge;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use plugins::{
    AuthorityDeps, AuthorityPlugin, CallContext, ConfigProblem, Description, Health, IssuerChain,
    IssuerRequest, Outcome, PluginError, RequestId, RootAuthority, RootDer, RootSet, StageRequest,
    StageRoots, Ticket, WithdrawRequests,
};
use trust::{Root, RootId, Timestamp};

pub use ceremony::{Ceremony, NotACeremony};
pub use folder::{Folder, read_answer};
pub use judge::{Answer, Refused, judge};

use book::{Book, Entry, asked_issuer, asked_root};
use ceremony::{Asking, IssuerWanted};
use config::Settings;

/// Longer than any caller's pause: what was not asked for in this time nobody waits for.
const ASKED_WITHIN: Duration = Duration::from_secs(3 * 3_600);

/// An authority whose root is offline.
#[derive(Debug)]
pub struct ManualAuthority {
    deps: AuthorityDeps,
    settings: Settings,
    /// When each ceremony was last asked for, on the clock's uptime, by name.
    asked: Mutex<BTreeMap<String, Duration>>,
    /// Whose turn it is to change the book. It guards no data.
    turn: tokio::sync::Mutex<()>,
}

/// Lists [`ManualAuthority`] in a registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct ManualPlugin;

impl ManualPlugin {
    /// The directory that settings name, without opening anything; relative ones are below `base`.
    ///
    /// # Errors
    /// Every problem of the settings at once.
    pub fn directory(settings: &toml::Table, base: &Path) -> Result<PathBuf, Vec<ConfigProblem>> {
        Settings::read(settings, base).map(|settings| settings.directory)
    }
}

impl ManualAuthority {
    fn folder(&self) -> Folder {
        Folder::at(self.settings.directory.clone())
    }

    /// Sees to an unanswered ceremony: its text is out, and what was brought is taken if it passes.
    async fn look(&self, book: &mut Book, name: &str) -> Result<(), PluginError> {
        let Some(entry) = book.named(name) else { return Ok(()) };
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), self.deps.clock.uptime());
        let (folder, ceremony, known) = (self.folder(), entry.ceremony.clone(), book.in_use());
        let (answered, now) = (entry.answer.is_some(), self.deps.clock.now());
        let brought = blocking(move || match answered {
            true => Ok(None),
            false => folder.send(&ceremony).map(|()| folder.brought(&ceremony, &known, now)),
        });
        let brought = brought.await?.map_err(|error| self.no_folder(&error))?;
        if let Some(Ok(answer)) = brought {
            book.answer(name, &answer);
            book.store(self.deps.state.as_ref()).await?;
        }
        if book.named(name).is_some_and(|entry| entry.answer.is_some()) {
            let (folder, name) = (self.folder(), name.to_owned());
            // It is in the book: that the files lie about does no harm, and the next call tidies up again.
            let _ = blocking(move || folder.put_aside(&name)).await?;
        }
        Ok(())
    }

    fn no_folder(&self, error: &std::io::Error) -> PluginError {
        let directory = self.settings.directory.display();
        PluginError::AuthorityDown {
            detail: format!("the folder {directory} cannot be used: {error}"),
        }
    }

    fn pending<T>(&self, name: &str) -> Outcome<T> {
        Outcome::Pending { ticket: Ticket::new(name), retry_after: self.settings.look_every }
    }

    async fn issuer(
        &self,
        book: &mut Book,
        name: &str,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.look(book, name).await?;
        let chain = book.named(name).and_then(Entry::chain);
        Ok(chain.map_or_else(|| self.pending(name), Outcome::Ready))
    }

    fn asking<'a>(&'a self, context: &'a CallContext, at: Timestamp) -> Asking<'a> {
        let AuthorityDeps { name, trust_domain, .. } = &self.deps;
        Asking { authority: name, trust_domain, request_id: &context.request_id, at }
    }

    fn for_domain(&self, asked: &trust::TrustDomain) -> Result<(), PluginError> {
        match *asked == self.deps.trust_domain {
            true => Ok(()),
            false => Err(PluginError::denied(format!(
                "this authority stands for {}",
                self.deps.trust_domain
            ))),
        }
    }

    /// A new ceremony for an issuer, if the request can be kept.
    fn entry_for(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
        book: &Book,
    ) -> Result<Entry, PluginError> {
        self.for_domain(&request.trust_domain)?;
        request.verified_csr()?;
        let unknown =
            || PluginError::denied(format!("no ceremony brought root {}", request.root.short()));
        let brought = book.entry_of_root(&request.root).ok_or_else(unknown)?;
        let root =
            book.known().into_iter().find(|root| root.id() == request.root).ok_or_else(unknown)?;
        let (now, ends) = (self.deps.clock.now(), root.certificate().validity().not_after());
        if now.plus(request.ttl) > ends {
            let above =
                format!("root {} (\"{}\")", root.id().short(), root.certificate().subject_text());
            return Err(PluginError::Outlives { above, ends });
        }
        let wanted = IssuerWanted {
            root,
            root_ceremony: brought.ceremony.name.clone(),
            path_len: request.path_len,
            csr_der: request.csr_der.clone(),
        };
        let ceremony = Ceremony::for_issuer(&self.asking(context, now), request.ttl, wanted);
        Ok(Entry { ceremony, asked: asked_issuer(request), answer: None })
    }

    /// What is said of the ceremonies that somebody waits for.
    async fn waiting(&self, book: &Book) -> Result<Vec<Told>, PluginError> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let uptime = self.deps.clock.uptime();
        let recent = |entry: &&Entry| {
            let last = asked.get(&entry.ceremony.name);
            last.is_some_and(|last| uptime.saturating_sub(*last) < ASKED_WITHIN)
        };
        // Of each kind the last: a request that came later took the place of those before it.
        let mut waiting: Vec<Ceremony> = Vec::new();
        for is_root in [true, false] {
            let of_kind = book.entries.iter().filter(|entry| entry.is_root() == is_root);
            let mut unanswered = of_kind.filter(|entry| entry.answer.is_none()).filter(recent);
            waiting.extend(unanswered.next_back().map(|entry| entry.ceremony.clone()));
        }
        let (folder, known, now) = (self.folder(), book.in_use(), self.deps.clock.now());
        let told =
            blocking(move || waiting.iter().map(|one| tell(&folder, one, &known, now)).collect());
        told.await
    }
}

/// What to do for a ceremony.
struct Told {
    text: String,
    /// Whether what was brought is wrong.
    refused: bool,
}

fn tell(folder: &Folder, ceremony: &Ceremony, known: &[Root], now: Timestamp) -> Told {
    let (name, inbox) = (ceremony.name(), folder.answer_path(ceremony.name()));
    let brought = folder.brought(ceremony, known, now);
    let is_refused = matches!(brought, Some(Err(_)));
    let text = match brought {
        Some(Err(refused)) => {
            format!("{} is refused: {refused}; it is looked at again", inbox.display())
        }
        // Taken at the next look.
        Some(Ok(_)) => format!("{} is good and will be taken", inbox.display()),
        None => format!(
            "ceremony {name} waits for {}: carry {} to the offline root, follow it, and put what it makes into {}",
            ceremony.wanted(),
            folder.request_path(name).display(),
            inbox.display()
        ),
    };
    Told { text, refused: is_refused }
}

#[async_trait]
impl RootAuthority for ManualAuthority {
    fn describe(&self) -> Description {
        let described =
            Description::new(self.deps.name.clone(), "manual", env!("CARGO_PKG_VERSION"));
        let described =
            described.at(format!("the ceremonies in {}", self.settings.directory.display()));
        if self.settings.exclusive { described } else { described.shared() }
    }

    async fn check(&self, _context: &CallContext) -> Health {
        let book = match Book::load(self.deps.state.as_ref()).await {
            Ok(book) => book,
            Err(error) => return Health::down(error.to_string()),
        };
        let signing = book.roots().signing;
        let ends = book.known().into_iter().find(|root| Some(root.id()) == signing);
        let ends = ends.map(|root| root.certificate().validity().not_after());
        let folder = self.folder();
        let health = match blocking(move || folder.prepare()).await {
            Ok(Err(error)) => Health::down(self.no_folder(&error).to_string()),
            Err(error) => Health::down(error.to_string()),
            Ok(Ok(())) => match self.waiting(&book).await {
                Err(error) => Health::down(error.to_string()),
                Ok(waiting) if waiting.is_empty() => Health::ok(),
                Ok(waiting) => {
                    let refused = waiting.iter().any(|told| told.refused);
                    let text: Vec<_> = waiting.into_iter().map(|told| told.text).collect();
                    match refused {
                        true => Health::degraded(text.join("; ")),
                        false => Health::waiting(text.join("; ")),
                    }
                }
            },
        };
        health.until(ends)
    }

    async fn roots(&self, _context: &CallContext) -> Result<RootSet, PluginError> {
        Ok(Book::load(self.deps.state.as_ref()).await?.roots())
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let _turn = self.turn.lock().await;
        let mut book = Book::load(self.deps.state.as_ref()).await?;
        let found = book.of_request(&context.request_id, &asked_issuer(request))?;
        let name = match found {
            Some(entry) => entry.ceremony.name.clone(),
            None => {
                let entry = self.entry_for(context, request, &book)?;
                let name = entry.ceremony.name.clone();
                book.note(entry, self.deps.clock.now());
                book.store(self.deps.state.as_ref()).await?;
                name
            }
        };
        self.issuer(&mut book, &name).await
    }

    async fn poll(
        &self,
        _context: &CallContext,
        ticket: &Ticket,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let _turn = self.turn.lock().await;
        let mut book = Book::load(self.deps.state.as_ref()).await?;
        match book.named(ticket.as_str()) {
            Some(entry) if !entry.is_root() => self.issuer(&mut book, ticket.as_str()).await,
            _ => Err(PluginError::denied("no ceremony for an issuer has this name")),
        }
    }

    fn staging(&self) -> Option<&dyn StageRoots> {
        Some(self)
    }

    fn withdrawing(&self) -> Option<&dyn WithdrawRequests> {
        Some(self)
    }
}

#[async_trait]
impl WithdrawRequests for ManualAuthority {
    async fn open_requests(&self, _context: &CallContext) -> Result<Vec<RequestId>, PluginError> {
        let book = Book::load(self.deps.state.as_ref()).await?;
        let open = book.entries.iter().filter(|entry| entry.answer.is_none());
        Ok(open.map(|entry| entry.ceremony.request_id.clone()).collect())
    }

    async fn withdraw(
        &self,
        _context: &CallContext,
        request_id: &RequestId,
    ) -> Result<(), PluginError> {
        let _turn = self.turn.lock().await;
        let mut book = Book::load(self.deps.state.as_ref()).await?;
        let Some(name) = book.unanswered(request_id) else { return Ok(()) };
        let (folder, file) = (self.folder(), name.clone());
        // The files first: while the book has it, whoever looks takes it back again.
        let withdrawn = blocking(move || folder.withdraw(&file)).await?;
        withdrawn.map_err(|error| self.no_folder(&error))?;
        book.forget(&name);
        book.store(self.deps.state.as_ref()).await
    }
}

#[async_trait]
impl StageRoots for ManualAuthority {
    async fn stage(
        &self,
        context: &CallContext,
        request: &StageRequest,
    ) -> Result<Outcome<RootDer>, PluginError> {
        let _turn = self.turn.lock().await;
        let mut book = Book::load(self.deps.state.as_ref()).await?;
        let asked = asked_root(request);
        let name = match book.of_request(&context.request_id, &asked)? {
            Some(entry) => entry.ceremony.name.clone(),
            None => {
                self.for_domain(&request.trust_domain)?;
                let now = self.deps.clock.now();
                let ceremony =
                    Ceremony::for_root(&self.asking(context, now), request.lifetime, request.key);
                let name = ceremony.name.clone();
                book.note(Entry { ceremony, asked, answer: None }, now);
                book.store(self.deps.state.as_ref()).await?;
                name
            }
        };
        self.look(&mut book, &name).await?;
        let root = book.named(&name).and_then(|entry| entry.answer.as_ref()?.first().cloned());
        Ok(root.map_or_else(|| self.pending(&name), Outcome::Ready))
    }

    async fn activate(&self, _context: &CallContext, root: &RootId) -> Result<(), PluginError> {
        let _turn = self.turn.lock().await;
        let mut book = Book::load(self.deps.state.as_ref()).await?;
        match book.activate(root) {
            None => Err(PluginError::denied(format!("no ceremony brought root {}", root.short()))),
            Some(false) => Ok(()),
            Some(true) => book.store(self.deps.state.as_ref()).await,
        }
    }
}

impl AuthorityPlugin for ManualPlugin {
    fn name(&self) -> &'static str {
        "manual"
    }

    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        Settings::read(settings, Path::new("")).map(drop)
    }

    fn open(
        &self,
        settings: &toml::Table,
        deps: AuthorityDeps,
    ) -> Result<Arc<dyn RootAuthority>, Vec<ConfigProblem>> {
        let settings = Settings::read(settings, &deps.base)?;
        let turn = tokio::sync::Mutex::new(());
        Ok(Arc::new(ManualAuthority { deps, settings, asked: Mutex::default(), turn }))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PluginError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| PluginError::Transient { detail: error.to_string() })
}
