//! The signer: one issuer key with its chain, verified up to a root of a bundle when it is put together.

use std::fmt;
use std::sync::Arc;

use plugins::{KeyBackend, KeyError, KeyId};
use trust::{
    Bundle, Certificate, CertificateId, PublicKey, Root, RootId, SignatureAlgorithm, Timestamp,
    Validity,
};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

/// Most certificates between a leaf and its root: a presented chain has at most 8, the leaf among them.
pub const INTERMEDIATES_MAX: usize = trust::chain::CHAIN_LEN_MAX - 1;

/// What a signer is made of.
#[derive(Debug)]
pub struct SignerParts {
    /// Where the issuer's private key is.
    pub keys: Arc<dyn KeyBackend>,
    /// Its name there.
    pub key: KeyId,
    /// Its public half, as the backend tells it.
    pub public: PublicKey,
    /// The issuer's certificate, then each certificate above it, without the root.
    pub chain: Vec<Certificate>,
}

/// An issuer that may sign leaves; built only by [`Signer::verify`].
pub struct Signer {
    parts: SignerParts,
    root: RootId,
    issuer: CertificateId,
    issuer_key_id: Vec<u8>,
    validity: Validity,
    algorithm: SignatureAlgorithm,
    intermediates_pem: Vec<String>,
}

/// Why an issuer's chain makes no signer. The former signer, if there is one, goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// No certificate, or more than [`INTERMEDIATES_MAX`].
    #[error("the issuer's chain has {0} certificates; 1 to 7 are taken")]
    Length(usize),
    /// The certificate is no CA, may not sign certificates, or allows fewer certificates below it than there are.
    #[error("certificate {0} of the issuer's chain may not sign what stands below it")]
    NotAnIssuer(usize),
    /// Names or signatures do not lead from this certificate to the next.
    #[error("certificate {0} of the issuer's chain is not signed by what stands above it")]
    Broken(usize),
    /// No root of the bundle signed the last certificate.
    #[error("the issuer's chain ends in no root of the bundle")]
    UnknownRoot,
    /// A certificate of the chain, its root included, is expired or not yet valid.
    #[error("a certificate of the issuer's chain is expired or not yet valid")]
    NotValidNow,
    /// The certificate is for another key than the backend holds.
    #[error("the issuer's certificate is not for the key in the key backend")]
    OtherKey,
    /// The issuer's certificate has no subject key id, which every leaf must name.
    #[error("the issuer's certificate has no subject key identifier")]
    NoKeyId,
    /// The issuer carries the SPIFFE id of another trust domain.
    #[error("the issuer's certificate belongs to another trust domain")]
    OtherTrustDomain,
}

impl Signer {
    /// Verifies an issuer's chain up to one root of the bundle: names, signatures, CA flags, path lengths, usages and
    /// validity, and that the certificate is for this key.
    ///
    /// A TLS verifier cannot judge a chain without a leaf; [`crate::issue::Issuer`] shows it the first leaf of every
    /// snapshot, before that leaf is released.
    ///
    /// # Errors
    /// [`SignerError`] says which certificate is wrong, counted from the issuer's as 0.
    pub fn verify(
        parts: SignerParts,
        bundle: &Bundle,
        now: Timestamp,
    ) -> Result<Self, SignerError> {
        Self::verify_up_to(parts, bundle, None, now)
    }

