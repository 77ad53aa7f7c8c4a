//! An issuer, asked of the authority of its root: the key is made first, the request is stored before it is sent, and its
//! life fits what stands above it.

use std::sync::Arc;
use std::time::Duration;

use plugins::ca_certificate::build_issuer_csr;
use plugins::checks::{CheckedIssuer, IssuerExpectation, check_issuer_answer, prove_key};
use plugins::{IssuerRequest, KeyHandle, PluginError, RequestId, RootAuthority};
use rotation::{Der, KeyName, SignedIssuer, State};
use rotation_driver::EffectError;
use trust::csr::ParsedCsr;
use trust::{Root, RootId, Timestamp};

use crate::rehearsing::{Candidate, NotRehearsed};
use crate::requests::{Attempt, Sent};
use crate::work::{CaEffects, context, plugin, refused, retired, roots_of, unavailable};

/// Time left between the end of an issuer and that of what stands above it, so that clocks and delays never cross them.
const MARGIN: Duration = Duration::from_secs(60);
/// Issuers sign leaves only.
const ISSUER_PATH_LEN: u8 = 0;

/// Whose issuer is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) state: &'a State,
    /// The effect's idempotence key.
    pub(crate) key: &'a str,
    /// The authority's name.
    pub(crate) name: &'a str,
    pub(crate) root: RootId,
}

/// Why one attempt came to nothing.
enum Failed {
    /// The attempt may be repeated as it is.
    Effect(EffectError),
    /// The authority said no, or its answer failed the checks.
    Plugin(PluginError),
    /// The answer passed the checks, and peers would refuse what comes of it.
    Rehearsal(String),
}

impl From<NotRehearsed> for Failed {
    fn from(error: NotRehearsed) -> Self {
        match error {
            NotRehearsed::Effect(error) => Self::Effect(error),
            NotRehearsed::Failed(failure) => Self::Rehearsal(failure),
        }
    }
}

impl From<EffectError> for Failed {
    fn from(error: EffectError) -> Self {
        Self::Effect(error)
    }
}

impl CaEffects {
    /// Asks for an issuer. What stands above and ends too early shortens it once, and with a warning.
    pub(crate) async fn request_issuer(
        &self,
        wanted: Wanted<'_>,
    ) -> Result<SignedIssuer, EffectError> {
        let authority = self.authority(wanted.name)?;
        let attempt = self.current_attempt(wanted.key).await?;
        let (above, ends, attempt) = match self.attempted(wanted, authority, attempt.clone()).await
        {
            Err(Failed::Plugin(PluginError::Outlives { above, ends })) => (above, ends, attempt),
            other => return self.concluded(wanted.key, &attempt, other).await,
        };
        let at_most = self.allowed(&above, ends);
        let next =
            self.requests().over(wanted.key, &attempt, at_most.as_ref().ok().copied()).await?;
        let at_most = at_most.map_err(|reason| refused(&reason))?;
        tracing::warn!(
            authority = wanted.name,
            above,
            %ends,
            seconds = at_most,
            "the issuer is asked for with a shorter life than root.issuer_lifetime: what stands above it ends before"
        );
        let answered = self.attempted(wanted, authority, next.clone()).await;
        self.concluded(wanted.key, &next, answered).await
    }

    /// The attempt that counts now. One whose key is lost, with the disk that it was on, is over: what comes of it would be an
    /// issuer that nobody can sign with.
    async fn current_attempt(&self, key: &str) -> Result<Attempt, EffectError> {
        let attempt = self.requests().current(key).await?;
        let Some(sent) = &attempt.sent else { return Ok(attempt) };
        let handle = self.issuer_key(key, &attempt).await?;
        let asked = ParsedCsr::from_der(&sent.csr)
            .map_err(|error| refused(&format!("the stored request for this issuer: {error}")))?;
        if *asked.public_key() == handle.public {
            return Ok(attempt);
        }
        tracing::warn!(
            request = attempt.id(key),
            "the key that an issuer was asked for with is lost: it is asked for with a new one"
        );
        self.requests().over(key, &attempt, attempt.at_most_secs).await
    }

    /// A refused attempt is over; whatever else came of it may be repeated.
    async fn concluded(
        &self,
        key: &str,
        attempt: &Attempt,
        answered: Result<SignedIssuer, Failed>,
    ) -> Result<SignedIssuer, EffectError> {
        match answered {
            Ok(issuer) => Ok(issuer),
            Err(Failed::Effect(error)) => Err(error),
            Err(Failed::Rehearsal(failure)) => {
                self.requests().over(key, attempt, None).await?;
                Err(refused(&format!(
                    "the rehearsal failed: {failure}; nothing is published. Mend it at the authority: it is asked for another issuer by \
                     itself. If the root itself is wrong, `banyan rotate abort` and start anew"
                )))
            }
            Err(Failed::Plugin(error)) => {
                if !error.may_be_repeated() {
                    self.requests().over(key, attempt, None).await?;
                }
                Err(plugin(error))
            }
        }
    }

    /// How long an issuer may live below something that ends then, in seconds.
    ///
    /// # Errors
    /// What to do if that is too short.
    fn allowed(&self, above: &str, ends: Timestamp) -> Result<u64, String> {
        let left = ends.since(self.clock.now().plus(MARGIN));
        let min = self.shapes.issuer_lifetime_min;
        if left >= min {
            return Ok(left.as_secs());
        }
        Err(format!(
            "{above} ends at {ends}, which leaves {} for an issuer below it; root.issuer_lifetime_min wants {} at least: put \
             certificates there that last longer, or set root.issuer_lifetime and root.issuer_lifetime_min lower",
            trust::plain::span(left),
            trust::plain::span(min)
        ))
    }

