//! The provisioner's key, and the tokens that it signs: JWTs (RFC 7519) by ES256, good for one request each.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use plugins::ring_keys::RingKey;
use plugins::{KeySpec, PluginError};
use serde::Deserialize;
use serde_json::json;
use trust::der::{DerError, Reader};
use trust::digest::sha256;
use trust::{Randomness, Timestamp};
use zeroize::Zeroizing;

/// How long a token is good for. A step-ca allows clocks to be a minute apart besides.
const LIFE: Duration = Duration::from_secs(300);
/// Bytes of a coordinate, and of each half of a signature, on P-256.
const COORDINATE: usize = 32;

/// PKCS#8 of a P-256 key (RFC 5958, RFC 5915) up to its private number, and from there to the point.
const PKCS8_HEAD: &[u8] = &[
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02,
    0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02,
    0x01, 0x01, 0x04, 0x20,
];
const PKCS8_POINT: &[u8] = &[0xa1, 0x44, 0x03, 0x42, 0x00, 0x04];

/// A provisioner's key. Its `Debug` shows the public half only.
pub(crate) struct ProvisionerKey {
    key: RingKey,
    id: String,
}

/// What a token says.
pub(crate) struct Claims<'a> {
    /// Name of the provisioner.
    pub(crate) issuer: &'a str,
    /// The URL that is asked.
    pub(crate) audience: &'a str,
    /// The common name of the CSR: a step-ca demands that they are the same.
    pub(crate) subject: &'a str,
    /// The names of the certificate.
    pub(crate) sans: &'a [String],
}

/// Borrowed from the file's contents, which are wiped.
#[derive(Deserialize)]
struct Jwk<'a> {
    kty: &'a str,
    crv: &'a str,
    x: &'a str,
    y: &'a str,
    d: &'a str,
    kid: Option<&'a str>,
}

impl ProvisionerKey {
    /// Reads PKCS#8 in PEM, or a private JWK in JSON as `step crypto jwk create` writes it without a password.
    ///
    /// # Errors
    /// What the file holds instead, with nothing of its contents.
    pub(crate) fn parse(contents: &[u8], key_id: Option<&str>) -> Result<Self, String> {
        let text =
            std::str::from_utf8(contents).map_err(|_| "holds no text".to_owned())?.trim_start();
        let (pkcs8, own_id) =
            if text.starts_with('{') { from_jwk(text)? } else { (from_pem(text)?, None) };
        let key = RingKey::from_pkcs8(KeySpec::P256, &pkcs8)
            .map_err(|error| format!("holds no P-256 key in PKCS#8 ({error})"))?;
        let id = match key_id.map(str::to_owned).or(own_id) {
            Some(id) => id,
            None => thumbprint(&key)?,
        };
        Ok(Self { key, id })
    }

    /// The provisioner's `kid`.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Signs a token that is good from now on.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub(crate) fn token(
        &self,
        claims: &Claims<'_>,
        now: Timestamp,
        randomness: &dyn Randomness,
    ) -> Result<Zeroizing<String>, PluginError> {
        let number: [u8; 16] = trust::randomness::random_bytes(randomness);
        let number: String = number.iter().map(|byte| format!("{byte:02x}")).collect();
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.id });
        let payload = json!({
            "iss": claims.issuer,
            "aud": claims.audience,
            "sub": claims.subject,
            "sans": claims.sans,
            "jti": number,
            "iat": now.as_secs(),
            "nbf": now.as_secs(),
            "exp": now.plus(LIFE).as_secs(),
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&payload));
        let signature = self.key.sign(signed.as_bytes(), KeySpec::P256.algorithm())?;
        let signature = fixed(&signature).map_err(|error| PluginError::Permanent {
            detail: format!("the token's signature cannot be read back: {error}"),
        })?;
        Ok(Zeroizing::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

impl fmt::Debug for ProvisionerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProvisionerKey").field("id", &self.id).finish_non_exhaustive()
    }
}