    /// As [`verify`](Self::verify), up to this root: a renewed one has the key and the name of the former, and a chain ends
    /// in both.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_under(
        parts: SignerParts,
        bundle: &Bundle,
        root: RootId,
        now: Timestamp,
    ) -> Result<Self, SignerError> {
        Self::verify_up_to(parts, bundle, Some(root), now)
    }

    fn verify_up_to(
        parts: SignerParts,
        bundle: &Bundle,
        wanted: Option<RootId>,
        now: Timestamp,
    ) -> Result<Self, SignerError> {
        let issuer = match parts.chain.as_slice() {
            [issuer, ..] if parts.chain.len() <= INTERMEDIATES_MAX => issuer.clone(),
            other => return Err(SignerError::Length(other.len())),
        };
        if issuer.spki_der() != parts.public.spki_der() {
            return Err(SignerError::OtherKey);
        }
        for (place, certificate) in parts.chain.iter().enumerate() {
            if !may_sign_above(certificate, place) {
                return Err(SignerError::NotAnIssuer(place));
            }
            if !in_trust_domain(certificate, bundle) {
                return Err(SignerError::OtherTrustDomain);
            }
        }
        let links = parts.chain.iter().zip(parts.chain.iter().skip(1));
        if let Some(place) =
            links.into_iter().position(|(below, above)| !is_signed_by(below, above))
        {
            return Err(SignerError::Broken(place));
        }
        let root = root_above(&parts.chain, bundle, wanted)?;
        let validity =
            common_validity(&parts.chain, root).filter(|validity| validity.contains(now));
        Ok(Self {
            root: root.id(),
            issuer: issuer.id(),
            issuer_key_id: issuer
                .extensions()
                .subject_key_id
                .clone()
                .ok_or(SignerError::NoKeyId)?,
            validity: validity.ok_or(SignerError::NotValidNow)?,
            algorithm: SignatureAlgorithm::preferred(parts.public.kind()),
            intermediates_pem: parts.chain.iter().map(Certificate::pem).collect(),
            parts,
        })
    }

    /// The root in which every leaf of this signer ends.
    pub const fn root(&self) -> RootId {
        self.root
    }

    /// The issuer's certificate by its fingerprint.
    pub const fn issuer(&self) -> CertificateId {
        self.issuer
    }

    /// The issuer's certificate, then each above it, without the root.
    pub fn chain(&self) -> &[Certificate] {
        &self.parts.chain
    }

    /// [`Self::chain`] in PEM, one certificate in each string.
    pub fn intermediates_pem(&self) -> &[String] {
        &self.intermediates_pem
    }

    /// When every certificate from the issuer's to the root is valid.
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// The issuer's public key.
    pub const fn public_key(&self) -> &PublicKey {
        &self.parts.public
    }

    /// How the issuer signs.
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// DER Name of the issuer, byte for byte.
    pub(crate) fn issuer_name(&self) -> &[u8] {
        self.parts.chain.first().map(Certificate::subject_der).unwrap_or_default()
    }

    /// The issuer's subject key identifier.
    pub(crate) fn issuer_key_id(&self) -> &[u8] {
        &self.issuer_key_id
    }

    /// Signs with the issuer's key; only [`crate::sign`] calls it, with bytes that have a durable intent.
    pub(crate) async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.parts.keys.sign(&self.parts.key, message, self.algorithm).await
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("root", &self.root)
            .field("issuer", &self.issuer)
            .field("key", &self.parts.key)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// Whether the certificate may sign with `below` other CA certificates between it and the leaf.
pub(crate) fn may_sign_above(certificate: &Certificate, below: usize) -> bool {
    let extensions = certificate.extensions();
    let roomy = extensions.basic_constraints.is_some_and(|c| {
        c.ca && c.path_len.is_none_or(|most| u32::try_from(below).is_ok_and(|n| n <= most))
    });
    roomy
        && extensions.key_usage.is_none_or(|usage| usage.key_cert_sign)
        && extensions.critical_unknown.is_empty()
}

/// CA certificates need not carry a SPIFFE id; one that is there is of this trust domain, with or without a path.
fn in_trust_domain(certificate: &Certificate, bundle: &Bundle) -> bool {
    let own = format!("spiffe://{}", bundle.trust_domain().as_str());
    let is_own = |uri: &String| {
        uri.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    certificate.names().uris.iter().all(|uri| !uri.starts_with("spiffe:") || is_own(uri))
}

pub(crate) fn is_signed_by(below: &Certificate, above: &Certificate) -> bool {
    let key_ids_agree =
        match (&below.extensions().authority_key_id, &above.extensions().subject_key_id) {
            (Some(authority), Some(subject)) => authority == subject,
            _ => true,
        };
    if below.issuer_der() != above.subject_der() || !key_ids_agree {
        return false;
    }
    let Ok((_, parsed)) = X509Certificate::from_der(below.der()) else { return false };
    let Ok((_, key)) = SubjectPublicKeyInfo::from_der(above.spki_der()) else { return false };
    parsed.verify_signature(Some(&key)).is_ok()
}

fn root_above<'b>(
    chain: &[Certificate],
    bundle: &'b Bundle,
    wanted: Option<RootId>,
) -> Result<&'b Root, SignerError> {
    let top = chain.last().ok_or(SignerError::Length(0))?;
    let roots = bundle.roots().iter();
    roots
        .filter(|root| wanted.is_none_or(|wanted| wanted == root.id()))
        .find(|root| {
            is_signed_by(top, root.certificate()) && may_sign_above(root.certificate(), chain.len())
        })
        .ok_or(SignerError::UnknownRoot)
}

