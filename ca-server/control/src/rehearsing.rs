//! The rehearsal before anything is published: leaves of the root that shall sign, and of the one that signs, shake hands in memory
//! as peers will in each coming phase ([decision 58](../../../docs/decisions/0058-rehearsed-before-it-is-published.md)).
//!
//! The leaves are rows of probes: durable before they are signed, held by nobody, and no member's, so that no gate and no verb
//! asks for them. Their keys never leave this process.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use issuance::{
    AuthorizedRequest, CountedSnapshot, IssueError, IssuedLeaf, Issuer, ServingNames, SignError,
    Signer, SignerParts, Snapshot, SnapshotCell,
};
use ledger::{Ledger, Witness};
use plugins::checks::CheckedIssuer;
use plugins::{KeyBackend, KeyHandle};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rehearsal::{Actor, OpenSsl, RustlsWebpki, Scene, Unshaken, Verifier};
use rotation::{Rehearsal, State};
use rotation_driver::EffectError;
use trust::{Bundle, PublicKey, RootId, Serial, SpiffeId, Timestamp, TrustDomain};

use crate::probing;

/// Wait for the server's first snapshot, at a start.
const STAGE_RETRY: std::time::Duration = std::time::Duration::from_millis(200);
/// The path of the identity that the leaves have. It is reserved, so nobody else ever gets it.
const PATH: &str = "/banyan/rehearsal";

/// Who judges in a rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RehearsalPolicy {
    /// Both verifiers; without the second nothing is published.
    Both,
    /// Both, where this host has the second; without it the first alone, and that is said.
    Available,
    /// The first alone, by somebody's choice.
    First,
    /// Nobody: there is no rehearsal.
    Never,
}

/// How this server rehearses.
#[derive(Debug)]
pub struct Rehearsing {
    /// Who judges.
    pub policy: RehearsalPolicy,
    /// Where the command of the second verifier is, if somebody says so.
    pub openssl: Option<PathBuf>,
    stage: OnceLock<Stage>,
}

/// What leaves are issued with.
#[derive(Debug)]
pub struct Stage {
    /// Issues them.
    pub issuer: Issuer,
    /// Their rows.
    pub ledger: Arc<Ledger>,
    /// The root that signs now.
    pub cell: Arc<SnapshotCell>,
    /// The names of the server's own leaf.
    pub names: ServingNames,
}

/// What is to be rehearsed.
pub(crate) struct Candidate<'a> {
    pub(crate) state: &'a State,
    pub(crate) root: RootId,
    pub(crate) checked: &'a CheckedIssuer,
    pub(crate) handle: &'a KeyHandle,
    pub(crate) keys: &'a Arc<dyn KeyBackend>,
    pub(crate) now: Timestamp,
}

/// Why a candidate is not taken.
#[derive(Debug)]
pub(crate) enum NotRehearsed {
    /// It may go better the next time, with the same answer of the authority.
    Effect(EffectError),
    /// A verifier refuses what peers would meet.
    Failed(String),
}

impl From<EffectError> for NotRehearsed {
    fn from(error: EffectError) -> Self {
        Self::Effect(error)
    }
}

impl Rehearsing {
    /// By a policy, with the command at this place or where the host has it.
    pub const fn new(policy: RehearsalPolicy, openssl: Option<PathBuf>) -> Self {
        Self { policy, openssl, stage: OnceLock::new() }
    }

    /// From now on there is something to rehearse with.
    pub fn set(&self, stage: Stage) {
        // Nobody else sets it.
        let _ = self.stage.set(stage);
    }

    /// Where the command of the second verifier is.
    ///
    /// # Errors
    /// What to do if it is nowhere.
    pub fn second(&self) -> Result<PathBuf, String> {
        rehearsal::program(self.openssl.as_deref(), std::env::var_os("PATH").as_deref())
    }

    /// Why nothing may be published as things are, if that is so.
    pub fn obstacle(&self) -> Option<String> {
        let why = self.second().err().filter(|_| self.policy == RehearsalPolicy::Both)?;
        Some(format!(
            "rotation.rehearse is \"both\", and the second verifier is missing, so no new root is published: {why}; or set \
             rotation.rehearse to \"available\""
        ))
    }

