//! The members of a JWK that say a public key (RFC 7518, RFC 8037).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use trust::{KeyKind, PublicKey};

/// 65537, the one exponent that is taken.
const EXPONENT: &str = "AQAB";

/// A public key as members of a JWK.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicMembers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) y: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) e: Option<String>,
}

/// One entry of a JWK Set, as it is read. A member that comes twice is refused.
#[derive(Debug, Deserialize)]
pub(crate) struct Entry {
    pub(crate) kty: String,
    #[serde(rename = "use")]
    pub(crate) purpose: Option<String>,
    pub(crate) kid: Option<IgnoredAny>,
    pub(crate) x5c: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    // What no public document has.
    d: Option<IgnoredAny>,
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    oth: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

impl Entry {
    /// Whether the private half, or a shared secret, is in it.
    pub(crate) fn is_private(&self) -> bool {
        let secrets = [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi, &self.oth, &self.k];
        secrets.into_iter().any(Option::is_some)
    }

    /// Whether nothing in it contradicts this key. Members may be missing: the certificate has them all.
    pub(crate) fn agrees_with(&self, kty: &str, key: &PublicMembers) -> bool {
        let agrees = |said: &Option<String>, is: &Option<String>| {
            said.is_none() || said.as_deref().map(unpadded) == is.as_deref().map(unpadded)
        };
        self.kty == kty
            && agrees(&self.crv, &key.crv)
            && agrees(&self.x, &key.x)
            && agrees(&self.y, &key.y)
            && agrees(&self.n, &key.n)
            && agrees(&self.e, &key.e)
    }
}

fn unpadded(text: &str) -> &str {
    text.trim_end_matches('=')
}

/// What a JWK says of a key; `None` for one of a kind that is not taken anywhere here.
pub(crate) fn members(spki_der: &[u8]) -> Option<(&'static str, PublicMembers)> {
    let key = PublicKey::parse(spki_der).ok()?;
    let text = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode(bytes));
    let curve = |name: &str, len: usize| {
        // An uncompressed point: 04, x, y.
        let point = key.key_octets().get(1..)?;
        let (x, y) = (point.get(..len)?, point.get(len..)?);
        let crv = Some(name.to_owned());
        Some(("EC", PublicMembers { crv, x: text(x), y: text(y), ..PublicMembers::default() }))
    };
    match key.kind() {
        KeyKind::P256 => curve("P-256", 32),
        KeyKind::P384 => curve("P-384", 48),
        KeyKind::Ed25519 => {
            let crv = Some("Ed25519".to_owned());
            let x = text(key.key_octets());
            Some(("OKP", PublicMembers { crv, x, ..PublicMembers::default() }))
        }
        KeyKind::Rsa { .. } => {
            let (n, e) = (text(key.rsa_modulus()?), Some(EXPONENT.to_owned()));
            Some(("RSA", PublicMembers { n, e, ..PublicMembers::default() }))
        }
    }
}
