//! rustls judges the chain, and a client that speaks nothing newer than TLS 1.2 gets one.

use std::sync::Arc;
use std::time::Duration;

use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use trust::{Certificate, Clock as _};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{CART, Chain, Desk, grpcurl};

fn ders(text: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>()?)
}

fn now() -> UnixTime {
    let seconds = u64::try_from(host::SystemClock.now().as_secs()).unwrap_or_default();
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[tokio::test(flavor = "multi_thread")]
async fn rustls_verifies_the_chain_for_both_ends_of_a_connection() -> anyhow::Result<()> {
    let desk = Desk::open("reflection = true").await?;
    let Chain { leaf, intermediates, roots } = grpcurl::create(&desk, &[]).await?;
    let (leaf, intermediates, roots) = (ders(&leaf)?, ders(&intermediates)?, ders(&roots)?);
    let [leaf] = leaf.as_slice() else { anyhow::bail!("{} leaves", leaf.len()) };
    let provider = Arc::new(ring::default_provider());

    let mut store = RootCertStore::empty();
    roots.iter().try_for_each(|root| store.add(root.clone()))?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider));
    clients.build()?.verify_client_cert(leaf, &intermediates, now())?;

    let anchors = roots.iter().map(anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>()?;
    EndEntityCert::try_from(leaf)?.verify_for_usage(
        provider.signature_verification_algorithms.all,
        &anchors,
        &intermediates,
        now(),
        KeyUsage::server_auth(),
        None,
        None,
    )?;
    desk.ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_speaks_tls_1_2_only_gets_a_certificate() -> anyhow::Result<()> {
    let desk = Desk::open("").await?;
    let channel = desk.ca.channel(None, &[&rustls::version::TLS12]).await?;
    let csr = desk.csr().await?;
    let mut request =
        tonic::Request::new(IstioCertificateRequest { csr, validity_duration: 0, metadata: None });
    request.metadata_mut().insert("authorization", format!("Bearer {}", desk.token).parse()?);
    let reply =
        IstioCertificateServiceClient::new(channel).create_certificate(request).await?.into_inner();
    let leaf = reply.cert_chain.first().map(|text| ders(text)).transpose()?.unwrap_or_default();
    let [leaf] = leaf.as_slice() else { anyhow::bail!("{} leaves", leaf.len()) };
    assert_eq!(Certificate::parse(leaf)?.spiffe_id()?.as_str(), CART);
    desk.ca.stop().await
}