    /// One attempt: the request as it was sent before, or a new one.
    async fn attempted(
        &self,
        wanted: Wanted<'_>,
        authority: &Arc<dyn RootAuthority>,
        attempt: Attempt,
    ) -> Result<SignedIssuer, Failed> {
        let id = attempt.id(wanted.key);
        let context = context(&id)?;
        let handle = self.issuer_key(wanted.key, &attempt).await?;
        let announced = roots_of(wanted.state, |entry| !entry.state.is_retired());
        let request = self.stored_request(wanted, &announced, attempt, &handle).await?;
        let signed = match self.tickets().due(&id).await? {
            Some(ticket) => match authority.poll(&context, &ticket).await {
                // It forgot the ticket. Asked under the same request id it makes nothing twice.
                Err(PluginError::Denied { .. }) => authority.sign_issuer(&context, &request).await,
                polled => polled,
            },
            None => authority.sign_issuer(&context, &request).await,
        };
        let signed = signed.map_err(Failed::Plugin)?;
        let answer = self.tickets().settle(&id, authority.as_ref(), &context, signed).await?;
        let now = self.clock.now();
        let expected = IssuerExpectation {
            key: &handle.public,
            trust_domain: &self.trust_domain,
            root: wanted.root,
            path_len: ISSUER_PATH_LEN,
            now,
            covers_until: now.plus(self.shapes.leaf_lifetime_max),
            announced: &announced,
            retired: &retired(wanted.state),
        };
        let checked = check_issuer_answer(&answer, &expected)
            .map_err(|error| Failed::Plugin(error.into()))?;
        let issuer = self.proven(&handle, wanted.root, &checked).await?;
        let Wanted { state, root, .. } = wanted;
        let (checked, handle, keys) = (&checked, &handle, &self.keys);
        let candidate = Candidate { state, root, checked, handle, keys, now };
        let rehearsal = self.rehearsing.rehearse(&candidate).await?;
        Ok(SignedIssuer { rehearsal, ..issuer })
    }

    /// The key really is ours.
    async fn proven(
        &self,
        handle: &KeyHandle,
        root: RootId,
        checked: &CheckedIssuer,
    ) -> Result<SignedIssuer, Failed> {
        prove_key(self.keys.as_ref(), &handle.id, &handle.public, self.randomness.as_ref())
            .await
            .map_err(|error| unavailable(&error))?;
        let issuer = checked
            .chain()
            .first()
            .ok_or_else(|| refused("the authority answered with no issuer"))?;
        Ok(SignedIssuer {
            id: issuer.id(),
            root,
            chain: checked.chain().iter().map(|certificate| Der::from(certificate.der())).collect(),
            key: KeyName::parse(handle.id.as_str()).map_err(|error| refused(&error.to_string()))?,
            not_after: checked.not_after(),
            rehearsal: None,
        })
    }

    /// The key of what was sent; for a new request one of the kind that is configured now.
    async fn issuer_key(&self, key: &str, attempt: &Attempt) -> Result<KeyHandle, EffectError> {
        let spec = self.shapes.issuer_key;
        let name = match (&attempt.sent, attempt.attempt) {
            (Some(sent), _) => sent.key.clone(),
            (None, 0) => key.to_owned(),
            // One key of a kind, however often the request is refused.
            (None, _) => format!("{key}.{spec}"),
        };
        let id = RequestId::parse(&name).map_err(|error| refused(&error.to_string()))?;
        let made = self.keys.generate(&id, spec).await;
        made.map_err(PluginError::from).map_err(plugin)
    }

    /// The request as it was sent before, or a new one, stored before it is sent.
    async fn stored_request(
        &self,
        wanted: Wanted<'_>,
        announced: &[Root],
        mut attempt: Attempt,
        handle: &KeyHandle,
    ) -> Result<IssuerRequest, EffectError> {
        let sent = match &attempt.sent {
            Some(sent) => sent.clone(),
            None => {
                let csr = build_issuer_csr(self.keys.as_ref(), handle).await;
                let csr = csr.map_err(|error| unavailable(&error))?;
                let ttl = self.issuer_ttl(announced, wanted.root)?;
                let name = match attempt.attempt {
                    0 => wanted.key.to_owned(),
                    _ => format!("{}.{}", wanted.key, self.shapes.issuer_key),
                };
                let ttl_secs = ttl.min(attempt.at_most_secs.unwrap_or(u64::MAX));
                let sent = Sent { root: wanted.root.to_string(), ttl_secs, csr, key: name };
                attempt.sent = Some(sent.clone());
                self.requests().sending(wanted.key, &attempt).await?;
                sent
            }
        };
        if sent.root != wanted.root.to_string() {
            return Err(refused("the stored request for this issuer names another root"));
        }
        let ttl = Duration::from_secs(sent.ttl_secs);
        let request = IssuerRequest::new(wanted.root, sent.csr, self.trust_domain.clone(), ttl);
        Ok(request.with_path_len(ISSUER_PATH_LEN))
    }

    /// The configured life, or what the root has left.
    fn issuer_ttl(&self, announced: &[Root], root: RootId) -> Result<u64, EffectError> {
        let root = announced.iter().find(|known| known.id() == root);
        let root = root.ok_or_else(|| refused("the root of this issuer is not known"))?;
        let (wanted, ends) =
            (self.shapes.issuer_lifetime, root.certificate().validity().not_after());
        if ends.since(self.clock.now().plus(MARGIN)) >= wanted {
            return Ok(wanted.as_secs());
        }
        let above =
            format!("root {} (\"{}\")", root.id().short(), root.certificate().subject_text());
        let at_most = self.allowed(&above, ends);
        at_most.map_err(|reason| refused(&format!("{reason}; start a rotation to a new root")))
    }
}
