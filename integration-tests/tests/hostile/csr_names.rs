//! Family "CSR names".

use integration_tests::untrusted::csr::{CsrDraft, common_name, general_name, uri};
use integration_tests::untrusted::istio::Attempt;
use integration_tests::untrusted::{CART, CaOptions, TestCa, TestClient};
use tonic::Code;

use crate::{Case, judge, judge_family};

const NAME: &str = "CSR_NAME_INVALID";
const MISMATCH: &str = "CSR_IDENTITY_MISMATCH";

/// A SPIFFE id of so many bytes.
fn of_length(bytes: usize) -> String {
    let start = "spiffe://example.org/";
    format!("{start}{}", "a".repeat(bytes - start.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn names_other_than_the_callers_identity_are_refused() {
    judge_family(async |ca| {
        let names = |heading, names: &[Vec<u8>]| {
            Case::csr(ca, heading, CsrDraft::new().names(names).pem(), NAME)
        };
        let extra =
            |heading, number, name: &[u8]| names(heading, &[uri(CART), general_name(number, name)]);
        let denied = |heading, identity: &str, reason| {
            let csr = CsrDraft::new().identity(identity).pem();
            Case::new(heading, Attempt::with_csr(ca, csr), Code::PermissionDenied, reason)
        };
        let subject = |heading, texts: &[&str]| {
            let subject: Vec<_> = texts.iter().map(|text| common_name(text)).collect();
            Case::csr(ca, heading, CsrDraft::new().subject(&subject).pem(), NAME)
        };
        vec![
            denied("SAN != identity", "spiffe://example.org/ns/shop/sa/admin", MISMATCH),
            denied("SAN != identity by case", "spiffe://example.org/ns/shop/sa/Cart", MISMATCH),
            denied("SAN != identity: the trust domain", "spiffe://example.org", MISMATCH),
            denied(
                "SAN != identity: a reserved one",
                "spiffe://example.org/banyan/ca/ca-1",
                MISMATCH,
            ),
            denied(
                "other trust domain",
                "spiffe://other.org/ns/shop/sa/cart",
                "CSR_TRUST_DOMAIN_FOREIGN",
            ),
            denied("2048 bytes", &of_length(2_048), MISMATCH),
            names("2049 bytes", &[uri(&of_length(2_049))]),
            names("two URIs", &[uri(CART), uri("spiffe://example.org/ns/shop/sa/admin")]),
            names("the same URI twice", &[uri(CART), uri(CART)]),
            extra("extra DNS", 2, b"cart.shop.svc"),
            extra("extra IP", 7, &[10, 0, 0, 7]),
            extra("extra email", 1, b"cart@example.org"),
            extra("extra registered id", 8, &[0x2b]),
            subject("CN games: a name", &["cart"]),
            subject("CN games: another identity", &["spiffe://example.org/ns/shop/sa/admin"]),
            subject("CN games: two", &["cart", "admin"]),
            subject("CN games: a line of a log", &["cart\nlevel=error"]),
            subject("NUL bytes in the CN", &["cart\0admin"]),
            extra("NUL bytes in a DNS name", 2, b"example.org\0.evil.org"),
            names("NUL bytes in the URI", &[uri("spiffe://example.org/ns/shop/sa/cart\0.evil")]),
        ]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_of_spiffe_ids_is_kept() {
    judge_family(async |ca| {
        [
            ("another scheme", "https://example.org/ns/shop/sa/cart"),
            ("upper-case scheme", "SPIFFE://example.org/ns/shop/sa/cart"),
            ("upper-case trust domain", "spiffe://Example.org/ns/shop/sa/cart"),
            ("no trust domain", "spiffe:///ns/shop/sa/cart"),
            ("trust domain beyond its letters", "spiffe://exa*mple.org/ns/shop/sa/cart"),
            ("port", "spiffe://example.org:8443/ns/shop/sa/cart"),
            ("user", "spiffe://root@example.org/ns/shop/sa/cart"),
            ("query", "spiffe://example.org/ns/shop/sa/cart?admin"),
            ("fragment", "spiffe://example.org/ns/shop/sa/cart#admin"),
            ("percent-encoding", "spiffe://example.org/ns/shop/sa/c%61rt"),
            ("trailing slash", "spiffe://example.org/ns/shop/sa/cart/"),
            ("empty segment", "spiffe://example.org//ns/shop/sa/cart"),
            ("dot segment", "spiffe://example.org/./ns/shop/sa/cart"),
            ("parent segment", "spiffe://example.org/ns/shop/sa/x/../cart"),
            ("letters beyond ASCII", "spiffe://example.org/ns/shop/sa/c\u{430}rt"),
            ("empty", ""),
        ]
        .map(|(heading, text)| Case::csr(ca, heading, CsrDraft::new().identity(text).pem(), NAME))
        .into()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_names_are_ignored_the_leaf_still_has_only_the_callers_identity() {
    let leaf = "backdate = \"1s\"\nskew = \"1s\"\nttl_min = \"5s\"\nname_mismatch = \"ignore\"";
    let ca = TestCa::start(CaOptions { leaf, ..CaOptions::default() }).await;
    let client = TestClient::connect(&ca).await;
    let names = [uri("spiffe://other.org/admin"), general_name(2, b"*.example.org")];
    let csr = CsrDraft::new().names(&names).subject(&[common_name("admin")]);
    let answer = client.create(&Attempt::with_csr(&ca, csr.pem())).await.unwrap();
    assert_eq!(answer.leaf.spiffe_id().unwrap().as_str(), CART);
    let text = format!("{:?}", answer.leaf.names());
    assert!(!text.contains("example.org\"") && !text.contains("admin"), "{text}");
    assert_eq!(answer.leaf.subject_text(), "");
    let two = CsrDraft::new().names(&[uri(CART), uri(CART)]).pem();
    judge(&ca, &client, vec![Case::csr(&ca, "two URIs are malformed all the same", two, NAME)])
        .await;
    ca.stop().await;
}