fn from_pem(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    if text.starts_with("eyJ") {
        return Err(
            "holds an encrypted JWE; write what `step crypto jwe decrypt` makes of it".to_owned()
        );
    }
    let blocks = pem::parse_many(text).map_err(|_| "is neither PEM nor a JWK".to_owned())?;
    let private = blocks.into_iter().find(|block| block.tag().ends_with("PRIVATE KEY"));
    let block = private.ok_or("holds no private key in PEM, and is no JWK")?;
    let form = block.tag().to_owned();
    let der = Zeroizing::new(block.into_contents());
    match form.as_str() {
        "PRIVATE KEY" => Ok(der),
        other => Err(format!(
            "holds a \"{other}\"; write PKCS#8 without a password (`openssl pkcs8 -topk8 -nocrypt`)"
        )),
    }
}

fn from_jwk(text: &str) -> Result<(Zeroizing<Vec<u8>>, Option<String>), String> {
    let wrong =
        || "is no JWK of a private P-256 key: kty EC, crv P-256, with x, y and d".to_owned();
    if text.contains("\"ciphertext\"") {
        return Err(
            "holds an encrypted JWE; write what `step crypto jwe decrypt` makes of it".to_owned()
        );
    }
    // What serde says may repeat a value, so it is not told.
    let jwk: Jwk<'_> = serde_json::from_str(text).map_err(|_| wrong())?;
    if (jwk.kty, jwk.crv) != ("EC", "P-256") {
        return Err(wrong());
    }
    let number = |text: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).map_err(|_| wrong())?;
        if bytes.len() == COORDINATE { Ok(bytes) } else { Err(wrong()) }
    };
    let (d, x, y) = (number(jwk.d)?, number(jwk.x)?, number(jwk.y)?);
    Ok((Zeroizing::new([PKCS8_HEAD, &d, PKCS8_POINT, &x, &y].concat()), jwk.kid.map(str::to_owned)))
}

/// SHA-256 of the public JWK's required members (RFC 7638), which is the `kid` that step gives a key.
fn thumbprint(key: &RingKey) -> Result<String, String> {
    let unreadable = || "holds a key whose public half cannot be read".to_owned();
    let spki = key.public().spki_der();
    let point = spki.split_last_chunk::<{ 2 * COORDINATE }>().ok_or_else(unreadable)?.1;
    let (x, y) = point.split_at(COORDINATE);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    Ok(URL_SAFE_NO_PAD.encode(sha256(members.as_bytes())))
}

/// An ECDSA signature as JWS carries it (RFC 7518 section 3.4): both numbers in full length, one after the other.
fn fixed(der: &[u8]) -> Result<Vec<u8>, DerError> {
    let mut numbers = Reader::new(der).sequence()?;
    let mut signature = Vec::with_capacity(2 * COORDINATE);
    for number in [numbers.unsigned()?, numbers.unsigned()?] {
        signature.resize(signature.len() + COORDINATE.saturating_sub(number.len()), 0);
        signature.extend_from_slice(number);
    }
    Ok(signature)
}

#[cfg(test)]
mod tests {
    use trust::{PublicKey, SeededRandomness};

    use super::*;

