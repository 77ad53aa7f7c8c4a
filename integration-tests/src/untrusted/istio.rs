//! Calls of `istio.v1.auth.IstioCertificateService`, every part of which a test may spoil.

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::KeyPair;
use tonic::Request;
use tonic::metadata::{AsciiMetadataKey, MetadataValue};
use trust::Certificate;

use crate::untrusted::CART;
use crate::untrusted::ca::TestCa;
use crate::untrusted::client::{Credential, Refused, TestClient};
use crate::untrusted::csr::CsrDraft;

/// Seconds that good requests ask for.
pub const TTL_SECS: i64 = 120;

/// One call.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The CSR, or what is sent in its place.
    pub csr: String,
    /// Values of the header `authorization`, as they are sent.
    pub authorization: Vec<String>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The lifetime asked for, in seconds.
    pub ttl_secs: i64,
    /// Fields of the request's metadata.
    pub metadata: Vec<(&'static str, Kind)>,
}

/// What a call that was answered got.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The strings of the reply.
    pub chain: Vec<String>,
    /// The leaf in the first of them.
    pub leaf: Certificate,
}

impl Attempt {
    /// A good call for [`CART`] with a new key and a token.
    pub fn good(ca: &TestCa) -> Self {
        Self::with_csr(ca, CsrDraft::new().pem())
    }

    /// A call for [`CART`] with a good token and this CSR.
    pub fn with_csr(ca: &TestCa, csr: impl Into<String>) -> Self {
        let token = ca.tokens().token(CART, ca.clock().as_ref());
        Self { csr: csr.into(), ..Self::anonymous() }.token(&token)
    }

    /// A call with a good CSR and no credential.
    pub fn anonymous() -> Self {
        Self {
            csr: CsrDraft::new().pem(),
            authorization: Vec::new(),
            headers: Vec::new(),
            ttl_secs: TTL_SECS,
            metadata: Vec::new(),
        }
    }

    /// The same with one bearer token.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.authorization = vec![format!("Bearer {token}")];
        self
    }

    /// The same for another lifetime.
    #[must_use]
    pub const fn ttl(mut self, secs: i64) -> Self {
        self.ttl_secs = secs;
        self
    }

    fn request(&self) -> Request<IstioCertificateRequest> {
        let field =
            |(key, kind): &(&str, Kind)| ((*key).to_owned(), Value { kind: Some(kind.clone()) });
        let fields: std::collections::BTreeMap<_, _> = self.metadata.iter().map(field).collect();
        let metadata = (!fields.is_empty()).then_some(Struct { fields });
        let (csr, validity_duration) = (self.csr.clone(), self.ttl_secs);
        let mut request =
            Request::new(IstioCertificateRequest { csr, validity_duration, metadata });
        let authorization = self.authorization.iter().map(|value| ("authorization", value));
        for (name, value) in
            authorization.chain(self.headers.iter().map(|(name, value)| (*name, value)))
        {
            let value = MetadataValue::try_from(value.as_str()).unwrap();
            request.metadata_mut().append(AsciiMetadataKey::from_static(name), value);
        }
        request
    }
}

impl Answer {
    /// The life that the leaf was given, in seconds.
    pub fn life_secs(&self) -> u64 {
        let validity = self.leaf.validity();
        validity.not_after().since(validity.not_before()).as_secs()
    }

    /// Leaf and intermediates in DER: what a client shows.
    ///
    /// # Panics
    /// When a string is not PEM.
    pub fn chain_der(&self) -> Vec<Vec<u8>> {
        let shown = self.chain.split_last().unwrap().1;
        shown.iter().map(|text| pem::parse(text).unwrap().into_contents()).collect()
    }
}

impl TestClient {
    /// Makes a call.
    ///
    /// # Errors
    /// The refusal.
    pub async fn create(&self, attempt: &Attempt) -> Result<Answer, Refused> {
        let mut client = IstioCertificateServiceClient::new(self.channel.clone());
        let answer = client.create_certificate(attempt.request()).await;
        let chain = answer.map_err(|status| Refused::of(&status))?.into_inner().cert_chain;
        let leaf = Certificate::parse(pem::parse(&chain[0]).unwrap().contents()).unwrap();
        Ok(Answer { chain, leaf })
    }

    /// Makes a good call that must succeed.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn create_good(&self, ca: &TestCa) -> Answer {
        self.create(&Attempt::good(ca)).await.expect("a good request is answered")
    }
}

/// Gets a leaf for a workload with a token; answers with what its holder shows.
///
/// # Panics
/// When it is refused.
pub async fn workload(ca: &TestCa, identity: &str) -> (Credential, KeyPair) {
    let draft = CsrDraft::new().identity(identity);
    let token = ca.tokens().token(identity, ca.clock().as_ref());
    let attempt = Attempt { csr: draft.pem(), ..Attempt::anonymous() }.token(&token);
    let answer =
        TestClient::connect(ca).await.create(&attempt).await.expect("a workload gets a leaf");
    (Credential::new(answer.chain_der(), &draft.key), draft.key)
}
