//! What is handed out while a CertificateRequest waits: all that is needed to ask again, by whichever server of the CA.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plugins::{IssuerRequest, RequestId, Ticket};
use serde::{Deserialize, Serialize};
use trust::TrustDomain;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    request: String,
    root: String,
    csr: String,
    ttl: u64,
    path_len: u8,
}

/// The claim on the answer to a request.
pub(crate) fn of(id: &RequestId, request: &IssuerRequest) -> Ticket {
    let form = Form {
        request: id.to_string(),
        root: request.root.to_string(),
        csr: STANDARD.encode(&request.csr_der),
        ttl: request.ttl.as_secs(),
        path_len: request.path_len,
    };
    Ticket::new(serde_json::to_string(&form).unwrap_or_default())
}

/// The request behind it; none if it is no ticket of ours.
pub(crate) fn read(ticket: &Ticket, domain: &TrustDomain) -> Option<(RequestId, IssuerRequest)> {
    let form: Form = serde_json::from_str(ticket.as_str()).ok()?;
    let id = RequestId::parse(&form.request).ok()?;
    let (root, csr) = (form.root.parse().ok()?, STANDARD.decode(form.csr).ok()?);
    let request = IssuerRequest::new(root, csr, domain.clone(), Duration::from_secs(form.ttl));
    Some((id, request.with_path_len(form.path_len)))
}

#[cfg(test)]
mod tests {
    use trust::RootId;

    use super::*;

    #[test]
    fn a_ticket_brings_the_request_back_and_other_texts_bring_nothing() {
        let domain = TrustDomain::parse("example.org").unwrap();
        let root = RootId::of(b"root");
        let asked = IssuerRequest::new(root, vec![7; 900], domain.clone(), Duration::from_secs(9));
        let (id, asked) = (RequestId::parse("one").unwrap(), asked.with_path_len(2));
        let ticket = of(&id, &asked);
        assert!(ticket.as_str().len() < 4_096);
        assert_eq!(read(&ticket, &domain), Some((id, asked)));
        assert_eq!(read(&Ticket::new("never given"), &domain), None);
    }
}
