//! What the webhook is served with: a leaf of the CA for its service account, which also names its Service. The key is made here,
//! is new with each leaf, and is in memory alone.

use std::sync::Arc;
use std::time::Duration;

use proto::banyan::admin::v1::leaf_service_client::LeafServiceClient;
use proto::banyan::admin::v1::signer_service_client::SignerServiceClient;
use proto::banyan::admin::v1::{ForgetLeavesRequest, SignRequest, SignResponse, SignedObject};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto, version};
use trust::Timestamp;
use trust::digest::sha256;

use crate::ca::{self, Trust};
use crate::config::InjectConfig;
use crate::world::World;

/// Longest life: what is left of a former root's leaf is what a rotation may have to wait for.
const LIFE_SECONDS_MAX: u64 = 3_600;
/// Longest wait for a leaf.
const SIGN_WITHIN: Duration = Duration::from_secs(30);

/// A leaf that is served.
pub(super) struct Leaf {
    pub(super) tls: Arc<ServerConfig>,
    pub(super) not_after: Timestamp,
    refresh_at: Timestamp,
    serial: Vec<u8>,
    /// The root above it.
    root: Vec<u8>,
}

impl Leaf {
    /// Asks the CA for one.
    pub(super) async fn obtain(
        world: &World,
        trust: &Trust,
        config: &InjectConfig,
    ) -> Result<Self, String> {
        let (key, csr) = key().map_err(|error| format!("no key can be made: {error}"))?;
        let request = SignRequest {
            csr,
            identity: format!("spiffe://{}{}", trust.trust_domain, config.holder()),
            life_seconds_max: LIFE_SECONDS_MAX,
            object: Some(SignedObject {
                kind: "MutatingWebhookConfiguration".to_owned(),
                name: config.webhook.clone(),
                ..SignedObject::default()
            }),
            dns_names: vec![config.dns_name()],
            ..SignRequest::default()
        };
        let mut signer = SignerServiceClient::new(world.ca.channel());
        let answer = tokio::time::timeout(SIGN_WITHIN, signer.sign(request)).await;
        let Ok(answer) = answer else {
            return Err(format!("the CA gives no answer within {} s", SIGN_WITHIN.as_secs()));
        };
        let signed = answer.map_err(|status| ca::told(&status))?.into_inner();
        let tls = tls(&signed, key).map_err(|error| format!("it cannot be served: {error}"))?;
        Ok(Self {
            tls: Arc::new(tls),
            not_after: Timestamp::from_secs(signed.not_after),
            refresh_at: Timestamp::from_secs(signed.refresh_at),
            serial: signed.serial,
            root: signed.root,
        })
    }

    /// Whether another one is to be asked for: another root signs, or most of its life is over.
    pub(super) fn is_due(&self, trust: &Trust, now: Timestamp) -> bool {
        self.root != signs(trust) || now >= self.refresh_at
    }

    /// When most of its life is over.
    pub(super) fn due_in(&self, now: Timestamp) -> Duration {
        self.refresh_at.since(now)
    }

    /// Nobody holds it any more: a connection that began with it ends within seconds.
    pub(super) fn retired(&self) -> Former {
        Former { serial: self.serial.clone(), root: self.root.clone(), not_after: self.not_after }
    }
}

/// A leaf that was served, and whose key is gone.
pub(super) struct Former {
    serial: Vec<u8>,
    root: Vec<u8>,
    not_after: Timestamp,
}

/// Tells the CA of those of a former root that nobody holds them, so that no rotation waits for their end. What it does not take
/// is told again.
pub(super) async fn forget(world: &World, trust: &Trust, formers: &mut Vec<Former>) {
    let (now, present) = (world.clock.now(), signs(trust));
    formers.retain(|former| former.not_after > now);
    let gone = formers.iter().filter(|former| former.root != present);
    let serials: Vec<_> = gone.map(|former| former.serial.clone()).collect();
    if serials.is_empty() {
        return;
    }
    let request = ForgetLeavesRequest {
        serials,
        by: "banyan kubernetes".to_owned(),
        reason: "the webhook is served with another leaf, and the keys of these are gone"
            .to_owned(),
        ..ForgetLeavesRequest::default()
    };
    match LeafServiceClient::new(world.ca.channel()).forget_leaves(request).await {
        Ok(_) => formers.retain(|former| former.root == present),
        Err(status) => {
            let error = ca::told(&status);
            tracing::warn!(error, "former leaves of the webhook hold gates; it is told again");
        }
    }
}

/// The root that signs.
fn signs(trust: &Trust) -> Vec<u8> {
    let active = trust.roots.iter().find(|root| root.state == "active");
    active.map(|root| sha256(&root.der).to_vec()).unwrap_or_default()
}

fn key() -> Result<(PrivateKeyDer<'static>, Vec<u8>), rcgen::Error> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&pair)?.der().to_vec();
    Ok((PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der())), csr))
}

fn tls(
    signed: &SignResponse,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, tokio_rustls::rustls::Error> {
    let chain = signed.chain.iter().cloned().map(CertificateDer::from).collect();
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
    // What API servers speak to webhooks, so that calls are spread.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
