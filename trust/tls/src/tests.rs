//! Handshakes in memory: who is believed, and who is not without the key of what it shows.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::PrivateKeyDer;
use trust::{ManualClock, Sequence, Timestamp, TrustDomain};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_780_272_000);

struct Ca {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn ca() -> Ca {
    let mut params = params();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("key");
    let der = params.self_signed(&key).expect("root").der().to_vec();
    Ca { der, issuer: Issuer::new(params, key) }
}

/// A leaf for a name, with its key.
fn leaf(uri: &str, by: &Ca) -> (CertificateDer<'static>, KeyPair) {
    let mut params = params();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("name"))];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().expect("key");
    (params.signed_by(&key, &by.issuer).expect("leaf").der().clone(), key)
}

fn server(chain: CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let shown = CertifiedKey::new(vec![chain], any_supported_type(&key).expect("key"));
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(Arc::new(AnyProvenClient))
        .with_cert_resolver(Arc::new(Shows(Arc::new(shown))))
}

fn meant(by: &Ca) -> Arc<dyn ServerRule> {
    let domain = TrustDomain::parse("example.org").expect("domain");
    let bundle = Bundle::from_ders(domain, Sequence(1), &[&by.der]).expect("bundle");
    let clock = Arc::new(ManualClock::at(NOW));
    let meant = Meant::Only("spiffe://example.org/server".parse().expect("id"));
    Arc::new(SpiffeServer { bundle, clock, meant })
}

/// One handshake, of each version that the rule's verifier is asked about.
fn handshake(rule: &Arc<dyn ServerRule>, server: &ServerConfig) -> Result<(), Error> {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .expect("version")
            .dangerous()
            .with_custom_certificate_verifier(server_verifier(Arc::clone(rule)))
            .with_no_client_auth();
        let name = ServerName::try_from("anything.example").expect("name");
        let mut client = ClientConnection::new(Arc::new(client), name).expect("client");
        let mut server = ServerConnection::new(Arc::new(server.clone())).expect("server");
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).expect("memory");
            server.read_tls(&mut wire.as_slice()).expect("memory");
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).expect("memory");
            client.read_tls(&mut wire.as_slice()).expect("memory");
            client.process_new_packets()?;
        }
    }
    Ok(())
}

#[test]
fn who_is_meant_and_holds_the_key_is_believed_by_its_chain_and_by_no_host_name() {
    let root = ca();
    let (certificate, key) = leaf("spiffe://example.org/server", &root);
    assert_eq!(handshake(&meant(&root), &server(certificate.clone(), &key)), Ok(()));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root.der.clone())).expect("root");
    let any: Arc<dyn ServerRule> = Arc::new(AnyMember(Arc::new(roots)));
    assert_eq!(handshake(&any, &server(certificate, &key)), Ok(()));
}

#[test]
fn who_shows_a_chain_without_holding_its_key_is_refused_whatever_the_rule() {
    #[derive(Debug)]
    struct Everybody;
    impl ServerRule for Everybody {
        fn judge(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: UnixTime,
        ) -> Result<(), Error> {
            Ok(())
        }
    }
    let root = ca();
    let (certificate, _) = leaf("spiffe://example.org/server", &root);
    let (_, other_key) = leaf("spiffe://example.org/server", &root);
    let thief = server(certificate, &other_key);
    for rule in [meant(&root), Arc::new(Everybody) as _] {
        let refused = Err(Error::InvalidCertificate(CertificateError::BadSignature));
        assert_eq!(handshake(&rule, &thief), refused, "{rule:?}");
    }
}

#[test]
fn another_member_another_trust_domain_and_another_root_are_refused_each_for_its_reason() {
    let (root, other) = (ca(), ca());
    for (name, by, why) in [
        ("spiffe://example.org/client", &root, CertificateError::NotValidForName),
        ("spiffe://elsewhere.org/server", &root, CertificateError::NotValidForName),
        ("spiffe://example.org/server", &other, CertificateError::UnknownIssuer),
    ] {
        let (certificate, key) = leaf(name, by);
        let refused = Err(Error::InvalidCertificate(why));
        assert_eq!(handshake(&meant(&root), &server(certificate, &key)), refused, "{name}");
    }
}
