//! Families "token" as a cluster judges it, and "impersonation".

use tonic::Code;

use super::*;
use crate::authn::tests::{TokenMaker, good_claims};
use crate::fixture::{NOW, trust_domain};

const NODE: &str = "node-a";
const ZTUNNEL: &str = "system:serviceaccount:istio-system:ztunnel";
const CART: &str = "spiffe://example.org/ns/shop/sa/cart";

fn tokens() -> ClusterTokens {
    ClusterTokens {
        cluster: "one".to_owned(),
        issuer: None,
        audiences: vec!["istio-ca".to_owned()],
        life_max: Duration::from_secs(86_400),
        skew: Duration::from_secs(60),
        trust_domain: trust_domain(),
    }
}

fn good_review() -> Review {
    Review {
        authenticated: true,
        error: String::new(),
        username: "system:serviceaccount:shop:cart".to_owned(),
        groups: vec!["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()],
        audiences: vec!["istio-ca".to_owned()],
        pod: BoundPod::new(Some("uid-1"), Some("cart-1"), Some(NODE)),
    }
}

fn presented() -> Presented {
    let token = TokenMaker::new().token(serde_json::json!({}), serde_json::json!({}));
    tokens().present(&token, NOW).unwrap()
}

#[test]
fn a_cluster_is_asked_only_about_tokens_that_it_may_believe() {
    let maker = TokenMaker::new();
    let one = |changes| maker.token(serde_json::json!({}), changes);
    let now = NOW.as_secs();
    let cases = [
        (one(serde_json::json!({})), None),
        (one(serde_json::json!({"aud": "other"})), Some(Reason::TokenAudienceMismatch)),
        (one(serde_json::json!({"exp": now - 1})), Some(Reason::TokenExpired)),
        (one(serde_json::json!({"exp": null})), Some(Reason::TokenExpiryMissing)),
        (one(serde_json::json!({"nbf": now + 600})), Some(Reason::TokenNotYetValid)),
        (one(serde_json::json!({"sub": "system:node:a"})), Some(Reason::TokenSubjectInvalid)),
        (
            one(serde_json::json!({"sub": "system:serviceaccount:shop"})),
            Some(Reason::TokenSubjectInvalid),
        ),
        (one(serde_json::json!({"exp": now + 90_000})), Some(Reason::TokenLifeTooLong)),
        (
            maker.token(serde_json::json!({"alg": "none"}), serde_json::json!({})),
            Some(Reason::TokenAlgorithmRefused),
        ),
        (
            maker.token(serde_json::json!({"jku": "https://x"}), serde_json::json!({})),
            Some(Reason::TokenHeaderRefused),
        ),
        ("a.b".to_owned(), Some(Reason::TokenMalformed)),
        ("x".repeat(20_000), Some(Reason::TokenTooLarge)),
        (
            maker.sign_text("{\"alg\":\"ES256\",\"alg\":\"ES256\"}", &good_claims().to_string()),
            Some(Reason::TokenMalformed),
        ),
    ];
    for (token, refused) in cases {
        let found = tokens().present(&token, NOW).err().map(|refusal| refusal.reason());
        assert_eq!(found, refused, "{token:.80}");
    }
    let foreign = ClusterTokens { issuer: Some("https://other".to_owned()), ..tokens() };
    let refused = foreign.present(&one(serde_json::json!({})), NOW).unwrap_err();
    assert_eq!(refused.reason(), Reason::TokenIssuerUnknown);
    assert!(refused.text().contains("cluster \"one\""), "{refused}");
}

#[test]
fn of_a_review_everything_must_be_right_and_what_the_cluster_could_not_find_out_is_no_no() {
    let claims = tokens().believed(&presented(), &good_review()).unwrap();
    assert_eq!(claims.identity.as_str(), CART);
    assert_eq!(claims.cluster.as_deref(), Some("one"));
    assert_eq!(claims.pod.unwrap().node.as_deref(), Some(NODE));
    let refused = |change: fn(&mut Review)| {
        let mut review = good_review();
        change(&mut review);
        tokens().believed(&presented(), &review).unwrap_err()
    };
    for (change, reason) in [
        ((|review| review.authenticated = false) as fn(&mut Review), Reason::TokenReviewRefused),
        (|review| review.audiences.clear(), Reason::TokenAudienceMismatch),
        (|review| review.audiences.push("other".to_owned()), Reason::TokenAudienceMismatch),
        (|review| review.groups.clear(), Reason::TokenSubjectInvalid),
        (
            |review| review.username = "system:serviceaccount:shop:web".to_owned(),
            Reason::TokenSubjectInvalid,
        ),
        (|review| review.username.push_str(":x"), Reason::TokenSubjectInvalid),
    ] {
        let refusal = refused(change);
        assert_eq!((refusal.reason(), refusal.reason().code()), (reason, Code::Unauthenticated));
    }
    let away = refused(|review| {
        review.authenticated = false;
        review.error = "[invalid bearer token, etcdserver: request timed out]".to_owned();
    });
    assert_eq!(away.reason().code(), Code::Unavailable);
    assert!(away.retry_after().is_some());
}

/// A cluster in memory.
#[derive(Debug, Default)]
struct FakeClusters {
    pods: Option<Vec<PodSeen>>,
}

#[async_trait]
impl Clusters for FakeClusters {
    async fn judge(&self, _: &str, _: &MetadataMap) -> Option<Result<TokenClaims, Refusal>> {
        None
    }

    fn is_node_account(&self, cluster: &str, subject: &str) -> bool {
        (cluster, subject) == ("one", ZTUNNEL)
    }

    fn keeps_bearers(&self, _: &str) -> bool {
        false
    }

    fn pods_on(&self, _: &str, node: &str) -> Result<Vec<PodSeen>, Refusal> {
        let unsynced = || Refusal::new(Reason::PodsNotSynced, "not yet");
        self.pods
            .clone()
            .map(|pods| if node == NODE { pods } else { Vec::new() })
            .ok_or_else(unsynced)
    }

    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }
}

