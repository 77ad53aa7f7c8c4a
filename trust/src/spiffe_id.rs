//! SPIFFE ids and trust domains, refused when malformed and never normalised (SPIFFE-ID §2).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

const SCHEME: &str = "spiffe://";

/// Longest SPIFFE id in bytes (SPIFFE-ID §2.3).
pub const SPIFFE_ID_LEN_MAX: usize = 2048;
/// Longest trust domain name in bytes (SPIFFE-ID §2.3).
pub const TRUST_DOMAIN_LEN_MAX: usize = 255;
/// Path below which ids belong to Banyan itself: the CA's replicas and agents, never a workload.
const RESERVED: &str = "/banyan";
const AGENT: &str = "/banyan/agent/";
const CA: &str = "/banyan/ca/";

/// Name of a trust domain, such as `example.org`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

/// A SPIFFE id, such as `spiffe://example.org/ns/shop/sa/cart`; with or without a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    trust_domain: TrustDomain,
}

/// Why a text is not a SPIFFE id or trust domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpiffeIdError {
    /// It does not start with `spiffe://` in lower case.
    #[error("a SPIFFE id starts with spiffe://")]
    Scheme,
    /// The trust domain is empty.
    #[error("the trust domain is empty")]
    TrustDomainEmpty,
    /// The trust domain is longer than 255 bytes.
    #[error("the trust domain is longer than 255 bytes")]
    TrustDomainTooLong,
    /// The trust domain has a character outside `[a-z0-9._-]`; also a port, user or upper case.
    #[error("a trust domain has only a-z, 0-9, dot, underscore and hyphen")]
    TrustDomainCharacter,
    /// A path segment is empty, or the path ends with a slash.
    #[error("a path segment is empty, or the path ends with a slash")]
    SegmentEmpty,
    /// A path segment is `.` or `..`.
    #[error("a path segment is . or ..")]
    SegmentRelative,
    /// The path has a character outside `[a-zA-Z0-9._-]`; also a query, fragment or percent sign.
    #[error("a path segment has only letters, digits, dot, underscore and hyphen")]
    SegmentCharacter,
    /// The whole id is longer than 2048 bytes.
    #[error("the SPIFFE id is longer than 2048 bytes")]
    TooLong,
}

impl TrustDomain {
    /// Parses a bare name.
    ///
    /// # Errors
    /// [`SpiffeIdError`] unless it has 1 to 255 bytes of `[a-z0-9._-]`.
    pub fn parse(name: &str) -> Result<Self, SpiffeIdError> {
        check_trust_domain(name)?;
        Ok(Self(name.into()))
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE id of the trust domain itself, without a path.
    pub fn id(&self) -> SpiffeId {
        SpiffeId { text: format!("{SCHEME}{}", self.0).into(), trust_domain: self.clone() }
    }
}

impl SpiffeId {
    /// Parses a whole id.
    ///
    /// # Errors
    /// [`SpiffeIdError`] for anything outside SPIFFE-ID §2: nothing is trimmed, decoded or lower-cased.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > SPIFFE_ID_LEN_MAX {
            return Err(SpiffeIdError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let trust_domain = TrustDomain::parse(domain)?;
        check_path(path)?;
        Ok(Self { text: text.into(), trust_domain })
    }

    /// The id of `path` (empty, or `/segment/...`) in a trust domain.
    ///
    /// # Errors
    /// [`SpiffeIdError`] if the path is malformed or the id grows past 2048 bytes.
    pub fn for_path(trust_domain: &TrustDomain, path: &str) -> Result<Self, SpiffeIdError> {
        if !path.is_empty() && !path.starts_with('/') {
            return Err(SpiffeIdError::SegmentEmpty);
        }
        check_path(path)?;
        let text = format!("{SCHEME}{trust_domain}{path}");
        if text.len() > SPIFFE_ID_LEN_MAX {
            return Err(SpiffeIdError::TooLong);
        }
        Ok(Self { text: text.into(), trust_domain: trust_domain.clone() })
    }

    /// The id that Istio gives to a Kubernetes service account: `/ns/<namespace>/sa/<service account>`.
    ///
    /// # Errors
    /// [`SpiffeIdError`] if a part is not one path segment.
    pub fn kubernetes(
        domain: &TrustDomain,
        namespace: &str,
        account: &str,
    ) -> Result<Self, SpiffeIdError> {
        if namespace.contains('/') || account.contains('/') {
            return Err(SpiffeIdError::SegmentCharacter);
        }
        Self::for_path(domain, &format!("/ns/{namespace}/sa/{account}"))
    }

    /// The reserved id of an agent: `/banyan/agent/<name>`; the name may have several segments.
    ///
    /// # Errors
    /// [`SpiffeIdError`] if the name is not one or more path segments.
    pub fn agent(domain: &TrustDomain, name: &str) -> Result<Self, SpiffeIdError> {
        Self::for_path(domain, &format!("{AGENT}{name}"))
    }

    /// The reserved id of a CA replica: `/banyan/ca/<replica>`.
    ///
    /// # Errors
    /// [`SpiffeIdError`] if the replica's name is not one or more path segments.
    pub fn ca(domain: &TrustDomain, replica: &str) -> Result<Self, SpiffeIdError> {
        Self::for_path(domain, &format!("{CA}{replica}"))
    }

