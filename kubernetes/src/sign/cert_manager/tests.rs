//! Who gets which names, and what becomes of a request.

use super::*;

const CART: &str = "spiffe://example.org/ns/shop/sa/cart";

fn csr(uri: Option<&str>, dns: &[&str]) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let uri = uri.map(|uri| rcgen::SanType::URI(uri.try_into().unwrap()));
    let dns = dns.iter().map(|name| rcgen::SanType::DnsName((*name).try_into().unwrap()));
    params.subject_alt_names = uri.into_iter().chain(dns).collect();
    let key = rcgen::KeyPair::generate().unwrap();
    STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap())
}

fn request(csr: String) -> Value {
    json!({
        "spec": {
            "issuerRef": { "group": "banyan.dev", "kind": "BanyanIssuer", "name": "mesh" },
            "request": csr, "duration": "2160h0m0s",
            "usages": ["digital signature", "key encipherment"],
            "username": "system:serviceaccount:cert-manager:cert-manager", "groups": [ACCOUNTS],
        },
        "status": { "conditions": [{ "type": "Approved", "status": "True" }] },
    })
}

fn allowed(accounts: &[&str]) -> Allowed {
    let accounts = accounts.iter().map(|one| (*one).to_owned()).collect();
    Allowed { namespaces: None, accounts, service_names: true }
}

fn judged(object: &Value, allowed: &Allowed) -> Result<Wanted, &'static str> {
    let domain = TrustDomain::parse("example.org").unwrap();
    let rules = Rules { allowed, cluster_domain: "cluster.local" };
    wanted(object, "shop", &domain, &rules).map_err(|refused| refused.reason)
}

#[test]
fn only_what_is_ours_judged_and_not_over_is_open() {
    let is = |type_: &str| json!({ "type": type_, "status": "True" });
    let ready = |reason: &str| json!({ "type": "Ready", "status": "False", "reason": reason });
    for (conditions, open) in [
        (json!([is("Approved")]), true),
        (json!([is("Approved"), ready("Pending")]), true),
        (json!([is("Denied")]), true),
        (json!([is("Denied"), is("Approved")]), true),
        (json!(null), false),
        (json!([]), false),
        (json!([{ "type": "Approved", "status": "False" }]), false),
        (json!([ready("Pending")]), false),
        (json!([is("Approved"), ready("Issued")]), false),
        (json!([is("Approved"), ready("Failed")]), false),
        (json!([is("Denied"), ready("Denied")]), false),
        (json!([is("Approved"), is("InvalidRequest")]), false),
    ] {
        let mut object = request(csr(None, &[]));
        object["status"]["conditions"] = conditions.clone();
        assert_eq!(is_open(&object), open, "{conditions}");
        object["spec"]["issuerRef"]["group"] = json!("cert-manager.io");
        assert!(!is_open(&object), "of another issuer");
    }
    let mut signed = request(csr(None, &[]));
    signed["status"]["certificate"] = json!("Q0VSVA==");
    assert!(!is_open(&signed));
}

#[test]
fn identities_are_those_of_accounts_of_the_requests_namespace_that_the_issuer_allows() {
    let (cart, each) = (allowed(&["cart"]), allowed(&["*"]));
    let good = request(csr(Some(CART), &[]));
    let wanted = judged(&good, &cart).unwrap();
    assert_eq!((wanted.identity.as_str(), wanted.life), (CART, 90 * 24 * 3_600));
    assert!(judged(&good, &each).is_ok());
    assert_eq!(judged(&good, &allowed(&["till"])), Err("AccountRefused"));
    for other in [
        "spiffe://example.org/ns/pay/sa/cart",
        "spiffe://example.com/ns/shop/sa/cart",
        "spiffe://example.org/ns/shop/sa/cart/x",
        "spiffe://example.org/banyan/ca/ca-1",
        "spiffe://example.org/ns/shopping/sa/cart",
    ] {
        let object = request(csr(Some(other), &[]));
        assert_eq!(judged(&object, &each), Err("IdentityRefused"), "{other}");
    }
    assert_eq!(judged(&request(csr(None, &[])), &each), Err("IdentityMissing"));
    let elsewhere = Allowed { namespaces: Some(vec!["pay".to_owned()]), ..cart.clone() };
    assert_eq!(judged(&good, &elsewhere), Err("NamespaceRefused"));
    let here = Allowed { namespaces: Some(vec!["*".to_owned()]), ..cart };
    assert!(judged(&good, &here).is_ok());
}