fn pod(uid: &str, namespace: &str, account: &str) -> PodSeen {
    let [uid, namespace, account] = [uid, namespace, account].map(str::to_owned);
    PodSeen { uid, namespace, account }
}

fn ztunnel() -> TokenClaims {
    TokenClaims {
        identity: SpiffeId::parse("spiffe://example.org/ns/istio-system/sa/ztunnel").unwrap(),
        issuer: "https://i".to_owned(),
        subject: ZTUNNEL.to_owned(),
        pod: BoundPod::new(Some("z-1"), Some("ztunnel-1"), Some(NODE)),
        cluster: Some("one".to_owned()),
    }
}

#[test]
fn a_node_account_may_have_what_runs_on_its_node_and_nothing_else() {
    let pods = vec![pod("z-1", "istio-system", "ztunnel"), pod("c-1", "shop", "cart")];
    let clusters = FakeClusters { pods: Some(pods.clone()) };
    let ask = |clusters: &FakeClusters, claims: TokenClaims, asked: &str| {
        let caller = Caller::assumed(CallerKind::Jwt(claims));
        impersonated(clusters, &caller, asked, &trust_domain())
    };
    let granted = ask(&clusters, ztunnel(), CART).unwrap();
    assert_eq!(granted.into_identity().as_str(), CART);

    let with = |change: fn(&mut TokenClaims)| {
        let mut claims = ztunnel();
        change(&mut claims);
        claims
    };
    for (heading, claims, asked) in [
        (
            "no node account",
            with(|claims| claims.subject = "system:serviceaccount:shop:cart".to_owned()),
            CART,
        ),
        ("a key set file's token", with(|claims| claims.cluster = None), CART),
        ("another cluster", with(|claims| claims.cluster = Some("two".to_owned())), CART),
        ("not bound", with(|claims| claims.pod = None), CART),
        (
            "bound to a pod without a node",
            with(|claims| claims.pod = BoundPod::new(Some("z-1"), None, None)),
            CART,
        ),
        (
            "stale uid",
            with(|claims| claims.pod = BoundPod::new(Some("z-0"), Some("ztunnel-1"), Some(NODE))),
            CART,
        ),
        (
            "another node",
            with(|claims| claims.pod = BoundPod::new(Some("z-1"), None, Some("node-b"))),
            CART,
        ),
        ("not on the node", ztunnel(), "spiffe://example.org/ns/shop/sa/web"),
        ("another namespace", ztunnel(), "spiffe://example.org/ns/other/sa/cart"),
        ("another trust domain", ztunnel(), "spiffe://other.org/ns/shop/sa/cart"),
        ("a longer path", ztunnel(), "spiffe://example.org/ns/shop/sa/cart/x"),
        ("the CA itself", ztunnel(), "spiffe://example.org/banyan/ca/ca-1"),
        ("no id", ztunnel(), "cart"),
    ] {
        let refused = ask(&clusters, claims, asked).unwrap_err();
        assert_eq!(refused.reason(), Reason::ImpersonationRefused, "{heading}");
    }
    let unsynced = FakeClusters::default();
    let refused = ask(&unsynced, ztunnel(), CART).unwrap_err();
    assert_eq!(refused.reason().code(), Code::Unavailable, "unsynced");
    let workload = CallerKind::JoinToken {
        grant: crate::authn::join_token::JoinGrant {
            agent: "a".to_owned(),
            identities: Vec::new(),
            used: None,
        },
        secret_hash: [0; 32],
    };
    let refused =
        impersonated(&clusters, &Caller::assumed(workload), CART, &trust_domain()).unwrap_err();
    assert_eq!(refused.reason(), Reason::ImpersonationRefused);
}

