//! `istio.v1.auth.IstioCertificateService`: certificates for Istio's data planes.

use std::sync::Arc;

use auth::authz::{refuse_impersonation, requested_ttl};
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
        let snapshot = self.ca.cell.load();
        let caller = call.authenticate(&snapshot)?;
        let csr = csr.verify()?;
        check_metadata(message.metadata.as_ref())?;
        let ttl = requested_ttl(message.validity_duration);
        let request = self.ca.authorizer.workload(&caller, csr, ttl, &snapshot)?;
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
        let (mut call, message) = Call::met(&self.ca, request).await;
        match self.create(&mut call, message).await {
            Ok(cert_chain) => Ok(Response::new(IstioCertificateResponse { cert_chain })),
            Err(refusal) => Err(call.refuse(refusal)),
        }
    }
}

/// Two keys mean something; others are skipped, as the protocol has it.
fn check_metadata(metadata: Option<&Struct>) -> Result<(), Refusal> {
    let signer = text(metadata, "CertSigner")?;
    if !signer.is_empty() {
        let text =
            format!("there is no signer \"{}\" here: leave CertSigner empty", echoed(signer));
        return Err(Refusal::new(Reason::RequestInvalid, text));
    }
    refuse_impersonation(text(metadata, "ImpersonatedIdentity")?)
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
    fn only_an_empty_signer_and_nobody_elses_identity_pass() {
        let text = |text: &str| Kind::StringValue(text.to_owned());
        for (key, kind, refused) in [
            ("CertSigner", text(""), None),
            ("CertSigner", Kind::NullValue(0), None),
            ("CertSigner", text("other"), Some(Reason::RequestInvalid)),
            ("CertSigner", Kind::NumberValue(1.0), Some(Reason::RequestInvalid)),
            ("ImpersonatedIdentity", text(""), None),
            ("ImpersonatedIdentity", text("spiffe://a/b"), Some(Reason::ImpersonationRefused)),
            ("Unknown", text("x"), None),
        ] {
            let judged = check_metadata(Some(&metadata(key, kind.clone())));
            assert_eq!(judged.err().map(|refusal| refusal.reason()), refused, "{key} {kind:?}");
        }
        assert!(check_metadata(None).is_ok());
    }
}
