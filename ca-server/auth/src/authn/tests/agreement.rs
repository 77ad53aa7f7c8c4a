//! Which credentials count, and what happens when there are none, several, or bad ones.

use tonic::metadata::{MetadataMap, MetadataValue};
use trust::join_token::{JoinSecret, JoinToken};
use trust::{BundleDigest, SeededRandomness, SpkiHash};

use super::*;
use crate::authn::claims::BoundPod;
use crate::fixture::{CaMaterial, id};
use crate::refusal::Reason;

fn bearer_of(headers: &[&str]) -> Result<Option<String>, Reason> {
    let mut metadata = MetadataMap::new();
    for header in headers {
        metadata.append("authorization", MetadataValue::try_from(*header).unwrap());
    }
    bearer(&metadata).map(|token| token.map(str::to_owned)).map_err(|refusal| refusal.reason())
}

fn holder(path: &str) -> CertificateHolder {
    let serial = Serial::from_bytes(&[0x41; 16]).unwrap();
    CertificateHolder { identity: id(path), serial, spki: SpkiHash::of(b"key"), unmatched: false }
}

fn of<'c>(certificates: &'c [CertificateDer<'c>], metadata: &'c MetadataMap) -> Credentials<'c> {
    Credentials { certificates, elsewhere: None, metadata, judged: None }
}

fn jwt(path: &str) -> CallerKind {
    CallerKind::Jwt(TokenClaims {
        identity: id(path),
        issuer: ISSUER.to_owned(),
        subject: "s".to_owned(),
        pod: None,
        cluster: None,
    })
}

fn join(agent: &str) -> CallerKind {
    let grant = JoinGrant { agent: agent.to_owned(), identities: vec![], used: None };
    CallerKind::JoinToken { grant, secret_hash: [1; 32] }
}

fn token(trust_domain: &str) -> JoinToken {
    let ca = SpiffeId::parse(&format!("spiffe://{trust_domain}/banyan/ca/ca-1")).unwrap();
    let secret = JoinSecret::random(&SeededRandomness::new(1));
    JoinToken::new(ca, BundleDigest::of(b"bundle"), secret).unwrap()
}

#[test]
fn only_one_header_with_the_bearer_prefix_counts() {
    assert_eq!(bearer_of(&[]), Ok(None));
    assert_eq!(bearer_of(&["Bearer abc"]), Ok(Some("abc".to_owned())));
    for bad in [
        &["Bearer abc", "Bearer abc"][..],
        &["bearer abc"],
        &["Bearer"],
        &["Bearer "],
        &["BearerX abc"],
        &["Basic abc"],
        &[" Bearer abc"],
        &[""],
    ] {
        assert_eq!(bearer_of(bad), Err(Reason::TokenSchemeUnsupported), "{bad:?}");
    }
}

#[test]
fn two_credentials_count_only_if_they_name_the_same_caller() {
    let cart = "/ns/shop/sa/cart";
    let outcome = |holder, bearer| {
        let kind = agreed(holder, bearer).map(|kind| Caller::assumed(kind).label());
        kind.map_err(|refusal| refusal.reason())
    };
    assert_eq!(outcome(None, None), Err(Reason::CredentialMissing));
    assert_eq!(outcome(Some(holder(cart)), None), Ok("mtls"));
    assert_eq!(outcome(None, Some(jwt(cart))), Ok("jwt"));
    assert_eq!(outcome(Some(holder(cart)), Some(jwt(cart))), Ok("mtls"));
    let agent = || Some(holder("/banyan/agent/node-1"));
    assert_eq!(outcome(agent(), None), Ok("agent"));
    assert_eq!(outcome(agent(), Some(join("node-1"))), Ok("join_token"));
    for (holder, bearer) in [
        (Some(holder(cart)), jwt("/ns/shop/sa/other")),
        (Some(holder(cart)), join("node-1")),
        (agent(), join("node-2")),
        (agent(), jwt(cart)),
    ] {
        assert_eq!(outcome(holder, Some(bearer)), Err(Reason::CredentialsDisagree));
    }
}