#[test]
fn the_agent_of_a_node_is_a_node_account_whose_own_pod_runs_there() {
    let clusters = FakeClusters { pods: Some(vec![pod("z-1", "istio-system", "ztunnel")]) };
    let ask = |clusters: &FakeClusters, claims: TokenClaims| {
        agent_of_node(clusters, &Caller::assumed(CallerKind::Jwt(claims)))
    };
    assert_eq!(ask(&clusters, ztunnel()).unwrap().agents(), "node/one/node-a/");
    let changes: [fn(&mut TokenClaims); 4] = [
        |claims| claims.subject = "system:serviceaccount:shop:cart".to_owned(),
        |claims| claims.pod = None,
        |claims| claims.pod = BoundPod::new(Some("z-0"), None, Some(NODE)),
        |claims| claims.pod = BoundPod::new(Some("z-1"), None, Some("node-b")),
    ];
    for change in changes {
        let mut claims = ztunnel();
        change(&mut claims);
        let refused = ask(&clusters, claims).unwrap_err();
        assert_eq!(refused.reason(), Reason::ImpersonationRefused, "{refused}");
    }
    let refused = ask(&FakeClusters::default(), ztunnel()).unwrap_err();
    assert_eq!(refused.reason().code(), Code::Unavailable, "unsynced");
}

#[test]
fn an_agent_that_shows_its_token_is_judged_by_that() {
    let pods = vec![pod("z-1", "istio-system", "ztunnel"), pod("c-1", "shop", "cart")];
    let clusters = FakeClusters { pods: Some(pods) };
    let agent = || {
        let serial = trust::Serial::from_bytes(&[0x41; 16]).unwrap();
        let spki = trust::SpkiHash::of(b"key");
        let name = "node/one/node-a/0123".to_owned();
        Caller::assumed(CallerKind::Agent { name, serial, spki })
    };
    let caller = agent().with_token(ztunnel());
    let granted = impersonated(&clusters, &caller, CART, &trust_domain()).unwrap();
    assert_eq!(granted.into_identity().as_str(), CART);
    let web = "spiffe://example.org/ns/shop/sa/web";
    let refused = impersonated(&clusters, &caller, web, &trust_domain()).unwrap_err();
    assert_eq!(refused.reason(), Reason::ImpersonationRefused);
    assert!(refused.to_string().contains("node-a"), "{refused}");
    let refused = impersonated(&clusters, &agent(), CART, &trust_domain()).unwrap_err();
    assert_eq!(refused.reason(), Reason::ImpersonationRefused, "without its token");
}

#[test]
fn a_client_names_one_cluster_or_none() {
    let mut metadata = MetadataMap::new();
    assert_eq!(named(&metadata).unwrap(), None);
    metadata.append(CLUSTER_HEADER, "one".parse().unwrap());
    assert_eq!(named(&metadata).unwrap(), Some("one"));
    metadata.append(CLUSTER_HEADER, "two".parse().unwrap());
    assert_eq!(named(&metadata).unwrap_err().reason(), Reason::TokenClusterUnknown);
    let mut empty = MetadataMap::new();
    empty.append(CLUSTER_HEADER, "".parse().unwrap());
    assert_eq!(named(&empty).unwrap(), None);
}
