//! What a fake of the CA shakes hands with.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::CertificateDer;
use trust_tls::AnyProvenClient;

use crate::key::PrivateKey;

/// TLS with this certificate, for clients with any certificate or none.
pub(super) fn tls(key: &PrivateKey, chain: &[Vec<u8>]) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyProvenClient))
        .with_single_cert(chain, key.rustls())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
