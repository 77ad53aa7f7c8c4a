//! Cross certificates as an authority with keys of its own makes them, and its memory of them.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use trust::{Certificate, Randomness, Root, Serial, Timestamp, TrustDomain, Validity};

use crate::authority::CrossSignRequest;
use crate::ca_certificate::{CaSigner, CrossProfile, sign_cross};
use crate::call::RequestId;
use crate::checks::{CrossExpectation, check_cross_answer};
use crate::error::PluginError;

/// Below a cross certificate stands at least the issuer of the other root.
const PATH_LEN: u8 = 1;
/// How far before now it starts, so that peers whose clocks are behind take it at once.
const BACKDATE: Duration = Duration::from_secs(60);

/// An own root that signs another one, and what is needed for that.
pub struct CrossSigner<'a> {
    /// The own root's key.
    pub signer: CaSigner<'a>,
    /// The own root.
    pub root: &'a Root,
    /// The trust domain that both stand for.
    pub trust_domain: &'a TrustDomain,
    /// The time of the request.
    pub now: Timestamp,
    /// Where the serial number comes from.
    pub randomness: &'a dyn Randomness,
}

/// A cross certificate that is about to be answered, and passed the checks that the caller makes.
#[derive(Clone, Debug)]
pub struct JudgedCross(Certificate);

/// Which request for a cross certificate got which answer, by request id, until it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CrossAnswers(BTreeMap<String, CrossAnswer>);

/// What one request got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CrossAnswer {
    asked: String,
    ends: i64,
    der: String,
}

impl CrossSigner<'_> {
    /// Signs what was asked for.
    ///
    /// # Errors
    /// As [`CrossSign::cross_sign`](crate::CrossSign::cross_sign).
    pub async fn sign(&self, request: &CrossSignRequest) -> Result<JudgedCross, PluginError> {
        let other = Root::parse(&request.other_root)
            .map_err(|error| PluginError::denied(format!("the other root is none: {error}")))?;
        self.fits(&other)?;
        let most = self.now.plus(request.ttl);
        for root in [self.root, &other] {
            let ends = root.certificate().validity().not_after();
            if most > ends {
                return Err(PluginError::Outlives { above: named(root), ends });
            }
        }
        let begins = self.root.certificate().validity().not_before();
        let validity = Validity::new(self.now.minus(BACKDATE).max(begins), most)
            .map_err(|error| PluginError::denied(error.to_string()))?;
        let [own, others] = [self.root, &other].map(path_len);
        let below_own = own.map(|most| most.saturating_sub(1));
        let profile = CrossProfile {
            trust_domain: self.trust_domain.clone(),
            serial: Serial::random(self.randomness),
            validity,
            path_len: [below_own, others].into_iter().flatten().min(),
        };
        let signed = sign_cross(&self.signer, &other, &profile).await?;
        let expected = CrossExpectation {
            other: &other,
            signer: self.root,
            trust_domain: self.trust_domain,
            path_len: PATH_LEN,
            now: self.now,
            least: most,
            most,
        };
        Ok(JudgedCross(check_cross_answer(signed.der(), &expected)?))
    }

    /// Whether the other root can stand below the own one.
    fn fits(&self, other: &Root) -> Result<(), PluginError> {
        let (own, subject) = (self.root, other.certificate().subject_der());
        if subject == own.certificate().subject_der() {
            return Err(PluginError::denied(format!(
                "{} has the name of {}: a certificate of one under the other would look like a root",
                named(other),
                named(own)
            )));
        }
        match path_len(own).filter(|found| *found <= PATH_LEN) {
            Some(found) => Err(PluginError::denied(format!(
                "{} has path length {found}: another root with its issuer does not fit below it; only a root with path length 2 or \
                 more, or without one, can cross-sign",
                named(own)
            ))),
            None => Ok(()),
        }
    }
}

impl JudgedCross {
    /// The certificate to answer with.
    pub fn der(&self) -> &[u8] {
        self.0.der()
    }
}

impl CrossAnswers {
    /// The answer that this request got before.
    ///
    /// # Errors
    /// `Denied` when the id was used for another request.
    pub fn answered(
        &self,
        id: &RequestId,
        request: &CrossSignRequest,
    ) -> Result<Option<Vec<u8>>, PluginError> {
        match self.0.get(id.as_str()) {
            None => Ok(None),
            Some(answer) if answer.asked == request.fingerprint() => {
                let der = STANDARD.decode(&answer.der).map_err(|error| PluginError::Permanent {
                    detail: format!(
                        "the authority's record of a cross certificate is damaged ({error}); restore the latest backup"
                    ),
                });
                der.map(Some)
            }
            Some(_) => Err(PluginError::reused(id)),
        }
    }

    /// Remembers an answer until it ends, and forgets those that have ended at `now`.
    pub fn remember(
        &mut self,
        id: &RequestId,
        request: &CrossSignRequest,
        judged: &JudgedCross,
        now: Timestamp,
    ) {
        self.0.retain(|_, answer| answer.ends > now.as_secs());
        let answer = CrossAnswer {
            asked: request.fingerprint(),
            ends: judged.0.validity().not_after().as_secs(),
            der: STANDARD.encode(judged.der()),
        };
        self.0.insert(id.to_string(), answer);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn path_len(root: &Root) -> Option<u8> {
    let constraints = root.certificate().extensions().basic_constraints?;
    constraints.path_len.map(|most| u8::try_from(most).unwrap_or(u8::MAX))
}

fn named(root: &Root) -> String {
    format!("root {} (\"{}\")", root.id().short(), root.certificate().subject_text())
}