    /// What a rotation that begins now would be rehearsed with, in one sentence.
    pub fn forecast(&self) -> String {
        let first = "before anything is published, leaves of both roots shake hands in memory as in each coming phase, judged by";
        match (self.policy, self.second()) {
            (RehearsalPolicy::Never, _) => {
                "nothing is rehearsed before the new root is published: rotation.rehearse is \"never\"".to_owned()
            }
            (RehearsalPolicy::First, _) => {
                format!("{first} rustls-webpki alone: rotation.rehearse is \"rustls\"")
            }
            (RehearsalPolicy::Both | RehearsalPolicy::Available, Ok(program)) => {
                format!("{first} rustls-webpki and {}", program.display())
            }
            (RehearsalPolicy::Available, Err(why)) => format!("{first} rustls-webpki alone: {why}"),
            (RehearsalPolicy::Both, Err(why)) => {
                format!("nothing is published before two verifiers have judged it, and one is missing: {why}")
            }
        }
    }

    /// Refuses before an authority is asked for anything that could not be rehearsed.
    pub(crate) fn ready(&self) -> Result<(), EffectError> {
        self.obstacle().map_or(Ok(()), |why| Err(refused(&why)))
    }

    /// Rehearses each coming phase with an issuer of a root that does not sign yet. Nothing of another root is: a bootstrap has
    /// nobody to meet, and the root of a renewed issuer is in use.
    pub(crate) async fn rehearse(
        &self,
        candidate: &Candidate<'_>,
    ) -> Result<Option<Rehearsal>, NotRehearsed> {
        let entry = candidate.state.roots.get(&candidate.root);
        let comes = entry.is_some_and(|entry| entry.state.is_on_its_way_in());
        let Some(from) = candidate.state.signing_root().filter(|_| comes) else { return Ok(None) };
        if self.policy == RehearsalPolicy::Never {
            let left_out = vec!["rotation.rehearse is \"never\"".to_owned()];
            return Ok(Some(Rehearsal { left_out, ..Rehearsal::default() }));
        }
        let stage = self.stage()?;
        let (verifiers, mut left_out) = self.verifiers().await?;
        let mut cast = Cast::new(stage);
        let scenes = cast.scenes(candidate, from, &mut left_out).await;
        cast.leave().await;
        let (scenes, now) = (scenes?, candidate.now);
        let shaken = tokio::task::spawn_blocking(move || all(&scenes, &verifiers, now)).await;
        let shaken = shaken.map_err(|error| unavailable(&error))?;
        self.concluded(shaken, left_out).map(Some)
    }

    pub(crate) fn stage(&self) -> Result<&Stage, EffectError> {
        self.stage.get().ok_or_else(|| EffectError::NotYet {
            reason: "the server is starting, and has no leaf of the present root to rehearse with"
                .to_owned(),
            retry_after: STAGE_RETRY,
        })
    }

    pub(crate) fn concluded(
        &self,
        shaken: Shaken,
        mut left_out: Vec<String>,
    ) -> Result<Rehearsal, NotRehearsed> {
        if let Some(failure) = shaken.failed {
            return Err(NotRehearsed::Failed(failure));
        }
        if let Some(why) = shaken.not_judged {
            if self.policy == RehearsalPolicy::Both {
                return Err(refused(&format!("the rehearsal is not complete: {why}")).into());
            }
            left_out.push(why);
        }
        for what in &left_out {
            tracing::warn!(what, "not all was rehearsed");
        }
        let Shaken { verifiers, handshakes, .. } = shaken;
        tracing::info!(
            handshakes,
            verifiers = verifiers.join(", "),
            "the coming phases are rehearsed"
        );
        Ok(Rehearsal { verifiers, handshakes, left_out })
    }

    pub(crate) async fn verifiers(
        &self,
    ) -> Result<(Vec<Arc<dyn Verifier>>, Vec<String>), EffectError> {
        let mut verifiers: Vec<Arc<dyn Verifier>> = vec![Arc::new(RustlsWebpki)];
        let second = match self.policy {
            RehearsalPolicy::First | RehearsalPolicy::Never => {
                let text = "no second verifier judged: rotation.rehearse is \"rustls\"".to_owned();
                return Ok((verifiers, vec![text]));
            }
            RehearsalPolicy::Both | RehearsalPolicy::Available => match self.second() {
                Ok(program) => {
                    let asked = tokio::task::spawn_blocking(|| OpenSsl::at(program)).await;
                    asked.map_err(|error| unavailable(&error))?
                }
                Err(why) => Err(why),
            },
        };
        match (second, self.policy) {
            (Ok(second), _) => {
                verifiers.push(Arc::new(second));
                Ok((verifiers, Vec::new()))
            }
            (Err(why), RehearsalPolicy::Both) => {
                Err(refused(&format!("the second verifier of the rehearsal is missing: {why}")))
            }
            (Err(why), _) => Ok((verifiers, vec![format!("no second verifier judged: {why}")])),
        }
    }
}

/// What came of all handshakes.
pub(crate) struct Shaken {
    verifiers: Vec<String>,
    handshakes: u32,
    failed: Option<String>,
    not_judged: Option<String>,
}