#[test]
fn the_agent_of_a_node_shows_a_token_of_that_node_and_of_no_other_beside_its_certificate() {
    let of_pod = |cluster: Option<&str>, node: Option<&str>| {
        let CallerKind::Jwt(claims) = jwt("/ns/banyan-node/sa/agent") else { panic!("a token") };
        let pod = BoundPod::new(Some("u-1"), None, node);
        CallerKind::Jwt(TokenClaims { pod, cluster: cluster.map(str::to_owned), ..claims })
    };
    let outcome = |agent: &str, bearer| {
        let kind = agreed(Some(holder(&format!("/banyan/agent/{agent}"))), Some(bearer));
        kind.map(|kind| Caller::assumed(kind).label()).map_err(|refusal| refusal.reason())
    };
    let own = of_pod(Some("one"), Some("node-a"));
    assert_eq!(outcome("node/one/node-a/0123", own.clone()), Ok("agent"));
    for (agent, bearer) in [
        ("node/one/node-ab/0123", own.clone()),
        ("node/one/node-b/0123", own.clone()),
        ("node/two/node-a/0123", own.clone()),
        ("node/one/node-a", own.clone()),
        ("ns/banyan-node/sa/agent/0123", own),
        ("node/one/node-a/0123", of_pod(None, Some("node-a"))),
        ("node/one/node-a/0123", of_pod(Some("one"), None)),
    ] {
        assert_eq!(outcome(agent, bearer), Err(Reason::CredentialsDisagree), "{agent}");
    }
}

#[test]
fn a_join_token_is_judged_by_the_registry_and_by_its_trust_domain() {
    let (memory, good, domain) = (Memory::default(), token("example.org"), trust_domain());
    let judge = |text: &str| {
        join_token::verify(text, &memory, &domain, NOW)
            .map(|found| found.0)
            .map_err(|refusal| refusal.reason())
    };
    let text = good.encode();
    assert_eq!(judge(&text), Err(Reason::JoinTokenInvalid), "unknown");
    let grant = JoinGrant { agent: "node-1".to_owned(), identities: vec![], used: None };
    let answers = [
        (Ok(grant.clone()), Ok(grant.clone())),
        (Err(JoinTokenRefused::Expired), Err(Reason::JoinTokenExpired)),
        (Err(JoinTokenRefused::Revoked), Err(Reason::JoinTokenRevoked)),
        (Err(JoinTokenRefused::Unreadable("torn".to_owned())), Err(Reason::RegistryUnavailable)),
    ];
    for (answer, expected) in answers {
        memory.tokens.lock().unwrap().insert(good.secret().hash(), answer);
        assert_eq!(judge(&text), expected);
    }
    memory.tokens.lock().unwrap().insert(good.secret().hash(), Ok(grant));
    assert_eq!(judge(&token("other.org").encode()), Err(Reason::JoinTokenInvalid));
    assert_eq!(judge("bjt1.AAAA"), Err(Reason::JoinTokenInvalid));
}

#[test]
fn a_bad_credential_is_refused_although_another_is_good_and_forwarded_headers_are_not_read() {
    let maker = TokenMaker::new();
    let (memory, clock) = (Arc::new(Memory::default()), Arc::new(ManualClock::at(NOW)));
    let authenticator = authenticator(verifier(&[maker.jwk("k1")]), &memory, &clock);
    let snapshot = CaMaterial::new().snapshot(1);
    let mut metadata = MetadataMap::new();
    metadata
        .insert("x-forwarded-client-cert", "URI=spiffe://example.org/ns/a/sa/b".parse().unwrap());
    let anonymous = authenticator.authenticate(of(&[], &metadata), &snapshot).unwrap_err();
    assert_eq!(anonymous.reason(), Reason::CredentialMissing);
    let token = format!("Bearer {}", maker.token(json!({}), json!({})));
    metadata.insert("authorization", token.parse().unwrap());
    let caller = authenticator.authenticate(of(&[], &metadata), &snapshot).unwrap();
    assert_eq!(
        (caller.label(), caller.subject().as_str()),
        ("jwt", "spiffe://example.org/ns/shop/sa/cart")
    );
    let garbage = [CertificateDer::from(vec![0x30, 0])];
    let refused = authenticator.authenticate(of(&garbage, &metadata), &snapshot).unwrap_err();
    assert_eq!(refused.reason(), Reason::CertificateMalformed);
}