    /// The example key of RFC 7517 appendix A.2, which is no secret.
    const JWK: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}"#;
    const D: &str = "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE";

    fn decoded(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    fn pem_of(der: &[u8]) -> String {
        pem::encode(&pem::Pem::new("PRIVATE KEY", der))
    }

    #[test]
    fn a_token_verifies_by_the_public_half_and_no_two_are_alike() {
        let (ring, pkcs8) = RingKey::generate(KeySpec::P256).unwrap();
        let key = ProvisionerKey::parse(pem_of(&pkcs8).as_bytes(), None).unwrap();
        let claims = Claims {
            issuer: "banyan",
            audience: "https://ca:9000/1.0/sign",
            subject: "Banyan issuer",
            sans: &["spiffe://example.org".to_owned()],
        };
        let (now, randomness) = (Timestamp::from_secs(1_000), SeededRandomness::new(1));
        // Some numbers of a signature begin with zeros: 300 tokens meet a few of them.
        let tokens: Vec<_> =
            (0..300).map(|_| key.token(&claims, now, &randomness).unwrap()).collect();
        for token in &tokens {
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let signature = decoded(signature);
            assert_eq!(signature.len(), 64);
            assert!(verifies(ring.public(), signed, &signature));
        }
        let payload = |token: &str| -> serde_json::Value {
            serde_json::from_slice(&decoded(token.split('.').nth(1).unwrap())).unwrap()
        };
        let (first, second) = (payload(&tokens[0]), payload(&tokens[1]));
        assert_ne!(first["jti"], second["jti"]);
        assert_eq!((first["nbf"].as_i64(), first["exp"].as_i64()), (Some(1_000), Some(1_300)));
        assert_eq!(first["sans"], json!(["spiffe://example.org"]));
    }

    fn verifies(public: &PublicKey, signed: &str, signature: &[u8]) -> bool {
        let integer = |number: &[u8]| {
            let mut bytes: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
            if bytes[0] & 0x80 != 0 {
                bytes.insert(0, 0);
            }
            [&[2, u8::try_from(bytes.len()).unwrap()], bytes.as_slice()].concat()
        };
        let numbers = [integer(&signature[..32]), integer(&signature[32..])].concat();
        let der = [&[0x30, u8::try_from(numbers.len()).unwrap()], numbers.as_slice()].concat();
        public.verify(signed.as_bytes(), KeySpec::P256.algorithm(), &der).is_ok()
    }

    #[test]
    fn a_jwk_and_its_pem_are_one_key_with_one_id() {
        let jwk = ProvisionerKey::parse(JWK.as_bytes(), None).unwrap();
        let (pkcs8, _) = from_jwk(JWK).unwrap();
        let pem = ProvisionerKey::parse(pem_of(&pkcs8).as_bytes(), None).unwrap();
        assert_eq!((jwk.id(), jwk.id().len()), (pem.id(), 43));
        let named = JWK.replacen('{', r#"{"kid":"own","#, 1);
        assert_eq!(ProvisionerKey::parse(named.as_bytes(), None).unwrap().id(), "own");
        assert_eq!(ProvisionerKey::parse(named.as_bytes(), Some("set")).unwrap().id(), "set");
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        let sec1 = "-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----\n";
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let other_point = JWK.replace("MKBCTNIcKUSD", "MKBCTNIcKUSE");
        let number = JWK.replace(&format!("\"{D}\""), "12345678901234567890");
        for (text, words) in [
            ("", "holds no private key in PEM"),
            (sec1, "PKCS#8 without a password"),
            (encrypted, "PKCS#8 without a password"),
            (r#"{"protected":"x","ciphertext":"c2VjcmV0"}"#, "encrypted JWE"),
            ("eyJhbGciOiJQQkVTMi1IUzI1NitBMTI4S1ciLCJj.c2VjcmV0", "encrypted JWE"),
            (&JWK.replace("P-256", "P-384"), "is no JWK of a private P-256 key"),
            (&JWK.replace(D, "c2VjcmV0"), "is no JWK of a private P-256 key"),
            (&number, "is no JWK of a private P-256 key"),
            (&other_point, "holds no P-256 key"),
        ] {
            let error = ProvisionerKey::parse(text.as_bytes(), None).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
            for secret in ["c2VjcmV0", D, "12345678901234567890"] {
                assert!(!error.contains(secret), "{error}");
            }
        }
        let key = ProvisionerKey::parse(JWK.as_bytes(), None).unwrap();
        assert!(!format!("{key:?}").contains(D));
    }
}
