//! CertificateSigningRequests: signed once somebody approved them. To approve is not ours: it is a right of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use trust::{SpiffeId, TrustDomain};

use super::request::{ACCOUNT, ACCOUNTS, Refused, Signed, Wanted, has, only_usages, text};

/// Whether it is approved, and neither denied, failed nor signed.
pub(super) fn is_open(object: &Value) -> bool {
    let approved = has(object, "Approved") == Some(true);
    let closed = ["Denied", "Failed"].iter().any(|type_| has(object, type_).is_some());
    approved && !closed && text(object, "/status/certificate").is_empty()
}

/// What it wants: a certificate for the service account that made it.
pub(super) fn wanted(object: &Value, domain: &TrustDomain) -> Result<Wanted, Refused> {
    let identity = identity(object, domain)?;
    only_usages(object)?;
    let csr = STANDARD.decode(text(object, "/spec/request")).map_err(|_| {
        Refused::failed("RequestMalformed", "spec.request is not in base64: make it anew")
    })?;
    let life = object.pointer("/spec/expirationSeconds").and_then(Value::as_u64);
    let life = life.unwrap_or_default();
    Ok(Wanted { csr, identity, dns: Vec::new(), life, bounds: [0, 0] })
}

/// The API server wrote down who made the request, and nobody can change it.
fn identity(object: &Value, domain: &TrustDomain) -> Result<SpiffeId, Refused> {
    let user = text(object, "/spec/username");
    let account = user.strip_prefix(ACCOUNT).and_then(|account| account.split_once(':'));
    let groups = object.pointer("/spec/groups").and_then(Value::as_array);
    let is_account = groups.into_iter().flatten().any(|group| group.as_str() == Some(ACCOUNTS));
    let refused = |why: &str| {
        let text = format!(
            "it was made by {user:?}, {why}: this signer gives a certificate to the service account that makes the request; \
             make it with a token of that account"
        );
        Refused::failed("NoServiceAccount", text)
    };
    let Some((namespace, name)) = account.filter(|_| is_account) else {
        return Err(refused("which is no service account"));
    };
    SpiffeId::kubernetes(domain, namespace, name)
        .map_err(|error| refused(&format!("which makes no SPIFFE id ({error})")))
}

/// Writes the certificate into its status.
pub(super) fn put(status: &mut Map<String, Value>, signed: &Signed) {
    status.insert("certificate".to_owned(), json!(STANDARD.encode(&signed.chain)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csr(conditions: &Value, certificate: &str) -> Value {
        json!({
            "spec": { "username": "system:serviceaccount:shop:cart", "groups": [ACCOUNTS],
                "usages": ["client auth"], "request": "Q1NS", "expirationSeconds": 7200 },
            "status": { "conditions": conditions, "certificate": certificate },
        })
    }

    #[test]
    fn only_what_is_approved_and_not_over_is_open() {
        let is = |type_: &str| json!({ "type": type_, "status": "True" });
        for (conditions, certificate, open) in [
            (json!([is("Approved")]), "", true),
            (json!(null), "", false),
            (json!([]), "", false),
            (json!([{ "type": "Approved" }]), "", false),
            (json!([{ "type": "Approved", "status": "False" }]), "", false),
            (json!([is("Approved"), is("Denied")]), "", false),
            (json!([is("Denied"), is("Approved")]), "", false),
            (json!([is("Approved"), { "type": "Denied", "status": "Unknown" }]), "", false),
            (json!([is("Approved"), is("Failed")]), "", false),
            (json!([is("Approved")]), "Q0VSVA==", false),
        ] {
            assert_eq!(is_open(&csr(&conditions, certificate)), open, "{conditions}");
        }
    }

    #[test]
    fn the_identity_is_that_of_the_account_that_made_it_and_of_nobody_else() {
        let domain = TrustDomain::parse("example.org").unwrap();
        let mut good = csr(&json!([]), "");
        let wanted = super::wanted(&good, &domain).unwrap();
        assert_eq!(wanted.identity.as_str(), "spiffe://example.org/ns/shop/sa/cart");
        assert_eq!((wanted.csr.as_slice(), wanted.life), (b"CSR".as_slice(), 7_200));
        for user in
            ["alice", "system:node:n", "system:serviceaccount:shop", "system:serviceaccount:a/b:c"]
        {
            let mut other = good.clone();
            other["spec"]["username"] = json!(user);
            assert_eq!(super::wanted(&other, &domain).unwrap_err().reason, "NoServiceAccount");
        }
        let mut named_alike = good.clone();
        named_alike["spec"]["groups"] = json!(["system:authenticated"]);
        assert_eq!(super::wanted(&named_alike, &domain).unwrap_err().reason, "NoServiceAccount");
        good["spec"]["usages"] = json!(["client auth", "cert sign"]);
        assert_eq!(super::wanted(&good, &domain).unwrap_err().reason, "UsageRefused");
    }
}
