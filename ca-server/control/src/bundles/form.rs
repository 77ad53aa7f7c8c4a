//! How a bundle of the past is stored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use trust::transition::Transition;
use trust::{Bundle, Sequence, TrustDomain};

/// One bundle, and the signed change to it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The bundle.
    pub bundle: Bundle,
    /// `None` for the first that is known.
    pub transition: Option<Transition>,
}

impl Kept {
    /// About the bytes that it takes in an answer.
    pub(super) fn bytes(&self) -> usize {
        let roots: usize = self.bundle.roots().iter().map(|root| root.der().len()).sum();
        let transition = self.transition.as_ref().map_or(0, |transition| {
            let chain: usize = transition.chain.iter().map(Vec::len).sum();
            transition.statement.len() + transition.signature.len() + chain
        });
        roots + transition
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Form {
    pub(super) sequence: u64,
    roots: Vec<String>,
    // Values have the first name of this field.
    #[serde(rename = "vouch")]
    transition: Option<TransitionForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TransitionForm {
    statement: String,
    signature: String,
    chain: Vec<String>,
}

impl Form {
    /// The bundle, and the change to it.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn kept(&self, domain: &TrustDomain) -> Result<Kept, String> {
        let ders = decoded(&self.roots)?;
        let bundle = Bundle::from_ders(domain.clone(), Sequence(self.sequence), &ders);
        let bundle = bundle.map_err(|error| error.to_string())?;
        let transition = self.transition.as_ref().map(|transition| {
            Ok::<_, String>(Transition {
                statement: bytes_of(&transition.statement)?,
                signature: bytes_of(&transition.signature)?,
                chain: decoded(&transition.chain)?,
            })
        });
        Ok(Kept { bundle, transition: transition.transpose()? })
    }
}

fn decoded(texts: &[String]) -> Result<Vec<Vec<u8>>, String> {
    texts.iter().map(|text| bytes_of(text)).collect()
}

fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| error.to_string())
}

impl From<&Kept> for Form {
    fn from(kept: &Kept) -> Self {
        let text = |bytes: &[u8]| STANDARD.encode(bytes);
        let transition = kept.transition.as_ref().map(|transition| TransitionForm {
            statement: text(&transition.statement),
            signature: text(&transition.signature),
            chain: transition.chain.iter().map(|der| text(der)).collect(),
        });
        let roots = kept.bundle.roots().iter().map(|root| text(root.der())).collect();
        Self { sequence: kept.bundle.sequence().0, roots, transition }
    }
}
