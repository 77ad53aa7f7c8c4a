//! A client that only speaks the Istio CSR API, as pilot-agent does: its trust comes with its leaf, and stays as it was
//! until it asks again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use host::SystemClock;
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::KeyPair;
use tokio::task::JoinHandle;
use trust::Clock as _;

use super::ca::{csr, tls_channel};
use super::{Holding, Received};
use crate::tokens::TokenIssuer;

/// Wait before a call that failed is made again.
const RETRY: Duration = Duration::from_millis(250);

/// A member without agent. It renews its leaf in the last third of its life.
#[derive(Debug)]
pub struct CsrClient {
    name: String,
    holding: Arc<Mutex<Holding>>,
    task: JoinHandle<()>,
}

struct Account {
    ca: SocketAddr,
    first_roots: Vec<Vec<u8>>,
    tokens: Arc<TokenIssuer>,
    name: String,
    received: Received,
}

impl CsrClient {
    /// Gets its first leaf, then renews without end. It believes the CA by `first_roots`, and later by what came with its
    /// leaf.
    ///
    /// # Errors
    /// When the CA gives it no leaf.
    pub async fn join(
        ca: SocketAddr,
        first_roots: Vec<Vec<u8>>,
        tokens: Arc<TokenIssuer>,
        name: &str,
    ) -> anyhow::Result<Self> {
        Self::join_noting(ca, first_roots, tokens, name, &Received::default()).await
    }

    /// The same; each leaf that it is given is noted.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub async fn join_noting(
        ca: SocketAddr,
        first_roots: Vec<Vec<u8>>,
        tokens: Arc<TokenIssuer>,
        name: &str,
        received: &Received,
    ) -> anyhow::Result<Self> {
        let (name_of_it, received) = (name.to_owned(), received.clone());
        let account = Account { ca, first_roots, tokens, name: name_of_it, received };
        let holding = Arc::new(Mutex::new(account.ask(&Holding::default()).await?));
        let task = tokio::spawn(renew(account, Arc::clone(&holding)));
        Ok(Self { name: name.to_owned(), holding, task })
    }

    /// Its name in failures.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it presents and trusts now.
    pub fn holding(&self) -> Holding {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for CsrClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn renew(account: Account, holding: Arc<Mutex<Holding>>) {
    loop {
        let held = holding.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(leaf) = held.leaf() else { return };
        let (start, end) = (leaf.validity().not_before(), leaf.validity().not_after());
        if SystemClock.now() < end.minus(end.since(start) / 3) {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        match account.ask(&held).await {
            // Leaf and trust come together and are taken together.
            Ok(new) => *holding.lock().unwrap_or_else(PoisonError::into_inner) = new,
            Err(error) => {
                tracing::warn!(client = account.name, error = %format!("{error:#}"), "no leaf");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

impl Account {
    async fn ask(&self, held: &Holding) -> anyhow::Result<Holding> {
        let roots = if held.roots.is_empty() { &self.first_roots } else { &held.roots };
        let channel = tls_channel(self.ca, roots, None, &[&rustls::version::TLS13]).await?;
        let key = KeyPair::generate()?;
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr: csr(&key)?.1,
            validity_duration: 0,
            metadata: None,
        });
        let token = self.tokens.of_account("csr", &self.name);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let answer =
            IstioCertificateServiceClient::new(channel).create_certificate(request).await?;
        let strings = answer.into_inner().cert_chain;
        let (roots, chain) = strings.split_last().context("an empty answer")?;
        let der = |text: &String| pem::parse(text).map(pem::Pem::into_contents);
        let chain = chain.iter().map(der).collect::<Result<Vec<_>, _>>()?;
        self.received.note(&chain);
        Ok(Holding {
            chain,
            key: key.serialize_der(),
            roots: pem::parse_many(roots)?.into_iter().map(pem::Pem::into_contents).collect(),
        })
    }
}
