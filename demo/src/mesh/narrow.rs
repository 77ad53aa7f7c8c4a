//! A fake of a proxy of an old version: it loads any root that it is given, says so, and verifies signatures of P-256 keys alone.

use std::sync::{Arc, LazyLock};

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::server::ParsedCertificate;
use rustls::{Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime, alg_id};
use trust_tls::ServerRule;

type Algorithms = &'static [&'static dyn SignatureVerificationAlgorithm];

/// Made once; rustls wants them for ever.
static P256_ALONE: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    let known = ring::default_provider().signature_verification_algorithms;
    let is_p256 = |one: &&dyn SignatureVerificationAlgorithm| {
        one.public_key_alg_id() == alg_id::ECDSA_P256
            && one.signature_alg_id() == alg_id::ECDSA_SHA256
    };
    let all: Vec<_> = known.all.iter().copied().filter(is_p256).collect();
    let all: Algorithms = Box::leak(all.into_boxed_slice());
    let mapping = vec![(SignatureScheme::ECDSA_NISTP256_SHA256, all)];
    WebPkiSupportedAlgorithms { all, mapping: Box::leak(mapping.into_boxed_slice()) }
});

/// A provider that verifies P-256 alone.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider { signature_verification_algorithms: *P256_ALONE, ..ring::default_provider() }
}

/// Believes any server whose chain ends in one of these roots, as far as it can verify it.
#[derive(Debug)]
pub(super) struct NarrowRule(pub(super) Arc<RootCertStore>);

impl ServerRule for NarrowRule {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let leaf = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &self.0,
            intermediates,
            now,
            P256_ALONE.all,
        )
    }
}
