//! What federations of a CA do: endpoints that are good, bad, away and back, and words of operators.

use std::sync::{Arc, Mutex, PoisonError};

use integration_tests::mesh::{MeshCa, admin_channel, eventually};
use proto::banyan::admin::v1::federation_service_client::FederationServiceClient;
use proto::banyan::admin::v1::{
    AddFederationRequest, Federation, ListFederationsRequest, ListFederationsResponse,
    ListRelyingPartiesRequest, RemoveFederationRequest,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use stores_peers::Pki;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::Code;
use tonic::transport::Channel;

/// The other trust domain.
pub(crate) const OTHER: &str = "other.example";
/// A CA that others can read, as often as may be.
pub(crate) const READ: &str =
    "[bundle_endpoint]\nlisten = \"127.0.0.1:0\"\nrefresh_hint = \"5s\"\n";

pub(crate) fn federations(ca: &MeshCa) -> FederationServiceClient<Channel> {
    FederationServiceClient::new(admin_channel(&ca.running().admin_socket))
}

pub(crate) async fn listed(ca: &MeshCa) -> anyhow::Result<ListFederationsResponse> {
    Ok(federations(ca).list_federations(ListFederationsRequest {}).await?.into_inner())
}

/// The one federation that there is.
async fn only(ca: &MeshCa) -> anyhow::Result<Federation> {
    let mut all = listed(ca).await?.federations;
    anyhow::ensure!(all.len() == 1, "{all:?}");
    Ok(all.remove(0))
}

/// Where another CA is read, as a request of somebody who was handed its roots.
pub(crate) fn request(of: &MeshCa) -> anyhow::Result<AddFederationRequest> {
    let at = of.running().bundle_addr.ok_or_else(|| anyhow::anyhow!("it serves no bundle"))?;
    let bundle = of.running().bundle();
    let domain = bundle.trust_domain();
    Ok(AddFederationRequest {
        trust_domain: domain.to_string(),
        endpoint: format!("https://{at}/bundle.json"),
        endpoint_id: format!("{}/banyan/ca/*", domain.id()),
        bundle: bundle.pem().as_bytes().to_vec(),
        reads_ours: true,
        by: "test".to_owned(),
        reason: "a test".to_owned(),
        ..AddFederationRequest::default()
    })
}

/// A server over TLS that answers each request with the same bytes.
struct Answers {
    url: String,
    pki: Pki,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Answers {
    async fn start() -> anyhow::Result<Self> {
        let pki = Pki::new()?;
        let chain = CertificateDer::pem_file_iter(pki.path("server.pem"))?;
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(pki.path("server.key"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://{}/", listener.local_addr()?);
        let answer = Arc::new(Mutex::new(Vec::new()));
        let given = Arc::clone(&answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, given) = (acceptor.clone(), Arc::clone(&given));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut request = [0; 4_096];
                    let _ = stream.read(&mut request).await;
                    let answer = given.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Ok(Self { url, pki, answer })
    }

    fn say(&self, head: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n{body}");
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer.into_bytes();
    }

    fn request(&self) -> anyhow::Result<AddFederationRequest> {
        Ok(AddFederationRequest {
            trust_domain: OTHER.to_owned(),
            endpoint: self.url.clone(),
            endpoint_ca: std::fs::read_to_string(self.pki.path("ca.pem"))?,
            reason: "a test".to_owned(),
            ..AddFederationRequest::default()
        })
    }
}

/// What a CA of the other domain serves, read from outside with its roots alone.
async fn document(of: &MeshCa) -> anyhow::Result<Value> {
    let at = of.running().bundle_addr.ok_or_else(|| anyhow::anyhow!("it serves no bundle"))?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()?;
    let mut roots = rustls::RootCertStore::empty();
    for root in of.running().bundle().roots() {
        roots.add(CertificateDer::from(root.der().to_vec()))?;
    }
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(at).await?;
    let name = rustls_pki_types::ServerName::try_from("localhost")?;
    let mut stream = connector.connect(name, stream).await?;
    stream
        .write_all(b"GET /bundle.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(serde_json::from_str(body)?)
}

pub(crate) async fn until_told(ca: &MeshCa, words: &str) -> anyhow::Result<()> {
    eventually(&format!("it is told: {words:?}"), async || {
        let told = only(ca).await.map(|one| one.trouble).unwrap_or_default();
        let status = ca.status().await.map(|status| status.conditions).unwrap_or_default();
        told.contains(words) && (words.is_empty() == told.is_empty()) && status.contains(&told)
            || (words.is_empty() && told.is_empty())
    })
    .await
}

pub(crate) async fn until_sequence(ca: &MeshCa, wanted: u64) -> anyhow::Result<()> {
    eventually(&format!("sequence {wanted} is there"), async || {
        only(ca).await.is_ok_and(|one| one.bundle.and_then(|it| it.sequence) == Some(wanted))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_bundle_changes_nothing_and_is_told() -> anyhow::Result<()> {
    let answers = Answers::start().await?;
    let theirs = MeshCa::of_domain(OTHER, READ).await?;
    let good = document(&theirs).await?;
    theirs.stop().await?;
    answers.say("503 Service Unavailable", "");
    let ca = MeshCa::of_domain("example.org", "").await?;
    federations(&ca).add_federation(answers.request()?).await?;
    until_told(&ca, "answers 503").await?;
    until_told(&ca, "there is none to go by").await?;
    let numbered = |sequence: u64| {
        let mut document = good.clone();
        document["spiffe_sequence"] = json!(sequence);
        document["spiffe_refresh_hint"] = json!(1);
        document
    };
    answers.say("200 OK", &numbered(7).to_string());
    until_sequence(&ca, 7).await?;
    until_told(&ca, "").await?;
    let (mut empty, mut private) = (numbered(8), numbered(8));
    empty["keys"] = json!([]);
    private["keys"][0]["d"] = json!("AAAA");
    let huge = " ".repeat(600 * 1024);
    for (head, body, words) in [
        ("200 OK", "hello".to_owned(), "is no SPIFFE bundle document"),
        ("200 OK", empty.to_string(), "no key with the use x509-svid"),
        ("200 OK", private.to_string(), "a private key is in it (entry 1)"),
        ("200 OK", numbered(6).to_string(), "its sequence goes back from 7 to 6"),
        ("200 OK", huge, "more than 512 KiB"),
        ("302 Found\r\nlocation: https://127.0.0.1:1/", String::new(), "which is not followed"),
        ("404 Not Found", String::new(), "answers 404"),
    ] {
        answers.say(head, &body);
        until_told(&ca, words).await?;
        let served = only(&ca).await?.bundle.and_then(|bundle| bundle.sequence);
        assert_eq!(served, Some(7), "{words}");
    }
    // A restart while the endpoint says no: what was good is still there.
    let ca = ca.restarted().await?;
    until_told(&ca, "its last good one (sequence 7)").await?;
    answers.say("200 OK", &numbered(8).to_string());
    until_sequence(&ca, 8).await?;
    until_told(&ca, "").await?;
    // Removed and added again it begins anew, with whatever number.
    let remove = RemoveFederationRequest { trust_domain: OTHER.to_owned(), ..Default::default() };
    federations(&ca).remove_federation(remove.clone()).await?;
    assert!(listed(&ca).await?.federations.is_empty());
    let gone = federations(&ca).remove_federation(remove).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "{gone}");
    answers.say("200 OK", &numbered(2).to_string());
    federations(&ca).add_federation(answers.request()?).await?;
    until_sequence(&ca, 2).await?;
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_believed_by_its_profile_alone_and_words_are_judged_first()
-> anyhow::Result<()> {
    let (ca, theirs) =
        (MeshCa::of_domain("example.org", "").await?, MeshCa::of_domain(OTHER, READ).await?);
    let asked = request(&theirs)?;
    let refused = async |change: &dyn Fn(&mut AddFederationRequest)| {
        let mut request = asked.clone();
        change(&mut request);
        let refused = federations(&ca).add_federation(request).await;
        refused.map_err(|status| status.message().to_owned()).unwrap_err()
    };
    for (told, words) in [
        (refused(&|it| it.trust_domain = "example.org".to_owned()).await, "of this CA itself"),
        (refused(&|it| it.trust_domain = "Other".to_owned()).await, "is no trust domain"),
        (refused(&|it| it.endpoint = "http://other.example/".to_owned()).await, "is not https"),
        (refused(&|it| it.endpoint = "https://169.254.169.254/".to_owned()).await, "link-local"),
        (refused(&|it| it.bundle.clear()).await, "there is none yet"),
        (refused(&|it| it.bundle = b"hello".to_vec()).await, "is not taken"),
        (
            refused(&|it| it.endpoint_id = "spiffe://third.example/x".to_owned()).await,
            "is not in the trust domain",
        ),
        (refused(&|it| it.endpoint_ca = "x".to_owned()).await, "leave out one of the two"),
        (refused(&|it| it.reason.clear()).await, "reason"),
    ] {
        assert!(told.contains(words), "{told}");
    }
    assert!(listed(&ca).await?.federations.is_empty(), "a refusal moves nothing");

    // Another member of that domain is no endpoint.
    let mut wrong = asked.clone();
    wrong.endpoint_id = format!("spiffe://{OTHER}/somebody");
    federations(&ca).add_federation(wrong).await?;
    until_told(&ca, "certificate").await?;
    until_told(&ca, "`banyan federation add` with --bundle").await?;
    federations(&ca).add_federation(asked.clone()).await?;
    until_sequence(&ca, theirs.running().bundle().sequence().0).await?;
    until_told(&ca, "").await?;
    let parties = async || {
        let request = ListRelyingPartiesRequest::default();
        let all = ca.rotations().list_relying_parties(request).await?.into_inner();
        anyhow::Ok(all.relying_parties)
    };
    let party = parties().await?.remove(0);
    assert_eq!((party.name.as_str(), party.staleness_seconds), ("federation/other.example", 1_500));
    // Whoever reads ours no more is waited for no more.
    federations(&ca)
        .add_federation(AddFederationRequest { reads_ours: false, ..asked.clone() })
        .await?;
    assert!(parties().await?.is_empty());
    // What a cluster keeps is not changed by others.
    let kept =
        AddFederationRequest { owner: "kubernetes/a/b".to_owned(), force: true, ..asked.clone() };
    federations(&ca).add_federation(kept).await?;
    let other = federations(&ca).add_federation(asked).await.unwrap_err();
    assert_eq!(other.code(), Code::FailedPrecondition, "{other}");
    theirs.stop().await?;
    until_told(&ca, "its last good one").await?;
    ca.stop().await
}
