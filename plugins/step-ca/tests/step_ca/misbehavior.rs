//! What no step-ca would answer is refused.

use std::sync::{Arc, Mutex};

use plugins::{PluginError, RootAuthority, Unsafe};
use rcgen::{BasicConstraints, Issuer, KeyPair, PublicKeyData, SanType};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use trust::{Certificate, RootId};

use crate::server::{Pki, ca_params};
use crate::{DAY, asked, context, fresh, id};

/// Answers of a server that speaks in the clear: status line and body, by path.
type Answers = Arc<Mutex<Vec<(&'static str, &'static str, Value)>>>;

/// The P-256 point of a CSR.
struct CsrKey(Vec<u8>);

impl PublicKeyData for CsrKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

struct Liar {
    address: String,
    answers: Answers,
}

impl Liar {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answers = Answers::default();
        let said = Arc::clone(&answers);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&said)));
            }
        });
        Self { address, answers }
    }

    /// Answers like a step-ca with this PKI that answers any request for a certificate with these.
    fn says(&self, pki: &Pki, chain: &[String]) {
        *self.answers.lock().unwrap() = vec![
            ("/1.0/roots", "201 Created", json!({ "crts": [pki.root.pem()] })),
            ("/1.0/intermediates", "201 Created", json!({ "crts": [pki.intermediate.pem()] })),
            ("/1.0/sign", "201 Created", json!({ "certChain": chain })),
        ];
    }

    fn instead(&self, path: &'static str, status: &'static str, body: Value) {
        self.answers.lock().unwrap().insert(0, (path, status, body));
    }

    fn opened(&self) -> (tempfile::TempDir, Arc<dyn RootAuthority>) {
        let home = tempfile::tempdir().unwrap();
        let key = home.path().join("key");
        std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let section = format!(
            "address = \"{}\"\nca_file = \"unused\"\nprovisioner = \"p\"\nkey_file = {key:?}\n",
            self.address
        );
        (home, fresh(&section))
    }
}

/// A CA of path length 0 for somebody's key, as the documented template makes it, of the intermediate of a PKI.
fn issuer(pki: &Pki, key: &impl PublicKeyData) -> String {
    let mut params = ca_params("Banyan issuer", BasicConstraints::Constrained(0));
    params.subject_alt_names = vec![SanType::URI("spiffe://example.org".try_into().unwrap())];
    let above = Certificate::parse(pki.intermediate.der()).unwrap().subject_text();
    let above = above.strip_prefix("CN=").unwrap();
    let above = ca_params(above, BasicConstraints::Unconstrained);
    params.signed_by(key, &Issuer::from_params(&above, &pki.intermediate_key)).unwrap().pem()
}

async fn answer(mut stream: TcpStream, answers: Answers) {
    let mut request = [0; 16_384];
    let len = stream.read(&mut request).await.unwrap_or_default();
    let request = String::from_utf8_lossy(request.get(..len).unwrap_or_default()).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let found = answers.lock().unwrap().iter().find(|(known, ..)| *known == path).cloned();
    let (_, status, body) = found.unwrap_or(("", "404 Not Found", json!({})));
    let body = body.to_string();
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

#[tokio::test]
async fn an_issuer_for_another_key_or_of_another_root_is_not_safe() {
    let (pki, other) = (Pki::new("mesh", 1).unwrap(), Pki::new("other", 1).unwrap());
    let liar = Liar::start().await;
    let (_home, authority) = liar.opened();
    let stranger = KeyPair::generate().unwrap();
    liar.says(&pki, &[issuer(&pki, &stranger), pki.intermediate.pem()]);
    let error = asked(authority.as_ref(), id(&pki), DAY).await.unwrap_err();
    let PluginError::Unsafe(problem) = &error else { panic!("{error:?}") };
    assert_eq!(problem.reason(), "KEY_NOT_OF_CSR");

    // The right key, under another root.
    let request = crate::request(id(&pki), DAY).await;
    let key = trust::csr::ParsedCsr::from_der(&request.csr_der).unwrap();
    let spki = key.public_key().spki_der();
    let key = CsrKey(spki[spki.len() - 65..].to_vec());
    for chain in [
        vec![issuer(&other, &key), other.intermediate.pem(), other.root.pem()],
        vec![issuer(&other, &key), pki.intermediate.pem()],
        vec![issuer(&pki, &key)],
    ] {
        liar.says(&pki, &chain);
        let error = authority.sign_issuer(&context("other"), &request).await.unwrap_err();
        assert!(matches!(error, PluginError::Unsafe(_)), "{error:?}");
    }
    liar.says(&pki, &[pki.root.pem()]);
    let error = authority.sign_issuer(&context("root"), &request).await.unwrap_err();
    assert!(matches!(error, PluginError::Unsafe(Unsafe::ChainLength { count: 0 })), "{error:?}");
    liar.says(&pki, &[issuer(&pki, &key), pki.intermediate.pem()]);
    assert!(authority.sign_issuer(&context("good"), &request).await.is_ok(), "the truth is taken");
}

#[tokio::test]
async fn roots_that_do_not_fit_what_signs_are_refused() {
    let (pki, other) = (Pki::new("mesh", 1).unwrap(), Pki::new("other", 1).unwrap());
    let liar = Liar::start().await;
    let (_home, authority) = liar.opened();
    liar.says(&pki, &[]);
    liar.instead("/1.0/roots", "201 Created", json!({ "crts": [other.root.pem()] }));
    let error = authority.roots(&context("roots")).await.unwrap_err();
    assert!(matches!(error, PluginError::Permanent { .. }), "{error:?}");
    assert!(error.to_string().contains("does not lead to one of its roots"), "{error}");
    liar.instead("/1.0/roots", "201 Created", json!({ "crts": ["-----BEGIN CERTIFICATE-----"] }));
    let error = authority.roots(&context("roots")).await.unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
    liar.instead("/1.0/roots", "200 OK", json!("welcome"));
    let error = authority.roots(&context("roots")).await.unwrap_err();
    assert!(matches!(error, PluginError::AuthorityDown { .. }), "{error:?}");
    liar.says(&pki, &[]);
    let signing = authority.roots(&context("roots")).await.unwrap().signing;
    assert_eq!(signing, Some(RootId::of(pki.root.der())));
}

#[tokio::test]
async fn each_status_says_what_to_do_next() {
    let pki = Pki::new("mesh", 1).unwrap();
    let liar = Liar::start().await;
    let (_home, authority) = liar.opened();
    let message =
        json!({ "status": 0, "message": format!("no\nline breaks{}", "x".repeat(5_000)) });
    for (status, kind) in [
        ("400 Bad Request", "Denied"),
        ("401 Unauthorized", "Denied"),
        ("403 Forbidden", "Denied"),
        ("404 Not Found", "Misconfigured"),
        ("418 I'm a teapot", "Permanent"),
        ("429 Too Many Requests", "RateLimited"),
        ("500 Internal Server Error", "Transient"),
        ("503 Service Unavailable", "AuthorityDown"),
    ] {
        liar.says(&pki, &[]);
        liar.instead("/1.0/sign", status, message.clone());
        let error = asked(authority.as_ref(), id(&pki), DAY).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(kind), "{status}: {error:?}");
        let text = error.to_string();
        assert!(!text.contains('\n') && text.len() < 1_000, "{status}: {text}");
    }
}
