//! Family "token".

use super::*;
use crate::refusal::Reason;

fn reason(verifier: &JwtVerifier, token: &str) -> Option<Reason> {
    verifier.verify(token, NOW).err().map(|refusal| refusal.reason())
}

#[test]
fn a_good_token_gives_its_subjects_identity() {
    let maker = TokenMaker::new();
    let claims =
        verifier(&[maker.jwk("k1")]).verify(&maker.token(json!({}), json!({})), NOW).unwrap();
    assert_eq!(claims.identity.as_str(), "spiffe://example.org/ns/shop/sa/cart");
    assert_eq!(
        (claims.issuer.as_str(), claims.subject.as_str()),
        (ISSUER, "system:serviceaccount:shop:cart")
    );
}

#[test]
fn tokens_that_rsa_issuers_made_verify() {
    let key: Value = serde_json::from_str(include_str!("rsa.jwk.json")).unwrap();
    let verifier = verifier(&[key]);
    for token in [include_str!("rs256.jwt"), include_str!("ps256.jwt")] {
        assert!(verifier.verify(token, NOW).is_ok());
        let (rest, last) = token.split_at(token.len() - 8);
        let other = format!("{rest}{}", if last == "AAAAAAAA" { "BBBBBBBB" } else { "AAAAAAAA" });
        assert_eq!(reason(&verifier, &other), Some(Reason::TokenSignatureInvalid));
    }
}

