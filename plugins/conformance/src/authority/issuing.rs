//! Issuers.

use plugins::{PluginError, Ticket};
use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};
use trust::certificate::Certificate;
use trust::{PublicKey, RootId, TrustDomain};

use super::subject::{ROOT_LIFETIME, Trial, denied, ready};
use crate::report::{Broken, Verdict, demand, works};

pub(super) async fn issuer_is_safe(trial: &Trial<'_>) -> Verdict {
    let root = trial.root("root-a").await?;
    let key = trial.issuer_key("issuer").await?;
    let request = trial.issuer_request(root, &key).await?;
    let chain = ready(works("sign_issuer", trial.sign("issuer", &request).await?)?)?;
    trial.check_issuer(root, &key.public, &chain).await.map(|_| ())
}

pub(super) async fn same_request_same_bytes(trial: &Trial<'_>) -> Verdict {
    let root = trial.root("root-a").await?;
    let request = trial.issuer_request(root, &trial.issuer_key("issuer-same").await?).await?;
    let first = ready(works("sign_issuer", trial.sign("issuer-same", &request).await?)?)?;
    let second = ready(works("sign_issuer again", trial.sign("issuer-same", &request).await?)?)?;
    demand(first == second, "one request id made two issuers")
}

pub(super) async fn at_once_same_bytes(trial: &Trial<'_>) -> Verdict {
    let root = trial.root("root-a").await?;
    let request = trial.issuer_request(root, &trial.issuer_key("issuer-at-once").await?).await?;
    let (a, b) = tokio::join!(
        trial.sign("issuer-at-once", &request),
        trial.sign("issuer-at-once", &request)
    );
    let (a, b) = (ready(works("sign_issuer", a?)?)?, ready(works("sign_issuer", b?)?)?);
    demand(a == b, "calls at once with one request id made two issuers")
}

pub(super) async fn other_contents_is_denied(trial: &Trial<'_>) -> Verdict {
    let root = trial.root("root-a").await?;
    let one = trial.issuer_request(root, &trial.issuer_key("issuer-one").await?).await?;
    let other = trial.issuer_request(root, &trial.issuer_key("issuer-other").await?).await?;
    works("sign_issuer", trial.sign("issuer-reused", &one).await?)?;
    denied("the same request with another CSR", &trial.sign("issuer-reused", &other).await?)
}

pub(super) async fn unknown_root_is_denied(trial: &Trial<'_>) -> Verdict {
    let unknown = RootId::of(b"no such root");
    let request = trial.issuer_request(unknown, &trial.issuer_key("issuer").await?).await?;
    denied("an issuer under an unknown root", &trial.sign("issuer-unknown-root", &request).await?)
}

pub(super) async fn outliving_root_is_denied(trial: &Trial<'_>) -> Verdict {
    trial.staging()?;
    let root = trial.root("root-a").await?;
    let mut longer = trial.issuer_request(root, &trial.issuer_key("issuer").await?).await?;
    longer.ttl = ROOT_LIFETIME * 2;
    let refused = trial.sign("issuer-too-long", &longer).await?;
    match &refused {
        // As good, and better: the caller learns for how long it may ask.
        Err(PluginError::Outlives { .. }) => Ok(()),
        refused => denied("an issuer that outlives its root", refused),
    }
}

pub(super) async fn without_possession_is_denied(trial: &Trial<'_>) -> Verdict {
    let root = trial.root("root-a").await?;
    let mut request = trial.issuer_request(root, &trial.issuer_key("issuer").await?).await?;
    if let Some(last) = request.csr_der.last_mut() {
        *last ^= 1;
    }
    denied("a CSR whose signature is wrong", &trial.sign("issuer-forged", &request).await?)
}

/// A CSR that asks for names, and for a CA without limit, is refused, or gives nothing of it.
pub(super) async fn csr_gives_nothing_but_its_key(trial: &Trial<'_>) -> Verdict {
    let root = trial.root("root-a").await?;
    let handle = trial.issuer_key("issuer").await?;
    let (csr_der, public) = works("the suite's CSR", greedy_csr())?;
    let mut request = trial.issuer_request(root, &handle).await?;
    request.csr_der = csr_der;
    let Ok(outcome) = trial.sign("issuer-greedy", &request).await? else { return Ok(()) };
    let chain = ready(outcome)?;
    let public = works("the suite's key", PublicKey::parse(&public))?;
    trial.check_issuer(root, &public, &chain).await?;
    let first = chain
        .certificates
        .first()
        .ok_or_else(|| Broken::Failed("the chain is empty".to_owned()))?;
    let issuer = works("the issuer", Certificate::parse(first))?;
    let text = format!("{:?} {}", issuer.names(), issuer.subject_text());
    let copied = text.contains("greedy");
    demand(!copied, format!("what the CSR asked for is in the certificate: {text}"))?;
    let path_len =
        issuer.extensions().basic_constraints.and_then(|constraints| constraints.path_len);
    demand(path_len == Some(0), format!("asked for path length 0, got {path_len:?}"))
}

/// Nothing was made for a request that was refused: what was wrong with it may be mended, and asked again under its id.
pub(super) async fn refusals_are_not_remembered(trial: &Trial<'_>) -> Verdict {
    let root = trial.root("root-a").await?;
    let mended = trial.issuer_request(root, &trial.issuer_key("issuer-mended").await?).await?;
    let mut forged = mended.clone();
    if let Some(last) = forged.csr_der.last_mut() {
        *last ^= 1;
    }
    let mut elsewhere = mended.clone();
    elsewhere.root = RootId::of(b"no such root");
    denied("a CSR whose signature is wrong", &trial.sign("issuer-mended", &forged).await?)?;
    denied("an issuer under an unknown root", &trial.sign("issuer-mended", &elsewhere).await?)?;
    let first =
        works("sign_issuer for a mended request", trial.sign("issuer-mended", &mended).await?)?;
    let second = works("sign_issuer again", trial.sign("issuer-mended", &mended).await?)?;
    demand(ready(first)? == ready(second)?, "a mended request made two issuers")
}

pub(super) async fn other_trust_domain_is_denied(trial: &Trial<'_>) -> Verdict {
    let root = trial.root("root-a").await?;
    let mut other = trial.issuer_request(root, &trial.issuer_key("issuer").await?).await?;
    other.trust_domain =
        works("the suite's trust domain", TrustDomain::parse("conformance-other.test"))?;
    denied("an issuer for another trust domain", &trial.sign("issuer-other-domain", &other).await?)
}

pub(super) async fn unknown_ticket_is_denied(trial: &Trial<'_>) -> Verdict {
    let ticket = Ticket::new("no such ticket");
    denied("an unknown ticket", &trial.authority().poll(&trial.context("poll")?, &ticket).await)
}

/// A CSR full of requests, and its public key.
fn greedy_csr() -> Result<(Vec<u8>, Vec<u8>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["greedy.example".to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "greedy");
    params.subject_alt_names.push(SanType::URI("spiffe://greedy.example/ns/a/sa/b".try_into()?));
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.custom_extensions =
        vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0])];
    let csr = params.serialize_request(&key)?;
    Ok((csr.der().to_vec(), rcgen::PublicKeyData::subject_public_key_info(&key)))
}
