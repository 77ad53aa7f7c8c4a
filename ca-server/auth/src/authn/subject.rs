//! From the claims of a verified token to an identity.

use serde_json::{Map, Value};
use trust::{SpiffeId, TrustDomain};

use super::claims::BoundPod;

/// How the claims of a token become an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityRule {
    /// `"kubernetes"`: `system:serviceaccount:<namespace>:<account>` becomes `/ns/<namespace>/sa/<account>`.
    Kubernetes,
    /// `"spiffe://<trust domain>/path/{claim}"`: the path, with one claim as a whole segment at each brace.
    Template(String),
}

/// The identity that the rule makes of these claims; `None` if a claim is missing or malformed, or the result is no
/// SPIFFE id of this trust domain outside the reserved paths. Nothing is trimmed, decoded or folded.
pub(super) fn identity(
    rule: &IdentityRule,
    claims: &Map<String, Value>,
    trust_domain: &TrustDomain,
) -> Option<SpiffeId> {
    let identity = match rule {
        IdentityRule::Kubernetes => kubernetes(text(claims, "sub")?, trust_domain),
        IdentityRule::Template(template) => from_template(template, claims),
    }?;
    (identity.trust_domain() == trust_domain && !identity.is_reserved()).then_some(identity)
}

/// The pod that a Kubernetes token is bound to, so that the pods of one service account stay apart.
pub(super) fn pod(rule: &IdentityRule, claims: &Map<String, Value>) -> Option<BoundPod> {
    let kubernetes =
        claims.get("kubernetes.io").filter(|_| matches!(rule, IdentityRule::Kubernetes))?;
    let of = |object: &str, key: &str| kubernetes.get(object)?.get(key)?.as_str();
    BoundPod::new(of("pod", "uid"), of("pod", "name"), of("node", "name"))
}

/// A claim that is a text, not empty.
pub(super) fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c str> {
    claims.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// The identity of a service account, by the four parts of its user name.
pub(super) fn kubernetes(subject: &str, trust_domain: &TrustDomain) -> Option<SpiffeId> {
    let parts: Vec<&str> = subject.split(':').collect();
    let ["system", "serviceaccount", namespace, account] = parts.as_slice() else { return None };
    SpiffeId::kubernetes(trust_domain, namespace, account).ok()
}

fn from_template(template: &str, claims: &Map<String, Value>) -> Option<SpiffeId> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (claim, after) = after.split_once('}')?;
        let value = text(claims, claim)?;
        // One claim is one segment: a slash in it would choose the path.
        if value.contains('/') {
            return None;
        }
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    SpiffeId::parse(&out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rule: &IdentityRule, claims: Value) -> Option<String> {
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        let domain = TrustDomain::parse("example.org").unwrap();
        identity(rule, &claims, &domain).map(|id| id.as_str().to_owned())
    }

    #[test]
    fn kubernetes_subjects_have_exactly_four_parts() {
        let sub = |sub: &str| of(&IdentityRule::Kubernetes, serde_json::json!({ "sub": sub }));
        let good = sub("system:serviceaccount:shop:cart");
        assert_eq!(good.as_deref(), Some("spiffe://example.org/ns/shop/sa/cart"));
        for bad in [
            "",
            "cart",
            "system:serviceaccount:shop",
            "system:serviceaccount:shop:cart:x",
            "system:serviceaccount::cart",
            "system:serviceaccount:shop:",
            "System:serviceaccount:shop:cart",
            "system:serviceaccount:sh/op:cart",
            "system:serviceaccount:..:cart",
            "system:serviceaccount:shop:c\0art",
            " system:serviceaccount:shop:cart",
            "system:serviceaccount:shop:cart ",
            "system:node:shop:cart",
        ] {
            assert_eq!(sub(bad), None, "{bad:?}");
        }
        for other in [
            serde_json::json!({}),
            serde_json::json!({"sub": 1}),
            serde_json::json!({"sub": ["a"]}),
        ] {
            assert_eq!(of(&IdentityRule::Kubernetes, other), None);
        }
    }

    #[test]
    fn a_claim_fills_one_segment_and_never_chooses_the_path() {
        let rule = IdentityRule::Template("spiffe://example.org/{team}/user/{sub}".to_owned());
        let made = |team: &str, sub: &str| of(&rule, serde_json::json!({"team": team, "sub": sub}));
        assert_eq!(made("red", "ann").as_deref(), Some("spiffe://example.org/red/user/ann"));
        for (team, sub) in [
            ("banyan", "ann"),
            ("red", "a/b"),
            ("..", "ann"),
            ("red", "{team}"),
            ("red", "ann?x"),
            ("red", "a%2fb"),
            ("", "ann"),
        ] {
            assert_eq!(made(team, sub), None, "{team} {sub}");
        }
    }
}