/// Every scene before every verifier. One that comes to no judgement is left out from then on.
pub(crate) fn all(scenes: &[Scene], verifiers: &[Arc<dyn Verifier>], now: Timestamp) -> Shaken {
    let mut shaken =
        Shaken { verifiers: Vec::new(), handshakes: 0, failed: None, not_judged: None };
    for verifier in verifiers {
        let mut judged = 0;
        for scene in scenes {
            match rehearsal::shake(scene, verifier, now) {
                Ok(()) => judged += 1,
                Err(Unshaken::Failed(failure)) => {
                    shaken.failed = Some(failure.to_string());
                    return shaken;
                }
                Err(unjudged @ Unshaken::NotJudged { .. }) => {
                    shaken.not_judged = Some(unjudged.to_string());
                    judged = 0;
                    break;
                }
            }
        }
        if judged > 0 {
            shaken.handshakes += judged;
            shaken.verifiers.push(verifier.name());
        }
    }
    shaken
}

/// Everybody who plays, and what they leave behind.
pub(crate) struct Cast<'a> {
    stage: &'a Stage,
    serials: Vec<Serial>,
}

/// One root and the leaves of it, one of each profile.
type Actors = Vec<Arc<Actor>>;

impl<'a> Cast<'a> {
    pub(crate) const fn new(stage: &'a Stage) -> Self {
        Self { stage, serials: Vec::new() }
    }

    async fn scenes(
        &mut self,
        candidate: &Candidate<'_>,
        from: RootId,
        left_out: &mut Vec<String>,
    ) -> Result<Vec<Scene>, NotRehearsed> {
        let Candidate { state, root, .. } = candidate;
        let known = candidate.state.roots.get(root).map(|entry| entry.der.as_bytes());
        let mut both: Vec<_> = state.bundle().into_values().map(|der| der.as_bytes()).collect();
        both.extend(known.filter(|der| !both.contains(der)));
        let without_old: Vec<_> =
            both.iter().filter(|der| RootId::of(der) != from).map(|der| der.to_vec()).collect();
        let bundle = Bundle::from_ders(state.trust_domain.clone(), state.sequence, &both).map_err(
            |error| NotRehearsed::Failed(format!("the new root makes no bundle: {error}")),
        )?;
        let new = self.new_actors(candidate, bundle).await?;
        let old = match self
            .actors(&format!("the old root {}", from.short()), self.stage.cell.load())
            .await
        {
            Ok(old) => old,
            Err(error) => {
                left_out.push(format!("no leaf of the present root could be made ({error}), so none met a leaf of the new one"));
                Vec::new()
            }
        };
        let both = Arc::new(both.iter().map(|der| der.to_vec()).collect::<Vec<_>>());
        let names = |ders: &[Vec<u8>]| {
            let ids: Vec<_> = ders.iter().map(|der| RootId::of(der).short().to_string()).collect();
            ids.join(", ")
        };
        let (both_names, rest_names) = (names(&both), names(&without_old));
        let rest = Arc::new(without_old);
        let scene = |phase,
                     bundle: &Arc<Vec<Vec<u8>>>,
                     roots: &str,
                     client: &Arc<Actor>,
                     server: &Arc<Actor>| Scene {
            phase,
            bundle: Arc::clone(bundle),
            roots: roots.to_owned(),
            client: Arc::clone(client),
            server: Arc::clone(server),
        };
        let mut scenes = Vec::new();
        for (old, new) in old.iter().zip(&new) {
            scenes.push(scene("distributing", &both, &both_names, old, old));
            scenes.push(scene("draining", &both, &both_names, old, new));
            scenes.push(scene("draining", &both, &both_names, new, old));
        }
        for new in &new {
            scenes.push(scene("draining", &both, &both_names, new, new));
            scenes.push(scene("withdrawing", &rest, &rest_names, new, new));
        }
        Ok(scenes)
    }

    async fn new_actors(
        &mut self,
        candidate: &Candidate<'_>,
        bundle: Bundle,
    ) -> Result<Actors, NotRehearsed> {
        let Candidate { state, root, checked, handle, keys, now } = candidate;
        let parts = SignerParts {
            keys: Arc::clone(keys),
            key: handle.id.clone(),
            public: handle.public.clone(),
            chain: checked.chain().to_vec(),
        };
        let signer = Signer::verify_under(parts, &bundle, *root, *now)
            .map_err(|error| NotRehearsed::Failed(error.to_string()))?;
        let until = now.plus(probing::life(self.stage.issuer.profile()));
        let snapshot = Snapshot::new(state.generation, bundle, Arc::new(signer), until)
            .map_err(|error| NotRehearsed::Failed(error.to_string()))?;
        let snapshot = SnapshotCell::new(snapshot).load();
        let made = self.actors(&format!("the new root {}", root.short()), snapshot).await;
        made.map_err(|error| error.judged(root))
    }

