//! `istio.v1.auth.IstioCertificateService`: certificates for Istio's data planes.

use std::sync::Arc;

use auth::authn::cluster::impersonated;
use auth::authz::{Asked, requested_ttl};
use auth::refusal::{Reason, Refusal, echoed};
use prost_types::Struct;
use prost_types::value::Kind;
use proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateService;
use proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use tonic::{Request, Response, Status};
use trust::csr::ParsedCsr;

use crate::call::Call;
use control::ca::Ca;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct IstioCertificates {
    ca: Arc<Ca>,
}

impl IstioCertificates {
    pub(crate) const fn new(ca: Arc<Ca>) -> Self {
        Self { ca }
    }

    async fn create(
        &self,
        call: &mut Call,
        message: IstioCertificateRequest,
    ) -> Result<Vec<String>, Refusal> {
        let csr = ParsedCsr::from_pem(message.csr.as_bytes())?;
        call.meet().await;
        let snapshot = self.ca.cell.load();
        let caller = call.authenticate(&snapshot)?;
        let csr = csr.verify()?;
        let ttl = requested_ttl(message.validity_duration);
        let request = match on_behalf_of(message.metadata.as_ref())? {
            "" => self.ca.authorizer.workload(&caller, csr, ttl, &snapshot)?,
            other => {
                let domain = snapshot.bundle().trust_domain();
                let granted = impersonated(self.ca.clusters.as_ref(), &caller, other, domain)?;
                self.ca.authorizer.on_node(granted, Asked { csr, ttl }, &snapshot)?
            }
        };
        self.ca.may_admit()?;
        let leaf = call.issue(&request, snapshot).await?;
        Ok(leaf.istio_chain())
    }
}

#[tonic::async_trait]
impl IstioCertificateService for IstioCertificates {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let (mut call, message) = Call::of(&self.ca, request);
        match self.create(&mut call, message).await {
            Ok(cert_chain) => Ok(Response::new(IstioCertificateResponse { cert_chain })),
            Err(refusal) => Err(call.refuse(refusal)),
        }
    }
}

/// The identity that a node account asks for in place of its own; empty for all others. Two keys mean something; others are
/// skipped, as the protocol has it.
fn on_behalf_of(metadata: Option<&Struct>) -> Result<&str, Refusal> {
    let signer = text(metadata, "CertSigner")?;
    if !signer.is_empty() {
        let text =
            format!("there is no signer \"{}\" here: leave CertSigner empty", echoed(signer));
        return Err(Refusal::new(Reason::RequestInvalid, text));
    }
    text(metadata, "ImpersonatedIdentity")
}

fn text<'m>(metadata: Option<&'m Struct>, key: &str) -> Result<&'m str, Refusal> {
    match metadata.and_then(|metadata| metadata.fields.get(key)).map(|value| &value.kind) {
        None | Some(None | Some(Kind::NullValue(_))) => Ok(""),
        Some(Some(Kind::StringValue(text))) => Ok(text),
        Some(Some(_)) => Err(Refusal::new(
            Reason::RequestInvalid,
            format!("{key} in the metadata must be a text"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Value;

    use super::*;

    fn metadata(key: &str, kind: Kind) -> Struct {
        Struct { fields: [(key.to_owned(), Value { kind: Some(kind) })].into() }
    }

    #[test]
    fn only_an_empty_signer_passes_and_another_identity_is_a_text() {
        let text = |text: &str| Kind::StringValue(text.to_owned());
        for (key, kind, found) in [
            ("CertSigner", text(""), Ok("")),
            ("CertSigner", Kind::NullValue(0), Ok("")),
            ("CertSigner", text("other"), Err(Reason::RequestInvalid)),
            ("CertSigner", Kind::NumberValue(1.0), Err(Reason::RequestInvalid)),
            ("ImpersonatedIdentity", text(""), Ok("")),
            ("ImpersonatedIdentity", text("spiffe://a/b"), Ok("spiffe://a/b")),
            ("ImpersonatedIdentity", Kind::NumberValue(1.0), Err(Reason::RequestInvalid)),
            ("Unknown", text("x"), Ok("")),
        ] {
            let metadata = metadata(key, kind.clone());
            let asked = on_behalf_of(Some(&metadata)).map_err(|refusal| refusal.reason());
            assert_eq!(asked, found, "{key} {kind:?}");
        }
        assert_eq!(on_behalf_of(None).unwrap(), "");
    }
}
