//! PodCertificateRequests: a kubelet makes them for Pods, and the API server saw to it that the Pod is on its node and has that
//! service account. They need no approval.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use trust::{SpiffeId, TrustDomain};

use super::request::{Refused, Signed, Wanted, has, text};

/// The shortest life that the API server takes, in seconds.
const LIFE_LEAST: u64 = 3_600;

/// Whether it is neither issued, denied nor failed.
pub(super) fn is_open(object: &Value) -> bool {
    let over = ["Issued", "Denied", "Failed"].iter().any(|type_| has(object, type_).is_some());
    !over && text(object, "/status/certificateChain").is_empty()
}

/// What it wants: a certificate for the service account of the Pod.
pub(super) fn wanted(
    object: &Value,
    namespace: &str,
    domain: &TrustDomain,
) -> Result<Wanted, Refused> {
    let account = text(object, "/spec/serviceAccountName");
    let identity = SpiffeId::kubernetes(domain, namespace, account).map_err(|error| {
        let text = format!("{namespace}/{account} makes no SPIFFE id: {error}");
        Refused::failed("NoServiceAccount", text)
    })?;
    let request = text(object, "/spec/stubPKCS10Request");
    if request.is_empty() {
        let text = "it has no stubPKCS10Request, and its key comes without a CSR: this signer takes requests of kubelets of 1.36 and \
                    later";
        return Err(Refused { type_: "Denied", reason: "NoCSR", message: text.to_owned() });
    }
    let csr = STANDARD.decode(request).map_err(|_| {
        Refused::failed("RequestMalformed", "spec.stubPKCS10Request is not in base64")
    })?;
    let most = object.pointer("/spec/maxExpirationSeconds").and_then(Value::as_u64);
    let bounds = [LIFE_LEAST, most.unwrap_or_default()];
    Ok(Wanted { csr, identity, dns: Vec::new(), life: 0, bounds })
}

/// Writes the certificate into its status, and all that has to come with it.
pub(super) fn put(status: &mut Map<String, Value>, signed: &Signed) {
    let Signed { chain, not_before, not_after, refresh_at, .. } = signed;
    status.insert("certificateChain".to_owned(), json!(chain));
    for (key, time) in
        [("notBefore", not_before), ("notAfter", not_after), ("beginRefreshAt", refresh_at)]
    {
        status.insert(key.to_owned(), json!(time.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_that_of_the_pods_account_and_a_key_without_a_csr_is_denied() {
        let domain = TrustDomain::parse("example.org").unwrap();
        let mut request = json!({ "spec": { "serviceAccountName": "cart",
            "maxExpirationSeconds": 86400, "stubPKCS10Request": "Q1NS" } });
        assert!(is_open(&request));
        let found = wanted(&request, "shop", &domain).unwrap();
        assert_eq!(found.identity.as_str(), "spiffe://example.org/ns/shop/sa/cart");
        assert_eq!((found.csr.as_slice(), found.bounds), (b"CSR".as_slice(), [3_600, 86_400]));
        request["spec"]["stubPKCS10Request"] = json!(null);
        request["spec"]["pkixPublicKey"] = json!("S0VZ");
        let refused = wanted(&request, "shop", &domain).unwrap_err();
        assert_eq!((refused.type_, refused.reason), ("Denied", "NoCSR"));
        for over in ["Issued", "Denied", "Failed"] {
            request["status"] = json!({ "conditions": [{ "type": over, "status": "True" }] });
            assert!(!is_open(&request), "{over}");
        }
    }
}