fn common_validity(chain: &[Certificate], root: &Root) -> Option<Validity> {
    let all = || chain.iter().chain([root.certificate()]).map(Certificate::validity);
    let start = all().map(|validity| validity.not_before()).max()?;
    let end = all().map(|validity| validity.not_after()).min()?;
    Validity::new(start, end).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixture::{self, IssuerShape, NOW};

    fn refusal(shape: &IssuerShape) -> Option<SignerError> {
        let ca = fixture::CaMaterial::shaped(shape);
        Signer::verify(ca.parts(), &ca.bundle(1), NOW).err()
    }

    #[test]
    fn a_good_chain_makes_a_signer_that_names_its_root() {
        let ca = fixture::CaMaterial::new();
        let bundle = ca.bundle(1);
        let signer = Signer::verify(ca.parts(), &bundle, NOW).unwrap();
        assert!(bundle.roots().iter().any(|root| root.id() == signer.root()));
        assert_eq!(signer.intermediates_pem().len(), 1);
        assert_eq!(signer.validity().not_after(), NOW.plus(fixture::ISSUER_LIFE));
    }

    #[test]
    fn each_flaw_of_an_issuer_is_named() {
        let shape = IssuerShape::default;
        for (shape, expected) in [
            (IssuerShape { ca: false, ..shape() }, SignerError::NotAnIssuer(0)),
            (IssuerShape { cert_sign: false, ..shape() }, SignerError::NotAnIssuer(0)),
            (IssuerShape { trust_domain: "other.org", ..shape() }, SignerError::OtherTrustDomain),
            (
                IssuerShape { not_after: NOW.minus(Duration::from_secs(1)), ..shape() },
                SignerError::NotValidNow,
            ),
        ] {
            assert_eq!(refusal(&shape), Some(expected), "{shape:?}");
        }
        assert_eq!(refusal(&shape()), None);
    }

    #[test]
    fn a_chain_that_ends_in_another_root_is_refused() {
        let (ca, other) = (fixture::CaMaterial::new(), fixture::CaMaterial::new());
        let refused = Signer::verify(ca.parts(), &other.bundle(1), NOW);
        assert_eq!(refused.unwrap_err(), SignerError::UnknownRoot);
    }

    #[test]
    fn a_chain_for_another_key_is_refused() {
        let (ca, other) = (fixture::CaMaterial::new(), fixture::CaMaterial::new());
        let parts = SignerParts { public: other.parts().public, ..ca.parts() };
        assert_eq!(Signer::verify(parts, &ca.bundle(1), NOW).unwrap_err(), SignerError::OtherKey);
    }

    #[test]
    fn empty_overlong_and_broken_chains_are_refused() {
        let (ca, other) = (fixture::CaMaterial::new(), fixture::CaMaterial::new());
        let chain = |certificates: Vec<Certificate>| {
            let parts = SignerParts { chain: certificates, ..ca.parts() };
            Signer::verify(parts, &ca.bundle(1), NOW).unwrap_err()
        };
        let issuer = || ca.parts().chain.remove(0);
        assert_eq!(chain(vec![]), SignerError::Length(0));
        assert_eq!(chain(vec![issuer(); 8]), SignerError::Length(8));
        let roomy =
            fixture::CaMaterial::shaped(&IssuerShape { path_len: None, ..IssuerShape::default() });
        let above = roomy.parts().chain.remove(0);
        assert_eq!(chain(vec![issuer(), above]), SignerError::Broken(0));
        assert_eq!(
            chain(vec![issuer(), other.parts().chain.remove(0)]),
            SignerError::NotAnIssuer(1)
        );
    }
}