#[test]
fn every_hostile_token_is_refused_by_name() {
    let (maker, other) = (TokenMaker::new(), TokenMaker::new());
    let verifier = verifier(&[maker.jwk("k1")]);
    let header = |changes: Value| maker.token(changes, json!({}));
    let claims = |changes: Value| maker.token(json!({}), changes);
    let (good, now) = (header(json!({})), NOW.as_secs());
    let good_claims = good_claims().to_string();
    let unsigned = |header: &str| {
        format!("{}.{}.", base64url(header.as_bytes()), base64url(good_claims.as_bytes()))
    };
    let hs256 = {
        let message = unsigned(r#"{"alg":"HS256","kid":"k1"}"#);
        let public = maker.key.public_key().as_ref();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public);
        let tag = ring::hmac::sign(&key, message.trim_end_matches('.').as_bytes());
        format!("{message}{}", base64url(tag.as_ref()))
    };
    let cases: Vec<(&str, String, Reason)> = vec![
        ("expired", claims(json!({"exp": now - 1})), Reason::TokenExpired),
        ("expires this second", claims(json!({"exp": now})), Reason::TokenExpired),
        ("not yet valid", claims(json!({"nbf": now + 61})), Reason::TokenNotYetValid),
        ("issued in the future", claims(json!({"iat": now + 61})), Reason::TokenNotYetValid),
        ("no exp", claims(json!({"exp": null})), Reason::TokenExpiryMissing),
        ("exp is text", claims(json!({"exp": "9999999999"})), Reason::TokenMalformed),
        ("exp is negative", claims(json!({"exp": -1})), Reason::TokenMalformed),
        ("exp is huge", claims(json!({"exp": 1e300})), Reason::TokenMalformed),
        ("lives too long", claims(json!({"exp": now + 90_000})), Reason::TokenLifeTooLong),
        (
            "no iat and no nbf",
            claims(json!({"iat": null, "nbf": null})),
            Reason::TokenIssueTimeMissing,
        ),
        (
            "no iat, lives too long",
            claims(json!({"iat": null, "exp": now + 90_000})),
            Reason::TokenLifeTooLong,
        ),
        ("wrong aud", claims(json!({"aud": "other"})), Reason::TokenAudienceMismatch),
        ("wrong auds", claims(json!({"aud": ["other", 1]})), Reason::TokenAudienceMismatch),
        ("no aud", claims(json!({"aud": null})), Reason::TokenAudienceMismatch),
        ("empty auds", claims(json!({"aud": []})), Reason::TokenAudienceMismatch),
        ("wrong iss", claims(json!({"iss": "https://evil.example"})), Reason::TokenIssuerUnknown),
        (
            "iss with a slash more",
            claims(json!({"iss": format!("{ISSUER}/")})),
            Reason::TokenIssuerUnknown,
        ),
        ("no iss", claims(json!({"iss": null})), Reason::TokenIssuerUnknown),
        ("alg none", unsigned(r#"{"alg":"none"}"#), Reason::TokenAlgorithmRefused),
        ("alg None", unsigned(r#"{"alg":"None"}"#), Reason::TokenAlgorithmRefused),
        ("no alg", unsigned(r#"{"kid":"k1"}"#), Reason::TokenAlgorithmRefused),
        ("HS256 with the public key", hs256, Reason::TokenAlgorithmRefused),
        ("alg of another key type", header(json!({"alg": "RS256"})), Reason::TokenKeyUnknown),
        ("alg of another curve", header(json!({"alg": "ES384"})), Reason::TokenKeyUnknown),
        ("jwk", header(json!({"jwk": other.jwk("k1")})), Reason::TokenHeaderRefused),
        ("jku", header(json!({"jku": "https://evil.example/keys"})), Reason::TokenHeaderRefused),
        ("x5u", header(json!({"x5u": "https://evil.example/cert"})), Reason::TokenHeaderRefused),
        ("x5c", header(json!({"x5c": ["AAAA"]})), Reason::TokenHeaderRefused),
        ("unknown crit", header(json!({"crit": ["exp"]})), Reason::TokenHeaderRefused),
        ("unencoded payload", header(json!({"b64": false})), Reason::TokenHeaderRefused),
        ("unknown kid", header(json!({"kid": "k2"})), Reason::TokenKeyUnknown),
        ("kid is no text", header(json!({"kid": 1})), Reason::TokenMalformed),
        ("other key, same kid", other.token(json!({}), json!({})), Reason::TokenSignatureInvalid),
        ("no signature", unsigned(r#"{"alg":"ES256","kid":"k1"}"#), Reason::TokenSignatureInvalid),
        ("split bomb", ".".repeat(16_000), Reason::TokenMalformed),
        ("two parts", "a.b".to_owned(), Reason::TokenMalformed),
        ("four parts", format!("{good}.x"), Reason::TokenMalformed),
        ("five parts, as encrypted", "a.b.c.d.e".to_owned(), Reason::TokenMalformed),
        ("empty", String::new(), Reason::TokenMalformed),
        ("padded base64", format!("{good}="), Reason::TokenMalformed),
        ("white space", format!("{good} "), Reason::TokenMalformed),
        ("too large", "a".repeat(16 * 1024 + 1), Reason::TokenTooLarge),
        (
            "malformed sub",
            claims(json!({"sub": "system:serviceaccount:shop"})),
            Reason::TokenSubjectInvalid,
        ),
        ("sub is no text", claims(json!({"sub": 7})), Reason::TokenSubjectInvalid),
        ("no sub", claims(json!({"sub": null})), Reason::TokenSubjectInvalid),
        (
            "duplicate claim",
            maker.sign_text(
                r#"{"alg":"ES256","kid":"k1"}"#,
                &good_claims.replacen('{', r#"{"sub":"system:serviceaccount:a:b","#, 1),
            ),
            Reason::TokenMalformed,
        ),
        (
            "duplicate header member",
            maker.sign_text(r#"{"alg":"none","alg":"ES256","kid":"k1"}"#, &good_claims),
            Reason::TokenMalformed,
        ),
    ];
    for (name, token, expected) in &cases {
        assert_eq!(reason(&verifier, token), Some(*expected), "{name}");
        assert_eq!(expected.code(), tonic::Code::Unauthenticated, "{name}");
    }
    assert_eq!(reason(&verifier, &good), None, "a good one is served after all of these");
}

#[test]
fn every_changed_byte_of_a_good_token_is_refused() {
    let maker = TokenMaker::new();
    let verifier = verifier(&[maker.jwk("k1")]);
    let good = maker.token(json!({}), json!({}));
    for place in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(verifier.verify(&changed, NOW).is_err(), "byte {place}");
    }
}

#[test]
fn a_remembered_token_still_expires() {
    let maker = TokenMaker::new();
    let verifier = verifier(&[maker.jwk("k1")]);
    let token = maker.token(json!({}), json!({}));
    assert!(verifier.verify(&token, NOW).is_ok());
    let later = NOW.plus(Duration::from_secs(3600));
    let refused = verifier.verify(&token, later).unwrap_err();
    assert_eq!(refused.reason(), Reason::TokenExpired);
}

#[test]
fn a_remembered_token_ends_with_its_issuers_keys() {
    let (maker, next) = (TokenMaker::new(), TokenMaker::new());
    let verifier = verifier(&[maker.jwk("k1")]);
    let token = maker.token(json!({}), json!({}));
    assert!(verifier.verify(&token, NOW).is_ok());
    let set = json!({ "keys": [next.jwk("k2")] }).to_string();
    assert!(verifier.reload(|_| Ok(set.clone().into_bytes())).is_empty());
    assert_eq!(reason(&verifier, &token), Some(Reason::TokenKeyUnknown));
    assert_eq!(reason(&verifier, &next.token(json!({"kid": "k2"}), json!({}))), None);
}

#[test]
fn a_bad_key_set_leaves_the_last_good_one_in_force() {
    let maker = TokenMaker::new();
    let verifier = verifier(&[maker.jwk("k1")]);
    let token = maker.token(json!({}), json!({}));
    let short_rsa = json!({"kty": "RSA", "n": base64url(&[0xff; 128]), "e": "AQAB"});
    let secret = json!({"kty": "oct", "k": "AAAA", "kid": "k1"});
    for (name, set) in [
        ("empty", String::new()),
        ("no set", "[]".to_owned()),
        ("no keys", json!({"keys": []}).to_string()),
        ("shared secret", json!({ "keys": [secret] }).to_string()),
        ("weak RSA", json!({ "keys": [short_rsa] }).to_string()),
        (
            "for encryption",
            json!({ "keys": [with(maker.jwk("k1"), json!({"use": "enc"}))] }).to_string(),
        ),
        ("twice the member", r#"{"keys": [], "keys": []}"#.to_owned()),
        ("too many keys", json!({ "keys": vec![maker.jwk("k"); 65] }).to_string()),
        ("huge", " ".repeat(256 * 1024 + 1)),
    ] {
        assert_eq!(verifier.reload(|_| Ok(set.clone().into_bytes())).len(), 1, "{name}");
        assert_eq!(reason(&verifier, &token), None, "{name}");
    }
    assert_eq!(verifier.reload(|_| Err(std::io::ErrorKind::NotFound.into())).len(), 1);
    assert_eq!(reason(&verifier, &token), None);
}

#[test]
fn before_the_first_key_set_there_is_no_key_and_the_client_is_asked_to_come_again() {
    let token = TokenMaker::new().token(json!({}), json!({}));
    let refused = verifier_without_keys().verify(&token, NOW).unwrap_err();
    assert_eq!(refused.reason(), Reason::KeySetUnavailable);
    assert!(refused.retry_after().is_some());
}