#[test]
fn an_account_that_asks_for_itself_gets_its_own_identity_and_no_other() {
    let each = allowed(&["*"]);
    let by = |account: &str, uri: Option<&str>| {
        let mut object = request(csr(uri, &[]));
        object["spec"]["username"] = json!(format!("system:serviceaccount:{account}"));
        judged(&object, &each).map(|wanted| wanted.identity.to_string())
    };
    assert_eq!(by("shop:cart", Some(CART)).as_deref(), Ok(CART));
    assert_eq!(by("shop:cart", None).as_deref(), Ok(CART));
    assert_eq!(by("shop:till", Some(CART)), Err("IdentityRefused"));
    assert_eq!(by("pay:till", Some(CART)).as_deref(), Ok(CART), "as cert-manager does");
    assert_eq!(by("pay:till", None), Err("IdentityMissing"));
}

#[test]
fn dns_names_are_those_of_services_of_the_namespace_and_only_by_word() {
    let yes = allowed(&["cart"]);
    let no = Allowed { service_names: false, ..yes.clone() };
    let named = |name: &str| request(csr(Some(CART), &[name]));
    for good in ["cart.shop.svc", "cart.shop.svc.cluster.local"] {
        assert_eq!(judged(&named(good), &yes).map(|wanted| wanted.dns), Ok(vec![good.to_owned()]));
        assert_eq!(judged(&named(good), &no), Err("DnsNameRefused"), "{good}");
    }
    for bad in [
        "cart",
        "shop.svc",
        "cart.pay.svc",
        "a.cart.shop.svc",
        "cart.shop.svc.example.org",
        "example.org",
        "cart.shop.svc.cluster.local.example.org",
    ] {
        assert_eq!(judged(&named(bad), &yes), Err("DnsNameRefused"), "{bad}");
    }
}

#[test]
fn cas_other_usages_and_malformed_requests_are_refused() {
    let cart = allowed(&["cart"]);
    for (pointer, value, reason) in [
        ("/spec/isCA", json!(true), "CARefused"),
        ("/spec/usages", json!(["digital signature", "cert sign"]), "UsageRefused"),
        ("/spec/request", json!("%"), "RequestMalformed"),
        ("/spec/request", json!("Q1NS"), "RequestMalformed"),
        ("/spec/duration", json!("soon"), "DurationMalformed"),
        ("/spec/duration", json!("-1h"), "DurationMalformed"),
    ] {
        let mut object = request(csr(Some(CART), &[]));
        object["spec"][pointer.trim_start_matches("/spec/")] = value.clone();
        assert_eq!(judged(&object, &cart), Err(reason), "{pointer} {value}");
    }
    assert_eq!(seconds("1.5h"), Some(5_400));
    assert_eq!(seconds("1h0m0.5s"), Some(3_600));
    assert_eq!(seconds("h"), None);
}

#[test]
fn what_comes_of_a_request_is_one_condition_with_the_words_of_the_contract() {
    let now = Timestamp::from_secs(0);
    let mut status = Map::new();
    assert!(wait(&mut status, "waits", now));
    assert!(!wait(&mut status, "waits", now), "it is there");
    assert!(wait(&mut status, "waits for something else", now));
    refuse(&mut status, &failed("NamespaceRefused", "no"), now);
    let all = status["conditions"].as_array().unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((&all[0]["status"], &all[0]["reason"]), (&json!("False"), &json!("Failed")));
    assert_eq!(all[0]["message"], "NamespaceRefused: no");
    assert_eq!(status["failureTime"], "1970-01-01T00:00:00Z");
}
