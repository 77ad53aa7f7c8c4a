//! What the upstream CA said last and passed the checks: kept durably, since it is what its certificate is judged by.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plugins::{AuthorityState, PluginError, RootDer, RootSet, StateName, UpstreamState};
use proto::banyan::downstream::v1 as wire;
use serde::{Deserialize, Serialize};
use trust::{Root, RootId, TrustDomain};

/// Format of the document; another one is refused, never guessed at.
const FORMAT: u32 = 1;
/// Roots that a bundle above may have.
const ROOTS_MAX: usize = 64;

/// The last state that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// One more at each change of the roots or of the signing one.
    changes: u64,
    /// Sequence of the bundle; it never goes back.
    sequence: u64,
    roots: Vec<RootDer>,
    signing: Option<RootId>,
    /// Roots of others in the bundle.
    further: Vec<RootDer>,
    /// SHA-256 of the file of the first contact, as it was when this was accepted.
    file: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: u32,
    changes: u64,
    sequence: u64,
    roots: Vec<String>,
    signing: Option<String>,
    /// A former release kept none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    further: Vec<String>,
    file: String,
}

impl Accepted {
    pub(crate) async fn load(state: &dyn AuthorityState) -> Result<Self, PluginError> {
        let read = state.get(&name()?).await;
        let Some(bytes) =
            read.map_err(|error| PluginError::Transient { detail: error.to_string() })?
        else {
            return Ok(Self::default());
        };
        let form: Form =
            serde_json::from_slice(&bytes).map_err(|error| unreadable(&error.to_string()))?;
        if form.format != FORMAT {
            return Err(unreadable(&format!(
                "it has format {}, and this program knows {FORMAT}",
                form.format
            )));
        }
        let decoded = |texts: &[String]| -> Result<Vec<RootDer>, PluginError> {
            let read = texts.iter().map(|text| STANDARD.decode(text)).collect::<Result<_, _>>();
            read.map_err(|error| unreadable(&error.to_string()))
        };
        let signing =
            form.signing.map(|id| id.parse().map_err(|_| unreadable("a root's id"))).transpose()?;
        Ok(Self {
            changes: form.changes,
            sequence: form.sequence,
            roots: decoded(&form.roots)?,
            signing,
            further: decoded(&form.further)?,
            file: form.file,
        })
    }

    pub(crate) async fn store(&self, state: &dyn AuthorityState) -> Result<(), PluginError> {
        let form = Form {
            format: FORMAT,
            changes: self.changes,
            sequence: self.sequence,
            roots: self.roots.iter().map(|root| STANDARD.encode(root)).collect(),
            signing: self.signing.map(|id| id.to_string()),
            further: self.further.iter().map(|root| STANDARD.encode(root)).collect(),
            file: self.file.clone(),
        };
        let bytes = serde_json::to_vec(&form)
            .map_err(|error| PluginError::Permanent { detail: error.to_string() })?;
        let stored = state.put(&name()?, &bytes).await;
        stored.map_err(|error| PluginError::Transient { detail: error.to_string() })
    }

    /// The roots that the certificate of the upstream CA may chain to; none before the first contact, and after an operator
    /// changed the file of it: then the file counts, too.
    pub(crate) fn trusted(&self, file: &str) -> (&[RootDer], bool) {
        (&self.roots, self.roots.is_empty() || self.file != file)
    }

    /// What is announced.
    pub(crate) fn roots(&self) -> RootSet {
        RootSet::new(self.roots.clone(), self.signing, self.changes)
            .with_further(self.further.clone())
    }

    /// This after another state of the upstream CA, which is checked.
    pub(crate) fn after(
        &self,
        told: &wire::UpstreamState,
        trust_domain: &TrustDomain,
        file: &str,
    ) -> Result<(Self, UpstreamState), PluginError> {
        if told.trust_domain != trust_domain.as_str() {
            let reason = format!(
                "the upstream CA is of another trust domain than {trust_domain}; both CAs have the same"
            );
            return Err(PluginError::Denied { reason });
        }
        if told.sequence < self.sequence {
            let detail = format!(
                "the upstream CA went back from bundle {} to {}: was it restored from an old backup?",
                self.sequence, told.sequence
            );
            return Err(PluginError::Permanent { detail });
        }
        let distinct: BTreeSet<_> = told.roots.iter().collect();
        let all = told.roots.len().saturating_add(told.further.len());
        let apart =
            distinct.iter().copied().chain(&told.further).collect::<BTreeSet<_>>().len() == all;
        if told.roots.is_empty() || all > ROOTS_MAX || distinct.len() != told.roots.len() || !apart
        {
            return Err(malformed("a bundle has 1 to 64 roots, each once"));
        }
        let mut ids = Vec::with_capacity(told.roots.len());
        for der in &told.roots {
            ids.push(Root::parse(der).map_err(|error| malformed(&error.to_string()))?.id());
        }
        let signing = RootId::from_bytes(&told.signing).filter(|id| ids.contains(id));
        let signing = signing.ok_or_else(|| malformed("the signing root is not in the bundle"))?;
        let same_roots = distinct == self.roots.iter().collect();
        if told.sequence == self.sequence && !same_roots {
            return Err(malformed("one sequence has two bundles"));
        }
        let same_further =
            self.further.iter().collect::<BTreeSet<_>>() == told.further.iter().collect();
        let changed = !same_roots || !same_further || self.signing != Some(signing);
        let next = Self {
            changes: self.changes + u64::from(changed),
            sequence: told.sequence,
            // The same roots in another order are no other answer.
            roots: if same_roots { self.roots.clone() } else { told.roots.clone() },
            signing: Some(signing),
            further: if same_further { self.further.clone() } else { told.further.clone() },
            file: file.to_owned(),
        };
        let upstream =
            UpstreamState::new(told.sequence, told.roots.clone(), signing, told.generation);
        let upstream = upstream.with_further(told.further.clone());
        Ok((next, upstream))
    }
}

fn name() -> Result<StateName, PluginError> {
    StateName::parse("tier-above")
        .map_err(|error| PluginError::Permanent { detail: error.to_string() })
}

fn unreadable(detail: &str) -> PluginError {
    PluginError::Permanent {
        detail: format!(
            "what the upstream CA said last cannot be read ({detail}); restore the data directory from a backup"
        ),
    }
}

pub(crate) fn malformed(what: &str) -> PluginError {
    let detail = format!(
        "the answer of the upstream CA does not fit: {what}; are both of versions that go together?"
    );
    PluginError::Permanent { detail }
}

#[cfg(test)]
mod tests;
