//! A workload without agent: it only speaks the Istio CSR API, as pilot-agent does. Its trust comes with its leaf, and
//! stays as it was until it asks again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use console::tls_channel;
use host::SystemClock;
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::sync::Notify;
use trust::Clock;

use super::held::Held;
use crate::tokens::TokenSource;

/// Wait before a call that failed is made again.
const RETRY: Duration = Duration::from_millis(250);

/// How a client without agent proves itself, and whom it believes at first.
#[derive(Debug, Clone)]
pub struct Account {
    /// The servers of the CA, asked in turn, as a load balancer would.
    pub ca: Vec<SocketAddr>,
    /// Roots in PEM, as a file that is mounted beside the workload has them.
    pub first_roots: String,
    /// Who signs its service-account tokens.
    pub tokens: Arc<TokenSource>,
    /// Its namespace and name.
    pub name: (&'static str, String),
}

/// Gets leaves without end: each in the last third of the one before, or when it is told to.
pub(super) async fn follow(account: Account, state: Arc<Held>, anew: Arc<Notify>) {
    let mut turn = 0_usize;
    loop {
        let renew_at = state.leaf_validity().map(|validity| {
            let life = validity.not_after().since(validity.not_before());
            validity.not_after().minus(life / 3)
        });
        if renew_at.is_some_and(|at| SystemClock.now() < at) {
            let told = tokio::time::timeout(RETRY, anew.notified()).await.is_ok();
            if !told {
                continue;
            }
        }
        turn = turn.wrapping_add(1);
        if let Err(error) = account.ask(turn, &state).await {
            tracing::debug!(name = account.name.1, error = %format!("{error:#}"), "no leaf");
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl Account {
    async fn ask(&self, turn: usize, state: &Held) -> anyhow::Result<()> {
        let place = turn.checked_rem(self.ca.len()).unwrap_or_default();
        let ca = self.ca.get(place).context("no CA")?;
        let trusted = state.roots_pem().unwrap_or_else(|| self.first_roots.clone());
        let config =
            tls_channel::client_config(tls_channel::roots_from_pem(trusted.as_bytes())?, None)?;
        let channel = tls_channel::connect(&ca.to_string(), config).await?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key)?.pem()?;
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr,
            validity_duration: 0,
            metadata: None,
        });
        let token = self.tokens.service_account(self.name.0, &self.name.1)?;
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let answer =
            IstioCertificateServiceClient::new(channel).create_certificate(request).await?;
        let strings = answer.into_inner().cert_chain;
        let (roots, chain) = strings.split_last().context("an empty answer")?;
        // Both come together and are taken together.
        state.take_both(chain.concat().as_bytes(), key.serialize_pem().as_bytes(), roots.as_bytes())
    }
}
