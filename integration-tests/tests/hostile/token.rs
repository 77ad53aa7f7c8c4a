//! Family "token".

use integration_tests::tokens::{TokenIssuer, base64url, unsigned};
use integration_tests::untrusted::istio::Attempt;
use integration_tests::untrusted::{CART, TestCa};
use serde_json::{Value, json};
use tonic::Code;
use trust::Clock as _;

use crate::{Case, judge_family};

const MALFORMED: &str = "TOKEN_MALFORMED";
const ALGORITHM: &str = "TOKEN_ALGORITHM_REFUSED";
const HEADER: &str = "TOKEN_HEADER_REFUSED";
const KEY: &str = "TOKEN_KEY_UNKNOWN";
const SIGNATURE: &str = "TOKEN_SIGNATURE_INVALID";
const AUDIENCE: &str = "TOKEN_AUDIENCE_MISMATCH";
const ISSUER: &str = "TOKEN_ISSUER_UNKNOWN";
const SUBJECT: &str = "TOKEN_SUBJECT_INVALID";

/// A good token, but for one header member or claim; `null` leaves it out.
fn changed(ca: &TestCa, in_header: bool, name: &str, value: Value) -> String {
    let issuer = ca.tokens();
    let (mut header, mut claims) = (issuer.header(), issuer.claims(CART, ca.clock().as_ref()));
    let part = if in_header { &mut header } else { &mut claims };
    match value {
        Value::Null => part.remove(name),
        value => part.insert(name.to_owned(), value),
    };
    issuer.sign(&header, &claims)
}

fn case(heading: &'static str, token: &str, reason: &'static str) -> Case {
    Case::new(heading, Attempt::anonymous().token(token), Code::Unauthenticated, reason)
}

fn claims_text(ca: &TestCa) -> String {
    serde_json::to_string(&ca.tokens().claims(CART, ca.clock().as_ref())).unwrap()
}

/// A token that whoever knows the public key could make, if it were taken for a shared secret.
fn hs256(ca: &TestCa) -> String {
    let message = unsigned(r#"{"alg":"HS256","kid":"k1"}"#, &claims_text(ca));
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, ca.tokens().public_point());
    let tag = ring::hmac::sign(&secret, message.as_bytes());
    format!("{message}.{}", base64url(tag.as_ref()))
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_are_no_good_are_refused() {
    judge_family(async |ca| {
        // Cases put the clock forward by a second each, far less than these times lie apart.
        let now = ca.clock().now().as_secs();
        let claim = |heading, name: &str, value: Value, reason| {
            case(heading, &changed(ca, false, name, value), reason)
        };
        vec![
            claim("expired", "exp", json!(now - 1), "TOKEN_EXPIRED"),
            claim("not yet valid", "nbf", json!(now + 1_800), "TOKEN_NOT_YET_VALID"),
            claim("issued in the future", "iat", json!(now + 1_800), "TOKEN_NOT_YET_VALID"),
            claim("no exp", "exp", Value::Null, "TOKEN_EXPIRY_MISSING"),
            claim("exp that is a text", "exp", json!("9999999999"), MALFORMED),
            claim("exp that is huge", "exp", json!(1e300), MALFORMED),
            claim("exp that is far away", "exp", json!(now + 90_000), "TOKEN_LIFE_TOO_LONG"),
            claim("wrong aud", "aud", json!("other"), AUDIENCE),
            claim("wrong auds", "aud", json!(["other", 1]), AUDIENCE),
            claim("no aud", "aud", Value::Null, AUDIENCE),
            claim("wrong iss", "iss", json!("https://evil.example"), ISSUER),
            claim("no iss", "iss", Value::Null, ISSUER),
            claim("iss of 5,000 control characters", "iss", json!("\u{1b}".repeat(1_500)), ISSUER),
            claim(
                "malformed sub: three parts",
                "sub",
                json!("system:serviceaccount:shop"),
                SUBJECT,
            ),
            claim(
                "malformed sub: five parts",
                "sub",
                json!("system:serviceaccount:shop:cart:x"),
                SUBJECT,
            ),
            claim(
                "malformed sub: a slash",
                "sub",
                json!("system:serviceaccount:shop/sa/x:cart"),
                SUBJECT,
            ),
            claim(
                "malformed sub: parent segment",
                "sub",
                json!("system:serviceaccount:..:cart"),
                SUBJECT,
            ),
            claim("malformed sub: a node", "sub", json!("system:node:shop:cart"), SUBJECT),
            claim("malformed sub: a number", "sub", json!(7), SUBJECT),
            claim("no sub", "sub", Value::Null, SUBJECT),
        ]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_keys_and_forms_that_are_no_good_are_refused() {
    judge_family(async |ca| {
        let untrusted = TokenIssuer::new(ca.tokens().name());
        let good = ca.tokens().token(CART, ca.clock().as_ref());
        let claims = claims_text(ca);
        let header = |heading, name: &str, value: Value, reason| {
            case(heading, &changed(ca, true, name, value), reason)
        };
        let bare = |header: &str| format!("{}.", unsigned(header, &claims));
        let two_subjects =
            claims.replacen('{', r#"{"sub":"system:serviceaccount:kube-system:admin","#, 1);
        let signed = |header: &str, claims: &str| ca.tokens().sign_text(header, claims);
        vec![
            case("alg none", &bare(r#"{"alg":"none"}"#), ALGORITHM),
            case("alg nOnE", &bare(r#"{"alg":"nOnE"}"#), ALGORITHM),
            case("no alg", &bare(r#"{"kid":"k1"}"#), ALGORITHM),
            case("HS256 with a public key", &hs256(ca), ALGORITHM),
            header("alg of another key", "alg", json!("RS256"), KEY),
            header("jwk header", "jwk", untrusted.jwk(), HEADER),
            header("jku header", "jku", json!("https://evil.example/keys"), HEADER),
            header("x5u header", "x5u", json!("https://evil.example/chain"), HEADER),
            header("x5c header", "x5c", json!(["AAAA"]), HEADER),
            header("unknown crit", "crit", json!(["x-unknown"]), HEADER),
            header("unknown kid", "kid", json!("k2"), KEY),
            header("kid that is a number", "kid", json!(1), MALFORMED),
            case("signed by a foreign key", &untrusted.token(CART, ca.clock().as_ref()), SIGNATURE),
            case("no signature", &bare(r#"{"alg":"ES256","kid":"k1"}"#), SIGNATURE),
            case("split bomb", &".".repeat(12_000), MALFORMED),
            case("two parts", "a.b", MALFORMED),
            case("four parts", &format!("{good}.x"), MALFORMED),
            case("five parts, as if encrypted", "a.b.c.d.e", MALFORMED),
            case("padded", &format!("{good}="), MALFORMED),
            case(
                "duplicate JSON key in the claims",
                &signed(r#"{"alg":"ES256","kid":"k1"}"#, &two_subjects),
                MALFORMED,
            ),
            case(
                "duplicate JSON key in the header",
                &signed(r#"{"alg":"none","alg":"ES256"}"#, &claims),
                MALFORMED,
            ),
            case(
                "claims that are a list",
                &signed(r#"{"alg":"ES256","kid":"k1"}"#, "[]"),
                MALFORMED,
            ),
            case(
                "claims nested deeply",
                &signed(r#"{"alg":"ES256","kid":"k1"}"#, &format!("{{\"a\":{}", "[".repeat(4_000))),
                MALFORMED,
            ),
        ]
    })
    .await;
}