    /// One leaf of each profile in use.
    pub(crate) async fn actors(
        &mut self,
        root: &str,
        snapshot: CountedSnapshot,
    ) -> Result<Actors, NoActor> {
        let none = ServingNames::default();
        let mut profiles = vec![("workload", none.clone())];
        if self.stage.names != none {
            profiles.push(("server", self.stage.names.clone()));
        }
        let mut actors = Vec::new();
        for (profile, names) in profiles {
            let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let leaf = self.leaf(&pair, names, snapshot.clone()).await?;
            self.serials.push(leaf.serial());
            let (chain, key) = (leaf.chain_der(), pair.serialize_der());
            actors.push(Arc::new(Actor { profile, root: root.to_owned(), chain, key }));
        }
        Ok(actors)
    }

    async fn leaf(
        &self,
        pair: &KeyPair,
        names: ServingNames,
        snapshot: CountedSnapshot,
    ) -> Result<IssuedLeaf, NoActor> {
        let public = PublicKey::parse(&pair.subject_public_key_info())?;
        let identity = identity(snapshot.bundle().trust_domain())?;
        let life = probing::life(self.stage.issuer.profile());
        let request = AuthorizedRequest::rehearsal(identity, public, names, life)?;
        Ok(self.stage.issuer.issue(&request, snapshot).await?)
    }

    /// Their rows end at once: nobody holds the leaves any more.
    pub(crate) async fn leave(self) {
        for serial in self.serials {
            if let Err(error) = self.stage.ledger.release(Witness::Server, serial).await {
                tracing::warn!(%error, %serial, "a leaf of a rehearsal stays in the ledger until its end");
            }
        }
    }
}

fn identity(domain: &TrustDomain) -> Result<SpiffeId, trust::SpiffeIdError> {
    SpiffeId::for_path(domain, PATH)
}

/// Why there is no leaf to rehearse with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoActor {
    #[error("cannot make a key: {0}")]
    Key(#[from] rcgen::Error),
    #[error("cannot read the key that was made: {0}")]
    Public(#[from] trust::key::KeyError),
    #[error(transparent)]
    Identity(#[from] trust::SpiffeIdError),
    #[error(transparent)]
    Reserved(#[from] issuance::IdentityReserved),
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl NoActor {
    /// A leaf of this root that a verifier refuses is a failure; anything else may go better the next time.
    pub(crate) fn judged(self, root: &RootId) -> NotRehearsed {
        match self {
            Self::Issue(IssueError::Sign(SignError::Peer(error))) => NotRehearsed::Failed(format!(
                "rustls-webpki refuses a leaf of the new root {}: {error}",
                root.short()
            )),
            other => unavailable(&other).into(),
        }
    }
}

fn refused(reason: &str) -> EffectError {
    EffectError::Refused { reason: reason.to_owned() }
}

fn unavailable(error: &dyn std::fmt::Display) -> EffectError {
    EffectError::Unavailable { reason: error.to_string() }
}

/// What was rehearsed with the issuers of a root, and what was not, one sentence each.
pub fn said(state: &State, root: &RootId) -> Vec<String> {
    let issuers = state.roots.get(root).into_iter().flat_map(|entry| entry.issuers.values());
    let mut said = Vec::new();
    for rehearsal in issuers.filter_map(|issuer| issuer.rehearsal.as_ref()) {
        said.push(rehearsal.in_words());
        said.extend(rehearsal.left_out.iter().map(|what| format!("not rehearsed: {what}")));
    }
    said.sort();
    said.dedup();
    said
}

/// What was rehearsed of the root that comes before it was published.
pub fn of_next(state: &State) -> Vec<String> {
    let to = state.phase.changes().map(|(_, to)| to);
    to.map(|to| said(state, &to)).unwrap_or_default()
}

/// What was not rehearsed of a root that is on its way, or stands by: worth knowing, and not wrong.
pub fn left_out(state: &State) -> Vec<String> {
    let next = state.phase.changes().map(|(_, to)| to);
    let standby = state.standby().map(|(id, _)| *id);
    let of_root = |root: RootId| {
        let missing = said(state, &root).into_iter().filter_map(|text| {
            let what = text.strip_prefix("not rehearsed: ")?;
            Some(format!(
                "root {} was not rehearsed in full before it was published: {what}",
                root.short()
            ))
        });
        missing.collect::<Vec<_>>()
    };
    next.into_iter().chain(standby).flat_map(of_root).collect()
}