    /// The trust domain.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading slash; empty for the trust domain's own id.
    pub fn path(&self) -> &str {
        self.text.get(SCHEME.len() + self.trust_domain.0.len()..).unwrap_or_default()
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the path is, or lies below, `/banyan`: such ids belong to the CA and its agents.
    pub fn is_reserved(&self) -> bool {
        self.path()
            .strip_prefix(RESERVED)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The agent's name, if this is an agent's id.
    pub fn agent_name(&self) -> Option<&str> {
        self.path().strip_prefix(AGENT)
    }

    /// Whether this is the id of a CA replica.
    pub fn is_ca(&self) -> bool {
        self.path().starts_with(CA)
    }

    /// The name of the server, if it is that of one.
    pub fn ca_name(&self) -> Option<&str> {
        self.path().strip_prefix(CA)
    }
}

fn check_trust_domain(name: &str) -> Result<(), SpiffeIdError> {
    if name.is_empty() {
        return Err(SpiffeIdError::TrustDomainEmpty);
    }
    if name.len() > TRUST_DOMAIN_LEN_MAX {
        return Err(SpiffeIdError::TrustDomainTooLong);
    }
    if !name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-')) {
        return Err(SpiffeIdError::TrustDomainCharacter);
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), SpiffeIdError> {
    for segment in path.split('/').skip(1) {
        if segment.is_empty() {
            return Err(SpiffeIdError::SegmentEmpty);
        }
        if segment == "." || segment == ".." {
            return Err(SpiffeIdError::SegmentRelative);
        }
        if !segment
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        {
            return Err(SpiffeIdError::SegmentCharacter);
        }
    }
    Ok(())
}

macro_rules! text_form {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = SpiffeIdError;

            fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
                Self::parse(text)
            }
        }
    };
}

text_form!(SpiffeId);
text_form!(TrustDomain);

impl Borrow<str> for TrustDomain {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn well_formed_ids_are_taken_apart() {
        let id = SpiffeId::parse("spiffe://example.org/ns/shop/sa/cart").unwrap();
        assert_eq!((id.trust_domain().as_str(), id.path()), ("example.org", "/ns/shop/sa/cart"));
        let td = TrustDomain::parse("example.org").unwrap();
        assert_eq!(SpiffeId::kubernetes(&td, "shop", "cart"), Ok(id));
        assert_eq!((td.id().as_str(), td.id().path()), ("spiffe://example.org", ""));
    }

    #[test]
    fn each_rule_of_the_spiffe_id_specification_refuses() {
        use SpiffeIdError::*;
        let long_domain = format!("spiffe://{}", "a".repeat(256));
        let long_id = format!("spiffe://a/{}", "b".repeat(2048));
        for (text, error) in [
            ("", Scheme),
            ("SPIFFE://a/b", Scheme),
            ("http://a/b", Scheme),
            ("spiffe:/a/b", Scheme),
            ("spiffe://", TrustDomainEmpty),
            ("spiffe:///a", TrustDomainEmpty),
            ("spiffe://A/b", TrustDomainCharacter),
            ("spiffe://a:80/b", TrustDomainCharacter),
            ("spiffe://u@a/b", TrustDomainCharacter),
            ("spiffe://a%2f/b", TrustDomainCharacter),
            ("spiffe://a?q", TrustDomainCharacter),
            ("spiffe://ä/b", TrustDomainCharacter),
            ("spiffe://a/", SegmentEmpty),
            ("spiffe://a//b", SegmentEmpty),
            ("spiffe://a/b/", SegmentEmpty),
            ("spiffe://a/./b", SegmentRelative),
            ("spiffe://a/..", SegmentRelative),
            ("spiffe://a/b?q=1", SegmentCharacter),
            ("spiffe://a/b#f", SegmentCharacter),
            ("spiffe://a/b%20c", SegmentCharacter),
            ("spiffe://a/b\0", SegmentCharacter),
            ("spiffe://a/b c", SegmentCharacter),
            (&long_domain, TrustDomainTooLong),
            (&long_id, TooLong),
        ] {
            assert_eq!(SpiffeId::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_longest_allowed_id_has_2048_bytes() {
        let at = |len: usize| format!("spiffe://a/{}", "b".repeat(len - "spiffe://a/".len()));
        assert!(SpiffeId::parse(&at(2048)).is_ok());
        assert_eq!(SpiffeId::parse(&at(2049)), Err(SpiffeIdError::TooLong));
    }

    #[test]
    fn reserved_ids_are_known_and_lookalikes_are_not() {
        let td = TrustDomain::parse("a").unwrap();
        let agent = SpiffeId::agent(&td, "node/1").unwrap();
        assert_eq!(
            (agent.is_reserved(), agent.agent_name(), agent.is_ca()),
            (true, Some("node/1"), false)
        );
        let ca = SpiffeId::ca(&td, "ca-1").unwrap();
        assert_eq!((ca.is_ca(), ca.ca_name(), agent.ca_name()), (true, Some("ca-1"), None));
        assert!(SpiffeId::parse("spiffe://a/banyan").unwrap().is_reserved());
        assert!(!SpiffeId::parse("spiffe://a/banyans/x").unwrap().is_reserved());
        assert!(SpiffeId::agent(&td, "").is_err() && SpiffeId::agent(&td, "../ca/x").is_err());
    }

    proptest! {
        #[test]
        fn what_parses_is_kept_to_the_letter(text in "spiffe://[a-z0-9._-]{1,20}(/[a-zA-Z0-9._-]{1,9}){0,5}") {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(id.as_str(), &text);
                prop_assert_eq!(SpiffeId::for_path(id.trust_domain(), id.path()), Ok(id.clone()));
            } else {
                prop_assert!(text.split('/').any(|segment| segment == "." || segment == ".."));
            }
        }

        #[test]
        fn any_text_is_taken_or_refused_without_panic(text in any::<String>()) {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(id.as_str(), text);
            }
        }
    }
}
