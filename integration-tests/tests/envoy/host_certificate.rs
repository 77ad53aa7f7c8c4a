//! A bundle endpoint that shows a certificate of a host, of files that are replaced, spoiled and left to end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use integration_tests::mesh::{MeshCa, eventually};
use proto::banyan::admin::v1::AddFederationRequest;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use trust::Clock as _;

use super::federation::{OTHER, federations, until_sequence, until_told};

/// Longer than the server takes to look at the files again.
const SHORT: Duration = Duration::from_secs(20);

/// A CA for hosts, and the files of one host.
struct Host {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    ca: String,
}

impl Host {
    fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "CA for hosts");
        let ca = params.self_signed(&key)?.pem();
        Ok(Self { folder: tempfile::tempdir()?, issuer: Issuer::new(params, key), ca })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new certificate with that life from 2020 on, and its key; answers the certificate.
    fn write(&self, life: Duration) -> anyhow::Result<CertificateDer<'static>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()])?;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = params.not_before + life;
        let certificate = params.signed_by(&key, &self.issuer)?;
        std::fs::write(self.path("host.key"), key.serialize_pem())?;
        std::fs::write(self.path("host.pem"), certificate.pem())?;
        Ok(certificate.der().clone())
    }

    /// What the endpoint shows to one who believes the CA.
    async fn shown(&self, at: SocketAddr) -> anyhow::Result<CertificateDer<'static>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = tokio::net::TcpStream::connect(at).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(ServerName::from(at.ip()), stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        Ok(shown.ok_or_else(|| anyhow::anyhow!("no certificate is shown"))?.clone().into_owned())
    }
}

/// Waits until the server says so of its endpoint, or with no words until it says nothing.
async fn until_said(ca: &MeshCa, words: &[&str]) -> anyhow::Result<()> {
    eventually(&format!("its status says {words:?}"), async || {
        let said = ca.status().await.map(|status| status.conditions.join(" ")).unwrap_or_default();
        words.iter().all(|word| said.contains(word)) && words.is_empty() == said.is_empty()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_shows_the_certificate_in_its_files_and_one_that_readers_refuse_is_never_green()
-> anyhow::Result<()> {
    let host = Host::new()?;
    let long = Duration::from_secs(30 * 365 * 24 * 3_600);
    host.write(long)?;
    let section = format!(
        "[bundle_endpoint]\nlisten = \"127.0.0.1:0\"\nrefresh_hint = \"5s\"\nprofile = \"https_web\"\n\
         certificate_file = \"{}\"\nkey_file = \"{}\"\n",
        host.path("host.pem").display(),
        host.path("host.key").display()
    );
    let theirs = MeshCa::of_domain(OTHER, &section).await?;
    let at = theirs.running().bundle_addr.ok_or_else(|| anyhow::anyhow!("it serves no bundle"))?;
    let ca = MeshCa::of_domain("example.org", "").await?;
    let request = AddFederationRequest {
        trust_domain: OTHER.to_owned(),
        endpoint: format!("https://{at}/"),
        endpoint_ca: host.ca.clone(),
        reason: "a test".to_owned(),
        ..AddFederationRequest::default()
    };
    // By the CAs of the machine it is not believed, and the reader is told by what it would be.
    let by_machine = AddFederationRequest { endpoint_ca: String::new(), ..request.clone() };
    federations(&ca).add_federation(by_machine).await?;
    until_told(&ca, "name that with --endpoint-ca").await?;
    federations(&ca).add_federation(request.clone()).await?;
    until_sequence(&ca, theirs.running().bundle().sequence().0).await?;
    until_told(&ca, "").await?;
    until_said(&theirs, &[]).await?;

    let renewed = host.write(long)?;
    let is_shown = async || host.shown(at).await.is_ok_and(|shown| shown == renewed);
    eventually("the renewed one is shown", &is_shown).await?;

    // Neither one whose time is over nor one with another's key is shown: the good one goes on, and it is told.
    host.write(Duration::from_secs(3_600))?;
    let before = "the one that was there before is shown";
    until_said(&theirs, &[before, "valid from 2020-01-01T00:00:00Z until 2020-01-01T01:00:00Z"])
        .await?;
    anyhow::ensure!(is_shown().await);
    let certificate = std::fs::read(host.path("host.pem"))?;
    host.write(long)?;
    std::fs::write(host.path("host.pem"), certificate)?;
    let wrong_key = std::fs::read(host.path("host.key"))?;
    host.write(long)?;
    std::fs::write(host.path("host.key"), wrong_key)?;
    until_said(&theirs, &[before, "is not the key of the first certificate"]).await?;
    anyhow::ensure!(is_shown().await);

    // One that ends while it is shown: readers refuse it, and so does the status.
    let since_2020 = host::SystemClock.now().since(trust::Timestamp::from_secs(1_577_836_800));
    let short = host.write(since_2020 + SHORT)?;
    eventually("the short one is shown", async || {
        host.shown(at).await.is_ok_and(|shown| shown == short)
    })
    .await?;
    until_said(&theirs, &["nobody can read the bundle there"]).await?;
    until_told(&ca, "its last good one").await?;
    host.write(long)?;
    until_said(&theirs, &[]).await?;
    until_told(&ca, "").await?;
    theirs.stop().await?;
    ca.stop().await
}
